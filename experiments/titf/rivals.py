"""What tracing is held against: hard filtering, a decision tree on exact values, and one-shot linkage by Splink.

All are asked about the people of the same benchmark, who give the same answers, and are summed up as `Trial`s. Neither
of the first two knows errors or "not in the register": what they name they claim with certainty.
"""

import logging
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.tree import DecisionTreeClassifier

from unmask.tracing.attributes.channels import entropy
from unmask.tracing.simulation.trials import AnswerNoise, Benchmark, Trial, answers_of

Answers = dict[str, str | None]


def people_of(benchmark: Benchmark, noise: AnswerNoise, seed: int) -> list[tuple[int, Answers]]:
    """(row or -1, what they would answer) of everybody, as `simulation.run` has it."""
    rows = [*benchmark.rows.tolist(), *(-1 for _ in benchmark.absent)]
    people = [*benchmark.present, *benchmark.absent]
    return [
        (row, answers_of(benchmark, person, noise, (seed, number)))
        for number, (row, person) in enumerate(zip(rows, people, strict=True))
    ]


def _codes(benchmark: Benchmark) -> tuple[list[str], np.ndarray]:
    names = list(benchmark.answering)
    return names, benchmark.register.codes(np.arange(benchmark.register.size), names)


def _code(benchmark: Benchmark, name: str, value: str) -> int:
    """-1: a value that no record has."""
    return benchmark.register.models[name].code_of(value)


def _trial(row: int, candidates: np.ndarray, asked: int, used: int) -> Trial:
    """One candidate is "identified", with certainty; none left says nothing."""
    status = "identified" if len(candidates) == 1 else "undetermined"
    named = int(candidates[0]) if len(candidates) else -2
    return Trial(row, status, named, 1.0 / max(len(candidates), 1), 0.0, asked, used, float(asked), None, (0.0,), 0.0)


def hard_filtering(benchmark: Benchmark, noise: AnswerNoise, seed: int) -> list[Trial]:
    """Ask for the attribute with the most entropy among the candidates; who does not fit the answer is out."""
    names, codes = _codes(benchmark)
    trials = []
    for row, answers in people_of(benchmark, noise, seed):
        candidates, left = np.arange(len(codes)), list(range(len(names)))
        asked = used = 0
        while len(candidates) > 1 and left:
            counts = [np.bincount(codes[candidates, place])[1:] for place in left]
            bits = [float(entropy(count / max(count.sum(), 1))) for count in counts]
            if max(bits) == 0.0:
                break
            place = left.pop(int(np.argmax(bits)))
            asked += 1
            answer = answers[names[place]]
            if answer is not None:
                used += 1
                own = codes[candidates, place]
                candidates = candidates[(own == _code(benchmark, names[place], answer)) | (own == 0)]
        trials.append(_trial(row, candidates, asked, used))
    return trials


def decision_tree(benchmark: Benchmark, noise: AnswerNoise, seed: int) -> list[Trial]:
    """A tree by entropy on indicators of values; each attribute counts once, "not to be had" goes the way of "no"."""
    names, codes = _codes(benchmark)
    columns = [(place, code) for place in range(len(names)) for code in range(1, int(codes[:, place].max()) + 1)]
    table = np.stack([codes[:, place] == code for place, code in columns], axis=1)
    tree = DecisionTreeClassifier(criterion="entropy", random_state=seed).fit(table, np.arange(len(codes))).tree_
    trials = []
    for row, answers in people_of(benchmark, noise, seed):
        node, asked = 0, set()
        while tree.children_left[node] >= 0:
            place, code = columns[tree.feature[node]]
            asked.add(place)
            answer = answers[names[place]]
            yes = answer is not None and _code(benchmark, names[place], answer) == code
            node = tree.children_right[node] if yes else tree.children_left[node]
        used = sum(answers[names[place]] is not None for place in asked)
        trials.append(_trial(row, np.flatnonzero(tree.value[node][0] > 0.0), len(asked), used))
    return trials


def one_shot(benchmark: Benchmark, noise: AnswerNoise, seed: int) -> list[Trial]:
    """All attributes at once by Fellegi and Sunter, each pair for itself (Splink); identified from 0.95 on.

    m and u are stated, m by the data dictionary, u by the values' frequencies (term-frequency adjustment).
    """
    import splink.comparison_library as comparisons
    from splink import DuckDBAPI, Linker, SettingsCreator

    names, codes = _codes(benchmark)
    values: list[dict[str, Any]] = [
        {name: str(code) if code else None for name, code in zip(names, own, strict=True)} for own in codes.tolist()
    ]
    records = [{"id": f"r{row}", **own} for row, own in enumerate(values)]
    people = people_of(benchmark, noise, seed)
    asked = [
        {
            "id": f"q{number}",
            **{name: None if answer is None else str(_code(benchmark, name, answer)) for name, answer in given.items()},
        }
        for number, (_, given) in enumerate(people)
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
            for name, model in benchmark.register.models.items()
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
    trials = []
    for number, (row, given) in enumerate(people):
        probability, record = best[f"q{number}"]
        status = "identified" if probability >= 0.95 else "undetermined"
        used = sum(answer is not None for answer in given.values())
        trials.append(
            Trial(
                row,
                status,
                int(record[1:]),
                probability,
                0.0,
                len(given),
                used,
                float(len(given)),
                None,
                (0.0,),
                0.0,
            )
        )
    return trials


RIVALS = {"hard filtering": hard_filtering, "decision tree": decision_tree, "one-shot linkage (Splink)": one_shot}
