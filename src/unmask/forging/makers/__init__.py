"""Forgery makers by name: each makes the pictures of one kind of forgery for `unmask forge`.

A maker is one file here and one line in `MAKERS`, or stands in another package: by an entry point of the group
`unmask.makers`, or named in full (`unmask forge --kind my_package.glow:Glow`). What it makes is a family each
(`unmask.forging.families`), and a folder of that name in the set. Lab only.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from unmask.errors import DataError
from unmask.forging.source_faces import Finder
from unmask.media.synthetic_mark import SourceType
from unmask.plugins import Entry, Table


@dataclass(frozen=True)
class FacePicture:
    """A face as the set shows it.

    Attributes:
        pixels: uint8 (S, S, 3) RGB.
        mesh: float32 (468, 2), in pixels.
    """

    pixels: np.ndarray
    mesh: np.ndarray


@dataclass(frozen=True)
class Forgery:
    """What a maker returns.

    Attributes:
        pixels: uint8 (S, S, 3) RGB.
        mask: float (S, S) in [0, 1], 1 where pixels are forged.
        source_type: IPTC's digital source type, with which the picture is marked.
        flags: CIPLAB's four region flags, "1010" for left eye and nose; "" if they do not apply.
        parameters: for the record of the set; what JSON can hold.
    """

    pixels: np.ndarray
    mask: np.ndarray
    source_type: SourceType
    flags: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


class Request(Protocol):
    """One forgery that is asked of a maker, and the faces that it may be made from.

    The set notes which faces a maker looks at: they are named in its record, and decide the picture's subject and
    split. A forgery for which none was looked at shows nobody.

    Attributes:
        family: one of the maker's.
        number: of the picture within its family, from 0.
        size: S, the side of the pictures in pixels, a multiple of 16.
    """

    family: str
    number: int
    size: int

    @property
    def face(self) -> FacePicture:
        """The face to forge."""
        ...

    def donor(self, rng: np.random.Generator) -> FacePicture:
        """A face of another person, posed much alike; only for makers with `needs_donor`."""
        ...

    def photographed(self, pixels: np.ndarray, mesh: np.ndarray | None, name: str) -> np.ndarray:
        """Pixels uint8 (S, S, 3) that are no face of the set, as its camera shows them: near-infrared if so ordered.

        Args:
            pixels: of the picture.
            mesh: of its face, (468, 2) in pixels; None if none was found.
            name: of the picture; the look is the same for the same name.
        """
        ...


@dataclass(frozen=True)
class Setup:
    """What a maker is given once, before the pictures of a set.

    Attributes:
        size: S, as in `Request`.
        seed: of the set.
        finder: finds the face in a picture.
        taef2: folder with the TAEF2 autoencoder's weights; given to makers with `needs_taef2`.
        weights: folder with other published weights, each at a path of its own in it; None if there is none.
    """

    size: int
    seed: int
    finder: Finder
    taef2: Path | None = None
    weights: Path | None = None


class Maker(Protocol):
    """Makes one kind of forgery. Its class is called with a `Setup`; a maker that derives from this has the defaults.

    Attributes:
        families: names of the families that it makes, each a picture in turn; letters, digits, "-" and "_".
        needs_donor: whether it takes from a second person's face.
        needs_taef2: whether it needs the TAEF2 weights.
        by_default: whether it is used where no kind is named; only without downloads and weights.
    """

    families: ClassVar[tuple[str, ...]]
    needs_donor: ClassVar[bool] = False
    needs_taef2: ClassVar[bool] = False
    by_default: ClassVar[bool] = False

    def __init__(self, setup: Setup) -> None: ...

    @classmethod
    def lacking(cls, weights: Path | None) -> Mapping[str, str]:
        """Why families cannot be made here, by their names; the others are. It is asked before the work begins.

        Args:
            weights: as of `Setup`.

        Raises:
            DataError: a file of weights is not the one that it should be.
        """
        return {}

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        """One picture.

        Args:
            rng: for everything random; the same picture comes from the same state.
            request: which family, and the faces to make it from. Their pixels are not to be changed.
        """
        ...


_HERE = "unmask.forging.makers"
MAKERS: Table[type[Maker]] = Table(
    "kind of forgery",
    "unmask.makers",
    (
        Entry("selfblend", f"{_HERE}.selfblend:SelfBlend", "a face blended with a changed copy of itself"),
        Entry("swap", f"{_HERE}.swap:Swap", "another person's face, warped and blended in"),
        Entry("composite", f"{_HERE}.composite:Composite", "single features of another person's face"),
        Entry("fingerprint", f"{_HERE}.fingerprint:Fingerprint", "four kinds of up-sampling traces"),
        Entry("resynthesis", f"{_HERE}.resynthesis:Resynthesis", "redrawn by the TAEF2 autoencoder"),
        Entry("decoder", f"{_HERE}.decoder:RedrawByDecoder", "redrawn by published networks, a family each"),
        Entry("candide_swap", f"{_HERE}.candide_swap:CandideSwap", "another's face, by a fitted face model"),
        Entry("candide_reenact", f"{_HERE}.candide_reenact:CandideReenact", "another's expression, by the same model"),
        Entry(
            "lip_resynthesis", f"{_HERE}.lip_resynthesis:LipResynthesis", "the mouth moved and the lower face redrawn"
        ),
        Entry("style_edit", f"{_HERE}.style_edit:StyleEdit", "a drawn face whose styles were edited"),
        Entry("mobilestylegan", f"{_HERE}.mobilestylegan:MobileStyleGAN", "wholly synthetic, drawn by MobileStyleGAN"),
    ),
)


def load_makers(kinds: Iterable[str]) -> dict[str, type[Maker]]:
    """The makers of some kinds, in the table's order, those named in full behind it.

    Raises:
        DataError: none is named, one is unknown, or two make the same family.
    """
    asked = list(dict.fromkeys(kinds))
    if not asked:
        raise DataError(f"no kind of forgery is named; name some of {', '.join(MAKERS.names())}")
    listed = [name for name in MAKERS.names() if name in asked]
    makers = {name: MAKERS.load(name) for name in (*listed, *(name for name in asked if name not in listed))}
    maker_of: dict[str, str] = {"real": "the set itself"}
    for kind, maker in makers.items():
        for family in maker.families:
            if not re.fullmatch(r"[\w-]+", family):
                raise DataError(f"{kind}: {family!r} is no name of a family; use letters, digits, - and _")
            if family in maker_of:
                raise DataError(f"{kind}: {family} is made by {maker_of[family]} too; leave one out")
            maker_of[family] = kind
    return makers


def default_kinds() -> tuple[str, ...]:
    """The package's own kinds that need neither weights nor a download."""
    return tuple(name for name in MAKERS.own if MAKERS.load(name).by_default)
