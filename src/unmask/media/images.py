"""Pictures: any common kind becomes upright 8-bit RGB."""

import io
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from unmask.errors import RefusalCode, Refused
from unmask.media.boundary import decoder_boundary
from unmask.media.intake import MediaFile
from unmask.media.kinds import HEAD_BYTES, READABLE, sniff
from unmask.media.limits import MAX_JPEG_SCANS, MAX_PIXELS, check_size
from unmask.media.quiet import decoder_messages, quiet_pillow
from unmask.media.upright import from_exif

# The format's own class rather than `Image.open`: the type is known already, and Pillow's process-wide pixel limit need
# not be moved.
_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "webp": WebPImageFile,
    "tiff": TiffImageFile,
    "bmp": BmpImageFile,
    "gif": GifImageFile,
}

_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258
_UNDECODABLE = "The picture is damaged or cut short and cannot be decoded."
_NEUTRAL_GREY = (128, 128, 128)


@dataclass(frozen=True, eq=False)
class Still:
    """A decoded picture."""

    pixels: np.ndarray
    """uint8 (H,W,3), RGB, upright, writable. Colour profiles are not applied."""
    format: str
    """jpeg, png, webp, tiff, bmp or gif, by content."""
    width: int
    """Of `pixels`, that is, upright."""
    height: int
    warnings: tuple[str, ...]
    """One plain sentence each on what was done to the picture or found wrong with it."""


def decode_image(media: MediaFile, max_pixels: int = MAX_PIXELS) -> Still:
    """Decode a picture that was taken in.

    Samples of more than 8 bits keep their high 8 and CMYK is converted by formula. With a warning: transparency is laid
    on neutral grey, and of an animation or a file of several pages only the first picture is decoded.

    Raises `Refused`: CORRUPT (damaged, cut short, no size), TOO_LARGE (the size guard, by the header alone),
    UNSUPPORTED (not a picture, or samples without a known white point).
    """
    file_type = sniff(media.data[:HEAD_BYTES]) if media.data is not None else None
    if media.data is None or file_type is None or file_type.kind != "image":
        raise Refused(RefusalCode.UNSUPPORTED, f"This is not a picture of a type that can be read ({READABLE}).")
    with quiet_pillow(), decoder_boundary(_UNDECODABLE), _READERS[file_type.format](io.BytesIO(media.data)) as picture:
        check_size(*picture.size, max_pixels=max_pixels)
        pixels, warnings = _decode(picture, media.data)
        # After decoding: Pillow turns TIFF files itself, and takes the tag away with it.
        pixels = from_exif(picture.getexif().get(_ORIENTATION)).apply(pixels)
    height, width = pixels.shape[:2]
    return Still(pixels, file_type.format, width, height, tuple(warnings))


def _decode(picture: ImageFile.ImageFile, data: bytes) -> tuple[np.ndarray, list[str]]:
    """Pixels (H,W,3) uint8 as stored (not yet upright), and warnings."""
    if isinstance(picture, JpegImageFile):
        _check_jpeg_scans(picture, data)
        if picture.mode in ("RGB", "L"):
            decoded = _decode_jpeg_fast(data, picture.size)
            if decoded is not None:
                return decoded
    complaints: list[str] = []
    if isinstance(picture, TiffImageFile):
        with decoder_messages() as complaints:
            picture.load()
    else:
        picture.load()
    pixels, warnings = _to_rgb8(picture)
    warnings += _damage(complaints)
    if _has_more_frames(picture):
        warnings.append("Only the first of several frames or pages was looked at.")
    return pixels, warnings


def _check_jpeg_scans(picture: JpegImageFile, data: bytes) -> None:
    """Refuse a JPEG without its end mark, which OpenCV would fill up with grey, and one with very many passes."""
    # Pillow has read the headers up to the first scan, so marks inside an embedded thumbnail lie behind us.
    start = picture.fp.tell() if picture.fp else 0
    end = data.find(b"\xff\xd9", start)
    if end < 0:
        raise Refused(RefusalCode.CORRUPT, "The picture is cut short: its end is missing.")
    if data.count(b"\xff\xda", start, end) >= MAX_JPEG_SCANS:
        raise Refused(RefusalCode.TOO_LARGE, f"It is stored in more than {MAX_JPEG_SCANS} passes over the picture.")


def _decode_jpeg_fast(data: bytes, size: tuple[int, int]) -> tuple[np.ndarray, list[str]] | None:
    """Decode a grey or colour JPEG with OpenCV, about twice as fast as Pillow; None if OpenCV cannot.

    Both carry libjpeg-turbo, so the colours agree.
    """
    with decoder_messages() as complaints:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None or bgr.shape[1::-1] != size:
        return None
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), _damage(complaints)


def _damage(complaints: list[str]) -> list[str]:
    return [f'The picture data are damaged in places; the decoder says "{complaints[0]}".'] if complaints else []


def _to_rgb8(picture: ImageFile.ImageFile) -> tuple[np.ndarray, list[str]]:
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        return _deep_grey_to_rgb8(picture)
    if picture.mode in ("I", "F"):
        raise Refused(
            RefusalCode.UNSUPPORTED, "Its samples are 32-bit numbers, and the file does not say which of them is white."
        )
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        opacity = layered.getchannel("A")
        if opacity.getextrema() != (255, 255):
            ground = Image.new("RGB", picture.size, _NEUTRAL_GREY)
            ground.paste(layered.convert("RGB"), mask=opacity)
            return np.array(ground), ["Transparent parts were laid on neutral grey."]
        return np.array(layered.convert("RGB")), []
    return np.array(picture.convert("RGB")), []


def _deep_grey_to_rgb8(picture: ImageFile.ImageFile) -> tuple[np.ndarray, list[str]]:
    """Grey samples of 9 to 16 bits to their high 8 bits, which is what Pillow does to deep colour as well.

    Exact for 8-bit pictures that were widened, whether by repeating the byte or by shifting it.
    """
    bits = 16
    if isinstance(picture, TiffImageFile):
        bits = max(picture.tag_v2.get(_BITS_PER_SAMPLE, (16,)))
    samples = np.array(picture)
    grey = np.clip(samples >> (bits - 8), 0, 255).astype(np.uint8)
    warnings = []
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int) and (hidden := samples == transparent).any():
        grey[hidden] = _NEUTRAL_GREY[0]
        warnings.append("Transparent parts were laid on neutral grey.")
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), warnings


def _has_more_frames(picture: ImageFile.ImageFile) -> bool:
    try:
        with decoder_boundary(_UNDECODABLE):
            return bool(getattr(picture, "is_animated", False))
    except Refused:  # a damaged second frame is a second frame
        return True
