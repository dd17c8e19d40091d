"""Parquet larger than memory: its schema is that of all rows, and its batches are the rows that lie in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from toys import mixed_frame

from fairsynth.data import streams
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.streams import StreamedTable
from fairsynth.data.table import Table
from fairsynth.errors import DataError, SchemaError, SettingsError

ROLES: dict[str, Any] = {"target": "paid", "favorable": "yes", "sensitive": ["sex"]}


def parts(folder: Path, frame: pl.DataFrame, cuts: tuple[int, ...] = (), row_group: int = 700) -> Path:
    """Write a frame as parts of a folder, in row groups of odd sizes."""
    folder.mkdir()
    for at, (start, stop) in enumerate(zip((0, *cuts), (*cuts, len(frame)), strict=True)):
        frame[start:stop].write_parquet(folder / f"part-{at}.parquet", row_group_size=row_group)
    (folder / "_SUCCESS").touch()
    return folder


def rare_frame(n: int = 4000) -> pl.DataFrame:
    """Return people of whom one has a level, one a missing value and one an age that a sample can hardly hold."""
    frame = mixed_frame(n).with_columns(pl.col("age").cast(pl.Int16))
    row = pl.int_range(pl.len())
    return frame.with_columns(
        pl.when(row == 3777).then(pl.lit("rare")).otherwise(pl.col("job")).alias("job"),
        pl.when(row == 2111).then(None).otherwise(pl.col("member")).alias("member"),
        pl.when(row == 1999).then(float("nan")).otherwise(pl.col("skill")).alias("skill"),
        pl.when(row.is_between(3100, 3104)).then(117).otherwise(pl.col("age")).alias("age"),
        number=row + 10,
        few=pl.when(row == 2222).then(2).otherwise(row % 2),
        grade=pl.when(row == 2345).then(2).otherwise(1 + 2 * (row % 2)),  # neither the lowest nor the highest
    )


@pytest.mark.parametrize("cuts", [(), (1000, 1001, 3900)])
def test_the_schema_is_that_of_all_rows(
    tmp_path: Path, cuts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_LEVELS", 100)  # else each person's name makes a witness of its row
    frame = rare_frame()
    given = {**ROLES, "kinds": {"grade": "categorical"}}
    stream = StreamedTable(parts(tmp_path / "rows", frame, cuts), **given, sample_rows=1000)
    whole = Table(frame, **given).schema
    assert len(stream) == 4000 and len(stream.sample) == 1000
    for got, wanted in zip(stream.schema, whole, strict=True):
        assert got == wanted
    assert stream.schema.identifiers == whole.identifiers == ("person", "number")
    assert stream.schema["few"].kind == "integer"  # by one row in 4,000
    assert stream.schema["grade"].levels == ("1", "2", "3")
    assert stream.sample.schema == stream.schema and not stream.repairs
    np.testing.assert_array_equal(
        stream.level_counts["job"], [int((frame["job"] == level).sum()) for level in whole["job"].levels]
    )


def test_markers_of_missing_are_met_wherever_they_are(tmp_path: Path) -> None:
    frame = mixed_frame(3000).with_columns(
        pl.when(pl.int_range(pl.len()) == 2500).then(-1).otherwise(pl.col("age")).alias("age"),
        pl.when(pl.int_range(pl.len()) == 2600).then(pl.lit("?")).otherwise(pl.col("club")).alias("club"),
    )
    given = {**ROLES, "missing": ["-1", "?"]}
    stream = StreamedTable(parts(tmp_path / "rows", frame), **given, sample_rows=1000)
    assert stream.schema.columns == Table(frame, **given).schema.columns
    assert stream.schema["age"].has_missing and stream.schema["club"].has_missing


def test_the_sample_is_even_over_the_file_and_decided_by_the_seed(tmp_path: Path) -> None:
    frame = mixed_frame(6000).with_columns(number=pl.int_range(pl.len()) * 2)
    folder = parts(tmp_path / "rows", frame, (100, 4000))
    drawn = [
        StreamedTable(folder, **ROLES, sample_rows=1200, seed=seed).sample.frame["number"].to_numpy()
        for seed in (0, 0, 1)
    ]
    assert len(np.unique(drawn[0])) == 1200
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    assert np.bincount(drawn[0] // 2 // 600, minlength=10) == pytest.approx(120, abs=45)
    assert abs(np.corrcoef(drawn[0], np.arange(1200))[0, 1]) < 0.15, "what is taken first is any of them"


@pytest.mark.parametrize("batch", [64, 65_536])
def test_batches_hold_the_states_of_the_rows_in_their_order(
    tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BATCH_ROWS", batch)
    frame = rare_frame().with_columns(pl.col("club").cast(pl.Categorical))
    stream = StreamedTable(parts(tmp_path / "rows", frame, (1500,)), **ROLES, sample_rows=1000)
    encoder = TableEncoder.learn(stream.sample)
    got = np.concatenate(list(stream.states(encoder)), axis=1)
    np.testing.assert_array_equal(got, encoder.encode(stream.sample.align(frame)).T)


def test_states_of_whole_numbers_are_looked_up_as_they_are_searched() -> None:
    values = np.concatenate([np.arange(-40, 400), np.zeros(900), np.repeat(17, 500)])
    frame = pl.DataFrame({"x": values.astype(int), "sex": ["f", "m"] * (len(values) // 2)})
    part = TableEncoder.learn(Table(frame, sensitive="sex")).states[0]
    asked = np.concatenate([np.arange(-60.0, 450.0), [-1e12, 1e12]])
    many = np.tile(asked, 60)  # only many are looked up
    assert len(many) > len(part._of_grid[1]) > 0  # type: ignore[union-attr]
    np.testing.assert_array_equal(part.states_of(many), np.tile(part._states_of_grid(asked), 60))  # type: ignore[union-attr]


def test_what_cannot_be_streamed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = mixed_frame(2000)
    folder = parts(tmp_path / "rows", frame, (900,))
    with pytest.raises(SettingsError, match="sample_rows"):
        StreamedTable(folder, sample_rows=10)
    with pytest.raises(DataError, match=r"neither a \.parquet file nor a folder"):
        StreamedTable(tmp_path / "none.csv", **ROLES)
    with pytest.raises(SchemaError, match="'wage' is not in the table"):
        StreamedTable(folder, **{**ROLES, "target": "wage"})
    gone = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 1234).then(None).otherwise("paid").alias("paid")
    )
    with pytest.raises(
        DataError, match=r"'paid' is missing in rows of .*part-1.parquet, the first is row 334"
    ):
        StreamedTable(parts(tmp_path / "gone", gone, (900,)), **ROLES, sample_rows=1000)
    frame.drop("job").write_parquet(folder / "part-2.parquet")
    with pytest.raises(DataError, match=r"part-2.parquet has the columns"):
        StreamedTable(folder, **ROLES, sample_rows=1000)
    (folder / "part-2.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        StreamedTable(folder, **ROLES)
    monkeypatch.setattr(streams, "MOST_LEVELS", 50)
    names = frame.with_columns(job=pl.format("job {}", pl.int_range(pl.len()) % 1500)).drop("person")
    with pytest.raises(DataError, match="column 'job' holds more than 50 different values"):
        StreamedTable(parts(tmp_path / "names", names), **ROLES, sample_rows=1000)


def test_a_value_that_cannot_be_read_is_named_with_its_rows(tmp_path: Path) -> None:
    frame = mixed_frame(2000).with_columns(start=pl.col("since").dt.to_string("%Y-%m-%d"))
    bad = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 1700).then(pl.lit("soon")).otherwise("start").alias("start")
    )
    folder = parts(tmp_path / "rows", frame)
    stream = StreamedTable(folder, **ROLES, sample_rows=1000)
    assert stream.schema["start"].kind == "datetime"
    bad.write_parquet(folder / "part-0.parquet")
    with pytest.raises(DataError, match=r"part-0.parquet, rows 0 to 1,999 .*should be datetime"):
        list(stream.states(TableEncoder.learn(stream.sample)))
