"""The shift of each group's labels is set by what a probe decides on real rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import proxy_frame

from fairsynth.data.table import Table
from fairsynth.fairness import Fairness
from fairsynth.generators.calibration import CLOSE, PROBE_ROWS, SMALL_GROUP, calibrated_shifts, parity_shifts
from fairsynth.generators.group_law import MAX_SHIFT


def rates(scores: np.ndarray, groups: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    among = np.ones(len(scores), dtype=bool) if among is None else among
    return np.array([(scores[among & (groups == g)] > 0).mean() for g in np.unique(groups)])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), offsets=st.lists(st.floats(-1.5, 1.5), min_size=2, max_size=4))
def test_parity_shifts_bring_rates_together(seed: int, offsets: list[float]) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, len(offsets), 4000)
    scores = rng.normal(size=4000) + np.array(offsets)[groups]
    shifts = parity_shifts(scores, groups, len(offsets))
    after = rates(scores + shifts[groups], groups)
    assert after.min() / after.max() > CLOSE - 0.01
    # Who is near enough stays, and nobody is moved further than needed.
    overall = (scores > 0).mean()
    near = np.abs(np.log(rates(scores, groups) / overall)) < -0.49 * np.log(CLOSE)
    assert (shifts[near] == 0).all()
    assert (np.sign(shifts[~near]) == -np.sign(rates(scores, groups) - overall)[~near]).all()


def test_groups_that_say_too_little_are_not_shifted() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], [500, SMALL_GROUP - 1, SMALL_GROUP])
    scores = rng.normal(size=len(groups)) + np.array([0, 5, 5])[groups]
    shifts = parity_shifts(scores, groups, 4)
    assert shifts[1] == 0 and shifts[3] == 0 and shifts[2] < 0


@pytest.mark.parametrize("sign", [1, -1])
def test_a_probe_that_answers_one_thing_moves_nothing(sign: int) -> None:
    scores, groups = sign * np.arange(1.0, 101), np.arange(100) % 2
    assert (parity_shifts(scores, groups, 2) == 0).all()


def test_shifts_are_bounded() -> None:
    scores = np.concatenate([np.full(50, 90.0), np.full(50, -90.0)])
    shifts = parity_shifts(scores, np.repeat([0, 1], 50), 2)
    assert np.abs(shifts).max() <= MAX_SHIFT and np.isfinite(shifts).all()


class World:
    """Real people, and synthetic ones whose label odds can be shifted by group and who are else like them."""

    def __init__(self) -> None:
        self.real = Table(proxy_frame(2500, 0), target="paid", favorable="yes", sensitive="sex")
        self.groups = self.real.groups().codes
        self.turns: list[int] = []

    def draw(self, shifts: np.ndarray, turn: int) -> Table:
        self.turns.append(turn)
        weight = np.exp(shifts[self.groups] * self.real.favorable())
        for group in np.unique(self.groups):
            own = self.groups == group
            weight[own] /= weight[own].sum() / own.sum()
        chosen = np.random.default_rng([5, turn]).choice(
            len(self.real), len(self.real), p=weight / weight.sum()
        )
        return self.real.replace(self.real.frame[chosen])

    def decisions(self, shifts: np.ndarray) -> np.ndarray:
        """Return log odds by a model of another kind than the probe, for other real people."""
        from sklearn.linear_model import LogisticRegression

        test = self.real.align(proxy_frame(6000, 9))

        def design(table: Table) -> np.ndarray:
            f = table.frame
            return np.column_stack(
                [f["skill"], f["hours"] / 10, f["club"] == "golf", f["sex"] == "man"]
            ).astype(float)

        made = self.draw(shifts, 99)
        model = LogisticRegression(max_iter=500).fit(design(made), made.favorable())
        self.test = test
        return model.decision_function(design(test))


def test_calibrated_shifts_make_another_model_fair_to_other_people() -> None:
    world = World()
    shifts = calibrated_shifts(world.draw, world.real, world.groups, 2, Fairness(), seed=0)
    assert shifts.shape == (2,) and world.turns == sorted(set(world.turns)), "each round has rows of its own"
    found = []
    for tried in (np.zeros(2), shifts):
        got = rates(world.decisions(tried), world.test.groups().codes)
        found.append(got.min() / got.max())
    assert found[0] < 0.6 and found[1] > 0.85
    again = World()
    assert (calibrated_shifts(again.draw, again.real, again.groups, 2, Fairness(), seed=0) == shifts).all()


@pytest.mark.parametrize("criterion", ["equalized_odds", "equal_opportunity"])
def test_calibrated_shifts_make_errors_alike(criterion: str) -> None:
    world = World()
    shifts = calibrated_shifts(world.draw, world.real, world.groups, 2, Fairness(criterion), seed=0)  # type: ignore[arg-type]
    gaps = []
    for tried in (np.zeros(2), shifts):
        scores = world.decisions(tried)
        codes, good = world.test.groups().codes, world.test.favorable()
        both = [rates(scores, codes, good), rates(scores, codes, ~good)]
        ratios = [r.min() / r.max() for r in both]
        gaps.append(ratios[0] if criterion == "equal_opportunity" else min(ratios))
    assert gaps[1] > gaps[0] + 0.1


def test_labels_without_variety_end_the_search() -> None:
    world = World()
    only = world.real.replace(world.real.frame.filter(world.real.favorable()))
    shifts = calibrated_shifts(lambda s, t: only, world.real, world.groups, 2, Fairness(), seed=0)
    assert (shifts == 0).all()
    assert len(world.real) < PROBE_ROWS
