"""The linear law of the label, and its mixture with the boosted one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fairsynth.trees.bins import Bins
from fairsynth.trees.linear_scores import SMALL_TABLE, learn_linear, learn_mixed, mixed
from fairsynth.trees.scores import PairScores, learn_scores

LEVELS = Bins(np.arange(4, dtype=np.int64), 4, ordered=False)
NUMBER = Bins(np.arange(6, dtype=np.int64), 6, ordered=True)


def people(n: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Rows whose label is linear in a level's effect and a number's place."""
    rng = np.random.default_rng(seed)
    level, number = rng.integers(0, 4, n), rng.integers(0, 6, n)
    odds = np.array([-1.0, 0.0, 0.5, 1.0])[level] + 0.6 * (number - 2.5)
    return [level, number], (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(np.int64)


def test_the_linear_law_is_scikit_learns_on_the_same_columns() -> None:
    lines, labels = people(3000)
    law = learn_linear(lines, [LEVELS, NUMBER], labels, 2)
    share = np.bincount(lines[1]) / len(labels)
    place = (np.cumsum(share) - share / 2)[lines[1]]
    place = (place - place.mean()) / place.std()
    matrix = np.column_stack([np.eye(4)[lines[0]], place])
    other = LogisticRegression(max_iter=500).fit(matrix - matrix.mean(0), labels)
    expected = other.decision_function(matrix - matrix.mean(0))
    assert np.allclose(law.scores(lines, len(labels))[:, 0], expected, atol=1e-3)


def test_more_labels_have_a_score_each() -> None:
    lines, labels = people(2000)
    three = np.where(labels == 1, 2, lines[0] % 2)
    law = learn_linear(lines, [LEVELS, NUMBER], three, 3)
    scores = law.scores(lines, len(three))
    assert scores.shape == (2000, 3)
    assert (scores.argmax(1) == three).mean() > 0.6


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_mixture_scores_as_the_mean_of_both(weight: float) -> None:
    rng = np.random.default_rng(1)
    lines, _ = people(500)
    one = PairScores(np.array([0.2]), ((0, 1),), (rng.normal(size=(4, 6, 1)).astype(np.float32),))
    other = PairScores(
        np.array([-0.7]),
        ((0, 0), (1, 1)),
        (rng.normal(size=(4, 4, 1)).astype(np.float32), rng.normal(size=(6, 6, 1)).astype(np.float32)),
    )
    found = mixed(one, other, weight).scores(lines, 500)
    expected = (1 - weight) * one.scores(lines, 500) + weight * other.scores(lines, 500)
    assert np.allclose(found, expected, atol=1e-5)
    assert len(mixed(one, other, weight).pairs) == 1  # rows take no more time


def test_a_linear_world_of_few_people_is_told_better_by_the_mixture() -> None:
    lines, labels = people(300, seed=5)
    asked, truth = people(20_000, seed=6)
    bins = [LEVELS, NUMBER]

    def loss(law: PairScores) -> float:
        score = law.scores(asked, len(truth))[:, 0].astype(np.float64)
        return float(np.log1p(np.exp(-np.where(truth == 1, score, -score))).mean())

    assert loss(learn_mixed(lines, bins, labels, 2, seed=0)) < loss(
        learn_scores(lines, bins, labels, 2, seed=0)
    )


def test_large_tables_and_rare_labels_keep_the_boosted_law() -> None:
    for n, some in ((SMALL_TABLE + 1, None), (400, 3)):
        lines, labels = people(n)
        if some is not None:
            labels = np.zeros(n, dtype=np.int64)
            labels[:some] = 1
        bins = [LEVELS, NUMBER]
        found = learn_mixed(lines, bins, labels, 2, seed=0).scores(lines, n)
        assert np.array_equal(found, learn_scores(lines, bins, labels, 2, seed=0).scores(lines, n))
