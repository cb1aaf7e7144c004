"""A case file keeps every event, whatever happens."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unmask.errors import DataError
from unmask.tracing.case.case_file import Event, Opened, case_file

OPENED = Opened("people.csv", "register", "dictionary", "a missing person", "2026-01-01T00:00:00+00:00")
EVENTS = [
    Event("answer", "2026-01-01T00:00:01+00:00", "eyes", "brown", 1.0, (("eyes", 1.5), ("hair", 1.2))),
    Event("answer", "2026-01-01T00:00:02+00:00", "hair", {"red": 0.7, "brown": 0.3}, 0.4, (), "abc"),
    Event("undo", "2026-01-01T00:00:03+00:00"),
    Event("answer", "2026-01-01T00:00:04+00:00", "hair", None, 1.0, (("age", 2.0),)),
]


def written(path: Path) -> Path:
    with case_file(path, OPENED) as case:
        for event in EVENTS:
            case.add(event)
    return path


def test_a_case_is_read_as_it_was_written(tmp_path: Path) -> None:
    with case_file(written(tmp_path / "a.case"), OPENED) as case:
        assert case.events == EVENTS
        assert case.opened == OPENED
        assert not case.mended
    assert [event.overrode for event in EVENTS] == [False, False, False, True]


@pytest.mark.slow
def test_whatever_byte_a_kill_comes_at_the_events_before_it_hold(tmp_path: Path) -> None:
    content = written(tmp_path / "a.case").read_bytes()
    ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(len(content)):
        path = tmp_path / "cut.case"
        path.write_bytes(content[:cut])
        whole = sum(end < cut for end in ends)
        with case_file(path, OPENED) as case:
            assert case.events == EVENTS[: max(whole - 1, 0)]
            case.add(EVENTS[0])
        with case_file(path, OPENED) as case:
            assert case.events == [*EVENTS[: max(whole - 1, 0)], EVENTS[0]]
            assert not case.mended


def test_a_killed_process_loses_nothing_that_it_was_told(tmp_path: Path) -> None:
    path = tmp_path / "a.case"
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_case_file import EVENTS, OPENED, Path, case_file
with case_file(Path({str(path)!r}), OPENED) as case:
    while True:
        case.add(EVENTS[0])
        print(len(case.events), flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    time.sleep(0.05)
    process.kill()
    counts = [int(line) for line in process.stdout.read().splitlines() if line.strip()] or [5]
    process.wait()
    with case_file(path, OPENED) as case:
        assert len(case.events) >= counts[-1]
        assert set(map(repr, case.events)) == {repr(EVENTS[0])}


OLD = b"""\
{"register": "people.csv", "fingerprint": "register", "dictionary": "dictionary", "purpose": "", "time": "t", "case": 1}
{"event": "answer", "time": "t1", "attribute": "eyes", "told": "brown", "trust": 1.0, "shown": [["hair", 1.5]], \
"picture": null}
{"event": "answer", "time": "t2", "attribute": "hair", "told": {"red": 0.7}, "trust": 0.4, "shown": [], "picture": "a"}
{"event": "undo", "time": "t3", "attribute": "", "told": null, "trust": 1.0, "shown": [], "picture": null}
"""


def test_a_case_of_an_earlier_release_goes_on_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "old.case"
    path.write_bytes(OLD)
    with case_file(path, Opened("people.csv", "register", "dictionary", "", "")) as case:
        assert [event.value for event in case.events] == ["brown", {"red": 0.7}, None]
        assert case.events[0].shown == (("hair", 1.5),) and case.events[0].overrode
        assert case.events[1] == Event("answer", "t2", "hair", {"red": 0.7}, 0.4, (), "a")
        for event in list(case.events):
            case.add(event)
    # What is written today is, byte for byte, what was written then.
    assert path.read_bytes() == OLD + OLD[OLD.index(b"\n") + 1 :]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (Opened("b.csv", "another", "dictionary", "", ""), "another register"),
        (Opened("people.csv", "register", "another", "", ""), "another data dictionary"),
        (Opened("people.csv", "register", "dictionary", "curiosity", ""), "begun for 'a missing person'"),
    ],
)
def test_a_case_of_another_register_is_refused_and_left_as_it_is(tmp_path: Path, other: Opened, why: str) -> None:
    path = written(tmp_path / "a.case")
    before = path.read_bytes()
    with pytest.raises(DataError, match=why), case_file(path, other):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"id,eyes\np1,brown\n",
        b"\x89PNG\r\n\x1a\n\x00\x00",
        b"no line end",
        b"{}\n",
        b'{"case": 1}\n',
        b"[1]\n",
        json.dumps({**OPENED.__dict__, "case": 99}).encode() + b"\n",
        json.dumps(OPENED.__dict__).encode() + b'\n{"event": "answer", "nonsense": 1}\n',
    ],
)
def test_what_is_not_a_case_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.case"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not a case file|version 99"), case_file(path, OPENED):
        pass
    assert path.read_bytes() == content


def test_a_case_is_open_once(tmp_path: Path) -> None:
    path = written(tmp_path / "a.case")
    with case_file(path, OPENED), pytest.raises(DataError, match="open elsewhere"), case_file(path, OPENED):
        pass
    with case_file(path, OPENED) as case:
        assert case.events == EVENTS


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"), case_file(tmp_path, OPENED):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"), case_file(tmp_path / "file" / "a.case", OPENED):
        pass
