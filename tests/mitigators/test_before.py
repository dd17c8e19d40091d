"""Methods that change the rows: reweighing, correlation remover, repair, prototypes, FairDisCo."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
import torch
from fairlearn.preprocessing import CorrelationRemover, PrototypeRepresentationLearner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from fairsynth.data.table import Table
from fairsynth.errors import FairsynthWarning
from fairsynth.fairness import Fairness
from fairsynth.metrics import fairness as measures
from fairsynth.metrics.utility import auroc
from fairsynth.mitigators.base import Mitigator
from fairsynth.mitigators.correlation_remover import CorrelationRemoval
from fairsynth.mitigators.disparate_impact import DisparateImpactRepair, LevelRepair, NumberRepair
from fairsynth.mitigators.fairdisco import FairDisCoRepresentation
from fairsynth.mitigators.models import BaseModel
from fairsynth.mitigators.prototypes import Loss, PrototypeRepresentation, memberships
from fairsynth.mitigators.reweighing import Reweighing, reweighing

Make = Callable[..., Mitigator]
Biased = tuple[Table, Table]


def dpr(mitigator: Mitigator, test: Table) -> float:
    return measures.demographic_parity_ratio(mitigator.predict(test), test.groups().codes)


# ---------------------------------------------------------------------- reweighing
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=200))
@settings(max_examples=60, deadline=None)
def test_weighted_label_and_group_are_independent(rows: list[tuple[int, int]]) -> None:
    every = [(y, s) for y in range(3) for s in range(4)]
    labels, groups = np.array([*every, *rows]).T
    weights = reweighing(labels, groups)
    joint = np.zeros((3, 4))
    np.add.at(joint, (labels, groups), weights)
    share = np.bincount(labels)[:, None] * np.bincount(groups)[None] / len(labels)
    assert np.allclose(joint, share), "every cell weighs what independence gives it"
    assert weights.sum() == pytest.approx(len(labels))


def test_the_weights_of_the_paper() -> None:
    # Kamiran and Calders' example: ten people, of each sex five, four men and two women accepted.
    accepted = np.array([1, 1, 1, 1, 0, 1, 1, 0, 0, 0])
    woman = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    weights = reweighing(accepted, woman)
    assert weights[0] == pytest.approx(0.75) and weights[4] == pytest.approx(2.0)
    assert weights[5] == pytest.approx(1.5) and weights[9] == pytest.approx(2 / 3)


def test_reweighing_makes_a_model_fairer_as_its_strength_rises(biased: Biased) -> None:
    train, test = biased
    rates = [
        dpr(Reweighing(fairness=Fairness(strength=t), base="logistic_regression").fit(train), test)
        for t in (0.0, 0.5, 1.0)
    ]
    assert rates[0] < rates[1] < rates[2] and rates[2] > rates[0] + 0.15
    assert np.array_equal(Reweighing(fairness=Fairness(strength=0)).fit(train).weights_, np.ones(len(train)))


# ---------------------------------------------------------------------- correlation remover
def correlations(matrix: np.ndarray, groups: np.ndarray) -> float:
    spread = matrix.std(axis=0)
    columns = matrix[:, spread > 1e-9]
    found = [np.corrcoef(c, groups == g)[0, 1] for c in columns.T for g in np.unique(groups)]
    return float(np.abs(found).max())


def test_what_is_left_is_uncorrelated_with_every_group(joint: Table) -> None:
    mitigator = CorrelationRemoval(minimum_group=1).fit(joint)
    groups = joint.groups().codes
    assert correlations(mitigator.transform(joint), groups) < 1e-7
    untouched = CorrelationRemoval(minimum_group=1, fairness=Fairness(strength=0)).fit(joint)
    assert correlations(untouched.transform(joint), groups) > 0.3
    assert np.array_equal(untouched.transform(joint), untouched.features_(joint.frame))


def test_it_is_fairlearns_correlation_remover(biased: Biased) -> None:
    train, test = biased
    mitigator = CorrelationRemoval(fairness=Fairness(strength=0.7)).fit(train)

    def together(table: Table) -> np.ndarray:
        sex = (table.frame["sex"] == "man").to_numpy().astype(float)
        return np.column_stack([sex, mitigator.features_(table.frame)])

    theirs = CorrelationRemover(sensitive_feature_ids=[0], alpha=0.7).fit(together(train))
    assert np.allclose(mitigator.transform(test), theirs.transform(together(test)))


# ---------------------------------------------------------------------- repair
def uneven(n: int = 4000, seed: int = 0) -> Table:
    """Return a table whose columns of every kind tell the group, with atoms, missing values and a rare group."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b", "c"], p=[0.5, 0.4, 0.1], size=n)
    shift = np.select([group == "a", group == "b"], [0.0, 1.0], 3.0)
    gain = np.where(rng.random(n) < 0.9 - 0.2 * shift, 0.0, rng.lognormal(3 + shift, 1, n))
    hours = (30 + 5 * shift + 8 * rng.normal(size=n)).round().astype(int).astype(object)
    hours[rng.random(n) < 0.1] = None
    grade = np.clip(np.round(2 + shift / 2 + rng.normal(size=n)), 0, 4).astype(int)
    frame = pl.DataFrame(
        {
            "gain": gain,
            "score": rng.normal(size=n) * (1 + shift) + shift,
            "hours": pl.Series(hours.tolist(), dtype=pl.Int64),
            "since": [
                datetime(2020, 1, 1) + timedelta(days=int(d)) for d in 100 * shift + rng.integers(0, 400, n)
            ],
            "grade": [f"g{g}" for g in grade],
            "club": np.where(rng.random(n) < 0.2 + 0.25 * shift, "golf", "chess"),
            "owner": rng.random(n) < 0.2 + 0.2 * shift,
            "group": group,
            "paid": np.where(rng.random(n) < 0.3 + 0.1 * shift, "yes", "no"),
        }
    )
    return Table(
        frame, target="paid", favorable="yes", sensitive=["group"],
        kinds={"grade": {"kind": "categorical", "levels": [f"g{i}" for i in range(5)], "ordered": True}},
    )  # fmt: skip


def numbers(table: Table, name: str) -> np.ndarray:
    series = table.frame[name]
    if series.dtype == pl.Boolean:
        return series.cast(pl.Int8).to_numpy()
    return series.drop_nulls().to_physical().to_numpy()


def worst_ks(table: Table, name: str) -> float:
    parts = [numbers(table.replace(part), name) for part in table.frame.partition_by("group")]
    return max(ks_2samp(a, b).statistic for i, a in enumerate(parts) for b in parts[:i])


COLUMNS = ("gain", "score", "hours", "since", "grade", "club", "owner")


def test_level_1_makes_every_columns_law_the_same_in_all_groups_and_level_0_changes_nothing() -> None:
    train = uneven()
    fresh = train.align(uneven(seed=1).native())
    whole = DisparateImpactRepair(base="logistic_regression").fit(train)
    half = DisparateImpactRepair(base="logistic_regression", fairness=Fairness(strength=0.5)).fit(train)
    none = DisparateImpactRepair(base="logistic_regression", fairness=Fairness(strength=0)).fit(train)
    repaired, between = whole.transform(train), half.transform(train)
    for name in COLUMNS:
        before = worst_ks(train, name)
        assert before > 0.25, name
        # Draws within atoms and of levels are draws: the smallest group has 400 people.
        assert worst_ks(repaired, name) < 0.07, name
        assert worst_ks(whole.transform(fresh), name) < 0.12, name
        assert 0.07 < worst_ks(between, name) < before, name
    assert none.transform(train).frame.equals(train.frame)
    for name in ("group", "paid"):
        assert repaired.frame[name].equals(train.frame[name])
    assert repaired.frame["hours"].is_null().equals(train.frame["hours"].is_null())


def test_ranks_within_a_group_stay() -> None:
    train = uneven()
    repaired = DisparateImpactRepair(base="logistic_regression").fit(train).transform(train)
    for old, new in zip(train.frame.partition_by("group"), repaired.frame.partition_by("group"), strict=True):
        order = np.argsort(old["score"].to_numpy())
        assert (np.diff(new["score"].to_numpy()[order]) >= 0).all()


def test_the_common_law_is_the_median_of_the_groups() -> None:
    column = np.concatenate([np.arange(100.0), 100 + np.arange(100.0), 1000 + np.arange(100.0)])
    groups = np.repeat([0, 1, 2], 100)
    repair = NumberRepair.learn(column, groups, 3)
    out = repair.repair(column, groups, 1.0, np.random.default_rng(0))
    assert np.allclose(out, np.tile(100 + np.arange(100.0), 3), atol=1.01), "the middle group is left alone"
    half = repair.repair(column, groups, 0.5, np.random.default_rng(0))
    assert np.allclose(half, (column + out) / 2)


def test_levels_are_moved_as_rarely_as_possible() -> None:
    codes = np.repeat([0, 1, 0, 1], [600, 400, 200, 800])
    groups = np.repeat([0, 1], 1000)
    repair = LevelRepair.learn(codes, groups, 2, 3)
    out = repair.repair(codes, groups, 1.0, np.random.default_rng(0))
    shares = [np.mean(out[groups == g] == 0) for g in (0, 1)]
    assert shares == pytest.approx([0.4, 0.4], abs=0.05)
    assert np.mean(out != codes) == pytest.approx(0.2, abs=0.03), "total variation is what has to move"
    assert (out[codes == 1][groups[codes == 1] == 0] == 1).all(), "a level that is to gain keeps its people"


@pytest.mark.parametrize("what", ["keep", "drop"])
def test_levels_can_be_kept_or_hidden(what: str) -> None:
    train = uneven()
    mitigator = DisparateImpactRepair(categorical=what, base="logistic_regression").fit(train)
    assert mitigator.transform(train).frame["club"].equals(train.frame["club"])
    assert ("club" in mitigator.model_.features.columns) is (what == "keep")
    assert "group" not in mitigator.model_.features.columns


# ---------------------------------------------------------------------- prototypes
def tiny_problem(n: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    s = rng.integers(0, 2, n)
    x = np.column_stack([rng.normal(size=n) + s, rng.normal(size=n), 0.5 * rng.normal(size=n) - s])
    return x, (x[:, 0] + x[:, 1] + 0.5 * rng.normal(size=n) > 0.5).astype(np.int64), s


def test_the_loss_is_fairlearns_and_is_minimised_as_well() -> None:
    x, y, s = tiny_problem(80)
    theirs = PrototypeRepresentationLearner(
        n_prototypes=3,
        reconstruct_weight=0.1,
        target_weight=1.0,
        fairness_weight=5.0,
        random_state=0,
        max_iter=25,
    ).fit(x, y, sensitive_features=s)
    assert np.allclose(memberships(x, theirs.prototypes_, theirs.alpha_), theirs.transform(x), atol=1e-6)
    loss = Loss(
        x, y, s, np.zeros(len(x), dtype=np.int64), n_classes=2, weights=(0.1, 1.0, 5.0), n_prototypes=3
    )
    share = np.clip(theirs.coef_, 1e-9, 1 - 1e-9)
    logits = np.column_stack([np.log(1 - share), np.log(share)])
    at_theirs, _ = loss(loss.pack(theirs.prototypes_, logits, theirs.alpha_))
    member = theirs.transform(x)
    chance = np.clip(member @ theirs.coef_, 1e-12, 1)
    by_hand = (
        0.1 * ((x - member @ theirs.prototypes_) ** 2).sum(axis=1).mean()
        - np.mean(y * np.log(chance) + (1 - y) * np.log(1 - chance))
        + 5.0 * np.abs(member[s == 0].mean(axis=0) - member[s == 1].mean(axis=0)).mean()
    )
    assert at_theirs == pytest.approx(by_hand, rel=1e-6)


def test_its_gradient_is_that_of_finite_differences() -> None:
    x, y, s = tiny_problem(60)
    loss = Loss(x, y, s, y, n_classes=2, weights=(0.1, 1.0, 5.0), n_prototypes=2)
    at = np.random.default_rng(1).normal(size=2 * 3 + 2 * 2 + 3)
    at[-3:] = np.abs(at[-3:]) + 0.1
    _, gradient = loss(at)
    step = 1e-6
    numeric = [(loss(at + step * e)[0] - loss(at - step * e)[0]) / (2 * step) for e in np.eye(len(at))]
    assert np.allclose(gradient, numeric, atol=1e-5)


def test_memberships_tell_the_group_less_as_the_weight_rises(biased: Biased) -> None:
    train, test = biased
    sex = train.groups().codes
    gaps = []
    for strength in (0.0, 1.0):
        mitigator = PrototypeRepresentation(
            fairness=Fairness(strength=strength),
            n_prototypes=4,
            max_iter=60,
            max_rows=800,
            base="logistic_regression",
        ).fit(train)
        member = mitigator.transform(train)
        assert np.allclose(member.sum(axis=1), 1)
        gaps.append(np.abs(member[sex == 0].mean(axis=0) - member[sex == 1].mean(axis=0)).max())
    assert gaps[1] < gaps[0] / 2
    assert dpr(mitigator, test) > 0.6


# ---------------------------------------------------------------------- FairDisCo
def read(z: np.ndarray, codes: np.ndarray) -> float:
    """Return the AUC with which a model of trees reads the group on other rows."""
    reader = BaseModel("lightgbm").fit(z[::2], codes[::2])
    return auroc(codes[1::2] == codes.max(), reader.predict_proba(z[1::2])[:, 1])


@pytest.fixture
def some_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from fairsynth.generators import fairvae

    monkeypatch.setattr(fairvae, "MIN_STEPS", 150)


@pytest.mark.usefixtures("some_steps")
def test_the_representation_hides_the_group(biased: Biased) -> None:
    train, test = biased
    sex = test.groups().codes
    found = {}
    for weight in (0.0, 6.0):
        mitigator = FairDisCoRepresentation(
            penalty_weight=weight, latent_dim=4, epochs=1, base="logistic_regression"
        ).fit(train)
        rate = measures.demographic_parity_difference(mitigator.predict(test), sex)
        found[weight] = (read(mitigator.transform(test), sex), rate)
        assert np.mean(mitigator.predict(test) == test.favorable()) > 0.6
        # The teacher's encoder sees the label; one that travelled along would be read without error.
        assert np.mean(mitigator.predict(test) == test.favorable()) < 0.9
    assert found[6.0][0] < found[0.0][0] - 0.1 and found[6.0][1] < found[0.0][1] / 2


@pytest.mark.usefixtures("some_steps")
def test_means_tell_what_draws_hide_so_draws_it_is(biased: Biased) -> None:
    train, test = biased
    with pytest.warns(FairsynthWarning, match=r"tells nothing of 'paid' .* lower the strength"):
        mitigator = FairDisCoRepresentation(
            penalty_weight=100.0, latent_dim=4, epochs=1, base="logistic_regression"
        ).fit(train)
    net = mitigator.autoencoder_.net_
    states = torch.from_numpy(net.layout.encoder.encode(test).astype(np.int64))
    means = net.encoder(states)[0].detach().double().numpy()
    sex = test.groups().codes
    assert read(means, sex) > 0.8
    assert read(mitigator.transform(test), sex) < 0.6
