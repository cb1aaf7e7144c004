"""Measure systems on the kinds of forgery and the sources of reals that some of them never saw; writes the record.

    PYTHONPATH=experiments python experiments/leave_out/measure.py NAME SYSTEM... --data DATA --text WHAT \\
      [--work DIR] [--synthetic DIR] [--taef2 DIR] [--split val] [--only-kind KIND]... [--only-source SOURCE]...

A system is a pack, a run folder, or several with commas between them, which are fused. Every kind and source is scored
by the mean of those systems that never saw it; systems that lack different ones are compared on what `--only-kind` and
`--only-source` name. The record is `experiments/leave_out/NAME.json`: what every run lacked,
what its training cost, and the numbers by kind and by source of all conditions together, by kind also those of each.
"""

import argparse
import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import command, write_record

from unmask.cli.options import progress_bars
from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig
from unmask.lab.detection.leave_out import ALL, MEAN, WORST, LeftOutScore, leave_one_out, tables
from unmask.lab.detection.left_out_scores import score_split
from unmask.lab.detection.systems import EvaluatedSystem, resolve_system
from unmask.lab.evaluate import as_markdown
from unmask.lab.run import config_of, is_run, versions
from unmask.packs.card import Metric

HERE = Path(__file__).resolve().parent
EVERYWHERE = ("auc", "cllr", "verdict_forged", "verdict_authentic")
"""What the record keeps of every condition."""


def about_run(folder: Path) -> dict[str, Any]:
    """What a run lacked, and what it cost: steps, pairs and seconds, from its configuration and its metrics.csv."""
    config: DetectionTrainConfig = config_of(folder)
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    seconds, before = 0.0, 0.0
    for row in rows:
        step = float(row["step"])
        seconds += (step - before) * config.batch_pairs / float(row["pairs_per_second"])
        before = step
    return {
        "steps": config.steps,
        "pairs": config.steps * config.batch_pairs,
        "seconds": round(seconds),
        "kinds": list(config.kinds),
        "began_with": list(config.before),
        "without_sources": list(config.without_sources),
        "protocol": asdict(config),
    }


def kept(metric: Metric) -> bool:
    """Whether a number is in the record, which is to stay small."""
    pooled = metric.dataset in (MEAN, WORST)
    return metric.condition == ALL or (pooled and metric.name in EVERYWHERE) or metric.name.startswith("verdict")


def options(parser: argparse.ArgumentParser) -> None:
    """The options of whatever is measured."""
    parser.add_argument("--text", required=True, help="what the systems are, for the page")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/work"))
    parser.add_argument("--synthetic", type=Path)
    parser.add_argument("--taef2", type=Path)
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    parser.add_argument("--only-kind", action="append", default=[], help="measure no other kinds; repeatable")
    parser.add_argument("--only-source", action="append", default=[], help="measure no other reals; repeatable")


def among(score: LeftOutScore, kinds: Sequence[str], sources: Sequence[str]) -> bool:
    """Whether a score is of the kinds and of the sources of reals that are measured; none named are all."""
    if score.by == "source":
        return not sources or score.group in sources
    return (not kinds or score.group in kinds) and (score.label == 1 or not sources or score.source in sources)


def measured(chosen: argparse.Namespace, systems: Sequence[EvaluatedSystem], runs: Mapping[str, Any]) -> None:
    """Measure systems as the options say, print the tables and write the record; `runs` is what it says of them."""
    paths = DetectionPaths(data=chosen.data, work=chosen.work, synthetic=chosen.synthetic, taef2=chosen.taef2)
    began = time.monotonic()
    with progress_bars() as progress:
        scores = score_split(systems, "kind", paths, chosen.split, progress)
        result = leave_one_out([one for one in scores if among(one, chosen.only_kind, chosen.only_source)], "kind")
    print(as_markdown(tables(result, "kind")), flush=True)
    record = {
        "command": command(),
        "versions": versions(),
        "text": chosen.text,
        "split": chosen.split,
        "systems": [",".join(Path(part).name for part in system.name.split(",")) for system in systems],
        "runs": runs,
        "measuring_seconds": round(time.monotonic() - began),
        "metrics": [list(asdict(metric).values()) for metric in result.metrics if kept(metric)],
    }
    write_record(HERE / f"{chosen.name}.json", record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the record")
    parser.add_argument("systems", nargs="+")
    options(parser)
    chosen = parser.parse_args()
    folders = dict.fromkeys(Path(part) for name in chosen.systems for part in name.split(",") if is_run(Path(part)))
    runs = {folder.name: about_run(folder) for folder in folders}
    measured(chosen, [resolve_system(name) for name in chosen.systems], runs)


if __name__ == "__main__":
    main()
