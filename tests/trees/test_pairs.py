"""Pairs of columns that say something of the label together and nothing alone."""

import numpy as np
import pytest

from fairsynth.trees.bins import Bins
from fairsynth.trees.linear_scores import learn_mixed
from fairsynth.trees.pairs import missed_pairs, with_missed_pairs
from fairsynth.trees.scores import PairScores, learn_scores

SIZES = (6, 6, 20, 3)


def people(n: int, seed: int, n_labels: int = 2) -> tuple[list[np.ndarray], list[Bins], np.ndarray]:
    """Labels that hang on whether two columns of six levels agree, and on a number by itself."""
    rng = np.random.default_rng(seed)
    lines = [rng.integers(0, size, n) for size in SIZES]
    lines[1] = np.where(rng.random(n) < 0.3, lines[0], lines[1])
    margin = 2.2 * (lines[0] == lines[1]) - 1.2 + 0.1 * (lines[2] - 10)
    labels = (margin[:, None] + rng.logistic(0, 1, n)[:, None] > np.arange(n_labels - 1)[None]).sum(1)
    return lines, [Bins(np.arange(size), size, ordered=size == 20) for size in SIZES], labels


def agreement(law: PairScores, lines: list[np.ndarray], n_labels: int) -> float:
    """By how much more often those who agree have a label above the lowest, as the law says."""
    scores = law.scores(lines, len(lines[0])).astype(np.float64)
    if n_labels == 2:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    shares = np.exp(scores - scores.max(1, keepdims=True))
    above = 1 - shares[:, 0] / shares.sum(1)
    same = lines[0] == lines[1]
    return float(above[same].mean() - above[~same].mean())


@pytest.mark.parametrize("n_labels", [2, 3])
@pytest.mark.parametrize("n", [2_500, 8_000])
def test_an_agreement_is_learned_that_neither_column_tells(n: int, n_labels: int) -> None:
    lines, bins, labels = people(n, 0, n_labels)
    law = learn_mixed(lines, bins, labels, n_labels, seed=0)
    same = lines[0] == lines[1]
    real = (labels[same] > 0).mean() - (labels[~same] > 0).mean()
    assert agreement(law, lines, n_labels) == pytest.approx(real, abs=0.1)
    # People whom it was not learned from are told as well.
    others, _, own = people(4_000, 1, n_labels)
    law.check([one.size for one in bins], 1 if n_labels == 2 else n_labels)
    truth = (own[others[0] == others[1]] > 0).mean() - (own[others[0] != others[1]] > 0).mean()
    assert agreement(law, others, n_labels) == pytest.approx(truth, abs=0.12)


def test_the_pair_is_found_and_no_other() -> None:
    lines, _, labels = people(3_000, 0)
    flat = np.full((3_000, 1), np.log(labels.mean() / (1 - labels.mean())))
    assert missed_pairs(flat, lines, SIZES, labels) == [(0, 1)]


@pytest.mark.parametrize("seed", range(6))
def test_chance_is_no_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = [rng.integers(0, size, 2_000) for size in (8, 8, 5, 12, 2, 30)]
    labels = rng.integers(0, 2, 2_000)
    assert missed_pairs(np.zeros((2_000, 1)), lines, (8, 8, 5, 12, 2, 30), labels) == []


def test_what_columns_tell_alone_is_no_pair() -> None:
    rng = np.random.default_rng(0)
    lines = [rng.integers(0, 8, 6_000), rng.integers(0, 8, 6_000)]
    labels = (0.4 * (lines[0] - 3.5) + 0.4 * (lines[1] - 3.5) + rng.logistic(0, 1, 6_000) > 0).astype(
        np.int64
    )
    # A law that knows neither column: what is left hangs on both, but on each by itself.
    assert missed_pairs(np.zeros((6_000, 1)), lines, (8, 8), labels) == []


def test_a_law_that_misses_nothing_stays_as_it_is() -> None:
    rng = np.random.default_rng(0)
    lines = [rng.integers(0, size, 6_000) for size in SIZES]
    labels = (0.2 * (lines[2] - 10) + rng.logistic(0, 1, 6_000) > 0).astype(np.int64)
    bins = [Bins(np.arange(size), size, ordered=size == 20) for size in SIZES]
    law = learn_scores(lines, bins, labels, 2, seed=0)
    assert with_missed_pairs(law, lines, bins, labels) is law
    assert with_missed_pairs(law, lines[:1], bins[:1], labels) is law


def test_columns_of_very_many_levels_are_left_out() -> None:
    rng = np.random.default_rng(0)
    lines = [rng.integers(0, 200, 3_000), rng.integers(0, 2, 3_000)]
    labels = ((lines[0] + lines[1]) % 2).astype(np.int64)
    bins = [Bins(np.arange(200), 200, ordered=False), Bins(np.arange(2), 2, ordered=False)]
    law = PairScores(np.zeros(1), (), ())
    assert with_missed_pairs(law, lines, bins, labels) is law
