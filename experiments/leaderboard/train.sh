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

# The two that begin with random weights, for longer; `measure.py --longer` sets them beside the others.
for longer in "deepfidelity 2000" "hfc 1200"; do
  read -r method steps <<< "$longer"
  unmask train "$method" --run "$board/$method-long" --data "$data" --work "$work" --synthetic "$synthetic" \
    --taef2 "$taef2" --size 128 --window 128 --steps "$steps"
done
