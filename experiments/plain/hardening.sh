#!/usr/bin/env bash
# What `hardening.py` measures: `DATA=... bash experiments/plain/hardening.sh WORKPLACE`. DATA is the folder of
# collections, with the published networks' weights in it. The embedded pack's specialist for swaps, blends, composites,
# lip-sync and reenactment goes on from its shipped weights, ordinarily and by robust training, equal in all else.
. "$(dirname "$0")/common.sh"
common=(--data "$DATA" --published "$DATA/weights" --pairs 3000 --window 224 --batch-pairs 8 --learning-rate 3e-4)
for kind in re-synthesis synthesis text-to-image "talking head" "attribute edit" restoration inpainting; do
  common+=(--without-kind "$kind")
done

unmask train plain --run runs/prepare --steps 1 "${common[@]}"
python "$here/from_pack.py" plain runs/work/store runs/old/drawn runs/old/local
for seed in 0 1 2; do
  go=(--start runs/old/local --steps 120 --seed "$seed" "${common[@]}")
  unmask train plain --run "runs/hardened-$seed" "${go[@]}" --robust trades --attack fast --attack-epsilon 2/255
  unmask train plain --run "runs/ordinary-$seed" "${go[@]}"
done
python "$here/hardening.py" "$here/hardening.json" --data "$DATA" --work runs/work --start runs/old/local \
  --hardened runs/hardened --ordinary runs/ordinary
