"""What decides how files are inspected: one record for the command line, the workers, the reports and Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.media.sources import RefusedSource, Source
from unmask.packs import embedded_packs
from unmask.provenance import shell_line

DETECTOR = "plain"
"""The embedded detector, in use unless others are asked for."""
EDIT_PACK = "mmnet"
"""The embedded edit predictor, in use unless another or none is asked for."""


@dataclass(frozen=True)
class InspectorOptions:
    """The arguments of `Inspector`, by the same names: hashable, and plain enough to be sent to another process.

    Attributes:
        forgery_pack: embedded packs by name and others by folder, the leading one first; at least one.
        frames_per_second: sampled frames of a second of video, > 0.
        face_pack: the face detector.
        edit_pack: the edit predictor, or None for none.
        decide: the likelihood ratio from which on a verdict is given, from 2 to 1,000,000; the cards' limits if None.
        c2pa_anchors: a file of certificates of whom Content Credentials are trusted, or None for nobody.

    Raises:
        ValueError: `frames_per_second` is not a positive number, `decide` out of range, or there is no forgery pack.
    """

    forgery_pack: tuple[str, ...] = (DETECTOR,)
    frames_per_second: float = 5.0
    face_pack: str = "yunet"
    edit_pack: str | None = EDIT_PACK
    decide: float | None = None
    c2pa_anchors: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.frames_per_second < float("inf"):
            raise ValueError(f"frames_per_second must be a positive number, not {self.frames_per_second}")
        if self.decide is not None and not 2 <= self.decide <= 1e6:
            raise ValueError(f"decide must be a likelihood ratio from 2 to 1,000,000, not {self.decide}")
        if not self.forgery_pack:
            raise ValueError("forgery_pack must name a pack")

    @classmethod
    def of(
        cls,
        forgery_pack: str | Path | Sequence[str | Path] = DETECTOR,
        frames_per_second: float = 5.0,
        face_pack: str | Path = "yunet",
        edit_pack: str | Path | None = EDIT_PACK,
        decide: float | None = None,
        c2pa_anchors: str | Path | None = None,
    ) -> "InspectorOptions":
        """The options for arguments as `Inspector` takes them; packs become what the command line calls them."""
        packs = [forgery_pack] if isinstance(forgery_pack, str | Path) else forgery_pack
        return cls(
            tuple(map(_name_of, packs)),
            frames_per_second,
            _name_of(face_pack),
            None if edit_pack is None else _name_of(edit_pack),
            decide,
            None if c2pa_anchors is None else str(c2pa_anchors),
        )

    def recorded(self) -> dict[str, Any]:
        """As every report has them, in `tool.options`."""
        return {
            "pack": list(self.forgery_pack) if len(self.forgery_pack) > 1 else self.forgery_pack[0],
            "face_pack": self.face_pack,
            "frames_per_second": self.frames_per_second,
            "edit_pack": self.edit_pack,
            **({} if self.decide is None else {"decide": self.decide}),
            **({} if self.c2pa_anchors is None else {"c2pa_anchors": self.c2pa_anchors}),
        }

    def command(self, source: Source | RefusedSource) -> str:
        """A line for the shell of this system that repeats the inspection of one source."""
        words = ["unmask", "inspect", *(word for pack in self.forgery_pack for word in ("--pack", pack))]
        words += ["--fps", f"{self.frames_per_second:g}"]
        if self.edit_pack != EDIT_PACK:
            words += ["--edits", self.edit_pack or "none"]
        if self.decide is not None:
            words += ["--decide", f"{self.decide:g}"]
        if self.c2pa_anchors is not None:
            words += ["--c2pa-anchors", self.c2pa_anchors]
        path = source.path
        if "\ufffd" in path and isinstance(source, Source) and source.file is not None:
            path = str(source.file)  # the path to show has lost its bytes that are not UTF-8
        if isinstance(source, Source) and source.file is None:
            path = "-"  # its bytes came through standard input, or from memory
        if path.startswith("-") and path != "-":
            words.append("--")
        return shell_line([*words, path])


def _name_of(pack: str | Path) -> str:
    """What names a pack on the command line: a folder that is called like something else there gets a path."""
    ambiguous = isinstance(pack, Path) and str(pack) in ("none", *embedded_packs())
    return f"./{pack}" if ambiguous else str(pack)
