"""Tables in Parquet that are larger than memory: an even sample to learn shapes from, and all rows in batches.

A first reading draws the sample and sees to it that the schema knows of all rows: with the sample it is inferred from
*witnesses*, the first row of every level, of every missing value, and the five most extreme ones of every number.
Later readings give the rows batch by batch as states of an encoder. Memory grows with the sample and not with the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from fairsynth.data.canonical import mask_missing, to_canonical
from fairsynth.data.frames import from_native, refuse_duplicates, series_of_arrow
from fairsynth.data.giveaways import with_notes
from fairsynth.data.infer import MAX_NUMERIC_LEVELS, MIN_IDENTIFIER_ROWS, infer_schema
from fairsynth.data.measure import EXTREME_ROWS
from fairsynth.data.schema import Column, Schema
from fairsynth.data.table import Table, _canonical
from fairsynth.errors import DataError, FairsynthError, SettingsError
from fairsynth.progress import Progress, Step

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    from fairsynth.data.encoding import TableEncoder
    from fairsynth.data.level_states import LevelStates
    from fairsynth.data.number_states import NumberStates

#: Rows of the sample.
SAMPLE_ROWS = 300_000
#: Files of more rows than this are read in batches by ``fairsynth fit``.
STREAM_ABOVE = 1_000_000
#: Rows read at a time.
BATCH_ROWS = 65_536
#: Different values of a column that are remembered at most: more are no levels.
MOST_LEVELS = 100_000
#: Bytes read of a column at a time.
BUFFER = 1 << 20


def parquet_files(path: str | os.PathLike[str]) -> list[Path]:
    """Return the Parquet file that a path names, or those in a folder, by name; empty if it is neither."""
    place = Path(path)
    if place.is_dir():
        return sorted(p for p in place.glob("*.parquet") if not p.name.startswith(".") and p.is_file())
    return [place] if place.name.lower().endswith(".parquet") and place.is_file() else []


def count_rows(files: Sequence[Path]) -> int:
    """Return how many rows Parquet files hold, from their ends alone."""
    import pyarrow.parquet as pq

    total = 0
    for file in files:
        try:
            total += pq.read_metadata(file).num_rows
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} cannot be read as Parquet: {error}") from error
    return total


class StreamedTable:
    """Rows of Parquet that are never all in memory.

    It can be fitted by generators that count rows in batches (`AuditedTrees`, `FairTrees`).

    Parameters
    ----------
    data : path
        A .parquet file, or a folder of them, all with the same columns.
    schema, target, favorable, sensitive, domain, identifiers, missing, kinds
        As of `Table`.
    sample_rows : int, default=300_000
        Rows drawn evenly, by which kinds, states and shapes are decided. Of a smaller file they are all rows.
    seed : int, default=0
        Decides which they are.
    progress : callable, optional
        Told of every batch of the first reading.

    Attributes
    ----------
    schema : Schema
        Of all rows: levels, missing values and ranges are those of the whole file. Decimals, units of time and whether
        a text is a date are those of the sample and the witnesses.
    sample : Table
        The rows that were drawn, in random order.
    files : list of Path
        What is read.
    level_counts : dict
        Categorical column → rows of each level in the whole file, int64, where its levels were counted.

    Raises
    ------
    DataError
        If there are no such files, their columns differ, or a column cannot be used: a text of more than 100,000 levels
        that is no identifier, a missing target, what `Table` refuses.
    SchemaError
        If what is said of the columns does not fit the rows.
    """

    def __init__(
        self,
        data: str | os.PathLike[str],
        *,
        schema: Schema | None = None,
        target: str | None = None,
        favorable: Any = None,
        sensitive: str | Sequence[str] | Mapping[str, Sequence[float] | None] = (),
        domain: str | None = None,
        identifiers: str | Sequence[str] = (),
        missing: str | Sequence[str] = (),
        kinds: Mapping[str, str | Mapping[str, Any]] | None = None,
        sample_rows: int = SAMPLE_ROWS,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        if isinstance(sample_rows, bool) or not isinstance(sample_rows, int) or sample_rows < 1_000:
            raise SettingsError(f"sample_rows={sample_rows!r} must be a whole number from 1,000.")
        self.files = parquet_files(data)
        if not self.files:
            raise DataError(f"{os.fspath(data)} is neither a .parquet file nor a folder that holds some.")
        self._n = count_rows(self.files)
        base = schema if schema is not None else Schema()
        names = (sensitive,) if isinstance(sensitive, str) else tuple(sensitive)
        said = {
            "target": target if target is not None else base.target,
            "sensitive": names or base.sensitive,
            "domain": domain if domain is not None else base.domain,
            "missing": ((missing,) if isinstance(missing, str) else tuple(missing)) or base.missing,
        }
        kinds = dict(kinds or {})
        survey = _Survey(said, _categorical(base, kinds))
        drawn = self._surveyed(survey, min(sample_rows, self._n), seed, progress)
        native = pl.scan_parquet(self.files[0]).collect_schema()
        frames = [_as_frame(pieces, dict(native)) for pieces in (drawn, survey.witnesses) if pieces]
        given = {column.name for column in base if column.kind != "numeric"} | set(kinds)
        for name in survey.counting(self._n, frames[0]) - given - set(survey.roles):
            kinds[name] = "identifier"
        raw = from_native(pl.concat(frames))
        self.schema = infer_schema(
            raw, base=schema, target=target, favorable=favorable, sensitive=sensitive, domain=domain,
            identifiers=identifiers, missing=missing, kinds=kinds,
        )  # fmt: skip
        for column in self.schema:
            if column.kind == "categorical" and column.name in survey.crowded:
                raise DataError(
                    f"column {column.name!r} holds more than {MOST_LEVELS:,} different values; declare it as an "
                    "identifier, give it another kind, or put rare values together."
                )
        order = np.random.default_rng([seed, 3]).permutation(len(frames[0]))
        frame, self.repairs = _canonical(from_native(frames[0][order]), self.schema, strict=False)
        self.schema = with_notes(self.schema, schema, frame)
        self.sample = Table._of(frame, self.schema, self.repairs)
        self.level_counts = survey.level_counts(self.schema)

    def __len__(self) -> int:
        """Count the rows of all files."""
        return self._n

    def __repr__(self) -> str:
        """Say how large the files are and what roles the columns play."""
        inner = repr(self.sample).partition("rows, ")[2]
        return f"StreamedTable({len(self):,} rows, {inner}"

    def states(self, encoder: TableEncoder) -> Iterator[np.ndarray]:
        """Give the states of all rows batch by batch, int32 ``(columns, n)``, in the order of the files.

        Parameters
        ----------
        encoder : TableEncoder
            Of this table's schema.

        Raises
        ------
        DataError
            If a row holds what cannot be read as the schema says, naming the file and the rows.
        """
        for place in self.batches(encoder.names):
            yield place.states(encoder)

    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        """Give the rows of some columns as they lie in the files."""
        for file in self.files:
            start = 0
            for batch in _read(file, list(names)):
                yield Batch(file, start, batch, self.schema)
                start += batch.num_rows

    def _surveyed(
        self, survey: _Survey, n: int, seed: int, progress: Progress | None
    ) -> list[pa.RecordBatch]:
        """Read all rows once, telling the survey; return the rows of the sample."""
        chosen = np.sort(np.random.default_rng([seed, 2]).choice(self._n, size=n, replace=False))
        drawn, start, names = [], 0, None
        for file in self.files:
            within = 0
            for batch in _read(file, None):
                if names is None:
                    names = batch.schema.names
                    refuse_duplicates(names)
                elif batch.schema.names != names:
                    raise DataError(
                        f"{file} has the columns {', '.join(batch.schema.names)}, and {self.files[0]} has "
                        f"{', '.join(names)}; give files of the same columns in the same order."
                    )
                low, high = np.searchsorted(chosen, (start, start + batch.num_rows))
                rows = chosen[low:high] - start
                if len(rows):
                    drawn.append(_plain(batch.take(pa.array(rows))))
                survey.see(batch, rows, file, within)
                start, within = start + batch.num_rows, within + batch.num_rows
                if progress is not None:
                    progress(Step("read", start, self._n))
        return drawn


@dataclass(frozen=True)
class Batch:
    """Some rows of a file, as they lie there.

    Attributes
    ----------
    file : Path
        Where they are from.
    start : int
        Number of the first of them in that file.
    rows : pa.RecordBatch
        Text as dictionaries.
    schema : Schema
        What the columns are.
    """

    file: Path
    start: int
    rows: pa.RecordBatch
    schema: Schema

    def states(self, encoder: TableEncoder) -> np.ndarray:
        """Return the state of every row in every column of an encoder, int32 ``(columns, n)``."""
        states = np.empty((len(encoder.names), self.rows.num_rows), dtype=np.int32)
        for at, part in enumerate(encoder.states):
            column = self.schema[part.name]
            try:
                if part.name in encoder.since:
                    known = {name: self._moments(name) for name in (part.name, encoder.since[part.name])}
                    states[at] = part.encode(encoder.told(part, known))
                else:
                    states[at] = _states_of(self.rows.column(part.name), column, part, self.schema.missing)
            except FairsynthError as error:
                last = self.start + self.rows.num_rows - 1
                raise type(error)(
                    f"{self.file}, rows {self.start:,} to {last:,} (counted from the first of them): {error}"
                ) from error
        return states

    def _moments(self, name: str) -> pl.Series:
        rows = self.rows.column(name)
        plain = rows.dictionary_decode() if pa.types.is_dictionary(rows.type) else rows
        values = series_of_arrow(name, plain)
        return to_canonical(values, self.schema[name], self.schema.missing)[0]


def _states_of(
    values: pa.Array, column: Column, part: LevelStates | NumberStates, missing: tuple[str, ...]
) -> np.ndarray:
    if not pa.types.is_dictionary(values.type):
        return part.encode(to_canonical(series_of_arrow(column.name, values), column, missing)[0])
    # Each text is read once a batch, and not once a row.
    texts = to_canonical(series_of_arrow(column.name, values.dictionary), column, missing)[0]
    known = texts.is_not_null().to_numpy()
    table = np.full(len(texts) + 1, part.size - 1 if part.missing else -1, dtype=np.int32)
    table[:-1][known] = part.encode(texts.drop_nulls())
    states = table.take(values.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False))
    if not part.missing and (states < 0).any():
        raise DataError(
            f"column {column.name!r}: row {int(np.argmax(states < 0))} is missing, and no row was when it was learned."
        )
    return states


@dataclass
class _Seen:
    """What was met of one column so far."""

    values: dict[Any, int] | None = field(default_factory=dict)
    lows: list[Any] = field(default_factory=list)
    highs: list[Any] = field(default_factory=list)
    missing: bool = False
    nan: bool = False
    whole: bool = False
    text: bool = False


class _Survey:
    """Remembers what a schema has to know of all rows, and the rows that show it."""

    def __init__(self, said: dict[str, Any], categorical: set[str]) -> None:
        self.target: str = said["target"]
        self.roles = {said["target"], *said["sensitive"], said["domain"]} - {None, ""}
        self.markers = said["missing"]
        self.many = categorical | self.roles
        self.seen: dict[str, _Seen] = {}
        self.witnesses: list[pa.RecordBatch] = []

    def see(self, batch: pa.RecordBatch, drawn: np.ndarray, file: Path, start: int) -> None:
        """Take a batch in; rows that were drawn for the sample need not witness anything."""
        rows: set[int] = set()
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            seen = self.seen.setdefault(name, _Seen())
            if pa.types.is_dictionary(values.type):
                rows.update(self._texts(seen, name, values))
            else:
                rows.update(self._numbers(seen, name, series_of_arrow(name, values)))
            if name == self.target and seen.missing:
                row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
                raise DataError(
                    f"target {name!r} is missing in rows of {file}, the first is row {start + row:,} (rows count "
                    "from 0); remove them."
                )
        wanted = sorted(rows.difference(drawn.tolist()))
        if wanted:
            self.witnesses.append(_plain(batch.take(pa.array(wanted))))

    def _texts(self, seen: _Seen, name: str, values: pa.DictionaryArray) -> list[int]:
        seen.text = True
        size = len(values.dictionary)
        codes = values.indices.fill_null(size).to_numpy(zero_copy_only=False)
        counts = np.bincount(codes, minlength=size + 1)
        fresh = [size] if counts[size] and not seen.missing else []
        seen.missing |= bool(counts[size])
        if seen.values is not None:
            met = np.flatnonzero(counts[:size])
            texts = values.dictionary.take(pa.array(met)).to_pylist()
            fresh += [code for code, text in zip(met.tolist(), texts, strict=True) if text not in seen.values]
            for text, count in zip(texts, counts[met].tolist(), strict=True):
                seen.values[text] = seen.values.get(text, 0) + count
            if len(seen.values) > MOST_LEVELS:  # no levels, so their rows witness nothing
                seen.values, fresh = None, [code for code in fresh if code == size]
        if not fresh:
            return []
        first = np.zeros(size + 1, dtype=np.int64)
        first[codes[::-1]] = np.arange(len(codes))[::-1]
        return [int(row) for row in first[fresh]]

    def _numbers(self, seen: _Seen, name: str, values: pl.Series) -> list[int]:
        rows: list[int] = []
        if values.null_count() and not seen.missing:
            seen.missing = True
            rows.append(int(values.is_null().arg_max() or 0))
        if values.dtype.is_float() and not seen.nan and values.is_nan().any():
            seen.nan = True
            rows.append(int(values.is_nan().fill_null(False).arg_max() or 0))
        if self.markers and values.dtype.is_numeric():
            numbers, _ = mask_missing(values, self.markers)
            if numbers.null_count() > values.null_count() and not seen.nan:
                seen.nan = True
                rows.append(int((numbers.is_null() & values.is_not_null()).arg_max() or 0))
            values = numbers
        elif values.dtype.is_float():
            values = values.fill_nan(None)
        if seen.values is not None:
            rows += self._distinct(seen, values, MOST_LEVELS if name in self.many else MAX_NUMERIC_LEVELS + 1)
        if values.dtype != pl.Boolean:
            seen.whole = values.dtype.is_integer()
            rows += _extremes(seen, values)
        return rows

    def _distinct(self, seen: _Seen, values: pl.Series, most: int) -> list[int]:
        assert seen.values is not None
        if values[:1000].n_unique() > most + 1:
            seen.values = None
            return []
        found = values.drop_nulls().value_counts(name="rows")
        fresh = [value for value in found[values.name] if value not in seen.values]
        for value, count in found.iter_rows():
            seen.values[value] = seen.values.get(value, 0) + count
        if len(seen.values) > most:
            seen.values = None
            # What has few values and one more is none of few: that one has to be seen.
            fresh = fresh if most <= MAX_NUMERIC_LEVELS + 1 else []
        if not fresh:
            return []
        first = pl.DataFrame({"value": values, "row": pl.int_range(len(values), eager=True)})
        first = first.filter(pl.col("value").is_in(pl.Series(fresh, dtype=values.dtype).implode()))
        return [int(row) for row in first.unique(subset="value", keep="first")["row"]]

    @property
    def crowded(self) -> set[str]:
        """Columns of more values than can be levels."""
        return {
            name
            for name, seen in self.seen.items()
            if seen.values is None and (seen.text or name in self.many)
        }

    def counting(self, n: int, sample: pl.DataFrame) -> set[str]:
        """Return columns of whole numbers that count the rows: consecutive, none missing, none twice in the sample."""
        return {
            name for name, seen in self.seen.items()
            if seen.whole and not seen.missing and n >= MIN_IDENTIFIER_ROWS
            and seen.highs[-1] - seen.lows[0] + 1 == n and sample[name].n_unique() == len(sample)
        }  # fmt: skip

    def level_counts(self, schema: Schema) -> dict[str, np.ndarray]:
        """Return how many rows each level has, by categorical column."""
        found = {}
        for column in schema:
            seen = self.seen[column.name]
            if column.kind != "categorical" or not seen.values or not seen.text:
                continue
            texts = pl.Series(column.name, list(seen.values), dtype=pl.String)
            codes = to_canonical(texts, column, schema.missing)[0].to_physical().cast(pl.Int64).fill_null(-1)
            known = codes.to_numpy() >= 0
            counts = np.array(list(seen.values.values()), dtype=np.float64)[known]
            total = np.bincount(codes.to_numpy()[known], weights=counts, minlength=len(column.levels))
            found[column.name] = total.astype(np.int64)
        return found


def _extremes(seen: _Seen, values: pl.Series) -> list[int]:
    """Return rows whose value is among the five lowest or highest that were met."""
    low, high = values.min(), values.max()
    if low is None:
        return []
    short = len(seen.lows) < EXTREME_ROWS
    if not short and low >= seen.lows[-1] and high <= seen.highs[0]:
        return []
    held = np.flatnonzero(values.is_not_null().to_numpy())
    numbers = values.drop_nulls()
    order = numbers.arg_sort().to_numpy()
    rows = []
    for ends, beats in ((order[:EXTREME_ROWS], "lows"), (order[-EXTREME_ROWS:], "highs")):
        before = getattr(seen, beats)
        met = numbers.gather(ends).to_list()
        kept = sorted([*before, *met])
        kept = kept[:EXTREME_ROWS] if beats == "lows" else kept[-EXTREME_ROWS:]
        rows += [int(held[at]) for at, value in zip(ends, met, strict=True) if value in kept]
        setattr(seen, beats, kept)
    return rows


def _categorical(base: Schema, kinds: Mapping[str, Any]) -> set[str]:
    """Return the columns that are said to be categorical."""
    said: dict[str, str] = {column.name: column.kind for column in base}
    for name, given in kinds.items():
        said[name] = given if isinstance(given, str) else given.get("kind", said.get(name, ""))
    return {name for name, kind in said.items() if kind == "categorical"}


def _read(file: Path, names: list[str] | None) -> Iterator[pa.RecordBatch]:
    """Read a Parquet file in batches, text as dictionaries; of a row group no more than a buffer a column is held."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False) as plain:
            texts = _texts_of(plain)
        with pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False, read_dictionary=texts) as opened:
            if names is not None and (
                lacking := [name for name in names if name not in opened.schema_arrow.names]
            ):
                raise DataError(f"{file} lacks the column {lacking[0]!r}; give files of the same columns.")
            for batch in opened.iter_batches(batch_size=BATCH_ROWS, columns=names):
                if batch.num_rows:
                    yield batch
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}") from error


def _texts_of(opened: pq.ParquetFile) -> list[str]:
    def is_text(kind: pa.DataType) -> bool:
        return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)

    return [item.name for item in opened.schema_arrow if is_text(item.type)]


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Write dictionaries out, so that batches of different ones can be put together."""
    arrays = [
        array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
        for array in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _as_frame(pieces: list[pa.RecordBatch], dtypes: dict[str, pl.DataType]) -> pl.DataFrame:
    """Put pieces together as the frame that Polars would read from the file."""
    for one, other in pairwise(pieces):
        if one.schema != other.schema:
            raise DataError(
                f"the files hold columns of different types: {other.schema.to_string()} after "
                f"{one.schema.to_string()}; write them alike."
            )
    frame = pl.from_arrow(pa.Table.from_batches(pieces))
    assert isinstance(frame, pl.DataFrame)
    return frame.cast(dict(dtypes))  # type: ignore[arg-type]
