"""Leaning: to which end of its interval a number tends.

Drawn evenly between two quantiles, numbers put people where there are none wherever the density falls: the last
interval of wealth may reach from 2 million to 20, and of twenty people in it nineteen have less than 5. So an interval
remembers where its values lie on average, and a number is drawn from the law of largest entropy that has this mean: an
exponential one, cut off at both ends (Jaynes, 1957). What chance explains of a mean is taken off. Ours.
"""

from __future__ import annotations

import numpy as np

#: People that an interval has to hold for its mean to be told.
MIN_ROWS = 10
#: By how many standard errors a mean has to be off the middle, before anything is told of it.
CLEAR = 2.0
#: The farthest that a mean may lie from an end is told of: nearer ones count as this.
NEAREST = 0.005
#: Decimals of a mean.
DECIMALS = 3


def learn_means(places: np.ndarray, intervals: np.ndarray, n_intervals: int) -> tuple[float, ...]:
    """Learn where the values of each interval lie on average.

    Parameters
    ----------
    places : np.ndarray
        Where each value lies in its interval, from 0 to 1, float64 ``(n,)``.
    intervals : np.ndarray
        Which one that is, integers ``(n,)``.
    n_intervals : int
        How many there are.

    Returns
    -------
    tuple of float
        From 0 to 1, one for each interval, 0.5 where nothing is to be told; empty if that is so everywhere.
    """
    rows = np.bincount(intervals, minlength=n_intervals)
    means = np.bincount(intervals, weights=places, minlength=n_intervals) / np.maximum(rows, 1)
    off = np.where(rows >= MIN_ROWS, means - 0.5, 0.0)
    # Of an even spread the mean has a variance of 1 / 12 a row.
    surprise = off**2 * 12 * rows
    off *= np.maximum(1 - CLEAR**2 / np.maximum(surprise, 1e-12), 0.0)
    told = np.round(np.clip(0.5 + off, NEAREST, 1 - NEAREST), DECIMALS)
    return tuple(told.tolist()) if (told != 0.5).any() else ()


def rates_of(means: np.ndarray) -> np.ndarray:
    """Return the rates of exponential laws on 0 to 1 that have these means ``(n,)``; from the middle up positive."""
    aim = np.maximum(means, 1 - means)
    low, high = np.zeros_like(aim), np.full_like(aim, 2 / NEAREST)
    for _ in range(60):
        middle = (low + high) / 2
        below = _mean(middle) < aim
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    found = np.where(aim > 0.5, (low + high) / 2, 0.0)
    return np.asarray(np.where(means < 0.5, -found, found))


def _mean(rate: np.ndarray) -> np.ndarray:
    small = rate < 1e-3
    safe = np.where(small, 1.0, rate)
    return np.where(small, 0.5 + rate / 12, 1 / -np.expm1(-safe) - 1 / safe)


def leaned(chance: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Turn numbers from an even law on 0 to 1 ``(n,)`` into ones from exponential laws of these rates ``(n,)``."""
    some = np.flatnonzero(rates)
    if not len(some):
        return chance
    rate, upwards = np.abs(rates[some]), rates[some] > 0
    share = np.where(upwards, chance[some], 1 - chance[some])
    found = 1 + np.log(share * -np.expm1(-rate) + np.exp(-rate)) / rate
    # Rounding must not leave the interval, whose upper end is not part of it.
    chance[some] = np.clip(np.where(upwards, found, 1 - found), 0.0, 1 - 1e-12)
    return chance
