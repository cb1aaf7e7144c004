#!/usr/bin/env bash
# What should a specialist look at? Four runs of about equal cost and their fusions, on the validation split:
# `DATA=... bash experiments/plain/inputs.sh WORKPLACE blends|synthesis`, in the workplace of run.sh.
set -euo pipefail
: "${DATA:?the folder of collections}"
here="$(cd "$(dirname "$0")" && pwd)"
cd "${1:?a folder to work in}"
kind="${2:?blends or synthesis}"
case "$kind" in
  blends) without=(--without stylegan --without ciplab --without mobilestylegan --without resynthesis) ;;
  synthesis) without=(--without selfblend --without swap) ;;
  *) echo "blends or synthesis?" >&2; exit 2 ;;
esac
common=(--data "$DATA" --synthetic synthetic --taef2 "$DATA/weights/taef2")
export OMP_NUM_THREADS=1

for view in both rgb residual; do
  unmask train plain --run "runs/$kind-$view" --view "$view" --steps 250 "${common[@]}" "${without[@]}"
done
# A step on whole crops costs two to three times one on windows of half the side with every sixth step whole.
unmask train plain --run "runs/$kind-both-whole" --window 224 --steps 90 "${common[@]}" "${without[@]}"
python "$here/inputs.py" "$here/inputs-$kind.json" \
  "runs/$kind-both" "runs/$kind-rgb" "runs/$kind-residual" "runs/$kind-both-whole" "${common[@]}"
