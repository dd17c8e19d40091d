"""Numbers inside of an interval lean to where people are, and values that chance does not repeat are states."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import poisson

from fairsynth import Table
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.leaning import MIN_ROWS, NEAREST, leaned, learn_means, rates_of
from fairsynth.data.number_states import NumberStates
from fairsynth.data.shared_values import beyond_chance


def states_of(values: np.ndarray, kind: str = "continuous") -> tuple[NumberStates, Table]:
    n = len(values)
    frame = pl.DataFrame({"x": values, "s": ["a", "b"] * (n // 2), "y": [0, 0, 1, 1] * (n // 4)})
    table = Table(frame, target="y", favorable=1, sensitive="s", kinds={"x": kind})
    part = TableEncoder.learn(table).states[0]
    assert isinstance(part, NumberStates)
    return part, table


def drawn(part: NumberStates, table: Table, n: int = 20_000, seed: int = 0) -> np.ndarray:
    """Draw numbers in the states that the table's rows have."""
    rng = np.random.default_rng(seed)
    states = part.encode(table.frame["x"])
    return part.decode(rng.choice(states, n), rng, table.schema["x"]).to_numpy()


# --------------------------------------------------------------------------------------------- the law itself
@given(mean=st.floats(NEAREST, 1 - NEAREST), seed=st.integers(0, 99))
def test_the_law_has_the_mean_that_was_asked_for_and_stays_inside(mean: float, seed: int) -> None:
    rate = rates_of(np.array([mean]))
    found = leaned(np.random.default_rng(seed).random(4_000), np.repeat(rate, 4_000))
    assert found.min() >= 0 and found.max() < 1
    # Of all these laws the even one has the largest deviation, √(1/12).
    assert abs(found.mean() - mean) < 5 * np.sqrt(1 / 12 / 4_000)


@given(mean=st.floats(0.51, 1 - NEAREST))
def test_both_ends_are_treated_alike(mean: float) -> None:
    up, down = rates_of(np.array([mean, 1 - mean]))
    assert down == pytest.approx(-up, rel=1e-6, abs=1e-6)
    chance = np.array([0.0, 0.1, 0.5, 0.9, 1 - 1e-12])
    mirrored = 1 - leaned(1 - chance, np.full(5, down))
    np.testing.assert_allclose(leaned(chance.copy(), np.full(5, up)), mirrored, atol=1e-6)


def test_the_law_is_the_exponential_one() -> None:
    # P(X <= 1/2) of a rate r is (e^{r/2} - 1) / (e^r - 1) = 1 / (1 + e^{r/2}).
    rate = 3.0
    found = leaned(np.random.default_rng(0).random(200_000), np.full(200_000, rate))
    assert (found <= 0.5).mean() == pytest.approx(1 / (1 + np.exp(rate / 2)), abs=0.004)


def test_an_even_law_is_left_as_it_is() -> None:
    chance = np.random.default_rng(0).random(100)
    assert (leaned(chance.copy(), np.zeros(100)) == chance).all()
    assert rates_of(np.array([0.5])).tolist() == [0.0]


# ------------------------------------------------------------------------------------------- what is learned
def test_few_people_tell_nothing_and_clear_means_are_told() -> None:
    places = np.concatenate([np.full(MIN_ROWS - 1, 0.01), np.full(40, 0.1), np.full(40, 0.5)])
    intervals = np.repeat([0, 1, 2], [MIN_ROWS - 1, 40, 40])
    told = learn_means(places, intervals, 4)
    assert (told[0], told[2], told[3]) == (0.5, 0.5, 0.5), "few people, the middle, nobody"
    assert 0.1 < told[1] < 0.15, "what chance explains is taken off"
    assert learn_means(places[intervals == 0], intervals[intervals == 0], 4) == ()


def test_of_an_even_spread_next_to_nothing_is_told() -> None:
    rng = np.random.default_rng(0)
    told = learn_means(rng.random(40_000), rng.integers(0, 400, 40_000), 400)
    assert np.abs(np.array(told) - 0.5).mean() < 0.002


@pytest.mark.parametrize("step", [None, 1.0, 1_000.0])
def test_a_heavy_tail_stays_where_people_are(step: float | None) -> None:
    rng = np.random.default_rng(1)
    values = 50_000 * (rng.pareto(1.5, 2_000) + 1)
    if step:
        values = np.round(values / step) * step
    part, table = states_of(values, "integer" if step else "continuous")
    assert part.means and part.means[-1] < 0.4, "most of the last interval's people are near its beginning"
    assert (part.roundness is not None) == (step == 1_000.0)
    far = np.quantile(values, 0.99)
    real = (values > 2 * far).mean()
    even = part.model_copy(update={"means": ()})
    off, off_even = (abs((drawn(p, table) > 2 * far).mean() - real) for p in (part, even))
    assert off < 0.003 and off < off_even / 2, "an even spread puts people where there are none"
    if step == 1_000.0:
        assert (np.mod(drawn(part, table), 1_000) == 0).mean() > 0.97, "and they stay round"


def test_how_round_values_are_is_not_taken_for_leaning() -> None:
    """In (2,950, 4,050) there are a thousand ones and two thousands: these two say nothing of the ones."""
    rng = np.random.default_rng(2)
    values = rng.integers(0, 100_000, 1_600).astype(float)
    values[::2] = np.round(values[::2] / 1_000) * 1_000
    part, _ = states_of(values, "integer")
    assert part.roundness is not None
    assert np.abs(np.array(part.means or (0.5,)) - 0.5).mean() < 0.01


def test_means_come_back_and_damaged_ones_are_refused() -> None:
    part, _ = states_of(np.random.default_rng(3).pareto(1.0, 400))
    again = NumberStates.model_validate_json(part.model_dump_json())
    assert again == part and part.means
    for wrong in ((0.5,), (0.0,) * part.n_intervals, (float("nan"),) * part.n_intervals):
        with pytest.raises(ValidationError, match="where its numbers lie"):
            NumberStates(**{**part.model_dump(), "means": wrong})


# -------------------------------------------------------------------------------- values that chance does not repeat
def test_a_value_without_a_grid_that_five_share_is_a_state() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(0, 1, 1_000)
    values[:40] = np.repeat(rng.normal(0, 1, 8), 5)
    values[40:44] = 0.123456789
    part, table = states_of(values)
    assert sorted(part.atoms) == sorted(set(values[:40].tolist())), "not what four people share"
    again = drawn(part, table)
    assert np.isin(again, values[:40]).mean() == pytest.approx(0.04, abs=0.01)


def test_whole_numbers_that_chance_repeats_are_no_states() -> None:
    rng = np.random.default_rng(5)
    part, _ = states_of(rng.integers(0, 400, 2_000).astype(float), "integer")
    assert part.atoms == (), "of 400 values each comes about five times"
    round_ones, _ = states_of(1_000.0 * rng.integers(0, 400, 2_000), "integer")
    assert round_ones.atoms == () and round_ones.roundness is not None, (
        "thousands are round, and no more than that"
    )


def test_a_spike_among_whole_numbers_is_a_state() -> None:
    rng = np.random.default_rng(6)
    values = rng.integers(0, 100_000, 4_000).astype(float)
    values[:30] = np.repeat([31_415, 27_182], 15)
    part, table = states_of(values, "integer")
    assert part.atoms == (27_182.0, 31_415.0)
    assert (drawn(part, table) == 31_415).mean() == pytest.approx(15 / 4_000, abs=0.002)


def test_what_chance_explains_is_that_of_the_others_in_the_interval() -> None:
    """Of 100 rows in 50 values ten share one: the other 90 in 49 values make 1.84 likely, and ten so at 2.3e-5."""

    def shared(n_distinct: int) -> bool:
        found = beyond_chance(
            np.array([10]), np.array([0]), np.array([[100]]), np.array([[50.0]]), n_distinct
        )
        return bool(found[0])

    assert poisson.sf(9, 90 / 49) == pytest.approx(2.3e-5, rel=0.05)
    assert shared(1) and not shared(10), "the more values there are, the likelier is one such among them"


def test_who_shares_a_value_says_nothing_of_how_often_such_values_come() -> None:
    """Three round values, of which one has all twelve rows: of the other two nobody has any."""
    rows, room = np.array([[20, 12]]), np.array([[20.0, 3.0]])
    assert beyond_chance(np.array([12]), np.array([1]), rows, room, 10).all()
    alike = np.array([[20, 36]])
    assert not beyond_chance(np.array([12]), np.array([1]), alike, room, 10).any(), "twelve on each of them"


def test_where_nothing_else_is_as_round_nothing_is_said() -> None:
    rows, room = np.array([[20, 12]]), np.array([[20.0, 1.0]])
    assert not beyond_chance(np.array([12]), np.array([1]), rows, room, 10).any()
