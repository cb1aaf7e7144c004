"""Faces that may be attacked: volunteers of two research collections, and forgeries made of them on the spot.

The people of the American Multiracial Faces Database and of Face Research Lab London agreed that their pictures be used
in research. Both lie among the known collections as `real_amfd` and `real_frll`.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from unmask.datasets.layouts.collection import load_collection
from unmask.datasets.manifest import Sample, read_manifest
from unmask.forging.families import family
from unmask.forging.forge_set import forge_folder
from unmask.progress import SILENT, Progress
from unmask.tables import write_csv

SOURCES = ("real_amfd", "real_frll")
EACH = 16  # forgeries of a family
KINDS = ("swap", "selfblend", "resynthesis", "mobilestylegan")


def volunteers(data: Path, split: str | None = None) -> list[Sample]:
    """The volunteers' pictures, of one split or of all.

    Args:
        data: folder of the known collections.
        split: as `load_collection` has it, so that "test" holds nobody whom the embedded packs were trained on.
    """
    return [s for s in load_collection(data) if s.source in SOURCES and split in (None, s.split)]


def attacked_set(data: Path, work: Path, seed: int, progress: Progress = SILENT) -> Path:
    """A manifest for `unmask redteam`: test-split volunteers and forgeries of every one of `KINDS` made of them.

    Both classes are framed and written alike by `forge_folder`. Forgeries come in turn, family by family, so that the
    first N hold about as many of each. What is there already is kept.
    """
    faces = work / "volunteers"
    faces.mkdir(parents=True, exist_ok=True)
    for sample in volunteers(data, "test"):
        if not (faces / Path(sample.path).name).is_file():
            shutil.copyfile(sample.path, faces / Path(sample.path).name)
    weights = data / "weights"
    made = forge_folder(
        faces, work / "set", KINDS, EACH, seed, taef2=weights / "taef2", weights=weights, progress=progress
    )
    samples = read_manifest(made.manifest)
    families = [[s for s in samples if s.family == name] for name in dict.fromkeys(s.family for s in samples)]
    rows = [
        (
            Path(s.path).relative_to(work),
            s.subject,
            "synthetic" if s.label and family(s.family).wholly_synthetic else "yes",
            s.label,
        )
        for turn in range(max(map(len, families)))
        for s in _turn(families, turn)
    ]
    table = work / "manifest.csv"
    if not table.is_file():
        write_csv(table, ("path", "subject", "consent", "label"), rows)
    return table


def _consent(sample: Sample) -> str:
    return "synthetic" if sample.label and family(sample.family).wholly_synthetic else "yes"


def _turn(families: Sequence[Sequence[Sample]], turn: int) -> list[Sample]:
    return [group[turn] for group in families if turn < len(group)]
