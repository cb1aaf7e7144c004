"""Networks whose heads say extreme numbers, in torch and in ONNX Runtime, for the batteries of all methods."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from unmask.lab.onnx_export import onnx_model
from unmask.lab.task import Task

LEAST = 30.0  # what every head reaches, above and below zero
_REACH = 40.0
_MOST_OUTPUTS = 8  # of a layer that counts as a head: a verdict, tokens, edits, colours
_LEVEL = 1e-4  # spread of outputs that do not depend on the picture


@torch.no_grad()
def outputs_of_heads(network: nn.Module, forward: Callable[[], Any]) -> dict[str, Tensor]:
    """What the heads give in one pass, by name, flat: linear and convolutional layers with at most eight outputs."""
    given: dict[str, list[Tensor]] = {}
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            width = module.out_features if isinstance(module, nn.Linear) else module.out_channels
            if width <= _MOST_OUTPUTS:
                keep = given.setdefault(name, []).append
                handles.append(module.register_forward_hook(lambda _, __, out, keep=keep: keep(out.flatten())))
    forward()
    for handle in handles:
        handle.remove()
    return {name: torch.cat(outputs) for name, outputs in given.items() if outputs}


@torch.no_grad()
def drive(network: nn.Module, forward: Callable[[], Any]) -> list[str]:
    """Scale and centre each head so that it reaches 40 on both sides, in order; the names of those that move."""
    driven = []
    for name in outputs_of_heads(network, forward):
        values, head = outputs_of_heads(network, forward)[name], network.get_submodule(name)
        if float(values.max() - values.min()) < _LEVEL:
            continue  # nothing of the picture reaches it
        centre = values.mean() if head.bias is not None else torch.zeros(())
        scale = _REACH / min(values.max() - centre, centre - values.min())
        head.weight.mul_(scale)
        if head.bias is not None:
            head.bias.sub_(centre).mul_(scale)
        driven.append(name)
    return driven


@torch.no_grad()
def compare_extremes(task: Task, network: Any, size: int, inputs: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Drive a network's heads and hold ONNX Runtime to what torch says then; gives the names of the heads."""
    module = task.exported(network).eval()
    heads = drive(network, lambda: module(*inputs.values()))
    reached = outputs_of_heads(network, lambda: module(*inputs.values()))
    for name in heads:
        assert reached[name].max() >= LEAST and reached[name].min() <= -LEAST, name
    expected = [output.numpy() for output in module(*inputs.values())]
    model = onnx_model(module, size, task.outputs, task.example(network))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    exported = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    for name, one, other in zip(task.outputs, expected, exported, strict=True):
        assert np.isfinite(one).all() and np.isfinite(other).all(), name
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-3 * max(1, np.abs(one).max()), err_msg=name)
    return tuple(heads)
