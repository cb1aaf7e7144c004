"""Jobs: each costs no more than itself, whatever becomes of it, and leaves nothing."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from unmask.evidence.report import Report
from unmask.inspection import Inspector
from unmask.inspection.options import InspectorOptions
from unmask.web.jobs import Full, Job, Jobs, Limits, Spool

pytestmark = pytest.mark.slow

Start = Callable[..., Jobs]


@pytest.fixture
def start(tiny_pack: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts jobs with limits of one's own, and stops them in the end."""
    started: list[Jobs] = []

    def begin(**limits: float) -> Jobs:
        options = InspectorOptions.of(tiny_pack, 30.0, edit_pack=None)
        jobs = Jobs(options, Limits(**limits), tmp_path)  # type: ignore[arg-type]
        jobs.start()
        started.append(jobs)
        return jobs

    yield begin
    for jobs in started:
        jobs.stop()


@pytest.fixture(scope="module")
def long_video(make_video: Callable[..., Path], portrait: Path) -> Path:
    """It takes much longer than any test waits."""
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((640, 640)))
    return make_video(lambda _: pixels, seconds=240.0)


def put(jobs: Jobs, path: Path, name: str = "x") -> Job:
    job = jobs.begin(name)
    job.media.write_bytes(path.read_bytes())
    jobs.grow(job, path.stat().st_size)
    jobs.submit(job)
    return job


def wait_for(what: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_job_gives_the_report_of_the_command_line(start: Start, portrait: Path, tiny_pack: Path) -> None:
    job = put(jobs := start(), portrait, "scene 4.jpg")
    wait_for(lambda: job.ended)
    assert job.state == "done" and job.summary is not None
    report = Report.model_validate_json(job.report.read_text())
    usual = Inspector(tiny_pack, 30.0, edit_pack=None).inspect(portrait)
    assert report.faces == usual.faces and report.sha256 == usual.sha256 and report.path == "scene 4.jpg"
    assert str(job.folder) not in report.model_dump_json()
    page = job.page.read_text()
    assert "scene 4.jpg" in page and page.count("data:image/jpeg") == 2 and job.summary["heading"] in page
    assert not job.media.exists()
    assert jobs.remove(job.id) and not job.folder.exists() and jobs.get(job.id) is None
    assert not jobs.remove(job.id)


def the_worker() -> psutil.Process:
    """The one worker process there is."""
    (worker,) = (child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline()))
    return worker


def test_a_worker_that_dies_while_it_waits_costs_no_job(start: Start, portrait: Path) -> None:
    first = put(jobs := start(), portrait)
    wait_for(lambda: first.ended)
    worker = the_worker()
    worker.kill()
    wait_for(lambda: worker.status() == psutil.STATUS_ZOMBIE)
    second = put(jobs, portrait)
    wait_for(lambda: second.ended)
    assert (first.state, second.state, second.error) == ("done", "done", None)


def test_a_worker_that_dies_costs_one_job(start: Start, portrait: Path, long_video: Path) -> None:
    jobs = start()
    doomed, next_one = put(jobs, long_video), put(jobs, portrait)
    wait_for(lambda: doomed.progress > 0)
    assert jobs.waiting_before(next_one) == 0 and jobs.waiting_before(doomed) is None
    the_worker().kill()
    wait_for(lambda: next_one.ended)
    assert doomed.state == "failed" and doomed.error is not None and doomed.error[0] == "crash"
    assert "SIGKILL" in doomed.error[1] and not doomed.media.exists()
    assert next_one.state == "done"


def test_a_file_that_takes_too_long_is_given_up(start: Start, portrait: Path, long_video: Path) -> None:
    jobs = start(seconds=3.0)
    slow, next_one = put(jobs, long_video), put(jobs, portrait)
    wait_for(lambda: next_one.ended)
    assert slow.state == "failed" and slow.error is not None and slow.error[0] == "timeout"
    assert next_one.state == "done"


def test_a_running_job_can_be_removed(start: Start, portrait: Path, long_video: Path) -> None:
    jobs = start()
    unwanted, next_one = put(jobs, long_video), put(jobs, portrait)
    wait_for(lambda: unwanted.state == "running")
    version = jobs.version
    jobs.remove(unwanted.id)
    wait_for(lambda: next_one.ended)
    assert next_one.state == "done" and jobs.removed_since(version) == [unwanted.id]
    wait_for(lambda: not unwanted.folder.exists(), 10)


def test_a_job_is_forgotten_when_its_time_is_over(start: Start, portrait: Path) -> None:
    jobs = start(keep=0.5)
    job = put(jobs, portrait)
    wait_for(lambda: jobs.get(job.id) is None and not job.folder.exists())
    assert jobs.all() == []


def test_the_queue_and_the_disk_are_bounded(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    options = InspectorOptions.of(tiny_pack, edit_pack=None)
    jobs = Jobs(options, Limits(waiting=2, spool=1000), tmp_path)  # not started: nothing is taken out
    first, second = jobs.begin("a"), jobs.begin("b")
    with pytest.raises(Full, match="wait already"):
        jobs.begin("c")
    jobs.grow(first, 600)
    with pytest.raises(Full, match="all the room"):
        jobs.grow(second, 401)
    jobs.abandon(second)
    assert not second.folder.exists()
    jobs.submit(first)
    jobs.begin("d")
    jobs.remove(first.id)
    jobs.begin("e")


def test_a_folder_that_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    living = Spool(tmp_path)
    left = tmp_path / "unmask-serve-0123"
    left.mkdir()
    (left / "lock").touch()
    (left / "media").write_bytes(b"private")
    other = tmp_path / "unmask-serve-notours"
    other.mkdir()  # without a lock it is none of ours
    another = Spool(tmp_path)
    assert not left.exists() and living.folder.exists() and other.exists()
    assert another.folder.stat().st_mode & 0o777 == 0o700
    living.close()
    another.close()
    assert not living.folder.exists() and not another.folder.exists()
