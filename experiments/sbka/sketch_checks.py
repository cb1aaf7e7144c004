"""How often the checks of a query are wrong: on drawings, photographs and pages of text.

    python experiments/sbka/sketch_checks.py experiments/sbka/sketch_checks.json --data DATA

Drawings (PACS, CUFS) are looked at as they are, inverted, and on coloured paper; photographs (PACS, CUFS, UTKFace) as
they are and in grey; pages of random words are drawn in several sizes. The thresholds were chosen on up to 120 of
each set, which are among those counted here.

The record is written row by row; rows that it holds are not run again.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unmask.errors import Refused
from unmask.faces.finding import FaceFinder
from unmask.files import whole
from unmask.provenance import library_versions, shell_line
from unmask.retrieval import sketches
from unmask.retrieval.sketches import check_sketch

DRAWINGS = {"PACS drawings": "sketch/pacs_small/sketch", "CUFS drawings": "sketch/cufs/CUHK_student_train/sketches"}
PHOTOGRAPHS = {
    "PACS photographs": "sketch/pacs_small/photo",
    "CUFS photographs": "sketch/cufs/CUHK_student_train/photos",
    "UTKFace photographs": "faces/utkface_200",
}
NOTES = {
    sketches.PHOTOGRAPH: "photograph",
    sketches.INVERTED: "inverted",
    sketches.PAPER: "paper",
    sketches.TEXT: "text",
    sketches.SMALL: "small",
}
PAPER = np.array([235, 215, 150], np.float32)  # a yellow one
PAGES = ((1240, 1754, 28), (1240, 1754, 40), (620, 877, 16), (2480, 3508, 50), (800, 600, 24), (600, 800, 14))
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "he",
    "his",
    "but",
    "at",
    "are",
    "this",
    "have",
    "from",
    "or",
    "had",
]


def pictures(folder: Path, most: int) -> Iterator[np.ndarray]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg"))
    for path in files[:: -(-len(files) // most)]:
        yield cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def text_pages(each: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    for width, height, letters in PAGES:
        for _ in range(each):
            page = Image.new("RGB", (width, height), "white")
            drawn, font = ImageDraw.Draw(page), ImageFont.load_default(letters)
            for line in range(int(generator.integers(5, 40))):
                text = " ".join(generator.choice(WORDS, 60))[: int((width - 2 * letters) / (0.6 * letters))]
                drawn.text((letters, letters * (1 + 1.4 * line)), text, fill=(20, 20, 20), font=font)
            yield np.asarray(page)


def counts(some: Iterator[np.ndarray], change: Callable[[np.ndarray], np.ndarray]) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for pixels in some:
        counted["pictures"] += 1
        try:
            notes = check_sketch(change(pixels)).notes
        except Refused as refusal:
            counted[f"refused {refusal.code.value}"] += 1
            continue
        counted["nothing noted"] += not notes
        for note in notes:
            counted[NOTES[note]] += 1
    return dict(counted)


def unchanged(pixels: np.ndarray) -> np.ndarray:
    return pixels


def inverted(pixels: np.ndarray) -> np.ndarray:
    return 255 - pixels


def on_paper(pixels: np.ndarray) -> np.ndarray:
    return (pixels * (PAPER / 255)).astype(np.uint8)


def grey(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("record", type=Path)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--most", type=int, default=400, help="pictures of each set, evenly spaced")
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    words = ["python", "experiments/sbka/sketch_checks.py", "RECORD", "--data", "DATA"]
    record: dict[str, Any] = {
        "command": shell_line([*words, "--most", str(chosen.most), "--seed", str(chosen.seed)]),
        "versions": library_versions(("numpy", "opencv-python-headless", "pillow"), unmask=True),
        "seed": chosen.seed,
        "rows": [],
    }
    if chosen.record.exists():
        record["rows"] = json.loads(chosen.record.read_text(encoding="utf-8"))["rows"]
    held = {(row["set"], row["change"]) for row in record["rows"]}

    def keep(**row: Any) -> None:
        record["rows"].append(row)
        with whole(chosen.record) as part:
            part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    for sets, changes in ((DRAWINGS, (unchanged, inverted, on_paper)), (PHOTOGRAPHS, (unchanged, grey))):
        for name, place in sets.items():
            for change in changes:
                if (name, change.__name__) not in held:
                    some = pictures(chosen.data / place, chosen.most)
                    keep(set=name, change=change.__name__, **counts(some, change))
    if ("pages of text", "unchanged") not in held:
        pages = text_pages(10, np.random.default_rng(chosen.seed))
        keep(set="pages of text", change="unchanged", **counts(pages, unchanged))
    if ("CUFS drawings", "faces") not in held:
        finder, some = FaceFinder(), pictures(chosen.data / DRAWINGS["CUFS drawings"], chosen.most)
        faces = [len(finder.find(pixels)) for pixels in some]
        keep(set="CUFS drawings", change="faces", pictures=len(faces), one=faces.count(1))


if __name__ == "__main__":
    main()
