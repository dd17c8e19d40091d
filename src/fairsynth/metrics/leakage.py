"""Leakage: how well the sensitive attribute can be read from the other columns, and from which."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairsynth._lightgbm import load as load_lightgbm
from fairsynth.cores import side_by_side
from fairsynth.errors import DataError
from fairsynth.metrics.utility import auroc

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LEAST = 10


def _frequent(groups: ArrayLike) -> tuple[NDArray[np.bool_], Ints, int]:
    """Keep groups of at least ten rows and code them from 0."""
    codes = np.asarray(groups)
    _, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    large = counts >= _LEAST
    renumbered = np.cumsum(large) - 1
    inverse = inverse.reshape(-1)
    return large[inverse], renumbered[inverse].astype(np.int64), int(large.sum())


def _mean_area(groups: Ints, probability: Floats, size: int) -> float:
    """Mean over groups of the AUROC of one against the rest."""
    areas = [auroc(groups == g, probability[:, g]) for g in range(size)]
    return float(np.mean([a for a in areas if not np.isnan(a)]))


def leakage_auc(
    rows: ArrayLike,
    groups: ArrayLike,
    *,
    categorical: list[int] | tuple[int, ...] = (),
    folds: int = 2,
    trees: int = 60,
    seed: int = 0,
    threads: int = 2,
) -> float | None:
    """AUC of reading the group from the other columns, on rows that the reader did not learn from.

    A LightGBM classifier is cross-fitted; the area is the mean over groups of one against the rest
    (for two groups, the usual AUC).

    Parameters
    ----------
    rows : array_like of float, shape (n, d)
        The other columns; NaN is missing, categorical columns hold codes.
    groups : array_like of int, shape (n,)
        Group of each row; groups of fewer than ten rows are left out.
    categorical : sequence of int
        Columns that hold codes.
    folds, trees, seed : int
        Of the cross-fitting and of LightGBM; with many groups there are fewer trees for each.
    threads : int, default=2
        Folds that are learned side by side.

    Returns
    -------
    float or None
        .5 if nothing leaks, 1 if the attribute can be read off; None with fewer than two groups.
    """
    lightgbm = load_lightgbm()

    x = np.asarray(rows, dtype=np.float64)
    if len(x) != np.size(groups):
        raise DataError(f"rows has {len(x)} rows and groups {np.size(groups)}; they must be the same.")
    kept, codes, size = _frequent(groups)
    if size < 2:
        return None
    x, codes = x[kept], codes[kept]
    settings = {
        "objective": "binary" if size == 2 else "multiclass",
        "learning_rate": 0.1,
        "num_leaves": 15,
        "min_data_in_leaf": 20,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbosity": -1,
    }
    if size > 2:
        settings["num_class"] = size
        trees = max(15, min(trees, 180 // size))
    fold = _stratified_folds(codes, folds, np.random.default_rng(seed))
    probability = np.zeros((len(x), size))

    def learn(part: int) -> None:
        test = fold == part
        data = lightgbm.Dataset(x[~test], codes[~test], categorical_feature=list(categorical))
        booster = lightgbm.train(settings, data, num_boost_round=trees)
        raw = np.asarray(booster.predict(x[test], num_threads=1))
        probability[test] = np.column_stack([1 - raw, raw]) if size == 2 else raw

    side_by_side(learn, range(folds), threads)
    return _mean_area(codes, probability, size)


def proxy_auc(values: ArrayLike, groups: ArrayLike, *, folds: int = 2, seed: int = 0) -> float | None:
    """AUC of reading the group from one column alone: P(group | level), estimated on other rows.

    Parameters
    ----------
    values : array_like, shape (n,)
        Levels, or numbers already cut into bins.
    groups : array_like of int, shape (n,)
        Group of each row; groups of fewer than ten rows are left out.
    folds, seed : int
        Of the cross-fitting.

    Returns
    -------
    float or None
        About .5 if the column says nothing; None with fewer than two groups.
    """
    kept, codes, size = _frequent(groups)
    if size < 2:
        return None
    codes = codes[kept]
    levels = np.unique(np.asarray(values)[kept], return_inverse=True)[1].reshape(-1)
    prior = np.bincount(codes, minlength=size) / len(codes)
    fold = _stratified_folds(codes, folds, np.random.default_rng(seed))
    probability = np.zeros((len(codes), size))
    for part in range(folds):
        test = fold == part
        counts = np.zeros((int(levels.max()) + 1, size))
        np.add.at(counts, (levels[~test], codes[~test]), 1)
        # One row's worth of prior: a level seen once must not count as certain.
        share = (counts + prior) / (counts.sum(axis=1, keepdims=True) + 1)
        probability[test] = share[levels[test]]
    return _mean_area(codes, probability, size)


def _stratified_folds(codes: Ints, folds: int, rng: np.random.Generator) -> Ints:
    """Deal the rows of each group evenly to the folds, at random."""
    fold = np.empty(len(codes), dtype=np.int64)
    for code in np.unique(codes):
        mine = np.flatnonzero(codes == code)
        fold[rng.permutation(mine)] = (np.arange(len(mine)) + rng.integers(folds)) % folds
    return fold
