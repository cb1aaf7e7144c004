"""Parsed parts of a face: skin, eyes, nose, mouth, hair, as a network of 19 classes sees them. Lab only: LiteRT.

BiSeNetV2 (Yu et al., IJCV 2021) trained on CelebAMask-HQ, whose own terms are non-commercial.
"""

from pathlib import Path

import cv2
import numpy as np

from unmask.errors import DataError, MissingExtraError
from unmask.forging.weight_files import WeightFile

PARSER = WeightFile(
    "face_parser/bisenetv2_celebamaskhq_448x448_integer_quant.tflite",
    "d0c1fc479bbd40084283043abf01d11a5c3a54b2ecc4bc812cde6f36989ad22a",
    "MIT (trained on CelebAMask-HQ, whose own terms are non-commercial)",
)
CLASSES = (
    *("background", "skin", "left_brow", "right_brow", "left_eye", "right_eye", "glasses", "left_ear", "right_ear"),
    *("earring", "nose", "mouth", "upper_lip", "lower_lip", "neck", "necklace", "cloth", "hair", "hat"),
)
"""Of CelebAMask-HQ, in the network's order."""
PARTS = {
    "skin": ("skin",),
    "eyes": ("left_brow", "right_brow", "left_eye", "right_eye"),
    "nose": ("nose",),
    "mouth": ("mouth", "upper_lip", "lower_lip"),
    "hair": ("hair",),
}
"""What is forged together, by name: eyes with their brows, a mouth with its lips."""

_SIZE = 448  # the network's input side
_LEAST = 0.002  # of the picture; what is less is taken for an error


class FaceParser:
    """The network.

    Args:
        weights: folder of the user's that has `PARSER`.

    Raises:
        DataError: the file is not there, or has another hash.
        MissingExtraError: LiteRT is not installed.
    """

    def __init__(self, weights: Path | None) -> None:
        file = PARSER.find(weights)
        if file is None:
            raise DataError(f"{PARSER.path} is not in {weights or 'any folder named by --weights'}; put it there")
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingExtraError("lab", "the face parser") from error
        self._net = Interpreter(str(file), num_threads=1)
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        self._output = self._net.get_output_details()[0]["index"]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The class of every pixel.

        Args:
            pixels: uint8 (H, W, 3) RGB, a face with some surroundings.

        Returns:
            uint8 (H, W), rows of `CLASSES`.
        """
        height, width = pixels.shape[:2]
        window = cv2.resize(pixels, (_SIZE, _SIZE), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 127.5 - 1
        self._net.set_tensor(self._input, window[None])
        self._net.invoke()
        labels = self._net.get_tensor(self._output)  # (448, 448): the network itself takes the best class
        return cv2.resize(labels.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)


def part_masks(labels: np.ndarray) -> dict[str, np.ndarray]:
    """The parts that a parsed picture shows.

    Args:
        labels: uint8 (H, W), as `FaceParser` gives them.

    Returns:
        bool (H, W) by the names of `PARTS`, without parts too small to be true.
    """
    masks = {name: np.isin(labels, [CLASSES.index(kind) for kind in kinds]) for name, kinds in PARTS.items()}
    return {name: mask for name, mask in masks.items() if mask.mean() >= _LEAST}


KEPT = (
    "skin",
    "nose",
    "glasses",
    "left_eye",
    "right_eye",
    "left_brow",
    "right_brow",
    "mouth",
    "upper_lip",
    "lower_lip",
)
"""The classes that say whose face it is (Adv-Diffusion, arXiv 2312.11285, [repo]); ears, hair, neck are not of them."""


def surroundings(labels: np.ndarray) -> np.ndarray:
    """What of a picture may be painted anew without touching the face itself.

    Args:
        labels: uint8 (H, W), as `FaceParser` gives them.

    Returns:
        bool (H, W), False at the classes of `KEPT`.
    """
    return ~np.isin(labels, [CLASSES.index(kind) for kind in KEPT])
