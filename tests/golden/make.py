"""Golden records: what users type and read, which must stay equal while code is moved about.

`test_golden.py` compares. `python tests/golden/make.py` writes them anew: only for a change meant to be seen from
outside, in the commit that makes it.
"""

import inspect
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

import unmask
from unmask.packs import embedded_packs, load_pack
from unmask.provenance import sha256_of

FOLDER = Path(__file__).resolve().parent
PORTRAIT = Path(unmask.__file__).parent / "demo" / "astronaut.jpg"


def surface() -> dict[str, Any]:
    """The public names of the package, and every command with its options."""
    import typer.main

    from unmask import cli

    lab = _lab_options()

    def commands(group: Any, prefix: str) -> Iterator[tuple[str, list[str]]]:
        for name, command in sorted(group.commands.items()):
            if hasattr(command, "commands"):
                yield from commands(command, f"{prefix}{name} ")
            else:
                yield f"{prefix}{name}", sorted(lab.get(name) or _words(command))

    return {
        "unmask": sorted(unmask.__all__),
        "inspect": str(inspect.signature(unmask.inspect)),
        "Inspector": str(inspect.signature(unmask.Inspector)),
        "Inspector.inspect": str(inspect.signature(unmask.Inspector.inspect)),
        "Inspector.examine": str(inspect.signature(unmask.Inspector.examine)),
        "commands": dict(commands(typer.main.get_command(cli.app), "")),
    }


def _words(command: Any) -> set[str]:
    """The arguments and options of a command."""
    return {word for one in command.params for word in one.opts + one.secondary_opts}


def _lab_options() -> dict[str, set[str]]:
    """Of the commands that put their options together late: those of every task, without the methods' own."""
    import typer.main

    from unmask.cli import lab
    from unmask.lab.methods import METHODS, options_of
    from unmask.lab.task import TASKS, task_named

    words: dict[str, set[str]] = {name: set() for name in ("train", "evaluate", "compare", "export")}
    for method in METHODS:
        own = {f"--{no}{name.replace('_', '-')}" for name in options_of(method) for no in ("", "no-")}
        words["train"] |= _words(typer.main.get_command(lab.train_command(method))) - own
    for task in map(task_named, TASKS.own):
        for name in ("evaluate", "compare", "export"):
            app = lab.system_command(getattr(lab, f"_{name}"), task)
            words[name] |= _words(typer.main.get_command(app))
    return words


def packs() -> dict[str, str]:
    """SHA-256 of every embedded model, and of what `unmask packs --json` prints."""
    import hashlib

    command = [sys.executable, "-m", "unmask.cli", "packs", "--json"]
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    models = {name: sha256_of(load_pack(name).model_path) for name in embedded_packs()}
    return {**models, "packs --json": hashlib.sha256(printed).hexdigest()}


def reports() -> dict[str, Any]:
    """The reports on ten files made here, without what changes from run to run and machine to machine."""
    with tempfile.TemporaryDirectory() as folder:
        inspector = unmask.Inspector()
        made = {name: inspector.inspect(path) for name, path in _files(Path(folder)).items()}
    return {name: _steady(json.loads(report.model_dump_json())) for name, report in made.items()}


def _steady(report: dict[str, Any]) -> dict[str, Any]:
    for name in ("path", "sha256", "timings", "run"):
        del report[name]
    for name in ("libraries", "command", "unchecked"):
        del report["tool"][name]
    unsteady = {"bytes": None, "modified": None}  # encoders differ from version to version
    report["media"] = report["media"] and {**report["media"], **unsteady}
    for face in report["faces"]:
        for holder in (face, *(face["sequence"]["steps"] if face["sequence"] else ())):
            for name in ("map", "area"):
                if holder.get(name):  # its size and mean stand for it: whole maps would fill the file
                    values = np.array(holder[name]["values"])
                    holder[name] = {"region": holder[name]["region"], "shape": values.shape, "mean": values.mean()}
        face["track"] = face["track"] and len(face["track"])
    return report


def _files(folder: Path) -> dict[str, Path]:
    with Image.open(PORTRAIT) as picture:
        face = picture.convert("RGB")
    pixels = np.asarray(face)
    pair = np.hstack([pixels, pixels[:, ::-1]])
    cold = cv2.cvtColor(cv2.GaussianBlur(pixels, (0, 0), 2.0), cv2.COLOR_RGB2BGR)  # soft, red and blue exchanged
    content = {
        "portrait.jpg": PORTRAIT.read_bytes(),
        "lossless.png": _saved(face, "PNG"),
        "lossy.webp": _saved(face, "WEBP", quality=80),
        "two faces.png": _saved(Image.fromarray(pair), "PNG"),
        "soft.png": _saved(Image.fromarray(cold), "PNG"),
        "small.png": _saved(face.resize((96, 96)), "PNG"),
        "no face.png": _saved(Image.new("RGB", (64, 64), (200, 180, 160)), "PNG"),
        "cut.jpg": PORTRAIT.read_bytes()[:2000],
        "text.jpg": b"this is no picture\n",
    }
    files = {name: folder / name for name in content}
    for name, path in files.items():
        path.write_bytes(content[name])
    files["clip.mkv"] = folder / "clip.mkv"
    with av.open(str(files["clip.mkv"]), "w") as container:
        height, width = pixels.shape[:2]
        stream = container.add_stream("ffv1", rate=10, width=width, height=height, pix_fmt="bgr0")
        for shift in range(10):
            frame = av.VideoFrame.from_ndarray(np.roll(pixels, 2 * shift, axis=1), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return files


def _saved(picture: Image.Image, image_format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, image_format, **options)
    return stream.getvalue()


RECORDS = {"surface.json": surface, "packs.json": packs, "reports.json": reports}


def main() -> None:
    for name, record in RECORDS.items():
        (FOLDER / name).write_text(json.dumps(record(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
