"""How near a set of pictures is to another one: KID on a fixed feature network. Lab only."""

import numpy as np
import torch
from torch import Tensor

from unmask.networks.backbones import PACKAGED, trunk


class FeatureNetwork:
    """Pooled features of EfficientNet-Lite0 on ImageNet: fixed, the same for every report.

    Raises:
        DataError: its weights cannot be fetched.
    """

    def __init__(self) -> None:
        self._network = trunk(PACKAGED, weights="imagenet")[0].eval()

    def __call__(self, pictures: Tensor) -> np.ndarray:
        """Features float64 (B, D) of pictures uint8 (B, 3, H, W), resized to 224 pixels."""
        parts = []
        with torch.no_grad():
            for part in pictures.split(16):
                x = torch.nn.functional.interpolate(part.float(), 224, mode="bilinear", antialias=True)
                parts.append(self._network((x - 127) / 128).mean((2, 3)))
        return torch.cat(parts).double().numpy()


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float | None:
    """KID (Binkowski et al. 2018): the unbiased squared MMD with the kernel (x.y / D + 1)^3.

    Args:
        first, second: features (N, D) and (M, D).

    Returns:
        About 0 for two samples of one distribution, below it too; None for fewer than two pictures a side.
    """
    if min(len(first), len(second)) < 2:
        return None
    kernels = [(a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((first, first), (second, second), (first, second))]
    own = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernels[:2]]
    return float(own[0] + own[1] - 2 * kernels[2].mean())
