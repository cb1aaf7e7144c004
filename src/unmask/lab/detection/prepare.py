"""From pictures to what a detector is trained on: manifest, face store, reconstructions, pool. All stages resume.

Stages share a work folder (`store/`, `zoo/`, `twins/`, `pools/`), so that several runs prepare once and differ in
nothing but their configuration.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from unmask.datasets.face_store import StoredFace
from unmask.datasets.manifest import Sample, manifest_sha256
from unmask.errors import DataError
from unmask.forgery.detector import Learner
from unmask.forging.decoders import Decoder, load_decoder, unavailable_decoders
from unmask.forging.families import (
    draw_weights,
    family,
    kind_of,
    made_for_training,
    made_here,
    real_sources,
    source_weights,
    to_make,
)
from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig
from unmask.lab.detection.held_out import CLEAN, EvalFace, eval_faces
from unmask.lab.detection.pairs_pool import MASK, Pool, PoolPlan, build_pool
from unmask.lab.detection.reconstructions import (
    Reconstructions,
    bank_with_taef2,
    make_reconstructions,
    train_autoencoder_bank,
)
from unmask.lab.engine import make_fabric
from unmask.lab.methods import method_named
from unmask.progress import Progress

QUICK = ("srgan", "rfdn", "span", "realesr-compact", "realcugan", "waifu2x-upconv", "waifu2x-cunet")
"""Published decoders whose reconstructions join those of the bank."""
_RECONSTRUCTED_PER_SOURCE = 420
_WATCHED = 40  # reals per source of the validation split that training is watched on, and as many forgeries of each


@dataclass(frozen=True)
class DetectionPlan:
    """A run that can be prepared and trained: where, with what configuration, on which faces."""

    paths: DetectionPaths
    config: DetectionTrainConfig
    faces: tuple[StoredFace, ...]

    @property
    def data_sha256(self) -> str:
        """Of the rows of the faces."""
        return manifest_sha256([face.sample for face in self.faces])


@dataclass(frozen=True)
class DetectionPrepared:
    """A pool to train on under a configuration, and the validation split's faces."""

    config: DetectionTrainConfig
    pool: Pool
    held: tuple[EvalFace, ...]


def plan(
    paths: DetectionPaths, config: DetectionTrainConfig, before: DetectionTrainConfig | None, progress: Progress
) -> DetectionPlan:
    """Look at the data and complete the configuration: window, families, spectra, what was known before.

    Args:
        paths: where everything lies.
        config: as asked for.
        before: of the run whose weights training begins from.
        progress: of the face store.

    Raises:
        DataError: whatever would make training fail. All but missing faces is found before any face is looked for.
    """
    method = method_named(config.method).load()
    windows = issubclass(method, Learner) and method.windows
    window = config.window or (config.size // 2 if windows else config.size)
    if window != config.size:
        if not windows:
            raise DataError(f"{config.method} learns from whole faces: --window must be its size, {config.size}")
        cell = config.size // MASK
        if config.size % MASK or window % cell or window > config.size:
            fitting = (
                [str(cells * cell) for cells in (14, 7, 21) if cells * cell >= 64] if not config.size % MASK else []
            )
            remedy = (
                f"take --window {' or '.join(fitting)}" if fitting else f"take --window {config.size}, the whole face"
            )
            raise DataError(f"windows of {window} pixels do not fit faces of {config.size}; {remedy}")
    if before is not None:
        config = replace(
            config,
            before=tuple(sorted({*before.before, *before.families})),
            before_sources=tuple(sorted({*before.before_sources, *before.sources})),
        )
    config = replace(config, window=window)
    samples = paths.samples()
    _check_left_out(config, samples, paths.published)
    _with_families(config, samples, paths.published)
    faces = paths.faces(progress)
    # A face may be missing where a picture is there: what was true of the pictures must hold of the faces too.
    completed, stranded = _with_families(config, [face.sample for face in faces], paths.published)
    if stranded:
        progress.note(f"left out, for only reals of sources left out stand beside them: {', '.join(stranded)}")
    return DetectionPlan(paths, completed, tuple(faces))


def _kinds(training: Sequence[Sample], published: Path | None) -> dict[str, set[str]]:
    """How the families that can be trained on forge: those made here, and those of a split's forged pictures."""
    made = (*made_here(), *made_for_training(published))
    kinds: dict[str, set[str]] = {name: {family(name).kind} for name in made}
    for sample in training:
        if sample.label:
            kinds.setdefault(sample.family, set()).add(kind_of(sample))
    return kinds


def _check_left_out(config: DetectionTrainConfig, samples: Sequence[Sample], published: Path | None) -> None:
    """Refuse families, kinds and sources to leave out that are not there."""
    training = [sample for sample in samples if sample.split == "train"]
    kinds = _kinds(training, published)
    for one, several, chosen, there in (
        ("family", "families", config.without, list(kinds)),
        ("kind", "kinds", config.without_kinds, sorted(set().union(*kinds.values()))),
        ("source", "sources", config.without_sources, sorted({s.source for s in training if not s.label})),
    ):
        unknown = sorted(set(chosen) - set(there))
        if unknown:
            raise DataError(f"no {one} {', '.join(unknown)} to leave out; {several} are {', '.join(there)}")


def _with_families(
    config: DetectionTrainConfig, samples: Sequence[Sample], published: Path | None
) -> tuple[DetectionTrainConfig, tuple[str, ...]]:
    """The configuration with all that is trained on and left out, and the families left out for want of reals."""
    training = [sample for sample in samples if sample.split == "train"]
    sources = {sample.source for sample in training if not sample.label}
    if not sources:
        raise DataError("the training split has no real faces; add some, or give rows of reals split=train")
    kept = sources - set(config.without_sources)
    if not kept:
        raise DataError("every source of real faces was left out; nothing real remains to train on")
    kinds = _kinds(training, published)
    without = {*config.without, *(name for name in kinds if kinds[name] & set(config.without_kinds))}
    stranded = []
    for name in dict.fromkeys(sample.family for sample in training if sample.label and sample.family not in without):
        beside = {s.source: real_sources(s, sources) for s in training if s.label and s.family == name}
        alone = sorted(source for source, names in beside.items() if not names)
        if alone:
            raise DataError(
                f"{name}: the training split has no real faces of source {', '.join(alone)} to stand "
                "beside the forged ones; add some, or name the source that they resemble"
            )
        if not any(kept & set(names) for names in beside.values()):
            stranded.append(name)
    without.update(stranded)
    families = [name for name in draw_weights(kinds) if name not in without]
    if not families:
        raise DataError("every family was left out; nothing forged remains to train on")
    if not any(sample.split == "val" and not sample.label for sample in samples):
        raise DataError(
            "no real face is in the split val, which training is watched on; put some subjects' rows there "
            "(`unmask manifest` writes rows to change)"
        )
    completed = replace(
        config,
        families=tuple(families),
        kinds=tuple(sorted(set().union(*(kinds[name] for name in families)))),
        sources=tuple(sorted(kept)),
        spectra=tuple(sorted({sample.spectrum for sample in training})),
        without=tuple(dict.fromkeys([*config.without, *(name for name in kinds if name in without)])),
    )
    return completed, tuple(stranded)


def prepare(
    planned: DetectionPlan, progress: Progress, weights: Mapping[str, float] | None = None
) -> DetectionPrepared:
    """Make what is missing: reconstructions, pool; and the validation split's faces.

    Args:
        planned: see `plan`.
        progress: of every stage.
        weights: how often each family is drawn, relative to the others; by default as the records have it.
    """
    config, faces = planned.config, planned.faces
    training = [face.sample for face in faces if face.sample.split == "train"]
    made = to_make(config.families, {sample.family for sample in training if sample.label})
    if made:
        names = ", ".join(name for name in config.families if name in made)
        progress.note(f"made from the real faces, for training and validation: {names}; --without leaves one out")
    if any(family(name).reconstructed for name in made):
        prepare_reconstructions(planned.paths, config, faces, progress)
    sources = sorted({sample.source for sample in training if not sample.label})
    pool = find_or_make_pool(planned.paths, config, sources, progress, weights)
    if not len(pool.without(config.without, config.without_sources)):
        raise DataError("no pair is left of all that were made once some are left out; make more with --pairs")
    watched = {face.sample.family for face in faces if face.sample.split == "val"} - {"real"}
    watched |= {name for name in made_here() if family(name).blended}
    held = eval_faces(faces, "val", watched, CLEAN, config.size, config.margin, most=_WATCHED)
    return DetectionPrepared(config, pool, tuple(held))


def find_or_make_pool(
    paths: DetectionPaths,
    config: DetectionTrainConfig,
    sources: Sequence[str],
    progress: Progress,
    weights: Mapping[str, float] | None = None,
) -> Pool:
    """A pool that holds the families: one that is there, finished and at least as rich, else a new one.

    Args:
        paths, config, sources, progress: of the run; `sources` those of its reals.
        weights: see `prepare`; a pool that was made with other ones is not taken.
    """
    drawn = draw_weights(config.families)
    wanted = PoolPlan(
        config.pairs,
        config.seed,
        config.size,
        config.margin,
        drawn if weights is None else {name: round(weights[name], 6) for name in drawn},
        source_weights(sources),
    )
    for path in sorted((paths.work / "pools").glob("*/plan.json")):
        there = PoolPlan.read(path.parent)
        rich = set(wanted.families) <= set(there.families) and there.pairs >= wanted.pairs
        families = wanted.families if weights is None else there.families
        alike = replace(there, families=families, pairs=wanted.pairs, seed=wanted.seed) == wanted
        if alike and rich and np.load(path.parent / "done.npy").all():
            return Pool.open(path.parent)
    name = hashlib.sha256(json.dumps(asdict(wanted)).encode()).hexdigest()[:12]
    work = paths.work
    folder = work / "pools" / name
    return build_pool(work / "store", work / "twins", folder, wanted, paths.workers, progress, paths.published)


def faces_to_reconstruct(faces: Sequence[StoredFace], most: int = _RECONSTRUCTED_PER_SOURCE) -> list[StoredFace]:
    """The training reals that are reconstructed: the first `most` of every source."""
    chosen: dict[str, list[StoredFace]] = {}
    for face in faces:
        if face.sample.split == "train" and not face.sample.label:
            chosen.setdefault(face.sample.source, []).append(face)
    return [face for group in chosen.values() for face in group[:most]]


def prepare_reconstructions(
    paths: DetectionPaths, config: DetectionTrainConfig, faces: Sequence[StoredFace], progress: Progress
) -> None:
    """Train the autoencoder bank and make the reconstructions, as far as they are not there."""
    device = make_fabric().device
    reals = faces_to_reconstruct(faces)
    bank = train_autoencoder_bank(reals, paths.work / "zoo", config.zoo_steps, config.seed, device, progress=progress)
    networks: list[nn.Module | Decoder] = [*bank_with_taef2(bank, paths.taef2, device)]
    if paths.published is not None:
        networks += quick_decoders(paths.published, progress)
    folder = paths.work / "twins"
    make_reconstructions(reals, networks, folder, config.twin_draws, config.seed, device, progress=progress)


def quick_decoders(published: Path, progress: Progress) -> list[Decoder]:
    """The quicker of the published decoders; what is not there is noted.

    Demosaickers are not among them: what they leave, cameras leave too.

    Raises:
        DataError: a file of the wrong hash.
    """
    absent = unavailable_decoders(published, QUICK)
    if absent:
        progress.note("decoders left out: " + "; ".join(f"{name}, {reason}" for name, reason in absent.items()))
    return [load_decoder(name, published) for name in QUICK if name not in absent]


def held_out_reconstructions(
    paths: DetectionPaths, faces: Sequence[StoredFace], split: str, progress: Progress, most: int = 60
) -> Reconstructions:
    """One reconstruction of the first `most` reals of every source of a split; none without an autoencoder bank."""
    folder = paths.work / f"twins-{split}"
    if not (paths.work / "zoo").is_dir():
        return Reconstructions.open(folder)
    counts: dict[str, int] = {}
    some = []
    for face in faces:
        if face.sample.split == split and not face.sample.label:
            counts[face.sample.source] = counts.get(face.sample.source, 0) + 1
            if counts[face.sample.source] <= most:
                some.append(face)
    if not (folder / "sides.npy").is_file():
        device = torch.device("cpu")
        bank = train_autoencoder_bank(faces_to_reconstruct(faces), paths.work / "zoo", 0, 0, device)
        networks, stage = bank_with_taef2(bank, paths.taef2, device), f"making reconstructions, {split} split"
        make_reconstructions(some, networks, folder, 1, 1, device, progress=progress, stage=stage)
    return Reconstructions.open(folder)
