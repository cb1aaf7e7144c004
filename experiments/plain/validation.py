"""What the likelihood ratios of a pack are worth on the test split, by the whole pipeline: every file is inspected.

    PYTHONPATH=experiments python experiments/plain/validation.py RECORD.json PACK --data DATA [--card]

Every picture of the test split is inspected as a user would have it, and of its faces the largest is taken: nothing is
chosen by what comes out. Sources and families weigh alike. Faces that are refused are counted and left out. With
`--card`, the spread goes on the pack's card, where the Tippett and ECE plots of reports come from.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from common import command, write_record

from unmask import Inspector
from unmask.cli.options import progress_bars
from unmask.evidence.report import Verdict
from unmask.lab.detection.config import DetectionPaths
from unmask.lab.detection.validation import validation_of
from unmask.packs import load_pack


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("record", type=Path)
    arguments.add_argument("pack")
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--card", action="store_true", help="put it on the pack's card")
    chosen = arguments.parse_args()
    samples = [
        one
        for one in DetectionPaths(data=chosen.data, work=Path("runs/work")).samples()
        if one.split == "test" and one.spectrum == "visible"
    ]
    inspector = Inspector(chosen.pack, edit_pack=None)
    values: list[float] = []
    labels: list[int] = []
    groups: list[str] = []
    refused = [0, 0]
    with progress_bars() as progress:
        for number, sample in enumerate(samples, start=1):
            path = Path(sample.path)
            report = inspector.inspect(path if path.is_absolute() else chosen.data / path)
            face = max(report.faces, key=lambda one: one.box[2] * one.box[3], default=None)
            if face is None or face.verdict is Verdict.REFUSED or face.log10_lr is None:
                refused[sample.label] += 1
            else:
                values.append(face.log10_lr)
                labels.append(sample.label)
                groups.append(sample.family if sample.label else sample.source)
            progress.update("inspecting", number, len(samples))
    data = (
        "test split of the collections, people that no network saw in training, most kinds of forgery known to them; "
        f"{len({g for g, label in zip(groups, labels, strict=True) if not label})} sources and "
        f"{len({g for g, label in zip(groups, labels, strict=True) if label})} families, each weighing alike"
    )
    card = load_pack(chosen.pack).card
    made = validation_of(values, labels, groups, data, (refused[0], refused[1]), command())
    record = {
        "pack": f"{card.name} {card.version}",
        "sha256": card.sha256,
        **asdict(made),
        "cllr": round(made.cllr, 4),
        "cllr_min": round(made.cllr_min, 4),
    }
    write_record(chosen.record, record)
    print(json.dumps({name: record[name] for name in ("pack", "n_real", "n_forged", "cllr", "cllr_min")}))
    if chosen.card:
        pack = load_pack(chosen.pack)
        replace(pack.card, validation=made).write(pack.folder / "card.json")


if __name__ == "__main__":
    main()
