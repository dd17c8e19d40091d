"""Setting the dial by what a later model does on real people, not by the synthetic table.

Labels that are independent of the group in the synthetic table do not make a model trained on it fair to real
people: their other columns tell the group, and the model learns how columns and label go together there. So the
shift of each group's label odds is found by trying: draw rows, train a probe on them, let it decide on
the real rows that the generator learned from, and move each group's shift by what still separates it from the goal.
Moving the label odds of a group moves the log odds of the probe's decisions there by about the same number
(`group_law`), so that two or three rounds suffice. Ours. Of the real rows only one number a group is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from fairsynth.data.table import Table
from fairsynth.fairness import Fairness
from fairsynth.generators.group_law import MAX_SHIFT, matching_shifts
from fairsynth.generators.probes import as_numbers, boosted_decisions, categorical_places, probe_columns

#: Rounds of drawing, training and deciding; what the last ones say is averaged.
ROUNDS = 6
AVERAGED = 3
#: Rows that a probe is trained on, and real rows that it decides on, at most.
PROBE_ROWS = 30_000
#: A group smaller than this says too little of its rates; it is not shifted.
SMALL_GROUP = 30
#: A lowest over a highest rate that counts as parity: the last steps towards 1 cost most and are the probe's noise.
CLOSE = 0.92
#: Part of the remaining distance that one round goes.
PACE = 0.9


def calibrated_shifts(
    draw: Callable[[np.ndarray, int], Table],
    real: Table,
    groups: np.ndarray,
    n_groups: int,
    fairness: Fairness,
    *,
    seed: int,
) -> np.ndarray:
    """Return the shift of each group's label odds at which a probe meets the criterion on real rows.

    Parameters
    ----------
    draw : callable
        Shifts ``(n_groups,)`` and the number of the round to synthetic rows.
    real : Table
        Real rows to decide on: those that the generator learned from.
    groups : np.ndarray
        Joint group of each real row, int64 ``(n,)``.
    n_groups : int
        Number of groups.
    fairness : Fairness
        The criterion.
    seed : int
        Choice of the real rows, and the probe's.

    Returns
    -------
    np.ndarray
        float64 ``(n_groups,)``, in log odds, 0 for groups too small to tell.
    """
    rows = np.random.default_rng(seed).permutation(len(real))[:PROBE_ROWS]
    groups = groups[rows]
    frame = real.frame[rows]
    actual = real.favorable()[rows]
    shifts = np.zeros(n_groups)
    tried = []
    for turn in range(ROUNDS):
        scores = _probe(draw(shifts, turn), real, frame, seed)
        if scores is None:
            break
        if fairness.criterion == "demographic_parity":
            missing = parity_shifts(scores, groups, n_groups)
        else:
            only = fairness.criterion == "equal_opportunity"
            missing = matching_shifts(scores, actual, groups, n_groups, opportunity_only=only)
        shifts = np.clip(shifts + PACE * missing, -MAX_SHIFT, MAX_SHIFT)
        tried.append(shifts)
    return np.mean(tried[-AVERAGED:], axis=0) if tried else shifts


def parity_shifts(scores: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Return what has to be added to the scores of each group so that positive rates lie close together.

    Parameters
    ----------
    scores : np.ndarray
        Log odds ``(n,)``; positive ones are favorable decisions.
    groups : np.ndarray
        int64 ``(n,)``.
    n_groups : int
        Number of groups; those of fewer than 30 rows get 0.

    Returns
    -------
    np.ndarray
        float64 ``(n_groups,)``.
    """
    overall = float((scores > 0).mean())
    shifts = np.zeros(n_groups)
    if not 0 < overall < 1:
        return shifts
    for group in range(n_groups):
        own = np.sort(scores[groups == group])
        if len(own) < SMALL_GROUP:
            continue
        rate = float((own > 0).mean())
        wanted = float(np.clip(rate, overall * np.sqrt(CLOSE), overall / np.sqrt(CLOSE)))
        if wanted != rate:
            shifts[group] = -np.quantile(own, 1 - min(wanted, 1.0))
    return np.clip(shifts, -MAX_SHIFT, MAX_SHIFT)


def _probe(synthetic: Table, real: Table, frame: pl.DataFrame, seed: int) -> np.ndarray | None:
    """Train on synthetic rows and return the log odds of a favorable label for real ones."""
    labels = synthetic.favorable()
    if labels.all() or not labels.any():
        return None
    names = probe_columns(real)
    rows, people = as_numbers(synthetic.frame, names), as_numbers(frame, names)
    return boosted_decisions(rows, labels, people, categorical_places(real, names), seed)
