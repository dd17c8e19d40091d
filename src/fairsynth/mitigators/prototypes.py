"""Prototype representation: rows as soft memberships of a few prototypes, equal across groups (Zemel et al. 2013).

Minimises ``A_x L_x + A_y L_y + A_z L_z`` (the paper's equation 4): reconstruction of the row from its memberships,
log loss of the label read from them, and the gap between the groups' mean memberships. The terms are those of
fairlearn's ``PrototypeRepresentationLearner``: memberships ``softmax(-d(x, v_k))`` with d a weighted Euclidean
distance whose weights are learned, the gap averaged over pairs of groups and prototypes. fairlearn leaves the gradient
to finite differences, K · columns evaluations of the loss a step, which takes hours where a table has a hundred
one-hot columns; here (ours) the gradient is exact, by automatic differentiation, in the same L-BFGS-B. Ours as well:
more than two classes, and equalized odds and equal opportunity by comparing the groups within classes.

The mapping does not see the group, so none is needed to decide. Reconstruction sees the columns of the evaluation's
linear model without the sensitive ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fairsynth.data.table import Table
from fairsynth.fairness import Fairness
from fairsynth.generators.settings import check_settings
from fairsynth.mitigators.base import (
    RARE_ROWS,
    Capabilities,
    Floats,
    Ints,
    Mitigator,
    class_of_criterion,
)
from fairsynth.mitigators.grouping import PooledGroups
from fairsynth.mitigators.models import Features, MatrixModel
from fairsynth.progress import Progress, Step

if TYPE_CHECKING:
    from torch import Tensor


class PrototypeRepresentation(Mitigator):
    """A downstream model on soft memberships of prototypes.

    Parameters
    ----------
    fairness : Fairness
        Criterion; the strength scales `fairness_weight`.
    n_prototypes : int
        Prototypes, and so the dimensions of the representation.
    reconstruction_weight, label_weight, fairness_weight : float
        A_x, A_y and A_z; .01, 1 and 50 are among those that the paper searches.
    max_rows : int
        Rows at most that the prototypes are learned from, drawn at random.
    max_iter : int
        Steps of L-BFGS-B at most.
    base : {"lightgbm", "logistic_regression", "random_forest"}
        Model that is trained on the memberships.
    minimum_group : int
        Groups of fewer rows are taken together in the gap.
    seed : int
        Of the first prototypes, the rows and the model.

    Attributes
    ----------
    prototypes_ : ndarray of float64, shape (n_prototypes, columns)
        In the columns of the evaluation's linear model.
    distance_weights_ : ndarray of float64, shape (columns,)
        Of the Euclidean distance.
    loss_ : float
        At the end.

    References
    ----------
    Zemel et al., "Learning fair representations", ICML 2013.
    """

    fairness: Fairness
    name: ClassVar[str] = "prototype-representation"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="memberships of prototypes that are equal across groups (LFR)",
        paper="Zemel et al., ICML 2013",
        stage="pre",
    )
    use_sensitive = False

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        n_prototypes: int = 10,
        reconstruction_weight: float = 0.01,
        label_weight: float = 1.0,
        fairness_weight: float = 50.0,
        max_rows: int = 10_000,
        max_iter: int = 300,
        base: str = "lightgbm",
        minimum_group: int = RARE_ROWS,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.n_prototypes = n_prototypes
        self.reconstruction_weight = reconstruction_weight
        self.label_weight = label_weight
        self.fairness_weight = fairness_weight
        self.max_rows = max_rows
        self.max_iter = max_iter
        self.base = base
        self.minimum_group = minimum_group
        self.seed = seed

    def _check_settings(self) -> None:
        super()._check_settings()
        check_settings(
            self,
            whole=("n_prototypes", "max_rows", "max_iter", "minimum_group"),
            from_zero=("reconstruction_weight", "label_weight", "fairness_weight"),
        )

    def _fit(self, table: Table, progress: Progress | None) -> None:
        from scipy.optimize import minimize

        from fairsynth.nn.threads import threads

        self.features_ = Features(
            table.schema, table.frame, self.task_, "logistic_regression", table.schema.sensitive
        )
        rng = np.random.default_rng(self.seed)
        groups = PooledGroups.learn(table, minimum=self.minimum_group).codes(table)
        matrix, codes = self.features_(table.frame), self._codes(table)
        chosen = np.sort(rng.permutation(len(table))[: self.max_rows])
        rows, k = matrix[chosen], self.n_prototypes
        within = class_of_criterion(self.fairness.criterion, self.task_.is_favorable(codes))
        loss = Loss(
            rows,
            codes[chosen],
            groups[chosen],
            within[chosen],
            n_classes=len(self.task_.levels),
            weights=(
                self.reconstruction_weight,
                self.label_weight,
                self.fairness_weight * self.fairness.strength,
            ),
            n_prototypes=k,
        )
        first = rows[rng.choice(len(rows), size=k, replace=len(rows) < k)]
        start = loss.pack(
            first + 0.1 * rng.normal(size=first.shape),
            rng.normal(size=(k, loss.n_classes)),
            np.ones(rows.shape[1]),
        )
        done = [0]

        def count(_: Floats) -> None:
            done[0] += 1
            if progress is not None:
                progress(Step("learn prototypes", min(done[0], self.max_iter), self.max_iter))

        with threads(1):
            found = minimize(
                loss,
                start,
                jac=True,
                method="L-BFGS-B",
                bounds=loss.bounds(),
                callback=count,
                options={"maxiter": self.max_iter},
            )
        self.prototypes_, self.label_logits_, self.distance_weights_ = loss.unpack(found.x)
        self.loss_ = float(found.fun)
        self.model_ = MatrixModel(self.task_, self.base, seed=self.seed).fit(self._members(table), codes)

    def transform(self, table: Table) -> Floats:
        """Return memberships, float64 ``(n, n_prototypes)``, each row summing to 1."""
        return self._members(self._rows(table))

    def _members(self, table: Table) -> Floats:
        return memberships(self.features_(table.frame), self.prototypes_, self.distance_weights_)

    def _class_probabilities(self, table: Table) -> Floats:
        return self.model_.class_probabilities(self._members(table))


def memberships(rows: Floats, prototypes: Floats, weights: Floats) -> Floats:
    """Return ``softmax(-d)`` over the prototypes, d the Euclidean distance with weighted dimensions.

    Parameters
    ----------
    rows : ndarray of float64, shape (n, columns)
    prototypes : ndarray of float64, shape (k, columns)
    weights : ndarray of float64, shape (columns,)

    Returns
    -------
    ndarray of float64, shape (n, k)
    """
    import torch

    with torch.inference_mode():
        parts = [torch.from_numpy(np.ascontiguousarray(a)) for a in (rows, prototypes, weights)]
        return np.asarray(_memberships(*parts).numpy())


def _memberships(rows: Tensor, prototypes: Tensor, weights: Tensor) -> Tensor:
    weighted = rows * weights
    square = (weighted * rows).sum(1, keepdim=True) + (prototypes**2 @ weights) - 2 * weighted @ prototypes.T
    return (-(square.clamp_min(0) + 1e-12).sqrt()).softmax(dim=1)


class Loss:
    """The three terms and their gradient, as a function of one vector of parameters.

    Parameters
    ----------
    rows : ndarray of float64, shape (n, columns)
        What is reconstructed.
    codes, groups, within : ndarray of int64, shape (n,)
        Class, group, and the class within which groups are compared (-1: not at all).
    n_classes, n_prototypes : int
        How many.
    weights : tuple of float
        A_x, A_y, A_z.
    """

    def __init__(
        self,
        rows: Floats,
        codes: Ints,
        groups: Ints,
        within: Ints,
        *,
        n_classes: int,
        weights: tuple[float, float, float],
        n_prototypes: int,
    ) -> None:
        import torch

        self.rows = torch.from_numpy(np.ascontiguousarray(rows))
        self.codes = torch.from_numpy(codes)
        self.n_classes, self.k, self.weights = n_classes, n_prototypes, weights
        # One averaging matrix a class: its product with the memberships is the mean of each group there.
        self.means: list[Tensor] = []
        for value in np.unique(within[within >= 0]):
            present = [g for g in np.unique(groups) if np.any((groups == g) & (within == value))]
            if len(present) < 2:
                continue
            mean = np.stack([(groups == g) & (within == value) for g in present]).astype(np.float64)
            self.means.append(torch.from_numpy(mean / mean.sum(axis=1, keepdims=True)))

    def pack(self, prototypes: Floats, logits: Floats, weights: Floats) -> Floats:
        """Return all parameters in one line."""
        return np.concatenate([prototypes.ravel(), logits.ravel(), weights])

    def unpack(self, flat: Any) -> tuple[Any, Any, Any]:
        """Return prototypes ``(k, columns)``, label logits ``(k, classes)`` and distance weights ``(columns,)``."""
        columns, at = self.rows.shape[1], self.k * self.rows.shape[1]
        end = at + self.k * self.n_classes
        return flat[:at].reshape(self.k, columns), flat[at:end].reshape(self.k, self.n_classes), flat[end:]

    def bounds(self) -> list[tuple[float | None, float | None]]:
        """Return bounds: distance weights are not negative, all else is free."""
        columns = self.rows.shape[1]
        return [(None, None)] * (self.k * (columns + self.n_classes)) + [(0.0, None)] * columns

    def __call__(self, flat: Floats) -> tuple[float, Floats]:
        """Return the loss and its gradient."""
        import torch

        parameters = torch.from_numpy(flat.copy()).requires_grad_()
        prototypes, logits, weights = self.unpack(parameters)
        member = _memberships(self.rows, prototypes, weights)
        reconstruction = ((self.rows - member @ prototypes) ** 2).sum(1).mean()
        probability = (member @ logits.softmax(dim=1)).clamp(1e-12, 1)
        label = -probability.log().gather(1, self.codes[:, None]).mean()
        total = self.weights[0] * reconstruction + self.weights[1] * label
        for mean in self.means:
            by_group = mean @ member
            first, second = torch.triu_indices(len(by_group), len(by_group), offset=1)
            gap = (by_group[first] - by_group[second]).abs().mean()
            total = total + self.weights[2] * gap / len(self.means)
        total.backward()
        gradient = parameters.grad
        assert gradient is not None
        return float(total.detach()), gradient.numpy().copy()
