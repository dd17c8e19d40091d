"""Diffusion of vectors against closed forms: the velocity's identities, and Gaussians whose score is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fairsynth import checkpoints
from fairsynth.checkpoints import Checkpoint
from fairsynth.nn.ddpm import Averaged, Diffusion, VelocityNetwork
from fairsynth.nn.training import Plan, build, train
from fairsynth.progress import Step

MEAN = torch.tensor([0.5, -0.3])
COVARIANCE = torch.tensor([[1.0, 0.35], [0.35, 0.25]])


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian_velocity(diffusion: Diffusion) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the best velocity for a Gaussian: ``E[x | x_t]`` and ``E[eps | x_t]`` are linear in ``x_t``."""

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        a, b = (float(level[int(t[0])]) for level in (diffusion.signal, diffusion.noise))
        total = a**2 * COVARIANCE + b**2 * torch.eye(2)
        centred = torch.linalg.solve(total, (x_t - a * MEAN).T).T
        x, noise = MEAN + a * centred @ COVARIANCE, b * centred
        return a * noise - b * x

    return velocity


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("levels", [1000, 100])
def test_noise_grows_from_nothing_to_nearly_all(schedule: str, levels: int) -> None:
    diffusion = Diffusion(levels, schedule)  # type: ignore[arg-type]
    assert torch.allclose(
        diffusion.signal**2 + diffusion.noise**2, torch.ones(levels + 1, dtype=torch.float64)
    )
    assert diffusion.signal[0] == 1 and diffusion.signal[-1] < 0.02
    assert (diffusion.signal.diff() < 0).all()


def test_published_schedules() -> None:
    linear = Diffusion(1000, "linear")
    betas = np.linspace(1e-4, 0.02, 1000)
    assert float(linear.signal[700]) == pytest.approx(math.sqrt(np.prod(1 - betas[:700])))
    cosine = Diffusion(1000)
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0, 400)]
    assert float(cosine.signal[400]) == pytest.approx(math.sqrt(f[1] / f[0]))
    with pytest.raises(ValueError, match="neither"):
        Diffusion(10, "square")  # type: ignore[arg-type]


@given(t=st.integers(1, 1000), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_vector_and_noise_come_back_from_the_velocity(t: int, seed: int) -> None:
    diffusion = Diffusion()
    x, noise = torch.randn(2, 7, 3, generator=chance(seed), dtype=torch.float64)
    x_t, velocity = diffusion.noised(x, torch.full((7,), t), noise)
    again, noise_again = diffusion.parted(x_t, velocity, t)
    assert torch.allclose(again, x) and torch.allclose(noise_again, noise)
    # The velocity is the derivative of x_t along the angle whose cosine is the signal.
    angle = math.acos(float(diffusion.signal[t]))
    assert torch.allclose(velocity, -math.sin(angle) * x + math.cos(angle) * noise, atol=1e-6)


def test_the_loss_of_the_best_velocity_is_the_variance_that_is_left() -> None:
    """For a standard Gaussian E[v | x_t] = 0, so the best loss is that of zero: E|v|² / d = 1."""
    diffusion = Diffusion()
    x = torch.randn(40_000, 2, generator=chance(1))
    assert float(diffusion.loss(lambda x_t, t: torch.zeros_like(x_t), x, chance())) == pytest.approx(
        1, abs=0.02
    )
    worse = float(diffusion.loss(lambda x_t, t: 0.3 * x_t, x, chance()))
    assert worse == pytest.approx(1.09, abs=0.02)


@pytest.mark.parametrize(
    ("steps", "eta", "schedule"),
    [
        (1000, 1.0, "cosine"),
        (1000, 1.0, "linear"),
        (200, 0.0, "cosine"),
        (10, 0.0, "cosine"),
        (10, 0.0, "linear"),
    ],
)
def test_a_gaussian_comes_back_with_its_mean_and_covariance(steps: int, eta: float, schedule: str) -> None:
    diffusion = Diffusion(1000, schedule)  # type: ignore[arg-type]
    drawn = diffusion.sample(gaussian_velocity(diffusion), 20_000, 2, chance(), steps=steps, eta=eta)
    within = 0.025 if steps > 50 else 0.04
    assert torch.allclose(drawn.mean(0), MEAN, atol=within)
    assert torch.allclose(torch.cov(drawn.T), COVARIANCE, atol=within)


def test_the_second_order_gets_nearer_in_few_steps_than_the_first() -> None:
    """Against the exact end of the map from noise: 8 steps of each order, and 1,000 of the first."""
    diffusion = Diffusion()
    velocity = gaussian_velocity(diffusion)

    def first_order(stops: list[int]) -> Tensor:
        x_t = torch.randn(2000, 2, generator=chance())
        for t, to in pairwise(stops):
            x, noise = diffusion.parted(x_t, velocity(x_t, torch.tensor([t])), t)
            x_t = float(diffusion.signal[to]) * x + float(diffusion.noise[to]) * noise
        return x_t

    exact = first_order(list(range(1000, -1, -1)))
    far = (first_order(diffusion.stops(8)) - exact).square().mean().sqrt()
    near = (diffusion.sample(velocity, 2000, 2, chance(), steps=8) - exact).square().mean().sqrt()
    assert near < 0.6 * far
    closer = (diffusion.sample(velocity, 2000, 2, chance(), steps=40) - exact).square().mean().sqrt()
    assert closer < 0.7 * near


@given(levels=st.integers(2, 1200), steps=st.integers(1, 300), even=st.booleans())
@settings(max_examples=60, deadline=None)
def test_stops_go_down_from_all_noise_to_none(levels: int, steps: int, even: bool) -> None:
    stops = Diffusion(levels).stops(steps, even=even)
    assert stops[0] == levels and stops[-1] == 0
    assert all(a > b for a, b in pairwise(stops))
    assert len(stops) - 1 <= min(steps, levels)
    if even:
        assert len(stops) - 1 == min(steps, levels)


def test_chance_is_the_generators_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    from fairsynth.nn import ddpm

    diffusion = Diffusion(50)
    velocity = gaussian_velocity(diffusion)
    first = diffusion.sample(velocity, 500, 2, chance(3), steps=5)
    assert torch.equal(first, diffusion.sample(velocity, 500, 2, chance(3), steps=5))
    monkeypatch.setattr(ddpm, "CHUNK", 64)
    assert torch.allclose(first, diffusion.sample(velocity, 500, 2, chance(3), steps=5), atol=1e-5)
    assert not torch.equal(first, diffusion.sample(velocity, 500, 2, chance(4), steps=5))


def test_one_level_for_all_rows_is_the_same_as_a_level_for_each() -> None:
    net = build(0, lambda: VelocityNetwork(3, 16))
    x = torch.randn(5, 3, generator=chance())
    assert torch.allclose(net(x, torch.tensor([7])), net(x, torch.full((5,), 7)), atol=1e-6)
    assert not torch.allclose(net(x, torch.tensor([7])), net(x, torch.tensor([300])), atol=1e-3)


def test_the_published_network_has_as_many_parameters_as_was_told() -> None:
    """0.27 million, for the eight dimensions of the published latent."""
    count = sum(p.numel() for p in VelocityNetwork(8, 256).parameters())
    assert round(count / 1e6, 2) == 0.27


def test_the_average_follows_and_lags() -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    averaged = Averaged(net, decay=0.9)
    seen = []
    for step in range(200):
        with torch.no_grad():
            net.weight.fill_(1.0 if step < 100 else 0.0)
        averaged.update()
        seen.append(float(averaged.mean.weight.detach()))
    assert seen[0] == 1 and seen[99] == pytest.approx(1)
    assert seen[100 + 9] == pytest.approx(0.9**10, abs=1e-5) and seen[-1] < 1e-4
    assert not any(p.requires_grad for p in averaged.mean.parameters())


def test_a_learned_diffusion_draws_two_hills_and_resumes_to_the_bit(tmp_path: Path) -> None:
    """Two far clusters of unequal size, which a single Gaussian cannot be mistaken for."""
    rng = np.random.default_rng(0)
    high = rng.random(4000) < 0.3
    real = torch.from_numpy(np.where(high, 1.5, -0.65) + 0.15 * rng.normal(size=4000)).float()[:, None]
    diffusion = Diffusion()

    def learned(folder: Path | None = None, stop: int | None = None) -> Tensor:
        averaged = build(0, lambda: Averaged(VelocityNetwork(1, 64)))

        def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            averaged.update()
            return diffusion.loss(averaged.net, real[rows], generator), {}

        def halt(step: Step) -> None:
            if step.done == stop:
                raise KeyboardInterrupt

        kept = None if folder is None else Checkpoint(folder, "mark")
        train(
            averaged, loss, n_rows=len(real), plan=Plan(600, 512, 3e-3, 0.0), seed=0, stage="fit",
            progress=halt if stop else None, checkpoint=kept,
        )  # fmt: skip
        averaged.update()
        return diffusion.sample(averaged.mean, 8000, 1, chance(1), steps=20)

    whole = learned()
    share = float((whole > 0.4).float().mean())
    assert share == pytest.approx(0.3, abs=0.03)
    assert float(((whole > -0.1) & (whole < 0.9)).float().mean()) < 0.03, "little lies between the hills"
    assert float(whole[whole > 0.4].std()) == pytest.approx(0.15, abs=0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "SAVE_EVERY", -1.0)
        with pytest.raises(KeyboardInterrupt):
            learned(tmp_path, stop=30)
    assert torch.equal(learned(tmp_path), whole)
