"""A picture of what a generator paints, for the documentation: faces of nobody, their surroundings painted anew.

    unmask synthesise faces --count 6 && python experiments/adv_diffusion/samples.py faces docs/images/inpainting.jpg \
      --weights WEIGHTS

As many faces as columns, for the band goes over a square. From left to right: a synthetic face, what is kept of it,
what the autoencoder alone makes of it, and three paintings.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from common import one_thread

from unmask.faces.alignment import context_crop
from unmask.faces.finding import FaceFinder
from unmask.lab.inpainting.evaluate import STEPS
from unmask.lab.inpainting.sampling import inpaint
from unmask.media.synthetic_mark import FORGED, mark, with_band
from unmask.packs import load_pack
from unmask.redteam.generators import GENERATOR, make_painter

PAINTINGS = 3
MOST_BYTES = 100_000


def row_of(picture: np.ndarray, weights: Path, generator: str, margin: float) -> np.ndarray:
    """One face's row, uint8 (side, (3 + PAINTINGS) * side, 3).

    Args:
        picture: uint8 (H, W, 3) RGB with a face.
        weights: folder of the autoencoder and the parser.
        generator: pack by name or folder.
        margin: of the crop over the face box.
    """
    painter = make_painter(generator, weights / "taef2", weights)
    side = painter.generator.side
    crop, _ = context_crop(picture, FaceFinder().find(picture)[0].box, margin, side)
    pixels = torch.from_numpy(crop.transpose(2, 0, 1).copy())[None]
    x, masks = pixels.float() / 255, painter.masks(pixels)
    shown = [x, torch.where(masks > 0, 0.5, x)]
    with torch.no_grad():
        shown.append(painter.generator.decode(painter.generator.encode(x)))
    for seed in range(PAINTINGS):
        source = torch.Generator().manual_seed(seed)

        def draw(shape: tuple[int, ...], source: torch.Generator = source) -> torch.Tensor:
            return torch.randn((1, *shape), generator=source)

        shown.append(inpaint(painter.generator, x, masks, STEPS, draw))
    row = torch.cat(shown, 3)[0].clamp(0, 1).permute(1, 2, 0).numpy()
    return (row * 255).round().astype(np.uint8)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("faces", type=Path, help="folder of synthetic faces")
    options.add_argument("out", type=Path, help="JPEG file")
    options.add_argument("--weights", type=Path, required=True, help="folder of published weights")
    options.add_argument("--generator", default=GENERATOR)
    chosen = options.parse_args()
    one_thread()
    margin = load_pack(chosen.generator).card.crop_margin
    assert margin is not None  # a generator's card is not complete without
    rows = []
    for path in sorted(chosen.faces.glob("*.*g"))[: 3 + PAINTINGS]:
        picture = cv2.imread(str(path))
        assert picture is not None, path
        rows.append(row_of(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), chosen.weights, chosen.generator, margin))
    marked = cv2.cvtColor(with_band(np.concatenate(rows), FORGED), cv2.COLOR_RGB2BGR)
    for quality in range(90, 30, -5):
        data = mark(
            cv2.imencode(".jpg", marked, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes(), "compositeSynthetic"
        )
        if len(data) < MOST_BYTES:
            chosen.out.write_bytes(data)
            return
    raise SystemExit(f"{chosen.out}: more than {MOST_BYTES} bytes at any quality")


if __name__ == "__main__":
    main()
