"""How often is a JPEG file said to have been compressed twice, rightly and wrongly?

    PYTHONPATH=experiments python experiments/findings/recompression.py RECORD.json --data DATA

Real portraits, made smaller by a quarter, which takes away the blocks of the compression they came with, then
compressed once or twice. The rule for the limit, `LEAST_GAIN` of `unmask.media.beside.recompression`, was written
before the first run: twice the largest gain of 300 portraits of CelebAMask-HQ compressed once, at qualities 50 to 100
in steps of 5, rounded up to three digits. (What else the module sets was chosen on 40 of them.) All rates are of 600
other portraits, 300 each of FFHQ and UTKFace, drawn by the hash of their names.
"""

import argparse
import hashlib
import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from common import Record, read_record
from PIL import Image

from unmask.media.beside.recompression import LEAST_GAIN, recompression
from unmask.tables import markdown

DEVELOPMENT = "faces/celebamask_256/images"
TEST = ("forensics/ffhq_stylegan_256/real", "faces/utkface_200")
EACH = 300
ONCE = (50, 60, 70, 75, 80, 85, 90, 95, 100)
TWICE = ((50, 75), (60, 75), (70, 75), (60, 90), (75, 90), (85, 90), (75, 95), (90, 95), (95, 100))
NOT_MEANT = ((75, 75), (95, 90), (90, 75), (75, 60))
TEXT = """## Earlier JPEG compression

{portraits} portraits of FFHQ and UTKFace, made smaller by a quarter so that no trace of their own compression is left,
then compressed once or twice. The share that is said to have been compressed before, at lower quality. The limit,
{limit} nats a coefficient, is twice the largest gain of {development} portraits of CelebAMask-HQ compressed once
({largest:.4f}). None of {portraits} means, with a probability of 0.95, less than {none:.3f}.
`experiments/findings/recompression.py`.
"""

Change = Callable[[np.ndarray], np.ndarray]


def encoded(picture: np.ndarray, quality: int | str, **how: int) -> bytes:
    """A JPEG file; a quality that is a word is one of Photoshop's tables."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality, **how)
    return stream.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """Its picture."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def stretched(picture: np.ndarray) -> np.ndarray:
    """With more contrast: some of the 256 values of brightness do not occur any more."""
    return np.clip(1.3 * (picture.astype(np.float32) - 128) + 128, 0, 255).astype(np.uint8)


def posterised(picture: np.ndarray) -> np.ndarray:
    """With 16 values a channel."""
    return picture // 16 * 16 + 8


def enlarged(picture: np.ndarray) -> np.ndarray:
    """Twice as large, each pixel repeated."""
    return picture.repeat(2, 0).repeat(2, 1)


def off_grid(picture: np.ndarray) -> np.ndarray:
    """Compressed at quality 75 and cropped by 3 pixels, so that the blocks do not meet."""
    return decoded(encoded(picture, 75))[3:, 3:]


def made_smaller(picture: np.ndarray) -> np.ndarray:
    """Compressed at quality 75, and then made smaller."""
    return reduced(decoded(encoded(picture, 75)))


def reduced(picture: np.ndarray) -> np.ndarray:
    """Three quarters as wide and high."""
    return cv2.resize(picture, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)


CHANGED: dict[str, Change] = {
    "more contrast": stretched,
    "16 values a channel": posterised,
    "enlarged, each pixel repeated": enlarged,
    "quality 75, cropped off the grid": off_grid,
    "quality 75, made smaller": made_smaller,
}


def gains(files: Iterable[bytes]) -> np.ndarray:
    """The gains of files, 0 for those that cannot be looked at."""
    seen = [recompression(data) for data in files]
    return np.array([0.0 if one is None else one.gain for one in seen])


def portraits(folder: Path) -> list[np.ndarray]:
    """Portraits drawn by the hash of their names."""
    there = sorted(folder.iterdir(), key=lambda path: hashlib.sha256(path.name.encode()).digest())
    paths = [path for path in there if path.suffix in (".jpg", ".png")][:EACH]
    return [reduced(np.asarray(Image.open(path).convert("RGB"))) for path in paths]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    chosen = parser.parse_args()
    development = portraits(chosen.data / DEVELOPMENT)
    largest = max(gains(encoded(one, quality) for one in development).max() for quality in range(50, 101, 5))
    by_rule = math.ceil(2 * largest * 1000) / 1000
    if by_rule != LEAST_GAIN:
        parser.error(f"the rule gives a limit of {by_rule}, the module has {LEAST_GAIN}: set it first")
    pictures = [picture for folder in TEST for picture in portraits(chosen.data / folder)]
    digest = hashlib.sha256(b"".join(picture.tobytes() for picture in pictures)).hexdigest()
    settings = {
        "portraits": len(pictures),
        "development": len(development),
        "largest": round(float(largest), 5),
        "limit": LEAST_GAIN,
    }
    record = Record(chosen.record, settings, digest)

    def add(kind: str, name: str, make: Callable[[np.ndarray], bytes]) -> None:
        if not record.has(kind=kind, name=name):
            called = gains(make(picture) for picture in pictures) >= LEAST_GAIN
            record.add(kind=kind, name=name, share=float(called.mean()))

    for quality in ONCE:
        add("once", f"quality {quality}", lambda picture, quality=quality: encoded(picture, quality))
    for table in ("web_low", "web_high", "maximum"):
        add("once", f"Photoshop's table {table}", lambda picture, table=table: encoded(picture, table))
    add("once", "quality 90, full colour", lambda picture: encoded(picture, 90, subsampling=0))
    for name, change in CHANGED.items():
        add("once", f"{name}, quality 90", lambda picture, change=change: encoded(change(picture), 90))
    for first, last in (*TWICE, *NOT_MEANT):
        kind = "twice" if (first, last) in TWICE else "not meant"
        add(
            kind,
            f"quality {first}, then {last}",
            lambda picture, first=first, last=last: encoded(decoded(encoded(picture, first)), last),
        )
    add(
        "twice",
        "Photoshop's table web_medium, then quality 90",
        lambda picture: encoded(decoded(encoded(picture, "web_medium")), 90),
    )


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "findings/recompression")

    def table(kind: str, head: str) -> str:
        rows = [(row["name"], f"{row['share']:.3f}") for row in record["rows"] if row["kind"] == kind]
        return markdown((head, "said to be twice"), rows)

    parts = [
        TEXT.format(**record["settings"], none=1 - 0.05 ** (1 / record["settings"]["portraits"])),
        table("once", "compressed once: all mistakes"),
        table("twice", "compressed twice, first at lower quality"),
        "What it is not made for: a first compression at the same or a higher quality leaves no gaps.\n",
        table("not meant", "compressed twice, first at the same or a higher quality"),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    main()
