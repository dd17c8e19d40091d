"""Columns that follow from others are found, and follow in drawn rows as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import fairsynth as fs
from fairsynth.cli.app import app
from fairsynth.data.derived import Derived, check_derived, find_derived
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.frames import to_arrow
from fairsynth.data.number_states import NumberStates
from fairsynth.data.schema import grid_step
from fairsynth.errors import DataError
from fairsynth.generators.tree_rows import draw_rows

N = 600


def table_of(columns: dict[str, Any], **roles: Any) -> fs.Table:
    n = len(next(iter(columns.values())))
    frame = pl.DataFrame({**columns, "s": ["a", "b"] * (n // 2), "y": [0, 0, 1, 1] * (n // 4)})
    return fs.Table(frame, **{"target": "y", "favorable": 1, "sensitive": "s", **roles})


def found_in(columns: dict[str, Any], **roles: Any) -> dict[str, str]:
    table = table_of(columns, **roles)
    return {own.name: str(own) for own in find_derived(table, {c.name: grid_step(c) for c in table.schema})}


def people(seed: int = 0, n: int = N) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "age": rng.integers(18, 66, n),
        "educ": rng.integers(6, 19, n),
        "height": np.round(rng.normal(1.72, 0.1, n), 2),
        "weight": np.round(rng.normal(75, 12, n), 1),
        "rent": np.round(rng.lognormal(6.5, 0.4, n), 2),
        "heat": np.round(rng.lognormal(4.5, 0.5, n), 2),
    }


def followed(table: fs.Table) -> dict[str, np.ndarray]:
    own = dict(people())
    own["exper"] = np.asarray(own["age"] - own["educ"] - 6)
    own["bmi"] = np.round(own["weight"] / own["height"] ** 2, 1)
    return own


# --------------------------------------------------------------------------------------------- what is found
def test_sums_differences_products_ratios_and_powers_are_found() -> None:
    own = people()
    own["cost"] = np.round(own["rent"] + own["heat"], 2)
    own["exper"] = own["age"] - own["educ"] - 6
    own["bmi"] = np.round(own["weight"] / own["height"] ** 2, 1)
    own["age2"] = own["age"] ** 2
    own["burden"] = own["heat"] / own["rent"] * 100
    found = found_in(own)
    assert found["exper"] == "age - educ - 6"
    assert found["cost"] == "rent + heat"
    assert found["age2"] == "age^2"
    assert found["bmi"] == "weight · height^-2"
    assert found["burden"] == "100 · heat · rent^-1"
    assert len(found) == 5


@settings(max_examples=25, deadline=None)
@given(
    weights=st.lists(st.integers(-9, 9).filter(bool), min_size=1, max_size=4),
    constant=st.integers(-50, 50),
    seed=st.integers(0, 999),
)
def test_any_whole_numbered_sum_is_found_to_the_digit(weights: list[int], constant: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = {f"x{k}": rng.integers(0, 1_000, N) for k in range(5)}
    total = sum(w * parts[f"x{k}"] for k, w in enumerate(weights)) + constant
    table = table_of({**parts, "total": total})
    (own,) = find_derived(table, {c.name: grid_step(c) for c in table.schema})
    assert own.name == "total" and own.form == "sum"
    assert dict(zip(own.of, own.weights, strict=True)) == {f"x{k}": w for k, w in enumerate(weights)}
    assert own.constant == constant


def test_what_does_not_follow_is_left_alone() -> None:
    own, rng = people(), np.random.default_rng(1)
    assert found_in(own) == {}
    exper = own["age"] - own["educ"] - 6
    rough = np.where(rng.random(N) < 0.03, exper + 1, exper)
    assert found_in({**own, "exper": rough}) == {}, "three in a hundred do not follow"
    assert found_in({**own, "rare": (rng.random(N) < 0.005) * 1_000}) == {}, (
        "nearly always the same is no relation"
    )
    assert found_in({**own, "few": own["age"] // 10}) == {}, "nor is a column of few values"
    assert found_in({name: values[:80] for name, values in {**own, "exper": exper}.items()}) == {}


def test_some_rows_may_be_wrong() -> None:
    own, rng = people(), np.random.default_rng(1)
    exper = own["age"] - own["educ"] - 6
    wrong = np.where(rng.random(N) < 0.004, 99, exper)
    assert found_in({**own, "exper": wrong}) == {"exper": "age - educ - 6"}


def test_targets_and_sensitive_columns_have_no_part_in_it() -> None:
    own = people()
    own["exper"] = own["age"] - own["educ"] - 6
    assert found_in(own, sensitive={"age": [40]}) == {}
    assert found_in(own, target="educ", favorable=None) == {}
    assert found_in(own, target="exper", favorable=None) == {}
    assert set(found_in(own)) == {"exper"}


def test_amounts_that_people_choose_stay_round() -> None:
    """loan = price · ratio holds as well as ratio = loan / price, but only the loan is a round number."""
    rng = np.random.default_rng(2)
    price = np.round(rng.lognormal(5, 0.4, N) * 1_000)
    loan = np.round(price * rng.uniform(0.3, 1.0, N) / 5_000) * 5_000 + 5_000
    assert set(found_in({"price": price, "loan": loan, "ratio": loan / price})) == {"ratio"}
    assert set(found_in({"price": price, "ratio": loan / price, "loan": loan})) == {"ratio"}


def test_a_rest_that_is_often_nothing_is_drawn_and_the_total_computed() -> None:
    rng = np.random.default_rng(3)
    wage = rng.integers(500, 5_000, N)
    other = np.where(rng.random(N) < 0.7, 0, rng.integers(1, 900, N))
    found = found_in({"total": wage + other, "wage": wage, "other": other})
    assert found in ({"total": "wage + other"}, {"wage": "total - other"})


def test_numbers_that_floats_do_not_hold_are_left_alone() -> None:
    own = people()["age"].astype(np.int64) * 10**16 + 7
    assert found_in({"one": own, "other": own}) == {}


def test_missing_values_have_to_agree() -> None:
    own = {name: values.astype(float) for name, values in people().items()}
    own["educ"][::7] = np.nan
    exper = own["age"] - own["educ"] - 6
    assert found_in({**own, "exper": exper}, kinds={"exper": "integer", "educ": "integer", "age": "integer"})
    exper = np.where(np.arange(N) == 7, 10, exper)
    assert not found_in(
        {**own, "exper": exper}, kinds={"exper": "integer", "educ": "integer", "age": "integer"}
    )


# ------------------------------------------------------------------------------------------- what is drawn
def assert_follows(frame: pl.DataFrame, least: float = 0.99) -> None:
    exper = frame["age"] - frame["educ"] - 6
    assert (exper == frame["exper"]).mean() >= least
    bmi = (frame["weight"] / frame["height"] ** 2).round(1)
    assert ((bmi - frame["bmi"]).abs() < 0.051).mean() >= least


@pytest.fixture(scope="module")
def fitted() -> fs.AuditedTrees:
    table = table_of(followed(None), kinds={"exper": "integer"})  # type: ignore[arg-type]
    return fs.AuditedTrees(seed=0, fairness=fs.Fairness(strength=0.0)).fit(table)


def test_drawn_rows_follow_and_stay_in_range(fitted: fs.AuditedTrees, tmp_path: Path) -> None:
    rows = fitted.sample_table(3_000, seed=0)
    assert_follows(rows.frame)
    low, high = rows.schema["exper"].bounds
    assert rows.frame["exper"].is_between(low, high).all()
    assert {fitted.lines_.layout.encoder.names[j] for j in fitted.lines_.layout.encoder.derived} == {
        "exper",
        "bmi",
    }
    assert fitted.lines_.layout.encoder.summary()["exper"] == "computed: age - educ - 6"
    path = tmp_path / "m.fairsynth"
    fitted.save(path)
    told = CliRunner().invoke(app, ["inspect", str(path)])
    assert told.exit_code == 0 and "  exper = age - educ - 6\n" in told.output
    assert fs.load_generator(path).sample_table(3_000, seed=0).frame.equals(rows.frame)
    student = fs.AuditedTrees().distill(path, rows=2_000)
    assert_follows(student.sample_table(1_000, seed=0).frame)


def test_conditions_are_met_on_both_sides(fitted: fs.AuditedTrees) -> None:
    given_source = fitted.sample_table(300, seed=0, where={"age": 40})
    assert (given_source.frame["age"] == 40).all()
    assert_follows(given_source.frame, 0.98)
    given_own = fitted.sample_table(50, seed=0, where={"exper": 20})
    assert (given_own.frame["exper"] == 20).all()
    assert_follows(given_own.frame, 0.98)
    both = fitted.sample_table(20, seed=0, where={"exper": 20, "educ": 12})
    assert (
        (both.frame["exper"] == 20).all()
        and (both.frame["educ"] == 12).all()
        and (both.frame["age"] == 38).all()
    )


@pytest.mark.slow
def test_a_network_that_knows_no_relation_follows_where_its_value_is_asked_for() -> None:
    table = table_of(followed(None))  # type: ignore[arg-type]
    model = fs.PlainVAE(seed=0, epochs=2).fit(table)
    rows = model.sample_table(40, seed=0, where={"exper": 20}).frame
    assert (rows["exper"] == 20).all() and rows["age"].n_unique() > 3
    assert_follows(rows, 0.9)  # what leaves its range is cut off
    rows = model.sample_table(40, seed=0, where={"bmi": 25}).frame
    assert (rows["bmi"] == 25).all()
    assert ((rows["weight"] / rows["height"] ** 2 - 25).abs() < 0.3).mean() > 0.9, "but for rounding height"


def test_every_part_of_a_relation_can_be_solved_for() -> None:
    known = {"a": np.array([3.0, 5.0]), "b": np.array([2.0, 4.0]), "c": np.array([7.0, 1.0])}
    for form, weights in (("sum", (2.0, -1.5, 0.5)), ("product", (2.0, -1.0, 0.5))):
        own = Derived(name="x", form=form, of=("a", "b", "c"), weights=weights, constant=3.0)  # type: ignore[arg-type]
        given_it = {**known, "x": own.values(known)}
        for name in known:
            np.testing.assert_allclose(own.solved(name, given_it), known[name])


def test_batches_are_the_same_rows(fitted: fs.AuditedTrees) -> None:
    encoder = fitted.lines_.layout.encoder
    states = np.ascontiguousarray(encoder.encode(table_of(followed(None))).T)  # type: ignore[arg-type]
    frame = encoder.decode(states, np.random.default_rng(0))
    batch = encoder.decode_batch(states, np.random.default_rng(0))
    assert batch.equals(to_arrow(frame, encoder.schema).select(batch.schema.names).cast(batch.schema))


def test_batches_of_moments_are_the_same_rows() -> None:
    table = table_of(stays())
    encoder = TableEncoder.learn(table)
    states = np.ascontiguousarray(encoder.encode(table).T)
    frame = encoder.decode(states, np.random.default_rng(0))
    batch = encoder.decode_batch(states, np.random.default_rng(0))
    assert batch.equals(to_arrow(frame, encoder.schema).select(batch.schema.names).cast(batch.schema))
    assert ((frame["went"] - frame["came"]).dt.total_days() == frame["length"]).mean() > 0.99


def test_columns_that_share_a_source_agree_after_it_is_drawn_again() -> None:
    """Where one leaves its range, the source is drawn anew, and what else follows from it has to move along."""
    rng = np.random.default_rng(0)
    salary, bonus = rng.integers(20, 900, N), rng.integers(0, 900, N)
    rare = salary + bonus > 1_000  # nobody earns more, so that many sums of two draws leave the range
    salary, bonus = np.where(rare, salary // 2, salary), np.where(rare, bonus // 3, bonus)
    table = table_of(
        {"salary": salary, "bonus": bonus, "pay": salary + bonus, "ahead": salary - bonus},
        kinds=dict.fromkeys(("salary", "bonus", "pay", "ahead"), "integer"),
    )
    model = fs.AuditedTrees(seed=0, fairness=fs.Fairness(strength=0.0), min_leaf=1_000).fit(table)
    lines = model.lines_
    encoder = lines.layout.encoder
    assert len(encoder.derived) == 2 and len(lines.followers) == 1, "both follow from the one drawn later"
    told: list[list[np.ndarray]] = []

    def label(known: list[np.ndarray], rows: slice, rng: np.random.Generator) -> np.ndarray:
        told.append(known)
        return np.zeros(rows.stop - rows.start, dtype=np.int32)

    n = 5_000
    drawn = draw_rows(lines, model.trees_, np.zeros((n, 1), dtype=np.int64), np.random.default_rng(1), label)
    inside = []
    for column in encoder.derived:
        states, fits = encoder.derived_states(column, dict(enumerate(drawn)))
        inside.append(fits.mean())
        assert (drawn[column] == states).all()
        assert (told[0][column] == lines.bins[column].of_state[states]).all()
    assert min(inside) > 0.99


def of_hundred(n: int = 1200, seed: int = 0) -> fs.Table:
    """Return people whose three parts add up to a hundred; of two of them the largest are rare, each by itself."""
    rng = np.random.default_rng(seed)
    parts = (rng.dirichlet([2, 3, 5], n) * 100).round()
    frame = pl.DataFrame({
        "rent": parts[:, 0], "food": parts[:, 1], "rest": 100 - parts[:, 0] - parts[:, 1],
        "sex": rng.choice(["f", "m"], n), "good": rng.choice(["no", "yes"], n),
    })  # fmt: skip
    return fs.Table(frame, target="good", favorable="yes", sensitive="sex")


@pytest.mark.parametrize("seed", [0, 1])
def test_parts_of_a_hundred_are_a_hundred(seed: int, tmp_path: Path) -> None:
    """Rare values share a wide interval; its numbers are drawn anew where the last part would leave its range."""
    table = of_hundred(seed=seed)
    made = fs.AuditedTrees(seed=0, fairness=fs.Fairness(strength=0.0)).fit(table)
    assert len(made.lines_.layout.encoder.derived) == 1
    drawn = made.sample(20_000, seed=0)
    made.sample_to(tmp_path / "rows.parquet", 20_000, seed=0)
    for rows in (drawn, pl.read_parquet(tmp_path / "rows.parquet")):
        total = rows["rent"] + rows["food"] + rows["rest"]
        assert (total == 100).mean() > 0.9995
        assert rows["rest"].min() >= table.schema["rest"].bounds[0]  # type: ignore[operator]


def test_the_middle_of_an_interval_is_among_what_is_drawn_from_it() -> None:
    table = of_hundred()
    part = TableEncoder.learn(table).states[0]
    assert isinstance(part, NumberStates)
    assert part.atoms
    assert part.n_intervals
    state = len(part.atoms)
    values = part.decode(np.full(4000, state), np.random.default_rng(0), table.schema[part.name])
    middle = part.middles()[state]
    assert middle not in part.atoms
    assert middle == pytest.approx(values.mean(), abs=3)
    rent = table.frame[part.name].to_numpy()
    assert middle == pytest.approx(np.median(rent[~np.isin(rent, part.atoms)]), abs=5)


def test_missing_follows_too() -> None:
    own = {name: values.astype(float) for name, values in followed(None).items()}  # type: ignore[arg-type]
    own["educ"][::5] = np.nan
    own["exper"] = own["age"] - own["educ"] - 6
    table = table_of(own, kinds={"exper": "integer", "educ": "integer", "age": "integer"})
    rows = fs.AuditedTrees(seed=0, fairness=fs.Fairness(strength=0.0)).fit(table).sample_table(1_000, seed=0)
    assert (rows.frame["educ"].is_null() == rows.frame["exper"].is_null()).all()
    assert rows.frame["educ"].null_count() > 100


def test_states_that_others_lead_to_are_their_own() -> None:
    encoder = TableEncoder.learn(table_of(followed(None)))  # type: ignore[arg-type]
    states = encoder.encode(table_of(followed(None)))  # type: ignore[arg-type]
    place = encoder.index("exper")
    found, inside = encoder.derived_states(place, dict(enumerate(states.T)))
    assert (found == states[:, place]).mean() > 0.99 and inside.mean() > 0.99, "but for the ends of ranges"
    place = encoder.index("bmi")
    found, _ = encoder.derived_states(place, dict(enumerate(states.T)))
    assert np.corrcoef(found, states[:, place])[0, 1] > 0.9


@pytest.mark.parametrize(
    "wrong",
    [
        {"of": ("age", "y")},
        {"of": ("age", "bmi")},
        {"of": ("age", "nobody")},
        {"of": ("age", "s")},
    ],
)
def test_damaged_relations_are_refused(wrong: dict[str, Any]) -> None:
    encoder = TableEncoder.learn(table_of(followed(None)))  # type: ignore[arg-type]
    own = encoder.derived[encoder.index("exper")].model_copy(update=wrong)
    states = [
        part.model_copy(update={"follows": own})
        if isinstance(part, NumberStates) and part.name == "exper"
        else part
        for part in encoder.states
    ]
    with pytest.raises(DataError, match="exper"):
        TableEncoder(encoder.schema, states)


def test_a_relation_of_itself_is_none() -> None:
    with pytest.raises(ValueError, match="not valid"):
        Derived(name="x", form="sum", of=("x",), weights=(1.0,), constant=0.0)


def stays(n: int = N, unit: str = "days", seed: int = 0) -> dict[str, Any]:
    """People who come on a day (or at a minute), and go so many units later."""
    rng = np.random.default_rng(seed)
    length, step = rng.geometric(0.2, n) - 1, "D" if unit == "days" else "m"
    came = np.datetime64("2019-01-01", step) + rng.integers(0, 1_400 if unit == "days" else 2_000_000, n)
    went = came + (length if unit == "days" else 60 * length)
    return {"came": came.astype("datetime64[us]"), "went": went.astype("datetime64[us]"), "length": length}


@pytest.mark.parametrize("unit", ["days", "hours"])
def test_a_moment_follows_from_another_and_a_length_of_time(unit: str) -> None:
    found = found_in(stays(unit=unit))
    assert found == {"went": f"came + length ({unit})"}
    # The other way round it would be a difference of two drawn moments, and nobody's length.
    moved = {name: stays(unit=unit)[name] for name in ("length", "went", "came")}
    assert found_in(moved) == {"came": f"went - length ({unit})"}


def test_moments_alone_are_left_alone() -> None:
    columns = stays()
    assert found_in({"came": columns["came"], "went": columns["went"]}) == {}
    rng = np.random.default_rng(1)
    other = np.datetime64("2019-01-01", "D") + rng.integers(0, 1_400, N)
    assert "length" not in found_in({**columns, "other": other.astype("datetime64[us]")})


def test_drawn_moments_follow(tmp_path: Path) -> None:
    table = table_of(stays())
    made = fs.AuditedTrees(seed=0).fit(table)
    drawn = made.sample_table(4_000, seed=0).frame
    days = (drawn["went"] - drawn["came"]).dt.total_days()
    assert (days == drawn["length"]).mean() > 0.99 and days.min() >= 0
    assert drawn["length"].quantile(0.5) == pytest.approx(table.frame["length"].quantile(0.5), abs=1)
    for where in ({"length": 2}, {"went": drawn["went"][0]}):
        asked = made.sample(50, seed=1, where=where)
        name, value = next(iter(where.items()))
        assert (asked[name] == value).all()
        follows = (asked["went"] - asked["came"]).dt.total_days() == asked["length"]
        assert follows.mean() > 0.95
    made.save(tmp_path / "stays.fairsynth")
    again = fs.load_generator(tmp_path / "stays.fairsynth")
    assert again.sample_table(500, seed=3).frame.equals(made.sample_table(500, seed=3).frame)


@pytest.mark.parametrize(
    ("of", "weights", "form"),
    [
        (("came", "length"), (2.0, 1.0), "sum"),
        (("length",), (1.0,), "sum"),
        (("came", "length"), (1.0, 1.0), "product"),
    ],
)
def test_a_moment_that_cannot_follow_is_refused(
    of: tuple[str, ...], weights: tuple[float, ...], form: Any
) -> None:
    schema = table_of(stays()).schema
    with pytest.raises(ValueError, match="a moment follows from one other by addition"):
        check_derived([Derived(name="went", form=form, of=of, weights=weights, constant=1.0)], schema)
    with pytest.raises(ValueError, match="a moment follows from one other by addition"):
        check_derived(
            [Derived(name="length", form="sum", of=("came",), weights=(1.0,), constant=0.0)], schema
        )


# Logarithms, and numbers of 32 bits


def earners(seed: int = 0, n: int = 1500) -> dict[str, Any]:
    """Return ages and wages, and what analysts make of them in programs that keep 32 bits."""
    rng = np.random.default_rng(seed)
    sex = rng.integers(0, 2, n)
    age = np.clip(np.round(rng.gamma(8, 5, n)), 15, 95).astype(int)  # few are of the highest ages
    wage = np.round(np.exp(1.5 + 0.02 * age + 0.4 * rng.normal(size=n)), 2)
    tax = rng.choice(np.float32(np.linspace(0.1, 2.3, 30).round(2)), n)
    married = rng.random(n) < (age - 10) / 80
    return {
        "sex": np.array(["f", "m"])[sex], "age": age, "wage": wage, "tax": tax.astype(float),
        "lage": np.log(age).astype(np.float32).astype(float), "lwage": np.log(wage).astype(np.float32).astype(float),
        "taxsq": (tax * tax).astype(float), "married": np.where(married, "yes", "no"),
        "paid": np.where(rng.normal(size=n) + wage / 10 + 0.3 * sex > 1.5, "high", "low"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("made", "formula"),
    [
        (np.log, "log(x)"),
        (np.log10, "log10(x)"),
        (np.log2, "log2(x)"),
        (np.log1p, "log(x + 1)"),
        (lambda x: np.round(np.log(x), 2), "log(x)"),
        (lambda x: np.float32(np.log(x)).astype(float), "log(x)"),
    ],
)
def test_logarithms_are_found(made: Any, formula: str) -> None:
    x = np.random.default_rng(0).integers(1, 4000, N)
    assert found_in({"x": x, "logged": made(x)}) == {"logged": formula}


def test_a_logarithm_of_something_else_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(1, 4000, N)
    assert not found_in({"x": x, "logged": np.log(x) + rng.normal(scale=0.05, size=N)})
    assert not found_in({"x": x, "logged": np.log(x + 7.5)})
    assert not found_in({"x": x, "logged": np.where(rng.random(N) < 0.05, 1.0, np.log(x))})


def test_logarithms_and_squares_of_32_bits_are_those_of_people() -> None:
    table = fs.Table(pl.DataFrame(earners()), target="paid", favorable="high", sensitive="sex")
    model = fs.AuditedTrees(fairness=fs.Fairness(strength=0.0), seed=0).fit(table)
    derived = model.lines_.layout.encoder.derived
    assert {own.name: str(own) for own in derived.values()} == {
        "lage": "log(age)", "lwage": "log(wage)", "taxsq": "tax^2"
    }  # fmt: skip
    rows = model.sample_table(4000, seed=0).frame
    for one, other in (("age", "lage"), ("tax", "taxsq")):
        # Of fewer than five people nothing is known but that there are some.
        known = table.frame.filter(pl.len().over(one) >= 5).select(one, other).unique()
        drawn = rows.select(one, other).unique().filter(pl.col(one).is_in(known[one].implode()))
        assert drawn.join(known, on=[one, other], how="anti").height == 0 < drawn.height
    assert np.abs(np.log(rows["wage"]) - rows["lwage"]).max() < 1e-6
    # What depends on the age still does, though trees may ask it by its logarithm.
    ages = {name: frame.filter(pl.col("married") == "yes")["age"].mean() for name, frame in
            (("real", table.frame), ("drawn", rows))}  # fmt: skip
    assert ages["drawn"] == pytest.approx(ages["real"], abs=1.2)


def test_states_that_follow_are_those_that_were_learned() -> None:
    """A computed number that is off by a digit of 32 bits is in the state of the one that is meant."""
    table = fs.Table(pl.DataFrame(earners()), target="paid", favorable="high", sensitive="sex")
    encoder = TableEncoder.learn(table)
    states = encoder.encode(table)
    for place, own in encoder.derived.items():
        if own.name == "lwage":  # a wage is drawn inside an interval, and its logarithm with it
            continue
        lines = {encoder.index(name): states[:, encoder.index(name)] for name in own.of}
        sharp = states[:, encoder.index(own.of[0])] < len(encoder.states[encoder.index(own.of[0])].atoms)
        told, inside = encoder.derived_states(place, lines)
        assert inside.mean() > 0.95 and (told[sharp] == states[sharp, place]).mean() > 0.99


def test_the_highest_value_is_not_lost_to_the_last_digit() -> None:
    """A logarithm of 32 bits may be less than that of 64, which then lies beyond all that were seen."""
    rng = np.random.default_rng(0)
    income = rng.choice([2_500, 5_500, 8_500, 12_500, 17_500, 20_000, 25_000, 28_000, 30_000], 1200)
    logged = np.log(income).astype(np.float32).astype(float)
    assert logged.max() < np.log(30_000)
    sex = rng.integers(0, 2, 1200)
    frame = pl.DataFrame({
        "sex": np.array(["f", "m"])[sex], "income": income, "lincome": logged, "noise": rng.normal(size=1200).round(2),
        "paid": np.where(rng.normal(size=1200) + sex > 0.5, "yes", "no"),
    })  # fmt: skip
    table = fs.Table(frame, target="paid", favorable="yes", sensitive="sex")
    model = fs.AuditedTrees(fairness=fs.Fairness(strength=0.0), seed=0).fit(table)
    rows = model.sample_table(4000, seed=0).frame
    assert model.lines_.layout.encoder.derived
    for value in (2_500, 30_000):
        assert (rows["income"] == value).mean() == pytest.approx((income == value).mean(), abs=0.03)
    assert set(rows["lincome"]) == set(logged)


@pytest.mark.parametrize("scale", [1.0, 1 / 3, 2.54])
def test_what_was_taken_off_a_column_has_all_of_its_digits(scale: float) -> None:
    """A centered column of fewer digits differs from people's in every row, which one cut of a tree sees."""
    x = np.round(np.random.default_rng(0).gamma(4.0, 1.5, N), 3)
    centered = (x - x.mean()) * scale
    table = table_of({"x": x, "centered": centered})
    (own,) = find_derived(table, {c.name: grid_step(c) for c in table.schema})
    assert own.name == "centered" and own.of == ("x",)
    assert np.abs(own.values({"x": x}) - centered).max() < 1e-7 * np.abs(centered).max()
