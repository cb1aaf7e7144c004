"""Campaigns of `unmask redteam` against detectors and packs: attacked faces that keep the label they had before."""

import json
from pathlib import Path
from typing import Any

from unmask.datasets.layouts.listing import existing_folder
from unmask.datasets.manifest import SHARES, Sample, check_samples, split_of
from unmask.errors import DataError

SETTINGS, RECORDS = "settings.json", "records.jsonl"
"""What a campaign's folder holds beside its pictures; `redteam.campaign` writes them."""


class Attacked:
    """Loads campaigns; see `load_attacked`."""

    def recognises(self, path: Path) -> bool:
        """A folder with a campaign's settings and records."""
        return all((path / name).is_file() for name in (SETTINGS, RECORDS))

    def load(self, path: Path) -> list[Sample]:
        """`load_attacked`."""
        return load_attacked(path)


def load_attacked(root: Path) -> list[Sample]:
    """The attacked faces of a campaign::

        root/
          settings.json
          records.jsonl                      a line for each picture: label, subject, attack, where it is
          pictures/VICTIM/ATTACK-EPSILON/GOAL/NNNNN.png

    A face keeps its label, whatever the victim said: 1 for one that was forged and is to pass for real. The family of a
    forged one is "attacked-ATTACK", the source of all is the folder's name, and subjects are split by hash. The band
    above the pictures says "SYNTHETIC" of both classes; the face store leaves it out.

    Raises:
        DataError: a campaign against a recogniser, one without attacked pictures, or what `check_samples` refuses.
    """
    root = existing_folder(root)
    try:
        kind = json.loads((root / SETTINGS).read_text(encoding="utf-8"))["kind"]
        lines = (root / RECORDS).read_bytes().split(b"\n")[:-1]  # what follows the last line's end is torn
        records: list[dict[str, Any]] = [json.loads(line) for line in lines]
        attacked = [record for record in records if "picture" in record]
        samples = [_sample(root, record) for record in attacked]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{root}: not a readable campaign of `unmask redteam`; attack again into a new folder"
        ) from error
    if kind == "recogniser":
        raise DataError(
            f"{root}: a campaign against a recogniser, whose faces are neither forged nor real; take one of `unmask "
            "redteam detector` or `pack`"
        )
    check_samples(samples, root)
    return samples


def _sample(root: Path, record: dict[str, Any]) -> Sample:
    forged, subject = int(record["label"]) == 1, str(record["subject"])
    return Sample(
        path=str(root / record["picture"]),
        label=int(forged),
        family=f"attacked-{record['attack']}" if forged else "real",
        source=root.name,
        subject=subject,
        split=split_of(subject, SHARES),
    )
