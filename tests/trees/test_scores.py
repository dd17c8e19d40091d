"""Scores of labels: the tables say what the boosted trees say, and nothing is lost on the way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fairsynth._lightgbm import load
from fairsynth.trees import scores as module
from fairsynth.trees.bins import Bins
from fairsynth.trees.scores import PairScores, learn_scores


def world(n: int, n_labels: int, seed: int = 0) -> tuple[list[np.ndarray], list[Bins], np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes, ordered = (20, 9, 2, 30), (True, False, False, True)
    lines = [rng.integers(0, size, n) for size in sizes]
    effect = (
        rng.normal(size=9)[lines[1]] + lines[0] / 8 + np.where(lines[2] == 1, lines[3] / 10, -lines[3] / 10)
    )
    noisy = effect + rng.logistic(size=n)
    labels = np.searchsorted(np.quantile(noisy, np.arange(1, n_labels) / n_labels), noisy)
    bins = [
        Bins(np.arange(size, dtype=np.int64), size, ordered=own)
        for size, own in zip(sizes, ordered, strict=True)
    ]
    return lines, bins, labels


@pytest.mark.parametrize("n_labels", [2, 4])
def test_tables_say_what_the_trees_say(n_labels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lightgbm, kept = load(), []

    def train(*args: Any, **kwargs: Any) -> Any:
        kept.append(lightgbm.train(*args, **kwargs))
        return kept[-1]

    watched = SimpleNamespace(train=train, Dataset=lightgbm.Dataset, early_stopping=lightgbm.early_stopping)
    monkeypatch.setattr(module, "load_lightgbm", lambda: watched)
    lines, bins, labels = world(3000, n_labels)
    found = learn_scores(lines, bins, labels, n_labels, seed=0)
    raw = kept[-1].predict(np.stack(lines, axis=1).astype(np.float32), raw_score=True).reshape(3000, -1)
    assert found.scores(lines, 3000) == pytest.approx(raw, abs=1e-4)
    assert raw.std() > 0.5 and len(found.pairs) > 1


def test_two_columns_that_matter_only_together_are_found() -> None:
    lines, bins, labels = world(6000, 2)
    found = learn_scores(lines, bins, labels, 2, seed=0)
    fresh, _, answers = world(6000, 2)
    assert roc_auc_score(answers, found.scores(fresh, 6000)[:, 0]) > 0.8
    assert (2, 3) in found.pairs
    table = found.tables[found.pairs.index((2, 3))][..., 0]
    assert table[1, 25] - table[1, 4] > 1 and table[0, 4] - table[0, 25] > 1


def test_labels_that_nobody_has_are_out_of_reach() -> None:
    lines, bins, labels = world(2000, 3)
    for mapping in ([0, 2, 4], [1, 3, 3], [2, 2, 2]):
        found = learn_scores(lines, bins, np.array(mapping)[labels], 5, seed=0)
        found.check([own.size for own in bins], 5)
        scores = found.scores(lines, 2000)
        absent = sorted(set(range(5)) - set(mapping))
        assert scores[:, absent].max() < scores[:, sorted(set(mapping))].min() - 10


@pytest.mark.parametrize("only", [0, 1])
def test_one_label_of_two_is_always_given(only: int) -> None:
    lines, bins, labels = world(300, 2)
    score = learn_scores(lines, bins, np.full_like(labels, only), 2, seed=0).scores(lines, 300)
    assert ((score > 10) == (only == 1)).all()


@pytest.mark.parametrize(
    ("base", "pairs", "table"),
    [
        (np.zeros(2), ((0, 1),), np.zeros((3, 2, 1))),
        (np.full(1, np.nan), ((0, 1),), np.zeros((3, 2, 1))),
        (np.zeros(1), ((0, 7),), np.zeros((3, 2, 1))),
        (np.zeros(1), ((0, 1),), np.zeros((2, 3, 1))),
        (np.zeros(1), ((0, 1),), np.full((3, 2, 1), np.inf)),
        (np.zeros(1), (), np.zeros((3, 2, 1))),
    ],
    ids=["base", "nan", "parent", "shape", "infinite", "count"],
)
def test_scores_that_are_none_are_refused(base: np.ndarray, pairs: Any, table: np.ndarray) -> None:
    with pytest.raises(ValueError, match="scores"):
        PairScores(base, pairs, (table.astype(np.float32),)).check([3, 2], 1)


def test_varied_trees_of_few_columns_know_pairs() -> None:
    """Of three columns .3 would be one, and trees of one column each tell nothing of two that matter together."""
    rng = np.random.default_rng(0)
    lines = [rng.integers(0, 2, 2000) for _ in range(3)]
    labels = (lines[0] ^ lines[1]) ^ (rng.random(2000) < 0.1)
    bins = [Bins(np.arange(2, dtype=np.int64), 2, ordered=False)] * 3
    found = learn_scores(lines, bins, labels.astype(np.int64), 2, seed=0, varied=True)
    assert roc_auc_score(labels, found.scores(lines, 2000)[:, 0]) > 0.85
