"""A prompt pack made on the spot: logits are the mean colours, red for one family and blue for the other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_pack import make_card

from unmask.packs.card import NamingCalibration
from unmask.provenance import sha256_of


def write_prompt_pack(folder: Path, *, size: int = 16, bias: float = -5.0, min_face_px: float = 32.0) -> Path:
    """Write the pack; a logit is ten times the mean of red, or of blue, and `bias` is that of none."""
    folder.mkdir()
    weights = np.array([[10, 0, 0], [0, 0, 10]], np.float32).reshape(2, 3, 1, 1)
    nodes = [
        helper.make_node("Conv", ["faces", "weights"], ["mixed"]),
        helper.make_node("GlobalAveragePool", ["mixed"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"], axis=1),
        helper.make_node("Identity", ["logits"], ["features"]),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("logits", "features")]
    faces = helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["batch", 3, size, size])
    graph = helper.make_graph(nodes, "tiny", [faces], outputs, [numpy_helper.from_array(weights, "weights")])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    naming = NamingCalibration(
        names=("warm", "cool"),
        words=("a face made warmer", "a face made cooler"),
        background=0,
        temperature=1.0,
        bias=bias,
        none_share=0.5,
        error=0.1,
        n=10,
        min_face_px=min_face_px,
        method="none",
        data="none",
    )
    card = replace(
        make_card(size, sha256_of(folder / "model.onnx")),
        name="families",
        task="prompt_naming",
        outputs=("logits", "features"),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        calibration=None,
        operating_points=(),
        naming=naming,
    )
    card.write(folder / "card.json")
    return folder
