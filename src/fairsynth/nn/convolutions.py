"""Convolutional networks of images: an encoder, and a decoder that is told the group.

Images are float32 ``(n, channels, height, width)`` from 0 to 1. Each layer halves the height and width by a 4×4
convolution of stride 2, and the decoder goes the same way back, so that any size comes out as it went in.

The group enters by feature-wise modulation (Perez et al., FiLM, AAAI 2018): each channel of each layer is scaled and
shifted by numbers of the group. What the group does to an image as a whole, such as a tint, is then easy to say, and
leaves the shape to the latent; that choice is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fairsynth.errors import DataError

Size = tuple[int, int]


class Modulation(nn.Module):
    """Scales and shifts channels by numbers of the group; does nothing at first.

    Parameters
    ----------
    groups : int
        How many groups there are; 0 for a layer that does nothing.
    channels : int
        Channels of the layer.
    """

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.table = nn.Embedding(groups, 2 * channels) if groups else None
        if self.table is not None:
            nn.init.zeros_(self.table.weight)

    def forward(self, x: Tensor, groups: Tensor | None) -> Tensor:
        """Return ``(n, channels, height, width)`` modulated by groups int64 ``(n,)``."""
        if self.table is None:
            return x
        scale, shift = self.table(groups)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, x, 1 + scale)


def halved(size: Size, layers: int) -> list[Size]:
    """Return the heights and widths before, between and after so many layers.

    Raises
    ------
    DataError
        If the image is too small for them.
    """
    sizes = [size]
    for _ in range(layers):
        height, width = sizes[-1]
        sizes.append((height // 2, width // 2))
    if min(sizes[-1]) < 1:
        raise DataError(
            f"images of {size[0]}×{size[1]} pixels cannot be halved {layers} times; give fewer layers (channels=...)."
        )
    return sizes


class ConvolutionalEncoder(nn.Module):
    """Images, their groups and perhaps their labels to the mean and log variance of a Gaussian over the latent.

    Parameters
    ----------
    shape : tuple of int
        Height, width and channels of an image.
    groups : int
        How many groups there are.
    channels : sequence of int
        Of each layer.
    hidden : int
        Width of the layer after the convolutions; 0 for none.
    latent_dim : int
        Dimensions of the latent.
    classes : int
        How many labels there are, if the encoder is told the label; else 0.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        groups: int,
        channels: Sequence[int],
        hidden: int,
        latent_dim: int,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.classes = classes
        sizes = halved(shape[:2], len(channels))
        self.layers = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 4, stride=2, padding=1) for n_in, n_out in pairwise([shape[2], *channels])
        )
        self.modulations = nn.ModuleList(Modulation(groups, n) for n in channels)
        flat = channels[-1] * sizes[-1][0] * sizes[-1][1] + classes
        self.last = (
            nn.Sequential(nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent_dim))
            if hidden
            else nn.Linear(flat, 2 * latent_dim)
        )

    def forward(self, images: Tensor, groups: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each ``(n, latent_dim)``, of images, groups and labels int64 ``(n,)``."""
        x = images - 0.5
        for layer, modulation in zip(self.layers, self.modulations, strict=True):
            x = torch.relu(modulation(layer(x), groups))
        flat = x.flatten(1)
        if self.classes:
            flat = torch.cat([flat, nn.functional.one_hot(labels, self.classes).to(flat.dtype)], dim=1)
        mean, log_var = self.last(flat).chunk(2, dim=1)
        # Beyond these bounds a variance means "certain" or "unknown" already, and gradients explode.
        return mean, log_var.clamp(-10.0, 4.0)


class ConvolutionalDecoder(nn.Module):
    """Latent codes and groups to the logits of pixels.

    Parameters
    ----------
    shape : tuple of int
        Height, width and channels of an image.
    groups : int
        How many groups there are.
    channels : sequence of int
        Of each layer, from the smallest map to the largest.
    hidden : int
        Width of the layer before the convolutions; 0 for none.
    latent_dim : int
        Dimensions of the latent.
    """

    def __init__(
        self, shape: tuple[int, int, int], groups: int, channels: Sequence[int], hidden: int, latent_dim: int
    ) -> None:
        super().__init__()
        sizes = halved(shape[:2], len(channels))[::-1]
        self.start = (channels[0], *sizes[0])
        flat = channels[0] * sizes[0][0] * sizes[0][1]
        self.first = (
            nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, flat))
            if hidden
            else nn.Linear(latent_dim, flat)
        )
        self.modulations = nn.ModuleList(Modulation(groups, n) for n in channels)
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(
                n_in,
                n_out,
                4,
                stride=2,
                padding=1,
                output_padding=(after[0] - 2 * before[0], after[1] - 2 * before[1]),
            )
            for (n_in, n_out), (before, after) in zip(
                pairwise([*channels, shape[2]]), pairwise(sizes), strict=True
            )
        )

    def forward(self, codes: Tensor, groups: Tensor) -> Tensor:
        """Return logits ``(n, channels, height, width)`` of codes ``(n, latent_dim)`` and groups int64 ``(n,)``."""
        x = self.first(codes).unflatten(1, self.start)
        x = x.contiguous(memory_format=torch.channels_last)
        for layer, modulation in zip(self.layers, self.modulations, strict=True):
            x = layer(torch.relu(modulation(x, groups)))
        return x


def to_float(pixels: Tensor) -> Tensor:
    """Return uint8 ``(n, height, width, channels)`` as float32 ``(n, channels, height, width)`` from 0 to 1."""
    return pixels.permute(0, 3, 1, 2).float().div_(255.0)


def to_pixels(images: Tensor) -> Tensor:
    """Return images from 0 to 1 ``(n, channels, height, width)`` as uint8 ``(n, height, width, channels)``."""
    return images.permute(0, 2, 3, 1).mul(255.0).add_(0.5).clamp_(0.0, 255.0).to(torch.uint8)
