"""Codes are told from amounts, and drawn codes are some that people have."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import fairsynth as fs
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.number_states import NumberStates

N = 4000


def zips(rng: np.random.Generator, places: int = 300) -> np.ndarray:
    """Return codes of places, a few of which many people live in."""
    codes = np.sort(rng.choice(np.arange(10_000, 99_999), places, replace=False))
    people = rng.pareto(1.2, places) + 0.05
    return rng.choice(codes, N, p=people / people.sum())


CODES = {
    "places": zips,
    "many places": lambda rng: zips(rng, 1200),
    "squares of ages": lambda rng: np.round(rng.gamma(2.0, 20.0, N)).astype(int) ** 2,
    "prices": lambda rng: (np.round(rng.lognormal(3, 1, N)) * 100 - 1).astype(int),
}
AMOUNTS = {
    "incomes": lambda rng: rng.lognormal(10, 0.6, N).astype(int),
    "round incomes": lambda rng: np.where(rng.random(N) < 0.7, rng.lognormal(10, 0.6, N).round(-3),
                                          rng.lognormal(10, 0.6, N).round(-1)).astype(int),
    "mostly nothing": lambda rng: np.where(rng.random(N) < 0.8, 0, rng.lognormal(8, 1, N)).astype(int),
    "next to nothing": lambda rng: np.where(rng.random(N) < 0.98, 0, rng.lognormal(8, 1, N)).astype(int),
    "visits": lambda rng: (rng.pareto(2.0, N) * 2).astype(int),
    "counts": lambda rng: rng.negative_binomial(0.3, 0.005, N),
    "counts without end": lambda rng: (rng.pareto(1.0, N) * 3).astype(int),
    "ages": lambda rng: np.round(rng.normal(40, 15, N)).astype(int),
    "days": lambda rng: rng.integers(0, 900, N),
    "decimals": lambda rng: np.round(rng.gamma(2.0, 10.0, N), 2),
}  # fmt: skip


def states(values: np.ndarray) -> NumberStates:
    table = fs.Table(pl.DataFrame({"x": values}))
    found = TableEncoder.learn(table, max_intervals=256).states[0]
    assert isinstance(found, NumberStates)
    return found


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("seed", range(3))
def test_drawn_codes_are_codes(name: str, seed: int) -> None:
    values = CODES[name](np.random.default_rng(seed))
    found = states(values)
    own, counts = np.unique(values, return_counts=True)
    assert not found.n_intervals
    # Nothing of what fewer than five people share goes into a model.
    assert set(found.atoms) == set(own[counts >= 5])
    known = np.array(found.atoms)
    nearest = np.abs(known[:, None] - values).min(0)
    read = known[found.states_of(values.astype(float))]
    assert np.array_equal(np.abs(read - values), nearest)


@pytest.mark.parametrize("name", AMOUNTS)
@pytest.mark.parametrize("seed", range(6))
def test_amounts_lie_between_those_that_were_seen(name: str, seed: int) -> None:
    assert states(AMOUNTS[name](np.random.default_rng(seed))).n_intervals


def test_codes_that_next_to_everybody_has_alone_stay_numbers() -> None:
    rng = np.random.default_rng(0)
    pairs = np.repeat(rng.choice(np.arange(10**6), N // 2, replace=False), 2)
    assert states(np.concatenate([pairs, np.full(N // 4, 7)])).n_intervals


def test_edges_that_were_asked_for_are_kept() -> None:
    values = zips(np.random.default_rng(0))
    table = fs.Table(
        pl.DataFrame({"x": values, "y": np.arange(N) % 2}), target="y", favorable=1, sensitive={"x": [50_000]}
    )
    assert TableEncoder.learn(table, max_intervals=256).states[0].n_intervals


def test_drawn_rows_have_codes_of_people() -> None:
    rng = np.random.default_rng(0)
    codes, sex = zips(rng), rng.integers(0, 2, N)
    good = rng.normal(size=N) + sex + (codes > 40_000) > 0.5
    frame = pl.DataFrame(
        {"sex": np.array(["f", "m"])[sex], "zip": codes, "good": np.where(good, "yes", "no")}
    )
    table = fs.Table(frame, target="good", favorable="yes", sensitive="sex")
    rows = fs.AuditedTrees(fairness=fs.Fairness(strength=0.0), seed=0).fit(table).sample(N, seed=0)
    assert rows["zip"].is_in(frame["zip"].implode()).all()
    # As often as people have them, and told by the label as theirs are.
    often = frame["zip"].value_counts().sort("count", descending=True)["zip"][:5]
    for code in often:
        assert (rows["zip"] == code).mean() == pytest.approx((frame["zip"] == code).mean(), abs=0.03)
    east, west = (frame.filter(pl.col("zip") > 40_000), frame.filter(pl.col("zip") <= 40_000))
    gap = (east["good"] == "yes").mean() - (west["good"] == "yes").mean()
    east, west = (rows.filter(pl.col("zip") > 40_000), rows.filter(pl.col("zip") <= 40_000))
    assert (east["good"] == "yes").mean() - (west["good"] == "yes").mean() == pytest.approx(gap, abs=0.08)


def test_the_tail_of_small_counts_is_no_code() -> None:
    """Chance does not explain it, since one interval reaches from where it is steep to a single person far off."""
    often = np.repeat(np.arange(10), 98)
    rare = np.repeat([10, 11, 12, 13, 14, 400], [4, 4, 4, 3, 2, 1])
    assert states(np.concatenate([often, rare])).n_intervals
