"""Memory and seconds of rows drawn into partitions: ``python -m benchmarks.partitions [ROWS ...]``.

``fair-trees`` of ``loanapp``, one process, files of 500,000 rows; each number of rows in a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, alone, load, machine

PARTITION_ROWS = 500_000


def fit(path: str) -> dict[str, Any]:
    from fairsynth.generators.fair_trees import FairTrees

    FairTrees(seed=0).fit(load("loanapp")[0]).save(path)
    return {}


def draw(model: str, folder: str, n: int) -> dict[str, Any]:
    from fairsynth.partitions import sample_partitions

    began = time.process_time()
    done = sample_partitions(model, folder, n, seed=0, jobs=1, partition_rows=PARTITION_ROWS)
    return {
        "rows": n,
        "files": len(done.files),
        "bytes": sum(part.bytes for part in done.files),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def main() -> None:
    """Measure, and keep what was found."""
    sizes = [int(text) for text in sys.argv[1:]] or [1_000_000, 2_000_000, 6_000_000]
    before = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as name:
        model = str(Path(name) / "trees.fairsynth")
        alone(fit, model)
        lines = [alone(draw, model, str(Path(name) / str(n)), n) for n in sizes]
    told = {
        "command": " ".join(["python -m benchmarks.partitions", *map(str, sizes)]),
        "day": time.strftime("%Y-%m-%d"),
        "load_average_before": before,
        "machine": machine(),
        "lines": lines,
    }
    (RESULTS / "partitions.json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
