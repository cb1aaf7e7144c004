"""Seconds spent in each stage of an inspection, and items fetched ahead by a thread."""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_Item = TypeVar("_Item")


class StageClock:
    """Seconds spent in each stage.

    In a video the stages overlap: only the wait for a frame counts as reading, and the sum may exceed the total.

    Args:
        read: seconds that reading had taken before the clock was made; part of the total.
    """

    def __init__(self, read: float = 0.0) -> None:
        self._start = time.perf_counter() - read
        self._spent = dict.fromkeys(("read", "find", "quality", "score"), 0.0) | {"read": read}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of a with block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[name] = self._spent.get(name, 0.0) + time.perf_counter() - start

    def iterate(self, name: str, items: Iterable[_Item]) -> Iterator[_Item]:
        """The items, with the time that each takes to come counted to a stage."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def timings(self) -> dict[str, float]:
        """Seconds by stage and in total, as `Report.timings` has them."""
        total = time.perf_counter() - self._start
        return {name: round(spent, 6) for name, spent in (self._spent | {"total": total}).items()}


def prefetch(items: Iterable[_Item], count: int) -> Generator[_Item, None, None]:
    """The items, none of them None, up to `count` fetched ahead by a thread: a second core can decode meanwhile."""
    iterator = iter(items)
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = deque(pool.submit(next, iterator, None) for _ in range(count))
        try:
            while (item := coming.popleft().result()) is not None:
                coming.append(pool.submit(next, iterator, None))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)
