"""Reweighing: rows weighted so that label and group are independent (Kamiran and Calders 2012).

A row of group g with label y weighs ``P(g) P(y) / P(g, y)`` (the paper's section 5.3.1, "Reweighing"): groups that
are given the label less often than they would be by chance count more. Ours: joint groups of several columns, any
number of classes, and a strength between the rows as they are and the weights of the paper.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fairsynth.data.table import Table
from fairsynth.fairness import Fairness
from fairsynth.mitigators.base import Capabilities, Floats, Ints, Mitigator
from fairsynth.mitigators.models import TableModel
from fairsynth.progress import Progress


def reweighing(labels: Ints, groups: Ints) -> Floats:
    """Return the weights that make label and group independent.

    Parameters
    ----------
    labels, groups : ndarray of int64, shape (n,)
        Codes from 0 up.

    Returns
    -------
    ndarray of float64, shape (n,)
        Their mean is 1 where every group has every label; a pair that never occurs has no row to weigh.
    """
    joint = np.zeros((int(labels.max()) + 1, int(groups.max()) + 1))
    np.add.at(joint, (labels, groups), 1.0)
    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0) / len(labels)
    weight = np.divide(expected, joint, out=np.zeros_like(joint), where=joint > 0)
    return weight[labels, groups]


class Reweighing(Mitigator):
    """A downstream model trained on rows whose weights make label and group independent.

    Parameters
    ----------
    fairness : Fairness
        Demographic parity; the weights are ``1 + strength * (w - 1)`` with w those of the paper.
    base : {"lightgbm", "logistic_regression", "random_forest"}
        Model that is trained.
    use_sensitive : bool
        Whether the model reads the sensitive columns. Reading them, it can offset what their proxies tell.
    seed : int
        Of the model's own randomness.

    Attributes
    ----------
    weights_ : ndarray of float64, shape (n,)
        Of the rows that were learned from.

    References
    ----------
    Kamiran and Calders, "Data preprocessing techniques for classification without discrimination", KAIS 2012.
    """

    fairness: Fairness
    name: ClassVar[str] = "reweighing"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="rows weighted so that label and group are independent",
        paper="Kamiran and Calders, KAIS 2012",
        stage="pre",
        criteria=("demographic_parity",),
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        base: str = "lightgbm",
        use_sensitive: bool = True,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.base = base
        self.use_sensitive = use_sensitive
        self.seed = seed

    def _fit(self, table: Table, progress: Progress | None) -> None:
        whole = reweighing(self._codes(table), table.groups().codes)
        self.weights_ = 1 + self.fairness.strength * (whole - 1)
        self.model_ = TableModel(
            table.schema, table.frame, self.task_, self.base, seed=self.seed, without=self._without(table)
        ).fit(table.frame, self.weights_)

    def _class_probabilities(self, table: Table) -> Floats:
        return self.model_.class_probabilities(table.frame)
