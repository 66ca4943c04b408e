#!/usr/bin/env bash
# Trains the preset gan-mnist under every objective on two data sets with three seeds, judges the samples, and prints for
# each run the Frechet distance, precision, recall and classes of 2000 samples. A run that is judged is not
# trained again, so the script can be stopped and started.
#
#   benches/gan_objectives.sh OUT [STEPS] [SEEDS] [DATA SETS]
#   benches/gan_objectives.sh runs/objectives 2000 "0 1 2" "mnist fashion-mnist"
#
# PIXTAPE names the program (default: pixtape). The classifiers runs/classifier-mnist and runs/classifier-fashion-mnist are
# those of CLASSIFIERS (default: runs); they are trained if they are not there.
set -euo pipefail
out="${1:?give the folder of the runs}"
steps="${2:-2000}"
seeds="${3:-0 1 2}"
sets="${4:-mnist fashion-mnist}"
pixtape="${PIXTAPE:-pixtape}"
classifiers="${CLASSIFIERS:-runs}"

# The settings of each objective's paper; the others have those of the preset (Radford et al. 2016).
settings() {
    case "$1" in
        wgan) echo "optimizer.kind=rmsprop optimizer.lr=0.00005 critic_steps=5 weight_clip=0.01" ;;
        wgan-gp) echo "optimizer.lr=0.0001 optimizer.beta1=0 optimizer.beta2=0.9 critic_steps=5" ;;
    esac
}

for data in $sets; do
    classifier="$classifiers/classifier-$data"
    [ -d "$classifier" ] || "$pixtape" train "classifier-$data" --seed 0 --out "$classifier"
    for objective in non-saturating minimax lsgan wgan wgan-gp hinge; do
        for seed in $seeds; do
            run="$out/$data-$objective-$seed"
            if [ ! -f "$run/judged.txt" ]; then
                # A bound on the norm of the gradients that is never reached: with one, the norms are logged.
                options=(--set "objective=$objective" --set model.channels=32 --set ema=0.999 --set clip_norm=1e6)
                options+=(--set log_every=10 --set sample_every=0 --set checkpoint_every=0)
                for setting in $(settings "$objective"); do options+=(--set "$setting"); done
                "$pixtape" train gan-mnist --data "$data" --steps "$steps" --seed "$seed" --out "$run" "${options[@]}"
                "$pixtape" judge "$run" --classifier "$classifier" --data "$data" >"$run/judged.part"
                mv "$run/judged.part" "$run/judged.txt"
            fi
            echo "$data $objective seed $seed"
            grep -E "^(Frechet distance, n = (all|inf)|precision|recall|classes with)" "$run/judged.txt"
        done
    done
done
