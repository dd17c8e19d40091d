"""Shared parts of adversarial networks: losses by hand, exact draws, and a loop that resumes to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fairsynth import checkpoints
from fairsynth.checkpoints import Checkpoint
from fairsynth.data.vectors import Block
from fairsynth.errors import SettingsError
from fairsynth.nn.gan import (
    block_losses,
    gan_steps,
    gradient_penalty,
    leaky_perceptron,
    least_squares_critic_loss,
    least_squares_generator_loss,
    mixed_activation,
    train_gan,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from fairsynth.nn.training import Plan, build
from fairsynth.progress import Step

#: A number, three levels, a number that may be missing, two levels.
BLOCKS = (
    Block(0, 0, slice(1, 1)),
    Block(1, None, slice(1, 4)),
    Block(2, 4, slice(5, 7)),
    Block(3, None, slice(7, 9)),
)
WIDTH = 9


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------- mixed outputs
def test_numbers_pass_and_levels_sum_to_one() -> None:
    raw = torch.randn(50, WIDTH, generator=chance())
    out = mixed_activation(raw, BLOCKS, 0.2, chance(1))
    assert out.shape == raw.shape
    assert torch.equal(out[:, [0, 4]], raw[:, [0, 4]])
    for span in (slice(1, 4), slice(5, 7), slice(7, 9)):
        assert torch.allclose(out[:, span].sum(1), torch.ones(50)) and (out[:, span] >= 0).all()


@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_the_largest_entry_is_a_draw_from_the_softmax(tau: float) -> None:
    """Whatever the temperature; without the noise, or with it added twice, these shares go wrong."""
    n = 40_000
    logits = torch.tensor([0.3, 0.0, 1.0, -1.0, 0.0, 0.5, -0.5, 2.0, 0.0])
    out = mixed_activation(logits.expand(n, -1), BLOCKS, tau, chance())
    for span in (slice(1, 4), slice(5, 7), slice(7, 9)):
        got = torch.bincount(out[:, span].argmax(1), minlength=span.stop - span.start) / n
        assert got.numpy() == pytest.approx(logits[span].softmax(0).numpy(), abs=0.012)


def test_a_lower_temperature_is_nearer_to_one_hot() -> None:
    raw = torch.zeros(2000, WIDTH)
    sharp, soft = (mixed_activation(raw, BLOCKS, tau, chance())[:, 1:4].amax(1).mean() for tau in (0.1, 2.0))
    assert sharp > 0.95 and soft < 0.75


def test_gradients_reach_every_output() -> None:
    raw = torch.randn(20, WIDTH, generator=chance(), requires_grad=True)
    (
        mixed_activation(raw, BLOCKS, 0.2, chance(1)) * torch.randn(20, WIDTH, generator=chance(2))
    ).sum().backward()
    assert raw.grad is not None and (raw.grad.abs().sum(0) > 0).all() and raw.grad.isfinite().all()


def test_chance_is_the_generator_alone() -> None:
    raw = torch.zeros(30, WIDTH)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = mixed_activation(raw, BLOCKS, 0.2, chance(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, mixed_activation(raw, BLOCKS, 0.2, chance(3)))
    assert not torch.equal(first, mixed_activation(raw, BLOCKS, 0.2, chance(4)))


def test_rows_are_told_by_likelihood() -> None:
    raw = torch.tensor([[1.0, 0.0, 0.0, 0.0, 7.0, 0.0, 1.0, 2.0, 0.0]])
    row = torch.tensor([[0.0, 0.0, 1.0, 0.0, 5.0, 1.0, 0.0, 1.0, 0.0]])
    names = 0.5 + np.log(3) + 2.0 + np.log(1 + np.e) + np.log(1 + np.exp(-2))
    assert float(block_losses(raw, row, BLOCKS)) == pytest.approx(names, abs=1e-5)
    row[0, 5:7] = torch.tensor([0.0, 1.0])
    missing = 0.5 + np.log(3) + np.log(1 + np.exp(-1)) + np.log(1 + np.exp(-2))
    assert float(block_losses(raw, row, BLOCKS)) == pytest.approx(missing, abs=1e-5), (
        "its number says nothing"
    )


# ------------------------------------------------------------------------------------------------- losses
@pytest.mark.parametrize(("slope", "penalty"), [(1.0, 0.0), (3.0, 4.0), (0.0, 1.0)])
def test_the_penalty_of_a_linear_critic(slope: float, penalty: float) -> None:
    """Its gradient is the same everywhere: `slope` times a unit vector."""
    direction = torch.tensor([0.6, 0.8, 0.0]) * slope

    def critic(rows: Tensor) -> Tensor:
        return (rows @ direction)[:, None]

    real, fake = torch.randn(16, 3, generator=chance()), torch.randn(16, 3, generator=chance(1))
    assert float(gradient_penalty(critic, real, fake, chance())) == pytest.approx(penalty, abs=1e-4)
    distance = float((fake - real).mean(0) @ direction)
    value = wasserstein_critic_loss(critic, real, fake, chance(), penalty=10.0)
    assert float(value) == pytest.approx(distance + 10 * penalty, abs=1e-3)
    assert float(wasserstein_generator_loss(critic, fake)) == pytest.approx(
        -float(fake.mean(0) @ direction), abs=1e-5
    )


def test_the_penalty_looks_between_real_and_made_rows() -> None:
    """Points lie on the segments: a critic that is steep only outside of them pays nothing."""
    seen: list[Tensor] = []

    def critic(rows: Tensor) -> Tensor:
        seen.append(rows.detach())
        return rows.sum(1)

    real, fake = torch.zeros(500, 2), torch.ones(500, 2)
    gradient_penalty(critic, real, fake, chance())
    points = seen[0]
    assert torch.allclose(points[:, 0], points[:, 1]), "one share for a whole row"
    assert 0 <= points.min() < 0.05 and 0.95 < points.max() <= 1
    assert float(points.mean()) == pytest.approx(0.5, abs=0.05)


def test_the_penalty_trains_the_critic() -> None:
    critic = build(0, lambda: leaky_perceptron(3, (8,), 1))
    real, fake = torch.randn(16, 3, generator=chance()), torch.randn(16, 3, generator=chance(1))
    gradient_penalty(critic, real, fake, chance()).backward()
    assert float(critic[0].weight.grad.abs().sum()) > 0


def test_least_squares_by_hand() -> None:
    real, fake = torch.tensor([[1.0], [0.0]]), torch.tensor([[2.0], [0.0]])
    assert float(least_squares_critic_loss(lambda x: x, real, fake)) == pytest.approx(0.5 * (0.5 + 2.0))
    assert float(least_squares_generator_loss(lambda x: x, fake)) == pytest.approx(0.5 * 1.0)


def test_critics_losses_do_not_reach_the_generator() -> None:
    fake = torch.ones(4, 3, requires_grad=True)
    critic = build(0, lambda: leaky_perceptron(3, (8,), 1))
    (
        wasserstein_critic_loss(critic, torch.zeros(4, 3), fake, chance())
        + least_squares_critic_loss(critic, torch.zeros(4, 3), fake)
    ).backward()
    assert fake.grad is None


# ------------------------------------------------------------------------------------------------ the loop
ROWS = 64
DATA = torch.randn(ROWS, 2, generator=chance(9)) * 0.5 + torch.tensor([2.0, -1.0])
PLAN = Plan(steps=12, batch_size=16, learning_rate=0.01, weight_decay=0.0)


class Toy:
    """A small GAN, and what its losses saw."""

    def __init__(self, seed: int = 0, *, squares: bool = False) -> None:
        self.net = build(seed, lambda: leaky_perceptron(2, (16,), 2))
        self.critic = build(seed + 100, lambda: leaky_perceptron(2, (16,), 1))
        self.squares = squares
        self.calls: list[str] = []
        self.rows: list[Tensor] = []

    def critic_loss(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        assert all(not p.requires_grad for p in self.net.parameters())
        assert all(p.requires_grad for p in self.critic.parameters())
        self.calls.append("critic")
        self.rows.append(rows)
        fake = self.net(torch.randn(len(rows), 2, generator=generator))
        if self.squares:
            value = least_squares_critic_loss(self.critic, DATA[rows], fake)
        else:
            value = wasserstein_critic_loss(self.critic, DATA[rows], fake, generator)
        return value, {"critic": float(value.detach())}

    def generator_loss(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        assert all(p.requires_grad for p in self.net.parameters())
        assert all(not p.requires_grad for p in self.critic.parameters())
        self.calls.append("generator")
        loss = least_squares_generator_loss if self.squares else wasserstein_generator_loss
        value = loss(self.critic, self.net(torch.randn(len(rows), 2, generator=generator)))
        return value, {"generator": float(value.detach())}

    def train(self, **options: Any) -> Toy:
        chosen: dict[str, Any] = {
            "n_rows": ROWS, "plan": PLAN, "critic_steps": 3, "seed": 5, "stage": "a stage", **options,
        }  # fmt: skip
        train_gan(
            self.net, self.critic, critic_loss=self.critic_loss, generator_loss=self.generator_loss, **chosen
        )
        return self

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for m in (self.net, self.critic) for p in m.parameters()]


def same(a: Toy, b: Toy) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.weights(), b.weights(), strict=True))


class Killed(Exception):
    """What the tests raise from progress, as a crash in the middle."""


def killed_after(steps: int) -> Any:
    def progress(step: Step) -> None:
        if step.done == steps:
            raise Killed

    return progress


def test_the_turns_are_as_asked() -> None:
    toy, heard = Toy(), []
    toy.train(progress=heard.append)
    assert toy.calls == (["critic"] * 3 + ["generator"]) * 12
    assert [step.done for step in heard] == list(range(1, 13)) and {step.total for step in heard} == {12}
    assert set(heard[0].info) == {"critic", "generator"}
    assert all(p.requires_grad for m in (toy.net, toy.critic) for p in m.parameters())
    assert not toy.net.training and not toy.critic.training


def test_a_pass_shows_every_row_once() -> None:
    toy = Toy().train()
    a_pass = torch.cat(toy.rows[:4]).sort().values  # 64 rows in batches of 16
    assert torch.equal(a_pass, torch.arange(ROWS))
    assert not torch.equal(torch.cat(toy.rows[:4]), torch.cat(toy.rows[4:8]))


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("where", [2, 7, 11])
def test_a_killed_run_resumes_to_the_bit(
    where: int, average: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both networks, both optimisers and the average are kept; leave one out and this fails."""
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)
    whole = Toy().train(average=average)
    with pytest.raises(Killed):
        Toy().train(average=average, progress=killed_after(where), checkpoint=Checkpoint(tmp_path, "mine"))
    heard: list[Step] = []
    resumed = Toy(1).train(average=average, progress=heard.append, checkpoint=Checkpoint(tmp_path, "mine"))
    assert same(whole, resumed)
    assert heard[0].done == where and heard[-1].done == 12


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    first = Toy().train(average=0.9, checkpoint=Checkpoint(tmp_path, "mine"))
    again = Toy(1).train(average=0.9, checkpoint=Checkpoint(tmp_path, "mine"))
    assert same(first, again) and not again.calls
    with pytest.raises(SettingsError, match="another fit"):
        Toy().train(checkpoint=Checkpoint(tmp_path, "theirs"))


def test_an_interrupt_leaves_gradients_as_they_were() -> None:
    toy = Toy()
    with pytest.raises(Killed):
        toy.train(progress=killed_after(2))
    assert all(p.requires_grad for m in (toy.net, toy.critic) for p in m.parameters())


def test_the_average_is_over_all_steps_and_forgets_early_ones_faster() -> None:
    """Followed by hand from the weights after every step; the critic is not averaged."""
    plain = Toy()
    mean = plain.net[0].weight.detach().clone()

    def follow(step: Step) -> None:
        nonlocal mean
        keep = min(0.6, step.done / (step.done + 9))
        mean = keep * mean + (1 - keep) * plain.net[0].weight.detach()

    plain.train(progress=follow)
    averaged = Toy().train(average=0.6)
    assert averaged.net[0].weight.detach().numpy() == pytest.approx(mean.numpy(), abs=1e-6)
    assert not torch.allclose(mean, plain.net[0].weight)
    assert all(map(torch.equal, plain.critic.parameters(), averaged.critic.parameters()))


@pytest.mark.parametrize("squares", [False, True], ids=["wasserstein", "least squares"])
def test_it_learns_a_law(squares: bool) -> None:
    plan = Plan(steps=500, batch_size=64, learning_rate=0.01, weight_decay=0.0)
    toy = Toy(squares=squares)
    before = toy.net(torch.randn(2000, 2, generator=chance())).detach().mean(0)
    assert float((before - DATA.mean(0)).norm()) > 1
    toy.train(plan=plan, critic_steps=4, average=0.95)
    with torch.no_grad():
        made = toy.net(torch.randn(2000, 2, generator=chance()))
    assert made.mean(0).numpy() == pytest.approx(DATA.mean(0).numpy(), abs=0.25)
    assert made.std(0).numpy() == pytest.approx(DATA.std(0).numpy(), abs=0.25)


def test_modules_are_made_of_leaky_layers() -> None:
    net = leaky_perceptron(3, (5, 4), 2, slope=0.1)
    assert net(torch.zeros(7, 3)).shape == (7, 2)
    slopes = [m.negative_slope for m in net if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.1, 0.1]


def test_steps_count_passes_of_the_critic() -> None:
    assert gan_steps(10_000, 100, 8, 4) == 200
    assert gan_steps(100, 100, 1, 4, small_table=1000) == 3
    assert gan_steps(100, 50, 0.01, 4) == 1
