"""Seconds, rows a second and memory of fit, distil and sample on Adult with default settings."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import alone, keep, load

MANY = 20_000_000


def run(*, many: int = MANY, model: str = "fairvae") -> None:
    """Measure each part of one method, and of its data-free student, in a process of its own and keep the numbers."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        body: dict[str, Any] = {"fit": alone(_fit, "adult", model, str(place))}
        print("fit and distil", body["fit"], flush=True)
        for who in ("teacher", "student"):
            body[f"sample {who}"] = alone(_sample, str(place), who, 2_000_000)
            print("sample", who, body[f"sample {who}"], flush=True)
        body["sample many"] = alone(_sample, str(place), "student", many)
        print("sample many", body["sample many"], flush=True)
    keep("speed-adult" if model == "fairvae" else f"speed-adult-{model}", {"model": model, **body})


def _fit(name: str, model: str, folder: str) -> dict[str, Any]:
    from fairsynth.generators.registry import get_generator_class, student_class

    train, _ = load(name, ["sex"])
    kind: Any = get_generator_class(model)
    began = time.perf_counter()
    kind(seed=0).fit(train).save(Path(folder) / "teacher.fairsynth")
    fitted = time.perf_counter()
    student: Any = student_class(Path(folder) / "teacher.fairsynth")
    student().distill(Path(folder) / "teacher.fairsynth", seed=0).save(Path(folder) / "student.fairsynth")
    done = time.perf_counter()
    return {
        "rows": len(train),
        "fit_seconds": round(fitted - began, 1),
        "distil_seconds": round(done - fitted, 1),
        "fit_and_distil_seconds": round(done - began, 1),
        "teacher_file_kb": (Path(folder) / "teacher.fairsynth").stat().st_size // 1024,
        "student_file_kb": (Path(folder) / "student.fairsynth").stat().st_size // 1024,
    }


def _sample(folder: str, who: str, rows: int) -> dict[str, Any]:
    from fairsynth import load_generator

    model = load_generator(Path(folder) / f"{who}.fairsynth")
    out = Path(folder) / "rows.parquet"
    model.sample_to(out, 100_000, seed=1)  # what is loaded lazily is loaded now
    began = time.perf_counter()
    model.sample_to(out, rows, seed=0)
    seconds = time.perf_counter() - began
    size = out.stat().st_size
    out.unlink()
    return {"rows": rows, "rows_per_second": round(rows / seconds), "file_mb": size // 2**20}
