"""The training pool: degraded pairs of a real face and a forgery, made once by all cores and then read by every run.

A pair shares source, content (where the forgery was made from it), resolution, crop geometry, look
(`unmask.forging.looks`) and degradation; only the forging differs and, but for blends and pairs cut out of one frame,
independent post-processing of each (sharpness, one encoding; half of the forgeries also get their real's spectrum).
Families whose record (`unmask.forging.families`) says so are made here from reals, unless the training split holds
pictures of that name. A picture that is read is paired with its original, where the manifest names one; else with a
random real of its own source or of its family's partners.

Files in the pool's folder: `pixels.npy` uint8 (P, 2, S, S, 3) with the real first, `masks.npy` uint8 (P, M, M) for the
forgery (0..254 = share of forged pixels, 255 = not known), `families.npy` and `sources.npy` uint8 indices into the
names of `plan.json`, `decoded.npy` uint8, 1 where a neural decoder drew some of the forgery. Chunks are made from their
own seed, so a pool is the same whoever makes it and a kill costs one chunk a worker.
"""

import json
import multiprocessing
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from unmask.datasets.face_store import StoredFace, read_store
from unmask.errors import DataError
from unmask.faces.alignment import context_region, scale_box
from unmask.forgery.spectrum import match_spectrum
from unmask.forging.blending import blend, blending_mask, pose_distance, self_blend, swap_face
from unmask.forging.candide import MODEL, Candide
from unmask.forging.degradation import Degradation, downscale, independent_postprocessing, publishing_scale
from unmask.forging.families import family, made_for_training, real_sources
from unmask.forging.families import to_make as families_to_make
from unmask.forging.lips import resynthesise_lips
from unmask.forging.looks import Look, check_encoders, draw_look
from unmask.lab.detection.reconstructions import Reconstructions
from unmask.progress import SILENT, Progress

PIPELINE_VERSION = (
    5  # raised whenever the code makes other pairs from the same plan, so that no older pool is taken for new
)
MASK = 28
_ARRAYS = ("pixels", "masks", "families", "sources", "decoded")
CHUNK = 128
UNKNOWN = 255
_LOOKS = {
    "h264": 0.12,
    "h265": 0.06,
    "enlarged": 0.12,
    "greyscale": 0.09,
    "print-and-scan": 0.04,
    "screenshot": 0.05,
    "messenger": 0.07,
}
"""How often a pair gets a look; the rest has none."""


@dataclass(frozen=True)
class PoolPlan:
    """Everything a pool depends on beside the face store and the reconstructions.

    `families` and `sources` are draw weights by name. `pipeline_version` is that of the code that makes the pairs.
    """

    pairs: int
    seed: int
    size: int
    margin: float
    families: dict[str, float]
    sources: dict[str, float]
    pipeline_version: int = PIPELINE_VERSION

    @classmethod
    def read(cls, folder: Path) -> "PoolPlan":
        """The plan of a pool's folder; those written before the pipeline was numbered are of the first."""
        saved = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        version = saved.pop("making", 1)
        return cls(**{"pipeline_version": version, **saved})


class PairMaker:
    """Makes pairs from the training faces of a store."""

    def __init__(
        self,
        faces: Sequence[StoredFace],
        reconstructions: Reconstructions,
        plan: PoolPlan,
        weights: Path | None = None,
    ) -> None:
        """See the class.

        Args:
            faces: of a store, the training split's.
            reconstructions: of its reals.
            plan: of the pool.
            weights: folder of published weights, for the families that need some.

        Raises:
            DataError: what a family needs is not there.
        """
        self._plan, self._reconstructions = plan, reconstructions
        self._reals: dict[str, list[StoredFace]] = {}
        self._forged: dict[str, list[StoredFace]] = {}
        for face in faces:
            group = self._forged if face.sample.label else self._reals
            group.setdefault(face.sample.family if face.sample.label else face.sample.source, []).append(face)
        records = {name: family(name) for name in plan.families}
        self._blended = {name for name, record in records.items() if record.blended}
        self._through_autoencoder = {name for name, record in records.items() if record.reconstructed}
        self._synthetic = {name for name, record in records.items() if record.wholly_synthetic}
        to_make = families_to_make(plan.families, {face.sample.family for face in faces if face.sample.label})
        self._read = [name for name in plan.families if name not in to_make]
        absent = [name for name in self._read if name not in self._forged]
        if not self._reals or absent:
            raise DataError(
                f"the training split has no {', '.join(absent) or 'real faces'}; add them or leave them out"
            )
        lacking = sorted(name for name in to_make if records[name].weights and name not in made_for_training(weights))
        if lacking:
            raise DataError(f"{', '.join(lacking)}: the weights to make them are not there; leave them out")
        self._candide = None
        if weights is not None and any(records[name].weights for name in to_make):
            model = MODEL.find(weights)
            self._candide = None if model is None else Candide(model)
        self._of_path = {face.sample.path: face for group in self._reals.values() for face in group}
        for name in self._read:
            alone = {face.sample.source for face in self._forged[name] if not self._beside(face)}
            if alone:
                raise DataError(
                    f"{name}: the training split has no real faces of source {', '.join(sorted(alone))} to stand "
                    "beside the forged ones; add some, or name the source that they resemble"
                )
        self._reconstructed = {
            source: [face for face in group if face.sample.path in reconstructions.rows]
            for source, group in self._reals.items()
        }
        if self._through_autoencoder.intersection(to_make) and not any(self._reconstructed.values()):
            raise DataError("no reconstructions are at hand; make them first or leave the family out")
        self._families = list(plan.families)
        self._sources = [source for source in plan.sources if source in self._reals]

    def make(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int, int, bool]:
        """One pair: pixels uint8 (2, S, S, 3), mask uint8 (M, M), indices of family and source, whether decoded."""
        weights = np.array(list(self._plan.families.values()))
        name = self._families[rng.choice(len(weights), p=weights / weights.sum())]
        margin = self._plan.margin * float(np.exp(rng.normal(0, 0.09)))
        shift = rng.normal(0, 0.04, 2)
        degradation = Degradation.draw(rng)
        if name in self._read:
            forged_face = self._pick(rng, self._forged[name])
            real_face = self._of_path.get(forged_face.sample.original)
            twins = real_face is not None
            if real_face is None:
                real_face = self._pick(rng, self._reals[self._pick_source(rng, self._beside(forged_face))])
            real, forged = real_face.pixels(), forged_face.pixels(real_face.window if twins else None)
            pictures = [(real, real_face.box), (forged, real_face.box if twins else forged_face.box)]
            stored = difference_mask(real, forged) if twins else forged_face.mask()
            decoded = name in self._synthetic
            known = decoded or stored is not None  # CIPLAB tells which features were edited, not which pixels
            mask: np.ndarray = np.ones(pictures[1][0].shape[:2], np.float32) if stored is None else stored
        else:
            groups = self._reconstructed if name in self._through_autoencoder else self._reals
            present = [source for source in self._sources if groups.get(source)]
            real_face = self._pick(rng, groups[self._pick_source(rng, present)])
            real, forged, mask, decoded = self._forge(rng, name, real_face)
            twins = False
            box = scale_box(real_face.box, len(real) / real_face.side)
            pictures, known = [(real, box), (forged, box)], True
        scale = publishing_scale(rng, min(max(box[2:]) for _, box in pictures))
        if scale < 1:
            pictures = [(downscale(pixels, scale), scale_box(box, scale)) for pixels, box in pictures]
            height, width = pictures[1][0].shape[:2]
            mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA), np.float32)
        look = self._draw_look(rng)
        out = np.empty((2, self._plan.size, self._plan.size, 3), np.uint8)
        for slot, (pixels, (x, y, w, h)) in enumerate(pictures):
            left, top, side = context_region(pixels.shape, (x + shift[0] * w, y + shift[1] * h, w, h), margin)
            shown = pixels
            # A blend keeps most of its real's pixels with their post-processing: more of it would only hide the seam.
            if not twins and (name in self._read or name not in self._blended):
                if slot and rng.random() < 0.5:
                    shown = match_spectrum(shown, pictures[0][0])
                shown = independent_postprocessing(rng, shown)
            crop = np.ascontiguousarray(shown[top : top + side, left : left + side])
            out[slot] = degradation.apply(rng, crop if look is None else look(crop), self._plan.size)
        if known:
            cells = cv2.resize(mask[top : top + side, left : left + side], (MASK, MASK), interpolation=cv2.INTER_AREA)
            cells = cells[:, ::-1] if degradation.mirror else cells
            small = np.round(np.clip(cells, 0, 1) * 254).astype(np.uint8)
        else:
            small = np.full((MASK, MASK), UNKNOWN, np.uint8)
        source = list(self._plan.sources).index(real_face.sample.source)
        return out, small, self._families.index(name), source, decoded

    def _beside(self, forged: StoredFace) -> tuple[str, ...]:
        """The sources of reals to stand beside a picture that is read."""
        return real_sources(forged.sample, self._reals)

    def _pick_source(self, rng: np.random.Generator, present: Sequence[str]) -> str:
        weights = np.array([self._plan.sources[source] for source in present])
        return present[rng.choice(len(weights), p=weights / weights.sum())]

    @staticmethod
    def _draw_look(rng: np.random.Generator) -> Look | None:
        names, shares = list(_LOOKS), np.array([*_LOOKS.values()])
        place = int(rng.choice(len(names) + 1, p=[*shares, 1 - shares.sum()]))
        return draw_look(rng, names[place]) if place < len(names) else None

    @staticmethod
    def _pick(rng: np.random.Generator, faces: Sequence[StoredFace]) -> StoredFace:
        return faces[int(rng.integers(len(faces)))]

    def _forge(
        self, rng: np.random.Generator, name: str, face: StoredFace
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """Real picture, forgery of the same content, and mask, at one resolution; whether a decoder drew some of it."""
        real, mesh = face.pixels(), face.mesh
        if family(name).made_for_training:
            return (real, *self._by_model(rng, name, face, real), False)
        reconstruction = (
            self._reconstructions.pick(rng, face) if name in self._through_autoencoder or rng.random() < 0.3 else None
        )
        if family(name).kind == "swap":
            other = self._donor(rng, face)
            pixels, other_mesh = other.pixels(), other.mesh
            decoded = self._reconstructions.pick(rng, other) if reconstruction is not None else None
            if decoded is not None:  # a face as a swap network's decoder would give it
                other_mesh = other_mesh * (len(decoded) / len(pixels))
                pixels = decoded
            return (real, *swap_face(rng, real, mesh, pixels, other_mesh), decoded is not None)
        if reconstruction is None:
            return (real, *self_blend(rng, real, mesh), False)
        if len(reconstruction) != len(real):
            mesh = mesh * (len(reconstruction) / len(real))
            real = cv2.resize(real, (len(reconstruction), len(reconstruction)), interpolation=cv2.INTER_AREA)
        if name in self._blended:
            return (real, *self_blend(rng, real, mesh, inner=reconstruction), True)
        if rng.random() < 0.55:
            return real, reconstruction, np.ones(real.shape[:2], np.float32), True
        mask = blending_mask(rng, real.shape, mesh, local=0.3)
        return real, blend(real, reconstruction, mask), mask, True

    def _donor(self, rng: np.random.Generator, face: StoredFace) -> StoredFace:
        """Of ten faces of the same source, of other people if there are any, the one posed most alike."""
        others = [self._pick(rng, self._reals[face.sample.source]) for _ in range(10)]
        others = [other for other in others if other.sample.subject != face.sample.subject] or others
        return min(others, key=lambda candidate: pose_distance(candidate.mesh, face.mesh))

    def _by_model(
        self, rng: np.random.Generator, name: str, face: StoredFace, real: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """A forgery by the face model or of the lips, and its mask."""
        assert self._candide is not None  # as of every plan with such a family
        if family(name).kind == "lip-sync":
            return resynthesise_lips(rng, real, face.mesh)
        other = self._donor(rng, face)
        make = self._candide.swap if family(name).kind == "swap" else self._candide.reenact
        return make(rng, real, face.mesh, other.pixels(), other.mesh)


def difference_mask(real: np.ndarray, forged: np.ndarray) -> np.ndarray:
    """Where two pictures of one frame differ by more than two encodings of it do.

    Args:
        real: uint8 (H, W, 3).
        forged: the same, aligned pixel by pixel.

    Returns:
        float32 (H, W) in [0, 1].
    """
    apart = np.abs(real.astype(np.int16) - forged).mean(axis=2).astype(np.float32)
    # A difference of 5 levels over some pixels is what JPEG at quality 75 leaves at most; one of 17 is plain to see.
    return np.clip((cv2.GaussianBlur(apart, (0, 0), len(real) / 64) - 5) / 12, 0, 1)


_MAKER: PairMaker | None = None
_FOLDER: Path | None = None


def _start(store: str, reconstructions: str, folder: str, weights: Path | None) -> None:
    global _MAKER, _FOLDER
    cv2.setNumThreads(1)
    _FOLDER = Path(folder)
    plan = PoolPlan.read(_FOLDER)
    faces = [face for face in read_store(Path(store)) if face.sample.split == "train"]
    _MAKER = PairMaker(faces, Reconstructions.open(Path(reconstructions)), plan, weights)


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

    def without(self, families: Iterable[str], sources: Iterable[str] = ()) -> np.ndarray:
        """Rows of the pairs that hold nothing of some families, nor a real of some sources or what stands beside it.

        Without re-synthesis no blend that carries a decoder's face is left either: what is held out shall be new.
        """
        left_out = set(families)
        excluded = [number for number, name in enumerate(self.plan.families) if name in left_out]
        held = np.isin(self.families, excluded)
        if any(family(name).reconstructed for name in left_out):
            blended = [number for number, name in enumerate(self.plan.families) if family(name).blended]
            held |= np.isin(self.families, blended) & (self.decoded == 1)
        gone = set(sources)
        held |= np.isin(self.sources, [number for number, name in enumerate(self.plan.sources) if name in gone])
        return np.flatnonzero(~held)


def build_pool(
    store: Path,
    reconstructions: Path,
    folder: Path,
    plan: PoolPlan,
    workers: int,
    progress: Progress = SILENT,
    weights: Path | None = None,
) -> Pool:
    """Make the pool, or finish one that was begun with the same plan.

    Args:
        store: folder of the face store.
        reconstructions: folder of the reconstructions; may not exist.
        workers: processes.
        progress: of the stage "making pairs".
        weights: folder of published weights, for the families that need some.

    Raises:
        DataError: the folder holds a pool of another plan, or PyAV lacks an encoder for videos.
    """
    check_encoders()
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

    def report() -> None:
        progress.update("making pairs", min(plan.pairs, int(done.sum()) * CHUNK), plan.pairs)

    report()
    left = [int(chunk) for chunk in np.flatnonzero(~done)]
    if left:
        context = multiprocessing.get_context("spawn")
        with context.Pool(workers, _start, (str(store), str(reconstructions), str(folder), weights)) as processes:
            for chunk in processes.imap_unordered(_make_chunk, left):
                done[chunk] = True
                np.save(folder / "done.npy", done)
                report()
    return Pool.open(folder)
