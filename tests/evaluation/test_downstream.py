"""Downstream models: probabilities, missing classes, constant predictors, numbers as targets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from fairsynth.data.table import Table
from fairsynth.errors import DataError, SettingsError
from fairsynth.evaluation.downstream import MODELS, Downstream, Task, constant_model
from fairsynth.metrics.utility import auroc


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_and_gives_probabilities(train: Table, test: Table, name: str) -> None:
    task = Task.of(train.schema)
    model = Downstream(train.schema, train.frame, task).fit(name, train.frame)
    prediction = model.predict(test.frame)
    assert prediction.shape == (len(test), 2)
    np.testing.assert_allclose(prediction.sum(axis=1), 1)
    assert auroc(test.favorable(), task.probability(prediction)) > 0.85
    assert np.array_equal(task.decision(prediction), task.probability(prediction) >= 0.5)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_model(train: Table, test: Table, name: str) -> None:
    make = Downstream(train.schema, train.frame, Task.of(train.schema))
    a, b = (make.fit(name, train.frame, seed=3).predict(test.frame) for _ in range(2))
    assert np.array_equal(a, b)


@pytest.mark.parametrize("name", MODELS)
def test_one_class_only_is_a_constant_and_says_so(train: Table, test: Table, name: str) -> None:
    only = train.frame.filter(pl.col("paid") == "no")
    model = Downstream(train.schema, train.frame, Task.of(train.schema)).fit(name, only)
    assert model.note == "trained on rows of one class only"
    assert (model.predict(test.frame) == [1.0, 0.0]).all()


@pytest.mark.parametrize("name", MODELS)
def test_a_class_that_the_synthetic_rows_lack_gets_probability_zero(
    biased: Callable[..., pl.DataFrame], name: str
) -> None:
    frame = biased(900, 0).with_columns(
        grade=pl.when(pl.col("skill") > 0.5)
        .then(pl.lit("A"))
        .when(pl.col("skill") > -0.5)
        .then(pl.lit("B"))
        .otherwise(pl.lit("C"))
    )
    table = Table(frame, target="grade", favorable=["A", "B"], sensitive=["sex"])
    task = Task.of(table.schema)
    assert (task.kind, task.levels, task.favorable) == ("multiclass", ("A", "B", "C"), (0, 1))
    lacking = table.frame.filter(pl.col("grade") != "B")
    prediction = Downstream(table.schema, table.frame, task).fit(name, lacking).predict(table.frame)
    assert prediction.shape == (900, 3)
    assert (prediction[:, 1] == 0).all()
    assert (task.decision(prediction) == (prediction.argmax(axis=1) != 2)).all()


@pytest.mark.parametrize("name", MODELS)
def test_a_number_as_target_is_a_regression(biased: Callable[..., pl.DataFrame], name: str) -> None:
    frame = biased(900, 0).with_columns(pay=(3 * pl.col("skill") + pl.col("hours")).round(2))
    table = Table(frame, target="pay", sensitive=["sex"])
    task = Task.of(table.schema)
    assert task.kind == "regression"
    prediction = Downstream(table.schema, table.frame, task).fit(name, table.frame).predict(table.frame)
    assert np.corrcoef(prediction, frame["pay"])[0, 1] > 0.95


def test_the_constant_predictor_gives_the_shares(train: Table, test: Table) -> None:
    task = Task.of(train.schema)
    prediction = constant_model(task, task.values(train.frame, train.schema)).predict(test.frame)
    assert len(np.unique(prediction, axis=0)) == 1
    assert task.probability(prediction)[0] == pytest.approx(train.favorable().mean())


def test_missing_numbers_and_levels_are_learned_not_dropped(test: Table, train: Table) -> None:
    """Missing decides the label here: a model that imputes cannot know."""
    frame = train.frame.with_columns(
        town=pl.when(pl.col("paid") == "yes").then(pl.lit(None)).otherwise(pl.col("town"))
    )
    known = frame.filter(pl.col("town").is_not_null() | (pl.col("paid") == "yes"))
    task = Task.of(train.schema)
    make = Downstream(train.schema, train.frame, task)
    for name in MODELS:
        found = task.decision(make.fit(name, known).predict(known))
        assert (found == task.is_favorable(task.values(known, train.schema))).mean() > 0.99, name


def test_what_cannot_be_learned_is_said(train: Table) -> None:
    with pytest.raises(SettingsError, match="xgboost"):
        Downstream(train.schema, train.frame, Task.of(train.schema)).fit("xgboost", train.frame)
    with pytest.raises(DataError, match="favorable value"):
        Task.of(train.schema.revised(favorable=()))
    with pytest.raises(DataError, match="no target"):
        Task.of(train.schema.revised(favorable=(), target=""))
