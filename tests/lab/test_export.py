"""From runs to a pack: what stands in its folder when all goes well, and when something goes wrong on the way."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edit_runs import write_run as write_edit_run
from stored_paths import SMALL, StoredPaths, write_run
from tiny_pack import make_card

from unmask.errors import DataError, PackError
from unmask.lab import export as exporting
from unmask.lab.detection.config import DetectionExport
from unmask.lab.detection.task import DetectionTask
from unmask.lab.export import Exported, export
from unmask.lab.run import versions
from unmask.lab.task import CardFacts, Evaluation, Measured
from unmask.packs import load_pack
from unmask.packs.card import OperatingPoint

pytestmark = pytest.mark.lab


@pytest.fixture
def difference(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Takes the slow parts out: the export itself, calibration and test. Gives the parity that is found."""
    parity = {"logit": 0.01, "map": 0.005}
    evaluation = Evaluation("test")
    evaluation.add("swap", "auc", "clean", 0.7, 0.6, 0.8, np.array([0, 1]))
    point = OperatingPoint(name="p", threshold=0.5, false_alarm_rate=0.1, hit_rate=0.5, dataset="cal")
    card = make_card(8, "")
    measured = Measured(evaluation, (), calibration=card.calibration, operating_points=(point,))
    facts = CardFacts("what it is", "training split", "terms", "0" * 64, ("a limit",), ("nir",))
    for name, answer in {"measure": measured, "facts": facts, "samples": None, "check_export": None}.items():
        monkeypatch.setattr(DetectionTask, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(exporting, "parity", lambda *_: parity)
    monkeypatch.setattr(exporting, "write_onnx", lambda *given: given[3].write_bytes(b"a network"))
    return parity


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", margin=1.3)


def exported(run: Path, out: Path, **options: Any) -> Exported:
    paths = StoredPaths(data=Path("data"), work=Path("work"))
    return export([run], paths, out, DetectionExport(**options))


@pytest.mark.usefixtures("difference")
def test_a_pack_carries_its_figures(run: Path, tmp_path: Path, difference: dict[str, float]) -> None:
    made = exported(run, tmp_path / "mine", version="2.0")
    card = made.pack.card
    assert made.parity is difference and card.metrics == tuple(made.measured.evaluation.metrics)
    assert [metric.value for metric in card.metrics] == [0.7]
    record = json.loads((made.pack.folder / "evaluation.json").read_text())
    assert record["detector"] == "fedforgery 2.0" and [metric["value"] for metric in record["metrics"]] == [0.7]
    assert [point.name for point in card.operating_points] == ["p"] and card.reading is None
    assert (card.name, card.version, card.task) == ("fedforgery", "2.0", "forgery_detection")
    assert (card.input_size, card.crop_margin, card.outputs) == ((64, 64), 1.3, ("logit", "map"))
    # Networks normalise what they see themselves.
    assert (card.mean, card.std, card.spectra) == ((0, 0, 0), (1, 1, 1), ("nir",))
    assert card.protocol["versions"] == versions() and len(card.protocol["runs"]) == 1
    assert card.protocol["runs"][0]["method"] == "fedforgery" and card.protocol["runs"][0]["margin"] == 1.3
    assert set(card.protocol["runs"][0]) == set(asdict(SMALL))
    assert {path.name for path in tmp_path.rglob("*")} == {"mine", "model.onnx", "card.json", "evaluation.json"}


@pytest.mark.usefixtures("difference")
def test_a_packs_name_and_folder_are_those_that_are_given(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if an embedded one is called so."""
    monkeypatch.chdir(tmp_path)
    pack = exported(run, Path("plain"), name="Mine").pack
    assert pack.folder == tmp_path / "plain" and pack.card.name == "Mine"
    assert pack.card.sha256 != load_pack("plain").card.sha256


@pytest.mark.parametrize("value", [3.0, float("nan")])
@pytest.mark.parametrize("name", ["logit", "map"])
def test_a_network_that_came_out_different_is_refused(
    name: str, value: float, run: Path, tmp_path: Path, difference: dict[str, float]
) -> None:
    difference[name] = value
    with pytest.raises(PackError, match=f"differs from the trained one.* {value:.2g} .{name}"):
        exported(run, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


@pytest.mark.usefixtures("difference")
@pytest.mark.parametrize("part", ["measure", "samples"])
def test_what_is_interrupted_leaves_no_pack_and_an_older_one_as_it_was(
    part: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(run, tmp_path / "old")
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DetectionTask, part, stop)
    for out in (tmp_path / "old", tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            exported(run, out, version="3")
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("difference")
def test_a_newer_pack_takes_the_place_of_an_older_one(run: Path, tmp_path: Path) -> None:
    exported(run, tmp_path / "mine")
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    assert exported(run, tmp_path / "mine", version="3").pack.card.version == "3"
    assert load_pack(tmp_path / "mine").card.version == "3"
    assert {path.name for path in tmp_path.rglob("*")} == {
        "mine",
        "model.onnx",
        "card.json",
        "evaluation.json",
        "notes.txt",
    }


@pytest.mark.usefixtures("difference")
def test_runs_of_different_tasks_make_no_pack(run: Path, tmp_path: Path) -> None:
    other = write_edit_run(tmp_path / "reads")
    paths = StoredPaths(data=Path("data"), work=Path("work"))
    with pytest.raises(DataError, match=r"different tasks \(edit_reading, forgery_detection\)"):
        export([run, other], paths, tmp_path / "mine", DetectionExport())
    assert not (tmp_path / "mine").exists()
