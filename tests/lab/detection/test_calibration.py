import math
from typing import Any

import numpy as np
import pytest

from unmask.errors import DataError
from unmask.evidence.likelihood import decide, likelihood_ratio
from unmask.evidence.report import Verdict
from unmask.lab.detection.calibration import Scored, balance, fit_calibration
from unmask.packs.card import Calibration

pytestmark = pytest.mark.lab


def simulate(
    count: int, gap: float, seed: int = 0, quality: tuple[float, float] = (0, 100), shift: float = 0.0
) -> list[Scored]:
    """Logits from two normal distributions, 2 * gap apart: their log10 LR is 2 * gap * (logit - shift) / ln 10."""
    rng = np.random.default_rng(seed)
    return [
        Scored(
            float(rng.normal(shift + (gap if label else -gap), 1)),
            float(rng.uniform(*quality)),
            label,
            "swap" if label else "real",
            "ffhq",
        )
        for label in (0, 1)
        for _ in range(count)
    ]


def fit(faces: list[Scored], edges: tuple[float, ...] = (), **how: Any) -> Calibration:
    return fit_calibration(faces, edges, "simulated", 20.0, 32.0, **how)


@pytest.mark.parametrize(("gap", "shift"), [(1.0, 0.0), (0.6, 3.0)])
def test_it_finds_the_relation_the_scores_were_drawn_from(gap: float, shift: float) -> None:
    (fitted,) = fit(simulate(3000, gap, shift=shift)).bins
    slope = 2 * gap / math.log(10)
    assert fitted.slope == pytest.approx(slope, rel=0.08)
    assert fitted.intercept == pytest.approx(-slope * shift, abs=0.08 * (1 + abs(slope * shift)))
    assert (fitted.quality_min, fitted.quality_max, fitted.n_real, fitted.n_forged) == (0, 100, 3000, 3000)


def test_useless_scores_say_nothing() -> None:
    calibration = fit(simulate(800, 0.0))
    assert abs(calibration.bins[0].slope) < 0.05
    assert calibration.cllr == pytest.approx(1.0, abs=0.02)


def test_good_scores_cost_little() -> None:
    calibration = fit(simulate(1000, 2.0))
    assert calibration.cllr < 0.25
    assert calibration.cllr_min <= calibration.cllr


@pytest.mark.parametrize("count", [50, 100, 500])
@pytest.mark.parametrize("gap", [0.5, 10.0])
def test_bounds_stay_within_what_the_counts_can_bear(count: int, gap: float) -> None:
    (fitted,) = fit(simulate(count, gap)).bins
    assert -math.log10(count + 1) <= fitted.lower <= 0 <= fitted.upper <= math.log10(count + 1)


def test_bounds_come_from_faces_as_they_are() -> None:
    """Few reals of one source beside many of another: balancing repeats them, the bounds must not believe it."""
    faces = simulate(100, 10.0)
    reals = [face for face in faces if not face.label]
    faces += [Scored(face.logit, face.quality, 0, "real", "utkface") for face in reals[:3]]
    (fitted,) = fit(faces).bins
    assert (fitted.n_real, fitted.n_forged) == (103, 100)
    assert fitted.upper <= math.log10(104)


@pytest.mark.parametrize("label", [0, 1])
def test_too_few_faces_are_refused(label: int) -> None:
    faces = [face for face in simulate(200, 1.0) if face.label != label]
    for few in (0, 49):
        with pytest.raises(DataError, match=f"fewer than 50 {('real', 'forged')[label]} faces"):
            fit(faces + [face for face in simulate(200, 1.0) if face.label == label][:few])


@pytest.mark.parametrize("poor", [0, 49])
def test_a_bin_without_faces_is_joined_to_its_neighbour(poor: int) -> None:
    calibration = fit(simulate(200, 1.0, quality=(60, 100)) + simulate(poor, 1.0, 1, (0, 60)), edges=(60.0, 80.0))
    assert [(fitted.quality_min, fitted.quality_max) for fitted in calibration.bins] == [(0, 80), (80, 100)]
    assert math.isfinite(likelihood_ratio(calibration, 1.0, 5.0))


def test_quality_has_bins_of_its_own() -> None:
    poor, good = simulate(1500, 0.3, 1, (0, 59.9)), simulate(1500, 1.5, 2, (60, 100))
    calibration = fit(poor + good, edges=(60.0,))
    low, high = calibration.bins
    assert (low.quality_max, high.quality_min) == (60, 60)
    assert low.slope == pytest.approx(0.6 / math.log(10), rel=0.2)
    assert high.slope == pytest.approx(3.0 / math.log(10), rel=0.15)
    assert (low.n_real, high.n_real) == (1500, 1500)
    # One logit is weak evidence on a poor picture and stronger evidence on a good one.
    assert likelihood_ratio(calibration, 1.0, 100.0) > 2 * likelihood_ratio(calibration, 1.0, 10.0) > 0


def test_a_face_at_the_edge_counts_once() -> None:
    faces = simulate(100, 1.0, quality=(0, 59)) + simulate(100, 1.0, 1, quality=(61, 99))
    faces += [Scored(0.0, value, label, "swap", "ffhq") for value in (60.0, 100.0) for label in (0, 1)]
    bins = fit(faces, edges=(60.0,)).bins
    assert [(fitted.n_real, fitted.n_forged) for fitted in bins] == [(100, 100), (102, 102)]


def test_more_logit_never_means_less_evidence() -> None:
    """Scores that point the wrong way yield no evidence, not reversed or invented evidence."""
    for shift in (0.0, 5.0):
        wrong = [Scored(f.logit, f.quality, 1 - f.label, f.family, f.source) for f in simulate(400, 1.0, shift=shift)]
        wrong = [Scored(f.logit, f.quality, f.label, "swap" if f.label else "real", "ffhq") for f in wrong]
        calibration = fit(wrong)
        assert calibration.bins[0].slope == 0
        for logit in (-10.0, 0.0, shift, 30.0):
            assert abs(likelihood_ratio(calibration, logit, 50.0)) < 0.1
    right = fit(simulate(400, 1.0))
    values = [likelihood_ratio(right, logit, 50.0) for logit in np.linspace(-8, 8, 50)]
    assert values == sorted(values)


@pytest.mark.parametrize("gap", [0.3, 1.0, 2.0])
def test_few_reals_are_called_forged(gap: float) -> None:
    faces = simulate(600, gap, quality=(0, 59)) + simulate(600, gap, 1, quality=(60, 100))
    calibration = fit(faces, edges=(60.0,))
    assert calibration.decision_log10_lr >= 0.3
    assert calibration.decision_log10_lr * 20 == pytest.approx(round(calibration.decision_log10_lr * 20))
    verdicts = [
        decide(likelihood_ratio(calibration, face.logit, face.quality), calibration) for face in faces if not face.label
    ]
    assert verdicts.count(Verdict.FORGED) <= 0.05 * len(verdicts) + 1


def test_it_repeats_itself() -> None:
    faces = simulate(200, 1.0)
    faces += [Scored(f.logit, f.quality, f.label, "ciplab", "utkface") for f in simulate(60, 1.0, 3)]
    assert fit(faces, seed=4) == fit(faces, seed=4)


def test_balance_gives_every_group_the_same_weight() -> None:
    faces = [Scored(0.0, 50.0, 0, "real", source) for source, n in (("a", 10), ("b", 40), ("c", 20)) for _ in range(n)]
    faces += [Scored(1.0, 50.0, 1, family, "a") for family, n in (("swap", 5), ("ciplab", 9)) for _ in range(n)]
    some = balance(faces, np.random.default_rng(0))
    groups: dict[tuple[int, str], int] = {}
    for face in some:
        key = (face.label, face.family if face.label else face.source)
        groups[key] = groups.get(key, 0) + 1
    assert groups == {(0, "a"): 20, (0, "b"): 20, (0, "c"): 20, (1, "swap"): 7, (1, "ciplab"): 7}


def test_balance_repeats_none_where_there_are_enough() -> None:
    faces = [Scored(float(n), 50.0, label, "swap", "a") for label in (0, 1) for n in range(30)]
    some = balance(faces, np.random.default_rng(0))
    assert sorted((f.label, f.logit) for f in some) == sorted((f.label, f.logit) for f in faces)


def of_sources(alarms: dict[str, float], condition: str = "", count: int = 200, seed: int = 0) -> list[Scored]:
    """Reals of sources of which a share scores as forgeries do, and forgeries of two kinds."""
    rng = np.random.default_rng(seed)
    faces = []
    for source, share in alarms.items():
        high = np.arange(count) < share * count
        faces += [
            Scored(float(rng.normal(3 if one else -3, 0.5)), 90.0, 0, "real", source, "", condition) for one in high
        ]
    for kind in ("swap", "synthesis"):
        logits = rng.normal(3, 0.5, count)
        faces += [Scored(float(logit), 90.0, 1, f"{kind}-1", "web", kind, condition) for logit in logits]
    return faces


def test_the_limit_keeps_false_alarms_low_on_average_and_on_the_worst_source() -> None:
    quiet = fit([*of_sources({"a": 0.0, "b": 0.005, "c": 0.01}, "still")])
    (limit,) = quiet.conditions
    assert limit.condition == "still" and limit.decision_log10_lr == 0.3
    assert limit.false_alarms <= 0.01 and limit.worst_source == "c"
    assert limit.worst_false_alarms == pytest.approx(0.01, abs=0.001)
    assert limit.authentic > 0.98 and limit.misses == 0.0
    assert (limit.n_real, limit.n_forged) == (600, 400)


@pytest.mark.parametrize("alarms", [{"a": 0.2, "b": 0.0}, {f"s{n}": 0.06 if not n else 0.0 for n in range(10)}])
def test_the_worst_source_and_the_average_both_count(alarms: dict[str, float]) -> None:
    """Reals whose logits are those of forgeries leave no limit but one that finds little."""
    calibration = fit(of_sources(alarms, "enlarged"))
    (limit,) = calibration.conditions
    decision = limit.decision_log10_lr
    assert decision is None or decision > 0.3
    if decision is None:
        assert max(alarms, key=lambda name: alarms[name]) in limit.reason
        assert decide(2.0, calibration, "enlarged") is Verdict.REFUSED
    else:
        assert limit.false_alarms <= 0.01 and limit.worst_false_alarms <= 0.05


def test_conditions_have_bins_and_limits_of_their_own() -> None:
    still = of_sources({"a": 0.0, "b": 0.0}, "still")
    shifted = [
        Scored(face.logit + 4, face.quality, face.label, face.family, face.source, face.kind, "video frame")
        for face in of_sources({"a": 0.0, "b": 0.0}, seed=1)
    ]
    few = [Scored(0.0, 50.0, label, "x", "a", "swap", "greyscale") for label in (0, 1) for _ in range(5)]
    calibration = fit([*still, *shifted, *few])
    assert [part.condition for part in calibration.bins] == ["", "still", "video frame"]
    assert {limit.condition for limit in calibration.conditions} == {"still", "video frame", "greyscale"}
    assert likelihood_ratio(calibration, 2.0, 90.0, "still") > 0.5
    assert likelihood_ratio(calibration, 2.0, 90.0, "video frame") < -0.5
    pooled = likelihood_ratio(calibration, 2.0, 90.0)
    assert likelihood_ratio(calibration, 2.0, 90.0, "greyscale") == pooled
    assert likelihood_ratio(calibration, 2.0, 90.0, "enlarged") == pooled


def test_a_condition_without_one_class_cannot_be_judged() -> None:
    only_real = [face for face in of_sources({"a": 0.0}, "greyscale") if not face.label]
    calibration = fit([*of_sources({"a": 0.0, "b": 0.0}, "still"), *only_real])
    limit = calibration.limit("greyscale")
    assert limit is not None and limit.decision_log10_lr is None and "no forged faces" in limit.reason
    assert decide(5.0, calibration, "greyscale") is Verdict.REFUSED
    assert decide(5.0, calibration, "still") is Verdict.FORGED
    assert calibration.limit("enlarged") is None
    assert decide(5.0, calibration, "enlarged") is Verdict.FORGED
