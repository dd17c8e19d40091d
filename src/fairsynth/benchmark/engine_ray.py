"""Cells on a Ray cluster: each a task that asks for CPUs, GPUs and memory, and is run anew when its machine is lost.

The rows travel with the tasks, so that the machines of the cluster need fairsynth and the methods' packages, but
neither the data nor the benchmark's folder. Only the run itself writes results, with the same claims as on one machine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairsynth.benchmark.engine import Ended, Task
from fairsynth.benchmark.plan import Dataset
from fairsynth.errors import MissingDependencyError, SettingsError

#: Times that a cell is started again because its machine was lost.
LOSSES = 5
#: Tasks waiting at the cluster beyond those that its CPUs can run, so that no CPU waits for the run.
_AHEAD = 2


class RayEngine:
    """Runs cells as Ray tasks.

    Parameters
    ----------
    address : str or None
        Of the cluster; by default what ``RAY_ADDRESS`` says, the cluster of this machine, or a new one on it.
    threads : int
        Threads, and so CPUs, of each cell.
    datasets : sequence of Dataset
        Of the plan; each is read once, and put into the cluster's store when its first cell is started.

    Raises
    ------
    MissingDependencyError
        If Ray is not installed.
    SettingsError
        If the cluster cannot be reached.
    """

    def __init__(self, address: str | None, *, threads: int, datasets: Sequence[Dataset]) -> None:
        self._ray, self._own = connect(address, "the engine ray")
        self._threads = threads
        self._datasets = {d.name: d for d in datasets}
        self._tables: dict[str, Any] = {}
        self._running: dict[Any, Task] = {}
        self._remote = self._ray.remote(max_retries=LOSSES)(_on_node)

    def free(self, limits: dict[str, Any]) -> bool:
        """Say whether the cluster could take one more cell."""
        cpus = self._ray.cluster_resources().get("CPU", 1.0)
        return len(self._running) < max(1, int(cpus // self._threads)) + _AHEAD

    def start(self, task: Task) -> None:
        """Hand a cell to the cluster."""
        memory = task.limits.get("memory_gb")
        wanted = {
            "num_cpus": self._threads,
            "num_gpus": task.limits.get("gpus") or 0,
            # Without a limit Ray counts CPUs only.
            "memory": None if memory is None else int(memory * 1e9),
        }
        name = task.request["cell"]["dataset"]
        asked = {"id": task.id, "request": _portable(task.request), "limits": task.limits}
        reference = self._remote.options(**wanted).remote(asked, self._rows(name), self._threads)
        self._running[reference] = task

    def wait(self, seconds: float) -> list[Ended]:
        """Return the cells that have ended, their files on their desks."""
        if not self._running:
            return []
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._fetch(reference) for reference in done]

    def _fetch(self, reference: Any) -> Ended:
        task = self._running.pop(reference)
        try:
            told, files = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            (task.desk / "log.txt").write_text(str(error), encoding="utf-8")
            return Ended(task.id, 1, "lost")
        for name, body in files.items():
            (task.desk / name).write_bytes(body)
        return Ended(**told)

    def _rows(self, name: str) -> Any:
        if name not in self._tables:
            from fairsynth.benchmark.datasets import load
            from fairsynth.benchmark.tables import pack

            self._tables[name] = self._ray.put(pack(*load(self._datasets[name])))
        return self._tables[name]

    def close(self) -> None:
        """Cancel what runs, and leave the cluster."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        if self._own:
            self._ray.shutdown()


def connect(address: str | None, what: str) -> tuple[Any, bool]:
    """Join a Ray cluster, or go on in the one that this process has joined.

    Parameters
    ----------
    address : str or None
        Of the cluster; by default what ``RAY_ADDRESS`` says, the cluster of this machine, or a new one on it.
    what : str
        What needs it, for messages.

    Returns
    -------
    ray : module
        Ray itself.
    own : bool
        Whether it was joined here, and is to be left by who called.

    Raises
    ------
    MissingDependencyError
        If Ray is not installed.
    SettingsError
        If the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(f"{what} needs Ray: pip install fairsynth[ray]") from error
    if ray.is_initialized():
        return ray, False
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address is None:
        quiet["include_dashboard"] = False
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingsError(f"the Ray cluster {address or ''} cannot be reached: {error}") from error
    return ray, True


def _portable(request: dict[str, Any]) -> dict[str, Any]:
    """Return a request without paths of this machine."""
    return {**request, "journal": None, "dataset": {"name": request["dataset"]["name"]}}


def _on_node(
    asked: dict[str, Any], rows: dict[str, bytes], threads: int
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Run a cell on the machine of this task, in a process of its own under its limits.

    Returns
    -------
    told : dict
        Fields of `fairsynth.benchmark.engine.Ended`.
    files : dict of str to bytes
        What the cell wrote.
    """
    from dataclasses import asdict

    engine = _engine(threads)
    folder = Path(tempfile.mkdtemp(prefix="fairsynth-cell-"))
    try:
        tables, desk = folder / "tables", folder / "desk"
        tables.mkdir()
        desk.mkdir()
        for name, body in rows.items():
            (tables / name).write_bytes(body)
        request = {**asked["request"], "tables": str(tables)}
        engine.start(Task(asked["id"], request, desk, asked["limits"]))
        ended: list[Ended] = []
        while not ended:
            ended = engine.wait(1.0)
        files = {path.name: path.read_bytes() for path in desk.iterdir() if path.is_file()}
        return {**asdict(ended[0]), "place": os.uname().nodename}, files
    finally:
        shutil.rmtree(folder, ignore_errors=True)


#: The engine of this worker process of Ray, which serves one task after the other.
_ENGINES: dict[int, Any] = {}


def _engine(threads: int) -> Any:
    from fairsynth.benchmark.engine import LocalEngine

    if threads not in _ENGINES:
        _ENGINES[threads] = LocalEngine(1, threads)
    return _ENGINES[threads]
