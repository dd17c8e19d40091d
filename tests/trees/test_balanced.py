"""Labels in balance: each keeps its probability, and sums over variables stay where they are expected."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.trees.balanced import MOST, balanced, variables_of


def people(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    lines = [rng.integers(0, k, n) for k in (2, 5, 20)]
    shares = 1 / (1 + np.exp(-(lines[0] - 0.5 + 0.1 * (lines[2] - 10))))
    return shares, rng.integers(0, 2, n), lines


def test_each_label_keeps_its_probability():
    shares, groups, lines = people(30, 0)
    variables = variables_of(shares, groups, lines, (False, False, True))
    draws = 500
    drawn = sum(balanced(shares, variables, np.random.default_rng(seed)) for seed in range(draws)) / draws
    error = np.sqrt(shares * (1 - shares) / draws)
    assert (np.abs(drawn - shares) < 4.5 * error).all()


def test_sums_over_variables_are_nearly_those_that_are_expected():
    shares, groups, lines = people(600, 1)
    variables = variables_of(shares, groups, lines, (False, False, True))
    rng = np.random.default_rng(2)

    def off(label: np.ndarray) -> np.ndarray:
        return (variables.T @ (label - shares)) ** 2

    even = np.mean([off(balanced(shares, variables, rng)) for _ in range(20)], axis=0)
    alone = np.mean([off(rng.random(600) < shares) for _ in range(200)], axis=0)
    assert (even < 0.15 * alone).all()
    assert even[:2].max() < 2  # of either group as many as are expected, but for a row or so


def test_variables_that_depend_on_each_other_cost_no_balance():
    """Columns twice, sums of others, and those that are nothing: rank is lost, and what is left is served as before."""
    shares, groups, lines = people(2_000, 8)
    variables = variables_of(shares, groups, lines, (False, False, True))
    rare = np.zeros((2_000, 1))
    rare[7] = 1.0
    doubled = np.concatenate(
        [variables, variables @ np.full((variables.shape[1], 3), [1.0, -2.0, 1e3]), rare], 1
    )
    rng = np.random.default_rng(9)

    def off(label: np.ndarray) -> np.ndarray:
        return (variables.T @ (label - shares)) ** 2

    for own in (doubled, doubled[:, ::-1]):
        even = np.mean([off(balanced(shares, own, rng)) for _ in range(8)], axis=0)
        alone = np.mean([off(rng.random(2_000) < shares) for _ in range(200)], axis=0)
        assert (even < 0.1 * alone).all()


def test_a_linear_model_learns_the_law_from_fewer_rows():
    from sklearn.linear_model import LogisticRegression

    shares, groups, lines = people(400, 3)
    variables = variables_of(shares, groups, lines, (False, False, True))
    features = np.column_stack([lines[0], lines[2] / 20, np.random.default_rng(4).normal(size=400)])
    rng = np.random.default_rng(5)

    def spread(draw) -> float:
        found = [LogisticRegression().fit(features, draw()).coef_[0][0] for _ in range(20)]
        return float(np.std(found))

    assert spread(lambda: balanced(shares, variables, rng)) < 0.5 * spread(lambda: rng.random(400) < shares)


@settings(max_examples=40, deadline=None)
@given(
    shares=st.lists(st.floats(0, 1, allow_subnormal=False), min_size=0, max_size=30),
    width=st.integers(1, 6),
    seed=st.integers(0, 9),
)
def test_what_is_certain_stays_so_and_the_sum_is_whole(shares, width, seed):
    rng = np.random.default_rng(seed)
    given_ = np.array(shares, dtype=np.float64)
    variables = np.column_stack([np.ones(len(given_)), rng.normal(size=(len(given_), width - 1))])
    drawn = balanced(given_, variables, rng)
    assert set(np.unique(drawn)) <= {0, 1}
    assert (drawn[given_ == 0] == 0).all() and (drawn[given_ == 1] == 1).all()
    # Of many variables the first is served to the last but one of the rows that are left.
    assert abs(drawn.sum() - given_.sum()) < 1 + 1e-6


def test_variables_are_of_the_right_kind():
    shares, groups, lines = people(200, 6)
    lines[1] = np.where(lines[1] == 4, 3, lines[1])
    lines[1][0] = 4  # a level of one person is not balanced by itself
    found = variables_of(shares, groups, lines, (False, False, True))
    assert found.shape == (200, 2 + 1 + 1 + 3 + 1)
    place = found[:, -1]
    assert place[lines[2] == lines[2].max()].min() > place[lines[2] == 0].max()
    assert np.corrcoef(place, lines[2])[0, 1] == pytest.approx(1, abs=0.05)


def test_of_many_variables_those_that_vary_most_are_kept():
    rng = np.random.default_rng(7)
    lines = [rng.integers(0, 9, 500) for _ in range(30)]
    groups = rng.integers(0, 3, 500)
    shares = rng.random(500)
    found = variables_of(shares, groups, lines, (False,) * 30)
    assert found.shape == (500, MOST)
    assert (found[:, :3].sum(axis=1) == 1).all()  # groups are never given up
    kept = found[:, 4:].var(axis=0)
    assert (np.diff(kept) <= 1e-9).all() and kept.min() > 0
    crowded = variables_of(shares, np.arange(500), lines, (False,) * 30)
    assert crowded.shape == (500, MOST)
