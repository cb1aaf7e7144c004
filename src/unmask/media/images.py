"""Pictures: any common kind becomes upright 8-bit RGB.

What is judged are the pixels. A file is tried as it is; only if that fails, its headers are asked whether the kind is
beyond the decoder, and what the pixels do not depend on is left out before it is tried again.
"""

import importlib
import io
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageFile, features
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from unmask.errors import RefusalCode, Refused
from unmask.installation import install_line
from unmask.media import bmp, gif, isomedia, jpeg, jxl, png, remarks, tiff, webp
from unmask.media.boundary import decoder_boundary
from unmask.media.colour import is_near_srgb, to_rgb8, with_profile
from unmask.media.intake import MediaFile
from unmask.media.kinds import HEAD_BYTES, READABLE, sniff
from unmask.media.limits import MAX_JPEG_SCANS, MAX_PIXELS, check_size
from unmask.media.quiet import decoder_messages, quiet_pillow
from unmask.media.truncation import refusing_truncated
from unmask.media.unread import CAMERA_RAW, is_raw_name
from unmask.media.upright import AS_STORED, Turn, from_exif, is_orientation

_ORIENTATION = 0x0112
_XMP = ("xmp", "XML:com.adobe.xmp", "Raw profile type xmp")
_RESOLUTIONS = frozenset({282, 283})  # across and down
_MAX_SQUEEZE = 0.05
# What libjpeg says of bytes between the segments of a header, and libtiff of entries in a directory.
_ABOUT_METADATA = re.compile(
    r"extraneous bytes before marker 0x(?:e.|fe|db|c[012])|Unknown Adobe color|unknown JFIF|Apparently should be"
    r"|^_?TIFF(?:VSetField|Fetch|ReadDirectory|ReadCustom|AdvanceDirectory)"
)


@dataclass(frozen=True, eq=False)
class Still:
    """A decoded picture."""

    pixels: np.ndarray
    """uint8 (H,W,3), RGB, upright, writable. A colour profile that is far from sRGB is applied."""
    format: str
    """jpeg, png, webp, tiff, bmp, gif, heif, avif or jxl, by content."""
    width: int
    """Of `pixels`, that is, upright."""
    height: int
    warnings: tuple[str, ...]
    """One plain sentence each on what was done to the picture or found wrong with it."""


def _nothing(data: bytes) -> None:
    return None


def _unchanged(data: bytes) -> bytes:
    return data


def _no_notes(data: bytes) -> list[str]:
    return []


@dataclass(frozen=True)
class _Format:
    """What to do with one kind of picture. All functions take the file's bytes."""

    reader: tuple[str, str]
    """Module and name of Pillow's class for it. The format's own class rather than `Image.open`: the type is known
    already, and Pillow's process-wide pixel limit need not be moved. Loaded when the first such file comes."""
    beyond_the_decoder: Callable[[bytes], str | None] = _nothing
    """Why a file that cannot be decoded may be whole all the same, in a sentence."""
    without_metadata: Callable[[bytes], bytes] = _unchanged
    exif: Callable[[bytes], bytes | None] = _nothing
    density: Callable[[bytes], tuple[float, float] | None] = _nothing
    """Pixels per unit across and down."""
    notes: Callable[[bytes], list[str]] = _no_notes
    turned: bool = False
    """Whether the decoder turns the picture upright itself."""


_FORMATS = {
    "jpeg": _Format(
        ("PIL.JpegImagePlugin", "JpegImageFile"),
        jpeg.beyond_the_decoder,
        jpeg.without_metadata,
        jpeg.exif,
        jpeg.density,
    ),
    "png": _Format(
        ("PIL.PngImagePlugin", "PngImageFile"),
        png.beyond_the_decoder,
        png.without_metadata,
        png.exif,
        png.density,
        png.notes,
    ),
    "webp": _Format(
        ("PIL.WebPImagePlugin", "WebPImageFile"), webp.beyond_the_decoder, webp.without_metadata, webp.exif
    ),
    "bmp": _Format(
        ("PIL.BmpImagePlugin", "BmpImageFile"), bmp.beyond_the_decoder, bmp.without_metadata, density=bmp.density
    ),
    "gif": _Format(("PIL.GifImagePlugin", "GifImageFile"), without_metadata=gif.without_metadata, density=gif.density),
    "heif": _Format(
        ("pi_heif", "HeifImageFile"),
        isomedia.heif_beyond_the_decoder,
        isomedia.without_metadata,
        density=isomedia.density,
        notes=isomedia.notes,
        turned=True,
    ),
    "avif": _Format(
        ("PIL.AvifImagePlugin", "AvifImageFile"),
        isomedia.avif_beyond_the_decoder,
        isomedia.without_metadata,
        density=isomedia.density,
        notes=isomedia.notes,
    ),
    "jxl": _Format(("pillow_jxl.JpegXLImagePlugin", "JXLImageFile"), notes=jxl.notes, turned=True),
}
_Decoded = tuple[np.ndarray, list[str]]


def decode_image(media: MediaFile, max_pixels: int = MAX_PIXELS) -> Still:
    """Decode a picture that was taken in.

    Samples of more than 8 bits keep their high 8, a colour profile is applied where it makes a difference, and CMYK
    without one is converted by formula. With a warning: transparency is laid on neutral grey, damaged metadata are left
    out, and of an animation or a file of several pictures only the first (or the one that the file calls its primary)
    is decoded, never a reduced copy that stands before it.

    Raises `Refused`: CORRUPT (damaged pixels, cut short, no size), TOO_LARGE (the size guard, by the header alone),
    UNSUPPORTED (not a picture, camera raw, a coding that the decoders do not know, or samples without a known white
    point).
    """
    file_type = sniff(media.data[:HEAD_BYTES]) if media.data is not None else None
    if media.data is None or file_type is None or file_type.kind != "image":
        raise Refused(RefusalCode.UNSUPPORTED, f"This is not a picture of a type that can be read ({READABLE}).")
    try:
        with quiet_pillow():
            pixels, warnings = refusing_truncated(partial(_decode, media.data, file_type.format, max_pixels))
    except Refused as refusal:
        if refusal.code is RefusalCode.CORRUPT and file_type.format == "tiff" and is_raw_name(media.path):
            raise Refused(RefusalCode.UNSUPPORTED, CAMERA_RAW) from refusal
        raise
    height, width = pixels.shape[:2]
    return Still(pixels, file_type.format, width, height, tuple(dict.fromkeys(warnings)))


def _decode(data: bytes, name: str, max_pixels: int) -> _Decoded:
    if name == "tiff":
        return _decode_tiff(data, max_pixels)
    known = _FORMATS[name]
    if name == "jxl":
        _check_jxl(data, max_pixels)
    if name == "bmp":
        data = bmp.with_usual_masks(data, max_pixels)
    if name == "png" and (reason := png.beyond_the_decoder(data)):  # what it does not know, Pillow passes over
        raise _unsupported(reason)
    try:
        pixels, warnings = _open_and_load(data, data, known, max_pixels)
    except Refused as refusal:
        if refusal.code is not RefusalCode.CORRUPT:
            raise
        if reason := known.beyond_the_decoder(data) or _missing_decoder(name):
            raise _unsupported(reason) from refusal
        bare = known.without_metadata(data)
        if bare == data:
            raise
        pixels, warnings = _open_and_load(bare, data, known, max_pixels)
        warnings.append(remarks.METADATA)
    return pixels, warnings + known.notes(data)


def _open_and_load(data: bytes, original: bytes, known: _Format, max_pixels: int) -> _Decoded:
    """Decode `data`, which may lack the metadata that `original` has."""
    reader = _reader(known)
    with decoder_boundary(remarks.UNDECODABLE), reader(io.BytesIO(data)) as picture:
        check_size(*picture.size, max_pixels=max_pixels)
        pixels, warnings = _load(picture, data)
        # A JPEG that was packed as JPEG XL comes back as it was.
        if not known.turned or getattr(picture, "jpeg", False):
            turn, more = _orientation(picture, original, known)
            pixels, warnings = turn.apply(pixels), warnings + more
        return pixels, warnings + _squeezed(known.density(original))


def _reader(known: _Format) -> type[ImageFile.ImageFile]:
    module, name = known.reader
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        if module.startswith("pillow_jxl"):
            remedy = f"JPEG XL needs an extra: {install_line('jxl')}; or save the picture as PNG."
        else:
            remedy = "The library that decodes such pictures is not installed as it should be."
        raise Refused(RefusalCode.UNSUPPORTED, remedy) from error


def _unsupported(reason: str) -> Refused:
    return Refused(RefusalCode.UNSUPPORTED, f"{reason} {remarks.REMEDY}")


def _missing_decoder(name: str) -> str | None:
    """A sentence if Pillow was built without the decoder for a format."""
    if name in ("avif", "webp") and not features.check(name):
        return "The installed Pillow has no decoder for such pictures; one from PyPI has."
    return None


def _load(picture: ImageFile.ImageFile, data: bytes) -> _Decoded:
    """Pixels (H,W,3) uint8 as stored (not yet upright), and warnings."""
    behind: list[str] = []
    if isinstance(picture, JpegImageFile):
        behind = jpeg.behind_the_picture(data, _check_jpeg_scans(picture, data))
        decoded, complaints = _decode_jpeg_fast(picture, data)
        behind += _damage(complaints)
        if decoded is not None:
            return decoded[0], decoded[1] + behind
    picture.load()
    if isinstance(picture, PngImageFile) and "transparency" in picture.info:
        key = png.colour_key(data, picture.info.pop("transparency"))
        picture.info |= {} if key is None else {"transparency": key}
    pixels, warnings = to_rgb8(picture)
    if _has_more_frames(picture):
        warnings.append(remarks.PRIMARY if picture.format == "HEIF" else remarks.SEVERAL)
    return pixels, warnings + behind


def _check_jpeg_scans(picture: JpegImageFile, data: bytes) -> int:
    """Where the picture's data end.

    Refuse a JPEG without its end mark, which OpenCV would fill up with grey, and one with very many passes.
    """
    # Pillow has read the headers up to the first scan, so marks inside an embedded thumbnail lie behind us.
    start = picture.fp.tell() if picture.fp else 0
    end = data.find(b"\xff\xd9", start)
    if end < 0:
        raise Refused(RefusalCode.CORRUPT, "The picture is cut short: its end is missing.")
    if data.count(b"\xff\xda", start, end) >= MAX_JPEG_SCANS:
        raise Refused(RefusalCode.TOO_LARGE, f"It is stored in more than {MAX_JPEG_SCANS} passes over the picture.")
    return end + 2


def _decode_jpeg_fast(picture: JpegImageFile, data: bytes) -> tuple[_Decoded | None, list[str]]:
    """Decode a grey or colour JPEG with OpenCV, about twice as fast as Pillow; None if OpenCV cannot.

    Both carry libjpeg-turbo, so the colours agree. The decoder's complaints come with it, for CMYK as well, where
    OpenCV's colours are not wanted: Pillow passes them over.
    """
    with decoder_messages() as complaints:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None or bgr.shape[1::-1] != picture.size or picture.mode not in ("RGB", "L"):
        return None, complaints
    pixels = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    warnings: list[str] = []
    profile = picture.info.get("icc_profile")
    if profile and not is_near_srgb(profile, picture.mode):
        stored = Image.fromarray(pixels if picture.mode == "RGB" else pixels[..., 0])
        coloured, warnings = with_profile(stored, profile)
        pixels = np.array(coloured)
    return (pixels, warnings), complaints


def _decode_tiff(data: bytes, max_pixels: int) -> _Decoded:
    try:
        return _decode_tiff_as(data, max_pixels, bare=False)
    except Refused as refusal:
        if refusal.code is not RefusalCode.CORRUPT:
            raise
    pixels, warnings = _decode_tiff_as(data, max_pixels, bare=True)
    return pixels, [*warnings, remarks.METADATA]


def _decode_tiff_as(data: bytes, max_pixels: int, *, bare: bool) -> _Decoded:
    choice = tiff.choose(data, bare=bare)
    if choice is None:
        raise Refused(RefusalCode.CORRUPT, remarks.UNDECODABLE)
    opens = False
    try:
        with decoder_boundary(remarks.UNDECODABLE), TiffImageFile(io.BytesIO(choice.data)) as picture:
            opens = True
            check_size(*picture.size, max_pixels=max_pixels)
            with decoder_messages() as complaints:
                picture.load()
            pixels, warnings = to_rgb8(picture, choice.deep_bits, inverted=choice.zero_is_white)
            if picture.tag_v2.keys() >= _RESOLUTIONS:
                warnings += _squeezed(picture.info.get("dpi") or picture.info.get("resolution"))
    except Refused as refusal:
        reason = tiff.beyond_the_decoder(choice.directory, choice.data, opens=opens)
        if refusal.code is not RefusalCode.CORRUPT or reason is None or not (bare or opens):
            raise
        raise _unsupported(reason) from refusal
    if not choice.is_orientation_known:
        warnings.append(remarks.UNKNOWN_ORIENTATION)
    return pixels, [*warnings, *_damage(complaints), *choice.warnings]


def _check_jxl(data: bytes, max_pixels: int) -> None:
    header = jxl.read_header(data)
    if header is None:
        raise Refused(RefusalCode.CORRUPT, remarks.UNDECODABLE)
    check_size(header.width, header.height, max_pixels=max_pixels)


def _damage(complaints: list[str]) -> list[str]:
    """One warning for complaints about the pixels, one for those about what stands before them."""
    about_pixels = [complaint for complaint in complaints if not _ABOUT_METADATA.search(complaint)]
    warnings = [remarks.METADATA] if len(about_pixels) < len(complaints) else []
    if about_pixels:
        warnings.append(f'The picture data are damaged in places; the decoder says "{about_pixels[0]}".')
    return warnings


def _orientation(picture: ImageFile.ImageFile, data: bytes, known: _Format) -> tuple[Turn, list[str]]:
    """How to turn the picture, and a warning if the file does not tell in a readable way."""
    value: Any = None
    if exif := known.exif(data):
        value, is_broken = tiff.orientation(exif)
        if is_broken:
            return AS_STORED, [remarks.UNKNOWN_ORIENTATION]
    else:
        for name in _XMP:  # Pillow would take the orientation from there, which viewers do not
            picture.info.pop(name, None)
        with suppress(Refused), decoder_boundary(remarks.UNKNOWN_ORIENTATION):
            value = picture.getexif().get(_ORIENTATION)
    if value is None or is_orientation(value):
        return from_exif(value), []
    return AS_STORED, [remarks.UNKNOWN_ORIENTATION]


def _squeezed(density: tuple[float, float] | None) -> list[str]:
    """A warning if the file says that its pixels are not square. `density` is their number per unit across and down."""
    across, down = (float(value) for value in density or (1, 1))
    if across > 0 and down > 0 and not 1 - _MAX_SQUEEZE < across / down < 1 + _MAX_SQUEEZE:
        return [f"The file says that its pixels are not square ({across:g} x {down:g} a unit)."]
    return []


def _has_more_frames(picture: ImageFile.ImageFile) -> bool:
    try:
        with decoder_boundary(remarks.UNDECODABLE):
            return bool(getattr(picture, "is_animated", False))
    except Refused:  # a damaged second frame is a second frame
        return True
