"""Canonical rows as matrices: for downstream models, and for distances.

Everything is fitted on the real train rows only. Neither the synthetic nor the test rows may move a
scale or add a level, or the yardstick would bend with what it measures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fairsynth.data.canonical import LARGEST
from fairsynth.data.schema import Column, Schema

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]

#: Above this many levels a column is hashed for distances, and pooled for linear models.
MANY_LEVELS = 64
_HASH_DIMENSIONS = 48


def is_categorical(column: Column) -> bool:
    """Whether the column holds levels rather than numbers or times."""
    return column.kind in ("categorical", "boolean")


def level_names(column: Column) -> tuple[str, ...]:
    """Name the levels of a categorical or boolean column, in the order of their codes."""
    return column.levels if column.kind == "categorical" else ("False", "True")


def column_values(frame: pl.DataFrame, column: Column) -> Floats:
    """Return one column as numbers.

    Parameters
    ----------
    frame : polars.DataFrame
        Canonical rows.
    column : Column
        What the column means.

    Returns
    -------
    ndarray of float64, shape (n,)
        Level codes, numbers (continuous ones at the schema's precision, so that spare digits give
        nothing away), or days since 1970; NaN is missing.
    """
    return _columns_values(frame, [column])[:, 0].copy()


def native_matrix(frame: pl.DataFrame, schema: Schema, columns: Sequence[str]) -> Floats:
    """Return columns side by side as numbers: codes, numbers, NaN for missing; shape (n, len(columns))."""
    return _columns_values(frame, [schema[name] for name in columns])


def _columns_values(frame: pl.DataFrame, columns: Sequence[Column]) -> Floats:
    """Ask for all columns at once: of few rows, most of the time goes into asking."""
    if not columns:
        return np.empty((frame.height, 0))
    asked = [_as_number(column).fill_null(float("nan")) for column in columns]
    out = np.array(frame.select(asked).to_numpy(), dtype=np.float64, order="C", ndmin=2)
    for i, column in enumerate(columns):
        if column.kind == "datetime":
            out[:, i] /= 86_400_000_000
        elif column.kind == "continuous" and column.decimals is not None:
            out[:, i] = np.round(out[:, i], column.decimals)
    return np.clip(out, -LARGEST, LARGEST, out=out)


def _as_number(column: Column) -> pl.Expr:
    asked = pl.col(column.name)
    if column.kind == "categorical":
        asked = asked.cast(pl.Enum(list(column.levels))).to_physical()
    elif column.kind == "boolean":
        asked = asked.cast(pl.Int8)
    elif column.kind == "datetime":
        asked = asked.cast(pl.Datetime("us")).to_physical()
    return asked.cast(pl.Float64)


def categorical_positions(schema: Schema, columns: Sequence[str]) -> list[int]:
    """Return which of the columns of :func:`native_matrix` hold codes."""
    return [i for i, name in enumerate(columns) if is_categorical(schema[name])]


def row_keys(frame: pl.DataFrame, schema: Schema) -> NDArray[np.uint64]:
    """Return one 64-bit key for each row, equal for rows that agree in every column but identifiers."""
    names = [c.name for c in schema.columns if c.kind != "identifier"]
    rounded = [
        pl.col(c.name).round(c.decimals)
        if c.kind == "continuous" and c.decimals is not None
        else pl.col(c.name)
        for c in schema.columns
        if c.name in names
    ]
    return frame.select(rounded).hash_rows(seed=0).to_numpy()


def fingerprint(frame: pl.DataFrame) -> str:
    """Return the SHA-256 of the canonical rows, written as CSV; the same for every machine and frame kind."""
    digest = hashlib.sha256(",".join(frame.columns).encode())
    for start in range(0, frame.height, 100_000):
        part = frame.slice(start, 100_000).with_columns(pl.selectors.enum().cast(pl.String))
        digest.update(part.write_csv(include_header=False, null_value="").encode())
    return digest.hexdigest()


class Points:
    """Rows as points whose Euclidean distance treats all kinds of columns alike.

    Two rows that differ in one categorical column are at distance 1; so are two whose number differs by
    the width of the central 90 % of the train rows. Missing is a place of its own, at distance 1 from the
    median. Columns with more than `MANY_LEVELS` levels get fixed random directions instead of
    one axis each (distances between two levels are then 1 within about a tenth).

    Parameters
    ----------
    frame : polars.DataFrame
        Real train rows, the only ones that set a scale.
    schema : Schema
        Of the rows.
    columns : sequence of str
        Columns that count.
    """

    def __init__(self, frame: pl.DataFrame, schema: Schema, columns: Sequence[str]) -> None:
        self.schema = schema
        self.columns = tuple(columns)
        self._scales: dict[str, tuple[float, float]] = {}
        self._directions: dict[str, Matrix] = {}
        for name in self.columns:
            column = schema[name]
            if is_categorical(column):
                size = len(level_names(column)) + 1
                self._directions[name] = _level_directions(name, size)
                continue
            values = column_values(frame, column)
            values = values[~np.isnan(values)]
            if len(values) == 0:
                self._scales[name] = (0.0, 1.0)
                continue
            low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
            # Mostly one value (capital gains): the width of a normal law of the same spread.
            width = high - low or 3.29 * float(values.std()) or 1.0
            self._scales[name] = (float(middle), float(width))

    def blocks(self) -> dict[str, slice]:
        """Return which coordinates each column takes."""
        places, start = {}, 0
        for name in self.columns:
            size = self._directions[name].shape[1] if name in self._directions else 2
            places[name] = slice(start, start + size)
            start += size
        return places

    def __call__(self, frame: pl.DataFrame) -> Matrix:
        """Return the rows as points, float32, shape (n, coordinates)."""
        places = self.blocks()
        width = max((s.stop for s in places.values()), default=0)
        out = np.zeros((frame.height, width), dtype=np.float32)
        for name, place in places.items():
            values = column_values(frame, self.schema[name])
            missing = np.isnan(values)
            if name in self._directions:
                directions = self._directions[name]
                codes = np.where(missing, len(directions) - 1, values).astype(np.int64)
                out[:, place] = directions[codes]
            else:
                middle, scale = self._scales[name]
                # Numbers that are absurdly far off must not drown the precision of all others.
                out[:, place.start] = np.clip(np.where(missing, 0.0, (values - middle) / scale), -100, 100)
                out[:, place.start + 1] = missing
        return out


def _level_directions(name: str, size: int) -> Matrix:
    """Return one point for each level, every two at distance 1 (nearly, if there are many)."""
    if size <= MANY_LEVELS + 1:
        return (np.eye(size) / np.sqrt(2)).astype(np.float32)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    directions = np.random.default_rng(seed).normal(size=(size, _HASH_DIMENSIONS))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True) * np.sqrt(2)
    return directions.astype(np.float32)


class Design:
    """Rows as one-hot and standardised columns, for linear models.

    Parameters
    ----------
    frame : polars.DataFrame
        Real train rows: they set means, spreads, and which levels are common enough for a
        column of their own (the `MANY_LEVELS` most common; the others share one).
    schema : Schema
        Of the rows.
    columns : sequence of str
        Columns that count.
    """

    def __init__(self, frame: pl.DataFrame, schema: Schema, columns: Sequence[str]) -> None:
        self.schema = schema
        self.columns = tuple(columns)
        self._numbers: dict[str, tuple[float, float, float]] = {}
        self._places: dict[str, NDArray[np.int64]] = {}
        for name in self.columns:
            column = schema[name]
            values = column_values(frame, column)
            known = values[~np.isnan(values)]
            if not is_categorical(column):
                if len(known) == 0:
                    self._numbers[name] = (0.0, 0.0, 1.0)
                else:
                    middle, mean, spread = np.median(known), known.mean(), known.std()
                    self._numbers[name] = (float(middle), float(mean), float(spread) or 1.0)
                continue
            size = len(level_names(column)) + 1
            places = np.arange(size)
            if size > MANY_LEVELS + 1:
                counts = np.bincount(known.astype(np.int64), minlength=size)
                common = np.argsort(-counts, kind="stable")[:MANY_LEVELS]
                places = np.full(size, MANY_LEVELS)
                places[common] = np.arange(MANY_LEVELS)
            self._places[name] = places

    def __call__(self, frame: pl.DataFrame) -> Floats:
        """Return the rows as a matrix, float64, shape (n, columns after one-hot)."""
        parts: list[Floats] = []
        for name in self.columns:
            values = column_values(frame, self.schema[name])
            missing = np.isnan(values)
            if name in self._places:
                places = self._places[name]
                codes = places[np.where(missing, len(places) - 1, values).astype(np.int64)]
                onehot = np.zeros((len(values), int(places.max()) + 1))
                onehot[np.arange(len(values)), codes] = 1
                parts.append(onehot)
            else:
                middle, mean, spread = self._numbers[name]
                filled = (np.where(missing, middle, values) - mean) / spread
                parts.append(np.column_stack([filled, missing]).astype(np.float64))
        return np.concatenate(parts, axis=1) if parts else np.zeros((frame.height, 0))
