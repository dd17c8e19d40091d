from __future__ import annotations

import hashlib
import json

import pytest

from fairsynth.errors import SettingsError
from fairsynth.report.croissant import CONFORMS, CONTEXT, croissant, write_croissant

SAID = {
    "name": "fair-loans",
    "description": "Synthetic loans.",
    "license": "CC-BY-4.0",
    "creator": "A bank",
    "url": "https://example.org/fair-loans",
    "published": "2026-01-31",
}


@pytest.fixture
def released(real, tmp_path):
    path = tmp_path / "fair.parquet"
    real[0].frame.write_parquet(path)
    return path


def test_what_the_format_requires_is_there(real, released, single):
    document = croissant(real[0].schema, released, evaluation=single, **SAID)
    assert document["@context"] == CONTEXT and document["@type"] == "sc:Dataset"
    assert CONFORMS in document["conformsTo"]
    for key in ("name", "description", "license", "url", "creator", "datePublished"):
        assert document[key]
    file = document["distribution"][0]
    assert file["sha256"] == hashlib.sha256(released.read_bytes()).hexdigest()
    assert file["contentSize"] == f"{released.stat().st_size} B"
    fields = document["recordSet"][0]["field"]
    assert [f["source"]["extract"]["column"] for f in fields] == real[0].frame.columns
    kinds = {f["name"]: f["dataType"] for f in fields}
    assert kinds == {
        "age": "sc:Integer",
        "income": "sc:Float",
        "job": "sc:Text",
        "hobby": "sc:Text",
        "sex": "sc:Text",
        "approve": "sc:Text",
    }
    assert "sensitive attribute" in next(f for f in fields if f["name"] == "sex")["description"]
    assert "favorable: yes" in next(f for f in fields if f["name"] == "approve")["description"]
    assert "Demographic parity ratio" in document["rai:dataBiases"][0]


def test_mlcroissant_reads_the_rows(real, released, tmp_path):
    mlc = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    path = write_croissant(real[0].schema, released, tmp_path / "croissant.json", **SAID)
    dataset = mlc.Dataset(str(path))
    assert not dataset.metadata.ctx.issues.errors
    first = next(iter(dataset.records("rows")))
    assert first["rows/age"] == real[0].frame["age"][0]


def test_names_become_identifiers_that_differ(real, released):
    schema = real[0].schema
    columns = tuple(
        c.model_copy(update={"name": n}) for c, n in zip(schema.columns[:2], ["a b/c", "a_b_c"], strict=True)
    )
    other = schema.model_copy(
        update={"columns": columns, "target": "", "favorable": (), "sensitive": ()},
    )
    ids = [f["@id"] for f in croissant(other, released, **SAID)["recordSet"][0]["field"]]
    assert ids[1] == "rows/a_b_c"
    assert ids[0] != ids[1] and " " not in ids[0] and ids[0].count("/") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"license": " "}, "license is empty"),
        ({"published": "31.1.2026"}, "YYYY-MM-DD"),
    ],
)
def test_what_is_missing_is_named(real, released, change, words):
    with pytest.raises(SettingsError, match=words):
        croissant(real[0].schema, released, **{**SAID, **change})


def test_unknown_kind_of_file_is_an_error(real, tmp_path):
    with pytest.raises(SettingsError, match=r"release a \.parquet"):
        croissant(real[0].schema, tmp_path / "table.xlsx", **SAID)


def test_file_is_json(real, released, tmp_path):
    path = write_croissant(real[0].schema, released, tmp_path / "croissant.json", **SAID)
    assert json.loads(path.read_text())["name"] == "fair-loans"
