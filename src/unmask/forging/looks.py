"""Looks of published pictures: video frame, enlarged, greyscale, printed and scanned, screenshot, messenger. Lab only.

A look is drawn once (`draw_look`) and applied alike to a forgery and to the real picture beside it, so that it says
nothing of the class. It depends on what was drawn alone: noise too comes out of the drawn seed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from io import BytesIO
from typing import Any

import cv2
import numpy as np

from unmask.errors import DataError
from unmask.forging.degradation import downscale, jpeg

Look = Callable[[np.ndarray], np.ndarray]
"""From a picture uint8 (H, W, 3) RGB to the same picture published in a certain way, uint8 of the same shape."""

CODECS = {"h264": "libx264", "h265": "libx265"}
_LEAST_SIDE = 96  # of a coded frame in pixels: x265 makes smaller ones differently every time, or ends the process
_ENLARGING = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


@cache
def has_encoder(codec: str) -> bool:
    """Whether PyAV can encode a codec ("h264" or "h265"); some builds cannot."""
    import av

    try:
        av.Codec(CODECS[codec], "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def check_encoders() -> None:
    """Refuse to draw video looks where PyAV has no encoder for them.

    Raises:
        DataError: naming the encoders that are missing.
    """
    missing = [name for codec, name in CODECS.items() if not has_encoder(codec)]
    if missing:
        raise DataError(
            f"PyAV here has no encoder {', '.join(missing)}, which video looks need; install PyAV from its wheel"
        )


def video_frame(pixels: np.ndarray, codec: str, crf: int, shift: tuple[float, float] = (0.6, 0.3)) -> np.ndarray:
    """A picture as a frame of a compressed video: the last of four frames of a slow pan, so that it is predicted.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        codec: "h264" or "h265".
        crf: constant rate factor, 0 (best) to 51.
        shift: of the pan per frame, in pixels along x and y.

    Returns:
        uint8 (H, W, 3).

    Raises:
        DataError: PyAV has no encoder for the codec.
    """
    import av

    if not has_encoder(codec):
        check_encoders()
    height, width = pixels.shape[:2]
    below, beside = (max(side + side % 2, _LEAST_SIDE) - side for side in (height, width))
    even = cv2.copyMakeBorder(pixels, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    memory = BytesIO()
    options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
    if codec == "h265":
        options["x265-params"] = "log-level=none:pools=none:frame-threads=1"
    else:  # its look-ahead reads memory that it has not written, for pictures this small: another result every time
        options["x264-params"] = "mbtree=0:rc-lookahead=0:sync-lookahead=0"
    with av.open(memory, "w", "matroska") as out:
        stream = out.add_stream(CODECS[codec], 25, options=options)
        assert isinstance(stream, av.VideoStream)  # as the codec is one of video
        stream.width, stream.height, stream.pix_fmt = even.shape[1], even.shape[0], "yuv420p"
        stream.time_base, stream.codec_context.thread_count = Fraction(1, 25), 1
        for step in (3, 2, 1, 0):
            moved: Any = even
            if step:
                pan = np.array([[1, 0, step * shift[0]], [0, 1, step * shift[1]]], np.float32)
                moved = cv2.warpAffine(even, pan, even.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(moved), "rgb24")
            frame.pts = 3 - step
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    memory.seek(0)
    last = even
    with av.open(memory, "r") as read:
        for shown in read.decode(video=0):
            last = shown.to_ndarray(format="rgb24")
    return np.ascontiguousarray(last[:height, :width])


def enlarged(pixels: np.ndarray, side: int, kernel: int = cv2.INTER_CUBIC, quality: int | None = None) -> np.ndarray:
    """A small picture brought up again: the longer side down to `side`, saved as JPEG of `quality` if given, and up."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    small = downscale(pixels, scale) if scale < 1 else pixels
    if quality is not None:
        small = jpeg(small, quality)
    return cv2.resize(small, (width, height), interpolation=kernel)


def greyscale(pixels: np.ndarray) -> np.ndarray:
    """The luma (BT.601) in all three channels."""
    return _stacked(pixels @ _GREY)


def _stacked(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(grey + 0.5, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@dataclass(frozen=True)
class _Old:
    """An old photograph: grey, faded, toned, grainy, unevenly lit, at times soft."""

    fade: float
    gamma: float
    grain: float
    coarse: float
    vignette: float
    tone: float
    soft: float
    seed: int

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        grey: np.ndarray = (pixels @ _GREY / 255) ** np.float32(self.gamma)
        if self.soft:
            grey = cv2.GaussianBlur(grey, (0, 0), self.soft)
        rows, columns = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        grey = grey * (1 - self.vignette * (rows**2 + columns**2) / 2).astype(np.float32)
        noise: np.ndarray = np.random.default_rng(self.seed).normal(0, 1, (height, width)).astype(np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), self.coarse) * (2 * self.coarse)
        grey = self.fade + (1 - 2 * self.fade) * np.clip(grey, 0, 1) + self.grain * noise
        warm = np.array([1.0, 1 - 0.12 * self.tone, 1 - 0.3 * self.tone], np.float32)
        return np.clip(grey[..., None] * warm * 255 + 0.5, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class _PrintAndScan:
    """Printed on paper and scanned or photographed: turned a little, screened by dots, softened, lit unevenly."""

    angle: float
    dots: float
    period: float
    soft: float
    gamma: float
    light: tuple[float, float]
    paper: float
    seed: int

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        out: np.ndarray = (pixels.astype(np.float32) / 255) ** np.float32(self.gamma)
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) * np.float32(np.pi / self.period)
        screen = np.sin(0.966 * columns + 0.259 * rows) * np.sin(0.966 * rows - 0.259 * columns)
        out = out + self.dots * screen[..., None] * (out * (1 - out) * 4)
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), self.angle, 1 + abs(self.angle) / 60)
        out = cv2.warpAffine(out, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
        out = cv2.GaussianBlur(out, (0, 0), self.soft)
        slope = (
            1 + self.light[0] * np.linspace(-1, 1, width)[None] + self.light[1] * np.linspace(-1, 1, height)[:, None]
        )
        grain = np.random.default_rng(self.seed).normal(0, self.paper, (height, width)).astype(np.float32)
        out = out * slope[..., None].astype(np.float32) + cv2.GaussianBlur(grain, (0, 0), 0.8)[..., None]
        return np.clip(out * 255 + 0.5, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class _Screenshot:
    """Shown on a screen at another scale and saved from there, at times as JPEG."""

    scale: float
    kernel: int
    quality: int | None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        shown = cv2.resize(pixels, (round(width * self.scale), round(height * self.scale)), interpolation=self.kernel)
        if self.quality is not None:
            shown = jpeg(shown, self.quality)
        return cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class _Messenger:
    """Sent on through messengers: at every hop brought to a side and encoded anew."""

    hops: tuple[tuple[float, int], ...]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        out, (height, width) = pixels, pixels.shape[:2]
        for scale, quality in self.hops:
            out = jpeg(downscale(out, scale) if scale < 1 else out, quality)
        return cv2.resize(out, (width, height), interpolation=cv2.INTER_CUBIC) if out.shape != pixels.shape else out


def _draw_video(rng: np.random.Generator, codec: str) -> Look:
    # A rate factor of 23 is common; those who publish small videos go to 35 and beyond.
    crf, shift = int(rng.integers(20, 39)), (float(rng.uniform(-1.5, 1.5)), float(rng.uniform(-1.5, 1.5)))
    scale = 1.0 if rng.random() < 0.5 else float(rng.uniform(0.5, 1.0))

    def look(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        small = downscale(pixels, scale) if scale < 1 and scale * min(height, width) >= 64 else pixels
        framed = video_frame(small, codec, crf, shift)
        return cv2.resize(framed, (width, height), interpolation=cv2.INTER_CUBIC) if small is not pixels else framed

    return look


def _draw_enlarged(rng: np.random.Generator) -> Look:
    side, kernel = int(rng.integers(48, 161)), _ENLARGING[rng.integers(len(_ENLARGING))]
    quality = int(rng.integers(60, 96)) if rng.random() < 0.6 else None
    return lambda pixels: enlarged(pixels, side, kernel, quality)


def _draw_greyscale(rng: np.random.Generator) -> Look:
    if rng.random() < 0.4:
        return greyscale
    return _Old(
        fade=float(rng.uniform(0, 0.16)),
        gamma=float(rng.uniform(0.7, 1.5)),
        grain=float(rng.uniform(0.0, 0.06)),
        coarse=float(rng.uniform(0.4, 1.4)),
        vignette=float(rng.uniform(0, 0.35)),
        tone=0.0 if rng.random() < 0.5 else float(rng.uniform(0.2, 1.0)),
        soft=0.0 if rng.random() < 0.5 else float(rng.uniform(0.4, 1.8)),
        seed=int(rng.integers(2**31)),
    )


def _draw_print(rng: np.random.Generator) -> Look:
    return _PrintAndScan(
        angle=float(rng.uniform(-2, 2)),
        dots=0.0 if rng.random() < 0.4 else float(rng.uniform(0.03, 0.2)),
        period=float(rng.uniform(2.2, 5)),
        soft=float(rng.uniform(0.5, 1.5)),
        gamma=float(rng.uniform(0.8, 1.25)),
        light=(float(rng.uniform(-0.12, 0.12)), float(rng.uniform(-0.12, 0.12))),
        paper=float(rng.uniform(0.0, 0.04)),
        seed=int(rng.integers(2**31)),
    )


def _draw_screenshot(rng: np.random.Generator) -> Look:
    quality = int(rng.integers(75, 96)) if rng.random() < 0.5 else None
    return _Screenshot(float(rng.uniform(1.05, 2.0)), _ENLARGING[rng.integers(len(_ENLARGING))], quality)


def _draw_messenger(rng: np.random.Generator) -> Look:
    hops = int(rng.integers(1, 4))
    return _Messenger(
        tuple(
            (float(rng.uniform(0.7, 1.0)) if rng.random() < 0.5 else 1.0, int(rng.integers(50, 86)))
            for _ in range(hops)
        )
    )


LOOKS: dict[str, Callable[[np.random.Generator], Look]] = {
    "h264": lambda rng: _draw_video(rng, "h264"),
    "h265": lambda rng: _draw_video(rng, "h265"),
    "enlarged": _draw_enlarged,
    "greyscale": _draw_greyscale,
    "print-and-scan": _draw_print,
    "screenshot": _draw_screenshot,
    "messenger": _draw_messenger,
}
"""Every look by name: from a generator to one way of it."""


def draw_look(rng: np.random.Generator, name: str) -> Look:
    """One way of a look.

    Raises:
        DataError: no look of that name.
    """
    if name not in LOOKS:
        raise DataError(f"no look {name!r}; looks are {', '.join(LOOKS)}")
    return LOOKS[name](rng)
