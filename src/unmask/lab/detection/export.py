"""What makes a pack of a detector: calibration on runs that missed a family, operating points, the card. Lab only."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from unmask.datasets.face_store import StoredFace
from unmask.datasets.manifest import Sample, manifest_sha256
from unmask.errors import DataError
from unmask.forging.families import SOURCES, family, to_make
from unmask.lab.detection.calibration import FEWEST, Scored, fit_calibration
from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig
from unmask.lab.detection.evaluate import quality_of
from unmask.lab.detection.held_out import CLEAN, CONDITIONS, eval_faces, make_eval_images, render
from unmask.lab.detection.prepare import held_out_reconstructions
from unmask.lab.detection.scoring import Scorer, logits_of
from unmask.lab.detection.systems import load_fused
from unmask.lab.methods import method_named
from unmask.lab.metrics import threshold_at
from unmask.lab.run import config_of
from unmask.lab.task import CardFacts
from unmask.packs.card import Calibration, OperatingPoint
from unmask.progress import Progress

_QUALITY_EDGES = (60.0, 80.0)
_OWN_TERMS = (
    "FFHQ and StyleGAN: CC BY-NC(-SA) 4.0; CelebA and UTKFace: non-commercial research; "
    "CIPLAB: research; MobileStyleGAN: Apache-2.0, distilled from a non-commercial model. No picture is contained."
)
MIN_QUALITY = 25.0
MIN_FACE_PX = 32.0

OWN_LIMITS = (
    "Trained and tested on single-face portraits of 128 to 256 pixels from five collections; "
    "faces in other settings, at other sizes and from other cameras are less well known to it.",
    "No diffusion model and no published video face swap was at hand, for training or for test: "
    "what the likelihood ratio is worth on them is not known.",
    "UTKFace, CelebA and FFHQ do not represent all people; error rates per group have not been established.",
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
        if count * len(CONDITIONS) < FEWEST:  # every face is scored under each condition
            fewest = math.ceil(FEWEST / len(CONDITIONS) / (len(families) if kind == "real" else 1))
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
    scored: list[Scored] = []
    reconstructions = held_out_reconstructions(paths, faces, "cal", progress)
    detectors = list(unseen) or [seen]
    tested: list[str] = []
    for number, folders in enumerate(detectors):
        families = missed_by(folders) if unseen else known_to(folders)
        if not families:
            name = " with ".join(str(folder) for folder in folders)
            raise DataError(f"{name} has seen every family; calibration needs runs made --without some")
        tested.append("+".join(families))
        detector = load_fused(folders)
        pictures = make_eval_images(faces, "cal", families, reconstructions, most=90)
        for step, condition in enumerate(CONDITIONS, start=1):
            held = render(pictures, condition, size, margin)
            logits, _ = logits_of(detector, np.stack([face.crop for face in held]), torch.device("cpu"))
            for face, logit in zip(held, logits, strict=True):
                scored.append(Scored(float(logit), quality_of(face), face.label, face.family, face.source))
            done, everything = number * len(CONDITIONS) + step, len(detectors) * len(CONDITIONS)
            progress.update("scoring the cal split", done, everything, ", ".join(families))
    if {face.label for face in scored} != {0, 1}:
        raise DataError("the cal split has no real or no forged faces to calibrate on; give some rows split=cal")
    return fit_calibration(
        scored,
        _QUALITY_EDGES,
        f"cal split, {' / '.join(CONDITIONS)}; detectors trained {'without' if unseen else 'on'} {'; '.join(tested)}",
        MIN_QUALITY,
        MIN_FACE_PX,
    )


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


def card_facts(configs: Sequence[DetectionTrainConfig], faces: Sequence[StoredFace], blind: bool) -> CardFacts:
    """What stands on the card of some runs' pack.

    Args:
        configs: of the runs.
        faces: of the store that they were trained on.
        blind: whether it is calibrated on families that the scoring networks had not seen.
    """
    training = [face.sample for face in faces if face.sample.split == "train"]
    sources = sorted({sample.source for sample in training})
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
