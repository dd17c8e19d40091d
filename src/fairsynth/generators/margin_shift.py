"""Moving the law of a label near its threshold, as little as a later model needs to decide fairly on real people.

A model that scores labels, ``m`` the log odds of a favorable one, is made fair by moving the scores of each group.
Relabelling those whose label is least certain costs least accuracy (Kamiran, Calders and Pechenizkiy, 2010; TABFAIRGDT
does it leaf by leaf). `moved` is that idea without its all or nothing: the score at which a group should begin
to be favored goes to 0, its neighbours follow, and scores far away stay as they are, so that ranks among the
clearly unfavored, which are most of what AUROC counts, stay too. How far each group is moved is found by
trying, as in `calibration`, but with two kinds of later model, a linear one and boosted trees. Ours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fairsynth.data.table import Table
from fairsynth.fairness import Fairness
from fairsynth.generators.calibration import (
    AVERAGED,
    PACE,
    PROBE_ROWS,
    ROUNDS,
    SMALL_GROUP,
)
from fairsynth.generators.group_law import MAX_SHIFT, matching_shifts
from fairsynth.generators.probes import Known, boosted_decisions, linear_decisions

#: Rows that the linear probe learns from; it needs fewer than the trees.
LINEAR_ROWS = 15_000
#: Beyond such a reach all scores are moved alike.
FAR = 1e3


def moved(margins: np.ndarray, shifts: np.ndarray, reach: float, beyond: float | None = None) -> np.ndarray:
    """Move scores so that those at ``-shift`` come to 0.

    Between its fixed points the map is linear: scores further than ``reach * |shift|`` beyond the one that comes to 0
    stay, on the side that they come from; those that were on the right side already are pressed together up
    to ``beyond * |shift|`` and stay from there on. It ascends, so ranks within a group stay.

    Parameters
    ----------
    margins : np.ndarray
        Log odds ``(n,)``.
    shifts : np.ndarray
        In log odds, one for each of them ``(n,)``.
    reach : float
        Above 0; from 1,000 on all scores of a group are moved alike.
    beyond : float, optional
        From 1; by default `reach`, or 1 if that is more.

    Returns
    -------
    np.ndarray
        float64 ``(n,)``.
    """
    if reach >= FAR:
        return np.asarray(margins + shifts, dtype=np.float64)
    far = np.abs(shifts).astype(np.float64)
    sign = np.where(shifts < 0, -1.0, 1.0)
    score = margins * sign
    beyond = max(reach, 1.0) if beyond is None else beyond
    low, high = -far * (1 + reach), far * beyond
    climbing = low + (score - low) * ((1 + reach) / reach)
    pressed = (score + far) * (beyond / (beyond + 1))
    inside = np.where(score < -far, climbing, pressed)
    return np.where((score > low) & (score < high), inside, score) * sign


def rounds(fairness: Fairness) -> int:
    """Return how many rounds `calibrate` will take, for those who show progress."""
    return ROUNDS if fairness.strength > 0 else 0


def calibrate(
    draw: Callable[[np.ndarray, int], Table],
    real: Table,
    groups: np.ndarray,
    n_groups: int,
    criterion: str,
    *,
    favorable: Callable[[Table], np.ndarray],
    seed: int,
) -> np.ndarray:
    """Return the shift of each group at which models trained on drawn rows meet the criterion on real ones.

    Parameters
    ----------
    draw : callable
        Shifts ``(n_groups,)`` and the number of the round to synthetic rows.
    real : Table
        Rows to decide on: those that were learned from.
    groups : np.ndarray
        Joint group of each of them, int64 ``(n,)``.
    n_groups : int
        Number of groups.
    criterion : str
        Of `Fairness`.
    favorable : callable
        Which rows of a table have a favorable label, bool ``(n,)``.
    seed : int
        Choice of the real rows, and the probes'.

    Returns
    -------
    np.ndarray
        float64 ``(n_groups,)``; 0 for groups too small to tell.
    """
    rows = np.random.default_rng(seed).permutation(len(real))[:PROBE_ROWS]
    groups, actual, known = groups[rows], favorable(real)[rows], Known.of(real, real.frame[rows])
    shifts, tried = np.zeros(n_groups), []
    for turn in range(ROUNDS):
        synthetic = draw(shifts, turn)
        labels = favorable(synthetic)
        if labels.all() or not labels.any():
            break
        missing = [
            to_one_rate(scores, groups, n_groups)
            if criterion == "demographic_parity"
            else matching_shifts(
                scores, actual, groups, n_groups, opportunity_only=criterion == "equal_opportunity"
            )
            for scores in _decisions(known, synthetic, labels, seed)
        ]
        shifts = np.clip(shifts + PACE * np.mean(missing, axis=0), -MAX_SHIFT, MAX_SHIFT)
        tried.append(shifts)
    return np.mean(tried[-AVERAGED:], axis=0) if tried else shifts


def to_one_rate(
    scores: np.ndarray, groups: np.ndarray, n_groups: int, *, near: float = 1.0, rate: float | None = None
) -> np.ndarray:
    """Return what has to be added to the scores of each group so that all have one rate of positive ones.

    Parameters
    ----------
    scores : np.ndarray
        Log odds ``(n,)``; positive ones are favorable decisions.
    groups : np.ndarray
        int64 ``(n,)``.
    n_groups : int
        Number of groups; those of fewer than 30 rows get 0.
    near : float
        From 0 to 1: rates lie within this ratio of each other afterwards; each group is brought to the nearest end of
        the band around that rate, if it is not inside.
    rate : float, optional
        The rate, from 0 to 1; the overall one, if nothing is said, or if all or none are to be positive.

    Returns
    -------
    np.ndarray
        float64 ``(n_groups,)``.
    """
    overall = rate if rate is not None and 0 < rate < 1 else float((scores > 0).mean())
    shifts = np.zeros(n_groups)
    if not 0 < overall < 1:
        return shifts
    slack = np.sqrt(near)
    for group in range(n_groups):
        own = scores[groups == group]
        if len(own) >= SMALL_GROUP:
            found = float((own > 0).mean())
            goal = float(np.clip(found, overall * slack, min(overall / slack, 1 - 0.5 / len(scores))))
            if goal != found or near == 1.0:
                shifts[group] = -np.quantile(own, 1 - goal)
    return np.clip(shifts, -MAX_SHIFT, MAX_SHIFT)


def _decisions(known: Known, synthetic: Table, labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Train both kinds on synthetic rows and return their log odds of a favorable label for the people."""
    rows = known.numbers(synthetic.frame)
    scores = [boosted_decisions(rows, labels, known.people, known.categorical, seed)]
    few = slice(0, LINEAR_ROWS)
    if labels[few].any() and not labels[few].all():
        scores.append(linear_decisions(known.view(rows[few]), labels[few], known.seen))
    return scores
