"""The law of the latent, as a file may hold it: a mixture of Gaussians for each label, moments only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

#: Latent codes that a component should rest on; fewer would let it close in on single people.
ROWS_PER_COMPONENT = 50
MAX_ROWS = 20_000


@dataclass(frozen=True)
class LatentLaw:
    """A mixture of Gaussians for each label.

    Attributes
    ----------
    label_shares : np.ndarray
        Share of each label, float64 ``(labels,)``.
    weights : np.ndarray
        Shares of the components within the label, ``(labels, components)``; unused ones are 0.
    means : np.ndarray
        ``(labels, components, d)``.
    scales : np.ndarray
        Lower Cholesky factors of the covariances, ``(labels, components, d, d)``.
    """

    label_shares: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    scales: np.ndarray

    def __post_init__(self) -> None:
        """Refuse arrays that are no mixture, as a damaged file may hold."""
        labels, components, d = self.means.shape
        ok = (
            self.label_shares.shape == (labels,)
            and self.weights.shape == (labels, components)
            and self.scales.shape == (labels, components, d, d)
            and all(np.isfinite(a).all() for a in (self.label_shares, self.weights, self.means, self.scales))
            and (self.weights >= 0).all()
            and (self.label_shares >= 0).all()
            and self.label_shares.sum() > 0
            and (self.weights.sum(1)[self.label_shares > 0] > 0).all()
        )
        if not ok:
            raise ValueError("the law of the latent is not a mixture of Gaussians")

    @classmethod
    def fit(
        cls, codes: np.ndarray, labels: np.ndarray, n_labels: int, *, components: int, seed: int
    ) -> LatentLaw:
        """Fit by expectation maximisation.

        Parameters
        ----------
        codes : np.ndarray
            Latent codes ``(n, d)``.
        labels : np.ndarray
            int ``(n,)``.
        n_labels : int
            Number of labels, some perhaps without a row.
        components : int
            Components a label at most; fewer where it has few rows.
        seed : int
            Start values and the choice of at most 20,000 rows a label.
        """
        from sklearn.mixture import GaussianMixture

        d = codes.shape[1]
        weights, means = np.zeros((n_labels, components)), np.zeros((n_labels, components, d))
        scales = np.tile(np.eye(d), (n_labels, components, 1, 1))
        rng = np.random.default_rng(seed)
        counts = np.bincount(labels, minlength=n_labels)
        for label in np.flatnonzero(counts):
            own = codes[labels == label].astype(np.float64)
            own = own[rng.permutation(len(own))[:MAX_ROWS]]
            k = int(np.clip(len(own) // ROWS_PER_COMPONENT, 1, components))
            if len(own) <= d:  # too few for a covariance: one round cloud
                weights[label, 0], means[label, 0] = 1.0, own.mean(0)
                continue
            mixture = GaussianMixture(
                k, reg_covar=1e-4, random_state=int(rng.integers(2**31)), max_iter=60, tol=1e-3
            )
            mixture.fit(own)
            weights[label, :k], means[label, :k] = mixture.weights_, mixture.means_
            scales[label, :k] = np.linalg.cholesky(mixture.covariances_)
        return cls(counts / counts.sum(), weights, means, scales)

    @property
    def dim(self) -> int:
        """Dimensions of the latent."""
        return int(self.means.shape[2])

    def draw(self, n: int, generator: torch.Generator, label_shares: np.ndarray | None = None) -> Tensor:
        """Draw latent codes, float32 ``(n, d)``.

        Parameters
        ----------
        n : int
            How many.
        generator : torch.Generator
            Where chance comes from.
        label_shares : np.ndarray, optional
            Shares of the labels in the place of those seen.
        """
        shares = (
            self.label_shares if label_shares is None else np.where(self.label_shares > 0, label_shares, 0)
        )
        joint = (
            (shares / shares.sum())[:, None]
            * self.weights
            / np.maximum(self.weights.sum(1, keepdims=True), 1e-300)
        )
        cumulative = torch.from_numpy(np.cumsum(joint.ravel()))
        uniform = torch.rand(n, generator=generator, dtype=torch.float64) * cumulative[-1]
        chosen = torch.searchsorted(cumulative, uniform, right=True).clamp_(max=joint.size - 1)
        means = torch.from_numpy(self.means.reshape(-1, self.dim)).float()
        scales = torch.from_numpy(self.scales.reshape(-1, self.dim, self.dim)).float()
        noise = torch.randn(n, self.dim, generator=generator)
        codes = means[chosen]
        if self.dim <= 4:  # a column at a time is much faster than a batch of tiny matrix products
            for i in range(self.dim):
                for j in range(i + 1):
                    codes[:, i] += scales[:, i, j][chosen] * noise[:, j]
            return codes
        return codes + torch.einsum("nij,nj->ni", scales[chosen], noise)

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Return the moments under fixed names."""
        return {
            "law.label_shares": self.label_shares,
            "law.weights": self.weights,
            "law.means": self.means,
            "law.scales": self.scales,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> LatentLaw:
        """Read what `to_tensors` wrote; a ValueError says that it is no law."""
        return cls(
            *(np.asarray(tensors[f"law.{name}"]) for name in ("label_shares", "weights", "means", "scales"))
        )
