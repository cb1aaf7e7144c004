"""Faces that need no data set: drawn pictures with a mesh of 468 points, packed as the face store packs real ones."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from unmask.datasets.face_store import StoredFace
from unmask.datasets.manifest import Sample
from unmask.faces.mesh import FACE_OVAL, LEFT_BROW, LEFT_EYE, LIPS, NOSE, RIGHT_BROW, RIGHT_EYE
from unmask.forging.source_faces import SeenFace

# Centre and half axes of every region, in units of the picture's side.
_LAYOUT = (
    (FACE_OVAL, 0.50, 0.50, 0.26, 0.34),
    (RIGHT_BROW, 0.40, 0.36, 0.07, 0.015),
    (LEFT_BROW, 0.60, 0.36, 0.07, 0.015),
    (RIGHT_EYE, 0.40, 0.42, 0.05, 0.025),
    (LEFT_EYE, 0.60, 0.42, 0.05, 0.025),
    (NOSE, 0.50, 0.53, 0.045, 0.08),
    (LIPS, 0.50, 0.68, 0.09, 0.035),
)


def make_mesh(size: int, turn: float = 0.0) -> np.ndarray:
    """float32 (468, 2): a region's points lie on its ellipse, the others anywhere; `turn` moves the features."""
    rng = np.random.default_rng(468)
    angle, radius = rng.uniform(0, 2 * np.pi, 468), np.sqrt(rng.uniform(0, 0.9, 468))
    mesh = np.c_[0.5 + 0.26 * radius * np.cos(angle), 0.5 + 0.34 * radius * np.sin(angle)]
    for indices, x, y, wide, high in _LAYOUT:
        around = np.linspace(-np.pi / 2, 1.5 * np.pi, len(indices), endpoint=False)
        shift = 0.0 if indices is FACE_OVAL else 0.05 * turn
        mesh[list(indices)] = np.c_[x + shift + wide * np.cos(around), y + high * np.sin(around)]
    return (mesh * size).astype(np.float32)


def make_picture(size: int, seed: int = 0) -> np.ndarray:
    """uint8 (size, size, 3) RGB: a face-like ellipse with eyes and mouth on a patchy ground, all with fine texture."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.uniform(40, 200, (5, 5, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    out = ground.copy()
    for (_, x, y, wide, high), colour in zip(_LAYOUT, rng.uniform(50, 210, (len(_LAYOUT), 3)), strict=True):
        centre, axes = (round(x * size), round(y * size)), (max(1, round(wide * size)), max(1, round(high * size)))
        cv2.ellipse(out, centre, axes, 0, 0, 360, colour.tolist(), -1)
    out = cv2.GaussianBlur(out, (0, 0), size / 100) + rng.normal(0, 6, out.shape)
    return np.clip(out, 0, 255).astype(np.uint8)


def find_drawn(pixels: np.ndarray) -> SeenFace | None:
    """In place of `face_finder()`: a drawn face fills its picture; other shapes than a square have none."""
    side = pixels.shape[0]
    if pixels.shape[1] != side:
        return None
    turn = float(np.sin(float(pixels.mean())))
    box = (0.24 * side, 0.16 * side, 0.52 * side, 0.68 * side)
    return SeenFace(box, np.zeros((5, 2), np.float32), make_mesh(side, turn))


def make_face(
    number: int,
    *,
    label: int = 0,
    family: str = "real",
    source: str = "ffhq",
    split: str = "train",
    flags: str = "",
    size: int = 96,
) -> StoredFace:
    """A stored face; its picture, mesh and names follow from the number."""
    picture = make_picture(size, seed=number)
    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].ravel()
    name = f"{source}/{family}/{number:04d}"
    sample = Sample(
        path=f"{name}.png", label=label, family=family, source=source, subject=name, split=split, flags=flags
    )
    points = np.array([[0.40, 0.42], [0.60, 0.42], [0.50, 0.55], [0.43, 0.68], [0.57, 0.68]], np.float32) * size
    box = (0.24 * size, 0.18 * size, 0.52 * size, 0.66 * size)
    mesh = make_mesh(size, turn=float(np.sin(number)))
    # The store keeps meshes in half precision; what comes back from it is what a maker sees.
    return StoredFace(sample, encoded, (0, 0, size), box, points, mesh.astype(np.float16).astype(np.float32))


def make_faces(split: str = "train", count: int = 4, size: int = 96) -> list[StoredFace]:
    """`count` faces of every source and of every collected family, as a data folder would give them."""
    faces: list[StoredFace] = []
    for source in ("ffhq", "ciplab", "celebamask", "utkface"):
        faces += [make_face(len(faces) + i, source=source, split=split, size=size) for i in range(count)]
    forged = [("stylegan", "ffhq", ""), ("ciplab", "ciplab", "1010"), ("mobilestylegan", "ffhq", "")]
    if split in ("val", "test"):
        forged.append(("pggan", "celebamask", ""))
    for family, source, flags in forged:
        faces += [
            make_face(len(faces) + i, label=1, family=family, source=source, split=split, flags=flags, size=size)
            for i in range(count)
        ]
    return faces


def write_reconstructions(faces: Sequence[StoredFace], folder: Path, side: int = 64) -> Path:
    """Write one reconstruction of every face in the format of `lab.detection.reconstructions`: smaller and blurred."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.zeros((len(faces), 256, 256, 3), np.uint8)
    for row, face in enumerate(faces):
        small = cv2.resize(face.pixels(), (side, side), interpolation=cv2.INTER_AREA)
        draw[row, :side, :side] = cv2.GaussianBlur(small, (0, 0), 1.0)
    np.save(folder / "draw-00.npy", draw)
    np.save(folder / "sides.npy", np.full((1, len(faces)), side, np.int16))
    (folder / "names.json").write_text(json.dumps([face.sample.path for face in faces]), encoding="utf-8")
    return folder
