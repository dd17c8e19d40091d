"""A table as states: every column a finite set of states, each with a law of its own, and back.

Networks here see a row as one state per column. A level is a state, a missing value is a state, and a number
is either an *atom* (a value that many rows share, such as 0 or 40, or more than chance explains: `data.shared_values`)
or falls into an *interval*. The number that
comes back is drawn inside its interval, on the grid of the values seen (integers, two decimals, whole days),
so columns are not binned away: 23.41 stays a possible value, and 23.413 stays an impossible one. It is as round as the
values of its interval are (`data.roundness`): 1,200 comes as often as people say it. And it leans to where they are
(`data.leaning`): the last interval of wealth is not filled evenly.

Nothing here is the value of one person. An atom is shared by at least `MIN_SHARED` rows, and the ends of the
intervals are means over neighbouring order statistics, within the range that the schema remembers.
The piecewise law is ours; the published teacher cuts numbers into bins and stays there
(FairDisCo, KDD 2022, section 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import Field, TypeAdapter, ValidationError

from fairsynth.data.frames import arrow_schema
from fairsynth.data.level_states import LevelStates, learn_levels
from fairsynth.data.number_states import NumberStates, learn_numbers
from fairsynth.data.roundness import MIN_SHARED
from fairsynth.data.schema import Schema
from fairsynth.data.table import Table
from fairsynth.errors import DataError

ColumnStates = Annotated[LevelStates | NumberStates, Field(discriminator="type")]
_ADAPTER: TypeAdapter[list[LevelStates | NumberStates]] = TypeAdapter(list[ColumnStates])


class TableEncoder:
    """All learned columns of a table as states.

    Parameters
    ----------
    schema : Schema
        Of the table.
    states : sequence of LevelStates or NumberStates
        One for every column that is not an identifier, in the order of the schema.
    """

    def __init__(self, schema: Schema, states: list[LevelStates | NumberStates]) -> None:
        wanted = [name for name in schema.names if name not in schema.identifiers]
        if [part.name for part in states] != wanted:
            raise DataError("the states do not belong to the columns of the schema.")
        for part in states:
            if not part.fits(schema[part.name]):
                raise DataError(
                    f"column {part.name!r}: its states do not fit its kind, levels or range in the schema."
                )
        self.schema, self.states = schema, tuple(states)
        self.names = tuple(wanted)
        self.sizes = tuple(part.size for part in states)

    @classmethod
    def learn(cls, table: Table, *, max_intervals: int = 64) -> TableEncoder:
        """Learn the states from rows.

        Parameters
        ----------
        table : Table
            The rows.
        max_intervals : int, default=64
            Intervals of a number at most, apart from atoms.
        """
        schema = table.schema
        return cls(
            schema,
            [
                learn_levels(table.frame[column.name], column)
                if column.kind in ("categorical", "boolean")
                else learn_numbers(table.frame[column.name], column, max_intervals)
                for column in schema
                if column.kind != "identifier"
            ],
        )

    def index(self, name: str) -> int:
        """Return the place of a column among the learned ones."""
        return self.names.index(name)

    def encode(self, table: Table) -> np.ndarray:
        """Return the states of all rows, int32 ``(n, columns)``."""
        return np.stack([part.encode(table.frame[part.name]) for part in self.states], axis=1)

    def decode(self, states: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
        """Return canonical rows, without identifiers.

        Parameters
        ----------
        states : np.ndarray
            Integers ``(columns, n)``: one contiguous line a column.
        rng : np.random.Generator
            Draws the numbers inside their intervals.
        """
        return pl.DataFrame(
            [
                part.decode(line, rng, self.schema[part.name])
                for part, line in zip(self.states, states, strict=True)
            ]
        )

    def decode_batch(self, states: np.ndarray, rng: np.random.Generator) -> pa.RecordBatch:
        """Return rows, without identifiers, as a batch of the types of `frames.arrow_schema`.

        The same rows as those of `decode`, with fewer steps between; arguments as there.
        """
        columns = [self.schema[name] for name in self.names]
        return pa.RecordBatch.from_arrays(
            [
                part.decode_arrow(line, rng, column, kind)
                for part, line, column, kind in zip(
                    self.states, states, columns, self._arrow_schema.types, strict=True
                )
            ],
            schema=self._arrow_schema,
        )

    @cached_property
    def _arrow_schema(self) -> pa.Schema:
        whole = arrow_schema(self.schema)
        return pa.schema([whole.field(name) for name in self.names])

    def to_json(self) -> list[Any]:
        """Return the states as plain JSON values."""
        return list(_ADAPTER.dump_python(list(self.states), mode="json"))

    @classmethod
    def from_json(cls, schema: Schema, body: Any) -> TableEncoder:
        """Read what `to_json` wrote, checked.

        Raises
        ------
        DataError
            If it is something else, or belongs to another schema.
        """
        try:
            return cls(schema, _ADAPTER.validate_python(body))
        except ValidationError as error:
            raise DataError(f"the column states are not valid: {error.errors()[0]['msg']}.") from error

    def summary(self) -> Mapping[str, str]:
        """Say in words what of each column is remembered."""
        told = {}
        for part in self.states:
            if isinstance(part, LevelStates):
                told[part.name] = f"{part.n_levels} level names"
            else:
                round_ = ", how round they are" if part.roundness is not None else ""
                told[part.name] = (
                    f"{len(part.atoms)} values shared by {MIN_SHARED}+ rows, "
                    f"{len(part.edges)} averaged quantiles, range{round_}"
                )
        return told
