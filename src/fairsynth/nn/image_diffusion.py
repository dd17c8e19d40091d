"""Diffusion of pixels: a small U-Net as the denoiser, and convolutional classifiers of noised images.

Both take an image as a vector ``(n, channels * height * width)`` of numbers around -1 to 1, so that the solvers and the
guidance of vectors serve images as they are (`nn.diffusion`, which has the process and its sources). The U-Net is that
of Ho et al. (NeurIPS 2020, appendix B) at its smallest: residual blocks that know the time, halved height and width
between them, skip connections, no attention.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fairsynth.nn.diffusion import NoisyClassifier, alpha_sigma

Shape = tuple[int, int, int]
#: Width of the embedding of the time.
TIME = 64


class TimeEmbedding(nn.Module):
    """Sines and cosines of the time, through two layers.

    Parameters
    ----------
    width : int
        Of the result.
    """

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        frequencies = torch.exp(torch.linspace(0.0, math.log(1000.0), 32))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Return ``(n, width)`` of times ``(n,)``."""
        angles = t[:, None] * self.frequencies
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))


class TimeBlock(nn.Module):
    """A residual block of two convolutions, told the time.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.norm = nn.GroupNorm(math.gcd(8, n_out), n_out)
        self.time = nn.Linear(TIME, 2 * n_out)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return ``(n, n_out, h, w)`` of x ``(n, n_in, h, w)`` and the embedded time ``(n, TIME)``."""
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        inner = self.norm(self.first(x)) * (1 + scale) + shift
        return self.skip(x) + self.second(nn.functional.silu(inner))


class PixelDenoiser(nn.Module):
    """E[x_0 | x_t] of images, by the velocity that a U-Net tells (Salimans and Ho, ICLR 2022, section 4).

    Parameters
    ----------
    shape : tuple of int
        Height, width and channels.
    channels : sequence of int
        Of each level; height and width are halved between two levels.
    """

    def __init__(self, shape: Shape, channels: Sequence[int]) -> None:
        super().__init__()
        self.shape = (shape[2], shape[0], shape[1])
        self.time = TimeEmbedding(TIME)
        self.first = nn.Conv2d(shape[2], channels[0], 3, padding=1)
        self.down = nn.ModuleList(TimeBlock(n, n) for n in channels[:-1])
        self.halve = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3, stride=2, padding=1) for n_in, n_out in pairwise(channels)
        )
        self.middle = TimeBlock(channels[-1], channels[-1])
        self.up = nn.ModuleList(
            TimeBlock(below + own, own) for own, below in reversed(list(pairwise(channels)))
        )
        self.last = nn.Conv2d(channels[0], shape[2], 3, padding=1)
        # Nothing said at first: the denoiser then starts as that of independent standard pixels.
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity ``(n, d)`` at x_t ``(n, d)`` and t ``(n,)``."""
        time = self.time(t)
        stream = self.first(x.unflatten(1, self.shape))
        kept = []
        for block, halve in zip(self.down, self.halve, strict=True):
            stream = block(stream, time)
            kept.append(stream)
            stream = halve(stream)
        stream = self.middle(stream, time)
        for block, skip in zip(self.up, reversed(kept), strict=True):
            stream = nn.functional.interpolate(stream, size=skip.shape[2:])
            stream = block(torch.cat([stream, skip], dim=1), time)
        return self.last(nn.functional.silu(stream)).flatten(1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the conditional mean ``(n, d)`` of x_t ``(n, d)`` at t ``(n,)``."""
        alpha, sigma = (value[:, None] for value in alpha_sigma(t))
        return alpha * x - sigma * self.velocity(x, t)

    def losses(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return the mean squared error of the velocity of every image ``(n,)``."""
        alpha, sigma = (value[:, None] for value in alpha_sigma(t))
        wanted = alpha * noise - sigma * x0
        return (self.velocity(alpha * x0 + sigma * noise, t) - wanted).square().mean(1)


class NoisyImageClassifier(NoisyClassifier):
    """p(class | x_t, t) of noised images, softened by a temperature that depends on the time.

    Parameters
    ----------
    shape : tuple of int
        Height, width and channels.
    classes : int
        How many there are.
    channels : sequence of int
        Of each layer, which halves height and width.
    n_condition : int
        Width of the condition; 0 for none.
    """

    def __init__(self, shape: Shape, classes: int, channels: Sequence[int], n_condition: int = 0) -> None:
        nn.Module.__init__(self)
        self.net = _NoisyImageNetwork(shape, classes, channels, n_condition)  # type: ignore[assignment]
        self.log_temperature = nn.Parameter(torch.zeros(self.KNOTS), requires_grad=False)


class _NoisyImageNetwork(nn.Module):
    def __init__(self, shape: Shape, classes: int, channels: Sequence[int], n_condition: int) -> None:
        super().__init__()
        self.shape = (shape[2], shape[0], shape[1])
        self.time = TimeEmbedding(TIME)
        self.condition = nn.Linear(n_condition, TIME, bias=False) if n_condition else None
        self.layers = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3, stride=2, padding=1) for n_in, n_out in pairwise([shape[2], *channels])
        )
        self.told = nn.ModuleList(nn.Linear(TIME, 2 * n) for n in channels)
        height, width = shape[:2]
        for _ in channels:
            height, width = (height + 1) // 2, (width + 1) // 2
        self.last = nn.Linear(channels[-1] * height * width, classes)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        time = self.time(t)
        if self.condition is not None:
            time = time + self.condition(condition)
        stream = x.unflatten(1, self.shape)
        for layer, told in zip(self.layers, self.told, strict=True):
            scale, shift = told(time)[:, :, None, None].chunk(2, dim=1)
            stream = nn.functional.silu(layer(stream) * (1 + scale) + shift)
        return self.last(stream.flatten(1))
