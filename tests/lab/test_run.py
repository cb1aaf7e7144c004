import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from unmask.errors import DataError
from unmask.lab.config import TrainConfig
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.edits.config import EditTrainConfig
from unmask.lab.run import Run, config_of, data_of, is_run, task_of, versions

CONFIG = DetectionTrainConfig(
    options={"view": "rgb"}, without=("stylegan", "ciplab"), before=("swap",), learning_rate=3e-4, seed=11
)


def test_a_configuration_comes_back_as_it_was_written(tmp_path: Path) -> None:
    Run(tmp_path / "run", CONFIG, "abc")
    assert config_of(tmp_path / "run") == CONFIG
    reading = EditTrainConfig(known=(0, 7), encoded=0.5)
    Run(tmp_path / "other", reading, "abc")
    assert config_of(tmp_path / "other") == reading


def test_a_run_says_what_made_it(tmp_path: Path) -> None:
    Run(tmp_path, CONFIG, "abc", command="unmask train plain --run 'my run'")
    record = json.loads((tmp_path / "run.json").read_text())
    assert data_of(tmp_path) == record["data_sha256"] == "abc"
    assert record["command"] == "unmask train plain --run 'my run'"
    assert record["versions"] == versions() and {"unmask", "python", "numpy"} <= record["versions"].keys()


@pytest.mark.parametrize(
    ("config", "task"), [(CONFIG, "forgery_detection"), (EditTrainConfig(), "edit_reading")], ids=["plain", "mmnet"]
)
def test_a_run_knows_its_task(tmp_path: Path, config: TrainConfig, task: str) -> None:
    Run(tmp_path, config, "abc")
    assert is_run(tmp_path) and not is_run(tmp_path / "nowhere")
    record = json.loads((tmp_path / "run.json").read_text())
    assert task_of(tmp_path) == record.pop("task") == task
    # Runs made before tasks had names on them say the method alone.
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert task_of(tmp_path) == task and config_of(tmp_path) == config


@pytest.mark.parametrize("change", [{"a setting of tomorrow": 1}, {"window": None}])
def test_a_run_of_another_version_is_refused(tmp_path: Path, change: dict[str, int | None]) -> None:
    Run(tmp_path, CONFIG, "abc")
    record = json.loads((tmp_path / "run.json").read_text())
    for name, value in change.items():
        if value is None:
            del record["protocol"][name]
        else:
            record["protocol"][name] = value
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="another version"):
        config_of(tmp_path)


def test_a_run_is_found_again(tmp_path: Path) -> None:
    Run(tmp_path, CONFIG, "abc")
    before = (tmp_path / "run.json").read_bytes()
    Run(tmp_path, CONFIG, "abc")
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
def test_a_run_of_another_configuration_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    Run(tmp_path, CONFIG, "abc")
    with pytest.raises(DataError, match="another configuration or other data; name another folder"):
        Run(tmp_path, replace(CONFIG, **change), "abc")


def test_a_run_on_other_data_is_refused(tmp_path: Path) -> None:
    Run(tmp_path, CONFIG, "abc")
    with pytest.raises(DataError, match="other data"):
        Run(tmp_path, CONFIG, "abd")


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
        config_of(tmp_path)
    assert "\n" not in str(caught.value)
    if content is not None:
        with pytest.raises(DataError, match="not a run folder"):
            Run(tmp_path, DetectionTrainConfig(), "abc")


def test_a_step_logged_again_after_a_kill_counts_once(tmp_path: Path) -> None:
    run = Run(tmp_path, CONFIG, "abc")
    for step, loss in ((500.0, 3.0), (1000.0, 2.0), (1000.0, 2.5), (1500.0, 1.0)):
        run.log({"step": step, "loss": loss})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == ["step,loss", "500,3", "1000,2.5", "1500,1"]


def test_every_name_has_a_column(tmp_path: Path) -> None:
    run = Run(tmp_path, CONFIG, "abc")
    run.log({"step": 500.0, "loss": 0.1234567891, "auc": 0.5})
    Run(tmp_path, CONFIG, "abc").log({"auc": 0.75, "loss": 1e-7, "step": 1000.0, "later": 1.0})
    run.log({"step": 1500.0})
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [
        {"step": "500", "loss": "0.123457", "auc": "0.5", "later": ""},
        {"step": "1000", "loss": "1e-07", "auc": "0.75", "later": "1"},
        {"step": "1500", "loss": "", "auc": "", "later": ""},
    ]


def test_a_run_begun_before_a_setting_was_there_goes_on(tmp_path: Path) -> None:
    """Where the setting is at what was done before it; else it is another configuration."""
    Run(tmp_path, CONFIG, "abc")
    path = tmp_path / "run.json"
    record = json.loads(path.read_text())
    for name in ("normalisation", "robust"):
        del record["protocol"][name]
    path.write_text(json.dumps(record))
    Run(tmp_path, CONFIG, "abc")
    assert config_of(tmp_path) == CONFIG
    for changed in (replace(CONFIG, normalisation="group"), replace(CONFIG, robust={"robust": "trades"})):
        with pytest.raises(DataError, match="another configuration"):
            Run(tmp_path, changed, "abc")
