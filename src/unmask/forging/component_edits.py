"""Edits of single facial parts, and the global re-synthesis that passes over the whole face after each of them.

The parts are those of Seq-DeepFake's component track. Every edit takes a picture and gives another one with the soft
mask of what it changed; which of five editors makes it is drawn: features of a donor pasted in, a new colour, a new
shape, a loss of detail, or a new texture. A generator that edits a face draws all of it anew: an earlier edit has
passed through it more often than a later one, and only that makes the order observable. `Resynthesis` does the same
with an autoencoder, or with resampling, sharpening, noise and JPEG. So an edit starts from untouched pixels, the face's
own or the donor's, as a generator does: one that changed what has passed through the tool would leave no trace of when.
Lab only.

Pictures are uint8 (H, W, 3) RGB, masks float32 (H, W) in [0, 1], meshes (468, 2) in pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

from unmask.faces.alignment import resize
from unmask.faces.mesh import LEFT_BROW, LEFT_EYE, LIPS, NOSE, RIGHT_BROW, RIGHT_EYE
from unmask.forging.blending import blend, coarsen, displace, match_colour, warp_face
from unmask.forging.degradation import jpeg, sharpen

PARTS = ("nose", "eye", "eyebrow", "lip", "hair")
"""As Seq-DeepFake's component track numbers them, from 1."""
EDITORS = ("transplant", "recolour", "reshape", "soften", "texture")
_SHARES = (0.5, 0.16, 0.14, 0.1, 0.1)

_OUTLINES: dict[str, tuple[tuple[int, ...], ...]] = {
    "nose": (NOSE,),
    "eye": (RIGHT_EYE, LEFT_EYE),
    "eyebrow": (RIGHT_BROW, LEFT_BROW),
    "lip": (LIPS,),
}
_LEAST_HAIR = 0.02  # of the picture: less is no hair to speak of

ToolKind = Literal["autoencoder", "classical", "none"]
Network = Callable[[np.ndarray, float, int], np.ndarray]
"""From a picture, a latent jitter and a seed to the picture redrawn."""


@dataclass(frozen=True)
class PartedFace:
    """A face to edit or to take from: pixels, mesh and, where it is known, where its hair is, uint8 (H, W), 0 or 1.

    The other parts are where the mesh says: it also knows eyes behind glasses and brows under hair.
    """

    pixels: np.ndarray
    mesh: np.ndarray
    hair: np.ndarray | None = None

    def area(self, part: str) -> np.ndarray:
        """Where a part is, uint8 (H, W), 0 or 1; nothing for hair that is not known."""
        area: np.ndarray = np.zeros(self.pixels.shape[:2], np.uint8)
        if part == "hair":
            return area if self.hair is None else self.hair
        for outline in _OUTLINES[part]:
            cv2.fillConvexPoly(area, cv2.convexHull(np.round(self.mesh[list(outline)]).astype(np.int32)), 1)
        return area

    def parts(self) -> tuple[str, ...]:
        """The parts that can be edited."""
        return tuple(part for part in PARTS if part != "hair" or self.area("hair").mean() >= _LEAST_HAIR)


@dataclass(frozen=True)
class Edited:
    """A picture after one edit, the mask of that edit, and the editor's name."""

    pixels: np.ndarray
    mask: np.ndarray
    editor: str


def edit_part(rng: np.random.Generator, pixels: np.ndarray, face: PartedFace, donor: PartedFace, part: str) -> Edited:
    """Edit one part of a picture.

    Args:
        rng: draws the editor, its strength, the outline and its softness.
        pixels: the picture as it is by now.
        face: the untouched face, of the same size: where its parts are.
        donor: the face that features may be taken from.
        part: one of `face.parts()`.

    Raises:
        ValueError: the part is none of the face's.
    """
    if part not in face.parts():
        raise ValueError(f"part {part!r}: this face has {', '.join(face.parts())}")
    editor = str(rng.choice(EDITORS, p=_SHARES))
    soft = _soft(rng, face, part)
    if editor == "transplant" and part == "hair":
        worn = _donated_hair(face, donor, soft)
        if worn is not None:
            return Edited(blend(pixels, worn, soft), soft, editor)
        editor = "recolour"
    if editor == "transplant":
        worn = warp_face(donor.pixels, donor.mesh, face.mesh, pixels.shape)
        worn = match_colour(worn, pixels, soft, float(rng.uniform(0.0, 0.7)))
        return Edited(blend(pixels, worn, soft), soft, editor)
    change = {"recolour": _recolour, "reshape": _reshape, "soften": _soften, "texture": _texture}[editor]
    return Edited(blend(pixels, change(rng, face, soft), soft), soft, editor)


def _soft(rng: np.random.Generator, face: PartedFace, part: str) -> np.ndarray:
    width = float(np.ptp(face.mesh[:, 0]))
    grow = {"hair": rng.uniform(0.0, 0.02), "nose": rng.uniform(0.01, 0.04)}.get(part, rng.uniform(0.02, 0.05))
    reach = round(float(grow) * width)
    area = face.area(part)
    if reach:
        area = cv2.dilate(area, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    soft = cv2.GaussianBlur(area.astype(np.float32), (0, 0), max(0.5, float(rng.uniform(0.006, 0.02)) * width))
    return np.minimum(soft, 1).astype(np.float32)


def _donated_hair(face: PartedFace, donor: PartedFace, soft: np.ndarray) -> np.ndarray | None:
    """The donor's hair where both have some, elsewhere the face's own in its colours; None if there is too little."""
    pixels = face.pixels
    worn = warp_face(donor.pixels, donor.mesh, face.mesh, pixels.shape)
    hair = np.repeat(donor.area("hair")[..., None] * np.uint8(255), 3, 2)
    common = (warp_face(hair, donor.mesh, face.mesh, pixels.shape)[..., 0] > 127) & (soft > 0.5)
    if common.mean() < _LEAST_HAIR / 2:
        return None
    toned = _toned(pixels, soft > 0.5, worn, common)
    seam = 0.02 * float(np.ptp(face.mesh[:, 0]))
    return blend(toned, worn, cv2.GaussianBlur(common.astype(np.float32), (0, 0), seam))


def _toned(pixels: np.ndarray, inside: np.ndarray, model: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Pixels with the Lab mean of a model; `inside` and `shown` say where each is measured."""
    own, other = (cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32) for picture in (pixels, model))
    moved = own + other[shown].mean(axis=0) - own[inside].mean(axis=0)
    return cv2.cvtColor(np.clip(moved + 0.5, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)


def _recolour(rng: np.random.Generator, face: PartedFace, _: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(face.pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(12, 28)
    lab += np.array([rng.uniform(-26, 26), reach * np.cos(angle), reach * np.sin(angle)], np.float32)
    return cv2.cvtColor(np.clip(lab + 0.5, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)


def _reshape(rng: np.random.Generator, face: PartedFace, soft: np.ndarray) -> np.ndarray:
    """Each connected piece of the part scaled about its own centre and shifted, fading out with the mask."""
    pixels = face.pixels
    shift = np.zeros((*pixels.shape[:2], 2), np.float32)
    rows, columns = np.mgrid[0 : pixels.shape[0], 0 : pixels.shape[1]].astype(np.float32)
    scale = float(rng.choice([-1, 1]) * rng.uniform(0.18, 0.36))
    move = rng.uniform(-0.025, 0.025, 2).astype(np.float32) * float(np.ptp(face.mesh[:, 0]))
    count, pieces = cv2.connectedComponents((soft > 0.05).astype(np.uint8))
    for piece in range(1, count):
        inside = pieces == piece
        weight = np.where(inside, soft, 0)
        centre = (columns[inside].mean(), rows[inside].mean())
        shift[..., 0] += weight * (scale * (columns - centre[0]) + move[0])
        shift[..., 1] += weight * (scale * (rows - centre[1]) + move[1])
    return displace(pixels, shift)


def _soften(rng: np.random.Generator, face: PartedFace, _: np.ndarray) -> np.ndarray:
    return coarsen(rng, face.pixels, float(rng.uniform(0.18, 0.34)))


def _texture(rng: np.random.Generator, face: PartedFace, _: np.ndarray) -> np.ndarray:
    pixels = face.pixels
    if rng.random() < 0.5:
        return sharpen(pixels, float(rng.uniform(1.5, 3.0)))
    grain = cv2.GaussianBlur(rng.normal(0, 1, pixels.shape[:2]), (0, 0), float(rng.uniform(0.6, 1.4)))
    strength = float(rng.uniform(10, 18)) / max(float(grain.std()), 1e-6)
    return np.clip(pixels + strength * grain[..., None] + 0.5, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Resynthesis:
    """One tool's way of drawing a whole face anew; a picture's edits are all made with the same tool.

    `kind` "autoencoder" sends the picture through a network at `scale` of its size, with latent noise of `jitter`;
    "classical" brings it down to `scale` and up again and adds noise of standard deviation `noise` (of 255); both
    then sharpen it by `sharpness` and encode it as JPEG of `quality`. "none" leaves it alone. What a tool does adds up
    from pass to pass: one that only softens would soon find nothing more to soften, and the order would leave no trace.
    """

    kind: ToolKind
    scale: float = 1.0
    jitter: float = 0.0
    sharpness: float = 0.0
    noise: float = 0.0
    quality: int = 100
    network: Network | None = field(default=None, compare=False, repr=False)

    @classmethod
    def draw(cls, rng: np.random.Generator, kind: ToolKind, network: Network | None = None) -> "Resynthesis":
        """A tool of a kind; an autoencoder needs its `network`."""
        if kind == "none":
            return cls(kind)
        quality = int(rng.integers(86, 98))
        if kind == "autoencoder":
            scale, jitter, sharpness = float(rng.choice([0.75, 1.0])), rng.uniform(0.0, 0.04), rng.uniform(0.3, 0.8)
            return cls(kind, scale, float(jitter), float(sharpness), quality=quality, network=network)
        scale, sharpness, noise = (float(rng.uniform(*limits)) for limits in ((0.75, 0.95), (0.6, 1.2), (0.4, 1.2)))
        return cls(kind, scale, sharpness=sharpness, noise=noise, quality=quality)

    def __call__(self, rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
        """The picture drawn anew; `rng` gives the noise."""
        if self.kind == "none":
            return pixels
        if self.kind == "autoencoder":
            assert self.network is not None
            side = len(pixels)
            small = resize(pixels, max(64, round(self.scale * side) // 8 * 8))
            drawn = resize(self.network(small, self.jitter, int(rng.integers(2**31))), side)
        else:
            drawn = coarsen(rng, pixels, self.scale)
        noisy = sharpen(drawn, self.sharpness) + rng.normal(0, self.noise, drawn.shape)
        return jpeg(np.clip(noisy + 0.5, 0, 255).astype(np.uint8), self.quality)

    def parameters(self) -> Mapping[str, float | int | str]:
        """What it was, for the record."""
        kind: dict[str, float | int | str] = {"kind": self.kind}
        if self.kind == "none":
            return kind
        own = "jitter" if self.kind == "autoencoder" else "noise"
        numbers = {name: round(getattr(self, name), 4) for name in ("scale", own, "sharpness")}
        return kind | numbers | {"quality": self.quality}
