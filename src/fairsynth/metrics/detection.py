"""Detection: whether a classifier can tell real rows from synthetic ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairsynth._lightgbm import load as load_lightgbm
from fairsynth.cores import side_by_side
from fairsynth.errors import DataError, SettingsError
from fairsynth.metrics.utility import auroc

if TYPE_CHECKING:
    from lightgbm import Booster

Floats = NDArray[np.float64]

_RARE = 10


@dataclass(frozen=True)
class Detection:
    """Outcome of a classifier two-sample test.

    Attributes
    ----------
    auc : float
        Area under the ROC curve from out-of-sample probabilities; .5 is indistinguishable.
    probability_real, probability_synthetic : ndarray of float64, shapes (n,) and (m,)
        Out-of-sample P(synthetic) of each row.
    importance : ndarray of float64, shape (n_columns,)
        Share of the trees' gain that each column has; sums to 1 (or is all 0).
    giveaways : ndarray of int64
        Synthetic rows that are recognised most surely, strongest first.
    reasons : ndarray of float64, shape (len(giveaways), n_columns)
        How far each column pushes the give-away row towards "synthetic" (tree SHAP, log-odds).
    """

    auc: float
    probability_real: Floats
    probability_synthetic: Floats
    importance: Floats
    giveaways: NDArray[np.int64]
    reasons: Floats


def classifier_two_sample_test(
    real: ArrayLike,
    synthetic: ArrayLike,
    *,
    categorical: list[int] | tuple[int, ...] = (),
    folds: int = 5,
    trees: int = 100,
    giveaways: int = 20,
    seed: int = 0,
    threads: int = 2,
) -> Detection:
    """Run a classifier two-sample test (C2ST; Lopez-Paz and Oquab 2017) with gradient-boosted trees.

    The area is the mean over folds, each scored by a classifier that did not see it. Rows that are alike
    and rare (at most ten times) are kept in one fold, whichever side they are from: if a copy were
    learned under the other label, a generator that copies people would come out *below* .5.

    Parameters
    ----------
    real, synthetic : array_like of float, shapes (n, d) and (m, d)
        Rows; NaN is missing, categorical columns hold codes from 0. Take n = m.
    categorical : sequence of int
        Columns that hold codes.
    folds : int, default=5
        Folds of the cross-fitting.
    trees : int, default=100
        Trees of LightGBM.
    giveaways : int, default=20
        How many of the most recognisable synthetic rows to explain.
    seed : int, default=0
        Of folds and trees.
    threads : int, default=2
        Folds that are learned side by side.

    Returns
    -------
    Detection
        AUC and what gave the rows away.
    """
    lightgbm = load_lightgbm()

    x, y = np.asarray(real, dtype=np.float64), np.asarray(synthetic, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise DataError(f"real has shape {x.shape} and synthetic {y.shape}; they must have the same columns.")
    if folds < 2:
        raise SettingsError(f"folds={folds!r} must be at least 2: the test is out of sample.")
    if min(len(x), len(y)) < 2 * folds:
        raise DataError(f"C2ST with {folds} folds needs {2 * folds} rows on either side.")
    rows = np.concatenate([x, y])
    label = np.repeat([0, 1], [len(x), len(y)])
    fold = _folds(rows, label, folds, np.random.default_rng(seed))
    settings = {
        "objective": "binary",
        "learning_rate": 0.1,
        "num_leaves": 31,
        "min_data_in_leaf": 20,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    probability = np.full(len(rows), float(label.mean()))
    importance = np.zeros(rows.shape[1])
    sure_of = len(x) + np.arange(len(y))

    def learn(part: int) -> Booster | None:
        train = fold != part
        if train.all() or len(np.unique(label[train])) < 2:
            return None
        data = lightgbm.Dataset(rows[train], label[train], categorical_feature=list(categorical))
        booster = lightgbm.train(settings, data, num_boost_round=trees)
        probability[~train] = np.asarray(booster.predict(rows[~train], num_threads=1))
        return booster

    boosters = side_by_side(learn, range(folds), threads)
    for fitted in boosters:
        if fitted is not None:
            importance += fitted.feature_importance("gain")
    sure = np.argsort(-probability[sure_of], kind="stable")[:giveaways]
    reasons = np.zeros((len(sure), rows.shape[1]))
    for part, fitted in enumerate(boosters):
        mine = fold[sure_of[sure]] == part
        if fitted is not None and mine.any():
            shap = fitted.predict(y[sure[mine]], pred_contrib=True, num_threads=1)
            reasons[mine] = np.asarray(shap)[:, :-1]
    return Detection(
        auc=float(np.nanmean([auroc(label[fold == f], probability[fold == f]) for f in range(folds)])),
        probability_real=probability[: len(x)],
        probability_synthetic=probability[len(x) :],
        importance=importance / importance.sum() if importance.sum() > 0 else importance,
        giveaways=sure.astype(np.int64),
        reasons=reasons,
    )


def row_codes(rows: ArrayLike) -> NDArray[np.int64]:
    """Give rows that are exactly alike the same code (NaN equals NaN, -0.0 equals 0.0)."""
    x = np.ascontiguousarray(np.asarray(rows, dtype=np.float64)) + 0.0
    x[np.isnan(x)] = np.nan
    keys = x.view(np.dtype((np.void, x.dtype.itemsize * x.shape[1]))).ravel()
    return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _folds(rows: Floats, label: NDArray[np.int64], folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Deal each side evenly to the folds; rows that are alike and rare stay together.

    Whether they stay together must not depend on their labels: keeping together only what occurs on both
    sides would leave the telling repeats apart, and detect a difference where there is none.
    """
    fold = np.empty(len(rows), dtype=np.int64)
    for side in (0, 1):
        mine = np.flatnonzero(label == side)
        fold[rng.permutation(mine)] = np.arange(len(mine)) % folds
    codes = row_codes(rows)
    count = np.bincount(codes)
    rare = (count > 1) & (count <= _RARE)
    together = rng.integers(folds, size=len(count))
    return np.where(rare[codes], together[codes], fold)
