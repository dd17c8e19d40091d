"""The measurements of a private tree: noisy columns, a tree by the exponential mechanism, noisy pairs.

MST (McKenna, Miklau and Sheldon, Journal of Privacy and Confidentiality, 2021), on which PreFair builds, with edges
that may be forbidden. A third of the budget goes to each of the three steps. Tables are neighbours if one row is
*replaced*, because a file says how many rows were learned from; so sensitivities are those of two rows, not of one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from fairsynth.generators.layout import Layout
from fairsynth.generators.public_states import Coarse, coarse_states
from fairsynth.generators.tree_model import Measured, simplex
from fairsynth.privacy_accounting import Bits, Ledger

#: One row replaced by another moves two counts of a table by one each.
COUNT_SENSITIVITY = 2**0.5
SCORE_SENSITIVITY = 2.0
#: A pair whose table would have more cells than this is never measured.
MAX_CELLS = 2_000_000
#: So many rows are added to every state, so that a condition on a rare one can be met.
FLOOR_ROWS = 1e-3

Edge = tuple[int, int]


class Measurements:
    """The measurements of a fit: the only place that reads the rows.

    Parameters
    ----------
    layout : Layout
        Of the columns.
    rows : np.ndarray
        States ``(n, columns)``.
    ledger : Ledger
        Pays.
    bits : callable
        Where noise comes from.
    hear : callable
        ``(stage, done, total)``.
    """

    def __init__(
        self, layout: Layout, rows: np.ndarray, ledger: Ledger, bits: Bits, hear: Callable[..., None]
    ) -> None:
        self.layout, self.rows, self.ledger, self.bits, self.hear = layout, rows, ledger, bits, hear

    def columns(self, max_states: int) -> tuple[list[Coarse], list[Measured]]:
        """Measure every column; return which states to tell apart in pairs, and their noisy counts."""
        names, sizes = self.layout.encoder.names, self.layout.encoder.sizes
        coarse, singles = [], []
        for j, name in enumerate(names):
            counts = np.bincount(self.rows[:, j], minlength=sizes[j])
            noisy, variance = self.ledger.gaussian(
                f"counts of {name}", counts, rho=self.ledger.rho / 3 / len(names),
                sensitivity=COUNT_SENSITIVITY, bits=self.bits,
            )  # fmt: skip
            states = coarse_states(self.layout, j, noisy, variance, len(self.rows), max_states)
            shares = simplex(noisy / len(self.rows)) + FLOOR_ROWS / len(self.rows)
            coarse.append(Coarse(states, shares / np.bincount(states, weights=shares)[states]))
            merged = np.bincount(states)
            singles.append(Measured(np.bincount(states, weights=noisy), variance * merged))
            self.hear("measure columns", j + 1, len(names))
        return coarse, singles

    def tree(
        self, coarse: list[Coarse], singles: list[Measured], may: Callable[[int, int], bool]
    ) -> tuple[list[int], list[Measured | None]]:
        """Choose the tree and measure its pairs; return each column's parent and its pair with it."""
        n, names = len(self.rows), self.layout.encoder.names
        lines = np.stack([c.states[self.rows[:, j]] for j, c in enumerate(coarse)])
        candidates = [
            (i, j)
            for i, j in itertools.combinations(range(len(coarse)), 2)
            if may(i, j) and coarse[i].size * coarse[j].size <= MAX_CELLS
        ]
        n_edges = _rank(len(coarse), candidates)
        each = self.ledger.rho / 3 / max(n_edges, 1)
        laws = [simplex(single.counts / n) for single in singles]
        noise = (COUNT_SENSITIVITY**2 / (2 * each)) ** 0.5

        def counts(i: int, j: int) -> np.ndarray:
            size = coarse[j].size
            return np.bincount(lines[i] * size + lines[j], minlength=coarse[i].size * size).reshape(-1, size)

        scores = np.array([dependence(counts(i, j), laws[i], laws[j], noise) for i, j in candidates])

        def choose(places: list[int], turn: int) -> int:
            # A turn with one candidate reads nothing, so it costs nothing.
            best = 0
            if len(places) > 1:
                best = self.ledger.choose(
                    f"edge {turn + 1} of the tree", scores[places], rho=each, sensitivity=SCORE_SENSITIVITY,
                    bits=self.bits,
                )  # fmt: skip
            self.hear("choose tree", turn + 1, n_edges)
            return best

        edges = spanning_forest(len(coarse), candidates, choose)
        parents = _parents(len(coarse), edges, self.layout.target)
        pairs: list[Measured | None] = [None] * len(coarse)
        done = 0
        for j, parent in enumerate(parents):
            if parent < 0:
                continue
            noisy, variance = self.ledger.gaussian(
                f"counts of {names[parent]} × {names[j]}", counts(parent, j), rho=each,
                sensitivity=COUNT_SENSITIVITY, bits=self.bits,
            )  # fmt: skip
            pairs[j] = Measured(noisy, variance)
            done += 1
            self.hear("measure pairs", done, n_edges)
        return parents, pairs


def dependence(counts: np.ndarray, first: np.ndarray, second: np.ndarray, noise: float) -> float:
    """Return how far a pair is from independence, in rows; the score of the exponential mechanism.

    The L1 distance between the counts and those expected of two independent columns, less what chance would give
    in the latter and less what the noise to come will add. Only the counts depend on the rows: one row replaced
    moves two of them by one, so the score moves by 2 at most.

    Parameters
    ----------
    counts : np.ndarray
        Rows by both states ``(a, b)``.
    first, second : np.ndarray
        Laws of the columns, from noisy counts ``(a,)``, ``(b,)``.
    noise : float
        Standard deviation of the noise that a measurement of this pair will have.
    """
    expected = counts.sum() * np.outer(first, second)
    by_chance = np.minimum(2 * expected, np.sqrt(2 / np.pi * expected)).sum()
    return float(np.abs(counts - expected).sum() - by_chance - np.sqrt(2 / np.pi) * noise * counts.size)


def spanning_forest(
    n: int, candidates: Sequence[Edge], choose: Callable[[list[int], int], int]
) -> list[Edge]:
    """Build a spanning forest, edge after edge, as Kruskal does.

    Parameters
    ----------
    n : int
        Nodes.
    candidates : sequence of (int, int)
        Edges that are allowed at all.
    choose : callable
        Given the places of the candidates that join two parts, and the number of the turn, says which of them.

    Returns
    -------
    list of (int, int)
        Candidates only.
    """
    part = list(range(n))
    edges: list[Edge] = []
    while True:
        open_ = [place for place, (i, j) in enumerate(candidates) if part[i] != part[j]]
        if not open_:
            return edges
        i, j = candidates[open_[choose(open_, len(edges))]]
        edges.append((i, j))
        joined, gone = part[i], part[j]
        part = [joined if p == gone else p for p in part]


def _rank(n: int, candidates: Sequence[Edge]) -> int:
    return len(spanning_forest(n, candidates, lambda open_, turn: 0))


def _parents(n: int, edges: Sequence[Edge], root: int) -> list[int]:
    """Return the parent of every node, -1 for the root of each part; `root` is one."""
    neighbours: list[list[int]] = [[] for _ in range(n)]
    for i, j in edges:
        neighbours[i].append(j)
        neighbours[j].append(i)
    parents = [-2] * n
    for start in (root, *range(n)):
        if parents[start] != -2:
            continue
        parents[start], waiting = -1, [start]
        while waiting:
            at = waiting.pop()
            for other in neighbours[at]:
                if parents[other] == -2:
                    parents[other] = at
                    waiting.append(other)
    return parents
