"""Tables that are text: separators and encodings are told by the file itself."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

from fairsynth.data.frames import ROW_LABELS, RawFrame, refuse_duplicates
from fairsynth.errors import DataError

ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
SEPARATORS = (",", ";", "\t", "|")
#: Lines, and characters of one, that tell which mark separates the columns.
TELLING_LINES = 30
LONGEST_LINE = 1_000_000
#: What spreadsheets write where they do not write UTF-8.
OLD = "windows-1252"
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_text(path: Path) -> RawFrame:
    """Read a table of text.

    Parameters
    ----------
    path : Path
        Of one of `ENDINGS`; UTF-8, UTF-16 with a byte order mark, or else Windows-1252, which is noted.

    Returns
    -------
    RawFrame
        All columns as text; empty fields are null.

    Raises
    ------
    DataError
        If it is no text, has no header, or the header is not one.
    pyarrow.ArrowException, OSError, csv.Error, EOFError
        If it cannot be read.
    """
    with pa.input_stream(str(path), compression="detect") as stream:
        begin = stream.read(4096)
    marked = next((encoding for mark, encoding in MARKS if begin.startswith(mark)), None)
    if marked is not None:
        try:
            return _read(path, marked)
        except _OtherEncodingError as error:
            raise DataError(f"it begins as text in {marked.upper()} does, and goes on otherwise.") from error
    if b"\0" in begin:
        raise DataError("it is no text in UTF-8; convert it, or give its true kind.")
    try:
        return _read(path, "utf-8")
    except _OtherEncodingError as error:
        try:
            raw = _read(path, OLD)
        except _OtherEncodingError:
            raise DataError(
                f"it is no text in UTF-8 (byte {error.byte}) or Windows-1252; convert it, or give its true kind."
                if error.byte is not None
                else "it is no text in UTF-8 or Windows-1252; convert it, or give its true kind."
            ) from None
    note = (
        f"{path.name} is not in UTF-8 and was read as Windows-1252, which spreadsheets write. If letters with "
        "accents look wrong, convert it to UTF-8."
    )
    return RawFrame(raw.frame, raw.kind, raw.dtypes, untyped=True, notes=(note,))


class _OtherEncodingError(Exception):
    """The text is in another encoding."""

    def __init__(self, byte: int | None) -> None:
        self.byte = byte


def _read(path: Path, encoding: str) -> RawFrame:
    with pa.input_stream(str(path), compression="detect") as stream:
        text = io.TextIOWrapper(stream, encoding=encoding, newline="")
        try:
            begin = [text.readline(LONGEST_LINE) for _ in range(TELLING_LINES)]
        except UnicodeDecodeError as error:
            raise _OtherEncodingError(error.start) from None
        begin = list(itertools.takewhile(bool, begin))
    separator = "\t" if path.name.lower().endswith((".tsv", ".tsv.gz")) else separator_of(begin)
    header = next(csv.reader(begin, delimiter=separator), None)
    if header is None:
        raise DataError("the file has no header.")
    # A frame of pandas writes its index first, without a name, and reads it again under this one.
    unnamed = header[:1] == [""] and ROW_LABELS[0] not in header
    named = [ROW_LABELS[0], *header[1:]] if unnamed else header
    refuse_duplicates(named, "the header")
    convert = pa_csv.ConvertOptions(
        column_types={name: pa.string() for name in header}, null_values=[""], strings_can_be_null=True
    )
    parse = pa_csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    # Arrow itself leaves the mark of UTF-8 out.
    encoded = "utf-8" if encoding == "utf-8-sig" else encoding
    try:
        table = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(encoding=encoded),
            parse_options=parse,
            convert_options=convert,
        )
    except (pa.ArrowInvalid, UnicodeError) as error:
        if isinstance(error, UnicodeError) or "invalid UTF8" in str(error):
            raise _OtherEncodingError(None) from error
        # One thread knows the row; the message of several does not.
        with pa.input_stream(str(path), compression="detect") as stream:
            table = pa_csv.read_csv(
                stream,
                read_options=pa_csv.ReadOptions(use_threads=False, encoding=encoded),
                parse_options=parse,
                convert_options=convert,
            )
    frame = pl.from_arrow(table.rename_columns(named))
    assert isinstance(frame, pl.DataFrame)
    return RawFrame(frame, "polars", dict.fromkeys(frame.columns, "String"), untyped=True)


def separator_of(lines: list[str]) -> str:
    """Return the mark that parts the first lines of a file into as many columns each, of which there are most.

    Parameters
    ----------
    lines : list of str
        The header first.

    Returns
    -------
    str
        One of `SEPARATORS`; the comma, where none parts them.
    """
    best, most = ",", 1
    for mark in SEPARATORS:
        try:
            records = list(csv.reader(lines, delimiter=mark))
        except csv.Error:
            continue
        # The last one may go on in lines that were not looked at.
        whole = [record for record in (records[:-1] if len(records) > 2 else records) if record]
        sizes = {len(record) for record in whole}
        if len(sizes) == 1 and (size := sizes.pop()) > most:
            best, most = mark, size
    if most > 1 or not lines:
        return best
    # Lines of unlike lengths are an error to be told by their row; so the header says.
    return max(SEPARATORS, key=lambda mark: (lines[0].count(mark), mark == ","))
