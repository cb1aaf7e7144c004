"""The task of reading edits: its networks, its runs, and training on a small set on disk."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from edit_runs import SMALL, write_run
from edited_portraits import write_edited
from progress_log import ProgressLog
from safetensors.torch import load_file

from unmask.datasets.layouts import read_layout
from unmask.datasets.manifest import manifest_sha256, write_manifest
from unmask.edits.labels import place_of
from unmask.edits.mmnet import MMNet
from unmask.edits.seqfakeformer import SeqFakeFormer
from unmask.errors import DataError
from unmask.lab.config import LabPaths
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.edits.config import EditTrainConfig
from unmask.lab.edits.task import EditTask
from unmask.lab.engine import save_weights
from unmask.lab.run import Run, config_of, data_of, is_run, task_of
from unmask.lab.train import load_network, new_network, train
from unmask.provenance import sha256_of

pytestmark = pytest.mark.lab

TASK = EditTask()
SIDE = 64
CONFIG = EditTrainConfig(size=SIDE, steps=8, batch=4, seed=5)

# Networks


def test_a_network_has_its_configurations_options_and_its_size() -> None:
    config = replace(CONFIG, options={"readers": "forward", "recovery": False})
    network = new_network(TASK, config, pretrained=True)
    assert isinstance(network, MMNet) and network.readers == "forward" and not network.recovery
    assert network.size == SIDE
    assert isinstance(new_network(TASK, replace(CONFIG, method="seqfakeformer"), pretrained=True), SeqFakeFormer)


def test_weights_are_looked_for_only_where_a_pretrained_network_is_asked_for() -> None:
    config = replace(CONFIG, options={"weights": "nowhere.safetensors"})
    assert isinstance(new_network(TASK, config, pretrained=False), MMNet)
    with pytest.raises(DataError):
        new_network(TASK, config, pretrained=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "plain"}, "plain is no method of the task edit_reading"),
        ({"method": "nothing"}, "no method nothing; name one of"),
        ({"options": {"colour": "blue"}}, "mmnet has no option colour"),
        ({"size": 100}, "size 100: mmnet takes multiples of 32"),
    ],
)
def test_what_reads_no_edits_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        new_network(TASK, replace(CONFIG, **change), pretrained=False)


# Parity


@pytest.mark.parametrize("score", [-np.inf, np.nan])
def test_scores_that_are_no_numbers_are_not_at_parity(score: float) -> None:
    """Even where the posterior would hide them: a score of minus a thousand is a posterior of nothing too."""
    right = [np.zeros((2, 326), np.float32), np.zeros((2, 5, 4, 4), np.float32), np.zeros((2, 3, 8, 8), np.float32)]
    right[0][:, 5] = -1000
    wrong = [right[0].copy(), *right[1:]]
    wrong[0][1, 5] = score
    assert TASK.at_parity(TASK.parity(right, right)) and not TASK.at_parity(TASK.parity(right, wrong))


# Runs


def test_the_network_of_a_finished_run_comes_back(tmp_path: Path) -> None:
    config = replace(
        CONFIG, method="seqfakeformer", options={"weights": "none"}, known=(place_of([2, 1]), 0), encoded=0.5
    )
    Run(tmp_path, config, "0")
    torch.manual_seed(9)
    saved = new_network(TASK, config, pretrained=True)
    save_weights(saved, tmp_path / "weights.safetensors")
    network = load_network(tmp_path)
    assert isinstance(network, SeqFakeFormer) and not network.training and network.size == SIDE
    assert all(torch.equal(value, saved.state_dict()[name].half()) for name, value in network.state_dict().items())
    assert config_of(tmp_path) == config and task_of(tmp_path) == TASK.name
    assert TASK.system(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("method", ["seqfakeformer", "mmnet"])
def test_a_run_of_a_version_whose_network_was_another_is_refused(method: str, tmp_path: Path) -> None:
    """By loading, as what to measure and as what to export: no weight is left out, and none is made up."""
    config = replace(CONFIG, method=method, options={"weights": "none"})
    Run(tmp_path, config, "0")
    other = new_network(TASK, config, pretrained=True)
    other.register_parameter("decoder_of_before", torch.nn.Parameter(torch.zeros(3)))
    save_weights(other, tmp_path / "weights.safetensors")
    for load in (load_network, lambda folder: TASK.system(str(folder))):
        with pytest.raises(
            DataError, match=f"its weights are not those of {method} as it is in this version; train it"
        ):
            load(tmp_path)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    Run(tmp_path, CONFIG, "0")
    for load in (load_network, lambda folder: TASK.system(str(folder))):
        with pytest.raises(DataError, match="the run is not finished; start the same command again to resume it"):
            load(tmp_path)
    assert is_run(tmp_path)


def test_a_detectors_run_is_refused(tmp_path: Path) -> None:
    Run(tmp_path, DetectionTrainConfig(method="mesonet"), "0")
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(DataError, match="edits are read by one run at a time; give a single run folder"):
        TASK.system(str(tmp_path))
    assert task_of(tmp_path) == "forgery_detection"


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="not a run folder of this version"):
            load_network(folder)
        with pytest.raises(DataError, match="give a single run folder"):
            TASK.system(str(folder))
        assert not is_run(folder)


def test_several_runs_are_no_system(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name) for name in "ab"]
    with pytest.raises(DataError, match="give a single run folder"):
        TASK.system(",".join(map(str, runs)))


# Training

SPLITS = {"train": ["nose-eye", "", "nose", "lip-hair"], "val": ["", "eye"], "test": ["eye"]}
PLACES = [place_of(numbers) for numbers in ((1, 2), (), (1,), (4, 5))]
TINY = replace(SMALL, steps=3, batch=2, track="any", known=())


@pytest.fixture(scope="module")
def paths(portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> LabPaths:
    folder = tmp_path_factory.mktemp("edits")
    return LabPaths(data=write_edited(folder / "set", portrait, SPLITS), work=folder / "work")


@pytest.fixture(scope="module")
def run(paths: LabPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps, validated after the second and the last."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    log = ProgressLog()
    train(paths, folder, TINY, None, log, "unmask train mmnet", every=2)
    log.check_bars_end()
    assert {stage for stage, _, _ in log.steps} == {"cropping faces", "cropping faces between steps", "training"}
    return folder


def test_a_run_knows_its_track_its_sequences_and_its_data(run: Path, paths: LabPaths) -> None:
    config = config_of(run)
    assert config == replace(TINY, track="facial_components", known=tuple(sorted(PLACES)))
    assert task_of(run) == TASK.name and data_of(run) == manifest_sha256(read_layout(paths.data))


def test_a_run_is_watched_on_the_validation_split(run: Path) -> None:
    """Of two faces one is edited, once."""
    with (run / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["step"]) for row in rows] == [2, 3]
    for row in rows:
        assert float(row["val_csm"]) in (0, 0.5, 1) and 0 <= float(row["val_adaptive"]) <= 1
        assert float(row["val_fixed"]) * 10 == pytest.approx(round(float(row["val_fixed"]) * 10))


def test_a_finished_run_stays_as_it_is(run: Path, paths: LabPaths) -> None:
    weights = (run / "weights.safetensors").read_bytes()
    train(paths, run, TINY)
    assert (run / "weights.safetensors").read_bytes() == weights


def test_training_on_some_of_the_faces_knows_their_sequences_alone(paths: LabPaths, tmp_path: Path) -> None:
    train(paths, tmp_path / "run", replace(TINY, steps=1, limit=3))
    assert config_of(tmp_path / "run").known == tuple(sorted(PLACES[:3]))


def test_a_run_begins_from_the_weights_of_another(run: Path, paths: LabPaths, tmp_path: Path) -> None:
    """At next to no learning rate its parameters stay those that it began from."""
    still = replace(TINY, steps=1, learning_rate=1e-12)
    train(paths, tmp_path / "second", still, start=run)
    assert config_of(tmp_path / "second").start == sha256_of(run / "weights.safetensors")
    first, second = (load_file(folder / "weights.safetensors") for folder in (run, tmp_path / "second"))
    names = [name for name, _ in load_network(run).named_parameters()]
    assert names and all(torch.equal(first[name], second[name]) for name in names)


# What keeps training from beginning: nothing is cropped, and no run folder made


def refused(paths: LabPaths, folder: Path, message: str, config: EditTrainConfig = TINY, **start: Path) -> None:
    with pytest.raises(DataError, match=message):
        train(paths, folder / "run", config, **start)
    assert not (folder / "run").exists() and not paths.work.exists()


def test_a_start_that_is_not_finished_is_refused(paths: LabPaths, tmp_path: Path) -> None:
    Run(tmp_path / "begun", TINY, "0")
    untouched = replace(paths, work=tmp_path / "work")
    refused(untouched, tmp_path, "no weights.safetensors to start from; finish that run", start=tmp_path / "begun")


def test_a_start_from_a_run_of_another_task_is_refused(paths: LabPaths, tmp_path: Path) -> None:
    Run(tmp_path / "detector", DetectionTrainConfig(method="mesonet"), "0")
    (tmp_path / "detector" / "weights.safetensors").touch()
    untouched = replace(paths, work=tmp_path / "work")
    message = "detector: a run of the task forgery_detection; start from one of edit_reading"
    refused(untouched, tmp_path, message, start=tmp_path / "detector")


def test_a_start_whose_weights_are_another_networks_is_refused(run: Path, paths: LabPaths, tmp_path: Path) -> None:
    other = replace(TINY, method="seqfakeformer", options={"weights": "none"})
    with pytest.raises(DataError, match="its weights are not those of seqfakeformer with these options"):
        train(paths, tmp_path / "run", other, start=run)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_data_without_a_split_to_train_and_watch_on_are_refused(portrait: Path, tmp_path: Path, split: str) -> None:
    rest = {name: sequences for name, sequences in SPLITS.items() if name != split}
    lacking = LabPaths(data=write_edited(tmp_path / "set", portrait, rest), work=tmp_path / "work")
    refused(lacking, tmp_path, f"no face of these data is in the split {split}; give data that have some")


def test_data_without_sequences_are_refused(paths: LabPaths, tmp_path: Path) -> None:
    rows = [replace(row, sequence="", steps="") for row in read_layout(paths.data)]
    write_manifest(rows, tmp_path / "manifest.csv")
    plain = LabPaths(data=tmp_path / "manifest.csv", work=tmp_path / "work")
    refused(plain, tmp_path, "no row of these data has a sequence of edits")


def test_a_network_that_cannot_be_built_is_refused(paths: LabPaths, tmp_path: Path) -> None:
    untouched = replace(paths, work=tmp_path / "work")
    refused(untouched, tmp_path, "size 100: mmnet takes multiples of 32", replace(TINY, size=100))
    refused(untouched, tmp_path, "mmnet has no option colour", replace(TINY, options={"colour": "blue"}))
