"""How visible an attack is: PSNR, SSIM and LPIPS of each picture."""

import os
from pathlib import Path

import torch
from kornia.metrics import ssim
from torch import Tensor

from unmask.errors import DataError

LPIPS_FOLDER = "UNMASK_LPIPS"
"""The environment variable that names the folder of `Lpips.at_hand`."""
LPIPS_MISSING = (
    "LPIPS is not measured: its published heads need an AlexNet, VGG or SqueezeNet trained on ImageNet, and none is at "
    f"hand; put a head (squeeze.pth) and its network (squeezenet1_1-….pth) into a folder and name it in {LPIPS_FOLDER}."
)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in [-1, 1]
_BACKBONES = {
    "alex": ("alexnet", (1, 4, 7, 9, 11)),
    "squeeze": ("squeezenet1_1", (1, 4, 7, 9, 10, 11, 12)),
    "vgg": ("vgg16", (3, 8, 15, 22, 29)),
}
"""Networks of torchvision by head, and the layers of their `features` behind which is compared."""


def psnr(first: Tensor, second: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB of pictures uint8 (B, 3, H, W); infinite where they are equal."""
    error = (first.double() - second.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(255**2 / error)


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """SSIM (B,) (Wang et al. 2004) of pictures uint8 (B, 3, H, W), windows of 11 pixels, mean over the picture."""
    return ssim(first.float() / 255, second.float() / 255, 11).flatten(1).mean(1)


class Lpips:
    """LPIPS 0.1 (Zhang et al. 2018): weighted distances of unit features of a network trained on ImageNet.

    Args:
        name: "alex", "squeeze" or "vgg".
        head: file of the published weights of the layers' channels.
        backbone: file of torchvision's weights of the network.

    Raises:
        DataError: a file is not what it should be.
    """

    def __init__(self, name: str, head: Path, backbone: Path) -> None:
        from torchvision import models

        network, places = _BACKBONES[name]
        layers = _read_weights(backbone)
        self._layers = getattr(models, network)(weights=None).features.eval()
        try:
            own = {key.removeprefix("features."): value for key, value in layers.items() if key.startswith("features.")}
            self._layers.load_state_dict(own)
        except RuntimeError as error:
            raise DataError(f"{backbone}: not torchvision's weights of {network}; name another file") from error
        heads = _read_weights(head)
        try:
            self._heads = [heads[f"lin{number}.model.1.weight"] for number in range(len(places))]
        except KeyError as error:
            raise DataError(f"{head}: not the published LPIPS head {name!r}; name another file") from error
        self.name, self._places = name, places

    @classmethod
    def at_hand(cls) -> "Lpips | None":
        """The first of the three whose two files lie in the folder that `LPIPS_FOLDER` names; None if none does.

        Heads are called as published (`alex.pth`), networks as torchvision calls them (`alexnet-owt-7be5be79.pth`).
        """
        folder = os.environ.get(LPIPS_FOLDER)
        for name, (network, _) in _BACKBONES.items():
            head = Path(folder or "", f"{name}.pth")
            files = sorted(Path(folder).glob(f"{network}-*.pth")) if folder else []
            if files and head.is_file():
                return cls(name, head, files[0])
        return None

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances (B,) of pictures uint8 (B, 3, H, W), 64 pixels wide or more; 0 for equal ones."""
        shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (_SHIFT, _SCALE))
        x = (torch.cat([first, second]).float() / 127.5 - 1 - shift) / scale
        total = torch.zeros(len(first))
        with torch.no_grad():
            for number, layer in enumerate(self._layers):
                x = layer(x)
                if number in self._places:
                    unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
                    one, other = unit.chunk(2)
                    head = self._heads[self._places.index(number)]
                    total += ((one - other).square() * head).sum(1).mean((1, 2))
        return total


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling random bytes raises
        raise DataError(f"{path}: not a readable file of weights ({type(error).__name__})") from error
    if not isinstance(weights, dict):
        raise DataError(f"{path}: not a readable file of weights (no dictionary)")
    return weights
