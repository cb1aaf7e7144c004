"""Convolutional trunks that give feature maps at several strides. Lab only: torch, timm.

"residual" is the CPU size's own: a plain residual network with group normalisation, which small batches need. The
others are timm's; their ImageNet weights come from where the user has them (`unmask.networks.backbones`).
"""

from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.networks.backbones import PACKAGED, imagenet_state, load_matching, read_state

Trunk = Literal["residual", "efficientnet_lite0", "resnet34", "resnet50"]
STRIDES = (2, 4, 8, 16, 32)
_STEM, _WIDTHS = 32, (32, 64, 128, 192)


class _Block(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(into, out, 3, stride, 1, bias=False),
            nn.GroupNorm(8, out),
            nn.SiLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.GroupNorm(8, out),
        )
        self.short = nn.Conv2d(into, out, 1, stride, bias=False) if (into, stride) != (out, 1) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.body(x) + self.short(x))


class _Residual(nn.Module):
    """Two blocks at each of the strides 4, 8, 16 and 32, or at the first of these."""

    def __init__(self, stages: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, _STEM, 3, 2, 1, bias=False), nn.GroupNorm(8, _STEM), nn.SiLU())
        into, made = _STEM, []
        for width in _WIDTHS[:stages]:
            made.append(nn.Sequential(_Block(into, width, 2), _Block(width, width, 1)))
            into = width
        self.stages = nn.ModuleList(made)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


def make_trunk(
    name: Trunk, weights: str = "none", coarsest: int = 32, levels: int = len(STRIDES)
) -> tuple[nn.Module, list[int]]:
    """A trunk from faces (B, 3, S, S) to its maps at STRIDES, finest first, and the maps' widths.

    Args:
        name: which.
        weights: "imagenet", "none" or a local file; "residual" has none to load.
        levels: how many of STRIDES; what lies deeper is not built.
        coarsest: 16 for a last stage that is dilated instead of going down to stride 32 (ResNets alone).

    Raises:
        DataError: no such weights.
    """
    if name == "residual":
        if weights != "none":
            raise DataError("the residual trunk starts from random weights: take weights=none, or another trunk")
        return _Residual(levels - 1), [_STEM, *_WIDTHS][:levels]
    # The packaged weights are those of timm's "tf_" variant, whose epsilon they need.
    own: dict[str, Any] = {"bn_eps": 1e-3} if name == PACKAGED else {"output_stride": coarsest}
    model = timm.create_model(name, pretrained=False, features_only=True, out_indices=tuple(range(levels)), **own)
    if weights == "imagenet" and name != PACKAGED:
        raise DataError(f"no registry package has ImageNet weights of {name}; take weights=FILE or weights=none")
    if weights != "none":
        load_matching(model, imagenet_state() if weights == "imagenet" else read_state(Path(weights)), weights)
        _freeze(model)
    info: Any = model.feature_info
    return model, list(info.channels())


def _freeze(model: nn.Module) -> None:
    """Stem and first stage stay as they were taught on ImageNet."""
    for name, parameter in model.named_parameters():
        if name.startswith(("conv1", "bn1", "conv_stem", "layer1", "blocks.0")):
            parameter.requires_grad_(False)


def pooled(features: Tensor) -> Tensor:
    """Mean and maximum over the cells, (B, C, h, w) -> (B, 2 C)."""
    return torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
