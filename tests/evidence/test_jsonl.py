import json

import pytest
from evidence_samples import make_report, refused_report

from unmask.errors import DataError
from unmask.evidence.jsonl import JsonLines, read_done
from unmask.evidence.report import Report, restore_surrogates

SHA = "0f" * 32


def test_one_flushed_line_per_report(tmp_path):
    path = tmp_path / "reports.jsonl"
    with JsonLines(path) as lines:
        lines.write(make_report("a.jpg"))
        assert path.read_bytes().count(b"\n") == 1
        lines.write(refused_report("b\n.jpg"))
    first, second = path.read_text(encoding="utf-8").splitlines()
    assert Report.model_validate_json(first) == make_report("a.jpg")
    assert json.loads(second)["path"] == "b\n.jpg"
    assert read_done(path) == {("a.jpg", SHA), ("b\n.jpg", None)}


def test_what_was_finished_survives_an_interrupt(tmp_path):
    path = tmp_path / "reports.jsonl"
    with pytest.raises(KeyboardInterrupt), JsonLines(path) as lines:
        lines.write(make_report("a.jpg"))
        raise KeyboardInterrupt
    assert read_done(path) == {("a.jpg", SHA)}


def test_standard_output(capfdbinary):
    with JsonLines("-") as lines:
        lines.write(make_report("ü.jpg"))
    assert json.loads(capfdbinary.readouterr().out)["path"] == "ü.jpg"


@pytest.mark.parametrize("cut", [1, 10, 200])
def test_resume_cuts_a_torn_last_line_and_goes_on(tmp_path, cut):
    path = tmp_path / "reports.jsonl"
    with JsonLines(path) as lines:
        lines.write(make_report("a.jpg"))
        lines.write(make_report("b.jpg"))
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_done(path) == {("a.jpg", SHA)}
    with JsonLines(path, resume=True) as lines:
        assert lines.done == {("a.jpg", SHA)}
        lines.write(make_report("c.jpg"))
    assert [json.loads(line)["path"] for line in path.read_bytes().splitlines()] == ["a.jpg", "c.jpg"]


def test_resume_from_a_first_line_cut_anywhere(tmp_path):
    path = tmp_path / "reports.jsonl"
    whole = make_report("a.jpg").model_dump_json().encode()
    for length in (0, 1, 5, 16, 17, 40, len(whole)):
        path.write_bytes(whole[:length])
        with JsonLines(path, resume=True) as lines:
            assert lines.done == set()
        assert path.read_bytes() == b""


def test_resume_without_a_previous_file_starts_one(tmp_path):
    with JsonLines(tmp_path / "new.jsonl", resume=True) as lines:
        assert lines.done == set()
        lines.write(make_report())
    assert len(read_done(tmp_path / "new.jsonl")) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"my notes",
        b"my notes\n",
        b"\x00" * 100,
        b"[]\n",
        b'{"schema_version": "1.0"}\n',
        b'{"schema_version": "9.0", "path": "a", "sha256": null, "tool": {"name": "unmask"}}\n',
        b'{"schema_version": "1.0", "path": "a", "sha256": null, "tool": {"name": "other"}}\n',
        b'{"schema_version": not json\n',
    ],
)
def test_a_file_that_is_not_ours_is_left_alone(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match="line 1 is not a report"), JsonLines(path, resume=True):
        pass
    assert path.read_bytes() == content


def test_errors_name_the_remedy(tmp_path):
    with pytest.raises(DataError, match="give a writable file"), JsonLines(tmp_path / "missing" / "reports.jsonl"):
        pass
    with pytest.raises(DataError, match="give --json a file"), JsonLines("-", resume=True):
        pass
    with pytest.raises(DataError, match="cannot read"):
        read_done(tmp_path / "missing.jsonl")


def test_names_that_are_not_utf8(tmp_path):
    name = b"\xff.jpg".decode("utf-8", "surrogateescape")
    path = tmp_path / "reports.jsonl"
    with JsonLines(path) as lines:
        lines.write(make_report(name))
    ((shown, _),) = read_done(path)
    assert path.read_bytes().decode("utf-8")
    assert shown == "\\udcff.jpg"
    assert restore_surrogates(shown) == name
