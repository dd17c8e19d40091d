"""The process, its solvers and its denoiser, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from fairsynth.nn.diffusion import (
    SHORTEST,
    SOLVERS,
    Averaged,
    Denoiser,
    NoisyClassifier,
    alpha_sigma,
    fit_temperature,
    half_log_snr,
    solve,
    time_at,
)
from fairsynth.nn.training import build

MEAN, SPREAD = 1.5, 0.4


def gaussian(x: Tensor, t: Tensor) -> Tensor:
    """Return the exact E[x_0 | x_t] where x_0 is normal."""
    alpha, sigma = (value[:, None] for value in alpha_sigma(t))
    return MEAN + alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2) * (x - alpha * MEAN)


def two_points(x: Tensor, t: Tensor) -> Tensor:
    """Return the exact E[x_0 | x_t] where x_0 is 1 in three of four cases and -1 otherwise."""
    alpha, sigma = (value[:, None] for value in alpha_sigma(t))
    share = torch.sigmoid(2 * alpha * x / sigma**2 + np.log(3.0))
    return 2 * share - 1


@given(st.floats(SHORTEST, 1.0))
def test_time_is_the_inverse_of_the_signal_to_noise_ratio(t: float) -> None:
    t = torch.tensor(t, dtype=torch.float64)
    assert float(time_at(half_log_snr(t))) == pytest.approx(float(t), rel=1e-9)


def test_the_process_keeps_variance_and_ends_in_noise() -> None:
    t = torch.linspace(SHORTEST, 1, 50, dtype=torch.float64)
    alpha, sigma = alpha_sigma(t)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(t))
    assert float(alpha[-1]) < 0.01 and float(sigma[0]) < 0.02
    # d log a / dt = -b(t) / 2, by which the process is defined
    slope = (alpha.log()[2:] - alpha.log()[:-2]) / (t[2:] - t[:-2])
    assert torch.allclose(slope, -0.5 * (0.1 + t[1:-1] * 19.9), atol=1e-2)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_gives_back_a_normal_law(solver: str) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 1, generator=generator)
    steps = 300 if solver == "euler-maruyama" else 20
    drawn = solve(gaussian, noise, solver=solver, steps=steps, generator=generator)  # type: ignore[arg-type]
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(drawn.std()) == pytest.approx(SPREAD, abs=0.02)
    assert stats.kstest(drawn[:2000, 0].numpy(), "norm", (MEAN, SPREAD)).pvalue > 1e-3


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_gives_back_two_points_in_their_shares(solver: str) -> None:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(8000, 1, generator=generator)
    steps = 300 if solver == "euler-maruyama" else 24
    drawn = solve(two_points, noise, solver=solver, steps=steps, generator=generator)  # type: ignore[arg-type]
    assert float((drawn.abs() - 1).abs().median()) < 0.03
    assert float((drawn > 0).float().mean()) == pytest.approx(0.75, abs=0.02)


def test_more_steps_come_nearer_and_the_second_order_gets_there_sooner() -> None:
    """Against the exact map of the probability-flow ODE: quantiles go to quantiles."""
    noise = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    alpha, sigma = alpha_sigma(torch.tensor([1.0, SHORTEST], dtype=torch.float64))
    spread = torch.sqrt(alpha**2 * SPREAD**2 + sigma**2)
    exact = alpha[1] * MEAN + spread[1] / spread[0] * (noise - alpha[0] * MEAN)
    generator = torch.Generator()

    def error(solver: str, steps: int) -> float:
        drawn = solve(gaussian, noise, solver=solver, steps=steps, generator=generator)  # type: ignore[arg-type]
        return float((drawn - exact).abs().max())

    for solver in ("dpm-solver++", "heun"):
        assert error(solver, 40) < 0.4 * error(solver, 20) < 0.02


def test_a_block_is_a_law_over_levels_and_its_own_evidence_is_exact() -> None:
    """With a network that says nothing, the mean is Bayes' rule under equal shares, whatever the noise."""
    denoiser = build(0, lambda: Denoiser([0], [slice(1, 5)], width=8, depth=1))
    with torch.no_grad():
        denoiser.net.last[-1].weight.zero_()
        denoiser.net.last[-1].bias.zero_()
        generator = torch.Generator().manual_seed(0)
        for time in (0.05, 0.3, 0.9):
            t = torch.full((64,), time)
            alpha, sigma = (float(v) for v in alpha_sigma(t[0]))
            x = torch.randn(64, 5, generator=generator)
            mean = denoiser(x, t)
            assert torch.allclose(mean[:, 1:].sum(1), torch.ones(64), atol=1e-5)
            far = ((x[:, None, 1:] - alpha * torch.eye(4)) ** 2).sum(2)
            bayes = (-far / (2 * sigma**2)).softmax(1)
            assert torch.allclose(mean[:, 1:], bayes, atol=1e-4)
            # v = 0 means x_0 = a x
            assert torch.allclose(mean[:, 0], alpha * x[:, 0], atol=1e-6)


def test_a_trained_denoiser_draws_the_law_it_was_trained_on() -> None:
    """A number that depends on a level, and levels in unequal shares."""
    generator = torch.Generator().manual_seed(0)
    level = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 4000, replacement=True, generator=generator)
    number = torch.tensor([-1.0, 0.5, 2.0])[level] + 0.2 * torch.randn(4000, generator=generator)
    rows = torch.cat([number[:, None], torch.nn.functional.one_hot(level, 3).float()], dim=1)
    denoiser = build(0, lambda: Denoiser([0], [slice(1, 4)], width=32, depth=1))
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=3e-3)
    for _ in range(500):
        batch = rows[torch.randint(4000, (256,), generator=generator)]
        t = SHORTEST + (1 - SHORTEST) * torch.rand(256, generator=generator)
        loss = denoiser.losses(batch, t, torch.randn(256, 4, generator=generator)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        noise = torch.randn(6000, 4, generator=generator)
        drawn = solve(denoiser, noise, solver="dpm-solver++", steps=25, generator=generator)
    chosen = drawn[:, 1:].argmax(1)
    shares = torch.bincount(chosen, minlength=3) / 6000
    assert shares.tolist() == pytest.approx([0.6, 0.3, 0.1], abs=0.05)
    for own, centre in enumerate((-1.0, 0.5, 2.0)):
        assert float(drawn[chosen == own, 0].median()) == pytest.approx(centre, abs=0.15)


def test_the_temperature_mends_what_is_too_sure_and_leaves_what_is_right() -> None:
    classifier = build(0, lambda: NoisyClassifier(2, 2, width=8, depth=1))
    generator = torch.Generator().manual_seed(0)
    t = torch.rand(40_000, generator=generator)
    right = 1.5 * torch.randn(40_000, generator=generator)
    classes = (torch.rand(40_000, generator=generator) < torch.sigmoid(right)).long()
    honest = torch.stack([-right / 2, right / 2], dim=1)
    for factor in (1.0, 3.0):
        classifier.log_temperature.zero_()
        fit_temperature(classifier, honest * factor, classes, t)
        found = classifier.temperature(torch.linspace(0.1, 0.9, 9))
        assert found.tolist() == pytest.approx([factor] * 9, rel=0.15)
        assert not classifier.log_temperature.requires_grad


def test_the_average_lags_behind_and_arrives() -> None:
    live, copy = build(0, lambda: torch.nn.Linear(1, 1)), build(1, lambda: torch.nn.Linear(1, 1))
    both = Averaged(live, copy, 0.9)
    assert torch.equal(live.weight, copy.weight)
    start = live.weight.item()
    with torch.no_grad():
        live.weight.add_(1.0)
    both.update()
    assert start < copy.weight.item() < start + 1
    for _ in range(200):
        both.update()
    assert copy.weight.item() == pytest.approx(start + 1, abs=1e-4)
    assert {"live.weight", "average.weight", "steps"} <= dict(both.named_parameters()).keys()
    assert not copy.weight.requires_grad
