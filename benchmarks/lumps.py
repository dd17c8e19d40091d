"""Made tables of amounts as people write them: in full hundreds, in steps of 25, with cents that follow from others."""

from __future__ import annotations

from typing import Any

import numpy as np


def survey(n: int, seed: int) -> Any:
    """Return `n` people who say what they earn and pay, each as round as they like."""
    rng = np.random.default_rng(seed)
    hours = np.clip(np.round(rng.normal(38, 12, n) / 5) * 5, 0, 90)
    spoken = rng.choice([1, 10, 100, 500, 1000, 5000], n, p=[0.05, 0.1, 0.25, 0.2, 0.3, 0.1])
    pay = np.round(np.exp(rng.normal(2.8, 0.5, n)) * hours * 50 / spoken) * spoken
    rent = np.round(pay * 0.25 / 12 * np.exp(rng.normal(0, 0.3, n)) / 10) * 10
    sex = np.where(rng.random(n) < 0.5, "f", "m")
    good = rng.random(n) < 1 / (1 + np.exp(-(pay / 20_000 - 2 + 0.4 * (sex == "m"))))
    return _table(
        {"age": rng.integers(18, 90, n), "hours": hours, "pay": pay, "rent": rent, "sex": sex}, good
    )


def lending(n: int, seed: int) -> Any:
    """Return `n` loans of multiples of 25, with an instalment that follows from amount and rate."""
    rng = np.random.default_rng(seed)
    grade = rng.integers(0, 7, n)
    spoken = np.where(rng.random(n) < 0.7, 1000, 100)
    income = np.round(np.exp(rng.normal(11, 0.5, n)) / spoken) * spoken
    amount = np.clip(np.round(income * rng.beta(2, 6, n) / 25) * 25, 1000, 40_000)
    rate = np.round(5 + 3 * grade + rng.integers(0, 5, n) * 0.6, 2)
    month = rate / 1200
    instalment = np.round(amount * month / (1 - (1 + month) ** -36), 2)
    burden = np.round(rng.gamma(4, 4, n), 2)
    sex = np.where(rng.random(n) < 0.45, "f", "m")
    good = rng.random(n) < 1 / (1 + np.exp(-(1.5 - 0.4 * grade + 0.3 * (sex == "m") - burden / 30)))
    told = {"amount": amount, "rate": rate, "instalment": instalment, "income": income, "burden": burden}
    return _table({**told, "grade": np.array(list("ABCDEFG"))[grade], "sex": sex}, good)


MADE = {"survey": survey, "lending": lending}


def _table(columns: dict[str, Any], good: Any) -> Any:
    import polars as pl

    from fairsynth import Table

    frame = pl.DataFrame({**columns, "good": np.where(good, "yes", "no")})
    return Table(frame, target="good", favorable="yes", sensitive="sex")
