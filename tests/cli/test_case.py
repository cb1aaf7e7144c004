"""`unmask case`, `note`, `page`, `bundle` and `verify` from the command line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unmask import cli

pytestmark = pytest.mark.slow

Say = Callable[..., tuple[Any, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Say:
    """Exit code, standard output and standard error of a command run in this process."""

    def run(*args: Any) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["unmask", *map(str, args)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capfd.readouterr()
        return end.value.code, captured.out, captured.err

    return run


@pytest.fixture
def case(portrait: Path, tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Say) -> Path:
    """A folder with an inspected picture, its report and its case file; the current one."""
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(portrait.read_bytes())
    Path("case.toml").write_text('case = "2026-17"\nexhibit = "A3 <b>"\nnotes = "one\\ntwo"\n')
    options = ("--pack", tiny_pack, "--edits", "none", "--case", "case.toml")
    code, out, _ = run("inspect", "photo.jpg", *options, "--json", "r.jsonl", "--html", "r.html")
    assert code == 0 and "Case file: case 2026-17, exhibit A3 <b>." in out
    return tmp_path


def test_the_case_stands_in_report_and_page_without_naming_the_machine(case: Path) -> None:
    import getpass
    import socket

    report, page = json.loads(Path("r.jsonl").read_text()), Path("r.html").read_text()
    assert report["case"] == {"case": "2026-17", "exhibit": "A3 <b>", "examiner": None, "laboratory": None} | {
        "notes": "one\ntwo"
    }
    assert report["run"]["started"] <= report["run"]["finished"] and report["run"]["started"].endswith("+00:00")
    assert report["media"]["modified"].endswith("+00:00")
    assert "A3 &lt;b&gt;" in page and "one<br>two" in page and report["run"]["finished"] in page
    machine = json.dumps(report["run"])
    assert socket.gethostname() not in machine and f'"{getpass.getuser()}"' not in machine


def test_the_case_file_is_no_output_and_mistakes_in_it_come_first(case: Path, run: Say) -> None:
    assert run("inspect", "photo.jpg", "--case", "case.toml", "--json", "case.toml")[0] == 2
    Path("case.toml").write_text('exhibt = "1"')
    code, _, err = run("inspect", "photo.jpg", "--case", "case.toml", "--json", "new.jsonl")
    assert code == 2 and "did you mean 'exhibit'?" in err and not Path("new.jsonl").exists()


def test_a_file_is_not_continued_for_another_case(case: Path, run: Say, tiny_pack: Path) -> None:
    Path("case.toml").write_text('case = "2026-18"')
    options = ("--pack", tiny_pack, "--edits", "none", "--json", "r.jsonl", "--resume")
    for more in ((), ("--case", "case.toml")):
        code, _, err = run("inspect", "photo.jpg", *options, *more)
        assert code == 2 and "--case case '2026-17'" in err


def test_a_template_is_written_once(case: Path, run: Say) -> None:
    assert run("case", "new.toml")[0] == 0
    code, _, err = run("case", "new.toml")
    assert code == 2 and "is there already and is kept" in err
    code, _, err = run("inspect", "photo.jpg", "--case", "new.toml")
    assert code == 2 and "says nothing" in err


def test_a_report_is_verified_and_what_differs_is_listed(case: Path, run: Say) -> None:
    code, out, _ = run("verify", "r.jsonl")
    assert code == 0 and "1 report: 1 same" in out and "log10 LR 0.05" in out
    report = json.loads(Path("r.jsonl").read_text())
    for holder in (report, report["faces"][0]):
        holder["log10_lr"] += 0.2
    Path("t.jsonl").write_text(json.dumps(report) + "\n")
    code, out, _ = run("verify", "t.jsonl")
    assert code == 1 and "1 report: 1 differs" in out and "faces.0.log10_lr" in out
    code, out, _ = run("verify", "t.jsonl", "--json")
    (file,) = json.loads(out)["files"]
    assert code == 1 and file["result"] == "differs"
    assert [one["field"] for one in file["differences"]] == ["log10_lr", "faces.0.log10_lr"]


def test_media_that_are_missing_or_changed_have_an_exit_code_of_their_own(case: Path, run: Say) -> None:
    Path("photo.jpg").write_bytes(Path("photo.jpg").read_bytes() + b" ")
    code, out, _ = run("verify", "r.jsonl")
    assert code == 4 and "1 media changed" in out and "inspect it anew" in " ".join(out.split())
    assert "put the files back" not in " ".join(out.split())
    Path("photo.jpg").unlink()
    code, out, _ = run("verify", "r.jsonl")
    assert code == 4 and "1 media missing" in out and "put the files back" in " ".join(out.split())


def test_a_bundle_is_written_and_verified_and_an_altered_one_refused(case: Path, run: Say) -> None:
    code, out, _ = run("bundle", "r.jsonl", "--out", "case.zip")
    assert code == 0 and "media files: 1, packs: 2" in out
    sha256 = out.partition("SHA-256 ")[2].split()[0]
    Path("photo.jpg").unlink()
    code, out, _ = run("verify", "case.zip")
    assert code == 0 and sha256 in out and "1 report: 1 same" in out
    Path("cut.zip").write_bytes(Path("case.zip").read_bytes()[:-100])
    code, _, err = run("verify", "cut.zip")
    assert code == 2 and err.startswith("unmask: cut.zip: is damaged or truncated")


@pytest.mark.parametrize("content", [None, b"", b"text\n"])
def test_what_is_neither_report_nor_bundle_is_refused(content: bytes | None, tmp_path: Path, run: Say) -> None:
    path = tmp_path / "other"
    if content is not None:
        path.write_bytes(content)
    code, _, err = run("verify", path)
    assert code == 2 and err.startswith("unmask: ") and "--json" in err and err.count("\n") == 1


def test_a_note_stands_beside_the_answer_in_page_bundle_and_verification(case: Path, run: Say) -> None:
    words = ("--conclusion", "Authentic <i>", "--by", "A. Example", "--reason", "the original was seen")
    code, out, _ = run("note", "r.jsonl", *words)
    assert code == 0 and "photo.jpg: note 1" in out
    assert run("page", "r.jsonl", "--html", "r.html")[0] == 0
    page = Path("r.html").read_text()
    assert "Authentic &lt;i&gt;" in page and "the original was seen" in page and 'src="data:image' in page
    report = json.loads(Path("r.jsonl").read_text())
    assert report["verdict"] != "refused" and report["notes"][0]["by"] == "A. Example"
    code, out, _ = run("verify", "r.jsonl")
    assert code == 0 and "not verified: Authentic <i> (A. Example" in out


def test_a_note_without_a_reason_is_refused(case: Path, run: Say) -> None:
    code, _, err = run("note", "r.jsonl", "--conclusion", "x", "--by", "y", "--reason", " ")
    assert code == 2 and "--reason is empty" in err
    assert json.loads(Path("r.jsonl").read_text())["notes"] == []


def test_a_page_of_media_that_are_gone_has_no_pictures(case: Path, run: Say) -> None:
    Path("photo.jpg").unlink()
    code, out, _ = run("page", "r.jsonl", "--html", "r.html")
    assert code == 0 and "Without pictures" in out and "No picture of this face was kept." in Path("r.html").read_text()
