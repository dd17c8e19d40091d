"""Small parts: a multi-layer perceptron, and the first layer of a row of states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def perceptron(n_in: int, hidden: Sequence[int], n_out: int) -> nn.Sequential:
    """Return linear layers with SiLU between them: ``(batch, n_in)`` → ``(batch, n_out)``."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(n_in, width), nn.SiLU()]
        n_in = width
    return nn.Sequential(*layers, nn.Linear(n_in, n_out))


class StateEncoder(nn.Module):
    """Rows of states to the mean and log variance of a Gaussian over the latent.

    The first layer is that of a network on one-hot columns, read as a sum of table rows.

    Parameters
    ----------
    sizes : sequence of int
        States of each column.
    hidden : sequence of int
        Widths; the first is that of the summed embedding.
    latent_dim : int
        Dimensions of the latent.
    """

    offsets: Tensor

    def __init__(self, sizes: Sequence[int], hidden: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("offsets", starts, persistent=False)
        self.first = nn.EmbeddingBag(sum(sizes), hidden[0], mode="sum")
        nn.init.normal_(self.first.weight, std=(len(sizes) + 1) ** -0.5)
        self.rest = nn.Sequential(nn.SiLU(), perceptron(hidden[0], hidden[1:], 2 * latent_dim))

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each ``(n, latent_dim)``, of states int64 ``(n, columns)``."""
        mean, log_var = self.rest(self.first(states + self.offsets)).chunk(2, dim=1)
        # Beyond these bounds a variance means "certain" or "unknown" already, and gradients explode.
        return mean, log_var.clamp(-8.0, 4.0)


class NoiseEncoder(nn.Module):
    """Noise to latent codes, able to jump.

    The law of a latent that holds a label has one hill a label with little between them. A continuous map from
    Gaussian noise has to cross that valley, and what it puts there has no clear label. So the first
    coordinate of the noise is also cut into cells of equal probability, each with an offset of its own.

    Parameters
    ----------
    noise_dim : int
        Dimensions of the noise.
    hidden : sequence of int
        Hidden layers.
    latent_dim : int
        Dimensions of the latent.
    cells : int
        Cells of the first coordinate.
    """

    def __init__(self, noise_dim: int, hidden: Sequence[int], latent_dim: int, cells: int) -> None:
        super().__init__()
        self.first = nn.Linear(noise_dim, hidden[0])
        self.offset = nn.Embedding(cells, hidden[0])
        self.rest = nn.Sequential(nn.SiLU(), perceptron(hidden[0], hidden[1:], latent_dim))

    def forward(self, noise: Tensor) -> Tensor:
        """Return latent codes ``(n, latent_dim)`` of standard Gaussian noise ``(n, noise_dim)``."""
        cells = self.offset.num_embeddings
        cell = (torch.special.ndtr(noise[:, 0]) * cells).long().clamp_(0, cells - 1)
        return self.rest(self.first(noise) + self.offset(cell))


def reparameterise(mean: Tensor, log_var: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from the Gaussians ``(n, d)`` so that gradients reach their parameters."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + noise * (0.5 * log_var).exp()


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
