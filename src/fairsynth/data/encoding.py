"""A table as states: every column a finite set of states, each with a law of its own, and back.

Networks here see a row as one state per column. A level is a state, a missing value is a state, and a number
is either an *atom* (a value that many rows share, such as 0 or 40, or more than chance explains: `data.shared_values`)
or falls into an *interval*. The number that
comes back is drawn inside its interval, on the grid of the values seen (integers, two decimals, whole days),
so columns are not binned away: 23.41 stays a possible value, and 23.413 stays an impossible one. It is as round as the
values of its interval are (`data.roundness`): 1,200 comes as often as people say it. And it leans to where they are
(`data.leaning`): the last interval of wealth is not filled evenly.

A column that follows from others, such as a total, is computed anew once they are drawn (`data.derived`). A moment that
is never before another one has states of the time between them (`data.since`), and numbers that never cross are kept in
order (`data.ordered`). What a column of many values decides of another one, such as the name of a code, is kept
(`data.determined`), and so is what moments tell, such as an age (`data.dated`).

Nothing here is the value of one person. An atom is shared by at least `MIN_SHARED` rows, and the ends of the
intervals are means over neighbouring order statistics, within the range that the schema remembers.
The piecewise law is ours; the published teacher cuts numbers into bins and stays there
(FairDisCo, KDD 2022, section 5).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import Field, TypeAdapter, ValidationError

from fairsynth.data.dated import agreed, check_dated
from fairsynth.data.dated_search import find_dated, known_by_states
from fairsynth.data.derived import Derived, as_floats, check_derived, find_derived, on_grid, slack_of
from fairsynth.data.determined import Told, check_told, find_told
from fairsynth.data.frames import arrow_schema, batch_column
from fairsynth.data.level_states import LevelStates, learn_levels, with_missing
from fairsynth.data.moments import DATETIME
from fairsynth.data.number_learning import learn_numbers
from fairsynth.data.number_states import NumberStates
from fairsynth.data.ordered import find_ordered, in_order, pairs_of
from fairsynth.data.roundness import MIN_SHARED
from fairsynth.data.schema import Schema, grid_step
from fairsynth.data.since import added, check_since, find_since, in_turn, time_between, told_by, widest
from fairsynth.data.table import Table
from fairsynth.errors import DataError

#: How often numbers are drawn anew where what follows from them would leave its range.
TRIES = 8
#: Rows that show whether a moment's states know what it tells.
SHOWN = 2_000


def _told_by(part: LevelStates | NumberStates, told: Told | None) -> LevelStates | NumberStates:
    return part if told is None else part.model_copy(update={"told_by": told.by, "told": told.states})


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
        #: Moment → the one that it is told from.
        self.since = {
            part.name: part.since
            for part in states
            if isinstance(part, NumberStates) and part.since is not None
        }
        following = [part.follows for part in states if isinstance(part, NumberStates) and part.follows]
        try:
            sources = {name for own in following for name in own.of}
            check_since(self.since, schema, {own.name for own in following}, sources)
        except ValueError as error:
            raise DataError(f"{error}.") from error
        self._since_in_turn = in_turn(self.since)
        for part in states:
            column = schema[part.name]
            if part.name in self.since:
                column = widest(column, schema[self.since[part.name]])
            if not part.fits(column):
                raise DataError(
                    f"column {part.name!r}: its states do not fit its kind, levels or range in the schema."
                )
        self.schema, self.states = schema, tuple(states)
        self.names = tuple(wanted)
        self.sizes = tuple(part.size for part in states)
        #: Place of a column → how it is computed from others.
        self.derived = {
            j: part.follows
            for j, part in enumerate(self.states)
            if isinstance(part, NumberStates) and part.follows is not None
        }
        below = {
            part.name: part.never_below
            for part in self.states
            if isinstance(part, NumberStates) and part.never_below
        }
        try:
            check_derived(list(self.derived.values()), schema)
            #: Columns of which the first is never above the second.
            self.ordered = pairs_of(below, schema, {*self.since, *(own.name for own in following)})
            #: Column → what decides it.
            self.told_by = {
                part.name: Told(part.told_by, part.told) for part in self.states if part.told_by is not None
            }
            sized = dict(zip(self.names, self.sizes, strict=True))
            check_told(self.told_by, schema, sized, {*self.since, *(own.name for own in following)})
            #: Column → how moments tell it.
            self.dated = {part.name: part.dated for part in self.states if part.dated is not None}
            check_dated(self.dated, schema, {own.name for own in following})
        except ValueError as error:
            raise DataError(f"{error}.") from error

    @classmethod
    def learn(cls, table: Table, *, max_intervals: int = 64, sensitive_dated: bool = False) -> TableEncoder:
        """Learn the states from rows.

        Parameters
        ----------
        table : Table
            The rows.
        max_intervals : int, default=64
            Intervals of a number at most, apart from atoms.
        sensitive_dated : bool, default=False
            Let sensitive columns, too, agree with the moments that tell them: not where a method takes out of the
            moments what they say of these.
        """
        schema = table.schema
        follows = {
            own.name: own
            for own in find_derived(table, {column.name: grid_step(column) for column in schema})
        }
        since = find_since(table, follows, {name for own in follows.values() for name in own.of})
        below = find_ordered(table, {*since, *follows})
        persons = table.persons()
        states: list[LevelStates | NumberStates] = []
        for column in schema:
            if column.kind == "identifier":
                continue
            values = table.frame[column.name]
            start = since.get(column.name)
            if start is not None:
                values = time_between(values, table.frame[start])
                part = learn_numbers(values, told_by(column, values, persons), max_intervals, persons)
                states.append(part.model_copy(update={"since": start}))
                continue
            if column.kind in ("categorical", "boolean"):
                states.append(learn_levels(values, column))
            else:
                part = learn_numbers(values, column, max_intervals, persons)
                own = {"follows": follows.get(column.name), "never_below": below.get(column.name, ())}
                states.append(part.model_copy(update=own))
        encoder = cls(schema, states)
        apart = () if sensitive_dated else schema.sensitive
        dated = find_dated(table, {*follows, *apart})
        if dated:
            some = table.frame.sample(min(SHOWN, len(table)), seed=1)
            lines = np.ascontiguousarray(encoder.encode(table.replace(some)).T)
            drawn = encoder.decode(lines, np.random.default_rng(0))
            dated = known_by_states(dated, some, drawn, schema)
        decided = find_told(
            schema,
            states,
            encoder.encode(table),
            {*since, *follows, *dated},
            {own.name: own.of for own in follows.values()},
            {
                part.name: part.counts_as_nearest(encoder.told(part, table.frame))
                for part in states
                if isinstance(part, NumberStates) and not part.n_intervals and part.step
            },
        )
        if not decided and not dated:
            return encoder
        return cls(
            schema,
            [
                _told_by(part, decided.get(part.name)).model_copy(update={"dated": dated.get(part.name)})
                for part in states
            ],
        )

    def index(self, name: str) -> int:
        """Return the place of a column among the learned ones."""
        return self.names.index(name)

    def encode(self, table: Table) -> np.ndarray:
        """Return the states of all rows, int32 ``(n, columns)``."""
        return np.stack([part.encode(self.told(part, table.frame)) for part in self.states], axis=1)

    def told(
        self, part: LevelStates | NumberStates, frame: Mapping[str, pl.Series] | pl.DataFrame
    ) -> pl.Series:
        """Return what the states of a column are of: its canonical values, or the time since another moment."""
        start = self.since.get(part.name)
        return frame[part.name] if start is None else time_between(frame[part.name], frame[start])

    def decode(
        self,
        states: np.ndarray,
        rng: np.random.Generator,
        besides: Collection[str] = (),
        exact: Mapping[str, float | str] | None = None,
    ) -> pl.DataFrame:
        """Return canonical rows, without identifiers.

        Parameters
        ----------
        states : np.ndarray
            Integers ``(columns, n)``: one contiguous line a column.
        rng : np.random.Generator
            Draws the numbers inside their intervals.
        besides : collection of str
            Columns of which something was asked: they stay as they are drawn, and others are computed from them.
        exact : mapping, optional
            Column → the value that all rows have there, whatever their states say.
        """
        states = self.settled(states, {*besides, *(exact or {})})
        frame = pl.DataFrame(
            [
                part.decode(line, rng, self.schema[part.name])
                for part, line in zip(self.states, states, strict=True)
            ]
        )
        if exact:
            frame = with_exact(frame, exact)
        for name in self._since_in_turn:
            frame = frame.with_columns(added(frame[name], frame[self.since[name]], self.schema[name]))
        if self.ordered:
            held = {name: frame[name] for pair in self.ordered for name in pair}
            frame = frame.with_columns(self._in_order(held, states, rng, {*besides, *(exact or {})}).values())
        if self.dated:
            frame = frame.with_columns(self._agreed(frame.to_dict(), {*besides, *(exact or {})}).values())
        sources = {name: frame[name] for own in self.derived.values() for name in own.of}
        if sources and not besides:
            frame = frame.with_columns(self._in_range(sources, states, rng).values())
        return self.followed(frame, besides)

    def settled(self, states: np.ndarray, besides: Collection[str] = ()) -> np.ndarray:
        """Return states ``(columns, n)`` in which columns that others decide are as these say.

        Those in `besides` stay as they are, and so do all whose deciding value is too rare to be known.
        """
        if not self.told_by:
            return states
        states = np.array(states)
        for name, told in self.told_by.items():
            if name not in besides:
                at = self.index(name)
                states[at] = self.decided(at, states[self.index(told.by)], states[at])
        return states

    def decided(self, place: int, by: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Return the states of a column that another one decides ``(n,)``, given that one's states and its own."""
        found = self._told_tables[place].take(by)
        return np.where(found >= 0, found, drawn).astype(drawn.dtype)

    @cached_property
    def _told_tables(self) -> dict[int, np.ndarray]:
        return {
            self.index(name): np.asarray(own.states, dtype=np.int32) for name, own in self.told_by.items()
        }

    def _in_range(
        self, sources: dict[str, pl.Series], states: np.ndarray, rng: np.random.Generator
    ) -> dict[str, pl.Series]:
        """Draw numbers anew, inside the intervals that they fell into, where what follows would leave its range."""
        for j, own in self.derived.items():
            low, high = self.schema[own.name].bounds
            slack = slack_of(self.schema[own.name], self.states[j].step)  # type: ignore[union-attr]
            for _ in range(TRIES):
                values = own.values({name: as_floats(sources[name]) for name in own.of})
                rows = np.flatnonzero((values < low - slack) | (values > high + slack))
                if not len(rows):
                    break
                for name in own.of:
                    if name not in self.since:
                        at = self.index(name)
                        again = self.states[at].decode(states[at][rows], rng, self.schema[name])
                        sources[name] = sources[name].scatter(rows, again)
        return sources

    def _in_order(
        self,
        values: dict[str, pl.Series],
        states: np.ndarray,
        rng: np.random.Generator,
        fixed: Collection[str] = (),
    ) -> dict[str, pl.Series]:
        """Keep numbers in order that never cross, given the states that they were drawn from."""

        def again(name: str, rows: np.ndarray) -> pl.Series:
            at = self.index(name)
            return self.states[at].decode(states[at][rows], rng, self.schema[name])

        apart = {*fixed, *self.schema.sensitive}
        return in_order(values, self.ordered, apart, again, lambda name, own: self._column(name, own, None))

    def _agreed(self, values: Mapping[str, pl.Series], fixed: Collection[str] = ()) -> dict[str, pl.Series]:
        """Let columns and the moments that tell them agree."""
        held = {one: values[one] for name, own in self.dated.items() for one in (name, *own.of)}
        held |= {name: values[name] for name in self.since}
        return agreed(held, self.dated, self.schema, {*fixed, *self.schema.sensitive}, self.since)

    def followed(self, frame: pl.DataFrame, besides: Collection[str] = ()) -> pl.DataFrame:
        """Return canonical rows in which columns that follow from others do.

        Those in `besides` stay as they are: where such a column follows from others, one of these that is not among
        them is computed instead, one whose range the value does not leave if there is any.
        """
        fixed = set(besides)
        for own in self.derived.values():
            if own.name in besides:
                frame = self._solved(frame, own, [name for name in own.of if name not in fixed])
                fixed |= set(own.of)
        columns = [
            self._computed(j, {name: frame[name] for name in own.of})
            for j, own in self.derived.items()
            if own.name not in besides
        ]
        return frame.with_columns(columns) if columns else frame

    def _solved(self, frame: pl.DataFrame, own: Derived, free: list[str]) -> pl.DataFrame:
        """Return rows that follow though the column itself stays as it is, by columns that are free to move."""
        known = {name: as_floats(frame[name]) for name in (own.name, *own.of)}
        left = ~np.isnan(np.stack(list(known.values()))).any(0)
        for name in reversed(free):
            values, (low, high) = own.solved(name, known), self.schema[name].bounds
            here = left & (values >= low) & (values <= high)
            moved = pl.when(pl.Series(here)).then(self._column(name, values, None)).otherwise(frame[name])
            frame, left = frame.with_columns(moved.alias(name)), left & ~here
        return frame

    def _computed(self, place: int, sources: Mapping[str, pl.Series]) -> pl.Series:
        """Return the canonical values of a column that follows from others; missing where one of them is."""
        own = self.derived[place]
        numbers = {name: as_floats(values) for name, values in sources.items()}
        gone = np.isnan(np.stack(list(numbers.values()))).any(0)
        values = self.states[place].as_seen(own.values(numbers))  # type: ignore[union-attr]
        return self._column(own.name, values, gone if gone.any() else None)

    def _column(self, name: str, values: np.ndarray, gone: np.ndarray | None) -> pl.Series:
        """Return numbers as canonical values of a column."""
        column = self.schema[name]
        found = pl.Series(name, on_grid(values, column, grid_step(column)))
        if column.kind != "continuous":
            found = found.cast(pl.Int64)
        return with_missing(found.cast(DATETIME) if column.kind == "datetime" else found, gone)

    def derived_states(self, place: int, lines: Mapping[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the states that a column follows into, given those of the columns it follows from.

        Parameters
        ----------
        place : int
            Of the column.
        lines : mapping
            Place → states of rows, integers ``(n,)``, of those columns at least.

        Returns
        -------
        states : np.ndarray
            int32 ``(n,)``. What is drawn inside an interval may lead into a neighbouring one.
        inside : np.ndarray
            Whether the value is within the range of the column, bool ``(n,)``.
        """
        own, part = self.derived[place], self.states[place]
        assert isinstance(part, NumberStates)
        column = self.schema[own.name]
        numbers = {name: self._middles[name].take(lines[self.index(name)]) for name in own.of}
        values = own.values(numbers)
        gone = np.isnan(np.stack(list(numbers.values()))).any(0)
        states = part.states_of(on_grid(part.as_seen(values), column, part.step))
        if part.missing:
            states = np.where(gone, np.int32(part.size - 1), states)
        (low, high), slack = column.bounds, slack_of(column, part.step)
        return states, gone | ((values >= low - slack) & (values <= high + slack))

    @cached_property
    def _middles(self) -> dict[str, np.ndarray]:
        return {part.name: part.middles() for part in self.states if isinstance(part, NumberStates)}

    def decode_batch(self, states: np.ndarray, rng: np.random.Generator) -> pa.RecordBatch:
        """Return rows, without identifiers, as a batch of the types of `frames.arrow_schema`.

        The same rows as those of `decode`, with fewer steps between; arguments as there.
        """
        states = self.settled(states)
        of_derived = {name for own in self.derived.values() for name in own.of}
        dated = [(name, one) for name, own in self.dated.items() for one in own.of]
        pairs = [*self.since.items(), *self.ordered, *dated]
        sources = of_derived | {name for pair in pairs for name in pair}
        arrays: list[pa.Array] = []
        known: dict[str, pl.Series] = {}
        for part, line, kind in zip(self.states, states, self._arrow_schema.types, strict=True):
            column = self.schema[part.name]
            if part.name in sources:
                known[part.name] = part.decode(line, rng, column)
                arrays.append(None)
            else:
                arrays.append(part.decode_arrow(line, rng, column, kind))
        for name in self._since_in_turn:
            known[name] = added(known[name], known[self.since[name]], self.schema[name])
        if self.ordered:
            held = {name: known[name] for pair in self.ordered for name in pair}
            known |= self._in_order(held, states, rng)
        if self.dated:
            known |= self._agreed(known)
        if of_derived:
            known |= self._in_range({name: known[name] for name in of_derived}, states, rng)
        for name in known:
            arrays[self.index(name)] = self._array(self.index(name), known[name])
        for j, own in self.derived.items():
            values = self._computed(j, {name: known[name] for name in own.of})
            arrays[j] = self._array(j, values)
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow_schema)

    def _array(self, place: int, values: pl.Series) -> pa.Array:
        return batch_column(values, self.schema[self.names[place]], self._arrow_schema.types[place])

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
            if part.dated is not None:
                told[part.name] = f"{part.dated}" + (", which is moved to fit" if part.dated.moves else "")
            elif isinstance(part, LevelStates):
                told[part.name] = f"{part.n_levels} level names"
            elif part.follows is not None:
                told[part.name] = f"computed: {part.follows}"
            elif part.since is not None:
                told[part.name] = (
                    f"the time since {part.since}: {len(part.atoms)} lengths shared by {MIN_SHARED}+ rows, "
                    f"{len(part.edges)} averaged quantiles, range"
                )
            else:
                round_ = ", how round they are" if part.roundness is not None else ""
                told[part.name] = (
                    f"{len(part.atoms)} values shared by {MIN_SHARED}+ rows, "
                    f"{len(part.edges)} averaged quantiles, range{round_}"
                )
        return told


def with_exact(frame: pl.DataFrame, exact: Mapping[str, float | str]) -> pl.DataFrame:
    """Set columns to the value asked for: their rows were drawn from the state that holds it."""
    columns = []
    for name, value in exact.items():
        dtype = frame[name].dtype
        literal = pl.lit(value) if isinstance(value, str) or dtype == pl.Float64 else pl.lit(int(value))
        columns.append(literal.cast(dtype).alias(name))
    return frame.with_columns(columns)
