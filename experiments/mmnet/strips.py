"""Draw strips for the docs: edited faces as `unmask inspect` reads them, with the way back to a hypothetical original.

    python experiments/mmnet/strips.py SET OUT.png [--number 3] [--pack mmnet]

SET is made by `unmask forge --sequence` from drawn faces of nobody (`unmask synthesise`); the model has seen none
of them. The first faces with two edits or more of which anything is said are shown, whether it is right or wrong.
"""

import argparse
import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from unmask import Inspector
from unmask.datasets.layouts import read_layout

SIDE, GAP, HEAD, FOOT = 160, 10, 26, 34


def row_of(captions: list[str], pictures: list[bytes], head: str) -> Image.Image:
    """One strip with its heading; all but the first picture are marked as hypotheses."""
    row = Image.new("RGB", (len(pictures) * (SIDE + GAP), HEAD + SIDE + FOOT), "white")
    pen, font = ImageDraw.Draw(row), ImageFont.load_default(13)
    pen.text((0, 4), head, "black", ImageFont.load_default(15))
    for place, (caption, data) in enumerate(zip(captions, pictures, strict=True)):
        left = place * (SIDE + GAP)
        row.paste(
            Image.open(io.BytesIO(data)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left, HEAD)
        )
        if place:
            for start in range(0, SIDE, 8):  # dashed: nothing that was ever seen
                for line in (
                    (left + start, HEAD, left + start + 4, HEAD),
                    (left + start, HEAD + SIDE - 1, left + start + 4, HEAD + SIDE - 1),
                    (left, HEAD + start, left, HEAD + start + 4),
                    (left + SIDE - 1, HEAD + start, left + SIDE - 1, HEAD + start + 4),
                ):
                    pen.line(line, "#c02020", 2)
        pen.text((left, HEAD + SIDE + 2), caption, "black", font)
        if place:
            pen.text((left, HEAD + SIDE + 17), "hypothesis, not evidence", "#c02020", font)
    return row


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("set", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--number", type=int, default=3)
    options.add_argument("--pack", default="mmnet")
    chosen = options.parse_args()
    inspector = Inspector(edit_pack=chosen.pack)
    rows: list[Image.Image] = []
    for sample in read_layout(chosen.set):
        made = sample.sequence.split("-")
        if len(made) < 2 or len(rows) == chosen.number:
            continue
        examined = inspector.examine(sample.path, pictures=True)
        finding = examined.report.faces[0].sequence if examined.report.faces else None
        if finding is None or finding.best is None:
            continue
        read = finding.best.edits
        captions = ["as it is", *(f"without {edit}" for edit in read[:0:-1]), "recovered"]
        head = f"made: {', then '.join(made)}.   read: {', then '.join(read)} ({finding.best.posterior:.0%})"
        rows.append(row_of(captions, list(examined.strips[0]), head))
    if not rows:
        raise SystemExit(f"{chosen.set}: of no face with two edits or more is anything said; make a larger set")
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height + GAP for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + GAP
    sheet.save(chosen.out, optimize=True)


if __name__ == "__main__":
    main()
