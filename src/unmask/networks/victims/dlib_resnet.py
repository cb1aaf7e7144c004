"""dlib's face recogniser (King 2017) in torch, from the weights that face-api.js publishes in eight bits. Lab only.

A ResNet of 29 convolutions, each followed by a scale and a shift in place of a normalisation.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError
from unmask.networks.victims.tensorflow_graph import same_padding, unpacked_weights

SIDE = 150
_MEAN = (122.782, 117.001, 104.298)  # of red, green and blue, of 255
_STAGES = (
    *("conv32_1", "conv32_2", "conv32_3", "conv64_down", "conv64_1", "conv64_2", "conv64_3"),
    *("conv128_down", "conv128_1", "conv128_2", "conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
)


class DlibResNet(nn.Module):
    """Descriptors of faces, frozen.

    Args:
        manifest: `face_recognition_model-weights_manifest.json`.
        weights: `face_recognition_model.bin`.

    Raises:
        DataError: they are not those of this network.
    """

    def __init__(self, manifest: Path, weights: Path) -> None:
        super().__init__()
        try:
            (group,) = json.loads(manifest.read_text(encoding="utf-8"))
            values = unpacked_weights(group["weights"], weights.read_bytes())
            tensors = {name: torch.from_numpy(value.copy()) for name, value in values.items()}
            for name, tensor in tensors.items():
                kernel = tensor.permute(3, 2, 0, 1).contiguous() if name.endswith("filters") else tensor
                self.register_buffer(_place(name), kernel)
            for stage in ("conv32_down", *(f"{stage}/conv{part}" for stage in _STAGES for part in (1, 2))):
                self._weight(f"{stage}/conv/filters")
            self._weight("fc")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{manifest}: not the weights of dlib's recogniser ({type(error).__name__})") from error

    def forward(self, faces: Tensor) -> Tensor:
        """Descriptors (B, 128), of any length, of faces (B, 3, 150, 150) RGB in [0, 1]."""
        x = (faces * 255 - faces.new_tensor(_MEAN).view(1, 3, 1, 1)) / 256
        x = functional.max_pool2d(self._conv(x, "conv32_down", 2).relu(), 3, 2)
        for stage in _STAGES:
            x = self._residual(x, stage, "down" in stage)
        return x.mean((2, 3)) @ self._weight("fc")

    def _weight(self, name: str) -> Tensor:
        return self.get_buffer(_place(name))

    def _conv(self, x: Tensor, name: str, stride: int) -> Tensor:
        kernel = self._weight(f"{name}/conv/filters")
        if stride == 1:
            x = same_padding(x, kernel.shape[2:], (1, 1))
        x = functional.conv2d(x, kernel, self._weight(f"{name}/conv/bias"), stride)
        scale, shift = (self._weight(f"{name}/scale/{part}").view(1, -1, 1, 1) for part in ("weights", "biases"))
        return x * scale + shift

    def _residual(self, x: Tensor, name: str, down: bool) -> Tensor:
        y = self._conv(self._conv(x, f"{name}/conv1", 2 if down else 1).relu(), f"{name}/conv2", 1)
        if down:
            x = functional.avg_pool2d(x, 2, 2)
            high, wide = max(x.shape[2], y.shape[2]), max(x.shape[3], y.shape[3])
            more = y.shape[1] - x.shape[1]
            x = functional.pad(x, (0, wide - x.shape[3], 0, high - x.shape[2], 0, more))
            y = functional.pad(y, (0, wide - y.shape[3], 0, high - y.shape[2]))
        return (x + y).relu()


def _place(name: str) -> str:
    return name.replace("/", "_")
