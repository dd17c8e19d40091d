"""Asking for a bound: met on people held out, at the least cost, never by one label for everyone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from fairlearn.metrics import demographic_parity_ratio, equalized_odds_ratio

from fairsynth.cli.judge import generator_info
from fairsynth.data.table import Table
from fairsynth.errors import BundleError, FairsynthWarning, SettingsError
from fairsynth.evaluation import requirements
from fairsynth.evaluation.evaluate import evaluate
from fairsynth.evaluation.requirements import Requirement, _Court, meet
from fairsynth.fairness import Fairness
from fairsynth.generators import audit
from fairsynth.generators.audited_trees import AuditedTrees
from fairsynth.generators.base import load_generator


def test_what_is_written_is_read() -> None:
    assert Requirement.parse("dpr>=0.95") == Requirement("dpr", (), 0.95)
    assert Requirement.parse(" EOR[race × sex] >= .8 ") == Requirement("eor", ("race", "sex"), 0.8)
    assert str(Requirement.parse("tpr_ratio[sex]>=0.9")) == "tpr_ratio[sex]>=0.9"


@pytest.mark.parametrize(
    "text", ["dpr", "dpr>0.9", "dpr<=0.9", "accuracy>=0.9", "dpr>=1.2", "dpr>=0", "dpr>=x"]
)
def test_what_is_no_requirement_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(SettingsError, match=r"dpr>=0\.95|ratio lies"):
        Requirement.parse(text)


@pytest.fixture(scope="module", autouse=True)
def _short_audits() -> Iterator[None]:
    """Let audits end early: how well they find what to move is asked elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "ROUNDS", 3)
        patch.setattr(audit, "AVERAGED", 2)
        patch.setattr(audit, "SURE_DRAWS", 1)
        patch.setattr(requirements, "DRAWS", 1)
        yield


@pytest.fixture(scope="module")
def trees(proxies: tuple[Table, Table]) -> tuple[AuditedTrees, object]:
    """Return trees that were asked for less than full parity."""
    return meet(proxies[0], "dpr>=0.7", seed=0, confidence=0)


def test_a_modest_bound_is_met_at_less_than_full_strength(trees: tuple[AuditedTrees, object]) -> None:
    made, promise = trees
    assert promise.met  # type: ignore[attr-defined]
    assert promise.values["dpr>=0.7"] >= 0.7 > promise.real["dpr>=0.7"]  # type: ignore[attr-defined]
    assert 0 < promise.strength < 1  # type: ignore[attr-defined]
    assert made.fairness == Fairness("demographic_parity", promise.strength)  # type: ignore[attr-defined]
    assert 0.3 < promise.confidence <= 1  # type: ignore[attr-defined]


def test_who_asks_to_be_surer_gets_more(
    proxies: tuple[Table, Table], trees: tuple[AuditedTrees, object]
) -> None:
    _, promise = meet(proxies[0], "dpr>=0.7", seed=0, confidence=0.95)
    assert promise.met and promise.confidence >= 0.95
    assert 1 > promise.strength > trees[1].strength  # type: ignore[attr-defined]
    assert "not in the" not in str(promise)


@pytest.mark.slow
def test_where_nothing_is_sure_the_surest_is_taken_and_says_so(proxies: tuple[Table, Table]) -> None:
    _, promise = meet(proxies[0], "dpr>=0.8", seed=0, confidence=1.0)
    assert promise.met and promise.confidence < 1
    assert "not in the 100% that were asked for" in str(promise)


@pytest.mark.parametrize("value", [-0.1, 1.1, True, "much"])
def test_a_confidence_that_is_no_share_is_refused(proxies: tuple[Table, Table], value: object) -> None:
    with pytest.raises(SettingsError, match="confidence="):
        meet(proxies[0], "dpr>=0.7", confidence=value)  # type: ignore[arg-type]


def test_the_promise_is_kept_in_the_file(trees: tuple[AuditedTrees, object], tmp_path: Path) -> None:
    made, promise = trees
    path = tmp_path / "model.fairsynth"
    made.save(path)
    again = load_generator(path)
    assert isinstance(again, AuditedTrees)
    told = again.promise_
    assert told["values"] == promise.values  # type: ignore[attr-defined]
    assert told["confidence"] == promise.confidence  # type: ignore[attr-defined]


def test_the_report_says_what_was_asked_and_how_surely_it_holds(
    proxies: tuple[Table, Table], trees: tuple[AuditedTrees, object], tmp_path: Path
) -> None:
    train, test = proxies[0], proxies[1].replace(proxies[1].frame[:1500])
    made, promise = trees
    found = evaluate(
        train, test, made.sample_table(1500, seed=0), depth="quick", models=("logistic_regression",),
        generator_info=generator_info(made),
    )  # fmt: skip
    found.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Bound asked for" in page and "dpr&gt;=0.7" in page
    assert f"holds in {promise.confidence:.0%} of resamplings" in page  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "wrong",
    [{"people": "many"}, {"confidence": None}, {"values": {"dpr>=0.7": "x"}}, {"real": {}}, {"met": 1}],
)
def test_a_promise_that_nobody_made_is_refused(
    trees: tuple[AuditedTrees, object], tmp_path: Path, wrong: dict[str, object]
) -> None:
    made = copy(trees[0])
    made.promise_ = {**made.promise_, **wrong}
    made.save(tmp_path / "bad.fairsynth")
    with pytest.raises(BundleError):
        load_generator(tmp_path / "bad.fairsynth")


def test_what_cannot_be_met_says_what_comes_nearest(proxies: tuple[Table, Table]) -> None:
    some = proxies[0].replace(proxies[0].frame[:1200])
    with pytest.warns(FairsynthWarning, match="cannot be met"):
        made, promise = meet(some, ["dpr>=0.999", "eor>=0.999"], seed=0)
    assert not promise.met
    assert "NOT met" in str(promise)
    assert promise.tried == 4, "strength 0 too: the table might be fair as it is"
    assert promise.values.keys() == {"dpr>=0.999", "eor>=0.999"}
    assert made.sample_table(10, seed=0).frame.height == 10


def test_ratios_are_fairlearns(proxies: tuple[Table, Table]) -> None:
    table = proxies[0]
    asked = [Requirement.parse("dpr>=0.9"), Requirement.parse("eor>=0.9")]
    court = _Court(table, asked, 0)
    found = court.judge([court.fit], "demographic_parity", 0.0)
    people, groups = court.people, court.people.groups().codes
    dpr, eor = [], []
    for name in ("lightgbm", "logistic_regression", "random_forest"):
        chosen = court.task.decision(court.down.fit(name, court.fit.frame, seed=0).predict(people.frame))
        own = {"y_true": people.favorable(), "y_pred": chosen, "sensitive_features": groups}
        dpr.append(demographic_parity_ratio(**own))
        eor.append(equalized_odds_ratio(**own))
    assert found.values["dpr>=0.9"] == pytest.approx(np.mean(dpr))
    assert found.values["eor>=0.9"] == pytest.approx(np.mean(eor))


def test_confidence_is_that_of_other_people(proxies: tuple[Table, Table]) -> None:
    """A bound at the value found holds about every other time, one far below always, one far above never."""
    table = proxies[0]
    court = _Court(table, [Requirement.parse("dpr>=0.5")], 0)
    at = court.judge([court.fit], "demographic_parity", 0.0).values["dpr>=0.5"]
    for bound, low, high in ((at, 0.2, 0.8), (at / 3, 1.0, 1.0), (min(1.0, 3 * at), 0.0, 0.0)):
        own = _Court(table, [Requirement("dpr", (), bound)], 0)
        assert low <= own.judge([own.fit], "demographic_parity", 0.0).confidence <= high


def test_unknown_columns_and_too_few_people_are_errors(proxies: tuple[Table, Table]) -> None:
    table = proxies[0]
    with pytest.raises(SettingsError, match="no sensitive column"):
        meet(table, "dpr[nothing]>=0.9")
    with pytest.raises(SettingsError, match="empty"):
        meet(table, [])
    with pytest.raises(SettingsError, match="fewer than two groups"), warnings.catch_warnings():
        warnings.simplefilter("error")
        meet(table.replace(table.frame[:100]), "dpr>=0.9")


def few_favored(n: int, seed: int) -> Table:
    """Nearly all pass, the fewer of the smaller group; one score tells who does."""
    rng = np.random.default_rng(seed)
    small = rng.random(n) < 0.15
    score = rng.normal(0.0, 1.0, n) - 1.2 * small
    passed = score + rng.normal(0, 0.5, n) > -2.0
    return Table(
        pl.DataFrame({"group": np.where(small, "small", "large"), "score": score, "passed": passed}),
        target="passed",
        sensitive="group",
        favorable="True",
    )


@pytest.mark.slow
def test_where_full_strength_leaves_too_little_weaker_ones_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that useful settings meet is met, and not given up because full strength is of no use."""
    judge = _Court.judge

    def useless_at_the_top(self: _Court, tables: Any, criterion: Any, strength: float) -> Any:
        found = judge(self, tables, criterion, strength)
        return replace(found, balanced=0.5, values={"dpr>=0.9": 0.6}) if strength > 0.9 else found

    monkeypatch.setattr(_Court, "judge", useless_at_the_top)
    table = few_favored(3000, 0)
    made, promise = meet(table, "dpr>=0.9", seed=0, confidence=0)
    assert promise.met
    assert 0 < promise.strength <= 0.9
    assert promise.values["dpr>=0.9"] >= 0.9 > promise.real["dpr>=0.9"]
    assert made.fairness.strength == promise.strength


def test_a_bound_that_only_useless_models_meet_is_not_met_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge = _Court.judge
    calls = iter(range(100))

    def useless(self: _Court, tables: Any, criterion: Any, strength: float) -> Any:
        found = judge(self, tables, criterion, strength)
        return found if next(calls) == 0 else replace(found, balanced=0.5)  # the first are the real rows

    monkeypatch.setattr(_Court, "judge", useless)
    with pytest.warns(FairsynthWarning, match="next to one answer for everybody") as said:
        _, promise = meet(few_favored(3000, 0), "dpr>=0.5", seed=0, confidence=0)
    assert not promise.met and promise.useless == promise.tried
    assert "settings that were tried leave models with a balanced accuracy below" in str(promise)
    assert str(promise) in str(said[0].message)
