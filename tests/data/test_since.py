"""Moments told by the time since another one: found where that is right, and drawn in their order."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fairsynth as fs
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.schema import Column
from fairsynth.data.since import added, find_since, in_turn, time_between
from fairsynth.data.streams import StreamedTable
from fairsynth.data.table import Table
from fairsynth.errors import CapabilityError, DataError
from fairsynth.fairness import Fairness
from fairsynth.generators.audited_trees import AuditedTrees

START = datetime(2022, 1, 1)


def moments(days: np.ndarray) -> pl.Series:
    return pl.Series([START + timedelta(days=int(day)) for day in days], dtype=pl.Datetime("us"))


def patients(n: int = 1500, seed: int = 0) -> pl.DataFrame:
    """Return stays of which long ones come again, and bills that follow them, some of them never paid."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n)
    admitted = rng.integers(0, 1000, n)
    stay = np.minimum(rng.geometric(1 / (2 + age / 15)), 60) - 1
    again = rng.random(n) < 1 / (1 + np.exp(-(0.2 * stay - 1)))
    paid = pl.Series(rng.random(n) < 0.9)
    return pl.DataFrame({
        "sex": rng.choice(["f", "m"], n), "born": moments(-age * 365 - rng.integers(0, 365, n)),
        "admitted": moments(admitted), "discharged": moments(admitted + stay),
        "paid": pl.select(pl.when(paid).then(moments(admitted + stay + rng.integers(5, 40, n)))).to_series(),
        "again": np.where(again, "yes", "no"),
    })  # fmt: skip


def table_of(frame: pl.DataFrame, **roles: object) -> Table:
    return Table(frame, **{"target": "again", "favorable": "no", "sensitive": "sex", **roles})  # type: ignore[arg-type]


def lengths(frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the days of each stay, and between it and the bill where that was paid."""
    stay = (frame["discharged"] - frame["admitted"]).dt.total_days()
    return stay.to_numpy(), (frame["paid"] - frame["discharged"]).dt.total_days().drop_nulls().to_numpy()


def test_each_moment_is_told_from_the_nearest_one_before_it() -> None:
    frame = patients()
    assert find_since(table_of(frame), ()) == {"discharged": "admitted", "paid": "discharged"}
    assert find_since(table_of(frame), ("discharged",)) == {"paid": "admitted"}
    assert find_since(table_of(frame), (), ("discharged", "admitted")) == {"paid": "discharged"}
    assert find_since(table_of(frame.drop("admitted")), ()) == {"paid": "discharged"}


def test_what_has_no_order_is_not_told_from_another() -> None:
    frame, rng = patients(), np.random.default_rng(1)
    apart = frame.with_columns(discharged=moments(rng.integers(0, 1000, len(frame)))).drop("paid")
    assert find_since(table_of(apart), ()) == {}
    born = frame.drop("discharged", "paid")  # who was born long before was born before anyhow
    assert find_since(table_of(born), ()) == {}
    few = frame.head(60)
    assert find_since(table_of(few), ()) == {}
    gone = frame.with_columns(admitted=pl.when(pl.int_range(len(frame)) > 5).then("admitted")).drop("paid")
    assert find_since(table_of(gone), ()) == {}, "a discharge without an admission could not be told"
    late = frame.with_columns(
        admitted=pl.col("admitted") + pl.duration(minutes=pl.int_range(len(frame)) % 60 + 1)
    )
    late = late.with_columns(discharged=pl.col("discharged") + pl.duration(days=1)).drop("paid")
    assert late["discharged"].dt.minute().sum() == 0
    assert find_since(table_of(late), ()) == {}, "a day and some minutes would be no day"


def test_sensitive_columns_and_the_target_have_no_part_in_it() -> None:
    frame = patients().drop("paid")
    of_stays = table_of(frame, sensitive={"admitted": [START.timestamp() * 1e6 + 500 * 86_400e6]})
    assert find_since(of_stays, ()) == {}
    assert find_since(table_of(frame, target="discharged", favorable=None), ()) == {}


def test_a_few_that_are_out_of_order_stay_a_few() -> None:
    frame = patients(3000)
    wrong = pl.int_range(len(frame)) % 200 == 7
    dirty = frame.with_columns(
        discharged=pl.when(wrong).then(pl.col("admitted") - pl.duration(days=3)).otherwise("discharged")
    ).drop("paid")
    table = table_of(dirty)
    assert find_since(table, ()) == {"discharged": "admitted"}
    drawn = AuditedTrees(fairness=Fairness(strength=0.0), seed=0).fit(table).sample(3000, seed=0)
    broken = (drawn["discharged"] < drawn["admitted"]).mean()
    assert 0.001 < broken < 0.01
    more = frame.with_columns(
        discharged=pl.when(wrong | (pl.int_range(len(frame)) % 60 == 1))
        .then("admitted")
        .otherwise("discharged")
    )
    assert find_since(table_of(more), ()) == {"discharged": "admitted", "paid": "discharged"}, (
        "at once is not before"
    )


@given(
    days=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 400)), min_size=1, max_size=20),
    gone=st.sets(st.integers(0, 19)),
)
def test_what_lies_between_leads_back(days: list[tuple[int, int]], gone: set[int]) -> None:
    first, lasting = np.array(days).T
    start = moments(first)
    end = moments(first + lasting).scatter([k for k in gone if k < len(first)], None)
    column = Column(
        name="end", kind="datetime", minimum=START, maximum=START + timedelta(days=3400), unit="day"
    )
    assert added(time_between(end, start), start, column).to_list() == end.to_list()
    short = column.model_copy(update={"maximum": START + timedelta(days=100)})
    latest = added(time_between(end, start), start, short).max()
    assert latest is None or latest <= short.maximum  # type: ignore[operator]


def test_states_are_of_the_time_between_and_lead_back_to_it() -> None:
    table = table_of(patients())
    encoder = TableEncoder.learn(table)
    assert encoder.since == {"discharged": "admitted", "paid": "discharged"}
    states = encoder.encode(table).T
    frame = encoder.decode(np.ascontiguousarray(states), np.random.default_rng(0))
    stay, bill = lengths(table.frame)
    own_stay, own_bill = lengths(frame)
    assert (own_stay >= 0).all()
    assert (own_bill >= bill.min()).all()
    # Every length of a stay that five people have is a state of its own.
    shared = np.bincount(stay)[stay] >= 5
    # Who is discharged beyond the remembered range is so at its ends.
    column = table.schema["discharged"]
    inside = frame["discharged"].is_between(column.minimum, column.maximum, closed="none").to_numpy()
    assert (own_stay[shared & inside] == stay[shared & inside]).all()
    batch = pl.from_arrow(encoder.decode_batch(np.ascontiguousarray(states), np.random.default_rng(0)))
    assert isinstance(batch, pl.DataFrame)
    for name in ("admitted", "discharged", "paid"):
        assert batch[name].cast(pl.Datetime("us")).to_list() == frame[name].to_list()
    assert "the time since admitted" in encoder.summary()["discharged"]


def test_drawn_stays_end_after_they_begin_and_last_as_long(tmp_path: Path) -> None:
    real = patients(4000)
    made = AuditedTrees(fairness=Fairness(strength=0.0), seed=0).fit(table_of(real))
    drawn = made.sample(4000, seed=0)
    stay, bill = lengths(drawn)
    own_stay, own_bill = lengths(real)
    assert stay.min() >= 0
    assert bill.min() >= own_bill.min()
    assert stay.mean() == pytest.approx(own_stay.mean(), rel=0.1)
    assert stay.std() == pytest.approx(own_stay.std(), rel=0.15)

    def of_label(frame: pl.DataFrame) -> float:
        return float(np.corrcoef(lengths(frame)[0], frame["again"] == "yes")[0, 1])

    assert of_label(drawn) == pytest.approx(of_label(real), abs=0.08)
    assert of_label(real) > 0.25
    path = tmp_path / "stays.fairsynth"
    made.save(path)
    assert fs.load_generator(path).sample(500, seed=1).equals(made.sample(500, seed=1))


def test_a_stay_whose_length_is_known_has_a_bill_after_it_begins() -> None:
    """What is computed is known last, so the bill is told from the admission."""
    frame = patients().with_columns(nights=(pl.col("discharged") - pl.col("admitted")).dt.total_days())
    encoder = TableEncoder.learn(table_of(frame))
    assert [own.name for own in encoder.derived.values()] == ["discharged"]
    assert encoder.since == {"paid": "admitted"}


def of_contracts(never: float) -> pl.DataFrame:
    """Return contracts since 1950 of which some run on, which is written as the last day of the year 9999."""
    frame = patients(900).drop("born", "paid")
    began = pl.col("admitted") - pl.duration(days=26_000)
    ended = pl.col("discharged") - pl.duration(days=26_000)
    runs_on = pl.Series(np.random.default_rng(4).random(900) < never)
    end = pl.when(runs_on).then(pl.lit(datetime(9999, 12, 31))).otherwise(ended)
    return frame.with_columns(admitted=began, discharged=end)


def test_what_is_usual_stays_usual() -> None:
    assert find_since(table_of(of_contracts(1 / 3)), ()) == {}, (
        "the day that means never would be another one"
    )
    frame = patients().drop("paid")
    month = frame.with_columns(discharged=pl.col("discharged").dt.offset_by("1mo").dt.truncate("1mo"))
    assert find_since(table_of(month), ()) == {}, "it would be no first of a month"


def test_the_time_may_be_longer_than_a_moment_holds() -> None:
    frame = of_contracts(0.03)
    made = AuditedTrees(fairness=Fairness(strength=0.0), seed=0).fit(table_of(frame))
    assert made.lines_.layout.encoder.since == {"discharged": "admitted"}
    drawn = made.sample(900, seed=0)
    assert (drawn["discharged"] >= drawn["admitted"]).all()
    assert (drawn["discharged"].dt.year() > 9000).mean() == pytest.approx(0.03, abs=0.02)


def test_what_can_be_asked_for() -> None:
    made = AuditedTrees(fairness=Fairness(strength=0.0), seed=0).fit(table_of(patients()))
    day = START + timedelta(days=400)
    drawn = made.sample(50, seed=0, where={"admitted": day})
    assert drawn["admitted"].unique().to_list() == [day]
    assert lengths(drawn)[0].min() >= 0
    assert made.sample(20, seed=0, where={"paid": None})["paid"].null_count() == 20
    with pytest.raises(CapabilityError, match="time since 'admitted'"):
        made.sample(5, seed=0, where={"discharged": day})


@pytest.mark.parametrize("text", [False, True])
def test_a_stream_has_the_same_states(text: bool, tmp_path: Path) -> None:
    frame = patients()
    if text:
        frame = frame.with_columns(pl.col("born", "admitted", "discharged", "paid").dt.strftime("%Y-%m-%d"))
    frame.write_parquet(tmp_path / "stays.parquet")
    table = table_of(frame)
    encoder = TableEncoder.learn(table)
    stream = StreamedTable(
        tmp_path / "stays.parquet", target="again", favorable="no", sensitive="sex", schema=table.schema
    )
    states = np.concatenate(list(stream.states(encoder)), axis=1)
    np.testing.assert_array_equal(states.T, encoder.encode(table))


@pytest.mark.parametrize(
    "changes",
    [
        {"admitted": "discharged"}, {"discharged": "discharged"}, {"discharged": "sex"}, {"discharged": "nobody"},
        {"born": "paid", "paid": "discharged", "discharged": "born"},
    ],
)  # fmt: skip
def test_a_file_that_tells_moments_from_nothing_is_refused(changes: dict[str, str]) -> None:
    encoder = TableEncoder.learn(table_of(patients()))
    body = encoder.to_json()
    TableEncoder.from_json(encoder.schema, body)
    for part in body:
        if part["name"] in changes:
            part["since"] = changes[part["name"]]
    with pytest.raises(DataError):
        TableEncoder.from_json(encoder.schema, body)


def test_an_order_is_found_or_there_is_none() -> None:
    assert in_turn({"c": "b", "b": "a"}) == ["b", "c"]
    assert in_turn({}) == []
    with pytest.raises(ValueError, match="circle"):
        in_turn({"a": "b", "b": "a"})
