"""A law on a forest agrees with the table of all its joint states, and its fit with a general optimiser."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import chi2

from fairsynth.generators.tree_model import Measured, TreeModel, simplex


def random_model(seed: int, n: int = 4) -> TreeModel:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 4, n)
    # Numbered against the order of drawing, so that nothing can rely on parents coming first.
    parents = [-1 if j == n - 1 else int(rng.integers(j, n)) for j in range(n)]
    parents = [-1 if p == j else p for j, p in enumerate(parents)]
    tables = []
    for j, p in enumerate(parents):
        shape = (sizes[j],) if p < 0 else (sizes[p], sizes[j])
        tables.append(rng.dirichlet(np.ones(sizes[j]), size=shape[:-1]))
    return TreeModel(parents, tables)


def joint(model: TreeModel) -> np.ndarray:
    """Return P of every joint state."""
    law = np.zeros(model.sizes)
    for state in itertools.product(*map(range, model.sizes)):
        law[state] = np.prod(
            [
                t[s] if p < 0 else t[state[p], s]
                for s, p, t in zip(state, model.parents, model.tables, strict=True)
            ]
        )
    return law


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_marginals_and_conditions_are_those_of_the_joint_law(seed: int) -> None:
    model = random_model(seed)
    law = joint(model)
    singles, pairs = model.marginals()
    axes = set(range(law.ndim))
    for j, p in enumerate(model.parents):
        assert singles[j] == pytest.approx(law.sum(tuple(axes - {j})))
        if p >= 0:
            both = law.sum(tuple(axes - {j, p}))
            assert pairs[j] == pytest.approx(both if p < j else both.T)
    rng = np.random.default_rng(seed)
    weights = [rng.random(size) * (rng.random(size) < 0.8) for size in model.sizes]
    known = law.copy()
    for j, weight in enumerate(weights):
        known = known * weight.reshape([-1 if axis == j else 1 for axis in range(law.ndim)])
    if known.sum() == 0:
        with pytest.raises(ValueError, match="impossible"):
            model.given(weights)
        return
    conditioned, chance = model.given(weights)
    assert chance == pytest.approx(known.sum())
    assert joint(conditioned) == pytest.approx(known / known.sum(), abs=1e-12)


def test_rows_are_drawn_from_the_joint_law() -> None:
    model = random_model(3)
    law = joint(model).ravel()
    drawn = model.draw(60_000, np.random.default_rng(0))
    cells = np.ravel_multi_index(tuple(drawn), model.sizes)
    expected = 60_000 * law
    statistic = ((np.bincount(cells, minlength=law.size) - expected) ** 2 / expected).sum()
    assert chi2.sf(statistic, law.size - 1) > 1e-3


def test_impossible_states_are_never_drawn() -> None:
    model = TreeModel([-1, 0], [np.array([0.5, 0.5, 0.0]), np.array([[0.0, 1.0], [0.3, 0.7], [1.0, 0.0]])])
    drawn = model.draw(20_000, np.random.default_rng(0))
    assert drawn[0].max() == 1 and set(drawn[1][drawn[0] == 0]) == {1}


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_is_the_least_squares_of_all_laws_on_the_tree(seed: int) -> None:
    """Against sequential quadratic programming over all joint laws of three variables on a chain."""
    rng = np.random.default_rng(seed)
    sizes, n = (3, 2, 3), 500
    truth = rng.dirichlet(np.ones(18)).reshape(sizes) * n
    noisy = {
        "a": truth.sum((1, 2)) + rng.normal(0, 20, 3), "b": truth.sum((0, 2)) + rng.normal(0, 20, 2),
        "c": truth.sum((0, 1)) + rng.normal(0, 20, 3),
        "ab": truth.sum(2) + rng.normal(0, 30, (3, 2)), "bc": truth.sum(0) + rng.normal(0, 30, (2, 3)),
    }  # fmt: skip

    def loss(flat: np.ndarray) -> float:
        law = n * flat.reshape(sizes)
        total = sum(
            ((law.sum(axes) - noisy[key]) ** 2).sum() / 800
            for key, axes in (("a", (1, 2)), ("b", (0, 2)), ("c", (0, 1)))
        )
        return float(
            total
            + ((law.sum(2) - noisy["ab"]) ** 2).sum() / 1800
            + ((law.sum(0) - noisy["bc"]) ** 2).sum() / 1800
        )

    best = minimize(
        loss, np.full(18, 1 / 18), bounds=[(0, 1)] * 18, method="SLSQP",
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1}, options={"maxiter": 500, "ftol": 1e-12},
    )  # fmt: skip
    heard: list[float] = []
    model = TreeModel.fit(
        [1, -1, 1],
        [Measured(noisy[key], 400.0) for key in "abc"],
        [Measured(noisy["ab"].T, 900.0), None, Measured(noisy["bc"], 900.0)],
        n, steps=400, hear=lambda step, value: heard.append(value),
    )  # fmt: skip
    assert len(heard) == 400 and (np.diff(heard) <= 1e-9).all()
    assert heard[-1] == pytest.approx(best.fun, rel=2e-3, abs=1e-3)
    assert loss(joint(model).ravel()) == pytest.approx(heard[-1], rel=1e-6)


def test_precise_measurements_count_more_than_vague_ones() -> None:
    pair = np.array([[50.0, 0.0], [0.0, 50.0]])
    for variance, share in ((1e-2, 0.9), (1e6, 0.5)):
        singles = [Measured(np.array([90.0, 10.0]), variance), Measured(np.array([50.0, 50.0]), 1e9)]
        model = TreeModel.fit([-1, 0], singles, [None, Measured(pair, 1.0)], 100, steps=300)
        assert model.marginals()[0][0][0] == pytest.approx(share, abs=0.02)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_the_projection_is_the_nearest_law(values: list[float]) -> None:
    found = simplex(np.array(values))
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    # The condition of a nearest point: no law lies further along the way to the values.
    for corner in np.eye(len(values)):
        assert (np.array(values) - found) @ (corner - found) <= 1e-9


@pytest.mark.parametrize(
    ("parents", "tables"),
    [
        ([1, 0], [np.full((2, 2), 0.5)] * 2),
        ([-1, 5], [np.full(2, 0.5), np.full((2, 2), 0.5)]),
        ([-1, 0], [np.full(2, 0.5), np.full((3, 2), 0.5)]),
        ([-1], [np.array([0.5, 0.6])]),
        ([-1], [np.array([1.5, -0.5])]),
        ([-1], [np.array([np.nan, 1.0])]),
    ],
)
def test_what_is_no_law_is_refused(parents: list[int], tables: list[np.ndarray]) -> None:
    with pytest.raises(ValueError):
        TreeModel(parents, tables)
