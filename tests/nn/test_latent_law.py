"""The law of the latent: what is drawn has the moments that the file says, and nothing else is believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fairsynth.nn.latent_law import ROWS_PER_COMPONENT, LatentLaw


def spread(d: int, seed: int = 0) -> np.ndarray:
    """Return a random covariance factor, far from round."""
    rng = np.random.default_rng(seed)
    return np.linalg.cholesky(np.cov(rng.normal(size=(d + 3, d)) @ rng.normal(size=(d, d)), rowvar=False)
                              .reshape(d, d) + 0.05 * np.eye(d))  # fmt: skip


@pytest.fixture(params=[1, 2, 6])  # up to 4 dimensions are drawn column by column, more in one product
def law(request: pytest.FixtureRequest) -> LatentLaw:
    d = request.param
    rng = np.random.default_rng(1)
    means = rng.normal(size=(2, 2, d)) * 2
    scales = np.stack([[spread(d, s + 2 * c) for c in range(2)] for s in range(2)])
    return LatentLaw(np.array([0.3, 0.7]), np.array([[0.8, 1.2], [0.5, 0.0]]), means, scales)


def moments(law: LatentLaw, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of the whole mixture, by the law of total covariance."""
    weight = (shares / shares.sum())[:, None] * law.weights / law.weights.sum(1, keepdims=True)
    mean = (weight[..., None] * law.means).sum((0, 1))
    inside = np.einsum("lc,lcij,lckj->ik", weight, law.scales, law.scales)
    apart = law.means - mean
    return mean, inside + np.einsum("lc,lci,lcj->ij", weight, apart, apart)


@pytest.mark.parametrize("shares", [None, np.array([0.9, 0.1])])
def test_moments_of_draws_are_those_of_the_law(law: LatentLaw, shares: np.ndarray | None) -> None:
    n = 200_000
    codes = law.draw(n, torch.Generator().manual_seed(0), shares)
    assert codes.dtype == torch.float32 and codes.shape == (n, law.dim)
    mean, covariance = moments(law, law.label_shares if shares is None else shares)
    drawn = codes.double().numpy()
    size = np.sqrt(np.diag(covariance))
    assert np.abs((drawn.mean(0) - mean) / size).max() < 5 / np.sqrt(n)
    assert np.abs((np.cov(drawn, rowvar=False).reshape(law.dim, -1) - covariance) / np.outer(size, size)
                  ).max() < 12 / np.sqrt(n)  # fmt: skip


def test_components_without_weight_and_labels_without_share_are_never_drawn(law: LatentLaw) -> None:
    far = law.means.copy()
    far[1, 1] = 1e6
    other = LatentLaw(law.label_shares, law.weights, far, law.scales)
    assert float(other.draw(20_000, torch.Generator().manual_seed(0)).abs().max()) < 1e3
    far[0] = 1e6
    none = LatentLaw(np.array([0.0, 1.0]), law.weights, far, law.scales)
    assert float(none.draw(20_000, torch.Generator().manual_seed(0), np.array([5.0, 1.0])).abs().max()) < 1e3


def test_draws_depend_on_their_generator_alone(law: LatentLaw) -> None:
    torch.manual_seed(1)
    a = law.draw(50, torch.Generator().manual_seed(3))
    torch.manual_seed(2)
    b = law.draw(50, torch.Generator().manual_seed(3))
    assert torch.equal(a, b) and not torch.equal(a, law.draw(50, torch.Generator().manual_seed(4)))


def test_fitting_finds_clusters_and_shares() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[-4.0, 0.0], [4.0, 1.0], [0.0, 9.0]])
    which = rng.choice(3, 1500, p=[0.5, 0.3, 0.2])
    codes = centres[which] + rng.normal(size=(1500, 2)) * [0.5, 1.0]
    labels = (which == 2).astype(int)
    law = LatentLaw.fit(codes.astype(np.float32), labels, 3, components=4, seed=0)
    assert law.label_shares == pytest.approx([(labels == 0).mean(), (labels == 1).mean(), 0])
    assert law.weights.sum(1) == pytest.approx([1, 1, 0])
    mean, covariance = moments(
        LatentLaw(law.label_shares[:2], law.weights[:2], law.means[:2], law.scales[:2]), law.label_shares[:2]
    )
    assert mean == pytest.approx(codes.mean(0), abs=0.02)
    assert covariance == pytest.approx(np.cov(codes, rowvar=False), abs=0.1)
    again = LatentLaw.fit(codes.astype(np.float32), labels, 3, components=4, seed=0)
    assert all((law.to_tensors()[k] == v).all() for k, v in again.to_tensors().items())


@pytest.mark.parametrize("rows", [1, 2, 3, 10, 49, 99, 120])
def test_no_component_rests_on_few_rows(rows: int) -> None:
    rng = np.random.default_rng(rows)
    codes = np.concatenate([rng.normal(size=(300, 2)), 5 + rng.normal(size=(rows, 2))])
    labels = np.repeat([0, 1], [300, rows])
    law = LatentLaw.fit(codes, labels, 2, components=12, seed=0)
    assert (law.weights[1] > 0).sum() <= max(1, rows // ROWS_PER_COMPONENT)
    assert np.isfinite(law.draw(100, torch.Generator().manual_seed(0)).numpy()).all()
    assert (law.weights[1, 0] * law.means[1, 0]) == pytest.approx(codes[300:].mean(0), abs=1e-3) or rows > 99
    # Even one person's code is spread: no component is a point.
    assert (np.diagonal(law.scales[1, 0]) >= 1e-2 - 1e-9).all()


def test_tensors_come_back(law: LatentLaw) -> None:
    again = LatentLaw.from_tensors(law.to_tensors())
    assert torch.equal(
        law.draw(99, torch.Generator().manual_seed(0)), again.draw(99, torch.Generator().manual_seed(0))
    )


def _hostile() -> dict[str, Any]:
    return {
        "law.label_shares": [
            np.array([0.5, np.nan]),
            np.array([-0.1, 1.1]),
            np.zeros(2),
            np.ones(3) / 3,
            np.ones((2, 2)),
        ],
        "law.weights": [
            np.array([[0.4, 0.6], [0.0, 0.0]]),
            np.array([[-1.0, 2.0], [1.0, 0.0]]),
            np.array([[np.inf, 1.0], [1.0, 0.0]]),
            np.ones((2, 3)),
        ],
        "law.means": [np.full((2, 2, 2), np.nan), np.zeros((2, 2, 3)), np.zeros((2, 2)), np.zeros((2, 2, 0))],
        "law.scales": [np.full((2, 2, 2, 2), np.inf), np.zeros((2, 2, 2)), np.zeros((2, 2, 2, 3))],
    }


@pytest.mark.parametrize(
    ("name", "place"), [(name, i) for name, many in _hostile().items() for i in range(len(many))]
)
def test_hostile_tensors_are_refused(name: str, place: int) -> None:
    sound = {
        "law.label_shares": np.array([0.3, 0.7]),
        "law.weights": np.array([[0.4, 0.6], [1.0, 0.0]]),
        "law.means": np.zeros((2, 2, 2)),
        "law.scales": np.tile(np.eye(2), (2, 2, 1, 1)),
    }
    LatentLaw.from_tensors(sound)
    with pytest.raises(ValueError):
        LatentLaw.from_tensors({**sound, name: _hostile()[name][place]})


def test_a_missing_tensor_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        LatentLaw.from_tensors({})
