"""Small image sets whose answer is known: lying and standing bars, in colours that go with them or not."""

from __future__ import annotations

import numpy as np

from fairsynth.data.images import ImageSet

SHADES = np.array([[230, 40, 40], [50, 90, 240]], dtype=np.float64)
CLASSES, LEVELS = ("lying", "standing"), ("red", "blue")


def bars(n=300, correlation=0.95, seed=0, *, side=10, gray=False, favorable=(), classes=CLASSES):
    """Return bars of which a share `correlation` has the colour of its class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    groups = np.where(rng.random(n) < correlation, labels, 1 - labels)
    ink = np.zeros((n, side, side))
    places, starts = rng.integers(side - 1, size=n), rng.integers(3, size=n)
    for i in range(n):
        at, start = places[i], starts[i]
        if labels[i]:
            ink[i, start : start + side - 3, at : at + 2] = 1
        else:
            ink[i, at : at + 2, start : start + side - 3] = 1
    ink *= rng.uniform(0.5, 1, size=ink.shape)
    if gray:
        images = np.rint(255 * ink)[..., None].astype(np.uint8)
    else:
        images = np.rint(ink[..., None] * SHADES[groups][:, None, None, :]).astype(np.uint8)
    return ImageSet.of_arrays(
        images,
        labels,
        groups,
        classes=classes,
        levels=LEVELS,
        label="shape",
        sensitive="ink",
        favorable=favorable,
    )


def relabelled(images, labels, groups=None):
    """Return the same pixels with other labels (and groups)."""
    pixels = images.read(np.arange(len(images)))
    return ImageSet.of_arrays(
        pixels,
        labels,
        images.groups if groups is None else groups,
        classes=images.classes,
        levels=images.levels,
        label=images.label,
        sensitive=images.sensitive,
        favorable=images.favorable,
    )
