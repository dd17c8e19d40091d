"""States of columns that a private method may use: cut by the schema alone, put together by noisy counts.

A quantile, or a list of the values that many rows share, tells of the rows; so `data.encoding`'s learned states are no
use to a method that promises differential privacy. The states here follow from the schema (`public_states`).
They are too many for tables of pairs, and which of them hold enough rows to be told apart there is read off
counts that are noisy already (`coarse_states`), which costs no further privacy: MST puts rare levels together
so (McKenna, Miklau and Sheldon, Journal of Privacy and Confidentiality, 2021); intervals are ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fairsynth.data.encoding import TableEncoder
from fairsynth.data.level_states import MAX_LEVELS, LevelStates
from fairsynth.data.number_states import NumberStates, in_steps_from
from fairsynth.data.schema import Column, Schema, grid_step
from fairsynth.generators.layout import Layout

#: A level or interval stands alone if its noisy count is so many standard deviations above 0.
CLEAR = 3.0


def public_states(schema: Schema, bins: int) -> TableEncoder:
    """Return states of the columns that the schema alone decides; no row is looked at.

    Levels as the schema lists them. A number with at most `bins` grid points between its bounds has each as a
    state; another one has its two bounds as states and between them `bins` intervals of equal width.

    Parameters
    ----------
    schema : Schema
        Counts as public.
    bins : int
        From 1 up.
    """
    return TableEncoder(
        schema,
        [
            _level_states(column)
            if column.kind in ("categorical", "boolean")
            else _number_states(column, bins)
            for column in schema
            if column.kind != "identifier"
        ],
    )


def _level_states(column: Column) -> LevelStates:
    n_levels = len(column.group_names())
    if n_levels <= MAX_LEVELS:
        return LevelStates(name=column.name, n_levels=n_levels, missing=column.has_missing)
    # Which levels share a state must not depend on how frequent they are.
    return LevelStates(
        name=column.name, n_levels=n_levels, missing=column.has_missing,
        order=tuple(range(n_levels)), weights=(1 / n_levels,) * n_levels,
    )  # fmt: skip


def _number_states(column: Column, bins: int) -> NumberStates:
    step, (low, high) = grid_step(column), column.bounds
    first, last = (np.round(low / step), np.round(high / step)) if step else (low, high)
    told: dict[str, Any] = {"name": column.name, "step": step, "missing": column.has_missing}
    if first == last:
        return NumberStates(atoms=(float(first),), **told)
    if step and last - first < bins:
        edges = first - 0.5 + np.arange(int(last - first) + 2)
        return NumberStates(edges=tuple(edges.tolist()), **told)
    cuts = in_steps_from(column.edges or (), step)
    ends = (first - 0.5, last + 0.5) if step else (first, last)
    edges = np.linspace(*ends, bins + 1)
    if step:
        edges, cuts = np.floor(edges) + 0.5, cuts - 0.5
    inner = np.concatenate([edges[1:-1], cuts])
    inner = inner[(inner > ends[0]) & (inner < ends[1])]
    edges = np.unique(np.concatenate([[ends[0]], inner, [ends[1]]]))
    return NumberStates(atoms=(float(first), float(last)), edges=tuple(edges.tolist()), **told)


def coarse_states(
    layout: Layout, j: int, noisy: np.ndarray, variance: float, n_rows: int, max_states: int
) -> np.ndarray:
    """Return the coarse state of every state of a column, by its noisy counts alone, int64 ``(size,)``.

    Levels whose count does not stand clear of the noise share one; neighbouring intervals are put together until
    they hold a share of the rows. Levels of the target and of sensitive columns, groups of a numeric sensitive
    column, and missing values are always told apart.
    """
    states = layout.encoder.states[j]
    size, deviation = states.size, variance**0.5
    present = size - states.missing
    coarse = np.arange(size, dtype=np.int64)
    if isinstance(states, LevelStates):
        if j != layout.target and j not in layout.sensitive:
            rare = np.flatnonzero(noisy[:present] < CLEAR * deviation)
            coarse[rare] = rare[0] if len(rare) else 0
    else:
        enough = max(n_rows / max_states, CLEAR * deviation)
        bands = layout.bands.get(j, np.zeros(size))
        order = np.argsort(states.places()[:present], kind="stable")
        own, total, last = order[0], 0.0, order[0]
        for at in order:
            # A heavy state begins anew, so that it is not blurred by light ones before it.
            apart = bands[at] != bands[last] or (noisy[at] >= enough and total >= CLEAR * deviation)
            if at != order[0] and (total >= enough or apart):
                own, total = at, 0.0
            coarse[at], last = own, at
            total += noisy[at]
    return np.unique(coarse, return_inverse=True)[1].reshape(-1).astype(np.int64)


class Coarse:
    """States of a column that pairs do not tell apart, and their shares.

    Parameters
    ----------
    states : np.ndarray
        Coarse state of each state, int64 ``(size,)``, from 0 without gaps.
    within : np.ndarray
        P(state | coarse state), float64 ``(size,)``.

    Raises
    ------
    ValueError
        If they are none.
    """

    def __init__(self, states: np.ndarray, within: np.ndarray) -> None:
        ok = (
            states.dtype == np.int64
            and within.dtype == np.float64
            and states.shape == within.shape
            and len(states) > 0
            and np.array_equal(np.unique(states), np.arange(states.max() + 1))
            and np.isfinite(within).all()
            and (within >= 0).all()
            and np.allclose(np.bincount(states, weights=within), 1.0, atol=1e-6)
        )
        if not ok:
            raise ValueError("the coarse states do not fit the columns")
        self.states, self.within = states, within
        self.size = int(states.max()) + 1
        self._order = np.argsort(states, kind="stable")
        sums = np.bincount(states, weights=within, minlength=self.size)
        ordered = states[self._order]
        first = np.searchsorted(ordered, np.arange(self.size))
        before = np.concatenate([[0.0], np.cumsum(within[self._order])])[:-1]
        own = before - before[first][ordered]
        # Ends of the stretches of each coarse state's states, in coarse state + (0, 1].
        self._ends = ordered + np.minimum(
            (own + within[self._order]) / np.maximum(sums, 1e-300)[ordered], 1.0
        )
        self._last = np.searchsorted(ordered, np.arange(self.size), side="right") - 1
        self._first = first

    def lift(self, weights: np.ndarray) -> np.ndarray:
        """Return the probability of what is known given each coarse state, from that given each state."""
        return np.bincount(self.states, weights=self.within * weights, minlength=self.size)

    def given(self, weights: np.ndarray) -> Coarse:
        """Return the shares given what is known of the states."""
        within = self.within * weights
        sums = np.bincount(self.states, weights=within, minlength=self.size)[self.states]
        return Coarse(self.states, np.where(sums > 0, within / np.where(sums > 0, sums, 1.0), self.within))

    def draw(self, coarse: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a state for each coarse state ``(n,)``."""
        if self.size == len(self.states):
            return self._order[coarse]
        place = np.searchsorted(self._ends, coarse + rng.random(len(coarse)), side="right")
        return self._order[np.clip(place, self._first[coarse], self._last[coarse])]
