"""How the law of a label is moved for each group, so that several kinds of later models decide alike.

What has to be moved is not the same for all models. Boosted trees and forests follow a move that is made near the
threshold only; a logistic regression has one number for a group, and sees what is moved on average over all of its
people. So a group has two numbers: `linear`, by which its scores move as a whole (within `reach`), and `crossing`, the
score that comes to lie at one half; what the second adds to the first fades out within `WIDTH` log odds.

For criteria on errors, moving is not enough. Where the columns tell the labels of one group better than those of
another, no pair of thresholds gives both the same true and false positive rates. Then columns `faded` for a group
count less in its label, so that its people are no better told apart than others (`plan`).

Before that the scores of all may be sharpened, since models of drawn rows are less sure than those of real ones. And
after it the threshold is made steeper: near it labels are drawn by a coin, and a later model decides by what the coin
said, most of all where it learns from few of them. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from fairsynth.generators.group_law import MAX_SHIFT
from fairsynth.generators.margin_shift import FAR, moved
from fairsynth.trees.scores import PairScores

#: Log odds within which the move of the threshold fades out. Scores must not change places, so `linear` and
#: `crossing` may differ by `MOST` of this and no more: within 2 a rare label of a small group had no room.
WIDTH = 4.0
#: What is added at the threshold, at most, as a part of that.
MOST = 0.6
#: How far those are moved, for parity, who are on the right side of the threshold already, in units of the move.
#: Nobody's decision changes by it, and where nearly all are on that side it costs most: ranks between groups, so AUROC.
BEYOND = 2.0
#: Sharpened by more, later models of small tables foretell worse (Brier score, log loss) though they decide better.
SHARPEST = 1.3
#: By how much scores at the threshold grow faster than they did, where tables are small.
STEEPEST = 2.0
#: Log odds up to which they do, and from which on they are what they were. In between what was gained fades out slowly,
#: so that people who are told apart there still are: where nearly all are favored most lie there, and AUROC sees them.
NEAR = 0.4
ASIDE = 5.0
#: By how much they do where tables are larger, and the width, in log odds, of the bell within which they do: parity,
#: which moves groups past each other, pays for width with ranks; errors come nearer to alike by it.
STEEP = 1.0
BELL = 1.0
WIDE_BELL = 1.5
#: Columns that may be faded: those whose effects vary most.
FADING = 4
#: Parts of its effect that may be taken away.
PARTS = (0.5, 0.75, 0.9, 1.0)
#: How near to a common point the rates of groups are planned, as the ratio of lowest to highest: the first that can
#: be had.
NEARNESS = (0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
#: People of either label that a group needs to be planned for.
FEW = 20
THRESHOLDS = 200


@dataclass(frozen=True)
class Evening:
    """What is moved, at full strength.

    Attributes
    ----------
    linear : np.ndarray
        Log odds by group, float64 ``(groups,)``.
    crossing : np.ndarray
        The score, less its sign, that comes to lie at one half, float64 ``(groups,)``.
    faded : np.ndarray
        Share by which the effect of a column is taken away, float64 ``(groups, parents)`` from 0 to 1.
    reach : float
        Of `margin_shift.moved`.
    sharpness : float
        What the log odds of all are multiplied by before they are moved.
    level : float
        What is added to them then, so that at full strength as many labels are favorable as before.
    beyond : float
        Of `margin_shift.moved`, if it is less than `reach`.
    steepness : float
        By how much the scores grow faster at the threshold, once they are moved (`steeper`).
    bell : float
        Of `steeper`.
    """

    linear: np.ndarray
    crossing: np.ndarray
    faded: np.ndarray
    reach: float
    sharpness: float = 1.0
    level: float = 0.0
    beyond: float = FAR
    steepness: float = 0.0
    bell: float = 0.0

    @classmethod
    def none(cls, n_groups: int, n_parents: int, reach: float, beyond: float = FAR) -> Evening:
        """Return what moves nothing."""
        faded = np.zeros((n_groups, n_parents))
        return cls(np.zeros(n_groups), np.zeros(n_groups), faded, reach, beyond=beyond)

    def unmoved(self) -> Evening:
        """Return what moves no group, and is as steep as this."""
        plain = Evening.none(len(self.linear), self.faded.shape[1], self.reach, self.beyond)
        return replace(plain, steepness=self.steepness, bell=self.bell)

    def sharpened(self, sharpness: float, margins: np.ndarray) -> Evening:
        """Return the same with log odds multiplied, and thresholds at the same people.

        Parameters
        ----------
        sharpness : float
            Above 0.
        margins : np.ndarray
            Log odds of a favorable label of some people, among whom as many are to be favorable as before ``(m,)``.

        Raises
        ------
        ValueError
            If it was sharpened before.
        """
        if self.sharpness != 1.0:
            raise ValueError("what is moved was sharpened already")
        rate = expit(margins).mean()
        far = float(np.abs(margins).max(initial=0.0)) * abs(sharpness - 1) + 1e-9
        level = brentq(lambda more: expit(sharpness * margins + more).mean() - rate, -far, far)
        level = float(np.clip(level, -MAX_SHIFT, MAX_SHIFT))

        def there(moves: np.ndarray) -> np.ndarray:
            return np.where(moves != 0, np.clip(sharpness * moves - level, -MAX_SHIFT, MAX_SHIFT), 0.0)

        return replace(
            self, sharpness=sharpness, level=level, linear=there(self.linear), crossing=there(self.crossing)
        )

    def moved(self, margins: np.ndarray, groups: np.ndarray, strength: float) -> np.ndarray:
        """Move log odds of a favorable label; ranks within a group stay.

        Parameters
        ----------
        margins : np.ndarray
            float64 ``(n,)``.
        groups : np.ndarray
            int64 ``(n,)``.
        strength : float
            Part of the moves that is made.

        Returns
        -------
        np.ndarray
            float64 ``(n,)``.
        """
        linear, crossing = strength * self.linear, strength * self.crossing
        if self.sharpness != 1.0:
            margins = (1 + strength * (self.sharpness - 1)) * margins + strength * self.level
        beyond = min(max(self.reach, 1.0), self.beyond)
        # `moved` ascends by no less than this, and what is added descends by no more: so ranks stay.
        slope = 1.0 if self.reach >= FAR else beyond / (beyond + 1.0)
        most = min(MOST, 0.9 * slope) * WIDTH
        missing = np.clip(-moved(-crossing, linear, self.reach, beyond), -most, most)
        near = np.maximum(0.0, 1.0 - np.abs(margins + crossing[groups]) / WIDTH)
        there = moved(margins, linear[groups], self.reach, beyond) + missing[groups] * near
        return steeper(there, strength * self.steepness, self.bell) if self.steepness else there

    def variants(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the different lines of `faded`, and which of them each group has."""
        lines, which = np.unique(self.faded, axis=0, return_inverse=True)
        return lines, which.reshape(-1)

    def check(self, n_groups: int, n_parents: int) -> None:
        """Raise ValueError if this does not belong to so many groups and parents."""
        arrays = (self.linear, self.crossing, self.faded)
        ok = (
            [a.shape for a in arrays] == [(n_groups,), (n_groups,), (n_groups, n_parents)]
            and all(a.dtype == np.float64 and np.isfinite(a).all() for a in arrays)
            and bool((np.abs(self.linear) <= MAX_SHIFT).all() and (np.abs(self.crossing) <= MAX_SHIFT).all())
            and bool(((self.faded >= 0) & (self.faded <= 1)).all())
            and 1.0 <= self.sharpness <= SHARPEST
            and abs(self.level) <= MAX_SHIFT
            and 1.0 <= self.beyond <= FAR
            and 0.0 <= self.steepness <= STEEPEST
            and (self.bell == 0.0 or 0.1 <= self.bell <= WIDE_BELL)
        )
        if not ok:
            raise ValueError("what is moved does not fit the groups")


def steeper(margins: np.ndarray, steepness: float, bell: float = 0.0) -> np.ndarray:
    """Tell those near the threshold apart by its sides.

    Scores next to 0 are multiplied by ``1 + steepness``; what that adds fades out as ``exp(-(score / bell)^2)`` or, if
    there is no bell, from `NEAR` on until `ASIDE`. Ranks and signs stay.

    Parameters
    ----------
    margins : np.ndarray
        Log odds ``(n,)``.
    steepness : float
        From 0 to `STEEPEST`.
    bell : float
        Log odds, up to `WIDE_BELL`; 0 for none.

    Returns
    -------
    np.ndarray
        float64 ``(n,)``.
    """
    if bell:
        return np.asarray(margins + steepness * margins * np.exp(-np.square(margins / bell)))
    more = np.interp(np.abs(margins), [0.0, NEAR, ASIDE], [0.0, steepness * NEAR, 0.0])
    return np.asarray(margins + np.sign(margins) * more)


def faded(scores: PairScores, weights: np.ndarray, shares: list[np.ndarray]) -> PairScores:
    """Return scores in which columns count less.

    Parameters
    ----------
    scores : PairScores
        As learned.
    weights : np.ndarray
        Part of each parent's effect that is taken away ``(parents,)``.
    shares : list of np.ndarray
        Share of each bin among all rows, by parent.

    Returns
    -------
    PairScores
        Where a column counts no more, the mean over its values stands for them.
    """
    tables = []
    for (a, b), table in zip(scores.pairs, scores.tables, strict=True):
        if a == b:  # only its diagonal is ever asked
            own = np.einsum("iik->ik", table).astype(np.float64)
            own = own - weights[a] * (own - shares[a] @ own)
            tables.append(np.broadcast_to(own[:, None], table.shape).astype(np.float32))
            continue
        whole = table.astype(np.float64)
        whole = whole - weights[a] * (whole - np.tensordot(shares[a], whole, axes=(0, 0))[None])
        whole = whole - weights[b] * (whole - np.tensordot(shares[b], whole, axes=(0, 1))[:, None])
        tables.append(whole.astype(np.float32))
    return PairScores(scores.base, scores.pairs, tuple(tables))


@dataclass(frozen=True)
class Fold:
    """A law of the label, and people whom it was not learned from.

    Attributes
    ----------
    scores : PairScores
        The law.
    rows : np.ndarray
        The people, int64 ``(m,)``.
    group_scores : np.ndarray
        What is added to the scores of each group (`group_rates`), float64 ``(groups, scores)``.
    """

    scores: PairScores
    rows: np.ndarray
    group_scores: np.ndarray


def margins_of(scores: np.ndarray, favored: np.ndarray) -> np.ndarray:
    """Return the log odds of a favored label, float64 ``(n,)``, given scores ``(n, 1)`` or ``(n, labels)``."""
    scores = scores.astype(np.float64)
    if scores.shape[1] == 1:
        return scores[:, 0] * (1.0 if favored[-1] else -1.0)
    high = scores.max(1, keepdims=True)
    parts = np.exp(scores - high)
    return np.asarray(np.log(parts[:, favored].sum(1)) - np.log(parts[:, ~favored].sum(1)))


def plan(
    folds: list[Fold],
    lines: list[np.ndarray],
    shares: list[np.ndarray],
    actual: np.ndarray,
    favored: np.ndarray,
    groups: np.ndarray,
    n_groups: int,
    *,
    opportunity_only: bool,
    reach: float,
) -> Evening:
    """Choose, for each group, what counts less and where the threshold lies, so that all have one pair of error rates.

    Parameters
    ----------
    folds : list of Fold
        Laws and people who were not learned from; everyone of them once.
    lines : list of np.ndarray
        Bins of the people by parent, int64 ``(n,)``.
    shares : list of np.ndarray
        Share of each bin, by parent.
    actual : np.ndarray
        Whether the label is favorable, bool ``(n,)``.
    favored : np.ndarray
        As of `margins_of`.
    groups : np.ndarray
        int64 ``(n,)``.
    n_groups : int
        Number of groups.
    opportunity_only : bool
        Only the true positive rates have to be alike.
    reach : float
        Of what is returned.

    Returns
    -------
    Evening
        The most accurate of those under which the rates are as near as can be had (`NEARNESS`); groups of fewer than
        `FEW` people of either label are left as they are.
    """
    n_parents = len(lines)

    def scored(weights: np.ndarray) -> np.ndarray:
        margins = np.zeros(len(groups))
        for fold in folds:
            law = faded(fold.scores, weights, shares) if weights.any() else fold.scores
            found = law.scores([line[fold.rows] for line in lines], len(fold.rows))
            margins[fold.rows] = margins_of(found + fold.group_scores[groups[fold.rows]], favored)
        return margins

    plain = scored(np.zeros(n_parents))
    unit = np.eye(n_parents)
    without = [scored(one) for one in unit]
    weight = np.array([np.var(plain - margins) for margins in without])
    telling = np.argsort(-weight, kind="stable")[: min(FADING, int((weight > 0).sum()))]
    choices, found = [np.zeros(n_parents)], [plain]
    if not opportunity_only:
        for j in telling:
            for (
                part
            ) in PARTS:  # two labels' scores are linear in what is taken away of one column; else nearly so
                choices.append(part * unit[j])
                found.append(plain + part * (without[j] - plain))
        for i, j in combinations(telling[:3], 2):
            choices.append(unit[i] + unit[j])
            found.append(scored(choices[-1]))
    known = [
        k for k in range(n_groups)
        if min((groups == k)[actual].sum(), (groups == k)[~actual].sum()) >= FEW
    ]  # fmt: skip
    evening = Evening.none(n_groups, n_parents, reach)
    if len(known) < 2:
        return evening
    options = {k: _options(found, actual, groups == k) for k in known}
    largest = max(known, key=lambda k: int((groups == k).sum()))
    for near in NEARNESS:
        chosen = _nearest(options, largest, near, opportunity_only)
        if chosen is not None:
            break
    else:
        return evening
    crossing, less = np.zeros(n_groups), np.zeros((n_groups, n_parents))
    for k, option in chosen.items():
        crossing[k] = np.clip(-option[4], -MAX_SHIFT, MAX_SHIFT)
        less[k] = choices[int(option[3])]
    return Evening(crossing.copy(), crossing, less, reach)


def _options(found: list[np.ndarray], actual: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return true and false positive rate, right decisions, choice and threshold of each option ``(options, 5)``."""
    lines = []
    for at, margins in enumerate(found):
        good, bad = np.sort(margins[own & actual]), np.sort(margins[own & ~actual])
        thresholds = np.unique(np.quantile(margins[own], np.linspace(0.01, 0.995, THRESHOLDS)))
        true = 1 - np.searchsorted(good, thresholds, side="right") / len(good)
        false = 1 - np.searchsorted(bad, thresholds, side="right") / len(bad)
        right = true * len(good) + (1 - false) * len(bad)
        lines.append(np.stack([true, false, right, np.full(len(thresholds), at), thresholds], axis=1))
    return np.concatenate(lines)


def _nearest(
    options: dict[int, np.ndarray], largest: int, near: float, opportunity_only: bool
) -> dict[int, np.ndarray] | None:
    """Return the most accurate options whose rates all lie within a factor of one point, or None."""
    slack = np.sqrt(near)
    own = options[largest]
    points = own[own[:, 3] == 0][:, :2]
    points = np.unique(
        np.concatenate([points * (one, other) for one in (1.0, slack) for other in (1.0, 1 / slack)]), axis=0
    )
    best, chosen = -1.0, None
    for true, false in points:
        if true <= 0 or (false <= 0 and not opportunity_only):
            continue
        total, picked = 0.0, {}
        for k, option in options.items():
            fits = (option[:, 0] >= true * slack) & (option[:, 0] <= true / slack)
            if not opportunity_only:
                fits &= (option[:, 1] >= false * slack) & (option[:, 1] <= false / slack)
            if not fits.any():
                break
            one = option[fits][np.argmax(option[fits][:, 2])]
            total += float(one[2])
            picked[k] = one
        else:
            if total > best:
                best, chosen = total, picked
    return chosen
