#!/bin/bash
# Train the leaderboard's runs: bash experiments/leaderboard/train.sh BOARD DATA WORK SYNTHETIC TAEF2
# Five detectors under one protocol, each with all families and without each one: about ten minutes a run on one core.
# SYNTHETIC holds the faces of `unmask synthesise --count 2400`. A run that is finished is passed over, one that was
# killed goes on. FedForgery's autoencoder is half as wide as published, which halves its cost.
set -euo pipefail
board=$1 data=$2 work=$3 synthetic=$4 taef2=$5
for without in all stylegan mobilestylegan ciplab swap resynthesis; do
  for method in plain deepfidelity hfc fedforgery acmf; do
    run=$board/$method-$without
    [ -f "$run/weights.safetensors" ] && continue
    options=(--size 128 --window 128 --steps 400)
    [ "$without" = all ] || options+=(--without "$without")
    [ "$method" = fedforgery ] && options+=(--set width=32)
    unmask train "$method" --run "$run" --data "$data" --work "$work" --synthetic "$synthetic" --taef2 "$taef2" \
      "${options[@]}"
  done
done

# The weakest of them for longer; `measure.py --longer` sets it beside the others.
unmask train deepfidelity --run "$board/deepfidelity-long" --data "$data" --work "$work" --synthetic "$synthetic" \
  --taef2 "$taef2" --size 128 --window 128 --steps 2000
