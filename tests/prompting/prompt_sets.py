"""Pictures of families by their colour, a detector whose features are colours, and a tiny sentence encoder."""

from pathlib import Path

import cv2
import numpy as np
import onnx
from naming_runs import tiny_text
from onnx import TensorProto, helper, numpy_helper
from tiny_pack import make_card

from unmask.lab.prompting.sentences import SentenceModel
from unmask.provenance import sha256_of

COLOURS = {"genuine": (20, 20, 20), "swap": (220, 40, 40), "drawn": (40, 220, 40), "mouth": (40, 40, 220)}
FAMILIES = {"swap": "a face swapped onto another head", "drawn": "a whole face drawn by a generator"}


def write_pictures(root: Path, names: tuple[str, ...] = ("genuine", "swap", "drawn"), count: int = 14) -> Path:
    """Folders of noisy pictures of one colour each."""
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(np.array(COLOURS[name]) + rng.normal(0, 30, (40, 40, 3)) + rng.normal(0, 25, 3), 0, 255)
            assert cv2.imwrite(str(root / name / f"{number}.png"), pixels[..., ::-1].astype(np.uint8))
    return root


def write_detector(folder: Path, size: int = 16, crop_margin: float | None = None) -> Path:
    """A detector: means of colours, a hidden layer of five, one linear layer to the logit."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    tensors = {
        "kernels": rng.standard_normal((5, 3, 1, 1)),
        "shift": np.full(5, 0.1),
        "weights": rng.standard_normal((5, 1)),
        "bias": np.zeros(1),
        "axis": None,
        "red": np.array([1, 0, 0]).reshape(1, 3, 1, 1),
    }
    nodes = [
        helper.make_node("Conv", ["faces", "kernels", "shift"], ["mixed"]),
        helper.make_node("GlobalAveragePool", ["mixed"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["hidden"], axis=1),
        helper.make_node("Gemm", ["hidden", "weights", "bias"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["logit"]),
        helper.make_node("Conv", ["faces", "red"], ["small"]),
        helper.make_node("Sigmoid", ["small"], ["map"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["batch", 3, size, size])],
        [
            helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["batch", 1, size, size]),
        ],
        [
            numpy_helper.from_array(np.array([1]) if value is None else value.astype(np.float32), name)
            for name, value in tensors.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "model.onnx"))
    card = make_card(size, sha256_of(folder / "model.onnx"))
    from dataclasses import replace

    replace(card, name="colours", crop_margin=crop_margin or 1.4).write(folder / "card.json")
    return folder


def tiny_sentences() -> SentenceModel:
    """The text half of 384 numbers."""
    return SentenceModel(*tiny_text(), 20.0).eval()
