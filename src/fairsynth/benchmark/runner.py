"""Running a plan: whatever is not there yet is run, however the last run ended."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fairsynth.benchmark.cells import Cell, exceeds, expand
from fairsynth.benchmark.datasets import Digests
from fairsynth.benchmark.engine import Ended, Engine, LocalEngine, Task
from fairsynth.benchmark.locks import Claim
from fairsynth.benchmark.methods import check, code_version
from fairsynth.benchmark.plan import Dataset, Limits, Mistakes, Plan, parse_plan
from fairsynth.benchmark.store import Store
from fairsynth.benchmark.worker import request
from fairsynth.cores import cores
from fairsynth.errors import FairsynthError, SettingsError

#: Seconds between two looks at a cell that another run works on.
OTHERS_EVERY = 1.0
#: Longest wait for an event, so that the table of progress keeps moving.
WAIT = 0.2
#: Causes of failure that may be gone on another day; such cells are tried again by every run.
_PASSING = ("missing", "stopped", "lost")
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Prepared:
    """A plan with its cells.

    Attributes
    ----------
    plan : Plan
        As read.
    identity : str
        Digest of the plan's text, the code and the data.
    cells : list of Cell
        In the order of `fairsynth.benchmark.cells.expand`.
    remarks : list of str
        What was left out, and why.
    """

    plan: Plan
    identity: str
    cells: list[Cell]
    remarks: list[str]


@dataclass
class Summary:
    """What a run did.

    Attributes
    ----------
    folder : Path
        Of the results.
    total : int
        Cells of the plan; several that are the same count once.
    ran, failed, reused : int
        Cells that this run ran to a result, those of them that failed, and those that were there already (or came from
        another run at the same time).
    seconds : float
        Wall clock.
    failures : list of (str, str)
        Title and reason of every cell of the plan that failed, in this run or before.
    remarks : list of str
        What was left out of the plan, and why.
    """

    folder: Path
    total: int = 0
    ran: int = 0
    failed: int = 0
    reused: int = 0
    seconds: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class Watcher(Protocol):
    """Is told how a run goes on."""

    def begin(self, total: int, done: int, failed: int) -> None:
        """Hear that a run begins: so many cells in all, so many there already."""

    def started(self, cell: Cell, desk: Path) -> None:
        """Hear that a cell was started."""

    def ended(self, cell: Cell, status: str, reason: str | None, seconds: float) -> None:
        """Hear that a cell has ended."""

    def look(self, left: float | None) -> None:
        """Hear that time has passed; `left` is about how many seconds are left."""


def prepare(path: Path, store: Store) -> Prepared:
    """Read and check a plan, and lay out its cells.

    A plan that was run here before with the same data and code is known with its cells; nothing heavy is then imported.

    Raises
    ------
    SettingsError, DataError
        If the plan or its data sets cannot be used.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: no UTF-8 text: {error.reason} at byte {error.start}.") from error
    plan = parse_plan(text, path)
    names = tuple(sorted({m.name for m in plan.models} | set(plan.metrics)))
    code = code_version(names)
    digests = Digests(store.folder / "datasets.json", code_version())
    known = {d.name: digests.known(d) for d in plan.datasets}
    if None not in known.values():
        identity = _identity(plan, code, known)
        kept = store.plan(identity)
        if kept is not None:
            return Prepared(plan, identity, [Cell.from_dict(c) for c in kept["cells"]], kept["remarks"])
    methods = check(plan, text, path)
    data, mistakes = {}, Mistakes(text, path)
    for i, dataset in enumerate(plan.datasets):
        try:
            data[dataset.name] = digests.of(dataset)
        except FairsynthError as error:
            mistakes.add(("datasets", i), str(error).rstrip("."))
    mistakes.tell()
    cells, remarks = expand(plan, methods, data)
    return Prepared(plan, _identity(plan, code, data), cells, remarks)


def _identity(plan: Plan, code: str, data: dict[str, Any]) -> str:
    body = [plan.model_dump(mode="json"), code, data]
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]


def run_plan(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    engine: str | Engine = "local",
    address: str | None = None,
    jobs: int | None = None,
    retry: bool = False,
    watcher: Watcher | None = None,
    on_result: Callable[[Cell, dict[str, Any]], None] | None = None,
) -> Summary:
    """Run the cells of a plan that have no result yet.

    Parameters
    ----------
    path : path
        The plan.
    folder : path
        Where results are; see `fairsynth.benchmark.store`. Several runs may work in one folder at the same time.
    engine : {"local", "ray"} or Engine, default="local"
        What runs the cells.
    address : str, optional
        Of a Ray cluster; by default the one of this machine, or a new one.
    jobs : int, optional
        Cells at a time; by default as many as there are cores. Each gets cores / jobs threads.
    retry : bool, default=False
        Also run the cells again that failed.
    watcher : Watcher, optional
        Is told how it goes on.
    on_result : callable, optional
        Called with every cell that this run brought to a result, and its body.

    Returns
    -------
    Summary

    Raises
    ------
    SettingsError, DataError
        If the plan, its data or the engine cannot be used. A cell that fails raises nothing.
    """
    began = time.monotonic()
    store = Store(folder)
    jobs = jobs if jobs is not None else cores()
    if jobs < 1:
        raise SettingsError(f"jobs={jobs!r} must be at least 1.")
    threads = max(1, cores() // jobs)
    if isinstance(engine, str) and engine not in ENGINES:
        raise SettingsError(f"engine={engine!r} is not known; choose {' or '.join(ENGINES)}.")
    prepared = prepare(Path(path), store)
    store.make()
    store.tidy()
    store.keep_plan(
        prepared.identity,
        {
            "name": prepared.plan.name,
            "plan": prepared.plan.model_dump(mode="json"),
            "cells": [cell.to_dict() for cell in prepared.cells],
            "remarks": prepared.remarks,
        },
        Path(path).read_text(encoding="utf-8"),
    )
    run = _Run(store, prepared, threads, retry, watcher, on_result)
    if run.pending:
        chosen = engine if not isinstance(engine, str) else _engine(engine, address, jobs, threads, prepared)
        try:
            run.work(chosen)
        finally:
            # In this order: a cell is nobody's only when its process is gone.
            try:
                chosen.close()
            finally:
                run.let_go()
    run.summary.seconds = time.monotonic() - began
    return run.summary


def _engine(name: str, address: str | None, jobs: int, threads: int, prepared: Prepared) -> Engine:
    if name == "local":
        if address is not None:
            raise SettingsError("address is that of a Ray cluster; give engine ray, or leave it out.")
        return LocalEngine(jobs, threads)
    from fairsynth.benchmark.engine_ray import RayEngine

    return RayEngine(address, threads=threads, datasets=prepared.plan.datasets)


class _Run:
    """The state of one run."""

    def __init__(
        self,
        store: Store,
        prepared: Prepared,
        threads: int,
        retry: bool,
        watcher: Watcher | None,
        on_result: Callable[[Cell, dict[str, Any]], None] | None,
    ) -> None:
        self.store, self.threads, self.retry = store, threads, retry
        self.watcher, self.on_result = watcher, on_result
        self.datasets: dict[str, Dataset] = {d.name: d for d in prepared.plan.datasets}
        self.report = prepared.plan.reports
        cells = {cell.key: cell for cell in reversed(prepared.cells)}
        self.cells = dict(reversed(cells.items()))
        self.summary = Summary(store.folder, total=len(self.cells), remarks=prepared.remarks)
        self.pending: deque[str] = deque()
        #: Cells that another run works on, and when to look again.
        self.elsewhere: dict[str, float] = {}
        self.running: dict[str, tuple[Claim, Path, float]] = {}
        self.pace = _Pace()
        for key, cell in self.cells.items():
            body = store.result(key)
            if body is None or self._again(cell, body):
                self.pending.append(key)
            else:
                self._count_in(cell, body)
        if watcher is not None:
            watcher.begin(self.summary.total, self.summary.reused, len(self.summary.failures))

    def _again(self, cell: Cell, body: dict[str, Any]) -> bool:
        if body["status"] == "done":
            return False
        cause = body.get("cause")
        if self.retry or cause in _PASSING:
            return True
        return cause in ("time", "memory") and exceeds(Limits(**cell.limits), body.get("limits", {}), cause)

    def _count_in(self, cell: Cell, body: dict[str, Any]) -> None:
        """Count a result that this run did not make."""
        self.summary.reused += 1
        self.pace.learn(cell, body.get("seconds", {}).get("total"))
        if body["status"] != "done":
            self.summary.failures.append((cell.title, body.get("reason", "")))

    def work(self, engine: Engine) -> None:
        """Keep the engine busy until every cell has a result."""
        while self.pending or self.running or self.elsewhere:
            self._fill(engine)
            for ended in engine.wait(WAIT):
                self._settle(ended)
            self._ask_others()
            if self.watcher is not None:
                self.watcher.look(
                    self.pace.left(self._waiting(), self.running_cells(), max(len(self.running), 1))
                )

    def running_cells(self) -> list[tuple[Cell, float]]:
        """Return the cells at work, with the seconds since each began."""
        now = time.monotonic()
        return [(self.cells[key], now - began) for key, (_, _, began) in self.running.items()]

    def _waiting(self) -> list[Cell]:
        return [self.cells[key] for key in self.pending]

    def _fill(self, engine: Engine) -> None:
        while self.pending:
            key = self._next()
            cell = self.cells[key]
            if not engine.free(cell.limits):
                return
            self.pending.remove(key)
            claim = self.store.claim(key)
            if claim is None:
                self.elsewhere[key] = time.monotonic() + OTHERS_EVERY
                continue
            body = self.store.result(key)
            if body is not None and not self._again(cell, body):
                claim.release()  # another run has brought it to an end since we looked
                self._count_in(cell, body)
                self._tell(cell, body)
                continue
            self._start(engine, cell, claim)

    def _start(self, engine: Engine, cell: Cell, claim: Claim) -> None:
        try:
            desk = self.store.desk(cell.key)
            journal = None
            if cell.search is not None:
                journal = self.store.folder / "searches" / f"{cell.key}.jsonl"
                journal.parent.mkdir(exist_ok=True)
            asked = request(
                cell, self.datasets[cell.dataset], threads=self.threads, report=self.report, journal=journal
            )
            engine.start(Task(cell.key, asked, desk, cell.limits))
        except BaseException:
            claim.release()
            raise
        self.running[cell.key] = (claim, desk, time.monotonic())
        if self.watcher is not None:
            self.watcher.started(cell, desk)

    def _next(self) -> str:
        """Choose what to start: whole seeds first; in a seed what takes longest, which is not to be waited for last."""
        first = self.cells[self.pending[0]].seed
        same = []
        for key in self.pending:
            if self.cells[key].seed != first:
                break
            same.append(key)
        return max(same, key=lambda key: self.pace.expected(self.cells[key]) or 0.0)

    def _settle(self, ended: Ended) -> None:
        claim, desk, _ = self.running.pop(ended.id)
        cell = self.cells[ended.id]
        try:
            body = outcome(ended, desk, cell)
            self.store.keep(cell.key, body, desk)
        finally:
            shutil.rmtree(desk, ignore_errors=True)
            claim.release()
        self.summary.ran += 1
        self.pace.learn(cell, ended.seconds)
        if body["status"] != "done":
            self.summary.failed += 1
            self.summary.failures.append((cell.title, body["reason"]))
        self._tell(cell, body)
        if self.on_result is not None:
            self.on_result(cell, body)

    def _tell(self, cell: Cell, body: dict[str, Any]) -> None:
        if self.watcher is not None:
            seconds = body.get("seconds", {}).get("total", 0.0)
            self.watcher.ended(cell, body["status"], body.get("reason"), seconds)

    def _ask_others(self) -> None:
        """Take back the cells of other runs that are to be looked at again; `_fill` finds out what became of them."""
        now = time.monotonic()
        due = [key for key, when in self.elsewhere.items() if when <= now]
        for key in due:
            del self.elsewhere[key]
        self.pending.extend(due)

    def let_go(self) -> None:
        """Give back what is still claimed."""
        for claim, _, _ in self.running.values():
            claim.release()
        self.running.clear()


def outcome(ended: Ended, desk: Path, cell: Cell) -> dict[str, Any]:
    """Return the body of a cell's result file: what its process wrote, or why there is nothing.

    Parameters
    ----------
    ended : Ended
        What became of the process.
    desk : Path
        Where it wrote.
    cell : Cell
        What was run.
    """
    seconds, memory = cell.limits.get("seconds"), cell.limits.get("memory_gb")
    body: dict[str, Any] | None = None
    if ended.cause is None and ended.exit == 0:
        try:
            body = json.loads((desk / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            body = None
    if body is None:
        reasons = {
            "time": f"took longer than {seconds:g} s" if seconds is not None else "took too long",
            "memory": f"needed {ended.memory_mb / 1000:.2f} GB, and {memory:g} GB are allowed"
            if memory
            else "",
            "stopped": "was stopped",
            "lost": "the machine that it ran on is gone",
        }
        ends = f"its process was ended by signal {-ended.exit}" if ended.exit < 0 else (
            f"its process ended with status {ended.exit}"
        )  # fmt: skip
        reason = reasons.get(ended.cause or "", "") or ends
        said = _last_lines(desk / "log.txt") if ended.cause is None else ""
        body = {
            "status": "failed",
            "reason": f"{reason}{': ' + said if said else ''}",
            "cause": ended.cause or "signal",
            "seconds": {"total": ended.seconds},
            "scores": [],
        }
    body["cell"] = cell.to_dict()
    body["limits"] = cell.limits
    body["process_seconds"] = ended.seconds
    body["cpu_seconds"] = ended.cpu_seconds
    body["memory_mb"] = ended.memory_mb
    body["place"] = ended.place
    body["when"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return body


def _last_lines(path: Path, most: int = 300) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return " ".join(text[-most:].split())


class _Pace:
    """How long cells take, learned from those that have ended."""

    def __init__(self) -> None:
        self._by: dict[tuple[str, ...], list[float]] = {}

    def learn(self, cell: Cell, seconds: float | None) -> None:
        """Note how long a cell took."""
        if seconds is not None:
            for name in self._names(cell):
                self._by.setdefault(name, []).append(seconds)

    def expected(self, cell: Cell) -> float | None:
        """Return the mean of the cells most like this one, in seconds; None before any has ended."""
        for name in self._names(cell):
            if name in self._by:
                found = self._by[name]
                return sum(found) / len(found)
        return None

    def left(self, waiting: list[Cell], running: list[tuple[Cell, float]], jobs: int) -> float | None:
        """Return about how many seconds are left, or None before any cell has ended."""
        if () not in self._by:
            return None
        rest = [max((self.expected(cell) or 0.0) - since, 0.0) for cell, since in running]
        total = sum(rest) + sum(self.expected(cell) or 0.0 for cell in waiting)
        return max([total / jobs, *rest])

    @staticmethod
    def _names(cell: Cell) -> list[tuple[str, ...]]:
        return [(cell.dataset, cell.label), (cell.dataset,), (cell.label,), ()]


__all__ = ["FairsynthError", "Prepared", "Summary", "Watcher", "outcome", "prepare", "run_plan"]
