"""The costs of mechanisms are held against the divergences that they bound, and noise against its law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import chi2, norm

from fairsynth import privacy_accounting as accounting
from fairsynth.errors import SettingsError
from fairsynth.privacy_accounting import (
    Ledger,
    chance,
    delta_of,
    discrete_gaussian,
    epsilon_of,
    exponential_epsilon,
    exponential_rho,
    gaussian_rho,
    gaussian_variance,
    rho_for,
)


# ------------------------------------------------------------------------------------------- conversions
def exact_gaussian_delta(rho: float, epsilon: float) -> float:
    """Return the true delta of one Gaussian mechanism (Balle and Wang, ICML 2018, theorem 5)."""
    mu = math.sqrt(2 * rho)
    return float(norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu))


@given(st.floats(1e-4, 3.0), st.floats(0.02, 12.0))
@settings(max_examples=60, deadline=None)
def test_the_conversion_is_the_least_of_its_formula_and_sound(rho: float, epsilon: float) -> None:
    def log_delta(log_x: float) -> float:
        x = math.exp(log_x)
        return x * ((x + 1) * rho - epsilon) + x * math.log(x) - (x + 1) * math.log1p(x)

    grid = np.linspace(-12, 12, 400)
    start = grid[np.argmin([log_delta(x) for x in grid])]
    best = minimize_scalar(
        log_delta, bounds=(start - 0.1, start + 0.1), method="bounded", options={"xatol": 1e-10}
    )
    assert delta_of(rho, epsilon) == pytest.approx(min(1.0, math.exp(best.fun)), rel=1e-6)
    assert delta_of(rho, epsilon) >= exact_gaussian_delta(rho, epsilon), "no mechanism may beat its guarantee"


@given(st.floats(0.01, 20.0), st.floats(1e-12, 0.1))
@settings(max_examples=60, deadline=None)
def test_budget_and_guarantee_turn_into_each_other(epsilon: float, delta: float) -> None:
    rho = rho_for(epsilon, delta)
    assert delta_of(rho, epsilon) <= delta < delta_of(rho * 1.001, epsilon)
    assert epsilon_of(rho, delta) == pytest.approx(epsilon, rel=1e-6)
    simple = rho + 2 * math.sqrt(rho * math.log(1 / delta))
    assert simple > epsilon, "the tight conversion allows more than the simple one"


def test_nothing_spent_is_perfectly_private() -> None:
    assert delta_of(0.0, 1.0) == 0.0 and epsilon_of(0.0, 1e-6) == 0.0


@pytest.mark.parametrize(
    ("epsilon", "delta", "says"),
    [(0, 0.1, "epsilon"), (-1, 0.1, "epsilon"), (math.nan, 0.1, "epsilon"), (math.inf, 0.1, "epsilon"),
     ("1", 0.1, "epsilon"), (1, 0, "delta"), (1, 1, "delta"), (1, True, "delta")],
)  # fmt: skip
def test_guarantees_that_are_none(epsilon: float, delta: float, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        rho_for(epsilon, delta)


# ------------------------------------------------------------------------------------ costs of mechanisms
def renyi(p: np.ndarray, q: np.ndarray, order: float) -> float:
    """Return the Rényi divergence of two laws on the same points."""
    return float(logsumexp(order * np.log(p) + (1 - order) * np.log(q)) / (order - 1))


@pytest.mark.parametrize("variance", [0.3, 2.0, 40.0])
@pytest.mark.parametrize("order", [1.01, 2.0, 7.5])
def test_the_cost_of_noise_bounds_what_one_row_can_tell(variance: float, order: float) -> None:
    """One row replaced moves two counts by one: two independent shifts of one, L2 sensitivity the root of two."""
    reach = np.arange(-200, 201)
    log_law = -(reach**2) / (2 * variance)
    law = np.exp(log_law - logsumexp(log_law))
    seen = law[1:-1] > 1e-200
    told = 2 * renyi(law[1:-1][seen], law[:-2][seen], order)
    assert told <= order * gaussian_rho(variance, 2**0.5) * (1 + 1e-6)


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=8), st.floats(0.05, 4.0), st.data())
@settings(max_examples=150, deadline=None)
def test_the_cost_of_a_choice_bounds_what_one_row_can_tell(
    scores: list[float], epsilon: float, data: st.DataObject
) -> None:
    sensitivity = 2.0
    moves = data.draw(
        st.lists(st.sampled_from([-2.0, -1.0, 0.0, 2.0]), min_size=len(scores), max_size=len(scores))
    )

    def law(values: np.ndarray) -> np.ndarray:
        weights = np.exp((values - values.max()) * epsilon / (2 * sensitivity))
        return weights / weights.sum()

    p, q = law(np.array(scores)), law(np.array(scores) + moves)
    for order in (1.001, 2.0, 10.0):
        assert renyi(p, q, order) <= order * exponential_rho(epsilon) + 1e-9


def test_costs_and_scales_turn_into_each_other() -> None:
    for rho in (1e-5, 0.003, 0.7):
        assert gaussian_rho(gaussian_variance(rho, 2**0.5), 2**0.5) <= rho
        assert gaussian_rho(gaussian_variance(rho, 2**0.5), 2**0.5) == pytest.approx(rho, rel=1e-2)
        assert exponential_rho(exponential_epsilon(rho)) == pytest.approx(rho)
    with pytest.raises(SettingsError, match="raise epsilon"):
        gaussian_variance(1e-9, 1.0)


def test_choices_follow_the_exponential_law() -> None:
    scores = np.array([0.0, 3.0, 5.0, 5.0])
    ledger, bits = Ledger(1e4, 1e-6), chance([1])
    rho = exponential_rho(1.2)
    drawn = [ledger.choose("x", scores, rho=rho, sensitivity=2.0, bits=bits) for _ in range(4000)]
    weights = np.exp(scores * 1.2 / 4)
    expected = 4000 * weights / weights.sum()
    found = np.bincount(drawn, minlength=4)
    assert chi2.sf(((found - expected) ** 2 / expected).sum(), 3) > 1e-3


# ----------------------------------------------------------------------------------------------- the noise
@pytest.mark.parametrize("variance", [0.2, 0.6, 3.0, 700.0, 25_000.0])
def test_noise_follows_the_discrete_gaussian_law(variance: float) -> None:
    drawn = discrete_gaussian(variance, 60_000, chance([3]))
    exact = math.ceil(variance * 1024) / 1024
    reach = np.arange(-int(12 * math.sqrt(variance)) - 3, int(12 * math.sqrt(variance)) + 4)
    law = np.exp(-(reach**2) / (2 * exact))
    law /= law.sum()
    width = max(1, int(math.sqrt(variance) / 3))
    bins = (reach - reach[0]) // width
    expected = 60_000 * np.bincount(bins, weights=law)
    found = np.bincount(bins[drawn - reach[0]], minlength=len(expected))
    often = expected > 5
    statistic = ((found - expected)[often] ** 2 / expected[often]).sum()
    assert chi2.sf(statistic, often.sum() - 1) > 1e-3
    assert found[~often].sum() < expected[~often].sum() + 20


def test_decisions_follow_the_exponential_function() -> None:
    for numerator, denominator in ((1, 3), (1, 1), (7, 3), (0, 5)):
        true = accounting._bernoulli_exp(np.full(40_000, numerator), denominator, chance([5])).mean()
        assert true == pytest.approx(math.exp(-numerator / denominator), abs=0.012)


def test_the_largest_noise_stays_within_64_bits() -> None:
    drawn = discrete_gaussian(accounting.MAX_VARIANCE, 20_000, chance([0]))
    assert drawn.std() == pytest.approx(math.sqrt(accounting.MAX_VARIANCE), rel=0.03)
    assert abs(drawn).max() < 8 * math.sqrt(accounting.MAX_VARIANCE)


def test_noise_comes_from_the_system_unless_a_seed_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert np.array_equal(chance([4, 1])(9), chance([4, 1])(9))
    assert not np.array_equal(chance([4, 1])(9), chance([5, 1])(9))
    assert not np.array_equal(chance(None)(9), chance(None)(9))
    asked: list[int] = []
    monkeypatch.setattr(accounting.os, "urandom", lambda n: asked.append(n) or bytes(n))
    chance(None)(9)
    assert asked == [72], "every bit is the system's, none stretched from a seed"


# ---------------------------------------------------------------------------------------------- the ledger
def test_the_ledger_counts_everything_and_refuses_what_is_too_much() -> None:
    ledger, bits = Ledger(1.0, 1e-6), chance([0])
    each = ledger.rho / 10
    for turn in range(5):
        ledger.gaussian("a", np.arange(6).reshape(2, 3), rho=each, sensitivity=1.0, bits=bits)
        ledger.choose("b", np.arange(3.0), rho=each, sensitivity=1.0, bits=bits)
        assert len(ledger.entries) == 2 * turn + 2
    assert ledger.spent == pytest.approx(ledger.rho, rel=0.01) and ledger.spent <= ledger.rho * (1 + 1e-9)
    assert epsilon_of(ledger.spent, 1e-6) <= 1.0 + 1e-9
    with pytest.raises(SettingsError, match="budget is spent"):
        ledger.choose("one more", np.arange(3.0), rho=each, sensitivity=1.0, bits=bits)
    assert len(ledger.entries) == 10, "what was refused was not done"


def test_a_ledger_is_read_back_and_a_forged_one_refused() -> None:
    ledger = Ledger(2.0, 1e-6)
    ledger.gaussian("a", np.arange(6), rho=ledger.rho / 2, sensitivity=1.0, bits=chance([0]))
    body = ledger.to_json()
    assert Ledger.from_json(body).to_json() == body
    for change in ({"rho": 1e-9}, {"scale": 1e6}, {"mechanism": "none"}, {"sensitivity": -1.0}):
        forged = {**body, "entries": [{**body["entries"][0], **change}]}
        with pytest.raises(ValueError):
            Ledger.from_json(forged)
    with pytest.raises(SettingsError, match="spent"):
        Ledger.from_json({**body, "epsilon": 0.1})
