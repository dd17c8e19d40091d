"""The exact rates of a biased world, by numerical integration to about ten digits.

The score of a label is a sum of independent terms: normal ones, and ones of few values. Its characteristic function is
therefore a product, and its density the inverse Fourier transform of that; any rate is an integral of that density.
The transform is a trapezoidal sum, which for a smooth function that dies out like a normal density is exact to rounding
as soon as the step is small enough for the copies that it makes not to overlap (Poisson's summation formula).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fairsynth.data.biased_columns import FeatureColumn

_DIES_AT = 8.6  # exp(-8.6² / 2) is below the rounding of a double
_REACH = 9.0  # standard deviations of the score that are integrated over
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return the logistic function without overflow."""
    return 0.5 * (1 + np.tanh(np.asarray(x, dtype=np.float64) / 2))


@dataclass(frozen=True)
class ScoreLaw:
    """The distribution of the score within one group and domain.

    Attributes
    ----------
    columns : sequence of FeatureColumn
        Those of a weight other than zero; at least one continuous.
    means : sequence of float
        Means of their latents.
    offset : float
        What is added to the sum.
    """

    columns: Sequence[FeatureColumn]
    means: Sequence[float]
    offset: float

    def expectation(
        self, function: Callable[[np.ndarray], np.ndarray], *, above: float | None = None
    ) -> float:
        """Return the mean of a smooth function of the score, or of it times whether the score lies above a value.

        Parameters
        ----------
        function : callable
            Of float64 ``(m,)``.
        above : float, optional
            Where the integral begins.
        """
        x, weights = self.nodes(above=above)
        return float(weights @ function(x))

    def nodes(self, *, above: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return scores, and weights by which the mean of a function of the score is a sum; each float64 ``(m,)``."""
        centre, spread, rough = self._moments()
        low, high = centre - _REACH * spread, centre + _REACH * spread
        start = low if above is None else min(max(above, low), high)
        panels = max(1, int(np.ceil((high - start) / rough)))
        edges = np.linspace(start, high, panels + 1)
        half = np.diff(edges)[:, None] / 2
        x = (edges[:-1, None] + half + half * _NODES).ravel()
        weights = (half * _WEIGHTS).ravel()
        return x, weights * self._density(x, high - low, rough)

    def _moments(self) -> tuple[float, float, float]:
        """Return mean, standard deviation, and standard deviation of the normal part."""
        mean, variance, normal = self.offset, 0.0, 0.0
        for column, at in zip(self.columns, self.means, strict=True):
            atoms = column.atoms(at)
            if atoms is None:
                mean += column.weight * at
                variance += column.weight**2
                normal += column.weight**2
            else:
                values, shares = atoms
                middle = float(shares @ values)
                mean += column.weight * middle
                variance += column.weight**2 * float(shares @ (values - middle) ** 2)
        return mean, float(np.sqrt(variance)), float(np.sqrt(normal))

    def _density(self, x: np.ndarray, span: float, rough: float) -> np.ndarray:
        step = 2 * np.pi / (1.5 * span)
        t = np.arange(int(np.ceil(_DIES_AT / rough / step)) + 1) * step
        transform = np.exp(1j * t * self.offset)
        for column, at in zip(self.columns, self.means, strict=True):
            atoms = column.atoms(at)
            w = column.weight
            if atoms is None:
                transform = transform * np.exp(1j * t * w * at - (w * t) ** 2 / 2)
            else:
                transform = transform * (np.exp(1j * np.outer(t, w * atoms[0])) @ atoms[1])
        transform[0] /= 2
        return (step / np.pi) * (np.exp(-1j * np.outer(x, t)) @ transform).real
