"""A number has the law of its group at strength 0 and everyone's at strength 1, whatever a tree draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.data.streams import StreamedTable
from fairsynth.data.table import Table
from fairsynth.fairness import Fairness
from fairsynth.generators.audited_trees import AuditedTrees
from fairsynth.generators.base import Generator
from fairsynth.generators.fair_trees import FairTrees
from fairsynth.generators.label_laws import BACKING, LabelLaws


def test_laws_are_what_was_counted_and_a_part_of_what_is_drawn() -> None:
    joint = np.array([[30, 0, 0], [10, 10, 0]])
    expected = np.array([[20.0, 20.0], [8.0, 2.0], [0.0, 0.0]])
    laws = LabelLaws.of(expected, np.array([40, 10, 0]), joint, np.arange(2))
    assert laws.drawn == pytest.approx(np.array([[0.5, 0.5], [0.8, 0.2], [0.6, 0.4]]), abs=1e-6)
    rest = BACKING / (10 + BACKING)
    assert laws.real[1] == pytest.approx([0.8 * rest, 1 - 0.8 * rest], abs=1e-6)
    assert laws.real[2] == pytest.approx([0.6, 0.4], abs=1e-6)
    assert laws.overall == pytest.approx([0.6, 0.4])


@settings(deadline=None, max_examples=25)
@given(n_labels=st.integers(2, 12), seed=st.integers(0, 10_000), strength=st.sampled_from([0.0, 0.5, 1.0]))
def test_what_is_drawn_comes_to_its_law_and_keeps_its_order(
    n_labels: int, seed: int, strength: float
) -> None:
    rng = np.random.default_rng(seed)
    drawn, real = (rng.dirichlet(np.ones(n_labels), 2) for _ in range(2))
    order = rng.permutation(n_labels)
    laws = LabelLaws(drawn, real, rng.dirichlet(np.ones(n_labels)), order)
    groups = rng.integers(0, 2, 60_000)
    cumulative = np.cumsum(drawn, axis=1)
    states = np.minimum((rng.random(60_000)[:, None] > cumulative[groups]).sum(1), n_labels - 1)
    found = laws.mapped(states, groups, strength, np.random.default_rng(1))
    for group in (0, 1):
        share = np.bincount(found[groups == group], minlength=n_labels) / (groups == group).sum()
        wanted = strength * laws.overall + (1 - strength) * real[group]
        assert share == pytest.approx(wanted, abs=0.02)
        if strength != 0.5:
            rank = np.argsort(order)
            own = np.argsort(rank[states[groups == group]], kind="stable")
            lows, highs = rank[found[groups == group]][own], rank[states[groups == group]][own]
            # Of two different states the lower one is never sent above the other.
            tops = np.array([lows[highs == k].max(initial=-1) for k in range(n_labels)])
            bottoms = np.array([lows[highs == k].min(initial=n_labels) for k in range(n_labels)])
            assert all(tops[k] <= bottoms[j] for k in range(n_labels) for j in range(k + 1, n_labels))


def test_a_law_that_is_drawn_already_moves_nobody() -> None:
    rng = np.random.default_rng(0)
    law = rng.dirichlet(np.ones(7), 3)
    states, groups = rng.integers(0, 7, 5_000), rng.integers(0, 3, 5_000)
    found = LabelLaws(law, law, law[0], np.arange(7)).mapped(states, groups, 0.0, rng)
    assert np.mean(found == states) > 0.999


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 3)), np.full((5, 3), 1 / 3, dtype=np.float32), np.full((5, 3), 0.5), np.full((5, 3), np.nan),
     np.tile([1.5, -0.5, 0.0], (5, 1))],
)  # fmt: skip
def test_laws_that_are_none_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="the laws of the label"):
        LabelLaws.read(wrong, 2, np.arange(3))


def paid(n: int, seed: int) -> pl.DataFrame:
    """Return people whose pay depends on two attributes together."""
    rng = np.random.default_rng(seed)
    one, other, number = rng.integers(0, 3, n), rng.integers(0, 4, n), rng.normal(size=n)
    pay = 50 + np.where((one + other) % 2 == 0, 4.0, -4.0) + 3 * number + 3 * rng.normal(size=n)
    return pl.DataFrame(
        {
            "one": np.array(list("abc"))[one],
            "other": np.array(list("wxyz"))[other],
            "number": number,
            "pay": pay,
        }
    )


def means(frame: pl.DataFrame) -> np.ndarray:
    return frame.group_by("one", "other").agg(pl.col("pay").mean()).sort("one", "other")["pay"].to_numpy()


@pytest.mark.parametrize("kind", [AuditedTrees, FairTrees])
def test_many_groups_keep_how_their_numbers_differ_or_lose_it(kind: type[Generator], tmp_path: Path) -> None:
    frame = paid(2_000, 0)
    real = Table(frame, target="pay", sensitive=["one", "other"])
    rows = {
        strength: kind(seed=0, fairness=Fairness(strength=strength))
        .fit(real)
        .sample_table(30_000, seed=1)
        .frame
        for strength in (0.0, 1.0)
    }
    assert np.ptp(means(frame)) > 7.5
    assert np.abs(means(rows[0.0]) - means(frame)).max() < 0.8
    assert np.ptp(means(rows[1.0])) < 1.6


def test_so_do_those_of_a_file_read_in_parts(tmp_path: Path) -> None:
    frame = paid(6_000, 0)
    frame.write_parquet(tmp_path / "people.parquet")
    stream = StreamedTable(
        tmp_path / "people.parquet", target="pay", sensitive=["one", "other"], sample_rows=1_500
    )
    found = {}
    for strength in (0.0, 1.0):
        model = AuditedTrees(seed=0, fairness=Fairness(strength=strength)).fit(stream)
        found[strength] = means(model.sample_table(30_000, seed=1).frame)
    assert np.abs(found[0.0] - means(frame)).max() < 0.6
    assert np.ptp(found[1.0]) < 1.2
