from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairsynth.evaluation.result import Evaluation, Score
from fairsynth.report.verdict import BANDS, verdict

GOOD = (
    ("dpr", "synthetic", 0.95, {"low": 0.9, "high": 1.0}),
    ("dpr", "real", 0.4),
    ("auroc", "synthetic", 0.84),
    ("auroc", "real", 0.85),
    ("balanced_accuracy", "synthetic", 0.75),
    ("balanced_accuracy", "real", 0.76),
    ("coverage", "synthetic", 0.95),
    ("coverage", "holdout", 0.97),
    ("c2st", "synthetic", 0.6),
    ("dcr_share", "synthetic", 0.51),
    ("exact_copies", "synthetic", 0.001),
    ("exact_copies", "holdout", 0.001, {"n": 1000}),
)


def levels(evaluation, source="synthetic"):
    return {a.question: a.level for a in verdict(evaluation).table(source).answers}


def change(entries, metric, source, value, **more):
    kept = [e for e in entries if (e[0], e[1]) != (metric, source)]
    return [*kept, (metric, source, value, more)]


# ------------------------------------------------------------------ mutations of a real evaluation
def test_a_fresh_sample_is_useful_faithful_and_private_but_as_biased_as_the_world(compared):
    table = verdict(compared).table("synthetic:fresh")
    assert {a.question: a.level for a in table.answers} == {
        "fair": "poor",
        "useful": "good",
        "faithful": "good",
        "private": "good",
    }
    assert table.disguises == ()
    assert table.headline == "Measured against the limits below, it is not fair enough."


@pytest.mark.parametrize(
    ("name", "question", "words"),
    [
        ("no women", "fair", "Nobody in it belongs to woman (sex;"),
        ("no women", "faithful", "Nobody in it belongs to woman"),
        ("copy", "private", "copies of real people's rows (100.0 %"),
        ("constant", "fair", "decides nothing"),
        ("constant", "useful", "decides nothing"),
        ("shuffled", "fair", "other columns stand in for sex"),
        ("repeated", "faithful", "only 0.1 % of its rows are distinct"),
        ("repeated", "private", "copies of real people's rows (100.0 %"),
        ("swapped", "faithful", "groups of sex look swapped"),
        ("cents", "faithful", "The least faithful column is income"),
    ],
)
def test_every_mutation_is_caught_by_the_rule_that_exists_for_it(compared, name, question, words):
    table = verdict(compared).table(f"synthetic:{name}")
    answer = table.answer(question)
    assert answer.level == "poor"
    assert any(words in r.text and r.level == "poor" for r in answer.reasons), [
        r.text for r in answer.reasons
    ]
    assert table.level == "poor"
    assert table.word == "Not fit for release"


def test_a_shuffled_attribute_is_seen_to_be_unrelated(compared):
    table = verdict(compared).table("synthetic:shuffled")
    assert any("as if it had been shuffled" in r.text for r in table.answer("faithful").reasons)
    assert not any(
        "shuffled" in r.text for r in verdict(compared).table("synthetic:fresh").answer("faithful").reasons
    )


def test_disguises_lead_the_headline(compared):
    judged = verdict(compared)
    assert "copies" in judged.table("synthetic:copy").headline
    assert "decides nothing" in judged.table("synthetic:constant").headline
    assert "swapped" in judged.table("synthetic:swapped").headline


# ------------------------------------------------------------------ rules one by one
def test_everything_good_is_fit_for_release(scored):
    table = verdict(scored(*GOOD)).tables[0]
    assert set(levels(scored(*GOOD)).values()) == {"good"}
    assert (table.level, table.word) == ("good", "Fit for release")


def test_nothing_measured_is_unknown_and_never_good(scored):
    judged = verdict(scored(("dpr", "synthetic", 0.95)))
    assert [a.level for a in judged.tables[0].answers] == ["good", "unknown", "unknown", "unknown"]
    assert judged.tables[0].level == "unknown"
    assert judged.tables[0].word == "Not fully measured"
    assert verdict(Evaluation()).tables == ()


def test_undefined_ratio_is_not_a_pass(scored):
    entries = change(GOOD, "dpr", "synthetic", None, note="nobody was favored")
    answer = verdict(scored(*entries)).tables[0].answer("fair")
    assert answer.level == "unknown"
    assert "nobody was favored" in answer.reasons[0].text


@pytest.mark.parametrize(
    ("metric", "source", "value", "question", "level"),
    [
        ("dpr", "synthetic", 0.8, "fair", "good"),
        ("dpr", "synthetic", 0.79, "fair", "caution"),
        ("dpr", "synthetic", 0.59, "fair", "poor"),
        ("auroc", "synthetic", 0.82, "useful", "good"),
        ("auroc", "synthetic", 0.81, "useful", "caution"),
        ("auroc", "synthetic", 0.78, "useful", "poor"),
        ("coverage", "synthetic", 0.874, "faithful", "good"),
        ("coverage", "synthetic", 0.80, "faithful", "caution"),
        ("coverage", "synthetic", 0.70, "faithful", "poor"),
        ("c2st", "synthetic", 0.70, "faithful", "good"),
        ("c2st", "synthetic", 0.80, "faithful", "caution"),
        ("c2st", "synthetic", 0.99, "faithful", "poor"),
        ("dcr_share", "synthetic", 0.55, "private", "good"),
        ("dcr_share", "synthetic", 0.58, "private", "caution"),
        ("dcr_share", "synthetic", 0.70, "private", "poor"),
        ("exact_copies", "synthetic", 0.007, "private", "good"),
        ("exact_copies", "synthetic", 0.02, "private", "caution"),
        ("exact_copies", "synthetic", 0.05, "private", "poor"),
        ("membership_inference_auc", "synthetic", 0.62, "private", "poor"),
        ("singling_out", "synthetic", 0.07, "private", "caution"),
    ],
)
def test_limits(scored, metric, source, value, question, level):
    assert levels(scored(*change(GOOD, metric, source, value)))[question] == level


def test_less_fair_than_the_real_rows_is_poor_even_above_the_limits(scored):
    entries = change(change(GOOD, "dpr", "real", 0.99), "dpr", "synthetic", 0.85, low=0.81, high=0.9)
    assert levels(scored(*entries))["fair"] == "poor"
    unsure = change(change(GOOD, "dpr", "real", 0.99), "dpr", "synthetic", 0.85, low=0.81, high=1.0)
    assert levels(scored(*unsure))["fair"] == "good"


def test_an_interval_below_four_fifths_calls_for_care(scored):
    assert levels(scored(*change(GOOD, "dpr", "synthetic", 0.9, low=0.7, high=1.0)))["fair"] == "caution"


def test_joint_groups_alone_call_for_care_only(scored):
    entries = [*GOOD, ("dpr", "synthetic", 0.2, {"attribute": "race × sex"})]
    assert levels(scored(*entries))["fair"] == "caution"


def test_small_groups_do_not_decide(scored):
    rates = [
        ("selection_rate", "synthetic", 0.5, {"group": "a", "n": 900}),
        ("selection_rate", "synthetic", 0.47, {"group": "b", "n": 800}),
        ("selection_rate", "synthetic", 0.1, {"group": "c", "n": 9}),
    ]
    entries = [*change(GOOD, "dpr", "synthetic", 0.2), *rates]
    answer = verdict(scored(*entries)).tables[0].answer("fair")
    assert answer.level == "caution"
    assert "Between groups of at least 100 people it is 0.94" in answer.reasons[0].text
    large = [e if e[3].get("n") != 9 else (*e[:3], {"group": "c", "n": 900}) for e in rates]
    assert levels(scored(*change(GOOD, "dpr", "synthetic", 0.2), *large))["fair"] == "poor"


@pytest.mark.parametrize(("few", "hollow"), [(9, False), (900, True)])
def test_a_handful_of_people_does_not_make_a_table_hollow(scored, few, hollow):
    """Labels in parity, and decisions unfair to a group: of nine people it is no ground for an accusation."""
    entries = change(change(GOOD, "dpr", "synthetic", 0.3), "dpr", "real", 0.35)
    for source, low in (("synthetic", 0.15), ("real", 0.17)):
        rates = (("a", 0.5, 900), ("b", 0.48 if source == "synthetic" else 0.2, 800), ("c", low, few))
        entries += [("selection_rate", source, rate, {"group": name, "n": n}) for name, rate, n in rates]
    inside = {"attribute": "sex"}
    entries += [
        ("label_parity_ratio", "synthetic", 0.95, inside),
        ("label_parity_ratio", "real", 0.5, inside),
    ]
    table = verdict(scored(*entries)).table("synthetic")
    assert any("looks fair by sex" in reason.text for reason in table.disguises) == hollow
    assert table.answer("fair").level == ("poor" if hollow else "caution")


def _overall(rate, real):
    whole = {"attribute": None}
    return [("selection_rate", "synthetic", rate, whole), ("selection_rate", "real", real, whole)]


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.99, 1.0])
def test_one_decision_for_all_is_not_fairness(scored, rate):
    entries = [*GOOD, *_overall(rate, 0.3)]
    table = verdict(scored(*entries)).tables[0]
    assert table.answer("fair").level == table.answer("useful").level == "poor"
    assert "decides nothing" in table.headline


def test_deciding_little_calls_for_care(scored):
    entries = change(GOOD, "balanced_accuracy", "synthetic", 0.58)
    answer = verdict(scored(*entries)).tables[0].answer("fair")
    assert answer.level == "caution"
    assert "decide little" in answer.reasons[0].text
    entries = change(change(GOOD, "balanced_accuracy", "synthetic", 0.54), "auroc", "synthetic", 0.56)
    nothing = verdict(scored(*entries)).tables[0]
    assert nothing.answer("fair").level == nothing.answer("useful").level == "poor"
    assert "decides nothing" in nothing.headline
    assert len(nothing.disguises) == 1


def test_a_model_that_ranks_people_is_not_said_to_decide_nothing(scored):
    """Lopsided outcomes: the threshold of one half favors nearly everybody, but AUROC is kept."""
    entries = change(GOOD, "balanced_accuracy", "synthetic", 0.52)
    table = verdict(scored(*entries)).tables[0]
    assert table.answer("fair").level == "caution"
    assert "AUROC 0.84" in table.answer("fair").reasons[0].text
    assert table.answer("useful").level == "good"
    assert table.disguises == ()
    assert "decides nothing" not in table.headline


@pytest.mark.parametrize(("value", "level"), [(0.9, "caution"), (0.7, "caution"), (0.5, "poor")])
def test_who_decides_little_is_judged_at_the_real_rate(scored, value, level):
    equal = ("dpr_at_real_rate", "synthetic", value)
    assert levels(scored(*change(GOOD, "balanced_accuracy", "synthetic", 0.52), equal))["fair"] == level
    assert levels(scored(*GOOD, equal))["fair"] == "good"


def test_a_rare_outcome_is_not_taken_for_a_constant(scored):
    entries = [*GOOD, *_overall(0.01, 0.012)]
    assert levels(scored(*entries))["fair"] == "good"


def test_a_coin_in_the_real_data_is_not_held_against_the_table(scored):
    entries = change(change(GOOD, "balanced_accuracy", "synthetic", 0.52), "balanced_accuracy", "real", 0.53)
    assert levels(scored(*entries))["fair"] == "good"


def test_copies_by_chance_are_no_leak(scored):
    entries = change(change(GOOD, "exact_copies", "synthetic", 0.52), "exact_copies", "holdout", 0.5, n=1000)
    assert levels(scored(*entries))["private"] == "good"
    more = change(entries, "exact_copies", "synthetic", 0.60)
    assert levels(scored(*more))["private"] == "poor"


def test_an_attack_whose_interval_reaches_chance_is_no_success(scored):
    where = ("singling_out", "synthetic")
    assert levels(scored(*change(GOOD, *where, 0.12, low=0.04, high=0.2)))["private"] == "poor"
    assert levels(scored(*change(GOOD, *where, 0.12, low=-0.01, high=0.25)))["private"] == "good"
    where = ("membership_inference_auc", "synthetic")
    assert levels(scored(*change(GOOD, *where, 0.62, low=0.55, high=0.7)))["private"] == "poor"
    assert levels(scored(*change(GOOD, *where, 0.62, low=0.49, high=0.7)))["private"] == "good"


def test_dcr_interval_that_reaches_half_is_chance(scored):
    entries = change(GOOD, "dcr_share", "synthetic", 0.57, low=0.49, high=0.65)
    assert levels(scored(*entries))["private"] == "good"


def test_a_dcr_share_of_rows_of_which_real_ones_are_far_from_chance_tells_nothing(scored):
    entries = (*change(GOOD, "dcr_share", "synthetic", 0.001), ("dcr_share", "holdout", 0.001))
    [answer] = [a for a in verdict(scored(*entries)).table("synthetic").answers if a.question == "private"]
    [reason] = [r for r in answer.reasons if r.metric == "dcr_share"]
    assert reason.level == "info"
    assert "of real rows never seen, 0.1 % are" in reason.text
    assert "tells nothing" in reason.text
    beside = (*change(GOOD, "dcr_share", "synthetic", 0.51), ("dcr_share", "holdout", 0.46))
    [answer] = [a for a in verdict(scored(*beside)).table("synthetic").answers if a.question == "private"]
    assert [r.level for r in answer.reasons if r.metric == "dcr_share"] == ["good"]


@pytest.mark.parametrize(
    "meta",
    [
        {"criterion": "equalized_odds"},
        {"fairness": {"criterion": "equalized_odds", "strength": 1.0}},
        {"generator": {"fairness": {"criterion": "equalized_odds"}}},
    ],
)
def test_the_criterion_asked_for_is_the_one_judged(scored, meta):
    entries = [*GOOD, ("eor", "synthetic", 0.3), ("eor", "real", 0.3)]
    assert levels(scored(*entries))["fair"] == "good"
    judged = verdict(scored(*entries, meta=meta))
    assert (judged.criterion, judged.criterion_given) == ("equalized_odds", True)
    assert judged.tables[0].answer("fair").level == "poor"


def test_several_tables_are_judged_apart(scored):
    other = [(m, "synthetic:b" if s == "synthetic" else s, v, *r) for m, s, v, *r in GOOD]
    entries = [*GOOD, *change(other, "c2st", "synthetic:b", 0.99)]
    judged = verdict(scored(*entries))
    assert [t.name for t in judged.tables] == ["Synthetic table", "b"]
    assert [t.level for t in judged.tables] == ["good", "poor"]


@given(name=st.sampled_from(sorted(BANDS)), a=st.floats(-1, 2), b=st.floats(-1, 2))
def test_better_is_never_judged_worse(name, a, b):
    band = BANDS[name]
    better, worse = (max(a, b), min(a, b)) if band.higher else (min(a, b), max(a, b))
    rank = {"good": 0, "caution": 1, "poor": 2}
    assert rank[band.level(better)] <= rank[band.level(worse)]


@given(
    st.lists(
        st.builds(
            Score,
            section=st.sampled_from(["fairness", "table_fairness", "utility", "fidelity", "privacy"]),
            metric=st.sampled_from(
                [
                    "dpr",
                    "selection_rate",
                    "auroc",
                    "coverage",
                    "c2st",
                    "dcr_share",
                    "exact_copies",
                    "label_rate",
                    "x",
                ]
            ),
            source=st.sampled_from(["synthetic", "real", "holdout", "constant", "synthetic:b", None]),
            value=st.none() | st.floats(allow_nan=True),
            attribute=st.sampled_from([None, "sex", "race × sex"]),
            group=st.sampled_from([None, "a", "b"]),
            n=st.none() | st.integers(0, 1000),
            low=st.none() | st.floats(0, 1),
        ),
        max_size=12,
    )
)
def test_any_scores_get_a_verdict(scores):
    judged = verdict(Evaluation(scores=scores))
    for table in judged.tables:
        assert table.level in ("good", "caution", "poor", "unknown")
        assert table.headline
        for answer in table.answers:
            assert answer.level == "unknown" or any(r.level == answer.level for r in answer.reasons)
