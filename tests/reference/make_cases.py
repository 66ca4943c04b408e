#!/usr/bin/env python3
"""Writes the reference cases that are built into the binary: `make_cases.py src/check/builtin.safetensors`.

Every input is drawn in float32, every output and gradient computed by PyTorch in float64 and rounded once. The same
script shows how to write a file for `pixtape check FILE` (the format is in docs/reference-cases.md).
"""

import json
import struct
import sys
import zlib

import torch
import torch.nn.functional as F

torch.set_num_threads(1)
CASES, TENSORS = [], []


def normal(*shape, scale=1.0):
    """A float32 draw, as float64."""
    return (torch.randn(shape) * scale).double()


def uniform(*shape, low=0.0, high=1.0):
    return (torch.rand(shape) * (high - low) + low).double()


def case(name, op, function, inputs, attrs=None, grads=(), outputs=("y",), tol=1e-5, grad_tol=1e-4):
    """Records one case: `function` takes the inputs in order; gradients are taken of those named in `grads`."""
    leaves = {k: v.clone().requires_grad_(k in grads) if v.is_floating_point() else v for k, v in inputs.items()}
    results = function(*leaves.values())
    results = results if isinstance(results, tuple) else (results,)
    assert len(results) == len(outputs), name
    CASES.append({"name": name, "op": op, "attrs": attrs or {}, "tol": tol, "grad_tol": grad_tol})
    for key, value in inputs.items():
        TENSORS.append((f"{name}/in/{key}", value))
    for key, value in zip(outputs, results):
        TENSORS.append((f"{name}/out/{key}", value.detach()))
    if grads:
        cotangents = [normal(*value.shape) for value in results]
        for key, value in zip(outputs, cotangents):
            TENSORS.append((f"{name}/cot/{key}", value))
        found = torch.autograd.grad(results, [leaves[k] for k in grads], cotangents)
        for key, value in zip(grads, found):
            TENSORS.append((f"{name}/grad/{key}", value))


def mask_of(weight, kind, groups, blocks):
    """1 where the weight is open (OIHW); see docs/reference-cases.md."""
    cout, cin, kh, kw = weight.shape
    mask = torch.zeros_like(weight)
    mask[:, :, : kh // 2] = 1
    mask[:, :, kh // 2, : kw // 2] = 1
    block = cout // blocks
    to = (torch.arange(cout) % block) * groups // block
    source = torch.arange(cin) * groups // cin
    seen = source[None] < to[:, None] if kind == "A" else source[None] <= to[:, None]
    mask[:, :, kh // 2, kw // 2] = seen.to(mask.dtype)
    return mask


def conv(name, x, weight, stride=1, padding=0, mask="none", groups_c=1, blocks=1, bias=True):
    def function(x, weight, bias=None):
        if mask != "none":
            weight = weight * mask_of(weight, mask, groups_c, blocks)
        return F.conv2d(x, weight, bias, stride, padding)

    inputs = {"x": normal(*x), "weight": normal(*weight)}
    if bias:
        inputs["bias"] = normal(weight[0])
    attrs = {"stride": stride, "padding": padding, "mask": mask, "groups_c": groups_c, "blocks": blocks}
    case(name, "conv2d", function, inputs, attrs, tuple(inputs))


def convolutions():
    conv("conv_1x1", (2, 5, 3, 4), (7, 5, 1, 1))
    conv("conv_3x3", (2, 3, 5, 6), (4, 3, 3, 3), padding=1)
    conv("conv_3x3_valid", (1, 3, 5, 5), (2, 3, 3, 3), bias=False)
    conv("conv_4x4_stride_2", (2, 3, 8, 8), (5, 3, 4, 4), stride=2, padding=1)
    conv("conv_5x5_stride_3", (1, 2, 13, 10), (3, 2, 5, 5), stride=3, padding=2)
    conv("conv_1x3", (2, 4, 3, 7), (6, 4, 1, 3), padding=[0, 1])
    conv("conv_one_pixel", (5, 3, 1, 1), (4, 3, 3, 3), padding=1)
    conv("conv_whole_window", (3, 4, 4, 4), (2, 4, 4, 4))
    conv("mask_a_7x7", (2, 1, 8, 9), (5, 1, 7, 7), padding=3, mask="A")
    conv("mask_b_3x3", (2, 6, 5, 5), (7, 6, 3, 3), padding=1, mask="B")
    conv("mask_a_rgb", (2, 3, 6, 6), (6, 3, 5, 5), padding=2, mask="A", groups_c=3)
    conv("mask_b_rgb", (2, 6, 5, 5), (12, 6, 3, 3), padding=1, mask="B", groups_c=3)
    conv("mask_b_rgb_gated", (2, 6, 4, 5), (12, 6, 3, 3), padding=1, mask="B", groups_c=3, blocks=2)
    conv("mask_a_rgb_gates", (1, 3, 4, 5), (24, 3, 3, 3), padding=1, mask="A", groups_c=3, blocks=4)
    conv("mask_b_uneven", (1, 7, 4, 4), (10, 7, 3, 3), padding=1, mask="B", groups_c=3)
    for name, x, weight, stride, padding, extra, bias in [
        ("convt_4x4_stride_2", (2, 5, 4, 4), (5, 3, 4, 4), 2, 1, 0, True),
        ("convt_from_one_pixel", (3, 6, 1, 1), (6, 4, 4, 4), 1, 0, 0, True),
        ("convt_output_padding", (1, 4, 5, 6), (4, 3, 3, 3), 2, 1, 1, True),
        ("convt_3x3", (2, 3, 5, 4), (3, 5, 3, 3), 1, 1, 0, False),
    ]:
        inputs = {"x": normal(*x), "weight": normal(*weight)}
        if bias:
            inputs["bias"] = normal(weight[1])

        def function(x, weight, bias=None):
            return F.conv_transpose2d(x, weight, bias, stride, padding, extra)

        attrs = {"stride": stride, "padding": padding, "output_padding": extra}
        case(name, "conv_transpose2d", function, inputs, attrs, tuple(inputs))


def products():
    for n, i, o, bias in [(5, 7, 3, True), (1, 33, 17, True), (3, 4, 6, False)]:
        inputs = {"x": normal(n, i), "weight": normal(o, i)}
        if bias:
            inputs["bias"] = normal(o)
        case(f"linear_{n}x{i}x{o}", "linear", F.linear, inputs, {}, tuple(inputs))
    for ta in (False, True):
        for tb in (False, True):
            a, b = (17, 9) if ta else (9, 17), (13, 17) if tb else (17, 13)

            def function(a, b):
                return (a.T if ta else a) @ (b.T if tb else b)

            name = f"matmul_{'nt'[ta]}{'nt'[tb]}"
            attrs = {"transpose_a": ta, "transpose_b": tb}
            case(name, "matmul", function, {"a": normal(*a), "b": normal(*b)}, attrs, ("a", "b"))


def lstm_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    i, f, g, o = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def recurrences():
    n, i, h, steps = 3, 4, 5, 6
    weights = {"w_ih": normal(4 * h, i, scale=0.5), "w_hh": normal(4 * h, h, scale=0.5), "b_ih": normal(4 * h), "b_hh": normal(4 * h)}
    inputs = {"x": normal(n, i), "h": normal(n, h), "c": normal(n, h), **weights}
    case("lstm_cell", "lstm_cell", lstm_step, inputs, {}, tuple(inputs), ("h_next", "c_next"))

    def scan(x, h0, c0, *weights):
        h, c, ys = h0, c0, []
        for x_t in x:
            h, c = lstm_step(x_t, h, c, *weights)
            ys.append(h)
        return torch.stack(ys), h, c

    inputs = {"x": normal(steps, n, i), "h0": normal(n, h), "c0": normal(n, h), **weights}
    case("lstm", "lstm", scan, inputs, {}, tuple(inputs), ("y", "h_n", "c_n"))


def norms():
    names = ("x", "weight", "bias")
    for name, shape in [("batch_norm", (5, 4, 3, 2)), ("batch_norm_rows", (9, 6))]:
        inputs = dict(zip(names, (normal(*shape) + 1, normal(shape[1]), normal(shape[1]))))

        def function(x, weight, bias):
            return F.batch_norm(x, None, None, weight, bias, training=True, eps=1e-5)

        case(name, "batch_norm", function, inputs, {"eps": 1e-5}, names, tol=2e-5, grad_tol=2e-4)
    inputs = dict(zip(names, (normal(5, 17) + 1, normal(17), normal(17))))

    def function(x, weight, bias):
        return F.layer_norm(x, (17,), weight, bias, 1e-5)

    case("layer_norm", "layer_norm", function, inputs, {"eps": 1e-5}, names, tol=2e-5, grad_tol=2e-4)
    for name, shape, groups in [("group_norm", (3, 6, 4, 5), 3), ("group_norm_rows", (5, 8), 2)]:
        inputs = dict(zip(names, (normal(*shape) + 1, normal(shape[1]), normal(shape[1]))))

        def function(x, weight, bias):
            return F.group_norm(x, groups, weight, bias, 1e-5)

        attrs = {"groups": groups, "eps": 1e-5}
        case(name, "group_norm", function, inputs, attrs, names, tol=2e-5, grad_tol=2e-4)


def pointwise():
    leaky = lambda x: F.leaky_relu(x, 0.2)
    case("leaky_relu", "unary", leaky, {"x": normal(2, 3, 4, 5)}, {"kind": "leaky_relu", "slope": 0.2}, ("x",))
    gated = lambda x: torch.tanh(x.chunk(2, 1)[0]) * torch.sigmoid(x.chunk(2, 1)[1])
    case("gated", "gated", gated, {"x": normal(2, 6, 3, 4)}, {}, ("x",))
    sample = lambda mu, logvar, eps: mu + (logvar / 2).exp() * eps
    inputs = {"mu": normal(5, 7), "logvar": normal(5, 7), "eps": normal(5, 7)}
    case("reparameterize", "reparameterize", sample, inputs, {}, ("mu", "logvar"), ("z",))
    functions = {
        "relu": F.relu, "elu": F.elu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "softplus": F.softplus, "silu": F.silu,
        "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "square": torch.square, "recip": torch.reciprocal,
        "gelu": lambda x: F.gelu(x, approximate="tanh"),
    }
    for kind, function in functions.items():
        x = uniform(3, 17, low=0.1, high=4.0) if kind in ("log", "sqrt", "recip") else normal(3, 17, scale=2.0)
        case(kind, "unary", function, {"x": x}, {"kind": kind}, ("x",))


def losses():
    kl = lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)
    case("gaussian_kl", "gaussian_kl", kl, {"mu": normal(5, 7), "logvar": normal(5, 7)}, {}, ("mu", "logvar"), ("kl",))
    for reduction in ("none", "sum", "mean"):
        attrs = {"reduction": reduction}
        bce = lambda logits, target: F.binary_cross_entropy_with_logits(logits, target, reduction=reduction)
        inputs = {"logits": normal(4, 9, scale=3.0), "target": uniform(4, 9)}
        case(f"bce_{reduction}", "bce_with_logits", bce, inputs, attrs, ("logits",))
        mse = lambda x, target: F.mse_loss(x, target, reduction=reduction)
        case(f"mse_{reduction}", "mse", mse, {"x": normal(4, 9), "target": normal(4, 9)}, attrs, ("x",))
        entropy = lambda logits, target: F.cross_entropy(logits, target, reduction=reduction)
        inputs = {"logits": normal(6, 17, scale=3.0), "target": torch.randint(17, (6,))}
        case(f"cross_entropy_{reduction}", "softmax_cross_entropy", entropy, inputs, attrs, ("logits",))
    saturated = {"logits": torch.tensor([[30.0, -30.0, 1e4, -1e4, 0.0]]).double(), "target": torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.5]]).double()}
    bce = lambda logits, target: F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    case("bce_saturated", "bce_with_logits", bce, saturated, {"reduction": "none"}, ("logits",))


def optimisers():
    for step, beta1, beta2 in [(1, 0.9, 0.999), (1000, 0.5, 0.999)]:
        attrs = {"lr": 0.001, "beta1": beta1, "beta2": beta2, "eps": 1e-8, "step": step}

        def adam(param, grad, m, v):
            m, v = beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad**2
            m_hat, v_hat = m / (1 - beta1**step), v / (1 - beta2**step)
            return param - 0.001 * m_hat / (v_hat.sqrt() + 1e-8), m, v

        inputs = {"param": normal(33), "grad": normal(33), "m": normal(33, scale=0.1), "v": uniform(33)}
        case(f"adam_{step}", "adam", adam, inputs, attrs, outputs=("param", "m", "v"))

    def rmsprop(param, grad, v):
        v = 0.99 * v + (1 - 0.99) * grad**2
        return param - 0.01 * grad / (v.sqrt() + 1e-8), v

    inputs = {"param": normal(33), "grad": normal(33), "v": uniform(33)}
    case("rmsprop", "rmsprop", rmsprop, inputs, {"lr": 0.01, "alpha": 0.99, "eps": 1e-8}, outputs=("param", "v"))

    def sgd(param, grad, buf):
        buf = 0.9 * buf + grad
        return param - 0.01 * buf, buf

    inputs = {"param": normal(33), "grad": normal(33), "buf": normal(33)}
    case("sgd", "sgd", sgd, inputs, {"lr": 0.01, "momentum": 0.9}, outputs=("param", "buf"))


def draws():
    for m, k in [(33, 2), (17, 65)]:

        def draw(logits, u):
            exceeds = torch.softmax(logits, 1).cumsum(1) > u[:, None]
            return torch.where(exceeds.any(1), exceeds.int().argmax(1), k - 1)

        inputs = {"logits": normal(m, k, scale=2.0), "u": uniform(m)}
        # A draw that the last bit decides proves nothing.
        edges = torch.softmax(inputs["logits"], 1).cumsum(1)
        assert (edges - inputs["u"][:, None]).abs().min() > 1e-5
        case(f"categorical_{k}", "categorical", draw, inputs, {}, outputs=("index",))


def penalty():
    def function(x_hat, conv1, conv2, fc):
        x = x_hat.detach().requires_grad_(True)
        hidden = F.leaky_relu(F.conv2d(x, conv1, stride=2, padding=1), 0.2)
        hidden = F.leaky_relu(F.conv2d(hidden, conv2, stride=2, padding=1), 0.2)
        score = F.linear(hidden.flatten(1), fc)
        (dx,) = torch.autograd.grad(score.sum(), x, create_graph=True)
        return ((dx.flatten(1).norm(dim=1) - 1) ** 2).mean()

    inputs = {"x_hat": normal(3, 2, 8, 8), "conv1": normal(3, 2, 4, 4, scale=0.3), "conv2": normal(5, 3, 4, 4, scale=0.3), "fc": normal(1, 20)}
    case("gradient_penalty", "gradient_penalty", function, inputs, {"slope": 0.2}, ("conv1", "conv2", "fc"), ("penalty",), 2e-5, 2e-4)


def scan_step(z, states, cell):
    """One row or anti-diagonal: gates of the input and of the states, through the cell."""
    i, f, g, o = (z + states).chunk(4, dim=1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def row_scan(z, w_ss):
    """z[N,4d,H,W]: each row reads the row above through w_ss[4d,d,1,k]."""
    n, d, width = len(z), w_ss.shape[1], z.shape[3]
    h = c = z.new_zeros(n, d, width)
    rows = []
    for r in range(z.shape[2]):
        h, c = scan_step(z[:, :, r], F.conv1d(h, w_ss[:, :, 0], padding=w_ss.shape[3] // 2), c)
        rows.append(h)
    return torch.stack(rows, 2)


def diagonal_scan(z, w_ss):
    """z[N,4d,H,W]: each pixel reads the one above through w_ss[:,:,0,0] and the one to its left through w_ss[:,:,1,0]."""
    n, d = len(z), w_ss.shape[1]
    zero = z.new_zeros(n, d)
    h, c = {}, {}
    for r in range(z.shape[2]):
        for q in range(z.shape[3]):
            states = h.get((r - 1, q), zero) @ w_ss[:, :, 0, 0].T + h.get((r, q - 1), zero) @ w_ss[:, :, 1, 0].T
            h[r, q], c[r, q] = scan_step(z[:, :, r, q], states, c.get((r, q - 1), zero))
    return torch.stack([torch.stack([h[r, q] for q in range(z.shape[3])], 2) for r in range(z.shape[2])], 2)


def scans():
    def gates(x, w_is, b, mask, groups):
        if mask != "none":
            w_is = w_is * mask_of(w_is, mask, groups, 4)
        return F.conv2d(x, w_is, b, padding=(0, w_is.shape[3] // 2))

    def weights(c, d, taps, window):
        scale = 1 / (taps[0] * taps[1] * d) ** 0.5
        w_ss = normal(4 * d, d, *taps, scale=scale)
        return {"w_is": normal(4 * d, c, 1, window, scale=0.5), "w_ss": w_ss, "b": normal(4 * d)}

    for name, (n, c, h, w), d, k, window, mask, groups in [
        ("row_lstm", (2, 4, 5, 7), 5, 3, 3, "B", 1),
        ("row_lstm_rgb", (1, 6, 4, 5), 6, 3, 3, "B", 3),
        ("row_lstm_first_rgb", (2, 3, 3, 4), 3, 1, 3, "A", 3),
        ("row_lstm_one_column", (2, 2, 6, 1), 3, 5, 1, "none", 1),
    ]:
        function = lambda x, w_is, w_ss, b: row_scan(gates(x, w_is, b, mask, groups), w_ss)
        inputs = {"x": normal(n, c, h, w), **weights(c, d, (1, k), window)}
        case(name, "row_lstm", function, inputs, {"mask": mask, "groups_c": groups}, tuple(inputs), grad_tol=2e-4)
    for name, (n, c, h, w), d, mask, groups in [
        ("diagonal_lstm", (2, 4, 5, 7), 5, "B", 1),
        ("diagonal_lstm_rgb", (1, 6, 6, 4), 6, "B", 3),
        ("diagonal_lstm_one_row", (3, 2, 1, 9), 3, "none", 1),
    ]:
        function = lambda x, w_is, w_ss, b: diagonal_scan(gates(x, w_is, b, mask, groups), w_ss)
        inputs = {"x": normal(n, c, h, w), **weights(c, d, (2, 1), 1)}
        case(name, "diagonal_lstm", function, inputs, {"mask": mask, "groups_c": groups}, tuple(inputs), grad_tol=2e-4)
    for name, (n, c, h, w), d, mask, groups in [
        ("diagonal_bilstm", (2, 4, 5, 6), 3, "B", 1),
        ("diagonal_bilstm_rgb", (1, 6, 4, 4), 6, "B", 3),
        ("diagonal_bilstm_one_column", (2, 3, 7, 1), 4, "B", 1),
    ]:

        def function(x, *weights):
            (l_is, l_ss, l_b), (r_is, r_ss, r_b) = weights[:3], weights[3:]
            right = diagonal_scan(gates(x.flip(3), r_is, r_b, mask, groups), r_ss).flip(3)
            left = diagonal_scan(gates(x, l_is, l_b, mask, groups), l_ss)
            return left + F.pad(right, (0, 0, 1, 0))[:, :, :-1]

        sides = {f"{side}_{k}": v for side in "lr" for k, v in weights(c, d, (2, 1), 1).items()}
        inputs = {"x": normal(n, c, h, w), **sides}
        case(name, "diagonal_bilstm", function, inputs, {"mask": mask, "groups_c": groups}, tuple(inputs), grad_tol=2e-4)


def write(path):
    header = {"__metadata__": {"format": "pixtape-cases", "version": "1", "cases": json.dumps(CASES, separators=(",", ":"))}}
    data = b""
    # Wider elements first, so that each tensor is aligned.
    for name, tensor in sorted(TENSORS, key=lambda t: (t[1].is_floating_point(), t[0])):
        dtype, kind = ("F32", torch.float32) if tensor.is_floating_point() else ("I64", torch.int64)
        raw = tensor.to(kind).contiguous().numpy().tobytes()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + data)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for group in (convolutions, products, recurrences, norms, pointwise, losses, optimisers, draws, penalty, scans):
        # Each group draws its own numbers: a case that is added at the end of a group leaves all others as they are.
        torch.manual_seed(zlib.crc32(group.__name__.encode()))
        group()
    write(sys.argv[1])
    print(f"{len(CASES)} cases, {len(TENSORS)} tensors")
