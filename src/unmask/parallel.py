"""Work spread over processes."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import cv2

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4  # chunks a worker that are given out before their turn: items are taken no further ahead than needed


def spread(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    start: Callable[..., None],
    given: tuple[Any, ...],
    chunk: int = 1,
) -> Iterator[Result]:
    """The results of some work, in the order of the items, made by several processes of one thread each.

    Whoever stops taking, by Ctrl-C say, waits for what is at work and no longer. An error of a process is raised here.

    Args:
        work: a function of a module; so is `start`.
        items: each can be pickled, as can the results; however many, few are held at a time.
        workers: processes.
        start: called once in each process, with `given`.
        given: what all processes need to know.
        chunk: items that a process takes at a time.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _begin, (start, given))
    left = iter(items)
    pending: deque[Future[list[Result]]] = deque()
    try:
        while some := list(islice(left, chunk)):
            pending.append(pool.submit(_several, work, some))
            if len(pending) >= _AHEAD * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _several(work: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [work(item) for item in items]


def _begin(start: Callable[..., None], given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches the process that gave the work, which ends the others
    cv2.setNumThreads(1)
    start(*given)


def follow_parent() -> None:
    """End this process with its parent, even if that was killed and could not say goodbye; for a thread to wait in."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
