#!/usr/bin/env bash
# Everything worth knowing about a card, from a built pixtape alone: no Rust and no CUDA toolkit needed.
#
#   benches/gpu.sh [PIXTAPE] [OUT]       the program (default: target/release/pixtape, else pixtape), a folder (default: gpu-report)
#
# Writes OUT/gpu.json and OUT/gpu.md: devices; every case checked; compute-sanitizer where it is installed; kernels, training steps and
# sampling timed; the same steps in PyTorch where PIXTAPE_BENCH_TORCH names the script and torch sees a card; short trainings.
# PIXTAPE_NVRTC names the folder of libnvrtc where the system does not find it. DEVICE (default: cuda) may name another one.
# What fails is in the report; the exit code is 1 if a check or a training failed.
set -uo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
pixtape="${1:-}"
if [ -z "$pixtape" ]; then
    pixtape="$here/target/release/pixtape"
    [ -x "$pixtape" ] || pixtape="$(command -v pixtape || true)"
fi
if [ ! -x "$pixtape" ]; then
    echo "there is no pixtape to run; build it by cargo build --release, or name it: benches/gpu.sh PIXTAPE" >&2
    exit 1
fi
out="${2:-gpu-report}"
device="${DEVICE:-cuda}"
mkdir -p "$out/parts" && rm -rf "$out"/parts/* "$out/runs"
failed=0

# part NAME COMMAND...: keeps what a command prints, as parts/NAME.json where it prints JSON, and whether it succeeded.
part() {
    local name="$1"
    shift
    printf '%s ... ' "$name" >&2
    local begin=$SECONDS
    if "$@" >"$out/parts/$name.json" 2>"$out/parts/$name.log"; then
        echo "ok" >"$out/parts/$name.status"
    else
        echo "failed ($?)" >"$out/parts/$name.status"
    fi
    printf '%s, %d s\n' "$(cat "$out/parts/$name.status")" $((SECONDS - begin)) >&2
    [ "$(cat "$out/parts/$name.status")" = ok ]
}

part devices "$pixtape" devices --json || failed=1
part check "$pixtape" check --device "$device" --json || failed=1
if [ -n "${PIXTAPE_REFERENCE:-}" ]; then
    part reference "$pixtape" check "$PIXTAPE_REFERENCE" --device "$device" --json || failed=1
fi
sanitizer="$(command -v compute-sanitizer || true)"
if [ -n "$sanitizer" ] && [ "$device" = cuda ]; then
    # The built-in reference cases of every family; the whole table would take an hour under a sanitizer.
    only=conv2d,conv_transpose2d,linear,matmul,lstm,row_lstm,diagonal_lstm,batch_norm,layer_norm,softmax_cross_entropy,adam
    for tool in memcheck racecheck initcheck synccheck; do
        part "sanitizer-$tool" "$sanitizer" --tool "$tool" --error-exitcode 9 "$pixtape" check --device cuda --only "$only" || failed=1
    done
fi
for kind in kernels steps sampling; do
    part "bench-$kind" "$pixtape" bench "$kind" --device "$device" --json
done
torch_script="${PIXTAPE_BENCH_TORCH:-}"
if [ -n "$torch_script" ] && python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    for name in pixelcnn-mnist vae-mnist vae-mlp-mnist dcgan-cifar lstm-784 wgan-gp-critic; do
        part "torch-$name" python3 "$torch_script" --child "$name" eager
    done
fi
# On the built-in digits: nothing to download.
for preset in pixelcnn-mnist vae-mnist gan-mnist; do
    part "train-$preset" "$pixtape" train "$preset" --data glyphs --steps 200 --device "$device" --out "$out/runs/$preset" || failed=1
done

# One JSON object of all parts, and one Markdown table of the timings; shell alone would be longer than this and wrong.
if command -v python3 >/dev/null; then
    python3 - "$out" <<'PYTHON'
import json, pathlib, sys

out = pathlib.Path(sys.argv[1])
parts, status = {}, {}
for file in sorted((out / "parts").glob("*.status")):
    name = file.stem
    status[name] = file.read_text().strip()
    text = (out / "parts" / f"{name}.json").read_text()
    try:
        parts[name] = json.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.startswith("{")]
        parts[name] = json.loads(lines[-1]) if lines else text
(out / "gpu.json").write_text(json.dumps({"status": status, "parts": parts}, indent=1) + "\n")

lines = ["# pixtape on a GPU", "", "| part | result |", "|---|---|"]
for name, result in status.items():
    if name in ("check", "reference") and isinstance(parts[name], dict):
        cases = parts[name]["cases"]
        result += f", {sum(c['pass'] for c in cases)} of {len(cases)} cases pass"
    lines.append(f"| {name} | {result} |")
for device in parts.get("devices", {}).get("devices", []) if isinstance(parts.get("devices"), dict) else []:
    lines += ["", f"{device.get('kind')}: {device.get('name')} ({device.get('detail')})"]
lines += ["", "| what | shape | median ms | GFLOP/s | GB/s | of the limit | images/s | PyTorch ms |", "|---|---|---|---|---|---|---|---|"]
for kind in ("kernels", "steps", "sampling"):
    report = parts.get(f"bench-{kind}")
    for entry in report.get("results", []) if isinstance(report, dict) else []:
        torch = parts.get(f"torch-{entry['name']}") if kind == "steps" else None
        theirs = torch.get("train", {}).get("ms") if isinstance(torch, dict) else None
        number = lambda key, digits: f"{entry[key]:.{digits}f}" if entry.get(key) else ""
        lines.append("| " + " | ".join([
            f"{kind}: {entry['name']}", str(entry.get("shape", "")), number("median_ms", 3), number("gflops", 0), number("gbs", 0),
            f"{100 * entry['limit_fraction']:.0f} %" if entry.get("limit_fraction") else "", number("images_per_s", 0),
            f"{theirs:.3f}" if theirs else "",
        ]) + " |")
(out / "gpu.md").write_text("\n".join(lines) + "\n")
PYTHON
    echo "$out/gpu.md and $out/gpu.json" >&2
else
    # Without Python the parts are put together as they are.
    {
        printf '{"parts": {'
        comma=""
        for file in "$out"/parts/*.json; do
            head -c 1 "$file" | grep -q '{' || continue
            printf '%s"%s": ' "$comma" "$(basename "$file" .json)"
            cat "$file"
            comma=", "
        done
        printf '}}\n'
    } >"$out/gpu.json"
    { printf '| part | result |\n|---|---|\n'; for s in "$out"/parts/*.status; do printf '| %s | %s |\n' "$(basename "$s" .status)" "$(cat "$s")"; done; } >"$out/gpu.md"
    echo "$out/gpu.md (short: there is no python3) and $out/gpu.json" >&2
fi
exit $failed
