"""What the rows of a leaf look like: shares of states, and one state drawn a row in constant time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fairsynth.trees.bins import Bins
from fairsynth.trees.layered import LayeredTree

#: Rows that the node above counts as within one bin of an ordered column.
FINE_ROWS = 10.0


@dataclass(frozen=True)
class LeafLaw:
    """The law of a column in every leaf.

    Attributes
    ----------
    shares : np.ndarray
        float32 ``(leaves, states)``; each line sums to 1 but for rounding.
    """

    shares: np.ndarray

    def check(self, n_leaves: int, n_states: int) -> None:
        """Raise ValueError if this is no law of so many states in so many leaves."""
        shares = self.shares
        ok = (
            shares.shape == (n_leaves, n_states)
            and shares.dtype == np.float32
            and np.isfinite(shares).all()
            and (shares >= 0).all()
            and (np.abs(shares.sum(1, dtype=np.float64) - 1) < 1e-3).all()
        )
        if not ok:
            raise ValueError("the law of a column does not fit its leaves or states")

    @cached_property
    def _alias(self) -> tuple[np.ndarray, np.ndarray]:
        accept, other = alias_table(self.shares)
        return accept.ravel(), other.ravel()

    def draw(self, leaves: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a state for every row, int64 ``(n,)``, given its leaf int64 ``(n,)``."""
        n_states = self.shares.shape[1]
        accept, other = self._alias
        uniform = rng.random(len(leaves))
        uniform *= n_states
        state = uniform.astype(np.int64)
        uniform -= state
        place = leaves * n_states
        place += state
        refused = uniform >= accept.take(place, mode="clip")
        return np.where(refused, other.take(place, mode="clip"), state)


def smoothed_shares(
    tree: LayeredTree,
    lines: list[np.ndarray],
    column: np.ndarray,
    n_states: int,
    *,
    weight: float,
    allowed: np.ndarray | None = None,
    coarse: Bins | None = None,
) -> np.ndarray:
    """Return the law of each leaf, drawn towards that of the node it was cut from, and so on up to the root.

    Of an ordered column a leaf of some dozens of people cannot know which of a hundred values is how likely: it would
    repeat theirs. It learns the law of the bins as told above, and within a bin leans on the node it was cut from
    by `FINE_ROWS` rows: coarse where it has to be, never a list of people.

    Parameters
    ----------
    tree : LayeredTree
        The leaves.
    lines : list of np.ndarray
        Bin of every row in each parent, int64 ``(n,)``.
    column : np.ndarray
        State of every row, int64 ``(n,)``.
    n_states : int
        Number of states.
    weight : float
        Rows that the node above counts as.
    allowed : np.ndarray, optional
        bool ``(nodes of the first layer, states)``: no state outside of this may come.
    coarse : Bins, optional
        Bins of the column's own states; not used together with `allowed`.

    Returns
    -------
    np.ndarray
        float32 ``(leaves, states)``.
    """
    if coarse is not None and allowed is None and coarse.size < n_states:
        return _two_scales(tree, lines, column, coarse, weight)
    node = np.zeros(len(column), dtype=np.int64)
    law = (np.bincount(column, minlength=n_states) + 1 / n_states)[None] / (len(column) + 1)
    for depth, layer in enumerate(tree.layers):
        n_before, n_bins = layer.table.shape
        n_nodes = int(layer.table.max()) + 1
        above = np.zeros(n_nodes, dtype=np.int64)
        above[layer.table.ravel()] = np.repeat(np.arange(n_before), n_bins)
        node = layer.table.ravel().take(node * n_bins + lines[layer.parent])
        if depth == 0 and allowed is not None:
            counts = np.bincount(node * n_states + column, minlength=n_nodes * n_states).reshape(n_nodes, -1)
            law = counts * allowed + allowed / np.maximum(allowed.sum(1, keepdims=True), 1)
            law = law / law.sum(1, keepdims=True)
            continue
        law = law[above]
        cut = np.flatnonzero((np.bincount(above, minlength=n_before) > 1)[above])
        place = np.full(n_nodes, -1, dtype=np.int64)
        place[cut] = np.arange(len(cut))
        at = place[node]
        counts = np.bincount(at[at >= 0] * n_states + column[at >= 0], minlength=len(cut) * n_states)
        counts = counts.reshape(len(cut), n_states)
        above_counts = weight * (counts > 0).sum(1, keepdims=True)
        law[cut] = (counts + above_counts * law[cut]) / (counts.sum(1, keepdims=True) + above_counts)
    return law.astype(np.float32)


def _two_scales(
    tree: LayeredTree, lines: list[np.ndarray], column: np.ndarray, bins: Bins, weight: float
) -> np.ndarray:
    """Return the law of each leaf as that of bins times that of states within a bin, ``(leaves, states)``."""
    of_state, n_states = bins.of_state, len(bins.of_state)
    member = np.zeros((n_states, bins.size))
    member[np.arange(n_states), of_state] = 1.0
    root = np.bincount(column, minlength=n_states) + 1 / n_states
    of_bin = (root @ member / root.sum())[None]
    within = (root / (root @ member)[of_state])[None]
    node = np.zeros(len(column), dtype=np.int64)
    for layer in tree.layers:
        n_before, n_bins = layer.table.shape
        n_nodes = int(layer.table.max()) + 1
        above = np.zeros(n_nodes, dtype=np.int64)
        above[layer.table.ravel()] = np.repeat(np.arange(n_before), n_bins)
        node = layer.table.ravel().take(node * n_bins + lines[layer.parent])
        of_bin, within = of_bin[above], within[above]
        cut = np.flatnonzero((np.bincount(above, minlength=n_before) > 1)[above])
        place = np.full(n_nodes, -1, dtype=np.int64)
        place[cut] = np.arange(len(cut))
        at = place[node]
        counts = np.bincount(at[at >= 0] * n_states + column[at >= 0], minlength=len(cut) * n_states)
        fine = counts.reshape(len(cut), n_states)
        rough = fine @ member
        backing = weight * (rough > 0).sum(1, keepdims=True)
        rows = rough.sum(1, keepdims=True)
        of_bin[cut] = (rough + backing * of_bin[cut]) / np.maximum(rows + backing, 1e-300)
        within[cut] = (fine + FINE_ROWS * within[cut]) / (rough + FINE_ROWS)[:, of_state]
    return np.asarray((of_bin[:, of_state] * within).astype(np.float32))


def alias_table(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Walker's table of every line: a state is kept with its probability, or gives way to its alias.

    Parameters
    ----------
    shares : np.ndarray
        ``(lines, states)``, from 0 up.

    Returns
    -------
    accept : np.ndarray
        float64 ``(lines, states)``.
    other : np.ndarray
        int64 ``(lines, states)``.
    """
    lines, size = shares.shape
    scaled = shares.astype(np.float64)
    scaled = scaled * size / scaled.sum(1, keepdims=True)
    order = np.argsort(scaled, axis=1, kind="stable")  # the poor first, the rich from the end
    accept, other = np.ones((lines, size)), np.broadcast_to(np.arange(size), (lines, size)).copy()
    row = np.arange(lines)
    poor, rich = np.zeros(lines, dtype=np.int64), np.full(lines, size - 1)
    left = scaled[row, order[:, -1]]  # what the richest still has
    carried = np.full(
        lines, -1, dtype=np.int64
    )  # a rich one that became poor, to be served before all others
    carried_has = np.zeros(lines)
    for _ in range(2 * size):
        busy = np.flatnonzero((poor < rich) | (carried >= 0))
        if not len(busy):
            break
        giver = order[busy, rich[busy]]
        from_carried = carried[busy] >= 0
        taker = np.where(from_carried, carried[busy], order[busy, poor[busy]])
        has = np.where(from_carried, carried_has[busy], scaled[busy, taker])
        needed = has < 1.0
        accept[busy, taker] = np.where(needed, has, 1.0)
        other[busy, taker] = np.where(needed, giver, taker)
        left[busy] -= np.where(needed, 1.0 - has, 0.0)
        carried[busy[from_carried]] = -1
        poor[busy[~from_carried]] += 1
        spent = (left[busy] < 1.0) & (poor[busy] < rich[busy])
        done = busy[spent]
        carried[done], carried_has[done] = order[done, rich[done]], left[done]
        rich[done] -= 1
        left[done] = scaled[done, order[done, rich[done]]]
    return np.clip(accept, 0.0, 1.0), other
