"""Files and queries are read, or refused by name; what is written is whole, or not there."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsynth.data import Table, TableWriter, arrow_schema, read_any, to_arrow
from fairsynth.errors import DataError, SettingsError

N = 40
ROWS = pl.DataFrame({
    "age": [20 + i % 31 for i in range(N)],
    "rate": [0.5 * (i % 7) + 0.25 for i in range(N)],
    "job": [["clerk", "nurse, night", 'the "boss"', None][i % 4] for i in range(N)],
    "paid": [i % 2 for i in range(N)],
})  # fmt: skip


def write(path: Path) -> Path:
    name = path.name
    if name.endswith(".parquet"):
        ROWS.write_parquet(path)
    elif name.endswith((".arrow", ".feather")):
        ROWS.write_ipc(path)
    else:
        text = ROWS.write_csv(separator="\t" if ".tsv" in name else ",")
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize(
    "name", ["t.csv", "t.CSV", "t.csv.gz", "t.tsv", "t.tsv.gz", "t.parquet", "t.arrow", "t.feather"]
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    for source in (path, str(path)):
        assert Table(source).native().equals(ROWS)


def test_arrow_streams_are_read_too(tmp_path: Path) -> None:
    ROWS.write_ipc_stream(tmp_path / "t.arrow")
    assert Table(tmp_path / "t.arrow").native().equals(ROWS)


def test_text_files_of_other_habits(tmp_path: Path) -> None:
    text = ROWS.write_csv(separator=";")
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert Table(path).native().equals(ROWS)
    path.write_text('a,"b\nb"\n' + '1.5,"x\ny"\n2.5,z\n' * N)
    assert Table(path).native()["b\nb"].to_list()[:2] == ["x\ny", "z"]


def test_text_files_are_written_as_they_were_read(tmp_path: Path) -> None:
    text = "zip,n,when,note\n" + '007,1.0,2020-01-31,"a,b"\n010,,2020-02-01,?\n099,3.0,2021-03-04,True\n' * N
    path = tmp_path / "in.csv"
    path.write_text(text)
    table = Table(path, missing="?")
    with TableWriter(tmp_path / "out.csv", table.schema) as writer:
        writer.write(to_arrow(table.frame, table.schema))
    assert (tmp_path / "out.csv").read_text() == text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"", ["empty"]),
        ("t.parquet", b"", ["empty"]),
        ("t.csv", b"a,b\n", ["no rows"]),
        ("t.csv", b"a,b\n1,2\n3\n4,5\n", ["t.csv", "Row #3", "Expected 2 columns, got 1"]),
        ("t.csv", b"a,b\n1,2\n3,4,5\n", ["t.csv", "Row #3", "got 3"]),
        ("t.csv", b"a,b,a\n1,2,3\n", ["t.csv", "'a'", "twice"]),
        ("t.csv", b"a,,c\n1,2,3\n", ["t.csv", "needs a name"]),
        ("t.csv", bytes(range(128, 256)), ["t.csv", "UTF-8"]),
        ("t.csv", b"a,b\n1,\xc3\x81\n2,\x81\n", ["t.csv", "UTF-8", "Windows-1252"]),
        ("t.csv.gz", b"a,b\n1,2\n", ["t.csv.gz"]),
        ("t.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 9999, mtime=0)[:-20], ["t.csv.gz"]),
        ("t.parquet", b"PAR1 and no more", ["t.parquet", "cannot be read"]),
        ("t.arrow", b"nothing of the kind", ["t.arrow", "cannot be read"]),
        ("t.pdf", b"%PDF", ["t.pdf", ".parquet", ".xlsx", "duckdb:///"]),
    ],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, name: str, content: bytes, words: list[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        Table(tmp_path / name)
    for word in words:
        assert word in str(caught.value)


def test_absent_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*t\.csv"):
        read_any(tmp_path / "t.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(DataError, match="folder"):
        read_any(tmp_path / "d.csv")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "people of 1990.db"
    with duckdb.connect(str(path)) as connection:
        connection.register("held", ROWS.to_arrow())
        connection.execute("CREATE TABLE people AS SELECT * FROM held")
    return path


def test_query(database: Path) -> None:
    query = "SELECT age, rate, job, paid FROM people WHERE paid + 1 >= 1 AND (job IS NULL OR job LIKE '%e%')"
    for address in (f"duckdb:///{database}?query={query.replace('%', '%25')}",
                    f"duckdb:///{quote(str(database))}?query={quote(query)}"):  # fmt: skip
        table = Table(address)
        expected = ROWS.filter(pl.col("job").is_null() | pl.col("job").str.contains("e"))
        assert table.native().sort("age", "rate").equals(expected.sort("age", "rate"))


def test_query_types(database: Path) -> None:
    query = "SELECT sum(age) OVER (PARTITION BY job, age) AS total, count(*) OVER (PARTITION BY job) AS n, "
    query += "age / 10 AS tens, "
    query += (
        "DATE '2020-01-01' + CAST(age AS INTEGER) AS day, CAST(rate AS DECIMAL(6, 2)) AS rate FROM people"
    )
    kinds = {column.name: column.kind for column in Table(f"duckdb:///{database}?query={query}").schema}
    assert kinds == {
        "total": "integer",
        "n": "integer",
        "tens": "continuous",
        "day": "datetime",
        "rate": "continuous",
    }


def test_query_without_a_file(tmp_path: Path) -> None:
    ROWS.write_parquet(tmp_path / "t.parquet")
    table = Table(f"duckdb:///:memory:?query=SELECT * FROM '{tmp_path / 't.parquet'}'")
    assert table.native().equals(ROWS)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("duckdb:///{db}?query=SELECT nothing FROM people", ["nothing", "query failed"]),
        ("duckdb:///{db}?query=SELEKT 1", ["syntax error"]),
        ("duckdb:///{db}?query=DROP TABLE people", ["read-only"]),
        ("duckdb:///{db}?query=", ["address of a query"]),
        ("duckdb:///{db}", ["address of a query"]),
        ("duckdb:///none.db?query=SELECT 1", ["no database file none.db"]),
        ("duckdb:///{db}?query=SELECT 1 AS a, 2 AS a FROM people", ["'a'", "twice"]),
        ("duckdb:///{db}?query=SELECT * FROM people WHERE age < 0", ["no rows"]),
    ],
)
def test_queries_that_fail_say_why(database: Path, address: str, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        Table(address.format(db=database))
    for word in words:
        assert word in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database at all" * 500)
    with pytest.raises(DataError, match="query failed"):
        Table(f"duckdb:///{tmp_path / 'x.db'}?query=SELECT 1")


# Writing


def batches(table: Table, size: int = 7) -> list[pa.RecordBatch]:
    return [to_arrow(table.frame[i : i + size], table.schema) for i in range(0, len(table), size)]


@pytest.mark.parametrize("name", ["o.parquet", "o.csv", "o.csv.gz", "o.xlsx"])
def test_batches_add_up_to_the_table(tmp_path: Path, name: str) -> None:
    table = Table(ROWS)
    with TableWriter(tmp_path / name, table.schema) as writer:
        for batch in batches(table):
            writer.write(batch)
    assert writer.rows == N
    assert Table(tmp_path / name).native().equals(ROWS)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["o.parquet", "o.csv", "o.csv.gz", "o.xlsx"])
def test_equal_rows_make_equal_files(tmp_path: Path, name: str) -> None:
    contents = []
    for _ in range(2):
        table = Table(ROWS)
        with TableWriter(tmp_path / name, table.schema) as writer:
            for batch in batches(table):
                writer.write(batch)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    if name.endswith(".gz"):
        # Four bytes of the header are the time of writing.
        assert contents[0][4:8] == bytes(4)


@pytest.mark.parametrize("name", ["o.parquet", "o.csv"])
def test_no_rows_make_a_table_without_rows(tmp_path: Path, name: str) -> None:
    table = Table(ROWS)
    with TableWriter(tmp_path / name, table.schema):
        pass
    assert read_any(tmp_path / name).frame.columns == ROWS.columns
    assert len(read_any(tmp_path / name).frame) == 0


def test_parquet_text_is_text_for_every_reader(tmp_path: Path) -> None:
    frame = ROWS.with_columns(kind=pl.Series(["b", "a"] * (N // 2), dtype=pl.Enum(["b", "a"])))
    table = Table(frame)
    assert pa.types.is_dictionary(arrow_schema(table.schema).field("job").type)
    with TableWriter(tmp_path / "o.parquet", table.schema) as writer:
        writer.write(to_arrow(table.frame, table.schema))
    read = pq.read_table(tmp_path / "o.parquet")
    assert read.schema.field("job").type == pa.string()
    assert read.schema.field("paid").type == pa.int64()
    assert pa.types.is_dictionary(read.schema.field("kind").type)
    assert read.to_pandas()["job"].dtype != "category"
    assert read["job"].to_pylist() == frame["job"].to_list()


@pytest.mark.parametrize("fault", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("name", ["o.parquet", "o.csv", "o.csv.gz", "o.xlsx"])
@pytest.mark.parametrize("old", [None, b"what was there before"])
def test_nothing_is_left_behind(tmp_path: Path, name: str, fault: BaseException, old: bytes | None) -> None:
    path = tmp_path / name
    if old is not None:
        path.write_bytes(old)
    table = Table(ROWS)
    with pytest.raises(type(fault)), TableWriter(path, table.schema) as writer:
        writer.write(batches(table)[0])
        assert path.exists() == (old is not None)
        hidden = [other for other in tmp_path.iterdir() if other != path]
        assert len(hidden) == 1 and hidden[0].name.startswith(".")
        raise fault
    assert list(tmp_path.iterdir()) == ([path] if old is not None else [])
    if old is not None:
        assert path.read_bytes() == old


def test_nothing_is_left_behind_when_the_end_fails(tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    table = Table(ROWS)
    with (
        pytest.raises(OSError, match="No space"),
        TableWriter(tmp_path / "o.parquet", table.schema) as writer,
    ):
        writer.write(batches(table)[0])
        monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    schema = Table(ROWS).schema
    with pytest.raises(SettingsError, match=r"o\.pdf.*\.parquet"):
        TableWriter(tmp_path / "o.pdf", schema)
    with pytest.raises(DataError, match="none does not exist"):
        TableWriter(tmp_path / "none" / "o.csv", schema)
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(DataError, match="folder"):
        TableWriter(tmp_path / "d.csv", schema)
    with pytest.raises(SettingsError, match="with"):
        TableWriter(tmp_path / "o.csv", schema).write(batches(Table(ROWS))[0])
