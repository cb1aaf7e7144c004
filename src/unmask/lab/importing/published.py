"""From a publisher's file to a pack that waits for its calibration: `unmask import`. Lab only."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from unmask.errors import DataError, PackError
from unmask.faces.alignment import context_crop
from unmask.faces.finding import FaceFinder, FoundFace
from unmask.forgery.detector import Detector
from unmask.lab.detection.pack_calibration import refuse_existing, unfinished_folder
from unmask.lab.detection.task import DetectionTask
from unmask.lab.export import parity
from unmask.lab.importing.networks import (
    read_bench_efficientnet,
    read_bench_xception,
    read_gend,
    read_sbi,
    read_univfd,
)
from unmask.lab.importing.preprocessing import aligned_crop, box_crop, centre_crop
from unmask.lab.onnx_export import write_onnx
from unmask.lab.run import versions
from unmask.networks.encoders import weight_file
from unmask.packs import Pack, load_pack
from unmask.packs.card import Card
from unmask.progress import SILENT, Progress
from unmask.provenance import sha256_of

_FACE_FORENSICS = "FaceForensics++: research and education only, on request to its authors"
_SAMPLES = 8  # crops that the exported network is compared on


@dataclass(frozen=True)
class Published:
    """One kind of published detector.

    Attributes:
        read: from its file, and that of an encoder where it needs one, to the network.
        summary: one line.
        origin, licence: of the weights, as their publisher states.
        training_data, terms: what it was trained on, likewise.
        margin: side of the square crop over the longer side of the face box.
        crop: how the publisher cuts a face out, from a picture, a face and a side.
        preprocessing: the same in words.
    """

    read: Callable[[Path, Path | None], Detector]
    summary: str
    origin: str
    licence: str
    training_data: str
    terms: str
    margin: float
    crop: Callable[[np.ndarray, FoundFace, int], np.ndarray]
    preprocessing: str


_UPRIGHT = "turned upright by five points, 1.3 times ArcFace's template, bilinear"
PUBLISHED = {
    "gend": Published(
        read_gend,
        "GenD (Yermakov et al. 2025, arXiv 2508.06248): foundation encoder with tuned LayerNorms",
        "github.com/yermandy/GenD",
        "MIT",
        "FaceForensics++ (c23), paired frames",
        _FACE_FORENSICS,
        1.3,
        aligned_crop,
        _UPRIGHT,
    ),
    "sbi": Published(
        read_sbi,
        "EfficientNet-B4 on self-blended images (Shiohara & Yamasaki 2022, arXiv 2204.08376)",
        "github.com/mapooon/SelfBlendedImages",
        "noncommercial research by academic or non-profit organisations only; no distribution",
        "FaceForensics++, authentic videos and blends made of them",
        _FACE_FORENSICS,
        1.25,
        box_crop,
        "face box, each side 1.25 times as long, stretched to a square, bilinear",
    ),
    "deepfakebench-xception": Published(
        read_bench_xception,
        "Xception of DeepfakeBench (Yan et al. 2023, arXiv 2307.01426)",
        "github.com/SCLBD/DeepfakeBench",
        "CC BY-NC 4.0",
        "FaceForensics++ (c23)",
        _FACE_FORENSICS,
        1.3,
        aligned_crop,
        _UPRIGHT,
    ),
    "deepfakebench-efficientnet": Published(
        read_bench_efficientnet,
        "EfficientNet-B4 of DeepfakeBench (Yan et al. 2023, arXiv 2307.01426)",
        "github.com/SCLBD/DeepfakeBench",
        "CC BY-NC 4.0",
        "FaceForensics++ (c23)",
        _FACE_FORENSICS,
        1.3,
        aligned_crop,
        _UPRIGHT,
    ),
    "univfd": Published(
        read_univfd,
        "UnivFD (Ojha et al. 2023, arXiv 2302.10174): a linear head on CLIP ViT-L/14",
        "github.com/WisconsinAIVision/UniversalFakeDetect; encoder: OpenAI's CLIP",
        "MIT (head); the encoder's own",
        "ProGAN pictures of twenty kinds of things, and LSUN",
        "not stated",
        1.3,
        centre_crop,
        "centre of the whole picture, 224 pixels, not enlarged or reduced",
    ),
}
"""Every kind that can be imported, by its name on the command line."""


@dataclass(frozen=True)
class Imported:
    """What an import gave.

    Attributes:
        folder: of the pack that waits for its calibration.
        parity: how far the exported network is from the one that was read, by name of what is compared.
        logits: of the face of the picture that was given, cut out as the publisher does and as the pack does; None
            without a picture.
    """

    folder: Path
    parity: dict[str, float]
    logits: tuple[float, float] | None


def import_detector(
    kind: str,
    file: Path,
    out: Path,
    encoder: Path | None = None,
    origin: str | None = None,
    licence: str | None = None,
    portrait: np.ndarray | None = None,
    progress: Progress = SILENT,
) -> Imported:
    """Read a published detector, export it, and write a pack without a calibration.

    Args:
        kind: one of `PUBLISHED`.
        file: as its publisher gives it; for GenD the hub's folder.
        out: folder of the pack, which must not be there yet.
        encoder: file or folder of the encoder, for a kind that is a head alone.
        origin: where the file is from; the publisher's address if left out.
        licence: of the weights; what the publisher states if left out.
        portrait: uint8 (H, W, 3) RGB with one face, to compare the publisher's way of cutting faces out on.
        progress: of what takes long.

    Raises:
        DataError: no such kind, no such file, or one of another structure; the folder is there; before any work.
        PackError: the exported network says something else than the one that was read.
    """
    if kind not in PUBLISHED:
        raise DataError(f"{kind!r} is no kind of published detector; known are {', '.join(PUBLISHED)}")
    about = PUBLISHED[kind]
    refuse_existing(out)
    if not file.exists():
        raise DataError(f"{file}: no such file; give the weights as their publisher has them")
    if encoder is not None and about.read is not read_univfd:
        raise DataError(f"{kind}: its file holds the whole network; leave --encoder out")
    network = about.read(file, encoder).eval()
    digests = {path.name: sha256_of(path) for path in (weight_file(one) for one in (file, encoder) if one is not None)}
    task = DetectionTask()
    progress.note("exporting to ONNX")
    with unfinished_folder(out) as part:
        write_onnx(task.exported(network), network.size, task.outputs, part / "model.onnx")
        card = _card(kind, about, network, digests, sha256_of(part / "model.onnx"))
        card = replace(card, origin=origin or card.origin, licence=licence or card.licence)
        pack = Pack(part, card)
        difference = parity(task, network, pack, _crops(network.size))
        if not task.at_parity(difference):
            listed = ", ".join(f"{value:.2g} ({name})" for name, value in difference.items())
            raise PackError(f"{out}: the exported network differs from the one in {file}: {listed}")
        logits = None if portrait is None else _compare(about, network, portrait)
        card.write(part / "card.json")
    load_pack(out, task.name, calibrated=False)
    return Imported(out, difference, logits)


def _card(kind: str, about: Published, network: Detector, digests: dict[str, str], sha256: str) -> Card:
    return Card(
        name=kind,
        version=next(iter(digests.values()))[:12],
        task=DetectionTask.name,
        description=f"{about.summary}. One logit and one map.",
        input_size=(network.size, network.size),
        colour_order="RGB",
        mean=(0.0, 0.0, 0.0),  # networks normalise what they see themselves
        std=(1.0, 1.0, 1.0),
        crop_margin=about.margin,
        outputs=DetectionTask.outputs,
        licence=f"{about.licence} (as its publisher states)",
        origin=about.origin,
        training_data=f"{about.training_data} (as its publisher states)",
        training_data_terms=f"{about.terms} (as its publisher states)",
        training_data_sha256="not known",
        protocol={
            "imported": {
                "kind": kind,
                "sha256": digests,
                "mean": network.mean,
                "std": network.std,
                "publisher's crop": about.preprocessing,
                "crop here": f"square, {about.margin} times the longer side of the face box, area down or cubic up",
                "versions": versions(),
            }
        },
        metrics=(),
        calibration=None,
        operating_points=(),
        limits=(
            "Faces are cut out as this project does, which is not quite how its publisher does: figures that were "
            "published for it do not hold here.",
            "What it was trained on is known from its publisher alone; nothing taught its map where a forgery lies.",
            "An authentic verdict is no proof of authenticity: "
            "re-photographed, heavily compressed or cleverly laundered forgeries pass.",
        ),
        sha256=sha256,
    )


def _crops(size: int) -> np.ndarray:
    """Pictures to compare networks on, uint8 (N, size, size, 3): smooth colours with some noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (_SAMPLES, 8, 8, 3), np.uint8)
    smooth = np.stack([cv2.resize(one, (size, size), interpolation=cv2.INTER_CUBIC) for one in coarse])
    noise = rng.integers(-12, 13, smooth.shape)
    return np.clip(smooth.astype(int) + noise, 0, 255).astype(np.uint8)


@torch.no_grad()
def _compare(about: Published, network: Detector, portrait: np.ndarray) -> tuple[float, float]:
    """The logits of a picture's face under the publisher's crop and under this project's."""
    face = FaceFinder().find(portrait)[0]
    crops = [
        about.crop(portrait, face, network.size),
        context_crop(portrait, face.box, about.margin, network.size)[0],
    ]
    pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
    first, second = network(pixels).logit.tolist()
    return first, second
