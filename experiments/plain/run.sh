#!/usr/bin/env bash
# How the embedded pack was made: `DATA=... PACK=... bash experiments/plain/run.sh WORKPLACE`. DATA is the folder of
# collections, with the published networks' weights in it; PACK the folder of the pack of version 0.1.0
# (`git show`, or version_0_1.sh trains it), whose two members it begins from.
. "$(dirname "$0")/common.sh"
: "${PACK:?the folder of the pack of version 0.1.0}"
common+=(--published "$DATA/weights" --pairs 26000 --window 224 --learning-rate 6e-4)

unmask synthesise synthetic --count 700
# What all runs read is prepared by one; from then on a run per core.
unmask train plain --run runs/prepare --steps 1 "${common[@]}"
python "$here/from_pack.py" "$PACK" runs/work/store runs/old/blends runs/old/synthesis

# Two specialists: of what is drawn whole by a network, and of what is pasted, warped or redrawn in places. Each goes on
# from the older one of its trade. What they leave out of the kinds is the other's.
of_kinds() { for kind in "$@"; do printf '%s\n' --without-kind "$kind"; done; }
of_sources() { for source in "$@"; do printf '%s\n' --without-source "$source"; done; }
mapfile -t local_kinds < <(of_kinds blend swap composite lip-sync reenactment)
mapfile -t drawn_kinds < <(of_kinds re-synthesis synthesis text-to-image "talking head" "attribute edit" restoration \
  inpainting)
# The folds: two of either trade lack some kinds, and begin from the older member that never saw these; the first of
# either lacks some sources of reals, the second the others.
mapfile -t one < <(of_sources stylegan3 real_talking dfl_faceswap real_small)
unseen_sources=(real_portraits real_frll real_amfd real_300w stylegan3_edit wav2lip gpen_inpaint)
mapfile -t two < <(of_sources "${unseen_sources[@]}")
mapfile -t drawn_one < <(of_kinds synthesis "talking head")
mapfile -t drawn_two < <(of_kinds text-to-image "attribute edit" restoration inpainting)
unseen_kinds=(text-to-image "attribute edit" restoration inpainting lip-sync)
mapfile -t local_one < <(of_kinds swap composite)
mapfile -t local_two < <(of_kinds lip-sync)
go() { # RUN START STEPS OPTION...
  unmask train plain --run "runs/$1" --start "runs/old/$2" --steps "$3" "${common[@]}" "${@:4}"
}
{
  go drawn synthesis 1600 "${local_kinds[@]}"
  go drawn-two synthesis 450 "${local_kinds[@]}" "${drawn_two[@]}" "${two[@]}"
  go drawn-one blends 450 "${local_kinds[@]}" "${drawn_one[@]}" "${one[@]}"
} &
background=$!
go local blends 1600 "${drawn_kinds[@]}"
go local-two blends 450 "${drawn_kinds[@]}" "${local_two[@]}" "${two[@]}"
go local-one synthesis 450 "${drawn_kinds[@]}" "${local_one[@]}" "${one[@]}"
wait "$background"

# Between the older weights and the new ones: how far is measured on the validation split, and the folds go as far.
measuring=(--data "$DATA" --synthetic synthetic --taef2 "$DATA/weights/taef2")
python "$here/interpolate.py" "$here/interpolation-drawn.json" runs/drawn runs/old/synthesis "${measuring[@]}"
python "$here/interpolate.py" "$here/interpolation-local.json" runs/local runs/old/blends "${measuring[@]}"
between() { python "$here/interpolate.py" none.json "runs/$1" "runs/old/$2" --take 0.75 --data "$DATA"; }
between drawn synthesis
between drawn-two synthesis
between drawn-one blends

# Every kind and source by those that never saw it.
drawn=runs/drawn-0.75 local=runs/local
folds=(runs/drawn-one-0.75,$local runs/drawn-two-0.75,$local $drawn,runs/local-one $drawn,runs/local-two
  runs/drawn-one-0.75,runs/local-one runs/drawn-two-0.75,runs/local-two)
leave_out="$here/../leave_out/measure.py"
python "$leave_out" before "$PACK" --split test --text "Before: the pack of version 0.1.0" "${measuring[@]}"
python "$leave_out" after "${folds[@]}" --split test --text "After: the folds of the embedded pack" "${measuring[@]}"
# Designs at equal cost, on what two folds lack: the specialists of few steps; one network for all kinds, also with the
# hardest sources drawn more often; self-blends alone, as many as are wanted, from a pool of their own; a linear head on
# a frozen trunk; the older pack, which lacks more and is measured on what the others lack.
mapfile -t lacking < <(of_kinds "${unseen_kinds[@]}")
mapfile -t all_but_blends < <(of_kinds "${unseen_kinds[@]}" re-synthesis synthesis "talking head" composite swap reenactment)
go one-two blends 900 "${lacking[@]}" "${two[@]}"
go reweighted-two blends 900 --reweight-sources "${lacking[@]}" "${two[@]}"
mkdir -p runs/work-selfblend && ln -sfn ../work/store runs/work-selfblend/store
go selfblend-two blends 900 --work runs/work-selfblend --pairs 20000 "${all_but_blends[@]}" "${two[@]}"
only=(--split train "${measuring[@]}")
for kind in "${unseen_kinds[@]}"; do only+=(--only-kind "$kind"); done
for source in "${unseen_sources[@]}"; do only+=(--only-source "$source"); done
python "$leave_out" design-one runs/one-two --text "one network for all kinds" "${only[@]}"
python "$leave_out" design-reweighted runs/reweighted-two --text "the same, hardest sources drawn more often" "${only[@]}"
python "$leave_out" design-selfblend runs/selfblend-two --text "one network, self-blends alone" "${only[@]}"
python "$leave_out" design-specialists runs/drawn-two,runs/local-two --text "two specialists" "${only[@]}"
python "$leave_out" design-interpolated runs/drawn-two-0.75,runs/local-two \
  --text "two specialists, the drawn one 0.75 of the way from its start" "${only[@]}"
python "$leave_out" design-older "$PACK" --text "the pack of version 0.1.0, without any of these data" "${only[@]}"
python "$here/frozen.py" design-frozen runs/one-two --text "a frozen ImageNet trunk with a linear head" "${only[@]}"
python "$here/tracks.py" "$here/tracks.json" "${folds[@]}" --split train --data "$DATA" --synthetic synthetic
python "$here/compare.py" "$here/specialists.json" "$drawn" "$local" "${measuring[@]}"
unmask export "$drawn" "$local" --out plain --name plain --version 0.2.0 "${measuring[@]}" "${folds[@]/#/--unseen=}"
python "$here/keep_evaluation.py" plain/evaluation.json "$here/evaluation.json"
python "$here/false_alarms.py" "$here/false_alarms.json" "$PACK" plain "${measuring[@]}"
