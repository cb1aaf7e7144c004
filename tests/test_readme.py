"""What the README says to type works as it stands there."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
# Installing is what CI does before it comes here; the lab's commands take long and have tests of their own.
COMMANDS = [line for line in LINES if re.match(r"unmask (inspect|demo|packs|note|bundle|verify)\b", line)]
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, portrait: Path, make_video: Callable[..., Path]) -> Path:
    """A folder with the files that the README speaks of."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "holiday").mkdir()
    for place in (folder / "photo.jpg", folder / "holiday" / "beach.jpg"):
        place.write_bytes(portrait.read_bytes())
    (folder / "case.toml").write_text('case = "2026-17"\n')
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    (folder / "clip.mp4").write_bytes(make_video(lambda _: pixels, seconds=1.0).read_bytes())
    return folder


def run(command: str | list[str], folder: Path) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_two_commands_of_the_project() -> None:
    assert "pip install . && unmask demo" in LINES
    assert 'pip install ".[dev]" && pytest' in LINES


@pytest.mark.slow
def test_demo(desk: Path) -> None:
    done = run("unmask demo", desk)
    assert "photograph.jpg" in done.stdout and "forgery.png" in done.stdout
    page = (desk / "unmask-demo" / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, desk: Path) -> None:
    done = run(command, desk)
    assert done.stdout or "--json reports.jsonl" in command
    if "--html" in command:
        assert (desk / "reports.html").is_file() and (desk / "reports.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("code", PYTHON)
def test_python(code: str, desk: Path) -> None:
    assert len(code.strip().splitlines()) == 3
    done = run([sys.executable, "-c", code], desk)
    assert re.match(r"(forged|authentic|inconclusive) -?\d", done.stdout)


def test_the_architecture_shows_the_rooms_that_exist() -> None:
    drawn = set(re.findall(r"^  (\w+)(?:/|\.py) ", TEXT, re.MULTILINE))
    rooms = {path.name for path in (ROOT / "src" / "unmask").iterdir() if (path / "__init__.py").is_file()}
    modules = {path.stem for path in (ROOT / "src" / "unmask").glob("*.py")} - {"__init__", "errors"}
    assert drawn == rooms | modules
