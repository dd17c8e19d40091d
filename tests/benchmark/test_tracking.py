"""Cells in MLflow: each one a run with its settings, scores and fate; skipped where MLflow is not installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fairsynth.benchmark.engine import Ended, Task
from fairsynth.benchmark.runner import run_plan
from fairsynth.benchmark.tracking import tracker
from fairsynth.errors import MissingDependencyError

PlanFile = Callable[..., Path]
MODELS = """
[[models]]
name = "outside-copy"
settings = { noise = 0.25 }
[[models]]
name = "reweighing"
"""


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="MLflow is installed")
def test_without_mlflow_nothing_is_logged_and_asking_for_it_is_refused(tmp_path: Path) -> None:
    with tracker(tmp_path) as log:
        assert log is None
    with (
        pytest.raises(MissingDependencyError, match=r"pip install fairsynth\[mlflow\]"),
        tracker(tmp_path, True),
    ):
        pass


def test_every_cell_is_a_run(
    plan_file: PlanFile, tmp_path: Path, instant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install fairsynth[mlflow]")
    place = f"sqlite:///{tmp_path / 'here.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)

    def result(task: Task) -> Ended | None:
        return Ended(task.id, -9) if task.request["cell"]["label"] == "reweighing" else None

    with tracker(tmp_path / "out", True) as log:
        run_plan(
            plan_file(MODELS, "seeds = 1"), tmp_path / "out", engine=instant(result=result), on_result=log
        )
    client = mlflow.MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name("out")
    runs = {run.data.params["label"]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"outside-copy", "reweighing", "real data"}
    copy = runs["outside-copy"]
    assert copy.info.status == "FINISHED" and 0.6 <= copy.data.metrics["auroc"] <= 0.9
    assert "dpr.sex" in copy.data.metrics and "constant.auroc" in runs["real data"].data.metrics
    assert runs["reweighing"].info.status == "FAILED" and "signal 9" in runs["reweighing"].data.tags["reason"]
