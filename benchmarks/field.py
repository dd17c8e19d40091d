"""Every generator on four tables over three seeds: what it costs and what later models make of its rows.

One cell is one table, one method and one seed. Each runs in a process of its own and leaves one small file, so a run
can be ended at any time and goes on where it was; a cell that fails or takes too long is kept with its reason.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, load, machine

TABLES = {"german": "sex", "compas": "race", "adult": "sex", "bank": "age_group"}
#: Settings other than the defaults, kept in every file: the published code of these runs for hours on large tables.
SETTINGS: dict[str, dict[str, Any]] = {
    "fldgm-wgan-gp": {"kind": "wgan-gp"},
    "fldgm-lsgan": {"kind": "lsgan"},
    "ctgan": {"epochs": 30},
    "tvae": {"epochs": 30},
    "tabularargn": {"epochs": 20},
}
#: Methods that learn from the latent or the rows of one teacher, which is fitted once for all of them.
OF_TEACHER = ("latent-distillation", "fair4free", "fldgm", "fldgm-wgan-gp", "fldgm-lsgan", "fade")
#: Rows drawn to time a method, at least.
DRAWN = 20_000


@dataclass(frozen=True)
class Cell:
    """One table, one seed, and the methods that are run in one process."""

    dataset: str
    models: tuple[str, ...]
    seed: int
    sensitive: str = field(default="")

    def path(self, model: str) -> Path:
        folder = RESULTS / "field" / f"{self.dataset}-{TABLES[self.dataset]}"
        return folder / f"{model}-{self.seed}.json"


def plan(datasets: list[str], models: list[str] | None, seeds: int) -> list[Cell]:
    """Return the cells, the cheap ones first."""
    from fairsynth.generators.registry import list_generators

    known = ["real", *list_generators(), "fldgm-wgan-gp", "fldgm-lsgan"]
    wanted = [model for model in known if not models or model in models]
    group = tuple(m for m in ("fairvae", *OF_TEACHER) if m in wanted)
    cells = []
    for large in (False, True):
        for seed in range(seeds):
            for dataset in datasets:
                if (dataset in ("adult", "bank")) is not large:
                    continue
                alone = [(m,) for m in wanted if m not in group]
                cells += [Cell(dataset, names, seed) for names in [*([group] if group else []), *alone]]
    return cells


def run(
    datasets: list[str], models: list[str] | None, *, seeds: int, limit: float, budget: float, again: bool
) -> None:
    """Run all cells that are not there yet."""
    began = time.monotonic()
    for cell in plan(datasets, models, seeds):
        missing = tuple(m for m in cell.models if again or not finished(cell.path(m)))
        if not missing or time.monotonic() - began > budget:
            continue
        one(Cell(cell.dataset, missing, cell.seed), limit)


def finished(path: Path) -> bool:
    """Say whether a cell has a result; one that lacked a package is tried again."""
    return path.exists() and "not installed" not in json.loads(path.read_text()).get("failed", "")


def one(cell: Cell, limit: float) -> None:
    """Run the methods of one cell in a new process; what it leaves unfinished is kept as failed."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_work, args=(cell,))
    began = time.monotonic()
    process.start()
    process.join(limit)
    reason = f"the process ended with code {process.exitcode}"
    if process.is_alive():
        process.terminate()
        process.join(10)
        if process.is_alive():
            process.kill()
        process.join()
        reason = f"took longer than {limit:.0f} s"
    for model in cell.models:
        path = cell.path(model)
        if not path.exists() or path.stat().st_mtime < time.time() - (time.monotonic() - began):
            _keep(path, {"model": model, "seed": cell.seed, "failed": reason})
        told = json.loads(path.read_text())
        print(cell.dataset, model, cell.seed, told.get("failed") or told["scores"], flush=True)


def _keep(path: Path, body: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = path.with_suffix(".part")
    kept.write_text(json.dumps(body, indent=1) + "\n")
    kept.replace(path)


def _work(cell: Cell) -> None:
    import fairsynth as fs
    from benchmarks.quality import scores

    train, test = load(cell.dataset, [TABLES[cell.dataset]])
    base = _peak()
    teacher: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for model in cell.models:
            body: dict[str, Any] = {
                "dataset": cell.dataset, "sensitive": TABLES[cell.dataset], "model": model, "seed": cell.seed,
                "day": time.strftime("%Y-%m-%d"), "commit": _commit(), "machine": machine(),
                "settings": SETTINGS.get(model, {}), "load_average": round(os.getloadavg()[0], 2),
            }  # fmt: skip
            try:
                if model == "real":
                    evaluation = fs.evaluate(train, test, train, seed=cell.seed, depth="quick")
                    body["scores"] = scores(evaluation, train, "real")
                    body["constant"] = {
                        m: evaluation.value(m, source="constant", model="mean")
                        for m in ("auroc", "accuracy", "balanced_accuracy")
                    }
                else:
                    fitted, costs = _fit(model, train, cell.seed, teacher, Path(folder))
                    body |= costs | {"memory_mb": _peak(), "memory_before_mb": base}
                    body |= _drawing(fitted, max(len(train), DRAWN), cell.seed)
                    drawn = fitted.sample_table(len(train), seed=cell.seed)
                    evaluation = fs.evaluate(train, test, drawn, seed=cell.seed, depth="quick")
                    body["scores"] = scores(evaluation, train, "synthetic")
            except Exception as error:  # a method that fails is a result, too
                body["failed"] = f"{type(error).__name__}: {error}"
                if type(error).__name__ == "MissingDependencyError":
                    body["failed"] = f"not installed: {error}"
            _keep(cell.path(model), body)


def _fit(
    model: str, train: Any, seed: int, teacher: dict[str, Any], folder: Path
) -> tuple[Any, dict[str, Any]]:
    """Return a fitted method, and what the teacher and the rest of the fit took."""
    from fairsynth.generators.registry import get_generator_class

    def timed(work: Any) -> tuple[Any, dict[str, float]]:
        clock, processor = time.perf_counter(), time.process_time()
        done = work()
        return done, {
            "seconds": round(time.perf_counter() - clock, 2),
            "cpu_seconds": round(time.process_time() - processor, 2),
        }

    if model in OF_TEACHER and not teacher:
        path = folder / "teacher.fairsynth"
        made, costs = timed(lambda: get_generator_class("fairvae")(seed=seed).fit(train))
        made.save(path)
        teacher |= {"model": made, "path": path, "costs": costs}
    if model == "fairvae":
        made, costs = timed(lambda: get_generator_class("fairvae")(seed=seed).fit(train))
        path = folder / "teacher.fairsynth"
        made.save(path)
        teacher |= {"model": made, "path": path, "costs": costs}
        return made, {"fit": costs}
    kind = get_generator_class(model.partition("-wgan-gp")[0].partition("-lsgan")[0])
    given = dict(SETTINGS.get(model, {}), seed=seed)
    if model == "fair4free":
        made, costs = timed(lambda: kind(**given).distill(teacher["path"]))
        return made, {"fit": costs, "teacher": teacher["costs"]}
    if model in OF_TEACHER:
        made, costs = timed(lambda: kind(**given, teacher=teacher["model"]).fit(train))
        return made, {"fit": costs, "teacher": teacher["costs"]}
    made, costs = timed(lambda: kind(**given).fit(train))
    return made, {"fit": costs}


def _drawing(fitted: Any, n: int, seed: int) -> dict[str, Any]:
    """Draw rows to Parquet and return how many come in a second, by the clock and by the processor."""
    with tempfile.TemporaryDirectory() as folder:
        fitted.sample_table(100, seed=seed)
        clock, processor = time.perf_counter(), time.process_time()
        fitted.sample_to(Path(folder) / "rows.parquet", n, seed=seed)
        seconds, cpu = time.perf_counter() - clock, time.process_time() - processor
    return {
        "drawn": n,
        "rows_a_second": round(n / seconds),
        "rows_a_cpu_second": round(n / max(cpu, 1e-6)),
    }


def _peak() -> int:
    """Return the highest memory of this process so far, in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _commit() -> str:
    said = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return said.stdout.strip()
