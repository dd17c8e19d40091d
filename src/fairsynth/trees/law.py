"""What the rows of a leaf look like: shares of states, and one state drawn a row in constant time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

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
    counts = leaf_counts(tree, lines, column, n_states)
    return shares_of_counts(tree, counts, weight=weight, allowed=allowed, coarse=coarse)


def leaf_counts(tree: LayeredTree, lines: list[np.ndarray], column: np.ndarray, n_states: int) -> np.ndarray:
    """Count the rows of each state in each leaf, int64 ``(leaves, states)``; those of batches can be added up."""
    place = tree.leaves(lines, len(column)) * n_states + column
    return np.bincount(place, minlength=tree.n_leaves * n_states).reshape(tree.n_leaves, n_states)


def shares_of_counts(
    tree: LayeredTree,
    counts: np.ndarray,
    *,
    weight: float,
    allowed: np.ndarray | None = None,
    coarse: Bins | None = None,
) -> np.ndarray:
    """Return the law of each leaf as `smoothed_shares` does, from what was counted in the leaves.

    Parameters
    ----------
    tree : LayeredTree
        The leaves.
    counts : np.ndarray
        Rows, int64 ``(leaves, states)``.
    weight, allowed, coarse
        As of `smoothed_shares`.

    Returns
    -------
    np.ndarray
        float32 ``(leaves, states)``.
    """
    n_states = counts.shape[1]
    if coarse is not None and allowed is None and coarse.size < n_states:
        return _two_scales(tree, counts, coarse, weight)
    root = counts.sum(0)
    law = (root + 1 / n_states)[None] / (root.sum() + 1)
    for depth, (above, cut, inside) in enumerate(_down(tree, counts)):
        if depth == 0 and allowed is not None:
            law = inside(np.arange(len(above))) * allowed
            law = law + allowed / np.maximum(allowed.sum(1, keepdims=True), 1)
            law = law / law.sum(1, keepdims=True)
            continue
        law = law[above]
        rows = inside(cut)
        above_counts = weight * (rows > 0).sum(1, keepdims=True)
        law[cut] = _towards(rows, above_counts, law[cut])
    return law.astype(np.float32)


def _towards(rows: np.ndarray, backing: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Return shares of rows to which `backing` rows of the law above were added; that law where nobody came."""
    total = rows.sum(1, keepdims=True) + backing
    return np.where(total > 0, (rows + backing * above) / np.maximum(total, 1e-300), above)


def _down(
    tree: LayeredTree, counts: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]]:
    """Go down the layers: the node above each node, the nodes that were cut, and what counts the rows in nodes."""
    aboves = []
    for layer in tree.layers:
        n_before, n_bins = layer.table.shape
        above = np.zeros(int(layer.table.max()) + 1, dtype=np.int64)
        above[layer.table.ravel()] = np.repeat(np.arange(n_before), n_bins)
        aboves.append((above, n_before))
    of_leaf = [np.arange(tree.n_leaves)]
    for above, _ in aboves[:0:-1]:
        of_leaf.append(above[of_leaf[-1]])
    for (above, n_before), node in zip(aboves, of_leaf[::-1], strict=False):
        cut = np.flatnonzero((np.bincount(above, minlength=n_before) > 1)[above])
        yield above, cut, partial(_inside, counts, node)


def _inside(counts: np.ndarray, node: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the rows of each state in nodes, given the node of every leaf, int64 ``(wanted, states)``."""
    place = np.full(int(node.max()) + 1, -1, dtype=np.int64)
    place[wanted] = np.arange(len(wanted))
    leaves = np.flatnonzero(place[node] >= 0)
    leaves = leaves[np.argsort(place[node[leaves]], kind="stable")]
    found = np.zeros((len(wanted), counts.shape[1]), dtype=np.int64)
    if len(leaves):
        own, first = np.unique(place[node[leaves]], return_index=True)
        found[own] = np.add.reduceat(counts[leaves], first, axis=0)
    return found


def _two_scales(tree: LayeredTree, counts: np.ndarray, bins: Bins, weight: float) -> np.ndarray:
    """Return the law of each leaf as that of bins times that of states within a bin, ``(leaves, states)``."""
    of_state, n_states = bins.of_state, len(bins.of_state)
    member = np.zeros((n_states, bins.size))
    member[np.arange(n_states), of_state] = 1.0
    root = counts.sum(0) + 1 / n_states
    of_bin = (root @ member / root.sum())[None]
    within = (root / (root @ member)[of_state])[None]
    for above, cut, inside in _down(tree, counts):
        of_bin, within = of_bin[above], within[above]
        fine = inside(cut)
        rough = fine @ member
        backing = weight * (rough > 0).sum(1, keepdims=True)
        of_bin[cut] = _towards(rough, backing, of_bin[cut])
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
