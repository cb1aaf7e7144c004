"""Beside the pixels: what a file says of itself and of how it was made.

Each check gives one finding: what was seen, and what that means and does not mean. Anybody can write, change or strip
what is read here, so none of it enters a likelihood ratio; it is for the person who weighs the whole.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from unmask.media.intake import MediaFile

Check = Literal[
    "exif", "xmp", "generator", "jpeg", "double_compression", "thumbnail", "content_credentials", "container"
]
Outcome = Literal["absent", "present", "notable", "not_checked"]

_LONGEST = 300  # characters of a text that a file holds


@dataclass(frozen=True)
class Beside:
    """What one check saw.

    Attributes:
        check: its name.
        outcome: "absent": there is nothing of the kind; "present": there is, and it is usual; "notable": it should be
            looked at; "not_checked": it could not be read, or an extra is missing.
        statement: what was seen, in a sentence or two.
        meaning: what that means, and what it does not.
        details: names and values, as the file has them.
    """

    check: Check
    outcome: Outcome
    statement: str
    meaning: str
    details: dict[str, str] = field(default_factory=dict)


def shortened(text: object) -> str:
    """A text that a file holds, without zero bytes, cut where it is long."""
    plain = str(text).replace("\0", "").strip()
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}…"


def beside_picture(media: MediaFile, pixels: np.ndarray, anchors: str | None = None) -> list[Beside]:
    """All checks of a picture file.

    Args:
        media: with its bytes in `data`.
        pixels: the picture, uint8 (H, W, 3) RGB, upright: for the comparison with its thumbnail.
        anchors: certificates (PEM) of whom Content Credentials are trusted.
    """
    from unmask.media.beside import compression, credentials, metadata, recompression, thumbnail

    data = media.data or b""
    return list(
        _guarded(
            [
                ("exif", lambda: metadata.exif_finding(data)),
                ("xmp", lambda: metadata.xmp_finding(data)),
                ("generator", lambda: metadata.generator_finding(data)),
                ("jpeg", lambda: compression.jpeg_finding(data)),
                ("double_compression", lambda: recompression.recompression_finding(data)),
                ("thumbnail", lambda: thumbnail.thumbnail_finding(data, pixels)),
                ("content_credentials", lambda: credentials.credentials_of_picture(data, anchors)),
            ]
        )
    )


def beside_video(media: MediaFile, anchors: str | None = None) -> list[Beside]:
    """All checks of a video file; arguments as for `beside_picture`."""
    from unmask.media.beside import container, credentials

    return list(
        _guarded(
            [
                ("container", lambda: container.container_finding(media)),
                ("content_credentials", lambda: credentials.credentials_of_video(media, anchors)),
            ]
        )
    )


def _guarded(checks: list[tuple[Check, Callable[[], Beside | None]]]) -> Iterator[Beside]:
    """The findings of checks; metadata may be damaged in any way, which must cost no more than the check."""
    for name, check in checks:
        try:
            finding = check()
        except Exception as error:
            statement = f"It is damaged and could not be read ({type(error).__name__})."
            meaning = "Damaged metadata may come from careless software as well as from somebody's hand."
            finding = Beside(name, "not_checked", statement, meaning)
        if finding is not None:
            yield finding
