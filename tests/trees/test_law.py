"""Laws of leaves: drawn exactly, smoothed towards the node above, never outside of what is allowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fairsynth.trees.bins import Bins
from fairsynth.trees.law import LeafLaw, alias_table, leaf_counts, shares_of_counts, smoothed_shares
from fairsynth.trees.layered import Layer, LayeredTree, grow


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 12)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.one_of(st.just(0.0), st.floats(1e-6, 1e3)))
    )
)
def test_an_alias_table_gives_every_state_its_share(weights: np.ndarray) -> None:
    weights = weights + (weights.sum(1, keepdims=True) == 0)
    accept, other = alias_table(weights)
    size = weights.shape[1]
    got = accept / size
    for line in range(len(weights)):
        np.add.at(got[line], other[line], (1 - accept[line]) / size)
    assert got == pytest.approx(weights / weights.sum(1, keepdims=True), abs=1e-9)


def test_states_come_in_the_shares_of_their_leaf() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(9, 0.4), size=3).astype(np.float32)
    leaves = rng.integers(0, 3, 120_000)
    states = LeafLaw(shares).draw(leaves, rng)
    for leaf in range(3):
        got = np.bincount(states[leaves == leaf], minlength=9) / (leaves == leaf).sum()
        assert got == pytest.approx(shares[leaf], abs=0.01)


TWO_LEAVES = LayeredTree((Layer(0, np.array([[0, 1]])),), 2)


def test_a_leaf_leans_on_the_node_above_it() -> None:
    """Closed form: so many rows of the law above for each state that the leaf has itself."""
    line = np.repeat([0, 1], [30, 10])
    column = np.array([0] * 20 + [1] * 10 + [2] * 10)
    law = smoothed_shares(TWO_LEAVES, [line], column, 3, weight=0.5)
    root = (np.array([20, 10, 10]) + 1 / 3) / 41
    assert law[0] == pytest.approx((np.array([20, 10, 0]) + 1.0 * root) / 31, abs=1e-6)
    assert law[1] == pytest.approx((np.array([0, 0, 10]) + 0.5 * root) / 10.5, abs=1e-6)


def test_without_weight_leaves_are_counts() -> None:
    line, column = np.repeat([0, 1], [30, 10]), np.array([0] * 20 + [1] * 10 + [2] * 10)
    law = smoothed_shares(TWO_LEAVES, [line], column, 3, weight=0.0)
    assert law == pytest.approx(np.array([[2 / 3, 1 / 3, 0], [0, 0, 1]]), abs=1e-6)


def test_nothing_leaks_past_the_first_layer_where_states_are_not_allowed() -> None:
    tree = LayeredTree((Layer(0, np.array([[0, 1, 2]])), Layer(1, np.array([[0, 3], [1, 1], [2, 2]]))), 4)
    rng = np.random.default_rng(0)
    band, other = rng.integers(0, 2, 400), rng.integers(0, 2, 400)  # nobody is in the third band
    column = band * 2 + rng.integers(0, 2, 400)
    allowed = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]], dtype=bool)
    law = smoothed_shares(tree, [band, other], column, 5, weight=3.0, allowed=allowed)
    assert (law[[0, 3]][:, 2:] == 0).all() and (law[1][[0, 1, 4]] == 0).all()
    assert law[2] == pytest.approx([0, 0, 0, 0, 1]) and law.sum(1) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "shares",
    [
        np.full((2, 3), 1 / 3),  # float64
        np.full((3, 3), 1 / 3, dtype=np.float32),
        np.array([[1, 0, 0], [np.nan, 0, 1]], dtype=np.float32),
        np.array([[1, 0, 0], [-1, 1, 1]], dtype=np.float32),
        np.array([[1, 0, 0], [1, 1, 1]], dtype=np.float32),
    ],
    ids=["dtype", "leaves", "nan", "negative", "sum"],
)
def test_laws_that_are_none_are_refused(shares: np.ndarray) -> None:
    with pytest.raises(ValueError, match="law of a column"):
        LeafLaw(shares).check(2, 3)


def test_counts_of_batches_make_the_law_of_all_rows() -> None:
    rng = np.random.default_rng(4)
    lines = [rng.integers(0, size, 4000) for size in (3, 8, 5)]
    column = (lines[0] * 7 + lines[1] + rng.integers(0, 9, 4000)) % 40
    own = Bins(np.arange(40) // 4, 10, ordered=True)
    bins = [Bins(np.arange(size), size, ordered=size > 4) for size in (3, 8, 5)]
    tree = grow(lines, bins, own.of_state[column], own, min_leaf=20, evidence=1.0)
    assert tree.n_leaves > 10
    parts = [slice(0, 1), slice(1, 1500), slice(1500, 4000)]
    counts = sum(leaf_counts(tree, [line[part] for line in lines], column[part], 40) for part in parts)
    for coarse in (None, own):
        whole = smoothed_shares(tree, lines, column, 40, weight=0.1, coarse=coarse)
        np.testing.assert_array_equal(shares_of_counts(tree, counts, weight=0.1, coarse=coarse), whole)
        # Where nobody comes the law is that of the node above: still one.
        empty = counts.copy()
        empty[:3] = 0
        law = shares_of_counts(tree, empty, weight=0.1, coarse=coarse)
        assert np.isfinite(law).all()
        np.testing.assert_allclose(law.sum(1), 1, atol=1e-5)
