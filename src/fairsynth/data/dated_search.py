"""Finding what moments tell of other columns (`data.dated`).

Every number is held against every part of every moment, against the time between each two and against the time to or
from a fixed moment, which is where most rows agree; names against what is most frequent in each part. Ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import polars as pl

from fairsynth.data.calendar_time import DAY, LENGTHS, MONTHS, PARTS, ROUNDS, SPANS, in_months, part_of
from fairsynth.data.dated import FARTHEST, MOST_NAMES, NAMED, Dated, microseconds, numbers_of, step_of
from fairsynth.data.derived import FOLLOW
from fairsynth.data.roundness import MIN_SHARED
from fairsynth.data.schema import NUMERIC_KINDS, Column, Schema
from fairsynth.data.table import Table

#: Rows of which both have to be known.
MIN_ROWS = 100
#: Rows that are looked at first.
LOOKED_AT = 1_000
#: Rows that say where a fixed moment lies: of ages, each birthday tells it to the day.
FIXED_BY = 20_000
#: Less of these may be as told than of all.
LOOSE = 0.02
#: Share of the rows that would break it if the moment were another person's, at least.
BY_CHANCE = 0.1
#: Without so much of a straight line between the two, a number is no time since a moment.
STRAIGHT = 0.9
#: Share of rows whose moment's states have to know what it tells, for the column to be computed.
KNOWN = 0.9
#: A month, nearly.
MONTH = 30 * DAY
#: Moments among which pairs are looked for.
MOST_MOMENTS = 8


def find_dated(table: Table, apart: Collection[str] = ()) -> dict[str, Dated]:
    """Find the columns that moments tell.

    Parameters
    ----------
    table : Table
        Rows.
    apart : collection of str
        Columns that have no part in it, besides the target.

    Returns
    -------
    dict
        Column → how it is told; none of them moves anything yet.
    """
    schema, left_out = table.schema, {table.schema.target, *apart}
    moments = [c.name for c in schema if c.kind == "datetime" and c.name not in left_out][:MOST_MOMENTS]
    if not moments or len(table) < MIN_ROWS:
        return {}
    some = table.frame.sample(min(LOOKED_AT, len(table)), seed=0)
    found = {}
    for column in schema:
        if column.name in left_out:
            continue
        if column.kind in NUMERIC_KINDS and step_of(column) and column.unit is None:
            options = _numbers(some, table.frame, column, moments)
        elif column.kind in ("categorical", "boolean") and len(column.group_names()) <= MOST_NAMES:
            options = _names(some, table.frame, column, moments)
        else:
            continue
        best, share = None, FOLLOW
        for own in options:
            if _agreement(some, own, column) < FOLLOW - LOOSE:
                continue
            agree = _agreement(table.frame, own, column)
            if agree > share or (best is None and agree >= share):
                best, share = own, agree
        if best is not None and not _by_chance(some, best, column):
            found[column.name] = best
    return found


def _agreement(frame: pl.DataFrame, own: Dated, column: Column) -> float:
    """Return the share of the rows that know all of it in which the column is as told; 0 of too few rows."""
    known = frame.select(column.name, *own.of).drop_nulls()
    if len(known) < min(MIN_ROWS, len(frame)):
        return 0.0
    step = step_of(column)
    made = own.values({name: microseconds(known[name]) for name in own.of}, step)
    return float((np.abs(made - numbers_of(known[column.name])) < 0.5 * step).mean())


def _by_chance(some: pl.DataFrame, own: Dated, column: Column) -> bool:
    """Say whether the column would be told nearly as well by other people's moments."""
    mixed = some.select(
        pl.col(column.name), *(pl.col(name).shuffle(seed=1 + at) for at, name in enumerate(own.of))
    )
    return _agreement(mixed, own, column) > 1 - BY_CHANCE


def _numbers(some: pl.DataFrame, frame: pl.DataFrame, column: Column, moments: Sequence[str]) -> list[Dated]:
    """Return how a number might be told, by a look at some rows; a fixed moment takes more of them."""
    found: list[Dated] = []
    step = step_of(column)
    for name in moments:
        known = some.select(column.name, name).drop_nulls()
        if len(known) < MIN_ROWS // 2:
            continue
        own, when = numbers_of(known[column.name]), microseconds(known[name])
        for part in PARTS if step == 1 else ():
            offset = np.median(own - part_of(when, part))
            found.append(Dated(tells=part, end=name, offset=int(np.round(offset))))
            if part in ROUNDS:
                begin, length = ROUNDS[part]
                low = int(own.min())
                ahead = (own - low).astype(np.int64) - (part_of(when, part) - begin)
                turned = int(np.bincount(ahead % length, minlength=length).argmax())
                found.append(Dated(tells=part, end=name, turned=turned, offset=low - begin))
        slope = _straight(own, when)
        if slope:
            more = frame[:FIXED_BY].select(column.name, name).drop_nulls()
            found += _since_fixed(name, numbers_of(more[column.name]), microseconds(more[name]), step, slope)
    for start in moments:
        for end in moments:
            known = some.select(column.name, start, end).drop_nulls() if start != end else some[:0]
            if len(known) < MIN_ROWS // 2:
                continue
            between = microseconds(known[end]) - microseconds(known[start])
            if _straight(numbers_of(known[column.name]), between) > 0:
                found += [
                    Dated(tells=span, start=start, end=end, nearest=nearest)
                    for span in SPANS
                    for nearest in ((False,) if span in MONTHS else (False, True))
                    if step == 1 or span not in MONTHS
                ]
    return found


def _straight(own: np.ndarray, other: np.ndarray) -> float:
    """Return the slope of one number by another, in standard deviations; 0 if it explains too little."""
    if not own.std() or not other.std():
        return 0.0
    slope = float(np.corrcoef(own, other)[0, 1])
    return slope if abs(slope) >= STRAIGHT else 0.0


def _since_fixed(name: str, own: np.ndarray, when: np.ndarray, step: float, slope: float) -> list[Dated]:
    """Return spans from a fixed moment, or to one, that most rows agree with."""
    found = []
    for span in SPANS:
        for nearest in (False,) if span in MONTHS else (False, True):
            months = MONTHS.get(span, 0)
            if (step != 1 and months) or np.abs(own).max() * (months * MONTH or LENGTHS[span]) > FARTHEST:
                continue
            low = own - 0.5 * step if nearest else own
            if span in MONTHS:
                whole = np.round(low).astype(np.int64) * MONTHS[span]
                if slope > 0:  # from the fixed moment: it lies as long before
                    ends = in_months(when, -whole - MONTHS[span]) + 1, in_months(when, -whole) + 1
                else:
                    ends = in_months(when, whole), in_months(when, whole + MONTHS[span])
            else:
                first, last = (np.round(LENGTHS[span] * edge).astype(np.int64) for edge in (low, low + step))
                ends = (when - last + 1, when - first + 1) if slope > 0 else (when + first, when + last)
            at = _most_covered(*ends)
            if abs(at) >= FARTHEST:
                continue
            sides = {"start": at, "end": name} if slope > 0 else {"start": name, "end": at}
            found.append(Dated(tells=span, nearest=nearest, **sides))  # type: ignore[arg-type]
    return found


def _most_covered(low: np.ndarray, high: np.ndarray) -> int:
    """Return a point inside as many intervals ``[low, high)`` as may be: a midnight, if there is one among such."""
    points = np.concatenate([low, high])
    order = np.lexsort([np.repeat([1, 0], len(low)), points])
    depth = np.cumsum(np.repeat([1, -1], len(low))[order])
    at = int(depth.argmax())
    first, last = int(points[order[at]]), int(points[order[min(at + 1, len(order) - 1)]])
    middle = (first + last) // 2
    midnight = -(-first // DAY) * DAY
    if midnight >= last:
        return middle
    return max(midnight, middle // DAY * DAY)


def _names(some: pl.DataFrame, frame: pl.DataFrame, column: Column, moments: Sequence[str]) -> list[Dated]:
    """Return how names might be told by a part of a moment: what is most frequent for each value of it."""
    found = []
    n_levels = len(column.group_names())
    for name in moments:
        known = some.select(column.name, name).drop_nulls()
        if len(known) < MIN_ROWS:
            continue
        likely = [
            part
            for part in NAMED
            if (made := _cells(known, column.name, name, part, n_levels)) is not None
            and made[1].max(1).sum() >= (FOLLOW - LOOSE) * len(known)
        ]
        known = frame.select(column.name, name).drop_nulls() if likely else known
        for part in likely:
            counted = _cells(known, column.name, name, part, n_levels)
            if counted is None:
                continue
            first, cells = counted
            shared = cells.sum(1) >= MIN_SHARED
            # An hour that next to nobody has is called nothing, and drawn rows have it no more.
            told = np.where(shared, cells.argmax(1), -1)
            if len(np.unique(told[shared])) >= 2:
                found.append(Dated(tells=part, end=name, first=first, levels=tuple(told.tolist())))
    return found


def _cells(
    known: pl.DataFrame, column: str, moment: str, part: str, n_levels: int
) -> tuple[int, np.ndarray] | None:
    """Return the first value of a part, and how often each value has each level ``(values, levels)``; None of many."""
    own = part_of(microseconds(known[moment]), part)
    first, last = int(own.min()), int(own.max())
    if last == first or last - first >= MOST_NAMES:
        return None
    levels = numbers_of(known[column]).astype(np.int64)
    counts = np.bincount((own - first) * n_levels + levels, minlength=(last - first + 1) * n_levels)
    return first, counts.reshape(-1, n_levels)


def known_by_states(
    dated: Mapping[str, Dated], frame: pl.DataFrame, drawn: pl.DataFrame, schema: Schema
) -> dict[str, Dated]:
    """Say of each column whether it is computed, or the moment moved.

    Parameters
    ----------
    dated : mapping
        As `find_dated` returns it.
    frame : pl.DataFrame
        Some rows.
    drawn : pl.DataFrame
        The same rows, with moments drawn anew given their states.
    schema : Schema
        Of the columns.
    """
    found = {}
    for name, own in dated.items():
        both = frame.select(name).with_columns(drawn[one] for one in own.of)
        found[name] = own.model_copy(update={"moves": _agreement(both, own, schema[name]) < KNOWN})
    return found
