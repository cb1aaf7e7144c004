"""What users type and read is as it was: the public surface, the embedded models, the reports on ten files."""

import json
import math
from typing import Any

import pytest
from golden.make import FOLDER, RECORDS


def differences(found: Any, kept: Any, where: str = "") -> list[str]:
    """Where two records differ; numbers may by what other processors round otherwise."""
    if isinstance(found, float | int) and isinstance(kept, float | int) and not isinstance(kept, bool):
        return [] if math.isclose(found, kept, rel_tol=2e-3, abs_tol=2e-3) else [f"{where}: {kept} -> {found}"]
    if isinstance(found, dict) and isinstance(kept, dict) and found.keys() == kept.keys():
        return [line for name in kept for line in differences(found[name], kept[name], f"{where}/{name}")]
    if isinstance(found, list) and isinstance(kept, list) and len(found) == len(kept):
        pairs = enumerate(zip(found, kept, strict=True))
        return [line for place, (one, other) in pairs for line in differences(one, other, f"{where}/{place}")]
    return [] if found == kept else [f"{where}: {kept} -> {found}"]


@pytest.mark.parametrize("name", RECORDS)
def test_nothing_changed_unmeant(name: str) -> None:
    kept = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    found = json.loads(json.dumps(RECORDS[name]()))
    assert differences(found, kept) == []
