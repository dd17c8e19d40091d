"""Several processes that train together: the same network in all of them, and the one that one process would have."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from toys import small_table

from fairsynth.errors import SettingsError
from fairsynth.nn.parallel import Team, joined, launched, team
from fairsynth.nn.threads import threads

#: What is trained, in this process and in others; it has to be text to go there.
WORK = '''
import numpy as np
import torch
from torch import nn

from fairsynth.nn.gan import train_gan
from fairsynth.checkpoints import Checkpoint
from fairsynth.nn.training import Plan, build, train

ROWS = 51
DATA = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """With a part that no loss reaches, and one that only some rows reach."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4))
        self.unused = nn.Linear(3, 3)
        self.rare = nn.Linear(4, 4)


def plain(seed=5, steps=60, batch=7, stop=None, checkpoint=None):
    """Train with a loss that is a mean over its rows, without chance."""
    net = build(0, Net)

    def loss(rows, generator):
        x = DATA[rows]
        error = (net.body(x) - x.flip(1)).square().sum(1)
        some = rows % 10 == 0
        if bool(some.any()):
            error = error + torch.where(some, net.rare(x).square().sum(1), 0.0)
        value = error.mean()
        return value, {"loss": float(value.detach())}

    plan = Plan(steps=steps, batch_size=batch, learning_rate=0.02, weight_decay=0.01)

    def progress(step):
        if step.done == stop:
            raise KeyboardInterrupt

    train(net, loss, n_rows=ROWS, plan=plan, seed=seed, stage="plain", progress=progress, checkpoint=checkpoint)
    return net


def play(steps=25):
    """Train two networks against each other."""
    maker, critic = build(1, lambda: nn.Linear(4, 4)), build(2, lambda: nn.Linear(4, 1))

    def critic_loss(rows, generator):
        x = DATA[rows]
        value = critic(maker(x).detach()).square().mean() + (critic(x) - 1).square().mean()
        return value, {}

    def generator_loss(rows, generator):
        return (critic(maker(DATA[rows])) - 1).square().mean(), {}

    train_gan(
        maker, critic, critic_loss=critic_loss, generator_loss=generator_loss, n_rows=ROWS,
        plan=Plan(steps=steps, batch_size=10, learning_rate=0.02), critic_steps=2, seed=3, stage="play", average=0.9,
    )
    return nn.ModuleList([maker, critic])


def weights(net):
    return np.concatenate([p.detach().numpy().ravel() for p in net.parameters()])
'''
SMALL = """
import sys
from pathlib import Path
import torch
from fairsynth.errors import SettingsError
from fairsynth import checkpoints
from fairsynth.nn.parallel import joined, team

torch.set_num_threads(1)
folder = Path(sys.argv[1])
found = {}
with joined(minutes=2) as together:
    rank = together.rank
    assert team() is together
    found["plain"], found["play"] = weights(plain()), weights(play())
    found["steps"] = together.steps
    try:
        plain(seed=rank)
    except SettingsError as error:
        found["refused"] = str(error)
    try:
        plain(batch=1)
    except SettingsError as error:
        found["too small"] = str(error)
    # Stopped on both at the same step, and gone on with from the file that one of them wrote.
    checkpoints.SAVE_EVERY = 0.0
    try:
        plain(stop=30, checkpoint=Checkpoint(folder / "kept", "print"))
    except KeyboardInterrupt:
        pass
    torch.distributed.barrier()
    found["there"] = sorted(p.name for p in (folder / "kept").iterdir())
    torch.distributed.barrier()
    found["resumed"] = weights(plain(checkpoint=Checkpoint(folder / "kept", "print")))
    torch.distributed.barrier()
    # A folder that only one of them sees.
    own = Checkpoint(folder / "kept" if together.first else folder / "elsewhere", "print")
    try:
        plain(checkpoint=own)
    except SettingsError as error:
        found["other folder"] = str(error)
assert team().size == 1
tasks = Path("/proc/self/task")  # threads by name; Linux only
found["threads"] = sorted((task / "comm").read_text().strip() for task in tasks.iterdir()) if tasks.exists() else []
np.savez(folder / f"rank{rank}.npz", **found)
"""
FIT = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
from toys import small_table
from fairsynth.generators.fairvae import FairVAE
from fairsynth.nn.parallel import joined

with joined(minutes=3) as together:
    model = FairVAE(seed=1, hidden=(32, 32)).fit(small_table(600))
    model.save(Path(sys.argv[1]) / f"rank{together.rank}.fairsynth")
"""


def run_together(script: str, *arguments: object) -> None:
    """Run a script in two processes that know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            env={**os.environ, **told, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ended = [process.communicate(timeout=300)[1] for process in started]
    assert all(process.returncode == 0 for process in started), ended


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("ranks")
    run_together(WORK + SMALL, folder)
    return [np.load(folder / f"rank{rank}.npz") for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Callable[..., Any]]:
    names: dict[str, Any] = {}
    exec(WORK, names)
    return names


@pytest.mark.parametrize("name", ["plain", "play", "resumed"])
def test_all_end_with_the_same_network(ranks: list[Any], name: str) -> None:
    assert (ranks[0][name] == ranks[1][name]).all()


@pytest.mark.parametrize("name", ["plain", "play"])
def test_the_network_is_that_of_one_process(
    ranks: list[Any], alone: dict[str, Callable[..., Any]], name: str
) -> None:
    """With as many rows a step in all: 7 rows are 4 and 3, so that a mean without weights would be another."""
    with threads(1):
        one = alone["weights"](alone[name]())
        start = alone["weights"](alone[name](steps=1))
    assert np.abs(one - start).max() > 0.05
    assert np.allclose(ranks[0][name], one, rtol=1e-4, atol=1e-5)


def test_each_step_is_shared(ranks: list[Any]) -> None:
    assert [int(rank["steps"]) for rank in ranks] == [60 + 25 * 3] * 2


def test_a_killed_training_goes_on_from_the_file_of_one(ranks: list[Any]) -> None:
    assert [list(rank["there"]) for rank in ranks] == [["plain.fairsynth"]] * 2
    assert (ranks[0]["resumed"] == ranks[0]["plain"]).all()


def test_processes_that_would_do_different_things_are_refused(ranks: list[Any]) -> None:
    for rank in ranks:
        assert "rank 0 and 1 are not about to do the same" in str(rank["refused"])
        assert "checkpoint folder" in str(rank["other folder"])
        assert "1 rows cannot be shared by 2" in str(rank["too small"])


def test_no_thread_of_the_team_outlives_it(ranks: list[Any]) -> None:
    """One that wakes while Python ends aborts the process, which by then has trained."""
    for rank in ranks:
        assert not [name for name in rank["threads"] if "gloo" in name or "tcpstore" in name]


def test_alone_nothing_changes() -> None:
    rows, parameter = torch.arange(5), nn.Parameter(torch.ones(2))
    assert team() == Team() and team().share(rows) is rows
    parameter.grad = torch.ones(2)
    team().average([parameter], 5)
    assert team().steps == 0 and parameter.grad.tolist() == [1.0, 1.0]
    assert not launched()
    with pytest.raises(SettingsError, match="torchrun"), joined():
        pass


def test_parts_of_a_step_are_all_of_it() -> None:
    rows = torch.randperm(11)
    parts = [Team(rank, 3).share(rows) for rank in range(3)]
    assert sorted(torch.cat(parts).tolist()) == list(range(11))
    assert sorted(map(len, parts)) == [3, 4, 4]


@pytest.mark.slow
def test_two_processes_make_one_model(tmp_path: Path) -> None:
    """Chance, penalties, the law of the latent and the calibration included, to the byte."""
    helpers = Path(__file__).resolve().parents[1] / "helpers"
    run_together(FIT, tmp_path, helpers)
    first, second = ((tmp_path / f"rank{rank}.fairsynth").read_bytes() for rank in range(2))
    assert first == second


@pytest.mark.slow
def test_the_command_under_torchrun(tmp_path: Path) -> None:
    from fairsynth.generators.base import load_generator

    small_table(600).frame.write_csv(tmp_path / "rows.csv")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fairsynth",
        "fit", str(tmp_path / "rows.csv"), "--target", "paid", "--favorable", "yes", "--sensitive", "sex", "--model",
        "fairvae", "--set", "hidden=[32,32]", "-o", str(tmp_path / "model.fairsynth"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Wrote") == 1 and "2 processes" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.fairsynth", "rows.csv"]
    assert load_generator(tmp_path / "model.fairsynth").sample_table(50).frame.height == 50
