"""Comparing methods over data sets and seeds: ranks, critical differences, paired bootstrap, Pareto fronts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairsynth.errors import SettingsError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
#: Bootstrap draws.
DRAWS = 2_000


def ranks(values: ArrayLike) -> Floats:
    """Rank methods on each data set, 1 the best; ties share the mean of their places.

    A method without a number on a data set shares the last places there. Leaving such data sets out of its mean would
    reward failing on the hard ones.

    Parameters
    ----------
    values : array_like of float, shape (methods, data sets)
        More is better; NaN where there is no number.

    Returns
    -------
    ndarray of float64, shape (methods, data sets)
    """
    given = np.asarray(values, dtype=np.float64)
    place = np.empty(given.shape)
    for column in range(given.shape[1]):
        own = np.where(np.isnan(given[:, column]), np.inf, -given[:, column])
        _, which, count = np.unique(own, return_inverse=True, return_counts=True)
        place[:, column] = (count.cumsum() - (count - 1) / 2)[which]
    return place


@dataclass(frozen=True)
class Differences:
    """Whether mean ranks differ by more than chance.

    Attributes
    ----------
    p : float
        Of the Friedman test that all methods are alike; NaN where all ranks tie.
    critical : float
        Difference of mean ranks from which two methods differ at the level of 5 % (Nemenyi).
    n : int
        Data sets.
    """

    p: float
    critical: float
    n: int


def critical_difference(place: ArrayLike) -> Differences | None:
    """Test mean ranks: Friedman's test, and Nemenyi's critical difference at 5 %.

    As J. Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", *JMLR* 7, 2006, section 3.2.2:
    ``CD = q · sqrt(k (k + 1) / (6 N))``, q the studentized range at 95 % over the square root of 2.

    Parameters
    ----------
    place : array_like of float, shape (methods, data sets)
        Of `ranks`.

    Returns
    -------
    Differences or None
        None for fewer than three methods or two data sets, where the test says nothing.
    """
    from scipy.special import chdtrc

    r = np.asarray(place, dtype=np.float64)
    k, n = r.shape
    if k < 3 or n < 2:
        return None
    mean = r.mean(axis=1)
    # Friedman's statistic, corrected for ties, as scipy's; ranks are given here, with failures last.
    ties = sum(float((c**3 - c).sum()) for c in (np.unique(col, return_counts=True)[1] for col in r.T))
    correction = 1 - ties / (n * k * (k**2 - 1))
    statistic = 12 * n / (k * (k + 1)) * float(((mean - (k + 1) / 2) ** 2).sum())
    p = float(chdtrc(k - 1, statistic / correction)) if correction > 0 else float("nan")
    return Differences(p, _nemenyi(k) * float(np.sqrt(k * (k + 1) / (6 * n))), n)


@cache
def _nemenyi(k: int) -> float:
    """Return the studentized range of k methods at 95 % over the square root of 2."""
    # Of k standard normals the range is below q with probability k ∫ φ(z) (Φ(z) - Φ(z - q))^(k-1) dz. Without
    # scipy.stats, whose import takes longer than all the rest of a leaderboard.
    from scipy.special import ndtr

    z = np.linspace(-9.0, 9.0, 4001)
    weight = k * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    low, high = 0.0, 20.0
    while high - low > 1e-10:
        middle = (low + high) / 2
        below = float((weight * (ndtr(z) - ndtr(z - middle)) ** (k - 1)).sum())
        low, high = (middle, high) if below < 0.95 else (low, middle)
    return high / float(np.sqrt(2))


def paired_bootstrap(
    values: ArrayLike, reference: int, *, seed: int = 0, draws: int = DRAWS
) -> tuple[Floats, Floats, Floats]:
    """Compare every method with one of them, on the same data sets and seeds.

    Data sets are drawn with replacement, and in each its seeds, so that both kinds of chance are in the interval. Only
    pairs in which both methods have a number are compared.

    Parameters
    ----------
    values : array_like of float, shape (methods, data sets, seeds)
        NaN where there is no number.
    reference : int
        Position of the method that the others are compared with.
    seed : int, default=0
        Of the draws.
    draws : int, default=2000
        How many.

    Returns
    -------
    difference, low, high : ndarray of float64, shape (methods,)
        Mean over data sets of the mean difference to the reference, and its 95 % interval; NaN where no pair is.
    """
    given = np.asarray(values, dtype=np.float64)
    if not 0 <= reference < len(given):
        raise SettingsError(f"reference={reference!r} is no position among {len(given)} methods.")
    methods, sets, seeds = given.shape
    gap = given - given[reference]
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, sets, (draws, sets))
    # How often each seed is drawn at each place, the same as drawing seeds one by one.
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=(draws, sets)).astype(np.float64)
    there = ~np.isnan(gap)
    known, present = np.where(there, gap, 0.0), there.astype(np.float64)
    means = np.full((draws, sets, methods), np.nan)
    for place in range(sets):
        at = chosen == place
        top, count = weights[at] @ known[:, place].T, weights[at] @ present[:, place].T
        means[at] = np.divide(top, count, out=np.full(top.shape, np.nan), where=count > 0)
    drawn = _mean(means.transpose(2, 0, 1))
    low, high = np.full(methods, np.nan), np.full(methods, np.nan)
    some = ~np.isnan(drawn).all(axis=1)
    if some.any():
        low[some], high[some] = np.nanquantile(drawn[some], [0.025, 0.975], axis=1)
    return _mean(_mean(gap)), low, high


def _mean(values: Floats) -> Floats:
    """Return the mean over the last axis of what is there, NaN where nothing is."""
    there = ~np.isnan(values)
    count = there.sum(axis=-1)
    total = np.where(there, values, 0.0).sum(axis=-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def pareto(points: ArrayLike) -> Bools:
    """Say which points no other point beats on every count.

    Parameters
    ----------
    points : array_like of float, shape (n, counts)
        More is better; minus infinity for what does not have a count (a mitigator has no likeness of rows). A point
        with NaN is on no front.

    Returns
    -------
    ndarray of bool, shape (n,)
        Points that are the same are on the front together.
    """
    p = np.asarray(points, dtype=np.float64)
    known: Bools = np.asarray(~np.isnan(p).any(axis=1))
    front: Bools = np.array(known)
    for i in np.flatnonzero(known):
        others = p[known]
        front[i] = not ((others >= p[i]).all(axis=1) & (others > p[i]).any(axis=1)).any()
    return front
