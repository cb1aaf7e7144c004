"""Files in worker processes and what is known of them: each is read and hashed once, whatever happens to it."""

import hashlib
import json
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from unmask.errors import RefusalCode, Refused
from unmask.evidence.report import Verdict
from unmask.inspection import Inspector, inspector
from unmask.inspection.batch import Batch
from unmask.inspection.inspector import TakenIn, examine_safely, take_in_source
from unmask.media import intake
from unmask.media.intake import MediaFile
from unmask.media.sources import RefusedSource, Source, walk


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every file that is hashed in this process."""
    counts: list[int] = []

    def counted(data: bytes = b"") -> Any:
        counts.append(len(data))
        return hashlib.sha256(data)

    monkeypatch.setattr(intake, "hashlib", SimpleNamespace(sha256=counted))
    return counts


def source_of(path: Path) -> Source:
    return Source(str(path), path)


def test_a_changed_file_is_hashed_once_where_a_run_is_resumed(
    hashed: list[int], tiny_pack: Path, portrait: Path, tmp_path: Path, say: Callable[..., Any]
) -> None:
    photo, out = tmp_path / "photo.jpg", tmp_path / "out.jsonl"
    photo.write_bytes(portrait.read_bytes())
    arguments = ["inspect", str(photo), "--pack", str(tiny_pack), "--json", str(out), "--quiet", "--resume"]
    for content, expected in (
        (portrait.read_bytes(), 1),
        (portrait.read_bytes(), 1),
        (portrait.read_bytes() + b"!", 1),
    ):
        photo.write_bytes(content)
        hashed.clear()
        assert say(arguments)[0] == 0
        assert len(hashed) == expected
    reports = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert [report["sha256"] for report in reports] == [
        hashlib.sha256(portrait.read_bytes() + end).hexdigest() for end in (b"", b"!")
    ]


def test_what_was_taken_in_is_not_read_again_by_a_worker(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(portrait.read_bytes())
    taken = take_in_source(source_of(photo))
    assert isinstance(taken.media, MediaFile)
    marked = replace(taken, media=replace(taken.media, sha256="ab" * 32))  # a worker that hashed would find another
    photo.unlink()
    results = Batch(Inspector(tiny_pack, edit_pack=None)).run([marked])
    (report,) = (done.report for done in results)
    assert report.sha256 == "ab" * 32 and report.verdict is not Verdict.REFUSED


def test_refusals_come_in_their_place_without_a_worker(tiny_pack: Path, tmp_path: Path) -> None:
    refused = Refused(RefusalCode.UNREADABLE, "There is no permission to list it.")
    missing = take_in_source(source_of(tmp_path / "missing.jpg"))
    assert isinstance(missing.media, Refused) and missing.sha256 is None
    batch = Batch(Inspector(tiny_pack, edit_pack=None))
    results = batch.run([RefusedSource("folder", refused), missing])
    codes = [done.report.refusal.code for done in results if done.report.refusal]
    assert codes == [RefusalCode.UNREADABLE, RefusalCode.NOT_FOUND]
    assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.parametrize("taken", [False, True])
def test_a_defect_costs_one_file_which_is_hashed_once(
    taken: bool, hashed: list[int], tiny_pack: Path, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(media: MediaFile) -> None:
        raise ZeroDivisionError("oops")

    one = Inspector(tiny_pack, edit_pack=None)
    monkeypatch.setattr(inspector, "decode_image", broken)
    item: Source | TakenIn = source_of(portrait)
    report = examine_safely(one, take_in_source(item) if taken else item).report
    assert report.refusal is not None and report.refusal.code is RefusalCode.UNREADABLE
    assert "ZeroDivisionError: oops" in report.refusal.message
    assert report.sha256 == hashlib.sha256(portrait.read_bytes()).hexdigest() and report.kind == "image"
    assert len(hashed) == 1


def test_a_file_is_announced_before_it_is_decoded(
    tiny_pack: Path, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, events = Inspector(tiny_pack, edit_pack=None), []
    decode = inspector.decode_image

    def decoded(media: MediaFile) -> Any:
        events.append("decoded")
        return decode(media)

    monkeypatch.setattr(inspector, "decode_image", decoded)
    examine_safely(one, source_of(portrait), on_media=lambda media: events.append(media.sha256))
    assert events == [hashlib.sha256(portrait.read_bytes()).hexdigest(), "decoded"]


@pytest.mark.slow
def test_a_crash_costs_one_file_which_is_not_hashed_again(
    hashed: list[int], tiny_pack: Path, portrait: Path, make_video: Callable[..., Path]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    slow = make_video(lambda _: noise, seconds=60.0)
    results = Batch(Inspector(tiny_pack, 10.0)).run(chain(walk([portrait, slow]), walk([portrait])))
    assert next(results).report.verdict is not Verdict.REFUSED
    (worker,) = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
    before = worker.cpu_times().user
    while worker.cpu_times().user < before + 0.3:  # by then it decodes
        time.sleep(0.01)
    worker.send_signal(signal.SIGSEGV)
    crashed = next(results).report
    assert crashed.refusal is not None and crashed.refusal.code is RefusalCode.CORRUPT
    assert "SIGSEGV" in crashed.refusal.message and crashed.kind == "video"
    assert crashed.sha256 == hashlib.sha256(slow.read_bytes()).hexdigest()
    assert next(results).report.verdict is not Verdict.REFUSED
    assert next(results, None) is None
    assert hashed == []  # in this process
