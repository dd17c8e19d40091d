"""The wrapped models are those of the evaluation, and rare groups are taken together."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fairsynth.data.table import Table
from fairsynth.errors import DataError
from fairsynth.evaluation.downstream import MODELS, Downstream, Task
from fairsynth.mitigators.grouping import RARE, PooledGroups
from fairsynth.mitigators.models import NetworkFeatures, TableModel


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("kind", ["small", "classes"])
def test_they_are_the_downstream_models_to_the_last_digit(
    request: pytest.FixtureRequest, family: str, kind: str
) -> None:
    table: Table = request.getfixturevalue(kind)
    task = Task.of(table.schema)
    theirs = Downstream(table.schema, table.frame, task).fit(family, table.frame, seed=3)
    ours = TableModel(table.schema, table.frame, task, family, seed=3)
    expected = theirs.predict(table.frame)
    assert np.array_equal(ours.fit(table.frame).class_probabilities(table.frame), expected)
    ones = ours.fit(table.frame, np.ones(len(table))).class_probabilities(table.frame)
    # A forest draws its rows by weight, and so others where weights are given.
    assert np.abs(ones - expected).mean() < (0.05 if family == "random_forest" else 1e-6)


@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_a_weight_of_two_is_the_row_twice(small: Table, family: str) -> None:
    task = Task.of(small.schema)
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 3, len(small))
    twice = small.frame[np.repeat(np.arange(len(small)), weights)]
    weighted = TableModel(small.schema, small.frame, task, family, seed=0)
    repeated = TableModel(small.schema, small.frame, task, family, seed=0)
    one = weighted.fit(small.frame, weights.astype(float)).class_probabilities(small.frame)
    other = repeated.fit(twice).class_probabilities(small.frame)
    # Trees count rows, not weights, before they split, so those agree roughly.
    assert np.abs(one - other).mean() < (1e-6 if family == "logistic_regression" else 0.08)
    assert np.abs(one - other).mean() < np.abs(one - one.mean(axis=0)).mean() / 3


def test_a_hidden_column_is_not_read(small: Table) -> None:
    task = Task.of(small.schema)
    model = TableModel(small.schema, small.frame, task, "lightgbm", seed=0, without=["club", "sex"]).fit(
        small.frame
    )
    assert set(model.features.columns) == {"income", "hours", "town"}
    turned = small.frame.with_columns(pl.col("club").reverse(), pl.col("sex").reverse())
    assert np.array_equal(model.class_probabilities(small.frame), model.class_probabilities(turned))


def test_networks_read_ranks_that_no_tail_stretches(small: Table) -> None:
    features = NetworkFeatures(small.schema, small.frame, Task.of(small.schema), without=["sex"])
    far = small.frame.with_columns(
        pl.when(pl.col("hours").is_null()).then(None).otherwise(10**9).alias("hours")
    )
    ranks, beyond = features(small.frame)[:, -2:], features(far)[:, -2:]
    assert np.isfinite(ranks).all() and np.abs(ranks).max() <= 3
    gone = small.frame["hours"].is_null().to_numpy()
    assert (ranks[gone, 1] == 0).all() and (beyond[~gone, 1] == 3).all()
    assert np.corrcoef(ranks[:, 0], np.argsort(np.argsort(small.frame["income"].to_numpy())))[0, 1] > 0.95


def test_rare_groups_share_a_place_and_unseen_ones_fall_into_it(joint: Table) -> None:
    groups = joint.groups()
    alone = {name for name, count in zip(groups.names, groups.counts, strict=True) if count >= 40}
    pooled = PooledGroups.learn(joint, minimum=40)
    assert set(pooled.names) == alone | {RARE}
    assert set(pooled.rare) == set(groups.names[g] for g in np.flatnonzero(groups.counts)) - alone
    codes = pooled.codes(joint)
    for row in range(0, len(joint), 7):
        name = groups.names[groups.codes[row]]
        assert pooled.names[codes[row]] == (name if name in alone else RARE)
    without = joint.replace(joint.frame.filter(pl.col("race") != "a"))
    learned = PooledGroups.learn(without, minimum=40)
    strangers = joint.replace(joint.frame.filter(pl.col("race") == "a"))
    assert (learned.codes(strangers) == learned.names.index(RARE)).all()


def test_too_few_rare_people_are_counted_with_the_largest_group(joint: Table) -> None:
    few = joint.replace(joint.frame.filter((pl.col("race") != "e") | (pl.int_range(pl.len()) < 60)))
    groups = few.groups()
    smallest = groups.counts[groups.counts > 0].min()
    pooled = PooledGroups.learn(few, minimum=int(smallest) + 1)
    rare = int(sum(groups.counts[list(groups.names).index(name)] for name in pooled.rare))
    if rare < pooled.minimum:
        assert RARE not in pooled.names
        largest = groups.names[int(groups.counts.argmax())]
        assert pooled.places[pooled.rare[0]] == pooled.names.index(largest)
    with pytest.raises(DataError, match="lower minimum_group"):
        PooledGroups.learn(joint, minimum=10_000)


def test_a_group_of_one_kind_of_labels_does_not_stand_alone(joint: Table) -> None:
    women = (pl.col("sex") == "woman") & (pl.col("race") == "a")
    denied = joint.replace(
        joint.frame.with_columns(
            pl.when(women).then(pl.lit("no")).otherwise(pl.col("paid").cast(pl.String))
            .cast(joint.frame["paid"].dtype).alias("paid")
        )
    )  # fmt: skip
    assert "woman × a" in PooledGroups.learn(denied, minimum=20).names
    assert "woman × a" in PooledGroups.learn(denied, minimum=20, favorable=denied.favorable()).rare
