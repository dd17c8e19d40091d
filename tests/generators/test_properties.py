"""Random tables of any shape, all the way: fit, save, load, sample, evaluate."""

from __future__ import annotations

import tempfile
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairsynth.data.table import Table
from fairsynth.errors import FairsynthError
from fairsynth.evaluation.evaluate import evaluate
from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.generators import fairvae
from fairsynth.generators.base import load_generator
from fairsynth.generators.fairvae import FairVAE

KINDS = ("continuous", "decimals", "integer", "constant", "boolean", "levels", "many levels", "numbers as text",
         "datetime", "spike", "id")  # fmt: skip


def column(kind: str, n: int, rng: np.random.Generator) -> pl.Series:
    """Draw one column of a kind, by a law that real tables have."""
    values: Any = {
        "continuous": lambda: rng.normal(size=n) * 10.0 ** rng.integers(-5, 8),
        "decimals": lambda: np.round(rng.lognormal(2, 1, n), 2),
        "integer": lambda: rng.integers(-5, 10 ** rng.integers(1, 9), n),
        "constant": lambda: np.full(n, 7.5),
        "boolean": lambda: rng.random(n) < rng.uniform(0.02, 0.98),
        "levels": lambda: rng.choice(["a", "b × c", "Straße", "?", " "], n),
        "many levels": lambda: np.array([f"v{x}" for x in rng.zipf(1.5, n) % 300]),
        "numbers as text": lambda: rng.choice(["1", "2", "03"], n),
        "datetime": lambda: [datetime(1999, 12, 31) + timedelta(hours=int(h)) for h in rng.integers(0, 99_999, n)],
        "spike": lambda: np.where(rng.random(n) < 0.9, 0.0, rng.exponential(1e4, n)),
        "id": lambda: [f"{x:08d}" for x in rng.permutation(n)],
    }[kind]()  # fmt: skip
    return pl.Series(values)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[pl.DataFrame, dict[str, Any], Fairness]:
    """Draw a table with its roles, and the fairness that is asked for."""
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    n = draw(st.sampled_from([60, 90, 240]))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6))
    series = {}
    for i, kind in enumerate(kinds):
        values = column(kind, n, rng)
        if draw(st.booleans()) and kind != "id":
            values = pl.select(
                pl.when(pl.Series(rng.random(n) < 0.3)).then(None).otherwise(values)
            ).to_series()
        series[f"{kind} {i}"] = values
    groups = draw(st.sampled_from(["two", "five", "boolean", "missing", "banded", "several"]))
    sensitive: Any = ["s"]
    s = rng.choice(["x", "y"], n)
    if groups == "five":
        s = rng.choice(list("vwxyz"), n, p=[0.5, 0.3, 0.15, 0.04, 0.01])
    elif groups == "boolean":
        s = rng.random(n) < 0.3
    elif groups == "missing":
        s = np.array(["x", "y", None], dtype=object)[rng.integers(0, 3, n)]
    elif groups == "banded":
        s, sensitive = np.round(rng.normal(40, 10, n), 1), {"s": [35, 45.5]}
    elif groups == "several":
        series["t"] = pl.Series(rng.choice(["p", "q"], n))
        sensitive = ["s", "t"]
    series["s"] = pl.Series(s.tolist())
    labels = draw(st.sampled_from(["two", "three", "boolean", "number"]))
    roles: dict[str, Any] = {"target": "y", "sensitive": sensitive}
    bad = rng.random(n) < draw(st.sampled_from([0.05, 0.3, 0.5]))
    if labels == "boolean":
        series["y"], roles["favorable"] = pl.Series(~bad), True
    elif labels == "number":
        series["y"] = pl.Series(np.round(rng.normal(size=n) + bad, 3))
    else:
        third = rng.random(n) < (0.2 if labels == "three" else 0)
        series["y"] = pl.Series(np.where(third, "maybe", np.where(bad, "no", "yes")))
        roles["favorable"] = "yes"
    order = draw(st.permutations(list(series)))
    criterion = draw(st.sampled_from(CRITERIA)) if labels != "number" else "demographic_parity"
    strength = draw(st.sampled_from([0.0, 0.4, 1.0]))
    return pl.DataFrame({name: series[name] for name in order}), roles, Fairness(criterion, strength)  # type: ignore[arg-type]


def go_all_the_way(world: tuple[pl.DataFrame, dict[str, Any], Fairness]) -> None:
    """Whatever the table is: it is refused in words, or everything works on it."""
    frame, roles, fairness = world
    try:
        table = Table(frame, **roles)
        model = FairVAE(fairness=fairness, epochs=0.2, max_intervals=16).fit(table)
    except FairsynthError as error:
        assert len(str(error)) > 20
        return
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "m.fairsynth")
        model = load_generator(Path(folder) / "m.fairsynth")
    made = model.sample(len(frame), seed=1)
    assert made.schema == frame.schema and made.height == frame.height
    aligned = table.align(made, count_out_of_range=True)
    assert aligned.repairs == []
    assert model.sample(5, seed=1, sensitive="uniform").height == 5
    try:
        result = evaluate(table, frame, made, models=("logistic_regression",), depth="quick")
    except FairsynthError as error:
        assert len(str(error)) > 20
        return
    assert result.scores
    for score in result.scores:
        assert score.value is None or np.isfinite(score.value), score
    assert result.to_json()


@pytest.fixture(autouse=True, scope="module")
def _few_steps() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fairvae, "MIN_STEPS", 12)
        yield


SETTINGS: Any = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}


@settings(max_examples=10, **SETTINGS)
@given(world=worlds())
def test_random_tables_go_all_the_way(world: tuple[pl.DataFrame, dict[str, Any], Fairness]) -> None:
    go_all_the_way(world)


@pytest.mark.slow
@settings(max_examples=120, **SETTINGS)
@given(world=worlds())
def test_many_random_tables_go_all_the_way(world: tuple[pl.DataFrame, dict[str, Any], Fairness]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        go_all_the_way(world)
