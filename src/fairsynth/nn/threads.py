"""How many threads PyTorch uses, for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

_lock = Lock()
#: What the open blocks asked for, in the order in which they were entered, and what was set before them.
_open: dict[object, int] = {}
_before = 0


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` threads inside one operation, and put back what was set before.

    The networks here are small: one thread is as fast as two on two idle cores, and many times
    faster when another process keeps a core busy, because threads that wait for each other spin.

    Blocks may end in another order than they began, as those of two iterators that are read in
    turn: the last to end puts back what was set before the first.
    """
    global _before
    key = object()
    with _lock:
        if not _open:
            _before = torch.get_num_threads()
        _open[key] = count
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with _lock:
            del _open[key]
            torch.set_num_threads(list(_open.values())[-1] if _open else _before)
