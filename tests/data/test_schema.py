"""A schema refuses what contradicts itself, survives JSON and an editor, and reads SDV metadata."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import polars as pl
import pytest

from fairsynth.data import Column, Schema, Table
from fairsynth.data.schema import build_schema
from fairsynth.errors import SchemaError

N = 40
ROWS = pl.DataFrame({
    "age": [20 + i % 31 for i in range(N)],
    "sex": ["F", "M"] * (N // 2),
    "income": [1000.25 + 7.5 * (i % 17) for i in range(N)],
    "since": [dt.date(2020, 1, 1) + dt.timedelta(days=11 * (i % 19)) for i in range(N)],
    "member": [i % 3 == 0 for i in range(N)],
    "zip": [f"0{i % 7}100" for i in range(N)],
    "person": [f"p-{i}" for i in range(N)],
    "paid": ["no", "yes", "yes", "no", "no"] * (N // 5),
})  # fmt: skip


def table(**options: Any) -> Table:
    return Table(
        ROWS,
        **{"target": "paid", "favorable": "yes", "sensitive": "sex", "identifiers": ["person"], **options},
    )


def test_json_keeps_everything() -> None:
    schema = table(sensitive={"sex": None, "age": [30, 40]}).schema
    text = schema.to_json()
    assert Schema.from_json(text) == schema
    body = json.loads(text)
    assert body["target"] == "paid" and body["sensitive"] == ["sex", "age"]
    assert [column["name"] for column in body["columns"]] == ROWS.columns
    assert body["columns"][3]["minimum"].startswith("2020-01-")


def test_json_is_short_enough_to_edit() -> None:
    columns = json.loads(table().schema.to_json())["columns"]
    assert columns[4] == {"name": "member", "kind": "boolean", "dtype": "Boolean"}
    assert columns[6] == {"name": "person", "kind": "identifier", "dtype": "String"}


def test_edited_json_is_obeyed() -> None:
    body = json.loads(table().schema.to_json())
    by_name = {column["name"]: column for column in body["columns"]}
    by_name["age"] |= {"minimum": 18, "maximum": 99, "edges": [30]}
    by_name["zip"] |= {"ordered": True, "levels": [*reversed(by_name["zip"]["levels"]), "99999"]}
    body["sensitive"] = ["sex", "age"]
    edited = Table(ROWS, schema=Schema.from_json(json.dumps(body)))
    assert edited.schema["age"].bounds == (18, 99)
    assert edited.schema["zip"].levels[0] == "06100" and edited.schema["zip"].levels[-1] == "99999"
    assert edited.groups().names == ("F × < 30", "F × ≥ 30", "M × < 30", "M × ≥ 30")
    assert edited.native().equals(ROWS)


def test_kind_edited_to_categorical_gets_its_levels_from_the_rows() -> None:
    body = json.loads(table().schema.to_json())
    body["columns"][0] = {"name": "age", "kind": "categorical"}
    edited = Table(ROWS, schema=Schema.from_json(json.dumps(body)))
    assert edited.schema["age"].levels[:2] == ("20", "21")
    assert edited.native().equals(ROWS)


def test_arguments_win_over_the_schema() -> None:
    again = Table(ROWS, schema=table().schema, target="member", favorable=True, sensitive=["sex"])
    assert again.schema.target == "member" and again.schema.favorable == ("True",)
    assert again.schema["paid"].kind == "categorical"


def test_schema_of_other_columns_names_them() -> None:
    with pytest.raises(SchemaError, match=r"names 'zip', not in the table and does not name 'zap'"):
        Table(ROWS.rename({"zip": "zap"}), schema=table().schema)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": "x"}, ["target column 'x'", "'sex'"]),
        ({"sensitive": ["x"]}, ["sensitive column 'x'"]),
        ({"domain": "x"}, ["domain column 'x'"]),
        ({"identifiers": ["x"]}, ["identifier column 'x'"]),
        ({"favorable": ["maybe"]}, ["'maybe'", "'paid'", "'no', 'yes'"]),
        ({"target": ""}, ["no target"]),
        ({"target": "sex"}, ["'sex'", "target and sensitive"]),
        ({"sensitive": ["sex", "sex"]}, ["'sex'", "twice"]),
        ({"sensitive": ["age"]}, ["'age'", "edges"]),
        ({"identifiers": ["sex"]}, ["'sex'", "identifier"]),
        ({"identifiers": []}, ["'person'", "identifiers"]),
        ({"domain": "paid"}, ["'paid'", "domain"]),
        ({"frame": "spark"}, ["'frame'", "pandas"]),
        ({"colums": []}, ["'colums'", "no such field"]),
        ({"fairsynth_schema": 9}, ["version 9"]),
    ],
)
def test_contradictions_are_named(change: dict[str, Any], words: list[str]) -> None:
    body = {**json.loads(table().schema.to_json()), **change}
    with pytest.raises(SchemaError) as caught:
        Schema.from_json(json.dumps(body))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "number"}, ["'age'", "'kind'", "continuous"]),
        ({"kind": "categorical", "levels": ["a", "a"]}, ["'age'", "twice"]),
        ({"levels": ["1", "2"]}, ["'age'", "categorical"]),
        ({"minimum": 90}, ["'age'", "above maximum"]),
        ({"minimum": "2020-01-01"}, ["'age'", "integer"]),
        ({"edges": [40, 30]}, ["'age'", "ascend"]),
        ({"edges": []}, ["'age'", "edges"]),
        ({"decimals": 13}, ["'age'", "'decimals'"]),
        ({"lowest": 1}, ["'age'", "'lowest'", "no such field"]),
    ],
)
def test_errors_in_a_column_name_it(change: dict[str, Any], words: list[str]) -> None:
    body = json.loads(table().schema.to_json())
    body["columns"][0] |= change
    with pytest.raises(SchemaError) as caught:
        Schema.from_json(json.dumps(body))
    for word in words:
        assert word in str(caught.value)


def test_text_that_is_no_json_says_where() -> None:
    with pytest.raises(SchemaError, match="line 2, column 1"):
        Schema.from_json('{"target": "a",\n}')
    with pytest.raises(SchemaError, match="object"):
        Schema.from_json("[1]")


def test_roles_features_and_lookup() -> None:
    schema = table(domain="zip").schema
    roles = {name: schema.role(name) for name in schema.names}
    assert roles == {"age": "feature", "sex": "sensitive", "income": "feature", "since": "feature", "zip":
    "domain",
                     "member": "feature", "person": "identifier", "paid": "target"}  # fmt: skip
    assert schema.features == ("age", "sex", "income", "since", "member", "zip")
    assert "sex" in schema and "x" not in schema and len(schema) == 8
    with pytest.raises(SchemaError, match="'x'.*'age'"):
        schema["x"]


def test_text_table_names_every_column_and_its_role() -> None:
    lines = str(table().schema).splitlines()
    assert lines[0].split() == ["column", "kind", "role", "dtype", "missing", "values"]
    assert [line.split()[0] for line in lines[2:10]] == ROWS.columns
    assert "favorable: paid = yes" in lines


def test_bounds_of_datetimes_are_microseconds() -> None:
    moment = dt.datetime(2020, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    column = Column(name="t", kind="datetime", minimum=moment, maximum=dt.datetime(2020, 1, 2))
    assert column.minimum == dt.datetime(2020, 1, 1, 10)
    assert column.bounds == (1577872800e6, 1577923200e6)


SDV_COLUMNS = {
    "age": {"sdtype": "numerical"},
    "sex": {"sdtype": "categorical"},
    "income": {"sdtype": "numerical", "computer_representation": "Float"},
    "since": {"sdtype": "datetime", "datetime_format": "%Y-%m-%d"},
    "member": {"sdtype": "boolean"},
    "zip": {"sdtype": "postcode", "pii": True},
    "person": {"sdtype": "id", "regex_format": "p-[0-9]+"},
    "paid": {"sdtype": "categorical"},
}
SINGLE = {"METADATA_SPEC_VERSION": "SINGLE_TABLE_V1", "primary_key": "person", "columns": SDV_COLUMNS}
MULTI = {"METADATA_SPEC_VERSION": "V1", "tables": {"people": {"columns": SDV_COLUMNS}}, "relationships": []}


@pytest.mark.parametrize("metadata", [SINGLE, MULTI, {"columns": SDV_COLUMNS}])
def test_sdv_metadata_is_merged_with_the_rows(metadata: dict[str, Any]) -> None:
    hints = Schema.from_json(json.dumps(metadata))
    assert hints.frame == ""
    schema = Table(ROWS, schema=hints, target="paid", favorable="yes", sensitive="sex").schema
    kinds = {column.name: column.kind for column in schema}
    assert kinds == {"age": "integer", "sex": "categorical", "income": "continuous", "since": "datetime",
                     "member": "boolean", "zip": "identifier", "person": "identifier",
                     "paid": "categorical"}  # fmt: skip
    assert schema.identifiers == ("zip", "person")
    assert schema["sex"].levels == ("F", "M")
    assert any("SDV" in note for note in schema.notes)


def test_sdv_numerical_keeps_two_numbers_numeric_and_pii_false_is_learned() -> None:
    columns = {"n": {"sdtype": "numerical"}, "c": {"sdtype": "city", "pii": False}}
    keyed = {"columns": {**columns, "k": {"sdtype": "numerical"}}, "primary_key": "k"}
    assert Schema.from_json(json.dumps(keyed)).identifiers == ("k",)
    hints = Schema.from_json(json.dumps({"columns": columns}))
    schema = Table(
        pl.DataFrame({"n": [1, 2] * 20, "c": ["a", "b"] * 20, "other": [3, 4] * 20}), schema=hints
    ).schema
    assert [column.kind for column in schema] == ["integer", "categorical", "categorical"]


@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        ({"METADATA_SPEC_VERSION": "SINGLE_TABLE_V9", "columns": SDV_COLUMNS}, "SINGLE_TABLE_V9"),
        ({"METADATA_SPEC_VERSION": "V1", "tables": {"a": {}, "b": {}}}, "a, b"),
        ({"METADATA_SPEC_VERSION": "SINGLE_TABLE_V1", "columns": {}}, "without columns"),
        ({"METADATA_SPEC_VERSION": "SINGLE_TABLE_V1", "columns": {"x": {}}}, "'x' has no sdtype"),
    ],
)
def test_sdv_metadata_that_cannot_be_used_says_why(metadata: dict[str, Any], word: str) -> None:
    with pytest.raises(SchemaError, match=word):
        Schema.from_json(json.dumps(metadata))


def test_sdv_metadata_of_other_columns_is_refused() -> None:
    hints = Schema.from_json(json.dumps({"columns": {"height": {"sdtype": "numerical"}}}))
    with pytest.raises(SchemaError, match="'height', not in the table"):
        Table(ROWS, schema=hints)


def test_frozen() -> None:
    schema = build_schema(columns=({"name": "a", "kind": "integer"},))
    with pytest.raises(ValueError, match="frozen"):
        schema.target = "a"  # type: ignore[misc]
