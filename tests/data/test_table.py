"""Groups, labels, splits, and reading other rows with the same schema."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.data import Table, conform, fresh_identifiers
from fairsynth.data.canonical import from_single
from fairsynth.data.schema import Schema
from fairsynth.errors import DataError, FairsynthWarning, SchemaError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators.audited_trees import AuditedTrees

N = 60


def rows(n: int = N, **columns: Any) -> pl.DataFrame:
    base = {
        "age": [20 + i % 31 for i in range(n)],
        "hours": [35.5 + i % 7 for i in range(n)],
        "sex": ["F" if i % 2 else "M" for i in range(n)],
        "race": [["b", "w", "w", None][i % 4] for i in range(n)],
        "since": [dt.datetime(2020, 1, 1 + i % 28) for i in range(n)],
        "member": [i % 3 == 0 for i in range(n)],
        "paid": [["no", "yes", "maybe"][i % 3] for i in range(n)],
    }
    return pl.DataFrame({**base, **columns})


def table(frame: Any = None, **options: Any) -> Table:
    settings = {"target": "paid", "favorable": ["yes", "maybe"], "sensitive": ["race", "sex"], **options}
    return Table(rows() if frame is None else frame, **settings)


def test_labels() -> None:
    assert table().target_codes().tolist()[:4] == [1, 2, 0, 1]
    assert table().favorable().tolist()[:4] == [False, True, True, False]
    assert table().target_codes().dtype == np.int64 and table().favorable().dtype == bool


def test_joint_groups() -> None:
    groups = table().groups()
    assert groups.attribute == "race × sex"
    assert groups.names == ("b × F", "b × M", "w × F", "w × M", "(missing) × F", "(missing) × M")
    expected = [f"{race or '(missing)'} × {sex}" for race, sex in rows()["race", "sex"].rows()]
    assert groups.labels.tolist() == expected
    assert groups.codes.dtype == np.int64
    assert groups.counts.tolist() == [expected.count(name) for name in groups.names]


def test_groups_of_one_column() -> None:
    groups = table().groups("race")
    assert groups.names == ("b", "w", "(missing)") and groups.attribute == "race"
    assert table().groups(["sex"]).names == ("F", "M")


def test_groups_hold_their_lower_edge() -> None:
    groups = table(sensitive={"age": [25, 30.5], "member": None}).groups("age")
    ages = rows()["age"].to_numpy()
    assert (groups.codes == (ages >= 25).astype(int) + (ages >= 30.5)).all()
    assert groups.names == ("< 25", "[25, 30.5)", "≥ 30.5")


def test_group_codes_mean_the_same_in_every_table_of_a_schema() -> None:
    whole = table()
    part = whole.align(rows().filter(pl.col("race") == "w"))
    assert part.groups().names == whole.groups().names
    assert set(part.groups().labels) == {"w × F", "w × M"}


def test_missing_that_the_schema_never_saw_is_a_group_at_the_end() -> None:
    whole = table(rows(race=["b", "w"] * (N // 2)))
    other = whole.align(rows(race=["b", "w", "w", None] * (N // 4)))
    groups = other.groups()
    assert groups.names[:4] == whole.groups().names
    assert groups.names[4:] == ("(missing) × F",)
    assert (groups.labels == "(missing) × F").sum() == N // 4
    assert other.groups("race").names == ("b", "w", "(missing)")
    assert any("'race': 15 missing" in repair for repair in other.repairs)


def test_without_roles_there_are_no_groups_and_labels() -> None:
    bare = Table(rows())
    for call, word in ((bare.groups, "sensitive"), (bare.favorable, "target"), (bare.target_codes, "target")):
        with pytest.raises(SchemaError, match=word):
            call()
    with pytest.raises(SchemaError, match="favorable"):
        Table(rows(), target="paid").favorable()
    with pytest.raises(SchemaError, match="levels"):
        Table(rows(), target="age").target_codes()
    with pytest.raises(SchemaError, match="edges"):
        bare.groups("age")


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(20, 200), st.floats(0.1, 0.9), st.integers(0, 10))
def test_split_is_a_stratified_partition(data: st.DataObject, n: int, share: float, seed: int) -> None:
    labels = data.draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n))
    groups = data.draw(st.lists(st.sampled_from("xyz"), min_size=n, max_size=n))
    if len(set(labels)) < 2 or len(set(groups)) < 2:
        return
    frame = pl.DataFrame({"row": range(1, 2 * n, 2), "label": labels, "group": groups})
    whole = Table(frame, target="label", sensitive="group", kinds={"row": "integer"})
    train, test = whole.split(share, seed=seed)
    assert len(test) == round(share * n)
    assert sorted([*train.frame["row"], *test.frame["row"]]) == frame["row"].to_list()
    assert train.frame["row"].is_sorted() and test.frame["row"].is_sorted()
    assert train.schema is whole.schema
    for label in set(labels):
        for group in set(groups):
            stratum = (pl.col("label") == label) & (pl.col("group") == group)
            held = len(frame.filter(stratum))
            wanted = held * len(test) / n
            assert abs(len(test.frame.filter(stratum)) - wanted) < 1


def test_split_obeys_the_seed_alone() -> None:
    np.random.seed(1)
    state = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    first, second, other = table().split(seed=3), table().split(seed=3), table().split(seed=4)
    assert first[1].frame.equals(second[1].frame)
    assert not first[1].frame.equals(other[1].frame)
    assert (np.random.get_state()[1] == state).all()  # type: ignore[index]


def test_split_of_a_numeric_target_keeps_its_distribution() -> None:
    values = np.random.default_rng(0).normal(size=1000).round(6)
    train, test = Table(pl.DataFrame({"y": values, "x": [1, 2, 3, 4] * 250}), target="y").split(0.25)
    quartile = np.quantile(values, 0.25)
    assert (test.frame["y"] <= quartile).mean() == pytest.approx(0.25, abs=0.005)
    assert len(train) == 750


@pytest.mark.parametrize("share", [0, 1, -1, 0.001])
def test_split_without_rows_on_one_side_is_refused(share: float) -> None:
    with pytest.raises(SettingsError, match="test_size"):
        table().split(share)


def test_replace_takes_canonical_rows_only() -> None:
    whole = table()
    few = whole.replace(whole.frame[:3].select(reversed(whole.frame.columns)))
    assert len(few) == 3 and few.native().equals(rows()[:3])
    assert len(whole.replace(whole.frame.clear())) == 0
    with pytest.raises(SchemaError, match="lacks 'age'"):
        whole.replace(whole.frame.drop("age"))
    with pytest.raises(SchemaError, match="'x'"):
        whole.replace(whole.frame.with_columns(x=1))
    with pytest.raises(SchemaError, match="'age'.*Int32.*align"):
        whole.replace(whole.frame.cast({"age": pl.Int32}))


@pytest.mark.parametrize(("ids", "fresh"), [(range(7000, 7000 + N), [1, 2, 3]), ([f"n{i}" for i in range(N)],
                                            ["id-1", "id-2", "id-3"])])  # fmt: skip
def test_identifiers_are_drawn_fresh(ids: Any, fresh: list[Any]) -> None:
    frame = rows(id=ids)
    whole = table(frame)
    assert whole.schema.identifiers == ("id",)
    drawn = whole.replace(whole.frame[:3].drop("id")).native()
    assert drawn["id"].to_list() == fresh and drawn.schema == frame.schema
    assert fresh_identifiers(whole.schema["id"], 1, start=2).to_list() == fresh[2:]
    assert whole.align(frame.drop("id")).native()["id"].to_list()[:3] == fresh
    assert whole.native().equals(frame)


@pytest.mark.parametrize(
    "ids",
    [
        pl.Series(range(0, 3 * N, 3), dtype=pl.UInt16),
        pl.Series([dt.date(1970, 1, 1 + i % 28) for i in range(N)]),
        pl.Series([dt.datetime(1970, 1, 1 + i % 28) for i in range(N)]).dt.replace_time_zone("Asia/Tokyo"),
        pl.Series([f"{i}" for i in range(N)], dtype=pl.Categorical),
    ],
    ids=lambda ids: str(ids.dtype),
)
def test_fresh_identifiers_have_the_dtype_of_the_real_ones(ids: pl.Series) -> None:
    frame = rows(id=ids)
    whole = table(frame, identifiers=["id"])
    drawn = whole.replace(whole.frame.drop("id")).native()
    assert whole.native().equals(frame)
    assert drawn.schema == frame.schema and drawn["id"].n_unique() == N


def test_align_reads_other_kinds_of_frames() -> None:
    whole = table()
    for other in (rows().to_pandas(), rows().to_arrow(), rows().select(reversed(rows().columns)), whole):
        aligned = whole.align(other)
        assert aligned.frame.equals(whole.frame)
        assert aligned.repairs == []
        assert aligned.schema is whole.schema


def test_align_reads_other_dtypes_without_loss() -> None:
    whole = table(rows(code=[i % 2 for i in range(N)]))
    other = rows(code=[i % 2 for i in range(N)]).with_columns(
        pl.col("age").cast(pl.Float32),
        pl.col("hours").cast(pl.String),
        pl.col("since").dt.to_string("%Y-%m-%d"),
        pl.col("member").cast(pl.Int8),
        pl.col("code").cast(pl.Float64),
        pl.col("sex").cast(pl.Categorical),
    )
    aligned = whole.align(other)
    assert aligned.frame.equals(whole.frame) and aligned.repairs == []


def test_align_counts_what_it_repairs() -> None:
    whole = table()
    other = rows(
        sex=["F", "M", "X", "Y"] * (N // 4),
        age=[20.0, 20.75, 21.0, 90.0] * (N // 4),
    )
    aligned = whole.align(other)
    assert aligned.frame["sex"].null_count() == N // 2
    assert aligned.frame["age"].to_list()[:4] == [20, 21, 21, 90]
    assert any("'sex': 30 values" in said and "'X' in row 2" in said for said in aligned.repairs)
    assert any("'age': 15 fractions" in said and "20.75 in row 1" in said for said in aligned.repairs)
    assert not any("outside" in said and "age" in said for said in aligned.repairs)
    counted = whole.align(other, count_out_of_range=True)
    assert any("'age': " in said and "kept" in said for said in counted.repairs)


def test_align_reads_the_markers_of_the_schema() -> None:
    whole = table(rows(job=["a", "b", "?", "c"] * (N // 4)), missing="?")
    aligned = whole.align(rows(job=["?", "b", "a", "c"] * (N // 4), sex=["?", "F", "M", "F"] * (N // 4)))
    assert aligned.frame["job"].null_count() == N // 4
    assert aligned.frame["sex"].null_count() == N // 4


@pytest.mark.parametrize(
    ("frame", "error", "words"),
    [
        (rows().drop("age"), SchemaError, ["lacks 'age'"]),
        (rows(x=[1] * N), SchemaError, ["has 'x'"]),
        (rows().clear(), DataError, ["no rows"]),
        (rows(age=["old"] * N), DataError, ["'age'", "'old'", "row 0"]),
        (rows(hours=[float("inf")] * N), DataError, ["'hours'", "infinite"]),
        (rows(age=rows()["since"]), DataError, ["'age'", "Datetime"]),
        (rows(since=[1] * N), DataError, ["'since'"]),
        (rows(since=["yesterday"] * N), DataError, ["'since'", "'yesterday'"]),
        (rows(member=["perhaps"] * N), DataError, ["'member'", "'perhaps'"]),
        (rows(since=rows()["since"].dt.replace_time_zone("UTC")), DataError, ["'since'", "time zone"]),
        (
            rows(paid=["no", "yes", "soon"] * (N // 3)),
            DataError,
            ["'paid'", "'soon'", "row 2", "maybe, no, yes"],
        ),
        (rows(paid=pl.Series([None] * N, dtype=pl.String)), DataError, ["'paid'", "missing", "row 0"]),
    ],
)
def test_align_refuses_what_it_cannot_read(frame: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        table().align(frame)
    for word in words:
        assert word in str(caught.value)


def test_a_table_never_changes_what_it_was_given() -> None:
    frame = rows().to_pandas()
    frame["race"] = frame["race"].astype("category")
    before = frame.copy(deep=True)
    whole = table(frame)
    whole.split()
    whole.align(frame)
    back = whole.native()
    back.loc[0, "age"] = -1
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(whole.native(), before)


def test_conform_brings_numbers_to_range_and_precision() -> None:
    whole = table()
    wild = pl.DataFrame({"hours": [0.0, 36.26, 99.0], "age": [0, 30, 99], "since": [
        dt.datetime(1990, 1, 1), dt.datetime(2020, 1, 9, 17, 3), dt.datetime(2050, 1, 1)]}).cast(
            {"since": pl.Datetime("us")})  # fmt: skip
    tame = conform(wild, whole.schema)
    for name in wild.columns:
        column = whole.schema[name]
        assert tame[name][0] == column.minimum and tame[name][2] == column.maximum
    assert tame["hours"][1] == 36.3 and tame["since"][1] == dt.datetime(2020, 1, 9)
    # Real rows within the remembered range stay as they are.
    inside = whole.frame.filter(pl.col("hours").is_between(*whole.schema["hours"].bounds))
    assert conform(inside, whole.schema)["hours"].equals(inside["hours"])


def test_repr() -> None:
    assert repr(table()) == "Table(60 rows, 7 columns, target='paid', sensitive=['race', 'sex'])"


@settings(max_examples=60, deadline=None)
@given(
    places=st.integers(0, 4), whole=st.lists(st.integers(-99_999, 99_999), min_size=40, max_size=60),
)  # fmt: skip
def test_decimals_in_32_bits_are_the_numbers_that_are_meant(places: int, whole: list[int]) -> None:
    """A real 0.1 of 32 bits and one drawn on the grid of decimals are one number, and it goes back as it came."""
    meant = np.array(whole) / 10**places
    single = pl.Series("x", meant.astype(np.float32))
    found = from_single(single)
    assert np.array_equal(found.to_numpy(), meant)
    assert found.cast(pl.Float32).equals(single)


def test_other_numbers_of_32_bits_stay_what_they_are() -> None:
    rng = np.random.default_rng(0)
    odd = [16_777_216.0, 2e7, 3.4e38, 1e-40, 1_234_567.75, 0.0, -0.0, np.nan, np.inf, -np.inf]
    values = pl.Series("x", np.r_[odd, rng.normal(size=5000), 1e9 * rng.normal(size=500)].astype(np.float32))
    found = from_single(values)
    assert np.array_equal(found.cast(pl.Float32).to_numpy(), values.to_numpy(), equal_nan=True)
    assert np.array_equal(found.is_nan(), values.is_nan())


def test_drawn_rows_lie_among_the_real_ones_of_32_bits() -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({
        "grade": pl.Series(np.round(rng.normal(3, 0.4, 600), 1).astype(np.float32)),
        "sex": rng.integers(0, 2, 600).astype(str), "good": np.array(["no", "yes"])[rng.integers(0, 2, 600)],
    })  # fmt: skip
    table = Table(frame, target="good", favorable="yes", sensitive="sex")
    model = AuditedTrees(fairness=Fairness(strength=0.0), seed=0).fit(table)
    drawn = model.sample_table(600, seed=0)
    assert set(drawn.frame["grade"]) <= set(np.round(np.arange(0, 60) / 10, 1))
    assert len(set(drawn.frame["grade"]) & set(table.frame["grade"])) > 15
    assert drawn.native()["grade"].dtype == pl.Float32
    assert table.align(drawn.native()).frame["grade"].equals(drawn.frame["grade"])


# Rows whose outcome is not known


@pytest.mark.parametrize("kind", ["polars", "pandas", "arrow", "csv", "marker"])
def test_rows_without_a_label_are_left_out_and_counted(tmp_path: Path, kind: str) -> None:
    whole = pl.DataFrame({
        "sex": ["f", "m"] * 30, "skill": np.arange(60) / 8, "paid": ["yes", "no", None, "no", "yes", "yes"] * 10,
    })  # fmt: skip
    kept = whole.filter(pl.col("paid").is_not_null())
    roles: dict[str, Any] = {"target": "paid", "favorable": "yes", "sensitive": "sex"}
    given: Any = {"polars": whole, "pandas": whole.to_pandas(), "arrow": whole.to_arrow()}.get(kind)
    if kind == "csv":
        given = tmp_path / "t.csv"
        whole.write_csv(given)
    if kind == "marker":
        given, roles["missing"] = whole.with_columns(pl.col("paid").fill_null("?")), "?"
    with pytest.warns(
        FairsynthWarning, match=r"'paid' is missing in 10 of 60 rows, the first is row 2 .*left out"
    ):
        table = Table(given, **roles)
    assert len(table) == 50 and not table.schema["paid"].has_missing
    assert table.frame["skill"].to_list() == kept["skill"].to_list()
    assert len(table.native()) == 50
    for known in (table.schema, Schema.from_json(table.schema.to_json())):
        with pytest.warns(FairsynthWarning, match="10 of 60 rows"):
            again = Table(given, schema=known)
        assert again.frame.equals(table.frame)
    with pytest.warns(FairsynthWarning, match="10 of 60 rows"):
        later = table.align(given)
    assert later.frame.equals(table.frame)


def test_what_is_left_without_labels_has_to_be_enough() -> None:
    few = rows().with_columns(paid=pl.Series(["yes", "no"] * 9 + [None] * (N - 18)))
    with pytest.raises(DataError, match="18 rows"), pytest.warns(FairsynthWarning, match="left out"):
        Table(few, target="paid")
