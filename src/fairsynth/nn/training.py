"""The training loop: mini-batches, one learning rate cycle, checkpoints that resume to the bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth import bundle, checkpoints
from fairsynth.checkpoints import Checkpoint
from fairsynth.errors import BundleError
from fairsynth.nn.parallel import team
from fairsynth.progress import Progress, Step

Loss = Callable[[Tensor, torch.Generator], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Attributes
    ----------
    steps : int
        Optimiser steps.
    batch_size : int
        Rows a step.
    learning_rate : float
        Peak of the cycle, reached after a tenth of the steps; it ends at 0.
    weight_decay : float
        Of AdamW.
    constant : bool
        Keep the learning rate at its peak throughout (as the published networks do).
    """

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 1e-4
    constant: bool = False

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        if self.constant:
            return self.learning_rate
        warm = max(1, self.steps // 10)
        if step < warm:
            return self.learning_rate * (0.04 + 0.96 * (step + 1) / warm)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


def train(
    module: nn.Module,
    loss: Loss,
    *,
    n_rows: int,
    plan: Plan,
    seed: int,
    stage: str,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train `module` in place.

    Chance is a function of `seed` and the step alone, so a run that was killed and resumed takes the same
    steps as one that was not. A checkpoint says which steps it was taking (`plan`, `n_rows` and `seed`), and a run
    that would take others refuses it: what is resumed either ends the same to the bit, or not at all.

    Parameters
    ----------
    module : nn.Module
        Its parameters are trained; its buffers are not kept in checkpoints.
    loss : callable
        ``(rows, generator) -> (scalar, numbers to show)``; rows is int64 ``(batch,)``.
    n_rows : int
        Rows to draw batches from.
    plan : Plan
        How long and how fast.
    seed : int
        Order of the rows and the noise.
    stage : str
        Name for progress and checkpoint.
    progress, checkpoint : optional
        Who hears, and where it is kept.

    Raises
    ------
    SettingsError
        If the checkpoint is that of another fit, or of one on another course.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    key = stage.replace(" ", "_")
    course = _course(plan, n_rows, seed)
    done = _resume(checkpoint, key, course, module, optimiser, parameters)
    together = team()
    together.agree(f"{stage}, {course}, after step {done}", parameters)
    batch = min(plan.batch_size, n_rows)
    a_pass = max(1, n_rows // batch)
    generator = torch.Generator()
    order, order_of = torch.zeros(0, dtype=torch.int64), -1
    saved = time.monotonic()
    module.train()
    for step in range(done, plan.steps):
        epoch, place = divmod(step, a_pass)
        if epoch != order_of:
            order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(n_rows))
            order_of = epoch
        generator.manual_seed(_mixed(seed, step, together.rank))
        for settings in optimiser.param_groups:
            settings["lr"] = plan.rate(step)
        rows = together.share(order[place * batch : (place + 1) * batch])
        value, shown = loss(rows, generator)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        together.average(parameters, len(rows))
        nn.utils.clip_grad_norm_(parameters, 100.0)
        optimiser.step()
        if progress is not None:
            progress(Step(stage, step + 1, plan.steps, shown))
        if (
            checkpoint is not None
            and time.monotonic() - saved > checkpoints.SAVE_EVERY
            and step + 1 < plan.steps
        ):
            checkpoint.save(key, step + 1, _state(module, optimiser, parameters), course)
            saved = time.monotonic()
    module.eval()
    if checkpoint is not None and done < plan.steps:
        checkpoint.save(key, plan.steps, _state(module, optimiser, parameters), course)


def steps_for(n_rows: int, batch_size: int, epochs: float, at_least: int) -> int:
    """Return optimiser steps: so many passes, and never fewer than `at_least` steps."""
    return max(at_least, math.ceil(epochs * max(1, n_rows // min(batch_size, n_rows))))


def _course(plan: Plan, n_rows: int, seed: int) -> str:
    """Name all that decides which steps are taken, whatever number types it was given in."""
    rate, decay = float(plan.learning_rate), float(plan.weight_decay)
    return (
        f"{int(plan.steps)} steps of {int(plan.batch_size)} out of {int(n_rows)} rows, "
        f"{'constant ' if plan.constant else ''}learning rate {rate!r}, weight decay {decay!r}, seed {int(seed)}"
    )


def _mixed(seed: int, step: int, rank: int = 0) -> int:
    words = [seed, step, rank] if rank else [seed, step]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def _state(
    module: nn.Module, optimiser: torch.optim.Optimizer, parameters: list[nn.Parameter]
) -> dict[str, Any]:
    tensors = {f"module.{name}": value.detach().cpu().numpy() for name, value in module.named_parameters()}
    for i, parameter in enumerate(parameters):
        for name, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{i}.{name}"] = value.detach().cpu().numpy()
    return tensors


def _resume(
    checkpoint: Checkpoint | None,
    key: str,
    course: str,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
) -> int:
    kept = checkpoint.load(key, course) if checkpoint is not None else None
    if kept is None:
        return 0
    done, tensors = kept
    load_parameters(
        module, {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
    )
    for i, parameter in enumerate(parameters):
        start = f"optimiser.{i}."
        own = {k.removeprefix(start): torch.from_numpy(v) for k, v in tensors.items() if k.startswith(start)}
        if own:  # the number of steps stays on the CPU, as AdamW keeps it
            optimiser.state[parameter] = {
                name: value if name == "step" else value.to(parameter.device) for name, value in own.items()
            }
    return done


def load_parameters(module: nn.Module, tensors: Mapping[str, np.ndarray], path: str = "model file") -> None:
    """Copy arrays into the parameters of the same name.

    Raises
    ------
    BundleError
        If names or shapes are not exactly those of the module.
    """
    wanted = dict(module.named_parameters())
    bundle.expect(tensors, {name: tuple(p.shape) for name, p in wanted.items()}, path=path)
    with torch.no_grad():
        for name, parameter in wanted.items():
            value = np.asarray(tensors[name])
            if not np.issubdtype(value.dtype, np.floating) or not np.isfinite(value).all():
                raise BundleError(
                    f"{path}: the tensor {name!r} holds what is no finite number; the file is damaged."
                )
            parameter.copy_(torch.from_numpy(value))


def restore(make: Callable[[], nn.Module], tensors: Mapping[str, np.ndarray], path: str) -> Any:
    """Make a module and fill it from arrays; no memory is taken before names and shapes are found right.

    Parameters
    ----------
    make : callable
        Makes the module, with any weights.
    tensors : mapping
        Its parameters by name.
    path : str
        The file that they are from, for messages.

    Raises
    ------
    BundleError
        If they are not those of the module, as in a damaged or hostile file.
    """
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in build(0, make).named_parameters()}
    bundle.expect(tensors, shapes, path=path)
    module = build(0, make)
    load_parameters(module, tensors, path)
    return module.eval()


def build(seed: int, make: Callable[[], nn.Module]) -> Any:
    """Make a module whose initial weights depend on `seed` alone; global chance is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_mixed(seed, 2**40))
        return make()
