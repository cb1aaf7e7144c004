"""TensorFlow Lite files of floating-point recognisers, as the graphs of `tensorflow_graph`. Lab only: torch, LiteRT."""

from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import DataError
from unmask.networks.victims.tensorflow_graph import Node, TensorFlowGraph

_SIMPLE = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "RELU": "Relu", "ABS": "Abs", "RESHAPE": "Reshape"}
_CONVOLUTIONS = {"CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2dNative"}
_TYPES = {0: np.float32, 2: np.int32}  # TensorFlow Lite's numbers


def read_tflite(path: Path) -> TensorFlowGraph:
    """The graph from a file's one input to its one output.

    Raises:
        DataError: it is no such file, or has other operations than the recognisers known here.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
        (graph,) = model.subgraphs
    except Exception as error:  # whatever unpacking random bytes as a flatbuffer raises
        raise DataError(f"{path}: not a readable TensorFlow Lite file ({type(error).__name__})") from error
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    nodes = [Node(str(graph.inputs[0]), "Placeholder", ())]
    weights: dict[str, np.ndarray] = {}
    for number, tensor in enumerate(graph.tensors):
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data):
            if tensor.type not in _TYPES:
                raise DataError(f"{path}: tensors of another type than float32 are not those of a known recogniser")
            weights[str(number)] = np.frombuffer(np.asarray(data).tobytes(), _TYPES[tensor.type]).reshape(tensor.shape)
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        inputs = tuple(map(str, operator.inputs))
        attributes: dict[str, Any] = {}
        options = operator.builtinOptions
        if getattr(options, "fusedActivationFunction", 0):
            raise DataError(f"{path}: fused activations are not those of a known recogniser")
        if kind in _CONVOLUTIONS:
            attributes = {
                "strides": [1, options.strideH, options.strideW, 1],
                "dilations": [1, options.dilationHFactor, options.dilationWFactor, 1],
                "padding": "SAME" if options.padding == schema.Padding.SAME else "VALID",
                "fused_ops": ["BiasAdd"] * (len(inputs) > 2),
            }
            kernel = weights[inputs[1]]  # (O, H, W, I), or (1, H, W, O) where channels stay apart
            weights[inputs[1]] = kernel.transpose((1, 2, 3, 0))
        nodes.append(Node(str(operator.outputs[0]), (_SIMPLE | _CONVOLUTIONS).get(kind, kind), inputs, attributes))
    nodes += [Node(name, "Const", ()) for name in weights]
    return TensorFlowGraph(nodes, weights, str(graph.outputs[0]))
