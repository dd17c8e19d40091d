"""One cell: data read, method fitted, rows drawn, all judged; its results are files in a folder of its own."""

from __future__ import annotations

import gzip
import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.benchmark.cells import Cell
from fairsynth.benchmark.plan import Dataset
from fairsynth.errors import DataError
from fairsynth.files import write_text

if TYPE_CHECKING:
    from fairsynth.data.table import Table
    from fairsynth.evaluation.result import Evaluation, Score

#: What the row of a cell is called in its own file; baselines keep the sources of the evaluation.
METHOD = "method"
_BASELINES = ("real", "constant", "holdout")


def request(
    cell: Cell, dataset: Dataset, *, threads: int, report: bool, journal: Path | None = None
) -> dict[str, Any]:
    """Return all that a process needs to know to run a cell, as plain JSON values."""
    return {
        "cell": cell.to_dict(),
        "dataset": dataset.model_dump(mode="json", exclude_defaults=True),
        "threads": threads,
        "report": report,
        "journal": None if journal is None else str(journal),
        "tables": None,
    }


def run_cell(asked: dict[str, Any], desk: Path) -> None:
    """Run a cell and write ``result.json`` (last), ``evaluation.json.gz`` and ``report.html`` into `desk`.

    An exception of the method or the data is a result, too: it is written with its reason, and not raised.

    Parameters
    ----------
    asked : dict
        Of `request`.
    desk : Path
        Folder that is this cell's alone.
    """
    body: dict[str, Any] = {"seconds": {}, "scores": [], "found": None}
    began = time.perf_counter()
    try:
        body |= _measured(asked, desk, body["seconds"])
        body["status"] = "done"
    except Exception as error:  # whatever a method raises is what there is to say of it
        body["status"] = "failed"
        body["reason"] = f"{type(error).__name__}: {error}"
        body["cause"] = "missing" if type(error).__name__ == "MissingDependencyError" else "error"
        body["traceback"] = traceback.format_exc(limit=-12)
    body["seconds"]["total"] = round(time.perf_counter() - began, 3)
    write_text(desk / "result.json", json.dumps(body, ensure_ascii=False, allow_nan=False) + "\n")


def _measured(asked: dict[str, Any], desk: Path, seconds: dict[str, float]) -> dict[str, Any]:
    cell = Cell.from_dict(asked["cell"])

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        (desk / "stage").write_text(name, encoding="utf-8")
        start = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - start, 3)

    with stage("load"):
        train, test = _tables(asked)
        _refuse_other_rows(cell, train, test)
    settings, found = cell.settings, None
    if cell.search is not None:
        from fairsynth.benchmark.search import search

        with stage("search"):
            found = search(cell, train, threads=asked["threads"], journal=asked["journal"])
        settings = settings | found["settings"]
    if cell.kind == "mitigator":
        evaluation, source, synthetic = _mitigated(cell, settings, train, test, stage)
    else:
        evaluation, source, synthetic = _generated(cell, settings, train, test, asked["threads"], stage)
    own = []
    if cell.metrics:
        with stage("own metrics"):
            own = _own_metrics(cell, evaluation, source, train, test, synthetic)
    evaluation.meta["title"] = cell.title
    with stage("write"):
        packed = gzip.compress(evaluation.to_json(indent=None).encode(), compresslevel=6, mtime=0)
        (desk / "evaluation.json.gz").write_bytes(packed)
    if asked["report"]:
        with stage("report"):
            from fairsynth.report import write_html

            # t-SNE takes longer than many a method does.
            write_html(evaluation, desk / "report.html", projections=("pca",))
    return {
        "scores": _headline(cell, [*evaluation.scores, *own], source),
        "settings": settings,
        "found": found,
        "rows": {"train": len(train), "test": len(test)},
        "versions": evaluation.meta.get("versions", {}),
        "notes": evaluation.meta.get("notes", []),
    }


def _tables(asked: dict[str, Any]) -> tuple[Table, Table]:
    if asked.get("tables") is None:
        from fairsynth.benchmark.datasets import load

        return load(Dataset.model_validate(asked["dataset"]))
    from fairsynth.benchmark.tables import unpack

    return unpack(Path(asked["tables"]))


def _refuse_other_rows(cell: Cell, train: Table, test: Table) -> None:
    from fairsynth.benchmark.datasets import digest

    if digest(train, test) != cell.data:
        raise DataError(
            f"the rows of data set {cell.dataset!r} changed while the plan was run; run the plan again."
        )


Stage = Callable[[str], Any]


def _generated(
    cell: Cell, settings: dict[str, Any], train: Table, test: Table, threads: int, stage: Stage
) -> tuple[Evaluation, str, Table]:
    from fairsynth.evaluation.evaluate import evaluate

    info: dict[str, Any] = {"model": cell.label, "settings": settings, "seed": cell.seed}
    if cell.kind == "baseline":
        synthetic = train
    else:
        from fairsynth.benchmark.methods import build

        model = build(cell.model, settings, cell.criterion, cell.strength, cell.seed)
        if cell.criterion is not None:
            info |= {"criterion": cell.criterion, "strength": cell.strength}
        with stage("fit"):
            model.fit(train)
        with stage("sample"):
            synthetic = model.sample_table(len(train), seed=cell.seed)
    with stage("evaluate"):
        from fairsynth.benchmark.datasets import comparable

        train, test, synthetic = comparable(train, test, synthetic)
        evaluation = evaluate(
            train, test, synthetic, models=cell.downstream, seed=cell.seed, depth=cell.depth, threads=threads,
            generator_info=info,
        )  # fmt: skip
    return evaluation, ("real" if cell.kind == "baseline" else "synthetic"), synthetic


def _mitigated(
    cell: Cell, settings: dict[str, Any], train: Table, test: Table, stage: Stage
) -> tuple[Evaluation, str, None]:
    from fairsynth.benchmark.methods import build
    from fairsynth.evaluation.mitigation import PREFIX, evaluate_mitigator

    mitigator = build(cell.model, settings, cell.criterion, cell.strength, cell.seed)
    with stage("fit"):
        mitigator.fit(train)
    with stage("evaluate"):
        evaluation = evaluate_mitigator(
            train, test, mitigator, name=cell.label, seed=cell.seed, depth=cell.depth
        )
    return evaluation, PREFIX + cell.label, None


def _own_metrics(
    cell: Cell, evaluation: Evaluation, source: str, train: Table, test: Table, synthetic: Table | None
) -> list[Score]:
    from fairsynth.benchmark.own_metrics import Judged, measure

    judged = Judged(train, test, synthetic, evaluation, source)
    found = [score for name in cell.metrics for score in measure(name, judged)]
    evaluation.scores.extend(found)
    return found


def _headline(cell: Cell, scores: list[Score], source: str) -> list[list[Any]]:
    """Return the scores of the whole table, over all models, as rows of `store.SCORE_FIELDS`, each once."""
    wanted = {name: name for name in _BASELINES} if cell.kind == "baseline" else {source: METHOD}
    rows: dict[tuple[Any, ...], list[Any]] = {}
    for s in scores:
        if s.source not in wanted or s.model not in (None, "mean"):
            continue
        if s.group is not None or s.column is not None or s.label is not None:
            continue
        row = [wanted[s.source], s.section, s.metric, s.attribute, s.value, s.low, s.high, s.note]
        rows[(*row[:4],)] = row
    return list(rows.values())
