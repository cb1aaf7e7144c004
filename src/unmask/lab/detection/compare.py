"""Several detectors on the same held-out faces, with paired differences: what `unmask compare` prints. Lab only.

Every detector sees the same pictures, each cropped as it was trained on; intervals of 95 % are by bootstrap over
subjects, and a difference is taken within every resample.
"""

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from unmask.lab.detection.evaluate import families_of
from unmask.lab.detection.held_out import Picture, make_pictures, pairing, show
from unmask.lab.detection.systems import Contender, find_detector, test_twins
from unmask.lab.detection.train import Workshop
from unmask.lab.metrics import auc, interval, paired_interval
from unmask.lab.run import versions

_DRAWS = 400


@dataclass(frozen=True)
class Row:
    """AUC of one detector on one family with its interval, and the same of its difference from the first detector."""

    detector: str
    family: str
    condition: str
    auc: tuple[float, float, float]
    difference: tuple[float, float, float] | None
    n_real: int
    n_forged: int


def compare(
    contenders: Sequence[Contender],
    pictures: Sequence[Picture],
    conditions: Iterable[str],
    progress: Callable[[str], None] | None = None,
) -> list[Row]:
    """Compare detectors; every one but the first is held against the first.

    Args:
        contenders: at least one.
        pictures: of `unmask.lab.detection.held_out.make_pictures`.
        conditions: of `unmask.lab.detection.held_out.CONDITIONS`.
        progress: called with a line per condition and detector.
    """
    rows = []
    families = list(dict.fromkeys(picture.family for picture in pictures if picture.family != "real"))
    for condition in conditions:
        logits: dict[str, np.ndarray] = {}
        for size, margin in dict.fromkeys((one.size, one.margin) for one in contenders):
            held = show(pictures, condition, size, margin)
            crops = np.stack([face.crop for face in held])
            for one in contenders:
                if (one.size, one.margin) == (size, margin):
                    logits[one.name] = one.scorer(crops)[0]
                    if progress:
                        progress(f"{condition}: {one.name} scored {len(crops)} faces")
        number = {id(face): row for row, face in enumerate(held)}
        for family in families:
            some = pairing(family, held)
            labels, subjects = np.array([face.label for face in some]), [face.subject for face in some]
            if len(set(labels.tolist())) < 2:
                continue
            chosen = [number[id(face)] for face in some]
            first = logits[contenders[0].name][chosen]
            for one in contenders:
                own = logits[one.name][chosen]
                difference = None
                if one is not contenders[0]:
                    difference = paired_interval(auc, labels, own, first, subjects, _DRAWS)
                area = interval(auc, labels, own, subjects, _DRAWS)
                counts = int((labels == 0).sum()), int(labels.sum())
                rows.append(Row(one.name, family, condition, area, difference, *counts))
    return rows


def comparison_table(rows: Sequence[Row]) -> str:
    """The comparison as a Markdown table: a row per condition and family, a column per detector."""
    names = list(dict.fromkeys(row.detector for row in rows))
    lines = [
        "| family | condition | " + " | ".join(names) + " | real / forged |",
        "|---|---|" + "---|" * len(names) + "---|",
    ]
    for condition, family in dict.fromkeys((row.condition, row.family) for row in rows):
        cells = []
        for row in rows:
            if (row.condition, row.family) == (condition, family):
                cells.append("{:.3f} [{:.3f}, {:.3f}]".format(*row.auc))
                if row.difference is not None:
                    cells[-1] += "; {:+.3f} [{:+.3f}, {:+.3f}]".format(*row.difference)
                counts = f"{row.n_real} / {row.n_forged}"
        lines.append(f"| {family} | {condition} | {' | '.join(cells)} | {counts} |")
    return "\n".join(lines)


def shortest_names(names: Sequence[str]) -> list[str]:
    """The last parts of paths, as few as tell them apart."""
    parts = [Path(name).parts for name in names]
    for count in range(1, max(map(len, parts)) + 1):
        short = ["/".join(part[-count:]) for part in parts]
        if len(set(short)) == len(short):
            return short
    return list(names)


def compare_any(
    detectors: Sequence[str], shop: Workshop, split: str, conditions: Sequence[str], console: Console
) -> list[Row]:
    """Compare run folders, fused runs and packs on the same faces of a data folder.

    Raises:
        DataError, PackError: there is no such detector, or the data are not there or not for it.
    """
    found, faces = [find_detector(name) for name in detectors], shop.faces()
    for one in found:
        one.check(faces, split)
    contenders = [replace(one, name=name) for one, name in zip(found, shortest_names(detectors), strict=True)]
    twins = test_twins(shop, faces, split, console)
    pictures = make_pictures(faces, split, families_of(faces, split), twins, most=150)
    return compare(contenders, pictures, conditions, console.print)


def write_comparison(rows: Sequence[Row], split: str, path: Path) -> None:
    """Write every number of a comparison as JSON, with the command and the versions that made it."""
    record = {
        "split": split,
        "command": shlex.join(["unmask", *sys.argv[1:]]),
        "versions": versions(),
        "rows": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
