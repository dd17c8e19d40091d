"""Columns that name people of whom there are several rows: a patient's number, beside each of the visits.

Where every row has a value of its own, a column is an identifier at sight. Where people come back it is not, and the
names of all of them would go into the schema of a model that is handed on. What gives it away is that all rows of a
value are of one sex, or race, or whatever else is sensitive, which no diagnosis, shop or postcode brings about.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

#: Values that there are, and rows of one on average, at least and at most.
FEWEST_PEOPLE = 100
#: The same of a column that is known to name somebody: a part of the rows, or a small study.
FEWEST_KNOWN = 20
LEAST_ROWS = 1.2
MOST_ROWS = 20
#: Levels of a sensitive column, at most.
MOST_GROUPS = 20
#: Share of the rows that may be of another group than others of their value: slips of the pen.
SLIPS = 0.001
#: Rows of which that would be so if values had nothing to do with people.
BY_CHANCE = 20
#: Values outside of the group of most: where nobody has earned anything in the first term, and everybody has later on,
#: all sums but one are of later terms.
OTHERS = 10


def names_people(values: pl.Series, sensitive: Sequence[pl.Series]) -> bool:
    """Say whether values name people of whom there are several rows.

    Parameters
    ----------
    values : pl.Series
        Texts or whole numbers ``(n,)``.
    sensitive : sequence of pl.Series
        Sensitive columns ``(n,)``; those of more than twenty levels do not count.

    Returns
    -------
    bool
        Whether all rows of a value are alike in each of the sensitive columns, and would not be by chance, and there
        are people of more than one group.
    """
    groups = [own for own in sensitive if own.n_unique() <= MOST_GROUPS]
    if not groups or not many_of_several(values):
        return False
    n = len(values) - values.null_count()
    frame = pl.DataFrame({"value": values, **{f"group{at}": own for at, own in enumerate(groups)}})
    frame = frame.filter(pl.col("value").is_not_null())
    apart = _odd(frame)
    by_chance = _odd(frame.with_columns(pl.col("value").shuffle(seed=0)))
    others = (_outside(frame, name) for name in frame.columns[1:])
    return all(
        one <= SLIPS * n and other >= BY_CHANCE and outside >= OTHERS
        for one, other, outside in zip(apart.values(), by_chance.values(), others, strict=True)
    )


def many_of_several(values: pl.Series, fewest: int = FEWEST_PEOPLE) -> bool:
    """Say whether values ``(n,)`` are as many as people are of whom there are several rows, `fewest` at least."""
    n, distinct = len(values) - values.null_count(), values.drop_nulls().n_unique()
    return distinct >= fewest and LEAST_ROWS * distinct <= n <= MOST_ROWS * distinct


def persons_of(identifiers: Sequence[pl.Series]) -> np.ndarray | None:
    """Return which person each row is of, int64 ``(n,)`` from 0, given the columns that name somebody.

    None where none of them names people of whom there are several rows.
    """
    found = [own for own in identifiers if many_of_several(own, FEWEST_KNOWN)]
    if not found:
        return None
    own = min(found, key=lambda own: own.n_unique())
    codes = np.unique(own.fill_null(own.drop_nulls()[0]).to_numpy(), return_inverse=True)[1].reshape(-1)
    # Of whom nothing is known may be anybody.
    unknown = own.is_null().to_numpy()
    codes[unknown] = codes.max() + 1 + np.arange(int(unknown.sum()))
    return np.asarray(np.unique(codes, return_inverse=True)[1].reshape(-1))


def rows_of_one(persons: np.ndarray | None) -> float:
    """Return how many rows there are of the person whom a row is of, on average, given that of each row ``(n,)``."""
    if persons is None:
        return 1.0
    rows = np.bincount(persons).astype(np.float64)
    return float(rows @ rows / rows.sum())


def people_of(values: np.ndarray, distinct: np.ndarray, persons: np.ndarray) -> np.ndarray:
    """Return how many people have each of the distinct values, ascending, int64, given value and person of each row."""
    place = np.searchsorted(distinct, values).astype(np.int64)
    pairs = np.unique(place * (int(persons.max(initial=0)) + 1) + persons)
    return np.bincount(pairs // (int(persons.max(initial=0)) + 1), minlength=len(distinct))


def _odd(frame: pl.DataFrame) -> dict[str, int]:
    """Return how many rows are of another group than most of their value, by column."""
    return {
        name: len(frame)
        - int(frame.group_by("value", name).len().group_by("value").agg(pl.col("len").max())["len"].sum())
        for name in frame.columns[1:]
    }


def _outside(frame: pl.DataFrame, name: str) -> int:
    """Return how many values are of other groups than the one that most values are of."""
    groups = frame.group_by("value").agg(pl.col(name).mode().sort().first())[name]
    return len(groups) - int(groups.value_counts()["count"].max())  # type: ignore[arg-type]
