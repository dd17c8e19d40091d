"""Random schemas and nasty synthetic rows: every evaluation ends with numbers or with words, never with a crash."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairsynth.data.table import Table
from fairsynth.evaluation.evaluate import evaluate
from fairsynth.evaluation.result import Evaluation

KINDS = ("continuous", "integer", "categorical", "many_levels", "boolean", "datetime")


def draw_rows(kinds: list[str], target: str, n: int, seed: int, missing: float) -> pl.DataFrame:
    """Draw rows with one column of each kind, a sensitive column, and a target."""
    rng = np.random.default_rng(seed)
    columns: dict[str, pl.Series] = {}
    for i, kind in enumerate(kinds):
        values = {
            "continuous": lambda: pl.Series(np.round(rng.lognormal(size=n) * 100, 2)),
            "integer": lambda: pl.Series(rng.poisson(3, size=n)),
            "categorical": lambda: pl.Series(rng.choice(["x", "y", "z"], size=n, p=[0.8, 0.15, 0.05])),
            "many_levels": lambda: pl.Series([f"l{v}" for v in rng.integers(90, size=n)]),
            "boolean": lambda: pl.Series(rng.random(n) < 0.3),
            "datetime": lambda: (
                pl.Series(rng.integers(0, 10**9, size=n)).cast(pl.Int64).cast(pl.Datetime("us"))
            ),
        }[kind]()
        holes = pl.Series(rng.random(n) < missing)
        columns[f"c{i}"] = pl.DataFrame({"v": values}).select(pl.when(~holes).then("v"))["v"]
    columns["s"] = pl.Series(np.append(["a", "b"], rng.choice(["a", "b", "c"], size=n - 2)))
    columns["y"] = {
        "binary": lambda: pl.Series(np.append(["no", "yes"], rng.choice(["no", "yes"], size=n - 2))),
        "boolean": lambda: pl.Series(np.append([True, False], rng.random(n - 2) < 0.4)),
        "multiclass": lambda: pl.Series(np.append(["p", "q", "r"], rng.choice(["p", "q", "r"], size=n - 3))),
        "number": lambda: pl.Series(np.round(rng.normal(size=n), 3)),
    }[target]()
    return pl.DataFrame(columns)


ROLES = {
    "binary": {"favorable": "yes"},
    "boolean": {"favorable": True},
    "multiclass": {"favorable": ["p", "q"]},
    "number": {},
}


def check(found: Evaluation) -> None:
    """Every value is finite or explained, and the file can be read again."""
    assert found.scores
    for s in found.scores:
        assert s.value is not None or s.note, s
        assert s.value is None or np.isfinite(s.value), s
    assert Evaluation.from_json(found.to_json()).scores == found.scores
    found.summary()


@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    target=st.sampled_from(sorted(ROLES)),
    n=st.integers(40, 120),
    seed=st.integers(0, 1000),
    missing=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_schemas(kinds: list[str], target: str, n: int, seed: int, missing: float) -> None:
    rows = draw_rows(kinds, target, 2 * n, seed, missing)
    declared = {f"c{i}": "categorical" if k == "many_levels" else k for i, k in enumerate(kinds)}
    whole = Table(rows, target="y", sensitive=["s"], kinds=declared, **ROLES[target])
    train, test = whole.replace(whole.frame[:n]), whole.replace(whole.frame[n:])
    synthetic = whole.replace(whole.frame[np.random.default_rng(seed).integers(n, size=n)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        check(evaluate(train, test, synthetic, depth="quick", models=("lightgbm", "logistic_regression")))


@pytest.mark.parametrize("depth", ["quick", "full"])
def test_few_and_poor_synthetic_rows(train: Table, test: Table, depth: str) -> None:
    """Twenty rows, one class, one group, nothing known of the town."""
    dtype = {name: train.frame[name].dtype for name in ("sex", "paid", "town")}
    poor = train.frame[:20].with_columns(
        sex=pl.lit("man", dtype=dtype["sex"]),
        paid=pl.lit("no", dtype=dtype["paid"]),
        town=pl.lit(None, dtype=dtype["town"]),
        skill=pl.lit(None, dtype=pl.Float64),
    )
    found = evaluate(train, test, train.replace(poor), depth=depth, models=("lightgbm", "random_forest"))
    check(found)
    assert found.value("label_parity_ratio", attribute="sex") is None
    assert "fewer than two groups" in found.score("label_parity_ratio", attribute="sex").note
    assert found.value("ks", column="skill") is None
