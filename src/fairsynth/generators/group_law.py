"""Which label goes to which group: the table P(y, s) that a fair generator draws from.

Real rows have a label law of their own in each group, ``P(y | s)``. A criterion says what it should be at full
strength, and the strength moves there along the log odds, so that 0 is the real table:

* demographic parity: ``P(y)`` in every group;
* equalized odds: the odds of the favorable labels are shifted in each group until a probe classifier makes
  the same errors there as it makes on everyone (`matching_shifts`). Parity of labels is the wrong target for
  it: where base rates differ the two exclude each other;
* equal opportunity: the same with true positives only.

Moving a group's label law while ``P(x | y, s)`` stays moves the log odds of every later classifier of that
group by the same constant, which is why one number a group is enough (prior shift; Saerens, Latinne
and Decaestecker, Neural Computation, 2002, eq. 4). The use for fairness is ours.
"""

from __future__ import annotations

import numpy as np

from fairsynth.fairness import Fairness

#: Log odds that a group may be shifted by, at most.
MAX_SHIFT = 4.0


def joint_counts(labels: np.ndarray, groups: np.ndarray, n_labels: int, n_groups: int) -> np.ndarray:
    """Count rows by label and group, int64 ``(n_labels, n_groups)``."""
    flat = np.bincount(labels * n_groups + groups, minlength=n_labels * n_groups)
    return flat.reshape(n_labels, n_groups)


def fair_table(
    counts: np.ndarray, fairness: Fairness, *, favorable: np.ndarray, shifts: np.ndarray | None = None
) -> np.ndarray:
    """Return P(y, s) under the criterion at its strength.

    Parameters
    ----------
    counts : np.ndarray
        Real rows by label and group ``(labels, groups)``.
    fairness : Fairness
        What is asked for.
    favorable : np.ndarray
        bool ``(labels,)``.
    shifts : np.ndarray, optional
        Log odds of the favorable labels by group at full strength ``(groups,)``; needed by the criteria on errors,
        and added to parity of labels where that alone does not make a later model fair (`calibration`).

    Returns
    -------
    np.ndarray
        float64 ``(labels, groups)``, sums to 1; the shares of the groups are the real ones.
    """
    # Half a person in every cell keeps a tiny group without one label from having none of it for ever.
    smoothed = counts + 0.5 * (counts.sum(1, keepdims=True) > 0)
    given_group = smoothed / smoothed.sum(0, keepdims=True)
    share = counts.sum(0) / counts.sum()
    if fairness.strength == 0:
        given_group = np.where(counts.sum(0) > 0, counts / np.maximum(counts.sum(0), 1), given_group)
        return given_group * share
    with np.errstate(divide="ignore"):
        log_real = np.log(given_group)
    if fairness.criterion == "demographic_parity":
        overall = counts.sum(1) / counts.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            log_fair = (1 - fairness.strength) * log_real + fairness.strength * np.log(overall)[:, None]
        log_fair = np.where(overall[:, None] > 0, log_fair, -np.inf)
    elif shifts is None:
        raise ValueError("criteria on errors need shifts")
    else:
        log_fair = log_real
    if shifts is not None:
        log_fair = log_fair + fairness.strength * favorable[:, None] * shifts[None]
    fair = np.exp(log_fair - log_fair.max(0, keepdims=True))
    return fair / fair.sum(0, keepdims=True) * share


def matching_shifts(
    scores: np.ndarray, actual: np.ndarray, groups: np.ndarray, n_groups: int, *, opportunity_only: bool
) -> np.ndarray:
    """Return the log odds by which each group is shifted so that a probe errs there as it does on everyone.

    Parameters
    ----------
    scores : np.ndarray
        The probe's log odds of a favorable label for people it was not trained on, ``(n,)``.
    actual : np.ndarray
        Whether their label is favorable, bool ``(n,)``.
    groups : np.ndarray
        int64 ``(n,)``.
    n_groups : int
        Number of groups; one without both kinds of label is not shifted.
    opportunity_only : bool
        Match the true positive rate only.

    Returns
    -------
    np.ndarray
        float64 ``(n_groups,)``.
    """
    if actual.all() or not actual.any():
        return np.zeros(n_groups)
    chosen = scores > 0
    wanted = _rates(chosen[actual].mean(), actual.sum()), _rates(chosen[~actual].mean(), (~actual).sum())
    grid = np.linspace(-MAX_SHIFT, MAX_SHIFT, 161)
    shifts = np.zeros(n_groups)
    for group in range(n_groups):
        own = groups == group
        positive, negative = np.sort(scores[own & actual]), np.sort(scores[own & ~actual])
        if len(positive) < 10 or len(negative) < 10:
            continue
        true_rate = 1 - np.searchsorted(positive, -grid, side="right") / len(positive)
        false_rate = 1 - np.searchsorted(negative, -grid, side="right") / len(negative)
        # Equalized odds is judged by the worse of two ratios, so it is ratios that are matched.
        gap = np.abs(np.log(_rates(true_rate, len(positive)) / wanted[0]))
        if not opportunity_only:
            gap = np.maximum(gap, np.abs(np.log(_rates(false_rate, len(negative)) / wanted[1])))
        best = np.flatnonzero(gap <= gap.min() + 1e-9)
        shifts[group] = grid[best[np.argmin(np.abs(grid[best]))]]
    return shifts


def _rates(rate: np.ndarray | float, n: int) -> np.ndarray:
    return (np.asarray(rate) * n + 0.5) / (n + 1)


def with_group_shares(table: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return P(y, s) with other shares of the groups, and the same label law in each."""
    given_group = table / np.maximum(table.sum(0, keepdims=True), 1e-300)
    return given_group * shares
