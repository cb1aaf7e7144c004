"""A small vision-language model for those who have no other: an image tower brought into a sentence encoder's space.

The text tower is all-MiniLM-L6-v2 (`sentences`), which stays as it is published; only the image tower is trained, as in
locked-image tuning the other way round (LiT; Zhai et al., CVPR 2022; DeViSE; Frome et al., NeurIPS 2013). What has been
trained is thus the image tower alone. Lab only: torch, timm.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.networks.backbones import PACKAGED, trunk
from unmask.networks.contract import Batch, Trainable

WIDTH = 384
"""Of the sentence encoder's vectors, and so of the common space."""
_LEAST_SCALE, _MOST_SCALE = 1.0, 100.0  # the upper one as in CLIP


class DualEncoder(Trainable):
    """The image tower and the scale of cosines, trained against vectors of texts.

    A batch has `faces` (the pictures), `texts` float32 (B, 384), unit vectors of what each shows, and `labels` long
    (B,): pictures of one label show the same.

    Args:
        backbone: of timm.
        weights: "imagenet" (EfficientNet-Lite0 alone), "timm", "none" for random ones, or a local file.
    """

    task = "vision_language"
    size = 128

    def __init__(self, backbone: str = PACKAGED, weights: str = "imagenet") -> None:
        super().__init__()
        self.trunk, channels = trunk(backbone, weights=weights)
        self.projection = nn.Linear(channels, WIDTH)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, faces: Tensor) -> Tensor:
        """Vectors of pictures float32 (B, 3, S, S) in [0, 1], float32 (B, 384), of any length."""
        features: Tensor = self.projection(self.trunk(self.normalised(faces)).mean((2, 3)))
        return features

    def scale(self) -> Tensor:
        """What cosines are multiplied by, a scalar from 1 to 100."""
        return self.logit_scale.exp().clamp(_LEAST_SCALE, _MOST_SCALE)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """CLIP's loss of pairs: a picture's text among all of the batch, and a text's picture."""
        vectors = functional.normalize(self(batch["faces"]).float(), dim=1)
        logits = self.scale() * vectors @ batch["texts"].T
        labels = batch["labels"]
        same = (labels[:, None] == labels[None]).float()
        right = same / same.sum(1, keepdim=True)
        return {"pairs": (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)) / 2}
