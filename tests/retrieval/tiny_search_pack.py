"""A pack for sketch search made on the spot: the embedding is the picture in a few cells, small enough to foresee."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from unmask.packs.card import Card, Metric
from unmask.provenance import sha256_of


def write_search_pack(folder: Path, *, size: int = 32, cells: int = 4, gain: float = 1.0, **changes: Any) -> Path:
    """Write the pack; its embedding is gain * the grey mean of each of cells x cells cells, less 0.5.

    `changes` are to fields of the card.
    """
    folder.mkdir(parents=True)
    grey = np.full((1, 3, 1, 1), gain / 3, np.float32)
    step = size // cells
    nodes = [
        helper.make_node("Conv", ["pictures", "grey"], ["mixed"]),
        helper.make_node("AveragePool", ["mixed"], ["pooled"], kernel_shape=[step, step], strides=[step, step]),
        helper.make_node("Flatten", ["pooled"], ["embedding"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", cells * cells])],
        [numpy_helper.from_array(grey, "grey")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    values: dict[str, Any] = {
        "name": "tiny_search",
        "version": "1",
        "task": "sketch_search",
        "description": "The picture in a few cells.",
        "input_size": (size, size),
        "colour_order": "RGB",
        "mean": (0.5, 0.5, 0.5),
        "std": (1.0, 1.0, 1.0),
        "crop_margin": None,
        "outputs": ("embedding",),
        "licence": "Apache-2.0",
        "origin": "made by the tests",
        "training_data": "none",
        "training_data_terms": "none",
        "training_data_sha256": "0" * 64,
        "protocol": {"seed": 0},
        "metrics": (Metric(dataset="none", name="mAP@all", value=0.5, low=0.4, high=0.6, n_real=1, n_forged=0),),
        "calibration": None,
        "operating_points": (),
        "limits": ("Knows nothing of drawings.",),
        "sha256": sha256_of(folder / "model.onnx"),
    }
    Card(**(values | changes)).write(folder / "card.json")
    return folder
