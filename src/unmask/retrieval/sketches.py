"""Looks at a query before it is searched with: is it a drawing, is there anything on it, is it the right way round?

A drawing is dark strokes on light, even paper. What a look at grey levels tells is simple, and it errs; so only a blank
picture is refused. Everything else is searched, with a note on what was seen and done.

1. *Paper*: the most frequent grey level. *Ink*: pixels that differ from it by more than `_INK` levels.
2. *Blank*: next to no ink. Refused.
3. *A photograph*: large areas of smooth tone that is not the paper's, or too little that is paper. Strokes and pencil
   shading are grainy, skin, sky and walls are not. Searched as it is, from photo to photo.
4. *Inverted*: light strokes on dark paper. Inverted.
5. *Coloured paper*: brought to white, and the strokes with it.
6. *A page of text*: many marks of one height in rows. Searched as it is, with a note.
7. *Small on the page*: strokes on a small part of it. Searched as it is, with a note to crop it.

`docs/search.md` says how often the checks are wrong on real drawings and photographs.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from unmask.errors import RefusalCode, Refused

_KEPT = 2048  # pixels on the long side: networks see less, and huge scans would only take time
_LOOKED_AT = 1024  # pixels on the long side for strokes, which fade on smaller copies
_TONES_AT = 256  # and for tones
_INK = 40  # grey levels
_LEAST_INK = 2e-4  # share of pixels
_TONE = 28  # grey levels by which a tone differs from the paper
_EVEN = 6.0  # standard deviation of grey levels in a window of 5 x 5 pixels, below which it is smooth
_PHOTOGRAPH = 0.03  # share of pixels of smooth tone
_LEAST_PAPER = 0.45  # share of pixels of a drawing
_DARK_PAPER = 96
_WHITE = 216  # paper at least so light is left as it is
_COLOURED = 12.0  # chroma in CIELAB of coloured paper
_SMALL = 0.1  # share of the picture that the box around the strokes takes
_MARKS = 60  # of one height on a page of text
_ALIKE = 0.6  # share of marks that are of about that height
_LINES = 4

PHOTOGRAPH = "It looks like a photograph, not like a drawing: searched with as it is."
INVERTED = "It is light on dark: inverted before the search."
PAPER = "The paper is coloured or dark: brought to white before the search."
TEXT = "It looks like a page of text, which no photo answers: crop it to the drawing."
SMALL = "The drawing takes a small part of the picture: crop it to the drawing."


@dataclass(frozen=True)
class CheckedSketch:
    """A query that may be searched with.

    Attributes:
        pixels: uint8 (H, W, 3) RGB, at most 2048 pixels a side: dark strokes on light paper, or a photograph as it was.
        notes: one plain sentence each on what was seen or done.
    """

    pixels: np.ndarray
    notes: tuple[str, ...]


def check_sketch(pixels: np.ndarray) -> CheckedSketch:
    """Look at a query.

    Args:
        pixels: uint8 (H, W, 3) RGB.

    Raises:
        Refused: EMPTY, there is no drawing on it.
    """
    pixels = at_most(pixels, _KEPT)
    grey = cv2.cvtColor(at_most(pixels, _LOOKED_AT), cv2.COLOR_RGB2GRAY)
    paper = _paper(grey)
    ink = np.abs(grey.astype(np.int16) - paper) > _INK
    if ink.mean() < _LEAST_INK:
        raise Refused(RefusalCode.EMPTY, "There is no drawing on it, or one too faint to be seen.")
    if _is_photograph(at_most(pixels, _TONES_AT)):
        return CheckedSketch(pixels, (PHOTOGRAPH,))
    notes = []
    if paper < _DARK_PAPER:
        pixels = 255 - pixels
        notes.append(INVERTED)
    colour = _paper_colour(pixels)
    if colour.min() < _WHITE or _chroma(colour) > _COLOURED:
        pixels = np.clip(pixels.astype(np.float32) * (255.0 / np.maximum(colour, 1)), 0, 255).astype(np.uint8)
        notes.append(PAPER)
    if _is_text(ink):
        notes.append(TEXT)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1) < _SMALL * ink.size:
        notes.append(SMALL)
    return CheckedSketch(pixels, tuple(notes))


def _is_photograph(pixels: np.ndarray) -> bool:
    """Whether a picture has much smooth tone other than the paper's, or little paper."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    values, paper = grey.astype(np.float32), _paper(grey)
    mean = cv2.blur(values, (5, 5))
    deviation = np.sqrt(np.maximum(cv2.blur(values * values, (5, 5)) - mean * mean, 0))
    smooth = (np.abs(mean - paper) > _TONE) & (deviation < _EVEN)
    return bool(smooth.mean() > _PHOTOGRAPH or (np.abs(values - paper) <= _INK // 2).mean() < _LEAST_PAPER)


def at_most(pixels: np.ndarray, side: int) -> np.ndarray:
    """A picture, uint8 (H, W, 3) RGB, brought down to `side` pixels on its long side if it is larger."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    return cv2.resize(
        pixels, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )


def _paper(grey: np.ndarray) -> int:
    """The most frequent level of a grey picture, in bands of eight, smoothed."""
    counts = np.bincount(grey.ravel() // 8, minlength=32)
    return int(np.convolve(counts, [1, 1, 1], "same").argmax()) * 8 + 4


def _paper_colour(pixels: np.ndarray) -> np.ndarray:
    """The median colour of the pixels that are paper, float (3,)."""
    small = at_most(pixels, _TONES_AT)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    return np.median(small[np.abs(grey.astype(np.int16) - _paper(grey)) <= _INK // 2], axis=0)


def _chroma(colour: np.ndarray) -> float:
    _, a, b = cv2.cvtColor((colour / 255).astype(np.float32).reshape(1, 1, 3), cv2.COLOR_RGB2LAB)[0, 0]
    return float(np.hypot(a, b))


def _is_text(ink: np.ndarray) -> bool:
    """Whether the marks on a page are mostly of one height, many, and in rows with gaps between them."""
    _, _, boxes, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    heights, areas = boxes[1:, cv2.CC_STAT_HEIGHT], boxes[1:, cv2.CC_STAT_AREA]
    marks = heights[areas >= 6]
    if len(marks) < _MARKS:
        return False
    usual = np.median(marks)
    alike = (marks > 0.55 * usual) & (marks < 1.8 * usual)
    if usual > ink.shape[0] / 12 or alike.mean() < _ALIKE or areas.sum() == 0:
        return False
    filled = ink.sum(axis=1) > 0.1 * np.percentile(ink.sum(axis=1), 95)
    lines = int((np.diff(filled.astype(np.int8), prepend=0) == 1).sum())
    return lines >= _LINES
