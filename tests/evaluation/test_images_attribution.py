"""Attribution maps in closed form, and exchanges with classifiers whose answer is known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from image_toys import bars

from fairsynth.errors import DataError, SettingsError
from fairsynth.evaluation.attribution import (
    draw_donors,
    exchange,
    gradient_x_input,
    occlusion,
    switched_flip_rate,
)


def linear(seed=0, classes=3, shape=(2, 5, 7)):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, *shape, generator=generator, dtype=torch.float64)
    return weight, lambda x: torch.einsum("nchw,kchw->nk", x, weight) + 0.7


def test_gradient_times_input_of_a_linear_model_is_weight_times_input():
    weight, logits = linear()
    images = torch.rand(4, 2, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    classes = torch.tensor([0, 2, 1, 2])
    found = gradient_x_input(logits, images, classes)
    torch.testing.assert_close(found, (weight[classes] * images).sum(dim=1))
    # Complete but for the constant: the map adds up to the logit.
    torch.testing.assert_close(found.sum(dim=(1, 2)) + 0.7, logits(images).gather(1, classes[:, None])[:, 0])


@pytest.mark.parametrize(("size", "baseline"), [(1, 0.0), (2, 0.0), (3, 0.25), (9, 0.0)])
def test_occlusion_of_a_linear_model_is_the_sum_over_the_patch(size, baseline):
    weight, logits = linear()
    images = torch.rand(3, 2, 5, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    classes = torch.tensor([1, 0, 2])
    found = occlusion(logits, images, classes, size=size, baseline=baseline)
    per_pixel = (weight[classes] * (images - baseline)).sum(dim=1)
    for top in range(0, 5, size):
        for left in range(0, 7, size):
            patch = (slice(None), slice(top, top + size), slice(left, left + size))
            wanted = per_pixel[patch].sum(dim=(1, 2))
            torch.testing.assert_close(found[patch], wanted[:, None, None].expand_as(found[patch]))


def test_occlusion_needs_a_patch():
    _, logits = linear()
    with pytest.raises(SettingsError, match="size=0"):
        occlusion(logits, torch.zeros(1, 2, 5, 7, dtype=torch.float64), torch.tensor([0]), size=0)


def certain(chosen):
    return np.eye(2)[np.asarray(chosen, dtype=int)]


def by_shape(pixels):
    """A bar lies if its brightest row is brighter than its brightest column."""
    ink = pixels.max(axis=3).astype(float)
    ink /= ink.max(axis=(1, 2), keepdims=True)
    return certain(ink.sum(axis=1).max(axis=1) > ink.sum(axis=2).max(axis=1))


def by_colour(pixels):
    total = pixels.astype(float).sum(axis=(1, 2))
    return certain(total[:, 2] > total[:, 0])


def exchanged(decide, images):
    donors = draw_donors(images.labels, images.groups, np.random.default_rng(0))
    assert (donors >= 0).all()
    everything = images.read(np.arange(len(images)))
    return exchange(decide, everything, everything[donors])


def test_who_looks_at_shape_flips_with_shape_alone_and_who_looks_at_colour_with_colour_alone():
    images = bars(200, 0.9, seed=3)
    shape, colour = exchanged(by_shape, images), exchanged(by_colour, images)
    assert (shape.colour_flip, shape.shape_flip) == (0.0, 1.0)
    assert (colour.colour_flip, colour.shape_flip) == (1.0, 0.0)
    assert (shape.reliance, colour.reliance) == (0.0, 1.0)
    assert (shape.colour_effect, shape.shape_effect) == (0.0, 1.0)
    constant = exchanged(lambda pixels: certain(np.zeros(len(pixels))), images)
    assert constant.reliance is None and constant.colour_flip == constant.shape_flip == 0


def test_donors_differ_in_label_and_group_even_where_few_do():
    rng = np.random.default_rng(0)
    labels, groups = np.zeros(2000, dtype=np.int64), np.zeros(2000, dtype=np.int64)
    labels[7], groups[7] = 1, 1  # the only donor for all others
    labels[8] = 1  # of another label than most, of no other group than they: it has no donor
    donors = draw_donors(labels, groups, rng)
    assert donors[8] == -1
    rest = np.delete(np.arange(2000), [7, 8])
    assert (donors[rest] == 7).all()
    assert donors[7] in rest


def test_switched_latents_are_counted_once_each():
    lying = np.zeros((3, 4, 2, 2, 3), np.uint8)
    lying[1, 0, ..., 2] = 200  # one latent becomes blue for one level
    lying[2, 0, ..., 2] = 200
    lying[2, 3, ..., 2] = 200
    assert switched_flip_rate(by_colour, lying) == pytest.approx(2 / 4)
    with pytest.raises(DataError, match="levels, n"):
        switched_flip_rate(by_colour, lying[:1])
