"""Records of one person, linked before tracing: duplicates split the probability, and no answer tells them apart.

Probabilistic linkage after Fellegi and Sunter by Splink (the "linkage" extra), trained in its recommended order: how
many pairs match from strict rules, u by random sampling, m by expectation maximisation blocked on different columns in
turn (methods/titf section 10).
Which columns block is ours, see `_blocks`, and so is what is merged, see `_clusters`.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from scipy.special import expit

from unmask.errors import DataError, MissingExtraError
from unmask.files import whole
from unmask.tracing.attributes.dictionary import Attribute, Dictionary
from unmask.tracing.attributes.models import NEAR, SIMILAR, normal
from unmask.tracing.attributes.values import not_recorded
from unmask.tracing.registers.columns import read_column
from unmask.tracing.registers.databases import DUCKDB_SETTINGS
from unmask.tracing.registers.tables import as_text, reading_notes

_LEAST = 20  # records from which anything can be learned
_RECALL = 0.7  # guessed share of duplicates that agree in all columns of a strict rule
_STRICT = 7.0  # bits beyond those of all pairs in which a strict rule must agree: hardly one pair does by chance
_RULES = 4
_COMPARED = 10.0  # pairs per record that may agree in a block
# Pairs per expected match, and at least, on which m is learned: among many more alike by chance it would drown.
_PER_MATCH, _FEWEST = 3.0, 30.0
_TOLERATED = 1.2  # expected matches, of those that strict rules tell of, from which weights are found too high
_DRAWN = 20_000  # pairs drawn to tell the recall of the strict rules
_SAMPLED = 4e6  # pairs from which u is estimated
_AGREE = 0.9  # m of "the same" from which training begins
# Matching pairs that this counts for. Were they few, then where columns depend on one another and hardly anybody is
# there twice, records that are merely alike would be learned from: m falls, strict rules seem to miss most matches, and
# `_excess` tolerates as many.
_BELIEVED = 5.0
_ITERATIONS, _CONVERGED = 200, 1e-5
_FAR = 3.0  # spreads beyond which numbers are different


@dataclass(frozen=True)
class Cluster:
    """Records that are probably of one person: one that is kept, and those that match it, each by itself.

    Attributes:
        rows: ascending, two or more.
        ids: identifiers of the rows.
        kept: the row that stays: of its records one with most values recorded.
        probabilities: of each row, that it matches the kept one, at least the threshold; 1.0 for the kept one itself.
    """

    rows: tuple[int, ...]
    ids: tuple[str, ...]
    kept: int
    probabilities: tuple[float, ...]

    @property
    def kept_id(self) -> str:
        """Identifier of the row that stays."""
        return self.ids[self.rows.index(self.kept)]

    @property
    def probability(self) -> float:
        """The least match probability between the kept record and another."""
        return min(self.probabilities)


@dataclass(frozen=True)
class Duplicates:
    """Records of the same person, by cluster.

    Attributes:
        records: of the register.
        threshold: match probability from which two records are taken for one person's.
        clusters: disjoint, of two records or more, by row.
        prior: estimated probability that two random records match.
        blocks: columns of which all must be equal, in one block at least, for two records to be compared.
        recall: estimated share of duplicate pairs that are compared at all.
        errors: by attribute, 1 - m: the share of matching pairs that disagree, never 0; empty if there are no clusters.
        notes: what did not go as it should, for people.
    """

    records: int
    threshold: float
    clusters: tuple[Cluster, ...]
    prior: float
    blocks: tuple[tuple[str, ...], ...]
    recall: float
    errors: dict[str, float]
    notes: tuple[str, ...]

    @property
    def superfluous(self) -> int:
        """Records that go: all in clusters but those that are kept."""
        return sum(len(cluster.rows) - 1 for cluster in self.clusters)


def deduplicate(table: pa.Table, dictionary: Dictionary, threshold: float = 0.95, seed: int = 0) -> Duplicates:
    """Find records of the same person. Identifiers may be there twice; they are not compared.

    Args:
        table: the register, N records.
        dictionary: its columns; all are compared, those for verification too, but not those that are ignored.
        threshold: match probability from which two records are taken for one person's, in (0, 1).
        seed: of the sample from which u is estimated.

    Raises:
        MissingExtraError: Splink is not installed.
        DataError: too few records or columns to learn from, a number that is none, or a column that is not there.
    """
    try:
        from splink import DuckDBAPI, Linker, SettingsCreator, block_on
    except ImportError as error:
        raise MissingExtraError("linkage", "deduplication") from error
    if not 0.0 < threshold < 1.0:
        raise DataError(f"the threshold is a probability between 0 and 1, not {threshold}")
    if table.num_rows < _LEAST:
        raise DataError(f"{table.num_rows} records are too few to learn from: {_LEAST} or more, or compare them by eye")
    columns, bits, read = _prepared(table, dictionary)
    if len(columns) < 3:
        raise DataError("finding duplicates takes three columns or more in which records differ")
    names = list(columns)
    short = {name: f"c{place}" for place, name in enumerate(names)}  # names that need no quoting in SQL
    prepared = pa.table({"unique_id": pa.array(range(table.num_rows)), **{short[n]: columns[n] for n in names}})
    pairs = table.num_rows * (table.num_rows - 1) / 2
    blockable = {name: bits[name] for name in names if dictionary.attributes[name].kind != "numeric"}
    blockable = blockable if len(blockable) > 2 else bits
    renamed = prepared.rename_columns(["unique_id", *names])
    blocks = _blocks(blockable, renamed, _COMPARED * table.num_rows)
    strict = _strict(blockable, np.log2(pairs) + _STRICT)
    rules: list[Any] = [block_on(*(short[name] for name in block)) for block in blocks]
    strict_rules: list[Any] = [block_on(*(short[name] for name in some)) for some in strict]
    settings = SettingsCreator(
        link_type="dedupe_only",
        comparisons=[_comparison(short[name], dictionary.attributes[name]) for name in names],
        blocking_rules_to_generate_predictions=rules,
        probability_two_random_records_match=1.0 / pairs,
    )
    notes = [*reading_notes(table), *read]
    with duckdb.connect(config=DUCKDB_SETTINGS) as connection:
        linker = Linker(DuckDBAPI(connection).register(prepared), settings, log_level=logging.ERROR)
        try:
            linker.training.estimate_probability_two_random_records_match(strict_rules, recall=_RECALL)
        except ValueError as error:
            raise DataError("nearly all pairs of records agree: these columns do not tell people apart") from error
        linker.training.estimate_u_using_random_sampling(max_pairs=_SAMPLED, seed=seed)
        model = linker.misc.save_model_to_json()
        if not model["probability_two_random_records_match"]:
            notes.append("no two records agree in what would be strict: one pair of duplicates is assumed beforehand")
            model["probability_two_random_records_match"] = 1.0 / pairs
        matches = pairs * model["probability_two_random_records_match"]
        learned_on = _blocks(blockable, renamed, max(_PER_MATCH * matches, _FEWEST))
        equal = [" and ".join(f"l.{short[name]} = r.{short[name]}" for name in block) for block in learned_on]
        training = model | {"blocking_rules_to_generate_predictions": [{"blocking_rule": rule} for rule in equal]}
        linker = Linker(DuckDBAPI(connection).register(prepared), training, log_level=logging.ERROR)
        compared = linker.inference.predict(warning_mode="never").physical_name
        gammas = ", ".join(f"gamma_{short[name]}" for name in names)
        rows = connection.execute(f"select {gammas}, count(*) from {compared} group by all order by all").fetchall()
        patterns = np.array(rows, np.int64).reshape(-1, len(names) + 1)
        _train(model, patterns, [[names.index(name) for name in block] for block in learned_on], matches)
        agreeing = _agreeing(model, names, dictionary)
        # Both records must have it recorded.
        equal_both = {name: agreeing[name] * (1.0 - columns[name].null_count / table.num_rows) ** 2 for name in names}
        matches *= _RECALL / _recall(strict, equal_both, seed)
        model["probability_two_random_records_match"] = min(matches / pairs, 0.5)
        linker = Linker(DuckDBAPI(connection).register(prepared), model, log_level=logging.ERROR)
        weights = linker.inference.predict(warning_mode="never").as_pyarrow_table()["match_weight"].to_numpy()
        shift = _excess(weights, _TOLERATED * matches)
        if shift > 0.0:
            notes.append(
                "more records are alike than strict rules tell of duplicates, as where columns depend on one another: "
                f"all match weights were lowered by {shift:.1f} bits, so that no more matches are expected"
            )
            odds = 2.0**-shift * matches / max(pairs - matches, 1.0)
            model["probability_two_random_records_match"] = odds / (1.0 + odds)
        linker = Linker(DuckDBAPI(connection).register(prepared), model, log_level=logging.ERROR)
        edges = linker.inference.predict(threshold_match_probability=threshold, warning_mode="never").as_pyarrow_table()
    matching = (edges[name].to_pylist() for name in ("unique_id_l", "unique_id_r", "match_probability"))
    clusters = _clusters(zip(*matching, strict=True), _recorded(table, dictionary), _ids(table, dictionary.id))
    missed = np.prod([1.0 - np.prod([equal_both[name] for name in block]) for block in blocks])
    least = 1.0 / (edges.num_rows + 2.0)
    errors = {name: round(float(np.clip(1.0 - share, least, 1.0 - least)), 6) for name, share in agreeing.items()}
    return Duplicates(
        table.num_rows,
        threshold,
        clusters,
        float(matches / pairs),
        tuple(blocks),
        float(1.0 - missed),
        errors if clusters else {},
        tuple(notes),
    )


def _ids(table: pa.Table, name: str) -> list[str]:
    if name not in table.column_names:
        raise DataError(f"the register has no column {name!r}; it has {', '.join(table.column_names)}")
    index, texts = as_text(table[name])
    return ["" if text is None else text for text in texts.take(index).to_pylist()]


def _prepared(table: pa.Table, dictionary: Dictionary) -> tuple[dict[str, pa.Array], dict[str, float], list[str]]:
    """Columns to compare, texts as they are compared; bits in which two random records agree, -log2 P(equal); notes."""
    columns, bits = {}, {}
    notes: list[str] = []
    for name, attribute in dictionary.used.items():
        if attribute.kind == "score":
            continue
        if name not in table.column_names:
            raise DataError(f"the register has no column {name!r}; it has {', '.join(table.column_names)}")
        index, reading = read_column(name, attribute, table[name])
        notes += reading.notes
        if attribute.kind == "numeric":
            numbers = [None if value is None else float(value) for value in reading.values]
            columns[name] = pa.array(numbers, pa.float64()).take(index)
        else:
            values = [None if value is None else normal(value) or None for value in reading.values]
            columns[name] = pa.array(values, pa.string()).take(index)
        counts = np.array(columns[name].drop_null().value_counts().field("counts"), float)
        if len(counts) < 2:
            del columns[name]
        else:
            # One more pair: values that are there once each do not make a column that never agrees by chance.
            bits[name] = float(np.log2(counts.sum() ** 2) - np.log2((counts * (counts - 1.0)).sum() + 1.0))
    return columns, bits, notes


def _blocks(bits: dict[str, float], prepared: pa.Table, most: float) -> list[tuple[str, ...]]:
    """Disjoint sets of columns, two or more, in each of which at most so many pairs agree, if there are such.

    Disjoint, so that an error in one leaves the others, and each column is learned in a pass that does not block on it.
    Columns that tell most first: the fewer a block has, the fewer duplicates it misses.
    """
    order = sorted(bits, key=lambda name: -bits[name])
    sets: list[list[str]] = []
    chosen: list[str] = []
    for name in order:
        chosen.append(name)
        if _agreeing_pairs(prepared, chosen) <= most:
            sets.append(chosen)
            chosen = []
    if len(sets) < 2:
        sets = [order[::2], order[1::2]]
    return [tuple(some) for some in sets[:_RULES]]


def _agreeing_pairs(prepared: pa.Table, names: Sequence[str]) -> float:
    """Pairs of records that have the same values, and have them recorded, in all of some columns."""
    counts = prepared.select(list(names)).drop_null().group_by(list(names)).aggregate([([], "count_all")])["count_all"]
    of_each = counts.to_numpy().astype(float)
    return float((of_each * (of_each - 1.0)).sum() / 2.0)


def _strict(bits: dict[str, float], enough: float) -> list[tuple[str, ...]]:
    """Sets of columns in each of which hardly a pair agrees by chance; all columns, if these do not tell so much."""
    order = sorted(bits, key=lambda name: -bits[name])
    rules = []
    for start in range(min(_RULES, len(order))):
        chosen: list[str] = []
        for name in order[start:] + order[:start]:
            if sum(bits[one] for one in chosen) < enough:
                chosen.append(name)
        rules.append(tuple(sorted(chosen)))
    return sorted(set(rules))


def _comparison(column: str, attribute: Attribute) -> Any:
    """How a column is compared: levels from "the same" to "other", with the frequency of a value that is the same."""
    import splink.comparison_level_library as levels
    import splink.comparison_library as comparisons

    if attribute.kind == "numeric":
        assert attribute.spread is not None  # numeric attributes have one
        return comparisons.CustomComparison(
            output_column_name=column,
            comparison_levels=[
                levels.NullLevel(column),
                levels.ExactMatchLevel(column),
                levels.AbsoluteDifferenceLevel(column, attribute.spread),
                levels.AbsoluteDifferenceLevel(column, _FAR * attribute.spread),
                levels.ElseLevel(),
            ],
        )
    if attribute.kind == "string":
        comparison: Any = comparisons.JaroWinklerAtThresholds(column, [NEAR, SIMILAR])
    elif attribute.kind == "date":
        comparison = comparisons.DamerauLevenshteinAtThresholds(column, [1, 2])
    else:
        comparison = comparisons.ExactMatch(column)
    return comparison.configure(term_frequency_adjustments=True)


def _levels(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """Levels by Splink's comparison value, from 0 ("other") to the same."""
    return [level for level in comparison["comparison_levels"] if not level.get("is_null_level")][::-1]


def _train(model: dict[str, Any], patterns: np.ndarray, blocks: Sequence[Sequence[int]], matches: float) -> None:
    """Put m into a model: the mean over passes, one per block, of expectation maximisation on its pairs.

    Not Splink's own, which adds no pseudo-pairs: where a level is in no match its m goes to 0, any difference would be
    final, and version 5.0 stops with an error as the number underflows. u is free in a pass, from where sampling has
    it: columns depend on one another, and records that agree in a block are more alike than random ones anyway.

    Args:
        model: in Splink's form, with u and the prior.
        patterns: (P, A + 1) comparison values of the A columns, -1: not recorded; last, the pairs that have them.
        blocks: columns that are equal in all pairs of a pass, and of which it learns nothing.
        matches: pairs that match, as the prior has it.
    """
    levels = [_levels(comparison) for comparison in model["comparisons"]]
    gammas, counts = patterns[:, :-1], patterns[:, -1].astype(float)
    for level in (level for some in levels for level in some):
        level["u_probability"] = max(float(level.get("u_probability") or 0.0), 0.5 / _SAMPLED)
    passes: list[list[np.ndarray]] = [[] for _ in levels]
    for block in blocks:
        inside = (gammas[:, block] == [len(levels[column]) - 1 for column in block]).all(axis=1)
        free = [column for column in range(len(levels)) if column not in block]
        # Of all pairs that match, most are in the block.
        share = np.clip(matches / max(counts[inside].sum(), 1.0), 1e-6, 0.9)
        learned = _maximised(gammas[inside], counts[inside], [levels[column] for column in free], free, float(share))
        for column, shares in zip(free, learned, strict=True):
            passes[column].append(shares)
    for some, estimates in zip(levels, passes, strict=True):
        for level, share in zip(some, np.mean(estimates, axis=0), strict=True):
            level["m_probability"] = float(share)


def _maximised(
    gammas: np.ndarray, counts: np.ndarray, levels: list[list[dict[str, Any]]], columns: list[int], matching: float
) -> list[np.ndarray]:
    """m of each level of the columns, from the patterns of one block of which a share `matching` may match."""
    shares = [np.full(len(some), (1.0 - _AGREE) / (len(some) - 1)) for some in levels]
    for each in shares:
        each[-1] = _AGREE
    # Of pairs that match, as many as `_AGREE` counts for; of others one, spread evenly.
    pseudo = [_BELIEVED * each for each in shares]
    single = [np.full(len(some), 1.0 / len(some)) for some in levels]
    others = [np.array([level["u_probability"] for level in some]) for some in levels]
    for _ in range(_ITERATIONS):
        odds = np.full(len(gammas), np.log(matching) - np.log1p(-matching))
        for column, m, u in zip(columns, shares, others, strict=True):
            # Comparison value -1, "not recorded", is the last entry: it tells nothing.
            odds += np.append(np.log(m / u), 0.0)[gammas[:, column]]
        weights = counts * expit(odds)
        matching = float((weights.sum() + 1.0) / (counts.sum() + 2.0))
        before, apart = shares, counts - weights
        others = [_shares(gammas[:, column], apart, one) for column, one in zip(columns, single, strict=True)]
        shares = [_shares(gammas[:, column], weights, some) for column, some in zip(columns, pseudo, strict=True)]
        if max(float(np.abs(one - other).max()) for one, other in zip(before, shares, strict=True)) < _CONVERGED:
            break
    return shares


def _shares(values: np.ndarray, weights: np.ndarray, pseudo: np.ndarray) -> np.ndarray:
    """Shares of levels, with pseudo-pairs of each, (L,); (L,)."""
    recorded = values >= 0
    totals = np.bincount(values[recorded], weights[recorded], len(pseudo)) + pseudo
    return totals / totals.sum()


def _agreeing(model: dict[str, Any], names: Sequence[str], dictionary: Dictionary) -> dict[str, float]:
    """m of each attribute: share of matching pairs that are the same; of numbers, that are near."""
    agreeing = {}
    for name, comparison in zip(names, model["comparisons"], strict=True):
        levels = _levels(comparison)
        same = levels[1:] if dictionary.attributes[name].kind == "numeric" else levels[-1:]
        agreeing[name] = min(sum(float(level["m_probability"]) for level in same), 1.0)
    return agreeing


def _recall(rules: Sequence[Sequence[str]], agreeing: dict[str, float], seed: int) -> float:
    """Share of matching pairs that agree in all columns of a rule, of at least one rule."""
    names = list(agreeing)
    agree = np.random.default_rng(seed).random((_DRAWN, len(names))) < np.array(list(agreeing.values()))
    met = np.any([agree[:, [names.index(name) for name in rule]].all(axis=1) for rule in rules], axis=0)
    return float((met.sum() + 1.0) / (_DRAWN + 2.0))


def _excess(weights: np.ndarray, matches: float) -> float:
    """Bits by which match weights must be lowered for no more than so many matches to be expected; 0 if none need."""
    low, high = 0.0, 200.0
    if expit(weights * np.log(2.0)).sum() <= matches:
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2.0
        few = expit((weights - middle) * np.log(2.0)).sum() <= matches
        low, high = (low, middle) if few else (middle, high)
    return high


def _clusters(edges: Iterable[tuple[int, int, float]], recorded: Sequence[int], ids: list[str]) -> tuple[Cluster, ...]:
    """Stars: the record to keep in the middle, and all that match it and are in no star yet; by row.

    Not Splink's connected components: these chain people, of whom each matches the next, and merge some who differ in
    most columns. Here nobody goes who does not match the record that stays.

    Args:
        edges: two rows and their match probability, of all pairs from the threshold on, in any order.
        recorded: (N,) values recorded, of each record. The most is kept; then that which matches most others, and best;
            then the first.
        ids: (N,) identifiers.
    """
    near: dict[int, dict[int, float]] = {}
    for one, other, probability in edges:
        near.setdefault(one, {})[other] = probability
        near.setdefault(other, {})[one] = probability
    # `fsum` is the same in any order; Splink's varies.
    order = {row: (-recorded[row], -len(some), -math.fsum(some.values()), row) for row, some in near.items()}
    clusters: list[Cluster] = []
    taken: set[int] = set()
    for kept in sorted(order, key=order.__getitem__):
        joined = {row: probability for row, probability in near[kept].items() if row not in taken}
        if kept in taken or not joined:
            continue
        joined[kept] = 1.0
        taken |= joined.keys()
        rows = tuple(sorted(joined))
        clusters.append(Cluster(rows, tuple(ids[row] for row in rows), kept, tuple(joined[row] for row in rows)))
    return tuple(sorted(clusters, key=lambda cluster: cluster.rows))


def _recorded(table: pa.Table, dictionary: Dictionary) -> list[int]:
    """(N,) values recorded, of each record, in all columns: ignored ones are lost as well."""
    totals = np.zeros(table.num_rows, int)
    for name in table.column_names:
        index, texts = as_text(table[name])
        words, _ = not_recorded(name, dictionary.attributes.get(name), texts.to_pylist())
        there = pc.and_(texts.is_valid(), pc.invert(pc.is_in(texts, pa.array(words, pa.string()))))
        totals += there.take(index).fill_null(False).to_numpy(zero_copy_only=False)
    counts: list[int] = totals.tolist()
    return counts


def with_errors(dictionary: Dictionary, duplicates: Duplicates) -> Dictionary:
    """The data dictionary with the error rates that duplicates suggest: 1 - m.

    Strings and dates with shares of levels keep these; what the pair shows is how often register entries differ, which
    is an answer's error only as far as answers are as good as the register.
    """
    attributes = {
        name: attribute.model_copy(update={"error": duplicates.errors[name]})
        if name in duplicates.errors
        else attribute
        for name, attribute in dictionary.attributes.items()
    }
    return dictionary.model_copy(update={"attributes": attributes})


def without_duplicates(table: pa.Table, duplicates: Duplicates) -> tuple[pa.Table, pa.Table]:
    """(the register without duplicates, what was merged).

    Of each cluster the record that it names stays. What was merged has a row for each record of a cluster: cluster
    (from 1), identifier, kept_as (the identifier that stays), match_probability (with the record that stays; null for
    that itself, which it tells from another of the same identifier).
    """
    stay = np.ones(table.num_rows, bool)
    merged = []
    for number, cluster in enumerate(duplicates.clusters, 1):
        for row, identifier, probability in zip(cluster.rows, cluster.ids, cluster.probabilities, strict=True):
            stay[row] = row == cluster.kept
            merged.append(
                {
                    "cluster": number,
                    "identifier": identifier,
                    "kept_as": cluster.kept_id,
                    "match_probability": None if row == cluster.kept else probability,
                }
            )
    schema = pa.schema(
        {"cluster": pa.int64(), "identifier": pa.string(), "kept_as": pa.string(), "match_probability": pa.float64()}
    )
    return table.filter(pa.array(stay)), pa.Table.from_pylist(merged, schema)


def check_places(*paths: Path) -> None:
    """See that results can be written to these; DataError if a suffix is neither .csv nor .parquet."""
    for path in paths:
        if path.suffix.lower() not in (".parquet", ".csv"):
            raise DataError(f"{path}: write to a file that ends in .csv or .parquet")


def write_without_duplicates(table: pa.Table, duplicates: Duplicates, register: Path, merged: Path) -> None:
    """Write the register without duplicates, and what was merged; each as CSV or Parquet, by its suffix.

    Raises:
        DataError: another suffix, or it cannot be written there.
    """
    check_places(register, merged)
    for path, content in zip((register, merged), without_duplicates(table, duplicates), strict=True):
        with whole(path) as part:
            if path.suffix.lower() == ".parquet":
                pa.parquet.write_table(content.replace_schema_metadata(None), part)
            else:
                decoded = [
                    field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
                    for field in content.schema
                ]
                pa.csv.write_csv(content.cast(pa.schema(decoded)), part)
