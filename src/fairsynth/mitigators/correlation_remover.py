"""Correlation remover: columns minus what a linear regression on the sensitive ones explains (fairlearn).

The columns are those of the evaluation's linear model (one-hot, standardised, missing a column of its own); the
sensitive ones are replaced by indicators of the joint groups, so that several columns and any number of levels are
handled exactly (ours). What is left is uncorrelated with every group, which is not independence: trees find more
than a line does.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from fairlearn.preprocessing import CorrelationRemover

from fairsynth.data.table import Table
from fairsynth.fairness import Fairness
from fairsynth.generators.settings import check_settings
from fairsynth.mitigators.base import RARE_ROWS, Capabilities, Floats, Mitigator
from fairsynth.mitigators.grouping import PooledGroups
from fairsynth.mitigators.models import Features, MatrixModel
from fairsynth.progress import Progress


class CorrelationRemoval(Mitigator):
    """A downstream model on columns that are uncorrelated with the groups.

    Parameters
    ----------
    fairness : Fairness
        Demographic parity, in the linear sense only; the strength is fairlearn's ``alpha``.
    base : {"lightgbm", "logistic_regression", "random_forest"}
        Model that is trained on what is left.
    minimum_group : int
        Groups of fewer rows share one indicator.
    seed : int
        Of the model's own randomness.

    References
    ----------
    Bird et al., "Fairlearn: a toolkit for assessing and improving fairness in AI", 2020: CorrelationRemover.
    """

    fairness: Fairness
    name: ClassVar[str] = "correlation-remover"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="columns without their linear correlation with the groups",
        paper="Fairlearn (Bird et al. 2020)",
        stage="pre",
        criteria=("demographic_parity",),
        needs_sensitive=True,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        base: str = "lightgbm",
        minimum_group: int = RARE_ROWS,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.base = base
        self.minimum_group = minimum_group
        self.seed = seed

    def _check_settings(self) -> None:
        super()._check_settings()
        check_settings(self, whole=("minimum_group",))

    def _fit(self, table: Table, progress: Progress | None) -> None:
        self.groups_ = PooledGroups.learn(table, minimum=self.minimum_group)
        self.features_ = Features(
            table.schema, table.frame, self.task_, "logistic_regression", table.schema.sensitive
        )
        both = self._both(table)
        n_groups = len(self.groups_)
        self.remover_ = CorrelationRemover(
            sensitive_feature_ids=list(range(n_groups)), alpha=self.fairness.strength
        ).fit(both)
        self.model_ = MatrixModel(self.task_, self.base, seed=self.seed)
        self.model_.fit(self.remover_.transform(both), self._codes(table))

    def _both(self, table: Table) -> Floats:
        indicators = np.eye(len(self.groups_))[self.groups_.codes(table)]
        return np.concatenate([indicators, self.features_(table.frame)], axis=1)

    def transform(self, table: Table) -> Floats:
        """Return what is left of the columns.

        Returns
        -------
        ndarray of float64, shape (n, columns after one-hot)
            On the rows that were learned from and at strength 1, every column is uncorrelated with every group.
        """
        return np.asarray(self.remover_.transform(self._both(self._rows(table))))

    def _class_probabilities(self, table: Table) -> Floats:
        return self.model_.class_probabilities(self.transform(table))
