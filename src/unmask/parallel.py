"""Work spread over processes. Lab only."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import cv2

Item = TypeVar("Item")
Result = TypeVar("Result")


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
        items: each can be pickled, as can the results.
        workers: processes.
        start: called once in each process, with `given`.
        given: what all processes need to know.
        chunk: items that a process takes at a time.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _begin, (start, given))
    try:
        yield from pool.map(work, items, chunksize=chunk)
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(start: Callable[..., None], given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches the process that gave the work, which ends the others
    cv2.setNumThreads(1)
    start(*given)
