"""Dense face landmarks for the forgery makers: the 468-point face mesh (Kartynnik et al. 2019), run by LiteRT.

Lab only: needs the "lab" extra.
"""

import cv2
import numpy as np

from unmask.errors import MissingExtraError
from unmask.packs.assets import FACE_MESH, fetch

# Point indices of the mesh's regions, facts of the public mesh topology (ASSETS: mediapipe's connection lists).
FACE_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
             149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
# Image-left / image-right, i.e. the subject's right / left.
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_BROW = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
LEFT_BROW = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
NOSE = (168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 98, 97, 326, 327, 294, 278, 344, 440, 275, 45, 220, 115, 48, 64)

REGIONS: dict[str, tuple[int, ...]] = {
    "right_eye": RIGHT_EYE + RIGHT_BROW,
    "left_eye": LEFT_EYE + LEFT_BROW,
    "nose": NOSE,
    "mouth": LIPS,
}

_SIZE = 192  # the network's input side


class FaceMesh:
    """468 landmarks of a face that was found already."""

    def __init__(self) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingExtraError("lab", "the face mesh") from error
        self._net = Interpreter(str(fetch(FACE_MESH)), num_threads=1)
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        outputs = self._net.get_output_details()
        self._points = next(o["index"] for o in outputs if int(np.prod(o["shape"])) == 468 * 3)

    def find(self, pixels: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Mesh points of one face.

        Args:
            pixels: uint8 (H, W, 3) RGB.
            landmarks: (5, 2) as `FoundFace.landmarks`, pixels.

        Returns:
            float32 (468, 2), pixels of the picture.
        """
        right_eye, left_eye, _, right_mouth, left_mouth = np.asarray(landmarks, np.float32)
        eyes, mouth = (right_eye + left_eye) / 2, (right_mouth + left_mouth) / 2
        # The window is turned with the eyes; its side follows the larger of eye distance and face height, for profiles.
        angle = float(np.degrees(np.arctan2(*(left_eye - right_eye)[::-1])))
        side = 4.0 * max(float(np.linalg.norm(left_eye - right_eye)), float(np.linalg.norm(mouth - eyes)) * 0.95)
        centre = eyes + 0.45 * (mouth - eyes)
        turn = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), angle, _SIZE / max(side, 1.0))
        turn[:, 2] += _SIZE / 2 - centre
        window = cv2.warpAffine(pixels, turn, (_SIZE, _SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        self._net.set_tensor(self._input, window[None].astype(np.float32) / 255)
        self._net.invoke()
        points = self._net.get_tensor(self._points).reshape(468, 3)[:, :2]
        back = cv2.invertAffineTransform(turn)
        return np.asarray(points @ back[:, :2].T + back[:, 2], np.float32)


def region_mask(shape: tuple[int, ...], mesh: np.ndarray, region: str, grow: float = 0.0) -> np.ndarray:
    """Filled convex hull of a region ("face" or a key of REGIONS), grown by `grow` times the face width.

    Args:
        shape: of the picture, (H, W, ...).
        mesh: (468, 2) points in pixels.

    Returns:
        uint8 (H, W), 0 or 1.
    """
    indices = FACE_OVAL if region == "face" else REGIONS[region]
    mask: np.ndarray = np.zeros(shape[:2], np.uint8)
    hull = cv2.convexHull(np.round(mesh[list(indices)]).astype(np.int32))
    cv2.fillConvexPoly(mask, hull, 1)
    reach = round(grow * float(np.ptp(mesh[:, 0])))
    if reach > 0:
        mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    return mask
