"""Many files, several processes: results in the order of the input, bounded memory, and a crash that costs one file.

Decoders are large native libraries that meet hostile files. Each file is therefore inspected in a worker process that
holds one file at a time: if the process dies, it is known which file did it, and a new worker goes on with the rest.
"""

import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import cv2

from unmask.errors import RefusalCode, Refused, UnmaskError
from unmask.inspection.inspector import Inspection, Inspector, TakenIn, examine_safely, take_in_source
from unmask.inspection.options import InspectorOptions
from unmask.media.intake import MediaFile
from unmask.media.sources import RefusedSource, Source
from unmask.parallel import follow_parent

# Finished reports per worker that may wait for a slow file before them.
_WINDOW = 32


@dataclass
class _Task:
    """A file in a worker's hands; `media` is what is known of it, once it was taken in."""

    number: int
    item: Source | TakenIn
    media: MediaFile | None = None

    @property
    def source(self) -> Source:
        return self.item.source if isinstance(self.item, TakenIn) else self.item


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    ready: bool = False
    task: _Task | None = None


@dataclass
class Batch:
    """How to inspect many files: as `inspector` would, in `jobs` >= 1 worker processes.

    `pictures` as in `Inspector.examine`.
    """

    inspector: Inspector
    jobs: int = 1
    pictures: bool = False
    _workers: list[_Worker] = field(default_factory=list)

    def run(self, sources: Iterable[Source | TakenIn | RefusedSource | None]) -> Generator[Inspection, None, None]:
        """Inspect the sources, which are read no further ahead than needed. Close the iterator to end the workers.

        Args:
            sources: items of `media.sources.walk`; what was taken in before is not read and hashed again. None means
                that there is nothing just now (`media.sources.watch`).

        Raises:
            UnmaskError: a worker cannot start.
        """
        remaining = iter(sources)
        waiting: deque[_Task] = deque()
        finished: dict[int, Inspection] = {}
        taken = given = 0
        more = True
        try:
            while True:
                while more and len(waiting) < self.jobs and taken - given < _WINDOW * self.jobs:
                    try:
                        source = next(remaining)
                    except StopIteration:
                        more = False
                        break
                    if source is None:
                        break
                    number, taken = taken, taken + 1
                    if isinstance(source, RefusedSource):
                        finished[number] = Inspection(self.inspector.refuse(source, source.refusal))
                    elif isinstance(source, TakenIn) and isinstance(source.media, Refused):
                        finished[number] = self.inspector.examine_taken_in(source)
                    else:
                        waiting.append(_Task(number, source))
                self._hand_out(waiting)
                while given in finished:
                    yield finished.pop(given)
                    given += 1
                if not more and given == taken:
                    return
                if self._workers and (waiting or any(worker.task for worker in self._workers)):
                    self._collect(finished)
        finally:
            self._end()

    def _hand_out(self, waiting: deque[_Task]) -> None:
        idle = [worker for worker in self._workers if worker.ready and worker.task is None]
        for worker in idle:
            if not waiting:
                break
            try:
                worker.pipe.send((waiting[0].item, self.pictures))
            except OSError:  # it died while it had nothing to do; that is no file's fault
                self._drop(worker)
                continue
            worker.task = waiting.popleft()
        starting = sum(not worker.ready for worker in self._workers)
        while len(waiting) > starting and len(self._workers) < self.jobs:
            self._workers.append(_start(self.inspector.options))
            starting += 1

    def _collect(self, finished: dict[int, Inspection]) -> None:
        """Wait for at least one worker to say something, or to die."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(by_pipe)):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                answer = worker.pipe.recv()
            except (EOFError, OSError):
                exit_code = self._drop(worker)
                if not worker.ready:
                    raise UnmaskError(f"a worker process could not start (exit code {exit_code})") from None
                if task := worker.task:
                    media = task.media or take_in_source(task.source).media
                    known = media if isinstance(media, MediaFile) else None
                    finished[task.number] = Inspection(self.inspector.refuse(task.source, _crash(exit_code), known))
                continue
            if worker.task is None:
                worker.ready = True
            elif isinstance(answer, MediaFile):
                worker.task.media = answer
            else:
                finished[worker.task.number] = answer
                worker.task = None

    def _drop(self, worker: _Worker) -> int | None:
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join(timeout=5)
        return worker.process.exitcode

    def _end(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(timeout=2)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self._workers.clear()


def _crash(exit_code: int | None) -> Refused:
    reason = f"exit code {exit_code}"
    if exit_code is not None and exit_code < 0:
        with suppress(ValueError):
            reason = signal.Signals(-exit_code).name
    return Refused(RefusalCode.CORRUPT, f"The process that read this file died ({reason}).")


def _start(options: InspectorOptions) -> _Worker:
    # "spawn": a fork would copy our threads' locks in whatever state they are.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, options), name="unmask worker", daemon=True)
    with _interrupt_blocked():
        process.start()
    theirs.close()  # so that the death of the worker closes the pipe
    return _Worker(process, ours)


@contextmanager
def _interrupt_blocked() -> Iterator[None]:
    """Ctrl-C goes to the whole process group; a worker inherits this block, and its parent ends it in good order."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, options: InspectorOptions) -> None:
    """A worker's life: load the packs, say so, then one file after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow_parent, daemon=True).start()
    cv2.setNumThreads(1)  # the processes share the cores already
    inspector = Inspector(**asdict(options))
    pipe.send(None)

    def announce(media: MediaFile) -> None:
        # Should the file be the end of this process, its report can still say which file it was.
        pipe.send(replace(media, data=None))

    while True:
        try:
            item, pictures = pipe.recv()
        except EOFError:
            return
        pipe.send(examine_safely(inspector, item, on_media=announce, pictures=pictures))
