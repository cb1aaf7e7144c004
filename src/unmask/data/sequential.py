"""Make a set of faces edited step by step, in the layout of Seq-DeepFake: the library behind `unmask forge --sequence`.

Every picture starts from one untouched face. Up to five of its parts are edited one after the other
(`unmask.data.part_edits`), with features of like-posed people of the same split; after every step the whole face is
drawn anew by one tool, an autoencoder or the classical chain, so that the order leaves a trace. Half of the pictures
without an edit are drawn anew as well: re-synthesis alone is no local edit.

OUT/facial_components/
  annotations/SPLIT.csv           file_path, label, original, mask, steps; SPLIT is train, val or test
  images/SPLIT/nose-eye-lip/N.png the result; "original" in place of the names if nothing was edited
  originals/SPLIT/K.png           the untouched face
  masks/SPLIT/N.png               grey, 255 where any step forged
  steps/SPLIT/N/1.png, 1-mask.png …  after step 1 (before it was drawn anew for the next), and what step 1 forged
OUT/record.jsonl                  one line a picture: how it was made, from which files
OUT/set.json                      what the set was asked to be: another order into the same folder is refused

Pictures are framed and banded as `unmask.data.forging` does it. Whoever reads them whole sees the band's text, which
tells an untouched face from an edited one: crop about the face. Picture N follows from the order and N alone.

People are told apart by their faces' embeddings, so that one person with two pictures stays on one side of the split.
Some orders of edits can be held out: they are in the test split alone.

Lab only: needs the "lab" extra.
"""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import cv2
import numpy as np
from PIL import Image

from unmask import __version__
from unmask.data.blending import pose_distance
from unmask.data.made_sets import Record, png, refuse_another, write_whole
from unmask.data.manifest import SHARES, picture_size, split_of
from unmask.data.marking import FORGED, REAL, SourceType, band_height, mark, with_band
from unmask.data.parallel import spread
from unmask.data.part_edits import PARTS, Kind, Network, PartedFace, Resynthesis, edit_part
from unmask.data.source_faces import Finder, Progress, SourceFace, face_finder, find_faces, framed
from unmask.errors import DataError
from unmask.interruption import Interruption
from unmask.sequence.labels import LONGEST, all_sequences

Tools = Literal["both", "autoencoder", "classical", "none"]
TOOLS: tuple[Tools, ...] = ("both", "autoencoder", "classical", "none")
TRACK = "facial_components"
COLUMNS = ("file_path", "label", "original", "mask", "steps")

_MAKING = 1  # raised whenever the code makes other pictures from the same order
LAYOUT_SPLITS = {"train": "train", "val": "val", "cal": "val", "test": "test"}  # the layout knows three
_PER_FACE = 6
_CANDIDATES = 8  # people posed most alike, of whom donors are drawn
_HAIR = 13  # in the label maps of CelebAMask-HQ, by the order of its `g_mask.py`


@dataclass(frozen=True)
class SequenceSet:
    """What came of an order: pictures by split and length, sources passed over, and splits without a picture."""

    folder: Path
    lengths: dict[str, dict[int, int]]
    skipped: tuple[tuple[str, str], ...]
    empty_splits: tuple[str, ...]
    people: int
    """How many people were told apart."""


@dataclass(frozen=True)
class _Order:
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
    making: int = _MAKING


def forge_sequences(
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
    progress: Progress | None = None,
) -> SequenceSet:
    """Make a set, or finish one that was begun with the same order. Pictures that are there are kept.

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
        progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        DataError: a parameter out of range; no face, or a split with a single person; weights missing; `out` holds
            something else or a set of another order; a source picture changed meanwhile.
        MissingExtraError: a library of the "lab" extra is not installed.
        KeyboardInterrupt: interrupted, with the annotations written.
    """
    if (count is not None and count < 1) or seed < 0:
        raise DataError(f"count {count}, seed {seed}: give a count of 1 or more and a seed of 0 or more")
    if not 64 <= size <= 1024 or size % 16:
        raise DataError(f"size {size}: give a multiple of 16 from 64 to 1024")
    if tools not in TOOLS or people not in ("file", "folder"):
        raise DataError(f"tools {tools!r} are to be one of {', '.join(TOOLS)}, people {people!r} file or folder")
    if workers < 1:
        raise DataError(f"workers {workers}: give one process or more")
    if not 0 <= held_out <= 0.9:
        raise DataError(f"held out {held_out}: give a share from 0 to 0.9")
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; give one with face pictures")
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out} lies in {source}, whose pictures would then be edited again; name a folder outside")
    order = _Order(
        count,
        seed,
        size,
        tools,
        held_out,
        people,
        source.resolve().name or "pictures",
        weights_for(tools, taef2),
    )
    told = progress or (lambda _what, _done, _all: None)
    refuse_another(out, order)
    pictures = source / "images" if (source / "images").is_dir() else source
    with Interruption() as interruption:
        faces, skipped = find_faces(pictures, size, people, finder or face_finder(), told)
        if not faces:
            why = f" ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
            raise DataError(f"{source}: no face in any of {len(skipped)} files{why}; give a folder of face pictures")
        if people == "file":
            faces = _told_apart(faces, size, told)
        maps = source / "masks" if (source / "masks").is_dir() else None
        order = replace(order, pictures=_digest(faces, maps))
        refuse_another(out, order)
        plan = _Plan(tuple(faces), order, maps, taef2 if order.taef2 else None)
        plan.check()
        write_whole(out / "set.json", json.dumps(asdict(order), indent=1).encode())
        with Record(out, row_files) as record:
            numbers = range(count or _PER_FACE * len(faces))
            finished = {int(row["number"]) for row in record.rows.values()}
            left = [number for number in numbers if number not in finished]
            told("editing", len(numbers) - len(left), len(numbers))
            try:
                for done, (files, row) in enumerate(_made(plan, left, workers), start=len(numbers) - len(left) + 1):
                    with interruption.held_back():
                        for name, data in files.items():
                            write_whole(out / name, data)
                        record.add(row)
                    told("editing", done, len(numbers))
            finally:
                with interruption.held_back():
                    rows = [row for row in record.rows.values() if row["number"] in numbers]
                    write_annotations(out, TRACK, rows)
    lengths = {
        split: dict(sorted(Counter(sum(map(bool, row["label"])) for row in rows if row["split"] == split).items()))
        for split in ("train", "val", "test")
    }
    empty = tuple(split for split, found in lengths.items() if not found)
    return SequenceSet(out / TRACK, lengths, tuple(skipped), empty, len({face.person for face in faces}))


def held_out_orders(share: float, seed: int) -> frozenset[tuple[int, ...]]:
    """The sequences of two edits and more that are kept for the test split: `share` of those of each length."""
    rng = np.random.default_rng([seed, crc32(b"held out")])
    table = all_sequences()
    chosen: set[tuple[int, ...]] = set()
    for length in range(2, LONGEST + 1):
        rows = table[np.count_nonzero(table, axis=1) == length]
        some = rng.permutation(len(rows))[: round(share * len(rows))]
        chosen |= {tuple(int(number) for number in rows[row]) for row in some}
    return frozenset(chosen)


def write_seq_deepfake(rows: Iterable[Mapping[str, str]], path: Path) -> None:
    """Write an annotation file of Seq-DeepFake.

    Args:
        rows: `file_path` and `label` as the layout has them, and ours: `original`, `mask`, `steps`, or "".
        path: the .csv file.
    """
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, stream.getvalue().encode())


def weights_for(tools: Tools, folder: Path | None) -> str | None:
    """SHA-256 of TAEF2's weights if some tools need them."""
    if tools not in ("both", "autoencoder"):
        return None
    from unmask.data.forging import taef2_sha256

    try:
        return taef2_sha256(folder)
    except DataError as error:
        raise DataError(f"{error}; or take --tools classical") from None


def _told_apart(faces: Sequence[SourceFace], size: int, told: Progress) -> list[SourceFace]:
    """The faces with a name for each person: that of the first picture."""
    from unmask.data.identity import FaceEmbedder, people_of

    embedder, vectors = FaceEmbedder(), []
    for done, face in enumerate(faces, start=1):
        vectors.append(embedder.embed(framed(face, size), face.landmarks))
        told("telling people apart", done, len(faces))
    return [replace(face, person=faces[first].name) for face, first in zip(faces, people_of(vectors), strict=True)]


def _digest(faces: Sequence[SourceFace], maps: Path | None) -> str:
    """Of the pictures, the people in them and their label maps."""
    told = hashlib.sha256()
    for face in faces:
        told.update(f"{face.name}{face.sha256}{face.person}".encode())
        if maps is not None:
            told.update(_label_map(maps, face).read_bytes())
    return told.hexdigest()


def _label_map(maps: Path, face: SourceFace) -> Path:
    path = maps / Path(face.name).with_suffix(".png")
    if not path.is_file():
        raise DataError(f"{path} is missing: every face of the folder needs its label map, or none has one")
    return path


def row_files(row: Mapping[str, Any]) -> list[str]:
    """The files that a line of the record speaks of, relative to the set."""
    steps = range(1, np.count_nonzero(row["label"]) + 1)
    made = [f"{row['steps']}/{step}{end}.png" for step in steps for end in ("", "-mask")]
    return [f"{row['track']}/{name}" for name in (row["file"], row["original"], row["mask"], *made) if name]


def write_annotations(out: Path, track: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the annotation files of a set from the lines of its record."""
    by_split: dict[str, list[dict[str, str]]] = {}
    for row in sorted(rows, key=lambda row: int(row["number"])):
        paths = {name: f"{track}/{row[name]}" if row[name] else "" for name in ("original", "mask", "steps")}
        line = {"file_path": f"{track}/{row['file']}", "label": str(list(row["label"])), **paths}
        by_split.setdefault(row["split"], []).append(line)
    for split, lines in by_split.items():
        write_seq_deepfake(lines, out / track / "annotations" / f"{split}.csv")


@dataclass(frozen=True)
class _Plan:
    """What every worker knows."""

    faces: tuple[SourceFace, ...]
    order: _Order
    maps: Path | None
    taef2: Path | None

    def split(self, face: SourceFace) -> str:
        return LAYOUT_SPLITS[split_of(f"{self.order.source}/{face.person}", SHARES)]

    def check(self) -> None:
        """Raise DataError if some face has nobody to take features from."""
        people: dict[str, set[str]] = {}
        for face in self.faces:
            people.setdefault(self.split(face), set()).add(face.person)
        lonely = [split for split, names in people.items() if len(names) < 2]
        if lonely:
            raise DataError(f"only one person fell into the split {lonely[0]}, with nobody to give; add faces")


def _made(plan: _Plan, numbers: Sequence[int], workers: int) -> Iterator[tuple[dict[str, bytes], dict[str, Any]]]:
    if workers == 1 or len(numbers) < 2:
        maker = _Maker(plan)
        yield from map(maker.make, numbers)
        return
    yield from spread(_make, numbers, workers, _start, (plan,), chunk=4)


_MAKER: "_Maker | None" = None  # one a worker


def _start(plan: _Plan) -> None:
    global _MAKER
    _MAKER = _Maker(plan)


def _make(number: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    assert _MAKER is not None
    return _MAKER.make(number)


def draw_tool(rng: np.random.Generator, tools: Tools, network: Network | None) -> Resynthesis:
    """What draws one picture's face anew after every step."""
    kinds: tuple[Kind, ...] = ("autoencoder", "classical") if tools == "both" else (tools,)
    return Resynthesis.draw(rng, kinds[int(rng.integers(len(kinds)))], network)


def draw_numbers(rng: np.random.Generator, numbers: Iterable[int], held: frozenset[tuple[int, ...]]) -> tuple[int, ...]:
    """A sequence of some edits: every length is as likely as any other, then every order but those held out.

    Where all orders of a length are held out, as can happen to a face without hair, it gets a shorter one.
    """
    own = {0, *numbers}
    possible = [row for row in map(tuple, all_sequences().tolist()) if own >= set(row) and row not in held]
    length = int(rng.integers(0, len(own)))
    while True:
        some = [row for row in possible if sum(map(bool, row)) == length]
        if some:
            return some[int(rng.integers(len(some)))]
        length -= 1


def mask_png(mask: np.ndarray) -> bytes:
    """A mask (S, S) in [0, 1] as a file, nothing in the band."""
    grey = np.round(np.clip(mask, 0, 1) * 255).astype(np.uint8)
    return png(np.pad(grey, ((band_height(len(mask)), 0), (0, 0))))


class _Maker:
    """Makes the pictures of a set, each from its own seed."""

    def __init__(self, plan: _Plan) -> None:
        self._plan, self._order = plan, plan.order
        self._held = held_out_orders(plan.order.held_out, plan.order.seed)
        self._turn = np.random.default_rng(plan.order.seed).permutation(len(plan.faces))
        self._peers: dict[str, list[SourceFace]] = {}
        for face in plan.faces:
            self._peers.setdefault(plan.split(face), []).append(face)
        self._network = None if plan.taef2 is None else taef2_network(plan.taef2)
        self._parted = lru_cache(256)(self._read)
        self._alike = lru_cache(None)(self._posed_alike)

    def make(self, number: int) -> tuple[dict[str, bytes], dict[str, Any]]:
        """A picture: its files by name, and its line of the record."""
        order, face = self._order, self._plan.faces[self._turn[number % len(self._plan.faces)]]
        rng = np.random.default_rng([order.seed, crc32(f"sequence {number}".encode())])
        split, parted = self._plan.split(face), self._parted(face)
        held = frozenset[tuple[int, ...]]() if split == "test" else self._held
        label = draw_numbers(rng, [PARTS.index(part) + 1 for part in parted.parts()], held)
        edits = tuple(PARTS[number - 1] for number in label if number)
        # As a rule one tool a picture: whoever edits step by step stays with one program.
        tool = draw_tool(rng, order.tools, self._network)
        donors = self._alike(face) if edits else []
        pixels, union = parted.pixels, np.zeros(parted.pixels.shape[:2], np.float32)
        name = f"{number:06d}"
        steps: list[dict[str, Any]] = []
        files: dict[str, bytes] = {}
        used = [face]
        for step, part in enumerate(edits, start=1):
            donor = donors[int(rng.integers(len(donors)))]
            edited = edit_part(rng, pixels, parted, self._parted(donor), part)
            pixels, union = tool(rng, edited.pixels), np.maximum(union, edited.mask)
            used += [donor] if edited.editor == "transplant" else []
            steps.append({"part": part, "editor": edited.editor})
            files[f"steps/{split}/{name}/{step}.png"] = mark(_banded(pixels, FORGED), "compositeSynthetic")
            files[f"steps/{split}/{name}/{step}-mask.png"] = mask_png(edited.mask)
        passes = len(edits)
        if not edits and order.tools != "none" and rng.random() < 0.5:
            passes = int(rng.integers(1, LONGEST + 1))
            for _ in range(passes):
                pixels = tool(rng, pixels)
        sequence = "-".join(edits) or "original"
        files["file"] = _banded(pixels, FORGED if passes else REAL)
        if passes:
            kind: SourceType = "compositeSynthetic" if edits else "algorithmicallyEnhanced"
            files["file"] = mark(files["file"], kind)
        row: dict[str, Any] = {
            "path": f"{TRACK}/images/{split}/{sequence}/{name}.png",
            "number": number,
            "track": TRACK,
            "file": f"images/{split}/{sequence}/{name}.png",
            "label": list(label),
            "split": split,
            "person": face.person,
            "original": f"originals/{split}/{self._plan.faces.index(face):05d}.png",
            "mask": f"masks/{split}/{name}.png" if edits else "",
            "steps": f"steps/{split}/{name}" if edits else "",
            "edits": steps,
            "held_out": label in self._held,
            "resynthesis": {**tool.parameters(), "passes": passes if order.tools != "none" else 0},
            "files": [{"path": one.name, "sha256": one.sha256, "window": one.window} for one in used],
            "tool": f"unmask {__version__}",
        }
        files[row["file"]] = files.pop("file")
        files[row["original"]] = _banded(parted.pixels, REAL)
        if edits:
            files[row["mask"]] = mask_png(union)
        return {f"{TRACK}/{path}": data for path, data in files.items()}, row

    def _read(self, face: SourceFace) -> PartedFace:
        size, hair = self._order.size, None
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


def _banded(pixels: np.ndarray, text: str) -> bytes:
    return png(with_band(pixels, text))


def taef2_network(folder: Path) -> Network:
    """TAEF2 as `Resynthesis` calls it; one thread, for there is one worker a core."""
    import torch

    from unmask.data.resynthesis import Taef2

    torch.set_num_threads(1)
    net = Taef2(folder).eval().to(memory_format=torch.channels_last)

    @torch.no_grad()
    def redraw(pixels: np.ndarray, jitter: float, seed: int) -> np.ndarray:
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
        drawn = net(batch.contiguous(memory_format=torch.channels_last), jitter, torch.Generator().manual_seed(seed))[0]
        return (drawn.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).numpy()

    return redraw
