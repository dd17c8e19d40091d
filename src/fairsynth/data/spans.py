"""Durations and times of day: whole numbers of the coarsest unit of time in which all of them can be told.

A stay of 1 day 12 hours is 36 hours, and half past two in the afternoon 870 minutes after midnight, as long as no other
needs seconds. They come as a dtype of their own, or as text: ``08:30``, ``36:15:00``, ``2 days 04:30:00``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import polars as pl

from fairsynth.data.schema import MICROSECONDS, Column
from fairsynth.errors import SchemaError

#: Ways in which a span is written: how it looks, its unit, and whether hours below ten have one digit.
_WAYS: dict[str, tuple[str, str, bool]] = {
    "HH:MM": (r"^(?<h>\d{2,}):(?<m>[0-5]\d)$", "minute", False),
    "H:MM": (r"^(?<h>\d+):(?<m>[0-5]\d)$", "minute", True),
    "HH:MM:SS": (r"^(?<h>\d{2,}):(?<m>[0-5]\d):(?<s>[0-5]\d)$", "second", False),
    "H:MM:SS": (r"^(?<h>\d+):(?<m>[0-5]\d):(?<s>[0-5]\d)$", "second", True),
    "D days HH:MM:SS": (
        r"^(?<d>-?\d+) days \+?(?<h>[01]\d|2[0-3]):(?<m>[0-5]\d):(?<s>[0-5]\d)$",
        "second",
        False,
    ),
    "D days HH:MM:SS.ffffff": (
        r"^(?<d>-?\d+) days \+?(?<h>[01]\d|2[0-3]):(?<m>[0-5]\d):(?<s>[0-5]\d)\.(?<f>\d{6})$",
        "microsecond",
        False,
    ),
}
_UNITS = {
    "d": MICROSECONDS["day"],
    "h": MICROSECONDS["hour"],
    "m": MICROSECONDS["minute"],
    "s": MICROSECONDS["second"],
    "f": 1,
}


def is_span(dtype: pl.DataType) -> bool:
    """Whether values of a dtype are durations or times of day."""
    return isinstance(dtype, pl.Duration) or dtype == pl.Time


def microseconds(values: pl.Series) -> pl.Series:
    """Return durations, or times of day since midnight, in microseconds: Int64 ``(n,)``; what is finer is cut off."""
    if values.dtype == pl.Time:
        return values.to_physical() // 1_000
    return values.cast(pl.Duration("us")).to_physical()


def counted(values: pl.Series, column: Column) -> tuple[pl.Series, int]:
    """Return spans as numbers of the unit of their column.

    Parameters
    ----------
    values : pl.Series
        Durations or times of day ``(n,)``.
    column : Column
        Whose `unit` they are told in.

    Returns
    -------
    values : pl.Series
        Int64 ``(n,)``, rounded down.
    cut : int
        How many were no whole number of it.

    Raises
    ------
    SchemaError
        If the column has no unit.
    """
    ticks, length = microseconds(values), _length(column)
    return ticks // length, int((ticks % length != 0).sum())


def spanned(values: pl.Series, column: Column, dtype: pl.DataType) -> pl.Series:
    """Return numbers of the unit of their column as durations or times of day, of the given dtype ``(n,)``."""
    ticks = (values.cast(pl.Float64).round(0) if values.dtype.is_float() else values).cast(
        pl.Int64
    ) * _length(column)
    return (ticks * 1_000).cast(pl.Time) if dtype == pl.Time else ticks.cast(pl.Duration("us")).cast(dtype)


def _length(column: Column) -> int:
    if column.unit is None:
        raise SchemaError(
            f"column {column.name!r} holds durations or times of day, and its schema says no unit in which they are "
            f"counted; give it one of {', '.join(MICROSECONDS)}."
        )
    return MICROSECONDS[column.unit]


@dataclass(frozen=True)
class SpanText:
    """How durations and times of day are written.

    Attributes
    ----------
    pattern : str
        One of ``HH:MM``, ``H:MM``, ``HH:MM:SS``, ``H:MM:SS``, ``D days HH:MM:SS``, and that with
        ``.ffffff`` behind it.
    """

    pattern: str

    @property
    def unit(self) -> str:
        """In what they are counted."""
        return _WAYS[self.pattern][1]

    @classmethod
    def of(cls, pattern: str | None) -> Self | None:
        """Return the way that a pattern names; None for anything else."""
        return cls(pattern) if pattern in _WAYS else None

    def read(self, texts: pl.Series) -> pl.Series:
        """Return texts as numbers of the unit, Int64 ``(n,)``; null where one is written otherwise."""
        form, unit, _ = _WAYS[self.pattern]
        parts = (
            texts.to_frame("text").select(pl.col("text").str.extract_groups(form)).to_series().struct.unnest()
        )
        ticks = sum(
            (parts[name].cast(pl.Int64, strict=False) * _UNITS[name] for name in parts.columns),
            start=pl.zeros(len(texts), dtype=pl.Int64, eager=True),
        )
        return (ticks // MICROSECONDS[unit]).alias(texts.name)

    def write(self, numbers: pl.Series) -> pl.Series:
        """Return numbers of the unit as texts ``(n,)``; nulls stay."""
        _, unit, short = _WAYS[self.pattern]
        whole = numbers.cast(pl.Float64).round(0).cast(pl.Int64) if numbers.dtype.is_float() else numbers
        ticks = whole.cast(pl.Int64) * MICROSECONDS[unit]
        tick = pl.col("tick")

        def two(name: str) -> pl.Expr:
            return (tick // _UNITS[name] % 60).cast(pl.String).str.zfill(2)

        days = self.pattern.startswith("D")
        hours = (tick % _UNITS["d"] if days else tick) // _UNITS["h"]
        # pandas writes an hour less than nothing as "-1 days +23:00:00".
        sign = pl.when(tick < 0).then(pl.lit("+")).otherwise(pl.lit(""))
        parts = [pl.format("{} days {}", tick // _UNITS["d"], sign)] if days else []
        text = hours.cast(pl.String)
        parts += [text if short else text.str.zfill(2), pl.lit(":"), two("m")]
        if unit != "minute":
            parts += [pl.lit(":"), two("s")]
        if unit == "microsecond":
            parts += [pl.lit("."), (tick % _UNITS["s"]).cast(pl.String).str.zfill(6)]
        return ticks.to_frame("tick").select(pl.concat_str(parts).alias(numbers.name)).to_series()


def text_of_durations(values: pl.Series, column: Column) -> pl.Series:
    """Write durations ``(n,)`` as pandas does: ``1 days 07:00:00``, with six decimals if their unit is finer."""
    fine = column.unit in ("millisecond", "microsecond")
    way = SpanText("D days HH:MM:SS.ffffff" if fine else "D days HH:MM:SS")
    return way.write(microseconds(values) // MICROSECONDS[way.unit]).alias(values.name)


def time_text(values: pl.Series, column: Column) -> pl.Series:
    """Write durations, times of day and moments without a zone, to their unit and no finer; others stay."""
    dtype = values.dtype
    if isinstance(dtype, pl.Duration):  # which Polars writes into no text file
        return text_of_durations(values, column)
    if column.unit is None or dtype == pl.Date or (isinstance(dtype, pl.Datetime) and dtype.time_zone):
        return values
    fine = {"millisecond": "%.3f", "microsecond": "%.6f"}.get(column.unit, "")
    if dtype == pl.Time:
        return values.dt.to_string(f"%H:%M:%S{fine}")
    return values.dt.to_string("%Y-%m-%d" if column.unit == "day" else f"%Y-%m-%dT%H:%M:%S{fine}")


def durations_of_text(texts: pl.Series) -> pl.Series:
    """Return texts as durations ``(n,)``, if all are written alike; else as they are."""
    found = written_spans(texts.str.strip_chars())
    if found is None:
        return texts
    numbers, way = found
    return (numbers * MICROSECONDS[way.unit]).cast(pl.Duration("us")).alias(texts.name)


def written_spans(texts: pl.Series) -> tuple[pl.Series, SpanText] | None:
    """Read texts as durations or times of day, if all are written alike and would come back to the letter.

    Parameters
    ----------
    texts : pl.Series
        Strings; nulls stay.

    Returns
    -------
    tuple of (pl.Series, SpanText) or None
        Int64 numbers of the unit, and how they are written.
    """
    present = texts.drop_nulls()
    if not len(present) or not present.head(100).str.contains(r"\d:\d\d").all():
        return None
    for pattern in _WAYS:
        way = SpanText(pattern)
        for some in (present.head(100), present):
            numbers = way.read(some)
            if numbers.null_count() or (way.write(numbers) != some).any():
                break
        else:
            return way.read(texts), way
    return None
