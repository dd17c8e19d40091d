"""What generative adversarial networks share: losses, mixed outputs, and a training loop that resumes to the bit.

A method writes two functions, the loss of its critic and that of its generator, from the parts here, and hands
them to `train_gan`:

    def critic_loss(rows, generator):
        with torch.no_grad():
            fake = net(noise(len(rows), generator), generator)
        value = wasserstein_critic_loss(critic, real[rows], fake, generator)
        return value, {"critic": float(value.detach())}

    def generator_loss(rows, generator):
        value = wasserstein_generator_loss(critic, net(noise(len(rows), generator), generator))
        return value, {"generator": float(value.detach())}

Sources: Wasserstein loss with gradient penalty: Gulrajani et al., NeurIPS 2017, eq. 3. Least squares: Mao et al.,
ICCV 2017, eq. 9 (labels 0, 1, 1). Gumbel-softmax: Jang et al., ICLR 2017, eq. 2. The loop, its averaging of the
generator and its checkpoints are ours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth import checkpoints
from fairsynth.checkpoints import Checkpoint
from fairsynth.nn import training
from fairsynth.nn.parallel import team
from fairsynth.nn.training import Loss, Plan, load_parameters
from fairsynth.progress import Progress, Step

Critic = Callable[[Tensor], Tensor]

#: Weight of the gradient penalty (Gulrajani et al., section 4).
PENALTY = 10.0
#: A uniform number is kept this far from 0 and 1 before its logarithm is taken.
_TINY = 1e-20


class OutputBlock(Protocol):
    """Which dimensions one column has; `data.vectors.Block` is one."""

    @property
    def number(self) -> int | None:
        """Dimension that holds a number, or None."""

    @property
    def levels(self) -> slice:
        """One-hot dimensions; may be empty."""


def leaky_perceptron(n_in: int, hidden: Sequence[int], n_out: int, slope: float = 0.2) -> nn.Sequential:
    """Return linear layers with leaky ReLU between them: ``(batch, n_in)`` → ``(batch, n_out)``.

    Parameters
    ----------
    n_in, n_out : int
        Dimensions in and out.
    hidden : sequence of int
        Widths between them.
    slope : float, default=0.2
        Of the activation below 0; 0 makes it a ReLU.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(n_in, width), nn.LeakyReLU(slope)]
        n_in = width
    return nn.Sequential(*layers, nn.Linear(n_in, n_out))


def mixed_activation(
    raw: Tensor, blocks: Sequence[OutputBlock], tau: float, generator: torch.Generator
) -> Tensor:
    """Turn a network's raw outputs into rows of mixed types that gradients go through.

    Numbers stay as they are; each one-hot block becomes a draw from the Gumbel-softmax law whose logits the network
    gave. The largest entry of a block is an exact draw from the softmax of its logits, whatever `tau`.

    Parameters
    ----------
    raw : Tensor
        Float ``(n, width)``.
    blocks : sequence of OutputBlock
        Dimensions of each column, as `VectorEncoder.blocks` has them.
    tau : float
        Temperature above 0: the lower, the nearer to one-hot.
    generator : torch.Generator
        Where chance comes from.

    Returns
    -------
    Tensor
        ``(n, width)``; the entries of a one-hot block lie in [0, 1] and sum to 1.
    """
    uniform = torch.rand(raw.shape, generator=generator, device=raw.device, dtype=torch.float64)
    gumbel = -torch.log(-torch.log(uniform.clamp_(_TINY, 1 - 1e-16)))
    noisy = (raw + gumbel.to(raw.dtype)) / tau
    parts, at = [], 0
    for span in sorted((b.levels for b in blocks if b.levels.stop > b.levels.start), key=lambda s: s.start):
        parts += [raw[:, at : span.start], noisy[:, span].softmax(1)]
        at = span.stop
    return torch.cat([*parts, raw[:, at:]], dim=1)


def block_losses(raw: Tensor, vectors: Tensor, blocks: Sequence[OutputBlock]) -> Tensor:
    """Return how badly raw outputs tell rows, summed over columns ``(n,)``.

    Half the squared error of numbers and the cross-entropy of one-hot blocks: minus the log-likelihood in nats of
    unit Gaussians and categorical laws, up to a constant. Where a number is missing it does not count.

    Parameters
    ----------
    raw : Tensor
        Float ``(n, width)``: numbers and logits.
    vectors : Tensor
        Real rows ``(n, width)``, one-hot blocks of 0 and 1.
    blocks : sequence of OutputBlock
        Dimensions of each column.
    """
    total = raw.new_zeros(len(raw))
    for block in blocks:
        span = block.levels
        present: Tensor | float = 1.0
        if span.stop > span.start:
            total = total - (vectors[:, span] * raw[:, span].log_softmax(1)).sum(1)
            present = vectors[:, span.start]
        if block.number is not None:
            error = raw[:, block.number] - vectors[:, block.number]
            total = total + 0.5 * error.square() * present
    return total


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    """Return the mean of ``(|grad critic| - 1)^2`` at random points between real and made rows, a scalar.

    Parameters
    ----------
    critic : callable
        ``(n, width)`` to one number a row, ``(n,)`` or ``(n, 1)``.
    real, fake : Tensor
        Float ``(n, width)``, as many of each.
    generator : torch.Generator
        Draws where between the two each point lies.
    """
    share = torch.rand(len(real), 1, generator=generator, device=real.device, dtype=real.dtype)
    between = (share * real + (1 - share) * fake).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    # The root has no derivative at 0, where a flat critic begins.
    return ((slope.square().sum(1) + 1e-12).sqrt() - 1).square().mean()


def wasserstein_critic_loss(
    critic: Critic, real: Tensor, fake: Tensor, generator: torch.Generator, penalty: float = PENALTY
) -> Tensor:
    """Return what a WGAN-GP critic minimises: mean over made rows minus mean over real ones, plus the penalty."""
    distance = critic(fake.detach()).mean() - critic(real).mean()
    return distance + penalty * gradient_penalty(critic, real, fake, generator)


def wasserstein_generator_loss(critic: Critic, fake: Tensor) -> Tensor:
    """Return what the generator of a WGAN minimises: minus the critic's mean over made rows."""
    return -critic(fake).mean()


def least_squares_critic_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """Return what an LSGAN critic minimises: half the squared distance from 1 for real rows, from 0 for made ones."""
    return 0.5 * ((critic(real) - 1).square().mean() + critic(fake.detach()).square().mean())


def least_squares_generator_loss(critic: Critic, fake: Tensor) -> Tensor:
    """Return what the generator of an LSGAN minimises: half the squared distance of made rows from 1."""
    return 0.5 * (critic(fake) - 1).square().mean()


def gan_steps(
    n_rows: int, batch_size: int, epochs: float, critic_steps: int, *, small_table: int = 4096
) -> int:
    """Return steps of the generator for so many passes of the critic over the rows, at least 1.

    Parameters
    ----------
    n_rows, batch_size : int
        Rows of the table and of a step.
    epochs : float
        Passes.
    critic_steps : int
        Steps of the critic for one of the generator.
    small_table : int, default=4096
        A table of fewer rows is passed over as often as it takes to see so many: steps teach a network, not passes.
    """
    return max(1, math.ceil(epochs * max(n_rows, small_table) / min(batch_size, n_rows) / critic_steps))


def train_gan(
    generator_net: nn.Module,
    critic: nn.Module,
    *,
    critic_loss: Loss,
    generator_loss: Loss,
    n_rows: int,
    plan: Plan,
    critic_steps: int,
    seed: int,
    stage: str,
    betas: tuple[float, float] = (0.0, 0.9),
    critic_rate: float = 1.0,
    average: float = 0.0,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train a generator against a critic, both in place.

    Chance is a function of `seed` and the step alone, so a run that was killed and resumed takes the same steps as
    one that was not; both optimisers are kept in the checkpoint.

    Parameters
    ----------
    generator_net : nn.Module
        Makes rows; its parameters that want gradients are trained. Buffers are not kept in checkpoints: no batch norm.
    critic : nn.Module
        Judges them; several critics may be one module, if `critic_loss` is the sum of their losses.
    critic_loss, generator_loss : callable
        ``(rows, generator) -> (scalar, numbers to show)``; rows is int64 ``(batch,)``, the real rows of this step.
        Each step calls the first `critic_steps` times on new rows, then the second once, on the last ones. While the
        first runs, the generator's parameters want no gradients, and the other way round.
    n_rows : int
        Rows to draw batches from.
    plan : Plan
        `Plan.steps` counts steps of the generator; see `gan_steps`. AdamW without decay is Adam.
    critic_steps : int
        Steps of the critic before each step of the generator.
    seed : int
        Order of the rows and the noise.
    stage : str
        Name for progress and checkpoint.
    betas : tuple of float, default=(0.0, 0.9)
        Of both optimisers; by default as Gulrajani et al. have them.
    critic_rate : float, default=1
        Learning rate of the critic, as a multiple of the generator's.
    average : float, default=0
        Decay of a moving average over the generator's weights, with which it ends (0: the last weights). Averages
        of weights do not follow the circles in which the two networks chase each other (Yazıcı et al., ICLR 2019).
    progress, checkpoint : optional
        Who hears, and where it is kept.
    """
    nets = {"generator": _Trained(generator_net, plan, betas), "critic": _Trained(critic, plan, betas)}
    making, judging = nets["generator"], nets["critic"]
    averaged = [p.detach().clone() for p in making.parameters] if average else []
    key = stage.replace(" ", "_")
    course = f"{training._course(plan, n_rows, seed)}, {critic_steps} critic steps"
    done = _resume(checkpoint, key, nets, averaged, course)
    together = team()
    together.agree(f"{stage}, {course}, after step {done}", [*making.parameters, *judging.parameters])
    batch = min(plan.batch_size, n_rows)
    a_pass = max(1, n_rows // batch)
    generator = torch.Generator()
    order, order_of = torch.zeros(0, dtype=torch.int64), -1
    saved = time.monotonic()
    generator_net.train()
    critic.train()
    try:
        for step in range(done, plan.steps):
            generator.manual_seed(training._mixed(seed, step, together.rank))
            making.turn(False, plan.rate(step))
            judging.turn(True, plan.rate(step) * critic_rate)
            shown: dict[str, float] = {}
            rows = order
            for tick in range(step * critic_steps, (step + 1) * critic_steps):
                epoch, place = divmod(tick, a_pass)
                if epoch != order_of:
                    order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(n_rows))
                    order_of = epoch
                rows = together.share(order[place * batch : (place + 1) * batch])
                shown |= judging.step(critic_loss(rows, generator), len(rows))
            making.turn(True, plan.rate(step))
            judging.turn(False, 0.0)
            shown |= making.step(generator_loss(rows, generator), len(rows))
            # Early weights are far away: the average forgets them faster than late ones.
            keep = min(average, (1 + step) / (10 + step))
            with torch.no_grad():
                for mean, parameter in zip(averaged, making.parameters, strict=False):
                    mean.lerp_(parameter, 1 - keep)
            if progress is not None:
                progress(Step(stage, step + 1, plan.steps, shown))
            if (
                checkpoint is not None
                and time.monotonic() - saved > checkpoints.SAVE_EVERY
                and step + 1 < plan.steps
            ):
                checkpoint.save(key, step + 1, _state(nets, averaged), course)
                saved = time.monotonic()
    finally:
        for net in nets.values():
            net.wanted(True)
    if checkpoint is not None and done < plan.steps:
        checkpoint.save(key, plan.steps, _state(nets, averaged), course)
    with torch.no_grad():
        for mean, parameter in zip(averaged, making.parameters, strict=False):
            parameter.copy_(mean)
    generator_net.eval()
    critic.eval()


class _Trained:
    """A network and its optimiser."""

    def __init__(self, module: nn.Module, plan: Plan, betas: tuple[float, float]) -> None:
        self.module = module
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=plan.learning_rate, betas=betas, weight_decay=plan.weight_decay
        )

    def wanted(self, gradients: bool) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(gradients)

    def turn(self, own: bool, rate: float) -> None:
        """Begin or end the turn of this network."""
        self.wanted(own)
        for settings in self.optimiser.param_groups:
            settings["lr"] = rate

    def step(self, told: tuple[Tensor, dict[str, float]], rows: int) -> dict[str, float]:
        value, shown = told
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()
        team().average(self.parameters, rows)
        self.optimiser.step()
        return shown


def _state(nets: Mapping[str, _Trained], averaged: Sequence[Tensor]) -> dict[str, Any]:
    tensors = {
        f"{name}.{key}": value
        for name, net in nets.items()
        for key, value in training._state(net.module, net.optimiser, net.parameters).items()
    }
    return tensors | {f"average.{i}": value.numpy().copy() for i, value in enumerate(averaged)}


def _resume(
    checkpoint: Checkpoint | None,
    key: str,
    nets: Mapping[str, _Trained],
    averaged: Sequence[Tensor],
    course: str,
) -> int:
    kept = checkpoint.load(key, course) if checkpoint is not None else None
    if kept is None:
        return 0
    done, tensors = kept
    for name, net in nets.items():
        start = f"{name}.module."
        load_parameters(
            net.module, {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        )
        for i, parameter in enumerate(net.parameters):
            start = f"{name}.optimiser.{i}."
            own = {
                k.removeprefix(start): torch.from_numpy(v) for k, v in tensors.items() if k.startswith(start)
            }
            if own:
                net.optimiser.state[parameter] = own
    for i, mean in enumerate(averaged):
        mean.copy_(torch.from_numpy(tensors[f"average.{i}"]))
    return done
