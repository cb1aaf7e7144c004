"""`plain`: one convolutional network, one logit, one map. The project's own detector, the others' yardstick.

The first five stages of an EfficientNet-Lite0 (Tan & Le 2019, without squeeze-excitation), initialised on ImageNet,
look at the context crop, at its noise residual, or at both. The stages at stride 32 are left out: traces of forging are
local (Chai et al. 2020, "What makes fake images detectable?"), and a step of training is cheaper without them. A light
feature pyramid (Lin et al. 2017) gives a map at stride 8; the logit reads mean and spread of the deep features together
with the map's mean and peak, so that a small local edit can speak. Lab only: torch, timm.
"""

from pathlib import Path
from typing import Literal

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.forgery.detector import DetectorOutput, Learner
from unmask.networks.backbones import PACKAGED, imagenet_state, load_matching, read_state
from unmask.networks.contract import Batch

View = Literal["rgb", "residual", "both"]
_STAGES = 5
_MIXED = 256


class Plain(Learner):
    """The detector.

    Args:
        view: what the backbone sees: the colours ("rgb"), the picture minus its 3x3 blur ("residual"), or both stacked.
        weights: of the backbone at the start: "imagenet" (fetched once), "none" for random ones, or a local file of
            timm's `efficientnet_lite0`.
    """

    mean = (127 / 255, 127 / 255, 127 / 255)
    std = (128 / 255, 128 / 255, 128 / 255)
    step = 16
    windows = True

    def __init__(self, view: View = "both", weights: str = "imagenet") -> None:
        super().__init__()
        self.view = view
        channels = {"rgb": 3, "residual": 3, "both": 6}[view]
        # Not the "tf_" model of the same weights: its explicit padding costs time, and the fields of view differ by one
        # pixel's shift. Its epsilon it is.
        self.backbone = timm.create_model(
            PACKAGED,
            pretrained=False,
            features_only=True,
            out_indices=(2, 3),
            in_chans=channels,
            bn_eps=1e-3,
        )
        self.backbone.blocks = self.backbone.blocks[:_STAGES]  # type: ignore[index]
        if weights != "none":
            self._start_from(imagenet_state() if weights == "imagenet" else read_state(Path(weights)))
        fine, deep = self.backbone.feature_info.channels()  # type: ignore[union-attr,operator]
        self.laterals = nn.ModuleList(nn.Conv2d(width, 64, 1) for width in (fine, deep))
        self.map_head = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU6(), nn.Conv2d(64, 1, 1)
        )
        self.mixer = nn.Sequential(nn.Conv2d(deep, _MIXED, 1, bias=False), nn.BatchNorm2d(_MIXED), nn.ReLU6())
        self.norm = nn.BatchNorm1d(2 * _MIXED)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * _MIXED + 2, 1)

    def _start_from(self, named: dict[str, Tensor]) -> None:
        if self.view == "both":
            stem = named["conv_stem.weight"]
            named = {**named, "conv_stem.weight": torch.cat([stem, stem], 1) * 0.7}
        load_matching(self.backbone, named, "of the backbone")

    def forward(self, faces: Tensor) -> DetectorOutput:
        """Score faces, (B, 3, S, S) in [0, 1]."""
        faces = self.normalised(faces)
        if self.view != "rgb":
            residual = 4 * (faces - functional.avg_pool2d(faces, 3, 1, 1, count_include_pad=False))
            faces = residual if self.view == "residual" else torch.cat([faces, residual], 1)
        fine, deep = self.backbone(faces)
        pyramid = functional.interpolate(self.laterals[1](deep), size=fine.shape[2:], mode="nearest")
        heat = self.map_head(pyramid + self.laterals[0](fine))
        mixed = self.mixer(deep)
        mean = mixed.mean((2, 3))
        spread = ((mixed - mean[..., None, None]).square().mean((2, 3)) + 1e-4).sqrt()
        pooled = self.norm(torch.cat([mean, spread], 1))
        spots = torch.cat([heat.mean((2, 3)), functional.max_pool2d(heat, 3, 1).amax((2, 3))], 1)
        logit = self.head(torch.cat([self.dropout(pooled), spots], 1))[:, 0]
        return DetectorOutput(logit, heat)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss: the verdict's and, where the forged pixels are known, the map's."""
        out = self(batch["faces"])
        labels = batch["labels"].float()
        masks = on_grid(batch["masks"], out.map.shape[-1])
        known = (masks >= 0).float()
        per_cell = functional.binary_cross_entropy_with_logits(out.map.float(), masks.clamp(min=0), reduction="none")
        return {
            "verdict": functional.binary_cross_entropy_with_logits(out.logit.float(), 0.96 * labels + 0.02),
            "map": 0.5 * (per_cell * known).sum() / known.sum().clamp(min=1),
        }


def on_grid(masks: Tensor, cells: int) -> Tensor:
    """Masks (B, 1, m, m) on a grid (B, 1, cells, cells) by area; a cell that touches an unknown one is unknown."""
    if masks.shape[-1] == cells:
        return masks
    unknown = functional.adaptive_max_pool2d((masks < 0).float(), cells)
    return torch.where(unknown > 0, -1.0, functional.adaptive_avg_pool2d(masks, cells))
