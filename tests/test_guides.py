"""Every guide does what it says: its blocks are carried out in an empty folder, from top to bottom.

A block whose info string has `title="NAME"` is written to the file NAME; a block of `sh` is run in bash, and must
succeed. The folder is on Python's path; `pip install FOLDER` installs into a folder of the guide's own, with the build
tools that are there and without dependencies: nothing is fetched, and the environment stays as it was.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

GUIDES = Path(__file__).resolve().parent.parent / "docs" / "guides"
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def carry_out(text: str, folder: Path) -> int:
    """Write the files and run the commands of a guide; the number of blocks that were run.

    Raises:
        AssertionError: a block failed; its text and what it printed are in the message.
    """
    installed, tools = folder / "installed", folder / "tools"
    tools.mkdir(exist_ok=True)
    pip = tools / "pip"
    own = f"--target {shlex.quote(str(installed))} --no-build-isolation --no-deps --disable-pip-version-check"
    pip.write_text(f'#!/bin/sh\nshift\nexec {shlex.quote(sys.executable)} -m pip install {own} "$@"\n')
    pip.chmod(0o755)
    paths = [str(folder), str(installed), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {
        **os.environ,
        "PATH": os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    run = 0
    for language, title, body in BLOCK.findall(text):
        if title:
            file = folder / title
            assert folder in file.resolve().parents, f"{title} lies outside the guide's folder"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(body, encoding="utf-8")
        elif language == "sh":
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", body], cwd=folder, env=env, capture_output=True)
            assert done.returncode == 0, f"{body}\n{done.stdout.decode()}\n{done.stderr.decode()}"
            run += 1
    return run


@pytest.mark.parametrize("guide", sorted(GUIDES.glob("*.md")), ids=lambda path: path.stem)
def test_guide(guide: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = guide.read_text(encoding="utf-8")
    if "`faces` is a folder with some hundred pictures of faces" in text:
        folder = request.getfixturevalue("data_dir") / "faces" / "utkface_200"
        (tmp_path / "faces").mkdir()
        for path in sorted(folder.iterdir())[:1200:10]:
            shutil.copy(path, tmp_path / "faces")
    run = carry_out(text, tmp_path.resolve())
    assert run or guide.stem == "index"


def test_every_guide_is_in_the_index() -> None:
    index = (GUIDES / "index.md").read_text(encoding="utf-8")
    assert [path.name for path in GUIDES.glob("*.md") if path.stem != "index" and f"({path.name})" not in index] == []


def test_files_are_written_and_a_failing_command_is_noticed(tmp_path: Path) -> None:
    text = '```python title="pkg/one.py"\nprint("one")\n```\n\n```sh\npython -m pkg.one > out.txt\n```\n'
    assert carry_out(text, tmp_path) == 1
    assert (tmp_path / "out.txt").read_text() == "one\n"
    with pytest.raises(AssertionError, match="exit 3"):
        carry_out("```sh\nexit 3\n```\n", tmp_path)
    with pytest.raises(AssertionError, match="outside"):
        carry_out('```text title="../escaped.txt"\n\n```\n', tmp_path)


def test_a_package_is_installed_for_the_guide_alone(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    text = """
```toml title="ext/pyproject.toml"
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "unmask-guide-example"
version = "1"
entry-points."unmask.guides".mine = "ext:MINE"

[tool.hatch.build.targets.wheel]
only-include = ["ext.py"]
```

```python title="ext/ext.py"
MINE = "mine"
```

```python title="show.py"
from importlib.metadata import entry_points

(point,) = entry_points(group="unmask.guides")
print(point.load())
```

```sh
pip install ./ext
python show.py > out.txt
```
"""
    assert carry_out(text, tmp_path) == 1
    assert (tmp_path / "out.txt").read_text() == "mine\n"
    assert not entry_points(group="unmask.guides")
