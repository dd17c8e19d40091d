"""The two baselines that every comparison needs: the model as it is, and the predictor that looks at nobody."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fairsynth.data.table import Table
from fairsynth.evaluation.downstream import constant_model
from fairsynth.mitigators.base import Capabilities, Floats, Mitigator
from fairsynth.mitigators.models import TableModel
from fairsynth.progress import Progress


class Unmitigated(Mitigator):
    """The downstream model on the real rows, nothing removed: what all others are to be compared with.

    Parameters
    ----------
    base : {"lightgbm", "logistic_regression", "random_forest"}
        Family, as in the evaluation of synthetic tables.
    use_sensitive : bool
        Whether it reads the sensitive columns. Leaving them out is called fairness through unawareness; where other
        columns stand in for them it changes little.
    seed : int
        Of the model's own randomness.
    """

    name: ClassVar[str] = "none"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="the plain model on real rows, nothing removed",
        paper="",
        stage="none",
        criteria=(),
    )

    def __init__(self, *, base: str = "lightgbm", use_sensitive: bool = True, seed: int = 0) -> None:
        self.base = base
        self.use_sensitive = use_sensitive
        self.seed = seed

    def _fit(self, table: Table, progress: Progress | None) -> None:
        self.model_ = TableModel(
            table.schema, table.frame, self.task_, self.base, seed=self.seed, without=self._without(table)
        ).fit(table.frame)

    def _class_probabilities(self, table: Table) -> Floats:
        return self.model_.class_probabilities(table.frame)


class ConstantPredictor(Mitigator):
    """Gives everybody the same answer: the commonest class.

    It meets demographic parity and equalized odds perfectly and is of no use, which is why it stands beside every
    fair predictor. Its probabilities are the shares of the classes.

    Parameters
    ----------
    seed : int
        Not used; there is no chance in it.
    """

    name: ClassVar[str] = "constant"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="the same answer for everybody: perfectly fair, and useless",
        paper="",
        stage="none",
        criteria=(),
        families=(),
    )
    use_sensitive = False

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    @property
    def model_name(self) -> str:
        """Name of the model that decides."""
        return "constant"

    def _fit(self, table: Table, progress: Progress | None) -> None:
        model = constant_model(self.task_, self._codes(table).astype(np.float64))
        self.shares_ = model.predict(table.frame.head(1))[0]

    def _class_probabilities(self, table: Table) -> Floats:
        return np.tile(self.shares_, (len(table), 1))
