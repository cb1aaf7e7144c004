#!/usr/bin/env bash
# What should a specialist look at? Four short runs and their fusions, on the validation split:
# `DATA=... bash experiments/plain/inputs.sh WORKPLACE blends|synthesis`, in the workplace of run.sh.
. "$(dirname "$0")/common.sh"
kind="${2:?blends or synthesis}"
case "$kind" in
  blends) without=("${blends[@]}") ;;
  synthesis) without=("${synthesis[@]}") ;;
  *) echo "blends or synthesis?" >&2; exit 2 ;;
esac

for view in both rgb residual; do
  unmask train plain --run "runs/$kind-$view" --view "$view" --steps 250 "${common[@]}" "${without[@]}"
done
# A step on whole crops costs two to three times one on windows of half the side with every sixth step whole.
unmask train plain --run "runs/$kind-both-whole" --window 224 --steps 90 "${common[@]}" "${without[@]}"
python "$here/compare.py" "$here/inputs-$kind.json" \
  "runs/$kind-both" "runs/$kind-rgb" "runs/$kind-residual" "runs/$kind-both-whole" "${common[@]}"
