"""Models that are trained during a fit: the same as those of the libraries they are made of."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier
from toys import mixed_table

from fairsynth._lightgbm import load as load_lightgbm
from fairsynth.generators.auditors import _shares
from fairsynth.generators.probes import (
    LinearView,
    as_numbers,
    boosted_decisions,
    categorical_places,
    linear_decisions,
    probe_columns,
)


@pytest.fixture(scope="module")
def known() -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return rows with levels and missing values, their labels, and which columns have levels."""
    table = mixed_table(700, sensitive=["sex", "race"])
    names = probe_columns(table)
    rows, places = as_numbers(table.frame, names), categorical_places(table, names)
    assert np.isnan(rows).any() and 0 < len(places) < len(names)
    return rows, table.favorable(), places


def test_boosted_trees_are_lightgbms_classifier_to_the_bit(
    known: tuple[np.ndarray, np.ndarray, list[int]],
) -> None:
    rows, labels, places = known
    model = load_lightgbm().LGBMClassifier(n_estimators=80, random_state=5, n_jobs=1, verbose=-1)
    model.set_params(deterministic=True, force_row_wise=True)
    model.fit(rows[:500], labels[:500], categorical_feature=places)
    found = boosted_decisions(rows[:500], labels[:500], rows, places, 5)
    assert np.array_equal(found, model.predict(rows, raw_score=True))
    other = boosted_decisions(rows[:400], labels[:400], rows, places, 5)
    assert not np.array_equal(found, other)


def test_a_tree_of_zeros_and_ones_is_the_tree_of_two_classes() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 5)).astype(np.float32)
    labels = (rows[:, 0] + rng.normal(size=600) > 0).astype(np.float64)
    found = _shares(rows, labels, rows, range(3, 6), 8)
    for at, number in enumerate(range(3, 6)):
        chance = np.random.default_rng([8, number])
        tree = DecisionTreeClassifier(
            max_features="sqrt", min_samples_leaf=5, random_state=int(chance.integers(2**31))
        )
        often = np.bincount(chance.integers(0, 600, 600), minlength=600)
        tree.fit(rows, labels.astype(int), sample_weight=often)
        assert found[at] == pytest.approx(tree.predict_proba(rows)[:, 1], abs=1e-12)


def test_a_part_of_a_forest_is_that_part_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3)).astype(np.float32)
    labels = (rng.random(200) < 0.5).astype(np.float64)
    whole = _shares(rows, labels, rows, range(4), 1)
    assert np.array_equal(
        np.concatenate([_shares(rows, labels, rows, range(k, k + 2), 1) for k in (0, 2)]), whole
    )


def test_a_linear_model_sees_levels_and_deviations() -> None:
    people = np.array([[0.0, 1.0], [1.0, 3.0], [1.0, np.nan], [0.0, 5.0]])
    view = LinearView.of(people, [0])
    seen = np.asarray(view(np.array([[1.0, 3.0], [7.0, np.nan], [0.0, 5.0]])))
    assert seen[0] == pytest.approx([0, 1, 0])
    assert seen[1] == pytest.approx([0, 0, 0]), "a level nobody has is none, a missing number the mean"
    assert seen[2] == pytest.approx([1, 0, np.sqrt(2)])


def test_linear_decisions_part_what_can_be_parted(known: tuple[np.ndarray, np.ndarray, list[int]]) -> None:
    rows, _, places = known
    view = LinearView.of(rows, places)
    number = next(i for i in range(rows.shape[1]) if i not in places and not np.isnan(rows[:, i]).any())
    labels = rows[:, number] > np.median(rows[:, number])
    scores = linear_decisions(view(rows), labels, view(rows))
    assert ((scores > 0) == labels).mean() > 0.95
