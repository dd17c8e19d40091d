"""What runs cells: the contract of engines, and the one for this machine."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from fairsynth.errors import FairsynthError, SettingsError

#: What libraries read to know how many threads they may start.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass(frozen=True)
class Task:
    """A cell on its way to an engine.

    Attributes
    ----------
    id : str
        Key of the cell.
    request : dict
        Of `fairsynth.benchmark.worker.request`.
    desk : Path
        Where its files are to be when it has ended.
    limits : dict
        As of `fairsynth.benchmark.plan.Limits`.
    """

    id: str
    request: dict[str, Any]
    desk: Path
    limits: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """A cell that has ended; its files lie on its desk, if it came so far.

    Attributes
    ----------
    id : str
        Key of the cell.
    exit : int
        Status of its process; the negative number of the signal that ended it.
    cause : {"time", "memory", "stopped", "lost"} or None
        Why it was ended, if it was: a limit, our own wish, or a machine that is gone.
    seconds, cpu_seconds, memory_mb : float
        Wall clock and processor time of the process, and its largest resident memory in 10⁶ bytes.
    """

    id: str
    exit: int
    cause: str | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_mb: float = 0.0
    place: str = field(default="")


class Engine(Protocol):
    """Runs cells, several at a time; used from one thread."""

    def free(self, limits: dict[str, Any]) -> bool:
        """Say whether one more cell with these limits can be started now."""

    def start(self, task: Task) -> None:
        """Start a cell; returns at once."""

    def wait(self, seconds: float) -> list[Ended]:
        """Return the cells that have ended, after at most this time."""

    def close(self) -> None:
        """End all that runs."""


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a process that may start so many threads, and finds the modules that this one finds."""
    found = dict(os.environ)
    found |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    found["PYTHONPATH"] = os.pathsep.join(place for place in sys.path if place)
    return found


class LocalEngine:
    """Runs cells on this machine, each in a process of its own.

    Parameters
    ----------
    jobs : int
        Cells at a time.
    threads : int
        Threads of each.

    Raises
    ------
    SettingsError
        If the system cannot fork processes.
    """

    def __init__(self, jobs: int, threads: int) -> None:
        if not hasattr(os, "fork"):
            raise SettingsError(
                "the local engine needs a system that can fork processes (Linux, macOS, WSL); "
                "elsewhere use --engine ray with a cluster."
            )
        self._jobs, self._running = jobs, 0
        self._buffer = b""
        self._ready = False
        # A session of its own: Ctrl-C at the terminal is for the run, which then ends the server.
        self._server = subprocess.Popen(
            [sys.executable, "-P", "-m", "fairsynth.benchmark.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(threads),
            start_new_session=True,
        )
        assert self._server.stdin is not None and self._server.stdout is not None
        self._commands, self._answers = self._server.stdin, self._server.stdout

    def free(self, limits: dict[str, Any]) -> bool:
        """Say whether one more cell can be started now."""
        if limits.get("memory_gb") is not None:
            _can_weigh()
        return self._running < self._jobs

    def start(self, task: Task) -> None:
        """Start a cell; it waits in the pipe until the server is ready."""
        body = {
            "id": task.id,
            "request": task.request,
            "desk": str(task.desk),
            "seconds": task.limits.get("seconds"),
            "memory_gb": task.limits.get("memory_gb"),
        }
        self._tell({"run": body})
        self._running += 1

    def wait(self, seconds: float) -> list[Ended]:
        """Return the cells that have ended, after at most this time.

        Raises
        ------
        FairsynthError
            If the server of the processes is gone.
        """
        readable, _, _ = select.select([self._answers], [], [], seconds)
        if not readable:
            return []
        chunk = os.read(self._answers.fileno(), 1 << 16)
        if not chunk:
            raise FairsynthError(
                f"the process that cells are forked from ended with status {self._server.wait()}. Run the same "
                "command again: it goes on from here."
            )
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        ended = [Ended(**answer["ended"]) for answer in map(json.loads, lines) if "ended" in answer]
        self._running -= len(ended)
        return ended

    def close(self) -> None:
        """End all cells and the server."""
        with suppress(OSError):
            self._commands.close()  # it kills its cells when nothing can come any more
        try:
            self._server.wait(10)
        except subprocess.TimeoutExpired:
            self._server.send_signal(signal.SIGKILL)
            self._server.wait()
        self._answers.close()

    def _tell(self, command: dict[str, Any]) -> None:
        try:
            self._commands.write(json.dumps(command).encode() + b"\n")
            self._commands.flush()
        except BrokenPipeError:
            raise FairsynthError(
                "the process that cells are forked from is gone. Run the same command again: it goes on from here."
            ) from None


def _can_weigh() -> None:
    if sys.platform != "linux" and find_spec("psutil") is None:
        raise SettingsError("memory_gb cannot be watched on this system without psutil: pip install psutil")
