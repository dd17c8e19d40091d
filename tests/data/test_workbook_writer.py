"""Workbooks hold what CSV holds, as Excel knows it, and nothing that runs."""

from __future__ import annotations

import datetime as dt
import zipfile
from pathlib import Path
from typing import Any

import fastexcel
import polars as pl
import pytest

import fairsynth as fs
from fairsynth.data import Table, TableWriter, read_any, to_arrow
from fairsynth.data import workbook_writer as module
from fairsynth.errors import MissingDependencyError, SettingsError

N = 60
DAY = dt.datetime(2024, 2, 28)
ROWS = pl.DataFrame({
    "age": [20 + i % 31 for i in range(N)],
    "rate": [round(i / 7, 6) if i % 9 else None for i in range(N)],
    "job": [["clerk", "=1+1", "http://x.org", None][i % 4] for i in range(N)],
    "zip": [f"{i:05d}" for i in range(N)],
    "old": [dt.date(1880, 1, 1) + dt.timedelta(days=400 * i) for i in range(N)],
    "day": [DAY.date() + dt.timedelta(days=i) for i in range(N)],
    "came": [DAY + dt.timedelta(seconds=10_007 * i) for i in range(N)],
    "there": pl.Series([DAY + dt.timedelta(hours=3 * i) for i in range(N)]).dt.replace_time_zone("Europe/Berlin"),
    "opens": [dt.time(i % 24, i) for i in range(N)],
    "stay": [dt.timedelta(hours=i, minutes=7) for i in range(N)],
    "far": [2**60 + i for i in range(N)],
    "new": [i % 2 == 0 for i in range(N)],
    "kind": pl.Series(["b", "a"] * (N // 2), dtype=pl.Enum(["b", "a"])),
})  # fmt: skip


def write(path: Path, frame: pl.DataFrame, size: int = 7, **options: Any) -> Path:
    table = Table(frame, **options)
    with TableWriter(path, table.schema) as writer:
        for start in range(0, len(table), size):
            writer.write(to_arrow(table.frame[start : start + size], table.schema))
    return path


def test_a_workbook_is_read_as_the_same_rows_in_csv_are(tmp_path: Path) -> None:
    kinds = {"zip": "categorical", "far": "categorical"}
    ours, theirs = (read_any(write(tmp_path / name, ROWS, kinds=kinds)).frame for name in ("t.xlsx", "t.csv"))
    assert ours.columns == theirs.columns
    for name in ours.columns:
        if name in ("came", "there"):  # written in other words
            continue
        one, other = (frame[name] if name != "rate" else frame[name].cast(float) for frame in (ours, theirs))
        assert one.to_list() == other.to_list(), name  # 1.0 is 1 in Excel
    both = [Table(tmp_path / name, kinds=kinds) for name in ("t.xlsx", "t.csv")]
    for name in ("came", "there"):
        assert both[0].frame[name].to_list() == both[1].frame[name].to_list()
        assert both[0].schema[name].zone == both[1].schema[name].zone


def test_cells_are_what_excel_knows(tmp_path: Path) -> None:
    sheet = fastexcel.read_excel(
        str(write(tmp_path / "t.xlsx", ROWS, kinds={"far": "categorical"}))
    ).load_sheet(0)
    kinds = {column.name: column.dtype for column in sheet.selected_columns}
    assert kinds == {
        "age": "float", "rate": "float", "job": "string", "zip": "string", "old": "string", "day": "datetime",
        "came": "datetime", "there": "string", "opens": "string", "stay": "string", "far": "string", "new": "boolean",
        "kind": "string",
    }  # fmt: skip
    frame = sheet.to_polars()
    assert frame["came"].to_list() == ROWS["came"].to_list()
    assert frame["day"].dt.date().to_list() == ROWS["day"].to_list()


def test_no_text_runs(tmp_path: Path) -> None:
    with zipfile.ZipFile(write(tmp_path / "t.xlsx", ROWS)) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()
        assert "<f>" not in sheet and "hyperlink" not in sheet
        assert "=1+1" in sheet


@pytest.mark.parametrize("marker", ["?", "NaN"])
def test_what_stands_for_missing_is_written_or_left_out(tmp_path: Path, marker: str) -> None:
    if marker == "?":
        frame = pl.DataFrame({"a": ["1", "?", "3"] * 20, "b": range(60)})
        expected = ["1", "?", "3"]
    else:
        frame = pl.DataFrame({"a": [1.0, float("nan"), 3.0] * 20, "b": range(60)})
        expected = ["1", None, "3"]
    assert read_any(write(tmp_path / "t.xlsx", frame, missing=marker)).frame["a"].to_list()[:3] == expected


def test_more_rows_than_a_sheet_has_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fs.FairTrees(fairness=fs.Fairness(strength=0.0), seed=0)
    table = Table(ROWS.select("age", "kind", "new"), target="new", favorable="true", sensitive="kind")
    model.fit(table)
    told: list[Any] = []
    with pytest.raises(SettingsError, match=r"1,048,575 rows at most, and 1,048,576 are asked for.*Parquet"):
        model.sample_to(tmp_path / "s.xlsx", module.MOST_ROWS + 1, progress=told.append)
    assert not told and not list(tmp_path.iterdir())
    monkeypatch.setattr(module, "MOST_ROWS", 10)
    with pytest.raises(SettingsError, match="10 rows at most"):
        write(tmp_path / "t.xlsx", ROWS)
    assert not list(tmp_path.iterdir())
    model.sample_to(tmp_path / "s.xlsx", 10)
    assert len(read_any(tmp_path / "s.xlsx").frame) == 10
    monkeypatch.setattr(module, "MOST_COLUMNS", 2)
    with pytest.raises(SettingsError, match="2 columns at most, and there are 13"):
        write(tmp_path / "t.xlsx", ROWS)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "xlsxwriter", None)
    with pytest.raises(MissingDependencyError, match=r"fairsynth\[files\]"):
        write(tmp_path / "t.xlsx", ROWS)
    assert not list(tmp_path.iterdir())
