"""Search by drawings on a folder of photos: `unmask search index`, again with nothing new, and `unmask search find`.

The photos are copies of one with noise, all different, of 192 to 256 pixels a side; the drawing is made from one of
them. Processor seconds, in which others on the machine do not count, seconds on the clock, and peak memory.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import finish, parser, portrait


def write_photos(folder: Path, count: int, seed: int) -> None:
    """Photos, all different."""
    generator = np.random.default_rng(seed)
    picture = cv2.cvtColor(portrait()[:256, 40:296], cv2.COLOR_RGB2BGR)
    for number in range(count):
        side = int(generator.integers(192, 257))
        pixels = cv2.resize(picture, (side, side)) + generator.normal(0, 4, (side, side, 3))
        cv2.imwrite(str(folder / f"{number:06}.jpg"), np.clip(pixels, 0, 255).astype(np.uint8))


SCRIPT = """import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))"""
"""Runs a command, and says what it took: a process has one peak of all that it ran."""


def measure(*words: str | Path) -> dict[str, float]:
    """What `unmask search` takes."""
    command = [sys.executable, "-m", "unmask.cli", "search", *map(str, words)]
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", SCRIPT, *command], check=True, stdout=subprocess.PIPE, text=True)
    processor, peak = json.loads(done.stdout)
    return {
        "processor_s": round(processor, 2),
        "s": round(time.perf_counter() - began, 2),
        "peak_rss_mb": round(peak, 1),
    }


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--photos", type=int, default=10_000)
    arguments.set_defaults(pack="sketch_objects")
    chosen = arguments.parse_args()
    results: dict[str, Any] = {"photos": chosen.photos}
    with tempfile.TemporaryDirectory() as place:
        photos, index, drawing = Path(place, "photos"), Path(place, "photos.index"), Path(place, "drawing.png")
        photos.mkdir()
        write_photos(photos, chosen.photos, chosen.seed)
        grey = cv2.imread(str(photos / "000000.jpg"), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(drawing), 255 - cv2.Canny(grey, 60, 160))
        results["index"] = measure("index", photos, "--out", index)
        results["index again"] = measure("index", photos, "--out", index)
        results["find"] = measure("find", drawing, "--index", index)
    finish(chosen, "search_photos", results)


if __name__ == "__main__":
    main()
