"""Does MMNet's recovery help where it does not know the manipulation?

    PYTHONPATH=experiments python experiments/mmnet/recovery.py RECORD.json --data DATA [--arm ARM...]

Two questions. The embedded pack on a set whose faces were drawn anew by classical means alone: its own set holds these
beside an autoencoder. And two runs of MMNet, one of which never sees one editor ("recolour"): the test faces that hold
an edit of that editor are recovered by both. The runs have the same number of training faces; the other run's are
drawn at random from all, so that they differ only in what they hold.

Rules, written before the runs. Recovery without knowing the editor is said to reproduce if, in the run that never saw
it, the mean change of L1 inside that editor's edits, recovered less the edited face as it is, has a 95 % interval,
bootstrapped over people, below 0; to be contradicted if it lies above. How much of the gain needs the editor in
training is the difference of the two runs. The pack on the classical set is read in the same way, inside all edits. L1
is the mean absolute difference from the untouched original, of values in [0, 1].
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import Laps, Record, has_record, minutes_of, one_thread, parser, read_record, settings_of, without_record
from mmnet.readers import BATCH, COUNT, SIZE, TRUNK, faces_of, fitted, known_in, set_of

from unmask.cli.options import progress_bars
from unmask.datasets.manifest import manifest_sha256
from unmask.edits.model import EditSequenceModel
from unmask.forging.component_edits import PARTS
from unmask.forging.seq_deepfake_writer import Tools
from unmask.lab.edits.config import EditTrainConfig
from unmask.lab.edits.edited_faces import PER_EDIT, EditedFaces
from unmask.lab.edits.feed import predict
from unmask.lab.methods import build
from unmask.lab.metrics import cluster_bootstrap, resampled
from unmask.packs import load_pack
from unmask.tables import markdown

TITLE = "MMNet: recovery without knowing the manipulation"
HELD = "recolour"
PACK, WITHOUT, WITH = "the pack, drawn anew by classical means", f"never saw {HELD!r}", f"saw {HELD!r}"
ARMS = (PACK, WITHOUT, WITH)
DRAWS, LEAST = 2000, 0.5  # bootstrap samples; grey value of a mask from which a pixel counts as edited


def editors_of(chosen: Any, tools: Tools) -> dict[str, dict[str, str]]:
    """Of each picture of a set, by its path in it: the editor of each part that was edited."""
    lines = (set_of(chosen, tools) / "record.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return {row["path"]: {edit["part"]: edit["editor"] for edit in row["edits"]} for row in rows if "path" in row}


def parts_by(
    editors: Mapping[str, Mapping[str, str]], faces: EditedFaces, folder: Path, editor: str | None
) -> list[list[int]]:
    """Of each face, the numbers from 0 of the parts that an editor edited; of all editors if None."""
    chosen = []
    for sample in faces.samples:
        made = editors[Path(sample.path).resolve().relative_to(folder.resolve()).as_posix()]
        chosen.append([PARTS.index(part) for part, by in made.items() if editor in (None, by)])
    return chosen


def change_inside(faces: EditedFaces, recovered: np.ndarray, parts: list[list[int]]) -> np.ndarray:
    """L1 to the original inside the edits of some parts, recovered less as it is; float (N,), nan without any."""
    crops = faces.take(np.arange(len(faces)))
    changes = np.full(len(faces), np.nan)
    for row, chosen in enumerate(parts):
        if not chosen or not faces.paired[row] or faces.states[row] != PER_EDIT:
            continue
        mask = crops.masks[row][chosen].max(0)
        inside = cv2.resize(mask, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) > 255 * LEAST
        if inside.any():
            before = crops.originals[row].astype(float)
            ours, theirs = (
                np.abs(some.astype(float) - before)[inside].mean() / 255 for some in (recovered[row], crops.faces[row])
            )
            changes[row] = ours - theirs
    return changes


def summary(faces: EditedFaces, changes: np.ndarray) -> dict[str, Any]:
    """Mean change with its interval over people, and of how many faces."""
    rows = np.flatnonzero(~np.isnan(changes))
    subjects = [faces.subjects[row] for row in rows]
    own = changes[rows]
    low, high = cluster_bootstrap(lambda some: float(own[some].mean()), list(resampled(subjects, DRAWS, 0)))
    limits = [round(float(value), 5) for value in (own.mean(), low or 0, high or 0)]
    return {"change of L1": limits, "faces": len(rows), "people": len(set(subjects))}


def pack_recovered(faces: EditedFaces) -> np.ndarray:
    """What the embedded pack recovers, uint8 (N, S, S, 3)."""
    pack = load_pack("mmnet")
    shown = faces.take(np.arange(len(faces))).faces.transpose(0, 3, 1, 2).astype(np.float32) / 255
    made = [pack.run(one[None])[2][0].transpose(1, 2, 0) for one in shown]
    return np.clip(np.stack(made) * 255 + 0.5, 0, 255).astype(np.uint8)


def run_of(chosen: Any, name: str, training: EditedFaces) -> EditSequenceModel:
    """An arm's network after its run."""
    options = {**TRUNK}
    config = EditTrainConfig(
        method="mmnet",
        options=options,
        size=SIZE,
        steps=chosen.steps,
        batch=BATCH,
        seed=0,
        known=known_in(training),
    )
    torch.manual_seed(0)
    network = build("mmnet", options, size=SIZE)
    assert isinstance(network, EditSequenceModel)
    return fitted(chosen, f"recovery-{ARMS.index(name)}-{chosen.steps}", network, training, config)


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--workers", type=int, default=2, help="processes that make and crop faces")
    options.add_argument("--arm", action="append", choices=ARMS, help="run these alone; repeatable")
    options.set_defaults(steps=900)
    chosen = options.parse_args()
    one_thread()
    wanted = chosen.arm or ARMS
    with progress_bars() as progress:
        faces = faces_of(chosen, "both", progress)
        classical = faces_of(chosen, "classical", progress) if PACK in wanted else None
    settings = settings_of(
        chosen, size=SIZE, count=COUNT, batch=BATCH, editor=HELD, pack=load_pack("mmnet").card.sha256
    )
    for name in ("arm", "workers"):
        settings.pop(name)
    record, laps = Record(chosen.record, settings, manifest_sha256(faces.samples)), Laps()
    if classical is not None and not record.has(arm=PACK):
        test = classical.split("test")
        edited = parts_by(editors_of(chosen, "classical"), test, set_of(chosen, "classical"), None)
        about = {"data_sha256": manifest_sha256(classical.samples)}
        record.add(
            arm=PACK, seed=0, **about, **summary(test, change_inside(test, pack_recovered(test), edited)), **laps.lap()
        )
    training, test = faces.split("train"), faces.split("test")
    editors, folder = editors_of(chosen, "both"), set_of(chosen, "both")
    without = np.array([not made for made in parts_by(editors, training, folder, HELD)])
    drawn = np.sort(np.random.default_rng(0).permutation(len(training))[: int(without.sum())])
    held = parts_by(editors, test, folder, HELD)
    by_run = {}
    for name, rows in ((WITHOUT, np.flatnonzero(without)), (WITH, drawn)):
        if name in wanted and not record.has(arm=name):
            network = run_of(chosen, name, training.where(rows))
            crops = test.take(np.arange(len(test))).faces
            recovered = predict(network, crops, torch.device("cpu")).recovered
            assert recovered is not None
            by_run[name] = change_inside(test, recovered, held)
            record.add(arm=name, seed=0, training=len(rows), **summary(test, by_run[name]), **laps.lap())
    if len(by_run) == 2:
        record.add(arm="difference", seed=0, **summary(test, by_run[WITHOUT] - by_run[WITH]), **laps.lap())


# --- The page ---

TEXT = """## {title}

The embedded pack on {count} pictures whose faces were drawn anew by classical means alone (its own set holds these
beside an autoencoder), inside all edits; and two runs of {steps:,} steps on as many faces each, one of which never sees
the editor {editor!r}, inside the edits of that editor. L1 is the mean absolute difference from the untouched original,
of values in [0, 1]: recovered less the edited face as it is, below 0 if recovery helps, with a 95 % interval
bootstrapped over people; {cost}.
"""


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    if not has_record(root, "mmnet/recovery"):
        return without_record(TITLE)
    record = read_record(root, "mmnet/recovery")
    rows = record["rows"]
    names = {"difference": f"{WITHOUT}, less {WITH}"}
    lines = [
        [
            names.get(row["arm"], row["arm"]),
            "{:+.4f} [{:+.4f}, {:+.4f}]".format(*row["change of L1"]),
            str(row["faces"]),
            str(row["people"]),
        ]
        for row in rows
    ]
    text = TEXT.format(**record["settings"], title=TITLE, cost=minutes_of(rows))
    return f"{text}\n{markdown(['arm', 'change of L1', 'faces', 'people'], lines)}\n"


if __name__ == "__main__":
    main()
