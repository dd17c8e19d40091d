"""How far a latent code depends on the group: two distance covariances, published and default.

Both are a weighted L2 distance between the characteristic functions of ``p(z | s)`` and ``p(z)``, summed over
the groups; they differ in the weight. FairDisCo's is flat, which makes it an L2 distance between densities
(`density_distance_covariance`); the classical one of Székely, Rizzo and Bakirov (Annals of Statistics, 2007)
makes it an energy distance (`energy_distance_covariance`), which sees all scales at once and does not vanish with
the dimension. ``docs/research/dependence.md`` compares them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_overlap(mean_a: Tensor, log_var_a: Tensor, mean_b: Tensor, log_var_b: Tensor) -> Tensor:
    """Return the logarithm of the mean overlap of two sets of diagonal Gaussians.

    ``o(I, J) = mean over i, j of prod_k N(mu_ik; mu_jk, v_ik + v_jk)``, which is the integral of the product of
    the two mixtures (FairDisCo, KDD 2022, section 4.2, eq. 9), in log space, because densities in many dimensions
    underflow.

    Parameters
    ----------
    mean_a, log_var_a : Tensor
        ``(n, d)``.
    mean_b, log_var_b : Tensor
        ``(m, d)``.

    Returns
    -------
    Tensor
        A scalar.
    """
    variance = log_var_a.exp()[:, None] + log_var_b.exp()[None]
    squared = (mean_a[:, None] - mean_b[None]) ** 2
    log_density = -0.5 * (squared / variance + variance.log() + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_density.flatten(), 0) - math.log(log_density.numel())


def density_distance_covariance(
    mean: Tensor, log_var: Tensor, groups: Tensor, *, max_rows: int | None = None
) -> Tensor:
    r"""Return FairDisCo's distance covariance between latent and group in closed form.

    .. math:: V^2(z, s) = \sum_s p(s)^2 \int (p(z \mid s) - p(z))^2 \, dz

    where both densities are the mixtures of the Gaussian posteriors of the batch, so that the integral is a sum of
    overlaps: ``p(s)^2 [o(all, all) + o(s, s) - 2 o(s, all)]`` (FairDisCo, KDD 2022, section 4.2).

    Parameters
    ----------
    mean, log_var : Tensor
        Posterior means and log variances ``(n, d)``.
    groups : Tensor
        int64 ``(n,)``.
    max_rows : int, optional
        Use only the first so many rows: the cost is ``O(max_rows^2 d)`` instead of ``O(n^2 d)``. Rows of a
        shuffled batch are a fair sample. The share ``p(s)`` is that of the rows used.

    Returns
    -------
    Tensor
        A scalar, non-negative up to rounding.
    """
    if max_rows is not None:
        mean, log_var, groups = mean[:max_rows], log_var[:max_rows], groups[:max_rows]
    n = len(mean)
    everyone = log_overlap(mean, log_var, mean, log_var)
    total = mean.new_zeros(())
    for group in groups.unique():
        own = groups == group
        within = log_overlap(mean[own], log_var[own], mean[own], log_var[own])
        across = log_overlap(mean[own], log_var[own], mean, log_var)
        share = own.sum() / n
        total = total + share**2 * (everyone.exp() + within.exp() - 2 * across.exp())
    return total


def energy_distance_covariance(z: Tensor, membership: Tensor, *, max_rows: int | None = None) -> Tensor:
    r"""Return the distance covariance between latent and group with Székely's weight.

    .. math:: \sum_s p(s) \, [\, 2 E|Z_s - Z_r| - E|Z_s - Z_s'| - E|Z_r - Z_r'| \,]

    where r is everyone outside group s: an energy distance of each group to the rest. Unbiased (a U-statistic), so
    its mean is 0 under independence, and it may be slightly negative. The weighting by ``p(s)`` is ours; the cost is
    one matrix of distances for all groups.

    Parameters
    ----------
    z : Tensor
        Latent codes ``(n, d)``.
    membership : Tensor
        Group as int64 ``(n,)``, or soft membership ``(n, groups)`` with rows that sum to 1.
    max_rows : int, optional
        Use only the first so many rows.

    Returns
    -------
    Tensor
        A scalar; 0 if fewer than two groups have two rows.
    """
    if max_rows is not None:
        z, membership = z[:max_rows], membership[:max_rows]
    is_hard = membership.dtype == torch.int64
    weights = torch.nn.functional.one_hot(membership).to(z.dtype) if is_hard else membership
    distances = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    rest = 1 - weights
    size, size_rest = weights.sum(0), rest.sum(0)
    # Pairs of a row with itself have distance 0; the U-statistic leaves them out of the count as well.
    pairs = size**2 - (weights**2).sum(0)
    pairs_rest = size_rest**2 - (rest**2).sum(0)
    pairs_across = size * size_rest - (weights * rest).sum(0)
    usable = (size > 1.5) & (size_rest > 1.5) & (pairs > 0.5) & (pairs_rest > 0.5)
    if not bool(usable.any()):
        return z.new_zeros(())
    weights, rest = weights[:, usable], rest[:, usable]
    to_group, to_rest = distances @ weights, distances @ rest
    across = (weights * to_rest).sum(0) / pairs_across[usable]
    within = (weights * to_group).sum(0) / pairs[usable]
    within_rest = (rest * to_rest).sum(0) / pairs_rest[usable]
    share = size[usable] / len(z)
    return (share * (2 * across - within - within_rest)).sum()
