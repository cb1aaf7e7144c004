import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data sets. Their absence is a failure in CI and a visible skip elsewhere."""
    folder = Path(os.environ.get("UNMASK_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"no data sets in {folder}: set UNMASK_DATA"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
