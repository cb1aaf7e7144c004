"""What tracing is held against: hard filtering, a decision tree on exact values, and one-shot linkage by Splink.

All are asked about the people of the same bench, who give the same answers, and are summed up as `Trial`s. None of the
first two knows errors or "nobody": what they name they claim with certainty.
"""

import logging
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.tree import DecisionTreeClassifier

from unmask.tracing.attributes.channels import entropy
from unmask.tracing.simulation.trials import Bench, Trial, World, answers_of

Told = dict[str, str | None]


def people_of(bench: Bench, world: World, seed: int) -> list[tuple[int, Told]]:
    """(row or -1, what they would answer) of everybody, as `simulation.run` has it."""
    rows = [*bench.rows.tolist(), *(-1 for _ in bench.absent)]
    people = [*bench.present, *bench.absent]
    return [
        (row, answers_of(bench, person, world, (seed, number)))
        for number, (row, person) in enumerate(zip(rows, people, strict=True))
    ]


def _codes(bench: Bench) -> tuple[list[str], np.ndarray]:
    names = list(bench.answering)
    return names, bench.register.codes(np.arange(bench.register.size), names)


def _code(bench: Bench, name: str, told: str) -> int:
    """-1: a value that no record has."""
    return bench.register.models[name].code_of(told)


def _trial(row: int, candidates: np.ndarray, asked: int, used: int) -> Trial:
    """One candidate is "identified", with certainty; none left says nothing."""
    status = "identified" if len(candidates) == 1 else "undetermined"
    named = int(candidates[0]) if len(candidates) else -2
    return Trial(row, status, named, 1.0 / max(len(candidates), 1), 0.0, asked, used, float(asked), None, (0.0,), 0.0)


def hard_filtering(bench: Bench, world: World, seed: int) -> list[Trial]:
    """Ask for the attribute with the most entropy among the candidates; who does not fit the answer is out."""
    names, codes = _codes(bench)
    found = []
    for row, told in people_of(bench, world, seed):
        candidates, left = np.arange(len(codes)), list(range(len(names)))
        asked = used = 0
        while len(candidates) > 1 and left:
            counts = [np.bincount(codes[candidates, place])[1:] for place in left]
            bits = [float(entropy(count / max(count.sum(), 1))) for count in counts]
            if max(bits) == 0.0:
                break
            place = left.pop(int(np.argmax(bits)))
            asked += 1
            answer = told[names[place]]
            if answer is not None:
                used += 1
                own = codes[candidates, place]
                candidates = candidates[(own == _code(bench, names[place], answer)) | (own == 0)]
        found.append(_trial(row, candidates, asked, used))
    return found


def decision_tree(bench: Bench, world: World, seed: int) -> list[Trial]:
    """A tree by entropy on indicators of values; each attribute counts once, "not to be had" goes the way of "no"."""
    names, codes = _codes(bench)
    columns = [(place, code) for place in range(len(names)) for code in range(1, int(codes[:, place].max()) + 1)]
    table = np.stack([codes[:, place] == code for place, code in columns], axis=1)
    tree = DecisionTreeClassifier(criterion="entropy", random_state=seed).fit(table, np.arange(len(codes))).tree_
    found = []
    for row, told in people_of(bench, world, seed):
        node, asked = 0, set()
        while tree.children_left[node] >= 0:
            place, code = columns[tree.feature[node]]
            asked.add(place)
            answer = told[names[place]]
            yes = answer is not None and _code(bench, names[place], answer) == code
            node = tree.children_right[node] if yes else tree.children_left[node]
        used = sum(told[names[place]] is not None for place in asked)
        found.append(_trial(row, np.flatnonzero(tree.value[node][0] > 0.0), len(asked), used))
    return found


def one_shot(bench: Bench, world: World, seed: int) -> list[Trial]:
    """All attributes at once by Fellegi and Sunter, each pair for itself (Splink); identified from 0.95 on.

    m and u are stated, m by the data dictionary, u by the values' frequencies (term-frequency adjustment).
    """
    import splink.comparison_library as comparisons
    from splink import DuckDBAPI, Linker, SettingsCreator

    names, codes = _codes(bench)
    values: list[dict[str, Any]] = [
        {name: str(code) if code else None for name, code in zip(names, own, strict=True)} for own in codes.tolist()
    ]
    records = [{"id": f"r{row}", **own} for row, own in enumerate(values)]
    people = people_of(bench, world, seed)
    asked = [
        {
            "id": f"q{number}",
            **{name: None if answer is None else str(_code(bench, name, answer)) for name, answer in told.items()},
        }
        for number, (_, told) in enumerate(people)
    ]
    settings = SettingsCreator(
        link_type="dedupe_only",
        unique_id_column_name="id",
        probability_two_random_records_match=1.0 / len(records),
        comparisons=[
            comparisons.ExactMatch(name).configure(
                m_probabilities=[1.0 - model.attribute.error, model.attribute.error],
                u_probabilities=[same, 1.0 - same],
                term_frequency_adjustments=True,
            )
            for name, model in bench.register.models.items()
            for same in [float(((model.counts[1:] / model.counts[1:].sum()) ** 2).sum())]
        ],
    )
    database = DuckDBAPI()
    register = database.register(pa.Table.from_pylist(records))
    linker = Linker(register, settings, log_level=logging.ERROR)
    for name in names:
        linker.table_management.compute_tf_table(name)
    queries = database.register(
        pa.Table.from_pylist(asked, schema=pa.schema([(n, pa.string()) for n in ("id", *names)]))
    )
    scored = linker.inference.score_pairs(queries, register).as_duckdbpyrelation()
    best: dict[str, tuple[float, str]] = {}
    for left, right, probability in scored.project("id_l, id_r, match_probability").fetchall():
        query, record = (left, right) if left.startswith("q") else (right, left)
        best[query] = max(best.get(query, (-1.0, "")), (probability, record))
    found = []
    for number, (row, told) in enumerate(people):
        probability, record = best[f"q{number}"]
        status = "identified" if probability >= 0.95 else "undetermined"
        used = sum(answer is not None for answer in told.values())
        found.append(
            Trial(row, status, int(record[1:]), probability, 0.0, len(told), used, float(len(told)), None, (0.0,), 0.0)
        )
    return found


RIVALS = {"hard filtering": hard_filtering, "decision tree": decision_tree, "one-shot linkage (Splink)": one_shot}
