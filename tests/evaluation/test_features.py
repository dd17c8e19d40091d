"""Rows as matrices: what a scale may depend on, what distance means, and what must not give rows away."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fairsynth.data.table import Table
from fairsynth.evaluation.features import Design, Points, column_values, fingerprint, native_matrix, row_keys


@pytest.fixture(scope="module")
def mixed() -> Table:
    rng = np.random.default_rng(0)
    n = 400
    rows = pl.DataFrame(
        {
            "id": np.arange(n),
            "x": np.round(rng.normal(size=n), 2),
            "n": rng.integers(0, 100, size=n),
            "c": rng.choice(["a", "b", None], size=n, p=[0.5, 0.4, 0.1]),
            "flag": rng.random(n) < 0.5,
            "y": rng.choice(["no", "yes"], size=n),
        }
    )
    kinds = {"c": "categorical", "n": "integer", "flag": "boolean"}
    return Table(rows, target="y", favorable="yes", sensitive=["flag"], identifiers=["id"], kinds=kinds)


NAMES = ("x", "n", "c", "flag", "y")


def test_one_differing_category_is_at_distance_one(mixed: Table) -> None:
    points = Points(mixed.frame, mixed.schema, NAMES)
    row = mixed.frame.filter(pl.col("c") == "a")[:1]
    enum = mixed.frame["c"].dtype
    others = [row.with_columns(pl.lit(v, dtype=enum).alias("c")) for v in ("b", None)]
    for other in others:
        assert np.linalg.norm(points(row) - points(other)) == pytest.approx(1.0, abs=1e-6)
    assert np.linalg.norm(points(others[0]) - points(others[1])) == pytest.approx(1.0, abs=1e-6)


def test_the_central_range_of_a_number_is_distance_one(mixed: Table) -> None:
    points = Points(mixed.frame, mixed.schema, NAMES)
    low, high = np.quantile(mixed.frame["n"].to_numpy(), [0.05, 0.95])
    row = mixed.frame[:1]
    ends = [row.with_columns(pl.lit(int(v), dtype=pl.Int64).alias("n")) for v in (low, high)]
    assert np.linalg.norm(points(ends[0]) - points(ends[1])) == pytest.approx(1.0, abs=0.05)


def test_a_number_that_is_mostly_one_value_still_counts() -> None:
    rows = pl.DataFrame(
        {"gain": [0.0] * 198 + [5000.0, 9000.0], "s": ["a", "b"] * 100, "y": ["0", "1"] * 100}
    )
    table = Table(rows, target="y", favorable="1", sensitive=["s"], kinds={"gain": "continuous"})
    encoded = Points(table.frame, table.schema, ("gain",))(table.frame)
    assert 0.5 < np.linalg.norm(encoded[0] - encoded[-1]) < 10


def test_scales_come_from_the_train_rows_alone(mixed: Table) -> None:
    """A synthetic table with absurd numbers must not shrink everybody else's distances."""
    points, design = (make(mixed.frame, mixed.schema, NAMES) for make in (Points, Design))
    far = mixed.frame.with_columns(pl.col("x") * 1000)
    before = points(mixed.frame)
    points(far)
    assert np.array_equal(points(mixed.frame), before)
    assert design(far)[:, 0].std() == pytest.approx(1000, rel=0.01)


def test_many_levels_stay_one_apart_and_take_little_room() -> None:
    rng = np.random.default_rng(1)
    rows = pl.DataFrame(
        {
            "zip": [f"z{i}" for i in rng.permutation(np.arange(4000) % 1000)],
            "s": rng.choice(["a", "b"], size=4000),
            "y": rng.choice(["0", "1"], size=4000),
        }
    )
    table = Table(rows, target="y", favorable="1", sensitive=["s"], kinds={"zip": "categorical"})
    encoded = Points(table.frame, table.schema, ("zip",))(table.frame)
    assert encoded.shape[1] < 100
    same = rows["zip"].to_numpy()[:50, None] == rows["zip"].to_numpy()[None, 50:100]
    distance = np.linalg.norm(encoded[:50, None] - encoded[None, 50:100], axis=2)
    assert (distance[same] == 0).all()
    assert ((distance[~same] > 0.7) & (distance[~same] < 1.3)).all()
    assert Design(table.frame, table.schema, ("zip",))(table.frame).shape == (4000, 65)


def test_spare_digits_give_nothing_away(mixed: Table) -> None:
    noisy = mixed.frame.with_columns(pl.col("x") + 1e-7)
    assert np.array_equal(
        native_matrix(noisy, mixed.schema, NAMES),
        native_matrix(mixed.frame, mixed.schema, NAMES),
        equal_nan=True,
    )
    assert np.array_equal(row_keys(noisy, mixed.schema), row_keys(mixed.frame, mixed.schema))


def test_identifiers_do_not_make_a_row_new(mixed: Table) -> None:
    renumbered = mixed.frame.with_columns(pl.col("id") + 1_000_000)
    assert np.array_equal(row_keys(renumbered, mixed.schema), row_keys(mixed.frame, mixed.schema))


def test_codes_and_missing(mixed: Table) -> None:
    codes = column_values(mixed.frame, mixed.schema["c"])
    assert set(codes[~np.isnan(codes)]) == {0.0, 1.0}
    assert np.isnan(codes).sum() == mixed.frame["c"].null_count()
    assert set(column_values(mixed.frame, mixed.schema["flag"])) == {0.0, 1.0}


def test_the_fingerprint_knows_the_rows_and_nothing_else(mixed: Table) -> None:
    again = Table(mixed.native().to_pandas(), schema=mixed.schema)
    assert fingerprint(again.frame) == fingerprint(mixed.frame)
    changed = mixed.frame.with_columns(pl.when(pl.arange(0, 400) == 7).then(0).otherwise("n").alias("n"))
    assert fingerprint(changed) != fingerprint(mixed.frame)
    assert fingerprint(mixed.frame.reverse()) != fingerprint(mixed.frame)
