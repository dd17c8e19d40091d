"""Tables as states: what a state means, what comes back, and what is not remembered."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import mixed_frame

from fairsynth.data.encoding import TableEncoder
from fairsynth.data.frames import to_arrow
from fairsynth.data.level_states import MAX_LEVELS, SHARED_LEVEL_STATES, LevelStates
from fairsynth.data.number_states import NumberStates
from fairsynth.data.schema import MICROSECONDS, Column, grid_step
from fairsynth.data.table import Table
from fairsynth.errors import DataError

N = 120


def table_of(values: Any, name: str = "x", **options: Any) -> Table:
    """Return a table of one interesting column, whatever else a table needs."""
    n = len(values)
    frame = pl.DataFrame({name: values, "sex": ["f", "m"] * (n // 2) + ["f"] * (n % 2)})
    return Table(frame, sensitive="sex", **options)


def decoded(encoder: TableEncoder, states: np.ndarray, seed: int = 0) -> pl.DataFrame:
    return encoder.decode(np.ascontiguousarray(states.T), np.random.default_rng(seed))


# ------------------------------------------------------------------------------------------------ batches
def frames_of_every_kind() -> list[tuple[str, Any, tuple[str, ...]]]:
    """Return one table as every kind of frame, with missing written in several ways."""
    frame = mixed_frame(400, many_levels=30).drop("person")
    marked = frame.with_columns(
        pl.col("town").cast(pl.String).fill_null("?"),
        pl.col("hours").fill_null(-1),
        pl.when(pl.int_range(pl.len()) % 7 == 0).then(None).otherwise(pl.col("member")).alias("member"),
    )
    pandas = marked.to_pandas().astype({"town": "category", "job": "category", "age": "int16"})
    arrow = frame.with_columns(pl.col("income").cast(pl.Float32)).to_arrow()
    return [
        ("polars", frame, ()),
        ("marked", marked, ("?", "-1")),
        ("categories", marked.with_columns(pl.col("town", "club").cast(pl.Categorical)), ("?", "-1")),
        ("pandas", pandas, ("?", "-1")),
        ("pyarrow", arrow, ()),
    ]


@pytest.mark.parametrize("case", frames_of_every_kind(), ids=lambda case: case[0])
def test_a_batch_holds_what_the_frame_would(case: tuple[str, Any, tuple[str, ...]]) -> None:
    """The short way to a file gives the same bytes as the long one, types and dictionaries included."""
    table = Table(case[1], target="paid", favorable="yes", sensitive="sex", missing=case[2])
    encoder = TableEncoder.learn(table)
    rng = np.random.default_rng(0)
    states = np.stack([rng.integers(0, size, 3000).astype(np.int32) for size in encoder.sizes])
    long = to_arrow(encoder.decode(states, np.random.default_rng(1)), table.schema)
    for _ in range(2):  # dictionaries are kept for the next time
        short = encoder.decode_batch(states, np.random.default_rng(1))
        assert short.schema.equals(long.schema)
        assert short.equals(long)
        short.validate(full=True)


# ---------------------------------------------------------------------------------------- random tables
def _with_gaps(draw: st.DrawFn, values: list[Any]) -> list[Any]:
    share = draw(st.sampled_from([0.0, 0.0, 0.1, 0.7]))
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    gone = rng.random(len(values)) < share
    gone[:2] = False
    return [None if g else v for g, v in zip(gone, values, strict=True)]


@st.composite
def number_columns(draw: st.DrawFn) -> tuple[pl.Series, dict[str, Any]]:
    """Draw a continuous, integer or datetime column of one of many shapes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    shape = draw(st.sampled_from(["spread", "few values", "spike and tail", "nearly constant", "heavy tail"]))
    base = {
        "spread": lambda: rng.uniform(-1, 1, N),
        "few values": lambda: rng.integers(0, 6, N) / 5.0,
        "spike and tail": lambda: np.where(rng.random(N) < 0.6, 0.0, rng.exponential(1, N)),
        "nearly constant": lambda: np.where(rng.random(N) < 0.98, 0.5, rng.uniform(0, 1, N)),
        "heavy tail": lambda: np.exp(4 * rng.normal(size=N)),
    }[shape]()
    kind = draw(st.sampled_from(["continuous", "decimals", "integer", "datetime"]))
    size = 10.0 ** draw(st.integers(-3, 5))
    if draw(st.booleans()):  # most people say round numbers
        base = np.where(rng.random(N) < 0.7, np.round(base, draw(st.integers(-1, 2))), base)
    if kind == "datetime":
        unit = draw(st.sampled_from(sorted(MICROSECONDS)))
        # Spread over at most some 70 years, as moments in tables are.
        ticks = np.clip(np.round(base * size), -1e6, 1e6) * min(MICROSECONDS[unit], 2_000_000_000)
        whole = (ticks // MICROSECONDS[unit] * MICROSECONDS[unit]).astype(np.int64)
        moments = [datetime(2001, 1, 1) + timedelta(microseconds=int(t)) for t in whole]
        return pl.Series("x", _with_gaps(draw, moments), dtype=pl.Datetime("us")), {}
    if kind == "integer":
        values = np.clip(np.round(base * max(size, 1)), -(2**40), 2**40).astype(np.int64).tolist()
        return pl.Series("x", _with_gaps(draw, values), dtype=pl.Int64), {"kinds": {"x": "integer"}}
    places = draw(st.integers(0, 6)) if kind == "decimals" else 17
    values = [round(float(v), places) for v in base * size]
    return pl.Series("x", _with_gaps(draw, values), dtype=pl.Float64), {"kinds": {"x": "continuous"}}


QUIET = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


@QUIET
@given(drawn=number_columns(), intervals=st.sampled_from([1, 4, 64]))
def test_numbers_come_back_into_their_state_their_range_and_their_grid(
    drawn: tuple[pl.Series, dict[str, Any]], intervals: int
) -> None:
    series, options = drawn
    table = table_of(series, **options)
    encoder = TableEncoder.learn(table, max_intervals=intervals)
    part, column = encoder.states[0], table.schema["x"]
    states = encoder.encode(table)
    assert isinstance(part, NumberStates) and part.n_intervals <= intervals
    assert states.dtype == np.int32 and states.min() >= 0 and (states.max(axis=0) < encoder.sizes).all()

    back = decoded(encoder, states)
    assert back["x"].dtype == table.frame["x"].dtype
    assert (back["x"].is_null() == table.frame["x"].is_null()).all(), "missing is a state"
    again = encoder.encode(table.replace(back))
    assert (again == states).all(), "a decoded value lies in the state that it was decoded from"

    # Every state that a network might predict, whether a row was in it or not.
    every = np.repeat(np.arange(part.size), 40)
    values = part.decode(every, np.random.default_rng(1), column)
    present = values.drop_nulls()
    low, high = column.bounds
    ticks = present.to_physical().cast(pl.Float64).to_numpy()
    assert ticks.min() >= low and ticks.max() <= high, "values stay in the remembered range"
    if column.kind == "datetime":
        assert (ticks % MICROSECONDS[column.unit or "microsecond"] == 0).all()
    elif column.decimals is not None:
        assert (present == present.round(column.decimals)).all(), "no more decimals than were seen"
    is_interval = (every >= len(part.atoms)) & (every < len(part.atoms) + part.n_intervals)
    from_interval = values.filter(pl.Series(is_interval)).to_physical().cast(pl.Float64).to_numpy()
    step = grid_step(column)
    grid = np.round(from_interval / step) if step else from_interval
    assert not np.isin(grid, part.atoms).any(), "an atom is its own state and is never drawn from an interval"


@QUIET
@given(
    seed=st.integers(0, 2**20),
    levels=st.sampled_from([1, 2, 30, 300]),
    kind=st.sampled_from(["categorical", "boolean"]),
    gaps=st.booleans(),
)
def test_levels_come_back_exactly(seed: int, levels: int, kind: str, gaps: bool) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, levels, N)
    values: list[Any] = [bool(c % 2) for c in codes] if kind == "boolean" else [f"level {c}" for c in codes]
    if gaps:
        values = [None if rng.random() < 0.2 and i else v for i, v in enumerate(values)]
    table = table_of(values, kinds={"x": kind})
    encoder = TableEncoder.learn(table)
    back = decoded(encoder, encoder.encode(table))
    assert back.equals(table.frame.select(back.columns))


# ------------------------------------------------------------------------------------------- many levels
@pytest.fixture(scope="module")
def crowded() -> tuple[Table, TableEncoder]:
    rng = np.random.default_rng(3)
    ranks = np.concatenate([np.arange(3000), rng.zipf(1.3, 6000) % 3000])
    names = [f"street {int(r):05d}" for r in rng.permutation(ranks)]
    table = table_of(pl.Series(names), kinds={"x": "categorical"})
    return table, TableEncoder.learn(table)


def test_rare_levels_share_states_and_frequent_ones_do_not(crowded: tuple[Table, TableEncoder]) -> None:
    table, encoder = crowded
    part = encoder.states[0]
    assert isinstance(part, LevelStates) and part.size == MAX_LEVELS + SHARED_LEVEL_STATES
    counts = dict(table.frame["x"].value_counts().iter_rows())
    states = dict(zip(table.frame["x"], encoder.encode(table)[:, 0], strict=True))
    own = [level for level, state in states.items() if state < MAX_LEVELS]
    assert len(own) == MAX_LEVELS and len({states[level] for level in own}) == MAX_LEVELS
    assert min(counts[level] for level in own) >= max(counts[lv] for lv in states if lv not in own)


def test_shared_states_give_back_their_own_levels_by_frequency(crowded: tuple[Table, TableEncoder]) -> None:
    table, encoder = crowded
    part = encoder.states[0]
    assert isinstance(part, LevelStates)
    states = np.repeat(np.arange(part.size, dtype=np.int32), 30)
    back = part.decode(states, np.random.default_rng(0), table.schema["x"])
    assert (part.encode(back) == states).all()

    # The shared state that holds the most unequal levels: draws follow the frequencies in the rows.
    of_level = part._state_of_level
    counts = np.bincount(table.frame["x"].to_physical().to_numpy(), minlength=part.n_levels)
    assert len(set(of_level)) > MAX_LEVELS
    state = MAX_LEVELS
    drawn = part.decode(np.full(40_000, state), np.random.default_rng(1), table.schema["x"]).to_physical()
    members = np.flatnonzero(of_level == state)
    got = np.bincount(drawn.to_numpy(), minlength=part.n_levels)[members] / 40_000
    assert np.allclose(got, counts[members] / counts[members].sum(), atol=0.01)
    assert got.sum() == pytest.approx(1)


def test_a_thousand_levels_are_a_thousand_states() -> None:
    table = table_of([f"v{i % 1000}" for i in range(2000)], kinds={"x": "categorical"})
    encoder = TableEncoder.learn(table)
    assert encoder.sizes[0] == 1000 and not encoder.states[0].order  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------ what a state means
def test_shared_numbers_are_atoms_and_single_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    single = np.round(rng.uniform(1, 1000, 300), 3)
    table = table_of(np.concatenate([np.zeros(150), np.full(40, 500.0), single]))
    part = TableEncoder.learn(table).states[0]
    assert isinstance(part, NumberStates) and part.step == 0.001
    assert part.atoms == (0.0, 500_000.0)
    assert part.n_intervals == 300 // 20, "about 20 rows an interval"


def test_few_distinct_numbers_are_all_atoms_if_five_rows_share_them() -> None:
    table = table_of([1] * 50 + [2] * 30 + [7] * 4 + [9] * 5 + [12] * 5, kinds={"x": "integer"})
    part = TableEncoder.learn(table).states[0]
    assert isinstance(part, NumberStates) and part.atoms == (1.0, 2.0, 9.0, 12.0)


def test_draws_inside_an_interval_are_even_over_its_grid() -> None:
    part = NumberStates(name="x", step=1.0, atoms=(3.0,), edges=(0.5, 6.5, 10.5), missing=False)
    column = Column(name="x", kind="integer", minimum=1, maximum=10)
    drawn = part.decode(np.full(50_000, 1), np.random.default_rng(0), column).to_numpy()
    assert np.allclose(np.bincount(drawn, minlength=7)[1:] / 50_000, [0.2, 0.2, 0, 0.2, 0.2, 0.2], atol=0.01)


def test_long_microsecond_intervals_step_over_atoms_too() -> None:
    """A span of moments can be longer than any fixed bound that keeps two intervals apart."""
    spike = [datetime(2010, 1, 1, 0, 0, 0, 123_457)] * 40 + [datetime(2019, 1, 1, 0, 0, 0, 7)] * 40
    rng = np.random.default_rng(0)
    spread = [datetime(2000, 1, 1) + timedelta(microseconds=int(t)) for t in rng.integers(0, 10**15, 200)]
    table = table_of(spike + spread)
    part, column = TableEncoder.learn(table, max_intervals=3).states[0], table.schema["x"]
    assert isinstance(part, NumberStates) and len(part.atoms) == 2
    # The draws next to the end of the interval are where a wrong shift shows.
    for state in range(2, part.size):
        for u in (0.0, 0.5, 1 - 2**-53):

            class Fixed:
                def random(self, n: int, value: float = u) -> np.ndarray:
                    return np.full(n, value)

            values = part.decode(np.array([state]), Fixed(), column)  # type: ignore[arg-type]
            assert part.encode(values)[0] == state
            low, high = column.bounds
            assert low <= values.to_physical()[0] <= high


@pytest.mark.parametrize("sign", [1, -1])
def test_integers_beyond_what_a_float_holds_stay_in_their_range(sign: int) -> None:
    """64-bit keys and hashes come as numbers; the largest would wrap around to the smallest."""
    rng = np.random.default_rng(0)
    values = sign * (2**63 - 1 - rng.integers(0, 10**6, 300))
    values[:40] = sign * (2**63 - 1)
    table = table_of(values, kinds={"x": "integer"})
    part, column = TableEncoder.learn(table).states[0], table.schema["x"]
    drawn = part.decode(np.repeat(np.arange(part.size), 50), np.random.default_rng(0), column)
    assert drawn.is_between(column.minimum, column.maximum).all()


@QUIET
@given(
    places=st.integers(0, 3),
    raw=st.lists(st.integers(1, 199), min_size=1, max_size=3, unique=True),
    start=st.sampled_from([0, -200, -100, 100_000]),
    seed=st.integers(0, 1000),
)
def test_states_of_a_numeric_sensitive_column_lie_in_one_band(
    places: int, raw: list[int], start: int, seed: int
) -> None:
    scale = 10.0**-places
    edges = sorted(round((start + r) * scale, places) for r in raw)
    rng = np.random.default_rng(seed)
    values = np.round((start + rng.integers(0, 200, 240)) * scale, places)
    values[:120] = rng.choice(values[:8], 120)
    if len(np.unique(np.searchsorted(edges, values, side="right"))) < 2:
        return
    kind = "integer" if places == 0 else "continuous"
    frame = pl.DataFrame({"x": values.astype(int) if places == 0 else values})
    table = Table(frame, sensitive={"x": edges}, kinds={"x": kind})
    encoder = TableEncoder.learn(table, max_intervals=8)
    part = encoder.states[0]
    assert isinstance(part, NumberStates)
    bands = part.band_of_states(table.schema["x"])
    every = np.repeat(np.arange(part.size), 30)
    drawn = table.replace(pl.DataFrame([part.decode(every, np.random.default_rng(0), table.schema["x"])]))
    assert (drawn.groups().codes == bands[every]).all(), "a state's values belong to the state's group"


@pytest.mark.parametrize("places", [1, 2, 3, 4])
def test_a_number_on_an_edge_belongs_to_the_group_above(places: int) -> None:
    """0.7 / 0.1 is not 7 in floating point; what counts is how the value itself compares."""
    for r in range(-700, 700, 3):
        edge = round(r * 10.0**-places, places)
        column = Column(
            name="x", kind="continuous", decimals=places, minimum=-9e9, maximum=9e9, edges=(edge,)
        )
        part = NumberStates(name="x", step=grid_step(column), atoms=(r - 1, r, r + 1), missing=False)
        values = part.decode(np.arange(3), np.random.default_rng(0), column).to_numpy()
        assert (part.band_of_states(column) == (values >= edge)).all() and (values >= edge).sum() == 2
    column = column.model_copy(update={"edges": (0.1 + 0.2,), "decimals": 1})
    part = NumberStates(name="x", step=0.1, atoms=(2.0, 3.0, 4.0), missing=False)
    assert part.band_of_states(column).tolist() == [0, 0, 1], "0.3 is below 0.30000000000000004"


def test_bands_count_missing_past_the_last() -> None:
    values = [*range(20, 80), *range(20, 80), None, None]
    table = Table(pl.DataFrame({"x": values}), sensitive={"x": [30.5, 60]})
    encoder = TableEncoder.learn(table)
    part = encoder.states[0]
    assert isinstance(part, NumberStates)
    bands = part.band_of_states(table.schema["x"])
    assert (bands[encoder.encode(table)[:, 0]] == table.groups().codes).all() and bands[-1] == 3


def test_values_outside_the_range_count_as_the_nearest_interval() -> None:
    table = table_of(np.round(np.random.default_rng(0).uniform(0, 100, 500), 2))
    encoder = TableEncoder.learn(table)
    part = encoder.states[0]
    assert isinstance(part, NumberStates)
    assert part.states_of(np.array([-1e6, 1e6])).tolist() == [len(part.atoms), part.size - 1]


def test_missing_where_none_was_seen_is_an_error_that_names_the_row() -> None:
    table = table_of(list(np.random.default_rng(0).uniform(0, 1, 50)))
    encoder = TableEncoder.learn(table)
    hole = table.frame.with_columns(pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise("x").alias("x"))
    with pytest.raises(DataError, match=r"'x': row 7 is missing"):
        encoder.encode(table.replace(hole))
    levels = table_of(["a", "b"] * 30)
    hole = levels.frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 9)
        .then(None)
        .otherwise("x")
        .alias("x")
        .cast(levels.frame["x"].dtype)
    )
    with pytest.raises(DataError, match=r"'x': row 9 is missing"):
        TableEncoder.learn(levels).encode(levels.replace(hole))


# ------------------------------------------------------------------------------------- what is remembered
@QUIET
@given(seed=st.integers(0, 2**20), places=st.sampled_from([5, 17]), size=st.sampled_from([1e-2, 1.0, 1e4]))
def test_no_single_persons_number_is_remembered(seed: int, places: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    values = np.round(size * rng.lognormal(0, 1, 300), places)
    values[:30] = values[0]
    table = table_of(values, kinds={"x": "continuous"})
    encoder = TableEncoder.learn(table)
    part = encoder.states[0]
    assert isinstance(part, NumberStates)
    document = encoder.to_json()
    for column in document:
        column.pop("means", None)  # places from 0 to 1 in an interval, which may look like somebody's number
    told = set(re.findall(r"[-+.\de]+", json.dumps(document)))
    scale = round(1 / part.step) if part.step else 1
    held = {round(v / scale, 12) for v in (*part.atoms, *part.edges)}
    unique, counts = np.unique(values, return_counts=True)
    single = unique[counts == 1]
    assert not held & {round(float(v), 12) for v in single}
    assert not [v for v in single if repr(float(v)) in told or (part.step and f"{v * scale:.1f}" in told)]
    assert len(part.atoms) == 1, "what 30 rows share is remembered"


def test_json_comes_back() -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "x": rng.normal(size=200),
            "k": rng.integers(0, 9, 200),
            "b": rng.random(200) < 0.5,
            "when": [datetime(2020, 1, 1) + timedelta(hours=int(h)) for h in rng.integers(0, 9999, 200)],
            "s": rng.choice(["a", "b", None], 200).tolist(),
        }
    )
    table = Table(frame, sensitive="s", kinds={"b": "boolean"})
    encoder = TableEncoder.learn(table)
    text = json.dumps(encoder.to_json())
    again = TableEncoder.from_json(table.schema, json.loads(text))
    assert again.states == encoder.states and again.sizes == encoder.sizes
    states = encoder.encode(table)
    assert (again.encode(table) == states).all()
    assert decoded(again, states).equals(decoded(encoder, states))
    assert set(encoder.summary()) == {"x", "k", "b", "when", "s"}


def test_json_of_a_crowded_column_comes_back(crowded: tuple[Table, TableEncoder]) -> None:
    table, encoder = crowded
    again = TableEncoder.from_json(table.schema, json.loads(json.dumps(encoder.to_json())))
    states = encoder.encode(table)
    assert (again.encode(table) == states).all() and decoded(again, states).equals(decoded(encoder, states))


def _damage() -> dict[str, Any]:
    def change(**fields: Any) -> Any:
        def apply(body: list[dict[str, Any]]) -> Any:
            body[0] |= fields
            return body

        return apply

    def level(**fields: Any) -> Any:
        def apply(body: list[dict[str, Any]]) -> Any:
            body[1] |= fields
            return body

        return apply

    return {
        "no list": lambda body: {"states": body},
        "nothing": lambda body: None,
        "one column too few": lambda body: body[:1],
        "other order": lambda body: body[::-1],
        "not a number": change(atoms=[float("nan")]),
        "infinite edge": change(edges=[0.0, float("inf")]),
        "edges that descend": change(edges=[3.0, 2.0, 1.0]),
        "atoms twice": change(atoms=[1.0, 1.0]),
        "no state at all": change(atoms=[], edges=[]),
        "one edge only": change(atoms=[], edges=[1.0]),
        "negative step": change(step=-1.0),
        "another step": change(step=0.5),
        "outside the range": change(edges=[-1e300, 0.0, 1e300]),
        "text as number": change(atoms=["x"]),
        "unknown field": change(sql="drop table"),
        "unknown type": change(type="pickle"),
        "number states for levels": level(type="numbers", step=1.0, atoms=[1.0], edges=[]),
        "no levels": level(n_levels=0),
        "more levels than the schema": level(n_levels=3),
        "a billion levels": level(n_levels=10**9),
        "order that is no permutation": level(order=[0, 0], weights=[0.5, 0.5]),
        "weights that are none": level(order=[0, 1], weights=[0.5, float("nan")]),
        "negative weights": level(order=[0, 1], weights=[2.0, -1.0]),
    }


@pytest.mark.parametrize("name", _damage())
def test_hostile_json_is_a_data_error(name: str) -> None:
    table = table_of(np.random.default_rng(0).normal(size=100))
    encoder = TableEncoder.learn(table)
    with pytest.raises(DataError):
        TableEncoder.from_json(table.schema, _damage()[name](encoder.to_json()))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["type", "name", "n_levels", "missing", "atoms", "edges", "step"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_random_json_is_a_data_error(body: Any) -> None:
    table = table_of(["a", "b"] * 30)
    with pytest.raises(DataError):
        TableEncoder.from_json(table.schema, body)
