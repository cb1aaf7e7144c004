"""The training pool: degraded pairs of a forgery and its real twin, made once by all cores and then read by every run.

A pair shares source, content (where the forgery has a twin), resolution, crop geometry and degradation; only the
forging differs and, but for blends, a history of each (sharpness, one encoding; half of the forgeries also get their
real's spectrum).
Families: "selfblend", "swap" and "resynthesis" are made here from reals (`MADE`), unless the training split holds
pictures of that name; these and all others are paired with a random real of the same source.

Files in the pool's folder: `pixels.npy` uint8 (P, 2, S, S, 3) with the real first, `masks.npy` uint8 (P, M, M) for the
forgery (0..254 = share of forged pixels, 255 = not known), `families.npy` and `sources.npy` uint8 indices into the
names of `plan.json`, `decoded.npy` uint8, 1 where a neural decoder drew some of the forgery. Chunks are made from their
own seed, so a pool is the same whoever makes it and a kill costs one chunk a worker.
"""

import json
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from unmask.datasets.face_store import StoredFace, read_store
from unmask.datasets.manifest import Sample
from unmask.errors import DataError
from unmask.faces.alignment import context_region, scale_box
from unmask.forgery.spectrum import match_spectrum
from unmask.forging.blending import blend, blending_mask, pose_distance, self_blend, swap_face
from unmask.forging.degradation import Degradation, downscale, independent_postprocessing, publishing_scale

MAKING = 4  # of pairs; raised whenever the code makes others from the same plan, so that no older pool is taken for new
MASK = 28
_ARRAYS = ("pixels", "masks", "families", "sources", "decoded")
CHUNK = 128
UNKNOWN = 255
SHARES = {
    "selfblend": 0.26,
    "swap": 0.20,
    "resynthesis": 0.22,
    "stylegan": 0.14,
    "ciplab": 0.10,
    "mobilestylegan": 0.08,  # the easiest
}
SOURCE_SHARES = {"ffhq": 0.30, "ciplab": 0.20, "celebamask": 0.22, "utkface": 0.28}
MADE = ("selfblend", "swap", "resynthesis")
_BLENDED = ("selfblend", "swap")
WHOLLY_SYNTHETIC = ("stylegan", "mobilestylegan", "pggan")
_OTHER_SHARE = 0.15  # of a family or a source that a user's manifest brings along


def family_shares(families: Iterable[str]) -> dict[str, float]:
    """How often each family is drawn, relative to the others, in the order of `SHARES`."""
    names = list(families)
    known = {name: share for name, share in SHARES.items() if name in names}
    return known | dict.fromkeys(sorted(set(names) - set(SHARES)), _OTHER_SHARE)


def source_shares(sources: Iterable[str]) -> dict[str, float]:
    """How often a forgery is made from a real of each source, relative to the others."""
    names = list(sources)
    known = {name: share for name, share in SOURCE_SHARES.items() if name in names}
    return known | dict.fromkeys(sorted(set(names) - set(SOURCE_SHARES)), _OTHER_SHARE)


@dataclass(frozen=True)
class PoolPlan:
    """Everything a pool depends on beside the store and the twins."""

    pairs: int
    seed: int
    size: int
    margin: float
    families: dict[str, float]
    sources: dict[str, float]
    making: int = MAKING

    @classmethod
    def read(cls, folder: Path) -> "PoolPlan":
        """The plan of a pool's folder; those written before `making` was counted are of the first."""
        return cls(**{"making": 1, **json.loads((folder / "plan.json").read_text(encoding="utf-8"))})


@dataclass(frozen=True)
class Twins:
    """Re-synthesised reals.

    `pixels[d]` uint8 (N, 256, 256, 3) holds draw d's twin of face n in the top-left square of side `sides[d, n]`.
    """

    pixels: list[np.ndarray]
    sides: np.ndarray
    rows: dict[str, int]

    @classmethod
    def open(cls, folder: Path) -> "Twins":
        """Open the twins of a folder, memory-mapped; an empty set if there are none."""
        if not (folder / "sides.npy").is_file():
            return cls([], np.zeros((0, 0), np.int16), {})
        names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        arrays = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("draw-*.npy"))]
        sides = np.load(folder / "sides.npy")
        return cls(arrays, sides, {name: row for row, name in enumerate(names) if sides[:, row].all()})

    def pick(self, rng: np.random.Generator, face: StoredFace) -> np.ndarray | None:
        """A random twin of the face, uint8 (side, side, 3), or None."""
        row = self.rows.get(face.sample.path)
        if row is None or not self.pixels:
            return None
        draw = rng.integers(len(self.pixels))
        side = int(self.sides[draw, row])
        return np.array(self.pixels[draw][row, :side, :side])


def made_here(families: Iterable[str], samples: Iterable[Sample]) -> set[str]:
    """Those of the families that are made from reals: of `MADE`, but not where forged samples are held as files."""
    return set(families) & set(MADE) - {sample.family for sample in samples if sample.label}


class PairMaker:
    """Makes pairs from the training faces of a store."""

    def __init__(self, faces: Sequence[StoredFace], twins: Twins, plan: PoolPlan) -> None:
        self._plan, self._twins = plan, twins
        self._reals: dict[str, list[StoredFace]] = {}
        self._forged: dict[str, list[StoredFace]] = {}
        for face in faces:
            group = self._forged if face.sample.label else self._reals
            group.setdefault(face.sample.family if face.sample.label else face.sample.source, []).append(face)
        to_make = made_here(plan.families, [face.sample for face in faces])
        self._read = [family for family in plan.families if family not in to_make]
        absent = [family for family in self._read if family not in self._forged]
        if not self._reals or absent:
            raise DataError(
                f"the training split has no {', '.join(absent) or 'real faces'}; add them or leave them out"
            )
        for family in self._read:
            alone = {face.sample.source for face in self._forged[family]} - set(self._reals)
            if alone:
                raise DataError(
                    f"{family}: the training split has no real faces of source {', '.join(sorted(alone))} to stand "
                    "beside the forged ones; add some, or name the source that they resemble"
                )
        self._twinned = {
            source: [face for face in group if face.sample.path in twins.rows] for source, group in self._reals.items()
        }
        if "resynthesis" in to_make and not any(self._twinned.values()):
            raise DataError("no re-synthesised twins are at hand; make them first or leave the family out")
        self._families = list(plan.families)
        self._sources = [source for source in plan.sources if source in self._reals]

    def make(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int, int, bool]:
        """One pair: pixels uint8 (2, S, S, 3), mask uint8 (M, M), indices of family and source, whether decoded."""
        weights = np.array(list(self._plan.families.values()))
        family = self._families[rng.choice(len(weights), p=weights / weights.sum())]
        margin = self._plan.margin * float(np.exp(rng.normal(0, 0.09)))
        shift = rng.normal(0, 0.04, 2)
        fate = Degradation.draw(rng)
        if family in self._read:
            forged_face = self._pick(rng, self._forged[family])
            real_face = self._pick(rng, self._reals[forged_face.sample.source])
            pictures = [(real_face.pixels(), real_face.box), (forged_face.pixels(), forged_face.box)]
            told = forged_face.mask()
            decoded = family in WHOLLY_SYNTHETIC
            known = decoded or told is not None  # CIPLAB tells which features were edited, not which pixels
            mask: np.ndarray = np.ones(pictures[1][0].shape[:2], np.float32) if told is None else told
        else:
            groups = self._twinned if family == "resynthesis" else self._reals
            real_face = self._pick(rng, groups[self._pick_source(rng, groups)])
            real, forged, mask, decoded = self._forge(rng, family, real_face)
            box = scale_box(real_face.box, len(real) / real_face.side)
            pictures, known = [(real, box), (forged, box)], True
        scale = publishing_scale(rng, min(max(box[2:]) for _, box in pictures))
        if scale < 1:
            pictures = [(downscale(pixels, scale), scale_box(box, scale)) for pixels, box in pictures]
            height, width = pictures[1][0].shape[:2]
            mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA), np.float32)
        out = np.empty((2, self._plan.size, self._plan.size, 3), np.uint8)
        for slot, (pixels, (x, y, w, h)) in enumerate(pictures):
            left, top, side = context_region(pixels.shape, (x + shift[0] * w, y + shift[1] * h, w, h), margin)
            shown = pixels
            # A blend keeps most of its twin's pixels, history and all: another one would only hide the seam.
            if family in self._read or family not in _BLENDED:
                if slot and rng.random() < 0.5:
                    shown = match_spectrum(shown, pictures[0][0])
                shown = independent_postprocessing(rng, shown)
            out[slot] = fate.apply(rng, shown[top : top + side, left : left + side], self._plan.size)
        if known:
            cells = cv2.resize(mask[top : top + side, left : left + side], (MASK, MASK), interpolation=cv2.INTER_AREA)
            cells = cells[:, ::-1] if fate.mirror else cells
            small = np.round(np.clip(cells, 0, 1) * 254).astype(np.uint8)
        else:
            small = np.full((MASK, MASK), UNKNOWN, np.uint8)
        source = list(self._plan.sources).index(real_face.sample.source)
        return out, small, self._families.index(family), source, decoded

    def _pick_source(self, rng: np.random.Generator, groups: dict[str, list[StoredFace]]) -> str:
        weights = np.array([self._plan.sources[source] if groups[source] else 0.0 for source in self._sources])
        return self._sources[rng.choice(len(weights), p=weights / weights.sum())]

    @staticmethod
    def _pick(rng: np.random.Generator, faces: Sequence[StoredFace]) -> StoredFace:
        return faces[int(rng.integers(len(faces)))]

    def _forge(
        self, rng: np.random.Generator, family: str, face: StoredFace
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """Real picture, forgery of the same content, and mask, at one resolution; whether a decoder drew some of it."""
        real, mesh = face.pixels(), face.mesh
        twin = self._twins.pick(rng, face) if family == "resynthesis" or rng.random() < 0.3 else None
        if family == "swap":
            others = [self._pick(rng, self._reals[face.sample.source]) for _ in range(10)]
            others = [other for other in others if other.sample.subject != face.sample.subject] or others
            other = min(others, key=lambda candidate: pose_distance(candidate.mesh, mesh))
            pixels, other_mesh = other.pixels(), other.mesh
            decoded = self._twins.pick(rng, other) if twin is not None else None
            if decoded is not None:  # a face as a swap network's decoder would give it
                other_mesh = other_mesh * (len(decoded) / len(pixels))
                pixels = decoded
            return (real, *swap_face(rng, real, mesh, pixels, other_mesh), decoded is not None)
        if twin is None:
            return (real, *self_blend(rng, real, mesh), False)
        if len(twin) != len(real):
            mesh = mesh * (len(twin) / len(real))
            real = cv2.resize(real, (len(twin), len(twin)), interpolation=cv2.INTER_AREA)
        if family == "selfblend":
            return (real, *self_blend(rng, real, mesh, inner=twin), True)
        if rng.random() < 0.55:
            return real, twin, np.ones(real.shape[:2], np.float32), True
        mask = blending_mask(rng, real.shape, mesh, local=0.3)
        return real, blend(real, twin, mask), mask, True


_MAKER: PairMaker | None = None
_FOLDER: Path | None = None


def _start(store: str, twins: str, folder: str) -> None:
    global _MAKER, _FOLDER
    cv2.setNumThreads(1)
    _FOLDER = Path(folder)
    plan = PoolPlan.read(_FOLDER)
    faces = [face for face in read_store(Path(store)) if face.sample.split == "train"]
    _MAKER = PairMaker(faces, Twins.open(Path(twins)), plan)


def _make_chunk(chunk: int) -> int:
    assert _MAKER is not None and _FOLDER is not None  # set by _start in this worker
    pool = Pool.open(_FOLDER, "r+")
    rng = np.random.default_rng([pool.plan.seed, chunk])
    for row in range(chunk * CHUNK, min((chunk + 1) * CHUNK, pool.plan.pairs)):
        pixels, mask, family, source, decoded = _MAKER.make(rng)
        pool.pixels[row], pool.masks[row] = pixels, mask
        pool.families[row], pool.sources[row], pool.decoded[row] = family, source, decoded
    pool.flush()
    return chunk


@dataclass(frozen=True)
class Pool:
    """An opened pool; arrays are memory-mapped, see the module's head for their shapes."""

    plan: PoolPlan
    pixels: np.ndarray
    masks: np.ndarray
    families: np.ndarray
    sources: np.ndarray
    decoded: np.ndarray

    @classmethod
    def open(cls, folder: Path, mode: str = "r") -> "Pool":
        """Open a finished pool (or one in the making, with mode "r+").

        Raises:
            DataError: there is no pool here.
        """
        if not (folder / "plan.json").is_file():
            raise DataError(f"{folder}: no training pool here")
        plan = PoolPlan.read(folder)
        return cls(plan, *(np.load(folder / f"{name}.npy", mmap_mode=mode) for name in _ARRAYS))  # type: ignore[arg-type]

    def flush(self) -> None:
        """Write what was changed to disk."""
        for array in (self.pixels, self.masks, self.families, self.sources, self.decoded):
            if isinstance(array, np.memmap):
                array.flush()

    def without(self, families: Iterable[str]) -> np.ndarray:
        """Rows of the pairs that hold nothing of some families.

        Without "resynthesis" no blend that carries a decoder's face is left either: what is held out shall be new.
        """
        left_out = set(families)
        barred = [number for number, name in enumerate(self.plan.families) if name in left_out]
        held = np.isin(self.families, barred)
        if "resynthesis" in left_out:
            blended = [number for number, name in enumerate(self.plan.families) if name in _BLENDED]
            held |= np.isin(self.families, blended) & (self.decoded == 1)
        return np.flatnonzero(~held)


def build_pool(
    store: Path,
    twins: Path,
    folder: Path,
    plan: PoolPlan,
    workers: int,
    progress: Callable[[int], None] | None = None,
) -> Pool:
    """Make the pool, or finish one that was begun with the same plan.

    Args:
        store: folder of the face store.
        twins: folder of the re-synthesised twins; may not exist.
        workers: processes.
        progress: called with the number of pairs done since the last call.

    Raises:
        DataError: the folder holds a pool of another plan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "plan.json"
    if written.is_file():
        if PoolPlan.read(folder) != plan:
            raise DataError(f"{folder} holds a pool made to another plan; name another folder or delete it")
    else:
        shapes = {"pixels": (plan.pairs, 2, plan.size, plan.size, 3), "masks": (plan.pairs, MASK, MASK)}
        for name in _ARRAYS:
            shape = shapes.get(name, (plan.pairs,))
            np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape).flush()
        np.save(folder / "done.npy", np.zeros(-(-plan.pairs // CHUNK), bool))
        written.write_text(json.dumps(asdict(plan)), encoding="utf-8")
    done = np.load(folder / "done.npy")
    if progress:
        progress(int(done.sum()) * CHUNK)
    left = [int(chunk) for chunk in np.flatnonzero(~done)]
    if left:
        context = multiprocessing.get_context("spawn")
        with context.Pool(workers, _start, (str(store), str(twins), str(folder))) as processes:
            for chunk in processes.imap_unordered(_make_chunk, left):
                done[chunk] = True
                np.save(folder / "done.npy", done)
                if progress:
                    progress(CHUNK)
    return Pool.open(folder)
