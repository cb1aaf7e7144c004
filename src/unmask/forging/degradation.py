"""Degradation of published pictures: resampling, blur, noise, re-encoding, colour. The same for reals and forgeries.

A `Degradation` is drawn once and applied alike to a forgery and to the real picture beside it: it says nothing of
the class.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

_KERNELS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


def jpeg(pixels: np.ndarray, quality: int, full_chroma: bool = False) -> np.ndarray:
    """Encode and decode uint8 (H, W, 3) RGB as JPEG of a quality in 1..100; 4:2:0 unless `full_chroma`."""
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if full_chroma else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    options = [cv2.IMWRITE_JPEG_QUALITY, int(quality), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded right here
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def sharpen(pixels: np.ndarray, amount: float) -> np.ndarray:
    """Unsharp masking by `amount` times what a blur of one pixel takes away; a negative amount softens; uint8."""
    if amount == 0:
        return pixels
    soft = cv2.GaussianBlur(pixels, (0, 0), 1.0)
    return cv2.addWeighted(pixels, 1 + amount, soft, -amount, 0)


def independent_postprocessing(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Post-processing of one picture before a pair's common degradation: half of the time a sharpness, at times a JPEG.

    It is drawn apart for a forgery and for the real picture beside it. Decoders and warps give smooth pictures without
    the traces of an encoder, the reals come from cameras and web sites: without this, "crisp" and "encoded before"
    would be enough to call a picture authentic. It is kept mild, for it also takes away traces of forging.
    """
    out = sharpen(pixels, 0.0 if rng.random() < 0.5 else float(rng.uniform(-0.6, 0.9)))
    if rng.random() < 0.4:
        out = jpeg(out, int(rng.integers(55, 98)), full_chroma=bool(rng.random() < 0.3))
    return out


def publishing_scale(rng: np.random.Generator, face: float, least: float = 56.0) -> float:
    """What a pair is brought to before all else: its own size, or (35 %) a smaller one, as generators publish theirs.

    Args:
        rng: to draw from.
        face: longer side of the pair's smaller face, in pixels.
        least: to leave of it.
    """
    lowest = min(1.0, max(0.35, least / face))
    return 1.0 if rng.random() < 0.65 else float(rng.uniform(lowest, 1.0))


def downscale(pixels: np.ndarray, scale: float) -> np.ndarray:
    """A picture uint8 (H, W, 3) at `scale` times its sides, by Lanczos's filter, as collections are brought to a size.

    A box filter would leave reals softer than any picture published at that size, and softness would pass for
    authenticity.
    """
    height, width = (max(1, round(scale * side)) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


@dataclass(frozen=True)
class Degradation:
    """One way a picture may have travelled. `scale` is on the side; zero or one of a strength means "not at all"."""

    scale: float
    down: int
    blur: float
    noise: float
    qualities: tuple[int, ...]
    full_chroma: bool
    last: int
    gain: tuple[float, float, float]
    offset: float
    saturation: float
    mirror: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Degradation":
        """A random degradation; more often than not mild."""
        mild = rng.random() < 0.55
        count = int(rng.choice([0, 1, 2], p=[0.15, 0.6, 0.25]))
        # Skewed to high qualities: most pictures are saved at 70-98, some at social-media levels.
        qualities = [int(98 - (28 if mild else 68) * rng.random() ** 1.4) for _ in range(count)]
        return cls(
            scale=1.0 if rng.random() < (0.7 if mild else 0.3) else float(rng.uniform(0.4, 1.0)),
            down=int(rng.integers(len(_KERNELS))),
            blur=0.0 if rng.random() < (0.95 if mild else 0.75) else float(rng.uniform(0.4, 1.6)),
            noise=0.0 if rng.random() < (0.9 if mild else 0.7) else float(rng.uniform(0.5, 7.0)),
            qualities=tuple(qualities),
            full_chroma=bool(rng.random() < 0.3),
            last=-1 if rng.random() < 0.75 else int(rng.integers(1, len(_KERNELS))),
            gain=tuple(float(v) for v in 1 + rng.uniform(-0.12, 0.12) + rng.uniform(-0.04, 0.04, 3)),  # type: ignore[arg-type]
            offset=float(rng.uniform(-14, 14)),
            saturation=0.0 if rng.random() < 0.04 else float(rng.uniform(0.75, 1.25)),
            mirror=bool(rng.random() < 0.5),
        )

    def apply(self, rng: np.random.Generator, pixels: np.ndarray, size: int) -> np.ndarray:
        """Degrade a square crop and bring it to the model's size.

        Args:
            rng: for the noise alone.
            pixels: uint8 (N, N, 3) RGB.
            size: side of the result.

        Returns:
            uint8 (size, size, 3) RGB.
        """
        from unmask.faces.alignment import resize

        out: np.ndarray = pixels.astype(np.float32) * np.asarray(self.gain, np.float32) + self.offset
        if self.saturation != 1.0:
            grey = out @ np.array([0.299, 0.587, 0.114], np.float32)
            out = grey[..., None] + self.saturation * (out - grey[..., None])
        side = max(40, round(self.scale * len(pixels)))
        if self.scale < 1.0 and side < len(pixels):
            out = cv2.resize(out, (side, side), interpolation=_KERNELS[self.down])
        if self.blur:
            out = cv2.GaussianBlur(out, (0, 0), self.blur)
        if self.noise:
            out += rng.normal(0.0, self.noise, out.shape).astype(np.float32)
        done: np.ndarray = np.clip(out + 0.5, 0, 255).astype(np.uint8)
        for quality in self.qualities:
            done = jpeg(done, quality, self.full_chroma)
        if self.last < 0:
            done = resize(done, size)
        else:
            done = cv2.resize(done, (size, size), interpolation=_KERNELS[self.last])
        return np.ascontiguousarray(done[:, ::-1]) if self.mirror else done
