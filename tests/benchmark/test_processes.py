"""Cells in processes of their own: how they fail, and what SIGKILL leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fairsynth.benchmark import runner
from fairsynth.benchmark.engine import environment
from fairsynth.benchmark.runner import run_plan
from fairsynth.benchmark.store import Store

PlanFile = Callable[..., Path]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork processes")
#: A second without any load; the machine of the tests may be busy.
PATIENCE = 120.0


def copy(label: str, settings: str = "", limits: str = "") -> str:
    told = f"[models.limits]\n{limits}\n" if limits else ""
    return f'[[models]]\nname = "outside-copy"\nlabel = "{label}"\nsettings = {{ {settings} }}\n{told}'


def test_one_bad_cell_takes_no_other_with_it(
    plan_file: PlanFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "cores", lambda: 4)
    log = tmp_path / "log"
    models = (
        copy("raises", f'does = "raise", log = "{log}"')
        + copy("sleeps", "seconds = 600.0", "seconds = 3")
        + copy("eats", 'does = "eat"', "memory_gb = 1.0")
        + copy("dies", 'does = "die"')
        + copy("leaves", 'does = "exit"')
        + copy("works")
        + '[[models]]\nname = "reweighing"\nsettings = { base = "logistic_regression" }\n'
    )
    plan = plan_file(models, 'seeds = 1\nmetrics = ["rows-a-column"]')
    done = run_plan(plan, tmp_path / "out", jobs=2)
    assert (done.total, done.ran, done.failed) == (8, 8, 5)
    # Four cores for two jobs: two threads for each.
    assert [line[1] for line in fits(log)] == ["2"]
    reasons = {title.split(" · ")[1].split()[0]: reason for title, reason in done.failures}
    assert reasons["raises"] == "DataError: it does not work today"
    assert reasons["sleeps"] == "took longer than 3 s"
    assert "and 1 GB are allowed" in reasons["eats"]
    assert reasons["dies"] == "its process was ended by signal 9"
    assert reasons["leaves"] == "its process ended with status 7: not my day"
    store = Store(tmp_path / "out")
    bodies = {b["cell"]["label"]: b for b in map(store.result, store.keys()) if b is not None}
    assert "outside_of_fairsynth.py" in bodies["raises"]["traceback"]
    assert {label for label, body in bodies.items() if body["status"] == "done"} == {
        "works", "reweighing", "real data",
    }  # fmt: skip
    works = bodies["works"]
    assert {"load", "fit", "sample", "evaluate", "total"} <= set(works["seconds"])
    assert 50 < works["memory_mb"] < 3000
    found = {(row[0], row[2], row[3]): row[4] for row in works["scores"]}
    # The whole evaluation lies beside, and says the same.
    evaluation = store.evaluation(works["key"])
    assert found["method", "auroc", None] == evaluation.value("auroc")
    assert found["method", "dpr", "sex"] == evaluation.value("dpr")
    # 90 test people, five columns.
    assert found["method", "rows-a-column", None] == 18
    real = {(row[0], row[2]) for row in bodies["real data"]["scores"]}
    assert {
        ("real", "auroc"),
        ("constant", "auroc"),
        ("holdout", "coverage"),
        ("real", "rows-a-column"),
    } <= real


def start(plan: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fairsynth", "benchmark", str(plan), "-o", str(out), "--no-mlflow", *more],
        env=environment(1),
        stderr=subprocess.PIPE,
        text=True,
    )


def fits(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A zombie that nobody has reaped yet is gone as well.
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_sigkill_loses_only_the_cells_in_flight(plan_file: PlanFile, tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    # These end with a failure that they make themselves, which is a result like any other and needs no evaluation.
    plan = plan_file(copy("slow", f'does = "raise", seconds = 0.6, log = "{log}"'), "seeds = 5")
    first = start(plan, out, "--jobs", "2")
    cells = Store(out).cells
    until(lambda: len(fits(log)) >= 3 and cells.is_dir() and len(list(cells.glob("*.json"))) >= 2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    finished = {path.name: path.stat().st_mtime_ns for path in cells.glob("*.json")}
    before = fits(log)
    until(lambda: all(gone(int(line[0])) for line in before))
    assert len(finished) < 10
    # The cells that had a result are not fitted again; the others are, once.
    second = start(plan, out, "--jobs", "2")
    assert second.wait(PATIENCE) == 0
    after = fits(log)
    assert {name: cells.joinpath(name).stat().st_mtime_ns for name in finished} == finished
    store = Store(out)
    bodies = [store.result(path.removesuffix(".json")) for path in finished]
    done = sum(b is not None and b["cell"]["kind"] == "generator" for b in bodies)
    assert len(after) - len(before) == 5 - done
    again = Counter(line[2] for line in after)
    assert set(again) == {f"seed={seed}" for seed in range(5)}
    assert sum(again.values()) - 5 <= 2  # no more than were in flight
    assert len(store.keys()) == 10
    assert not list((out / "work").iterdir()) and not list((out / "claims").iterdir())


@pytest.mark.slow
def test_two_runs_in_one_folder_share_the_work(plan_file: PlanFile, tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    plan = plan_file(copy("slow", f'does = "raise", seconds = 0.3, log = "{log}"'), "seeds = 3")
    runs = [start(plan, out, "--jobs", "1") for _ in range(2)]
    told = [process.communicate(timeout=PATIENCE)[1] for process in runs]
    assert [process.returncode for process in runs] == [0, 0], told
    found = fits(log)
    assert sorted(line[2] for line in found) == [f"seed={seed}" for seed in range(3)]
    assert len(Store(out).keys()) == 6
    for text in told:
        assert "6 cells, 3 failed" in text
