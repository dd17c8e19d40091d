"""Labels that are drawn in balance: each as likely as it should be, and together as even as whole numbers can be.

On a table of some hundred rows the draw of the labels is itself a source of error: a column that has nothing to do
with the label will seem to, by chance, and a later model learns it. The cube method (Deville and Tillé, *Biometrika*
91, 2004; in the fast form of Chauvet and Tillé, *Computational Statistics* 21, 2006) draws labels whose sums over
given variables are nearly those that are expected, while each label keeps its probability. To use it for the labels
of synthetic rows is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg.blas import dger

from fairsynth.cores import one_blas_thread

#: Variables, at most: every row costs the second power of their number.
MOST = 40
#: A probability this near to 0 or 1 is one of them.
EDGE = 1e-9
#: What is left of a row below this, beside its largest term, is rounding.
TINY = 1e-7
#: After so many rows that joined, rounding is cleared away.
REFRESHED = 50
#: Rows that a level needs to be balanced by itself.
FEW = 8


def balanced(shares: np.ndarray, variables: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw 0 or 1 for every row, 1 with its share, in balance over variables.

    Parameters
    ----------
    shares : np.ndarray
        Probabilities, float64 ``(n,)`` from 0 to 1.
    variables : np.ndarray
        What is balanced, float64 ``(n, d)``, the most important first: the last ones are given up first, when too few
        rows are left to serve all.
    rng : np.random.Generator
        Order of the rows, and chance.

    Returns
    -------
    np.ndarray
        int64 ``(n,)``. ``variables.T @ (drawn - shares)`` is as small as what at most ``d`` rows can make it.
    """
    with one_blas_thread():  # threads only get into each other's way in systems this small
        return _balanced(shares, variables, rng)


def _balanced(shares: np.ndarray, variables: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    now = shares.astype(np.float64)
    open_rows = rng.permutation(np.flatnonzero((now > EDGE) & (now < 1 - EDGE)))
    window = _flown(now, variables, open_rows, rng)
    while len(window):  # what is left cannot serve all variables
        served = min(len(window) - 1, variables.shape[1])
        if served == 0:
            now[window] = rng.random(len(window)) < now[window]
            break
        direction = _without_effect(variables[window, :served].T)
        direction[np.abs(direction) <= EDGE] = 0.0
        with np.errstate(divide="ignore"):
            now[window] += _step(now[window], direction, rng) * direction
        window = window[_open(now[window])]
    return (now > 0.5).astype(np.int64)


def _flown(
    now: np.ndarray, variables: np.ndarray, open_rows: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Settle rows one after the other, in `now`, and return those that are left open.

    Rows whose variables do not depend on each other are held as a basis. A new row either belongs to none of them, and
    joins; or it is a sum of them, and so tells a direction in which no variable changes, along which they go until one
    of them is settled. What a row is in terms of the basis is kept up to date as the simplex method does, in the second
    power of the number of variables instead of the third, and rows of which a variable is never seen cost nothing.
    """
    size = variables.shape[1]
    # Of the basis, one a line; and from variables to its terms, in the order of columns, which BLAS changes in place.
    vectors, inverse = np.eye(size), np.eye(size, order="F")
    # The last place is that of the new row.
    rows, own = np.zeros(size + 1, dtype=np.int64), np.full(size + 1, 0.5)
    held, terms = np.zeros(size + 1, dtype=bool), np.zeros(size + 1)
    joined = 0
    with np.errstate(divide="ignore"):  # who does not move has no end of room
        for row in open_rows:
            np.dot(inverse, variables[row], out=terms[:size])
            terms[size] = -1.0
            weights = np.abs(terms)
            negligible = TINY * weights[weights.argmax()]
            terms[weights <= negligible] = 0.0
            rows[size], own[size], held[size] = row, now[row], True
            while held[size]:
                outside = weights * ~held
                place = outside.argmax()
                if outside[place] > negligible:
                    vectors[place], rows[place], own[place], held[place] = (
                        variables[row],
                        row,
                        own[size],
                        True,
                    )
                    joined += 1
                    if joined % REFRESHED:
                        line = inverse[place] / terms[place]
                        inverse = dger(-1.0, terms[:size], line, a=inverse, overwrite_a=1)
                        inverse[place] = line
                    else:
                        inverse = np.asfortranarray(np.linalg.inv(vectors.T))
                    break
                direction = terms * held
                own += _step(own, direction, rng) * direction
                settled = held & ~_open(own)
                now[rows[settled]], own[settled] = own[settled], 0.5
                held &= ~settled
    held[size] = False
    now[rows[held]] = own[held]
    return rows[held]


def _step(own: np.ndarray, direction: np.ndarray, rng: np.random.Generator) -> float:
    """Return how far probabilities ``(k,)`` go along a direction until one is settled: ahead or back, without bias."""
    room, pace = np.where(direction > 0, 1 - own, own), np.abs(direction)
    ahead, back = room / pace, (1 - room) / pace
    up, down = ahead[ahead.argmin()], back[back.argmin()]
    return float(up if rng.random() * (up + down) < down else -down)


def _open(own: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(own - 0.5) < 0.5 - EDGE)


def _without_effect(matrix: np.ndarray) -> np.ndarray:
    """Return a direction ``(k,)`` of length 1 that a matrix of fewer than k lines sends to 0."""
    if len(matrix) + 1 == matrix.shape[1]:  # the usual case, ten times as fast
        try:
            rest = np.linalg.solve(matrix[:, 1:], -matrix[:, 0])
        except np.linalg.LinAlgError:
            rest = np.zeros(0)
        length = np.sqrt(1.0 + rest @ rest)
        if rest.size and np.isfinite(length):
            direction = np.concatenate([[1.0], rest]) / length
            if np.abs(matrix @ direction).max() < EDGE * np.abs(matrix).max():
                return direction
    return np.asarray(np.linalg.svd(matrix)[2][-1])


def variables_of(
    shares: np.ndarray, groups: np.ndarray, lines: Sequence[np.ndarray], ordered: Sequence[bool]
) -> np.ndarray:
    """Return what labels are balanced over: groups, the log odds of the shares, and all columns.

    Parameters
    ----------
    shares : np.ndarray
        float64 ``(n,)``.
    groups : np.ndarray
        int64 ``(n,)``.
    lines : sequence of np.ndarray
        Bins of each column, int64 ``(n,)``.
    ordered : sequence of bool
        Whether neighbouring bins are neighbouring values: these count by their place, others by level.

    Returns
    -------
    np.ndarray
        float64 ``(n, d)``, `MOST` columns at most: of many, the principal components that vary most.
    """
    certain = np.clip(shares, 1e-6, 1 - 1e-6)
    first = np.concatenate([_levels(groups, 1), np.log(certain / (1 - certain))[:, None]], axis=1)[:, :MOST]
    columns = [np.zeros((len(shares), 0))]
    for line, places in zip(lines, ordered, strict=True):
        if places:
            counts = np.bincount(line)
            place = (np.cumsum(counts) - counts / 2) / len(line) - 0.5
            columns.append(place[line][:, None])
        else:
            levels = _levels(line, FEW)
            columns.append(levels[:, : max(levels.shape[1] - 1, 1)])  # the last follows from the others
    rest, room = np.concatenate(columns, axis=1), MOST - first.shape[1]
    if rest.shape[1] > room:
        center = rest - rest.mean(0)
        spread, axes = np.linalg.eigh(center.T @ center)
        rest = center @ axes[:, np.argsort(-spread, kind="stable")[:room]]
    return np.concatenate([first, rest], axis=1)


def _levels(line: np.ndarray, few: int) -> np.ndarray:
    counts = np.bincount(line)
    kept = np.flatnonzero(counts >= few)
    return np.asarray((line[:, None] == kept).astype(np.float64))
