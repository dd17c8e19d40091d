from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fairsynth.data.table import Table
from fairsynth.errors import SettingsError
from fairsynth.evaluation.downstream import Downstream, Task
from fairsynth.explain import SMALLEST_GROUP, Explanation, shap_importance


@pytest.fixture(scope="module")
def explained(real, altered) -> Explanation:
    return shap_importance(*real, altered["fresh"], max_people=400, seed=1)


def log_odds(downstream, frame, people, table):
    p = downstream.fit("lightgbm", frame, seed=1).predict(people)
    favorable = p[:, list(Task.of(table.schema).favorable)].sum(axis=1)
    return np.log(favorable / (1 - favorable))


def test_contributions_add_up_to_the_models_own_log_odds_of_the_favorable_outcome(real, altered, explained):
    train, _ = real
    downstream = Downstream(train.schema, train.frame, Task.of(train.schema))
    for source, table in {"real": train, "synthetic": altered["fresh"]}.items():
        score = explained.base[source] + explained.contributions[source].sum(axis=1)
        wanted = log_odds(downstream, table.frame, explained.people, train)
        np.testing.assert_allclose(score, wanted, atol=1e-6)


@pytest.mark.parametrize("favorable", ["yes", "no"])
def test_sign_follows_the_favorable_outcome(real, favorable):
    frame = real[0].frame.with_columns(pl.selectors.enum().cast(pl.String))
    table = Table(frame, target="approve", favorable=[favorable], sensitive=["sex"])
    found = shap_importance(table, table, table, max_people=300)
    income = found.people["income"].to_numpy()
    known = ~np.isnan(income)
    phi = found.contributions["real"][:, found.columns.index("income")]
    trend = np.corrcoef(income[known], phi[known])[0, 1]
    assert trend > 0.5 if favorable == "yes" else trend < -0.5


def test_agrees_with_the_shap_package(real):
    shap = pytest.importorskip("shap", reason="the extra 'explain' is not installed")
    train, test = real
    downstream = Downstream(train.schema, train.frame, Task.of(train.schema))
    fitted = downstream.fit("lightgbm", train.frame, seed=0)
    found = shap_importance(train, test, train, models={"real": fitted}, max_people=50)
    theirs = shap.TreeExplainer(fitted.estimator)(downstream.native(found.people)).values
    if theirs.ndim == 3:
        theirs = theirs[..., 1]
    np.testing.assert_allclose(found.contributions["real"], theirs, atol=1e-6)


def test_group_gap_is_the_gap_of_mean_scores_taken_apart(explained):
    codes, names = explained.groups["sex"]
    assert set(names) == {"man", "woman"}
    phi = explained.contributions["real"]
    by_column = phi[codes == 0].mean(axis=0) - phi[codes == 1].mean(axis=0)
    np.testing.assert_allclose(explained.group_gap("real", "sex"), np.abs(by_column))
    total = explained.base["real"] + phi.sum(axis=1)
    np.testing.assert_allclose(by_column.sum(), total[codes == 0].mean() - total[codes == 1].mean())


def test_the_planted_proxy_is_named(explained):
    gap = dict(zip(explained.columns, explained.group_gap("synthetic", "sex"), strict=True))
    del gap["sex"]
    assert max(gap, key=gap.__getitem__) == "hobby"


def test_shares_sum_to_one_and_persons_are_sorted(explained):
    assert explained.share("real").sum() == pytest.approx(1)
    steps = explained.person(3, "synthetic")
    weights = [abs(phi) for _, _, phi in steps]
    assert weights == sorted(weights, reverse=True)
    assert {c for c, _, _ in steps} == set(explained.columns)
    assert dict((c, v) for c, v, _ in steps)["age"] == explained.people["age"][3]


def test_constant_labels_drive_nothing(real, altered):
    found = shap_importance(*real, altered["constant"], max_people=100)
    assert not found.contributions["synthetic"].any()
    assert found.share("synthetic").sum() == 0
    assert found.rank_agreement("synthetic") is None
    assert "one class" in found.notes["synthetic"]


def test_the_same_rows_explain_alike(real):
    found = shap_importance(*real, {"synthetic:a": real[0]}, max_people=100)
    assert found.rank_agreement("synthetic:a") == pytest.approx(1)
    np.testing.assert_array_equal(found.contributions["real"], found.contributions["synthetic:a"])


def test_tiny_groups_have_no_gap(real):
    train, test = real
    few = train.replace(test.frame[: SMALLEST_GROUP - 1])
    found = shap_importance(train, few, train)
    assert np.isnan(found.group_gap("real", "sex")).all()
    assert not any(s.metric == "shap_group_gap" for s in found.to_scores())


def test_more_than_two_classes(real):
    rng = np.random.default_rng(0)
    x = rng.normal(size=600)
    frame = pl.DataFrame(
        {
            "x": x,
            "noise": rng.normal(size=600),
            "sex": rng.choice(["f", "m"], 600),
            "grade": np.where(x > 0.5, "a", np.where(x > -0.5, "b", "c")),
        }
    )
    table = Table(frame, target="grade", favorable=["a", "b"], sensitive=["sex"])
    found = shap_importance(table, table, table)
    assert found.columns[int(found.importance("real").argmax())] == "x"
    phi = found.contributions["real"][:, found.columns.index("x")]
    assert phi[x > 0].mean() > phi[x < -0.5].mean() + 1


def test_scores_are_complete(explained):
    scores = explained.to_scores()
    assert {s.metric for s in scores} == {
        "shap_importance",
        "shap_share",
        "shap_group_gap",
        "shap_rank_agreement",
    }
    assert all(s.section == "explanation" and s.model == "lightgbm" and s.n == 400 for s in scores)


def test_errors_say_what_to_do(explained):
    with pytest.raises(SettingsError, match="choose one of real, synthetic"):
        explained.person(0, "other")
    with pytest.raises(SettingsError, match="row=400 is not among the 400"):
        explained.person(400, "real")
