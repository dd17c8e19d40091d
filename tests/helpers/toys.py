"""Toy tables of which everything is known, for the tests of encodings and generators."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from fairsynth.data.table import Table

#: Settings by which a teacher that is trained with default ones is made quick.
QUICK_TEACHER = {"epochs": 0.5, "batch_size": 128, "law_components": 4}


def mixed_frame(n: int = 600, seed: int = 0, *, many_levels: int = 12) -> pl.DataFrame:
    """Draw people of every kind of column: biased labels, a proxy of sex, missing values, an identifier."""
    rng = np.random.default_rng(seed)
    sex = rng.random(n) < 0.5
    club = np.where(rng.random(n) < 0.9, sex, ~sex)
    skill = rng.normal(size=n)
    paid = rng.random(n) < 1 / (1 + np.exp(-2 * skill - 3 * club + 1.5))
    income = np.round(rng.lognormal(3, 0.6, n) + 10 * paid, 2)
    town = rng.choice(["north", "south", "east"], size=n).astype(object)
    town[rng.random(n) < 0.1] = None
    hours = rng.integers(1, 90, n).astype(object)
    hours[rng.random(n) < 0.2] = None
    start = datetime(2015, 3, 1)
    return pl.DataFrame(
        {
            "person": [f"p-{17 * i + 100_003}" for i in range(n)],
            "skill": skill,
            "income": income,
            "hours": pl.Series(hours.tolist(), dtype=pl.Int64),
            "club": np.where(club, "golf", "chess"),
            "town": pl.Series(town.tolist(), dtype=pl.Enum(["south", "north", "east", "nowhere"])),
            "job": [f"job {j}" for j in rng.integers(0, many_levels, n)],
            "member": rng.random(n) < 0.3 + 0.3 * paid,
            "since": [start + timedelta(days=int(d)) for d in rng.integers(0, 2000, n)],
            "sex": np.where(sex, "man", "woman"),
            "race": rng.choice(["a", "b", "c", "d", "e"], p=[0.4, 0.25, 0.2, 0.1, 0.05], size=n),
            "age": rng.integers(18, 90, n),
            "paid": np.where(paid, "yes", "no"),
        }
    )


def mixed_table(n: int = 600, seed: int = 0, **roles: Any) -> Table:
    """Return a table of every kind of column with its roles."""
    chosen = {
        "target": "paid",
        "favorable": "yes",
        "sensitive": ["sex"],
        "identifiers": ["person"],
        **roles,
    }
    return Table(mixed_frame(n, seed), **chosen)


def small_table(n: int = 400, seed: int = 0, *, kind: str = "polars", **roles: Any) -> Table:
    """Return the columns that a quick fit needs, as the kind of frame asked for."""
    frame = mixed_frame(n, seed).select("income", "hours", "club", "town", "sex", "paid")
    chosen = {"target": "paid", "favorable": "yes", "sensitive": ["sex"], **roles}
    native: Any = frame
    if kind == "pandas":
        native = frame.to_pandas()
    elif kind == "pyarrow":
        native = frame.to_arrow()
    return Table(native, **chosen)


def proxy_frame(n: int, seed: int) -> pl.DataFrame:
    """Draw a world where labels are biased through a proxy of sex (93 % equal to it), not through sex itself."""
    rng = np.random.default_rng(seed)
    sex = rng.random(n) < 0.5
    club = np.where(rng.random(n) < 0.93, sex, ~sex)
    skill = rng.normal(size=n)
    hours = np.clip(np.round(40 + 8 * rng.normal(size=n)), 1, 99)
    score = 1.3 * skill + 1.6 * club - 0.8 + 0.03 * (hours - 40)
    paid = rng.random(n) < 1 / (1 + np.exp(-2 * score))
    return pl.DataFrame(
        {
            "skill": np.round(skill, 2),
            "hours": hours.astype(int),
            "club": np.where(club, "golf", "chess"),
            "sex": np.where(sex, "man", "woman"),
            "paid": np.where(paid, "yes", "no"),
        }
    )
