"""The classifier two-sample test, and reading the sensitive attribute off the other columns."""

from __future__ import annotations

import numpy as np
import pytest

from fairsynth.errors import DataError
from fairsynth.metrics.detection import classifier_two_sample_test, row_codes
from fairsynth.metrics.leakage import leakage_auc, proxy_auc


def rows(seed: int, n: int = 600) -> np.ndarray:
    rng = np.random.default_rng(seed)
    c = rng.integers(4, size=n).astype(float)
    return np.column_stack([c, rng.normal(size=n) + c, np.where(rng.random(n) < 0.1, np.nan, c)])


def test_two_samples_of_one_law_cannot_be_told_apart() -> None:
    found = classifier_two_sample_test(rows(0, 1500), rows(1, 1500), categorical=[0])
    assert found.auc == pytest.approx(0.5, abs=0.05)
    assert len(found.probability_real) == 1500


def test_the_column_that_gives_the_synthetic_away_is_named() -> None:
    fake = rows(1, 800)
    fake[:400, 1] += 5
    found = classifier_two_sample_test(rows(0, 800), fake, categorical=[0])
    assert 0.65 < found.auc < 0.85  # half of the fakes are given away, the others are not
    assert found.importance.argmax() == 1
    assert (found.giveaways < 400).all()
    assert (found.reasons.argmax(axis=1) == 1).all()
    assert (np.diff(found.probability_synthetic[found.giveaways]) <= 0).all()


def test_separable_tables_have_auc_one() -> None:
    fake = rows(1)
    fake[:, 1] += 100
    assert classifier_two_sample_test(rows(0), fake).auc == 1.0


def test_a_copy_is_not_detected_through_its_own_twin() -> None:
    """A row and its copy with opposite labels in different folds would push the AUC below .5."""
    real = np.random.default_rng(0).normal(size=(500, 3))
    assert classifier_two_sample_test(real, real).auc == pytest.approx(0.5, abs=0.02)


def test_tables_of_few_distinct_rows_cannot_be_told_apart_either() -> None:
    """About half of the rows occur on both sides; what is done with them must not depend on the side."""
    aucs = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        real, fake = (np.round(rng.exponential(4, size=(800, 3))) for _ in range(2))
        aucs.append(classifier_two_sample_test(real, fake, seed=seed, trees=40).auc)
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.02)


def test_one_repeated_row_is_detected() -> None:
    real = rows(0)
    assert classifier_two_sample_test(real, np.repeat(real[:1], 600, axis=0)).auc > 0.99


def test_the_same_seed_gives_the_same_answer_for_any_number_of_threads() -> None:
    a = classifier_two_sample_test(rows(0), rows(1), threads=1, seed=3)
    b = classifier_two_sample_test(rows(0), rows(1), threads=2, seed=3)
    assert np.array_equal(a.probability_real, b.probability_real)
    assert np.array_equal(a.giveaways, b.giveaways)


def test_row_codes() -> None:
    codes = row_codes([[1.0, np.nan], [1.0, np.nan], [0.0, 1.0], [-0.0, 1.0], [1.0, 2.0]])
    assert codes[0] == codes[1]
    assert codes[2] == codes[3]
    assert len(set(codes.tolist())) == 3


def test_shapes_are_checked() -> None:
    with pytest.raises(DataError, match="same columns"):
        classifier_two_sample_test(np.zeros((50, 2)), np.zeros((50, 3)))
    with pytest.raises(DataError, match="10 rows"):
        classifier_two_sample_test(np.zeros((5, 2)), np.zeros((50, 2)))


def test_leakage_finds_a_proxy_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    s = rng.integers(2, size=2000)
    proxy = np.where(rng.random(2000) < 0.95, s, 1 - s)
    noise = rng.normal(size=2000)
    assert leakage_auc(np.column_stack([noise, proxy]), s) == pytest.approx(0.95, abs=0.02)
    assert leakage_auc(noise[:, None], s) == pytest.approx(0.5, abs=0.04)
    assert proxy_auc(proxy, s) == pytest.approx(0.95, abs=0.02)
    assert proxy_auc(rng.integers(20, size=2000), s) == pytest.approx(0.5, abs=0.05)


def test_leakage_of_several_and_of_tiny_groups() -> None:
    rng = np.random.default_rng(1)
    s = rng.integers(4, size=1500)
    x = np.column_stack([s + rng.normal(size=1500) * 0.1])
    assert leakage_auc(x, s) == pytest.approx(1.0, abs=0.01)
    s[:] = 0
    s[:3] = 1  # three people: nothing can be learned of them, and that is said
    assert leakage_auc(x, s) is None
    assert proxy_auc(x.round().ravel(), s) is None


def test_a_proxy_with_a_level_for_everybody_says_nothing() -> None:
    s = np.random.default_rng(2).integers(2, size=1000)
    assert proxy_auc(np.arange(1000), s) == pytest.approx(0.5, abs=0.02)
