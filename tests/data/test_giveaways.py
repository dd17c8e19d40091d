"""A column that tells the label by itself is named, and one that only tells much of it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fairsynth.data.streams import StreamedTable
from fairsynth.data.table import Table


def people(n: int = 1_000, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    good = score + rng.normal(size=n) > 0.5
    return pl.DataFrame(
        {
            "sex": rng.choice(["F", "M"], n),
            "score": score,
            "good": np.where(good, "yes", "no"),
            "days late": np.where(good, 0, rng.integers(1, 400, n)),
            "code": np.where(rng.random(n) < 0.005, "B", np.where(good, "A", "B")),
            "hint": np.where(rng.random(n) < 0.08, "B", np.where(good, "A", "B")),
            "person": [f"p{k}" for k in range(n)],
        }
    )


def named(frame: pl.DataFrame, **more: Any) -> list[str]:
    table = Table(frame, **{"target": "good", "favorable": "yes", "sensitive": "sex", **more})
    return [note.split("'")[1] for note in table.schema.notes if "away" in note]


def test_columns_that_tell_nearly_all_labels_are_named() -> None:
    assert named(people()) == ["days late", "code"]


def test_a_value_that_one_label_shares_stands_apart_from_numbers_beside_it() -> None:
    frame = people().with_columns(
        pl.when(pl.col("good") == "yes").then(55.0).otherwise(pl.col("score").rank() / 10).alias("points")
    )
    assert "points" in named(frame)


def test_they_are_named_for_many_labels_and_files_read_in_parts(tmp_path: Path) -> None:
    frame = people(3_000).with_columns(
        pl.when(pl.col("score") > 1).then(pl.lit("best")).otherwise(pl.col("good")).alias("good")
    )
    frame = frame.with_columns(("code of " + pl.col("good")).alias("copy"))
    assert named(frame, favorable=["yes", "best"]) == ["copy"]
    frame.write_parquet(tmp_path / "people.parquet")
    stream = StreamedTable(
        tmp_path / "people.parquet",
        target="good",
        favorable=["yes", "best"],
        sensitive="sex",
        sample_rows=1_000,
    )
    assert [note.split("'")[1] for note in stream.schema.notes if "away" in note] == ["copy"]


def test_rare_values_tell_nothing_and_few_people_are_not_judged() -> None:
    frame = people().with_columns((pl.int_range(pl.len()) // 2).cast(pl.String).alias("household"))
    assert "household" not in named(frame.sort("good"))
    assert named(people(150)) == []


def test_it_is_said_once_and_only_of_the_rows_that_were_learned_from() -> None:
    table = Table(people(), target="good", favorable="yes", sensitive="sex")
    again = Table(people(seed=1), schema=table.schema)
    assert again.schema.notes == table.schema.notes
    assert len([note for note in table.schema.notes if "away" in note]) == 2


@pytest.mark.parametrize("target", ["", "score"])
def test_without_labels_there_is_nothing_to_tell(target: str) -> None:
    table = Table(people(), sensitive="sex", target=target or None)
    assert not [note for note in table.schema.notes if "away" in note]
