#!/usr/bin/env bash
# Tests and measures pixtape on a card within half an hour. It needs a built pixtape, but neither Rust nor a
# CUDA toolkit.
#
#   benches/gpu.sh [PIXTAPE] [OUT]
#
# PIXTAPE is the program (default: target/release/pixtape, else pixtape on the PATH). OUT is a folder
# (default: gpu-report).
#
# It writes OUT/gpu.json and OUT/gpu.md, and updates them after each part. The parts are: the list of
# devices; the checks of all cases; times of training steps; short trainings; times of kernels and of
# sampling; the same training steps in PyTorch, if PIXTAPE_BENCH_TORCH names the script and torch finds a
# card; compute-sanitizer, if it is installed. The most important parts come first. Each part has a time
# limit, and all parts together have BUDGET seconds (default: 1500). A part that exceeds its limit is ended
# and reported, and the next part runs.
#
# To run it on another machine, copy this folder, the program (`strip -o pixtape target/release/pixtape`
# makes it 15 MB instead of 100), and the reference cases. PIXTAPE_REFERENCE names the file of the reference
# cases; the default is cases.safetensors next to the program. PIXTAPE_NVRTC names the folder of libnvrtc, if
# it is neither among the system's libraries nor in a Python package. DEVICE names another device (default:
# cuda). The report lists all failures. The exit code is 1 if the list of devices, a check, a training or a
# sanitizer run failed or was ended.
set -uo pipefail
benches="$(cd "$(dirname "$0")" && pwd)"
pixtape="${1:-}"
if [ -z "$pixtape" ]; then
    pixtape="$benches/../target/release/pixtape"
    [ -x "$pixtape" ] || pixtape="$(command -v pixtape || true)"
fi
if [ ! -x "$pixtape" ]; then
    echo "there is no pixtape to run; build it by cargo build --release, or name it: benches/gpu.sh PIXTAPE" >&2
    exit 1
fi
out="${2:-gpu-report}"
device="${DEVICE:-cuda}"
budget="${BUDGET:-1500}"
mkdir -p "$out/parts" && rm -rf "$out"/parts/* "$out/runs"
out="$(cd "$out" && pwd)"
# With this cache the kernels are compiled once and not once per part, even without a home folder.
export PIXTAPE_CACHE="${PIXTAPE_CACHE:-$out/cache}"
reference="${PIXTAPE_REFERENCE:-$(dirname "$pixtape")/cases.safetensors}"
python="$(command -v python3 || true)"
if [ -z "${PIXTAPE_NVRTC:-}" ] && [ -n "$python" ]; then
    # Looks into the wheels of CUDA 12 and 13, which come with PyTorch.
    nvrtc="$("$python" -c 'import glob, site
folders = site.getsitepackages() + [site.getusersitepackages()]
print(next((f for s in folders for p in ("cuda_nvrtc", "cu*") for f in glob.glob(f"{s}/nvidia/{p}/lib") if glob.glob(f + "/libnvrtc.so.*")), ""))' \
        2>/dev/null || true)"
    [ -z "$nvrtc" ] || export PIXTAPE_NVRTC="$nvrtc"
fi
failed=0

# Writes the report of all parts so far.
report() {
    if [ -n "$python" ]; then
        "$python" "$benches/gpu_report.py" "$out" >&2
    else
        { printf '| part | result |\n|---|---|\n'; for s in "$out"/parts/*.status; do printf '| %s | %s |\n' "$(basename "$s" .status)" "$(cat "$s")"; done; } >"$out/gpu.md"
    fi
}

# part LIMIT NAME COMMAND...: runs a command for at most LIMIT seconds, within the budget. Keeps its stdout
# as parts/NAME.json, its stderr as parts/NAME.log and its outcome as parts/NAME.status. Succeeds if the
# command did.
part() {
    local limit="$1" name="$2" left=$((budget - SECONDS)) begin=$SECONDS code=0
    shift 2
    [ "$limit" -le "$left" ] || limit="$left"
    printf '%s ... ' "$name" >&2
    if [ "$limit" -lt 5 ]; then
        echo "left out: the time is used up" >"$out/parts/$name.status"
        : >"$out/parts/$name.json"
    else
        timeout -k 10 "$limit" "$@" >"$out/parts/$name.json" 2>"$out/parts/$name.log" </dev/null || code=$?
        case $code in
            0) echo "ok" ;;
            124 | 137) echo "ended after $limit s" ;;
            *) echo "failed ($code)" ;;
        esac >"$out/parts/$name.status"
    fi
    printf '%s, %d s\n' "$(cat "$out/parts/$name.status")" $((SECONDS - begin)) >&2
    report
    [ "$(cat "$out/parts/$name.status")" = ok ]
}

if command -v nvidia-smi >/dev/null; then
    part 20 nvidia-smi nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit --format=csv
fi
part 60 devices "$pixtape" devices --json || failed=1
# Each family is checked in a process of its own, because after an illegal address the process cannot use the
# card any more.
families=(
    shape:input,param,scalar,fill,reshape,detach,pad,slice,gather,scatter,sum,expand
    elementwise:unary,unary_bwd,binary,affine,clamp,gated,gated_bwd,reparameterize,quantize,dequantize
    matmul:matmul
    conv:conv,conv_dx,conv_dw
    norm:batch_norm,batch_norm_bwd,batch_norm_infer,layer_norm,layer_norm_bwd,group_norm,group_norm_bwd
    loss:bce_with_logits,mse,softmax_cross_entropy,softmax_cross_entropy_bwd,gaussian_kl
    recurrence:lstm_cell,lstm_cell_bwd,lstm,lstm_bwd,row_lstm,row_lstm_bwd,diagonal_lstm,diagonal_lstm_bwd
    sampling:random,gaussian_sample,gaussian_sample_bwd,categorical,bernoulli
    state:adam,rmsprop,sgd,ema,store
    reference:conv2d,conv_transpose2d,linear,diagonal_bilstm,gradient_penalty
)
for family in "${families[@]}"; do
    part 180 "check-${family%%:*}" "$pixtape" check --device "$device" --only "${family#*:}" --json || failed=1
done
if [ -f "$reference" ]; then
    part 120 reference "$pixtape" check "$reference" --device "$device" --json || failed=1
fi
# Each preset is a part of its own, so that one that hangs does not stop the others.
for name in pixelcnn-mnist vae-mnist dcgan-cifar lstm-784 vae-mlp-mnist wgan-gp-critic pixelcnn-cifar gated-pixelcnn-mnist \
    row-lstm-layer diagonal-bilstm-layer; do
    part 60 "bench-steps-$name" "$pixtape" bench steps "$name" --device "$device" --json
done
# Trains on the built-in digits, so nothing is downloaded.
for preset in pixelcnn-mnist vae-mnist gan-mnist; do
    part 90 "train-$preset" "$pixtape" train "$preset" --data glyphs --steps 200 --device "$device" --out "$out/runs/$preset" || failed=1
done
part 300 bench-kernels "$pixtape" bench kernels --device "$device" --json
part 180 bench-sampling "$pixtape" bench sampling --device "$device" --json
torch_script="${PIXTAPE_BENCH_TORCH:-}"
if [ -n "$torch_script" ] && timeout 60 "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    for name in pixelcnn-mnist vae-mnist vae-mlp-mnist dcgan-cifar lstm-784 wgan-gp-critic; do
        part 90 "torch-$name" "$python" "$torch_script" --child "$name" eager
    done
fi
sanitizer="$(command -v compute-sanitizer || true)"
if [ -n "$sanitizer" ] && [ "$device" = cuda ]; then
    # Some cases of the important families. The whole table would take an hour under a sanitizer.
    only=conv2d,conv_transpose2d,linear,matmul,lstm,row_lstm,diagonal_lstm,batch_norm,layer_norm,softmax_cross_entropy,adam
    for tool in memcheck racecheck synccheck initcheck; do
        part 180 "sanitizer-$tool" "$sanitizer" --tool "$tool" --error-exitcode 9 "$pixtape" check --device cuda --only "$only" || failed=1
    done
fi
echo "$out/gpu.md" >&2
exit $failed
