"""The detection task: comparisons by detectors that know the truth or its opposite, and what no pack is made of."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_faces import make_face, make_faces
from progress_log import ProgressLog
from stored_paths import StoredPaths, stored_paths, write_run

from unmask.datasets.face_store import StoredFace
from unmask.errors import DataError
from unmask.lab import export as exporting
from unmask.lab.detection import export as measuring
from unmask.lab.detection import task as detection
from unmask.lab.detection.config import DetectionExport
from unmask.lab.detection.evaluate import families_of
from unmask.lab.detection.held_out import CONDITIONS, make_eval_images, render
from unmask.lab.detection.scoring import Scorer
from unmask.lab.detection.systems import EvaluatedSystem
from unmask.lab.detection.task import DetectionTask
from unmask.lab.evaluate import compare
from unmask.lab.export import export

pytestmark = pytest.mark.lab

# Comparison


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> StoredPaths:
    return stored_paths(tmp_path_factory.mktemp("work"), make_faces("test", count=3, size=128))


def knowing(faces: Sequence[StoredFace], size: int, margin: float, sign: float) -> Scorer:
    """Scores a crop by its label times `sign`, with a little noise; the crops it knows are those of its own size."""
    pictures = make_eval_images(faces, "test", families_of(faces, "test"))
    known = {
        face.crop.tobytes(): float(face.label)
        for condition in CONDITIONS
        for face in render(pictures, condition, size, margin)
    }

    def score(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        noise = 0.1 * np.random.default_rng(0).random(len(crops))
        return np.array([sign * known[crop.tobytes()] for crop in crops]) + noise, np.zeros((len(crops), 4, 4))

    return score


CAST = (("right", 64, 1.4, 1.0), ("smaller", 48, 1.4, 1.0), ("wider", 64, 1.6, 1.0), ("wrong", 64, 1.4, -1.0))


@pytest.mark.slow
def test_every_detector_is_compared_with_the_first_on_the_same_faces(paths: StoredPaths) -> None:
    """Each cropped as it was trained on."""
    faces, progress = paths.faces(), ProgressLog()
    systems = [EvaluatedSystem(name, knowing(faces, *how), *how[:2]) for name, *how in CAST]
    measured = DetectionTask().measurements(systems, paths, "test", progress)
    progress.check_bars_end()
    assert progress.stages["scoring"][-1] == (12, 12)  # three conditions of four detectors
    rows = compare(measured, [name for name, *_ in CAST])
    assert {row.condition for row in rows} == set(CONDITIONS) and {row.metric for row in rows} == {"auc"}
    for row in rows:
        area = 0.0 if row.system == "wrong" else 1.0
        assert row.value == (area,) * 3
        assert row.difference == (None if row.system == "right" else (area - 1,) * 3)
    counts = {row.group: (row.n_real, row.n_forged) for row in rows}
    assert counts == {
        "selfblend": (12, 12),
        "swap": (12, 12),
        **dict.fromkeys(("stylegan", "mobilestylegan", "ciplab", "pggan"), (3, 3)),
    }
    assert len(rows) == len(CAST) * len(CONDITIONS) * len(counts)


def test_a_detector_is_not_measured_on_a_spectrum_that_it_does_not_know(tmp_path: Path) -> None:
    face = make_face(1, split="test")
    paths = stored_paths(tmp_path, [replace(face, sample=replace(face.sample, spectrum="nir"))])
    system = EvaluatedSystem("visible", lambda _: pytest.fail("it is asked"), 64, 1.4)
    task = DetectionTask()
    with pytest.raises(DataError, match="spectrum nir, but visible was trained for visible"):
        task.evaluate(system, paths, "test", ProgressLog())
    with pytest.raises(DataError, match="spectrum nir, but visible was trained for visible"):
        task.measurements([system, system], paths, "test", ProgressLog())


# What no pack is made of


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever exports, or scores a face for a pack, has not refused what could have been refused before."""
    monkeypatch.setattr(exporting, "write_onnx", lambda *_: pytest.fail("a network is exported"))
    monkeypatch.setattr(measuring, "scorer_of_runs", lambda *_: pytest.fail("faces are scored"))
    monkeypatch.setattr(detection, "evaluate", lambda *_, **__: pytest.fail("faces are scored"))


def rows(folder: Path, monkeypatch: pytest.MonkeyPatch, cal: int, forged: int, test: int = 4, **named: Any) -> Any:
    """Paths of rows alone, whose faces nobody may look for."""
    faces = [make_face(number, split="cal") for number in range(cal)]
    faces += [make_face(100 + n, split="cal", label=1, **{"family": "stylegan", **named}) for n in range(forged)]
    faces += [make_face(200 + n, split="test") for n in range(test)]
    made = stored_paths(folder, faces or [make_face(300, split="train")])
    samples = made.samples()
    monkeypatch.setattr(StoredPaths, "samples", lambda _: samples)
    monkeypatch.setattr(StoredPaths, "faces", lambda *_: pytest.fail("faces are looked for"))
    return made


def refused(paths: Any, runs: Sequence[Path], out: Path, *unseen: str) -> str:
    with pytest.raises(DataError) as error:
        export(runs, paths, out, DetectionExport(unseen=unseen))
    assert not out.exists() and not out.with_name(f"{out.name}.part").exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("cal", "forged", "families", "lacking"),
    [
        (16, 50, ("stylegan",), "16 real faces to calibrate on, and 17 are needed"),
        (0, 50, ("stylegan",), "0 real faces"),
        (50, 16, ("stylegan",), "16 forged faces to calibrate on, and 17 are needed"),
        (50, 50, ("ciplab",), "0 forged faces"),  # those that are there are of a family that it never saw
        (50, 0, ("resynthesis",), "0 forged faces"),  # which are not made of the split's rows alone
    ],
)
def test_too_few_faces_to_calibrate_on_are_found_before_any_work(
    cal: int,
    forged: int,
    families: tuple[str, ...],
    lacking: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = write_run(tmp_path / "run", families=families)
    paths = rows(tmp_path / "work", monkeypatch, cal, forged)
    message = refused(paths, [run], tmp_path / "pack")
    assert lacking in message and "give more rows split=cal" in message


@pytest.mark.parametrize(("forged", "families"), [(17, ("stylegan",)), (0, ("selfblend",)), (0, ("swap",))])
def test_as_many_as_are_named_are_enough(
    forged: int, families: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blends and swaps are made of the reals."""
    run = write_run(tmp_path / "run", families=families)
    paths = rows(tmp_path / "work", monkeypatch, 17, forged)
    with pytest.raises(pytest.fail.Exception, match="faces are looked for"):
        export([run], paths, tmp_path / "pack", DetectionExport())


def test_a_test_split_without_reals_is_found_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = rows(tmp_path / "work", monkeypatch, 20, 20, test=0)
    message = refused(paths, [write_run(tmp_path / "run")], tmp_path / "pack")
    assert "no real face is in the split test" in message and "give rows split=test" in message


@pytest.mark.parametrize(("runs", "unseen"), [(1, 2), (2, 1), (2, 3)])
def test_what_calibrates_is_fused_of_as_many_runs(
    runs: int, unseen: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [write_run(tmp_path / f"run-{number}") for number in range(runs)]
    blind = [write_run(tmp_path / f"u{number}", without=("stylegan",)) for number in range(unseen)]
    paths = rows(tmp_path / "work", monkeypatch, 20, 20)
    message = refused(paths, own, tmp_path / "pack", ",".join(map(str, blind)))
    assert f"{unseen} run(s), but {runs} are exported" in message


@pytest.mark.parametrize(
    "unseen",
    [
        [{"without": ()}],
        [{"without": ("stylegan",)}, {"without": ()}],
        [{"without": ("stylegan",)}, {"without": ("ciplab",)}],
        [{"without": ("swap",), "before": ("swap",)}],
    ],
)
def test_what_has_seen_all_does_not_calibrate(
    unseen: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what has missed nothing that its fellow missed too, nor what began with a run that had seen it."""
    own = [write_run(tmp_path / f"run-{number}") for number in range(len(unseen))]
    blind = [write_run(tmp_path / f"u{number}", **changes) for number, changes in enumerate(unseen)]
    paths = rows(tmp_path / "work", monkeypatch, 20, 20)
    assert "has seen every family" in refused(paths, own, tmp_path / "pack", ",".join(map(str, blind)))


@pytest.mark.parametrize("change", [{"margin": 1.6}, {"size": 96, "window": 96}])
def test_runs_that_see_faces_otherwise_are_not_fused(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", **change)]
    paths = rows(tmp_path / "work", monkeypatch, 20, 20)
    assert "cannot be fused; export them one by one" in refused(paths, runs, tmp_path / "pack")


# Parity


def test_parity_is_the_largest_difference_of_each_output() -> None:
    expected = [np.array([1.0, 2.0]), np.array([[[0.1, 0.2]], [[0.3, 0.4]]])]
    exported = [np.array([1.0, 1.5]), np.array([[[0.1, 0.1]], [[0.3, 0.4]]])]
    assert DetectionTask().parity(expected, exported) == {"logit": pytest.approx(0.5), "map": pytest.approx(0.1)}
    apart = DetectionTask().parity(expected, [np.array([np.nan, 2.0]), expected[1]])
    assert not apart["logit"] <= DetectionTask.parity_limit


@pytest.mark.parametrize(
    ("differences", "right"),
    [
        ({"logit": 0.09, "map": 0.04}, True),
        ({"logit": 0.11, "map": 0.0}, False),
        ({"logit": 0.0, "map": 0.06}, False),  # a probability has a limit of its own
        ({"logit": 0.0, "map": np.nan}, False),
        ({"logit": np.inf, "map": 0.0}, False),
    ],
)
def test_logit_and_map_are_bounded_each_by_its_own_limit(differences: dict[str, float], right: bool) -> None:
    assert DetectionTask().at_parity(differences) == right
