"""Denoising diffusion of vectors: noise levels, a network of the velocity, its loss, and sampling in few steps.

A vector x is noised to ``x_t = a_t x + b_t eps`` with ``a_t² + b_t² = 1`` for t = 0 … T, and a network learns the
velocity ``v = a_t eps - b_t x`` (Salimans and Ho, ICLR 2022, appendix D), from which both come back:
``x = a_t x_t - b_t v`` and ``eps = b_t x_t + a_t v``. Sources: the noising and ancestral sampling: Ho et al.,
NeurIPS 2020, eq. 4 and 7; the cosine levels: Nichol and Dhariwal, ICML 2021, eq. 17; steps that skip levels, with
or without noise: Song et al., DDIM, ICLR 2021, eq. 12 and 16; the correction of the second order: Lu et al.,
DPM-Solver++, 2022, algorithm 2. The running average of the weights, kept as parameters so that a checkpoint of
`nn.training.train` holds it, is ours.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth.nn.layers import perceptron

#: ``(x_t (n, d), t int64 (n,) or (1,)) -> v (n, d)``.
Velocity = Callable[[Tensor, Tensor], Tensor]

#: Rows denoised at a time: the hidden layers of so many stay in a core's cache.
CHUNK = 4096
#: Logarithm of signal to noise at the second and the second to last stop of few steps.
SPAN = (-2.5, 2.5)
#: Decay of the running average of the weights.
DECAY = 0.999


class Diffusion:
    """Noise levels, and what follows from them.

    Parameters
    ----------
    levels : int, default=1000
        T, the number of noise levels.
    schedule : {"cosine", "linear"}
        How the noise grows: the squared cosine of Nichol and Dhariwal, or variances from 1e-4 to 0.02 (for 1,000
        levels; scaled by 1000 / T for others) of Ho et al.

    Attributes
    ----------
    signal, noise : Tensor
        ``a_t`` and ``b_t`` for t = 0 … T, float64 ``(T + 1,)``; ``a_0`` is 1.
    """

    def __init__(self, levels: int = 1000, schedule: Literal["cosine", "linear"] = "cosine") -> None:
        self.levels = levels
        if schedule == "cosine":
            at = (np.arange(levels + 1) / levels + 0.008) / 1.008
            kept = np.cos(at * math.pi / 2) ** 2
            betas = np.minimum(1 - kept[1:] / kept[:-1], 0.999)
        elif schedule == "linear":
            betas = np.minimum(np.linspace(1e-4, 0.02, levels) * 1000 / levels, 0.999)
        else:
            raise ValueError(f"schedule={schedule!r} is neither cosine nor linear")
        kept = np.concatenate([[1.0], np.cumprod(1 - betas)])
        self.signal, self.noise = torch.from_numpy(np.sqrt(kept)), torch.from_numpy(np.sqrt(1 - kept))

    def noised(self, x: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``x_t`` and the velocity there, each ``(n, d)``.

        Parameters
        ----------
        x, noise : Tensor
            Vectors and standard Gaussian noise, float ``(n, d)``.
        t : Tensor
            Level of each, int64 ``(n,)``.
        """
        a, b = (level[t].to(x.dtype)[:, None] for level in (self.signal, self.noise))
        return a * x + b * noise, a * noise - b * x

    def parted(self, x_t: Tensor, velocity: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Return the vector and the noise that `x_t` is made of if `velocity` is right, each ``(n, d)``."""
        a, b = float(self.signal[t]), float(self.noise[t])
        return a * x_t - b * velocity, b * x_t + a * velocity

    def loss(self, model: Velocity, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean squared error of the velocity at random levels, a scalar.

        Parameters
        ----------
        model : callable
            Of the velocity.
        x : Tensor
            Vectors of about unit variance, float32 ``(n, d)``.
        generator : torch.Generator
            Draws levels and noise.
        """
        t = torch.randint(1, self.levels + 1, (len(x),), generator=generator)
        x_t, velocity = self.noised(x, t, torch.randn(x.shape, generator=generator))
        return (model(x_t, t) - velocity).square().mean()

    def stops(self, steps: int, *, even: bool = False) -> list[int]:
        """Return the levels that sampling in so many steps passes through, from T down to 0.

        Parameters
        ----------
        steps : int
            How many steps; T at most.
        even : bool, default=False
            At even distances; otherwise at even distances of the logarithm of signal to noise, within which all
            that can be seen of a vector appears, and then some may fall together.
        """
        steps = min(steps, self.levels)
        if even or steps < 3:
            return [round(self.levels * (steps - i) / steps) for i in range(steps + 1)]
        ratio = (self.signal[1:] / self.noise[1:]).log().numpy()
        wanted = np.linspace(*SPAN, steps - 1)
        inner = self.levels - np.searchsorted(ratio[::-1], np.clip(wanted, ratio[-1], ratio[0]))
        return [self.levels, *sorted({int(t) for t in inner} - {0, self.levels}, reverse=True), 0]

    @torch.no_grad()
    def sample(
        self,
        model: Velocity,
        n: int,
        dim: int,
        generator: torch.Generator,
        *,
        steps: int = 10,
        eta: float = 0.0,
    ) -> Tensor:
        """Draw vectors.

        Parameters
        ----------
        model : callable
            Of the velocity.
        n, dim : int
            How many vectors of how many dimensions.
        generator : torch.Generator
            Where chance comes from.
        steps : int, default=10
            Calls of the network; T at most.
        eta : float, default=0
            Noise added at each step as a share of what ancestral sampling adds: 1 with T steps *is* ancestral
            sampling; 0 is a map from the first noise to the vector, for which a correction of the second order makes
            few steps do.

        Returns
        -------
        Tensor
            float32 ``(n, dim)``.
        """
        start = torch.randn(n, dim, generator=generator)
        if eta:
            return self._denoise(model, start, steps, eta, generator)
        return torch.cat([self._denoise(model, part, steps, 0.0, generator) for part in start.split(CHUNK)])

    def _denoise(
        self, model: Velocity, x_t: Tensor, steps: int, eta: float, generator: torch.Generator
    ) -> Tensor:
        stops = self.stops(steps, even=eta > 0)
        a, b = self.signal.tolist(), self.noise.tolist()
        before: Tensor | None = None
        for i, (t, to) in enumerate(pairwise(stops)):
            x, noise = self.parted(x_t, model(x_t, torch.tensor([t])), t)
            if to == 0:
                return x
            if eta:
                added = eta * b[to] / b[t] * math.sqrt(1 - (a[t] / a[to]) ** 2)
                fresh = torch.randn(x.shape, generator=generator)
                x_t = a[to] * x + math.sqrt(b[to] ** 2 - added**2) * noise + added * fresh
                continue
            guess = x
            if before is not None:
                # The vector is followed along the logarithm of signal to noise, in which the path is straightest.
                ahead, behind = _log_ratio(a, b, to, t), _log_ratio(a, b, t, stops[i - 1])
                guess = x + ahead / (2 * behind) * (x - before)
            before = x
            x_t = b[to] / b[t] * x_t + (a[to] - b[to] / b[t] * a[t]) * guess
        return x_t


def _log_ratio(signal: list[float], noise: list[float], to: int, t: int) -> float:
    """Return by how much the logarithm of signal to noise grows from level `t` to level `to`."""
    return math.log(signal[to] / noise[to]) - math.log(signal[t] / noise[t])


class VelocityNetwork(nn.Module):
    """A perceptron of the noised vector and its level.

    Parameters
    ----------
    dim : int
        Dimensions of the vectors.
    width : int, default=256
        Of every layer.
    depth : int, default=2
        Hidden layers between the first, to which the embedded level is added, and the last.
    """

    frequencies: Tensor

    def __init__(self, dim: int, width: int = 256, depth: int = 2) -> None:
        super().__init__()
        half = torch.arange(max(1, width // 2), dtype=torch.float32) / max(1, width // 2)
        self.register_buffer("frequencies", torch.exp(-math.log(10_000) * half), persistent=False)
        self.time = perceptron(2 * len(half), (width,), width)
        self.first = nn.Linear(dim, width)
        self.rest = nn.Sequential(nn.SiLU(), perceptron(width, (width,) * depth, dim))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity ``(n, dim)`` of vectors ``(n, dim)`` at levels int64 ``(n,)``, or one level ``(1,)``."""
        angles = t[:, None].to(x.dtype) * self.frequencies
        level = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        return self.rest(self.first(x) + level)


class Averaged(nn.Module):
    """A network in training and the running average of its weights, which is what sampling uses.

    Call `update` at the start of every step (the loss is a good place) and once after the last.

    Parameters
    ----------
    net : nn.Module
        Its parameters are trained.
    decay : float, default=0.999
        Of the average; lower in the first steps, so that it forgets the random start.
    """

    def __init__(self, net: nn.Module, decay: float = DECAY) -> None:
        super().__init__()
        self.net, self.decay = net, decay
        self.mean = copy.deepcopy(net).requires_grad_(False)
        # A parameter, since checkpoints keep nothing else.
        self.updates = nn.Parameter(torch.zeros(()), requires_grad=False)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights as they are."""
        done = float(self.updates)
        keep = min(self.decay, done / (9 + done))
        for mean, parameter in zip(self.mean.parameters(), self.net.parameters(), strict=True):
            mean.lerp_(parameter, 1 - keep)
        self.updates.add_(1)
