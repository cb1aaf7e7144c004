#!/usr/bin/env bash
# What should the detector look at? Four runs of equal cost and their fusions, on the validation split:
# `DATA=... bash experiments/plain/inputs.sh WORKPLACE`, in the workplace of run.sh.
set -euo pipefail
: "${DATA:?the folder of collections}"
here="$(cd "$(dirname "$0")" && pwd)"
cd "${1:?a folder to work in}"
common=(--data "$DATA" --synthetic synthetic --taef2 "$DATA/weights/taef2")
export OMP_NUM_THREADS=1

for view in both rgb residual; do
  unmask train plain --run "runs/input-$view" --view "$view" --steps 300 --pairs 6000 "${common[@]}"
done
# A step on whole crops costs about two and a half times one on windows of half the side with every sixth step whole.
unmask train plain --run runs/input-whole --window 224 --steps 120 --pairs 6000 "${common[@]}"
python "$here/inputs.py" runs/input-both runs/input-rgb runs/input-residual runs/input-whole "${common[@]}"
