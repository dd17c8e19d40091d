"""Privacy: whether the synthetic rows give away the people they were learned from.

Every number compares train people with hold-out people whom the generator never saw: what holds
for both alike is knowledge about the population, what holds for train people only is a leak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairsynth.errors import DataError
from fairsynth.metrics.manifold import nearest
from fairsynth.metrics.utility import bootstrap_auroc

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval over bootstrap samples."""

    value: float
    low: float
    high: float


def closer_to_train(
    to_train: ArrayLike,
    to_holdout: ArrayLike,
    *,
    records: ArrayLike | None = None,
    draws: int = 500,
    seed: int = 0,
) -> Share:
    """Share of synthetic rows nearer to a train row than to any hold-out row, ties counted half.

    ``P(d_train < d_holdout) + P(d_train = d_holdout) / 2`` (Platzer and Reutterer 2021); .5 is ideal.

    Parameters
    ----------
    to_train, to_holdout : array_like of float, shape (m,)
        Distance of each synthetic row to its closest train and its closest hold-out record, among
        *as many* of the one as of the other: the larger set would be nearer by chance.
    records : array_like of int, shape (m,), optional
        The real record that is nearest to each synthetic row. Rows with the same nearest record win or
        lose together, so the bootstrap draws records, not rows; without this the interval is too
        narrow (ours).
    draws : int, default=500
        Bootstrap samples.
    seed : int, default=0
        Of the bootstrap.

    Returns
    -------
    Share
        With interval.
    """
    a, b = np.asarray(to_train, dtype=np.float64), np.asarray(to_holdout, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise DataError(f"to_train has shape {a.shape} and to_holdout {b.shape}; give the same rows in both.")
    won = np.where(a == b, 0.5, a < b)
    keys = np.arange(len(a)) if records is None else np.asarray(records)
    cluster = np.unique(keys, return_inverse=True)[1].reshape(-1)
    size = np.bincount(cluster).astype(np.float64)
    wins = np.bincount(cluster, weights=won)
    rng = np.random.default_rng(seed)
    shares = []
    for start in range(0, draws, 50):
        weights = rng.poisson(1.0, size=(min(50, draws - start), len(size)))
        shares.append((weights @ wins) / np.maximum(weights @ size, 1))
    low, high = np.quantile(np.concatenate(shares), [0.025, 0.975])
    return Share(float(won.mean()), float(low), float(high))


def nearest_records(
    to_train: ArrayLike, train_index: ArrayLike, to_holdout: ArrayLike, holdout_index: ArrayLike
) -> Ints:
    """Name the nearest record of each row, for the `records` of :func:`closer_to_train`.

    Parameters
    ----------
    to_train, to_holdout : array_like of float, shape (m,)
        Distances.
    train_index, holdout_index : array_like of int, shape (m,)
        Which train and which hold-out record they lead to.

    Returns
    -------
    ndarray of int64, shape (m,)
        Train records from 0 upwards, hold-out records from -1 downwards.
    """
    first = np.asarray(to_train) <= np.asarray(to_holdout)
    return np.where(first, np.asarray(train_index), -1 - np.asarray(holdout_index)).astype(np.int64)


def distance_to_closest_record(
    train: ArrayLike, holdout: ArrayLike, synthetic: ArrayLike, *, draws: int = 500, seed: int = 0
) -> Share:
    """Compare the distance to the closest train record with that to the closest hold-out record.

    Parameters
    ----------
    train, holdout : array_like of float32, shape (n, d)
        Encoded real rows, as many of the one as of the other.
    synthetic : array_like of float32, shape (m, d)
        Encoded synthetic rows.
    draws, seed
        As of :func:`closer_to_train`, which does the counting.

    Returns
    -------
    Share
        Share of rows that are nearer to train; .5 is ideal.
    """
    a, b = np.asarray(train), np.asarray(holdout)
    if len(a) != len(b):
        raise DataError(
            f"train has {len(a)} rows and hold-out {len(b)}; draw equally many, "
            "or the larger one is nearer by chance."
        )
    to_train, to_holdout = (tuple(v[:, 0] for v in nearest(synthetic, real)) for real in (a, b))
    records = nearest_records(*to_train, *to_holdout)
    return closer_to_train(to_train[0], to_holdout[0], records=records, draws=draws, seed=seed)


def nearest_neighbour_ratio(distances: ArrayLike) -> Floats:
    """Nearest-neighbour distance ratio: distance to the nearest over that to the second nearest record.

    Parameters
    ----------
    distances : array_like of float, shape (m, k), k >= 2
        Ascending distances as of :func:`fairsynth.metrics.manifold.nearest`.

    Returns
    -------
    ndarray of float64, shape (m,)
        In [0, 1]; near 0 the row sits on one single person. 0/0 (a row that two people share) is 1.
    """
    d = np.asarray(distances, dtype=np.float64)
    if d.ndim != 2 or d.shape[1] < 2:
        raise DataError(f"distances has shape {d.shape}; the ratio needs the two nearest records.")
    return np.divide(d[:, 0], d[:, 1], out=np.ones(len(d)), where=d[:, 1] > 0)


def copies(rows: ArrayLike, reference: ArrayLike) -> float:
    """Share of rows that occur exactly in `reference`.

    Parameters
    ----------
    rows, reference : array_like of int, shapes (m,) and (n,)
        One key for each row, equal for equal rows.
    """
    keys = np.asarray(rows)
    if len(keys) == 0:
        raise DataError("There is no row to look for.")
    return float(np.isin(keys, np.asarray(reference)).mean())


def near_copies(distances: ArrayLike, reference_distances: ArrayLike, *, quantile: float = 0.01) -> float:
    """Share of rows nearer to a train row than nearly all people are to each other (ours).

    Parameters
    ----------
    distances : array_like of float, shape (m,)
        Distances of synthetic rows to their closest train row.
    reference_distances : array_like of float, shape (n,)
        Distances of hold-out rows to their closest train row.
    quantile : float, default=0.01
        A near copy is nearer than this quantile of `reference_distances`, or an exact copy.
    """
    limit = float(np.quantile(np.asarray(reference_distances), quantile))
    return float((np.asarray(distances) <= limit).mean())


@dataclass(frozen=True)
class MembershipAttack:
    """What an attacker with the synthetic table learns about who was in the train rows.

    Attributes
    ----------
    auc : float
        Area under the attacker's ROC curve; .5 is guessing.
    low, high : float
        95 % interval of `auc` over bootstrap samples of the people attacked.
    tpr_at_1_percent : float
        Share of members recognised when 1 % of the non-members are accused wrongly; .01 is guessing.
    """

    auc: float
    low: float
    high: float
    tpr_at_1_percent: float


def membership_inference(
    members: ArrayLike,
    nonmembers: ArrayLike,
    synthetic: ArrayLike,
    reference: ArrayLike,
    *,
    k: int = 1,
    draws: int = 200,
    seed: int = 0,
) -> MembershipAttack:
    """Attack membership by a ratio of densities (DOMIAS; van Breugel et al. 2023, eq. 2).

    The score of a person x is ``p_synthetic(x) / p_reference(x)``: where the generator puts more mass than
    the population does, it has overfitted. Densities are nearest-neighbour estimates, so the score is
    ``d_k(x, reference) / d_k(x, synthetic)`` up to a monotone map (ours; the paper uses a kernel estimate
    or a flow).

    Parameters
    ----------
    members, nonmembers : array_like of float32, shapes (n, d) and (m, d)
        Encoded people of the train rows, and people who were not.
    synthetic, reference : array_like of float32, shapes (p, d) and (q, d)
        The released rows, and real rows that are neither members nor attacked; p = q is best.
    k : int, default=1
        Neighbour whose distance gives the density; 1 is the sharpest against copying.
    draws : int, default=200
        Bootstrap samples.
    seed : int, default=0
        Of the bootstrap.

    Returns
    -------
    MembershipAttack
        AUC with interval, and the true positive rate at 1 % false positives.
    """
    people = np.concatenate([np.asarray(members, np.float32), np.asarray(nonmembers, np.float32)])
    label = np.repeat([True, False], [len(members), len(nonmembers)])  # type: ignore[arg-type]
    if label.all() or not label.any():
        raise DataError("A membership attack needs members and non-members.")
    to_synthetic = nearest(people, synthetic, k)[0][:, -1]
    to_reference = nearest(people, reference, k)[0][:, -1]
    positive = np.concatenate([to_synthetic, to_reference])
    positive = positive[positive > 0]
    # Twice at distance 0 is no evidence either way; the floor keeps 0/0 out and keeps the order.
    floor = float(positive.min()) / 2 if len(positive) else 1.0
    score = np.log(np.maximum(to_reference, floor)) - np.log(np.maximum(to_synthetic, floor))
    rng = np.random.default_rng(seed)
    whole = float(bootstrap_auroc(label, score, np.ones((1, len(label))))[0])
    sampled = bootstrap_auroc(label, score, rng.poisson(1.0, size=(draws, len(label))).astype(np.float64))
    low, high = np.nanquantile(sampled, [0.025, 0.975])
    limit = np.quantile(score[~label], 0.99, method="higher")
    return MembershipAttack(whole, float(low), float(high), float((score[label] > limit).mean()))
