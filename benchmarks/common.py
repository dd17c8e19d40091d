"""Shared by the measurements: data, results on disk, processes of their own."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("fairsynth", "torch", "numpy", "polars", "pyarrow", "scikit-learn", "lightgbm")


def data_folder() -> Path:
    """Return the folder of real tables."""
    given = os.environ.get("FAIRSYNTH_DATA")
    return Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"


def load(name: str, sensitive: list[str] | None = None) -> tuple[Any, Any]:
    """Return train and test tables, with other sensitive columns if asked."""
    from fairsynth.data.catalog import load_dataset

    train, test = load_dataset(name, folder=data_folder()) if name != "loanapp" else load_dataset(name)
    if sensitive:
        from fairsynth import Table

        schema = train.schema.revised(sensitive=tuple(sensitive))
        train, test = (Table(table.native(), schema=schema) for table in (train, test))
    return train, test


def machine() -> dict[str, Any]:
    """Say what this runs on."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def keep(name: str, body: dict[str, Any]) -> None:
    """Write a result, with what made it."""
    RESULTS.mkdir(exist_ok=True)
    command = "python -m benchmarks " + " ".join(sys.argv[1:])
    told = {"command": command, "day": time.strftime("%Y-%m-%d"), "machine": machine(), **body}
    (RESULTS / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")
    print(f"wrote benchmarks/results/{name}.json", flush=True)


def alone(task: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """Run a task in a new process and add its wall-clock seconds and peak memory in MB."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(sender, task, args))
    process.start()
    sender.close()
    result: dict[str, Any] = receiver.recv()
    process.join()
    if "error" in result:
        raise RuntimeError(result["error"])
    return result


def _measured(sender: Any, task: Callable[..., dict[str, Any]], args: tuple[Any, ...]) -> None:
    began = time.perf_counter()
    try:
        result = task(*args)
    except Exception as error:
        sender.send({"error": f"{type(error).__name__}: {error}"})
        raise
    result.setdefault("seconds", round(time.perf_counter() - began, 2))
    result["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    sender.send(result)
