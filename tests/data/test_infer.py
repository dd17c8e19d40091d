"""What is inferred from rows, and what is refused with a remedy."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.data import Table
from fairsynth.data.frames import from_native
from fairsynth.data.infer import infer_schema
from fairsynth.data.measure import private_range
from fairsynth.errors import DataError, FairsynthError, SchemaError

N = 60


def rows(**columns: Any) -> pl.DataFrame:
    """A sound table of N rows, with more columns."""
    base = {
        "age": [20 + i % 31 for i in range(N)],
        "sex": ["F", "M"] * (N // 2),
        "paid": ["no", "yes", "yes", "no", "no", "yes"] * (N // 6),
    }
    return pl.DataFrame({**base, **columns})


def schema_of(values: Any, **options: Any) -> Any:
    return Table(rows(x=values), **options).schema["x"]


def csv_schema(tmp_path: Path, cells: list[str], **options: Any) -> Any:
    """The column x of a CSV file with those cells, repeated."""
    cells = [cells[i % len(cells)] for i in range(N)]
    file = tmp_path / "t.csv"
    file.write_text("x,n\n" + "".join(f"{cell},{i % 7}\n" for i, cell in enumerate(cells)))
    return Table(file, **options).schema["x"]


@pytest.mark.parametrize(
    ("cells", "kind", "dtype", "detail"),
    [
        (["1", "2", "3", "-4"], "integer", "Int64", {"decimals": None}),
        (["1", "2", "3", ""], "integer", "Int64", {"has_missing": True, "missing_marker": None}),
        (["1.5", "2.25", "3"], "continuous", "Float64", {"decimals": 2}),
        (["1e3", "2.5", ".5"], "continuous", "Float64", {"decimals": 1}),
        (["62.0", "61.0", "60.0"], "integer", "Float64", {}),
        (["0", "1"], "categorical", "Int64", {"levels": ("0", "1")}),
        (["001", "002", "010"], "categorical", "String", {"levels": ("001", "002", "010")}),
        (["True", "False"], "categorical", "String", {"levels": ("False", "True")}),
        (["a", "b", "1"], "categorical", "String", {"levels": ("1", "a", "b")}),
        (["1", "2", "NA", "3"], "integer", "String", {"missing_marker": "NA", "has_missing": True}),
        (["a", "NA", "b"], "categorical", "String", {"levels": ("NA", "a", "b")}),
        (
            ["2020-01-31", "2021-02-28", "2020-06-01"],
            "datetime",
            "String",
            {"format": "%Y-%m-%d", "unit": "day"},
        ),
        (["2020-01-31", "2021-02-30"], "categorical", "String", {}),
        (["12345678901234567890", "1", "2"], "categorical", "String", {}),
        (["a", " ", "b"], "categorical", "String", {"levels": ("a", "b"), "has_missing": True}),
    ],
)
def test_columns_of_text_files(
    tmp_path: Path, cells: list[str], kind: str, dtype: str, detail: dict[str, Any]
) -> None:
    column = csv_schema(tmp_path, cells)
    assert (column.kind, column.dtype) == (kind, dtype)
    assert {key: getattr(column, key) for key in detail} == detail


@pytest.mark.parametrize(
    "cells", [["39", "?", "41", "7"], ["0.5", "?", "1.25"], ["a", "?", "b"], ["", "?", "a", "?"]]
)
def test_declared_marker_in_a_text_file(tmp_path: Path, cells: list[str]) -> None:
    column = csv_schema(tmp_path, cells, missing="?")
    assert column.missing_marker == "?" and column.has_missing
    assert column.kind == {"3": "integer", "0": "continuous"}.get(cells[0][:1], "categorical")


def test_text_in_memory_stays_text() -> None:
    assert schema_of([str(i % 7) for i in range(N)]).kind == "categorical"


def test_many_levels() -> None:
    levels = [f"city {i}" for i in range(3000)]
    frame = pl.DataFrame({"city": levels + levels[:1500], "sex": ["F", "M"] * 2250})
    column = Table(frame).schema["city"]
    assert column.kind == "categorical" and len(column.levels) == 3000


def test_levels_are_sorted_as_values() -> None:
    column = schema_of([i % 12 for i in range(N)], kinds={"x": "categorical"})
    assert column.levels == tuple(str(i) for i in range(12))
    assert schema_of([0.5, 10.0, 2.0] * 20, kinds={"x": "categorical"}).levels == ("0.5", "2", "10")


def test_target_kinds() -> None:
    assert Table(rows(x=[i % 20 for i in range(N)]), target="x").schema["x"].kind == "categorical"
    assert Table(rows(x=[i % 21 for i in range(N)]), target="x").schema["x"].kind == "integer"
    assert (
        Table(rows(x=[i % 21 for i in range(N)]), target="x", favorable=[1, 2]).schema["x"].kind
        == "categorical"
    )
    with pytest.raises(SchemaError, match=r"'x' is a number with more than 20 values, and only 7 of them"):
        Table(rows(x=[i % 21 for i in range(N)]), target="x", favorable=7)
    assert Table(rows(x=[i % 3 == 0 for i in range(N)]), target="x").schema["x"].levels == ("False", "True")
    assert Table(rows(), target="age", kinds={"age": "integer"}).schema["age"].kind == "integer"


@pytest.mark.parametrize("favorable", [1, "1", 1.0, True, np.int64(1), [1], ("1",)])
def test_favorable_value_in_any_spelling(favorable: Any) -> None:
    frame = rows(x=[i % 2 for i in range(N)], b=[i % 2 == 1 for i in range(N)])
    if favorable is not True:
        assert Table(frame, target="x", favorable=favorable).schema.favorable == ("1",)
    else:
        assert Table(frame, target="b", favorable=favorable).schema.favorable == ("True",)
        assert Table(frame, target="b", favorable="true").schema.favorable == ("True",)


def test_numeric_sensitive_columns() -> None:
    assert Table(rows(x=[i % 5 for i in range(N)]), sensitive="x").schema["x"].kind == "categorical"
    for options in (
        {"sensitive": {"age": [25, 40]}},
        {"sensitive": "age", "kinds": {"age": {"edges": [25, 40]}}},
    ):
        table = Table(rows(), **options)  # type: ignore[arg-type]
        assert table.schema["age"].kind == "integer"
        assert table.groups().names == ("< 25", "[25, 40)", "≥ 40")


def test_identifiers_are_found_and_said() -> None:
    schema = Table(rows(id=range(100, 100 + N), name=[f"n{i}" for i in range(N)])).schema
    assert schema.identifiers == ("id", "name")
    assert all(any(repr(name) in note for note in schema.notes) for name in ("id", "name"))
    assert schema["name"].levels == ()


def test_what_is_no_identifier() -> None:
    scattered = np.random.default_rng(0).permutation(10 * N)[:N]
    schema = Table(
        rows(x=scattered, when=[dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(N)])
    ).schema
    assert schema.identifiers == ()
    assert Table(rows(x=range(N)), kinds={"x": "integer"}).schema.identifiers == ()
    assert Table(rows(x=[f"n{i}" for i in range(N)])[:49]).schema.identifiers == ()


def test_nearly_distinct_texts_are_noted() -> None:
    notes = Table(rows(x=[f"n{min(i, N - 3)}" for i in range(N)])).schema.notes
    assert any("'x'" in note and "identifier" in note for note in notes)


def test_constant_features_are_noted() -> None:
    schema = Table(rows(x=[3] * N)).schema
    assert any("'x'" in note and "'3'" in note for note in schema.notes)
    assert schema["x"].bounds == (3, 3)


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([1.5, 2.0, 3.25], 2),
        ([0.1, 0.2, 0.7], 1),
        ([1 / 3, 0.5, 0.2], None),
        ([1.000001, 2.5, 3.0], 6),
        ([1e9 + 0.01, 1e9 + 0.02, 2.5], 2),
        ([0.1 + 0.2, 41.300000000000004, 3 * 0.1], 1),
        ([1e13 + 0.123, 1e13, 2.5], 3),
        ([0.3 + 1e-14, 0.2, 0.1], None),
    ],
)
def test_decimals(values: list[float], decimals: int | None) -> None:
    assert schema_of(values * (N // 3)).decimals == decimals


def test_decimals_of_single_precision() -> None:
    column = schema_of(pl.Series([0.1, 2.7, 3.25] * (N // 3), dtype=pl.Float32))
    assert column.decimals == 2


@pytest.mark.parametrize(
    ("step", "unit"),
    [
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
        (0.001, "millisecond"),
        (1e-6, "microsecond"),
    ],
)
def test_unit_of_datetimes(step: float, unit: str) -> None:
    start = dt.datetime(2020, 1, 1)
    column = schema_of([start + dt.timedelta(seconds=step * i) for i in range(N)])
    assert column.unit == unit


def test_range_is_not_that_of_one_person() -> None:
    column = schema_of([*range(1, N), 100_000])
    # The five highest are 56, 57, 58, 59 and 100,000; the lowest 1 to 5.
    assert column.bounds == (3, 20046)
    assert schema_of([0] * 5 + [7] * 50 + [90] * 5).bounds == (0, 90)
    # Four rows are too few to show the extreme.
    assert schema_of([0] * 4 + [7] * 51 + [90] * 5).bounds == (2, 90)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.integers(-50, 50), st.integers(-(10**15), 10**15)), min_size=1, max_size=30))
def test_private_range_of_integers_lies_within(values: list[int]) -> None:
    low, high = private_range(pl.Series(values))
    assert min(values) <= low <= high <= max(values)
    assert isinstance(low, int) and isinstance(high, int)
    if len(values) >= 10 and max(values) - min(values) > 10:
        assert (low == min(values)) == (values.count(min(values)) >= 5)
        assert (high == max(values)) == (values.count(max(values)) >= 5)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.sampled_from([None, 1.0, 0.1, 0.001]))
def test_private_range_of_floats_lies_within(values: list[float], step: float | None) -> None:
    if step is not None:
        values = [round(value, round(-np.log10(step))) for value in values]
    low, high = private_range(pl.Series(values), step=step)
    assert min(values) <= low <= high <= max(values)
    if len(set(values)) > 5 and step is None:
        ends = sorted(values)
        assert low == pytest.approx(np.mean(ends[:5])) and high == pytest.approx(np.mean(ends[-5:]))


CASES: list[tuple[str, Any, dict[str, Any], list[str]]] = [
    ("target absent", rows(), {"target": "income"}, ["target column 'income'", "age, sex, paid"]),
    ("sensitive absent", rows(), {"sensitive": ["race"]}, ["sensitive column 'race'"]),
    ("domain absent", rows(), {"domain": "city"}, ["domain column 'city'"]),
    ("identifier absent", rows(), {"identifiers": ["id"]}, ["identifier column 'id'"]),
    ("kinds absent", rows(), {"kinds": {"x": "integer"}}, ["'x'"]),
    ("kind unknown", rows(), {"kinds": {"age": "number"}}, ["'number'", "continuous"]),
    ("field unknown", rows(), {"kinds": {"age": {"bins": 3}}}, ["'bins'", "edges"]),
    ("favorable absent", rows(), {"target": "paid", "favorable": "oui"}, ["'oui'", "'no', 'yes'"]),
    ("all favorable", rows(), {"target": "paid", "favorable": ["no", "yes"]}, ["every level", "'paid'"]),
    ("one group", rows(x=["a"] * N), {"sensitive": "x"}, ["'x'", "one group", "'a'"]),
    ("one group by edges", rows(), {"sensitive": {"age": [99]}}, ["'age'", "one group", "edges"]),
    ("one label", rows(x=["a"] * N), {"target": "x"}, ["'x'", "one value", "'a'"]),
    ("empty", rows().clear(), {}, ["no rows", "20"]),
    ("few", rows()[:19], {}, ["19 rows", "20"]),
    ("all missing", rows(x=[None] * N), {"target": "x"}, ["'x'", "no value", "another"]),
    ("all marked", rows(x=["?"] * N), {"missing": "?", "sensitive": "x"}, ["'x'", "no value"]),
    ("infinite", rows(x=[1.5] * 7 + [float("inf")] + [2.5] * 52), {}, ["'x'", "infinite", "row 7"]),
    ("minus infinite", rows(x=[float("-inf")] + [2.5] * 59), {}, ["'x'", "infinite", "row 0"]),
    ("infinite level", rows(x=[1.5, float("inf")] * 30), {"target": "x"}, ["'x'", "infinite", "row 1"]),
    (
        "identifier as target",
        rows(x=[f"n{i}" for i in range(N)]),
        {"target": "x"},
        ["target", "'x'", "identifier"],
    ),
    ("numbers as target", rows(x=range(N)), {"target": "x"}, ["target", "'x'", "identifier"]),
    (
        "identifier as sensitive",
        rows(x=[f"n{i}" for i in range(N)]),
        {"sensitive": "x"},
        ["sensitive", "'x'"],
    ),
    ("target said identifier", rows(), {"target": "paid", "identifiers": ["paid"]}, ["'paid'", "identifier"]),
    ("boolean identifier", rows(x=[True, False] * 30), {"identifiers": "x"}, ["'x'", "boolean", "drop"]),
    ("edges needed", rows(), {"sensitive": "age"}, ["'age'", "sensitive={'age': ["]),
    ("levels too few", rows(), {"kinds": {"sex": {"levels": ["F"]}}}, ["'sex'", "'M'", "row 1"]),
    ("no boolean", rows(), {"kinds": {"sex": "boolean"}}, ["'sex'", "boolean"]),
    ("no number", rows(), {"kinds": {"sex": "integer"}}, ["'sex'", "'F'", "row 0", "missing=['F']"]),
    ("text said numeric", rows(), {"kinds": {"sex": "numeric"}}, ["'sex'", "'F'", "row 0", "missing=['F']"]),
    ("kind no text", rows(), {"kinds": {"age": 5}}, ["kinds['age']=5", "continuous"]),
    ("edges no numbers", rows(), {"sensitive": {"age": ["x"]}}, ["'age'", "['x']", "numbers"]),
    ("edges no list", rows(), {"sensitive": {"age": 40}}, ["'age'", "40", "[30, 60]"]),
    ("sensitive no text", rows(), {"sensitive": 5}, ["sensitive column '5'", "age, sex, paid"]),
    ("no date", rows(), {"kinds": {"sex": "datetime"}}, ["'sex'", "ISO 8601", "'F'"]),
    ("numbers are no dates", rows(), {"kinds": {"age": "datetime"}}, ["'age'", "Int64"]),
]


@pytest.mark.parametrize(
    ("frame", "options", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_bad_input_is_named_with_a_remedy(frame: Any, options: dict[str, Any], words: list[str]) -> None:
    before = frame.clone()
    with pytest.raises((DataError, SchemaError)) as caught:
        Table(frame, **options)
    assert isinstance(caught.value, FairsynthError)
    for word in words:
        assert word in str(caught.value)
    assert frame.equals(before)


def test_a_schema_is_that_of_rows_with_labels() -> None:
    with pytest.raises(DataError, match=r"target 'x' is missing in 20 row.*the first is row 1"):
        infer_schema(from_native(rows(x=["a", None, "b"] * 20)), target="x")


def test_a_number_said_to_be_missing_is_missing() -> None:
    assert Table(rows(x=[-9, 1, 2] * 20), missing=-9).frame["x"].null_count() == 20


def test_sensitive_column_of_one_level_and_missing_makes_two_groups() -> None:
    table = Table(rows(x=["a", None] * 30), sensitive="x")
    assert table.groups().names == ("a", "(missing)")


def test_told_kinds_are_obeyed() -> None:
    frame = rows(a=[0, 1] * 30, b=[1.0, 2.0, 5.0] * 20, c=["0", "1"] * 30, d=["1", "2", "3"] * 20)
    told = {"a": "boolean", "b": "continuous", "d": "integer", "age": "categorical"}
    table = Table(frame, kinds=told)
    assert {name: table.schema[name].kind for name in told} == told
    assert table.frame["a"].dtype == pl.Boolean and table.frame["d"].dtype == pl.Int64
    assert table.native().equals(frame)


def test_truth_values_in_text_keep_their_spelling(tmp_path: Path) -> None:
    column = csv_schema(tmp_path, ["TRUE", "FALSE", ""], kinds={"x": "boolean"})
    assert column.kind == "boolean"
    table = Table(tmp_path / "t.csv", kinds={"x": "boolean"})
    assert table.native()["x"].to_list()[:3] == ["TRUE", "FALSE", None]


def test_real_census_table(shared_data: Path) -> None:
    table = Table(
        shared_data / "adult" / "train.csv.gz",
        target="income",
        favorable=">50K",
        sensitive="sex",
        missing="?",
    )
    kinds = {column.name: column.kind for column in table.schema}
    assert [name for name, kind in kinds.items() if kind == "integer"] == [
        "age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"]  # fmt: skip
    assert [column.name for column in table.schema if column.has_missing] == [
        "workclass", "occupation", "native-country"]  # fmt: skip
    assert table.schema["native-country"].missing_marker == "?"
    assert table.favorable().mean() == pytest.approx(0.2408, abs=1e-4)


@pytest.mark.parametrize("by", ["csv", "parquet", "pandas"])
def test_row_labels_that_pandas_writes_are_no_column_of_people(by: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"sex": ["F", "M"] * 40, "good": ["yes", "no", "no", "yes"] * 20}).sample(
        60, random_state=0
    )
    data: Any = tmp_path / f"people.{by}"
    if by == "parquet":
        frame.to_parquet(data)
    else:
        frame.to_csv(tmp_path / "people.csv")
    data = pd.read_csv(tmp_path / "people.csv") if by == "pandas" else data
    table = Table(data, target="good", favorable="yes", sensitive="sex")
    (name,) = table.schema.identifiers
    assert any(repr(name) in note and "row labels" in note for note in table.schema.notes)
    assert table.schema.features == ("sex",)


def test_a_column_called_like_row_labels_that_repeats_itself_is_learned() -> None:
    frame = pd.DataFrame(
        {"Unnamed: 0": [5, 6, 7, 8] * 20, "sex": ["F", "M"] * 40, "good": ["yes", "no", "no", "yes"] * 20}
    )
    assert not Table(frame, target="good", favorable="yes", sensitive="sex").schema.identifiers
    kept = Table(frame.assign(**{"Unnamed: 0": range(3, 163, 2)}), target="good", favorable="yes", sensitive="sex",
                 kinds={"Unnamed: 0": "integer"})  # fmt: skip
    assert kept.schema["Unnamed: 0"].kind == "integer"


@pytest.mark.parametrize(("edges", "said"), [([200], "values below 200"), ([5], "values from 5"),
                                             ([5, 90], "values from 5 and below 90")])  # fmt: skip
def test_edges_that_cut_nobody_off_are_said_as_they_are(edges: list[float], said: str) -> None:
    with pytest.raises(DataError, match=f"one group only, that of {said}:"):
        Table(rows(), target="paid", favorable="yes", sensitive={"age": edges})


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y %H:%M", "%Y/%m/%d", "%d-%m-%Y"])
def test_dates_as_people_write_them_are_read_and_written_back(form: str, tmp_path: Path) -> None:
    days = [dt.datetime(2024, 1, 1) + dt.timedelta(days=7 * i, hours=i % 24) for i in range(N)]
    texts = [day.strftime(form) for day in days]
    frame = rows(x=texts)
    frame.write_csv(tmp_path / "t.csv")
    for table in (Table(frame), Table(tmp_path / "t.csv")):
        assert (table.schema["x"].kind, table.schema["x"].format) == ("datetime", form)
        assert table.native()["x"].to_list() == texts
        assert table.frame["x"].is_sorted()


def test_a_date_that_may_be_in_one_month_or_another_stays_text() -> None:
    texts = [f"{1 + i % 12:02}/{1 + i % 6:02}/2024" for i in range(N)]
    assert schema_of(texts).kind == "categorical"


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([4.31e-05, 1.2e-04, 7e-06], 7),
        ([0.12345678, 0.5], 8),
        ([12345.12345678, 0.5], None),  # so far behind the first digit, what is there may be rounding
        (np.random.default_rng(0).random(N).tolist(), None),
        ((1e5 * np.random.default_rng(0).random(N)).tolist(), None),
    ],
)
def test_small_numbers_keep_their_decimals(values: list[float], decimals: int | None) -> None:
    assert schema_of([values[i % len(values)] for i in range(N)]).decimals == decimals


def test_numbers_of_people_of_whom_some_are_elsewhere_are_identifiers() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.permutation(np.arange(100_000, 108_000))[:5_000]
    frame = pl.DataFrame(
        {"number": numbers, "income": rng.integers(0, 10**9, 5_000), "x": rng.choice(["a", "b"], 5_000)}
    )
    schema = Table(frame).schema
    assert schema["number"].kind == "identifier"
    assert any("'number' is taken for an identifier" in note for note in schema.notes)
    assert schema["income"].kind == "integer"  # so far apart that few would meet by chance
    twice = frame.with_columns(number=pl.Series([*numbers[:-1], numbers[0]]))
    assert Table(twice).schema["number"].kind == "integer"


def test_integers_that_no_float_holds_are_levels_if_few_and_told_of_if_many() -> None:
    big = 2**60
    few = Table(rows(x=[big + i % 9 for i in range(N)])).schema["x"]
    assert (few.kind, few.levels[1]) == ("categorical", str(big + 1))
    many = Table(rows(x=[big + i % (N // 2) for i in range(N)])).schema
    assert many["x"].kind == "integer"
    assert any("beyond 2**53" in note for note in many.notes)


@pytest.mark.parametrize("clock", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M"])
def test_offsets_from_utc_are_moments(clock: str) -> None:
    berlin = pl.datetime_range(
        pl.datetime(2026, 1, 1, 8), pl.datetime(2026, 12, 1, 8), "5d", eager=True
    ).head(N)
    berlin = berlin.dt.replace_time_zone("Europe/Berlin")
    frame = rows(seen=berlin.dt.to_string(f"{clock}%:z").to_list())
    assert pl.Series(frame["seen"]).str.slice(-6).n_unique() == 2
    table = Table(frame)
    assert table.schema["seen"].kind == "datetime"
    assert table.frame["seen"].equals(
        berlin.dt.convert_time_zone("UTC").dt.replace_time_zone(None).alias("seen")
    )
    assert table.schema["seen"].tz == "Europe/Berlin"
    assert any("clocks of Europe/Berlin" in note for note in table.schema.notes)
    assert pl.Series(table.native()["seen"]).equals(pl.Series(frame["seen"]))
    assert Table(table.native(), schema=table.schema).frame["seen"].equals(table.frame["seen"])
    assert table.align(frame).frame["seen"].equals(table.frame["seen"])
