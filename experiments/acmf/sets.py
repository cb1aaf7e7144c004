"""What the experiments on `acmf` share: three families of forgeries on real faces, and detectors that learn the first.

A: the face changed its look a little, went through a decoder whose transposed convolution leaves a checkerboard, and
was pasted back. B: self-blended faces and swapped ones, without a decoder. C: as A, with a decoder that leaves ringing
instead; on the validation split alone, to select on. Seams and strange colours are common to all, A's board is not.
The decoders are stand-ins, see `unmask.forging.upsampling`.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from common import (
    Forge,
    config_for,
    data_hash,
    make_held,
    make_pool,
    parser,
    read_record,
    reals,
    settings_of,
    train,
)
from torch import Tensor

from unmask.datasets.face_store import StoredFace
from unmask.forgery.acmf import ACMF, Mode, blur, matched_blur_sigma
from unmask.forging.blending import blend, blending_mask, change_look, pose_distance, self_blend, swap_face
from unmask.forging.upsampling import Fingerprint, fingerprint
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.detection.pairs_pool import Pool

SIZE = 64
SOURCES = ("ffhq", "celebamask", "utkface")
MOST = {"train": 500, "val": 150, "test": 150}  # faces of every source
PAIRS = 2000
A, B_BLENDS, B_SWAPS, C = "A", "B, self-blends", "B, swaps", "C (validation)"
Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Arm:
    """What a detector learns from: how much is masked and how, the share of pictures blurred instead, and mu."""

    rate: float
    mode: Mode = "signed"
    blurred: float = 0.0
    consistency: float = 0.0


class Blurred(ACMF):
    """The control: a share of the pictures is blurred, and nothing masked."""

    sigma: float
    share: float

    def masked_view(self, faces: Tensor, generator: torch.Generator | None = None) -> Tensor:
        chosen = torch.rand((len(faces), 1, 1, 1), device=faces.device, generator=generator) < self.share
        return torch.where(chosen, blur(faces, self.sigma), faces)


def options(doc: str, seeds: int = 5, steps: int = 200) -> argparse.ArgumentParser:
    """Those of every experiment; all three scripts take the same steps, so that they share detectors."""
    arguments = parser(doc)
    arguments.set_defaults(seeds=seeds, steps=steps)
    return arguments


def settings(chosen: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """For the record."""
    return settings_of(chosen, size=SIZE, sources=SOURCES, most=MOST, pairs=PAIRS, backbone="light", **more)


def faces_of(chosen: argparse.Namespace, split: Split, size: int = SIZE, most: int | None = None) -> list[StoredFace]:
    """Real faces of a split whose crop is `size` pixels wide to the pixel."""
    return reals(chosen.data, chosen.work, split, SOURCES, size, most or MOST[split])


def pasted(kind: Fingerprint) -> Forge:
    """The face of changed look and with a decoder's fingerprint, in the picture that it is from."""

    def forge(rng: np.random.Generator, face: StoredFace) -> tuple[np.ndarray, np.ndarray]:
        pixels = face.pixels()
        mask = blending_mask(rng, pixels.shape, face.mesh, local=0)
        return blend(pixels, fingerprint(rng, change_look(rng, pixels), kind), mask), mask

    return forge


def self_blended(rng: np.random.Generator, face: StoredFace) -> tuple[np.ndarray, np.ndarray]:
    """A self-blended picture."""
    return self_blend(rng, face.pixels(), face.mesh)


def swapped(faces: Sequence[StoredFace]) -> Forge:
    """Swaps among some faces: of twenty drawn of the same source, the one whose pose is nearest is worn."""

    def forge(rng: np.random.Generator, face: StoredFace) -> tuple[np.ndarray, np.ndarray]:
        same = [other for other in faces if other.sample.source == face.sample.source]
        drawn = [same[row] for row in rng.integers(0, len(same), 20)]
        others = [other for other in drawn if other.sample.subject != face.sample.subject]
        worn = min(others, key=lambda other: pose_distance(other.mesh, face.mesh))
        return swap_face(rng, face.pixels(), face.mesh, worn.pixels(), worn.mesh)

    return forge


def pool_of(faces: Sequence[StoredFace], seed: int) -> Pool:
    """Pairs of family A."""
    return make_pool(faces, {A: pasted("checkerboard")}, PAIRS, SIZE, seed)


def validation_of(faces: Sequence[StoredFace], seed: int) -> list[EvalFace]:
    """Family C."""
    return make_held(faces, {C: pasted("ringing")}, SIZE, seed)


def test_of(faces: Sequence[StoredFace], seed: int) -> list[EvalFace]:
    """Families A and B."""
    kinds = {A: pasted("checkerboard"), B_BLENDS: self_blended, B_SWAPS: swapped(faces)}
    return make_held(faces, kinds, SIZE, seed)


def config_of(arm: Arm, pool: Pool, steps: int, seed: int) -> DetectionTrainConfig:
    """Of an arm's run."""
    return config_for("acmf", SIZE, pool, steps, seed, options={"backbone": "light", **asdict(arm)})


def tensor_of(crops: np.ndarray) -> Tensor:
    """Crops uint8 (N, S, S, 3) as (N, 3, S, S) in [0, 1]."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def trained(chosen: argparse.Namespace, arm: Arm, pool: Pool, seed: int) -> ACMF:
    """An arm's detector; one that another script has trained is read. A seed's arms start from the same weights."""
    torch.manual_seed(seed)
    kind = Blurred if arm.blurred else ACMF
    detector = kind("light", weights="none", rate=arm.rate, mode=arm.mode, consistency=arm.consistency)
    if isinstance(detector, Blurred):
        some = tensor_of(pool.pixels[:128].reshape(-1, SIZE, SIZE, 3))
        # As much changes as by masking: a rate of one half is half of what is lost everywhere, or all in every other.
        detector.sigma, detector.share = matched_blur_sigma(some, arm.rate / arm.blurred, arm.mode), arm.blurred
    name = "-".join(map(str, (*asdict(arm).values(), chosen.steps, seed)))
    train(detector, pool, chosen.runs / "acmf" / name, config_of(arm, pool, chosen.steps, seed))
    return detector


def sha256_of_faces(*splits: Sequence[StoredFace]) -> str:
    """Of all faces that take part."""
    return data_hash([face for faces in splits for face in faces])


def rows_of(root: Path, name: str) -> list[Mapping[str, Any]]:
    """The rows of a record beside these scripts; `root` is the repository's."""
    rows: list[Mapping[str, Any]] = read_record(root, f"acmf/{name}")["rows"]
    return rows
