"""Derived columns: totals, ratios, years and dates that follow from other columns, found and computed anew.

A total that is not the sum of its parts tells a drawn row from a real one, and makes a colleague who adds up distrust
all others. So columns that follow from others are found when a table is learned: those that are a weighted sum of
some, a product of powers of some (ratios, squares, indices), or the logarithm of one, to the last digit of nearly
all rows; a moment may follow from another one and the time between them. In drawn rows they are computed from what was
drawn for the others.
Ours; the search takes up column after column as matching pursuit does (Pati, Rezaiifar and Krishnaprasad, 1993).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsynth.data.roundness import EXACT
from fairsynth.data.schema import NUMERIC_KINDS, Column, Schema
from fairsynth.data.table import Table

#: Columns that a sum or a product is of, at most.
MOST_SUMMED = 8
MOST_MULTIPLIED = 3
#: Share of the rows that have to follow to the last digit; of rows that do not have the most frequent value, too.
FOLLOW = 0.99
#: Such rows, and different values, that there have to be at least.
MIN_ROWS = 50
MIN_VALUES = 8
#: Rows that a relation is looked for in; it is confirmed by all.
LOOKED_AT = 1_000
#: Without a grid, how far a value may be off, in parts of the largest one: numbers of 32 bits have seven digits.
FLOAT_NOISE = 1e-6
#: A relation of fewer digits is as good as that of most if it is off by no more than so many times as much, or than the
#: last digit of 32 bits.
AS_NEAR = 1.1
LAST_DIGIT = 2.0**-24
#: Grids in steps on which a column may lie more often than it would if it were computed, and by how much of its rows.
ROUND = (5, 10, 50, 100, 500, 1000, 5000)
LOST = 0.05
#: Units of time in microseconds, in which moments count, and what they are called.
TIMES = {604_800e6: "weeks", 86_400e6: "days", 3_600e6: "hours", 60e6: "minutes", 1e6: "seconds"}
#: What a natural logarithm is multiplied by to be one of another base, what that is called, and what is added before.
LOGARITHMS = {1.0: "log", 1 / np.log(10.0): "log10", 1 / np.log(2.0): "log2"}
ADDED = (0.0, 1.0)
#: Powers are multiples of a half, up to this.
LARGEST_POWER = 3.0


class Derived(BaseModel):
    """How a column follows from others.

    Attributes
    ----------
    name : str
        The column.
    form : {"sum", "product", "log"}
        ``constant + Σ weight · column``, ``constant · Π column ** weight``, or ``weight · log(constant + column)``.
    of : tuple of str
        Columns that it follows from, none derived itself.
    weights : tuple of float
        One for each of them.
    constant : float
        As `form` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    form: Literal["sum", "product", "log"]
    of: tuple[str, ...] = Field(min_length=1)
    weights: tuple[float, ...]
    constant: float

    @model_validator(mode="after")
    def _check(self) -> Derived:
        ok = len(self.of) == len(self.weights) == len(set(self.of)) and self.name not in self.of
        ok = ok and (self.form != "log" or (len(self.of) == 1 and self.weights[0] != 0))
        if not ok or not np.isfinite([*self.weights, self.constant]).all():
            raise ValueError(f"column {self.name!r}: what it follows from is not valid")
        return self

    def values(self, sources: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the column before it is rounded, float64 ``(n,)``, given columns it follows from, ``(n,)`` each."""
        start = np.full(len(sources[self.of[0]]), self.constant)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.form == "log":
                start = self.weights[0] * np.log(start + sources[self.of[0]])
            else:
                for name, weight in zip(self.of, self.weights, strict=True):
                    known = sources[name]
                    start = start + weight * known if self.form == "sum" else start * known**weight
        return start

    def solved(self, which: str, known: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return one of the columns that it follows from, before it is rounded, given itself and the others."""
        start, weights = known[self.name], dict(zip(self.of, self.weights, strict=True))
        others = {name: weight for name, weight in weights.items() if name != which}
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.form == "log":
                return np.asarray(np.exp(start / weights[which]) - self.constant)
            if self.form == "sum":
                rest = sum((weight * known[name] for name, weight in others.items()), np.zeros(len(start)))
                return np.asarray((start - self.constant - rest) / weights[which])
            for name, weight in others.items():
                start = start / known[name] ** weight
            return np.asarray((start / self.constant) ** (1 / weights[which]))

    def __str__(self) -> str:
        """Say it as a formula."""
        if self.form == "log":
            named = min(LOGARITHMS, key=lambda weight: abs(weight - abs(self.weights[0])))
            weight = self.weights[0] / named
            inside = self.of[0] if not self.constant else f"{self.of[0]} + {self.constant:g}"
            return f"{'' if weight == 1 else f'{weight:g} · '}{LOGARITHMS[named]}({inside})"
        if self.form == "product":
            powers = [
                name if w == 1 else f"{name}^{w:g}" for name, w in zip(self.of, self.weights, strict=True)
            ]
            return " · ".join(([] if self.constant == 1 else [f"{self.constant:g}"]) + powers)

        def term(name: str, weight: float) -> str:
            if abs(weight) in TIMES and abs(weight) > 1e6:  # a million may be one of anything
                return f"{name} ({TIMES[abs(weight)]})"
            return name if abs(weight) == 1 else f"{abs(weight):g} · {name}"

        terms = "".join(
            f" {'-' if w < 0 else '+'} {term(name, w)}" for name, w in zip(self.of, self.weights, strict=True)
        )
        if self.constant:
            terms += f" {'-' if self.constant < 0 else '+'} {abs(self.constant):g}"
        return terms.removeprefix(" + ").removeprefix(" ")


def as_floats(values: pl.Series) -> np.ndarray:
    """Return numbers, or moments in microseconds, as float64 ``(n,)``; NaN where missing."""
    plain = values.cast(pl.Int64) if values.dtype.is_temporal() else values
    return np.asarray(plain.cast(pl.Float64).fill_null(np.nan).to_numpy())


def on_grid(values: np.ndarray, column: Column, step: float) -> np.ndarray:
    """Return values ``(n,)`` within the column's range, on its grid; what is no number becomes the lower end."""
    low, high = column.bounds
    values = np.clip(np.nan_to_num(values, nan=float(low), posinf=float(high), neginf=float(low)), low, high)
    if not step:
        return values
    # As decoding does: dividing by a power of ten gives the double nearest to the decimal.
    grid = np.round(values / step)
    return np.asarray(grid / round(1 / step) if step < 1 else grid * step)


def slack_of(column: Column, step: float) -> float:
    """Return how far beyond the column's range a computed value may lie and still be at its end.

    Of 32 bits, or cut off in a text, the highest value of people may be lower than what it is computed to be.
    """
    return step / 2 if step else FLOAT_NOISE * max(abs(bound) for bound in column.bounds)


def check_derived(derived: Sequence[Derived], schema: Schema) -> None:
    """Raise ValueError if these columns cannot follow from others in this schema."""
    names = [own.name for own in derived]
    for own in derived:
        known = all(name in schema.names for name in (own.name, *own.of))
        if not known or len(set(names)) < len(names) or set(names) & set(own.of):
            raise ValueError(f"column {own.name!r}: what it follows from does not belong to the columns")
        if {own.name, *own.of} & {schema.target, *schema.sensitive}:
            raise ValueError(f"column {own.name!r}: the target and sensitive columns have no part in this")
        kinds = [schema[name].kind for name in (own.name, *own.of)]
        if any(kind not in (*NUMERIC_KINDS, "datetime") for kind in kinds):
            raise ValueError(f"column {own.name!r}: only numbers and moments follow from others")
        moments = [w for w, kind in zip(own.weights, kinds[1:], strict=True) if kind == "datetime"]
        if (moments or kinds[0] == "datetime") and (
            kinds[0] != "datetime" or own.form != "sum" or moments != [1.0]
        ):
            raise ValueError(
                f"column {own.name!r}: a moment follows from one other by addition, and nothing else does"
            )


def find_derived(table: Table, steps: Mapping[str, float]) -> tuple[Derived, ...]:
    """Find the columns that follow from others.

    Parameters
    ----------
    table : Table
        Rows.
    steps : mapping
        Column → distance of neighbouring values that it can take, 0 for none.

    Returns
    -------
    tuple of Derived
        The target and sensitive columns have no part in it: what a method takes out of a column must not come
        back by what that is computed from.
    """
    schema = table.schema
    apart = {schema.target, *schema.sensitive}
    numbers = [
        c.name
        for c in schema
        if c.kind in (*NUMERIC_KINDS, "datetime") and c.name not in apart and max(map(abs, c.bounds)) < EXACT
    ]
    if len(numbers) < 2 or len(table) < 2 * MIN_ROWS:
        return ()
    search = _Search.of(table, numbers, steps)
    found: dict[str, Derived] = {}
    used: set[str] = set()
    # What is computed mostly is on no grid, and comes after what it is computed from.
    in_turn = sorted(reversed(numbers), key=lambda name: steps[name] > 0)
    # Logarithms come last: who takes them of a column has its square as well, from which it follows.
    for look in (lambda *asked: search.sum_of(*asked) or search.product_of(*asked), search.log_of):
        for name in in_turn:
            own = None if name in used or name in found else look(name, found)
            if own is not None and search.comes_out(own):
                found[name] = own
                used |= set(own.of)
    return tuple(found[name] for name in numbers if name in found)


@dataclass(frozen=True)
class _Search:
    """Where relations are looked for.

    Attributes
    ----------
    values : dict
        Column → numbers, NaN where missing, float64 ``(n,)``.
    schema : Schema
        Of the table.
    steps : mapping
        As of `find_derived`.
    some : np.ndarray
        Of the rows that are looked at first, float64 ``(m, columns)``: of hundreds of columns each is held against all.
    moments : np.ndarray
        Which columns are moments, bool ``(columns,)``.
    """

    values: dict[str, np.ndarray]
    schema: Schema
    steps: Mapping[str, float]
    some: np.ndarray
    moments: np.ndarray

    @classmethod
    def of(cls, table: Table, numbers: list[str], steps: Mapping[str, float]) -> _Search:
        values = {name: as_floats(table.frame[name]) for name in numbers}
        rows = np.random.default_rng(0).permutation(len(table))[:LOOKED_AT]
        some = np.stack([values[name][rows] for name in numbers], axis=1)
        moments = np.array([table.schema[name].kind == "datetime" for name in numbers])
        return cls(values, table.schema, steps, some, moments)

    @cached_property
    def _known(self) -> np.ndarray:
        return np.asarray(np.isfinite(self.some))

    @cached_property
    def _positive(self) -> np.ndarray:
        return np.asarray(self.some > 0)

    def sum_of(self, name: str, besides: Mapping[str, Derived]) -> Derived | None:
        """Return how a column is a sum of others, if it is."""
        asked = self._asked(name, besides, self._known)
        if asked is None:
            return None
        aim, table, sources = asked
        within = self._slack(name)
        for chosen, weights, constant in _pursued(table, aim, MOST_SUMMED, within):
            order = _as_people_write(weights, chosen)
            constant = constant if abs(constant) > within * 1e-3 else 0.0
            found = self._in_few_digits(
                name, "sum", [sources[chosen[k]] for k in order], weights[order], constant
            )
            if found is not None and self._makes_sense(found):
                return found
        return None

    def _makes_sense(self, own: Derived) -> bool:
        """Say whether a moment follows from one other, and does so by addition."""
        if self.schema[own.name].kind != "datetime":
            return True
        moments = [self.schema[name].kind == "datetime" for name in own.of]
        return sum(moments) == 1 and own.weights[moments.index(True)] == 1.0

    def product_of(self, name: str, besides: Mapping[str, Derived]) -> Derived | None:
        """Return how a column is a product of powers of others, if it is."""
        if self.schema[name].kind == "datetime":
            return None
        asked = self._asked(name, besides, self._positive)
        if asked is None:
            return None
        aim, table, sources = asked
        # A number of few steps is mostly rounding, and its logarithm more so.
        large = aim >= np.quantile(aim, 0.5)
        logs, log_aim = np.log(table[large]), np.log(aim[large])
        for chosen, weights, _ in _pursued(logs, log_aim, MOST_MULTIPLIED, 0.0):
            powers = np.round(2 * weights) / 2
            if not powers.all() or (np.abs(powers) > LARGEST_POWER).any():
                continue
            product = np.prod(table[:, chosen] ** powers, axis=1)
            constant = float(aim @ product / (product @ product))
            if np.median(np.abs(constant * product - aim)) > 1.02 * self._slack(name):
                continue
            order = _as_people_write(powers, chosen)
            found = self._in_few_digits(
                name, "product", [sources[chosen[k]] for k in order], powers[order], constant
            )
            if found is not None:
                return found
        return None

    def log_of(self, name: str, besides: Mapping[str, Derived]) -> Derived | None:
        """Return how a column is the logarithm of another one, if it is."""
        asked = None if self.schema[name].kind == "datetime" else self._asked(name, besides, self._known)
        if asked is None:
            return None
        aim, table, sources = asked
        for place, weight, added in product(range(len(sources)), LOGARITHMS, ADDED):
            inside = table[:, place] + added
            if (inside > 0).mean() < FOLLOW:
                continue
            off = np.abs(weight * np.log(np.where(inside > 0, inside, np.nan)) - aim)
            if np.nanmedian(off) <= 1.02 * self._slack(name):
                own = Derived(
                    name=name, form="log", of=(sources[place],), weights=(float(weight),), constant=added
                )
                if self.follows(own):
                    return own
        return None

    def follows(self, own: Derived) -> bool:
        """Say whether nearly all rows follow, and their missing values as well."""
        column, step = self.schema[own.name], self.steps[own.name]
        actual = self.values[own.name]
        gone = np.isnan(np.stack([self.values[name] for name in own.of])).any(0)
        if (gone != np.isnan(actual)).any():
            return False
        # What lies beyond the remembered range counts as its end, here as in all rows that are learned from.
        actual = np.clip(actual[~gone], *column.bounds)
        made = on_grid(own.values({name: self.values[name][~gone] for name in own.of}), column, step)
        agree = np.abs(made - actual) <= (step / 2 if step else self._slack(own.name))
        values, counts = np.unique(actual, return_counts=True)
        other = actual != values[counts.argmax()]
        return bool(
            len(values) >= MIN_VALUES
            and other.sum() >= MIN_ROWS
            and agree.mean() >= FOLLOW
            and agree[other].mean() >= FOLLOW
        )

    def comes_out(self, own: Derived) -> bool:
        """Say whether the column keeps its face if it is computed from columns that are drawn.

        Of an amount that people choose and a ratio that follows, the amount is round, and computed from the ratio it
        would not be. Of a total and its first part, the rest is often exactly nothing, and the difference of two
        drawn numbers hardly ever is. Both shows where the columns that it follows from are shuffled.
        """
        column, step = self.schema[own.name], self.steps[own.name]
        rng, n = np.random.default_rng(0), len(self.values[own.name])
        sources = {name: self.values[name][rng.permutation(n)] for name in own.of}
        known = ~np.isnan(np.stack(list(sources.values()))).any(0)
        made = on_grid(own.values({name: values[known] for name, values in sources.items()}), column, step)
        actual = self.values[own.name][~np.isnan(self.values[own.name])]
        for grid in ROUND if step else ():
            shares = [float((np.mod(np.round(values / step), grid) == 0).mean()) for values in (actual, made)]
            if clearly_more(shares[0], shares[1], n):
                return False
        if own.form == "sum" and min(own.weights) > 0:
            return True  # a total is nothing where all its parts are
        values, counts = np.unique(actual, return_counts=True)
        usual = values[counts.argmax()]
        alike = np.abs(made - usual) <= (step / 2 if step else self._slack(own.name))
        return not clearly_more(float(counts.max() / len(actual)), float(alike.mean()), n)

    def _slack(self, name: str) -> float:
        step = self.steps[name]
        return step / 2 if step else FLOAT_NOISE * float(np.nanmax(np.abs(self.values[name])))

    def _asked(
        self, name: str, besides: Mapping[str, Derived], usable: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, list[str]] | None:
        """Return some rows of the column and of those that can be used in nearly all of them, and the names of these.

        ``(rows,)``, ``(rows, columns)``; None where too little is known.
        """
        names = list(self.values)
        at = names.index(name)
        fine, own = usable[usable[:, at]], self.some[usable[:, at]]
        if len(own) < MIN_ROWS or len(np.unique(own[:, at])) < MIN_VALUES:
            return None
        # The difference of two drawn moments is no length of time that anybody has: only moments follow from them.
        may = (fine.mean(0) >= FOLLOW) & (~self.moments | self.moments[at])
        may[[at, *(names.index(other) for other in besides)]] = False
        rows = own[fine[:, may].all(1)]
        if len(rows) < MIN_ROWS:
            return None
        may[may] = np.ptp(rows[:, may], axis=0) > 0
        if not may.any():
            return None
        return rows[:, at].copy(), rows[:, may], [names[k] for k in np.flatnonzero(may)]

    def _in_few_digits(
        self, name: str, form: Literal["sum", "product"], of: list[str], weights: np.ndarray, constant: float
    ) -> Derived | None:
        """Return the relation of the fewest digits that the rows follow, if any; of moments, in units of time first.

        Where no grid rounds what is computed, what a digit less leaves out would be seen in every row: a mean that was
        taken off has as many digits as there are.
        """
        rounded = [
            ([float(f"{w:.{digits}g}") for w in weights], float(f"{constant:.{digits}g}"))
            for digits in (1, 2, 3, 4, 6, 9, 15)
        ]
        if self.schema[name].kind == "datetime":
            rounded.insert(0, ([_in_time(float(w)) for w in weights], 0.0))
        made = (
            Derived(name=name, form=form, of=tuple(of), weights=tuple(own_weights), constant=own_constant)
            for own_weights, own_constant in rounded
        )
        follow = (own for own in made if self.follows(own))
        if self.steps[name] or self.schema[name].kind == "datetime":
            return next(follow, None)
        found = list(follow)
        off = [self._off(own) for own in found]
        most = (
            max(off[-1] * AS_NEAR, LAST_DIGIT * float(np.nanmax(np.abs(self.values[name])))) if found else 0.0
        )
        return next((own for own, one in zip(found, off, strict=True) if one <= most), None)

    def _off(self, own: Derived) -> float:
        """Return by how much the rows are off in the middle."""
        return float(np.nanmedian(np.abs(own.values(self.values) - self.values[own.name])))


def _in_time(weight: float) -> float:
    """Return the unit of time that is nearest to a weight, or 1 for that of a moment."""
    units = np.array([1.0, *TIMES])
    return float(np.sign(weight) * units[np.argmin(np.abs(np.log(units / max(abs(weight), 1e-9))))])


def _as_people_write(weights: np.ndarray, chosen: list[int]) -> np.ndarray:
    """Return the order of terms: what is added or multiplied first, otherwise as the columns stand in the table."""
    return np.lexsort((np.array(chosen), weights < 0))


def clearly_more(share: float, other: float, n: int) -> bool:
    """Say whether a share of `n` rows is larger than another one by more than `LOST` and three standard errors."""
    return share > other + LOST + 3 * np.sqrt(2 * share * (1 - share) / n)


def _pursued(
    table: np.ndarray, aim: np.ndarray, most: int, within: float
) -> list[tuple[list[int], np.ndarray, float]]:
    """Take up column after column that explains most of what is left.

    Parameters
    ----------
    table : np.ndarray
        ``(n, columns)``.
    aim : np.ndarray
        ``(n,)``.
    most : int
        Columns at most.
    within : float
        It ends where nearly all rows are explained so well; at 0 every step is returned.

    Returns
    -------
    list of (columns, weights, constant)
        Of each step that is worth a try.
    """
    middle, spread = table.mean(0), table.std(0)
    scaled = (table - middle) / np.where(spread > 0, spread, 1.0)
    left = aim - aim.mean()
    chosen: list[int] = []
    found: list[tuple[list[int], np.ndarray, float]] = []
    scale = float(np.std(aim)) or 1.0
    for _ in range(min(most, table.shape[1])):
        gain = np.abs(scaled.T @ left)
        gain[chosen] = -1.0
        chosen.append(int(gain.argmax()))
        rows = np.ones(len(aim), dtype=bool)
        for _ in range(3):  # some rows may not follow, and must not pull the others along
            own = np.column_stack([scaled[:, chosen], np.ones(len(aim))])
            weights = np.linalg.lstsq(own[rows], aim[rows], rcond=None)[0]
            left = aim - own @ weights
            rows = np.abs(left) <= max(10 * float(np.median(np.abs(left))), 1e-12 * scale)
        true = weights[:-1] / np.where(spread > 0, spread, 1.0)[chosen]
        step = (list(chosen), true, float(weights[-1] - true @ middle[chosen]))
        if not within:
            found.append(step)
        elif (np.abs(left) <= 1.02 * within).mean() >= FOLLOW:
            return [_fewest(table, aim, *step, within)]
        left = np.where(rows, left, 0.0)
    return found


def _fewest(
    table: np.ndarray, aim: np.ndarray, chosen: list[int], weights: np.ndarray, constant: float, within: float
) -> tuple[list[int], np.ndarray, float]:
    """Leave out columns that are not needed."""
    for column in list(chosen):
        fewer = [k for k in chosen if k != column]
        own = np.column_stack([table[:, fewer], np.ones(len(aim))])
        found = np.linalg.lstsq(own, aim, rcond=None)[0]
        if fewer and (np.abs(aim - own @ found) <= 1.02 * within).mean() >= FOLLOW:
            chosen, weights, constant = fewer, found[:-1], float(found[-1])
    return chosen, weights, constant
