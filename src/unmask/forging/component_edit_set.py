"""Faces edited step by step, in the layout of Seq-DeepFake (`seq_deepfake_writer`): behind `unmask forge --sequence`.

Every picture starts from one untouched face. Up to five of its parts are edited one after the other
(`forging.component_edits`), with features of like-posed people of the same split; after every step the whole face is
drawn anew by one tool, an autoencoder or the classical chain, so that the order leaves a trace. Half of the pictures
without an edit are drawn anew as well: re-synthesis alone is no local edit.

Pictures are framed and banded as `forging.forge_set` does it. Whoever reads them whole sees the band's text, which
tells an untouched face from an edited one: crop about the face. Picture N follows from the specification and N alone.

People are told apart by their faces' embeddings, so that one person with two pictures stays on one side of the split.
Some orders of edits can be held out: they are in the test split alone.

Lab only: needs the "lab" extra.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from PIL import Image

from unmask.datasets.manifest import SHARES, picture_size, split_of
from unmask.edits.labels import TRACKS
from unmask.errors import DataError
from unmask.forging.blending import pose_distance
from unmask.forging.component_edits import PARTS, PartedFace, edit_part
from unmask.forging.seq_deepfake_writer import (
    LAYOUT_SPLITS,
    EditSet,
    Files,
    Row,
    Tools,
    banded,
    check_parameters,
    draw_numbers,
    draw_tool,
    files_of,
    held_out_orders,
    passes_of,
    row_of,
    summarise,
    taef2_network,
    weights_for,
    write_set,
)
from unmask.forging.set_record import refuse_another, write_specification
from unmask.forging.source_faces import Finder, SourceFace, face_finder, find_faces, framed
from unmask.interruption import Interruption
from unmask.media.synthetic_mark import FORGED, REAL, SourceType
from unmask.parallel import spread
from unmask.progress import SILENT, Progress

TRACK = TRACKS["facial_components"]

_PIPELINE_VERSION = 1  # raised whenever the code makes other pictures from the same specification
_PER_FACE = 6
_CANDIDATES = 8  # people posed most alike, of whom donors are drawn
_HAIR = 13  # in the label maps of CelebAMask-HQ, by the order of its `g_mask.py`


@dataclass(frozen=True)
class _Specification:
    """All that a set depends on. `taef2` and `pictures` are SHA-256, of the weights and of the faces' files."""

    count: int | None
    seed: int
    size: int
    tools: Tools
    held_out: float
    people: str
    source: str
    taef2: str | None
    pictures: str | None = None
    making: int = _PIPELINE_VERSION


def forge_component_edits(
    source: Path,
    out: Path,
    count: int | None = None,
    seed: int = 0,
    *,
    size: int = 256,
    tools: Tools = "both",
    held_out: float = 0.2,
    people: str = "file",
    taef2: Path | None = None,
    workers: int = 1,
    finder: Finder | None = None,
    progress: Progress = SILENT,
) -> EditSet:
    """Make a set, or finish one that was begun with the same specification. Pictures that are there are kept.

    Ctrl-C and SIGTERM leave no half-written file; the annotations then list what is finished.

    Args:
        source: folder of face pictures. If it holds `images` and `masks`, the faces are in the first and the label maps
            of CelebAMask-HQ (same names, .png) in the second; without maps hair is not edited.
        out: folder of the set; made if absent, not inside `source`.
        count: pictures; None for six times as many as there are faces.
        seed: of everything random, 0 or more.
        size: side of the pictures without their band, in pixels: 64 to 1024, a multiple of 16.
        tools: what draws the face anew after each step: for each picture one of both, always the same kind, or nothing.
        held_out: share of the orders of two edits and more that are in the test split alone, 0 to 0.9.
        people: "file": one person's pictures are found by their embeddings; "folder": a person is a folder.
        taef2: folder with the TAEF2 autoencoder's weights; needed for "both" and "autoencoder".
        workers: processes that make pictures.
        finder: finds faces; None for `face_finder()`.
        progress: updated for every face and picture.

    Raises:
        DataError: a parameter out of range; no face, or a split with a single person; weights missing; `out` holds
            something else or another set; a source picture changed meanwhile.
        MissingExtraError: a library of the "lab" extra is not installed.
        KeyboardInterrupt: interrupted, with the annotations written.
    """
    check_parameters(seed, size, tools, held_out)
    if (count is not None and count < 1) or workers < 1:
        raise DataError(f"count {count}, workers {workers}: give one or more")
    if people not in ("file", "folder"):
        raise DataError(f"people {people!r}: give file or folder")
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; give one with face pictures")
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out} lies in {source}, whose pictures would then be edited again; name a folder outside")
    spec = _Specification(
        count,
        seed,
        size,
        tools,
        held_out,
        people,
        source.resolve().name or "pictures",
        weights_for(tools, taef2),
    )
    refuse_another(out, spec)
    pictures = source / "images" if (source / "images").is_dir() else source
    with Interruption() as interruption:
        faces, skipped = find_faces(pictures, size, people, finder or face_finder(), progress)
        if not faces:
            why = f" ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
            raise DataError(f"{source}: no face in any of {len(skipped)} files{why}; give a folder of face pictures")
        if people == "file":
            faces = _with_people(faces, size, progress)
        maps = source / "masks" if (source / "masks").is_dir() else None
        spec = replace(spec, pictures=_digest(faces, maps))
        refuse_another(out, spec)
        plan = _Plan(tuple(faces), spec, maps, taef2 if spec.taef2 else None)
        plan.check()
        write_specification(out, spec)
        rows = write_set(
            out,
            TRACK.name,
            range(count or _PER_FACE * len(faces)),
            lambda left: _made(plan, left, workers),
            interruption,
            "editing",
            progress,
        )
    return summarise(out, TRACK.name, rows, len({face.person for face in faces}), skipped)


def _with_people(faces: Sequence[SourceFace], size: int, progress: Progress) -> list[SourceFace]:
    """The faces with a name for each person: that of the first picture."""
    from unmask.faces.identity import FaceEmbedder, people_of

    embedder, vectors = FaceEmbedder(), []
    for done, face in enumerate(faces, start=1):
        vectors.append(embedder.embed(framed(face, size), face.landmarks))
        progress.update("telling people apart", done, len(faces))
    return [replace(face, person=faces[first].name) for face, first in zip(faces, people_of(vectors), strict=True)]


def _digest(faces: Sequence[SourceFace], maps: Path | None) -> str:
    """Of the pictures, the people in them and their label maps."""
    digest = hashlib.sha256()
    for face in faces:
        digest.update(f"{face.name}{face.sha256}{face.person}".encode())
        if maps is not None:
            digest.update(_label_map(maps, face).read_bytes())
    return digest.hexdigest()


def _label_map(maps: Path, face: SourceFace) -> Path:
    path = maps / Path(face.name).with_suffix(".png")
    if not path.is_file():
        raise DataError(f"{path} is missing: every face of the folder needs its label map, or none has one")
    return path


@dataclass(frozen=True)
class _Plan:
    """What every worker knows."""

    faces: tuple[SourceFace, ...]
    spec: _Specification
    maps: Path | None
    taef2: Path | None

    def split(self, face: SourceFace) -> str:
        return LAYOUT_SPLITS[split_of(f"{self.spec.source}/{face.person}", SHARES)]

    def check(self) -> None:
        """Raise DataError if some face has nobody to take features from."""
        people: dict[str, set[str]] = {}
        for face in self.faces:
            people.setdefault(self.split(face), set()).add(face.person)
        lonely = [split for split, names in people.items() if len(names) < 2]
        if lonely:
            raise DataError(f"only one person fell into the split {lonely[0]}, with nobody to give; add faces")


def _made(plan: _Plan, numbers: Sequence[int], workers: int) -> Iterator[tuple[Files, Row]]:
    if workers == 1 or len(numbers) < 2:
        maker = _Maker(plan)
        yield from map(maker.make, numbers)
        return
    yield from spread(_make, numbers, workers, _start, (plan,), chunk=4)


_MAKER: "_Maker | None" = None  # one a worker


def _start(plan: _Plan) -> None:
    global _MAKER
    _MAKER = _Maker(plan)


def _make(number: int) -> tuple[Files, Row]:
    assert _MAKER is not None
    return _MAKER.make(number)


class _Maker:
    """Makes the pictures of a set, each from its own seed."""

    def __init__(self, plan: _Plan) -> None:
        self._plan, self._spec = plan, plan.spec
        self._held = held_out_orders(plan.spec.held_out, plan.spec.seed)
        self._turn = np.random.default_rng(plan.spec.seed).permutation(len(plan.faces))
        self._peers: dict[str, list[SourceFace]] = {}
        for face in plan.faces:
            self._peers.setdefault(plan.split(face), []).append(face)
        self._network = None if plan.taef2 is None else taef2_network(plan.taef2)
        self._parted = lru_cache(256)(self._read)
        self._alike = lru_cache(None)(self._posed_alike)

    def make(self, number: int) -> tuple[Files, Row]:
        """A picture: its files by name, and its line of the record."""
        spec, face = self._spec, self._plan.faces[self._turn[number % len(self._plan.faces)]]
        rng = np.random.default_rng([spec.seed, crc32(f"sequence {number}".encode())])
        split, parted = self._plan.split(face), self._parted(face)
        held = frozenset[tuple[int, ...]]() if split == "test" else self._held
        label = draw_numbers(rng, [PARTS.index(part) + 1 for part in parted.parts()], held)
        edits = tuple(PARTS[number - 1] for number in label if number)
        # One tool a picture: whoever edits step by step stays with one program.
        tool = draw_tool(rng, spec.tools, self._network)
        donors = self._alike(face) if edits else []
        pixels = parted.pixels
        steps: list[tuple[bytes, np.ndarray]] = []
        made: list[dict[str, str]] = []
        used = [face]
        for part in edits:
            donor = donors[int(rng.integers(len(donors)))]
            edited = edit_part(rng, pixels, parted, self._parted(donor), part)
            pixels = tool(rng, edited.pixels)
            used += [donor] if edited.editor == "transplant" else []
            steps.append((banded(pixels, FORGED, "compositeSynthetic"), edited.mask))
            made.append({"part": part, "editor": edited.editor})
        passes = passes_of(rng, len(edits), tool)
        for _ in range(0 if edits else passes):
            pixels = tool(rng, pixels)
        original = f"{self._plan.faces.index(face):05d}"
        row = row_of(TRACK, number, split, label, original, label in self._held, tool, passes)
        row |= {
            "person": face.person,
            "edits": made,
            "files": [{"path": one.name, "sha256": one.sha256, "window": one.window} for one in used],
        }
        source_type: SourceType | None = (
            "compositeSynthetic" if edits else "algorithmicallyEnhanced" if passes else None
        )
        picture = banded(pixels, FORGED if source_type else REAL, source_type)
        return files_of(row, banded(parted.pixels, REAL), picture, steps), row

    def _read(self, face: SourceFace) -> PartedFace:
        size, hair = self._spec.size, None
        if self._plan.maps is not None:
            path = _label_map(self._plan.maps, face)
            upright = picture_size(face.path, f"{face.path}")
            try:
                with Image.open(path) as labels:
                    drawn = np.asarray(labels.resize(upright, Image.Resampling.NEAREST))
            except OSError as error:
                raise DataError(f"{path}: not a readable label map ({error}); replace it") from error
            if drawn.ndim != 2:
                raise DataError(f"{path}: not a label map of one channel; give CelebAMask-HQ's")
            left, top, side = face.window
            window = (drawn[top : top + side, left : left + side] == _HAIR).astype(np.float32)
            hair = (cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA) > 0.5).astype(np.uint8)
        return PartedFace(np.ascontiguousarray(framed(face, size)), face.mesh, hair)

    def _posed_alike(self, face: SourceFace) -> list[SourceFace]:
        others = [other for other in self._peers[self._plan.split(face)] if other.person != face.person]
        return sorted(others, key=lambda other: pose_distance(other.mesh, face.mesh))[:_CANDIDATES]
