"""What FADE diffuses of an image: its pixels, or its code in the latent of a fair autoencoder."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth.data.images.pixels import Pixels, Shape
from fairsynth.generators.images.balance import TrainingImages
from fairsynth.generators.images.fldgm import ImageCodes
from fairsynth.generators.images.latent_images import LatentPictures
from fairsynth.nn.convolutions import to_pixels
from fairsynth.nn.diffusion import Denoiser, NoisyClassifier
from fairsynth.nn.image_diffusion import NoisyImageClassifier, PixelDenoiser

#: A code beyond so many standard deviations, or a pixel so far beyond black or white, is outside of the data.
FAR_CODE = 6.0
FAR_PIXEL = 0.5


class ImageClassifiers(nn.Module):
    """The label's classifier and the group's, which knows the label, of noised vectors of images.

    Parameters
    ----------
    target, sensitive : NoisyClassifier
        The two.
    n_labels : int
        How many labels there are.
    """

    def __init__(self, target: NoisyClassifier, sensitive: NoisyClassifier, n_labels: int) -> None:
        super().__init__()
        self.n_labels, self.target, self.sensitive = n_labels, target, sensitive


class PixelSpace:
    """The pixels, from -1 to 1.

    Parameters
    ----------
    shape : tuple of int
        Height, width and channels.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape, self.width = shape, shape[0] * shape[1] * shape[2]

    def vectors(self, data: TrainingImages, rows: Tensor) -> Tensor:
        """Return real images as vectors, float32 ``(n, width)``."""
        return data.pixels(rows).mul_(2).sub_(1).flatten(1)

    def networks(
        self, classes: int, groups: int, sizes: dict[str, tuple[int, ...]]
    ) -> tuple[nn.Module, ImageClassifiers]:
        """Make a score model and classifiers of such vectors."""
        layers = sizes["classifier"]
        return PixelDenoiser(self.shape, sizes["score"]), ImageClassifiers(
            NoisyImageClassifier(self.shape, classes, layers),
            NoisyImageClassifier(self.shape, groups, layers, n_condition=classes),
            classes,
        )

    def images(self, vectors: Tensor, groups: Tensor) -> Pixels:
        """Return uint8 images ``(n, height, width, channels)``; what is beyond black or white becomes that."""
        height, width, channels = self.shape
        return to_pixels(vectors.unflatten(1, (channels, height, width)).add(1).div(2)).contiguous().numpy()

    def outside(self, vectors: Tensor) -> Tensor:
        """Return which vectors lie far beyond black and white in the mean over their pixels, bool ``(n,)``."""
        return (vectors.abs() - 1).clamp_min(0).mean(1) > FAR_PIXEL


class CodeSpace:
    """Codes of a fair autoencoder, in unit variance.

    Parameters
    ----------
    pictures : LatentPictures
        The autoencoder's head and decoder.
    mean, scale : np.ndarray
        Of the codes in each dimension, float32 ``(1, latent)``.
    codes : ImageCodes, optional
        Those of the real images, while learning.
    """

    def __init__(
        self, pictures: LatentPictures, mean: np.ndarray, scale: np.ndarray, codes: ImageCodes | None = None
    ) -> None:
        self.pictures, self.mean, self.scale, self._codes = pictures, mean, scale, codes
        self.width = scale.shape[1]

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return codes of real images, float32 ``(n, width)``."""
        assert self._codes is not None
        return self._codes.draw(rows, generator)

    def networks(
        self, classes: int, groups: int, sizes: dict[str, tuple[int, ...]]
    ) -> tuple[nn.Module, ImageClassifiers]:
        """Make a score model and classifiers of such vectors."""
        (width, depth), (own_width, own_depth) = sizes["score"], sizes["classifier"]
        return Denoiser(range(self.width), [], width=width, depth=depth), ImageClassifiers(
            NoisyClassifier(self.width, classes, width=own_width, depth=own_depth),
            NoisyClassifier(self.width, groups, width=own_width, depth=own_depth, n_condition=classes),
            classes,
        )

    def unscaled(self, vectors: Tensor) -> Tensor:
        """Return codes as the decoder knows them."""
        return vectors * torch.from_numpy(self.scale) + torch.from_numpy(self.mean)

    def images(self, vectors: Tensor, groups: Tensor) -> Pixels:
        """Return uint8 images ``(n, height, width, channels)``."""
        return self.pictures.decode(self.unscaled(vectors), groups)

    def outside(self, vectors: Tensor) -> Tensor:
        """Return which codes lie far outside of where those of real images are, bool ``(n,)``."""
        return (vectors.abs() > FAR_CODE).any(1)
