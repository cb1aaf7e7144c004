"""Differential privacy of a federation: four mechanisms, each with its accountant. Lab only: opacus.

- "central": every client's update is clipped, the server adds noise to their plain mean (McMahan et al., ICLR 2018).
  What is protected is whether an organisation took part at all; the server is trusted.
- "local": every client adds the noise itself before it sends; nobody is trusted, and far more noise is needed.
- "distributed": every client adds a part of the central noise, and nobody sees more than the sum, which secure
  aggregation takes (Goryczka & Xiong, IEEE TDSC 2017). The parts are such that those of the fewest clients that a round
  can have make up the noise; what is promised holds while so many add theirs and do not tell it. The noise is that of
  floating-point numbers, rounded before it is summed: exact analyses are of integer noise (Kairouz et al., ICML 2021).
- "dp-sgd": clients clip and blur the gradient of every pair they train on (Abadi et al., CCS 2016). What is protected
  is one pair of the client's pool, not a person: who is in many pairs is protected less.

Batch normalisation mixes a batch's pictures, and noise on running variances is what breaks a network first; with any
of these the network has group normalisations instead. The accountants are Opacus's, by Renyi divergence; they take a
round's clients or a batch's pairs as drawn at random, each by itself (Poisson sampling), where here their number is
fixed and epochs are shuffled, as is common practice.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from opacus.accountants import RDPAccountant
from opacus.accountants.utils import get_noise_multiplier
from opacus.optimizers import DPOptimizer
from torch import Tensor

from unmask.errors import DataError
from unmask.federation.updates import State
from unmask.lab.config import TrainConfig
from unmask.lab.engine import Feed
from unmask.networks.contract import Trainable

Mechanism = Literal["central", "local", "distributed", "dp-sgd"]


@dataclass(frozen=True)
class Privacy:
    """A mechanism with its settings.

    Attributes:
        mechanism: see the module's head.
        clip: length to which an update, or a pair's gradient, is shortened.
        noise: standard deviation of the noise over `clip`.
        delta: of (epsilon, delta).
        rate: share of the clients that a round asks, or of a client's pairs that a step sees.
        releases: how often something is released: rounds, or a client's steps over all rounds.
        per_round: of these, in a round.
        sharers: of "distributed": clients that together add the noise, the fewest that a round can have.
    """

    mechanism: Mechanism
    clip: float
    noise: float
    delta: float
    rate: float
    releases: int
    per_round: int = 1
    sharers: int = 1

    def __post_init__(self) -> None:
        if self.mechanism not in get_args(Mechanism):
            raise DataError(f"no mechanism {self.mechanism!r}; one of {', '.join(get_args(Mechanism))}")
        if not self.clip > 0 or not math.isfinite(self.clip):
            raise DataError(f"clipping to {self.clip:g}: give a length above 0")
        if not 0 < self.delta < 1:
            raise DataError(f"delta {self.delta:g}: give a probability between 0 and 1, well below 1 / clients")
        if not self.noise > 0:
            raise DataError(f"noise {self.noise:g}: without noise nothing is private; give a number above 0")

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise that a client adds to its clipped update."""
        if self.mechanism not in ("local", "distributed"):
            return 0.0
        return self.clip * self.noise / math.sqrt(self.sharers)

    def epsilon(self, rounds: int) -> float:
        """Epsilon at `delta` after so many rounds."""
        return epsilon_of(self.noise, self.rate, rounds * self.per_round, self.delta)

    def statement(self, rounds: int) -> str:
        """What is guaranteed, in a sentence."""
        unit = {
            "central": "whether an organisation took part, against all but the server",
            "local": "an organisation's pictures, against everybody",
            "distributed": "whether an organisation took part, against everybody from whom "
            f"{self.sharers} clients of a round keep their noise and what they sent",
            "dp-sgd": "one pair of a client's training pool, against everybody",
        }[self.mechanism]
        one, all_of = self.epsilon(1), self.epsilon(rounds)
        return (
            f"({one:.2f}, {self.delta:g})-differentially private in a round and ({all_of:.2f}, {self.delta:g}) in "
            f"{rounds}: {unit}"
        )


def epsilon_of(noise: float, rate: float, releases: int, delta: float) -> float:
    """Epsilon of the subsampled Gaussian mechanism released so many times (Mironov et al. 2019, by Opacus)."""
    if not releases:
        return 0.0
    accountant = RDPAccountant()
    accountant.history = [(noise, rate, releases)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the best order lies at the end of the range: epsilon is an upper bound
        return float(accountant.get_epsilon(delta))


def noise_for(epsilon: float, delta: float, rate: float, releases: int) -> float:
    """The noise that gives epsilon after so many releases.

    Raises:
        DataError: no noise is enough for it, or epsilon is not above 0.
    """
    if not epsilon > 0:
        raise DataError(f"epsilon {epsilon:g}: give a number above 0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(
                get_noise_multiplier(
                    target_epsilon=epsilon, target_delta=delta, sample_rate=rate, steps=releases, accountant="rdp"
                )
            )
    except ValueError as error:
        raise DataError(f"epsilon {epsilon:g} at delta {delta:g} is out of reach in {releases} releases") from error


def length(update: Mapping[str, np.ndarray]) -> float:
    """The Euclidean length of an update over all its arrays."""
    return math.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in update.values()))


def clipped(update: Mapping[str, np.ndarray], most: float) -> State:
    """An update, shortened to a length if it is longer."""
    own = length(update)
    factor = 1.0 if own <= most else most / own
    return {name: (array * factor).astype(array.dtype) for name, array in update.items()}


def noisy(update: Mapping[str, np.ndarray], deviation: float, rng: np.random.Generator) -> State:
    """An update with Gaussian noise on every number."""
    return {
        name: (array + rng.normal(0.0, deviation, array.shape)).astype(array.dtype) for name, array in update.items()
    }


def private_steps(
    network: Trainable,
    feed: Feed,
    config: TrainConfig,
    privacy: Privacy,
    first: int,
    last: int,
    device: torch.device,
) -> dict[str, float]:
    """Train a network by DP-SGD: every pair's own gradient is clipped, noise is added to their sum (by Opacus).

    The loss of a pair is that of a batch of its two faces alone, all terms, so that no term reaches across pairs.

    Args:
        network: without batch normalisation; changed.
        feed: of the client.
        config: learning rate, weight decay, pairs of a step.
        privacy: of the mechanism "dp-sgd".
        first: of the steps to take; `last` the one after the last.
        device: to compute on.

    Returns:
        The metrics of `Trainer.advance`: the mean loss, and how many of the gradients were clipped ("clipped").

    Raises:
        DataError: the network has batch normalisations, or the configuration an optimiser other than AdamW.
    """
    if config.optimiser:
        raise DataError("DP-SGD takes one gradient of every pair and AdamW's step; train with --optimiser adamw")
    if any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise DataError("batch normalisation mixes pairs, which DP-SGD must keep apart; train with group normalisation")
    network.to(device).train()
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimiser = DPOptimizer(
        torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay),
        noise_multiplier=privacy.noise,
        max_grad_norm=privacy.clip,
        expected_batch_size=feed.count,
    )
    losses, long, seen = 0.0, 0, 0
    batches = feed.batches(device, first)
    for step in range(first, last):
        torch.manual_seed((config.seed * 1_000_003 + step) & 0x7FFFFFFF)
        samples: list[list[Tensor]] = []
        for pair in _pairs(next(batches)):
            network.zero_grad(set_to_none=True)
            loss = torch.stack(list(network.training_losses(pair).values())).sum()
            loss.backward()
            own = [torch.zeros_like(w) if w.grad is None else w.grad.detach().clone() for w in weights]
            long += bool(torch.sqrt(sum((g.square().sum() for g in own), torch.zeros(()))) > privacy.clip)
            samples.append(own)
            losses, seen = losses + float(loss.detach()), seen + 1
        for number, weight in enumerate(weights):
            weight.grad_sample = torch.stack([own[number] for own in samples])  # type: ignore[attr-defined]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return {"loss": losses / max(seen, 1), "clipped": long / max(seen, 1)}


def _pairs(batch: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """A batch's pairs, each as a batch of two; numbers that hold for the whole batch stay."""
    count = len(batch["faces"]) // 2
    for number in range(count):
        yield {
            name: tensor if tensor.ndim == 0 else tensor[2 * number : 2 * number + 2] for name, tensor in batch.items()
        }
