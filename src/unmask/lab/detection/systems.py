"""What can be measured as a detector: runs, fused runs and packs, by name. Lab only."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask.datasets.face_store import StoredFace
from unmask.errors import DataError
from unmask.forgery.fusion import Fused
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.onnx_scoring import detectors_of, scorer_of_runs
from unmask.lab.detection.scoring import Scorer
from unmask.lab.run import config_of, is_run
from unmask.packs import Pack, load_pack
from unmask.packs.card import Calibration


@dataclass(frozen=True)
class EvaluatedSystem:
    """A detector that can be measured: its name, how it scores crops, and the crops it wants (side in pixels, margin).

    `calibration` is that of a pack, None for a run; `spectra` are those it was trained for. `runs` are the
    configurations that it was trained under, as far as a pack's card has them; `training_data` is what else the card
    says of it.
    """

    name: str
    scorer: Scorer
    size: int
    margin: float
    calibration: Calibration | None = None
    spectra: tuple[str, ...] = ("visible",)
    runs: tuple[Mapping[str, Any], ...] = ()
    training_data: str = ""

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
    """A scorer over a pack's own engine: what is evaluated is what is published."""

    def score(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, maps = [], []
        for start in range(0, len(crops), 16):
            pixels = crops[start : start + 16].transpose(0, 3, 1, 2).astype(np.float32) / 255
            logit, heat = pack.run(pixels)
            logits.append(logit)
            maps.append(heat[:, 0])
        return np.concatenate(logits), np.concatenate(maps)

    return score


def load_fused(folders: Sequence[Path]) -> Fused:
    """The averaged detectors of finished runs as one network, for whoever needs its gradients.

    Raises:
        DataError: a run is not finished, or of another task; or they see faces at different sizes.
    """
    return Fused(detectors_of(folders))


def resolve_system(name: str) -> EvaluatedSystem:
    """A run folder, several to fuse with commas between them, or a pack by name or folder.

    Raises:
        DataError, PackError: it is none of these, or the runs do not belong together.
    """
    folders = [Path(part) for part in name.split(",")]
    if all(map(is_run, folders)):
        configs: list[DetectionTrainConfig] = [config_of(folder) for folder in folders]
        margins = sorted({config.margin for config in configs})
        if len(margins) > 1:
            raise DataError(f"{name}: these runs crop faces at different margins ({', '.join(map(str, margins))})")
        spectra = sorted(set.intersection(*(set(config.spectra) for config in configs)))
        return EvaluatedSystem(
            name,
            scorer_of_runs(folders),
            configs[0].size,
            margins[0],
            None,
            tuple(spectra),
            tuple(asdict(config) for config in configs),
        )
    pack = load_pack(name, "forgery_detection")
    card = pack.card
    assert card.crop_margin is not None  # a forgery detector's card is not complete without
    return EvaluatedSystem(
        *(name, pack_scorer(pack), card.input_size[0], card.crop_margin, card.calibration, card.spectra),
        tuple(card.protocol.get("runs", ())),
        card.training_data,
    )
