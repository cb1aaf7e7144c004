"""The networks of published detectors, built from their files' tensors alone. Lab only: torch, timm.

Each is a `Detector`: it normalises faces as its publisher does, and says one logit (the log odds of "forged") and one
map. Names of tensors are those that the publishers' code writes (read in yermandy/GenD, mapooon/SelfBlendedImages,
SCLBD/DeepfakeBench and WisconsinAIVision/UniversalFakeDetect); a tensor too few or too many is refused.
"""

import json
import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import Conv2dSame, LayerNorm, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.forgery.detector import Detector, DetectorOutput
from unmask.forgery.gend import read_features, unit
from unmask.networks.backbones import read_state
from unmask.networks.encoders import Encoder, from_transformers_clip, weight_file

State = Mapping[str, Tensor]
_CLIP_SIZE = 224
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HEAD_WIDTH = 64  # of an attention head in every CLIP
_B4_SIZE = 380  # the side that efficientnet_pytorch lays out its padding for, whatever picture comes
_NAMED = 3  # tensors that a refusal names


class EncoderDetector(Detector):
    """An image encoder and a linear head on its feature; the map reads every patch as the head reads the face.

    Args:
        encoder: with its size and normalisation set.
        head: to the logit, or to the numbers of real and forged.
        on_sphere: whether the feature is brought to unit length first.
    """

    def __init__(self, encoder: Encoder, head: nn.Linear, on_sphere: bool) -> None:
        super().__init__()
        self.encoder, self.head, self.on_sphere = encoder, head, on_sphere
        self.mean, self.std = encoder.mean, encoder.std
        self.size, self.step = encoder.size, encoder.stride

    def forward(self, faces: Tensor) -> DetectorOutput:
        """Score faces, (B, 3, S, S) in [0, 1]."""
        feature, patches = self.encoder(self.normalised(faces))
        if self.on_sphere:
            feature, patches = unit(feature), unit(patches)
        return read_features(self.head, feature, patches)


class PooledDetector(Detector):
    """A convolutional timm network whose linear head reads the mean of its last features.

    Its map is the class activation map (Zhou et al. 2016): what the head says of every cell. The mean of the map is the
    logit, for the head is linear.

    Args:
        network: with a head to the numbers of real and forged.
        size: side of its input in pixels.
        mean, std: of its input.
    """

    def __init__(
        self, network: nn.Module, size: int, mean: tuple[float, float, float], std: tuple[float, float, float]
    ) -> None:
        super().__init__()
        self.network: Any = network
        self.size, self.mean, self.std = size, mean, std

    def forward(self, faces: Tensor) -> DetectorOutput:
        """Score faces, (B, 3, S, S) in [0, 1]."""
        cells = self.network.forward_features(self.normalised(faces)).permute(0, 2, 3, 1)
        return read_features(self.network.get_classifier(), cells.mean((1, 2)), cells)


def read_gend(path: Path, _: Path | None = None) -> EncoderDetector:
    """GenD as its hub folder has it: `config.json` and `model.safetensors`; encoders CLIP and Perception Encoder.

    Args:
        path: of the folder.

    Raises:
        DataError: the folder or its files are not those of GenD, or it has another encoder.
    """
    if not path.is_dir():
        raise DataError(f"{path}: not a folder; give the hub's folder, with config.json and model.safetensors")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        backbone, head = str(config["backbone"]), str(config["head"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no config.json of GenD with its backbone and head ({type(error).__name__})"
        ) from error
    if head not in ("linear", "LinearNorm"):
        raise DataError(f"{path}: head {head!r} of config.json is unknown here; known are linear and LinearNorm")
    state = read_state(weight_file(path))
    own = {name: state[name] for name in state if name.startswith("model.linear.")}
    rest = {name.removeprefix("feature_extractor."): state[name] for name in state if name not in own}
    if "clip" in backbone.lower():
        rest.pop("visual_projection.weight", None)  # carried along, read by nothing
        encoder = clip_encoder(rest, str(path), quick=backbone.startswith("openai/"))
    elif backbone.startswith("vit_pe"):
        encoder = _perception_encoder(backbone, {k.removeprefix("backbone."): v for k, v in rest.items()}, str(path))
    else:
        raise DataError(f"{path}: its encoder {backbone!r} cannot be imported; those of CLIP and vit_pe can")
    return EncoderDetector(
        encoder, _linear(own, "model.linear", encoder.width, 2, str(path)), on_sphere=head == "LinearNorm"
    )


def read_univfd(path: Path, encoder: Path | None = None) -> EncoderDetector:
    """UnivFD: the linear head of its repository on the image half of OpenAI's CLIP, behind CLIP's projection.

    Args:
        path: of `fc_weights.pth`.
        encoder: folder or file of CLIP, as transformers or open_clip saves it.

    Raises:
        DataError: a file is not as its publisher writes it, or they do not belong together.
    """
    if encoder is None:
        raise DataError("univfd is a linear head alone: give the folder of CLIP ViT-L/14 with --encoder")
    head = read_state(path)
    clip = dict(read_state(weight_file(encoder)))
    projection = clip.pop("visual_projection.weight", None)
    if projection is None and "visual.proj" in clip:
        projection = clip.pop("visual.proj").T
    if projection is None:
        raise DataError(f"{encoder}: no projection of CLIP's image half in it; give a whole CLIP model")
    image = {n: v for n, v in clip.items() if n.startswith(("vision_model.", "visual."))}  # the rest reads texts
    made = clip_encoder(image, str(encoder), quick=True)
    linear = _linear({f"fc.{name}": value for name, value in head.items()}, "fc", len(projection), 1, str(path))
    # Two linear layers in a row are one.
    joined = nn.Linear(made.width, 1)
    with torch.no_grad():
        joined.weight.copy_(linear.weight @ projection.float())
        joined.bias.copy_(linear.bias)
    return EncoderDetector(made, joined, on_sphere=False)


def read_sbi(path: Path, _: Path | None = None) -> PooledDetector:
    """The EfficientNet-B4 trained on self-blended images: {"model": ...} with names of efficientnet_pytorch.

    Raises:
        DataError: the file is not as its publisher writes it.
    """
    state = {name.removeprefix("net."): value for name, value in read_state(path).items()}
    network = _efficientnet(state, str(path), padded_stem=True)
    return PooledDetector(network, _B4_SIZE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def read_bench_efficientnet(path: Path, _: Path | None = None) -> PooledDetector:
    """DeepfakeBench's EfficientNet-B4.

    Raises:
        DataError: the file is not as its publisher writes it.
    """
    state = {name.removeprefix("backbone."): value for name, value in read_state(path).items()}
    named = {
        re.sub(r"^last_layer\.", "_fc.", name.removeprefix("efficientnet.")): value for name, value in state.items()
    }
    # There the first layer is replaced by one without padding; the others keep theirs, made for another size.
    network = _efficientnet(named, str(path), padded_stem=False)
    return PooledDetector(network, 256, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def read_bench_xception(path: Path, _: Path | None = None) -> PooledDetector:
    """DeepfakeBench's Xception.

    Raises:
        DataError: the file is not as its publisher writes it.
    """
    state = {name.removeprefix("backbone."): value for name, value in read_state(path).items()}
    named = {
        re.sub(r"^last_linear\.(1\.)?", "fc.", name): value
        for name, value in state.items()
        if not name.startswith("adjust_channel.")  # a layer that its code makes and does not use
    }
    network = timm.create_model("legacy_xception", num_classes=2)
    load_exactly(network, named, str(path))
    return PooledDetector(network, 256, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def load_exactly(network: nn.Module, state: State, origin: str) -> None:
    """Load tensors of which none may be missing, left over or of another shape; counters of batches may be missing.

    Raises:
        DataError: naming the first that are.
    """
    own = network.state_dict()
    missing = sorted(name for name in set(own) - set(state) if not name.endswith("num_batches_tracked"))
    unexpected = sorted(set(state) - set(own))
    shaped = sorted(name for name in set(own) & set(state) if own[name].shape != state[name].shape)
    wrong = [
        f"{len(names)} {text} ({', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''})"
        for text, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shaped))
        if names
    ]
    if wrong:
        raise DataError(f"{origin}: not the tensors of this kind of detector: {'; '.join(wrong)}; is KIND right?")
    network.load_state_dict({**own, **state})


def clip_encoder(state: State, origin: str, quick: bool) -> Encoder:
    """The image half of a CLIP of any size, laid out by the shapes of its tensors.

    Args:
        state: with the names of transformers (`vision_model.…`) or of open_clip (`visual.…`).
        origin: what to call the file in errors.
        quick: whether its activation is OpenAI's x · sigmoid(1.702 x), which the tensors do not say.

    Raises:
        DataError: they are not those of a CLIP with a ViT.
    """
    named = _open_clip_names(from_transformers_clip(state, origin))
    try:
        width, _, patch, _ = named["patch_embed.proj.weight"].shape
        grid = math.isqrt(named["pos_embed"].shape[1] - 1)
        inner = named["blocks.0.mlp.fc1.weight"].shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(f"{origin}: not the image half of a CLIP with a ViT ({error}); is KIND right?") from error
    model: Any = VisionTransformer(
        img_size=grid * patch,
        patch_size=patch,
        embed_dim=width,
        depth=len({name.split(".")[1] for name in named if name.startswith("blocks.")}),
        num_heads=max(1, width // _HEAD_WIDTH),
        mlp_ratio=inner / width,
        pre_norm=True,
        norm_layer=partial(LayerNorm, eps=1e-5),
        act_layer="quick_gelu" if quick else "gelu",
        num_classes=0,
    )
    load_exactly(model, named, origin)
    model.pretrained_cfg = {"mean": _CLIP_MEAN, "std": _CLIP_STD}
    return Encoder(model)


def _open_clip_names(state: State) -> dict[str, Tensor]:
    """open_clip's and OpenAI's names of the image half under timm's; others as they are."""
    named = {}
    for name, value in state.items():
        if name.startswith("visual."):
            for old, new in _OPEN_CLIP_NAMES:
                name = re.sub(old, new, name)
            value = {"cls_token": value.reshape(1, 1, -1), "pos_embed": value[None]}.get(name, value)
        named[name] = value
    return named


_OPEN_CLIP_NAMES = (
    (r"^visual\.", ""),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^conv1\.", "patch_embed.proj."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


def _perception_encoder(name: str, state: State, origin: str) -> Encoder:
    """timm's Perception Encoder at the size that GenD shows it; positions are resampled to it, as GenD does."""
    if not timm.is_model(name):
        raise DataError(f"{origin}: timm has no model {name!r}, the encoder that config.json names")
    model: Any = timm.create_model(name, num_classes=0, img_size=_CLIP_SIZE)
    named = dict(state)
    positions, grid = named.get("pos_embed"), model.patch_embed.grid_size
    if positions is not None and positions.ndim == 3:
        named["pos_embed"] = resample_abs_pos_embed(positions, grid, num_prefix_tokens=model.num_prefix_tokens)
    load_exactly(model, named, origin)
    return Encoder(model)


def _linear(state: State, name: str, width: int, outputs: int, origin: str) -> nn.Linear:
    layer = nn.Linear(width, outputs)
    load_exactly(nn.ModuleDict({name.rpartition(".")[2]: layer}), _last_names(state, name), origin)
    return layer


def _last_names(state: State, name: str) -> dict[str, Tensor]:
    """ "model.linear.weight" as "linear.weight"."""
    before = name.rpartition(".")[0]
    return {key.removeprefix(f"{before}."): value for key, value in state.items()}


def _efficientnet(state: State, origin: str, padded_stem: bool) -> nn.Module:
    """EfficientNet-B4 from tensors with names of efficientnet_pytorch, with that package's fixed padding."""
    network: Any = timm.create_model("tf_efficientnet_b4", num_classes=2)
    places = [(stage, number) for stage, blocks in enumerate(network.blocks) for number in range(len(blocks))]
    load_exactly(network, {_timm_name(name, places): value for name, value in state.items()}, origin)
    side = _B4_SIZE
    for name, layer in [one for one in network.named_modules() if isinstance(one[1], Conv2dSame)]:
        outer, _, last = name.rpartition(".")
        kernel, half = layer.kernel_size[0], math.ceil(side / 2)
        extra = max((half - 1) * 2 + kernel - side, 0) if padded_stem or name != "conv_stem" else 0
        # timm's layer looks at the picture's size and pads for that; the published weights were used with this padding.
        plain = nn.Conv2d(layer.in_channels, layer.out_channels, kernel, 2, groups=layer.groups, bias=False)
        plain.weight = layer.weight
        pad = nn.ZeroPad2d((extra // 2, extra - extra // 2, extra // 2, extra - extra // 2))
        setattr(network.get_submodule(outer), last, nn.Sequential(pad, plain))
        side = half
    return network


_EFFICIENTNET_NAMES = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_BLOCK_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
# The first stage does not expand: timm numbers its normalisations from there, and has another name for what ends it.
_FIRST_NAMES = {**_BLOCK_NAMES, "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def _timm_name(name: str, places: list[tuple[int, int]]) -> str:
    """timm's name of a tensor of efficientnet_pytorch; the same where it has none, which is then unexpected."""
    if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
        number = int(block[1])
        if number < len(places):
            stage, place = places[number]
            names = _BLOCK_NAMES if stage else _FIRST_NAMES
            return f"blocks.{stage}.{place}.{names.get(block[2], block[2])}.{block[3]}"
    first, dot, rest = name.partition(".")
    return f"{_EFFICIENTNET_NAMES.get(first, first)}{dot}{rest}"
