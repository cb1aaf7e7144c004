"""The evaluation of a detector on held-out faces: what `unmask evaluate` prints, and what a card quotes. Lab only.

Every number but Cllr has a 95 % interval by bootstrap over subjects. Beside each AUC stands the trivial opponent, a
linear classifier on the radial spectrum trained on the training split of the same family (of all families for one never
trained on).
"""

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from unmask.datasets.face_store import StoredFace
from unmask.evidence.likelihood import decide, likelihood_ratio
from unmask.evidence.report import Verdict
from unmask.faces.finding import FoundFace
from unmask.faces.quality import assess_quality
from unmask.forgery.spectrum import SpectrumClassifier
from unmask.lab.detection.held_out import CONDITIONS, Face, held_out, make_pictures, pairing, show
from unmask.lab.detection.pairs_pool import MADE, Twins
from unmask.lab.detection.scoring import Scorer
from unmask.lab.detection.systems import find_detector, test_twins
from unmask.lab.detection.train import Workshop
from unmask.lab.metrics import auc, by_quality, interval, log_lr_cost, log_lr_cost_min, mean_interval, miss_rate
from unmask.lab.run import versions
from unmask.packs.card import Calibration, Metric

FAMILIES = ("stylegan", "mobilestylegan", "ciplab", "selfblend", "swap", "resynthesis", "pggan")


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one detector: one `Metric` each, as a card holds them."""

    split: str
    metrics: list[Metric] = field(default_factory=list)

    def value(self, dataset: str, name: str, condition: str = "as is") -> Metric | None:
        """The metric of that name, if there is one."""
        for metric in self.metrics:
            if (metric.dataset, metric.name, metric.condition) == (dataset, name, condition):
                return metric
        return None


def families_of(faces: Sequence[StoredFace], split: str) -> list[str]:
    """The forged families that a split can be tested on: those made here from its reals, and those it holds."""
    held = {face.sample.family for face in faces if face.sample.split == split and face.sample.label}
    known = [family for family in FAMILIES if family in held | set(MADE)]
    return known + sorted(held - set(FAMILIES))


def quality_of(face: Face) -> float:
    """Unified quality, 0-100, of a held-out face as the runtime would assess it."""
    return assess_quality(face.picture, FoundFace(face.box, face.points, 1.0)).unified


def evaluate(
    faces: Sequence[StoredFace],
    split: str,
    scorer: Scorer,
    size: int,
    margin: float,
    calibration: Calibration | None = None,
    twins: Twins | None = None,
    conditions: Iterable[str] = CONDITIONS,
    seed: int = 0,
    most: int = 250,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Evaluate a scorer.

    Args:
        faces: of a store; those of `split` are tested, those of "train" teach the spectrum classifier.
        split: "val" or "test".
        scorer: crops uint8 (N, S, S, 3) -> logits (N,), maps (N, h, w) in [0, 1].
        size, margin: of the context crop.
        calibration: for Cllr and verdicts; they are left out without one.
        twins: of the split's reals, for the re-synthesis family.
        seed, most: of the forgeries made here, and reals per source.
        progress: called with a line per condition.
    """
    result, families = Evaluation(split), families_of(faces, split)
    spectra = _spectrum_classifiers(faces, size, margin, seed)
    pictures = make_pictures(faces, split, families, twins, seed, most)
    for condition in conditions:
        held = show(pictures, condition, size, margin)
        crops = np.stack([face.crop for face in held])
        logits, maps = scorer(crops)
        if progress:
            progress(f"{condition}: {len(held)} faces")
        row = {id(face): number for number, face in enumerate(held)}
        llrs = None
        if calibration is not None:
            llrs = np.array(
                [likelihood_ratio(calibration, float(v), quality_of(f)) for f, v in zip(held, logits, strict=True)]
            )
        for family in families:
            some = pairing(family, held)
            labels = np.array([face.label for face in some])
            if len(set(labels.tolist())) < 2:
                continue
            rows = [row[id(face)] for face in some]
            spectrum = spectra.get(family, spectra["all"]).logits(crops[rows])
            _discrimination(result, family, condition, some, labels, logits[rows], spectrum)
            if llrs is not None:
                for name, cost in (("cllr", log_lr_cost), ("cllr_min", log_lr_cost_min)):
                    add(result, family, name, condition, cost(labels, llrs[rows]), None, None, labels)
        if calibration is not None and llrs is not None:
            _verdicts(result, condition, held, [decide(float(llr), calibration) for llr in llrs])
        _between_sources(result, condition, held, logits)
        if condition == "as is":
            _by_quality(result, held, logits)
            _localisation(result, held, maps)
    return result


def evaluate_any(detector: str, shop: Workshop, split: str, console: Console) -> Evaluation:
    """Evaluate a run folder, several to fuse with commas between them, or a pack by name or folder.

    Raises:
        DataError, PackError: there is no such detector, or the data are not there or not for it.
    """
    one, faces = find_detector(detector), shop.faces()
    one.check(faces, split)
    twins = test_twins(shop, faces, split, console)
    return evaluate(faces, split, one.scorer, one.size, one.margin, one.calibration, twins, progress=console.print)


def write_numbers(result: Evaluation, detector: str, path: Path) -> None:
    """Write every number of an evaluation as JSON, with the command and the versions that made it."""
    record = {
        "detector": detector,
        "split": result.split,
        "command": shlex.join(["unmask", *sys.argv[1:]]),
        "versions": versions(),
        "metrics": [asdict(metric) for metric in result.metrics],
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def add(
    result: Evaluation,
    dataset: str,
    name: str,
    condition: str,
    value: float,
    low: float | None,
    high: float | None,
    labels: np.ndarray,
) -> None:
    """Put a number, its interval if it has one, and the counts behind it into an evaluation."""
    real, forged = int((labels == 0).sum()), int((labels == 1).sum())
    numbers = [None if number is None else round(number, 4) for number in (low, high)]
    result.metrics.append(
        Metric(
            dataset=dataset,
            name=name,
            condition=condition,
            value=round(value, 4),
            low=numbers[0],
            high=numbers[1],
            n_real=real,
            n_forged=forged,
        )
    )


def _discrimination(
    result: Evaluation,
    family: str,
    condition: str,
    some: Sequence[Face],
    labels: np.ndarray,
    logits: np.ndarray,
    spectrum: np.ndarray,
) -> None:
    subjects = [face.subject for face in some]
    statistics = {"auc": auc, "miss_at_1%": miss_rate(0.01), "miss_at_10%": miss_rate(0.10)}
    for name, statistic in statistics.items():
        value, low, high = interval(statistic, labels, logits, subjects, draws=400)
        add(result, family, name, condition, value, low, high, labels)
    value, low, high = interval(auc, labels, spectrum, subjects, draws=400)
    add(result, family, "auc_spectrum", condition, value, low, high, labels)


def _verdicts(result: Evaluation, condition: str, held: Sequence[Face], verdicts: Sequence[Verdict]) -> None:
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
            add(result, family, f"verdict_{verdict.value}", condition, *share, labels)


def _between_sources(result: Evaluation, condition: str, held: Sequence[Face], logits: np.ndarray) -> None:
    """Reals of one source against reals of another: one half is right, anything else is a learned source."""
    sources = sorted({face.source for face in held if not face.label and "@" not in face.source})
    for a, first in enumerate(sources):
        for second in sources[a + 1 :]:
            rows = [i for i, face in enumerate(held) if not face.label and face.source in (first, second)]
            labels = np.array([int(held[i].source == second) for i in rows])
            value, low, high = interval(auc, labels, logits[rows], [held[i].subject for i in rows], draws=400)
            add(result, f"{first} vs {second}", "auc_real_vs_real", condition, value, low, high, labels)


def _by_quality(result: Evaluation, held: Sequence[Face], logits: np.ndarray) -> None:
    """All forgeries against all reals as they came, in fifths of the unified quality of all of these faces."""
    rows = np.array([i for i, face in enumerate(held) if face.label or "@" not in face.source])
    quality = np.array([quality_of(held[i]) for i in rows])
    for low_end, high_end, places in by_quality(quality):
        own = rows[places]
        labels = np.array([held[i].label for i in own])
        if len(set(labels.tolist())) == 2:
            name = f"quality {low_end:.0f}-{high_end:.0f}"
            value, low, high = interval(auc, labels, logits[own], [held[i].subject for i in own], draws=400)
            add(result, name, "auc_by_quality", "as is", value, low, high, labels)


def _localisation(result: Evaluation, held: Sequence[Face], maps: np.ndarray) -> None:
    """Pointing and IoU against masks; on CIPLAB, whether edited features are hotter than untouched ones of the face."""
    for family in ("selfblend", "swap"):
        found: dict[str, list[float]] = {"pointing": [], "pointing_chance": [], "iou": []}
        subjects = []
        for face, heat in zip(held, maps, strict=True):
            if face.family != family or face.mask is None:
                continue
            truth = face.mask > 0.5 * max(float(face.mask.max()), 1e-6)
            if truth.any():
                heat = _on_grid(heat, truth.shape)
                said = heat > 0.5
                found["pointing"].append(float(truth.ravel()[int(heat.argmax())]))
                found["pointing_chance"].append(float(truth.mean()))
                found["iou"].append(float((said & truth).sum() / max((said | truth).sum(), 1)))
                subjects.append(face.subject)
        if subjects:
            labels = np.ones(len(subjects), int)
            for name, values in found.items():
                add(result, family, name, "as is", *mean_interval(np.array(values), subjects), labels)
    agreements, subjects = [], []
    for face, heat in zip(held, maps, strict=True):
        edited = [_inside(heat, cells) for cells, flag in face.regions if flag]
        spared = [_inside(heat, cells) for cells, flag in face.regions if not flag]
        agreements += [0.5 if np.isclose(a, b, rtol=1e-5) else float(a > b) for a in edited for b in spared]
        subjects += [face.subject] * (len(edited) * len(spared))
    if agreements:
        share = mean_interval(np.array(agreements), subjects)
        add(result, "ciplab", "region_agreement", "as is", *share, np.ones(len(agreements), int))


def _on_grid(heat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    import cv2

    return heat if heat.shape == shape else cv2.resize(heat, shape[::-1], interpolation=cv2.INTER_LINEAR)


def _inside(heat: np.ndarray, cells: np.ndarray) -> float:
    return float((_on_grid(heat, cells.shape) * cells).sum() / max(float(cells.sum()), 1e-6))


def _spectrum_classifiers(
    faces: Sequence[StoredFace], size: int, margin: float, seed: int
) -> dict[str, SpectrumClassifier]:
    families = families_of(faces, "train")
    train = held_out(faces, "train", families, "as is", size, margin, None, seed, most=150)
    found = {}
    for family in (*families, "all"):
        some = train if family == "all" else pairing(family, train)
        labels = np.array([face.label for face in some])
        if len(set(labels.tolist())) == 2:
            found[family] = SpectrumClassifier().fit(np.stack([face.crop for face in some]), labels)
    return found


def table(result: Evaluation) -> str:
    """The evaluation as a Markdown table: a row per family and condition."""
    lines = [
        "| family | condition | AUC [95 %] | spectrum AUC | miss at 1 % | miss at 10 % "
        "| Cllr | Cllr min | real / forged |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((m.dataset, m.condition) for m in result.metrics if m.name == "auc")
    for dataset, condition in keys:
        cells = []
        for name in ("auc", "auc_spectrum", "miss_at_1%", "miss_at_10%", "cllr", "cllr_min"):
            metric = result.value(dataset, name, condition)
            cells.append(in_cell(metric, interval=name == "auc"))
        area = result.value(dataset, "auc", condition)
        assert area is not None  # it is what the key was taken from
        lines.append(f"| {dataset} | {condition} | {' | '.join(cells)} | {area.n_real} / {area.n_forged} |")
    lines += ["", "| reals | condition | AUC [95 %] |", "|---|---|---|"]
    lines += [f"| {m.dataset} | {m.condition} | {in_cell(m)} |" for m in result.metrics if m.name == "auc_real_vs_real"]
    fifths = [m for m in result.metrics if m.name == "auc_by_quality"]
    if fifths:
        lines += ["", "| all families, faces of | AUC [95 %] | real / forged |", "|---|---|---|"]
    lines += [f"| {m.dataset} | {in_cell(m)} | {m.n_real} / {m.n_forged} |" for m in fifths]
    judged = [m for m in result.metrics if m.name == "verdict_forged"]
    if judged:
        lines += ["", '| faces | condition | "forged" [95 %] | "authentic" [95 %] | number |', "|---|---|---|---|---|"]
    for said in judged:
        shares = [in_cell(m) for m in (said, result.value(said.dataset, "verdict_authentic", said.condition))]
        lines.append(f"| {said.dataset} | {said.condition} | {' | '.join(shares)} | {said.n_real + said.n_forged} |")
    lines += ["", "| localisation | measure | value [95 %] |", "|---|---|---|"]
    local = ("pointing", "pointing_chance", "iou", "region_agreement")
    lines += [f"| {m.dataset} | {m.name} | {in_cell(m)} |" for m in result.metrics if m.name in local]
    return "\n".join(lines)


def in_cell(metric: Metric | None, interval: bool = True) -> str:
    """A number with its interval, if it has one, for a table; a dash where there is none."""
    if metric is None:
        return "–"
    text = f"{metric.value:.3f}"
    if interval and metric.low is not None and metric.high is not None:
        text += f" [{metric.low:.3f}, {metric.high:.3f}]"
    return text
