#!/usr/bin/env bash
# One network for all kinds, the design that the rule of run.sh took, in place of the embedded pack's two specialists?
# `DATA=... FIRST=... SECOND=... bash experiments/plain/one_network.sh WORKPLACE`. DATA is the folder of collections, with
# the published networks' weights in it; FIRST and SECOND are the folders of the packs of versions 0.1.0 and 0.2.0 (`git
# show`, or version_0_1.sh and run.sh train them), whose members it begins from.
#
# Rule, written before the runs: it replaces the two specialists of version 0.2.0 if its AUC on the validation split, mean
# over the families that compare.py measures and over three conditions, is not lower than that of their fusion. It was
# lower, so that what follows the comparison, the folds' measurement and the export, was left out.
. "$(dirname "$0")/common.sh"
: "${FIRST:?the folder of the pack of version 0.1.0}" "${SECOND:?the folder of the pack of version 0.2.0}"
common+=(--published "$DATA/weights" --pairs 26000 --window 224 --learning-rate 6e-4)

unmask synthesise synthetic --count 700
# What all runs read is prepared by one; from then on a run per core.
unmask train plain --run runs/prepare --steps 1 "${common[@]}"
python "$here/from_pack.py" "$FIRST" runs/work/store runs/old/blends runs/old/synthesis
python "$here/from_pack.py" "$SECOND" runs/work/store runs/old/drawn runs/old/local

of_kinds() { for kind in "$@"; do printf '%s\n' --without-kind "$kind"; done; }
of_sources() { for source in "$@"; do printf '%s\n' --without-source "$source"; done; }
# The folds: each lacks some kinds, and begins from the older member that never saw these; the first two lack some
# sources of reals as well.
mapfile -t lacks_one < <(of_kinds synthesis "talking head"; of_sources stylegan3 real_talking dfl_faceswap real_small)
mapfile -t lacks_two < <(of_kinds text-to-image "attribute edit" restoration inpainting lip-sync
  of_sources real_portraits real_frll real_amfd real_300w stylegan3_edit wav2lip gpen_inpaint)
mapfile -t lacks_three < <(of_kinds swap composite)
go() { # RUN START STEPS OPTION...
  unmask train plain --run "runs/$1" --start "runs/old/$2" --steps "$3" "${common[@]}" "${@:4}"
}
{
  go all-two blends 450 "${lacks_two[@]}"
  go all-one blends 300 "${lacks_one[@]}"
  go all-three synthesis 150 "${lacks_three[@]}"
} &
background=$!
go all local 900
wait "$background"

# One network, and the two specialists with their fusion, on the validation split: the rule above.
measuring=(--data "$DATA" --synthetic synthetic --taef2 "$DATA/weights/taef2")
python "$here/compare.py" "$here/one.json" runs/all runs/old/drawn runs/old/local "${measuring[@]}"
