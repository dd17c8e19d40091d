"""What moments tell of other columns: parts and spans by the calendar, found in tables and kept in drawn rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth import FairTrees, PlainVAE, Table
from fairsynth.data.calendar_time import (
    DAY,
    LENGTHS,
    PARTS,
    SPANS,
    days_in_month,
    in_months,
    part_of,
    span_of,
)
from fairsynth.data.dated import Dated, agreed, check_dated, microseconds
from fairsynth.data.dated_search import find_dated
from fairsynth.data.encoding import TableEncoder
from fairsynth.errors import DataError

ROLES: dict[str, Any] = {"target": "again", "favorable": "no", "sensitive": "sex"}
TODAY = datetime(2024, 6, 30)
MOMENTS = st.lists(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), min_size=1, max_size=20
).map(lambda found: pl.Series(found, dtype=pl.Datetime("us")))  # fmt: skip


def full_years(start: datetime, end: datetime) -> int:
    """Return an age, as people count it."""
    return end.year - start.year - ((end.month, end.day, end.time()) < (start.month, start.day, start.time()))


def visits(n: int = 1_200, seed: int = 0) -> pl.DataFrame:
    """Return visits on six days of the week, with what their dates tell, and a few births that nobody knows."""
    rng = np.random.default_rng(seed)
    born = [datetime(1940, 1, 1) + timedelta(days=int(d)) for d in rng.integers(0, 365 * 60, n)]
    came = [datetime(2022, 1, 3) + timedelta(days=int(d // 6 * 7 + d % 6)) for d in rng.integers(0, 600, n)]
    came = [c + timedelta(hours=int(h)) for c, h in zip(came, rng.integers(8, 18, n), strict=True)]
    left = [c + timedelta(hours=int(h)) for c, h in zip(came, rng.gamma(2, 30, n) + 1, strict=True)]
    age = np.array([full_years(b, TODAY) for b in born])
    monday = np.array([c.weekday() == 0 for c in came])
    frame = pl.DataFrame(
        {
            "sex": rng.choice(["f", "m"], n),
            "born": born,
            "age": age,
            "age_then": [full_years(b, c) for b, c in zip(born, came, strict=True)],
            "came": came,
            "left": left,
            "nights": [(b - a).days for a, b in zip(came, left, strict=True)],
            "month": [c.month for c in came],
            "weekday": [c.strftime("%A") for c in came],
            "early": [c.hour < 12 for c in came],
            "years_ago": [round((TODAY - c).total_seconds() / 86_400 / 365.25, 1) for c in came],
            "noise": rng.integers(0, 50, n),
            "again": np.where(rng.normal(0, 1, n) + age / 30 + monday > 2, "yes", "no"),
        }
    )
    unknown = pl.Series(rng.random(n) < 0.05)
    return frame.with_columns(born=pl.when(unknown).then(None).otherwise(pl.col("born")))


def kept(frame: pl.DataFrame) -> dict[str, float]:
    """Return the share of the rows in which columns and moments agree."""
    known = frame.drop_nulls()
    both = {
        "age": [full_years(b, TODAY) == a for b, a in known.select("born", "age").iter_rows()],
        "age_then": [
            full_years(b, c) == a for b, c, a in known.select("born", "came", "age_then").iter_rows()
        ],
        "nights": (frame["left"] - frame["came"]).dt.total_days() == frame["nights"],
        "month": frame["came"].dt.month() == frame["month"],
        "weekday": frame["came"].dt.to_string("%A") == frame["weekday"].cast(pl.String),
        "early": (frame["came"].dt.hour() < 12) == frame["early"],
    }
    return {name: float(np.mean(list(agree))) for name, agree in both.items()}


@given(MOMENTS)
def test_parts_are_those_of_polars(moments: pl.Series) -> None:
    polars = {
        "year": moments.dt.year(), "quarter": moments.dt.quarter(), "month": moments.dt.month(),
        "week": moments.dt.week(), "day of the year": moments.dt.ordinal_day(), "day": moments.dt.day(),
        "weekday": moments.dt.weekday(), "hour": moments.dt.hour(), "minute": moments.dt.minute(),
    }  # fmt: skip
    assert set(polars) == set(PARTS)
    for part, expected in polars.items():
        np.testing.assert_array_equal(part_of(microseconds(moments), part), expected.to_numpy(), part)


@given(MOMENTS, st.integers(-500, 500))
def test_months_later_is_what_polars_says(moments: pl.Series, months: int) -> None:
    expected = microseconds(moments.dt.offset_by(f"{months}mo"))
    np.testing.assert_array_equal(in_months(microseconds(moments), np.full(len(moments), months)), expected)


@given(MOMENTS, MOMENTS)
def test_ages_are_as_people_count_them(first: pl.Series, second: pl.Series) -> None:
    start, end = first[:1].to_list()[0], second[:1].to_list()[0]
    found = span_of(microseconds(first[:1]), microseconds(second[:1]), "years", 1.0, nearest=False)
    assert found[0] == full_years(start, end)


def test_spans_are_rounded_to_the_steps_of_their_column() -> None:
    start, end = np.array([0]), np.array([int(2.67 * LENGTHS["weeks"])])
    assert span_of(start, end, "weeks", 1.0, nearest=False)[0] == 2
    assert span_of(start, end, "weeks", 1.0, nearest=True)[0] == 3
    assert span_of(start, end, "weeks", 0.1, nearest=False)[0] == pytest.approx(2.6)
    assert span_of(end, start, "weeks", 1.0, nearest=False)[0] == -3


@given(MOMENTS, st.integers(1, 7))
def test_another_weekday_is_looked_for_nearby_and_in_the_same_month(moments: pl.Series, weekday: int) -> None:
    own = microseconds(moments)
    days = days_in_month(own, weekday - part_of(own, "weekday"))
    there = own + DAY * days
    assert (part_of(there, "weekday") == weekday).all()
    assert (np.abs(days) <= 6).all()
    same = part_of(there, "month") == part_of(own, "month")
    assert (same | (np.abs(days) <= 3)).all()
    # A month has every weekday four times at least, and one of them is within six days.
    assert same.all()


def test_what_moments_tell_is_found_and_nothing_else() -> None:
    found = find_dated(Table(visits(), **ROLES))
    assert {name: str(own) for name, own in found.items()} == {
        "age": "years from born to 2024-06-30, rounded down",
        "age_then": "years from born to came, rounded down",
        "nights": "days from came to left, rounded down",
        "month": "month of came",
        "weekday": "weekday of came by its name",
        "early": "hour of came by its name",
        "years_ago": str(found["years_ago"]),
    }
    assert found["years_ago"].start == "came"
    assert found["years_ago"].tells.startswith("years of 365")


def test_what_holds_by_chance_is_not_found() -> None:
    frame = visits()
    mixed = frame.with_columns(pl.col("age", "month", "weekday", "nights", "early").shuffle(seed=3))
    assert not {"age", "month", "weekday", "nights", "early"} & set(find_dated(Table(mixed, **ROLES)))
    # Always the same month: a name that nearly everybody has needs no moment.
    same = frame.with_columns(weekday=pl.lit("Monday"), early=pl.lit(True))
    assert not {"weekday", "early"} & set(find_dated(Table(same, **ROLES)))
    rare = frame.with_columns(early=pl.Series(np.arange(len(frame)) > 5))
    assert "early" not in find_dated(Table(rare, **ROLES))


def test_one_row_in_a_hundred_may_be_wrong_and_three_may_not() -> None:
    frame = visits()
    rng = np.random.default_rng(0)
    for share, there in ((0.005, True), (0.03, False)):
        wrong = pl.Series(rng.random(len(frame)) < share)
        off = frame.with_columns(age=pl.col("age") + wrong.cast(pl.Int64) * 7)
        assert ("age" in find_dated(Table(off, **ROLES))) == there


def test_the_target_is_never_told_and_a_sensitive_column_only_if_asked() -> None:
    frame = visits()
    table = Table(frame, target="early", favorable=True, sensitive={"age": [40, 60]})
    assert "early" not in find_dated(table)
    assert "age" not in TableEncoder.learn(table).dated
    assert "age" in TableEncoder.learn(table, sensitive_dated=True).dated
    trees = FairTrees(seed=0).fit(table)
    assert "age" in trees.lines_.layout.encoder.dated


@pytest.mark.parametrize("sensitive", ["sex", {"age": [40, 60]}], ids=["sex", "age"])
def test_drawn_rows_keep_to_what_moments_tell(sensitive: Any) -> None:
    frame = visits()
    drawn = FairTrees(seed=0).fit(Table(frame, **{**ROLES, "sensitive": sensitive})).sample(2_000, seed=1)
    assert all(share == 1 for share in kept(frame).values())
    shares = kept(drawn)
    # Who is at an end of a remembered range may have no such age.
    assert all(share >= (0.98 if "age" in name else 0.99) for name, share in shares.items()), shares
    assert (drawn["left"] >= drawn["came"]).all()
    assert (drawn["came"].dt.weekday() < 7).mean() > 0.99
    assert drawn["came"].dt.hour().is_between(7, 18).mean() > 0.95
    assert abs(drawn["born"].null_count() / len(drawn) - 0.05) < 0.03
    means = frame["nights"].mean(), drawn["nights"].mean()
    assert means[0] == pytest.approx(means[1], rel=0.15)
    of_mondays = [
        float((rows["again"] == "yes").filter(rows["weekday"] == "Monday").mean())
        for rows in (frame, drawn)  # type: ignore[arg-type]
    ]
    assert of_mondays[0] == pytest.approx(of_mondays[1], abs=0.12)


def test_networks_keep_to_it_as_well_and_rows_for_files_do() -> None:
    model = PlainVAE(seed=0, epochs=1).fit(Table(visits(), **ROLES))
    shares = kept(model.sample(500, seed=0))
    assert all(share >= (0.95 if "age" in name else 0.99) for name, share in shares.items()), shares
    encoder = TableEncoder.learn(Table(visits(), **ROLES))
    states = np.ascontiguousarray(
        encoder.encode(Table(visits(), **ROLES))[np.random.default_rng(0).permutation(1_200)].T
    )
    rng = np.random.default_rng(0)
    states[encoder.index("came")] = rng.permutation(states[encoder.index("came")])
    batch = pl.DataFrame(encoder.decode_batch(states, np.random.default_rng(0)))
    shares = kept(batch.with_columns(pl.col("came", "left", "born").cast(pl.Datetime("us"))))
    assert min(share for name, share in shares.items() if "age" not in name) > 0.99, shares


def test_what_is_asked_for_stays_and_the_rest_follows() -> None:
    model = FairTrees(seed=0).fit(Table(visits(), **ROLES))
    for where in ({"age": 44}, {"weekday": "Friday"}, {"nights": 2}):
        drawn = model.sample(300, seed=0, where=where)
        (name, value), shares = next(iter(where.items())), kept(drawn)
        assert (drawn[name].cast(pl.String) == str(value)).all()
        assert shares[name] >= 0.98, (where, shares)
        assert min(shares.values()) >= 0.95, (where, shares)


def test_a_model_file_keeps_it_and_refuses_what_cannot_be(tmp_path: Any) -> None:
    encoder = TableEncoder.learn(Table(visits(), **ROLES))
    again = TableEncoder.from_json(encoder.schema, encoder.to_json())
    assert again.dated == encoder.dated
    assert encoder.dated["weekday"].moves
    assert not encoder.dated["nights"].moves
    for name, change in (
        ("age", {"end": "noise"}),
        ("age", {"start": None}),
        ("age", {"tells": "moons"}),
        ("weekday", {"levels": [9] * 6}),
        ("weekday", {"levels": []}),
        ("month", {"offset": 0, "levels": [0] * 12}),
        ("nights", {"start": "left", "end": "left"}),
        ("month", {"offset": 10**30}),
        ("month", {"turned": 12}),
        ("weekday", {"first": -(10**30)}),
    ):
        body = encoder.to_json()
        body[encoder.index(name)]["dated"].update(change)
        with pytest.raises(DataError):
            TableEncoder.from_json(encoder.schema, body)
    schema = Table(visits(), **ROLES).schema
    with pytest.raises(ValueError, match="target"):
        check_dated({"again": Dated(tells="month", end="came", first=1, levels=(0, 1))}, schema, ())
    fine = schema.model_copy(
        update={"columns": tuple(c.model_copy(update={"decimals": None}) for c in schema.columns)}
    )
    with pytest.raises(ValueError, match="no number or name"):
        check_dated({"years_ago": Dated(tells="weeks", start="came", end=0)}, fine, ())
    with pytest.raises(ValueError, match="born"):
        check_dated({"age": Dated(tells="years", start="born", end=0)}, schema, {"age"})


def test_a_visit_that_is_moved_takes_its_end_along() -> None:
    schema = Table(visits(), **ROLES).schema
    came, left = datetime(2022, 5, 31, 9), datetime(2022, 6, 2, 9)
    values = {
        "came": pl.Series("came", [came], dtype=pl.Datetime("us")),
        "left": pl.Series("left", [left], dtype=pl.Datetime("us")),
        "month": pl.Series("month", [9]),
    }
    dated = {"month": Dated(tells="month", end="came", moves=True)}
    found = agreed(values, dated, schema, (), {"left": "came"})
    assert found["came"][0] == datetime(2022, 9, 30, 9)
    assert found["left"][0] - found["came"][0] == timedelta(days=2)
    stays = agreed(values, dated, schema, {"came"}, {"left": "came"})
    assert stays["month"][0] == 5
    assert stays["came"][0] == came
    assert agreed(values, dated, schema, {"came", "month"}, {})["month"][0] == 9


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.datetimes(datetime(1941, 1, 1), datetime(1999, 1, 1)), min_size=3, max_size=30),
    st.sampled_from([*PARTS, *SPANS]),
    st.integers(0, 2**32 - 1),
)
def test_whatever_is_drawn_agrees_in_the_end(born: list[datetime], tells: str, seed: int) -> None:
    """Of any moments and any numbers, with nothing held fast, no row is left in which they contradict each other."""
    rng = np.random.default_rng(seed)
    frame = visits(200)
    schema = Table(frame, **ROLES).schema
    wide = {"minimum": -1_000_000_000, "maximum": 1_000_000_000}
    columns = [c.model_copy(update=wide) if c.name == "age" else c for c in schema.columns]
    schema = schema.model_copy(update={"columns": tuple(columns)})
    values = {
        "born": pl.Series("born", born, dtype=pl.Datetime("us")).dt.truncate("1d"),
        "age": pl.Series("age", rng.integers(-5, 90, len(born))),
    }
    end = int(microseconds(pl.Series([TODAY]))[0])
    own = Dated(tells=tells, end="born", moves=True) if tells in PARTS else Dated(
        tells=tells, start="born", end=end, moves=True
    )  # fmt: skip
    found = agreed(values, {"age": own}, schema, (), {})
    told = own.values({"born": microseconds(found["born"])}, 1.0)
    np.testing.assert_array_equal(told, found["age"].to_numpy())
    low, high = (pl.Series([end]).cast(pl.Datetime("us"))[0] for end in schema["born"].bounds)
    assert found["born"].is_between(min(low, values["born"].min()), max(high, values["born"].max())).all()  # type: ignore[type-var]


def one_row(**values: Any) -> dict[str, pl.Series]:
    return {
        name: pl.Series(name, [value], dtype=pl.Datetime("us") if isinstance(value, datetime) else None)
        for name, value in values.items()
    }


def test_of_two_that_say_where_a_moment_lies_one_is_kept_and_the_other_computed() -> None:
    schema = Table(visits(), **ROLES).schema
    end = int(microseconds(pl.Series([TODAY]))[0])
    dated = {
        "noise": Dated(tells="year", end="born", offset=-1940, moves=True),
        "age": Dated(tells="years", start="born", end=end, moves=True),
    }
    drawn = one_row(born=datetime(1960, 3, 1), age=44, noise=10)
    found = agreed(drawn, dated, schema, (), {})
    assert (found["born"][0], found["age"][0], found["noise"][0]) == (datetime(1980, 3, 1), 44, 40)
    held = agreed(drawn, dated, schema, {"noise"}, {})
    assert (held["born"][0], held["age"][0], held["noise"][0]) == (datetime(1950, 3, 1), 74, 10)


def test_a_month_does_not_make_anybody_older_whose_age_was_asked_for() -> None:
    schema = Table(visits(), **ROLES).schema
    end = int(microseconds(pl.Series([TODAY]))[0])
    dated = {
        "age": Dated(tells="years", start="born", end=end, moves=True),
        "month": Dated(tells="month", end="born", moves=True),
    }
    found = agreed(one_row(born=datetime(1980, 6, 15), age=44, month=7), dated, schema, {"age"}, {})
    assert (found["born"][0], found["age"][0], found["month"][0]) == (datetime(1979, 7, 15), 44, 7)


def test_of_two_moments_the_one_that_others_are_told_from_stays() -> None:
    schema = Table(visits(), **ROLES).schema
    dated = {"nights": Dated(tells="days", start="came", end="left")}
    came, left = datetime(2022, 5, 31, 9), datetime(2022, 6, 2, 12)
    found = agreed(one_row(came=came, left=left, nights=5), dated, schema, {"nights"}, {"left": "came"})
    assert found["came"][0] == came
    assert found["left"][0] == datetime(2022, 6, 5, 12)


def test_a_day_of_the_week_on_which_nobody_comes_is_not_drawn() -> None:
    frame = visits().filter(pl.col("weekday") != "Wednesday")
    drawn = FairTrees(seed=0).fit(Table(frame, **ROLES)).sample(1_000, seed=0)
    assert (drawn["came"].dt.weekday() == 3).mean() < 0.01
    assert kept(drawn)["weekday"] > 0.99


def test_a_number_that_nearly_all_share_needs_no_moment() -> None:
    frame = visits().with_columns(pl.col("came").dt.truncate("1d"))
    turn = np.arange(len(frame))
    few = frame.with_columns(noise=pl.Series(np.where(turn % 150 == 0, turn + 1, 0)))
    assert Table(few, **ROLES).schema["noise"].kind == "integer"
    assert "noise" not in find_dated(Table(few, **ROLES))  # though midnight is hour 0


def test_years_and_weeks_may_begin_anywhere() -> None:
    """A fiscal year from April, weeks from Sunday on, with 0 or 1 as their first number."""
    a_day_later = pl.col("came", "left") + pl.duration(
        days=1
    )  # so that they come on Sundays, and on no Mondays
    frame = (
        visits()
        .with_columns(a_day_later)
        .with_columns(
            fiscal=(pl.col("came").dt.month() - 4) % 12 // 3 + 1,
            fiscal_month=(pl.col("came").dt.month() + 8) % 12,
            from_sunday=pl.col("came").dt.weekday() % 7,
            noise=pl.col("came").dt.hour(),
        )
    )

    def told(rows: pl.DataFrame) -> list[float]:
        month, weekday = rows["came"].dt.month().cast(pl.Int64), rows["came"].dt.weekday().cast(pl.Int64)
        agree = (
            (month - 4) % 12 // 3 + 1 == rows["fiscal"],
            (month + 8) % 12 == rows["fiscal_month"],
            weekday % 7 == rows["from_sunday"],
            rows["came"].dt.hour() == rows["noise"],
        )
        return [float(one.mean()) for one in agree]  # type: ignore[arg-type]

    table = Table(frame, **ROLES)
    found = {name: str(own) for name, own in find_dated(table).items()}
    assert found["fiscal"] == "quarter of came counted on by 3"
    assert found["fiscal_month"] == "month of came counted on by 9 - 1"
    assert found["noise"] == "hour of came"
    assert told(frame) == [1, 1, 1, 1]
    drawn = FairTrees(seed=0).fit(table).sample(1_000, seed=0)
    assert min(told(drawn)) > 0.99, told(drawn)
    # Where only the turned number is there to go by, the moment is moved to it.
    alone = Table(frame.drop("weekday", "month", "fiscal", "early", "noise"), **ROLES)
    drawn = FairTrees(seed=0).fit(alone).sample(1_000, seed=0)
    month, weekday = drawn["came"].dt.month().cast(pl.Int64), drawn["came"].dt.weekday().cast(pl.Int64)
    assert ((month + 8) % 12 == drawn["fiscal_month"]).mean() > 0.99  # type: ignore[operator]
    assert (weekday % 7 == drawn["from_sunday"]).mean() > 0.99  # type: ignore[operator]
    assert (drawn["from_sunday"] == 0).mean() == pytest.approx((frame["from_sunday"] == 0).mean(), abs=0.05)

    def of_tuesdays(rows: pl.DataFrame) -> float:
        yes, tuesday = rows["again"] == "yes", rows["from_sunday"] == 2
        return float(yes.filter(tuesday).mean() - yes.filter(~tuesday).mean())  # type: ignore[operator]

    assert of_tuesdays(frame) > 0.25
    assert of_tuesdays(drawn) > 0.15
