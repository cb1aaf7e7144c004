"""The calibration of a pack on a data set: `unmask calibrate`. Lab only.

For imported detectors, which have none, and for any pack that is to be used on material of a known kind. The pack's own
engine scores the authentic and forged faces of the data set's cal split under every condition; the likelihood ratio is
fitted on that, and the pack is measured on the test split. Forgeries are those that the data set holds: none are made.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unmask.datasets.face_store import StoredFace
from unmask.datasets.manifest import Sample, manifest_sha256
from unmask.errors import DataError
from unmask.evidence.likelihood import decide, decision_for, likelihood_ratio
from unmask.evidence.report import Verdict
from unmask.forging.families import evaluation_order
from unmask.lab.detection.calibration import QUALITY_EDGES, Scored, fit_calibration
from unmask.lab.detection.config import DetectionPaths
from unmask.lab.detection.evaluate import condition_shown, quality_of, tables
from unmask.lab.detection.export import MIN_FACE_PX, MIN_QUALITY, card_metrics
from unmask.lab.detection.held_out import ALL_CONDITIONS, CLEAN, EvalFace, make_eval_images, render, select_pairs
from unmask.lab.detection.scoring import Scorer
from unmask.lab.detection.systems import pack_scorer
from unmask.lab.detection.validation import validation_of
from unmask.lab.evaluate import EVALUATION, write_evaluation
from unmask.lab.metrics import auc, interval, log_lr_cost, log_lr_cost_min, mean_interval, miss_rate, threshold_at
from unmask.lab.run import versions
from unmask.lab.task import Evaluation, Table
from unmask.packs import Pack, load_pack
from unmask.packs.card import Calibration, OperatingPoint
from unmask.packs.validation import LrValidation
from unmask.progress import SILENT, Progress

_TASK = "forgery_detection"
_METHOD = "balanced logistic regression per condition and quality bin (lir), bounded by ELUB; scores of the pack itself"
_EARLIER = ("Calibrated on ", "The figures on this card are ")  # limits that a new calibration replaces
_DRAWS = 400
_MOST = 400  # faces of a source or family that are scored
_FEWEST_FACES = 17  # of either class; each is scored under several conditions, but they are no more people for that


@dataclass(frozen=True)
class ScoredFaces:
    """Faces under one condition with the pack's logits, (N,)."""

    condition: str
    faces: list[EvalFace]
    logits: np.ndarray

    def apparent(self) -> list[str]:
        """The condition of every face as the runtime would tell it, by which the likelihood ratio is fitted."""
        return [condition_shown(face, self.condition) for face in self.faces]


@dataclass(frozen=True)
class Calibrated:
    """A pack with its new calibration.

    Attributes:
        pack: the new one.
        rows: which rows of the data set it was calibrated on, in words.
        evaluation: its figures, on the test split if there is one.
        tables: the same as tables.
    """

    pack: Pack
    rows: str
    evaluation: Evaluation
    tables: tuple[Table, ...]


def calibrate_pack(
    name: str | Path, paths: DetectionPaths, out: Path, progress: Progress = SILENT, command: str = ""
) -> Calibrated:
    """Calibrate a forgery detector's pack on a data set and write it as a new one.

    Args:
        name: an embedded pack, or a folder; an imported one has no calibration yet.
        paths: of the data set.
        out: folder of the new pack, which must not be there yet.
        progress: of the stages "finding faces" and "scoring".
        command: the command line, for the card.

    Raises:
        DataError: the folder is there; the data set has too few authentic or forged faces to calibrate on, or faces of
            a spectrum that the pack was not made for; before any work.
        PackError: no such pack, an altered one, or one of another task.
    """
    refuse_existing(out)
    pack = load_pack(name, _TASK, calibrated=False)
    card, samples = pack.card, paths.samples()
    rows, splits = calibration_rows(samples)
    chosen = [sample for sample in samples if sample.split in splits]
    _check(chosen, rows, card.spectra, card.name)
    measured = [sample for sample in samples if sample.split == "test" and "test" not in splits]
    if {sample.label for sample in measured} != {0, 1}:
        measured = []
    for sample in measured:
        _check_spectrum(sample, card.spectra, card.name)
    faces = paths.faces(progress)
    scorer, size, margin = pack_scorer(pack), card.input_size[0], card.crop_margin
    assert margin is not None  # a forgery detector's card is not complete without
    on = _some(replace(face, sample=replace(face.sample, split="cal")) for face in faces if face.sample.split in splits)
    scored = _score(on, "cal", scorer, size, margin, progress)
    counts = [sum(face.sample.label == label for face in on) for label in (0, 1)]
    about = f"{counts[0]} authentic and {counts[1]} forged faces of {paths.data.name} ({rows})"
    calibration = _fit(scored, f"{about}, {' / '.join(ALL_CONDITIONS)}")
    if card.calibration is not None:  # of which faces it says nothing is the pack's own matter
        own = card.calibration
        calibration = replace(calibration, min_quality=own.min_quality, min_face_px=own.min_face_px)
    points = tuple(_operating_points(next(one for one in scored if one.condition == CLEAN), about))
    if measured:
        result = Evaluation("test")
        tested = _some(face for face in faces if face.sample.split == "test")
        validated = _score(tested, "test", scorer, size, margin, progress)
        for one in validated:
            _measure(result, one, calibration)
        limits = [f"Calibrated on {about}: what the likelihood ratio is worth on other material is not known."]
    else:
        result, validated = Evaluation("cal"), scored
        for one in scored:
            _measure(result, one, calibration)
        limits = [
            f"Calibrated on {about}: what the likelihood ratio is worth on other material is not known.",
            "The figures on this card are of the faces that it was calibrated on; on others they are worse.",
        ]
        progress.note("the data set has no test split of both classes: the figures are of the faces calibrated on")
    record = {
        "data": paths.data.name,
        "rows": rows,
        "data_sha256": manifest_sha256(chosen),
        "command": command,
        "versions": versions(),
    }
    card = replace(
        card,
        metrics=tuple(card_metrics(result.metrics)),
        calibration=calibration,
        operating_points=points,
        validation=_validation(validated, calibration, paths.data.name if measured else about, command),
        protocol={**card.protocol, "calibrated": record},
        limits=(*limits, *(text for text in card.limits if not text.startswith(_EARLIER))),
    )
    with unfinished_folder(out) as part:
        shutil.copytree(pack.folder, part, dirs_exist_ok=True)
        card.write(part / "card.json")
        write_evaluation(result, f"{card.name} {card.version}", command, part / EVALUATION)
    return Calibrated(load_pack(out, _TASK), rows, result, tables(result))


def refuse_existing(out: Path) -> None:
    """Refuse a folder for a new pack that is there already.

    Raises:
        DataError: it is.
    """
    if out.exists():
        raise DataError(f"--out {out}: is there already, and nothing is overwritten; give the name of a new folder")


@contextmanager
def unfinished_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` when all is written in it, and is removed if something fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{out.name}.", dir=out.parent) as folder:
        part = Path(folder) / "pack"
        part.mkdir()
        yield part
        part.rename(out)


def calibration_rows(samples: Sequence[Sample]) -> tuple[str, frozenset[str]]:
    """Which rows to calibrate on: those of the cal split; without any, all but the test split; else all.

    Returns:
        The rows in words, and the splits.
    """
    there = frozenset(sample.split for sample in samples)
    if "cal" in there:
        return "its cal split", frozenset({"cal"})
    if there - {"test"}:
        return "all rows but its test split, for it has no cal split", there - {"test"}
    return "all its rows, for all are in the test split", there


def _check(samples: Sequence[Sample], rows: str, spectra: tuple[str, ...], name: str) -> None:
    for label, kind, remedy in (
        (0, "authentic", "add some"),
        (1, "forged", "add some, or make them from the authentic ones with `unmask forge`"),
    ):
        count = sum(sample.label == label for sample in samples)
        if count < _FEWEST_FACES:
            raise DataError(f"{count} {kind} faces to calibrate on ({rows}), and {_FEWEST_FACES} are needed; {remedy}")
    for sample in samples:
        _check_spectrum(sample, spectra, name)


def _check_spectrum(sample: Sample, spectra: tuple[str, ...], name: str) -> None:
    if sample.spectrum not in spectra:
        raise DataError(
            f"{sample.path}: spectrum {sample.spectrum}, but pack {name!r} is for {' and '.join(spectra)}; "
            "leave such rows out or take another pack"
        )


def _some(faces: Iterable[StoredFace]) -> list[StoredFace]:
    """At most `_MOST` faces of every source of authentic ones and of every family, so that memory stays bounded."""
    groups: dict[tuple[int, str], list[StoredFace]] = {}
    for face in faces:
        sample = face.sample
        groups.setdefault((sample.label, sample.family if sample.label else sample.source), []).append(face)
    rng = np.random.default_rng(0)
    # Not the first of them: these may be the frames of a single video.
    return [group[row] for group in groups.values() for row in sorted(rng.permutation(len(group))[:_MOST])]


def _score(
    faces: Sequence[StoredFace], split: str, scorer: Scorer, size: int, margin: float, progress: Progress
) -> list[ScoredFaces]:
    held = {face.sample.family for face in faces if face.sample.split == split and face.sample.label}
    pictures = make_eval_images(faces, split, held, most=_MOST)
    scored = []
    for number, condition in enumerate(ALL_CONDITIONS, start=1):
        shown = render(pictures, condition, size, margin)
        if {face.label for face in shown} != {0, 1}:
            raise DataError(f"no authentic or no forged face was found in the pictures of the split {split}; add some")
        scored.append(ScoredFaces(condition, shown, scorer(np.stack([face.crop for face in shown]))[0]))
        progress.update(f"scoring, {split}", number, len(ALL_CONDITIONS), f"{condition}, {len(shown)} faces")
    return scored


def _fit(scored: Iterable[ScoredFaces], data: str) -> Calibration:
    """The one place where the likelihood ratio is fitted."""
    rows = [
        Scored(float(logit), quality_of(face), face.label, face.family, face.source, condition=condition)
        for one in scored
        for face, logit, condition in zip(one.faces, one.logits, one.apparent(), strict=True)
    ]
    return replace(fit_calibration(rows, QUALITY_EDGES, data, MIN_QUALITY, MIN_FACE_PX), method=_METHOD)


def _validation(
    scored: Iterable[ScoredFaces], calibration: Calibration, data: str, command: str
) -> LrValidation | None:
    """The spread of likelihood ratios of clean faces, refused ones left out."""
    clean = next(one for one in scored if one.condition == CLEAN)
    values, labels, groups = [], [], []
    refused = [0, 0]
    for face, logit, condition in zip(clean.faces, clean.logits, clean.apparent(), strict=True):
        quality = quality_of(face)
        fit = calibration.bin_of(quality, condition)
        unfit = fit is None or fit.tells_nothing or decision_for(calibration, condition) is None
        if unfit or quality < calibration.min_quality:
            refused[face.label] += 1
            continue
        values.append(likelihood_ratio(calibration, float(logit), quality, condition))
        labels.append(face.label)
        groups.append(face.family if face.label else face.source)
    if {0, 1} - set(labels):
        return None
    about = f"clean faces of {data}, sources and families weighing alike"
    return validation_of(values, labels, groups, about, (refused[0], refused[1]), command)


def _operating_points(one: ScoredFaces, data: str) -> Iterable[OperatingPoint]:
    """Score thresholds at 1 % and 10 % false alarms."""
    labels = np.array([face.label for face in one.faces])
    real, forged = one.logits[labels == 0], one.logits[labels == 1]
    for rate in (0.01, 0.10):
        threshold = threshold_at(real, rate)
        yield OperatingPoint(
            name=f"false alarms {rate:.0%}",
            threshold=round(float(1 / (1 + np.exp(-threshold))), 6),
            false_alarm_rate=round(float((real > threshold).mean()), 4),
            hit_rate=round(float((forged > threshold).mean()), 4),
            dataset=data,
        )


def _measure(result: Evaluation, one: ScoredFaces, calibration: Calibration) -> None:
    """Discrimination and cost by family, and how often each verdict is given, under one condition."""
    conditions = one.apparent()
    llrs = np.array(
        [
            likelihood_ratio(calibration, float(logit), quality_of(face), condition)
            for face, logit, condition in zip(one.faces, one.logits, conditions, strict=True)
        ]
    )
    place = {id(face): number for number, face in enumerate(one.faces)}
    for family in evaluation_order({face.family for face in one.faces if face.label}):
        some = select_pairs(family, one.faces)
        rows = [place[id(face)] for face in some]
        labels, subjects = np.array([face.label for face in some]), [face.subject for face in some]
        if len(set(labels.tolist())) < 2:
            continue
        statistics = {"auc": auc, "miss_at_1%": miss_rate(0.01), "miss_at_10%": miss_rate(0.10)}
        for name, statistic in statistics.items():
            values = interval(statistic, labels, one.logits[rows], subjects, draws=_DRAWS)
            result.add(family, name, one.condition, *values, labels)
        for name, cost in (("cllr", log_lr_cost), ("cllr_min", log_lr_cost_min)):
            result.add(family, name, one.condition, cost(labels, llrs[rows]), None, None, labels)
    verdicts = [decide(float(llr), calibration, condition) for llr, condition in zip(llrs, conditions, strict=True)]
    for family in dict.fromkeys(["real", *(face.family for face in one.faces)]):
        # Reals that were brought to a forgery's size stand beside it, not among the reals as they came.
        rows = [n for n, f in enumerate(one.faces) if f.family == family and (f.label or "@" not in f.source)]
        labels, subjects = np.array([one.faces[n].label for n in rows]), [one.faces[n].subject for n in rows]
        for verdict in (Verdict.FORGED, Verdict.AUTHENTIC):
            said = np.array([float(verdicts[n] is verdict) for n in rows])
            share = mean_interval(said, subjects, draws=_DRAWS)
            result.add(family, f"verdict_{verdict.value}", one.condition, *share, labels)
