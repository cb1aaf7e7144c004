"""From a face store to a finished run, on drawn faces."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_faces import make_faces, write_store
from rich.console import Console

from unmask.datasets.face_store import read_store
from unmask.lab.detection.train import DetectionPaths, load_network, train
from unmask.lab.run import DetectionTrainConfig, Run
from unmask.provenance import sha256_of

pytestmark = pytest.mark.lab

CONFIG = DetectionTrainConfig(
    options={"weights": "none"}, pairs=16, steps=2, batch_pairs=2, window=64, without=("resynthesis", "ciplab")
)
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> DetectionPaths:
    folder = tmp_path_factory.mktemp("work")
    write_store([*make_faces("train"), *make_faces("val", count=2)], folder / "store")
    return DetectionPaths(folder / "data", folder)


@pytest.fixture(autouse=True)
def at_hand(shop: DetectionPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """No collections to read and no weights to fetch."""
    monkeypatch.setattr(DetectionPaths, "faces", lambda *_: read_store(shop.work / "store"))


def test_a_run_and_one_that_begins_with_it(shop: DetectionPaths, tmp_path: Path) -> None:
    trained = train(shop, tmp_path / "one", CONFIG, None, QUIET)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {"run.json", "metrics.csv", "checkpoint.ckpt", "weights.safetensors"}
    for mine, theirs in zip(
        trained.state_dict().values(), load_network(tmp_path / "one").state_dict().values(), strict=True
    ):
        torch.testing.assert_close(mine.half(), theirs.half())
    # The same command again finds the run finished and changes nothing.
    weights = (tmp_path / "one" / "weights.safetensors").read_bytes()
    train(shop, tmp_path / "one", CONFIG, None, QUIET)
    assert (tmp_path / "one" / "weights.safetensors").read_bytes() == weights

    blind = replace(CONFIG, without=("swap", "resynthesis"))
    train(shop, tmp_path / "two", blind, tmp_path / "one", QUIET)
    second = config_of(tmp_path / "two")
    assert second.start == sha256_of(tmp_path / "one" / "weights.safetensors")
    # It is trained without swaps, and has seen them all the same.
    assert second.before == ("mobilestylegan", "selfblend", "stylegan", "swap")
    train(shop, tmp_path / "three", replace(blind, without=("selfblend", *blind.without)), tmp_path / "two", QUIET)
    assert config_of(tmp_path / "three").before == ("ciplab", *second.before)


def test_twins_are_not_made_where_their_family_comes_as_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = [*make_faces("train"), *make_faces("val", count=2)]
    named = [
        replace(face, sample=replace(face.sample, family="resynthesis")) if face.sample.family == "stylegan" else face
        for face in faces
    ]
    write_store(named, tmp_path / "store")
    shop = DetectionPaths(tmp_path / "data", tmp_path)
    monkeypatch.setattr(DetectionPaths, "faces", lambda *_: read_store(tmp_path / "store"))
    monkeypatch.setattr("unmask.lab.detection.train.prepare_twins", lambda *_: pytest.fail("twins are made"))
    train(shop, tmp_path / "run", replace(CONFIG, without=("ciplab",)), None, QUIET)
    assert "resynthesis" in config_of(tmp_path / "run").families
