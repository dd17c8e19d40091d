"""The half of :mod:`fairsynth.data.frames` that knows pandas; imported only when pandas is at hand."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from fairsynth.data.canonical import from_canonical, level_values
from fairsynth.data.frames import (
    RawFrame,
    enum_of,
    levels_of,
    native_categories,
    refuse_duplicates,
    series_of_arrow,
    to_arrow_array,
    unsupported,
)
from fairsynth.data.schema import Column, Schema
from fairsynth.errors import DataError

#: The one dtype whose name reads back as another: pandas takes it for its own strings.
ARROW_STRING = pd.ArrowDtype(pa.string())
ARROW_STRING_TEXT = "arrow string"
_NULLS = {"None": None, "nan": float("nan"), "NA": pd.NA}


def to_pandas(frame: pl.DataFrame, schema: Schema) -> pd.DataFrame:
    """Turn canonical rows into a pandas frame with the dtypes of the one that came in."""
    columns = [to_pandas_column(frame[column.name], column) for column in schema]
    return pd.concat(columns, axis=1) if columns else pd.DataFrame(index=range(len(frame)))


def from_pandas(frame: pd.DataFrame) -> RawFrame:
    if isinstance(frame.columns, pd.MultiIndex):
        raise DataError("the pandas frame has several levels of column names; flatten them first.")
    refuse_duplicates(list(frame.columns))
    dtypes, columns, ordered = {}, [], set()
    for name in frame.columns:
        values = frame[name]
        dtype = values.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            categories = dtype.categories.to_series(index=range(len(dtype.categories)))
            dtypes[name] = f"category[{_dtype_text(name, categories)}]"
            if dtype.ordered:
                ordered.add(name)
            codes = pl.Series(values.cat.codes.to_numpy()).cast(pl.Int64)
            codes = codes.set(codes < 0, None)
            columns.append(enum_of(name, _series_of(name, categories), codes))
        else:
            dtypes[name] = _dtype_text(name, values)
            columns.append(_series_of(name, values))
    return RawFrame(pl.DataFrame(columns), "pandas", dtypes, frozenset(ordered))


#: What pandas finds in an object column, and what it is called in the text of the dtype.
_OBJECTS = {
    "string": "str",
    "boolean": "bool",
    "integer": "int",
    "floating": "float",
    "mixed-integer-float": "float",
    "date": "date",
    "datetime": "datetime",
    "timedelta": "timedelta",
    "time": "time",
    "decimal": "decimal",
    "empty": "str",
}


def _dtype_text(name: str, values: pd.Series) -> str:
    """Write a pandas dtype as text that pandas reads back to the same."""
    dtype = values.dtype
    if dtype == np.dtype(object):
        held = pd.api.types.infer_dtype(values, skipna=True)
        if held not in _OBJECTS:
            raise _mixed(name, values)
        if held == "datetime" and any(one.tzinfo is not None for one in values.dropna()):
            raise DataError(
                f"column {name!r} holds objects with a time zone; make it a column of moments: "
                f"df[{name!r}] = pd.to_datetime(df[{name!r}], utc=True)."
            )
        missing = values[values.isna()]
        null = "None" if not len(missing) or missing.iloc[0] is None else None
        null = null or ("NA" if missing.iloc[0] is pd.NA else "nan")
        return f"object<{_OBJECTS[held]}, {null}>"
    if isinstance(dtype, pd.StringDtype):
        return f"string<{dtype.storage}, {'nan' if dtype.na_value is not pd.NA else 'NA'}>"
    if isinstance(dtype, pd.IntervalDtype):
        return str(dtype)
    is_scalar = dtype.kind in "biufMm" or isinstance(dtype, pd.ArrowDtype)
    text = str(dtype)
    if not is_scalar or isinstance(dtype, pd.SparseDtype):
        raise unsupported(name, text)
    if dtype == ARROW_STRING:
        return ARROW_STRING_TEXT
    try:
        same = pd.api.types.pandas_dtype(text) == dtype
    except (TypeError, NotImplementedError):
        same = False
    if not same:
        raise DataError(
            f"column {name!r} has the dtype {text}, which has no name that can be read back; convert it."
        )
    return text


def _mixed(name: str, values: pd.Series) -> DataError:
    held = values.dropna()
    kinds = held.map(lambda value: type(value).__name__)
    first = kinds.iloc[0]
    other = kinds[kinds != first]
    if not len(other):
        return unsupported(name, f"objects of type {first}")
    row = int(np.flatnonzero(values.index == other.index[0])[0])
    return DataError(
        f"column {name!r} mixes types: {first} and, in row {row} (rows count from 0), {other.iloc[0]}; "
        f"make them one, "
        f"for example frame[{name!r}].astype(str)."
    )


def _series_of(name: str, values: pd.Series) -> pl.Series:
    """Read a pandas column that is no category."""
    dtype = values.dtype
    if isinstance(dtype, pd.IntervalDtype):
        return pl.Series(name, [str(value) for value in values], dtype=pl.String)
    if isinstance(dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
        dtype = values.dtype
        return series_of_arrow(name, pa.array(values, from_pandas=True)).dt.replace_time_zone("UTC")
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        array = values.to_numpy()
        if dtype == np.float16:
            array = array.astype(np.float32)
        result = pl.Series(name, np.ascontiguousarray(array))
        return result.fill_nan(None) if dtype.kind == "f" else result
    if dtype == np.dtype(object) and pd.api.types.infer_dtype(values, skipna=True) == "mixed-integer-float":
        return pl.Series(name, values.astype("float64").to_numpy()).fill_nan(None)
    try:
        return series_of_arrow(name, pa.array(values, from_pandas=True))
    except OverflowError:
        raise DataError(
            f"column {name!r} holds integers beyond 64 bits; convert it to float, or to text if it is an identifier."
        ) from None
    except pa.ArrowException as error:
        raise DataError(f"column {name!r} cannot be read: {error}") from error


def value_type_of(text: str) -> pl.DataType:
    """Return the Polars dtype of the values of a pandas column."""
    if match := re.fullmatch(r"category\[(.*)\]", text):
        return value_type_of(match[1])
    if text.startswith("object<"):
        held = text[7:].partition(",")[0]
        names: dict[str, pl.DataType] = {"bool": pl.Boolean(), "int": pl.Int64(), "float": pl.Float64(),
                                         "date": pl.Date(), "datetime": pl.Datetime("us"),
                                         "timedelta": pl.Duration("us"), "time": pl.Time(),
                                         "decimal": pl.Decimal(38, 6)}  # fmt: skip
        return names.get(held, pl.String())
    if text.startswith(("string<", "interval[")) or text == ARROW_STRING_TEXT:
        return pl.String()
    dtype = pd.api.types.pandas_dtype(text)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return pl.Datetime("ms" if dtype.unit == "s" else dtype.unit, "UTC")
    return _series_of("", pd.Series([], dtype=dtype)).dtype


def to_pandas_column(values: pl.Series, column: Column) -> pd.Series:
    """Turn one canonical column into a pandas one of the dtype it came with."""
    text = column.dtype
    value_type = value_type_of(text)
    if match := re.fullmatch(r"category\[(.*)\]", text):
        held = native_categories(values, column)
        levels = level_values(levels_of(held), value_type)
        categories = pd.Index(_values_of(levels, match[1]))
        codes = held.to_physical().cast(pl.Int32).fill_null(-1).to_numpy()
        dtype = pd.CategoricalDtype(categories, ordered=column.ordered)
        return pd.Series(pd.Categorical.from_codes(codes, dtype=dtype), name=column.name)
    if text.startswith("object<str") and column.kind == "categorical":
        # Texts shared by all rows of a level: far quicker than one object for every row.
        null = column.missing_marker if column.missing_marker is not None else _null_of(text)
        shared = np.array([*column.levels, null], dtype=object)
        positions = values.to_physical().cast(pl.Int64).fill_null(len(column.levels)).to_numpy()
        return pd.Series(shared[positions], name=column.name, dtype=object)
    # Of objects pandas would make a column of moments again, if it were let.
    dtype = object if text.startswith("object<") else None
    return pd.Series(
        _values_of(from_canonical(values, column, value_type), text), name=column.name, dtype=dtype
    )


def _null_of(text: str) -> Any:
    return _NULLS[text.removesuffix(">").rpartition(", ")[2]]


def _values_of(values: pl.Series, text: str) -> Any:
    """Write scalar Polars values as an array of the pandas dtype that the text names."""
    missing = values.is_null().to_numpy()
    if text.startswith("object<"):
        array = np.empty(len(values), dtype=object)
        array[:] = values.to_list()
        if text.startswith("object<decimal"):
            array[:] = [None if value is None else value.normalize() for value in array]
        array[missing] = _null_of(text)
        return pd.Series(array, dtype=object).array
    if match := re.fullmatch(r"string<(\w+), (\w+)>", text):
        na_value = pd.NA if match[2] == "NA" else np.nan
        dtype = pd.StringDtype(match[1]) if na_value is pd.NA else pd.StringDtype(match[1], na_value=na_value)
        return dtype.__from_arrow__(to_arrow_array(values))
    if text.startswith("interval["):
        return _intervals(values, text)
    dtype = ARROW_STRING if text == ARROW_STRING_TEXT else pd.api.types.pandas_dtype(text)
    if isinstance(dtype, pd.DatetimeTZDtype):
        plain = values.dt.replace_time_zone(None).to_numpy().astype(f"datetime64[{dtype.unit}]")
        return pd.DatetimeIndex(plain).tz_localize("UTC").tz_convert(dtype.tz).array
    if isinstance(dtype, pd.ArrowDtype):
        return pd.array(to_arrow_array(values).cast(dtype.pyarrow_dtype), dtype=dtype)
    if isinstance(dtype, np.dtype):
        if missing.any() and dtype.kind in "iu":
            dtype = np.dtype("float64")
        elif missing.any() and dtype.kind == "b":
            return pd.Series(values.to_list(), dtype=object).array
        return values.to_numpy().astype(dtype, copy=False)
    filled = values.fill_null(0 if values.dtype.is_numeric() else False)
    plain = filled.to_numpy().astype(dtype.numpy_dtype)
    return dtype.construct_array_type()(plain, missing)


def _intervals(values: pl.Series, text: str) -> Any:
    dtype = pd.api.types.pandas_dtype(text)
    ends = [value[1:-1].split(", ") for value in values]
    low, high = (level_values([end[i] for end in ends], value_type_of(str(dtype.subtype))) for i in (0, 1))
    return pd.arrays.IntervalArray.from_arrays(
        low.to_numpy().astype(dtype.subtype), high.to_numpy().astype(dtype.subtype), closed=dtype.closed
    )
