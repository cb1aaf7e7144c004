"""What is generated in the documentation is current: pages and paragraphs are what the cards and the records say."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.lab
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def build() -> ModuleType:
    pytest.importorskip("torch")
    pytest.importorskip("flwr")  # the records of federated experiments are read beside their scripts
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


@pytest.mark.parametrize(
    ("difference", "lower_is_better", "outcome"),
    [
        ((0.2, 0.1, 0.3), False, "yes"),
        ((0.2, 0.1, 0.3), True, "the opposite"),
        ((-0.2, -0.3, -0.1), True, "yes"),
        ((-0.2, -0.3, -0.1), False, "the opposite"),
        ((0.1, -0.1, 0.3), False, "not seen"),
        ((-0.1, -0.2, 0.0), True, "not seen"),
    ],
)
def test_a_claim_is_seen_where_the_interval_lies_on_its_side(
    build: ModuleType, difference: tuple[float, float, float], lower_is_better: bool, outcome: str
) -> None:
    claims = importlib.import_module("claims")
    claim = claims.Claim("m", "It helps.", "record", "AUC", "with", "without", lower_is_better=lower_is_better)
    assert claims.outcome(claim, claims.Comparison(3, 0.9, 0.7, difference)) == outcome


def test_a_claim_needs_three_seeds(build: ModuleType, tmp_path: Path) -> None:
    claims = importlib.import_module("claims")
    rows = [{"arm": arm, "seed": seed, "AUC": seed / 10} for arm in ("with", "without") for seed in range(3)]
    claim = claims.Claim("m", "It helps.", "record", "AUC", "with", "without")
    (tmp_path / "experiments").mkdir()
    record = tmp_path / "experiments" / "record.json"
    record.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    assert claims.compare(claim, tmp_path).difference == (0, 0, 0)
    record.write_text(json.dumps({"rows": rows[:-1]}), encoding="utf-8")
    assert claims.compare(claim, tmp_path) is None
    record.unlink()
    assert claims.compare(claim, tmp_path) is None


def test_a_claim_pairs_rows_by_what_it_names(build: ModuleType, tmp_path: Path) -> None:
    claims = importlib.import_module("claims")
    rows = [
        {"arm": arm, "seed": seed, "without": family, "AUC": gain + seed}
        for arm, gain in (("with", 0.5), ("without", 0.0))
        for seed in range(2)
        for family in "ab"
    ]
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "record.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
    claim = claims.Claim("m", "It helps.", "record", "AUC", "with", "without", pairs=("without", "seed"))
    compared = claims.compare(claim, tmp_path)
    assert compared.seeds == 4 and compared.difference == (0.5, 0.5, 0.5)


def test_a_claim_without_enough_runs_is_in_the_table_all_the_same(build: ModuleType, tmp_path: Path) -> None:
    claims = importlib.import_module("claims")
    table = claims.claims_table(tmp_path, ["titf"])
    assert "not run" in table and len(table.splitlines()) == 3


def test_arms_that_have_learnt_too_little_are_not_compared(build: ModuleType, tmp_path: Path) -> None:
    claims = importlib.import_module("claims")
    rows = [
        {"arm": arm, "seed": seed, "AUC": area + seed / 100, "known": known}
        for arm, area, known in (("with", 0.8, 0.97), ("without", 0.6, 0.99))
        for seed in range(3)
    ]
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "record.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
    claim = claims.Claim("m", "It helps.", "record", "AUC", "with", "without", learnt=("known", 0.98))
    assert claims.outcome(claim, claims.compare(claim, tmp_path)) == "not compared"
    claim = claims.Claim("m", "It helps.", "record", "AUC", "with", "without", learnt=("known", 0.97))
    assert claims.outcome(claim, claims.compare(claim, tmp_path)) == "yes"


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
