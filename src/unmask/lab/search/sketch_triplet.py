"""The usual baseline of sketch search: triplets of a sketch, a photo of its class and one of another. Lab only: torch.

As in Sketch_LVM (Sain et al., CVPR 2023): cosine distance, margin 0.2; here with all negatives of a batch that are
nearer than the margin allows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from unmask.lab.search.sketch_network import SketchClassifier, photos_of
from unmask.networks.contract import Batch


class SketchTriplet(SketchClassifier):
    """A backbone trained on triplets, beside a classifier of the classes seen.

    Args:
        backbone: timm's name of it.
        weights: of it at the start: "imagenet" (EfficientNet-Lite0 alone), "timm", "none", or a file.
        triplet_margin: of cosine distances.
        class_weight: of the classification loss; 0 for triplets alone.
        classes: those seen, in the order of labels.
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        weights: str = "imagenet",
        triplet_margin: float = 0.2,
        class_weight: float = 1.0,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__(backbone, weights, classes)
        self.triplet_margin, self.class_weight = triplet_margin, class_weight

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Triplets of all sketches with all photos of the batch, and the classification loss."""
        labels = batch["labels"].long()
        features = self.student.features(self.normalised(batch["faces"])).float()
        losses = {"triplet": triplet_loss(features, labels, photos_of(batch), self.triplet_margin)}
        if self.class_weight:
            losses["class"] = self.class_weight * functional.cross_entropy(self.head(features), labels)
        return losses


def triplet_loss(features: Tensor, labels: Tensor, photos: Tensor, margin: float) -> Tensor:
    """Mean over the triplets of a batch that break the margin; 0 without any.

    Args:
        features: (B, D).
        labels: (B,).
        photos: (B,), 1 for photographs.
        margin: of cosine distances, in [0, 2].
    """
    unit = functional.normalize(features, dim=1)
    sketch, photo = photos <= 0, photos > 0
    distance = 1 - unit[sketch] @ unit[photo].T
    same = labels[sketch][:, None] == labels[photo]
    excess = distance[:, :, None] - distance[:, None, :] + margin
    broken = torch.where(same[:, :, None] & ~same[:, None, :], excess, 0.0).clamp(min=0)
    return broken.sum() / (broken > 0).sum().clamp(min=1)
