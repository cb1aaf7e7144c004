"""The evaluation of a detector on held-out faces: what `unmask evaluate` prints, and what a card quotes. Lab only.

Every number but Cllr has a 95 % interval by bootstrap over subjects. Beside each AUC stands the trivial opponent, a
linear classifier on the radial spectrum trained on the training split of the same family (of all families for one never
trained on).
"""

from collections.abc import Iterable, Sequence

import numpy as np

from unmask.datasets.face_store import StoredFace
from unmask.evidence.likelihood import decide, likelihood_ratio
from unmask.evidence.report import Verdict
from unmask.faces.condition import condition_of
from unmask.faces.finding import FoundFace
from unmask.faces.quality import assess_quality
from unmask.forgery.spectrum import SpectrumClassifier
from unmask.forging.families import evaluation_order, made_here
from unmask.forging.families import family as record_of
from unmask.lab.detection.held_out import (
    ALL_CONDITIONS,
    CLEAN,
    VIDEO,
    EvalFace,
    eval_faces,
    make_eval_images,
    render,
    select_pairs,
)
from unmask.lab.detection.reconstructions import Reconstructions
from unmask.lab.detection.scoring import Scorer
from unmask.lab.metrics import auc, by_quality, interval, log_lr_cost, log_lr_cost_min, mean_interval, miss_rate
from unmask.lab.task import Evaluation, Table
from unmask.packs.card import Calibration, Metric
from unmask.progress import SILENT, Progress


def families_of(faces: Sequence[StoredFace], split: str) -> list[str]:
    """The forged families that a split can be tested on: those made here from its reals, and those it holds."""
    held = {face.sample.family for face in faces if face.sample.split == split and face.sample.label}
    return evaluation_order(held | set(made_here()))


def quality_of(face: EvalFace) -> float:
    """Unified quality, 0-100, of a held-out face as the runtime would assess it."""
    return assess_quality(face.picture, FoundFace(face.box, face.points, 1.0)).unified


def condition_shown(face: EvalFace, condition: str) -> str:
    """The condition of a held-out face as the runtime would tell it, of a picture rendered under a condition."""
    return condition_of(face.crop, video=condition == VIDEO)


def evaluate(
    faces: Sequence[StoredFace],
    split: str,
    scorer: Scorer,
    size: int,
    margin: float,
    calibration: Calibration | None = None,
    reconstructions: Reconstructions | None = None,
    conditions: Iterable[str] = ALL_CONDITIONS,
    seed: int = 0,
    most: int = 250,
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate a scorer.

    Args:
        faces: of a store; those of `split` are tested, those of "train" teach the spectrum classifier.
        split: "val" or "test".
        scorer: crops uint8 (N, S, S, 3) -> logits (N,), maps (N, h, w) in [0, 1].
        size, margin: of the context crop.
        calibration: for Cllr and verdicts; they are left out without one.
        reconstructions: of the split's reals, for families that need them.
        seed, most: of the forgeries made here, and reals per source.
        progress: of the stage "scoring", in conditions.
    """
    result, families = Evaluation(split), families_of(faces, split)
    spectra = _spectrum_classifiers(faces, size, margin, seed)
    pictures = make_eval_images(faces, split, families, reconstructions, seed, most)
    conditions = tuple(conditions)
    for number, condition in enumerate(conditions, start=1):
        held = render(pictures, condition, size, margin)
        crops = np.stack([face.crop for face in held])
        logits, maps = scorer(crops)
        progress.update("scoring", number, len(conditions), f"{condition}, {len(held)} faces")
        row = {id(face): number for number, face in enumerate(held)}
        llrs, shown = None, []
        if calibration is not None:
            shown = [condition_shown(face, condition) for face in held]
            llrs = np.array(
                [
                    likelihood_ratio(calibration, float(logit), quality_of(face), own)
                    for face, logit, own in zip(held, logits, shown, strict=True)
                ]
            )
        for family in families:
            some = select_pairs(family, held)
            labels = np.array([face.label for face in some])
            if len(set(labels.tolist())) < 2:
                continue
            rows = [row[id(face)] for face in some]
            spectrum = spectra.get(family, spectra["all"]).logits(crops[rows])
            _discrimination(result, family, condition, some, labels, logits[rows], spectrum)
            if llrs is not None:
                for name, cost in (("cllr", log_lr_cost), ("cllr_min", log_lr_cost_min)):
                    result.add(family, name, condition, cost(labels, llrs[rows]), None, None, labels)
        if calibration is not None and llrs is not None:
            verdicts = [decide(float(llr), calibration, own) for llr, own in zip(llrs, shown, strict=True)]
            _verdicts(result, condition, held, verdicts)
        _between_sources(result, condition, held, logits)
        if condition == CLEAN:
            _by_quality(result, held, logits)
            _localisation(result, held, maps)
    return result


def _discrimination(
    result: Evaluation,
    family: str,
    condition: str,
    some: Sequence[EvalFace],
    labels: np.ndarray,
    logits: np.ndarray,
    spectrum: np.ndarray,
) -> None:
    subjects = [face.subject for face in some]
    statistics = {"auc": auc, "miss_at_1%": miss_rate(0.01), "miss_at_10%": miss_rate(0.10)}
    for name, statistic in statistics.items():
        value, low, high = interval(statistic, labels, logits, subjects, draws=400)
        result.add(family, name, condition, value, low, high, labels)
    value, low, high = interval(auc, labels, spectrum, subjects, draws=400)
    result.add(family, "auc_spectrum", condition, value, low, high, labels)


def _verdicts(result: Evaluation, condition: str, held: Sequence[EvalFace], verdicts: Sequence[Verdict]) -> None:
    """How often the verdict is "forged" and how often "authentic", on all reals as they came and on every family.

    Faces that the runtime would refuse are judged too: all numbers here are on the same faces.
    """
    for family in dict.fromkeys(["real", *(face.family for face in held)]):
        rows = [i for i, face in enumerate(held) if face.family == family and (face.label or "@" not in face.source)]
        if not rows:
            continue
        labels, subjects = np.array([held[i].label for i in rows]), [held[i].subject for i in rows]
        for verdict in (Verdict.FORGED, Verdict.AUTHENTIC):
            said = np.array([float(verdicts[i] is verdict) for i in rows])
            share = mean_interval(said, subjects, draws=400)
            result.add(family, f"verdict_{verdict.value}", condition, *share, labels)


def _between_sources(result: Evaluation, condition: str, held: Sequence[EvalFace], logits: np.ndarray) -> None:
    """Reals of one source against reals of another: one half is right, anything else is a learned source."""
    sources = sorted({face.source for face in held if not face.label and "@" not in face.source})
    for a, first in enumerate(sources):
        for second in sources[a + 1 :]:
            rows = [i for i, face in enumerate(held) if not face.label and face.source in (first, second)]
            labels = np.array([int(held[i].source == second) for i in rows])
            value, low, high = interval(auc, labels, logits[rows], [held[i].subject for i in rows], draws=400)
            result.add(f"{first} vs {second}", "auc_real_vs_real", condition, value, low, high, labels)


def _by_quality(result: Evaluation, held: Sequence[EvalFace], logits: np.ndarray) -> None:
    """All forgeries against all reals as they came, in fifths of the unified quality of all of these faces."""
    rows = np.array([i for i, face in enumerate(held) if face.label or "@" not in face.source])
    quality = np.array([quality_of(held[i]) for i in rows])
    for low_end, high_end, places in by_quality(quality):
        own = rows[places]
        labels = np.array([held[i].label for i in own])
        if len(set(labels.tolist())) == 2:
            name = f"quality {low_end:.0f}-{high_end:.0f}"
            value, low, high = interval(auc, labels, logits[own], [held[i].subject for i in own], draws=400)
            result.add(name, "auc_by_quality", CLEAN, value, low, high, labels)


def _localisation(result: Evaluation, held: Sequence[EvalFace], maps: np.ndarray) -> None:
    """Pointing and IoU against masks; on CIPLAB, whether edited features are hotter than untouched ones of the face."""
    for family in (name for name in evaluation_order({face.family for face in held}) if record_of(name).localisable):
        values: dict[str, list[float]] = {"pointing": [], "pointing_chance": [], "iou": []}
        subjects = []
        for face, heat in zip(held, maps, strict=True):
            if face.family != family or face.mask is None:
                continue
            truth = face.mask > 0.5 * max(float(face.mask.max()), 1e-6)
            if truth.any():
                heat = _on_grid(heat, truth.shape)
                said = heat > 0.5
                values["pointing"].append(float(truth.ravel()[int(heat.argmax())]))
                values["pointing_chance"].append(float(truth.mean()))
                values["iou"].append(float((said & truth).sum() / max((said | truth).sum(), 1)))
                subjects.append(face.subject)
        if subjects:
            labels = np.ones(len(subjects), int)
            for name, column in values.items():
                result.add(family, name, CLEAN, *mean_interval(np.array(column), subjects), labels)
    for family in dict.fromkeys(face.family for face in held if face.regions):
        _region_agreement(result, family, held, maps)


def _region_agreement(result: Evaluation, family: str, held: Sequence[EvalFace], maps: np.ndarray) -> None:
    agreements, subjects = [], []
    for face, heat in zip(held, maps, strict=True):
        if face.family != family:
            continue
        edited = [_inside(heat, cells) for cells, flag in face.regions if flag]
        spared = [_inside(heat, cells) for cells, flag in face.regions if not flag]
        agreements += [0.5 if np.isclose(a, b, rtol=1e-5) else float(a > b) for a in edited for b in spared]
        subjects += [face.subject] * (len(edited) * len(spared))
    if agreements:
        share = mean_interval(np.array(agreements), subjects)
        result.add(family, "region_agreement", CLEAN, *share, np.ones(len(agreements), int))


def _on_grid(heat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    import cv2

    return heat if heat.shape == shape else cv2.resize(heat, shape[::-1], interpolation=cv2.INTER_LINEAR)


def _inside(heat: np.ndarray, cells: np.ndarray) -> float:
    return float((_on_grid(heat, cells.shape) * cells).sum() / max(float(cells.sum()), 1e-6))


def _spectrum_classifiers(
    faces: Sequence[StoredFace], size: int, margin: float, seed: int
) -> dict[str, SpectrumClassifier]:
    families = families_of(faces, "train")
    train = eval_faces(faces, "train", families, CLEAN, size, margin, None, seed, most=150)
    classifiers = {}
    for family in (*families, "all"):
        some = train if family == "all" else select_pairs(family, train)
        labels = np.array([face.label for face in some])
        if len(set(labels.tolist())) == 2:
            classifiers[family] = SpectrumClassifier().fit(np.stack([face.crop for face in some]), labels)
    return classifiers


def tables(result: Evaluation) -> tuple[Table, ...]:
    """The evaluation as tables: by family and condition, between sources, by quality, verdicts, localisation."""
    named = [metric.name for metric in result.metrics]

    def metrics(*names: str) -> list[Metric]:
        return [metric for metric in result.metrics if metric.name in names]

    def beside(metric: Metric, *names: str) -> tuple[Metric | None, ...]:
        return tuple(result.value(metric.dataset, name, metric.condition) for name in names)

    costs = ("auc_spectrum", "miss_at_1%", "miss_at_10%", "cllr", "cllr_min")
    heads = ("spectrum AUC", "miss at 1 %", "miss at 10 %", "Cllr", "Cllr min")
    made = [
        Table(
            ("family", "condition", "AUC [95 %]", *heads, "real / forged"),
            tuple((m.dataset, m.condition, m, *beside(m, *costs), counts(m)) for m in metrics("auc")),
            frozenset(heads),
        ),
        Table(
            ("reals", "condition", "AUC [95 %]"),
            tuple((m.dataset, m.condition, m) for m in metrics("auc_real_vs_real")),
        ),
    ]
    if "auc_by_quality" in named:
        rows = tuple((m.dataset, m, counts(m)) for m in metrics("auc_by_quality"))
        made.append(Table(("all families, faces of", "AUC [95 %]", "real / forged"), rows))
    if "verdict_forged" in named:
        verdicts = tuple(
            (m.dataset, m.condition, m, *beside(m, "verdict_authentic"), str(m.n_real + m.n_forged))
            for m in metrics("verdict_forged")
        )
        made.append(Table(("faces", "condition", '"forged" [95 %]', '"authentic" [95 %]', "number"), verdicts))
    local = metrics("pointing", "pointing_chance", "iou", "region_agreement")
    made.append(Table(("localisation", "measure", "value [95 %]"), tuple((m.dataset, m.name, m) for m in local)))
    return tuple(made)


def counts(metric: Metric) -> str:
    """ "REAL / FORGED" faces behind a number."""
    return f"{metric.n_real} / {metric.n_forged}"
