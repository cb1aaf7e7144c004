"""ONNX files of networks: half-precision weights, a free batch size, nothing of this machine in them. Lab only."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

_SMALL = 64  # tensors with fewer numbers stay float32: halving them saves nothing


def onnx_model(module: nn.Module, size: int, outputs: Sequence[str]) -> onnx.ModelProto:
    """A network as an ONNX model with a free batch size, in float32.

    Args:
        module: from float32 (B, 3, size, size) in [0, 1] to a tuple of tensors with B first.
        size: side of its input in pixels.
        outputs: names of what it gives, in order; the input is called "faces".
    """
    program = torch.onnx.export(
        module.eval(),
        (torch.rand(2, 3, size, size),),
        input_names=["faces"],
        output_names=list(outputs),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    assert program is not None  # dynamo=True always returns a program
    return program.model_proto


def write_onnx(module: nn.Module, size: int, outputs: Sequence[str], path: Path) -> None:
    """Write a network's ONNX file, its weights stored in half precision and computed with in float32.

    Args:
        module, size, outputs: see `onnx_model`.
        path: of the file.
    """
    model = onnx_model(module, size, outputs)
    nodes, kept = [], []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < _SMALL:
            kept.append(tensor)
            continue
        kept.append(numpy_helper.from_array(array.astype(np.float16), f"{tensor.name}.half"))
        nodes.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    body = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *body])
    # The exporter writes the stack trace behind every node: paths of this machine.
    for part in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
    ):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
