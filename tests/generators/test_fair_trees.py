"""Fair trees: faithful at strength 0, fair to new people at strength 1, and no list of those they learned from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from toys import mixed_frame, mixed_table

from fairsynth import bundle
from fairsynth.data.table import Table
from fairsynth.errors import BundleError, CapabilityError, FairsynthWarning, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators import audit, fair_trees, margin_shift, tree_rows
from fairsynth.generators.audited_trees import AuditedTrees
from fairsynth.generators.base import BLOCK_ROWS, load_generator
from fairsynth.generators.fair_trees import FairTrees
from fairsynth.generators.group_law import joint_counts
from fairsynth.progress import Step

PLAIN = Fairness(strength=0.0)


def numbers(table: Table) -> np.ndarray:
    return (
        table.frame.select(pl.col(name).to_physical().cast(pl.Float64) for name in table.schema.features)
        .fill_null(-1)
        .to_numpy()
    )


def decide(synthetic: Table, real: Table) -> np.ndarray:
    """Return probabilities of a favorable label for real rows, from a model that the generator does not know."""
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    return model.fit(numbers(synthetic), synthetic.favorable()).predict_proba(numbers(real))[:, 1]


def ratio(good: np.ndarray, groups: np.ndarray) -> float:
    rates = [good[groups == group].mean() for group in np.unique(groups)]
    return float(min(rates) / max(rates))


Fitted = Callable[[str, float], FairTrees]


@pytest.fixture(scope="module")
def trees(proxies: tuple[Table, Table]) -> Fitted:
    """Return the function that gives fair trees of the world of proxies, fitted once."""
    made: dict[tuple[str, float], FairTrees] = {}

    def get(criterion: str, strength: float) -> FairTrees:
        key = criterion, strength
        if key not in made:
            made[key] = FairTrees(fairness=Fairness(*key)).fit(proxies[0])  # type: ignore[arg-type]
        return made[key]

    return get


@pytest.fixture(scope="module")
def plain() -> FairTrees:
    """Return honest trees of a table of every kind of column."""
    return FairTrees(fairness=PLAIN).fit(mixed_table(1500, sensitive=["sex", "race"]))


# ------------------------------------------------------------------------------------------------ faithful
def test_groups_and_labels_come_as_they_are_at_strength_zero(
    proxies: tuple[Table, Table], trees: Fitted
) -> None:
    train, made = proxies[0], trees("demographic_parity", 0.0).sample_table(40_000, seed=0)
    wanted = joint_counts(train.target_codes(), train.groups().codes, 2, 2) / len(train)
    got = joint_counts(made.target_codes(), made.groups().codes, 2, 2) / len(made)
    assert got == pytest.approx(wanted, abs=0.02)


def test_a_model_learns_nearly_as_much_from_drawn_rows(proxies: tuple[Table, Table], trees: Fitted) -> None:
    train, test = proxies
    good = test.favorable()
    real = roc_auc_score(good, decide(train, test))
    made = roc_auc_score(good, decide(trees("demographic_parity", 0.0).sample_table(6000, seed=0), test))
    assert made > real - 0.015


def test_a_column_that_another_decides_is_drawn_with_it() -> None:
    frame = mixed_frame(2000).with_columns(code=pl.col("job").str.slice(4).cast(pl.Int64) * 7 % 13)
    table = Table(frame, target="paid", favorable="yes", sensitive="sex", identifiers=["person"])
    made = FairTrees(fairness=PLAIN).fit(table).sample_table(20_000, seed=0).frame
    agrees = made["job"].cast(pl.String).str.slice(4).cast(pl.Int64) * 7 % 13 == made["code"]
    assert float(agrees.to_numpy().mean()) > 0.985


def test_pairs_of_columns_keep_how_they_go_together(proxies: tuple[Table, Table], trees: Fitted) -> None:
    made = trees("demographic_parity", 0.0).sample_table(40_000, seed=1).frame
    same = (made["club"] == "golf") == (made["sex"] == "man")
    assert float(same.to_numpy().mean()) == pytest.approx(0.93, abs=0.015)


def test_shares_of_several_attributes_are_exact(plain: FairTrees) -> None:
    table = mixed_table(1500, sensitive=["sex", "race"])
    made = plain.sample_table(60_000, seed=0)
    real = table.groups().counts / len(table)
    assert made.groups().counts / 60_000 == pytest.approx(real, abs=4 * np.sqrt(0.25 / 60_000))


def test_conditions_are_met_and_the_label_still_follows_the_columns(
    proxies: tuple[Table, Table], trees: Fitted
) -> None:
    model = trees("demographic_parity", 0.0)
    women = model.sample_table(8000, seed=0, where={"sex": "woman", "paid": "yes"}).frame
    assert set(women["sex"]) == {"woman"} and set(women["paid"]) == {"yes"}
    real = proxies[0].frame.filter((pl.col("sex") == "woman") & (pl.col("paid") == "yes"))
    assert women["skill"].mean() == pytest.approx(real["skill"].mean(), abs=0.12)


def test_numbers_of_a_band_lie_in_it() -> None:
    """Of the band that was asked for, even where trees are told to cut nothing."""
    table = mixed_table(900, sensitive={"age": [30, 50, 70], "sex": None})
    real, bands = table.frame["age"].to_numpy(), table.groups("age")
    for evidence in (2.0, 1e6):
        model = FairTrees(fairness=PLAIN, evidence=evidence).fit(table)
        for at, band in enumerate(bands.names):
            made = model.sample_table(2000, seed=0, sensitive={f"{band} × man": 1.0})
            ages = made.frame["age"].to_numpy()
            assert (np.digitize(ages, [30, 50, 70]) == at).all() and set(made.frame["sex"]) == {"man"}
            assert ages.mean() == pytest.approx(real[bands.codes == at].mean(), abs=2)


# ---------------------------------------------------------------------------------------------------- fair
def test_models_of_new_people_are_fairer_the_higher_the_strength(
    proxies: tuple[Table, Table], trees: Fitted
) -> None:
    """Trap 2: measured on decisions about real people, by another kind of model than the probes."""
    test = proxies[1]
    groups = test.groups().codes
    ratios, aucs = [], []
    for strength in (0.0, 0.5, 1.0):
        scores = decide(trees("demographic_parity", strength).sample_table(6000, seed=0), test)
        ratios.append(ratio(scores > 0.5, groups))
        aucs.append(roc_auc_score(test.favorable(), scores))
    assert ratios[0] < 0.55 and ratios[0] + 0.08 < ratios[1] < ratios[2] - 0.08 and ratios[2] > 0.85
    assert aucs[2] > 0.75 and (scores > 0.5).mean() > 0.3, "not by a constant answer (trap 1)"


def test_odds_are_made_alike_where_they_are_asked_for(proxies: tuple[Table, Table], trees: Fitted) -> None:
    """Trap 3: what parity does to true and false positives is not what equalized odds does."""
    test = proxies[1]
    groups, good = test.groups().codes, test.favorable()

    def odds(criterion: str, strength: float) -> float:
        chosen = decide(trees(criterion, strength).sample_table(6000, seed=0), test) > 0.5
        return min(ratio(chosen[good], groups[good]), ratio(chosen[~good], groups[~good]))

    assert odds("equalized_odds", 1.0) > odds("demographic_parity", 0.0) + 0.15


def test_true_positives_alone_can_be_asked_for(proxies: tuple[Table, Table], trees: Fitted) -> None:
    test = proxies[1]
    groups, good = test.groups().codes, test.favorable()
    chosen = decide(trees("equal_opportunity", 1.0).sample_table(24_000, seed=0), test) > 0.5
    before = decide(trees("demographic_parity", 0.0).sample_table(24_000, seed=0), test) > 0.5
    assert ratio(chosen[good], groups[good]) > max(0.9, ratio(before[good], groups[good]) + 0.05)


def test_only_labels_are_moved(trees: Fitted) -> None:
    """The same chance gives the same people at any strength; some have another label, and fewer with a short reach."""
    base = trees("demographic_parity", 0.0).sample_table(20_000, seed=3).frame
    fair = trees("demographic_parity", 1.0)
    made = fair.sample_table(20_000, seed=3).frame
    columns = [name for name in base.columns if name != "paid"]
    assert base.select(columns).equals(made.select(columns))
    other = (base["paid"] != made["paid"]).to_numpy()
    assert 0 < other.mean() < 0.3
    helped = made.filter((base["paid"] == "no") & (made["paid"] == "yes"))
    assert set(helped["sex"]) == {"woman"}, "nobody of the favored group is favored more"


def test_the_favorable_label_may_be_the_first_of_the_two(proxies: tuple[Table, Table]) -> None:
    frame = proxies[0].frame.with_columns(
        pl.col("paid").cast(pl.String).replace({"yes": "a: good", "no": "b: bad"})
    )
    table = Table(frame, target="paid", favorable="a: good", sensitive="sex")
    model = FairTrees().fit(table)
    told = dict(zip(model.group_names_, model.shifts_, strict=True))
    assert told["woman"] > 0.3 > -0.3 > told["man"]
    made, plain = (
        FairTrees(fairness=Fairness(strength=s)).fit(table).sample_table(20_000, seed=0) for s in (1.0, 0.0)
    )
    assert ratio(made.favorable(), made.groups().codes) > ratio(plain.favorable(), plain.groups().codes) + 0.1


def test_every_one_of_many_groups_is_moved_by_what_it_lacks() -> None:
    rng = np.random.default_rng(0)
    n, levels = 6000, np.array(["a", "b", "c", "d"])
    race, sex, skill = rng.integers(0, 4, n), rng.integers(0, 2, n), rng.normal(size=n)
    bias = np.array([1.5, 0.5, -0.5, -1.5])[race] + 0.7 * sex
    paid = rng.random(n) < 1 / (1 + np.exp(-2 * skill - bias))
    frame = pl.DataFrame(
        {
            "skill": skill, "race": levels[race], "sex": np.array(["w", "m"])[sex],
            "paid": np.where(paid, "yes", "no"),
        }
    )  # fmt: skip
    table = Table(frame, target="paid", favorable="yes", sensitive=["race", "sex"])
    model = FairTrees().fit(table)
    told = dict(zip(model.group_names_, model.shifts_, strict=True))
    assert len(told) == 8 and told["a × m"] < told["b × w"] < told["d × w"]
    groups = table.groups().codes
    before = ratio(decide(table, table) > 0.5, groups)
    after = ratio(decide(model.sample_table(6000, seed=0), table) > 0.5, groups)
    assert before < 0.4 and after > 0.75


def test_all_of_more_than_two_labels_are_given_alike(plain: FairTrees) -> None:
    rng = np.random.default_rng(0)
    n = 5000
    sex, skill = rng.integers(0, 2, n), rng.normal(size=n)
    score = skill + 1.2 * sex + 0.5 * rng.logistic(size=n)
    grade = np.array(["low", "middle", "high"])[np.digitize(score, [-0.3, 1.5])]
    frame = pl.DataFrame({"skill": skill, "sex": np.array(["w", "m"])[sex], "grade": grade})
    table = Table(frame, target="grade", favorable=None, sensitive="sex")
    spread = {}
    for strength in (0.0, 1.0):
        made = FairTrees(fairness=Fairness(strength=strength)).fit(table).sample_table(40_000, seed=0)
        joint = joint_counts(made.target_codes(), made.groups().codes, 3, 2)
        spread[strength] = np.abs(np.diff(joint / joint.sum(0), axis=1)).max()
    assert spread[0.0] > 0.2 and spread[1.0] < 0.03


def test_a_number_is_paid_alike_at_every_quantile() -> None:
    rng = np.random.default_rng(0)
    n = 4000
    sex, skill = rng.integers(0, 2, n), rng.normal(size=n)
    pay = np.round(np.exp(3 + 0.4 * skill + 0.5 * sex + 0.1 * rng.normal(size=n)), 1)
    frame = pl.DataFrame({"skill": skill, "sex": np.array(["w", "m"])[sex], "pay": pay})
    table = Table(frame, target="pay", sensitive="sex")
    made = {
        s: FairTrees(fairness=Fairness(strength=s)).fit(table).sample_table(30_000, seed=0).frame
        for s in (0.0, 1.0)
    }

    def gaps(rows: pl.DataFrame) -> np.ndarray:
        pays = [rows.filter(pl.col("sex") == s)["pay"].to_numpy() for s in ("m", "w")]
        at = [np.quantile(own, [0.1, 0.5, 0.9]) for own in pays]
        return np.asarray(at[0] / at[1])

    assert gaps(made[0.0]).min() > 1.4 and gaps(made[1.0]) == pytest.approx(1, abs=0.06)
    kept = np.corrcoef(made[1.0]["skill"], np.log(made[1.0]["pay"]))[0, 1]
    assert kept > 0.7, "within a group, who earns more still does"
    with pytest.raises(CapabilityError, match="favorable"):
        FairTrees(fairness=Fairness("equalized_odds")).fit(table)


def test_very_many_labels_need_favorable_ones_to_be_fair() -> None:
    rng = np.random.default_rng(0)
    n = 3000
    sex, skill = rng.integers(0, 2, n), rng.normal(size=n)
    good = rng.random(n) < 1 / (1 + np.exp(-2 * skill - 2 * sex + 1))
    job = np.where(good, rng.integers(0, 20, n), 20 + rng.integers(0, 20, n))
    frame = pl.DataFrame(
        {"skill": skill, "sex": np.array(["w", "m"])[sex], "job": [f"j{i:02d}" for i in job]}
    )
    named = Table(frame, target="job", favorable=[f"j{i:02d}" for i in range(20)], sensitive="sex")
    rates = {}
    for strength in (0.0, 1.0):
        model = FairTrees(fairness=Fairness(strength=strength)).fit(named)
        made = model.sample_table(20_000, seed=0)
        assert made.frame["job"].n_unique() == 40
        rates[strength] = ratio(made.favorable(), made.groups().codes)
    assert rates[0.0] < 0.65 and rates[1.0] > rates[0.0] + 0.15
    with pytest.raises(CapabilityError, match="none is favorable"):
        FairTrees().fit(Table(frame, target="job", sensitive="sex"))


# ------------------------------------------------------------------------------------------------- privacy
def test_no_leaf_rests_on_a_few_people(plain: FairTrees) -> None:
    table = mixed_table(1500, sensitive=["sex", "race"])
    lines, layout = plain.lines_, plain.lines_.layout
    of_rows = lines.of_states(layout.encoder.encode(table).astype(np.int64))
    deepest = 0
    for column, own in plain.trees_.items():
        leaves = own.tree.leaves([of_rows[k] for k in own.parents], len(table))
        assert np.bincount(leaves, minlength=own.tree.n_leaves).min() >= plain.min_leaf, column
        deepest = max(deepest, own.tree.n_leaves)
    assert deepest > 3


def test_rows_are_not_those_learned_from() -> None:
    table = mixed_table(800)
    made = FairTrees(fairness=PLAIN).fit(table).sample_table(800, seed=0).frame.drop("person")
    assert made.join(table.frame.drop("person"), on=made.columns, how="inner").height == 0


def test_growing_on_some_rows_fills_leaves_with_all(
    proxies: tuple[Table, Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_rows, "GROW_ROWS", 800)
    model = FairTrees(fairness=PLAIN).fit(proxies[0])
    column = model.lines_.order[0]
    states = model.lines_.layout.encoder.encode(proxies[0])[:, column]
    own = model.trees_[column]
    if own.tree.n_leaves == 1:
        counts = np.bincount(states, minlength=own.law.shares.shape[1])
        assert own.law.shares[0] == pytest.approx(counts / counts.sum(), abs=1e-3)
    made = model.sample_table(20_000, seed=0).frame
    assert ((made["club"] == "golf") == (made["sex"] == "man")).to_numpy().mean() == pytest.approx(
        0.93, abs=0.02
    )


# --------------------------------------------------------------------------------------------- work and files
def test_work_is_told_and_goes_on_after_the_label(proxies: tuple[Table, Table], tmp_path: Path) -> None:
    whole: list[Step] = []
    model = FairTrees().fit(proxies[0], progress=whole.append, checkpoint=tmp_path)
    assert whole[-1].done == whole[-1].total == len(model.lines_.order) + 1 + margin_shift.ROUNDS
    again: list[Step] = []
    resumed = FairTrees().fit(proxies[0], progress=again.append, checkpoint=tmp_path)
    assert again[0].done == len(model.lines_.order) + 1, "trees and label were kept"
    assert resumed.sample(100, seed=0).equals(model.sample(100, seed=0))


@pytest.mark.parametrize(("target", "favorable"), [("race", ["a", "b"]), ("race", None), ("income", None)])
@pytest.mark.parametrize("method", [FairTrees, AuditedTrees])
def test_a_label_that_was_kept_gets_what_groups_need(
    method: type[FairTrees], target: str, favorable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "ROUNDS", 1)
    table = mixed_table(400, target=target, favorable=favorable)
    model = method().fit(table, checkpoint=tmp_path)
    resumed = method().fit(table, checkpoint=tmp_path)
    assert resumed.sample(200, seed=0).equals(model.sample(200, seed=0))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("reach", 0.0), ("min_leaf", 0), ("min_leaf", 2.5), ("evidence", -1.0), ("backing", float("nan")),
        ("max_intervals", 0),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_named(setting: str, value: Any, small: Table) -> None:
    with pytest.raises(SettingsError, match=setting):
        FairTrees(**{setting: value}).fit(small)


def damaged(tensors: dict[str, np.ndarray], how: str) -> dict[str, np.ndarray]:
    tables = max(
        (k for k in tensors if k.endswith(".tables") and k != "label.tables"), key=lambda k: len(tensors[k])
    )
    tree = tables.removesuffix(".tables")
    if how == "negative node":
        tensors[tables][0] = -7
    elif how == "node past the end":
        tensors[tables][-1] = 32_000
    elif how == "cut tables":
        tensors[tables] = tensors[tables][:-1]
    elif how == "longer tables":
        tensors[tables] = np.append(tensors[tables], tensors[tables][:1])
    elif how == "unknown parent":
        tensors[f"{tree}.parents"][0] = 99
    elif how == "law of nothing":
        tensors[f"{tree}.law"] = tensors[f"{tree}.law"] * 0
    elif how == "law that is no number":
        tensors[f"{tree}.law"][0, 0] = np.nan
    elif how == "fewer leaves":
        tensors[f"{tree}.law"] = tensors[f"{tree}.law"][:-1]
    elif how == "bin without states":
        tensors["bins.0"][0] = -1
    elif how == "scores of other columns":
        tensors["label.pairs"][0, 0] = 99
    elif how == "cut scores":
        tensors["label.tables"] = tensors["label.tables"][:-3]
    elif how == "infinite shift":
        tensors["label.shifts"][0] = np.inf
    elif how == "shifts of other groups":
        tensors["label.shifts"] = tensors["label.shifts"][:-1]
    elif how == "something besides":
        tensors["rows"] = np.zeros(3)
    elif how == "a tree less":
        del tensors[tables]
    return tensors


@pytest.mark.parametrize(
    "how",
    [
        "negative node", "node past the end", "cut tables", "longer tables", "unknown parent", "law of nothing",
        "law that is no number", "fewer leaves", "bin without states", "scores of other columns", "cut scores",
        "infinite shift", "shifts of other groups", "something besides", "a tree less",
    ],
)  # fmt: skip
def test_damaged_files_are_refused(how: str, plain: FairTrees, tmp_path: Path) -> None:
    path = tmp_path / "model.fairsynth"
    plain.save(path)
    content = bundle.read(path)
    tensors = damaged({name: array.copy() for name, array in content.tensors.items()}, how)
    bundle.write(path, content.manifest, content.documents, tensors)
    with pytest.raises(BundleError):
        load_generator(path)


@pytest.mark.parametrize("criterion", ["demographic_parity", "equalized_odds"])
def test_a_read_model_is_moved_as_far(criterion: str, trees: Fitted, tmp_path: Path) -> None:
    model = trees(criterion, 1.0)
    model.save(tmp_path / "m.fairsynth")
    again = load_generator(tmp_path / "m.fairsynth")
    assert np.array_equal(again.shifts_, model.shifts_) and np.abs(model.shifts_).max() > 0.1
    assert again.sample_table(3000, seed=0).frame.equals(model.sample_table(3000, seed=0).frame)


def test_columns_learned_side_by_side_are_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = mixed_table(600, sensitive=["sex", "race"])
    monkeypatch.setattr(fair_trees, "FEW_ROWS", 0)
    for at, count in enumerate((1, 2)):
        monkeypatch.setattr(fair_trees, "cores", lambda count=count: count)
        heard: list[Step] = []
        FairTrees(calibrate=False).fit(table, progress=heard.append).save(tmp_path / f"{at}.fairsynth")
        assert [step.done for step in heard] == sorted(step.done for step in heard)
    assert (tmp_path / "0.fairsynth").read_bytes() == (tmp_path / "1.fairsynth").read_bytes()


def test_neither_threads_nor_the_way_to_a_file_change_a_row(plain: FairTrees, tmp_path: Path) -> None:
    n = 2 * BLOCK_ROWS + 11
    asked: dict[str, Any] = {"seed": 5, "where": None, "sensitive": "empirical"}
    frame = mixed_frame(1500).drop("person")  # without identifiers rows go to a file by a shorter way
    short = FairTrees(fairness=PLAIN).fit(Table(frame, target="paid", favorable="yes", sensitive="sex"))
    for model in (plain, short):
        runs = [
            pa.Table.from_batches(model._blocks(n, **asked, finish=model._to_arrow, workers=workers))
            for workers in (1, 4)
        ]
        assert runs[0].equals(runs[1])
        model.sample_to(tmp_path / "rows.parquet", n, seed=5)
        drawn = model.sample(n, seed=5)
        assert pl.read_parquet(tmp_path / "rows.parquet").cast(dict(drawn.schema)).equals(drawn)


def test_names_that_are_learned_are_said() -> None:
    frame = mixed_frame(400).select("hours", "sex", "paid")
    names = pl.Series("name", [f"person {i}" for i in range(399)] + ["person 0"])
    table = Table(frame.with_columns(names), target="paid", favorable="yes", sensitive="sex")
    with pytest.warns(FairsynthWarning, match="'name' holds 399 different texts"):
        FairTrees(fairness=PLAIN).fit(table)
