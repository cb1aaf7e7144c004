"""What users type and read is as it was: the public surface, the embedded models, the reports on ten files."""

import json
import math
from typing import Any

import pytest
from golden.make import FOLDER, RECORDS


def differences(made: Any, kept: Any, where: str = "") -> list[str]:
    """Where two records differ; numbers may by what other processors round otherwise."""
    if isinstance(made, float | int) and isinstance(kept, float | int) and not isinstance(kept, bool):
        return [] if math.isclose(made, kept, rel_tol=2e-3, abs_tol=2e-3) else [f"{where}: {kept} -> {made}"]
    if isinstance(made, dict) and isinstance(kept, dict) and made.keys() == kept.keys():
        return [line for name in kept for line in differences(made[name], kept[name], f"{where}/{name}")]
    if isinstance(made, list) and isinstance(kept, list) and len(made) == len(kept):
        pairs = enumerate(zip(made, kept, strict=True))
        return [line for place, (one, other) in pairs for line in differences(one, other, f"{where}/{place}")]
    return [] if made == kept else [f"{where}: {kept} -> {made}"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDS)
def test_nothing_changed_unmeant(name: str) -> None:
    if name == "surface.json":
        pytest.importorskip("torch")  # the lab's commands have the options of its methods' tasks
    kept = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    made = json.loads(json.dumps(RECORDS[name]()))
    assert differences(made, kept) == []


LIMITS: set[str] = set()
"""Files whose reports are known to differ between versions of the libraries, each named in docs/case.md."""


def test_reports_are_those_of_the_lowest_and_the_newest_libraries() -> None:
    records = json.loads((FOLDER / "versions.json").read_text(encoding="utf-8"))
    assert records and all(one["files"] >= 60 for one in records)
    assert {path for one in records for path in one["differing"]} <= LIMITS
