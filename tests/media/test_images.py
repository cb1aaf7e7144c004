import io
import subprocess
import sys
import time
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import media_samples as samples
import numpy as np
import pytest
from media_samples import decode, far_apart, refusal_of
from odd_pictures import png_chunk
from PIL import Image, ImageOps

from unmask.errors import RefusalCode, Refused
from unmask.media.images import decode_image
from unmask.media.intake import MediaFile

TOLERANCE = {"jpeg": 12, "webp": 20, "tiff jpeg": 12, "gif": 14, "avif": 24}


def png_header(width: int, height: int) -> bytes:
    """A colour PNG up to its pixel data."""
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", size + b"\x08\x02\0\0\0")


@pytest.mark.parametrize("name", samples.pictures())
def test_every_kind_decodes_to_upright_rgb(name: str) -> None:
    still = decode_image(samples.taken_in(samples.pictures()[name]))
    assert still.format == name.split()[0]
    assert still.pixels.dtype == np.uint8
    assert still.pixels.shape == (still.height, still.width, 3)
    assert still.pixels.flags.c_contiguous
    assert still.pixels.flags.writeable
    assert {still.width, still.height} == {48, 32}


@pytest.mark.parametrize(
    "name",
    [
        *("jpeg", "jpeg progressive", "webp", "avif", "gif", "bmp"),
        *("png", "png deep", "tiff", "tiff lzw", "tiff deflate", "tiff jpeg", "tiff deep", "tiff cmyk"),
    ],
)
def test_colours_survive(name: str) -> None:
    tolerance = next((allowed for start, allowed in TOLERANCE.items() if name.startswith(start)), 0)
    assert far_apart(decode(samples.pictures()[name]), samples.scene()) <= tolerance


def test_grey_palette_and_bilevel() -> None:
    rgb = Image.fromarray(samples.scene())
    kinds = samples.pictures()
    assert far_apart(decode(kinds["png palette"]), np.array(rgb.quantize(16).convert("RGB"))) == 0
    assert far_apart(decode(kinds["bmp palette"]), np.array(rgb.quantize(16).convert("RGB"))) == 0
    assert far_apart(decode(kinds["png bilevel"]), np.array(rgb.convert("1").convert("RGB"))) == 0
    assert far_apart(decode(kinds["jpeg grey"]), np.array(rgb.convert("L").convert("RGB"))) <= 6


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_become_the_high_eight(extension: str, channels: int) -> None:
    samples16 = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    if channels == 3:
        samples16 = np.dstack([samples16, samples16[::-1], samples16.T])
    pixels = decode(samples.deep_rgb(extension, samples16))
    expected = samples16 if channels == 3 else np.dstack([samples16] * 3)
    assert far_apart(pixels, expected >> 8) == 0
    assert np.abs(pixels - expected / 257).max() < 1  # scaled, not clipped
    widened = (expected >> 8).astype(np.uint16) * 257
    assert far_apart(decode(samples.deep_rgb(extension, widened)), expected >> 8) == 0


def test_big_endian_sixteen_bit_tiff() -> None:
    levels = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    picture = Image.frombytes("I;16B", (32, 32), levels.astype(">u2").tobytes())
    pixels = decode(samples.saved(picture, "TIFF"))
    assert far_apart(pixels, np.dstack([levels >> 8] * 3)) == 0


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_a_white_point_are_refused(mode: str) -> None:
    refusal = refusal_of(samples.saved(Image.new(mode, (8, 8), 70000), "TIFF"))
    assert refusal.code is RefusalCode.UNSUPPORTED


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_laid_on_grey_with_a_warning(image_format: str) -> None:
    picture = Image.new("RGBA", (3, 1), (200, 100, 0, 255))
    picture.putpixel((1, 0), (200, 100, 0, 0))
    picture.putpixel((2, 0), (228, 28, 128, 51))
    options = {"lossless": True} if image_format == "WEBP" else {}
    still = decode_image(samples.taken_in(samples.saved(picture, image_format, **options)))
    assert still.pixels[0].tolist() == [[200, 100, 0], [128, 128, 128], [148, 108, 128]]
    assert still.warnings == ("Transparent parts were laid on neutral grey.",)


def test_transparent_colours_and_palette_entries() -> None:
    colour_key = Image.new("RGB", (2, 1), (10, 20, 30))
    colour_key.putpixel((1, 0), (1, 2, 3))
    assert decode(samples.saved(colour_key, "PNG", transparency=(1, 2, 3)))[0].tolist() == [[10, 20, 30], [128] * 3]
    palette = Image.frombytes("P", (2, 1), bytes([0, 1]))
    palette.putpalette([10, 20, 30, 1, 2, 3])
    for image_format in ("PNG", "GIF"):
        assert decode(samples.saved(palette, image_format, transparency=1))[0].tolist() == [[10, 20, 30], [128] * 3]
    deep = Image.fromarray(np.array([[0x8000, 0x4000]], np.uint16))
    assert decode(samples.saved(deep, "PNG", transparency=0x4000))[0].tolist() == [[128] * 3, [128] * 3]


def test_opaque_alpha_leaves_no_warning() -> None:
    still = decode_image(samples.taken_in(samples.saved(Image.fromarray(samples.scene()).convert("RGBA"), "PNG")))
    assert still.warnings == ()
    assert far_apart(still.pixels, samples.scene()) == 0


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk(image_format: str) -> None:
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red
    picture.paste((0, 0, 0, 255), (8, 0, 16, 16))  # black ink only
    data = samples.saved(picture, image_format, **({"quality": 95} if image_format == "JPEG" else {}))
    if image_format == "JPEG":
        assert b"Adobe" in data  # and so stored inverted
    pixels = decode(data)
    assert far_apart(pixels[:, 1], np.tile(np.uint8([255, 0, 0]), (16, 1))) <= 6
    assert far_apart(pixels[:, -2], np.zeros((16, 3), np.uint8)) <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF lzw", "JPEG cmyk"])
def test_every_orientation_is_turned_upright(orientation: int, image_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(samples.scene())
    options: dict[str, object] = {"exif": exif}
    if image_format == "TIFF lzw":
        options["compression"] = "tiff_lzw"
    if image_format == "JPEG cmyk":
        stored = stored.convert("CMYK")
    still = decode_image(samples.taken_in(samples.saved(stored, image_format.split()[0], **options)))
    stored.getexif()[0x0112] = orientation
    upright = np.array(ImageOps.exif_transpose(stored).convert("RGB"))
    assert (still.height, still.width) == upright.shape[:2]
    assert far_apart(still.pixels, upright) <= 20
    assert still.pixels.flags.c_contiguous


def test_fast_jpeg_agrees_with_pillow() -> None:
    chance = np.random.default_rng(1)
    noisy = Image.fromarray(chance.integers(0, 256, (97, 131, 3), dtype=np.uint8))
    for options in ({"subsampling": 0}, {"subsampling": 2}, {"progressive": True}, {"quality": 30}):
        data = samples.saved(noisy, "JPEG", **options)
        assert far_apart(decode(data), np.array(Image.open(io.BytesIO(data)))) <= 2


@pytest.mark.parametrize("name", ["jpeg", "jpeg progressive", "jpeg turned", "jpeg cmyk", "jpeg grey"])
def test_truncated_jpeg_is_refused(name: str) -> None:
    data = samples.pictures()[name]
    for share in (0.3, 0.6, 0.9):
        assert refusal_of(data[: int(len(data) * share)]).code is RefusalCode.CORRUPT
    assert refusal_of(data[:-2]).code is RefusalCode.CORRUPT


def test_truncated_jpeg_with_a_whole_thumbnail_is_refused() -> None:
    thumbnail = b"Exif\0\0" + samples.pictures()["jpeg"]
    data = samples.saved(Image.fromarray(samples.scene(640, 480)), "JPEG")
    data = data[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + data[2:]
    assert far_apart(decode(data), samples.scene(640, 480)) <= TOLERANCE["jpeg"]
    assert refusal_of(data[: int(len(data) * 0.8)]).code is RefusalCode.CORRUPT


@pytest.mark.parametrize("name", ["png", "png deep", "webp", "tiff", "tiff deep", "tiff lzw", "bmp", "gif"])
def test_other_truncated_pictures_are_refused(name: str) -> None:
    data = samples.pictures()[name]
    assert refusal_of(data[: len(data) // 2]).code is RefusalCode.CORRUPT


def test_corrupt_gif() -> None:
    data = bytearray(samples.pictures()["gif animated"])
    second = data.rindex(b"\x2c\0\0\0\0\x30\0\x20\0")
    data[second + 9 : second + 60] = b"\x99" * 51
    assert far_apart(decode(bytes(data)), samples.scene()) <= TOLERANCE["gif"]  # the first frame is whole
    assert refusal_of(bytes(data[:13]) + b"\x99" * 200).code is RefusalCode.CORRUPT


@pytest.mark.parametrize("name", ["png animated", "webp animated", "avif animated", "gif animated", "tiff pages"])
def test_first_of_several_frames_with_a_warning(name: str) -> None:
    still = decode_image(samples.taken_in(samples.pictures()[name]))
    assert still.warnings == ("Only the first of several frames or pages was looked at.",)
    assert far_apart(still.pixels, samples.scene()) <= 20


def test_damage_inside_a_jpeg_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(samples.saved(Image.fromarray(samples.scene(320, 240)), "JPEG", quality=95))
    middle = len(data) // 2
    del data[middle : middle + 400]
    still = decode_image(samples.taken_in(bytes(data)))
    assert still.pixels.shape == (240, 320, 3)
    assert len(still.warnings) == 1
    assert "damaged in places" in still.warnings[0]
    assert "Corrupt JPEG data" in still.warnings[0]
    assert capfd.readouterr().err == ""


def test_png_bomb_is_refused_at_once_and_without_memory() -> None:
    rows = zlib.compress(b"\0" * 50_000_000, 9)
    bomb = png_header(30_000, 30_000) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    media = samples.taken_in(bomb)
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(Refused) as caught:
        decode_image(media)
    elapsed = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code is RefusalCode.TOO_LARGE
    assert elapsed < 0.1
    assert peak < 1024**2


def test_size_guard_is_by_pixels_and_by_side() -> None:
    wide = samples.saved(Image.new("L", (30_000, 40)), "PNG")
    assert decode(wide).shape == (40, 30_000, 3)
    assert refusal_of(samples.saved(Image.new("L", (40_001, 1)), "PNG")).code is RefusalCode.TOO_LARGE
    data = samples.pictures()["jpeg"]
    assert decode(data, max_pixels=48 * 32).shape == (32, 48, 3)
    assert refusal_of(data, max_pixels=48 * 32 - 1).code is RefusalCode.TOO_LARGE


@pytest.mark.parametrize("name", ["jpeg", "png", "bmp", "tiff", "gif", "webp lossless"])
def test_size_guard_holds_for_every_format(name: str) -> None:
    assert refusal_of(samples.pictures()[name], max_pixels=100).code is RefusalCode.TOO_LARGE


def test_size_without_pixels_is_refused() -> None:
    end = png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
    assert refusal_of(png_header(0, 0) + end).code is RefusalCode.CORRUPT
    assert refusal_of(png_header(10, 0) + end).code is RefusalCode.CORRUPT
    jpeg = bytearray(samples.pictures()["jpeg"])
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = b"\0\0\0\0"
    assert refusal_of(bytes(jpeg)).code is RefusalCode.CORRUPT


def test_jpeg_of_endless_passes_is_refused() -> None:
    data = samples.pictures()["jpeg progressive"]
    last_scan = data.rindex(b"\xff\xda")
    assert refusal_of(data[:-2] + data[last_scan:-2] * 300 + data[-2:]).code is RefusalCode.TOO_LARGE


@pytest.mark.parametrize("name", samples.pictures())
def test_no_pillow_warning_between_its_limit_and_ours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # of 1536: as 90 to 150 megapixels are to the real limits
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(samples.pictures()[name])


def test_process_wide_state_is_left_alone() -> None:
    filters, limit = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    data = list(samples.pictures().values())
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(decode, data * 3))) == 3 * len(data)
    assert list(warnings.filters) == filters
    assert limit == Image.MAX_IMAGE_PIXELS


def test_nothing_is_logged_on_the_terminal() -> None:
    tiff = bytearray(samples.saved(Image.fromarray(samples.scene()), "TIFF"))
    tag = tiff.index(b"\x15\x01\x03\0")  # samples per pixel
    tiff[tag + 8 : tag + 10] = b"\xff\x20"
    script = (
        "import sys; from unmask.media.sources import Source; from unmask.media.intake import take_in\n"
        "from unmask.media.images import decode_image; from unmask.errors import Refused\n"
        "try: decode_image(take_in(Source('-', None, sys.stdin.buffer.read())))\n"
        "except Refused as refusal: print(refusal.code)"
    )
    ran = subprocess.run([sys.executable, "-c", script], input=bytes(tiff), capture_output=True, check=True)
    assert ran.stdout.strip() == b"corrupt"
    assert ran.stderr == b""


def test_a_video_is_not_a_picture() -> None:
    with pytest.raises(Refused) as caught:
        decode_image(MediaFile("film", "0" * 64, 3, "video", b"not", None))
    assert caught.value.code is RefusalCode.UNSUPPORTED
