"""Exact Bayes over the register: the sheet's vectors, and small registers against brute-force enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_registers import cube, dictionary_of, register_of, table_of

from unmask.errors import DataError
from unmask.tracing.inference.belief import Answer, Belief, begin
from unmask.tracing.inference.questions import POLICIES, expected_bits, ranked
from unmask.tracing.registers.memory import coded

LETTERS = ("a", "b", "c", None)


@st.composite
def small(draw, records=(1, 6), attributes=(1, 3)):
    """Columns of a small register, with nulls and repeats; at least one value in each column."""
    size = draw(st.integers(*records))
    columns = {}
    for place in range(draw(st.integers(*attributes))):
        column = draw(st.lists(st.sampled_from(LETTERS), min_size=size, max_size=size))
        columns[f"x{place}"] = ["a", *column[1:]] if all(value is None for value in column) else column
    return columns


def channel_by_hand(belief: Belief, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(P(answer | record), P(answer | anybody)) from the definition, value by value."""
    model, error = belief.register.models[name], belief.register.dictionary.attributes[name].error
    counts = dict(zip(model.values, model.counts[1:], strict=True))
    total = sum(counts.values()) + len(counts) + 1
    base = [*((count + 1) / total for count in counts.values()), 1 / total]
    codes = belief.register.codes(np.arange(belief.register.size), [name])[:, 0]
    rows = []
    for code in codes:
        if code == 0:
            rows.append(base)
            continue
        rest = 1 - base[code - 1]
        rows.append([1 - error if place == code - 1 else error * share / rest for place, share in enumerate(base)])
    return np.array(rows), np.array(base)


def posterior_by_hand(belief: Belief, outcomes: dict[str, int], absent: float) -> np.ndarray:
    """P(record), then P(nobody), after the outcomes."""
    size = belief.register.size
    weights = np.append(np.full(size, (1 - absent) / size), absent)
    for name, outcome in outcomes.items():
        table, base = channel_by_hand(belief, name)
        weights *= np.append(table[:, outcome], base[outcome])
    return weights / weights.sum()


def entropy(shares: np.ndarray) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def posterior_of(belief: Belief) -> np.ndarray:
    shares = np.zeros(belief.register.size + 1)
    for candidate in belief.candidates:
        shares[candidate.row] = candidate.probability
    shares[-1] = belief.absent
    return shares


def test_the_entropy_of_a_cube_falls_bit_by_bit() -> None:
    belief = begin(cube())
    path = [belief.entropy]
    for name in ("b0", "b1", "b2"):
        belief = belief.update(Answer(name, "1"))
        path.append(belief.entropy)
    assert path == pytest.approx([3, 2, 1, 0], abs=1e-6)
    assert belief.register.ids(np.array([belief.candidates[0].row])) == ["p7"]


@settings(max_examples=60, deadline=None)
@given(small(), st.sampled_from([0.0, 0.2]), st.data())
def test_the_posterior_is_that_of_enumeration(columns, absent, data) -> None:
    register = register_of(columns, absent, error=0.1)
    belief, outcomes = begin(register), {}
    for name in columns:
        answer = data.draw(st.sampled_from([*register.models[name].values, None]))
        belief = belief.update(Answer(name, answer))
        if answer is not None:
            outcomes[name] = register.models[name].outcome(answer)
    expected = posterior_by_hand(belief, outcomes, absent)
    assert posterior_of(belief) == pytest.approx(expected, abs=1e-6)
    assert belief.entropy == pytest.approx(entropy(expected), abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(small(), st.sampled_from([0.0, 0.2]), st.data())
def test_expected_bits_are_the_expected_fall_of_the_entropy(columns, absent, data) -> None:
    register = register_of(columns, absent, error=0.1)
    belief, outcomes = begin(register), {}
    first, *others = columns
    if others:
        answer = data.draw(st.sampled_from(register.models[first].values))
        belief, outcomes = belief.update(Answer(first, answer)), {first: register.models[first].outcome(answer)}
    now = posterior_by_hand(belief, outcomes, absent)
    for name in others or [first]:
        table, base = channel_by_hand(belief, name)
        fall = entropy(now)
        for outcome in range(len(base)):
            chance = float(now @ np.append(table[:, outcome], base[outcome]))
            fall -= chance * entropy(posterior_by_hand(belief, {**outcomes, name: outcome}, absent))
        assert expected_bits(belief, [name])[name] == pytest.approx(fall, abs=1e-5)


@pytest.mark.parametrize(("absentees", "off"), [("independent", 1e-6), ("tree", 0.01)])
def test_expected_bits_are_exact_with_independent_absentees_and_nearly_with_the_tree(
    absentees: str, off: float
) -> None:
    """Against the entropies after each answer that may come, the one that no record has among them."""
    rng, apart = np.random.default_rng(0), []
    for size in (6, 40, 120):
        latent = rng.integers(0, 3, size)
        columns = {
            f"x{place}": ["abcd"[one] for one in np.where(rng.random(size) < 0.7, latent, rng.integers(0, 4, size))]
            for place in range(4)
        }
        attributes = {name: {"kind": "categorical", "error": 0.05, "open": True} for name in columns}
        register = coded(table_of(columns), dictionary_of(attributes, 0.2, absentees=absentees), "open")
        belief = begin(register)
        for place in range(3):
            name, model = f"x{place + 1}", register.models[f"x{place + 1}"]
            masses = (1 - belief.absent) * belief.weights.tally((name,))[name]
            chances = model.channel.answers(masses) + belief.absent * belief.absent_predictive.answers(name)
            after = [belief.update(Answer(name, value)).entropy for value in (*model.values, "never seen")]
            assert len(after) == len(chances)
            apart.append(abs(belief.entropy - chances @ np.array(after) - expected_bits(belief, [name])[name]))
            belief = belief.update(Answer(f"x{place}", str(rng.choice(register.models[f"x{place}"].values))))
    assert max(apart) < off
    assert absentees == "independent" or max(apart) > 1e-4  # what is called approximate


def test_expected_bits_of_exact_answers_are_the_entropy_of_the_counts() -> None:
    values = ["a"] * 4 + ["b"] * 3 + ["c"]
    belief = begin(register_of({"x": values, "y": ["u", "v"] * 4}, error=1e-9))
    assert expected_bits(belief, ["x"])["x"] == pytest.approx(entropy(np.array([4, 3, 1]) / 8), abs=1e-6)
    belief = belief.update(Answer("y", "u"))  # leaves a, a, b, b
    assert expected_bits(belief, ["x"])["x"] == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(small(records=(2, 6), attributes=(3, 3)), st.sampled_from(["independent", "tree"]), st.data())
def test_the_order_of_answers_does_not_matter_nor_whether_they_come_at_once(columns, absentees, data) -> None:
    register = register_of(columns, 0.2, absentees=absentees)
    answers = [Answer(name, data.draw(st.sampled_from(register.models[name].values))) for name in columns]
    at_once = begin(register).update(*answers)
    for order in itertools.permutations(answers):
        belief = begin(register)
        for answer in order:
            belief = belief.update(answer)
        assert posterior_of(belief) == pytest.approx(posterior_of(at_once), abs=1e-6)


def test_what_is_not_recorded_and_what_is_not_to_be_had_says_nothing() -> None:
    register = register_of({"x": ["a", None, "b", None], "y": ["u", "u", "u", "u"]}, 0.2)
    before = begin(register).update(Answer("y", "u"))
    after = before.update(Answer("x", None))
    assert posterior_of(after) == pytest.approx(posterior_of(before), abs=1e-9)
    belief = begin(register).update(Answer("x", "a"))
    assert posterior_of(belief)[1] == pytest.approx(posterior_of(belief)[3])
    # Of a record whose value is not recorded the answer is as likely as of anybody: their ratio stays.
    assert posterior_of(belief)[1] / belief.absent == pytest.approx((0.8 / 4) / 0.2)


@given(small(records=(2, 6)), st.data())
@settings(max_examples=30, deadline=None)
def test_nobody_leaves_the_ratios_within_the_register_as_they_are(columns, data) -> None:
    answers = []
    for name, column in columns.items():
        known = [value for value in column if value is not None]
        answers.append(Answer(name, data.draw(st.sampled_from(known))))
    closed = posterior_of(begin(register_of(columns, 0.0)).update(*answers))[:-1]
    opened = posterior_of(begin(register_of(columns, 0.3)).update(*answers))[:-1]
    assert opened / opened.sum() == pytest.approx(closed, abs=1e-6)


def test_the_weight_of_an_answer_is_that_of_fellegi_and_sunter() -> None:
    register = register_of({"x": ["a", "a", "b", "c"]}, error=0.1)
    ratios = register.models["x"].log_ratios("a")
    u = 3 / 8  # (2 + 1) of 4 records, 3 values and one more
    assert np.exp(ratios[1]) == pytest.approx(0.9 / u)  # m / u with the frequency of the value
    assert np.exp(ratios[2]) == pytest.approx(0.1 / (1 - 2 / 8))


def test_an_uncertain_answer_is_the_mixture_of_its_values() -> None:
    register = register_of({"x": ["a", "a", "b", "c"]}, error=0.1)
    model = register.models["x"]
    mixed = np.exp(model.soft_log_ratios({"a": 0.7, "b": 0.2}))
    expected = 0.7 * np.exp(model.log_ratios("a")) + 0.2 * np.exp(model.log_ratios("b")) + 0.1
    assert mixed == pytest.approx(expected)
    sure = begin(register).update(Answer("x", {"a": 1.0}))
    assert posterior_of(sure) == pytest.approx(posterior_of(begin(register).update(Answer("x", "a"))))


@pytest.mark.parametrize("shares", [{}, {"a": 1.2}, {"a": -0.1}, {"a": 0.7, "b": 0.7}])
def test_shares_that_are_none_are_refused(shares) -> None:
    with pytest.raises(DataError, match=r"shares in \[0, 1\]"):
        begin(register_of({"x": ["a", "b"]})).update(Answer("x", shares))


def test_answers_of_a_group_are_right_or_wrong_together() -> None:
    columns = {"x": ["a", "a", "b"], "y": ["u", "v", "v"]}
    attributes = {name: {"kind": "categorical", "error": 0.1, "group": "photo"} for name in columns}
    dictionary = dictionary_of(attributes, groups={"photo": {"error": 0.25}}, absentees="independent")
    register = coded(table_of(columns), dictionary, "grouped")
    belief = begin(register).update(Answer("x", "a"), Answer("y", "u"))
    x, y = (np.exp(register.models[name].log_ratios(answer)) for name, answer in (("x", "a"), ("y", "u")))
    codes = register.codes(np.arange(3), ["x", "y"])
    weights = 0.75 * x[codes[:, 0]] * y[codes[:, 1]] + 0.25
    assert posterior_of(belief)[:3] == pytest.approx(weights / weights.sum(), abs=1e-6)


def test_evidence_from_a_suspicious_picture_weighs_less() -> None:
    register = register_of({"x": ["a", "b", "b", "b"]}, 0.2)
    sure, suspicious = (begin(register).update(Answer("x", "a", trust)) for trust in (1.0, 0.3))
    assert begin(register).candidates[0].probability < suspicious.candidates[0].probability
    assert suspicious.candidates[0].probability < sure.candidates[0].probability


@pytest.mark.parametrize("trust", [0.0, -1.0, 1.5, float("nan")])
def test_a_trust_that_is_none_is_refused(trust) -> None:
    with pytest.raises(DataError, match="trust"):
        begin(register_of({"x": ["a", "b"]})).update(Answer("x", "a", trust))


def test_contradicting_answers_at_a_tiny_error_give_figures_and_nobody() -> None:
    columns = {"x": ["a"] * 5 + ["b"] * 5, "y": ["u"] * 5 + ["v"] * 5}
    belief = begin(register_of(columns, 0.2, error=1e-12)).update(Answer("x", "a"), Answer("y", "v"))
    assert np.isfinite([belief.entropy, belief.absent, *(one.probability for one in belief.candidates)]).all()
    assert belief.absent > 0.99


def test_one_record_is_this_person_or_nobody() -> None:
    register = register_of({"x": ["a"]}, 0.2)
    assert "one record" in register.notes[0]
    belief = begin(register)
    assert belief.entropy == pytest.approx(entropy(np.array([0.8, 0.2])))
    assert belief.update(Answer("x", "a")).candidates[0].probability > 0.8


@pytest.mark.parametrize("policy", POLICIES)
def test_no_question_is_asked_twice(policy) -> None:
    belief, seen = begin(cube(0.1, 0.2)), []
    while questions := ranked(belief, policy, ("b2", "b0", "b1"), np.random.default_rng(0)):
        seen.append(questions[0].attribute)
        belief = belief.update(Answer(seen[-1], "1"))
    assert sorted(seen) == ["b0", "b1", "b2"]
    assert policy != "fixed" or seen == ["b2", "b0", "b1"]


def test_an_answer_is_not_taken_twice() -> None:
    belief = begin(cube()).update(Answer("b0", "1"))
    with pytest.raises(DataError, match="answered before; undo"):
        belief.update(Answer("b0", "0"))


def test_cost_and_availability_decide_between_equal_questions() -> None:
    columns = {"x": ["a", "b"] * 4, "y": ["u", "u", "v", "v"] * 2}
    attributes = {
        "x": {"kind": "categorical", "error": 0.05, "cost": 3.0},
        "y": {"kind": "categorical", "error": 0.05, "availability": 0.5},
    }
    belief = begin(coded(table_of(columns), dictionary_of(attributes), "costly"))
    first, second = ranked(belief)
    assert (first.attribute, second.attribute) == ("y", "x")
    assert first.score == pytest.approx(0.5 * first.bits)
    assert second.score == pytest.approx(second.bits / 3.0)


@pytest.mark.parametrize("absent", [0.0, 0.2])
def test_two_steps_are_the_bits_of_a_question_and_of_the_best_one_after_each_answer(absent) -> None:
    columns = {"x": list("aaabbbcc"), "y": list("uuuuvvvv"), "z": list("klmnklmn")}
    attributes = {name: {"kind": "categorical", "error": 0.1, "open": True} for name in columns}
    dictionary = dictionary_of(attributes, absent, absentees="independent")
    belief = begin(coded(table_of(columns), dictionary, "open"))
    bits = expected_bits(belief, tuple(columns))
    for question in ranked(belief, "two_step"):
        name = question.attribute
        table, base = channel_by_hand(belief, name)
        chances = posterior_by_hand(belief, {}, absent) @ np.vstack([table, base[None]])
        after = 0.0
        for chance, answer in zip(chances, [*belief.register.models[name].values, "another"], strict=True):
            others = [other for other in columns if other != name]
            after += chance * max(expected_bits(belief.update(Answer(name, answer)), others).values())
        # All three are looked beyond, and lifted above those that would not be.
        assert question.score - max(bits.values()) == pytest.approx(bits[name] + 0.99 * after, abs=1e-5)


def test_two_steps_ask_nothing_useless_first() -> None:
    columns = {"x": list("ab") * 4, "useless": ["u"] * 8, "too": ["v"] * 8}
    belief = begin(register_of(columns, error=1e-6))
    assert ranked(belief, "two_step")[0].attribute == "x"


def test_edges_cut_are_those_of_the_definition() -> None:
    register = register_of({"x": ["a", "a", "b", "c"], "y": ["u", "v", "u", "v"]}, 0.2, error=0.1)
    belief = begin(register)
    shares = posterior_by_hand(belief, {}, 0.2)
    for question in ranked(belief, "ec2"):
        table, base = channel_by_hand(belief, question.attribute)
        channel_table = np.vstack([table, base[None]])
        edges = 1 - (shares**2).sum()
        left = 0.0
        for outcome in range(len(base)):
            kept = shares * channel_table[:, outcome]
            left += kept.sum() * (kept.sum() ** 2 - (kept**2).sum())
        assert question.score == pytest.approx(edges - left, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from("abc"), min_size=2, max_size=6),
    st.sampled_from([0.0, 0.2]),
    st.floats(0.001, 0.9),
)
def test_expected_bits_heed_that_a_source_may_be_about_somebody_else(column, absent, error) -> None:
    attributes = {"x": {"kind": "categorical", "error": 0.1, "group": "photo"}}
    dictionary = dictionary_of(attributes, absent, groups={"photo": {"error": error}}, absentees="independent")
    belief = begin(coded(table_of({"x": column}), dictionary, "grouped"))
    table, base = channel_by_hand(belief, "x")
    mixed = (1 - error) * np.vstack([table, base[None]]) + error * base
    now = posterior_by_hand(belief, {}, absent)
    fall = entropy(now @ mixed) - float(now @ [entropy(row) for row in mixed])
    assert expected_bits(belief, ["x"])["x"] == pytest.approx(fall, abs=1e-5)


def test_a_source_whose_answers_fit_nobody_is_trusted_less() -> None:
    columns = {name: ["a"] * 10 + ["b"] * 10 for name in "xyz"}
    attributes = {
        name: {"kind": "categorical", "error": 0.02, "group": "photo" if name != "z" else None} for name in "xyz"
    }
    dictionary = dictionary_of(attributes, 0.0, groups={"photo": {"error": 0.2}}, absentees="independent")
    belief = begin(coded(table_of(columns), dictionary, "grouped")).update(Answer("z", "a"))
    assert belief.trust_in("photo") == pytest.approx(0.8)
    # By hand: P(z, x | sound) and P(z, x | not) over twenty records, x and z always alike.
    fitting, other = belief.update(Answer("x", "a")), belief.update(Answer("x", "b"))
    z, x = (
        np.exp(belief.register.models["z"].log_ratios("a"))[1:],
        np.exp(belief.register.models["x"].log_ratios("a"))[1:],
    )
    against = np.exp(belief.register.models["x"].log_ratios("b"))[1:]
    for after, ratios in ((fitting, x), (other, against)):
        sound = 0.8 * (z * ratios).mean()
        assert after.trust_in("photo") == pytest.approx(sound / (sound + 0.2 * z.mean()), abs=1e-6)
    assert other.trust_in("photo") < 0.8 < fitting.trust_in("photo")
