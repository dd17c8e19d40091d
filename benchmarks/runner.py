"""What the benchmark runner itself costs: ``python -m benchmarks.runner [WHAT ...]``.

``busy``    4 models × 3 data sets × 3 seeds with two jobs, against the same cells one after another
``cell``    what a cell takes beyond the work that it holds
``resume``  a finished plan run again
``board``   a leaderboard of 10,000 cells, from JSON files alone and with the Parquet file
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, data_folder, machine

PLAN = """
seeds = 3
datasets = ["german", "compas", "loanapp"]
models = ["fair-trees", "reweighing", "correlation-remover", "disparate-impact-repair"]
reports = false
"""
#: Cells of the leaderboard: data sets × methods × seeds, baselines among them.
BOARD = (20, 49, 10)


def run_once(plan: Path, out: Path, jobs: int) -> float:
    """Run a plan by the command line, as a person does; return its wall-clock seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "fairsynth", "--quiet", "benchmark", str(plan), "-o", str(out)]
    environment = {**os.environ, "FAIRSYNTH_DATA": str(data_folder())}
    subprocess.run(
        [*command, "--jobs", str(jobs), "--no-mlflow"], check=True, env=environment, stdout=subprocess.DEVNULL
    )
    return round(time.perf_counter() - began, 2)


def bodies(out: Path) -> list[dict[str, Any]]:
    """Return what is kept of every cell."""
    from fairsynth.benchmark.store import Store

    store = Store(out)
    found = [store.result(key) for key in sorted(store.keys())]
    return [body for body in found if body is not None]


def busy(folder: Path) -> dict[str, Any]:
    """Measure how busy two jobs keep two cores, and what a cell costs beyond its work."""
    plan = folder / "plan.toml"
    plan.write_text(PLAN)
    threads = {jobs: max(1, len(os.sched_getaffinity(0)) // jobs) for jobs in (1, 2)}
    two = run_once(plan, folder / "two", 2)
    one = run_once(plan, folder / "one", 1)
    cells = {jobs: bodies(folder / name) for jobs, name in ((1, "one"), (2, "two"))}
    failed = [body["reason"] for some in cells.values() for body in some if body["status"] != "done"]
    if failed:
        raise SystemExit(f"cells failed: {failed[:3]}")
    overhead = [body["process_seconds"] - work(body) for body in cells[1]]
    in_two = sum(body["process_seconds"] for body in cells[2])
    return {
        "plan": PLAN.strip(),
        "cells": len(cells[2]),
        "threads_of_a_cell": threads,
        "seconds_one_job": one,
        "seconds_two_jobs": two,
        "share_of_ideal": round(one / 2 / two, 3),
        # What two jobs did against what two always busy ones could have done; the slow-down of cells by each other,
        # which is the machine's and not the runner's, is not in it.
        "share_of_time_busy": round(in_two / 2 / two, 3),
        "overhead_seconds": {
            "median": round(statistics.median(overhead), 3),
            "largest": round(max(overhead), 3),
        },
    }


def work(body: dict[str, Any]) -> float:
    """Return the seconds of a cell that are its work: fit, draw, judge."""
    return float(sum(body["seconds"].get(stage, 0.0) for stage in ("fit", "sample", "evaluate", "report")))


def resume(folder: Path) -> dict[str, Any]:
    """Measure a finished plan run again, by the command line."""
    plan, out = folder / "plan.toml", folder / "two"
    if not out.exists():
        plan.write_text(PLAN)
        run_once(plan, out, 2)
    runs = [run_once(plan, out, 2) for _ in range(5)]
    return {"cells": len(bodies(out)), "seconds": {"median": statistics.median(runs), "all": runs}}


def board(folder: Path) -> dict[str, Any]:
    """Measure a leaderboard of 10,000 cells with scores that are made up."""
    out = folder / "board"
    cells = make_board(out)
    found: dict[str, Any] = {"cells": cells}
    for name in ("from_json", "from_parquet"):
        if name == "from_json":
            (out / "results.parquet").unlink(missing_ok=True)
        began = time.perf_counter()
        command = [sys.executable, "-m", "fairsynth", "--quiet", "leaderboard", str(out)]
        subprocess.run([*command, "-o", str(out / "leaderboard.html")], check=True, stdout=subprocess.DEVNULL)
        found[f"seconds_{name}"] = round(time.perf_counter() - began, 2)
    found["page_mb"] = round((out / "leaderboard.html").stat().st_size / 1e6, 1)
    return found


def make_board(out: Path) -> int:
    """Write cells as a run does, with as many scores each."""
    import numpy as np

    from fairsynth.benchmark.cells import Cell
    from fairsynth.benchmark.store import Store

    rng = np.random.default_rng(0)
    store = Store(out)
    store.make()
    metrics = [
        *(("utility", m, None) for m in ("auroc", "accuracy", "balanced_accuracy", "f1", "brier", "recall")),
        *(
            ("fairness", m, a)
            for m in ("dpr", "eor", "dpd", "eod", "ftu")
            for a in ("sex", "race", "sex × race")
        ),
        *(("fidelity", m, None) for m in ("coverage", "density", "c2st", "ks", "total_variation")),
        *(("privacy", m, None) for m in ("dcr_share", "exact_copies", "nndr", "dcr", "near_copies")),
        *(("utility", f"other_{i}", None) for i in range(50)),
    ]
    cells = []
    datasets, models, seeds = BOARD
    for seed in range(seeds):
        for d in range(datasets):
            for m in range(models + 1):
                baseline = m == models
                cell = Cell(
                    dataset=f"data-{d}", label="real data" if baseline else f"method-{m}", data=f"{d:064d}",
                    model="real" if baseline else f"method-{m}", kind="baseline" if baseline else "generator",
                    settings={}, criterion=None if baseline else "demographic_parity",
                    strength=None if baseline else 1.0, seed=seed, depth="quick", downstream=("lightgbm",),
                    metrics=(), search=None, code="0",
                )  # fmt: skip
                cells.append(cell)
                sources = ("real", "constant", "holdout") if baseline else ("method",)
                scores = [
                    [source, *metric, float(value), float(value) - 0.01, float(value) + 0.01, None]
                    for source in sources
                    for metric, value in zip(metrics, rng.random(len(metrics)), strict=True)
                ]
                store.keep(
                    cell.key,
                    {"status": "done", "cell": cell.to_dict(), "scores": scores, "memory_mb": 400.0,
                     "seconds": {"total": 2.0, "fit": 1.0}},
                )  # fmt: skip
    body = {"name": "10,000 cells", "plan": {}, "cells": [c.to_dict() for c in cells], "remarks": []}
    store.keep_plan("0" * 32, body, "")
    return len(cells)


def main() -> None:
    """Measure, and keep what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runner", description=__doc__)
    parser.add_argument("what", nargs="*", default=["busy", "resume", "board"])
    chosen = parser.parse_args()
    path = RESULTS / "runner.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        for what in chosen.what:
            measure = {"busy": busy, "cell": busy, "resume": resume, "board": board}[what]
            before = os.getloadavg()[0]
            found = measure(Path(name))
            kept["busy" if what == "cell" else what] = found | {
                "command": f"python -m benchmarks.runner {what}",
                "day": time.strftime("%Y-%m-%d"),
                "load_average_before": round(before, 2),
            }
            kept["machine"] = machine()
            print(json.dumps(found, indent=1), flush=True)
            RESULTS.mkdir(exist_ok=True)
            path.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
