"""Columns and pairs: agreement with SciPy, closed forms, and invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from fairsynth.errors import DataError
from fairsynth.metrics import marginals


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_distances_are_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=80).round(1), rng.normal(0.5, 2, size=60).round(1)
    assert marginals.kolmogorov_smirnov(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic)
    x, y = rng.integers(5, size=80), rng.integers(1, 7, size=60)
    p, q = np.bincount(x, minlength=7) / 80, np.bincount(y, minlength=7) / 60
    assert marginals.jensen_shannon(x, y) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-9)
    assert marginals.total_variation(x, y) == pytest.approx(np.abs(p - q).sum() / 2)


def test_known_distances() -> None:
    assert marginals.kolmogorov_smirnov([0, 1], [5, 6]) == 1.0
    assert marginals.total_variation([0, 0, 1, 1], [0, 1, 1, 1]) == 0.25
    assert marginals.jensen_shannon([0, 0], [1, 1]) == 1.0
    assert marginals.wasserstein([0.0, 1.0], [3.0, 4.0]) == 3.0
    assert marginals.wasserstein([0.0, 1.0], [3.0, 4.0], scale=2.0) == 1.5


def test_missing_numbers_are_left_out_and_all_missing_is_an_error() -> None:
    assert marginals.kolmogorov_smirnov([0, np.nan, 1], [0, 1]) == 0.0
    with pytest.raises(DataError, match="no number"):
        marginals.kolmogorov_smirnov([np.nan], [0, 1])


def test_shifted_units_move_the_distances() -> None:
    x = np.random.default_rng(0).normal(50_000, 10_000, size=1000)
    assert marginals.kolmogorov_smirnov(x, x / 1000) == 1.0
    assert marginals.wasserstein(x, x / 1000, scale=float(x.std())) > 4


def test_bins_have_equal_mass_and_missing_has_its_own() -> None:
    x = np.arange(1000.0)
    edges = marginals.quantile_bins(x, 10)
    codes = marginals.bin_codes(np.append(x, np.nan), edges)
    assert np.ptp(np.bincount(codes[:-1])) <= 2
    assert codes[-1] == len(edges) + 1
    assert len(marginals.quantile_bins([0.0] * 99 + [1.0], 20)) == 1


def naive_cramers_v(a: np.ndarray, b: np.ndarray) -> float:
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    n, (r, k) = table.sum(), table.shape
    phi2 = max(0, stats.chi2_contingency(table, correction=False)[0] / n - (k - 1) * (r - 1) / (n - 1))
    return float(np.sqrt(phi2 / min(k - (k - 1) ** 2 / (n - 1) - 1, r - (r - 1) ** 2 / (n - 1) - 1)))


@given(st.integers(0, 10_000), st.integers(2, 40))
@settings(max_examples=25, deadline=None)
def test_cramers_v_is_the_textbooks(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(levels, size=300)
    b = np.where(rng.random(300) < 0.5, a % 3, rng.integers(3, size=300))
    assert marginals.cramers_v(a, b) == pytest.approx(naive_cramers_v(a, b), abs=1e-9)


def test_associations_of_known_strength() -> None:
    rng = np.random.default_rng(1)
    a = rng.integers(4, size=20_000)
    assert marginals.cramers_v(a, (a + 1) % 4) == pytest.approx(1.0)
    assert marginals.cramers_v(a, rng.integers(4, size=20_000)) < 0.02
    assert marginals.cramers_v(a, np.zeros(20_000, dtype=int)) == 0.0
    # Half of the variance lies between two groups at -1 and 1 with noise of variance 1.
    g = rng.integers(2, size=50_000)
    x = 2.0 * g - 1 + rng.normal(size=50_000)
    assert marginals.correlation_ratio(g, x) == pytest.approx(np.sqrt(0.5), abs=0.01)
    assert marginals.correlation_ratio(g, np.append(x[:-1], np.nan)) == pytest.approx(np.sqrt(0.5), abs=0.01)
    y = 0.6 * x / x.std() + 0.8 * rng.normal(size=50_000)
    assert marginals.pearson(x, y) == pytest.approx(0.6, abs=0.02)
    assert marginals.pearson(x, np.ones(50_000)) == 0.0


def test_the_matrix_of_mixed_kinds() -> None:
    rng = np.random.default_rng(2)
    c = rng.integers(3, size=500)
    columns = [c, c + rng.normal(size=500) * 0.1, rng.normal(size=500)]
    matrix = marginals.association_matrix(columns, [False, True, True])
    assert np.array_equal(matrix, matrix.T)
    assert matrix[0, 1] > 0.9 > 0.2 > abs(matrix[1, 2])
    shuffled = [c, rng.permutation(columns[1]), columns[2]]
    other = marginals.association_matrix(shuffled, [False, True, True])
    assert marginals.correlation_difference(matrix, matrix) == 0.0
    assert marginals.correlation_difference(matrix, other) > 0.25


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_columns_and_pairs_are_sdmetrics(seed: int) -> None:
    """The independent implementation of the synthetic data vault, which counts 1 as best."""
    column_pairs = pytest.importorskip("sdmetrics.column_pairs")
    single = pytest.importorskip("sdmetrics.single_column")
    import pandas as pd

    rng = np.random.default_rng(seed)
    real = pd.DataFrame(rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 150), columns=["x", "y"])
    fake = pd.DataFrame(rng.multivariate_normal([0, 0.4], [[1, 0.1], [0.1, 2]], 120), columns=["x", "y"])
    ks = single.KSComplement.compute(real["y"], fake["y"])
    assert 1 - marginals.kolmogorov_smirnov(real["y"], fake["y"]) == pytest.approx(ks)
    levels = rng.integers(4, size=150), rng.integers(1, 5, size=120)
    tv = single.TVComplement.compute(*(pd.Series([f"l{v}" for v in own]) for own in levels))
    assert 1 - marginals.total_variation(*levels) == pytest.approx(tv)
    similarity = column_pairs.CorrelationSimilarity.compute(real, fake, coefficient="Pearson")
    ours = [marginals.pearson(t["x"], t["y"]) for t in (real, fake)]
    assert 1 - abs(ours[0] - ours[1]) / 2 == pytest.approx(similarity)
