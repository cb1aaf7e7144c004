"""Folders: throughput and memory of `unmask inspect` over 100, 1,000 and 10,000 pictures."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
from common import finish, parser, portrait
from PIL import Image

VARIANTS = 20


def write_pictures(folder: Path, seed: int) -> list[Path]:
    """A few small pictures with one face each, all different."""
    generator = np.random.default_rng(seed)
    picture = portrait()[:256, 40:296]
    paths = []
    for number in range(VARIANTS):
        side = int(generator.integers(192, 257))
        noise = generator.normal(0, 4, (side, side, 3))
        pixels = np.clip(cv2.resize(picture, (side, side)) + noise, 0, 255).astype(np.uint8)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def measure(command: list[str]) -> tuple[float, float, float]:
    """Seconds, peak memory (MB) of the process, and of the sum over it and its workers, sampled every 50 ms."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    watched = psutil.Process(process.pid)
    own = total = 0
    while process.poll() is None:
        try:
            sizes = [watched.memory_info().rss] + [c.memory_info().rss for c in watched.children(recursive=True)]
        except psutil.Error:
            continue
        own, total = max(own, sizes[0]), max(total, sum(sizes))
        time.sleep(0.05)
    assert process.returncode == 0, command
    return time.perf_counter() - start, own / 2**20, total / 2**20


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10000])
    arguments.add_argument("--jobs", type=int, default=1)
    arguments.add_argument("--html", action="store_true", help="write the HTML page as well")
    chosen = arguments.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as place:
        pictures = Path(place, "pictures")
        pictures.mkdir()
        originals = write_pictures(pictures, chosen.seed)
        for size in chosen.sizes:
            folder = Path(place, str(size))
            folder.mkdir()
            for number in range(size):
                (folder / f"{number:06}.jpg").hardlink_to(originals[number % VARIANTS])
            out = Path(place, f"{size}.jsonl")
            command = [sys.executable, "-m", "unmask.cli", "inspect", str(folder), "--quiet", "--pack", chosen.pack]
            command += ["--json", str(out), "--jobs", str(chosen.jobs)]
            command += ["--html", str(Path(place, f"{size}.html"))] if chosen.html else []
            seconds, own, total = measure(command)
            with out.open("rb") as stream:
                assert sum(1 for _ in stream) == size
            results[str(size)] = {
                "seconds": round(seconds, 2),
                "files_per_second": round(size / seconds, 1),
                "peak_rss_mb": round(own, 1),
                "peak_rss_with_workers_mb": round(total, 1),
                "jobs": chosen.jobs,
                "html": chosen.html,
            }
            print(size, results[str(size)], file=sys.stderr)
    finish(chosen, "folder", results)


if __name__ == "__main__":
    main()
