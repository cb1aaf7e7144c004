import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from unmask.errors import DataError
from unmask.lab.run import Protocol, Run, versions

PROTOCOL = Protocol(
    options={"view": "rgb"}, without=("stylegan", "ciplab"), before=("swap",), learning_rate=3e-4, seed=11
)


def test_a_protocol_comes_back_as_it_was_written(tmp_path: Path) -> None:
    Run(tmp_path / "run", PROTOCOL, "abc")
    assert Run.protocol_of(tmp_path / "run") == PROTOCOL


def test_a_run_says_what_made_it(tmp_path: Path) -> None:
    Run(tmp_path, PROTOCOL, "abc")
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["data_sha256"] == "abc" and record["command"]
    assert record["versions"] == versions() and {"unmask", "python", "numpy"} <= record["versions"].keys()


def test_a_run_is_found_again(tmp_path: Path) -> None:
    Run(tmp_path, PROTOCOL, "abc")
    before = (tmp_path / "run.json").read_bytes()
    Run(tmp_path, PROTOCOL, "abc")
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 12},
        {"without": ()},
        {"options": {}},
        {"method": "acmf"},
        {"window": 224},
        {"start": "0" * 64},
        {"margin": 1.5},
    ],
)
def test_a_run_of_another_protocol_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    Run(tmp_path, PROTOCOL, "abc")
    with pytest.raises(DataError, match="another protocol or other data; name another folder"):
        Run(tmp_path, replace(PROTOCOL, **change), "abc")


def test_a_run_on_other_data_is_refused(tmp_path: Path) -> None:
    Run(tmp_path, PROTOCOL, "abc")
    with pytest.raises(DataError, match="other data"):
        Run(tmp_path, PROTOCOL, "abd")


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        "{}",
        '{"protocol": {}}',
        '{"protocol": {"without": [], "a setting of tomorrow": 1}}',
        '{"protocol": []}',
    ],
)
def test_what_is_no_run_folder_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(DataError, match="not a run folder") as caught:
        Run.protocol_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_step_logged_again_after_a_kill_counts_once(tmp_path: Path) -> None:
    run = Run(tmp_path, PROTOCOL, "abc")
    for step, loss in ((500.0, 3.0), (1000.0, 2.0), (1000.0, 2.5), (1500.0, 1.0)):
        run.log({"step": step, "loss": loss})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == ["step,loss", "500,3", "1000,2.5", "1500,1"]


def test_the_first_row_decides_the_columns(tmp_path: Path) -> None:
    run = Run(tmp_path, PROTOCOL, "abc")
    run.log({"step": 500.0, "loss": 0.1234567891, "auc": 0.5})
    Run(tmp_path, PROTOCOL, "abc").log({"auc": 0.75, "loss": 1e-7, "step": 1000.0, "later": 1.0})
    run.log({"step": 1500.0})
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [
        {"step": "500", "loss": "0.123457", "auc": "0.5"},
        {"step": "1000", "loss": "1e-07", "auc": "0.75"},
        {"step": "1500", "loss": "", "auc": ""},
    ]
