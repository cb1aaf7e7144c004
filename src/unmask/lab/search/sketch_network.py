"""What every network for sketch search is: sketches and photos to vectors to compare. Lab only: torch, timm."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.networks.backbones import PACKAGED, imagenet_state, load_matching, read_state
from unmask.networks.contract import Batch, Trainable

IMAGENET_CLASSES = 1000


class SketchNetwork(Trainable, ABC):
    """One network for both modalities: pictures float32 (B, 3, S, S) in [0, 1] to vectors (B, D), not normalised.

    A batch has `faces` (the pictures), `labels` (B,) long, places in the classes seen, and `photos` (B,), 1 for
    photographs and 0 for sketches; `prior` (B, 1000) in [0, 1], how near its class is to those of ImageNet, where
    that is known. Vectors are compared by their cosine.

    Attributes:
        of_classes: whether its layers depend on the classes that it is trained on; where not, a run may start from one
            of other classes.
    """

    task = "sketch_search"
    size = 224
    of_classes: bool = True

    @abstractmethod
    def forward(self, faces: Tensor) -> Tensor:
        """Vectors, float32 (B, D)."""


class Backbone(nn.Module):
    """A timm network with the head of 1000 classes that it was trained with.

    Args:
        name: of the timm model.
        weights: "imagenet" (EfficientNet-Lite0 alone), "timm", "none" for random ones, or a local file.

    Raises:
        DataError: timm has no such model, there are no such weights, or they do not fit.
    """

    def __init__(self, name: str, weights: str = "none") -> None:
        super().__init__()
        if not timm.is_model(name):
            raise DataError(f"timm has no model {name!r}; see timm.list_models()")
        if weights == "imagenet" and name != PACKAGED:
            raise DataError(
                f"no registry package has ImageNet weights of {name}; take {PACKAGED}, or weights=timm, weights=FILE "
                "or weights=none"
            )
        own: dict[str, Any] = {"bn_eps": 1e-3} if name == PACKAGED else {}
        try:
            model: Any = timm.create_model(name, pretrained=weights == "timm", num_classes=IMAGENET_CLASSES, **own)
        except Exception as error:  # of the hub's client, the network or timm
            if weights != "timm":
                raise
            raise DataError(
                f"timm could not give weights of {name} ({type(error).__name__}): its hub must be reachable and have "
                "some; take weights=FILE for a local file, or weights=none"
            ) from error
        self.model = model
        if weights == "imagenet":
            self.model.load_state_dict(imagenet_state())
        elif weights not in ("none", "timm"):
            load_matching(self.model, read_state(Path(weights)), weights)
        colours = model.pretrained_cfg
        # The packaged weights were trained on colours from -1 to 1.
        self.mean = (0.5, 0.5, 0.5) if name == PACKAGED else tuple(colours["mean"])
        self.std = (0.5, 0.5, 0.5) if name == PACKAGED else tuple(colours["std"])
        with torch.no_grad():
            self.width = int(self.features(torch.zeros(2, 3, 64, 64)).shape[1])

    def features(self, normalised: Tensor) -> Tensor:
        """Pooled features, (B, width)."""
        model: Any = self.model
        pooled: Tensor = model.forward_head(model.forward_features(normalised), pre_logits=True)
        return pooled

    def logits(self, features: Tensor) -> Tensor:
        """Logits of ImageNet's classes, (B, 1000)."""
        logits: Tensor = self.classifier(features)
        return logits

    @property
    def classifier(self) -> nn.Module:
        """The head of ImageNet's classes."""
        model: Any = self.model
        head: nn.Module = model.get_classifier()
        return head


class ClassHead(nn.Linear):
    """A linear layer for the classes seen, with the published start: weights of deviation 2e-5, no bias."""

    def __init__(self, width: int, classes: Sequence[str]) -> None:
        super().__init__(width, max(len(classes), 2))
        nn.init.trunc_normal_(self.weight, std=2e-5)
        nn.init.zeros_(self.bias)


class SketchClassifier(SketchNetwork):
    """A backbone with a head for the classes seen: what is compared are its pooled features.

    Args:
        backbone: timm's name of it.
        weights: as of `Backbone`.
        classes: those seen, in the order of labels.
    """

    def __init__(self, backbone: str, weights: str, classes: Sequence[str]) -> None:
        super().__init__()
        self.student = Backbone(backbone, weights)
        self.mean, self.std = self.student.mean, self.student.std
        self.head = ClassHead(self.student.width, classes)

    def forward(self, faces: Tensor) -> Tensor:
        """Pooled features, float32 (B, D)."""
        return self.student.features(self.normalised(faces)).float()


def photos_of(batch: Batch) -> Tensor:
    """Which rows of a batch are photographs, float (B,)."""
    return batch["photos"].float()
