"""What can be measured: runs, fused runs and packs, found by name; and the twins that a held-out split is tested on.

Lab only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from unmask.datasets.face_store import StoredFace
from unmask.errors import DataError
from unmask.forgery.fusion import Fused
from unmask.lab.detection.pairs_pool import Twins
from unmask.lab.detection.reconstructions import make_twins, train_zoo, zoo_and_taef2
from unmask.lab.detection.scoring import Scorer, logits_of
from unmask.lab.detection.train import Workshop, load_run, twinned
from unmask.lab.run import Run
from unmask.packs import Pack, load_pack
from unmask.packs.card import Calibration


@dataclass(frozen=True)
class Contender:
    """A detector that can be measured: its name, how it scores crops, and the crops it wants (side in pixels, margin).

    `calibration` is that of a pack, None for a run; `spectra` are those it was trained for.
    """

    name: str
    scorer: Scorer
    size: int
    margin: float
    calibration: Calibration | None = None
    spectra: tuple[str, ...] = ("visible",)

    def check(self, faces: Sequence[StoredFace], split: str) -> None:
        """Refuse faces that the detector was not trained for.

        Raises:
            DataError: naming the first such face.
        """
        for face in faces:
            if face.sample.split == split and face.sample.spectrum not in self.spectra:
                raise DataError(
                    f"{face.sample.path}: spectrum {face.sample.spectrum}, but {self.name} was trained for "
                    f"{' and '.join(self.spectra)}; leave such rows out or take another detector"
                )


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


def find_detector(name: str) -> Contender:
    """A run folder, several to fuse with commas between them, or a pack by name or folder.

    Raises:
        DataError, PackError: it is none of these, or the runs do not belong together.
    """
    folders = [Path(part) for part in name.split(",")]
    if all((folder / "run.json").is_file() for folder in folders):
        protocols = [Run.protocol_of(folder) for folder in folders]
        margins = sorted({protocol.margin for protocol in protocols})
        if len(margins) > 1:
            raise DataError(f"{name}: these runs crop faces at different margins ({', '.join(map(str, margins))})")
        spectra = sorted(set.intersection(*(set(protocol.spectra) for protocol in protocols)))
        return Contender(name, run_scorer(folders), protocols[0].size, margins[0], None, tuple(spectra))
    pack = load_pack(name, "forgery_detection")
    card = pack.card
    assert card.crop_margin is not None  # a forgery detector's card is not complete without
    return Contender(name, pack_scorer(pack), card.input_size[0], card.crop_margin, card.calibration, card.spectra)


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
