"""Compare runs, and their fusions in pairs (as `export` fuses), on the validation split of all families any was shown.

`python experiments/plain/compare.py RECORD.json RUN... --data DATA [--synthetic DIR] [--taef2 DIR] [--work DIR]`
"""

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from unmask.forgery.fusion import mean_ratio
from unmask.lab.detection.evaluate import FAMILIES
from unmask.lab.detection.held_out import CONDITIONS, make_pictures, pairing, show
from unmask.lab.detection.scoring import family_aucs, logits_of
from unmask.lab.detection.train import Workshop, load_run
from unmask.lab.metrics import auc, interval
from unmask.lab.run import Run, versions


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("record", type=Path)
    arguments.add_argument("runs", nargs="+", type=Path)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--work", type=Path, default=Path("runs/work"))
    arguments.add_argument("--synthetic", type=Path)
    arguments.add_argument("--taef2", type=Path)
    chosen = arguments.parse_args()
    faces = Workshop(chosen.data, chosen.work, chosen.synthetic, chosen.taef2).faces()
    missed_by_all = set.intersection(*({*Run.protocol_of(run).without} for run in chosen.runs))
    # No twins are made for this, so there is no re-synthesis to tell.
    families = [family for family in FAMILIES if family not in missed_by_all | {"resynthesis"}]
    pictures = make_pictures(faces, "val", families, most=150)
    results: dict[str, dict[str, dict[str, list[float]]]] = {}
    for condition in CONDITIONS:
        held = show(pictures, condition, 224, 1.4)
        crops = np.stack([face.crop for face in held])
        logits = {run.name: logits_of(load_run(run), crops, torch.device("cpu"))[0] for run in chosen.runs}
        for one, other in combinations(list(logits), 2):
            pair = [torch.from_numpy(logits[name]) for name in (one, other)]
            logits[f"{one} + {other}"] = mean_ratio(pair).numpy()
        for name, values in logits.items():
            row = {id(face): value for face, value in zip(held, values, strict=True)}
            cells: dict[str, list[float]] = {}
            for family in families:
                some = pairing(family, held)
                labels = np.array([face.label for face in some])
                scores = np.array([row[id(face)] for face in some])
                area, low, high = interval(auc, labels, scores, [face.subject for face in some], draws=400)
                cells[family] = [round(number, 4) for number in (area, low, high)]
            cells["real_vs_real"] = [round(family_aucs(held, values)["real_vs_real"], 4)]
            results.setdefault(name, {})[condition] = cells
            print(condition, name, {family: numbers[0] for family, numbers in cells.items()}, flush=True)
    record = {
        "protocols": {run.name: vars(Run.protocol_of(run)) for run in chosen.runs},
        "versions": versions(),
        "results": results,
    }
    chosen.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
