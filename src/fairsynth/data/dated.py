"""Numbers and names that moments tell: an age or its class beside a date of birth, the month and weekday of a visit.

Drawn one given the other, each in its own intervals, an age fitted its date of birth in less than half of the rows. So
what a moment, or the time between two, tells of another column is looked for when a table is learned, and drawn rows
keep to it: the column is computed from the moment where the moment's states know it, and elsewhere (a weekday, where
intervals are weeks long) the moment is moved, by whole years, months, days or hours, to where it fits. Ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsynth.data.calendar_time import (
    DAY,
    LENGTHS,
    MONTHS,
    PARTS,
    ROUNDS,
    SPANS,
    days_in_month,
    in_months,
    part_of,
    span_of,
)
from fairsynth.data.canonical import canonical_dtype
from fairsynth.data.derived import on_grid
from fairsynth.data.moments import DATETIME
from fairsynth.data.schema import NUMERIC_KINDS, Column, Schema, grid_step
from fairsynth.data.zones import by_clock, knows_zone, of_clock

#: Which of several stretches of time, that have names, a moment lies in.
STRETCH = "stretch"
#: What says where a moment lies, and not only which of many months, days or hours it is: of two of these one is kept.
PLACING = (*SPANS, "year", STRETCH)
#: In this order moments are moved.
FROM_COARSE = (*PLACING, *PARTS[1:])
#: What may tell a name by a list of what each value of it is called: none has so many that each is one person's.
NAMED = ("year", "quarter", "month", "weekday", "hour", "years", STRETCH)
MOST_NAMES = 130
#: Microseconds from 1970 within which a fixed moment lies: 285 years.
FARTHEST = 2**53


class Dated(BaseModel):
    """How a column is told by a moment, or by the time between two.

    Attributes
    ----------
    tells : str
        One of `PARTS`, of `SPANS`, or `STRETCH`.
    end : str or int
        The moment; of a span the later one. A number is a fixed moment in microseconds since 1970.
    start : str, int or None
        The earlier moment of a span.
    nearest : bool
        Whether a span is rounded to the nearest step of the column instead of down.
    offset : int
        What is added to a part: -1 if January is 0, -2000 if years have two digits.
    turned : int
        By how many the part is counted further round: of months 9, if April is the first; of weekdays 1, if Sunday is.
    first : int
        The part that the first of `levels` belongs to.
    levels : tuple of int
        Of a column of names: the place of the level for each value of the part from `first` on; -1 where next to
        nobody has it.
    cuts : tuple of int
        Of stretches, where each but the first begins, microseconds since 1970, ascending.
    clocks : mapping
        Moment → time zone by whose clocks its parts, and days and months, are counted; UTC if there is none.
    moves : bool
        Whether the moment is moved to fit the column, instead of the column being computed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tells: str
    end: str | int
    start: str | int | None = None
    nearest: bool = False
    offset: int = 0
    turned: int = 0
    first: int = 0
    levels: tuple[int, ...] = Field(default=(), max_length=MOST_NAMES)
    cuts: tuple[int, ...] = Field(default=(), max_length=MOST_NAMES)
    clocks: dict[str, str] = Field(default={}, max_length=2)
    moves: bool = False

    @model_validator(mode="after")
    def _check(self) -> Dated:
        span = self.tells in SPANS
        ok = (
            self.tells in (*PARTS, *SPANS, STRETCH)
            and span == (self.start is not None)
            and bool(self.of)
            and len(self.of) == len(set(self.of))
            and (
                not self.levels or (self.tells in NAMED and min(self.levels) >= -1 and max(self.levels) >= 0)
            )
            and not (span and self.offset)
            and (self.tells != STRETCH or (self.first == 0 and len(self.levels) == len(self.cuts) + 1))
            and (self.tells == STRETCH or not self.cuts)
            and list(self.cuts) == sorted(set(self.cuts))
            and set(self.clocks) <= set(self.of)
            and all(map(knows_zone, self.clocks.values()))
            and 0 <= self.turned < ROUNDS.get(self.tells, (0, 1))[1]
            and not (self.levels and self.turned)
            and all(
                abs(number) < FARTHEST
                for number in (self.end, self.start, self.offset, self.first, *self.cuts)
                if isinstance(number, int)
            )
        )
        if not ok:
            raise ValueError("what a moment tells is not valid")
        return self

    @property
    def of(self) -> tuple[str, ...]:
        """The moments."""
        return tuple(one for one in (self.start, self.end) if isinstance(one, str))

    def values(self, moments: Mapping[str, np.ndarray], step: float) -> np.ndarray:
        """Return what the moments tell.

        Parameters
        ----------
        moments : mapping
            Column → microseconds, int64 ``(n,)``.
        step : float
            Of the column, not used for names.

        Returns
        -------
        np.ndarray
            Numbers, or places of levels, float64 ``(n,)``; -1 of a part that has no name.
        """
        own = self._told(moments, step)
        if self.levels:
            at = own.astype(np.int64) - self.first
            outside = (at < 0) | (at >= len(self.levels))
            return np.where(outside, -1.0, np.asarray(self.levels)[np.where(outside, 0, at)])
        if self.start is None:
            return (self._turn(own, self.turned) + self.offset).astype(np.float64)
        return own

    def _told(self, moments: Mapping[str, np.ndarray], step: float) -> np.ndarray:
        """Return the part or the span itself ``(n,)``."""
        if self.tells == STRETCH:
            return np.searchsorted(self.cuts, moments[str(self.end)], side="right")
        if self.start is None:
            return part_of(self._by_clock(moments, str(self.end)), self.tells)
        start, end = (
            np.asarray(self._by_clock(moments, one) if isinstance(one, str) else one)
            for one in (self.start, self.end)
        )
        return span_of(start, end, self.tells, step, nearest=self.nearest)

    def _by_clock(self, moments: Mapping[str, np.ndarray], which: str) -> np.ndarray:
        """Return what clocks said, where it is not the time that went by that counts."""
        return moments[which] if self.tells in LENGTHS else by_clock(moments[which], self.clocks.get(which))

    def _turn(self, part: np.ndarray, by: int) -> np.ndarray:
        """Count a part further round, int64 ``(n,)``."""
        if not self.turned:
            return part
        start, length = ROUNDS[self.tells]
        return (part - start + by) % length + start

    def lacking(self, moments: Mapping[str, np.ndarray], aim: np.ndarray, step: float) -> np.ndarray:
        """Return by how much a part or a span falls short of what would tell numbers or places of levels ``(n,)``."""
        part = self._told(moments, step)
        if self.levels:
            part = part.astype(np.int64)
            return (_nearest_part(self, aim.astype(np.int64), part) - part).astype(np.float64)
        if self.start is not None:
            return np.asarray(aim - part)
        whole = np.round(aim - self.offset).astype(np.int64)
        return (self._turn(whole, -self.turned) - part).astype(np.float64)

    def moved(self, moments: Mapping[str, np.ndarray], lacking: np.ndarray, which: str) -> np.ndarray:
        """Return one of the moments moved so that the column is larger by so much, int64 ``(n,)``.

        Parameters
        ----------
        moments : mapping
            Column → microseconds, int64 ``(n,)``.
        lacking : np.ndarray
            By what, float64 ``(n,)``.
        which : str
            The moment to move: of a span, the earlier one goes back.
        """
        by = -lacking if self.start == which else lacking
        if self.tells in LENGTHS:
            return moments[which] + np.round(by * LENGTHS[self.tells]).astype(np.int64)
        whole = np.round(by).astype(np.int64)
        if self.tells == STRETCH:
            return _in_stretch(moments[which], whole, self.cuts)
        return of_clock(self._moved_by_clock(self._by_clock(moments, which), whole), self.clocks.get(which))

    def _moved_by_clock(self, own: np.ndarray, whole: np.ndarray) -> np.ndarray:
        if self.tells in MONTHS:
            return in_months(own, whole * MONTHS[self.tells])
        if self.tells == "nights":
            return own + whole * DAY
        if self.tells == "weekday":
            return own + DAY * days_in_month(own, whole)
        if self.tells == "day":
            month = own.astype("M8[us]").astype("M8[M]")
            last = ((month + 1).astype("M8[D]") - month.astype("M8[D]")).astype(np.int64)
            return own + DAY * (np.minimum(part_of(own, "day") + whole, last) - part_of(own, "day"))
        lengths = {"week": 7 * DAY, "day of the year": DAY, "hour": DAY // 24, "minute": DAY // 1440}
        return own + whole * lengths[self.tells]

    def __str__(self) -> str:
        """Say it in words."""
        clock = "".join(f" ({zone})" for zone in sorted(set(self.clocks.values())))
        if self.tells == STRETCH:
            return f"{len(self.levels)} stretches of {self.end}"
        if self.start is None:
            name = " by its name" if self.levels else ""
            more = f" counted on by {self.turned}" if self.turned else ""
            more += f" {'-' if self.offset < 0 else '+'} {abs(self.offset)}" if self.offset else ""
            return f"{self.tells} of {self.end}{clock}{more}{name}"
        first, last = (
            one
            if isinstance(one, str)
            else str(np.datetime64(one, "us").astype("M8[s]")).replace("T00:00:00", "")
            for one in (self.start, self.end)
        )
        rounded = "by their names" if self.levels else "rounded" if self.nearest else "rounded down"
        if self.tells == "nights":
            return f"nights from {first} to {last}{clock}"
        return f"{self.tells} from {first} to {last}{clock if self.tells in MONTHS else ''}, {rounded}"


def _in_stretch(own: np.ndarray, by: np.ndarray, cuts: Sequence[int]) -> np.ndarray:
    """Return moments ``(n,)`` so many stretches on, as far into it as they were into theirs.

    The first and the last stretch are as long as their neighbours.
    """
    edges = np.asarray(cuts, dtype=np.int64)
    first, last = 2 * edges[0] - edges[min(1, len(edges) - 1)], 2 * edges[-1] - edges[max(len(edges) - 2, 0)]
    if len(edges) == 1:
        first, last = edges[0] - 3_650 * DAY, edges[0] + 3_650 * DAY
    edges = np.concatenate([[first], edges, [last]])
    at = np.searchsorted(cuts, own, side="right")
    there = np.clip(at + by, 0, len(edges) - 2)
    inside = np.clip((own - edges[at]) / (edges[at + 1] - edges[at]), 0.0, 1.0)
    lengths = edges[there + 1] - edges[there]
    moved = edges[there] + np.minimum((inside * lengths).astype(np.int64), lengths - 1)
    return np.where(there == at, own, moved)


def step_of(column: Column) -> float:
    """Return the distance of neighbouring values of a number or moment, 0 if there is none; 1 for names."""
    return 1.0 if column.kind in ("categorical", "boolean") else grid_step(column)


def numbers_of(values: pl.Series) -> np.ndarray:
    """Return numbers, or places of levels, of a column without missing values, float64 ``(n,)``."""
    plain = values.to_physical() if isinstance(values.dtype, pl.Enum) else values
    return np.asarray(plain.cast(pl.Float64).to_numpy())


def microseconds(moments: pl.Series) -> np.ndarray:
    """Return moments as microseconds since 1970, int64 ``(n,)``; 0 where missing."""
    return np.asarray(moments.to_physical().cast(pl.Int64).fill_null(0).to_numpy())


def check_dated(dated: Mapping[str, Dated], schema: Schema, computed: Collection[str]) -> None:
    """Raise ValueError if moments cannot tell these columns."""
    for name, own in dated.items():
        if (
            any(one not in schema.names or schema[one].kind != "datetime" for one in own.of)
            or name in computed
        ):
            raise ValueError(f"column {name!r} cannot be told by {' and '.join(own.of)}")
        named = schema[name].kind in ("categorical", "boolean")
        if not named and (schema[name].kind not in NUMERIC_KINDS or not step_of(schema[name])):
            raise ValueError(f"column {name!r} is no number or name that a moment could tell")
        if named != bool(own.levels) or (named and max(own.levels) >= len(schema[name].group_names())):
            raise ValueError(f"column {name!r}: what a moment tells does not fit its levels")
        if schema.target in (name, *own.of):
            raise ValueError(f"column {name!r}: no moment tells the target, nor the target a moment")


def agreed(
    values: Mapping[str, pl.Series],
    dated: Mapping[str, Dated],
    schema: Schema,
    fixed: Collection[str],
    since: Mapping[str, str],
) -> dict[str, pl.Series]:
    """Return columns that moments tell, and these moments, so that they agree.

    Parameters
    ----------
    values : mapping
        Canonical columns ``(n,)``, also those of `since`.
    dated : mapping
        Column → how it is told.
    schema : Schema
        Of the columns.
    fixed : collection of str
        Columns that stay as they are.
    since : mapping
        Moment → the one it is told from (`data.since`): visits that are moved take their ends along.

    Returns
    -------
    dict
        All of them. Rows that lack something stay as they are; where no moment can be moved, the column is computed
        unless it is fixed.
    """
    values = dict(values)
    depth = {name: len(_chain(name, since)) for own in dated.values() for name in own.of}
    anchors = set(since.values())
    moving = []
    for name, own in dated.items():
        free = [one for one in own.of if one not in fixed]
        free.sort(key=lambda one: one in anchors)
        if free and (own.moves or name in fixed):
            inside = own.tells not in PLACING
            order = (depth[free[0]], inside, not inside and name not in fixed, FROM_COARSE.index(own.tells))
            moving.append((*order, name, free))
    moving.sort()
    placed: set[str] = set()
    for *_, name, free in moving:
        own = dated[name]
        # Two ages cannot both say where a birth lies: the second one is computed. Weekdays and hours are inside that.
        if own.tells in PLACING:
            free = [one for one in free if one not in placed]
            placed |= set(free[:1])
        for which in free:
            _move(values, name, own, which, schema, since, fixed)
    # Another month may have been another age.
    for *_, name, free in (one for one in moving if one[-2] in fixed):
        for which in free:
            _move(values, name, dated[name], which, schema, since, fixed)
    for name in (name for name in dated if name not in fixed):
        values[name] = _computed(values, name, dated[name], schema[name])
    return values


def _chain(name: str, since: Mapping[str, str]) -> list[str]:
    found = []
    while name in since:
        name = since[name]
        found.append(name)
    return found


def _move(
    values: dict[str, pl.Series],
    name: str,
    own: Dated,
    which: str,
    schema: Schema,
    since: Mapping[str, str],
    fixed: Collection[str],
) -> None:
    """Move a moment to where it tells what a column says, in the rows where that can be had inside its range."""
    known = ~np.any([values[one].is_null().to_numpy() for one in (name, *own.of)], axis=0)
    rows = np.flatnonzero(known)
    moments = {one: microseconds(values[one])[rows] for one in own.of}
    aim, step = numbers_of(values[name].gather(rows)), step_of(schema[name])
    grid, (low, high) = int(step_of(schema[which])), (int(end) for end in schema[which].bounds)

    def there(moment: np.ndarray) -> np.ndarray:
        told = own.values({**moments, which: moment}, step)
        return np.asarray((np.abs(told - aim) < 0.5 * step) & (moment >= low) & (moment <= high))

    along = [one for one, start in since.items() if start == which and one not in {*own.of, *fixed}]
    ends = [(values[one].to_physical().fill_null(0).to_numpy()[rows], schema[one].bounds) for one in along]

    def may(moved: np.ndarray) -> np.ndarray:
        """Say where what is told since the moment stays in its range; a column that is held leaves no choice."""
        found = np.ones(len(moved), dtype=bool)
        for later, (first, last) in ends if name not in fixed else ():
            there = later + moved - now
            found &= ((there >= int(first)) & (there <= int(last))) | (later == 0)
        return found

    now = moments[which]
    lacking = own.lacking(moments, aim, step)
    goal = own.moved(moments, lacking, which) // grid * grid
    found, open_ = now.copy(), (lacking != 0) & ~there(now)
    # What is counted in years of 365.25 days ends inside a day, and the range may end inside what would fit.
    for moved in (goal, goal - grid, goal + grid, np.clip(goal, low, high), goal - 7 * DAY, goal + 7 * DAY):
        fits = open_ & there(moved) & may(moved)
        found[fits] = moved[fits]
        open_ &= ~fits
    values[which] = values[which].clone().scatter(rows, pl.Series(found).cast(DATETIME))
    shift = np.zeros(len(values[which]), dtype=np.int64)
    shift[rows] = found - now
    if shift.any():
        _take_along(values, which, shift, {*own.of, *fixed}, schema, since)


def _take_along(
    values: dict[str, pl.Series],
    start: str,
    shift: np.ndarray,
    apart: Collection[str],
    schema: Schema,
    since: Mapping[str, str],
) -> None:
    """Move what is told since a moment as that was moved.

    Where it would leave its range it stays, if it is not before that moment now: a visit takes its end along, and a
    birth does not take a visit along to years of which there are no rows.
    """
    for name in (name for name, one in since.items() if one == start and name not in apart):
        own, (low, high) = values[name].to_physical(), (int(end) for end in schema[name].bounds)
        inside = (own + pl.Series(shift)).is_between(low, high).fill_null(False)
        before = (own < values[start].to_physical()).fill_null(False)
        along = np.where((inside | before).to_numpy(), shift, 0)
        values[name] = (own + pl.Series(along)).clip(low, high).cast(DATETIME).alias(name)
        _take_along(values, name, along, apart, schema, since)


def _nearest_part(own: Dated, aim: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return the value of a part nearest to the present one that a level is the name of; that one if there is none."""
    levels = np.asarray(own.levels)
    parts = own.first + np.arange(len(levels))
    at = np.clip(part - own.first, 0, len(levels) - 1)
    nearest = np.tile(parts, (int(max(levels.max(), aim.max(initial=0))) + 1, 1))
    for level in np.unique(levels[levels >= 0]).tolist():
        has = np.flatnonzero(levels == level)
        nearest[level] = parts[has[np.abs(np.arange(len(levels))[:, None] - has).argmin(1)]]
    return np.asarray(nearest[aim, at])


def _computed(values: Mapping[str, pl.Series], name: str, own: Dated, column: Column) -> pl.Series:
    """Return a column as moments tell it, where they and it are known."""
    known = ~np.any([values[one].is_null().to_numpy() for one in (name, *own.of)], axis=0)
    rows = np.flatnonzero(known)
    made = own.values({one: microseconds(values[one])[rows] for one in own.of}, step_of(column))
    if own.levels:
        rows, made = rows[made >= 0], made[made >= 0]
    dtype = canonical_dtype(column)
    if isinstance(dtype, pl.Enum):
        found = pl.Series(column.levels, dtype=dtype).gather(made.astype(np.uint32))
    elif column.kind == "boolean":
        found = pl.Series(made == 1)
    else:
        found = pl.Series(on_grid(made, column, step_of(column))).cast(dtype)  # type: ignore[arg-type]
    return found.alias(name) if len(rows) == len(known) else values[name].clone().scatter(rows, found)
