"""The ONNX file of a network: what it says, how it keeps its weights, what it does not tell."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny_pack import make_card
from torch import Tensor, nn

from unmask.forgery.detector import Detector, DetectorOutput
from unmask.forgery.fusion import Fused
from unmask.lab.detection.task import DetectionTask
from unmask.lab.export import parity
from unmask.lab.onnx_export import write_onnx
from unmask.packs import Pack, load_pack
from unmask.provenance import sha256_of

pytestmark = pytest.mark.lab

SIZE = 32
TASK = DetectionTask()
CROPS = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


class Small(Detector):
    """Two convolutions, with a normalisation of its own of what it sees and of what it found."""

    mean = (0.4, 0.5, 0.6)
    std = (0.2, 0.25, 0.3)
    size = SIZE

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1))
        self.head = nn.Conv2d(64, 1, 1)

    def forward(self, faces: Tensor) -> DetectorOutput:
        heat = self.head(self.body(self.normalised(faces)).relu())
        return DetectorOutput(4 * heat.mean((1, 2, 3)), heat)


@pytest.fixture(scope="session")
def fused() -> Fused:
    members = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        detector = Small().train()
        with torch.no_grad():
            detector(torch.rand(16, 3, SIZE, SIZE))
        members.append(detector)
    return Fused(members).eval()


@pytest.fixture(scope="session")
def pack(fused: Fused, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("pack")
    write_onnx(TASK.exported(fused), SIZE, TASK.outputs, folder / "model.onnx")
    card = make_card(SIZE, sha256_of(folder / "model.onnx"))
    replace(card, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).write(folder / "card.json")
    return load_pack(folder)


def test_the_pack_says_what_torch_says(fused: Fused, pack: Pack) -> None:
    # Weights are kept in half precision; the arithmetic is float32 in both.
    difference = parity(TASK, fused, pack, CROPS)
    assert difference.keys() == {"logit", "map"} and difference["logit"] < 1e-2 and difference["map"] < 5e-3


def test_parity_sees_another_network(fused: Fused, pack: Pack) -> None:
    torch.manual_seed(5)
    other = parity(TASK, Fused([Small()]).eval(), pack, CROPS)
    assert min(other.values()) > 10 * max(parity(TASK, fused, pack, CROPS).values())


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_any_number_of_faces(pack: Pack, count: int) -> None:
    faces = np.random.default_rng(1).random((count, 3, SIZE, SIZE), np.float32)
    logit, heat = pack.run(faces)
    assert logit.shape == (count,) and heat.shape == (count, 1, SIZE // 4, SIZE // 4)
    assert np.isfinite(logit).all() and (heat >= 0).all() and (heat <= 1).all()


def test_the_packs_faces_are_judged_alone(pack: Pack) -> None:
    faces = np.random.default_rng(2).random((4, 3, SIZE, SIZE), np.float32)
    logit, heat = pack.run(faces)
    for row in range(4):
        one, its_heat = pack.run(faces[row : row + 1])
        np.testing.assert_allclose(one[0], logit[row], atol=1e-5)
        np.testing.assert_allclose(its_heat[0], heat[row], atol=1e-5)


def test_weights_are_kept_in_half_precision(fused: Fused, pack: Pack) -> None:
    """But for tensors with few numbers, where halving saves nothing."""
    model, large = onnx.load(pack.model_path), sum(p.numel() for p in fused.parameters() if p.numel() >= 64)
    kinds: dict[int, list[int]] = {}
    for tensor in model.graph.initializer:
        kinds.setdefault(tensor.data_type, []).append(int(np.prod(tensor.dims)))
    assert sum(kinds[onnx.TensorProto.FLOAT16]) == large
    assert max(kinds[onnx.TensorProto.FLOAT]) < 64
    assert [output.name for output in model.graph.output] == ["logit", "map"]
    assert [tensor.name for tensor in model.graph.input] == ["faces"]


def test_the_file_tells_nothing_of_the_machine(pack: Pack) -> None:
    content = pack.model_path.read_bytes()
    assert b".py" not in content and str(Path.home()).encode() not in content
