import io
import json
import os
from pathlib import Path

import pytest
from evidence_samples import make_report, refused_report

from unmask.errors import DataError
from unmask.evidence import jsonl
from unmask.evidence.jsonl import JsonLines, place_of, settings_of
from unmask.evidence.report import Report, restore_surrogates

SHA = "0f" * 32
A = (place_of("a.jpg"), SHA)


def done_in(path):
    with JsonLines(path, resume=True) as lines:
        return lines.done


def test_one_flushed_line_per_report(tmp_path):
    path = tmp_path / "reports.jsonl"
    with JsonLines(path) as lines:
        lines.write(make_report("a.jpg"))
        assert path.read_bytes().count(b"\n") == 1
        lines.write(refused_report("b\n.jpg"))
    first, second = path.read_text(encoding="utf-8").splitlines()
    assert Report.model_validate_json(first) == make_report("a.jpg")
    assert json.loads(second)["path"] == "b\n.jpg"
    assert done_in(path) == {A, (place_of("b\n.jpg"), None)}


def test_what_was_finished_survives_an_interrupt(tmp_path):
    path = tmp_path / "reports.jsonl"
    with pytest.raises(KeyboardInterrupt), JsonLines(path) as lines:
        lines.write(make_report("a.jpg"))
        raise KeyboardInterrupt
    assert done_in(path) == {A}


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
    assert done_in(path) == {A}
    with JsonLines(path, resume=True) as lines:
        assert lines.done == {A}
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
    assert len(done_in(tmp_path / "new.jsonl")) == 1


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


def test_two_writers_never_share_a_file(tmp_path):
    path = tmp_path / "reports.jsonl"
    with JsonLines(path) as lines:
        lines.write(make_report("a.jpg"))
        for resume in (True, False):
            with pytest.raises(DataError, match="another run"), JsonLines(path, resume=resume):
                pass
        lines.write(make_report("b.jpg"))
    assert [json.loads(line)["path"] for line in path.read_bytes().splitlines()] == ["a.jpg", "b.jpg"]


def test_a_pipe_is_written_from_front_to_back(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with JsonLines(path) as lines:
        lines.write(make_report("a.jpg"))
        assert json.loads(os.read(reading, 1 << 20))["path"] == "a.jpg"
    os.close(reading)
    assert path.is_fifo()


def test_reports_made_otherwise_are_not_continued(tmp_path):
    path = tmp_path / "reports.jsonl"
    report = make_report("a.jpg")
    with JsonLines(path) as lines:
        lines.write(report)
    content = path.read_bytes()
    same = settings_of(report.tool.options, report.packs)
    with JsonLines(path, resume=True, settings=same) as lines:
        assert lines.done == {A} and lines.versions == {report.tool.version}
        assert list(lines.finished()) == [report]
    other_packs = [report.packs[0].model_copy(update={"sha256": "e" * 64}), *report.packs[1:]]
    slower = report.tool.options | {"frames_per_second": 77}
    for settings, difference in (
        (settings_of(report.tool.options, other_packs), "eeeeeeee"),
        (settings_of(slower, report.packs), "--fps .*, now 77"),
    ):
        with pytest.raises(DataError, match=difference), JsonLines(path, resume=True, settings=settings):
            pass
    assert path.read_bytes() == content


def test_one_place_for_every_spelling_of_a_path(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    spellings = ("folder/a.jpg", "./folder/a.jpg", "folder//inner/../a.jpg", "link/a.jpg", str(folder / "a.jpg"))
    assert {place_of(path) for path in spellings} == {str(folder.resolve() / "a.jpg")}
    assert place_of("folder/b.jpg") != place_of("folder/a.jpg") and place_of("-") == "-"


def test_names_that_are_not_utf8(tmp_path):
    name = b"\xff.jpg".decode("utf-8", "surrogateescape")
    path = tmp_path / "reports.jsonl"
    with JsonLines(path) as lines:
        lines.write(make_report(name))
    ((shown, _),) = done_in(path)
    assert path.read_bytes().decode("utf-8")
    assert shown == place_of("\\udcff.jpg")
    assert restore_surrogates(shown) == place_of(name)


def test_a_continued_file_is_read_through_the_handle_that_holds_the_lock(tmp_path, monkeypatch):
    """A second one would meet the lock wherever locks are mandatory."""
    path = tmp_path / "reports.jsonl"
    with JsonLines(path) as lines:
        lines.write(make_report("a.jpg"))
    opened = []
    file_open = io.open

    def counted(file, *args, **how):
        opened.append(Path(file))
        return file_open(file, *args, **how)

    monkeypatch.setattr(io, "open", counted)
    with JsonLines(path, resume=True) as lines:
        assert [report.path for report in lines.finished()] == ["a.jpg"]
        lines.write(make_report("b.jpg"))
    assert opened == [path]
    assert [json.loads(line)["path"] for line in path.read_bytes().splitlines()] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(("every", "synced"), [(3600.0, 1), (0.0, 6)])
def test_the_disk_has_the_reports_now_and_then_and_at_the_end(tmp_path, monkeypatch, every, synced):
    calls = []
    monkeypatch.setattr(jsonl, "SYNC_EVERY", every)
    monkeypatch.setattr(os, "fsync", calls.append)
    with JsonLines(tmp_path / "reports.jsonl") as lines:
        for _ in range(5):
            lines.write(make_report())
    assert len(calls) == synced


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_disk_that_fails_at_the_end_is_told_but_hides_no_other_end(tmp_path, monkeypatch, interrupted):
    def failing(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(KeyboardInterrupt if interrupted else DataError), JsonLines(tmp_path / "out.jsonl") as lines:
        lines.write(make_report())
        if interrupted:
            raise KeyboardInterrupt
