"""Lookup tables draw what the trees and laws that they are made of say, and nothing that never comes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.trees.bins import Bins
from fairsynth.trees.layered import LayeredTree, grow
from fairsynth.trees.lookup import ColumnLookup, kept_or_alias, pack


def grown(seed: int, n: int = 3000) -> tuple[LayeredTree, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    sizes = [2, 5, 9, 4]
    lines = [rng.integers(0, size, n) for size in sizes]
    classes = (lines[0] + lines[1] * lines[3] // 3 + (rng.random(n) < 0.2)) % 6
    bins = [Bins(np.arange(size), size, ordered=size > 4) for size in sizes]
    own = Bins(np.arange(6), 6, ordered=False)
    return grow(lines, bins, classes, own, min_leaf=20, evidence=1.0), lines


@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_a_row_reaches_the_leaf_that_the_tree_says(kind: type) -> None:
    tree, lines = grown(3)
    assert len(tree.layers) > 2
    assert tree.n_leaves > 10
    leaves = tree.leaves(lines, 3000)
    # Each leaf has a state of its own, so a state tells the leaf.
    shares = np.eye(tree.n_leaves, dtype=np.float32)
    lookup = ColumnLookup.of(tree, shares)
    drawn = lookup.draw([line.astype(kind) for line in lines], 3000, np.random.default_rng(0))
    assert drawn.dtype == np.int32
    np.testing.assert_array_equal(drawn, leaves)


def test_a_tree_without_a_layer_draws_from_its_only_leaf() -> None:
    lookup = ColumnLookup.of(LayeredTree((), 1), np.array([[0.25, 0.0, 0.75]], dtype=np.float32))
    drawn = lookup.draw([], 100_000, np.random.default_rng(0))
    assert np.bincount(drawn, minlength=3) / 1e5 == pytest.approx([0.25, 0.0, 0.75], abs=0.006)


def law_of(packed: np.ndarray, size: int) -> np.ndarray:
    """Work out the law of a packed line exactly: how often each state is kept or comes as an alias."""
    bits = packed.dtype.itemsize * 4
    keep = (packed >> packed.dtype.type(bits)).astype(float) / 2.0**bits
    alias = (packed & packed.dtype.type((1 << bits) - 1)).astype(np.int64)
    return (keep + np.bincount(alias, weights=1 - keep, minlength=size)) / size


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 300))
def test_packed_laws_are_the_shares(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.random(size) ** 6 * (rng.random(size) < 0.7)
    shares[rng.integers(size)] += 0.3
    shares = (shares / shares.sum()).astype(np.float32)[None]
    law = law_of(pack(shares), size)
    assert np.abs(law - shares[0]).max() < 2.0**-15
    assert not law[shares[0] == 0].any()


def test_very_many_states_are_packed_wider() -> None:
    size = (1 << 16) + 5
    shares = np.random.default_rng(0).random((1, size)).astype(np.float32)
    shares /= shares.sum()
    packed = pack(shares)
    assert packed.dtype == np.uint64
    assert np.abs(law_of(packed, size) - shares[0]).max() < 1e-9
    wide = np.array([7 << 32, (9 << 32) | (2**32 - 1)], dtype=np.uint64)
    state = np.array([7, 9], dtype=np.int32)
    got = kept_or_alias(packed[[7, 9]], wide, state)
    assert got[0] == 7  # chance 0 keeps all that may come
    assert got[1] == int(packed[9] & np.uint64(2**32 - 1))  # chance of all ones keeps nothing


def test_what_never_comes_is_not_drawn_at_either_end_of_chance() -> None:
    packed = pack(np.array([[0.0, 1.0, 0.0, 0.0]], dtype=np.float32))
    for state in range(4):
        for low in (0, 1, 2**16, 2**32 - 1):
            wide = np.array([(state << 32) | low], dtype=np.uint64)
            got = kept_or_alias(packed[[state]], wide, np.array([state], dtype=np.int32))
            assert got[0] == 1
