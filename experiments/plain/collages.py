"""Pictures of several faces: how often is one of authentic faces alone called forged, and is one forged face missed?

    PYTHONPATH=experiments python experiments/plain/collages.py experiments/plain/collages.json --data DATA [--work DIR]

A file is a grid of n faces of one source of real pictures, each at its own size, JPEG quality 92; the sources take
turns. In a forged file one of the n is a forgery, the families taking turns, the others are of its own source where
that has real pictures, else of any. Every file goes through the whole pipeline, face detection included. Rules for the
verdict on a file, from the faces' likelihood ratios (LR):

- highest: that of the face with the highest LR, as up to version 0.2;
- mean: the mean LR, which is the LR of "one of these faces was forged, and nothing tells which" against "none was";
- mean, unbounded: the same of the LRs before each is held between the bounds of its calibration bin; the mean is then
  held between the bounds of the bin of the face with the highest.

The rule of the choice, written before the run: of the rules that call forged, at every n, no larger share of the
authentic files of the validation split than of those with one face (by more than one file in a hundred), the one that
calls most of the forged files forged, mean over n; of equal ones that which is listed first. It is then measured once
on the test split.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import Record, command, read_record, share_interval

from unmask.cli.options import progress_bars
from unmask.datasets.layouts.collection import load_collection
from unmask.datasets.manifest import Sample, manifest_sha256
from unmask.evidence.report import Report
from unmask.inspection import Inspector
from unmask.inspection.options import DETECTOR
from unmask.media.sources import Source
from unmask.packs import load_pack
from unmask.packs.card import Calibration
from unmask.tables import markdown

NUMBERS = (1, 2, 4, 9, 16)
FILES = {"val": {1: 200, 2: 200, 4: 200, 9: 200, 16: 60}, "test": {1: 150, 2: 150, 4: 100, 9: 60, 16: 40}}
RULES = ("highest", "mean", "mean, unbounded")
SLACK = 0.01
_FEWEST = max(NUMBERS)  # faces of a source


def draw(samples: Sequence[Sample], split: str, number: int, seed: int) -> list[tuple[int, str, list[Sample]]]:
    """Label, group and faces of every file with `number` faces."""
    rng = np.random.default_rng([seed, number])
    reals, forged = defaultdict(list), defaultdict(list)
    for sample in samples:
        if sample.split == split:
            (forged if sample.label else reals)[sample.family if sample.label else sample.source].append(sample)
    reals = {name: some for name, some in sorted(reals.items()) if len(some) >= _FEWEST}
    sources, families = list(reals), sorted(forged)

    def take(some: Sequence[Sample], count: int) -> list[Sample]:
        return [some[place] for place in rng.choice(len(some), count, replace=False)]

    files = []
    for turn in range(FILES[split][number]):
        source, family = sources[turn % len(sources)], families[turn % len(families)]
        files.append((0, source, take(reals[source], number)))
        one = take(forged[family], 1)[0]
        beside = one.source if one.source in reals else sources[int(rng.integers(len(sources)))]
        faces = [one, *take(reals[beside], number - 1)]
        files.append((1, family, [faces[place] for place in rng.permutation(number)]))
    return files


def grid(faces: Sequence[Sample]) -> np.ndarray:
    """One picture of them, uint8 BGR, grey between them where they differ in size."""
    pictures = [cv2.imread(face.path) for face in faces]
    columns = math.isqrt(len(faces) - 1) + 1
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    whole = np.full((height * math.ceil(len(faces) / columns), width * columns, 3), 128, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * height, place % columns * width
        whole[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return whole


def ratios(report: Report, calibration: Calibration) -> list[tuple[float, float, float, float]]:
    """log10 LR, the same unbounded, and the bounds, of every judged face."""
    faces = []
    for face in report.faces:
        fit = calibration.bin_of(face.quality.unified, face.condition or "")
        if face.log10_lr is not None and face.score is not None and fit is not None:
            score = min(max(face.score, 1e-15), 1 - 1e-15)
            free = fit.intercept + fit.slope * math.log(score / (1 - score))
            faces.append((face.log10_lr, free, fit.lower, fit.upper))
    return faces


def file_ratio(faces: Sequence[tuple[float, float, float, float]], rule: str) -> float:
    """log10 LR of a file by a rule, of `ratios`."""
    if rule == "highest":
        return max(face[0] for face in faces)
    if rule == "mean":
        return math.log10(sum(10 ** face[0] for face in faces) / len(faces))
    _, _, lower, upper = max(faces, key=lambda face: face[1])
    return min(max(math.log10(sum(10 ** face[1] for face in faces) / len(faces)), lower), upper)


def scored(files: Sequence[Any], inspector: Inspector, kept: Path, progress: Any, title: str) -> list[dict[str, Any]]:
    """The judged faces of every file; what an earlier run has kept is not inspected again."""
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    calibration = load_pack(DETECTOR).card.calibration
    assert calibration is not None
    with kept.open("a") as stream:
        for number in range(len(rows), len(files)):
            label, group, faces = files[number]
            path = kept.with_suffix(".jpg")
            cv2.imwrite(str(path), grid(faces), [cv2.IMWRITE_JPEG_QUALITY, 92])
            report = inspector.inspect(Source(path.name, path))
            rows.append({"label": label, "group": group, "faces": ratios(report, calibration)})
            stream.write(json.dumps(rows[-1]) + "\n")
            progress.update("inspecting", number + 1, len(files), title)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/collages"))
    parser.add_argument("--split", choices=tuple(FILES), action="append")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    samples = load_collection(chosen.data)
    card = load_pack(DETECTOR).card
    assert card.calibration is not None
    settings = {"pack": f"{card.name} {card.version}", "files": FILES, "seed": chosen.seed, "rules": RULES}
    settings["sha256"] = card.sha256
    record = Record(chosen.record, settings, manifest_sha256(samples))
    record.content["command"] = command()
    inspector = Inspector(edit_pack=None)
    with progress_bars() as progress:
        for split in chosen.split or list(FILES):
            for number in NUMBERS:
                if record.has(split=split, faces=number):
                    continue
                files = draw(samples, split, number, chosen.seed)
                kept = chosen.work / f"{split}-{number}.jsonl"
                rows = [row for row in scored(files, inspector, kept, progress, kept.stem) if row["faces"]]
                limit = card.calibration.decision_log10_lr
                for rule in RULES:
                    values = [(row, file_ratio(row["faces"], rule)) for row in rows]
                    said = {label: [v >= limit for row, v in values if row["label"] == label] for label in (0, 1)}
                    calm = {label: [v <= -limit for row, v in values if row["label"] == label] for label in (0, 1)}
                    by_source = defaultdict(list)
                    for row, value in values:
                        if not row["label"]:
                            by_source[row["group"]].append(value >= limit)
                    worst = max(by_source, key=lambda name: np.mean(by_source[name]))
                    record.add(
                        split=split,
                        faces=number,
                        rule=rule,
                        files=[len(said[label]) for label in (0, 1)],
                        false_alarms=share_interval(sum(said[0]), len(said[0])),
                        worst=[worst, round(float(np.mean(by_source[worst])), 4), len(by_source[worst])],
                        hits=share_interval(sum(said[1]), len(said[1])),
                        authentic=share_interval(sum(calm[0]), len(calm[0])),
                        misses=share_interval(sum(calm[1]), len(calm[1])),
                        judged=round(float(np.mean([len(row["faces"]) for row in rows])), 2),
                    )


TEXT = """## Files with several faces

Pictures of n faces, detector {pack}: how many files of authentic faces are called forged, and how many with one forged
face among them, by {rules} of the faces' likelihood ratios (LR). The mean LR is the LR of "one of these faces was
forged" against "none was". Shares with 95 % intervals (Clopper and Pearson; files share faces, so that they are
somewhat too narrow); files of each kind in the last column. Rule, written before the run: of the rules that call
forged, at every n, no larger share of the authentic files of the validation split than of those with one face (by more
than one in a hundred), the one that calls most forged files forged, mean over n; of equal ones that listed first. That
is "{answer}". `experiments/plain/collages.py`.

{cost}
"""
COST = """Of the test files with {faces} authentic faces, {before:.0%} were called forged by the highest LR and
{after:.0%} by the mean; with one forged face among them {hit_before:.0%} and {hit_after:.0%}. That is the price: a
detector whose LR is seldom far above 1 cannot show that one face among many was forged. Such a file is inconclusive,
and the face that passes the limit by itself is named."""


def choice(rows: Sequence[dict[str, Any]]) -> str:
    """The rule that is taken, by the rows of the validation split."""
    val = [row for row in rows if row["split"] == "val"]
    single = {row["rule"]: row["false_alarms"][0] for row in val if row["faces"] == 1}
    allowed = [
        rule
        for rule in RULES
        if all(row["false_alarms"][0] <= single[rule] + SLACK for row in val if row["rule"] == rule)
    ]
    return max(allowed, key=lambda rule: sum(row["hits"][0] for row in val if row["rule"] == rule))


def cost(rows: Sequence[dict[str, Any]], faces: int = 9) -> str:
    """What the rule that is taken changes, on the test split."""
    by = {row["rule"]: row for row in rows if row["split"] == "test" and row["faces"] == faces}
    before, after = by["highest"], by[choice(rows)]
    return COST.format(
        faces=faces,
        before=before["false_alarms"][0],
        after=after["false_alarms"][0],
        hit_before=before["hits"][0],
        hit_after=after["hits"][0],
    )


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "plain/collages")
    parts = [
        TEXT.format(
            pack=record["settings"]["pack"],
            rules=", ".join(f'"{rule}"' for rule in RULES),
            answer=choice(record["rows"]),
            cost=cost(record["rows"]),
        )
    ]
    for split, name in (("val", "validation"), ("test", "test")):
        lines = [
            [
                str(row["faces"]),
                row["rule"],
                *("{:.3f} [{:.3f}, {:.3f}]".format(*row[key]) for key in ("false_alarms", "hits", "authentic")),
                " / ".join(map(str, row["files"])),
            ]
            for row in record["rows"]
            if row["split"] == split
        ]
        heads = ["rule", "authentic called forged", "one forged, called forged", "authentic called authentic", "files"]
        parts.append(markdown([f"faces, {name} split", *heads], lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
