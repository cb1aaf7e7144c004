#!/usr/bin/env bash
# How the embedded pack was made: `DATA=... bash experiments/plain/run.sh WORKPLACE`.
. "$(dirname "$0")/common.sh"

unmask synthesise synthetic --count 2400
# What all runs read is prepared by one; from then on a run per core. The decoders' twins must be there before the blends
# are made, for some of them carry a decoder's face.
unmask train plain --run runs/prepare-synthesis --steps 1 "${common[@]}" "${synthesis[@]}"
unmask train plain --run runs/prepare-blends --steps 1 "${common[@]}" "${blends[@]}"

# Two specialists. Each begins where one that missed some families ended, and ends on whole crops, as it will see them.
# Together with two more of those that missed some, every family is missed once by a pair; the pairs' scores on what they
# missed calibrate the likelihood ratio.
whole=(--window 224 --learning-rate 3e-4)
train_synthesis() {
  local common=("${common[@]}" "${synthesis[@]}")
  unmask train plain --run runs/synthesis-no-mobilestylegan-ciplab --steps 1000 "${common[@]}" \
    --without mobilestylegan --without ciplab
  unmask train plain --run runs/synthesis-windows --start runs/synthesis-no-mobilestylegan-ciplab --steps 2000 "${common[@]}"
  unmask train plain --run runs/synthesis --start runs/synthesis-windows --steps 200 "${whole[@]}" "${common[@]}"
  unmask train plain --run runs/synthesis-no-stylegan --steps 650 "${common[@]}" --without stylegan
  unmask train plain --run runs/synthesis-no-resynthesis --steps 500 "${common[@]}" --without resynthesis
}
train_blends() {
  local common=("${common[@]}" "${blends[@]}")
  unmask train plain --run runs/blends-no-swap --steps 1000 "${common[@]}" --without swap
  unmask train plain --run runs/blends-windows --start runs/blends-no-swap --steps 2800 "${common[@]}"
  unmask train plain --run runs/blends --start runs/blends-windows --steps 200 "${whole[@]}" "${common[@]}"
  # In a work folder of its own, without twins: these blends must not have seen a decoder.
  mkdir -p no-twins
  cp -r runs/work/store no-twins/
  unmask train plain --run runs/blends-no-selfblend --steps 800 --pairs 6000 "${common[@]}" --work no-twins \
    --without selfblend
}
train_synthesis &
first=$!
train_blends
wait "$first"
python "$here/compare.py" "$here/specialists.json" runs/blends runs/synthesis "${common[@]}"
unmask export runs/blends runs/synthesis --out plain "${common[@]}" \
  --unseen runs/blends,runs/synthesis-no-mobilestylegan-ciplab \
  --unseen runs/blends-no-swap,runs/synthesis-no-stylegan \
  --unseen runs/blends-no-selfblend,runs/synthesis-no-resynthesis
