"""An examiner's note beside the machine's answer."""

import json
from pathlib import Path

import pytest
from evidence_samples import make_report

from unmask.errors import DataError
from unmask.evidence.jsonl import JsonLines, read_reports
from unmask.evidence.notes import add_note
from unmask.evidence.report import ExaminerNote

FIRST = ExaminerNote(time="2026-11-30T18:00:00+00:00", by="A. Example", conclusion="authentic", reason="original seen")
SECOND = ExaminerNote(time="2026-12-01T08:00:00+00:00", by="B. Example", conclusion="forged", reason="half mirrored")


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    path = tmp_path / "reports.jsonl"
    with JsonLines(path) as lines:
        for name in ("a/one.jpg", "b/two.jpg", "b/three.jpg"):
            lines.write(make_report(name))
    return path


def test_notes_are_appended_and_the_answer_stays(reports: Path) -> None:
    before = reports.read_bytes().splitlines()
    add_note(reports, "b/two.jpg", FIRST)
    noted = add_note(reports, "two.jpg", SECOND)
    after = reports.read_bytes().splitlines()
    assert noted.notes == [FIRST, SECOND]
    assert (after[0], after[2]) == (before[0], before[2])
    old, new = json.loads(before[1]), json.loads(after[1])
    assert old.pop("notes") == [] and len(new.pop("notes")) == 2 and old == new
    assert [len(report.notes) for _, report in read_reports(reports)] == [0, 2, 0]


def test_a_report_of_an_older_schema_gets_the_version_that_knows_notes(reports: Path) -> None:
    line = json.loads(reports.read_bytes().splitlines()[0]) | {"schema_version": "1.5"}
    for name in ("run", "case", "notes"):
        del line[name]
    reports.write_text(json.dumps(line))
    assert add_note(reports, None, FIRST).schema_version == "1.6"


@pytest.mark.parametrize(
    ("file", "words"), [("four.jpg", "has no report on four.jpg"), (None, "has 3 reports; say with --file")]
)
def test_which_report_is_meant_must_be_clear(file: str | None, words: str, reports: Path) -> None:
    before = reports.read_bytes()
    with pytest.raises(DataError, match=words):
        add_note(reports, file, FIRST)
    assert reports.read_bytes() == before and list(reports.parent.iterdir()) == [reports]


def test_a_name_that_two_files_share_is_refused(reports: Path) -> None:
    with JsonLines(reports, resume=True) as lines:
        lines.write(make_report("c/two.jpg"))
    with pytest.raises(DataError, match=r"several files are called two\.jpg"):
        add_note(reports, "two.jpg", FIRST)


@pytest.mark.parametrize("content", [b"", b"{}\n", b"no json\n", b'{"schema_version": "1.6"\n', b"[1]\n"])
def test_what_is_no_file_of_reports_is_refused_and_kept(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match="--json wrote"):
        add_note(path, None, FIRST)
    assert path.read_bytes() == content


def test_a_file_of_reports_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there; give a file that --json wrote"):
        add_note(tmp_path / "missing.jsonl", None, FIRST)
    assert list(tmp_path.iterdir()) == []


def test_a_report_of_a_newer_schema_says_so(reports: Path) -> None:
    line = json.loads(reports.read_bytes().splitlines()[0]) | {"schema_version": "1.99", "more": 1}
    reports.write_text(json.dumps(line))
    with pytest.raises(DataError, match=r"schema 1\.99"):
        add_note(reports, None, FIRST)


def test_a_file_that_is_being_written_is_refused(reports: Path) -> None:
    with JsonLines(reports, resume=True), pytest.raises(DataError, match="another run is writing"):
        add_note(reports, "one.jpg", FIRST)
