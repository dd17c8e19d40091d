"""Work on several cores comes in order, runs only a little ahead, and ends with whoever takes it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped]

from fairsynth.cores import cores, in_order, one_blas_thread, side_by_side


def test_there_is_a_core() -> None:
    assert cores() >= 1


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    def slow_at_first(item: int) -> int:
        time.sleep(0.02 if item < 2 else 0.0)
        return item * item

    assert list(in_order(slow_at_first, range(20), workers)) == [n * n for n in range(20)]
    assert side_by_side(slow_at_first, range(20), workers) == [n * n for n in range(20)]


def test_no_more_is_begun_than_a_few_ahead() -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def note(item: int) -> int:
        with lock:
            begun.append(item)
        return item

    results = in_order(note, range(1000), 2)
    for expected in range(5):
        assert next(results) == expected
    assert len(begun) <= 5 + 2 * 2 + 1
    results.close()
    assert len(begun) < 20  # what had not begun never does


def test_an_error_is_told_where_its_item_stands() -> None:
    def fails(item: int) -> int:
        if item == 3:
            raise ValueError("the third")
        return item

    seen = []
    with pytest.raises(ValueError, match="the third"):
        for result in in_order(fails, range(100), 2):
            seen.append(result)
    assert seen == [0, 1, 2]


def test_blocks_of_one_thread_may_end_in_another_order_than_they_began() -> None:
    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    np.ones((2, 2)) @ np.ones((2, 2))  # the library is loaded
    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        assert before and set(before) == {2}
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        assert set(threads()) == {1}
        first.__exit__(None, None, None)
        assert set(threads()) == {1}, "the other one is still open"
        second.__exit__(None, None, None)
        assert threads() == before
        with pytest.raises(ValueError, match="mine"), one_blas_thread():
            raise ValueError("mine")
        assert threads() == before
