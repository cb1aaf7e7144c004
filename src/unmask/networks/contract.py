"""What every network of the lab is, whatever its task: its input, and what the engine asks of it. Lab only: torch."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from unmask.errors import DataError

Batch = Mapping[str, Tensor]
"""What a detector learns from.

`faces` (B, 3, S, S) in [0, 1]; `labels` (B,) float, 1 = forged; `masks` (B, 1, m, m)
in [0, 1], the share of forged pixels, negative = not known; `families` (B,) long, 0 = real, k = the detector's k-th
generator; `progress` () in [0, 1], how much of the training is done.
"""


class Network(nn.Module):
    """What sees faces, float32 (B, 3, S, S) RGB in [0, 1].

    It normalises them itself, with `mean` and `std`, so that losses and attacks work on pixels. `size` is the side of
    its input in pixels, a multiple of `step`, which may be set to another one before training.
    """

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    size: int = 224
    step: int = 32

    def normalised(self, faces: Tensor) -> Tensor:
        """(faces - mean) / std: what the first layer is given of faces (B, 3, S, S) in [0, 1]."""
        mean = torch.tensor(self.mean, device=faces.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=faces.device).view(1, 3, 1, 1)
        return (faces - mean) / std


class Objective(Protocol):
    """What training minimises in place of a network's own loss; its state is saved with a run's checkpoint."""

    def __call__(self, network: Any, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, scalars; their sum is minimised."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What is carried from step to step."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        ...


class Trainable(Network, ABC):
    """A network that the engine can train.

    Attributes:
        task: the name of the task that it is for, as on a card; or `module:Object` of a task outside the package.
        objective: what is minimised in place of `training_losses`, such as in adversarial training; None for these.
        longest_gradient: the norm that a step's gradient is shortened to if it is longer.
        rate_shares: for parameters whose names begin so, the share of the learning rate that they are trained at.
    """

    task: ClassVar[str]
    longest_gradient: ClassVar[float] = 2.0
    rate_shares: ClassVar[Mapping[str, float]] = MappingProxyType({})
    objective: Objective | None = None

    @abstractmethod
    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, scalars; their sum is minimised. Randomness comes from torch's global generator."""

    def uses(self) -> dict[str, Tensor]:
        """How often each row of some parameters was used in training so far, long (rows,), by the parameters' names.

        Of parameters of which a batch reaches some rows only, such as a codebook: federated averaging weights their
        rows by it. By default of none.
        """
        return {}

    def objective_losses(self, batch: Batch) -> dict[str, Tensor]:
        """What a step of training minimises: the terms of `objective`, or of `training_losses` if there is none."""
        return self.training_losses(batch) if self.objective is None else self.objective(self, batch)

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Learn what must be known of the training data before the first step; by default nothing.

        Args:
            batches: finitely many, of the training split alone.
        """

    def fit_posthoc(self, training: Iterable[Batch], validation: Iterable[Batch]) -> None:
        """Fit what is fitted on the frozen network after the last step; by default nothing.

        Called once, in evaluation mode, without gradients.

        Args:
            training: finitely many batches of the training split.
            validation: the validation split's faces once; `masks` are all unknown.
        """


class Hardenable(Trainable, ABC):
    """A network that tells classes apart, so that it can be attacked and hardened by adversarial training.

    A batch's `labels` (B,) are its classes.

    Attributes:
        reverse_attention: whether `heads` has auxiliary logits, see `unmask.networks.reverse_attention`.
        auxiliary_heads: how many it has then.
    """

    reverse_attention: bool = False
    auxiliary_heads: int = 1

    @abstractmethod
    def heads(self, faces: Tensor, classes: Tensor | None = None, soft: bool = False) -> tuple[Tensor, ...]:
        """Class logits, float32 (B, C) each, differentiable.

        Args:
            faces: (B, 3, S, S) in [0, 1].
            classes: (B,) long, that choose the masks of reverse attention; the network's own predictions if None.
            soft: mix the masks of all classes by their probabilities in place of choosing one.

        Returns:
            The final logits. With reverse attention the auxiliary ones follow, the first of them those that are served.
        """

    def check_reverse_attention(self) -> None:
        """Refuse reverse attention where it cannot be.

        Raises:
            DataError: the network's last features meet no linear layer.
        """
        raise DataError(f"{type(self).__name__}: reverse attention (--ra) is not defined for this network; go without")
