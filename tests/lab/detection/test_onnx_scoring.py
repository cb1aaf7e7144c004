"""Scores through ONNX Runtime are those of plain torch, and no crop is shown to a network twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stored_paths import write_run
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.forgery.detector import Detector, DetectorOutput
from unmask.forgery.fedforgery import FedForgery
from unmask.forgery.fusion import Fused
from unmask.forgery.plain import Plain
from unmask.lab.detection import onnx_scoring
from unmask.lab.detection.onnx_scoring import OnnxDetector, digests_of, onnx_scorer, scorer_of_runs
from unmask.lab.detection.scoring import logits_of
from unmask.lab.train import load_network

pytestmark = pytest.mark.lab
CPU = torch.device("cpu")
SIZE = 64
CROPS = np.random.default_rng(0).integers(0, 256, (19, SIZE, SIZE, 3), np.uint8)


class Edge(Detector):
    """A detector that is quick to export: its map is half the size of the faces, or a quarter."""

    size = SIZE

    def __init__(self, gain: float = 1.0, stride: int = 2) -> None:
        super().__init__()
        self.gain, self.pool = gain, nn.AvgPool2d(stride)

    def forward(self, faces: Tensor) -> DetectorOutput:
        cells = self.gain * (self.pool(faces).mean(1, keepdim=True) - 0.4)
        return DetectorOutput(40 * cells.mean((1, 2, 3)), cells)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many crops every network was shown, call by call."""
    import onnxruntime

    counts: list[int] = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def run(self, names: Any, given: dict[str, np.ndarray]) -> Any:
            counts.append(len(given["faces"]))
            return super().run(names, given)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return counts


@pytest.mark.parametrize(
    "make",
    [
        lambda: [Edge(2.0), Edge(5.0, stride=4)],
        pytest.param(lambda: [Plain("both", "none")], marks=pytest.mark.slow),
        pytest.param(lambda: [Plain("rgb", "none"), FedForgery(weights="none")], marks=pytest.mark.slow),
    ],
    ids=["small", "plain", "fused"],
)
def test_it_says_what_torch_says(make: Callable[[], list[Detector]]) -> None:
    torch.manual_seed(0)
    members = [member.eval() for member in make()]
    for member in members:
        member.size = SIZE
        for module in member.modules():  # as after training: normalisations that do something
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.1, 0.1)
                nn.init.uniform_(module.running_var, 0.8, 1.2)
    expected, expected_maps = logits_of(Fused(members), CROPS, CPU)
    logits, maps = onnx_scorer([OnnxDetector(member) for member in members])(CROPS)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(maps, expected_maps, atol=1e-4, rtol=0)
    assert maps.dtype == logits.dtype == np.float32


def test_a_crop_is_shown_once(shown: list[int]) -> None:
    """Whoever asks again, in whatever order, among others and twice in one call; every network has its own memory."""
    one, other = OnnxDetector(Edge(2.0)), OnnxDetector(Edge(3.0))
    first = onnx_scorer([one])(CROPS[:10])
    assert sum(shown) == 10
    again = onnx_scorer([one])(CROPS[[3, 15, 3, 15, 0]])
    assert sum(shown) == 11
    np.testing.assert_array_equal(again[0][[0, 2, 4]], first[0][[3, 3, 0]])
    np.testing.assert_array_equal(again[1][[0, 2, 4]], first[1][[3, 3, 0]])
    assert again[0][1] == again[0][3] != again[0][0]
    fused = onnx_scorer([one, other])(CROPS[:10])[0]
    assert sum(shown) == 21
    alone = [onnx_scorer([each])(CROPS[:10])[0] for each in (one, other)]
    np.testing.assert_allclose(fused, np.log(np.mean(np.exp(alone), axis=0)), rtol=1e-5)
    assert sum(shown) == 21


def test_no_more_crops_are_remembered_than_a_condition_has(shown: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were asked for last; a call may be larger than the memory."""
    monkeypatch.setattr(onnx_scoring, "_REMEMBERED", 4)
    score = onnx_scorer([OnnxDetector(Edge())])
    everything = score(CROPS[:10])[0]
    score(CROPS[6:10])
    assert sum(shown) == 10
    np.testing.assert_array_equal(score(CROPS[:3])[0], everything[:3])
    assert sum(shown) == 13


def test_crops_that_differ_anywhere_have_digests_of_their_own() -> None:
    crops = np.zeros((3, SIZE, SIZE, 3), np.uint8)
    crops[1, -1, -1, -1] = 1
    digests = digests_of(crops)
    assert digests[0] == digests[2] != digests[1]
    assert digests_of(crops[:, ::-1, ::-1, ::-1]) == [
        digests[0],
        digests_of(crops[1:2, ::-1, ::-1, ::-1])[0],
        digests[0],
    ]


@pytest.mark.slow
def test_runs_are_scored_as_their_networks_and_exported_once(
    tmp_path: Path, shown: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_scoring, "_OF_RUNS", {})
    write_run(tmp_path / "a", seed=1)
    expected, _ = logits_of(load_network(tmp_path / "a"), CROPS, CPU)
    np.testing.assert_allclose(scorer_of_runs([tmp_path / "a"])(CROPS)[0], expected, atol=1e-4)
    scorer_of_runs([tmp_path / "a"])(CROPS)
    assert sum(shown) == len(CROPS) and len(onnx_scoring._OF_RUNS) == 1
    # Other weights in the same folder are another network.
    (tmp_path / "a/run.json").unlink()
    write_run(tmp_path / "a", seed=2)
    assert np.abs(scorer_of_runs([tmp_path / "a"])(CROPS)[0] - expected).max() > 1e-3


def test_detectors_of_different_sizes_are_not_fused(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", size=96, window=96)
    with pytest.raises(DataError, match="at 64 and 96 pixels cannot be fused"):
        scorer_of_runs([tmp_path / "a", tmp_path / "b"])


def test_a_network_that_is_no_detector_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "a")
    monkeypatch.setattr(onnx_scoring, "load_network", lambda _: nn.Identity())
    with pytest.raises(DataError, match="not all of them are runs of forgery detectors"):
        scorer_of_runs([tmp_path / "a"])
