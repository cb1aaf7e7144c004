"""Whose face, with gradients: SFace (Zhong et al. 2021) in torch, frozen. Lab only.

`unmask.faces.identity` runs the same file in ONNX Runtime, which is faster and knows no gradients. Here they pass from
the embedding to the picture: for attacks on a recogniser and for losses that keep an identity.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import NodeProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from unmask.offline import onnx_runtime
from unmask.packs.assets import SFACE, fetch

SIDE = 112
_CONSTANT = ("DequantizeLinear", "Reshape")  # what only unpacks the weights


class IdentityEmbedder(nn.Module):
    """A unit vector for every face; its weights are frozen and do not change with the mode.

    Args:
        path: the ONNX file; fetched if left out.

    Raises:
        DataError: the file is not there and cannot be fetched.
        ValueError: it is of another network, with operations that this one lacks.
    """

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        model = onnx.load(str(path or fetch(SFACE)))
        self._input = model.graph.input[0].name
        self._nodes = [node for node in model.graph.node if node.op_type not in (*_CONSTANT, "Constant")]
        unknown = sorted({node.op_type for node in self._nodes} - _OPERATIONS.keys())
        if unknown:
            raise ValueError(f"operations {', '.join(unknown)} are not those of SFace")
        constants = _constants(model)
        wanted = {name for node in self._nodes for name in node.input}
        self._names = {name: f"weight_{number}" for number, name in enumerate(sorted(wanted & constants.keys()))}
        for name, place in self._names.items():
            self.register_buffer(place, torch.from_numpy(np.array(constants[name], np.float32)))

    def forward(self, faces: Tensor) -> Tensor:
        """Embed aligned faces.

        Args:
            faces: float32 (B, 3, 112, 112) RGB in [0, 1], as `align_faces` gives them.

        Returns:
            float32 (B, 128), each of length 1.
        """
        return functional.normalize(self.computed({self._input: faces * 255}, self._nodes), dim=1)

    def computed(self, inputs: Mapping[str, Tensor], nodes: Sequence[NodeProto]) -> Tensor:
        """What the last of some nodes gives, for a part of the network.

        Args:
            inputs: what the nodes need beside the weights, by its name in the graph.
            nodes: of the graph, in its order.
        """
        values = {name: getattr(self, place) for name, place in self._names.items()} | dict(inputs)
        for node in nodes:
            given = [values[name] for name in node.input if name in values]
            values[node.output[0]] = _OPERATIONS[node.op_type](node, *given)
        return values[nodes[-1].output[0]]


def align_faces(faces: Tensor, matrices: np.ndarray, side: int = SIDE, zoom: float = 1.0) -> Tensor:
    """Turn faces upright and to the size that a recogniser sees, with gradients; as `faces.alignment.align` does.

    Args:
        faces: (B, 3, H, W) in [0, 1].
        matrices: (B, 2, 3), of each face as `faces.alignment.alignment_matrix` gives it for 112 pixels.
        side: of the result in pixels.
        zoom: how large the face is drawn against the template's, about the middle; below 1 shows more around it.

    Returns:
        (B, 3, side, side).
    """
    height, width = faces.shape[2:]
    rows, columns = np.mgrid[:side, :side]
    # Places of the result, in the template's 112 pixels.
    seen = ((np.stack([columns.ravel(), rows.ravel()]) + 0.5) / side - 0.5) / zoom * SIDE + SIDE / 2 - 0.5
    grids = []
    for matrix in matrices:
        inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
        places = inverse @ np.vstack([seen, np.ones(side * side)])
        grids.append(((places[:2].T * 2 + 1) / (width, height) - 1).reshape(side, side, 2))
    grid = torch.from_numpy(np.stack(grids)).to(faces)
    return functional.grid_sample(faces, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The weights by name, with those that are stored in eight bits unpacked."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in _CONSTANT]
    outputs = [name for node in nodes for name in node.output]
    graph = helper.make_graph(
        nodes,
        "weights",
        [],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
        model.graph.initializer,
    )
    unpacking = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    runtime = onnx_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(unpacking.SerializeToString(), options, ["CPUExecutionProvider"])
    return constants | dict(zip(outputs, session.run(outputs, {}), strict=True))


def _attribute(node: NodeProto, name: str) -> list[int]:
    return list(next(helper.get_attribute_value(one) for one in node.attribute if one.name == name))


def _convolved(node: NodeProto, x: Tensor, weight: Tensor) -> Tensor:
    pads = _attribute(node, "pads")
    groups = next(helper.get_attribute_value(one) for one in node.attribute if one.name == "group")
    return functional.conv2d(x, weight, None, _attribute(node, "strides"), pads[:2], 1, groups)


def _normalised(node: NodeProto, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    epsilon = next(helper.get_attribute_value(one) for one in node.attribute if one.name == "epsilon")
    return functional.batch_norm(x, mean, variance, scale, shift, False, 0.0, epsilon)


_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Sub": lambda _, x, y: x - y,
    "Mul": lambda _, x, y: x * y,
    "Conv": _convolved,
    "BatchNormalization": _normalised,
    "PRelu": lambda _, x, slope: functional.prelu(x, slope.flatten()),
    "Dropout": lambda _, x, *__: x,
    "Flatten": lambda _, x: x.flatten(1),
    "Gemm": lambda _, x, weight, bias: functional.linear(x, weight, bias),
}
