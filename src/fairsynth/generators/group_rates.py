"""How often a label occurs in each joint group: what a law of the label that was learned for all lacks there.

A boosted law and a linear one draw groups together: they are regularized, a tree asks two columns, and of a
small table's columns each tree sees some. Two sensitive attributes that matter together then come out milder than
they are, and at strength 0 drawn rows look fairer than the people they stand for. So every group has scores of its own
that are added to those of its rows until its labels are expected as often as they are real (the intercept correction of
prior shift; Saerens, Latinne and Decaestecker, 2002). That a small group keeps a part of what the law of all says of it
is ours.
"""

from __future__ import annotations

import numpy as np

from fairsynth.generators.group_law import MAX_SHIFT

#: People as the law of all expects them, that are added to those of a group.
BACKING = 10.0
ROUNDS = 50
#: Difference of log odds at which scores have come to rest.
ENOUGH = 1e-4


def scores_of_groups(scores: np.ndarray, groups: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Return what has to be added to the scores of each group for its labels to be as frequent as they are.

    Parameters
    ----------
    scores : np.ndarray
        Of some rows: log odds of the second of two labels ``(n, 1)``, or a score for each label ``(n, labels)``.
    groups : np.ndarray
        Joint group of each of them, int64 ``(n,)``.
    joint : np.ndarray
        Rows of each label in each group, of all there are ``(labels, groups)``.

    Returns
    -------
    np.ndarray
        float64 ``(groups, scores)``, within `MAX_SHIFT`; 0 for groups of which there is no row.
    """
    n_labels, n_groups = joint.shape
    binary = scores.shape[1] == 1
    wide = scores.astype(np.float64)
    if binary:
        wide = np.concatenate([np.zeros_like(wide), wide], axis=1)
    rows = np.bincount(groups, minlength=n_groups)
    seen = rows > 0
    added = np.zeros((n_groups, n_labels))
    wanted = None
    for _ in range(ROUNDS):
        expected = _expected(wide + added[groups], groups, rows)
        if wanted is None:
            wanted = (joint.T + BACKING * expected) / (joint.sum(0)[:, None] + BACKING)
        # A label that nobody has is as impossible in every group.
        missing = np.log(np.maximum(wanted, 1e-12)) - np.log(np.maximum(expected, 1e-12))
        missing[~seen] = 0.0
        added += missing
        if np.abs(missing[wanted > 1e-6]).max(initial=0.0) < ENOUGH:
            break
    added = added[:, 1:] - added[:, :1] if binary else added - added.mean(1, keepdims=True)
    return np.clip(added, -MAX_SHIFT, MAX_SHIFT)


def _expected(scores: np.ndarray, groups: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the expected share of each label in each group ``(groups, labels)``; 0 where there are no rows."""
    scores -= scores.max(1, keepdims=True)
    shares = np.exp(scores)
    shares /= shares.sum(1, keepdims=True)
    sums = np.stack([np.bincount(groups, weights=line, minlength=len(rows)) for line in shares.T], axis=1)
    return np.asarray(sums / np.maximum(rows, 1)[:, None])
