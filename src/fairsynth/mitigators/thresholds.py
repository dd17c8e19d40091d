"""Threshold optimizer: thresholds by group that meet a criterion (Hardt, Price and Srebro 2016), by fairlearn.

The downstream model is trained as it is; then, on its scores of the training rows, a threshold (or a draw between two)
is found for each group so that the rates agree and accuracy is best. fairlearn finds them; ours are the tables, the
pooled groups, people of groups that were never seen (whom
fairlearn favors none of), and the strength.

Scores of the rows that the model learned from are surer than those of new people, the more so the more freely it
fits; `holdout` keeps rows out of the model's training and finds the thresholds on those.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from fairlearn.postprocessing import ThresholdOptimizer
from sklearn.base import BaseEstimator, ClassifierMixin

from fairsynth.data.table import Table
from fairsynth.errors import SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators.settings import check_settings
from fairsynth.metrics import fairness as measures
from fairsynth.mitigators.base import RARE_ROWS, Bools, Capabilities, Floats, Ints, Mitigator
from fairsynth.mitigators.grouping import PooledGroups
from fairsynth.mitigators.models import TableModel
from fairsynth.progress import Progress

CONSTRAINTS = {
    "demographic_parity": "demographic_parity",
    "equalized_odds": "equalized_odds",
    "equal_opportunity": "true_positive_rate_parity",
}


class Scores(ClassifierMixin, BaseEstimator):
    """Stands for a model whose scores are known: its one column is the score."""

    classes_ = np.array([0, 1])

    def fit(self, X: Any, y: Any) -> Scores:
        """Return itself: there is nothing to fit."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Say so."""
        return True

    def predict(self, X: Any) -> Floats:
        """Return the scores, float64 ``(n,)``."""
        return np.asarray(X, dtype=np.float64)[:, 0]


class GroupThresholds(Mitigator):
    """A downstream model whose scores are cut at thresholds of the group.

    Parameters
    ----------
    fairness : Fairness
        Criterion. Below strength 1 demographic parity and equal opportunity allow the rates to differ by
        ``(1 - strength)`` times what they differ at the plain threshold (fairlearn's ``tol``); equalized odds, which
        fairlearn meets fully or not at all, decides as the plain model with probability ``1 - strength``.
    objective : {"accuracy_score", "balanced_accuracy_score"}
        What is best among thresholds that meet the criterion.
    holdout : float
        Share of the rows on which thresholds are found and that the model does not learn from; 0 finds them on
        the model's own training rows, as fairlearn does by itself.
    base : {"lightgbm", "logistic_regression", "random_forest"}
        Model whose scores are cut.
    use_sensitive : bool
        Whether that model reads the sensitive columns; the thresholds do in any case.
    minimum_group : int
        Groups of fewer rows, or of one kind of labels, share a threshold.
    seed : int
        Of the model, the hold-out, and the draws when it decides.

    References
    ----------
    Hardt, Price and Srebro, "Equality of opportunity in supervised learning", NIPS 2016.
    """

    fairness: Fairness
    name: ClassVar[str] = "threshold-optimizer"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="thresholds of each group on the plain model's scores",
        paper="Hardt et al., NIPS 2016",
        stage="post",
        targets=("binary",),
        needs_sensitive=True,
        randomized=True,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        objective: str = "accuracy_score",
        holdout: float = 0.0,
        base: str = "lightgbm",
        use_sensitive: bool = True,
        minimum_group: int = RARE_ROWS,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.objective = objective
        self.holdout = holdout
        self.base = base
        self.use_sensitive = use_sensitive
        self.minimum_group = minimum_group
        self.seed = seed

    def _check_settings(self) -> None:
        super()._check_settings()
        check_settings(
            self,
            choices={"objective": ("accuracy_score", "balanced_accuracy_score")},
            whole=("minimum_group",),
            from_zero=("holdout",),
        )
        if self.holdout >= 1:
            raise SettingsError(f"holdout={self.holdout!r} must be a share of the rows below 1.")

    def _fit(self, table: Table, progress: Progress | None) -> None:
        learning, cutting = table.split(self.holdout, seed=self.seed) if self.holdout else (table, table)
        self.model_ = TableModel(
            table.schema, learning.frame, self.task_, self.base, seed=self.seed, without=self._without(table)
        ).fit(learning.frame)
        favorable, scores = self._favorable(cutting), self._scores(cutting)
        self.groups_ = PooledGroups.learn(cutting, minimum=self.minimum_group, favorable=favorable)
        codes = self.groups_.codes(cutting)
        criterion, strength = self.fairness.criterion, self.fairness.strength
        self.plain_share_ = 1 - strength if criterion == "equalized_odds" else 0.0
        tolerance = None
        if strength < 1 and criterion != "equalized_odds":
            tolerance = (1 - strength) * _gap(criterion, favorable, scores >= 0.5, codes) or None
        self.optimizer_ = ThresholdOptimizer(
            estimator=Scores(),
            constraints=CONSTRAINTS[criterion],
            objective=self.objective,
            prefit=True,
            predict_method="predict",
            tol=tolerance,
        ).fit(scores[:, None], favorable.astype(np.int64), sensitive_features=codes)

    def _scores(self, table: Table) -> Floats:
        return self.task_.probability(self.model_.class_probabilities(table.frame))

    def _class_probabilities(self, table: Table) -> Floats:
        scores, codes = self._scores(table), self.groups_.codes(table)
        favored = np.zeros(len(scores))
        for group, rule in self.optimizer_.interpolated_thresholder_.interpolation_dict.items():
            mine = codes == group
            own = rule.p0 * rule.operation0(scores[mine]) + rule.p1 * rule.operation1(scores[mine])
            if "p_ignore" in rule:
                own = rule.p_ignore * rule.prediction_constant + (1 - rule.p_ignore) * own
            favored[mine] = own
        return self._two_classes(self.plain_share_ * (scores >= 0.5) + (1 - self.plain_share_) * favored)


def _gap(criterion: str, favorable: Bools, decided: Bools, groups: Ints) -> float:
    if criterion == "demographic_parity":
        return measures.demographic_parity_difference(decided, groups)
    return measures.equal_opportunity_difference(favorable, decided, groups)
