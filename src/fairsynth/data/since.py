"""Moments told by the time since another one: who is discharged was admitted before.

Two dates drawn each by itself come apart: a third of the stays in a made hospital ended before they began, and their
lengths were those of nobody. So a moment that is never, or next to never, before another one is known by the time
between the two, and trees and networks learn that in its place; drawn, it is added to the other one again. Ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import polars as pl

from fairsynth.data.derived import clearly_more
from fairsynth.data.measure import private_range
from fairsynth.data.moments import DATETIME
from fairsynth.data.schema import MICROSECONDS, Column, Schema
from fairsynth.data.table import Table

#: Rows that both moments have to be known of.
MIN_ROWS = 100
#: Share of them in which one has to be no earlier than the other.
NEVER_BEFORE = 0.99
#: Share of the people for whom that would not be so if one moment were somebody else's: with less there is nothing to
#: be kept, as between births and applications.
BY_CHANCE = 0.02
#: Most frequent moments that have to come as often as they do: the first of a month, or a day that means never.
USUAL = 5


def find_since(table: Table, computed: Collection[str], sources: Collection[str] = ()) -> dict[str, str]:
    """Find the moments that are known best by the time since another one.

    Parameters
    ----------
    table : Table
        Rows.
    computed : collection of str
        Columns that follow from others, and so are known last.
    sources : collection of str
        Columns that others follow from: others may be told from them, but they from none.

    Returns
    -------
    dict
        Column → the moment that it is never before, and that it is nearest to. The target and sensitive columns have
        no part in it.
    """
    schema = table.schema
    apart = {schema.target, *schema.sensitive, *computed}
    moments = [c.name for c in schema if c.kind == "datetime" and c.name not in apart]
    found: dict[str, str] = {}
    if len(table) < MIN_ROWS:
        return found
    numbers = {name: table.frame[name].to_physical() for name in moments}
    for name in (name for name in moments if name not in sources):
        spreads = {}
        for start in moments:
            if start == name or _leads_to(start, name, found):
                continue
            if _step(schema[start]) % _step(schema[name]):
                continue  # what is added to an hour is no day
            between = (numbers[name] - numbers[start]).drop_nulls()
            if len(between) < max(MIN_ROWS, numbers[name].len() - numbers[name].null_count()):
                continue  # nothing could be added to a moment that is missing
            if _holds(numbers[name], numbers[start], between) and _comes_out(numbers[name], numbers[start]):
                spreads[start] = float(between.cast(pl.Float64).to_numpy().std())
        if spreads:
            found[name] = min(spreads, key=lambda start: spreads[start])
    return found


def _holds(values: pl.Series, start: pl.Series, between: pl.Series) -> bool:
    """Say whether one moment is next to never before the other, and would be if they were of different people."""
    broken = float((between.to_numpy() < 0).mean())
    shuffled = start.drop_nulls().sample(fraction=1.0, shuffle=True, seed=0).to_numpy()
    own = values.drop_nulls().to_numpy()
    n = min(len(own), len(shuffled))
    by_chance = float((own[:n] < shuffled[:n]).mean())
    return broken <= 1 - NEVER_BEFORE and by_chance >= max(BY_CHANCE, 5 * broken)


def _comes_out(values: pl.Series, start: pl.Series) -> bool:
    """Say whether a moment keeps its face if it is told from another one: its usual values are as usual then.

    They are not if they do not hang on the other one, which shows where that is another person's.
    """
    both = pl.DataFrame({"value": values, "start": start}).drop_nulls()
    other = both["start"].sample(fraction=1.0, shuffle=True, seed=1)
    usual = both["value"].value_counts(sort=True, name="rows").head(USUAL)["value"].implode()
    made = both["value"] - both["start"] + other
    shares = [float(one.is_in(usual).cast(pl.Float64).to_numpy().mean()) for one in (both["value"], made)]
    return not clearly_more(shares[0], shares[1], len(both))


def _leads_to(start: str, name: str, found: Mapping[str, str]) -> bool:
    while start in found:
        start = found[start]
        if start == name:
            return True
    return False


def _step(column: Column) -> int:
    return MICROSECONDS[column.unit or "microsecond"]


def time_between(values: pl.Series, start: pl.Series) -> pl.Series:
    """Return the time between two moments as moments after 1970, as which it is learned; missing where one of them is.

    Parameters
    ----------
    values, start : pl.Series
        Canonical moments ``(n,)``.
    """
    return (values.to_physical() - start.to_physical()).cast(DATETIME).alias(values.name)


def told_by(column: Column, between: pl.Series, persons: np.ndarray | None = None) -> Column:
    """Return a column as one of times between moments ``(n,)``: with a range of these, which is nobody's own."""
    low, high = private_range(between.to_physical(), step=_step(column), persons=persons)
    return _within(column, int(low), int(high))


def widest(column: Column, start: Column) -> Column:
    """Return a column as one of times between moments, with the widest range that there can be."""
    (low, high), (first, last) = column.bounds, start.bounds
    return _within(column, int(low - last), int(high - first))


def added(between: pl.Series, start: pl.Series, column: Column) -> pl.Series:
    """Return the moments that lie so long after others, within the range of the column, ``(n,)``."""
    low, high = (int(end) for end in column.bounds)
    return (between.to_physical() + start.to_physical()).clip(low, high).cast(DATETIME).alias(column.name)


def in_turn(since: Mapping[str, str]) -> list[str]:
    """Return columns such that each comes after the one that it is told from.

    Raises
    ------
    ValueError
        If there is no such order.
    """
    order: list[str] = []
    while len(order) < len(since):
        ready = [
            name
            for name, start in since.items()
            if name not in order and (start not in since or start in order)
        ]
        if not ready:
            raise ValueError("moments are told from each other in a circle")
        order += ready
    return order


def check_since(
    since: Mapping[str, str], schema: Schema, computed: Collection[str], sources: Collection[str]
) -> None:
    """Raise ValueError if these columns cannot be told from others in this schema."""
    for name, start in since.items():
        if start not in schema.names or any(schema[one].kind != "datetime" for one in (name, start)):
            raise ValueError(f"column {name!r}: {start!r} is no moment that it could be told from")
        apart = {schema.target, *schema.sensitive, *computed}
        if {name, start} & apart or name in sources or name == start:
            raise ValueError(f"column {name!r} cannot be told from {start!r}")
    in_turn(since)


def _within(column: Column, low: int, high: int) -> Column:
    # As numbers: from a birth to the end of year 9999, by which some mean never, is more than a datetime holds.
    return column.model_copy(update={"minimum": low, "maximum": high})
