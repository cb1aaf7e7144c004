"""Make a labelled set of forged and real faces from a folder of face pictures: the library behind `unmask forge`.

Every picture of the set, forged or real, is the square about the largest face of a source picture, brought to one
size, with a band of text above it (`media.synthetic_mark`), as a PNG file of one encoder setting; only the forging
differs. The square is placed so that the face's centre lies below its middle. A crop about the face
(`unmask.faces.alignment`), whatever its margin, then begins below the band: a detector trained on such crops never sees
it. (Where a face overfills the source picture, a crop may show some of the band's lower two thirds, plain black
in both classes.) The source type in the metadata tells the classes apart, as it must; read pixels only.

OUT/manifest.csv      one row a picture (`unmask.datasets.manifest`); paths are relative to OUT
OUT/real/N.png        one for each face
OUT/fake/FAMILY/N.png
OUT/masks/FAMILY/N.png  grey, of the forged picture's size: 255 where its pixels are forged, 0 in the band
OUT/record.jsonl      one line a picture: how it was made, from which files; written when the picture is in place
OUT/set.json          what the set was asked to be: another order into the same folder is refused

Picture N of a family follows from the order and N alone, whatever else is asked for and however often the work is cut
short. People whose faces may meet in one picture form a small group, drawn up before: were donors drawn from everyone,
a chain of swaps would soon join all people into one. The split follows from the group's name, so that the sets made
from one folder (say, with and without perturbation) put a person on the same side.

Lab only: needs the "lab" extra.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

import cv2
import numpy as np

from unmask import __version__
from unmask.datasets.manifest import SHARES, SPLITS, Sample, split_of, write_manifest
from unmask.errors import DataError
from unmask.faces.alignment import resize
from unmask.faces.mesh import FACE_OVAL, NOSE
from unmask.forging.blending import blend, blending_mask, pose_distance, self_blend, swap_face
from unmask.forging.composites import composite_region, draw_regions
from unmask.forging.near_infrared import simulate_nir, single_band
from unmask.forging.perturbation import RULES, Rule, subset_of
from unmask.forging.set_record import Record, png, refuse_another, write_whole
from unmask.forging.source_faces import FFHQ_BOX, Finder, Progress, SourceFace, face_finder, find_faces, frame, framed
from unmask.forging.upsampling import FINGERPRINTS, fingerprint
from unmask.interruption import Interruption
from unmask.media.synthetic_mark import FORGED, REAL, SourceType, band_height, mark, with_band

if TYPE_CHECKING:
    from unmask.forging.autoencoders import Taef2

KINDS = {
    "selfblend": ("selfblend",),
    "swap": ("swap",),
    "composite": ("composite",),
    "fingerprint": tuple(f"fingerprint-{kind}" for kind in FINGERPRINTS),
    "resynthesis": ("resynthesis",),
    "mobilestylegan": ("mobilestylegan",),
}
"""Kind of forgery -> families in the set."""

People = Literal["file", "folder"]

_MAKING = 1  # raised whenever the code makes other pictures from the same order
_TWO_PEOPLE = ("swap", "composite")
_GROUP = 4  # people who may meet in one picture
_CANDIDATES = 10  # donors of which the one posed most alike is taken
_WEIGHTS = ("taef2_encoder.pth", "taef2_decoder.pth")


@dataclass(frozen=True)
class ForgedSet:
    """What came of an order: the manifest, pictures by family ("real" among them), and sources passed over."""

    manifest: Path
    families: dict[str, int]
    skipped: tuple[tuple[str, str], ...]
    """Display path and reason, one plain sentence."""
    empty_splits: tuple[str, ...] = ()
    """Splits that nobody fell into, as happens with few faces."""


@dataclass(frozen=True)
class _Order:
    """All that a set depends on. `taef2` and `pictures` are SHA-256, of the weights and of the faces' files."""

    kinds: tuple[str, ...]
    count: int | None
    seed: int
    size: int
    perturbation: Rule
    nir: bool
    people: People
    source: str
    taef2: str | None
    pictures: str | None = None
    making: int = _MAKING


@dataclass(frozen=True)
class _Made:
    """A forgery before it is perturbed, encoded and marked."""

    pixels: np.ndarray
    mask: np.ndarray
    source_type: SourceType
    faces: tuple[SourceFace, ...] = ()
    flags: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


def forge_folder(
    source: Path,
    out: Path,
    kinds: Sequence[str],
    count: int | None = None,
    seed: int = 0,
    *,
    size: int = 256,
    perturbation: Rule = "std",
    nir: bool = False,
    people: People = "file",
    taef2: Path | None = None,
    finder: Finder | None = None,
    progress: Progress | None = None,
) -> ForgedSet:
    """Make a set, or finish one that was begun with the same order. Pictures that are there are kept.

    Ctrl-C and SIGTERM leave no half-written file; the manifest then lists what is finished.

    Args:
        source: folder of face pictures, with its subfolders. Of several faces in a picture, the largest counts.
        out: folder of the set; made if absent, not inside `source`.
        kinds: some of KINDS.
        count: forged pictures a family; None for as many as there are faces. Every face is one real picture besides.
        seed: of everything random, 0 or more.
        size: side of the pictures without their band, in pixels: 64 to 1024, a multiple of 16.
        perturbation: what both classes go through at the end: "std" (nothing), "rand" or "mix".
        nir: whether both classes get a near-infrared look; forgeries are made from real pictures that have it.
        people: whether a person is one file, or all files of a folder right under `source`.
        taef2: folder with the TAEF2 autoencoder's weights, for "resynthesis".
        finder: finds faces; None for `face_finder()`.
        progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        DataError: an unknown kind or a parameter out of range; no face, or too few people for swaps or composites;
            weights missing; `out` holds something else or a set of another order; a source picture changed meanwhile.
        MissingExtraError: a library of the "lab" extra is not installed.
        KeyboardInterrupt: interrupted, with the manifest written.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise DataError(f"no kind of forgery {', '.join(unknown) or 'is named'}; name some of {', '.join(KINDS)}")
    if (count is not None and count < 1) or seed < 0:
        raise DataError(f"count {count}, seed {seed}: give a count of 1 or more and a seed of 0 or more")
    if not 64 <= size <= 1024 or size % 16:
        raise DataError(f"size {size}: give a multiple of 16 from 64 to 1024")
    if perturbation not in RULES or people not in ("file", "folder"):
        raise DataError(
            f"perturbation {perturbation!r} is to be one of {', '.join(RULES)}, people {people!r} file or folder"
        )
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; give one with face pictures")
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out} lies in {source}, whose pictures would then be forged again; name a folder outside")
    order = _Order(
        kinds=tuple(kind for kind in KINDS if kind in kinds),
        count=count,
        seed=seed,
        size=size,
        perturbation=perturbation,
        nir=nir,
        people=people,
        source=source.resolve().name or "pictures",
        taef2=taef2_sha256(taef2) if "resynthesis" in kinds else None,
    )
    told = progress or (lambda _what, _done, _all: None)
    refuse_another(out, order)
    with Interruption() as interruption:
        finder = finder or face_finder()
        faces, skipped = find_faces(source, size, people, finder, told)
        _check_faces(source, faces, skipped, order.kinds)
        digest = hashlib.sha256("".join(f"{face.name}{face.sha256}" for face in faces).encode())
        order = replace(order, pictures=digest.hexdigest())
        refuse_another(out, order)
        write_whole(out / "set.json", json.dumps(asdict(order), indent=1).encode())
        with Record(out, _files) as record:
            maker = _Maker(faces, order, out, finder, taef2, told)
            jobs = list(_jobs(len(faces), order))
            left = [job for job in jobs if _path(*job) not in record.rows]
            finished = len(jobs) - len(left)
            told("forging", finished, len(jobs))
            try:
                maker.draw_synthetic(left)
                for done, job in enumerate(left, start=finished + 1):
                    files, row = maker.make(*job)
                    with interruption.held_back():
                        for name, data in files.items():
                            write_whole(out / name, data)
                        record.add(row)
                    told("forging", done, len(jobs))
            finally:
                with interruption.held_back():
                    rows = _write_manifest(
                        out, [record.rows[path] for job in jobs if (path := _path(*job)) in record.rows]
                    )
        shutil.rmtree(maker.drawn, ignore_errors=True)
    empty = tuple(split for split in SPLITS if all(row.split != split for row in rows))
    return ForgedSet(out / "manifest.csv", dict(Counter(row.family for row in rows)), tuple(skipped), empty)


def taef2_sha256(folder: Path | None) -> str:
    """SHA-256 of the TAEF2 weights."""
    if folder is None or not all((folder / name).is_file() for name in _WEIGHTS):
        raise DataError(
            f"resynthesis needs the TAEF2 weights {' and '.join(_WEIGHTS)} (madebyollin/taesd, MIT), which are not in "
            f"{folder or 'any folder named'}; name the folder that has them, or leave resynthesis out"
        )
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in _WEIGHTS)).hexdigest()


def _check_faces(source: Path, faces: list[SourceFace], skipped: list[tuple[str, str]], kinds: Iterable[str]) -> None:
    if not faces:
        why = f" ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
        raise DataError(f"{source}: no face in any of {len(skipped)} files{why}; give a folder of face pictures")
    if len({face.person for face in faces}) < 2 and (two := [kind for kind in kinds if kind in _TWO_PEOPLE]):
        raise DataError(f"{source}: {' and '.join(two)} needs the faces of two people; add some, or leave it out")


def _groups(faces: Sequence[SourceFace]) -> dict[str, str]:
    """Person -> name of the group of people who may meet in one picture: those of a like pose, four or five.

    A lone person is a group.
    """
    turns: dict[str, list[float]] = {}
    for face in faces:
        oval = face.mesh[list(FACE_OVAL), 0]
        turn = (face.mesh[list(NOSE), 0].mean() - oval.mean()) / (np.ptp(oval) + 1e-6)
        turns.setdefault(face.person, []).append(float(turn))
    people = sorted(turns, key=lambda person: (np.mean(turns[person]), person))
    starts = list(range(0, len(people), _GROUP))
    if len(starts) > 1 and len(people) - starts[-1] < 2:
        starts.pop()
    groups = [people[start:end] for start, end in zip(starts, [*starts[1:], len(people)], strict=True)]
    return {person: "+".join(sorted(group)) for group in groups for person in group}


def _jobs(faces: int, order: _Order) -> Iterator[tuple[str, int]]:
    """Every picture as (family, number), the families by turns: cut short, the set is still balanced."""
    families = [family for kind in order.kinds for family in KINDS[kind]]
    count = order.count or faces
    for number in range(max(count, faces)):
        if number < faces:
            yield "real", number
        if number < count:
            yield from ((family, number) for family in families)


def _path(family: str, number: int) -> str:
    return f"real/{number:05d}.png" if family == "real" else f"fake/{family}/{number:05d}.png"


class _Maker:
    """Makes the pictures of a set, each from its own seed."""

    def __init__(
        self,
        faces: Sequence[SourceFace],
        order: _Order,
        out: Path,
        finder: Finder,
        taef2: Path | None,
        progress: Progress,
    ) -> None:
        self._faces, self._order, self._finder, self._told = faces, order, finder, progress
        self._size, self._seed = order.size, order.seed
        self._turn = np.random.default_rng(self._seed).permutation(len(faces))  # which face comes when
        self._group = _groups(faces)
        self._mates: dict[str, list[SourceFace]] = {}
        for face in faces:
            self._mates.setdefault(self._group[face.person], []).append(face)
        self._joined = any(kind in _TWO_PEOPLE for kind in order.kinds)
        self._taef2 = taef2
        self._shown: tuple[SourceFace, np.ndarray] | None = None  # the target of the number at work
        self.drawn = out / ".drawn"

    def make(self, family: str, number: int) -> tuple[dict[str, bytes], dict[str, Any]]:
        """A picture: its files by name, and its line of the record."""
        path = _path(family, number)
        rng, fate = (np.random.default_rng([self._seed, crc32(f"{use} {path}".encode())]) for use in ("forge", "fate"))
        target = self._faces[self._turn[number % len(self._faces)]]
        made = None if family == "real" else self._forge(rng, family, number, target)
        faces = (target,) if made is None else made.faces
        pixels = self._target(target) if made is None else made.pixels
        if self._order.nir:
            pixels = single_band(pixels)
        pixels, steps = subset_of(fate, pixels, self._order.perturbation)
        picture = png(with_band(pixels, REAL if made is None else FORGED))
        files, masked = {path: picture if made is None else mark(picture, made.source_type)}, ""
        if made is not None:
            masked = f"masks/{family}/{number:05d}.png"
            grey = np.round(np.clip(made.mask, 0, 1) * 255).astype(np.uint8)
            files = {masked: png(np.pad(grey, ((band_height(self._size), 0), (0, 0)))), **files}
        drawn = f"{family}/{number:05d}"
        sample = Sample(
            path=path,
            label=int(made is not None),
            family=family,
            source=self._order.source,
            subject=self._subject(faces[0]) if faces else drawn,
            split=split_of(self._group[faces[0].person] if faces else drawn, SHARES),
            mask=masked,
            spectrum="nir" if self._order.nir else "visible",
            flags=made.flags if made else "",
        )
        row = {
            **asdict(sample),
            "kind": next((kind for kind, families in KINDS.items() if family in families), "real"),
            "seed": self._seed,
            "parameters": {**(made.parameters if made else {}), "perturbation": steps},
            "files": [{"path": face.name, "sha256": face.sha256, "window": face.window} for face in faces],
            "digital_source_type": made.source_type if made else None,
            "sha256": hashlib.sha256(files[path]).hexdigest(),
            "tool": f"unmask {__version__}",
        }
        return files, row

    def draw_synthetic(self, jobs: Iterable[tuple[str, int]]) -> None:
        """Let the generator draw what the jobs need of it; kept until the set is finished."""
        wanted = [number for family, number in jobs if family == "mobilestylegan"]
        if wanted:
            from unmask.forging.mobilestylegan import synthesise

            done, most = 0, max(wanted) + 1

            def advance(faces: int) -> None:
                nonlocal done
                done += faces
                self._told("drawing faces", done, most)

            # Twice the size: what is left of the file format there is gone when the picture is brought down.
            synthesise(self.drawn, most, self._seed, min(1024, 2 * self._size), advance)

    def _subject(self, face: SourceFace) -> str:
        """What must stay on one side of a split: the person, or all who may have met."""
        return f"{self._order.source}/{self._group[face.person] if self._joined else face.person}"

    def _forge(self, rng: np.random.Generator, family: str, number: int, target: SourceFace) -> _Made:
        if family == "mobilestylegan":
            return self._draw(number)
        real = self._target(target)
        if family == "selfblend":
            return _Made(*self_blend(rng, real, target.mesh), "algorithmicallyEnhanced", (target,))
        if family in _TWO_PEOPLE:
            donor = self._donor(rng, target)
            given = (real, target.mesh, self._content(donor), donor.mesh)
            if family == "swap":
                return _Made(*swap_face(rng, *given), "compositeSynthetic", (target, donor))
            pixels, mask, flags = composite_region(rng, *given, draw_regions(rng))
            return _Made(pixels, mask, "compositeSynthetic", (target, donor), flags)
        whole = bool(rng.random() < 0.6)
        mask = np.ones(real.shape[:2], np.float32) if whole else blending_mask(rng, real.shape, target.mesh)
        parameters: dict[str, Any] = {"whole": whole}
        if family == "resynthesis":
            pixels = blend(real, self._resynthesise(rng, real), mask)
            source_type: SourceType = "trainedAlgorithmicMedia" if whole else "compositeWithTrainedAlgorithmicMedia"
            return _Made(pixels, mask, source_type, (target,), parameters=parameters)
        kind = next(kind for kind in FINGERPRINTS if family == f"fingerprint-{kind}")
        parameters["strength"] = float(rng.uniform(0.7, 1.0))
        pixels = fingerprint(rng, real, kind, parameters["strength"], mask)
        return _Made(pixels, mask, "algorithmicallyEnhanced", (target,), parameters=parameters)

    def _content(self, face: SourceFace) -> np.ndarray:
        """The square about a face as the set shows it, uint8 (size, size, 3)."""
        return self._seen_by_camera(framed(face, self._size), face.name, face.mesh)

    def _target(self, face: SourceFace) -> np.ndarray:
        """`_content`, remembered: all families of a number share their target."""
        if self._shown is None or self._shown[0] is not face:
            self._shown = (face, self._content(face))
        return self._shown[1]

    def _seen_by_camera(self, pixels: np.ndarray, name: str, mesh: np.ndarray | None) -> np.ndarray:
        """With a near-infrared look, if that is ordered: the same for one face wherever it appears."""
        if not self._order.nir:
            return np.ascontiguousarray(pixels)
        rng = np.random.default_rng([self._seed, crc32(f"camera {name}".encode())])
        return simulate_nir(rng, np.ascontiguousarray(pixels), mesh)

    def _donor(self, rng: np.random.Generator, target: SourceFace) -> SourceFace:
        """Of some faces of other people of the group, the one posed most like the target."""
        others = [face for face in self._mates[self._group[target.person]] if face.person != target.person]
        some = [others[row] for row in rng.permutation(len(others))[:_CANDIDATES]]
        return min(some, key=lambda face: pose_distance(face.mesh, target.mesh))

    def _resynthesise(self, rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
        import torch

        from unmask.forging.autoencoders import resynthesise

        batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        twin = resynthesise(self._autoencoder, batch, torch.Generator().manual_seed(int(rng.integers(2**31))))[0]
        return (twin * 255 + 0.5).clamp(0, 255).byte().permute(1, 2, 0).numpy()

    @cached_property
    def _autoencoder(self) -> "Taef2":
        from unmask.forging.autoencoders import Taef2

        assert self._taef2 is not None  # checked with the order
        return Taef2(self._taef2).eval()

    def _draw(self, number: int) -> _Made:
        """A drawn face in the frame of the others; no person, no source file."""
        bgr = cv2.imread(str(self.drawn / f"{number:05d}.jpg"), cv2.IMREAD_COLOR)
        assert bgr is not None  # `draw_synthetic` has written it
        pixels = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        seen = self._finder(pixels)
        x, y, w, h = (side * len(pixels) for side in FFHQ_BOX)
        window = frame(pixels.shape, seen.box) if seen else None
        left, top, side = window or frame(pixels.shape, (x, y, w, h)) or (0, 0, len(pixels))
        mesh = (seen.mesh - (left, top)) * (self._size / side) if seen else None
        content = resize(pixels[top : top + side, left : left + side], self._size)
        shown = self._seen_by_camera(content, f"drawn {number}", mesh)
        return _Made(shown, np.ones(shown.shape[:2], np.float32), "trainedAlgorithmicMedia")


def _files(row: Mapping[str, Any]) -> list[str]:
    return [name for name in (row["path"], row["mask"]) if name]


def _write_manifest(out: Path, rows: Iterable[Mapping[str, Any]]) -> list[Sample]:
    """Write the manifest of finished pictures, and return its rows."""
    names = [each.name for each in fields(Sample)]
    samples = [Sample(**{name: row[name] for name in names if name in row}) for row in rows]
    samples.sort(key=lambda sample: (sample.label, sample.path))
    if samples:
        part = out / "manifest.part"
        write_manifest(samples, part)
        part.replace(out / "manifest.csv")
    return samples
