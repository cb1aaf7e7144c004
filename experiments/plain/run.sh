#!/usr/bin/env bash
# How the embedded pack was made: `DATA=... bash experiments/plain/run.sh WORKPLACE`.
set -euo pipefail
: "${DATA:?the folder of collections}"
cd "${1:?a folder to work in}"
common=(--data "$DATA" --synthetic synthetic --taef2 "$DATA/weights/taef2")
blends=(--without stylegan --without ciplab --without mobilestylegan --without resynthesis)
synthesis=(--without selfblend --without swap)
export OMP_NUM_THREADS=1

unmask synthesise synthetic --count 2400
# What all runs read is prepared by one; from then on a run per core. The decoders' twins must be there before the blends
# are made, for some of them carry a decoder's face.
unmask train plain --run runs/prepare-synthesis --steps 1 "${common[@]}" "${synthesis[@]}"
unmask train plain --run runs/prepare-blends --steps 1 "${common[@]}" "${blends[@]}"

# Two specialists. Each begins where one that missed some families ended; together with two more of those, every family is
# missed once by a pair of them, whose scores on it calibrate the likelihood ratio.
train_synthesis() {
  unmask train plain --run runs/synthesis-no-mobilestylegan-ciplab --steps 1000 "${common[@]}" "${synthesis[@]}" \
    --without mobilestylegan --without ciplab
  unmask train plain --run runs/synthesis --start runs/synthesis-no-mobilestylegan-ciplab --steps 2000 \
    "${common[@]}" "${synthesis[@]}"
  unmask train plain --run runs/synthesis-no-stylegan --steps 750 "${common[@]}" "${synthesis[@]}" --without stylegan
  unmask train plain --run runs/synthesis-no-resynthesis --steps 600 "${common[@]}" "${synthesis[@]}" \
    --without resynthesis
}
train_synthesis &
first=$!
unmask train plain --run runs/blends-no-swap --steps 1000 "${common[@]}" "${blends[@]}" --without swap
unmask train plain --run runs/blends --start runs/blends-no-swap --steps 2800 "${common[@]}" "${blends[@]}"
# A workplace of its own, without twins: these blends must not have seen a decoder.
mkdir -p no-twins
cp -r runs/work/store no-twins/
unmask train plain --run runs/blends-no-selfblend --steps 800 --pairs 6000 --work no-twins "${common[@]}" \
  "${blends[@]}" --without selfblend
wait "$first"
unmask export runs/blends runs/synthesis --out plain "${common[@]}" \
  --unseen runs/blends,runs/synthesis-no-mobilestylegan-ciplab \
  --unseen runs/blends-no-swap,runs/synthesis-no-stylegan \
  --unseen runs/blends-no-selfblend,runs/synthesis-no-resynthesis
