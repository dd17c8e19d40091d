"""The one module, with its half for pandas in ``_pandas.py``, that knows pandas, Polars and PyArrow apart.

In: any frame becomes a `RawFrame`, Polars columns plus the text of the dtype each had. Out: canonical rows
become the kind of frame that came in, with the dtypes, order and category levels it had, or Arrow record
batches for files. pandas is imported only when a pandas frame came in or goes out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
import pyarrow as pa

from fairsynth.data.canonical import from_canonical, level_texts, level_values
from fairsynth.data.schema import Column, FrameKind, Schema
from fairsynth.errors import DataError, MissingDependencyError, SchemaError

#: What a column of row labels is called that pandas wrote to a file: read again from CSV, and from Parquet.
ROW_LABELS = ("Unnamed: 0", "__index_level_0__")


@dataclass(frozen=True)
class RawFrame:
    """A frame as it came, in Polars columns.

    Attributes
    ----------
    frame : pl.DataFrame
        Scalar dtypes; columns that came as categories are ``Enum`` with their levels in order.
    kind : {"pandas", "polars", "pyarrow"}
        The library it came from.
    dtypes : dict of str to str
        Dtype of each column, as `to_native` reads it.
    ordered : frozenset of str
        Columns that came as ordered categories.
    untyped : bool
        Whether all columns are text because a text file was read.
    notes : tuple of str
        What had to be assumed to read it.
    descriptions : dict of str to str
        What columns mean, where the file says so.
    """

    frame: pl.DataFrame
    kind: FrameKind
    dtypes: dict[str, str]
    ordered: frozenset[str] = field(default_factory=frozenset)
    untyped: bool = False
    notes: tuple[str, ...] = ()
    descriptions: dict[str, str] = field(default_factory=dict)


def from_native(data: Any) -> RawFrame:
    """Read a pandas, Polars or PyArrow frame, without changing it.

    Parameters
    ----------
    data : pandas.DataFrame, polars.DataFrame, polars.LazyFrame, pyarrow.Table, pyarrow.RecordBatch
        Or anything else with the Arrow stream interface (``__arrow_c_stream__``), taken as PyArrow.

    Returns
    -------
    RawFrame
        Of the same rows. The index of a pandas frame is left out.

    Raises
    ------
    DataError
        If it is no frame, columns are named twice, or a column holds values that are not scalars.
    """
    if nw.dependencies.is_pandas_dataframe(data):
        return _pandas().from_pandas(data)
    if nw.dependencies.is_polars_lazyframe(data):
        data = data.collect()
    if nw.dependencies.is_polars_dataframe(data):
        return _from_polars(data)
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    elif not isinstance(data, pa.Table) and hasattr(data, "__arrow_c_stream__"):
        data = pa.table(data)
    if isinstance(data, pa.Table):
        return _from_pyarrow(data)
    raise DataError(
        f"{type(data).__module__}.{type(data).__qualname__} is no table; give a pandas, Polars or PyArrow "
        "frame, the path of a .csv, .parquet, .xlsx, .sav or .jsonl file or one of their kind, or a duckdb:/// "
        "address."
    )


def to_native(frame: pl.DataFrame, schema: Schema) -> Any:
    """Turn canonical rows into the kind of frame that came in.

    Parameters
    ----------
    frame : pl.DataFrame
        Canonical, with all columns of the schema.
    schema : Schema
        As inferred from the frame that came in.

    Returns
    -------
    pandas.DataFrame, polars.DataFrame or pyarrow.Table
        Same dtypes, column order and category levels; a pandas frame has a new ``RangeIndex``. A pandas
        integer or boolean column whose dtype holds no missing values becomes float or object where a row
        lacks one.
    """
    if schema.frame == "pandas":
        return _pandas().to_pandas(frame, schema)
    if schema.frame == "pyarrow":
        arrays = [
            _to_arrow_column(frame[column.name], column, _pyarrow_type(column.dtype)) for column in schema
        ]
        return pa.table(arrays, names=list(schema.names))
    return pl.DataFrame([_to_polars_column(frame[column.name], column) for column in schema])


def refuse_duplicates(names: list[Any], where: str = "the table") -> None:
    """Refuse column names that are not texts, are empty, or are given twice.

    Raises
    ------
    DataError
        Naming them.
    """
    odd = [name for name in names if not isinstance(name, str) or not name]
    if odd:
        remedy = (
            "give it one, or remove it"
            if odd[0] == ""
            else "for example through df.columns = df.columns.astype(str)"
        )
        raise DataError(
            f"{where} has a column named {odd[0]!r}; every column needs a name that is text: {remedy}."
        )
    twice = list(dict.fromkeys(name for name in names if names.count(name) > 1))
    if twice:
        raise DataError(
            f"{where} names columns twice: {', '.join(map(repr, twice))}; rename or drop one of each."
        )


def unsupported(name: str, dtype: Any) -> DataError:
    """Make the error for a column of lists, structures and the like."""
    return DataError(
        f"column {name!r} holds {dtype}, which is no number, text, boolean, category, date or duration; convert or "
        f"drop it."
    )


# Polars


def _from_polars(frame: pl.DataFrame) -> RawFrame:
    refuse_duplicates(frame.columns)
    dtypes, columns = {}, []
    for values in frame.get_columns():
        dtypes[values.name] = _polars_text(values)
        if values.dtype == pl.Categorical:
            levels = values.drop_nulls().unique().cast(pl.String).sort()
            values = values.cast(pl.String).cast(pl.Enum(levels))
        columns.append(values)
    return RawFrame(pl.DataFrame(columns), "polars", dtypes)


def _polars_text(values: pl.Series) -> str:
    dtype = values.dtype
    if isinstance(dtype, pl.Datetime):
        return f"Datetime[{dtype.time_unit}{', ' + dtype.time_zone if dtype.time_zone else ''}]"
    if isinstance(dtype, pl.Duration):
        return f"Duration[{dtype.time_unit}]"
    if isinstance(dtype, pl.Decimal):
        return f"Decimal[{dtype.precision or 38}, {dtype.scale}]"
    scalar = dtype.is_numeric() or dtype in (
        pl.String, pl.Boolean, pl.Date, pl.Time, pl.Categorical, pl.Null
    )  # fmt: skip
    if scalar or isinstance(dtype, pl.Enum):
        return dtype.base_type().__name__
    raise unsupported(values.name, dtype)


def _polars_dtype(text: str) -> pl.DataType:
    name, _, inside = text.partition("[")
    parts = [part.strip() for part in inside.removesuffix("]").split(",")]
    if name == "Datetime":
        return pl.Datetime(parts[0], parts[1] if len(parts) > 1 else None)  # type: ignore[arg-type]
    if name == "Duration":
        return pl.Duration(parts[0])  # type: ignore[arg-type]
    if name == "Decimal":
        return pl.Decimal(int(parts[0]), int(parts[1]))
    if name in ("Enum", "Categorical"):
        return pl.String()
    dtype = getattr(pl, name, None)
    if not (isinstance(dtype, type) and issubclass(dtype, pl.DataType)):
        raise SchemaError(f"dtype {text!r} is no dtype of Polars.")
    return dtype()


def _to_polars_column(values: pl.Series, column: Column) -> pl.Series:
    if column.dtype == "Enum":
        return native_categories(values, column).alias(column.name)
    result = from_canonical(values, column, _polars_dtype(column.dtype))
    return result.cast(pl.Categorical) if column.dtype == "Categorical" else result


def levels_of(values: pl.Series) -> list[str]:
    """Return the categories of an Enum column."""
    assert isinstance(values.dtype, pl.Enum)
    return values.dtype.categories.to_list()


def native_categories(values: pl.Series, column: Column) -> pl.Series:
    """Return an Enum of the categories that the native column had.

    They are the levels, and the marker of missing where it was one of them. A category column that is
    something else (an identifier, or said to be a number) has the values at hand for categories, since
    the schema remembers no others.
    """
    if column.kind == "categorical":
        if column.marker_level is None or column.missing_marker is None:
            return values
        levels = list(column.levels)
        levels.insert(column.marker_level, column.missing_marker)
        return values.cast(pl.String).fill_null(column.missing_marker).cast(pl.Enum(levels))
    if isinstance(values.dtype, pl.Enum):
        return values
    texts = level_texts(values)
    return texts.cast(pl.Enum(level_texts(values.drop_nulls().unique().sort())))


# PyArrow


def _from_pyarrow(table: pa.Table) -> RawFrame:
    refuse_duplicates(list(table.column_names))
    dtypes, columns, ordered = {}, [], set()
    for name, values in zip(table.column_names, table.columns, strict=True):
        dtypes[name] = str(values.type)
        if pa.types.is_dictionary(values.type):
            if values.type.ordered:
                ordered.add(name)
            columns.append(_from_dictionary(name, values))
        else:
            columns.append(series_of_arrow(name, values))
    return RawFrame(pl.DataFrame(columns), "pyarrow", dtypes, frozenset(ordered))


def _from_dictionary(name: str, values: pa.ChunkedArray) -> pl.Series:
    whole = values.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.nulls(0, values.type)
    return enum_of(name, series_of_arrow(name, whole.dictionary), series_of_arrow(name, whole.indices))


def enum_of(name: str, categories: pl.Series, codes: pl.Series) -> pl.Series:
    """Make an Enum column of categories of any scalar dtype."""
    texts = level_texts(categories)
    if texts.null_count():
        raise DataError(f"column {name!r} has missing among its categories; remove that category.")
    if texts.n_unique() != len(texts):
        twice = texts.filter(texts.is_duplicated())[0]
        raise DataError(f"column {name!r} has two categories that both read {twice!r}; merge them.")
    if not len(texts):
        return pl.Series(name, [None] * len(codes), dtype=pl.String)
    return texts.cast(pl.Enum(texts)).gather(codes.cast(pl.UInt32)).alias(name)


def series_of_arrow(name: str, values: pa.Array | pa.ChunkedArray) -> pl.Series:
    """Read an Arrow array of scalars that is no dictionary; zoned moments come in UTC."""
    if pa.types.is_interval(values.type):
        values = _durations(name, values)
    kind = values.type
    if pa.types.is_float16(kind):
        values = values.cast(pa.float32())
    elif pa.types.is_decimal(kind) and kind.bit_width == 256:
        values = values.cast(pa.float64())
    scalar = (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or
        pa.types.is_null(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind) or
        pa.types.is_string_view(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind) or
        pa.types.is_decimal(kind) or pa.types.is_duration(kind) or pa.types.is_time(kind)
    )  # fmt: skip
    if not scalar:
        raise unsupported(name, kind)
    if pa.types.is_timestamp(kind) and kind.tz:
        # Moments are the same in every zone, and Polars knows fewer names of zones than Arrow.
        values = values.cast(pa.timestamp("us" if kind.unit == "ns" else kind.unit, "UTC"), safe=False)
    result = pl.from_arrow(values)
    assert isinstance(result, pl.Series)
    return result.alias(name)


def _durations(name: str, values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Read intervals of months, days and nanoseconds, as databases tell them, as durations."""
    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    parts = np.frombuffer(
        whole.buffers()[1], dtype=[("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")]
    )
    parts = parts[whole.offset : whole.offset + len(whole)]
    missing = whole.is_null().to_numpy(zero_copy_only=False)
    months = (parts["months"] != 0) & ~missing
    if months.any():
        row = int(np.argmax(months))
        raise DataError(
            f"column {name!r}, row {row} (rows count from 0), holds {parts['months'][row]} month(s), which are no "
            "fixed time; ask for days, or for a number of months."
        )
    ticks = parts["days"].astype(np.int64) * 86_400_000_000 + parts["nanoseconds"] // 1_000
    return pa.array(ticks, pa.int64(), mask=missing).cast(pa.duration("us"))


@lru_cache(maxsize=256)
def _pyarrow_type(text: str) -> pa.DataType:
    """Read the text of an Arrow type, as ``str(type)`` writes it."""
    if match := re.fullmatch(r"timestamp\[(s|ms|us|ns)(?:, tz=(.+))?\]", text):
        return pa.timestamp(match[1], match[2])
    if match := re.fullmatch(r"decimal(32|64|128|256)\((\d+), (-?\d+)\)", text):
        return getattr(pa, f"decimal{match[1]}")(int(match[2]), int(match[3]))
    if match := re.fullmatch(r"dictionary<values=(.+), indices=(\w+), ordered=([01])>", text):
        return pa.dictionary(pa.type_for_alias(match[2]), _pyarrow_type(match[1]), match[3] == "1")
    try:
        return pa.type_for_alias(text)
    except ValueError as error:
        raise SchemaError(f"dtype {text!r} is no type of Arrow.") from error


def _to_arrow_column(values: pl.Series, column: Column, kind: pa.DataType) -> pa.Array:
    """Write canonical values as an Arrow array of the given type."""
    if pa.types.is_dictionary(kind):
        categories = native_categories(values, column)
        levels = level_values(levels_of(categories), _polars_of(kind.value_type))
        dictionary = to_arrow_array(levels).cast(kind.value_type)
        indices = to_arrow_array(categories.to_physical().cast(pl.Int32)).cast(kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=kind.ordered)
    result = to_arrow_array(from_canonical(values, column, _polars_of(kind)))
    return result if result.type == kind else result.cast(kind, safe=False)


def to_arrow_array(values: pl.Series) -> pa.Array:
    """Return a Polars column as one Arrow array."""
    result = values.to_arrow()
    return result.combine_chunks() if isinstance(result, pa.ChunkedArray) else result


@lru_cache(maxsize=256)
def _polars_of(kind: pa.DataType) -> pl.DataType:
    """Return the Polars dtype that an Arrow type is read as."""
    # Not pa.array([]), which imports pandas.
    return series_of_arrow("", pa.nulls(0, kind)).dtype


def _pandas() -> Any:
    """Return the half of this module that imports pandas."""
    try:
        from fairsynth.data import _pandas
    except ImportError as error:
        raise MissingDependencyError(
            "the schema is that of a pandas frame, and pandas is not installed: pip install pandas"
        ) from error
    return _pandas


# Arrow, for files


def _file_type(column: Column, frame: FrameKind) -> pa.DataType:
    """Return the Arrow type that a column has in a file."""
    if frame == "pyarrow":
        kind = _pyarrow_type(column.dtype)
        return kind.value_type if pa.types.is_dictionary(kind) and column.kind != "categorical" else kind
    if frame == "pandas":
        value_type, is_category = _pandas().value_type_of(column.dtype), column.dtype.startswith("category[")
    else:
        value_type, is_category = _polars_dtype(column.dtype), column.dtype in ("Enum", "Categorical")
    kind = to_arrow_array(pl.Series([], dtype=value_type)).type
    if frame == "pandas" and column.tz is not None and pa.types.is_timestamp(kind):
        kind = pa.timestamp(kind.unit, column.zone or column.tz)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        kind = pa.string()
    is_category = is_category and column.kind == "categorical"
    return pa.dictionary(pa.int32(), kind, column.ordered) if is_category else kind


def file_schema(schema: Schema) -> pa.Schema:
    """Return the Arrow types that the columns have in a file: text is text, categories are dictionaries."""
    return pa.schema([(column.name, _file_type(column, schema.frame)) for column in schema])


def _batch_type(column: Column, frame: FrameKind) -> pa.DataType:
    """Return the type in a batch: as in the file, but text of few levels as codes into one dictionary."""
    kind = _file_type(column, frame)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return pa.dictionary(pa.int32(), kind) if column.kind == "categorical" and is_text else kind


def arrow_schema(schema: Schema) -> pa.Schema:
    """Return the schema of the batches that `to_arrow` makes.

    It differs from `file_schema` in that every categorical text column is a dictionary.
    """
    return pa.schema([(column.name, _batch_type(column, schema.frame)) for column in schema])


def to_arrow(frame: pl.DataFrame, schema: Schema) -> pa.RecordBatch:
    """Turn canonical rows into one record batch, without touching rows one by one.

    Parameters
    ----------
    frame : pl.DataFrame
        Canonical, with all columns of the schema.
    schema : Schema
        What they are.

    Returns
    -------
    pa.RecordBatch
        Of the types of `arrow_schema`.
    """
    types = arrow_schema(schema)
    arrays = [
        batch_column(frame[column.name], column, kind)
        for column, kind in zip(schema, types.types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=types)


def batch_column(values: pl.Series, column: Column, kind: pa.DataType) -> pa.Array:
    """Turn the canonical values of one column into an array of the type that `arrow_schema` gives it."""
    if pa.types.is_dictionary(kind) and column.marker_level is None and column.missing_marker is not None:
        codes = to_arrow_array(values.to_physical().cast(pl.Int32).fill_null(len(column.levels)))
        levels = batch_levels(column, kind)
        return pa.DictionaryArray.from_arrays(codes.cast(kind.index_type), levels, ordered=kind.ordered)
    return _to_arrow_column(values, column, kind)


def batch_levels(column: Column, kind: pa.DataType) -> pa.Array:
    """Return the texts of a column's levels as the dictionary of a batch; the marker of missing is one more entry."""
    marker = () if column.missing_marker is None else (column.missing_marker,)
    return to_arrow_array(pl.Series([*column.levels, *marker], dtype=pl.String)).cast(kind.value_type)
