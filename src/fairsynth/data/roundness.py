"""How round numbers are: what share of the values in an interval are tens, hundreds or full hours.

People say 250 and 1,200, and a form that allows for cents mostly holds whole amounts. A number drawn evenly inside
its interval is 247.31 then, which a look at the rows tells from a real one, and so does every classifier. So each
interval remembers how its values spread over nested grids: 1, 5, 10, 50, 100, … steps, or seconds, minutes, hours and
days. Columns whose values lie on these grids no more often than by chance remember nothing. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator
from scipy.special import chdtrc

from fairsynth.data.leaning import leaned
from fairsynth.data.schema import MICROSECONDS, Column

#: Ways to be round, each grid a multiple of the one before it: fives and tens, quarters, twenties, dozens, the clock.
TENS = tuple(size * 10**power for power in range(15) for size in (5, 10))
QUARTERS = tuple(size * 100**power for power in range(7) for size in (5, 25, 50, 100))
TWENTIES = tuple(size * 10**power for power in range(15) for size in (2, 10))
DOZENS = (2, 6, 12, 24, 120, 360)
CLOCK = (5, 15, 30, 60, 1440)
#: Rows that have to share what is told: a number, for it to be a state of its own, or a grid within an interval, for it
#: to be told of there; else those around it say how round it is.
MIN_SHARED = 5
#: Rows that what is usual counts as within an interval, and how many intervals on either side say what that is.
BACKING = 1.0
AROUND = 4
#: A column is round only if chance makes it so less often than this, and so large a part of its values is affected.
CHANCE = 1e-4
LEAST = 0.02
#: By how much in log-likelihood another way to be round has to be better than the first.
ANOTHER_WAY = 10.0
#: Beyond this a float no longer holds every integer.
EXACT = 2.0**53
#: Steps in which chance chooses a grid.
CHANCES = 1024
#: How often a number that is a state of its own is drawn again.
TRIES = 30


class Roundness(BaseModel):
    """How the values of each interval spread over nested grids.

    Attributes
    ----------
    grids : tuple of int
        Distances of the coarser grids in steps, ascending; each divides the next. The finest one, every step, is
        not named.
    shares : tuple of tuple of float
        For each interval the share of values on each grid, the finest first, that are on none coarser.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grids: tuple[int, ...]
    shares: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _check(self) -> Roundness:
        whole = (1, *self.grids)
        if not self.grids or self.grids[-1] >= EXACT:
            raise ValueError("roundness needs grids of less than 2**53 steps")
        if any(fine >= coarse or coarse % fine for fine, coarse in pairwise(whole)):
            raise ValueError("each grid of round numbers must be a multiple of the one before it")
        if any(len(line) != len(whole) for line in self.shares):
            raise ValueError("each interval needs a share for every grid")
        table = np.asarray(self.shares)
        if not np.isfinite(table).all() or (table < 0).any() or (np.abs(table.sum(1) - 1) > 1e-6).any():
            raise ValueError("the shares of an interval must be from 0 up and sum to 1")
        return self


@dataclass(frozen=True)
class RoundNumbers:
    """`Roundness` as tables to draw many numbers from; a place is an interval times the number of grids, plus the grid.

    Attributes
    ----------
    chosen : np.ndarray
        Interval times `CHANCES` plus chance to the grid that is drawn, int8 ``(intervals * CHANCES,)``.
    before : np.ndarray
        Of every place, how many numbers of the grid that are on none coarser lie between 0 and the interval.
    count : np.ndarray
        How many lie in it.
    steps, others : np.ndarray
        Of every grid, its distance; and how many of its numbers in a row are on none coarser.
    atoms : np.ndarray
        Values that are states of their own, ascending; they are not drawn.
    """

    chosen: np.ndarray
    before: np.ndarray
    count: np.ndarray
    steps: np.ndarray
    others: np.ndarray
    atoms: np.ndarray

    @classmethod
    def of(cls, roundness: Roundness, low: np.ndarray, high: np.ndarray, atoms: np.ndarray) -> RoundNumbers:
        """Write it as tables.

        Parameters
        ----------
        roundness : Roundness
            Of the intervals.
        low, high : np.ndarray
            First and last value of each in steps, whole numbers as float64 ``(intervals,)``.
        atoms : np.ndarray
            Values that are states of their own, ascending.
        """
        steps = np.array([1, *roundness.grids], dtype=np.float64)
        times = np.append(steps[1:] / steps[:-1], np.inf)
        before = _not_divided(np.ceil(low[:, None] / steps) - 1, times)
        count = _not_divided(np.floor(high[:, None] / steps), times) - before
        ends = np.round(np.cumsum(roundness.shares, axis=1) * CHANCES).astype(np.int64)
        ends[:, -1] = CHANCES
        grids = np.tile(np.arange(len(steps), dtype=np.int8), len(ends))
        chosen = np.repeat(grids, np.diff(ends, axis=1, prepend=0).ravel())
        return cls(chosen, before.ravel(), count.ravel(), steps, times - 1, atoms)

    def draw(
        self, interval: np.ndarray, rng: np.random.Generator, rates: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw a number inside the interval of each row.

        Parameters
        ----------
        interval : np.ndarray
            Integers ``(n,)``.
        rng : np.random.Generator
            Where chance comes from.
        rates : np.ndarray, optional
            By how much the values of each row's interval lean to an end, float64 ``(n,)``; see `data.leaning`.

        Returns
        -------
        values : np.ndarray
            In steps, float64 ``(n,)``.
        found : np.ndarray
            Whether there is such a value, bool ``(n,)``: an interval may have none that is as round as was drawn.
        """
        chance = interval * CHANCES
        chance += rng.integers(0, CHANCES, len(interval), dtype=np.int32)
        grid = self.chosen.take(chance)
        place = interval * len(self.steps)
        place += grid
        values = self._numbers(place, grid, _chance(rng, len(interval), rates))
        found = self.count.take(place) > 0
        if not len(self.atoms):
            return values, found
        left = np.flatnonzero(found & np.isin(values, self.atoms))
        for _ in range(TRIES):
            if not len(left):
                break
            chance = _chance(rng, len(left), None if rates is None else rates[left])
            values[left] = self._numbers(place[left], grid[left], chance)
            left = left[np.isin(values[left], self.atoms)]
        found[left] = False
        return values, found

    def places(self, values: np.ndarray, interval: np.ndarray) -> np.ndarray:
        """Say where each value lies among the numbers of its interval that are as round, from 0 to 1, ``(n,)``.

        Parameters
        ----------
        values : np.ndarray
            In steps, whole numbers as float64 ``(n,)``.
        interval : np.ndarray
            Of each, integers ``(n,)``.
        """
        place = self.kinds(values, interval)
        grid = place % len(self.steps)
        upto = _not_divided(values / self.steps.take(grid), self.others.take(grid) + 1)
        return np.asarray((upto - self.before.take(place) - 0.5) / np.maximum(self.count.take(place), 1))

    def kinds(self, values: np.ndarray, interval: np.ndarray) -> np.ndarray:
        """Return the place of each value, as places count in the tables; arguments as of `places`."""
        level = _coarsest(values, tuple(self.steps[1:].astype(np.int64).tolist()))
        return interval.astype(np.int64) * len(self.steps) + level

    def _numbers(self, place: np.ndarray, grid: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Return a number of each place, evenly by chance from 0 to 1, float64 ``(n,)``."""
        chance *= self.count.take(place)
        np.floor(chance, out=chance)
        chance += self.before.take(place)
        # The n-th whole number, from 0, that is no multiple: after every run of others comes one that is.
        values = chance + np.floor(chance / self.others.take(grid))
        values += 1
        values *= self.steps.take(grid)
        return values


def _chance(rng: np.random.Generator, n: int, rates: np.ndarray | None) -> np.ndarray:
    chance = rng.random(n)
    return chance if rates is None else leaned(chance, rates)


def _not_divided(last: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return how many whole numbers up to the last one, less those up to 0, are no multiples."""
    return np.asarray(last - np.floor(last / times))


def grids_of(column: Column, furthest: float) -> list[tuple[int, ...]]:
    """Return the grids on which values of a column may be round, in its steps, up to the furthest value.

    Returns
    -------
    list of tuple of int
        Several ways to be round, of which a column has the one that tells most of its values.
    """
    ways = [] if column.kind == "datetime" else [TENS, QUARTERS, TWENTIES, DOZENS, CLOCK]
    if column.kind == "datetime" or column.unit is not None:
        step = MICROSECONDS[column.unit or "microsecond"]
        sizes = [*MICROSECONDS.values(), *(minutes * MICROSECONDS["minute"] for minutes in (5, 15, 30))]
        ways.insert(0, tuple(sorted(size // step for size in sizes if size > step)))
    reached = (tuple(grid for grid in way if grid <= min(furthest, EXACT / 2)) for way in ways)
    return [way for way in dict.fromkeys(reached) if way]


def learn_roundness(
    column: Column, values: np.ndarray, edges: np.ndarray, atoms: np.ndarray
) -> Roundness | None:
    """Learn how round the values inside of intervals are.

    Parameters
    ----------
    column : Column
        Says what grids there are.
    values : np.ndarray
        Values that are no states of their own, whole numbers of steps ``(n,)``.
    edges : np.ndarray
        Ends of the intervals in steps ``(intervals + 1,)``, none on a whole number.
    atoms : np.ndarray
        Values that are states of their own.

    Returns
    -------
    Roundness or None
        None where the column is no rounder than chance makes it. Of a grid that fewer than `MIN_SHARED` rows of an
        interval are on, only the intervals around it and the whole column tell.
    """
    furthest = float(np.abs(edges).max())
    if not len(values) or furthest >= EXACT:
        return None
    found = [_Counted.of(grids, values, edges, atoms) for grids in grids_of(column, furthest)]
    found = [counted for counted in found if counted.grids]
    if not found:
        return None
    likelihoods = np.array([counted.likelihood() for counted in found])
    likelihoods[0] += ANOTHER_WAY
    best = found[int(likelihoods.argmax())]
    return best.told() if best.clear() else None


@dataclass(frozen=True)
class _Counted:
    """What was counted of values on one way to be round.

    Attributes
    ----------
    grids : tuple of int
        Up to the coarsest that enough values are on.
    counts : np.ndarray
        Values on each grid that are on none coarser, ``(intervals, grids)``.
    there : np.ndarray
        How many different ones there could be, ``(intervals, grids)``.
    usual : np.ndarray
        Shares in each interval, if it is as round as the whole column.
    """

    grids: tuple[int, ...]
    counts: np.ndarray
    there: np.ndarray
    usual: np.ndarray

    @classmethod
    def of(cls, grids: tuple[int, ...], values: np.ndarray, edges: np.ndarray, atoms: np.ndarray) -> _Counted:
        level = _coarsest(values, grids)
        frequent = np.flatnonzero(np.bincount(level, minlength=len(grids) + 1) >= MIN_SHARED)
        grids = grids[: int(frequent.max(initial=0))]
        n_grids, n_intervals = len(grids) + 1, len(edges) - 1
        interval = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, n_intervals - 1)
        counts = _table(interval, np.minimum(level, len(grids)), n_intervals, n_grids)
        there = _candidates(grids, edges, atoms)
        usual = np.where(there > 0, counts.sum(0) / counts.sum(), 0.0)
        return cls(grids, counts, there, _shares(usual, _shares(there, np.eye(n_grids)[:1])))

    def likelihood(self) -> float:
        """Return the log-likelihood of the values, if all intervals are as round as the column."""
        seen = self.counts > 0
        return float((self.counts[seen] * np.log(self.usual[seen] / self.there[seen])).sum())

    def clear(self) -> bool:
        """Say whether the values are rounder than chance makes them."""
        even = _shares(self.there, np.zeros((1, self.there.shape[1])))
        seen, expected = self.counts.sum(0), (self.counts.sum(1, keepdims=True) * even).sum(0)
        affected = np.abs(seen - expected).sum() / 2 / seen.sum()
        some = seen > 0
        surprise = 2 * float((seen[some] * np.log(seen[some] / np.maximum(expected[some], 1e-9))).sum())
        return bool(affected >= LEAST and chdtrc(len(self.grids), surprise) <= CHANCE)

    def told(self) -> Roundness:
        """Return what may be told of it: each interval leans on those around it, and they on the whole column."""
        near_counts = around(self.counts)
        usual = _shares(np.where(self.counts.sum(0) >= MIN_SHARED, self.usual, 0.0), self.usual)
        near = _shares(np.where(self.there > 0, _leaning(near_counts, usual), 0.0), usual)
        shares = _leaning(self.counts, near)
        return Roundness(grids=self.grids, shares=tuple(map(tuple, np.round(shares, 9).tolist())))


def around(table: np.ndarray) -> np.ndarray:
    """Return the sums of each line of a table and of the `AROUND` lines on either side of it."""
    return np.stack([table[max(0, i - AROUND) : i + AROUND + 1].sum(0) for i in range(len(table))])


def _leaning(counts: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Return the shares of each line of counts; of grids that fewer than `MIN_SHARED` rows are on, as is usual."""
    total = counts.sum(1, keepdims=True)
    told = np.where(counts >= MIN_SHARED, counts, 0)
    # Who is on no grid that is told of is spread over the others; of a few, only what is usual says anything.
    left = total - told.sum(1, keepdims=True)
    others = np.where(left >= MIN_SHARED, _shares(np.where(told > 0, 0.0, usual), usual), usual)
    return np.asarray((told + left * others + BACKING * usual) / (total + BACKING))


def _shares(table: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Return each line of a table as shares, or that of another one where nothing is in it."""
    total = table.sum(1, keepdims=True)
    return np.where(total > 0, table / np.where(total > 0, total, 1.0), otherwise)


def _coarsest(values: np.ndarray, grids: tuple[int, ...]) -> np.ndarray:
    """Return the place of the coarsest grid that each value is on, 0 for none, int64 ``(n,)``."""
    level = np.zeros(len(values), dtype=np.int64)
    for grid in grids:
        level += np.mod(values, grid) == 0
    return level


def _table(rows: np.ndarray, columns: np.ndarray, n_rows: int, n_columns: int) -> np.ndarray:
    return np.bincount(rows * n_columns + columns, minlength=n_rows * n_columns).reshape(n_rows, n_columns)


def _candidates(grids: tuple[int, ...], edges: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Count the values of each interval that are on a grid, on none coarser, and no atoms, ``(intervals, grids)``."""
    whole = np.array([1, *grids], dtype=np.float64)
    low, high = np.ceil(edges[:-1])[:, None], np.floor(edges[1:])[:, None]
    on = np.floor(high / whole) - np.ceil(low / whole) + 1
    on[:, :-1] -= on[:, 1:].copy()
    inside = atoms[(atoms > edges[0]) & (atoms < edges[-1])]
    if len(inside):
        interval = np.searchsorted(edges, inside, side="right") - 1
        on -= _table(interval, _coarsest(inside, grids), *on.shape)
    return np.maximum(on, 0.0)
