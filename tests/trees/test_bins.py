"""Bins: heavy values do not hide the others, crowded levels lie with those that resemble them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.data.level_states import LevelStates
from fairsynth.data.number_states import NumberStates
from fairsynth.trees.bins import (
    LEVEL_BINS,
    LONE_LEVELS,
    NUMBER_BINS,
    TAIL_HALVES,
    Bins,
    equal_parts,
    learn_bins,
    number_parts,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.integers(2, 40))
def test_parts_are_stretches_without_gaps(weights: list[float], parts: int) -> None:
    part = equal_parts(np.array(weights) + 1e-3, parts)
    assert part[0] == 0 and set(np.diff(part).tolist()) <= {0, 1} and part[-1] < max(parts, 1)


def test_a_column_that_is_nearly_always_zero_keeps_bins_for_the_rest() -> None:
    """Cutting by equal weight would leave one bin to all that is not zero."""
    states = NumberStates(name="gain", step=1.0, atoms=tuple(float(v) for v in range(0, 80)), missing=False)
    column = np.concatenate([np.zeros(19_000, dtype=int), np.arange(1000) % 79 + 1])
    bins = learn_bins(states, column, np.zeros(len(column), dtype=int))
    assert bins.size >= 25 and (bins.of_state == bins.of_state[0]).sum() == 1
    rest = np.bincount(bins.of_state[column[19_000:]])
    assert rest.max() < 100


def test_numbers_are_binned_in_the_order_of_their_values() -> None:
    states = NumberStates(
        name="x", step=0.0, atoms=(0.0, 5.0), edges=tuple(np.linspace(-10, 10, 101).tolist()), missing=True
    )
    rng = np.random.default_rng(0)
    bins = learn_bins(states, rng.integers(0, states.size, 5000), np.zeros(5000, dtype=int))
    order = np.argsort(states.places()[:-1])
    assert (np.diff(bins.of_state[order]) >= 0).all() and bins.ordered
    assert bins.size <= NUMBER_BINS + 2 * TAIL_HALVES + 1
    assert (bins.of_state == bins.of_state[-1]).sum() == 1, "missing has a bin of its own"


def test_ends_of_a_number_are_parted_finer() -> None:
    part = number_parts(np.ones(32 * 16))
    sizes = np.bincount(part)
    assert (np.diff(part) >= 0).all()
    assert len(sizes) == NUMBER_BINS + 2 * TAIL_HALVES
    assert sizes[: TAIL_HALVES + 1].tolist() == [2, 2, 4, 8] == sizes[: -TAIL_HALVES - 2 : -1].tolist()
    assert set(sizes[TAIL_HALVES + 1 : -TAIL_HALVES - 1]) == {16}
    heavy = np.ones(600)
    heavy[0] = 10_000.0  # nearly everyone has the lowest value: a bin of its own, however deep its end is cut
    assert (number_parts(heavy) == 0).sum() == 1


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=300))
def test_parts_of_a_number_are_stretches(weights: list[float]) -> None:
    part = number_parts(np.array(weights) + 1e-3)
    assert part[0] == 0 and set(np.diff(part)) <= {0, 1}


def test_rare_levels_lie_with_those_of_a_similar_profile() -> None:
    rng = np.random.default_rng(0)
    n_levels = 300
    states = LevelStates(name="street", n_levels=n_levels, missing=False)
    column = rng.integers(0, n_levels, 60_000)
    cells = (rng.random(60_000) < np.where(column % 2 == 0, 0.9, 0.1)).astype(int)
    bins = learn_bins(states, column, cells)
    assert bins.size <= LEVEL_BINS and not bins.ordered
    rare = [b for b in range(bins.size) if (bins.of_state == b).sum() > 1]
    mixed = [b for b in rare if len(set((np.flatnonzero(bins.of_state == b) % 2).tolist())) > 1]
    assert len(rare) == bins.size - LONE_LEVELS and len(mixed) <= 1


@pytest.mark.parametrize("of_state", [[0, 2], [0, -1], [], [[0, 1]]], ids=str)
def test_maps_that_are_none_are_refused(of_state: list) -> None:
    with pytest.raises(ValueError, match="bins"):
        Bins(np.array(of_state, dtype=np.int64), 2, ordered=False)
