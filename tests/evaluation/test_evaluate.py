"""One call, end to end: the traps of published evaluations, and mutations that must each move their metric."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from fairsynth.data.table import Table
from fairsynth.errors import DataError, FairsynthWarning, SchemaError, SettingsError
from fairsynth.evaluation import equal_rates
from fairsynth.evaluation.evaluate import evaluate
from fairsynth.evaluation.result import Evaluation
from fairsynth.metrics import fairness

FAST = ("lightgbm", "logistic_regression")


@pytest.fixture(scope="module")
def good(train: Table, test: Table, fresh: Table) -> Evaluation:
    return evaluate(train, test, fresh, depth="core")


def judge(train: Table, test: Table, frame: pl.DataFrame, **settings: object) -> Evaluation:
    chosen = {"models": FAST, "depth": "quick", **settings}
    return evaluate(train, test, train.replace(frame), **chosen)


# ---------------------------------------------------------------------- what a perfect generator scores
def test_new_people_of_the_same_law_score_like_real_ones(good: Evaluation) -> None:
    for metric in ("auroc", "accuracy", "dpr"):
        assert good.value(metric) == pytest.approx(good.value(metric, "real"), abs=0.06), metric
    for metric in ("coverage", "c2st", "correlation_difference", "beta_recall", "membership_inference_auc"):
        assert good.value(metric) == pytest.approx(good.value(metric, "holdout"), abs=0.06), metric
    assert good.value("c2st") == pytest.approx(0.5, abs=0.06)
    share = good.score("dcr_share")
    assert share.low <= 0.5 <= share.high
    assert good.value("exact_copies") < 0.02
    assert good.value("relative_auroc") == pytest.approx(1.0, abs=0.03)


def test_every_number_about_rows_stands_beside_what_holdout_rows_score(good: Evaluation) -> None:
    own = {s.metric for s in good.scores_for(source="synthetic") if s.section in ("fidelity", "privacy")}
    base = {s.metric for s in good.scores_for(source="holdout")}
    assert own <= base
    models = {s.metric for s in good.scores_for(source="synthetic", section="utility") if s.model == "mean"}
    for metric in models - {m for m in models if m.startswith("relative_")}:
        assert good.score(metric, "real").value is not None
        assert good.score(metric, "constant").n == 1500


def test_no_value_is_silently_undefined(good: Evaluation) -> None:
    for s in good.scores:
        assert s.value is None or np.isfinite(s.value), s
        assert s.value is not None or s.note, s
        if s.low is not None and s.model is not None and s.metric in ("dpr", "auroc", "accuracy"):
            assert s.low <= s.value <= s.high, s
    for metric in (
        "auroc",
        "average_precision",
        "brier",
        "f1",
        "calibration_error",
        "calibration_gap",
        "tpr",
    ):
        some = good.scores_for(metric=metric, source="synthetic", model="mean")
        assert some and all(s.low is not None and s.low <= s.high for s in some if s.n != 0), metric


def test_the_mean_row_is_the_mean_over_the_models(good: Evaluation) -> None:
    for metric, attribute in (("auroc", None), ("dpr", "sex"), ("eor", "sex × race"), ("ftu", "race")):
        each = [good.value(metric, model=m, attribute=attribute) for m in good.meta["models"]]
        assert good.value(metric, attribute=attribute) == pytest.approx(np.mean(each))


def test_group_numbers_are_fairlearns_on_the_predictions(good: Evaluation, test: Table) -> None:
    fl = pytest.importorskip("fairlearn.metrics")
    chosen = good.artifacts["predictions"]["synthetic"]["lightgbm"][:, 1] >= 0.5
    y, sex = test.favorable(), test.groups(["sex"])
    expected = fl.demographic_parity_ratio(y, chosen, sensitive_features=sex.labels)
    assert good.value("dpr", model="lightgbm", attribute="sex") == pytest.approx(expected)
    odds = fl.equalized_odds_ratio(y, chosen, sensitive_features=sex.labels)
    assert good.value("eor", model="lightgbm", attribute="sex") == pytest.approx(odds)
    rate = chosen[sex.labels == "woman"].mean()
    assert good.value("selection_rate", model="lightgbm", attribute="sex", group="woman") == pytest.approx(
        rate
    )


def test_tiny_joint_groups_are_listed_but_do_not_decide_the_headline(good: Evaluation) -> None:
    headline = good.score("dpr", attribute="sex × race")
    assert "fewer than 100 people left out" in headline.note
    listed = good.scores_for(
        metric="selection_rate", source="synthetic", model="mean", attribute="sex × race"
    )
    assert len(listed) == 6
    tiny = [s for s in listed if s.n < 100]
    assert tiny and all("only" in s.note for s in tiny)
    worst = good.score("dpr_all_groups", attribute="sex × race")
    assert worst.value <= headline.value


# ---------------------------------------------------------------------- the traps of section 0
def test_trap_1_the_constant_predictor_is_reported_and_flagged(good: Evaluation) -> None:
    assert good.value("dpr", "constant") == good.value("eor", "constant") == 1.0
    assert good.value("auroc", "constant") == good.value("balanced_accuracy", "constant") == 0.5
    assert "useless" in good.score("dpr", "constant").note
    assert good.score("dpr").note is None or "useless" not in good.score("dpr").note


def test_trap_1_parity_is_measured_at_the_real_rate_as_well(
    good: Evaluation, train: Table, test: Table
) -> None:
    share = train.favorable().mean()
    probability = good.artifacts["predictions"]["synthetic"]["lightgbm"][:, 1]
    chosen = equal_rates.favored(probability, share)
    assert chosen.mean() == pytest.approx(share, abs=0.01)
    assert probability[chosen].min() > probability[~chosen].max()
    expected = fairness.demographic_parity_ratio(chosen, test.groups(["sex"]).codes)
    score = good.score("dpr_at_real_rate", model="lightgbm", attribute="sex")
    assert score.value == pytest.approx(expected)
    assert score.low <= score.value <= score.high
    assert good.value("dpr_at_real_rate", "constant", attribute="sex") == 1.0
    assert "100% by ties" in good.score("dpr_at_real_rate", "constant", attribute="sex").note


def test_trap_1_auroc_is_of_probabilities(good: Evaluation, test: Table) -> None:
    probability = good.artifacts["predictions"]["synthetic"]["lightgbm"][:, 1]
    hard = fairness.confusion_by_group(test.favorable(), probability >= 0.5, np.zeros(len(test), int))[0]
    of_labels = (hard[1, 1] / hard[1].sum() + hard[0, 0] / hard[0].sum()) / 2
    assert good.value("auroc", model="lightgbm") > of_labels + 0.03


def test_trap_2_parity_inside_the_table_proves_nothing(train: Table, test: Table) -> None:
    """Mutation "shuffled s": label parity is perfect, the models are as unfair as ever."""
    order = np.random.default_rng(0).permutation(len(train))
    shuffled = train.frame.with_columns(train.frame["sex"][order])
    found = judge(train, test, shuffled)
    assert found.value("label_parity_ratio", attribute="sex") > 0.85
    assert found.value("label_parity_ratio", "real", attribute="sex") < 0.6
    assert found.value("dpr", attribute="sex") < 0.5
    assert found.value("dpr", attribute="sex") == pytest.approx(
        found.value("dpr", "real", attribute="sex"), abs=0.15
    )
    leak, before = (found.value("leakage_auc", s, attribute="sex") for s in ("synthetic", "real"))
    assert leak < 0.6 < 0.85 < before


def test_the_proxy_is_named_first(good: Evaluation) -> None:
    ranked = [s.column for s in good.scores_for(metric="proxy_auc", source="real", attribute="sex")]
    assert ranked[0] == "club"
    assert good.value("proxy_auc", "real", attribute="sex", column="club") == pytest.approx(0.93, abs=0.02)


def test_trap_6_a_sensitive_column_of_one_level_is_an_error(train: Table, test: Table) -> None:
    one = train.replace(train.frame.filter(pl.col("sex") == "man"))
    with pytest.raises(DataError, match="'sex' has one level \\('man'\\) in the test rows"):
        evaluate(train, one, train)


def test_trap_7_the_synthetic_rows_are_never_their_own_test(train: Table, test: Table) -> None:
    """Labels that follow a rule of their own: perfect against a split of itself, useless on people."""
    odd = pl.when(pl.col("hours") % 2 == 0).then(pl.lit("yes")).otherwise(pl.lit("no"))
    own_rule = train.frame.with_columns(paid=odd.cast(train.frame["paid"].dtype))
    found = judge(train, test, own_rule)
    assert found.value("auroc") < 0.7 < 0.85 < found.value("auroc", "real")
    assert found.value("accuracy") < 0.6


# ---------------------------------------------------------------------- mutations
def test_trap_7_train_rows_are_no_test_either(
    train: Table, test: Table, fresh: Table, biased: Callable[..., pl.DataFrame]
) -> None:
    some = len(test) // 2
    mixed = train.replace(pl.concat([train.frame[:some], test.frame[:some]]))
    with pytest.warns(FairsynthWarning, match=r"5\d% of the real rows .* among those it was learned from"):
        said = evaluate(train, mixed, fresh, models=FAST, depth="quick")
    assert any("Test on rows that were held out" in note for note in said.meta["notes"])
    # Where few columns of few levels repeat anyway, it says nothing.
    people = [
        Table(biased(600, seed).drop("skill", "hours"), target="paid", favorable="yes", sensitive="sex")
        for seed in (0, 1, 2)
    ]
    found = evaluate(*people, models=FAST, depth="quick")
    assert found.value("exact_copies", "holdout") > 0.9 and not found.meta["notes"]


def test_mutation_a_copy_of_the_train_rows(train: Table, test: Table) -> None:
    found = judge(train, test, train.frame, depth="core")
    assert found.value("exact_copies") == 1.0
    assert found.score("dcr_share").low > 0.6
    assert found.value("membership_inference_auc") > 0.8
    assert found.value("authenticity") < 0.05 < found.value("authenticity", "holdout")
    assert found.value("near_copies") > 0.9
    assert found.value("nndr") < 0.2 < found.value("nndr", "holdout")
    assert found.value("c2st") == pytest.approx(0.5, abs=0.08)  # and a detective is none the wiser


def test_mutation_a_constant_label(train: Table, test: Table) -> None:
    dtype = train.frame["paid"].dtype
    found = judge(train, test, train.frame.with_columns(paid=pl.lit("no", dtype=dtype)))
    assert found.value("dpr", attribute="sex") == 1.0
    assert "one class only" in found.score("dpr", attribute="sex").note
    assert "useless" in found.score("dpr", attribute="sex").note
    assert found.value("balanced_accuracy") == 0.5
    assert found.value("auroc") == 0.5
    assert found.value("selection_rate") == 0.0
    assert found.value("total_variation", column="paid") > 0.3


def test_mutation_one_repeated_row(train: Table, test: Table) -> None:
    found = judge(train, test, train.frame[[5] * len(train)], depth="core")
    assert found.value("distinct_share") < 0.01
    assert found.value("coverage") < 0.05
    assert found.value("authenticity") == 0.0
    assert found.value("c2st") > 0.99
    assert found.value("exact_copies") == 1.0


def test_mutation_swapped_groups(train: Table, test: Table) -> None:
    """Every margin stays; who is favored changes places."""
    dtype = train.frame["sex"].dtype
    swapped = train.frame.with_columns(
        sex=pl.when(pl.col("sex") == "man").then(pl.lit("woman")).otherwise(pl.lit("man")).cast(dtype)
    )
    found = judge(train, test, swapped)
    for group, other in (("man", "woman"), ("woman", "man")):
        rate = found.value("label_rate", attribute="sex", group=group)
        assert rate == pytest.approx(found.value("label_rate", "real", attribute="sex", group=other))
    assert found.value("pair_association", column="club × sex") == pytest.approx(
        found.value("pair_association", "real", column="club × sex")
    )  # strength without direction does not see it
    assert found.value("c2st") > 0.8
    assert found.value("coverage") < 0.75 * found.value("coverage", "holdout")


def test_mutation_shifted_units(train: Table, test: Table) -> None:
    found = judge(train, test, train.frame.with_columns(hours=pl.col("hours") * 60))
    assert found.value("ks", column="hours") > 0.95
    assert found.value("wasserstein", column="hours") > 100
    assert found.value("coverage") < 0.05
    assert found.value("c2st") > 0.99
    columns = [max(g["columns"], key=g["columns"].get) for g in found.meta["giveaways"]["synthetic"]]
    assert set(columns) == {"hours"}


def test_mutation_missing_values_filled_in(train: Table, test: Table) -> None:
    found = judge(train, test, train.frame.with_columns(pl.col("town").fill_null("north")))
    assert found.value("missing_rate", column="town") == 0.0
    assert found.value("missing_rate", "holdout", column="town") > 0.02
    assert found.value("total_variation", column="town") > 0.03


def test_direct_use_of_the_attribute_is_seen_by_the_flips(train: Table, test: Table) -> None:
    dtype = train.frame["paid"].dtype
    decided = train.frame.with_columns(
        paid=pl.when(pl.col("sex") == "man").then(pl.lit("yes")).otherwise(pl.lit("no")).cast(dtype)
    )
    found = judge(train, test, decided)
    assert found.value("ftu", attribute="sex") > 0.95
    assert found.value("counterfactual_flip_rate", attribute="sex") > 0.95
    assert found.value("ftu", attribute="race") < 0.05
    assert found.value("ftu", "real", attribute="sex") < 0.3


# ---------------------------------------------------------------------- settings, repeats, comparison
def test_the_seed_decides_everything_and_threads_nothing(train: Table, test: Table, fresh: Table) -> None:
    state = np.random.get_state()[1].copy()
    a, b = (evaluate(train, test, fresh, depth="quick", seed=5, threads=t) for t in (1, 2))
    assert a.scores == b.scores
    assert np.array_equal(np.random.get_state()[1], state)


def test_repeats_give_a_real_spread(train: Table, test: Table, fresh: Table) -> None:
    found = judge(train, test, fresh.frame, repeats=2, models=("random_forest",), max_rows_distance=300)
    assert found.meta["seeds"] == [0, 1]
    single = [
        judge(train, test, fresh.frame, seed=s, models=("random_forest",), max_rows_distance=300).value(
            "auroc"
        )
        for s in range(2)
    ]
    score = found.score("auroc")
    assert score.value == pytest.approx(np.mean(single))
    assert score.std == pytest.approx(np.std(single, ddof=1))
    assert found.score("coverage").std > 0


def test_draws_of_one_generator_are_averaged(
    train: Table, test: Table, fresh: Table, biased: Callable
) -> None:
    other = train.align(biased(1500, 7))
    found = evaluate(train, test, [fresh, other], models=FAST, depth="quick")
    assert found.score("auroc").std > 0
    assert found.meta["rows"]["synthetic"] == [1500, 1500]


def test_several_tables_are_compared_with_one_set_of_baselines(
    train: Table, test: Table, fresh: Table
) -> None:
    tables = {"good": fresh, "copy": train}
    found = evaluate(train, test, tables, models=FAST, depth="quick")
    assert [s for s in found.sources if s.startswith("synthetic")] == ["synthetic:good", "synthetic:copy"]
    assert found.value("exact_copies", "synthetic:copy") == 1.0
    assert found.value("exact_copies", "synthetic:good") < 0.02
    assert len(found.scores_for(metric="coverage", source="holdout")) == 1
    with pytest.raises(SettingsError, match="synthetic:good"):
        found.value("dpr")


def test_any_frame_will_do_and_repairs_are_counted(train: Table, test: Table, fresh: Table) -> None:
    frame = fresh.native().with_columns(
        town=pl.when(pl.arange(0, 1500) < 5).then(pl.lit("mars")).otherwise("town")
    )
    found = evaluate(train, test.native(), frame.to_pandas(), models=FAST, depth="quick")
    assert any("town" in said and "5" in said for said in found.meta["repairs"]["synthetic"])


def test_meta_says_how_to_repeat_it(good: Evaluation) -> None:
    meta = good.meta
    assert meta["rows"] == {"train": 1500, "test": 1500, "synthetic": 1500}
    assert len({*meta["sha256"].values()}) == 3 and all(len(h) == 64 for h in meta["sha256"].values())
    assert {"python", "numpy", "lightgbm", "fairsynth"} <= set(meta["versions"])
    assert meta["sensitive"] == ["sex", "race"]
    assert meta["seconds"]["total"] > 0


def test_progress_counts_up_and_ends(train: Table, test: Table, fresh: Table) -> None:
    steps = []
    judge(train, test, fresh.frame, progress=steps.append)
    done = [s.done / s.total for s in steps]
    assert done == sorted(done)
    assert done[-1] == 1.0
    assert len(steps) > 15


# ---------------------------------------------------------------------- other tasks
def test_several_favorable_classes_are_scored_one_by_one(biased: Callable) -> None:
    def graded(seed: int) -> pl.DataFrame:
        level = pl.col("skill") + (pl.col("club") == "golf")
        names = pl.when(level > 1).then(pl.lit("A")).when(level > 0).then(pl.lit("B")).otherwise(pl.lit("C"))
        return biased(800, seed).with_columns(grade=names).drop("paid")

    train = Table(graded(0), target="grade", favorable=["A", "B"], sensitive=["sex"])
    found = evaluate(train, graded(1), graded(2), models=FAST, depth="quick")
    assert found.meta["task"] == "multiclass"
    for metric in ("accuracy", "f1_macro", "auroc_macro", "auroc", "dpr"):
        assert 0 < found.value(metric) <= 1, metric
    assert found.value("dpr", label="A") < found.value("dpr")
    assert {s.label for s in found.scores_for(metric="dpr", source="synthetic")} == {None, "A", "B"}


def test_a_numeric_target_is_judged_by_gaps(biased: Callable) -> None:
    def paid(seed: int) -> pl.DataFrame:
        pay = 10 * (pl.col("club") == "golf") + pl.col("skill")
        return biased(800, seed).with_columns(pay=pay.round(2)).drop("paid")

    train = Table(paid(0), target="pay", sensitive=["sex"])
    fair = paid(2).with_columns(pay=pl.col("skill").round(2))
    found = evaluate(train, paid(1), fair, models=FAST, depth="quick")
    assert found.meta["task"] == "regression"
    assert found.value("mean_gap", "real") == pytest.approx(8.6, abs=0.5)
    assert found.value("mean_gap") < 1.0
    assert found.value("distribution_gap") < 0.3 < found.value("distribution_gap", "real")
    assert found.value("r2", "real") > 0.95 > 0.1 > found.value("r2")
    assert found.value("label_mean_gap", "real") > 8
    assert found.value("mae") > found.value("mae", "real")
    assert found.meta["models"] == ["lightgbm", "ridge_regression"]
    assert found.value("mean_shift") < 0.2
    assert found.value("counterfactual_shift") >= found.value("mean_shift")
    for metric in ("mean_gap", "distribution_gap", "r2", "mae", "rmse"):
        score = found.score(metric)
        assert score.low <= score.value <= score.high, metric


def test_a_number_that_hangs_on_the_attribute_shifts_with_it(biased: Callable) -> None:
    def paid(seed: int) -> pl.DataFrame:
        pay = 5.0 * (pl.col("sex") == "man") + pl.col("skill")
        return biased(800, seed).with_columns(pay=pay.round(2)).drop("paid")

    found = evaluate(
        Table(paid(0), target="pay", sensitive=["sex"]), paid(1), paid(2), models=FAST, depth="quick"
    )
    for metric in ("mean_shift", "counterfactual_shift"):
        assert found.value(metric, model="ridge_regression") == pytest.approx(5.0, abs=0.3)


def test_a_numeric_sensitive_column_by_its_edges(biased: Callable) -> None:
    roles = {"target": "paid", "favorable": "yes", "sensitive": {"hours": [35, 45]}}
    train = Table(biased(800, 0), **roles)
    found = evaluate(train, biased(800, 1), biased(800, 2), models=FAST, depth="quick")
    groups = {s.group for s in found.scores_for(metric="tpr", source="real", model="mean")}
    assert groups == {"< 35", "[35, 45)", "≥ 45"}
    assert found.value("ftu", "real") >= 0


def test_an_admissible_column_explains_the_gap(train: Table, test: Table, fresh: Table) -> None:
    found = judge(train, test, fresh.frame, admissible=["club"])
    total = found.value("label_parity_difference", attribute="sex")
    within = found.value("conditional_parity_difference", attribute="sex", column="club")
    assert within < 0.5 * total


def test_a_stated_population(train: Table, test: Table, fresh: Table) -> None:
    found = judge(train, test, fresh.frame, population={"sex": {"man": 0.2, "woman": 0.8}})
    assert found.value("group_share_distance", attribute="sex") == pytest.approx(0.3, abs=0.04)
    assert found.value("group_share_distance", attribute="race") < 0.04
    with pytest.raises(SchemaError, match="martian"):
        judge(train, test, fresh.frame, population={"sex": {"martian": 1.0}})


def test_attacks_and_quality_of_the_full_depth(train: Table, test: Table) -> None:
    found = judge(train, test, train.frame, depth="full", models=("lightgbm",))
    for metric in ("singling_out", "inference"):
        assert found.score(metric).low > 0.05, metric
    assert found.value("linkability") > found.value(
        "linkability", "holdout"
    )  # halves of 7 columns say little
    for metric in ("singling_out", "linkability", "inference"):
        assert found.score(metric, "holdout").low < 0.05, metric
    if found.scores_for(metric="quality_score"):
        assert found.value("quality_score") > 0.99


# ---------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"models": ("xgboost",)}, "xgboost"),
        ({"models": ()}, "models"),
        ({"depth": "deep"}, "quick, core, full"),
        ({"repeats": 0}, "repeats=0"),
        ({"max_rows_distance": 3}, "max_rows_distance=3"),
        ({"admissible": ["sex"]}, "admissible='sex'"),
    ],
)
def test_wrong_settings_are_named(train: Table, test: Table, settings: dict, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        evaluate(train, test, train, **settings)


def test_tables_that_do_not_match_are_named(train: Table, test: Table, fresh: Table) -> None:
    with pytest.raises(SchemaError, match="'hours'"):
        evaluate(train, test, fresh.native().drop("hours"))
    with pytest.raises(SchemaError, match="'extra'"):
        evaluate(train, test.native().with_columns(extra=pl.lit(1)), fresh)
    with pytest.raises(DataError, match="no favorable"):
        evaluate(train, train.replace(train.frame.filter(pl.col("paid") == "no")), fresh)
    with pytest.raises(DataError, match="Table"):
        evaluate(train.native(), test, fresh)
    with pytest.raises(DataError, match="no synthetic table"):
        evaluate(train, test, {})


# ---------------------------------------------------------------------- the result
def test_json_and_back(good: Evaluation, tmp_path) -> None:
    path = tmp_path / "scores.json"
    good.to_json(path)
    again = Evaluation.from_json(path)
    assert again.scores == good.scores
    assert again.meta == json.loads(json.dumps(good.meta))
    assert again.artifacts == {}
    assert "skill" in path.read_text() and "NaN" not in path.read_text()
    with pytest.raises(DataError, match="scores"):
        Evaluation.from_json('{"scores": [{"metric": "dpr"}]}')


def test_the_json_holds_no_rows_of_people(good: Evaluation, train: Table) -> None:
    values = {f"{v}" for v in train.frame["skill"].to_list() if v is not None and len(f"{v}") >= 5}
    written = {f"{s.value}" for s in good.scores}
    assert not values & written


def test_the_frame_has_one_row_for_each_score(good: Evaluation) -> None:
    frame = good.to_frame()
    assert frame.height == len(good.scores)
    chosen = frame.filter(metric="dpr", source="synthetic", model="mean", attribute="sex")
    assert chosen["value"].item() == good.value("dpr", attribute="sex")


def test_looking_up_scores(good: Evaluation) -> None:
    assert good.value("dpr") == good.value("dpr", attribute="sex")  # the first sensitive column
    with pytest.raises(SettingsError, match="was not measured"):
        good.value("happiness")
    with pytest.raises(SettingsError, match="not a field"):
        good.scores_for(colour="red")
    with pytest.raises(SettingsError, match="0 scores match"):
        good.value("dpr", source="holdout")


def test_the_summary_shows_the_headlines(good: Evaluation) -> None:
    from rich.console import Console

    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(good.summary())
    text = console.export_text()
    for word in ("AUROC", "DPR, sex", "EOR, sex × race", "Coverage", "C2ST", "DCR share", "constant"):
        assert word in text
    assert f"{good.value('auroc'):.3f}" in text


def test_people_on_both_sides_are_told_of() -> None:
    rng = np.random.default_rng(0)
    person = rng.permutation(np.repeat(np.arange(150), 3))
    sex = rng.choice(["f", "m"], 150)[person]
    frame = pl.DataFrame(
        {
            "patient": [f"P{one}" for one in person],
            "sex": sex,
            "bp": rng.normal(120, 15, 450),
            "again": np.where(rng.normal(0, 1, 450) + (sex == "f") > 0.5, "yes", "no"),
        }
    )
    table = Table(frame, target="again", favorable="no", sensitive="sex")
    train, test = table.split(0.3, seed=0)
    own = evaluate(train, test, {"train": train}, seed=0, depth="quick")
    assert not any("people of the test rows" in note for note in own.meta["notes"])
    cut = table.replace(table.frame[:315]), table.replace(table.frame[315:])
    both = len(set(cut[0].frame["patient"]) & set(cut[1].frame["patient"]))
    with pytest.warns(FairsynthWarning, match=rf"{both} of \d+ people of the test rows"):
        found = evaluate(*cut, {"train": cut[0]}, seed=0, depth="quick")
    assert any("column 'patient'" in note for note in found.meta["notes"])
    rows = table.frame.with_columns(patient=pl.Series([f"P{at}" for at in [*range(315), *range(135)]]))
    numbered = table.replace(rows[:315]), table.replace(rows[315:])
    none = evaluate(*numbered, {"train": numbered[0]}, seed=0, depth="quick")
    assert not any("people of the test rows" in note for note in none.meta["notes"])
