"""The training loop: resumes to the bit, keeps to its plan, and refuses other people's checkpoints."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fairsynth import bundle, checkpoints
from fairsynth.checkpoints import Checkpoint
from fairsynth.errors import BundleError, SettingsError
from fairsynth.nn.layers import StateEncoder, count_parameters, reparameterise
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Plan, build, load_parameters, steps_for, train
from fairsynth.progress import Step

ROWS = 50
DATA = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
PLAN = Plan(steps=40, batch_size=8, learning_rate=0.05, weight_decay=0.01)


def fresh(seed: int = 0) -> nn.Module:
    return build(seed, lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4)))


def noisy_loss(module: nn.Module) -> Any:
    """Return a loss that reads rows and chance, so that either going astray shows."""

    def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        x = DATA[rows] + 0.3 * torch.randn(len(rows), 4, generator=generator)
        value = (module(x) - DATA[rows].flip(1)).square().mean()
        return value, {"loss": float(value.detach())}

    return loss


def run(module: nn.Module, **options: Any) -> nn.Module:
    chosen = {"n_rows": ROWS, "plan": PLAN, "seed": 5, "stage": "some stage", **options}
    train(module, noisy_loss(module), **chosen)
    return module


def weights(module: nn.Module) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in module.parameters()]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all((x == y).all() for x, y in zip(weights(a), weights(b), strict=True))


class Killed(Exception):
    """What the tests raise from progress, as a crash in the middle."""


def killed_after(steps: int) -> Any:
    def progress(step: Step) -> None:
        if step.done == steps:
            raise Killed

    return progress


# ---------------------------------------------------------------------------------------------- resuming
@pytest.mark.parametrize("where", [2, 5, 6, 7, 23, 39])
def test_a_killed_run_resumes_to_the_bit(where: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)
    whole = run(fresh())
    checkpoint = Checkpoint(tmp_path, "mine")
    with pytest.raises(Killed):
        run(fresh(), progress=killed_after(where), checkpoint=checkpoint)
    heard: list[Step] = []
    # Other initial weights: what counts is the checkpoint.
    resumed = run(fresh(1), progress=heard.append, checkpoint=Checkpoint(tmp_path, "mine"))
    assert same(whole, resumed)
    assert heard[0].done == where, "the step that was told of but not kept is done again"
    assert heard[-1].done == heard[-1].total == 40


def test_a_run_killed_twice_resumes_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)
    for where in (9, 30):
        with pytest.raises(Killed):
            run(fresh(), progress=killed_after(where), checkpoint=Checkpoint(tmp_path, "mine"))
    assert same(run(fresh()), run(fresh(), checkpoint=Checkpoint(tmp_path, "mine")))


def test_a_checkpoint_changes_nothing_in_the_run_that_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)
    assert same(run(fresh()), run(fresh(), checkpoint=Checkpoint(tmp_path, "mine")))


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    whole = run(fresh(), checkpoint=Checkpoint(tmp_path, "mine"))
    heard: list[Step] = []
    again = run(fresh(1), progress=heard.append, checkpoint=Checkpoint(tmp_path, "mine"))
    assert same(whole, again) and not heard


def test_other_fits_checkpoints_are_refused(tmp_path: Path) -> None:
    run(fresh(), checkpoint=Checkpoint(tmp_path, "mine"))
    with pytest.raises(SettingsError, match="another fit"):
        run(fresh(), checkpoint=Checkpoint(tmp_path, "yours"))
    # Another stage in the same folder is another file.
    run(fresh(), stage="other stage", checkpoint=Checkpoint(tmp_path, "mine"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other_stage.fairsynth", "some_stage.fairsynth"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"plan": replace(PLAN, steps=30)}, "30 steps"),
        ({"plan": replace(PLAN, steps=80)}, "80 steps"),
        ({"plan": replace(PLAN, batch_size=4)}, "steps of 4"),
        ({"plan": replace(PLAN, learning_rate=0.06)}, "learning rate 0.06"),
        ({"plan": replace(PLAN, weight_decay=0.0)}, "weight decay 0.0"),
        ({"plan": replace(PLAN, constant=True)}, "constant"),
        ({"n_rows": ROWS - 1}, "49 rows"),
        ({"seed": 6}, "seed 6"),
    ],
)
def test_a_checkpoint_on_another_course_is_refused(
    option: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fit calls itself the same, but would take other steps: going on would end as neither of the two."""
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)
    with pytest.raises(Killed):
        run(fresh(), progress=killed_after(35), checkpoint=Checkpoint(tmp_path, "mine"))
    before = (tmp_path / "some_stage.fairsynth").read_bytes()
    with pytest.raises(SettingsError, match=f"another fit.*40 steps of 8.*{re.escape(words)}.*remove"):
        run(fresh(), checkpoint=Checkpoint(tmp_path, "mine"), **option)
    assert (tmp_path / "some_stage.fairsynth").read_bytes() == before
    # The number types that a plan was given in are no other course.
    typed = replace(PLAN, learning_rate=np.float64(0.05))
    assert same(run(fresh()), run(fresh(), plan=typed, checkpoint=Checkpoint(tmp_path, "mine")))


def test_a_damaged_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    run(fresh(), checkpoint=Checkpoint(tmp_path, "mine"))
    path = tmp_path / "some_stage.fairsynth"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SettingsError, match=f"remove {tmp_path}"):
        run(fresh(), checkpoint=Checkpoint(tmp_path, "mine"))


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    run(fresh(), checkpoint=Checkpoint(tmp_path, "mine"))
    wider = build(0, lambda: nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 4)))
    with pytest.raises(BundleError, match="should be"):
        run(wider, checkpoint=Checkpoint(tmp_path, "mine"))


# ------------------------------------------------------------------------------------------- the schedule
@pytest.mark.parametrize("steps", [2, 10, 100, 1001])
def test_the_learning_rate_warms_up_and_ends_at_zero(steps: int) -> None:
    plan = Plan(steps=steps, batch_size=1, learning_rate=0.2)
    rates = [plan.rate(step) for step in range(steps + 1)]
    assert max(rates) == pytest.approx(0.2) and rates[-1] == pytest.approx(0, abs=1e-12)
    assert all(rate > 0 for rate in rates[:-1])
    peak = int(np.argmax(rates))
    assert peak <= max(1, steps // 10)
    assert (np.diff(rates[: peak + 1]) >= 0).all() and (np.diff(rates[peak:]) <= 0).all()
    assert Plan(steps=steps, batch_size=1, learning_rate=0.2, constant=True).rate(steps) == 0.2


def test_the_schedule_reaches_the_optimiser(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []

    class Spy(torch.optim.AdamW):
        def step(self, *args: Any) -> Any:
            used.append(self.param_groups[0]["lr"])
            return super().step(*args)

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    run(fresh())
    assert used == [PLAN.rate(step) for step in range(40)]


def test_training_learns() -> None:
    module = fresh()
    heard: list[Step] = []
    run(module, plan=Plan(400, 25, 0.03), progress=heard.append)
    losses = [step.info["loss"] for step in heard]
    assert np.mean(losses[-20:]) < 0.3 * losses[0]
    assert not module.training


# ---------------------------------------------------------------------------------------------- the rows
def seen_rows(n_rows: int, batch_size: int, steps: int, seed: int = 0) -> list[list[int]]:
    batches: list[list[int]] = []
    module = nn.Linear(1, 1)

    def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        batches.append(rows.tolist())
        return module(torch.ones(1, 1)).sum(), {}

    train(module, loss, n_rows=n_rows, plan=Plan(steps, batch_size, 0.1), seed=seed, stage="s")
    return batches


def test_a_pass_reads_every_row_once_in_an_order_of_its_own() -> None:
    batches = seen_rows(40, 8, 10)
    first, second = [*chain(*batches[:5])], [*chain(*batches[5:])]
    assert sorted(first) == sorted(second) == list(range(40)) and first != second
    assert [*chain(*seen_rows(40, 8, 5, seed=1))] != first
    assert seen_rows(40, 8, 5) == batches[:5]


def test_what_does_not_fill_a_batch_is_left_to_another_pass() -> None:
    batches = seen_rows(43, 8, 200)
    assert all(len(set(batch)) == 8 for batch in batches)
    assert set(chain(*batches)) == set(range(43))


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "least", "wanted"),
    [(1000, 100, 3, 5, 30), (1000, 100, 0.25, 5, 5), (60, 1024, 2.5, 1, 3), (1050, 100, 1, 1, 10)],
)
def test_steps_are_passes(rows: int, batch: int, epochs: float, least: int, wanted: int) -> None:
    assert steps_for(rows, batch, epochs, least) == wanted


# ------------------------------------------------------------------------------------------- parameters
def test_building_depends_on_the_seed_alone_and_leaves_global_chance_alone() -> None:
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    a = fresh(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(12)
    assert same(a, fresh(3)) and not same(a, fresh(4))


def _sound() -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in fresh(1).named_parameters()}


def test_parameters_are_copied() -> None:
    module = fresh(0)
    load_parameters(module, _sound())
    assert same(module, fresh(1))


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t.pop("0.weight"),
        lambda t: t.update(extra=np.zeros(3)),
        lambda t: t.update({"0.weight": t["0.weight"].T}),
        lambda t: t.update({"0.bias": np.zeros((6, 1), dtype=np.float32)}),
        lambda t: t["2.bias"].__setitem__(0, np.nan),
        lambda t: t["2.bias"].__setitem__(0, -np.inf),
        lambda t: t.update({"2.bias": np.zeros(4, dtype=np.int64)}),
        lambda t: t.update({"2.bias": np.zeros(4, dtype=bool)}),
    ],
)
def test_hostile_parameters_are_refused(damage: Any) -> None:
    tensors = _sound()
    damage(tensors)
    with pytest.raises(BundleError):
        load_parameters(fresh(0), tensors)


def test_checkpoints_are_bundles_without_code(tmp_path: Path) -> None:
    run(fresh(), checkpoint=Checkpoint(tmp_path, "mine"))
    content = bundle.read(tmp_path / "some_stage.fairsynth")
    course = "40 steps of 8 out of 50 rows, learning rate 0.05, weight decay 0.01, seed 5"
    assert content.manifest == {"kind": "checkpoint", "fingerprint": "mine", "step": 40, "course": course}
    assert set(_sound()) == {n.removeprefix("module.") for n in content.tensors if n.startswith("module.")}


# ----------------------------------------------------------------------------------------------- layers
def test_the_state_encoder_is_a_network_on_one_hot_columns() -> None:
    sizes = (3, 1, 4)
    encoder = build(0, lambda: StateEncoder(sizes, (5, 4), 2))
    states = torch.tensor([[0, 0, 3], [2, 0, 1]])
    one_hot = torch.cat([nn.functional.one_hot(states[:, j], s) for j, s in enumerate(sizes)], 1).float()
    mean, log_var = encoder(states)
    wanted = encoder.rest(one_hot @ encoder.first.weight)
    assert torch.allclose(torch.cat([mean, log_var], 1), wanted, atol=1e-6)
    assert count_parameters(encoder) == 8 * 5 + (5 * 4 + 4) + (4 * 4 + 4)
    with torch.no_grad():
        encoder.rest[1][-1].bias.fill_(1e4)
    assert encoder(states)[1].max() <= 4


def test_reparameterised_draws_have_the_moments_and_pass_gradients() -> None:
    mean = torch.full((100_000, 2), 3.0, requires_grad=True)
    log_var = torch.full((100_000, 2), -1.0, requires_grad=True)
    drawn = reparameterise(mean, log_var, torch.Generator().manual_seed(0))
    assert float(drawn.detach().mean()) == pytest.approx(3, abs=0.01)
    assert float(drawn.detach().var()) == pytest.approx(np.exp(-1), abs=0.01)
    drawn.square().sum().backward()
    assert mean.grad.abs().min() > 0 and log_var.grad.abs().max() > 0


# ---------------------------------------------------------------------------------------------- threads
@pytest.fixture
def three_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def test_thread_count_is_put_back_also_after_an_error(three_threads: int) -> None:
    with threads(1):
        assert torch.get_num_threads() == 1
        with threads(2):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == three_threads
    with pytest.raises(Killed), threads(1):
        raise Killed
    assert torch.get_num_threads() == three_threads


def test_thread_count_is_put_back_when_blocks_end_out_of_order(three_threads: int) -> None:
    """Two iterators over rows, read in turn, each hold such a block."""
    first, second = threads(1), threads(1)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.get_num_threads() == 1
    second.__exit__(None, None, None)
    assert torch.get_num_threads() == three_threads
