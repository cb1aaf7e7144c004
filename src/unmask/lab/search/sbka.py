"""SBKA: symmetrical bidirectional knowledge alignment for zero-shot sketch-based retrieval. Lab only: torch, timm.

Liu et al. 2023, arXiv 2312.10320; code zermatt-luo/SBKA, which descends from SAKE (Liu et al., ICCV 2019). A student
learns the classes seen from sketches and photos together. A teacher, the same network as ImageNet made it, gives soft
labels of ImageNet's 1000 classes for the photos; after a warm-up its head learns from the student in turn. What is
searched by are the student's pooled features.

What the published loss does, and what is offered beside it:

- The targets of the teacher's loss are not detached there, so that its gradient reaches the student as well;
  `detach_targets=false` does the same. With true, the default, each learns from its own loss alone.
- The published modality loss, KL(softmax(z) || softmax(f)) with z drawn from N(0, I) for every picture, has the
  uniform distribution as its mean target: it keeps features from being peaked, and aligns no modalities. It is
  `modality_loss=noise_kl`. `moments` draws mean and variance of each channel to 0 and 1, of sketches and photos apart.
- Student and teacher's head share the engine's optimiser (AdamW, one-cycle rate) where the code has an Adam each.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from unmask.lab.search.sketch_network import Backbone, SketchClassifier, photos_of
from unmask.networks.contract import Batch

Alignment = Literal["bidirectional", "fixed", "none"]
ModalityLoss = Literal["noise_kl", "moments", "none"]


class SBKA(SketchClassifier):
    """The student, with its teacher in training.

    Args:
        backbone: timm's name of it; "convnextv2_tiny" as published, "efficientnet_lite0" for CPUs.
        weights: of student and teacher at the start: "imagenet" (EfficientNet-Lite0 alone), "timm", "none", or a file.
        alignment: with the teacher: both learn from each other, the student alone ("fixed", as SAKE has it), or none.
        modality_loss: what keeps sketches and photos alike; see the module's head.
        modality_weight: of that loss.
        prior_weight: of the semantic prior that is added to the logits of targets.
        warm_up: share of the training after which the teacher's head learns too.
        detach_targets: whether no gradient passes through targets.
        classes: those seen, in the order of labels.
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        weights: str = "imagenet",
        alignment: Alignment = "bidirectional",
        modality_loss: ModalityLoss = "noise_kl",
        modality_weight: float = 0.1,
        prior_weight: float = 0.3,
        warm_up: float = 0.5,
        detach_targets: bool = True,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__(backbone, weights, classes)
        self.alignment, self.modality_loss = alignment, modality_loss
        self.modality_weight, self.prior_weight, self.warm_up = modality_weight, prior_weight, warm_up
        self.detach_targets = detach_targets
        self.teacher: Backbone | None = None
        if alignment != "none":
            self.teacher = Backbone(backbone, "none")
            self.teacher.load_state_dict(self.student.state_dict())
            self.teacher.requires_grad_(False)
            if alignment == "bidirectional":
                self.teacher.classifier.requires_grad_(True)

    def train(self, mode: bool = True) -> "SBKA":
        """As of torch; the teacher stays in evaluation mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The classification loss, the modality loss, and what aligns student and teacher.

        Until `progress` is past the warm-up the teacher's head has no gradient.
        """
        labels, photos = batch["labels"].long(), photos_of(batch)
        pictures = self.normalised(batch["faces"])
        features = self.student.features(pictures)
        losses = {"class": functional.cross_entropy(self.head(features).float(), labels)}
        if self.modality_loss != "none":
            losses["modality"] = self.modality_weight * modality_loss(features.float(), photos, self.modality_loss)
        if self.teacher is None:
            return losses
        with torch.no_grad():
            known = self.teacher.features(pictures)
        student, teacher = self.student.logits(features).float(), self.teacher.logits(known).float()
        shift = self.prior_weight * batch["prior"] if "prior" in batch else torch.zeros_like(student)
        losses["to_student"] = soft_cross_entropy(student, teacher.detach() + shift, photos)
        if self.alignment == "bidirectional" and float(batch["progress"]) > self.warm_up:
            target = (student.detach() if self.detach_targets else student) + shift
            losses["to_teacher"] = soft_cross_entropy(teacher, target, photos)
        return losses


def soft_cross_entropy(logits: Tensor, target: Tensor, photos: Tensor) -> Tensor:
    """Cross-entropy from softmax(target) to softmax(logits), mean over the photographs; 0 without any.

    Args:
        logits: (B, K).
        target: (B, K), logits too; a gradient passes through them unless they are detached.
        photos: (B,), 1 where a row counts.
    """
    rows = -(target.softmax(1) * logits.log_softmax(1)).sum(1)
    return (photos * rows).sum() / photos.sum().clamp(min=1)


def modality_loss(features: Tensor, photos: Tensor, kind: ModalityLoss) -> Tensor:
    """What keeps features of sketches and photos alike.

    Args:
        features: (B, D).
        photos: (B,), 1 for photographs.
        kind: "noise_kl" or "moments"; see the module's head.
    """
    if kind == "noise_kl":
        noise = torch.randn_like(features).softmax(1)
        return functional.kl_div(features.log_softmax(1), noise, reduction="batchmean")
    terms = []
    for rows in (features[photos > 0], features[photos <= 0]):
        if len(rows) > 1:
            terms.append(rows.mean(0).square().mean() + (rows.var(0) - 1).square().mean())
    return torch.stack(terms).mean() if terms else features.sum() * 0
