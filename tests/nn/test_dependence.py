"""The two distance covariances against direct integrals and independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import logsumexp

from fairsynth.nn.dependence import density_distance_covariance, energy_distance_covariance, log_overlap


def batch(
    n: int, d: int, n_groups: int, seed: int, *, apart: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return posteriors in double precision whose means depend on the group."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n) % n_groups
    mean = rng.normal(size=(n, d)) + apart * groups[:, None]
    log_var = rng.normal(-0.5, 0.4, size=(n, d))
    return torch.from_numpy(mean), torch.from_numpy(log_var), torch.from_numpy(groups)


def density(at: np.ndarray, mean: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """Evaluate a mixture of diagonal Gaussians at points ``(..., d)`` by its definition."""
    total = np.zeros(at.shape[:-1])
    for m, v in zip(mean, np.exp(log_var), strict=True):
        total += np.prod(np.exp(-((at - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v), axis=-1)
    return total / len(mean)


def integrand(mean: np.ndarray, log_var: np.ndarray, groups: np.ndarray) -> object:
    """Return ``z -> sum_s p(s)^2 (p(z | s) - p(z))^2``."""

    def at(*z: float | np.ndarray) -> np.ndarray:
        points = np.stack(np.broadcast_arrays(*z), axis=-1)
        everyone = density(points, mean, log_var)
        return sum(
            (groups == s).mean() ** 2
            * (density(points, mean[groups == s], log_var[groups == s]) - everyone) ** 2
            for s in np.unique(groups)
        )

    return at


# ----------------------------------------------------------------------------------- FairDisCo's, closed form
@pytest.mark.parametrize("n_groups", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_closed_form_is_the_integral_in_one_dimension(n_groups: int, seed: int) -> None:
    mean, log_var, groups = batch(12, 1, n_groups, seed)
    wanted, error = integrate.quad(
        integrand(mean.numpy(), log_var.numpy(), groups.numpy()), -12, 14, limit=400, epsabs=1e-11
    )
    assert error < 1e-8 and wanted > 1e-3
    assert float(density_distance_covariance(mean, log_var, groups)) == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize("n_groups", [2, 3])
def test_closed_form_is_the_double_integral_in_two_dimensions(n_groups: int) -> None:
    mean, log_var, groups = batch(9, 2, n_groups, 5)
    function = integrand(mean.numpy(), log_var.numpy(), groups.numpy())
    # A smooth function that vanishes at the ends: Simpson's rule on a fine grid is exact to many digits.
    axis = np.linspace(-9, 11, 801)
    values = function(axis[:, None], axis[None])  # type: ignore[operator]
    wanted = integrate.simpson(integrate.simpson(values, x=axis), x=axis)
    assert values[[0, -1]].max() < 1e-12 and values[:, [0, -1]].max() < 1e-12 and wanted > 1e-4
    assert float(density_distance_covariance(mean, log_var, groups)) == pytest.approx(wanted, rel=1e-6)


def test_two_dimensions_agree_with_adaptive_quadrature() -> None:
    mean, log_var, groups = batch(4, 2, 2, 7)
    function = integrand(mean.numpy(), log_var.numpy(), groups.numpy())
    wanted, _ = integrate.dblquad(function, -7, 8, -7, 8, epsabs=1e-6)  # type: ignore[arg-type]
    assert float(density_distance_covariance(mean, log_var, groups)) == pytest.approx(wanted, abs=1e-5)


def test_shares_of_unequal_groups_are_squared() -> None:
    rng = np.random.default_rng(0)
    mean = torch.from_numpy(rng.normal(size=(30, 1)))
    log_var = torch.zeros(30, 1, dtype=torch.float64)
    groups = torch.tensor([1] * 3 + [4] * 27)  # labels need not be consecutive
    wanted, _ = integrate.quad(integrand(mean.numpy(), log_var.numpy(), groups.numpy()), -12, 12, limit=200)
    assert float(density_distance_covariance(mean, log_var, groups)) == pytest.approx(wanted, rel=1e-6)


def test_density_penalty_is_zero_where_groups_are_alike_and_its_gradient_is_right() -> None:
    mean, log_var, _ = batch(6, 2, 2, 0)
    doubled = torch.arange(12) % 2
    alike = torch.repeat_interleave(mean, 2, 0), torch.repeat_interleave(log_var, 2, 0), doubled
    assert abs(float(density_distance_covariance(*alike))) < 1e-15
    mean, log_var, groups = batch(6, 2, 3, 1)
    mean.requires_grad_(True)
    log_var.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda m, v: density_distance_covariance(m, v, groups), (mean, log_var), atol=1e-6
    )


def test_log_overlap_survives_64_dimensions() -> None:
    rng = np.random.default_rng(0)
    mean_a, mean_b = rng.normal(size=(20, 64)) * 2, rng.normal(size=(30, 64)) * 2
    log_var_a, log_var_b = rng.normal(size=(20, 64)), rng.normal(size=(30, 64))
    terms = [
        stats.norm(mean_b[j], np.sqrt(np.exp(log_var_a[i]) + np.exp(log_var_b[j]))).logpdf(mean_a[i]).sum()
        for i in range(20)
        for j in range(30)
    ]
    wanted = logsumexp(terms) - np.log(600)
    assert np.exp(np.float32(wanted)) == 0, "the plain product underflows in single precision"
    single = [torch.from_numpy(a).float() for a in (mean_a, log_var_a, mean_b, log_var_b)]
    single[0].requires_grad_(True)
    got = log_overlap(*single)
    got.backward()
    assert float(got.detach()) == pytest.approx(wanted, rel=1e-4)
    assert torch.isfinite(single[0].grad).all() and single[0].grad.abs().max() > 1e-3


def test_density_penalty_stays_finite_in_64_dimensions() -> None:
    mean, log_var, groups = batch(40, 64, 2, 0)
    mean = mean.float().requires_grad_(True)
    value = density_distance_covariance(mean, log_var.float(), groups)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(mean.grad).all()


def test_subsampling_takes_the_first_rows_in_both_penalties() -> None:
    mean, log_var, groups = batch(40, 2, 3, 0)
    first = mean[:17], log_var[:17], groups[:17]
    assert torch.equal(
        density_distance_covariance(mean, log_var, groups, max_rows=17), density_distance_covariance(*first)
    )
    assert torch.equal(
        energy_distance_covariance(mean, groups, max_rows=17),
        energy_distance_covariance(first[0], first[2]),
    )
    for rows in (40, 10_000):
        assert torch.equal(
            energy_distance_covariance(mean, groups, max_rows=rows), energy_distance_covariance(mean, groups)
        )


def test_subsamples_of_shuffled_rows_are_right_on_average() -> None:
    mean, _, groups = batch(200, 2, 2, 0)
    whole = float(energy_distance_covariance(mean, groups))
    rng = np.random.default_rng(0)
    parts = [
        float(energy_distance_covariance(mean[order], groups[order], max_rows=60))
        for order in (torch.from_numpy(rng.permutation(200)) for _ in range(300))
    ]
    assert np.mean(parts) == pytest.approx(whole, abs=4 * np.std(parts) / np.sqrt(300))
    assert np.std(parts) > 0


# ------------------------------------------------------------------------------------ Székely's, energy
def by_definition(z: np.ndarray, groups: np.ndarray) -> float:
    """Add up pairs in plain loops, leaving out a row with itself."""

    def mean_distance(a: np.ndarray, b: np.ndarray, *, same: bool) -> float:
        found = [np.linalg.norm(z[i] - z[j]) for i in a for j in b if not (same and i == j)]
        return float(np.mean(found))

    total = 0.0
    for s in np.unique(groups):
        own, rest = np.flatnonzero(groups == s), np.flatnonzero(groups != s)
        total += len(own) / len(z) * (
            2 * mean_distance(own, rest, same=False)
            - mean_distance(own, own, same=True)
            - mean_distance(rest, rest, same=True)
        )  # fmt: skip
    return total


@pytest.mark.parametrize("n_groups", [2, 3, 5])
@pytest.mark.parametrize("d", [1, 3])
def test_energy_is_the_sum_over_pairs(n_groups: int, d: int) -> None:
    z, _, groups = batch(45, d, n_groups, n_groups + d)
    assert float(energy_distance_covariance(z, groups)) == pytest.approx(
        by_definition(z.numpy(), groups.numpy()), rel=1e-10
    )


def test_energy_of_two_groups_on_a_line_is_scipys() -> None:
    z, _, groups = batch(61, 1, 2, 3)
    a, b = z[groups == 0, 0].numpy(), z[groups == 1, 0].numpy()
    # scipy counts a row with itself as a pair; what that takes away is put back.
    inside = [np.abs(x[:, None] - x).mean() * (1 / (len(x) - 1)) for x in (a, b)]
    wanted = stats.energy_distance(a, b) ** 2 - sum(inside)
    assert float(energy_distance_covariance(z, groups)) == pytest.approx(wanted, rel=1e-9)


def test_energy_is_zero_on_average_under_independence_and_positive_under_dependence() -> None:
    rng = np.random.default_rng(0)
    values = [
        float(
            energy_distance_covariance(
                torch.from_numpy(rng.normal(size=(80, 4))), torch.from_numpy(rng.integers(0, 3, 80))
            )
        )
        for _ in range(400)
    ]
    error = np.std(values) / np.sqrt(400)
    assert abs(np.mean(values)) < 3.5 * error
    z, _, groups = batch(80, 4, 3, 0, apart=0.5)
    assert float(energy_distance_covariance(z, groups)) > 5 * np.std(values)


def test_energy_sees_a_difference_in_spread_alone() -> None:
    rng = np.random.default_rng(0)
    groups = torch.arange(600) % 2
    z = torch.from_numpy(rng.normal(size=(600, 2))) * (1 + 2 * groups[:, None])
    assert float(energy_distance_covariance(z, groups)) > 0.1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**20), n_groups=st.integers(2, 5), n=st.integers(10, 40), d=st.integers(1, 6))
def test_soft_membership_is_hard_membership_when_one_hot(seed: int, n_groups: int, n: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    z, groups = torch.from_numpy(rng.normal(size=(n, d))), torch.from_numpy(rng.integers(0, n_groups, n))
    soft = torch.nn.functional.one_hot(groups, n_groups).double()
    hard = float(energy_distance_covariance(z, groups))
    assert float(energy_distance_covariance(z, soft)) == pytest.approx(hard, abs=1e-12)
    # Its size follows the size of the codes, not their place.
    assert float(energy_distance_covariance(3 * z + 7, groups)) == pytest.approx(3 * hard, abs=1e-9)


def test_evenly_soft_membership_shows_no_dependence() -> None:
    z, _, _ = batch(50, 2, 2, 0)
    assert abs(float(energy_distance_covariance(z, torch.full((50, 2), 0.5, dtype=torch.float64)))) < 1e-12


def test_energy_gradient_is_right_and_finite_where_codes_coincide() -> None:
    z, _, groups = batch(8, 2, 2, 0)
    assert torch.autograd.gradcheck(lambda x: energy_distance_covariance(x, groups), z.requires_grad_(True))
    same = torch.zeros(8, 2, requires_grad=True)
    energy_distance_covariance(same, groups).backward()
    assert torch.isfinite(same.grad).all()
    soft = torch.rand(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    soft = (soft / soft.sum(1, keepdim=True)).requires_grad_(True)
    energy_distance_covariance(z.detach(), soft).backward()
    assert torch.isfinite(soft.grad).all() and soft.grad.abs().max() > 0


def test_descending_the_energy_makes_codes_independent() -> None:
    z, _, groups = batch(120, 2, 3, 0)
    before = float(energy_distance_covariance(z, groups))
    z.requires_grad_(True)
    optimiser = torch.optim.Adam([z], lr=0.05)
    for _ in range(120):
        optimiser.zero_grad()
        energy_distance_covariance(z, groups).backward()
        optimiser.step()
    assert before > 0.5 and float(energy_distance_covariance(z.detach(), groups)) < 0.02 * before


@pytest.mark.parametrize("codes", [[0] * 10, [0] * 9 + [1], list(range(10))])
def test_groups_too_small_for_a_pair_say_nothing(codes: list[int]) -> None:
    z, _, _ = batch(10, 2, 2, 0)
    assert float(energy_distance_covariance(z, torch.tensor(codes))) == 0.0


def test_a_single_row_of_a_group_is_left_out_but_the_others_count() -> None:
    z, _, _ = batch(11, 2, 2, 0)
    groups = torch.tensor([0, 1] * 5 + [2])
    value = energy_distance_covariance(z, groups)
    assert torch.isfinite(value) and float(value) != 0
