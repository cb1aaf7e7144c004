"""The task of sketch search: pictures, feed, and training to a pack through the commands."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from unmask.cli import main
from unmask.datasets.sketch_sets import SketchItem
from unmask.errors import DataError
from unmask.lab.search.config import SearchPaths, SearchTrainConfig
from unmask.lab.search.feed import SketchFeed, SplitPictures
from unmask.lab.search.measuring import ALL, CLUSTERED, MAIN, PLAIN, evaluation, query_values, with_answers
from unmask.lab.search.pictures import draw_strokes, read_item, varied
from unmask.lab.search.task import FEWEST_OF_CLASS, SearchTask
from unmask.lab.search.wordnet import WordNet, semantic_prior
from unmask.lab.task import Evaluation
from unmask.progress import SILENT

pytestmark = pytest.mark.lab
CLASSES = ("cat", "dog", "cow")


def split(count: int = 4, classes: tuple[str, ...] = CLASSES) -> SplitPictures:
    items = tuple(
        SketchItem(Path(f"/{kind}/{name}/{number}.png"), name, kind)
        for name in classes
        for kind in (True, False)
        for number in range(count)
    )
    rng = np.random.default_rng(0)
    return SplitPictures(items, rng.integers(0, 256, (len(items), 16, 16, 3), np.uint8), np.arange(len(items)))


def config(**changes: object) -> SearchTrainConfig:
    return replace(SearchTrainConfig(size=16, sketches=5, photos=7, classes=CLASSES, steps=10), **changes)  # type: ignore[arg-type]


def test_a_step_depends_on_its_number_alone() -> None:
    feed = SketchFeed(config(), split(), split())
    stream = feed.batches(torch.device("cpu"), 0)
    first = [next(stream) for _ in range(6)]
    again = next(feed.batches(torch.device("cpu"), 4))
    assert all(torch.equal(first[4][name], again[name]) for name in again)
    assert first[0]["photos"].tolist() == [0.0] * 5 + [1.0] * 7
    assert not torch.equal(first[0]["faces"], first[1]["faces"])


def test_an_epoch_shows_every_sketch_once() -> None:
    feed = SketchFeed(config(sketches=4), split(), split())
    stream = feed.batches(torch.device("cpu"), 0)
    labels = torch.cat([next(stream)["labels"][:4] for _ in range(3)])
    assert torch.bincount(labels).tolist() == [4, 4, 4]


def test_of_people_every_sketch_comes_with_its_photo() -> None:
    people = tuple(f"p{number}" for number in range(9))
    feed = SketchFeed(config(classes=people, people=True), split(1, people), split(1, people))
    for batch, _ in zip(feed.batches(torch.device("cpu"), 0), range(4), strict=False):
        labels = batch["labels"].tolist()
        assert set(labels[:5]) <= set(labels[5:])
        assert len(labels) == 12


@pytest.mark.parametrize(("method", "refused"), [("sketch-face", False), ("sbka", True)])
def test_a_run_of_other_classes_is_a_start_where_no_layer_is_of_them(
    tmp_path: Path, method: str, refused: bool
) -> None:
    for name in "abcdefghij":
        for kind in ("photos", "sketches"):
            (tmp_path / kind).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / kind / f"{name}.png"), np.full((20, 20, 3), 99, np.uint8))
    paths = SearchPaths(data=tmp_path, work=tmp_path / "work")
    asked = config(method=method, options={"weights": "none"}, classes=(), size=112)
    before = replace(asked, classes=("x", "y"))
    if refused:
        with pytest.raises(DataError, match="trained on other classes"):
            SearchTask().plan(paths, asked, before, SILENT)
    else:
        assert SearchTask().plan(paths, asked, before, SILENT).config.people


def test_prior_rows_are_those_of_the_labels() -> None:
    prior = np.arange(3 * 1000, dtype=np.float32).reshape(3, 1000)
    batch = next(SketchFeed(config(), split(), split(), prior).batches(torch.device("cpu"), 0))
    assert torch.equal(batch["prior"], torch.from_numpy(prior)[batch["labels"]])


def test_variation_turns_about_the_centre() -> None:
    spot = np.zeros((33, 33, 3), np.uint8)
    spot[14:19, 14:19] = 255
    for seed in range(40):
        out = varied(spot, np.random.default_rng(seed))[..., 0] > 128
        centre = np.argwhere(out).mean(0)
        assert np.abs(centre - 16).max() < 2.5  # ten of 224 pixels are one and a half of 33


def test_strokes_are_drawn_within_the_picture() -> None:
    drawn = draw_strokes([np.array([[0.0, 0.0], [1000.0, 500.0]])], 64)
    assert drawn.shape == (64, 64, 3)
    dark = np.argwhere(drawn[..., 0] < 128)
    assert dark.min() >= 1 and dark.max() <= 62 and len(dark) > 60
    assert bool((draw_strokes([]) == 255).all())


def test_items_are_read_on_white_and_broken_ones_refused(tmp_path: Path) -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    assert cv2.imwrite(str(tmp_path / "clear.png"), clear)
    assert bool((read_item(SketchItem(tmp_path / "clear.png", "a", True)) == 255).all())
    assert cv2.imwrite(str(tmp_path / "deep.png"), np.full((4, 4), 65535, np.uint16))
    assert bool((read_item(SketchItem(tmp_path / "deep.png", "a", True)) == 255).all())
    (tmp_path / "broken.png").write_bytes(b"no")
    (tmp_path / "broken.ndjson").write_text('{"drawing": 3}\n')
    for item in (
        SketchItem(tmp_path / "broken.png", "a", False),
        SketchItem(tmp_path / "broken.ndjson", "a", True, 0),
        SketchItem(tmp_path / "broken.ndjson", "a", True, 7),
    ):
        with pytest.raises(DataError):
            read_item(item)


def test_perfect_vectors_rank_perfectly_and_random_ones_do_not() -> None:
    items = split(6)
    labels = np.array([CLASSES.index(item.label) for item in items.items])
    values = query_values(np.eye(3, 8, dtype=np.float32)[labels], items)
    result = evaluation(values, "test", by_class=True)
    for condition in (PLAIN, CLUSTERED):
        metric = result.value("all", "AP interpolated", condition)
        assert metric is not None and metric.value == 1
    noise = np.random.default_rng(0).standard_normal((len(labels), 8)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    assert query_values(noise, items).values[PLAIN]["AP"].mean() < 0.7


def test_a_card_has_numbers_of_classes_with_enough_sketches() -> None:
    result, few, enough = Evaluation("test"), FEWEST_OF_CLASS - 1, FEWEST_OF_CLASS
    for name, sketches in ((ALL, few + enough), ("rare", few), ("common", enough)):
        result.add(name, MAIN, PLAIN, 0.5, None, None, np.zeros(sketches, int))
    assert [one.dataset for one in SearchTask().card_metrics(result)] == [ALL, "common"]


def test_sketches_without_a_photo_of_their_class_are_left_out() -> None:
    items = split(2)
    kept = [place for place, item in enumerate(items.items) if item.sketch or item.label != "dog"]
    part = SplitPictures(tuple(items.items[place] for place in kept), items.pixels, np.array(kept))
    left = with_answers(part)
    assert {item.label for item in left.items} == {"cat", "cow"}
    assert np.array_equal(left.take([0]), items.take([0]))


def test_wordnet_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"index\.noun"):
        WordNet(tmp_path)
    for name in ("index.noun", "data.noun"):
        (tmp_path / name).write_text("no such thing\n")
    with pytest.raises(DataError, match="not WordNet"):
        WordNet(tmp_path)


def wordnet(folder: Path) -> Path:
    """WordNet of four nouns: animal above dog, dog above terrier; and a stone. 2085374 and the like are ImageNet's."""
    lines = {
        "data.noun": "00000001 03 n 01 animal 0 000 | x\n"
        "02084071 03 n 01 dog 0 001 @ 00000001 n 0000 | x\n"
        "02085620 03 n 01 chihuahua 0 001 @ 02084071 n 0000 | x\n"
        "00000009 03 n 01 stone 0 000 | x\n",
        "index.noun": "  1 licence\ndog n 1 1 @ 1 1 02084071  \nstone n 1 0 1 0 00000009  \n",
    }
    for name, text in lines.items():
        (folder / name).write_text(text)
    return folder


def test_prior_is_one_above_and_below_and_nothing_for_strangers(tmp_path: Path) -> None:
    prior = semantic_prior(("dog", "stone", "unheard of"), WordNet(wordnet(tmp_path)))
    assert prior.shape == (3, 1000)
    assert prior[0, 151] == 1  # chihuahua is class 151 of ImageNet
    assert prior[0].sum() == 1 and prior[1:].sum() == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog", "cow", "hen")):
        for kind in ("photo", "sketch"):
            (root / kind / name).mkdir(parents=True)
            for picture in range(6):
                pixels = rng.integers(0, 60, (40, 40, 3), np.uint8) + np.uint8(40 * number)
                assert cv2.imwrite(str(root / kind / name / f"{picture}.png"), pixels)
    return root


@pytest.mark.slow
def test_from_training_to_a_pack(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def done(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["unmask", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    run, work = str(tmp_path / "run"), str(tmp_path / "work")
    where = ["--data", str(data), "--work", work]
    options = ["--set", "backbone=mobilenetv3_small_050", "--set", "weights=none", "--size", "64", "--steps", "3"]
    trained = ["train", "sbka", "--run", run, *where, *options, "--unseen", "hen", "--sketches", "4", "--photos", "6"]
    assert done(*trained) == 0
    saved = json.loads((tmp_path / "run" / "run.json").read_text())
    assert saved["task"] == "sketch_search" and saved["protocol"]["tested"] == ["hen"]
    assert done("evaluate", run, *where, "--json", str(tmp_path / "numbers.json")) == 0
    assert done("export", run, *where, "--out", str(tmp_path / "pack"), "--name", "mine") == 0
    capsys.readouterr()
    assert done("evaluate", str(tmp_path / "pack"), *where, "--json", str(tmp_path / "packed.json")) == 0
    one, other = (json.loads((tmp_path / name).read_text())["metrics"] for name in ("numbers.json", "packed.json"))
    assert [m["name"] for m in one] == [m["name"] for m in other]
    assert "with clusters of the gallery" in capsys.readouterr().out
    card = json.loads((tmp_path / "pack" / "card.json").read_text())
    assert card["crop_margin"] is None and card["outputs"] == ["embedding"]
