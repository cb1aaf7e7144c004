"""Graded or binary targets for the regression on frozen features: which tells forged faces from real ones, and where?

    PYTHONPATH=experiments python experiments/deepfidelity/targets.py RECORD.json --data DATA [--work DIR] [--runs DIR]

One network for each seed learns two families, self-blends and a decoder's checkerboard, as an ordinary classifier; all
arms are regressors on its features. Faces of both classes lose quality by chance: blur, scaling, JPEG or noise at five
levels, drawn apart for a forgery and its real picture, so that the level says nothing about the label. The quality is
what the method's assessor measures in the crop. Nothing was chosen on the test split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from common import (
    Forge,
    Record,
    as_dict,
    config_for,
    crop_of,
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
from torch import Tensor

from unmask.datasets.face_store import StoredFace
from unmask.forgery.deepfidelity import (
    SUPPORT,
    DeepFidelity,
    FidelityMapping,
    Frozen,
    classical_quality,
    fit_regressor,
    frozen_features,
)
from unmask.forging.blending import blending_mask, self_blend
from unmask.forging.degradation import jpeg
from unmask.forging.upsampling import fingerprint
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.feed import batches, faces_in_batches
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.detection.pairs_pool import Pool
from unmask.lab.metrics import auc, by_quality, hard_auc, rank_correlation

SOURCES = ("ffhq", "celebamask", "utkface")
BLEND, BOARD = "self-blends", "checkerboard"
CPU = torch.device("cpu")
LEVELS = 5
BLUR = (0.0, 0.4, 0.7, 1.0, 1.5)
SCALE = (1.0, 0.75, 0.6, 0.45, 0.35)
JPEG = (100, 80, 55, 35, 18)
NOISE = (0.0, 3.0, 6.0, 10.0, 16.0)


@dataclass(frozen=True)
class Arm:
    """A regressor's targets: where the bands end, or None for 1 - label, and its free error."""

    bands: tuple[float, float] | None
    epsilon: float = 0.1
    quantiles: bool = False


CLASSIFIER, BINARY, GRADED = "classifier", "binary", "graded, 0.4/0.6"
ARMS: dict[str, Arm] = {
    BINARY: Arm(None),
    GRADED: Arm((0.4, 0.6)),
    "graded, 0.5/0.5": Arm((0.5, 0.5)),
    "graded, 0.3/0.7": Arm((0.3, 0.7)),
    "graded, 0.4/0.6, quantiles": Arm((0.4, 0.6), quantiles=True),
    "binary, epsilon 0.02": Arm(None, 0.02),
    "graded, 0.4/0.6, epsilon 0.02": Arm((0.4, 0.6), 0.02),
}
FIFTHS = tuple(f"AUC, quality {place} of 5" for place in range(1, 6))
SPEARMAN = {0: "Spearman, real", 1: "Spearman, forged"}


def worsen(rng: np.random.Generator, crop: np.ndarray, level: int) -> np.ndarray:
    """Less quality of one of four kinds, by chance; level 0 leaves a crop as it is."""
    kind = int(rng.integers(4))
    if not level:
        return crop
    if kind == 0:
        return np.asarray(cv2.GaussianBlur(crop, (0, 0), BLUR[level]))
    if kind == 1:
        side = round(SCALE[level] * len(crop))
        small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, crop.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    if kind == 2:
        return jpeg(crop, JPEG[level])
    return np.clip(crop + rng.normal(0.0, NOISE[level], crop.shape) + 0.5, 0, 255).astype(np.uint8)


def degrade(rng: np.random.Generator, crop: np.ndarray) -> np.ndarray:
    """Any level, all as likely."""
    return worsen(rng, crop, int(rng.integers(LEVELS)))


def blended(rng: np.random.Generator, face: StoredFace) -> tuple[np.ndarray, np.ndarray]:
    """A self-blended picture."""
    return self_blend(rng, face.pixels(), face.mesh)


def printed(rng: np.random.Generator, face: StoredFace) -> tuple[np.ndarray, np.ndarray]:
    """A transposed convolution's checkerboard within the face."""
    pixels = face.pixels()
    mask = blending_mask(rng, pixels.shape, face.mesh, local=0)
    return fingerprint(rng, pixels, "checkerboard", mask=mask), mask


KINDS: dict[str, Forge] = {BLEND: blended, BOARD: printed}


def quality_of_levels(faces: Sequence[StoredFace], size: int, seed: int) -> dict[str, float]:
    """Mean quality that the assessor finds in the real faces when all are brought to one level."""
    qualities = {}
    for level in range(LEVELS):
        rng = np.random.default_rng([seed, 4, level])
        crops = np.stack([worsen(rng, crop_of(face.pixels(), face, size), level) for face in faces])
        pictures = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
        qualities[f"quality, level {level}"] = float(classical_quality(pictures).mean())
    return qualities


def training_features(detector: DeepFidelity, pool: Pool, config: DetectionTrainConfig) -> Frozen:
    """Features of as many training faces as the method fits its own regressor on, varied as in training."""
    return frozen_features(detector, islice(batches(pool, config, CPU, config.steps), SUPPORT), SUPPORT)


def answers(arm: Arm, known: Frozen, asked: Tensor) -> np.ndarray:
    """An arm's fidelity of faces, (N, D) -> (N,), learnt from known ones."""
    targets = 1 - known.labels
    if arm.bands is not None:
        mapping = FidelityMapping(*arm.bands, quantiles=arm.quantiles)
        mapping.fit(known.quality, known.labels)
        targets = mapping(known.quality, known.labels)
    return fit_regressor(known.features, targets, arm.epsilon)(asked).numpy()


def numbers(held: Sequence[EvalFace], seen: Frozen, fidelity: np.ndarray) -> dict[str, float]:
    """All that is measured of one arm."""
    labels, quality, logits = seen.labels.numpy(), seen.quality.numpy(), -fidelity
    measures = {"AUC": auc(labels, logits), "AUC, hard": hard_auc(labels, logits, quality)}
    for family in KINDS:
        rows = np.array([face.family in ("real", family) for face in held])
        measures[f"AUC, {family}"] = auc(labels[rows], logits[rows])
    for label, name in SPEARMAN.items():
        correlation = rank_correlation(fidelity[labels == label], quality[labels == label])
        if correlation is not None:
            measures[name] = correlation
    for name, (_, _, own) in zip(FIFTHS, by_quality(quality), strict=True):
        if len(set(labels[own].tolist())) == 2:
            measures[name] = auc(labels[own], logits[own])
    return measures


def section(root: Path) -> str:
    """The experiment's part of the results page."""
    record = read_record(root, "deepfidelity/targets")
    settings, rows = record["settings"], record["rows"]
    first = [row for row in rows if row["arm"] == CLASSIFIER]
    levels = ", ".join(f"{np.mean([row[f'quality, level {level}'] for row in first]):.2f}" for level in range(LEVELS))
    shared = float(np.mean([row["AUC of low quality"] for row in first]))
    main = [row for row in rows if row["arm"] in (CLASSIFIER, BINARY, GRADED)]
    return f"""## DeepFidelity: graded against binary targets

Support vector regressions with graded targets (a band for each class, within it by quality) and with binary ones, on
the same features of one network a seed, and that network's own classifier: scale cpu from random weights,
{settings["size"]} px, {settings["steps"]} steps of 16 pairs; each regression has {SUPPORT} training faces, its free
error is 0.1 where no other is named. Forged are self-blends and faces with a transposed convolution's checkerboard; no
test subject is in a training picture. Both classes lose quality alike: blur, scaling, JPEG or noise at {LEVELS} levels,
on which the assessor gives real faces {levels} on average. Low quality alone, taken as a sign of forgery, has AUC
{shared:.3f}. "Hard" is the third of the forged faces of best quality against the third of the real ones of worst,
Spearman's correlation is that of fidelity with quality inside a class. In brackets: the difference from the binary
targets, seed by seed, with its 95 % interval.

{paired_table(rows, ["AUC", "AUC, hard", *(f"AUC, {family}" for family in KINDS)], BINARY)}

{paired_table(rows, list(SPEARMAN.values()), BINARY)}

AUC among faces of like quality, from the worst fifth to the best:

{paired_table(main, FIFTHS, BINARY)}
"""


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--size", type=int, default=64)
    options.add_argument("--faces", type=int, default=600, help="real faces of each source to train on, at most")
    options.add_argument("--held-faces", type=int, default=150, help="of each source to measure on, at most")
    options.add_argument("--pairs", type=int, default=4000)
    options.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    options.set_defaults(seeds=5, steps=900)
    chosen = options.parse_args()
    one_thread()
    faces = reals(chosen.data, chosen.work, "train", SOURCES, chosen.size, chosen.faces)
    test = reals(chosen.data, chosen.work, "test", SOURCES, chosen.size, chosen.held_faces)
    axis = {"blur": BLUR, "scale": SCALE, "jpeg": JPEG, "noise": NOISE}
    arms = {name: as_dict(arm) for name, arm in ARMS.items()}
    record = Record(chosen.record, settings_of(chosen, arms=arms, axis=axis), data_hash([*faces, *test]))
    for seed in range(chosen.seeds):
        if all(record.has(arm=arm, seed=seed) for arm in (CLASSIFIER, *ARMS)):
            continue
        pool = make_pool(faces, KINDS, chosen.pairs, chosen.size, seed, degrade)
        held = make_held(test, KINDS, chosen.size, seed, degrade)
        config = config_for("deepfidelity", chosen.size, pool, chosen.steps, seed, learning_rate=chosen.rate)
        torch.manual_seed(seed)
        detector = train(DeepFidelity(), pool, chosen.runs / "deepfidelity-targets" / str(seed), config)
        assert isinstance(detector, DeepFidelity)
        detector.fitted.fill_(0)  # the classifier speaks
        seen = frozen_features(detector, faces_in_batches(held, list(KINDS), CPU))
        if not record.has(arm=CLASSIFIER, seed=seed):
            quality = {"AUC of low quality": auc(seen.labels.numpy(), -seen.quality.numpy())}
            quality |= quality_of_levels(test, chosen.size, seed)
            record.add(arm=CLASSIFIER, seed=seed, **numbers(held, seen, -score(detector, held)), **quality)
        known = training_features(detector, pool, config)
        for name, arm in ARMS.items():
            if not record.has(arm=name, seed=seed):
                record.add(arm=name, seed=seed, **numbers(held, seen, answers(arm, known, seen.features)))


if __name__ == "__main__":
    main()
