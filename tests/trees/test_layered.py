"""Layered trees: the cuts they find, the leaves they lead to, and tables that are none."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.trees import layered
from fairsynth.trees.bins import Bins
from fairsynth.trees.layered import Layer, LayeredTree, _scan, grow, response_of


def bins(size: int, *, ordered: bool = False) -> Bins:
    return Bins(np.arange(size, dtype=np.int64), size, ordered=ordered)


def explained(line: np.ndarray, response: np.ndarray, right: np.ndarray) -> float:
    """Return by how much the sum of squares falls, computed row by row."""

    def rest(rows: np.ndarray) -> float:
        return float(((rows - rows.mean(0)) ** 2).sum()) if len(rows) else 0.0

    goes = right[line]
    return rest(response) - rest(response[goes]) - rest(response[~goes])


def sums_of(line: np.ndarray, response: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    sums = np.zeros((1, size, response.shape[1]))
    np.add.at(sums[0], line, response)
    return sums, np.bincount(line, minlength=size)[None].astype(float)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(1, 3))
def test_the_best_cut_of_an_ordered_column_is_found(seed: int, size: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    line, response = rng.integers(0, size, 60), rng.normal(size=(60, d))
    gain, right = _scan(*sums_of(line, response, size), ordered=True, min_leaf=5, chance=0.0)
    every = [np.arange(size) > cut for cut in range(size - 1)]
    fit = [cut for cut in every if 5 <= cut[line].sum() <= 55]
    best = max((explained(line, response, cut) for cut in fit), default=0.0)
    assert gain[0] == pytest.approx(best, abs=1e-8)
    if fit:
        assert explained(line, response, right[0]) == pytest.approx(best, abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_of_all_subsets_of_levels_the_best_is_found_for_two_classes(seed: int) -> None:
    """In one dimension the order of the means is enough (Breiman et al., 1984); tried against all 62 subsets."""
    rng = np.random.default_rng(seed)
    line, response = rng.integers(0, 6, 80), rng.normal(size=(80, 1))
    gain, _ = _scan(*sums_of(line, response, 6), ordered=False, min_leaf=1, chance=0.0)
    subsets = [np.isin(np.arange(6), part) for k in range(1, 6) for part in combinations(range(6), k)]
    best = max(explained(line, response, part) for part in subsets if 0 < part[line].sum() < 80)
    # The order counts one more row than a bin has, so near ties between small bins may fall the other way.
    assert gain[0] >= 0.9 * best and gain[0] <= best + 1e-8


def test_noise_explains_as_much_as_the_threshold_expects() -> None:
    """A sum of squares between two random halves has, on average, as many degrees of freedom as it is told."""
    rng = np.random.default_rng(0)
    for ordered, shares in ((False, [0.5, 0.3, 0.16, 0.02, 0.01, 0.01]), (True, [1 / 20] * 20)):
        classes = rng.choice(len(shares), p=shares, size=2000)
        response, freedom = response_of(np.bincount(classes), ordered)
        half = np.arange(2000) % 2
        found = [
            explained(half, response[rng.permutation(classes)], np.array([False, True])) for _ in range(400)
        ]
        assert np.mean(found) == pytest.approx(freedom, rel=0.15)


def test_one_row_of_a_rare_class_does_not_explain_a_cut() -> None:
    """Divided by its share alone, a single row of 2,000 would count as much as 2,000 degrees of freedom."""
    response, _ = response_of(np.array([1000, 999, 1]), ordered=False)
    assert (response[2] ** 2).sum() < 50


def test_chance_is_not_learned() -> None:
    rng = np.random.default_rng(0)
    lines = [rng.integers(0, 8, 4000) for _ in range(6)]
    noise = grow(lines, [bins(8)] * 6, rng.integers(0, 10, 4000), bins(10), min_leaf=10, evidence=6.0)
    assert noise.n_leaves == 1 and not noise.layers


def test_what_a_column_decides_is_learned_whole() -> None:
    rng = np.random.default_rng(0)
    line, other = rng.integers(0, 16, 3000), rng.integers(0, 5, 3000)
    code = rng.permutation(16)
    tree = grow([other, line], [bins(5), bins(16)], code[line], bins(16), min_leaf=10, evidence=2.0)
    leaves = tree.leaves([other, line], 3000)
    assert {layer.parent for layer in tree.layers} == {1}
    assert all(len(np.unique(code[line][leaves == leaf])) == 1 for leaf in range(tree.n_leaves))


def test_columns_that_matter_together_are_both_asked() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 4, 4000), rng.integers(0, 30, 4000)
    classes = np.where(a < 2, b // 10, 2 - b // 10)
    tree = grow([a, b], [bins(4), bins(30, ordered=True)], classes, bins(3), min_leaf=20, evidence=1.0)
    leaves = tree.leaves([a, b], 4000)
    pure = [
        np.bincount(classes[leaves == leaf]).max() / (leaves == leaf).sum() for leaf in range(tree.n_leaves)
    ]
    assert min(pure) > 0.95


@pytest.mark.parametrize("min_leaf", [5, 25, 100])
def test_no_leaf_holds_fewer_rows_than_asked(min_leaf: int) -> None:
    rng = np.random.default_rng(2)
    lines = [rng.integers(0, 12, 2000) for _ in range(4)]
    classes = (lines[0] + lines[1] * lines[2] + rng.integers(0, 3, 2000)) % 7
    tree = grow(lines, [bins(12)] * 4, classes, bins(7), min_leaf=min_leaf, evidence=0.0)
    assert tree.n_leaves > 3
    assert np.bincount(tree.leaves(lines, 2000), minlength=tree.n_leaves).min() >= min_leaf


def test_there_are_never_more_leaves_than_allowed() -> None:
    rng = np.random.default_rng(2)
    lines = [rng.integers(0, 12, 3000) for _ in range(3)]
    tree = grow(lines, [bins(12)] * 3, lines[0] ^ lines[1], bins(16), min_leaf=5, evidence=0.0, max_leaves=17)
    assert tree.n_leaves <= 17


def test_looking_up_is_following_the_tables_row_by_row() -> None:
    rng = np.random.default_rng(3)
    lines = [rng.integers(0, 9, 1500) for _ in range(3)]
    tree = grow(lines, [bins(9)] * 3, (lines[0] * lines[1]) % 5, bins(5), min_leaf=8, evidence=0.0)
    got = tree.leaves(lines, 1500)
    for row in range(0, 1500, 37):
        node = 0
        for layer in tree.layers:
            node = int(layer.table[node, lines[layer.parent][row]])
        assert node == got[row]


def test_the_first_line_parts_rows_whatever_it_explains() -> None:
    rng = np.random.default_rng(4)
    band, line = rng.integers(0, 3, 900), rng.integers(0, 6, 900)
    tree = grow([line, band], [bins(6), bins(3)], line, bins(6), min_leaf=10, evidence=2.0, first=1)
    leaves = tree.leaves([line, band], 900)
    assert all(len(np.unique(band[leaves == leaf])) == 1 for leaf in range(tree.n_leaves))


def layer(rows: list[list[int]], parent: int = 0) -> Layer:
    return Layer(parent, np.array(rows, dtype=np.int64))


@pytest.mark.parametrize(
    "tree",
    [
        LayeredTree((layer([[0, 1]]),), 3),
        LayeredTree((layer([[0, -1]]),), 1),
        LayeredTree((layer([[0, 1, 1]]),), 2),
        LayeredTree((layer([[0, 1]], parent=5),), 2),
        LayeredTree((layer([[0, 1]]), layer([[0, 1]])), 2),
        LayeredTree((layer([[0, 99_999]]),), 100_000),
    ],
    ids=["leaves", "negative", "bins", "parent", "nodes", "too many"],
)
def test_tables_that_are_no_tree_are_refused(tree: LayeredTree) -> None:
    with pytest.raises(ValueError, match="tree"):
        tree.check([2])


def test_what_is_asked_last_needs_less_evidence() -> None:
    """Three standard errors between two groups are too little for one of many columns, and enough for a group."""
    rng = np.random.default_rng(0)
    n = 600
    group, other = rng.integers(0, 2, n), rng.integers(0, 4, (5, n))
    value = rng.normal(0.25 * group, 1.0)
    classes = np.searchsorted(np.quantile(value, np.linspace(0, 1, 33)[1:-1]), value)
    lines = [group, *other]
    bins = [Bins(np.arange(2), 2, ordered=False), *[Bins(np.arange(4), 4, ordered=False)] * 5]
    own = Bins(np.arange(32), 32, ordered=True)
    plain = grow(lines, bins, classes, own, min_leaf=20, evidence=4.0)
    assert plain.n_leaves == 1
    tree = grow(lines, bins, classes, own, min_leaf=20, evidence=4.0, last=(0,), last_evidence=1.5)
    assert [layer.parent for layer in tree.layers] == [0]
    leaves = tree.leaves(lines, n)
    assert classes[leaves == leaves[group == 1][0]].mean() > classes[leaves == leaves[group == 0][0]].mean()
    unrelated = rng.permutation(classes)
    cut = grow(lines, bins, unrelated, own, min_leaf=20, evidence=4.0, last=(0,), last_evidence=4.0)
    assert cut.n_leaves == 1
    few = grow(lines, bins, classes, own, min_leaf=400, evidence=4.0, last=(0,), last_evidence=1.5)
    assert few.n_leaves == 1


@given(seed=st.integers(0, 2**32 - 1), rows=st.sampled_from([200, 900]))
@settings(max_examples=15)
def test_parents_are_looked_at_together_as_they_are_one_by_one(seed: int, rows: int) -> None:
    """Whatever goes into one call of numpy: many parents, one, or a few nodes of one."""
    rng = np.random.default_rng(seed)
    bins = [Bins(np.arange(size), size, ordered=bool(rng.integers(2))) for size in rng.integers(2, 5, 12)]
    lines = [rng.integers(0, own.size, rows) for own in bins]
    classes = (lines[0] + 2 * (lines[1] > 0) + lines[2] * lines[3] + rng.integers(0, 2, rows)) % 5
    trees = []
    for rows_at_a_time, cells in ((10**6, 10**6), (1, 10**6), (3 * rows, 10**6), (10**6, 60)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layered, "ROWS_AT_A_TIME", rows_at_a_time)
            patch.setattr(layered, "CELLS_AT_A_TIME", cells)
            trees.append(
                grow(lines, bins, classes, Bins(np.arange(5), 5, ordered=False), min_leaf=5, evidence=1.0)
            )
    for other in trees[1:]:
        assert len(other.layers) == len(trees[0].layers) > 0
        for one, two in zip(trees[0].layers, other.layers, strict=True):
            assert one.parent == two.parent and np.array_equal(one.table, two.table)
