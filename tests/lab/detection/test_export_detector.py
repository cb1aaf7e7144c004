"""Shipping: what stands in the pack's folder when something goes wrong on the way, and when all goes well."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tiny_pack import make_card

from unmask.errors import DataError, PackError
from unmask.forgery.plain import Plain
from unmask.lab import onnx_pack as export
from unmask.lab.detection import export as shipping
from unmask.lab.detection.evaluate import Evaluation, add
from unmask.lab.run import DetectionTrainConfig, Run
from unmask.packs import load_pack
from unmask.packs.card import OperatingPoint

pytestmark = pytest.mark.lab

DATA: Any = SimpleNamespace(faces=list)


@pytest.fixture
def difference(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Takes the slow parts out: training, calibration, test and the export itself. Gives the parity that is found."""
    found = {"logit": 0.01, "map": 0.005}
    result = Evaluation("test")
    add(result, "swap", "auc", "as is", 0.7, 0.6, 0.8, np.array([0, 1]))
    point = OperatingPoint(name="p", threshold=0.5, false_alarm_rate=0.1, hit_rate=0.5, dataset="cal")
    crop = SimpleNamespace(crop=np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(Run, "protocol_of", lambda _: DetectionTrainConfig())
    monkeypatch.setattr(shipping, "load_network", lambda _: Plain("rgb", weights="none"))
    monkeypatch.setattr(shipping, "calibrate", lambda *_: make_card(8, "").calibration)
    monkeypatch.setattr(shipping, "held_out", lambda *_, **__: [crop])
    monkeypatch.setattr(shipping, "held_out_reconstructions", lambda *_: None)
    monkeypatch.setattr(shipping, "parity", lambda *_: found)
    monkeypatch.setattr(shipping, "evaluate", lambda *_, **__: result)
    monkeypatch.setattr(shipping, "operating_points", lambda *_: (point,))
    monkeypatch.setattr(export, "write_onnx", lambda _, path: path.write_bytes(b"a network"))
    return found


def ship(out: Path) -> Any:
    return shipping.ship(DATA, [Path("run")], [[Path("unseen")]], out, "1", Console(quiet=True))


@pytest.mark.parametrize(("runs", "unseen"), [(1, 2), (2, 1), (2, 3)])
def test_what_calibrates_is_fused_of_as_many_runs(runs: int, unseen: int, tmp_path: Path) -> None:
    given = [Path(f"run-{number}") for number in range(runs)], [[Path(f"u{number}") for number in range(unseen)]]
    with pytest.raises(DataError, match=rf"--unseen u0.*: {unseen} run\(s\), but {runs} are exported"):
        shipping.ship(DATA, *given, tmp_path / "mine", "1", Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_a_pack_carries_its_figures(difference: dict[str, float], tmp_path: Path) -> None:
    pack, result, found = ship(tmp_path / "mine")
    assert found is difference
    assert [metric.value for metric in pack.card.metrics] == [0.7] == [metric.value for metric in result.metrics]
    assert [point.name for point in pack.card.operating_points] == ["p"]
    assert {path.name for path in tmp_path.rglob("*")} == {"mine", "model.onnx", "card.json"}


def test_the_card_says_what_was_fused(difference: dict[str, float], tmp_path: Path) -> None:
    alone, *_ = ship(tmp_path / "one")
    runs = [Path("blends"), Path("synthesis")]
    fused, *_ = shipping.ship(DATA, runs, [[Path("unseen"), Path("too")]], tmp_path / "two", "1", Console(quiet=True))
    assert "fused" not in alone.card.description and "2 networks, fused" in fused.card.description
    assert len(fused.card.config["runs"]) == 2


def test_an_embedded_packs_name_is_a_folder_here(
    difference: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pack, *_ = ship(Path("plain"))
    assert pack.folder == tmp_path / "plain" and pack.card.sha256 != load_pack("plain").card.sha256


def test_a_network_that_came_out_different_is_refused(difference: dict[str, float], tmp_path: Path) -> None:
    difference["logit"] = 3.0
    with pytest.raises(PackError, match=r"differs from the trained one by 3\.00"):
        ship(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_an_interrupted_measurement_leaves_an_older_pack_alone(
    difference: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(tmp_path / "mine")
    before = (tmp_path / "mine" / "card.json").read_bytes()

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shipping, "evaluate", stop)
    with pytest.raises(KeyboardInterrupt):
        ship(tmp_path / "mine")
    assert (tmp_path / "mine" / "card.json").read_bytes() == before


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]]:
    """Families each run missed, by folder; takes pictures and networks out of the calibration."""
    runs = {
        "blends": ("stylegan", "resynthesis", "swap"),
        "synthesis": ("selfblend", "swap", "stylegan"),
        "all-but-ciplab": ("ciplab",),
        "all": (),
        "began-with-swap": ("swap",),
    }
    before = {"began-with-swap": ("swap",)}
    seen = {"began-with-swap": ("ciplab",)}
    crop = np.zeros((8, 8, 3), np.uint8)
    faces = [
        SimpleNamespace(crop=crop, label=label, family=name, source="ffhq")
        for label, name in enumerate(("real", "swap"))
    ]

    def protocol_of(folder: Path) -> DetectionTrainConfig:
        name = str(folder)
        return DetectionTrainConfig(families=seen.get(name, ()), without=runs[name], before=before.get(name, ()))

    monkeypatch.setattr(Run, "protocol_of", protocol_of)
    monkeypatch.setattr(shipping, "load_network", lambda _: Plain("rgb", weights="none"))
    monkeypatch.setattr(shipping, "held_out_reconstructions", lambda *_: None)
    monkeypatch.setattr(shipping, "show", lambda *_: faces)
    monkeypatch.setattr(shipping, "quality_of", lambda _: 50.0)
    monkeypatch.setattr(shipping, "logits_of", lambda detector, *_: (np.full(2, len(detector.members)), None))
    return runs


def test_a_fused_detector_is_calibrated_on_what_none_of_its_members_saw(
    without: dict[str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(shipping, "make_eval_images", lambda _, split, families, *__, **___: asked.append(families))
    fitted: list[Any] = []
    monkeypatch.setattr(shipping, "fit_calibration", lambda *given: fitted.append(given))
    systems = [[Path("blends"), Path("synthesis")], [Path("all-but-ciplab")]]
    shipping.calibrate(DATA, systems, [], 1.4, 224, Console(quiet=True))
    assert [set(families) for families in asked] == [{"stylegan", "swap"}, {"ciplab"}]
    ((scored, _, told, *_),) = fitted
    assert [face.logit for face in scored] == [2.0] * 6 + [1.0] * 6  # two faces: as is, JPEG 50, half size
    assert "stylegan+swap; ciplab" in told


def test_without_a_blind_detector_the_runs_are_calibrated_on_what_they_know(
    without: dict[str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(shipping, "make_eval_images", lambda _, split, families, *__, **___: asked.append(families))
    fitted: list[Any] = []
    monkeypatch.setattr(shipping, "fit_calibration", lambda *given: fitted.append(given))
    shipping.calibrate(DATA, [], [], 1.4, 224, Console(quiet=True), [Path("began-with-swap")])
    assert asked == [("ciplab", "swap")] and "trained on ciplab+swap" in fitted[0][2]


@pytest.mark.parametrize("system", [["all"], ["blends", "all"], ["blends", "all-but-ciplab"], ["began-with-swap"]])
def test_a_detector_that_has_seen_all_is_no_calibration(system: list[str], without: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(DataError, match="has seen every family"):
        shipping.calibrate(DATA, [[Path(name) for name in system]], [], 1.4, 224, Console(quiet=True))
