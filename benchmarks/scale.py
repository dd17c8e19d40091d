"""Fit to Parquet of many rows, and many rows drawn into Parquet: ``python -m benchmarks scale``.

The rows are those of a biased world of 15 columns (`benchmarks.biased`), written in parts to a temporary folder that
is removed at the end; each measurement has a process of its own.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.biased import WORLD
from benchmarks.common import alone, keep

ROLES: dict[str, Any] = {"target": "label", "favorable": "yes", "sensitive": ["sex", "race"]}
ROWS = (500_000, 5_000_000, 50_000_000)
MANY = 100_000_000
PART_ROWS = 2_500_000
#: Bytes that a row takes in a file at most, here.
ROW_BYTES = 120


def run(*, rows: tuple[int, ...] = ROWS, many: int = MANY, folder: str | None = None) -> None:
    """Measure, and keep what was found."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        free, wanted = shutil.disk_usage(place).free, max(max(rows, default=0), many) * ROW_BYTES
        if free < wanted:
            raise SystemExit(f"{place} has {free / 1e9:.0f} GB left, and {wanted / 1e9:.0f} are needed.")
        body: dict[str, Any] = {"load_average_before": round(os.getloadavg()[0], 2), "world": WORLD}
        body["fit"] = []
        model = place / "trees.fairsynth"
        for n in rows:
            parts = place / "rows"
            alone(_write, str(parts), n)
            body["fit"].append(alone(_fit, str(parts), n, str(model)))
            print("fit", body["fit"][-1], flush=True)
            shutil.rmtree(parts)
            keep("scale", body)  # whatever happens later
        if many and model.exists():
            for n in (many // 10, many):
                body.setdefault("sample", []).append(
                    alone(_sample, str(model), n, str(place / "drawn.parquet"))
                )
                print("sample", body["sample"][-1], flush=True)
                keep("scale", body)


def _write(folder: str, n: int) -> dict[str, Any]:
    from fairsynth.data.biased import BiasedWorld

    place, world = Path(folder), BiasedWorld(**WORLD)
    place.mkdir()
    for start in range(0, n, PART_ROWS):
        rows = min(PART_ROWS, n - start)
        world.to_parquet(place / f"part-{start // PART_ROWS:05d}.parquet", rows, start=start)
    return {}


def _fit(folder: str, n: int, model: str) -> dict[str, Any]:
    import fairsynth as fs

    began, cpu = time.perf_counter(), time.process_time()
    stream = fs.StreamedTable(folder, **ROLES)
    read_cpu = time.process_time()
    stages: dict[str, float] = {}
    last = ["", read_cpu]

    def told(step: Any) -> None:
        now = time.process_time()
        stages[step.stage] = stages.get(step.stage, 0.0) + now - float(last[1])
        last[:] = [step.stage, now]

    made = fs.AuditedTrees(seed=0).fit(stream, progress=told)
    done, done_cpu = time.perf_counter(), time.process_time()
    assert made.n_rows_ == n
    made.save(model)
    return {
        "rows": n,
        "columns": len(made.schema_),
        "sample_rows": len(stream.sample),
        "fit_seconds": round(done - began, 1),
        "cpu_seconds": round(done_cpu - cpu, 1),
        "cpu_seconds_by_stage": {
            "read": round(read_cpu - cpu, 1),
            **{name: round(seconds, 1) for name, seconds in stages.items()},
        },
        "files_mb": sum(file.stat().st_size for file in stream.files) >> 20,
    }


def _sample(model: str, n: int, path: str) -> dict[str, Any]:
    from fairsynth import load_generator

    made = load_generator(model)
    made.sample_to(path, 100_000, seed=1)  # what is loaded lazily is loaded now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, cpu = time.perf_counter(), time.process_time()
    made.sample_to(path, n, seed=0)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    size = Path(path).stat().st_size
    Path(path).unlink()
    return {
        "rows": n,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "rows_per_second": round(n / seconds),
        "rows_per_cpu_second": round(n / cpu),
        "file_mb": size >> 20,
        "mb_before": before >> 10,
    }
