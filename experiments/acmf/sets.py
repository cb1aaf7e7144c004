"""What the experiments on `acmf` share: families of forgeries on real faces, and detectors that learn the first.

Known, trained on: the face changed its look a little, went through a decoder with a fingerprint, and was pasted back;
half of them with a transposed convolution's checkerboard, half with ringing. Not known, on the test split alone: the
same with the fingerprint of nearest neighbours; and self-blended and swapped faces, without a decoder. On the
validation split alone, to choose on: the known ones, and the same with a decoder's low-pass, which no test holds. Seams
and strange colours are common to all. The decoders are stand-ins, see `unmask.forging.upsampling`.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import numpy as np
import torch
from common import (
    Forge,
    by_seed,
    config_for,
    data_hash,
    make_held,
    make_pool,
    parser,
    read_record,
    reals,
    score,
    settings_of,
    take_auc,
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
LEARNT: tuple[Fingerprint, ...] = ("checkerboard", "ringing")
KNOWN, OTHER, BLENDS, SWAPS = "known decoders", "another decoder", "self-blends", "swaps"
TESTED = (KNOWN, OTHER, BLENDS, SWAPS)
VALIDATED, CHOOSING = "known decoders (validation)", "low-pass (validation)"
ENOUGH = 0.98
"""The validation AUC on known decoders from which on an arm has learnt enough to be compared."""
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


def options(doc: str, seeds: int = 5, steps: int = 1600) -> argparse.ArgumentParser:
    """Those of every experiment; all three scripts take the same steps, so that they share detectors."""
    arguments = parser(doc)
    by_seed(arguments)
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
    """Pairs of the known decoders."""
    return make_pool(faces, {kind: pasted(kind) for kind in LEARNT}, PAIRS, SIZE, seed)


def validation_of(faces: Sequence[StoredFace], seed: int) -> list[EvalFace]:
    """The known decoders, and the one that is chosen on."""
    return make_held(faces, {kind: pasted(kind) for kind in (*LEARNT, "blur")}, SIZE, seed)


def test_of(faces: Sequence[StoredFace], seed: int) -> list[EvalFace]:
    """The known decoders and what is not known."""
    decoders = {kind: pasted(kind) for kind in (*LEARNT, "nearest")}
    return make_held(faces, {**decoders, BLENDS: self_blended, SWAPS: swapped(faces)}, SIZE, seed)


def areas_of(detector: ACMF, faces: Sequence[EvalFace], families: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """AUC against all reals, a mean over some families each, by the name of the group."""
    logits = score(detector, faces)
    return {
        name: float(np.mean([take_auc(faces, logits, family) for family in members]))
        for name, members in families.items()
    }


def validation_areas(detector: ACMF, faces: Sequence[EvalFace]) -> dict[str, float]:
    """On what `validation_of` gives."""
    return areas_of(detector, faces, {VALIDATED: LEARNT, CHOOSING: ("blur",)})


def test_areas(detector: ACMF, faces: Sequence[EvalFace]) -> dict[str, float]:
    """On what `test_of` gives."""
    return areas_of(detector, faces, {KNOWN: LEARNT, OTHER: ("nearest",), BLENDS: (BLENDS,), SWAPS: (SWAPS,)})


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


def rows_of(root: Path, name: str) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Settings and rows of a record beside these scripts; `root` is the repository's."""
    record = read_record(root, f"acmf/{name}")
    return record["settings"], record["rows"]


def learnt(rows: Sequence[Mapping[str, Any]], arms: Iterable[str]) -> str:
    """Which arms have not learnt enough to be compared, as a sentence."""
    by = {arm: mean(row[VALIDATED] for row in rows if row["arm"] == arm) for arm in {row["arm"] for row in rows}}
    poor = [f"{arm} ({by[arm]:.3f})" for arm in arms if by.get(arm, 1) < ENOUGH]
    if not poor:
        return "All arms have learnt enough to be compared."
    return f"**Not to be compared, for they have learnt too little**: {', '.join(poor)}."
