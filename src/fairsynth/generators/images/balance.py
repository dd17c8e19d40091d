"""Images as training reads them: some as they come, some drawn so that label and group are independent.

Where the label nearly determines the group, a penalty between latent and group would take the label out of
the latent, or the group would tell the decoder the label. Both vanish under the law at which label and group are
independent. That law is had by drawing an image of class y and group s with weight ``p(y) p(s) / p(y, s)``, the weights
summing to 1 over the images there are. Cells with hardly an image are smoothed, and no image may come too often. Ours.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fairsynth.data.images import ImageSet
from fairsynth.nn.convolutions import to_float

#: Added to the images of each cell, so that one image alone does not stand for a cell.
SMOOTHING = 2.0
#: No image comes more often than so many times its share.
MOST = 50.0


def balanced_weights(
    labels: np.ndarray, groups: np.ndarray, *, smoothing: float = SMOOTHING, most: float = MOST
) -> np.ndarray:
    """Return the weight of every image under which label and group are as good as independent.

    Parameters
    ----------
    labels, groups : np.ndarray
        int ``(n,)``.
    smoothing : float
        Images added to each cell in the denominator.
    most : float
        The largest weight, as a multiple of the mean one.

    Returns
    -------
    np.ndarray
        float64 ``(n,)``; the mean is 1.
    """
    counts = np.zeros((labels.max() + 1, groups.max() + 1))
    np.add.at(counts, (labels, groups), 1)
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / len(labels)
    ratio = expected / np.maximum(counts + smoothing, 1e-12)  # cells without an image are never looked up
    weights = ratio[labels, groups]
    weights = np.minimum(weights / weights.mean(), most)
    return weights / weights.mean()


class TrainingImages:
    """Batches of a set of images.

    Parameters
    ----------
    images : ImageSet
        Read from disk as they are needed.
    balanced : float
        Share of each batch that is drawn by `balanced_weights`; it comes last.

    Attributes
    ----------
    labels, groups : Tensor
        int64 ``(n,)``.
    """

    def __init__(self, images: ImageSet, balanced: float) -> None:
        self.images, self.balanced = images, balanced
        self.labels, self.groups = torch.from_numpy(images.labels), torch.from_numpy(images.groups)
        self._cumulative = torch.from_numpy(np.cumsum(balanced_weights(images.labels, images.groups)))

    def chosen(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, slice]:
        """Return the images of a batch int64 ``(b,)``, and which of them are of the balanced law."""
        drawn = round(self.balanced * len(rows))
        uniform = torch.rand(drawn, generator=generator, dtype=torch.float64) * self._cumulative[-1]
        found = torch.searchsorted(self._cumulative, uniform, right=True).clamp_(max=len(self.labels) - 1)
        kept = len(rows) - drawn
        return torch.cat([rows[:kept], found]), slice(kept, len(rows))

    def pixels(self, rows: Tensor) -> Tensor:
        """Return images float32 ``(b, channels, height, width)`` from 0 to 1."""
        return to_float(torch.from_numpy(self.images.read(rows.numpy())))
