"""States put together into few bins: what a tree splits on, and what it tells apart in the column it explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairsynth.data.level_states import LevelStates
from fairsynth.data.number_states import NumberStates

#: Bins of a number, and of a categorical column; missing has one of its own.
NUMBER_BINS = 32
LEVEL_BINS = 48
#: How often the bins at both ends of a number are halved: where a few have nearly all, they make what columns have to
#: do with each other.
TAIL_HALVES = 3
#: Of the bins of a crowded categorical column, so many hold its most frequent levels alone.
LONE_LEVELS = 36
#: Rows at which a level's own profile counts as much as everyone's.
SHRINK_ROWS = 20.0


@dataclass(frozen=True)
class Bins:
    """Which bin each state of a column belongs to.

    Attributes
    ----------
    of_state : np.ndarray
        int64 ``(states,)``, from 0 up.
    size : int
        Number of bins.
    ordered : bool
        Whether neighbouring bins are neighbouring values.
    """

    of_state: np.ndarray
    size: int
    ordered: bool

    def __post_init__(self) -> None:
        """Refuse what is no map from states to bins, as in a damaged file."""
        ok = (
            self.of_state.ndim == 1
            and self.of_state.dtype == np.int64
            and len(self.of_state) > 0
            and self.of_state.min() >= 0
            and self.of_state.max() + 1 == self.size
        )
        if not ok:
            raise ValueError("the bins of a column do not fit its states")


def learn_bins(states: LevelStates | NumberStates, column: np.ndarray, cells: np.ndarray) -> Bins:
    """Put the states of a column into bins.

    Parameters
    ----------
    states : LevelStates or NumberStates
        Of the column.
    column : np.ndarray
        State of every row, integers ``(n,)``.
    cells : np.ndarray
        Cell of label and group of every row, integers ``(n,)``: levels that are too many to be told apart lie in one
        bin with levels of a similar profile over these.
    """
    counts = np.bincount(column, minlength=states.size).astype(np.float64)
    if isinstance(states, NumberStates):
        return _number_bins(states, counts)
    present = states.size - states.missing
    of_state = np.arange(states.size, dtype=np.int64)
    size = states.size
    if present > LEVEL_BINS:
        by_count = np.argsort(-counts[:present], kind="stable")
        rest = by_count[LONE_LEVELS:]
        of_state[by_count[:LONE_LEVELS]] = np.arange(LONE_LEVELS)
        rest = rest[np.argsort(_profile_axis(column, cells, states.size)[rest], kind="stable")]
        of_state[rest] = LONE_LEVELS + equal_parts(counts[rest] + 1e-3, LEVEL_BINS - LONE_LEVELS)
        size = int(of_state[:present].max()) + 1
        if states.missing:
            of_state[-1], size = size, size + 1
    return Bins(of_state, size, ordered=False)


def _number_bins(states: NumberStates, counts: np.ndarray) -> Bins:
    present = states.size - states.missing
    order = np.argsort(states.places()[:present], kind="stable")
    of_state = np.empty(states.size, dtype=np.int64)
    of_state[order] = number_parts(counts[order] + 1e-3)
    size = int(of_state[:present].max()) + 1
    if states.missing:
        of_state[-1], size = size, size + 1
    return Bins(of_state, size, ordered=True)


def number_parts(weights: np.ndarray) -> np.ndarray:
    """Cut a line of weights into stretches of about equal weight, and lesser ones at both ends, int64 ``(n,)``."""
    part = equal_parts(weights, NUMBER_BINS)
    if len(weights) <= NUMBER_BINS:
        return part
    fine = np.zeros(len(weights), dtype=np.int64)
    for end in (0, int(part[-1])):
        own = part == end
        middle = np.cumsum(weights[own]) - weights[own] / 2
        share = middle / weights[own].sum()
        beyond = share if end == 0 else 1 - share  # how much of the part lies farther out
        halved = np.minimum(np.floor(-np.log2(np.maximum(beyond, 1e-12))), TAIL_HALVES).astype(np.int64)
        fine[own] = -halved if end == 0 else halved
    return np.unique(part * (2 * TAIL_HALVES + 1) + fine, return_inverse=True)[1].reshape(-1).astype(np.int64)


def equal_parts(weights: np.ndarray, parts: int) -> np.ndarray:
    """Cut a line of weights into at most `parts` stretches of about equal weight, int64 ``(n,)``, none empty.

    What weighs more than a part has one for itself, and the others are shared by the rest: else a column that is 0
    for nineteen people in twenty would leave a single bin to all other values.
    """
    if len(weights) <= parts:
        return np.arange(len(weights), dtype=np.int64)
    heavy = np.zeros(len(weights), dtype=bool)
    while True:
        room = parts - 2 * int(heavy.sum())  # a heavy one may also part its neighbours
        more = ~heavy & (weights * max(room, 1) > weights[~heavy].sum())
        if not more.any() or room - 2 * int(more.sum()) < 2:
            break
        heavy |= more
    light = np.where(heavy, 0.0, weights)
    middle = np.cumsum(light) - light / 2
    share = (middle / max(light.sum(), 1e-300) * max(room, 1)).astype(np.int64)
    starts = np.ones(len(weights), dtype=bool)
    starts[1:] = (np.diff(share) > 0) | heavy[1:] | heavy[:-1]
    part = np.cumsum(starts) - 1
    return np.minimum(part, parts - 1).astype(np.int64)


def _profile_axis(column: np.ndarray, cells: np.ndarray, size: int) -> np.ndarray:
    """Return the first axis of a correspondence analysis of states against cells, float64 ``(size,)``."""
    n_cells = int(cells.max()) + 1
    table = np.bincount(column * n_cells + cells, minlength=size * n_cells).reshape(size, n_cells)
    rows, overall = table.sum(1, keepdims=True), table.sum(0) / table.sum()
    profile = (table - rows * overall) / (rows + SHRINK_ROWS) / np.sqrt(overall + 1e-12)
    axis = np.linalg.svd(profile * np.sqrt(rows + 1.0), full_matrices=False)[2][0]
    axis = axis * (1.0 if axis[np.argmax(np.abs(axis))] > 0 else -1.0)
    return np.asarray(profile @ axis, dtype=np.float64)
