"""Pages for outcomes of other kinds than yes and no, and for one repeated over seeds."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

from fairsynth.data.table import Table
from fairsynth.evaluation.evaluate import evaluate
from fairsynth.report import render_html, verdict


def frame(n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    sex = rng.choice(["f", "m"], n)
    age = rng.integers(20, 60, n)
    return pl.DataFrame(
        {
            "x": x,
            "seen": pl.Series(rng.integers(1_500_000_000, 1_600_000_000, n) * 1_000_000).cast(
                pl.Datetime("us")
            ),
            "flag": rng.random(n) < 0.3,
            "sex": sex,
            "age": age,
            "grade": np.where(x > 0.7, "a", np.where(x > -0.5, "b", "c")),
            "wage": 20 + 3 * x + (sex == "m") + rng.normal(size=n),
        }
    )


@pytest.mark.parametrize(
    ("target", "favorable", "sensitive"),
    [("grade", ["a", "b"], ["sex", "flag"]), ("wage", None, ["sex"])],
)
def test_page_of_other_outcomes(target, favorable, sensitive):
    keep = pl.all().exclude("grade" if target == "wage" else "wage")
    train = Table(frame(600, 0).select(keep), target=target, favorable=favorable, sensitive=sensitive)
    test, fresh = train.align(frame(400, 1).select(keep)), train.align(frame(600, 2).select(keep))
    found = evaluate(train, test, [fresh, fresh], models=("lightgbm",), depth="quick")
    text = render_html(found, projections=("pca",))
    table = verdict(found).tables[0]
    assert table.answer("fair").level in ("good", "caution")
    assert table.answer("useful").level == "good"
    assert table.answer("faithful").level == "good"
    assert "No explanation is on file" not in text
    assert "over seeds" in text
    assert re.search(r"<h2[^>]*>What drives decisions</h2>", text)


def test_a_constant_number_is_not_fairness():
    train = Table(frame(600, 0).drop("grade"), target="wage", sensitive=["sex"])
    test = train.align(frame(400, 1).drop("grade"))
    flat = train.replace(train.frame.with_columns(pl.lit(21.0).alias("wage")))
    found = evaluate(train, test, flat, models=("lightgbm",), depth="quick")
    answer = verdict(found).tables[0].answer("fair")
    assert answer.level == "poor"
    assert "the same answer" in answer.reasons[0].text
