"""A small biased world of which everything is known, for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from fairsynth.data.table import Table


def biased_rows(n: int, seed: int, *, identifier: bool = False) -> pl.DataFrame:
    """Draw people: `club` is a strong proxy of sex, and income depends on club, not on sex itself.

    A model that never sees sex is as unfair as one that does, which is what shuffling sex shows.
    """
    rng = np.random.default_rng(seed)
    sex = rng.random(n) < 0.5
    race = rng.choice(["a", "b", "c"], p=[0.6, 0.37, 0.03], size=n)
    club = np.where(rng.random(n) < 0.93, sex, ~sex)
    skill = rng.normal(size=n)
    hours = np.clip(np.round(40 + 8 * rng.normal(size=n)), 1, 99)
    score = 1.3 * skill + 2.2 * club - 1.6 + 0.03 * (hours - 40) - 0.5 * (race == "b")
    paid = rng.random(n) < 1 / (1 + np.exp(-2 * score))
    town = rng.choice(["north", "south", "east"], size=n).astype(object)
    town[rng.random(n) < 0.05] = None
    columns = {
        "skill": np.round(skill, 2),
        "hours": hours.astype(int),
        "club": np.where(club, "golf", "chess"),
        "town": town,
        "sex": np.where(sex, "man", "woman"),
        "race": race,
        "paid": np.where(paid, "yes", "no"),
    }
    if identifier:
        columns = {"id": np.arange(n) + 10_000 * seed, **columns}
    return pl.DataFrame(columns)


def make_table(n: int, seed: int, **roles: object) -> Table:
    """Return a biased table with its roles."""
    chosen = {"target": "paid", "favorable": "yes", "sensitive": ["sex", "race"], **roles}
    return Table(biased_rows(n, seed), **chosen)


@pytest.fixture(scope="session")
def biased() -> Callable[..., pl.DataFrame]:
    """Return the function that draws biased rows."""
    return biased_rows


@pytest.fixture(scope="session")
def train() -> Table:
    """Return 1,500 real train people."""
    return make_table(1500, 0)


@pytest.fixture(scope="session")
def test(train: Table) -> Table:
    """Return 1,500 real people whom no generator saw."""
    return train.align(biased_rows(1500, 1))


@pytest.fixture(scope="session")
def fresh(train: Table) -> Table:
    """Return what a perfect generator would make: new people of the same law."""
    return train.align(biased_rows(1500, 2))
