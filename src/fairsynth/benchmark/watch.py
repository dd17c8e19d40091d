"""How a run is shown while it goes on: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

    from fairsynth.benchmark.cells import Cell

#: Seconds between two lines where there is no terminal.
SAY_EVERY = 15.0
#: Ended cells that stay in sight.
KEPT = 6


class Board:
    """Draws the state of a run.

    Parameters
    ----------
    console : rich.console.Console
        Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._total = self._done = self._failed = 0
        self._running: dict[str, tuple[Cell, Path, float]] = {}
        self._last: list[tuple[str, str, float]] = []
        self._left: float | None = None
        self._began = time.monotonic()
        self._next = 0.0

    def __enter__(self) -> Board:
        """Begin to draw, if this is a terminal."""
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Clear the table."""
        if self._live is not None:
            self._live.__exit__(None, None, None)

    def begin(self, total: int, done: int, failed: int) -> None:
        """Note how many cells there are, and how many were there before."""
        self._total, self._done, self._failed = total, done, failed
        self._next = time.monotonic() + SAY_EVERY

    def started(self, cell: Cell, desk: Path) -> None:
        """Show a cell at work."""
        self._running[cell.key] = (cell, desk, time.monotonic())

    def ended(self, cell: Cell, status: str, reason: str | None, seconds: float) -> None:
        """Show what became of a cell."""
        self._running.pop(cell.key, None)
        self._done += 1
        word = "done" if status == "done" else f"failed: {(reason or '').splitlines()[0] if reason else ''}"
        self._failed += status != "done"
        self._last = [*self._last, (cell.title, word, seconds)][-KEPT:]
        if status != "done" and self._live is None:
            self._print(f"{cell.title}: {word}")

    def look(self, left: float | None) -> None:
        """Draw anew."""
        self._left = left
        if self._live is not None:
            self._live.update(self._table())
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + SAY_EVERY
            self._print(self._line())

    def _line(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        left = f", about {clock(self._left)} left" if self._left is not None else ""
        return f"{self._done} of {self._total} cells{failed}, {clock(time.monotonic() - self._began)} so far{left}"

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Group:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=False, expand=True)
        table.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
        table.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right", no_wrap=True)
        for title, word, seconds in self._last:
            style = "red" if word != "done" else "dim"
            table.add_row(Text(title, style), Text(word, style), Text(clock(seconds), "dim"))
        now = time.monotonic()
        for cell, desk, began in self._running.values():
            table.add_row(Text(cell.title, "bold"), Text(stage_of(desk), "cyan"), Text(clock(now - began)))
        bar = ProgressBar(total=max(self._total, 1), completed=self._done)
        return Group(table, bar, Text(self._line()))


def stage_of(desk: Path) -> str:
    """Return what a cell says that it is doing."""
    try:
        return (desk / "stage").read_text(encoding="utf-8")[:40]
    except (OSError, UnicodeDecodeError):
        return "start"


def clock(seconds: float) -> str:
    """Return seconds as a person says them: ``7 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def board(*, quiet: bool = False) -> Iterator[Board | None]:
    """Lend a board on standard error; None with `quiet`."""
    if quiet:
        yield None
        return
    from rich.console import Console

    with Board(Console(stderr=True)) as shown:
        yield shown
