"""Audited trees: three kinds of later models decide fairly on new people, and a student needs no data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from toys import mixed_table

from fairsynth import bundle
from fairsynth.data.table import Table
from fairsynth.errors import BundleError, SettingsError
from fairsynth.evaluation.downstream import MODELS, Downstream, Task
from fairsynth.fairness import Fairness
from fairsynth.generators import audit
from fairsynth.generators.audit import by_labels, to_like_errors
from fairsynth.generators.audited_trees import AuditedTrees
from fairsynth.generators.base import load_generator
from fairsynth.generators.evening import BELL, STEEP, STEEPEST, WIDE_BELL, Evening
from fairsynth.generators.group_law import MAX_SHIFT
from fairsynth.generators.registry import student_class
from fairsynth.trees.linear_scores import SMALL_TABLE


def numbers(table: Table) -> np.ndarray:
    return (
        table.frame.select(pl.col(name).to_physical().cast(pl.Float64) for name in table.schema.features)
        .fill_null(-1)
        .to_numpy()
    )


def ratio(chosen: np.ndarray, groups: np.ndarray) -> float:
    rates = [chosen[groups == group].mean() for group in np.unique(groups)]
    return float(min(rates) / max(rates))


def decisions(rows: Table, real: Table) -> list[np.ndarray]:
    """Return what the three models of the evaluation decide on real people."""
    task = Task.of(real.schema)
    down = Downstream(real.schema, rows.frame, task)
    return [task.decision(down.fit(name, rows.frame).predict(real.frame)) for name in MODELS]


@pytest.fixture(scope="module")
def parity(proxies: tuple[Table, Table]) -> AuditedTrees:
    """Return audited trees of the world of proxies, with parity."""
    return AuditedTrees(seed=0).fit(proxies[0])


@pytest.fixture(scope="module")
def file(parity: AuditedTrees, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return their file."""
    path = tmp_path_factory.mktemp("audited") / "model.fairsynth"
    parity.save(path)
    return path


def test_all_three_models_decide_alike_for_all_groups(
    proxies: tuple[Table, Table], parity: AuditedTrees
) -> None:
    train, test = proxies
    groups = test.groups().codes
    before = [ratio(chosen, groups) for chosen in decisions(train, test)]
    after = [ratio(chosen, groups) for chosen in decisions(parity.sample_table(len(train), seed=1), test)]
    assert max(before) < 0.75
    assert min(after) > 0.8
    assert np.mean(after) > 0.88


def test_what_the_audit_found_is_kept(proxies: tuple[Table, Table], parity: AuditedTrees, file: Path) -> None:
    train, test = proxies
    found = parity.audit_
    assert found is not None
    groups = test.groups().codes
    after = [ratio(chosen, groups) for chosen in decisions(parity.sample_table(len(train), seed=1), test)]
    before = [ratio(chosen, groups) for chosen in decisions(train, test)]
    assert found.ratio == pytest.approx(np.mean(after), abs=0.1)
    assert found.plain_ratio == pytest.approx(np.mean(before), abs=0.15)
    assert (found.criterion, found.strength, found.people) == ("demographic_parity", 1.0, len(train))
    read = load_generator(file)
    assert read.audit_ == found
    assert any(item["where"] == "documents/audit.json" for item in bundle.read(file).manifest["from_data"])
    assert parity.weakened(1.0).audit_ == found
    assert parity.weakened(0.5).audit_ is None
    assert AuditedTrees(seed=0).distill(file, rows=2000).audit_ is None


def test_findings_are_of_the_strength_that_was_asked_for(
    proxies: tuple[Table, Table], parity: AuditedTrees
) -> None:
    half = AuditedTrees(seed=0, fairness=Fairness(strength=0.5)).fit(proxies[0])
    assert half.audit_ is not None and parity.audit_ is not None
    assert half.audit_.plain_ratio < half.audit_.ratio < parity.audit_.ratio
    assert half.audit_.strength == 0.5
    # A new fit forgets what the last one found.
    half.fairness = Fairness(strength=0.0)
    assert half.fit(proxies[0]).audit_ is None


def test_what_one_number_a_group_cannot_do_two_can(proxies: tuple[Table, Table]) -> None:
    """A linear model follows the whole move and trees the threshold: their numbers come out apart."""
    evening = AuditedTrees(seed=0, reach=1.0).fit(proxies[0]).evening_
    assert evening is not None
    assert np.abs(evening.linear - evening.crossing).max() > 0.05


def test_equalized_odds_comes_nearer_on_new_people(proxies: tuple[Table, Table]) -> None:
    train, test = proxies
    made = AuditedTrees(fairness=Fairness("equalized_odds"), seed=0).fit(train)
    groups, actual = test.groups().codes, test.favorable()

    def worst(chosen: np.ndarray) -> float:
        return min(ratio(chosen[actual], groups[actual]), ratio(chosen[~actual], groups[~actual]))

    before = np.mean([worst(chosen) for chosen in decisions(train, test)])
    after = np.mean([worst(chosen) for chosen in decisions(made.sample_table(len(train), seed=1), test)])
    assert after > before + 0.1


@pytest.fixture(scope="module")
def summed(tmp_path_factory: pytest.TempPathFactory) -> tuple[AuditedTrees, Path]:
    """Return trees, at strength 0, of a table in which one column is about the sum of others, and their file."""
    rng = np.random.default_rng(0)
    n = 4000
    parts = rng.normal(size=(3, n))
    sex = rng.integers(0, 2, n)
    total = parts.sum(0) + sex + rng.normal(size=n) / 2
    frame = pl.DataFrame({f"part{k}": part for k, part in enumerate(parts)} | {"total": total})
    frame = frame.with_columns(
        sex=pl.Series(np.array(["f", "m"])[sex]), paid=pl.Series(np.where(total > 0, "yes", "no"))
    )
    table = Table(frame, target="paid", favorable="yes", sensitive="sex")
    model = AuditedTrees(fairness=Fairness(strength=0.0)).fit(table)
    path = tmp_path_factory.mktemp("summed") / "model.fairsynth"
    model.save(path)
    return model, path


def test_a_sum_of_columns_is_drawn_better_with_directions(summed: tuple[AuditedTrees, Path]) -> None:
    def left(model: AuditedTrees) -> float:
        rows = model.sample(20_000, seed=0).select(
            left=pl.col("total") - pl.sum_horizontal("part0", "part1", "part2") - (pl.col("sex") == "m")
        )
        return float(np.std(rows["left"].to_numpy()))

    assert 0.5 < left(summed[0]) < 0.7  # the noise alone is 0.5; without directions 0.9


def test_many_columns_that_tell_little_of_each_other_keep_that() -> None:
    """Of twenty columns that one thing lies behind, each tells a fifteenth of another, and together they tell most."""
    rng = np.random.default_rng(0)
    n, n_columns = 1_000, 20
    behind = rng.normal(size=n)
    columns = {f"item{k}": np.round(0.6 * behind + rng.normal(size=n), 1) for k in range(n_columns)}
    frame = pl.DataFrame(columns).with_columns(
        sex=pl.Series(rng.choice(["f", "m"], n)),
        good=pl.Series(np.where(behind + rng.normal(size=n) > 0, "yes", "no")),
    )
    table = Table(frame, target="good", favorable="yes", sensitive="sex")
    drawn = AuditedTrees(fairness=Fairness(strength=0.0), seed=0).fit(table).sample(n, seed=0)

    def together(rows: pl.DataFrame) -> float:
        found = np.corrcoef(rows.select(columns.keys()).to_numpy(), rowvar=False)
        return float(found[np.triu_indices(n_columns, 1)].mean())

    assert together(frame) == pytest.approx(0.26, abs=0.03)
    assert together(drawn) > 0.13  # .16; with sums that are offered only if four fifths of them hold, .07


def test_heavy_tails_keep_how_they_go_together() -> None:
    """A hundredth of the people makes most of the correlation of amounts; one bin for all of them would lose it."""
    rng = np.random.default_rng(0)
    n = 6000
    wealth = np.exp(1.3 * rng.normal(size=n))
    bills = {f"bill{k}": wealth * np.exp(rng.normal(size=n) / 4) for k in range(4)}
    sex = rng.integers(0, 2, n)
    paid = np.log(wealth) + 0.3 * sex + rng.normal(size=n) > 0
    frame = pl.DataFrame(bills).with_columns(
        sex=pl.Series(np.array(["f", "m"])[sex]), paid=pl.Series(np.where(paid, "yes", "no"))
    )
    table = Table(frame, target="paid", favorable="yes", sensitive="sex")
    rows = AuditedTrees(fairness=Fairness(strength=0.0)).fit(table).sample(n, seed=0)
    for one, other in (("bill0", "bill3"), ("bill1", "bill2")):
        real = np.corrcoef(frame[one], frame[other])[0, 1]
        assert np.corrcoef(rows[one], rows[other])[0, 1] == pytest.approx(real, abs=0.12)


def test_trees_ask_sums_of_columns_and_keep_them_in_their_file(summed: tuple[AuditedTrees, Path]) -> None:
    parity, file = summed
    asked = {column: own.directions for column, own in parity.trees_.items() if own.directions is not None}
    assert asked, "columns that follow each other have directions"
    again = load_generator(file)
    assert isinstance(again, AuditedTrees)
    for column, sums in asked.items():
        read = again.trees_[column].directions
        assert read is not None and read.asked == sums.asked
        for one, other in zip((*read.tables, *read.edges), (*sums.tables, *sums.edges), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("value", [-1, 3, True, 1.5])
def test_directions_out_of_range_are_named(proxies: tuple[Table, Table], value: Any) -> None:
    with pytest.raises(SettingsError, match="directions="):
        AuditedTrees(directions=value).fit(proxies[0])


def test_small_tables_grow_smaller_trees_unless_told_otherwise() -> None:
    def waves(n: int) -> Table:
        rng = np.random.default_rng(0)
        at = rng.uniform(0, 20, n)
        columns = {
            "at": at,
            "height": np.sin(at) + rng.normal(0, 0.8, n),
            "sex": rng.integers(0, 2, n).astype(str),
        }
        return Table(
            pl.DataFrame(columns).with_columns(good=pl.col("height") > 0), target="good", sensitive="sex"
        )

    few, many = waves(SMALL_TABLE), waves(SMALL_TABLE + 500)

    def leaves(table: Table, **settings: Any) -> list[int]:
        made = AuditedTrees(fairness=Fairness(strength=0.0), seed=0, **settings).fit(table)
        return [tree.tree.n_leaves for tree in made.trees_.values()]

    small, large = dict(min_leaf=20, evidence=4.0), dict(min_leaf=15, evidence=3.0)
    assert leaves(few) == leaves(few, **small) != leaves(few, **large)
    assert leaves(many) == leaves(many, **large) != leaves(many, **small)


def test_the_threshold_is_steep_and_of_a_small_table_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = mixed_table(300)
    made = AuditedTrees(seed=0).fit(table)
    assert made.evening_ is not None
    assert made.evening_.steepness == STEEPEST
    made.save(tmp_path / "small.fairsynth")
    again = load_generator(tmp_path / "small.fairsynth")
    assert isinstance(again, AuditedTrees)
    assert again.evening_ is not None
    assert again.evening_.steepness == STEEPEST
    assert again.sample_table(300, seed=1).frame.equals(made.sample_table(300, seed=1).frame)
    monkeypatch.setattr("fairsynth.generators.tree_label.BALANCED_ROWS", 299)
    for criterion, bell in (("demographic_parity", BELL), ("equalized_odds", WIDE_BELL)):
        larger = AuditedTrees(fairness=Fairness(criterion), seed=0).fit(table)
        assert larger.evening_ is not None
        assert (larger.evening_.steepness, larger.evening_.bell) == (STEEP, bell)


def test_at_strength_0_nothing_is_moved(proxies: tuple[Table, Table]) -> None:
    made = AuditedTrees(fairness=Fairness(strength=0.0), seed=0).fit(proxies[0])
    assert made.evening_ is None
    drawn = made.sample_table(20_000, seed=0)
    for group in range(2):
        own = proxies[0].favorable()[proxies[0].groups().codes == group].mean()
        assert drawn.favorable()[drawn.groups().codes == group].mean() == pytest.approx(own, abs=0.02)


def of_two_groups(apart: tuple[float, float], offset: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that tell the labels of two groups so well, those of the second lower by an offset."""
    rng = np.random.default_rng(1)
    n = 60_000
    groups, actual = rng.integers(0, 2, n), rng.random(n) < 0.4
    spread = np.where(groups == 0, *apart)
    scores = rng.normal(np.where(actual, spread, -spread), 1.0) + np.where(groups == 0, offset, -offset)
    return scores, actual, groups


def error_ratio(scores: np.ndarray, actual: np.ndarray, groups: np.ndarray) -> float:
    chosen = scores > 0
    return min(ratio(chosen[own], groups[own]) for own in (actual, ~actual))


def test_what_sets_groups_apart_is_found() -> None:
    scores, actual, groups = of_two_groups((1.0, 1.0), 0.4)
    shifts = audit.to_like_errors(scores, actual, groups, 2, opportunity_only=False)
    assert shifts[0] - shifts[1] == pytest.approx(-0.8, abs=0.1)
    few = np.where(np.arange(len(groups)) < 5, 2, groups)
    assert audit.to_like_errors(scores, actual, few, 3, opportunity_only=False)[2] == 0
    assert not audit.to_like_errors(scores, actual, np.zeros_like(groups), 2, opportunity_only=False).any()


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 25), min_size=1, max_size=3),
    sharp=st.floats(1.0, 1.3),
    steep=st.sampled_from([(0.0, 0.0), (STEEPEST, 0.0), (STEEP, BELL)]),
    parity=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_groups_that_no_model_tells_are_moved_by_their_labels(
    sizes: list[int], sharp: float, steep: tuple[float, float], parity: bool, seed: int
) -> None:
    """What sharpens all scores would take a rare group's few labels away: so it keeps them, or gets what all get."""
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.repeat(0, 200), np.repeat(np.arange(1, len(sizes) + 1), sizes)])
    margins = rng.normal(0.5, 1.5, len(groups)) - rng.normal(0, 1, len(sizes) + 1)[groups]
    start = replace(Evening.none(len(sizes) + 1, 2, 5.0, 2.0), steepness=steep[0], bell=steep[1])
    start = start.sharpened(sharp, margins)
    start = replace(start, linear=np.r_[0.7, np.zeros(len(sizes))], crossing=np.r_[0.4, np.zeros(len(sizes))])
    which = np.arange(len(sizes) + 1) > 0
    found = by_labels(start, margins, groups, which, parity=parity)
    assert found.linear[0] == 0.7 and found.crossing[0] == 0.4
    before, after = expit(margins), expit(found.moved(margins, groups, 1.0))
    for group in range(1, len(sizes) + 1):
        if abs(found.linear[group]) == MAX_SHIFT:
            continue
        goal = after[groups == 0].mean() if parity else before[groups == group].mean()
        assert after[groups == group].mean() == pytest.approx(goal, abs=1e-6)


def biased_people(n: int, level: float, rare: float, seed: int = 0) -> Table:
    """Rows of two large groups and a rare one, whose odds of a good label differ by one."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["major", "minor", "rare"], n, p=[0.6, 0.4 - rare, rare])
    x = rng.normal(size=n).round(2)
    good = rng.random(n) < expit(level + 1.0 * (group == "major") + 0.8 * x)
    frame = pl.DataFrame(
        {"group": group, "x": x, "k": rng.poisson(3, n), "good": np.where(good, "yes", "no")}
    )
    return Table(frame, target="good", favorable="yes", sensitive="group")


def rates(table: Table) -> dict[str, float]:
    groups, good = table.groups(), table.favorable()
    return {name: float(good[groups.codes == code].mean()) for code, name in enumerate(groups.names)}


def test_a_rare_group_gets_the_labels_that_all_get() -> None:
    real = biased_people(700, -0.9, 0.025)
    assert real.groups().counts.min() < 30
    model = AuditedTrees(seed=0).fit(real)
    drawn = rates(model.sample_table(40_000, seed=0))
    assert rates(real)["rare"] < 0.4
    assert drawn["rare"] == pytest.approx((drawn["major"] + drawn["minor"]) / 2, abs=0.08)


@pytest.mark.parametrize("level", [-4.6, 3.6])
def test_a_decision_that_models_hardly_ever_make_is_no_measure(level: float) -> None:
    """Of 2,000 people nearly nobody is favored, or nearly all: labels are made alike, and as many as there were."""
    real = biased_people(2_000, level, 0.1)
    drawn = AuditedTrees(seed=0).fit(real).sample_table(60_000, seed=0)
    rare = [min(table.favorable().mean(), 1 - table.favorable().mean()) for table in (real, drawn)]
    assert rare[1] == pytest.approx(rare[0], rel=0.1)
    shares = [min(rate, 1 - rate) for rate in rates(drawn).values()]
    assert max(shares) < 1.2 * min(shares)


def test_alike_errors_are_had_at_a_price_and_no_dearer(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, actual, groups = of_two_groups((1.3, 1.0), 0.4)
    found = {}
    for price in (0.0, 0.05, audit.PRICE):
        monkeypatch.setattr(audit, "PRICE", price)
        shifts = audit.to_like_errors(scores, actual, groups, 2, opportunity_only=False)
        moved = scores + shifts[groups]
        found[price] = error_ratio(moved, actual, groups), float(((moved > 0) == actual).mean())
    ratios, right = zip(*found.values(), strict=True)
    assert ratios[0] < ratios[1] < ratios[2]
    assert right[0] > right[1] > right[2]
    assert ratios[2] > 0.9


def test_errors_are_not_made_alike_by_favoring_everybody() -> None:
    """Where most are favorable and models tell little, one answer for all is as right, and alike in all groups."""
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 2, 4000)
    actual = rng.random(4000) < np.where(groups == 0, 0.8, 0.6)
    scores = rng.normal(0.6, 0.5, 4000) + 0.15 * actual + 0.5 * (groups == 0)

    def balanced(least: float) -> float:
        shifts = to_like_errors(scores, actual, groups, 2, opportunity_only=False, least=least)
        chosen = scores + shifts[groups] > 0
        return float(chosen[actual].mean() + 1 - chosen[~actual].mean()) / 2

    assert balanced(0.0) < 0.51
    assert balanced(0.55) > 0.549


def test_an_opportunity_is_made_alike_without_regard_to_false_ones() -> None:
    scores, actual, groups = of_two_groups((1.6, 1.0), 0.0)
    shifts = audit.to_like_errors(scores, actual, groups, 2, opportunity_only=True)
    moved = scores + shifts[groups]
    before, after = (ratio((own > 0)[actual], groups[actual]) for own in (scores, moved))
    assert before < 0.9
    assert after > 0.95
    assert ratio((moved > 0)[~actual], groups[~actual]) < 0.6


def test_a_file_gives_the_same_rows(parity: AuditedTrees, file: Path) -> None:
    again = load_generator(file)
    assert isinstance(again, AuditedTrees)
    assert again.sample_table(500, seed=3).frame.equals(parity.sample_table(500, seed=3).frame)
    assert again.evening_ is not None
    assert parity.evening_ is not None
    assert np.array_equal(again.evening_.crossing, parity.evening_.crossing)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label.linear", np.array([np.inf, 0.0])),
        ("label.crossing", np.zeros(5)),
        ("label.faded", np.full((2, 1), 2.0)),
        ("label.sharpness", np.array([2.0, 0.0])),
        ("label.sharpness", np.array([np.nan, 0.0])),
        ("label.sharpness", np.ones(3)),
        ("label.beyond", np.array([0.5])),
        ("label.beyond", np.array([np.nan])),
        ("label.beyond", np.ones(2)),
        ("label.sharpness", np.ones(2, dtype=np.int64)),
        ("label.steepness", np.array([3.0, 0.0])),
        ("label.steepness", np.array([np.nan, 0.0])),
        ("label.steepness", np.array([1.0, 9.0])),
        ("label.steepness", np.zeros(1)),
        ("label.steepness", np.zeros(2, dtype=np.int64)),
        ("label.bin_shares", np.ones(3)),
        ("bins.order", np.array([0, 0, 0])),
        ("sums", np.array([0, 99])),
        ("sums", np.zeros((1, 2), dtype=np.int64)),
        ("sum_tables", np.full((1, 3), 4000, dtype=np.int16)),
        ("sum_sizes", np.array([-1])),
        ("sum_sizes", np.array([5, 5, 5])),
        ("sum_edges", np.zeros(4, dtype=np.int16)),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    file: Path, summed: tuple[AuditedTrees, Path], tmp_path: Path, name: str, value: Any
) -> None:
    content = bundle.read(summed[1] if name.startswith("sum") else file)
    if name.startswith("sum"):
        name = next(own for own in content.tensors if own.endswith(f".{name}"))
    documents = {key: content.document(key) for key in ("schema", "columns", "groups")}
    manifest = {key: told for key, told in content.manifest.items() if key != "members"}
    bad = tmp_path / "bad.fairsynth"
    bundle.write(bad, manifest, documents, dict(content.tensors))
    load_generator(bad)  # so what follows is refused for what is changed
    assert name in content.tensors
    bundle.write(bad, manifest, documents, {**content.tensors, name: value})
    with pytest.raises(BundleError):
        load_generator(bad)


def in_order(n: int = 3000) -> pl.DataFrame:
    """Return people of one group after those of the other, whose labels differ much."""
    rng = np.random.default_rng(0)
    second = np.arange(n) >= n // 2
    x = rng.normal(size=n)
    score = x + np.where(second, 1.2, -1.2) + rng.logistic(size=n)
    return pl.DataFrame({
        "x": x, "z": rng.normal(size=n), "sex": np.where(second, "b", "a"),
        "grade": np.array(["low", "middle", "high"])[np.digitize(score, [-1, 1])], "good": score > 0,
    })  # fmt: skip


def test_the_order_of_a_file_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Laws are told by some of the rows: by the first ones alone, a sorted file had no second group."""
    monkeypatch.setattr("fairsynth.generators.fair_trees.PROBE_ROWS", 1000)
    monkeypatch.setattr("fairsynth.generators.tree_label.PARITY_ROWS", 1000)
    frame = in_order()
    table = Table(frame.drop("grade"), target="good", favorable=True, sensitive="sex")
    law = AuditedTrees(fairness=Fairness(strength=0.0), seed=0).fit(table).label_law_
    real = [table.favorable()[table.groups().codes == k].mean() for k in (0, 1)]
    assert (law[1] / law.sum(0)).tolist() == pytest.approx(real, abs=0.04)

    graded = Table(frame.drop("good"), target="grade", sensitive="sex")
    drawn = AuditedTrees(seed=0).fit(graded).sample_table(20_000, seed=0)
    labels, groups = drawn.target_codes(), drawn.groups().codes
    shares = [np.bincount(labels[groups == k], minlength=3) / (groups == k).sum() for k in (0, 1)]
    assert shares[0].tolist() == pytest.approx(shares[1].tolist(), abs=0.04)


@pytest.mark.parametrize("balanced_rows", [2000, 500])
def test_several_labels_are_allotted(balanced_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many rows of a group get a label is what is expected, give or take a few: chance would be off by twenty."""
    monkeypatch.setattr("fairsynth.generators.tree_label.BALANCED_ROWS", balanced_rows)
    frame = in_order(1600)
    table = Table(frame.drop("good"), target="grade", favorable=["high", "middle"], sensitive="sex")
    made = AuditedTrees(fairness=Fairness(strength=0.0), seed=0).fit(table)
    label, lines = made.label_, made.lines_
    parents = lines.before(lines.layout.target)
    known = lines.of_states(lines.layout.encoder.encode(table))
    groups = table.groups().codes.astype(np.int64)
    expected = label.shares(known, groups, parents)
    off = []
    for seed in range(20):
        drawn = label.draw(known, groups, parents, np.random.default_rng(seed))
        marked = drawn[:, None] == np.arange(expected.shape[1])
        off.append([np.abs((marked - expected)[groups == k].sum(0)).max() for k in (0, 1)])
        favorable = (marked[:, label.favored].sum(1) - expected[:, label.favored].sum(1))[groups == 0].sum()
        assert abs(favorable) < 2
    assert np.mean(off) < 4


def test_trees_that_use_all_their_layers_can_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer for each attribute comes after the most that a tree grows by: such files were refused."""
    monkeypatch.setattr("fairsynth.trees.layered.MAX_LAYERS", 1)
    rng = np.random.default_rng(0)
    n = 3000
    sex, race = rng.integers(0, 2, n), rng.integers(0, 2, n)
    x = rng.normal(size=n)
    frame = pl.DataFrame({
        "x": x, "y": 2 * x + 0.7 * sex + 0.7 * race + rng.normal(size=n), "sex": sex.astype(str),
        "race": race.astype(str), "good": x + sex + rng.normal(size=n) > 0,
    })  # fmt: skip
    table = Table(frame, target="good", sensitive=["sex", "race"])
    made = AuditedTrees(fairness=Fairness(strength=0.0), seed=0, directions=0).fit(table)
    assert max(len(own.tree.layers) for own in made.trees_.values()) == 1 + 2
    path = tmp_path / "deep.fairsynth"
    made.save(path)
    assert load_generator(path).sample_table(300, seed=1).frame.equals(made.sample_table(300, seed=1).frame)


def test_a_student_needs_the_file_alone_and_keeps_what_it_does(
    proxies: tuple[Table, Table], parity: AuditedTrees, file: Path
) -> None:
    train, test = proxies
    assert student_class(file) is AuditedTrees
    student = AuditedTrees().distill(file, seed=5, rows=60_000)
    rows = student.sample_table(len(train), seed=1)
    after = [ratio(chosen, test.groups().codes) for chosen in decisions(rows, test)]
    assert np.mean(after) > 0.85
    assert not np.array_equal(
        next(iter(student.trees_.values())).law.shares, next(iter(parity.trees_.values())).law.shares
    )
    mine, theirs = numbers(rows), numbers(parity.sample_table(len(train), seed=1))
    assert mine.mean(0) == pytest.approx(theirs.mean(0), abs=0.1 * theirs.std(0).max())


def test_distilling_something_else_is_refused(tmp_path: Path, file: Path) -> None:
    from fairsynth.generators.fair_trees import FairTrees

    other = tmp_path / "other.fairsynth"
    FairTrees(fairness=Fairness(strength=0.0)).fit(mixed_table(300)).save(other)
    with pytest.raises(SettingsError, match="fair-trees"):
        AuditedTrees().distill(other)
    with pytest.raises(SettingsError, match="rows"):
        AuditedTrees().distill(file, rows=0)
    assert student_class(other).name == "fair4free"
