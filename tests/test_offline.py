"""Nobody is contacted and nothing is left behind: commands run without a network, their system calls on record.

Needs Linux with `unshare` (util-linux) and `strace`. Their absence is a failure in CI and a visible skip elsewhere.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from unmask.offline import SWITCHES

pytestmark = pytest.mark.slow

UNMASK = [sys.executable, "-m", "unmask.cli"]
# `socket` alone: `socketpair` is how processes of one run talk to each other, and reaches nobody else.
_WATCHED = (
    "trace=socket,connect,open,openat,creat,mkdir,mkdirat,mknod,mknodat,symlink,symlinkat,link,linkat,"
    "rename,renameat,renameat2"
)
_WRITES = re.compile(r"^\d+ +(?:open|openat|openat2)\(.*O_(?:WRONLY|RDWR|CREAT)|^\d+ +(?:creat|mk|symlink|link|rename)")
_PATHS = re.compile(r'"((?:[^"\\]|\\.)*)"')
# The C library asks the name service of this machine who the user is.
_NAME_SERVICE = re.compile(r"socket\(AF_UNIX|/var/run/nscd/socket")
_SOCKETS = re.compile(r"\d+ +(?:socket|connect)\(")
_NO_FILES = ("/dev/", "/proc/", "/sys/")


@dataclass(frozen=True)
class Trace:
    """What a command did: its exit code and messages, the sockets it opened, the paths it wrote to."""

    code: int
    error: str
    sockets: tuple[str, ...]
    written: frozenset[str]


@pytest.fixture
def traced(tmp_path: Path) -> Callable[..., Trace]:
    """Runs a command with empty home, temporary and working folders, in a network namespace without routes."""
    namespace = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    able = shutil.which("strace") and shutil.which("unshare")
    if not able or subprocess.run([*namespace, "strace", "-o", os.devnull, "true"], capture_output=True).returncode:
        message = "no strace or no network namespaces here: install strace and util-linux"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)

    def trace(command: Sequence[str | Path]) -> Trace:
        for name in ("home", "temporary", "work"):
            (tmp_path / name).mkdir(exist_ok=True)
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ}
        environment = kept | {
            "HOME": str(tmp_path / "home"),
            "TMPDIR": str(tmp_path / "temporary"),
            "PYTHONDONTWRITEBYTECODE": "1",  # or Python would cache the bytecode of our own modules
        }
        record = tmp_path / "calls"
        watched = ["strace", "-f", "-qq", "-s", "4096", "-e", _WATCHED, "-o", str(record)]
        done = subprocess.run(
            [*namespace, *watched, *map(str, command)],
            env=environment,
            cwd=tmp_path / "work",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        lines = record.read_text(errors="replace").splitlines()
        done_lines = [line for line in lines if not re.search(r" = -1 E|<unfinished|\?$", line)]
        return Trace(
            done.returncode,
            done.stderr,
            tuple(line for line in lines if _SOCKETS.match(line) and not _NAME_SERVICE.search(line)),
            frozenset(
                str(tmp_path / "work" / path)
                for line in done_lines
                if _WRITES.match(line)
                for path in _PATHS.findall(line)
                if not path.startswith(_NO_FILES)
            ),
        )

    return trace


def left_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def check(trace: Trace, tmp_path: Path, outputs: set[str], code: int = 0) -> None:
    """The command ended well, opened no socket, and left nothing but its outputs in the folder it ran in."""
    assert trace.code == code, trace.error
    assert trace.sockets == ()
    outside = {path for path in trace.written if not Path(path).is_relative_to(tmp_path)}
    assert outside == set()
    assert left_in(tmp_path / "home") == set()
    assert left_in(tmp_path / "temporary") == set()
    assert left_in(tmp_path / "work") == outputs


@pytest.fixture
def folder(tmp_path: Path, portrait: Path, make_video: Callable[..., Path]) -> Path:
    """Two pictures and a video."""
    import numpy as np
    from PIL import Image

    place = tmp_path / "media"
    place.mkdir()
    shutil.copy(portrait, place / "a.jpg")
    with Image.open(portrait) as picture:
        picture.save(place / "b.png")
        pixels = np.asarray(picture.convert("RGB"))
    shutil.move(make_video(lambda _: pixels, seconds=0.6), place / "c.mp4")
    return place


def test_the_trace_sees_sockets_and_files(traced: Callable[..., Trace], tmp_path: Path) -> None:
    """What the other tests find absent is found where it is."""
    code = "import socket, pathlib; socket.socket(); pathlib.Path.home().joinpath('x').write_text('')"
    trace = traced([sys.executable, "-c", code])
    assert trace.code == 0 and len(trace.sockets) == 1
    assert str(tmp_path / "home" / "x") in trace.written and left_in(tmp_path / "home") == {"x"}


@pytest.mark.slow
def test_inspecting_one_photograph(traced: Callable[..., Trace], tmp_path: Path, portrait: Path) -> None:
    trace = traced([*UNMASK, "inspect", portrait, "--json", "r.jsonl", "--html", "r.html"])
    check(trace, tmp_path, {"r.jsonl", "r.html"})


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_inspecting_a_folder_in_workers(jobs: str, traced: Callable[..., Trace], tmp_path: Path, folder: Path) -> None:
    check(traced([*UNMASK, "inspect", folder, "--jobs", jobs, "--json", "r.jsonl"]), tmp_path, {"r.jsonl"})


def test_the_python_interface(traced: Callable[..., Trace], tmp_path: Path, portrait: Path) -> None:
    code = f"import unmask; print(unmask.inspect({str(portrait)!r}).verdict)"
    check(traced([sys.executable, "-c", code]), tmp_path, set())


@pytest.mark.slow
def test_the_demonstration(traced: Callable[..., Trace], tmp_path: Path) -> None:
    trace = traced([*UNMASK, "demo"])
    assert "unmask-demo/report.html" in left_in(tmp_path / "work")
    check(trace, tmp_path, left_in(tmp_path / "work"))


@pytest.mark.parametrize("command", [["packs"], ["--help"]], ids=" ".join)
def test_commands_that_only_tell(command: list[str], traced: Callable[..., Trace], tmp_path: Path) -> None:
    check(traced([*UNMASK, *command]), tmp_path, set())


@pytest.mark.slow
def test_tracing_in_a_database_with_time_zones(traced: Callable[..., Trace], tmp_path: Path) -> None:
    """DuckDB would download an extension where a query can use one; its spilled data may not stay."""
    import duckdb

    with duckdb.connect(str(tmp_path / "people.duckdb")) as connection:
        connection.execute(
            "create table people as select 'p' || i as id, (i % 7)::varchar as eyes, (i % 5)::varchar as hair, "
            "make_timestamptz(i * 86400000000) as born from range(40) t(i)"
        )
    trace = traced([*UNMASK, "trace", "profile", tmp_path / "people.duckdb:people"])
    check(trace, tmp_path, left_in(tmp_path / "work"), trace.code)
    assert "Traceback" not in trace.error


@pytest.mark.slow
def test_finding_and_deduplicating(traced: Callable[..., Trace], tmp_path: Path) -> None:
    rows = "\n".join(f"p{i},{i % 7},{i % 5},{i % 11},{i % 13}" for i in range(200))
    (tmp_path / "people.csv").write_text(f"id,eyes,hair,nose,chin\n{rows}\n")
    find = [*UNMASK, "trace", "find", tmp_path / "people.csv", "--answer", "eyes=3", "--answer", "hair=1"]
    check(traced([*find, "--json", "find.json"]), tmp_path, {"find.json"}, code=1)  # 1: not yet told apart
    trace = traced([*UNMASK, "trace", "deduplicate", tmp_path / "people.csv", "--out", "one.csv"])
    check(trace, tmp_path, {"find.json", "one.csv", "one.merged.csv"})


@pytest.mark.lab
def test_importing_the_lab(traced: Callable[..., Trace], tmp_path: Path) -> None:
    """Every module of ours, and what they import only when it is used."""
    code = (
        "import importlib, pkgutil, unmask\n"
        "for module in pkgutil.walk_packages(unmask.__path__, 'unmask.'):\n"
        "    module.name.endswith(('.__main__', '.make')) or importlib.import_module(module.name)\n"
        "import openvino, ai_edge_litert.interpreter, onnxscript, duckdb, ibis, splink, pyspark\n"
    )
    trace = traced([sys.executable, "-c", code])
    # torch makes an empty folder for what it would compile.
    for place in (tmp_path / "temporary").glob("torchinductor_*"):
        place.rmdir()
    # What Flower's network is made of looks whether this machine has IPv6, by a socket that it closes again.
    contacts = tuple(call for call in trace.sockets if "connect(" in call or "AF_INET6" not in call)
    check(replace(trace, sockets=contacts), tmp_path, set())


def test_reporting_is_off_whatever_the_environment_says(portrait: Path) -> None:
    code = (
        "import os, sys, unmask\n"
        "assert 'onnxruntime' not in sys.modules\n"
        f"assert all(os.environ[name] == value for name, value in {SWITCHES!r}.items())\n"
        "try:\n    import openvino_telemetry\nexcept ImportError:\n    print('none')\n"
    )
    environment = os.environ | dict.fromkeys(SWITCHES, "0") | {"FLWR_TELEMETRY_ENABLED": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "none\n", done.stderr
