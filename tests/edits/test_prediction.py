"""From crops to what is said of edits, with a reader whose scores are a known function of the mean colour."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_edit_model import GAIN, band, make_reading, other_scores

from unmask.edits.labels import all_sequences, place_of
from unmask.edits.prediction import EditPrediction, EditPredictor, EditView, posterior
from unmask.errors import PackError
from unmask.evidence.report import SequenceFinding
from unmask.packs import Pack, load_pack

SIZE = 64
ROWS = [tuple(number for number in row if number) for row in all_sequences().tolist()]
NAMES = ("nose", "eye", "eyebrow", "lip", "hair")
WARM, NEUTRAL, COLD = 25, 0, -25


@pytest.fixture(scope="module")
def reader(tiny_edit_model: Path) -> EditPredictor:
    return EditPredictor(load_pack(tiny_edit_model))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many crops each run of a network was given, as they come."""
    sizes: list[int] = []
    run = Pack.run

    def counted(pack: Pack, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        sizes.append(len(pixels))
        return run(pack, pixels)

    monkeypatch.setattr(Pack, "run", counted)
    return sizes


def crop_of(warmth: int, seed: int = 0) -> np.ndarray:
    """A textured crop whose mean red is above its mean blue by `warmth` of 255."""
    texture = np.random.default_rng(seed).integers(60, 140, (SIZE, SIZE, 1), np.uint8)
    return texture + np.array([40 + warmth, 40, 40], np.uint8)


def shares_of(warmth: float, temperature: float = 1.0) -> dict[tuple[int, ...], float]:
    """The posterior of every sequence, from the reader's linear model, in Python's own numbers."""
    scores = dict(zip(ROWS, other_scores().tolist(), strict=True))
    scores[(1, 2)], scores[()] = GAIN * warmth / 255, -GAIN * warmth / 255
    weights = {edits: math.exp(score / temperature) for edits, score in scores.items()}
    total = math.fsum(weights.values())
    return {edits: weight / total for edits, weight in weights.items()}


def view_of(crop: np.ndarray, **changes: Any) -> EditView:
    view = EditView(crop, region=(100.0, 50.0, 128.0, 128.0), box=(132.0, 82.0, 60.0, 64.0), quality=80.0, turned=5.0)
    return replace(view, **changes)


def spread(seed: int, sharpness: float) -> EditPrediction:
    """A reading with a posterior drawn at random, the sharper the smaller."""
    shares = np.random.default_rng(seed).dirichlet(np.full(len(ROWS), sharpness))
    return EditPrediction(shares, np.zeros((5, 2, 2), np.float32), np.zeros((4, 4, 3), np.uint8))


random_readings = st.builds(spread, st.integers(0, 2**32 - 1), st.sampled_from([0.003, 0.1, 1.0, 100.0]))


def test_the_reader_takes_size_and_margin_and_name_from_the_card(reader: EditPredictor) -> None:
    assert (reader.name, reader.size, reader.margin, reader.reading) == ("tiny-reader", SIZE, 2.0, make_reading())


@pytest.mark.parametrize("warmth", [WARM, NEUTRAL, COLD, 3, -7])
def test_the_posterior_is_that_of_the_linear_model(reader: EditPredictor, warmth: int) -> None:
    (prediction,) = reader.predict([crop_of(warmth)])
    expected = shares_of(warmth)
    assert prediction.posterior.dtype == np.float64 and prediction.posterior.shape == (326,)
    np.testing.assert_allclose(prediction.posterior, [expected[edits] for edits in ROWS], rtol=1e-4)
    assert prediction.edited == pytest.approx(1 - expected[()], rel=1e-4)


def test_areas_and_recovered_face_come_as_the_network_gives_them(reader: EditPredictor) -> None:
    crop = crop_of(WARM)
    (prediction,) = reader.predict([crop])
    assert prediction.areas.shape == (5, SIZE // 4, SIZE // 4) and prediction.areas.dtype == np.float32
    for edit in range(1, 6):
        inside = np.zeros((SIZE // 4, SIZE // 4))
        inside[band(edit, SIZE // 4)] = 1
        assert np.array_equal(prediction.areas[edit - 1], inside)
    assert prediction.recovered.dtype == np.uint8
    assert np.array_equal(prediction.recovered, 255 - crop)


def test_areas_are_held_within_zero_and_one_and_the_recovered_face_within_its_bytes(
    reader: EditPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beyond(pack: Pack, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        areas = np.linspace(-1, 2, 20, dtype=np.float32).reshape(1, 5, 2, 2)
        return np.zeros((1, 326), np.float32), areas, np.where(pixels > 0.5, 1.5, -0.5).astype(np.float32)

    monkeypatch.setattr(Pack, "run", beyond)
    crop = crop_of(0)
    (prediction,) = reader.predict([crop])
    assert prediction.areas.min() == 0 and prediction.areas.max() == 1
    assert np.array_equal(prediction.recovered, np.where(crop > 127, 255, 0))


def test_the_size_of_the_batch_does_not_matter(reader: EditPredictor) -> None:
    crops = [crop_of(warmth, seed) for seed, warmth in enumerate((WARM, COLD, NEUTRAL, 3, -7))]
    together = reader.predict(crops)
    assert len(together) == 5
    for crop, prediction in zip(crops, together, strict=True):
        (alone,) = reader.predict([crop])
        assert np.array_equal(prediction.posterior, alone.posterior)
        assert np.array_equal(prediction.areas, alone.areas) and np.array_equal(prediction.recovered, alone.recovered)


def test_no_crops_no_predictions(reader: EditPredictor, runs: list[int]) -> None:
    assert reader.predict([]) == [] and runs == []


@pytest.mark.parametrize(
    "crop",
    [
        np.zeros((SIZE, SIZE), np.uint8),
        np.zeros((SIZE, SIZE, 4), np.uint8),
        np.zeros((SIZE, SIZE - 1, 3), np.uint8),
        np.zeros((2 * SIZE, 2 * SIZE, 3), np.uint8),
        np.zeros((3, SIZE, SIZE), np.uint8),
        np.zeros((SIZE, SIZE, 3), np.float32),
    ],
    ids=["grey", "four channels", "narrow", "large", "channels first", "float"],
)
def test_a_crop_of_another_shape_or_type_is_an_error(reader: EditPredictor, crop: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"a crop is uint8 \(64, 64, 3\), not"):
        reader.predict([crop])


def test_a_pack_that_detects_forgeries_does_not_read(tiny_pack: Path) -> None:
    with pytest.raises(PackError, match="pack 'tiny' does not read edits: give one made by `unmask export`"):
        EditPredictor(load_pack(tiny_pack))


@pytest.mark.parametrize(
    "changes",
    [
        {"reading": None},
        {"reading": make_reading(edits=NAMES[:4])},
        {"reading": make_reading(edits=(*NAMES, "chin"))},
        {"outputs": ("logit", "map")},
        {"outputs": ("scores", "recovered", "areas")},
        {"outputs": ("scores", "areas")},
        {"crop_margin": None},
        {"input_size": (64, 32)},
        {"input_size": (0, 0)},
        {"task": "forgery_detection"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_card_that_is_not_a_readers_is_refused(tiny_edit_model: Path, changes: dict[str, Any]) -> None:
    pack = load_pack(tiny_edit_model)
    with pytest.raises(PackError, match="'tiny-reader' does not read edits"):
        EditPredictor(Pack(pack.folder, replace(pack.card, **changes)))


def test_a_warm_face_is_said_to_be_edited_in_order(reader: EditPredictor, runs: list[int]) -> None:
    crop, shares = crop_of(WARM), shares_of(WARM)
    finding, pictures = reader.explain(view_of(crop))
    assert (finding.pack, finding.outcome, finding.reason) == ("tiny-reader", "edits", None)
    assert finding.edited == pytest.approx(1 - shares[()], abs=1e-4) and finding.edited >= 0.9
    assert finding.best is not None and finding.best.edits == ["nose", "eye"]
    assert finding.best.posterior == pytest.approx(shares[(1, 2)], abs=1e-4)
    assert [step.edit for step in finding.steps] == ["nose", "eye"]
    for step, (place, edit) in zip(finding.steps, [(0, 1), (1, 2)], strict=True):
        at = math.fsum(share for edits, share in shares.items() if edits[place : place + 1] == (edit,))
        made = math.fsum(share for edits, share in shares.items() if edit in edits)
        assert at < made - 1e-4  # else nothing tells them apart
        assert step.posterior == pytest.approx(at, abs=1e-4) and step.present == pytest.approx(made, abs=1e-4)
        assert step.area.region == (100.0, 50.0, 128.0, 128.0)
        rows = np.asarray(step.area.values)
        assert rows.shape == (16, 16) and rows[band(edit, 16)].min() == 1 and rows.sum() == rows[band(edit, 16)].sum()
    assert [other.edits for other in finding.alternatives] == [[], ["nose"], ["eye"], ["eyebrow"]]
    expected = [shares[edits] for edits in [(), (1,), (2,), (3,)]]
    assert [other.posterior for other in finding.alternatives] == pytest.approx(expected, abs=1e-4)
    assert len(pictures) == 3 and np.array_equal(pictures[0], crop) and np.array_equal(pictures[2], 255 - crop)
    assert runs == [1]


def test_every_step_of_a_long_sequence_has_its_own_edit_and_area(
    reader: EditPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = (5, 3, 1, 4)

    def run(pack: Pack, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        scores = np.full((1, 326), -50, np.float32)
        scores[0, place_of(edits)] = 0
        areas = np.stack([np.full((2, 2), edit / 10, np.float32) for edit in range(1, 6)])
        return scores, areas[None], pixels

    monkeypatch.setattr(Pack, "run", run)
    finding, pictures = reader.explain(view_of(crop_of(NEUTRAL)))
    assert finding.best is not None and finding.best.edits == ["hair", "eyebrow", "nose", "lip"]
    assert [step.edit for step in finding.steps] == finding.best.edits
    assert [step.area.values for step in finding.steps] == [[[edit / 10] * 2] * 2 for edit in edits]
    assert [(step.posterior, step.present) for step in finding.steps] == [(1.0, 1.0)] * 4
    assert len(pictures) == 5


def test_a_cold_face_has_no_local_edit(reader: EditPredictor) -> None:
    finding, pictures = reader.explain(view_of(crop_of(COLD)))
    shares = shares_of(COLD)
    assert (finding.pack, finding.outcome, finding.reason) == ("tiny-reader", "no_local_edit", None)
    assert finding.edited == pytest.approx(1 - shares[()], abs=1e-4) and finding.edited <= 0.1
    assert finding.best is None and finding.steps == [] and pictures == []
    assert [other.edits for other in finding.alternatives] == [[], ["nose", "eye"], ["nose"], ["eye"]]
    expected = [shares[edits] for edits in [(), (1, 2), (1,), (2,)]]
    assert [other.posterior for other in finding.alternatives] == pytest.approx(expected, abs=1e-4)


def test_of_a_neutral_face_nothing_can_be_told(reader: EditPredictor) -> None:
    finding, pictures = reader.explain(view_of(crop_of(NEUTRAL)))
    shares = shares_of(NEUTRAL)
    assert (finding.pack, finding.outcome) == ("tiny-reader", "cannot_tell")
    assert finding.reason == "The reader is undecided whether any part was edited."
    assert finding.edited == pytest.approx(1 - shares[()], abs=1e-4) and 0.1 < finding.edited < 0.9
    assert finding.best is None and finding.steps == [] and pictures == []
    assert {tuple(other.edits) for other in finding.alternatives[:2]} == {(), ("nose", "eye")}
    assert [other.edits for other in finding.alternatives[2:]] == [["nose"], ["eye"]]


@pytest.mark.parametrize(
    ("limits", "outcome"),
    [
        ({"edited_at": 0.0, "untouched_at": -1.0}, "edits"),
        ({"edited_at": 1.0, "untouched_at": 0.99}, "no_local_edit"),
        ({"edited_at": 1.0, "untouched_at": 0.0}, "cannot_tell"),
    ],
)
def test_the_cards_limits_decide_what_is_said(tiny_edit_model: Path, limits: dict[str, float], outcome: str) -> None:
    assert explained(tiny_edit_model, NEUTRAL, **limits).outcome == outcome


def explained(folder: Path, warmth: int, **limits: Any) -> SequenceFinding:
    """What a reader with other limits says of a face."""
    pack = load_pack(folder)
    assert pack.card.reading is not None
    card = replace(pack.card, reading=replace(pack.card.reading, **limits))
    return EditPredictor(Pack(pack.folder, card)).explain(view_of(crop_of(warmth)))[0]


def test_the_limits_themselves_still_count(tiny_edit_model: Path, reader: EditPredictor) -> None:
    exact = reader.predict([crop_of(NEUTRAL)])[0].edited
    assert explained(tiny_edit_model, NEUTRAL, edited_at=exact).outcome == "edits"
    assert explained(tiny_edit_model, NEUTRAL, edited_at=1.0, untouched_at=exact).outcome == "no_local_edit"


def test_edits_are_named_where_any_is_all_but_certain_though_the_untouched_face_is_the_likeliest_of_all(
    tiny_edit_model: Path,
) -> None:
    """Hot scores make all 326 about equal: a cold face is then edited at 1 - 1/326, with the untouched one in front."""
    shares = shares_of(COLD, temperature=1000)
    assert max(shares, key=shares.__getitem__) == () and 1 - shares[()] > 0.99
    finding = explained(tiny_edit_model, COLD, temperature=1000.0)
    assert finding.outcome == "edits" and finding.edited == pytest.approx(1 - shares[()], abs=1e-4)
    assert finding.best is not None
    second = max((edits for edits in shares if edits), key=shares.__getitem__)
    assert finding.best.edits == [NAMES[edit - 1] for edit in second]
    assert finding.best.posterior == pytest.approx(shares[second], abs=1e-4)
    assert [step.edit for step in finding.steps] == finding.best.edits
    assert finding.alternatives[0].edits == [] and finding.alternatives[0].posterior >= finding.best.posterior
    assert len(finding.alternatives) == 4 and finding.best not in finding.alternatives


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"box": (132.0, 82.0, 31.0, 64.0)},
            "The face is 31 pixels wide; 32 are needed to read edits.",
        ),
        ({"quality": 19.0}, "The quality of the face is 19 of 100; 20 are needed."),
        ({"turned": 41.0}, "The face is turned by 41 degrees; edits are read up to 40."),
        (
            {"region": (100.0, 50.0, 76.0, 76.0), "box": (105.0, 55.0, 60.0, 64.0)},
            "Part of the face, or too much of what is about it, lies outside the picture.",
        ),
        (
            {"box": (98.0, 82.0, 60.0, 64.0)},
            "Part of the face, or too much of what is about it, lies outside the picture.",
        ),
        (
            {"box": (132.0, 48.0, 60.0, 64.0)},
            "Part of the face, or too much of what is about it, lies outside the picture.",
        ),
        (
            {"box": (170.0, 82.0, 60.0, 64.0)},
            "Part of the face, or too much of what is about it, lies outside the picture.",
        ),
        (
            {"box": (132.0, 116.0, 60.0, 64.0)},
            "Part of the face, or too much of what is about it, lies outside the picture.",
        ),
    ],
    ids=["narrow", "poor", "turned", "cropped", "left", "top", "right", "bottom"],
)
def test_a_face_that_cannot_be_read_gets_the_reason_and_the_network_is_not_run(
    reader: EditPredictor, runs: list[int], changes: dict[str, Any], reason: str
) -> None:
    finding, pictures = reader.explain(view_of(crop_of(WARM), **changes))
    assert runs == [] and pictures == []
    assert finding.model_dump() == {
        "pack": "tiny-reader",
        "outcome": "cannot_tell",
        "reason": reason,
        "edited": None,
        "best": None,
        "steps": [],
        "alternatives": [],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"box": (132.0, 82.0, 32.0, 64.0)},
        {"quality": 20.0},
        {"turned": 40.0},
        {"region": (100.0, 50.0, 77.0, 77.0), "box": (105.0, 55.0, 60.0, 64.0)},
        {"box": (99.5, 49.5, 60.0, 64.0)},
        {"box": (168.5, 114.5, 60.0, 64.0)},
    ],
    ids=["narrow", "poor", "turned", "cropped", "left and top", "right and bottom"],
)
def test_a_face_just_within_the_limits_is_read(reader: EditPredictor, changes: dict[str, Any]) -> None:
    """A crop's corner is rounded to whole pixels: what is less than one outside is not cropped."""
    assert reader.explain(view_of(crop_of(WARM), **changes))[0].outcome == "edits"


@given(random_readings, st.integers(0, 326))
def test_the_best_come_by_falling_posterior_and_with_the_rest_they_are_certain(
    prediction: EditPrediction, count: int
) -> None:
    best = prediction.best(count)
    shares = [share for _, share in best]
    assert len(best) == count and shares == sorted(shares, reverse=True)
    named = [place_of(edits) for edits, _ in best]
    assert len(set(named)) == count and shares == prediction.posterior[named].tolist()
    rest = np.delete(prediction.posterior, named)
    assert math.fsum([*shares, *rest.tolist()]) == pytest.approx(1)
    assert not count or not len(rest) or rest.max() <= shares[-1]


def test_of_equals_the_first_in_the_table_comes_first() -> None:
    prediction = EditPrediction(np.full(326, 1 / 326), np.zeros((5, 2, 2), np.float32), np.zeros((4, 4, 3), np.uint8))
    assert [edits for edits, _ in prediction.best(326)] == ROWS


@given(random_readings)
def test_what_each_step_and_each_edit_get_is_summed_over_all_sequences(prediction: EditPrediction) -> None:
    shares = prediction.posterior.tolist()
    for edit in range(1, 6):
        made = math.fsum(share for edits, share in zip(ROWS, shares, strict=True) if edit in edits)
        assert prediction.made(edit) == pytest.approx(made, abs=1e-12)
        for step in range(5):
            at = math.fsum(
                share for edits, share in zip(ROWS, shares, strict=True) if len(edits) > step and edits[step] == edit
            )
            assert prediction.at_step(step, edit) == pytest.approx(at, abs=1e-12)
        # An edit is made at one step or at none.
        assert math.fsum(prediction.at_step(step, edit) for step in range(5)) == pytest.approx(made, abs=1e-12)


@given(random_readings)
def test_what_is_told_are_probabilities(prediction: EditPrediction) -> None:
    numbers = [prediction.edited, *(prediction.made(edit) for edit in range(1, 6))]
    numbers += [prediction.at_step(step, edit) for step in range(5) for edit in range(1, 6)]
    assert all(type(number) is float and 0 <= number <= 1 for number in numbers)
    assert prediction.edited == pytest.approx(math.fsum(prediction.posterior[1:].tolist()), abs=1e-12)
    assert max(numbers) <= prediction.edited + 1e-12


def test_sums_that_round_beyond_one_are_held_at_one() -> None:
    over = np.zeros(326)
    over[[place_of((1, 2)), place_of((1, 3))]] = 0.5, 0.5000001
    prediction = EditPrediction(over, np.zeros((5, 2, 2), np.float32), np.zeros((4, 4, 3), np.uint8))
    assert prediction.made(1) == prediction.at_step(0, 1) == prediction.edited == 1.0
    assert EditPrediction(np.eye(326)[0] * 1.0000001, prediction.areas, prediction.recovered).edited == 0.0


@pytest.mark.parametrize("edits", [(3,), (1, 2), (4, 1, 5), (5, 4, 3, 2, 1)])
def test_the_way_back_goes_from_the_crop_to_the_recovered_face_in_as_many_steps_as_there_are_edits(
    reader: EditPredictor, edits: tuple[int, ...]
) -> None:
    crop = crop_of(WARM)
    (prediction,) = reader.predict([crop])
    pictures = prediction.undone(crop, edits)
    assert len(pictures) == len(edits) + 1
    assert all(picture.dtype == np.uint8 and picture.shape == crop.shape for picture in pictures)
    assert np.array_equal(pictures[0], crop) and np.array_equal(pictures[-1], prediction.recovered)
    for count, picture in enumerate(pictures[1:-1], start=1):
        undone = edits[len(edits) - count :]
        taken, kept = np.zeros(SIZE, bool), np.ones(SIZE, bool)
        for edit in undone:
            rows = band(edit, SIZE // 4)
            # A band is three cells of four pixels; enlarged, it is soft by no more than two cells.
            taken[4 * rows.start + 4 : 4 * rows.stop - 4] = True
            kept[max(0, 4 * rows.start - 8) : 4 * rows.stop + 8] = False
        assert taken.any() and (kept.any() or count > 2)
        assert np.array_equal(picture[taken], prediction.recovered[taken])
        assert np.array_equal(picture[kept], crop[kept])


def test_each_picture_mixes_by_the_largest_area_of_the_edits_undone() -> None:
    shades = (0.6, 0.75, 0.25, 0.1, 0.0)
    areas = np.stack([np.full((2, 2), shade, np.float32) for shade in shades])
    crop, recovered = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 200, np.uint8)
    prediction = EditPrediction(np.eye(326)[0], areas, recovered)

    def greys(edits: Sequence[int]) -> list[int]:
        pictures = prediction.undone(crop, edits)
        assert all(picture.min() == picture.max() for picture in pictures)
        return [int(picture[0, 0, 0]) for picture in pictures]

    assert greys((1, 2, 3)) == [100, 125, 175, 200]
    assert greys((1, 3, 2)) == [100, 175, 175, 200]  # what was taken back stays so
    assert greys((1, 5, 4)) == [100, 110, 110, 200]
    assert greys((4, 5)) == [100, 100, 200]
    assert greys((2,)) == [100, 200]
    assert np.array_equal(crop, np.full((8, 8, 3), 100)) and np.array_equal(areas[:, 0, 0], np.float32(shades))


@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4),
    st.sampled_from([1e-3, 1.0, 1e4, 1e38]),
    st.sampled_from([0.02, 1.0, 50.0]),
)
def test_the_rows_of_a_posterior_are_certain_together_however_large_the_scores(
    seeds: list[int], scale: float, temperature: float
) -> None:
    scores = np.stack([np.random.default_rng(seed).uniform(-scale, scale, 326) for seed in seeds]).astype(np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        shares = posterior(scores, make_reading(temperature=temperature))
    assert shares.shape == scores.shape and shares.dtype == np.float64
    assert np.isfinite(shares).all() and shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert np.array_equal(shares.argmax(axis=1), scores.argmax(axis=1))


def test_a_posterior_is_the_softmax_and_a_constant_changes_nothing() -> None:
    scores = np.full((1, 326), -1e30, np.float32)
    scores[0, [0, 7, 9]] = 0, math.log(2), math.log(5)
    shares = posterior(scores, make_reading())
    assert shares[0, [0, 7, 9]] == pytest.approx([1 / 8, 2 / 8, 5 / 8]) and shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(posterior(scores + 64, make_reading())[0, [0, 7, 9]], shares[0, [0, 7, 9]], rtol=1e-5)


def test_temperature_flattens_the_posterior_and_keeps_its_order() -> None:
    scores = np.random.default_rng(3).normal(0, 4, (1, 326)).astype(np.float32)
    rows = [posterior(scores, make_reading(temperature=temperature))[0] for temperature in (0.5, 1.0, 3.0, 1e6)]
    order = np.argsort(scores[0], kind="stable")
    assert all(np.all(np.diff(row[order]) >= 0) for row in rows)
    spreads = [-float((row * np.log(np.maximum(row, 1e-300))).sum()) for row in rows]
    assert spreads == sorted(spreads) and len(set(spreads)) == 4
    np.testing.assert_allclose(rows[-1], 1 / 326, rtol=1e-4)
    # By hand: the odds of two sequences are exp of the difference of their scores over the temperature.
    odds = np.log(rows[2][5] / rows[2][6])
    assert odds == pytest.approx((float(scores[0, 5]) - float(scores[0, 6])) / 3)


def test_a_network_that_gives_no_numbers_cannot_tell(tiny_edit_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = EditPredictor(load_pack(tiny_edit_model))
    run = Pack.run
    monkeypatch.setattr(Pack, "run", lambda self, pixels: (run(self, pixels)[0] * np.nan, *run(self, pixels)[1:]))
    crop = np.full((reader.size, reader.size, 3), 128, np.uint8)
    view = EditView(crop, (0.0, 0.0, 200.0, 200.0), (50.0, 50.0, 100.0, 100.0), 90.0, 0.0)
    finding, strip = reader.explain(view)
    assert (finding.outcome, finding.reason) == ("cannot_tell", "The reader's network gave no numbers for this face.")
    assert not strip
