"""Every guide does what it says: its blocks are carried out in an empty folder, from top to bottom.

A block whose info string has `title="NAME"` is written to the file NAME; a block of `sh` is run in bash, and must
succeed. The folder is on Python's path; `pip install` puts what it installs into a folder of the guide's own.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDES = Path(__file__).resolve().parent.parent / "docs" / "guides"
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def carry_out(text: str, folder: Path) -> int:
    """Write the files and run the commands of a guide; the number of blocks that were run.

    Raises:
        AssertionError: a block failed; its text and what it printed are in the message.
    """
    installed = folder / "installed"
    paths = [str(folder), str(installed), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(paths),
        "PIP_TARGET": str(installed),
        "PIP_NO_DEPS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
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
def test_guide(guide: Path, tmp_path: Path) -> None:
    run = carry_out(guide.read_text(encoding="utf-8"), tmp_path.resolve())
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
