"""The linear law of the label, and its mixture with the boosted one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fairsynth.trees.bins import Bins
from fairsynth.trees.linear_scores import PENALTY, SMALL_TABLE, learn_linear, learn_mixed, mixed
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
    other = LogisticRegression(C=PENALTY, max_iter=500).fit(matrix - matrix.mean(0), labels)
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


@pytest.mark.parametrize("n", [3000, SMALL_TABLE + 1000])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_two_columns_say_together_and_neither_alone_is_found(n: int, seed: int) -> None:
    """Of fourteen columns varied trees hardly ever come upon the two, and boosting may end before it does."""
    rng = np.random.default_rng(seed)
    sex, age, others = rng.integers(0, 2, n), rng.integers(0, 12, n), rng.integers(0, 6, (12, n))
    odds = 0.3 * (age - 5.5) * np.where(sex == 1, 1, -1) + 0.3 * (others[0] - 2.5)
    labels = (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    lines = [sex, age, *others]
    bins = [Bins(np.arange(2), 2, ordered=False), Bins(np.arange(12), 12, ordered=True), *[NUMBER] * 12]
    scores = learn_mixed(lines, bins, labels, 2, seed=0).scores(lines, n)[:, 0]
    for one, sign in ((1, 1), (0, -1)):
        slope = np.polyfit(age[sex == one], scores[sex == one], 1)[0]
        assert 0.15 < sign * slope < 0.4, one


def test_large_tables_and_rare_labels_keep_the_boosted_law() -> None:
    for n, some in ((SMALL_TABLE + 1, None), (400, 3)):
        lines, labels = people(n)
        if some is not None:
            labels = np.zeros(n, dtype=np.int64)
            labels[:some] = 1
        bins = [LEVELS, NUMBER]
        found = learn_mixed(lines, bins, labels, 2, seed=0).scores(lines, n)
        boosted = learn_scores(lines, bins, labels, 2, seed=0, varied=n <= SMALL_TABLE)
        assert np.array_equal(found, boosted.scores(lines, n))


def test_varied_trees_foretell_new_people_better_where_few_are_known() -> None:
    """Ten columns of which each tells a little, 300 people: the best cut of all is mostly chance."""
    better = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        lines = [rng.integers(0, 12, 4300) for _ in range(10)]
        total = sum((line - 5.5) / 3.5 for line in lines) / 4
        labels = (rng.random(4300) < 1 / (1 + np.exp(-total))).astype(np.int64)
        bins = [Bins(np.arange(12), 12, ordered=True)] * 10
        losses = []
        for varied in (False, True):
            law = learn_scores([line[:300] for line in lines], bins, labels[:300], 2, seed=0, varied=varied)
            scores = law.scores([line[300:] for line in lines], 4000)[:, 0]
            losses.append(np.logaddexp(0, np.where(labels[300:] == 1, -scores, scores)).mean())
        better.append(losses[0] - losses[1])
    assert np.mean(better) > 0 and np.mean(np.array(better) > 0) > 0.6
