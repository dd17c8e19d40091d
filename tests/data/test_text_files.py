"""Text files of other programs: separators and encodings are told from the file."""

from __future__ import annotations

import csv
import gzip
import io
import warnings
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairsynth.data import Table, read_any
from fairsynth.data.text_files import SEPARATORS, separator_of
from fairsynth.errors import DataError, FairsynthWarning

N = 40
ROWS = pl.DataFrame({
    "größe": [f"{150 + i % 31},5" for i in range(N)],
    "name, first": [["José", "Zoë", "naïve – “so”", "€ 5"][i % 4] for i in range(N)],
    "plain": [str(i) for i in range(N)],
})  # fmt: skip


def read(path: Path, content: bytes) -> pl.DataFrame:
    path.write_bytes(content)
    return read_any(path).frame


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "windows-1252"])
@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_encodings_and_separators_are_told(
    tmp_path: Path, encoding: str, separator: str, ending: str
) -> None:
    content = ROWS.write_csv(separator=separator).encode(encoding)
    path = tmp_path / f"t{ending}"
    path.write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
    with warnings.catch_warnings(record=True) as notes:
        assert read_any(path).frame.equals(ROWS)
    said = [str(one.message) for one in notes]
    assert len(said) == (encoding == "windows-1252")
    if said:
        assert path.name in said[0] and "Windows-1252" in said[0] and "UTF-8" in said[0]


def test_other_utf_16(tmp_path: Path) -> None:
    content = b"\xfe\xff" + ROWS.write_csv().encode("utf-16-be")
    assert read(tmp_path / "t.csv", content).equals(ROWS)


def test_an_accent_far_down_is_found(tmp_path: Path) -> None:
    lines = ["a,b"] + [f"{i},x" for i in range(200_000)] + ["1,é"]
    with pytest.warns(FairsynthWarning, match="Windows-1252"):
        raw = read(tmp_path / "t.csv", "\n".join(lines).encode("windows-1252"))
    assert len(raw) == 200_001 and raw["b"][-1] == "é"
    assert read(tmp_path / "u.csv", "\n".join(lines).encode()).equals(raw)


def test_what_was_assumed_goes_into_no_schema(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(("town,n\n" + "Köln,1\nBonn,2\n" * N).encode("windows-1252"))
    with pytest.warns(FairsynthWarning, match=r"t\.csv is not in UTF-8"):
        table = Table(tmp_path / "t.csv")
    assert "t.csv" not in table.schema.to_json()
    assert table.native()["town"][0] == "Köln"


def test_bytes_that_no_text_has(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("a,b\n1,2\n".encode("utf-16-le"))  # without the mark
    with pytest.raises(DataError, match=r"t\.csv: it is no text in UTF-8"):
        read_any(path)
    path.write_bytes("a,b\n1,é\n".encode("utf-16") + b"\x00")
    with pytest.raises(DataError, match=r"UTF-16"):
        read_any(path)


@pytest.mark.parametrize(
    ("lines", "mark"),
    [
        (["a;b;c\n", "1,5;2,5;3,5\n", "1,5;2,5;3\n", "1;2;3\n"], ";"),
        (["name, first;n\n", "x;1,5\n", "y;2\n", "z;3\n"], ";"),
        (["a|b\n", "1,2|3\n", "4|5\n", "6|7\n"], "|"),
        (["a\tb\n", "1\t2\n"], "\t"),
        (["a;1,b\n", '"x;y",2\n', "z,3\n", "w,4\n"], ","),
        (["one\n", "1\n", "2\n"], ","),
        (["one\n", "a b; c\n", "d\n"], ","),
        (["one\n"], ","),
        ([], ","),
        # Lengths that differ are an error, to be told with the mark that the header has.
        (["a;b\n", "1;2\n", "3\n", "4;5\n"], ";"),
        # The last line that was looked at goes on in the next one.
        (['a, b, c;"d\n', 'e"\n', "1;2\n", "3;4\n", '"5\n'], ";"),
        (["w, x, y, z;n\n", "1,2,3;4\n", "1,2,3;5\n"], ";"),
    ],
)
def test_the_mark_that_parts_lines_evenly(lines: list[str], mark: str) -> None:
    assert separator_of(lines) == mark


field = st.text(st.sampled_from("ab1.,;|\t\"' "), max_size=6)


@given(
    st.integers(2, 5).flatmap(
        lambda width: st.tuples(
            st.just(width), st.lists(st.lists(field, min_size=width, max_size=width), min_size=3, max_size=20)
        )
    ),
    st.sampled_from(SEPARATORS),
)
def test_fully_quoted_tables_are_read_by_their_mark(table: tuple[int, list[list[str]]], mark: str) -> None:
    """Other marks stand between quotes only, so that they part nothing."""
    width, rows = table
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=mark, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow([f"c{i}" for i in range(width)])
    writer.writerows(rows)
    assert separator_of(stream.getvalue().splitlines(keepends=True)) == mark
