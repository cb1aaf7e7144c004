"""The task of the dual encoder: its sets, its feed, and training to a pack through the commands."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from naming_runs import tiny_text

from unmask.cli import main
from unmask.lab.prompting.config import VisionLanguageConfig
from unmask.lab.prompting.named_pictures import NamedFeed, read_named, texts_of
from unmask.lab.prompting.sentences import packed_model
from unmask.lab.prompting.words import GENUINE, words_of
from unmask.lab.search.feed import SplitPictures
from unmask.packs import load_pack

pytestmark = pytest.mark.lab


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(shade).integers(0, 60, (40, 40, 3), np.uint8) + np.uint8(shade)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("things")
    for number, name in enumerate(("cat", "dog", "cow", "hen", "swapped-face")):
        for kind in ("photo", "sketch"):
            for copy in range(4):
                picture(root / kind / name / f"{copy}.png", 40 * number)
    return root


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faces")
    for split in ("train", "val", "test"):
        for number in range(3):
            picture(root / split / "real" / f"{split}{number}.png", 10)
            picture(root / split / "fake" / "dfl_faceswap" / f"{split}-s{number}.png", 90)
            if split == "test":
                picture(root / split / "fake" / "stylegan" / f"{split}-g{number}.png", 150)
    return root


def test_a_set_of_things_keeps_classes_for_the_test(things: Path) -> None:
    data = read_named(things)
    assert not data.faces and len(data.unseen) == 1 and set(data.unseen).isdisjoint(data.classes)
    assert data.words["swapped-face"] == "swapped face"
    sketch = next(item for item in data.splits["train"] if item.sketch)
    assert texts_of(data, sketch) == (f"a drawing of a {data.words[sketch.label]}.", data.words[sketch.label])
    assert data.digest() == read_named(things).digest() != read_named(things, most=1).digest()


def test_a_set_of_faces_has_families_in_words(faces: Path) -> None:
    data = read_named(faces)
    assert data.faces and data.classes == ("dfl_faceswap", GENUINE) and data.unseen == ("stylegan",)
    assert data.words["dfl_faceswap"] == "a face swapped onto another head, dfl faceswap"
    assert len(read_named(faces, most=1).splits["train"]) == 2


def test_no_two_families_have_the_same_words() -> None:
    names = ("stylegan", "stylegan3", "of-yours", GENUINE, "FF-DF", "FF-FS")
    assert len({words_of(name) for name in names}) == len(names)


def test_a_step_depends_on_its_number_alone_and_has_classes_evenly(things: Path) -> None:
    data = read_named(things)
    items = data.splits["train"]
    pixels = np.random.default_rng(0).integers(0, 256, (len(items), 16, 16, 3), np.uint8)
    split = SplitPictures(items, pixels, np.arange(len(items)))
    texts = {text for item in items for text in texts_of(data, item)}
    vectors = {text: np.full(384, number, np.float32) for number, text in enumerate(sorted(texts))}
    feed = NamedFeed(VisionLanguageConfig(batch=10, steps=10), data, split, split, vectors)
    stream = feed.batches(torch.device("cpu"), 0)
    batches = [next(stream) for _ in range(4)]
    again = next(feed.batches(torch.device("cpu"), 3))
    assert all(torch.equal(batches[3][name], again[name]) for name in again)
    assert not torch.equal(batches[0]["faces"], batches[1]["faces"])
    counts = torch.bincount(batches[0]["labels"], minlength=4)
    assert counts.min() >= 2 and counts.sum() == 10
    halves = [next(feed.batches(torch.device("cpu"), 0, rank, 2))["labels"] for rank in (0, 1)]
    assert sorted(torch.cat(halves).tolist()) == sorted(batches[0]["labels"].tolist())


@pytest.mark.parametrize("kind", ["things", "faces"])
def test_from_training_to_a_pack(
    kind: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data: Path = request.getfixturevalue(kind)
    monkeypatch.setattr("unmask.lab.prompting.sentences.sentence_encoder", tiny_text)

    def done(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["unmask", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    run, where = str(tmp_path / "run"), ["--data", str(data), "--work", str(tmp_path / "work")]
    options = ["--backbone", "test_resnet", "--weights", "none", "--size", "64", "--steps", "3", "--batch", "4"]
    assert done("train", "dual-encoder", "--run", run, *where, *options, "--workers", "1") == 0
    saved = json.loads((tmp_path / "run" / "run.json").read_text())
    assert saved["task"] == "vision_language" and saved["protocol"]["faces"] == (kind == "faces")
    assert "val_accuracy" in (tmp_path / "run" / "metrics.csv").read_text()
    assert done("evaluate", run, *where, "--json", str(tmp_path / "numbers.json")) == 0
    assert done("export", run, *where, "--out", str(tmp_path / "pack"), "--name", "mine") == 0
    assert done("evaluate", str(tmp_path / "pack"), *where, "--json", str(tmp_path / "packed.json")) == 0
    one, other = (json.loads((tmp_path / name).read_text())["metrics"] for name in ("numbers.json", "packed.json"))
    assert [m["dataset"] for m in one] == [m["dataset"] for m in other]
    assert "by chance" in capsys.readouterr().out
    pack = load_pack(tmp_path / "pack", "vision_language")
    assert pack.card.crop_margin == (1.4 if kind == "faces" else None)
    assert any("A small model" in limit for limit in pack.card.limits) and pack.card.protocol["scale"] > 1
    model = packed_model(pack)
    assert model.encode_pictures(torch.rand(3, 3, 64, 64)).shape == (3, 384)
