#!/usr/bin/env bash
# How the embedded pack was made: `DATA=... bash experiments/plain/run.sh WORKPLACE`. About three hours on two cores.
set -euo pipefail
: "${DATA:?the folder of collections}"
cd "${1:?a folder to work in}"
common=(--data "$DATA" --synthetic synthetic --taef2 "$DATA/weights/taef2")
export OMP_NUM_THREADS=1

unmask synthesise synthetic --count 2400
# First blending alone, until it is learned; then every family.
unmask train plain --run runs/blend --steps 700 --pairs 4000 "${common[@]}" \
  --without stylegan --without ciplab --without mobilestylegan --without resynthesis
unmask train plain --run runs/main --start runs/blend --steps 850 --pairs 8000 "${common[@]}"
# Networks that each miss some families: their scores on these calibrate the likelihood ratio.
unmask train plain --run runs/no-resynthesis --start runs/blend --steps 300 --pairs 4000 "${common[@]}" \
  --work runs/work-without-twins --without resynthesis
unmask train plain --run runs/no-gan --start runs/blend --steps 340 --pairs 8000 "${common[@]}" \
  --without stylegan --without mobilestylegan
unmask train plain --run runs/no-blend --steps 380 --pairs 8000 "${common[@]}" \
  --without selfblend --without swap --without ciplab
unmask export runs/main --unseen runs/no-resynthesis --unseen runs/no-gan --unseen runs/no-blend --out plain "${common[@]}"
