"""Pixels as points, exchanged colours, and Inception where it is not."""

from __future__ import annotations

import sys
import types
from urllib.error import URLError

import numpy as np
import pytest

from fairsynth.errors import DataError, MissingDependencyError
from fairsynth.metrics.image_features import (
    InceptionFeatures,
    as_rgb,
    exchange_colours,
    pixel_points,
)

SHADES = np.array([[230, 40, 40], [20, 150, 70], [235, 235, 235], [0, 0, 255]], dtype=np.uint8)


def strokes(n=12, side=9, seed=0):
    gray = np.random.default_rng(seed).integers(0, 256, size=(n, side, side, 1)).astype(np.float64)
    gray[:, 0, 0] = 255  # the brightest pixel of every stroke is full ink
    return gray


def tinted(gray, shades):
    return np.rint(gray * shades[:, None, None, :] / 255).astype(np.uint8)


def test_exchanged_colours_are_those_that_would_have_been_drawn():
    one, two = strokes(seed=1), strokes(seed=2)
    mine, other = SHADES[np.arange(12) % 4], SHADES[(np.arange(12) + 1) % 4]
    images, donors = tinted(one, mine), tinted(two, other)
    recoloured = exchange_colours(images, donors).astype(int)
    assert np.abs(recoloured - tinted(one, other).astype(int)).max() <= 3  # rounding of dark shades
    reshaped = exchange_colours(donors, images).astype(int)
    assert np.abs(reshaped - tinted(two, mine).astype(int)).max() <= 3


def test_exchange_with_oneself_changes_nothing_and_black_stays_black():
    images = np.random.default_rng(0).integers(0, 256, size=(5, 6, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(exchange_colours(images, images), images)
    black = np.zeros_like(images)
    np.testing.assert_array_equal(exchange_colours(black, images), black)


def test_exchange_of_many_images_is_that_of_each(monkeypatch):
    rng = np.random.default_rng(0)
    images, donors = rng.integers(0, 256, size=(2, 11, 6, 7, 3)).astype(np.uint8)
    whole = exchange_colours(images, donors)
    monkeypatch.setattr("fairsynth.metrics.image_features._EXCHANGED", 200)
    np.testing.assert_array_equal(exchange_colours(images, donors), whole)


def test_transparency_stays_the_images_own():
    images = np.random.default_rng(0).integers(0, 256, size=(4, 5, 5, 4)).astype(np.uint8)
    donors = images[::-1].copy()
    np.testing.assert_array_equal(exchange_colours(images, donors)[..., 3], images[..., 3])


def test_gray_images_have_no_colour_to_exchange():
    gray = np.zeros((3, 4, 4, 1), dtype=np.uint8)
    with pytest.raises(DataError, match="no colour"):
        exchange_colours(gray, gray)
    with pytest.raises(DataError, match="one donor of the same size"):
        exchange_colours(np.zeros((3, 4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3), np.uint8))


def test_pixel_points_average_blocks_of_any_size():
    image = np.arange(40 * 70 * 3, dtype=np.int64).reshape(1, 40, 70, 3) % 251
    points = pixel_points(image.astype(np.uint8), side=32)
    assert points.shape == (1, 32 * 32 * 3)
    rows = np.linspace(0, 40, 33).astype(int)
    columns = np.linspace(0, 70, 33).astype(int)
    wanted = [
        image[0, rows[i] : rows[i + 1], columns[j] : columns[j + 1]].mean(axis=(0, 1)) / 255
        for i in range(32)
        for j in range(32)
    ]
    np.testing.assert_allclose(points[0].reshape(-1, 3), wanted, rtol=1e-5)
    small = np.random.default_rng(0).integers(0, 256, size=(3, 8, 8, 1)).astype(np.uint8)
    np.testing.assert_allclose(pixel_points(small), small.reshape(3, -1) / 255, rtol=1e-6)


def test_images_of_another_form_are_named():
    with pytest.raises(DataError, match="float64 of shape"):
        pixel_points(np.zeros((2, 4, 4, 3)))
    with pytest.raises(DataError, match="expected uint8"):
        pixel_points(np.zeros((2, 4, 4), np.uint8))


def test_rgb_of_gray_and_of_transparent_images():
    gray = np.full((1, 2, 2, 1), 7, np.uint8)
    assert as_rgb(gray).shape == (1, 2, 2, 3) and (as_rgb(gray) == 7).all()
    clear = np.zeros((1, 1, 2, 4), np.uint8)
    clear[0, 0, 1] = (10, 20, 30, 255)
    np.testing.assert_array_equal(as_rgb(clear)[0, 0], [[255, 255, 255], [10, 20, 30]])


def test_inception_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(MissingDependencyError, match=r"pip install torch-fidelity.*trained"):
        InceptionFeatures()


def install(monkeypatch, extractor):
    package, module = types.ModuleType("torch_fidelity"), types.ModuleType("inner")
    module.FeatureExtractorInceptionV3 = extractor
    package.feature_extractor_inceptionv3 = module
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", module)


def test_inception_without_its_weights_says_how_to_get_them(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise URLError("no network")

    install(monkeypatch, offline)
    with pytest.raises(MissingDependencyError, match="weights of Inception cannot be had"):
        InceptionFeatures()
    with pytest.raises(DataError, match="no such file"):
        InceptionFeatures(tmp_path / "none.pth")


def test_inception_is_given_what_it_expects(monkeypatch):
    import torch

    seen = []

    class Extractor(torch.nn.Module):
        def __init__(self, name, wanted, feature_extractor_weights_path=None):
            super().__init__()
            assert name == "inception-v3-compat" and wanted == ["2048"]

        def forward(self, images):
            assert images.dtype == torch.uint8 and images.shape[1:] == (3, 5, 6)
            seen.append(len(images))
            return (images.float().mean(dim=(2, 3)),)

    install(monkeypatch, Extractor)
    images = np.random.default_rng(0).integers(0, 256, size=(7, 5, 6, 1)).astype(np.uint8)
    found = InceptionFeatures(batch=3)(images)
    assert seen == [3, 3, 1] and found.dtype == np.float64
    np.testing.assert_allclose(found[:, 0], images.mean(axis=(1, 2, 3)), rtol=1e-5)
