"""What is generated in the documentation is current: pages and paragraphs are what the cards and the records say."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.lab
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def build() -> ModuleType:
    pytest.importorskip("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
        return importlib.import_module("build")


@pytest.fixture(scope="module")
def texts(build: ModuleType) -> dict[Path, str]:
    return build.outputs()


def test_every_generated_file_is_what_the_generator_writes(texts: dict[Path, str]) -> None:
    old = [str(path) for path, text in texts.items() if (ROOT / path).read_text(encoding="utf-8") != text]
    assert not old, "run `python docs/build.py`"


def test_no_page_is_left_that_is_generated_no_longer(build: ModuleType, texts: dict[Path, str]) -> None:
    assert build.stale(texts) == []


def test_text_between_markers_is_replaced_and_the_rest_is_kept(build: ModuleType) -> None:
    page = "Before.\n<!-- begin: one -->\nold\n<!-- end: one -->\nAfter.\n"
    assert build.filled(page, {"one": "new\n"}) == "Before.\n<!-- begin: one -->\nnew\n<!-- end: one -->\nAfter.\n"
    with pytest.raises(KeyError):
        build.filled(page, {})


def test_every_paragraph_is_used_once(build: ModuleType) -> None:
    pages = [(ROOT / name).read_text(encoding="utf-8") for name in build.WITH_PARAGRAPHS]
    made = importlib.import_module("paragraphs").paragraphs(ROOT)
    uses = {name: sum(page.count(f"<!-- begin: {name} -->") for page in pages) for name in made}
    assert uses == dict.fromkeys(made, 1)
    assert sum(page.count("<!-- begin: ") for page in pages) == len(made)
