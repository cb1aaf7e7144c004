"""What an answer says of each value, kind by kind, by hand; and answers drawn as the models have them."""

import tracemalloc
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from unmask.errors import DataError
from unmask.tracing.attributes.channels import LARGEST_TABLE, smoothed
from unmask.tracing.attributes.dictionary import Attribute
from unmask.tracing.attributes.models import Categorical, Day, Model, Numeric, Ordinal, Score, Text
from unmask.tracing.registers.columns import Column, code_column


def column_of(kind: str, values: Sequence[Any], **more: Any) -> Column:
    attribute = Attribute.model_validate({"kind": kind, **more})
    column = code_column("x", attribute, pa.chunked_array([pa.array(values)]))
    assert column is not None
    return column


def model_of(kind: str, values: Sequence[Any], **more: Any) -> Model:
    return column_of(kind, values, **more).model


def weights(model: Model, answer: str) -> dict[str, float]:
    """P(answer | value) / P(answer | anybody) of each value."""
    ratios = np.exp(model.log_ratios(answer))
    assert ratios[0] == 1.0  # not recorded
    return dict(zip(model.values, ratios[1:].tolist(), strict=True))


COLOURS = ["blue"] * 4 + ["brown"] * 3 + ["green", None]
MODELS: dict[str, tuple[Model, str]] = {
    "categorical": (model_of("categorical", COLOURS, error=0.2), "brown"),
    "open": (model_of("categorical", COLOURS, error=0.2, open=True), "purple"),
    "confused": (
        model_of("categorical", COLOURS, error=0.2, confusion={"blue": {"blue": 30.0, "green": 10.0}}),
        "green",
    ),
    "ordinal": (
        model_of("ordinal", ["S", "M", "M", "L", None], error=0.2, order=["XS", "S", "M", "L"], spread=0.7),
        "L",
    ),
    "whole numbers": (model_of("numeric", [30, 31, 31, 34, None], error=0.2, spread=1.5), "32"),
    "numbers": (model_of("numeric", [-1.5, 0.25, 0.25, 1.0, None], error=0.2, spread=0.5), "-0.4"),
    "string": (model_of("string", ["martha", "martha", "marhta", "bob", "dixon", "dicksonx", None], error=0.2), "bob"),
    "date": (
        model_of("date", ["1990-01-02", "1990-01-02", "1990-02-01", "1990-07-26", "1960-12-31", None], error=0.2),
        "1990-01-02",
    ),
}
TABLED = ("categorical", "open", "confused", "ordinal", "whole numbers", "numbers")  # all that the channel says
every_kind = pytest.mark.parametrize("kind", MODELS)


@every_kind
def test_what_is_not_recorded_is_as_likely_as_anybody(kind: str) -> None:
    model, answer = MODELS[kind]
    ratios = model.log_ratios(answer)
    assert ratios.shape == model.counts.shape == (len(model.values) + 1,)
    assert ratios[0] == 0.0
    assert np.isfinite(ratios).all()


@pytest.mark.parametrize("kind", TABLED)
def test_an_answer_weighs_what_the_channel_says(kind: str) -> None:
    model, some = MODELS[kind]
    for answer in {some, *model.values}:
        outcome = model.outcome(answer)
        expected = model.channel.table()[:, outcome] / model.channel.base[outcome]
        assert np.exp(model.log_ratios(answer)) == pytest.approx(expected)


@every_kind
def test_the_true_value_is_the_likeliest(kind: str) -> None:
    model, _ = MODELS[kind]
    for value in model.values:
        code = model.code_of(value)
        assert model.values[code - 1] == value
        assert model.log_ratios(value)[code] == model.log_ratios(value).max() > 0.0


@every_kind
def test_an_uncertain_answer_is_the_mixture_of_its_values(kind: str) -> None:
    model, answer = MODELS[kind]
    other = next(value for value in model.values if value != answer)
    ratios = np.exp(model.soft_log_ratios({answer: 0.5, other: 0.3}))
    expected = 0.5 * np.exp(model.log_ratios(answer)) + 0.3 * np.exp(model.log_ratios(other)) + 0.2
    assert ratios == pytest.approx(expected)
    assert model.soft_log_ratios({answer: 1.0}) == pytest.approx(model.log_ratios(answer))
    assert model.soft_log_ratios({answer: 0.0}) == pytest.approx(np.zeros(len(model.counts)))


@pytest.mark.parametrize("shares", [{}, {"32": float("nan")}, {"32": 0.6, "33": 0.6}, {"32": -0.1, "33": 0.5}])
def test_shares_that_are_no_distribution_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(DataError, match=r"^x: an uncertain answer is shares in \[0, 1\] that sum to 1 or less"):
        MODELS["whole numbers"][0].soft_log_ratios(shares)


def test_an_uncertain_answer_of_no_value_is_refused_as_a_sure_one_is() -> None:
    with pytest.raises(DataError, match="nearest"):
        MODELS["categorical"][0].soft_log_ratios({"blue": 0.5, "purple": 0.5})


# Drawing


def chances(model: Model, code: int) -> dict[str, float]:
    """P(answer | code) of each answer that can be drawn, from the definition."""
    if isinstance(model, Text | Day):
        recorded = model.counts[1:] / model.counts[1:].sum()
        if code == 0:
            return dict(zip(model.values, recorded, strict=True))
        # Right as often as is said; levels that no value is of leave theirs to the other wrong ones.
        levels = model.levels(model.values[code - 1])
        wrong = [level for level in (1, 2, 3) if level in levels]
        of_level = {level: (1.0 - model.shares[0]) * model.shares[level] / model.shares[wrong].sum() for level in wrong}
        of_level[0] = model.shares[0]
        return {
            value: of_level[level] * share / recorded[levels == level].sum()
            for value, level, share in zip(model.values, levels, recorded, strict=True)
        }
    row = model.channel.table()[code]
    if isinstance(model, Numeric):
        return {str(outcome): share for outcome, share in enumerate(row)}
    row = row[: len(model.values)]
    return dict(zip(model.values, row / row.sum(), strict=True))


@every_kind
def test_answers_are_drawn_as_often_as_they_are_likely(kind: str) -> None:
    model, randomness, times = MODELS[kind][0], np.random.default_rng(7), 600
    for code in range(len(model.counts)):
        drawn = [model.draw(code, randomness) for _ in range(times)]
        if isinstance(model, Numeric):
            drawn = [str(model.outcome(answer)) for answer in drawn]
        expected = chances(model, code)
        assert sum(expected.values()) == pytest.approx(1.0)
        assert set(drawn) <= set(expected)
        for answer, share in expected.items():
            low, high = binom.interval(1.0 - 1e-7, times, share)
            assert low <= drawn.count(answer) <= high, (code, answer)


@every_kind
def test_the_same_randomness_draws_the_same(kind: str) -> None:
    model, _ = MODELS[kind]
    one, other = ([model.draw(1, randomness) for _ in range(20)] for randomness in map(np.random.default_rng, (3, 3)))
    assert one == other


@pytest.mark.parametrize(
    ("values", "spread"),
    [([19_900_149, 19_900_153], 1.0), ([1_234_564.25, 1_234_567.5], 0.5), ([-5_400_124.5, -5_400_120.0], 0.5)],
    ids=["dates written as numbers", "cents", "metres of a map"],
)
def test_large_numbers_are_drawn_as_near_as_small_ones(values: list[float], spread: float) -> None:
    model, randomness = model_of("numeric", values, error=1e-6, spread=spread), np.random.default_rng(0)
    assert isinstance(model, Numeric)
    drawn = [float(model.draw(1, randomness)) for _ in range(200)]
    assert max(abs(answer - values[0]) for answer in drawn) <= 6 * spread + model.step


def test_drawing_an_answer_about_many_values_needs_no_table_of_them_all() -> None:
    size = LARGEST_TABLE + 1
    model = model_of("categorical", [f"v{number:04}" for number in range(size)])
    tracemalloc.start()
    try:
        assert model.draw(1, np.random.default_rng(0)) in model.values
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < size * size * 8 / 4  # bytes; the table has this many numbers of 8 bytes


def test_answers_about_any_text_that_is_recorded_can_be_drawn() -> None:
    column = column_of("string", ["anna", " ", "bob"])
    for code in column.codes.tolist():
        assert column.model.draw(code, np.random.default_rng(0)) in column.model.values


# Another share of wrong answers


@every_kind
def test_another_error_leaves_the_rest_as_it_is(kind: str) -> None:
    model, _ = MODELS[kind]
    other = model.with_error(0.4)
    assert type(other) is type(model)
    assert (other.name, other.attribute.error) == ("x", 0.4)
    assert list(other.values) == list(model.values)
    assert other.counts.tolist() == model.counts.tolist()
    assert model.attribute.error == 0.2


@every_kind
def test_another_error_and_back_is_as_before(kind: str) -> None:
    model, answer = MODELS[kind]
    assert model.with_error(0.4).with_error(0.2).log_ratios(answer) == pytest.approx(model.log_ratios(answer))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("categorical", {}),
        ("categorical", {"confusion": {"martha": {"martha": 900.0, "bob": 100.0}}}),
        ("string", {}),
        ("string", {"levels": [0.9, 0.05, 0.03, 0.02]}),
    ],
    ids=["categorical", "categorical with confusion", "string", "string with levels"],
)
def test_with_a_larger_error_answers_drawn_are_right_less_often(kind: str, more: dict[str, Any]) -> None:
    # Beside "martha" one is nearly the same, one similar, one another.
    model, randomness = model_of(kind, [*["martha"] * 4, "marta", "maria", "bob"], **more), np.random.default_rng(0)
    code = model.code_of("martha")
    right = []
    for error in (0.1, 0.6):
        other = model.with_error(error)
        right.append(np.mean([other.draw(code, randomness) == "martha" for _ in range(400)]))
    assert right[0] > right[1] + 0.25  # of .9 and .4 or so; drawn 400 times, each is within .1


def test_a_score_with_another_error_is_the_same_score() -> None:
    model = score_of([[0.0, -1.0], [1.0, 2.0]])
    assert model.with_error(0.3).of_scores(np.array([0.5])) == pytest.approx(model.of_scores(np.array([0.5])))


# Listed values


def test_confusion_counts_are_added_to_two_answers_as_by_default() -> None:
    # Of a, a, b: frequencies 3/6, 2/6 and 1/6 for a value that no record has.
    model = model_of("categorical", ["a", "a", "b"], error=0.1, confusion={"a": {"a": 6.0, "b": 2.0}})
    base = np.array([3, 2, 1]) / 6
    default = np.array([[0.9, 0.1 * (2 / 6) / (3 / 6), 0.1 * (1 / 6) / (3 / 6)], [0.1 * 3 / 4, 0.9, 0.1 * 1 / 4]])
    expected = np.array([(2 * default[0] + [6, 2, 0]) / 10, default[1]])
    assert model.channel.base == pytest.approx(base)
    assert model.channel.table()[1:] == pytest.approx(expected)
    assert weights(model, "b") == pytest.approx({"a": expected[0, 1] / base[1], "b": 0.9 / base[1]})


@pytest.mark.parametrize("confusion", [{"c": {"a": 1.0}}, {"a": {"c": 1.0}}])
def test_a_confusion_table_of_values_that_no_record_has_is_refused(confusion: dict[str, dict[str, float]]) -> None:
    with pytest.raises(DataError, match="x: the confusion table speaks of 'c', which no record has"):
        model_of("categorical", ["a", "b"], confusion=confusion)


def test_a_confusion_table_of_too_many_values_is_refused() -> None:
    values = [f"v{number:04}" for number in range(LARGEST_TABLE + 1)]
    with pytest.raises(DataError, match=f"x: {len(values)} values are too many for a confusion table"):
        model_of("categorical", values, confusion={"v0000": {"v0001": 1.0}})


def test_a_value_that_no_record_has_tells_of_each_that_the_answer_was_wrong() -> None:
    model, _ = MODELS["open"]
    shares = dict(zip(model.values, smoothed(np.array([4, 3, 1])), strict=False))
    assert weights(model, "purple") == pytest.approx({value: 0.2 / (1 - share) for value, share in shares.items()})


@pytest.mark.parametrize("kind", ["categorical", "ordinal"])
def test_a_value_that_no_record_has_is_refused_with_the_nearest_and_the_remedy(kind: str) -> None:
    more = {"order": ["blue", "brown", "green"]} if kind == "ordinal" else {}
    model = model_of(kind, COLOURS, **more)
    with pytest.raises(DataError, match=r"^x: no record has 'gren'; nearest: 'brown', 'blue'. .* set open = true in"):
        model.log_ratios("gren")


def test_an_open_ordinal_hears_of_a_value_that_no_record_has() -> None:
    model = model_of("ordinal", ["S", "M", "L"], order=["S", "M", "L"], open=True)
    assert 0.0 < min(weights(model, "XXL").values()) <= max(weights(model, "XXL").values()) <= 1.0


@pytest.mark.parametrize("answer", ["blue", "BLUE", " blue ", "Blue"])
def test_values_are_told_without_regard_to_case_and_spaces(answer: str) -> None:
    assert weights(MODELS["categorical"][0], answer) == weights(MODELS["categorical"][0], "blue")


def test_a_value_told_as_it_is_recorded_is_that_value_and_not_one_in_another_case() -> None:
    model = model_of("categorical", ["Polish", "polish", "polish"])
    for value in ("Polish", "polish"):
        assert model.values[model.outcome(value)] == value


def test_steps_off_weigh_as_a_normal_kernel_about_the_value() -> None:
    model = model_of("ordinal", ["S", "M", "L", "L"], error=0.1, order=["S", "M", "L"], spread=0.8)
    heights = np.exp(-0.5 * (np.subtract.outer(range(3), range(3)) / 0.8) ** 2)
    kernel = heights / heights.sum(axis=1, keepdims=True)
    base = (np.array([1, 1, 2]) @ kernel + 1 / 3) / 5
    expected = (0.9 * kernel + 0.1 * base) / base
    for place, answer in enumerate("SML"):
        assert weights(model, answer) == pytest.approx(dict(zip("SML", expected[:, place], strict=True)))


def test_an_ordinal_is_in_its_order_and_may_be_told_what_nobody_has() -> None:
    order = ["tiny", "small", "big", "huge"]
    model = model_of("ordinal", ["small", "huge", "small"], order=order)
    assert isinstance(model, Ordinal)
    assert list(model.values) == order
    assert model.counts.tolist() == [0, 0, 2, 0, 1]
    ratios = weights(model, "tiny")
    assert ratios["small"] > ratios["big"] > ratios["huge"]


def test_half_a_step_is_the_spread_of_an_ordinal_unless_said_otherwise() -> None:
    order = ["S", "M", "L"]
    default, half, whole = (model_of("ordinal", order, order=order, spread=spread) for spread in (None, 0.5, 1.0))
    assert weights(default, "S") == weights(half, "S") != weights(whole, "S")


# Numbers


def test_numbers_weigh_as_a_normal_kernel_about_the_middle_of_their_step() -> None:
    # A spread of 2 on whole numbers: steps of 1, and answers some steps beyond the values.
    model = model_of("numeric", [30, 31, 31, 33], error=0.1, spread=2.0)
    assert isinstance(model, Numeric)
    assert list(model.values) == ["30", "31", "32", "33"]
    assert model.counts.tolist() == [0, 1, 2, 0, 1]
    assert model.padding >= 8  # four times the spread
    answers = np.arange(30 - model.padding, 33 + model.padding + 1)
    heights = np.exp(-0.5 * (np.subtract.outer(np.arange(30, 34), answers) / 2.0) ** 2)
    kernel = heights / heights.sum(axis=1, keepdims=True)
    base = (np.array([1, 2, 0, 1]) @ kernel + 1 / len(answers)) / 5
    for answer in (25, 30, 31, 40):
        place = answer - answers[0]
        expected = (0.9 * kernel[:, place] + 0.1 * base[place]) / base[place]
        assert list(weights(model, str(answer)).values()) == pytest.approx(expected.tolist())


@pytest.mark.parametrize("answer", ["30.4", "30.49", "29.5", "3e1", " 30 "])
def test_an_answer_between_steps_is_of_the_step_it_is_in(answer: str) -> None:
    model = model_of("numeric", [28, 30, 33], spread=1.0)
    assert weights(model, answer) == weights(model, "30")


def test_the_nearer_an_answer_the_more_it_weighs() -> None:
    model, _ = MODELS["numbers"]
    for answer in ("-1.5", "0.3", "1.1"):
        distances = np.abs(np.array([float(value) for value in model.values]) - float(answer))
        ratios = model.log_ratios(answer)[1:]
        near = np.flatnonzero(distances < 1.5)  # farther off all are wrong answers, and weigh the same
        ordered = ratios[near][np.argsort(distances[near], kind="stable")]
        assert (np.diff(ordered) < 1e-9).all()


@pytest.mark.parametrize("sign", ["", "-"])
def test_answers_far_off_are_numbers_however_far(sign: str) -> None:
    for kind in ("whole numbers", "numbers"):
        model, _ = MODELS[kind]
        far = [model.log_ratios(sign + answer) for answer in ("1e3", "1e9", "1.7e308")]
        assert np.isfinite(far).all()
        assert (far[0] == far[1]).all() and (far[1] == far[2]).all()


@pytest.mark.parametrize("answer", ["1000000", "-1000000"])
def test_an_answer_far_from_all_values_speaks_for_none_of_them(answer: str) -> None:
    # Ages: as many of each, but of the oldest and the youngest there is one.
    counts = np.array([0, 1, *[1000] * 109, 1])
    model = Numeric("age", Attribute(kind="numeric", error=0.05, spread=1.0), counts, -0.5, 1.0)
    assert max(weights(model, answer).values()) <= 1.0


def test_a_step_holds_its_lower_edge_and_not_its_upper() -> None:
    model = model_of("numeric", [10, 11, 12], spread=1.0)
    codes = {"9.49": -1, "9.5": 1, "10.49": 1, "10.5": 2, "11.5": 3, "12.49": 3, "12.5": -1, "-1e9": -1, "1e300": -1}
    assert {value: model.code_of(value) for value in codes} == codes


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_no_record_has_what_is_no_number(value: str) -> None:
    assert MODELS["numbers"][0].code_of(value) == -1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-100.0, 100.0).map(lambda number: round(number, 3)), min_size=1, max_size=8),
    st.sampled_from([0.1, 0.5, 2.0, 30.0]),
)
def test_each_number_has_a_code_whose_value_is_near(numbers, spread) -> None:
    column = column_of("numeric", numbers, spread=spread)
    model = column.model
    assert isinstance(model, Numeric)
    for number, code in zip(numbers, column.codes.tolist(), strict=True):
        assert model.code_of(repr(number)) == code > 0
        assert abs(float(model.values[code - 1]) - number) <= model.step * 0.501 + 1e-3
        assert model.outcome(repr(number)) == code - 1 + model.padding
    assert model.counts.sum() == len(numbers)


@pytest.mark.parametrize("numbers", [[-3, -1, 2], [-0.75, -0.5], [0.1, 0.2, 0.7], [-40.25]])
def test_values_of_negative_and_fractional_grids_are_found_again(numbers: list[float]) -> None:
    model = model_of("numeric", numbers, spread=0.5)
    assert [model.code_of(value) for value in model.values] == list(range(1, len(model.counts)))


@pytest.mark.parametrize(("numbers", "spread"), [([1_000_000.25, 1_000_003.5], 0.5), ([5_400_120.5, 5_400_180.0], 5.0)])
def test_values_of_large_numbers_are_told_apart(numbers: list[float], spread: float) -> None:
    column = column_of("numeric", numbers, spread=spread)
    model = column.model
    assert isinstance(model, Numeric)
    assert len(set(model.values)) == len(model.values)
    for number, code in zip(numbers, column.codes.tolist(), strict=True):
        assert abs(float(model.values[code - 1]) - number) <= model.step


@pytest.mark.parametrize("answer", ["tall", "", "nan", "inf", "-inf", "1,5,0", "10 00", "5 cm", "1e400"])
def test_what_is_no_number_is_refused(answer: str) -> None:
    with pytest.raises(DataError, match=r"^x: .* is not a number$"):
        MODELS["numbers"][0].log_ratios(answer)


# Texts

JOSE = unicodedata.normalize("NFC", "José")


@pytest.mark.parametrize(
    ("recorded", "answer"),
    [
        (JOSE, unicodedata.normalize("NFD", JOSE)),
        (unicodedata.normalize("NFD", JOSE), JOSE),
        ("José", "JOSÉ"),
        ("Straße", "STRASSE"),
        ("ﬁnn", "finn"),
        ("anna", "  Anna "),
        ("ＡＮＮＡ", "anna"),  # full width
    ],
)
def test_case_spaces_and_the_encoding_of_accents_make_no_difference(recorded: str, answer: str) -> None:
    model = model_of("string", [recorded, "somebody else"])
    assert isinstance(model, Text)
    assert model.levels(answer)[list(model.values).index(recorded)] == 0
    assert model.values[model.outcome(answer)] == recorded


# Similarities as published with the method by Winkler: .961, .84 and .813.
@pytest.mark.parametrize(
    ("recorded", "answer", "level"),
    [
        ("martha", "martha", 0),
        ("martha", "marhta", 1),
        ("MARTHA", "Marhta", 1),
        ("dwayne", "duane", 2),
        ("dixon", "dicksonx", 2),
        ("José", "Jose", 2),  # an accent is a letter's difference
        ("anna", "bob", 3),
    ],
)
def test_texts_are_the_same_nearly_the_same_similar_or_others(recorded: str, answer: str, level: int) -> None:
    model = model_of("string", [recorded])
    assert isinstance(model, Text)
    assert model.levels(answer).tolist() == [level]


def test_texts_weigh_as_m_over_u_of_their_level() -> None:
    # Beside "martha": 2 the same, 1 nearly the same, none similar, 3 others; the null counts for nobody.
    names = ["martha", "martha", "marhta", "bob", "bob", "kim", None]
    u = np.array([3, 2, 1, 4]) / (6 + 4)
    m = np.array([0.9, 0.1 * 0.6, 0.1 * 0.2, 0.1 * 0.2])
    expected = {"martha": m[0] / u[0], "marhta": m[1] / u[1], "bob": m[3] / u[3], "kim": m[3] / u[3]}
    assert weights(model_of("string", names, error=0.1), "martha") == pytest.approx(expected)
    counted = [0.7, 0.15, 0.1, 0.05]
    expected = {"martha": 0.7 / u[0], "marhta": 0.15 / u[1], "bob": 0.05 / u[3], "kim": 0.05 / u[3]}
    assert weights(model_of("string", names, levels=counted), "martha") == pytest.approx(expected)


def test_an_agreement_on_a_rare_name_weighs_more() -> None:
    model = model_of("string", ["smith"] * 50 + ["zbigniew"])
    assert weights(model, "zbigniew")["zbigniew"] > 10 * weights(model, "smith")["smith"]


def test_a_text_that_nobody_has_is_the_outcome_after_all_values() -> None:
    model, _ = MODELS["string"]
    assert model.outcome("xerxes") == len(model.values)
    assert model.code_of("xerxes") == -1


@pytest.mark.parametrize("answer", ["", "  ", "\t"])
def test_an_empty_text_is_refused_with_the_remedy(answer: str) -> None:
    with pytest.raises(DataError, match=r"x: an empty answer; say that it is unavailable with \?"):
        MODELS["string"][0].log_ratios(answer)


# Dates


@pytest.mark.parametrize(
    ("recorded", "answer", "level"),
    [
        ("1990-01-02", "1990-01-02", 0),
        ("1990-01-02", " 1990-01-02 ", 0),
        ("1990-01-02", "1980-01-02", 1),  # one digit of the year
        ("1990-01-02", "1990-11-02", 1),  # of the month
        ("1990-01-02", "1990-01-22", 1),  # of the day
        ("1999-12-31", "2000-12-31", 1),  # the neighbouring year, in four digits
        ("1990-09-05", "1990-10-05", 1),  # the neighbouring month, in two
        ("1990-01-19", "1990-01-20", 1),  # the neighbouring day, in two
        ("1990-03-04", "1990-04-03", 1),  # day and month exchanged
        ("1990-01-28", "1990-01-17", 2),  # the same year and month
        ("1990-03-04", "1990-07-26", 2),  # the same year
        ("1990-03-04", "1965-03-04", 2),  # the same day of another year
        ("1990-03-04", "1991-04-03", 3),  # exchanged, and of another year
        ("1990-01-02", "1991-01-03", 3),  # two slips
        ("1990-01-02", "2011-07-26", 3),
    ],
)
def test_dates_are_the_same_one_slip_apart_similar_or_others(recorded: str, answer: str, level: int) -> None:
    for one, other in ((recorded, answer), (answer, recorded)):
        model = model_of("date", [one])
        assert isinstance(model, Day)
        assert model.levels(other).tolist() == [level]


def test_dates_weigh_as_m_over_u_of_their_level() -> None:
    days = ["1990-03-04", "1990-03-04", "1990-04-03", "1990-07-26", "1960-12-31", None]
    u = np.array([3, 2, 2, 2]) / (5 + 4)
    m = np.array([0.9, 0.06, 0.02, 0.02])
    expected = dict(zip(("1990-03-04", "1990-04-03", "1990-07-26", "1960-12-31"), m / u, strict=True))
    assert weights(model_of("date", days, error=0.1), "1990-03-04") == pytest.approx(expected)


@pytest.mark.parametrize("answer", ["2023-02-29", "1990-13-01", "13.13.13", "31/04/1990", "yesterday", "1990", ""])
def test_what_is_no_date_is_refused_with_the_way_to_write_one(answer: str) -> None:
    with pytest.raises(DataError, match=r"^x: .* is not a date; write YYYY-MM-DD$"):
        MODELS["date"][0].log_ratios(answer)


def test_a_leap_day_is_a_date() -> None:
    assert weights(model_of("date", ["2024-02-29", "1990-07-26"]), "2024-02-29")["2024-02-29"] > 1.0


# Scores


def score_of(points: list[list[float]], **more: Any) -> Score:
    model = model_of("score", [None], log10_lr=points, **more)
    assert isinstance(model, Score)
    return model


def test_scores_are_read_off_the_table_and_no_farther_than_its_ends() -> None:
    model = score_of([[0.0, -2.0], [0.5, 0.0], [1.0, 3.0]])
    log10_ratios = model.of_scores(np.array([-7.0, 0.0, 0.25, 0.5, 0.75, 1.0, 99.0])) / np.log(10.0)
    assert log10_ratios == pytest.approx([-2.0, -2.0, -1.0, 0.0, 1.5, 3.0, 3.0])


def test_records_without_a_score_have_the_lowest_ratio_unless_said_otherwise() -> None:
    points = [[0.0, 1.0], [0.5, -2.5], [1.0, 3.0]]
    assert score_of(points).unlisted == pytest.approx(-2.5 * np.log(10.0))
    assert score_of(points, unlisted_log10_lr=-0.5).unlisted == pytest.approx(-0.5 * np.log(10.0))
    assert score_of(points, unlisted_log10_lr=0.0).unlisted == 0.0


def test_a_score_is_no_word() -> None:
    model = score_of([[0.0, -1.0], [1.0, 1.0]])
    for ask in (model.log_ratios, model.outcome, lambda answer: model.soft_log_ratios({answer: 1.0})):
        with pytest.raises(DataError, match=r"its answer is a file with a score per record, @FILE\.csv"):
            ask("0.7")
    with pytest.raises(DataError, match="scores cannot be simulated"):
        model.draw(0, np.random.default_rng(0))


def test_the_kinds_have_their_models() -> None:
    kinds = {kind: type(model) for kind, (model, _) in MODELS.items()}
    assert kinds == {
        "categorical": Categorical,
        "open": Categorical,
        "confused": Categorical,
        "ordinal": Ordinal,
        "whole numbers": Numeric,
        "numbers": Numeric,
        "string": Text,
        "date": Day,
    }
