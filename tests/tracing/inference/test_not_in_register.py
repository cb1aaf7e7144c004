"""The tree of the absent, against enumeration of all combinations of values."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_registers import register_of

from unmask.tracing.inference.belief import Answer, begin
from unmask.tracing.inference.not_in_register import NotInRegisterModel


@st.composite
def dependent(draw):
    size = draw(st.integers(3, 12))
    first = draw(st.lists(st.sampled_from("abc"), min_size=size, max_size=size))
    noise = st.lists(st.sampled_from(["same", "same", "x", None]), min_size=size, max_size=size)
    columns = {"x0": first}
    for place in range(1, draw(st.integers(2, 4))):
        before = columns[f"x{place - 1}"]
        kinds = draw(noise)
        columns[f"x{place}"] = [one if kind == "same" else kind for one, kind in zip(before, kinds, strict=True)]
        if all(value is None for value in columns[f"x{place}"]):
            columns[f"x{place}"][0] = "x"
    return register_of(columns, 0.2, absentees="tree")


def enumerated(absentees: NotInRegisterModel, ratios: dict[str, np.ndarray]) -> float:
    """log of the tree's expectation of the product of ratios, beside the product of expectations."""
    order, parent, given_parent, marginals = absentees.tree
    tables = [ratios.get(name, np.ones(len(marginals[node]))) for node, name in enumerate(absentees.names)]
    total = 0.0
    for codes in itertools.product(*(range(len(marginal)) for marginal in marginals)):
        chance = marginals[order[0]][codes[order[0]]]
        for node, above in parent.items():
            chance *= given_parent[node][codes[above], codes[node]]
        total += chance * np.prod([table[code] for table, code in zip(tables, codes, strict=True)])
    alone = np.prod([marginals[node] @ table for node, table in enumerate(tables)])
    return float(np.log(total) - np.log(alone))


@settings(max_examples=60, deadline=None)
@given(dependent(), st.data())
def test_the_tree_says_what_enumeration_does(register, data) -> None:
    absentees = NotInRegisterModel(register)
    answered = [name for name in register.models if data.draw(st.booleans())]
    ratios = {
        name: np.exp(register.models[name].log_ratios(data.draw(st.sampled_from(register.models[name].values))))
        for name in answered
    }
    predictive = absentees.given(ratios)
    assert predictive.log_ratio == pytest.approx(enumerated(absentees, ratios), abs=1e-9)
    for name in absentees.names:
        if name in answered:
            continue
        # P(next answer) is the ratio of the evidence with it to the evidence without, times its frequency.
        channel = register.models[name].channel
        tables = [np.exp(channel.log_ratios(outcome)) for outcome in range(len(channel.base))]
        logs = np.array([enumerated(absentees, {**ratios, name: table}) for table in tables])
        expected = channel.base * np.exp(logs - predictive.log_ratio)
        assert predictive.answers(name) == pytest.approx(expected / expected.sum(), abs=1e-9)


def test_an_absent_person_with_usual_dependent_values_is_not_taken_for_somebody() -> None:
    # Two attributes that say the same: that both fit is no more surprising than that one does.
    values = [f"v{number % 4}" for number in range(40)]
    columns = {"x": values, "y": values, "z": [f"w{number % 5}" for number in range(40)]}
    answers = [Answer("x", "v1"), Answer("y", "v1")]
    apart = begin(register_of(columns, 0.2, absentees="independent")).update(*answers).absent
    together = begin(register_of(columns, 0.2, absentees="tree")).update(*answers).absent
    once = begin(register_of(columns, 0.2)).update(answers[0]).absent
    assert apart < 0.1
    assert together == pytest.approx(once, abs=0.03)


def test_one_answer_and_values_of_nobody_leave_the_absent_as_by_frequencies() -> None:
    columns = {"x": ["a", "b"] * 5, "y": ["u", "v"] * 5, "z": [None] * 9 + ["w"]}
    for names in (("x",), ("x", "z")):
        answers = [Answer(name, {"x": "a", "z": "w"}[name]) for name in names]
        independent = begin(register_of(columns, 0.2)).update(*answers).absent
        tree = begin(register_of(columns, 0.2, absentees="tree")).update(*answers).absent
        assert tree == pytest.approx(independent, abs=0.02)


def test_what_only_one_person_has_in_common_is_no_dependence() -> None:
    # Thirty values each, drawn apart: most pairs are there once, by chance.
    drawn = np.random.default_rng(0).integers(0, 30, (200, 3))
    columns = {f"x{place}": [f"v{value}" for value in drawn[:, place]] for place in range(3)}
    answers = [Answer(name, values[7]) for name, values in columns.items()]
    tree = begin(register_of(columns, 0.2, absentees="tree")).update(*answers)
    independent = begin(register_of(columns, 0.2)).update(*answers)
    assert tree.absent == pytest.approx(independent.absent, abs=0.05)
    assert tree.candidates[0].row == 7
