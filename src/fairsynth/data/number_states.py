"""States of a column of numbers or moments: values that many rows share, and intervals to draw a number in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsynth.data.dated import Dated
from fairsynth.data.derived import FLOAT_NOISE, Derived
from fairsynth.data.frames import batch_column
from fairsynth.data.leaning import NEAREST, leaned, rates_of
from fairsynth.data.level_states import masked, with_missing
from fairsynth.data.roundness import EXACT, Roundness, RoundNumbers
from fairsynth.data.schema import Column, grid_step
from fairsynth.data.shared_values import beyond_chance
from fairsynth.errors import DataError

#: Grid points of a number whose states are looked up, where that many rows come at a time.
GRID_POINTS = 20_000


class NumberStates(BaseModel):
    """States of a continuous, integer or datetime column: atoms, then intervals, then missing.

    Attributes
    ----------
    name : str
        The column.
    step : float
        Grid of the values: 1 for integers, 0.01 for two decimals, microseconds for moments; 0 for none.
    atoms : tuple of float
        Values that are states, ascending, in steps (or as they are if `step` is 0).
    edges : tuple of float
        Ends of the intervals, ascending, in steps; half-way between grid points.
    missing : bool
        Whether the last state is "missing".
    roundness : Roundness or None
        How round the values inside the intervals are; None for columns that are no rounder than chance makes them.
    means : tuple of float
        Where the values of each interval lie on average, from 0 to 1; empty if everywhere in the middle.
    follows : Derived or None
        How the column is computed from others; None for one that is drawn.
    since : str or None
        A moment from which this one is told: the states are of the time between them (`data.since`).
    never_below : tuple of str
        Columns below which this one never is (`data.ordered`).
    told_by : str or None
        The column that decides this one (`data.determined`).
    told : tuple of int
        For each state of that column the state of this one; -1 where it decides nothing.
    dated : Dated or None
        How moments tell it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["numbers"] = "numbers"
    name: str
    step: float = Field(ge=0)
    atoms: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    missing: bool
    roundness: Roundness | None = None
    means: tuple[float, ...] = ()
    follows: Derived | None = None
    since: str | None = None
    never_below: tuple[str, ...] = ()
    told_by: str | None = None
    told: tuple[int, ...] = ()
    dated: Dated | None = None

    @model_validator(mode="after")
    def _check(self) -> NumberStates:
        for what in (self.atoms, self.edges):
            if not np.isfinite(what).all() or (np.diff(what) <= 0).any():
                raise ValueError(f"column {self.name!r}: atoms and edges must be finite and ascend")
        if not self.atoms and len(self.edges) < 2:
            raise ValueError(f"column {self.name!r}: there is neither an atom nor an interval")
        if self.roundness is not None and (not self.step or len(self.roundness.shares) != self.n_intervals):
            raise ValueError(f"column {self.name!r}: how round its numbers are does not fit its intervals")
        if self.means and (
            len(self.means) != self.n_intervals or not all(NEAREST <= m <= 1 - NEAREST for m in self.means)
        ):
            raise ValueError(f"column {self.name!r}: where its numbers lie does not fit its intervals")
        return self

    def fits(self, column: Column) -> bool:
        """Whether these are states of the column, and none of them leaves its remembered range."""
        if column.kind not in ("continuous", "integer", "datetime") or self.step != grid_step(column):
            return False
        low, high = self._in_steps(np.array(column.bounds)) + np.array([-0.5, 0.5]) * bool(self.step)
        values = (*self.atoms, *self.edges)
        return self.missing >= column.has_missing and low <= min(values) and max(values) <= high

    @property
    def n_intervals(self) -> int:
        """Number of intervals."""
        return max(len(self.edges) - 1, 0)

    @property
    def size(self) -> int:
        """Number of states."""
        return len(self.atoms) + self.n_intervals + self.missing

    @cached_property
    def _low(self) -> np.ndarray:
        """First value of each state, in steps."""
        low = np.concatenate([self.atoms, self.edges[:-1] if self.n_intervals else (), [0.0] * self.missing])
        return np.ceil(low) if self.step else low

    @cached_property
    def _span(self) -> np.ndarray:
        """Grid points in each state, atoms inside an interval included; without a grid, its length."""
        ends = np.diff(self.edges) if self.n_intervals else np.zeros(0)
        if self.step and self.n_intervals:
            ends = np.maximum(np.floor(self.edges[1:]) - np.ceil(self.edges[:-1]) + 1, 1)
        point = 1.0 if self.step else 0.0
        return np.concatenate([np.full(len(self.atoms), point), ends, np.full(int(self.missing), point)])

    @cached_property
    def _atoms_inside(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Say which grid points of the intervals are atoms, so that a draw can step over them.

        Returns
        -------
        count : np.ndarray
            Atoms inside each state, ``(size,)``.
        first : np.ndarray
            Place of each state's first atom in `keys`.
        keys : np.ndarray
            Ascending: state times `_far`, plus the atom's place among the points that are no atoms.
        """
        atoms, low = np.asarray(self.atoms), self._low
        count, keys = np.zeros(self.size, dtype=np.int64), []
        if self.step and self.size * self._far < 2**63:
            for state in range(len(atoms), len(atoms) + self.n_intervals):
                start = np.searchsorted(atoms, low[state])
                stop = np.searchsorted(atoms, low[state] + self._span[state])
                if stop - start < self._span[state]:
                    count[state] = stop - start
                    places = atoms[start:stop] - low[state] - np.arange(stop - start)
                    keys.append(state * self._far + places.astype(np.int64))
        first = np.concatenate([[0], np.cumsum(count)[:-1]])
        exact = np.float64 if self.size * self._far <= EXACT else np.int64
        return count, first, np.concatenate(keys).astype(exact) if keys else np.zeros(0)

    @cached_property
    def _far(self) -> int:
        """A power of two further apart than any two values inside one state."""
        return 1 << int(self._span.max()).bit_length()

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and the highest number of each state, float64 ``(size,)``; of "missing" there are none.

        So nothing is above or below it: its lowest number is -inf, its highest one inf.
        """
        high = self._low + (self._span - 1 if self.step else self._span)
        low, high = (ends * (self.step or 1.0) for ends in (self._low, high))
        if self.missing:
            low, high = np.append(low[:-1], -np.inf), np.append(high[:-1], np.inf)
        return low, high

    def _in_steps(self, values: np.ndarray) -> np.ndarray:
        return np.round(values / self.step) if self.step else values

    def states_of(self, values: np.ndarray) -> np.ndarray:
        """Return the state of finite numbers ``(n,)``; values outside the range go to the nearest interval."""
        grid = self._in_steps(values)
        first, table = self._of_grid
        if len(table) and len(grid) > len(table):
            return table.take(np.clip(grid - first, 0, len(table) - 1).astype(np.int64))
        return self._states_of_grid(grid)

    @cached_property
    def _of_grid(self) -> tuple[float, np.ndarray]:
        """The state of every grid point from one below the lowest that is told apart to one above; empty if many."""
        values = np.concatenate([self.atoms, self.edges])
        first, last = np.floor(values.min()) - 1, np.ceil(values.max()) + 1
        if not self.step or last - first >= GRID_POINTS:
            return 0.0, np.zeros(0, dtype=np.int32)
        return float(first), self._states_of_grid(np.arange(first, last + 1))

    def _states_of_grid(self, grid: np.ndarray) -> np.ndarray:
        atoms, edges = np.asarray(self.atoms), np.asarray(self.edges)
        interval = np.zeros(len(grid), dtype=np.int64)
        if self.n_intervals:
            interval = np.clip(np.searchsorted(edges, grid, side="right") - 1, 0, self.n_intervals - 1) + len(
                atoms
            )
        if not len(atoms):
            return interval.astype(np.int32)
        at = np.clip(np.searchsorted(atoms, grid), 0, len(atoms) - 1)
        if not self.n_intervals:  # every value is an atom: an unknown one counts as its neighbour
            before = np.clip(at - 1, 0, len(atoms) - 1)
            nearer = np.abs(atoms[before] - grid) < np.abs(atoms[at] - grid)
            return np.where(nearer, before, at).astype(np.int32)
        return np.where(atoms[at] == grid, at, interval).astype(np.int32)

    def places_inside(self, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Say where in its interval each value lies, among those that are no atoms, or that are as round.

        Parameters
        ----------
        grid : np.ndarray
            Values in steps, none an atom, float64 ``(n,)``.

        Returns
        -------
        places : np.ndarray
            From 0 to 1, ``(n,)``.
        intervals : np.ndarray
            int64 ``(n,)``.
        """
        states = self._states_of_grid(grid).astype(np.int64)
        if self._round_numbers is not None:
            intervals = states - len(self.atoms)
            return np.clip(self._round_numbers.places(grid, intervals), 0.0, 1.0), intervals
        low, room = self._low.take(states), self._span.astype(np.float64)
        off = grid - low
        if self.step:
            atoms = np.asarray(self.atoms)
            off += 0.5 - (np.searchsorted(atoms, grid) - np.searchsorted(atoms, low))
            room = room - self._atoms_inside[0]
        return np.clip(off / np.maximum(room.take(states), 1e-300), 0.0, 1.0), states - len(self.atoms)

    def beyond_chance(self, rest: np.ndarray, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Say which values of the intervals more rows share than chance explains, bool ``(values,)``.

        Parameters
        ----------
        rest : np.ndarray
            All values of the intervals in steps ``(n,)``.
        values, counts : np.ndarray
            Some of them, and how many rows have each ``(values,)``.
        """
        if not self.step:  # chance does not repeat what lies on no grid
            return np.ones(len(values), dtype=bool)
        own, room = self._alike(values)
        rows = np.bincount(self._alike(rest)[0], minlength=room.size).reshape(room.shape)
        return beyond_chance(counts, own, rows, room, len(np.unique(rest)))

    def pairs_by_chance(self, rest: np.ndarray) -> float:
        """Return how many pairs of rows would share a value by chance, given all values of the intervals ``(n,)``.

        Chance puts a row on any value of its interval that is as round.
        """
        place, room = self._alike(rest)
        rows = np.bincount(place, minlength=room.size)
        return float((rows * (rows - 1) / 2 / np.maximum(room.reshape(-1), 1)).sum())

    def _alike(self, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Say which values chance cannot tell from each other.

        Parameters
        ----------
        grid : np.ndarray
            Values in steps, none an atom, float64 ``(n,)``.

        Returns
        -------
        place : np.ndarray
            Interval of each times the number of kinds of roundness, plus its own, int64 ``(n,)``.
        room : np.ndarray
            How many values there could be, ``(intervals, kinds)``.
        """
        first, numbers = len(self.atoms), self._round_numbers
        place = self._states_of_grid(grid).astype(np.int64) - first
        room = (self._span - self._atoms_inside[0])[first : first + self.n_intervals]
        if numbers is not None:
            place, room = numbers.kinds(grid, place), numbers.count
        return place, room.reshape(self.n_intervals, -1)

    def as_seen(self, values: np.ndarray) -> np.ndarray:
        """Return computed numbers ``(n,)`` as the column has them that many rows share.

        Without a grid the last digits of a number are those of whoever computed it: of 32 bits, or cut off in a text.
        """
        if self.step or not self.atoms:
            return values
        atoms = np.asarray(self.atoms)
        after = np.clip(np.searchsorted(atoms, values), 0, len(atoms) - 1)
        before = np.maximum(after - 1, 0)
        with np.errstate(invalid="ignore"):
            nearest = np.where(values - atoms[before] < atoms[after] - values, atoms[before], atoms[after])
            return np.where(np.abs(nearest - values) <= FLOAT_NOISE * np.abs(values), nearest, values)

    def counts_as_nearest(self, values: pl.Series) -> np.ndarray:
        """Return where a number is no state, although all states are single numbers, bool ``(n,)``."""
        numbers = as_numbers(values)
        unknown = np.isfinite(numbers) & ~np.isin(self._in_steps(numbers), self.atoms)
        return unknown if not self.n_intervals else np.zeros(len(numbers), dtype=bool)

    def encode(self, values: pl.Series) -> np.ndarray:
        """Return the state of every value, int32 ``(n,)``."""
        numbers = as_numbers(values)
        gone = values.is_null().to_numpy()
        if gone.any() and not self.missing:
            raise DataError(
                f"column {self.name!r}: row {int(np.argmax(gone))} is missing, and no row was when it was learned."
            )
        states = self.states_of(np.where(gone, self._low[0] * (self.step or 1.0), numbers))
        return np.where(gone, np.int32(self.size - 1), states) if gone.any() else states

    @cached_property
    def _rates(self) -> np.ndarray:
        """By how much the values of each state lean to an end; see `data.leaning`."""
        rates = np.zeros(self.size)
        rates[len(self.atoms) : len(self.atoms) + self.n_intervals] = rates_of(np.asarray(self.means))
        return rates

    def _inside(self, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw how far from the first value of its interval each number lies, in steps, float64 ``(n,)``."""
        inside, first, keys = self._atoms_inside
        draws = rng.random(len(states))
        if self.means:
            draws = leaned(draws, self._rates.take(states))
        draws *= (self._span - inside).take(states)
        if not self.step:
            return draws
        np.floor(draws, out=draws)
        if len(keys):  # a value that is a state of its own is not drawn as part of an interval
            places = states.astype(keys.dtype) * self._far + draws.astype(keys.dtype)
            draws += np.searchsorted(keys, places, side="right") - first.take(states)
        return draws

    @cached_property
    def _round_numbers(self) -> RoundNumbers | None:
        if self.roundness is None:
            return None
        own = slice(len(self.atoms), len(self.atoms) + self.n_intervals)
        low = self._low[own]
        return RoundNumbers.of(self.roundness, low, low + self._span[own] - 1, np.asarray(self.atoms))

    def _make_round(
        self,
        values: np.ndarray,
        states: np.ndarray,
        numbers: RoundNumbers,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Draw numbers as round as they are in their intervals; return which rows of an interval are left."""
        rows = np.flatnonzero((states >= len(self.atoms)) & (states < len(self.atoms) + self.n_intervals))
        rates = self._rates.take(states[rows]) if self.means else None
        drawn, found = numbers.draw(states[rows] - len(self.atoms), rng, rates)
        if found.all():
            values[rows] = drawn
            return rows[:0]
        values[rows[found]] = drawn[found]
        return rows[~found]

    def _values(
        self, states: np.ndarray, rng: np.random.Generator, column: Column
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a number for every state, drawn inside its interval, and which are missing.

        Floats; or int64, microseconds for moments.
        """
        values = self._low.take(states)
        if self.n_intervals:
            # What is a state of its own needs no chance: in many columns that is nearly every row.
            rows = np.flatnonzero(states >= len(self.atoms)) if self.atoms else slice(None)
            if self._round_numbers is not None:
                rows = self._make_round(values, states, self._round_numbers, rng)
            values[rows] += self._inside(states[rows], rng)
        gone = states == self.size - 1 if self.missing else None
        if column.kind == "continuous":
            if self.step:
                # Dividing by a power of ten gives the double nearest to the decimal; multiplying does not.
                per_unit = round(1 / self.step)
                values /= per_unit
            return values, gone
        if column.kind == "integer" and abs(values).max(initial=0) >= EXACT:
            values = np.clip(values, -(2.0**63), 2.0**63 - 1024)
            counts = np.clip(values.astype(np.int64), _whole(column.minimum), _whole(column.maximum))
        else:
            counts = values.astype(np.int64)
        if column.kind == "datetime":
            counts *= np.int64(self.step)
        return counts, gone

    def decode(self, states: np.ndarray, rng: np.random.Generator, column: Column) -> pl.Series:
        """Return canonical values of the states ``(n,)``, drawn inside their intervals."""
        values, gone = self._values(states, rng, column)
        series = pl.Series(self.name, values)
        return with_missing(series.cast(pl.Datetime("us")) if column.kind == "datetime" else series, gone)

    def decode_arrow(
        self, states: np.ndarray, rng: np.random.Generator, column: Column, kind: pa.DataType
    ) -> pa.Array:
        """Return the values of the states ``(n,)`` as an array of a batch; the same as by `decode`."""
        plain = {"continuous": pa.float64(), "integer": pa.int64()}.get(column.kind)
        if kind != plain or column.missing_marker is not None:
            return batch_column(self.decode(states, rng, column), column, kind)
        return masked(*self._values(states, rng, column))

    def middles(self) -> np.ndarray:
        """Return the number that stands for each state, ``(size,)``: the mean of an interval, NaN for missing."""
        first = len(self.atoms)
        found = self._low.astype(np.float64)
        inside = slice(first, first + self.n_intervals)
        means = np.asarray(self.means) if self.means else np.full(self.n_intervals, 0.5)
        if self.step:  # among the points that are no states of their own, as they are drawn
            atoms, first_atom, keys = self._atoms_inside
            points = np.maximum((self._span - atoms)[inside], 1)
            places = np.minimum(np.floor(means * points), points - 1)
            if len(keys):
                own = np.arange(first, first + self.n_intervals)
                at = own.astype(keys.dtype) * self._far + places.astype(keys.dtype)
                places += np.searchsorted(keys, at, side="right") - first_atom[inside]
            found[inside] += places
        else:
            found[inside] += means * self._span[inside]
        found *= self.step or 1.0
        if self.missing:
            found[-1] = np.nan
        return found

    def places(self) -> np.ndarray:
        """Return where each state stands in the order of values, from 0 to 1; NaN for missing, ``(size,)``."""
        middle = (self._low + self._span / 2)[: self.size - self.missing]
        places = np.full(self.size, np.nan)
        places[np.argsort(middle, kind="stable")] = (np.arange(len(middle)) + 0.5) / len(middle)
        return places

    def band_of_states(self, column: Column) -> np.ndarray:
        """Return the group (band between the stated edges; one past the last if missing) of each state."""
        edges = in_steps_from(column.edges or (), self.step)
        middle = self._low + (self._span - (1 if self.step else 0)) / 2
        bands = np.searchsorted(edges, middle, side="right")
        if self.missing:
            bands[-1] = len(edges) + 1
        return bands


def in_steps_from(edges: Sequence[float], step: float) -> np.ndarray:
    """Return the first grid point at or above each edge, in steps; without a grid, the edges."""
    cuts = np.asarray(edges, dtype=np.float64)
    if not step:
        return cuts
    first = np.ceil(cuts / step - 1e-6)
    # 0.3 / 0.1 is less than 3: what counts is where the value itself lies, as it is decoded.
    values = first / round(1 / step) if step < 1 else first * step
    return first + (values < cuts)


def _whole(bound: object) -> int:
    return int(bound)  # type: ignore[call-overload]


def as_numbers(values: pl.Series) -> np.ndarray:
    """Return canonical numbers or moments as float64 ``(n,)``; missing ones as NaN."""
    physical = values.to_physical() if values.dtype.is_temporal() else values
    return physical.cast(pl.Float64).fill_null(np.nan).to_numpy()
