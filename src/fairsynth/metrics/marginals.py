"""Fidelity of columns and of pairs of columns.

A column is an array of floats (numeric; NaN is missing) or of non-negative integer codes
(categorical; missing is a code like any other).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairsynth.errors import DataError

Floats = NDArray[np.float64]


def _numbers(values: ArrayLike, name: str) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    x = x[~np.isnan(x)]
    if len(x) == 0:
        raise DataError(f"{name} holds no number that is not missing; leave the column out of this metric.")
    return x


def _shares(real: ArrayLike, synthetic: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(real), np.asarray(synthetic)
    if len(a) == 0 or len(b) == 0:
        raise DataError("An empty column has no distribution.")
    if min(a.min(), b.min()) < 0:
        raise DataError("Category codes start at 0; give missing values a code of their own.")
    size = int(max(a.max(), b.max())) + 1
    return np.bincount(a, minlength=size) / len(a), np.bincount(b, minlength=size) / len(b)


def kolmogorov_smirnov(real: ArrayLike, synthetic: ArrayLike) -> float:
    """``sup_t |F_real(t) - F_synthetic(t)|`` of a numeric column; missing left out, 0 alike, 1 disjoint."""
    a, b = np.sort(_numbers(real, "real")), np.sort(_numbers(synthetic, "synthetic"))
    points = np.concatenate([a, b])
    below_a = np.searchsorted(a, points, side="right") / len(a)
    below_b = np.searchsorted(b, points, side="right") / len(b)
    return float(np.abs(below_a - below_b).max())


def total_variation(real: ArrayLike, synthetic: ArrayLike) -> float:
    """``1/2 sum_c |P(c) - Q(c)|`` of a categorical column; 0 is alike, 1 disjoint."""
    p, q = _shares(real, synthetic)
    return float(0.5 * np.abs(p - q).sum())


def jensen_shannon(real: ArrayLike, synthetic: ArrayLike) -> float:
    """Jensen-Shannon distance of a categorical (or binned) column, base 2.

    ``sqrt(KL(p||m)/2 + KL(q||m)/2)`` with ``m = (p+q)/2`` (Lin 1991; the root is a
    metric): 0 is alike, 1 disjoint.
    """
    p, q = _shares(real, synthetic)
    m = (p + q) / 2

    def divergence(a: Floats) -> float:
        some = a > 0
        return float((a[some] * np.log2(a[some] / m[some])).sum())

    return float(np.sqrt(max(0.0, (divergence(p) + divergence(q)) / 2)))


def wasserstein(real: ArrayLike, synthetic: ArrayLike, *, scale: float = 1.0) -> float:
    """First Wasserstein distance of a numeric column, ``∫ |F - G| dt / scale``, missing left out.

    Parameters
    ----------
    real, synthetic : array_like of float, shapes (n,) and (m,)
        Values.
    scale : float, default=1.0
        Unit of the answer; the standard deviation of the real train rows makes columns comparable.
    """
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(_numbers(real, "real"), _numbers(synthetic, "synthetic"))) / scale


def quantile_bins(reference: ArrayLike, bins: int = 20) -> Floats:
    """Inner edges of bins of equal mass in `reference` (missing left out), for :func:`bin_codes`."""
    x = _numbers(reference, "reference")
    return np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))


def bin_codes(values: ArrayLike, edges: Floats) -> NDArray[np.int64]:
    """Codes 0 … len(edges) by bin (``x <= edge`` to the left), and len(edges)+1 for missing."""
    x = np.asarray(values, dtype=np.float64)
    codes = np.searchsorted(edges, x, side="left")
    return np.where(np.isnan(x), len(edges) + 1, codes).astype(np.int64)


def cramers_v(a: ArrayLike, b: ArrayLike) -> float:
    """Cramér's V of two categorical columns, bias-corrected (Bergsma 2013, eq. 5); 0 if one is constant."""
    x = np.unique(np.asarray(a), return_inverse=True)[1].reshape(-1)
    y = np.unique(np.asarray(b), return_inverse=True)[1].reshape(-1)
    n = len(x)
    if n == 0 or len(y) != n:
        raise DataError(f"The two columns have {n} and {len(y)} rows; they must be the same, and some.")
    r, c = int(x.max()) + 1, int(y.max()) + 1
    if r < 2 or c < 2 or n < 2:
        return 0.0
    if r * c <= 4 * n:
        counts = np.bincount(x * c + y, minlength=r * c)
        cells = np.flatnonzero(counts)
        counts = counts[cells]
    else:  # Only cells that occur: two columns of 10,000 levels must not cost a hundred million.
        cells, counts = np.unique(x * c + y, return_counts=True)
    row, column = np.bincount(x) / n, np.bincount(y) / n
    phi2 = float((counts**2 / (row[cells // c] * column[cells % c])).sum()) / n**2 - 1
    phi2 = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    r_, c_ = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    smallest = min(r_, c_) - 1
    return float(np.sqrt(min(1.0, phi2 / smallest))) if smallest > 0 else 0.0


def correlation_ratio(codes: ArrayLike, numbers: ArrayLike) -> float:
    """η of a numeric column given a categorical one, ``sqrt(between / total variance)``; 0 if constant."""
    y = np.asarray(numbers, dtype=np.float64)
    known = ~np.isnan(y)
    x = np.unique(np.asarray(codes)[known], return_inverse=True)[1].reshape(-1)
    y = y[known]
    if len(y) < 2 or np.ptp(y) == 0:
        return 0.0
    y = y - y.mean()
    n = np.bincount(x)
    between = float((np.bincount(x, weights=y) ** 2 / n).sum())
    return float(np.sqrt(min(1.0, between / float((y**2).sum()))))


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson correlation over rows where both are known; 0 if one is constant there."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1, 1))


def association_matrix(columns: list[NDArray[np.generic]], numeric: list[bool]) -> Floats:
    """Association of every pair of columns of mixed kinds.

    Numeric pairs: Pearson's r; categorical pairs: Cramér's V; mixed: the correlation ratio η.

    Parameters
    ----------
    columns : list of ndarray, each of shape (n,)
        Floats (NaN missing) where `numeric`, else integer codes.
    numeric : list of bool
        Kind of each column.

    Returns
    -------
    ndarray of float64, shape (n_columns, n_columns)
        Symmetric, 1 on the diagonal; r may be negative, the others lie in [0, 1].
    """
    size = len(columns)
    matrix = np.eye(size)
    for i in range(size):
        for j in range(i + 1, size):
            a, b = columns[i], columns[j]
            if numeric[i] and numeric[j]:
                value = pearson(a, b)
            elif numeric[i]:
                value = correlation_ratio(b, a)
            elif numeric[j]:
                value = correlation_ratio(a, b)
            else:
                value = cramers_v(a, b)
            matrix[i, j] = matrix[j, i] = value
    return matrix


def correlation_difference(real: Floats, synthetic: Floats) -> float:
    """Mean absolute difference of two association matrices off the diagonal; 0 is alike."""
    if real.shape != synthetic.shape or len(real) < 2:
        raise DataError("Pair correlations need the same two or more columns on both sides.")
    upper = np.triu_indices(len(real), 1)
    return float(np.abs(real[upper] - synthetic[upper]).mean())
