"""Warm stills: seconds per stage up to the verdict, for one face, a large picture and a group.

What reading edits adds is in `edits.py`.
"""

import io

import cv2
import numpy as np
from common import finish, parser, portrait, spread
from PIL import Image

from unmask import Inspector
from unmask.media.sources import Source


def group(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The face, tiled."""
    face = picture[32:224, 65:257]
    return np.vstack([np.hstack([face] * columns)] * rows)


def jpeg(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--repeats", type=int, default=50)
    chosen = arguments.parse_args()
    picture = portrait()
    pictures = {
        "one face, 384 x 384": picture,
        "one face, 1920 x 1080": np.pad(cv2.resize(picture, (1080, 1080)), ((0, 0), (420, 420), (0, 0)), mode="edge"),
        "forty faces, 1536 x 960": group(picture, 5, 8),
    }
    inspector = Inspector(chosen.pack, edit_pack=None)
    results = {}
    for name, pixels in pictures.items():
        source = Source("-", None, jpeg(pixels))
        repeats = chosen.repeats if "forty" not in name else max(3, chosen.repeats // 5)
        for _ in range(3):
            report = inspector.inspect(source)
        runs = [inspector.inspect(source).timings for _ in range(repeats)]
        results[name] = {
            "faces": len(report.faces),
            "seconds": {stage: spread([run[stage] for run in runs]) for stage in runs[0]},
        }
    finish(chosen, "still", results)


if __name__ == "__main__":
    main()
