#!/usr/bin/env python3
"""Training in pixtape and in PyTorch, step by step, from the same weights on the same batch.

    python3 tests/reference/parity.py            compares; exit code 1 where a loss differs by more than is allowed
    python3 tests/reference/parity.py --write    also writes PyTorch's losses to parity.json, which tests/parity.rs replays

pixtape (through `cargo test --test parity -- --ignored`) writes its initial weights in PyTorch's layout and its losses into
a folder; this script loads the weights into the same models written in PyTorch, draws the same batch and the same noise
from the same Threefry stream, and trains them. The GAN is trained in 64-bit floats here: it doubles rounding errors at
every step, and PyTorch's own 32-bit losses are further from these than ours. Needs torch and numpy.
"""
import argparse, json, os, subprocess, sys
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 1
LATENT, PRIOR, TEST = 3, 4, 8  # streams of src/rng.rs


# ---- the random stream (src/rng.rs) ---------------------------------------------------------------------------------
def threefry2x32(key, counter):
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011) on arrays of uint32."""
    with np.errstate(over="ignore"):
        k = [np.uint32(key[0]), np.uint32(key[1])]
        k.append(np.uint32(0x1BD11BDA) ^ k[0] ^ k[1])
        x0, x1 = np.uint32(counter[0]) + k[0], counter[1].astype(np.uint32) + k[1]
        for group in range(5):
            for r in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
                x0 = x0 + x1
                x1 = ((x1 << np.uint32(r)) | (x1 >> np.uint32(32 - r))) ^ x0
            x0 = x0 + k[(group + 1) % 3]
            x1 = x1 + k[(group + 2) % 3] + np.uint32(group + 1)
    return x0, x1


def words(stream, counter, n):
    return threefry2x32((SEED, stream), (counter, np.arange(n)))


def uniform(stream, counter, *shape):
    w, _ = words(stream, counter, int(np.prod(shape)))
    return ((w >> np.uint32(8)) * np.float32(2.0**-24)).astype(np.float32).reshape(shape)


def normal(stream, counter, *shape):
    """Box-Muller on (1 - u1, u2), the cosine branch."""
    u1, u2 = ((w >> np.uint32(8)) * 2.0**-24 for w in words(stream, counter, int(np.prod(shape))))
    return torch.from_numpy((np.sqrt(-2 * np.log(1 - u1)) * np.cos(2 * np.pi * u2)).reshape(shape)).to(torch.get_default_dtype())


# ---- the batch (tests/parity.rs draws the same) ---------------------------------------------------------------------
def discs(n, side):
    """[n, side, side] of booleans: one disc an image, at a drawn place and of a drawn size."""
    w = words(TEST, 1, 3 * n)[0].reshape(n, 3).astype(np.int64)
    top, left, radius = side // 4 + w[:, 0] % (side // 2), side // 4 + w[:, 1] % (side // 2), 3 + w[:, 2] % 6
    r, c = np.arange(side)[None, :, None], np.arange(side)[None, None, :]
    return (r - top[:, None, None]) ** 2 + (c - left[:, None, None]) ** 2 <= radius[:, None, None] ** 2


def binary(n):
    """[n, 1, 28, 28]: discs, one pixel in twenty flipped."""
    x = discs(n, 28) ^ (uniform(TEST, 2, n, 28, 28) < np.float32(0.05))
    return torch.from_numpy(x)[:, None].to(torch.get_default_dtype())


def levels(n):
    """[n, 3, 32, 32] of levels 0 to 255: noisy discs on a noisy ground, another tint in each channel (drawn channels last)."""
    noise = words(TEST, 2, n * 32 * 32 * 3)[0].reshape(n, 32, 32, 3) % 32
    x = np.where(discs(n, 32)[..., None], 160, 40) + 30 * np.arange(3) + noise
    return torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2).contiguous()


def colours(n):
    """[n, 3, 32, 32] in [-1, 1]: noisy discs on a noisy ground, another tint in each channel (drawn channels last)."""
    inside = discs(n, 32)[..., None]
    tint = np.array([0.5, 0.0, -0.5], np.float32)
    x = np.where(inside, tint, -tint) + np.float32(0.4) * (uniform(TEST, 2, n, 32, 32, 3) - np.float32(0.5))
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous().to(torch.get_default_dtype())


# ---- the models, under the names of docs/models.md -----------------------------------------------------------------
def open_taps(kind, shape, groups=1, blocks=1):
    """Taps behind the centre are closed; at the centre, channels of a group feed those of later groups, with B also their own. The
    output channels are `blocks` equal parts, each divided into groups on its own."""
    cout, cin, kh, kw = shape
    mask = torch.zeros(shape)
    mask[:, :, : kh // 2] = 1
    mask[:, :, kh // 2, : kw // 2] = 1
    part = cout // blocks
    of_in, of_out = torch.arange(cin) * groups // cin, torch.arange(cout) % part * groups // part
    opens = torch.lt if kind == "A" else torch.le
    mask[:, :, kh // 2, kw // 2] = opens(of_in[None, :], of_out[:, None]).to(mask.dtype)
    return mask


class MaskedConv2d(nn.Conv2d):
    def __init__(self, kind, cin, cout, k, groups=1, blocks=1):
        kh, kw = k if isinstance(k, tuple) else (k, k)
        super().__init__(cin, cout, (kh, kw), padding=(kh // 2, kw // 2))
        self.register_buffer("mask", open_taps(kind, self.weight.shape, groups, blocks), persistent=False)

    def forward(self, x):
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class Block(nn.Module):
    def __init__(self, h, colours):
        super().__init__()
        self.c1, self.c2, self.c3 = (
            MaskedConv2d("B", *s, colours) for s in ((2 * h, h, 1), (h, h, 3), (h, 2 * h, 1)))

    def forward(self, x):
        return x + self.c3(F.relu(self.c2(F.relu(self.c1(F.relu(x))))))


class RowLstm(nn.Module):
    def __init__(self, h):
        super().__init__()
        self.w_is, self.b = nn.Parameter(torch.zeros(4 * h, 2 * h, 1, 3)), nn.Parameter(torch.zeros(4 * h))
        self.w_ss = nn.Parameter(torch.zeros(4 * h, h, 1, 3))
        self.up = MaskedConv2d("B", h, 2 * h, 1)

    def forward(self, x):
        w_is = self.w_is * open_taps("B", self.w_is.shape, blocks=4)
        z, rows = F.conv2d(x, w_is, self.b, padding=(0, 1)), []
        c = state = z.new_zeros(z.shape[0], z.shape[1] // 4, z.shape[3])
        for r in range(z.shape[2]):
            state, c = cell(z[:, :, r] + F.conv1d(state, self.w_ss[:, :, 0], padding=1), c)
            rows.append(state)
        return x + self.up(torch.stack(rows, 2))


class DiagonalBiLstm(nn.Module):
    def __init__(self, h):
        super().__init__()
        for side in "lr":
            for name, shape in (("w_is", (4 * h, 2 * h, 1, 1)), ("w_ss", (4 * h, h, 2, 1)), ("b", (4 * h,))):
                self.register_parameter(f"{side}_{name}", nn.Parameter(torch.zeros(shape)))
        self.up = MaskedConv2d("B", h, 2 * h, 1)

    @staticmethod
    def scan(z, w_ss):
        """Pixel by pixel: the state above and the one to the left, the cell to the left."""
        n, gates, height, width = z.shape
        zero = z.new_zeros(n, gates // 4)
        above, rows = [zero] * width, []
        for r in range(height):
            state, c, row = zero, zero, []
            for column in range(width):
                a = z[:, :, r, column] + above[column] @ w_ss[:, :, 0, 0].T + state @ w_ss[:, :, 1, 0].T
                state, c = cell(a, c)
                row.append(state)
            above = row
            rows.append(torch.stack(row, 2))
        return torch.stack(rows, 2)

    def forward(self, x):
        # One colour: a 1x1 kernel with mask B has nothing to close.
        left = self.scan(F.conv2d(x, self.l_w_is, self.l_b), self.l_w_ss)
        right = self.scan(F.conv2d(x, self.r_w_is, self.r_b).flip(3), self.r_w_ss).flip(3)
        return x + self.up(left + down(right))


def cell(gates, c):
    i, f, g, o = gates.chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def down(x):
    """Moved down by a row; zeros come in at the top."""
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


class Stack(nn.Module):
    """`first`, layers, head: PixelCNN and PixelRNN. Sizes are read off the weights."""

    def __init__(self, weights, layers, layer, colours=1):
        super().__init__()
        width, head, out = (weights[f"{name}.weight"].shape[0] for name in ("first", "h1", "h2"))
        self.first = MaskedConv2d("A", colours, width, 7, colours)
        self.layers_name = layers
        count = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith(layers))
        self.add_module(layers, nn.ModuleList(layer(width // 2) for _ in range(count)))
        self.h1, self.h2 = MaskedConv2d("B", width, head, 1, colours), MaskedConv2d("B", head, out, 1, colours)

    def forward(self, x):
        x = self.first(x)
        for layer in getattr(self, self.layers_name):
            x = layer(x)
        return self.h2(F.relu(self.h1(F.relu(x))))


def gate(x):
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedLayer(nn.Module):
    def __init__(self, p, k, first, classes):
        super().__init__()
        n = 1 if first else p
        self.first, self.r = first, k // 2
        self.v, self.v2h = nn.Conv2d(n, 2 * p, (self.r + 1, k)), nn.Conv2d(2 * p, 2 * p, 1)
        self.h = MaskedConv2d("A" if first else "B", n, 2 * p, (1, k), blocks=2)
        self.ho = MaskedConv2d("B", p, p, 1)
        self.class_v, self.class_h = nn.Embedding(classes, 2 * p), nn.Embedding(classes, 2 * p)

    def forward(self, v, h, label):
        v = self.v(F.pad(v, (self.r, self.r, self.r, 0))) + self.class_v(label)[:, :, None, None]
        out = self.ho(gate(self.h(h) + self.v2h(down(v)) + self.class_h(label)[:, :, None, None]))
        return gate(v), out if self.first else out + h


class GatedPixelCNN(nn.Module):
    def __init__(self, weights):
        super().__init__()
        head, p = weights["h1.weight"].shape[:2]
        classes = weights["layers.0.class_v.weight"].shape[0]
        count = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers"))
        kernel = lambda i: weights[f"layers.{i}.h.weight"].shape[-1]
        self.layers = nn.ModuleList(GatedLayer(p, kernel(i), i == 0, classes) for i in range(count))
        self.h1, self.h2 = MaskedConv2d("B", p, head, 1), MaskedConv2d("B", head, 1, 1)

    def forward(self, x, label):
        v = h = x
        for layer in self.layers:
            v, h = layer(v, h, label)
        return self.h2(F.relu(self.h1(F.relu(h))))


class MlpVae(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.mu, self.lv = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x, eps):
        h = F.relu(self.fc1(x.flatten(1)))
        mu, lv = self.mu(h), self.lv(h)
        return self.fc4(F.relu(self.fc3(mu + torch.exp(lv / 2) * eps))), mu, lv


class Generator(nn.Module):
    def __init__(self, widths=(100, 256, 128, 64, 3)):
        super().__init__()
        for i, (cin, cout) in enumerate(zip(widths, widths[1:])):
            self.add_module(f"t{i + 1}", nn.ConvTranspose2d(cin, cout, 4, *((1, 0) if i == 0 else (2, 1)), bias=False))
        for i in (1, 2, 3):
            self.add_module(f"n{i}", nn.BatchNorm2d(widths[i]))

    def forward(self, z):
        for i in (1, 2, 3):
            z = F.relu(getattr(self, f"n{i}")(getattr(self, f"t{i}")(z)))
        return torch.tanh(self.t4(z))


class Critic(nn.Module):
    def __init__(self, widths=(3, 64, 128, 256, 1)):
        super().__init__()
        for i, (cin, cout) in enumerate(zip(widths, widths[1:])):
            self.add_module(f"c{i + 1}", nn.Conv2d(cin, cout, 4, *((1, 0) if i == 3 else (2, 1)), bias=False))
        self.n2, self.n3 = nn.BatchNorm2d(widths[2]), nn.BatchNorm2d(widths[3])

    def forward(self, x):
        x = F.leaky_relu(self.c1(x), 0.2)
        x = F.leaky_relu(self.n2(self.c2(x)), 0.2)
        x = F.leaky_relu(self.n3(self.c3(x)), 0.2)
        return self.c4(x).flatten()


def read_safetensors(path):
    """All tensors of a file: a length, a JSON header, the data."""
    kinds = {"F32": torch.float32, "U8": torch.uint8, "I64": torch.int64}
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    tensors = {}
    for name, t in header.items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            tensors[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=kinds[t["dtype"]]).reshape(t["shape"])
    return tensors


def load(module, weights, prefix=""):
    own = {k[len(prefix):]: v for k, v in weights.items() if k.startswith(prefix)}
    missing, extra = module.load_state_dict(own, strict=False)
    missing = [k for k in missing if "running_" not in k and "num_batches" not in k]
    assert not missing and not extra, f"missing {missing}, extra {extra}"
    return module


# ---- training -------------------------------------------------------------------------------------------------------
def autoregressive(net, weights, x, loss_of, steps):
    """`loss_of` gives the mean over dimensions in nats."""
    net, losses = load(net, weights), []
    adam = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(steps):
        adam.zero_grad()
        loss = loss_of(net, x)
        loss.backward()
        adam.step()
        losses.append(x[0].numel() * loss.item())
    return {"nll": losses}


def of_bits(net, x):
    return F.binary_cross_entropy_with_logits(net(x), x)


def pixelcnn(weights, steps):
    return autoregressive(Stack(weights, "blocks", lambda h: Block(h, 1)), weights, binary(64), of_bits, steps)


def pixelcnn_in_colour(weights, steps):
    def loss(net, x):
        n, c, h, w = x.shape
        return F.cross_entropy(net(2 * x / 255 - 1).reshape(n * c, 256, h, w), x.reshape(n * c, h, w).long())

    net = Stack(weights, "blocks", lambda h: Block(h, 3), colours=3)
    return autoregressive(net, weights, levels(4), loss, steps)


def gated(weights, steps):
    label = torch.arange(8) % 10
    loss = lambda net, x: F.binary_cross_entropy_with_logits(net(x, label), x)
    return autoregressive(GatedPixelCNN(weights), weights, binary(8), loss, steps)


def pixelrnn(layer):
    return lambda weights, steps: autoregressive(Stack(weights, "layers", layer), weights, binary(8), of_bits, steps)


def vae(weights, steps):
    net, x = load(MlpVae(), weights), binary(128)
    adam, losses = torch.optim.Adam(net.parameters(), 1e-3), {"elbo": [], "reconstruction": [], "kl": []}
    for step in range(steps):
        adam.zero_grad()
        y, mu, lv = net(x, normal(LATENT, step, 128, 20))
        reconstruction = F.binary_cross_entropy_with_logits(y, x.flatten(1), reduction="sum") / 128
        kl = -0.5 * torch.sum(1 + lv - mu**2 - lv.exp()) / 128
        (reconstruction + kl).backward()
        adam.step()
        for name, value in (("elbo", -(reconstruction + kl)), ("reconstruction", reconstruction), ("kl", kl)):
            losses[name].append(value.item())
    return losses


def gan(weights, steps):
    g, d, real = load(Generator(), weights, "g."), load(Critic(), weights, "d."), colours(64)
    adam = lambda net: torch.optim.Adam(net.parameters(), 2e-4, betas=(0.5, 0.999))
    of_g, of_d, losses = adam(g), adam(d), {"critic_loss": [], "generator_loss": []}
    for step in range(steps):
        fake = g(normal(PRIOR, step, 64, 100, 1, 1))
        of_d.zero_grad()
        critic_loss = F.softplus(-d(real)).mean() + F.softplus(d(fake.detach())).mean()
        critic_loss.backward()
        of_d.step()
        of_g.zero_grad()
        generator_loss = F.softplus(-d(fake)).mean()
        generator_loss.backward()
        of_g.step()
        losses["critic_loss"].append(critic_loss.item())
        losses["generator_loss"].append(generator_loss.item())
    return losses


# Preset -> how it is trained here, in which floats, steps, largest relative difference of a loss.
RUNS = {
    "pixelcnn-mnist": (pixelcnn, torch.float32, 20, 1e-4),
    "pixelcnn-cifar": (pixelcnn_in_colour, torch.float32, 10, 1e-4),
    "gated-pixelcnn-mnist": (gated, torch.float32, 10, 1e-4),
    "row-lstm-mnist": (pixelrnn(RowLstm), torch.float32, 10, 1e-4),
    "diagonal-bilstm-mnist": (pixelrnn(DiagonalBiLstm), torch.float32, 4, 1e-4),
    "vae-mlp-mnist": (vae, torch.float32, 20, 1e-4),
    "dcgan-cifar": (gan, torch.float64, 4, 1e-3),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write PyTorch's losses to parity.json")
    args = parser.parse_args()
    root = os.path.dirname(os.path.dirname(HERE))
    folder = os.path.join(root, "target", "parity")
    cargo = ["cargo", "test", "--test", "parity", "--", "--ignored"]
    subprocess.run(cargo, check=True, cwd=root, env=dict(os.environ, PIXTAPE_PARITY=folder))
    golden, failed = {}, False
    for preset, (train, dtype, steps, allowed) in RUNS.items():
        torch.set_default_dtype(dtype)
        weights = {k: v.to(dtype) for k, v in read_safetensors(os.path.join(folder, f"{preset}.safetensors")).items()}
        with open(os.path.join(folder, f"{preset}.json")) as f:
            ours = json.load(f)
        theirs = train(weights, steps)
        golden[preset] = {"allowed": allowed, "losses": theirs}
        for name, values in theirs.items():
            worst = max(abs(a - b) / abs(b) for a, b in zip(ours[name], values))
            failed |= not worst <= allowed
            print(f"{preset:22} {name:16} {values[0]:10.4f} -> {values[-1]:10.4f}   worst {worst:.1e} of {allowed:.0e}")
    if args.write:
        with open(os.path.join(HERE, "parity.json"), "w") as f:
            json.dump(golden, f, indent=1)
            f.write("\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
