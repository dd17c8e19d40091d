"""Labels allotted to rows: shares kept, and chance taken out of every stretch of like rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.trees.allotment import BITS, LEAST_BITS, allotted, allotted_of_several, neighbourhoods
from fairsynth.trees.scores import PairScores


def sums_of(*effects: list[float]) -> PairScores:
    """Return a law in which each column counts by itself."""
    tables = [np.array(effect, dtype=np.float32) for effect in effects]
    return PairScores(
        np.zeros(1),
        tuple((j, j) for j in range(len(tables))),
        tuple(np.broadcast_to(own[:, None, None], (len(own), len(own), 1)) for own in tables),
    )


def alike(n_bins: int) -> np.ndarray:
    return np.full(n_bins, 1 / n_bins)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 400), n_places=st.integers(1, 40))
def test_no_stretch_is_more_than_a_label_off(seed: int, n: int, n_places: int) -> None:
    rng = np.random.default_rng(seed)
    shares, places = rng.random(n), rng.integers(0, n_places, n)
    label = allotted(shares, places, rng)
    assert set(np.unique(label)) <= {0, 1}
    assert abs(label.sum() - shares.sum()) < 1
    for end in range(n_places):
        assert abs((label - shares)[places <= end].sum()) < 1
        assert abs((label - shares)[places == end].sum()) < 2


def test_each_label_comes_with_its_share() -> None:
    shares, places = np.array([0.1, 0.5, 0.9, 0.3]), np.array([3, 0, 1, 2])
    rng = np.random.default_rng(0)
    seen = np.mean([allotted(shares, places, rng) for _ in range(4000)], axis=0)
    assert seen == pytest.approx(shares, abs=0.03)


def test_groups_come_first_then_the_column_that_counts_most() -> None:
    found = neighbourhoods(sums_of([-0.1, 0.1], [1.0, -1.0]), [alike(2), alike(2)])
    lines = [np.array([0, 1, 0, 1, 0]), np.array([0, 0, 1, 1, 0])]
    place = found.places(lines, np.array([0, 0, 0, 0, 1]))
    # Of one group: the low effect of the second column first, and of these the low one of the first column.
    assert np.argsort(place).tolist() == [2, 3, 0, 1, 4]
    assert len(np.unique(place)) == 5


def test_a_column_is_told_apart_by_its_effect_and_not_by_its_bins() -> None:
    effects = [0.0, 3.0, 1.0, 2.0]
    found = neighbourhoods(sums_of(effects), [alike(4)])
    place = found.places([np.arange(4)], np.zeros(4, dtype=np.int64))
    assert np.argsort(place).tolist() == np.argsort(effects).tolist()


def test_bits_go_where_the_effect_still_varies() -> None:
    strong, weak = np.linspace(-4, 4, 64), np.linspace(-1, 1, 64)
    found = neighbourhoods(sums_of(strong.tolist(), weak.tolist()), [alike(64), alike(64)])
    used = {parent: int(np.bitwise_or.reduce(part)).bit_count() for parent, part in found.parts}
    first = {parent: int(np.bitwise_or.reduce(part)).bit_length() for parent, part in found.parts}
    assert first == {0: BITS, 1: BITS - 2}  # a bit takes three quarters of a variance: 16, 4, 1 against 1
    assert used == {0: 6, 1: 6}  # and there is nothing left to tell


def test_effects_of_pairs_are_those_of_each_column_alone() -> None:
    rng = np.random.default_rng(2)
    table = rng.normal(size=(3, 4, 1)).astype(np.float32)
    shares = [np.array([0.2, 0.3, 0.5]), np.array([0.1, 0.2, 0.3, 0.4])]
    whole = PairScores(np.zeros(1), ((0, 1),), (table,))
    own = sums_of((table[:, :, 0] @ shares[1]).tolist(), (shares[0] @ table[:, :, 0]).tolist())
    ours, theirs = neighbourhoods(whole, shares).parts, neighbourhoods(own, shares).parts
    assert [parent for parent, _ in ours] == [parent for parent, _ in theirs]
    for (_, one), (_, other) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 300), k=st.integers(3, 6), n_first=st.integers(0, 6))
def test_of_several_labels_none_comes_much_too_often(seed: int, n: int, k: int, n_first: int) -> None:
    rng = np.random.default_rng(seed)
    shares, places, first = rng.dirichlet(np.full(k, 0.5), n), rng.integers(0, 20, n), np.arange(k) < n_first
    label = allotted_of_several(shares, first, lambda share, rows: allotted(share, places[rows], rng))
    assert label.min() >= 0
    assert label.max() < k
    if 0 < n_first < k:  # whether one is of the first is allotted as one label is
        for end in range(20):
            assert abs((first[label] - shares[:, first].sum(1))[places <= end].sum()) < 1
    never = shares < 1e-12
    assert not never[np.arange(n), label].any()


@pytest.mark.parametrize("first", [[1], [0, 2], [], [0, 1, 2, 3]])
def test_each_of_several_labels_comes_with_its_share(first: list[int]) -> None:
    shares = np.array(
        [[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.2, 0.0], [0.0, 0.0, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0]]
    )
    rng = np.random.default_rng(0)

    def allot(share: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return allotted(share, rows, rng)

    drawn = [allotted_of_several(shares, np.isin(np.arange(4), first), allot) for _ in range(4000)]
    seen = np.mean([own[:, None] == np.arange(4) for own in drawn], axis=0)
    assert seen == pytest.approx(shares, abs=0.03)


def test_a_column_of_several_effects_is_ordered_by_what_varies_most() -> None:
    place = np.array([3, 0, 2, 1])
    effect = np.stack([0.1 * np.array([1.0, -1.0, 1.0, -1.0]), place * 2.0, place * -1.0], axis=1)
    table = np.broadcast_to(effect[:, None, :], (4, 4, 3)).astype(np.float32)
    found = neighbourhoods(PairScores(np.zeros(3), ((0, 0),), (table,)), [alike(4)])
    order = np.argsort(found.places([np.arange(4)], np.zeros(4, dtype=np.int64))).tolist()
    assert order in ([1, 3, 2, 0], [0, 2, 3, 1])


@pytest.mark.parametrize("n_groups", [1, 2, 3, 256, 257, 5000])
def test_groups_stay_apart_however_many(n_groups: int) -> None:
    found = neighbourhoods(sums_of(np.linspace(0, 1, 300).tolist()), [alike(300)])
    groups = np.repeat(np.arange(n_groups), 300)
    place = found.places([np.tile(np.arange(300), n_groups)], groups).astype(np.int64)
    order = np.argsort(place, kind="stable")
    assert (np.diff(groups[order]) >= 0).all()
    assert len(np.unique(place[groups == 0])) >= 2 ** (LEAST_BITS - 1)


def test_nothing_to_tell_is_one_place() -> None:
    found = neighbourhoods(PairScores(np.zeros(1), (), ()), [])
    assert found.parts == ()
    assert found.places([], np.zeros(3, dtype=np.int64)).tolist() == [0, 0, 0]


def test_chance_is_taken_out_of_what_columns_do() -> None:
    """The sums that a linear model is learned from vary less than those of labels drawn one by one."""
    rng = np.random.default_rng(0)
    effects = [np.linspace(-2, 2, 8), np.linspace(-1, 1, 4), np.array([-0.5, 0.5])]
    lines = [rng.integers(0, len(effect), 4000) for effect in effects]
    score = sum(effect[line] for effect, line in zip(effects, lines, strict=True)) - 1.5
    shares = 1 / (1 + np.exp(-score))
    found = neighbourhoods(sums_of(*(own.tolist() for own in effects)), [alike(8), alike(4), alike(2)])
    place = found.places(lines, np.zeros(4000, dtype=np.int64))
    columns = np.stack([effect[line] for effect, line in zip(effects, lines, strict=True)])
    evenly = np.array([columns @ (allotted(shares, place, rng) - shares) for _ in range(200)])
    singly = np.array([columns @ ((rng.random(4000) < shares) - shares) for _ in range(200)])
    assert (evenly.std(0) < singly.std(0) / 3).all()
    assert np.abs(evenly.mean(0)).max() < 0.25 * singly.std(0).max()
