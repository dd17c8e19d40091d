"""The models that people will train on the table: three families, plain settings, the same for all rows.

Settings are those a practitioner starts with, not tuned for any table: LightGBM with 100 trees of 31
leaves and native categories; an L2 logistic (for numbers: ridge) regression on one-hot, standardised
columns; a random forest of 100 trees with at least 5 rows in a leaf. Sensitive columns are features like any
other, because they are there in the real test set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from fairsynth._lightgbm import load as load_lightgbm
from fairsynth.data.schema import Schema
from fairsynth.errors import DataError, SettingsError
from fairsynth.evaluation.features import (
    Design,
    categorical_positions,
    column_values,
    is_categorical,
    level_names,
    native_matrix,
)

# Here and not where it is used: several threads train at once, and imports must not race.
lightgbm = load_lightgbm()

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_ITERATIONS = 500

MODELS: tuple[str, ...] = ("lightgbm", "logistic_regression", "random_forest")
#: What the linear family is called where the target is a number.
RIDGE = "ridge_regression"


def named_for(models: Sequence[str], task: Task) -> tuple[str, ...]:
    """Return the families by their names for a task: the linear one is a ridge regression for numbers."""
    if task.kind == "regression":
        return tuple(dict.fromkeys(RIDGE if name == "logistic_regression" else name for name in models))
    return tuple(dict.fromkeys("logistic_regression" if name == RIDGE else name for name in models))


@dataclass(frozen=True)
class Task:
    """What is predicted.

    Attributes
    ----------
    kind : {"binary", "multiclass", "regression"}
        By the target's kind and number of levels.
    target : str
        Column.
    levels : tuple of str
        Classes in the order of their codes; empty for regression.
    favorable : tuple of int
        Codes of the favorable classes; empty for regression.
    """

    kind: Literal["binary", "multiclass", "regression"]
    target: str
    levels: tuple[str, ...] = ()
    favorable: tuple[int, ...] = ()

    @classmethod
    def of(cls, schema: Schema) -> Task:
        """Read the task from a schema.

        Raises
        ------
        DataError
            If no target is named, or no favorable value of a categorical one.
        """
        if not schema.target:
            raise DataError("The table has no target; name the column that models shall predict.")
        column = schema[schema.target]
        if not is_categorical(column):
            return cls("regression", schema.target)
        levels = level_names(column)
        if not schema.favorable:
            raise DataError(
                f"No favorable value of target {schema.target!r} is named; choose among {', '.join(levels)}."
            )
        favorable = tuple(levels.index(value) for value in schema.favorable)
        if len(levels) < 2 or len(favorable) >= len(levels):
            raise DataError(
                f"Target {schema.target!r} needs a favorable and another level; its levels are "
                f"{', '.join(levels)}."
            )
        return cls("binary" if len(levels) == 2 else "multiclass", schema.target, levels, favorable)

    def values(self, frame: pl.DataFrame, schema: Schema) -> Floats:
        """Return the target as class codes or numbers, NaN where missing; float64, shape (n,)."""
        return column_values(frame, schema[self.target])

    def is_favorable(self, codes: Floats | Ints) -> Bools:
        """Say which class codes are favorable; bool, shape (n,)."""
        return np.isin(codes, self.favorable)

    def probability(self, prediction: Floats) -> Floats:
        """Return P(favorable) from class probabilities; float64, shape (n,)."""
        return prediction[:, list(self.favorable)].sum(axis=1)

    def decision(self, prediction: Floats) -> Bools:
        """Decide: P(favorable) of at least .5 for two classes, the most probable class for more."""
        if self.kind == "binary":
            return self.probability(prediction) >= 0.5
        return self.is_favorable(prediction.argmax(axis=1))


Predict = Callable[[pl.DataFrame], Floats]


@dataclass(frozen=True)
class FittedModel:
    """A trained downstream model.

    Attributes
    ----------
    name : str
        Family.
    predict : callable
        Canonical frame → class probabilities, float64 of shape (n, n_classes), or numbers, shape (n,).
    estimator : object or None
        The library's own fitted object (LightGBM booster, scikit-learn estimator); None for a constant.
    note : str or None
        What a reader has to know of the training, such as that there was one class only.
    """

    name: str
    predict: Predict
    estimator: Any = None
    note: str | None = None


@dataclass
class Downstream:
    """Trains the same models on any rows of one schema.

    Parameters
    ----------
    schema : Schema
        Of all rows.
    train : polars.DataFrame
        Real train rows; they set scales and levels, whichever rows the models then learn from.
    task : Task
        What is predicted.
    """

    schema: Schema
    train: pl.DataFrame
    task: Task
    columns: tuple[str, ...] = field(init=False)
    design: Design = field(init=False)

    def __post_init__(self) -> None:
        """Learn scales and levels from the real train rows."""
        self.columns = tuple(name for name in self.schema.features if self.schema[name].kind != "identifier")
        if not self.columns:
            raise DataError("There is no column to predict from besides the target.")
        self.design = Design(self.train, self.schema, self.columns)
        values = self.native(self.train)
        self._below = np.where(np.isnan(values), np.inf, values).min(axis=0, initial=0.0) - 1

    def native(self, frame: pl.DataFrame) -> Floats:
        """Return codes and numbers with NaN for missing; float64, shape (n, n_columns)."""
        return native_matrix(frame, self.schema, self.columns)

    def fit(self, name: str, frame: pl.DataFrame, *, seed: int = 0) -> FittedModel:
        """Train one model.

        Parameters
        ----------
        name : str
            One of `MODELS`, or ``"ridge_regression"``, which is the linear one for numbers.
        frame : polars.DataFrame
            Canonical rows to learn from; rows without a target are left out.
        seed : int, default=0
            Of the model's own randomness.

        Returns
        -------
        FittedModel
            A constant one, with a note, if the rows hold one class only.
        """
        if name not in (*MODELS, RIDGE):
            raise SettingsError(f"models={name!r} is not known; choose among {', '.join(MODELS)}.")
        target = self.task.values(frame, self.schema)
        known = ~np.isnan(target)
        if not known.all():
            frame, target = frame.filter(pl.Series(known)), target[known]
        if len(target) == 0:
            raise DataError(f"No row has a value of target {self.task.target!r}.")
        if self.task.kind != "regression" and len(np.unique(target)) == 1:
            return constant_model(self.task, target, note="trained on rows of one class only")
        return {
            "lightgbm": self._lightgbm,
            "logistic_regression": self._linear,
            RIDGE: self._linear,
            "random_forest": self._forest,
        }[name](frame, target, seed)

    def _classes(self, probability: Floats, present: Sequence[int]) -> Floats:
        """Spread the probabilities of the classes that were learned over all classes."""
        out = np.zeros((len(probability), len(self.task.levels)))
        out[:, list(present)] = probability
        return out

    def _lightgbm(self, frame: pl.DataFrame, target: Floats, seed: int) -> FittedModel:
        present, codes = np.unique(target, return_inverse=True)
        regression = self.task.kind == "regression"
        settings: dict[str, Any] = {
            "objective": "regression" if regression else "binary" if len(present) == 2 else "multiclass",
            "learning_rate": 0.1,
            "num_leaves": 31,
            "min_data_in_leaf": 20,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "seed": seed,
            "verbosity": -1,
        }
        if settings["objective"] == "multiclass":
            settings["num_class"] = len(present)
        data = lightgbm.Dataset(
            self.native(frame),
            target if regression else codes.reshape(-1),
            categorical_feature=categorical_positions(self.schema, self.columns),
        )
        booster = lightgbm.train(settings, data, num_boost_round=100)

        def predict(rows: pl.DataFrame) -> Floats:
            raw = np.asarray(booster.predict(self.native(rows), num_threads=1), dtype=np.float64)
            if regression:
                return raw
            if raw.ndim == 1:
                raw = np.column_stack([1 - raw, raw])
            return self._classes(raw, present.astype(int).tolist())

        return FittedModel("lightgbm", predict, booster)

    def _linear(self, frame: pl.DataFrame, target: Floats, seed: int) -> FittedModel:
        x = self.design(frame)
        if self.task.kind == "regression":
            ridge = Ridge(alpha=1.0).fit(x, target)
            return FittedModel(RIDGE, lambda rows: np.asarray(ridge.predict(self.design(rows))), ridge)
        # Newton steps cost columns² · rows, and reach the optimum in a handful.
        solver = "newton-cholesky" if x.shape[1] * len(self.task.levels) <= 1000 else "lbfgs"
        model = LogisticRegression(C=1.0, solver=solver, max_iter=_ITERATIONS)
        model.fit(x, target.astype(np.int64))
        stopped = int(np.max(model.n_iter_)) >= _ITERATIONS
        present = model.classes_.tolist()
        return FittedModel(
            "logistic_regression",
            lambda rows: self._classes(np.asarray(model.predict_proba(self.design(rows))), present),
            model,
            "stopped before it converged" if stopped else None,
        )

    def _forest(self, frame: pl.DataFrame, target: Floats, seed: int) -> FittedModel:
        settings = {
            "n_estimators": 100,
            "min_samples_leaf": 5,
            "random_state": seed,
            "n_jobs": 1,
        }

        def matrix(rows: pl.DataFrame) -> NDArray[np.float32]:
            # Missing is a value below all others: scikit-learn's forests learn it like any other.
            values = self.native(rows)
            return np.where(np.isnan(values), self._below, values).astype(np.float32)

        if self.task.kind == "regression":
            regressor = RandomForestRegressor(**settings).fit(matrix(frame), target)
            return FittedModel(
                "random_forest", lambda rows: np.asarray(regressor.predict(matrix(rows))), regressor
            )
        forest = RandomForestClassifier(**settings).fit(matrix(frame), target.astype(np.int64))
        present = forest.classes_.tolist()
        return FittedModel(
            "random_forest",
            lambda rows: self._classes(np.asarray(forest.predict_proba(matrix(rows))), present),
            forest,
        )


def constant_model(task: Task, target: Floats, *, note: str | None = None) -> FittedModel:
    """Return the predictor that gives everybody the same answer: the commonest class, or the mean.

    Parameters
    ----------
    task : Task
        What is predicted.
    target : ndarray of float64, shape (n,)
        Class codes or numbers that it learns from; NaN is left out.
    note : str, optional
        Said beside its scores.

    Returns
    -------
    FittedModel
        Named ``"constant"``. Its probabilities are the shares of the classes, the same for everybody, so its
        Brier score is fair and its AUROC .5.
    """
    known = target[~np.isnan(target)]
    if task.kind == "regression":
        mean = float(known.mean())
        return FittedModel("constant", lambda rows: np.full(rows.height, mean), note=note)
    shares = np.bincount(known.astype(np.int64), minlength=len(task.levels)) / len(known)
    return FittedModel("constant", lambda rows: np.tile(shares, (rows.height, 1)), note=note)
