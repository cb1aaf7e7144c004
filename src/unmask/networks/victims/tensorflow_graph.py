"""TensorFlow graphs in torch, frozen and with gradients: GraphDef files (.pb) and TensorFlow.js models (.json).

Only the operations of published face recognisers are known. Activations stay in TensorFlow's order (B, H, W, C).
Lab only: torch.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError

_DTYPES = {1: np.float32, 3: np.int32, 9: np.int64, 10: np.bool_, 19: np.float16}  # TensorFlow's numbers
_LISTS = {1: "float_val", 3: "int_val", 9: "int64_val", 10: "bool_val"}


@dataclass(frozen=True)
class Node:
    """One operation: its name, what it is, the names of its inputs, and its attributes as plain values."""

    name: str
    operation: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


class TensorFlowGraph(nn.Module):
    """What a graph computes from its one placeholder.

    Args:
        nodes: of the graph, in any order.
        weights: constants by the name of their node.
        output: the name of the node that is wanted; what it does not need is left out.

    Raises:
        DataError: no such node, or operations that are not known here.
    """

    def __init__(self, nodes: Sequence[Node], weights: Mapping[str, np.ndarray], output: str) -> None:
        super().__init__()
        by_name = {node.name: node for node in nodes}
        self._nodes = [by_name[name] for name in _ancestors(by_name, output)]
        self._output = output
        unknown = sorted({node.operation for node in self._nodes} - {"Const", "Placeholder", *_OPERATIONS})
        if unknown:
            raise DataError(f"operations {', '.join(unknown)} are not those of a known recogniser")
        self._places = {}
        for number, node in enumerate(one for one in self._nodes if one.operation == "Const"):
            self._places[node.name] = f"weight_{number}"
            value = weights[node.name]
            kept = value.astype(np.float32) if value.dtype.kind == "f" else value
            self.register_buffer(f"weight_{number}", torch.from_numpy(np.array(kept)))

    def forward(self, x: Tensor) -> Tensor:
        """The output of the graph for its placeholder's value, float32 (B, H, W, C)."""
        values: dict[str, Tensor] = {}
        for node in self._nodes:
            if node.operation == "Const":
                values[node.name] = getattr(self, self._places[node.name])
            elif node.operation == "Placeholder":
                values[node.name] = x
            else:
                given = [values[name] for name in node.inputs]
                values[node.name] = _OPERATIONS[node.operation](node.attributes, *given)
        return values[self._output]

    def layers(self) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
        """Kernels with biases of the convolutions, and the constant factors of products, each in the graph's order."""
        own = {name: getattr(self, place) for name, place in self._places.items()}
        convolutions = [node for node in self._nodes if node.operation in ("Conv2D", "DepthwiseConv2dNative")]
        products = [node for node in self._nodes if node.operation == "Mul"]
        return (
            [(own[node.inputs[1]], own[node.inputs[2]]) for node in convolutions],
            [own[name] for node in products for name in node.inputs if name in own],
        )


def read_graph(path: Path, output: str, weights: Path | None = None) -> TensorFlowGraph:
    """A graph from its file.

    Args:
        path: a frozen GraphDef (.pb) or a TensorFlow.js graph model (.json).
        output: name of the node that is wanted.
        weights: of a TensorFlow.js model: the file of its one group of weights.

    Raises:
        DataError: it is no such file.
    """
    try:
        nodes, values = _read_frozen(path) if weights is None else _read_tfjs(path, weights)
    except (OSError, ValueError, KeyError, TypeError, DecodeError) as error:
        raise DataError(f"{path}: not a readable TensorFlow graph ({type(error).__name__})") from error
    return TensorFlowGraph(nodes, values, output)


def _ancestors(nodes: Mapping[str, Node], output: str) -> list[str]:
    """The output and all that it needs, each after what it needs itself."""
    if output not in nodes:
        raise DataError(f"the graph has no node {output}")
    order: dict[str, None] = {}
    waiting = [(output, False)]
    while waiting:
        name, ready = waiting.pop()
        if ready:
            order.setdefault(name)
        elif name not in order:
            waiting.append((name, True))
            waiting += [(one, False) for one in nodes[name].inputs if one not in order]
    return list(order)


def _inputs(names: Sequence[str]) -> tuple[str, ...]:
    """Names of nodes, without output numbers and without what only has to run before."""
    return tuple(name.split(":")[0] for name in names if not name.startswith("^"))


def _read_tfjs(path: Path, file: Path) -> tuple[list[Node], dict[str, np.ndarray]]:
    model = json.loads(path.read_text(encoding="utf-8"))
    (group,) = model["weightsManifest"]
    nodes = []
    for node in model["modelTopology"]["node"]:
        attributes = {name: _json_value(value) for name, value in node.get("attr", {}).items()}
        nodes.append(Node(node["name"], node["op"], _inputs(node.get("input", ())), attributes))
    return nodes, unpacked_weights(group["weights"], file.read_bytes())


def _json_value(value: Mapping[str, Any]) -> Any:
    if "list" in value:
        texts = [base64.b64decode(text).decode() for text in value["list"].get("s", ())]
        return texts or [int(number) for number in value["list"].get("i", ())]
    if "s" in value:
        return base64.b64decode(value["s"]).decode()
    return int(value["i"]) if "i" in value else value.get("b", value.get("f"))


def unpacked_weights(entries: Sequence[Mapping[str, Any]], data: bytes) -> dict[str, np.ndarray]:
    """The weights of a TensorFlow.js group, by name.

    Args:
        entries: of its manifest, in the file's order; 8 or 16 bit integers are scaled, 16 bit floats widened.
        data: the file's bytes.

    Raises:
        ValueError: the file is shorter or longer than the manifest says.
    """
    weights: dict[str, np.ndarray] = {}
    place = 0
    for entry in entries:
        packing = entry.get("quantization")
        kind = np.dtype(packing["dtype"] if packing else entry["dtype"]).newbyteorder("<")
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(data, kind, count, place)
        place += kind.itemsize * count
        if packing and kind.kind == "u":
            values = values.astype(np.float32) * packing["scale"] + packing["min"]
        weights[entry["name"]] = values.reshape(entry["shape"]).astype(np.float32 if kind.kind != "i" else np.int64)
    if place != len(data):
        raise ValueError(f"{len(data)} bytes of weights, {place} expected")
    return weights


def _read_frozen(path: Path) -> tuple[list[Node], dict[str, np.ndarray]]:
    graph = _graph_type()()
    graph.ParseFromString(path.read_bytes())
    nodes, weights = [], {}
    for node in graph.node:
        values = {entry.key: entry.value for entry in node.attr}
        if node.op == "Const":
            weights[node.name] = _tensor(values.pop("value").tensor)
        attributes = {name: _proto_value(value) for name, value in values.items()}
        nodes.append(Node(node.name, node.op, _inputs(node.input), attributes))
    return nodes, weights


def _proto_value(value: Any) -> Any:
    if value.HasField("list"):
        return [text.decode() for text in value.list.s] or list(value.list.i)
    if value.HasField("s"):
        return value.s.decode()
    return next((getattr(value, name) for name in ("i", "f", "b") if value.HasField(name)), None)


def _tensor(proto: Any) -> np.ndarray:
    shape = [dimension.size for dimension in proto.tensor_shape.dim]
    kind = np.dtype(_DTYPES[proto.dtype])
    if proto.tensor_content:
        return np.frombuffer(proto.tensor_content, kind).reshape(shape)
    values = np.array(getattr(proto, _LISTS[proto.dtype]), kind)
    # A tensor of one value throughout holds it once.
    return np.resize(values, shape) if values.size else np.zeros(shape, kind)


def _graph_type() -> Any:
    """The message type GraphDef, with the fields that are read here; a reader passes over what it does not know."""
    file = descriptor_pb2.FileDescriptorProto(name="unmask_graph.proto", package="unmask_graph", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    simple = {"bytes": kinds.TYPE_BYTES, "string": kinds.TYPE_STRING, "int": kinds.TYPE_INT64, "bool": kinds.TYPE_BOOL}
    simple["float"] = kinds.TYPE_FLOAT
    for name, fields in (
        ("Dim", "size 1 int"),
        ("Shape", "*dim 2 Dim"),
        (
            "Tensor",
            "dtype 1 int,tensor_shape 2 Shape,tensor_content 4 bytes,*float_val 5 float,*int_val 7 int,"
            "*int64_val 10 int,*bool_val 11 bool",
        ),
        ("List", "*s 2 bytes,*i 3 int"),
        ("Value", "list 1 List,s 2 bytes,i 3 int,f 4 float,b 5 bool,tensor 8 Tensor"),
        ("Entry", "key 1 string,value 2 Value"),
        ("Node", "name 1 string,op 2 string,*input 3 string,*attr 5 Entry"),
        ("Graph", "*node 1 Node"),
    ):
        message = file.message_type.add(name=name)
        for text in fields.split(","):
            label, number, kind = text.split()
            one = message.field.add(name=label.lstrip("*"), number=int(number))
            one.label = kinds.LABEL_REPEATED if label.startswith("*") else kinds.LABEL_OPTIONAL
            if kind in simple:
                one.type = simple[kind]
            else:
                one.type, one.type_name = kinds.TYPE_MESSAGE, f".unmask_graph.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("unmask_graph.Graph"))


def same_padding(x: Tensor, kernel: Sequence[int], stride: Sequence[int], value: float = 0.0) -> Tensor:
    """TensorFlow's padding "SAME" of (B, C, H, W): an odd pixel goes below and to the right."""
    sides: list[int] = []
    for length, size, step in zip(x.shape[:1:-1], reversed(kernel), reversed(stride), strict=True):
        missing = max((-(-length // step) - 1) * step + size - length, 0)
        sides += [missing // 2, missing - missing // 2]
    return functional.pad(x, sides, value=value)


def _window(attributes: Mapping[str, Any], x: Tensor, kernel: Sequence[int], fill: float = 0.0) -> tuple[Tensor, Any]:
    """The picture in torch's order, padded, and the stride."""
    stride = attributes["strides"][1:3]
    if any(step != 1 for step in attributes.get("dilations", ())):
        raise DataError("dilated convolutions are not those of a known recogniser")
    x = x.permute(0, 3, 1, 2)
    return (same_padding(x, kernel, stride, fill) if attributes["padding"] == "SAME" else x), tuple(stride)


def _fused(attributes: Mapping[str, Any], x: Tensor, *biases: Tensor) -> Tensor:
    waiting = list(biases)
    for name in attributes.get("fused_ops", ()):
        x = x + waiting.pop(0) if name == "BiasAdd" else _ACTIVATIONS[name](x)
    return x


def _conv(attributes: Mapping[str, Any], x: Tensor, kernel: Tensor, *biases: Tensor) -> Tensor:
    padded, stride = _window(attributes, x, kernel.shape[:2])
    out = functional.conv2d(padded, kernel.permute(3, 2, 0, 1), stride=stride)
    return _fused(attributes, out.permute(0, 2, 3, 1), *biases)


def _depthwise(attributes: Mapping[str, Any], x: Tensor, kernel: Tensor, *biases: Tensor) -> Tensor:
    padded, stride = _window(attributes, x, kernel.shape[:2])
    high, wide, channels, times = kernel.shape
    weights = kernel.permute(2, 3, 0, 1).reshape(channels * times, 1, high, wide)
    out = functional.conv2d(padded, weights, stride=stride, groups=channels)
    return _fused(attributes, out.permute(0, 2, 3, 1), *biases)


def _max_pool(attributes: Mapping[str, Any], x: Tensor) -> Tensor:
    size = attributes["ksize"][1:3]
    padded, stride = _window(attributes, x, size, float("-inf"))
    return functional.max_pool2d(padded, tuple(size), stride).permute(0, 2, 3, 1)


def _average_pool(attributes: Mapping[str, Any], x: Tensor) -> Tensor:
    size = attributes["ksize"][1:3]
    if attributes["padding"] != "VALID":
        raise DataError("padded average pooling is not that of a known recogniser")
    padded, stride = _window(attributes, x, size)
    return functional.avg_pool2d(padded, tuple(size), stride).permute(0, 2, 3, 1)


def _reduced(attributes: Mapping[str, Any], x: Tensor, axes: Tensor, function: Callable[..., Tensor]) -> Tensor:
    return function(x, [int(axis) for axis in axes.flatten()], keepdim=bool(attributes.get("keep_dims")))


def _squeezed(attributes: Mapping[str, Any], x: Tensor) -> Tensor:
    for axis in sorted(attributes["squeeze_dims"], reverse=True):
        x = x.squeeze(axis)
    return x


def _reshaped(_: Mapping[str, Any], x: Tensor, shape: Tensor) -> Tensor:
    sizes = [int(size) for size in shape]
    # A frozen graph may say the batch that it was frozen with; the rest is per picture.
    return x.reshape([x.shape[0], *sizes[1:]] if len(sizes) == 2 and x.ndim > 2 else sizes)


def _normalised(
    attributes: Mapping[str, Any], x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    return (x - mean) * (variance + attributes["epsilon"]).rsqrt() * scale + shift


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"Relu": functional.relu, "Relu6": functional.relu6}
_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Conv2D": _conv,
    "_FusedConv2D": _conv,
    "DepthwiseConv2dNative": _depthwise,
    "FusedDepthwiseConv2dNative": _depthwise,
    "MatMul": lambda _, x, y: x @ y,
    "_FusedMatMul": lambda attributes, x, y, *biases: _fused(attributes, x @ y, *biases),
    "Add": lambda _, x, y: x + y,
    "BiasAdd": lambda _, x, y: x + y,
    "Sub": lambda _, x, y: x - y,
    "Mul": lambda _, x, y: x * y,
    "Maximum": lambda _, x, y: torch.maximum(x, y.to(x.dtype)),
    "Minimum": lambda _, x, y: torch.minimum(x, y.to(x.dtype)),
    "Abs": lambda _, x: x.abs(),
    "Relu": lambda _, x: functional.relu(x),
    "Square": lambda _, x: x.square(),
    "Rsqrt": lambda _, x: x.rsqrt(),
    "MaxPool": _max_pool,
    "AvgPool": _average_pool,
    "Mean": lambda attributes, x, axes: _reduced(attributes, x, axes, torch.mean),
    "Sum": lambda attributes, x, axes: _reduced(attributes, x, axes, torch.sum),
    "ConcatV2": lambda _, *given: torch.cat(given[:-1], int(given[-1])),
    "Squeeze": _squeezed,
    "Reshape": _reshaped,
    "FusedBatchNorm": _normalised,
}
