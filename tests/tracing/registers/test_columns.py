"""Columns of every type become codes from which the values can be told again; what cannot be is named."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_registers import dictionary_of

from unmask.errors import DataError
from unmask.tracing.attributes.dictionary import Attribute
from unmask.tracing.attributes.models import Numeric, Score
from unmask.tracing.attributes.values import not_recorded, truth_of
from unmask.tracing.registers.columns import (
    Column,
    check_columns,
    code_column,
    code_values,
    grid,
    narrow,
    notes_on,
    together,
)

CATEGORICAL = Attribute(kind="categorical")
NUMERIC = Attribute(kind="numeric", spread=1.0)
DATE = Attribute(kind="date")
SIZES = Attribute(kind="ordinal", order=("S", "M", "L"))


def chunked(*chunks: Sequence[Any] | pa.Array, type: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([one if isinstance(one, pa.Array) else pa.array(one, type) for one in chunks], type)


def coded(attribute: Attribute, column: pa.ChunkedArray) -> Column:
    result = code_column("x", attribute, column)
    assert result is not None
    return result


def read_back(column: Column) -> list[str | None]:
    return [column.model.values[code - 1] if code else None for code in column.codes.tolist()]


# Texts


def is_read_otherwise(text: str) -> bool:
    """Whether a text stands for "not recorded", or says yes or no."""
    return bool(not_recorded("x", None, [text])[0]) or truth_of(text) is not None


texts = st.one_of(
    st.none(),
    st.sampled_from(["", "a", "b", "007", "Null", "none"]),
    st.text(max_size=5).filter(lambda text: text == text.strip() and text.isalpha() and not is_read_otherwise(text)),
)


@st.composite
def text_columns(draw) -> tuple[list[str | None], pa.ChunkedArray]:
    """Texts, and a column of them: in chunks, plain or encoded, each chunk with a dictionary of its own."""
    chunks = draw(st.lists(st.lists(texts, max_size=6), max_size=4))
    arrays = [pa.array(chunk, pa.string()) for chunk in chunks]
    if draw(st.booleans()):
        arrays = [array.dictionary_encode() for array in arrays]
    kind = arrays[0].type if arrays else pa.string()
    return [value for chunk in chunks for value in chunk], pa.chunked_array(arrays, kind)


@settings(max_examples=80, deadline=None)
@given(text_columns())
def test_texts_can_be_told_again_from_their_codes(drawn) -> None:
    values, column = drawn
    expected = [value or None for value in values]
    result = code_column("x", CATEGORICAL, column)
    if not any(expected):
        assert result is None
        return
    assert result is not None
    assert read_back(result) == expected
    assert list(result.model.values) == sorted(set(filter(None, expected)))
    assert result.model.counts.tolist() == np.bincount(result.codes, minlength=len(result.model.values) + 1).tolist()
    for value in filter(None, expected):
        assert result.model.values[result.model.code_of(value) - 1] == value


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_texts_of_every_type_are_coded_alike(kind: pa.DataType) -> None:
    column = coded(CATEGORICAL, chunked(["b", None], ["a", ""], type=kind))
    assert read_back(column) == ["b", None, "a", None]


def test_values_that_a_dictionary_lists_and_no_record_has_are_none() -> None:
    encoded = pa.DictionaryArray.from_arrays(pa.array([2, 0, None, 2], pa.int8()), pa.array(["a", "unused", "c", ""]))
    column = coded(CATEGORICAL, chunked(encoded))
    assert read_back(column) == ["c", "a", None, "c"]
    assert list(column.model.values) == ["a", "c"]


def test_values_that_no_record_has_do_not_have_to_fit_the_kind() -> None:
    for attribute, value in ((NUMERIC, "7"), (DATE, "1990-01-02"), (SIZES, "M")):
        encoded = pa.DictionaryArray.from_arrays(pa.array([1, 1], pa.uint8()), pa.array(["nonsense", value]))
        column = coded(attribute, chunked(encoded))
        assert column.model.counts.sum() == column.model.counts[column.model.code_of(value)] == 2


def test_a_value_that_a_dictionary_lists_twice_is_one_value() -> None:
    encoded = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2], pa.int8()), pa.array(["a", "b", "a"]))
    assert coded(CATEGORICAL, chunked(encoded)).codes.tolist() == [1, 2, 1]


@pytest.mark.parametrize("attribute", [CATEGORICAL, NUMERIC, DATE, SIZES], ids=lambda attribute: attribute.kind)
@pytest.mark.parametrize(
    "column",
    [
        chunked([None, None], type=pa.string()),
        chunked(["", None]),
        chunked(pa.nulls(3)),
        chunked(type=pa.string()),
        chunked([None, None], type=pa.int64()),
        chunked([None, None], type=pa.date32()),
    ],
    ids=["nulls of text", "empty texts", "nulls", "no chunks", "nulls of numbers", "nulls of dates"],
)
def test_a_column_in_which_nothing_is_recorded_is_none(attribute: Attribute, column: pa.ChunkedArray) -> None:
    assert code_column("x", attribute, column) is None


def test_true_and_false_are_values() -> None:
    assert read_back(coded(CATEGORICAL, chunked([True, None, False]))) == ["true", None, "false"]


def test_whole_numbers_may_be_categories() -> None:
    assert read_back(coded(CATEGORICAL, chunked([10, None, 9, 10]))) == ["10", None, "9", "10"]


def test_what_is_not_a_number_is_not_recorded_whatever_the_kind() -> None:
    for attribute in (CATEGORICAL, Attribute(kind="ordinal", order=("36.5", "37.5")), Attribute(kind="string")):
        assert read_back(coded(attribute, chunked([36.5, float("nan"), 37.5]))) == ["36.5", None, "37.5"]


def test_an_ordinal_is_coded_in_its_order_whether_or_not_all_of_it_is_there() -> None:
    column = coded(SIZES, chunked(["L", "S", None, "L"]))
    assert column.codes.tolist() == [3, 1, 0, 3]
    assert column.model.counts.tolist() == [1, 1, 0, 2]


def test_a_score_has_no_column() -> None:
    attribute = Attribute(kind="score", log10_lr=((0.0, -1.0), (1.0, 1.0)))
    column = coded(attribute, chunked(pa.nulls(3)))
    assert column.codes.tolist() == [0, 0, 0]
    assert isinstance(column.model, Score)


# Dates


@pytest.mark.parametrize(
    "column",
    [
        chunked(["1990-01-02", None, "1985-07-26"]),
        chunked([date(1990, 1, 2), None, date(1985, 7, 26)]),
        chunked([date(1990, 1, 2), None, date(1985, 7, 26)], type=pa.date64()),
        chunked([datetime(1990, 1, 2, 23, 59), None, datetime(1985, 7, 26)]),
        chunked(["1990-01-02", None, "1985-07-26"]).dictionary_encode(),
    ],
    ids=["text", "days", "milliseconds", "times", "encoded"],
)
def test_dates_of_every_type_are_coded_alike(column: pa.ChunkedArray) -> None:
    result = coded(DATE, column)
    assert read_back(result) == ["1990-01-02", None, "1985-07-26"]
    assert list(result.model.values) == ["1985-07-26", "1990-01-02"]


def test_times_of_one_day_are_one_date() -> None:
    column = coded(DATE, chunked([datetime(1990, 1, 2, 8), datetime(1990, 1, 2, 20)]))
    assert column.codes.tolist() == [1, 1]


# Numbers


def nearby(column: Column, numbers: Sequence[float | None]) -> bool:
    """Whether each number has the code of a value half a step away at most."""
    assert isinstance(column.model, Numeric)
    low, step = column.model.low, column.model.step
    return all(
        code == 0 if number is None else code > 0 and low + (code - 1) * step <= number < low + code * step
        for code, number in zip(column.codes.tolist(), numbers, strict=True)
    )


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint16(), pa.int64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(9, 2)], ids=str
)
def test_numbers_of_every_type_are_coded_alike(kind: pa.DataType) -> None:
    numbers = [30, None, 34, 30]
    assert read_back(coded(NUMERIC, chunked(numbers[:2], numbers[2:], type=kind))) == ["30", None, "34", "30"]


def test_numbers_written_as_text_are_numbers() -> None:
    column = coded(NUMERIC, chunked(["030", "", "34", None, " 30.0", "3.4e1"]))
    assert read_back(column) == ["30", None, "34", None, "30", "34"]


def test_encoded_numbers_are_numbers() -> None:
    assert read_back(coded(NUMERIC, chunked([5, 7, None, 5]).dictionary_encode())) == ["5", "7", None, "5"]


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()], ids=str)
def test_what_is_not_finite_is_not_recorded(kind: pa.DataType) -> None:
    numbers = [1.5, float("nan"), float("inf"), None, -float("inf"), 2.5]
    column = coded(NUMERIC, chunked(numbers, type=kind))
    assert (column.codes == 0).tolist() == [False, True, True, True, True, False]
    assert nearby(column, [number if number in (1.5, 2.5) else None for number in numbers])
    assert code_column("x", NUMERIC, chunked(numbers[1:-1], type=kind)) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(-(10**6), 10**6)), min_size=1, max_size=8).filter(any),
    st.sampled_from([0.3, 2.0, 500.0]),
)
def test_whole_numbers_are_coded_alike_as_numbers_and_as_text(numbers, spread) -> None:
    attribute = Attribute(kind="numeric", spread=spread)
    as_numbers = coded(attribute, chunked(numbers, type=pa.int64()))
    as_texts = coded(attribute, chunked([None if number is None else str(number) for number in numbers]))
    assert as_numbers.codes.tolist() == as_texts.codes.tolist()
    assert as_numbers.model.values == as_texts.model.values
    assert nearby(as_numbers, numbers)
    there = [number for number in numbers if number is not None]
    if max(there) - min(there) < 512 and spread < 4.0:  # steps of 1
        assert [None if value is None else int(value) for value in read_back(as_numbers)] == numbers


def test_whole_numbers_that_a_float_would_round_are_coded() -> None:
    numbers = [2**60, 2**60 + 2**12, 5]
    assert coded(NUMERIC, chunked(numbers)).codes.tolist() == [512, 512, 1]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.floats(-8e307, 8e307), st.floats(-100.0, 100.0), st.integers(-5, 5)), min_size=1, max_size=8),
    st.one_of(st.floats(1e-300, 1e300), st.floats(0.01, 10.0)),
)
def test_a_grid_holds_all_numbers_from_the_smallest_to_the_largest(numbers, spread) -> None:
    numbers = np.array(numbers, float)
    whole = bool((numbers == np.floor(numbers)).all())
    steps = grid(Attribute(kind="numeric", spread=spread), float(numbers.min()), float(numbers.max()), whole)
    codes = steps.codes(numbers)
    assert codes.min() >= 1
    assert codes.max() <= steps.steps <= 513
    assert codes[np.argmax(numbers)] == codes.max() == steps.steps
    assert (np.diff(codes[np.argsort(numbers)]) >= 0).all()
    assert not whole or steps.step == np.floor(steps.step)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(-1e9, 1e9),
    st.lists(st.floats(0.0, 1e-3), min_size=1, max_size=5),
    st.sampled_from([1e-12, 1e-6, 1e-4]),
)
def test_a_grid_of_tiny_steps_far_from_0_holds_all_numbers(start, more, spread) -> None:
    numbers = start + np.array([0.0, *more])
    steps = grid(Attribute(kind="numeric", spread=spread), float(numbers.min()), float(numbers.max()), False)
    codes = steps.codes(numbers)
    assert codes.min() >= 1
    assert codes.max() <= steps.steps <= 513


@pytest.mark.parametrize("number", [0.0, -3.0, 0.1, -1e-300, 1e300])
def test_a_single_number_is_one_step(number: float) -> None:
    column = coded(NUMERIC, chunked([number, None, number]))
    assert column.codes.tolist() == [1, 0, 1]
    assert len(column.model.counts) == 2


def test_the_steps_of_a_grid_are_a_quarter_of_the_spread_or_wider_to_be_512_at_most() -> None:
    fine, wide = (grid(Attribute(kind="numeric", spread=2.0), 0.0, high, False) for high in (10.0, 5110.0))
    assert (fine.low, fine.step, fine.steps) == (-0.25, 0.5, 21)
    assert (wide.step, wide.steps) == (10.0, 512)
    whole = grid(Attribute(kind="numeric", spread=2.0), 0.0, 10.0, True)
    assert (whole.low, whole.step, whole.steps) == (-0.5, 1.0, 11)


def test_a_grid_takes_what_is_not_a_number_for_not_recorded() -> None:
    steps = grid(NUMERIC, 0.0, 10.0, True)
    assert steps.codes(np.array([np.nan, 0.0, 10.0])).tolist() == [0, 1, 11]


# Codes


@pytest.mark.parametrize(
    ("values", "kind"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16), (65536, np.uint32)]
)
def test_codes_are_as_narrow_as_they_can_be(values: int, kind: type[np.unsignedinteger]) -> None:
    # A string has no table of values by answers, however many there are.
    names = [f"{number:05}" for number in range(values)]
    column = coded(Attribute(kind="string"), chunked(names, [None], type=pa.string()))
    assert column.codes.dtype == kind
    assert column.codes.tolist() == [*range(1, values + 1), 0]


@pytest.mark.parametrize("most", [0, 1, 255, 256, 65535, 65536, 2**32 - 1, 2**32])
def test_narrow_codes_hold_the_largest(most: int) -> None:
    codes = narrow(np.array([0, most]), most)
    assert codes.tolist() == [0, most]
    assert codes.dtype.kind == "u"
    assert codes.dtype.itemsize == 1 or most >= 2 ** (4 * codes.dtype.itemsize)


# What does not fit


@pytest.mark.parametrize(
    ("attribute", "value", "why"),
    [
        (NUMERIC, "tall", "is not a number; mend it, leave it empty, or change the kind"),
        (NUMERIC, "1e999", "is not a number; mend it, leave it empty, or change the kind"),
        (DATE, "1990-02-30", "is not a date; write YYYY-MM-DD, or say how with format in the data dictionary"),
        (DATE, "26.7.", "is not a date; write YYYY-MM-DD, or say how with format in the data dictionary"),
        (DATE, "1990", "is not a date; write YYYY-MM-DD, or say how with format in the data dictionary"),
        (SIZES, "XL", r"is not in order = \[\.\.\.\]; add it there, or mend it"),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_first_record(attribute: Attribute, value: str, why: str) -> None:
    fits = {"numeric": "1", "date": "1990-01-02", "ordinal": "S"}[attribute.kind]
    columns = [chunked([fits, None, fits], ["", value, value]), chunked([fits, None, fits, "", value, value])]
    for column in (*columns, *(one.dictionary_encode() for one in columns)):
        with pytest.raises(DataError, match=rf"^x: record 5 has what {why}$"):
            code_column("x", attribute, column)


def test_true_is_no_number() -> None:
    with pytest.raises(DataError, match="record 2 has what is not a number"):
        code_column("x", NUMERIC, chunked([None, True]))


@pytest.mark.parametrize(
    "values", [[[1], [2]], [{"a": 1}], [b"\xff", b"a"]], ids=["lists", "structures", "bytes that are no text"]
)
def test_a_column_that_cannot_be_text_is_refused_by_name(values: list[Any]) -> None:
    with pytest.raises(DataError, match=r"^x: "):
        code_column("x", CATEGORICAL, chunked(values))


def test_values_are_coded_and_named_by_whoever_knows_where_they_are() -> None:
    column = code_values("x", SIZES, ["M", None, "S"], str)
    assert column is not None
    assert (column.codes.tolist(), column.width) == ([2, 0, 1], 4)
    assert column.model(np.array([0, 5, 6, 0])).counts.tolist() == [0, 5, 6, 0]
    assert code_values("x", SIZES, [None, None], str) is None
    assert code_values("x", SIZES, [], str) is None
    with pytest.raises(DataError, match="x: the record at 2 has what is not in order"):
        code_values("x", SIZES, ["M", None, "XL"], lambda place: f"the record at {place}")


# Registers


def test_columns_that_are_used_must_be_there() -> None:
    attributes = {
        "eyes": {"kind": "categorical"},
        "old": {"kind": "categorical", "use": "ignore"},
        "sketch": {"kind": "score", "log10_lr": [[0, -1], [1, 1]]},
    }
    dictionary = dictionary_of(attributes)
    check_columns(dictionary, ["id", "eyes", "more"])
    with pytest.raises(DataError, match="the register has no column 'eyes'; it has id, hair"):
        check_columns(dictionary, ["id", "hair"])
    with pytest.raises(DataError, match="no column 'id'; it has eyes"):
        check_columns(dictionary, ["eyes"])
    with pytest.raises(DataError, match="no column 'id', nor any other of the data dictionary") as caught:
        check_columns(dictionary, ["Ann", "green"])
    assert "Ann" not in str(caught.value)


def test_what_was_left_out_and_a_single_record_are_noted() -> None:
    attributes = {"eyes": {"kind": "categorical"}, "empty": {"kind": "categorical"}}
    models = {"eyes": coded(CATEGORICAL, chunked(["blue"])).model}
    dictionary = dictionary_of(attributes)
    left_out = "empty: nothing is recorded in this column; it is left out"
    assert notes_on(dictionary, models, 2) == (left_out,)
    assert notes_on(dictionary, models, 1) == (
        left_out,
        "one record: all that can be asked is whether this is the person",
    )


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.integers(1, 5000), max_size=12),
    st.integers(1, 4096),
)
def test_columns_together_are_each_there_once_and_no_wider_than_allowed_unless_alone(widths, most) -> None:
    groups = together(widths, most)
    assert sorted(name for group in groups for name in group) == sorted(widths)
    for group in groups:
        assert group
        assert len(group) == 1 or np.prod([widths[name] for name in group]) <= most


def test_columns_that_fit_are_together() -> None:
    assert together({"a": 2, "b": 3, "c": 5}, 30) == [["c", "b", "a"]]
    assert together({"a": 2, "b": 3, "c": 5}, 29) == [["c", "b"], ["a"]]
    assert together({f"x{number}": 1000 for number in range(30)}, 10**90) == [[f"x{number}" for number in range(30)]]
    assert together({}, 10) == []
