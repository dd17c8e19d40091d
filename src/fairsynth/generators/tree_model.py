"""A law on several discrete variables whose dependences form a forest: fitted to noisy tables, conditioned, drawn from.

On a forest everything that is hard on other graphs is a pass of matrix products over its edges: the marginals of the
law, the law given what is known of some variables, and a row. The fit is the one of Private-PGM (McKenna, Sheldon
and Miklau, ICML 2019, algorithm 1): among all laws on the forest the one whose one- and two-way marginals are nearest
to the noisy ones, by entropic mirror descent, the weights of the measurements being one over the variance of
their noise. That every step goes straight to the conditional tables, by one pass up the forest, is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

#: No probability is less at the start: what multiplies it could never raise it from 0.
_FLOOR = 1e-12


@dataclass(frozen=True)
class Measured:
    """A noisy table.

    Attributes
    ----------
    counts : np.ndarray
        Rows by state ``(size,)`` of one variable, or ``(size, size)`` of two.
    variance : float or np.ndarray
        Of the noise on each count; one for all, or of the shape of `counts`.
    """

    counts: np.ndarray
    variance: float | np.ndarray


def simplex(counts: np.ndarray) -> np.ndarray:
    """Return the probabilities nearest (in L2) to counts divided by their sum's scale, same shape.

    Parameters
    ----------
    counts : np.ndarray
        Any numbers that should sum to 1, such as noisy counts divided by the number of rows.
    """
    flat = np.sort(counts.ravel())[::-1]
    sums = np.cumsum(flat) - 1
    last = np.flatnonzero(flat - sums / np.arange(1, len(flat) + 1) > 0)[-1]
    return np.maximum(counts - sums[last] / (last + 1), 0.0)


class TreeModel:
    """A law that is a forest.

    Parameters
    ----------
    parents : sequence of int
        Parent of each variable, -1 for a root. No cycles.
    tables : sequence of np.ndarray
        For a root its probabilities ``(size,)``, else P(own state | parent's) ``(parent's size, size)``.

    Raises
    ------
    ValueError
        If the parents make no forest, or the tables are no probabilities that fit them.
    """

    def __init__(self, parents: Sequence[int], tables: Sequence[np.ndarray]) -> None:
        self.parents, self.tables = tuple(int(p) for p in parents), tuple(tables)
        self.order = _down(self.parents)
        self.sizes = tuple(table.shape[-1] for table in self.tables)
        for j, (parent, table) in enumerate(zip(self.parents, self.tables, strict=True)):
            shape = (self.sizes[j],) if parent < 0 else (self.sizes[parent], self.sizes[j])
            if table.shape != shape or not np.isfinite(table).all() or (table < 0).any():
                raise ValueError(f"the table of variable {j} does not fit the forest")
            if not np.allclose(table.sum(-1), 1.0, atol=1e-6):
                raise ValueError(f"the table of variable {j} holds no probabilities")
        self._cumulative = [_cumulative(table) for table in self.tables]

    @classmethod
    def fit(
        cls,
        parents: Sequence[int],
        singles: Sequence[Measured],
        pairs: Sequence[Measured | None],
        n_rows: int,
        *,
        steps: int = 400,
        hear: Callable[[int, float], None] | None = None,
    ) -> TreeModel:
        """Find the law nearest to noisy tables.

        Parameters
        ----------
        parents : sequence of int
            The forest.
        singles : sequence of Measured
            One table for each variable.
        pairs : sequence of Measured or None
            For each variable with a parent, rows by (parent's state, own state).
        n_rows : int
            Rows that were counted.
        steps : int
            Steps of the descent.
        hear : callable, optional
            Told the step and the loss.

        Returns
        -------
        TreeModel
        """
        return _Fit(tuple(parents), singles, pairs, n_rows).run(steps, hear)

    def marginals(self) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        """Return the probabilities of each variable's states, and of each with its parent's (None for roots)."""
        return _marginals(self.parents, self.order, self.tables)

    def given(self, weights: Sequence[np.ndarray]) -> tuple[TreeModel, float]:
        """Return the law given what is known, and the probability of that.

        Parameters
        ----------
        weights : sequence of np.ndarray
            For each variable the probability of what is known given each of its states ``(size,)``; ones where
            nothing is known.

        Raises
        ------
        ValueError
            If it is impossible.
        """
        tables, log_total = _reweighted(self.parents, self.order, self.tables, weights)
        if not np.isfinite(log_total):
            raise ValueError("what is known is impossible under this law")
        return TreeModel(self.parents, tables), float(np.exp(log_total))

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw rows of states, int64 ``(variables, n)``."""
        lines = np.empty((len(self.parents), n), dtype=np.int64)
        for j in self.order:
            parent, size = self.parents[j], self.sizes[j]
            at = lines[parent] if parent >= 0 else 0
            # The cumulative of row r runs from r to r + 1, so that one search serves all rows.
            place = np.searchsorted(self._cumulative[j], rng.random(n) + at, side="right") - at * size
            lines[j] = np.minimum(place, size - 1)
        return lines


class _Fit:
    """The state of a fit; see `TreeModel.fit`."""

    def __init__(
        self,
        parents: tuple[int, ...],
        singles: Sequence[Measured],
        pairs: Sequence[Measured | None],
        n_rows: int,
    ) -> None:
        self.parents, self.order, self.n = parents, _down(parents), n_rows
        self.singles, self.pairs = singles, pairs
        self.tables = [self._start(j) for j in range(len(parents))]

    def _start(self, j: int) -> np.ndarray:
        pair = self.pairs[j]
        if pair is None:
            return _rows(simplex(self.singles[j].counts / self.n))
        return _rows(np.maximum(pair.counts, np.sqrt(pair.variance) / 10) / self.n)

    def run(self, steps: int, hear: Callable[[int, float], None] | None) -> TreeModel:
        singles, pairs = _marginals(self.parents, self.order, self.tables)
        loss = self._loss(singles, pairs)
        rate = 1.0 / self.n
        for step in range(steps):
            slopes, pair_slopes = self._slopes(singles, pairs)
            for _ in range(30):
                tables, _total = _reweighted(
                    self.parents,
                    self.order,
                    [
                        table if slope is None else table * _falling(slope, rate)
                        for table, slope in zip(self.tables, pair_slopes, strict=True)
                    ],
                    [_falling(slope, rate) for slope in slopes],
                )
                new, new_pairs = _marginals(self.parents, self.order, tables)
                new_loss = self._loss(new, new_pairs)
                promised = sum(
                    float((s * (b - a)).sum()) for s, a, b in zip(slopes, singles, new, strict=True)
                )
                for slope, a, b in zip(pair_slopes, pairs, new_pairs, strict=True):
                    if slope is not None and a is not None and b is not None:
                        promised += float((slope * (b - a)).sum())
                if new_loss <= loss + 0.5 * promised:
                    self.tables, singles, pairs, loss = tables, new, new_pairs, new_loss
                    rate *= 1.5
                    break
                rate *= 0.5
            if hear is not None:
                hear(step + 1, loss)
        return TreeModel(self.parents, self.tables)

    def _loss(self, singles: list[np.ndarray], pairs: list[np.ndarray | None]) -> float:
        total = 0.0
        for measured, law in (*zip(self.singles, singles, strict=True), *zip(self.pairs, pairs, strict=True)):
            if measured is not None and law is not None:
                total += float(((self.n * law - measured.counts) ** 2 / (2 * measured.variance)).sum())
        return total

    def _slopes(
        self, singles: list[np.ndarray], pairs: list[np.ndarray | None]
    ) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        def slope(measured: Measured, law: np.ndarray) -> np.ndarray:
            return self.n * (self.n * law - measured.counts) / measured.variance

        return (
            [slope(m, law) for m, law in zip(self.singles, singles, strict=True)],
            [
                None if m is None or law is None else slope(m, law)
                for m, law in zip(self.pairs, pairs, strict=True)
            ],
        )


def _falling(slope: np.ndarray, rate: float) -> np.ndarray:
    return np.exp(np.maximum(rate * (slope.min() - slope), -200.0))


def _down(parents: Sequence[int]) -> tuple[int, ...]:
    """Return the variables so that every parent comes before its children."""
    order: list[int] = []
    placed: set[int] = set()
    if any(not -1 <= parent < len(parents) for parent in parents):
        raise ValueError("a variable's parent does not exist")
    waiting = list(range(len(parents)))
    while waiting:
        ready = [j for j in waiting if parents[j] < 0 or parents[j] in placed]
        if not ready:
            raise ValueError("the parents run in a circle")
        order += ready
        placed |= set(ready)
        waiting = [j for j in waiting if j not in placed]
    return tuple(order)


def _rows(table: np.ndarray) -> np.ndarray:
    table = np.maximum(table, _FLOOR)
    return table / table.sum(-1, keepdims=True)


def _cumulative(table: np.ndarray) -> np.ndarray:
    sums = np.cumsum(np.atleast_2d(table), axis=1)
    sums /= sums[:, -1:]
    return (sums + np.arange(len(sums))[:, None]).ravel()


def _marginals(
    parents: Sequence[int], order: Sequence[int], tables: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    singles: list[np.ndarray] = [np.zeros(0)] * len(parents)
    pairs: list[np.ndarray | None] = [None] * len(parents)
    for j in order:
        if parents[j] < 0:
            singles[j] = tables[j]
            continue
        both = singles[parents[j]][:, None] * tables[j]
        pairs[j], singles[j] = both, both.sum(0)
    return singles, pairs


def _reweighted(
    parents: Sequence[int],
    order: Sequence[int],
    tables: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
) -> tuple[list[np.ndarray], float]:
    """Return the tables of the law proportional to the product of tables and weights, and its log total."""
    belief = [np.asarray(weight, dtype=np.float64) for weight in weights]
    out: list[np.ndarray] = [np.zeros(0)] * len(parents)
    log_total = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        for j in reversed(order):
            joint = tables[j] * belief[j]
            total = joint.sum(-1, keepdims=True)
            out[j] = np.where(total > 0, joint / total, 1.0 / joint.shape[-1])
            message = total[..., 0]
            if parents[j] < 0:
                log_total += float(np.log(message))
                continue
            largest = message.max()
            if largest > 0:
                message = message / largest
            log_total += float(np.log(largest))
            belief[parents[j]] = belief[parents[j]] * message
    return out, log_total
