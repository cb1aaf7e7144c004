# Sourced by run.sh and inputs.sh with the workplace as first argument; leaves the shell there.
set -euo pipefail
: "${DATA:?the folder of collections}"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "${1:?a folder to work in}"
common=(--data "$DATA" --synthetic synthetic --taef2 "$DATA/weights/taef2")
# What a specialist is not shown.
blends=(--without stylegan --without mobilestylegan --without resynthesis)
synthesis=(--without selfblend --without swap --without ciplab)
export OMP_NUM_THREADS=1 PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
