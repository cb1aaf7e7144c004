"""Keep an export's `evaluation.json` as the repository keeps it: the same numbers without the names of their fields.

python experiments/plain/keep_evaluation.py PACK/evaluation.json experiments/plain/evaluation.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

from unmask.packs.card import Metric

_NUMBERS = ("value", "low", "high", "n_real", "n_forged")


def kept(metrics: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, list[Any]]]]:
    """Metrics as value, limits and counts by group, name and condition."""
    nested: dict[str, dict[str, dict[str, list[Any]]]] = {}
    for row in metrics:
        numbers = [row.get(name) for name in _NUMBERS]
        nested.setdefault(row["dataset"], {}).setdefault(row["name"], {})[row["condition"]] = numbers
    return nested


def restored(nested: dict[str, dict[str, dict[str, list[Any]]]]) -> list[Metric]:
    """The metrics that were kept, condition by condition as they are measured."""
    rows = [
        Metric(dataset=group, name=name, condition=condition, **dict(zip(_NUMBERS, numbers, strict=True)))
        for group, names in nested.items()
        for name, conditions in names.items()
        for condition, numbers in conditions.items()
    ]
    order = list(dict.fromkeys(row.condition for row in rows))
    return sorted(rows, key=lambda row: order.index(row.condition))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("evaluation", type=Path)
    options.add_argument("out", type=Path)
    chosen = options.parse_args()
    record = json.loads(chosen.evaluation.read_text(encoding="utf-8"))
    groups = kept(record.pop("metrics"))
    head = json.dumps(record, indent=1)[:-2]
    lines = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(own, separators=(',', ':'))}" for name, own in groups.items()
    )
    chosen.out.write_text(f'{head},\n "metrics": {{\n{lines}\n }}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
