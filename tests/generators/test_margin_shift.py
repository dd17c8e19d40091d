"""Moving scores near their threshold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.data.table import Table
from fairsynth.generators import margin_shift
from fairsynth.generators.margin_shift import calibrate, moved, to_one_rate

SHIFT = st.floats(-4, 4).filter(lambda x: abs(x) > 1e-3)
REACH = st.floats(0.1, 20)


@settings(max_examples=200, deadline=None)
@given(SHIFT, REACH)
def test_the_score_asked_for_comes_to_zero_and_ranks_stay(shift: float, reach: float) -> None:
    margins = np.sort(np.concatenate([np.linspace(-200, 200, 4001), [-shift]]))
    after = moved(margins, np.full(len(margins), shift), reach)
    assert (np.diff(after) >= -1e-9).all()
    assert after[margins == -shift] == pytest.approx(0, abs=1e-9)
    assert ((after >= -1e-9) == (margins >= -shift - 1e-9)).all()
    assert (np.sign(after - margins) * np.sign(shift) >= 0).all(), "nobody is moved against the shift"


@settings(max_examples=100, deadline=None)
@given(SHIFT, REACH)
def test_scores_far_away_stay(shift: float, reach: float) -> None:
    far = abs(shift)
    toward = np.sign(shift) * np.array([-(far * (1 + reach)) - 1e-6, far * max(reach, 1) + 1e-6])
    assert moved(toward, np.full(2, shift), reach) == pytest.approx(toward)


def test_no_shift_moves_nothing_and_a_far_reach_moves_all() -> None:
    margins = np.linspace(-5, 5, 11)
    assert moved(margins, np.zeros(11), 2.0) == pytest.approx(margins)
    assert moved(margins, np.full(11, 1.5), 1000.0) == pytest.approx(margins + 1.5)


def test_every_row_has_the_shift_of_its_own_group() -> None:
    margins, shifts = np.array([-1.0, -1.0, 1.0, 1.0]), np.array([1.0, 0.0, -1.0, 0.0])
    assert moved(margins, shifts, 2.0) == pytest.approx([0, -1, 0, 1])


def test_rates_are_made_one() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 3, 30_000)
    scores = rng.normal(np.array([-1.0, 0.0, 2.0])[groups], 1.0)
    overall = (scores > 0).mean()
    after = scores + to_one_rate(scores, groups, 4)[groups]
    for group in range(3):
        assert (after[groups == group] > 0).mean() == pytest.approx(overall, abs=0.002)
    assert to_one_rate(scores, groups, 4)[3] == 0, "nobody is in the fourth group"


def test_a_rate_is_reached_from_anywhere() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 2, 20_000)
    scores = rng.normal(np.array([-2.0, 1.0])[groups], 1.0)
    for rate in (0.05, 0.6, 0.97):
        chosen = scores + to_one_rate(scores, groups, 2, rate=rate)[groups] > 0
        assert [chosen[groups == k].mean() for k in (0, 1)] == pytest.approx([rate, rate], abs=0.002)
    favored = np.abs(scores) + 0.1
    less = favored + to_one_rate(favored, groups, 2, rate=0.7)[groups]
    assert (less > 0).mean() == pytest.approx(0.7, abs=0.01), (
        "a model that favors everybody is led away from it"
    )
    for nothing in (None, 0.0, 1.0):  # nobody or everybody favored is no goal
        assert np.array_equal(to_one_rate(scores, groups, 2, rate=nothing), to_one_rate(scores, groups, 2))


def test_groups_too_small_to_tell_and_constant_decisions_move_nobody() -> None:
    scores, groups = np.array([1.0] * 50 + [-1.0] * 60), np.array([0] * 100 + [1] * 10)
    assert to_one_rate(scores, groups, 2)[1] == 0
    assert (to_one_rate(np.abs(scores), groups, 2) == 0).all()


@pytest.mark.parametrize("criterion", ["demographic_parity", "equalized_odds"])
def test_the_shift_that_a_world_needs_is_found(
    proxies: tuple[Table, Table], criterion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real rows whose score is known stand in for drawn ones: the group with fewer favorable labels is helped."""
    train = proxies[0]
    groups = train.groups()
    club = (train.frame["club"] == "golf").to_numpy()
    margin = 2 * (1.3 * train.frame["skill"].to_numpy() + 1.6 * club - 0.8)
    names = list(train.schema["paid"].levels)
    monkeypatch.setattr(margin_shift, "ROUNDS", 4)

    def draw(shifts: np.ndarray, turn: int) -> Table:
        rng = np.random.default_rng(turn)
        good = rng.random(len(train)) < 1 / (1 + np.exp(-moved(margin, shifts[groups.codes], 4.0)))
        paid = pl.Series("paid", np.where(good, "yes", "no"), dtype=pl.Enum(names))
        return train.replace(train.frame.with_columns(paid))

    shifts = calibrate(
        draw, train, groups.codes, 2, criterion, favorable=lambda rows: rows.favorable(), seed=0
    )
    told = dict(zip(groups.names, shifts, strict=True))
    if criterion == "demographic_parity":
        assert told["woman"] > 0.5 > -0.5 > told["man"]
    else:  # the label that tells the group may stay told: less is moved
        assert told["woman"] - told["man"] > 0.1


def test_groups_are_brought_to_the_nearest_end_of_a_band_and_no_further():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(4), [4000, 4000, 4000, 20])
    scores = rng.normal(np.array([0.0, 0.9, -0.02, 5.0])[groups], 1.5)
    overall = (scores > 0).mean()
    shifts = to_one_rate(scores, groups, 4, near=0.9)
    rates = np.array([((scores + shifts[groups]) > 0)[groups == k].mean() for k in range(3)])
    assert rates.min() / rates.max() == pytest.approx(0.9, abs=0.01)
    assert shifts[1] < 0 < shifts[0] and shifts[3] == 0
    exact = to_one_rate(scores, groups, 4)
    assert (np.abs(shifts[:3]) < np.abs(exact[:3])).all()
    wide = to_one_rate(scores, groups, 4, near=0.3)
    assert (wide == 0).all(), f"all rates are near {overall} already"
