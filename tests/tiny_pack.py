"""A forgery pack made on the spot: a known linear function of the colours, small enough to check by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from unmask.packs.card import Calibration, CalibrationBin, Card, Metric, OperatingPoint
from unmask.provenance import sha256_of


def make_card(size: int, sha256: str) -> Card:
    """A complete card for the model below."""
    return Card(
        name="tiny",
        version="1",
        task="forgery_detection",
        description="A linear function of the mean colour.",
        input_size=(size, size),
        colour_order="RGB",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        crop_margin=1.4,
        outputs=("logit", "map"),
        licence="Apache-2.0",
        origin="made by the tests",
        training_data="none",
        training_data_terms="none",
        training_data_sha256="0" * 64,
        protocol={"seed": 0},
        metrics=(Metric(dataset="none", name="auc", value=0.5, low=0.4, high=0.6, n_real=1, n_forged=1),),
        calibration=Calibration(
            method="none",
            data="none",
            bins=(
                CalibrationBin(
                    quality_min=0, quality_max=100, slope=1, intercept=0, lower=-1, upper=1, n_real=1, n_forged=1
                ),
            ),
            cllr=1.0,
            cllr_min=1.0,
            decision_log10_lr=0.5,
            min_quality=20.0,
            min_face_px=32.0,
        ),
        operating_points=(
            OperatingPoint(name="any", threshold=0.5, false_alarm_rate=0.5, hit_rate=0.5, dataset="none"),
        ),
        limits=("Knows nothing of faces.",),
        sha256=sha256,
    )


def write_pack(folder: Path, *, size: int = 16, gain: float = 1.0, **changes: Any) -> Path:
    """Write the pack; its logit is gain * mean(R + 2 G - 3 B), its map sigmoid of the red channel at a quarter size.

    `changes` are to fields of the card.
    """
    folder.mkdir()
    weights = np.array([1, 2, -3], np.float32).reshape(1, 3, 1, 1) * np.float32(gain)
    red = np.array([1, 0, 0], np.float32).reshape(1, 3, 1, 1)
    nodes = [
        helper.make_node("Conv", ["faces", "weights"], ["mixed"]),
        helper.make_node("GlobalAveragePool", ["mixed"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["column"], axis=1),
        helper.make_node("Squeeze", ["column", "axis"], ["logit"]),
        helper.make_node("Conv", ["faces", "red"], ["red_only"]),
        helper.make_node("AveragePool", ["red_only"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Sigmoid", ["small"], ["map"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["batch", 3, size, size])],
        [
            helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["batch", 1, size // 4, size // 4]),
        ],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(red, "red"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    card = make_card(size, sha256_of(folder / "model.onnx"))
    replace(card, **changes).write(folder / "card.json")
    return folder
