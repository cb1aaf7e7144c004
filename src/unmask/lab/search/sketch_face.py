"""A face recogniser brought to sketches: MobileFaceNet, trained on pairs of a sketch and a photo. Lab only: torch.

The loss is the usual contrastive one of two modalities (InfoNCE, as in CLIP; Radford et al. 2021): a sketch is to be
nearer to the photo of its person than to those of all others in the batch, and a photo to its sketch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from unmask.errors import DataError
from unmask.lab.search.sketch_network import SketchNetwork, photos_of
from unmask.networks.contract import Batch
from unmask.networks.mobilefacenet import SIDE, MobileFaceNet, published


class SketchFace(SketchNetwork):
    """The recogniser; faces come as crops about the face box, not aligned.

    Args:
        weights: at the start: "published" or "none".
        temperature: of the cosines.
        classes: people trained on; only their number matters, for batches.
    """

    mean = (127.5 / 255,) * 3
    std = (128 / 255,) * 3
    size = SIDE
    step = SIDE
    of_classes = False

    def __init__(self, weights: str = "published", temperature: float = 0.07, classes: Sequence[str] = ()) -> None:
        super().__init__()
        if weights not in ("published", "none"):
            raise DataError(f"weights={weights}: sketch-face begins from published ones or none")
        self.network = published() if weights == "published" else MobileFaceNet()
        self.temperature = temperature

    def forward(self, faces: Tensor) -> Tensor:
        """Vectors, float32 (B, 192)."""
        return self.network(self.normalised(faces)).float()

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The contrastive loss in both directions."""
        unit = functional.normalize(self(batch["faces"]), dim=1)
        return {"contrastive": contrastive_loss(unit, batch["labels"], photos_of(batch), self.temperature)}


def contrastive_loss(unit: Tensor, labels: Tensor, photos: Tensor, temperature: float) -> Tensor:
    """InfoNCE between sketches and photos, mean of both directions; rows without a partner in the batch do not count.

    Args:
        unit: (B, D), of length 1.
        labels: (B,).
        photos: (B,), 1 for photographs.
        temperature: of the cosines.
    """
    sketch, photo = photos <= 0, photos > 0
    logits = unit[sketch] @ unit[photo].T / temperature
    same = labels[sketch][:, None] == labels[photo]
    terms = []
    for scores, partners in ((logits, same), (logits.T, same.T)):
        kept = partners.any(1)
        if bool(kept.any()):
            right = torch.logsumexp(scores.masked_fill(~partners, -torch.inf)[kept], 1)
            terms.append((torch.logsumexp(scores[kept], 1) - right).mean())
    return torch.stack(terms).mean() if terms else unit.sum() * 0
