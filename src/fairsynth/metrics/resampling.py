"""The same metrics for many bootstrap draws at once, each draw a row of weights of people.

A weight says how often a person was drawn, so a row of ones gives the metric itself, and a row of whole
numbers gives the metric of the rows repeated so often. What follows from counts is drawn far faster by
:func:`fairsynth.metrics.fairness.bootstrap_counts`; here is what does not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairsynth.metrics.utility import bootstrap_auroc

Floats = NDArray[np.float64]
#: Draws that are worked on at once, to keep memory small.
BLOCK = 50


def _divide(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=bottom > 0)


def _indicators(codes: ArrayLike, size: int) -> Floats:
    return (np.asarray(codes)[:, None] == np.arange(size)).astype(np.float64)


def average_precision(favorable: ArrayLike, score: ArrayLike, weights: Floats) -> Floats:
    """Average precision under each row of weights: ``sum_t (R_t - R_{t-1}) P_t`` over distinct scores.

    Parameters
    ----------
    favorable : array_like of bool, shape (n,)
        True outcomes.
    score : array_like of float, shape (n,)
        Any increasing function of P(favorable).
    weights : ndarray of float64, shape (draws, n)
        How often each person was drawn.

    Returns
    -------
    ndarray of float64, shape (draws,)
        As :func:`sklearn.metrics.average_precision_score`; NaN where a draw has nobody favorable.
    """
    y, s = np.asarray(favorable).astype(bool), np.asarray(score, dtype=np.float64)
    order = np.argsort(-s, kind="stable")
    y, s = y[order], s[order]
    starts = np.flatnonzero(np.append(True, s[1:] != s[:-1]))
    found = []
    for first in range(0, len(weights), BLOCK):
        w = weights[first : first + BLOCK, order]
        hits = np.add.reduceat(w * y, starts, axis=1)
        taken = np.cumsum(np.add.reduceat(w, starts, axis=1), axis=1)
        precision = np.divide(np.cumsum(hits, axis=1), taken, out=np.zeros_like(taken), where=taken > 0)
        found.append(_divide((hits * precision).sum(axis=1), hits.sum(axis=1)))
    return np.concatenate(found)


def calibration(
    favorable: ArrayLike, probability: ArrayLike, weights: Floats, *, bins: int = 10
) -> tuple[Floats, Floats]:
    """Calibration error and mean over-estimate under each row of weights.

    The bins are those of :func:`fairsynth.metrics.fairness.calibration_error` for the people as they are;
    the draws do not move them.

    Parameters
    ----------
    favorable : array_like of bool, shape (n,)
        True outcomes.
    probability : array_like of float, shape (n,)
        P(favorable).
    weights : ndarray of float64, shape (draws, n)
        How often each person was drawn.
    bins : int, default=10
        Largest number of bins.

    Returns
    -------
    error, bias : ndarray of float64, shape (draws,)
        The error in [0, 1], and mean P(favorable) minus the favorable share in [-1, 1]; NaN where a draw
        has nobody.
    """
    y, p = np.asarray(favorable).astype(np.float64), np.asarray(probability, dtype=np.float64)
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
    which = _indicators(np.searchsorted(edges, p, side="left"), len(edges) + 1)
    gap, total = weights @ (which * (p - y)[:, None]), weights.sum(axis=1)
    return _divide(np.abs(gap).sum(axis=1), total), _divide(gap.sum(axis=1), total)


def multiclass(codes: ArrayLike, probability: ArrayLike, weights: Floats) -> dict[str, Floats]:
    """Compute the numbers of :func:`fairsynth.metrics.utility.multiclass_scores` under each row of weights.

    Parameters
    ----------
    codes : array_like of int, shape (n,)
        True classes.
    probability : array_like of float, shape (n, n_classes)
        Probabilities.
    weights : ndarray of float64, shape (draws, n)
        How often each person was drawn.

    Returns
    -------
    dict of str to ndarray of float64, shape (draws,)
        NaN where a class of `codes` was not drawn.
    """
    y, p = np.asarray(codes).astype(np.int64), np.asarray(probability, dtype=np.float64)
    d, size, total = p.argmax(axis=1), np.shape(probability)[1], weights.sum(axis=1)
    present = np.unique(y)
    truth, chosen = _indicators(y, size)[:, present], _indicators(d, size)[:, present]
    hits, people, taken = weights @ (truth * chosen), weights @ truth, weights @ chosen
    areas = [bootstrap_auroc(y == c, p[:, c], weights) for c in present if 0 < (y == c).sum() < len(y)]
    distance = ((p - _indicators(y, size)) ** 2).sum(axis=1)
    scores = {
        "accuracy": _divide(hits.sum(axis=1), total),
        "balanced_accuracy": _divide(hits, people).mean(axis=1),
        "f1_macro": _divide(2 * hits, people + taken).mean(axis=1),
        "brier": _divide(weights @ distance, total),
    }
    return scores | ({"auroc_macro": np.mean(areas, axis=0)} if areas else {})


def regression(target: ArrayLike, predicted: ArrayLike, weights: Floats) -> dict[str, Floats]:
    """R², MAE and RMSE under each row of weights; float64, shape (draws,) each, NaN where undefined.

    Parameters
    ----------
    target, predicted : array_like of float, shape (n,)
        True and predicted values.
    weights : ndarray of float64, shape (draws, n)
        How often each person was drawn.
    """
    y, p = np.asarray(target, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    total = weights.sum(axis=1)
    squares, around = weights @ (y - p) ** 2, y - y.mean()
    spread = weights @ around**2 - _divide((weights @ around) ** 2, total)
    return {
        "r2": 1 - _divide(squares, spread),
        "mae": _divide(weights @ np.abs(y - p), total),
        "rmse": np.sqrt(_divide(squares, total)),
    }


def group_means(values: ArrayLike, groups: ArrayLike, size: int, weights: Floats) -> Floats:
    """Mean of each group under each row of weights; float64, shape (draws, size), NaN where nobody is.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        Numbers.
    groups : array_like of int, shape (n,)
        Group codes in ``range(size)``.
    size : int
        Number of groups.
    weights : ndarray of float64, shape (draws, n)
        How often each person was drawn.
    """
    member = _indicators(groups, size)
    return _divide(weights @ (member * np.asarray(values, dtype=np.float64)[:, None]), weights @ member)


def distribution_gap(predicted: ArrayLike, groups: ArrayLike, weights: Floats) -> Floats:
    """Compute :func:`fairsynth.metrics.fairness.distribution_gap` under each row of weights.

    Parameters
    ----------
    predicted : array_like of float, shape (n,)
        Numeric decisions.
    groups : array_like of int, shape (n,)
        Group codes.
    weights : ndarray of float64, shape (draws, n)
        How often each person was drawn.

    Returns
    -------
    ndarray of float64, shape (draws,)
        NaN where a group was not drawn.
    """
    x, g = np.asarray(predicted, dtype=np.float64), np.asarray(groups)
    order = np.argsort(x, kind="stable")
    x, g = x[order], g[order]
    starts = np.flatnonzero(np.append(True, x[1:] != x[:-1]))
    found = []
    for first in range(0, len(weights), BLOCK):
        w = weights[first : first + BLOCK, order]
        steps = np.cumsum(np.add.reduceat(w, starts, axis=1), axis=1)
        everybody = _divide(steps, steps[:, -1:])
        gaps = np.zeros(len(w))
        for code in np.unique(g):
            own = np.cumsum(np.add.reduceat(w * (g == code), starts, axis=1), axis=1)
            # np.maximum keeps NaN: a draw without this group has no gap.
            gaps = np.maximum(gaps, np.abs(_divide(own, own[:, -1:]) - everybody).max(axis=1))
        found.append(gaps)
    return np.concatenate(found)
