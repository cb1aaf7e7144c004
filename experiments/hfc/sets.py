"""What the experiments on `hfc` share: four forged families, detectors that start alike, and what they say of classes.

The families stand in for generators; see `unmask.forging.upsampling` and `unmask.forging.blending`. "checkerboard" and
"ringing" are marks of two decoders all over the picture. "smooth" is local: a low-pass over a single feature of the
face. "swap" is another subject's face, without a decoder.

In trials of a few hundred steps on validation subjects the image branch learned next to nothing where decoders' marks
lay within masks around the face, nor from self-blended pictures, so that the marks are everywhere and those are left
out; 480 steps of 4 pairs taught it more than 240 of 8, and learning rates above 1e-3 nothing.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from common import Forge, reals, settings_of
from sklearn.metrics import roc_curve
from torch import Tensor

from unmask.datasets.face_store import StoredFace
from unmask.forgery.hfc import HFC
from unmask.forging.blending import blending_mask, pose_distance, swap_face
from unmask.forging.perturbation import Rule, subset_of
from unmask.forging.upsampling import Fingerprint, fingerprint
from unmask.lab.detection.held_out import EvalFace

SIZE = 64
BATCH_PAIRS = 4
SOURCES = ("ffhq", "celebamask", "utkface")
MOST = {"train": 500, "val": 60, "test": 70}  # faces of every source
FAMILIES = ("checkerboard", "ringing", "smooth", "swap")
DONORS = 10  # candidates for a swap, the nearest in pose is taken
Split = Literal["train", "val", "test"]
Kind = TypeVar("Kind", bound=HFC)


def settings(chosen: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """For the record."""
    return settings_of(chosen, size=SIZE, batch_pairs=BATCH_PAIRS, sources=SOURCES, most=MOST, trunk="small", **more)


def faces_of(chosen: argparse.Namespace, split: Split) -> list[StoredFace]:
    """Real faces of a split."""
    return reals(chosen.data, chosen.work, split, SOURCES, SIZE, MOST[split])


def printed(kind: Fingerprint, rng: np.random.Generator, face: StoredFace) -> tuple[np.ndarray, np.ndarray]:
    """A decoder's mark everywhere."""
    pixels = face.pixels()
    return fingerprint(rng, pixels, kind), np.ones(pixels.shape[:2], np.float32)


def smoothed(rng: np.random.Generator, face: StoredFace) -> tuple[np.ndarray, np.ndarray]:
    """A low-pass over one feature of the face, or over two that belong together."""
    pixels = face.pixels()
    mask = blending_mask(rng, pixels.shape, face.mesh, local=1)
    return fingerprint(rng, pixels, "blur", mask=mask), mask


def swapped(donors: Sequence[StoredFace], rng: np.random.Generator, face: StoredFace) -> tuple[np.ndarray, np.ndarray]:
    """Another subject's face on this head."""
    drawn = [donors[int(row)] for row in rng.integers(0, len(donors), DONORS)]
    others = [other for other in drawn if other.sample.subject != face.sample.subject]
    donor = min(others, key=lambda other: pose_distance(other.mesh, face.mesh))
    return swap_face(rng, face.pixels(), face.mesh, donor.pixels(), donor.mesh)


def kinds_of(donors: Sequence[StoredFace]) -> dict[str, Forge]:
    """The four families; swaps take faces of the same split."""
    makers: tuple[Forge, ...] = (
        partial(printed, "checkerboard"),
        partial(printed, "ringing"),
        smoothed,
        partial(swapped, donors),
    )
    return dict(zip(FAMILIES, makers, strict=True))


def perturbed(rule: Rule, rng: np.random.Generator, crop: np.ndarray) -> np.ndarray:
    """A crop as ForgeryNIR's subset of this rule holds it."""
    return subset_of(rng, crop, rule)[0]


def build(kind: type[Kind], seed: int, **options: Any) -> Kind:
    """A detector; what it has in common with others of this seed, by name and shape, starts from the same weights."""
    torch.manual_seed(seed)
    first = HFC(generators=options["generators"]).state_dict()
    torch.manual_seed(seed)
    detector = kind(**options)
    own = detector.state_dict()
    shared = {name: value for name, value in first.items() if name in own and own[name].shape == value.shape}
    detector.load_state_dict({**own, **shared})
    return detector


@torch.no_grad()
def answers(detector: HFC, faces: Sequence[EvalFace]) -> tuple[np.ndarray, Tensor]:
    """Logits (N,), and the probabilities of real and of each generator, (N, 1 + G)."""
    crops = torch.from_numpy(np.stack([face.crop for face in faces])).permute(0, 3, 1, 2)
    outputs = [detector(some.float() / 255) for some in crops.split(64)]
    return torch.cat([one.logit for one in outputs]).numpy(), torch.cat([one.extras["classes"] for one in outputs])


def classes_of(faces: Sequence[EvalFace], generators: Sequence[str]) -> Tensor:
    """(N,) 0 = real, k = k-th generator."""
    return torch.tensor([generators.index(face.family) + 1 if face.label else 0 for face in faces])


def evenly(families: Tensor) -> Tensor:
    """Rows of held-out faces, as many real as forged: every real one comes once for each of its forgeries."""
    forged = int((families > 0).sum())
    times = torch.where(families > 0, 1, forged // (len(families) - forged))
    return torch.arange(len(families)).repeat_interleave(times)


def best_threshold(families: Tensor, logits: np.ndarray) -> float:
    """The logit above which a picture is called forged, such that the balanced accuracy is greatest; of validation."""
    false, true, thresholds = roc_curve((families > 0).numpy(), logits)
    # What is at the threshold is forged in that curve, what is above it in a report.
    return float(np.nextafter(thresholds[np.argmax(true - false)], -np.inf))


def decided(classes: Tensor, logits: np.ndarray, threshold: float) -> Tensor:
    """Probabilities (N, 1 + G) for which real and forged are equally likely at the threshold, generators as they were.

    The frequency of real pictures in training shifts all logits alike; a threshold from validation takes that off.
    """
    real = torch.sigmoid(threshold - torch.from_numpy(logits).double())[:, None]
    generators = classes[:, 1:].double() / classes[:, 1:].sum(1, keepdim=True).clamp(min=1e-30)
    return torch.cat([real, (1 - real) * generators], 1)
