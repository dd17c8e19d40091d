"""Numbers that are never above others: the least that is offered and the most, what is owed and what may be.

Drawn one given the other, each in its own intervals, such numbers cross in some rows. So pairs that next to never cross
in the table, and often would by chance, are remembered, and drawn rows keep to them: states that must cross are drawn
again (`generators.tree_rows`), then the numbers inside their intervals, and what still crosses changes places. Ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import polars as pl

from fairsynth.data.schema import Schema
from fairsynth.data.table import Table

#: Share of the rows in which two numbers may cross and count as never crossing.
NEVER = 0.001
#: Share of the rows, and number of them, in which they would cross if one were another person's.
BY_CHANCE = 0.02
MIN_EXPECTED = 20
#: Rows by which pairs are looked through at first, and how many of them may cross.
FIRST_ROWS = 500
FIRST_CROSSED = 3
#: How often numbers that cross are drawn again inside their intervals.
TRIES = 8


def find_ordered(table: Table, apart: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Find the numbers that are never below others.

    Parameters
    ----------
    table : Table
        Rows.
    apart : collection of str
        Columns that have no part in it, besides the target.

    Returns
    -------
    dict
        Column → those that it is never below, but for what follows from others. Rows that lack one of the two do not
        count.
    """
    schema = table.schema
    names = [c.name for c in schema if c.is_numeric and c.name not in {schema.target, *apart}]
    numbers = {name: table.frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in names}
    if len(names) < 2:
        return {}
    first = np.stack([numbers[name][:: max(1, len(table) // FIRST_ROWS)] for name in names], axis=1)
    in_turn = np.sort(first, axis=0)
    k = len(names)
    below, reached = np.zeros((k, k), dtype=bool), np.eye(k, dtype=bool)
    for j in range(k):
        crossed = (first > first[:, [j]]).sum(0)
        for i in np.flatnonzero(crossed <= FIRST_CROSSED).tolist():
            # Columns that are next to always the same are never above each other either: one order of them is enough.
            if (
                not reached[j, i]
                and i != j
                and _overlap(in_turn[:, i], first[:, j])
                and _never_above(numbers[names[i]], numbers[names[j]])
            ):
                below[i, j] = True
                reached |= np.outer(reached[:, i], reached[j])
    # What is below a column that is below another one is below that as well, unless the one between is missing.
    whole = np.array([not np.isnan(numbers[name]).any() for name in names])
    steps = below.astype(np.int64)
    below &= (steps[:, whole] @ steps[whole]) == 0
    return {
        names[j]: tuple(names[i] for i in np.flatnonzero(below[:, j]).tolist())
        for j in range(k)
        if below[:, j].any()
    }


def _overlap(low: np.ndarray, high: np.ndarray) -> bool:
    """Say whether some sorted numbers would often be above others ``(n,)`` by chance; half of what is asked will do."""
    low, high = low[~np.isnan(low)], high[~np.isnan(high)]
    if not len(low) or not len(high):
        return False
    above = len(low) - np.searchsorted(low, high, side="right")
    return bool(above.mean() >= len(low) * BY_CHANCE / 2)


def _never_above(low: np.ndarray, high: np.ndarray) -> bool:
    known = ~(np.isnan(low) | np.isnan(high))
    low, high = low[known], high[known]
    if not len(low) or (low > high).mean() > NEVER:
        return False
    # The number of those that lie above, over all pairs of people.
    above = len(low) - np.searchsorted(np.sort(low), high, side="right")
    by_chance = float(above.mean()) / len(low)
    return by_chance >= BY_CHANCE and by_chance * len(low) >= MIN_EXPECTED


def pairs_of(
    below: Mapping[str, Sequence[str]], schema: Schema, apart: Collection[str]
) -> list[tuple[str, str]]:
    """Return pairs of a lower and a higher column, such that a column is the higher one before it is the lower one.

    Parameters
    ----------
    below : mapping
        As `find_ordered` returns it.
    schema : Schema
        Of the columns.
    apart : collection of str
        Columns that can have no part in it.

    Raises
    ------
    ValueError
        If a column can have no part in it, or the pairs lead round in a circle.
    """
    for high, lows in below.items():
        for name in (high, *lows):
            if name not in schema.names or not schema[name].is_numeric or name in {schema.target, *apart}:
                raise ValueError(f"column {name!r} cannot be kept in order with others")
    pairs: list[tuple[str, str]] = []
    left = dict(below)
    while left:
        ready = [high for high, lows in left.items() if not any(low in left for low in lows)]
        if not ready:
            raise ValueError("columns are kept in order in a circle")
        for high in ready:
            pairs += [(low, high) for low in left.pop(high)]
    return pairs


def crossing(low: pl.Series, high: pl.Series) -> np.ndarray:
    """Return the rows in which one number is above the other one, int64 ``(m,)``; missing ones cross nothing."""
    return np.flatnonzero((low > high).fill_null(False).to_numpy())


def in_order(
    values: dict[str, pl.Series],
    pairs: Sequence[tuple[str, str]],
    fixed: Collection[str],
    again: Callable[[str, np.ndarray], pl.Series],
    canonical: Callable[[str, np.ndarray], pl.Series],
) -> dict[str, pl.Series]:
    """Return numbers that do not cross.

    Parameters
    ----------
    values : dict
        Canonical numbers ``(n,)`` by column.
    pairs : sequence of tuple
        As `pairs_of` returns them.
    fixed : collection of str
        Columns that stay as they are.
    again : callable
        Column and rows to numbers drawn anew inside the intervals of these rows.
    canonical : callable
        Column and float64 numbers to canonical ones, on its grid and in its range.

    Returns
    -------
    dict
        Of two that cross, both are drawn again; if that does not help they change places, and if not even that, the
        higher one is raised, or the lower one lowered, to the other.
    """
    values = dict(values)

    def put(name: str, rows: np.ndarray, numbers: pl.Series) -> None:
        values[name] = values[name].scatter(rows, numbers)

    for low, high in pairs:
        free = [name for name in (low, high) if name not in fixed]
        for _ in range(TRIES if free else 0):
            rows = crossing(values[low], values[high])
            if not len(rows):
                break
            for name in free:
                put(name, rows, again(name, rows))
    for low, high in pairs:
        rows = crossing(values[low], values[high])
        if len(rows) and low not in fixed and high not in fixed:
            one, other = (values[name].gather(rows).cast(pl.Float64).to_numpy() for name in (low, high))
            put(low, rows, canonical(low, other))
            put(high, rows, canonical(high, one))
    for name_of in (lambda low, high: (high, low), lambda low, high: (low, high)):
        for low, high in pairs:
            name, other = name_of(low, high)
            rows = crossing(values[low], values[high])
            if len(rows) and name not in fixed:
                put(name, rows, canonical(name, values[other].gather(rows).cast(pl.Float64).to_numpy()))
    return values
