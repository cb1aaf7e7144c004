"""The detectors that the conformance battery tests: add a line, and a new one is held to all of it."""

from collections.abc import Callable
from dataclasses import dataclass

from unmask.forgery.acmf import ACMF
from unmask.forgery.deepfidelity import DeepFidelity
from unmask.forgery.detector import Detector
from unmask.forgery.fedforgery import FedForgery
from unmask.forgery.fusion import Fused
from unmask.forgery.gend import GenD
from unmask.forgery.hfc import HFC
from unmask.forgery.mesonet import MesoNet
from unmask.forgery.plain import Plain

GENERATORS = ("checkers", "stripes")


@dataclass(frozen=True)
class Candidate:
    """A detector under test.

    `make` gives it untrained, without a download; `size` is the smallest side that all of its parts work at, which is
    what the battery shows it; `stride` is the map's. `steps` are enough to learn eight faces by heart. `map_is_taught`
    if masks teach the map; a fused detector is not `trained` itself.
    """

    name: str
    make: Callable[[], Detector]
    stride: int
    size: int = 64
    steps: int = 12
    map_is_taught: bool = False
    trained: bool = True

    def __str__(self) -> str:
        return self.name


def _fused() -> Fused:
    """Members of different methods, normalisations and maps."""
    members = [Plain("rgb", "none"), FedForgery(weights="none", residual=False)]
    for member in members:
        member.size = 128
    return Fused(members)


DETECTORS = (
    Candidate("plain-rgb", lambda: Plain("rgb", "none"), 8, map_is_taught=True),
    Candidate("plain-residual", lambda: Plain("residual", "none"), 8, map_is_taught=True),
    Candidate("plain-both", lambda: Plain("both", "none"), 8, map_is_taught=True),
    Candidate("deepfidelity", lambda: DeepFidelity(), 32, steps=40),
    Candidate("deepfidelity-end-to-end", lambda: DeepFidelity(target="end-to-end"), 32, steps=40),
    Candidate("acmf", lambda: ACMF(weights="none"), 32, steps=25),
    Candidate("acmf-light", lambda: ACMF(backbone="light"), 8, steps=25),
    Candidate("hfc", lambda: HFC(generators=GENERATORS), 16, steps=40),
    Candidate("hfc-flat", lambda: HFC(hierarchy="flat", generators=GENERATORS), 16, steps=40),
    Candidate("fedforgery", lambda: FedForgery(weights="none"), 8, steps=25),
    Candidate("fedforgery-without-residual", lambda: FedForgery(weights="none", residual=False), 32, steps=25),
    Candidate("mesonet", MesoNet, 32, size=256, steps=25),
    Candidate("gend", lambda: GenD("test_vit", "none"), 16, steps=60),
    Candidate("gend-convnext", lambda: GenD("test_convnext", "none"), 32, steps=60),
    Candidate("fused", _fused, 8, trained=False),
)
