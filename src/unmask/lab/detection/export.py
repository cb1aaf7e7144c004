"""From finished runs to the pack to ship: calibrate on runs that missed a family, test, write the card. Lab only."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from unmask.datasets.face_store import StoredFace
from unmask.datasets.manifest import manifest_sha256
from unmask.errors import DataError, PackError
from unmask.forgery.fusion import Fused
from unmask.lab.detection.calibration import Scored, fit_calibration
from unmask.lab.detection.evaluate import Evaluation, add, evaluate, families_of, quality_of
from unmask.lab.detection.held_out import CONDITIONS, held_out, make_pictures, show
from unmask.lab.detection.pairs_pool import SOURCE_SHARES
from unmask.lab.detection.scoring import Scorer, logits_of
from unmask.lab.detection.systems import pack_scorer, test_twins
from unmask.lab.detection.train import Workshop, load_run
from unmask.lab.methods import METHODS
from unmask.lab.metrics import threshold_at
from unmask.lab.onnx_pack import parity, with_numbers, write_pack
from unmask.lab.run import Run
from unmask.packs import Pack, load_pack
from unmask.packs.card import Calibration, OperatingPoint

_QUALITY_EDGES = (60.0, 80.0)
_PARITY = 0.1  # of the logit: more than half-precision weights cost, less than could be told from a likelihood ratio
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
    protocols = [Run.protocol_of(folder) for folder in folders]
    return tuple(
        family
        for family in protocols[0].without
        if all(family in protocol.without and family not in protocol.before for protocol in protocols)
    )


def known_to(folders: Sequence[Path]) -> tuple[str, ...]:
    """The families that at least one of some runs was trained on, or a run that it began from."""
    protocols = [Run.protocol_of(folder) for folder in folders]
    return tuple(dict.fromkeys(name for protocol in protocols for name in (*protocol.families, *protocol.before)))


def calibrate(
    shop: Workshop,
    unseen: Sequence[Sequence[Path]],
    faces: Sequence[StoredFace],
    margin: float,
    size: int,
    console: Console,
    seen: Sequence[Path] = (),
) -> Calibration:
    """Fit a calibration on the "cal" split with detectors that each missed some families.

    Args:
        unseen: the run folders of each detector, fused as the one to ship is; all were trained `without` at least one
            family in common, and so were the runs they began from.
        seen: without any `unseen`, the run folders to ship: they are calibrated on what they were trained on.

    Raises:
        DataError: a detector missed nothing, or the split has no faces to calibrate on.
    """
    scored: list[Scored] = []
    twins = test_twins(shop, faces, "cal", console)
    told: list[str] = []
    for folders in unseen or [seen]:
        families = missed_by(folders) if unseen else known_to(folders)
        if not families:
            name = " with ".join(str(folder) for folder in folders)
            raise DataError(f"{name} has seen every family; calibration needs runs made --without some")
        told.append("+".join(families))
        detector = Fused([load_run(folder) for folder in folders])
        pictures = make_pictures(faces, "cal", families, twins, most=90)
        for condition in CONDITIONS:
            held = show(pictures, condition, size, margin)
            logits, _ = logits_of(detector, np.stack([face.crop for face in held]), torch.device("cpu"))
            for face, logit in zip(held, logits, strict=True):
                scored.append(Scored(float(logit), quality_of(face), face.label, face.family, face.source))
        console.print(f"scored {', '.join(families)} by a detector that had {'not ' if unseen else ''}seen them")
    if {face.label for face in scored} != {0, 1}:
        raise DataError("the cal split has no real or no forged faces to calibrate on; give some rows split=cal")
    return fit_calibration(
        scored,
        _QUALITY_EDGES,
        f"cal split, as is / JPEG 50 / half size; detectors trained {'without' if unseen else 'on'} {'; '.join(told)}",
        MIN_QUALITY,
        MIN_FACE_PX,
    )


def operating_points(
    faces: Sequence[StoredFace], scorer: Scorer, size: int, margin: float, families: Sequence[str]
) -> tuple[OperatingPoint, ...]:
    """Score thresholds at 1 % and 10 % false alarms on the "cal" reals, with the hit rate on the "cal" forgeries."""
    held = held_out(faces, "cal", families, "as is", size, margin, None, most=200)
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


def _describe(runs: Sequence[Path]) -> str:
    """What the runs are, for the card."""
    told = []
    for protocol in dict.fromkeys((p.method, str(dict(p.options))) for p in map(Run.protocol_of, runs)):
        name, options = protocol
        method = METHODS[name]
        told.append(f"{name} ({method.summary}; {method.source})" + (f" with {options}" if options != "{}" else ""))
    fused = "" if len(runs) == 1 else f"; {len(runs)} networks, fused by the mean of their likelihood ratios"
    return f"{' and '.join(told)}{fused}. One logit and one map."


def ship(
    shop: Workshop,
    runs: Sequence[Path],
    unseen: Sequence[Sequence[Path]],
    out: Path,
    version: str,
    console: Console,
    name: str | None = None,
) -> tuple[Pack, Evaluation, dict[str, float]]:
    """Export, calibrate, evaluate on test, write the pack; returns it with its evaluation and parity differences.

    Several runs are fused; `unseen` is as in `calibrate`; without any, the runs are calibrated on what they were
    trained on, and the card says so. The pack's name is that of the method unless another is given. Until all figures
    are on its card the pack stands in `OUT.part`, so that no half-measured one passes for finished.

    Raises:
        DataError: an `unseen` detector has not as many runs as the one to ship, or as in `calibrate`.
        PackError: the exported network says something else than the trained one.
    """
    for folders in unseen:
        if len(folders) != len(runs):
            raise DataError(
                f"--unseen {','.join(map(str, folders))}: {len(folders)} run(s), but {len(runs)} are exported; "
                "what calibrates must be fused of as many, or its scores are of another kind"
            )
    faces = shop.faces()
    protocol = Run.protocol_of(runs[0])
    module = Fused([load_run(run) for run in runs])
    out = out.resolve()
    unfinished = out.with_name(f"{out.name}.part")
    calibration = calibrate(shop, unseen, faces, protocol.margin, protocol.size, console, runs)
    for verdict, reach in (
        ("forged", max(part.upper for part in calibration.bins)),
        ("authentic", -min(part.lower for part in calibration.bins)),
    ):
        if reach < calibration.decision_log10_lr:
            console.print(f"note: the bounds end before the decision threshold; this pack will never say {verdict!r}")
    training = [face.sample for face in faces if face.sample.split == "train"]
    sources = sorted({sample.source for sample in training})
    own_data = set(sources) <= set(SOURCE_SHARES)
    limits = (*(OWN_LIMITS if own_data else ()), _BLIND if unseen else _SEEN, *LIMITS)
    placeholder = Evaluation("test")
    zeros = np.array([0, 1])
    add(placeholder, "cal", "cllr", "as is", calibration.cllr, None, None, zeros)
    pack = write_pack(
        module,
        unfinished,
        runs=runs,
        name=name or protocol.method,
        version=version,
        description=_describe(runs),
        licence="Apache-2.0 (weights of this project; see the terms of the training data)",
        origin=f"trained with `unmask train {protocol.method}`",
        training_data=f"training split of {', '.join(sources)}; forged: {', '.join(known_to(runs))}",
        training_data_terms=_OWN_TERMS if own_data else "not stated by who trained it: ask there before any use",
        training_data_sha256=manifest_sha256(training),
        calibration=calibration,
        metrics=placeholder.metrics,
        operating_points=[OperatingPoint(name="none", threshold=1, false_alarm_rate=0, hit_rate=0, dataset="none")],
        limits=limits,
        margin=protocol.margin,
        spectra=protocol.spectra,
    )
    scorer = pack_scorer(pack)
    held = held_out(faces, "val", families_of(faces, "val"), "as is", protocol.size, protocol.margin, most=20)
    difference = parity(module, pack, np.stack([face.crop for face in held[:64]]))
    console.print(f"parity torch/ONNX on 64 faces: {difference}")
    if difference["logit"] > _PARITY:
        raise PackError(
            f"{out}: the exported network differs from the trained one by {difference['logit']:.2f} in the logit"
        )
    result = evaluate(
        faces,
        "test",
        scorer,
        protocol.size,
        protocol.margin,
        calibration,
        test_twins(shop, faces, "test", console),
        progress=console.print,
    )
    points = operating_points(faces, scorer, protocol.size, protocol.margin, known_to(runs))
    with_numbers(pack, calibration, result.metrics, points)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("model.onnx", "card.json"):
        (unfinished / name).replace(out / name)
    unfinished.rmdir()
    return load_pack(out), result, difference
