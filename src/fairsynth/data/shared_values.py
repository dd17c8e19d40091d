"""Values that more people share than chance explains: wages of a tariff, a threshold of a law, codes among numbers.

Such a value is a state of its own, or the interval around it would give it away to numbers nobody has. How many people
chance alone would put on a value depends on its interval, and, in columns of round numbers, on how much more often
numbers that are as round come than others. Ours.
"""

from __future__ import annotations

import numpy as np
from scipy.special import pdtrc

from fairsynth.data.roundness import around

#: How seldom chance has any value of a column so often as one that counts as shared.
CHANCE = 1e-4


def beyond_chance(
    counts: np.ndarray, places: np.ndarray, rows: np.ndarray, room: np.ndarray, n_distinct: int
) -> np.ndarray:
    """Say of which values chance is no explanation.

    Parameters
    ----------
    counts : np.ndarray
        Rows that share each value ``(values,)``.
    places : np.ndarray
        Interval of each value times the number of kinds, plus how round it is, integers ``(values,)``.
    rows : np.ndarray
        All rows by interval and kind, ``(intervals, kinds)``.
    room : np.ndarray
        How many values there could be of each kind in each interval, ``(intervals, kinds)``.
    n_distinct : int
        Values of the column that are told apart: so many could have been looked at.

    Returns
    -------
    np.ndarray
        bool ``(values,)``.
    """
    n_kinds = rows.shape[1]
    interval, kind = places // n_kinds, places % n_kinds
    # Who shares the value that is asked about says nothing of the others.
    others = rows.sum(1)[interval] - counts
    near_rows, near_room = around(rows)[interval], around(room)[interval]
    own = np.arange(len(counts)), kind
    left = room[interval].astype(np.float64)
    near_rows[own] -= counts
    near_room[own] -= 1
    left[own] -= 1
    popular = np.maximum(near_rows, 0) / np.maximum(near_room, 1)
    weight = (popular * np.maximum(left, 0)).sum(1)
    # Where nothing else is there, or as round, nobody knows how often chance puts people on such a value.
    known = (weight > 0) & (near_room[own] > 0)
    expected = np.where(known, others * popular[own] / np.where(known, weight, 1.0), np.inf)
    return np.asarray(pdtrc(counts - 1, expected) < CHANCE / n_distinct)
