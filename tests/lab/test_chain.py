"""The lab's commands one after another on real faces, as a newcomer types them: from a folder of faces to a verdict."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from progress_log import ProgressLog

from unmask import cli
from unmask.cli import lab

pytestmark = [pytest.mark.lab, pytest.mark.slow]

TINY = ["--size", "64", "--pairs", "48", "--steps", "4", "--batch-pairs", "4", "--without", "resynthesis"]
FEDFORGERY = ["--set", "width=8", "--set", "backbone=test_resnet", "--set", "weights=none"]


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[ProgressLog]:
    """What the bars of each of the lab's commands receive."""
    logs: list[ProgressLog] = []

    @contextmanager
    def logged() -> Iterator[ProgressLog]:
        logs.append(ProgressLog())
        yield logs[-1]

    monkeypatch.setattr(lab, "progress_bars", logged)
    return logs


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must succeed; what it printed."""

    def call(*words: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["unmask", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capfd.readouterr()
        assert end.value.code in (0, None), printed.err
        return printed.out

    return call


def test_from_a_folder_of_faces_to_a_verdict(
    data_dir: Path,
    portrait: Path,
    tmp_path: Path,
    run: Callable[..., str],
    bars: list[ProgressLog],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("faces").mkdir()
    for path in sorted((data_dir / "faces" / "utkface_200").iterdir())[:1200:10]:
        shutil.copy(path, "faces")
    printed = run(
        "forge", "faces", "set", "--size", "96", "--kind", "selfblend", "--kind", "fingerprint", "--count", "60"
    )
    assert "set/manifest.csv: " in printed and "60 selfblend" in printed

    printed = run("manifest", "set", "--out", "rows.csv")
    assert "read as manifest" in printed
    assert all(f"  {split:5} real" in printed for split in ("train", "val", "cal", "test"))

    run("train", "fedforgery", "--run", "runs/fed", "--data", "rows.csv", *FEDFORGERY, *TINY)
    run("train", "plain", "--run", "runs/plain", "--data", "rows.csv", "--set", "weights=none", "--window", "64", *TINY)
    assert {path.name for path in Path("runs/fed").iterdir()} == {path.name for path in Path("runs/plain").iterdir()}

    run("compare", "runs/plain", "runs/fed", "--data", "rows.csv", "--json", "compared.json")
    rows = json.loads(Path("compared.json").read_text())["rows"]
    assert {row["system"] for row in rows} == {"plain", "fed"}
    assert {row["group"] for row in rows} >= {"selfblend", "fingerprint-blur"}
    assert all((row["difference"] is None) == (row["system"] == "plain") for row in rows)

    run("export", "runs/fed", "--data", "rows.csv")
    card = json.loads(Path("runs/fed/pack/card.json").read_text())
    assert card["name"] == "fedforgery"
    assert "trained on selfblend+swap+fingerprint-blur" in card["calibration"]["data"]  # not on what it never saw
    run("inspect", portrait, "--pack", "plain", "--pack", "runs/fed/pack", "--json", "report.json")
    [face] = json.loads(Path("report.json").read_text())["faces"]
    assert [opinion["pack"] for opinion in face["opinions"]] == ["plain", "fedforgery"]
    still = next(one for one in card["calibration"]["conditions"] if one["condition"] == "still")
    assert (face["opinions"][1]["verdict"] != "refused") == (still["decision_log10_lr"] is not None)

    training, other, comparison, export = bars
    for log in bars:
        log.check_bars_end()
    assert set(training.stages) == {"finding faces", "making pairs", "training"}
    assert "finding faces" not in other.stages and other.stages["training"][-1] == (4, 4)
    assert set(comparison.stages) == {"scoring"} and set(export.stages) == {"scoring the cal split", "scoring"}
