#!/usr/bin/env bash
# How the embedded pack of version 0.1.0 was made, whose members the next one begins from:
# `DATA=... bash experiments/plain/version_0_1.sh WORKPLACE`. In the pack's own history the runs
# with the `early` options read pairs of an older making, all at their own resolution, and runs/synthesis a pool of its
# own without CIPLAB, where this reads the earlier one and leaves CIPLAB's pairs out.
. "$(dirname "$0")/common.sh"

unmask synthesise synthetic --count 2400
# What all runs read is prepared by one; from then on a run per core. The reconstructions must be there before the
# blends are made, for some of them carry a decoder's face.
unmask train plain --run runs/prepare-synthesis --steps 1 "${common[@]}" --without selfblend --without swap
unmask train plain --run runs/prepare-blends --steps 1 "${common[@]}" "${blends[@]}"

# Two specialists, each trained on windows first and then on whole crops. What they miss on their way, and more runs that
# missed some, make pairs that miss every family once; the pairs' scores on what they missed calibrate the likelihood
# ratio.
start=(--window 224 --learning-rate 3e-4 --steps 200)
long=(--window 224 --learning-rate 6e-4 --steps 1000)
short=(--window 224 --learning-rate 3e-4 --steps 150)
train_synthesis() {
  local early=("${common[@]}" --without selfblend --without swap)
  local late=("${common[@]}" "${synthesis[@]}")
  unmask train plain --run runs/synthesis-no-mobilestylegan-first --steps 1000 "${early[@]}" \
    --without mobilestylegan --without ciplab
  unmask train plain --run runs/synthesis-windows --start runs/synthesis-no-mobilestylegan-first --steps 2000 "${early[@]}"
  unmask train plain --run runs/synthesis-first --start runs/synthesis-windows "${start[@]}" "${early[@]}"
  unmask train plain --run runs/synthesis --start runs/synthesis-first "${long[@]}" "${late[@]}"
  unmask train plain --run runs/synthesis-no-stylegan-first --steps 650 "${early[@]}" --without stylegan
  unmask train plain --run runs/synthesis-no-resynthesis-first --steps 500 "${early[@]}" --without resynthesis
  for missed in stylegan resynthesis mobilestylegan; do
    unmask train plain --run "runs/synthesis-no-$missed" --start "runs/synthesis-no-$missed-first" "${short[@]}" \
      "${late[@]}" --without "$missed"
  done
}
train_blends() {
  local late=("${common[@]}" "${blends[@]}")
  local early=("${late[@]}" --without ciplab)
  unmask train plain --run runs/blends-no-swap-first --steps 1000 "${early[@]}" --without swap
  unmask train plain --run runs/blends-windows --start runs/blends-no-swap-first --steps 2800 "${early[@]}"
  unmask train plain --run runs/blends-no-ciplab --start runs/blends-windows "${start[@]}" "${early[@]}"
  unmask train plain --run runs/blends --start runs/blends-no-ciplab "${long[@]}" "${late[@]}"
  unmask train plain --run runs/blends-no-swap --start runs/blends-no-swap-first "${short[@]}" "${late[@]}" --without swap
  # In a work folder of its own, without reconstructions: these blends must not have seen a decoder.
  mkdir -p no-reconstructions
  cp -r runs/work/store no-reconstructions/
  local blind=(--pairs 6000 --work no-reconstructions --without selfblend)
  unmask train plain --run runs/blends-no-selfblend-first --steps 800 "${early[@]}" "${blind[@]}"
  unmask train plain --run runs/blends-no-selfblend --start runs/blends-no-selfblend-first "${short[@]}" "${late[@]}" \
    "${blind[@]}"
}
train_synthesis &
background=$!
train_blends
wait "$background"
python "$here/compare.py" "$here/specialists.json" runs/blends runs/synthesis "${common[@]}"
unmask export runs/blends runs/synthesis --out plain "${common[@]}" \
  --unseen runs/blends-no-ciplab,runs/synthesis-no-mobilestylegan \
  --unseen runs/blends-no-swap,runs/synthesis-no-stylegan \
  --unseen runs/blends-no-selfblend,runs/synthesis-no-resynthesis
