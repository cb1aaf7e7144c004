"""Pictures for the HTML report: face crops and maps laid over them, as data URLs."""

import base64

import cv2
import numpy as np
from markupsafe import Markup

from unmask.evidence.report import ForgeryMap

_COLOURS = cv2.COLORMAP_INFERNO
_JPEG_QUALITY = 88


def jpeg_url(jpeg: bytes) -> Markup:
    """A JPEG file as a data URL. Base64 needs no escaping, and to escape it would take longer than to make it."""
    return Markup("data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii"))


def data_url(pixels: np.ndarray) -> Markup:
    """A uint8 RGB (H, W, 3) picture as a JPEG data URL.

    Raises:
        ValueError: not such a picture, or empty.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ValueError(f"a picture is uint8 (H, W, 3), not {pixels.dtype} {pixels.shape}")
    done, encoded = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise ValueError(f"cannot encode a picture of shape {pixels.shape}")
    return jpeg_url(encoded.tobytes())


def overlay(pixels: np.ndarray, forgery_map: ForgeryMap) -> np.ndarray:
    """The map laid over its crop: uint8 RGB (H, W, 3).

    Colour runs from 0 to 1 in every report, so maps can be compared; where the map is low the photograph shows through.
    A white line is drawn where the map passes 0.5, for those who print in grey.
    """
    height, width = pixels.shape[:2]
    values = np.asarray(forgery_map.values, np.float32)
    smooth = np.clip(cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC), 0.0, 1.0)
    colour = cv2.applyColorMap(np.round(smooth * 255).astype(np.uint8), _COLOURS)[:, :, ::-1]
    # Grey below, so that the colours are the map's and not the skin's.
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    weight = (0.15 + 0.65 * smooth)[:, :, None]
    blended = np.ascontiguousarray(np.round(grey * (1.0 - weight) + colour * weight).astype(np.uint8))
    outlines, _ = cv2.findContours((smooth >= 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(blended, outlines, -1, (255, 255, 255), 1, cv2.LINE_AA)
    return blended


def legend_colours(stops: int = 9) -> list[str]:
    """CSS colours of the map from 0 to 1, evenly spaced."""
    ramp = np.linspace(0, 255, stops).round().astype(np.uint8).reshape(1, -1)
    return ["#{:02x}{:02x}{:02x}".format(*rgb[::-1]) for rgb in cv2.applyColorMap(ramp, _COLOURS)[0].tolist()]
