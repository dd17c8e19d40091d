"""Workbooks, files of statistics programs and JSON are read as the same table is from CSV."""

from __future__ import annotations

import datetime as dt
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyreadstat
import pytest
import xlsxwriter

from fairsynth.data import Table, read_any
from fairsynth.errors import DataError, FairsynthWarning, MissingDependencyError

N = 60
DAY = dt.date(2020, 2, 28)
ROWS = pl.DataFrame({
    "age": [20 + i % 31 for i in range(N)],
    "rate": [round(0.1 * (i % 7) + 1 / 3, 9) for i in range(N)],
    "job": [["clerk", "nurse, night", 'the "boss"', None][i % 4] for i in range(N)],
    "born": [DAY - dt.timedelta(days=37 * i) for i in range(N)],
    "came": [dt.datetime(2024, 1, 1, 8, 30) + dt.timedelta(seconds=10_007 * i) for i in range(N)],
    "paid": [i % 2 for i in range(N)],
})  # fmt: skip


def book(path: Path, **sheets: list[list[Any]]) -> Path:
    """Write a workbook with the cells of each sheet."""
    with xlsxwriter.Workbook(str(path), {"default_date_format": "yyyy-mm-dd"}) as workbook:
        for name, cells in sheets.items():
            sheet = workbook.add_worksheet(name)
            for row, values in enumerate(cells):
                for column, value in enumerate(values):
                    if value is not None:
                        sheet.write(row, column, value)
    return path


def cells_of(frame: pl.DataFrame) -> list[list[Any]]:
    return [list(frame.columns), *(list(row) for row in frame.iter_rows())]


def same_as_csv(source: Any, frame: pl.DataFrame, folder: Path) -> None:
    frame.write_csv(folder / "same.csv", datetime_format="%Y-%m-%d %H:%M:%S")
    ours, theirs = Table(source), Table(folder / "same.csv")
    assert ours.native().equals(theirs.native())
    assert [(c.name, c.kind, c.unit) for c in ours.schema] == [
        (c.name, c.kind, c.unit) for c in theirs.schema
    ]


# Workbooks


def test_a_workbook_is_read_as_its_rows_are(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", People=cells_of(ROWS))
    same_as_csv(path, ROWS, tmp_path)
    assert not read_any(path).notes


def test_a_workbook_of_pandas_has_row_labels_first(tmp_path: Path) -> None:
    ROWS.to_pandas().to_excel(tmp_path / "t.xlsx", engine="xlsxwriter")
    ROWS.to_pandas().to_csv(tmp_path / "t.csv")
    ours, theirs = Table(tmp_path / "t.xlsx"), Table(tmp_path / "t.csv")
    assert ours.schema.names == theirs.schema.names
    assert ours.schema.identifiers == theirs.schema.identifiers


def test_text_among_numbers_is_not_lost(tmp_path: Path) -> None:
    cells = [
        ["a", "b", "c"],
        *([i, "n/a" if i % 3 == 0 else i / 8, DAY if i % 2 else "unknown"] for i in range(N)),
    ]
    frame = read_any(book(tmp_path / "t.xlsx", S=cells)).frame
    assert frame["b"].to_list()[:4] == ["n/a", "0.125", "0.25", "n/a"]
    assert frame["c"].to_list()[:2] == ["unknown", "2020-02-28"]
    assert Table(tmp_path / "t.xlsx", missing="n/a").schema["b"].kind == "continuous"


def test_what_comes_late_is_read_as_what_comes_early(tmp_path: Path) -> None:
    cells = [["n", "x"], *([1, 0.5] for _ in range(3000)), ["none", 0.25]]
    frame = read_any(book(tmp_path / "t.xlsx", S=cells)).frame
    assert frame["n"].to_list()[-1] == "none" and frame["n"].null_count() == 0
    assert frame["n"][0] == "1"


def test_numbers_have_all_their_digits(tmp_path: Path) -> None:
    # Seventeen digits would tell all floats apart; who writes workbooks writes sixteen.
    numbers = [float(f"{value:.16G}") for value in (1 / 3, 2 / 7, 1e-9, 123456.789, 5e15, 1e300, -2 / 3)]
    for name, more in (("t.xlsx", []), ("mixed.xlsx", ["n/a", "0.10"])):
        frame = read_any(book(tmp_path / name, S=[["x"], *([value] for value in numbers + more)])).frame
        assert [float(text) for text in frame["x"][: len(numbers)]] == numbers
        assert frame["x"].to_list()[len(numbers) :] == more


def test_zeros_in_front_are_kept_in_text(tmp_path: Path) -> None:
    frame = read_any(book(tmp_path / "t.xlsx", S=[["zip", "n"], *([f"{i:05d}", i] for i in range(9))])).frame
    assert frame["zip"][3] == "00003" and frame["n"][3] == "3"


def test_times_of_day_and_durations_are_no_days_of_1899(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet()
        form = {
            name: workbook.add_format({"num_format": name})
            for name in ("hh:mm", "[h]:mm:ss", "yyyy-mm-dd hh:mm")
        }
        sheet.write_row(0, 0, ["opens", "stay", "lap", "when", "none"])
        for row in range(1, N):
            sheet.write_datetime(row, 0, dt.time(row % 24, row), form["hh:mm"])
            sheet.write_datetime(row, 1, dt.timedelta(hours=7 * row, seconds=row), form["[h]:mm:ss"])
            sheet.write_datetime(
                row, 2, dt.timedelta(minutes=row, milliseconds=250 * (row % 4)), form["[h]:mm:ss"]
            )
            sheet.write_datetime(
                row, 3, dt.datetime(1899, 12, 31, row % 24) if row % 2 else DAY, form["yyyy-mm-dd hh:mm"]
            )
            if row % 3:
                sheet.write_datetime(row, 4, dt.time(row % 24), form["hh:mm"])
            elif row % 2:
                sheet.write(row, 4, "closed")
    frame = read_any(path).frame
    assert frame["opens"].to_list()[:2] == ["01:01:00", "02:02:00"]
    assert frame["stay"].to_list()[9:11] == ["70:00:10", "77:00:11"]
    assert frame["lap"].to_list()[:2] == ["00:01:00.250", "00:02:00.500"]
    assert frame["none"].to_list()[:6] == ["01:00:00", "02:00:00", "closed", "04:00:00", "05:00:00", None]
    # A moment at the beginning of the calendar among others is one.
    assert frame["when"].to_list()[:2] == ["1899-12-31 01:00:00", "2020-02-28 00:00:00"]
    table = Table(path, kinds={"none": "categorical", "when": "categorical"})
    assert (table.schema["stay"].kind, table.schema["stay"].unit) == ("integer", "second")


def cell_of_ods(value: Any) -> str:
    kinds = {
        bool: ("boolean", "boolean-value", str(value).lower()),
        int: ("float", "value", value),
        float: ("float", "value", value),
        dt.date: ("date", "date-value", value),
        dt.datetime: ("date", "date-value", str(value).replace(" ", "T")),
        dt.time: ("time", "time-value", f"PT{str(value).replace(':', 'H', 1).replace(':', 'M')}S"),
    }
    if type(value) not in kinds:
        return (
            f'<table:table-cell office:value-type="string"><text:p>{value or ""}</text:p></table:table-cell>'
        )
    kind, key, held = kinds[type(value)]
    shown = "<text:p>as shown</text:p>"
    return f'<table:table-cell office:value-type="{kind}" office:{key}="{held}">{shown}</table:table-cell>'


def test_tables_of_libreoffice(tmp_path: Path) -> None:
    cells = [["n", "share", "day", "came", "opens", "paid"]]
    cells += [[i, i / 7 if i % 5 else "n/a", DAY + dt.timedelta(days=i), dt.datetime(2024, 1, 1, 8, i), dt.time(9, i),
               i % 2 == 0] for i in range(N)]  # fmt: skip
    rows = "".join(f"<table:table-row>{''.join(map(cell_of_ods, row))}</table:table-row>" for row in cells)
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "table", "text")
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    with zipfile.ZipFile(tmp_path / "t.ods", "w") as archive:
        archive.writestr("mimetype", kind)
        archive.writestr(
            "META-INF/manifest.xml",
            '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
            f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/></manifest:manifest>',
        )
        archive.writestr(
            "content.xml",
            f"<office:document-content {spaces}><office:body><office:spreadsheet>"
            f'<table:table table:name="People">{rows}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    frame = read_any(tmp_path / "t.ods").frame
    assert frame.row(0) == ("0", "n/a", "2020-02-28", "2024-01-01T08:00:00", "09:00:00", "true")
    assert frame.row(1)[:1] + frame.row(1)[2:] == (
        "1",
        "2020-02-29",
        "2024-01-01T08:01:00",
        "09:01:00",
        "false",
    )
    assert float(frame["share"][1]) == 1 / 7


def test_sheets(tmp_path: Path) -> None:
    people, other = cells_of(ROWS), [["x", "y"], *([i, i % 2] for i in range(N))]
    path = book(tmp_path / "t.xlsx", Cover=[["Report of 2024"]], People=people, Other=other)
    with pytest.warns(FairsynthWarning, match="several sheets"):
        raw = read_any(path)
    assert raw.frame.columns == ROWS.columns
    assert len(raw.notes) == 1 and "'People'" in raw.notes[0] and "t.xlsx?sheet=Other" in raw.notes[0]
    raw = read_any(f"{path}?sheet=Other")
    assert raw.frame.columns == ["x", "y"] and not raw.notes
    assert read_any(Path(f"{path}?sheet=Other")).frame.equals(raw.frame)
    with pytest.raises(
        DataError, match=r"t\.xlsx: there is no sheet 'None'; choose among 'Cover', 'People', 'Other'"
    ):
        read_any(f"{path}?sheet=None")
    with pytest.raises(DataError, match="the sheet is empty"):
        read_any(f"{path}?sheet=Cover")
    for name in ("t.csv", "t.parquet", "t.json"):
        with pytest.raises(DataError, match="only workbooks have sheets"):
            read_any(f"{tmp_path / name}?sheet=Other")


def test_a_file_may_be_called_as_a_sheet_is_asked_for(tmp_path: Path) -> None:
    book(tmp_path / "t.xlsx?sheet=B.xlsx", A=[["a"], [1]], B=[["b"], [2]])
    assert read_any(tmp_path / "t.xlsx?sheet=B.xlsx").frame.columns == ["a"]


def test_rows_and_columns_without_cells_are_no_people(tmp_path: Path) -> None:
    cells = [["a", "b"], [1, 2], [None, None], [3, None], [None, None]]
    path = book(tmp_path / "t.xlsx", S=cells)
    assert read_any(path).frame.rows() == [("1", "2"), ("3", None)]
    cells = [["a", "b", None, None], [1, 2, None, "a remark"], [3, 4]]
    path = book(tmp_path / "u.xlsx", S=cells)
    assert read_any(path).frame.rows() == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([["a", "b", "a"], [1, 2, 3]], ["'a'", "twice"]),
        ([["a", None, "c"], [1, 2, 3]], ["needs a name"]),
        ([["a", "b"]], ["empty"]),
        ([], ["empty"]),
    ],
)
def test_workbooks_that_hold_no_table_say_why(
    tmp_path: Path, cells: list[list[Any]], words: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        Table(book(tmp_path / "t.xlsx", S=cells))
    for word in ["t.xlsx", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "name", ["t.xlsx", "t.xls", "t.xlsb", "t.ods", "t.sav", "t.dta", "t.sas7bdat", "t.xpt"]
)
@pytest.mark.parametrize("content", [b"PK", b"nothing of the kind" * 99])
def test_files_of_another_kind_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: it cannot be read as a"):
        read_any(tmp_path / name)


@pytest.mark.parametrize(("name", "library"), [("t.xlsx", "fastexcel"), ("t.sav", "pyreadstat")])
def test_a_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str
) -> None:
    (tmp_path / name).write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=r"t\..* needs .*pip install 'fairsynth\[files\]'"):
        read_any(tmp_path / name)


# Statistics programs

CODES = pd.DataFrame({
    "sex": [float(1 + i % 2) for i in range(N)],
    "grade": [float([3, 1, 2][i % 3]) for i in range(N)],
    "income": [(-9.0 if i % 10 == 0 else 100.0 * i) for i in range(N)],
    "share": [i / 7 if i % 5 else None for i in range(N)],
    "town": [["Köln", "Bonn", ""][i % 3] for i in range(N)],
    "born": [DAY - dt.timedelta(days=37 * i) for i in range(N)],
})  # fmt: skip
LABELS = {
    "sex": {1: "man", 2: "woman"},
    "grade": {1: "low", 2: "middle", 3: "high"},
    "income": {-9: "refused", -8: "unknown"},
}


def write_statistics(path: Path) -> Path:
    if path.suffix == ".dta":
        # Labels of Stata stand on whole numbers.
        frame = CODES.astype({"sex": "int32", "grade": "int32", "income": "int32"})
        pyreadstat.write_dta(frame, str(path), variable_value_labels=LABELS)
    elif path.suffix == ".xpt":
        pyreadstat.write_xport(CODES, str(path))
    else:
        pyreadstat.write_sav(CODES, str(path), variable_value_labels=LABELS, variable_measure={"grade": "ordinal"},
                             compress=path.suffix == ".zsav")  # fmt: skip
    return path


@pytest.mark.parametrize("name", ["t.sav", "t.zsav", "t.dta"])
def test_labels_of_values_are_what_people_answered(tmp_path: Path, name: str) -> None:
    with pytest.warns(FairsynthWarning, match="labels"):
        raw = read_any(write_statistics(tmp_path / name))
    frame = raw.frame
    assert frame["sex"].dtype == pl.Enum(["man", "woman"])
    assert frame["sex"].to_list()[:3] == ["man", "woman", "man"]
    assert frame["grade"].dtype == pl.Enum(["low", "middle", "high"])
    assert frame["grade"].to_list()[:3] == ["high", "low", "middle"]
    assert raw.ordered == (frozenset() if name == "t.dta" else {"grade"})
    assert frame["income"].dtype == pl.Int64 and frame["income"][0] == -9
    assert len(raw.notes) == 1 and "'income'" in raw.notes[0] and "-9 is 'refused'" in raw.notes[0]
    assert "unknown" not in raw.notes[0]
    assert frame["share"].to_list()[:2] == [None, 1 / 7]
    assert frame["town"].to_list()[:3] == ["Köln", "Bonn", None]
    assert frame["born"].to_list() == list(CODES["born"])
    with pytest.warns(FairsynthWarning, match="labels"):
        table = Table(tmp_path / name, target="sex", sensitive="grade", favorable="man", missing="-9")
    assert table.schema["income"].has_missing
    assert table.schema["grade"].ordered == (name != "t.dta")


def test_files_of_sas(tmp_path: Path) -> None:
    frame = read_any(write_statistics(tmp_path / "t.xpt")).frame
    assert frame["sex"].dtype == pl.Int64
    assert frame["town"].to_list()[:3] == ["Köln", "Bonn", None]
    assert frame["born"].to_list() == list(CODES["born"])


def test_values_that_a_user_declared_missing_are_missing(tmp_path: Path) -> None:
    pyreadstat.write_sav(CODES[["income"]], str(tmp_path / "t.sav"), missing_ranges={"income": [-9]})
    frame = read_any(tmp_path / "t.sav").frame
    assert frame["income"].null_count() == 6 and frame["income"].min() == 100


@pytest.mark.parametrize("name", ["t.sav", "t.dta"])
def test_what_columns_mean_is_kept(tmp_path: Path, name: str) -> None:
    write = pyreadstat.write_sav if name == "t.sav" else pyreadstat.write_dta
    write(
        CODES[["sex", "share", "town"]],
        str(tmp_path / name),
        column_labels=["Sex of respondent", "Share, %", None],
    )
    schema = Table(tmp_path / name, kinds={"share": {"description": "said by the user"}}).schema
    assert [column.description for column in schema] == ["Sex of respondent", "said by the user", None]
    assert read_any(tmp_path / name).descriptions["share"] == "Share, %"


def test_equal_labels_are_told_apart_by_their_values(tmp_path: Path) -> None:
    pyreadstat.write_sav(CODES[["grade"]], str(tmp_path / "t.sav"),
                         variable_value_labels={"grade": {1: "other", 2: "some", 3: "other"}})  # fmt: skip
    frame = read_any(tmp_path / "t.sav").frame
    assert frame["grade"].dtype == pl.Enum(["other (1)", "some", "other (3)"])
    assert frame["grade"].to_list()[:3] == ["other (3)", "other (1)", "some"]


# JSON


@pytest.mark.parametrize("name", ["t.json", "t.jsonl", "t.ndjson", "lines.json"])
def test_json_is_read_as_its_rows_are(tmp_path: Path, name: str) -> None:
    rows = [
        {
            key: value if isinstance(value, int | float | str | None) else str(value)
            for key, value in row.items()
        }
        for row in ROWS.iter_rows(named=True)
    ]
    lines = name != "t.json"
    text = "\n".join(json.dumps(row) for row in rows) if lines else json.dumps(rows, indent=2)
    (tmp_path / name).write_text(text)
    same_as_csv(tmp_path / name, ROWS, tmp_path)


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_json_of_uneven_rows(tmp_path: Path, name: str) -> None:
    rows = [{"a": 1}] * 2000 + [{"a": "x", "b": True}, {"b": None, "a": None}, {"a": 0.1}]
    text = json.dumps(rows) if name == "t.json" else "\n".join(map(json.dumps, rows))
    (tmp_path / name).write_text(text)
    frame = read_any(tmp_path / name).frame
    assert frame.columns == ["a", "b"]
    assert frame.rows()[-4:] == [("1", None), ("x", "true"), (None, None), ("0.1", None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"a": 1, "b": {"c": 2}}]', ["'b'", "values within values"]),
        ('[{"a": [1, 2]}]', ["'a'", "values within values"]),
        ('{"a": {"0": 1, "1": 2}}', ["'a'", "list of objects"]),
        ('[{"a": 1', ["cannot be read"]),
        ("nothing", ["cannot be read"]),
        ("[1, 2]", ["cannot be read"]),
    ],
)
def test_json_that_holds_no_table_says_why(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError) as caught:
        Table(tmp_path / "t.json")
    for word in ["t.json", *words]:
        assert word in str(caught.value)
