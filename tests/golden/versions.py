"""Are the verdicts those of other versions of the libraries? Sixty pictures and videos, inspected in two environments.

    python tests/golden/versions.py --python OTHER/bin/python

The files are made here, of the demonstration's photograph and its forgery, in every format that is read, and inspected
here; the other environment verifies the reports (`unmask verify`). What it says goes into `versions.json`, one record
for a set of versions; with `--cards`, the versions between which all was the same go on the cards of the embedded
packs. The other environment needs the runtime's libraries alone, and no unmask: it runs this one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
RECORD = FOLDER / "versions.json"
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "media")]

from media_samples import pictures  # noqa: E402
from odd_pictures import heic  # noqa: E402
from stored_videos import store  # noqa: E402
from test_stored_alike import SIDE, WAYS  # noqa: E402

from unmask import Inspector  # noqa: E402
from unmask.demo import photograph  # noqa: E402
from unmask.demo.mirror_swap import mirror_swap  # noqa: E402
from unmask.evidence.jsonl import JsonLines  # noqa: E402
from unmask.inspection.options import EDIT_PACK  # noqa: E402
from unmask.packs import load_pack  # noqa: E402
from unmask.packs.versions import CHECKED  # noqa: E402

OF_FORGERY = ("jpeg", "jpeg grey", "png", "webp", "avif", "tiff jpeg", "bmp", "gif", "png deep")
"""The formats in which the forgery is stored as well."""


def make_files(folder: Path) -> list[Path]:
    """Write the pictures and videos: the photograph in all formats, the forgery in some."""
    real = photograph()
    (face,) = Inspector(edit_pack=None).inspect(_written(folder / "photograph.png", _png(real))).faces
    forged, _ = mirror_swap(real, np.array(face.landmarks, np.float32))
    files = [folder / "photograph.png"]
    for pixels, kinds, prefix in ((real, None, "photograph"), (forged, OF_FORGERY, "forgery")):
        for name, data in pictures(pixels).items():
            if kinds is None or name in kinds:
                files.append(_written(folder / f"{prefix}, {name}.{name.split()[0]}", data))
    files.append(_written(folder / "photograph, heic.heic", heic(real)))
    picture = cv2.resize(real, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    moves = [np.array([[1, 0, number], [0, 1, 0.5 * number]], np.float32) for number in range(12)]
    clip = [cv2.warpAffine(picture, move, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE) for move in moves]
    for name, way in WAYS.items():
        files.append(_written(folder / f"film, {name}.video", store(clip, way)))
    return files


def _png(pixels: np.ndarray) -> bytes:
    _, data = cv2.imencode(".png", pixels[:, :, ::-1])
    return data.tobytes()


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def verified(python: Path, reports: Path) -> dict[str, Any]:
    """What `unmask verify --json` says in another environment."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [str(python), "-m", "unmask.cli", "verify", reports.name, "--json"]
    done = subprocess.run(command, cwd=reports.parent, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"it cannot be verified there: {done.stderr}")
    return json.loads(done.stdout)


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a verification."""
    recorded, now = result["versions"]["recorded"][0], result["versions"]["now"]
    differing = {
        one["path"]: [
            {name: difference[name] for name in ("field", "recorded", "now", "size", "tolerance")}
            for difference in one["differences"]
        ]
        for one in result["files"]
        if one["result"] != "same"
    }
    return {
        "python": [recorded["python"], now["python"]],
        "versions": {name: [recorded.get(name), now.get(name)] for name in CHECKED},
        "files": len(result["files"]),
        "counts": result["counts"],
        "largest_differences": {name: float(f"{size:.3g}") for name, size in result["largest_differences"].items()},
        "tolerances": result["tolerances"],
        "differing": differing,
    }


def put_on_cards(records: list[dict[str, Any]]) -> None:
    """Write the lowest and the highest of the versions that agreed on the cards of the packs that took part."""
    checked = {}
    for name in CHECKED:
        versions = {version for one in records if not one["differing"] for version in one["versions"][name]}
        ordered = sorted(versions, key=lambda version: [int(part) for part in version.split(".")])
        if ordered:
            checked[name] = (ordered[0], ordered[-1])
    for name in ("plain", EDIT_PACK, "yunet"):
        pack = load_pack(name)
        replace(pack.card, checked_versions=checked).write(pack.folder / "card.json")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--python", type=Path, required=True, help="of the other environment")
    arguments.add_argument("--cards", action="store_true", help="put the versions on the cards of the embedded packs")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, reports = Path(place), Path(place) / "reports.jsonl"
        make_files(folder)
        os.chdir(folder)
        inspector = Inspector()
        with JsonLines(reports) as lines:
            for file in sorted(path for path in Path().iterdir() if path != Path(reports.name)):
                lines.write(inspector.inspect(file))
        made = summary(verified(chosen.python.absolute(), reports))
        os.chdir(FOLDER)
    records = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else []
    records = [one for one in records if one["versions"] != made["versions"]] + [made]
    RECORD.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(made, indent=1, ensure_ascii=False))
    if chosen.cards:
        put_on_cards(records)


if __name__ == "__main__":
    main()
