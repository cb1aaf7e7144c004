"""One clip stored in many ways, each of which a player shows alike."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

EXACT = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
_X264, _LOSSLESS = {"crf": "8", "preset": "veryfast"}, {}
_TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
REFERENCE_WHITE = 203.0  # cd/m², ITU-R BT.2408
PQ, HLG = 16, 18


@dataclass(frozen=True)
class Way:
    """How to store a clip: the fields are those of the stream, `prepare` changes the pixels first."""

    container: str = "mp4"
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "8", "preset": "veryfast"})
    matrix: int = 5
    """As in ITU-T H.273."""
    tagged: bool = True
    full: bool = False
    curve: int = 0
    pixel_shape: Fraction | None = None
    rotation: int = 0
    prepare: Callable[[list[np.ndarray]], list[np.ndarray]] = list
    interlaced: bool = False


def store(frames: Sequence[np.ndarray], way: Way, rate: int = 25) -> bytes:
    """Encode frames, uint8 (H, W, 3 or 4)."""
    frames = way.prepare(list(frames))
    height, width = frames[0].shape[:2]
    with tempfile.NamedTemporaryFile() as file, av.open(file.name, "w", format=way.container) as output:
        options = dict(way.options)
        if "265" in way.codec:
            options["x265-params"] = "log-level=none:" + options.get("x265-params", "")
        track = output.add_stream(way.codec, rate=rate, options=options)
        track.width, track.height, track.pix_fmt = width, height, way.pixel_format
        if way.pixel_shape:
            track.codec_context.sample_aspect_ratio = way.pixel_shape
        if way.tagged:
            track.codec_context.colorspace = way.matrix
            track.codec_context.color_range = 2 if way.full else 1
        if way.curve:
            track.codec_context.color_trc, track.codec_context.color_primaries = way.curve, 9
        if way.rotation:
            track.set_display_rotation(way.rotation)
        for number, pixels in enumerate(frames):
            frame = _frame(pixels, way)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            output.mux(track.encode(frame))
        output.mux(track.encode(None))
        output.close()
        return Path(file.name).read_bytes()


def _frame(pixels: np.ndarray, way: Way) -> av.VideoFrame:
    if pixels.dtype == np.uint16:
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le")
    else:
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24" if pixels.shape[2] == 3 else "rgba")
    matrix = {1: Colorspace.ITU709, 5: Colorspace.ITU601, 9: Colorspace.BT2020}[way.matrix]
    frame = frame.reformat(
        format=way.pixel_format,
        interpolation=EXACT,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        dst_color_range=ColorRange.JPEG if way.full else ColorRange.MPEG,
    )
    if not way.tagged:
        frame.colorspace, frame.color_range = 2, 0
    if way.curve:
        frame.color_trc, frame.color_primaries = way.curve, 9
    return frame


def squeezed(width: int, height: int) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    return lambda frames: [cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA) for one in frames]


def enlarged(width: int, height: int) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    return lambda frames: [cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in frames]


def woven(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Frames two by two in one picture, the bottom field (odd lines) being of the first: so PyAV has it encoded."""
    pictures = [first.copy() for first in frames[::2]]
    for picture, second in zip(pictures, frames[1::2], strict=False):
        picture[::2] = second[::2]
    return pictures


def with_opacity(frames: list[np.ndarray]) -> list[np.ndarray]:
    return [np.dstack([one, np.full(one.shape[:2], 255, np.uint8)]) for one in frames]


def in_light_of(curve: int) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    """sRGB frames to uint16 BT.2020 ones, white being reference white, by the curve of ITU-R BT.2100."""

    def prepare(frames: list[np.ndarray]) -> list[np.ndarray]:
        return [_to_hdr(one, curve) for one in frames]

    return prepare


def _to_hdr(pixels: np.ndarray, curve: int) -> np.ndarray:
    signal = pixels.astype(np.float64) / 255
    light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4) @ _TO_2020.T
    light *= REFERENCE_WHITE
    if curve == PQ:
        power = (light / 10000) ** (2610 / 16384)
        coded = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    else:
        # From the light of a screen of 1000 cd/m² back to that of the scene.
        shown = light / 1000
        luminance = np.maximum(shown @ (0.2627, 0.6780, 0.0593), 1e-9)[..., None]
        scene = shown * luminance ** (1 / 1.2 - 1)
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        coded = np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)
    return (coded.clip(0, 1) * 65535).round().astype(np.uint16)
