"""Compare runs, and their fusions in pairs (as `export` fuses), on the validation split of all families any was shown.

    PYTHONPATH=experiments python experiments/plain/compare.py RECORD.json RUN... --data DATA \\
      [--synthetic DIR] [--taef2 DIR] [--work DIR]
"""

import argparse
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from common import rounded, write_record

from unmask.cli.options import progress_bars
from unmask.forgery.fusion import mean_ratio
from unmask.lab.detection.config import DetectionPaths
from unmask.lab.detection.evaluate import families_of
from unmask.lab.detection.held_out import CONDITIONS, make_eval_images, render, select_pairs
from unmask.lab.detection.onnx_scoring import scorer_of_runs
from unmask.lab.detection.scoring import family_aucs
from unmask.lab.metrics import auc, interval
from unmask.lab.run import config_of, versions


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("record", type=Path)
    arguments.add_argument("runs", nargs="+", type=Path)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--work", type=Path, default=Path("runs/work"))
    arguments.add_argument("--synthetic", type=Path)
    arguments.add_argument("--taef2", type=Path)
    chosen = arguments.parse_args()
    paths = DetectionPaths(data=chosen.data, work=chosen.work, synthetic=chosen.synthetic, taef2=chosen.taef2)
    with progress_bars() as progress:
        faces = paths.faces(progress)
    configs = {run.name: config_of(run) for run in chosen.runs}
    missed_by_all = set.intersection(*({*config.without} for config in configs.values()))
    # No reconstructions are made for this, so there is no re-synthesis to measure.
    families = [family for family in families_of(faces, "val") if family not in missed_by_all | {"resynthesis"}]
    pictures = make_eval_images(faces, "val", families, most=150)
    results: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    for condition in CONDITIONS:
        held = render(pictures, condition, 224, 1.4)
        crops = np.stack([face.crop for face in held])
        logits = {run.name: scorer_of_runs([run])(crops)[0] for run in chosen.runs}
        for one, other in combinations(list(logits), 2):
            pair = [torch.from_numpy(logits[name]) for name in (one, other)]
            logits[f"{one} + {other}"] = mean_ratio(pair).numpy()
        for name, values in logits.items():
            row = {id(face): value for face, value in zip(held, values, strict=True)}
            cells: dict[str, list[float | None]] = {}
            for family in families:
                some = select_pairs(family, held)
                labels = np.array([face.label for face in some])
                scores = np.array([row[id(face)] for face in some])
                cells[family] = rounded(interval(auc, labels, scores, [face.subject for face in some], draws=400))
            cells["real_vs_real"] = rounded([family_aucs(held, values)["real_vs_real"]])
            results.setdefault(name, {})[condition] = cells
            print(condition, name, {family: numbers[0] for family, numbers in cells.items()}, flush=True)
    record = {
        "protocols": {name: asdict(config) for name, config in configs.items()},
        "versions": versions(),
        "results": results,
    }
    write_record(chosen.record, record)


if __name__ == "__main__":
    main()
