"""P(y, s): from the real table to what a criterion asks for."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.generators.group_law import (
    MAX_SHIFT,
    fair_table,
    joint_counts,
    matching_shifts,
    with_group_shares,
)

COUNTS = np.array([[300, 120, 40], [100, 200, 160], [30, 10, 60]])  # labels × groups
FAVORABLE = np.array([False, True, True])
SHIFTS = np.array([0.8, -0.5, 0.0])


def asked(criterion: str, strength: float, counts: np.ndarray = COUNTS) -> np.ndarray:
    n_labels, n_groups = counts.shape
    return fair_table(
        counts,
        Fairness(criterion, strength),  # type: ignore[arg-type]
        favorable=FAVORABLE[:n_labels],
        shifts=None if criterion == "demographic_parity" else SHIFTS[:n_groups],
    )


def rates(table: np.ndarray) -> np.ndarray:
    """Return the share of favorable labels in each group."""
    return table[FAVORABLE[: len(table)]].sum(0) / table.sum(0)


def test_joint_counts() -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 3, 500), rng.integers(0, 4, 500)
    wanted = [[((labels == y) & (groups == s)).sum() for s in range(5)] for y in range(3)]
    assert joint_counts(labels, groups, 3, 5).tolist() == wanted


@pytest.mark.parametrize("criterion", CRITERIA)
def test_strength_zero_is_the_real_table(criterion: str) -> None:
    assert asked(criterion, 0.0) == pytest.approx(COUNTS / COUNTS.sum(), abs=1e-15)


def test_full_demographic_parity_is_independence() -> None:
    table = asked("demographic_parity", 1.0)
    labels, groups = COUNTS.sum(1) / COUNTS.sum(), COUNTS.sum(0) / COUNTS.sum()
    assert table == pytest.approx(np.outer(labels, groups), abs=1e-12)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("strength", [0.0, 0.01, 0.3, 0.99, 1.0])
def test_shares_of_groups_stay(criterion: str, strength: float) -> None:
    assert asked(criterion, strength).sum(0) == pytest.approx(COUNTS.sum(0) / COUNTS.sum(), abs=1e-12)


def test_parity_grows_with_the_strength() -> None:
    gaps = [np.ptp(rates(asked("demographic_parity", s))) for s in np.linspace(0, 1, 21)]
    assert (np.diff(gaps) < 0).all() and gaps[-1] < 1e-12 and gaps[0] == pytest.approx(np.ptp(rates(COUNTS)))


def test_every_pair_of_labels_draws_nearer_not_only_the_favorable_ones() -> None:
    for a in range(3):
        given_group = [asked("demographic_parity", s) / COUNTS.sum(0) * COUNTS.sum() for s in (0.0, 0.5, 1.0)]
        gaps = [np.ptp(law[a]) for law in given_group]
        assert gaps[0] > gaps[1] > gaps[2]


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_shifts_move_the_odds_of_favorable_labels_and_nothing_else(strength: float) -> None:
    """Odds between favorable labels, and between the others, stay as they are; the rest moves by the shift."""
    before, after = (COUNTS + 0.5), asked("equalized_odds", strength)
    assert after[1] / after[2] == pytest.approx(before[1] / before[2])
    moved = np.log(after[1] / after[0]) - np.log(before[1] / before[0])
    assert moved == pytest.approx(strength * SHIFTS)


def test_a_label_that_nobody_has_stays_impossible() -> None:
    counts = np.array([[50, 30], [0, 0], [20, 60]])
    for criterion in CRITERIA:
        for strength in (0.0, 0.5, 1.0):
            assert (asked(criterion, strength, counts)[1] == 0).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    cells=st.lists(
        st.lists(st.sampled_from([0, 0, 1, 2, 30, 1000]), min_size=4, max_size=4), min_size=2, max_size=3
    ),
    strength=st.floats(0, 1),
    criterion=st.sampled_from(CRITERIA),
    seed=st.integers(0, 99),
)
def test_tiny_groups_never_give_nan(
    cells: list[list[int]], strength: float, criterion: str, seed: int
) -> None:
    counts = np.array(cells)
    counts[0] += counts.sum(0) == 0  # every group was seen
    rng = np.random.default_rng(seed)
    labels, groups = (np.repeat(a, counts.ravel()) for a in np.indices(counts.shape).reshape(2, -1))
    favorable = FAVORABLE[: len(counts)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shifts = matching_shifts(
            rng.normal(size=len(labels)), favorable[labels], groups, 4, opportunity_only=bool(seed % 2)
        )
        table = fair_table(
            counts, Fairness(criterion, strength), favorable=favorable, shifts=shifts  # type: ignore[arg-type]
        )  # fmt: skip
    assert np.isfinite(shifts).all() and (np.abs(shifts) <= MAX_SHIFT).all()
    assert np.isfinite(table).all() and (table >= 0).all() and table.sum() == pytest.approx(1)
    assert table.sum(0) == pytest.approx(counts.sum(0) / counts.sum())


def test_a_group_of_one_person_is_not_certain_of_its_label() -> None:
    counts = np.array([[500, 1], [500, 0]])
    table = fair_table(counts, Fairness(strength=0.5), favorable=np.array([False, True]))
    assert 0.1 < table[1, 1] / table[:, 1].sum() < 0.5
    assert fair_table(counts, Fairness(strength=0.0), favorable=np.array([False, True]))[1, 1] == 0


# ------------------------------------------------------------------------------ criteria on errors: a probe
def probe(
    offsets: list[float], *, n: int = 6000, seed: int = 0, base: tuple[float, ...] = (0.5, 0.3, 0.6)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores that are equally good in every group but for a constant by which each is off."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, len(offsets), n)
    actual = rng.random(n) < np.array(base)[groups]
    scores = rng.normal(size=n) + np.where(actual, 1.0, -1.0) + np.array(offsets)[groups]
    return scores, actual, groups


def errors(scores: np.ndarray, actual: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the true and false positive rate of each group, ``(2, groups)``."""
    chosen = scores > 0
    return np.array(
        [[chosen[(groups == g) & (actual == y)].mean() for g in range(n_groups)] for y in (True, False)]
    )


def test_shifts_make_true_and_false_positive_rates_equal() -> None:
    scores, actual, groups = probe([0.9, -0.8, 0.1])
    shifts = matching_shifts(scores, actual, groups, 3, opportunity_only=False)
    before = errors(scores, actual, groups, 3)
    after = errors(scores + shifts[groups], actual, groups, 3)
    assert np.ptp(before, axis=1).min() > 0.2
    assert np.ptp(after, axis=1).max() < 0.05
    # Every group is moved to where everyone was, so one that was there stays.
    overall = [(scores > 0)[actual].mean(), (scores > 0)[~actual].mean()]
    assert np.abs(after - np.array(overall)[:, None]).max() < 0.08
    assert shifts[0] < -0.5 and shifts[1] > 0.5 and abs(shifts[2]) < 0.35


def test_equal_groups_are_not_shifted() -> None:
    scores, actual, groups = probe([0.0, 0.0, 0.0], n=20_000)
    assert np.abs(matching_shifts(scores, actual, groups, 3, opportunity_only=False)).max() < 0.16


def test_opportunity_matches_true_positives_alone() -> None:
    """In the second group the probe is good at finding the one kind and poor at the other: both cannot match."""
    rng = np.random.default_rng(0)
    n = 6000
    groups, actual = rng.integers(0, 2, n), rng.random(n) < 0.4
    scores = rng.normal(size=n) + np.where(actual, 1.5, np.where(groups == 1, 1.0, -2.0)) - 0.7 * groups
    shifts = matching_shifts(scores, actual, groups, 2, opportunity_only=True)
    after = errors(scores + shifts[groups], actual, groups, 2)
    assert np.ptp(after[0]) < 0.03 and np.ptp(after[1]) > 0.2
    both = matching_shifts(scores, actual, groups, 2, opportunity_only=False)
    assert np.ptp(errors(scores + both[groups], actual, groups, 2)[1]) < np.ptp(after[1]) - 0.05


def test_groups_without_ten_of_each_kind_are_left_alone() -> None:
    scores, actual, groups = probe([2.0, 0.0], n=2000)
    few = (groups == 1) | (np.cumsum((groups == 0) & actual) <= 9) | ~actual
    shifts = matching_shifts(scores[few], actual[few], groups[few], 2, opportunity_only=False)
    assert shifts[0] == 0


def test_shifting_labels_by_resampling_moves_a_classifier_by_the_same_log_odds() -> None:
    """The reason why one number a group is enough (Saerens et al., 2002): Bayes' rule on a law that is known."""
    rng = np.random.default_rng(0)
    counts = np.array([[4000, 9000], [6000, 1000]])
    shifts = np.array([-0.7, 1.2])
    table = fair_table(
        counts, Fairness("equalized_odds"), favorable=np.array([False, True]), shifts=shifts
    )  # fmt: skip
    x = rng.normal(size=7)
    ratio = 2 * x  # log p(x | 1) - log p(x | 0) of two Gaussians at ±1
    for group in (0, 1):
        real = ratio + np.log(counts[1, group] / counts[0, group])
        moved = ratio + np.log(table[1, group] / table[0, group])
        assert moved - real == pytest.approx(np.full(7, shifts[group]), abs=1e-3)


def test_other_shares_of_groups_keep_the_label_law_of_each() -> None:
    table = asked("demographic_parity", 0.5)
    other = with_group_shares(table, np.array([0.1, 0.2, 0.7]))
    assert other.sum(0) == pytest.approx([0.1, 0.2, 0.7])
    assert rates(other) == pytest.approx(rates(table))
