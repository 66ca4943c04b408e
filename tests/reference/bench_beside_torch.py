#!/usr/bin/env python3
"""Training steps of pixtape and of PyTorch on one machine, in turns (A B A B), as a Markdown table.

    python3 tests/reference/bench_beside_torch.py --torch bench_torch.py [NAME...] [--rounds 2] [--modes tuned]

`--torch` (or PIXTAPE_BENCH_TORCH) is a script whose `--child NAME MODE` times one workload and prints JSON with
`train.ms`, `train.min_ms` and `peak_rss_mb`; each measurement is a process of its own. Of several rounds the smallest
median counts: whatever else runs on the machine only ever makes a step longer. Of several modes the fastest counts.
`--json FILE` writes PyTorch's figures as a benchmark file for `pixtape bench steps --against FILE`.
"""
import argparse, json, os, subprocess, sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMES = ["pixelcnn-mnist", "pixelcnn-cifar", "gated-pixelcnn-mnist", "vae-mnist", "vae-mlp-mnist", "dcgan-cifar", "lstm-784",
         "wgan-gp-critic"]
# Keeps glibc from giving memory back at every step: PyTorch is faster so.
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "67108864"}


def last_json(text):
    return json.loads([line for line in text.splitlines() if line.startswith("{")][-1])


def time_ours(args, name):
    cmd = [args.pixtape, "bench", "steps", name, "--threads", str(args.threads), "--device", "cpu", "--json"]
    out = subprocess.run(cmd, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    result = json.loads(out)["results"][0]
    return dict(mode="", ms=result["median_ms"], min_ms=result["min_ms"], peak=result["peak_bytes"])


def time_torch(args, name, mode):
    env = dict(os.environ, OMP_NUM_THREADS=str(args.threads), MKL_NUM_THREADS=str(args.threads))
    env.update(TUNED if mode in ("tuned", "ctuned") else {})
    cmd = [sys.executable, args.torch, "--child", name, mode]
    out = subprocess.run(cmd, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env).stdout
    result = last_json(out)
    if "ms" not in result.get("train", {}):
        sys.exit(f"{name} {mode}: PyTorch gave no time: {result}")
    return dict(mode=mode, ms=result["train"]["ms"], min_ms=result["train"]["min_ms"], peak=result["peak_rss_mb"] * 2**20)


def best(runs):
    return min(runs, key=lambda run: run["ms"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--torch", default=os.environ.get("PIXTAPE_BENCH_TORCH"), help="the PyTorch script")
    parser.add_argument("--pixtape", default=os.path.join(ROOT, "target", "release", "pixtape"), help="the program")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--modes", default="tuned", help="comma-separated: eager, tuned, compile, ctuned")
    parser.add_argument("--json", help="write PyTorch's figures to this benchmark file")
    args = parser.parse_args()
    if not args.torch:
        parser.error("give the PyTorch script by --torch or PIXTAPE_BENCH_TORCH")
    print("| workload | pixtape ms | PyTorch ms | ratio | pixtape min | PyTorch min | pixtape MiB | PyTorch MiB | ratio |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    results = []
    for name in args.names:
        ours, theirs = [], []
        for _ in range(args.rounds):
            ours.append(time_ours(args, name))
            theirs.extend(time_torch(args, name, mode) for mode in args.modes.split(","))
        a, b = best(ours), best(theirs)
        # Memory is that of the run whose time is shown: faster modes may take more.
        cells = [name, f"{a['ms']:.2f}", f"{b['ms']:.2f} ({b['mode']})", f"{a['ms'] / b['ms']:.2f}"]
        cells += [f"{min(r['min_ms'] for r in runs):.2f}" for runs in (ours, theirs)]
        cells += [f"{a['peak'] / 2**20:.0f}", f"{b['peak'] / 2**20:.0f}", f"{a['peak'] / b['peak']:.2f}"]
        print("| " + " | ".join(cells) + " |", flush=True)
        result = dict(name=name, kind="step", median_ms=b["ms"], min_ms=b["min_ms"], peak_bytes=int(b["peak"]))
        results.append(result)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(dict(machine="PyTorch", device="cpu", precision="f32", threads=args.threads, results=results), f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
