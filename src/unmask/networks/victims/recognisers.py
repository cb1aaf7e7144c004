"""Five published face recognisers in torch: from a picture and the place of its face to a unit vector. Lab only.

The alignment is a part of each, and differentiable: gradients reach the pixels of the picture, not of a crop. Where the
landmarks are is found once, outside; an attack does not move them. Weights are frozen.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.networks.identity import IdentityEmbedder, align_faces
from unmask.networks.victims.dlib_resnet import DlibResNet
from unmask.networks.victims.tensorflow_graph import read_graph
from unmask.networks.victims.tflite_graph import read_tflite
from unmask.packs.assets import DLIB_RESNET, FACENET, FACERES, MOBILEFACENET, SFACE, fetch
from unmask.plugins import Entry, Table


class Recogniser(nn.Module, ABC):
    """Whose face: vectors whose cosine says how alike two faces are.

    Attributes:
        size: side in pixels of the aligned face that it sees.
        zoom: how large the face is there against ArcFace's template (`networks.identity.align_faces`).
    """

    size: int = 112
    zoom: float = 1.0

    @abstractmethod
    def features(self, faces: Tensor) -> Tensor:
        """Vectors (B, D), of any length, of aligned faces (B, 3, size, size) RGB in [0, 1]."""

    def forward(self, pictures: Tensor, matrices: np.ndarray) -> Tensor:
        """Embed the faces of pictures.

        Args:
            pictures: float32 (B, 3, H, W) RGB in [0, 1].
            matrices: (B, 2, 3), as `faces.alignment.alignment_matrix` gives them for 112 pixels.

        Returns:
            float32 (B, D), each of length 1.
        """
        return functional.normalize(self.features(align_faces(pictures, matrices, self.size, self.zoom)), dim=1)


class SFace(Recogniser):
    """SFace (Zhong et al. 2021): MobileFaceNet trained with a sigmoid-constrained hypersphere loss."""

    def __init__(self) -> None:
        super().__init__()
        self.network = IdentityEmbedder(fetch(SFACE))

    def features(self, faces: Tensor) -> Tensor:
        """Vectors (B, 128)."""
        return self.network(faces)


class FaceNet(Recogniser):
    """FaceNet (Schroff et al. 2015) as an Inception-ResNet-v1; every picture is whitened by itself."""

    size, zoom = 160, 0.85

    def __init__(self) -> None:
        super().__init__()
        self.network = read_graph(fetch(FACENET), "embeddings")

    def features(self, faces: Tensor) -> Tensor:
        """Vectors (B, 128)."""
        spread, mean = torch.std_mean(faces, (1, 2, 3), correction=0, keepdim=True)
        white = (faces - mean) / spread.clamp(min=1 / (255 * faces[0].numel() ** 0.5))
        return self.network(white.permute(0, 2, 3, 1))


class MobileFaceNet(Recogniser):
    """MobileFaceNet (Chen et al. 2018) as it is published for telephones."""

    def __init__(self) -> None:
        super().__init__()
        self.network = read_tflite(fetch(MOBILEFACENET))

    def features(self, faces: Tensor) -> Tensor:
        """Vectors (B, 192)."""
        return self.network(((faces * 255 - 127.5) / 128).permute(0, 2, 3, 1))


class FaceRes(Recogniser):
    """FaceRes: a MobileNet of the library Human, trained for age and gender among others; its pooled features."""

    size, zoom = 224, 0.85
    _MEAN = (103.939, 116.779, 123.68)  # of blue, green and red, of 255

    def __init__(self) -> None:
        super().__init__()
        self.network = read_graph(fetch(*FACERES), "global_pooling/Mean", fetch(*reversed(FACERES)))

    def features(self, faces: Tensor) -> Tensor:
        """Vectors (B, 1024)."""
        blue_first = (faces * 255).flip(1).permute(0, 2, 3, 1)
        return self.network(blue_first - faces.new_tensor(self._MEAN))


class Dlib(Recogniser):
    """dlib's ResNet (King 2017), published for browsers in eight bits."""

    size, zoom = 150, 0.85

    def __init__(self) -> None:
        super().__init__()
        self.network = DlibResNet(fetch(*DLIB_RESNET), fetch(*reversed(DLIB_RESNET)))

    def features(self, faces: Tensor) -> Tensor:
        """Vectors (B, 128)."""
        return self.network(faces)


_HERE = "unmask.networks.victims.recognisers"
RECOGNISERS: Table[type[Recogniser]] = Table(
    "recogniser",
    "unmask.recognisers",
    (
        Entry("sface", f"{_HERE}:SFace", "SFace, 112 px"),
        Entry("facenet", f"{_HERE}:FaceNet", "FaceNet (Inception-ResNet-v1), 160 px"),
        Entry("mobilefacenet", f"{_HERE}:MobileFaceNet", "MobileFaceNet, 112 px"),
        Entry("faceres", f"{_HERE}:FaceRes", "FaceRes, 224 px"),
        Entry("dlib", f"{_HERE}:Dlib", "dlib's ResNet, 150 px"),
    ),
)
"""Recognisers by name, each loaded when it is asked for; another package adds one by an entry point."""
