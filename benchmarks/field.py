"""Every generator on four tables over three seeds: what it costs and what later models make of its rows.

One cell is one table, one method and one seed. Each runs in a process of its own and leaves one small file, so a run
can be ended at any time and goes on where it was; a cell that fails or takes too long is kept with its reason. Methods
that learn from a teacher get the one of the same table and seed, which is fitted once and kept in a temporary folder.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, load, machine

TABLES = {"german": "sex", "compas": "race", "adult": "sex", "bank": "age_group"}
LARGE = ("adult", "bank")
#: Cells of one method under several settings, beside its defaults.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fldgm-wgan-gp": ("fldgm", {"kind": "wgan-gp"}),
    "fldgm-lsgan": ("fldgm", {"kind": "lsgan"}),
}
#: Shorter fits than the default on the large tables, kept in every file and told in the table: the published code
#: of these runs for hours there. On small tables the defaults stand.
SETTINGS: dict[str, dict[str, Any]] = {
    "ctgan": {"epochs": 30},
    "tvae": {"epochs": 30},
    "tabularargn": {"epochs": 20},
}
TEACHER = "fairvae"
#: Methods that learn from the latent or the rows of one teacher, which is fitted once for all of them.
OF_TEACHER = ("latent-distillation", "fair4free", "fldgm", "fldgm-wgan-gp", "fldgm-lsgan", "fade")
#: Methods that take long on large tables: they come last.
SLOW = ("fairgan", "fair-tabddpm", "tabularargn", "tvae", "ctgan", "tabfairgan")
#: Rows drawn to time a method, at least.
DRAWN = 20_000
#: Seconds of the clock for one of the processor that a cell may take, after which it is ended in any case.
PATIENCE = 10
#: How libraries are told to take two threads at most.
THREADS = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "LOKY_MAX_CPU_COUNT")


@dataclass(frozen=True)
class Cell:
    """One table, one method, one seed.

    Attributes
    ----------
    dataset : str
        Of `TABLES`.
    model : str
        A method of the registry, a variant of one, or ``"real"`` for the rows themselves.
    seed : int
        Of the method and the evaluation.
    """

    dataset: str
    model: str
    seed: int

    @property
    def path(self) -> Path:
        """Where the result is kept."""
        folder = RESULTS / "field" / f"{self.dataset}-{TABLES[self.dataset]}"
        return folder / f"{self.model}-{self.seed}.json"

    @property
    def finished(self) -> bool:
        """Whether there is a result; one that lacked a package is tried again."""
        return self.path.exists() and "not installed" not in json.loads(self.path.read_text()).get(
            "failed", ""
        )


def plan(datasets: list[str], models: list[str] | None, seeds: int) -> list[list[Cell]]:
    """Return the cells in order: small tables before large ones, seed after seed, quick methods before slow ones.

    Cells that share a teacher are one list.
    """
    from fairsynth.generators.registry import list_generators

    known = ["real", *list_generators(), *VARIANTS]
    if unknown := sorted(set(models or ()) - set(known)):
        raise SystemExit(f"there is no method {unknown[0]!r}; there are {', '.join(known)}.")
    asked = {*(models or known), *(name for name, (of, _) in VARIANTS.items() if of in (models or ()))}
    group = [model for model in (TEACHER, *OF_TEACHER) if model in asked]
    alone = [[model] for model in known if model in asked and model not in (*group, *SLOW)]
    quick = [*alone, group] if group else alone
    slow = [[model] for model in SLOW if model in asked and model in known]
    return [
        [Cell(dataset, model, seed) for model in names]
        for large in (False, True)
        for seed in range(seeds)
        for block in (quick, slow)
        for dataset in datasets
        if (dataset in LARGE) is large
        for names in block
    ]


def run(
    datasets: list[str], models: list[str] | None, *, seeds: int, limit: float, budget: float, again: bool
) -> None:
    """Run all cells that are not there yet.

    Parameters
    ----------
    datasets : list of str
        Of `TABLES`.
    models : list of str or None
        Methods or variants; None for all there are.
    seeds : int
        How many: 0, 1, ….
    limit : float
        Seconds of the processor for one cell.
    budget : float
        Seconds of the clock after which no cell is begun.
    again : bool
        Run what is there already as well.
    """
    began = time.monotonic()
    for name in THREADS:
        os.environ[name] = str(min(2, int(os.environ.get(name, "2"))))
    for cells in plan(datasets, models, seeds):
        missing = [cell for cell in cells if again or not cell.finished]
        with tempfile.TemporaryDirectory(prefix="fairsynth-field-") as folder:
            for cell in missing:
                if time.monotonic() - began > budget:
                    return
                if cell.model in OF_TEACHER and not (Path(folder) / "teacher.json").exists():
                    _alone(_teach, limit, cell, folder)
                one(cell, folder, limit)


def one(cell: Cell, folder: str, limit: float) -> None:
    """Run one cell in a new process; if that ends without a result, the reason is kept in its place."""
    before = cell.path.stat().st_mtime_ns if cell.path.exists() else 0
    reason = _alone(_work, limit, cell, folder)
    if not cell.path.exists() or cell.path.stat().st_mtime_ns == before:
        _keep(cell.path, _head(cell) | {"failed": reason})
    told = json.loads(cell.path.read_text())
    print(cell.dataset, cell.model, cell.seed, told.get("failed") or told["scores"], flush=True)


def _alone(work: Callable[..., None], limit: float, *args: Any) -> str:
    """Run something in a new process, and return how that ended."""
    process = multiprocessing.get_context("spawn").Process(target=_ended, args=(work, int(limit), *args))
    process.start()
    try:
        process.join(PATIENCE * limit)
        late = process.is_alive()
    finally:  # Ctrl-C as well
        process.kill()
        process.join()
    if late or process.exitcode == -signal.SIGXCPU:
        return f"took longer than {limit:.0f} s of the processor, or {PATIENCE} times that of the clock"
    return f"the process ended with code {process.exitcode}"


def _ended(work: Callable[..., None], limit: int, *args: Any) -> None:
    """Do the work in a process that ends at its limit, and with the one that began it.

    Else a killed run would go on beside the next one, and both would write the same cells.
    """

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    work(*args)


def _keep(path: Path, body: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = path.with_suffix(".part")
    kept.write_text(json.dumps(body, indent=1) + "\n")
    kept.replace(path)


def _head(cell: Cell) -> dict[str, Any]:
    """Return what a result is of, and under which conditions it comes about."""
    return {
        "dataset": cell.dataset, "sensitive": TABLES[cell.dataset], "model": cell.model, "seed": cell.seed,
        "day": time.strftime("%Y-%m-%d"), "commit": _commit(), "machine": machine(),
        "settings": _method(cell)[1], "load_average": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def _method(cell: Cell) -> tuple[str, dict[str, Any]]:
    """Return the name in the registry, and the settings that are not defaults."""
    name, settings = VARIANTS.get(cell.model, (cell.model, {}))
    return name, settings | (SETTINGS.get(cell.model, {}) if cell.dataset in LARGE else {})


def _work(cell: Cell, folder: str) -> None:
    import fairsynth as fs
    from benchmarks.quality import scores

    train, test = load(cell.dataset, [TABLES[cell.dataset]])
    body = _head(cell)
    try:
        if cell.model == "real":
            evaluation = fs.evaluate(train, test, train, seed=cell.seed, depth="quick")
            body["scores"] = scores(evaluation, train, "real")
            body["constant"] = _constant(evaluation, train)
        else:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                fitted, costs = _fit(cell, train, Path(folder))
            body |= costs | {"warnings": sorted({str(w.message) for w in heard if _ours(w)})}
            body |= _drawing(fitted, max(len(train), DRAWN), cell.seed)
            drawn = fitted.sample_table(len(train), seed=cell.seed)
            evaluation = fs.evaluate(train, test, drawn, seed=cell.seed, depth="quick")
            body["scores"] = scores(evaluation, train, "synthetic")
    except Exception as error:  # a method that fails is a result, too
        body["failed"] = f"{type(error).__name__}: {error}"
        if type(error).__name__ == "MissingDependencyError":
            body["failed"] = f"not installed: {error}"
    _keep(cell.path, body)


def _ours(heard: warnings.WarningMessage) -> bool:
    from fairsynth.errors import FairsynthWarning

    return issubclass(heard.category, FairsynthWarning)


def _constant(evaluation: Any, train: Any) -> dict[str, float]:
    """Return the numbers of the constant predictor."""
    attribute = " × ".join(train.schema.sensitive)
    where = {"dpr": attribute, "eor": attribute, "auroc": None, "accuracy": None, "balanced_accuracy": None}
    return {
        metric: evaluation.value(metric, source="constant", model="mean", attribute=by)
        for metric, by in where.items()
    }


def _teach(cell: Cell, folder: str) -> None:
    """Fit the teacher of a table and seed for methods that need one."""
    from fairsynth.generators.registry import get_generator_class

    train, _ = load(cell.dataset, [TABLES[cell.dataset]])
    settings: dict[str, Any] = {"seed": cell.seed}
    made, costs = _timed(lambda: get_generator_class(TEACHER)(**settings).fit(train))
    _lend(made, costs, Path(folder))


def _lend(teacher: Any, costs: dict[str, float], folder: Path) -> None:
    teacher.save(folder / "teacher.fairsynth")
    (folder / "teacher.json").write_text(json.dumps(costs))


def _fit(cell: Cell, train: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    """Return a fitted method and what the fit cost, and apart from it the teacher's if it has one."""
    from fairsynth.generators.registry import get_generator_class

    name, settings = _method(cell)
    kind: Any = get_generator_class(name)
    given: dict[str, Any] = {**settings, "seed": cell.seed}
    teacher = folder / "teacher.fairsynth"
    before = _memory("VmRSS")
    extra: dict[str, Any] = {}
    if cell.model in OF_TEACHER:
        if not teacher.exists():
            raise RuntimeError("the teacher could not be fitted; see the cell of fairvae")
        extra["teacher"] = json.loads((folder / "teacher.json").read_text())
    if name == "fair4free":
        made, costs = _timed(lambda: kind(**given).distill(teacher))
    elif cell.model in OF_TEACHER:
        made, costs = _timed(lambda: kind(**given, teacher=teacher).fit(train))
    else:
        made, costs = _timed(lambda: kind(**given).fit(train))
    extra |= {"memory_mb": _memory("VmHWM"), "memory_before_mb": before, "memory_of": "this fit"}
    if cell.model == TEACHER:
        _lend(made, costs, folder)
    return made, {"fit": costs} | extra


def _timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return what the work gives, and its seconds by the clock and by the processor (own process, all threads)."""
    clock, processor = time.perf_counter(), time.process_time()
    done = work()
    return done, {
        "seconds": round(time.perf_counter() - clock, 2),
        "cpu_seconds": round(time.process_time() - processor, 2),
    }


def _drawing(fitted: Any, n: int, seed: int) -> dict[str, Any]:
    """Draw rows to Parquet and return how many come in a second, by the clock and by the processor."""
    with tempfile.TemporaryDirectory() as folder:
        fitted.sample_table(100, seed=seed)  # what is loaded lazily is loaded now
        _, costs = _timed(lambda: fitted.sample_to(Path(folder) / "rows.parquet", n, seed=seed))
    return {
        "drawn": n,
        "rows_a_second": round(n / max(costs["seconds"], 0.01)),
        "rows_a_cpu_second": round(n / max(costs["cpu_seconds"], 0.01)),
    }


def _memory(what: str) -> int:
    """Return resident memory of this process in MB: ``"VmRSS"`` now, ``"VmHWM"`` at its highest so far.

    The highest is that of the process alone: `resource` gives on Linux the one of the process that began it, if more.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(f"{what}:"):
                return round(int(line.split()[1]) / 1024)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _commit() -> str:
    here = Path(__file__).parent
    said = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return said.stdout.strip()
