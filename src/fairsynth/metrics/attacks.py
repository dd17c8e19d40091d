"""Singling out, linkability and inference: the three risks of European data protection, as attacks.

Rebuilt from Giomi, Boenisch, Wehmeyer and Tasnádi, "A Unified Framework for Quantifying Privacy Risk in
Synthetic Data" (PoPETs 2023), because the authors' package `anonymeter` pins NumPy below 2. The three
follow WP29 Opinion 05/2014.

Every attack is made on train people, and again on hold-out people. What succeeds on people the
generator never saw is knowledge about the population; the *risk* is what succeeds beyond that::

    r(τ) = (τ + z²/2m) / (1 + z²/m)                             Wilson's estimate of a success rate (eq. 3)
    risk = (r(train) - r(holdout)) / (1 - r(holdout))           (eq. 5)

What departs from the package: distances are those of the encoded points given by the caller, not
Gower's; numeric guesses count as right within 5 % of the column's central 90 % range, not of the value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairsynth.errors import DataError, SettingsError
from fairsynth.metrics.manifold import nearest

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_Z = 1.959963984540054


@dataclass(frozen=True)
class Risk:
    """Outcome of an attack.

    Attributes
    ----------
    value : float
        Risk beyond chance; 0 is none, 1 is certain success. Below 0 is chance, and kept as it is.
    low, high : float
        95 % interval.
    success : float
        Share of attacks on train people that succeeded.
    control : float
        The same for hold-out people.
    naive : float
        The same for guesses made without the synthetic rows; above `success` the attack is worse than
        guessing and says nothing of the risk.
    attacks : int
        Number of attacks on train people.
    """

    value: float
    low: float
    high: float
    success: float
    control: float
    naive: float
    attacks: int


def wilson(successes: int, attacks: int) -> tuple[float, float]:
    """Return Wilson's centre and half width of a success rate (eq. 3 and 4), 95 %."""
    if attacks < 1:
        raise DataError("A success rate needs at least one attack.")
    z2 = _Z**2 / attacks
    rate = successes / attacks
    centre = (rate + z2 / 2) / (1 + z2)
    half = _Z / (1 + z2) * np.sqrt(rate * (1 - rate) / attacks + z2 / (4 * attacks))
    return float(centre), float(half)


def risk(success: Bools, control: Bools, naive: Bools) -> Risk:
    """Turn successes on train people, on hold-out people, and of blind guesses, into a risk.

    Parameters
    ----------
    success, control, naive : ndarray of bool, shapes (m,), (k,) and (j,)
        Which attacks succeeded.

    Returns
    -------
    Risk
        With the interval of eq. 5, by error propagation.
    """
    a, da = wilson(int(success.sum()), len(success))
    c, dc = wilson(int(control.sum()), len(control))
    value = (a - c) / (1 - c)
    spread = float(np.hypot(da / (1 - c), dc * (a - 1) / (1 - c) ** 2))
    return Risk(
        value,
        value - spread,
        value + spread,
        float(success.mean()),
        float(control.mean()),
        float(naive.mean()),
        len(success),
    )


# ---------------------------------------------------------------------- singling out
@dataclass(frozen=True)
class _Predicate:
    """One description of a person: columns, and for each an equality or a bound."""

    columns: tuple[int, ...]
    values: tuple[float, ...]
    signs: tuple[int, ...]  # 0: equal (NaN equals NaN); 1: at least; -1: at most

    def matches(self, columns: list[Floats]) -> int:
        """Count the rows that fit, columns given one by one; stops early when none is left."""
        rows: NDArray[np.int64] | None = None
        for c, value, sign in zip(self.columns, self.values, self.signs, strict=True):
            x = columns[c] if rows is None else columns[c][rows]
            if sign > 0:
                fits = x >= value
            elif sign < 0:
                fits = x <= value
            else:
                fits = np.isnan(x) if np.isnan(value) else x == value
            rows = np.flatnonzero(fits) if rows is None else rows[fits]
            if len(rows) == 0:
                return 0
        return 0 if rows is None else len(rows)


def singling_out(
    train: ArrayLike,
    holdout: ArrayLike,
    synthetic: ArrayLike,
    *,
    categorical: Sequence[int] = (),
    attacks: int = 1000,
    columns: tuple[int, int] = (3, 8),
    seed: int = 0,
) -> Risk:
    """Guess descriptions that fit exactly one person (sec. 4.1, the multivariate attack).

    The attacker takes a synthetic row and some of its attributes at random, and describes it: the same
    category, or a number at least (at most) as large if it lies above (below) the median.
    Descriptions that fit exactly one synthetic row are tried on the real people; one that fits exactly
    one of them has singled that person out. Train and hold-out are cut to the same size, since the
    chance of being alone falls with their number.

    Parameters
    ----------
    train, holdout, synthetic : array_like of float, shapes (n, d), (m, d) and (p, d)
        Rows; NaN is missing, categorical columns hold codes.
    categorical : sequence of int
        Columns that hold codes.
    attacks : int, default=1000
        Descriptions that are tried; fewer if not so many can be found.
    columns : tuple of int, default=(3, 8)
        Fewest and most attributes in a description; drawn anew for each, since few seldom suffice and
        many never hit.
    seed : int, default=0
        Of the attacker's choices.

    Returns
    -------
    Risk
        Against blind descriptions made from values drawn independently of each other.

    Raises
    ------
    DataError
        If no description fits exactly one synthetic row.
    """
    real, other, fake = (np.asarray(x, dtype=np.float64) for x in (train, holdout, synthetic))
    if not real.shape[1] == other.shape[1] == fake.shape[1]:
        raise DataError("train, hold-out and synthetic rows must have the same columns.")
    rng = np.random.default_rng(seed)
    n = min(len(real), len(other))
    people = [np.ascontiguousarray(c) for c in real[rng.permutation(len(real))[:n]].T]
    others = [np.ascontiguousarray(c) for c in other[rng.permutation(len(other))[:n]].T]
    own = [np.ascontiguousarray(c) for c in fake.T]
    is_code = np.zeros(fake.shape[1], dtype=bool)
    is_code[list(categorical)] = True
    middle = np.array([0.0 if np.isnan(c).all() else np.nanmedian(c) for c in own])
    fewest, most = (min(c, fake.shape[1]) for c in columns)

    def describe(row: Floats, chosen: NDArray[np.int64]) -> _Predicate:
        values = row[chosen]
        signs = np.where(is_code[chosen] | np.isnan(values), 0, np.where(values > middle[chosen], 1, -1))
        return _Predicate(tuple(chosen.tolist()), tuple(values.tolist()), tuple(signs.tolist()))

    found: dict[_Predicate, None] = {}
    blind: list[_Predicate] = []
    for _ in range(10 * attacks):
        chosen = rng.choice(fake.shape[1], size=rng.integers(fewest, most + 1), replace=False)
        predicate = describe(fake[rng.integers(len(fake))], chosen)
        if predicate not in found and predicate.matches(own) == 1:
            found[predicate] = None
        if len(blind) < attacks:
            mixed = fake[rng.integers(len(fake), size=fake.shape[1]), np.arange(fake.shape[1])]
            blind.append(describe(mixed, chosen))
        if len(found) == attacks:
            break
    if not found:
        raise DataError(
            "No description fits exactly one synthetic row, so nobody can be singled out with them."
        )
    tried = list(found)
    return risk(
        np.array([p.matches(people) == 1 for p in tried]),
        np.array([p.matches(others) == 1 for p in tried]),
        np.array([p.matches(people) == 1 for p in blind]),
    )


# ---------------------------------------------------------------------- linkability
def linkability(
    train: Mapping[str, ArrayLike],
    holdout: Mapping[str, ArrayLike],
    synthetic: Mapping[str, ArrayLike],
    *,
    neighbours: int = 1,
    attacks: int = 1000,
    seed: int = 0,
) -> Risk:
    """Link two halves of a person's record through the synthetic rows (sec. 4.2).

    Two parties hold different attributes of the same people. The attacker looks up the nearest synthetic
    rows of a person by the one half, and by the other; if a synthetic row is among both, the halves
    are linked.

    Parameters
    ----------
    train, holdout, synthetic : mapping of two names to array_like of float32, each (rows, coordinates)
        The two halves, encoded; the same two names everywhere.
    neighbours : int, default=1
        Synthetic rows that are looked at in each half.
    attacks : int, default=1000
        People attacked.
    seed : int, default=0
        Of the choice of people.

    Returns
    -------
    Risk
        Against links drawn at random.
    """
    if len(synthetic) != 2 or set(train) != set(synthetic) or set(holdout) != set(synthetic):
        raise SettingsError("Linkability needs the same two halves of the attributes on all sides.")
    rng = np.random.default_rng(seed)
    one, two = (np.asarray(synthetic[name], dtype=np.float32) for name in synthetic)
    k = min(neighbours, len(one))

    def linked(people: Mapping[str, ArrayLike]) -> Bools:
        halves = [np.asarray(people[name], dtype=np.float32) for name in synthetic]
        chosen = rng.permutation(len(halves[0]))[:attacks]
        found = [nearest(half[chosen], own, k)[1] for half, own in zip(halves, (one, two), strict=True)]
        return np.asarray((found[0][:, :, None] == found[1][:, None, :]).any(axis=(1, 2)))

    success = linked(train)
    draws = [rng.integers(len(one), size=(len(success), k)) for _ in range(2)]
    naive = (draws[0][:, :, None] == draws[1][:, None, :]).any(axis=(1, 2))
    return risk(success, linked(holdout), np.asarray(naive))


# ---------------------------------------------------------------------- inference
@dataclass(frozen=True)
class Guesses:
    """Which guesses of a hidden attribute were right: of train people, of hold-out people, blind ones."""

    success: Bools
    control: Bools
    naive: Bools


def infer(
    train: ArrayLike,
    holdout: ArrayLike,
    synthetic: ArrayLike,
    *,
    secret_train: ArrayLike,
    secret_holdout: ArrayLike,
    secret_synthetic: ArrayLike,
    tolerance: float = 0.0,
    attacks: int = 1000,
    seed: int = 0,
) -> Guesses:
    """Guess a hidden attribute from the nearest synthetic row (sec. 4.3).

    Parameters
    ----------
    train, holdout, synthetic : array_like of float32, shapes (n, d), (m, d) and (p, d)
        What the attacker knows of the people, and the same of the synthetic rows; encoded.
    secret_train, secret_holdout, secret_synthetic : array_like of float, shapes (n,), (m,) and (p,)
        The hidden attribute: codes or numbers; NaN is missing, and is a guess like any other.
    tolerance : float, default=0.0
        How far a right guess may be off; 0 for codes.
    attacks : int, default=1000
        People attacked.
    seed : int, default=0
        Of the choice of people.

    Returns
    -------
    Guesses
        For :func:`risk`; blind ones are drawn from the synthetic column. If the column says the same
        of nearly everybody, hold-out people are guessed as well as train people, and there is no risk.
    """
    rng = np.random.default_rng(seed)
    fake = np.asarray(synthetic, dtype=np.float32)
    answers = np.asarray(secret_synthetic, dtype=np.float64)

    def right(guess: Floats, truth: Floats) -> Bools:
        return np.asarray((np.abs(guess - truth) <= tolerance) | (np.isnan(guess) & np.isnan(truth)))

    def attack(known: ArrayLike, secret: ArrayLike) -> tuple[Bools, Floats]:
        points, truth = np.asarray(known, dtype=np.float32), np.asarray(secret, dtype=np.float64)
        chosen = rng.permutation(len(points))[:attacks]
        match = nearest(points[chosen], fake)[1][:, 0]
        return right(answers[match], truth[chosen]), truth[chosen]

    success, truth = attack(train, secret_train)
    control, _ = attack(holdout, secret_holdout)
    return Guesses(success, control, right(answers[rng.integers(len(answers), size=len(truth))], truth))
