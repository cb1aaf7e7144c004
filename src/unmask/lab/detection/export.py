"""What makes a pack of a detector: calibration on runs that missed a family, operating points, the card. Lab only."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unmask.datasets.face_store import StoredFace
from unmask.datasets.manifest import Sample, manifest_sha256
from unmask.errors import DataError
from unmask.forging.families import SOURCES, family, kind_of, to_make
from unmask.lab.detection.calibration import FEWEST, QUALITY_EDGES, Scored, fit_calibration
from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig
from unmask.lab.detection.evaluate import condition_shown, quality_of
from unmask.lab.detection.held_out import ALL_CONDITIONS, CLEAN, EvalImage, eval_faces, make_eval_images, render
from unmask.lab.detection.onnx_scoring import scorer_of_runs
from unmask.lab.detection.prepare import held_out_reconstructions
from unmask.lab.detection.reconstructions import Reconstructions
from unmask.lab.detection.scoring import Scorer
from unmask.lab.methods import method_named
from unmask.lab.metrics import threshold_at
from unmask.lab.run import config_of
from unmask.lab.task import CardFacts
from unmask.packs.card import Calibration, Metric, OperatingPoint
from unmask.progress import Progress

_SCORED_ALIKE = 3  # conditions under which a face still counts as a still
_REALS = 90  # faces that calibrate, of every source and of every family
_OWN_TERMS = (
    "FFHQ and StyleGAN: CC BY-NC(-SA) 4.0; CelebA and UTKFace: non-commercial research; "
    "CIPLAB: research; MobileStyleGAN: Apache-2.0, distilled from a non-commercial model; the wild collection: "
    "pictures published with papers and demos, for research alone. No picture is contained."
)
_VERDICTS = ("verdict_forged", "verdict_authentic")
_ON_CARDS = (*_VERDICTS, "miss_at_1%", "cllr", "pointing", "pointing_chance", "iou", "region_agreement")
MIN_QUALITY = 25.0
MIN_FACE_PX = 32.0

OWN_LIMITS = (
    "Trained and tested on single faces of 115 to 256 pixels, from five large collections and some fifteen small ones; "
    "faces in other settings, at other sizes and from other cameras are less well known to it.",
    "Of diffusion models, talking heads, lip-sync and video swaps, some hundred pictures of a few makers each were "
    "at hand: what the likelihood ratio is worth on other makers' shows in the leave-one-out results alone.",
    "UTKFace, CelebA and FFHQ do not represent all people.",
)
_BLIND = (
    "Calibrated on families the scoring network had not been trained on; on a family it knows it is cautious, "
    "on one unlike any of them it may still mislead."
)
_SEEN = (
    "Calibrated on families the network had been trained on: on any other family the likelihood ratio claims more than "
    "it can know."
)
LIMITS = (
    "The map says where the network found traces; it does not outline the forgery.",
    "An authentic verdict is no proof of authenticity: "
    "re-photographed, heavily compressed or cleverly laundered forgeries pass.",
)


def missed_by(folders: Sequence[Path]) -> tuple[str, ...]:
    """The families that none of some runs was trained on, nor any run that they began from."""
    configs = [config_of(folder) for folder in folders]
    return tuple(
        family
        for family in configs[0].without
        if all(family in config.without and family not in config.before for config in configs)
    )


def known_to(folders: Sequence[Path]) -> tuple[str, ...]:
    """The families that at least one of some runs was trained on, or a run that it began from."""
    configs = [config_of(folder) for folder in folders]
    return tuple(dict.fromkeys(name for config in configs for name in (*config.families, *config.before)))


def calibration_shortage(samples: Iterable[Sample], families: Sequence[Iterable[str]]) -> str | None:
    """What the "cal" split lacks to calibrate on, with a remedy; None if it lacks nothing.

    Args:
        samples: rows of a manifest, all splits.
        families: of each detector that scores the split, those whose forgeries it scores; some may be made from reals.
    """
    split = [sample for sample in samples if sample.split == "cal"]
    reals, held = sum(not sample.label for sample in split), {sample.family for sample in split if sample.label}
    forged = 0
    for wanted in map(set, families):
        made = [name for name in to_make(wanted, held) if not family(name).reconstructed]
        forged += sum(bool(sample.label) and sample.family in wanted for sample in split) + reals * len(made)
    for count, kind in ((reals * len(families), "real"), (forged, "forged")):
        # Every face is scored under six conditions, of which some have bins of their own.
        if count * _SCORED_ALIKE < FEWEST:
            fewest = math.ceil(FEWEST / _SCORED_ALIKE / (len(families) if kind == "real" else 1))
            return (
                f"the split cal has {reals if kind == 'real' else forged} {kind} faces to calibrate on, and {fewest} "
                "are needed; give more rows split=cal (`unmask manifest` writes rows to change)"
            )
    return None


def calibrate(
    paths: DetectionPaths,
    unseen: Sequence[Sequence[Path]],
    faces: Sequence[StoredFace],
    margin: float,
    size: int,
    progress: Progress,
    seen: Sequence[Path] = (),
) -> Calibration:
    """Fit a calibration on the "cal" split with detectors that each missed some families.

    Args:
        paths: for reconstructions of the split's reals.
        unseen: the run folders of each detector, fused as the one to export is; all were trained `without` at least
            one family in common, and so were the runs they began from.
        faces: of a store.
        margin, size: of the context crop.
        progress: of the stage "scoring the cal split".
        seen: without any `unseen`, the run folders to export: they are calibrated on what they were trained on.

    Raises:
        DataError: a detector missed nothing, or the split has too few faces to calibrate on.
    """
    samples = [face.sample for face in faces]
    judges = [_Judge.of(folders, samples, blind=bool(unseen)) for folders in (list(unseen) or [seen])]
    for judge in judges:
        if not judge.families:
            raise DataError(f"{judge.name} has seen every family; calibration needs runs made --without some")
    drawn = held_out_reconstructions(paths, faces, "cal", progress)
    scored: list[Scored] = []
    pictures = _calibration_pictures(faces, judges, drawn)
    scorers = [_judges_of(picture, judges) for picture in pictures]
    for step, condition in enumerate(ALL_CONDITIONS):
        held = render(pictures, condition, size, margin)
        quality = [quality_of(face) for face in held]
        for number, judge in enumerate(judges):
            done, everything = step * len(judges) + number + 1, len(judges) * len(ALL_CONDITIONS)
            rows = [row for row, own in enumerate(scorers) if judge in own]
            if not rows:  # all that it could score is new to others and none of the families it missed is here
                progress.update("scoring the cal split", done, everything, f"{condition}, {judge.name}")
                continue
            logits, _ = judge.scorer(np.stack([held[row].crop for row in rows]))
            for row, logit in zip(rows, logits, strict=True):
                face = held[row]
                scored.append(
                    Scored(
                        logit=float(logit),
                        quality=quality[row],
                        label=face.label,
                        family=face.family,
                        source=face.source.partition("@")[0],
                        kind=_kind(pictures[row]) if face.label else "",
                        condition=condition_shown(face, condition),
                    )
                )
            progress.update("scoring the cal split", done, everything, f"{condition}, {judge.name}")
    if {face.label for face in scored} != {0, 1}:
        raise DataError("the cal split has no real or no forged faces to calibrate on; give some rows split=cal")
    tested = "; ".join("+".join(judge.families) for judge in judges)
    sources = sorted({name for judge in judges for name in judge.sources})
    if sources:
        tested += f"; sources {', '.join(sources)}"
    fitted = fit_calibration(
        scored,
        QUALITY_EDGES,
        f"cal split and what a network never saw, {' / '.join(ALL_CONDITIONS)}; "
        f"detectors trained {'without' if unseen else 'on'} {tested}",
        MIN_QUALITY,
        MIN_FACE_PX,
    )
    return replace(fitted, held_out=bool(unseen))


@dataclass(frozen=True, eq=False)
class _Judge:
    """A detector that calibrates: the forged families and the sources of reals that it scores, for it never saw them.

    One that is to be exported, where none else is there, scores what it was trained on, and no source is new to it.
    """

    name: str
    scorer: Scorer
    families: tuple[str, ...]
    sources: tuple[str, ...]

    @classmethod
    def of(cls, folders: Sequence[Path], samples: Sequence[Sample], blind: bool) -> "_Judge":
        """The judge of some run folders."""
        configs = [config_of(folder) for folder in folders]
        known = {name for config in configs for name in (*config.sources, *config.before_sources)}
        present = {sample.source for sample in samples if not sample.label}
        sources = tuple(sorted(present - known)) if blind and known else ()
        families = missed_by(folders) if blind else known_to(folders)
        return cls(" with ".join(map(str, folders)), scorer_of_runs(folders), families, sources)


def _judges_of(picture: EvalImage, judges: Sequence[_Judge]) -> list[_Judge]:
    """Who scores a picture: a forgery those that missed its family; a real face those to which its source is new.

    A real face of the cal split whose source is new to nobody is scored by all.
    """
    if picture.family != "real":
        return [judge for judge in judges if picture.family in judge.families]
    sample = picture.face.sample
    return [judge for judge in judges if sample.source in judge.sources] or (
        list(judges) if sample.split == "cal" else []
    )


def _calibration_pictures(
    faces: Sequence[StoredFace], judges: Sequence[_Judge], drawn: Reconstructions
) -> list[EvalImage]:
    """The cal split's pictures, and of all splits but test those of families and sources that a judge never saw.

    A real face of the other splits is there only for judges that saw nothing of its source, a forged one only for those
    that saw nothing of its family: to them it is as new as one of the cal split.
    """
    families = {name for judge in judges for name in judge.families}
    sources = {name for judge in judges for name in judge.sources}
    pictures = make_eval_images(faces, "cal", families, drawn, most=_REALS)
    reals, forged = dict[str, int](), dict[str, int]()
    for picture in pictures:
        counts = forged if picture.family != "real" else reals
        name = picture.family if picture.family != "real" else picture.source
        counts[name] = counts.get(name, 0) + 1
    for face in faces:
        sample = face.sample
        if sample.split not in ("train", "val"):
            continue
        counts, name = (forged, sample.family) if sample.label else (reals, sample.source)
        if name in (families if sample.label else sources) and counts.get(name, 0) < _REALS:
            counts[name] = counts.get(name, 0) + 1
            native = family(name).native_size if sample.label else None
            source = f"{sample.source}@{native}" if native else sample.source
            pictures.append(EvalImage(face.pixels(), face, sample.family, source, None, native))
    return pictures


def _kind(picture: EvalImage) -> str:
    """How a forged picture was forged; one made here has its real's sample, and its family's record."""
    own = family(picture.family).kind
    return own if own != "unknown" else kind_of(picture.face.sample)


def operating_points(
    faces: Sequence[StoredFace], scorer: Scorer, size: int, margin: float, families: Sequence[str]
) -> tuple[OperatingPoint, ...]:
    """Score thresholds at 1 % and 10 % false alarms on the "cal" reals, with the hit rate on the "cal" forgeries."""
    held = eval_faces(faces, "cal", families, CLEAN, size, margin, None, most=200)
    logits, _ = scorer(np.stack([face.crop for face in held]))
    labels = np.array([face.label for face in held])
    points = []
    for rate in (0.01, 0.10):
        threshold = threshold_at(logits[labels == 0], rate)
        points.append(
            OperatingPoint(
                name=f"false alarms {rate:.0%}",
                threshold=round(float(1 / (1 + np.exp(-threshold))), 6),
                false_alarm_rate=round(float((logits[labels == 0] > threshold).mean()), 4),
                hit_rate=round(float((logits[labels == 1] > threshold).mean()), 4),
                dataset="cal split, all families the network was trained on",
            )
        )
    return tuple(points)


def card_metrics(metrics: Sequence[Metric]) -> list[Metric]:
    """Those of an evaluation's numbers that stand on a card.

    Of every family the AUC under all conditions; of the reals, under all conditions, what verdicts they get; the rest
    of clean pictures alone, and of sources compared the pair farthest from one half. A hundred sources compared with
    one another, and each number under six conditions, would make a card that nobody reads.
    """
    between = [metric for metric in metrics if metric.name == "auc_real_vs_real" and metric.condition == CLEAN]
    farthest = max(between, key=lambda metric: abs(metric.value - 0.5), default=None)
    return [
        metric
        for metric in metrics
        if metric.name == "auc"
        or metric is farthest
        or (metric.condition == CLEAN and metric.name in _ON_CARDS)
        or (metric.name in _VERDICTS and metric.dataset == "real")
    ]


def _before(configs: Sequence[DetectionTrainConfig]) -> set[str]:
    """The sources that the weights at the start of some runs had been trained on."""
    return {name for config in configs for name in config.before_sources}


def card_facts(configs: Sequence[DetectionTrainConfig], faces: Sequence[StoredFace], blind: bool) -> CardFacts:
    """What stands on the card of some runs' pack.

    Args:
        configs: of the runs.
        faces: of the store that they were trained on.
        blind: whether it is calibrated on families that the scoring networks had not seen.
    """
    training = [face.sample for face in faces if face.sample.split == "train"]
    present = {sample.source for sample in training if not sample.label}
    # Runs of before sources could be left out were trained on all of them.
    sources = sorted({name for config in configs for name in config.sources or present} | _before(configs))
    own_data = set(sources) <= set(SOURCES)
    methods = [method_named(name) for name in dict.fromkeys(config.method for config in configs)]
    texts = []
    for name, options in dict.fromkeys((config.method, str(dict(config.options))) for config in configs):
        method = next(one for one in methods if one.name == name)
        texts.append(f"{name} ({method.summary}; {method.source})" + (f" with {options}" if options != "{}" else ""))
    fused = "" if len(configs) == 1 else f"; {len(configs)} networks, fused by the mean of their likelihood ratios"
    learned = dict.fromkeys(name for config in configs for name in (*config.families, *config.before))
    return CardFacts(
        description=f"{' and '.join(texts)}{fused}. One logit and one map.",
        training_data=f"training split of {', '.join(sources)}; forged: {', '.join(learned)}",
        training_data_terms=_OWN_TERMS if own_data else "not stated by who trained it: ask there before any use",
        training_data_sha256=manifest_sha256(training),
        limits=(*(OWN_LIMITS if own_data else ()), _BLIND if blind else _SEEN, *LIMITS),
        spectra=configs[0].spectra,
    )
