"""Searches find what they are asked for, on validation rows alone, and go on where they were ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

pytest.importorskip("optuna", reason="Optuna is not installed: pip install fairsynth[search]")

from toys import proxy_frame

import fairsynth.benchmark.search as module
from fairsynth.benchmark.cells import Cell
from fairsynth.benchmark.methods import method_class, typed
from fairsynth.benchmark.plan import Objective
from fairsynth.benchmark.search import search, standing, violation
from fairsynth.benchmark.spaces import SPACES, declared_space
from fairsynth.data.table import Table
from fairsynth.errors import SettingsError
from fairsynth.evaluation import mitigation
from fairsynth.generators.registry import list_generators
from fairsynth.mitigators.registry import list_mitigators

Try = Callable[..., dict[str, Any]]
SPACE = {
    "x": {"low": -2.0, "high": 2.0, "log": False},
    "kind": ["a", [1, 2]],
    "n": {"low": 1, "high": 64, "log": True},
}


def cell(**changes: Any) -> Cell:
    plan = {"space": SPACE, "trials": 25, "objective": "max auroc where dpr >= 0.5", "validation": 0.25}
    body: dict[str, Any] = {
        "dataset": "d", "label": "l", "data": "0" * 64, "model": "none", "kind": "mitigator",
        "settings": {"base": "logistic_regression"}, "criterion": None, "strength": None, "seed": 3, "depth": "quick",
        "downstream": ("logistic_regression",), "metrics": (), "search": plan, "code": "c",
    }  # fmt: skip
    body["search"] = plan | changes.pop("search", {})
    return Cell(**(body | changes))


@pytest.fixture(scope="module")
def people() -> Table:
    return Table(proxy_frame(400, 0), target="paid", favorable="yes", sensitive=["sex"])


def world(tried: list[dict[str, Any]]) -> Try:
    """Return a method whose scores are known: best at x = 1 without the bound, at x = 0.5 with it."""

    def run(cell: Cell, settings: dict[str, Any], *rest: Any) -> dict[str, Any]:
        tried.append(settings)
        x = settings["x"]
        bonus = 0.02 if settings["kind"] == [1, 2] else 0.0
        return {"values": {"auroc": 0.9 - 0.1 * (x - 1) ** 2 + bonus, "dpr": 1.0 - x}}

    return run


def test_the_bound_is_kept_and_the_best_found(people: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "_try", world(tried))
    found = search(cell(search={"trials": 40}), people)
    assert found["feasible"] and found["bounds"]["dpr"] >= 0.5
    assert found["settings"]["x"] == pytest.approx(0.5, abs=0.25)
    assert found["settings"]["kind"] == [1, 2]
    assert all(isinstance(s["n"], int) and 1 <= s["n"] <= 64 and -2 <= s["x"] <= 2 for s in tried)
    free = search(cell(search={"trials": 40, "objective": "max auroc"}), people)
    assert free["settings"]["x"] > 0.6
    least = search(cell(search={"objective": "max auroc where dpr >= 5"}), people)
    assert not least["feasible"] and least["settings"]["x"] == min(s["x"] for s in tried[-25:])


def test_an_ended_search_goes_on_and_finds_the_same(
    people: Table, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "_try", world(whole))
    expected = search(cell(), people)
    path, first = tmp_path / "journal.jsonl", []

    def ends(*arguments: Any) -> dict[str, Any]:
        if len(first) == 13:
            raise KeyboardInterrupt
        return world(first)(*arguments)

    monkeypatch.setattr(module, "_try", ends)
    with pytest.raises(KeyboardInterrupt):
        search(cell(), people, journal=str(path))
    path.write_text(path.read_text() + '{"number": 13, "set')  # SIGKILL while a line was written
    rest: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "_try", world(rest))
    assert search(cell(), people, journal=str(path)) == expected
    assert first + rest == whole
    # A journal of another space is not taken for this one's.
    other: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "_try", world(other))
    search(
        cell(search={"space": {**SPACE, "x": {"low": -1.0, "high": 0.0, "log": False}}}),
        people,
        journal=str(path),
    )
    assert len(other) == 25


def test_failed_trials_are_passed_over(people: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def some(cell: Cell, settings: dict[str, Any], *rest: Any) -> dict[str, Any]:
        if settings["kind"] == "a":
            return {"error": "SettingsError: no"}
        return world([])(cell, settings)

    monkeypatch.setattr(module, "_try", some)
    found = search(cell(), people)
    assert found["settings"]["kind"] == [1, 2] and 0 < found["failed"] < 25
    monkeypatch.setattr(module, "_try", lambda *_: {"error": "SettingsError: never"})
    with pytest.raises(
        SettingsError, match="all 25 trials of the search failed, the last with: SettingsError: never"
    ):
        search(cell(), people)


def test_only_train_rows_are_seen(people: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    train, _ = people.split(0.3, seed=0)
    numbered = train.frame.with_row_index()
    seen: list[tuple[pl.DataFrame, pl.DataFrame]] = []
    real = mitigation.evaluate_mitigator

    def spy(inner: Table, validation: Table, *rest: Any, **settings: Any) -> Any:
        seen.append((inner.frame, validation.frame))
        return real(inner, validation, *rest, **settings)

    monkeypatch.setattr(mitigation, "evaluate_mitigator", spy)
    plan = {"space": {"use_sensitive": [True, False]}, "trials": 2, "objective": "max auroc"}
    found = search(cell(search=plan), train)
    assert 0.5 < found["value"] <= 1 and len(seen) == 2
    for inner, validation in seen:
        assert inner.height + validation.height == len(train)
        together = pl.concat([inner, validation]).sort(inner.columns)
        assert together.equals(numbered.drop("index").sort(inner.columns))
        assert validation.height == round(0.25 * len(train))


def test_objectives_are_ordered_as_meant() -> None:
    bounded = Objective.parse("max auroc where dpr >= 0.9 and c2st <= 0.6")
    keeps = {"auroc": 0.51, "dpr": 0.9, "c2st": 0.6}
    breaks = {"auroc": 0.99, "dpr": 0.8, "c2st": 0.7}
    assert violation(bounded, keeps) == 0 and violation(bounded, breaks) == pytest.approx(0.2)
    worse = {**breaks, "dpr": 0.1}
    gone: dict[str, float | None] = {**keeps, "dpr": None}
    order = [standing(bounded, v) for v in ({**keeps, "auroc": 0.6}, keeps, breaks, worse, gone)]
    assert order == sorted(order, reverse=True) and len(set(order)) == 5
    least = Objective.parse("min brier")
    assert standing(least, {"brier": 0.1}) > standing(least, {"brier": 0.2})


@pytest.mark.parametrize("name", [n for n in (*list_generators(), *list_mitigators()) if n in SPACES])
def test_declared_spaces_are_of_settings_that_exist(name: str) -> None:
    _, found = method_class(name)
    for setting, values in declared_space(name, found).items():
        for value in values if isinstance(values, list) else (values["low"], values["high"]):
            typed(found, {setting: value})


def test_every_method_has_a_space_or_nothing_to_search() -> None:
    without = {
        n for n in (*list_generators(), *list_mitigators()) if n not in SPACES and not n.startswith("outside")
    }
    assert without == {"constant"}


def test_another_package_declares_its_own() -> None:
    class Foreign:
        search_space: ClassVar[dict[str, Any]] = {"width": {"low": 1, "high": 4}, "form": ["a", "b"]}

    assert declared_space("x", Foreign) == {"width": {"low": 1, "high": 4, "log": False}, "form": ["a", "b"]}
    with pytest.raises(SettingsError, match="declares no space"):
        declared_space("x", object)
    assert json.dumps(SPACES)
