"""How often does the embedded detector err on people of different age, sex and skin?

    PYTHONPATH=experiments python experiments/plain/groups.py experiments/plain/groups.json \\
      --data DATA --work WORK --ship

The faces of UTKFace that the pack was never trained, fitted or chosen on (its test split); a self-blend and a swap of
each, made by `unmask forge`, which frames and writes both classes alike. Age, sex and skin are what UTKFace's file
names say: the skin groups are its five labels, estimated by its authors and corrected by people. A swap counts to the
group of the person who is seen around the face.

Every picture is inspected as `unmask inspect` does. By group: the share of authentic faces that are called forged, and
authentic; of forged ones that are called forged (exact 95 % intervals of Clopper and Pearson); and the AUC of the
likelihood ratio, faces resampled with their forgeries. Nothing is chosen by these numbers. `--ship` writes them on the
pack's card; without `--data` that is all it does.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import Record, command, one_thread, versions
from pydantic import TypeAdapter
from scipy.stats import binomtest

import unmask.packs
from unmask import Inspector
from unmask.cli.options import progress_bars
from unmask.datasets.layouts.collection import load_collection
from unmask.forging.forge_set import forge_folder
from unmask.lab.metrics import auc, interval
from unmask.packs import Card
from unmask.packs.groups import GroupRates, GroupTable, Share, in_words
from unmask.progress import Progress
from unmask.provenance import sha256_of

PACK, SOURCE = "plain", "utkface"
KINDS = ("selfblend", "swap")
AGES = ((0, 15), (16, 30), (31, 50), (51, 116))
SEX = {"0": "male", "1": "female"}
SKIN = {"0": "White", "1": "Black", "2": "Asian", "3": "Indian", "4": "others"}
ALL = "everybody"
DATASET = "UTKFace, test split"
FORGERIES = "forgeries: a self-blend and a swap of each face"


def groups_of(name: str) -> dict[str, str]:
    """A face's groups by attribute, from its file name: age_sex_skin_date."""
    age, sex, skin = name.split("_")[:3]
    low, high = next(limits for limits in AGES if limits[0] <= int(age) <= limits[1])
    return {"age": f"{low} to {high}", "sex": SEX[sex], "skin": SKIN[skin]}


def inspected(data: Path, work: Path, seed: int, progress: Progress) -> tuple[list[dict[str, Any]], str]:
    """Faces of the test split and their forgeries as the pack judges them, and the set's SHA-256."""
    folder = work / "faces"
    folder.mkdir(parents=True, exist_ok=True)
    for sample in load_collection(data):
        path = Path(sample.path)
        tested = (sample.source, sample.split, sample.family) == (SOURCE, "test", "real")
        if tested and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
    made = forge_folder(folder, work / "set", KINDS, seed=seed, progress=progress)
    rows = [json.loads(line) for line in (work / "set" / "record.jsonl").read_text(encoding="utf-8").splitlines()]
    inspector = Inspector(PACK, edit_pack=None)
    judged = []
    for done, row in enumerate(rows):
        report = inspector.inspect(work / "set" / row["path"])
        ratio = report.log10_lr
        judged.append(
            {
                "face": row["files"][0]["path"],
                "label": row["label"],
                "family": row["family"],
                "verdict": report.verdict,
                "log10_lr": ratio,
            }
        )
        progress.update("inspecting", done + 1, len(rows))
    return judged, sha256_of(made.manifest)


def share(hits: Sequence[bool]) -> Share:
    """A share with its exact interval."""
    limits = binomtest(sum(hits), len(hits)).proportion_ci(0.95)
    return Share(
        value=round(sum(hits) / len(hits), 4), low=round(limits.low, 4), high=round(limits.high, 4), faces=len(hits)
    )


def rates(judged: Sequence[dict[str, Any]], attribute: str, group: str) -> GroupRates:
    """What the pack says of one group's faces."""
    real, forged = ([one for one in judged if one["label"] == label] for label in (0, 1))
    # What could not be judged has no likelihood ratio: it says nothing, as one of 1 does.
    scores = np.array([one["log10_lr"] or 0.0 for one in judged])
    labels = np.array([one["label"] for one in judged])
    value, low, high = interval(auc, labels, scores, [one["face"] for one in judged])
    assert low is not None and high is not None
    return GroupRates(
        attribute=attribute,
        group=group,
        false_alarms=share([one["verdict"] == "forged" for one in real]),
        called_authentic=share([one["verdict"] == "authentic" for one in real]),
        hits=share([one["verdict"] == "forged" for one in forged]),
        auc=round(value, 4),
        auc_low=round(low, 4),
        auc_high=round(high, 4),
    )


def table(judged: Sequence[dict[str, Any]], data_sha256: str) -> GroupTable:
    """The rates of all groups."""
    attributes = {ALL: [ALL], "age": [f"{low} to {high}" for low, high in AGES]}
    attributes |= {"sex": list(SEX.values()), "skin": list(SKIN.values())}
    rows = []
    for attribute, groups in attributes.items():
        for group in groups:
            chosen = [one for one in judged if ({ALL: ALL} | groups_of(one["face"]))[attribute] == group]
            rows.append(rates(chosen, attribute, group))
    return GroupTable(
        dataset=DATASET,
        forgeries=FORGERIES,
        groups=tuple(rows),
        data_sha256=data_sha256,
        command=command(),
        versions=versions("onnxruntime"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("--data", type=Path, help="folder of the known collections; without it nothing is inspected")
    parser.add_argument("--work", type=Path, default=Path("runs/groups"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ship", action="store_true", help="write the record's rates on the embedded pack's card")
    chosen = parser.parse_args()
    one_thread()
    path = Path(unmask.packs.__file__).parent / PACK / "card.json"
    card = Card.read(path)
    if chosen.data is not None:
        with progress_bars() as progress:
            judged, digest = inspected(chosen.data, chosen.work, chosen.seed, progress)
        record = Record(chosen.record, {"seed": chosen.seed, "kinds": KINDS}, digest, ("onnxruntime",))
        if not record.has(sha256=card.sha256):
            record.add(pack=PACK, version=card.version, sha256=card.sha256, table=asdict(table(judged, digest)))
    if chosen.ship:
        rows = json.loads(chosen.record.read_text(encoding="utf-8"))["rows"]
        own = [row for row in rows if row["sha256"] == card.sha256]
        if not own:
            raise SystemExit(f"{chosen.record} has no rates of {PACK} {card.version}; measure them with --data")
        groups = TypeAdapter(GroupTable).validate_python(own[-1]["table"])
        replace(card, groups=groups).write(path)
        print(f"{path}: {'; '.join(in_words(groups))}")


if __name__ == "__main__":
    main()
