"""A forgery detector's run: its configuration, its paths, and what is asked of its pack. No torch."""

from dataclasses import dataclass
from pathlib import Path

from unmask.lab.config import ExportOptions, FacePaths, TrainConfig, option


@dataclass(frozen=True, kw_only=True)
class DetectionTrainConfig(TrainConfig):
    """The configuration of a detector's run.

    `families` are the forged families it was trained on, in the order of its generators, `kinds` how they forge,
    `sources` the collections of its reals, `spectra` those of the pictures. `window` is the side of the random window
    of a pair that a step sees (the whole crop if it is `size`): traces of forging are local, and a window of half the
    side costs a quarter; every `whole_every`-th step sees whole crops all the same. `before` and `before_sources` are
    the families and sources that the weights at `start` had been trained on. `without` are the families left out: in a
    run's record also those of `without_kinds`, and those beside which only reals of `without_sources` stand.
    """

    families: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    spectra: tuple[str, ...] = ("visible",)
    window: int = option(
        0,
        "Side of the window a step sees; left out, half the size for methods that learn from windows, else all of it.",
        low=64,
        high=1024,
        shown=False,
    )
    whole_every: int = 6
    pairs: int = option(14_000, "Training pairs to make.", low=1)
    batch_pairs: int = option(16, "Pairs in a step.", low=1)
    zoo_steps: int = option(300, "Steps for each network of the autoencoder bank.", low=1)
    twin_draws: int = option(2, "Reconstructions per real face.", low=1)
    reweight_sources: bool = option(
        False, "Draw pairs of those sources more often whose validation reals have the highest loss."
    )
    before: tuple[str, ...] = ()
    before_sources: tuple[str, ...] = ()
    without: tuple[str, ...] = option((), "Leave a family out; repeatable.", metavar="FAMILY")
    without_kinds: tuple[str, ...] = option(
        (), "Leave all families of a kind out; repeatable.", metavar="KIND", flag="without-kind"
    )
    without_sources: tuple[str, ...] = option(
        (),
        "Leave the reals of a source out, and what is forged from them; repeatable.",
        metavar="SOURCE",
        flag="without-source",
    )


@dataclass(frozen=True, kw_only=True)
class DetectionPaths(FacePaths):
    """Also where the weights of the TAEF2 autoencoder, and of other published networks, lie."""

    taef2: Path | None = option(None, "Folder with the TAEF2 autoencoder's weights.", metavar="DIR")
    published: Path | None = option(
        None, "Folder with published networks' weights, whose forgeries join the training pairs.", metavar="DIR"
    )


@dataclass(frozen=True, kw_only=True)
class DetectionExport(ExportOptions):
    """Also the runs to calibrate on: each a run folder, or several to fuse with commas between them."""

    unseen: tuple[str, ...] = option(
        (),
        "A run made --without some families, or several to fuse, to calibrate on; repeatable. Without any, calibration "
        "is on families that the runs know, and the card says so.",
        metavar="RUN[,RUN...]",
    )

    def folders(self) -> list[list[Path]]:
        """The run folders of each detector to calibrate on."""
        return [[Path(part) for part in names.split(",")] for names in self.unseen]
