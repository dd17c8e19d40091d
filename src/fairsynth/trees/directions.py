"""Directions: what columns together foretell of another one, as sums of small tables that a tree may ask.

That age, education and hours each add something to an income takes a tree many cuts to say, each on fewer people; a sum
says it at once and rests on all of them. So a tree may ask, besides columns, the directions in which a linear model
of their bins foretells its column best: the leading ones of a reduced-rank regression (Izenman, 1975), with a ridge
(Hoerl and Kennard, 1970) or, of numbers, a penalty on bends. Each is cut into bins as a number is. That trees ask
them, that one is offered only if most of what it explains holds for rows that it was not learned from, and sums in
whole numbers, so that a row falls into the same bin on any machine, are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.linalg import block_diag, cho_factor, cho_solve
from scipy.sparse import csr_matrix

from fairsynth.trees.bins import Bins, number_parts

#: Directions of a column at most; two are added up at once in one whole number.
MOST = 2
#: Lines that a direction adds up, at most: those that tell most of the column.
ASKED = 16
#: Rows that it is learned from, at most.
ROWS = 50_000
#: Rows that count for a level having no effect; for a number's effect going on as it went in the bins before; and,
#: so that there is one solution, for its having none.
RIDGE = 300.0
BEND = 100.0
LEAST = 0.01
FOLDS = 5
#: Cells of a table of rows and lines that are looked at in one go.
CELLS_AT_A_TIME = 1_000_000
#: Part of what a direction explains in its own rows that it has to explain in others.
HOLDS = 0.2
#: Sums are whole numbers below this, of so many bits.
BITS = 12
CELLS = 1 << BITS


@dataclass(frozen=True)
class Directions:
    """Sums over lines of bins, cut into bins.

    Attributes
    ----------
    asked : tuple of int
        Lines that are added up.
    tables : tuple of np.ndarray
        What each of their bins adds to every direction, int16 ``(directions, bins)`` from 0 up.
    edges : tuple of np.ndarray
        The largest sum in each bin of a direction but the last, ascending, int16 ``(bins - 1,)``.
    """

    asked: tuple[int, ...]
    tables: tuple[np.ndarray, ...]
    edges: tuple[np.ndarray, ...]

    @property
    def bins(self) -> list[Bins]:
        """The bins of every direction, as those of an ordered column."""
        sizes = [len(edges) + 1 for edges in self.edges]
        return [Bins(np.arange(size, dtype=np.int64), size, ordered=True) for size in sizes]

    def lines(self, lines: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the bin of every row in each direction, int32 ``(n,)``, given lines of bins integers ``(n,)``."""
        steps, places = self._packed
        total = steps[0].take(lines[self.asked[0]], mode="clip")
        for line, step in zip(self.asked[1:], steps[1:], strict=True):
            total += step.take(lines[line], mode="clip")
        # Sums are within the tables: that was checked when the directions were made.
        found = [places[0].take(total & (CELLS - 1), mode="clip")]
        if len(places) > 1:
            found.append(places[1].take(total >> BITS, mode="clip"))
        return found

    @cached_property
    def _packed(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """What each bin adds, all directions in one whole number, and the bin of every sum."""
        shifts = (1 << (BITS * np.arange(len(self.edges)))).astype(np.int32)
        steps = [np.asarray(shifts @ table.astype(np.int32), dtype=np.int32) for table in self.tables]
        sums = np.arange(CELLS)
        return steps, [np.searchsorted(edges, sums, side="left").astype(np.int32) for edges in self.edges]

    def check(self, sizes: Sequence[int]) -> None:
        """Raise ValueError if these are no directions over lines of these numbers of bins."""
        count = len(self.edges)
        ok = (
            0 < count <= MOST
            and 0 < len(self.asked) == len(self.tables)
            and all(0 <= line < len(sizes) for line in self.asked)
            and all(
                table.dtype == np.int16 and table.shape == (count, sizes[line]) and table.min() >= 0
                for line, table in zip(self.asked, self.tables, strict=True)
            )
            and all(
                edges.dtype == np.int16 and edges.ndim == 1 and bool((np.diff(edges) > 0).all())
                for edges in self.edges
            )
        )
        if not ok or (sum(table.max(1).astype(np.int64) for table in self.tables) >= CELLS).any():
            raise ValueError("the directions of a tree do not fit its lines")


def learn_directions(
    lines: Sequence[np.ndarray],
    bins: Sequence[Bins],
    response: np.ndarray,
    *,
    most: int = MOST,
) -> Directions | None:
    """Learn the directions that foretell a column best.

    Parameters
    ----------
    lines : sequence of np.ndarray
        Bin of every row in each line, integers ``(n,)``.
    bins : sequence of Bins
        Of the lines.
    response : np.ndarray
        What stands for the column in every row, float64 ``(n, d)``, of about unit variance in each dimension.
    most : int
        Directions, at most; from 1 to `MOST`.

    Returns
    -------
    Directions or None
        None if no direction holds for rows that it was not learned from.
    """
    step = -(-len(response) // ROWS)
    lines, response = [line[::step] for line in lines], response[::step]
    response = response - response.mean(0)
    asked = _telling(lines, bins, response)
    if len(asked) < 2 or len(response) < 2 * FOLDS:  # a tree asks a single line as well by itself
        return None
    starts = np.cumsum([0, *(bins[line].size for line in asked)])
    rows = _indicators([lines[line] for line in asked], starts)
    fold = np.arange(len(response)) % FOLDS
    parts = [_Moments.of(rows[fold == k], response[fold == k]) for k in range(FOLDS)]
    whole, penalty = _Moments.sum(parts), _penalty([bins[line] for line in asked])
    weights = whole.ridge(penalty)
    fitted = _centered(rows @ weights)
    variance, axes = np.linalg.eigh(fitted.T @ fitted)
    axes = axes[:, ::-1][:, : min(most, int((variance > 0).sum()))]
    foretold = np.empty_like(response)
    for k in range(FOLDS):
        own = fold == k
        foretold[own] = _centered(rows[own] @ _Moments.sum([*parts[:k], *parts[k + 1 :]]).ridge(penalty))
    aim = response @ axes
    inside, outside = _explained(aim, fitted @ axes), _explained(aim, foretold @ axes)
    axes = axes[:, (inside > 0) & (outside >= HOLDS * inside)]
    if not axes.shape[1]:
        return None
    found = _in_whole_numbers(weights @ axes, asked, starts)
    return _cut(found, lines)


def _telling(lines: Sequence[np.ndarray], bins: Sequence[Bins], response: np.ndarray) -> list[int]:
    """Return the lines whose bins tell most of the response, `ASKED` at most, ascending."""
    offered = [at for at, own in enumerate(bins) if own.size > 1]
    worth = {}
    # Many at a time: of hundreds of lines each takes less than it takes to ask for it.
    at_a_time = max(1, CELLS_AT_A_TIME // max(len(response), 1))
    for first in range(0, len(offered), at_a_time):
        some = offered[first : first + at_a_time]
        starts = np.cumsum([0, *(bins[at].size for at in some)])
        rows = _indicators([lines[at] for at in some], starts)
        squares = ((rows.T @ response) ** 2).sum(1)
        weights = 1 / np.maximum(np.bincount(rows.indices, minlength=starts[-1]), 1)
        for at, (start, stop) in zip(some, pairwise(starts), strict=True):
            own = float(squares[start:stop] @ weights[start:stop])
            worth[at] = own - bins[at].size * response.shape[1]
    return sorted(sorted(worth, key=lambda at: (-worth[at], at))[:ASKED])


def _indicators(lines: Sequence[np.ndarray], starts: np.ndarray) -> csr_matrix:
    """Return a 1 for each row and bin that it lies in, ``(n, all bins)``."""
    places = np.stack([line + start for line, start in zip(lines, starts, strict=False)], axis=1)
    ends = np.arange(0, places.size + 1, places.shape[1])
    return csr_matrix((np.ones(places.size), places.ravel(), ends), shape=(len(places), int(starts[-1])))


@dataclass(frozen=True)
class _Moments:
    """Sums over rows: of indicators, their products, and those with the response."""

    n: int
    first: np.ndarray
    second: np.ndarray
    cross: np.ndarray
    response: np.ndarray

    @classmethod
    def of(cls, rows: csr_matrix, response: np.ndarray) -> _Moments:
        first = np.asarray(rows.sum(0)).ravel()
        return cls(rows.shape[0], first, (rows.T @ rows).toarray(), rows.T @ response, response.sum(0))

    @classmethod
    def sum(cls, parts: Sequence[_Moments]) -> _Moments:
        def added(name: str) -> np.ndarray:
            return np.asarray(sum(getattr(part, name) for part in parts))

        n = sum(part.n for part in parts)
        return cls(n, added("first"), added("second"), added("cross"), added("response"))

    def ridge(self, penalty: np.ndarray) -> np.ndarray:
        """Return the weights of every indicator, ``(all bins, d)``."""
        mean = self.first / self.n
        products = self.second - np.outer(self.first, mean) + penalty
        return np.asarray(cho_solve(cho_factor(products), self.cross - np.outer(mean, self.response)))


def _penalty(bins: Sequence[Bins]) -> np.ndarray:
    """Return what the squares of weights cost, ``(all bins, all bins)``.

    Of a number the second differences do (Eilers and Marx, 1996): its outermost bins hold few rows, and would else
    count for nothing though they lie farthest out.
    """
    blocks = []
    for own in bins:
        if own.ordered:
            step = np.diff(np.eye(own.size), n=min(2, own.size - 1), axis=0)
            blocks.append(BEND * step.T @ step + LEAST * np.eye(own.size))
        else:
            blocks.append(RIDGE * np.eye(own.size))
    return np.asarray(block_diag(*blocks))


def _centered(values: np.ndarray) -> np.ndarray:
    return np.asarray(values - values.mean(0))


def _explained(aim: np.ndarray, foretold: np.ndarray) -> np.ndarray:
    """Return by how much the sum of squares of each direction is less once what was foretold is taken off."""
    return np.asarray((aim**2).sum(0) - ((aim - foretold) ** 2).sum(0))


def _in_whole_numbers(weights: np.ndarray, asked: list[int], starts: np.ndarray) -> Directions:
    """Write weights ``(all bins, directions)`` as tables of whole numbers whose sums are below `CELLS`."""
    own = [weights[start:stop].T for start, stop in pairwise(starts)]
    own = [table - table.min(1, keepdims=True) for table in own]
    reach = np.maximum(sum(table.max(1) for table in own), 1e-300)
    scale = (CELLS - 1 - len(own)) / reach
    tables = tuple(np.rint(table * scale[:, None]).astype(np.int16) for table in own)
    return Directions(tuple(asked), tables, (np.zeros(0, dtype=np.int16),) * weights.shape[1])


def _cut(uncut: Directions, lines: Sequence[np.ndarray]) -> Directions:
    """Cut each direction into bins of about as many rows."""
    edges = []
    for k in range(len(uncut.edges)):
        sums = np.zeros(len(lines[0]), dtype=np.int64)
        for line, table in zip(uncut.asked, uncut.tables, strict=True):
            sums += table[k].take(lines[line])
        counts = np.bincount(sums)
        seen = np.flatnonzero(counts)
        part = number_parts(counts[seen].astype(np.float64))
        edges.append(seen[:-1][np.diff(part) > 0].astype(np.int16))
    return Directions(uncut.asked, uncut.tables, tuple(edges))
