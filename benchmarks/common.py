"""What the benchmarks share: arguments, the record that each writes, and a few measures."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy or torch are loaded

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unmask.packs import load_pack
from unmask.provenance import library_versions, shell_line

LIBRARIES = (
    *("unmask", "numpy", "opencv-python-headless", "onnxruntime", "av", "pillow", "pydantic", "torch", "timm"),
    *("pyarrow", "duckdb", "splink"),
)


def parser(description: str) -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--out", type=Path, help="write the record to this JSON file")
    arguments.add_argument("--pack", default="plain", help="forgery pack: an embedded name or a folder")
    arguments.add_argument("--seed", type=int, default=0)
    return arguments


def finish(arguments: argparse.Namespace, name: str, results: dict[str, Any]) -> None:
    """Print the results, and keep them with everything needed to judge and repeat them."""
    card = load_pack(arguments.pack).card
    record = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shell_line(["python", f"benchmarks/{name}.py", *_arguments(sys.argv[1:])]),
        "commit": _commit(),
        "seed": arguments.seed,
        "pack": {"name": card.name, "version": card.version, "sha256": card.sha256},
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()[0]},
        "versions": library_versions(LIBRARIES),
        "results": results,
    }
    text = json.dumps(record, indent=1)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n", encoding="utf-8")


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Median, extremes and count."""
    return {
        "median": round(statistics.median(values), 5),
        "min": round(min(values), 5),
        "max": round(max(values), 5),
        "n": len(values),
    }


def timed(command: Sequence[str], **how: Any) -> float:
    """Seconds from the start of a process to its end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **how)
    return time.perf_counter() - start


def portrait() -> np.ndarray:
    """A real photograph with one face: uint8 (384, 384, 3) RGB."""
    with resources.files("unmask.demo").joinpath("astronaut.jpg").open("rb") as stream, Image.open(stream) as picture:
        return np.asarray(picture.convert("RGB"))


def _arguments(words: Sequence[str]) -> list[str]:
    """A command's arguments without the places of things on this machine."""
    pairs = zip(["", *words], words, strict=False)
    return [before.lstrip("-").upper() if Path(word).is_absolute() else word for before, word in pairs]


def _commit() -> str | None:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    return done.stdout.strip() or None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
