"""Fidelity by distances: density, coverage, precision, recall, α-precision, β-recall, authenticity, MMD.

All of them work block by block: no N×M matrix is ever held. Balls are closed (``<=``) and a tie is
recognised as one in spite of rounding, which makes the numbers right on tables, where rows repeat
and distances tie. The published code of density and coverage (`prdc`) uses open balls: on a table
whose rows all occur a few times every ball has radius 0 and an exact copy scores 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairsynth.cores import side_by_side
from fairsynth.errors import DataError, SettingsError

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Result = TypeVar("Result")

# A float32 product of rows carries a rounding error of about this share of the squared norms.
_ROUNDING = 2e-6
_BLOCK_BYTES = 16 * 1024 * 1024


def as_points(rows: ArrayLike, name: str = "rows") -> Matrix:
    """Check a matrix of points and turn it into contiguous float32."""
    x = np.ascontiguousarray(rows, dtype=np.float32)
    if x.ndim != 2 or 0 in x.shape:
        raise DataError(f"{name} has shape {x.shape}; expected at least one row and one column.")
    if not np.isfinite(x).all():
        raise DataError(f"{name} holds infinite or missing numbers; encode them before measuring distances.")
    return x


def over_distances(
    a: Matrix, b: Matrix, work: Callable[[slice, Matrix, Matrix], Result], *, threads: int = 2
) -> list[Result]:
    """Apply a function to the squared Euclidean distances of blocks of `a` to all of `b`.

    Parameters
    ----------
    a, b : ndarray of float32, shapes (n, d) and (m, d)
        Points.
    work : callable
        Called with the rows of `a` in this block (slice), their squared distances (float32, shape (block, m),
        never below 0, its to overwrite), and the differences that are rounding (float32, shape (block, 1)).
    threads : int, default=2
        Blocks that are worked on side by side.

    Returns
    -------
    list
        What `work` returned, in the order of the blocks.
    """
    centre = b.mean(axis=0, dtype=np.float64).astype(np.float32)
    a, b = a - centre, b - centre
    aa = np.einsum("ij,ij->i", a, a)
    bb = np.einsum("ij,ij->i", b, b)
    typical = float(np.quantile(bb, 0.99))
    size = max(1, min(len(a), _BLOCK_BYTES // (4 * len(b))))
    minus_two_b = np.ascontiguousarray(-2 * b.T)

    def block(start: int) -> Result:
        rows = slice(start, min(start + size, len(a)))
        squared = a[rows] @ minus_two_b
        squared += bb
        squared += aa[rows, None]
        np.maximum(squared, 0, out=squared)
        return work(rows, squared, (_ROUNDING * (aa[rows, None] + typical)).astype(np.float32))

    return side_by_side(block, range(0, len(a), size), threads)


def nearest(
    queries: ArrayLike, reference: ArrayLike, k: int = 1, *, exclude_self: bool = False, threads: int = 2
) -> tuple[Floats, NDArray[np.int64]]:
    """Find the k nearest reference points of each query.

    Parameters
    ----------
    queries : array_like of float32, shape (n, d)
        Points to look from.
    reference : array_like of float32, shape (m, d)
        Points to look for.
    k : int, default=1
        Number of neighbours.
    exclude_self : bool, default=False
        `queries` and `reference` are the same points: row i is not its own neighbour (its
        duplicates are).
    threads : int, default=2
        Blocks that are worked on side by side.

    Returns
    -------
    distances : ndarray of float64, shape (n, k)
        Ascending; recomputed from the coordinates, so duplicates are at exactly 0.
    indices : ndarray of int64, shape (n, k)
        Rows of `reference`.
    """
    q, r = as_points(queries, "queries"), as_points(reference, "reference")
    available = len(r) - int(exclude_self)
    if k < 1 or k > available:
        raise SettingsError(f"k={k} neighbours were asked for, and {available} reference rows are there.")
    # A few more candidates than wanted: rounding may swap the order of almost equal ones.
    take = min(k + 3, available)
    found = np.empty((len(q), take), dtype=np.int64)
    distances = np.empty((len(q), take))

    def search(rows: slice, squared: Matrix, tolerance: Matrix) -> None:
        inside = np.arange(rows.stop - rows.start)
        if exclude_self:
            squared[inside, np.arange(rows.start, rows.stop)] = np.inf
        for j in range(take):
            best = squared.argmin(axis=1)
            found[rows, j] = best
            squared[inside, best] = np.inf
            gap = q[rows].astype(np.float64) - r[best]
            distances[rows, j] = np.einsum("ij,ij->i", gap, gap)

    over_distances(q, r, search, threads=threads)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    rows_ = np.arange(len(q))[:, None]
    return np.sqrt(distances[rows_, order]), found[rows_, order]


class Cloud:
    """A set of points that remembers the distances within itself, so that they are measured once.

    Parameters
    ----------
    rows : array_like of float32, shape (n, d)
        Encoded rows.
    k : int, default=5
        Neighbours that make a ball.
    name : str, default="rows"
        For messages.

    Attributes
    ----------
    points : ndarray of float32, shape (n, d)
        The rows.
    """

    def __init__(self, rows: ArrayLike, *, k: int = 5, name: str = "rows") -> None:
        self.points = as_points(rows, name)
        self.k = k
        self.name = name

    def __len__(self) -> int:
        """Count the points."""
        return len(self.points)

    @cached_property
    def _neighbours(self) -> Floats:
        if len(self) <= self.k:
            raise DataError(
                f"k={self.k} neighbours need more than {self.k} rows; {self.name} has {len(self)}."
            )
        return nearest(self.points, self.points, self.k, exclude_self=True)[0]

    @property
    def nearest_other(self) -> Floats:
        """Distance of each point to the nearest other one; float64, shape (n,)."""
        return self._neighbours[:, 0]

    @property
    def radius(self) -> Floats:
        """Distance of each point to the k-th nearest other one; float64, shape (n,)."""
        return self._neighbours[:, -1]

    @cached_property
    def ball_sizes(self) -> Floats:
        """Count of other points within each closed ball of that radius, at least k; float64, shape (n,)."""
        squared_radius = self.radius.astype(np.float32) ** 2
        sizes = np.empty(len(self))

        def count(rows: slice, squared: Matrix, tolerance: Matrix) -> None:
            inside = squared <= squared_radius[rows, None] + tolerance
            sizes[rows] = np.count_nonzero(inside, axis=1) - 1

        over_distances(self.points, self.points, count)
        return np.maximum(sizes, self.k)


def _cloud(rows: ArrayLike | Cloud, k: int, name: str) -> Cloud:
    return rows if isinstance(rows, Cloud) else Cloud(rows, k=k, name=name)


@dataclass(frozen=True)
class ManifoldScores:
    """Density, coverage, precision and recall of one set of rows against another."""

    density: float
    coverage: float
    precision: float
    recall: float


def density_coverage(real: ArrayLike | Cloud, synthetic: ArrayLike | Cloud, *, k: int = 5) -> ManifoldScores:
    """Measure density and coverage (Naeem 2020), precision and recall (Kynkäänniemi 2019).

    With ``r_i`` the distance of real row i to its k-th nearest other real row and ``B_i`` the closed
    ball of that radius:

    - precision: share of synthetic rows in at least one ``B_i``;
    - recall: share of real rows in at least one ball of the synthetic rows;
    - density: mean over synthetic rows of ``sum_i 1[row in B_i] / k_i``, where ``k_i >= k`` counts
      the other real rows in ``B_i`` (Naeem divides by k; the two agree unless distances tie, and with
      ties only this one has expectation 1 for a perfect sample: ours);
    - coverage: share of ``B_i`` that hold at least one synthetic row.

    Parameters
    ----------
    real : array_like of float32, shape (n, d), or Cloud
        Encoded real rows.
    synthetic : array_like of float32, shape (m, d), or Cloud
        Encoded synthetic rows. Take m = n: coverage grows with m.
    k : int, default=5
        Neighbours that make a ball; of no effect on a `Cloud`, which has its own.

    Returns
    -------
    ManifoldScores
        A perfect sample without ties has density 1 and, with m = n, coverage about ``1 - 2**-k``.
    """
    x, y = _cloud(real, k, "real"), _cloud(synthetic, k, "synthetic")
    radius_x, radius_y = x.radius.astype(np.float32) ** 2, y.radius.astype(np.float32) ** 2
    share = 1.0 / x.ball_sizes
    covered = np.zeros(len(x), dtype=bool)
    recalled = np.zeros(len(x), dtype=bool)

    def count(rows: slice, squared: Matrix, tolerance: Matrix) -> tuple[float, Bools]:
        squared -= tolerance
        in_real = squared <= radius_x[rows, None]
        hits = np.count_nonzero(in_real, axis=1)
        covered[rows] = hits > 0
        recalled[rows] = (squared <= radius_y).any(axis=1)
        return float((hits * share[rows]).sum()), np.asarray(in_real.any(axis=0))

    parts = over_distances(x.points, y.points, count)
    return ManifoldScores(
        density=sum(hits for hits, _ in parts) / len(y),
        coverage=float(covered.mean()),
        precision=float(np.any([inside for _, inside in parts], axis=0).mean()),
        recall=float(recalled.mean()),
    )


@dataclass(frozen=True)
class AlphaScores:
    """α-precision, β-recall and authenticity, with the curves behind the first two.

    Attributes
    ----------
    delta_precision, delta_recall : float
        ``1 - 2 ∫|P_α - α| dα`` and the same for β: how close the whole curve is to the diagonal
        (Alaa's integrated scores; a perfect sample has delta_precision 1).
    alpha_precision, beta_recall : float
        The ends of the curves at α = β = 1: share of synthetic rows within the real support, share
        of real rows next to a synthetic one.
    authenticity : float
        Share of synthetic rows that are no closer to a real row than its own nearest real neighbour.
    levels : ndarray of float64, shape (levels,)
        α and β.
    precision_curve, recall_curve : ndarray of float64, shape (levels,)
        P_α and R_β.
    """

    delta_precision: float
    delta_recall: float
    alpha_precision: float
    beta_recall: float
    authenticity: float
    levels: Floats
    precision_curve: Floats
    recall_curve: Floats


def alpha_precision_beta_recall(
    real: ArrayLike | Cloud,
    synthetic: ArrayLike | Cloud,
    *,
    levels: int = 30,
    to_real: tuple[Floats, NDArray[np.int64]] | None = None,
) -> AlphaScores:
    """Measure α-precision, β-recall and authenticity (Alaa et al. 2022, sec. 3 and app. B).

    - ``P_α``: share of synthetic rows within the ball around the real mean that holds a share α of the
      real rows.
    - ``R_β``: share of real rows i whose nearest synthetic row is no further than their nearest other
      real row, and lies in the ball around the synthetic mean that holds a share β of synthetic rows.
      A perfect sample of the same size reaches 1/2 at β = 1, not 1.
    - authenticity: share of synthetic rows j with ``d(y_j, x_i) > d(x_i, nearest other real row)``,
      where ``x_i`` is the real row nearest to ``y_j``. The published code looks up the neighbour
      distance of the wrong row (an index into the synthetic rows is used for the real ones), so a
      generator that repeats one training row scores .999; it must score 0. A perfect sample scores 1 minus
      the chance that two nearest neighbours are mutual: 1/3 on the line, .38 in the plane, .41 in
      space.

    The published embedding (a one-class network) is left out: the rows are used as encoded (ours;
    synthcity calls this the naive variant).

    Parameters
    ----------
    real : array_like of float32, shape (n, d), or Cloud
        Encoded real rows.
    synthetic : array_like of float32, shape (m, d), or Cloud
        Encoded synthetic rows; take m = n.
    levels : int, default=30
        Points of the curves.
    to_real : tuple of ndarray, optional
        Distance and index of the nearest real row of each synthetic one, both of shape (m,), where they are
        known already.

    Returns
    -------
    AlphaScores
        Curves and their summaries.
    """
    from scipy.integrate import trapezoid

    x, y = _cloud(real, 1, "real"), _cloud(synthetic, 1, "synthetic")
    alphas = np.linspace(0, 1, levels)
    centre = x.points.mean(axis=0)
    # A float32 distance that ties with the quantile it defined must not fall outside by rounding.
    radii = np.quantile(_radius(x.points, centre), alphas) * (1 + 1e-6)
    precision = (_radius(y.points, centre)[:, None] <= radii[None, :]).mean(axis=0)
    from_synthetic_mean = _radius(y.points, y.points.mean(axis=0))
    to_synthetic, match = (v[:, 0] for v in nearest(x.points, y.points))
    close = to_synthetic <= x.nearest_other
    radii = np.quantile(from_synthetic_mean, alphas) * (1 + 1e-6)
    recall = (close[:, None] & (from_synthetic_mean[match][:, None] <= radii[None, :])).mean(axis=0)
    if to_real is None:
        distance, index = nearest(y.points, x.points)
        to_real = distance[:, 0], index[:, 0]
    return AlphaScores(
        delta_precision=1 - 2 * float(trapezoid(np.abs(precision - alphas), alphas)),
        delta_recall=1 - 2 * float(trapezoid(np.abs(recall - alphas), alphas)),
        alpha_precision=float(precision[-1]),
        beta_recall=float(recall[-1]),
        authenticity=float((to_real[0] > x.nearest_other[to_real[1]]).mean()),
        levels=alphas,
        precision_curve=precision,
        recall_curve=recall,
    )


def _radius(points: Matrix, centre: Matrix) -> Floats:
    return np.linalg.norm(points.astype(np.float64) - centre, axis=1)


def mmd(real: ArrayLike, synthetic: ArrayLike, *, bandwidth: float | None = None) -> float:
    """Squared maximum mean discrepancy with a Gaussian kernel (Gretton et al. 2012, eq. 3).

    The unbiased estimate, ``E k(x,x') + E k(y,y') - 2 E k(x,y)`` without the diagonals, with
    ``k(a,b) = exp(-|a-b|² / (2 h²))``; it scatters around 0 for two samples of one law.

    Parameters
    ----------
    real, synthetic : array_like of float32, shapes (n, d) and (m, d)
        Encoded rows.
    bandwidth : float, optional
        h, in units of distance; by default the median distance between real rows.

    Returns
    -------
    float
        May be slightly below 0.
    """
    x, y = as_points(real, "real"), as_points(synthetic, "synthetic")
    if min(len(x), len(y)) < 2:
        raise DataError("MMD needs at least two rows on either side.")
    if bandwidth is None:
        some = x[np.linspace(0, len(x) - 1, min(len(x), 1000)).astype(int)]
        pairs = np.concatenate(over_distances(some, some, lambda rows, squared, tolerance: squared))
        gaps = pairs[np.triu_indices(len(some), 1)]
        bandwidth = float(np.sqrt(np.median(gaps))) or float(np.sqrt(gaps.mean())) or 1.0
    if bandwidth <= 0:
        raise SettingsError(f"bandwidth={bandwidth!r} must be above 0.")
    scale = np.float32(-0.5 / bandwidth**2)

    def block_sum(rows: slice, squared: Matrix, tolerance: Matrix) -> float:
        squared *= scale
        return float(np.exp(squared, out=squared).sum(dtype=np.float64))

    def kernel_sum(a: Matrix, b: Matrix) -> float:
        return sum(over_distances(a, b, block_sum))

    n, m = len(x), len(y)
    within_x = (kernel_sum(x, x) - n) / (n * (n - 1))
    within_y = (kernel_sum(y, y) - m) / (m * (m - 1))
    return within_x + within_y - 2 * kernel_sum(x, y) / (n * m)
