"""The downstream models of the evaluation once more, on matrices and with weights of rows.

Mitigators wrap them, and are compared with them: so they must be the same models. `Downstream` trains on frames and
without weights; here the matrices are its own, the settings are the same, and a test holds the two together
prediction by prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from fairsynth.data.schema import Schema
from fairsynth.evaluation.downstream import Downstream, Task, lightgbm
from fairsynth.evaluation.features import categorical_positions, column_values, is_categorical

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ROUNDS = 100
_ITERATIONS = 500


class BaseModel(ClassifierMixin, BaseEstimator):
    """One family of downstream models, as a scikit-learn classifier that takes weights.

    Parameters
    ----------
    family : {"lightgbm", "logistic_regression", "random_forest"}
        As `fairsynth.evaluation.downstream` names them, and with its settings.
    categorical : sequence of int
        Columns of the matrix that hold level codes (LightGBM splits them as such).
    seed : int
        Of the model's own randomness.
    tick : callable, optional
        Called after every fit.

    Attributes
    ----------
    classes_ : ndarray
        Labels that were seen.
    """

    def __init__(
        self,
        family: str = "lightgbm",
        categorical: Sequence[int] = (),
        seed: int = 0,
        tick: Callable[[], None] | None = None,
    ) -> None:
        self.family = family
        self.categorical = categorical
        self.seed = seed
        self.tick = tick

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on float64 ``(n, columns)`` and labels ``(n,)``, rows weighted by ``(n,)`` numbers from 0 up."""
        x = np.asarray(X, dtype=np.float64)
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        if self.family == "lightgbm":
            self.model_: Any = self._booster(x, codes.reshape(-1), weight)
        elif self.family == "logistic_regression":
            # Newton steps cost columns² · rows, and reach the optimum in a handful.
            small = x.shape[1] * max(len(self.classes_), 2) <= 1000
            model = LogisticRegression(
                C=1.0, solver="newton-cholesky" if small else "lbfgs", max_iter=_ITERATIONS
            )
            self.model_ = model.fit(x, codes.reshape(-1), sample_weight=weight)
        else:
            forest = RandomForestClassifier(
                n_estimators=100, min_samples_leaf=5, random_state=self.seed, n_jobs=1
            )
            self.model_ = forest.fit(x.astype(np.float32), codes.reshape(-1), sample_weight=weight)
        # Reductions ask again and again what a model says of the very rows that it learned from.
        self._known: tuple[Any, Floats] = (X, self._probability(x))
        if self.tick is not None:
            self.tick()
        return self

    def _booster(self, x: Floats, codes: Ints, weight: Floats | None) -> Any:
        settings: dict[str, Any] = {
            "objective": "binary" if len(self.classes_) == 2 else "multiclass",
            "learning_rate": 0.1,
            "num_leaves": 31,
            "min_data_in_leaf": 20,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "seed": self.seed,
            "verbosity": -1,
        }
        if settings["objective"] == "multiclass":
            settings["num_class"] = len(self.classes_)
        data = lightgbm.Dataset(x, codes, weight=weight, categorical_feature=list(self.categorical))
        return lightgbm.train(settings, data, num_boost_round=ROUNDS)

    def _probability(self, x: Floats) -> Floats:
        if self.family == "lightgbm":
            raw = np.asarray(self.model_.predict(x, num_threads=1), dtype=np.float64)
            return np.column_stack([1 - raw, raw]) if raw.ndim == 1 else raw
        return np.asarray(
            self.model_.predict_proba(x if self.family != "random_forest" else x.astype(np.float32))
        )

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return class probabilities, float64 ``(n, len(classes_))``."""
        if X is self._known[0]:
            return self._known[1]
        return self._probability(np.asarray(X, dtype=np.float64))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likelier of two labels (the second from .5 up), the likeliest of more."""
        probability = self.predict_proba(X)
        if len(self.classes_) == 2:
            return np.asarray(self.classes_[(probability[:, 1] >= 0.5).astype(np.int64)])
        return np.asarray(self.classes_[probability.argmax(axis=1)])

    def forget(self) -> Self:
        """Let go of the rows that were learned from."""
        self._known = (None, np.zeros((0, 0)))
        return self


class Features:
    """Columns of a table as the matrix that a family of models reads.

    Parameters
    ----------
    schema : Schema
        Of the rows.
    frame : polars.DataFrame
        Canonical real train rows; they set scales and levels.
    task : Task
        What is predicted.
    family : str
        One of `MODELS`; ``"logistic_regression"`` gives one-hot and standardised columns without gaps.
    without : sequence of str
        Columns that no model may read.
    """

    def __init__(
        self, schema: Schema, frame: pl.DataFrame, task: Task, family: str, without: Sequence[str] = ()
    ) -> None:
        if without:
            schema = without_columns(schema, without)
        self.family = family
        self._downstream = Downstream(schema, frame, task)
        self.columns = self._downstream.columns
        self.categorical = categorical_positions(schema, self.columns) if family == "lightgbm" else []
        values = self._downstream.native(frame)
        self._below = np.where(np.isnan(values), np.inf, values).min(axis=0, initial=0.0) - 1

    def __call__(self, frame: pl.DataFrame) -> Floats:
        """Return the matrix of some rows, float64 ``(n, columns)``; LightGBM's holds NaN where missing."""
        if self.family == "logistic_regression":
            return self._downstream.design(frame)
        values = self._downstream.native(frame)
        return values if self.family == "lightgbm" else np.where(np.isnan(values), self._below, values)


class NetworkFeatures(Features):
    """Columns of a table as a network reads them: those of the linear model, and every number once more as a rank.

    A number with a long tail says little when it is only standardised, and a step of gradient descent follows its
    tail. Its quantile among the train rows, as a standard normal number, says where it stands.

    Parameters
    ----------
    schema, frame, task, without
        As of `Features`.
    """

    def __init__(self, schema: Schema, frame: pl.DataFrame, task: Task, without: Sequence[str] = ()) -> None:
        super().__init__(schema, frame, task, "logistic_regression", without)
        self._numbers = [schema[name] for name in self.columns if not is_categorical(schema[name])]
        self._known = [_sorted_known(column_values(frame, column)) for column in self._numbers]

    def __call__(self, frame: pl.DataFrame) -> Floats:
        """Return the matrix of some rows, float64 ``(n, columns)``, without gaps."""
        ranks = [
            _normal_rank(column_values(frame, column), known)
            for column, known in zip(self._numbers, self._known, strict=True)
        ]
        return np.column_stack([super().__call__(frame), *ranks])


def _sorted_known(values: Floats) -> Floats:
    return np.sort(values[~np.isnan(values)])


def _normal_rank(values: Floats, known: Floats) -> Floats:
    """Return the normal quantile of the middle rank among `known`, within three deviations; 0 where missing."""
    if not len(known):
        return np.zeros(len(values))
    rank = (np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")) / (
        2 * len(known)
    )
    return np.where(np.isnan(values), 0.0, np.clip(ndtri(np.clip(rank, 1e-6, 1 - 1e-6)), -3, 3))


class TableModel:
    """A downstream model of a table's columns.

    Parameters
    ----------
    schema, frame, task, family, without
        As of `Features`.
    seed : int
        Of the model's own randomness.
    """

    def __init__(
        self,
        schema: Schema,
        frame: pl.DataFrame,
        task: Task,
        family: str,
        *,
        seed: int,
        without: Sequence[str] = (),
    ) -> None:
        self.task, self.schema = task, schema
        self.features = Features(schema, frame, task, family, without)
        self.model = BaseModel(family, self.features.categorical, seed)

    def fit(self, frame: pl.DataFrame, weights: Floats | None = None) -> Self:
        """Train on canonical rows whose target is known, weighted if asked."""
        codes = self.task.values(frame, self.schema).astype(np.int64)
        self.model.fit(self.features(frame), codes, weights).forget()
        return self

    def class_probabilities(self, frame: pl.DataFrame) -> Floats:
        """Return float64 ``(n, levels of the target)``."""
        return spread(self.model, self.features(frame), self.task)


class MatrixModel:
    """A downstream model of numbers that are no columns of a table: a representation.

    Parameters
    ----------
    task, family, seed
        As of `TableModel`. A linear model reads the numbers standardised.
    """

    def __init__(self, task: Task, family: str, *, seed: int) -> None:
        self.task = task
        self.model = BaseModel(family, (), seed)

    def fit(self, matrix: Floats, codes: Ints) -> Self:
        """Train on float64 ``(n, k)`` and class codes ``(n,)``."""
        self._mean, spread_of = matrix.mean(axis=0), matrix.std(axis=0)
        self._spread = np.where(spread_of > 0, spread_of, 1.0)
        self.model.fit(self._scaled(matrix), codes).forget()
        return self

    def _scaled(self, matrix: Floats) -> Floats:
        return (matrix - self._mean) / self._spread if self.model.family == "logistic_regression" else matrix

    def class_probabilities(self, matrix: Floats) -> Floats:
        """Return float64 ``(n, levels of the target)``."""
        return spread(self.model, self._scaled(matrix), self.task)


def spread(model: Any, matrix: Floats, task: Task) -> Floats:
    """Return class probabilities over all levels of the target, those never seen in training included."""
    out = np.zeros((len(matrix), len(task.levels)))
    out[:, np.asarray(model.classes_, dtype=np.int64)] = model.predict_proba(matrix)
    return out


def without_columns(schema: Schema, names: Sequence[str]) -> Schema:
    """Return the schema of the other columns, sensitive roles and all."""
    return schema.revised(
        columns=tuple(column for column in schema.columns if column.name not in names),
        sensitive=tuple(name for name in schema.sensitive if name not in names),
        domain=None if schema.domain in names else schema.domain,
        identifiers=tuple(name for name in schema.identifiers if name not in names),
    )
