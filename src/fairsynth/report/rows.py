"""Rows for pictures: a sample of a table as arrays, and as points in one space.

Pictures are drawn from at most `PICTURE_ROWS` rows of each table. Real people must not be read off a
page that leaves the house: counts of fewer than `SMALL_CELL` real rows are never drawn, and no real
row is drawn as a point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fairsynth.data.table import Table

PICTURE_ROWS = 5000
SMALL_CELL = 5
#: An integer column with no more values than this is drawn value by value.
FEW_VALUES = 12
MISSING = "(missing)"

Floats = NDArray[np.float64]


def sample_frame(frame: pl.DataFrame, n: int, seed: int = 0) -> pl.DataFrame:
    """Return `n` rows drawn without replacement, or all of them when there are no more."""
    if len(frame) <= n:
        return frame
    picked = np.sort(np.random.default_rng(seed).choice(len(frame), n, replace=False))
    return frame[picked.tolist()]


def is_numeric(series: pl.Series) -> bool:
    """Say whether a canonical column is drawn on a number line."""
    return series.dtype.is_numeric() or series.dtype.is_temporal()


def numbers(series: pl.Series) -> Floats:
    """Return a canonical numeric or temporal column as float64 ``(n,)``, NaN where missing.

    Times are in seconds since 1970.
    """
    if series.dtype.is_temporal():
        micros = series.cast(pl.Datetime("us")).cast(pl.Int64).cast(pl.Float64)
        return (micros / 1e6).fill_null(np.nan).to_numpy().astype(np.float64)
    return series.cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)


def texts(series: pl.Series) -> pl.Series:
    """Return a canonical column as text, ``"(missing)"`` where missing."""
    if series.dtype == pl.Boolean:
        words = pl.Series(series.name, ["false", "true"])
        shown = words.gather(series.cast(pl.UInt32))
        return shown.fill_null(MISSING)
    return series.cast(pl.String).fill_null(MISSING)


def picture_columns(table: Table) -> list[str]:
    """Return the columns worth a picture: the features and the target, never an identifier."""
    features = list(table.schema.features)
    target = table.schema.target
    return features + ([target] if target and target not in features else [])


def picture_points(train: Table, frames: Sequence[pl.DataFrame], *, reach: float = 3.0) -> list[Floats]:
    """Place rows of mixed kinds in one space, scaled by the real train rows.

    The space is that of `fairsynth.evaluation.features.Points`; what lies further out than `reach`
    times the central 90 % is put there, so that one heavy tail does not fill the picture.

    Returns
    -------
    list of ndarray of float64, each of shape (rows, coordinates)
    """
    from fairsynth.evaluation.features import Points

    place = Points(train.frame, train.schema, picture_columns(train))
    return [np.clip(place(frame), -reach, reach).astype(np.float64) for frame in frames]


def association_arrays(table: Table, frame: pl.DataFrame) -> tuple[list[NDArray[Any]], list[bool]]:
    """Return rows as the arrays that `fairsynth.metrics.marginals.association_matrix` takes.

    Missing is a level of its own among categories.
    """
    from fairsynth.evaluation.features import column_values, is_categorical

    arrays: list[NDArray[Any]] = []
    kinds: list[bool] = []
    for name in picture_columns(table):
        column = table.schema[name]
        values = column_values(frame, column)
        kinds.append(not is_categorical(column))
        arrays.append(values if kinds[-1] else np.nan_to_num(values, nan=-1.0).astype(np.int64) + 1)
    return arrays, kinds
