"""Auditors: what models of real rows do with people whom they do not know, and how sure models of drawn rows are."""

from __future__ import annotations

import dataclasses
import json
import warnings
from typing import Any

import fairlearn.metrics
import numpy as np
import polars as pl
import pytest
from scipy.special import expit

import fairsynth as fs
from fairsynth.data.table import Table
from fairsynth.generators.audit import sharpness
from fairsynth.generators.audit_findings import AuditFindings, findings
from fairsynth.generators.audited_trees import AuditedTrees
from fairsynth.generators.auditors import MANY_LABELS, SURE, Auditors, Custom
from fairsynth.generators.evening import SHARPEST


def of_odds(people: Table, odds: np.ndarray, seed: int) -> Table:
    """Return the same people, paid with these log odds."""
    good = np.random.default_rng(seed).random(len(people)) < expit(odds)
    paid = pl.Series("paid", np.where(good, "yes", "no"), dtype=pl.Enum(list(people.schema["paid"].levels)))
    return people.replace(people.frame.with_columns(paid))


def skill(people: Table) -> np.ndarray:
    return 2.0 * people.frame["skill"].to_numpy()


def auditors(people: Table) -> Auditors:
    return Auditors.of(
        people,
        people.groups().codes,
        lambda rows: rows.favorable().astype(np.int64),
        np.array([False, True]),
        seed=0,
    )


def test_people_and_what_is_known_of_them_stay_together(proxies: tuple[Table, Table]) -> None:
    numbered = pl.Series("skill", np.arange(len(proxies[0]), dtype=np.float64))
    people = proxies[0].replace(proxies[0].frame.with_columns(numbered))
    made = auditors(people)
    rows = made.known.people[:, made.known.names.index("skill")].astype(int)
    assert sorted(rows) == list(range(len(people)))
    assert np.array_equal(made.actual, people.favorable()[rows])
    assert np.array_equal(made.groups, people.groups().codes[rows])
    assert "paid" not in made.known.names


def test_numbers_beyond_all_measure_end_no_model(proxies: tuple[Table, Table]) -> None:
    frame = proxies[0].frame.head(600)
    for far in (1e100, 1e300):
        skilled = pl.Series("skill", [far, -far, *frame["skill"][2:]])
        people = proxies[0].replace(frame.with_columns(skilled))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = auditors(people).decisions(people, rough=True)
        assert found is not None and all(np.isfinite(scores).all() for scores in found)


def test_models_are_judged_by_people_whom_they_do_not_know(
    proxies: tuple[Table, Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, strangers = auditors(proxies[0]), proxies[1]
    train, skilled = Auditors._trained, made.known.names.index("skill")
    judged: list[np.ndarray] = []

    def watched(self: Auditors, rows: np.ndarray, labels: np.ndarray, people: np.ndarray, *more: Any) -> Any:
        new = people[: -len(strangers), skilled]
        assert sorted([*rows[:, skilled], *new]) == sorted(made.known.people[:, skilled]), "nobody is in both"
        assert np.array_equal(people[-len(strangers) :, skilled], strangers.frame["skill"])
        judged.append(new)
        return train(self, rows, labels, people, *more)

    monkeypatch.setattr(Auditors, "_trained", watched)
    assert made.custom(strangers) is not None
    assert sorted(np.concatenate(judged)) == sorted(made.known.people[:, skilled]), (
        "few people: everyone is judged once"
    )


def test_many_people_are_not_all_asked(proxies: tuple[Table, Table], monkeypatch: pytest.MonkeyPatch) -> None:
    made = auditors(proxies[0])
    everyone = made.custom(proxies[1])
    monkeypatch.setattr("fairsynth.generators.auditors.ENOUGH", 900)
    some = made.custom(proxies[1])
    assert everyone is not None
    assert some is not None
    assert some != everyone
    assert some.rates == pytest.approx(everyone.rates, abs=0.06)
    assert some.spreads == pytest.approx(everyone.spreads, rel=0.1)


def test_who_knows_says_so(proxies: tuple[Table, Table]) -> None:
    people = proxies[0]
    by_lot = auditors(of_odds(people, np.full(len(people), np.log(0.25)), 1)).custom(proxies[1])
    sure = auditors(of_odds(people, 30 * skill(people), 1)).custom(proxies[1])
    assert by_lot is not None
    assert sure is not None
    assert max(by_lot.rates) < 0.03
    assert sure.rates == pytest.approx([(skill(people) > 0).mean()] * 3, abs=0.02)
    assert min(sure.spreads) > 3 > max(by_lot.spreads)
    assert max(sure.spreads) <= SURE


def test_of_several_labels_the_likeliest_is_chosen(proxies: tuple[Table, Table]) -> None:
    """A favorable label with less than half of the probability is chosen where no other has more."""
    people, strangers = proxies
    rng = np.random.default_rng(3)
    skilled = skill(people) > 0
    # With skill the first of three is likeliest, with less than one half; without it the second is.
    label = np.where(
        skilled,
        rng.choice(3, len(people), p=[0.48, 0.26, 0.26]),
        rng.choice(3, len(people), p=[0.05, 0.8, 0.15]),
    )
    codes, groups = {len(people): label}, people.groups().codes

    def label_of(rows: Table) -> np.ndarray:
        return codes[len(rows)]

    of_three = Auditors.of(people, groups, label_of, np.array([True, False, False]), seed=0)
    told = of_three.custom(strangers)
    at_half = Auditors.of(
        people, groups, lambda rows: (label_of(rows) == 0).astype(np.int64), np.array([False, True]), seed=0
    ).custom(strangers)
    assert told is not None
    assert at_half is not None
    # A linear model draws the step between the two kinds of people out.
    assert told.rates[:2] == pytest.approx([skilled.mean()] * 2, abs=0.15)
    assert (np.array(told.rates) > 1.4 * np.array(at_half.rates)).all()
    scores = of_three.decisions(people)
    assert scores is not None
    assert all(own.shape == (len(people),) and np.isfinite(own).all() for own in scores)

    # Two labels of one side are one: who is favored does not depend on how the other side is parted.
    either = Auditors.of(people, groups, label_of, np.array([True, True, False]), seed=0).custom(strangers)
    assert either is not None
    assert min(either.rates) > 0.9


def test_many_labels_are_told_by_whether_they_are_favorable(proxies: tuple[Table, Table]) -> None:
    people, strangers = proxies
    label = np.where(skill(people) > 0, 0, 1 + np.arange(len(people)) % MANY_LABELS)
    favored = np.arange(MANY_LABELS + 1) == 0
    found = Auditors.of(people, people.groups().codes, lambda rows: label[: len(rows)], favored, seed=0)
    told = found.custom(strangers)
    assert told is not None
    assert told.rates == pytest.approx([(skill(people) > 0).mean()] * 3, abs=0.03)


def test_one_label_for_all_says_nothing(proxies: tuple[Table, Table]) -> None:
    people = proxies[0]
    one = of_odds(people, np.full(len(people), 50.0), 0)
    assert auditors(one).custom(proxies[1]) is None
    assert auditors(people).decisions(one) is None
    assert auditors(people).spreads(one, proxies[1]) is None


@pytest.mark.parametrize("times", [1.0, 1.15, 2.0, 0.7])
def test_scores_are_sharpened_by_what_models_of_drawn_rows_lack(
    proxies: tuple[Table, Table], times: float
) -> None:
    """Drawn labels whose log odds are a part of the real ones: the factor is found, and is never below one."""
    people, strangers = proxies[0], proxies[1]

    def draw(sharper: float, turn: int) -> Table:
        some = people.replace(people.frame[np.random.default_rng([turn, 5]).integers(0, len(people), 2000)])
        return of_odds(some, sharper * skill(some) / times, turn)

    found = []
    for seed in range(2):
        real = auditors(of_odds(people, skill(people), 100 + seed))
        custom = real.custom(strangers)
        assert custom is not None
        found.append(sharpness(draw, strangers, real, custom))
    assert np.mean(found) == pytest.approx(np.clip(times, 1.0, SHARPEST), abs=0.07)


class Told:
    """Auditors whose models are as sure as is said: without and with the most of sharpening."""

    def __init__(self, plain: tuple[float, float], sharpest: tuple[float, float]) -> None:
        self.answers = {1.0: plain, SHARPEST: sharpest}

    def spreads(self, times: float, drawn: None) -> tuple[float, float]:
        return self.answers[times]


class Drawn(float):
    """Rows that know by how much they are sharpened."""

    def __len__(self) -> int:
        return 400


@pytest.mark.parametrize(
    ("plain", "sharpest", "told"),
    [
        ((1.0, 1.0), (1.0, 1.0), 1.0),  # as sure as models of real rows
        ((1.2, 1.1), (1.5, 1.4), 1.0),  # surer
        ((0.9, 0.9), (1.0, 1.0), SHARPEST),
        ((0.9, 0.9), (1.1, 1.1), 1 + 0.3 * np.log(1 / 0.9) / np.log(1.1 / 0.9)),
        ((0.7, 0.7), (0.7, 0.7), SHARPEST),  # much is lacking, and chance hides that it helps
        ((0.7, 0.7), (0.68, 0.7), SHARPEST),
        ((0.999, 0.999), (0.98, 0.98), 1 + 0.3 * np.log(1 / 0.999) / (0.25 * np.log(1.3))),  # little is
        ((1e-17, 0.9), (3e-17, 1.1), 1 + 0.3 * np.log(1 / 0.9) / np.log(1.1 / 0.9)),  # one kind tells nothing
        ((0.0, 0.0), (0.0, 0.0), 1.0),
    ],
)
def test_by_how_much_is_a_straight_line_between_bounds(
    plain: tuple[float, float], sharpest: tuple[float, float], told: float
) -> None:
    custom = Custom((0.5, 0.5, 0.5), (1.0, 1.0, 1.0), (0.7, 0.7, 0.7))
    found = sharpness(lambda times, turn: Drawn(times), None, Told(plain, sharpest), custom)  # type: ignore[arg-type, return-value]
    assert found == pytest.approx(told)


def test_tables_of_fifty_rows_tell_nothing_and_warn_of_nothing() -> None:
    rng = np.random.default_rng(0)
    people = pl.DataFrame({
        "x": rng.normal(size=50), "sex": rng.integers(0, 2, 50).astype(str),
        "good": np.array(["no", "yes"])[rng.integers(0, 2, 50)],
    })  # fmt: skip
    table = Table(people, target="good", favorable="yes", sensitive="sex")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        evening = AuditedTrees(seed=0).fit(table).evening_
    assert evening is not None
    assert 1 <= evening.sharpness <= SHARPEST


def test_sure_people_are_not_counted_as_surer(proxies: tuple[Table, Table]) -> None:
    """Log odds of a hundred and of ten are one to a person who is told: spreads end at `SURE`."""
    people = proxies[0]
    made = auditors(people)
    sure = made.spreads(of_odds(people, 1e3 * skill(people), 0), people)
    assert sure is not None
    assert max(sure) <= SURE


@pytest.mark.slow
def test_models_of_drawn_rows_favor_as_many_as_those_of_real_ones() -> None:
    """Of a small table whose label is frequent, models used to favor .04 more people, where .06 more are all."""
    gaps = []
    for seed in (1, 2):
        train, test = fs.load_dataset("loanapp")[0].split(0.3, seed=seed)
        made = AuditedTrees(seed=0).fit(train)
        assert made.evening_ is not None
        assert made.evening_.sharpness > 1.1
        rows = made.sample_table(len(train), seed=0)
        judges = auditors(test)
        real, drawn = (np.stack(judges.decisions(own) or []) > 0 for own in (train, rows))
        gaps.append(drawn.mean(1) - real.mean(1))
    assert np.mean(gaps) == pytest.approx(0, abs=0.03)


# What an audit found


def test_findings_are_those_of_the_metrics(proxies: tuple[Table, Table]) -> None:
    """Against fairlearn, and counted by hand."""
    people = auditors(proxies[0])
    rng = np.random.default_rng(0)
    plain, made = ([rng.random((3, len(people.actual))) < share for _ in range(2)] for share in (0.3, 0.6))
    for criterion, metric in (
        ("demographic_parity", fairlearn.metrics.demographic_parity_ratio),
        ("equalized_odds", fairlearn.metrics.equalized_odds_ratio),
    ):
        found = findings(plain, made, people, criterion, 0.5)  # type: ignore[arg-type]
        assert found is not None
        for told, lines in ((found.ratio, made), (found.plain_ratio, plain)):
            expected = [
                metric(people.actual, line, sensitive_features=people.groups) for one in lines for line in one
            ]
            assert told == pytest.approx(np.mean(expected), abs=1e-4)
        for told, lines in ((found.accuracy, made), (found.plain_accuracy, plain)):
            assert told == pytest.approx(
                np.mean([line == people.actual for one in lines for line in one]), abs=1e-4
            )
        assert (found.people, found.criterion, found.strength) == (len(people.actual), criterion, 0.5)


def test_groups_of_few_people_are_left_out_of_findings(proxies: tuple[Table, Table]) -> None:
    people = auditors(proxies[0])
    few = dataclasses.replace(people, groups=people.groups.copy())
    few.groups[:50] = 2
    favors = np.zeros((3, len(few.actual)), dtype=bool)
    favors[:, ::2] = True
    favors[:, few.groups == 2] = False
    found = findings([favors], [favors], few, "demographic_parity", 1.0)
    assert found is not None and found.ratio > 0.9
    # But where only one group has so many, all count.
    few.groups[50:] = 0
    found = findings([favors], [favors], few, "demographic_parity", 1.0)
    assert found is not None and found.ratio == 0
    alone = dataclasses.replace(people, groups=np.zeros_like(people.groups))
    assert findings([favors], [favors], alone, "demographic_parity", 1.0) is None
    assert findings([], [favors], people, "demographic_parity", 1.0) is None


def test_findings_are_read_as_they_were_written() -> None:
    told = AuditFindings("equalized_odds", 1.0, 1200, 0.81, 0.25, 0.7, 0.75)
    assert AuditFindings.from_dict(json.loads(json.dumps(told.to_dict()))) == told
    assert told.dear and not dataclasses.replace(told, accuracy=0.73).dear
    assert str(told) == "equalized odds ratio 0.81 (at strength 0: 0.25), accuracy 0.700 (0.750)"
    for key, value in (
        ("criterion", "justice"), ("people", -1), ("people", "many"), ("ratio", 1.5), ("ratio", float("nan")),
        ("accuracy", None), ("plain_ratio", True),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="audit"):
            AuditFindings.from_dict({**told.to_dict(), key: value})
    for other in ({}, [], None, {**told.to_dict(), "more": 1}):
        with pytest.raises(ValueError, match="audit"):
            AuditFindings.from_dict(other)
