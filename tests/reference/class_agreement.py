#!/usr/bin/env python3
"""Does a class-conditional model draw the class that it was asked for? A classifier written in PyTorch decides.

    pixtape sample runs/gated-pixelcnn-mnist -n 500 --out samples.safetensors      (every class in turn)
    python3 tests/reference/class_agreement.py samples.safetensors --data data/mnist

It trains a small convolutional network on MNIST, binarised by chance, so that edges may be noisy or clean, says what it makes of
the test images, and then of the samples. Exit code 1 where it agrees with fewer than `--at-least` of them. Needs torch and numpy.
"""
import argparse, gzip, os, sys
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from parity import read_safetensors


def idx(folder, name):
    """The bytes of an IDX file, plain or compressed, behind its header."""
    for suffix, read in (("", open), (".gz", gzip.open)):
        path = os.path.join(folder, name + suffix)
        if os.path.exists(path):
            with read(path, "rb") as f:
                data = f.read()
            return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    sys.exit(f"there is no {name} in {folder}")


def digits(folder, part):
    """Images [n, 1, 28, 28] in 0 to 1, labels [n]."""
    images = idx(folder, f"{part}-images-idx3-ubyte").reshape(-1, 1, 28, 28).astype(np.float32) / 255
    return torch.from_numpy(images), torch.from_numpy(idx(folder, f"{part}-labels-idx1-ubyte").astype(np.int64))


def train(images, labels, epochs, batch=128):
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10),
    )
    steps = epochs * (len(images) // batch)
    adam = torch.optim.Adam(net.parameters(), 2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for at in range(0, len(images) - batch + 1, batch):
            chosen = order[at : at + batch]
            adam.zero_grad()
            F.cross_entropy(net(torch.bernoulli(images[chosen])), labels[chosen]).backward()
            adam.step()
            decay.step()
    return net.eval()


def agree(net, images, labels):
    with torch.no_grad():
        return torch.cat([net(part).argmax(1) for part in images.split(500)]) == labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples")
    parser.add_argument("--data", required=True, help="folder of MNIST's four files")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--at-least", type=float, default=0.9)
    args = parser.parse_args()
    torch.manual_seed(0)
    net = train(*digits(args.data, "train"), args.epochs)
    images, labels = digits(args.data, "t10k")
    print(f"test images: {100 * agree(net, torch.bernoulli(images), labels).double().mean():.2f} % right")
    samples = read_safetensors(args.samples)
    right = agree(net, samples["images"].float() / 255, samples["label"])
    for k in samples["label"].unique().tolist():
        of_class = right[samples["label"] == k]
        print(f"class {k}: {int(of_class.sum())} of {len(of_class)}")
    share = right.double().mean().item()
    print(f"the classifier agrees with {int(right.sum())} of {len(right)} samples ({100 * share:.1f} %)")
    sys.exit(0 if share >= args.at_least else 1)


if __name__ == "__main__":
    main()
