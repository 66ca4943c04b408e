#!/usr/bin/env python3
"""Training steps or kernels of pixtape and of PyTorch on one machine, in turns (A B A B), as a Markdown table.

    python3 tests/reference/bench_beside_torch.py steps --torch bench_torch.py [NAME...] [--rounds 2] [--modes tuned]
    python3 tests/reference/bench_beside_torch.py kernels --torch bench_torch.py [PART_OF_NAME...]

`--torch` (or PIXTAPE_BENCH_TORCH) is a script with these functions: `imports()`; `build(name, mode)`, which returns a
training step as `train`; `timeit(function)`; `child(name, mode)`, which times one workload, or the kernels for the name
`ops`, and prints JSON. Each measurement is a process of its own. Of several rounds the smallest median counts: whatever
else runs on the machine only ever makes a measurement longer. Of several modes the fastest counts.

Modes of PyTorch: `eager`, `tuned` (channels-last, fused Adam, an allocator that keeps memory), `compile`, `ctuned` (all of
these), and `bf16` and `cbf16`, which are `tuned` and `ctuned` under torch.autocast in bfloat16. Kernels have the modes
`eager`, `tuned` (the allocator alone) and `bf16`; both memory layouts are timed in each, and the faster counts. Both
sides repeat a kernel on the same operands, which may then be in a cache.

The share of the limits is the work (counted by pixtape, without closed taps of masks) per second, divided by the limit
that `pixtape bench` measures in the same run (the best of all rounds): the peak of arithmetic, and the bandwidth of memory and of the L3 cache.
`--json FILE` writes PyTorch's figures as a benchmark file for `pixtape bench KIND --against FILE`.
"""
import argparse, importlib.util, json, math, os, shlex, subprocess, sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KINDS = ["steps", "kernels"]
NAMES = ["pixelcnn-mnist", "pixelcnn-cifar", "gated-pixelcnn-mnist", "vae-mnist", "vae-mlp-mnist", "dcgan-cifar", "lstm-784",
         "wgan-gp-critic"]
MODES = {"steps": ["eager", "tuned", "compile", "ctuned", "bf16", "cbf16"], "kernels": ["eager", "tuned", "bf16"]}
# The mode of the script that a mode under autocast builds on.
UNDER_AUTOCAST = {"bf16": "tuned", "cbf16": "ctuned"}
# Keeps glibc from giving memory back at every step: PyTorch is faster so.
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "67108864"}
# Kernels that the table marks, by a part of their names.
MARKS = {"mask": "masked: pixtape skips closed taps, PyTorch computes them",
         "reparam_kl": "fused: one op of pixtape, several of PyTorch",
         "lstm_cell": "fused: pixtape adds both products and the gates in one plan"}
# Directions of pixtape's kernels that together are PyTorch's forward and backward pass.
BACKWARD = [["fwd", "dx", "dw"], ["fwd", "da", "db"], ["fwd", "bwd"], ["fwd+bwd"]]


# ---------------------------------------------------------------- PyTorch's side, in a process of its own

def load(path):
    spec = importlib.util.spec_from_file_location("bench_torch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def child(args, name, mode):
    """Runs the script's own measurement in this process, with the threads, the time and the precision that were asked for."""
    import torch
    torch.set_num_threads(args.threads)
    torch.set_num_threads = lambda _: None  # the script would set its own number
    script = load(args.torch)
    timeit = script.timeit
    if args.seconds:
        script.timeit = lambda f, **how: timeit(f, **{**how, "min_time": args.seconds, "warm_time": min(0.5, args.seconds)})
    if mode not in UNDER_AUTOCAST:
        return script.child(name, mode)
    # The context keeps the cast weights until it ends, so each step needs one of its own.
    def autocast(f):
        def step(*a):
            with torch.autocast("cpu", torch.bfloat16):
                return f(*a)
        return step
    if name == "ops":
        script.timeit, inner = (lambda f, **how: inner(autocast(f), **how)), script.timeit
        return script.child(name, "eager")
    script.imports()
    check_bf16(torch, script.build(script.WORKLOADS.get(name, name), "tuned"), autocast)
    build = script.build
    script.build = lambda n, m: {k: autocast(f) if k in ("train", "fb", "fwd") else f for k, f in build(n, m).items()}
    script.child(name, UNDER_AUTOCAST[mode])


def check_bf16(torch, workload, autocast):
    """Ends the process if no layer of the workload computes in bfloat16."""
    dtypes = set()

    def see(_, __, out):
        dtypes.update(t.dtype for t in (out if isinstance(out, tuple) else [out]) if isinstance(t, torch.Tensor))
    hooks = [m.register_forward_hook(see) for top in workload["modules"] for m in top.modules() if len(list(m.children())) == 0]
    autocast(workload["fwd"])()
    for hook in hooks:
        hook.remove()
    if torch.bfloat16 not in dtypes:
        sys.exit(f"no layer computes in bfloat16 under autocast, only in {sorted(map(str, dtypes))}")


def run_torch(args, name, mode):
    env = dict(os.environ, OMP_NUM_THREADS=str(args.threads), MKL_NUM_THREADS=str(args.threads))
    env.update(TUNED if UNDER_AUTOCAST.get(mode, mode) in ("tuned", "ctuned") else {})
    cmd = [sys.executable, os.path.abspath(__file__), "--torch", args.torch, "--threads", str(args.threads),
           "--seconds", str(args.seconds), "--child", name, mode]
    done = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        sys.exit(f"{name} {mode}: PyTorch failed: {done.stderr.strip()[-600:]}")
    return json.loads(lines[-1])


# ---------------------------------------------------------------- both sides

def run_ours(args, kind, names):
    cmd = [args.pixtape, "bench", kind, *names, "--threads", str(args.threads), "--device", "cpu", "--json", *shlex.split(args.ours_args)]
    done = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{shlex.join(cmd)}: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout)


def best(runs):
    return min(runs, key=lambda run: run["ms"])


def shares(run, flops, bytes_, limits):
    """Shares of the peak of arithmetic, of the bandwidth of memory and of that of L3, as `72/15/8`."""
    l3 = (limits.get("l3") or {}).get("gbs")
    each = [(flops, limits["peak_gflops"]), (bytes_, limits["peak_gbs"]), (bytes_, l3)]
    return "/".join(f"{100 * work / run['ms'] / 1e6 / limit:.0f}" if limit else "-" for work, limit in each)


def most(machines):
    """The best of the limits that several runs have measured: another program may have disturbed some."""
    l3 = max((m["l3"] for m in machines if m.get("l3")), key=lambda l3: l3["gbs"], default=None)
    return dict(peak_gflops=max(m["peak_gflops"] for m in machines), peak_gbs=max(m["peak_gbs"] for m in machines), l3=l3)


def limits_line(machines):
    limits, least = most(machines), min(m["peak_gflops"] for m in machines)
    text = f"Limits: {limits['peak_gflops']:.0f} GFLOP/s, {limits['peak_gbs']:.0f} GB/s from memory"
    if limits["l3"]:
        text += f", {limits['l3']['gbs']:.0f} GB/s from L3 (arrays of {limits['l3']['bytes'] / 2**20:.1f} MiB)"
    if least < 0.9 * limits["peak_gflops"]:
        text += f". The machine was disturbed: in one round the peak was {least:.0f} GFLOP/s"
    return text


def row(*cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def steps(args):
    row("workload", "pixtape ms", "PyTorch ms", "ratio", "pixtape min", "PyTorch min", "pixtape MiB", "PyTorch MiB", "ratio",
        "pixtape % of peak/memory/L3", "PyTorch %")
    row(*["---"] * 11)
    results, times, memories, machines = [], [], [], []
    for name in args.names or NAMES:
        ours, theirs = [], []
        for _ in range(args.rounds):
            report = run_ours(args, "steps", [name])
            result = report["results"][0]
            machines.append(report["machine"])
            ours.append(dict(result, ms=result["median_ms"], peak=result["peak_bytes"]))
            for mode in args.modes:
                got = run_torch(args, name, mode)
                if "ms" in got.get("train", {}):
                    theirs.append(dict(mode=mode, ms=got["train"]["ms"], min_ms=got["train"]["min_ms"], peak=got["peak_rss_mb"] * 2**20))
                else:
                    print(f"{name} {mode}: PyTorch gave no time: {got.get('train', got)}", file=sys.stderr)
        if not theirs:
            continue
        a, b = best(ours), best(theirs)
        times.append(a["ms"] / b["ms"])
        memories.append(a["peak"] / b["peak"])
        # Memory is that of the run whose time is shown: faster modes may take more.
        row(name, f"{a['ms']:.2f}", f"{b['ms']:.2f} ({b['mode']})", f"{times[-1]:.2f}",
            *(f"{min(r['min_ms'] for r in runs):.2f}" for runs in (ours, theirs)),
            f"{a['peak'] / 2**20:.0f}", f"{b['peak'] / 2**20:.0f}", f"{memories[-1]:.2f}",
            *(shares(run, a["flops"], a["bytes"], most(machines)) for run in (a, b)))
        results.append(dict(name=name, kind="step", median_ms=b["ms"], min_ms=b["min_ms"], peak_bytes=int(b["peak"])))
    if times:
        print(f"\nGeometric mean of {len(times)} ratios: time {mean(times):.2f}, memory {mean(memories):.2f}. {limits_line(machines)}.")
    return results


def kernel_table(report):
    """Our kernels by PyTorch's name and direction (`fwd` or `fwd+bwd`)."""
    found = {}
    for result in report["results"]:
        name, _, direction = result["name"].rpartition("/")
        found.setdefault(name, {})[direction] = result
    table = {}
    for name, parts in found.items():
        sums = [("fwd", ["fwd"])] + [("fwd+bwd", parts_of) for parts_of in BACKWARD if all(part in parts for part in parts_of)][-1:]
        for direction, names in sums:
            if all(n in parts for n in names):
                add = lambda key: sum(parts[n][key] for n in names)
                table[name, direction] = dict(ms=add("median_ms"), flops=add("flops"), bytes=add("bytes"))
    return {key: value for key, value in table.items() if key[0]}


def kernels(args):
    ours, theirs, machines = {}, {}, []
    for _ in range(args.rounds):
        report = run_ours(args, "kernels", ["--warm", *(args.names or KERNELS)])
        machines.append(report["machine"])
        for key, run in kernel_table(report).items():
            ours.setdefault(key, []).append(run)
        for mode in args.modes:
            for name, parts in run_torch(args, "ops", mode)["ops"].items():
                base, layout = next(((name[:-len(end)], what) for end, what in LAYOUTS.items() if name.endswith(end)), (name, ""))
                for part, direction in (("fwd", "fwd"), ("fb", "fwd+bwd")):
                    if part in parts:
                        said = ", ".join(word for word in (layout, mode if len(args.modes) > 1 else "") if word)
                        theirs.setdefault((base, direction), []).append(dict(ms=parts[part]["ms"], said=said))
    row("kernel", "pass", "pixtape ms", "PyTorch ms", "ratio", "pixtape % of peak/memory/L3", "PyTorch %", "note")
    row(*["---"] * 8)
    ratios, results, marks = {}, [], []
    for key in [key for key in ours if key in theirs]:
        (name, direction), a, b = key, best(ours[key]), best(theirs[key])
        ratios.setdefault(direction, []).append(a["ms"] / b["ms"])
        mark = next((text for part, text in MARKS.items() if part in name), "")
        marks.append(mark)
        row(f"`{name}`", direction, f"{a['ms']:.3f}", f"{b['ms']:.3f}" + (f" ({b['said']})" if b["said"] else ""),
            f"{a['ms'] / b['ms']:.2f}", *(shares(run, a["flops"], a["bytes"], most(machines)) for run in (a, b)), mark.split(":")[0])
        results.append(dict(name=f"{name}/{direction}", kind="warm kernel", median_ms=b["ms"]))
    print()
    for mark in dict.fromkeys(filter(None, marks)):
        print(f"- {mark}")
    means = [f"{direction} {mean(each):.2f} ({len(each)})" for direction, each in ratios.items()]
    if ratios:
        print(f"\nGeometric means of the ratios: {', '.join(means)}. {limits_line(machines)}.")
    return results


# Ends of the names of PyTorch's kernels in another memory layout.
LAYOUTS = {"_cl": "channels-last", "_NCHW": "NCHW"}
# Parts of the names of all kernels that both sides have.
KERNELS = ["conv3x3_", "convT4x4s2_", "conv1x1_", "matmul_", "linear_", "lstm_cell_b64", "softmax_xent", "reparam_kl_128x32",
           "relu_64x64", "sigmoid_64x64", "tanh_64x64"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="[steps|kernels] NAME", help="what to time (default: all training steps)")
    parser.add_argument("--torch", default=os.environ.get("PIXTAPE_BENCH_TORCH"), help="the PyTorch script")
    parser.add_argument("--pixtape", default=os.path.join(ROOT, "target", "release", "pixtape"), help="the program")
    parser.add_argument("--ours-args", default="", help='more arguments for `pixtape bench`, such as "--precision bf16"')
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--modes", help="comma-separated; default: tuned")
    parser.add_argument("--seconds", type=float, default=0, help="least time of each of PyTorch's measurements (default: the script's)")
    parser.add_argument("--json", help="write PyTorch's figures to this benchmark file")
    parser.add_argument("--child", nargs=2, metavar=("NAME", "MODE"), help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args()
    if not args.torch:
        parser.error("give the PyTorch script by --torch or PIXTAPE_BENCH_TORCH")
    if args.child:
        return child(args, *args.child)
    kind = args.names.pop(0) if args.names and args.names[0] in KINDS else "steps"
    args.modes = (args.modes or "tuned").split(",")
    unknown = [mode for mode in args.modes if mode not in MODES[kind]]
    if unknown:
        parser.error(f"{kind} have the modes {', '.join(MODES[kind])}, not {', '.join(unknown)}")
    results = {"steps": steps, "kernels": kernels}[kind](args)
    if args.json:
        with open(args.json, "w") as f:
            precision = "bf16" if all(mode in UNDER_AUTOCAST for mode in args.modes) else "f32"
            json.dump(dict(machine="PyTorch", device="cpu", precision=precision, threads=args.threads, results=results), f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
