"""The contract that every mitigator keeps: fit on a table, decide for the people of another."""

from __future__ import annotations

import random
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from fairsynth.cores import one_blas_thread
from fairsynth.data.table import Table
from fairsynth.errors import CapabilityError, DataError, NotFittedError
from fairsynth.evaluation.downstream import MODELS, Task
from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.generators.settings import check_seed, check_settings
from fairsynth.progress import Progress, Step

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Rows below which a joint group is taken together with other rare ones, where a method estimates by group.
RARE_ROWS = 30


@dataclass(frozen=True)
class Capabilities:
    """What a mitigator can do.

    Attributes
    ----------
    title : str
        What it is, in one line.
    paper : str
        Where it was published.
    stage : {"none", "pre", "in", "post"}
        Whether it changes the rows, the training or the decisions.
    criteria : tuple of str
        Fairness criteria that it can be asked for; empty if it has no such notion.
    targets : tuple of str
        Of ``"binary"``, ``"multiclass"``.
    several_sensitive : bool
        Whether groups may be the joint levels of several columns.
    needs_sensitive : bool
        Whether it cannot decide without the person's sensitive columns. Others may be told not to read them
        (`use_sensitive`).
    randomized : bool
        Whether decisions are draws, with the probabilities that the method gives.
    families : tuple of str
        Downstream models that `base` may name; empty if it brings a model of its own.
    """

    title: str
    paper: str
    stage: Literal["none", "pre", "in", "post"]
    criteria: tuple[str, ...] = CRITERIA
    targets: tuple[str, ...] = ("binary", "multiclass")
    several_sensitive: bool = True
    needs_sensitive: bool = False
    randomized: bool = False
    families: tuple[str, ...] = MODELS

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


class Mitigator(BaseEstimator, ABC):
    """A predictor of the target that is meant to be fair.

    Hyper-parameters are keyword arguments of ``__init__`` and stored under their names; nothing is done before
    `fit`. A method is one subclass that says how to fit (`_fit`) and which class probabilities it gives
    (`_class_probabilities`). No method reads the target of the rows that it decides for.

    Attributes
    ----------
    schema_ : Schema
        Of the table that was learned.
    task_ : Task
        What is predicted.
    n_rows_ : int
        How many rows were learned from.
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    #: Criterion and strength, for those that have the notion.
    fairness: Fairness | None = None
    #: Downstream model that is wrapped; empty for those that bring their own.
    base: str = ""
    #: Whether a model may read the sensitive columns, where the method leaves the choice.
    use_sensitive: bool = True
    seed: int = 0

    @abstractmethod
    def _fit(self, table: Table, progress: Progress | None) -> None:
        """Learn from a checked table whose targets are all known, setting attributes that end in an underscore."""

    @abstractmethod
    def _class_probabilities(self, table: Table) -> Floats:
        """Return float64 ``(n, levels of the target)``; for a randomized method, of the draw."""

    def _check_settings(self) -> None:
        """Refuse settings out of their range; subclasses check their own as well."""
        if families := self.capabilities.families:
            check_settings(self, choices={"base": families})

    @property
    def model_name(self) -> str:
        """Name of the model that decides: a downstream family, or ``"network"``."""
        return self.base or "network"

    @property
    def reads_sensitive(self) -> bool:
        """Whether the sensitive columns of a person are read when it is decided about them."""
        return self.capabilities.needs_sensitive or self.use_sensitive

    def fit(self, table: Table, *, progress: Progress | None = None) -> Self:
        """Learn from a table.

        Parameters
        ----------
        table : Table
            Rows whose schema names a target with favorable values, and sensitive columns.
        progress : callable, optional
            Told of every `Step`.

        Returns
        -------
        Self

        Raises
        ------
        DataError
            If the table cannot be learned from.
        CapabilityError
            If this method cannot do what is asked.
        SettingsError
            If a setting is out of its range.
        """
        if not isinstance(table, Table):
            raise DataError(
                f"fit needs a Table, not {type(table).__name__}: wrap your frame with "
                "Table(frame, target=..., favorable=..., sensitive=[...])."
            )
        check_seed(self.seed)
        self._check_settings()
        self.task_ = self._check(table)
        known = ~np.isnan(self.task_.values(table.frame, table.schema))
        rows = table if known.all() else table.replace(table.frame.filter(pl.Series(known)))
        self._check_rows(rows)
        with chance_untouched(), one_blas_thread():
            self._fit(rows, progress)
        self.schema_, self.n_rows_ = table.schema, len(rows)
        if progress is not None:
            progress(Step(f"fit {self.name}", 1, 1))
        return self

    def _check(self, table: Table) -> Task:
        schema, can = table.schema, self.capabilities
        if not schema.target or not schema.sensitive:
            lacking = "target" if not schema.target else "sensitive column"
            raise DataError(
                f"{self.name} needs a {lacking}; name it: Table(..., target=..., sensitive=[...])."
            )
        task = Task.of(schema)
        if task.kind not in can.targets:
            remedy = (
                "choose a method that does (their capabilities say it)"
                if task.kind == "multiclass"
                else "declare it categorical, or cut it into levels"
            )
            raise CapabilityError(
                f"{self.name} does not take a {task.kind} target, and {schema.target!r} is one; {remedy}."
            )
        if len(schema.sensitive) > 1 and not can.several_sensitive:
            raise CapabilityError(
                f"{self.name} takes one sensitive column, and {len(schema.sensitive)} are named; keep one."
            )
        if self.fairness is not None and self.fairness.criterion not in can.criteria:
            raise CapabilityError(
                f"{self.name} cannot be asked for {self.fairness.criterion}; it knows {', '.join(can.criteria)}."
            )
        return task

    def _check_rows(self, table: Table) -> None:
        schema = table.schema
        if len(np.unique(self.task_.values(table.frame, schema))) < 2:
            raise DataError(f"target {schema.target!r} has one value only in these rows: nothing to learn.")
        if len(np.unique(table.groups().codes)) < 2:
            raise DataError(
                f"these rows are all of one group of {', '.join(schema.sensitive)}: every measure of fairness would "
                "be perfect and mean nothing. Choose other rows or another column."
            )

    def predict_class_proba(self, table: Table) -> Floats:
        """Return class probabilities.

        Parameters
        ----------
        table : Table
            People, with the schema that was learned (others are aligned to it); their target is not read.

        Returns
        -------
        ndarray of float64, shape (n, levels of the target)
            In the order of the target's levels. Of a randomized method: how likely its draw is to say so.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        rows = self._rows(table)
        with chance_untouched(), one_blas_thread():
            return np.asarray(self._class_probabilities(rows), dtype=np.float64)

    def predict_proba(self, table: Table) -> Floats:
        """Return P(favorable), float64 ``(n,)``; see `predict_class_proba`."""
        return self.task_.probability(self.predict_class_proba(table))

    def predict(self, table: Table) -> Bools:
        """Decide who is favored.

        For two classes those with P(favorable) from .5 up; for more, those whose likeliest class is favorable. A
        randomized method draws, with its seed, in the order of the rows.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        return self.decide(self.predict_class_proba(table))

    def decide(self, classes: Floats) -> Bools:
        """Turn the class probabilities of `predict_class_proba` into decisions, bool ``(n,)``."""
        self._fitted()
        if not self.capabilities.randomized:
            return self.task_.decision(classes)
        # The very rule and stream of fairlearn's own randomized predictors, so that the two agree.
        drawn = np.random.RandomState(self.seed).rand(len(classes))
        return self.task_.probability(classes) >= drawn

    def predict_class(self, table: Table) -> NDArray[Any]:
        """Return the predicted level of the target of every row as text, object ``(n,)``."""
        classes = self.predict_class_proba(table)
        levels = np.array(self.task_.levels, dtype=object)
        if self.task_.kind == "multiclass":
            return levels[classes.argmax(axis=1)]
        good = self.task_.favorable[0]
        return levels[np.where(self.decide(classes), good, 1 - good)]

    def _rows(self, table: Table) -> Table:
        self._fitted()
        if isinstance(table, Table) and table.schema == self.schema_:
            return table
        return Table._of(pl.DataFrame(), self.schema_).align(table)

    def _fitted(self) -> None:
        if not hasattr(self, "schema_"):
            raise NotFittedError(
                f"this {type(self).__name__} has learned nothing yet; call fit(table) first."
            )

    def _codes(self, table: Table) -> Ints:
        """Return the target's class codes, int64 ``(n,)``."""
        return self.task_.values(table.frame, table.schema).astype(np.int64)

    def _favorable(self, table: Table) -> Bools:
        return self.task_.is_favorable(self._codes(table))

    def _without(self, table: Table) -> tuple[str, ...]:
        """Return the columns that the model must not read."""
        return () if self.use_sensitive else table.schema.sensitive

    def _two_classes(self, favored: Floats) -> Floats:
        """Return class probabilities ``(n, 2)`` from P(favorable), a sum of shares that may round past 0 or 1."""
        out = np.empty((len(favored), 2))
        good = self.task_.favorable[0]
        out[:, good] = np.clip(favored, 0.0, 1.0)
        out[:, 1 - good] = 1 - out[:, good]
        return out


def class_of_criterion(criterion: str, favorable: Bools) -> Ints:
    """Return the class within which groups are compared, int64 ``(n,)``; -1 where they are not.

    Everybody is of class 0 under demographic parity; the label is the class under equalized odds; under equal
    opportunity only those with a favorable label are compared.
    """
    if criterion == "demographic_parity":
        return np.zeros(len(favorable), dtype=np.int64)
    if criterion == "equalized_odds":
        return favorable.astype(np.int64)
    return np.where(favorable, 1, -1)


@contextmanager
def chance_untouched() -> Iterator[None]:
    """Put the global random states of Python, NumPy and PyTorch back, whatever a library did to them."""
    kept, kept_numpy = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    kept_torch = torch.get_rng_state() if torch is not None else None
    try:
        yield
    finally:
        random.setstate(kept)
        np.random.set_state(kept_numpy)
        if torch is not None and kept_torch is not None:
            torch.set_rng_state(kept_torch)
