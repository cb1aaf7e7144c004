"""Finding faces in stills: seconds by size of the picture, and how many small faces are found by their width.

Small faces are portraits of known collections (`--data`, or the variable UNMASK_DATA), brought to a width and laid out
on frames of 1920 x 1080.
"""

import os
import random
import time
from pathlib import Path

import cv2
import numpy as np
from common import finish, parser, portrait, spread

from unmask.faces.finding import FaceFinder

COLLECTIONS = ("forensics/ffhq_stylegan_256", "forensics/ciplab_256", "faces/utkface_200", "faces/celebamask_256")
WIDTHS = (40, 48, 60, 90, 120)
SIZES = ((1280, 720), (1920, 1080), (3840, 2160))
SAME = 0.4  # intersection over union from which a box is that of the face


def frame(width: int, height: int) -> np.ndarray:
    """One face that is as high as the frame, before a continued background."""
    side = (width - height) // 2
    face = cv2.resize(portrait(), (height, height))
    return np.pad(face, ((0, 0), (side, width - height - side), (0, 0)), mode="edge")


def people(finder: FaceFinder, data: Path, count: int, generator: random.Random) -> list[tuple[np.ndarray, np.ndarray]]:
    """Portraits with the box of their only face."""
    found = []
    for name in COLLECTIONS:
        files = sorted((data / name).rglob("*.jpg"))
        for path in generator.sample(files, min(count, len(files))):
            pixels = np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])
            faces = finder.find(pixels)
            if len(faces) == 1 and faces[0].confidence > 0.85:
                found.append((pixels, np.array(faces[0].box)))
    return found


def collage(
    portraits: list[tuple[np.ndarray, np.ndarray]], width: int, generator: random.Random
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A frame with up to 24 faces of a width before a blurred background, as JPEG leaves it; their boxes."""
    ground = cv2.blur(cv2.resize(generator.choice(portraits)[0], (1920, 1080)), (99, 99))
    cell = round(4.2 * width)
    places = [(x, y) for y in range(0, 1080 - cell, cell) for x in range(0, 1920 - cell, cell)]
    boxes = []
    for x, y in generator.sample(places, min(24, len(places))):
        pixels, box = generator.choice(portraits)
        scale = width / box[2]
        small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:cell, :cell]
        ground[y : y + small.shape[0], x : x + small.shape[1]] = small
        boxes.append(box * scale + (x, y, 0, 0))
    _, file = cv2.imencode(".jpg", ground, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return cv2.imdecode(file, cv2.IMREAD_COLOR), boxes


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    start = np.maximum(one[:2], other[:2])
    shared = np.clip(np.minimum(one[:2] + one[2:], other[:2] + other[2:]) - start, 0, None).prod()
    return float(shared / (one[2:].prod() + other[2:].prod() - shared))


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--repeats", type=int, default=20)
    data = os.environ.get("UNMASK_DATA")
    arguments.add_argument("--data", type=Path, default=data, help="folder of known collections; without, times alone")
    arguments.add_argument("--collages", type=int, default=6, help="of each width")
    chosen = arguments.parse_args()
    finder = FaceFinder()
    seconds = {}
    for width, height in SIZES:
        pixels = frame(width, height)
        finder.find(pixels)
        times = []
        for _ in range(chosen.repeats):
            began = time.thread_time()  # of this thread, which does all the work: others on the machine do not count
            finder.find(pixels)
            times.append(time.thread_time() - began)
        seconds[f"{width} x {height}"] = spread(times)
    found = {}
    if chosen.data is not None:
        generator = random.Random(chosen.seed)
        portraits = people(finder, chosen.data, 60, generator)
        for width in WIDTHS:
            overlaps: list[float] = []
            others = 0
            for _ in range(chosen.collages):
                picture, boxes = collage(portraits, width, generator)
                faces = [np.array(face.box) for face in finder.find(picture)]
                best = [max((overlap(box, face) for face in faces), default=0.0) for box in boxes]
                overlaps += best
                others += len(faces) - sum(value > SAME for value in best)
            kept = [value for value in overlaps if value > SAME]
            found[str(width)] = {
                "faces": len(overlaps),
                "found": len(kept),
                "overlap": round(float(np.mean(kept)), 3),
                "others": others,
            }
    finish(chosen, "finding", {"seconds": seconds, "found": found})


if __name__ == "__main__":
    main()
