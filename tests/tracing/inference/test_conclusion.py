"""When it is settled, on which answers that rests, and what if one is wrong."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_registers import cube, register_of

from unmask.tracing.inference.belief import Answer, begin
from unmask.tracing.inference.conclusion import (
    StopRule,
    Subsets,
    conclude,
    core_identification_set,
    criterion,
    percent,
    without_each,
)
from unmask.tracing.inference.questions import ranked
from unmask.tracing.registers.memory import coded
from unmask.tracing.simulation.synthetic import RegisterSpec, dictionary_of, table_of


def believed(register, **answers):
    return begin(register).update(*(Answer(name, value) for name, value in answers.items()))


def verdict(belief, rule=None, spent=0.0):
    return conclude(belief, rule or StopRule(), ranked(belief), spent)


def test_three_bits_identify_one_of_eight() -> None:
    conclusion = verdict(believed(cube(1e-4, 0.01), b0="1", b1="0", b2="1"))
    assert conclusion is not None
    assert (conclusion.status, conclusion.rows) == ("identified", (5,))


def test_two_bits_are_not_enough_and_more_is_worth_asking() -> None:
    assert verdict(believed(cube(1e-4, 0.2), b0="1", b1="0")) is None


def test_identical_records_are_a_set_of_candidates_and_never_identified() -> None:
    register = register_of({"x": list("aaabbb"), "y": list("uuuuvv")}, 0.0, error=1e-4)
    conclusion = verdict(believed(register, x="a", y="u"))
    assert conclusion is not None
    assert (conclusion.status, conclusion.count, conclusion.rows) == ("candidate_set", 3, (0, 1, 2))


def test_records_that_only_an_unavailable_answer_would_tell_apart_are_a_set_of_candidates() -> None:
    register = register_of({"x": list("aabb"), "y": list("uvuv")}, 0.0, error=1e-4)
    conclusion = verdict(begin(register).update(Answer("x", "a"), Answer("y", None)))
    assert conclusion is not None
    assert (conclusion.status, conclusion.count) == ("candidate_set", 2)


def test_whom_nobody_fits_is_not_in_the_register() -> None:
    columns = {f"x{place}": ["a"] * 6 + ["b"] * 2 for place in range(6)}
    columns["y"] = ["u"] * 6 + ["v"] * 2
    register = register_of(columns, 0.2, error=0.01)
    answers = {f"x{place}": "ab"[place % 2] for place in range(6)}
    conclusion = verdict(believed(register, **answers))
    assert conclusion is not None
    assert (conclusion.status, conclusion.rows) == ("not_in_register", ())


def test_a_spent_budget_leaves_it_undetermined() -> None:
    conclusion = verdict(believed(cube(1e-4, 0.2), b0="1"), StopRule(budget=1.0), spent=1.0)
    assert conclusion is not None
    assert conclusion.status == "undetermined"
    assert "budget" in conclusion.reason


def test_nothing_left_to_ask_leaves_it_undetermined() -> None:
    conclusion = verdict(believed(cube(0.3, 0.2), b0="1", b1="0", b2="1"))
    assert conclusion is not None
    assert conclusion.status == "undetermined"
    assert "nothing left" in conclusion.reason


def test_a_robust_conclusion_does_not_hang_on_one_answer() -> None:
    register = cube(1e-4, 0.01)
    belief = believed(register, b0="1", b1="0", b2="1")
    robust = verdict(belief, StopRule(robust=True))
    assert robust is not None
    assert robust.status == "undetermined"
    assert "without the answer about" in robust.reason
    # With every bit recorded twice, no single answer is needed.
    columns = {f"{copy}{bit}": [str(n >> bit & 1) for n in range(8)] for bit in range(3) for copy in "bc"}
    twice = believed(register_of(columns, 0.2, 1e-4), **{name: str(5 >> int(name[1]) & 1) for name in columns})
    robust = verdict(twice, StopRule(robust=True))
    assert robust is not None
    assert robust.status == "identified"


@st.composite
def case(draw):
    """A register, and answers about all its attributes."""
    size = draw(st.integers(2, 7))
    columns = {
        f"x{place}": [
            "a",
            *draw(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=size - 1, max_size=size - 1)),
        ]
        for place in range(draw(st.integers(1, 5)))
    }
    register = register_of(columns, draw(st.sampled_from([0.0, 0.2])), draw(st.sampled_from([1e-4, 0.05])))
    return register, {name: draw(st.sampled_from(register.models[name].values)) for name in columns}


@settings(max_examples=50, deadline=None)
@given(case())
def test_a_part_of_the_answers_stands_as_if_only_it_had_been_told(drawn) -> None:
    register, answers = drawn
    subsets = Subsets(whole := believed(register, **answers))
    leader = whole.candidates[0].row
    for size in range(len(answers) + 1):
        for names in itertools.combinations(answers, size):
            part = believed(register, **{name: answers[name] for name in names})
            standing = subsets.posterior(names)
            of_row = {one.row: one.probability for one in part.candidates}
            assert standing.probability == pytest.approx(of_row.pop(leader), abs=1e-6)
            assert standing.second == pytest.approx(max(of_row.values(), default=0.0), abs=1e-6)
            assert standing.absent == pytest.approx(part.absent, abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(case())
def test_the_core_set_settles_it_and_no_smaller_one_does(drawn) -> None:
    register, answers = drawn
    subsets, enough = Subsets(believed(register, **answers)), criterion(StopRule(), "identified")
    core = core_identification_set(subsets, enough)
    sizes = [
        size
        for size in range(len(answers) + 1)
        if any(enough(subsets.posterior(names)) for names in itertools.combinations(answers, size))
    ]
    if not enough(subsets.posterior(answers)):
        assert core is None
        return
    assert core is not None
    assert core.exact
    assert enough(subsets.posterior(core.names))
    assert len(core.names) == min(sizes)
    # An answer may be indispensable among all and yet not in the smallest set, where one of the others misleads.
    assert set(core.indispensable) == {
        name for name in answers if not enough(subsets.posterior(one for one in answers if one != name))
    }


def test_of_many_answers_the_core_set_is_one_from_which_none_can_go() -> None:
    columns = {f"x{place}": [str(n >> (place % 5) & 1) for n in range(32)] for place in range(15)}
    register = register_of(columns, 0.2, 0.02)
    answers = {name: values[21] for name, values in columns.items()}
    subsets, enough = Subsets(believed(register, **answers)), criterion(StopRule(), "identified")
    core = core_identification_set(subsets, enough)
    assert core is not None
    assert not core.exact
    assert enough(subsets.posterior(core.names))
    assert not any(enough(subsets.posterior(one for one in core.names if one != name)) for name in core.names)
    assert len(core.names) < 15
    assert core.indispensable == ()


def test_what_settles_that_it_is_nobody_has_a_core_set_too() -> None:
    columns = {f"x{place}": ["a"] * 6 + ["b"] * 2 for place in range(8)}
    belief = believed(register_of(columns, 0.2, 0.01), **{f"x{place}": "ab"[place % 2] for place in range(8)})
    core = core_identification_set(Subsets(belief), criterion(StopRule(), "not_in_register"), absent=True)
    assert core is not None
    assert 2 <= len(core.names) < 8


def test_counterfactuals_say_what_each_answer_carries() -> None:
    belief = believed(cube(1e-4, 0.0), b0="1", b1="0", b2="1")
    posteriors = without_each(Subsets(belief))
    assert [one.probability for one in posteriors.values()] == pytest.approx([0.5] * 3, abs=1e-3)
    assert posteriors["b0"].second == pytest.approx(posteriors["b0"].probability)


def test_the_rule_is_asked_of_the_next_record_too() -> None:
    rule = StopRule(identified=0.5, ratio=100.0)
    belief = believed(cube(0.1, 0.0), b0="1", b1="0", b2="1")
    first, second = (one.probability for one in belief.candidates[:2])
    assert first > 0.5
    assert first < 100.0 * second
    conclusion = verdict(belief, rule)
    assert conclusion is not None
    assert conclusion.status == "undetermined"
    assert np.isfinite(conclusion.probability)


@pytest.mark.slow
def test_leaving_one_answer_out_needs_only_the_records_that_may_matter() -> None:
    recipe = RegisterSpec(records=3000, seed=2)
    register = coded(table_of(recipe), dictionary_of(recipe), "synthetic")
    names, fewer = list(register.models), 0
    for row in range(0, 3000, 150):
        codes = register.codes(np.array([row]), names)[0]
        values = {name: register.models[name].values[code - 1] for name, code in zip(names, codes, strict=True) if code}
        belief = believed(register, **dict(list(values.items())[-6:]))
        every, some = Subsets(belief), Subsets(belief, one_left_out=True)
        fewer += some.work < every.work
        for name, standing in without_each(every).items():
            near = without_each(some)[name]
            for field in ("probability", "second", "absent"):
                assert getattr(near, field) == pytest.approx(getattr(standing, field), abs=2e-6)
    assert fewer >= 10


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0 %"), (1e-9, "<0.1 %"), (0.0004, "<0.1 %"), (0.0006, "0.1 %"), (0.5, "50.0 %"), (0.9994, "99.9 %"),
     (0.9996, ">99.9 %"), (1 - 1e-12, ">99.9 %"), (1, ">99.9 %")],
)  # fmt: skip
def test_what_is_not_quite_certain_is_not_shown_as_certain(share: float, text: str) -> None:
    assert percent(share) == text
