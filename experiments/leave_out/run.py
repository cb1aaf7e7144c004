"""Train the folds of leave-one-out for a method, measure them on what each lacks, and write the record.

    PYTHONPATH=experiments python experiments/leave_out/run.py NAME METHOD --data DATA \\
      [--work DIR] [--runs DIR] [--synthetic DIR] [--taef2 DIR] [--split val] [-- OPTION ...]

What follows `--` is handed to every `unmask train METHOD`. All folds read one pool, which a run of one step with
everything makes first. A run that is finished is passed over, one that was killed goes on. The record is
`experiments/leave_out/NAME.json`; of the numbers by family and by source it keeps those of all conditions together.
"""

import argparse
import csv
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import command, write_record
from leave_out.folds import FOLDS

from unmask.cli.options import progress_bars
from unmask.lab.detection.config import DetectionPaths
from unmask.lab.detection.leave_out import ALL, By, leave_one_out, tables
from unmask.lab.detection.left_out_scores import score_split
from unmask.lab.detection.systems import resolve_system
from unmask.lab.evaluate import as_markdown
from unmask.lab.run import config_of, versions
from unmask.packs.card import Metric

HERE = Path(__file__).resolve().parent
SIDES: tuple[By, ...] = ("kind", "family", "source")
EVERYWHERE = ("auc", "cllr", "verdict_forged", "verdict_authentic")
"""What the record keeps of every condition, by kind."""


def train(folder: Path, words: list[str]) -> None:
    """A run, unless it is finished; `words` are what stands behind `unmask train`."""
    if not (folder / "weights.safetensors").is_file():
        subprocess.run([sys.executable, "-m", "unmask.cli", "train", *words, "--run", str(folder)], check=True)


def budget(folder: Path) -> dict[str, float]:
    """Steps, pairs and seconds of a run, from its configuration and its metrics.csv."""
    config = config_of(folder)
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    seconds, before = 0.0, 0.0
    for row in rows:
        step = float(row["step"])
        seconds += (step - before) * config.batch_pairs / float(row["pairs_per_second"])
        before = step
    return {"steps": config.steps, "pairs": config.steps * config.batch_pairs, "seconds": round(seconds)}


def kept(metric: Metric, by: By) -> bool:
    """Whether a number is in the record, which is to stay small."""
    verdict = metric.name.startswith("verdict")
    return (by == "kind" and metric.name in EVERYWHERE) or (metric.condition == ALL and not verdict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the record")
    parser.add_argument("method", help="as of `unmask models`")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/work"))
    parser.add_argument("--runs", type=Path, default=Path("runs/leave_out"), help="where the folds' runs are kept")
    parser.add_argument("--synthetic", type=Path)
    parser.add_argument("--taef2", type=Path)
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    words = sys.argv[1:]
    here = words.index("--") if "--" in words else len(words)
    chosen, options = parser.parse_args(words[:here]), words[here + 1 :]
    common = [chosen.method, "--data", str(chosen.data), "--work", str(chosen.work), *options]
    for name in ("synthetic", "taef2"):
        if getattr(chosen, name) is not None:
            common += [f"--{name}", str(getattr(chosen, name))]
    train(chosen.runs / "prepare", [*common, "--steps", "1"])
    spent: dict[str, dict[str, float]] = {}
    for name, fold in FOLDS.items():
        folder = chosen.runs / f"{chosen.name}-{name}"
        train(folder, [*common, *fold.options()])
        spent[name] = budget(folder)
        print(f"{folder}: {spent[name]['steps']} steps, {spent[name]['seconds']} s", flush=True)
    systems = [resolve_system(str(chosen.runs / f"{chosen.name}-{name}")) for name in FOLDS]
    paths = DetectionPaths(data=chosen.data, work=chosen.work, synthetic=chosen.synthetic, taef2=chosen.taef2)
    metrics: dict[str, list[list[Any]]] = {}
    began = time.monotonic()
    with progress_bars() as progress:
        for by in SIDES:
            result = leave_one_out(score_split(systems, by, paths, chosen.split, progress), by)
            metrics[by] = [list(asdict(metric).values()) for metric in result.metrics if kept(metric, by)]
            print(as_markdown(tables(result, by)), end="\n\n", flush=True)
    measuring = round(time.monotonic() - began)
    total = sum(one["seconds"] for one in spent.values())
    print(f"budget: {len(FOLDS)} runs, {total} s of training, {measuring} s of measuring")
    record = {
        "command": command(),
        "versions": versions(),
        "split": chosen.split,
        "folds": {name: asdict(fold) for name, fold in FOLDS.items()},
        "protocols": {name: asdict(config_of(chosen.runs / f"{chosen.name}-{name}")) for name in FOLDS},
        "budget": spent,
        "measuring_seconds": measuring,
        "metrics": metrics,
    }
    write_record(HERE / f"{chosen.name}.json", record)


if __name__ == "__main__":
    main()
