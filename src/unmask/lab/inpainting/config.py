"""A face generator's run: its configuration and its paths. No torch."""

from dataclasses import dataclass
from pathlib import Path

from unmask.lab.config import LabPaths, TrainConfig, option


@dataclass(frozen=True, kw_only=True)
class InpaintingTrainConfig(TrainConfig):
    """The configuration of a run that learns to paint masked parts of a face anew.

    `autoencoder` is the SHA-256 of the TAEF2 weights in whose latent space it works, `sources` are the collections of
    its faces.
    """

    method: str = "inpainting"
    size: int = 128
    learning_rate: float = 6e-4
    steps: int = 2_400
    batch: int = option(32, "Faces in a step.", low=1)
    per_source: int = option(1_200, "Faces of one source to train on at most; 0: all.", low=0)
    autoencoder: str = ""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class InpaintingPaths(LabPaths):
    """Also where the weights of the TAEF2 autoencoder and of the face parser lie."""

    taef2: Path | None = option(None, "Folder with the TAEF2 autoencoder's weights.", metavar="DIR")
    published: Path | None = option(None, "Folder with published networks' weights: the face parser.", metavar="DIR")
