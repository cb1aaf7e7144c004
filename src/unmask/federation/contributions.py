"""What each client gives a federation: the same rounds without it, and what that changes. Lab only: torch, flwr.

Leaving one out trains as many federations more as there are clients. Each is kept below the run's folder, `without/`,
and goes on after a kill as the run itself does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from unmask.errors import DataError
from unmask.federation.training import Setting, trained_network
from unmask.lab.detection.held_out import EvalFace, select_pairs
from unmask.lab.detection.scoring import logits_of
from unmask.lab.metrics import auc, cluster_bootstrap, difference, resampled
from unmask.networks.contract import Trainable
from unmask.progress import Progress
from unmask.tables import write_csv

CONTRIBUTIONS = "contributions.csv"
_FEWEST = 3
_DRAWS = 500


@dataclass(frozen=True)
class Contribution:
    """What a client gives.

    Attributes:
        client: its name.
        gain: mean AUC over families of the run's network, minus that of the network trained without the client.
        low, high: 95 % interval of the gain over subjects; None where it is not defined.
        families: the gain of every family.
    """

    client: str
    gain: float
    low: float | None
    high: float | None
    families: Mapping[str, float]


def check_leaving_out(setting: Setting) -> None:
    """Refuse, before anything is trained, where leaving clients out is not to be had.

    Args:
        setting: of the run.

    Raises:
        DataError: there are fewer than three clients, no validation faces, or something is promised about privacy,
            which further runs on the same data would break.
    """
    if len(setting.members) < _FEWEST:
        raise DataError(f"--leave-one-out of {len(setting.members)} clients leaves no federation; it takes {_FEWEST}")
    if setting.privacy is not None:
        raise DataError("--leave-one-out releases more than --privacy promises; leave one of them out")
    if not setting.held:
        raise DataError("--leave-one-out: the data has no faces in split val to measure on")


def contributions(setting: Setting, folder: Path, network: Trainable, progress: Progress) -> list[Contribution]:
    """Train once more without each client, and compare on the validation faces of the run.

    Args:
        setting: of the run, see `check_leaving_out`.
        folder: of the run.
        network: of the run.
        progress: of the stages "leaving clients out", in clients, and "training".

    Raises:
        DataError: a round has too few updates.
    """
    together = _logits(network, setting.held)
    gains = []
    for number, member in enumerate(setting.members):
        name = member.share.name
        progress.update("leaving clients out", number, len(setting.members), name)
        others = replace(setting, members=tuple(one for one in setting.members if one is not member))
        alone, _ = trained_network(others, folder / "without" / name, progress)
        gains.append(_compared(name, setting.held, together, _logits(alone, setting.held)))
    progress.update("leaving clients out", len(setting.members), len(setting.members))
    return gains


def write_contributions(gains: list[Contribution], path: Path) -> None:
    """Write a line a client: its gain with the interval, and the gain of every family."""
    families = list(gains[0].families)

    def cell(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    rows = [
        [one.client, cell(one.gain), cell(one.low), cell(one.high), *(cell(one.families[name]) for name in families)]
        for one in gains
    ]
    write_csv(path, ["client", "gain", "low", "high", *(f"gain_{name}" for name in families)], rows)


def _logits(network: Trainable, held: tuple[EvalFace, ...]) -> np.ndarray:
    network.eval()
    return logits_of(network, np.stack([face.crop for face in held]), torch.device("cpu"))[0]


def _compared(name: str, held: tuple[EvalFace, ...], with_it: np.ndarray, without_it: np.ndarray) -> Contribution:
    row = {id(face): number for number, face in enumerate(held)}
    labels = np.array([face.label for face in held])
    rows = {
        family: np.array([row[id(face)] for face in select_pairs(family, held)])
        for family in sorted({face.family for face in held if face.label})
    }
    rows = {family: some for family, some in rows.items() if 0 < labels[some].sum() < len(some)}

    def mean_auc(logits: np.ndarray, drawn: np.ndarray | None = None) -> float:
        """Of the families, over rows that may be drawn more than once; nan if one of them has lost a class."""
        times = np.ones(len(held), int) if drawn is None else np.bincount(drawn, minlength=len(held))
        aucs = []
        for some in rows.values():
            chosen = np.repeat(some, times[some])
            if not 0 < labels[chosen].sum() < len(chosen):
                return float("nan")
            aucs.append(auc(labels[chosen], logits[chosen]))
        return float(np.mean(aucs))

    draws = resampled([face.subject for face in held], _DRAWS, 0)
    limits = cluster_bootstrap(
        difference(lambda drawn: mean_auc(with_it, drawn), lambda drawn: mean_auc(without_it, drawn)), draws
    )
    families = {
        family: auc(labels[some], with_it[some]) - auc(labels[some], without_it[some]) for family, some in rows.items()
    }
    return Contribution(name, mean_auc(with_it) - mean_auc(without_it), *limits, families)
