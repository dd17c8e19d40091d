"""States of a categorical or boolean column: its levels, where there are very many of them those that are frequent."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsynth.data.canonical import canonical_dtype
from fairsynth.data.dated import Dated
from fairsynth.data.frames import batch_column, batch_levels
from fairsynth.data.schema import Column
from fairsynth.errors import DataError

#: Levels beyond the most frequent ones share states; see `LevelStates`.
MAX_LEVELS = 2000
SHARED_LEVEL_STATES = 48


class LevelStates(BaseModel):
    """States of a categorical or boolean column.

    Attributes
    ----------
    name : str
        The column.
    n_levels : int
        Levels in the schema; booleans have two.
    missing : bool
        Whether the last state is "missing".
    order : tuple of int
        Empty while every level is a state. In columns of more than `MAX_LEVELS` levels: the levels by
        falling frequency; the first are states of their own, the others share `SHARED_LEVEL_STATES` states, in
        which a level is drawn by its frequency.
    weights : tuple of float
        Frequencies belonging to `order`.
    told_by : str or None
        The column that decides this one (`data.determined`).
    told : tuple of int
        For each state of that column the state of this one; -1 where it decides nothing.
    dated : Dated or None
        How moments tell it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["levels"] = "levels"
    name: str
    n_levels: int = Field(ge=1)
    missing: bool
    order: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    told_by: str | None = None
    told: tuple[int, ...] = ()
    dated: Dated | None = None

    @model_validator(mode="after")
    def _check(self) -> LevelStates:
        if self.order and (
            sorted(self.order) != list(range(self.n_levels)) or len(self.weights) != self.n_levels
        ):
            raise ValueError(f"column {self.name!r}: the order of the levels is no permutation of them")
        if not all(0 <= weight < np.inf for weight in self.weights):
            raise ValueError(f"column {self.name!r}: the frequencies of levels must be numbers from 0 up")
        return self

    def fits(self, column: Column) -> bool:
        """Whether these are states of the column, as far as its schema tells."""
        return (
            column.kind in ("categorical", "boolean")
            and self.n_levels == len(column.group_names())
            and bool(self.order) == (self.n_levels > MAX_LEVELS)
            and self.missing >= column.has_missing
        )

    @property
    def size(self) -> int:
        """Number of states."""
        return (
            min(self.n_levels, MAX_LEVELS + SHARED_LEVEL_STATES) if self.order else self.n_levels
        ) + self.missing

    @cached_property
    def _state_of_level(self) -> np.ndarray:
        states = np.arange(self.n_levels, dtype=np.int32)
        if self.order:
            ranks = np.arange(self.n_levels)
            shared = MAX_LEVELS + (ranks - MAX_LEVELS) * SHARED_LEVEL_STATES // max(
                self.n_levels - MAX_LEVELS, 1
            )
            states[list(self.order)] = np.where(ranks < MAX_LEVELS, ranks, shared)
        return states

    @cached_property
    def _cumulative(self) -> np.ndarray:
        weights = np.asarray(self.weights) + 1e-12
        return np.concatenate([[0.0], np.cumsum(weights)])

    @cached_property
    def _first(self) -> np.ndarray:
        by_rank = self._state_of_level[list(self.order)]
        return np.searchsorted(by_rank, np.arange(self.size - self.missing + 1))

    def _categories(self, column: Column) -> pl.Series:
        return pl.Series(self.name, column.levels, dtype=pl.Enum(column.levels))

    def encode(self, values: pl.Series) -> np.ndarray:
        """Return the state of every value, int32 ``(n,)``."""
        codes = values.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        states = self._state_of_level[np.maximum(codes, 0)]
        gone = codes < 0
        if gone.any():
            if not self.missing:
                raise DataError(
                    f"column {self.name!r}: row {int(np.argmax(gone))} is missing, and no row was when it was learned."
                )
            states = np.where(gone, np.int32(self.size - 1), states)
        return states

    def _levels(self, states: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the level of every row, whatever it is where missing, and which are missing."""
        gone = states == self.size - 1 if self.missing else None
        levels = states
        if self.order:
            at = np.minimum(states, self.size - self.missing - 1)
            low, high = self._cumulative[self._first[at]], self._cumulative[self._first[at + 1]]
            ranks = (
                np.searchsorted(self._cumulative, low + rng.random(len(states)) * (high - low), side="right")
                - 1
            )
            ranks = np.clip(ranks, self._first[at], self._first[at + 1] - 1)
            levels = np.asarray(self.order)[ranks]
        return levels, gone

    def decode(self, states: np.ndarray, rng: np.random.Generator, column: Column) -> pl.Series:
        """Return canonical values of the states ``(n,)``."""
        levels, gone = self._levels(states, rng)
        if gone is not None:
            levels = np.where(gone, 0, levels)
        dtype = canonical_dtype(column)
        if isinstance(dtype, pl.Enum):
            # Gathering works for every version of Polars; a cast from codes does not.
            series = self._categories(column).gather(levels.astype(np.uint32))
        else:
            series = pl.Series(self.name, levels == 1)
        return with_missing(series, gone)

    def decode_arrow(
        self, states: np.ndarray, rng: np.random.Generator, column: Column, kind: pa.DataType
    ) -> pa.Array:
        """Return the values of the states ``(n,)`` as an array of a batch; the same as by `decode`."""
        if pa.types.is_boolean(kind) and column.missing_marker is None:
            levels, gone = self._levels(states, rng)
            return masked(levels == 1, gone)
        is_text = pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type)
        if not is_text or column.marker_level is not None:
            return batch_column(self.decode(states, rng, column), column, kind)
        levels, gone = self._levels(states, rng)
        if gone is not None and column.missing_marker is not None:
            levels, gone = np.where(gone, self.n_levels, levels), None
        codes = masked(levels.astype(np.int32, copy=False), gone).cast(kind.index_type)
        return pa.DictionaryArray.from_arrays(
            codes, self._dictionary(column, kind), ordered=kind.ordered, safe=False
        )

    def _dictionary(self, column: Column, kind: pa.DataType) -> pa.Array:
        found: pa.Array | None = self.__dict__.get("_texts")
        if found is None:
            found = self.__dict__["_texts"] = batch_levels(column, kind)
        return found


def learn_levels(values: pl.Series, column: Column) -> LevelStates:
    """Learn the states of a column from its values ``(n,)``."""
    n_levels = 2 if column.kind == "boolean" else len(column.levels)
    missing = column.has_missing or values.null_count() > 0
    if n_levels <= MAX_LEVELS:
        return LevelStates(name=column.name, n_levels=n_levels, missing=missing)
    counts = np.bincount(values.to_physical().drop_nulls().cast(pl.Int64).to_numpy(), minlength=n_levels)
    return levels_by_frequency(column.name, counts, missing)


def levels_by_frequency(name: str, counts: np.ndarray, missing: bool) -> LevelStates:
    """Return the states of a column of more than `MAX_LEVELS` levels, given the rows of each ``(levels,)``."""
    order = np.argsort(-counts, kind="stable")
    return LevelStates(
        name=name,
        n_levels=len(counts),
        missing=missing,
        order=tuple(order.tolist()),
        weights=tuple((counts[order] / max(counts.sum(), 1)).tolist()),
    )


def masked(values: np.ndarray, gone: np.ndarray | None) -> pa.Array:
    """Return values ``(n,)`` as an array, null where they are gone, if any are."""
    return pa.array(values, mask=gone if gone is not None and gone.any() else None)


def with_missing(series: pl.Series, gone: np.ndarray | None) -> pl.Series:
    """Return the series, null where its values are gone, if any are."""
    if gone is None or not gone.any():
        return series
    return pl.select(pl.when(pl.Series(~gone)).then(series).otherwise(None).alias(series.name)).to_series()
