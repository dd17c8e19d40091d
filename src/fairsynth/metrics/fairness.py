"""Fairness of decisions: what each group gets, and how far the groups are apart.

Everything is computed from one small array, the confusion counts by group, so that a bootstrap
over people is a multinomial draw over its cells (exact, and thousands of times cheaper than
drawing rows).

Conventions, where published code differs or is silent:

- ``0/0`` in a ratio of rates (no group has any positive decision) counts as 1: the groups *are*
  treated alike. It is what a useless predictor gives, so the evaluation says so beside it.
- A group for which a rate does not exist (nobody in it has the outcome) is left out of that rate.
  fairlearn sets such a rate to 0, which makes one empty cell decide the headline.
- With fewer than two groups left there is nothing to compare: the functions on arrays raise
  :class:`~fairsynth.errors.DataError`, the functions on counts give NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairsynth.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PARITY_METRICS: tuple[str, ...] = (
    "dpr",
    "dpd",
    "eor",
    "eod",
    "equal_opportunity_ratio",
    "equal_opportunity_difference",
    "predictive_parity_ratio",
    "predictive_parity_difference",
)


@dataclass(frozen=True)
class GroupRates:
    """Rates of each group; NaN where nobody is there to count.

    Attributes
    ----------
    n : ndarray of float64, shape (..., n_groups)
        People in the group.
    base_rate : ndarray of float64, shape (..., n_groups)
        P(y = 1 | g), the share with the favorable outcome.
    selection_rate : ndarray of float64, shape (..., n_groups)
        P(ŷ = 1 | g).
    tpr, fpr : ndarray of float64, shape (..., n_groups)
        P(ŷ = 1 | y = 1, g) and P(ŷ = 1 | y = 0, g).
    ppv : ndarray of float64, shape (..., n_groups)
        P(y = 1 | ŷ = 1, g), the precision.
    accuracy : ndarray of float64, shape (..., n_groups)
        P(ŷ = y | g).
    """

    n: Floats
    base_rate: Floats
    selection_rate: Floats
    tpr: Floats
    fpr: Floats
    ppv: Floats
    accuracy: Floats


def _check_codes(groups: ArrayLike, n: int) -> Ints:
    codes = np.asarray(groups)
    if codes.shape != (n,):
        raise DataError(f"groups has shape {codes.shape}, expected ({n},): one group code for each row.")
    if not np.issubdtype(codes.dtype, np.integer):
        codes = np.unique(codes, return_inverse=True)[1]
    if n and codes.min() < 0:
        raise DataError("groups holds negative codes; give every person a group from 0 upwards.")
    return codes.astype(np.int64)


def _check_bool(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(f"{name} has shape {array.shape}; expected one value for each row.")
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise DataError(
            f"{name} must hold True and False (or 1 and 0); turn labels into 'is favorable' first."
        )
    return array.astype(bool)


def confusion_by_group(
    favorable: ArrayLike, predicted: ArrayLike, groups: ArrayLike, n_groups: int | None = None
) -> Ints:
    """Count people by group, outcome and decision.

    Parameters
    ----------
    favorable : array_like of bool, shape (n,)
        Whether the true outcome is the favorable one.
    predicted : array_like of bool, shape (n,)
        Whether the decision is the favorable one.
    groups : array_like of int, shape (n,)
        Group codes from 0 (labels of another kind are coded in sorted order).
    n_groups : int, optional
        Number of groups, when some of them may be empty here.

    Returns
    -------
    ndarray of int64, shape (n_groups, 2, 2)
        ``counts[g, y, ŷ]``.
    """
    y = _check_bool(favorable, "favorable")
    p = _check_bool(predicted, "predicted")
    if y.shape != p.shape:
        raise DataError(f"favorable has {len(y)} rows and predicted {len(p)}; they must be the same people.")
    g = _check_codes(groups, len(y))
    size = int(g.max(initial=-1)) + 1 if n_groups is None else n_groups
    counts = np.bincount(g * 4 + y * 2 + p, minlength=4 * size)
    return counts.reshape(size, 2, 2).astype(np.int64)


def _divide(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=bottom > 0)


def group_rates(confusion: ArrayLike) -> GroupRates:
    """Turn confusion counts into the rates of each group.

    Parameters
    ----------
    confusion : array_like, shape (..., n_groups, 2, 2)
        Counts as of :func:`confusion_by_group`; leading axes (bootstrap draws) are kept.

    Returns
    -------
    GroupRates
        NaN where the denominator is 0.
    """
    c = np.asarray(confusion, dtype=np.float64)
    n = c.sum(axis=(-2, -1))
    positives, negatives = c[..., 1, :].sum(-1), c[..., 0, :].sum(-1)
    selected = c[..., 1].sum(-1)
    return GroupRates(
        n=n,
        base_rate=_divide(positives, n),
        selection_rate=_divide(selected, n),
        tpr=_divide(c[..., 1, 1], positives),
        fpr=_divide(c[..., 0, 1], negatives),
        ppv=_divide(c[..., 1, 1], selected),
        accuracy=_divide(c[..., 1, 1] + c[..., 0, 0], n),
    )


def rate_ratio(rates: ArrayLike) -> Floats:
    """Smallest rate over largest rate along the last axis; 0/0 is 1, fewer than two rates NaN."""
    r = np.asarray(rates, dtype=np.float64)
    known = ~np.isnan(r)
    low = np.where(known, r, np.inf).min(axis=-1)
    high = np.where(known, r, -np.inf).max(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(high == 0, 1.0, low / high)
    return np.where(known.sum(axis=-1) >= 2, ratio, np.nan)


def rate_difference(rates: ArrayLike) -> Floats:
    """Largest rate minus smallest rate along the last axis; fewer than two rates give NaN."""
    r = np.asarray(rates, dtype=np.float64)
    known = ~np.isnan(r)
    low = np.where(known, r, np.inf).min(axis=-1)
    high = np.where(known, r, -np.inf).max(axis=-1)
    return np.where(known.sum(axis=-1) >= 2, high - low, np.nan)


def parity(confusion: ArrayLike, *, minimum: int = 1) -> dict[str, Floats]:
    """Compute every group-fairness number that follows from the confusion counts.

    Parameters
    ----------
    confusion : array_like, shape (..., n_groups, 2, 2)
        Counts as of :func:`confusion_by_group`; leading axes are kept.
    minimum : int, default=1
        Groups with fewer people are left out.

    Returns
    -------
    dict of str to ndarray of float64, shape (...)
        The names of :data:`PARITY_METRICS`. NaN where fewer than two groups have the rate.

    Notes
    -----
    =================================  ==============================================================
    ``dpr``, ``dpd``                   min/max and max - min of P(ŷ=1 | g)
    ``eor``                            min of the TPR ratio and the FPR ratio
    ``eod``                            max of the TPR difference and the FPR difference
    ``equal_opportunity_*``            the same for the TPR alone (Hardt et al. 2016)
    ``predictive_parity_*``            the same for P(y=1 | ŷ=1, g) (Chouldechova 2017)
    =================================  ==============================================================

    The first four are fairlearn's definitions; :func:`parity_by_fairlearn` asks fairlearn itself.
    """
    c = np.asarray(confusion, dtype=np.float64)
    if minimum > 1:
        c = c * (c.sum(axis=(-2, -1), keepdims=True) >= minimum)
    r = group_rates(c)
    tpr_ratio, fpr_ratio = rate_ratio(r.tpr), rate_ratio(r.fpr)
    tpr_gap, fpr_gap = rate_difference(r.tpr), rate_difference(r.fpr)
    return {
        "dpr": rate_ratio(r.selection_rate),
        "dpd": rate_difference(r.selection_rate),
        "eor": np.minimum(tpr_ratio, fpr_ratio),
        "eod": np.maximum(tpr_gap, fpr_gap),
        "equal_opportunity_ratio": tpr_ratio,
        "equal_opportunity_difference": tpr_gap,
        "predictive_parity_ratio": rate_ratio(r.ppv),
        "predictive_parity_difference": rate_difference(r.ppv),
    }


#: What `parity_by_fairlearn` gives.
FAIRLEARN_METRICS: tuple[str, ...] = PARITY_METRICS[:6]


def parity_by_fairlearn(confusion: ArrayLike, *, minimum: int = 1) -> dict[str, np.ndarray]:
    """Compute the parity numbers of tables of counts through fairlearn.

    The cells of the tables are handed to :class:`fairlearn.metrics.MetricFrame` as rows that weigh as much
    as there are people in them, so the cost does not depend on how many people there are; and all tables at
    once, since making a frame is what takes the time.

    Parameters
    ----------
    confusion : array_like of int, shape (..., n_groups, 2, 2)
        Counts as of :func:`confusion_by_group`.
    minimum : int, default=1
        Groups with fewer people are left out.

    Returns
    -------
    dict of str to ndarray of float64, shape (...)
        The names of :data:`FAIRLEARN_METRICS`; NaN where fewer than two groups have the rate.

    Notes
    -----
    Ratios and differences are fairlearn's, between groups. A true (false) positive rate is its selection rate
    among the people who have (lack) the outcome. What is ours stands around them: a group that has no rate
    (nobody in it has the outcome) is not handed over, and a ratio of 0/0, for which fairlearn gives NaN, is 1.
    :func:`parity` computes the same from the counts for many bootstrap draws at once.
    """
    from fairlearn.metrics import MetricFrame, selection_rate

    given = np.asarray(confusion)
    tables = given.reshape(-1, *given.shape[-3:])
    people = tables.sum(axis=(2, 3)) >= max(minimum, 1)
    # Which cells of a table a rate is about, and which groups have it.
    rates = {
        "selection": (np.array([[1, 1], [1, 1]]), people),
        "tpr": (np.array([[0, 0], [1, 1]]), people & (tables[:, :, 1].sum(axis=2) > 0)),
        "fpr": (np.array([[1, 1], [0, 0]]), people & (tables[:, :, 0].sum(axis=2) > 0)),
    }
    ratio = {name: np.full(len(tables), np.nan) for name in rates}
    difference = {name: np.full(len(tables), np.nan) for name in rates}
    # Rates that the same groups have share one frame.
    shared: dict[bytes, list[tuple[str, int]]] = {}
    for name, (_, known) in rates.items():
        for i in np.flatnonzero(known.sum(axis=1) >= 2).tolist():
            shared.setdefault(known[i].tobytes(), []).append((name, i))
    for mask, asked in shared.items():
        kept = np.frombuffer(mask, dtype=bool)
        group, outcome, decision = np.indices((int(kept.sum()), 2, 2)).reshape(3, -1)
        weights = {f"{name} {i}": (tables[i][kept] * rates[name][0]).ravel() for name, i in asked}
        frame = MetricFrame(
            metrics=dict.fromkeys(weights, selection_rate),
            y_true=outcome,
            y_pred=decision,
            sensitive_features=group,
            sample_params={key: {"sample_weight": weight} for key, weight in weights.items()},
        )
        between, gap = frame.ratio(method="between_groups"), frame.difference(method="between_groups")
        for name, i in asked:
            found = float(between[f"{name} {i}"])
            ratio[name][i] = 1.0 if np.isnan(found) else found
            difference[name][i] = float(gap[f"{name} {i}"])
    values = {
        "dpr": ratio["selection"],
        "dpd": difference["selection"],
        "eor": np.minimum(ratio["tpr"], ratio["fpr"]),
        "eod": np.maximum(difference["tpr"], difference["fpr"]),
        "equal_opportunity_ratio": ratio["tpr"],
        "equal_opportunity_difference": difference["tpr"],
    }
    return {name: value.reshape(given.shape[:-3]) for name, value in values.items()}


def _one(name: str, favorable: ArrayLike, predicted: ArrayLike, groups: ArrayLike) -> float:
    counts = confusion_by_group(favorable, predicted, groups)
    value = float((parity_by_fairlearn if name in FAIRLEARN_METRICS else parity)(counts)[name])
    if np.isnan(value):
        raise DataError(
            f"{name} needs at least two groups in which its rate exists; "
            "here there are fewer. Merge small groups or give more rows."
        )
    return value


def demographic_parity_ratio(predicted: ArrayLike, groups: ArrayLike) -> float:
    """Ratio of the smallest to the largest share of favorable decisions: ``min_g / max_g P(ŷ=1|g)``.

    Parameters
    ----------
    predicted : array_like of bool, shape (n,)
        Decisions, True is favorable.
    groups : array_like, shape (n,)
        Group of each person.

    Returns
    -------
    float
        In [0, 1], 1 is parity; 1 if nobody at all is selected.
    """
    return _one("dpr", predicted, predicted, groups)


def demographic_parity_difference(predicted: ArrayLike, groups: ArrayLike) -> float:
    """Largest minus smallest share of favorable decisions; 0 is parity."""
    return _one("dpd", predicted, predicted, groups)


def equalized_odds_ratio(favorable: ArrayLike, predicted: ArrayLike, groups: ArrayLike) -> float:
    """Smaller of the TPR ratio and the FPR ratio between groups (fairlearn); 1 is equal odds."""
    return _one("eor", favorable, predicted, groups)


def equalized_odds_difference(favorable: ArrayLike, predicted: ArrayLike, groups: ArrayLike) -> float:
    """Larger of the TPR gap and the FPR gap between groups (fairlearn); 0 is equal odds."""
    return _one("eod", favorable, predicted, groups)


def equal_opportunity_ratio(favorable: ArrayLike, predicted: ArrayLike, groups: ArrayLike) -> float:
    """Smallest over largest true positive rate (Hardt, Price and Srebro 2016, def. 2.2)."""
    return _one("equal_opportunity_ratio", favorable, predicted, groups)


def equal_opportunity_difference(favorable: ArrayLike, predicted: ArrayLike, groups: ArrayLike) -> float:
    """Largest minus smallest true positive rate (Hardt, Price and Srebro 2016, def. 2.2)."""
    return _one("equal_opportunity_difference", favorable, predicted, groups)


def predictive_parity_difference(favorable: ArrayLike, predicted: ArrayLike, groups: ArrayLike) -> float:
    """Largest minus smallest precision P(y=1 | ŷ=1, g) (Chouldechova 2017, eq. 2.2)."""
    return _one("predictive_parity_difference", favorable, predicted, groups)


def fairness_through_unawareness(decisions: Sequence[ArrayLike]) -> float:
    """How far the share of favorable decisions moves when everybody is given another s.

    ``FTU = max_{a,b} |P(ŷ=1 | do s=a) - P(ŷ=1 | do s=b)|`` (DECAF, van Breugel et al. 2021, sec. 3).

    Parameters
    ----------
    decisions : sequence of array_like of bool, each of shape (n,)
        Decisions for the same people, one array for each level that s was set to.

    Returns
    -------
    float
        0 if the sensitive column itself does not move the decisions on average.
    """
    shares = [float(_check_bool(d, "decisions").mean()) for d in decisions]
    if len(shares) < 2:
        raise DataError("FTU compares at least two levels of the sensitive column.")
    return max(shares) - min(shares)


def counterfactual_flip_rate(decisions: Sequence[ArrayLike]) -> float:
    """Share of people whose decision is not the same under every level of s.

    Only s is changed, not what depends on it (a flip test, not a causal counterfactual), so it
    bounds direct use of s. FTU can be 0 while many people flip in both directions; this cannot.

    Parameters
    ----------
    decisions : sequence of array_like of bool, each of shape (n,)
        Decisions for the same people, one array for each level that s was set to.

    Returns
    -------
    float
        In [0, 1]; 0 if nobody's decision depends on the sensitive column.
    """
    if len(decisions) < 2:
        raise DataError("The flip rate compares at least two levels of the sensitive column.")
    stacked = np.stack([_check_bool(d, "decisions") for d in decisions])
    return float((stacked.any(axis=0) != stacked.all(axis=0)).mean())


def mean_shift(predictions: Sequence[ArrayLike]) -> float:
    """How far the mean of numeric decisions moves when everybody is given another s.

    :func:`fairness_through_unawareness` for numbers: ``max_{a,b} |E(ŷ | do s=a) - E(ŷ | do s=b)|``.

    Parameters
    ----------
    predictions : sequence of array_like of float, each of shape (n,)
        Decisions for the same people, one array for each level that s was set to.

    Returns
    -------
    float
        In the unit of the target; 0 if the sensitive column itself does not move the mean.
    """
    if len(predictions) < 2:
        raise DataError("The shift compares at least two levels of the sensitive column.")
    return float(np.ptp([np.mean(np.asarray(p, dtype=np.float64)) for p in predictions]))


def counterfactual_shift(predictions: Sequence[ArrayLike]) -> float:
    """How far one person's numeric decision moves, on average, over the levels of their own s.

    :func:`counterfactual_flip_rate` for numbers: the mean over people of the largest minus the smallest
    decision. Shifts in two directions do not cancel as they do in :func:`mean_shift`.

    Parameters
    ----------
    predictions : sequence of array_like of float, each of shape (n,)
        Decisions for the same people, one array for each level that s was set to.

    Returns
    -------
    float
        In the unit of the target; 0 if nobody's decision depends on the sensitive column.
    """
    if len(predictions) < 2:
        raise DataError("The shift compares at least two levels of the sensitive column.")
    return float(np.ptp(np.stack([np.asarray(p, dtype=np.float64) for p in predictions]), axis=0).mean())


def calibration_error(favorable: ArrayLike, probability: ArrayLike, *, bins: int = 10) -> float:
    """Measure the expected calibration error with bins of equal mass.

    ``ECE = sum_b n_b/n |mean(p in b) - mean(y in b)|`` (Naeini, Cooper and Hauskrecht 2015); equal
    mass rather than equal width, so that no bin is empty. Bins follow distinct probabilities:
    people with the same probability are never parted.

    Parameters
    ----------
    favorable : array_like of bool, shape (n,)
        True outcomes.
    probability : array_like of float, shape (n,)
        P(favorable).
    bins : int, default=10
        Largest number of bins.

    Returns
    -------
    float
        In [0, 1]; 0 is perfect calibration.
    """
    y = _check_bool(favorable, "favorable").astype(np.float64)
    p = np.asarray(probability, dtype=np.float64)
    if len(y) == 0:
        raise DataError("calibration needs at least one person.")
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
    which = np.searchsorted(edges, p, side="left")
    count = np.bincount(which, minlength=len(edges) + 1).astype(np.float64)
    gap = np.bincount(which, weights=p - y, minlength=len(edges) + 1)
    return float(np.abs(gap).sum() / count.sum())


def mean_gap(predicted: ArrayLike, groups: ArrayLike) -> float:
    """Largest minus smallest group mean of a numeric decision, in the unit of the target."""
    x = np.asarray(predicted, dtype=np.float64)
    g = _check_codes(groups, len(x))
    means = [x[g == code].mean() for code in np.unique(g)]
    if len(means) < 2:
        raise DataError("mean_gap needs at least two groups with people in them.")
    return float(max(means) - min(means))


def distribution_gap(predicted: ArrayLike, groups: ArrayLike) -> float:
    """Largest Kolmogorov-Smirnov distance between a group's numeric decisions and everybody's.

    Strong demographic parity for numeric targets (Jiang et al. 2020; Agarwal, Dudik and Wu 2019,
    def. 1): ``max_g sup_t |P(ŷ<=t | g) - P(ŷ<=t)|``.
    """
    x = np.asarray(predicted, dtype=np.float64)
    g = _check_codes(groups, len(x))
    present = np.unique(g)
    if len(present) < 2:
        raise DataError("distribution_gap needs at least two groups with people in them.")
    order = np.argsort(x, kind="stable")
    last = np.append(x[order][1:] != x[order][:-1], True)
    everybody = np.arange(1, len(x) + 1) / len(x)
    gaps = []
    for code in present:
        member = g[order] == code
        gaps.append(np.abs(np.cumsum(member) / member.sum() - everybody)[last].max())
    return float(max(gaps))


def conditional_parity_difference(
    favorable: ArrayLike, groups: ArrayLike, strata: ArrayLike, *, minimum: int = 1
) -> float:
    """Gap in favorable outcomes between groups among people alike in an admissible column.

    ``sum_a w_a (max_g - min_g P(y=1 | a, g))`` over strata a with two groups or more, weighted by
    people (conditional demographic disparity; Kamiran, Zliobaite and Calders 2013).

    Parameters
    ----------
    favorable : array_like of bool, shape (n,)
        Outcomes.
    groups, strata : array_like, shape (n,)
        Group of each person, and level of the admissible column.
    minimum : int, default=1
        Cells (stratum × group) with fewer people are left out.

    Returns
    -------
    float
        0 if the groups do alike within every stratum.
    """
    y = _check_bool(favorable, "favorable")
    g = _check_codes(groups, len(y))
    a = np.unique(np.asarray(strata), return_inverse=True)[1].reshape(-1)
    n_groups = int(g.max(initial=-1)) + 1
    cell = a * n_groups + g
    size = (int(a.max(initial=-1)) + 1) * n_groups
    n = np.bincount(cell, minlength=size).reshape(-1, n_groups).astype(np.float64)
    hits = np.bincount(cell, weights=y, minlength=size).reshape(-1, n_groups).astype(np.float64)
    rates = np.where(n >= max(minimum, 1), _divide(hits, n), np.nan)
    gaps = rate_difference(rates)
    usable = ~np.isnan(gaps)
    if not usable.any():
        raise DataError("No stratum has two groups with enough people; choose a coarser admissible column.")
    return float(np.average(gaps[usable], weights=n.sum(axis=1)[usable]))


def group_share_gap(shares: ArrayLike, wanted: ArrayLike) -> float:
    """Total variation distance between the groups' shares and the wanted ones; 0 is alike."""
    p, q = np.asarray(shares, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    if p.shape != q.shape:
        raise DataError(f"shares has shape {p.shape} and wanted {q.shape}; name the same groups in both.")
    return float(0.5 * np.abs(p / p.sum() - q / q.sum()).sum())


def bootstrap_counts(counts: ArrayLike, draws: int, rng: np.random.Generator) -> Ints:
    """Draw bootstrap samples of people, given only how many there are of each sort.

    Parameters
    ----------
    counts : array_like of int, any shape
        People in each cell.
    draws : int
        Number of bootstrap samples.
    rng : numpy.random.Generator
        Where the draws come from.

    Returns
    -------
    ndarray of int64, shape (draws, ...)
        Counts of the given shape, one set for each draw; each sums to the same number of people.
    """
    c = np.asarray(counts)
    total = int(c.sum())
    return rng.multinomial(total, c.ravel() / total, size=draws).reshape(draws, *c.shape).astype(np.int64)


def interval(samples: ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval of bootstrap samples; None if fewer than half of them are defined."""
    s = np.asarray(samples, dtype=np.float64)
    s = s[~np.isnan(s)]
    if len(s) * 2 < np.size(samples) or len(s) == 0:
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(s, [tail, 1 - tail])
    return float(low), float(high)
