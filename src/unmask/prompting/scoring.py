"""Naming pictures with a prompt pack, file by file."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from unmask.errors import RefusalCode, Refused
from unmask.evidence.report import NamingFinding, PackUse, Quoting, Refusal
from unmask.faces.finding import FaceFinder
from unmask.forgery.naming import PromptNamer
from unmask.media.images import decode_image
from unmask.media.intake import take_in
from unmask.media.sources import RefusedSource, walk
from unmask.packs import Pack


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NamedFace(_Part):
    """A face, or a whole picture without a `box` (x, y, width, height), and what the pack says of it.

    `naming` is null for a face that is too small, and `refusal` says so.
    """

    box: tuple[float, float, float, float] | None
    naming: NamingFinding | None
    refusal: Refusal | None


class PictureNaming(_Part):
    """The answer for one file: its faces, or why there is none."""

    schema_version: Literal["1.0"] = "1.0"
    path: Quoting
    sha256: str | None
    pack: PackUse
    refusal: Refusal | None
    faces: list[NamedFace]


def name_pictures(paths: Sequence[str], pack: Pack) -> Iterator[PictureNaming]:
    """Name the pictures of some files and folders, in order; what cannot be read is refused, and the rest goes on.

    Args:
        paths: files, folders, or "-".
        pack: of learned prompts.

    Raises:
        PackError: it is none.
    """
    namer, card = PromptNamer(pack), pack.card
    use = PackUse(name=card.name, version=card.version, sha256=card.sha256)
    finder = FaceFinder() if namer.faces else None
    for source in walk(paths):
        sha256, faces, refusal = None, list[NamedFace](), None
        try:
            if isinstance(source, RefusedSource):
                raise source.refusal
            media = take_in(source)
            sha256 = media.sha256
            faces = _faces(decode_image(media).pixels, namer, finder)
        except Refused as refused:
            refusal = Refusal(code=refused.code, message=refused.message)
        yield PictureNaming(path=source.path, sha256=sha256, pack=use, refusal=refusal, faces=faces)


def _faces(pixels: np.ndarray, namer: PromptNamer, finder: FaceFinder | None) -> list[NamedFace]:
    if finder is None:
        (naming,) = namer.name_crops([namer.crop(pixels, (0, 0, 0, 0))])
        return [NamedFace(box=None, naming=naming.finding(namer.name), refusal=None)]
    faces = finder.find(pixels)
    if not faces:
        raise Refused(RefusalCode.NO_FACE, "There is no face in it.")
    least = namer.calibration.min_face_px
    wide = [face for face in faces if face.box[2] >= least]
    namings = iter(namer.name_crops([namer.crop(pixels, face.box) for face in wide]))
    message = "The face is {:.0f} pixels wide; {:.0f} are needed."
    return [
        NamedFace(box=face.box, naming=next(namings).finding(namer.name), refusal=None)
        if face.box[2] >= least
        else NamedFace(
            box=face.box,
            naming=None,
            refusal=Refusal(code=RefusalCode.TOO_SMALL, message=message.format(face.box[2], least)),
        )
        for face in faces
    ]
