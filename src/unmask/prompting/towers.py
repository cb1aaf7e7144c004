"""Image towers of prompt packs, as ONNX graphs: from pictures to the features that prompts are learned on.

A tower is a pack's network up to its features, or an open_clip model's image side. Of a forgery detector the features
are what its last linear layers are given: they know traces of forging, which a model of pictures and words does not.
Lab only: onnx.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from unmask.errors import DataError
from unmask.forgery.naming import BATCH
from unmask.offline import onnx_runtime
from unmask.packs import Pack

if TYPE_CHECKING:
    from unmask.lab.prompting.open_clip_models import OpenClipModel

FEATURES, LOGITS = "features", "logits"
Space = Literal["sentences", "open_clip", "none"]
TASKS = ("vision_language", "forgery_detection", "prompt_naming")
_OURS = "prompts/"  # how the nodes and tensors that are added to a network's begin
_LINEAR = ("Gemm", "MatMul")


@dataclass(frozen=True)
class Tower:
    """An image tower.

    Attributes:
        name: of the pack or model.
        graph: one input, pictures float32 (B, 3, S, S) as `mean`, `std` and `colour_order` say; one output, "features".
        size: S.
        crop_margin: of the crop over the face box; None for whole pictures.
        colour_order, mean, std: as on a card.
        space: where the features lie: in that of "sentences" (the sentence encoder), of an "open_clip" model, or in
            "none" that texts have.
        scale: what cosines are multiplied by where there are texts.
        min_face_px: faces narrower than that are not for it.
        origin: sha256 of what it comes from, or a fingerprint.
    """

    name: str
    graph: onnx.ModelProto
    size: int
    crop_margin: float | None
    colour_order: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    space: Space
    scale: float
    min_face_px: float
    origin: str

    @cached_property
    def _session(self) -> Any:
        options = onnx_runtime().SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        return onnx_runtime().InferenceSession(
            self.graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def features(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Features float32 (N, D) of pictures uint8 (S, S, 3) RGB."""
        rows = []
        mean, std = (np.asarray(one, np.float32).reshape(1, 3, 1, 1) for one in (self.mean, self.std))
        for start in range(0, len(crops), BATCH):
            pixels = np.stack(crops[start : start + BATCH]).transpose(0, 3, 1, 2).astype(np.float32) / 255
            if self.colour_order == "BGR":
                pixels = pixels[:, ::-1]
            given = np.ascontiguousarray((pixels - mean) / std, np.float32)
            rows.append(self._session.run([FEATURES], {self._session.get_inputs()[0].name: given})[0])
        return np.concatenate(rows)


def pack_tower(pack: Pack) -> Tower:
    """The tower of a pack of the task "vision_language", "forgery_detection" or "prompt_naming".

    Raises:
        DataError: a pack of another task, a detector whose logit no linear layer makes, or no fixed square input.
    """
    card, graph = pack.card, onnx.load(pack.model_path)
    if card.task not in TASKS:
        raise DataError(f"pack {card.name!r} is for {card.task}; give a forgery detector, or a pack of dual-encoder")
    height, width = card.input_size
    if not height == width > 0:
        raise DataError(f"pack {card.name!r} has no fixed square input; give another one")
    scale, smallest, name, origin = 1.0, 0.0, card.name, card.sha256
    space: Space = "none"
    if card.task == "vision_language":
        cut = _cut(graph, [card.outputs[0]])
        scale, space = float(card.protocol["scale"]), "sentences"
    elif card.task == "forgery_detection":
        inputs = _before_linear(graph, card.outputs[0])
        if not inputs:
            raise DataError(f"pack {card.name!r}: no linear layer makes its logit, so that it has no features to take")
        cut = _cut(graph, inputs)
        smallest = card.calibration.min_face_px if card.calibration is not None else 0.0
    else:
        saved = card.protocol["tower"]
        cut = _without_prompts(graph)
        scale, space, name, origin = saved["scale"], saved["space"], saved["name"], saved["origin"]
        smallest = card.naming.min_face_px if card.naming is not None else 0.0
    return Tower(
        name=name,
        graph=cut,
        size=height,
        crop_margin=card.crop_margin,
        colour_order=card.colour_order,
        mean=card.mean,
        std=card.std,
        space=space,
        scale=scale,
        min_face_px=smallest,
        origin=origin,
    )


def open_clip_tower(model: "OpenClipModel", name: str) -> Tower:
    """The image side of an open_clip model.

    Args:
        model: loaded.
        name: what it is called.
    """
    import torch
    from torch import nn

    from unmask.lab.onnx_export import onnx_model

    class Images(nn.Module):
        def forward(self, faces: torch.Tensor) -> tuple[torch.Tensor]:
            return (nn.functional.normalize(model.image_features(faces).float(), dim=1),)

        def __init__(self) -> None:
            super().__init__()
            self.model = model

    graph = onnx_model(Images(), model.size, (FEATURES,))
    return Tower(
        name=name,
        graph=graph,
        size=model.size,
        crop_margin=None,
        colour_order="RGB",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        space="open_clip",
        scale=float(model.scale().detach()),
        min_face_px=0.0,
        origin=model.fingerprint(),
    )


def with_prompts(
    tower: Tower, projection: tuple[np.ndarray, np.ndarray] | None, classes: np.ndarray, scale: float, offset: float
) -> onnx.ModelProto:
    """The tower's graph with learned classes: outputs "logits" (B, C) and "features" (B, D).

    Args:
        tower: the image side.
        projection: from features to the space of texts, as weights (D, d) and biases (d,); None where they are there.
        classes: unit vectors of the classes, float32 (C, d).
        scale: a logit is scale * cosine + offset.
        offset: see `scale`.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(tower.graph)
    place, nodes = FEATURES, []

    def add(kind: str, name: str, *tensors: np.ndarray, **attributes: Any) -> None:
        nonlocal place
        given = [place]
        for number, tensor in enumerate(tensors):
            given.append(f"{_OURS}{name}.{number}")
            graph.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(tensor, np.float32), given[-1]))
        made = LOGITS if name == "offset" else f"{_OURS}{name}"
        nodes.append(helper.make_node(kind, given, [made], name=f"{_OURS}{name}", **attributes))
        place = made

    if projection is not None:
        add("MatMul", "projected", projection[0])
        add("Add", "shifted", projection[1])
    add("LpNormalization", "unit", axis=1, p=2)
    add("MatMul", "compared", scale * classes.T)
    add("Add", "offset", np.array(offset))
    graph.graph.node.extend(nodes)
    del graph.graph.output[:]
    graph.graph.output.append(helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", len(classes)]))
    graph.graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch", None]))
    onnx.checker.check_model(graph)
    return graph


def logits_of(pack: Pack, features: np.ndarray) -> np.ndarray:
    """The logits (N, C) that a prompt pack's graph makes of features (N, D)."""
    graph = onnx.load(pack.model_path).graph
    own = {one.name: numpy_helper.to_array(one) for one in graph.initializer if one.name.startswith(_OURS)}
    made = features
    if f"{_OURS}projected.0" in own:
        made = made @ own[f"{_OURS}projected.0"] + own[f"{_OURS}shifted.0"]
    made = made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)
    logits: np.ndarray = made @ own[f"{_OURS}compared.0"] + own[f"{_OURS}offset.0"]
    return logits


def _makers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def _before_linear(model: onnx.ModelProto, output: str) -> list[str]:
    """What the linear layers before an output are given, the last ones on every way to it."""
    makers, pending, seen, inputs = _makers(model.graph), [output], set[str](), list[str]()
    while pending:
        node = makers.get(pending.pop(0))
        if node is None or node.output[0] in seen:
            continue
        seen.add(node.output[0])
        if node.op_type in _LINEAR:
            inputs.append(node.input[0])
        else:
            pending += node.input
    return list(dict.fromkeys(inputs))


def _cut(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A model up to some of its tensors (B, d), side by side in one output, "features"."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    joined = helper.make_node("Concat", list(tensors), [FEATURES], name=f"tower/{FEATURES}", axis=1)
    makers, pending, kept = _makers(graph), list(tensors), set[str]()
    while pending:
        node = makers.get(pending.pop())
        if node is not None and node.output[0] not in kept:
            kept.add(node.output[0])
            pending += node.input
    nodes = [node for node in graph.node if node.output[0] in kept]
    used = {name for node in nodes for name in node.input}
    tensors_kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:], graph.output[:], graph.value_info[:]
    graph.node.extend([*nodes, joined])
    graph.initializer.extend(tensors_kept)
    graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch", None]))
    onnx.checker.check_model(cut)
    return cut


def _without_prompts(model: onnx.ModelProto) -> onnx.ModelProto:
    """A prompt pack's model as it was before the prompts were added."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    nodes = [node for node in graph.node if not node.name.startswith(_OURS)]
    tensors = [tensor for tensor in graph.initializer if not tensor.name.startswith(_OURS)]
    outputs = [output for output in graph.output if output.name == FEATURES]
    del graph.node[:], graph.initializer[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    graph.output.extend(outputs)
    return cut
