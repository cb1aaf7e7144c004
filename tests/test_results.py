"""The results page is what the cards and the experiments' records say."""

import importlib
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab
ROOT = Path(__file__).resolve().parent.parent


def test_the_page_is_generated_from_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(sys, "path", [str(ROOT / "experiments"), *sys.path])
    page = importlib.import_module("results").results()
    assert page == (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
