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


def colours(n):
    """[n, 3, 32, 32] in [-1, 1]: noisy discs on a noisy ground, another tint in each channel (drawn channels last)."""
    inside = discs(n, 32)[..., None]
    tint = np.array([0.5, 0.0, -0.5], np.float32)
    x = np.where(inside, tint, -tint) + np.float32(0.4) * (uniform(TEST, 2, n, 32, 32, 3) - np.float32(0.5))
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous().to(torch.get_default_dtype())


# ---- the models, under the names of docs/models.md -----------------------------------------------------------------
class MaskedConv2d(nn.Conv2d):
    def __init__(self, kind, cin, cout, k):
        super().__init__(cin, cout, k, padding=k // 2)
        mask = torch.zeros(k, k)
        mask[: k // 2] = 1
        mask[k // 2, : k // 2 + (kind == "B")] = 1
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class Block(nn.Module):
    def __init__(self, h):
        super().__init__()
        self.c1, self.c2, self.c3 = (MaskedConv2d("B", *s) for s in ((2 * h, h, 1), (h, h, 3), (h, 2 * h, 1)))

    def forward(self, x):
        return x + self.c3(F.relu(self.c2(F.relu(self.c1(F.relu(x))))))


class PixelCNN(nn.Module):
    def __init__(self, h=32, blocks=7, head=64):
        super().__init__()
        self.first = MaskedConv2d("A", 1, 2 * h, 7)
        self.blocks = nn.ModuleList(Block(h) for _ in range(blocks))
        self.h1, self.h2 = MaskedConv2d("B", 2 * h, head, 1), MaskedConv2d("B", head, 1, 1)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.h2(F.relu(self.h1(F.relu(x))))


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
        self.n2, self.n3 = nn.BatchNorm2d(128), nn.BatchNorm2d(256)

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
def pixelcnn(weights, steps):
    net, x = load(PixelCNN(), weights), binary(64)
    adam, nll = torch.optim.Adam(net.parameters(), 1e-3), []
    for _ in range(steps):
        adam.zero_grad()
        loss = F.binary_cross_entropy_with_logits(net(x), x)
        loss.backward()
        adam.step()
        nll.append(784 * loss.item())
    return {"nll": nll}


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
            print(f"{preset:16} {name:16} {values[0]:10.4f} -> {values[-1]:10.4f}   worst {worst:.1e} of {allowed:.0e}")
    if args.write:
        with open(os.path.join(HERE, "parity.json"), "w") as f:
            json.dump(golden, f, indent=1)
            f.write("\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
