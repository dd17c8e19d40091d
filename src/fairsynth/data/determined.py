"""Columns that another one decides: the name of a code, the county of a city.

A tree that draws a name given its code has to part hundreds of levels by cuts of two, and of 300 codes a tenth was
drawn with another one's name. So where a column of many values decides another one, which value goes with which is
remembered of all values that at least `MIN_SHARED` rows have, and drawn rows keep to it. Ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairsynth.data.level_states import LevelStates
from fairsynth.data.number_states import NumberStates
from fairsynth.data.roundness import MIN_SHARED
from fairsynth.data.schema import Schema

#: Values above which what a column decides is remembered; of fewer, trees know it.
FEW_VALUES = 16
#: Share of the rows that may contradict it.
BROKEN = 0.001
#: Rows that are looked at first, and share of them that may contradict it.
FIRST_ROWS = 2_000
FIRST_BROKEN = 0.05
#: Rows that would contradict it by chance, at least.
MIN_EXPECTED = 20


@dataclass(frozen=True)
class Told:
    """What decides a column, and how.

    Attributes
    ----------
    by : str
        The column that decides.
    states : tuple of int
        For each of its states that of this column; -1 where nothing is known.
    """

    by: str
    states: tuple[int, ...]


def find_told(
    schema: Schema,
    parts: Sequence[LevelStates | NumberStates],
    states: np.ndarray,
    apart: Collection[str],
    of: Mapping[str, Collection[str]] | None = None,
    nearest: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Told]:
    """Find the columns that others decide.

    Parameters
    ----------
    schema : Schema
        Of the columns.
    parts : sequence of LevelStates or NumberStates
        Of every column.
    states : np.ndarray
        Of all rows, integers ``(n, columns)``.
    apart : collection of str
        Columns that no other decides, besides the target, the domain and sensitive ones.
    of : mapping, optional
        Columns that others are computed from, by these; none of them is decided by what is computed from it.
    nearest : mapping, optional
        Column of codes → rows whose own code is too rare to be a state, so that they count as of the nearest one, bool
        ``(n,)``: what goes with theirs says nothing of that.

    Returns
    -------
    dict
        Column → what decides it: no column that is decided itself.
    """
    kept, computed = {schema.target, schema.domain, *schema.sensitive}, of or {}
    sharp = [_sharp(part) for part in parts]
    counts = [np.bincount(states[:, j], minlength=part.size) for j, part in enumerate(parts)]
    known = [(count >= MIN_SHARED) & own for count, own in zip(counts, sharp, strict=True)]
    found: dict[str, Told] = {}
    by_size = sorted(range(len(parts)), key=lambda j: -int(known[j].sum()))
    sources = [j for j in by_size if known[j].sum() > FEW_VALUES and parts[j].name not in kept]
    for source in sources:
        if parts[source].name in found:
            continue
        own_code = ~nearest[parts[source].name] if nearest and parts[source].name in nearest else slice(None)
        rows = states[own_code]
        for j in _likely(rows, source, known[source]):
            part = parts[j]
            if j == source or part.name in {*kept, *apart, *found} or known[j].sum() > known[source].sum():
                continue
            if any(own.by == part.name for own in found.values()):
                continue
            if part.name in computed.get(parts[source].name, ()):
                continue
            told = _told(rows[:, source], rows[:, j], known[source], part.size)
            if told is not None:
                usable = (told >= 0) & sharp[j][np.maximum(told, 0)]
                found[part.name] = Told(parts[source].name, tuple(np.where(usable, told, -1).tolist()))
    return found


def _likely(states: np.ndarray, source: int, known: np.ndarray) -> list[int]:
    """Return the columns that a look at some rows, of all columns at once, does not rule out as decided by another."""
    some = states[:: max(1, len(states) // FIRST_ROWS)]
    some = some[known[some[:, source]]]
    _, first, which = np.unique(some[:, source], return_index=True, return_inverse=True)
    odd = (some != some[first][which.reshape(-1)]).mean(0) if len(some) else np.zeros(states.shape[1])
    return np.flatnonzero(odd <= FIRST_BROKEN).tolist()


def _sharp(part: LevelStates | NumberStates) -> np.ndarray:
    """Return which states stand for one value, bool ``(size,)``."""
    sharp = np.ones(part.size, dtype=bool)
    if isinstance(part, NumberStates):
        sharp[len(part.atoms) : len(part.atoms) + part.n_intervals] = False
    elif part.order:
        sharp[np.bincount(part._state_of_level, minlength=part.size) > 1] = False
    return sharp


def _told(source: np.ndarray, own: np.ndarray, known: np.ndarray, size: int) -> np.ndarray | None:
    """Return the state of a column for each state of another one that decides it, int64, -1 for none; or None."""
    rows = known[source]
    if not rows.any():
        return None
    pairs, counts = np.unique(source[rows].astype(np.int64) * size + own[rows], return_counts=True)
    of, state = np.divmod(pairs, size)
    order = np.lexsort([counts, of])
    last = np.append(np.flatnonzero(np.diff(of[order])), len(of) - 1)
    told = np.full(len(known), -1, dtype=np.int64)
    told[of[order][last]] = state[order][last]
    n = int(rows.sum())
    broken = n - int(counts[order][last].sum())
    shares = np.bincount(own[rows], minlength=size) / n
    by_chance = n * (1 - float(shares @ shares))
    return told if broken <= BROKEN * n and by_chance >= MIN_EXPECTED else None


def check_told(told: dict[str, Told], schema: Schema, sizes: dict[str, int], apart: Collection[str]) -> None:
    """Raise ValueError if these columns cannot be decided so."""
    for name, own in told.items():
        if {name, own.by} & {schema.target, *schema.sensitive} or name in apart or own.by not in sizes:
            raise ValueError(f"column {name!r} cannot be decided by {own.by!r}")
        if name == own.by or own.by in told:
            raise ValueError(f"column {name!r} is decided in a circle")
        states = np.asarray(own.states)
        if len(states) != sizes[own.by] or states.min() < -1 or states.max() >= sizes[name]:
            raise ValueError(f"what decides column {name!r} does not fit the states")
