"""Files and databases in; streamed, atomic Parquet and CSV out."""

from __future__ import annotations

import base64
import csv
import gzip
import os
import re
import secrets
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import polars as pl
import pyarrow as pa

from fairsynth.data import foreign_files, text_files, workbook_writer
from fairsynth.data.frames import (
    RawFrame,
    file_schema,
    from_native,
    refuse_duplicates,
    series_of_arrow,
)
from fairsynth.data.schema import Column, Schema
from fairsynth.data.spans import time_text
from fairsynth.errors import DataError, FairsynthWarning, MissingDependencyError, SettingsError

READABLE = (*text_files.ENDINGS, ".parquet", ".arrow", ".feather", *foreign_files.ENDINGS)
WRITABLE = (".parquet", ".csv", ".csv.gz", workbook_writer.ENDING)
_DUCKDB = "duckdb:///"
#: Rows that one row group of a Parquet file holds at least, so that small batches do not make slow files.
ROW_GROUP = 131_072
#: Rows handed to the encoder of a column at a time.
WRITE_ROWS = 16_384
#: Integers of a smaller range are written with a dictionary.
FEW_VALUES = 1_000


def is_address(source: Any) -> bool:
    """Whether something is the address of a database query."""
    return isinstance(source, str) and source.startswith("duckdb:")


def read_any(source: str | os.PathLike[str]) -> RawFrame:
    """Read a table from a file or a database.

    Parameters
    ----------
    source : str or path
        .csv, .csv.gz, .tsv, .parquet, .arrow or .feather file, a workbook (``people.xlsx``, or
        ``people.xlsx?sheet=2024``; .ods, .xls), a file of SPSS, Stata or SAS, or JSON (a list of objects, or one a
        line); or ``duckdb:///file.db?query=SELECT ...``: the file relative, or absolute with a fourth slash, or
        ``:memory:``; the query percent-encoded where needed. The database is opened read-only.

    Returns
    -------
    RawFrame
        Taken as Polars. Text files come as text throughout (`RawFrame.untyped`); empty fields are null.

    Raises
    ------
    DataError
        Naming the file and what is wrong with it.
    MissingDependencyError
        If a library that reads such files is missing.

    Warns
    -----
    FairsynthWarning
        For each of `RawFrame.notes`: what had to be assumed.
    """
    raw = _read(source)
    # No part of the schema, which goes into models that are handed on: they name files and sheets.
    for note in raw.notes:
        warnings.warn(note, FairsynthWarning, stacklevel=4)
    return raw


def _read(source: str | os.PathLike[str]) -> RawFrame:
    if is_address(source):
        return _as_polars(_read_duckdb(str(source)))
    path, sheet = _sheet_of(Path(source))
    name = path.name.lower()
    if not name.endswith(READABLE):
        raise DataError(
            f"{path} is of no known kind; give one of {', '.join(READABLE)}, or a duckdb:/// address."
        )
    if sheet is not None and not name.endswith(foreign_files.WORKBOOKS):
        raise DataError(f"{source}: only workbooks have sheets.")
    if not path.exists():
        raise DataError(f"there is no file {path}.")
    if path.is_dir():
        raise DataError(f"{path} is a folder; give a file.")
    if path.stat().st_size == 0:
        raise DataError(f"the file {path} is empty.")
    try:
        if name.endswith(text_files.ENDINGS):
            return text_files.read_text(path)
        if name.endswith(".parquet"):
            return from_native(pl.read_parquet(path))
        if name.endswith(foreign_files.ENDINGS):
            return foreign_files.read_foreign(path, sheet)
        return _as_polars(_read_arrow(path))
    except (
        pa.ArrowException,
        pl.exceptions.PolarsError,
        OSError,
        UnicodeError,
        csv.Error,
        EOFError,
    ) as error:
        raise DataError(f"{path} cannot be read as a table: {_first_line(error)}") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _sheet_of(path: Path) -> tuple[Path, str | None]:
    """Part the sheet that is asked for from the path of a workbook, unless a file is called so."""
    name, asked, sheet = str(path).partition(foreign_files.SHEET)
    return (Path(name), sheet) if asked and not path.exists() else (path, None)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _as_polars(table: pa.Table) -> RawFrame:
    """Take an Arrow table as the Polars frame that a user would hold."""
    refuse_duplicates(list(table.column_names))
    for place, field in enumerate(table.schema):
        if pa.types.is_interval(field.type):  # which Polars does not read
            durations = series_of_arrow(field.name, table.column(place)).to_arrow()
            table = table.set_column(place, field.name, durations)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return from_native(frame)


def _read_arrow(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        try:
            return pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_stream(source).read_all()


def _read_duckdb(address: str) -> pa.Table:
    match = re.fullmatch(
        re.escape(_DUCKDB) + r"(?P<file>[^?]*)\?query=(?P<query>.*)", address, flags=re.DOTALL
    )
    if match is None or not match["query"].strip():
        raise DataError(
            f"{address!r} is no address of a query; write duckdb:///file.db?query=SELECT ... FROM ..."
        )
    try:
        import duckdb
    except ImportError as error:
        raise MissingDependencyError(
            "reading from DuckDB needs one more library: pip install duckdb"
        ) from error
    file, query = unquote(match["file"]), unquote(match["query"])
    in_memory = file in ("", ":memory:")
    if not in_memory and not Path(file).is_file():
        raise DataError(f"there is no database file {file}.")
    try:
        with duckdb.connect(":memory:" if in_memory else file, read_only=not in_memory) as connection:
            relation = connection.sql(query)
            result = None if relation is None else relation.to_arrow_table()
    except duckdb.Error as error:
        raise DataError(f"the query failed in DuckDB ({file or ':memory:'}): {str(error).strip()}") from error
    if result is None:
        raise DataError(f"the query gives no table: {query}")
    return result


class TableWriter:
    """Write record batches to a file, which appears only when all of them are in it.

    Use it as a context manager. Batches go to a hidden file beside the target, which takes the target's
    place at the end; if anything is raised in between, ``KeyboardInterrupt`` included, nothing is left
    behind and an older file stays as it was.

    Parameters
    ----------
    path : str or path
        .parquet, .csv, .csv.gz or .xlsx.
    schema : Schema
        Of the rows.
    expected : int, optional
        How many rows will come, so that what has no room for them is refused at once.

    Attributes
    ----------
    rows : int
        How many rows were written.

    Raises
    ------
    SettingsError
        If the ending is another one, or a workbook has no room for so many rows.
    DataError
        If the folder does not exist.
    """

    def __init__(self, path: str | os.PathLike[str], schema: Schema, *, expected: int = 0) -> None:
        self.path, self.schema, self.rows = Path(path), schema, 0
        name = self.path.name.lower()
        if not name.endswith(WRITABLE):
            raise SettingsError(
                f"{self.path} has no ending that can be written; choose one of {', '.join(WRITABLE)}."
            )
        if name.endswith(workbook_writer.ENDING):
            workbook_writer.check_rows(expected)
        if not self.path.parent.is_dir():
            raise DataError(f"the folder {self.path.parent} does not exist; make it first.")
        if self.path.is_dir():
            raise DataError(f"{self.path} is a folder; name a file.")
        self._temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        self._sink: _ParquetSink | _CsvSink | workbook_writer.WorkbookSink | None = None

    def __enter__(self) -> Self:
        """Open the hidden file."""
        try:
            if self.path.name.lower().endswith(".parquet"):
                self._sink = _ParquetSink(self._temporary, self.schema)
            elif self.path.name.lower().endswith(workbook_writer.ENDING):
                self._sink = workbook_writer.WorkbookSink(self._temporary, self.schema)
            else:
                compressed = self.path.name.lower().endswith(".gz")
                self._sink = _CsvSink(self._temporary, self.schema, compressed=compressed)
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise
        return self

    def discard(self) -> None:
        """Leave nothing behind: for an interruption between the opening of the file and the ``with`` block."""
        if self._sink is not None:
            self.__exit__(KeyboardInterrupt, None, None)
        self._temporary.unlink(missing_ok=True)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of a batch, of the types of `arrow_schema`."""
        if self._sink is None:
            raise SettingsError("the writer is not open; use it in a with statement.")
        self._sink.write(batch)
        self.rows += batch.num_rows

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the file in its place, or leave nothing behind."""
        sink, self._sink = self._sink, None
        try:
            if sink is not None:
                sink.close(complete=kind is None)
            if kind is None:
                os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)


class _ParquetSink:
    """Parquet with text written from dictionaries, and read back as text."""

    def __init__(self, path: Path, schema: Schema) -> None:
        # Imported here: reading CSV needs none of it.
        import pyarrow.parquet as pq

        from fairsynth.data.frames import arrow_schema

        self._types = arrow_schema(schema)
        self._file_types = file_schema(schema)
        text = {item.name for item in self._types if pa.types.is_dictionary(item.type)}
        dictionaries = sorted(text)
        # Of numbers only those of few values: on others, building a dictionary takes several times longer.
        dictionaries += [column.name for column in schema if _has_few_values(column)]
        self._file = open(path, "wb")  # noqa: SIM115  # closed in close()
        self._writer = pq.ParquetWriter(
            self._file,
            self._types,
            compression="snappy",
            use_dictionary=dictionaries or False,
            # Of text, minimum and maximum help nobody, and to find them takes a third of all writing.
            write_statistics=[item.name for item in self._types if item.name not in text] or False,
            write_batch_size=WRITE_ROWS,
            # The types stored are those of the file, not the dictionaries that only make writing quick.
            store_schema=False,
        )
        self._waiting: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        if sum(one.num_rows for one in self._waiting) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting, schema=self._types))
            self._waiting = []

    def close(self, *, complete: bool) -> None:
        try:
            if complete:
                self._flush()
                stored = base64.b64encode(self._file_types.serialize().to_pybytes())
                self._writer.add_key_value_metadata({"ARROW:schema": stored.decode()})
        finally:
            # Also after an error, or the writer would try again when it is collected.
            try:
                self._writer.close()
            finally:
                self._file.close()


def _has_few_values(column: Column) -> bool:
    return column.kind == "integer" and column.bounds[1] - column.bounds[0] < FEW_VALUES


class _CsvSink:
    """CSV through Polars; missing is an empty field."""

    def __init__(self, path: Path, schema: Schema, *, compressed: bool) -> None:
        self._schema = schema
        self._file = open(path, "wb")  # noqa: SIM115  # closed in close()
        # No name and no time inside, so that equal rows make equal files.
        self._stream: Any = self._file
        if compressed:
            self._stream = gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=self._file, mtime=0)
        header = pl.DataFrame(schema=dict.fromkeys(schema.names, pl.String))
        header.write_csv(self._stream)

    def write(self, batch: pa.RecordBatch) -> None:
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        of_time = [values for values in frame.get_columns() if values.dtype.is_temporal()]
        frame = frame.with_columns(time_text(values, self._schema[values.name]) for values in of_time)
        frame.write_csv(self._stream, include_header=False)

    def close(self, *, complete: bool) -> None:
        try:
            if self._stream is not self._file:
                self._stream.close()
        finally:
            self._file.close()
