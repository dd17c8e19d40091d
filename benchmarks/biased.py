"""How fast biased tables of known truth are drawn, and in how much memory: ``python -m benchmarks.biased``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, alone, machine

#: 15 columns of every kind: two sensitive ones, a domain, 4 of merit, 3 proxies, 4 of noise, the label.
WORLD: dict[str, Any] = {
    "sensitive": {"sex": {"a": 0.6, "b": 0.4}, "race": {"a": 0.7, "b": 0.2, "c": 0.1}},
    "direct": 0.8,
    "proxy": 0.5,
    "label": 0.2,
    "domains": 4,
    "covariate_shift": 0.5,
    "missing": 0.02,
    "n_merit": 4,
    "n_proxy": 3,
    "n_noise": 4,
}


def draw(n: int, what: str) -> dict[str, Any]:
    """Draw `n` rows in one way, and say what it took."""
    from fairsynth.data.biased import BiasedWorld

    world = BiasedWorld(**WORLD)
    world.chunk(0, truth=True)  # what is done once is not counted for each row
    began, cpu = time.perf_counter(), time.process_time()
    size = 0
    if what == "batches":
        rows = sum(batch.num_rows for batch in world.iter_batches(n))
    elif what == "batches and truth":
        rows = sum(batch.num_rows for batch, _ in world.iter_batches(n, truth=True))
    else:
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "rows.parquet"
            truth = Path(place) / "truth.parquet" if "truth" in what else None
            world.to_parquet(file, n, truth=truth)
            rows, size = n, file.stat().st_size
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert rows == n
    return {
        "what": what,
        "rows": n,
        "columns": len(world.arrow_schema),
        "wall_seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "rows_per_second": round(n / seconds),
        "rows_per_cpu_second": round(n / cpu),
        "file_mb": round(size / 1e6),
    }


def rates() -> dict[str, Any]:
    """Work out the exact rates of that world, and say what it took."""
    from fairsynth.data.biased import BiasedWorld

    world = BiasedWorld(**WORLD)
    began = time.process_time()
    gap = world.rates.gap()
    return {"what": "exact rates", "cpu_seconds": round(time.process_time() - began, 2), "gap": round(gap, 4)}


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.biased", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--many", type=int, default=0, help="also write this many rows to Parquet")
    chosen = parser.parse_args()
    found = [alone(rates)]
    jobs = [(n, what) for n in chosen.rows for what in ("batches", "Parquet")]
    jobs += [(chosen.rows[0], "batches and truth"), (chosen.rows[0], "Parquet and truth")]
    if chosen.many:
        jobs.append((chosen.many, "Parquet"))
    for n, what in jobs:
        found.append(alone(draw, n, what))
        print(found[-1], flush=True)
    told = {
        "command": "python -m benchmarks.biased " + " ".join(sys.argv[1:]),
        "day": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "world": WORLD,
        "found": found,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "biased.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
