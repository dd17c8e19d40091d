"""Distances between sets of images, measured on features: FID, FID without its sample-size bias, and KID.

Everything is float64: a covariance of features in float32 has eigenvalues of the wrong sign, and a square root of
those is where published numbers part. Density, coverage, precision and recall of the same features are those of
:func:`fairsynth.metrics.manifold.density_coverage`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairsynth.errors import DataError, SettingsError

Floats = NDArray[np.float64]
#: Elements of a block of the kernel matrix.
_BLOCK = 4_000_000


def as_features(rows: ArrayLike, name: str = "features") -> Floats:
    """Check a matrix of features and turn it into float64.

    Raises
    ------
    DataError
        If it is no matrix, has fewer than two rows, or holds numbers that are not finite.
    """
    x = np.ascontiguousarray(rows, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0:
        raise DataError(f"{name} has shape {x.shape}; expected one row of features for each image.")
    if len(x) < 2:
        raise DataError(
            f"{name} has {len(x)} rows; a distance between sets needs at least two images in each."
        )
    if not np.isfinite(x).all():
        raise DataError(f"{name} holds infinite or missing numbers; look at the feature network.")
    return x


def _pair(real: ArrayLike, synthetic: ArrayLike) -> tuple[Floats, Floats]:
    x, y = as_features(real, "real"), as_features(synthetic, "synthetic")
    if x.shape[1] != y.shape[1]:
        raise DataError(
            f"real has {x.shape[1]} features and synthetic {y.shape[1]}; they must come from the same network."
        )
    return x, y


def frechet_distance(mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike) -> float:
    """Squared Fréchet (Wasserstein-2) distance of two Gaussians (Dowson and Landau 1982).

    ``|μ_a - μ_b|² + tr A + tr B - 2 tr (A^½ B A^½)^½``. The last trace is the sum of the square roots of the
    eigenvalues of a symmetric matrix, so nothing complex appears and singular covariances (fewer images than
    features) need no correction; published code takes the square root of ``A B``, which is not symmetric.

    Parameters
    ----------
    mean_a, mean_b : array_like of float, shape (d,)
        Means.
    cov_a, cov_b : array_like of float, shape (d, d)
        Covariances, symmetric and positive semidefinite.

    Returns
    -------
    float
        At least 0.
    """
    a, b = np.atleast_2d(np.asarray(cov_a, np.float64)), np.atleast_2d(np.asarray(cov_b, np.float64))
    gap = np.atleast_1d(np.asarray(mean_a, np.float64)) - np.atleast_1d(np.asarray(mean_b, np.float64))
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ b @ root)
    cross = np.sqrt(np.maximum(inner, 0.0)).sum()
    return float(max(gap @ gap + np.trace(a) + np.trace(b) - 2 * cross, 0.0))


def fid(real: ArrayLike, synthetic: ArrayLike) -> float:
    """Fréchet inception distance (Heusel et al. 2017, sec. 2), on whatever features are given.

    The distance of Gaussians with the two sets' means and covariances (divided by n - 1). It is biased: two samples
    of one law are at a distance that falls like 1/n and grows with the number of features, so numbers are to be
    compared at equal n only, and beside what two real sets of that size give. See :func:`fid_infinity`.

    Parameters
    ----------
    real, synthetic : array_like of float, shapes (n, d) and (m, d)
        Features.

    Returns
    -------
    float
        At least 0; lower is better.
    """
    x, y = _pair(real, synthetic)
    return frechet_distance(x.mean(axis=0), np.cov(x, rowvar=False), y.mean(axis=0), np.cov(y, rowvar=False))


def fid_infinity(real: ArrayLike, synthetic: ArrayLike, *, points: int = 12, seed: int = 0) -> float:
    """FID at infinitely many images, by a straight line in 1/n (Chong and Forsyth 2020, sec. 4).

    FID is measured on `points` samples of n images of *both* sets, n from a third of the images there are up to all
    of them, and the line is read at 1/n = 0. Ours: n is taken from both sets (the paper keeps the real one as
    it is, whose own bias then stays), and at random instead of from a Sobol sequence.

    Parameters
    ----------
    real, synthetic : array_like of float, shapes (n, d) and (m, d)
        Features.
    points : int, default=12
        Samples that the line is laid through.
    seed : int, default=0
        Of the samples.

    Returns
    -------
    float
        Scatters around 0 for two samples of one law, so it may be slightly negative.

    Raises
    ------
    SettingsError
        If there are fewer than 3 points.
    """
    if points < 3:
        raise SettingsError(f"points={points!r} must be at least 3.")
    x, y = _pair(real, synthetic)
    most = min(len(x), len(y))
    if most < 6:
        raise DataError(f"There are {most} images in the smaller set; at least 6 are needed to see a trend.")
    rng = np.random.default_rng(seed)
    # Equal steps of 1/n, so that every part of the line has its say.
    sizes = np.unique(np.round(1 / np.linspace(3 / most, 1 / most, points)).astype(int).clip(2, most))
    found = [
        fid(x[rng.choice(len(x), n, replace=False)], y[rng.choice(len(y), n, replace=False)]) for n in sizes
    ]
    return float(np.polyfit(1 / sizes, found, 1)[1])


def kid(real: ArrayLike, synthetic: ArrayLike) -> float:
    """Kernel inception distance (Bińkowski et al. 2018, sec. 4), on whatever features are given.

    The unbiased estimate of the squared maximum mean discrepancy with the kernel ``k(a, b) = (a·b/d + 1)³``:
    ``E k(x,x') + E k(y,y') - 2 E k(x,y)`` without the diagonals. Over all pairs; the published code averages over
    random subsets of 1,000, which estimates the same with more scatter.

    Parameters
    ----------
    real, synthetic : array_like of float, shapes (n, d) and (m, d)
        Features.

    Returns
    -------
    float
        Scatters around 0 for two samples of one law whatever their size, so it may be slightly negative.
    """
    x, y = _pair(real, synthetic)
    n, m = len(x), len(y)
    within_x = (_kernel_sum(x, x) - _diagonal(x)) / (n * (n - 1))
    within_y = (_kernel_sum(y, y) - _diagonal(y)) / (m * (m - 1))
    return float(within_x + within_y - 2 * _kernel_sum(x, y) / (n * m))


def _diagonal(x: Floats) -> float:
    return float(((np.einsum("ij,ij->i", x, x) / x.shape[1] + 1) ** 3).sum())


def _kernel_sum(x: Floats, y: Floats) -> float:
    size = max(1, _BLOCK // len(y))
    total = 0.0
    for start in range(0, len(x), size):
        block = x[start : start + size] @ y.T
        block /= x.shape[1]
        block += 1
        total += float((block * block * block).sum())
    return total
