"""Models that are trained while a generator is fitted, to see what later models will do with its rows.

`calibration` trains one kind, `margin_shift` two and `auditors` three. They are trained a dozen times in a fit, on few
rows as well, so what goes around the training counts: LightGBM's own `train` instead of its classifier for
scikit-learn, and a view of the columns for linear models that is learned once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from fairsynth._lightgbm import load as load_lightgbm
from fairsynth.data.canonical import LARGEST
from fairsynth.data.table import Table

#: Rounds of boosting.
BOOSTED_ROUNDS = 80
#: Levels that a linear model tells apart in one column.
LINEAR_LEVELS = 50


def probe_columns(table: Table) -> list[str]:
    """Return what a probe may learn from: all features but the domain, since later models meet people of others."""
    return [name for name in table.schema.features if name != table.schema.domain]


def categorical_places(table: Table, names: list[str]) -> list[int]:
    """Return which of these columns have levels."""
    return [i for i, name in enumerate(names) if table.schema[name].kind in ("categorical", "boolean")]


def as_numbers(frame: pl.DataFrame, names: list[str]) -> np.ndarray:
    """Return columns as numbers up to `LARGEST`, missing ones as NaN, float64 ``(n, columns)``."""
    numbers = (
        frame.select(pl.col(name).to_physical().cast(pl.Float64) for name in names)
        .fill_null(np.nan)
        .to_numpy()
    )
    return np.asarray(np.clip(numbers, -LARGEST, LARGEST))


def boosted_decisions(
    rows: np.ndarray, labels: np.ndarray, people: np.ndarray, categorical: list[int], seed: int
) -> np.ndarray:
    """Train boosted trees on rows, and return log odds of a favorable label for people, or scores of several labels.

    Parameters
    ----------
    rows : np.ndarray
        float64 ``(m, columns)``, as `as_numbers` makes them.
    labels : np.ndarray
        Which of them are favorable, bool ``(m,)``, or which label each has, int64 from 0 up; all of them must occur.
    people : np.ndarray
        float64 ``(n, columns)``.
    categorical : list of int
        Columns that have levels.
    seed : int
        Of the model.

    Returns
    -------
    np.ndarray
        float64 ``(n,)``; of three labels and more ``(n, labels)``.
    """
    lightgbm = load_lightgbm()
    labels = labels.astype(np.int64)
    several = int(labels.max()) + 1 if labels.max() > 1 else 1
    settings = {
        "objective": "binary" if several == 1 else "multiclass", "num_class": several, "seed": seed,
        "num_threads": 1, "verbosity": -1, "deterministic": True, "force_row_wise": True,
    }  # fmt: skip
    data = lightgbm.Dataset(rows, labels, categorical_feature=categorical, params=settings)
    # The booster is used as it is: to be handed on it would be written out and read again.
    trees = lightgbm.train(settings, data, BOOSTED_ROUNDS, keep_training_booster=True)
    return np.asarray(trees.predict(people, raw_score=True), dtype=np.float64)


@dataclass(frozen=True)
class LinearView:
    """What a linear model sees of columns: levels as indicators, numbers in units of their deviation.

    Attributes
    ----------
    columns : sklearn.compose.ColumnTransformer
        Fitted.
    """

    columns: Any

    @classmethod
    def of(cls, people: np.ndarray, categorical: list[int]) -> LinearView:
        """Learn levels, means and deviations from people float64 ``(n, columns)``, missing numbers being NaN."""
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        numbers = [i for i in range(people.shape[1]) if i not in categorical]
        levels = OneHotEncoder(max_categories=LINEAR_LEVELS, handle_unknown="infrequent_if_exist")
        filled = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
        columns = ColumnTransformer([("levels", levels, categorical), ("numbers", filled, numbers)])
        return cls(columns.fit(people))

    def __call__(self, rows: np.ndarray) -> Any:
        """Return what is seen of rows ``(m, columns)``, an array or a sparse matrix ``(m, seen)``."""
        return self.columns.transform(rows)


@dataclass(frozen=True)
class Known:
    """Real people whom probes decide on, and what is known of them.

    Attributes
    ----------
    names : list of str
        Columns that are learned from.
    categorical : list of int
        Which of them have levels.
    people : np.ndarray
        As `as_numbers` makes them, float64 ``(n, columns)``.
    view : LinearView
        Learned from these people.
    """

    names: list[str]
    categorical: list[int]
    people: np.ndarray
    view: LinearView

    @classmethod
    def of(cls, table: Table, frame: pl.DataFrame) -> Known:
        """Take people, some of the rows of a table."""
        names = probe_columns(table)
        categorical, people = categorical_places(table, names), as_numbers(frame, names)
        return cls(names, categorical, people, LinearView.of(people, categorical))

    @cached_property
    def seen(self) -> Any:
        """What a linear model sees of them."""
        return self.view(self.people)

    def numbers(self, frame: pl.DataFrame) -> np.ndarray:
        """Return the same columns of other rows, as `as_numbers` does."""
        return as_numbers(frame, self.names)


def linear_decisions(rows: Any, labels: np.ndarray, people: Any) -> np.ndarray:
    """Train a logistic regression on rows, and return what it says of people.

    These are log odds of a favorable label, float64 ``(n,)``, or scores of several labels ``(n, labels)``. Arguments as
    of `boosted_decisions`, rows and people as a `LinearView` sees them.
    """
    from sklearn.linear_model import LogisticRegression

    linear = LogisticRegression(max_iter=200, tol=1e-3).fit(rows, labels)
    return np.asarray(linear.decision_function(people), dtype=np.float64)
