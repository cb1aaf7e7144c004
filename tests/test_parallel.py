"""Work spread over processes: in order, and no further ahead than needed."""

import itertools
from collections.abc import Iterator

import pytest

from unmask.parallel import spread

pytestmark = pytest.mark.slow


def begin() -> None:
    pass


def squared(number: int) -> int:
    return number * number


def test_results_come_in_order_from_items_without_end() -> None:
    taken = []

    def counted() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    results = spread(squared, counted(), 2, begin, (), chunk=3)
    assert [next(results) for _ in range(20)] == [number * number for number in range(20)]
    results.close()  # type: ignore[attr-defined]
    assert len(taken) <= 20 + 3 * 4 * 2 + 3


def test_an_error_of_a_process_is_raised_here() -> None:
    with pytest.raises(TypeError):
        list(spread(squared, [1, "two"], 1, begin, ()))  # type: ignore[list-item]
