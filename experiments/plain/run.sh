#!/usr/bin/env bash
# How the embedded pack was made: `DATA=... bash experiments/plain/run.sh WORKPLACE`.
set -euo pipefail
: "${DATA:?the folder of collections}"
cd "${1:?a folder to work in}"
common=(--data "$DATA" --synthetic synthetic --taef2 "$DATA/weights/taef2")
export OMP_NUM_THREADS=1

unmask synthesise synthetic --count 2400
# Each of three networks misses two families that are not akin; their scores on these calibrate the likelihood ratio.
# The one to ship begins where the first ended and sees every family.
# The pack 0.1.0 was made while histories (data/degradation.py) were being settled: all of its runs drew them for blends too,
# the first run and the one without stylegan and swap more often and harder than now.
chain() {
  unmask train plain --run runs/no-mobilestylegan-ciplab --steps 1500 "${common[@]}" \
    --without mobilestylegan --without ciplab
  unmask train plain --run runs/main --start runs/no-mobilestylegan-ciplab --steps 1400 "${common[@]}"
}
# The first run prepares alone what the others read; from then on a run per core.
unmask train plain --run runs/prepare --steps 1 "${common[@]}"
chain &
first=$!
unmask train plain --run runs/no-stylegan-swap --steps 1800 "${common[@]}" --without stylegan --without swap
unmask train plain --run runs/no-selfblend-resynthesis --steps 780 "${common[@]}" \
  --without selfblend --without resynthesis
wait "$first"
unmask export runs/main --unseen runs/no-mobilestylegan-ciplab --unseen runs/no-stylegan-swap \
  --unseen runs/no-selfblend-resynthesis --out plain "${common[@]}"
