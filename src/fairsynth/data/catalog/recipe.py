"""From a publisher's file to the table that is worked with: reading, and what an entry says is done to the rows."""

from __future__ import annotations

import dataclasses
import difflib
import io
import re
from pathlib import Path
from typing import Any

import polars as pl

from fairsynth.data.catalog.entry import Derive, Entry, Reading, Where
from fairsynth.data.frames import RawFrame
from fairsynth.errors import DataError

_WHOLE = r"^(-?\d+)\.0+$"


def read_raw(path: Path, reading: Reading) -> RawFrame:
    """Read a publisher's text file, every value as text.

    Raises
    ------
    DataError
        If it is not of the form that the entry says.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 (byte {error.start}).") from None
    names, header, comment, quote = reading.columns, reading.header, reading.comment, '"'
    if reading.format == "arff":
        own, text = _arff(text, path)
        names, header, comment, quote = names or own, False, comment or "%", "'"
    lines = (
        line for line in text.splitlines() if line.strip() and not (comment and line.startswith(comment))
    )
    try:
        frame = pl.read_csv(
            io.BytesIO("\n".join(lines).encode()),
            separator=reading.separator,
            has_header=header,
            quote_char=quote,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} cannot be read as a table: {first}") from error
    if names is not None:
        if len(names) != frame.width:
            raise DataError(
                f"{path} has {frame.width} columns, and {len(names)} are expected; it is another file."
            )
        frame.columns = names
    unknown = [name for name in reading.trailing if name not in frame.columns]
    if unknown:
        raise _no_column(unknown[0], frame, f"{path}: read.trailing")
    frame = frame.with_columns(pl.all().str.strip_chars())
    frame = frame.with_columns(pl.col(name).str.strip_suffix(end) for name, end in reading.trailing.items())
    frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    return RawFrame(frame, "polars", dict.fromkeys(frame.columns, "String"), untyped=True)


def _arff(text: str, path: Path) -> tuple[list[str], str]:
    head, mark, body = re.split(r"(?im)^\s*(@data)\s*$", text, maxsplit=1) if "@" in text else (text, "", "")
    if not mark:
        raise DataError(f"{path} is no ARFF file: it has no @data line.")
    names = []
    for line in head.splitlines():
        found = re.match(r"(?i)\s*@attribute\s+('[^']+'|\"[^\"]+\"|\S+)", line)
        if found:
            names.append(found[1].strip("'\""))
    return names, body


def apply(raw: RawFrame, entry: Entry, where: str) -> RawFrame:
    """Do to the rows what the entry says.

    Parameters
    ----------
    raw : RawFrame
        As read.
    entry : Entry
        With `where`, `derive`, `unique`, `keep` and `drop`.
    where : str
        What to call the rows in an error.

    Raises
    ------
    DataError
        Naming a column that there is not, a value that `map` lacks, or that no row is left.
    """
    frame = raw.frame
    for rule in entry.where:
        frame = frame.filter(_condition(rule, frame, where))
    for name, rule_of in entry.derive.items():
        frame = frame.with_columns(_derived(name, rule_of, frame, f"{where}: derive.{name}"))
    if entry.unique is not None:
        _has(entry.unique, frame, f"{where}: unique")
        frame = frame.unique(entry.unique, keep="first", maintain_order=True)
    for key in ("keep", "drop"):
        for name in getattr(entry, key):
            _has(name, frame, f"{where}: {key}")
    if entry.keep:
        frame = frame.select(entry.keep)
    frame = frame.drop(entry.drop)
    if not len(frame):
        raise DataError(f"{where}: no row is left after `where`.")
    dtypes = {name: raw.dtypes.get(name, "String") for name in frame.columns}
    for name in entry.derive:
        if name in dtypes:
            dtypes[name] = "String"
    return dataclasses.replace(raw, frame=frame, dtypes=dtypes)


def check_roles(frame: pl.DataFrame, entry: Entry, where: str) -> None:
    """Refuse a role that names a column that there is not.

    Raises
    ------
    DataError
        Naming the key, the column and the nearest one that there is.
    """
    roles = [("target", [entry.target]), ("sensitive", entry.attributes), ("identifiers", entry.identifiers)]
    roles += [("domain", [entry.domain] if entry.domain else []), ("kinds", list(entry.kinds))]
    for key, names in roles:
        for name in names:
            _has(name, frame, f"{where}: {key}")


def _has(name: str, frame: pl.DataFrame, where: str) -> None:
    if name not in frame.columns:
        raise _no_column(name, frame, where)


def _no_column(name: str, frame: pl.DataFrame, where: str) -> DataError:
    near = difflib.get_close_matches(name, frame.columns, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, frame.columns[:30]))}."
    return DataError(f"{where}: there is no column {name!r}; {hint}")


def _plain(column: pl.Expr) -> pl.Expr:
    """Return values as text, in which 1.00 is 1."""
    return column.cast(pl.String).str.replace(_WHOLE, "$1")


def _texts(values: list[Any]) -> list[str]:
    return [
        str(value).lower() if isinstance(value, bool) else re.sub(_WHOLE, r"\1", str(value))
        for value in values
    ]


def _condition(rule: Where, frame: pl.DataFrame, where: str) -> pl.Expr:
    _has(rule.column, frame, f"{where}: where")
    column = pl.col(rule.column)
    if rule.between is not None:
        numbers = frame[rule.column].cast(pl.Float64, strict=False)
        wrong = frame[rule.column].filter(numbers.is_null() & frame[rule.column].is_not_null())
        if len(wrong):
            raise DataError(f"{where}: where.between needs numbers, and {rule.column!r} holds {wrong[0]!r}.")
        return column.cast(pl.Float64, strict=False).is_between(*rule.between)
    if rule.is_in is not None:
        return _plain(column).is_in(_texts(rule.is_in))
    # A missing value is none of them.
    return _plain(column).is_in(_texts(rule.not_in or [])).not_().fill_null(True)


def _derived(name: str, rule: Derive, frame: pl.DataFrame, where: str) -> pl.Series:
    _has(rule.source, frame, where)
    values = frame[rule.source]
    if rule.edges is not None and rule.names is not None:
        numbers = values.cast(pl.Float64, strict=False)
        wrong = values.filter(numbers.is_null() & values.is_not_null())
        if len(wrong):
            raise DataError(f"{where}: edges need numbers, and {rule.source!r} holds {wrong[0]!r}.")
        made = pl.lit(rule.names[-1])
        for edge, label in reversed(list(zip(rule.edges, rule.names[:-1], strict=True))):
            made = pl.when(pl.col(rule.source).cast(pl.Float64) < edge).then(pl.lit(label)).otherwise(made)
        return frame.select(pl.when(pl.col(rule.source).is_not_null()).then(made).alias(name)).to_series()
    table = {re.sub(_WHOLE, r"\1", key): value for key, value in (rule.map or {}).items()}
    text = frame.select(_plain(pl.col(rule.source))).to_series()
    made_values = text.replace_strict(table, default=rule.otherwise, return_dtype=pl.String)
    lacking = text.filter(made_values.is_null() & text.is_not_null())
    if len(lacking):
        known = ", ".join(map(repr, table))
        raise DataError(
            f"{where}: {rule.source!r} holds {lacking[0]!r}, and map has {known}; add it, or otherwise."
        )
    kept = pl.DataFrame({"made": made_values, "text": text})
    return kept.select(pl.when(pl.col("text").is_not_null()).then("made").alias(name)).to_series()
