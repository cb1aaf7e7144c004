"""How often is a thumbnail called that of another picture, rightly and wrongly?

    PYTHONPATH=experiments python experiments/findings/thumbnails.py experiments/findings/thumbnails.json --data DATA

Portraits of CelebAMask-HQ and UTKFace, 300 each, drawn by the hash of their names; thumbnails of 160 pixels, JPEG of
quality 75, made from each: as it is; then the picture is changed as people do without meaning to forge it (JPEG of
quality 20, brightened by a gamma of 0.7); then as forgers do: a tenth of each side cropped away, another face pasted
into the middle, another portrait altogether. The limits are those of `unmask.media.beside.thumbnail` and were not
chosen on these numbers.
"""

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from common import Record, read_record

from unmask.media.beside.thumbnail import LARGEST_DIFFERENCE, LARGEST_STRETCH, LEAST_CORRELATION, compare
from unmask.tables import markdown

FOLDERS = ("faces/celebamask_256/images", "faces/utkface_200")
EACH, SIDE = 300, 160
TEXT = """## Thumbnails that show another picture

{portraits} portraits of CelebAMask-HQ and UTKFace with thumbnails of {side} pixels made from them before the picture
was changed. The share of thumbnails that are called another picture's; only the first three rows are mistakes.
`experiments/findings/thumbnails.py`.
"""


def encoded(picture: np.ndarray, quality: int) -> np.ndarray:
    """A picture after JPEG."""
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """Its thumbnail, uint8 (h, w)."""
    scale = SIDE / max(picture.shape[:2])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(encoded(small, 75), cv2.COLOR_BGR2GRAY)


def pasted(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The middle of another portrait in an ellipse, with a soft edge."""
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.float32)
    cv2.ellipse(mask, (width // 2, height // 2), (round(width * 0.25), round(height * 0.33)), 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), width / 50)[..., None]
    return (cv2.resize(other, (width, height)) * mask + picture * (1 - mask)).astype(np.uint8)


def cropped(picture: np.ndarray) -> np.ndarray:
    """Without a tenth at each side."""
    height, width = (round(side * 0.1) for side in picture.shape[:2])
    return picture[height:-height, width:-width]


CHANGES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "as it is": lambda picture, other: picture,
    "JPEG of quality 20": lambda picture, other: encoded(picture, 20),
    "brightened": lambda picture, other: (255 * (picture / 255.0) ** 0.7).astype(np.uint8),
    "cropped by a tenth at each side": lambda picture, other: cropped(picture),
    "another face pasted in": pasted,
    "another portrait": lambda picture, other: other,
}


def called_another(small: np.ndarray, picture: np.ndarray) -> bool:
    """What the finding says."""
    stretch, correlation, difference = compare(small, picture[..., ::-1])
    return correlation < LEAST_CORRELATION or difference > LARGEST_DIFFERENCE or stretch > LARGEST_STRETCH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    chosen = parser.parse_args()
    paths = []
    for folder in FOLDERS:
        there = sorted((chosen.data / folder).iterdir(), key=lambda p: hashlib.sha256(p.name.encode()).digest())
        paths.append([path for path in there if path.suffix in (".jpg", ".png")][:EACH])
    digest = hashlib.sha256("\n".join(path.name for some in paths for path in some).encode()).hexdigest()
    record = Record(chosen.record, {"portraits": sum(map(len, paths)), "side": SIDE}, digest)
    pictures = [[cv2.imread(str(path)) for path in some] for some in paths]
    for change, make in CHANGES.items():
        if not record.has(change=change):
            called = [
                called_another(thumbnail(picture), make(picture, some[place - 1]))
                for some in pictures
                for place, picture in enumerate(some)
            ]
            record.add(change=change, share=sum(called) / len(called))


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "findings/thumbnails")
    rows = [(row["change"], f"{row['share']:.3f}") for row in record["rows"]]
    return f"{TEXT.format(**record['settings'])}\n{markdown(('the picture', 'called another'), rows)}\n"


if __name__ == "__main__":
    main()
