"""Small data sets in every layout, drawn for the tests of their loaders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unmask.datasets.manifest import SHARES, Sample, split_of
from unmask.errors import DataError


def draw(path: Path, side: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (120, 90, 80)).save(path)
    return path


def stems(split: str, count: int = 2) -> list[str]:
    """Names that the hash puts in a split."""
    return [name for name in (f"p{number}" for number in range(400)) if split_of(name, SHARES) == split][:count]


def by_name(samples: list[Sample]) -> dict[str, Sample]:
    return {Path(sample.path).name: sample for sample in samples}


def refusal(read: Callable[..., list[Sample]], *args: Any) -> str:
    """What a reader says; always one line."""
    with pytest.raises(DataError) as caught:
        read(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def listed(label: str, *frames: str, masks: list[str] | None = None) -> dict[str, Any]:
    return {"label": label, "frames": list(frames)} | ({} if masks is None else {"masks": masks})


def faceforensics() -> dict[str, Any]:
    """As `rearrange.py` writes FF-DF.json: a level of compression, frames in no order, masks for some."""
    real, fake = "FaceForensics++/original_sequences/youtube", "FaceForensics++/manipulated_sequences/Deepfakes"
    return {
        "FF-DF": {
            "FF-real": {
                "train": {
                    "c23": {"003": listed("FF-real", f"{real}/c23/frames/003/000.png")},
                    "c40": {"003": listed("FF-real", f"{real}/c40/frames/003/000.png")},
                },
                "val": {"c23": {}, "c40": {}},
                "test": {"c23": {"100": listed("FF-real", f"{real}/c23/frames/100/7.png")}},
            },
            "FF-DF": {
                "train": {
                    "c23": {
                        "000_003": listed(
                            "FF-DF",
                            f"{fake}/c23/frames/000_003/10.png",
                            f"{fake}\\c23\\frames\\000_003\\9.png",
                            masks=[f"{fake}/c23/masks/000_003/9.png"],
                        )
                    }
                },
                "val": {"c23": {}},
                "test": {"c23": {"200_100": listed("FF-DF", f"{fake}/c23/frames/200_100/000.png", masks=[])}},
            },
        }
    }


def write_json(content: Any, path: Path, root: Path | None = None) -> Path:
    """The file, and below `root` every frame and mask it names."""

    def make(node: Any) -> None:
        if isinstance(node, dict):
            for name, inner in node.items():
                if name in ("frames", "masks") and root is not None:
                    for frame in inner:
                        draw(root / frame.replace("\\", "/"))
                else:
                    make(inner)

    make(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


GENERATORS = ("cyclegan", "progan", "stylegan", "stylegan2")


def forgery_nir(top: Path, reals: Path | None = None) -> None:
    for folder in (reals or top / "0_real", *(top / generator for generator in GENERATORS)):
        for number in range(12):
            draw(folder / f"{number}.png")


def add_mapping(root: Path) -> None:
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "idx    orig_idx   orig_file\n"
        "0          162769  162770.jpg\n1          162770  162771.jpg\n"
        "2          182637  182638.jpg\n2001            8  000009.jpg\n"
    )
