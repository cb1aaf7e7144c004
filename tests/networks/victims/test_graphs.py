"""Readers of published graphs: small graphs by hand, and files that are none."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from unmask.errors import DataError
from unmask.networks.victims.dlib_resnet import DlibResNet
from unmask.networks.victims.tensorflow_graph import Node, TensorFlowGraph, read_graph, same_padding, unpacked_weights
from unmask.networks.victims.tflite_graph import read_tflite

pytestmark = pytest.mark.lab


def write_tfjs(folder: Path, operation: str = "Add") -> tuple[Path, Path]:
    nodes = [
        {"name": "x", "op": "Placeholder"},
        {"name": "w", "op": "Const"},
        {"name": "y", "op": operation, "input": ["x", "w:0", "^x"], "attr": {"T": {"type": 1}}},
        {"name": "unused", "op": "Sin", "input": ["y"]},
    ]
    packing = {"dtype": "uint8", "scale": 0.5, "min": -1.0}
    group = {"weights": [{"name": "w", "shape": [2], "dtype": "float32", "quantization": packing}]}
    model = {"modelTopology": {"node": nodes}, "weightsManifest": [group]}
    (folder / "m.json").write_text(json.dumps(model))
    (folder / "m.bin").write_bytes(bytes([0, 6]))
    return folder / "m.json", folder / "m.bin"


def test_a_small_graph(tmp_path: Path) -> None:
    model, weights = write_tfjs(tmp_path)
    graph = read_graph(model, "y", weights)
    assert graph(torch.zeros(1, 1, 1, 2)).flatten().tolist() == [-1.0, 2.0]
    assert not list(graph.parameters()) and [tuple(b.shape) for b in graph.buffers()] == [(2,)]


def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    model, weights = write_tfjs(tmp_path, "Cosh")
    with pytest.raises(DataError, match="Cosh"):
        read_graph(model, "y", weights)
    with pytest.raises(DataError, match="no node z"):
        read_graph(model, "z", weights)
    weights.write_bytes(b"\0\0\0")
    with pytest.raises(DataError, match="not a readable TensorFlow graph"):
        read_graph(model, "y", weights)


@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff\xff", b"{}", bytes(range(256))])
def test_files_of_something_else_are_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    for read in (
        lambda: read_graph(file, "y"),
        lambda: read_graph(file, "y", file),
        lambda: read_tflite(file),
        lambda: DlibResNet(file, file),
    ):
        with pytest.raises(DataError):
            read()


def test_an_odd_pixel_of_padding_goes_to_the_end() -> None:
    padded = same_padding(torch.ones(1, 1, 4, 5), (3, 3), (2, 2), -1.0)
    assert padded.shape == (1, 1, 5, 7) and (padded[0, 0, -1] == -1).all() and (padded[0, 0, 0, 1:-1] == 1).all()


def test_a_dilated_convolution_is_not_taken_for_a_plain_one() -> None:
    attributes = {"strides": [1, 1, 1, 1], "dilations": [1, 2, 2, 1], "padding": "VALID"}
    nodes = [Node("x", "Placeholder", ()), Node("k", "Const", ()), Node("y", "Conv2D", ("x", "k"), attributes)]
    graph = TensorFlowGraph(nodes, {"k": np.ones((3, 3, 1, 1), np.float32)}, "y")
    with pytest.raises(DataError, match="dilated"):
        graph(torch.zeros(1, 9, 9, 1))


def test_half_floats_are_widened() -> None:
    entry = {"name": "w", "shape": [2], "dtype": "float32", "quantization": {"dtype": "float16"}}
    values = unpacked_weights([entry], np.array([0.5, 2], np.float16).tobytes())
    assert values["w"].dtype == np.float32 and values["w"].tolist() == [0.5, 2]
