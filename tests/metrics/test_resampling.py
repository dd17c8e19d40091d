"""Bootstrap draws by weights: ones give the metric, whole numbers give the metric of repeated rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.metrics import fairness, resampling, utility


def world(seed: int, n: int = 120) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = np.vstack([np.ones(n), rng.poisson(1.0, size=(3, n)) + (np.arange(n) < 8)])
    y = rng.random(n) < 0.4
    raw = rng.random((n, 3)).round(1) + 0.01
    return {
        "weights": weights.astype(float),
        "y": y,
        "p": np.clip(rng.random(n) * 0.6 + 0.3 * y, 0, 1).round(1),
        "g": np.arange(n) % 3,
        "codes": np.append(np.arange(8) % 3, rng.integers(3, size=n - 8)),
        "probability": raw / raw.sum(axis=1, keepdims=True),
        "x": rng.normal(size=n).round(1),
    }


def repeated(w: dict[str, np.ndarray], draw: int) -> dict[str, np.ndarray]:
    times = w["weights"][draw].astype(int)
    return {k: np.repeat(v, times, axis=0) for k, v in w.items() if k != "weights"}


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_weights_are_repeated_people(seed: int) -> None:
    from sklearn.metrics import average_precision_score

    w = world(seed)
    weights = w["weights"]
    found = {
        "ap": resampling.average_precision(w["y"], w["p"], weights),
        "gap": resampling.distribution_gap(w["x"], w["g"], weights),
        **resampling.multiclass(w["codes"], w["probability"], weights),
        **resampling.regression(w["x"], w["p"], weights),
    }
    means = resampling.group_means(w["x"], w["g"], 3, weights)
    for draw in range(len(weights)):
        r = repeated(w, draw)
        expected = {
            "ap": average_precision_score(r["y"], r["p"]),
            "gap": fairness.distribution_gap(r["x"], r["g"]),
            **utility.multiclass_scores(r["codes"], r["probability"]),
            **utility.regression_scores(r["x"], r["p"]),
        }
        for name, value in expected.items():
            assert found[name][draw] == pytest.approx(value, abs=1e-9), name
        assert means[draw] == pytest.approx([r["x"][r["g"] == k].mean() for k in range(3)])


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_calibration_of_everybody_once_is_the_metric(seed: int) -> None:
    w = world(seed)
    error, bias = resampling.calibration(w["y"], w["p"], w["weights"])
    assert error[0] == pytest.approx(fairness.calibration_error(w["y"], w["p"]))
    for draw in range(len(error)):
        r = repeated(w, draw)
        assert bias[draw] == pytest.approx((r["p"] - r["y"]).mean(), abs=1e-12)
        assert error[draw] >= abs(bias[draw]) - 1e-12


def test_draws_without_anybody_are_undefined_not_zero() -> None:
    w = world(0)
    none = np.zeros((1, len(w["y"])))
    only = (w["g"] != 2).astype(float)[None]
    assert np.isnan(resampling.average_precision(w["y"], w["p"], none)).all()
    assert np.isnan(resampling.distribution_gap(w["x"], w["g"], only)).all()
    assert np.isnan(resampling.group_means(w["x"], w["g"], 3, only)[0]).tolist() == [False, False, True]


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Average precision of coins is the base rate: 95 % intervals must hold it nearly always."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        y, p = rng.random(600) < 0.5, rng.random(600)
        draws = resampling.average_precision(y, p, rng.poisson(1.0, size=(100, 600)).astype(float))
        low, high = fairness.interval(draws)
        covered += low <= 0.5 <= high
    assert covered >= 50
