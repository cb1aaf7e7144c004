"""What makes a pack of a detector: on what it is calibrated, at which thresholds it works, what its card says."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_faces import make_faces
from progress_log import ProgressLog
from stored_paths import SMALL, StoredPaths, stored_paths, write_run

from unmask.datasets.manifest import manifest_sha256
from unmask.errors import DataError
from unmask.lab.detection import export as measuring
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.export import calibrate, card_facts, card_metrics, known_to, missed_by, operating_points
from unmask.lab.detection.held_out import ALL_CONDITIONS, CLEAN, CONDITIONS, HALF_RESOLUTION, JPEG50, eval_faces
from unmask.lab.task import Evaluation

pytestmark = pytest.mark.lab

RUNS: dict[str, dict[str, Any]] = {
    "blends": {"families": ("selfblend",), "without": ("stylegan", "resynthesis", "swap")},
    "synthesis": {"families": ("resynthesis",), "without": ("selfblend", "swap", "stylegan")},
    "all-but-ciplab": {"families": ("stylegan", "swap"), "without": ("ciplab",)},
    "all": {"families": ("stylegan", "ciplab"), "without": ()},
    "began-with-swap": {"families": ("ciplab",), "without": ("swap",), "before": ("swap",)},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: write_run(folder / name, **changes) for name, changes in RUNS.items()}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> StoredPaths:
    return stored_paths(tmp_path_factory.mktemp("work"), [*make_faces("cal", count=3), *make_faces("train", count=1)])


@pytest.mark.parametrize(
    ("system", "missed", "known"),
    [
        (("blends",), {"stylegan", "resynthesis", "swap"}, {"selfblend"}),
        (("blends", "synthesis"), {"stylegan", "swap"}, {"selfblend", "resynthesis"}),
        (("blends", "all-but-ciplab"), set(), {"selfblend", "stylegan", "swap"}),
        (("began-with-swap",), set(), {"ciplab", "swap"}),
        (("all",), set(), {"stylegan", "ciplab"}),
    ],
)
def test_what_fused_runs_missed_and_what_they_know(
    system: tuple[str, ...], missed: set[str], known: set[str], runs: dict[str, Path]
) -> None:
    """All of them must have missed it, and what they began with; one of them is enough to know it."""
    folders = [runs[name] for name in system]
    assert set(missed_by(folders)) == missed and set(known_to(folders)) == known


@dataclass
class Fitted:
    """Stands for a calibration."""

    held_out: bool = False


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a calibration is fitted on, in place of the fit."""
    calls: list[Any] = []

    def fit(*given: Any) -> Fitted:
        calls.append(given)
        return Fitted()

    monkeypatch.setattr(measuring, "fit_calibration", fit)
    monkeypatch.setattr(
        measuring, "scorer_of_runs", lambda folders: lambda crops: (np.full(len(crops), len(folders)), None)
    )
    return calls


def test_a_fused_detector_is_calibrated_on_what_none_of_its_members_saw(
    runs: dict[str, Path], paths: StoredPaths, fitted: list[Any]
) -> None:
    systems = [[runs["blends"], runs["synthesis"]], [runs["all-but-ciplab"]]]
    progress = ProgressLog()
    calibrate(paths, systems, paths.faces(), 1.4, 64, progress)
    ((scored, _, data, *_),) = fitted
    families = {logit: {face.family for face in scored if face.logit == logit} for logit in (2, 1)}
    assert families == {2: {"real", "stylegan", "swap"}, 1: {"real", "ciplab"}}
    # Three reals of each of four sources, as many swaps, three of StyleGAN or CIPLAB and one more of the train split,
    # which is new to whoever missed its family; under six conditions.
    assert [sum(face.logit == logit for face in scored) for logit in (2, 1)] == [6 * (12 + 12 + 4), 6 * (12 + 4)]
    assert {face.kind for face in scored} == {"", "swap", "synthesis", "composite"}
    assert "greyscale" in {face.condition for face in scored}
    assert {face.label for face in scored if face.family == "real"} == {0}
    assert "without stylegan+swap; ciplab" in data and "clean / jpeg50 / half_resolution" in data
    progress.check_bars_end()
    assert progress.stages["scoring the cal split"][-1] == (12, 12)


def test_reals_of_a_source_are_scored_by_those_to_which_it_is_new(tmp_path: Path, fitted: list[Any]) -> None:
    """All of them, but those of the test split; the others by all detectors, if they are of the cal split."""
    sources = ("ffhq", "ciplab", "celebamask", "utkface")
    one = write_run(tmp_path / "one", families=("swap",), without=("ciplab",), sources=sources[:3])
    two = write_run(tmp_path / "two", families=("swap",), without=("stylegan",), sources=sources)
    faces = [face for split in ("cal", "train", "val", "test") for face in make_faces(split, count=2)]
    numbered = [
        replace(face, sample=replace(face.sample, path=f"{face.sample.split}-{face.sample.path}")) for face in faces
    ]
    paths = stored_paths(tmp_path / "work", numbered)
    calibrate(paths, [[one], [two, two]], paths.faces(), 1.4, 64, ProgressLog())
    ((scored, _, data, *_),) = fitted
    still = [face for face in scored if not face.label]
    counts = {(face.source, face.logit): 0 for face in still}
    for face in still:
        counts[face.source, face.logit] += 1
    # Six conditions of two faces a split; of UTKFace those of three splits, and by the first detector alone.
    assert counts.pop(("utkface", 1.0)) == 6 * 2 * 3
    assert counts == {(source, logit): 12 for source in sources[:3] for logit in (1.0, 2.0)}
    forged = {(face.family, face.logit): 0 for face in scored if face.label}
    assert set(forged) == {("ciplab", 1.0), ("stylegan", 2.0)}
    assert "sources utkface" in data


def test_without_a_blind_detector_the_runs_are_calibrated_on_what_they_know(
    runs: dict[str, Path], paths: StoredPaths, fitted: list[Any]
) -> None:
    calibrate(paths, [], paths.faces(), 1.4, 64, ProgressLog(), [runs["began-with-swap"]])
    ((scored, _, data, *_),) = fitted
    assert {face.family for face in scored} == {"real", "ciplab", "swap"} and "trained on ciplab+swap" in data


@pytest.mark.parametrize("system", [["all"], ["blends", "all"], ["blends", "all-but-ciplab"], ["began-with-swap"]])
def test_a_detector_that_has_seen_all_is_no_calibration(
    system: list[str], runs: dict[str, Path], paths: StoredPaths
) -> None:
    with pytest.raises(DataError, match="has seen every family"):
        calibrate(paths, [[runs[name] for name in system]], paths.faces(), 1.4, 64, ProgressLog())


def test_a_cal_split_of_one_class_is_refused(runs: dict[str, Path], tmp_path: Path, fitted: list[Any]) -> None:
    alone = stored_paths(tmp_path, [face for face in make_faces("cal", count=1) if not face.sample.label])
    with pytest.raises(DataError, match="the cal split has no real or no forged faces"):
        calibrate(alone, [[runs["all-but-ciplab"]]], alone.faces(), 1.4, 64, ProgressLog())
    assert not fitted


def test_thresholds_let_as_many_reals_through_as_they_say(paths: StoredPaths) -> None:
    """Twelve reals score 0 to 11: at ten per cent one of them may lie above; of three forgeries two do."""
    faces = paths.faces()
    held = eval_faces(faces, "cal", ("ciplab",), CLEAN, 64, 1.4)
    assert sum(not face.label for face in held) == 12 and sum(face.label for face in held) == 3

    def score(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        reals, forged = iter(range(12)), iter((5.0, 10.5, 20.0))
        logits = [float(next(forged if face.label else reals)) for face in held]
        return np.array(logits), np.zeros((len(crops), 4, 4))

    one, ten = operating_points(faces, score, 64, 1.4, ("ciplab",))
    assert (one.false_alarm_rate, ten.false_alarm_rate) == (0, round(1 / 12, 4))
    assert (one.hit_rate, ten.hit_rate) == (round(1 / 3, 4), round(2 / 3, 4))
    assert (one.threshold, ten.threshold) == pytest.approx((1 / (1 + np.exp(-11)), 1 / (1 + np.exp(-10))), abs=1e-6)


def test_the_card_says_what_was_trained_on_what(paths: StoredPaths) -> None:
    faces = paths.faces()
    training = [face.sample for face in faces if face.sample.split == "train"]
    config = replace(SMALL, families=("swap", "stylegan"), before=("ciplab",), spectra=("nir",))
    alone = card_facts([config], faces, blind=False)
    assert "fused" not in alone.description and "fedforgery" in alone.description and "'width': 8" in alone.description
    assert alone.training_data_sha256 == manifest_sha256(training) and alone.spectra == ("nir",)
    for name in ("celebamask", "ciplab", "ffhq", "utkface", "swap", "stylegan"):
        assert name in alone.training_data
    assert "trained on: on any other family" in " ".join(alone.limits)
    assert "non-commercial" in alone.training_data_terms

    fused = card_facts([config, DetectionTrainConfig(method="plain")], faces, blind=True)
    assert "2 networks, fused" in fused.description and "plain" in fused.description
    assert "had not been trained on" in " ".join(fused.limits)


def test_of_a_users_own_data_the_card_claims_nothing(tmp_path: Path) -> None:
    faces = [replace(face, sample=replace(face.sample, source="mine")) for face in make_faces("train", count=1)]
    own = card_facts([SMALL], faces, blind=True)
    assert "not stated" in own.training_data_terms and not any("UTKFace" in limit for limit in own.limits)


def test_conditions_are_those_of_the_card() -> None:
    assert CONDITIONS == (CLEAN, JPEG50, HALF_RESOLUTION) == ("clean", "jpeg50", "half_resolution")


def test_a_detector_with_nothing_new_to_score_is_passed_over(tmp_path: Path, fitted: list[Any]) -> None:
    """No picture of the family that the second missed is there, and every source is new to the first."""
    first = write_run(tmp_path / "first", families=("swap",), without=("ciplab",), sources=("elsewhere",))
    second = write_run(tmp_path / "second", families=("swap",), without=("pggan",))
    paths = stored_paths(tmp_path / "work", make_faces("cal", count=2))
    progress = ProgressLog()
    calibrate(paths, [[first], [second, second]], paths.faces(), 1.4, 64, progress)
    ((scored, *_),) = fitted
    assert {face.logit for face in scored} == {1.0}
    progress.check_bars_end()


def test_a_card_has_few_of_an_evaluations_numbers() -> None:
    """In their order: AUC and what reals are called under every condition, the rest of clean pictures, one pair."""
    result = Evaluation("test")
    for condition in ALL_CONDITIONS:
        for family in ("real", "swap"):
            for name in ("auc", "auc_spectrum", "cllr", "cllr_min", "miss_at_1%", "miss_at_10%", "verdict_forged"):
                result.add(family, name, condition, 0.6, 0.5, 0.7, np.array([0, 1]))
        for pair, value in (("a vs b", 0.6), ("a vs c", 0.3), ("b vs c", 0.5)):
            result.add(pair, "auc_real_vs_real", condition, value, 0.2, 0.7, np.array([0, 0]))
    result.add("swap", "pointing", CLEAN, 0.6, 0.5, 0.7, np.array([1]))
    kept = card_metrics(result.metrics)
    assert kept == [metric for metric in result.metrics if metric in kept]
    of_clean = {(m.dataset, m.name) for m in kept if m.condition == CLEAN}
    both = {(family, name) for family in ("real", "swap") for name in ("auc", "cllr", "miss_at_1%", "verdict_forged")}
    assert of_clean == both | {("a vs c", "auc_real_vs_real"), ("swap", "pointing")}
    for condition in set(ALL_CONDITIONS) - {CLEAN}:
        there = {(m.dataset, m.name) for m in kept if m.condition == condition}
        assert there == {("real", "auc"), ("swap", "auc"), ("real", "verdict_forged")}
    assert card_metrics([]) == []
