"""How long work tells where it is: a stream of steps, and a bar that shows them.

A function that takes long takes ``progress: Progress | None = None`` and calls it with a `Step`
as often as it likes; `bar` draws no more than ten times a second. A callback may raise to stop
the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


@dataclass(frozen=True, slots=True)
class Step:
    """One report of where the work is.

    Attributes
    ----------
    stage : str
        What is being done, in the words of a person: ``"fit teacher"``.
    done, total : int
        How much of the stage is finished, in any unit that runs evenly with time.
    info : mapping of str to float
        Numbers worth watching, such as the loss.
    """

    stage: str
    done: int
    total: int
    info: Mapping[str, float] = field(default_factory=dict)


Progress = Callable[[Step], None]

DRAW_EVERY = 0.1  # seconds between two drawings of a bar
SAY_EVERY = 15.0  # seconds between two lines where there is no terminal


def sub(progress: Progress | None, stage: str, index: int = 0, count: int = 1) -> Progress | None:
    """Report the steps of a part as steps of a whole of `count` equal parts.

    Parameters
    ----------
    progress : callable or None
        Who hears of the whole; None gives None.
    stage : str
        Name of the whole, under which every step of the part is reported.
    index, count : int
        Which part this is, from 0, and how many there are.

    Returns
    -------
    callable or None
        What to hand to the part.

    Examples
    --------
    >>> heard = []
    >>> second_half = sub(heard.append, "evaluate", index=1, count=2)
    >>> second_half(Step("train", 5, 10))
    >>> heard[0].stage, heard[0].done / heard[0].total
    ('evaluate', 0.75)
    """
    if progress is None:
        return None
    listener = progress

    def tell(step: Step) -> None:
        total = max(step.total, 1)
        listener(Step(stage, index * total + min(step.done, total), count * total, step.info))

    return tell


@contextmanager
def bar(*, console: Console | None = None, quiet: bool = False) -> Iterator[Progress]:
    """Show steps on standard error: a bar per stage on a terminal, a line now and then elsewhere.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to draw; by default standard error.
    quiet : bool, default=False
        Show nothing at all.

    Yields
    ------
    callable
        The `Progress` to hand to the work.
    """
    if quiet:
        yield lambda step: None
        return
    from rich.console import Console

    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console)
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("[dim]{task.fields[info]}"),
    )
    with RichProgress(*columns, console=console, refresh_per_second=10, transient=False) as rich:
        yield _Bars(rich)


class _Bars:
    """One Rich task per stage, updated at most every `DRAW_EVERY` seconds."""

    def __init__(self, rich: RichProgress) -> None:
        self._rich = rich
        self._tasks: dict[str, TaskID] = {}
        self._stage: str | None = None
        self._next = 0.0

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if now < self._next and step.stage == self._stage and step.done < step.total:
            return
        self._next = now + DRAW_EVERY
        if step.stage not in self._tasks:
            self._tasks[step.stage] = self._rich.add_task(step.stage, total=step.total, info="")
        self._stage = step.stage
        self._rich.update(
            self._tasks[step.stage], completed=step.done, total=max(step.total, 1), info=_told(step.info)
        )


class _Lines:
    """One line every `SAY_EVERY` seconds, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage: str | None = None
        self._began = 0.0
        self._from = 0
        self._next = 0.0

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if step.stage != self._stage:
            # A resumed stage does not begin at 0: what was done before says nothing about the pace.
            self._stage, self._began, self._from = step.stage, now, step.done
            if not self._next:
                self._next = now + SAY_EVERY
        if now < self._next:
            return
        self._next = now + SAY_EVERY
        run = step.done - self._from
        left = f", {(now - self._began) * (step.total - step.done) / run:.0f} s left" if run > 0 else ""
        told = _told(step.info)
        self._console.print(
            f"{step.stage}: {step.done} of {step.total}{left}{', ' + told if told else ''}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _told(info: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in info.items())
