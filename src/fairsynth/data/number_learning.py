"""Learning which numbers of a column are states of their own, and where its intervals end. Ours."""

from __future__ import annotations

import numpy as np
import polars as pl

from fairsynth.data.leaning import learn_means
from fairsynth.data.number_states import NumberStates, as_numbers, in_steps_from
from fairsynth.data.persons import people_of
from fairsynth.data.roundness import MIN_SHARED, learn_roundness
from fairsynth.data.schema import Column, grid_step

#: Columns with at most this many distinct numbers keep every shared one as a state.
FEW_NUMBERS = 128
#: Above that, a number is a state of its own from this share of the rows on (and from 20 rows on), or if `MIN_SHARED`
#: share it and chance does not explain that.
ATOM_SHARE = 0.005
#: Rows that an interval should hold at least.
ROWS_PER_INTERVAL = 20
#: Numbers are codes if rows that share a rare one make more pairs than chance does, times this (of amounts, counts and
#: scores of some seventy tables .9 to 3.7 times, of codes 4 to 1,800), if there are so many, ...
CODES = 4.0
FEW_PAIRS = 10
#: ... if rare ones are that share of the rows, at least and at most, and if half of them lie that many steps from any
#: other: of numbers that lie closer many in between are codes, too.
RARE = (0.005, 0.5)
APART = 4


def learn_numbers(
    values: pl.Series, column: Column, max_intervals: int, persons: np.ndarray | None = None
) -> NumberStates:
    """Learn the states of a column from its values ``(n,)``, with so many intervals at most.

    Codes (of places, schools, goods, or the squares of ages) are no amounts: between two of them there is nothing. So
    those that `MIN_SHARED` rows have are the states, and a rarer one counts as the nearest of these.

    Where there are several rows of a person, `persons` says whom each is of ``(n,)``, and as many people have to share
    a value.
    """
    step = grid_step(column)
    missing = column.has_missing or values.null_count() > 0
    low, high = column.bounds
    # What lies beyond the remembered range counts as its end: a single person's extreme is not kept.
    numbers = np.clip(as_numbers(values.drop_nulls()), low, high)
    grid = np.round(numbers / step) if step else numbers
    distinct, counts = np.unique(grid, return_counts=True)
    people = counts
    if persons is not None:
        people = people_of(grid, distinct, persons[values.is_not_null().to_numpy()])
    often = people >= MIN_SHARED
    if step and not column.edges and column.kind != "datetime" and _may_be_codes(distinct, counts):
        found = _given_atoms(grid, distinct[often], column, missing, max_intervals)
        rest = grid[~np.isin(grid, distinct[often])]
        if _pairs(counts[~often]) > CODES * found.pairs_by_chance(rest):
            return NumberStates(
                name=column.name, step=step, atoms=tuple(distinct[often].tolist()), missing=missing
            )
    few = len(distinct) <= FEW_NUMBERS
    shared = often if few else often & (counts >= max(20.0, ATOM_SHARE * len(grid)))
    found = _given_atoms(grid, distinct[shared], column, missing, max_intervals)
    more = np.flatnonzero(~shared & often)
    if not found.n_intervals or not len(more):
        return found
    rest = grid[~np.isin(grid, distinct[shared])]
    beyond = more[found.beyond_chance(rest, distinct[more], counts[more])]
    if not len(beyond):
        return found
    shared[beyond[np.argsort(-counts[beyond], kind="stable")[:max_intervals]]] = True
    return _given_atoms(grid, distinct[shared], column, missing, max_intervals)


def _may_be_codes(distinct: np.ndarray, counts: np.ndarray) -> bool:
    """Whether numbers, ascending in steps, are as rare, as shared and as far apart as codes are."""
    rare = counts < MIN_SHARED
    n_rare = int(counts[rare].sum())
    if not RARE[0] <= n_rare / counts.sum() <= RARE[1] or _pairs(counts[rare]) < FEW_PAIRS:
        return False
    gaps = np.concatenate([[np.inf], np.diff(distinct), [np.inf]])
    nearest = np.minimum(gaps[:-1], gaps[1:])[rare]
    return bool(np.median(np.repeat(nearest, counts[rare])) >= APART)


def _pairs(counts: np.ndarray) -> float:
    """Return how many pairs of rows share a value, given how many have each."""
    return float((counts * (counts - 1) / 2).sum())


def _given_atoms(
    grid: np.ndarray, atoms: np.ndarray, column: Column, missing: bool, max_intervals: int
) -> NumberStates:
    """Learn the intervals of all values that are no atoms, given all of them in steps ``(n,)``."""
    step = grid_step(column)
    low, high = column.bounds
    first, last = (np.round(low / step), np.round(high / step)) if step else (low, high)
    rest = grid[~np.isin(grid, atoms)]
    if first == last:
        return NumberStates(name=column.name, step=step, atoms=(float(first),), edges=(), missing=missing)
    if not len(rest) and len(atoms):
        return NumberStates(name=column.name, step=step, atoms=tuple(atoms.tolist()), missing=missing)
    edges = _smoothed_quantiles(rest, int(np.clip(len(rest) // ROWS_PER_INTERVAL, 1, max_intervals)))
    if step:
        edges = np.floor(edges) + 0.5
        ends = (first - 0.5, last + 0.5)
        cuts = in_steps_from(column.edges or (), step) - 0.5
    else:
        ends, cuts = (first, last), np.asarray(column.edges or ())
    inner = np.concatenate([edges[1:-1], cuts])
    inner = inner[(inner > ends[0]) & (inner < ends[1])]
    # Groups may be asked for inside the interval of an atom-only column; the cuts make that possible.
    edges = np.unique(np.concatenate([[ends[0]], inner, [ends[1]]]))
    found = NumberStates(
        name=column.name, step=step, atoms=tuple(atoms.tolist()), edges=tuple(edges.tolist()), missing=missing,
        roundness=learn_roundness(column, rest, edges, atoms) if step else None,
    )  # fmt: skip
    return found.model_copy(update={"means": learn_means(*found.places_inside(rest), found.n_intervals)})


def _smoothed_quantiles(values: np.ndarray, count: int) -> np.ndarray:
    """Return ``count + 1`` quantiles, each the mean over `MIN_SHARED` neighbouring order statistics."""
    ordered = np.sort(values)
    at = np.linspace(0, len(ordered) - 1, count + 1).round().astype(int)
    window = np.arange(MIN_SHARED) - MIN_SHARED // 2
    return np.unique(ordered[np.clip(at[:, None] + window, 0, len(ordered) - 1)].mean(axis=1))
