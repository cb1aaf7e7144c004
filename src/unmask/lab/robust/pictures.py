"""What an evaluation under attack works on: a network, pictures and their classes. Lab only: torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.networks.contract import Hardenable


class Attackable(Protocol):
    """What is attacked: a network with heads (`unmask.networks.contract.Hardenable.heads`)."""

    def heads(self, faces: Tensor, classes: Tensor | None = None, soft: bool = False) -> tuple[Tensor, ...]:
        """Class logits, the final ones first."""
        ...


@dataclass(frozen=True)
class AttackedPictures:
    """Pictures, their classes, the network that is attacked and what is known of it.

    Attributes:
        network: in evaluation mode.
        faces: float32 (N, 3, S, S) in [0, 1].
        labels: (N,) long.
        classes: names of the classes.
        settings: of its robust training, empty if there was none.
        twin: a network whose adversarial pictures are tried on it, or None.
        description: of the pictures, for the record.
    """

    network: Attackable
    faces: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    twin: Attackable | None = None
    description: str = ""


def even_rows(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Row numbers of at most so many items, as evenly over the classes as these allow, in order.

    Args:
        labels: (N,) integers.
        most: at least 1.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(labels == one)) for one in np.unique(labels)]
    longest = max(map(len, drawn), default=0)
    in_turn = [rows[place] for place in range(longest) for rows in drawn if place < len(rows)]
    return np.sort(np.array(in_turn[:most], np.intp))


def as_pictures(crops: np.ndarray) -> Tensor:
    """uint8 (N, S, S, 3) as float32 (N, 3, S, S) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2))).float() / 255


def alike(networks: Sequence[nn.Module], names: Sequence[str]) -> None:
    """Refuse a twin that sees pictures of another size, or has masks itself.

    Raises:
        DataError: it does.
    """
    sizes = [int(network.size) for network in networks]  # type: ignore[arg-type]
    if len(set(sizes)) > 1:
        raise DataError(f"--twin {names[1]}: it sees pictures of {sizes[1]} pixels, {names[0]} of {sizes[0]}")
    if len(networks) > 1 and isinstance(networks[1], Hardenable) and networks[1].reverse_attention:
        raise DataError(f"--twin {names[1]}: it has reverse attention; name a run trained without --ra")
