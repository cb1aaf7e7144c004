"""Foundation image encoders by timm name: a feature for the face, and one for every patch. Lab only: torch, timm.

`weights` says where from: "registry" for those in a registry package (`PACKAGED` alone: DINOv2's ViT-S/14, tuned there
for saliency), "timm" for those that timm downloads from its hub, "none" for random ones, anything else is a local file
or the folder of a hub's model. Files may have the names of timm, of open_clip and OpenAI (`visual.…`) or of
transformers' CLIP (`vision_model.…`).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import timm
import torch
from onnx import numpy_helper
from timm.models import convnext, eva, vision_transformer
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.networks.backbones import load_matching, read_state
from unmask.packs.assets import VIT_SMALL, fetch

PACKAGED = "vit_small_patch14_dinov2"
_FILES = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
_CONVERTERS: dict[type[nn.Module], Any] = {
    vision_transformer.VisionTransformer: vision_transformer.checkpoint_filter_fn,
    eva.Eva: eva.checkpoint_filter_fn,
    convnext.ConvNeXt: convnext.checkpoint_filter_fn,
}
_CONVNEXT_STRIDE = 32


class Encoder(nn.Module):
    """A timm ViT (also of the Eva family: DINOv3, Perception Encoder) or ConvNeXt without its classifier.

    Attributes:
        width: numbers in a feature.
        stride: side in pixels of what one patch feature stands for; inputs are multiples of it.
        size: side in pixels of the pictures it was trained on.
        mean, std: of its input, RGB in [0, 1].

    Args:
        model: the timm model, made with `num_classes=0`.

    Raises:
        DataError: a model of another family.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not isinstance(model, tuple(_CONVERTERS)):
            raise DataError(f"{type(model).__name__}: neither a ViT nor a ConvNeXt of timm; choose one of these")
        self.model = cast(Any, model)
        self._convolutional = isinstance(model, convnext.ConvNeXt)
        self.width = int(self.model.num_features)
        settings = self.model.pretrained_cfg
        self.mean, self.std = _colours(settings["mean"]), _colours(settings["std"])
        if self._convolutional:
            self.stride, self.size = _CONVNEXT_STRIDE, int(settings["input_size"][-1])
        else:
            self.stride, self.size = int(self.model.patch_embed.patch_size[0]), int(self.model.patch_embed.img_size[0])

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode faces.

        Args:
            pixels: float32 (B, 3, S, S), normalised with `mean` and `std`, S a multiple of `stride`.

        Returns:
            Features (B, width), the class token's or the pooled ones, and those of the patches,
            (B, S / stride, S / stride, width), both behind the last normalisation.
        """
        cells = pixels.shape[-1] // self.stride
        if pixels.shape[0] == 0:  # timm cannot lay out the patches of nothing
            return pixels.new_zeros((0, self.width)), pixels.new_zeros((0, cells, cells, self.width))
        values = self.model.forward_features(pixels)
        feature = self.model.forward_head(values, pre_logits=True)
        if self._convolutional:
            return feature, self.model.head.norm(values).permute(0, 2, 3, 1)
        patches = self.model.fc_norm(values[:, self.model.num_prefix_tokens :])
        return feature, patches.unflatten(1, (cells, cells))


def _colours(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)


def make_encoder(name: str, weights: str = "none") -> Encoder:
    """An encoder by its timm name; see the module's head for `weights`.

    Raises:
        DataError: timm has no such model, it is no ViT or ConvNeXt, there are no such weights, or they do not fit.
    """
    if not timm.is_model(name):
        raise DataError(f"timm has no model {name!r}; see timm.list_models(), such as {PACKAGED}")
    if weights == "registry" and name != PACKAGED:
        raise DataError(
            f"no registry package has weights of {name}; take {PACKAGED}, or weights=timm, weights=FILE or weights=none"
        )
    try:
        made = timm.create_model(name, pretrained=weights == "timm", num_classes=0, **_any_size(name))
    except Exception as error:  # of the hub's client or of timm
        if weights != "timm":
            raise
        raise DataError(
            f"timm could not give weights of {name} ({type(error).__name__}): its hub must be reachable and have some; "
            "take weights=FILE for a local file or folder, or weights=none"
        ) from error
    result = Encoder(made)
    if weights == "registry":
        load_matching(made, packaged_state(), "of the registry package")
    elif weights not in ("none", "timm"):
        load_matching(made, timm_names(read_state(weight_file(Path(weights))), made, weights), weights)
    return result


def _any_size(name: str) -> dict[str, Any]:
    """What lets a ViT take pictures of any size; the others can, or are refused afterwards."""
    family = timm.model_entrypoint(name).__module__
    return {"dynamic_img_size": True} if family in (vision_transformer.__name__, eva.__name__) else {}


def weight_file(path: Path) -> Path:
    """The weight file in a hub's folder; a path that is no folder is that of the file itself.

    Raises:
        DataError: the folder holds none.
    """
    if not path.is_dir():
        return path
    for name in _FILES:
        if (path / name).is_file():
            return path / name
    raise DataError(f"{path}: none of {', '.join(_FILES)} in this folder; name the weight file itself")


def timm_names(state: Mapping[str, Tensor], model: nn.Module, origin: str) -> dict[str, Tensor]:
    """Tensors under the names of timm's model, with its table of positions.

    Args:
        state: with the names of timm, open_clip or transformers' CLIP.
        model: a network that `Encoder` takes.
        origin: what to call the file in errors.

    Raises:
        DataError: they have the names of neither.
    """
    state = from_transformers_clip(state, origin)
    convert = next(convert for kind, convert in _CONVERTERS.items() if isinstance(model, kind))
    try:
        return dict(convert(dict(state), model))
    except (KeyError, RuntimeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(f"weights {origin}: not those of this encoder ({error})") from error


_CLIP_NAMES = (
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^pre_layrnorm\.", "norm_pre."),  # spelled so in transformers
    (r"^post_layernorm\.", "norm."),
    (r"^encoder\.layers\.", "blocks."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.layer_norm([12])\.", r".norm\1."),
)


def from_transformers_clip(state: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """The image half of transformers' CLIP under timm's names; a state that is none of its is returned as it is.

    Args:
        state: with `vision_model.…`, alone or behind a prefix.
        origin: what to call the file in errors.

    Raises:
        DataError: a layer lacks a part of its attention.
    """
    mark = "vision_model.embeddings.class_embedding"
    prefix = next((name.removesuffix("embeddings.class_embedding") for name in state if name.endswith(mark)), None)
    if prefix is None:
        return dict(state)
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    named: dict[str, Tensor] = {}
    for name, value in own.items():
        if name == "embeddings.class_embedding":
            named["cls_token"] = value.reshape(1, 1, -1)
        elif name == "embeddings.position_embedding.weight":
            named["pos_embed"] = value[None]
        elif re.search(r"self_attn\.[kv]_proj\.(weight|bias)$|position_ids$", name):
            continue  # joined to the query's; numbers that say nothing
        elif layer := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)", name):
            parts = [name.replace("q_proj", f"{part}_proj") for part in "qkv"]
            if missing := [part for part in parts if part not in own]:
                raise DataError(f"weights {origin}: no tensor {prefix}{missing[0]}; the file is not complete")
            named[f"blocks.{layer[1]}.attn.qkv.{layer[2]}"] = torch.cat([own[part] for part in parts])
        else:
            for old, new in _CLIP_NAMES:
                name = re.sub(old, new, name)
            named[name] = value
    return named


def packaged_state() -> dict[str, Tensor]:
    """The tensors of `PACKAGED` under timm's names, from the registry package (fetched once).

    The package holds an ONNX file. Weights that it applies by a matrix product have lost their names there; each is
    known by the named bias that is added to the product.
    """
    graph = onnx.load(str(fetch(VIT_SMALL))).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    product = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        if node.op_type == "Add":
            bias = next((name for name in node.input if name.endswith(".bias")), None)
            weight = next((product[name] for name in node.input if name in product), None)
            if bias is not None and weight in arrays:
                arrays[bias.replace(".bias", ".weight")] = arrays[weight].T
    start, patches = "backbone.encoder.layer.", "backbone.embeddings.patch_embeddings.projection"
    nameless = [array for name, array in arrays.items() if name.startswith("onnx::") and array.ndim == 3]
    tensors = {
        "cls_token": arrays["backbone.embeddings.cls_token"],
        # Positions, (1, 1, D) of the class token and (1, N, D) of the patches: constants without a name.
        "pos_embed": np.concatenate(sorted(nameless, key=lambda array: array.shape[1]), 1),
        **{f"patch_embed.proj.{end}": arrays[f"{patches}.{end}"] for end in ("weight", "bias")},
        **{f"norm.{end}": arrays[f"backbone.layernorm.{end}"] for end in ("weight", "bias")},
    }
    for number in range(len({name.split(".")[3] for name in arrays if name.startswith(start)})):
        old, new = f"{start}{number}.", f"blocks.{number}."
        for end in ("weight", "bias"):
            tensors[f"{new}attn.qkv.{end}"] = np.concatenate(
                [arrays[f"{old}attention.attention.{part}.{end}"] for part in ("query", "key", "value")]
            )
            tensors[f"{new}attn.proj.{end}"] = arrays[f"{old}attention.output.dense.{end}"]
            for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                tensors[f"{new}{part}.{end}"] = arrays[f"{old}{part}.{end}"]
        for part in ("1", "2"):
            tensors[f"{new}ls{part}.gamma"] = arrays[f"{old}layer_scale{part}.lambda1"]
    return {name: torch.from_numpy(np.array(array, np.float32)) for name, array in tensors.items()}
