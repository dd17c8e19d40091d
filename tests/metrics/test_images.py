"""FID and KID against closed forms and independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from fairsynth.errors import DataError, SettingsError
from fairsynth.metrics.images import fid, fid_infinity, frechet_distance, kid


def spread(rng, d):
    a = rng.normal(size=(d, d))
    return a @ a.T / d


def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form():
    mean_a, mean_b = np.array([0.0, 1.0, -2.0]), np.array([1.0, 1.0, 0.5])
    sd_a, sd_b = np.array([1.0, 2.0, 0.5]), np.array([3.0, 2.0, 0.0])
    wanted = ((mean_a - mean_b) ** 2).sum() + ((sd_a - sd_b) ** 2).sum()
    found = frechet_distance(mean_a, np.diag(sd_a**2), mean_b, np.diag(sd_b**2))
    assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("d", [1, 2, 17])
def test_frechet_distance_agrees_with_scipys_square_root_and_is_symmetric(d):
    rng = np.random.default_rng(d)
    a, b, gap = spread(rng, d), spread(rng, d), rng.normal(size=d)
    wanted = gap @ gap + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    found = frechet_distance(gap, a, np.zeros(d), b)
    assert found == pytest.approx(wanted, rel=1e-6)
    assert frechet_distance(np.zeros(d), b, gap, a) == pytest.approx(found, rel=1e-8)


def test_frechet_distance_of_singular_covariances_is_finite_and_right():
    # A rotation by 90 degrees of a line: orthogonal supports, so no cross term is left.
    a, b = np.diag([4.0, 0.0]), np.diag([0.0, 9.0])
    assert frechet_distance([0, 0], a, [0, 0], b) == pytest.approx(13.0, abs=1e-10)
    assert frechet_distance([0, 0], a, [0, 0], a) == pytest.approx(0.0, abs=1e-10)


def test_fid_of_a_shift_and_a_scale_is_exact_on_samples():
    x = np.random.default_rng(0).normal(size=(400, 6))
    assert fid(x, x) == pytest.approx(0.0, abs=1e-10)
    assert fid(x, x + 3.0) == pytest.approx(9.0 * 6, rel=1e-9)
    centred = x - x.mean(axis=0)
    assert fid(centred, 2 * centred) == pytest.approx(np.trace(np.cov(x, rowvar=False)), rel=1e-9)


def test_fid_keeps_precision_where_float32_would_lose_it():
    x = np.random.default_rng(0).normal(size=(200, 4))
    assert fid(x + 1e5, x + 1e5 + 0.01) == pytest.approx(4e-4, rel=1e-3)


def test_fid_is_biased_by_the_sample_and_its_limit_is_not():
    rng = np.random.default_rng(3)
    biased, limits = [], []
    for _ in range(8):
        x, y = rng.normal(size=(300, 24)), rng.normal(size=(300, 24))
        biased.append(fid(x, y))
        limits.append(fid_infinity(x, y))
    # Two samples of one law: the bias is far above what the extrapolation leaves.
    assert np.mean(biased) > 1.0
    assert abs(np.mean(limits)) < 0.15 * np.mean(biased)
    shifted = [fid_infinity(rng.normal(size=(300, 24)), rng.normal(size=(300, 24)) + 0.5) for _ in range(8)]
    assert np.mean(shifted) == pytest.approx(24 * 0.25, rel=0.1)


def direct_kid(x, y):
    d = x.shape[1]

    def kernel(a, b):
        return (a @ b / d + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(kernel(x[i], y[j]) for i in range(n) for j in range(m)) / (n * m)
    return xx + yy - 2 * xy


def test_kid_is_the_double_loop(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(23, 5)), rng.normal(size=(31, 5)) + 0.4
    wanted = direct_kid(x, y)
    assert kid(x, y) == pytest.approx(wanted, rel=1e-10)
    monkeypatch.setattr("fairsynth.metrics.images._BLOCK", 64)  # several blocks, the last one not full
    assert kid(x, y) == pytest.approx(wanted, rel=1e-10)


def test_kid_is_unbiased_at_any_size():
    rng = np.random.default_rng(2)
    found = [kid(rng.normal(size=(20, 8)), rng.normal(size=(40, 8))) for _ in range(400)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert min(found) < 0 < max(found)


@pytest.mark.parametrize(
    ("real", "synthetic", "said"),
    [
        (np.zeros((5, 2)), np.zeros((5, 3)), "same network"),
        (np.zeros((1, 2)), np.zeros((5, 2)), "at least two"),
        (np.full((5, 2), np.nan), np.zeros((5, 2)), "infinite or missing"),
        (np.zeros(5), np.zeros(5), "shape"),
    ],
)
def test_features_that_cannot_be_compared_are_named(real, synthetic, said):
    for measure in (fid, kid, fid_infinity):
        with pytest.raises(DataError, match=said):
            measure(real, synthetic)


def test_a_line_needs_points():
    with pytest.raises(SettingsError, match="points=2"):
        fid_infinity(np.zeros((9, 2)), np.zeros((9, 2)), points=2)
    with pytest.raises(DataError, match="at least 6"):
        fid_infinity(np.zeros((5, 2)), np.zeros((9, 2)))
