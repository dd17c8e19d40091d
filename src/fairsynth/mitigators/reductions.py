"""Reductions: fair classification as a sequence of weighted ones (Agarwal et al. 2018), by fairlearn.

Both methods relabel and reweight the rows by Lagrange multipliers of the fairness constraint and train the model again
and again: exponentiated gradient searches for the saddle point and mixes what it met into a randomized predictor
(the paper's Algorithm 1); grid search tries a grid of multipliers and keeps one model (section 3.4). fairlearn does
the work; ours are the tables, the pooled groups and the strength.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from fairlearn.reductions import (
    DemographicParity,
    EqualizedOdds,
    ExponentiatedGradient,
    GridSearch,
    Moment,
    TruePositiveRateParity,
)

from fairsynth.data.table import Table
from fairsynth.errors import SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators.settings import check_settings
from fairsynth.mitigators.base import RARE_ROWS, Bools, Capabilities, Floats, Ints, Mitigator
from fairsynth.mitigators.grouping import PooledGroups
from fairsynth.mitigators.models import BaseModel, Features
from fairsynth.progress import Progress, Step

MOMENTS: dict[str, type[Any]] = {
    "demographic_parity": DemographicParity,
    "equalized_odds": EqualizedOdds,
    "equal_opportunity": TruePositiveRateParity,
}


class _Reduction(Mitigator):
    """What the two reductions share: the weighted model, the groups, and favored or not as the label."""

    fairness: Fairness
    minimum_group: int

    def _fit(self, table: Table, progress: Progress | None) -> None:
        favorable = self._favorable(table)
        self.groups_ = PooledGroups.learn(table, minimum=self.minimum_group, favorable=favorable)
        self.features_ = Features(table.schema, table.frame, self.task_, self.base, self._without(table))
        calls, expected = [0], self._expected_fits()

        def tick() -> None:
            calls[0] += 1
            if progress is not None:
                progress(Step(f"fit {self.name}", min(calls[0], expected - 1), expected))

        model = BaseModel(self.base, self.features_.categorical, self.seed, tick)
        x, codes = self.features_(table.frame), self.groups_.codes(table)
        labels = favorable.astype(np.int64)
        found = self._reduce(model, x, labels, codes)
        self.parts_ = [(weight, _freed(part)) for weight, part in found if weight > 0]

    @abstractmethod
    def _expected_fits(self) -> int:
        """Return about how many models will be trained."""

    @abstractmethod
    def _reduce(self, model: BaseModel, x: Floats, labels: Ints, groups: Ints) -> list[tuple[float, Any]]:
        """Return models and the shares in which they decide."""


class ExponentiatedGradientReduction(_Reduction):
    """A randomized mixture of models that meets a constraint on the training rows.

    Parameters
    ----------
    fairness : Fairness
        Criterion. At strength 1 rates may differ by `slack` from those of everybody; at strength t by
        ``(1 - t)`` times what the plain model's differ, if that is more.
    slack : float
        Difference that is allowed at full strength (fairlearn's ``difference_bound``).
    eps : float
        fairlearn's: 1 / eps bounds the multipliers.
    max_iter : int
        Iterations at most; each trains about two to four models.
    base : {"lightgbm", "logistic_regression", "random_forest"}
        Model that is trained.
    use_sensitive : bool
        Whether the models read the sensitive columns.
    minimum_group : int
        Groups of fewer rows, or of one kind of labels, are taken together.
    seed : int
        Of the models, and of the draws when it decides.

    Attributes
    ----------
    parts_ : list of (float, model)
        The mixture: each person is decided by one of them, drawn in these shares.

    References
    ----------
    Agarwal et al., "A reductions approach to fair classification", ICML 2018.
    """

    name: ClassVar[str] = "exponentiated-gradient"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="a randomized mixture of reweighted models under a constraint",
        paper="Agarwal et al., ICML 2018",
        stage="in",
        targets=("binary",),
        randomized=True,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        slack: float = 0.01,
        eps: float = 0.01,
        max_iter: int = 50,
        base: str = "lightgbm",
        use_sensitive: bool = True,
        minimum_group: int = RARE_ROWS,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.slack = slack
        self.eps = eps
        self.max_iter = max_iter
        self.base = base
        self.use_sensitive = use_sensitive
        self.minimum_group = minimum_group
        self.seed = seed

    def _check_settings(self) -> None:
        super()._check_settings()
        check_settings(self, whole=("max_iter", "minimum_group"), above_zero=("slack", "eps"))
        if self.slack > 1:
            raise SettingsError(f"slack={self.slack!r} is a difference of rates and must be at most 1.")

    def _expected_fits(self) -> int:
        return 4 * self.max_iter

    def _reduce(self, model: BaseModel, x: Floats, labels: Ints, groups: Ints) -> list[tuple[float, Any]]:
        moment = MOMENTS[self.fairness.criterion]
        allowed = self.slack
        if self.fairness.strength < 1:
            plain = BaseModel(self.base, self.features_.categorical, self.seed).fit(x, labels)
            gap = violation(moment(), x, labels, groups, plain.predict(x))
            allowed = max(allowed, (1 - self.fairness.strength) * gap)
        reduction = ExponentiatedGradient(
            model, moment(difference_bound=allowed), eps=self.eps, max_iter=self.max_iter
        ).fit(x, labels, sensitive_features=groups)
        self.violation_allowed_ = allowed
        return [
            (float(weight), part)
            for weight, part in zip(
                reduction.weights_[reduction.predictors_.index], reduction.predictors_, strict=True
            )
        ]

    def _class_probabilities(self, table: Table) -> Floats:
        x = self.features_(table.frame)
        return self._two_classes(
            sum((weight * part.predict(x) for weight, part in self.parts_), np.zeros(len(x)))
        )


class GridSearchReduction(_Reduction):
    """The best of models trained under a grid of multipliers.

    Best is the lowest ``(1 - w) * error + w * violation`` on the training rows, w = `constraint_weight`.

    Parameters
    ----------
    fairness : Fairness
        Criterion; the strength scales `constraint_weight`, so that at 0 only the error counts.
    constraint_weight : float
        w at full strength, from 0 to 1. Much above .5 a constant predictor may win.
    grid_size : int
        Multipliers that are tried; at least two to the power of the constraints that are free.
    grid_limit : float
        Largest multiplier.
    base : {"lightgbm", "logistic_regression", "random_forest"}
        Model that is trained.
    use_sensitive : bool
        Whether the models read the sensitive columns.
    minimum_group : int
        Groups of fewer rows, or of one kind of labels, are taken together.
    seed : int
        Of the models.

    References
    ----------
    Agarwal et al., "A reductions approach to fair classification", ICML 2018, section 3.4.
    """

    name: ClassVar[str] = "grid-search"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="the best of reweighted models under a grid of multipliers",
        paper="Agarwal et al., ICML 2018, section 3.4",
        stage="in",
        targets=("binary",),
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        constraint_weight: float = 0.5,
        grid_size: int = 20,
        grid_limit: float = 2.0,
        base: str = "lightgbm",
        use_sensitive: bool = True,
        minimum_group: int = RARE_ROWS,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.constraint_weight = constraint_weight
        self.grid_size = grid_size
        self.grid_limit = grid_limit
        self.base = base
        self.use_sensitive = use_sensitive
        self.minimum_group = minimum_group
        self.seed = seed

    def _check_settings(self) -> None:
        super()._check_settings()
        check_settings(
            self,
            whole=("grid_size", "minimum_group"),
            from_zero=("constraint_weight",),
            above_zero=("grid_limit",),
        )
        if self.constraint_weight > 1:
            raise SettingsError(f"constraint_weight={self.constraint_weight!r} must lie between 0 and 1.")

    def _expected_fits(self) -> int:
        return self.grid_size

    def _reduce(self, model: BaseModel, x: Floats, labels: Ints, groups: Ints) -> list[tuple[float, Any]]:
        moment = MOMENTS[self.fairness.criterion]()
        free = len(np.unique(groups)) - 1
        if self.fairness.criterion == "equalized_odds":
            free *= 2
        if self.grid_size < 2**free:
            raise SettingsError(
                f"grid_size={self.grid_size!r} is too few for {free} constraints that are free (a grid needs at "
                f"least {2**free}): raise it, or minimum_group, or take exponentiated-gradient."
            )
        search = GridSearch(
            model,
            moment,
            constraint_weight=self.constraint_weight * self.fairness.strength,
            grid_size=self.grid_size,
            grid_limit=self.grid_limit,
        ).fit(x, labels, sensitive_features=groups)
        return [(1.0, search.predictors_[search.best_idx_])]

    def _class_probabilities(self, table: Table) -> Floats:
        _, part = self.parts_[0]
        probability = np.asarray(part.predict_proba(self.features_(table.frame)))
        # Where all rows were relabelled alike the model is a constant, and knows one class only.
        favorable = (
            probability[:, list(part.classes_).index(1)] if 1 in part.classes_ else 0 * probability[:, 0]
        )
        return self._two_classes(favorable)


def violation(moment: Moment, x: Floats, labels: Ints, groups: Ints, decided: Ints | Bools) -> float:
    """Return by how much a group's rate differs from everybody's at most, by fairlearn's moment."""
    moment.load_data(x, labels, sensitive_features=groups)
    return float(moment.gamma(lambda _: np.asarray(decided).astype(np.int64)).max())


def _freed(part: Any) -> Any:
    """Let go of the training rows and of the listener; a dummy of one class holds neither."""
    if isinstance(part, BaseModel):
        part.forget().tick = None
    return part
