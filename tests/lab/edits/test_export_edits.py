"""From a run to a pack that reads edits: the limits of what is said, the pack of a tiny reader, and what is refused."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from edited_portraits import write_edited
from fake_faces import make_face, make_faces
from reader_runs import SMALL, write_run
from rich.console import Console

from unmask.datasets.face_store import StoredFace
from unmask.datasets.layouts import read_layout
from unmask.datasets.manifest import manifest_sha256
from unmask.edits.labels import LONGEST, TRACKS, all_sequences, place_of
from unmask.edits.model import EditSequenceModel
from unmask.edits.prediction import OUTPUTS, EditPredictor, posterior
from unmask.errors import DataError, PackError
from unmask.lab.edits import export as sequence_shipping
from unmask.lab.edits.checks import check_others, check_own, other_faces, others_table, own_table
from unmask.lab.edits.evaluate import evaluate, identity_likeness, predict_split, reader_table
from unmask.lab.edits.export import fit_edit_calibration, reader_parity, ship_reader
from unmask.lab.edits.train import load_network, predict, load_edited_faces, train_reader
from unmask.lab.run import Run, EditTrainConfig, data_of, versions
from unmask.packs import Pack, load_pack
from unmask.packs.card import Card, EditCalibration

pytestmark = pytest.mark.lab

QUIET = Console(quiet=True)
EDITS = TRACKS["facial_components"].edits
FALSE = MISSED = 0.05
"""At most so many, as the card promises."""
FINEST = 1e-6
"""How exactly the limits are told."""


# The limits of what is said


def drawn(count: int, seed: int, about: float, spread: float = 2.0) -> np.ndarray:
    """Scores (N, 326) by which faces were edited in one of two ways, with log-odds about so much, or were not."""
    rng = np.random.default_rng(seed)
    found = np.full((count, len(all_sequences())), -1e4)
    found[:, 0] = -rng.normal(about, spread, count)
    found[:, 1], found[:, 2] = 0, rng.normal(0, 2, count)
    return found


def truths(scores: np.ndarray, seed: int) -> list[int]:
    """Places drawn as the scores of edited faces say, at a temperature of one."""
    own = scores[:, 1:3] + np.random.default_rng(seed).gumbel(size=(len(scores), 2))
    return [int(place) for place in own.argmax(axis=1) + 1]


def edited(scores: np.ndarray, reading: EditCalibration) -> np.ndarray:
    """The posterior probability of any edit, as an inspection takes it."""
    return 1 - posterior(scores, reading)[:, 0]


def told_by(scores: np.ndarray, truth: Sequence[int], temperature: float) -> float:
    """Log loss at a temperature."""
    sharp = scores / temperature
    sharp = sharp - sharp.max(axis=1, keepdims=True)
    own = sharp[np.arange(len(truth)), list(truth)]
    return float((np.log(np.exp(sharp).sum(axis=1)) - own).mean())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_that_of_the_scores(temperature: float) -> None:
    """Truths are drawn from a posterior whose scores are then sharpened or blurred: undoing that costs least."""
    rng = np.random.default_rng(0)
    own = rng.normal(0, 2, (3000, 326))
    truth = (own + rng.gumbel(size=own.shape)).argmax(axis=1)
    truth[:2] = 0, 5
    found = fit_edit_calibration(temperature * own, truth.tolist(), {}, EDITS, "here").temperature
    assert found == pytest.approx(temperature, rel=0.05)
    costs = [told_by(temperature * own, truth.tolist(), found * factor) for factor in (0.97, 1.0, 1.03)]
    assert costs[1] < min(costs[0], costs[2])


KINDS: dict[str, dict[str, tuple[int, float]]] = {  # how many faces, and about which log-odds of an edit
    "few": {"authentic a": (7, 0.0)},
    "some": {"authentic a": (30, -1.0), "synthetic b": (10, 1.0)},
    "many": {"authentic a": (150, -2.0), "synthetic b": (150, 0.5), "synthetic c": (41, -3.0)},
    "wrong": {"authentic a": (30, -2.0), "synthetic b": (30, 10.0)},
    "none": {},
}


@dataclass(frozen=True)
class Fitted:
    """A reading, and the scores that it was fitted on by what the faces are."""

    reading: EditCalibration
    without: dict[str, np.ndarray]
    edited: np.ndarray


@pytest.fixture(params=KINDS, scope="module")
def fitted(request: pytest.FixtureRequest) -> Fitted:
    """Faces of the set, untouched ones first, and others; all scores differ."""
    kinds = {name: drawn(count, 5 + n, about) for n, (name, (count, about)) in enumerate(KINDS[request.param].items())}
    untouched, changed = drawn(23, 1, -3), drawn(77, 2, 2)
    reading = fit_edit_calibration(
        np.concatenate([untouched, changed]), [0] * 23 + truths(changed, 3), kinds, EDITS, "here"
    )
    return Fitted(reading, {**kinds, "of the set": untouched}, changed)


def test_of_no_kind_of_face_without_an_edit_are_edits_named_too_often(fitted: Fitted) -> None:
    for scores in fitted.without.values():
        assert (edited(scores, fitted.reading) >= fitted.reading.edited_at).mean() <= FALSE


def test_edits_are_named_as_soon_as_no_kind_forbids_it(fitted: Fitted) -> None:
    lower = fitted.reading.edited_at - 2 * FINEST
    shares = [(edited(scores, fitted.reading) >= lower).mean() for scores in fitted.without.values()]
    assert max(shares) > FALSE


def test_of_few_edited_faces_is_it_said_that_they_were_not(fitted: Fitted) -> None:
    shares = edited(fitted.edited, fitted.reading)
    assert (shares <= fitted.reading.untouched_at).mean() <= MISSED
    higher = fitted.reading.untouched_at + 2 * FINEST
    assert higher > fitted.reading.edited_at or (shares <= higher).mean() > MISSED


def test_the_limits_fit_on_a_card(fitted: Fitted) -> None:
    fitted.reading.check("any")
    assert 0 <= fitted.reading.untouched_at <= fitted.reading.edited_at <= 1
    assert fitted.reading.edits == EDITS and fitted.reading.data == "here"
    assert "5%" in fitted.reading.method and "temperature" in fitted.reading.method


def test_the_limits_of_a_reader_that_takes_every_face_for_edited_fit_on_a_card() -> None:
    """Of edited faces it is sure to five digits, of the others to four."""
    sure, wrong = drawn(60, 0, 11, 0.5), drawn(60, 1, 10, 0.5)
    reading = fit_edit_calibration(sure, truths(sure, 2), {"authentic a": wrong}, EDITS, "here")
    reading.check("any")
    assert 0.9999 < reading.untouched_at <= reading.edited_at < 1
    assert (edited(wrong, reading) >= reading.edited_at).mean() <= FALSE
    assert (edited(sure, reading) <= reading.untouched_at).mean() <= MISSED


@pytest.mark.parametrize(("truth", "lacking"), [([1, 1], "untouched"), ([0, 0], "edited")])
def test_limits_need_edited_faces_and_untouched_ones(truth: list[int], lacking: str) -> None:
    with pytest.raises(DataError, match=f"here: no {lacking} faces to set the limits by; give data that have some"):
        fit_edit_calibration(drawn(2, 0, 0.0), truth, {}, EDITS, "here")


# A pack from end to end

SPLITS = {
    "train": ["", "nose", "eye", "nose-eye", "lip-hair", "hair-lip", "eye-nose-lip", "nose-eye-eyebrow-lip-hair"],
    "val": ["", "", "", "nose", "lip-eye", "eye-nose-hair"],
    "test": ["", "", "eye", "hair-nose", "nose-eye", "lip-eyebrow-nose"],
}
VALIDATION = [place_of(numbers) for numbers in ((), (), (), (1,), (4, 2), (2, 1, 5))]


def shop(faces: Sequence[StoredFace]) -> Any:
    """A workshop as shipping asks it: for its faces."""
    return SimpleNamespace(faces=lambda: list(faces))


@dataclass(frozen=True)
class Shipped:
    data: Path
    work: Path
    run: Path
    others: tuple[StoredFace, ...]
    pack: Pack
    tables: str


@pytest.fixture(scope="module")
def shipped(portrait: Path, tmp_path_factory: pytest.TempPathFactory, sface: None) -> Shipped:
    """A reader of four steps and its pack."""
    folder = tmp_path_factory.mktemp("shipped")
    data, work, run = write_edited(folder / "edited", portrait, SPLITS), folder / "work", folder / "run"
    train_reader(data, work, run, replace(SMALL, steps=4, batch=4, encoded=0.5), None, 1, QUIET)
    others = (*make_faces("val", count=3), *make_faces("test", count=2))
    pack, tables = ship_reader(run, data, work, shop(others), folder / "packs" / "mine", "1.2.3", 1, QUIET)
    return Shipped(data, work, run, others, pack, tables)


@pytest.fixture(scope="module")
def reader(shipped: Shipped) -> EditSequenceModel:
    return load_network(shipped.run)[0]


def crops(shipped: Shipped, split: str) -> np.ndarray:
    faces = load_edited_faces(shipped.data, shipped.work, SMALL.size, SMALL.margin, 1, QUIET).split(split)
    return faces.take(np.arange(len(faces))).faces


def scored(reader: EditSequenceModel, faces: np.ndarray) -> np.ndarray:
    return predict(reader, faces, torch.device("cpu")).scores


def reading_of(pack: Pack) -> EditCalibration:
    assert pack.card.reading is not None
    return pack.card.reading


def test_the_pack_stands_in_its_folder_alone_and_loads_as_a_reader_of_edits(shipped: Shipped) -> None:
    folder = shipped.pack.folder
    assert {path.name for path in folder.parent.rglob("*")} == {"mine", "model.onnx", "card.json"}
    pack = load_pack(folder, "edit_reading")
    assert pack.card == shipped.pack.card
    told = EditPredictor(pack).predict(list(crops(shipped, "test")))
    assert len(told) == 6
    for one in told:
        assert one.posterior.sum() == pytest.approx(1) and one.recovered.shape == (SMALL.size, SMALL.size, 3)
        assert one.areas.shape == (LONGEST, SMALL.size // 4, SMALL.size // 4)


def test_the_card_is_complete_and_says_what_was_done(shipped: Shipped) -> None:
    card, config = Card.read(shipped.pack.folder / "card.json"), load_network(shipped.run)[1]
    card.check_complete()
    assert (card.name, card.version, card.task, card.outputs) == ("mmnet", "1.2.3", "edit_reading", OUTPUTS)
    assert (card.input_size, card.crop_margin, card.colour_order) == ((64, 64), SMALL.margin, "RGB")
    assert card.training_data == "training split of edited (8 faces, facial_components)"
    assert card.training_data_sha256 == manifest_sha256(read_layout(shipped.data))
    assert card.config == json.loads(json.dumps({"runs": [asdict(config)], "versions": versions()}))
    assert "regions" in card.description and "coarse" in card.description
    assert card.calibration is None and card.operating_points == ()
    assert len(card.limits) >= 5 and any("hypothesis, not evidence" in limit for limit in card.limits)
    reading = reading_of(shipped.pack)
    assert reading.edits == EDITS
    for source in ("val split of edited", "authentic ffhq", "synthetic stylegan", "synthetic pggan"):
        assert source in reading.data
    assert not reading.data.endswith(", ciplab") and ", ciplab," not in reading.data  # composites are edited


def test_the_pack_tells_nothing_of_the_machine(shipped: Shipped) -> None:
    model = onnx.load(shipped.pack.model_path)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # by chance weights spell anything
    for content in (model.SerializeToString(), (shipped.pack.folder / "card.json").read_bytes()):
        for folder in (shipped.data.parent, Path.home(), Path(sequence_shipping.__file__).parent):
            assert f"{folder}/".encode() not in content


def test_the_figures_are_those_of_the_test_split(shipped: Shipped, reader: EditSequenceModel) -> None:
    told = predict_split(shipped.run, shipped.data, shipped.work, "test", 1, QUIET)
    result = evaluate(told, "test", identity_likeness())
    check_own(result, told.faces, told.readings.scores, reading_of(shipped.pack))
    measured = f"{reader_table(result)}\n\n{own_table(result)}"
    others = other_faces(shipped.others, "test", SMALL.size, SMALL.margin)
    check_others(result, others, scored(reader, others.crops), reading_of(shipped.pack))
    assert shipped.pack.card.metrics == tuple(result.metrics)
    assert shipped.tables.startswith(f"{measured}\n\n{others_table(result)}\n\nparity with torch ")
    kinds = {metric.dataset for metric in result.metrics if metric.condition == "other faces"}
    assert kinds >= {"authentic utkface", "synthetic mobilestylegan", "ciplab"}
    assert {metric.name for metric in result.metrics} >= {"csm", "area_iou", "psnr", "identity", "agreement"}


def test_false_edits_are_held_down_on_every_kind_of_face_that_is_given(
    shipped: Shipped, reader: EditSequenceModel
) -> None:
    reading, others = reading_of(shipped.pack), other_faces(shipped.others, "val", SMALL.size, SMALL.margin)
    shares = edited(scored(reader, others.crops), reading)
    for kind, numbers in others.groups().items():
        if kind != "ciplab":
            assert (shares[numbers] >= reading.edited_at).mean() <= FALSE
    shares = edited(scored(reader, crops(shipped, "val")), reading)
    assert (shares[:3] >= reading.edited_at).mean() <= FALSE
    assert (shares[3:] <= reading.untouched_at).mean() <= MISSED


def test_what_is_said_is_fitted_on_the_validation_split_alone(shipped: Shipped, reader: EditSequenceModel) -> None:
    others = other_faces(shipped.others, "val", SMALL.size, SMALL.margin)
    told = scored(reader, others.crops)
    kinds = {kind: told[numbers] for kind, numbers in others.groups().items() if kind != "ciplab"}
    reading = reading_of(shipped.pack)
    assert reading == fit_edit_calibration(
        scored(reader, crops(shipped, "val")), VALIDATION, kinds, EDITS, reading.data
    )


def test_the_pack_says_what_the_network_says_and_how_nearly_is_told(shipped: Shipped, reader: EditSequenceModel) -> None:
    faces = crops(shipped, "test")
    pixels = np.ascontiguousarray(faces.transpose(0, 3, 1, 2)).astype(np.float32) / 255
    scores, areas, recovered = shipped.pack.run(pixels)
    own = predict(reader, faces, torch.device("cpu"))
    assert own.areas is not None and own.recovered is not None
    reading = reading_of(shipped.pack)
    apart = {
        "posterior": np.abs(posterior(scores, reading) - posterior(own.scores, reading)).max(),
        "areas": np.abs(areas - own.areas).max(),
    }
    found = reader_parity(reader, shipped.pack, faces)
    assert {name: found[name] for name in apart} == pytest.approx(apart, abs=1e-5)
    assert np.abs(recovered * 255 - own.recovered.transpose(0, 3, 1, 2)).max() <= 1 and found["recovered"] < 1e-2
    told = ", ".join(f"{found[name]:.1e} ({name})" for name in ("posterior", "areas", "recovered"))
    assert max(found.values()) < 0.02 and shipped.tables.splitlines()[-1] == f"parity with torch {told}"


@pytest.mark.parametrize("says", [-10.0, 10.0])
def test_a_network_that_says_something_else_is_seen(shipped: Shipped, says: float, tmp_path: Path) -> None:
    other = load_network(write_run(tmp_path / "run", says=says))[0]
    assert reader_parity(other, shipped.pack, crops(shipped, "test"))["posterior"] > 0.02


# Packs of a network that was exported before

Ship = Callable[..., tuple[Pack, str]]


@pytest.fixture
def ship(shipped: Shipped, monkeypatch: pytest.MonkeyPatch) -> Ship:
    """Ships the reader again, without the export, which is slow: the network of its first pack is taken."""

    def export(_: EditSequenceModel, path: Path) -> None:
        shutil.copy(shipped.pack.model_path, path)

    monkeypatch.setattr(sequence_shipping, "write_onnx", export)

    def run(out: Path, version: str = "2", **changes: Any) -> tuple[Pack, str]:
        given = {"run": shipped.run, "data": shipped.data, "others": None, **changes}
        return ship_reader(work=shipped.work, out=out, version=version, workers=1, console=QUIET, **given)

    return run


@pytest.fixture
def older(shipped: Shipped, tmp_path: Path) -> Path:
    """A pack that is there already."""
    return shutil.copytree(shipped.pack.folder, tmp_path / "mine")


def test_without_other_faces_the_sets_own_untouched_ones_hold_false_edits_down(
    ship: Ship, shipped: Shipped, reader: EditSequenceModel, tmp_path: Path
) -> None:
    pack, tables = ship(tmp_path / "mine")
    reading = reading_of(pack)
    assert reading.data == "val split of edited"
    scores = scored(reader, crops(shipped, "val"))
    assert reading == fit_edit_calibration(scores, VALIDATION, {}, EDITS, reading.data)
    assert (edited(scores[:3], reading) >= reading.edited_at).mean() <= FALSE
    assert reading.edited_at <= reading_of(shipped.pack).edited_at  # fewer faces forbid less
    assert {metric.condition for metric in pack.card.metrics}.isdisjoint({"other faces"})
    assert tables.startswith("| decoding |") and tables.count("edits named") == 1 and "CIPLAB" not in tables


def test_a_pack_has_the_folder_and_the_name_that_are_given_even_if_an_embedded_one_is_called_so(
    ship: Ship, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pack, _ = ship(Path("plain"), name="Mine")
    assert pack.folder == tmp_path / "plain" and (pack.card.name, pack.card.task) == ("Mine", "edit_reading")


def test_a_newer_pack_takes_the_place_of_an_older_one(ship: Ship, older: Path) -> None:
    (older / "notes.txt").write_text("kept")
    pack, _ = ship(older, version="3")
    assert pack.card.version == load_pack(older).card.version == "3"
    assert {path.name for path in older.parent.rglob("*")} == {"mine", "model.onnx", "card.json", "notes.txt"}


def test_an_exported_network_that_says_something_else_is_refused(ship: Ship, shipped: Shipped, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", says=-10.0, data=data_of(shipped.run))
    with pytest.raises(PackError, match=r"the exported network differs from the trained one .*posterior"):
        ship(tmp_path / "packs" / "mine", run=other)
    assert not list((tmp_path / "packs").iterdir())


def test_a_set_that_the_run_was_not_trained_on_is_refused(ship: Ship, portrait: Path, tmp_path: Path) -> None:
    other = write_edited(tmp_path / "set", portrait, {**SPLITS, "train": ["", "nose", "lip-eye"]})
    with pytest.raises(DataError, match=r"was not trained on .*set as it is now; give the set that it was trained on"):
        ship(tmp_path / "packs" / "mine", data=other)
    assert not (tmp_path / "packs").exists()


def test_an_exported_network_that_gives_no_numbers_is_refused(
    ship: Ship, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"posterior": 0.0, "areas": float("nan"), "recovered": 0.0}
    monkeypatch.setattr(sequence_shipping, "reader_parity", lambda *_: found)
    with pytest.raises(PackError, match="the exported network differs"):
        ship(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("part", ["evaluate", "reader_parity"])
def test_what_is_interrupted_leaves_no_pack_and_an_older_one_as_it_was(
    ship: Ship, older: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    before = {path.name: path.read_bytes() for path in older.iterdir()}

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sequence_shipping, part, stop)
    for out in (older, older.parent / "new"):
        with pytest.raises(KeyboardInterrupt):
            ship(out, version="3")
    assert {path.name: path.read_bytes() for path in older.iterdir()} == before
    assert not (older.parent / "new").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"options": {**SMALL.options, "recovery": False}}, "mmnet recovers no face with these options; a pack needs"),
        ({"options": {**SMALL.options, "masks": False}}, "mmnet does not say where edits were made with these options"),
        ({"method": "seqfakeformer", "options": {}}, "seqfakeformer recovers no face with these options"),
        ({"track": "facial_attributes"}, "reads facial_attributes, .* holds facial_components; give data of its track"),
    ],
)
def test_a_reader_that_does_not_say_what_a_pack_says_is_refused(
    ship: Ship, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    run = write_run(tmp_path / "run", **changes)
    with pytest.raises(DataError, match=f"{re.escape(str(run))}.*{told}"):
        ship(tmp_path / "packs" / "mine", run=run)
    assert not (tmp_path / "packs").exists()


def test_a_run_that_is_not_finished_is_refused(ship: Ship, tmp_path: Path) -> None:
    Run(tmp_path / "run", EditTrainConfig(), "0")
    with pytest.raises(DataError, match="the run is not finished"):
        ship(tmp_path / "packs" / "mine", run=tmp_path / "run")
    assert not (tmp_path / "packs").exists()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_data_without_a_split_are_refused(ship: Ship, portrait: Path, tmp_path: Path, split: str) -> None:
    rest = {name: ["", "nose"] for name in SPLITS if name != split}
    with pytest.raises(DataError, match=f"no face of these data is in the split {split}; give data that have some"):
        ship(tmp_path / "packs" / "mine", data=write_edited(tmp_path / "set", portrait, rest))
    assert not (tmp_path / "packs").exists()


@pytest.mark.parametrize(("val", "lacking"), [(["nose", "eye"], "untouched"), (["", ""], "edited")])
def test_data_that_set_no_limits_are_refused(
    ship: Ship, portrait: Path, tmp_path: Path, val: list[str], lacking: str
) -> None:
    data = write_edited(tmp_path / "set", portrait, {**SPLITS, "val": val})
    with pytest.raises(DataError, match=f"val split of set: no {lacking} faces to set the limits by"):
        ship(tmp_path / "packs" / "mine", data=data)
    assert not (tmp_path / "packs").exists()


@pytest.mark.parametrize("split", ["val", "test"])
def test_other_faces_of_no_use_are_refused(ship: Ship, tmp_path: Path, split: str) -> None:
    there = make_faces("test" if split == "val" else "val", count=1)
    others = [*there, make_face(99, label=1, family="swap", split=split)]
    with pytest.raises(DataError, match=f"no authentic or wholly synthetic face is in the split {split}"):
        ship(tmp_path / "packs" / "mine", others=shop(others))
    assert not (tmp_path / "packs").exists()
