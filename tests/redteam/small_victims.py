"""Victims that need no file: small networks with fixed random weights, and pictures for them."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.faces.alignment import alignment_matrix
from unmask.networks.victims.recognisers import Recogniser
from unmask.redteam.victims import Classifier, Inputs, Model, RecogniserVictim, Victim

SIDE = 24
POINTS = np.array([[8, 9], [16, 9], [12, 13], [9, 17], [15, 17]], np.float32)


def network(outputs: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.GELU(), nn.Conv2d(8, 16, 3, 2, 1), nn.GELU(), nn.Flatten(), nn.LazyLinear(outputs)
    )
    made(torch.zeros(1, 3, SIDE, SIDE))
    for parameter in made.parameters():
        parameter.requires_grad_(False)
        parameter *= 3
    return made.eval()


def pictures(count: int, seed: int = 0) -> Tensor:
    """uint8 (count, 3, SIDE, SIDE): smooth, none near black or white."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    smooth = functional.interpolate(coarse, SIDE, mode="bilinear", align_corners=True)
    return (60 + 135 * smooth).round().to(torch.uint8)


def classifier(classes: int, seed: int = 0) -> Classifier:
    return Classifier(network(classes, seed), classes, f"small-{classes}")


def classified(classes: int, count: int = 4, seed: int = 0) -> tuple[Victim, Inputs]:
    """A classifier, and pictures whose right class is the one that it gives."""
    victim = classifier(classes, seed)
    shown = pictures(count, seed)
    labels = victim.logits(Inputs(shown, torch.zeros(count, dtype=torch.int64))).argmax(1)
    points = np.repeat(POINTS[None], count, 0)
    return victim, Inputs(shown, labels, landmarks=points)


class SmallRecogniser(Recogniser):
    """A recogniser with random weights."""

    size = 16

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.GELU(), nn.Flatten(), nn.Linear(8 * 64, 12))
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    def features(self, faces: Tensor) -> Tensor:
        return self.network(faces - 0.5)


def recognised(goal: str, count: int = 3) -> tuple[Victim, Inputs]:
    """A recogniser, and pictures that are to be taken for others ("impersonate"), or not any more ("dodge")."""
    recogniser = SmallRecogniser()
    matrices = np.repeat(alignment_matrix(POINTS)[None], count, 0)
    shown, others = pictures(count), pictures(count, 7)
    if goal == "dodge":
        others = (shown.int() + 3).clamp(0, 255).to(torch.uint8)
    with torch.no_grad():
        first, second = (recogniser(one.float() / 255, matrices) for one in (shown, others))
        cosines = (first * second).sum(1)
    threshold = float(cosines.max()) + 0.001 if goal == "impersonate" else float(cosines.min()) - 0.001
    victim = RecogniserVictim(recogniser, "small-recogniser", threshold)
    label, target = (0, 1) if goal == "impersonate" else (1, 0)
    points = np.repeat(POINTS[None], count, 0)
    inputs = Inputs(
        shown, torch.full((count,), label), torch.full((count,), target), points, matrices, others, matrices
    )
    return victim, inputs


class BlackBox(Victim):
    """Another victim without its gradients."""

    differentiable = False

    def __init__(self, other: Victim) -> None:
        self.other, self.name, self.classes = other, f"black-{other.name}", other.classes

    def bind(self, inputs: Inputs) -> Model:
        model = self.other.bind(inputs)
        return lambda x, rows: model(x.detach(), rows)
