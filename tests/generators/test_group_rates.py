"""Labels are as frequent in every joint group as they are, however the law of all draws groups together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax

from fairsynth.data.catalog import load_dataset
from fairsynth.data.streams import StreamedTable
from fairsynth.data.table import Table
from fairsynth.fairness import Fairness
from fairsynth.generators import audit, audited_trees, tree_label
from fairsynth.generators.audited_trees import AuditedTrees
from fairsynth.generators.base import load_generator
from fairsynth.generators.evening import Evening, Fold, plan
from fairsynth.generators.group_law import MAX_SHIFT
from fairsynth.generators.group_rates import BACKING, scores_of_groups
from fairsynth.generators.tree_label import MAX_LABELS


def test_rows_that_are_all_alike_get_the_rate_of_their_group_and_a_part_of_all() -> None:
    scores, groups = np.full((60, 1), logit(0.3)), np.repeat([0, 1], [40, 20])
    joint = np.array([[10, 18], [30, 2]])
    found = scores_of_groups(scores, groups, joint)
    rates = [(30 + BACKING * 0.3) / (40 + BACKING), (2 + BACKING * 0.3) / (20 + BACKING)]
    assert expit(logit(0.3) + found[:, 0]) == pytest.approx(rates, abs=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    n_labels=st.integers(2, 5),
    n_groups=st.integers(1, 6),
    spread=st.floats(0.0, 2.5),
    seed=st.integers(0, 10_000),
)
def test_expected_labels_of_every_group_are_the_real_ones(
    n_labels: int, n_groups: int, spread: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, 500)])
    scores = spread * rng.normal(size=(len(groups), 1 if n_labels == 2 else n_labels))
    joint = rng.integers(5, 200, (n_labels, n_groups))

    def shares(more: np.ndarray) -> np.ndarray:
        moved = scores + more[groups]
        wide = np.concatenate([np.zeros_like(moved), moved], axis=1) if n_labels == 2 else moved
        own = softmax(wide, axis=1)
        return np.stack([own[groups == k].mean(0) for k in range(n_groups)])

    found = scores_of_groups(scores, groups, joint)
    before, after = shares(np.zeros_like(found)), shares(found)
    wanted = (joint.T + BACKING * before) / (joint.sum(0)[:, None] + BACKING)
    inside = (np.abs(found) < MAX_SHIFT).all(1)
    assert after[inside] == pytest.approx(wanted[inside], abs=2e-3)


def test_groups_without_rows_get_nothing_and_nobody_goes_further_than_allowed() -> None:
    scores, groups = np.full((50, 1), 6.0), np.zeros(50, dtype=np.int64)
    found = scores_of_groups(scores, groups, np.array([[5_000, 9], [0, 1]]))
    assert found.tolist() == [[-MAX_SHIFT], [0.0]]


def together(n: int, seed: int, n_labels: int = 2) -> Table:
    """Return people whose label depends on two attributes together, and hardly on either alone."""
    rng = np.random.default_rng(seed)
    one, other, number = rng.integers(0, 3, n), rng.integers(0, 4, n), rng.normal(size=n)
    score = np.where((one + other) % 2 == 0, 1.3, -1.3) + 0.7 * number + rng.logistic(size=n)
    if n_labels > 2:
        label = np.char.add(
            "level ", np.clip(((score + 5) / 10 * n_labels).astype(int), 0, n_labels - 1).astype(str)
        )
    else:
        label = np.where(score > 0, "yes", "no")
    frame = pl.DataFrame(
        {
            "one": np.array(list("abc"))[one],
            "other": np.array(list("wxyz"))[other],
            "number": number,
            "label": label,
        }
    )
    high = [
        name
        for name in np.unique(label).tolist()
        if name.startswith("level ") and int(name[6:]) >= n_labels / 2
    ]
    return Table(
        frame, target="label", favorable="yes" if n_labels == 2 else high, sensitive=["one", "other"]
    )


def favored(table: Table) -> np.ndarray:
    """Return the share of favorable labels in each of the twelve groups."""
    names = [str(name) for name in table.groups().names]
    good = table.favorable()
    rates = {name: good[table.groups().codes == k].mean() for k, name in enumerate(names)}
    return np.array([rates[name] for name in sorted(rates)])


@pytest.mark.parametrize("n_labels", [2, 4, MAX_LABELS + 6])
def test_groups_that_matter_together_keep_their_rates(n_labels: int, tmp_path: Path) -> None:
    real = together(3_000, 0, n_labels)
    model = AuditedTrees(seed=0, fairness=Fairness(strength=0.0)).fit(real)
    rows = model.sample_table(40_000, seed=1)
    assert np.ptp(favored(real)) > 0.3
    assert np.abs(favored(rows) - favored(real)).max() < 0.05
    model.save(tmp_path / "model.fairsynth")
    again = load_generator(tmp_path / "model.fairsynth").sample_table(500, seed=3)
    assert again.frame.equals(model.sample_table(500, seed=3).frame)


def test_a_file_read_in_parts_says_the_same_of_groups(tmp_path: Path) -> None:
    real = together(6_000, 0)
    real.frame.write_parquet(tmp_path / "people.parquet")
    stream = StreamedTable(
        tmp_path / "people.parquet",
        target="label",
        favorable="yes",
        sensitive=["one", "other"],
        sample_rows=1_500,
    )
    model = AuditedTrees(seed=0, fairness=Fairness(strength=0.0)).fit(stream)
    assert np.abs(favored(model.sample_table(40_000, seed=1)) - favored(real)).max() < 0.05


def test_rates_are_those_of_drawn_people_not_of_real_ones() -> None:
    """Of 138 applicants trees draw what is between them and others, and the law of the label alone would say .76."""
    real, _ = load_dataset("loanapp")
    rows = AuditedTrees(seed=0, fairness=Fairness(strength=0.0)).fit(real).sample_table(40_000, seed=1)
    found = {
        str(name): (
            real.favorable()[real.groups().codes == k].mean(),
            rows.favorable()[rows.groups().codes == k].mean(),
        )
        for k, name in enumerate(real.groups().names)
    }
    assert found["black"][0] == pytest.approx(0.674, abs=1e-3)
    assert found["black"][1] == pytest.approx(0.674, abs=0.03)
    assert found["white"][1] == pytest.approx(found["white"][0], abs=0.01)


def test_a_threshold_is_planned_where_the_drawn_law_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a group's scores have beyond those of real people is in the plan as well as in the law."""
    real, kept = together(600, 0), []

    def planned(folds: list[Fold], *rest: Any, **more: Any) -> Evening:
        kept.append(np.mean([fold.group_scores for fold in folds], axis=0))
        return plan(folds, *rest, **more)

    monkeypatch.setattr(audited_trees, "plan", planned)
    monkeypatch.setattr(audited_trees, "audited", lambda draw, start, *rest, **more: audit.Audit(start))
    model = AuditedTrees(seed=0, fairness=Fairness("equalized_odds"))
    model.fit(real)
    more = np.zeros((12, 1))
    more[3] = 0.5
    monkeypatch.setattr(tree_label, "scores_of_groups", lambda *given: scores_of_groups(*given) + more)
    model.fit(real)
    assert kept[1] - kept[0] == pytest.approx(more, abs=1e-9)
