"""Tracing by number of records: reading, a soft step, memory; beside a DuckDB loop and Splink's one-shot scoring.

A soft step is an answer weighed by every record, and all questions ranked anew. The DuckDB loop takes every answer as
exact: it filters, counts, and computes the entropy of all columns that are left. Splink scores the finished record
against all others at once. All trace the same people with the same answers, in turn, in one process a size.
"""

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psutil
import pyarrow.parquet as pq
from common import finish, parser, spread

from unmask.tracing.attributes.dictionary import Dictionary
from unmask.tracing.inference.belief import Answer, Belief, begin
from unmask.tracing.inference.questions import ranked
from unmask.tracing.registers.memory import MemoryRegister, read_register
from unmask.tracing.registers.sql import over_parquet
from unmask.tracing.simulation.synthetic import RegisterSpec, dictionary_of, names_of, write_register

PEOPLE = 5
SPLINK_MOST = 5_000_000  # records; with ten million it was killed for memory on a machine with 24 GB
ANSWERS = 6


def answered(register: MemoryRegister, row: int, belief: Belief, steps: list[float]) -> list[tuple[str, str | None]]:
    """Trace one person who answers rightly; seconds of every step are added to `steps`."""
    answers: list[tuple[str, str | None]] = []
    questions = ranked(belief)
    while len(answers) < ANSWERS:
        name = questions[0].attribute
        code = int(register.codes(np.array([row]), [name])[0, 0])
        answers.append((name, register.models[name].values[code - 1] if code else None))
        begun = time.perf_counter()
        belief = belief.update(Answer(*answers[-1]))
        questions = ranked(belief)
        steps.append(time.perf_counter() - begun)
    return answers


def repeated(belief: Belief, answers: list[tuple[str, str | None]], steps: list[float]) -> None:
    """The same answers in another register, or once more."""
    for answer in answers:
        begun = time.perf_counter()
        belief = belief.update(Answer(*answer))
        ranked(belief)
        steps.append(time.perf_counter() - begun)


def filtered(database: duckdb.DuckDBPyConnection, answers: list[tuple[str, str | None]], steps: list[float]) -> None:
    """The loop without errors: filter, count, entropy of every column that is left."""
    clauses: list[str] = []
    left = list(names_of(RegisterSpec()))
    for name, value in answers:
        begun = time.perf_counter()
        left.remove(name)
        if value is not None:
            clauses.append(f"{name} = '{value}'")
        where = f" where {' and '.join(clauses)}" if clauses else ""
        entropies = ", ".join(f"entropy({one})" for one in left)
        database.execute(f"select count(*), {entropies} from register{where}").fetchall()
        steps.append(time.perf_counter() - begun)


class Splink:
    """One-shot Fellegi-Sunter scoring of a person against the whole register."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        import splink.comparison_library as comparisons
        from splink import DuckDBAPI, Linker, SettingsCreator

        names = names_of(RegisterSpec())
        settings = SettingsCreator(
            link_type="dedupe_only",
            comparisons=[
                comparisons.ExactMatch(name).configure(m_probabilities=[0.95, 0.05], u_probabilities=[0.2, 0.8])
                for name in names
            ],
            unique_id_column_name="id",
        )
        self.register = DuckDBAPI(database).register("register")
        self.linker = Linker(self.register, settings, log_level=logging.ERROR)

    def score(self, person: dict[str, Any]) -> float:
        """Seconds."""
        begun = time.perf_counter()
        scored = self.linker.inference.score_pairs([{**person, "id": "asked"}], self.register)
        scored.as_duckdbpyrelation().order("match_weight desc").limit(10).fetchall()
        return time.perf_counter() - begun


def measure(place: Path, dictionary: Dictionary) -> dict[str, Any]:
    """All figures of one size; memory is that of this process."""
    before = psutil.Process().memory_info().rss
    begun = time.perf_counter()
    register = read_register(place, dictionary)
    seconds = time.perf_counter() - begun
    start = begin(register)
    first: list[float] = []
    rows = np.random.default_rng(0).choice(register.size, PEOPLE + 1, replace=False).tolist()
    answered(register, rows[0], start, first)  # the dependencies of the absent are fitted now, once
    figures: dict[str, Any] = {
        "records": register.size,
        "read": round(seconds, 3),
        "first step": round(first[0], 4),
        "peak MB": round(peak_mb() - before / 2**20, 1),  # of all that was read and believed, without the libraries
    }
    database = duckdb.connect()
    database.execute(f"create table register as from read_parquet('{place}')")
    splink = Splink(database) if register.size <= SPLINK_MOST else None
    steps: dict[str, list[float]] = {"soft step": [], "filter and count": []}
    ratios: dict[str, list[float]] = {"filter and count": []}
    traces = []
    table = pq.read_table(place)
    for row in rows[1:]:
        ours: list[float] = []
        theirs: list[float] = []
        answers = answered(register, row, start, ours)
        filtered(database, answers, theirs)
        steps["soft step"] += ours
        steps["filter and count"] += theirs
        ratios["filter and count"].append(sum(theirs) / sum(ours))
        if splink is not None:
            shot = splink.score(table.slice(row, 1).to_pylist()[0])
            steps.setdefault("Splink, one shot", []).append(shot)
            ratios.setdefault("Splink, one shot", []).append(shot / sum(ours))
        traces.append(answers)
    figures["seconds"] = {name: spread(some) for name, some in steps.items()}
    figures["times ours"] = {name: spread(some) for name, some in ratios.items()}
    slow: list[float] = []
    repeated(begin(over_parquet(place, dictionary)), traces[0], slow)
    figures["seconds"]["soft step, from disk"] = spread(slow)
    return figures


def peak_mb() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--sizes", type=int, nargs="+", default=[10**3, 10**5, 10**6, 5 * 10**6, 10**7])
    arguments.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    dictionary = dictionary_of(RegisterSpec())
    if chosen.worker is not None:
        print(json.dumps(measure(chosen.worker, dictionary)))
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for size in chosen.sizes:
            place = Path(folder) / f"{size}.parquet"
            write_register(place, RegisterSpec(size, chosen.seed))
            done = subprocess.run(
                [sys.executable, __file__, "--worker", str(place)], check=True, stdout=subprocess.PIPE, text=True
            )
            results.append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
            place.unlink()
    finish(chosen, "tracing", {"sizes": results})


if __name__ == "__main__":
    main()
