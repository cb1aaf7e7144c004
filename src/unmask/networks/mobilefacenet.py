"""MobileFaceNet (Chen et al. 2018, arXiv 1804.07573) as trainable layers, with its published weights. Lab only: torch.

The weights are those of the recogniser "mobilefacenet" (`networks.victims`), where normalisations are folded into the
convolutions already; what is trained from here has none.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE, WIDTH = 112, 192
"""Of its input in pixels, and of its vectors."""
_STAGES = ((64, 2, 64), *((64, 1, 64),) * 4, (128, 2, 128), *((128, 1, 128),) * 6, (256, 2, 128), *((128, 1, 128),) * 2)
"""Half the channels inside a block, its stride, and the channels behind it."""


class MobileFaceNet(nn.Module):
    """From aligned faces (B, 3, 112, 112) in [-1, 1] to vectors (B, 192), not of length 1."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            _Convolution(3, 64, 3, 2),
            nn.PReLU(64),
            _Convolution(64, 64, 3, 1, 64),
            nn.PReLU(64),
        ]
        layers.append(_Convolution(64, 64, 1))
        channels = 64
        for half, stride, width in _STAGES:
            layers.append(_Block(channels, 2 * half, width, stride))
            channels = width
        layers += [_Convolution(channels, 512, 1), nn.PReLU(512), nn.Conv2d(512, 512, 7, groups=512)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(512, 512, 1), nn.Conv2d(512, WIDTH, 1))

    def forward(self, faces: Tensor) -> Tensor:
        """Vectors (B, 192)."""
        vectors: Tensor = self.layers(faces)
        return vectors.flatten(1)


class _Convolution(nn.Conv2d):
    """A convolution padded as TensorFlow pads, which with a stride of 2 is at the right and at the bottom alone."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, width, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        total = self.kernel_size[0] - self.stride[0] if self.kernel_size[0] > 1 else 0
        return super().forward(functional.pad(x, (total // 2, total - total // 2) * 2) if total else x)


class _Block(nn.Module):
    """Widen, convolve each channel, narrow; added to its input where the shapes agree."""

    def __init__(self, channels: int, inner: int, width: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _Convolution(channels, inner, 1),
            nn.PReLU(inner),
            _Convolution(inner, inner, 3, stride, inner),
            nn.PReLU(inner),
            _Convolution(inner, width, 1),
        )
        self.beside = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out + x if self.beside else out


@torch.no_grad()
def published() -> MobileFaceNet:
    """MobileFaceNet with its published weights, fetched once.

    Raises:
        AssetUnavailable: they cannot be fetched from here.
        DataError: the file is not theirs.
    """
    from unmask.networks.victims.recognisers import MobileFaceNet as Frozen

    convolutions, slopes = Frozen().network.layers()
    network = MobileFaceNet()
    own = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for module, (kernel, bias) in zip(own, convolutions, strict=True):
        module.weight.copy_(kernel.permute(2, 3, 0, 1) if module.groups > 1 else kernel.permute(3, 2, 0, 1))
        assert module.bias is not None
        module.bias.copy_(bias)
    activations = [module for module in network.modules() if isinstance(module, nn.PReLU)]
    for activation, slope in zip(activations, slopes, strict=True):
        activation.weight.copy_(2 * slope)  # the graph has relu(x) + s (x - |x|)
    return network
