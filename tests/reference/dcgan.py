#!/usr/bin/env python3
"""DCGAN in PyTorch: the network, the initial distribution and the training of the preset `gan-mnist`, for a comparison of samples.

    python3 tests/reference/dcgan.py --data data/mnist --seed 0 --out samples.safetensors
    pixtape judge samples.safetensors --classifier runs/classifier-mnist --data mnist --binarize none

Random numbers are PyTorch's own, so only the distribution over seeds can be compared. Samples are drawn with running
statistics, as pixtape draws them. Needs torch and numpy.
"""
import argparse, json
import torch
import torch.nn.functional as F

from class_agreement import digits
from parity import Critic, Generator


def initialise(module):
    """Weights from N(0, 0.02), scales of batch norm from N(1, 0.02), shifts 0 (Radford et al. 2016, section 4)."""
    for name, value in module.named_parameters():
        if ".bias" in name:
            torch.nn.init.zeros_(value)
        else:
            torch.nn.init.normal_(value, 1.0 if name.startswith("n") else 0.0, 0.02)
    return module


def train(images, channels, latent, steps, batch=64, lr=2e-4):
    """The trained generator. `images` are [n, 1, 32, 32] in -1 to 1."""
    c = channels
    g = initialise(Generator((latent, 4 * c, 2 * c, c, 1)))
    d = initialise(Critic((1, c, 2 * c, 4 * c, 1)))
    of_g, of_d = (torch.optim.Adam(net.parameters(), lr, betas=(0.5, 0.999)) for net in (g, d))
    order = iter(())
    for _ in range(steps):
        rows = next(order, None)
        if rows is None or len(rows) < batch:
            order = iter(torch.randperm(len(images)).split(batch))
            rows = next(order)
        fake = g(torch.randn(batch, latent, 1, 1))
        of_d.zero_grad()
        (F.softplus(-d(images[rows])).mean() + F.softplus(d(fake.detach())).mean()).backward()
        of_d.step()
        of_g.zero_grad()
        F.softplus(-d(fake)).mean().backward()
        of_g.step()
    return g.eval()


def write_safetensors(path, name, values):
    """One tensor of bytes."""
    header = json.dumps({name: {"dtype": "U8", "shape": list(values.shape), "data_offsets": [0, values.size]}}).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as f:
        f.write(len(header).to_bytes(8, "little") + header + values.tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of the idx files of MNIST or Fashion-MNIST")
    parser.add_argument("--out", default="samples.safetensors")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--latent", type=int, default=100)
    parser.add_argument("--samples", type=int, default=2000)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    images, _ = digits(args.data, "train")
    # Padded with black, as the preset pads.
    images = F.pad(2 * images - 1, (2, 2, 2, 2), value=-1.0)
    g = train(images, args.channels, args.latent, args.steps)
    with torch.no_grad():
        drawn = torch.cat([g(torch.randn(n, args.latent, 1, 1)) for n in [100] * (args.samples // 100)])
    levels = ((drawn[:, :, 2:-2, 2:-2] + 1) / 2 * 255).round().clamp(0, 255).to(torch.uint8)
    write_safetensors(args.out, "images", levels.numpy())


if __name__ == "__main__":
    main()
