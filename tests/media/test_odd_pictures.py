"""Pictures as other programs write them: the same pixels as of the ordinary twin, or a typed refusal; never a guess."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import media_samples as samples
import numpy as np
import odd_pictures as odd
import pytest
from media_samples import decode, far_apart, refusal_of, saved, scene
from PIL import Image, ImageChops, ImageCms, ImageOps

from unmask.errors import RefusalCode, Refused
from unmask.inspection import Inspector
from unmask.installation import install_line
from unmask.media import jpeg, jxl
from unmask.media.images import decode_image
from unmask.media.intake import take_in
from unmask.media.remarks import (
    GAIN_MAP,
    HDR,
    METADATA,
    MOTION_PHOTO,
    SEVERAL,
    SEVERAL_PICTURES,
    UNKNOWN_ORIENTATION,
)
from unmask.media.sources import Source, walk

REDUCED = "The first image in the file is a reduced copy or a mask; the first full one was looked at."

COLOUR = scene()
NOISE = np.random.default_rng(5).bytes(60)
GREY = odd.grey_scene()
GREY_RGB = np.dstack([GREY] * 3)
DEEP_GREY = GREY.astype(np.uint16) * 257
DEEP_COLOUR = COLOUR.astype(np.uint16) * 257
OPAQUE = np.full(GREY.shape, 255, np.uint8)
LARGE = scene(192, 128)
PLAIN_JPEG = odd.jpeg()
JPEG_PIXELS = np.asarray(Image.open(io.BytesIO(PLAIN_JPEG)))


def warnings_of(data: bytes) -> tuple[str, ...]:
    return decode_image(samples.taken_in(data)).warnings


def picture() -> Image.Image:
    return Image.fromarray(COLOUR)


def upside_down() -> Image.Image:
    return Image.fromarray(COLOUR[::-1].copy())


# Samples


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("samples_", "options", "expected"),
    [
        (GREY, {}, GREY_RGB),
        (255 - GREY, {"photometric": 0}, GREY_RGB),
        (DEEP_GREY, {}, GREY_RGB),
        (65535 - DEEP_GREY, {"photometric": 0}, GREY_RGB),
        (COLOUR, {}, COLOUR),
        (COLOUR, {"planar": True}, COLOUR),
        (DEEP_COLOUR, {}, COLOUR),
        (np.dstack([GREY, OPAQUE]), {"photometric": 1, "t338": 0}, GREY_RGB),
        (np.dstack([GREY, OPAQUE]), {"photometric": 1, "t338": 1}, GREY_RGB),
        (np.dstack([GREY, OPAQUE]), {"photometric": 1, "t338": 2}, GREY_RGB),
        (np.dstack([COLOUR, OPAQUE]), {"t338": 1}, COLOUR),
        (np.dstack([DEEP_COLOUR, OPAQUE.astype(np.uint16) * 257]), {"t338": 2}, COLOUR),
        (np.asarray(picture().convert("CMYK")), {"photometric": 5}, COLOUR),
    ],
)
def test_tiff_samples(
    samples_: np.ndarray, options: dict[str, int], expected: np.ndarray, compressed: bool, order: str
) -> None:
    page = odd.page(samples_, order=order, **options)
    data = odd.tiff(odd.deflated(page) if compressed else page, order=order)
    assert far_apart(decode(data), expected) <= 1


@pytest.mark.parametrize("bits", [1, 2, 4, 12])
@pytest.mark.parametrize("photometric", [0, 1])
def test_packed_grey_tiff(bits: int, photometric: int) -> None:
    white = (1 << bits) - 1
    levels = GREY.astype(int) * white // 255
    stored = levels if photometric else white - levels
    data = odd.tiff(odd.packed_page(stored, bits, photometric))
    assert far_apart(decode(data), np.dstack([levels * 255 // white] * 3).astype(np.uint8)) <= 1


def test_tiff_that_does_not_say_what_is_white() -> None:
    for stored, expected in ((GREY, GREY_RGB), (DEEP_GREY, GREY_RGB), (COLOUR, COLOUR)):
        page = odd.page(stored)
        del page.tags[262]
        assert far_apart(decode(odd.tiff(page)), expected) == 0


def test_premultiplied_and_lab_tiff() -> None:
    half = np.full(GREY.shape, 128, np.uint8)
    page = odd.page(np.dstack([(COLOUR * (128 / 255)).astype(np.uint8), half]), t338=1)
    assert far_apart(decode(odd.tiff(page)), (COLOUR.astype(int) * 128 + 128 * 127) // 255) <= 3
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    muted = Image.fromarray((COLOUR // 3 + 80).astype(np.uint8))  # well inside the gamut
    converted = ImageCms.profileToProfile(muted, srgb, lab, outputMode="LAB")
    assert converted is not None
    assert far_apart(decode(saved(converted, "TIFF")), np.asarray(muted)) <= 6  # steps of one in L, a and b


def test_colour_map_of_eight_bits() -> None:
    palette = picture().quantize(16)
    colours = np.zeros((256, 3), int)
    own = np.reshape(palette.getpalette(), (-1, 3))
    colours[: len(own)] = own
    page = odd.page(np.asarray(palette), photometric=3)
    page.tags[320] = (odd.SHORT, colours.T.ravel().tolist())
    assert far_apart(decode(odd.tiff(page)), np.asarray(palette.convert("RGB"))) == 0


@pytest.mark.parametrize(
    "page",
    [
        odd.page(GREY.astype(np.int8)),
        odd.page(DEEP_GREY.astype(np.int16)),
        odd.page(DEEP_GREY.astype(np.uint32)),
        odd.page(GREY.astype(np.float32) / 255),
        odd.page(GREY.astype(np.float64) / 255),
        odd.page(GREY.astype(np.float16) / 255),
        odd.page(COLOUR.astype(np.float32) / 255),
        odd.page(DEEP_COLOUR, planar=True),
        odd.page(np.dstack([GREY, OPAQUE]), planar=True, photometric=1, t338=2),
        odd.page(np.asarray(picture().convert("CMYK")), photometric=5, t332=2),
        odd.page(np.asarray(picture().convert("YCbCr")), photometric=6),  # coarser colours unless it says otherwise
        *(odd.page(COLOUR, photometric=photometric) for photometric in (4, 9, 10, 32844, 32845, 77)),
        *(odd.page(COLOUR, t259=compression) for compression in (6, 99, 34887, 34925, 50000, 50001)),
    ],
)
def test_tiff_that_would_be_misread_is_unsupported(page: odd.Page) -> None:
    assert refusal_of(odd.tiff(page)).code is RefusalCode.UNSUPPORTED


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_png_and_its_transparent_level(bits: int) -> None:
    white = (1 << bits) - 1
    levels = (GREY.astype(int) * white + 127) // 255
    shown = np.dstack([levels * 255 // white if bits < 16 else levels >> 8] * 3)
    assert far_apart(decode(odd.png(levels, bits, 0)), shown) == 0
    key = int(levels[5, 5])
    shown[levels == key] = 128
    assert far_apart(decode(odd.png(levels, bits, 0, odd.png_chunk(b"tRNS", struct.pack(">H", key)))), shown) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_colour_png_and_its_transparent_colour(bits: int) -> None:
    stored = DEEP_COLOUR if bits == 16 else COLOUR
    assert far_apart(decode(odd.png(stored, bits, 2)), COLOUR) == 0
    shown = COLOUR.copy()
    shown[(COLOUR[5, 5] == COLOUR).all(-1)] = 128
    key = odd.png_chunk(b"tRNS", stored[5, 5].astype(">u2").tobytes())
    assert far_apart(decode(odd.png(stored, bits, 2, key)), shown) == 0


def test_transparent_colour_of_a_wrong_length_means_nothing() -> None:
    chunk = odd.png_chunk(b"tRNS", COLOUR[5, 5].astype(">u2").tobytes() + bytes(90))
    assert far_apart(decode(odd.png(COLOUR, 8, 2, chunk)), COLOUR) == 0


def test_damage_gets_a_warning_of_jpeg_in_any_colours() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode in ("RGB", "L", "CMYK"):
        data = bytearray(saved(Image.fromarray(LARGE).convert(mode), "JPEG", quality=95, icc_profile=profile))
        middle = (data.index(b"\xff\xda") + len(data)) // 2
        del data[middle : middle + 100]
        assert any("damaged in places" in warning for warning in warnings_of(bytes(data))), mode


def test_deep_png_with_opacity() -> None:
    opaque = OPAQUE.astype(np.uint16) * 257
    assert far_apart(decode(odd.png(np.dstack([DEEP_GREY, opaque]), 16, 4)), GREY_RGB) == 0
    assert far_apart(decode(odd.png(np.dstack([DEEP_COLOUR, opaque]), 16, 6)), COLOUR) == 0


def test_bmp_of_every_usual_kind() -> None:
    rows, wide = odd.bmp_rows, COLOUR.astype(np.uint32)
    bgr = rows(COLOUR[..., ::-1])
    words = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    five = (wide >> 3).astype(np.uint16)
    short = five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]
    six = five[..., 0] << 11 | (wide[..., 1] >> 2).astype(np.uint16) << 5 | five[..., 2]
    as_short = wide >> 3
    as_short = as_short * 255 // 31
    as_six = np.dstack([as_short[..., 0], (wide[..., 1] >> 2) * 255 // 63, as_short[..., 2]])
    masks = (0xFF0000, 0xFF00, 0xFF)
    kinds = [
        *((odd.bmp(bgr, 48, 32, 24, header=header), COLOUR) for header in (12, 40, 52, 56, 64, 108, 124)),
        (odd.bmp(rows(COLOUR[::-1, :, ::-1]), 48, -32, 24), COLOUR),
        (odd.bmp(rows(words), 48, 32, 32), COLOUR),
        (odd.bmp(rows(words), 48, 32, 32, compression=3, masks=masks), COLOUR),
        (odd.bmp(rows(words), 48, 32, 32, compression=3, masks=(*masks, 0xFF000000), header=124), COLOUR),
        (odd.bmp(rows(words | 0xFF000000), 48, 32, 32, compression=3, masks=(*masks, 0xFF000000), header=124), COLOUR),
        (odd.bmp(rows(short), 48, 32, 16), as_short),
        (odd.bmp(rows(six), 48, 32, 16, compression=3, masks=(0xF800, 0x7E0, 0x1F)), as_six),
    ]
    for number, (data, expected) in enumerate(kinds):
        assert far_apart(decode(data), expected) <= 1, number


@pytest.mark.parametrize(
    ("bits", "masks", "header", "compression"),
    [
        (16, (0xF00, 0xF0, 0xF), 40, 3),
        (16, (0xF000, 0xF00, 0xF0, 0xF), 124, 3),
        (16, (0xF, 0xF0, 0xF00, 0xF000), 40, 6),
        (16, (0x8000, 0x7000, 0xFFF), 40, 3),
        (32, (0xFF, 0xFF00, 0xFF0000), 40, 3),
        (32, (0x3FC00000, 0xFF000, 0x3FC), 56, 3),
        (32, (0x3FF00000, 0xFFC00, 0x3FF), 40, 3),
    ],
)
def test_bmp_of_any_masks(bits: int, masks: tuple[int, ...], header: int, compression: int) -> None:
    words = np.zeros(GREY.shape, np.uint64)
    shown = np.zeros(COLOUR.shape, int)
    for channel, mask in enumerate(masks):
        lowest = (mask & -mask).bit_length() - 1
        largest = mask >> lowest
        samples_ = (COLOUR[..., channel] if channel < 3 else OPAQUE).astype(np.uint64) * largest // 255
        words |= samples_ << np.uint64(lowest)
        if channel < 3:
            shown[..., channel] = samples_ * 255 // largest
    rows = odd.bmp_rows(words.astype(f"<u{bits // 8}"))
    data = odd.bmp(rows, 48, 32, bits, compression=compression, masks=masks, header=header)
    assert far_apart(decode(data), shown) == 0
    assert refusal_of(data[:-200]).code is RefusalCode.CORRUPT


def test_bmp_of_few_colours() -> None:
    palette = picture().quantize(16)
    levels = np.asarray(palette)
    colours = np.zeros((16, 4), np.uint8)
    own = np.reshape(palette.getpalette(), (-1, 3))[:16]
    colours[: len(own), :3] = own[:, ::-1]
    four = odd.bmp_rows(levels[:, ::2] << 4 | levels[:, 1::2])
    runs = b"".join(b"".join(bytes([1, level]) for level in row) + b"\0\0" for row in levels[::-1]) + b"\0\1"
    expected = np.asarray(palette.convert("RGB"))
    assert far_apart(decode(odd.bmp(four, 48, 32, 4, palette=colours.tobytes())), expected) == 0
    long = colours.tobytes().ljust(1024, b"\0")
    assert far_apart(decode(odd.bmp(runs, 48, 32, 8, compression=1, palette=long)), expected) == 0
    too_many = odd.bmp(odd.bmp_rows(levels), 48, 32, 8, palette=long.ljust(1200, b"\0"), colours=300)
    assert far_apart(decode(too_many), expected) == 0
    assert METADATA in warnings_of(too_many)


@pytest.mark.parametrize(
    ("compression", "bits", "masks"),
    [(4, 0, ()), (5, 0, ()), (3, 1, ()), (11, 32, ()), (77, 24, ()), (3, 16, (0xF00, 0, 0xF)), (0, 2, ())],
)
def test_bmp_of_rare_kinds_is_unsupported(compression: int, bits: int, masks: tuple[int, ...]) -> None:
    data = odd.bmp(odd.bmp_rows(COLOUR), 48, 32, bits, compression=compression, masks=masks)
    assert refusal_of(data).code is RefusalCode.UNSUPPORTED


def test_cmyk_jpeg_with_and_without_adobes_mark() -> None:
    """Adobe's programs store full ink as 0 and say so; without their mark 0 is no ink."""
    inks = picture().convert("CMYK")
    marked = saved(inks, "JPEG", quality=95)
    assert far_apart(decode(marked), COLOUR) <= 4
    unmarked = jpeg.without_metadata(saved(ImageChops.invert(inks), "JPEG", quality=95).replace(b"Adobe", b"Other"))
    assert b"Other" not in unmarked
    assert far_apart(decode(unmarked), COLOUR) <= 4
    assert "approximate" in warnings_of(unmarked)[0]


def test_jpeg_of_red_green_and_blue() -> None:
    data = bytearray(saved(picture(), "JPEG", quality=95, keep_rgb=True))
    assert far_apart(decode(bytes(data)), COLOUR) <= 4
    bare = jpeg.without_metadata(bytes(data).replace(b"Adobe", b"Other"))  # the names of the components tell it as well
    assert far_apart(decode(bare), COLOUR) <= 4


@pytest.mark.parametrize("process", [3, 5, 6, 7, 10, 11, 13, 14, 15])
def test_jpeg_of_rare_kinds_is_unsupported(process: int) -> None:
    data = bytearray(PLAIN_JPEG)
    data[data.index(b"\xff\xc0") + 1] = 0xC0 + process
    assert refusal_of(bytes(data)).code is RefusalCode.UNSUPPORTED


def test_jpeg_of_twelve_bits_is_unsupported() -> None:
    data = bytearray(PLAIN_JPEG)
    data[data.index(b"\xff\xc0") + 4] = 12
    assert refusal_of(bytes(data)).code is RefusalCode.UNSUPPORTED


@pytest.mark.parametrize("place", [24, 25, 26, 27, 28])
def test_png_of_unknown_kinds_is_unsupported(place: int) -> None:
    data = bytearray(saved(picture(), "PNG"))
    data[place] = 5
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    assert refusal_of(bytes(data)).code is RefusalCode.UNSUPPORTED


def test_png_with_an_unknown_critical_part_is_unsupported() -> None:
    data = saved(picture(), "PNG")
    assert refusal_of(odd.png_with(data, odd.png_chunk(b"ABCD", b""))).code is RefusalCode.UNSUPPORTED
    apple = data[:8] + odd.png_chunk(b"CgBI", b"\x50\0\x20\2") + data[8:]
    assert refusal_of(apple).code is RefusalCode.UNSUPPORTED


def test_webp_without_a_known_picture_is_unsupported() -> None:
    body = b"WEBP" + odd.webp_chunk(b"VP9 ", bytes(10))
    assert refusal_of(b"RIFF" + struct.pack("<I", len(body)) + body).code is RefusalCode.UNSUPPORTED


# Several pictures in a file

SMALL = odd.page(COLOUR[::2, ::2].copy(), t254=1)
MASK = odd.page(OPAQUE, t254=4, photometric=4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("mark", [{"t254": 1}, {"t255": 2}, {}])
def test_the_full_image_below_a_reduced_one(mark: dict[str, int], compressed: bool, order: str) -> None:
    small = odd.page(COLOUR[::2, ::2].copy(), order=order, **mark)
    full = odd.page(COLOUR, order=order)
    small.below.append(odd.deflated(full) if compressed else full)
    assert far_apart(decode(odd.tiff(small, order=order)), COLOUR) == 0


def test_the_full_image_is_turned_as_the_reduced_one_above_it_says() -> None:
    small = odd.page(COLOUR[::2, ::2].copy(), t254=1, t274=6)
    small.below.append(odd.page(COLOUR))
    assert far_apart(decode(odd.tiff(small)), np.rot90(COLOUR, -1)) == 0


def test_reduced_copies_and_masks_are_passed_over() -> None:
    full = odd.page(COLOUR)
    for pages, warnings in (
        ([SMALL, full], [REDUCED]),
        ([full, SMALL], []),
        ([full, MASK], ["A mask in the file, which tells what is transparent, was not applied."]),
        ([MASK, full], [REDUCED, "A mask in the file, which tells what is transparent, was not applied."]),
        ([full, odd.page(COLOUR[::-1].copy())], [SEVERAL]),
    ):
        still = decode_image(samples.taken_in(odd.tiff(*pages)))
        assert far_apart(still.pixels, COLOUR) == 0
        assert list(still.warnings) == warnings


def test_what_is_small_is_never_judged_in_silence() -> None:
    unmarked = odd.page(COLOUR[::2, ::2].copy())
    assert "Another page is larger (48 x 32 pixels)." in warnings_of(odd.tiff(unmarked, odd.page(COLOUR)))
    assert refusal_of(odd.tiff(SMALL)).code is RefusalCode.UNSUPPORTED
    thumbnail = saved(picture().resize((16, 16)), "JPEG")
    assert warnings_of(thumbnail + PLAIN_JPEG) == (SEVERAL_PICTURES,)


def test_camera_raw_is_unsupported_never_its_thumbnail() -> None:
    sensor = odd.page(GREY, photometric=32803, t254=0)
    preview = odd.Page(SMALL.tags, SMALL.strips, [sensor])
    linear = odd.page(COLOUR, photometric=34892)
    dng = odd.Page(SMALL.tags | {50706: (odd.BYTE, [1, 4, 0, 0])}, SMALL.strips)
    canon = bytearray(odd.tiff(odd.page(COLOUR)))
    canon[8:10] = b"CR"
    phase_one = bytearray(canon)
    phase_one[8:12] = b"IIII"
    with pytest.raises(Refused, match="camera raw"):  # where nothing but the name tells
        decode_image(samples.taken_in(b"II*\0" + NOISE, "photo.ARW"))
    for data in (
        bytes(phase_one),
        odd.tiff(preview),
        odd.tiff(odd.page(COLOUR), sensor),
        odd.tiff(linear),
        odd.tiff(dng),
        bytes(canon),
    ):
        refusal = refusal_of(data)
        assert refusal.code is RefusalCode.UNSUPPORTED
        assert "camera raw" in refusal.message and "JPEG or TIFF" in refusal.message


def gain_map() -> bytes:
    about = b"http://ns.adobe.com/xap/1.0/\0<x xmlns:hdrgm='http://ns.adobe.com/hdr-gain-map/1.0/'/>"
    return odd.jpeg_with(saved(upside_down(), "JPEG"), (0xE1, about))


def test_what_lies_behind_a_jpeg_warns() -> None:
    second, film = saved(upside_down(), "JPEG"), samples.video()
    multi = saved(picture(), "MPO", save_all=True, append_images=[upside_down()], quality=95)
    for tail, warnings in (
        (second, [SEVERAL_PICTURES]),
        (bytes(40) + second, [SEVERAL_PICTURES]),
        (film, [MOTION_PHOTO]),
        (b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + film, [MOTION_PHOTO]),
        (gain_map(), [GAIN_MAP]),
        (gain_map() + film, [GAIN_MAP, MOTION_PHOTO]),
        (gain_map() + second, [SEVERAL_PICTURES]),
        (bytes(500), []),
        (b"\0\0\1\x0a\x0e\0\0\0Image_UTC_Data1608036433914SEFH" + bytes(80) + b"SEFT", []),
    ):
        still = decode_image(samples.taken_in(PLAIN_JPEG + tail))
        assert far_apart(still.pixels, JPEG_PIXELS) == 0
        assert list(still.warnings) == warnings
    assert warnings_of(multi) == (SEVERAL_PICTURES,)
    embedded = odd.jpeg_with(PLAIN_JPEG, (0xE1, b"Exif\0\0" + odd.exif((0x112, 3, 1, 1)) + second))
    assert warnings_of(embedded) == ()


def test_animation_whose_default_picture_is_no_frame() -> None:
    data = saved(picture(), "PNG", save_all=True, default_image=True, append_images=[upside_down(), picture()])
    assert far_apart(decode(data), COLOUR) == 0
    assert warnings_of(data) == (SEVERAL,)


def test_cut_animation_shows_its_first_frame() -> None:
    data = saved(picture(), "WEBP", save_all=True, append_images=[upside_down()], lossless=True)
    assert far_apart(decode(data[:-10]), COLOUR) == 0
    assert METADATA in warnings_of(data[:-10])


# Metadata is not the picture


def packed(length: int) -> bytes:
    return zlib.compress(bytes(length))


@pytest.mark.parametrize(
    "chunks",
    [
        [odd.png_chunk(b"zTXt", b"a\0\0" + packed(3_000_000))],
        [odd.png_chunk(b"iTXt", b"a\0\1\0\0\0" + packed(3_000_000))],
        [odd.png_chunk(b"iCCP", b"a\0\0" + packed(3_000_000))],
        [odd.png_chunk(b"zTXt", b"a\0\0" + packed(900_000))] * 80,
        [odd.png_chunk(b"zTXt", b"a\0\7garbage")],
        [odd.png_chunk(b"iCCP", b"")],
        *([odd.png_chunk(name, b"")] for name in (b"gAMA", b"cHRM", b"pHYs", b"sRGB", b"tRNS", b"acTL", b"fcTL")),
        *([odd.png_chunk(name, bytes(12), good=False)] for name in (b"tEXt", b"tIME", b"eXIf", b"tRNS", b"juNk")),
    ],
)
def test_png_metadata(chunks: list[bytes]) -> None:
    still = decode_image(samples.taken_in(odd.png_with(saved(picture(), "PNG"), *chunks)))
    assert far_apart(still.pixels, COLOUR) == 0
    assert METADATA in still.warnings


def test_pixels_of_a_png_are_still_checked() -> None:
    data = bytearray(saved(picture(), "PNG"))
    data[-20] ^= 1
    assert refusal_of(bytes(data)).code is RefusalCode.CORRUPT
    assert refusal_of(bytes(data[:-40])).code is RefusalCode.CORRUPT


BAD_EXIF = {
    "cut short": odd.exif((0x112, 3, 1, 6))[:14],
    "fewer entries than announced": odd.exif((271, 2, 4, 0), count=9),
    "byte order": b"XX" + odd.exif((0x112, 3, 1, 6))[2:],
    "offset": b"II*\0\xff\xff\xff\x7f",
    "garbage": bytes(range(7, 207)),
    "text": odd.exif((0x112, 2, 1, 0x36)),
    "fraction": odd.exif((0x112, 5, 1, 8)),
    "unknown type": odd.exif((0x112, 99, 1, 6)),
    "no value": odd.exif((0x112, 3, 0, 6)),
    "negative count": odd.exif((0x112, 3, 0xFFFFFFFF, 6)),
    "nine": odd.exif((0x112, 3, 1, 9)),
    "zero": odd.exif((0x112, 3, 1, 0)),
}


def with_exif(kind: str, exif: bytes) -> bytes:
    if kind == "jpeg":
        return odd.jpeg_with(PLAIN_JPEG, (0xE1, b"Exif\0\0" + exif))
    if kind == "png":
        return odd.png_with(saved(picture(), "PNG"), odd.png_chunk(b"eXIf", exif))
    return odd.webp_with(saved(picture(), "WEBP", lossless=True), (b"EXIF", exif), flags=8)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("name", BAD_EXIF)
def test_unreadable_orientation_warns(name: str, kind: str) -> None:
    still = decode_image(samples.taken_in(with_exif(kind, BAD_EXIF[name])))
    assert far_apart(still.pixels, JPEG_PIXELS if kind == "jpeg" else COLOUR) == 0
    assert still.warnings == (UNKNOWN_ORIENTATION,)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
@pytest.mark.parametrize(
    "exif",
    [
        odd.exif((0x112, 3, 1, 6), following=8),  # leads back to itself
        odd.exif((0x112, 3, 1, 6), (0x8769, 4, 1, 8)),
        odd.exif((0x10F, 2, 0xFFFF, 0xFFFFFF), (0x112, 3, 1, 6)),
        odd.exif((0x112, 3, 1, 6 << 16), order=">"),
    ],
)
def test_orientation_survives_damage_around_it(exif: bytes, kind: str) -> None:
    upright = np.rot90(JPEG_PIXELS if kind == "jpeg" else COLOUR, -1)
    assert far_apart(decode(with_exif(kind, exif)), upright) == 0


def test_a_chunk_with_a_wrong_checksum_turns_nothing() -> None:
    chunk = odd.png_chunk(b"eXIf", odd.exif((0x112, 3, 1, 6)), good=False)
    still = decode_image(samples.taken_in(odd.png_with(saved(picture(), "PNG"), chunk)))
    assert far_apart(still.pixels, COLOUR) == 0
    assert set(still.warnings) == {METADATA, UNKNOWN_ORIENTATION}


def test_xmp_does_not_turn_a_picture() -> None:
    """Viewers follow EXIF alone."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    jpeg = odd.jpeg_with(PLAIN_JPEG, (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp))
    png = odd.png_with(saved(picture(), "PNG"), odd.png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    webp = odd.webp_with(saved(picture(), "WEBP", lossless=True), (b"XMP ", xmp), flags=4)
    for data, pixels in ((jpeg, JPEG_PIXELS), (png, COLOUR), (webp, COLOUR)):
        assert far_apart(decode(data), pixels) == 0


def test_a_palette_that_only_suggests_colours_is_no_pixel() -> None:
    damaged = odd.png_chunk(b"PLTE", bytes(12), good=False)
    assert far_apart(decode(odd.png_with(saved(picture(), "PNG"), damaged)), COLOUR) == 0


def test_orientation_survives_when_other_metadata_are_left_out() -> None:
    chunks = odd.png_chunk(b"eXIf", odd.exif((0x112, 3, 1, 6))), odd.png_chunk(b"iCCP", b"")
    assert far_apart(decode(odd.png_with(saved(picture(), "PNG"), *chunks)), np.rot90(COLOUR, -1)) == 0


@pytest.mark.parametrize(
    "segment",
    [
        *((marker, NOISE) for marker in (*range(0xE0, 0xF0), 0xFE)),
        *((marker, b"") for marker in (*range(0xE0, 0xF0), 0xFE)),
        (0xE0, b"JFIF\0"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"ICC_PROFILE\0\1\2" + NOISE),
        (0xE2, b"ICC_PROFILE\0\1\1" + NOISE),
        (0xE2, b"MPF\0" + NOISE),
        (0xED, b"Photoshop 3.0\x008BIM" + NOISE),
        (0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\xff\xff\xff\xff\0"),
        (0xEE, b"Adobe"),
        (0xFE, NOISE * 1000),
    ],
)
def test_jpeg_metadata(segment: tuple[int, bytes]) -> None:
    still = decode_image(samples.taken_in(odd.jpeg_with(PLAIN_JPEG, segment)))
    assert far_apart(still.pixels, JPEG_PIXELS) == 0
    assert not any("damaged in places" in warning for warning in still.warnings)


def test_bytes_between_the_segments_of_a_jpeg_are_not_its_pixels() -> None:
    assert warnings_of(PLAIN_JPEG[:20] + b"\0\1\2" + PLAIN_JPEG[20:]) == (METADATA,)


@pytest.mark.parametrize("flags", [0, 0x02, 0x08, 0x10, 0x20, 0xFF])
@pytest.mark.parametrize("chunk", [(b"ICCP", NOISE), (b"XMP ", NOISE), (b"juNk", NOISE)])
def test_webp_metadata(chunk: tuple[bytes, bytes], flags: int) -> None:
    data = odd.webp_with(saved(picture(), "WEBP", lossless=True), chunk, flags=flags)
    assert far_apart(decode(data), COLOUR) == 0
    for size in (20, 0x7FFFFFFF):
        assert far_apart(decode(data[:4] + struct.pack("<I", size) + data[8:]), COLOUR) == 0


TIFF_GARBAGE: dict[str, odd.Tags] = {
    "text": {270: (odd.ASCII, NOISE)},
    "private": {65000: (odd.UNDEFINED, NOISE)},
    "EXIF far away": {34665: (odd.LONG, [0x7FFFFFFF])},
    "EXIF in the header": {34665: (odd.LONG, [4])},
    "resolution of nothing": {282: (odd.RATIONAL, bytes(8)), 283: (odd.RATIONAL, bytes(8))},
    "resolution in words": {282: (odd.ASCII, b"abcd"), 283: (odd.ASCII, b"abcd")},
    "profile": {34675: (odd.UNDEFINED, NOISE)},
    "images below that are not there": {330: (odd.LONG, [0x7FFFFFF0])},
    "images below that are the file itself": {330: (odd.LONG, [8, 8])},
    "orientation nine": {274: (odd.SHORT, [9])},
    "orientation in words": {274: (odd.ASCII, b"6\0\0\0")},
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", TIFF_GARBAGE)
def test_tiff_metadata(name: str, compressed: bool) -> None:
    page = odd.page(COLOUR)
    page.tags |= TIFF_GARBAGE[name]
    still = decode_image(samples.taken_in(odd.tiff(odd.deflated(page) if compressed else page)))
    assert far_apart(still.pixels, COLOUR) == 0
    assert not any("damaged in places" in warning for warning in still.warnings)
    assert (UNKNOWN_ORIENTATION in still.warnings) == name.startswith("orientation")


@pytest.mark.parametrize(
    "block",
    [
        b"\x21\xfe\xff" + b"\xff" * 255 + b"\0",
        b"\x21\xff\0",
        b"\x21\xff\x0bNETSCAPE2.0\0",
        b"\x21\xff\x03abc\x02zz\0",
        b"\x21\xf9\0",
        b"\x21\xf9\1\1\0",
        b"\x21\x77\x05abcde\0",
    ],
)
def test_gif_metadata(block: bytes) -> None:
    data = saved(picture(), "GIF")
    start = 13 + 3 * (2 << (data[10] & 7))
    assert far_apart(decode(data[:start] + block + data[start:]), decode(data)) == 0


def test_bmp_header_fields_that_nothing_depends_on() -> None:
    data = bytearray(odd.bmp(odd.bmp_rows(COLOUR[..., ::-1]), 48, 32, 24))
    data[2:6], data[26:28], data[34:38] = b"\xff" * 4, b"\7\0", b"\1\0\0\0"
    assert far_apart(decode(bytes(data)), COLOUR) == 0


# Colours and shapes


def test_a_colour_profile_far_from_srgb_is_applied() -> None:
    """The same picture stored in another colour space comes out as its twin in sRGB."""
    muted = Image.fromarray((COLOUR // 2 + 60).astype(np.uint8))
    profile = odd.display_p3()
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    stored = ImageCms.profileToProfile(muted, ImageCms.createProfile("sRGB"), source)
    assert stored is not None
    far = far_apart(np.asarray(stored), np.asarray(muted))
    assert far > 10
    for image_format, options, tolerance in (
        ("PNG", {}, 2),
        ("TIFF", {}, 2),
        ("WEBP", {"lossless": True}, 2),
        ("JPEG", {"quality": 98, "subsampling": 0}, 6),
        ("AVIF", {"quality": 98, "subsampling": "4:4:4"}, 8),
    ):
        still = decode_image(samples.taken_in(saved(stored, image_format, icc_profile=profile, **options)))
        assert far_apart(still.pixels, np.asarray(muted)) <= tolerance
        assert [warning for warning in still.warnings if "profile" in warning and "applied" in warning]


def test_a_profile_of_srgb_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for shown in (picture(), picture().convert("L"), picture().convert("1")):
        data = saved(shown, "PNG", icc_profile=profile)
        assert far_apart(decode(data), np.asarray(shown.convert("RGB"))) == 0
        assert warnings_of(data) == ()
    assert warnings_of(saved(picture(), "JPEG", icc_profile=profile)) == ()


def test_a_damaged_profile_warns_and_not_applied() -> None:
    for profile in (NOISE, odd.display_p3()[:300]):
        data = saved(picture(), "PNG", icc_profile=profile)
        assert far_apart(decode(data), COLOUR) == 0
        assert warnings_of(data) == ("Its colour profile is damaged or of another kind and was not applied.",)


def test_other_ways_to_name_colours_get_a_warning() -> None:
    data = saved(picture(), "PNG")
    assert warnings_of(odd.png_with(data, odd.png_chunk(b"cICP", b"\x09\x10\0\1"))) == (HDR,)
    assert "wide colour space" in warnings_of(odd.png_with(data, odd.png_chunk(b"cICP", b"\x0c\x0d\0\1")))[0]
    assert "gamma of 1.00" in warnings_of(odd.png_with(data, odd.png_chunk(b"gAMA", struct.pack(">I", 100000))))[0]
    assert warnings_of(odd.png_with(data, odd.png_chunk(b"gAMA", struct.pack(">I", 45455)))) == ()
    profile = odd.icc_profile(odd.DISPLAY_P3, transfer=16)
    assert HDR in warnings_of(saved(picture(), "PNG", icc_profile=profile))


@pytest.mark.parametrize(("across", "down", "warns"), [(2, 1, True), (72, 72, False), (0, 0, False), (100, 103, False)])
def test_a_warning_of_pixels_that_are_not_square(across: int, down: int, warns: bool) -> None:
    jpeg_file = bytearray(PLAIN_JPEG)
    jpeg_file[14:18] = struct.pack(">HH", across, down)
    chunk = odd.png_chunk(b"pHYs", struct.pack(">IIB", across, down, 0))
    page = odd.page(COLOUR)
    page.tags |= {
        282: (odd.RATIONAL, struct.pack("<II", across, 1)),
        283: (odd.RATIONAL, struct.pack("<II", down, 1)),
    }
    bmp = bytearray(odd.bmp(odd.bmp_rows(COLOUR[..., ::-1]), 48, 32, 24))
    bmp[38:46] = struct.pack("<II", across, down)
    for data in (bytes(jpeg_file), odd.png_with(saved(picture(), "PNG"), chunk), odd.tiff(page), bytes(bmp)):
        assert any("not square" in warning for warning in warnings_of(data)) == warns


def test_the_aspect_of_a_gif_warns() -> None:
    data = bytearray(saved(picture(), "GIF"))
    data[12] = 113  # two to one
    assert "not square" in warnings_of(bytes(data))[0]


# Newer kinds


def test_heic() -> None:
    still = decode_image(samples.taken_in(odd.heic(LARGE)))
    assert (still.format, still.warnings) == ("heif", ())
    assert far_apart(still.pixels, LARGE) <= 8


@pytest.mark.parametrize("major", [b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"miaf", b"any "])
def test_heic_by_every_brand(major: bytes) -> None:
    assert far_apart(decode(odd.heic(LARGE, major=major)), LARGE) <= 8


def test_the_primary_picture_of_a_heic_is_looked_at() -> None:
    data = odd.heic(LARGE[::-1].copy(), LARGE, primary=1)
    assert far_apart(decode(data), LARGE) <= 8
    assert "its primary" in warnings_of(data)[0]


@pytest.mark.parametrize("turns", range(4))
def test_heic_is_upright_by_its_own_marks_and_not_by_exif(turns: int) -> None:
    turn = odd.box(b"irot", bytes([turns]))
    exif = b"\0\0\0\6Exif\0\0" + odd.exif((0x112, 3, 1, 6))
    assert far_apart(decode(odd.heic(LARGE, properties=[turn], metadata=exif)), np.rot90(LARGE, turns)) <= 8


@pytest.mark.parametrize(("axis", "upright"), [(0, LARGE[::-1]), (1, LARGE[:, ::-1])])
def test_mirrored_heic(axis: int, upright: np.ndarray) -> None:
    assert far_apart(decode(odd.heic(LARGE, properties=[odd.box(b"imir", bytes([axis]))])), upright) <= 8


def test_heic_with_damaged_metadata() -> None:
    for metadata in (NOISE, b"\0", b"\0\0\0\6Exif\0\0" + BAD_EXIF["garbage"]):
        assert far_apart(decode(odd.heic(LARGE, metadata=metadata)), LARGE) <= 8
    profile = odd.box(b"colr", b"prof", NOISE)
    assert "profile" in warnings_of(odd.heic(LARGE, properties=[profile]))[0]


def test_colours_of_heic() -> None:
    for transfer in (16, 18):
        assert warnings_of(odd.heic(LARGE, properties=[odd.nclx(9, transfer)])) == (HDR,)
    assert "wide colour space" in warnings_of(odd.heic(LARGE, properties=[odd.nclx(12, 13)]))[0]
    profile = odd.box(b"colr", b"prof", odd.display_p3())
    assert "applied" in warnings_of(odd.heic(LARGE, properties=[profile]))[0]
    wide_pixels = odd.box(b"pasp", struct.pack(">II", 2, 1))
    assert "not square" in warnings_of(odd.heic(LARGE, properties=[wide_pixels]))[0]


def test_what_is_wrong_with_a_heic() -> None:
    data = odd.heic(LARGE)
    assert refusal_of(data[:-400]).code is RefusalCode.CORRUPT
    assert refusal_of(data[:60]).code is RefusalCode.CORRUPT
    for coding in (b"vvc1", b"av01", b"jpeg"):
        assert refusal_of(odd.heic(LARGE, item=coding)).code is RefusalCode.UNSUPPORTED
    sequence = odd.box(b"ftyp", b"hevc", bytes(4), b"msf1") + odd.box(b"moov", bytes(64))
    assert "sequence" in refusal_of(sequence).message
    size = data.index(b"ispe") + 8
    huge = data[:size] + struct.pack(">II", 20_000, 20_000) + data[size + 8 :]
    assert refusal_of(huge).code is RefusalCode.TOO_LARGE
    assert refusal_of(data, max_pixels=1000).code is RefusalCode.TOO_LARGE


def avif(**options: object) -> bytes:
    return saved(Image.fromarray(LARGE), "AVIF", quality=95, subsampling="4:4:4", **options)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    shown = Image.fromarray(LARGE)
    shown.getexif()[0x112] = orientation
    assert far_apart(decode(avif(exif=exif.tobytes())), np.asarray(ImageOps.exif_transpose(shown))) <= 8


def test_avif_sequence_and_metadata() -> None:
    animated = avif(save_all=True, append_images=[Image.fromarray(LARGE[::-1].copy())])
    assert far_apart(decode(animated), LARGE) <= 8
    assert warnings_of(animated) == (SEVERAL,)
    data = avif(exif=b"Exif\0\0" + odd.exif((271, 2, 4, 0x41414141)))
    damaged = data.replace(b"II*\0", b"ZZ*\0")
    assert damaged != data
    assert far_apart(decode(damaged), LARGE) <= 8
    assert METADATA in warnings_of(damaged)
    assert refusal_of(data, max_pixels=1000).code is RefusalCode.TOO_LARGE
    assert refusal_of(data[:-300]).code is RefusalCode.CORRUPT


def test_hdr_avif_warns() -> None:
    data = avif()
    at = data.index(b"colrnclx") + 8
    assert warnings_of(data[:at] + struct.pack(">HH", 9, 16) + data[at + 4 :]) == (HDR,)


@pytest.mark.parametrize(
    ("bits", "size"),
    [
        # Written out by hand after ISO/IEC 18181-1: lowest bit first.
        ([(1, 1), (3, 5), (1, 3)], (32, 32)),  # eighths, square
        ([(0, 1), (0, 2), (31, 9), (0, 3), (0, 2), (47, 9)], (48, 32)),
        ([(0, 1), (1, 2), (1079, 13), (5, 3)], (1920, 1080)),  # 16 : 9
        ([(0, 1), (3, 2), (39_999_999, 30), (7, 3)], (80_000_000, 40_000_000)),
    ],
)
def test_size_of_jpeg_xl_by_its_header(bits: list[tuple[int, int]], size: tuple[int, int]) -> None:
    packed_bits = place = 0
    for value, count in bits:
        packed_bits |= value << place
        place += count
    stream = b"\xff\x0a" + packed_bits.to_bytes(16, "little")
    container = b"\0\0\0\x0cJXL \r\n\x87\n" + odd.box(b"ftyp", b"jxl ") + odd.box(b"jxlp", bytes(4), stream)
    for data in (stream, container):
        header = jxl.read_header(data)
        assert header is not None
        assert header[:2] == size


def test_huge_jpeg_xl_is_refused_before_it_is_decoded() -> None:
    bits = 3 << 1 | 39_999_999 << 3 | 1 << 33
    assert refusal_of(b"\xff\x0a" + bits.to_bytes(16, "little")).code is RefusalCode.TOO_LARGE


def test_jpeg_xl() -> None:
    pytest.importorskip("pillow_jxl")
    import pillow_jxl  # noqa: F401 (tells Pillow how to write it)

    data = saved(picture(), "JXL", lossless=True)
    assert far_apart(decode(data), COLOUR) == 0
    assert decode_image(samples.taken_in(data)).format == "jxl"
    assert far_apart(decode(saved(picture().convert("L"), "JXL", lossless=True)), GREY_RGB) == 0
    assert refusal_of(data[:-50]).code is RefusalCode.CORRUPT


def test_jpeg_xl_without_its_extra_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pillow_jxl", "pillow_jxl.JpegXLImagePlugin"):
        monkeypatch.setitem(sys.modules, module, None)
    refusal = refusal_of(b"\xff\x0a" + bytes([0b111]) + bytes(40))
    assert refusal.code is RefusalCode.UNSUPPORTED
    assert install_line("jxl") in refusal.message


# The verdict


def test_the_verdict_is_that_of_the_ordinary_twin(portrait: Path, tiny_pack: Path, tmp_path: Path) -> None:
    inspector = Inspector(tiny_pack, edit_pack=None)
    with Image.open(portrait) as opened:
        face = opened.convert("RGB")
    grey = np.asarray(face.convert("L"))
    pixels = np.asarray(face)
    profile = odd.display_p3()
    in_p3 = ImageCms.profileToProfile(
        face, ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile))
    )
    assert in_p3 is not None
    below = odd.page(pixels[::4, ::4].copy(), t254=1)
    below.below.append(odd.page(pixels))
    twins = [
        (saved(face, "PNG"), odd.tiff(below)),
        (saved(face, "PNG"), odd.png_with(saved(face, "PNG"), odd.png_chunk(b"zTXt", b"a\0\0" + packed(3_000_000)))),
        (saved(face, "PNG"), saved(in_p3, "PNG", icc_profile=profile)),
        (saved(face, "PNG"), odd.tiff(odd.page(pixels.astype(np.uint16) * 257))),
        (saved(face.convert("L"), "PNG"), odd.tiff(odd.page(65535 - grey.astype(np.uint16) * 257, photometric=0))),
    ]
    for number, (ordinary, other) in enumerate(twins):
        reports = []
        for data in (ordinary, other):
            (tmp_path / "file").write_bytes(data)
            reports.append(inspector.inspect(tmp_path / "file"))
        assert [report.refusal for report in reports] == [None, None]
        assert reports[0].log10_lr is not None and reports[1].log10_lr is not None
        assert abs(reports[0].log10_lr - reports[1].log10_lr) < 0.02, number


# Kinds that are known and not read

UNREAD = {
    "photo.psd": b"8BPS\0\1" + bytes(20),
    "photo.jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20),
    "photo.j2k": b"\xff\x4f\xff\x51" + bytes(20),
    "photo.jxr": b"II\xbc\1" + bytes(20),
    "photo.ppm": b"P6\n# made by hand\n48 32\n255\n" + bytes(20),
    "photo.pam": b"P7\nWIDTH 48\nHEIGHT 32\n",
    "photo.ico": struct.pack("<HHHBBBBHHII", 0, 1, 1, 32, 32, 0, 0, 1, 32, 400, 22),
    "photo.exr": b"\x76\x2f\x31\x01" + bytes(20),
    "photo.radiance": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n",
    "photo.dds": b"DDS \x7c\0\0\0" + bytes(20),
    "photo.pcx": b"\x0a\5\1\x08" + bytes(20),
    "photo.sgi": b"\x01\xda\1\1\0\3" + bytes(20),
    "scan.dpx": b"SDPX" + bytes(20),
    "scan.cin": b"\x80\x2a\x5f\xd7" + bytes(20),
    "photo.ras": b"\x59\xa6\x6a\x95" + bytes(20),
    "photo.xpm": b"/* XPM */\nstatic char",
    "photo.miff": b"id=ImageMagick",
    "film.nut": b"nut/multimedia container\0" + bytes(20),
    "photo.bpg": b"BPG\xfb" + bytes(20),
    "photo.qoi": b"qoif" + bytes(20),
    "photo.fits": b"SIMPLE  =                    T",
    "photo.dcm": bytes(128) + b"DICM" + bytes(20),
    "photo.mng": b"\x8aMNG\r\n\x1a\n" + bytes(20),
    "photo.xcf": b"gimp xcf v011" + bytes(20),
    "photo.svg": b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "photo.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "photo.raf": b"FUJIFILMCCD-RAW 0201" + bytes(20),
    "photo.orf": b"IIRO\x08\0\0\0" + bytes(20),
    "photo.rw2": b"IIU\0\x18\0\0\0" + bytes(20),
    "photo.cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "photo.crw": b"II\x1a\0\0\0HEAPCCDR" + bytes(20),
    "photo.x3f": b"FOVb" + bytes(20),
    "film.rm": b".RMF\0\0\0\x12" + bytes(20),
    "film.y4m": b"YUV4MPEG2 W48 H32 F25:1\n",
    "film.ivf": b"DKIF\0\0\x20\0VP80" + bytes(20),
    "film.swf": b"FWS\x06\x40\0\0\0" + bytes(20),
    "film.r3d": b"\0\0\0\x40RED2" + bytes(20),
}
BY_NAME_ONLY = ("photo.pict", "photo.wbmp", "photo.tga", "photo.nef", "photo.dng", "film.braw", "film.dv", "film.h264")
ORDINARY = {
    "notes.txt": b"P2 is the second player; 10 of 20 points.\n",
    "terrain.hdr": b"ENVI\ndescription = { heights }\nsamples = 100\n",
    "sound.raw": bytes(range(256)),
    "code.ts": b"export const answer = 42;\n",
    "Makefile.sgi": b"CC = cc\n",
    "page.html": b"<!doctype html><p>An <svg> element</p>",
    "paper.ps": b"%!PS-Adobe-3.0\n",
    "paper.pdf": b"%PDF-1.7",
    "track.fit": b"\x0e\x10\x43\x08" + b"\0" * 4 + b".FIT",
    "library.so": b"\x7fELF" + bytes(40),
    "empty.txt": b"",
}


def test_what_cannot_be_read_is_listed_with_its_kind_and_the_rest_is_passed_over(tmp_path: Path) -> None:
    files = UNREAD | dict.fromkeys(BY_NAME_ONLY, b"nothing that tells") | ORDINARY
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    listed = {Path(source.path).name for source in walk([tmp_path])}
    assert listed == UNREAD.keys() | set(BY_NAME_ONLY)
    for name in listed:
        with pytest.raises(Refused) as caught:
            take_in(Source(name, tmp_path / name))
        assert caught.value.code is RefusalCode.UNSUPPORTED
        assert caught.value.message.startswith(("This is", "By its name this is"))


@pytest.mark.parametrize("name", UNREAD)
def test_the_content_tells_where_the_name_says_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(UNREAD[name])
    (source,) = walk([tmp_path])
    assert isinstance(source, Source)
    with pytest.raises(Refused) as caught:
        take_in(source)
    assert caught.value.message.startswith("This is a")


# Nothing on the terminal, and nothing loaded that is not needed


def test_libraries_for_rare_files_are_loaded_with_the_first_of_them() -> None:
    rare = ("pi_heif", "pillow_jxl", "PIL.AvifImagePlugin", "PIL.ImageCms")
    script = f"import sys, unmask.inspection; print([name for name in {rare} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.slow
def test_no_chatter(tmp_path: Path, tiny_pack: Path) -> None:
    """Every odd file of this module, in worker processes: one report each, and refusals alone on standard error."""
    for number, data in enumerate(odd.collection()):
        (tmp_path / f"{number:03}.odd").write_bytes(data)
    command = [sys.executable, "-m", "unmask.cli", "inspect", str(tmp_path), "--pack", str(tiny_pack), "--json", "-"]
    ran = subprocess.run([*command, "--quiet", "--jobs", "2"], capture_output=True, timeout=300)
    assert all(line.startswith(b"unmask: ") for line in ran.stderr.splitlines())
    assert len(ran.stdout.splitlines()) == len(odd.collection())
