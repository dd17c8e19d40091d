"""Labels allotted to rows: each as likely as its share says, and spread evenly over rows that are alike.

To draw each label by itself adds chance of its own: a stretch of like people gets more favorable labels than is
expected, or fewer, and a model trained on the rows learns that as well. Systematic sampling (Cochran, *Sampling
Techniques*, chapter 8) along a line in which neighbours are alike leaves no stretch more than one label off. The line
here is that of a k-d tree over the columns' effects on the label (as Morton's order is): groups first, then bit
after bit of the column whose effect still varies most within what is told apart already. Several labels are allotted
one after the other, each among the rows that have none yet. To use it for the labels of synthetic rows is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fairsynth.trees.scores import PairScores

#: Bits that rows are told apart by: sorting sixteen takes a fortieth of the time of more.
BITS = 16
#: Of these, so many are left to the columns, however many groups there are.
LEAST_BITS = 8


@dataclass(frozen=True)
class Neighbourhoods:
    """Where on the line a row lies, group apart.

    Attributes
    ----------
    parts : tuple of (int, np.ndarray)
        Parent, and its part of the place by bin, int32 ``(bins,)``: places are sums of these, from 0 to 65,535.
    """

    parts: tuple[tuple[int, np.ndarray], ...]

    def places(self, lines: Sequence[np.ndarray], groups: np.ndarray) -> np.ndarray:
        """Return the place of every row, unsigned ``(n,)``, given lines of bins ``(n,)`` by parent and its group."""
        place = np.zeros(len(groups), dtype=np.int32)
        for parent, part in self.parts:
            place += part.take(lines[parent])
        bits = int(groups.max(initial=0)).bit_length()
        if bits <= BITS - LEAST_BITS:
            return ((groups << (BITS - bits)) + (place >> bits)).astype(np.uint16)
        return ((groups << LEAST_BITS) + (place >> (BITS - LEAST_BITS))).astype(np.uint64)


def neighbourhoods(scores: PairScores, shares: Sequence[np.ndarray]) -> Neighbourhoods:
    """Lay out the line on which rows that a label depends on alike are neighbours.

    Parameters
    ----------
    scores : PairScores
        Of one score, or of several that count alike.
    shares : sequence of np.ndarray
        Share of each bin of the parents, float64 ``(bins,)``.
    """
    effects = _effects(scores, shares)
    place = {parent: _by_effect(effect, shares[parent]) for parent, effect in effects.items()}
    parts = {parent: np.zeros(len(effect), dtype=np.int32) for parent, effect in effects.items()}
    depth = dict.fromkeys(effects, 0)
    left = {parent: _left(effects[parent], place[parent], shares[parent], 0) for parent in effects}
    for bit in reversed(range(BITS)):
        parent = max(left, key=lambda own: left[own], default=None)
        if parent is None or left[parent] <= 0:
            break
        depth[parent] += 1
        parts[parent] |= (np.floor(place[parent] * 2 ** depth[parent]).astype(np.int32) & 1) << bit
        left[parent] = _left(effects[parent], place[parent], shares[parent], depth[parent])
    return Neighbourhoods(tuple((parent, part) for parent, part in parts.items() if part.any()))


def allotted(shares: np.ndarray, places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return 0 or 1 for every row, 1 with its share, by systematic sampling along the places.

    Parameters
    ----------
    shares : np.ndarray
        float64 ``(n,)``, from 0 to 1.
    places : np.ndarray
        Integers ``(n,)``. Rows of one place keep their order, so they should come in a random one, as drawn rows do.
    rng : np.random.Generator
        Where the first label falls.

    Returns
    -------
    np.ndarray
        int64 ``(n,)``; of the rows of any stretch of places, no more than one label more or less than is expected.
    """
    order = np.argsort(places, kind="stable")
    sums = np.floor(np.cumsum(shares[order]) + rng.random())
    label = np.empty(len(shares), dtype=np.int64)
    label[order] = np.diff(sums, prepend=0.0) > 0
    return label


def allotted_of_several(
    shares: np.ndarray, first: np.ndarray, allot: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return a label for every row, each with its share, by deciding on one after the other.

    Parameters
    ----------
    shares : np.ndarray
        float64 ``(n, labels)``; each line sums to 1.
    first : np.ndarray
        Whether a label is one of these is decided before all else, bool ``(labels,)``.
    allot : callable
        Shares ``(m,)`` and rows int64 ``(m,)`` to 0 or 1 for each of them, as of `allotted`.

    Returns
    -------
    np.ndarray
        int64 ``(n,)``.
    """
    labels = np.zeros(len(shares), dtype=np.int64)
    sides = [np.flatnonzero(side) for side in (first, ~first) if side.any()]
    chosen = np.zeros(len(shares), dtype=np.int64)
    if len(sides) > 1:
        inside = np.clip(shares[:, sides[0]].sum(1), 0.0, 1.0)
        chosen = 1 - allot(inside, np.arange(len(shares)))
    for which, side in enumerate(sides):
        rows = np.flatnonzero(chosen == which)
        for at, label in enumerate(side[:-1]):
            left = shares[rows][:, side[at:]]
            has = allot(np.clip(left[:, 0] / np.maximum(left.sum(1), 1e-300), 0.0, 1.0), rows).astype(bool)
            labels[rows[has]], rows = label, rows[~has]
        labels[rows] = side[-1]
    return labels


def _effects(scores: PairScores, shares: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    """Return what each parent that is asked does to the scores by itself, float64 ``(bins, scores)``."""
    found: dict[int, np.ndarray] = {}
    for (a, b), table in zip(scores.pairs, scores.tables, strict=True):
        whole = table.astype(np.float64)
        if a == b:
            own = {a: np.einsum("iik->ik", whole)}
        else:
            own = {a: np.einsum("ijk,j->ik", whole, shares[b]), b: np.einsum("ijk,i->jk", whole, shares[a])}
        for parent, effect in own.items():
            found[parent] = found.get(parent, 0.0) + effect
    return found


def _by_effect(effect: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the middle place of each bin among all rows, sorted by effect, from 0 to below 1.

    Several effects are sorted along the line on which they vary most.
    """
    if effect.shape[1] > 1:
        center = effect - share @ effect / share.sum()
        effect = center @ np.linalg.eigh(center.T @ (center * share[:, None]))[1][:, -1:]
    order = np.argsort(effect[:, 0], kind="stable")
    place = np.empty(len(effect))
    place[order] = np.cumsum(share[order]) - share[order] / 2
    return np.clip(place, 0.0, 1.0 - 1e-9)


def _left(effect: np.ndarray, place: np.ndarray, share: np.ndarray, depth: int) -> float:
    """Return the variance of effects within the stretches that so many bits tell apart."""
    stretch = np.floor(place * 2**depth).astype(np.int64)
    weight = np.maximum(np.bincount(stretch, weights=share), 1e-300)
    left = 0.0
    for one in effect.T:
        mean = np.bincount(stretch, weights=share * one) / weight
        left += float((share * (one - mean[stretch]) ** 2).sum())
    return left - 1e-12
