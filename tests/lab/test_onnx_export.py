"""The ONNX file of a network: what it says, how it keeps its weights, what it does not tell."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
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


def test_kernels_as_bytes_with_a_factor_for_each_channel(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 160, 3, groups=4), nn.Flatten()).eval()
    with torch.no_grad():
        network[2].weight[5] = 0  # a channel of zeros has no factor of its own
        network[2].weight[6] *= 1000

    class Wrapped(nn.Module):
        def forward(self, faces: Tensor) -> tuple[Tensor]:
            return (network(faces),)

    wrapped, paths = Wrapped(), {kind: tmp_path / f"{kind}.onnx" for kind in ("half", "int8")}
    for kind, path in paths.items():
        write_onnx(wrapped, 9, ["vector"], path, stored=kind)  # type: ignore[arg-type]
    assert paths["int8"].stat().st_size < 0.75 * paths["half"].stat().st_size
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(paths["int8"]).graph.initializer}
    stored = [name.removesuffix(".int8") for name in held if name.endswith(".int8")]
    assert [held[f"{name}.int8"].shape for name in stored] == [(160, 8, 3, 3)]  # the first has rows of 27 numbers
    state = {tuple(value.shape): value.numpy() for value in network.state_dict().values()}
    for name in stored:
        whole, factors = held[f"{name}.int8"], held[f"{name}.factors"]
        expected = state[whole.shape]
        assert whole.dtype == np.int8 and np.isfinite(factors).all() and whole.min() >= -127
        # Of every channel the largest weight is 127 factors, and none is more than half a factor off.
        assert (np.abs(whole * factors - expected) <= 0.5001 * factors).all()
        rows = np.abs(expected).reshape(len(expected), -1).max(1) > 0
        assert (np.abs(whole).reshape(len(whole), -1).max(1)[rows] == 127).all()
    faces = np.random.default_rng(0).random((2, 3, 9, 9), np.float32)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    session = onnxruntime.InferenceSession(str(paths["int8"]), options, ["CPUExecutionProvider"])
    # Once loaded, nothing is brought to float32 any more.
    assert not {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node} & {"Cast", "Mul"}
    result = session.run(None, {"faces": faces})[0]
    expected = network(torch.from_numpy(faces)).detach().numpy()
    assert np.abs(result - expected).max() < 0.01 * np.abs(expected).max()


class Coded(nn.Module):
    """The nearest of 40 codes to what a kernel gives, through a second kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 80, 3)
        self.codes = nn.Parameter(torch.zeros(40, 16))

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        places = self.before(faces).permute(0, 2, 3, 1)
        index = (self.codes.square().sum(1) - 2 * places @ self.codes.T).argmin(-1)
        return index.float(), self.after(self.codes.detach()[index].permute(0, 3, 1, 2))


@pytest.mark.parametrize("stored", ["half", "int8"])
def test_weights_that_choose_an_index_are_not_rounded(stored: Literal["half", "int8"], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, faces = Coded(), torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        places = network.before(faces).permute(0, 2, 3, 1).flatten(0, 2)
        network.codes.copy_(places[torch.randperm(len(places))[:40]])  # many places are as near to two of them
        chosen = network(faces)[0].numpy()
        rounded = copy.deepcopy(network)
        rounded.before.half().float()
        rounded.codes.copy_(rounded.codes.half().float())
        assert (rounded(faces)[0].numpy() != chosen).any()  # what rounding does to them
    write_onnx(network, 24, ["index", "mixed"], tmp_path / "model.onnx", stored=stored)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    assert np.array_equal(session.run(None, {"faces": faces.numpy()})[0], chosen)
    # What comes after the choice is stored as asked for.
    kinds = {tuple(one.dims): one.data_type for one in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert kinds[16, 3, 3, 3] == onnx.TensorProto.FLOAT
    assert kinds[80, 16, 3, 3] == {"half": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}[stored]


def test_weights_beyond_half_precision_stay_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 1), nn.Flatten()).eval()
    with torch.no_grad():
        network[0].weight[0, 0, 0, 0] = 1e5  # infinite in half precision

    class Wrapped(nn.Module):
        def forward(self, faces: Tensor) -> tuple[Tensor]:
            return (network(faces),)

    write_onnx(Wrapped(), 9, ["vector"], tmp_path / "model.onnx")
    faces = np.random.default_rng(0).random((2, 3, 9, 9), np.float32)
    result = onnxruntime.InferenceSession(str(tmp_path / "model.onnx")).run(None, {"faces": faces})[0]
    expected = network(torch.from_numpy(faces)).detach().numpy()
    assert np.isfinite(result).all() and np.abs(result - expected).max() < 2e-3 * np.abs(expected).max()


def test_the_file_tells_nothing_of_the_machine(pack: Pack) -> None:
    content = pack.model_path.read_bytes()
    assert b".py" not in content and str(Path.home()).encode() not in content
