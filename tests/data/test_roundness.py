"""How round numbers are: what is learned, what is drawn, and what is not told of anybody."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.data.encoding import TableEncoder
from fairsynth.data.number_states import NumberStates
from fairsynth.data.roundness import Roundness, RoundNumbers, grids_of, learn_roundness
from fairsynth.data.schema import Column
from fairsynth.data.table import Table
from fairsynth.errors import DataError

WHOLE = Column(name="x", kind="integer", minimum=-(10**6), maximum=10**6)
NO_ATOMS = np.zeros(0)


def table_of(values: Any, **options: Any) -> Table:
    """Return a table of one interesting column."""
    return Table(
        pl.DataFrame({"x": values, "sex": ["f", "m"] * (len(values) // 2)}), sensitive="sex", **options
    )


def drawn_like(table: Table, n: int = 20_000) -> np.ndarray:
    """Return numbers drawn from the states of real ones, as float64 ``(n,)``."""
    encoder = TableEncoder.learn(table)
    states = np.random.default_rng(0).choice(encoder.encode(table)[:, 0], n)
    part = encoder.states[0]
    return (
        part.decode(states, np.random.default_rng(1), table.schema["x"])
        .to_physical()
        .cast(pl.Float64)
        .to_numpy()
    )


# ---------------------------------------------------------------------------------------- the closed form
@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    low=st.integers(-130, 130),
    length=st.integers(0, 260),
    grids=st.sampled_from([(5, 10, 50), (60,), (2, 4, 12), (1000,), (10, 100)]),
)
def test_every_number_of_a_grid_and_no_other_is_drawn(low: int, length: int, grids: tuple[int, ...]) -> None:
    whole = (1, *grids)
    even = Roundness(grids=grids, shares=((1.0, *(0.0 for _ in grids)),))
    numbers = RoundNumbers.of(even, np.array([float(low)]), np.array([float(low + length)]), NO_ATOMS)
    for k, step in enumerate(whole):
        coarser = whole[k + 1 :]
        expected = [
            v for v in range(low, low + length + 1) if v % step == 0 and all(v % other for other in coarser)
        ]
        assert numbers.count[k] == len(expected)
        n = len(expected)
        places = np.full(n, k)
        drawn = numbers._numbers(places, places, (np.arange(n) + 0.5) / max(n, 1))
        assert drawn.tolist() == expected, "evenly spread chance names each of them once"


# --------------------------------------------------------------------------------------- what is learned
def test_drawn_numbers_are_as_round_as_real_ones() -> None:
    rng = np.random.default_rng(0)
    pay = np.exp(rng.normal(8, 0.7, 6000))
    spoken = rng.choice([1, 10, 100, 500], 6000, p=[0.2, 0.3, 0.4, 0.1])
    values = np.round(pay / spoken) * spoken
    drawn = drawn_like(table_of(values))
    for grid in (10, 50, 100, 500, 1000):
        real, ours = (values % grid == 0).mean(), (drawn % grid == 0).mean()
        assert ours == pytest.approx(real, abs=0.02), grid
    assert np.quantile(drawn, [0.1, 0.5, 0.9]) == pytest.approx(
        np.quantile(values, [0.1, 0.5, 0.9]), rel=0.03
    )


def test_large_numbers_may_be_rounder_than_small_ones() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.integers(1, 1000, 3000), rng.integers(100, 1000, 3000) * 100])
    drawn = drawn_like(table_of(rng.permutation(values)))
    assert (drawn[drawn > 12_000] % 100 == 0).mean() > 0.97
    assert (drawn[drawn < 900] % 100 == 0).mean() < 0.05


def test_whole_amounts_in_a_column_of_cents_stay_whole() -> None:
    rng = np.random.default_rng(2)
    values = np.where(
        rng.random(4000) < 0.9, rng.integers(20, 4000, 4000), rng.integers(2000, 400_000, 4000) / 100
    )
    drawn = drawn_like(table_of(values))
    assert (drawn == np.round(drawn)).mean() == pytest.approx((values == np.round(values)).mean(), abs=0.02)
    assert (np.round(drawn, 2) == drawn).all()


def test_moments_come_at_full_hours_as_often_as_real_ones() -> None:
    rng = np.random.default_rng(3)
    minutes = np.where(
        rng.random(3000) < 0.6, rng.integers(0, 9000, 3000) * 60, rng.integers(0, 540_000, 3000)
    )
    moments = [datetime(2020, 1, 1) + timedelta(minutes=int(m)) for m in minutes]
    drawn = drawn_like(table_of(pl.Series(moments, dtype=pl.Datetime("us"))))
    full = (minutes % 60 == 0).mean()
    assert (drawn % 3_600_000_000 == 0).mean() == pytest.approx(full, abs=0.02)
    assert (drawn % 60_000_000 == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_numbers_that_are_no_rounder_than_chance_remember_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for values in (rng.integers(0, 100_000, 3000), np.round(np.exp(rng.normal(7, 2, 3000)), 2)):
        part = TableEncoder.learn(table_of(values)).states[0]
        assert isinstance(part, NumberStates) and part.n_intervals > 10
        assert part.roundness is None


def test_values_that_are_states_of_their_own_do_not_make_the_others_round() -> None:
    """Half of the rows say 40,000: that is one state, and the rest of them are no rounder for it."""
    rng = np.random.default_rng(4)
    values = np.where(rng.random(4000) < 0.5, 40_000, rng.integers(10_000, 90_000, 4000))
    part = TableEncoder.learn(table_of(values)).states[0]
    assert isinstance(part, NumberStates)
    assert part.atoms == (40_000.0,) and part.roundness is None


def test_an_interval_says_nothing_of_a_grid_that_few_of_its_rows_are_on() -> None:
    """Whether one person of the second interval said a number that is rounder than others must not change anything."""
    rng = np.random.default_rng(5)
    edges = np.array([0.5, 1000.5, 2000.5])
    first = rng.integers(1, 100, 400) * 10.0
    second = 1001.0 + 10 * np.arange(40)
    found = []
    # The column as a whole is the same: one person of the first interval makes up for it.
    for one, other in ((150.0, 1991.0), (151.0, 1050.0)):
        known = learn_roundness(WHOLE, np.concatenate([first, [one], second, [other]]), edges, NO_ATOMS)
        assert known is not None and len(known.grids) > 3
        found.append([np.array(line[1:]) / sum(line[1:]) for line in known.shares])
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-6), "which round number it was is not told"
    assert found[0][0] != pytest.approx(found[1][0], abs=1e-6), "of a hundred people, one counts"


def test_what_is_a_state_of_its_own_is_not_drawn_as_a_round_number() -> None:
    """Where the only full thousand of an interval is an atom, none of its numbers is to be one."""
    rng = np.random.default_rng(6)
    edges, atoms = np.array([0.5, 1500.5, 20_000.5]), np.array([1000.0, 7000.0])
    low, high = rng.integers(1, 99, 300) * 10.0, rng.integers(2, 21, 300) * 1000.0
    values = np.concatenate([low, high[high != 7000]])
    known = learn_roundness(WHOLE, values, edges, atoms)
    assert known is not None
    place = known.grids.index(1000) + 1
    assert known.shares[0][place:] == (0.0,) * (len(known.grids) + 1 - place)
    assert known.shares[1][place] > 0.4

    interval = np.repeat([0, 1], 2000)
    low, high = np.ceil(edges[:-1]), np.floor(edges[1:])
    drawn, found = RoundNumbers.of(known, low, high, atoms).draw(interval, rng)
    assert found.all() and not np.isin(drawn, atoms).any()
    # Shares that a foreign file could hold: a grid without any number is said to be missing, not made up.
    only = Roundness(
        grids=known.grids, shares=((0.0,) * place + (1.0,) + (0.0,) * (len(known.grids) - place),) * 2
    )
    drawn, found = RoundNumbers.of(only, low, high, atoms).draw(interval, rng)
    assert not found[interval == 0].any() and found[interval == 1].all()


@pytest.mark.parametrize("grid", [25, 20, 12, 15])
def test_of_several_ways_to_be_round_the_one_that_tells_most_is_taken(grid: int) -> None:
    rng = np.random.default_rng(7)
    values = np.where(
        rng.random(4000) < 0.8, rng.integers(1, 1600, 4000) * grid, rng.integers(1, 1600 * grid, 4000)
    )
    drawn = drawn_like(table_of(values))
    assert (drawn % grid == 0).mean() == pytest.approx((values % grid == 0).mean(), abs=0.02)


# ------------------------------------------------------------------------------------------- what is read
@pytest.mark.parametrize(
    ("grids", "shares", "message"),
    [
        ((), ((1.0,),), "grids"),
        ((5, 12), ((1.0, 0.0, 0.0),), "multiple"),
        ((10, 5), ((1.0, 0.0, 0.0),), "multiple"),
        ((5,), ((0.5, 0.4),), "sum to 1"),
        ((5,), ((1.5, -0.5),), "from 0 up"),
        ((5,), ((float("nan"), 1.0),), "from 0 up"),
        ((5,), ((1.0,),), "for every grid"),
        ((2**54,), ((0.5, 0.5),), "steps"),
    ],
)
def test_a_file_that_says_nonsense_is_refused(grids: Any, shares: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Roundness(grids=grids, shares=shares)


def test_what_does_not_fit_the_intervals_is_refused_and_the_rest_comes_back() -> None:
    rng = np.random.default_rng(6)
    table = table_of(rng.integers(1, 400, 1000) * 25)
    encoder = TableEncoder.learn(table)
    part = encoder.states[0]
    assert isinstance(part, NumberStates) and part.roundness is not None
    body = encoder.to_json()
    again = TableEncoder.from_json(table.schema, body)
    assert again.states == encoder.states
    body[0]["roundness"]["shares"] = body[0]["roundness"]["shares"][1:]
    with pytest.raises(DataError, match="does not fit its intervals"):
        TableEncoder.from_json(table.schema, body)


def test_grids_reach_as_far_as_the_numbers() -> None:
    assert grids_of(WHOLE, 600.0)[0] == (5, 10, 50, 100, 500)
    assert grids_of(WHOLE, 1.0) == []
    day = Column(
        name="x", kind="datetime", unit="day", minimum=datetime(2020, 1, 1), maximum=datetime(2021, 1, 1)
    )
    assert grids_of(day, 1e9) == []


@pytest.mark.parametrize("kind", ["integer", "second", "microsecond"])
def test_each_grid_is_a_multiple_of_the_one_before_it(kind: str) -> None:
    moment = {"unit": kind, "minimum": datetime(2020, 1, 1), "maximum": datetime(2021, 1, 1)}
    column = WHOLE if kind == "integer" else Column(name="x", kind="datetime", **moment)
    ways = grids_of(column, 1e15)
    assert len(ways) == (5 if kind == "integer" else 1)
    for way in ways:
        Roundness(grids=way, shares=((1.0, *(0.0 for _ in way)),))  # refuses what is not
