"""Make this pack's model.onnx from OpenCV Zoo's `face_detection_yunet_2023mar_int8bq.onnx` (needs the lab extra).

    python make.py face_detection_yunet_2023mar_int8bq.onnx model.onnx

The weights' int8 blocks are multiplied out to float32 once, here, and the fixed 1 x 3 x 640 x 640 input becomes any
batch, height and width. The function computed stays the same. ONNX Runtime refuses the original (its blocked biases)
and OpenCV needs version 5 for it; ONNX Runtime runs the result 1.3 to 1.9 times as fast as OpenCV 5 the original.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


def dequantise(values: np.ndarray, scales: np.ndarray, zeros: np.ndarray, axis: int, block: int) -> np.ndarray:
    """ONNX DequantizeLinear on blocks: (value - zero) * scale, each scale serving `block` values along `axis`."""
    fit = tuple(slice(side) for side in values.shape)
    scales, zeros = (np.repeat(part, block, axis)[fit] for part in (scales, zeros))
    return ((values.astype(np.int32) - zeros) * scales).astype(np.float32)


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with float32 weights and free batch, height and width."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            options = {attribute.name: attribute.i for attribute in node.attribute}
            values, scales, zeros = (constants[name] for name in node.input)
            constants[node.output[0]] = dequantise(values, scales, zeros, options["axis"], options["block_size"])
        elif node.op_type == "Reshape" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]].reshape(constants[node.input[1]])
        else:
            if node.op_type == "Reshape":  # the heads: (1, -1, C) becomes (B, -1, C); 0 copies the batch
                constants[node.input[1]] = np.array([0, -1, constants[node.input[1]][-1]], np.int64)
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    outputs = [
        helper.make_tensor_value_info(
            output.name, onnx.TensorProto.FLOAT, ["batch", None, output.type.tensor_type.shape.dim[2].dim_value]
        )
        for output in model.graph.output
    ]
    graph = helper.make_graph(
        nodes,
        "yunet",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        outputs,
        [
            numpy_helper.from_array(np.ascontiguousarray(value), name)
            for name, value in constants.items()
            if name in used
        ],
    )
    folded = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="unmask")
    onnx.checker.check_model(folded, full_check=True)
    return folded


if __name__ == "__main__":
    onnx.save(fold(onnx.load(sys.argv[1])), Path(sys.argv[2]))
