#!/usr/bin/env bash
# Everything worth knowing about a card within half an hour, from a built pixtape alone: no Rust and no CUDA toolkit needed.
#
#   benches/gpu.sh [PIXTAPE] [OUT]       the program (default: target/release/pixtape, else pixtape), a folder (default: gpu-report)
#
# Writes OUT/gpu.json and OUT/gpu.md, anew after every part: devices; every case checked; training steps, kernels and sampling timed; short
# trainings; the same steps in PyTorch where PIXTAPE_BENCH_TORCH names the script and torch sees a card; compute-sanitizer where it is
# installed. What matters most comes first, every part has a time limit, and all of them together BUDGET seconds (default: 1500): a
# part that hangs is ended and told of, and the others go on.
#
# To carry it to another machine: this folder, `strip -o pixtape target/release/pixtape` (15 MB instead of 100), and the reference cases, which
# PIXTAPE_REFERENCE names or which lie beside the program as cases.safetensors. PIXTAPE_NVRTC names the folder of libnvrtc where neither the
# system nor Python's packages have it. DEVICE (default: cuda) may name another device.
# What fails is in the report; the exit code is 1 if a check or a training failed or was ended.
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
# Kernels are compiled once, not once a part, also where there is no home folder.
export PIXTAPE_CACHE="${PIXTAPE_CACHE:-$out/cache}"
reference="${PIXTAPE_REFERENCE:-$(dirname "$pixtape")/cases.safetensors}"
python="$(command -v python3 || true)"
if [ -z "${PIXTAPE_NVRTC:-}" ] && [ -n "$python" ]; then
    # The wheels of CUDA 12 and 13, which come with PyTorch.
    nvrtc="$("$python" -c 'import glob, site
folders = site.getsitepackages() + [site.getusersitepackages()]
print(next((f for s in folders for p in ("cuda_nvrtc", "cu*") for f in glob.glob(f"{s}/nvidia/{p}/lib") if glob.glob(f + "/libnvrtc.so.*")), ""))' \
        2>/dev/null || true)"
    [ -z "$nvrtc" ] || export PIXTAPE_NVRTC="$nvrtc"
fi
failed=0

# The report so far.
report() {
    if [ -n "$python" ]; then
        "$python" "$benches/gpu_report.py" "$out" >&2
    else
        { printf '| part | result |\n|---|---|\n'; for s in "$out"/parts/*.status; do printf '| %s | %s |\n' "$(basename "$s" .status)" "$(cat "$s")"; done; } >"$out/gpu.md"
    fi
}

# part LIMIT NAME COMMAND...: keeps what a command prints on stdout and stderr as parts/NAME.json and parts/NAME.log, and whether it
# succeeded within LIMIT seconds and the budget.
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
# A process each: an illegal address ends the use of the card for the process in which it happens.
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
# A part each, so that one that hangs does not take the others with it.
for name in pixelcnn-mnist vae-mnist dcgan-cifar lstm-784 vae-mlp-mnist wgan-gp-critic pixelcnn-cifar gated-pixelcnn-mnist \
    row-lstm-layer diagonal-bilstm-layer; do
    part 60 "bench-steps-$name" "$pixtape" bench steps "$name" --device "$device" --json
done
# On the built-in digits: nothing to download.
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
    # The built-in reference cases of every family; the whole table would take an hour under a sanitizer.
    only=conv2d,conv_transpose2d,linear,matmul,lstm,row_lstm,diagonal_lstm,batch_norm,layer_norm,softmax_cross_entropy,adam
    for tool in memcheck racecheck synccheck initcheck; do
        part 180 "sanitizer-$tool" "$sanitizer" --tool "$tool" --error-exitcode 9 "$pixtape" check --device cuda --only "$only" || failed=1
    done
fi
echo "$out/gpu.md" >&2
exit $failed
