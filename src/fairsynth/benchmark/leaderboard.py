"""The leaderboard: what the cells of a benchmark say when they are put side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.benchmark.board import (
    COLUMNS,
    CONSTANT,
    COSTS,
    FOR_NUMBERS,
    LOWER,
    REAL,
    Leaderboard,
    Link,
    Measure,
    Number,
    Row,
    Standing,
    oriented,
)
from fairsynth.benchmark.cells import Cell
from fairsynth.benchmark.store import Store
from fairsynth.benchmark.worker import METHOD
from fairsynth.errors import SettingsError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Leaderboard", "Link", "Measure", "Number", "Row", "Standing", "read_leaderboard"]

#: Between the columns of a joint attribute.
_JOINT = " × "


def read_leaderboard(
    folder: str | os.PathLike[str],
    *,
    fairness: str = "dpr",
    utility: str = "auroc",
    fidelity: str = "coverage",
    attribute: str | None = None,
    everything: bool = False,
) -> Leaderboard:
    """Compare what the cells of a benchmark's folder say.

    Parameters
    ----------
    folder : path
        Of `fairsynth.benchmark.run_plan`.
    fairness, utility, fidelity : str
        Metrics of the front and the ranks.
    attribute : str, optional
        Sensitive column; by default the worst of those of each data set.
    everything : bool, default=False
        Cells of all plans that were run in the folder, not only of the last.

    Returns
    -------
    Leaderboard

    Raises
    ------
    DataError
        If no plan was run in the folder.
    SettingsError
        If a metric or the attribute was measured in no cell.
    """
    store = Store(folder)
    plan = store.latest_plan()
    cells = [Cell.from_dict(given) for given in plan["cells"]]
    remarks = list(plan["remarks"])
    if everything:
        cells += _older(store, {cell.key for cell in cells})
    lower = LOWER | _own_lower(cells)
    roles = {"fairness": fairness, "utility": utility, "fidelity": fidelity}
    scores = store.frame()
    columns = _columns(roles, cells)
    rows = _rows(cells, scores, columns, attribute, lower)
    done = sum(link.status == "done" for row in rows if row.kind != "constant" for link in row.cells)
    failed = sum(len(row.failures) for row in rows if row.kind != "constant")
    meta = {
        "depth": sorted({cell.depth for cell in cells}),
        "seeds": sorted({cell.seed for cell in cells}),
        "code": sorted({cell.code for cell in cells if cell.kind == "baseline"}),
        "cells": len({cell.key for cell in cells}),
        "failed": failed,
    }
    board = Leaderboard(plan["name"], Path(folder), rows, columns, roles, [], attribute, lower, meta, remarks)
    _refuse_unmeasured(board, scores, attribute, done)
    board.columns = [c for c in columns if any(c in row.numbers for row in rows)]
    for dataset in board.datasets:
        _mark_front(board, dataset)
    board.measures = [_measure(board, role, scores, cells) for role in roles]
    _remark(board, len(cells))
    return board


def _older(store: Store, known: set[str]) -> list[Cell]:
    found: dict[str, Cell] = {}
    for file in sorted(store.plans.glob("*.json"), key=lambda p: p.stat().st_mtime_ns, reverse=True):
        body = store.plan(file.stem)
        for given in body["cells"] if body is not None else ():
            cell = Cell.from_dict(given)
            if cell.key not in known:
                found.setdefault(cell.key, cell)
    there = store.keys()
    return [cell for key, cell in found.items() if key in there]


def _own_lower(cells: Iterable[Cell]) -> frozenset[str]:
    from fairsynth.benchmark.own_metrics import higher_is_better

    names = {name for cell in cells for name in cell.metrics}
    found = set()
    for name in names:
        try:
            if not higher_is_better(name):
                found.add(name)
        except SettingsError:
            continue  # its package is not installed here: shown as it is
    return frozenset(found)


def _columns(roles: Mapping[str, str], cells: Iterable[Cell]) -> list[str]:
    own = [name for cell in cells for name in cell.metrics]
    for_numbers = [FOR_NUMBERS[metric] for metric in roles.values() if metric in FOR_NUMBERS]
    return list(dict.fromkeys([*roles.values(), *for_numbers, *COLUMNS, *own, *COSTS]))


def _rows(
    cells: list[Cell], scores: pl.DataFrame, columns: list[str], attribute: str | None, lower: frozenset[str]
) -> list[Row]:
    numbers = _numbers(scores, columns, attribute, lower)
    costs, fate = _costs(scores)
    rows: dict[tuple[Any, ...], Row] = {}
    members: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        kinds = ("real", "constant") if cell.kind == "baseline" else (cell.kind,)
        for kind in kinds:
            label = {"real": REAL, "constant": CONSTANT}.get(kind, cell.label)
            place = (cell.dataset, label, cell.criterion, cell.strength)
            if place not in rows:
                rows[place] = Row(cell.dataset, label, kind, cell.criterion, cell.strength)
            members.setdefault(place, []).append(cell)
            status, reason = fate.get(cell.key, ("missing", None))
            rows[place].cells.append(Link(cell.seed, cell.key, status, reason))
    for place, row in rows.items():
        wanted = (
            ("constant",)
            if row.kind == "constant"
            else ("real", "holdout")
            if row.kind == "real"
            else (METHOD,)
        )
        keys = [cell.key for cell in members[place]]
        for column in columns:
            found: list[float] = []
            if column in COSTS:
                if not row.baseline:
                    found = [costs[key, column] for key in keys if (key, column) in costs]
            else:
                for key in keys:
                    for source in wanted:
                        value = numbers.get((key, source, column))
                        if value is not None:
                            found.append(value)
                            break
            if found:
                row.numbers[column] = _number(found)
    order = {name: i for i, name in enumerate(dict.fromkeys(cell.dataset for cell in cells))}
    return sorted(rows.values(), key=lambda row: (order[row.dataset], row.baseline))


def _number(values: list[float]) -> Number:
    n = len(values)
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else None
    return Number(mean, spread, n)


def _numbers(
    scores: pl.DataFrame, columns: list[str], attribute: str | None, lower: frozenset[str]
) -> dict[tuple[str, str, str], float]:
    """Return (key, source, metric) → value; of several attributes the one that is asked for, or the worst."""
    import polars as pl

    there = scores.filter(pl.col("metric").is_in(columns) & pl.col("value").is_not_null())
    # The two kinds of baselines differ in what they have: likeness to real rows is that of hold-out rows.
    there = there.filter(~((pl.col("source") == "real") & pl.col("section").is_in(["fidelity", "privacy"])))
    if attribute is not None:
        there = there.filter(pl.col("attribute").is_null() | (pl.col("attribute") == attribute))
    else:
        there = there.filter(
            pl.col("attribute").is_null() | ~pl.col("attribute").str.contains(_JOINT, literal=True)
        )
    worst = (
        pl.when(pl.col("metric").first().is_in(list(lower)))
        .then(pl.col("value").max())
        .otherwise(pl.col("value").min())
    )
    found = there.group_by("key", "source", "metric").agg(worst.alias("value"))
    return {(key, source, metric): value for key, source, metric, value in found.iter_rows()}


def _costs(
    scores: pl.DataFrame,
) -> tuple[dict[tuple[str, str], float], dict[str, tuple[str, str | None]]]:
    once = scores.unique("key", keep="any")
    costs: dict[tuple[str, str], float] = {}
    fate: dict[str, tuple[str, str | None]] = {}
    for key, status, reason, fit, memory in once.select(
        "key", "status", "reason", "fit_seconds", "memory_mb"
    ).iter_rows():
        fate[key] = (status, reason)
        if status == "done":
            costs |= {(key, n): v for n, v in (("fit_seconds", fit), ("memory_mb", memory)) if v is not None}
    return costs, fate


def _refuse_unmeasured(board: Leaderboard, scores: pl.DataFrame, attribute: str | None, done: int) -> None:
    if not done:
        return  # nothing was measured at all, which the leaderboard says
    there = {metric for row in board.rows for metric in row.numbers}
    for role, metric in board.roles.items():
        if metric not in there and FOR_NUMBERS.get(metric) not in there:
            names = sorted(set(scores["metric"].drop_nulls().to_list()))
            told = ", ".join(names)
            where = f" for attribute {attribute!r}" if attribute is not None else ""
            if metric not in names:
                raise SettingsError(f"{role}={metric!r} was measured in no cell; measured were {told}.")
            if where:
                known = sorted(set(scores["attribute"].drop_nulls().to_list()))
                raise SettingsError(f"attribute={attribute!r} is not known; there are {', '.join(known)}.")


def _mark_front(board: Leaderboard, dataset: str) -> None:
    from fairsynth.benchmark.compare import pareto

    rows = [row for row in board.of(dataset) if not row.baseline]
    points = [_point(board, row) for row in rows]
    if points:
        for row, on in zip(rows, pareto(points), strict=True):
            row.front = bool(on)


def _point(board: Leaderboard, row: Row) -> tuple[float, float, float]:
    """Return fairness, utility and fidelity of a row, more being better."""
    found = []
    for role in ("fairness", "utility", "fidelity"):
        metric = board.metric_on(role, row.dataset)
        number = row.numbers.get(metric)
        if number is None:
            # A mitigator makes no rows, so that it has no likeness; any other gap is no point at all.
            found.append(float("-inf") if role == "fidelity" and row.kind == "mitigator" else float("nan"))
        else:
            found.append(oriented(metric, number.mean, board.lower))
    return found[0], found[1], found[2]


def _measure(board: Leaderboard, role: str, scores: pl.DataFrame, cells: list[Cell]) -> Measure:
    import numpy as np

    from fairsynth.benchmark.compare import critical_difference, paired_bootstrap, ranks

    metric = board.roles[role]
    kinds = {row.method: row.kind for row in board.rows if not row.baseline}
    methods = [m for m, kind in kinds.items() if role != "fidelity" or kind != "mitigator"]
    sets = board.datasets
    seeds = sorted({cell.seed for cell in cells})
    if not methods:
        return Measure(role, metric, [], None)
    on = {dataset: board.metric_on(role, dataset) for dataset in sets}
    numbers = _numbers(scores, sorted(set(on.values())), board.attribute, board.lower)
    values = np.full((len(methods), len(sets), len(seeds)), np.nan)
    place = {m: i for i, m in enumerate(methods)}
    where = {d: i for i, d in enumerate(sets)}
    when = {s: i for i, s in enumerate(seeds)}
    for cell in cells:
        i = place.get((cell.label, cell.criterion, cell.strength))
        value = numbers.get((cell.key, METHOD, on[cell.dataset]))
        if i is not None and value is not None:
            values[i, where[cell.dataset], when[cell.seed]] = oriented(on[cell.dataset], value, board.lower)
    there = ~np.isnan(values)
    count = there.sum(axis=2)
    means = np.divide(
        np.where(there, values, 0).sum(axis=2), count, out=np.full(count.shape, np.nan), where=count > 0
    )
    placed = ranks(means)
    mean_rank = placed.mean(axis=1)
    best = int(mean_rank.argmin())
    difference, low, high = paired_bootstrap(values, best)
    standings = [
        Standing(
            m,
            float(mean_rank[i]),
            float(difference[i]),
            float(low[i]),
            float(high[i]),
            int((count[i] > 0).sum()),
        )
        for i, m in enumerate(methods)
    ]
    standings.sort(key=lambda s: s.rank)
    return Measure(role, metric, standings, critical_difference(placed))


def _remark(board: Leaderboard, cells: int) -> None:
    missing = sum(
        link.status == "missing" for row in board.rows if row.kind != "constant" for link in row.cells
    )
    if missing:
        board.remarks.append(f"{missing} of {cells} cells have no result yet: run the plan again to go on.")
    if board.meta["failed"]:
        board.remarks.append(
            f"{board.meta['failed']} cells failed. A method without a number on a data set shares the last rank there."
        )
    if len(board.meta["seeds"]) == 1:
        board.remarks.append("One seed only: there are no standard deviations, and ranks may be chance.")
    if len(board.datasets) < 5:
        board.remarks.append(
            f"{len(board.datasets)} data set{'s' if len(board.datasets) > 1 else ''}: ranks over so few say little; "
            "the intervals show how little."
        )
    if any(row.kind == "mitigator" for row in board.rows):
        board.remarks.append(
            "Mitigators are judged by their own model's decisions; generators by the mean of models trained on "
            "their rows. A mitigator makes no rows, so it has no likeness or privacy of rows."
        )
    if len(board.meta["code"]) > 1:
        board.remarks.append("Cells of several versions of the code stand side by side.")
