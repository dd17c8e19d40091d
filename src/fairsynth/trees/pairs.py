"""Pairs of columns that say something of the label together, and that boosting did not come upon.

Whether the field of a degree is that of the job may decide who is hired, when neither field tells anything alone.
Cuts are chosen one by one, so trees meet such a pair by chance. Here what a law leaves is looked at in the cells of
every pair at once, as in the screening of Lou, Caruana, Gehrke and Hooker (KDD 2013, section 4); pairs that explain far
more of it than chance does are learned as a table, if rows that were held back are foretold better by it. Ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fairsynth.trees.bins import Bins
from fairsynth.trees.scores import PairScores

#: Parts of an ordered column, and levels of another one, that cells are made of.
PARTS = 8
MAX_LEVELS = 64
#: Rows that pairs are looked for among.
ROWS = 20_000
#: By how many standard deviations of chance a pair must explain more than chance does. There are thousands of pairs.
EVIDENCE = 5.0
#: Pairs at most.
MOST = 8
#: What is added to the weight of a cell (a quarter for a row at the threshold): of few people it says little.
RIDGE = 5.0
#: Steps at most, and how far each goes.
STEPS = 12
RATE = 0.5
#: Every so-manieth row judges, and has to be foretold better by so many standard errors.
HELD_BACK = 5
SURE = 2.0


def with_missed_pairs(
    law: PairScores, lines: Sequence[np.ndarray], bins: Sequence[Bins], labels: np.ndarray
) -> PairScores:
    """Return a law of the label with tables of the pairs that it missed.

    Parameters
    ----------
    law : PairScores
        As learned from the same rows.
    lines : sequence of np.ndarray
        Bins of every row, int64 ``(n,)``, by parent.
    bins : sequence of Bins
        Of the parents.
    labels : np.ndarray
        int64 ``(n,)``.

    Returns
    -------
    PairScores
        The same law if it missed none.
    """
    known = [
        parent for parent, own in enumerate(bins) if own.size > 1 and (own.ordered or own.size <= MAX_LEVELS)
    ]
    if len(known) < 2:
        return law
    cells = [_parts(lines[parent], bins[parent]) for parent in known]
    coarse = [part.take(lines[parent]) for part, parent in zip(cells, known, strict=True)]
    sizes = [int(part.max()) + 1 for part in cells]
    scores = law.scores(lines, len(labels)).astype(np.float64)
    found = missed_pairs(scores, coarse, sizes, labels)
    if not found:
        return law
    places = [coarse[a] * sizes[b] + coarse[b] for a, b in found]
    counts = [sizes[a] * sizes[b] for a, b in found]
    back = np.arange(len(labels)) % HELD_BACK == HELD_BACK - 1
    steps = _steps(scores, places, counts, labels, back)
    if not steps:
        return law
    tables = _fitted(scores, places, counts, labels, steps)[0]
    whole = {pair: table.astype(np.float64) for pair, table in zip(law.pairs, law.tables, strict=True)}
    for (a, b), table in zip(found, tables, strict=True):
        wide = table.reshape(sizes[a], sizes[b], -1)[cells[a][:, None], cells[b][None]]
        pair = (known[a], known[b])
        whole[pair] = whole[pair] + wide if pair in whole else wide
    ordered = sorted(whole)
    return PairScores(law.base, tuple(ordered), tuple(whole[pair].astype(np.float32) for pair in ordered))


def missed_pairs(
    scores: np.ndarray, lines: Sequence[np.ndarray], sizes: Sequence[int], labels: np.ndarray
) -> list[tuple[int, int]]:
    """Return the pairs of lines in whose cells far more is left of the label than chance leaves, the most first.

    Parameters
    ----------
    scores : np.ndarray
        What a law says of each row, float64 ``(n, scores)``.
    lines : sequence of np.ndarray
        Parts of every row, int64 ``(n,)``.
    sizes : sequence of int
        How many parts a line has.
    labels : np.ndarray
        int64 ``(n,)``.

    Returns
    -------
    list of (int, int)
        `MOST` at most, the lower line first. What either column tells alone does not count.
    """
    some = slice(None, None, max(1, -(-len(labels) // ROWS)))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    design = np.zeros((len(labels[some]), starts[-1]), dtype=np.float32)
    for start, line in zip(starts, lines, strict=False):
        design[np.arange(len(design)), start + line[some]] = 1.0
    left, weight = _left(scores[some], labels[some])
    told, cells = np.zeros((len(sizes), len(sizes))), np.zeros((len(sizes), len(sizes)))
    for k in range(left.shape[1]):
        sums, room = (
            (design.T @ (design * values[:, k, None].astype(np.float32))).astype(np.float64)
            for values in (left, weight)
        )
        alone = np.divide(np.diag(sums), np.diag(room), out=np.zeros(len(sums)), where=np.diag(room) > 0)
        beyond = (
            sums
            - room * (alone[:, None] + alone[None])
            + room * left[:, k].sum() / max(weight[:, k].sum(), 1e-9)
        )
        seen = room > 1e-6
        each = np.where(seen, beyond**2 / np.maximum(room, 1e-6), 0.0)
        for into, values in ((told, each), (cells, seen.astype(np.float64))):
            into += np.add.reduceat(np.add.reduceat(values, starts[:-1], axis=0), starts[:-1], axis=1)
    surprise = (told - cells) / np.sqrt(2 * np.maximum(cells, 1))
    surprise[np.tril_indices(len(sizes))] = -np.inf
    best = np.argsort(-surprise, axis=None, kind="stable")[:MOST]
    pairs = [divmod(int(place), len(sizes)) for place in best]
    return [pair for pair in pairs if surprise[pair] >= EVIDENCE]


def _parts(line: np.ndarray, own: Bins) -> np.ndarray:
    """Return which part each bin of a column belongs to, int64 ``(bins,)``: `PARTS` of about as many rows each."""
    if not own.ordered or own.size <= PARTS:
        return np.arange(own.size)
    share = np.bincount(line, minlength=own.size) / len(line)
    part = np.minimum(((np.cumsum(share) - share / 2) * PARTS).astype(np.int64), PARTS - 1)
    return np.unique(part, return_inverse=True)[1].reshape(-1)


def _left(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what a law leaves of the labels, and how much chance may leave (its variance), each ``(n, scores)``."""
    if scores.shape[1] == 1:
        share = 1 / (1 + np.exp(-scores))
        actual = (labels == 1).astype(np.float64)[:, None]
    else:
        parts = np.exp(scores - scores.max(1, keepdims=True))
        share = parts / parts.sum(1, keepdims=True)
        actual = (labels[:, None] == np.arange(scores.shape[1])[None]).astype(np.float64)
    return actual - share, share * (1 - share)


def _fitted(
    scores: np.ndarray,
    places: list[np.ndarray],
    counts: list[int],
    labels: np.ndarray,
    steps: int,
    learned: np.ndarray | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Fit a table for each pair by steps of Newton's method.

    Parameters
    ----------
    scores : np.ndarray
        What the law says ``(n, scores)``.
    places : list of np.ndarray
        Cell of every row, by pair, int64 ``(n,)``.
    counts : list of int
        Cells of each pair.
    labels : np.ndarray
        int64 ``(n,)``.
    steps : int
        How many steps are made.
    learned : np.ndarray, optional
        Rows that are learned from, bool ``(n,)``; by default all.

    Returns
    -------
    tables : list of np.ndarray
        float64 ``(cells, scores)``.
    after : list of np.ndarray
        Scores of all rows after each step ``(n, scores)``.
    """
    n_scores = scores.shape[1]
    tables = [np.zeros((count, n_scores)) for count in counts]
    now, after = scores.copy(), []
    own = np.ones(len(labels), dtype=bool) if learned is None else learned
    for _ in range(steps):
        for table, place, count in zip(tables, places, counts, strict=True):
            left, weight = _left(now[own], labels[own])
            sums, room = (
                np.stack(
                    [np.bincount(place[own], values[:, k], minlength=count) for k in range(n_scores)], axis=1
                )
                for values in (left, weight)
            )
            step = RATE * sums / (room + RIDGE)
            table += step
            now = now + step[place]
        after.append(now)
    return tables, after


def _steps(
    scores: np.ndarray, places: list[np.ndarray], counts: list[int], labels: np.ndarray, back: np.ndarray
) -> int:
    """Return how many steps foretell rows best that were held back, 0 if none does so surely."""
    before = _log_losses(scores[back], labels[back])
    after = [
        _log_losses(now[back], labels[back])
        for now in _fitted(scores, places, counts, labels, STEPS, ~back)[1]
    ]
    best = int(np.argmin([one.mean() for one in after]))
    gained = before - after[best]
    return best + 1 if gained.mean() > SURE * gained.std() / np.sqrt(len(gained)) else 0


def _log_losses(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if scores.shape[1] == 1:
        return np.asarray(np.logaddexp(0.0, np.where(labels == 1, -scores[:, 0], scores[:, 0])))
    high = scores.max(1, keepdims=True)
    whole = np.log(np.exp(scores - high).sum(1)) + high[:, 0]
    return np.asarray(whole - scores[np.arange(len(labels)), labels])
