"""A biased world does what it says: every dial makes its own arrow, and the truth that is told is the truth."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import roots_hermitenorm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fairsynth.data.biased import BIAS_DIALS, CHUNK, BiasedWorld, make_biased
from fairsynth.data.biased_law import sigmoid
from fairsynth.errors import DataError, SettingsError

DIALS = {"direct": 1.2, "proxy": 0.8, "label": 0.4, "merit_gap": 0.6}
CROWD = {"sex": {"man": 0.6, "woman": 0.4}, "race": {"w": 0.7, "x": 0.2, "y": 0.1}}
EVERYTHING: dict[str, Any] = {**DIALS, "sensitive": CROWD, "domains": 3, "covariate_shift": 0.5}


def rows_of(world: BiasedWorld, n: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    pairs = list(world.iter_batches(n, truth=True))
    frame = pl.from_arrow(pa.Table.from_batches([batch for batch, _ in pairs]))
    assert isinstance(frame, pl.DataFrame)
    return frame, pl.concat([truth for _, truth in pairs])


def group_of(world: BiasedWorld, frame: pl.DataFrame) -> np.ndarray:
    names = frame.select(
        pl.concat_str([pl.col(name).cast(pl.String) for name in world.sensitive], separator=" × ")
    )
    return names.to_series().replace_strict(list(world.groups), list(range(len(world.groups)))).to_numpy()


def favorable(frame: pl.DataFrame) -> np.ndarray:
    return (frame["label"].cast(pl.String) == "yes").to_numpy()


def close(found: np.ndarray, exact: float) -> bool:
    """Whether a mean of truth values agrees with its expectation within 4.5 standard errors."""
    error = np.sqrt(max(exact * (1 - exact), 1e-9) / len(found))
    return abs(found.mean() - exact) <= 4.5 * error


# ---- exact rates against independent calculations -------------------------------------------------


def test_rates_agree_with_gauss_hermite_where_all_columns_are_normal() -> None:
    world = BiasedWorld(mixed=False, rate=0.3, direct=0.7, proxy=0.4, label=0.25, separation=1.5)
    nodes, weights = roots_hermitenorm(120)
    weights = weights / weights.sum()
    own = np.array(
        [column.weight * (column.gap if column.role == "proxy" else 0.0) for column in world.columns]
    ).sum()
    for at, advantage in enumerate(world.advantages):
        mean = world.intercept + (world.direct + own) * advantage
        expected = (1 - world.flips[at]) * (weights @ sigmoid(mean + 1.5 * nodes))
        assert world.rates.label[at] == pytest.approx(expected, abs=1e-10)
    assert weights @ sigmoid(world.intercept + 1.5 * nodes) == pytest.approx(0.3, abs=1e-10)
    assert world.rates.fair == pytest.approx(np.full(2, 0.3), abs=1e-10)


@pytest.mark.parametrize(
    "change",
    [{}, {"covariate_shift": 0.0, "label_shift": 0.7}, {"mixed": False}, {"n_merit": 1, "n_proxy": 1}],
)
def test_rates_agree_with_many_rows(change: dict[str, Any]) -> None:
    world = replace(BiasedWorld(**EVERYTHING), **change)
    frame, truth = rows_of(world, 150_000)
    label, group, rates = favorable(frame), group_of(world, frame), world.rates
    answer = world.probability(frame) > 0.5
    fair_answer = truth["fair_probability"].to_numpy() > 0.5
    for at in range(len(world.groups)):
        own = group == at
        assert close(own, rates.shares[at])
        assert close(label[own], rates.label[at])
        assert close(truth["fair_label"].to_numpy()[own], rates.fair[at])
        assert close(answer[own], rates.bayes[at])
        assert close(answer[own & label], rates.bayes_tpr[at])
        assert close(answer[own & ~label], rates.bayes_fpr[at])
        assert close(fair_answer[own], rates.fair_bayes[at])
    assert close(answer == label, rates.bayes_accuracy)


def test_the_rate_asked_for_is_the_fair_one() -> None:
    for rate in (0.05, 0.5, 0.9):
        world = replace(BiasedWorld(**EVERYTHING), rate=rate)
        assert world.rates.shares @ world.rates.fair == pytest.approx(rate, abs=1e-9)


def test_probabilities_are_calibrated_and_bayes_is_not_beaten() -> None:
    """Among rows said to be favorable with probability p, p are; and no model fitted on other rows does better."""
    world = BiasedWorld(**EVERYTHING)
    frame, truth = rows_of(world, 120_000)
    label = favorable(frame)
    for sensitive in (True, False):
        probability = world.probability(frame, sensitive=sensitive)
        for low in np.arange(0, 1, 0.1):
            held = (probability >= low) & (probability < low + 0.1)
            error = np.sqrt((probability * (1 - probability))[held].mean() / held.sum())
            assert abs(label[held].mean() - probability[held].mean()) < 4.5 * error
    assert np.allclose(truth["probability"], world.probability(frame), atol=1e-12)
    features = frame.drop("label", *world.sensitive, "domain").with_columns(pl.col(pl.Boolean).cast(pl.Int8))
    matrix = features.to_dummies(
        [c for c in features.columns if features[c].dtype == pl.Enum or features[c].dtype == pl.Categorical]
    ).to_numpy()
    fitted = LogisticRegression(max_iter=500).fit(matrix[:60_000], label[:60_000])
    blind = roc_auc_score(label[60_000:], world.probability(frame, sensitive=False)[60_000:])
    seeing = roc_auc_score(label[60_000:], world.probability(frame)[60_000:])
    assert roc_auc_score(label[60_000:], fitted.decision_function(matrix[60_000:])) < blind + 0.002
    assert blind < seeing - 0.005


# ---- each dial moves its own measure and no other --------------------------------------------------


def measures(world: BiasedWorld, n: int = 60_000) -> dict[str, float]:
    """Return what each dial is to move, estimated from rows by means that know nothing of the model's formulas."""
    frame, truth = rows_of(world, n)
    group, label = group_of(world, frame), favorable(frame)
    numeric = {
        role: np.column_stack(
            [
                frame[c].cast(pl.String).replace_strict(list("abcde"), range(5))
                if str(frame[c].dtype).startswith(("Enum", "Cat"))
                else frame[c].cast(pl.Float64)
                for c in frame.columns
                if c.startswith(role)
            ]
        ).astype(float)
        for role in ("merit", "proxy")
    }
    scores = {}
    half = n // 2
    for role, matrix in numeric.items():
        guess = LogisticRegression(max_iter=500).fit(matrix[:half], group[:half])
        scores[role] = roc_auc_score(group[half:], guess.predict_proba(matrix[half:])[:, 1])
    matrix = np.column_stack([numeric["merit"], numeric["proxy"], group])
    decision = truth["decision"].to_numpy()
    judged = LogisticRegression(max_iter=1000, C=1e6).fit((matrix - matrix.mean(0)) / matrix.std(0), decision)
    return {
        # log odds of the decision by group at equal features (the last coefficient, of a standardised column)
        "direct": abs(float(judged.coef_[0, -1])),
        "proxy": scores["proxy"] - 0.5,
        "label": float((decision != label).mean()),
        "merit_gap": scores["merit"] - 0.5,
    }


@pytest.mark.parametrize("dial", [None, *DIALS])
def test_each_dial_moves_its_own_measure_and_no_other(dial: str | None) -> None:
    world = BiasedWorld(**({dial: DIALS[dial]} if dial else {}), n_merit=3)
    found = measures(world)
    for name, value in found.items():
        if name == dial:
            assert value > 0.08, name
        else:
            assert value < (1e-12 if name == "label" else 0.035), name


def test_without_bias_everything_is_fair() -> None:
    world = BiasedWorld(sensitive=CROWD)
    rates = world.rates
    for what in ("label", "fair", "bayes", "bayes_tpr", "bayes_fpr", "fair_bayes"):
        assert rates.gap(what) == pytest.approx(0, abs=1e-10)
        assert rates.ratio(what) == pytest.approx(1, abs=1e-9)
    frame, truth = rows_of(world, 20_000)
    assert not truth["changes"].any()
    assert (truth["fair_label"].to_numpy() == favorable(frame)).all()
    assert np.allclose(truth["probability"], truth["fair_probability"], atol=1e-12)
    assert world.gap_by_dial() == dict.fromkeys(DIALS, pytest.approx(0, abs=1e-10))


@pytest.mark.parametrize("dial", BIAS_DIALS)
def test_every_bias_opens_a_gap_that_grows_with_its_dial(dial: str) -> None:
    gaps = [replace(BiasedWorld(), **{dial: at * DIALS[dial]}).rates.gap() for at in (0, 0.25, 0.5, 1)]
    assert gaps[0] == pytest.approx(0, abs=1e-10)
    assert all(one < other - 0.005 for one, other in pairwise(gaps))
    biased = BiasedWorld(**DIALS)
    assert biased.gap_by_dial()[dial] == pytest.approx(gaps[-1], abs=0.02)
    assert biased.rates.gap() > gaps[-1]


def test_a_label_bias_is_its_flips_and_nothing_else() -> None:
    """Of favorable decisions, `label` are recorded as unfavorable in the last group; none the other way round."""
    world = BiasedWorld(label=0.3, rate=0.6)
    frame, truth = rows_of(world, 60_000)
    label, decision, group = favorable(frame), truth["decision"].to_numpy(), group_of(world, frame)
    assert not (label & ~decision).any()
    assert (decision == truth["fair_label"].to_numpy()).all()
    assert (label == decision)[group == 0].all()
    assert close(~label[(group == 1) & decision], 0.3)
    assert world.rates.label == pytest.approx([0.6, 0.6 * 0.7], abs=1e-9)
    assert world.rates.ratio() == pytest.approx(0.7, abs=1e-9)


def test_blindness_undoes_direct_bias_and_not_proxies() -> None:
    """Trap 2 of the methods: leaving out the sensitive column cures what comes from it alone."""
    for change, cured in (({"direct": 1.5}, True), ({"proxy": 1.5}, False)):
        world = BiasedWorld(**change)
        frame, _ = rows_of(world, 60_000)
        group, answer = group_of(world, frame), world.probability(frame, sensitive=False) > 0.5
        gap = abs(answer[group == 0].mean() - answer[group == 1].mean())
        assert (gap < 0.025) == cured
        assert world.rates.gap("bayes") > 0.2


def test_a_true_difference_is_no_bias() -> None:
    world = BiasedWorld(merit_gap=0.6)
    frame, truth = rows_of(world, 20_000)
    assert (truth["fair_label"].to_numpy() == favorable(frame)).all()
    assert not truth["changes"].any()
    assert world.rates.gap("fair") == pytest.approx(world.rates.gap("label"), abs=1e-12)
    assert world.rates.gap("fair") > 0.2


# ---- counterfactuals -----------------------------------------------------------------------------


@pytest.mark.parametrize("dial", BIAS_DIALS)
def test_turning_a_dial_changes_the_world_and_not_the_people(dial: str) -> None:
    """The fair label is, person by person, the label of the world without bias: not another draw."""
    base = {"merit_gap": 0.4, "sensitive": CROWD, "missing": 0.1}
    without, truth_without = rows_of(BiasedWorld(**base), 20_000)
    world = BiasedWorld(**base, **{dial: DIALS[dial]})
    biased, truth = rows_of(world, 20_000)
    assert (truth["fair_label"].to_numpy() == favorable(without)).all()
    assert np.allclose(truth["fair_probability"], truth_without["probability"], atol=1e-12)
    same = [name for name in biased.columns if not name.startswith("proxy") and name != "label"]
    assert biased.select(same).equals(without.select(same))
    assert (favorable(biased) != favorable(without)).mean() > 0.02


def test_changes_are_those_of_people_moved_to_another_group() -> None:
    """By force: the same people again in worlds whose groups are swapped, for two groups that have it all or not."""
    there = BiasedWorld(direct=1.0, proxy=0.7, label=0.3, advantage={"group": [1.0, -1.0]})
    back = replace(there, advantage={"group": [-1.0, 1.0]})
    frame, truth = rows_of(there, 30_000)
    swapped, truth_back = rows_of(back, 30_000)
    changed = favorable(frame) != favorable(swapped)
    assert (truth["changes"].to_numpy() == changed).all()
    assert (truth["fair_label"] == truth_back["fair_label"]).all()
    assert changed.mean() > 0.1


def test_the_fair_probability_depends_on_nothing_but_the_person() -> None:
    world = BiasedWorld(direct=1.0, proxy=1.0, label=0.5)
    _, truth = rows_of(world, 60_000)
    told, label = truth["fair_probability"].to_numpy(), truth["fair_label"].to_numpy()
    for low in np.arange(0, 1, 0.2):
        held = (told >= low) & (told < low + 0.2)
        assert abs(label[held].mean() - told[held].mean()) < 4.5 * 0.5 / np.sqrt(held.sum())


# ---- domains -------------------------------------------------------------------------------------


def test_covariate_shift_changes_people_and_not_the_rule() -> None:
    world = BiasedWorld(
        domains={"north": 0.5, "south": 0.3, "east": 0.2}, covariate_shift=1.0, n_merit=1, mixed=False
    )
    frame, _ = rows_of(world, 90_000)
    domain, label = frame["domain"].cast(pl.String).to_numpy(), favorable(frame)
    means = [frame["merit_1"].to_numpy()[domain == name].mean() for name in world.domain_names]
    assert means == pytest.approx(world.positions, abs=0.03)
    assert world.domain_shares @ world.positions == pytest.approx(0, abs=1e-12)
    assert [
        close(domain == name, share) for name, share in zip(world.domain_names, (0.5, 0.3, 0.2), strict=True)
    ]
    probability = world.probability(frame)
    for name in world.domain_names:  # one rule, calibrated in every domain
        own = domain == name
        assert abs(label[own].mean() - probability[own].mean()) < 0.02
    assert (
        max(label[domain == n].mean() for n in world.domain_names)
        - min(label[domain == n].mean() for n in world.domain_names)
        > 0.2
    )


def test_label_shift_changes_shares_and_not_the_people_behind_a_label() -> None:
    world = BiasedWorld(domains=2, label_shift=0.8, rate=0.4, direct=0.5)
    frame, _ = rows_of(world, 90_000)
    domain, label = frame["domain"].cast(pl.String).to_numpy(), favorable(frame)
    overall = float(world.group_shares @ world.rates.label)
    for name, position in zip(world.domain_names, world.positions, strict=True):
        assert close(domain == name, 0.5)
        assert close(label[domain == name], overall * (1 + 0.8 * position * (1 - overall)))
    merit = frame["merit_1"].to_numpy()
    for value in (True, False):
        one, other = (merit[(label == value) & (domain == name)] for name in world.domain_names)
        assert abs(one.mean() - other.mean()) < 4.5 * np.sqrt(1 / len(one) + 1 / len(other))
    plain = replace(world, label_shift=0.0)
    assert world.rates.label == pytest.approx(plain.rates.label, abs=1e-12)


# ---- any number of rows --------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 2 * CHUNK + 500),
    batch_rows=st.sampled_from([1_000, CHUNK, 3 * CHUNK]),
    start=st.integers(0, CHUNK + 100),
)
def test_a_row_depends_on_its_number_and_the_seed_alone(n: int, batch_rows: int, start: int) -> None:
    world = BiasedWorld(n_merit=1, n_proxy=1, n_noise=1, missing=0.2, direct=1.0, seed=5)
    batches = list(world.iter_batches(n, batch_rows=batch_rows, start=start))
    assert [batch.num_rows for batch in batches[:-1]] == [batch_rows] * (len(batches) - 1)
    assert sum(batch.num_rows for batch in batches) == n
    whole = pa.Table.from_batches([world.chunk(index)[0] for index in range(4)])
    assert pa.Table.from_batches(batches).equals(whole.slice(start, n))


def test_seeds_differ_and_no_global_state_is_touched() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    one, other = make_biased(500, seed=1)[0], make_biased(500, seed=2)[0]
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]
    assert not one.frame.equals(other.frame)
    assert one.frame.equals(make_biased(500, seed=1)[0].frame)


def test_parquet_is_the_same_rows_and_whole_or_absent(tmp_path: Path) -> None:
    world = BiasedWorld(**EVERYTHING, missing=0.05)
    n = 2 * CHUNK + 7
    steps = []
    world.to_parquet(
        tmp_path / "x.parquet", n, truth=tmp_path / "t.parquet", batch_rows=CHUNK, progress=steps.append
    )
    written = pq.read_table(tmp_path / "x.parquet")
    frame, truth = rows_of(world, n)
    assert [str(name) for name in written.column_names] == frame.columns
    read = pl.read_parquet(tmp_path / "x.parquet")
    for name in frame.columns:
        assert read[name].cast(pl.String).equals(frame[name].cast(pl.String)), name
    assert pl.read_parquet(tmp_path / "t.parquet").equals(truth)
    assert pq.ParquetFile(tmp_path / "x.parquet").num_row_groups == 3
    assert [step.done for step in steps] == [CHUNK, 2 * CHUNK, n]

    def stop(step: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.to_parquet(tmp_path / "y.parquet", n, truth=tmp_path / "z.parquet", progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.parquet", "x.parquet"]


def test_missing_values_are_as_many_as_asked_for_and_say_nothing() -> None:
    world = BiasedWorld(direct=1.0, missing=0.3)
    frame, _ = rows_of(world, 40_000)
    group = group_of(world, frame)
    for column in world.columns:
        gone = frame[column.name].is_null().to_numpy()
        assert close(gone[group == 0], 0.3)
        assert close(gone[group == 1], 0.3)
    assert frame.select("group", "label").null_count().row(0) == (0, 0)
    with pytest.raises(DataError, match=r"'merit_1' misses"):
        world.probability(frame)


# ---- what comes back -----------------------------------------------------------------------------


def test_the_table_has_its_roles_and_every_kind_of_column() -> None:
    table, truth = make_biased(3_000, **EVERYTHING, n_noise=5)
    schema = table.schema
    assert (schema.target, schema.favorable, schema.domain) == ("label", ("yes",), "domain")
    assert schema.sensitive == ("sex", "race")
    assert {column.kind for column in schema} == {
        "continuous",
        "integer",
        "categorical",
        "boolean",
        "datetime",
    }
    assert len(table) == len(truth.rows) == 3_000
    assert set(table.groups().names) == set(truth.world.groups)
    assert np.allclose(truth.world.probability(table), truth.rows["probability"], atol=1e-12)
    assert truth.rates.groups == truth.world.groups


def test_joint_shares_and_advantages_are_those_given() -> None:
    joint = [[0.5, 0.1, 0.0], [0.1, 0.1, 0.2]]
    world = BiasedWorld(
        sensitive=CROWD, joint=joint, advantage={"sex": [1, -1], "race": [0, 0.5, -1]}, direct=1.0
    )
    assert world.groups == ("man × w", "man × x", "man × y", "woman × w", "woman × x", "woman × y")
    assert world.advantages == pytest.approx([0.5, 0.75, 0, -0.5, -0.25, -1])
    frame, _ = rows_of(world, 40_000)
    counts = np.bincount(group_of(world, frame), minlength=6) / 40_000
    assert counts == pytest.approx(np.ravel(joint), abs=0.01)
    assert counts[2] == 0
    order = np.argsort(world.advantages)
    assert (np.diff(world.rates.label[order]) > 0).all()


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"direct": -1}, "direct"),
        ({"label": 1.5}, "label"),
        ({"rate": 0}, "rate"),
        ({"proxy": 1.0, "n_proxy": 0}, "n_proxy"),
        ({"n_merit": 0}, "n_merit"),
        ({"missing": float("nan")}, "missing"),
        ({"covariate_shift": 1.0}, "domains"),
        ({"domains": 2, "covariate_shift": 1.0, "label_shift": 0.5}, "exclude"),
        ({"domains": {"a": 0.5, "b": 0.6}}, "add up to 1"),
        ({"sensitive": {"sex": {"man": 1.0}}}, "sex"),
        ({"sensitive": {"label": {"a": 0.5, "b": 0.5}}}, "another column"),
        ({"sensitive": {}}, "sensitive"),
        ({"advantage": {"sex": [1, -1]}}, "no sensitive column"),
        ({"advantage": {"group": [1, -2]}}, "from -1 to 1"),
        ({"joint": [0.5, 0.2, 0.3]}, "joint"),
        ({"seed": -1}, "seed"),
        ({"separation": True}, "separation"),
    ],
)
def test_what_cannot_be_is_named(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        BiasedWorld(**wrong)


def test_other_wrong_uses_are_named() -> None:
    world = BiasedWorld()
    with pytest.raises(SettingsError, match="n=5"):
        make_biased(5)
    with pytest.raises(SettingsError, match="batch_rows"):
        next(world.iter_batches(10, batch_rows=0))
    with pytest.raises(SettingsError, match="choose one of label"):
        world.rates.gap("shares")
    frame, _ = rows_of(world, 100)
    with pytest.raises(DataError, match="'z'"):
        world.probability(frame.with_columns(group=pl.lit("z")))
