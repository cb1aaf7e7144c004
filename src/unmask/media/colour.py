"""From any arrangement of samples and any colour profile to 8-bit sRGB."""

import io
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageChops

from unmask.errors import RefusalCode, Refused
from unmask.media import remarks
from unmask.media.boundary import decoder_boundary

_NEUTRAL_GREY = (128, 128, 128)
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}  # Pillow's names of colour spaces, and ICC's
# Levels of 255. The many profiles that are called sRGB differ by less, Display P3 and Adobe RGB by several times more.
_NEAR_SRGB = 10
_HDR_TRANSFERS = frozenset({16, 18})  # PQ and HLG
_WIDE_PRIMARIES = frozenset({9, 10, 11, 12})  # BT.2020, XYZ, DCI-P3 and Display P3


class Layers(NamedTuple):
    """A picture taken apart: its colours (mode RGB, L, CMYK or LAB) and its opacity (mode L) if it has any."""

    colours: Image.Image
    opacity: Image.Image | None


def to_rgb8(picture: Image.Image, deep_bits: int = 16, inverted: bool = False) -> tuple[np.ndarray, list[str]]:
    """Bring a loaded picture to 8-bit sRGB.

    Args:
        picture: of any of Pillow's modes.
        deep_bits: bits in a sample of deep grey, 9 to 16.
        inverted: whether 0 is white in a picture of deep grey.

    Returns:
        uint8 (H,W,3), writable, and a sentence for each thing that was done to the picture.

    Raises:
        Refused: UNSUPPORTED, samples without a known white point.
    """
    layers = _take_apart(picture, deep_bits, inverted)
    colours, warnings = with_profile(layers.colours, picture.info.get("icc_profile"))
    if layers.opacity is not None and layers.opacity.getextrema() != (255, 255):
        ground = Image.new("RGB", picture.size, _NEUTRAL_GREY)
        ground.paste(colours, mask=layers.opacity)
        colours = ground
        warnings.append(remarks.TRANSPARENT)
    return np.array(colours), warnings


def is_near_srgb(profile: bytes, mode: str) -> bool:
    """Whether an ICC profile can be applied to a picture of this mode (RGB or L) and would change next to nothing."""
    conversion = _conversion(profile, mode)
    return conversion is not None and conversion.transform is None


def with_profile(colours: Image.Image, profile: object) -> tuple[Image.Image, list[str]]:
    """Apply a colour profile where it makes a difference.

    Args:
        colours: mode RGB, L, CMYK or LAB.
        profile: the ICC profile as bytes, or anything else if there is none.

    Returns:
        The picture in mode RGB, and a sentence on what was done.
    """
    if colours.mode == "LAB":
        return _from_lab(colours), []
    if not isinstance(profile, bytes) or not profile:
        return colours.convert("RGB"), [remarks.APPROXIMATE_CMYK] if colours.mode == "CMYK" else []
    conversion = _conversion(profile, colours.mode)
    if conversion is None and colours.mode == "L":  # cameras write grey pictures with the profile of their colours
        colours = colours.convert("RGB")
        conversion = _conversion(profile, colours.mode)
    if conversion is None:
        return colours.convert("RGB"), [remarks.UNUSABLE_PROFILE]
    if conversion.transform is None:
        return colours.convert("RGB"), []
    from PIL import ImageCms

    converted = ImageCms.applyTransform(colours, conversion.transform)
    assert converted is not None  # it is only when the picture is changed in place
    warnings = [f"Its colour profile{conversion.name} was applied, as viewers do."]
    return converted, [*warnings, *unusual_colours(*_numbers_in(profile), has_profile=True)]


def unusual_colours(primaries: int, transfer: int, has_profile: bool) -> list[str]:
    """A sentence if a file names colours by number (ITU-T H.273) that are far from sRGB and were taken as they stand.

    `has_profile` tells whether it has a colour profile as well, which goes before the primaries.
    """
    if transfer in _HDR_TRANSFERS:
        return [remarks.HDR]
    if primaries in _WIDE_PRIMARIES and not has_profile:
        return [remarks.WIDE_COLOURS]
    return []


def _numbers_in(profile: bytes) -> tuple[int, int]:
    """Primaries and transfer by number, as a profile for HDR names them; 2 means "not known"."""
    entry = profile.find(b"cicp", 128)  # in the table: name, place, length
    place = int.from_bytes(profile[entry + 4 : entry + 8], "big")
    if entry < 0 or profile[place : place + 4] != b"cicp" or len(profile) < place + 12:
        return 2, 2
    return profile[place + 8], profile[place + 9]


class _Conversion(NamedTuple):
    name: str
    """With a blank before it and quotation marks; empty if the profile has none."""
    transform: Any
    """None if it would change next to nothing."""


@lru_cache(maxsize=16)
def _conversion(profile: bytes, mode: str) -> _Conversion | None:
    """From a profile to sRGB; None if the profile cannot be used for this mode."""
    from PIL import ImageCms

    try:
        with decoder_boundary("The profile is damaged."):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if source.profile.xcolor_space != _SPACES[mode]:
                return None
            transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
            name = "".join(filter(str.isprintable, source.profile.profile_description or ""))[:60]
            is_near = mode != "CMYK" and _largest_change(transform, mode) <= _NEAR_SRGB
    except Refused:
        return None
    return _Conversion(f' "{name}"' if name else "", None if is_near else transform)


def _largest_change(transform: Any, mode: str) -> int:
    from PIL import ImageCms

    levels = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
    sample = Image.fromarray(cube if mode == "RGB" else levels[None])
    changed = ImageCms.applyTransform(sample, transform)
    assert changed is not None
    return int(np.abs(np.array(changed, int) - np.array(sample.convert("RGB"), int)).max())


def _from_lab(colours: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.applyTransform(colours, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
    assert converted is not None
    return converted


def _take_apart(picture: Image.Image, deep_bits: int, inverted: bool) -> Layers:
    mode = picture.mode
    if mode.startswith("I;16") or (mode == "I" and picture.format == "PNG"):
        return _deep_grey(picture, deep_bits, inverted)
    if mode in ("I", "F"):
        raise Refused(
            RefusalCode.UNSUPPORTED, "Its samples are 32-bit numbers, and the file does not say which of them is white."
        )
    if mode in ("La", "RGBa"):  # colours that are multiplied by the opacity already
        mode = {"La": "LA", "RGBa": "RGBA"}[mode]
        picture = picture.convert(mode)
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        opacity = layered.getchannel("A")
        if picture.format == "BMP" and opacity.getextrema() == (0, 0):
            # Many programs leave the fourth byte of a pixel at zero and mean nothing by it.
            return Layers(layered.convert("RGB"), None)
        return Layers(layered.convert("L" if mode in ("1", "L", "LA") else "RGB"), opacity)
    if mode == "1":
        picture = picture.convert("L")
    if mode == "CMYK" and picture.format == "JPEG" and "adobe" not in picture.info:
        # Pillow takes every such JPEG for one that Adobe's programs wrote upside down.
        picture = ImageChops.invert(picture)
    return Layers(picture if mode in ("RGB", "L", "CMYK", "LAB") else picture.convert("RGB"), None)


def _deep_grey(picture: Image.Image, bits: int, inverted: bool) -> Layers:
    """Grey samples of 9 to 16 bits to their high 8 bits, which is what Pillow does to deep colour as well.

    Exact for 8-bit pictures that were widened, whether by repeating the byte or by shifting it.
    """
    samples = np.array(picture)
    grey = np.clip(samples >> (bits - 8), 0, 255).astype(np.uint8)
    if inverted:
        grey = 255 - grey
    transparent = picture.info.get("transparency")
    opacity = None
    if isinstance(transparent, int):
        opacity = Image.fromarray(np.where(samples == transparent, 0, 255).astype(np.uint8))
    return Layers(Image.fromarray(grey), opacity)
