"""Utility: agreement with scikit-learn, and what happens where a score does not exist."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from fairsynth.errors import DataError
from fairsynth.metrics import utility


@given(st.integers(0, 10_000), st.sampled_from([0, 1, 6]))
@settings(max_examples=40, deadline=None)
def test_the_scores_are_scikit_learns(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.random(300) < 0.3
    p = np.clip(0.3 * y + rng.random(300) * 0.7, 0, 1).round(decimals)  # few decimals: many ties
    ours = utility.binary_scores(y, p)
    d = p >= 0.5
    theirs = {
        "accuracy": sk.accuracy_score(y, d),
        "balanced_accuracy": sk.balanced_accuracy_score(y, d),
        "precision": sk.precision_score(y, d, zero_division=0),
        "recall": sk.recall_score(y, d),
        "f1": sk.f1_score(y, d, zero_division=0),
        "auroc": sk.roc_auc_score(y, p),
        "average_precision": sk.average_precision_score(y, p),
        "brier": sk.brier_score_loss(y, p),
    }
    assert set(ours) == set(utility.BINARY_METRICS)
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name


def test_auroc_uses_probabilities_not_decisions() -> None:
    y = np.array([0, 0, 1, 1])
    p = np.array([0.1, 0.2, 0.3, 0.4])  # every decision is "no", the order is perfect
    assert utility.binary_scores(y, p)["auroc"] == 1.0
    assert utility.binary_scores(y, p)["recall"] == 0.0


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_weighted_auroc_is_that_of_repeated_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, s, w = rng.random(60) < 0.4, rng.integers(5, size=60), rng.integers(0, 4, size=60)
    expected = sk.roc_auc_score(np.repeat(y, w), np.repeat(s, w))
    assert utility.auroc(y, s, w) == pytest.approx(expected)
    draws = utility.bootstrap_auroc(y, s, np.stack([w, np.ones(60)]).astype(float))
    assert draws == pytest.approx([expected, sk.roc_auc_score(y, s)])


def test_one_class_gives_none_not_nan() -> None:
    scores = utility.binary_scores([1, 1, 1], [0.2, 0.7, 0.9])
    assert scores["auroc"] is None
    assert scores["balanced_accuracy"] is None
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert utility.binary_scores([0, 0], [0.2, 0.7])["average_precision"] is None
    with pytest.raises(DataError, match="same people"):
        utility.binary_scores([1, 0], [0.5])
    with pytest.raises(DataError, match="no row"):
        utility.binary_scores([], [])


def test_multiclass_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=400)
    p = rng.dirichlet(np.ones(3), size=400) * 0.5 + np.eye(3)[y] * 0.2
    p /= p.sum(axis=1, keepdims=True)
    ours = utility.multiclass_scores(y, p)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(y, p.argmax(1)))
    assert ours["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, p.argmax(1)))
    assert ours["f1_macro"] == pytest.approx(sk.f1_score(y, p.argmax(1), average="macro"))
    assert ours["auroc_macro"] == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"))


def test_regression_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    y, p = rng.normal(size=100), rng.normal(size=100)
    ours = utility.regression_scores(y, p)
    assert ours["r2"] == pytest.approx(sk.r2_score(y, p))
    assert ours["mae"] == pytest.approx(sk.mean_absolute_error(y, p))
    assert ours["rmse"] == pytest.approx(np.sqrt(sk.mean_squared_error(y, p)))
    assert utility.regression_scores([1.0, 1.0], [0.0, 2.0])["r2"] is None


def test_rank_agreement() -> None:
    assert utility.rank_agreement([1, 2, 3], [10, 20, 30]) == pytest.approx(1.0)
    assert utility.rank_agreement([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert utility.rank_agreement([1, 1, 1], [3, 2, 1]) is None
