"""A data dictionary is read as it was written, and what cannot be is refused with its entry and a remedy."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from unmask.errors import DataError
from unmask.tracing.attributes.dictionary import Attribute, Dictionary, Group, dictionary_text, read_dictionary

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
open_shares = st.floats(0.0, 1.0, exclude_min=True, exclude_max=True)
positive = st.floats(1e-300, 1e300)
finite = st.floats(allow_nan=False, allow_infinity=False)


def _levels(weights: list[int]) -> tuple[float, ...]:
    return tuple(weight / sum(weights) for weight in weights)


_levelled = st.fixed_dictionaries(
    {}, optional={"levels": st.lists(st.integers(1, 99), min_size=4, max_size=4).map(_levels)}
)
ratios = st.floats(-300.0, 300.0)
_points = st.lists(finite, min_size=2, max_size=4, unique=True).flatmap(
    lambda scores: st.tuples(*(st.tuples(st.just(score), ratios) for score in sorted(scores)))
)
_counts = st.dictionaries(names, st.dictionaries(names, st.floats(0.0, 1e9), max_size=3), max_size=3)
SPECIAL: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "categorical": st.fixed_dictionaries({}, optional={"confusion": _counts}),
    "ordinal": st.fixed_dictionaries(
        {"order": st.lists(names, min_size=1, max_size=4, unique=True).map(tuple)}, optional={"spread": positive}
    ),
    "numeric": st.fixed_dictionaries(
        {"spread": positive}, optional={"decimal": st.sampled_from([".", ","]), "unit": names}
    ),
    "string": _levelled,
    "date": st.builds(
        dict.__or__, _levelled, st.fixed_dictionaries({}, optional={"format": st.sampled_from(["%d.%m.%Y", "excel"])})
    ),
    "score": st.fixed_dictionaries({"log10_lr": _points}, optional={"unlisted_log10_lr": ratios}),
}
COMMON = st.fixed_dictionaries(
    {},
    optional={
        "error": open_shares,
        "availability": st.floats(0.0, 1.0, exclude_min=True),
        "cost": positive,
        "use": st.sampled_from(["ask", "verify", "ignore"]),
        "open": st.booleans(),
        "missing": st.lists(names, max_size=2).map(tuple),
    },
)


@st.composite
def dictionaries(draw, kind: str) -> Dictionary:
    groups = draw(st.dictionaries(names, open_shares.map(lambda error: Group(error=error)), max_size=2))
    attributes = {}
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        given_values = draw(COMMON) | draw(SPECIAL[kind])
        if groups and draw(st.booleans()):
            given_values["group"] = draw(st.sampled_from(sorted(groups)))
        attributes[name] = Attribute(kind=kind, **given_values)
    return Dictionary(
        id=draw(names.filter(lambda name: name not in attributes)),
        absent=draw(st.floats(0.0, 1.0, exclude_max=True)),
        absentees=draw(st.sampled_from(["independent", "tree"])),
        attributes=attributes,
        groups=groups,
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dictionary") / "people.toml"


@pytest.mark.parametrize("kind", SPECIAL)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_dictionary_is_read_as_it_was_written(kind: str, path: Path, data: st.DataObject) -> None:
    dictionary = data.draw(dictionaries(kind))
    path.write_text(dictionary_text(dictionary), encoding="utf-8")
    assert read_dictionary(path) == dictionary


def test_what_is_as_by_default_is_not_written() -> None:
    attributes = {"eyes": Attribute(kind="categorical"), "age": Attribute(kind="numeric", spread=2.0, cost=3.0)}
    text = dictionary_text(Dictionary(id="person", attributes=attributes))
    assert tomllib.loads(text) == {
        "id": "person",
        "attributes": {"eyes": {"kind": "categorical"}, "age": {"kind": "numeric", "spread": 2.0, "cost": 3.0}},
    }


def test_the_example_of_the_module_is_one(path: Path) -> None:
    import unmask.tracing.attributes.dictionary as module

    assert module.__doc__ is not None
    lines = [line[4:] for line in module.__doc__.splitlines() if line.startswith("    ")]
    table = write(path, "\n".join(lines))
    assert table.attributes["eyes"].group == "photo"
    assert table.groups["photo"].error == 0.02


def test_what_is_ignored_is_not_used() -> None:
    uses = {"a": "ask", "b": "ignore", "c": "verify"}
    attributes = {name: Attribute.model_validate({"kind": "string", "use": use}) for name, use in uses.items()}
    assert list(Dictionary(id="id", attributes=attributes).used) == ["a", "c"]


def test_a_dictionary_cannot_be_changed_by_accident() -> None:
    attribute = Attribute(kind="string")
    with pytest.raises(ValidationError, match="frozen"):
        attribute.error = 0.5  # type: ignore[misc]


def write(path: Path, text: str) -> Dictionary:
    path.write_text(text, encoding="utf-8")
    return read_dictionary(path)


def refusal(path: Path, text: str) -> str:
    with pytest.raises(DataError) as caught:
        write(path, text)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


ONE_SLIP = "because one slip must not be final: after n trials without an error state 1 / (n + 2)"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("kind = 'categorical'\nerror = 0", f"x.error: Input should be greater than 0, {ONE_SLIP}"),
        ("kind = 'categorical'\nerror = 1.0", f"x.error: Input should be less than 1, {ONE_SLIP}"),
        ("kind = 'categorical'\nerror = nan", "x.error: Input should be"),
        ("kind = 'string'\nlevels = [1.0, 0.0, 0.0, 0.0]", f"x.levels.0: Input should be less than 1, {ONE_SLIP}"),
        ("kind = 'date'\nlevels = [0.9, 0.1, 0, 0]", f"x.levels.2: Input should be greater than 0, {ONE_SLIP}"),
        ("kind = 'string'\nlevels = [0.5, 0.1, 0.1, 0.1]", "x: levels are shares of all answers and must sum to 1"),
        ("kind = 'string'\nlevels = [0.5, 0.3, 0.2]", "x.levels"),
        ("kind = 'categorical'\navailability = 0", "x.availability: Input should be greater than 0"),
        ("kind = 'categorical'\navailability = 1.1", "x.availability: Input should be less than or equal to 1"),
        ("kind = 'categorical'\ncost = 0", "x.cost: Input should be greater than 0"),
        ("kind = 'categorical'\ncost = -2", "x.cost: Input should be greater than 0"),
        ("kind = 'categorical'\ncost = inf", "x.cost: Input should be a finite number"),
        ("kind = 'categorical'\nuse = 'sometimes'", "x.use: Input should be 'ask', 'verify' or 'ignore'"),
        ("kind = 'categorical'\ncolour = 1", "x.colour: Extra inputs are not permitted"),
        ("kind = 'categorical'\nconfusion = {a = {b = -1}}", "x.confusion.a.b: Input should be greater than or"),
        ("kind = 'categorical'\norder = ['a']", "x: order says nothing about kind 'categorical', only about ordinal"),
        ("kind = 'string'\nconfusion = {}", "x: confusion says nothing about kind 'string', only about categorical"),
        ("kind = 'date'\nspread = 1", "x: spread says nothing about kind 'date', only about numeric and ordinal"),
        ("kind = 'string'\nlog10_lr = []", "x: log10_lr says nothing about kind 'string', only about score"),
        ("kind = 'ordinal'\norder = ['a', 'b', 'a']", "x: kind 'ordinal' needs order = [...]: every value once"),
        ("kind = 'ordinal'\norder = [1, 2]", "x.order.0: Input should be a valid string"),
        ("kind = 'numeric'\nspread = 0", "x.spread: Input should be greater than 0"),
        ("kind = 'score'\nlog10_lr = [[0, 1]]", "x: kind 'score' needs log10_lr"),
        ("kind = 'score'\nlog10_lr = [[0, 1], [0, 2]]", "x: kind 'score' needs log10_lr"),
        ("kind = 'score'\nlog10_lr = [[1, 1], [0, 2]]", "x: kind 'score' needs log10_lr"),
        ("kind = 'score'\nlog10_lr = [[0, 1], [1]]", "x.log10_lr.1.1: Field required"),
        ("kind = 'date'\nformat = '%d.%m'", "x: format says how dates are written"),
        ("kind = 'date'\nformat = '%d.%m/%Y'", "x: format says how dates are written"),
        ("kind = 'date'\nformat = '%d.%d.%Y'", "x: format says how dates are written"),
        ("kind = 'string'\nformat = '%d.%m.%Y'", "x: format says nothing about kind 'string', only about date"),
        ("kind = 'date'\ndecimal = ','", "x: decimal says nothing about kind 'date', only about numeric"),
        ("kind = 'numeric'\nspread = 1\ndecimal = ';'", "x.decimal: Input should be '.' or ','"),
        ("kind = 'categorical'\nmissing = [1]", "x.missing.0: Input should be a valid string"),
        ("error = 0.1", "x.kind: Field required"),
    ],
)
def test_an_attribute_that_cannot_be_is_refused_with_its_entry(entry: str, message: str, path: Path) -> None:
    assert refusal(path, f"id = 'id'\n[attributes.x]\n{entry}\n").startswith(f"attributes.{message}")


@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(
    "entry",
    [
        "kind = 'score'\nlog10_lr = [[0, NUMBER], [1, 2]]",
        "kind = 'score'\nlog10_lr = [[0, 1], [NUMBER, 2]]",
        "kind = 'score'\nlog10_lr = [[0, 1], [1, 2]]\nunlisted_log10_lr = NUMBER",
        "kind = 'categorical'\nconfusion = {a = {a = NUMBER}}",
    ],
    ids=["ratio", "score", "ratio of those not listed", "count"],
)
def test_what_is_not_finite_is_no_evidence(entry: str, number: str, path: Path) -> None:
    assert refusal(path, f"id = 'id'\n[attributes.x]\n{entry.replace('NUMBER', number)}\n").startswith("attributes.x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[attributes]", "id: Field required"),
        ("id = 'id'", "attributes: Field required"),
        ("id = 7\n[attributes]", "id: Input should be a valid string"),
        ("id = 'id'\nabsent = 1\n[attributes]", "absent: Input should be less than 1"),
        ("id = 'id'\nabsent = -0.1\n[attributes]", "absent: Input should be greater than or equal to 0"),
        ("id = 'id'\nabsent = nan\n[attributes]", "absent: Input should be"),
        ("id = 'id'\nabsentees = 'forest'\n[attributes]", "absentees: Input should be 'independent' or 'tree'"),
        ("id = 'id'\ncolour = 1\n[attributes]", "colour: Extra inputs are not permitted"),
        (
            "id = 'id'\n[attributes]\n[groups.photo]\nerror = 0",
            f"groups.photo.error: Input should be greater than 0, {ONE_SLIP}",
        ),
        ("id = 'id'\n[attributes]\n[groups.photo]", "groups.photo.error: Field required"),
        ("id = 'x'\n[attributes.x]\nkind = 'string'", "'x' is the identifier and cannot be an attribute as well"),
        (
            "id = 'id'\n[attributes.x]\nkind = 'string'\ngroup = 'photo'\n[groups.other]\nerror = 0.1",
            "attribute 'x' is of group 'photo': add [groups.photo]",
        ),
    ],
)
def test_a_dictionary_that_cannot_be_is_refused_with_its_entry(text: str, message: str, path: Path) -> None:
    assert refusal(path, text).startswith(message)


def test_the_first_of_several_complaints_is_told(path: Path) -> None:
    message = refusal(path, "id = 'id'\n[attributes.x]\nkind = 'string'\nerror = 2\n[attributes.y]\nkind = 'colour'\n")
    assert "attributes.x.error" in message
    assert "attributes.y" not in message


def test_what_is_no_toml_is_refused_with_its_line(path: Path) -> None:
    assert "not a TOML file in UTF-8: " in refusal(path, "id = 'id'\n[attributes.x\n")
    assert "line 2" in refusal(path, "id = 'id'\nabsent = = 1\n")
    path.write_bytes("id = 'größe'".encode("latin-1"))
    with pytest.raises(DataError, match="not a TOML file in UTF-8: "):
        read_dictionary(path)


def test_a_dictionary_that_is_not_there_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data dictionary; `unmask trace profile` writes one"):
        read_dictionary(tmp_path / "missing.toml")


def test_a_folder_is_no_dictionary(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        read_dictionary(tmp_path)
