"""ONNX files of networks: compact weights, a free batch size, nothing of this machine in them. Lab only."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

Stored = Literal["half", "int8"]
_SMALL = 64  # tensors with fewer numbers stay float32: halving them saves nothing
_LARGE, _LONG = 10_000, 64  # numbers of a tensor, and of its rows, from which bytes save enough for what they lose
_HALF_MAX = float(np.finfo(np.float16).max)
_CHOICES = ("ArgMin", "ArgMax", "TopK")


def onnx_model(
    module: nn.Module, size: int, outputs: Sequence[str], example: Mapping[str, Tensor] | None = None
) -> onnx.ModelProto:
    """A network as an ONNX model with a free batch size, in float32.

    Args:
        module: from float32 (B, 3, size, size) in [0, 1], or what `example` has, to a tuple of tensors with B first.
        size: side of its input in pixels.
        outputs: names of what it gives, in order.
        example: its inputs by name, two of each; None for one input, "faces".
    """
    inputs = {"faces": torch.rand(2, 3, size, size)} if example is None else example
    free = {0: torch.export.Dim("batch")}
    program = torch.onnx.export(
        module.eval(),
        tuple(inputs.values()),
        input_names=list(inputs),
        output_names=list(outputs),
        dynamo=True,
        dynamic_shapes=(free,) * len(inputs),
        external_data=False,
        verbose=False,
    )
    assert program is not None  # dynamo=True always returns a program
    model = program.model_proto
    keep_finite(model.graph)
    return model


def keep_finite(graph: onnx.GraphProto) -> int:
    """Rewrite in place what loses finite values: ONNX Runtime's sigmoid is 0 from -18 down, and its logarithm infinite.

    Log(Sigmoid(x)), as the exporter writes torch's logsigmoid, becomes -Softplus(-x), and Log(Softmax(x)) becomes
    LogSoftmax(x): the same numbers where both are finite. Every other node stays as it is.

    Returns:
        How many logarithms were rewritten.
    """
    makers = {name: node for node in graph.node for name in node.output}
    nodes, rewritten = [], 0
    for node in graph.node:
        inner = makers.get(node.input[0]) if node.op_type == "Log" else None
        if inner is not None and inner.op_type == "Sigmoid":
            name = node.output[0]
            nodes += [
                helper.make_node("Neg", [inner.input[0]], [f"{name}.negative"]),
                helper.make_node("Softplus", [f"{name}.negative"], [f"{name}.softplus"]),
                helper.make_node("Neg", [f"{name}.softplus"], [name]),
            ]
        elif inner is not None and inner.op_type == "Softmax":
            made = helper.make_node("LogSoftmax", [inner.input[0]], [node.output[0]])
            made.attribute.extend(inner.attribute)
            nodes.append(made)
        else:
            nodes.append(node)
            continue
        rewritten += 1
    used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    kept = [node for node in nodes if node.op_type not in ("Sigmoid", "Softmax") or used.intersection(node.output)]
    del graph.node[:]
    graph.node.extend(kept)
    return rewritten


def write_onnx(
    module: nn.Module,
    size: int,
    outputs: Sequence[str],
    path: Path,
    example: Mapping[str, Tensor] | None = None,
    stored: Stored = "half",
) -> None:
    """Write a network's ONNX file; whatever its weights are stored in, they are computed with in float32.

    Args:
        module, size, outputs, example: see `onnx_model`.
        path: of the file.
        stored: "half", or "int8": matrices and kernels as whole numbers from -127 to 127 with a factor for each row of
            the first axis, which is the output channel of kernels (symmetric quantisation of weights alone;
            Krishnamoorthi 2018, arXiv 1806.08342), all else in half precision, small tensors and depthwise kernels
            among it: they are a small part of a network, and their errors do not average out. ONNX Runtime brings all
            to float32 once, when it loads the file.

    In float32 stay, whatever `stored` says, weights that the choice of an index depends on, such as those before a
    codebook: rounded, they choose other codes, which no small difference of the output bounds. So do weights too large
    for half precision.
    """
    model = onnx_model(module, size, outputs, example)
    nodes, kept, deciding = [], [], _deciding(model.graph)
    for tensor in model.graph.initializer:
        array, name = numpy_helper.to_array(tensor), tensor.name
        if array.dtype != np.float32 or array.size < _SMALL or name in deciding or np.abs(array).max() > _HALF_MAX:
            kept.append(tensor)
        elif stored == "int8" and array.size >= _LARGE and array[0].size >= _LONG:
            whole, factors = _quantised(array)
            kept += [
                numpy_helper.from_array(whole, f"{name}.int8"),
                numpy_helper.from_array(factors, f"{name}.factors"),
            ]
            nodes.append(helper.make_node("Cast", [f"{name}.int8"], [f"{name}.whole"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Mul", [f"{name}.whole", f"{name}.factors"], [name]))
        else:
            kept.append(numpy_helper.from_array(array.astype(np.float16), f"{name}.half"))
            nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
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


def _deciding(graph: onnx.GraphProto) -> set[str]:
    """The names of all that an index is chosen by: what comes before an ArgMin, ArgMax or TopK."""
    makers = {name: node for node in graph.node for name in node.output}
    pending = [name for node in graph.node if node.op_type in _CHOICES for name in node.input]
    names = set(pending)
    while pending:
        node = makers.get(pending.pop())
        fresh = set() if node is None else set(node.input) - names
        names |= fresh
        pending += fresh
    return names


def _quantised(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (C, ...) as int8, and the factors (C, 1, ...) that bring them back."""
    largest = np.abs(weights).reshape(len(weights), -1).max(1).reshape(-1, *(1,) * (weights.ndim - 1))
    factors = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(weights / factors).astype(np.int8), factors
