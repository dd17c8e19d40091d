"""Between the values that came in and the canonical ones: Polars only, no other library and no files.

Canonical values are ``Float64``, ``Int64``, ``Boolean``, ``Datetime("us")`` in UTC, or an ``Enum`` of level
texts, and missing is null everywhere. Durations and times of day are numbers of the column's unit. Identifiers stay
as they came.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any

import polars as pl

from fairsynth.data.moments import (
    DATETIME,
    DATETIME_FORMATS,
    DATETIME_TEXT,
    ZONED_FORMATS,
    as_days,
    parse_datetime,
    to_utc,
    write_moments,
)
from fairsynth.data.number_text import NumberText
from fairsynth.data.schema import MICROSECONDS, Column, Schema
from fairsynth.data.spans import SpanText, counted, durations_of_text, is_span, spanned
from fairsynth.errors import DataError, SchemaError

#: Texts that mean "missing" in a column of a text file that is otherwise numeric.
NA_TOKENS = ("NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "none", "-", ".")
#: Beyond this a float no longer holds every integer.
EXACT_INTEGERS = 2.0**53
#: What models see of a number, at most: squares of larger ones, or copies of 32 bits, would be infinite.
LARGEST = 1e30


def canonical_dtype(column: Column) -> pl.DataType | None:
    """Return the Polars dtype of a column's canonical values; None for identifiers, which stay as is."""
    if column.kind == "categorical":
        return pl.Enum(list(column.levels))
    dtypes: dict[str, pl.DataType] = {
        "continuous": pl.Float64(),
        "integer": pl.Int64(),
        "boolean": pl.Boolean(),
        "datetime": DATETIME,
    }
    return dtypes.get(column.kind)


def level_text(value: Any) -> str:
    """Write one value as the text of a level: ``1`` and ``1.0`` are ``"1"``, ``True`` is ``"True"``."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT_INTEGERS:
        return str(int(value))
    if isinstance(value, datetime):
        return level_texts(pl.Series([value]))[0]
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def level_texts(values: pl.Series) -> pl.Series:
    """Write values of any scalar dtype as texts of levels; the vectorised `level_text`."""
    dtype = values.dtype
    if isinstance(dtype, pl.Decimal):
        values, dtype = values.cast(pl.Float64), pl.Float64()
    name = pl.col(values.name)
    if dtype.is_float():
        whole = (name == name.round(0)) & (name.abs() < EXACT_INTEGERS)
        text = (
            pl.when(whole)
            .then(name.cast(pl.Int64, strict=False).cast(pl.String))
            .otherwise(name.cast(pl.String))
        )
    elif dtype == pl.Boolean:
        text = pl.when(name).then(pl.lit("True")).when(~name).then(pl.lit("False"))
    elif isinstance(dtype, pl.Datetime):
        text = to_utc(values.name, dtype).dt.to_string(DATETIME_TEXT)
    else:
        text = name.cast(pl.String)
    return values.to_frame().select(text.alias(values.name)).to_series()


def level_values(levels: Sequence[str], dtype: pl.DataType) -> pl.Series:
    """Turn level texts back into values of a dtype; the inverse of `level_texts`.

    Raises
    ------
    SchemaError
        If a text does not stand for a value of the dtype.
    """
    texts = pl.Series("levels", list(levels), dtype=pl.String)
    try:
        if dtype == pl.String:
            return texts
        if dtype == pl.Boolean:
            unknown = texts.filter(~texts.is_in(["True", "False"]))
            if len(unknown):
                raise SchemaError(f"level {unknown[0]!r} is neither 'True' nor 'False'.")
            return texts == "True"
        if isinstance(dtype, pl.Datetime):
            moments = texts.str.to_datetime(DATETIME_TEXT).cast(pl.Datetime(dtype.time_unit))
            if dtype.time_zone is None:
                return moments
            return moments.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
        if dtype == pl.Date:
            return texts.str.to_date("%Y-%m-%d")
        if isinstance(dtype, pl.Decimal):
            return texts.cast(pl.Float64).cast(dtype)
        return texts.cast(dtype)
    except pl.exceptions.PolarsError as error:
        raise SchemaError(f"levels {list(levels)[:5]} are not all values of {dtype}: {error}") from error


def first_row(mask: pl.Series) -> int:
    """Return the first row, counted from 0, where a mask is true."""
    return int(mask.arg_true()[0])


def mask_missing(values: pl.Series, markers: Iterable[str]) -> tuple[pl.Series, str | None]:
    """Turn every way of writing "missing" into null.

    Parameters
    ----------
    values : pl.Series
        As they came.
    markers : iterable of str
        Texts that mean missing. Spaces around them do not count; in a column of numbers, ``"-1"`` or
        ``"999"`` mean those numbers. NaN always means missing.

    Returns
    -------
    values : pl.Series
        With nulls.
    marker : str or None
        The way seen most often, null apart; ``"NaN"`` for a float column that holds NaN and no null.
    """
    markers, dtype = list(dict.fromkeys(markers)), values.dtype
    if isinstance(dtype, pl.Enum):
        held = [level for level in dtype.categories if level.strip() in markers]
        if not held:
            return values, None
        texts, marker = mask_missing(values.cast(pl.String), markers)
        kept = [level for level in dtype.categories if level not in held]
        return texts.cast(pl.Enum(kept)), marker or held[0]
    if dtype == pl.String:
        if not markers:
            return values, None
        mask = values.str.strip_chars().is_in(markers).fill_null(False)
        if not mask.any():
            return values, None
        return values.set(mask, None), _most_frequent(values.filter(mask))
    if not dtype.is_numeric():
        return values, None
    marker = None
    if dtype.is_float() and values.is_nan().any():
        marker = None if values.null_count() else "NaN"
        values = values.fill_nan(None)
    numbers = {text: number for text in markers if (number := _as_number(text)) is not None}
    if not numbers:
        return values, marker
    mask = values.cast(pl.Float64).is_in(list(numbers.values())).fill_null(False)
    if not mask.any():
        return values, marker
    seen = float(values.filter(mask).cast(pl.Float64).mode().sort()[0])
    return values.set(mask, None), next(text for text, number in numbers.items() if number == seen)


def _most_frequent(texts: pl.Series) -> str:
    counts = texts.value_counts(name="n").sort("n", texts.name, descending=[True, False])
    return str(counts[texts.name][0])


def _as_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def to_canonical(
    values: pl.Series, column: Column, markers: Sequence[str] = (), *, strict: bool = False
) -> tuple[pl.Series, list[str]]:
    """Read values by what the schema says of their column.

    Parameters
    ----------
    values : pl.Series
        As they came, of any scalar dtype.
    column : Column
        What the values are to be.
    markers : sequence of str
        Texts that mean missing, besides the column's own.
    strict : bool, default=False
        Refuse what would have to be repaired.

    Returns
    -------
    values : pl.Series
        Canonical.
    repairs : list of str
        What had to be changed, with counts.

    Raises
    ------
    DataError
        If the values are not of this kind and cannot be read as it without loss.
    """
    if column.kind == "identifier":
        return values, []
    own = (column.missing_marker,) if column.missing_marker is not None else ()
    values, _ = mask_missing(values, (*markers, *own))
    cut = 0
    if column.unit is not None and values.dtype == pl.String and column.is_numeric:
        values = durations_of_text(mask_missing(values, ("", *NA_TOKENS))[0])
    if is_span(values.dtype):
        values, cut = counted(values, column)
    readers = {
        "categorical": _read_levels,
        "integer": _read_integers,
        "continuous": _read_floats,
        "boolean": _read_booleans,
        "datetime": _read_moments,
    }
    result, repairs = readers[column.kind](values, column)
    if cut:
        repairs = [
            f"column {column.name!r}: {cut} {_plural('value', cut)} cut to whole {column.unit}s",
            *repairs,
        ]
    if strict and repairs:
        raise SchemaError(
            f"{repairs[0]}; correct the schema or the rows, or read other rows than those it was made of with "
            "`Table.align`, which counts what it changes."
        )
    return result.alias(column.name), repairs


def _read_levels(values: pl.Series, column: Column) -> tuple[pl.Series, list[str]]:
    target = pl.Enum(list(column.levels))
    if values.dtype == target:
        return values, []
    texts = level_texts(values)
    result = texts.cast(target, strict=False)
    if result.null_count() == texts.null_count():
        return result, []
    unseen = texts.filter(result.is_null() & texts.is_not_null()).unique()
    # "1.0" of a text file is the level "1", and "true" is "True".
    other = {text: _respelled(text) for text in unseen if _respelled(text) in column.levels}
    if other:
        texts = texts.replace(other)
        result = texts.cast(target, strict=False)
    lost = result.is_null() & texts.is_not_null()
    if not (count := int(lost.sum())):
        return result, []
    row = first_row(lost)
    return result, [
        f"column {column.name!r}: {count} {_plural('value', count)} outside the known levels set to missing "
        f"(first: {texts[row]!r} in row {row})"
    ]


def _respelled(text: str) -> str:
    number = _as_number(text)
    return level_text(number) if number is not None else text.capitalize()


def _read_integers(values: pl.Series, column: Column) -> tuple[pl.Series, list[str]]:
    if values.dtype.is_integer() or values.dtype == pl.Boolean:
        try:
            return values.cast(pl.Int64), []
        except pl.exceptions.PolarsError as error:
            raise too_large(values) from error
    if values.dtype == pl.String:
        whole = values.str.strip_chars().cast(pl.Int64, strict=False)
        if whole.null_count() == values.null_count():
            return whole, []
    numbers, _ = _read_floats(values, column)
    if (numbers.abs() >= 2.0**63).any():
        raise too_large(numbers)
    broken = (numbers != numbers.round(0)).fill_null(False)
    if not (count := int(broken.sum())):
        return numbers.cast(pl.Int64), []
    row = first_row(broken)
    return numbers.round(0).cast(pl.Int64), [
        f"column {column.name!r}: {count} {_plural('fraction', count)} rounded to integers "
        f"(first: {numbers[row]} in row {row})"
    ]


def too_large(values: pl.Series) -> DataError:
    """Make the error for integers that do not fit into 64 bits."""
    return DataError(
        f"column {values.name!r} holds integers beyond 64 bits; declare it as an identifier, or convert it "
        f"to float."
    )


def _read_floats(values: pl.Series, column: Column) -> tuple[pl.Series, list[str]]:
    dtype = values.dtype
    if dtype == pl.Float32:
        numbers = from_single(values)
    elif dtype.is_numeric() or dtype == pl.Boolean:
        numbers = values.cast(pl.Float64)
    elif dtype == pl.String or isinstance(dtype, pl.Enum):
        texts = values.cast(pl.String).str.strip_chars()
        texts = texts.set(texts.is_in(["", *NA_TOKENS]).fill_null(False), None)
        way = NumberText.of(column.format) or SpanText.of(column.format)
        # In another file some may be written plainly.
        numbers = texts.cast(pl.Float64, strict=False)
        numbers = numbers if way is None else way.read(texts).cast(pl.Float64).fill_null(numbers)
        _refuse_unread(texts, numbers, column)
    else:
        raise _wrong_dtype(values, column)
    numbers = numbers.fill_nan(None)
    check_finite(numbers)
    return numbers, []


def from_single(values: pl.Series) -> pl.Series:
    """Return numbers of 32 bits as the doubles that are meant.

    0.1 in 32 bits is the double 0.10000000149. Rows read from such a column and rows drawn on its grid of decimals
    would differ in every one; so a number becomes the double of its first seven digits, if these are the same
    number in 32 bits.
    """
    double = values.cast(pl.Float64)
    frame = pl.DataFrame({"single": values, "double": double})
    meant = pl.col("double").round_sig_figs(7)
    same = (meant.cast(pl.Float32) == pl.col("single")) & (pl.col("double") != pl.col("double").round(0))
    return frame.select(pl.when(same).then(meant).otherwise(pl.col("double")).alias(values.name)).to_series()


def check_finite(values: pl.Series) -> None:
    """Refuse infinite numbers.

    Raises
    ------
    DataError
        Naming the column, the first row and how many there are.
    """
    if not values.dtype.is_float():
        return
    infinite = values.is_infinite().fill_null(False)
    if infinite.any():
        raise DataError(
            f"column {values.name!r} holds {int(infinite.sum())} infinite number(s), the first in row "
            f"{first_row(infinite)} (rows count from 0); replace them by a number or by missing."
        )


def _read_booleans(values: pl.Series, column: Column) -> tuple[pl.Series, list[str]]:
    if values.dtype == pl.Boolean:
        return values, []
    texts = level_texts(values).str.strip_chars().str.to_lowercase()
    known = {"true": True, "false": False, "1": True, "0": False}
    result = texts.replace_strict(known, default=None, return_dtype=pl.Boolean)
    _refuse_unread(texts, result, column)
    return result, []


def _read_moments(values: pl.Series, column: Column) -> tuple[pl.Series, list[str]]:
    dtype = values.dtype
    if dtype == pl.Date:
        return values.cast(DATETIME), []
    if isinstance(dtype, pl.Datetime):
        if (dtype.time_zone is None) != (column.tz is None):
            raise DataError(
                f"column {column.name!r} has "
                f"{'no time zone' if dtype.time_zone is None else 'a time zone'}, other "
                f"than the schema says ({column.tz}); convert it first."
            )
        return as_days(
            values.to_frame().select(to_utc(values.name, dtype).cast(DATETIME)).to_series(), column
        ), []
    if dtype != pl.String and not isinstance(dtype, pl.Enum):
        raise _wrong_dtype(values, column)
    texts = values.cast(pl.String)
    result = parse_datetime(texts, column.format) if column.format else None
    forms = (*DATETIME_FORMATS, *(ZONED_FORMATS if column.tz is not None else ()))
    form = column.format
    for form in () if result is not None and result.null_count() == texts.null_count() else forms:
        result = parse_datetime(texts, form)
        if result.null_count() == texts.null_count():
            break
    assert result is not None
    _refuse_unread(texts, result, column)
    return result if form == "%Y-%m-%d" else as_days(result, column), []


def _refuse_unread(texts: pl.Series, result: pl.Series, column: Column) -> None:
    if result.null_count() == texts.null_count():
        return
    bad = result.is_null() & texts.is_not_null()
    row = first_row(bad)
    raise DataError(
        f"column {column.name!r} should be {column.kind}, and {int(bad.sum())} of its values are not; the "
        f"first is "
        f"{texts[row]!r} in row {row} (rows count from 0). Declare it as missing with "
        f"missing=[{texts[row]!r}], "
        "correct it, or give the column another kind."
    )


def _wrong_dtype(values: pl.Series, column: Column) -> DataError:
    return DataError(
        f"column {column.name!r} should be {column.kind}, and came as {values.dtype}, which cannot be read "
        f"as that "
        "without loss; convert it first."
    )


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"


def from_canonical(values: pl.Series, column: Column, dtype: pl.DataType) -> pl.Series:
    """Write canonical values back as a Polars dtype, with missing as it was written; categories apart.

    Parameters
    ----------
    values : pl.Series
        Canonical.
    column : Column
        What they are.
    dtype : pl.DataType
        Scalar dtype wanted.

    Returns
    -------
    pl.Series
        Of that dtype.
    """
    if is_span(dtype) and column.kind != "identifier":
        result = spanned(from_canonical(values, column, pl.Int64()), column, dtype)
    elif column.kind == "categorical":
        if dtype == pl.String:
            result = values.cast(pl.String)
        else:
            result = level_values(column.levels, dtype).gather(values.to_physical())
    elif values.dtype == DATETIME:
        result = write_moments(values, column, dtype)
    elif column.kind == "boolean" and dtype == pl.String:
        false, true = (column.format or "False/True").split("/")
        named = pl.when(pl.col(values.name)).then(pl.lit(true)).when(~pl.col(values.name)).then(pl.lit(false))
        result = values.to_frame().select(named).to_series()
    elif column.is_numeric and dtype == pl.String:
        result = _write_numbers(values, column)
    elif isinstance(dtype, pl.Decimal):
        result = values.round(dtype.scale).cast(dtype)
    else:
        result = values.cast(dtype)
    if column.missing_marker is not None and result.null_count():
        result = result.fill_null(pl.Series([column.missing_marker]).cast(dtype)[0])
    return result.alias(column.name)


def _write_numbers(values: pl.Series, column: Column) -> pl.Series:
    way = NumberText.of(column.format) or SpanText.of(column.format)
    if way is not None:
        return way.write(values)
    if column.format != "fixed" or not column.decimals:
        return values.cast(pl.String)
    whole = values.cast(pl.Decimal(38, column.decimals))
    return whole.cast(pl.String)


def conform(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Bring generated canonical values into the remembered range and to the precision seen.

    Numbers are clipped and rounded to `Column.decimals`, moments clipped and cut to `Column.unit`.

    Parameters
    ----------
    frame : pl.DataFrame
        Canonical, any subset of the schema's columns.
    schema : Schema
        What to conform to.

    Returns
    -------
    pl.DataFrame
        The same columns.
    """
    changes = []
    for column in schema:
        if column.name not in frame.columns or column.minimum is None or column.maximum is None:
            continue
        value = pl.col(column.name)
        if column.kind == "continuous" and column.decimals is not None:
            value = value.round(column.decimals)
        elif column.kind == "datetime":
            step = MICROSECONDS[column.unit or "microsecond"]
            value = (value.cast(pl.Int64) // step * step).cast(DATETIME)
        changes.append(value.clip(column.minimum, column.maximum))
    return frame.with_columns(changes)
