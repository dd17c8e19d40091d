"""The process that the processes of cells are forked from: what they all import is imported once.

A cell has a process of its own, so that it can be ended, and can take no other cell with it. A new Python that imports
PyTorch, scikit-learn and the others takes seconds; a fork of one that has them takes a hundredth of one. Polars is the
exception: it starts threads when it is imported, and a fork of a process with threads may stand still, so each cell
imports it, and what of fairsynth needs it, for itself.

The server speaks JSON lines: ``{"run": {...}}``, ``{"kill": ID}`` on standard input; ``{"ready": true}``,
``{"ended": {...}}`` on standard output. When standard input ends, be it that the run was killed, it kills all cells and
ends.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

#: Imported once for all cells; without Polars, see above.
PRELOADED = (
    "numpy",
    "pandas",
    "pyarrow.parquet",
    "pydantic",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.neighbors",
    "scipy.stats",
    "scipy.special",
    "scipy.spatial",
    "fairlearn.metrics",
    "fairlearn.reductions",
    "torch",
    "plotly.graph_objects",
    "jinja2",
    "threadpoolctl",
    "fairsynth._lightgbm",
)
#: Seconds between two looks at the cells.
LOOK_EVERY = 0.02
#: Seconds between two looks at their memory.
WEIGH_EVERY = 0.1
#: Exit status of a cell whose process ran to its end.
DONE = 0
_PR_SET_PDEATHSIG = 1


@dataclass
class _Running:
    id: str
    pid: int
    began: float
    seconds: float | None
    memory: float | None
    cause: str | None = None
    peak: float = 0.0
    weighed: float = 0.0


class Server:
    """Forks, watches and reaps cells.

    Parameters
    ----------
    work : callable
        Runs one cell in the forked process: (request, folder) → None.
    commands, answers : int
        File descriptors that are read from and written to.
    """

    def __init__(self, work: Callable[[dict[str, Any], Path], None], commands: int, answers: int) -> None:
        self._work, self._commands, self._answers = work, commands, answers
        self._running: dict[str, _Running] = {}
        self._buffer = b""

    def serve(self) -> None:
        """Answer commands until there are no more."""
        self._say({"ready": True, "pid": os.getpid()})
        while True:
            wait = LOOK_EVERY if self._running else None
            readable, _, _ = select.select([self._commands], [], [], wait)
            if readable and not self._listen():
                self._end_all()
                return
            self._look()

    def _listen(self) -> bool:
        chunk = os.read(self._commands, 1 << 16)
        if not chunk:
            return False
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            command = json.loads(line)
            if "run" in command:
                self._start(command["run"])
            elif command.get("kill") in self._running:
                self._kill(self._running[command["kill"]], "stopped")
        return True

    def _start(self, task: dict[str, Any]) -> None:
        pid = os.fork()
        if pid == 0:
            self._become(task)
        memory = task.get("memory_gb")
        self._running[task["id"]] = _Running(
            task["id"], pid, time.monotonic(), task.get("seconds"), None if memory is None else memory * 1e9
        )

    def _become(self, task: dict[str, Any]) -> NoReturn:
        """Be the cell: nothing that happens in here may come back to the server's loop."""
        status = 1
        try:
            os.setsid()  # so that it can be killed with all that it starts
            _die_with_parent()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.close(self._commands)
            os.close(self._answers)
            desk = Path(task["desk"])
            log = os.open(desk / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(log, 1)
            os.dup2(log, 2)
            self._work(task["request"], desk)
            sys.stdout.flush()
            sys.stderr.flush()
            status = DONE
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def _look(self) -> None:
        now = time.monotonic()
        for cell in list(self._running.values()):
            pid, status, usage = os.wait4(cell.pid, os.WNOHANG)
            if pid:
                self._reap(cell, status, usage, now)
            elif cell.cause is None:
                self._weigh(cell, now)

    def _weigh(self, cell: _Running, now: float) -> None:
        if cell.seconds is not None and now - cell.began > cell.seconds:
            self._kill(cell, "time")
        elif cell.memory is not None and now - cell.weighed > WEIGH_EVERY:
            cell.weighed = now
            cell.peak = max(cell.peak, resident(cell.pid))
            if cell.peak > cell.memory:
                self._kill(cell, "memory")

    def _reap(self, cell: _Running, status: int, usage: Any, now: float) -> None:
        del self._running[cell.id]
        # What the cell has started goes with it.
        with suppress(OSError):
            os.killpg(cell.pid, signal.SIGKILL)
        # Kilobytes on Linux, bytes on macOS.
        own = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        cause = cell.cause
        if cause is None and cell.memory is not None and own > cell.memory:
            cause = "memory"  # it rose and ended between two looks
        self._say(
            {
                "ended": {
                    "id": cell.id,
                    "exit": os.waitstatus_to_exitcode(status),
                    "cause": cause,
                    "seconds": round(now - cell.began, 3),
                    "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
                    "memory_mb": round(max(cell.peak, own) / 1e6, 1),
                }
            }
        )

    def _kill(self, cell: _Running, cause: str) -> None:
        cell.cause = cause
        # The pid is ours until wait4 has returned it, so it cannot be another process's; the group may not be made yet.
        for kill in (os.killpg, os.kill):
            with suppress(OSError):
                kill(cell.pid, signal.SIGKILL)

    def _end_all(self) -> None:
        for cell in self._running.values():
            self._kill(cell, "stopped")
        for cell in self._running.values():
            with suppress(OSError):
                os.waitpid(cell.pid, 0)

    def _say(self, answer: dict[str, Any]) -> None:
        rest = json.dumps(answer).encode() + b"\n"
        while rest:
            rest = rest[os.write(self._answers, rest) :]


def _die_with_parent() -> None:
    """Ask Linux to kill this process when the server is gone, should that be killed outright."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def resident(pid: int) -> float:
    """Return the resident memory of a process and all that it started, in bytes; the largest that it itself had."""
    if sys.platform != "linux":
        return _resident_psutil(pid)
    total, todo = 0.0, [pid]
    while todo:
        one = todo.pop()
        with suppress(OSError):
            name = b"VmHWM:" if one == pid else b"VmRSS:"
            for line in Path(f"/proc/{one}/status").read_bytes().splitlines():
                if line.startswith(name):
                    total += 1024.0 * int(line.split()[1])
            for thread in os.listdir(f"/proc/{one}/task"):
                children = Path(f"/proc/{one}/task/{thread}/children").read_bytes()
                todo += [int(child) for child in children.split()]
    return total


def _resident_psutil(pid: int) -> float:
    import psutil  # type: ignore[import-untyped,unused-ignore]

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return float(sum(p.memory_info().rss for p in (process, *process.children(recursive=True))))
    return 0.0


def _work(request: dict[str, Any], desk: Path) -> None:
    from fairsynth.benchmark.worker import run_cell

    run_cell(request, desk)


def main() -> None:
    """Serve on standard input and output."""
    commands, answers = os.dup(0), os.dup(1)
    for handle in (commands, answers):
        os.set_inheritable(handle, False)
    # What a library prints while it is imported is no answer.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    for name in PRELOADED:
        with suppress(Exception):  # a cell that needs it says what is wrong with it
            module = importlib.import_module(name)
            if name == "fairsynth._lightgbm":
                module.load()
    Server(_work, commands, answers).serve()


if __name__ == "__main__":
    main()
