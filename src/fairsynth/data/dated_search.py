"""Finding what moments tell of other columns (`data.dated`).

Every number is held against every part of every moment, against the time between each two and against the time to or
from a fixed moment, which is where most rows agree; names against what is most frequent in each part. Ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise

import numpy as np
import polars as pl

from fairsynth.data.calendar_time import DAY, LENGTHS, MONTHS, PARTS, ROUNDS, SPANS, in_months, part_of
from fairsynth.data.dated import (
    FARTHEST,
    MOST_NAMES,
    NAMED,
    STRETCH,
    Dated,
    microseconds,
    numbers_of,
    step_of,
)
from fairsynth.data.derived import FOLLOW
from fairsynth.data.roundness import MIN_SHARED
from fairsynth.data.schema import NUMERIC_KINDS, Column, Schema
from fairsynth.data.table import Table
from fairsynth.data.zones import by_clock

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
#: Levels of names that moments may tell.
MOST_LEVELS = 60


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
    clocks = {name: clock for name in moments if (clock := schema[name].clock) is not None}
    some = table.frame.sample(min(LOOKED_AT, len(table)), seed=0)
    found: dict[str, Dated] = {}
    for column in sorted(schema, key=lambda c: c.kind not in NUMERIC_KINDS):
        if column.name in left_out:
            continue
        if column.kind in NUMERIC_KINDS and step_of(column) and column.unit is None:
            options = _numbers(some, table.frame, column, moments, clocks)
        elif column.kind in ("categorical", "boolean") and len(column.group_names()) <= MOST_LEVELS:
            options = _names(some, table.frame, column, moments, clocks)
            # A class of ages goes by the age, if there is one.
            counted = [set(own.of) for own in found.values() if own.tells in SPANS]
            if column.name not in schema.sensitive:
                options = [o for o in options if o.tells not in (STRETCH, *SPANS) or set(o.of) not in counted]
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


def _numbers(
    some: pl.DataFrame, frame: pl.DataFrame, column: Column, moments: Sequence[str], clocks: Mapping[str, str]
) -> list[Dated]:
    """Return how a number might be told, by a look at some rows; a fixed moment takes more of them."""
    found: list[Dated] = []
    step = step_of(column)
    for name in moments:
        known = some.select(column.name, name).drop_nulls()
        if len(known) < MIN_ROWS // 2:
            continue
        own, when = numbers_of(known[column.name]), microseconds(known[name])
        for clock in dict.fromkeys((clocks.get(name), None)) if step == 1 else ():
            found += _parts(name, own, when, clock)
        slope = _straight(own, when)
        if slope:
            more = frame[:FIXED_BY].select(column.name, name).drop_nulls()
            when = microseconds(more[name])
            found += _since_fixed(name, numbers_of(more[column.name]), when, clocks.get(name), step, slope)
    for start, end in _pairs(moments):
        known = some.select(column.name, start, end).drop_nulls()
        if len(known) < MIN_ROWS // 2:
            continue
        between = microseconds(known[end]) - microseconds(known[start])
        if _straight(numbers_of(known[column.name]), between) > 0:
            found += [
                Dated(tells=span, start=start, end=end, nearest=nearest, clocks=_of(clocks, span, start, end))
                for span in SPANS
                for nearest in ((False, True) if span in LENGTHS else (False,))
                if step == 1 or span in LENGTHS
            ]
    return found


def _parts(name: str, own: np.ndarray, when: np.ndarray, clock: str | None) -> list[Dated]:
    """Return how whole numbers might be told by parts of a moment, as clocks of a place count them."""
    found = []
    clocks = {name: clock} if clock else {}
    for part in PARTS:
        there = part_of(by_clock(when, clock), part)
        offset = int(np.round(np.median(own - there)))
        found.append(Dated(tells=part, end=name, offset=offset, clocks=clocks))
        if part in ROUNDS:
            begin, length = ROUNDS[part]
            low = int(own.min())
            ahead = (own - low).astype(np.int64) - (there - begin)
            turned = int(np.bincount(ahead % length, minlength=length).argmax())
            found.append(Dated(tells=part, end=name, turned=turned, offset=low - begin, clocks=clocks))
    return found


def _pairs(moments: Sequence[str]) -> list[tuple[str, str]]:
    return [(start, end) for start in moments for end in moments if start != end]


def _of(clocks: Mapping[str, str], span: str, *names: str) -> dict[str, str]:
    """Return the clocks of some moments, for a span that is counted by them and not by the time that went by."""
    return {} if span in LENGTHS else {name: clocks[name] for name in names if name in clocks}


def _straight(own: np.ndarray, other: np.ndarray) -> float:
    """Return the slope of one number by another, in standard deviations; 0 if it explains too little."""
    if not own.std() or not other.std():
        return 0.0
    slope = float(np.corrcoef(own, other)[0, 1])
    return slope if abs(slope) >= STRAIGHT else 0.0


def _since_fixed(
    name: str, own: np.ndarray, moments: np.ndarray, clock: str | None, step: float, slope: float
) -> list[Dated]:
    """Return spans from a fixed moment, or to one, that most rows agree with."""
    found = []
    for span in (one for one in SPANS if one in LENGTHS or one in MONTHS):
        clocks = {name: clock} if clock and span in MONTHS else {}
        when = by_clock(moments, clocks.get(name))
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
            found.append(Dated(tells=span, nearest=nearest, clocks=clocks, **sides))  # type: ignore[arg-type]
    return found


def _most_covered(low: np.ndarray, high: np.ndarray) -> int:
    """Return a point inside as many intervals ``[low, high)`` as may be: a midnight, if there is one among such."""
    points = np.concatenate([low, high])
    order = np.lexsort([np.repeat([1, 0], len(low)), points])
    depth = np.cumsum(np.repeat([1, -1], len(low))[order])
    at = int(depth.argmax())
    return _between(int(points[order[at]]), int(points[order[min(at + 1, len(order) - 1)]]))


def _between(first: int, last: int) -> int:
    """Return the midnight nearest to the middle from one moment to before another, or the middle if there is none."""
    middle = (first + last) // 2
    midnight = -(-first // DAY) * DAY
    if midnight >= last:
        return middle
    return max(midnight, middle // DAY * DAY)


def _names(
    some: pl.DataFrame, frame: pl.DataFrame, column: Column, moments: Sequence[str], clocks: Mapping[str, str]
) -> list[Dated]:
    """Return how names might be told: what is most frequent for each value of a part, or in each stretch of time."""
    found = []
    n_levels = len(column.group_names())

    def known_of(rows: pl.DataFrame, *names: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        known = rows.select(column.name, *names).drop_nulls()
        levels = numbers_of(known[column.name]).astype(np.int64)
        return levels, {name: microseconds(known[name]) for name in names}

    options = [
        Dated(tells=part, end=name, clocks={name: clock} if clock else {})
        for name in moments
        for part in NAMED
        if part in PARTS
        for clock in dict.fromkeys((clocks.get(name), None))
    ]
    options += [
        Dated(tells="years", start=start, end=end, clocks=_of(clocks, "years", start, end))
        for start, end in _pairs(moments)
        if some.select((pl.col(end) - pl.col(start)).median() > timedelta(0)).item()
    ]
    for own in options:
        levels, when = known_of(some, *own.of)
        if len(levels) < MIN_ROWS:
            continue
        counted = _cells(levels, own.values(when, 1), n_levels)
        if counted is None or counted[1].max(1).sum() < (FOLLOW - LOOSE) * len(levels):
            continue
        levels, when = known_of(frame, *own.of)
        counted = _cells(levels, own.values(when, 1), n_levels)
        if counted is not None:
            found += _called(own, *counted)
    for name in moments:
        levels, when = known_of(some, name)
        made = _stretches(name, levels, when[name]) if len(levels) >= MIN_ROWS else None
        if made is not None and (made.values(when, 1) == levels).mean() >= FOLLOW - LOOSE:
            levels, when = known_of(frame, name)
            made = _stretches(name, levels, when[name])
            found += [made] if made is not None else []
    return found


def _cells(levels: np.ndarray, told: np.ndarray, n_levels: int) -> tuple[int, np.ndarray] | None:
    """Return the first value of a part, and how often each value has each level ``(values, levels)``; None of many."""
    own = told.astype(np.int64)
    first, last = int(own.min()), int(own.max())
    if last == first or last - first >= MOST_NAMES:
        return None
    counts = np.bincount((own - first) * n_levels + levels, minlength=(last - first + 1) * n_levels)
    return first, counts.reshape(-1, n_levels)


def _called(own: Dated, first: int, cells: np.ndarray) -> list[Dated]:
    """Say what each value of a part is called, if two and more are called differently."""
    shared = cells.sum(1) >= MIN_SHARED
    # An hour that next to nobody has is called nothing, and drawn rows have it no more.
    told = np.where(shared, cells.argmax(1), -1)
    if len(np.unique(told[shared])) < 2:
        return []
    if own.tells in SPANS:
        # Years that next to nobody has are called as the nearest ones.
        known = np.flatnonzero(shared)
        told = told[known[np.abs(np.arange(len(told))[:, None] - known).argmin(1)]]
    return [own.model_copy(update={"first": first, "levels": tuple(told.tolist())})]


def _stretches(name: str, levels: np.ndarray, when: np.ndarray) -> Dated | None:
    """Return levels as stretches of time, one after the other, that most rows agree with."""
    held = [level for level in np.unique(levels).tolist() if (levels == level).sum() >= MIN_SHARED]
    held.sort(key=lambda level: float(np.median(when[levels == level])))
    cuts = []
    for before, after in pairwise(held):
        both = (levels == before) | (levels == after)
        order = np.argsort(when[both], kind="stable")
        own, later = when[both][order], (levels[both] == after)[order]
        # Of those before a cut the later ones are wrong, of those after it the earlier ones.
        wrong = np.cumsum(later)[:-1] + np.cumsum(~later[::-1])[::-1][1:]
        wrong = np.where(own[1:] > own[:-1], wrong, len(own))
        at = int(wrong.argmin())
        if wrong[at] == len(own):
            return None
        cuts.append(_between(int(own[at]) + 1, int(own[at + 1]) + 1))
    if len(held) < 2 or any(a >= b for a, b in pairwise(cuts)) or max(map(abs, cuts)) >= FARTHEST:
        return None
    return Dated(tells=STRETCH, end=name, levels=tuple(held), cuts=tuple(cuts))


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
