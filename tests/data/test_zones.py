"""Clocks of a place: what they say, what they tell of other columns, and how texts with offsets come and go."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth import FairTrees, Table
from fairsynth.data.dated import STRETCH, Dated, agreed, check_dated, microseconds
from fairsynth.data.dated_search import find_dated
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.schema import Column
from fairsynth.data.zones import ZONES, by_clock, knows_zone, of_clock, zone_of_dtype, zone_of_offsets
from fairsynth.errors import DataError
from fairsynth.generators.conditions import canonical_value

HOUR = 3_600_000_000
MOMENTS = st.lists(st.datetimes(datetime(1980, 1, 1), datetime(2035, 1, 1)), min_size=1, max_size=20)
BERLIN = ZoneInfo("Europe/Berlin")
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def in_microseconds(moments: list[datetime]) -> np.ndarray:
    """Return moments without a zone as microseconds since 1970, as if in UTC."""
    return pl.Series(moments, dtype=pl.Datetime("us")).to_physical().to_numpy()


@given(moments=MOMENTS, zone=st.sampled_from(ZONES))
def test_clocks_say_what_zoneinfo_says(moments: list[datetime], zone: str) -> None:
    there = [m.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) for m in moments]
    assert by_clock(in_microseconds(moments), zone).tolist() == in_microseconds(there).tolist()


@given(moments=MOMENTS, zone=st.sampled_from(ZONES))
def test_a_time_on_the_clock_is_had_at_the_moment_given_for_it(moments: list[datetime], zone: str) -> None:
    said = by_clock(in_microseconds(moments), zone)
    assert (by_clock(of_clock(said, zone), zone) == said).all()
    # Of an hour that comes twice it is the first.
    assert (of_clock(said, zone) <= in_microseconds(moments)).all()


def test_an_hour_that_clocks_skip_is_the_next_one() -> None:
    skipped = in_microseconds([datetime(2026, 3, 29, 2, 30)])
    assert by_clock(of_clock(skipped, "Europe/Berlin"), "Europe/Berlin") == skipped + HOUR
    assert of_clock(skipped, None) is skipped


def test_zones_are_read_off_dtypes_of_all_three_libraries() -> None:
    assert zone_of_dtype("datetime64[ns, Europe/Berlin]") == "Europe/Berlin"
    assert zone_of_dtype("timestamp[us, tz=America/New_York]") == "America/New_York"
    assert str(pl.Datetime("us", "Asia/Tokyo")).startswith("Datetime(")
    assert (
        zone_of_dtype("datetime64[ns, UTC]")
        is zone_of_dtype("datetime64[us]")
        is zone_of_dtype("int64")
        is None
    )
    assert zone_of_dtype("timestamp[us, tz=Moon/Tranquility]") is None
    assert knows_zone("Asia/Tokyo") and not knows_zone("Moon/Tranquility")


@pytest.mark.parametrize("kind", ["polars", "pandas", "arrow"])
def test_columns_know_the_clock_that_frames_had(kind: str) -> None:
    frame = berlin_visits(60).select("came", sex=pl.Series(["f", "m"] * 30), again=pl.Series([0, 0, 1] * 20))
    own: Any = {"polars": frame, "pandas": frame.to_pandas(), "arrow": frame.to_arrow()}[kind]
    assert Table(own, target="again", sensitive="sex").schema["came"].clock == "Europe/Berlin"


@given(moments=st.lists(st.datetimes(datetime(2020, 1, 1), datetime(2026, 1, 1)), min_size=40, max_size=60))
@settings(max_examples=25)
def test_the_zone_of_texts_is_one_that_has_all_their_offsets(moments: list[datetime]) -> None:
    for zone in ("Europe/Paris", "America/New_York", "Asia/Kolkata", "America/St_Johns"):
        texts = [m.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).isoformat() for m in moments]
        found = zone_of_offsets(pl.Series(texts), pl.Series(moments, dtype=pl.Datetime("us")))
        own = in_microseconds(moments)
        assert found is not None and (by_clock(own, found) == by_clock(own, zone)).all()


def test_offsets_of_no_place_have_no_zone() -> None:
    moments = pl.Series([datetime(2024, 1, 1), datetime(2024, 1, 1), datetime(2024, 7, 1)])

    def of(*offsets: str) -> str | None:
        return zone_of_offsets(pl.Series([f"2024-01-01T00:00{o}" for o in offsets]), moments)

    assert of("+01:00", "-05:00", "+02:00") is None
    assert of("+0100", "+0100", "+0200") == "Europe/Berlin"
    assert of("+00:00", "Z", "+00:00") is None
    assert of("+07:00", "+07:00", "+07:00") == "Etc/GMT-7"
    assert of("-03:00", "-03:00", "-03:00") == "Etc/GMT+3"
    assert of("+05:30", "+05:30", "+05:30") == "Asia/Kolkata"


def berlin_visits(n: int = 1_500, seed: int = 0) -> pl.DataFrame:
    """Return visits of two years by clocks of Berlin, and what people there say of them."""
    rng = np.random.default_rng(seed)
    came = datetime(2023, 1, 1, tzinfo=UTC) + pl.Series(rng.integers(0, 730 * 24 * 60, n)) * timedelta(
        minutes=1
    )
    came = came.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone("Europe/Berlin")
    left = came + pl.Series(rng.gamma(2, 1_800, n).astype(int)) * timedelta(minutes=1)
    hour = came.dt.hour()
    return pl.DataFrame({"came": came, "left": left}).with_columns(
        hour=hour,
        weekday=came.dt.weekday().replace_strict(dict(enumerate(WEEKDAYS, 1))),
        shift=pl.Series(
            np.where(hour < 6, "night", np.where(hour < 14, "early", np.where(hour < 22, "late", "night")))
        ),
        nights=(left.dt.date() - came.dt.date()).dt.total_days(),
        year=came.dt.year(),
        sex=pl.Series(rng.choice(["f", "m"], n)),
        again=pl.Series(np.where(rng.normal(0, 1, n) + (hour < 12).to_numpy() > 1, "yes", "no")),
    )


ROLES: dict[str, Any] = {"target": "again", "favorable": "no", "sensitive": "sex"}


def agreement(frame: pl.DataFrame, came: pl.Series, left: pl.Series) -> dict[str, float]:
    """Return the share of rows in which what is said of a visit is so by its clocks, by Polars' own calendar."""
    hour = came.dt.hour()
    shift = np.where(hour < 6, "night", np.where(hour < 14, "early", np.where(hour < 22, "late", "night")))
    both = {
        "hour": hour == frame["hour"],
        "weekday": came.dt.weekday().replace_strict(dict(enumerate(WEEKDAYS, 1))) == frame["weekday"],
        "shift": pl.Series(shift) == frame["shift"],
        "nights": (left.dt.date() - came.dt.date()).dt.total_days() == frame["nights"],
        "year": came.dt.year() == frame["year"],
    }
    return {name: float(np.mean(own.to_numpy())) for name, own in both.items()}


def test_drawn_rows_keep_to_the_clocks_of_their_zone() -> None:
    frame = berlin_visits()
    assert min(agreement(frame, frame["came"], frame["left"]).values()) == 1.0
    utc = frame["came"].dt.convert_time_zone("UTC")
    assert (utc.dt.hour() == frame["hour"]).mean() == 0, "or the zone would not matter"
    table = Table(frame, **ROLES)
    found = find_dated(table)
    assert set(found) == {"hour", "weekday", "shift", "nights", "year"}
    assert str(found["hour"]) == "hour of came (Europe/Berlin)"
    assert str(found["nights"]) == "nights from came to left (Europe/Berlin)"
    drawn = FairTrees(calibrate=False, seed=0).fit(table).sample(1_000, seed=1)
    assert drawn["came"].dtype == frame["came"].dtype
    share = agreement(drawn, drawn["came"], drawn["left"])
    assert min(share.values()) >= 0.995, share


@pytest.mark.parametrize("offset", ["%:z", "%z"])
def test_texts_with_offsets_are_drawn_by_the_clocks_of_their_zone(offset: str, tmp_path: Path) -> None:
    frame = berlin_visits()
    texts = frame.with_columns(pl.col("came", "left").dt.to_string(f"%Y-%m-%dT%H:%M:%S{offset}"))
    texts.write_csv(tmp_path / "visits.csv")
    model = FairTrees(calibrate=False, seed=0).fit(Table(tmp_path / "visits.csv", **ROLES))
    model.save(tmp_path / "m.fairsynth")
    drawn = FairTrees.load(tmp_path / "m.fairsynth").sample(1_000, seed=1)
    form = f"%Y-%m-%dT%H:%M:%S{offset}"
    moments = [[datetime.fromisoformat(text) for text in drawn[name]] for name in ("came", "left")]
    for own, name in zip(moments, ("came", "left"), strict=True):
        there = [moment.astimezone(BERLIN) for moment in own]
        assert [m.utcoffset() for m in own] == [m.utcoffset() for m in there]
        assert pl.Series(there).dt.to_string(form).to_list() == drawn[name].to_list()
    came, left = (pl.Series([m.replace(tzinfo=None) for m in own]) for own in moments)
    share = agreement(drawn, came, left)
    assert min(share.values()) >= 0.995, share


def test_a_schema_names_a_zone_that_there_is() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        Column(name="x", kind="datetime", format="%Y-%m-%dT%H:%M+00:00", tz="Moon/Tranquility")
    bounds: dict[str, Any] = {
        "minimum": datetime(2020, 1, 1),
        "maximum": datetime(2021, 1, 1),
        "unit": "minute",
    }
    own = Column(name="x", kind="datetime", format="%Y-%m-%dT%H:%M+00:00", tz="Asia/Tokyo", **bounds)
    assert own.clock == "Asia/Tokyo"


def class_of(age: int) -> str:
    """Return the class of an age."""
    return "to 29" if age < 30 else "30-49" if age < 50 else "50-69" if age < 70 else "70 up"


def stretches(n: int = 1_200, seed: int = 0) -> pl.DataFrame:
    """Return people with a birth, a visit, classes of their age at it and in all, and when they came."""
    rng = np.random.default_rng(seed)
    born = datetime(1930, 1, 1) + pl.Series(rng.integers(0, 365 * 70, n)) * timedelta(days=1)
    came = datetime(2019, 1, 1) + pl.Series(rng.integers(0, 365 * 5, n)) * timedelta(days=1)
    frame = pl.DataFrame({"born": born, "came": came})
    birthday = pl.col("came").dt.strftime("%m%d") < pl.col("born").dt.strftime("%m%d")
    age = frame.select((pl.col("came").dt.year() - pl.col("born").dt.year() - birthday).alias("age"))["age"]
    return frame.with_columns(
        group=age.replace_strict({a: class_of(a) for a in range(150)}),
        form=pl.when(came < datetime(2020, 3, 17)).then(pl.lit("paper")).when(came < datetime(2022, 6, 1))
        .then(pl.lit("web")).otherwise(pl.lit("app")),
        sex=pl.Series(rng.choice(["f", "m"], n)),
        again=pl.Series(np.where(rng.normal(0, 1, n) + age.to_numpy() / 40 > 2, "yes", "no")),
    )  # fmt: skip


def in_their_stretch(frame: pl.DataFrame) -> tuple[float, float]:
    """Return the shares of rows whose class of ages, and whose form, fit their dates."""
    age = [
        c.year - b.year - ((c.month, c.day) < (b.month, b.day))
        for b, c in frame.select("born", "came").iter_rows()
    ]
    group = [class_of(a) for a in age]
    form = [
        "paper" if c < datetime(2020, 3, 17) else "web" if c < datetime(2022, 6, 1) else "app"
        for c in frame["came"]
    ]
    return float((pl.Series(group) == frame["group"]).mean()), float(
        (pl.Series(form) == frame["form"]).mean()
    )


def test_names_of_ages_and_of_stretches_of_time_fit_the_dates() -> None:
    frame = stretches()
    assert in_their_stretch(frame) == (1.0, 1.0)
    table = Table(frame, **ROLES)
    found = find_dated(table)
    assert found["group"].tells == "years" and found["group"].of == ("born", "came")
    assert found["form"].tells == STRETCH and str(found["form"]) == "3 stretches of came"
    cuts = [datetime(1970, 1, 1) + timedelta(microseconds=cut) for cut in found["form"].cuts]
    assert abs(cuts[0] - datetime(2020, 3, 17)) < timedelta(days=20)
    assert abs(cuts[1] - datetime(2022, 6, 1)) < timedelta(days=20)
    drawn = FairTrees(calibrate=False, seed=0).fit(table).sample(2_000, seed=1)
    assert in_their_stretch(drawn)[0] == 1.0
    assert in_their_stretch(drawn)[1] >= 0.98


def test_a_class_of_ages_goes_by_the_age_if_there_is_one() -> None:
    frame = stretches()
    age = [
        c.year - b.year - ((c.month, c.day) < (b.month, b.day))
        for b, c in frame.select("born", "came").iter_rows()
    ]
    found = find_dated(Table(frame.with_columns(age=pl.Series(age)), **ROLES))
    assert "age" in found and "group" not in found


@given(
    came=st.lists(st.datetimes(datetime(2019, 2, 1), datetime(2023, 11, 30)), min_size=1, max_size=20),
    places=st.lists(st.integers(0, 2), min_size=20, max_size=20),
    moves=st.booleans(),
)
def test_moments_go_to_the_stretch_that_is_asked_for(
    came: list[datetime], places: list[int], moves: bool
) -> None:
    table = Table(stretches(400), **ROLES)
    cuts = tuple(int(at) for at in in_microseconds([datetime(2020, 3, 17), datetime(2022, 6, 1)]))
    own = Dated(tells=STRETCH, end="came", levels=(1, 2, 0), cuts=cuts, moves=moves)
    column = table.schema["form"]
    levels = pl.Series(
        "form", [column.levels[at] for at in places[: len(came)]], dtype=pl.Enum(column.levels)
    )
    values = {"came": pl.Series("came", came, dtype=pl.Datetime("us")).dt.truncate("1d"), "form": levels}
    held = agreed(values, {"form": own}, table.schema, ["form"], {})
    assert held["form"].equals(levels)
    made = own.values({"came": microseconds(held["came"])}, 1.0)
    low, high = (int(end) for end in table.schema["came"].bounds)
    there = microseconds(held["came"])
    assert (there >= low).all() and (there <= high).all()
    assert (made == levels.to_physical().to_numpy()).all()


def test_model_files_that_name_no_zone_or_no_stretch_are_refused() -> None:
    own = {
        "form": pl.when(pl.col("came").dt.date() < date(2023, 8, 9))
        .then(pl.lit("old"))
        .otherwise(pl.lit("new"))
    }
    encoder = TableEncoder.learn(Table(berlin_visits(600).drop("year").with_columns(**own), **ROLES))
    assert TableEncoder.from_json(encoder.schema, encoder.to_json()).dated == encoder.dated
    for name, change in (
        ("hour", {"clocks": {"came": "Moon/Tranquility"}}),
        ("hour", {"clocks": {"left": "Europe/Berlin"}}),
        ("form", {"cuts": []}),
        ("form", {"cuts": [5, 3], "levels": [0, 1, 0]}),
        ("form", {"cuts": [2**60]}),
        ("form", {"first": 1}),
    ):
        body = encoder.to_json()
        body[encoder.index(name)]["dated"].update(change)
        with pytest.raises(DataError):
            TableEncoder.from_json(encoder.schema, body)


def test_stretches_have_levels_of_their_column() -> None:
    table = Table(stretches(400), **ROLES)
    check_dated({"form": Dated(tells=STRETCH, end="came", levels=(0, 1), cuts=(0,))}, table.schema, ())
    with pytest.raises(ValueError, match="levels"):
        check_dated({"form": Dated(tells=STRETCH, end="came", levels=(0, 9), cuts=(0,))}, table.schema, ())


@pytest.mark.parametrize("kind", ["polars", "pandas", "arrow"])
def test_files_have_the_zone_that_the_frame_had(kind: str, tmp_path: Path) -> None:
    frame = berlin_visits(300)
    own: Any = {"polars": frame, "pandas": frame.to_pandas(), "arrow": frame.to_arrow()}[kind]
    FairTrees(calibrate=False, seed=0).fit(Table(own, **ROLES)).sample_to(
        tmp_path / "rows.parquet", 200, seed=0
    )
    field = pyarrow.parquet.read_schema(tmp_path / "rows.parquet").field("came")
    assert field.type.tz == "Europe/Berlin"


def midnights(zone: str, n: int = 600, seed: int = 0) -> pl.DataFrame:
    """Return the first moments of days of a zone, of which a few have no midnight, and the weekdays."""
    rng = np.random.default_rng(seed)
    days = pl.Series("day", np.datetime64("2015-01-01", "us") + rng.integers(0, 1_500, n).astype("m8[D]"))
    first = pl.Series("day", of_clock(days.to_physical().to_numpy(), zone)).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame({"day": first.dt.convert_time_zone(zone)}).with_columns(
        weekday=days.dt.weekday(),
        sex=pl.Series(rng.choice(["f", "m"], n)),
        again=pl.Series(np.where(rng.normal(0, 1, n) + (days.dt.weekday() < 3).to_numpy() > 1, "yes", "no")),
    )


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kathmandu", "America/Sao_Paulo", "Asia/Beirut"])
@pytest.mark.parametrize("kind", ["polars", "pandas", "arrow", "text"])
def test_midnights_of_a_zone_are_days(zone: str, kind: str, tmp_path: Path) -> None:
    frame = midnights(zone)
    text = frame.with_columns(pl.col("day").dt.to_string("%Y-%m-%d %H:%M:%S%:z"))
    own: Any = {"polars": frame, "pandas": frame.to_pandas(), "arrow": frame.to_arrow(), "text": text}[kind]
    table = Table(own, **ROLES)
    column = table.schema["day"]
    assert column.unit == "day" and column.day_zone is not None and column.clock is None
    assert table.frame["day"].equals(frame["day"].dt.date().cast(pl.Datetime("us")))
    back = table.native()["day"]
    assert pl.Series(back).to_list() == pl.Series(own["day"]).to_list()
    model = FairTrees(calibrate=False, seed=0).fit(table)
    drawn = model.sample_table(400, seed=1)
    assert (drawn.frame["day"].dt.truncate("1d") == drawn.frame["day"]).all()
    assert (drawn.frame["day"].dt.weekday() == drawn.frame["weekday"]).mean() >= 0.99
    for name in ("rows.csv", "rows.parquet"):
        model.sample_to(tmp_path / name, 400, seed=1)
        assert Table(tmp_path / name, schema=table.schema).frame.equals(drawn.frame)


def test_midnights_of_utc_are_hours_elsewhere() -> None:
    frame = midnights("UTC").with_columns(pl.col("day").dt.convert_time_zone("Asia/Tokyo"))
    table = Table(frame, **ROLES)
    assert table.schema["day"].unit == "hour" and table.schema["day"].clock == "Asia/Tokyo"
    assert pl.Series(table.native()["day"]).equals(frame["day"])
    assert table.schema["day"].day_zone is None


def test_a_missing_day_stays_missing_and_another_time_is_read() -> None:
    frame = midnights("Europe/Berlin")
    table = Table(frame.with_columns(pl.when(pl.int_range(pl.len()) % 9 != 0).then(pl.col("day"))), **ROLES)
    assert table.schema["day"].unit == "day" and table.frame["day"].null_count() == 67
    assert pl.Series(table.native()["day"]).null_count() == 67
    later = table.align(frame.with_columns(pl.col("day") + timedelta(hours=5)))
    assert (later.frame["day"].dt.hour() == 5).mean() > 0.97, "but at the ends, and where clocks change"


def test_a_moment_that_is_asked_for_is_one_by_the_clock_of_its_column() -> None:
    schema = Table(berlin_visits(), **ROLES).schema
    noon = in_microseconds([datetime(2023, 5, 1, 10)])[0]
    for asked in (
        datetime(2023, 5, 1, 12), "2023-05-01 12:00", np.datetime64("2023-05-01T12:00"),
        datetime(2023, 5, 1, 10, tzinfo=UTC), "2023-05-01T06:00-04:00", datetime(2023, 5, 1, 12, tzinfo=BERLIN),
    ):  # fmt: skip
        assert canonical_value(asked, schema, "came") == noon
    days = Table(midnights("Europe/Berlin"), **ROLES).schema
    day = in_microseconds([datetime(2016, 5, 1)])[0]
    for asked in (
        date(2016, 5, 1), "2016-05-01", datetime(2016, 5, 1), datetime(2016, 5, 1, tzinfo=BERLIN),
        datetime(2016, 4, 30, 22, tzinfo=UTC),
    ):  # fmt: skip
        assert canonical_value(asked, days, "day") == day
    with pytest.raises(DataError, match="whole days"):
        canonical_value(datetime(2016, 5, 1, 7, tzinfo=BERLIN), days, "day")
