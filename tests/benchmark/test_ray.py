"""The same plan on a Ray cluster of several nodes, one of which is killed in the middle."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fairsynth.benchmark.leaderboard import read_leaderboard
from fairsynth.benchmark.runner import run_plan
from fairsynth.benchmark.store import Store

pytest.importorskip("ray", reason="Ray is not installed: pip install fairsynth[ray]")
pytestmark = pytest.mark.slow
PlanFile = Callable[..., Path]
#: Columns of the leaderboard that depend on the machine.
COSTS = ("fit_seconds", "fit_seconds_sd", "memory_mb", "memory_mb_sd")


@pytest.fixture
def cluster(outside: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    # What the workers of the nodes import from; a real cluster has the packages installed.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(place for place in sys.path if place))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    made.shutdown()


def test_a_killed_node_loses_nothing(plan_file: PlanFile, tmp_path: Path, cluster: Any) -> None:
    doomed = cluster.add_node(num_cpus=1)
    log = tmp_path / "log"
    models = f"""
[[models]]
name = "outside-copy"
settings = {{ seconds = 3.0, log = "{log}" }}
[[models]]
name = "outside-copy"
label = "fails"
settings = {{ does = "raise" }}
[[models]]
name = "outside-copy"
label = "late"
settings = {{ seconds = 600.0 }}
[models.limits]
seconds = 8
memory_gb = 2.0
"""
    plan = plan_file(models, "seeds = 2")
    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            lines = log.read_text().splitlines() if log.exists() else []
            if len(lines) >= 2:
                cluster.remove_node(doomed, allow_graceful=False)
                killed.append(len(lines))
                return
            time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    done = run_plan(plan, tmp_path / "ray", engine="ray", address=cluster.address, jobs=2)
    thread.join()
    assert killed, "no node was killed while cells were running"
    assert (done.total, done.ran, done.failed) == (8, 8, 4)
    assert {reason for _, reason in done.failures} == {
        "DataError: it does not work today", "took longer than 8 s",
    }  # fmt: skip
    store = Store(tmp_path / "ray")
    bodies = [store.result(key) for key in sorted(store.keys())]
    assert all(body is not None and (body["place"] or body["cause"] == "lost") for body in bodies)
    again = run_plan(plan, tmp_path / "ray", engine="ray", address=cluster.address)
    assert (again.ran, again.reused) == (0, 8)
    local = run_plan(plan, tmp_path / "local", jobs=2)
    assert local.failed == 4
    ours, theirs = (read_leaderboard(tmp_path / name).to_frame() for name in ("local", "ray"))
    assert ours.drop(COSTS, strict=False).equals(theirs.drop(COSTS, strict=False))
    assert isinstance(ours, pl.DataFrame) and ours.height == 5
