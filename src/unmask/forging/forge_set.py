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
OUT/set.json          what the set was asked to be: another set into the same folder is refused

Picture N of a family follows from the specification and N alone, whatever else is asked for and however often the work
is cut short. People whose faces may meet in one picture form a small group, drawn up before: were donors drawn from
everyone, a chain of swaps would soon join all people into one. The split follows from the group's name, so that the
sets made from one folder (say, with and without perturbation) put a person on the same side.

Lab only: needs the "lab" extra.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np

from unmask import __version__
from unmask.datasets.manifest import SHARES, SPLITS, Sample, split_of, write_manifest
from unmask.errors import DataError
from unmask.faces.mesh import FACE_OVAL, NOSE
from unmask.forging.blending import pose_distance
from unmask.forging.looks import CODECS, LOOKS, check_encoders, draw_look
from unmask.forging.makers import FacePicture, Forgery, Maker, Setup, load_makers
from unmask.forging.near_infrared import simulate_nir, single_band
from unmask.forging.perturbation import RULES, Rule, subset_of
from unmask.forging.set_record import open_record, png, refuse_another, write_specification, write_whole
from unmask.forging.source_faces import Finder, SourceFace, face_finder, find_faces, framed
from unmask.forging.taef2_weights import taef2_sha256
from unmask.interruption import Interruption
from unmask.media.synthetic_mark import FORGED, REAL, band_height, mark, with_band
from unmask.progress import SILENT, Progress

People = Literal["file", "folder"]

_PIPELINE_VERSION = 1  # raised whenever the code makes other pictures from the same specification
_GROUP = 4  # people who may meet in one picture
_CANDIDATES = 10  # donors of which the one posed most alike is taken


@dataclass(frozen=True)
class ForgedSet:
    """A set that was made: the manifest, pictures by family ("real" among them), and sources passed over."""

    manifest: Path
    families: dict[str, int]
    skipped: tuple[tuple[str, str], ...]
    """Display path and reason, one plain sentence."""
    empty_splits: tuple[str, ...] = ()
    """Splits that nobody fell into, as happens with few faces."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Families that could not be made, and why."""


@dataclass(frozen=True)
class _Specification:
    """All that a set depends on. `taef2` and `pictures` are SHA-256, of the weights and of the faces' files."""

    kinds: tuple[str, ...]
    families: tuple[str, ...]
    count: int | None
    seed: int
    size: int
    perturbation: Rule
    nir: bool
    looks: tuple[str, ...]
    people: People
    source: str
    taef2: str | None
    pictures: str | None = None
    making: int = _PIPELINE_VERSION


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
    looks: Sequence[str] = (),
    people: People = "file",
    taef2: Path | None = None,
    weights: Path | None = None,
    finder: Finder | None = None,
    progress: Progress = SILENT,
) -> ForgedSet:
    """Make a set, or finish one that was begun with the same specification. Pictures that are there are kept.

    Ctrl-C and SIGTERM leave no half-written file; the manifest then lists what is finished.

    Args:
        source: folder of face pictures, with its subfolders. Of several faces in a picture, the largest counts.
        out: folder of the set; made if absent, not inside `source`.
        kinds: names of `unmask.forging.makers.MAKERS`, or makers in full, as "module:Class".
        count: forged pictures a family; None for as many as there are faces. Every face is one real picture besides.
        seed: of everything random, 0 or more.
        size: side of the pictures without their band, in pixels: 64 to 1024, a multiple of 16.
        perturbation: what both classes go through at the end: "std" (nothing), "rand" or "mix".
        nir: whether both classes get a near-infrared look; forgeries are made from real pictures that have it.
        looks: of `unmask.forging.looks.LOOKS`; one of them is drawn for every face, and both classes are published so.
        people: whether a person is one file, or all files of a folder right under `source`.
        taef2: folder with the TAEF2 autoencoder's weights, for kinds that need it ("resynthesis").
        weights: folder with other published weights. Families whose weights it lacks are left out.
        finder: finds faces; None for `face_finder()`.
        progress: updated in the stages "finding faces" and "forging".

    Raises:
        DataError: an unknown kind or look, or a parameter out of range; no face, or too few people for swaps or
            composites; weights altered, or missing for all families of a kind; no encoder for a look; `out` holds
            something else or another set; a source picture changed meanwhile.
        MissingExtraError: a library of the "lab" extra is not installed.
        KeyboardInterrupt: interrupted, with the manifest written.
    """
    makers = load_makers(kinds)
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
    _check_looks(looks)
    lacking = _lacking(makers, weights)
    with_taef2 = [kind for kind, maker in makers.items() if maker.needs_taef2]
    spec = _Specification(
        kinds=tuple(makers),
        families=tuple(family for maker in makers.values() for family in maker.families if family not in lacking),
        count=count,
        seed=seed,
        size=size,
        perturbation=perturbation,
        nir=nir,
        looks=tuple(looks),
        people=people,
        source=source.resolve().name or "pictures",
        taef2=taef2_sha256(taef2, " and ".join(with_taef2), "leave it out") if with_taef2 else None,
    )
    refuse_another(out, spec)
    with Interruption() as interruption:
        finder = finder or face_finder()
        faces, skipped = find_faces(source, size, people, finder, progress)
        _check_faces(source, faces, skipped, makers)
        digest = hashlib.sha256("".join(f"{face.name}{face.sha256}" for face in faces).encode())
        spec = replace(spec, pictures=digest.hexdigest())
        refuse_another(out, spec)
        write_specification(out, spec)
        with open_record(out, _files) as record:
            pictures = _Pictures(faces, spec, makers, Setup(size, seed, finder, taef2, weights))
            jobs = list(_jobs(len(faces), spec))
            left = [job for job in jobs if _path(*job) not in record.rows]
            finished = len(jobs) - len(left)
            progress.update("forging", finished, len(jobs))
            try:
                for done, job in enumerate(left, start=finished + 1):
                    files, row = pictures.make(*job)
                    with interruption.held_back():
                        for name, data in files.items():
                            write_whole(out / name, data)
                        record.add(row)
                    progress.update("forging", done, len(jobs))
            finally:
                with interruption.held_back():
                    rows = _write_manifest(
                        out, [record.rows[path] for job in jobs if (path := _path(*job)) in record.rows]
                    )
    empty = tuple(split for split in SPLITS if all(row.split != split for row in rows))
    numbers = dict(Counter(row.family for row in rows))
    return ForgedSet(out / "manifest.csv", numbers, tuple(skipped), empty, tuple(lacking.items()))


def _check_looks(looks: Sequence[str]) -> None:
    for look in looks:
        if look not in LOOKS:
            raise DataError(f"no look {look}; name some of {', '.join(LOOKS)}")
    if not CODECS.keys().isdisjoint(looks):
        check_encoders()


def _lacking(makers: Mapping[str, type[Maker]], weights: Path | None) -> dict[str, str]:
    """Families that cannot be made, and why. A kind of which none can be made is refused."""
    if weights is not None and not weights.is_dir():
        raise DataError(f"{weights}: no such folder; give one with published weights, or none")
    lacking: dict[str, str] = {}
    for kind, maker in makers.items():
        # A maker of another package that derives from nothing of ours need not know of it.
        reasons = maker.lacking(weights) if hasattr(maker, "lacking") else {}
        if reasons.keys() >= set(maker.families):
            raise DataError(f"{kind} cannot be made: {reasons[maker.families[0]]}; leave it out otherwise")
        lacking |= reasons
    return lacking


def _check_faces(
    source: Path, faces: list[SourceFace], skipped: list[tuple[str, str]], makers: Mapping[str, type[Maker]]
) -> None:
    if not faces:
        why = f" ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
        raise DataError(f"{source}: no face in any of {len(skipped)} files{why}; give a folder of face pictures")
    two = [kind for kind, maker in makers.items() if maker.needs_donor]
    if two and len({face.person for face in faces}) < 2:
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


def _jobs(faces: int, spec: _Specification) -> Iterator[tuple[str, int]]:
    """Every picture as (family, number), the families by turns: cut short, the set is still balanced."""
    count = spec.count or faces
    for number in range(max(count, faces)):
        if number < faces:
            yield "real", number
        if number < count:
            yield from ((family, number) for family in spec.families)


def _path(family: str, number: int) -> str:
    return f"real/{number:05d}.png" if family == "real" else f"fake/{family}/{number:05d}.png"


class _Pictures:
    """The pictures of a set, each from its own seed."""

    def __init__(
        self, faces: Sequence[SourceFace], spec: _Specification, makers: Mapping[str, type[Maker]], setup: Setup
    ) -> None:
        self._faces, self._spec, self.size = faces, spec, spec.size
        self._turn = np.random.default_rng(spec.seed).permutation(len(faces))  # which face comes when
        self._group = _groups(faces)
        self._mates: dict[str, list[SourceFace]] = {}
        for face in faces:
            self._mates.setdefault(self._group[face.person], []).append(face)
        self._joined = any(maker.needs_donor for maker in makers.values())
        self._kind = {family: kind for kind, maker in makers.items() for family in maker.families}
        self._makers = {kind: maker(setup) for kind, maker in makers.items()}
        self._last: tuple[SourceFace, FacePicture] | None = None

    def make(self, family: str, number: int) -> tuple[dict[str, bytes], dict[str, Any]]:
        """A picture: its files by name, and its line of the record."""
        path = _path(family, number)
        # The names of the streams decide what a set looks like: they stay.
        rng, degradation = (
            np.random.default_rng([self._spec.seed, crc32(f"{stream} {path}".encode())]) for stream in ("forge", "fate")
        )
        target = self._faces[self._turn[number % len(self._faces)]]
        forgery: Forgery | None = None
        faces: tuple[SourceFace, ...] = (target,)
        if family == "real":
            pixels = self.target(target).pixels
        else:
            request = _Request(self, family, number, target)
            forgery = self._makers[self._kind[family]].forge(rng, request)
            pixels, faces = forgery.pixels, request.faces
        pixels, look = self._published(pixels, target)
        if self._spec.nir:
            pixels = single_band(pixels)
        pixels, steps = subset_of(degradation, pixels, self._spec.perturbation)
        picture = png(with_band(pixels, FORGED if forgery else REAL))
        files, mask_path = {path: mark(picture, forgery.source_type) if forgery else picture}, ""
        if forgery:
            mask_path = f"masks/{family}/{number:05d}.png"
            grey = np.round(np.clip(forgery.mask, 0, 1) * 255).astype(np.uint8)
            files = {mask_path: png(np.pad(grey, ((band_height(self.size), 0), (0, 0)))), **files}
        nobody = f"{family}/{number:05d}"
        sample = Sample(
            path=path,
            label=int(forgery is not None),
            family=family,
            source=self._spec.source,
            subject=self._subject(faces[0]) if faces else nobody,
            split=split_of(self._group[faces[0].person] if faces else nobody, SHARES),
            mask=mask_path,
            spectrum="nir" if self._spec.nir else "visible",
            flags=forgery.flags if forgery else "",
        )
        row = {
            **asdict(sample),
            "kind": self._kind.get(family, "real"),
            "seed": self._spec.seed,
            "parameters": {**(forgery.parameters if forgery else {}), **look, "perturbation": steps},
            "files": [{"path": face.name, "sha256": face.sha256, "window": face.window} for face in faces],
            "digital_source_type": forgery.source_type if forgery else None,
            "sha256": hashlib.sha256(files[path]).hexdigest(),
            "tool": f"unmask {__version__}",
        }
        return files, row

    def _published(self, pixels: np.ndarray, target: SourceFace) -> tuple[np.ndarray, dict[str, str]]:
        """A picture with its look, and what the record says of it; the look is the same for all of one target."""
        if not self._spec.looks:
            return pixels, {}
        rng = np.random.default_rng([self._spec.seed, crc32(f"look {target.name}".encode())])
        name = self._spec.looks[rng.integers(len(self._spec.looks))]
        return draw_look(rng, name)(np.ascontiguousarray(pixels)), {"look": name}

    def picture(self, face: SourceFace) -> FacePicture:
        """The square about a face as the set shows it."""
        return FacePicture(self.photographed(framed(face, self.size), face.mesh, face.name), face.mesh)

    def target(self, face: SourceFace) -> FacePicture:
        """`picture`, remembered: all families of a number share their target."""
        if self._last is None or self._last[0] is not face:
            self._last = face, self.picture(face)
        return self._last[1]

    def photographed(self, pixels: np.ndarray, mesh: np.ndarray | None, name: str) -> np.ndarray:
        """With a near-infrared look, if that is asked for: the same for one face wherever it appears."""
        if not self._spec.nir:
            return np.ascontiguousarray(pixels)
        rng = np.random.default_rng([self._spec.seed, crc32(f"camera {name}".encode())])
        return simulate_nir(rng, np.ascontiguousarray(pixels), mesh)

    def donor(self, rng: np.random.Generator, target: SourceFace) -> SourceFace:
        """Of some faces of other people of the group, the one posed most like the target."""
        others = [face for face in self._mates[self._group[target.person]] if face.person != target.person]
        some = [others[row] for row in rng.permutation(len(others))[:_CANDIDATES]]
        return min(some, key=lambda face: pose_distance(face.mesh, target.mesh))

    def _subject(self, face: SourceFace) -> str:
        """What must stay on one side of a split: the person, or all who may have met."""
        return f"{self._spec.source}/{self._group[face.person] if self._joined else face.person}"


class _Request:
    """What one forgery may be made from; notes the faces that were looked at (`unmask.forging.makers.Request`)."""

    def __init__(self, pictures: _Pictures, family: str, number: int, target: SourceFace) -> None:
        self.family, self.number, self.size = family, number, pictures.size
        self.photographed = pictures.photographed
        self._pictures, self._target = pictures, target
        self._face: FacePicture | None = None
        self._donors: list[SourceFace] = []

    @property
    def face(self) -> FacePicture:
        if self._face is None:
            self._face = self._pictures.target(self._target)
        return self._face

    def donor(self, rng: np.random.Generator) -> FacePicture:
        self._donors.append(self._pictures.donor(rng, self._target))
        return self._pictures.picture(self._donors[-1])

    @property
    def faces(self) -> tuple[SourceFace, ...]:
        """Those that were looked at, the target first."""
        return (*((self._target,) if self._face else ()), *self._donors)


def _files(row: Mapping[str, Any]) -> list[str]:
    return [name for name in (row["path"], row["mask"]) if name]


def _write_manifest(out: Path, rows: Iterable[Mapping[str, Any]]) -> list[Sample]:
    """Write the manifest of finished pictures, and return its rows."""
    names = [each.name for each in fields(Sample)]
    samples = [Sample(**{name: row[name] for name in names if name in row}) for row in rows]
    samples.sort(key=lambda sample: (sample.label, sample.path))
    if samples:
        write_manifest(samples, out / "manifest.csv")
    return samples
