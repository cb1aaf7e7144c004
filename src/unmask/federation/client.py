"""A client: one organisation's pictures, and the training steps it takes on them. Lab only: torch.

The same object trains in process (`local`), behind Flower and in tests. It keeps nothing between rounds but what is its
own by design: the normalisations under FedBN and what compression left unsent, so that any round can be repeated after
a kill and gives the same.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.random import default_rng
from safetensors.numpy import load_file, save_file

from unmask.errors import DataError
from unmask.federation.compression import COMPRESSIONS, Compression, with_feedback
from unmask.federation.privacy import Privacy, clipped, noisy, private_steps
from unmask.federation.updates import USES, State, averaged, load_state, of_normalisations, state_of
from unmask.files import whole
from unmask.lab.config import TrainConfig
from unmask.lab.engine import Feed, Trainer
from unmask.lab.metrics import auc
from unmask.networks.contract import Trainable

PROTOCOL = 1
"""Raised whenever messages change their meaning: client and server of different numbers refuse each other."""


@dataclass(frozen=True)
class RoundConfig:
    """What the server asks of a client in a round.

    `number` counts from 1; `steps` are the optimiser's; `proximal` is FedProx's weight; `local` says whether
    normalisations stay with the client (FedBN); `compression` how its update is sent; `secure` whether the server sees
    no more than the sum, which the client's update then must be clipped for here; `uses` whether it sends along how
    often rows of codebooks and the like were used; `protocol` is the server's.
    """

    number: int
    steps: int
    proximal: float = 0.0
    local: bool = False
    compression: Compression = "none"
    secure: bool = False
    uses: bool = False
    protocol: int = PROTOCOL

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "RoundConfig":
        """Read what came in a message.

        Raises:
            DataError: of another version, or not such a configuration.
        """
        if config.get("protocol") != PROTOCOL:
            raise DataError(
                f"the server speaks version {config.get('protocol')!r} of the protocol, this client {PROTOCOL}; "
                "install the same version of unmask on both"
            )
        try:
            asked = cls(**{name: config[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise DataError(f"the server's configuration lacks {error}; it is of another version") from error
        for name, default in asdict(cls(number=1, steps=1)).items():
            if type(config[name]) is not type(default):
                raise DataError(f"the server's configuration has {name}={config[name]!r}; it is of another version")
        if asked.number < 1 or asked.steps < 1 or asked.compression not in COMPRESSIONS:
            raise DataError(f"the server asks for what cannot be: {asked}")
        return asked


Config = TypeVar("Config", bound=TrainConfig)
Change = Callable[[State, RoundConfig], State]
"""What happens to an update, a difference, before it is sent."""


class Client:
    """One organisation.

    Args:
        name: what server and tables call it.
        fabric: launched.
        network: gives a network of the kind that is trained; one that another client has left is fine, for all of its
            state is set.
        feed: its batches.
        pictures: how many it trains on: its weight in the mean.
        config: of the training as if it were of one run: `steps` over all rounds, which the learning rate's schedule
            spans.
        folder: where it keeps what stays with it.
        privacy: what of it happens here: "local" and "distributed" clip and blur the update, "dp-sgd" the pairs'
            gradients; "central" clips the update where the server cannot. With any mechanism buffers, which no gradient
            moves, are not sent, and the client's weight in the mean is 1, for how much it holds is private too; and
            unless the server is trusted ("central") metrics are not sent, which have no noise.
        change: applied to every update before it is sent: an attack, in experiments.

    Raises:
        DataError: it has no pictures.
    """

    def __init__(
        self,
        name: str,
        fabric: Fabric,
        network: Callable[[], Trainable],
        feed: Feed,
        pictures: int,
        config: TrainConfig,
        folder: Path,
        privacy: Privacy | None = None,
        change: Change | None = None,
    ) -> None:
        self.name, self.pictures, self.folder, self._privacy = name, pictures, folder, privacy
        self._fabric, self._network, self._feed, self._config, self._change = fabric, network, feed, config, change

    def fit(self, arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> tuple[State, int, dict[str, float]]:
        """Train from the global weights for a round.

        Args:
            arrays: the global weights, all parameters and buffers by name.
            config: the fields of `RoundConfig`.

        Returns:
            By how much each averaged array changed, compressed as asked, and uses if these are asked for; the number of
            pictures it was trained on; and the metrics of `Trainer.advance`, with the AUC of the global weights on its
            own validation faces ("auc"), unless its data are protected by noise. A client without pictures changes
            nothing.

        Raises:
            DataError: the configuration is of another version, or the weights are of another network.
        """
        asked = RoundConfig.of(config)
        network = self._network()
        own = state_of(network)
        strange = sorted(own.keys() ^ arrays.keys())
        if strange or any(own[name].shape != arrays[name].shape for name in own):
            name = strange[0] if strange else next(n for n in own if own[n].shape != arrays[n].shape)
            raise DataError(f"{self.name}: the server's weights are of another network ({name} differs)")
        local = of_normalisations(network) if asked.local else frozenset()
        buffers = {name for name, _ in network.named_buffers()} if self._privacy is not None else set()
        start = {**arrays, **(self._read(asked.number - 1, "local") if local else {})}
        load_state(network, start)
        for count in network.uses().values():
            count.zero_()  # of another client, where the network is reused
        if not self.pictures:
            none = {name: np.zeros_like(array) for name, array in averaged(own, local | buffers).items()}
            return none | _uses_of(network, asked), 0, {}
        first = (asked.number - 1) * asked.steps
        steps = min(first + asked.steps, self._config.steps)
        before = self._validated(network) if self._privacy is None else {}
        metrics = {**before, **self._train(network, first, steps, asked)}
        trained = state_of(network)
        self._write(asked.number, "local", {name: trained[name] for name in local})
        update = {name: array - start[name] for name, array in averaged(trained, local | buffers).items()}
        if self._privacy is not None:
            update = self._blurred(update, self._privacy, asked)
            metrics = metrics if self._privacy.mechanism == "central" else {}
        if self._change is not None:
            update = self._change(update, asked)
        if asked.compression != "none":
            update, unsent = with_feedback(update, self._read(asked.number - 1, "unsent"), asked.compression)
            self._write(asked.number, "unsent", unsent)
        update |= _uses_of(network, asked)
        return update, self.pictures if self._privacy is None else 1, metrics

    @staticmethod
    def _blurred(update: State, privacy: Privacy, asked: RoundConfig) -> State:
        """The update with as much clipping and noise as is the client's to do."""
        if privacy.mechanism in ("local", "distributed"):
            # Of the system's own randomness: who knew the seed could subtract the noise.
            return noisy(clipped(update, privacy.clip), privacy.deviation, default_rng())
        return clipped(update, privacy.clip) if privacy.mechanism == "central" and asked.secure else update

    def _train(self, network: Trainable, first: int, last: int, asked: RoundConfig) -> dict[str, float]:
        """Take the steps from `first` to before `last`; the network is changed."""
        if self._privacy is not None and self._privacy.mechanism == "dp-sgd":
            device = self._fabric.device
            return private_steps(network, self._feed, self._config, self._privacy, first, last, device)
        trainer = Trainer(self._fabric, network, self._feed, self._config, first=first, proximal=asked.proximal)
        return trainer.advance(last - first).metrics

    @torch.no_grad()
    def _validated(self, network: Trainable) -> dict[str, float]:
        """Mean over families of the AUC on the client's own validation faces; nothing where it has none of a class."""
        network.to(self._fabric.device).eval()
        logits, families = [], []
        for batch in self._feed.validation_batches(self._fabric.device):
            logits.append(network(batch["faces"]).logit.float().cpu().numpy())
            families.append(batch["families"].cpu().numpy())
        if not logits:
            return {}
        scores, kinds = np.concatenate(logits), np.concatenate(families)
        aucs = [
            auc(kinds[rows] > 0, scores[rows])
            for kind in np.unique(kinds[kinds > 0])
            if (rows := np.isin(kinds, (0, kind))).any() and (kinds == 0).any()
        ]
        return {"auc": float(np.mean(aucs))} if aucs else {}

    def _read(self, number: int, what: str) -> State:
        """What of a round stayed here; nothing before the first."""
        path = self.folder / f"{what}-{number}.safetensors"
        return load_file(path) if path.is_file() else {}

    def _write(self, number: int, what: str, state: State) -> None:
        """Keep what stays here of a round, and of the one before, which may have to be repeated."""
        if not state:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole(self.folder / f"{what}-{number}.safetensors") as part:
            save_file({name: np.asarray(array, order="C") for name, array in state.items()}, part)
        (self.folder / f"{what}-{number - 2}.safetensors").unlink(missing_ok=True)


def _uses_of(network: Trainable, asked: RoundConfig) -> State:
    """How often rows were used in the round, as they are sent."""
    counts = network.uses() if asked.uses else {}
    return {USES + name: count.cpu().numpy().astype(np.float32) for name, count in counts.items()}


def for_client(config: Config, number: int) -> Config:
    """A run's configuration for the client of a number: batches and dropout of its own seed, and no moving average."""
    return replace(config, seed=config.seed + 7919 * (number + 1), average=0.0)


def reused(network: Callable[[], Trainable]) -> Callable[[], Trainable]:
    """A function that makes a network once for each thread, for clients that set all of its state themselves.

    Building a network anew takes longer than a training step of a small one.
    """
    kept = threading.local()

    def one() -> Trainable:
        if not hasattr(kept, "network"):
            kept.network = network()
        made: Trainable = kept.network
        return made

    return one


def untrained(network: Callable[[], Trainable], seed: int) -> State:
    """The one initial state that all clients start from: codebooks too, or averaging would mix other codes."""
    torch.manual_seed(seed)
    return state_of(network())
