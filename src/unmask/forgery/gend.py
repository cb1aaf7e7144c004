"""`gend`: a foundation image encoder, almost all of it frozen, and a linear head on its unit feature.

Yermakov et al. 2025, "Deepfake Detection that Generalizes Across Benchmarks", arXiv 2508.06248 (WACV 2026); code and
weights at github.com/yermandy/GenD. Only the affine parameters of the encoder's LayerNorms and the head are trained,
for CLIP's ViT-L/14 0.03 % of the weights. The feature (class token, or the pooled one) is brought to unit length; the
loss is cross-entropy with, on the sphere, alignment (the mean squared distance of pairs of the same label) and
uniformity (the logarithm of the mean of exp(-2 d²) over all pairs; both Wang & Isola 2020). Pairs of a real face and a
forgery made of it, which the paper finds essential, are what every detector is trained on here.

Where it departs from the paper:

- the map, which the paper has not: the head reads every patch's feature as it reads the face's. Nothing teaches it.
- learning rate and schedule are the engine's (one cycle), and pairs are varied as for all detectors; the paper's own
  are AdamW at 3e-4 with a cosine schedule and stronger augmentation. Give `--learning-rate 3e-4`.
- weights of the terms and smoothing are those of a published re-training (0.1, 0.5 and 0.1).
- the default encoder is a small one whose weights a package registry has, so that the method works without a hub. It is
  the cheap baseline: the strength that the paper reports belongs to large encoders.

With a GPU, and CLIP's ViT-L/14 in a folder (as transformers or open_clip save it) or from timm's hub
(`--weights timm`):

```text
unmask train gend --encoder vit_large_patch14_clip_quickgelu_224 --weights FOLDER --learning-rate 3e-4 \\
    --batch-pairs 64 --data DATA --run runs/gend
```

Lab only: torch, timm.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError
from unmask.forgery.detector import DetectorOutput, Learner
from unmask.networks.contract import Batch
from unmask.networks.encoders import PACKAGED, make_encoder

_CLAMP = 1e-6


class GenD(Learner):
    """The detector.

    Args:
        encoder: a ViT or ConvNeXt by its timm name.
        weights: of the encoder: "registry" (fetched once; for vit_small_patch14_dinov2 alone), "timm" for those of
            timm's hub, "none" for random ones, or a local file or folder with the names of timm, open_clip or
            transformers' CLIP.
        alignment: weight of the distance of faces of one label, at least 0.
        uniformity: weight of how evenly all faces lie on the sphere, at least 0.
        smoothing: of the labels, from 0 to below 1.

    Raises:
        DataError: no such encoder or weights, or an encoder without a LayerNorm; a weight out of range.
    """

    def __init__(
        self,
        encoder: str = PACKAGED,
        weights: str = "registry",
        alignment: float = 0.1,
        uniformity: float = 0.5,
        smoothing: float = 0.1,
    ) -> None:
        super().__init__()
        if not (alignment >= 0 and uniformity >= 0 and 0 <= smoothing < 1):
            raise DataError("alignment and uniformity are at least 0, smoothing is from 0 to below 1")
        self.encoder = make_encoder(encoder, weights)
        norms = [module for module in self.encoder.modules() if isinstance(module, nn.LayerNorm)]
        if not norms:
            raise DataError(f"{encoder}: it has no LayerNorm to tune; take another encoder, such as {PACKAGED}")
        self.encoder.requires_grad_(False)
        for norm in norms:
            norm.requires_grad_(True)
        self.mean, self.std, self.step = self.encoder.mean, self.encoder.std, self.encoder.stride
        self.size = 224 if 224 % self.step == 0 else self.encoder.size
        self.head = nn.Linear(self.encoder.width, 2)
        self.alignment, self.uniformity, self.smoothing = alignment, uniformity, smoothing

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the head; the encoder draws nothing at random, and keeps its statistics, in either."""
        super().train(mode)
        self.encoder.eval()
        return self

    def feature(self, faces: Tensor) -> Tensor:
        """The unit feature (B, D) of faces (B, 3, S, S) in [0, 1]."""
        return unit(self.encoder(self.normalised(faces))[0])

    def forward(self, faces: Tensor) -> DetectorOutput:
        """Score faces, (B, 3, S, S) in [0, 1]."""
        feature, patches = self.encoder(self.normalised(faces))
        return read_features(self.head, unit(feature), unit(patches))

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss: the verdict's cross-entropy, alignment and uniformity.

        Args:
            batch: `faces` (B, 3, S, S) in [0, 1], B at least 2; `labels` (B,) 0 or 1.
        """
        feature, labels = self.feature(batch["faces"]), batch["labels"].long()
        return {
            "verdict": functional.cross_entropy(self.head(feature).float(), labels, label_smoothing=self.smoothing),
            "alignment": self.alignment * alignment(feature, labels),
            "uniformity": self.uniformity * uniformity(feature),
        }


def unit(features: Tensor) -> Tensor:
    """Features (..., D) at length 1, in single precision."""
    return functional.normalize(features.float(), dim=-1)


def read_features(head: nn.Linear, feature: Tensor, patches: Tensor) -> DetectorOutput:
    """What a linear head says of a face and of each of its patches.

    Args:
        head: to one number, the logit, or to two, those of real and forged.
        feature: (B, D).
        patches: (B, h, w, D).
    """
    answers = [head(values).float() for values in (feature, patches)]
    logit, heat = (a[..., 1] - a[..., 0] if a.shape[-1] == 2 else a[..., 0] for a in answers)
    return DetectorOutput(logit, heat[:, None])


def alignment(features: Tensor, labels: Tensor) -> Tensor:
    """The mean squared distance of all pairs of the same label, in [0, 4]; 0 if there is none.

    Args:
        features: (N, D), each of length 1.
        labels: (N,).
    """
    first, second = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    same = (labels[first] == labels[second]).float()
    return (torch.pdist(features).square() * same).sum() / same.sum().clamp(min=1)


def uniformity(features: Tensor) -> Tensor:
    """The logarithm of the mean of exp(-2 d²) over all pairs, d their distance; from log 1e-6 to 0 (all in one place).

    Args:
        features: (N, D), each of length 1, N at least 2.
    """
    return torch.pdist(features).square().mul(-2).exp().mean().clamp(min=_CLAMP).log()
