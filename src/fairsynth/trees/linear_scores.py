"""A linear law of the label as tables, how much of it goes into the boosted one, and how that is grown.

On a table of some hundred people boosted trees know less of the label than a logistic regression does, and on one of
ten thousand they know more. Both are sums of tables over columns (`scores.PairScores`), so they can be mixed; how, is
decided by how well they foretell rows that they did not learn from. Ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

from fairsynth.cores import side_by_side
from fairsynth.trees.bins import Bins
from fairsynth.trees.pairs import with_missed_pairs
from fairsynth.trees.scores import PairScores, learn_scores

#: Above so many rows the boosted law is taken as it is.
SMALL_TABLE = 5_000
FOLDS = 5
#: Inverse of the ridge of the linear law (scikit-learn's C).
PENALTY = 0.3
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Boosting of varied trees, and of the best cuts there are. Varied ones know more of most small tables, but may never
#: come upon two columns that say something together and nothing alone.
VARIED = (True, False)
#: By how many standard errors the best cuts must foretell better to be taken.
SURE = 2.0


def learn_mixed(
    lines: Sequence[np.ndarray], bins: Sequence[Bins], labels: np.ndarray, n_labels: int, *, seed: int
) -> PairScores:
    """Learn the scores of labels as a mixture of a boosted and a linear law.

    Parameters
    ----------
    lines : sequence of np.ndarray
        Bins of every row, int64 ``(n,)``, by parent.
    bins : sequence of Bins
        Of the parents.
    labels : np.ndarray
        int64 ``(n,)``.
    n_labels : int
        Number of labels.
    seed : int
        Of the folds and the boosting.

    Returns
    -------
    PairScores
        The boosted law alone above `SMALL_TABLE` rows, and where a label is too rare for folds; with the pairs of
        columns that it missed (`pairs`).
    """
    small = len(labels) <= SMALL_TABLE
    boosted = learn_scores(lines, bins, labels, n_labels, seed=seed, varied=small)
    counts = np.bincount(labels, minlength=n_labels)
    if not small or (counts < 2 * FOLDS).any() or not lines:
        return with_missed_pairs(boosted, lines, bins, labels)
    fold = np.random.default_rng([seed, 31]).permutation(len(labels)) % FOLDS

    learned = [[line[fold != part] for line in lines] for part in range(FOLDS)]
    linear = [learn_linear(known, bins, labels[fold != part], n_labels) for part, known in enumerate(learned)]

    def judged(part: int) -> np.ndarray:
        own, other = labels[fold != part], fold == part
        boosted = [learn_scores(learned[part], bins, own, n_labels, seed=seed, varied=one) for one in VARIED]
        asked = [line[other] for line in lines]
        straight, *found = [
            law.scores(asked, int(other.sum())).astype(np.float64) for law in (linear[part], *boosted)
        ]
        return np.stack(
            [
                [_log_losses((1 - weight) * one + weight * straight, labels[other]) for weight in WEIGHTS]
                for one in found
            ]
        )

    # What each mixture loses for each row that it was not learned from.
    losses = np.concatenate(side_by_side(judged, range(FOLDS), 2), axis=2)
    best = losses.mean(2).argmin(1)
    gained = losses[0, best[0]] - losses[1, best[1]]
    at = int(gained.mean() > SURE * gained.std() / np.sqrt(len(gained)))
    if at:
        boosted = learn_scores(lines, bins, labels, n_labels, seed=seed)
    weight = WEIGHTS[int(best[at])]
    law = boosted if weight == 0 else mixed(boosted, learn_linear(lines, bins, labels, n_labels), weight)
    return with_missed_pairs(law, lines, bins, labels)


def learn_linear(
    lines: Sequence[np.ndarray], bins: Sequence[Bins], labels: np.ndarray, n_labels: int
) -> PairScores:
    """Learn a logistic regression on the levels of unordered columns and the ranks of ordered ones.

    Arguments as of `learn_mixed`; every label must occur.
    """
    blocks = [_design(line, own) for line, own in zip(lines, bins, strict=True)]
    matrix = np.concatenate(
        [block[line] for block, line in zip(blocks, lines, strict=True)] or [np.zeros((len(labels), 1))],
        axis=1,
    )
    center = matrix.mean(0)
    model = LogisticRegression(C=PENALTY, max_iter=500).fit(matrix - center, labels)
    base = np.asarray(model.intercept_, dtype=np.float64)
    if n_labels > 2 and len(base) != n_labels:
        raise ValueError("every label must occur")
    tables, pairs, at = [], [], 0
    for parent, block in enumerate(blocks):
        stop = at + block.shape[1]
        effect = (block - center[at:stop]) @ model.coef_[:, at:stop].T  # (bins, scores)
        tables.append(np.broadcast_to(effect[:, None], (len(block), *effect.shape)).astype(np.float32))
        pairs.append((parent, parent))
        at = stop
    return PairScores(base, tuple(pairs), tuple(tables))


def mixed(one: PairScores, other: PairScores, weight: float) -> PairScores:
    """Return ``(1 - weight)`` of one sum of tables and `weight` of another.

    Tables of one column are put into a pair that asks it, so that rows take no more time.
    """
    pairs = {
        pair: (1 - weight) * table.astype(np.float64)
        for pair, table in zip(one.pairs, one.tables, strict=True)
    }
    for (a, b), table in zip(other.pairs, other.tables, strict=True):
        own = weight * table.astype(np.float64)
        home = next((pair for pair in sorted(pairs) if a in pair), None) if a == b else (a, b)
        if a == b and home is not None and home != (a, a):
            effect = np.einsum("iik->ik", own)
            pairs[home] = pairs[home] + (effect[:, None] if home[0] == a else effect[None])
        else:
            pairs[(a, b)] = pairs.get((a, b), 0.0) + own
    ordered = sorted(pairs)
    base = (1 - weight) * one.base + weight * other.base
    return PairScores(base, tuple(ordered), tuple(pairs[pair].astype(np.float32) for pair in ordered))


def _design(line: np.ndarray, own: Bins) -> np.ndarray:
    """Return what stands for each bin: a column for each level, or its place among all rows ``(bins, columns)``."""
    if not own.ordered:
        return np.eye(own.size)
    share = np.bincount(line, minlength=own.size) / len(line)
    place = np.cumsum(share) - share / 2
    spread = np.sqrt(max(float(share @ (place - share @ place) ** 2), 1e-12))
    return np.asarray(((place - share @ place) / spread)[:, None])


def _log_losses(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    scores = scores - scores.max(1, keepdims=True)
    return np.asarray(np.log(np.exp(scores).sum(1)) - scores[np.arange(len(labels)), labels])
