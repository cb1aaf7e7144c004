"""What `unmask inspect` writes for pipelines: CSV, databases, maps, logs; configuration; identical files."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unmask import cli
from unmask.evidence.report import Report
from unmask.evidence.rows import FACE_COLUMNS, FILE_COLUMNS

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(portrait: Path, tmp_path: Path) -> Path:
    """Two pictures of which the second is a copy, an empty file, and a mirrored picture."""
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(portrait.read_bytes())
    (folder / "b copy.jpg").write_bytes(portrait.read_bytes())
    (folder / "c empty.jpg").touch()
    Image.fromarray(np.asarray(Image.open(portrait))[:, ::-1]).save(folder / "d.png")
    return folder


Say = Callable[[list[str]], tuple[Any, str, str]]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Say:
    """Exit code, standard output and standard error of a command run in this process."""

    def run(args: list[str]) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["unmask", *args])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capfd.readouterr()
        return end.value.code, captured.out, captured.err

    return run


def reports(path: Path) -> list[Report]:
    return [Report.model_validate_json(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("jobs", [1, 2])
def test_csv_database_and_json_say_the_same(jobs: int, folder: Path, tiny_pack: Path, tmp_path: Path, say: Say) -> None:
    out, table, base = tmp_path / "o.jsonl", tmp_path / "o.csv", tmp_path / "o.sqlite"
    options = ["--pack", str(tiny_pack), "--edits", "none", "--jobs", str(jobs), "--quiet"]
    code, _, err = say(["inspect", str(folder), *options, "--json", str(out), "--csv", str(table), "--db", str(base)])
    made = reports(out)
    assert code == 1 and [Path(report.path).name for report in made] == ["a.jpg", "b copy.jpg", "c empty.jpg", "d.png"]
    assert "c empty.jpg: refused (empty): The file is empty." in err and "a.jpg" not in err
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(FILE_COLUMNS)
    assert [row["verdict"] for row in rows] == [report.verdict.value for report in made]
    assert float(rows[0]["log10_lr"]) == made[0].log10_lr and rows[2]["log10_lr"] == ""
    connection = sqlite3.connect(base)
    files = connection.execute(
        "SELECT path, verdict, log10_lr, identical_to FROM unmask_files ORDER BY path"
    ).fetchall()
    assert files == [(one.path, one.verdict.value, one.log10_lr, one.identical_to) for one in made]
    faces = connection.execute("SELECT count(*), sum(face) FROM unmask_faces").fetchone()
    assert faces == (3, 3) and len(FACE_COLUMNS) == len(connection.execute("SELECT * FROM unmask_faces").description)
    # The same again: rows are replaced, a CSV of ours too.
    connection.close()
    say(["inspect", str(folder / "a.jpg"), *options, "--csv", str(table), "--db", str(base)])
    assert sqlite3.connect(base).execute("SELECT count(*) FROM unmask_files").fetchone() == (4,)
    assert len(table.read_text().splitlines()) == 2


def test_identical_files_are_judged_once_and_say_so(folder: Path, tiny_pack: Path, tmp_path: Path, say: Say) -> None:
    out = tmp_path / "o.jsonl"
    _, text, _ = say(["inspect", str(folder), "--pack", str(tiny_pack), "--json", str(out)])
    first, copy, _, mirrored = reports(out)
    assert copy.identical_to == first.path and first.identical_to is None and mirrored.identical_to is None
    assert copy.timings == {} and copy.faces == first.faces and copy.sha256 == first.sha256
    assert copy.tool.command.endswith("b copy.jpg'") and copy.path.endswith("b copy.jpg")
    assert "identical to" in text


def test_a_database_of_duckdb(folder: Path, tiny_pack: Path, tmp_path: Path, say: Say) -> None:
    duckdb = pytest.importorskip("duckdb")
    base = tmp_path / "o.duckdb"
    for _ in range(2):
        say(["inspect", str(folder), "--pack", str(tiny_pack), "--edits", "none", "--db", str(base), "--quiet"])
    with duckdb.connect(str(base)) as connection:
        assert connection.execute("SELECT count(*), count(log10_lr) FROM unmask_files").fetchone() == (4, 3)
        assert connection.execute("SELECT count(*) FROM unmask_faces").fetchone() == (3,)


def test_a_database_that_is_none_or_others_is_one_line(
    portrait: Path, tiny_pack: Path, tmp_path: Path, say: Say
) -> None:
    text, other = tmp_path / "text.sqlite", tmp_path / "other.db"
    text.write_text("no database at all, but a text of some length\n" * 50)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE unmask_files (x)")
    for path, message in (
        (text, "cannot be written"),
        (other, "is not of this version"),
        (tmp_path / "o.xls", "no kind of database"),
    ):
        before = path.read_bytes() if path.exists() else None
        code, out, err = say(["inspect", str(portrait), "--pack", str(tiny_pack), "--db", str(path)])
        assert code == 2 and out == "" and message in err and err.count("\n") == 1
        assert before is None or path.read_bytes() == before


def test_maps_are_saved_and_left_out(folder: Path, tiny_pack: Path, tmp_path: Path, say: Say) -> None:
    out, maps = tmp_path / "o.jsonl", tmp_path / "maps"
    options = ["--pack", str(tiny_pack), "--json", str(out), "--no-map", "--save-maps", str(maps), "--quiet"]
    say(["inspect", str(folder), *options])
    faces = [face for report in reports(out) for face in report.faces]
    assert len(faces) == 3 and all(face.map is None for face in faces)
    assert all(step.area is None for face in faces if face.sequence for step in face.sequence.steps)
    pictures = sorted(maps.iterdir())
    assert [path.name[:2] for path in pictures] == ["a.", "b_", "d."] and pictures[0].name.endswith("-face1.png")
    with Image.open(pictures[0]) as picture:
        assert picture.mode == "L" and picture.text["Title"] == "unmask forgery map"
        assert picture.size == tuple(round(float(side)) for side in picture.text["region"].split()[2:])
    assert say(["inspect", str(folder / "a.jpg"), "--pack", str(tiny_pack), "--save-maps", str(maps), "-q"])[0] == 0
    pictures[0].write_bytes(b"mine")
    code, _, err = say(["inspect", str(folder / "a.jpg"), "--pack", str(tiny_pack), "--save-maps", str(maps), "-q"])
    assert code == 2 and "no map of unmask" in err and pictures[0].read_bytes() == b"mine"


def test_fail_on_a_verdict(folder: Path, make_pack: Callable[..., Path], say: Say) -> None:
    pack = make_pack(decision_log10_lr=0.3)
    where = ["inspect", str(folder), "--pack", str(pack), "--edits", "none", "--quiet"]
    verdicts = json.loads(say([*where[:1], str(folder / "a.jpg"), *where[2:], "--json", "-"])[1])["verdict"]
    assert say([*where, "--fail-on", verdicts])[0] == 3
    other = "authentic" if verdicts == "forged" else "forged"
    assert say([*where[:1], str(folder / "a.jpg"), *where[2:], "--fail-on", other])[0] == 0
    assert say([*where, "--fail-on", "refused"])[0] == 3


def test_a_continued_run_ends_as_all_its_files_say(folder: Path, tiny_pack: Path, tmp_path: Path, say: Say) -> None:
    where = ["inspect", str(folder), "--pack", str(tiny_pack), "--quiet", "--json", str(tmp_path / "out.jsonl")]
    assert say(where)[0] == 1  # one is empty
    assert say([*where, "--resume"])[0] == 1
    assert say([*where, "--resume", "--fail-on", "refused"])[0] == 3
    (folder / "e.jpg").write_bytes((folder / "a.jpg").read_bytes())
    assert say([*where, "--resume", "--fail-on", "refused"])[0] == 3
    (folder / "c empty.jpg").write_bytes((folder / "a.jpg").read_bytes())
    assert say([*where, "--resume", "--fail-on", "refused"])[0] == 0  # what was refused is judged now


def test_a_log_is_appended_to(folder: Path, tiny_pack: Path, tmp_path: Path, say: Say) -> None:
    log = tmp_path / "run.log"
    for _ in range(2):
        say(["inspect", str(folder), "--pack", str(tiny_pack), "--edits", "none", "-q", "--log", str(log)])
    lines = log.read_text().splitlines()
    assert [line.split()[2] for line in lines] == ["start", *["file"] * 4, "end"] * 2
    assert "refusal=empty" in lines[3] and lines[5].endswith("files=4 refused=1")
    log.write_text("my notes\n")
    code, _, err = say(["inspect", str(folder), "--pack", str(tiny_pack), "--log", str(log)])
    assert code == 2 and "--log" in err and log.read_text() == "my notes\n"


def test_nothing_to_inspect_is_wrong_usage(tiny_pack: Path, tmp_path: Path, say: Say) -> None:
    code, out, err = say(["inspect", str(tmp_path), "--pack", str(tiny_pack)])
    assert code == 2 and out == "" and "no pictures or videos there" in err


def test_options_come_from_command_line_environment_and_file_in_this_order(
    portrait: Path, tiny_pack: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "unmask.toml"
    text = f'[inspect]\npack = "{tiny_pack}"\nedits = "none"\nfps = 3\nno-map = true\njson = "-"\n'
    config.write_text("\ufeff" + text, encoding="utf-8")  # as Windows' editor begins a file

    def fps(*words: str) -> float:
        report = Report.model_validate_json(say(["--config", str(config), "inspect", str(portrait), *words])[1])
        assert report.faces[0].map is None and report.tool.options["edit_pack"] is None
        return report.tool.options["frames_per_second"]

    assert fps() == 3
    monkeypatch.setenv("UNMASK_INSPECT_FPS", "2")
    assert fps() == 2
    assert fps("--fps", "1") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[inspect]\nfsp = 3\n", "has no option 'fsp'"),
        ("[inspct]\nfps = 3\n", "there is no command [inspct]"),
        ("fps = 3\n", "there is no command [fps]"),
        ("[trace.fnid]\n", "there is no command [trace.fnid]"),
        ("[inspect\n", "is no TOML"),
    ],
)
def test_a_wrong_configuration_is_one_line(text: str, message: str, portrait: Path, tmp_path: Path, say: Say) -> None:
    config = tmp_path / "unmask.toml"
    config.write_text(text)
    code, _, err = say(["--config", str(config), "inspect", str(portrait)])
    assert code == 2 and message in err and err.count("\n") == 1
    code, _, err = say(["--config", str(tmp_path / "none.toml"), "inspect", str(portrait)])
    assert code == 2 and "cannot be read" in err


def test_a_watched_folder(portrait: Path, tiny_pack: Path, tmp_path: Path) -> None:
    """New files are inspected as they come, changed ones again, and Ctrl-C ends it in good order."""
    folder, out = tmp_path / "inbox", tmp_path / "o.jsonl"
    folder.mkdir()
    words = ["inspect", str(folder), "--watch", "--pack", str(tiny_pack), "--edits", "none", "-q", "--json", str(out)]
    process = subprocess.Popen([sys.executable, "-m", "unmask.cli", *words], stderr=subprocess.PIPE, text=True)

    def wait_for(count: int) -> None:
        for _ in range(600):
            if out.exists() and len(out.read_text().splitlines()) >= count:
                return
            assert process.poll() is None
            time.sleep(0.1)
        raise AssertionError(f"{count} reports did not come")

    try:
        picture = np.asarray(Image.open(portrait))
        Image.fromarray(picture).save(folder / "a.png")
        wait_for(1)
        Image.fromarray(picture[:, ::-1]).save(folder / "b.png")
        wait_for(2)
        Image.fromarray(picture[:, ::-1] // 2).save(folder / "b.png")
        wait_for(3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "watching ended; files finished: 3" in err
    assert [Path(report.path).name for report in reports(out)] == ["a.png", "b.png", "b.png"]


def test_shells_complete_commands() -> None:
    environment = {**os.environ, "_UNMASK_COMPLETE": "complete_bash", "COMP_WORDS": "unmask insp", "COMP_CWORD": "1"}
    code = "from unmask.cli import app; app(prog_name='unmask')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["inspect"]


def test_every_output_is_checked_before_anything_is_read(portrait: Path, tmp_path: Path, say: Say) -> None:
    kept = tmp_path / "kept.csv"
    kept.write_text("a,b\n1,2\n")
    for words in (["--csv", str(kept)], ["--csv", "x.jpg"], ["--log", "-"], ["--save-maps", str(kept)], ["--no-map"]):
        code, out, err = say(["inspect", str(portrait), *words])
        assert code == 2 and out == "" and err, words
    assert kept.read_text() == "a,b\n1,2\n"
