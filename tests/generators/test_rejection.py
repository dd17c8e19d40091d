"""Requests are met to the row, whatever a method can be conditioned on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import mixed_table

from fairsynth.data.encoding import TableEncoder
from fairsynth.errors import CapabilityError
from fairsynth.generators.group_law import joint_counts
from fairsynth.generators.layout import Groups, Layout
from fairsynth.generators.rejection import Cells, Conditions, allotted, draw, group_of, prepare
from fairsynth.generators.requests import Request

ALL: list[Conditions] = ["nothing", "group", "label and group"]


class Bootstrap:
    """A method that draws real rows again, given what it can be conditioned on."""

    def __init__(self, conditions: Conditions) -> None:
        table = mixed_table(3000, sensitive=["sex", "race"])
        encoder = TableEncoder.learn(table)
        self.layout, self.states, self.conditions = Layout(encoder), encoder.encode(table), conditions
        levels = self.layout.group_levels(self.states)
        found, self.of = np.unique(levels, axis=0, return_inverse=True)
        self.of = self.of.reshape(-1)
        self.labels = self.states[:, self.layout.target].astype(np.int64)
        counts = joint_counts(self.labels, self.of, self.layout.n_labels, len(found))
        self.groups = Groups(found, counts / counts.sum())
        self.schema = table.schema

    def propose(self, cells: Cells, rng: np.random.Generator) -> np.ndarray:
        assert (cells.groups is None) == (self.conditions == "nothing")
        assert (cells.labels is None) == (self.conditions != "label and group")
        if cells.groups is None:
            return self.states[rng.integers(0, len(self.states), cells.n)].T.copy()
        key = cells.groups if cells.labels is None else cells.groups * 100 + cells.labels
        own = self.of if cells.labels is None else self.of * 100 + self.labels
        rows = np.empty(cells.n, dtype=np.int64)
        for value in np.unique(key):
            rows[key == value] = rng.choice(np.flatnonzero(own == value), (key == value).sum())
        return self.states[rows].T.copy()

    def rows(self, n: int, where: dict[str, Any], shares: Any = None, seed: int = 0) -> Any:
        wanted = prepare(Request(where, shares), self.layout, self.groups, self.conditions)
        return draw(
            n, self.propose, wanted, self.layout, self.groups, self.conditions, np.random.SeedSequence(seed)
        )


@pytest.mark.parametrize("conditions", ALL)
def test_every_row_meets_the_condition(conditions: Conditions) -> None:
    method = Bootstrap(conditions)
    target = method.schema.target
    level = method.schema[target].group_names()[0]
    group = method.schema["race"].group_names()[0]
    frame = method.rows(700, {target: level, "race": group})
    assert frame.height == 700
    assert (frame[target].cast(str) == level).all() and (frame["race"].cast(str) == group).all()


@pytest.mark.parametrize("conditions", ALL)
def test_groups_come_in_the_shares_asked_for_and_labels_keep_their_law(conditions: Conditions) -> None:
    method = Bootstrap(conditions)
    frame = method.rows(20_000, {}, "uniform")
    lines = method.layout.encoder.encode(_table(method, frame)).T
    own = group_of(method.layout, method.groups, lines)
    share = np.bincount(own, minlength=len(method.groups.levels)) / len(own)
    assert share == pytest.approx(np.full(len(share), 1 / len(share)), abs=0.012)
    real = method.groups.table / method.groups.table.sum(0)
    made = joint_counts(lines[method.layout.target].astype(np.int64), own, method.layout.n_labels, len(share))
    large = method.groups.table.sum(0) > 0.1
    assert np.abs(real - made / made.sum(0))[:, large].max() < 0.05


def test_quotas_are_exact_to_the_row() -> None:
    method = Bootstrap("nothing")
    frame = method.rows(1001, {}, "uniform")
    own = group_of(method.layout, method.groups, method.layout.encoder.encode(_table(method, frame)).T)
    counts = np.bincount(own)
    assert counts.max() - counts.min() <= 1 and counts.sum() == 1001


@pytest.mark.parametrize("conditions", ALL)
def test_the_seed_decides(conditions: Conditions) -> None:
    method = Bootstrap(conditions)
    assert method.rows(50, {}, seed=3).equals(method.rows(50, {}, seed=3))
    assert not method.rows(50, {}, seed=3).equals(method.rows(50, {}, seed=4))


def test_a_group_that_never_comes_is_an_error_and_no_endless_search() -> None:
    method = Bootstrap("nothing")
    only = method.states[method.of == method.of[0]]
    method.states = only
    with pytest.raises(CapabilityError, match="groups asked for"):
        method.rows(2000, {}, "uniform")


def _table(method: Bootstrap, frame: Any) -> Any:
    from fairsynth.data.table import Table, fresh_identifiers

    schema = method.schema
    frame = frame.with_columns(
        fresh_identifiers(schema[name], frame.height, start=0) for name in schema.identifiers
    )
    return Table._of(frame.select(schema.names), schema)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda shares: sum(shares) > 1e-3),
    st.integers(0, 5000),
    st.integers(0, 2**32),
)
def test_allotted_rows_are_as_many_as_their_shares_say(shares: list[float], n: int, seed: int) -> None:
    given_shares = np.array(shares)
    counts = np.bincount(allotted(n, given_shares, np.random.default_rng(seed)), minlength=len(shares))
    expected = n * given_shares / given_shares.sum()
    assert counts.sum() == n and len(counts) == len(shares)
    assert (np.abs(counts - expected) < 1 + 1e-6).all()
    assert not counts[given_shares == 0].any()


def test_allotted_rows_come_in_random_order_and_rare_ones_by_chance() -> None:
    rng = np.random.default_rng(0)
    places = allotted(4000, np.array([0.5, 0.5]), rng)
    assert abs(np.corrcoef(places[1:], places[:-1])[0, 1]) < 0.06
    # A cell of a tenth of a row comes in a tenth of the draws: nobody is left out for ever.
    came = sum((allotted(1, np.array([0.9, 0.1]), rng) == 1).sum() for _ in range(2000))
    assert 140 < came < 260


def test_small_groups_keep_their_label_odds() -> None:
    world = Bootstrap("label and group")
    frame = world.rows(4000, {})
    own = mixed_table(3000, sensitive=["sex", "race"]).replace(frame)
    groups = own.groups()
    counts = joint_counts(own.target_codes(), groups.codes, world.layout.n_labels, len(groups.names))
    found, wanted = np.sort(counts.ravel()), np.sort(4000 * world.groups.table.ravel())
    assert np.abs(found[-len(wanted) :] - wanted).max() <= 1
