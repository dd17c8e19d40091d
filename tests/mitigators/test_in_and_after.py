"""Methods that change the training or the decisions: reductions, adversary, thresholds, distillation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.reductions import DemographicParity, ExponentiatedGradient, GridSearch
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier

from fairsynth.data.table import Table
from fairsynth.errors import SettingsError
from fairsynth.fairness import Fairness
from fairsynth.metrics import fairness as measures
from fairsynth.mitigators import adversarial, distillation
from fairsynth.mitigators.adversarial import AdversarialDebiasing, combined
from fairsynth.mitigators.base import Mitigator
from fairsynth.mitigators.distillation import Cells, FairDistillation, partial_sums, reversed_gradient
from fairsynth.mitigators.models import BaseModel
from fairsynth.mitigators.plain import Unmitigated
from fairsynth.mitigators.reductions import ExponentiatedGradientReduction, GridSearchReduction
from fairsynth.mitigators.thresholds import GroupThresholds

Biased = tuple[Table, Table]
Make = Callable[..., Mitigator]
LINEAR: dict[str, Any] = {"base": "logistic_regression"}


def gap(mitigator: Mitigator, test: Table) -> float:
    return measures.demographic_parity_difference(mitigator.predict(test), test.groups().codes)


def odds_gap(mitigator: Mitigator, test: Table) -> float:
    return measures.equalized_odds_difference(test.favorable(), mitigator.predict(test), test.groups().codes)


def accuracy(mitigator: Mitigator, test: Table) -> float:
    return float(np.mean(mitigator.predict(test) == test.favorable()))


# ---------------------------------------------------------------------- reductions
def test_exponentiated_gradient_is_fairlearns(biased: Biased) -> None:
    train, test = biased
    ours = ExponentiatedGradientReduction(max_iter=8, seed=5, **LINEAR).fit(train)
    x, codes = ours.features_(train.frame), train.groups().codes
    theirs = ExponentiatedGradient(
        BaseModel("logistic_regression", seed=5),
        DemographicParity(difference_bound=0.01),
        eps=0.01,
        max_iter=8,
    ).fit(x, train.favorable().astype(int), sensitive_features=codes)
    decided = theirs.predict(ours.features_(test.frame), random_state=5)
    assert np.array_equal(ours.predict(test), decided == 1)
    assert np.array_equal(ours.predict(test), ours.predict(test))


def test_exponentiated_gradient_meets_the_constraint_it_was_given(biased: Biased) -> None:
    train, test = biased
    plain = Unmitigated(**LINEAR).fit(train)
    gaps = []
    for strength in (1.0, 0.5, 0.0):
        mitigator = ExponentiatedGradientReduction(
            max_iter=20, fairness=Fairness(strength=strength), **LINEAR
        )
        chance = mitigator.fit(train).predict_proba(train)
        codes = train.groups().codes
        rates = np.array([chance[codes == g].mean() for g in np.unique(codes)])
        assert np.abs(rates - chance.mean()).max() < mitigator.violation_allowed_ + 0.03
        gaps.append(gap(mitigator, test))
    assert gaps[0] < gaps[1] < gaps[2] and gaps[2] == pytest.approx(gap(plain, test), abs=0.06)
    odds = ExponentiatedGradientReduction(max_iter=20, fairness=Fairness("equalized_odds"), **LINEAR).fit(
        train
    )
    assert odds_gap(odds, test) < odds_gap(plain, test) - 0.05


def test_grid_search_is_fairlearns(biased: Biased) -> None:
    train, test = biased
    ours = GridSearchReduction(grid_size=7, **LINEAR).fit(train)
    theirs = GridSearch(
        BaseModel("logistic_regression"),
        DemographicParity(),
        grid_size=7,
        grid_limit=2.0,
        constraint_weight=0.5,
    ).fit(ours.features_(train.frame), train.favorable().astype(int), sensitive_features=train.groups().codes)
    assert np.array_equal(ours.predict(test), theirs.predict(ours.features_(test.frame)) == 1)
    assert gap(ours, test) < gap(Unmitigated(**LINEAR).fit(train), test)


def test_a_grid_of_too_many_constraints_is_refused(joint: Table) -> None:
    with pytest.raises(SettingsError, match=r"grid_size=20 is too few .* take exponentiated-gradient"):
        GridSearchReduction(minimum_group=5, fairness=Fairness("equalized_odds"), **LINEAR).fit(joint)


def test_where_a_grid_ends_in_one_answer_for_all_it_still_decides(biased: Biased) -> None:
    train, test = biased
    mitigator = GridSearchReduction(grid_size=3, **LINEAR).fit(train)
    for answer in (0, 1):  # fairlearn's own stand-in, which knows one class only
        only = DummyClassifier(strategy="constant", constant=answer).fit([[0.0]], [answer])
        mitigator.parts_ = [(1.0, only)]
        assert (mitigator.predict_proba(test) == answer).all()


# ---------------------------------------------------------------------- thresholds
class Known(BaseEstimator):
    """What a direct user of fairlearn would write: scores of the plain model."""

    classes_ = np.array([0, 1])

    def fit(self, x: Any, y: Any) -> Known:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("criterion", ["demographic_parity", "equalized_odds", "equal_opportunity"])
def test_threshold_optimizer_is_fairlearns(biased: Biased, criterion: str) -> None:
    train, test = biased
    plain = Unmitigated().fit(train)
    ours = GroupThresholds(fairness=Fairness(criterion), seed=9).fit(train)
    theirs = ThresholdOptimizer(
        estimator=Known(),
        constraints="true_positive_rate_parity" if criterion == "equal_opportunity" else criterion,
        prefit=True,
        predict_method="predict",
    ).fit(
        plain.predict_proba(train)[:, None],
        train.favorable().astype(int),
        sensitive_features=train.frame["sex"].to_numpy(),
    )
    decided = theirs.predict(
        plain.predict_proba(test)[:, None], sensitive_features=test.frame["sex"].to_numpy(), random_state=9
    )
    assert np.array_equal(ours.predict(test), decided == 1)


def test_thresholds_meet_their_criterion_on_new_people(biased: Biased) -> None:
    train, test = biased
    plain = Unmitigated(**LINEAR).fit(train)
    assert gap(plain, test) > 0.3 and odds_gap(plain, test) > 0.15
    assert gap(GroupThresholds(**LINEAR).fit(train), test) < 0.06
    odds = GroupThresholds(fairness=Fairness("equalized_odds"), **LINEAR).fit(train)
    assert odds_gap(odds, test) < odds_gap(plain, test) - 0.05


@pytest.mark.parametrize("criterion", ["demographic_parity", "equalized_odds"])
def test_the_strength_lies_between_the_plain_model_and_the_criterion(biased: Biased, criterion: str) -> None:
    train, test = biased
    plain = Unmitigated(**LINEAR).fit(train)
    found = [
        GroupThresholds(fairness=Fairness(criterion, strength), **LINEAR).fit(train)
        for strength in (0.0, 0.5, 1.0)
    ]
    judge = gap if criterion == "demographic_parity" else odds_gap
    values = [judge(mitigator, test) for mitigator in found]
    assert values[0] > values[1] > values[2]
    assert judge(plain, test) == pytest.approx(values[0], abs=0.06)


def test_rare_groups_share_a_threshold_and_unseen_ones_are_not_denied(joint: Table) -> None:
    known = joint.replace(joint.frame.filter(pl.col("race") != "a"))
    mitigator = GroupThresholds(minimum_group=30, **LINEAR).fit(known)
    assert 2 <= len(mitigator.groups_) < 8 and mitigator.groups_.rare
    strangers = joint.replace(joint.frame.filter(pl.col("race") == "a"))
    assert mitigator.predict(strangers).any(), "fairlearn favors nobody of a group that it has not seen"


def test_a_holdout_keeps_the_thresholds_off_the_rows_that_were_learned(biased: Biased) -> None:
    train, test = biased
    assert gap(GroupThresholds(holdout=0.3).fit(train), test) < 0.12
    with pytest.raises(SettingsError, match="holdout=1"):
        GroupThresholds(holdout=1.0).fit(train)


@pytest.mark.slow
def test_thresholds_on_adult_give_what_fairlearn_gives(shared_data: Path) -> None:
    from fairsynth.data.catalog import load_dataset

    train, test = load_dataset("adult", folder=shared_data)
    schema = train.schema.revised(sensitive=("sex",))
    train, test = Table(train.native(), schema=schema), Table(test.native(), schema=schema)
    mitigator = GroupThresholds(seed=0).fit(train)
    decided, codes = mitigator.predict(test), test.groups().codes
    assert np.mean(decided == test.favorable()) == pytest.approx(0.848, abs=0.004)
    assert measures.demographic_parity_ratio(decided, codes) == pytest.approx(0.947, abs=0.025)


# ---------------------------------------------------------------------- adversarial
def test_the_step_is_orthogonal_to_the_adversary_but_for_the_push_against_it() -> None:
    rng = torch.Generator().manual_seed(0)
    own = tuple(torch.randn(shape, generator=rng) for shape in ((5, 4), (4,)))
    against = tuple(torch.randn(shape, generator=rng) for shape in ((5, 4), (4,)))
    step = combined(own, against, alpha=0.7)
    inner = sum(((a + 0.7 * b) * b).sum() for a, b in zip(step, against, strict=True))
    assert abs(float(inner)) < 1e-4
    # The inner product that fairlearn 0.15 takes of two matrices is another number.
    wrong, right = torch.inner(own[0], against[0]).sum(), (own[0] * against[0]).sum()
    assert abs(float(wrong - right)) > 1


def test_every_seed_is_a_start_of_its_own(biased: Biased, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversarial, "MIN_STEPS", 3)
    few = biased[0].replace(biased[0].frame.head(200))
    weights = [
        next(AdversarialDebiasing(epochs=0.1, seed=seed).fit(few).net_.parameters()).detach()
        for seed in (0, 0, 1)
    ]
    assert torch.equal(weights[0], weights[1])
    assert (weights[0] - weights[2]).abs().mean() > 0.02, "fairlearn 0.15 starts every seed alike"


def test_the_adversary_makes_decisions_fairer(biased: Biased) -> None:
    train, test = biased
    quick = {"epochs": 20, "batch_size": 256}
    plain = AdversarialDebiasing(fairness=Fairness(strength=0), **quick).fit(train)
    parity = AdversarialDebiasing(**quick).fit(train)
    odds = AdversarialDebiasing(fairness=Fairness("equalized_odds"), **quick).fit(train)
    assert accuracy(plain, test) > 0.8
    assert gap(parity, test) < gap(plain, test) - 0.12
    assert odds_gap(odds, test) < odds_gap(plain, test) - 0.08
    assert gap(parity, test) < gap(odds, test) - 0.05, "the criterion decides what the adversary may see"


# ---------------------------------------------------------------------- distillation
def test_cells_are_drawn_alike_however_rare() -> None:
    groups = np.array([0] * 900 + [1] * 95 + [2] * 5)
    within = np.tile([0, 1], 500)
    cells = Cells(groups, within, 40)
    drawn = cells.draw(torch.Generator().manual_seed(0)).numpy()
    assert drawn.shape == (6, 40)
    for (block, present, shares), value in zip(cells.blocks, (0, 1), strict=True):
        for place, g in enumerate(present.tolist()):
            own = drawn[block][place]
            assert (groups[own] == g).all() and (within[own] == value).all()
        assert shares.sum() == pytest.approx(1) and shares[0] > 0.85


def test_the_fairness_terms_are_what_they_say() -> None:
    groups = np.repeat([0, 1, 2], [500, 300, 200])
    cells = Cells(groups, np.zeros(1000, dtype=np.int64), 4)
    equal = torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1]])
    assert all(float(v) == pytest.approx(0, abs=1e-6) for v in cells.terms(equal).values())
    unequal = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    terms = {name: float(value) for name, value in cells.terms(unequal).items()}
    rates, shares = np.array([1.0, 0.5, 0.25]), np.array([0.5, 0.3, 0.2])
    overall = shares @ rates
    assert terms["variance"] == pytest.approx(np.var(rates / overall), rel=1e-5)
    assert terms["gap"] == pytest.approx(0.75 / overall, rel=1e-5)
    assert terms["square"] == pytest.approx(shares @ (rates / overall - 1) ** 2, rel=1e-5)
    # The same people, every group as often as it is among them.
    people = np.repeat(groups[::100] * 0 + np.repeat([0, 1, 2], [5, 3, 2]), 4)
    decided = np.concatenate(
        [np.tile(unequal[g].numpy(), n) for g, n in zip(range(3), (5, 3, 2), strict=True)]
    )
    squares = [np.corrcoef(decided, people == g)[0, 1] ** 2 for g in range(3)]
    assert terms["correlation"] == pytest.approx(np.mean(squares), rel=1e-4)


def test_favoring_nobody_is_no_way_out() -> None:
    cells = Cells(np.repeat([0, 1], 50), np.zeros(100, dtype=np.int64), 2)
    much, little = torch.tensor([[0.8, 0.8], [0.4, 0.4]]), torch.tensor([[0.2, 0.2], [0.1, 0.1]])
    for name in ("variance", "gap", "square"):
        assert float(cells.terms(much)[name]) == pytest.approx(float(cells.terms(little)[name]), rel=1e-5)


def test_the_gradient_is_turned() -> None:
    x = torch.tensor([2.0, -1.0], requires_grad=True)
    out = reversed_gradient(x)
    assert torch.equal(out.detach(), x.detach())
    (out * torch.tensor([3.0, 5.0])).sum().backward()
    assert torch.equal(x.grad, torch.tensor([-3.0, -5.0]))


def test_the_teachers_representation_ends_in_its_own_score(small: Table) -> None:
    from fairsynth.evaluation.downstream import Task
    from fairsynth.mitigators.models import TableModel

    teacher = TableModel(small.schema, small.frame, Task.of(small.schema), "lightgbm", seed=0).fit(
        small.frame
    )
    sums = partial_sums(teacher, small)
    assert sums.shape == (len(small), distillation.PARTS)
    chance = teacher.class_probabilities(small.frame)[:, 1]
    odds = np.log(chance / (1 - chance))
    assert np.allclose(sums[:, -1], (odds - odds.mean()) / odds.std(), atol=1e-5)


def test_the_gap_between_joint_groups_falls_as_its_weight_rises(monkeypatch: pytest.MonkeyPatch) -> None:
    from toys import proxy_frame

    monkeypatch.setattr(distillation, "MIN_STEPS", 250)

    def people(seed: int) -> pl.DataFrame:
        frame, rng = proxy_frame(2500, seed), np.random.default_rng(seed + 100)
        frame = frame.with_columns(race=pl.Series(np.append(["c"] * 44, rng.choice(["a", "b"], size=2456))))
        # Those of race b are denied half of what they earned, those of race c (some forty) too.
        denied = (pl.col("race") != "a") & pl.Series(rng.random(2500) < 0.5)
        return frame.with_columns(pl.when(denied).then(pl.lit("no")).otherwise("paid").alias("paid"))

    train = Table(people(0), target="paid", favorable="yes", sensitive=["sex", "race"])
    test = train.align(people(1))
    gaps, right = [], []
    for strength in (0.0, 0.3, 1.0):
        student = FairDistillation(fairness=Fairness(strength=strength), epochs=1, cell_rows=64).fit(train)
        groups = test.groups()
        large = groups.counts[groups.codes] > 100
        gaps.append(measures.demographic_parity_difference(student.predict(test)[large], groups.codes[large]))
        right.append(accuracy(student, test))
    assert student.rare_groups_ and len(student.group_names_) == 5
    assert gaps[0] > gaps[1] + 0.05 > gaps[2] + 0.1, gaps
    assert right[0] > 0.7 and right[2] > 0.6


def test_tau_softens(small: Table) -> None:
    with pytest.raises(SettingsError, match="tau=1.0 must be above 1"):
        FairDistillation(tau=1.0).fit(small)
