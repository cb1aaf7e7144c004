"""Does masking high frequencies help on forgeries of another family, and more than blurring does?

    PYTHONPATH=experiments python experiments/acmf/masking.py RECORD.json --data DATA [--work DIR] [--runs DIR]

All arms learn family A of `sets`, from the same pairs, steps and first weights. The test split holds A and B; the rate
is chosen on C, on the validation split. Two controls blur as much as masking at one half takes away, in mean square:
every picture, or every other one.
"""

from collections import Counter
from pathlib import Path

from acmf.sets import (
    B_BLENDS,
    B_SWAPS,
    A,
    Arm,
    Blurred,
    C,
    faces_of,
    options,
    pool_of,
    rows_of,
    settings,
    sha256_of_faces,
    test_of,
    trained,
    validation_of,
)
from common import Record, as_dict, one_thread, paired_table, score, take_auc

NOTHING, HALF, CHOSEN = "nothing masked", "signed, 0.5", "signed, rate chosen on C"
SIGNED = {NOTHING: Arm(0.0), "signed, 0.1": Arm(0.1), HALF: Arm(0.5), "signed, 0.9": Arm(0.9)}
BLURS = {"blur, every picture": Arm(0.5, blurred=1.0), "blur, every other picture": Arm(0.5, blurred=0.5)}
ARMS = {**SIGNED, "repo, 0.5": Arm(0.5, "repo"), **BLURS}
METRICS = (C, A, B_BLENDS, B_SWAPS)
TEXT = """## acmf: masked high frequencies

AUC. The `light` backbone learns family A (a face with a decoder's checkerboard, pasted back) and is tested on other
subjects, on A and on B (self-blended and swapped faces without a decoder); C (A with ringing in the checkerboard's
place) is on the validation split and chooses the rate. In brackets the difference from the first line, seed by seed,
with its 95 % interval. The rates chosen on C: {chosen}.
"""
CONTROLS = """Masking against blurs that change the pictures as much; in brackets the difference from masking at 0.5.
"""


def main() -> None:
    chosen = options(__doc__ or "").parse_args()
    one_thread()
    training, validation, test = (faces_of(chosen, split) for split in ("train", "val", "test"))
    arms = {name: as_dict(arm) for name, arm in ARMS.items()}
    record = Record(chosen.record, settings(chosen, arms=arms), sha256_of_faces(training, validation, test))
    for seed in range(chosen.seeds):
        left = [name for name in ARMS if not record.has(arm=name, seed=seed)]
        if not left:
            continue
        pool, held, tested = pool_of(training, seed), validation_of(validation, seed), test_of(test, seed)
        for name in left:
            detector = trained(chosen, ARMS[name], pool, seed)
            areas = {C: take_auc(held, score(detector, held), C)}
            logits = score(detector, tested)
            areas |= {family: take_auc(tested, logits, family) for family in (A, B_BLENDS, B_SWAPS)}
            more = {"sigma": detector.sigma} if isinstance(detector, Blurred) else {}
            record.add(arm=name, seed=seed, **areas, **more)


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    rows = rows_of(root, "masking")
    picked = []
    for seed in dict.fromkeys(row["seed"] for row in rows):
        best = max((row for row in rows if row["seed"] == seed and row["arm"] in SIGNED), key=lambda row: row[C])
        picked.append(best)
    counts = Counter(SIGNED[row["arm"]].rate for row in picked)
    text = TEXT.format(
        chosen=", ".join(f"{rate:g} ({count} of {len(picked)} seeds)" for rate, count in sorted(counts.items()))
    )
    every = [*rows, *({**row, "arm": CHOSEN} for row in picked)]
    controls = [row for row in rows if row["arm"] in (HALF, *BLURS)]
    tables = paired_table(every, METRICS, NOTHING), paired_table(controls, METRICS, HALF)
    return f"{text}\n{tables[0]}\n\n{CONTROLS}\n{tables[1]}\n"


if __name__ == "__main__":
    main()
