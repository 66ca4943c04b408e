#!/usr/bin/env python3
"""The likelihood of exported weights on static binarised MNIST, computed by PyTorch.

    pixtape export runs/pixelcnn-mnist-paper weights.safetensors
    python3 tests/reference/likelihood.py weights.safetensors --data data/binarized-mnist

The network is recognised by the names of its weights: PixelCNN, Row LSTM, Diagonal BiLSTM (exact), a variational
autoencoder (ELBO and IWAE-k with PyTorch's own random numbers). `--expect NATS` exits with 1 where the exact value,
or IWAE-k, differs by more than `--within`. Needs torch and numpy.
"""
import argparse, gzip, math, os, sys
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from parity import Block, DiagonalBiLstm, RowLstm, Stack, load, read_safetensors


class ConvVae(nn.Module):
    """`vae` on 28x28 pixels: two stages."""

    def __init__(self, w):
        super().__init__()
        c, hidden, latent = w["e1.weight"].shape[0], w["ef.weight"].shape[0], w["mu.weight"].shape[0]
        self.e1, self.e2 = nn.Conv2d(1, c, 4, 2, 1), nn.Conv2d(c, 2 * c, 4, 2, 1)
        self.ef, self.mu, self.lv = nn.Linear(2 * c * 49, hidden), nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.d1, self.d2 = nn.Linear(latent, hidden), nn.Linear(hidden, 2 * c * 49)
        self.t1, self.t2 = nn.ConvTranspose2d(2 * c, c, 4, 2, 1), nn.ConvTranspose2d(c, 1, 4, 2, 1)

    def encode(self, x):
        h = F.relu(self.ef(F.relu(self.e2(F.relu(self.e1(x)))).flatten(1)))
        return self.mu(h), self.lv(h)

    def decode(self, z):
        h = F.relu(self.d2(F.relu(self.d1(z)))).reshape(len(z), -1, 7, 7)
        return self.t2(F.relu(self.t1(h)))


class DenseVae(nn.Module):
    """`vae-mlp`: one hidden layer each way."""

    def __init__(self, w):
        super().__init__()
        (hidden, dims), latent = w["fc1.weight"].shape, w["mu.weight"].shape[0]
        self.fc1, self.mu, self.lv = nn.Linear(dims, hidden), nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.fc3, self.fc4 = nn.Linear(latent, hidden), nn.Linear(hidden, dims)

    def encode(self, x):
        h = F.relu(self.fc1(x.flatten(1)))
        return self.mu(h), self.lv(h)

    def decode(self, z):
        return self.fc4(F.relu(self.fc3(z))).reshape(-1, 1, 28, 28)


def network(w):
    """The module that the weights belong to, with these weights."""
    if "fc1.weight" in w:
        return load(DenseVae(w), w)
    if "e1.weight" in w:
        return load(ConvVae(w), w)
    kinds = {
        "blocks.0.c1.weight": ("blocks", lambda h: Block(h, 1)),
        "layers.0.l_w_is": ("layers", DiagonalBiLstm),
        "layers.0.w_is": ("layers", RowLstm),
    }
    for name, (layers, layer) in kinds.items():
        if name in w:
            return load(Stack(w, layers, layer), w)
    sys.exit("the weights are of no network that this script knows")


def images(folder, split):
    """The images of a split, [n, 1, 28, 28] of zeros and ones."""
    name = os.path.join(folder, f"binarized_mnist_{split}.amat")
    path, read = (name + ".gz", gzip.open) if os.path.exists(name + ".gz") else (name, open)
    with read(path, "rb") as f:
        text = np.frombuffer(f.read(), np.uint8)
    x = (text[(text == ord("0")) | (text == ord("1"))] - ord("0")).reshape(-1, 1, 28, 28)
    return torch.from_numpy(x.astype(np.float32))


def nll(net, x):
    """Minus the log-likelihood of each image, in nats."""
    return F.binary_cross_entropy_with_logits(net(x), x, reduction="none").sum((1, 2, 3))


def bounds(net, x, k):
    """Minus the ELBO and minus IWAE-k of each image (Burda et al. 2016, eq. 8), in nats."""
    mu, lv = net.encode(x)
    log_weights = []
    for _ in range(k):
        eps = torch.randn_like(mu)
        z = mu + torch.exp(lv / 2) * eps
        likelihood = -F.binary_cross_entropy_with_logits(net.decode(z), x, reduction="none").sum((1, 2, 3))
        # log p(z) - log q(z | x): the constants cancel.
        log_weights.append(likelihood + 0.5 * (eps**2 - z**2 + lv).sum(1))
    log_weights = torch.stack(log_weights).double()
    return -log_weights.mean(0), math.log(k) - torch.logsumexp(log_weights, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="what `pixtape export` wrote")
    parser.add_argument("--data", required=True, help="folder of binarized_mnist_test.amat, plain or compressed")
    parser.add_argument("--split", default="test", choices=["train", "valid", "test"])
    parser.add_argument("--images", type=int, help="only so many images, the first ones")
    parser.add_argument("--k", type=int, default=50, help="samples of the importance-weighted bound")
    parser.add_argument("--expect", type=float, help="the value that pixtape gave")
    parser.add_argument("--within", type=float, default=0.01, help="the largest difference from it, in nats")
    args = parser.parse_args()
    torch.manual_seed(0)
    net = network(read_safetensors(args.weights)).eval()
    x = images(args.data, args.split)[: args.images]
    with torch.no_grad():
        if hasattr(net, "encode"):
            both = [bounds(net, part, args.k) for part in x.split(100)]
            elbo, value = (torch.cat(part).mean().item() for part in zip(*both))
            print(f"ELBO <= {elbo:.4f} nats, IWAE-{args.k} <= {value:.4f} nats over {len(x)} images")
        else:
            value = torch.cat([nll(net, part).double() for part in x.split(100)]).mean().item()
            print(f"{value:.4f} nats over {len(x)} images, exact")
    if args.expect is not None and abs(value - args.expect) > args.within:
        sys.exit(f"that is not within {args.within} of {args.expect}")


if __name__ == "__main__":
    main()
