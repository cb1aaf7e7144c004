"""Which fused set generalises best to a family that none of its members saw? The choice of the embedded pack.

    PYTHONPATH=experiments python experiments/leaderboard/default.py RECORD.json --board DIR --specialists DIR \\
      --data DATA [--work DIR]

The candidates are the two specialists of the embedded pack and their fusions with each detector of the leaderboard and
with all. For every family each member is a run that never saw it: `MEMBERS` names the specialists', which
`experiments/plain/run.sh` trains; the others' are the leaderboard's. Only the validation split is asked, under the
three conditions. The rule, set before these fusions were measured, though after the leaderboard's own first figures on
the same split: the candidate with the highest mean AUC over families and conditions is taken if its lead over the
embedded pack has an interval above zero, otherwise the pack stays.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import command, read_record, rounded, write_record
from leaderboard.measure import DRAWS, METHODS, MOST, Entry, fused, scores
from leaderboard.page import FAMILIES, NAMES

from unmask.cli.options import progress_bars
from unmask.lab.detection.config import DetectionPaths
from unmask.lab.detection.evaluate import families_of
from unmask.lab.detection.held_out import CONDITIONS, make_eval_images, render, select_pairs
from unmask.lab.detection.onnx_scoring import scorer_of_runs
from unmask.lab.detection.prepare import held_out_reconstructions
from unmask.lab.metrics import auc, cluster_bootstrap, resampled
from unmask.lab.run import config_of, versions
from unmask.provenance import sha256_of
from unmask.tables import markdown

EMBEDDED = "embedded pack"
MEMBERS = {
    "stylegan": ("blends", "synthesis-no-stylegan"),
    "mobilestylegan": ("blends", "synthesis-no-mobilestylegan"),
    "ciplab": ("blends-no-ciplab", "synthesis-no-mobilestylegan"),  # the others began with composites
    "swap": ("blends-no-swap", "synthesis"),
    "resynthesis": ("blends-no-selfblend", "synthesis-no-resynthesis"),  # other blends carry some decoders' faces
    "pggan": ("blends", "synthesis"),
}


def entry_of(folder: Path, family: str) -> Entry:
    """A run that never saw a family.

    Raises:
        SystemExit: it did, or is not there.
    """
    weights = folder / "weights.safetensors"
    if not weights.is_file():
        raise SystemExit(f"{folder} is not there or not finished")
    config = config_of(folder)
    if family in {*config.before, *({*config.families} - {*config.without})}:
        raise SystemExit(f"{folder} has seen {family}")
    return Entry(folder.name, family, sha256_of(weights), config.size, scorer_of_runs([folder]))


@dataclass(frozen=True)
class Cell:
    """The scores of all candidates on one unseen family under one condition: labels, subjects and logits, (N,) each."""

    family: str
    condition: str
    labels: np.ndarray
    subjects: np.ndarray
    logits: dict[str, np.ndarray]

    def lead(self, candidate: str, rows: np.ndarray) -> float:
        """A candidate's AUC less the embedded pack's, on some rows."""
        own, embedded = (auc(self.labels[rows], self.logits[name][rows]) for name in (candidate, EMBEDDED))
        return own - embedded


def mean_lead(cells: Sequence[Cell], candidate: str) -> list[float | None]:
    """Mean over cells of a candidate's lead, and its 95 % interval, resampling subjects for all cells at once."""
    ends = np.cumsum([0, *(len(cell.labels) for cell in cells)])

    def lead(rows: np.ndarray) -> float:
        parts = [rows[(rows >= start) & (rows < end)] - start for start, end in pairwise(ends)]
        whole = [(cell, own) for cell, own in zip(cells, parts, strict=True) if np.ptp(cell.labels[own])]
        return float(np.mean([cell.lead(candidate, own) for cell, own in whole]))

    draws = resampled(np.concatenate([cell.subjects for cell in cells]).tolist(), DRAWS, seed=0)
    return rounded((lead(np.arange(ends[-1])), *cluster_bootstrap(lead, draws)))


def section(root: Path) -> str:
    """The choice's part of the results page; `root` is the repository's."""
    record = read_record(root, "leaderboard/default")
    families = list(dict.fromkeys(cell["family"] for cell in record["cells"]))
    lines = []
    for name, lead in record["leads"].items():
        areas = [[cell["auc"][name] for cell in record["cells"] if cell["family"] == family] for family in families]
        cells = [f"{np.mean(some):.3f}" for some in (*areas, np.concatenate(areas))]
        cells.append("{:+.3f} [{:+.3f}, {:+.3f}]".format(*lead) if lead else "–")
        lines.append([titled(name), *cells])
    table = markdown(["candidate", *(FAMILIES[family] for family in families), "mean", "lead [95 %]"], lines)
    return f"""## The choice of the embedded pack

Does a third detector help the embedded pack's two specialists on a family that none of the members saw? AUC on the
validation split, mean over pictures as they are, after JPEG 50 and at half size; members are fused by the mean of their
likelihood ratios. The pack is that of version 0.1.0, its specialists those of `experiments/plain/version_0_1.sh`; the
third is a leaderboard run of 400 steps; the short run of `plain` shows what fusing alone does. The rule: the best mean
is taken if its lead over the embedded pack has an interval above zero. It was set before these fusions were measured,
though after the leaderboard's own first figures on the same split. The outcome: **{titled(record["chosen"])}**.

{table}

The leaderboard's runs among themselves, each left out likewise: mean AUC over families on the validation split, as is.

{short_runs(root)}
"""


def short_runs(root: Path) -> str:
    """The leaderboard's detectors and their fusions by their mean on families left out, the best first."""
    areas: dict[str, list[float]] = {}
    for row in read_record(root, "leaderboard/val")["rows"]:
        if row["kind"] == "left out":
            areas.setdefault(row["detector"], []).append(row["auc"][0])
    best_first = sorted(areas.items(), key=lambda item: -np.mean(item[1]))
    return markdown(["detectors", "mean"], [[titled(name), f"{np.mean(some):.3f}"] for name, some in best_first])


def titled(fusion: str) -> str:
    """A fusion's name in the page's words."""
    return " + ".join(NAMES.get(name, name) for name in fusion.split(" + "))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write")
    parser.add_argument("--board", type=Path, required=True, help="folder of the leaderboard's runs")
    parser.add_argument("--specialists", type=Path, required=True, help="folder of the specialists' runs")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/work"))
    parser.add_argument("--synthetic", type=Path)
    parser.add_argument("--taef2", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    paths = DetectionPaths(data=chosen.data, work=chosen.work, synthetic=chosen.synthetic, taef2=chosen.taef2)
    cache = chosen.work / "leaderboard"
    cache.mkdir(exist_ok=True)
    with progress_bars() as progress:
        faces = paths.faces(progress)
        drawn = held_out_reconstructions(paths, faces, "val", progress)
    families = [family for family in families_of(faces, "val") if family in MEMBERS]
    pictures = make_eval_images(faces, "val", families_of(faces, "val"), drawn, most=MOST)
    cells: list[Cell] = []
    runs: dict[str, str] = {}
    for condition in CONDITIONS:
        held = {size: render(pictures, condition, size, 1.4) for size in (128, 224)}
        numbers = {id(face): row for row, face in enumerate(held[224])}
        for family in families:
            rows = np.unique([numbers[id(face)] for face in select_pairs(family, held[224])])
            specialists = [entry_of(chosen.specialists / name, family) for name in MEMBERS[family]]
            missed = "all" if family == "pggan" else family
            third = {name: entry_of(chosen.board / f"{name}-{missed}", family) for name in METHODS}
            members = {
                entry.detector: scores(entry, condition, held[entry.size], rows, cache)[rows]
                for entry in (*specialists, *third.values())
            }
            runs |= {entry.detector: entry.mark for entry in (*specialists, *third.values())}
            pair = [members[entry.detector] for entry in specialists]
            logits = {EMBEDDED: fused(pair)}
            logits |= {f"{EMBEDDED} + {name}": fused([*pair, members[one.detector]]) for name, one in third.items()}
            logits[f"{EMBEDDED} + all five"] = fused(list(members.values()))
            some = [held[224][row] for row in rows]
            labels, subjects = np.array([face.label for face in some]), np.array([face.subject for face in some])
            cells.append(Cell(family, condition, labels, subjects, logits))
    leads = {name: mean_lead(cells, name) if name != EMBEDDED else None for name in cells[0].logits}
    best = max((name for name in leads if name != EMBEDDED), key=lambda name: (leads[name] or [0.0])[0] or 0.0)
    lower = (leads[best] or [0.0, None])[1]
    rows_of_cells: list[dict[str, Any]] = [
        {
            "family": cell.family,
            "condition": cell.condition,
            "auc": {name: round(auc(cell.labels, logits), 4) for name, logits in cell.logits.items()},
            "real": int((cell.labels == 0).sum()),
            "forged": int(cell.labels.sum()),
        }
        for cell in cells
    ]
    record = {
        "command": command(),
        "versions": versions(),
        "runs": runs,
        "cells": rows_of_cells,
        "leads": leads,
        "chosen": best if lower is not None and lower > 0 else EMBEDDED,
    }
    write_record(chosen.record, record)


if __name__ == "__main__":
    main()
