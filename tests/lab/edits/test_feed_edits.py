"""What networks that read edits are trained on, and what they predict of faces: faces and scores made by hand."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from edited_faces import edited_faces, scores
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from unmask.edits.labels import all_sequences, place_of
from unmask.edits.mmnet import MMNet
from unmask.edits.model import BATCH, ColourJitter, EditSequenceModel
from unmask.edits.seqfakeformer import SeqFakeFormer
from unmask.lab.edits import feed as feed_module
from unmask.lab.edits.config import EditTrainConfig
from unmask.lab.edits.edited_faces import CELLS, NOT_KNOWN, PER_EDIT, UNION, EditedFaces
from unmask.lab.edits.feed import EditFeed, decoded, faces_between, predict
from unmask.lab.edits.task import EditPrepared, EditTask
from unmask.progress import SILENT

pytestmark = pytest.mark.lab
CPU = torch.device("cpu")
SIDE, COUNT = 64, 10
CONFIG = EditTrainConfig(size=SIDE, steps=8, batch=4, seed=5)


def sequences(count: int = COUNT) -> list[list[int]]:
    """Each another one: a batch says by them which faces it holds."""
    rows: list[list[int]] = all_sequences()[np.arange(count) * 31].tolist()
    return rows


def smooth(count: int = COUNT, low: int = 90, high: int = 150) -> np.ndarray:
    """Faces of middling greys, which no variation drives to black or white, brighter from left to right."""
    rng = np.random.default_rng(0)
    ground = np.linspace(low, high - 10, SIDE)[None, None, :, None] + rng.uniform(0, 10, (count, SIDE, SIDE, 3))
    return ground.astype(np.uint8)


def take(faces: EditedFaces, config: EditTrainConfig, count: int, first: int = 0, **share: int) -> list[Any]:
    return list(islice(EditFeed(faces, config).batches(CPU, first, **share), count))


def rows_of(batch: dict[str, Tensor], faces: EditedFaces) -> list[int]:
    """Which faces a batch holds."""
    return [faces.sequences.tolist().index(row) for row in batch["sequences"].tolist()]


def test_a_batch_holds_what_a_network_learns_from() -> None:
    feed = EditFeed(edited_faces(smooth(), sequences()), CONFIG)
    batch = next(feed.batches(CPU, 0))
    assert batch.keys() == set(BATCH) and feed.count == 4 and feed.unit == "faces"
    shapes = {
        "faces": (4, 3, SIDE, SIDE),
        "sequences": (4, 5),
        "masks": (4, 5, CELLS, CELLS),
        "unions": (4, 1, CELLS, CELLS),
        "originals": (4, 3, SIDE, SIDE),
        "paired": (4,),
        "progress": (),
    }
    assert {name: tuple(value.shape) for name, value in batch.items()} == shapes
    assert batch["sequences"].dtype == torch.int64
    assert all(value.dtype == torch.float32 for name, value in batch.items() if name != "sequences")


@pytest.mark.parametrize("encoded", [0.0, 0.5])
def test_batches_depend_on_seed_and_step_alone(encoded: float) -> None:
    faces, config = edited_faces(smooth(), sequences()), replace(CONFIG, encoded=encoded)
    straight = take(faces, config, 9)
    for first in (1, 6):  # within an epoch of two steps, and at the start of one
        for one, two in zip(straight[first:], take(faces, config, 9 - first, first), strict=True):
            assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    other = take(faces, replace(config, seed=6), 9)
    assert any(rows_of(one, faces) != rows_of(two, faces) for one, two in zip(straight, other, strict=True))


def test_the_same_faces_are_varied_otherwise_at_another_step_and_by_another_seed() -> None:
    faces, config = edited_faces(smooth(), sequences()), replace(CONFIG, batch=COUNT)
    (one, later), (other,) = take(faces, config, 2), take(faces, replace(config, seed=6), 1)
    for batch in (later, other):
        assert torch.equal(batch["sequences"], one["sequences"])
        assert (batch["faces"] != one["faces"]).flatten(1).any(1).all()


def test_batches_say_how_far_training_is() -> None:
    done = [float(batch["progress"]) for batch in take(edited_faces(smooth(), sequences()), CONFIG, 11)]
    assert done == [min(1.0, step / 8) for step in range(11)]


def test_an_epoch_shows_no_face_twice_and_leaves_out_what_fills_no_step() -> None:
    faces = edited_faces(smooth(), sequences())
    batches = take(faces, CONFIG, 40)
    epochs = [rows_of(one, faces) + rows_of(two, faces) for one, two in zip(batches[::2], batches[1::2], strict=True)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert {row for epoch in epochs for row in epoch} == set(range(COUNT))
    assert len({tuple(epoch) for epoch in epochs}) > 10


def test_fewer_faces_than_a_step_asks_for_are_all_shown_at_every_step() -> None:
    faces = edited_faces(smooth(3), sequences(3))
    assert [sorted(rows_of(batch, faces)) for batch in take(faces, CONFIG, 3)] == [[0, 1, 2]] * 3


def test_processes_share_a_step() -> None:
    faces = edited_faces(smooth(), sequences())
    whole = take(faces, CONFIG, 6)
    shares = [take(faces, CONFIG, 6, rank=rank, world=2) for rank in range(2)]
    for one, *parts in zip(whole, *shares, strict=True):
        held = [rows_of(part, faces) for part in parts]
        assert sorted(held[0] + held[1]) == sorted(rows_of(one, faces)) and len(held[0]) == len(held[1]) == 2


ONE, TWO, LONG = [[1, 0, 0, 0, 0], [2, 0, 0, 0, 0]], [[3, 1, 0, 0, 0]], [[1, 2, 3, 4, 5]]


@pytest.mark.slow
def test_faces_between_the_steps_stand_in_for_those_with_as_many_edits() -> None:
    """All with so many edits are shown equally often, and every length as often as without them."""
    faces = edited_faces(smooth(4), [[0] * 5, *ONE, *LONG])
    between = edited_faces(smooth(4), [[3, 0, 0, 0, 0], [4, 0, 0, 0, 0], [5, 0, 0, 0, 0], *TWO])
    feed = EditFeed(faces, replace(CONFIG, batch=4), between)
    batches = list(islice(feed.batches(CPU, 0), 1000))
    shown = [tuple(row) for batch in batches for row in batch["sequences"].tolist()]
    assert all(sorted((batch["sequences"] > 0).sum(1).tolist()) == [0, 1, 1, 5] for batch in batches)
    single = [row[0] for row in shown if row[0] and not row[1]]
    assert all(abs(single.count(number) / 2000 - 0.2) < 0.035 for number in range(1, 6))
    again = next(feed.batches(CPU, 7))
    assert all(torch.equal(again[name], batches[7][name]) for name in again)


def test_a_face_between_the_steps_comes_with_its_own_original_and_masks() -> None:
    faces = edited_faces(smooth(1), ONE[:1], states=[NOT_KNOWN], paired=[False])
    masks = np.zeros((40, 5, CELLS, CELLS), np.uint8)
    masks[:, 1, :, :] = 255
    bright = np.full((40, SIDE, SIDE, 3), 160, np.uint8)
    between = edited_faces(bright, [[2, 0, 0, 0, 0]] * 40, originals=bright - 80, masks=masks)
    batches = islice(EditFeed(faces, replace(CONFIG, batch=1), between).batches(CPU, 0), 20)
    replaced = [batch for batch in batches if batch["sequences"][0, 0] == 2]
    assert len(replaced) > 10
    for batch in replaced:
        assert batch["paired"].item() == 1 and (batch["masks"][0, 1] == 1).all() and (batch["masks"][0, 0] == 0).all()
        assert 0.2 < float((batch["faces"] - batch["originals"]).mean()) < 0.4
    assert (faces.stored.faces == smooth(1)).all()


def test_no_face_between_the_steps_shows_a_sequence_that_was_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def load(rows: Any, *_: Any) -> EditedFaces:
        asked.extend(row.sequence for row in rows)
        return edited_faces(smooth(2), [[1, 0, 0, 0, 0], [1, 2, 0, 0, 0]])

    monkeypatch.setattr(feed_module, "load_edited_faces", load)
    faces = edited_faces(smooth(2), [[1, 2, 3, 0, 0], [1, 0, 0, 0, 0]])
    known = tuple(place_of(row) for row in faces.sequences.tolist())
    assert faces_between(faces, tmp_path, CONFIG, 1, SILENT) is None and not asked
    stepped = replace(faces, samples=tuple(replace(row, steps="s") for row in faces.samples))
    between = faces_between(stepped, tmp_path, replace(CONFIG, known=known), 1, SILENT)
    assert asked == ["nose", "nose-eye"]
    assert between is not None and between.sequences.tolist() == [[1, 0, 0, 0, 0]]


def test_colours_are_jittered_as_torchvision_does() -> None:
    """Brightness, contrast and saturation one after the other, in an order and by factors of each face's own."""
    ranges = ColourJitter(brightness=(0.5, 1.3), contrast=(0.8, 1.5), saturation=(0.2, 1.5))
    made = edited_faces(
        np.random.default_rng(0).integers(90, 150, (COUNT, SIDE, SIDE, 3)).astype(np.uint8), sequences()
    )
    feed = EditFeed(made, CONFIG, jitter=ranges)
    batches = list(islice(feed.batches(CPU, 0), 12))
    assert all(
        torch.equal(one["faces"], other["faces"])
        for one, other in zip(batches, islice(feed.batches(CPU, 0), 12), strict=True)
    )
    means, spreads, colours = [], [], []
    for batch in batches:
        for row, face in zip(rows_of(batch, made), batch["faces"], strict=True):
            raw = torch.from_numpy(made.take(np.array([row])).faces[0]).permute(2, 0, 1) / 255
            assert face.min() >= 0 and face.max() <= 1
            grey, own_grey = (transforms.rgb_to_grayscale(one) for one in (raw, face))
            means.append(float(own_grey.mean() / grey.mean()))
            spreads.append(float(own_grey.std() / grey.std()) / means[-1])
            # Brightness and contrast scale what is not grey as they scale the grey's spread; saturation it alone.
            colours.append(float((face - own_grey).std() / (raw - grey).std() / (own_grey.std() / grey.std())))
    for values, low, high in ((means, 0.5, 1.3), (spreads, 0.8, 1.5), (colours, 0.2, 1.5)):
        assert low - 0.02 <= min(values) < low + 0.25 * (high - low)
        assert high - 0.25 * (high - low) < max(values) <= high + 0.02


@pytest.mark.parametrize("kind", [SeqFakeFormer, MMNet])
def test_a_methods_task_varies_colours_as_the_method_does(kind: type[EditSequenceModel]) -> None:
    made = edited_faces(smooth(), sequences())
    config = replace(CONFIG, method="seqfakeformer" if kind is SeqFakeFormer else "mmnet")
    feed = EditTask().feed(EditPrepared(config, made, None, made))
    assert feed.jitter == kind.colour_jitter and (feed.jitter is None) == (kind is MMNet)


def test_a_face_and_its_original_are_varied_alike() -> None:
    """An original brighter by 20 everywhere but in a corner stays so, by one and the same gain and mirrored alike."""
    faces, added = smooth(), np.full((SIDE, SIDE, 3), 20)
    added[:8, :8] = 0
    made = edited_faces(faces, sequences(), faces + added.astype(np.uint8))
    gains, sides = [], []
    for batch in take(made, CONFIG, 12):
        for row, face, original in zip(rows_of(batch, made), batch["faces"], batch["originals"], strict=True):
            apart = original - face
            brightest = float(apart.max()) / (20 / 255)
            gains.append(brightest)
            turned = bool(apart[0, 0, 0] > 1e-3)  # the corner is on the other side
            sides.append(turned)
            expected = torch.from_numpy(added / 255).permute(2, 0, 1).float() * brightest
            torch.testing.assert_close(apart, expected.flip(2) if turned else expected, rtol=0, atol=1e-5)
            raw = torch.from_numpy(faces[row]).permute(2, 0, 1) / 255
            shift = face - 0.5 - ((raw.flip(2) if turned else raw) - 0.5) * brightest
            assert shift.std() < 1e-5 and shift.abs().max() < 0.0801
    assert 0.85 <= min(gains) < 0.9 and 1.1 < max(gains) <= 1.1501
    assert 0.3 < np.mean(sides) < 0.7


def test_a_face_that_is_its_own_original_stays_so() -> None:
    rng = np.random.default_rng(1)
    faces = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)  # up to black and white
    for batch in take(edited_faces(faces, sequences()), CONFIG, 6):
        assert torch.equal(batch["faces"], batch["originals"])
        assert batch["faces"].min() >= 0 and batch["faces"].max() <= 1


def test_masks_are_mirrored_with_their_faces() -> None:
    """Each edit's mask is white in a cell of its own, where the face's pixel is marked."""
    faces, masks = np.full((COUNT, SIDE, SIDE, 3), 100, np.uint8), np.zeros((COUNT, 5, CELLS, CELLS), np.uint8)
    for edit in range(5):
        faces[:, 10 * edit + 3, 5 * edit + 2, 0] = 130
        masks[:, edit, 10 * edit + 3, 5 * edit + 2] = 255
    sides = set()
    for batch in take(edited_faces(faces, sequences(), masks=masks), CONFIG, 8):
        marked = batch["faces"][:, 0] - batch["faces"][:, 1] > 0.05
        assert marked.flatten(1).sum(1).tolist() == [5] * 4
        assert torch.equal(batch["masks"].sum(1), marked.float())
        assert torch.equal(batch["unions"][:, 0], marked.float())
        for edit in range(5):
            sides |= {tuple(place) for place in batch["masks"][:, edit].nonzero()[:, 1:].tolist()}
    assert sides == {(10 * edit + 3, place) for edit in range(5) for place in (5 * edit + 2, 61 - 5 * edit)}


def test_encoding_changes_faces_and_not_their_originals() -> None:
    rng = np.random.default_rng(1)
    made = edited_faces(rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8), sequences())
    before = made.stored.faces.copy()
    for plain, encoded in zip(take(made, CONFIG, 4), take(made, replace(CONFIG, encoded=1.0), 4), strict=True):
        assert rows_of(plain, made) == rows_of(encoded, made)
        assert (encoded["faces"] != encoded["originals"]).flatten(1).any(1).all()
        assert torch.equal(plain["masks"], encoded["masks"])
    assert (made.stored.faces == before).all()


def test_encoded_faces_stay_like_their_originals_which_are_as_they_were() -> None:
    made = edited_faces(smooth(), sequences())
    for batch in take(made, replace(CONFIG, encoded=1.0), 4):
        apart = (batch["faces"] - batch["originals"]).abs()
        assert 0 < apart.mean() < 0.05
        for row, original in zip(rows_of(batch, made), batch["originals"], strict=True):
            raw = torch.from_numpy(made.stored.originals[row]).permute(2, 0, 1).double() / 255
            fits = []
            for side in (raw, raw.flip(2)):
                x, y = side.flatten() - side.mean(), original.double().flatten() - original.double().mean()
                fits.append(float((x @ y) / (x.norm() * y.norm())))
            assert max(fits) == pytest.approx(1, abs=1e-6)  # gain, shift and mirroring, and nothing else


def test_a_share_of_the_faces_is_encoded() -> None:
    rng = np.random.default_rng(1)
    made = edited_faces(rng.integers(60, 190, (COUNT, SIDE, SIDE, 3), np.uint8), sequences())
    batches = take(made, replace(CONFIG, encoded=0.25), 40)
    hit = torch.cat([(batch["faces"] != batch["originals"]).flatten(1).any(1) for batch in batches]).float()
    assert 0.15 < hit.mean() < 0.35


def test_what_is_not_known_of_masks_is_marked() -> None:
    """Nothing known: neither masks nor union. The union alone: no masks. Each edit's: both."""
    states = [NOT_KNOWN, UNION, PER_EDIT]
    masks = np.zeros((3, 5, CELLS, CELLS), np.uint8)
    masks[:, 1, :4], masks[:, 3, 8:10] = 255, 51
    made = edited_faces(smooth(3), sequences(3), masks=masks, states=states)
    for batch in take(made, replace(CONFIG, batch=3), 3):
        places = {states[row]: place for place, row in enumerate(rows_of(batch, made))}
        known = torch.from_numpy(masks[0]).float() / 255
        for state in (NOT_KNOWN, UNION):
            assert (batch["masks"][places[state]] == -1).all()
        assert torch.equal(batch["masks"][places[PER_EDIT]], known)
        assert (batch["unions"][places[NOT_KNOWN]] == -1).all()
        for state in (UNION, PER_EDIT):
            assert torch.equal(batch["unions"][places[state]][0], known.amax(0))


def test_a_batch_says_whose_original_is_known() -> None:
    paired = [row % 3 == 0 for row in range(COUNT)]
    made = edited_faces(smooth(), sequences(), paired=paired)
    for batch in take(made, CONFIG, 4):
        assert batch["paired"].tolist() == [float(paired[row]) for row in rows_of(batch, made)]


def test_nothing_is_held_back_for_the_end() -> None:
    feed = EditFeed(edited_faces(smooth(), sequences()), CONFIG)
    assert list(feed.validation_batches(CPU)) == []


def test_the_best_sequence_is_read_off_the_scores() -> None:
    best = decoded(scores((0,), (325,), (17, 3)))
    assert best.dtype == np.uint8 and (best == all_sequences()[[0, 325, 17]]).all()


def test_only_known_sequences_are_read_if_they_are_named() -> None:
    best = decoded(scores((17, 3, 200), (200, 17), (3, 17)), known=(3, 200))
    assert (best == all_sequences()[[3, 200, 3]]).all()
    assert (decoded(scores((5,), (9,)), known=(42,)) == all_sequences()[[42, 42]]).all()


def test_known_sequences_need_no_order() -> None:
    assert (decoded(scores((17, 3, 200)), known=(200, 3)) == all_sequences()[[3]]).all()


def test_all_sequences_named_are_as_none_named() -> None:
    drawn = np.random.default_rng(0).normal(size=(50, 326)).astype(np.float32)
    assert (decoded(drawn, tuple(range(326))) == decoded(drawn)).all()


def network_of(kind: str) -> EditSequenceModel:
    torch.manual_seed(2)
    if kind == "seqfakeformer":
        return SeqFakeFormer().eval()
    return MMNet(masks=kind != "mmnet-without-masks", recovery=kind != "mmnet-without-recovery").eval()


@pytest.mark.parametrize("kind", ["seqfakeformer", "mmnet", "mmnet-without-masks", "mmnet-without-recovery"])
def test_faces_are_read_together_as_one_at_a_time(kind: str) -> None:
    network, crops = network_of(kind), np.random.default_rng(3).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)
    together = predict(network, crops, CPU)
    for batch in (1, 2):
        apart = predict(network, crops, CPU, batch)
        np.testing.assert_allclose(together.scores, apart.scores, rtol=1e-5, atol=1e-4)
        assert (together.greedy == apart.greedy).all()
        for one, other, step in ((together.areas, apart.areas, 1e-4), (together.recovered, apart.recovered, 1)):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert one.dtype == other.dtype and np.abs(one.astype(float) - other).max() <= step


@pytest.mark.parametrize("kind", ["seqfakeformer", "mmnet", "mmnet-without-masks", "mmnet-without-recovery"])
def test_predictions_are_what_the_network_gives(kind: str) -> None:
    network, crops = network_of(kind), np.random.default_rng(3).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    predicted = predict(network, crops, CPU)
    with torch.no_grad():
        faces = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
        output, greedy = network(faces), network.greedy(faces)
    assert predicted.scores.dtype == np.float32 and (predicted.scores == output.scores.numpy()).all()
    assert predicted.greedy.dtype == np.uint8 and (predicted.greedy == greedy.numpy()).all()
    assert (predicted.areas is None) == (kind in ("seqfakeformer", "mmnet-without-masks"))
    assert (predicted.recovered is None) == (kind in ("seqfakeformer", "mmnet-without-recovery"))
    if predicted.areas is not None:
        assert predicted.areas.dtype == np.float32
        np.testing.assert_allclose(predicted.areas, output.areas.sigmoid().numpy(), atol=1e-6)
    if predicted.recovered is not None:
        assert predicted.recovered.dtype == np.uint8 and predicted.recovered.shape == crops.shape
        rounded = np.rint(output.recovered.permute(0, 2, 3, 1).numpy() * 255)
        assert np.abs(predicted.recovered - rounded).max() <= 1  # halves go either way
