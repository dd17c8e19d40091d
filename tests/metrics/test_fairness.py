"""Group fairness: agreement with fairlearn, closed forms, undefined rates, and the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.errors import DataError
from fairsynth.metrics import fairness


def people(seed: int, n: int = 600, groups: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    g = rng.integers(groups, size=n)
    y = rng.random(n) < 0.3 + 0.1 * g
    p = rng.random(n) < np.where(y, 0.7, 0.2) + 0.05 * g
    return y, p, g


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_the_parity_metrics_are_fairlearns(seed: int, groups: int) -> None:
    fl = pytest.importorskip("fairlearn.metrics")
    y, p, g = people(seed, groups=groups)
    ours = fairness.parity(fairness.confusion_by_group(y, p, g))
    theirs = {
        "dpr": fl.demographic_parity_ratio(y, p, sensitive_features=g),
        "dpd": fl.demographic_parity_difference(y, p, sensitive_features=g),
        "eor": fl.equalized_odds_ratio(y, p, sensitive_features=g),
        "eod": fl.equalized_odds_difference(y, p, sensitive_features=g),
        "equal_opportunity_ratio": fl.equal_opportunity_ratio(y, p, sensitive_features=g),
        "equal_opportunity_difference": fl.equal_opportunity_difference(y, p, sensitive_features=g),
    }
    handed_over = fairness.parity_by_fairlearn(fairness.confusion_by_group(y, p, g))
    for name, value in theirs.items():
        assert float(ours[name]) == pytest.approx(value, abs=1e-12), name
        assert handed_over[name] == pytest.approx(value, abs=1e-12), name


@given(
    st.lists(st.lists(st.sampled_from([0, 0, 1, 3, 250]), min_size=4, max_size=4), min_size=1, max_size=5),
    st.sampled_from([1, 4]),
)
@settings(max_examples=60, deadline=None)
def test_the_bootstraps_formula_and_fairlearn_agree_on_any_counts(cells: list, minimum: int) -> None:
    """Empty groups, groups without an outcome, 0/0, too few groups: the value and its interval match."""
    counts = np.array(cells).reshape(-1, 2, 2)
    quick, theirs = (f(counts, minimum=minimum) for f in (fairness.parity, fairness.parity_by_fairlearn))
    for name in fairness.FAIRLEARN_METRICS:
        assert theirs[name] == pytest.approx(float(quick[name]), abs=1e-12, nan_ok=True), name


def test_the_headline_values_are_computed_by_fairlearn(monkeypatch: pytest.MonkeyPatch) -> None:
    import fairlearn.metrics

    class Marked(fairlearn.metrics.MetricFrame):
        def ratio(self, **how: str):  # type: ignore[no-untyped-def]
            return super().ratio(**how) * 0.5

    monkeypatch.setattr(fairlearn.metrics, "MetricFrame", Marked)
    y, p, g = people(1)
    halved = float(fairness.parity(fairness.confusion_by_group(y, p, g))["dpr"]) / 2
    assert fairness.demographic_parity_ratio(p, g) == pytest.approx(halved)


def test_known_values() -> None:
    # Group 0: 4 of 10 selected (TPR 3/5, FPR 1/5); group 1: 2 of 10 (TPR 2/4, FPR 0/6).
    y = np.array([1] * 5 + [0] * 5 + [1] * 4 + [0] * 6)
    p = np.array([1, 1, 1, 0, 0] + [1, 0, 0, 0, 0] + [1, 1, 0, 0] + [0] * 6)
    g = np.repeat([0, 1], 10)
    assert fairness.demographic_parity_ratio(p, g) == pytest.approx(0.5)
    assert fairness.demographic_parity_difference(p, g) == pytest.approx(0.2)
    assert fairness.equal_opportunity_ratio(y, p, g) == pytest.approx(0.5 / 0.6)
    assert fairness.equalized_odds_ratio(y, p, g) == 0.0
    assert fairness.equalized_odds_difference(y, p, g) == pytest.approx(0.2)
    assert fairness.predictive_parity_difference(y, p, g) == pytest.approx(0.25)


@pytest.mark.parametrize("answer", [True, False])
def test_a_constant_predictor_is_perfectly_fair(answer: bool) -> None:
    """Trap 1: 0/0 counts as equal, so the constant has to stand beside every result."""
    y, _, g = people(0)
    p = np.full(len(y), answer)
    assert fairness.demographic_parity_ratio(p, g) == 1.0
    assert fairness.equalized_odds_ratio(y, p, g) == 1.0
    assert fairness.equalized_odds_difference(y, p, g) == 0.0


def test_a_group_without_positives_does_not_decide_the_tpr() -> None:
    y = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 0])
    p = np.array([1, 0, 0, 1, 1, 1, 0, 1, 0, 0])
    g = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])  # nobody of group 2 has y = 1
    rates = fairness.group_rates(fairness.confusion_by_group(y, p, g))
    assert np.isnan(rates.tpr[2])
    assert not np.isnan(rates.fpr).any()
    assert fairness.equal_opportunity_ratio(y, p, g) == pytest.approx(0.5)


def test_one_group_is_an_error_on_arrays_and_nan_on_counts() -> None:
    y, p, _ = people(1)
    with pytest.raises(DataError, match="at least two groups"):
        fairness.demographic_parity_ratio(p, np.zeros(len(p), dtype=int))
    assert np.isnan(fairness.parity(fairness.confusion_by_group(y, p, np.zeros(len(p), dtype=int)))["dpr"])


def test_small_groups_can_be_left_out() -> None:
    y, p, g = people(2)
    g, y, p = np.append(g, 3), np.append(y, True), np.append(p, False)  # one person alone, not selected
    counts = fairness.confusion_by_group(y, p, g)
    assert fairness.parity(counts)["dpr"] == 0.0
    without = fairness.parity(fairness.confusion_by_group(y[:-1], p[:-1], g[:-1]))["dpr"]
    assert fairness.parity(counts, minimum=2)["dpr"] == pytest.approx(float(without))


def test_labels_that_are_not_decisions_are_refused() -> None:
    with pytest.raises(DataError, match="True and False"):
        fairness.confusion_by_group([0, 1, 2], [0, 1, 1], [0, 0, 1])
    with pytest.raises(DataError, match="same people"):
        fairness.confusion_by_group([0, 1], [0, 1, 1], [0, 0])
    with pytest.raises(DataError, match="one group code"):
        fairness.confusion_by_group([0, 1], [0, 1], [0, 0, 1])


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_ratios_do_not_depend_on_how_groups_are_named_or_ordered(seed: int) -> None:
    y, p, g = people(seed)
    names = np.array(["c", "a", "b"])[g]
    order = np.random.default_rng(seed).permutation(len(y))
    assert fairness.equalized_odds_ratio(y, p, g) == fairness.equalized_odds_ratio(
        y[order], p[order], names[order]
    )


def test_the_bootstrap_over_counts_is_the_bootstrap_over_rows() -> None:
    y, p, g = people(3, n=800, groups=2)
    rng = np.random.default_rng(0)
    drawn = fairness.bootstrap_counts(fairness.confusion_by_group(y, p, g), 3000, rng)
    assert (drawn.sum(axis=(1, 2, 3)) == len(y)).all()
    fast = fairness.parity(drawn)["dpr"]
    slow = []
    for _ in range(1500):
        i = rng.integers(len(y), size=len(y))
        slow.append(float(fairness.parity(fairness.confusion_by_group(p[i], p[i], g[i]))["dpr"]))
    assert np.mean(fast) == pytest.approx(np.mean(slow), abs=0.01)
    assert np.std(fast) == pytest.approx(np.std(slow), rel=0.1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth, hits = 0.4 / 0.5, 0
    rng = np.random.default_rng(5)
    for _ in range(200):
        g = np.repeat([0, 1], 1000)
        p = rng.random(2000) < np.where(g == 0, 0.4, 0.5)
        drawn = fairness.bootstrap_counts(fairness.confusion_by_group(p, p, g), 400, rng)
        low, high = fairness.interval(fairness.parity(drawn)["dpr"]) or (0, 0)
        hits += low <= truth <= high
    assert 0.89 <= hits / 200 <= 0.99


def test_flips() -> None:
    a = np.array([True, True, False, False])
    b = np.array([True, False, True, False])
    # Two people flip, in opposite directions: on average nothing moves, and half of them are hit.
    assert fairness.fairness_through_unawareness([a, b]) == 0.0
    assert fairness.counterfactual_flip_rate([a, b]) == 0.5
    assert fairness.fairness_through_unawareness([a, np.zeros(4, bool), b]) == 0.5
    with pytest.raises(DataError, match="two levels"):
        fairness.counterfactual_flip_rate([a])


def test_shifts_of_numbers() -> None:
    everybody_up = [np.arange(4.0), np.arange(4.0) + 2]
    assert fairness.mean_shift(everybody_up) == fairness.counterfactual_shift(everybody_up) == 2
    both_ways = [np.array([0.0, 1.0]), np.array([1.0, 0.0])]
    assert fairness.mean_shift(both_ways) == 0
    assert fairness.counterfactual_shift(both_ways) == 1
    for shift in (fairness.mean_shift, fairness.counterfactual_shift):
        with pytest.raises(DataError, match="two levels"):
            shift([np.zeros(3)])


def test_calibration_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(200_000)
    y = rng.random(200_000) < p
    assert fairness.calibration_error(y, p) < 0.01
    assert fairness.calibration_error(y, np.clip(p + 0.2, 0, 1)) > 0.1
    assert fairness.calibration_error([1, 0, 1, 0], [0.5] * 4) == 0.0
    assert fairness.calibration_error([1, 1, 1, 1], [0.25] * 4) == 0.75


def test_gaps_of_numeric_decisions() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert fairness.mean_gap(x, [0, 0, 1, 1]) == 2.0
    assert fairness.distribution_gap(x, [0, 0, 1, 1]) == 0.5  # F_0(2) = 1, everybody's F(2) = 1/2
    assert fairness.distribution_gap(x, [0, 1, 1, 0]) == 0.25
    same_mean = np.concatenate([np.zeros(100), np.repeat([-1.0, 1.0], 50)])
    groups = np.repeat([0, 1], 100)
    assert fairness.mean_gap(same_mean, groups) == 0.0
    assert fairness.distribution_gap(same_mean, groups) == 0.25


def test_conditional_parity_explains_simpsons_paradox() -> None:
    """Berkeley 1973 in small: every department treats both alike, the totals do not."""
    easy = [(0, 1, 0)] * 80 + [(0, 0, 0)] * 20 + [(1, 1, 0)] * 8 + [(1, 0, 0)] * 2
    hard = [(0, 1, 1)] * 2 + [(0, 0, 1)] * 8 + [(1, 1, 1)] * 20 + [(1, 0, 1)] * 80
    g, y, a = np.array(easy + hard).T
    assert fairness.demographic_parity_difference(y, g) > 0.4
    assert fairness.conditional_parity_difference(y, g, a) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(DataError, match="stratum"):
        fairness.conditional_parity_difference(y, g, a, minimum=1000)


def test_group_shares() -> None:
    assert fairness.group_share_gap([50, 50], [0.5, 0.5]) == 0.0
    assert fairness.group_share_gap([1, 0], [0, 1]) == 1.0
    assert fairness.group_share_gap([0.7, 0.3], [0.5, 0.5]) == pytest.approx(0.2)
