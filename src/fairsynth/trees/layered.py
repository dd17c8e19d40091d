"""Layered trees: classification trees in which all nodes of a layer ask the same column.

A node sends every bin of that column to a child of its own choice, or all to itself, so a layer may cut a node
into several parts and leave others whole. What that buys is speed: looking up a million rows takes one addition and
one gathering per layer, without branches. Trees are grown greedily as CART is (Breiman et al., 1984): cuts by the sum
of squares they explain, bins of unordered columns in the order of their principal component (Coppersmith, Hong
and Hosking, 1999). The layers, and the threshold below which a cut counts as chance, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairsynth.trees.bins import Bins

#: Layers, and leaves, of a tree at most.
MAX_LAYERS = 24
MAX_LEAVES = 8192
#: Cuts of one node by one column within a layer, one after the other.
CUTS_A_LAYER = 3
#: Parents that are asked further after the first layer: those that explain most of it.
MAX_PARENTS = 40
#: Share of the rows below which a class counts less: a single row of a rare class would explain too much.
RARE = 0.03
#: Waves by which an ordered column is told apart, besides its two ends.
WAVES = 8
#: Share of the rows beyond which its ends are not told apart any further.
FARTHEST = 1e-4
#: Numbers held at a time while cuts are searched.
CELLS_AT_A_TIME = 4_000_000
#: Rows times parents of which the cuts are looked for in one go.
ROWS_AT_A_TIME = 100_000


@dataclass(frozen=True)
class Layer:
    """One question to all nodes.

    Attributes
    ----------
    parent : int
        Which line of bins is asked.
    table : np.ndarray
        Node and bin to the node of the next layer, int64 ``(nodes, bins)``.
    """

    parent: int
    table: np.ndarray


@dataclass(frozen=True)
class LayeredTree:
    """A partition of rows by their bins.

    Attributes
    ----------
    layers : tuple of Layer
        From the root on.
    n_leaves : int
        Number of leaves.
    """

    layers: tuple[Layer, ...]
    n_leaves: int

    def leaves(self, lines: Sequence[np.ndarray], n: int) -> np.ndarray:
        """Return the leaf of every row, int64 ``(n,)``, given lines of bins int64 ``(n,)`` by parent."""
        node = np.zeros(n, dtype=np.int64)
        for layer in self.layers:
            node *= layer.table.shape[1]
            node += lines[layer.parent]
            # Places are within the table: that was checked when the tree was made.
            node = layer.table.ravel().take(node, mode="clip")
        return node

    def check(self, sizes: Sequence[int]) -> None:
        """Raise ValueError if this is no tree over parents of these numbers of bins."""
        nodes = 1
        for layer in self.layers:
            table = layer.table
            ok = (
                0 <= layer.parent < len(sizes)
                and table.dtype == np.int64
                and table.ndim == 2
                and table.shape == (nodes, sizes[layer.parent])
                and table.min() >= 0
            )
            if not ok:
                raise ValueError("a layer of a tree does not fit the one before it")
            nodes = int(table.max()) + 1
            if nodes > MAX_LEAVES:
                raise ValueError(f"a tree has more than {MAX_LEAVES:,} nodes")
        # Besides the layers that it grows by, a tree has a first one, and may ask any parent once more in the end.
        if nodes != self.n_leaves or len(self.layers) > MAX_LAYERS + 1 + len(sizes):
            raise ValueError("the leaves of a tree do not fit its layers")


def grow(
    lines: Sequence[np.ndarray],
    bins: Sequence[Bins],
    classes: np.ndarray,
    of_classes: Bins,
    *,
    min_leaf: int,
    evidence: float,
    first: int | None = None,
    last: Sequence[int] = (),
    last_evidence: float = 0.0,
    max_leaves: int = MAX_LEAVES,
    rows_each: float = 1.0,
) -> LayeredTree:
    """Grow a tree that tells the classes of a column apart.

    Parameters
    ----------
    lines : sequence of np.ndarray
        Bin of every row in each parent, int64 ``(n,)``.
    bins : sequence of Bins
        Of the parents.
    classes : np.ndarray
        Bin of every row in the column that is explained, int64 ``(n,)``.
    of_classes : Bins
        Of that column.
    min_leaf : int
        Rows in a leaf, at least.
    evidence : float
        By how many standard deviations a cut must explain more than chance alone does on average.
    first : int, optional
        A parent by which rows are parted first, whatever it explains and however few they are.
    last : sequence of int
        Parents that are asked once more in the end, of which `last_evidence` is enough: a cut that is looked for
        among two columns is less often the best of chance than one of fifty.
    last_evidence : float
        As `evidence`.
    max_leaves : int
        Leaves, at most.
    rows_each : float
        Rows of the person whom a row is of, on average: so many are one to `min_leaf`, which is to keep a leaf from
        being of a few people.

    Returns
    -------
    LayeredTree
    """
    n, min_leaf = len(classes), math.ceil(min_leaf * rows_each)
    response, freedom = response_of(np.bincount(classes, minlength=of_classes.size), of_classes.ordered)
    chance = freedom + evidence * float(np.sqrt(2 * freedom))
    node, n_nodes, layers = np.zeros(n, dtype=np.int64), 1, []
    if first is not None:
        n_nodes = bins[first].size
        layers.append(Layer(first, np.arange(n_nodes, dtype=np.int64)[None]))
        node = lines[first].copy()
    growing = np.ones(n_nodes, dtype=bool)
    asked = [parent for parent, own in enumerate(bins) if own.size > 1 and parent != first]
    for _ in range(MAX_LAYERS):
        rows = np.flatnonzero(growing[node]) if not growing.all() else slice(None)
        found: list[tuple[float, int]] = []
        cuts: dict[int, _Cuts] = {}
        best_of_node = np.zeros(n_nodes)
        at, of_rows = node[rows], classes[rows]
        made_of = _cuts_of_all(asked, at, lines, rows, of_rows, growing, bins, response, min_leaf, chance)
        for parent, made in made_of:
            total = float(made.gain.sum())
            np.maximum(best_of_node, made.gain, out=best_of_node)
            if total > 0:
                found.append((total, parent))
                cuts[parent] = made
        growing &= best_of_node > 0  # what no column can cut now, none can later
        if not found:
            break
        if len(asked) > MAX_PARENTS:
            asked = sorted(parent for _, parent in sorted(found, reverse=True)[:MAX_PARENTS])
        parent = max(found)[1]
        table, n_nodes_after, source = _cut(n_nodes, bins[parent].size, cuts[parent], max_leaves)
        if n_nodes_after == n_nodes:
            break
        after = table.ravel().take(node * bins[parent].size + lines[parent])
        for _ in range(CUTS_A_LAYER - 1):
            open_nodes = growing[source] & (cuts[parent].gain[source] > 0)
            rows = np.flatnonzero(open_nodes[after])
            more = _best_cuts(
                after[rows], [lines[parent][rows]], classes[rows], open_nodes, bins[parent], response, min_leaf,
                chance,
            )[0]  # fmt: skip
            if not more.gain.any():
                break
            # A second cut is looked up with the first: bins go from the old node straight to the last.
            again, n_more, source_more = _cut(n_nodes_after, bins[parent].size, more, max_leaves)
            table = again[table, np.arange(bins[parent].size)[None]]
            source, n_nodes_after = source[source_more], n_more
            after = again.ravel().take(after * bins[parent].size + lines[parent])
        layers.append(Layer(parent, np.ascontiguousarray(table)))
        growing = growing[source]
        node, n_nodes = after, n_nodes_after
        growing &= np.bincount(node, minlength=n_nodes) >= 2 * min_leaf
    chance = freedom + last_evidence * float(np.sqrt(2 * freedom))
    for parent in (own for own in last if bins[own].size > 1 and own != first):
        everywhere = np.ones(n_nodes, dtype=bool)
        made = _best_cuts(
            node, [lines[parent]], classes, everywhere, bins[parent], response, min_leaf, chance
        )[0]
        table, n_after, _ = _cut(n_nodes, bins[parent].size, made, max_leaves)
        if n_after > n_nodes:
            layers.append(Layer(parent, np.ascontiguousarray(table)))
            node, n_nodes = table.ravel().take(node * bins[parent].size + lines[parent]), n_after
    return LayeredTree(tuple(layers), n_nodes)


@dataclass(frozen=True)
class _Cuts:
    """The best cut of each node by one parent.

    Attributes
    ----------
    gain : np.ndarray
        What it explains beyond chance, float64 ``(nodes,)``; 0 where there is no such cut.
    right : np.ndarray
        Which bins go to the new node, bool ``(nodes, bins)``.
    """

    gain: np.ndarray
    right: np.ndarray


def response_of(counts: np.ndarray, ordered: bool) -> tuple[np.ndarray, float]:
    """Return the vector by which each class is known, float64 ``(classes, d)``.

    They have mean 0 and, over the rows, nearly the identity as covariance, so that the sum of squares that chance
    explains is about a chi-square with one degree of freedom for each dimension. For an unordered column it
    is twice the gain in log-likelihood to second order; an ordered one is told apart by slow waves over its ranks, and
    by one number for each end, which grows towards it as values of a heavy tail do.
    """
    seen = counts > 0
    share = counts / counts.sum()
    if ordered and seen.sum() > WAVES + 1:
        middle = np.cumsum(share) - share / 2
        waves = np.cos(np.pi * middle[:, None] * np.arange(1, WAVES + 1))
        beyond = np.maximum(np.stack([middle, 1 - middle], axis=1), FARTHEST)
        vectors = np.concatenate([waves, 1 / np.sqrt(beyond)], axis=1)
    else:
        vectors = np.eye(len(counts))
    vectors = vectors - share @ vectors
    values, axes = np.linalg.eigh(vectors.T @ (vectors * share[:, None]))
    keep = values > 1e-9
    freedom = float((values[keep] / (values[keep] + RARE)).sum())
    return np.asarray(vectors @ (axes[:, keep] / np.sqrt(values[keep] + RARE))), freedom


def _cuts_of_all(
    asked: Sequence[int],
    node: np.ndarray,
    lines: Sequence[np.ndarray],
    rows: np.ndarray | slice,
    classes: np.ndarray,
    growing: np.ndarray,
    bins: Sequence[Bins],
    response: np.ndarray,
    min_leaf: int,
    chance: float,
) -> list[tuple[int, _Cuts]]:
    """Find the best cut of every growing node by each parent; those with as many bins go together.

    Where rows are few and parents many, to ask numpy for one of them takes longer than it takes numpy.
    """
    alike: dict[tuple[int, bool], list[int]] = {}
    for parent in asked:
        alike.setdefault((bins[parent].size, bins[parent].ordered), []).append(parent)
    at_a_time = max(1, ROWS_AT_A_TIME // max(len(node), 1))
    found: dict[int, _Cuts] = {}
    for parents in alike.values():
        for first in range(0, len(parents), at_a_time):
            some = parents[first : first + at_a_time]
            known = [lines[parent][rows] for parent in some]
            made = _best_cuts(node, known, classes, growing, bins[some[0]], response, min_leaf, chance)
            found |= dict(zip(some, made, strict=True))
    return [(parent, found[parent]) for parent in asked]


def _best_cuts(
    node: np.ndarray,
    lines: Sequence[np.ndarray],
    classes: np.ndarray,
    growing: np.ndarray,
    bins: Bins,
    response: np.ndarray,
    min_leaf: int,
    chance: float,
) -> list[_Cuts]:
    """Find the best cut of every growing node by each of some parents, which have as many bins."""
    (n_classes, d), n_lines = response.shape, len(lines)
    gain = np.zeros((n_lines, len(growing)))
    right = np.zeros((n_lines, len(growing), bins.size), dtype=bool)
    chosen = np.flatnonzero(growing)
    if len(chosen) and d and len(node):
        place = np.full(len(growing), -1, dtype=np.int64)
        place[chosen] = np.arange(len(chosen))
        # A node of one parent is a node like any other.
        nodes, of_line = n_lines * len(chosen), len(chosen) * np.arange(n_lines)[:, None]
        line = lines[0][None] if n_lines == 1 else np.stack(lines)
        flat = (((place[node] + of_line) * bins.size + line) * n_classes + classes).ravel()
        at_a_time = max(1, CELLS_AT_A_TIME // (bins.size * n_classes))
        gains, rights = [], []
        for start in range(0, nodes, at_a_time):
            stop = min(start + at_a_time, nodes)
            cells = (stop - start) * bins.size * n_classes
            own = flat
            if nodes > at_a_time:
                low = start * bins.size * n_classes
                own = flat[(flat >= low) & (flat < low + cells)] - low
            counts = np.bincount(own, minlength=cells).reshape(-1, n_classes).astype(np.float64)
            sums = (counts @ response).reshape(stop - start, bins.size, d)
            sizes = counts.sum(1).reshape(stop - start, bins.size)
            found = _scan(sums, sizes, bins.ordered, min_leaf, chance)
            gains.append(found[0])
            rights.append(found[1])
        gain[:, chosen] = np.concatenate(gains).reshape(n_lines, -1)
        right[:, chosen] = np.concatenate(rights).reshape(n_lines, len(chosen), -1)
    return [_Cuts(*one) for one in zip(gain, right, strict=True)]


def _scan(
    sums: np.ndarray, sizes: np.ndarray, ordered: bool, min_leaf: int, chance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find the best cut of nodes from sums of responses ``(nodes, bins, d)`` and rows ``(nodes, bins)``."""
    nodes, n_bins = sums.shape[:2]
    total, rows = sums.sum(1), sizes.sum(1)
    order = None
    if not ordered and n_bins > 2:
        order = _principal_order(
            sums - sizes[..., None] * (total / np.maximum(rows, 1)[:, None])[:, None], sizes
        )
        sums = np.take_along_axis(sums, order[..., None], axis=1)
        sizes = np.take_along_axis(sizes, order, axis=1)
    left, n_left = np.cumsum(sums, axis=1)[:, :-1], np.cumsum(sizes, axis=1)[:, :-1]
    n_right = rows[:, None] - n_left
    # S_L²/n_L + S_R²/n_R - S²/n, with S_R = S - S_L, in one square.
    off = left - (n_left / np.maximum(rows, 1)[:, None])[..., None] * total[:, None]
    weight = rows[:, None] / np.maximum(n_left * n_right, 1e-9)
    gain = np.einsum("ijk,ijk->ij", off, off) * weight
    gain[(n_left < min_leaf) | (n_right < min_leaf)] = 0.0
    best = gain.argmax(1)
    value = gain[np.arange(nodes), best] - chance
    right = np.arange(n_bins) > best[:, None]
    if order is not None:
        after, right = right, np.zeros((nodes, n_bins), dtype=bool)
        np.put_along_axis(right, order, after, axis=1)
    return np.maximum(value, 0.0), right


def _principal_order(off: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the order of bins along the first principal component of their means, int64 ``(nodes, bins)``."""
    weight = 1 / np.maximum(sizes, 1)
    farthest = np.einsum("ijk,ijk->ij", off, off) * weight
    axis = np.take_along_axis(off, farthest.argmax(1)[:, None, None], axis=1)[:, 0]
    for _ in range(3):
        along = np.einsum("ijk,ik->ij", off, axis) * weight
        axis = np.einsum("ij,ijk->ik", along, off)
        axis /= np.maximum(np.sqrt((axis**2).sum(1, keepdims=True)), 1e-12)
    along = np.einsum("ijk,ik->ij", off, axis) / (sizes + 1.0)
    return np.argsort(along, axis=1, kind="stable")


def _cut(n_nodes: int, n_bins: int, cuts: _Cuts, most: int) -> tuple[np.ndarray, int, np.ndarray]:
    """Return the table of a layer, the number of nodes after it, and the old node of each of them."""
    chosen = np.flatnonzero(cuts.gain > 0)
    room = most - n_nodes
    if len(chosen) > room:
        chosen = np.sort(chosen[np.argsort(-cuts.gain[chosen], kind="stable")[: max(room, 0)]])
    table = np.repeat(np.arange(n_nodes, dtype=np.int64)[:, None], n_bins, axis=1)
    fresh = n_nodes + np.arange(len(chosen), dtype=np.int64)
    table[chosen] = np.where(cuts.right[chosen], fresh[:, None], table[chosen])
    return table, n_nodes + len(chosen), np.concatenate([np.arange(n_nodes), chosen])
