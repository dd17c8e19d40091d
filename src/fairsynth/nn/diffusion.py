"""Score-based diffusion of mixed-type vectors: the variance-preserving process, a denoiser, and solvers.

The process is the standard VP-SDE (Song et al., ICLR 2021, eq. 11), ``dx = -b(t)/2 x dt + sqrt(b(t)) dw`` on
t in (0, 1] with b linear from 0.1 to 20, so that ``x_t = a(t) x_0 + sigma(t) noise``.

The network is a *denoiser*, D(x_t, t) = E[x_0 | x_t], which is the score in other words (Tweedie):
``score = (a D - x_t) / sigma^2``. Of one-hot dimensions the denoiser is a softmax trained by cross-entropy. Its
minimiser is the same conditional mean that denoising score matching finds, and it never leaves the simplex; the
evidence that x_t itself gives for each level, ``a x_t / sigma^2``, is known exactly and is added to the logits, so
the network has to learn only what the other columns say. Numbers are learned by v-prediction (Salimans and Ho,
ICLR 2022, section 4). The combination is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

#: b(t) runs from the first to the second.
BETA = (0.1, 20.0)
#: Where the process ends on its way back: noise of about 1 %.
SHORTEST = 1e-3
#: From here on the signal is under a fifth of the noise.
DROWNED = 0.5

Solver = Literal["dpm-solver++", "heun", "euler-maruyama"]
SOLVERS: tuple[str, ...] = get_args(Solver)

#: ``(x_t, t) -> E[x_0 | x_t]``, guided or not; t is ``(n,)``.
Denoise = Callable[[Tensor, Tensor], Tensor]


def log_alpha(t: Tensor) -> Tensor:
    """Return log a(t)."""
    low, high = BETA
    return -0.25 * (high - low) * t**2 - 0.5 * low * t


def alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return a(t) and sigma(t), with a^2 + sigma^2 = 1."""
    log = log_alpha(t)
    return log.exp(), torch.sqrt(-torch.expm1(2 * log))


def half_log_snr(t: Tensor) -> Tensor:
    """Return log a(t) - log sigma(t)."""
    alpha, sigma = alpha_sigma(t)
    return alpha.log() - sigma.log()


def time_at(half_log_snr: Tensor) -> Tensor:
    """Return the t at which log a - log sigma has this value: the inverse of `half_log_snr`."""
    low, high = BETA
    log = 0.5 * nn.functional.logsigmoid(2 * half_log_snr)
    # The root of a quadratic, in the form that loses no digits near 0.
    return -4 * log / (low + torch.sqrt(low**2 - 4 * (high - low) * log))


def draw_times(n: int, generator: torch.Generator) -> Tensor:
    """Draw n times from (`SHORTEST`, 1): evenly, but half of them from its first part.

    Beyond `DROWNED` a level is hardly to be told from another, and there is little to learn. Which times are drawn
    how often changes the weights of the losses, not what minimises them.
    """
    early = torch.rand(n, generator=generator) < 0.5
    return SHORTEST + torch.where(early, DROWNED, 1.0 - SHORTEST) * torch.rand(n, generator=generator)


class TimeNetwork(nn.Module):
    """A residual perceptron that knows the time, and a condition if there is one.

    Parameters
    ----------
    n_in, n_out : int
        Width of the input and the output.
    width, depth : int
        Of the residual stream, and how many blocks it has.
    n_condition : int
        Width of the condition; 0 for none.
    """

    frequencies: Tensor

    def __init__(self, n_in: int, n_out: int, *, width: int, depth: int, n_condition: int = 0) -> None:
        super().__init__()
        self.first = nn.Linear(n_in, width)
        self.condition = nn.Linear(n_condition, width, bias=False) if n_condition else None
        frequencies = torch.exp(torch.linspace(0.0, math.log(1000.0), 32))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
            )
            for _ in range(depth)
        )
        last = nn.Linear(width, n_out)
        # Nothing said at first: a denoiser then starts as that of independent standard columns, a classifier as chance.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.last = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), last)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return ``(n, n_out)`` of x ``(n, n_in)``, t ``(n,)`` and the condition ``(n, n_condition)``."""
        angles = t[:, None] * self.frequencies
        stream = self.first(x) + self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        if self.condition is not None:
            stream = stream + self.condition(condition)
        for block in self.blocks:
            stream = stream + block(stream)
        return self.last(stream)


class Denoiser(nn.Module):
    """E[x_0 | x_t] of vectors of numbers and one-hot blocks.

    Parameters
    ----------
    numbers : sequence of int
        Dimensions that hold numbers.
    levels : sequence of slice
        One-hot blocks.
    width, depth : int
        Of the network.
    """

    def __init__(self, numbers: Sequence[int], levels: Sequence[slice], *, width: int, depth: int) -> None:
        super().__init__()
        self.numbers, self.levels = list(numbers), list(levels)
        self.n_dimensions = len(self.numbers) + sum(block.stop - block.start for block in self.levels)
        self.net = TimeNetwork(self.n_dimensions, self.n_dimensions, width=width, depth=depth)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the conditional mean ``(n, d)`` of x_t ``(n, d)`` at t ``(n,)``."""
        alpha, sigma = (value[:, None] for value in alpha_sigma(t))
        out = self.net(x, t)
        mean = torch.empty_like(x)
        if self.numbers:
            mean[:, self.numbers] = alpha * x[:, self.numbers] - sigma * out[:, self.numbers]
        evidence = alpha / sigma**2 * x
        for block in self.levels:
            mean[:, block] = (out[:, block] + evidence[:, block]).softmax(1)
        return mean

    def losses(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return the loss of every row ``(n,)``: squared error of v, and cross-entropy in nats of every block."""
        alpha, sigma = (value[:, None] for value in alpha_sigma(t))
        x = alpha * x0 + sigma * noise
        out = self.net(x, t)
        total = x0.new_zeros(len(x0))
        if self.numbers:
            velocity = alpha * noise[:, self.numbers] - sigma * x0[:, self.numbers]
            total = total + ((out[:, self.numbers] - velocity) ** 2).sum(1)
        evidence = alpha / sigma**2 * x
        for block in self.levels:
            logits = out[:, block] + evidence[:, block]
            total = total + nn.functional.cross_entropy(logits, x0[:, block].argmax(1), reduction="none")
        return total


class NoisyClassifier(nn.Module):
    """p(class | x_t, t): logits of a time network, softened by a temperature that depends on the time.

    Parameters
    ----------
    n_in, n_classes, width, depth, n_condition
        As of `TimeNetwork`.
    """

    #: Times between which the temperature is interpolated.
    KNOTS = 9

    def __init__(self, n_in: int, n_classes: int, *, width: int, depth: int, n_condition: int = 0) -> None:
        super().__init__()
        self.net = TimeNetwork(n_in, n_classes, width=width, depth=depth, n_condition=n_condition)
        # Not trained with the weights but set afterwards, on rows held out; see `fit_temperature`.
        self.log_temperature = nn.Parameter(torch.zeros(self.KNOTS), requires_grad=False)

    def raw(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return logits ``(n, classes)`` before the temperature."""
        return self.net(x, t, condition)

    def temperature(self, t: Tensor) -> Tensor:
        """Return the temperature at t ``(n,)``, linear in its logarithm between the knots."""
        place = (t * (self.KNOTS - 1)).clamp(0, self.KNOTS - 1 - 1e-6)
        low = place.floor().long()
        part = place - low
        log = self.log_temperature[low] * (1 - part) + self.log_temperature[low + 1] * part
        return log.exp()

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return log probabilities ``(n, classes)``."""
        return (self.raw(x, t, condition) / self.temperature(t)[:, None]).log_softmax(1)


def fit_temperature(classifier: NoisyClassifier, logits: Tensor, classes: Tensor, t: Tensor) -> None:
    """Set the temperatures to those of least cross-entropy on rows held out (Guo et al., ICML 2017, section 4.2).

    Parameters
    ----------
    classifier : NoisyClassifier
        Its `log_temperature` is set.
    logits : Tensor
        What `NoisyClassifier.raw` gives for these rows ``(n, classes)``.
    classes : Tensor
        int64 ``(n,)``.
    t : Tensor
        Times ``(n,)``.
    """
    knots = classifier.log_temperature
    knots.requires_grad_(True)
    optimiser = torch.optim.LBFGS([knots], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        scaled = logits / classifier.temperature(t)[:, None]
        # A little pull towards 1 keeps knots that few rows speak for from running away.
        loss = nn.functional.cross_entropy(scaled, classes) + 20 / len(t) * (knots**2).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    knots.requires_grad_(False).grad = None
    knots.clamp_(-2.0, 2.0)


class Averaged(nn.Module):
    """A module and the exponential moving average of its weights, which is what samples are drawn with.

    Parameters
    ----------
    module, copy : nn.Module
        Two of a kind; the second receives the averages.
    decay : float
        Share of the average that stays in a step; smaller in the first steps.
    """

    def __init__(self, module: nn.Module, copy: nn.Module, decay: float) -> None:
        super().__init__()
        self.live, self.average, self.decay = module, copy.requires_grad_(False), decay
        copy.load_state_dict(module.state_dict())
        # A parameter, so that a checkpoint holds it.
        self.steps = nn.Parameter(torch.zeros(()), requires_grad=False)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights as they are."""
        done = float(self.steps)
        stay = min(self.decay, (done + 1) / (done + 10))
        for own, averaged in zip(self.live.parameters(), self.average.parameters(), strict=True):
            averaged.lerp_(own, 1 - stay)
        self.steps.add_(1)


def solve(
    denoise: Denoise, noise: Tensor, *, solver: Solver, steps: int, generator: torch.Generator
) -> Tensor:
    """Run the process backwards, from noise at t = 1 to rows.

    Parameters
    ----------
    denoise : callable
        Conditional mean, guided or not.
    noise : Tensor
        Standard normal ``(n, d)``.
    solver : {"dpm-solver++", "heun", "euler-maruyama"}
        DPM-Solver++(2M) (Lu et al., 2022, algorithm 2), one call a step; Heun's method on the probability-flow
        ODE in ``x / a`` over ``sigma / a`` (Karras et al., NeurIPS 2022, algorithm 1), two calls a step; or
        Euler-Maruyama on the reverse SDE, one call a step.
    steps : int
        Steps; evenly spaced in the log of the signal-to-noise ratio, for Euler-Maruyama in t.
    generator : torch.Generator
        Noise of Euler-Maruyama; the others draw none.

    Returns
    -------
    Tensor
        x at t = `SHORTEST`, ``(n, d)``.
    """
    if solver == "euler-maruyama":
        return _euler_maruyama(denoise, noise, steps, generator)
    ends = half_log_snr(torch.tensor([1.0, SHORTEST], dtype=torch.float64))
    levels = torch.linspace(float(ends[0]), float(ends[1]), steps + 1, dtype=torch.float64)
    times = time_at(levels)
    if solver == "heun":
        return _heun(denoise, noise, times)
    return _multistep(denoise, noise, times, levels)


def _multistep(denoise: Denoise, x: Tensor, times: Tensor, levels: Tensor) -> Tensor:
    alphas, sigmas = alpha_sigma(times)
    before: Tensor | None = None
    for i in range(len(times) - 1):
        now = denoise(x, times[i].to(x).expand(len(x)))
        step = float(levels[i + 1] - levels[i])
        # The last step is of first order, as its authors advise for few steps.
        mean = now if before is None or i == len(times) - 2 else 1.5 * now - 0.5 * before
        x = float(sigmas[i + 1] / sigmas[i]) * x - float(alphas[i + 1]) * math.expm1(-step) * mean
        before = now
    return x


def _heun(denoise: Denoise, x: Tensor, times: Tensor) -> Tensor:
    alphas, sigmas = alpha_sigma(times)
    ratios = sigmas / alphas
    scaled = x / float(alphas[0])
    for i in range(len(times) - 1):
        step = float(ratios[i + 1] - ratios[i])
        mean = denoise(scaled * float(alphas[i]), times[i].to(x).expand(len(x)))
        slope = (scaled - mean) / float(ratios[i])
        ahead = scaled + step * slope
        mean = denoise(ahead * float(alphas[i + 1]), times[i + 1].to(x).expand(len(x)))
        scaled = scaled + step * 0.5 * (slope + (ahead - mean) / float(ratios[i + 1]))
    return scaled * float(alphas[-1])


def _euler_maruyama(denoise: Denoise, x: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    times = torch.linspace(1.0, SHORTEST, steps + 1, dtype=torch.float64)
    low, high = BETA
    for i in range(steps):
        t = times[i]
        alpha, sigma = (float(value) for value in alpha_sigma(t))
        rate = low + float(t) * (high - low)
        width = float(times[i] - times[i + 1])
        score = (alpha * denoise(x, t.to(x).expand(len(x))) - x) / sigma**2
        fresh = torch.randn(x.shape, generator=generator).to(x)
        x = x + (0.5 * rate * x + rate * score) * width + math.sqrt(rate * width) * fresh
    return x
