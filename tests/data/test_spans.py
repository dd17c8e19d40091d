"""Durations and times of day: numbers of a unit, and back as they came."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairsynth import FairTrees, StreamedTable, Table
from fairsynth.data import read_any
from fairsynth.data.canonical import to_canonical
from fairsynth.data.schema import Column, Schema
from fairsynth.data.spans import SpanText, written_spans
from fairsynth.errors import DataError, SchemaError

ROLES: dict[str, Any] = {"target": "good", "favorable": "yes", "sensitive": "sex"}


def visits(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Stays in steps of five minutes that the label hangs on, visits on the quarter of an hour, and waits in hours."""
    rng = np.random.default_rng(seed)
    minutes = rng.gamma(2, 20, n).astype(int) // 5 * 5
    quarters = rng.integers(7 * 4, 20 * 4, n)
    return pd.DataFrame(
        {
            "sex": rng.choice(["f", "m"], n),
            "stay": pd.to_timedelta(minutes, unit="m"),
            "at": [dt.time(int(quarter) // 4, int(quarter) % 4 * 15) for quarter in quarters],
            "wait": [dt.timedelta(hours=int(hours)) for hours in rng.integers(0, 50, n)],
            "good": np.where(minutes + rng.normal(0, 10, n) > 35, "yes", "no"),
        }
    )


def frames(tmp_path: Path) -> dict[str, Any]:
    """The same rows as people may bring them."""
    own = visits()
    polars = pl.from_pandas(own)
    polars.write_parquet(tmp_path / "visits.parquet")
    return {
        "pandas": own,
        "polars": polars,
        "pyarrow": polars.to_arrow(),
        "path": tmp_path / "visits.parquet",
    }


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "path"])
def test_spans_are_numbers_of_their_coarsest_unit_and_drawn_as_they_came(kind: str, tmp_path: Path) -> None:
    frame = frames(tmp_path)[kind]
    table = Table(frame, **ROLES)
    units = {name: (table.schema[name].kind, table.schema[name].unit) for name in ("stay", "at", "wait")}
    assert units == {"stay": ("integer", "minute"), "at": ("integer", "minute"), "wait": ("integer", "hour")}
    assert table.schema["at"].summary().endswith(" minutes")
    native = table.native()
    assert (native if kind == "pandas" else pl.DataFrame(native).to_pandas()).equals(
        visits() if kind == "pandas" else pl.from_pandas(visits()).to_pandas()
    )

    drawn = FairTrees(calibrate=False, seed=0).fit(table).sample(1_000, seed=0)
    assert type(drawn) is type(pl.DataFrame() if kind == "path" else frame)
    rows = pl.from_pandas(drawn) if kind == "pandas" else pl.DataFrame(drawn)
    assert rows.schema["stay"] == pl.Duration(rows.schema["stay"].time_unit)  # type: ignore[attr-defined]
    assert rows.schema["at"] == pl.Time
    stays = rows["stay"].dt.total_minutes()
    assert set((stays % 5).to_list()) == {0}  # as round as they are
    assert (rows["at"].dt.minute() % 15 == 0).mean() >= 0.99  # type: ignore[operator]
    assert rows["at"].dt.hour().is_between(7, 19).all()
    real = visits()["stay"].dt.total_seconds().to_numpy() / 60
    favored = (rows["good"] == "yes").to_numpy()
    gap = stays.to_numpy()[favored].mean() - stays.to_numpy()[~favored].mean()
    own = (visits()["good"] == "yes").to_numpy()
    assert gap == pytest.approx(real[own].mean() - real[~own].mean(), abs=6)


def test_a_file_of_text_holds_what_can_be_read_again(tmp_path: Path) -> None:
    teacher = FairTrees(calibrate=False, seed=0).fit(Table(pl.from_pandas(visits()), **ROLES))
    teacher.sample_to(tmp_path / "drawn.csv", 300, seed=0)
    teacher.sample_to(tmp_path / "drawn.parquet", 300, seed=0)
    text = pl.read_csv(tmp_path / "drawn.csv")
    assert text["stay"].str.contains(r"^\d+ days \d\d:\d\d:00$").all()
    assert text["at"].str.contains(r"^\d\d:\d\d:00$").all()
    binary = pl.read_parquet(tmp_path / "drawn.parquet")
    assert pd.to_timedelta(text["stay"].to_list()).equals(pd.to_timedelta(binary["stay"].to_list()))
    again = Table(tmp_path / "drawn.csv", **ROLES)
    assert any(
        "times written as 'HH:MM:SS': they are read as numbers of seconds" in note
        for note in again.schema.notes
    )
    assert again.frame["stay"].to_list() == (binary["stay"].dt.total_seconds()).to_list()
    assert again.native()["at"].to_list() == text["at"].to_list()
    # A schema of either kind of file reads the other.
    binary = Table(tmp_path / "drawn.parquet", **ROLES)
    aligned = binary.align(tmp_path / "drawn.csv")
    assert not aligned.repairs
    assert aligned.frame.equals(binary.frame)
    assert again.align(tmp_path / "drawn.parquet").frame["at"].to_list() == again.frame["at"].to_list()


def test_files_read_in_parts_are_read_alike(tmp_path: Path) -> None:
    pl.from_pandas(visits(3_000)).write_parquet(tmp_path / "visits.parquet")
    stream = StreamedTable(tmp_path / "visits.parquet", **ROLES, sample_rows=1_000)
    assert stream.schema["wait"].unit == "hour"
    rows = FairTrees(calibrate=False, seed=0).fit(stream).sample(200, seed=0)
    assert isinstance(rows["stay"].dtype, pl.Duration)
    assert (rows["wait"].dt.total_hours() <= 50).all()


def test_groups_of_a_duration_are_cut_in_its_unit_and_rows_of_one_can_be_asked_for() -> None:
    roles = {**ROLES, "sensitive": {"stay": [30]}}
    table = Table(visits(), **roles)
    assert table.schema["stay"].group_names() == ("< 30", "≥ 30")
    teacher = FairTrees(calibrate=False, seed=0).fit(table)
    drawn = teacher.sample(50, seed=0, where={"at": 9 * 60 + 30})
    assert set(drawn["at"]) == {dt.time(9, 30)}


def test_what_is_finer_than_the_schema_says_is_cut_and_told() -> None:
    column = Column(name="stay", kind="integer", unit="hour", dtype="Duration[us]", minimum=0, maximum=9)
    values = pl.Series("stay", [dt.timedelta(hours=2), dt.timedelta(minutes=-30), None])
    read, repairs = to_canonical(values, column)
    assert read.to_list() == [2, -1, None]
    assert "1 value cut to whole hours" in repairs[0]
    with pytest.raises(SchemaError, match="cut to whole hours"):
        to_canonical(values, column, strict=True)
    with pytest.raises(SchemaError, match="none; say a finer unit"):
        Table(visits(), **ROLES, kinds={"stay": {"kind": "integer", "unit": "hour"}})
    with pytest.raises(SchemaError, match="no unit"):
        to_canonical(values, column.model_copy(update={"unit": None}))


def test_a_schema_with_units_is_read_again(tmp_path: Path) -> None:
    schema = Table(visits(), **ROLES).schema
    again = Schema.from_json(schema.to_json())
    assert again == schema
    other = Table(visits(seed=1), schema=again)
    assert other.frame["wait"].max() > 24  # type: ignore[operator]


@given(
    st.lists(st.integers(-(10**6), 10**6), min_size=1),
    st.sampled_from(["HH:MM", "H:MM", "HH:MM:SS", "H:MM:SS"]),
)
def test_texts_come_back_to_the_letter(numbers: list[int], pattern: str) -> None:
    way = SpanText(pattern)
    positive = pl.Series("x", [abs(number) for number in numbers])
    assert way.read(way.write(positive)).to_list() == positive.to_list()
    days = SpanText("D days HH:MM:SS")
    texts = days.write(pl.Series("x", numbers))
    assert days.read(texts).to_list() == numbers
    # What pandas writes is the same.
    told = [str(pd.Timedelta(seconds=number)) for number in numbers]
    assert texts.to_list() == told


def test_seconds_are_as_full_as_people_say_them() -> None:
    rng = np.random.default_rng(0)
    quarters = rng.integers(0, 400, 3_000)
    frame = pl.DataFrame(
        {
            "sex": rng.choice(["f", "m"], 3_000),
            "shift": [f"{quarter // 4}:{quarter % 4 * 15:02}:00" for quarter in quarters.tolist()],
            "good": rng.choice(["no", "yes"], 3_000),
        }
    )
    table = Table(frame, **ROLES)
    assert (table.schema["shift"].unit, table.schema["shift"].format) == ("second", "H:MM:SS")
    drawn = FairTrees(calibrate=False, seed=0).fit(table).sample(2_000, seed=0)
    assert drawn["shift"].str.contains(r"^\d+:(00|15|30|45):00$").mean() > 0.99


def test_what_only_looks_like_a_time_stays_text() -> None:
    for texts in (
        ["08:30", "8:31"],
        ["08:75", "08:30"],
        ["08:30", "half past"],
        ["1:2:3", "1:2:4"],
        ["12:30 pm", "1:30 pm"],
    ):
        assert written_spans(pl.Series(texts)) is None
    few = pd.DataFrame(
        {"sex": ["f", "m"] * 50, "shift": ["06:00", "14:00"] * 50, "good": ["no", "yes", "yes", "no"] * 25}
    )
    assert Table(few, **ROLES).schema["shift"].kind == "categorical"


def test_intervals_of_a_database_are_durations_unless_they_hold_months() -> None:
    pytest.importorskip("duckdb")
    asked = "SELECT TIMESTAMP '2026-03-01 10:30:00' - TIMESTAMP '2026-02-01 08:00:00' AS wait, TIME '08:30:00' AS at"
    raw = read_any(f"duckdb:///?query={asked} UNION ALL SELECT NULL, NULL")
    assert raw.frame["wait"].to_list() == [dt.timedelta(days=28, hours=2, minutes=30), None]
    assert raw.frame["at"].to_list() == [dt.time(8, 30), None]
    with pytest.raises(DataError, match=r"'wait', row 1 .*1 month"):
        read_any("duckdb:///?query=SELECT INTERVAL 3 DAY AS wait UNION ALL SELECT INTERVAL 1 MONTH")
