"""Utility of a predictor: how good its decisions are on real people.

Thin, checked wrappers of scikit-learn, so that one spelling and one convention serves all of
fairsynth: the favorable outcome is the positive class, AUROC and average precision come from
probabilities (never from hard labels), and a score that does not exist is None, with the reason
left to the caller.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairsynth.errors import DataError

BINARY_METRICS: tuple[str, ...] = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "auroc",
    "average_precision",
    "brier",
)


def auroc(favorable: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Area under the ROC curve, from scores, ties counted half.

    ``P(score⁺ > score⁻) + P(score⁺ = score⁻) / 2`` (Mann-Whitney), with optional weights of people.

    Parameters
    ----------
    favorable : array_like of bool, shape (n,)
        True outcomes.
    score : array_like of float, shape (n,)
        Any increasing function of P(favorable).
    weight : array_like of float, shape (n,) or (draws, n), optional
        Weights of people; several rows of them give several areas (see :func:`bootstrap_auroc`).

    Returns
    -------
    float
        NaN if only one class has weight.
    """
    w = None if weight is None else np.atleast_2d(np.asarray(weight, dtype=np.float64))
    return float(_areas(favorable, score, w)[0])


def _areas(
    favorable: ArrayLike, score: ArrayLike, weights: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    y = np.asarray(favorable).astype(bool)
    s = np.asarray(score, dtype=np.float64)
    order = np.argsort(s, kind="stable")
    y, s = y[order], s[order]
    starts = np.flatnonzero(np.append(True, s[1:] != s[:-1]))
    w = np.ones((1, len(y))) if weights is None else weights[:, order]
    positive = np.add.reduceat(w * y, starts, axis=1)
    negative = np.add.reduceat(w * ~y, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    area = (positive * below).sum(axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return np.divide(area, pairs, out=np.full(len(area), np.nan), where=pairs > 0)


def bootstrap_auroc(
    favorable: ArrayLike, score: ArrayLike, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """AUROC under each row of bootstrap weights.

    Parameters
    ----------
    favorable : array_like of bool, shape (n,)
        True outcomes.
    score : array_like of float, shape (n,)
        Scores.
    weights : ndarray of float64, shape (draws, n)
        How often each person was drawn.

    Returns
    -------
    ndarray of float64, shape (draws,)
        NaN where a draw has one class only.
    """
    blocks = [_areas(favorable, score, weights[i : i + 50]) for i in range(0, len(weights), 50)]
    return np.concatenate(blocks)


def confusion_scores(confusion: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Accuracy, balanced accuracy, precision, recall and F1 from confusion counts.

    Parameters
    ----------
    confusion : array_like, shape (..., 2, 2)
        ``counts[y, ŷ]``; leading axes (bootstrap draws) are kept.

    Returns
    -------
    dict of str to ndarray of float64, shape (...)
        NaN where undefined, except that precision and F1 are 0 when nothing is predicted
        favorable, as in scikit-learn with ``zero_division=0``.
    """
    c = np.asarray(confusion, dtype=np.float64)
    tn, fp, fn, tp = c[..., 0, 0], c[..., 0, 1], c[..., 1, 0], c[..., 1, 1]

    def divide(top: NDArray[np.float64], bottom: NDArray[np.float64], empty: float) -> NDArray[np.float64]:
        return np.divide(top, bottom, out=np.full(np.shape(bottom), empty), where=bottom > 0)

    recall = divide(tp, tp + fn, math.nan)
    return {
        "accuracy": divide(tp + tn, tn + fp + fn + tp, math.nan),
        "balanced_accuracy": (recall + divide(tn, tn + fp, math.nan)) / 2,
        "precision": divide(tp, tp + fp, 0.0),
        "recall": recall,
        "f1": divide(2 * tp, 2 * tp + fp + fn, 0.0),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def binary_scores(
    favorable: ArrayLike, probability: ArrayLike, *, predicted: ArrayLike | None = None
) -> dict[str, float | None]:
    """All utility numbers of a two-way decision.

    Parameters
    ----------
    favorable : array_like of bool, shape (n,)
        True outcomes.
    probability : array_like of float, shape (n,)
        P(favorable), in [0, 1].
    predicted : array_like of bool, shape (n,), optional
        Decisions; by default ``probability >= 0.5``.

    Returns
    -------
    dict of str to float or None
        The names of :data:`BINARY_METRICS`; None where the rows hold one class only. ``brier`` is
        the mean squared error of the probability (0 is best).
    """
    from sklearn.metrics import average_precision_score

    y = np.asarray(favorable).astype(bool)
    p = np.asarray(probability, dtype=np.float64)
    if y.shape != p.shape:
        raise DataError(
            f"favorable has {len(y)} rows and probability {len(p)}; they must be the same people."
        )
    if len(y) == 0:
        raise DataError("There is no row to score.")
    d = p >= 0.5 if predicted is None else np.asarray(predicted).astype(bool)
    counts = np.bincount(y * 2 + d, minlength=4).reshape(2, 2)
    scores = {name: _finite(float(value)) for name, value in confusion_scores(counts).items()}
    scores["auroc"] = _finite(auroc(y, p))
    scores["average_precision"] = float(average_precision_score(y, p)) if y.any() else None
    scores["brier"] = float(np.mean((p - y) ** 2))
    return scores


def multiclass_scores(codes: ArrayLike, probability: ArrayLike) -> dict[str, float | None]:
    """Score a decision between several classes.

    Parameters
    ----------
    codes : array_like of int, shape (n,)
        True classes.
    probability : array_like of float, shape (n, n_classes)
        Probabilities; the decision is the most probable class.

    Returns
    -------
    dict of str to float or None
        ``accuracy``, ``balanced_accuracy`` (mean recall), ``f1_macro``, ``auroc_macro`` (mean of
        one-against-the-rest areas) and ``brier`` (summed over classes, in [0, 2]), over the classes
        that occur in `codes`.
    """
    from sklearn.metrics import f1_score

    y = np.asarray(codes)
    p = np.asarray(probability, dtype=np.float64)
    if p.ndim != 2 or len(p) != len(y):
        raise DataError(f"probability has shape {p.shape}; expected ({len(y)}, number of classes).")
    d = p.argmax(axis=1)
    present = np.unique(y)
    areas = [auroc(y == c, p[:, c]) for c in present if (y == c).any() and (y != c).any()]
    onehot = np.zeros_like(p)
    onehot[np.arange(len(y)), y] = 1
    return {
        "accuracy": float((d == y).mean()),
        "balanced_accuracy": float(np.mean([(d[y == c] == c).mean() for c in present])),
        "f1_macro": float(f1_score(y, d, labels=present, average="macro", zero_division=0)),
        "auroc_macro": float(np.mean(areas)) if areas else None,
        "brier": float(((p - onehot) ** 2).sum(axis=1).mean()),
    }


def regression_scores(target: ArrayLike, predicted: ArrayLike) -> dict[str, float | None]:
    """R², mean absolute error and root mean squared error, the last two in the target's unit.

    Parameters
    ----------
    target, predicted : array_like of float, shape (n,)
        True and predicted values.

    Returns
    -------
    dict of str to float or None
        ``r2`` is None when the target is constant.
    """
    y = np.asarray(target, dtype=np.float64)
    p = np.asarray(predicted, dtype=np.float64)
    if y.shape != p.shape or len(y) == 0:
        raise DataError(f"target has {len(y)} rows and predicted {len(p)}; they must be the same people.")
    spread = float(((y - y.mean()) ** 2).sum())
    return {
        "r2": 1 - float(((y - p) ** 2).sum()) / spread if spread > 0 else None,
        "mae": float(np.abs(y - p).mean()),
        "rmse": float(np.sqrt(((y - p) ** 2).mean())),
    }


def rank_agreement(a: ArrayLike, b: ArrayLike) -> float | None:
    """Kendall's τ-b between two orders of the same things; None if one of them is all ties.

    Used for the ranking of models and for feature importances, real against synthetic.
    """
    from scipy.stats import kendalltau

    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        raise DataError(f"The two orders have {len(x)} and {len(y)} entries; they must rank the same things.")
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return _finite(float(kendalltau(x, y).statistic))
