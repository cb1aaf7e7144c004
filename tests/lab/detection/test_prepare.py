"""What is decided before a detector is trained, what is refused then, and what is made or found again."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from fake_faces import make_face, make_faces
from progress_log import ProgressLog
from stored_paths import stored_paths

from unmask.datasets.face_store import StoredFace
from unmask.datasets.manifest import Sample, manifest_sha256, write_manifest
from unmask.errors import DataError
from unmask.forgery.plain import Plain
from unmask.lab import config as lab_config
from unmask.lab import train as training
from unmask.lab.detection import prepare as preparing
from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig
from unmask.lab.detection.feed import Pairs
from unmask.lab.detection.prepare import held_out_reconstructions, plan, prepare
from unmask.lab.detection.scoring import family_aucs
from unmask.progress import SILENT

pytestmark = pytest.mark.lab

SOURCES = ("ffhq", "ciplab", "celebamask", "utkface")
CONFIG = DetectionTrainConfig(options={"weights": "none"}, pairs=8, steps=1, batch_pairs=2)


class FacesLookedFor(Exception):
    """What the face store is asked for once nothing was refused."""


@pytest.fixture
def no_faces_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks for a face, or trains a network, has not refused what could have been refused before."""

    def stop(*_: Any, **__: Any) -> None:
        raise FacesLookedFor

    monkeypatch.setattr(lab_config, "build_store", stop)
    monkeypatch.setattr(training, "fit", lambda *_, **__: pytest.fail("a network is trained"))
    monkeypatch.setattr(preparing, "train_autoencoder_bank", lambda *_, **__: pytest.fail("a network is trained"))


def rows(**counts: int) -> list[Sample]:
    """Rows by "SPLIT_FAMILY"; each is its own subject's, of the source "mine" unless its family says "of_SOURCE"."""
    samples = []
    for name, count in counts.items():
        split, _, family = name.partition("_")
        family, _, source = family.partition("_of_")
        samples += [
            Sample(
                path=f"{name}-{number}.png",
                label=int(family != "real"),
                family=family,
                source=source or "mine",
                subject=f"{name} {number}",
                split=split,
            )
            for number in range(count)
        ]
    return samples


def manifest(folder: Path, samples: Sequence[Sample]) -> DetectionPaths:
    """The rows on disk, with pictures that show nothing."""
    for sample in samples:
        cv2.imwrite(str(folder / sample.path), np.zeros((8, 8, 3), np.uint8))
    write_manifest(samples, folder / "manifest.csv")
    return DetectionPaths(data=folder / "manifest.csv", work=folder / "work")


GOOD = {"train_real": 2, "train_filter": 2, "val_real": 1, "val_filter": 1}


def run(paths: DetectionPaths, folder: Path, **changes: Any) -> None:
    training.train(paths, folder / "run", replace(CONFIG, **changes))


@pytest.mark.usefixtures("no_faces_yet")
def test_data_of_which_nothing_is_wrong_are_looked_at(tmp_path: Path) -> None:
    with pytest.raises(FacesLookedFor):
        run(manifest(tmp_path, rows(**GOOD)), tmp_path)


@pytest.mark.usefixtures("no_faces_yet")
@pytest.mark.parametrize(
    ("counts", "changes", "message"),
    [
        ({**GOOD, "train_real": 0}, {}, "no real sample in train; add some"),
        ({**GOOD, "train_filter": 0}, {}, "no forged sample in train; add some"),
        ({"val_real": 1, "val_filter": 1}, {}, "the training split has no real faces; add some"),
        ({**GOOD, "val_real": 0}, {}, r"no real face is in the split val, .*put some subjects' rows there"),
        ({**GOOD, "train_filter_of_elsewhere": 1}, {}, "filter: the training split has no real faces of source elsewh"),
        (GOOD, {"without": ("filtre",)}, "no family filtre to leave out; families are .*filter"),
        (
            GOOD,
            {"without": ("selfblend", "swap", "resynthesis", "filter")},
            "every family was left out; nothing forged remains",
        ),
        (
            GOOD,
            {"without_kinds": ("swaps",)},
            "no kind swaps to leave out; kinds are blend, re-synthesis, swap, unknown",
        ),
        (GOOD, {"without_sources": ("yours",)}, "no source yours to leave out; sources are mine"),
        (GOOD, {"without_sources": ("mine",)}, "every source of real faces was left out; nothing real remains"),
        (
            GOOD,
            {"without": ("swap",), "without_kinds": ("blend", "re-synthesis", "unknown")},
            "every family was left out; nothing forged remains",
        ),
        (GOOD, {"method": "mesonet", "options": {}, "size": 256, "window": 128}, "must be its size, 256"),
    ],
)
def test_what_would_make_training_fail_is_found_before_any_face_is_looked_for(
    counts: dict[str, int], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        run(manifest(tmp_path, rows(**counts)), tmp_path, **changes)
    assert not (tmp_path / "run").exists() and not (tmp_path / "work").exists()


def test_families_to_leave_out_are_each_named_once(tmp_path: Path) -> None:
    """Also one that is both in the data and made here."""
    with pytest.raises(DataError, match="to leave out") as refused:
        run(manifest(tmp_path, rows(**GOOD, train_selfblend=2)), tmp_path, without=("selfblnd",))
    assert str(refused.value).count(" selfblend") == 1


@pytest.mark.usefixtures("no_faces_yet")
@pytest.mark.parametrize(
    ("size", "window"), [(64, 0), (64, 32), (96, 0), (160, 80), (224, 100), (224, 256), (448, 100), (448, 800)]
)
def test_a_window_that_does_not_fit_is_refused_with_ones_that_do(size: int, window: int, tmp_path: Path) -> None:
    """Left out, it is half the size, which not all sizes can be halved to."""
    paths = manifest(tmp_path, rows(**GOOD))
    with pytest.raises(DataError, match=f"do not fit faces of {size}; take --window") as refused:
        run(paths, tmp_path, size=size, window=window)
    remedies = [int(number) for number in re.findall(r"\d+", str(refused.value).partition("--window")[2])]
    assert remedies and all(64 <= remedy <= size for remedy in remedies)
    for remedy in remedies:
        with pytest.raises(FacesLookedFor):
            run(paths, tmp_path, size=size, window=remedy)


@pytest.mark.parametrize("window", [56, 112, 168, 224])
def test_a_detector_learns_from_every_window_that_fits(window: int) -> None:
    cells = window // 8
    faces, masks = torch.rand(4, 3, window, window), torch.rand(4, 1, cells, cells)
    batch = {"faces": faces, "labels": torch.tensor([0.0, 1.0] * 2), "masks": masks, "progress": torch.tensor(0.5)}
    losses = Plain("rgb", weights="none").training_losses(batch)
    assert all(loss.isfinite() for loss in losses.values())


@pytest.fixture
def faces() -> list[StoredFace]:
    return [*make_faces("train", count=2), *make_faces("val", count=2)]


def test_a_plan_completes_the_configuration(faces: list[StoredFace], tmp_path: Path) -> None:
    infrared = [make_face(90, split="train"), make_face(91, label=1, family="stylegan", split="train")]
    infrared = [replace(face, sample=replace(face.sample, spectrum="nir")) for face in infrared]
    paths = stored_paths(tmp_path, [*faces, *infrared])
    before = replace(CONFIG, families=("swap", "stylegan"), before=("pggan",))
    made = plan(paths, replace(CONFIG, without=("ciplab",)), before, SILENT)
    assert made.config.families == ("selfblend", "swap", "resynthesis", "stylegan", "mobilestylegan")
    assert made.config.spectra == ("nir", "visible") and made.config.window == 112
    assert made.config.before == ("pggan", "stylegan", "swap")
    assert made.data_sha256 == manifest_sha256([face.sample for face in [*faces, *infrared]])
    small = plan(paths, replace(CONFIG, method="deepfidelity", options={}), None, SILENT)
    assert small.config.window == small.config.size and small.config.before == ()


def test_a_kind_left_out_is_read_and_made_no_longer(faces: list[StoredFace], tmp_path: Path) -> None:
    """Also a family without a record, whose kind the data name."""
    filtered = make_face(90, label=1, family="filter", split="train")
    filtered = replace(filtered, sample=replace(filtered.sample, kind="GAN"))
    paths = stored_paths(tmp_path, [*faces, filtered])
    everything = plan(paths, CONFIG, None, SILENT).config
    assert everything.kinds == ("blend", "composite", "re-synthesis", "swap", "synthesis")
    assert everything.sources == tuple(sorted(SOURCES)) and "filter" in everything.families
    made = plan(paths, replace(CONFIG, without=("ciplab",), without_kinds=("swap", "synthesis")), None, SILENT).config
    assert made.families == ("selfblend", "resynthesis") and made.kinds == ("blend", "re-synthesis")
    assert made.without[0] == "ciplab"
    assert set(made.without) == {"ciplab", "swap", "stylegan", "mobilestylegan", "filter"}
    assert made.without_kinds == ("swap", "synthesis")


def test_a_source_left_out_takes_families_along_that_stand_beside_it_alone(
    faces: list[StoredFace], tmp_path: Path
) -> None:
    """StyleGAN's pictures stand beside FFHQ; those of SFHQ beside its partners, of which one is left."""
    extra = [make_face(90, source="real_portraits"), make_face(91, source="real_300w")]
    extra += [make_face(92, label=1, family="sfhq_t2i", source="sfhq_t2i")]
    paths, progress = stored_paths(tmp_path, [*faces, *extra]), ProgressLog()
    made = plan(paths, replace(CONFIG, without_sources=("ffhq", "real_portraits")), None, progress).config
    assert made.sources == ("celebamask", "ciplab", "real_300w", "utkface")
    assert set(made.without) == {"stylegan", "mobilestylegan"} and "sfhq_t2i" in made.families
    (note,) = progress.notes
    assert "stylegan" in note and "mobilestylegan" in note and "sfhq_t2i" not in note
    both = plan(paths, replace(CONFIG, without_sources=("real_300w", "real_portraits")), None, SILENT).config
    assert set(both.without) == {"sfhq_t2i"}
    before = replace(CONFIG, sources=("ffhq",), before_sources=("utkface",))
    assert plan(paths, CONFIG, before, SILENT).config.before_sources == ("ffhq", "utkface")


@pytest.mark.slow
def test_runs_without_a_source_share_the_pool_and_read_nothing_of_it(
    faces: list[StoredFace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = stored_paths(tmp_path, faces)
    config = replace(CONFIG, pairs=40, without=("resynthesis",))
    rich = prepare(plan(paths, config, None, SILENT), SILENT).pool
    made = prepare(plan(paths, replace(config, without_sources=("ffhq", "utkface")), None, SILENT), SILENT)
    assert made.pool.plan == rich.plan and len(list((tmp_path / "pools").iterdir())) == 1
    rows = made.pool.without(made.config.without, made.config.without_sources)
    sources = list(rich.plan.sources)
    assert {sources[number] for number in made.pool.sources[rows]} == {"ciplab", "celebamask"}
    feed = Pairs(made.pool, replace(made.config, size=224), made.held)
    shown = sum(len(batch["labels"]) for batch in feed.validation_batches(torch.device("cpu")))
    known = [face for face in made.held if face.source.partition("@")[0] in ("ciplab", "celebamask")]
    assert shown == sum(not face.label or face.family in made.config.families for face in known) < len(made.held)
    alone = replace(rich, sources=np.full(40, sources.index("celebamask"), np.uint8))
    monkeypatch.setattr(preparing, "find_or_make_pool", lambda *_: alone)
    with pytest.raises(DataError, match=r"no pair is left .* --pairs"):
        prepare(plan(paths, replace(config, without_sources=("celebamask",)), None, SILENT), SILENT)


@pytest.mark.slow
def test_reconstructions_are_not_made_where_their_family_comes_as_files(
    faces: list[StoredFace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = [
        replace(face, sample=replace(face.sample, family="resynthesis")) if face.sample.family == "stylegan" else face
        for face in faces
    ]
    monkeypatch.setattr(preparing, "prepare_reconstructions", lambda *_: pytest.fail("reconstructions are made"))
    progress = ProgressLog()
    made = prepare(plan(stored_paths(tmp_path, named), CONFIG, None, SILENT), progress)
    assert "resynthesis" in made.config.families and "resynthesis" in made.pool.plan.families
    (note,) = progress.notes
    assert "selfblend, swap" in note and "resynthesis" not in note


@pytest.mark.slow
def test_the_validation_split_is_watched_by_family(faces: list[StoredFace], tmp_path: Path) -> None:
    made = prepare(plan(stored_paths(tmp_path, faces), replace(CONFIG, without=("resynthesis",)), None, SILENT), SILENT)
    watched = family_aucs(made.held, np.array([float(face.label) for face in made.held]))
    families = ("ciplab", "mobilestylegan", "pggan", "selfblend", "stylegan", "swap")
    assert watched == {**{f"auc_{name}": 1.0 for name in families}, "real_vs_real": 0.5}
    subjects = {face.sample.subject for face in faces if face.sample.split == "val"}
    assert {face.subject for face in made.held} <= subjects


@pytest.mark.slow
def test_a_pool_that_holds_more_is_found_and_none_is_made(
    faces: list[StoredFace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = stored_paths(tmp_path, faces)
    rich = prepare(plan(paths, replace(CONFIG, without=("resynthesis",)), None, SILENT), SILENT).pool
    monkeypatch.setattr(preparing, "build_pool", lambda *_: pytest.fail("a pool is made"))
    for changes in ({"without": ("resynthesis", "swap")}, {"pairs": 4, "without": ("resynthesis",)}, {"seed": 8}):
        config = replace(CONFIG, **{"without": ("resynthesis",), **changes})
        assert prepare(plan(paths, config, None, SILENT), SILENT).pool.plan == rich.plan
    with pytest.raises(pytest.fail.Exception, match="a pool is made"):
        prepare(plan(paths, replace(CONFIG, pairs=9, without=("resynthesis",)), None, SILENT), SILENT)


@pytest.mark.slow
def test_a_split_is_reconstructed_once_and_not_without_a_bank(faces: list[StoredFace], tmp_path: Path) -> None:
    paths = stored_paths(tmp_path, faces)
    assert held_out_reconstructions(paths, faces, "val", SILENT).rows == {}
    prepare(plan(paths, replace(CONFIG, zoo_steps=1, twin_draws=1), None, SILENT), SILENT)
    progress = ProgressLog()
    drawn = held_out_reconstructions(paths, faces, "val", progress, most=1)
    reals = [face.sample for face in faces if face.sample.split == "val" and not face.sample.label]
    expected = [next(sample.path for sample in reals if sample.source == source) for source in SOURCES]
    assert list(drawn.rows) == expected
    assert list(progress.stages) == ["making reconstructions, val split"]
    progress.check_bars_end()
    again = ProgressLog()
    assert held_out_reconstructions(paths, faces, "val", again, most=1).rows == drawn.rows and not again.stages
