"""The spread of likelihood ratios on a card, and the curves drawn from it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.errors import PackError
from unmask.evidence.charts import ece_plot, tippett_plot
from unmask.packs import load_pack
from unmask.packs.validation import LrValidation

SMALL = LrValidation(
    data="four faces",
    log10_lr=(-1.0, 0.0, 1.0),
    real=(0.5, 0.5, 0.0),
    forged=(0.0, 0.25, 0.75),
    best=(-6.0, -0.301, 6.0),
    n_real=2,
    n_forged=4,
    refused_real=0,
    refused_forged=1,
    command="",
    versions={},
)


def test_shares_above_a_value() -> None:
    assert SMALL.above(-2) == (1.0, 1.0) and SMALL.above(-1) == (0.5, 1.0)
    assert SMALL.above(0) == (0.0, 0.75) and SMALL.above(1) == (0.0, 0.0)


def test_the_cross_entropy_at_even_odds_is_cllr_by_its_definition() -> None:
    forged = 0.25 * math.log2(1 + 1) + 0.75 * math.log2(1 + 0.1)
    real = 0.5 * math.log2(1 + 0.1) + 0.5 * math.log2(1 + 1)
    assert SMALL.cllr == pytest.approx((forged + real) / 2)
    assert SMALL.cross_entropy(0.0)[2] == pytest.approx(1.0)


@given(st.floats(-4, 4))
def test_a_system_that_says_nothing_has_the_entropy_of_the_odds(odds: float) -> None:
    chance = 1 / (1 + 10**-odds)
    entropy = -chance * math.log2(chance) - (1 - chance) * math.log2(1 - chance)
    assert SMALL.cross_entropy(odds)[2] == pytest.approx(entropy, abs=1e-9)


@pytest.mark.parametrize(
    "changes",
    [{"real": (0.5, 0.5)}, {"real": (0.5, 0.6, 0.0)}, {"forged": (-0.1, 0.35, 0.75)}, {"log10_lr": (0.0, -1.0, 1.0)}],
)
def test_numbers_that_make_no_sense_are_refused(changes: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(PackError, match="'x': validation needs"):
        replace(SMALL, **changes).check("x")  # type: ignore[arg-type]


def test_plots_lie_on_their_canvas_and_begin_and_end_where_shares_do() -> None:
    plot = tippett_plot(SMALL, 0.5)
    for curve in plot.curves:
        points = [tuple(map(float, point.split(","))) for point in curve.points.split()]
        assert all(0 <= x <= plot.width and 0 <= y <= plot.height for x, y in points)
        assert points[0][1] == plot.y_ticks[-1][0] and points[-1][1] == plot.y_ticks[0][0]
        assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert plot.mark is not None and plot.x_ticks[2][0] < plot.mark < plot.x_ticks[3][0]
    ece = ece_plot(SMALL)
    assert [curve.style for curve in ece.curves] == ["measured", "best", "nothing"]
    assert f"{SMALL.cllr:.3f} bits" in ece.description


def test_the_embedded_detector_has_one() -> None:
    validation = load_pack("plain").card.validation
    assert validation is not None and validation.n_real > 1000 and validation.n_forged > 500
    assert validation.cllr_min <= validation.cllr < 1


@pytest.mark.lab
def test_faces_weigh_by_their_group_and_the_best_are_those_of_pav() -> None:
    pytest.importorskip("sklearn")
    from unmask.lab.detection.validation import validation_of
    from unmask.lab.metrics import log_lr_cost, log_lr_cost_min

    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 300)
    values = np.round(rng.normal(np.where(labels, 0.6, -0.4), 0.7), 2)
    made = validation_of(values.tolist(), labels.tolist(), ["one"] * 600, "made", (3, 4))
    made.check("made")
    assert made.cllr == pytest.approx(log_lr_cost(labels, values), abs=1e-4)
    assert made.cllr_min == pytest.approx(log_lr_cost_min(labels, values), abs=2e-3)
    groups = ["large"] * 299 + ["small"] + ["one"] * 300
    weighed = validation_of(values.tolist(), labels.tolist(), groups, "made")
    place = weighed.log10_lr.index(float(values[299]))
    assert weighed.real[place] >= 0.5
