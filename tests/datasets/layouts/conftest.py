from pathlib import Path

import pytest
from layout_files import draw, stems


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    one, two = stems("train")
    draw(root / "real" / f"{one}.jpg")
    draw(root / "real" / f"{two}.PNG")
    draw(root / "real" / "clip 1" / "000.webp")
    draw(root / "fake" / f"{one}.png")
    draw(root / "fake" / "swap" / f"{two}.jpg")
    draw(root / "fake" / "swap" / "clip 1" / "take 2" / "000.jpg")
    draw(root / "masks" / "fake" / "swap" / f"{two}.png")
    (root / "real" / "notes.txt").write_text("no picture")
    (root / "papers").mkdir()
    return root


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    root = tmp_path / "seq"
    rows = {
        "facial_components": [("nose-eye-lip", "[1, 2, 4, 0, 0]"), ("original", "[0, 0, 0, 0, 0]")],
        "facial_attributes": [("Young-Bangs-Beard-Smiling-Eyeglasses", "[5,1,3,4,2]"), ("original", "[0,0,0,0,0]")],
    }
    for track, kinds in rows.items():
        for split in ("train", "val", "test"):
            table = root / track / "annotations" / f"{split}.csv"
            table.parent.mkdir(parents=True, exist_ok=True)
            lines = ["file_path,label"]
            for folder, label in kinds:
                name = f"{track}/images/{split}/{folder}/000001.jpg"
                draw(root / name)
                lines.append(f'{name},"{label}"')
            table.write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def celebamask(tmp_path: Path) -> Path:
    """Pictures 0, 1, 2 and 2001, of which 2 has no parts; two show the same person."""
    root = tmp_path / "CelebAMask-HQ"
    for number in (0, 1, 2, 2001):
        draw(root / "CelebA-HQ-img" / f"{number}.jpg")
    for number, folder in ((0, 0), (1, 0), (2001, 1)):
        for part in ("hair", "skin"):
            draw(root / "CelebAMask-HQ-mask-anno" / str(folder) / f"{number:05d}_{part}.png", side=4)
    return root
