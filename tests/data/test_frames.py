"""Frames come back as they came: values, dtypes, order, category levels, and how missing was written."""

from __future__ import annotations

import datetime as dt
import io
import subprocess
import sys
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fairsynth.data import Schema, Table, arrow_schema, file_schema, to_arrow
from fairsynth.data.frames import from_native
from fairsynth.errors import DataError

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ROWS = 24

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=6)
names = st.lists(texts, min_size=1, max_size=6, unique=True)


def integers(bits: int, signed: bool) -> st.SearchStrategy[int]:
    top = min(2 ** (bits - signed) - 1, 2**63 - 1)
    return st.integers(-(2 ** (bits - 1)) if signed else 0, top)


def floats(width: int) -> st.SearchStrategy[float]:
    return st.floats(allow_nan=False, allow_infinity=False, width=width)  # type: ignore[arg-type]


moments = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))
dates = st.dates(dt.date(1700, 1, 1), dt.date(2200, 1, 1))
durations = st.timedeltas(dt.timedelta(days=-50_000), dt.timedelta(days=50_000))
seconds = durations.map(lambda span: dt.timedelta(days=span.days, seconds=span.seconds))


@st.composite
def values_of(draw: st.DrawFn, element: st.SearchStrategy[Any], *, missing: bool) -> list[Any]:
    """A column of ROWS values with at least one that is not missing, few distinct ones or many."""
    pool = (
        st.sampled_from(draw(st.lists(element, min_size=1, max_size=4))) if draw(st.booleans()) else element
    )
    one = st.one_of(st.none(), pool) if missing else pool
    held = draw(st.lists(one, min_size=ROWS, max_size=ROWS))
    if all(value is None for value in held):
        held[draw(st.integers(0, ROWS - 1))] = draw(element)
    return held


@st.composite
def pandas_column(draw: st.DrawFn) -> pd.Series:
    plain = [
        "numpy int",
        "numpy float",
        "numpy bool",
        "object str",
        "object bool",
        "category",
        "datetime",
        "tz",
    ]
    kind = draw(st.sampled_from([*plain, "tz", "Int", "Float", "boolean", "string", "arrow"]))
    bits = draw(st.sampled_from([8, 16, 32, 64]))
    signed = draw(st.booleans())
    if kind in ("numpy int", "Int"):
        held = draw(values_of(integers(bits, signed), missing=kind == "Int"))
        name = f"{'Int' if signed else 'UInt'}{bits}"
        return pd.Series(held, dtype=name if kind == "Int" else name.lower())
    if kind in ("numpy float", "Float"):
        bits = draw(st.sampled_from([32, 64]))
        held = draw(values_of(floats(bits), missing=True))
        return pd.Series(held, dtype=f"Float{bits}" if kind == "Float" else f"float{bits}")
    if kind == "numpy bool":
        return pd.Series(draw(values_of(st.booleans(), missing=False)), dtype=bool)
    if kind == "boolean":
        return pd.Series(draw(values_of(st.booleans(), missing=True)), dtype="boolean")
    if kind in ("object str", "object bool"):
        held = draw(values_of(texts if kind == "object str" else st.booleans(), missing=True))
        null = draw(st.sampled_from([None, np.nan, pd.NA]))
        return pd.Series([null if value is None else value for value in held], dtype=object)
    if kind == "string":
        storage = draw(st.sampled_from(["python", "pyarrow"]))
        return pd.Series(draw(values_of(texts, missing=True)), dtype=pd.StringDtype(storage))
    if kind == "category":
        levels = draw(st.one_of(names, st.lists(st.integers(-5, 50), min_size=1, max_size=6, unique=True),
                                st.lists(floats(64), min_size=1, max_size=4, unique=True)))  # fmt: skip
        codes = draw(st.lists(st.integers(-1, len(levels) - 1), min_size=ROWS - 1, max_size=ROWS - 1))
        return pd.Series(
            pd.Categorical.from_codes([0, *codes], pd.Index(levels), ordered=draw(st.booleans()))
        )
    if kind in ("datetime", "tz"):
        unit = draw(st.sampled_from(["s", "ms", "us", "ns"]))
        held = pd.Series(draw(values_of(moments, missing=True)), dtype="datetime64[us]").astype(
            f"datetime64[{unit}]"
        )
        if kind == "datetime":
            return held
        return held.dt.tz_localize("UTC").dt.tz_convert(
            draw(st.sampled_from(["UTC", "Europe/Berlin", "UTC+05:30"]))
        )
    element, name = draw(st.sampled_from([
        (st.integers(-9, 99), "int64[pyarrow]"), (texts, "string[pyarrow]"), (moments,
        "timestamp[us][pyarrow]"), (st.booleans(), "bool[pyarrow]"), (floats(64), "double[pyarrow]"),
        (durations, "timedelta64[us]"), (durations, "timedelta64[ns]"), (seconds, "timedelta64[s]"),
        (durations, "duration[us][pyarrow]"), (st.times(), "time64[us][pyarrow]"),
    ]))  # fmt: skip
    return pd.Series(draw(values_of(element, missing=True)), dtype=name)


@st.composite
def polars_column(draw: st.DrawFn) -> pl.Series:
    dtype, element = draw(st.sampled_from([
        (pl.Int8, integers(8, True)), (pl.Int16, integers(16, True)), (pl.Int32, integers(32, True)),
        (pl.Int64, integers(64, True)), (pl.UInt8, integers(8, False)), (pl.UInt16, integers(16, False)),
        (pl.UInt32, integers(32, False)), (pl.UInt64, integers(64, False)), (pl.Float32, floats(32)),
        (pl.Float64, floats(64)), (pl.Boolean, st.booleans()), (pl.String, texts), (pl.Date, dates),
        (pl.Datetime("us"), moments), (pl.Datetime("ns"), moments), (pl.Datetime("us", "Europe/Berlin"),
        moments), (pl.Categorical, texts), (pl.Enum, texts), (pl.Decimal(12, 2), st.decimals(-10**6, 10**6,
        places=2)), (pl.Datetime("ms"), moments.map(lambda moment: moment.replace(microsecond=0))),
        (pl.Duration("us"), durations), (pl.Duration("ns"), durations), (pl.Duration("ms"), seconds),
        (pl.Time, st.times()),
    ]))  # fmt: skip
    held = draw(values_of(element, missing=True))
    if dtype is pl.Enum:
        levels = list(dict.fromkeys([*(value for value in held if value is not None), "never seen"]))
        return pl.Series(held, dtype=pl.Enum(draw(st.permutations(levels))))
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        return pl.Series(held, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC").cast(dtype)
    return pl.Series(held, dtype=dtype)


@st.composite
def arrow_column(draw: st.DrawFn) -> pa.ChunkedArray:
    kind, element = draw(st.sampled_from([
        (pa.int8(), integers(8, True)), (pa.uint64(), integers(64, False)), (pa.int64(), integers(64, True)),
        (pa.float32(), floats(32)), (pa.float64(), floats(64)), (pa.bool_(), st.booleans()), (pa.string(),
        texts), (pa.large_string(), texts), (pa.date32(), dates), (pa.timestamp("us"), moments),
        (pa.timestamp("s"), moments.map(lambda moment: moment.replace(microsecond=0))),
        (pa.timestamp("us", "Asia/Tokyo"), moments), (pa.timestamp("ms", "+02:00"), moments.map(
            lambda moment: moment.replace(microsecond=0))),
        (pa.decimal128(12, 2), st.decimals(-10**6, 10**6, places=2)),
        (pa.dictionary(pa.int8(), pa.string()), texts), (pa.dictionary(pa.int32(), pa.int64(), True),
        st.integers(0, 9)), (pa.duration("us"), durations), (pa.duration("s"), seconds),
        (pa.time64("us"), st.times()), (pa.time32("s"), st.times().map(lambda time: time.replace(microsecond=0))),
    ]))  # fmt: skip
    held = draw(values_of(element, missing=True))
    if not pa.types.is_dictionary(kind):
        array = pa.array(held, type=kind)
    else:
        levels = draw(st.permutations(list(dict.fromkeys(value for value in held if value is not None))))
        codes = [None if value is None else levels.index(value) for value in held]
        array = pa.DictionaryArray.from_arrays(
            pa.array(codes, kind.index_type), pa.array(levels, kind.value_type), ordered=kind.ordered
        )
    cut = draw(st.integers(0, ROWS))
    return pa.chunked_array([array[:cut], array[cut:]]) if cut not in (0, ROWS) else pa.chunked_array([array])


def round_trip(frame: Any, **options: Any) -> Any:
    """Through a table, its schema as JSON, and back."""
    table = Table(frame, **options)
    again = Schema.from_json(table.schema.to_json())
    assert again == table.schema
    assert table.schema.names == tuple(
        frame.columns if not isinstance(frame, pa.Table) else frame.column_names
    )
    return table.native()


@FEW
@given(st.lists(pandas_column(), min_size=1, max_size=4), st.integers(-3, 3))
def test_pandas_comes_back(columns: list[pd.Series], offset: int) -> None:
    frame = pd.concat({f"column {i}": column for i, column in enumerate(columns)}, axis=1)
    frame.index = pd.RangeIndex(offset, offset + ROWS)
    before = frame.copy(deep=True)
    back = round_trip(frame)
    pd.testing.assert_frame_equal(back, frame.reset_index(drop=True), check_exact=True, check_freq=False)
    pd.testing.assert_frame_equal(frame, before)
    for name in frame:
        if isinstance(frame[name].dtype, pd.CategoricalDtype):
            assert back[name].dtype.categories.equals(frame[name].dtype.categories)
            assert back[name].dtype.ordered == frame[name].dtype.ordered


@FEW
@given(st.lists(polars_column(), min_size=1, max_size=4))
def test_polars_comes_back(columns: list[pl.Series]) -> None:
    frame = pl.DataFrame([column.alias(f"column {i}") for i, column in enumerate(columns)])
    back = round_trip(frame)
    assert back.schema == frame.schema
    assert_frame_equal(back, frame, check_exact=True)


@FEW
@given(st.lists(arrow_column(), min_size=1, max_size=4))
def test_arrow_comes_back(columns: list[pa.ChunkedArray]) -> None:
    frame = pa.table(columns, names=[f"column {i}" for i in range(len(columns))])
    back = round_trip(frame)
    assert back.schema == frame.schema
    for name in frame.column_names:
        assert back[name].to_pylist() == frame[name].to_pylist()
        if pa.types.is_dictionary(frame[name].type):
            levels = frame[name].unify_dictionaries().chunk(0).dictionary
            assert back[name].chunk(0).dictionary == levels


@FEW
@given(st.lists(polars_column(), min_size=1, max_size=4))
def test_batches_hold_the_same_as_the_native_frame(columns: list[pl.Series]) -> None:
    frame = pl.DataFrame([column.alias(f"column {i}") for i, column in enumerate(columns)])
    table = Table(frame)
    batch = to_arrow(table.frame, table.schema)
    assert batch.schema == arrow_schema(table.schema)
    assert batch.schema.names == file_schema(table.schema).names
    for name in frame.columns:
        expected = frame[name].cast(pl.String) if frame[name].dtype == pl.Categorical else frame[name]
        assert pl.from_arrow(batch)[name].cast(expected.dtype).to_list() == expected.to_list()


def people(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"x": np.arange(ROWS) % 5 + 0.5, **columns})


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_declared_marker_comes_back_where_it_was(dtype: Any) -> None:
    frame = people(job=pd.Series(["b", "?", "a", "a"] * (ROWS // 4), dtype=dtype))
    table = Table(frame, missing="?")
    assert table.schema["job"].levels == ("a", "b")
    assert table.frame["job"].null_count() == ROWS // 4
    pd.testing.assert_frame_equal(table.native(), frame)
    batch = to_arrow(table.frame, table.schema)
    assert batch.column("job").to_pylist() == frame["job"].tolist()


def test_numbers_as_text_with_a_marker_come_back_as_the_same_text() -> None:
    frame = people(
        age=["39", "?", "-4", "7"] * (ROWS // 4),
        rate=["0.50", "?", "1.25", "3.00"] * (ROWS // 4),
        odd=["0.5", "?", "1.25", "3"] * (ROWS // 4),
    )
    table = Table(frame, missing=["?"])
    assert [table.schema[name].kind for name in ("age", "rate", "odd")] == [
        "integer",
        "continuous",
        "continuous",
    ]
    assert table.frame["age"].dtype == pl.Int64
    back = table.native()
    pd.testing.assert_frame_equal(back[["x", "age", "rate"]], frame[["x", "age", "rate"]])
    # Texts of one column that are written in several ways keep their value, not their spelling.
    assert [float(text) for text in back["odd"] if text != "?"] == [
        float(t) for t in frame["odd"] if t != "?"
    ]


def test_numeric_marker_is_missing_and_comes_back() -> None:
    frame = people(income=np.array([1, 2, 3, -1] * (ROWS // 4), dtype=np.int16))
    table = Table(frame, missing="-1")
    assert table.frame["income"].null_count() == ROWS // 4
    assert table.schema["income"].minimum == 1
    pd.testing.assert_frame_equal(table.native(), frame)


def test_nan_and_null_in_polars_are_missing_and_written_back() -> None:
    held = [1.5, float("nan"), 2.25, 7.0] * (ROWS // 4)
    frame = pl.DataFrame({"nan": held, "null": [None if value != value else value for value in held]})
    table = Table(frame)
    assert table.frame.null_count().row(0) == (ROWS // 4, ROWS // 4)
    assert table.schema["nan"].missing_marker == "NaN"
    back = table.native()
    assert back["nan"].is_nan().sum() == ROWS // 4 and back["nan"].null_count() == 0
    assert back["null"].null_count() == ROWS // 4


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M"])
def test_dates_as_text_are_datetimes_and_keep_their_format(form: str) -> None:
    days = [dt.datetime(2020, 1, 1, 10) + dt.timedelta(days=37 * i) for i in range(ROWS - 1)]
    frame = people(seen=[*(day.strftime(form) for day in days), None])
    table = Table(frame)
    assert table.frame["seen"].dtype == pl.Datetime("us")
    assert table.schema["seen"].unit == ("day" if form == "%Y-%m-%d" else "hour")
    pd.testing.assert_frame_equal(table.native(), frame)


@pytest.mark.parametrize("library", ["pandas", "polars", "polars enum", "pyarrow"])
def test_categories_that_are_identifiers_or_numbers_come_back(library: str) -> None:
    names, sizes = [f"n{i}" for i in range(ROWS)], [f"{i % 7}" for i in range(ROWS)]
    frame: Any = pl.DataFrame({"id": names, "size": sizes}).cast(pl.Categorical)
    if library == "polars enum":
        frame = frame.cast({"id": pl.Enum(names), "size": pl.Enum(sorted(set(sizes)))})
    elif library == "pandas":
        frame = pd.DataFrame({"id": pd.Categorical(names), "size": pd.Categorical(sizes)})
    elif library == "pyarrow":
        frame = pa.table(
            {"id": pa.array(names).dictionary_encode(), "size": pa.array(sizes).dictionary_encode()}
        )
    table = Table(frame, identifiers=["id"], kinds={"size": "integer"})
    assert table.schema["size"].kind == "integer" and table.frame["size"].to_list() == [int(x) for x in sizes]
    back = table.native()
    assert back.equals(frame) and str(back["id"].dtype if library != "pyarrow" else "") == str(
        frame["id"].dtype if library != "pyarrow" else "")  # fmt: skip
    batch = to_arrow(table.frame, table.schema)
    assert batch.schema == arrow_schema(table.schema)
    assert batch.column("id").to_pylist() == names and batch.column("size").to_pylist() == sizes
    fresh = table.replace(table.frame[:2].drop("id")).native()["id"]
    assert (fresh.to_pylist() if library == "pyarrow" else list(fresh)) == ["id-1", "id-2"]


def test_objects_of_moments_come_back_and_those_with_a_zone_are_refused() -> None:
    held = [dt.datetime(2020, 1, 1, 8) + dt.timedelta(days=k) for k in range(ROWS)]
    held[3] = None  # type: ignore[call-overload]
    frame = pd.DataFrame({"seen": pd.Series(held, dtype=object), "n": range(10, 10 + 3 * ROWS, 3)})
    table = Table(frame)
    assert table.schema["seen"].kind == "datetime"
    assert table.native()["seen"].tolist() == held
    aware = [moment.replace(tzinfo=dt.UTC) if moment else moment for moment in held]
    with pytest.raises(DataError, match=r"'seen'.*time zone.*to_datetime"):
        Table(frame.assign(seen=pd.Series(aware, dtype=object)))


def test_integers_of_python_beyond_64_bits_are_named() -> None:
    with pytest.raises(DataError, match="'much' holds integers beyond 64 bits"):
        Table(pd.DataFrame({"much": [10**25 + k for k in range(ROWS)]}))


def test_objects_of_dates_decimals_and_intervals_come_back() -> None:
    frame = people(
        day=[dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(ROWS)],
        price=[Decimal("1.5") * (i + 1) for i in range(ROWS)],
        age=pd.cut(np.arange(ROWS) * 4, [0, 25, 60, 100], include_lowest=True),
    )
    table = Table(frame)
    assert [table.schema[name].kind for name in ("day", "price", "age")] == [
        "datetime",
        "continuous",
        "categorical",
    ]
    pd.testing.assert_frame_equal(table.native(), frame)


def test_level_texts_of_whole_numbers_have_no_point() -> None:
    frame = people(a=[0.0, 1.0] * (ROWS // 2), b=[2, 1] * (ROWS // 2))
    schema = Table(frame).schema
    assert schema["a"].levels == ("0", "1")
    assert schema["b"].levels == ("1", "2")


def test_anything_with_an_arrow_stream_is_read() -> None:
    class Stream:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return pa.table({"x": list(range(0, 2 * ROWS, 2))}).__arrow_c_stream__(requested_schema)

    assert isinstance(Table(Stream()).native(), pa.Table)
    assert isinstance(Table(pl.LazyFrame({"x": range(0, 2 * ROWS, 2)})).native(), pl.DataFrame)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (people(x2=[1, "a"] * (ROWS // 2)), ["'x2'", "int", "row 1", "str", "astype(str)"]),
        (people(x2=[[1]] * ROWS), ["'x2'", "list", "convert or drop"]),
        (people(x2=pd.period_range("2020-01", periods=ROWS, freq="M")), ["'x2'", "period"]),
        (pl.DataFrame({"x": [[1]] * ROWS}), ["'x'", "List"]),
        (pa.table({"x": pa.array([b"a"] * ROWS)}), ["'x'", "binary"]),
        (pd.DataFrame(np.ones((ROWS, 2)), columns=["a", "a"]), ["'a'", "twice"]),
        (pa.table([[1] * ROWS, [2] * ROWS], names=["b", "b"]), ["'b'", "twice"]),
        (pd.DataFrame(np.ones((ROWS, 2))), ["named 0", "astype(str)"]),
        (people(x2=pd.Categorical([1, "1"] * (ROWS // 2))), ["'x2'", "int", "str"]),
        (
            pa.table({"x": pa.DictionaryArray.from_arrays([0, 1] * ROWS, ["a", "a"])}),
            ["'x'", "both read 'a'", "merge"],
        ),
        ({"x": [1] * ROWS}, ["builtins.dict", "no table"]),
        (
            pl.DataFrame({"x": pl.Series([2**64 - 1 - i % 25 for i in range(30)], dtype=pl.UInt64)}),
            ["'x'", "64 bits"],
        ),
    ],
)
def test_frames_that_cannot_be_read_say_why(frame: Any, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        Table(frame)
    for word in words:
        assert word in str(caught.value)


def test_polars_users_need_no_pandas() -> None:
    program = """
import sys
from importlib.machinery import PathFinder
found = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name == "pandas" else found(name, *rest)
import polars as pl
from fairsynth.data import Table, to_arrow
table = Table(pl.DataFrame({"x": range(0, 80, 2), "s": ["a", "b"] * 20}), sensitive="s")
table.native(); to_arrow(table.frame, table.schema); table.split(); table.align(table.native().to_arrow())
try:
    import pandas
except ImportError:
    pass
else:
    raise SystemExit("the test hides nothing")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_reading_other_frames_does_not_import_pandas() -> None:
    program = """
import sys
import polars as pl
from fairsynth.data import Table
Table(pl.DataFrame({"x": range(0, 80, 2), "s": ["a", "b"] * 20}).to_arrow()).native()
assert "pandas" not in sys.modules, "pandas was imported"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_raw_frames_name_the_dtypes_that_came() -> None:
    raw = from_native(people(s=pd.Categorical(["b", "a"] * (ROWS // 2), ["b", "a"], ordered=True)))
    text = "object<str, None>" if pd.__version__ < "3" else "string<pyarrow, nan>"
    assert raw.dtypes == {"x": "float64", "s": f"category[{text}]"}
    assert raw.ordered == {"s"}
    assert raw.frame["s"].dtype == pl.Enum(["b", "a"])


def test_every_column_of_arrow_comes_back_as_one() -> None:
    """What ``dtype_backend="pyarrow"`` reads; pandas takes the name of such texts for that of its own."""
    text = "a,n,x,t,b,s,y\n" + "".join(
        f"{'pqr'[i % 3]},{i % 9},{i / 7:.2f},2024-01-{1 + i % 28:02},{i % 2 == 0},{'fm'[i % 2]},{i % 4 // 2}\n"
        for i in range(60)
    )
    frame = pd.read_csv(io.StringIO(text), dtype_backend="pyarrow")
    frame.loc[3, "a"] = None
    for whole in (frame, frame.astype({"a": "category"})):
        back = Table(whole, target="y", favorable=1, sensitive="s").native()
        pd.testing.assert_frame_equal(back, whole)
