"""Files that the workers of a Ray cluster inspect: the same answers as without, and nothing left behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

TRACES = shutil.which("strace") is not None


@pytest.fixture
def folder(tmp_path: Path, portrait: Path) -> Path:
    place = tmp_path / "in"
    place.mkdir()
    for name in ("a.jpg", "b.jpg", "same as a.jpg"):
        (place / name).write_bytes(portrait.read_bytes() + (b"b" if name == "b.jpg" else b""))
    (place / "cut.jpg").write_bytes(portrait.read_bytes()[:3000])
    return place


def reports(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("timings", "run")} for line in lines]


def test_without_ray_the_extra_is_named(
    folder: Path, tiny_pack: Path, say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ray", "ray.data"):
        monkeypatch.setitem(sys.modules, name, None)
    code, message = say(["inspect", str(folder), "--pack", str(tiny_pack), "--engine", "ray", "--quiet"])
    assert code == 2 and "[ray]" in message and message.count("\n") == 1
    assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.parametrize("option", [["--jobs", "2"], ["--watch"]])
def test_options_that_ray_cannot_keep_are_refused(
    option: list[str], folder: Path, tiny_pack: Path, say: Callable[..., Any]
) -> None:
    code, message = say(["inspect", str(folder), "--pack", str(tiny_pack), "--engine", "ray", *option])
    assert code == 2 and option[0] in message


@pytest.mark.slow
def test_workers_of_ray_say_what_one_process_says_in_the_same_order(
    folder: Path, tiny_pack: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the ray extra is not installed")
    before = set(Path("/tmp").glob("ray-*"))
    for engine in ("local", "ray"):
        words = [*("inspect", "in", "missing.jpg", "--pack", str(tiny_pack), "--edits", "none", "--engine", engine)]
        traced = ["strace", "-f", "-qq", "-e", "trace=connect,bind", "-o", f"{engine}.calls"] if TRACES else []
        whole = [*traced, *command([*words, "--quiet", "--json", f"{engine}.jsonl"])]
        done = subprocess.run(whole, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
        assert [line.split(": refused")[0] for line in done.stderr.splitlines()] == [
            "unmask: in/cut.jpg",
            "unmask: missing.jpg",
        ]
    ours, theirs = reports(tmp_path / "local.jsonl"), reports(tmp_path / "ray.jsonl")
    assert ours == theirs and len(ours) == 5
    assert [one["identical_to"] for one in theirs] == [None, None, None, "in/a.jpg", None]
    assert set(Path("/tmp").glob("ray-*")) == before
    calls = (tmp_path / "ray.calls").read_text(errors="replace").splitlines() if TRACES else []
    reached = [line for line in calls if "sin_addr" in line or "sin6_addr" in line]
    assert [line for line in reached if not re.search(r'"(::ffff:)?127\.0\.0\.1"|"::1"', line)] == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no Ctrl-C to send")
def test_an_interruption_leaves_whole_lines_and_no_process(folder: Path, tiny_pack: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the ray extra is not installed")
    for number in range(30):
        (folder / f"{number}.jpg").write_bytes((folder / "a.jpg").read_bytes() + str(number).encode())
    out = tmp_path / "out.jsonl"
    words = ["inspect", "in", "--pack", str(tiny_pack), "--edits", "none", "--engine", "ray", "--json", str(out)]
    process = subprocess.Popen(command([*words, "--quiet"]), cwd=tmp_path, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while process.poll() is None and not (out.exists() and out.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them
        assert process.wait(120) == 130
    finally:
        process.kill()
    assert out.read_bytes().endswith(b"\n") and reports(out)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


def command(words: list[str]) -> list[str]:
    return [sys.executable, "-c", "from unmask.cli import main; main()", *words]
