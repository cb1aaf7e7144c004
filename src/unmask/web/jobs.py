"""Jobs: uploads that wait, are inspected by worker processes, and are forgotten when their time is over.

The server never decodes media itself. Each worker process holds one file at a time; if it dies or takes too long, that
costs this one job, and a new process goes on with the next. What a job needs lies in the spool folder, so that memory
does not grow with what was uploaded: the media until they were inspected, report and page until the job expires.
"""

import multiprocessing
import os
import secrets
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any, Literal

from unmask.errors import UnmaskError
from unmask.files import lock
from unmask.inspection.options import InspectorOptions
from unmask.parallel import follow_parent

State = Literal["waiting", "running", "done", "failed"]
_REMEMBERED_REMOVALS = 1000
_STARTING = 120.0  # seconds that a worker may take to load its packs


class Full(UnmaskError):
    """There is no room for another job just now."""


@dataclass(frozen=True)
class Limits:
    """What bounds the service.

    Attributes:
        workers: processes that inspect, each one file at a time.
        waiting: jobs that may wait at once.
        upload: bytes of one file.
        spool: bytes of all media in the spool folder together.
        seconds: that one file may take, to upload and again to inspect.
        keep: seconds from its end until a job is forgotten.
    """

    workers: int = 1
    waiting: int = 200
    upload: int = 512 * 1024**2
    spool: int = 8 * 1024**3
    seconds: float = 600.0
    keep: float = 3600.0


@dataclass
class Job:
    """One uploaded file and what became of it; `version` grows with each change of any job."""

    id: str
    name: str
    folder: Path
    created: float
    state: State = "waiting"
    progress: float = 0.0
    bytes: int = 0
    ended: float | None = None
    summary: dict[str, Any] | None = None
    error: tuple[str, str] | None = None
    version: int = 0

    @property
    def media(self) -> Path:
        """The uploaded file; the name that it came with is never a path of ours."""
        return self.folder / "media"

    @property
    def report(self) -> Path:
        """The report as JSON."""
        return self.folder / "report.json"

    @property
    def page(self) -> Path:
        """The report as a page."""
        return self.folder / "report.html"

    @property
    def paper(self) -> Path:
        """The page for paper, which a PDF file is made of."""
        return self.folder / "paper.html"

    @property
    def pdf(self) -> Path:
        """The report as a PDF file; made when somebody asks for it."""
        return self.folder / "report.pdf"


class Spool:
    """A folder of our own for what is uploaded, removed at the end; one that a killed server left is removed too.

    Args:
        parent: where to make it.
    """

    _PREFIX = "unmask-serve-"

    def __init__(self, parent: Path) -> None:
        self._remove_abandoned(parent)
        self.folder = parent / f"{self._PREFIX}{secrets.token_hex(8)}"
        self.folder.mkdir(mode=0o700)
        self._lock: IO[Any] = (self.folder / "lock").open("w")
        lock(self._lock)

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _remove_abandoned(self, parent: Path) -> None:
        for folder in parent.glob(f"{self._PREFIX}*"):
            with suppress(OSError):
                if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
                    continue
                with (folder / "lock").open("r+") as stream:
                    alive = not lock(stream)
                if not alive:
                    shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Jobs:
    """All jobs of a service; safe to be used from several threads.

    Args:
        options: how files are inspected.
        limits: what bounds it.
        spool: where media and reports lie.
    """

    options: InspectorOptions
    limits: Limits
    spool: Path
    version: int = 0
    removed: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_REMOVALS))
    _jobs: dict[str, Job] = field(default_factory=dict)
    _queue: deque[str] = field(default_factory=deque)
    _reserved: dict[str, int] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _threads: list[threading.Thread] = field(default_factory=list)
    _stopping: bool = False

    def start(self) -> None:
        """Start the threads that hand jobs to worker processes, and the one that forgets them."""
        for number in range(self.limits.workers):
            self._threads.append(threading.Thread(target=self._serve, name=f"worker {number}", daemon=True))
        self._threads.append(threading.Thread(target=self._forget, name="expiry", daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the worker processes and threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def begin(self, name: str) -> Job:
        """Make room for an upload.

        Args:
            name: what its sender calls the file; shown, and used for nothing else.

        Raises:
            Full: too many jobs wait, or the spool folder holds too much.
        """
        with self._changed:
            if len(self._queue) + len(self._reserved) >= self.limits.waiting:
                raise Full(f"{self.limits.waiting} files wait already; try again later")
            if self._spooled() >= self.limits.spool:
                raise Full("the files that wait take all the room there is; try again later")
            job = Job(secrets.token_urlsafe(12), name, self.spool / secrets.token_hex(12), time.time())
            self._reserved[job.id] = 0
        job.folder.mkdir(mode=0o700)
        return job

    def grow(self, job: Job, size: int) -> None:
        """Note how many bytes of an upload have come.

        Raises:
            Full: together with the others it is too much.
        """
        with self._changed:
            self._reserved[job.id] = size
            if self._spooled() > self.limits.spool:
                raise Full("the files that wait take all the room there is; try again later")

    def submit(self, job: Job) -> None:
        """Put an upload that is complete into the queue."""
        with self._changed:
            job.bytes = self._reserved.pop(job.id)
            self._jobs[job.id] = job
            self._queue.append(job.id)
            self._touch(job)

    def abandon(self, job: Job) -> None:
        """Forget an upload that broke off."""
        with self._changed:
            self._reserved.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def get(self, number: str) -> Job | None:
        """A job by its id."""
        with self._changed:
            return self._jobs.get(number)

    def all(self, since: int = 0) -> list[Job]:
        """The jobs that have changed since a version, in the order in which they came."""
        with self._changed:
            return [job for job in self._jobs.values() if job.version > since]

    def removed_since(self, version: int) -> list[str]:
        """The ids of jobs that were forgotten since a version."""
        with self._changed:
            return [number for when, number in self.removed if when > version]

    def waiting_before(self, job: Job) -> int | None:
        """How many jobs wait before one; None if it does not wait."""
        with self._changed:
            return self._queue.index(job.id) if job.id in self._queue else None

    def remove(self, number: str) -> bool:
        """Forget a job and what it left; one that runs is ended. False if there is no such job."""
        with self._changed:
            job = self._jobs.pop(number, None)
            if job is None:
                return False
            with suppress(ValueError):
                self._queue.remove(number)
            self.version += 1
            self.removed.append((self.version, number))
            self._changed.notify_all()
        shutil.rmtree(job.folder, ignore_errors=True)
        return True

    def _spooled(self) -> int:
        return sum(self._reserved.values()) + sum(
            job.bytes for job in self._jobs.values() if job.state in ("waiting", "running")
        )

    def _touch(self, job: Job) -> None:
        self.version += 1
        job.version = self.version
        self._changed.notify_all()

    def _next(self) -> Job | None:
        with self._changed:
            while not self._queue and not self._stopping:
                self._changed.wait()
            if self._stopping:
                return None
            job = self._jobs[self._queue.popleft()]
            job.state = "running"
            self._touch(job)
            return job

    def _serve(self) -> None:
        """A thread's life: one worker process after the other, one job after the other."""
        worker: _Worker | None = None
        try:
            while (job := self._next()) is not None:
                if worker is not None and not worker.process.is_alive():  # ended from outside while it waited
                    worker.end()
                    worker = None
                if worker is None:
                    worker = _Worker(self.options)
                if not self._run(worker, job):
                    worker.end()
                    worker = None
        finally:
            if worker is not None:
                worker.end()

    def _run(self, worker: "_Worker", job: Job) -> bool:
        """Have a worker inspect a job; whether it can go on with another."""
        alive, error, summary = True, None, None
        try:
            worker.wait_until_ready(self._gone(job))
            deadline = time.monotonic() + self.limits.seconds
            worker.pipe.send((job.name, job.folder))
            while True:
                if self._gone(job)() or time.monotonic() > deadline:
                    raise TimeoutError
                if not worker.pipe.poll(0.2):
                    continue
                kind, value = worker.pipe.recv()
                if kind == "done":
                    summary = value
                    break
                with self._changed:
                    job.progress = value
                    self._touch(job)
        except TimeoutError:
            alive = False
            error = ("timeout", f"It took longer than {self.limits.seconds:g} seconds, and was given up.")
        except (EOFError, OSError):
            alive = False
            error = ("crash", f"The process that read this file died ({worker.how_it_ended()}).")
        job.media.unlink(missing_ok=True)
        with self._changed:
            if job.id in self._jobs:
                job.state, job.error, job.summary = ("done" if error is None else "failed"), error, summary
                job.progress, job.ended = (1.0 if error is None else job.progress), time.time()
                self._touch(job)
        if job.id not in self._jobs:
            shutil.rmtree(job.folder, ignore_errors=True)
        return alive

    def _gone(self, job: Job) -> Callable[[], bool]:
        return lambda: self._stopping or job.id not in self._jobs

    def _forget(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                self._changed.wait(timeout=min(5.0, max(0.2, self.limits.keep / 4)))
                now = time.time()
                over = [job.id for job in self._jobs.values() if job.ended and now - job.ended > self.limits.keep]
            for number in over:
                self.remove(number)


class _Worker:
    """A process that inspects; see `_work`."""

    def __init__(self, options: InspectorOptions) -> None:
        # "spawn": a fork would copy our threads' locks in whatever state they are.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, options), daemon=True)
        self.process.start()
        theirs.close()  # so that its death closes the pipe
        self._ready = False

    def wait_until_ready(self, gone: Callable[[], bool]) -> None:
        """Wait until its packs are loaded.

        Raises:
            EOFError, OSError: it died.
            TimeoutError: it took too long, or nobody waits any more.
        """
        deadline = time.monotonic() + _STARTING
        while not self._ready:
            if gone() or time.monotonic() > deadline:
                raise TimeoutError
            if self.pipe.poll(0.2):
                self.pipe.recv()
                self._ready = True

    def how_it_ended(self) -> str:
        """The signal or exit code of a process that died."""
        self.process.join(timeout=5)
        code = self.process.exitcode
        if code is not None and code < 0:
            with suppress(ValueError):
                return signal.Signals(-code).name
        return f"exit code {code}"

    def end(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _work(pipe: Connection, options: InspectorOptions) -> None:
    """A worker's life: load the packs, say so, then one file after the other, with report and page into its folder."""
    import cv2

    from unmask.evidence.html import page_text
    from unmask.evidence.likelihood import heading, refusal_word
    from unmask.inspection.inspector import Inspector, examine_safely
    from unmask.media.sources import Source

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)  # the processes share the cores already
    threading.Thread(target=follow_parent, daemon=True).start()
    inspector = Inspector(**asdict(options))
    pipe.send(None)
    while True:
        try:
            name, folder = pipe.recv()
        except EOFError:
            return
        said = [0.0]

        def tell(share: float, said: list[float] = said) -> None:
            if share - said[0] >= 0.02:
                said[0] = share
                pipe.send(("progress", round(share, 3)))

        done = examine_safely(inspector, Source(name, folder / "media", is_copy=True), pictures=True, progress=tell)
        report = done.report
        (folder / "report.json").write_text(report.model_dump_json(), encoding="utf-8")
        for file, paper in (("report.html", False), ("paper.html", True)):
            title = "Was this face forged?"
            text = page_text(
                report, done.pictures, done.strips, inspector.cards, whole=done.whole, title=title, paper=paper
            )
            (folder / file).write_text(text, encoding="utf-8")
        words = (
            f"Cannot be judged ({refusal_word(report.refusal.code)})"
            if report.refusal is not None
            else heading(report.log10_lr or 0.0)
        )
        why = report.refusal or report.inconclusive
        summary = {
            "verdict": report.verdict.value,
            "heading": words,
            "log10_lr": report.log10_lr,
            "support": report.support,
            "faces": len(report.faces),
            "reason": None if why is None else why.message,
        }
        pipe.send(("done", summary))
        del done, report, text
