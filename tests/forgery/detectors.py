"""The detectors that the conformance battery tests: add a line, and a new one is held to all of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unmask.forgery.plain import Plain


@dataclass(frozen=True)
class Candidate:
    """A detector under test.

    `make` gives it untrained, without a download; `size` is the smallest side that all of its parts work at, which is
    what the battery shows it; `stride` is the map's.
    """

    name: str
    make: Callable[[], Any]
    size: int = 64
    stride: int = 8

    def __str__(self) -> str:
        return self.name


DETECTORS = (
    Candidate("plain-rgb", lambda: Plain("rgb", pretrained=False)),
    Candidate("plain-residual", lambda: Plain("residual", pretrained=False)),
    Candidate("plain-both", lambda: Plain("both", pretrained=False)),
)
