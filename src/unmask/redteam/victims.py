"""The contract of a victim: from pictures in [0, 1] to logits, with gradients where there are any.

All questions come down to classes, so that every attack knows one kind of victim: a detector's classes are real (0) and
forged (1), a recogniser's are "another person" (0) and "the same person" (1) as the reference.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.forgery.detector import Detector
from unmask.networks.victims.recognisers import Recogniser
from unmask.packs import Pack

Model = Callable[[Tensor, Tensor], Tensor]
"""From pictures (b, 3, H, W) in [0, 1] and the rows (b,) of the inputs that they stand for to logits (b, C)."""

REAL, FORGED = 0, 1
OTHER, SAME = 0, 1


@dataclass(frozen=True)
class Inputs:
    """Pictures to attack; everything has one row for each.

    Attributes:
        pictures: uint8 (B, 3, H, W) RGB.
        labels: int64 (B,): the class that is right.
        targets: int64 (B,): the class that is wanted; None for any but the right one.
        landmarks: (B, 5, 2) in pixels of the picture, as `faces.finding` has them.
        matrices: (B, 2, 3), the alignment to ArcFace's template of 112 pixels.
        references: of recognisers: the pictures of whom one is to be taken for, or not any more, uint8 (B, 3, h, w).
        reference_matrices: (B, 2, 3), of the references.
        starts: pictures that have the wanted answer already, uint8 (B, 3, H, W): where decision-based attacks begin.
    """

    pictures: Tensor
    labels: Tensor
    targets: Tensor | None = None
    landmarks: np.ndarray | None = None
    matrices: np.ndarray | None = None
    references: Tensor | None = None
    reference_matrices: np.ndarray | None = None
    starts: Tensor | None = None

    def __post_init__(self) -> None:
        if self.pictures.dtype != torch.uint8 or self.pictures.ndim != 4 or self.pictures.shape[1] != 3:
            raise DataError(
                f"pictures to attack are uint8 (B, 3, H, W), not {self.pictures.dtype} {tuple(self.pictures.shape)}"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and len(value) != len(self.pictures):
                raise DataError(f"{len(self.pictures)} pictures to attack, but {len(value)} {field.name}")
        if self.targets is not None and bool((self.targets == self.labels).any()):
            raise DataError("a target is the class that is right already; ask for another one")

    def __len__(self) -> int:
        return len(self.pictures)

    def rows(self, rows: Tensor) -> "Inputs":
        """Some of them.

        Args:
            rows: int64 (b,).
        """
        chosen: dict[str, Tensor | np.ndarray | None] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            chosen[field.name] = None if value is None else value[rows if isinstance(value, Tensor) else rows.numpy()]
        return Inputs(**chosen)  # type: ignore[arg-type]


class Victim(ABC):
    """What is attacked.

    Attributes:
        name: in messages and tables.
        classes: how many logits it has for a picture.
        differentiable: whether gradients reach the pictures.
    """

    name: str
    classes: int = 2
    differentiable: bool = True

    @abstractmethod
    def bind(self, inputs: Inputs) -> Model:
        """The victim as a function of pictures; what depends on references is computed once here.

        Raises:
            DataError: the inputs lack what this victim needs.
        """

    def logits(self, inputs: Inputs, batch: int = 16) -> Tensor:
        """Logits (B, C) of the inputs as they are, in a pass of its own, without gradients."""
        model, rows = self.bind(inputs), torch.arange(len(inputs))
        with torch.no_grad():
            return torch.cat([model(pixels(inputs.pictures[part]), part) for part in rows.split(batch)])


def pixels(pictures: Tensor) -> Tensor:
    """Pictures uint8 as float32 in [0, 1]."""
    return pictures.float() / 255


class Classifier(Victim):
    """Any network with logits (B, C).

    Args:
        network: from (B, 3, H, W) in [0, 1]; used in evaluation mode.
        classes: C.
        name: in messages and tables.
    """

    def __init__(self, network: nn.Module, classes: int, name: str = "classifier") -> None:
        self.network, self.classes, self.name = network.eval(), classes, name

    def bind(self, inputs: Inputs) -> Model:
        """The network itself."""
        return lambda x, _: self.network(x)


class DetectorVictim(Victim):
    """A forgery detector of the lab.

    Args:
        network: any `Detector`; used in evaluation mode.
        name: in messages and tables.
        threshold: logit above which a face counts as forged.
    """

    def __init__(self, network: Detector, name: str, threshold: float = 0.0) -> None:
        self.network, self.name, self.threshold = network.eval(), name, threshold

    def bind(self, inputs: Inputs) -> Model:
        """Logits for real and forged; their difference is the detector's less the threshold."""
        return lambda x, _: two_sided(self.network(resized(x, self.network.size)).logit - self.threshold)


class PackVictim(Victim):
    """A forgery detection pack: a black box in ONNX Runtime, or with the gradients of its graph.

    Args:
        pack: of task "forgery_detection".
        threshold: logit above which a face counts as forged.
        graph: the same model in torch, for attacks with gradients; what the pack says is asked of ONNX Runtime all
            the same.
    """

    def __init__(self, pack: Pack, threshold: float = 0.0, graph: nn.Module | None = None) -> None:
        if pack.card.task != "forgery_detection" or pack.card.outputs[0] != "logit":
            raise DataError(f"pack {pack.card.name}: only forgery detectors are attacked")
        self.pack, self.name, self.threshold, self._graph = pack, pack.card.name, threshold, graph
        self.differentiable = graph is not None

    def bind(self, inputs: Inputs) -> Model:
        """As of `DetectorVictim`."""

        def model(x: Tensor, _: Tensor) -> Tensor:
            shown = resized(x, self.pack.card.input_size[0])
            if self._graph is not None and shown.requires_grad:
                logit = self._graph(shown).reshape(-1)
            else:
                logit = torch.from_numpy(np.array(self.pack.run(shown.detach().numpy())[0], np.float32)).reshape(-1)
            return two_sided(logit - self.threshold)

        return model


def operating_logit(pack: Pack) -> float:
    """The logit above which a forgery detector says forged: the first operating point on its card."""
    point = min(max(pack.card.operating_points[0].threshold, 1e-6), 1 - 1e-6)
    return math.log(point / (1 - point))


class RecogniserVictim(Victim):
    """A face recogniser with a threshold.

    Args:
        network: the recogniser.
        name: in messages and tables.
        threshold: cosine from which two faces count as one person's.
    """

    def __init__(self, network: Recogniser, name: str, threshold: float) -> None:
        self.network, self.name, self.threshold = network.eval(), name, threshold
        self._known: dict[bytes, Tensor] = {}  # vectors of references by their content: few pictures, asked often

    def embed(self, pictures: Tensor, matrices: np.ndarray) -> Tensor:
        """Unit vectors (B, D) of faces in pictures (B, 3, H, W) in [0, 1]."""
        return self.network(pictures, matrices)

    def bind(self, inputs: Inputs) -> Model:
        """Logits for another and for the same person; their difference is the cosine less the threshold."""
        if inputs.matrices is None or inputs.references is None or inputs.reference_matrices is None:
            raise DataError(f"{self.name}: a recogniser needs the alignment of every face, and references to compare")
        matrices = inputs.matrices
        pairs = zip(inputs.references, inputs.reference_matrices, strict=True)
        wanted = torch.stack([self._reference(picture, matrix) for picture, matrix in pairs])

        def model(x: Tensor, rows: Tensor) -> Tensor:
            cosine = (self.embed(x, matrices[rows.numpy()]) * wanted[rows]).sum(1)
            return two_sided(cosine - self.threshold)

        return model

    def _reference(self, picture: Tensor, matrix: np.ndarray) -> Tensor:
        """The vector (D,) of one reference."""
        key = hashlib.sha256(picture.numpy().tobytes() + np.ascontiguousarray(matrix).tobytes()).digest()
        if key not in self._known:
            with torch.no_grad():
                self._known[key] = self.embed(pixels(picture[None]), matrix[None])[0]
        return self._known[key]

    def cosines(self, logits: Tensor) -> Tensor:
        """The cosines (B,) behind logits of `bind`'s model."""
        return logits[:, SAME] - logits[:, OTHER] + self.threshold


def resized(x: Tensor, side: int) -> Tensor:
    """Pictures (b, 3, S, S) at another side, with gradients; untouched where they have it, or where it is 0 (any)."""
    if side in (0, x.shape[-1]):
        return x
    return torch.nn.functional.interpolate(x, side, mode="bilinear", antialias=True)


def two_sided(difference: Tensor) -> Tensor:
    """Logits (B, 2) of a decision by one number (B,): neither is constant, so that each can be pushed by itself."""
    return torch.stack([-difference / 2, difference / 2], 1)
