"""From a face store to finished runs, of the engine's outer side: what begins, resumes and starts from another."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_faces import make_faces
from progress_log import ProgressLog
from stored_paths import StoredPaths, stored_paths, write_run

from unmask.errors import DataError
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.task import DetectionTask
from unmask.lab.edits.config import EditTrainConfig
from unmask.lab.edits.task import EditTask
from unmask.lab.run import Run, config_of, task_of
from unmask.lab.train import load_network, new_network, train
from unmask.provenance import sha256_of

pytestmark = pytest.mark.lab

CONFIG = DetectionTrainConfig(
    method="fedforgery",
    options={"width": 8, "backbone": "test_resnet", "weights": "none"},
    size=64,
    pairs=16,
    steps=2,
    batch_pairs=2,
    without=("resynthesis", "ciplab"),
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> StoredPaths:
    return stored_paths(tmp_path_factory.mktemp("work"), [*make_faces("train"), *make_faces("val", count=2)])


@pytest.mark.slow
def test_a_run_and_those_that_begin_with_it(paths: StoredPaths, tmp_path: Path) -> None:
    one = tmp_path / "one"
    trained = train(paths, one, CONFIG, command="unmask train fedforgery")
    assert {path.name for path in one.iterdir()} == {
        "run.json",
        "metrics.csv",
        "checkpoint.ckpt",
        "weights.safetensors",
    }
    assert task_of(one) == "forgery_detection"
    loaded = load_network(one)
    assert not loaded.training
    for mine, theirs in zip(trained.state_dict().values(), loaded.state_dict().values(), strict=True):
        torch.testing.assert_close(mine.half(), theirs.half())
    # The same command again finds the run finished and changes nothing.
    weights = (one / "weights.safetensors").read_bytes()
    train(paths, one, CONFIG)
    assert (one / "weights.safetensors").read_bytes() == weights

    blind = replace(CONFIG, without=("swap", "resynthesis"))
    train(paths, tmp_path / "two", blind, one)
    second = config_of(tmp_path / "two")
    assert second.start == sha256_of(one / "weights.safetensors")
    # It is trained without swaps, and has seen them all the same.
    assert second.before == ("mobilestylegan", "selfblend", "stylegan", "swap")
    train(paths, tmp_path / "three", replace(blind, without=("selfblend", *blind.without)), tmp_path / "two")
    assert config_of(tmp_path / "three").before == ("ciplab", *second.before)


@pytest.mark.slow
def test_the_record_holds_what_followed_from_the_data(paths: StoredPaths, tmp_path: Path) -> None:
    train(paths, tmp_path / "run", replace(CONFIG, steps=1))
    config = config_of(tmp_path / "run")
    assert config.families == ("selfblend", "swap", "stylegan", "mobilestylegan") and config.spectra == ("visible",)
    assert config.window == config.size and config.start == "the method's own" and config.before == ()
    (row,) = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"step", "loss", "auc_selfblend", "auc_stylegan", "real_vs_real"} <= set(header) and row.startswith("1,")


@pytest.mark.slow
def test_every_stage_of_a_run_ends_at_its_total(tmp_path: Path) -> None:
    """With the bank and the reconstructions, whose networks are trained in steps that no report falls on."""
    folder = tmp_path / "work"
    paths = stored_paths(folder, [*make_faces("train", count=2), *make_faces("val", count=2)])
    progress = ProgressLog()
    config = replace(CONFIG, zoo_steps=3, twin_draws=2, without=())
    train(paths, tmp_path / "run", config, progress=progress)
    progress.check_bars_end()
    assert set(progress.stages) == {
        "training the autoencoder bank",
        "making reconstructions",
        "making pairs",
        "training",
    }
    assert progress.stages["making reconstructions"][-1] == (16, 16)  # two draws of eight reals
    assert progress.stages["making pairs"][-1] == (16, 16) and progress.stages["training"][-1] == (2, 2)
    assert progress.details["training"][-1].startswith("loss ")
    # What is made without being asked for is said.
    assert any("selfblend, swap, resynthesis" in note and "--without" in note for note in progress.notes)
    # A run beside it finds all that was prepared, and trains alone.
    again = ProgressLog()
    train(paths, tmp_path / "other", replace(config, steps=1), progress=again)
    assert again.stages == {"training": [(1, 1)]}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DetectionTrainConfig(method="mmnet"), "mmnet is no method of the task forgery_detection"),
        (DetectionTrainConfig(method="nothing"), "no method nothing"),
        (DetectionTrainConfig(options={"colour": "blue"}), "plain has no option colour"),
        (DetectionTrainConfig(method="deepfidelity", size=100), "size 100: deepfidelity takes multiples of 32"),
    ],
)
def test_what_is_no_network_of_the_task_is_refused(config: DetectionTrainConfig, message: str) -> None:
    with pytest.raises(DataError, match=message):
        new_network(DetectionTask(), config, pretrained=False)


def test_a_detector_reads_no_edits() -> None:
    with pytest.raises(DataError, match="plain is no method of the task edit_reading"):
        new_network(EditTask(), EditTrainConfig(method="plain", size=64), pretrained=False)


def test_a_network_has_its_configurations_options_and_size() -> None:
    config = replace(CONFIG, options={**CONFIG.options, "width": 16}, size=96)
    network = new_network(DetectionTask(), config, pretrained=True)
    assert network.size == 96 and network.autoencoder.codebook.shape[1] == 16


def test_weights_are_looked_for_only_where_they_are_wanted() -> None:
    config = replace(CONFIG, options={**CONFIG.options, "weights": "nowhere.safetensors"})
    new_network(DetectionTask(), config, pretrained=False)
    with pytest.raises(DataError):
        new_network(DetectionTask(), config, pretrained=True)


def test_an_unfinished_run_is_not_loaded(tmp_path: Path) -> None:
    Run(tmp_path, CONFIG, "0")
    with pytest.raises(DataError, match="the run is not finished; start the same command again to resume it"):
        load_network(tmp_path)


@pytest.mark.parametrize("name", [".", "nowhere"])
def test_a_folder_without_a_run_is_not_loaded(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run folder of this version"):
        load_network(tmp_path / name)


def test_a_finished_run_comes_back_in_half_precision(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", seed=4)
    torch.manual_seed(4)
    expected = new_network(DetectionTask(), config_of(run), pretrained=False).state_dict()
    state = load_network(run).state_dict()
    assert state.keys() == expected.keys()
    for name, value in state.items():
        assert torch.equal(value, expected[name].half().to(value.dtype)), name
