"""Auditors: what models of real rows do with people whom they do not know, and how sure models of drawn rows are."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

import fairsynth as fs
from fairsynth.data.table import Table
from fairsynth.generators.audit import sharpness
from fairsynth.generators.audited_trees import AuditedTrees
from fairsynth.generators.auditors import KINDS, SURE, Auditors
from fairsynth.generators.evening import SHARPEST


def of_odds(people: Table, odds: np.ndarray, seed: int) -> Table:
    """Return the same people, paid with these log odds."""
    good = np.random.default_rng(seed).random(len(people)) < expit(odds)
    paid = pl.Series("paid", np.where(good, "yes", "no"), dtype=pl.Enum(list(people.schema["paid"].levels)))
    return people.replace(people.frame.with_columns(paid))


def skill(people: Table) -> np.ndarray:
    return 2.0 * people.frame["skill"].to_numpy()


def auditors(people: Table) -> Auditors:
    return Auditors.of(people, people.groups().codes, lambda rows: rows.favorable(), seed=0)


def test_people_and_what_is_known_of_them_stay_together(proxies: tuple[Table, Table]) -> None:
    people = proxies[0]
    made = auditors(people)
    assert sorted(made.frame["skill"]) == sorted(people.frame["skill"])
    assert np.array_equal(made.actual, people.replace(made.frame).favorable())
    assert np.array_equal(made.groups, people.replace(made.frame).groups().codes)
    assert "paid" not in made.names


def test_models_are_judged_by_people_whom_they_do_not_know(proxies: tuple[Table, Table]) -> None:
    """Labels by lot, one in five: who has learned them by heart favors a fifth, who cannot know them nearly none."""
    people = proxies[0]
    by_lot = auditors(of_odds(people, np.full(len(people), np.log(0.25)), 1))
    known = dict(
        zip(KINDS, by_lot.decisions(of_odds(people, np.full(len(people), np.log(0.25)), 1)), strict=True)
    )
    found = by_lot.custom(proxies[1])
    assert found is not None
    assert max(found.rates) < 0.03
    assert (known["forest"] > 0).mean() < 0.2  # a forest of leaves of five
    sure = auditors(of_odds(people, 30 * skill(people), 1)).custom(proxies[1])
    assert sure is not None
    assert sure.rates == pytest.approx([(skill(people) > 0).mean()] * 3, abs=0.02)
    assert min(sure.spreads) > 3 > max(found.spreads)
    assert max(sure.spreads) <= SURE


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
    for seed in range(3):
        real = auditors(of_odds(people, skill(people), 100 + seed))
        custom = real.custom(strangers)
        assert custom is not None
        found.append(sharpness(draw, strangers, real, custom))
    assert np.mean(found) == pytest.approx(np.clip(times, 1.0, SHARPEST), abs=0.07)


def test_sure_people_are_not_counted_as_surer(proxies: tuple[Table, Table]) -> None:
    """Log odds of a hundred and of ten are one to a person who is told: spreads end at `SURE`."""
    people = proxies[0]
    made = auditors(people)
    sure = made.spreads(of_odds(people, 1e3 * skill(people), 0), people)
    assert sure is not None
    assert max(sure) <= SURE


def test_models_of_drawn_rows_favor_as_many_as_those_of_real_ones() -> None:
    """Of a small table whose label is frequent, models used to favor .035 more people, where .06 more are all."""
    gaps = []
    for seed in (1, 4):
        train, test = fs.load_dataset("loanapp")[0].split(0.3, seed=seed)
        rows = AuditedTrees(seed=0).fit(train).sample_table(len(train), seed=0)
        judges = auditors(test)
        real, drawn = (np.stack(judges.decisions(own) or []) > 0 for own in (train, rows))
        gaps.append(drawn.mean(1) - real.mean(1))
    assert np.mean(gaps) == pytest.approx(0, abs=0.02)
