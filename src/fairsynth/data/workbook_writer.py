"""Rows into a workbook of Excel, for people who open tables there."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pyarrow as pa

from fairsynth.data.schema import Schema
from fairsynth.data.spans import time_text
from fairsynth.errors import MissingDependencyError, SettingsError

ENDING = ".xlsx"
#: Rows and columns of a sheet, the header apart, and characters of a cell.
MOST_ROWS, MOST_COLUMNS, MOST_CHARACTERS = 1_048_575, 16_384, 32_767
#: Whole numbers beyond fifteen digits lose some in Excel.
EXACT = 10**15
#: Excel's calendar counts a day of 1900 that there was not; from here on it is right.
FIRST_DAY = dt.datetime(1900, 3, 1)
SHEET = "rows"


def check_rows(n: int) -> None:
    """Raise SettingsError if a sheet has no room for so many rows."""
    if n > MOST_ROWS:
        raise SettingsError(
            f"a sheet has {MOST_ROWS:,} rows at most, and {n:,} are asked for; write Parquet or CSV."
        )


class WorkbookSink:
    """A workbook of one sheet, written row by row, so that memory does not grow.

    Numbers, days and moments without a zone are what they are in Excel; what it cannot hold is text as in CSV: moments
    with a zone, days before March 1900, times of day and durations, whole numbers of more than fifteen digits. Text
    is never taken for a formula or an address. Missing is an empty cell.

    Parameters
    ----------
    path : Path
        The file.
    schema : Schema
        Of the rows.

    Raises
    ------
    MissingDependencyError
        If xlsxwriter is missing.
    SettingsError
        If there are more columns than Excel has.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        try:
            import xlsxwriter
        except ImportError as error:
            raise MissingDependencyError(
                "writing .xlsx needs one more library: pip install 'fairsynth[files]'"
            ) from error
        if len(schema.names) > MOST_COLUMNS:
            raise SettingsError(
                f"a sheet has {MOST_COLUMNS:,} columns at most, and there are {len(schema.names):,}; write Parquet."
            )
        self._schema, self._rows = schema, 0
        options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
        # Opened now, so that a place that cannot be written is told before all rows are drawn.
        self._file = open(path, "wb")  # noqa: SIM115  # closed in close()
        self._book = xlsxwriter.Workbook(self._file, options)
        # No moment of writing inside, so that equal rows make equal files.
        self._book.set_properties({"created": dt.datetime(2000, 1, 1)})
        bold = self._book.add_format({"bold": True})
        self._day = self._book.add_format({"num_format": "yyyy-mm-dd"})
        self._moment = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._sheet = self._book.add_worksheet(SHEET)
        self._sheet.freeze_panes(1, 0)
        for place, name in enumerate(schema.names):
            self._sheet.write_string(0, place, name, bold)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows.

        Raises
        ------
        SettingsError
            If there are more than Excel has.
        """
        check_rows(self._rows + batch.num_rows)
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        columns = [self._cells(values) for values in frame.get_columns()]
        for row in zip(*columns, strict=True):
            self._rows += 1
            for place, value in enumerate(row):
                self._write(place, value)

    def _cells(self, values: pl.Series) -> list[object]:
        dtype, column = values.dtype, self._schema[values.name]
        if isinstance(dtype, pl.Datetime) and dtype.time_zone:
            fine = column.unit in ("millisecond", "microsecond")
            return values.dt.to_string(f"%Y-%m-%dT%H:%M:%S{'%.6f' if fine else ''}%:z").to_list()
        first = column.minimum if isinstance(column.minimum, dt.datetime) else dt.datetime.min
        whole = column.unit not in ("millisecond", "microsecond")
        if dtype in (pl.Date, pl.Datetime) and whole and first >= FIRST_DAY:
            return (values.cast(pl.Date) if column.unit == "day" else values).to_list()
        if dtype.is_temporal():
            return time_text(values, column).cast(pl.String).to_list()
        if dtype.is_decimal():
            values = values.cast(pl.Float64)
        return (values if dtype.is_numeric() or dtype == pl.Boolean else values.cast(pl.String)).to_list()

    def _write(self, place: int, value: object) -> None:
        row, sheet = self._rows, self._sheet
        if value is None or value != value:  # what is missing may be NaN
            return
        if isinstance(value, bool):
            sheet.write_boolean(row, place, value)
        elif isinstance(value, dt.datetime):
            sheet.write_datetime(row, place, value, self._moment)
        elif isinstance(value, dt.date):
            sheet.write_datetime(row, place, value, self._day)
        elif isinstance(value, int | float) and abs(value) < EXACT:
            sheet.write_number(row, place, value)
        else:
            sheet.write_string(row, place, str(value)[:MOST_CHARACTERS])

    def close(self, *, complete: bool) -> None:
        """End the file; it is whole only if `complete`."""
        try:
            self._book.close()
        finally:
            self._file.close()
