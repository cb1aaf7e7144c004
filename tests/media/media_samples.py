"""Pictures and videos made on the spot, for the tests of this room."""

import io
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from unmask.errors import Refused
from unmask.media.images import decode_image
from unmask.media.intake import MediaFile, take_in
from unmask.media.sources import Source


def scene(width: int = 48, height: int = 32) -> np.ndarray:
    """A smooth picture (H,W,3) that looks different under every turn: each corner has a colour of its own."""
    corners = np.array([[[230, 40, 30], [40, 200, 60]], [[30, 60, 220], [240, 230, 90]]], np.float32)
    return cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR).round().astype(np.uint8)


def saved(picture: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, image_format, **options)
    return stream.getvalue()


def taken_in(data: bytes, path: str = "memory") -> MediaFile:
    return take_in(Source(path, None, data))


def taken_in_file(file: Path) -> MediaFile:
    return take_in(Source(str(file), file))


def decode(data: bytes, **options: int) -> np.ndarray:
    return decode_image(taken_in(data), **options).pixels


def refusal_of(data: bytes, **options: int) -> Refused:
    with pytest.raises(Refused) as caught:
        decode(data, **options)
    return caught.value


def far_apart(left: np.ndarray, right: np.ndarray) -> int:
    assert left.shape == right.shape
    return int(np.abs(left.astype(int) - right.astype(int)).max())


def deep_rgb(extension: str, samples: np.ndarray) -> bytes:
    """Encode uint16 samples, (H,W) or (H,W,3|4) in RGB order."""
    if samples.ndim == 3:
        samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    ok, encoded = cv2.imencode(extension, samples)
    assert ok
    return encoded.tobytes()


def pictures(pixels: np.ndarray | None = None) -> dict[str, bytes]:
    """One file of every kind of picture that we read, of some pixels, uint8 (H, W, 3); of a small scene without."""
    pixels = scene() if pixels is None else pixels
    rgb = Image.fromarray(pixels)
    ramp = np.linspace(0, 255, pixels.shape[1], dtype=np.uint8)[None].repeat(len(pixels), 0)
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(ramp))
    other = Image.fromarray(pixels[::-1].copy())
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = pixels.astype(np.uint16) * 257
    return {
        "jpeg": saved(rgb, "JPEG", quality=90),
        "jpeg progressive": saved(rgb, "JPEG", quality=90, progressive=True),
        "jpeg grey": saved(rgb.convert("L"), "JPEG"),
        "jpeg cmyk": saved(rgb.convert("CMYK"), "JPEG", quality=95),
        "jpeg turned": saved(rgb, "JPEG", exif=exif),
        "png": saved(rgb, "PNG"),
        "png alpha": saved(rgba, "PNG"),
        "png grey alpha": saved(rgba.convert("LA"), "PNG"),
        "png palette": saved(rgb.quantize(16), "PNG"),
        "png bilevel": saved(rgb.convert("1"), "PNG"),
        "png deep": deep_rgb(".png", wide),
        "png deep grey": deep_rgb(".png", wide[..., 0]),
        "png animated": saved(rgb, "PNG", save_all=True, append_images=[other]),
        "webp": saved(rgb, "WEBP", quality=80),
        "webp lossless": saved(rgba, "WEBP", lossless=True),
        "webp animated": saved(rgb, "WEBP", save_all=True, append_images=[other]),
        "avif": saved(rgb, "AVIF", quality=90),
        "avif animated": saved(rgb, "AVIF", save_all=True, append_images=[other]),
        "tiff": saved(rgb, "TIFF"),
        "tiff lzw": saved(rgb, "TIFF", compression="tiff_lzw"),
        "tiff deflate": saved(rgb, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": saved(rgb, "TIFF", compression="jpeg"),
        "tiff cmyk": saved(rgb.convert("CMYK"), "TIFF"),
        "tiff pages": saved(rgb, "TIFF", save_all=True, append_images=[other]),
        "tiff deep": deep_rgb(".tiff", wide),
        "tiff deep grey": deep_rgb(".tiff", wide[..., 0]),
        "bmp": saved(rgb, "BMP"),
        "bmp palette": saved(rgb.quantize(16), "BMP"),
        "gif": saved(rgb, "GIF"),
        "gif animated": saved(rgb, "GIF", save_all=True, append_images=[other]),
    }


def video(
    container: str = "mp4",
    codec: str = "libx264",
    *,
    frames: int = 25,
    rate: int = 25,
    width: int = 64,
    height: int = 48,
    rotation: int = 0,
    start: Fraction = Fraction(0),
    options: dict[str, str] | None = None,
    fast_start: bool = False,
) -> bytes:
    """A video whose frame i is uniformly grey at level 20 + 8 (i % 25), but for a red top-left corner."""
    placement = {"movflags": "faststart"} if fast_start else {}
    with (
        tempfile.NamedTemporaryFile() as file,  # not memory: for a fast start FFmpeg opens its output again
        av.open(file.name, "w", format=container, container_options=placement) as output,
    ):
        track = output.add_stream(codec, rate=rate, options=options or {})
        track.width, track.height, track.pix_fmt = width, height, "yuv420p"
        if rotation:
            track.set_display_rotation(rotation)
        for index in range(frames):
            pixels = np.full((height, width, 3), 20 + 8 * (index % 25), np.uint8)
            pixels[: height // 2, : width // 2] = (220, 20, 20)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.time_base = Fraction(1, rate)
            frame.pts = index + int(start * rate)
            output.mux(track.encode(frame))
        output.mux(track.encode(None))
        output.close()
        return Path(file.name).read_bytes()


def sound(container: str = "mp4", cover: bytes | None = None) -> bytes:
    """A sound file, with a picture on its cover if `cover` (a JPEG of 48 x 32) is given."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as output:
        track = output.add_stream("aac", rate=16000)
        picture = None
        if cover is not None:
            picture = output.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 48, 32, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            packet = av.Packet(cover)
            packet.stream = picture
            packet.pts = packet.dts = 0
            output.mux(packet)
        samples = np.zeros((1, 1024), np.float32)
        for index in range(20):
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, index * 1024
            output.mux(track.encode(frame))
        output.mux(track.encode(None))
    return stream.getvalue()
