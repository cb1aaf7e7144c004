#!/usr/bin/env bash
# The embedded pack sketch_objects: `DATA=... bash experiments/sbka/object_pack.sh WORKPLACE`. DATA is the folder of PACS.
# Drawn concepts with PACS's classes beside them; seed 0 leaves dog, person and 170 concepts out. WordNet's files are
# Debian's (wordnet-base).
set -euo pipefail
: "${DATA:?the folder of PACS}"
cd "${1:?a folder to work in}"
export OMP_NUM_THREADS=1
unmask search concepts --out concepts
for kind in photo sketch; do
  for set in concepts "$DATA"; do
    for class in "$set/$kind"/*/; do
      mkdir -p "objects/$kind/$(basename "$class")"
      for file in "$class"*; do
        ln -s "$(realpath "$file")" "objects/$kind/$(basename "$class")/$(basename "$set" | head -c 1)-$(basename "$file")"
      done
    done
  done
done
unmask train sbka --data objects --run runs/objects --size 128 --wordnet /usr/share/wordnet --steps 1200
unmask export runs/objects --data objects --wordnet /usr/share/wordnet --name sketch_objects --out sketch_objects \
  --terms "Fluent Emoji (MIT) and PACS (research). First weights: EfficientNet-Lite0 of ImageNet (Apache-2.0)"
