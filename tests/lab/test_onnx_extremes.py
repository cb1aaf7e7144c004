"""What ONNX Runtime says of extreme numbers: of functions that lose them elsewhere, and of every method's heads.

Detectors and readers of edits have batteries of their own, which hold them to the same.
"""

import copy
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from driven_heads import compare_extremes
from onnx import TensorProto, helper
from painting_runs import network as painting_network
from torch import Tensor, nn
from torch.nn import functional

from unmask.lab.classification.task import ClassificationTask
from unmask.lab.inpainting.task import InpaintingTask
from unmask.lab.methods import METHODS, build
from unmask.lab.onnx_export import keep_finite, onnx_model
from unmask.lab.search.task import SearchTask
from unmask.packs import embedded_packs, load_pack

pytestmark = pytest.mark.lab

SIDE = 112
VALUES = torch.tensor([[0.0, 0, 0, 0], [100, -100, 30, -30], [-200, -300, -500, -1000], [1e4, -1e4, 88.8, 200]])


class Functions(nn.Module):
    """Functions of rows (B, 4) that are finite in torch wherever their argument is."""

    def forward(self, faces: Tensor) -> tuple[Tensor, ...]:
        return (
            functional.logsigmoid(faces),
            faces.softmax(1).clamp(min=1e-30).log(),
            faces.log_softmax(1),
            torch.logsumexp(faces, 1),
            functional.softplus(faces),
            functional.normalize(faces, dim=1),
            (faces * 0).square().sqrt(),
            torch.atan2(faces * 0, faces.square()),
            faces.sigmoid() + faces.tanh(),
        )


def run(model: Any, rows: Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, {"faces": rows.numpy()})
    return outputs


def test_functions_keep_what_is_finite_in_torch() -> None:
    names = ("logsigmoid", "clamped", "log_softmax", "logsumexp", "softplus", "normalize", "sqrt", "atan2", "squashed")
    model = onnx_model(Functions(), 4, names, {"faces": VALUES[:2]})
    for name, exported, expected in zip(names, run(model, VALUES), Functions()(VALUES), strict=True):
        assert expected.isfinite().all(), name
        np.testing.assert_allclose(exported, expected.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


def graph_of(*nodes: Any, outputs: tuple[str, ...] = ("y",)) -> Any:
    shaped = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("faces", *outputs)]
    return helper.make_model(
        helper.make_graph(list(nodes), "g", shaped[:1], shaped[1:]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )


def test_the_logarithm_of_a_sigmoid_or_softmax_is_rewritten_and_nothing_else() -> None:
    model = graph_of(
        helper.make_node("Sigmoid", ["faces"], ["p"]),
        helper.make_node("Log", ["p"], ["y"]),
        helper.make_node("Softmax", ["faces"], ["s"], axis=1),
        helper.make_node("Log", ["s"], ["z"]),
        helper.make_node("Exp", ["y"], ["e"]),
        outputs=("y", "z", "s", "e"),
    )
    before = run(model, VALUES)
    assert not np.isfinite(before[0]).all() and not np.isfinite(before[1]).all()  # what is lost otherwise
    assert keep_finite(model.graph) == 2
    assert [node.op_type for node in model.graph.node] == ["Neg", "Softplus", "Neg", "Softmax", "LogSoftmax", "Exp"]
    after = run(model, VALUES)
    np.testing.assert_allclose(after[0], functional.logsigmoid(VALUES).numpy(), rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(after[1], VALUES.log_softmax(1).numpy(), rtol=1e-5)
    assert np.array_equal(after[2], before[2]) and keep_finite(model.graph) == 0


@pytest.mark.parametrize("name", embedded_packs())
def test_embedded_packs_have_no_logarithm_that_loses_numbers(name: str) -> None:
    assert keep_finite(onnx.load(load_pack(name, calibrated=False).model_path).graph) == 0


@pytest.mark.slow
def test_classes_of_small_pictures() -> None:
    torch.manual_seed(0)
    network = build("resnet", {"width": 4}, ("a", "b", "c"), 16).eval()
    pictures = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert compare_extremes(ClassificationTask(), network, 16, {"faces": pictures})


@pytest.mark.slow
def test_noise_of_the_generator() -> None:
    task, network = InpaintingTask(), copy.deepcopy(painting_network())
    example = task.example(network)
    assert example is not None and compare_extremes(task, network, network.size, example)


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.task == "sketch_search"])
def test_vectors_of_any_length(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a vector of none: it stays zero."""
    torch.manual_seed(0)
    small = {} if method == "sketch-face" else {"backbone": "mobilenetv3_small_050", "weights": "none"}
    network: Any = build(method, small).eval()
    plain = network.forward
    # The first value of a picture decides how long its vector is: from none at 0.5 to a million times its own at 1.
    monkeypatch.setattr(network, "forward", lambda faces: plain(faces) * (faces[:, :1, 0, 0] - 0.5) * 2e6)
    task, pictures = SearchTask(), torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    pictures[:, 0, 0, 0] = torch.tensor([0.5, 0.5 + 1e-6, 1.0])
    module = task.exported(network).eval()
    with torch.no_grad():
        expected = module(pictures)[0]
    exported = run(onnx_model(module, SIDE, task.outputs), pictures)[0]
    assert not exported[0].any() and np.isfinite(exported).all()
    np.testing.assert_allclose(exported, expected.numpy(), rtol=1e-3, atol=1e-3)
