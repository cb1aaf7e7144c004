"""What would break on Windows and macOS, as far as it can be seen from here: calls, encodings, names, quoting."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from unmask import cli
from unmask.provenance import shell_line

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "unmask"
TREES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text("utf-8")) for path in SOURCE.rglob("*.py")}
POSIX_MODULES = {"fcntl", "pwd", "grp", "termios", "tty", "pty", "resource", "syslog", "readline", "curses"}
EVERYWHERE = {"SIGINT", "SIGTERM", "SIG_IGN", "SIG_DFL", "Signals", "signal", "getsignal", "raise_signal"}
POSIX_CALLS = {
    *("fork", "forkpty", "getuid", "geteuid", "getgid", "setuid", "setsid", "killpg", "getpgid", "mkfifo", "uname"),
    *("chown", "nice", "sync", "statvfs", "sched_getaffinity", "getloadavg", "O_NONBLOCK", "O_NOFOLLOW", "pread"),
}
GUARDED = {"web/jobs.py": {"getuid"}, "inspection/batch.py": {"pthread_sigmask", "SIG_BLOCK", "SIG_SETMASK"}}
"""Calls behind a `hasattr`."""
OTHER_OPEN = ("archive", "av", "os", "Pool")


def attributes(tree: ast.AST, module: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == module:
            yield node.attr


@pytest.mark.parametrize("name", TREES)
def test_no_module_needs_what_only_posix_has(name: str) -> None:
    tree = TREES[name]
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not POSIX_MODULES & set(modules)
    used = {one for one in attributes(tree, "os") if one in POSIX_CALLS}
    if any(isinstance(node, ast.Import) and node.names[0].name == "signal" for node in ast.walk(tree)):
        used |= {one for one in attributes(tree, "signal") if one not in EVERYWHERE}
    assert used <= GUARDED.get(name, set())


@pytest.mark.parametrize("name", TREES)
def test_text_is_read_and_written_as_utf_8_whatever_the_system_takes_for_usual(name: str) -> None:
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            named = any(word.arg in ("encoding", None) for word in node.keywords)
            if called in ("read_text", "write_text") and owner:
                positional = len(node.args) > (called == "write_text")
                assert named or positional, f"line {node.lineno}"
            elif called == "open" and owner not in OTHER_OPEN and (is_mode(node, "rwa") or not owner or not node.args):
                assert named or is_mode(node, "b") or "lock" in owner, f"line {node.lineno}"


def is_mode(node: ast.Call, letters: str) -> bool:
    """Whether a call of `open` has a mode with one of some letters."""
    given = [*node.args, *(word.value for word in node.keywords)]
    texts = [str(one.value) for one in given if isinstance(one, ast.Constant)]
    modes = [text for text in texts if re.fullmatch("[rwaxbt+]{1,3}", text)]
    return any(letter in mode for mode in modes for letter in letters)


@pytest.mark.parametrize("name", TREES)
def test_processes_are_spawned_which_every_system_can(name: str) -> None:
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("get_context"):
            assert ast.unparse(node.args[0]) == "'spawn'"
    assert not {"Pool", "Process", "Queue"} & set(attributes(TREES[name], "multiprocessing"))


def test_names_of_files_are_possible_on_every_system() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout")
    names = listed.stdout.decode().rstrip("\0").split("\0")
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        parts = PurePosixPath(name).parts
        assert len(name) < 180 and not re.search(r'[<>:"|?*\\\x00-\x1f]', name), name
        assert not any(part.endswith((".", " ")) for part in parts), name
        reserved = r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?"
        assert not any(re.fullmatch(reserved, part, re.IGNORECASE) for part in parts), name


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("photo.jpg", "photo.jpg"),
        ("--jobs", "--jobs"),
        ("-", "-"),
        (r"C:\Users\me\photo.jpg", r"C:\Users\me\photo.jpg"),
        (r"C:\my pictures\it's.jpg", r"'C:\my pictures\it''s.jpg'"),
        ("--fps=0.5", "'--fps=0.5'"),
        ("-photo.jpg", "'-photo.jpg'"),
        ("$HOME `x` @a ~", "'$HOME `x` @a ~'"),
        ("it\u2019s.jpg", "'it\u2019\u2019s.jpg'"),
        ("a,b;c", "'a,b;c'"),
        ("", "''"),
    ],
)
def test_words_are_quoted_for_powershell_on_windows(word: str, quoted: str) -> None:
    assert shell_line(["unmask", word], "win32") == f"unmask {quoted}"


def test_characters_that_a_terminal_lacks_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "\u25c6.jpg").write_bytes(b"x")
    done = subprocess.run(
        [sys.executable, "-c", "from unmask.cli import main; main()", "inspect", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
        capture_output=True,
    )
    assert done.returncode == 1 and rb"\u25c6" in done.stdout


def test_names_of_files_are_no_patterns_on_any_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Click would expand `img[1].jpg` to img1.jpg on Windows, where shells leave that to programs."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(cli, "app", lambda **how: given.update(how))
    cli.main()
    assert given == {"windows_expand_args": False}
