"""Neighbourhood metrics: against naive code, on closed forms, and on the tables that break published code."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from fairsynth.errors import DataError, SettingsError
from fairsynth.metrics import manifold
from fairsynth.metrics.manifold import Cloud, alpha_precision_beta_recall, density_coverage, mmd, nearest


def naive_prdc(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """The published formulas of Naeem 2020 with the whole distance matrices (right without ties)."""
    rr, ff, rf = cdist(real, real), cdist(fake, fake), cdist(real, fake)
    radius_r, radius_f = np.sort(rr, axis=1)[:, k], np.sort(ff, axis=1)[:, k]
    return {
        "precision": (rf < radius_r[:, None]).any(axis=0).mean(),
        "recall": (rf < radius_f[None, :]).any(axis=1).mean(),
        "density": (rf < radius_r[:, None]).sum(axis=0).mean() / k,
        "coverage": (rf.min(axis=1) < radius_r).mean(),
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_published_package_agrees_where_it_is_right(seed: int) -> None:
    """`prdc` of Naeem et al. (2020), on rows without ties."""
    prdc = pytest.importorskip("prdc", reason="the package prdc is not installed; it is in the extra dev")
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(size=(400, 4)), rng.normal(0.3, 1.2, size=(300, 4))
    expected = prdc.compute_prdc(real.astype(np.float32), fake.astype(np.float32), nearest_k=5)
    found = density_coverage(real, fake, k=5)
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(found, name) == pytest.approx(expected[name], abs=0.01)


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_density_and_coverage_are_the_published_ones_without_ties(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(size=(150, 3)), rng.normal(0.3, 1.2, size=(120, 3))
    expected = naive_prdc(real.astype(np.float32), fake.astype(np.float32), k)
    found = density_coverage(real, fake, k=k)
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, abs=0.03), (
            name
        )  # a pair on the edge of a ball or two


@pytest.mark.parametrize("block", [1 << 10, 1 << 24])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(300, 4)), rng.normal(size=(200, 4))
    whole = density_coverage(real, fake)
    distances, indices = nearest(fake, real, 3)
    monkeypatch.setattr(manifold, "_BLOCK_BYTES", block)
    assert dataclasses.astuple(density_coverage(real, fake)) == pytest.approx(dataclasses.astuple(whole))
    again = nearest(fake, real, 3, threads=1)
    assert np.array_equal(again[1], indices)
    assert np.array_equal(again[0], distances)


def test_nearest_is_exact() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=(n, 5)).astype(np.float32) for n in (80, 130))
    distances, indices = nearest(a, b, 4)
    expected = np.sort(cdist(a, b), axis=1)[:, :4]
    np.testing.assert_allclose(distances, expected, rtol=1e-6)
    np.testing.assert_allclose(cdist(a, b)[np.arange(80)[:, None], indices], expected, rtol=1e-6)


def test_duplicates_are_at_distance_zero_exactly() -> None:
    """A difference of norms in float32 would give 1e-3 here, and no copy would be found."""
    rng = np.random.default_rng(2)
    rows = (rng.normal(size=(200, 60)) * 30 + 500).astype(np.float32)
    distances, indices = nearest(rows[::-1], rows)
    assert (distances == 0).all()
    assert np.array_equal(indices[:, 0], np.arange(200)[::-1])
    assert (nearest(rows, rows, exclude_self=True)[0] > 0).all()
    assert (nearest(np.repeat(rows, 2, axis=0), np.repeat(rows, 2, axis=0), exclude_self=True)[0] == 0).all()


def test_an_exact_copy_of_repeated_categorical_rows_scores_one() -> None:
    """`prdc` gives 0 here: every ball has radius 0, and it asks for less than that."""
    rng = np.random.default_rng(3)
    rows = np.eye(6)[rng.integers(6, size=400)]
    assert naive_prdc(rows, rows, 5)["coverage"] == 0.0
    found = density_coverage(rows, rows)
    assert (found.coverage, found.precision, found.recall) == (1.0, 1.0, 1.0)
    assert found.density == pytest.approx(1.0, abs=0.02)
    fresh = density_coverage(rows, np.eye(6)[rng.integers(6, size=400)])
    assert fresh.coverage == 1.0
    assert fresh.density == pytest.approx(1.0, abs=0.05)


def test_a_perfect_sample_has_density_one_and_the_expected_coverage() -> None:
    rng = np.random.default_rng(4)
    found = density_coverage(rng.normal(size=(2000, 2)), rng.normal(size=(2000, 2)), k=5)
    assert found.density == pytest.approx(1.0, abs=0.05)
    # Naeem 2020, eq. 9 with m = n: the chance that one of m fakes comes before the k-th of n-1 reals.
    assert found.coverage == pytest.approx(1 - 2.0**-5, abs=0.02)


def test_collapse_and_shift_are_seen() -> None:
    rng = np.random.default_rng(5)
    real = rng.normal(size=(500, 3))
    collapsed = np.repeat(real[:1], 500, axis=0)
    assert density_coverage(real, collapsed).coverage < 0.05
    shifted = density_coverage(real, real + 50)
    assert (shifted.density, shifted.coverage, shifted.precision, shifted.recall) == (0, 0, 0, 0)


def test_authenticity_of_a_collapse_onto_one_row_is_zero() -> None:
    """The published index makes this .999."""
    rng = np.random.default_rng(6)
    real = rng.normal(size=(1000, 4))
    assert alpha_precision_beta_recall(real, np.repeat(real[7:8], 1000, axis=0)).authenticity == 0.0
    assert alpha_precision_beta_recall(real, real).authenticity == 0.0
    assert alpha_precision_beta_recall(real, real + 40).authenticity == 1.0


def test_authenticity_looks_up_the_row_that_is_nearest() -> None:
    # Real neighbours are .1 apart on the left, 10 apart on the right; both fakes are 1 from theirs.
    real = np.array([[0.0], [0.1], [100.0], [110.0]])
    fake = np.array([[-1.0], [101.0]])
    assert alpha_precision_beta_recall(real, fake).authenticity == 0.5


def test_a_perfect_sample_has_alpha_precision_one_and_beta_recall_one_half() -> None:
    rng = np.random.default_rng(7)
    found = alpha_precision_beta_recall(rng.normal(size=(3000, 3)), rng.normal(size=(3000, 3)))
    assert found.alpha_precision > 0.99
    assert found.delta_precision > 0.96
    assert found.beta_recall == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(found.precision_curve, found.levels, atol=0.03)


def test_authenticity_of_a_perfect_sample_is_one_less_than_the_chance_of_mutual_neighbours() -> None:
    """A row is not authentic if it and its nearest real row choose each other: 2/3 on the line."""
    rng = np.random.default_rng(11)
    found = alpha_precision_beta_recall(rng.random((6000, 1)), rng.random((6000, 1)))
    assert found.authenticity == pytest.approx(1 / 3, abs=0.02)


def test_alpha_precision_of_a_wider_gaussian_has_its_closed_form() -> None:
    """In two dimensions |x|² is exponential: P_α = 1 - (1 - α)^(1/σ²) for fakes of spread σ."""
    rng = np.random.default_rng(8)
    found = alpha_precision_beta_recall(rng.normal(size=(4000, 2)), 2 * rng.normal(size=(4000, 2)))
    inner = slice(1, -1)
    expected = 1 - (1 - found.levels[inner]) ** 0.25
    np.testing.assert_allclose(found.precision_curve[inner], expected, atol=0.04)


def test_mmd_of_two_gaussians_has_its_closed_form() -> None:
    # E k(x,y) for N(0,1), N(m,1), bandwidth h: sqrt(h²/(h²+2)) exp(-m²/(2(h²+2))).
    rng = np.random.default_rng(9)
    h2, m = 1.0, 1.5
    expected = 2 * np.sqrt(h2 / (h2 + 2)) * (1 - np.exp(-(m**2) / (2 * (h2 + 2))))
    x, y = rng.normal(size=(3000, 1)), rng.normal(m, 1, size=(3000, 1))
    assert mmd(x, y, bandwidth=1.0) == pytest.approx(expected, abs=0.03)
    within = [(np.exp(-(cdist(a, a) ** 2) / 2).sum() - 3000) / (3000 * 2999) for a in (x, y)]
    naive = sum(within) - 2 * np.exp(-(cdist(x, y) ** 2) / 2).mean()
    assert mmd(x, y, bandwidth=1.0) == pytest.approx(naive, abs=1e-6)
    assert mmd(x, rng.normal(size=(3000, 1)), bandwidth=1.0) == pytest.approx(0, abs=0.003)
    assert mmd(x, y) > 0.1


def test_a_cloud_is_the_same_as_its_points() -> None:
    rng = np.random.default_rng(10)
    real, fake = rng.normal(size=(100, 3)), rng.normal(size=(90, 3))
    assert density_coverage(Cloud(real), Cloud(fake)) == density_coverage(real, fake)


def test_what_cannot_be_measured_is_said() -> None:
    with pytest.raises(DataError, match="more than 5 rows"):
        density_coverage(np.zeros((5, 2)), np.zeros((50, 2)))
    with pytest.raises(DataError, match="infinite or missing"):
        nearest([[np.nan]], [[1.0]])
    with pytest.raises(SettingsError, match="k=3"):
        nearest(np.zeros((3, 1)), np.zeros((3, 1)), 3, exclude_self=True)
