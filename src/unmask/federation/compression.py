"""Smaller messages: updates in half precision or in bytes, with what that loses sent along the next time.

Error feedback (Seide et al., INTERSPEECH 2014; Karimireddy et al., ICML 2019): a client keeps the difference between
what it meant to send and what it sent, and adds it to its next update, so that rounding errors do not add up.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from unmask.errors import DataError
from unmask.federation.updates import State

Compression = Literal["none", "fp16", "int8"]
COMPRESSIONS: tuple[Compression, ...] = ("none", "fp16", "int8")
_SCALE = "scale of "
_LEVELS = 127


def compress(update: Mapping[str, np.ndarray], how: Compression) -> State:
    """An update as it is sent: float16; or int8 by array, with its scale as one more array.

    Args:
        update: float32 arrays by name.
        how: "none" leaves it as it is.
    """
    if how == "none":
        return dict(update)
    if how == "fp16":
        largest = float(np.finfo(np.float16).max)
        return {name: np.clip(array, -largest, largest).astype(np.float16) for name, array in update.items()}
    sent: State = {}
    for name, array in update.items():
        scale = float(np.abs(array).max(initial=0.0)) / _LEVELS
        sent[name] = np.round(array / scale).astype(np.int8) if scale else np.zeros(array.shape, np.int8)
        sent[f"{_SCALE}{name}"] = np.asarray(scale, np.float32)
    return sent


def restore(sent: Mapping[str, np.ndarray]) -> State:
    """The update that was compressed, float32.

    Raises:
        DataError: an array of bytes without its scale.
    """
    update: State = {}
    for name, array in sent.items():
        if name.startswith(_SCALE):
            continue
        if array.dtype == np.int8:
            scale = sent.get(f"{_SCALE}{name}")
            if scale is None or scale.shape != ():
                raise DataError(f"{name} came in bytes without its scale")
            update[name] = array.astype(np.float32) * np.float32(scale)
        else:
            update[name] = array.astype(np.float32) if array.dtype == np.float16 else array
    return update


def with_feedback(
    update: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray], how: Compression
) -> tuple[State, State]:
    """What to send of an update, and what stays for the next one.

    Args:
        update: of this round.
        before: what stayed of the round before; may be empty.
        how: to compress.
    """
    meant = {name: array + before[name] if name in before else array for name, array in update.items()}
    sent = compress(meant, how)
    arrived = restore(sent)
    return sent, {name: (array - arrived[name]).astype(np.float32) for name, array in meant.items()}
