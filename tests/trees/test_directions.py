"""Directions find sums that foretell a column, are offered only where they hold, and put rows where they always did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from fairsynth.trees import directions
from fairsynth.trees.bins import Bins
from fairsynth.trees.directions import CELLS, Directions, learn_directions
from fairsynth.trees.layered import grow, response_of

SIZES = (6, 9, 2, 5)


def table(seed: int, n: int = 8000) -> tuple[list[np.ndarray], list[Bins], np.ndarray]:
    """Return lines, their bins, and what each row adds up to."""
    rng = np.random.default_rng(seed)
    lines = [rng.integers(0, size, n) for size in SIZES]
    bins = [Bins(np.arange(size), size, ordered=size > 2) for size in SIZES]
    # What a number does goes on from bin to bin; what a level does need not.
    effects = [rng.normal(size=size) for size in SIZES]
    effects = [standard(np.cumsum(effect))[:, 0] if len(effect) > 2 else effect for effect in effects]
    return lines, bins, np.sum([effect[line] for effect, line in zip(effects, lines, strict=True)], axis=0)


def standard(values: np.ndarray) -> np.ndarray:
    return ((values - values.mean()) / values.std())[:, None]


def test_the_sum_that_made_a_column_is_found() -> None:
    lines, bins, total = table(0)
    noisy = standard(total + np.random.default_rng(1).normal(size=len(total)))
    found = learn_directions(lines, bins, noisy)
    assert found is not None
    assert len(found.edges) == 1  # a single number has one direction
    place = found.lines(lines)[0]
    assert abs(np.corrcoef(place, total)[0, 1]) > 0.97
    # Bins hold about as many rows each.
    assert np.bincount(place).max() < 3 * len(total) / found.bins[0].size


def test_the_order_of_rows_is_that_of_a_ridge_regression_by_another_library() -> None:
    lines, bins, total = table(3)
    noisy = standard(total + np.random.default_rng(2).normal(size=len(total)))
    matrix = np.concatenate([np.eye(own.size)[line] for line, own in zip(lines, bins, strict=True)], axis=1)
    bins = [Bins(own.of_state, own.size, ordered=False) for own in bins]
    theirs = Ridge(alpha=directions.RIDGE).fit(matrix, noisy[:, 0]).predict(matrix)
    found = learn_directions(lines, bins, noisy)
    assert found is not None
    sums = sum(part[0][line].astype(int) for part, line in zip(found.tables, lines, strict=True))
    assert abs(np.corrcoef(sums, theirs)[0, 1]) > 0.99999


def test_the_ends_of_a_number_keep_their_effect() -> None:
    """Few rows lie in the outermost bins; a plain ridge of 100 rows would leave a tenth of their effect."""
    rng = np.random.default_rng(1)
    n = 6000
    number = np.clip(rng.normal(size=n) * 4 + 16, 0, 31).astype(int)
    other = rng.integers(0, 3, n)
    bins = [Bins(np.arange(32), 32, ordered=True), Bins(np.arange(3), 3, ordered=False)]
    response = standard(number + 2.0 * other + rng.normal(size=n))
    found = learn_directions([number, other], bins, response)
    assert found is not None
    effect = found.tables[0][0].astype(float)
    effect *= np.sign(effect[20] - effect[10])
    assert np.bincount(number)[3] < 15
    slope = (effect[20] - effect[10]) / 10
    assert (effect[10] - effect[3]) / 7 == pytest.approx(slope, rel=0.1)
    assert (effect[29] - effect[20]) / 9 == pytest.approx(slope, rel=0.1)


def test_two_columns_of_a_response_give_two_directions() -> None:
    lines, bins, one = table(4)
    rng = np.random.default_rng(0)
    effects = [rng.normal(size=size) for size in SIZES]
    other = np.sum([effect[line] for effect, line in zip(effects, lines, strict=True)], axis=0)
    both = np.concatenate([standard(one), standard(other + rng.normal(size=len(one)) / 2)], axis=1)
    found = learn_directions(lines, bins, both)
    assert found is not None
    assert len(found.edges) == 2
    alone = learn_directions(lines, bins, both, most=1)
    assert alone is not None
    assert len(alone.edges) == 1
    np.testing.assert_array_equal(alone.lines(lines)[0], found.lines(lines)[0])


@pytest.mark.parametrize("n", [60, 500, 4000])
def test_what_nothing_foretells_has_no_direction(n: int) -> None:
    lines, bins, _ = table(6, n)
    assert learn_directions(lines, bins, standard(np.random.default_rng(7).normal(size=n))) is None


def test_a_single_line_or_a_handful_of_rows_has_no_direction() -> None:
    lines, bins, total = table(8)
    assert learn_directions(lines[:1], bins[:1], standard(total)) is None
    few = [line[:6] for line in lines]
    assert learn_directions(few, bins, standard(total[:6])) is None


def test_only_lines_that_tell_most_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directions, "ASKED", 3)
    rng = np.random.default_rng(9)
    lines = [rng.integers(0, 4, 5000) for _ in range(8)]
    bins = [Bins(np.arange(4), 4, ordered=True)] * 8
    total = 2.0 * lines[1] + lines[4] - lines[6] + 0.1 * lines[0]
    found = learn_directions(lines, bins, standard(total))
    assert found is not None
    assert found.asked == (1, 4, 6)


@pytest.mark.parametrize("cells", [1, 20_000, 10**9])
def test_lines_are_looked_at_together_as_they_are_one_by_one(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, bins, total = table(7)
    aim = standard(total)
    explained = [
        sum(aim[line == k].sum() ** 2 / max((line == k).sum(), 1) for k in range(own.size)) - own.size
        for line, own in zip(lines, bins, strict=True)
    ]
    monkeypatch.setattr(directions, "CELLS_AT_A_TIME", cells)
    monkeypatch.setattr(directions, "ASKED", 3)
    assert directions._telling(lines, bins, aim) == sorted(np.argsort(-np.array(explained))[:3].tolist())


def test_a_tree_that_may_ask_a_sum_tells_more_with_fewer_leaves() -> None:
    lines, bins, total = table(10)
    classes = np.digitize(total, np.quantile(total, [0.2, 0.4, 0.6, 0.8]))
    own = Bins(np.arange(5), 5, ordered=False)
    response, _ = response_of(np.bincount(classes), ordered=False)
    found = learn_directions(lines, bins, response[classes])
    assert found is not None

    def certainty(asked: list[np.ndarray], of_asked: list[Bins]) -> tuple[float, int]:
        tree = grow(asked, of_asked, classes, own, min_leaf=20, evidence=2.0)
        leaf = tree.leaves(asked, len(classes))
        counts = np.bincount(leaf * 5 + classes, minlength=tree.n_leaves * 5).reshape(-1, 5)
        return counts.max(1).sum() / len(classes), tree.n_leaves

    plain, leaves = certainty(lines, bins)
    better, fewer = certainty([*lines, *found.lines(lines)], [*bins, *found.bins])
    assert better > plain
    assert fewer < leaves


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 2))
def test_bins_are_those_of_the_sums(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    tables = tuple(rng.integers(0, CELLS // 5, (count, size)).astype(np.int16) for size in SIZES)
    edges = tuple(
        np.unique(rng.integers(0, CELLS, rng.integers(0, 9))).astype(np.int16) for _ in range(count)
    )
    found = Directions((0, 1, 2, 3), tables, edges)
    found.check(SIZES)
    lines = [rng.integers(0, size, 200) for size in SIZES]
    for k, place in enumerate(found.lines(lines)):
        sums = sum(part[k][line].astype(int) for part, line in zip(tables, lines, strict=True))
        np.testing.assert_array_equal(place, (sums[:, None] > edges[k][None]).sum(1))
        assert place.max() < found.bins[k].size


def test_a_damaged_direction_is_refused() -> None:
    lines, bins, total = table(11)
    good = learn_directions(lines, bins, standard(total))
    assert good is not None
    good.check(SIZES)
    first, *rest = good.tables
    for bad in (
        replace(good, asked=(9, *good.asked[1:])),
        replace(good, asked=good.asked[1:]),
        replace(good, tables=(first[:, :-1], *rest)),
        replace(good, tables=(first.astype(np.int64), *rest)),
        replace(good, tables=(first - 1, *rest)),
        replace(good, tables=(np.full_like(first, CELLS - 1), *rest)),
        replace(good, edges=(good.edges[0][::-1],)),
        replace(good, edges=()),
        replace(good, edges=good.edges * 3),
    ):
        with pytest.raises(ValueError, match="directions"):
            bad.check(SIZES)
