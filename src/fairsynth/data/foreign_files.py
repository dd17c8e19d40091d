"""Tables of other programs: workbooks, files of SPSS, Stata and SAS, JSON.

Cells of a workbook and values of JSON have no columns' types to rely on (a number column with one "n/a" in it), so both
are read as text files are: as text, of which `infer` finds out what it is. Files of statistics programs have
types, and labels of values.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from fairsynth.data.frames import ROW_LABELS, RawFrame, from_native, refuse_duplicates
from fairsynth.errors import DataError, MissingDependencyError

WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
STATISTICS = (".sav", ".zsav", ".por", ".dta", ".sas7bdat", ".xpt")
JSON = (".json", ".jsonl", ".ndjson")
ENDINGS = (*WORKBOOKS, *STATISTICS, *JSON)
#: Asks for a sheet of a workbook, after its path.
SHEET = "?sheet="
#: Where the calendar of a workbook begins; what lies before its third month is a time of day or a duration.
DAY_0 = dt.datetime(1899, 12, 31)
CALENDAR = dt.datetime(1900, 3, 1)
#: Whole numbers up to here are held exactly by 64-bit floats.
EXACT = 2.0**53
#: Values named in a note, at most.
NAMED = 3


def read_foreign(path: Path, sheet: str | None = None) -> RawFrame:
    """Read a table that another program wrote.

    Parameters
    ----------
    path : Path
        Of one of `ENDINGS`.
    sheet : str, optional
        Which sheet of a workbook; the first that holds anything, if none is named.

    Returns
    -------
    RawFrame
        Taken as Polars. Workbooks and JSON come as text throughout; columns of SPSS and Stata whose values all have
        labels as these.

    Raises
    ------
    DataError
        Saying what is wrong with it, without its name.
    MissingDependencyError
        If a library is missing.
    """
    name = path.name.lower()
    if name.endswith(WORKBOOKS):
        return _read_workbook(path, sheet)
    if name.endswith(STATISTICS):
        return _read_statistics(path)
    return _read_json(path)


def _as_text(frame: pl.DataFrame) -> RawFrame:
    return RawFrame(frame, "polars", dict.fromkeys(frame.columns, "String"), untyped=True)


def _with_row_labels(names: list[str]) -> list[str]:
    """Name the first column as pandas does if it has no name: it wrote the labels of its rows there."""
    return [ROW_LABELS[0], *names[1:]] if names[:1] == [""] and ROW_LABELS[0] not in names else names


# --- workbooks -----------------------------------------------------------------------------------


def _read_workbook(path: Path, sheet: str | None) -> RawFrame:
    try:
        import fastexcel
    except ImportError as error:
        raise MissingDependencyError(
            f"reading {path.name} needs one more library: pip install 'fairsynth[files]'"
        ) from error
    told = logging.getLogger("fastexcel")
    if not told.handlers:  # else Python prints what it says of columns without a type
        told.addHandler(logging.NullHandler())
    try:
        book = fastexcel.read_excel(str(path))
        if sheet is not None and sheet not in book.sheet_names:
            raise DataError(
                f"there is no sheet {sheet!r}; choose among {', '.join(map(repr, book.sheet_names))}."
            )
        filled = _filled_sheets(book, [sheet] if sheet is not None else book.sheet_names)
        if not filled:
            raise DataError("the sheet is empty." if sheet is not None else "all of its sheets are empty.")
        frame = _cells(book, filled[0])
    except fastexcel.FastExcelError as error:
        raise DataError(f"it cannot be read as a workbook: {_first_line(error)}") from error
    raw = _as_text(frame)
    if len(filled) == 1:
        return raw
    note = (
        f"{path.name} has several sheets, of which {filled[0]!r} was read; another one is asked for by "
        f"{path.name}{SHEET}{filled[1]}."
    )
    return replace(raw, notes=(note,))


def _filled_sheets(book: Any, names: list[str]) -> list[str]:
    return [
        name for name in names if book.load_sheet(name, header_row=None, n_rows=2, dtypes="string").height > 1
    ]


def _cells(book: Any, sheet: str) -> pl.DataFrame:
    """Return the cells of a sheet below its header as text."""
    top = book.load_sheet(sheet, header_row=None, n_rows=1, dtypes="string").to_polars()
    header = ["" if value is None else value for value in top.row(0)]
    while header and header[-1] == "":
        header.pop()  # a remark beside the table makes it wider
    names = _with_row_labels(header)
    refuse_duplicates(names, "the header")
    # A column has one type for fastexcel, and a table that people typed has many.
    texts, numbers, times = (
        book.load_sheet(sheet, use_columns=list(range(len(names))), dtypes=kind).to_polars().get_columns()
        for kind in ("string", "float", "duration")
    )
    columns = zip(names, texts, numbers, times, strict=True)
    frame = pl.DataFrame([_as_typed(*cells).alias(name) for name, *cells in columns])
    # Rows without any cell are left by what was deleted, most of all at the end.
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def _as_typed(text: pl.Series, number: pl.Series, time: pl.Series) -> pl.Series:
    """Return cells as somebody would write them into a text file.

    Parameters
    ----------
    text : pl.Series
        What fastexcel makes of them as text: numbers to nine decimals, days as moments at midnight, times of day and
        durations as moments at the beginning of the calendar (Excel), or null (OpenDocument).
    number : pl.Series
        What it makes of them as numbers; null where they are none.
    time : pl.Series
        What it makes of them as durations.

    Returns
    -------
    pl.Series
        Text: numbers to the last digit, days, and times as ``08:30:00``; text stays what it is (``007``).
    """
    cut = number.is_not_null() & (text.cast(pl.Float64, strict=False) != number).fill_null(False)
    if cut.any():
        text = text.zip_with(~cut, number.cast(pl.String))
    time = time.zip_with(text.is_null(), pl.Series([None], dtype=time.dtype))
    moments = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ms", strict=False)
    if (moments < CALENDAR).all() and moments.null_count() < len(moments):
        time = time.zip_with(moments.is_null(), moments - DAY_0)
    elif (moments.dt.time() == dt.time(0)).all():
        text = text.zip_with(moments.is_null(), moments.dt.to_string("%Y-%m-%d"))
    return text if time.null_count() == len(time) else text.zip_with(time.is_null(), _clock(time))


def _clock(time: pl.Series) -> pl.Series:
    """Write durations as ``36:15:00``, to the millisecond where one has any."""
    ms = time.dt.total_milliseconds()
    places = {"h": ms // 3_600_000, "m": ms // 60_000 % 60, "s": ms // 1000 % 60, "f": ms % 1000}
    digits = {"h": 2, "m": 2, "s": 2, "f": 3}
    parts = [pl.col(name).cast(pl.String).str.zfill(digits[name]) for name in places]
    form = "{}:{}:{}.{}" if (places["f"] != 0).any() else "{}:{}:{}"
    return pl.DataFrame(places).select(pl.format(form, *parts[: form.count("{}")])).to_series()


# --- statistics programs -------------------------------------------------------------------------


def _read_statistics(path: Path) -> RawFrame:
    try:
        import pyreadstat
    except ImportError as error:
        raise MissingDependencyError(
            f"reading {path.name} needs one more library: pip install 'fairsynth[files]'"
        ) from error
    readers: dict[str, Callable[..., Any]] = {
        ".sav": pyreadstat.read_sav,
        ".zsav": pyreadstat.read_sav,
        ".por": pyreadstat.read_por,
        ".dta": pyreadstat.read_dta,
        ".sas7bdat": pyreadstat.read_sas7bdat,
        ".xpt": pyreadstat.read_xport,
    }
    try:
        frame, told = readers[path.suffix.lower()](str(path), output_format="polars")
    except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, UnicodeDecodeError) as error:
        raise DataError(
            f"it cannot be read as a file of a statistics program: {_first_line(error)}"
        ) from error
    labels, measures = told.variable_value_labels, getattr(told, "variable_measure", None) or {}
    columns, ordered, notes = [], [], []
    for column in frame.get_columns():
        column = _plain(column)
        texts = labels.get(column.name)
        if texts:
            found = _labelled(column, texts)
            if found is None:
                notes.append(_partly(column, texts))
            else:
                column = found
                if measures.get(column.name) == "ordinal":
                    ordered.append(column.name)
        columns.append(column)
    raw = from_native(pl.DataFrame(columns))
    said = {name: text for name, text in told.column_names_to_labels.items() if text and text != name}
    return replace(
        raw, ordered=frozenset(ordered), notes=tuple(note for note in notes if note), descriptions=said
    )


def _plain(column: pl.Series) -> pl.Series:
    """Return a column with text that is not there as missing, and whole numbers as such: all are floats there."""
    if column.dtype == pl.String:
        return column.set(column == "", None)
    if column.dtype.is_float():
        column = column.fill_nan(None)
        numbers = column.drop_nulls()
        if len(numbers) and ((numbers == numbers.round()) & (numbers.abs() < EXACT)).all():
            return column.cast(pl.Int64)
    return column


def _labelled(column: pl.Series, texts: dict[Any, str]) -> pl.Series | None:
    """Return the labels of values as levels in the order of the values; None where a value has none."""
    text_of = {_key(value): str(text) for value, text in texts.items()}
    values = column.drop_nulls().unique().to_list()
    if not values or any(_key(value) not in text_of for value in values):
        return None
    said = [text_of[key] for key in sorted(text_of, key=lambda key: (isinstance(key, str), key))]
    twice = {text for text in said if said.count(text) > 1}
    names = {key: f"{text} ({key:g})" if text in twice and not isinstance(key, str) else text
             for key, text in text_of.items()}  # fmt: skip
    levels = [names[key] for key in sorted(names, key=lambda key: (isinstance(key, str), key))]
    if len(set(levels)) < len(levels):
        return None
    answers = [None if value is None else names[_key(value)] for value in column.to_list()]
    return pl.Series(column.name, answers, dtype=pl.Enum(levels))


def _partly(column: pl.Series, texts: dict[Any, str]) -> str | None:
    """Return what is to be known of a column of which some values have labels, and some of those come."""
    held = {_key(value) for value in column.drop_nulls().unique().to_list()}
    come = [(value, text) for value, text in texts.items() if _key(value) in held]
    if not come or not column.dtype.is_numeric():
        return None
    named = ", ".join(f"{_key(value):g} is {text!r}" for value, text in come[:NAMED])
    return (
        f"Some values of column {column.name!r} have labels ({named}{', …' if len(come) > NAMED else ''}), and are "
        f"read as the numbers that they are. If {come[0][0]:g} stands for no answer, say "
        f"missing=['{come[0][0]:g}']."
    )


def _key(value: Any) -> Any:
    return value if isinstance(value, str) else float(value)


# --- JSON ----------------------------------------------------------------------------------------


def _read_json(path: Path) -> RawFrame:
    if path.name.lower().endswith(".json"):
        with open(path, "rb") as stream:
            begin = stream.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        # Lines of objects are often called so, too.
        frame = pl.read_json(path, infer_schema_length=None) if begin == b"[" else _lines(path)
    else:
        frame = _lines(path)
    refuse_duplicates(frame.columns, "the table")
    texts = []
    for column in frame.get_columns():
        if column.dtype.is_nested():
            raise DataError(
                f"column {column.name!r} holds values within values; give a list of objects, one for each row, whose "
                "values are texts, numbers, true, false or null."
            )
        texts.append(column.cast(pl.String))
    return _as_text(pl.DataFrame(texts))


def _lines(path: Path) -> pl.DataFrame:
    return pl.read_ndjson(path, infer_schema_length=None)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
