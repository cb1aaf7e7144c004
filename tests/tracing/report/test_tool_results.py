"""What profiling, audit, linkage and trials come to is shown in full, and nothing that names a person."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from small_registers import register_of

from unmask.tracing.attributes.dictionary import Attribute, Dictionary
from unmask.tracing.report.tool_results import (
    print_audit,
    print_duplicates,
    print_exposure,
    print_learned,
    print_profile,
    print_summaries,
)
from unmask.tracing.simulation.trials import TrialSummary
from unmask.tracing.tools.audit import Audit, Exposure, SubsetSize, audit, exposure
from unmask.tracing.tools.linkage import Cluster, Duplicates
from unmask.tracing.tools.profiling import profile


def text_of(print_one: Callable[..., None], *content: Any, width: int = 160) -> str:
    console = Console(width=width)
    with console.capture() as shown:
        print_one(console, *content)
    return shown.get()


def cells(text: str, head: str) -> list[str]:
    """The cells of the row that begins with `head`."""
    rows = ([cell.strip() for cell in line.strip(" │┃").split("│")] for line in text.splitlines())
    return next(row for row in rows if row[0] == head)


def test_a_profile_has_a_row_a_column_and_no_value_of_a_person() -> None:
    table = pa.table(
        {
            "id": [f"p{row}" for row in range(200)],
            "eyes": ["brown"] * 120 + ["blue"] * 80,
            "passport": ["X1"] * 2 + [f"X{row}" for row in range(2, 200)],
            "height": [150.0 + row / 10 for row in range(200)],
        }
    )
    text = text_of(print_profile, profile(table, "folder/people.parquet"))
    assert "people.parquet: 200 records" in text and "folder" not in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    # column, kind, use, values, known, bits, error, frequent
    assert rows["eyes"] == ["eyes", "categorical", "ask", "2", "100%", "0.97", "0.05", "brown", "(120)"]
    assert rows["passport"][1:6] == ["string", "verify", "199", "100%", "7.63"]
    assert "X1" not in text and "p0" not in text
    assert rows["height"][6:9] == ["0.05,", "spread", "0.36"]


def test_a_narrow_terminal_shortens_all_but_the_kind() -> None:
    table = pa.table({"id": list("abcd"), "a very long name of a column that is": ["x" * 60] * 2 + ["y" * 60] * 2})
    text = text_of(print_profile, profile(table, "people.csv"), width=80)
    assert "categorical" in text and "x" * 60 not in text
    assert max(map(len, text.splitlines())) <= 80


def test_only_what_was_learned_is_listed() -> None:
    before = Dictionary(
        id="id",
        attributes={"eyes": Attribute(kind="categorical"), "age": Attribute(kind="numeric", spread=2.0)},
    )
    eyes = before.attributes["eyes"].model_copy(
        update={"error": 0.125, "availability": 0.75, "confusion": {"brown": {"brown": 3.0}}}
    )
    after = before.model_copy(update={"attributes": before.attributes | {"eyes": eyes}})
    text = text_of(print_learned, before, after)
    assert cells(text, "eyes") == ["eyes", "0.125", "0.050", "0.750", "", "counted"]
    assert "age" not in text


def test_an_exposure_names_the_facts_that_single_a_person_out() -> None:
    register = register_of({"x": list("aab"), "y": list("uuu")})
    assert text_of(print_exposure, exposure(register, "p2")).splitlines() == [
        "p2 is singled out by 1: x",
        "Indispensable: x.",
    ]
    assert "p0 cannot be singled out: 2 records" in text_of(print_exposure, exposure(register, "p0"))
    assert "nobody else is there" in text_of(print_exposure, Exposure("p0", (), (), 1))


def test_an_audit_has_a_row_for_each_number_of_facts() -> None:
    register = register_of({"x": list("aabb"), "y": list("uvuv")})
    text = text_of(print_audit, audit(register))
    assert "Unique among 4 people" in text
    assert cells(text, "1") == ["1", "2", "0.0%", "x", "0.0%", "0.0%"]
    assert cells(text, "2") == ["2", "1", "100.0%", "x, y", "100.0%", "100.0%"]
    assert "single them out: 4 with 2" in text


def test_an_audit_tells_of_those_who_are_not_singled_out_by_so_few() -> None:
    sizes = (SubsetSize(1, 3, 0.25, ("x",), 0.5, 0.75),)
    one = Audit(("x", "y", "z"), sizes, np.array([1, -1, -1, -1]), np.array([1, 1, 2, 2]), {3: 1}, ("x",), {"n": 0.5})
    text = text_of(print_audit, one)
    assert "1 need more facts than these; of 1 drawn: 1 with 3" in text
    assert "2 cannot be singled out: 2 records" in text
    assert "n (verification only): 50.0%" in text


def test_duplicates_are_listed_with_the_least_probability() -> None:
    clusters = (
        Cluster((0, 3, 5), ("a", "d", "f"), 3, (0.97, 1.0, 0.9995)),
        Cluster((1, 2), ("b", "c"), 1, (1.0, 0.99999)),
    )
    linked = Duplicates(10, 0.95, clusters, 0.01, (("x", "y"), ("z", "w")), 0.875, {"x": 0.0625}, ("look here",))
    text = text_of(print_duplicates, linked)
    assert "2 clusters in 10 records, of which 3 go" in " ".join(text.split())
    assert cells(text, "d") == ["d", "a, f", "97.0%"]
    assert cells(text, "b") == ["b", "c", "over 99.9%"]  # nothing learned from data is certain
    assert "agree in x and y; z and w" in text and "87.5% of duplicates" in text
    assert "x: error 0.062 suggested" in text and "- look here" in text


SUMMARY = TrialSummary(
    top1=(0.75, 0.3006, 0.9544),
    decided=(0.5, 0.1, 0.9),
    right_if_decided=None,
    false_identified=None,
    found_absent=None,
    missed=(0.0, 0.0, 0.49),
    answers=2.5,
    cost=4.25,
    core=None,
    entropy_area=15.0,
    calibration_error=0.1234,
    ms_per_step=2.06,
)


def test_summaries_stand_side_by_side() -> None:
    text = text_of(print_summaries, {"info_gain": SUMMARY, "random": replace(SUMMARY, answers=7.0, core=2.0)})
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert ["info_gain", "random"] in lines
    assert ["answers", "2.50", "7.00"] in lines
    assert ["core", "set", "–", "2.00"] in lines
    assert ["top-1", *["0.750", "[0.30,", "0.95]"] * 2] in lines
    assert ["false", "ID", "of", "absent", "–", "–"] in lines


@pytest.mark.parametrize("value", ["[red]x", ":cat:", "a\x1b[31mb"])
def test_values_are_neither_markup_nor_commands_to_the_terminal(value: str) -> None:
    text = text_of(print_profile, profile(pa.table({"id": list("abcd"), "x": [value] * 3 + ["y"]}), "people.csv"))
    assert value.replace("\x1b", "\\x1b") in text and "\x1b[31m" not in text
