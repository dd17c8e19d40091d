"""Mitigators in one comparison with synthetic tables: the same people, the same metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toys import proxy_frame

from fairsynth.data.table import Table
from fairsynth.errors import DataError, SettingsError
from fairsynth.evaluation.evaluate import evaluate
from fairsynth.evaluation.mitigation import evaluate_mitigator, evaluate_mitigators, merge, told_of
from fairsynth.evaluation.result import Evaluation
from fairsynth.metrics import fairness as measures
from fairsynth.mitigators.base import Mitigator
from fairsynth.mitigators.plain import ConstantPredictor, Unmitigated
from fairsynth.mitigators.reweighing import Reweighing
from fairsynth.mitigators.thresholds import GroupThresholds

Biased = tuple[Table, Table]
FAMILY = "logistic_regression"


@pytest.fixture(scope="module")
def compared(biased: Biased) -> Evaluation:
    train, test = biased
    fresh = train.align(proxy_frame(1500, 2))
    mitigators: dict[str, Mitigator] = {
        "none": Unmitigated(base=FAMILY),
        "thresholds": GroupThresholds(base=FAMILY, seed=4),
        "constant": ConstantPredictor(),
        "blind": Reweighing(base=FAMILY, use_sensitive=False),
    }
    return evaluate(train, test, fresh, models=[FAMILY], depth="quick", mitigators=mitigators)


def test_the_plain_model_scores_exactly_what_models_of_real_rows_do(compared: Evaluation) -> None:
    def told(source: str) -> dict[tuple[object, ...], float | None]:
        return {
            (s.section, s.metric, s.model, s.attribute, s.group, s.low, s.high): s.value
            for s in compared.scores_for(source=source)
            if s.section in ("utility", "fairness") and s.column is None
        }

    real, none = told("real"), told("mitigator:none")
    assert none == real and len(none) > 60
    assert told("mitigator:thresholds") != real


def test_a_randomized_methods_decisions_are_judged_and_not_its_probabilities_cut(
    compared: Evaluation, biased: Biased
) -> None:
    train, test = biased
    mitigator = GroupThresholds(base=FAMILY, seed=4).fit(train)
    decided, codes = mitigator.predict(test), test.groups().codes
    assert np.mean((mitigator.predict_proba(test) > 0) & (mitigator.predict_proba(test) < 1)) > 0
    source = "mitigator:thresholds"
    ratio = measures.demographic_parity_ratio(decided, codes)
    assert compared.value("dpr", source, FAMILY) == pytest.approx(ratio, abs=1e-12)
    assert compared.value("accuracy", source) == pytest.approx(
        np.mean(decided == test.favorable()), abs=1e-12
    )
    note = compared.score("dpr", source).note or ""
    assert (
        "cannot decide without the person's sensitive columns" in note and "drawn by chance (seed 4)" in note
    )
    assert "reads the person's sensitive columns" in (compared.score("accuracy", "mitigator:none").note or "")
    assert "sensitive columns" not in (compared.score("accuracy", "mitigator:blind").note or "")
    assert compared.value("ftu", "mitigator:blind") == 0
    assert compared.value("ftu", source) > 0.05


def test_the_constant_predictor_stands_beside_every_fair_one(compared: Evaluation, biased: Biased) -> None:
    train, test = biased
    alone = evaluate_mitigator(train, test, Reweighing(base=FAMILY), depth="quick")
    assert alone.value("dpr", "constant") == 1 and alone.value("balanced_accuracy", "constant") == 0.5
    assert alone.value("auroc", "constant") == 0.5
    for found in (compared, alone):
        assert "decides the same for everybody" in (found.score("dpr", "constant").note or "")
    assert compared.value("dpr", "mitigator:constant") == 1
    assert len(compared.scores_for(source="constant", metric="dpr")) == 1


def test_it_stands_in_the_summary_the_frame_the_file_and_the_page(
    compared: Evaluation, tmp_path: Path
) -> None:
    heads = [str(column.header) for column in compared.summary().columns]
    assert heads[:4] == ["", "synthetic", "none", "thresholds"] and heads[-3:] == [
        "real train",
        "real hold-out",
        "constant",
    ]
    again = Evaluation.from_json(compared.to_json())
    assert again.scores == compared.scores
    told = again.meta["mitigators"]["thresholds"]
    assert (
        told["method"] == "threshold-optimizer" and told["needs_sensitive"] and told["settings"]["seed"] == 4
    )
    assert told["criterion"] == "demographic_parity" and told["strength"] == 1.0
    assert compared.to_html(tmp_path / "page.html").stat().st_size > 10_000
    for s in compared.scores:
        assert s.value is None or math.isfinite(s.value)


def test_only_what_was_measured_on_the_same_people_is_merged(compared: Evaluation, biased: Biased) -> None:
    train, test = biased
    other = train.align(proxy_frame(1500, 9))
    plain = Unmitigated(base=FAMILY)
    with pytest.raises(SettingsError, match="their test rows differ"):
        merge(compared, evaluate_mitigator(train, other, plain, depth="quick"))
    with pytest.raises(SettingsError, match="seeds is"):
        merge(compared, evaluate_mitigator(train, test, plain, depth="quick", seed=3))
    more = evaluate_mitigator(train, test, plain, name="once more", depth="quick")
    both = merge(compared, more)
    assert both.value("dpr", "mitigator:once more") == compared.value("dpr", "mitigator:none")
    assert "mitigator:once more" not in compared.sources and "once more" not in compared.meta["mitigators"]


def test_several_fits_have_a_spread_and_fitted_ones_are_not_fitted_again(biased: Biased) -> None:
    train, test = biased
    found = evaluate_mitigators(
        train, test, [GroupThresholds(holdout=0.5, base=FAMILY)], depth="quick", repeats=2
    )
    assert found.score("dpr", "mitigator:threshold-optimizer").std > 0
    assert found.meta["seeds"] == [0, 1]
    fitted = Unmitigated(base=FAMILY).fit(train)
    with pytest.raises(SettingsError, match="is fitted already"):
        evaluate_mitigators(train, test, [fitted], depth="quick", repeats=2)
    with pytest.raises(SettingsError, match="two mitigators have the same name"):
        evaluate_mitigators(train, test, [Unmitigated(), Unmitigated(use_sensitive=False)])
    with pytest.raises(DataError, match="another schema"):
        stranger = Table(proxy_frame(300, 0).drop("hours"), target="paid", favorable="yes", sensitive="sex")
        evaluate_mitigators(train, test, [Unmitigated(base=FAMILY).fit(stranger)], depth="quick")


def test_several_classes_are_scored_by_class(classes: Table) -> None:
    train, test = classes.split(0.4, seed=0)
    found = evaluate_mitigator(train, test, Unmitigated(), depth="quick")
    labels = {s.label for s in found.scores_for(metric="dpr", source="mitigator:none")}
    assert labels == {None, "middle", "high"}
    assert found.value("balanced_accuracy", "mitigator:none") > 0.4


def test_what_is_told_of_a_mitigator_is_plain(quick: Callable[..., Mitigator]) -> None:
    import json

    told = told_of(quick("fair-distillation"))
    assert json.loads(json.dumps(told)) == told and told["settings"]["hidden"] == [16]
