"""Finding how far the label of each group is moved, by auditing models trained on drawn rows.

As `calibration` and `margin_shift` do, but with three kinds of models, because they answer to different things
(`evening`): boosted trees and a forest say where the threshold of a group has to lie, a linear model how
far the group moves as a whole. Each round draws rows, trains the three, and lets them decide on real people. Ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
from sklearn.ensemble import RandomForestClassifier

from fairsynth.cores import side_by_side
from fairsynth.data.table import Table
from fairsynth.generators.calibration import PROBE_ROWS, as_numbers, probe_columns
from fairsynth.generators.evening import Evening
from fairsynth.generators.group_law import MAX_SHIFT
from fairsynth.generators.margin_shift import boosted_decisions, linear_decisions, to_one_rate

#: Rounds; the last ones are averaged.
ROUNDS = 8
AVERAGED = 4
#: Part of the remaining distance that one round goes.
PACE = 0.8
#: The forest of the audit. On some of the rows, or of fewer trees, a forest is no small one of the same kind: where few
#: are favored, what it says of a small group is off by half. The rounds before those that are averaged only lead there,
#: and are rough.
TREES = 50
ROUGH_TREES = 20
ROUGH_ROWS = 12_000
#: Rates of groups within this ratio count as one. To go further moves what chance has done, and costs most where nearly
#: all decisions are alike: there the last hundredth of a rate is several log odds.
NEAR = 0.97
#: What alike error rates may cost: right decisions, as a share of all, for a log ratio between groups. A model of Adult
#: pays .04 to .1 by deciding worse for a group that it is told better, and .5 once the thresholds of all are moved to
#: where rates happen to meet.
PRICE = 0.2
#: Log odds tried for a group in one round.
GRID = np.linspace(-1.0, 1.0, 81)
#: How often each group is gone over in a round, at most.
SWEEPS = 6
#: People of a label whom a group needs for its error rates to be known.
FEW = 10


def audited(
    draw: Callable[[Evening, int], Table],
    start: Evening,
    real: Table,
    groups: np.ndarray,
    criterion: str,
    *,
    favorable: Callable[[Table], np.ndarray],
    seed: int,
) -> Evening:
    """Return what has to be moved for models of all three kinds to meet the criterion on real people.

    Parameters
    ----------
    draw : callable
        What is moved, and the number of the round, to synthetic rows.
    start : Evening
        What to begin with.
    real : Table
        People to decide on.
    groups : np.ndarray
        Joint group of each of them, int64 ``(n,)``.
    criterion : str
        Of `Fairness`.
    favorable : callable
        Which rows of a table have a favorable label, bool ``(n,)``.
    seed : int
        Choice of the people, and the models'.

    Returns
    -------
    Evening
        Groups too small to tell stay where they began.
    """
    rows = np.random.default_rng(seed).permutation(len(real))[:PROBE_ROWS]
    groups, actual, frame = groups[rows], favorable(real)[rows], real.frame[rows]
    n_groups = len(start.linear)

    def lacking(scores: np.ndarray) -> np.ndarray:
        if criterion == "demographic_parity":
            return to_one_rate(scores, groups, n_groups, near=NEAR)
        return to_like_errors(
            scores, actual, groups, n_groups, opportunity_only=criterion == "equal_opportunity"
        )

    now, tried = start, []
    for turn in range(ROUNDS):
        synthetic = draw(now, turn)
        labels = favorable(synthetic)
        if labels.all() or not labels.any():
            break
        boosted, forest, linear = (
            lacking(scores)
            for scores in decisions(synthetic, labels, real, frame, seed, rough=turn < ROUNDS - AVERAGED)
        )
        now = replace(
            now,
            crossing=np.clip(now.crossing + PACE * (boosted + forest) / 2, -MAX_SHIFT, MAX_SHIFT),
            linear=np.clip(now.linear + PACE * linear, -MAX_SHIFT, MAX_SHIFT),
        )
        tried.append(now)
    if not tried:
        return start
    last = tried[-AVERAGED:]
    return replace(
        now,
        crossing=np.mean([one.crossing for one in last], axis=0),
        linear=np.mean([one.linear for one in last], axis=0),
    )


def decisions(
    synthetic: Table,
    labels: np.ndarray,
    real: Table,
    frame: pl.DataFrame,
    seed: int,
    *,
    rough: bool = False,
) -> list[np.ndarray]:
    """Train the three models on synthetic rows; return their log odds of a favorable label for real people.

    Parameters
    ----------
    synthetic : Table
        Rows.
    labels : np.ndarray
        Whether the label of each is favorable, bool ``(m,)``; both must occur.
    real : Table
        Whose columns are read.
    frame : polars.DataFrame
        The people, ``n`` rows.
    seed : int
        Of the models.
    rough : bool
        Train the forest and the linear model on some of the rows.

    Returns
    -------
    list of np.ndarray
        Of boosted trees, a forest and a linear model, float64 ``(n,)`` each.
    """
    names = probe_columns(real)
    categorical = [i for i, name in enumerate(names) if real.schema[name].kind in ("categorical", "boolean")]
    rows, people = as_numbers(synthetic.frame, names), as_numbers(frame, names)

    def answer(model: str) -> np.ndarray:
        if model == "boosted":
            return boosted_decisions(rows, labels, people, categorical, seed)
        if model == "forest":
            some = slice(0, ROUGH_ROWS if rough else None)
            return _forest(rows[some], labels[some], people, ROUGH_TREES if rough else TREES, seed)
        return linear_decisions(rows, labels, people, categorical, most=ROUGH_ROWS if rough else len(rows))

    return side_by_side(answer, ("linear", "forest", "boosted"), 2)[::-1]


def _forest(rows: np.ndarray, labels: np.ndarray, people: np.ndarray, trees: int, seed: int) -> np.ndarray:
    if labels.all() or not labels.any():
        return np.full(len(people), 4.0 if labels.all() else -4.0)
    missing = np.nan_to_num(rows, nan=-1.0), np.nan_to_num(people, nan=-1.0)
    forest = RandomForestClassifier(trees, min_samples_leaf=5, random_state=seed, n_jobs=1)
    share = np.clip(forest.fit(missing[0], labels).predict_proba(missing[1])[:, 1], 0.005, 0.995)
    return np.asarray(np.log(share / (1 - share)), dtype=np.float64)


def to_like_errors(
    scores: np.ndarray, actual: np.ndarray, groups: np.ndarray, n_groups: int, *, opportunity_only: bool
) -> np.ndarray:
    """Return what has to be added to the scores of each group so that a model errs alike in all of them.

    Of all shifts nearby, those with the most right decisions, less `PRICE` for each unit by which the true or false
    positive rates of two groups differ in their logarithm: equalized odds is judged by ratios. Groups are gone over one
    by one until none moves, so that a model is drawn to what is near its own rates, and two rounds do not jump
    between solutions that lie far apart.

    Parameters
    ----------
    scores : np.ndarray
        Log odds ``(n,)``; positive ones are favorable decisions.
    actual : np.ndarray
        Whether the label is favorable, bool ``(n,)``.
    groups : np.ndarray
        int64 ``(n,)``.
    n_groups : int
        Number of groups; those of fewer than `FEW` people of either label get 0.
    opportunity_only : bool
        Match the true positive rate only.

    Returns
    -------
    np.ndarray
        float64 ``(n_groups,)``.
    """
    rates, right = {}, {}
    for group in range(n_groups):
        own = groups == group
        good, bad = np.sort(scores[own & actual]), np.sort(scores[own & ~actual])
        if len(good) >= FEW and len(bad) >= FEW:
            true, false = _chosen(good), _chosen(bad)
            logs = [np.log((true + 0.5) / (len(good) + 1)), np.log((false + 0.5) / (len(bad) + 1))]
            rates[group] = np.stack(logs[:1] if opportunity_only else logs)
            right[group] = (true - false) / len(scores)
    shifts = np.zeros(n_groups)
    if len(rates) < 2:
        return shifts
    at = dict.fromkeys(rates, len(GRID) // 2)
    by_size = sorted(rates, key=lambda group: int((groups == group).sum()))
    for _ in range(SWEEPS):
        before = dict(at)
        for group in by_size:
            others = np.stack([rates[other][:, at[other]] for other in rates if other != group], axis=1)
            high = np.maximum(rates[group], others.max(1, keepdims=True))
            low = np.minimum(rates[group], others.min(1, keepdims=True))
            gap = np.maximum((high - low).max(0) + np.log(NEAR), 0.0)
            worth = right[group] - PRICE * gap
            best = np.flatnonzero(worth >= worth.max() - 1e-12)
            at[group] = int(best[np.argmin(np.abs(GRID[best]))])
        if at == before:
            break
    for group, place in at.items():
        shifts[group] = GRID[place]
    return shifts


def _chosen(scores: np.ndarray) -> np.ndarray:
    """Return how many sorted scores are positive once each number of the grid is added to them."""
    return np.asarray(len(scores) - np.searchsorted(scores, -GRID, side="right"))
