"""Images as points: pixels, Inception features; and the same images with their colours or shapes exchanged.

Images are uint8, shape ``(n, height, width, channels)`` with 1 (gray), 3 (RGB) or 4 (RGBA) channels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairsynth.errors import DataError, MissingDependencyError

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
#: Images → features float, shape (n, d).
Features = Callable[[Pixels], Any]

CHANNELS = (1, 3, 4)
#: Images are averaged down to this many pixels a side before distances between pixels are measured.
SIDE = 32
#: Values that are worked on at a time.
_EXCHANGED = 2**24
_INSTALL = 'pip install torch-fidelity (or: pip install "torchmetrics[image]")'


def as_images(images: ArrayLike, name: str = "images") -> Pixels:
    """Check an array of images.

    Raises
    ------
    DataError
        If it is not uint8 of shape (n, height, width, 1, 3 or 4).
    """
    x = np.asarray(images)
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[3] not in CHANNELS:
        raise DataError(
            f"{name} is {x.dtype} of shape {x.shape}; expected uint8 of shape (n, height, width, 1, 3 or 4)."
        )
    return x


def pixel_points(images: Pixels, *, side: int = SIDE) -> NDArray[np.float32]:
    """Turn images into points, float32 in [0, 1], averaged down to at most `side` pixels a side.

    Averaging keeps what a copy is recognised by, and makes the distance between two large images a matter of what
    they show instead of their noise.

    Returns
    -------
    ndarray of float32, shape (n, d)
        d = height × width × channels of the smaller image.
    """
    x = as_images(images)
    height, width = x.shape[1:3]
    rows, columns = (np.linspace(0, n, min(n, side) + 1).astype(int)[:-1] for n in (height, width))
    small = x.astype(np.float32) / 255
    if len(rows) < height:
        small = np.add.reduceat(small, rows, axis=1) / np.diff(np.append(rows, height))[None, :, None, None]
    if len(columns) < width:
        small = (
            np.add.reduceat(small, columns, axis=2) / np.diff(np.append(columns, width))[None, None, :, None]
        )
    return np.ascontiguousarray(small.reshape(len(x), -1), dtype=np.float32)


def as_rgb(images: Pixels) -> Pixels:
    """Return images with three channels: gray is repeated, transparency laid on white."""
    x = as_images(images)
    if x.shape[3] == 1:
        return np.repeat(x, 3, axis=3)
    if x.shape[3] == 4:
        alpha = x[..., 3:].astype(np.float64) / 255
        return np.asarray(np.rint(x[..., :3] * alpha + 255 * (1 - alpha)), dtype=np.uint8)
    return x


class InceptionFeatures:
    """The 2,048 pooled features of Inception v3 that FID was published with, through torch-fidelity.

    The package and the weights are other people's; the weights are loaded by that package, from its cache, the network,
    or a file.

    Parameters
    ----------
    weights : path, optional
        File of the weights (``pt_inception-2015-12-05-6726825d.pth``), where the machine has no network.
    batch : int, default=32
        Images at a time; they are enlarged to 299 × 299.

    Raises
    ------
    MissingDependencyError
        If the package is not installed, or its weights can be had neither from its cache nor from the network.
    """

    name = "inception"

    def __init__(self, weights: str | os.PathLike[str] | None = None, *, batch: int = 32) -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-not-found]
                FeatureExtractorInceptionV3,
            )
        except ImportError as error:
            raise MissingDependencyError(
                f'features="inception" needs the package torch-fidelity: {_INSTALL}; '
                'or use features="trained", which needs nothing.'
            ) from error
        if weights is not None and not Path(weights).is_file():
            raise DataError(f"{weights}: there is no such file of Inception's weights.")
        try:
            self._network = FeatureExtractorInceptionV3(
                "inception-v3-compat",
                ["2048"],
                feature_extractor_weights_path=None if weights is None else os.fspath(weights),
            ).eval()
        except (URLError, OSError, RuntimeError) as error:
            raise MissingDependencyError(
                f"The weights of Inception cannot be had ({error}). Connect this machine once, or give the file that "
                'torch-fidelity names: features=InceptionFeatures("pt_inception-2015-12-05-6726825d.pth"); '
                'or use features="trained", which needs nothing.'
            ) from error
        self.batch = batch

    def __call__(self, images: Pixels) -> Floats:
        """Return features float64, shape (n, 2048), of images uint8, shape (n, height, width, channels)."""
        import torch

        rgb = as_rgb(images)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(rgb), self.batch):
                some = torch.from_numpy(np.ascontiguousarray(rgb[start : start + self.batch]))
                parts.append(self._network(some.permute(0, 3, 1, 2))[0].double().numpy())
        return np.concatenate(parts)


def exchange_colours(images: Pixels, donors: Pixels) -> Pixels:
    """Give each image the colour of its donor, and leave it its shape (ours).

    A pixel is its brightness ``V = max(R, G, B)`` times a tint. An image's tint is the brightness-weighted mean of its
    pixels' tints, ``Σ x / Σ V``. The image's tint is replaced by the donor's, and its brightness is scaled to the
    donor's brightest pixel::

        x' = p_donor / p_image · (V · tint_donor + (x - V · tint_image))

    For shapes of one colour on black (Colored MNIST) the result is exactly the image that would have been made with
    the donor's colour. In photographs the cast changes and local differences of colour stay.

    Parameters
    ----------
    images, donors : ndarray of uint8, shape (n, height, width, 3 or 4)
        Images and, one for each, where the colour is from. Transparency stays the image's.

    Returns
    -------
    ndarray of uint8, shape (n, height, width, 3 or 4)
        With donors as images and images as donors, the same colours on other shapes.

    Raises
    ------
    DataError
        If the images are gray, or the two do not match.
    """
    x, y = as_images(images), as_images(donors, "donors")
    if len(x) > 1 and x.size > _EXCHANGED and x.shape == y.shape:  # float64 takes eight times the room
        half = len(x) // 2
        return np.concatenate([exchange_colours(x[:half], y[:half]), exchange_colours(x[half:], y[half:])])
    if x.shape != y.shape:
        raise DataError(
            f"images have shape {x.shape} and donors {y.shape}; give one donor of the same size for each."
        )
    if x.shape[3] == 1:
        raise DataError("Gray images have no colour to exchange.")
    brightness, tint, peak = _tint(x)
    _, other, other_peak = _tint(y)
    colours = x[..., :3].astype(np.float64)
    moved = colours + brightness[..., None] * (other - tint)[:, None, None, :]
    scale = np.divide(other_peak, peak, out=np.ones_like(peak), where=peak > 0)
    out = x.copy()
    out[..., :3] = np.rint(np.clip(moved * scale[:, None, None, None], 0, 255))
    return out


def _tint(x: Pixels) -> tuple[Floats, Floats, Floats]:
    """Return brightness (n, h, w), tint (n, 3) and the brightest pixel (n,); an all-black image has a white tint."""
    colours = x[..., :3].astype(np.float64)
    brightness = colours.max(axis=3)
    total = brightness.sum(axis=(1, 2))
    tint = np.divide(
        colours.sum(axis=(1, 2)), total[:, None], out=np.ones((len(x), 3)), where=total[:, None] > 0
    )
    return brightness, tint, brightness.max(axis=(1, 2))
