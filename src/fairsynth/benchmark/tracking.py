"""Cells in MLflow, where MLflow is: parameters, scores and the report of each as one run."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fairsynth.benchmark.cells import Cell
from fairsynth.errors import MissingDependencyError

Log = Callable[[Cell, dict[str, Any]], None]
#: What MLflow allows in names of metrics.
_FOREIGN = re.compile(r"[^\w .:/-]")


@contextmanager
def tracker(folder: Path, wanted: bool | None = None) -> Iterator[Log | None]:
    """Lend a function that logs a cell, or None.

    Parameters
    ----------
    folder : Path
        Of the benchmark; its name is that of the experiment. Without ``MLFLOW_TRACKING_URI`` runs are kept in its
        ``mlflow.db`` (or, with the skinny package, in its folder ``mlruns``).
    wanted : bool, optional
        By default: if MLflow is installed.

    Raises
    ------
    MissingDependencyError
        If it is wanted and not installed.
    """
    there = find_spec("mlflow") is not None
    if wanted and not there:
        raise MissingDependencyError("--mlflow needs MLflow: pip install fairsynth[mlflow]")
    if not there or wanted is False:
        yield None
        return
    logger = _Logger(folder)
    yield logger


class _Logger:
    """Imports MLflow with the first cell: a run that has nothing to do should not wait for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._client: Any = None
        self._experiment = ""

    def __call__(self, cell: Cell, body: dict[str, Any]) -> None:
        """Log a cell as one run."""
        client = self._client or self._begin()
        tags = {"key": cell.key, "status": body["status"], "code": cell.code, "data": cell.data}
        if body.get("reason"):
            tags["reason"] = str(body["reason"])[:5000]
        run = client.create_run(self._experiment, run_name=cell.title, tags=tags)
        name = run.info.run_id
        for key, value in _parameters(cell, body).items():
            client.log_param(name, key, value)
        for key, number in _numbers(body).items():
            client.log_metric(name, key, number)
        report = self._folder / "reports" / f"{cell.key}.html"
        if report.is_file():
            client.log_artifact(name, str(report))
        client.set_terminated(name, "FINISHED" if body["status"] == "done" else "FAILED")

    def _begin(self) -> Any:
        # Of either package, mlflow or mlflow-skinny.
        client_class = import_module("mlflow").MlflowClient

        place: str | None = None
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            folder = self._folder.resolve()
            # The skinny package has no database.
            full = find_spec("sqlalchemy") is not None and find_spec("alembic") is not None
            place = f"sqlite:///{folder / 'mlflow.db'}" if full else (folder / "mlruns").as_uri()
        self._client = client = client_class(tracking_uri=place)
        title = self._folder.resolve().name
        found = client.get_experiment_by_name(title)
        if found is not None:
            self._experiment = found.experiment_id
        else:
            artifacts = None if place is None else (self._folder.resolve() / "mlartifacts").as_uri()
            self._experiment = client.create_experiment(title, artifact_location=artifacts)
        return client


def _parameters(cell: Cell, body: dict[str, Any]) -> dict[str, str]:
    told: dict[str, Any] = {
        "dataset": cell.dataset, "model": cell.model, "label": cell.label, "kind": cell.kind, "seed": cell.seed,
        "criterion": cell.criterion, "strength": cell.strength, "depth": cell.depth,
    }  # fmt: skip
    told |= {f"setting.{name}": value for name, value in (body.get("settings") or cell.settings).items()}
    return {_FOREIGN.sub("_", name): str(value)[:500] for name, value in told.items() if value is not None}


def _numbers(body: dict[str, Any]) -> dict[str, float]:
    found = {f"seconds.{stage}": float(value) for stage, value in body.get("seconds", {}).items()}
    if body.get("memory_mb") is not None:
        found["memory_mb"] = float(body["memory_mb"])
    for source, _, metric, attribute, value, *_ in body.get("scores", []):
        if value is not None and math.isfinite(value):
            name = ".".join(
                part for part in (source if source != "method" else "", metric, attribute or "") if part
            )
            found[_FOREIGN.sub("_", name)] = float(value)
    return found
