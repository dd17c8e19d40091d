"""How the law of a label is moved for each group: two numbers, and columns that count less."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from fairsynth.generators.evening import (
    ASIDE,
    BELL,
    BEYOND,
    NEAR,
    STEEP,
    STEEPEST,
    WIDE_BELL,
    WIDTH,
    Evening,
    Fold,
    faded,
    margins_of,
    plan,
)
from fairsynth.generators.margin_shift import FAR, moved
from fairsynth.trees.scores import PairScores

MARGINS = np.linspace(-6, 6, 2001)
ONE = np.zeros(len(MARGINS), dtype=np.int64)


def of(linear: float, crossing: float, reach: float = FAR, beyond: float = FAR) -> Evening:
    return Evening(np.array([linear]), np.array([crossing]), np.zeros((1, 0)), reach, beyond=beyond)


@settings(max_examples=60, deadline=None)
@given(
    linear=st.floats(-2, 2), more=st.floats(-1.0, 1.0), reach=st.sampled_from([1.0, 2.0, 8.0, FAR]),
    beyond=st.sampled_from([1.0, BEYOND, FAR]), steepness=st.floats(0, STEEPEST),
    bell=st.sampled_from([0.0, BELL, WIDE_BELL]),
)  # fmt: skip
def test_ranks_stay_and_the_crossing_comes_to_one_half(
    linear: float, more: float, reach: float, beyond: float, steepness: float, bell: float
) -> None:
    evening = of(linear, linear + more, reach, beyond)
    after = evening.moved(MARGINS, ONE, 1.0)
    assert (np.diff(after) >= -1e-9).all()
    steep = replace(evening, steepness=steepness, bell=bell).moved(MARGINS, ONE, 1.0)
    assert (np.diff(steep) >= -1e-9).all()
    assert np.array_equal(np.sign(steep), np.sign(after)), "so what comes to one half stays there"
    there = np.array([-(linear + more)])
    left = moved(there, np.array([linear]), reach, min(max(reach, 1.0), beyond))[0]
    at = evening.moved(there, np.zeros(1, dtype=np.int64), 1.0)
    assert abs(at[0]) < 1e-9 or abs(left) > 0.4 * WIDTH
    assert abs(at[0]) <= abs(left)


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_a_threshold_is_steeper_and_nobody_changes_sides(strength: float) -> None:
    """Slope 1 + steepness at the threshold, everything as it was far from it, and ranks are kept in between."""
    plain = of(0.7, 0.7)
    steep = replace(plain, steepness=STEEPEST)
    before, after = (one.moved(MARGINS, ONE, strength) for one in (plain, steep))
    near, far = np.abs(before) < NEAR, np.abs(before) > ASIDE
    assert np.allclose(after[near], before[near] * (1 + strength * STEEPEST))
    assert np.array_equal(after[far], before[far])
    assert np.array_equal(np.sign(after), np.sign(before))
    assert (np.abs(after) >= np.abs(before)).all()
    slopes = np.diff(after) / np.diff(before)
    assert slopes.min() > 0.8, "who was told apart still is"


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("bell", [BELL, WIDE_BELL])
def test_a_bell_is_steep_at_the_threshold_alone(strength: float, bell: float) -> None:
    plain = of(0.7, 0.7)
    steep = replace(plain, steepness=STEEP, bell=bell)
    before, after = (one.moved(MARGINS, ONE, strength) for one in (plain, steep))
    next_to, beside, far = (
        np.abs(before) < 0.05,
        np.isclose(np.abs(before), bell, atol=0.02),
        np.abs(before) > 3 * bell,
    )
    assert next_to.any() and beside.any() and far.any()
    assert np.allclose(after[next_to], before[next_to] * (1 + strength * STEEP), rtol=0.01)
    assert np.allclose(after[beside], before[beside] * (1 + strength * STEEP / np.e), rtol=0.02)
    assert np.allclose(after[far], before[far], rtol=2e-4)
    assert np.array_equal(np.sign(after), np.sign(before))
    slopes = np.diff(after) / np.diff(before)
    assert slopes.min() > 0.5, "who was told apart still is, though less"


def test_what_moves_no_group_is_as_steep() -> None:
    made = replace(of(0.7, 1.3, 5.0, BEYOND), steepness=1.5, bell=BELL).unmoved()
    assert (made.steepness, made.bell, made.reach, made.beyond) == (1.5, BELL, 5.0, BEYOND)
    assert not made.linear.any()
    assert not made.crossing.any()


def test_far_from_the_threshold_only_the_whole_move_is_left() -> None:
    evening = of(0.5, 1.3)
    far = np.abs(MARGINS + 1.3) > WIDTH
    assert np.allclose(evening.moved(MARGINS, ONE, 1.0)[far], MARGINS[far] + 0.5)
    assert np.array_equal(of(0.7, 0.7, 2.0).moved(MARGINS, ONE, 1.0), moved(MARGINS, np.full(2001, 0.7), 2.0))


@pytest.mark.parametrize("move", [1.0, -1.0, 0.4])
def test_who_is_past_the_threshold_already_is_moved_a_little(move: float) -> None:
    """Of people moved up, those far above stay; those as far below come along."""
    after = of(move, move, 5.0, BEYOND).moved(MARGINS, ONE, 1.0)
    toward, gained = np.sign(move) * MARGINS, np.sign(move) * (after - MARGINS)
    size = abs(move)
    assert np.allclose(gained[toward >= BEYOND * size], 0)
    assert (gained[(toward > -size) & (toward < 0.9 * BEYOND * size)] > 0).all()
    assert gained[np.argmin(np.abs(toward + size))] == pytest.approx(size, abs=0.01)
    assert (gained[(toward > -5.9 * size) & (toward < -2 * BEYOND * size)] > 0).all()


def test_at_strength_0_nothing_moves_and_groups_have_their_own_numbers() -> None:
    evening = Evening(np.array([1.0, -1.0]), np.array([1.5, -0.5]), np.zeros((2, 0)), FAR)
    groups = np.arange(len(MARGINS)) % 2
    assert np.array_equal(evening.moved(MARGINS, groups, 0.0), MARGINS)
    both = evening.moved(MARGINS, groups, 1.0)
    assert np.allclose(both[groups == 1], of(-1.0, -0.5).moved(MARGINS, ONE, 1.0)[groups == 1])


@settings(max_examples=40, deadline=None)
@given(
    sharpness=st.floats(1.0, 1.3), middle=st.floats(-4, 4), spread=st.floats(0.1, 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_sharper_labels_are_as_often_favorable(
    sharpness: float, middle: float, spread: float, seed: int
) -> None:
    margins = np.random.default_rng(seed).normal(middle, spread, 500)
    evening = Evening.none(2, 0, 8.0).sharpened(sharpness, margins)
    everyone = np.zeros(500, dtype=np.int64)
    after = evening.moved(margins, everyone, 1.0)
    assert expit(after).mean() == pytest.approx(expit(margins).mean(), abs=1e-6)
    assert after.std() == pytest.approx(sharpness * margins.std(), rel=1e-9)
    assert np.array_equal(evening.moved(margins, everyone, 0.0), margins)
    half = evening.moved(margins, everyone, 0.5)
    assert np.allclose(half, (margins + after) / 2)
    evening.check(2, 0)


def test_thresholds_stay_at_the_same_people_when_sharpened() -> None:
    """What is planned in plain scores lies at one half again in sharper ones; what is not moved, stays."""
    planned = Evening(np.array([0.8, 0.0]), np.array([0.8, 0.0]), np.zeros((2, 0)), FAR)
    sharper = planned.sharpened(1.25, MARGINS - 1)
    at = np.array([-0.8])
    assert sharper.moved(at, np.zeros(1, dtype=np.int64), 1.0)[0] == pytest.approx(0, abs=1e-9)
    assert sharper.linear[1] == sharper.crossing[1] == 0
    assert np.array_equal(sharper.linear, sharper.crossing)


def test_what_is_sharpened_can_be_read_again_and_is_sharpened_once() -> None:
    """Nearly sure labels, seldom favorable: a level beyond what files may hold is cut."""
    margins = np.r_[np.full(950, -15.0), np.full(50, 15.0)]
    for own in (margins, np.full(9, 40.0), np.full(9, -40.0)):
        made = Evening(np.array([4.0]), np.array([4.0]), np.zeros((1, 0)), 8.0).sharpened(1.3, own)
        made.check(1, 0)
        with pytest.raises(ValueError, match="already"):
            made.sharpened(1.1, own)


def test_a_column_that_is_faded_wholly_tells_nothing() -> None:
    rng = np.random.default_rng(0)
    tables = (rng.normal(size=(3, 4, 1)).astype(np.float32), rng.normal(size=(3, 3, 1)).astype(np.float32))
    scores = PairScores(np.array([0.1]), ((0, 1), (0, 0)), tables)
    shares = [np.array([0.2, 0.3, 0.5]), np.full(4, 0.25)]
    less = faded(scores, np.array([1.0, 0.0]), shares)
    other = np.arange(4).repeat(3)
    lines = [np.tile(np.arange(3), 4), other]
    found = less.scores(lines, 12)[:, 0].reshape(4, 3)
    assert np.allclose(found, found[:, :1], atol=1e-6)
    mean = scores.scores(lines, 12)[:, 0].reshape(4, 3) @ shares[0]
    assert np.allclose(found[:, 0], mean, atol=1e-6)
    half = faded(scores, np.array([0.5, 0.0]), shares).scores(lines, 12)
    assert np.allclose(half, (less.scores(lines, 12) + scores.scores(lines, 12)) / 2, atol=1e-6)


def unequal(n: int = 40_000) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, PairScores]:
    """People of two groups; a second column tells the labels of group 0 only, so that no thresholds are equal."""
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 2, n)
    first, second = rng.integers(0, 9, n), rng.integers(0, 9, n)
    odds = 0.5 * (first - 4) + np.where(groups == 0, 1.0, 0.0) * (second - 4)
    actual = rng.random(n) < 1 / (1 + np.exp(-odds))
    # One table over (second, group) and one of the first column: the law as it is.
    table = np.zeros((9, 2, 1), dtype=np.float32)
    table[:, 0, 0] = 1.0 * (np.arange(9) - 4)
    own = np.broadcast_to((0.5 * (np.arange(9) - 4))[:, None, None], (9, 9, 1)).astype(np.float32)
    law = PairScores(np.zeros(1), ((0, 0), (1, 2)), (own, table))
    return [first, second, groups], actual, groups, law


#: What is added to the scores of groups: nothing.
NO_SCORES = np.zeros((3, 1))


def rates(margins: np.ndarray, actual: np.ndarray, groups: np.ndarray) -> np.ndarray:
    chosen = margins > 0
    return np.array(
        [[chosen[(groups == k) & actual].mean(), chosen[(groups == k) & ~actual].mean()] for k in (0, 1)]
    )


def test_the_plan_fades_what_tells_one_group_better_and_rates_come_together() -> None:
    lines, actual, groups, law = unequal()
    shares = [np.bincount(line) / len(line) for line in lines]
    folds = [Fold(law, np.arange(len(groups)), NO_SCORES)]
    favored = np.array([False, True])
    evening = plan(folds, lines, shares, actual, favored, groups, 2, opportunity_only=False, reach=FAR)
    assert evening.faded[0].any()
    scores = margins_of(law.scores(lines, len(groups)), favored)
    less = [margins_of(faded(law, own, shares).scores(lines, len(groups)), favored) for own in evening.faded]
    after = evening.moved(np.where(groups == 0, *less), groups, 1.0)
    found = rates(after, actual, groups)
    assert (found.min(0) / found.max(0)).min() > 0.85
    # Thresholds alone cannot do that: the errors of the better told group stay fewer.
    plain = rates(scores, actual, groups)
    assert (plain.min(0) / plain.max(0)).min() < 0.8


def test_what_is_added_to_a_group_moves_its_threshold() -> None:
    lines, actual, groups, law = unequal()
    shares = [np.bincount(line) / len(line) for line in lines]
    favored = np.array([False, True])

    def planned(more: float) -> np.ndarray:
        folds = [Fold(law, np.arange(len(groups)), np.array([[more], [0.0]]))]
        return plan(
            folds, lines, shares, actual, favored, groups, 2, opportunity_only=True, reach=FAR
        ).crossing

    assert planned(0.7) - planned(0.0) == pytest.approx([-0.7, 0.0], abs=1e-6)


def test_equal_opportunity_is_planned_without_fading() -> None:
    lines, actual, groups, law = unequal()
    shares = [np.bincount(line) / len(line) for line in lines]
    favored = np.array([False, True])
    evening = plan(
        [Fold(law, np.arange(len(groups)), NO_SCORES)], lines, shares, actual, favored, groups, 2,
        opportunity_only=True, reach=FAR,
    )  # fmt: skip
    assert not evening.faded.any()
    after = evening.moved(margins_of(law.scores(lines, len(groups)), favored), groups, 1.0)
    found = rates(after, actual, groups)[:, 0]
    assert found.min() / found.max() > 0.88


def test_groups_too_small_to_plan_are_left_alone() -> None:
    lines, actual, groups, law = unequal(2000)
    groups = groups.copy()
    groups[:5] = 2
    lines[2] = np.minimum(groups, 1)
    shares = [np.bincount(line) / len(line) for line in lines]
    evening = plan(
        [Fold(law, np.arange(len(groups)), NO_SCORES)], lines, shares, actual, np.array([False, True]), groups, 3,
        opportunity_only=False, reach=FAR,
    )  # fmt: skip
    assert evening.linear[2] == evening.crossing[2] == 0
    assert not evening.faded[2].any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"linear": np.array([np.nan, 0.0])},
        {"crossing": np.array([9.0, 0.0])},
        {"faded": np.full((2, 3), 1.5)},
        {"faded": np.zeros((3, 3))},
        {"linear": np.zeros(2, dtype=np.float32)},
        {"sharpness": 0.9},
        {"sharpness": 1.5},
        {"sharpness": np.nan},
        {"level": np.inf},
        {"steepness": -0.1},
        {"steepness": 2.1},
        {"steepness": np.nan},
        {"bell": -1.0},
        {"bell": 0.01},
        {"bell": 5.0},
        {"bell": np.nan},
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    good = Evening.none(2, 3, 8.0)
    good.check(2, 3)
    with pytest.raises(ValueError, match="moved"):
        replace(good, **wrong).check(2, 3)
