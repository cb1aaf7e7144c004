"""From a run to a pack that reads edits: the limits of what is said, a tiny pack, and what is refused."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from edit_runs import SMALL, write_run
from edited_portraits import write_edited
from fake_faces import make_face, make_faces
from progress_log import ProgressLog

from unmask.datasets.face_store import StoredFace, write_store
from unmask.datasets.layouts import read_layout
from unmask.datasets.manifest import manifest_sha256, write_manifest
from unmask.edits.labels import LONGEST, TRACKS, all_sequences, place_of
from unmask.edits.model import EditSequenceModel
from unmask.edits.prediction import OUTPUTS, EditPredictor, posterior
from unmask.errors import DataError, PackError
from unmask.lab import export as export_module
from unmask.lab.config import FacePaths, LabPaths
from unmask.lab.edits import export as edits_export
from unmask.lab.edits.checks import check_others, check_own, other_faces, other_tables, own_table
from unmask.lab.edits.config import EditExport, EditTrainConfig
from unmask.lab.edits.evaluate import evaluate, identity_likeness, predict_split, tables
from unmask.lab.edits.export import fit_edit_calibration
from unmask.lab.edits.feed import load_edited_faces, predict
from unmask.lab.edits.task import EditTask
from unmask.lab.evaluate import as_markdown
from unmask.lab.export import Exported, export, parity
from unmask.lab.run import Run, config_of, data_of, versions
from unmask.lab.train import load_network, train
from unmask.packs import Pack, load_pack
from unmask.packs.card import Card, EditCalibration
from unmask.progress import SILENT

pytestmark = [pytest.mark.lab, pytest.mark.slow]

TASK = EditTask()
EDITS = TRACKS["facial_components"].edits
FALSE = MISSED = 0.05
"""At most so many, as the card promises."""
FINEST = 1e-6
"""How exactly the limits are given."""


# The limits of what is said


def drawn(count: int, seed: int, about: float, spread: float = 2.0) -> np.ndarray:
    """Scores (N, 326) by which faces were edited in one of two ways, with log-odds about so much, or were not."""
    rng = np.random.default_rng(seed)
    scores = np.full((count, len(all_sequences())), -1e4)
    scores[:, 0] = -rng.normal(about, spread, count)
    scores[:, 1], scores[:, 2] = 0, rng.normal(0, 2, count)
    return scores


def truths(scores: np.ndarray, seed: int) -> list[int]:
    """Places drawn as the scores of edited faces say, at a temperature of one."""
    own = scores[:, 1:3] + np.random.default_rng(seed).gumbel(size=(len(scores), 2))
    return [int(place) for place in own.argmax(axis=1) + 1]


def edited(scores: np.ndarray, reading: EditCalibration) -> np.ndarray:
    """The posterior probability of any edit, as an inspection takes it."""
    return 1 - posterior(scores, reading)[:, 0]


def log_loss(scores: np.ndarray, truth: Sequence[int], temperature: float) -> float:
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
    fitted = fit_edit_calibration(temperature * own, truth.tolist(), {}, EDITS, "here").temperature
    assert fitted == pytest.approx(temperature, rel=0.05)
    costs = [log_loss(temperature * own, truth.tolist(), fitted * factor) for factor in (0.97, 1.0, 1.03)]
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


def test_the_limits_of_a_network_that_takes_every_face_for_edited_fit_on_a_card() -> None:
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


def write_others(folder: Path, faces: Sequence[StoredFace], work: Path | None = None) -> Path:
    """Write drawn faces with their manifest, and in a work folder their store, as if they had been looked for."""
    named = []
    for row, one in enumerate(faces):
        path = folder / "others" / f"{row}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(one.encoded.tobytes())
        named.append(replace(one.sample, path=str(path), subject=f"{one.sample.split} {row}"))
    manifest = folder / "others.csv"
    write_manifest(named, manifest)
    if work is not None:
        rows = FacePaths(data=manifest, work=work).samples()
        write_store([replace(one, sample=row) for one, row in zip(faces, rows, strict=True)], work / "store")
        (work / "store" / "manifest.sha256").write_text(manifest_sha256(rows))
    return manifest


@dataclass(frozen=True)
class Made:
    """A run, its data, faces without local edits, and its pack."""

    paths: LabPaths
    run: Path
    others: Path
    exported: Exported

    @property
    def pack(self) -> Pack:
        return self.exported.pack

    @property
    def stored(self) -> list[StoredFace]:
        return FacePaths(data=self.others, work=self.paths.work).faces()


@pytest.fixture(scope="session")
def made(portrait: Path, tmp_path_factory: pytest.TempPathFactory, sface: None) -> Made:
    """A network of four steps and its pack: the one that is exported, for exports are slow."""
    folder = tmp_path_factory.mktemp("made")
    paths, run = LabPaths(data=write_edited(folder / "edited", portrait, SPLITS), work=folder / "work"), folder / "run"
    log = ProgressLog()
    train(paths, run, replace(SMALL, steps=4, batch=4, encoded=0.5), None, log)
    others = write_others(folder, [*make_faces("val", count=3), *make_faces("test", count=2)], paths.work)
    exported = export([run], paths, folder / "packs" / "mine", EditExport(version="1.2.3", others=others), log)
    log.check_bars_end()
    return Made(paths, run, others, exported)


@pytest.fixture(scope="session")
def network(made: Made) -> EditSequenceModel:
    trained = load_network(made.run)
    assert isinstance(trained, EditSequenceModel)
    return trained


def crops(made: Made, split: str) -> np.ndarray:
    faces = load_edited_faces(made.paths.data, made.paths.work, SMALL.size, SMALL.margin, 1, SILENT).split(split)
    return faces.take(np.arange(len(faces))).faces


def scored(network: EditSequenceModel, faces: np.ndarray) -> np.ndarray:
    return predict(network, faces, torch.device("cpu")).scores


def reading_of(pack: Pack) -> EditCalibration:
    assert pack.card.reading is not None
    return pack.card.reading


def test_the_pack_stands_in_its_folder_alone_and_loads_as_one_that_reads_edits(made: Made) -> None:
    folder = made.pack.folder
    assert {path.name for path in folder.parent.rglob("*")} == {"mine", "model.onnx", "card.json", "evaluation.json"}
    pack = load_pack(folder, "edit_reading")
    assert pack.card == made.pack.card
    predictions = EditPredictor(pack).predict(list(crops(made, "test")))
    assert len(predictions) == 6
    for one in predictions:
        assert one.posterior.sum() == pytest.approx(1) and one.recovered.shape == (SMALL.size, SMALL.size, 3)
        assert one.areas.shape == (LONGEST, SMALL.size // 4, SMALL.size // 4)


def test_the_card_is_complete_and_says_what_was_done(made: Made) -> None:
    card, config = Card.read(made.pack.folder / "card.json"), config_of(made.run)
    card.check_complete()
    assert (card.name, card.version, card.task, card.outputs) == ("mmnet", "1.2.3", "edit_reading", OUTPUTS)
    assert (card.input_size, card.crop_margin, card.colour_order) == ((64, 64), SMALL.margin, "RGB")
    assert (card.mean, card.std) == ((0, 0, 0), (1, 1, 1))  # the network normalises faces itself
    assert card.training_data == "training split of edited (8 faces, facial_components)"
    assert card.training_data_sha256 == manifest_sha256(read_layout(made.paths.data))
    assert card.protocol == json.loads(json.dumps({"runs": [asdict(config)], "versions": versions()}))
    assert "regions" in card.description and "coarse" in card.description
    assert card.calibration is None and card.operating_points == ()
    assert len(card.limits) >= 5 and any("hypothesis, not evidence" in limit for limit in card.limits)
    reading = reading_of(made.pack)
    assert reading.edits == EDITS
    for source in ("val split of edited", "authentic ffhq", "synthetic stylegan", "synthetic pggan"):
        assert source in reading.data
    assert not reading.data.endswith(", ciplab") and ", ciplab," not in reading.data  # composites are edited


def test_the_pack_says_nothing_of_the_machine(made: Made) -> None:
    model = onnx.load(made.pack.model_path)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # by chance weights spell anything
    for content in (model.SerializeToString(), (made.pack.folder / "card.json").read_bytes()):
        for folder in (made.paths.data.parent, Path.home(), Path(edits_export.__file__).parent):
            assert f"{folder}/".encode() not in content


@pytest.mark.slow
def test_the_figures_are_those_of_the_test_split(made: Made, network: EditSequenceModel) -> None:
    predicted = predict_split(made.run, made.paths, "test", SILENT)
    result = evaluate(predicted, "test", identity_likeness())
    check_own(result, predicted.faces, predicted.predictions.scores, reading_of(made.pack))
    printed = [*tables(result), own_table(result)]
    others = other_faces(made.stored, "test", SMALL.size, SMALL.margin)
    check_others(result, others, scored(network, others.crops), reading_of(made.pack))
    assert made.pack.card.metrics == tuple(result.metrics) == tuple(made.exported.measured.evaluation.metrics)
    assert as_markdown(made.exported.measured.tables) == as_markdown([*printed, *other_tables(result)])
    kinds = {metric.dataset for metric in result.metrics if metric.condition == "other faces"}
    assert kinds >= {"authentic utkface", "synthetic mobilestylegan", "ciplab"}
    assert {metric.name for metric in result.metrics} >= {"csm", "area_iou", "psnr", "identity", "agreement"}


def test_false_edits_are_held_down_on_every_kind_of_face_that_is_given(made: Made, network: EditSequenceModel) -> None:
    reading, others = reading_of(made.pack), other_faces(made.stored, "val", SMALL.size, SMALL.margin)
    shares = edited(scored(network, others.crops), reading)
    for kind, numbers in others.groups().items():
        if kind != "ciplab":
            assert (shares[numbers] >= reading.edited_at).mean() <= FALSE
    shares = edited(scored(network, crops(made, "val")), reading)
    assert (shares[:3] >= reading.edited_at).mean() <= FALSE
    assert (shares[3:] <= reading.untouched_at).mean() <= MISSED


def test_what_is_said_is_fitted_on_the_validation_split_alone(made: Made, network: EditSequenceModel) -> None:
    others = other_faces(made.stored, "val", SMALL.size, SMALL.margin)
    scores = scored(network, others.crops)
    kinds = {kind: scores[numbers] for kind, numbers in others.groups().items() if kind != "ciplab"}
    reading = reading_of(made.pack)
    assert reading == fit_edit_calibration(scored(network, crops(made, "val")), VALIDATION, kinds, EDITS, reading.data)


def test_the_pack_says_what_the_network_says_and_its_parity_how_nearly(made: Made, network: EditSequenceModel) -> None:
    faces = crops(made, "test")
    pixels = np.ascontiguousarray(faces.transpose(0, 3, 1, 2)).astype(np.float32) / 255
    scores, areas, recovered = made.pack.run(pixels)
    own = predict(network, faces, torch.device("cpu"))
    assert own.areas is not None and own.recovered is not None
    plain = replace(reading_of(made.pack), temperature=1.0)  # parity is known before the temperature
    apart = {
        "posterior": np.abs(posterior(scores, plain) - posterior(own.scores, plain)).max(),
        "areas": np.abs(areas - own.areas).max(),
    }
    differences = parity(TASK, network, made.pack, faces)
    assert list(differences) == ["posterior", "areas", "recovered"]
    assert {name: differences[name] for name in apart} == pytest.approx(apart, abs=1e-5)
    assert np.abs(recovered * 255 - own.recovered.transpose(0, 3, 1, 2)).max() <= 1 and differences["recovered"] < 1e-2
    assert max(differences.values()) < TASK.parity_limit == 0.02
    assert made.exported.parity == pytest.approx(differences, abs=1e-6)
    calibrated = reading_of(made.pack)
    assert np.abs(posterior(scores, calibrated) - posterior(own.scores, calibrated)).max() < 0.02


@pytest.mark.parametrize("says", [-10.0, 10.0])
def test_a_network_that_says_something_else_is_seen(made: Made, says: float, tmp_path: Path) -> None:
    other = load_network(write_run(tmp_path / "run", says=says))
    assert parity(TASK, other, made.pack, crops(made, "test"))["posterior"] > 0.02


# Packs of a network that was exported before

Export = Callable[..., Exported]


@pytest.fixture
def again(made: Made, monkeypatch: pytest.MonkeyPatch) -> Export:
    """Exports the run again, but for the ONNX file, which is slow: that of its first pack is taken."""

    def copy(_module: torch.nn.Module, size: int, outputs: Sequence[str], path: Path, *_: Any) -> None:
        assert (size, tuple(outputs)) == (SMALL.size, OUTPUTS)
        shutil.copy(made.pack.model_path, path)

    monkeypatch.setattr(export_module, "write_onnx", copy)

    def call(out: Path, *, run: Path | None = None, data: Path | None = None, **options: Any) -> Exported:
        paths = made.paths if data is None else replace(made.paths, data=data)
        return export([run or made.run], paths, out, EditExport(**{"version": "2", **options}))

    return call


@pytest.fixture
def older(made: Made, tmp_path: Path) -> Path:
    """A pack that is there already."""
    return shutil.copytree(made.pack.folder, tmp_path / "mine")


@pytest.mark.slow
def test_without_other_faces_the_sets_own_untouched_ones_hold_false_edits_down(
    again: Export, made: Made, network: EditSequenceModel, tmp_path: Path
) -> None:
    exported = again(tmp_path / "mine")
    reading = reading_of(exported.pack)
    assert reading.data == "val split of edited"
    scores = scored(network, crops(made, "val"))
    assert reading == fit_edit_calibration(scores, VALIDATION, {}, EDITS, reading.data)
    assert (edited(scores[:3], reading) >= reading.edited_at).mean() <= FALSE
    assert reading.edited_at <= reading_of(made.pack).edited_at  # fewer faces forbid less
    assert {metric.condition for metric in exported.pack.card.metrics}.isdisjoint({"other faces"})
    printed = as_markdown(exported.measured.tables)
    assert printed.startswith("| decoding |") and printed.count("edits named") == 1 and "CIPLAB" not in printed


@pytest.mark.slow
def test_a_pack_has_the_folder_and_the_name_that_are_given_even_if_an_embedded_one_is_called_so(
    again: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pack = again(Path("plain"), name="Mine").pack
    assert pack.folder == tmp_path / "plain" and (pack.card.name, pack.card.task) == ("Mine", "edit_reading")


@pytest.mark.slow
def test_a_newer_pack_takes_the_place_of_an_older_one(again: Export, older: Path) -> None:
    (older / "notes.txt").write_text("kept")
    pack = again(older, version="3").pack
    assert pack.card.version == load_pack(older).card.version == "3"
    assert {path.name for path in older.parent.rglob("*")} == {
        "mine",
        "model.onnx",
        "card.json",
        "evaluation.json",
        "notes.txt",
    }


def test_an_exported_network_that_says_something_else_is_refused(again: Export, made: Made, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", says=-10.0, data=data_of(made.run))
    with pytest.raises(PackError, match=r"the exported network differs from the trained one: .*posterior"):
        again(tmp_path / "packs" / "mine", run=other)
    assert not list((tmp_path / "packs").iterdir())


def test_a_set_that_the_run_was_not_trained_on_is_refused(again: Export, portrait: Path, tmp_path: Path) -> None:
    other = write_edited(tmp_path / "set", portrait, {**SPLITS, "train": ["", "nose", "lip-eye"]})
    with pytest.raises(DataError, match=r"was not trained on .*set as it is now; give the set that it was trained on"):
        again(tmp_path / "packs" / "mine", data=other)
    assert not (tmp_path / "packs").exists()


def test_an_exported_network_that_gives_no_numbers_is_refused(
    again: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    differences = {"posterior": 0.0, "areas": float("nan"), "recovered": 0.0}
    monkeypatch.setattr(export_module, "parity", lambda *_: differences)
    with pytest.raises(PackError, match="the exported network differs"):
        again(tmp_path / "packs" / "mine")
    assert not list((tmp_path / "packs").iterdir())


@pytest.mark.parametrize(("module", "part"), [(edits_export, "evaluate"), (export_module, "parity")])
def test_what_is_interrupted_leaves_no_pack_and_an_older_one_as_it_was(
    again: Export, older: Path, monkeypatch: pytest.MonkeyPatch, module: Any, part: str
) -> None:
    before = {path.name: path.read_bytes() for path in older.iterdir()}

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, part, stop)
    for out in (older, older.parent / "new"):
        with pytest.raises(KeyboardInterrupt):
            again(out, version="3")
    assert {path.name: path.read_bytes() for path in older.iterdir()} == before
    assert not (older.parent / "new").exists()


# What cannot make a pack, before any face is looked for


@pytest.fixture
def no_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_: Any, **__: Any) -> None:
        raise AssertionError("faces are looked for")

    monkeypatch.setattr("unmask.faces.finding.FaceFinder", look)


@pytest.mark.usefixtures("no_looking")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {**SMALL.options, "recovery": False}}, "mmnet recovers no face with these options; a pack needs"),
        ({"options": {**SMALL.options, "masks": False}}, "mmnet does not say where edits were made with these options"),
        ({"method": "seqfakeformer", "options": {}}, "seqfakeformer recovers no face with these options"),
        ({"track": "facial_attributes"}, "reads facial_attributes, .* holds facial_components; give data of its track"),
    ],
)
def test_a_network_that_does_not_give_what_a_pack_gives_is_refused(
    again: Export, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    run = write_run(tmp_path / "run", **changes)
    with pytest.raises(DataError, match=f"{re.escape(str(run))}.*{message}"):
        again(tmp_path / "packs" / "mine", run=run)
    assert not (tmp_path / "packs").exists()


@pytest.mark.usefixtures("no_looking")
def test_several_runs_make_no_pack_together(made: Made, tmp_path: Path) -> None:
    runs = [made.run, write_run(tmp_path / "other")]
    with pytest.raises(DataError, match="runs of the task edit_reading are exported one by one; name a single run"):
        export(runs, made.paths, tmp_path / "packs" / "mine", EditExport())
    assert not (tmp_path / "packs").exists()


@pytest.mark.usefixtures("no_looking")
def test_a_run_that_is_not_finished_is_refused(again: Export, tmp_path: Path) -> None:
    Run(tmp_path / "run", EditTrainConfig(), "0")
    with pytest.raises(DataError, match="the run is not finished"):
        again(tmp_path / "packs" / "mine", run=tmp_path / "run")
    assert not (tmp_path / "packs").exists()


@pytest.mark.usefixtures("no_looking")
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_data_without_a_split_are_refused(again: Export, portrait: Path, tmp_path: Path, split: str) -> None:
    rest = {name: ["", "nose"] for name in SPLITS if name != split}
    with pytest.raises(DataError, match=f"no face of these data is in the split {split}; give data that have some"):
        again(tmp_path / "packs" / "mine", data=write_edited(tmp_path / "set", portrait, rest))
    assert not (tmp_path / "packs").exists()


@pytest.mark.usefixtures("no_looking")
@pytest.mark.parametrize(("val", "lacking"), [(["nose", "eye"], "untouched"), (["", ""], "edited")])
def test_data_that_set_no_limits_are_refused(
    again: Export, portrait: Path, tmp_path: Path, val: list[str], lacking: str
) -> None:
    data = write_edited(tmp_path / "set", portrait, {**SPLITS, "val": val})
    with pytest.raises(DataError, match=f"set: no {lacking} faces in the split val to set the limits by"):
        again(tmp_path / "packs" / "mine", data=data)
    assert not (tmp_path / "packs").exists()


@pytest.mark.usefixtures("no_looking")
def test_data_whose_validation_faces_are_all_edited_will_do_beside_other_faces(
    made: Made, portrait: Path, tmp_path: Path
) -> None:
    data = write_edited(tmp_path / "set", portrait, {**SPLITS, "val": ["nose", "eye"]})
    TASK.check_export([made.run], [config_of(made.run)], replace(made.paths, data=data), EditExport(others=made.others))


@pytest.mark.usefixtures("no_looking")
@pytest.mark.parametrize("split", ["val", "test"])
def test_other_faces_of_no_use_are_refused(again: Export, tmp_path: Path, split: str) -> None:
    there = make_faces("test" if split == "val" else "val", count=1)
    others = write_others(tmp_path, [*there, make_face(99, label=1, family="swap", split=split)])
    with pytest.raises(DataError, match=f"no authentic or wholly synthetic face is in the split {split}"):
        again(tmp_path / "packs" / "mine", others=others)
    assert not (tmp_path / "packs").exists()
