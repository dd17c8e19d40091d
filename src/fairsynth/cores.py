"""Work on all cores of a machine: independent fits side by side, blocks drawn ahead.

LightGBM's own threads wait for each other after every split. On a busy machine, two of them were ten
times slower than one (measured on Adult, two cores), so no single fit is spread over threads; several fits
run at once instead, and give the same result for any number of threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone says so
    return max(1, len(affinity(0)) if affinity is not None else os.cpu_count() or 1)


_lock = Lock()
#: How many blocks of `one_blas_thread` are open, and what puts back what was set before the first.
_open = 0
_before: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let products of matrices use one thread for the length of a block, and put back what was set before.

    The matrices here are small: threads of a product take as long to meet as to multiply. Blocks of several threads may
    overlap, and end in another order than they began: the last to end puts back what was set before the first.
    """
    global _open, _before
    with _lock:
        if not _open:
            from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

            _before = threadpool_limits(limits=1, user_api="blas")
        _open += 1
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            if not _open:
                _before.restore_original_limits()


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """Return ``[function(item) for item in items]``, computed by at most `threads` threads.

    The function must leave Python for its long work (LightGBM, NumPy and scikit-learn do).
    """
    listed = list(items)
    if threads <= 1 or len(listed) <= 1:
        return [function(item) for item in listed]
    with ThreadPoolExecutor(max_workers=min(threads, len(listed))) as pool:
        return list(pool.map(function, listed))


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for each of `items`, in their order, computed by `workers` threads a little ahead.

    At most two results a worker and one more wait to be taken, so that memory does not grow with what is to come. Where
    whoever takes them stops, what has not begun is given up.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
