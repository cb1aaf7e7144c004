import json
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_faces import make_picture
from progress_log import ProgressLog

from unmask.datasets.layouts import read_layout
from unmask.errors import DataError
from unmask.forging.seq_deepfake_writer import EditSet, held_out_orders
from unmask.forging.style_edit_set import GROUPS, TRACK, LayeredGenerator, edited_styles, forge_style_edits
from unmask.media.synthetic_mark import band_height, read_mark
from unmask.packs.assets import MOBILE_STYLEGAN, cache_folder

SIZE, COUNT, HELD_OUT = 64, 40, 0.5


class Stub:
    """A drawn face on which each group of layers sets the brightness of a stripe of its own."""

    layers = 23

    def style(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-1, 1, 512).astype(np.float32)

    def draw(self, styles: np.ndarray, size: int) -> np.ndarray:
        picture = make_picture(size, 5).astype(np.int16)
        stripes = np.linspace(0, size, len(GROUPS) + 1).astype(int)
        for (low, high), top, bottom in zip(GROUPS, stripes[:-1], stripes[1:], strict=True):
            picture[top:bottom] += int(90 * np.sign(styles[low:high, 0].mean()) + 60 * styles[low, 1])
        return np.clip(picture, 0, 255).astype(np.uint8)


def forge(out: Path, **options: Any) -> EditSet:
    usual = {"count": COUNT, "seed": 3, "size": SIZE, "tools": "classical", "held_out": HELD_OUT}
    return forge_style_edits(out, generator=Stub(), **{**usual, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> EditSet:
    return forge(tmp_path_factory.mktemp("drift") / "set")


def records(made: EditSet) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (made.folder.parent / "record.jsonl").read_text().splitlines()]


def read(path: str) -> np.ndarray:
    pixels = cv2.imread(path, cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels[band_height(SIZE) :]


def test_the_layouts_reader_reads_the_set_back_and_takes_no_face_for_real(made: EditSet) -> None:
    samples = read_layout(made.folder.parent)
    assert len(samples) == COUNT == sum(sum(lengths.values()) for lengths in made.lengths.values())
    assert {(sample.label, sample.family) for sample in samples} == {(1, "mobilestylegan")}
    named = {Path(row["path"]).stem: row for row in records(made)}
    for sample in samples:
        row = named[Path(sample.path).stem]
        assert [name for name in sample.sequence.split("-") if name] == [edit["part"] for edit in row["edits"]]
        assert bool(sample.steps) == bool(sample.mask) == bool(sample.sequence) and sample.original
        assert sample.split == row["split"]


def test_every_edit_comes_first_somewhere(made: EditSet) -> None:
    first = {row["edits"][0]["part"] for row in records(made) if row["edits"]}
    assert first == set(TRACK.edits)


def test_each_step_changes_what_its_group_of_layers_draws(made: EditSet) -> None:
    """The stub's stripes: only there is a step's mask high."""
    stripes = np.linspace(0, SIZE, len(GROUPS) + 1).astype(int)
    marked = 0
    for sample in read_layout(made.folder.parent):
        for step, name in enumerate(filter(None, sample.sequence.split("-")), start=1):
            mask = read(str(Path(sample.steps) / f"{step}-mask.png"))[..., 0]
            place = TRACK.edits.index(name)
            inside = np.zeros(SIZE, bool)
            inside[max(0, stripes[place] - 3) : stripes[place + 1] + 3] = True
            assert mask[~inside].max(initial=0) < 128
            marked += int(mask[inside].max() > 200)
    assert marked > 20


def test_all_pictures_are_marked_as_synthetic(made: EditSet) -> None:
    for sample in read_layout(made.folder.parent):
        for path in (sample.path, sample.original):
            assert read_mark(Path(path).read_bytes()) == "trainedAlgorithmicMedia"


def test_held_out_orders_are_in_the_test_split_alone(made: EditSet) -> None:
    held = held_out_orders(HELD_OUT, 3)
    for row in records(made):
        assert row["held_out"] == (tuple(row["label"]) in held)
        assert not row["held_out"] or row["split"] == "test"


def test_the_same_order_again_changes_nothing_and_another_is_refused(tmp_path: Path) -> None:
    forge(tmp_path / "set", count=4)
    before = {path: path.read_bytes() for path in (tmp_path / "set").rglob("*.png")}
    forge(tmp_path / "set", count=4)
    assert {path: path.read_bytes() for path in (tmp_path / "set").rglob("*.png")} == before
    with pytest.raises(DataError, match="holds a set made with count 4, not 5"):
        forge(tmp_path / "set", count=5)


def test_an_interrupted_set_is_listed_as_far_as_it_goes_and_can_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ProgressLog()
    whole = forge(tmp_path / "whole", count=8, progress=log)
    log.check_bars_end()

    def interrupt(_: str, done: int) -> None:
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        forge(tmp_path / "set", count=8, progress=ProgressLog(interrupt))
    assert 0 < len(read_layout(tmp_path / "set")) < 8
    forge(tmp_path / "set", count=8)
    for path in whole.folder.rglob("*.png"):
        assert (tmp_path / "set" / TRACK.name / path.relative_to(whole.folder)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"count": 0}, "count 0: give one or more"),
        ({"seed": -1}, "seed -1: give a seed of 0 or more"),
        ({"size": 100}, "give a multiple of 16 from 64 to 1024"),
        ({"tools": "all"}, "tools 'all': give one of both, autoencoder, classical, none"),
        ({"held_out": 0.95}, "a share from 0 to 0.9"),
        ({"tools": "both"}, "needs the TAEF2 weights .* or take --tools classical"),
    ],
)
def test_wrong_orders_name_the_remedy_and_make_nothing(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        forge(tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


@pytest.mark.slow
@pytest.mark.lab
def test_the_generator_draws_from_a_style_for_each_layer() -> None:
    """The same style in all layers draws one face; another style in the last group keeps it and changes its colours."""
    kept = (cache_folder() / f"{one.package}-{one.version}" / Path(one.member).name for one in MOBILE_STYLEGAN)
    if not all(path.is_file() for path in kept):
        pytest.skip("the generator is not in the cache")
    generator = LayeredGenerator()
    assert generator.layers == 23
    rng = np.random.default_rng(0)
    own, other = generator.style(rng), generator.style(rng)
    styles = np.repeat(own[None], generator.layers, axis=0)
    face = generator.draw(styles, 96)
    assert face.shape == (96, 96, 3) and np.array_equal(face, generator.draw(styles, 96))
    late, early = styles.copy(), styles.copy()
    late[13:], early[:6] = other, other
    edges = [cv2.Canny(generator.draw(some, 96), 60, 140) > 0 for some in (styles, late, early)]
    near = cv2.dilate(edges[0].astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert near[edges[1]].mean() > near[edges[2]].mean()


def test_an_edit_moves_the_styles_of_its_groups_alone() -> None:
    for seed in range(20):
        before, after, edits = edited_styles(np.random.default_rng(seed), Stub())  # type: ignore[arg-type]
        again = edited_styles(np.random.default_rng(seed), Stub())  # type: ignore[arg-type]
        assert np.array_equal(after, again[1]) and edits == again[2]
        assert before.shape == after.shape == (Stub.layers, 512) and (before == before[0]).all()
        assert 1 <= len(edits) <= 3 and all(0 < drift < 1 for drift in edits.values())
        for name, (low, high) in zip(TRACK.edits, GROUPS, strict=True):
            assert (before[low:high] != after[low:high]).any() == (name in edits)
