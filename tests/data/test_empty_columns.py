"""Columns that hold nothing are no reason to refuse a table: they come back with nothing in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import fairsynth as fs
from fairsynth.data.schema import Column, Schema
from fairsynth.errors import DataError

N = 300
RNG = np.random.default_rng(0)
SEX = RNG.integers(0, 2, N)
BASE = {
    "sex": np.array(["f", "m"])[SEX],
    "skill": RNG.normal(size=N).round(2),
    "paid": np.where(RNG.normal(size=N) + SEX > 0.5, "yes", "no"),
}
ROLES: dict[str, Any] = {"target": "paid", "favorable": "yes", "sensitive": "sex"}


def missing(frame: Any) -> int:
    column = frame["void"]
    if isinstance(column, pd.Series):
        return int(column.isna().sum())
    return column.null_count() if isinstance(column, pl.Series) else column.null_count


def dtype(frame: Any) -> Any:
    return frame["void"].type if isinstance(frame, pa.Table) else frame["void"].dtype


FRAMES = {
    "pandas float": pd.DataFrame({**BASE, "void": np.full(N, np.nan)}),
    "pandas object": pd.DataFrame({**BASE, "void": pd.Series([None] * N, dtype=object)}),
    "pandas Int64": pd.DataFrame({**BASE, "void": pd.array([None] * N, dtype="Int64")}),
    "pandas boolean": pd.DataFrame({**BASE, "void": pd.array([None] * N, dtype="boolean")}),
    "pandas datetime": pd.DataFrame({**BASE, "void": pd.to_datetime([None] * N)}),
    "arrow null": pl.DataFrame({**BASE, "void": pl.Series([None] * N)}).to_arrow(),
} | {
    f"polars {kind}": pl.DataFrame({**BASE, "void": pl.Series([None] * N, dtype=kind)})
    for kind in (pl.Null, pl.String, pl.Float64, pl.Int32, pl.Boolean, pl.Date, pl.Datetime("us"), pl.Duration("ms"))
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_drawn_rows_have_the_column_and_nothing_in_it(name: str, tmp_path: Path) -> None:
    frame = FRAMES[name]
    table = fs.Table(frame, **ROLES)
    assert table.schema["void"].empty and "void" in table.schema.identifiers
    assert any("'void' holds no value at all" in note for note in table.schema.notes)
    model = fs.FairTrees(fairness=fs.Fairness(strength=0.0), seed=0)
    with pytest.warns(fs.errors.FairsynthWarning, match="'void'"):
        model.fit(table)
    rows = model.sample(70, seed=0)
    assert missing(rows) == 70 and dtype(rows) == dtype(frame)
    model.save(tmp_path / "m.fairsynth")
    read = fs.load_generator(tmp_path / "m.fairsynth")
    assert read.schema_ == model.schema_
    for ending in (".csv", ".parquet"):
        read.sample_to(tmp_path / f"s{ending}", 50, seed=0)
        written = (
            pl.read_csv(tmp_path / "s.csv") if ending == ".csv" else pl.read_parquet(tmp_path / "s.parquet")
        )
        assert written["void"].null_count() == 50


def test_what_stands_for_missing_stands_in_drawn_rows() -> None:
    table = fs.Table(pl.DataFrame({**BASE, "void": ["?"] * N}), missing="?", **ROLES)
    assert table.schema["void"].empty
    model = fs.FairTrees(fairness=fs.Fairness(strength=0.0), seed=0).fit(table)
    assert model.sample(9, seed=0)["void"].to_list() == ["?"] * 9


def test_empty_fields_of_a_text_file(tmp_path: Path) -> None:
    frame = pl.DataFrame({**BASE, "void": pl.Series([None] * N, dtype=pl.String)})
    frame.write_csv(tmp_path / "t.csv")
    table = fs.Table(tmp_path / "t.csv", **ROLES)
    assert table.schema["void"].empty and table.schema["void"].summary() == "none at all"
    train, test = table.split(0.3, seed=0)
    assert (len(train), len(test)) == (N - 90, 90)
    # People who come later may have something there; nobody looks.
    later = frame.with_columns(void=pl.Series(["x", None, "y"] * (N // 3)))
    assert len(table.align(later)) == N
    assert len(table.align(frame.drop("void"))) == N
    model = fs.FairTrees(fairness=fs.Fairness(strength=0.0), seed=0).fit(train)
    scores = fs.evaluate(train, test, model.sample_table(len(train), seed=0), seed=0)
    assert "void" not in scores.to_json()


@pytest.mark.parametrize("role", ["target", "sensitive", "domain"])
def test_a_column_with_a_role_has_to_hold_something(role: str) -> None:
    frame = pl.DataFrame({**BASE, "void": pl.Series([None] * N, dtype=pl.String)})
    with pytest.raises(DataError, match=r"'void' holds no value at all.*another"):
        fs.Table(frame, **{**ROLES, role: "void"})


def test_only_what_is_never_learned_may_be_empty() -> None:
    with pytest.raises(ValueError, match="empty"):
        Column(name="a", kind="categorical", empty=True)
    schema = fs.Table(FRAMES["polars Null"], **ROLES).schema
    assert Schema.from_json(schema.to_json()) == schema
