"""Finding how far the label of each group is moved, by auditing models trained on drawn rows.

As `calibration` and `margin_shift` do, but with three kinds of models, because they answer to different things
(`evening`): boosted trees and a forest say where the threshold of a group has to lie, a linear model how
far the group moves as a whole. Each round draws rows, trains the three, and lets them decide on real people.

What models of real rows do is the measure for two more things. Models of drawn rows are less sure than they are,
so scores are sharpened until they are as sure; and under parity all groups meet at the rate at which a model of the
same kind favors people if it is trained on real rows. Ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from fairsynth.data.table import Table
from fairsynth.generators.auditors import FOLDS, Auditors, Custom
from fairsynth.generators.evening import SHARPEST, Evening
from fairsynth.generators.group_law import MAX_SHIFT
from fairsynth.generators.margin_shift import SMALL_GROUP, to_one_rate

#: Rounds; the last ones are averaged.
ROUNDS = 7
AVERAGED = 4
#: Part of the remaining distance that one round goes.
PACE = 0.8
#: Rates of groups within this ratio count as one. To go further moves what chance has done, and costs most where nearly
#: all decisions are alike: there the last hundredth of a rate is several log odds.
NEAR = 0.97
#: What alike error rates may cost: right decisions, as a share of all, for a log ratio between groups. A model of Adult
#: pays .04 to .1 by deciding worse for a group that it is told better, and .5 once the thresholds of all are moved to
#: where rates happen to meet.
PRICE = 0.2
#: Rows, and draws at most, that tell how sure models are.
SURE_ROWS = 5_000
SURE_DRAWS = 3
#: A spread of log odds below which a model tells nobody apart.
FLAT = 1e-6
#: What models say grows by no less than this part of what labels are drawn with; what looks like less is chance.
SLOWEST = 0.25
#: Part of what models of real rows tell beyond a coin (balanced accuracy above one half) that is to be left: with next
#: to everybody favored all errors are alike.
LEFT = 0.5
#: What a balanced accuracy below that costs, of right decisions.
DEAR = 10.0
#: Log odds tried for a group in one round.
GRID = np.linspace(-1.0, 1.0, 81)
#: How often each group is gone over in a round, at most.
SWEEPS = 6
#: People of a label whom a group needs for its error rates to be known.
FEW = 10
#: People to whom models of real rows have to give either decision for rates of decisions to be known.
FEW_DECIDED = 20


@dataclass(frozen=True)
class Audit:
    """What an audit comes to.

    Attributes
    ----------
    evening : Evening
        What has to be moved. Groups too small to tell are moved by the law of their labels alone, as `by_labels` does;
        so are all for parity, without more sharpness, where models of real rows give next to nobody one of the two
        decisions.
    decided : tuple of np.ndarray
        Whom models of drawn rows favored in the last rounds, bool ``(kinds, n)`` each; none where there was no round.
    """

    evening: Evening
    decided: tuple[np.ndarray, ...] = ()


def audited(
    draw: Callable[[Evening, int, int], Table],
    start: Evening,
    margins: np.ndarray,
    margin_groups: np.ndarray,
    auditors: Auditors,
    criterion: str,
    *,
    n_rows: int,
) -> Audit:
    """Find what has to be moved for models of all three kinds to meet the criterion on real people.

    Parameters
    ----------
    draw : callable
        What is moved, the number of the round and how many rows, to synthetic rows.
    start : Evening
        What to begin with.
    margins : np.ndarray
        Log odds of a favorable label of some real rows before anything is moved, float64 ``(m,)``.
    margin_groups : np.ndarray
        Joint group of each of these, int64 ``(m,)``.
    auditors : Auditors
        Models, and the people to decide on.
    criterion : str
        Of `Fairness`.
    n_rows : int
        How many rows a round draws.

    Returns
    -------
    Audit
        With what is to be moved.
    """
    groups, actual, n_groups = auditors.groups, auditors.actual, len(start.linear)
    parity = criterion == "demographic_parity"
    plain = start.unmoved()
    drawn = draw(plain, ROUNDS, n_rows)
    custom = auditors.custom(drawn)
    if parity and custom is not None and _rare(custom.rates) * len(groups) < FEW_DECIDED:
        return Audit(by_labels(plain, margins, margin_groups, np.ones(n_groups, dtype=bool), parity=True))
    if custom is not None:
        size = max(1, n_rows * (FOLDS - 1) // FOLDS)
        times = sharpness(
            lambda times, turn: draw(plain.sharpened(times, margins), ROUNDS + 1 + turn, size),
            drawn,
            auditors,
            custom,
        )
        start = start.sharpened(times, margins)
    rates = custom.rates if parity and custom is not None else (None, None, None)

    told = custom.balanced if custom is not None else (0.5, 0.5, 0.5)

    def lacking(scores: np.ndarray, rate: float | None, balanced: float) -> np.ndarray:
        if parity:
            return to_one_rate(scores, groups, n_groups, near=NEAR, rate=rate)
        return to_like_errors(
            scores, actual, groups, n_groups, opportunity_only=criterion == "equal_opportunity",
            least=0.5 + LEFT * (balanced - 0.5),
        )  # fmt: skip

    now, tried, decided = start, [], []
    for turn in range(ROUNDS):
        found = auditors.decisions(draw(now, turn, n_rows), rough=turn < ROUNDS - AVERAGED)
        if found is None:
            break
        boosted, forest, linear = (lacking(*one) for one in zip(found, rates, told, strict=True))
        now = replace(
            now,
            crossing=np.clip(now.crossing + PACE * (boosted + forest) / 2, -MAX_SHIFT, MAX_SHIFT),
            linear=np.clip(now.linear + PACE * linear, -MAX_SHIFT, MAX_SHIFT),
        )
        tried.append(now)
        decided.append(np.stack(found) > 0)
    if not tried:
        return Audit(start)
    last = tried[-AVERAGED:]
    settled = replace(
        now,
        crossing=np.mean([one.crossing for one in last], axis=0),
        linear=np.mean([one.linear for one in last], axis=0),
    )
    settled = by_labels(
        settled, margins, margin_groups, _untold(actual, groups, n_groups, criterion), parity=parity
    )
    return Audit(settled, tuple(decided[-AVERAGED:]))


def by_labels(
    evening: Evening, margins: np.ndarray, groups: np.ndarray, which: np.ndarray, *, parity: bool
) -> Evening:
    """Move groups of whom no model tells enough by how often their labels are favorable.

    Parameters
    ----------
    evening : Evening
        What is moved of the others.
    margins : np.ndarray
        Log odds of a favorable label of people before anything is moved, float64 ``(m,)``.
    groups : np.ndarray
        Joint group of each, int64 ``(m,)``.
    which : np.ndarray
        The groups, bool ``(groups,)``; those without people stay.
    parity : bool
        Let labels be as frequent as they are among all others then, or as they were among all if there are no others;
        else as they were in the group, which what sharpens all scores would change.

    Returns
    -------
    Evening
        What is moved of these groups is as large as may be where no move brings their labels there.
    """
    shares = expit(evening.moved(margins, groups, 1.0))
    others = ~which[groups]
    common = shares[others].mean() if others.any() else expit(margins).mean()
    moves = {}
    for group in np.unique(groups[which[groups]]).tolist():
        own = margins[groups == group]
        goal = common if parity else expit(own).mean()

        def lacking(move: float, own: np.ndarray = own, goal: float = goal) -> float:
            moved = replace(evening, linear=np.array([move]), crossing=np.array([move]))
            return float(expit(moved.moved(own, np.zeros(len(own), dtype=np.int64), 1.0)).mean() - goal)

        # Who is beyond reach is not moved: then as far as may be.
        ends = (-MAX_SHIFT, MAX_SHIFT)
        out = [end for end in ends if lacking(end) * np.sign(end) <= 0]
        moves[group] = out[0] if out else float(brentq(lacking, *ends))
    linear, crossing = evening.linear.copy(), evening.crossing.copy()
    for group, move in moves.items():
        linear[group] = crossing[group] = move
    return replace(evening, linear=linear, crossing=crossing)


def _untold(actual: np.ndarray, groups: np.ndarray, n_groups: int, criterion: str) -> np.ndarray:
    """Return the groups that are too small for models to tell, bool ``(groups,)``."""
    if criterion == "demographic_parity":
        return np.bincount(groups, minlength=n_groups) < SMALL_GROUP
    good, bad = (np.bincount(groups[own], minlength=n_groups) for own in (actual, ~actual))
    return np.minimum(good, bad) < FEW


def _rare(rates: tuple[float, ...]) -> float:
    return float(np.mean([min(rate, 1 - rate) for rate in rates]))


def sharpness(draw: Callable[[float, int], Table], drawn: Table, auditors: Auditors, custom: Custom) -> float:
    """Return by how much log odds have to grow for models of drawn rows to be as sure as those of real ones.

    What models say grows less than what their labels are drawn with: on Adult by four tenths of it. So it is measured
    without and with the most that may be done, and what lies between is taken to be a straight line.

    Parameters
    ----------
    draw : callable
        What log odds are multiplied by, and the number of a trial, to drawn rows, of which no group is moved: as many
        as models of real rows learn from.
    drawn, auditors
        As of `Auditors.custom`.
    custom : Custom
        What it says.

    Returns
    -------
    float
        For the mean of boosted trees and a linear model, from 1 to `SHARPEST`.
    """
    asked = np.array([custom.spreads[0], custom.spreads[2]])
    told: dict[float, list[tuple[float, float]]] = {1.0: [], SHARPEST: []}
    rows, trials = 0, 0
    while rows < SURE_ROWS and trials < SURE_DRAWS:
        for times, found in told.items():
            synthetic = draw(times, trials)
            spreads = auditors.spreads(synthetic, drawn)
            if spreads is None:
                return 1.0
            found.append(spreads)
        rows, trials = rows + len(synthetic), trials + 1
    plain, sharpest = (np.array(found) for found in told.values())
    # Of few rows boosted trees cannot part any, and tell nothing.
    telling = np.minimum(asked, np.minimum(plain.min(0), sharpest.min(0))) > FLAT
    if not telling.any():
        return 1.0
    before, after = (np.log(asked[telling] / found[:, telling]).mean() for found in (plain, sharpest))
    if before <= 0:
        return 1.0
    gained = max(before - after, SLOWEST * np.log(SHARPEST))
    return float(min(1 + (SHARPEST - 1) * before / gained, SHARPEST))


def to_like_errors(
    scores: np.ndarray,
    actual: np.ndarray,
    groups: np.ndarray,
    n_groups: int,
    *,
    opportunity_only: bool,
    least: float = 0.0,
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
    least : float
        Balanced accuracy over all groups below which nothing is worth it, if there is a way to have it.

    Returns
    -------
    np.ndarray
        float64 ``(n_groups,)``.
    """
    rates, right, balanced = {}, {}, {}
    n_good, n_bad = max(int(actual.sum()), 1), max(int((~actual).sum()), 1)
    for group in range(n_groups):
        own = groups == group
        good, bad = np.sort(scores[own & actual]), np.sort(scores[own & ~actual])
        if len(good) >= FEW and len(bad) >= FEW:
            true, false = _chosen(good), _chosen(bad)
            logs = [np.log((true + 0.5) / (len(good) + 1)), np.log((false + 0.5) / (len(bad) + 1))]
            rates[group] = np.stack(logs[:1] if opportunity_only else logs)
            right[group] = (true - false) / len(scores)
            balanced[group] = (true / n_good - false / n_bad) / 2
    shifts = np.zeros(n_groups)
    if len(rates) < 2:
        return shifts
    at = dict.fromkeys(rates, len(GRID) // 2)
    alone = ~np.isin(groups, [*rates])
    # Of groups that are too small nobody moves.
    rest = (
        0.5 + ((scores[alone & actual] > 0).sum() / n_good - (scores[alone & ~actual] > 0).sum() / n_bad) / 2
    )
    by_size = sorted(rates, key=lambda group: int((groups == group).sum()))
    for _ in range(SWEEPS):
        before = dict(at)
        for group in by_size:
            others = np.stack([rates[other][:, at[other]] for other in rates if other != group], axis=1)
            high = np.maximum(rates[group], others.max(1, keepdims=True))
            low = np.minimum(rates[group], others.min(1, keepdims=True))
            gap = np.maximum((high - low).max(0) + np.log(NEAR), 0.0)
            found = rest + sum(balanced[other][at[other]] for other in rates if other != group)
            worth = right[group] - PRICE * gap - np.maximum(least - found - balanced[group], 0.0) * DEAR
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
