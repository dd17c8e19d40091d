"""What a classifier looks at: maps over the pixels, and what happens when colour alone or shape alone is exchanged.

Maps show *where* a network looks. Where colour and shape lie in the same pixels, as in a coloured digit, that does not
say *at what*; exchanging the one and keeping the other does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairsynth.errors import DataError, SettingsError
from fairsynth.metrics.image_features import Pixels, exchange_colours

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: Images float (n, channels, height, width) → logits (n, classes).
Logits = Callable[[Tensor], Tensor]
#: Images uint8 (n, height, width, channels) → probabilities (n, classes).
Probabilities = Callable[[Pixels], Floats]


def gradient_x_input(logits: Logits, images: Tensor, classes: Tensor) -> Tensor:
    """Attribute a class's logit to the pixels: gradient times input (Shrikumar et al. 2016).

    For a linear model it is exactly what each value contributes: ``w_i x_i``.

    Parameters
    ----------
    logits : callable
        The network.
    images : Tensor, float, shape (n, channels, height, width)
        Inputs.
    classes : Tensor, int64, shape (n,)
        Whose logit, for each image.

    Returns
    -------
    Tensor, float, shape (n, height, width)
        Summed over channels.
    """
    inputs = images.detach().clone().requires_grad_(True)
    chosen = logits(inputs).gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, inputs)
    return (gradient * inputs).detach().sum(dim=1)


def occlusion(logits: Logits, images: Tensor, classes: Tensor, *, size: int, baseline: float = 0.0) -> Tensor:
    """Attribute a class's logit to patches: how much it falls when one is covered (Zeiler and Fergus 2014, sec. 4.2).

    Patches do not overlap; those at the right and lower edge may be smaller.

    Parameters
    ----------
    logits : callable
        The network.
    images : Tensor, float, shape (n, channels, height, width)
        Inputs.
    classes : Tensor, int64, shape (n,)
        Whose logit, for each image.
    size : int
        Pixels a side of a patch.
    baseline : float, default=0
        Value that covers it.

    Returns
    -------
    Tensor, float, shape (n, height, width)
        The fall of the logit, the same over a patch.

    Raises
    ------
    SettingsError
        If a patch has no pixel.
    """
    if size < 1:
        raise SettingsError(f"size={size!r} must be at least 1 pixel.")
    height, width = images.shape[2:]
    out = torch.zeros(len(images), height, width, dtype=images.dtype)
    with torch.inference_mode():
        whole = logits(images).gather(1, classes[:, None])[:, 0]
        for top in range(0, height, size):
            for left in range(0, width, size):
                covered = images.clone()
                covered[:, :, top : top + size, left : left + size] = baseline
                fall = whole - logits(covered).gather(1, classes[:, None])[:, 0]
                out[:, top : top + size, left : left + size] = fall[:, None, None]
    return out


@dataclass(frozen=True)
class Exchange:
    """What happens to decisions when colour alone, or shape alone, is exchanged.

    Attributes
    ----------
    colour_flip, shape_flip : float
        Share of images whose decision changes.
    colour_effect, shape_effect : float
        Mean fall of the probability of the class that was decided for.
    n : int
        Images.
    colour_flips, shape_flips : ndarray of bool, shape (n,)
        Which.
    """

    colour_flip: float
    shape_flip: float
    colour_effect: float
    shape_effect: float
    n: int
    colour_flips: NDArray[np.bool_]
    shape_flips: NDArray[np.bool_]

    @property
    def reliance(self) -> float | None:
        """Part that colour has in all flips, ``colour / (colour + shape)``; None if nothing flips."""
        total = self.colour_flip + self.shape_flip
        return self.colour_flip / total if total > 0 else None


def draw_donors(labels: Ints, groups: Ints, rng: np.random.Generator) -> Ints:
    """Choose for each image another one that differs in label *and* group.

    Returns
    -------
    ndarray of int64, shape (n,)
        -1 where there is none.
    """
    n = len(labels)
    donors = np.full(n, -1, dtype=np.int64)
    open_ = np.arange(n)
    for _ in range(20):  # most images find one at once
        tried = rng.integers(n, size=len(open_))
        good = (labels[tried] != labels[open_]) & (groups[tried] != groups[open_])
        donors[open_[good]] = tried[good]
        open_ = open_[~good]
    for i in open_:
        fitting = np.flatnonzero((labels != labels[i]) & (groups != groups[i]))
        if len(fitting):
            donors[i] = rng.choice(fitting)
    return donors


def exchange(decide: Probabilities, images: Pixels, donors: Pixels) -> Exchange:
    """Exchange colour alone, then shape alone, and count the decisions that change (ours).

    Each image has a donor of another class and another group. *Colour alone*: the image in its donor's colour
    (`exchange_colours`). *Shape alone*: the donor in the image's colour. Who looks at shape only never flips at
    the first and nearly always at the second; who looks at colour only does the reverse.

    Parameters
    ----------
    decide : callable
        Images → probabilities.
    images, donors : ndarray of uint8, shape (n, height, width, 3 or 4)
        Images and their donors.

    Returns
    -------
    Exchange

    Raises
    ------
    DataError
        If there is no image, or it has no colour.
    """
    if len(images) == 0:
        raise DataError("There is no image to exchange anything in.")
    before = decide(images)
    chosen = before.argmax(axis=1)
    rows = np.arange(len(images))
    flips, effects = [], []
    for changed in (exchange_colours(images, donors), exchange_colours(donors, images)):
        after = decide(changed)
        flips.append(after.argmax(axis=1) != chosen)
        effects.append(float((before[rows, chosen] - after[rows, chosen]).mean()))
    return Exchange(
        colour_flip=float(flips[0].mean()),
        shape_flip=float(flips[1].mean()),
        colour_effect=effects[0],
        shape_effect=effects[1],
        n=len(images),
        colour_flips=flips[0],
        shape_flips=flips[1],
    )


def switched_flip_rate(decide: Probabilities, switched: NDArray[np.uint8]) -> float:
    """Share of latents whose decision is not the same for every level of the sensitive attribute.

    Parameters
    ----------
    decide : callable
        Images → probabilities.
    switched : ndarray of uint8, shape (levels, n, height, width, channels)
        Images decoded from the same n latents with each level.
    """
    if switched.ndim != 5 or len(switched) < 2:
        raise DataError(
            f"switched has shape {switched.shape}; expected (levels, n, height, width, channels)."
        )
    decisions = np.stack([decide(level).argmax(axis=1) for level in switched])
    return float((decisions != decisions[0]).any(axis=0).mean())
