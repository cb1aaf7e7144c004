"""The evaluation on drawn faces, with detectors that know the truth, the opposite of it, or nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from fake_faces import make_faces, write_reconstructions
from progress_log import ProgressLog
from tiny_pack import make_card

from unmask.datasets.face_store import StoredFace
from unmask.lab.detection.evaluate import evaluate, tables
from unmask.lab.detection.held_out import CLEAN, JPEG50, EvalFace, make_eval_images, render
from unmask.lab.detection.reconstructions import Reconstructions
from unmask.lab.evaluate import as_markdown
from unmask.lab.task import Evaluation
from unmask.packs.card import Calibration, Metric

pytestmark = pytest.mark.lab

SIZE, MARGIN = 112, 1.4
FAMILIES = ("stylegan", "mobilestylegan", "ciplab", "selfblend", "swap", "resynthesis", "pggan")
Oracle = Callable[[EvalFace], tuple[float, np.ndarray]]


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sets here are small; that few faces are marked is tested with the tables."""
    monkeypatch.setattr("unmask.tables.LEAST", 1)


@pytest.fixture(scope="module")
def faces() -> list[StoredFace]:
    return [*make_faces("test", count=2, size=128), *make_faces("train", count=2, size=128)]


@pytest.fixture(scope="module")
def reconstructions(faces: list[StoredFace], tmp_path_factory: pytest.TempPathFactory) -> Reconstructions:
    reals = [face for face in faces if not face.sample.label and face.sample.split == "test"]
    return Reconstructions.open(write_reconstructions(reals, tmp_path_factory.mktemp("reconstructions")))


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    calibration = make_card(8, "").calibration
    assert calibration is not None
    own = replace(calibration.bins[0], slope=1.0, intercept=0.0, lower=-2.0, upper=2.0)
    return replace(calibration, bins=(own,), decision_log10_lr=0.5)


@pytest.fixture(scope="module")
def judge(
    faces: list[StoredFace], reconstructions: Reconstructions, calibration: Calibration
) -> Callable[[Oracle], Evaluation]:
    """Evaluates an oracle that knows of every face what a detector has to find out."""

    def run(oracle: Oracle) -> Evaluation:
        held = render(make_eval_images(faces, "test", FAMILIES, reconstructions, most=250), CLEAN, SIZE, MARGIN)

        def scorer(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            assert all((crop == face.crop).all() for crop, face in zip(crops, held, strict=True))
            answers = [oracle(face) for face in held]
            return np.array([logit for logit, _ in answers]), np.stack([heat for _, heat in answers])

        return evaluate(faces, "test", scorer, SIZE, MARGIN, calibration, reconstructions, (CLEAN,))

    return run


def metric_of(result: Evaluation, family: str, name: str) -> Metric:
    metric = result.value(family, name, CLEAN)
    assert metric is not None, (family, name)
    return metric


def true_map(face: EvalFace) -> np.ndarray:
    if face.regions:
        return np.max([cells * flag for cells, flag in face.regions], axis=0)
    assert face.mask is not None
    return (face.mask > 0.5 * face.mask.max()).astype(float)


@pytest.fixture(scope="module")
def known(judge: Callable[[Oracle], Evaluation]) -> Evaluation:
    """What one who knows the truth is worth."""
    return judge(lambda face: (2.0 * (2 * face.label - 1), true_map(face)))


def test_one_who_knows_is_right_in_every_number(known: Evaluation) -> None:
    result = known
    for family in FAMILIES:
        values = {metric.name: metric.value for metric in result.metrics if metric.dataset == family}
        assert (values["auc"], values["miss_at_1%"], values["miss_at_10%"]) == (1, 0, 0)
        assert values["cllr"] < 0.02 and values["cllr_min"] < 0.02
        assert (values["verdict_forged"], values["verdict_authentic"]) == (1, 0)
    assert {m.name: m.value for m in result.metrics if m.dataset == "real"} == {
        "verdict_forged": 0.0,
        "verdict_authentic": 1.0,
    }
    between = [metric.value for metric in result.metrics if metric.name == "auc_real_vs_real"]
    assert between == [0.5] * 6  # all reals say the same
    for family in ("selfblend", "swap"):
        for name in ("pointing", "iou"):
            assert metric_of(result, family, name).value > 0.8
        assert 0 < metric_of(result, family, "pointing_chance").value < 0.6
    assert metric_of(result, "ciplab", "region_agreement").value == 1


def test_one_who_knows_is_right_in_every_fifth_of_quality(
    known: Evaluation, faces: list[StoredFace], reconstructions: Reconstructions
) -> None:
    fifths = [metric for metric in known.metrics if metric.name == "auc_by_quality"]
    assert fifths and all(metric.value == 1 for metric in fifths)
    held = render(make_eval_images(faces, "test", FAMILIES, reconstructions, most=250), CLEAN, SIZE, MARGIN)
    as_they_came = [face for face in held if face.label or "@" not in face.source]
    # A fifth that holds one class alone has no area; the others hold a fifth of the faces each, but for ties.
    assert sum(metric.n_real + metric.n_forged for metric in fifths) <= len(as_they_came)
    limits = [[float(value) for value in metric.dataset.removeprefix("quality ").split("-")] for metric in fifths]
    assert limits == sorted(limits)


@pytest.mark.slow
def test_one_who_says_the_opposite_is_wrong_in_every_number(judge: Callable[[Oracle], Evaluation]) -> None:
    result = judge(lambda face: (2.0 * (1 - 2 * face.label), 1 - true_map(face)))
    for family in FAMILIES:
        values = {metric.name: metric.value for metric in result.metrics if metric.dataset == family}
        assert (values["auc"], values["miss_at_1%"]) == (0, 1) and values["cllr"] > 1
        assert (values["verdict_forged"], values["verdict_authentic"]) == (0, 1)
    assert metric_of(result, "ciplab", "region_agreement").value == metric_of(result, "swap", "pointing").value == 0


@pytest.mark.slow
def test_one_who_knows_nothing_is_a_coin_and_gives_no_verdict(judge: Callable[[Oracle], Evaluation]) -> None:
    result = judge(lambda _: (0.0, np.full((28, 28), 0.5)))
    for metric in result.metrics:
        if metric.name in ("auc", "auc_real_vs_real", "region_agreement"):
            assert metric.value == 0.5
        elif metric.name.startswith("verdict"):
            assert metric.value == 0
        elif metric.name == "cllr":
            assert metric.value == pytest.approx(1)


@pytest.mark.slow
def test_every_number_but_cllr_has_an_interval_around_it(judge: Callable[[Oracle], Evaluation]) -> None:
    rng = np.random.default_rng(0)
    result = judge(lambda _: (rng.normal(), rng.random((28, 28))))
    for metric in result.metrics:
        if metric.name.startswith("cllr"):
            assert metric.low is metric.high is None
        else:
            assert metric.low is not None and metric.high is not None
            assert metric.low <= metric.value <= metric.high
        assert metric.n_real + metric.n_forged > 0


@pytest.mark.slow
def test_without_a_calibration_there_are_no_verdicts(faces: list[StoredFace]) -> None:
    def scorer(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(len(crops), dtype=float), np.zeros((len(crops), 28, 28))

    progress = ProgressLog()
    result = evaluate(faces, "test", scorer, SIZE, MARGIN, conditions=(CLEAN, JPEG50), progress=progress)
    progress.check_bars_end()
    assert progress.stages == {"scoring": [(1, 2), (2, 2)]}
    names = {metric.name for metric in result.metrics}
    assert "auc" in names and not {name for name in names if name.startswith(("cllr", "verdict"))}
    assert {metric.dataset for metric in result.metrics if metric.name == "auc"} == {*FAMILIES} - {"resynthesis"}
    assert {metric.condition for metric in result.metrics} == {CLEAN, JPEG50}
    assert '"forged"' not in as_markdown(tables(result))


def test_the_table_holds_every_row(known: Evaluation) -> None:
    lines = as_markdown(tables(known)).splitlines()
    for family in FAMILIES:
        assert sum(line.startswith(f"| {family} | clean | 1.000 [1.000, 1.000] |") for line in lines) == 2
    assert "| real | clean | 0.000 [0.000, 0.000] | 1.000 [1.000, 1.000] | 8 |" in lines
    blocks = as_markdown(tables(known)).split("\n\n")
    assert len(blocks) == 5
    for block in blocks:
        head, rule, *rows = block.splitlines()
        assert rows and {line.count("|") for line in (head, rule, *rows)} == {head.count("|")}


def test_a_number_that_is_not_there_is_none() -> None:
    assert Evaluation("val").value("swap", "auc", CLEAN) is None
    assert as_markdown(tables(Evaluation("val"))).startswith("| family |")
