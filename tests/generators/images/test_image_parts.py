"""Parts of the generators of images: balance, convolutions, pixels that diffuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fairsynth as fs
from fairsynth.errors import DataError
from fairsynth.generators.images.balance import TrainingImages, balanced_weights
from fairsynth.generators.images.fair4free import LabelledNoise
from fairsynth.generators.images.latent_images import draw_given
from fairsynth.nn.convolutions import (
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    Modulation,
    halved,
    to_float,
    to_pixels,
)
from fairsynth.nn.diffusion import alpha_sigma, solve
from fairsynth.nn.image_diffusion import NoisyImageClassifier, PixelDenoiser
from fairsynth.nn.latent_law import LatentLaw


def table(labels: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    found = np.zeros((labels.max() + 1, groups.max() + 1))
    np.add.at(found, (labels, groups), weights)
    return found / found.sum()


def correlated(n: int, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    groups = np.where(rng.random(n) < correlation, labels, (labels + rng.integers(1, 3, n)) % 3)
    return labels, groups


def test_balanced_weights_make_label_and_group_independent_and_keep_their_shares():
    labels, groups = correlated(60_000, 0.95)
    plain = table(labels, groups, np.ones(len(labels)))
    fair = table(labels, groups, balanced_weights(labels, groups, smoothing=0.0, most=1e9))
    assert np.allclose(fair, np.outer(plain.sum(1), plain.sum(0)), atol=1e-12)
    usual = table(labels, groups, balanced_weights(labels, groups))
    assert np.abs(usual - fair).max() < 0.003
    assert np.abs(plain - fair).max() > 0.1


def test_one_image_does_not_stand_for_a_cell():
    labels = np.repeat([0, 1], 500)
    groups = labels.copy()
    groups[0] = 1  # one image alone in its cell
    weights = balanced_weights(labels, groups)
    assert 10 < weights[0] < 60 and weights.mean() == pytest.approx(1)
    assert balanced_weights(labels, groups, smoothing=0.0, most=1e9)[0] > 200


def test_a_batch_is_part_as_they_come_and_part_balanced():
    labels, groups = correlated(20_000, 0.9)
    images = fs.ImageSet.of_arrays(np.zeros((20_000, 1, 1), np.uint8), labels, groups)
    data = TrainingImages(images, 0.5)
    rows, part = data.chosen(torch.arange(20_000), torch.Generator().manual_seed(0))
    assert torch.equal(rows[: part.start], torch.arange(10_000)) and part == slice(10_000, 20_000)
    drawn = rows[part].numpy()
    fair = table(labels[drawn], groups[drawn], np.ones(len(drawn)))
    assert np.abs(fair - np.outer(fair.sum(1), fair.sum(0))).max() < 0.015
    none, part = TrainingImages(images, 0.0).chosen(torch.arange(10), torch.Generator())
    assert torch.equal(none, torch.arange(10)) and part == slice(10, 10)


@pytest.mark.parametrize("shape", [(8, 8, 3), (28, 28, 1), (13, 7, 3), (9, 30, 4)])
def test_any_size_comes_out_as_it_went_in(shape: tuple[int, int, int]):
    encoder = ConvolutionalEncoder(shape, 2, (4, 6), 8, 5, classes=3)
    decoder = ConvolutionalDecoder(shape, 2, (6, 4), 0, 5)
    groups, labels = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2])
    mean, log_var = encoder(torch.rand(3, shape[2], *shape[:2]), groups, labels)
    assert mean.shape == log_var.shape == (3, 5)
    assert decoder(mean, groups).shape == (3, shape[2], *shape[:2])
    with pytest.raises(DataError, match="cannot be halved 6 times"):
        halved(shape[:2], 6)


def test_the_group_does_nothing_at_first_and_then_its_own():
    layer = Modulation(2, 3)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(layer(x, torch.tensor([0, 1])), x)
    assert layer.table is not None
    torch.nn.init.constant_(layer.table.weight[1], 1.0)
    out = layer(x, torch.tensor([0, 1]))
    assert torch.equal(out[0], x[0]) and torch.allclose(out[1], 2 * x[1] + 1)


def test_pixels_come_back():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 8, 8, 4)
    assert torch.equal(to_pixels(to_float(pixels)), pixels)


def test_codes_of_a_label_come_from_its_own_law():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 3000)
    codes = rng.normal(size=(9000, 3)) * 0.3 + np.array([[-4, 0, 1], [4, 0, 1], [0, 5, 1]])[labels]
    law = LatentLaw.fit(codes.astype(np.float32), labels, 3, components=3, seed=0)
    wanted = torch.from_numpy(rng.permutation(labels))
    drawn = draw_given(law, wanted, torch.Generator().manual_seed(0)).numpy()
    for label in range(3):
        own = drawn[wanted.numpy() == label]
        assert np.allclose(own.mean(0), codes[labels == label].mean(0), atol=0.03)
        assert np.allclose(np.cov(own.T), np.cov(codes[labels == label].T), atol=0.01)


def test_a_denoiser_that_says_nothing_is_that_of_standard_pixels():
    denoiser = PixelDenoiser((6, 7, 3), (8, 8))
    x, t = torch.randn(4, 6 * 7 * 3), torch.tensor([0.01, 0.2, 0.5, 0.9])
    assert torch.allclose(denoiser(x, t), alpha_sigma(t)[0][:, None] * x)
    assert denoiser.losses(x, t, torch.randn_like(x)).shape == (4,)
    drawn = solve(
        denoiser, torch.randn(64, 126), solver="dpm-solver++", steps=10, generator=torch.Generator()
    )
    assert float(drawn.detach().std()) == pytest.approx(1.0, abs=0.05)


def test_a_noisy_classifier_knows_its_condition():
    classifier = NoisyImageClassifier((8, 8, 1), 3, (4, 8), n_condition=2)
    x, t = torch.randn(5, 64), torch.full((5,), 0.3)
    first, second = (classifier(x, t, torch.tensor([one]).repeat(5, 1).float()) for one in ([1, 0], [0, 1]))
    assert torch.allclose(first.exp().sum(1), torch.ones(5)) and not torch.allclose(first, second)


def test_a_student_starts_on_the_hills_of_the_law_and_puts_nothing_between_them():
    means = np.array([[[-5.0, 0.0], [5.0, 0.0]], [[0.0, 9.0], [0.0, 0.0]]])
    scales = np.tile(0.5 * np.eye(2), (2, 2, 1, 1))
    weights = np.array([[0.75, 0.25], [1.0, 0.0]])
    law = LatentLaw(np.array([0.5, 0.5]), weights, means, scales)
    student = LabelledNoise(2, 2, (8,), 2, cells=8)
    student.start_at(law, 0.8)
    labels = torch.arange(2).repeat_interleave(4000)
    codes = student(labels, torch.Generator().manual_seed(0)).detach().numpy()
    first, second = codes[:4000], codes[4000:]
    assert np.abs(np.abs(first[:, 0]) - 5).max() < 2.5  # 6 standard deviations, and no valley
    assert (first[:, 0] < 0).mean() == pytest.approx(0.75, abs=0.03)
    assert first[first[:, 0] > 0].std(0) == pytest.approx(0.4, abs=0.03)
    assert second.mean(0) == pytest.approx([0, 9], abs=0.03)


def test_a_student_of_less_noise_than_latent_still_has_every_dimension():
    student = LabelledNoise(2, 1, (8,), 5, cells=3)
    codes = student(torch.zeros(50, dtype=torch.int64), torch.Generator().manual_seed(0))
    assert codes.shape == (50, 5) and bool(torch.isfinite(codes).all())
