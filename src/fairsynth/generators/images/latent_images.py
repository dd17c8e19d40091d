"""From latent codes to images: what the teacher, its students and latent generators share.

A latent code z gives the label by a head that is blind to the group, and with the group it gives the image. An image is
drawn from its label and group, which come from the table P(y, s): a code of that label, decoded for that group.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth.data.images.pixels import Pixels, Shape
from fairsynth.errors import DataError
from fairsynth.generators.images.base import SHOWN, ImageGenerator
from fairsynth.nn.convolutions import ConvolutionalDecoder, to_pixels
from fairsynth.nn.latent_law import LatentLaw
from fairsynth.nn.layers import perceptron

#: Images decoded at a time: the maps of so many stay in a core's cache.
CHUNK = 64
#: Width of the label head's hidden layer.
HEAD = 64


class LatentPictures(nn.Module):
    """Label head and decoder: everything after the latent.

    Parameters
    ----------
    shape : tuple of int
        Height, width and channels of an image.
    classes, groups : int
        How many there are.
    latent_dim, channels, hidden
        As of `ConvolutionalDecoder`.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        groups: int,
        *,
        latent_dim: int,
        channels: Sequence[int],
        hidden: int,
    ) -> None:
        super().__init__()
        self.settings = {"latent_dim": latent_dim, "channels": list(channels), "hidden": hidden}
        self.head = perceptron(latent_dim, (HEAD,), classes)
        self.decoder = ConvolutionalDecoder(shape, groups, channels, hidden, latent_dim)

    def decode(self, codes: Tensor, groups: Tensor) -> Pixels:
        """Return images uint8 ``(n, h, w, channels)`` of codes ``(n, latent_dim)`` and groups int64 ``(n,)``."""
        parts = [
            to_pixels(self.decoder(code, group).sigmoid_())
            for code, group in zip(codes.split(CHUNK), groups.split(CHUNK), strict=True)
        ]
        return torch.cat(parts).numpy()


def pictures_of(settings: Any, shape: Shape, classes: int, groups: int) -> LatentPictures:
    """Make head and decoder of the sizes that a file states; the weights come from the file."""
    latent_dim, channels, hidden = settings["latent_dim"], settings["channels"], settings["hidden"]
    sizes = [latent_dim, *channels]
    if not all(type(n) is int and 1 <= n <= 65_536 for n in sizes) or type(hidden) is not int or hidden < 0:
        raise ValueError("the sizes of the decoder are none")
    if not 1 <= len(channels) <= 12:
        raise ValueError("the decoder has no layers, or too many")
    return LatentPictures(shape, classes, groups, latent_dim=latent_dim, channels=channels, hidden=hidden)


class LatentImageGenerator(ImageGenerator):
    """A generator that draws codes of labels, and decodes them.

    Attributes
    ----------
    net_ : nn.Module
        Holds a `LatentPictures` as ``pictures``.
    """

    net_: Any

    @abstractmethod
    def _codes(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a code of each label, float32 ``(n, latent_dim)``."""

    @torch.inference_mode()
    def _draw(self, labels: np.ndarray, groups: np.ndarray, seed: np.random.SeedSequence) -> Pixels:
        generator = torch.Generator().manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
        codes = self._codes(torch.from_numpy(labels), generator)
        return self.net_.pictures.decode(codes, torch.from_numpy(groups))

    def decode(self, z: np.ndarray, s: Any) -> Pixels:
        """Return the images of latent codes, for the groups that one wants.

        Parameters
        ----------
        z : np.ndarray
            float ``(n, latent_dim)``.
        s : str, int or np.ndarray
            The name of a group, or codes of groups int ``(n,)``.

        Returns
        -------
        np.ndarray
            uint8 ``(n, height, width, channels)``.
        """
        self._fitted()
        codes = np.asarray(z, dtype=np.float32)
        if codes.ndim != 2 or codes.shape[1] != self.latent_dim_:
            raise DataError(f"z is of shape {codes.shape}; (n, {self.latent_dim_}) is needed.")
        place = self._place(self.sensitive_, s, "decode") if isinstance(s, str) else s
        groups = np.broadcast_to(np.asarray(place, dtype=np.int64), (len(codes),))
        if len(groups) and not 0 <= groups.min() <= groups.max() < len(self.levels_):
            raise DataError(f"s must be codes of groups from 0 to {len(self.levels_) - 1}.")
        with torch.inference_mode():
            return self.net_.pictures.decode(torch.from_numpy(codes), torch.from_numpy(groups.copy()))

    @property
    def latent_dim_(self) -> int:
        """Dimensions of the latent."""
        return int(self.net_.pictures.settings["latent_dim"])

    def pictures(self, seed: int = 0) -> dict[str, Pixels]:
        """Return grids of pictures for a person to look at; see `ImageGenerator.pictures`."""
        grids = super().pictures(seed)
        rng = np.random.default_rng([seed, 3])
        seen = np.flatnonzero(self.label_law_.sum(1) > 0)
        groups = np.flatnonzero(self.label_law_.sum(0) > 0)[:SHOWN]
        with torch.inference_mode():
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            labels = torch.from_numpy(np.resize(seen[:SHOWN], SHOWN))
            codes = self._codes(labels, generator)
            others = self._codes(torch.from_numpy(np.resize(np.roll(seen[:SHOWN], 1), SHOWN)), generator)
        grids["switched"] = np.stack([self.decode(codes.numpy(), int(group)) for group in groups])
        share = torch.linspace(0, 1, SHOWN)[:, None, None]
        line = (codes * (1 - share) + others * share).transpose(0, 1).reshape(-1, codes.shape[1])
        own = np.repeat(rng.choice(groups, SHOWN), SHOWN)
        grids["interpolated"] = self.decode(line.numpy(), own).reshape(SHOWN, SHOWN, *self.shape_)
        return grids


def draw_given(
    law: LatentLaw, labels: Tensor, generator: torch.Generator, temperature: float = 1.0
) -> Tensor:
    """Draw a code of each label from the law of the latent, float32 ``(n, d)``.

    Parameters
    ----------
    law : LatentLaw
        A mixture of Gaussians a label.
    labels : Tensor
        int64 ``(n,)``.
    generator : torch.Generator
        Where chance comes from.
    temperature : float
        By which the noise within a Gaussian is scaled.
    """
    weights = torch.from_numpy(law.weights)
    cumulative = weights.cumsum(1) / weights.sum(1, keepdim=True).clamp_min(1e-300)
    cumulative[:, -1] = 1.0
    n, components = len(labels), weights.shape[1]
    uniform = torch.rand(n, generator=generator, dtype=torch.float64)
    chosen = (uniform[:, None] >= cumulative[labels]).sum(1).clamp_(max=components - 1) + labels * components
    means = torch.from_numpy(law.means.reshape(-1, law.dim)).float()
    scales = torch.from_numpy(law.scales.reshape(-1, law.dim, law.dim)).float()
    noise = torch.randn(n, law.dim, generator=generator) * temperature
    return means[chosen] + torch.einsum("nij,nj->ni", scales[chosen], noise)


def read_law(tensors: dict[str, np.ndarray], classes: int, latent_dim: int) -> LatentLaw:
    """Take the law of the latent out of a file's tensors; a ValueError or KeyError says that it is none."""
    law = LatentLaw.from_tensors(
        {name: tensors.pop(name) for name in list(tensors) if name.startswith("law.")}
    )
    if law.dim != latent_dim or len(law.label_shares) != classes:
        raise ValueError("the law of the latent is of another size than the network")
    return law


def own_tensors(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Take the weights of the networks out of a file's tensors, and the table that the base has read."""
    tensors.pop("label_law")
    return {name[4:]: tensors.pop(name) for name in list(tensors) if name.startswith("net.")}


def net_tensors(net: nn.Module) -> dict[str, np.ndarray]:
    """Return the weights of the networks as a file holds them."""
    return {f"net.{name}": p.detach().cpu().numpy() for name, p in net.named_parameters()}
