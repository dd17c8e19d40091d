"""Moments as texts and columns have them, and as they are held: in UTC, or as days of a time zone's calendar.

Formats of texts are those of ``strftime``; a text is read if it is written back the same.
"""

from __future__ import annotations

import polars as pl

from fairsynth.data.schema import Column
from fairsynth.data.zones import OFFSET_FORMATS, days_in_zone, from_zone

DATETIME = pl.Datetime("us")
DATETIME_TEXT = "%Y-%m-%d %H:%M:%S%.f"

#: ISO 8601 forms of text that are read as moments, and written back the same.
DATETIME_FORMATS = (
    "%Y-%m-%d",
    *(
        f"%Y-%m-%d{separator}{clock}{zone}"
        for separator in (" ", "T")
        for clock in ("%H:%M", "%H:%M:%S", "%H:%M:%S%.3f", "%H:%M:%S%.6f")
        for zone in ("", "Z")
    ),
)
#: Forms of moments with offsets from UTC.
ZONED_FORMATS = tuple(
    f"%Y-%m-%d{separator}{clock}{offset}"
    for separator in (" ", "T")
    for clock in ("%H:%M", "%H:%M:%S", "%H:%M:%S%.3f", "%H:%M:%S%.6f")
    for offset in OFFSET_FORMATS
)
#: Forms in which people write dates, which are taken if no other of them fits as well: 03/04/2026 is in March or April.
WRITTEN_DATES = tuple(
    f"{day}{clock}"
    for day in ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d")
    for clock in ("", " %H:%M", " %H:%M:%S")
)


def parse_datetime(texts: pl.Series, form: str) -> pl.Series:
    """Read texts of one format as moments; null where a text has another format."""
    offset = next((offset for offset in OFFSET_FORMATS if form.endswith(offset)), None)
    if offset is not None:
        zoned = texts.str.to_datetime(form.removesuffix(offset) + "%z", time_unit="us", strict=False)
        return zoned.dt.replace_time_zone(None) if zoned.dtype != pl.Datetime("us") else zoned
    return texts.str.to_datetime(form, time_unit="us", strict=False)


def to_utc(name: str, dtype: pl.Datetime) -> pl.Expr:
    """Say how a column of moments is one without a zone, in UTC."""
    moment = pl.col(name)
    return (
        moment if dtype.time_zone is None else moment.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    )


def as_days(moments: pl.Series, column: Column) -> pl.Series:
    """Return moments in UTC as their column has them."""
    return moments if column.day_zone is None else days_in_zone(moments, column.day_zone)


def write_moments(values: pl.Series, column: Column, dtype: pl.DataType) -> pl.Series:
    """Return canonical moments as a dtype of frames has them, or as texts of the column's format."""
    if column.day_zone is not None and dtype != pl.Date:
        values = from_zone(values, column.day_zone)
    if dtype == pl.String:
        form = column.format or DATETIME_TEXT
        offset = next((offset for offset in OFFSET_FORMATS if form.endswith(offset)), None)
        if offset is None or column.tz is None:
            return values.dt.to_string(form)
        there = values.dt.replace_time_zone("UTC").dt.convert_time_zone(column.tz)
        return there.dt.to_string(form.removesuffix(offset) + OFFSET_FORMATS[offset])
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return values.cast(pl.Datetime(dtype.time_unit)).dt.replace_time_zone("UTC").dt.convert_time_zone(
            dtype.time_zone
        )  # fmt: skip
    return values.cast(dtype)
