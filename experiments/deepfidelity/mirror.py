"""Does mixing attention with its mirror help where one eye was edited, and not where both were alike?

    PYTHONPATH=experiments python experiments/deepfidelity/mirror.py RECORD.json --data DATA [--work DIR] [--runs DIR]

Two arms, with and without mirroring, learn from the same pairs, steps and first weights: forgeries in which one eye
with its brow changed its look, either side by chance, or, as a control, both eyes did alike. Only faces are used that
look ahead and lie upright in the middle of their crop, which mirroring takes for granted. The arms are asked as
classifiers. The edit's strength was tried on validation subjects alone.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import (
    MARGIN,
    Forge,
    Record,
    config_for,
    data_hash,
    make_held,
    make_pool,
    one_thread,
    paired_table,
    parser,
    read_record,
    reals,
    score,
    settings_of,
    train,
)

from unmask.datasets.face_store import StoredFace
from unmask.faces.alignment import context_region
from unmask.faces.mesh import region_mask
from unmask.forgery.deepfidelity import DeepFidelity
from unmask.forging.blending import blend, change_look
from unmask.lab.metrics import auc, seed_interval

SOURCES = ("ffhq", "celebamask", "utkface")
EYES = ("right_eye", "left_eye")
ONE, BOTH = "one eye", "both eyes"
OFF, ON = "plain", "mirrored"
ARMS = {OFF: False, ON: True}
OFFSET = 0.06  # of the nose's bridge from the crop's middle, in crop widths, at most
TILT = 8.0  # of the line between the eyes, degrees, at most


def is_upright(face: StoredFace) -> bool:
    """Whether the crop's middle line is the face's, nearly."""
    left, _, side = context_region((face.side, face.side), face.box, MARGIN)
    right_eye, left_eye, nose = face.landmarks[:3]
    middles = ((right_eye + left_eye)[0] / 2, nose[0])
    tilt = np.degrees(np.arctan2(*(left_eye - right_eye)[::-1]))
    return bool(max(abs(x - left - side / 2) for x in middles) <= OFFSET * side and abs(tilt) <= TILT)


def edited(both: bool, strength: float, rng: np.random.Generator, face: StoredFace) -> tuple[np.ndarray, np.ndarray]:
    """One eye with its brow, or both alike, of another look; a seed draws the same side and look either way."""
    pixels, width = face.pixels(), float(np.ptp(face.mesh[:, 0]))
    side, grow, soft = EYES[int(rng.integers(2))], rng.uniform(0.03, 0.07), rng.uniform(0.01, 0.03) * width
    chosen = EYES if both else (side,)
    area = np.maximum.reduce([region_mask(pixels.shape, face.mesh, name, grow) for name in chosen])
    mask = np.minimum(cv2.GaussianBlur(area.astype(np.float32), (0, 0), max(0.5, soft)), 1)
    return blend(pixels, change_look(rng, pixels, strength), mask), mask


def kinds_of(both: bool, strength: float) -> dict[str, Forge]:
    """The one family of a set."""
    return {BOTH if both else ONE: partial(edited, both, strength)}


def build(mirror: bool, seed: int) -> DeepFidelity:
    """An arm's detector; mirroring adds no random weights, so that all of a seed start alike."""
    torch.manual_seed(seed)
    return DeepFidelity(mirror=mirror)


def upright(chosen: Any, split: str, most: int) -> list[StoredFace]:
    """Upright real faces of a split, at most so many of each source."""
    faces = [face for face in reals(chosen.data, chosen.work, split, SOURCES, chosen.size) if is_upright(face)]
    groups = [[face for face in faces if face.sample.source == source][:most] for source in SOURCES]
    return [face for group in groups for face in group]


def gains(rows: Sequence[Mapping[str, Any]], edit: str) -> dict[int, float]:
    """By seed: AUC with mirroring less that without."""
    by = {(row["arm"], row["seed"]): row["AUC"] for row in rows if row["edited"] == edit}
    return {seed: by[ON, seed] - by[OFF, seed] for arm, seed in by if arm == ON and (OFF, seed) in by}


def section(root: Path) -> str:
    """The experiment's part of the results page."""
    record = read_record(root, "deepfidelity/mirror")
    settings, rows = record["settings"], record["rows"]
    tables = [
        f"Edited: {edit}.\n\n" + paired_table([row for row in rows if row["edited"] == edit], ["AUC"], OFF)
        for edit in (ONE, BOTH)
    ]
    one, both = (gains(rows, edit) for edit in (ONE, BOTH))
    share = np.mean([row["share of the mirror"] for row in rows if row["arm"] == ON])
    more = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*seed_interval([one[seed] - both[seed] for seed in one if seed in both]))
    return f"""## DeepFidelity: mirrored attention

The network with its first stage's attention mixed with its mirror against the same network without, as classifiers:
scale cpu from the same random weights, {settings["size"]} px, {settings["steps"]} steps of 16 pairs. In the forged
faces one eye with its brow, either side by chance, has changed colour, contrast or sharpness; in the control both eyes
have, alike. All faces look ahead and are upright, test subjects are in no training picture. In brackets: the difference
from the plain network, seed by seed, with its 95 % interval.

{tables[0]}

{tables[1]}

Mirroring's difference with one eye edited less that with both: {more}. The learnt share of
the mirror in the mix, 0.5 at the start, is {share:.2f} at the end.
"""


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--size", type=int, default=64)
    options.add_argument("--faces", type=int, default=1000, help="real faces of each source to train on, at most")
    options.add_argument("--held-faces", type=int, default=150, help="of each source to measure on, at most")
    options.add_argument("--pairs", type=int, default=4000)
    options.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    options.add_argument("--strength", type=float, default=1.5, help="of the change of look")
    options.set_defaults(seeds=5, steps=320)
    chosen = options.parse_args()
    one_thread()
    faces, test = upright(chosen, "train", chosen.faces), upright(chosen, "test", chosen.held_faces)
    settings = settings_of(chosen, arms=ARMS, offset=OFFSET, tilt=TILT, counts=[len(faces), len(test)])
    record = Record(chosen.record, settings, data_hash([*faces, *test]))
    for seed in range(chosen.seeds):
        for edit in (ONE, BOTH):
            left = [arm for arm in ARMS if not record.has(arm=arm, seed=seed, edited=edit)]
            if not left:
                continue
            kinds = kinds_of(edit == BOTH, chosen.strength)
            pool = make_pool(faces, kinds, chosen.pairs, chosen.size, seed)
            held = make_held(test, kinds, chosen.size, seed)
            for arm in left:
                config = config_for(
                    "deepfidelity",
                    chosen.size,
                    pool,
                    chosen.steps,
                    seed,
                    options={"mirror": ARMS[arm]},
                    learning_rate=chosen.rate,
                )
                folder = chosen.runs / "deepfidelity-mirror" / f"{seed}-{edit.split()[0]}-{arm}"
                detector = train(build(ARMS[arm], seed), pool, folder, config)
                assert isinstance(detector, DeepFidelity)
                detector.fitted.fill_(0)  # the classifier speaks
                area = auc(np.array([face.label for face in held]), score(detector, held))
                weights = detector.trunk.blocks1[0].mirror_weights
                share = {} if weights is None else {"share of the mirror": float(weights.detach().softmax(0)[1])}
                record.add(arm=arm, seed=seed, edited=edit, AUC=area, **share)


if __name__ == "__main__":
    main()
