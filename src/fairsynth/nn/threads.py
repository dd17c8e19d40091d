"""How many threads PyTorch uses, for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` threads inside one operation, and put back what was set before.

    The networks here are small: one thread is as fast as two on two idle cores, and many times
    faster when another process keeps a core busy, because threads that wait for each other spin.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
