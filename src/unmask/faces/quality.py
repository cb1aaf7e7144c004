"""How good a face picture is: components of 0-100 named after ISO/IEC 29794-5, and one unified value.

The names and the ideas are the standard's, the measures are ours: the standard's reference software needs networks of
hundreds of megabytes. Numbers are therefore not comparable with those of OFIQ.

| component | what is measured | 100 is | 0 is |
|---|---|---|---|
| Sharpness | blur effect (Crete et al. 2007) of the face at 160 px | blur <= 0.40 | blur >= 0.85 |
| UnderExposurePrevention | share of the inner face that is black, soft below luminance 40 | none | all |
| OverExposurePrevention | share of the inner face that is white, soft above luminance 240 | none | half |
| DynamicRange | entropy of the inner face's luminance | 8 bits | 0 bits |
| IlluminationUniformity | overlap of the luminance histograms of the two face halves | equal | apart |
| CompressionArtifacts | steps on the 8-pixel grid against the face's own gradients | none | strong |
| InterEyeDistance | distance of the eyes in pixels, logarithmic | >= 90 px | <= 6 px |
| HeadPoseYaw, HeadPosePitch, HeadPoseRoll | cos^2 of the angle | frontal | >= 90 degrees |

Unified = sqrt(G * W): G is the weighted geometric mean of all components, W the worst of those that alone can make a
face useless (all but DynamicRange and IlluminationUniformity); components count as at least 1. One terrible component
pulls the value down; no good one makes up for it.
"""

import math

import cv2
import numpy as np

from unmask.evidence.report import Quality
from unmask.faces.alignment import Box, align
from unmask.faces.finding import FoundFace

WEIGHTS = {
    "Sharpness": 3.0,
    "UnderExposurePrevention": 1.5,
    "OverExposurePrevention": 1.0,
    "DynamicRange": 0.5,
    "IlluminationUniformity": 0.5,
    "CompressionArtifacts": 1.5,
    "InterEyeDistance": 2.0,
    "HeadPoseYaw": 2.0,
    "HeadPosePitch": 1.0,
    "HeadPoseRoll": 1.0,
}
_NEVER_THE_WORST = frozenset({"DynamicRange", "IlluminationUniformity"})

# Eyes, nose tip and mouth corners of a mean face: right, down, away from the camera, millimetres. Only ratios matter.
# The nose tip's height was set so that the median pitch of 600 FFHQ and CelebA-HQ portraits is zero.
_FACE_3D = np.array([[-31, -34, 0], [31, -34, 0], [0, 3, -32], [-25, 32, -4], [25, 32, -4]], np.float64)


def assess_quality(pixels: np.ndarray, face: FoundFace) -> Quality:
    """The quality vector of one face.

    Args:
        pixels: uint8 (H, W, 3) RGB, the picture the face was found in.
        face: one of `FaceFinder.find(pixels)`.

    Returns:
        Components and unified value, each 0-100, 100 best; the head pose in degrees.
    """
    box = _grey_region(pixels, face.box, 1.0)
    yaw, pitch, roll = head_pose(face.landmarks)
    eyes = float(np.linalg.norm(face.landmarks[1] - face.landmarks[0]))
    inner = _inner_face(pixels, face)
    components = {
        "Sharpness": _between(_blur_effect(_at_160(box)), bad=0.85, good=0.40),
        "UnderExposurePrevention": 100 * float(np.clip(inner / 40, 0, 1).mean()),
        "OverExposurePrevention": 100 * max(0.0, 1 - 2 * float(np.clip((inner - 240) / 15, 0, 1).mean())),
        "DynamicRange": _entropy(inner) / 8 * 100,
        "IlluminationUniformity": 100 * _overlap_of_halves(inner),
        "CompressionArtifacts": 100
        * math.exp(-1.1 * max(0.0, _blockiness(_grey_region(pixels, face.box, 1.6)) - 0.05)),
        "InterEyeDistance": _between(math.log(max(eyes, 1.0)), bad=math.log(6), good=math.log(90)),
        "HeadPoseYaw": _pose_score(yaw),
        "HeadPosePitch": _pose_score(pitch),
        "HeadPoseRoll": _pose_score(roll),
    }
    return Quality(
        unified=unify(components),
        components={name: round(value, 1) for name, value in components.items()},
        yaw=round(yaw, 2),
        pitch=round(pitch, 2),
        roll=round(roll, 2),
    )


def unify(components: dict[str, float]) -> float:
    """sqrt(G * W) as in this module's docstring, 0-100, one decimal.

    Args:
        components: every name in `WEIGHTS`, each 0-100.
    """
    floored = {name: max(1.0, components[name]) for name in WEIGHTS}
    mean = math.exp(sum(WEIGHTS[name] * math.log(floored[name]) for name in WEIGHTS) / sum(WEIGHTS.values()))
    worst = min(value for name, value in floored.items() if name not in _NEVER_THE_WORST)
    return round(math.sqrt(mean * worst), 1)


def head_pose(landmarks: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees from five points; zero is frontal and upright.

    The points are taken as a scaled orthographic view of a mean face: the least-squares 2 x 3 projection gives its
    rotation in closed form. Positive yaw turns the nose to the picture's right, positive pitch down, positive roll
    the head clockwise in the picture.

    Args:
        landmarks: (5, 2) right eye, left eye, nose tip, right and left mouth corner, pixels.
    """
    model = _FACE_3D - _FACE_3D.mean(axis=0)
    points = np.asarray(landmarks, np.float64) - np.mean(landmarks, axis=0)
    projection = np.linalg.lstsq(model, points, rcond=None)[0].T
    u, _, vt = np.linalg.svd(projection, full_matrices=False)
    right, down = u @ vt
    away = np.cross(right, down)
    yaw = math.atan2(away[0], away[2])
    pitch = math.asin(np.clip(away[1], -1, 1))
    roll = math.atan2(-right[1], down[1])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def _pose_score(degrees: float) -> float:
    return 100 * max(0.0, math.cos(math.radians(degrees))) ** 2


def _between(value: float, *, bad: float, good: float) -> float:
    """Linear from 0 at `bad` to 100 at `good`, cut off outside."""
    return 100 * min(1.0, max(0.0, (value - bad) / (good - bad)))


def _grey_region(pixels: np.ndarray, box: Box, margin: float) -> np.ndarray:
    """Luminance 0-255, float32, of the box grown about its centre, at native resolution and inside the picture."""
    x, y, w, h = box
    grow_x, grow_y = (margin - 1) / 2 * w, (margin - 1) / 2 * h
    left, top = max(0, int(x - grow_x)), max(0, int(y - grow_y))
    part = pixels[top : math.ceil(y + h + grow_y), left : math.ceil(x + w + grow_x)]
    return cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2GRAY).astype(np.float32)


def _inner_face(pixels: np.ndarray, face: FoundFace) -> np.ndarray:
    """Luminance 0-255, float32 (112, 112), of the aligned face without hair, neck and background."""
    try:
        aligned = align(pixels, face.landmarks, 112)
    except ValueError:  # coinciding points: the box is all there is
        return cv2.resize(_grey_region(pixels, face.box, 1.0), (112, 112), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _at_160(grey: np.ndarray) -> np.ndarray:
    """Brought to 160 pixels on the longer side, so that blur is measured at about the scale at which detectors look."""
    scale = 160 / max(grey.shape)
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _blur_effect(grey: np.ndarray) -> float:
    """No-reference blur of Crete, Dolmiere, Ladret, Nicolas (2007) in [0, 1], 0 = sharp; the blurrier direction counts.

    How much of the differences between neighbours survives a strong blur: little in a sharp picture, most in a blurred.
    """
    blurs = []
    for axis, kernel in ((0, (1, 9)), (1, (9, 1))):
        steps = np.abs(np.diff(grey, axis=axis))
        blurred_steps = np.abs(np.diff(cv2.blur(grey, kernel), axis=axis))
        total = float(steps.sum())
        blurs.append(1.0 if total < 1e-3 else 1 - float(np.maximum(0, steps - blurred_steps).sum()) / total)
    return max(blurs)


def _entropy(luminance: np.ndarray) -> float:
    """Shannon entropy of the 256-bin histogram, bits, 0-8."""
    counts = np.bincount(luminance.astype(np.uint8).reshape(-1), minlength=256)
    shares = counts[counts > 0] / counts.sum()
    return max(0.0, -float((shares * np.log2(shares)).sum()))


def _overlap_of_halves(luminance: np.ndarray) -> float:
    """Histogram intersection (32 bins) of the left and the right half, 0-1."""
    middle = luminance.shape[1] // 2
    left, right = (
        np.bincount((half / 8).astype(np.uint8).reshape(-1), minlength=32) / half.size
        for half in (luminance[:, :middle], luminance[:, -middle:])
    )
    return float(np.minimum(left, right).sum())


def _blockiness(grey: np.ndarray) -> float:
    """How far the strongest of the eight grid phases stands out, over the mean gradient: 0 without, 1.5 at JPEG q10.

    The grid's offset is not known once a picture was cropped, so all eight are tried. A picture that was resized after
    its compression has no grid any more and reads as clean. The middle 512 x 512 pixels are enough.
    """
    top, left = (max(0, side - 512) // 2 for side in grey.shape)
    grey = grey[top : top + 512, left : left + 512]
    ratios = []
    for rows in (grey, grey.T):
        steps = np.minimum(np.abs(np.diff(rows, axis=1)), 48)
        if steps.shape[1] < 18:
            return 0.0
        excess = (steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2).mean(axis=0)
        phases = np.sort(excess[: excess.size // 8 * 8].reshape(-1, 8).mean(axis=0))
        # The median of the other seven; np.median would import masked arrays, which takes longer than all of this.
        ratios.append(float(phases[-1] - phases[3]) / max(float(steps.mean()), 0.5))
    return sum(ratios) / 2
