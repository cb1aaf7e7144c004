"""What travels between clients and server: named arrays. What is refused in an update, and why. Lab only: torch."""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import nn

from unmask.errors import DataError

State = dict[str, np.ndarray]
"""Arrays by name, float32 but for counters and the like."""

USES = "uses of "
"""With an array's name: how often each of its rows was used in a round."""

_NORMALISATIONS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


class UpdateError(DataError):
    """A client's update that cannot be taken into the average; the message names the client."""


def state_of(network: nn.Module) -> State:
    """A copy of a network's parameters and buffers."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in network.state_dict().items()}


def load_state(network: nn.Module, state: Mapping[str, np.ndarray]) -> None:
    """Set those of a network's parameters and buffers that a state has; the others stay as they are."""
    own = network.state_dict()
    with torch.no_grad():
        for name, array in state.items():
            own[name].copy_(torch.from_numpy(np.array(array)))


def of_normalisations(network: nn.Module) -> frozenset[str]:
    """The names of all parameters and buffers of batch, group and layer normalisations."""
    return frozenset(
        f"{prefix}.{name}" if prefix else name
        for prefix, module in network.named_modules()
        if isinstance(module, _NORMALISATIONS)
        for name in module.state_dict()
    )


def averaged(state: Mapping[str, np.ndarray], local: Collection[str] = ()) -> State:
    """The arrays of a state that are averaged: floating ones that are not kept local. Counters stay the server's."""
    return {name: array for name, array in state.items() if array.dtype.kind == "f" and name not in local}


def check_update(update: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], client: str) -> None:
    """Refuse an update that is not one of the network's.

    Args:
        update: what a client sent.
        reference: what the server sent it.
        client: its name, for the message.

    Raises:
        UpdateError: another set of names, a shape or a type that differs, a value that is not finite, or uses below 0.
    """
    absent, strange = sorted(reference.keys() - update.keys()), sorted(update.keys() - reference.keys())
    if absent or strange:
        what = f"lacks {absent[0]}" if absent else f"has {strange[0]}, which the network has not"
        raise UpdateError(f"{client}: its update {what}; it trains another network or another version")
    for name, array in update.items():
        wanted = reference[name]
        if array.shape != wanted.shape or array.dtype.kind != wanted.dtype.kind:
            raise UpdateError(
                f"{client}: {name} is {array.dtype} {array.shape} in its update, {wanted.dtype} {wanted.shape} in the "
                "network; it trains another network or another version"
            )
        if not np.isfinite(array).all():
            raise UpdateError(f"{client}: {name} has values that are not finite; its training diverged")
        if name.startswith(USES) and array.min(initial=0) < 0:
            raise UpdateError(f"{client}: {name} are below 0")


def check_count(count: object, most: int | None, client: str) -> int:
    """The number of training pictures that a client says its update is of.

    Args:
        count: as it came.
        most: what it said when it joined; None if that is not known.
        client: its name, for the message.

    Raises:
        UpdateError: no whole number of at least 0, or more than it said when it joined.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
        raise UpdateError(f"{client}: {count!r} is no number of pictures")
    if most is not None and count > most:
        raise UpdateError(f"{client}: says its update is of {count:,} pictures, and when it joined it had {most:,}")
    return int(count)
