"""A sketch search's run: its configuration, and where its data lie. No torch."""

from dataclasses import dataclass
from pathlib import Path

from unmask.lab.config import ExportOptions, LabPaths, TrainConfig, option


@dataclass(frozen=True, kw_only=True)
class SearchTrainConfig(TrainConfig):
    """The configuration of a network for sketch search.

    `classes` are those trained on, in the order of labels, `tested` those of the test split, `people` whether every
    class is one person. `margin` is that of the crop over the face box, 0 for whole pictures.
    """

    method: str = "sbka"
    margin: float = 0.0
    learning_rate: float = 1e-4
    sketches: int = option(16, "Sketches in a step.", low=2)
    photos: int = option(32, "Photos in a step.", low=2)
    unseen: tuple[str, ...] = option(
        (),
        "A class to test on, never trained on; repeatable; or a published list: sketchy-25, sketchy-21, tuberlin-30, "
        "quickdraw-30. Default: a fifth of the classes, drawn by hash.",
        metavar="CLASS|LIST",
    )
    limit: int = option(0, "Sketches and photos of a class at most; 0: all.", low=0)
    classes: tuple[str, ...] = ()
    tested: tuple[str, ...] = ()
    people: bool = False
    prior: str = "none"


@dataclass(frozen=True, kw_only=True)
class SearchPaths(LabPaths):
    """Also where WordNet lies, from which the semantic prior is made."""

    wordnet: Path | None = option(
        None,
        "WordNet's folder of database files, for the semantic prior (Debian: wordnet-base, /usr/share/wordnet).",
        metavar="DIR",
    )


@dataclass(frozen=True, kw_only=True)
class SearchExport(ExportOptions):
    """Also what the card says of the rights to the training data."""

    terms: str = option(
        "not stated by who trained it: ask there before any use",
        "Whose the training data are and under which terms, for the card.",
    )
