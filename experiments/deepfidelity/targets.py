"""Graded or binary targets for the regression on frozen features: which tells forged faces from real ones, and where?

    PYTHONPATH=experiments python experiments/deepfidelity/targets.py RECORD.json --data DATA [--work DIR] [--runs DIR]

One network for each seed learns two families, self-blends and a decoder's checkerboard, as an ordinary classifier; all
arms are regressors on its features. Faces of both classes lose quality by chance: blur, scaling, JPEG or noise at five
levels, drawn apart for a forgery and its real picture, so that the level says nothing about the label.

Targets are graded by two assessors. SER-FIQ, the paper's, is the agreement of an embedding under dropout: SFace has one
dropout, before its last layer, as the network has with which SER-FIQ was published. What comes before it is computed
once a face, the layer behind it for every pass. The stretch of SER-FIQ's published code is left out: its numbers are
those of another network, and the targets' mapping stretches anyway. Crops are brought to the recogniser's template by
one similarity for all, by where the training faces have their landmarks on average. The other assessor is this
project's classical one.

Rule, written before the runs: graded targets are said to help if the 95 % paired interval (Student's, over the seeds)
of the AUC against the binary targets lies above 0 with SER-FIQ's targets and bands up to 0.4 and from 0.6, the paper's;
to harm if it lies below 0; else no difference is seen. The same holds of the AUC on the hard quadrant, by SER-FIQ's
quality. Nothing was chosen on the test split; all arms share the network, whose learning rate favours none.

Processes with an --only-seed each may run side by side and share the record.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from common import (
    MARGIN,
    Forge,
    Laps,
    Record,
    as_dict,
    by_seed,
    config_for,
    crop_of,
    data_hash,
    has_record,
    make_held,
    make_pool,
    minutes_of,
    one_thread,
    paired_table,
    parser,
    read_record,
    reals,
    score,
    seeds_of,
    settings_of,
    train,
    without_record,
)
from torch import Tensor

from unmask.datasets.face_store import StoredFace
from unmask.faces.alignment import alignment_matrix, context_region
from unmask.forgery.deepfidelity import (
    CLASSICAL,
    Assessor,
    DeepFidelity,
    FidelityMapping,
    Frozen,
    fit_regressor,
    frozen_features,
    stability,
)
from unmask.forging.blending import blending_mask, self_blend
from unmask.forging.degradation import jpeg
from unmask.forging.upsampling import fingerprint
from unmask.lab.detection.feed import batches, faces_in_batches
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.metrics import auc, by_quality, hard_auc, rank_correlation
from unmask.networks.contract import Batch
from unmask.networks.identity import IdentityEmbedder, align_faces

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
    """A regressor's targets: where the bands end, or None for 1 - label, its free error, and who judges quality."""

    bands: tuple[float, float] | None
    epsilon: float = 0.1
    quantiles: bool = False
    assessor: str = "classical"


CLASSIFIER, BINARY, GRADED, SER_FIQ = "classifier", "binary", "graded, 0.4/0.6", "graded by SER-FIQ, 0.4/0.6"
ARMS: dict[str, Arm] = {
    BINARY: Arm(None),
    GRADED: Arm((0.4, 0.6)),
    SER_FIQ: Arm((0.4, 0.6), assessor="SER-FIQ"),
    "graded by SER-FIQ, 0.4/0.6, quantiles": Arm((0.4, 0.6), quantiles=True, assessor="SER-FIQ"),
    "graded by SER-FIQ, 0.4/0.6, epsilon 0.02": Arm((0.4, 0.6), 0.02, assessor="SER-FIQ"),
    "graded, 0.5/0.5": Arm((0.5, 0.5)),
    "graded, 0.3/0.7": Arm((0.3, 0.7)),
    "graded, 0.4/0.6, quantiles": Arm((0.4, 0.6), quantiles=True),
    "binary, epsilon 0.02": Arm(None, 0.02),
    "graded, 0.4/0.6, epsilon 0.02": Arm((0.4, 0.6), 0.02),
}
FIFTHS = tuple(f"AUC, quality {place} of 5" for place in range(1, 6))
SPEARMAN = {0: "Spearman, real", 1: "Spearman, forged"}
DROPOUT = 0.5  # of SFace's graph, which has the standard's default
PASSES = 50
TITLE = "DeepFidelity: graded against binary targets"


class SerFiq:
    """SER-FIQ with SFace: crops (B, 3, S, S) in [0, 1] -> (B,); the features before the dropout are computed once.

    Args:
        faces: whose mean place of the landmarks says how a crop is brought to the recogniser's template.
        size: of the crops.
    """

    def __init__(self, faces: Sequence[StoredFace], size: int) -> None:
        marks = []
        for face in faces:
            left, top, side = context_region((face.side, face.side), face.box, MARGIN)
            marks.append((face.landmarks - (left, top)) * size / side)
        self._matrix = alignment_matrix(np.mean(marks, axis=0))
        self._network = SplitSFace()

    @torch.no_grad()
    def __call__(self, crops: Tensor) -> Tensor:
        """Quality (B,); the same parts are dropped in all pictures, and the same whenever it is called."""
        before = []
        for some in crops.split(32):
            aligned = align_faces(some, np.repeat(self._matrix[None], len(some), 0))
            before.append(self._network.before_dropout(aligned.contiguous(memory_format=torch.channels_last)))
        features = torch.cat(before)
        generator = torch.Generator().manual_seed(0)
        passes = []
        for _ in range(PASSES):
            kept = (torch.rand(features.shape[1], generator=generator) >= DROPOUT).float() / (1 - DROPOUT)
            passes.append(self._network.after_dropout(features * kept))
        return stability(torch.stack(passes))


class SplitSFace(IdentityEmbedder):
    """SFace in two parts, before its dropout and behind it."""

    def _split(self) -> int:
        return [node.op_type for node in self._nodes].index("Dropout")

    def before_dropout(self, faces: Tensor) -> Tensor:
        """Aligned faces (B, 3, 112, 112) in [0, 1] to features (B, D)."""
        return self.computed({self._input: faces * 255}, self._nodes[: self._split()]).flatten(1)

    def after_dropout(self, features: Tensor) -> Tensor:
        """Features (B, D) to embeddings (B, 128), not of length 1."""
        rest = self._nodes[self._split() + 1 :]
        return self.computed({rest[0].input[0]: features}, rest)


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


def quality_of_levels(faces: Sequence[StoredFace], size: int, seed: int, assessor: Assessor) -> dict[str, float]:
    """Mean quality that an assessor finds in every eighth real face when all are brought to one level."""
    qualities = {}
    for level in range(LEVELS):
        rng = np.random.default_rng([seed, 4, level])
        crops = np.stack([worsen(rng, crop_of(face.pixels(), face, size), level) for face in faces[::8]])
        pictures = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
        qualities[f"{assessor.name}, level {level}"] = float(assessor.judge(pictures).mean())
    return qualities


Judged = dict[str, Frozen]
"""By assessor: features, quality and labels of the same faces."""


def judged(
    detector: DeepFidelity, batches: Iterable[Batch], assessors: Sequence[Assessor], most: int | None = None
) -> Judged:
    """Features of faces, and their quality by every assessor."""
    # A batch holds several faces: so many are enough.
    kept = list(batches if most is None else islice(batches, -(-most // 32)))
    frozen: Judged = {}
    for assessor in assessors:
        detector.assessor = assessor
        frozen[assessor.name] = frozen_features(detector, kept, most)
    return frozen


def answers(arm: Arm, known: Judged, asked: Tensor) -> np.ndarray:
    """An arm's fidelity of faces, (N, D) -> (N,), learnt from known ones."""
    own = known[arm.assessor]
    targets = 1 - own.labels
    if arm.bands is not None:
        mapping = FidelityMapping(*arm.bands, quantiles=arm.quantiles)
        mapping.fit(own.quality, own.labels)
        targets = mapping(own.quality, own.labels)
    return fit_regressor(own.features, targets, arm.epsilon)(asked).numpy()


def numbers(held: Sequence[EvalFace], seen: Judged, fidelity: np.ndarray) -> dict[str, float]:
    """All that is measured of one arm."""
    labels, logits = seen["classical"].labels.numpy(), -fidelity
    measures = {"AUC": auc(labels, logits)}
    for family in KINDS:
        rows = np.array([face.family in ("real", family) for face in held])
        measures[f"AUC, {family}"] = auc(labels[rows], logits[rows])
    for assessor, frozen in seen.items():
        quality = frozen.quality.numpy()
        measures[f"AUC, hard by {assessor}"] = hard_auc(labels, logits, quality)
        for label, name in SPEARMAN.items():
            correlation = rank_correlation(fidelity[labels == label], quality[labels == label])
            if correlation is not None:
                measures[f"{name}, {assessor}"] = correlation
    for name, (_, _, own) in zip(FIFTHS, by_quality(seen["SER-FIQ"].quality.numpy()), strict=True):
        if len(set(labels[own].tolist())) == 2:
            measures[name] = auc(labels[own], logits[own])
    return measures


def section(root: Path) -> str:
    """The experiment's part of the results page."""
    rows = read_record(root, "deepfidelity/targets")["rows"] if has_record(root, "deepfidelity/targets") else []
    if {row["arm"] for row in rows} != {CLASSIFIER, *ARMS}:
        return without_record(TITLE)
    settings = read_record(root, "deepfidelity/targets")["settings"]
    first = [row for row in rows if row["arm"] == CLASSIFIER]
    levels, shared = {}, {}
    for name in ("classical", "SER-FIQ"):
        values = [np.mean([row[f"{name}, level {level}"] for row in first]) for level in range(LEVELS)]
        levels[name] = ", ".join(f"{value:.3f}" for value in values)
        shared[name] = float(np.mean([row[f"AUC of low quality, {name}"] for row in first]))
    agree = float(np.mean([row["Spearman of the assessors"] for row in first]))
    main = [row for row in rows if row["arm"] in (CLASSIFIER, BINARY, GRADED, SER_FIQ)]
    hard = [f"AUC, hard by {name}" for name in ("SER-FIQ", "classical")]
    spearman = [f"{name}, {assessor}" for assessor in ("SER-FIQ", "classical") for name in SPEARMAN.values()]
    return f"""## {TITLE}

Support vector regressions with graded targets (a band for each class, within it by quality) and with binary ones, on
the same features of one network a seed, and that network's own classifier: scale cpu from random weights,
{settings["size"]} px, {settings["steps"]} steps of 16 pairs; each regression has {settings["support"]} training faces,
its free error is 0.1 where no other is named. Forged are self-blends and faces with a transposed convolution's
checkerboard; no test subject is in a training picture. Both classes lose quality alike: blur, scaling, JPEG or noise at
{LEVELS} levels. Quality is judged by the classical assessor, or by SER-FIQ: how far the embeddings of SFace agree in
{PASSES} passes with dropout before its last layer. On the levels the classical assessor gives real faces
{levels["classical"]} on average, SER-FIQ {levels["SER-FIQ"]}; Spearman's correlation of the two is {agree:.2f}. Low
quality alone, taken as a sign of forgery, has AUC {shared["classical"]:.3f} and {shared["SER-FIQ"]:.3f}. "Hard" is the
third of the forged faces of best quality against the third of the real ones of worst, Spearman's correlation in the
table is that of fidelity with quality inside a class. In brackets: the difference from the binary targets, seed by
seed, with its 95 % interval. All of this took {minutes_of(rows)}.

Rule, written before the runs: graded targets are said to help if the interval of their AUC lies above 0 with SER-FIQ's
quality and bands up to 0.4 and from 0.6, to harm if it lies below; the same on the hard faces.

{paired_table(rows, ["AUC", *hard, *(f"AUC, {family}" for family in KINDS)], BINARY)}

{paired_table(rows, spearman, BINARY)}

AUC among faces of like quality by SER-FIQ, from the worst fifth to the best:

{paired_table(main, FIFTHS, BINARY)}
"""


def main() -> None:
    options = parser(__doc__ or "")
    by_seed(options)
    options.add_argument("--size", type=int, default=64)
    options.add_argument("--faces", type=int, default=600, help="real faces of each source to train on, at most")
    options.add_argument("--held-faces", type=int, default=100, help="of each source to measure on, at most")
    options.add_argument("--pairs", type=int, default=3000)
    options.add_argument("--support", type=int, default=1000, help="training faces of a regression")
    options.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    options.set_defaults(seeds=5, steps=600)
    chosen = options.parse_args()
    one_thread()
    laps = Laps()
    faces = reals(chosen.data, chosen.work, "train", SOURCES, chosen.size, chosen.faces)
    test = reals(chosen.data, chosen.work, "test", SOURCES, chosen.size, chosen.held_faces)
    axis = {"blur": BLUR, "scale": SCALE, "jpeg": JPEG, "noise": NOISE}
    arms = {name: as_dict(arm) for name, arm in ARMS.items()}
    settings = settings_of(chosen, arms=arms, axis=axis, dropout=DROPOUT, passes=PASSES)
    record = Record(chosen.record, settings, data_hash([*faces, *test]))
    assessors = (Assessor("classical", CLASSICAL.judge), Assessor("SER-FIQ", SerFiq(faces, chosen.size)))
    for seed in seeds_of(chosen):
        if all(record.has(arm=arm, seed=seed) for arm in (CLASSIFIER, *ARMS)):
            continue
        pool = make_pool(faces, KINDS, chosen.pairs, chosen.size, seed, degrade)
        held = make_held(test, KINDS, chosen.size, seed, degrade)
        config = config_for("deepfidelity", chosen.size, pool, chosen.steps, seed, learning_rate=chosen.rate)
        torch.manual_seed(seed)
        detector = train(DeepFidelity(), pool, chosen.runs / "deepfidelity-targets" / str(seed), config)
        assert isinstance(detector, DeepFidelity)
        detector.fitted.fill_(0)  # the classifier speaks
        seen = judged(detector, faces_in_batches(held, list(KINDS), CPU), assessors)
        if not record.has(arm=CLASSIFIER, seed=seed):
            labels = seen["classical"].labels.numpy()
            quality = {f"AUC of low quality, {name}": auc(labels, -own.quality.numpy()) for name, own in seen.items()}
            for assessor in assessors:
                quality |= quality_of_levels(test, chosen.size, seed, assessor)
            both = rank_correlation(*(own.quality.numpy() for own in seen.values()))
            quality |= {} if both is None else {"Spearman of the assessors": both}
            measures = numbers(held, seen, -score(detector, held))
            record.add(arm=CLASSIFIER, seed=seed, **measures, **quality, **laps.lap())
        known = judged(detector, batches(pool, config, CPU, config.steps), assessors, chosen.support)
        features = seen["classical"].features
        for name, arm in ARMS.items():
            if not record.has(arm=name, seed=seed):
                record.add(arm=name, seed=seed, **numbers(held, seen, answers(arm, known, features)), **laps.lap())


if __name__ == "__main__":
    main()
