"""PreFair keeps its two promises: no way around the admissible columns, and no row read but through the ledger."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from toys import mixed_table, small_table

from fairsynth import bundle
from fairsynth.data.level_states import LevelStates
from fairsynth.data.number_states import NumberStates
from fairsynth.data.table import Table
from fairsynth.errors import BundleError, CapabilityError, DataError, SchemaError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators import private_tree
from fairsynth.generators.base import load_generator
from fairsynth.generators.layout import Layout
from fairsynth.generators.prefair import PreFair, allowed_edges
from fairsynth.generators.private_tree import dependence, spanning_forest
from fairsynth.generators.public_states import Coarse, coarse_states, public_states
from fairsynth.privacy_accounting import Ledger, epsilon_of, rho_for

pytestmark = pytest.mark.filterwarnings("ignore:prefair")


def biased(n: int = 6000, seed: int = 0) -> Table:
    """Draw people whose pay depends on skill and on a club that tells their sex."""
    rng = np.random.default_rng(seed)
    sex = rng.random(n) < 0.5
    club = np.where(rng.random(n) < 0.9, sex, ~sex)
    skill = rng.integers(0, 3, n) + (rng.random(n) < 0.3 + 0.2 * sex)
    paid = rng.random(n) < 1 / (1 + np.exp(-1.5 * (skill - 1.5) - 3 * club + 1.5))
    frame = pl.DataFrame(
        {
            "sex": np.where(sex, "man", "woman"),
            "club": np.where(club, "golf", "chess"),
            "skill": [f"s{i}" for i in skill],
            "town": rng.choice(["north", "south"], n),
            "paid": np.where(paid, "yes", "no"),
        }
    )
    return Table(frame, target="paid", favorable="yes", sensitive="sex")


@pytest.fixture(scope="module")
def people() -> Table:
    return biased()


@pytest.fixture(scope="module")
def mixed() -> PreFair:
    return PreFair(epsilon=100.0, secure_noise=False, steps=60).fit(mixed_table(800))


def independence(frame: pl.DataFrame, a: str, b: str, given_: list[str]) -> float:
    """Return the p-value of a G-test of a ⫫ b given the joint levels of other columns."""
    statistic, freedom = 0.0, 0
    parts = frame.partition_by(given_) if given_ else [frame]
    for part in parts:
        counts = part.group_by(a, b).len().pivot(on=b, index=a, values="len").drop(a).fill_null(0).to_numpy()
        counts = counts[counts.sum(1) > 0]
        if min(counts.shape) < 2 or counts.sum() < 30:
            continue
        expected = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
        seen = counts > 0
        statistic += 2 * (counts[seen] * np.log(counts[seen] / expected[seen])).sum()
        freedom += (counts.shape[0] - 1) * (counts.shape[1] - 1)
    return float(chi2.sf(statistic, freedom))


# --------------------------------------------------------------------------------------- forbidden edges
@given(st.integers(3, 9), st.data())
@settings(max_examples=150, deadline=None)
def test_no_order_of_scores_brings_a_forbidden_edge_into_the_tree(n: int, data: st.DataObject) -> None:
    """The known port removes forbidden candidates from the list that it runs over, so every second one stays."""
    forbidden = set(data.draw(st.lists(st.integers(1, n - 1), unique=True)))
    candidates = [(i, j) for i, j in itertools.combinations(range(n), 2) if i != 0 or j not in forbidden]
    scores = data.draw(st.permutations(range(len(candidates))))

    def best(open_: list[int], turn: int) -> int:
        return max(range(len(open_)), key=lambda place: scores[open_[place]])

    tree = nx.Graph(spanning_forest(n, candidates, best))
    tree.add_nodes_from(range(n))
    assert not set(tree[0]) & forbidden
    assert nx.is_forest(tree)
    allowed = nx.Graph(candidates)
    allowed.add_nodes_from(range(n))
    assert nx.number_connected_components(tree) == nx.number_connected_components(allowed), (
        "it spans what it may"
    )


@pytest.mark.parametrize("admissible", [("club",), ("skill",), ("skill", "town"), ("town",), ()])
def test_every_way_from_protected_to_outcome_passes_an_admissible_column(
    admissible: tuple[str, ...], people: Table
) -> None:
    for seed in range(12):  # at this budget the choice of the tree is next to random
        model = PreFair(admissible=admissible, epsilon=0.05, secure_noise=False, seed=seed, steps=2).fit(
            people
        )
        tree = nx.Graph(model.tree_)
        tree.add_nodes_from(people.schema.names)
        assert nx.is_forest(tree) and set(tree["paid"]) <= set(admissible)
        if admissible:
            assert nx.is_tree(tree)
        tree.remove_nodes_from(admissible)
        assert not nx.has_path(tree, "sex", "paid")


def test_without_fairness_the_best_tree_is_free(people: Table) -> None:
    """The ban does something: without it the outcome is joined to what it depends on most."""
    free = PreFair(fairness=Fairness(strength=0.0), admissible=["skill"], epsilon=100.0).fit(people)
    assert {"paid", "club"} in [set(edge) for edge in free.tree_]
    fair = PreFair(admissible=["skill"], epsilon=100.0).fit(people)
    assert {"paid", "club"} not in [set(edge) for edge in fair.tree_]


# --------------------------------------------------------------------------------- the guarantee, on samples
def test_the_outcome_is_independent_of_the_protected_given_the_admissible(people: Table) -> None:
    assert independence(people.frame, "paid", "sex", ["skill"]) < 1e-6, "in the real rows it is not"
    model = PreFair(admissible=["skill", "town"], epsilon=20.0, secure_noise=False).fit(people)
    rows = model.sample_table(120_000, seed=1).frame
    assert independence(rows, "paid", "sex", ["skill", "town"]) > 1e-3
    assert independence(rows, "paid", "club", ["skill", "town"]) > 1e-3, "nor through a proxy"
    assert independence(rows, "paid", "sex", ["skill", "town", "club"]) > 1e-3, "nor given more"
    assert independence(rows, "paid", "sex", []) < 1e-6, "through the admissible it may depend"
    free = PreFair(
        fairness=Fairness(strength=0.0), admissible=["skill", "town"], epsilon=20.0, secure_noise=False
    )
    rows = free.fit(people).sample_table(120_000, seed=1).frame
    assert independence(rows, "paid", "sex", ["skill", "town"]) < 1e-6, "the test would see it"


def test_nothing_admissible_means_independent_of_all(people: Table) -> None:
    rows = (
        PreFair(admissible=(), epsilon=20.0, secure_noise=False)
        .fit(people)
        .sample_table(60_000, seed=0)
        .frame
    )
    for column in ("sex", "club", "skill", "town"):
        assert independence(rows, "paid", column, []) > 1e-3
    assert independence(rows, "club", "sex", []) < 1e-6, "the rest of the table stays"


# ------------------------------------------------------------------------------------------------ privacy
def test_rows_are_read_through_the_ledger_alone(
    people: Table, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With answers that do not depend on the rows, models of different rows of a schema are the same to the byte."""
    rng_of = np.random.default_rng

    def blind_counts(self: Ledger, what: str, counts: np.ndarray, **_: Any) -> tuple[np.ndarray, float]:
        return rng_of(len(what)).integers(0, 900, counts.shape), 50.0

    monkeypatch.setattr(Ledger, "gaussian", blind_counts)
    monkeypatch.setattr(Ledger, "choose", lambda self, what, scores, **_: len(what) % len(scores))
    # The sensitivity of a score holds for laws that are the same for every table.
    laws: list[list[float]] = []

    def noted(counts: np.ndarray, first: np.ndarray, second: np.ndarray, noise: float) -> float:
        laws[-1] += [*first, *second, noise]
        return float(counts[0, 0])

    monkeypatch.setattr(private_tree, "dependence", noted)
    numbers = small_table(300)
    for table in (people, numbers):
        # Other people altogether: of each column a resample of its own, so that no count is the same.
        rng = np.random.default_rng(5)
        other = table.replace(
            pl.DataFrame(
                {c.name: c.gather(rng.integers(0, len(c) // 2, len(c))) for c in table.frame.iter_columns()}
            )
        )
        files = []
        for i, rows in enumerate((table, other)):
            laws.append([])
            path = tmp_path / f"{i}.fairsynth"
            PreFair(steps=5).fit(rows).save(path)
            files.append(path.read_bytes())
        assert files[0] == files[1]
        assert laws[-1] == laws[-2] != []


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_one_row_moves_the_score_by_its_sensitivity_at_most(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = rng.integers(2, 5, 2)
    counts = rng.integers(0, 6, shape)
    first, second = rng.dirichlet(np.ones(shape[0])), rng.dirichlet(np.ones(shape[1]))
    moved = counts.copy()
    gone = rng.choice(np.flatnonzero(counts.ravel())) if counts.any() else None
    if gone is None:
        return
    moved.ravel()[gone] -= 1
    moved.ravel()[rng.integers(moved.size)] += 1
    before, after = (dependence(c, first, second, 3.0) for c in (counts, moved))
    assert abs(before - after) <= 2 + 1e-9
    assert np.linalg.norm(counts - moved) <= 2**0.5 + 1e-9


def test_dependent_pairs_score_higher() -> None:
    half = np.array([0.5, 0.5])
    together, apart = np.array([[500, 0], [0, 500]]), np.array([[250, 250], [250, 250]])
    assert dependence(together, half, half, 5.0) > 900 > 0 > dependence(apart, half, half, 5.0)
    wide = np.full(20, 0.05)
    rng = np.random.default_rng(0)
    noise = [
        dependence(rng.multinomial(1000, np.full(400, 1 / 400)).reshape(20, 20), wide, wide, 0.0)
        for _ in range(20)
    ]
    assert abs(np.mean(noise)) < 30, "many cells alone are no dependence"


@pytest.mark.parametrize(("epsilon", "delta"), [(1.0, 1e-9), (0.3, 1e-6), (8.0, 1e-5)])
def test_the_total_over_all_mechanisms_is_the_budget(epsilon: float, delta: float, people: Table) -> None:
    model = PreFair(epsilon=epsilon, delta=delta, steps=2).fit(people)
    entries = model.privacy_.entries
    # Five columns, a tree of four edges whose last choices may have one candidate left, four pairs.
    kinds = [entry.mechanism for entry in entries]
    assert kinds.count("discrete Gaussian") == 9 and 3 <= kinds.count("exponential") <= 4
    total = 0.0
    for entry in entries:
        if entry.mechanism == "exponential":
            assert entry.sensitivity == 2.0
            total += entry.scale**2 / 8
        else:
            assert entry.sensitivity == 2**0.5
            total += 1 / entry.scale
    assert total == pytest.approx(model.privacy_.spent)
    assert 0.9 * rho_for(epsilon, delta) < total <= rho_for(epsilon, delta) * (1 + 1e-9)
    assert epsilon_of(total, delta) <= epsilon * (1 + 1e-9)


def test_noise_is_new_every_time_and_never_the_seeds_by_default(people: Table) -> None:
    first, second = (PreFair(seed=3, steps=5).fit(people) for _ in range(2))
    assert first.private_ and "differential privacy" in first.guarantee_
    assert not np.array_equal(first.law_.tables[0], second.law_.tables[0])
    same = first.sample(50, seed=1)
    assert same.equals(first.sample(50, seed=1)), "drawing rows is repeatable all the same"


def test_a_seeded_model_says_that_it_is_not_private(people: Table, tmp_path: Path) -> None:
    model = PreFair(secure_noise=False, steps=5).fit(people)
    model.set_params(secure_noise=True)  # what was fitted stays what it was
    assert not model.private_ and "no privacy" in model.guarantee_
    path = tmp_path / "m.fairsynth"
    with pytest.warns(UserWarning, match="NO privacy"):
        model.save(path)
    content = bundle.read(path)
    told: Any = content.document("privacy")
    assert told["private"] is False and "WITHOUT privacy" in str(content.manifest["from_data"])
    again = load_generator(path)
    assert isinstance(again, PreFair) and not again.private_


def test_smaller_budgets_mean_more_noise(people: Table) -> None:
    real = people.frame["skill"].value_counts(normalize=True).sort("skill")["proportion"].to_numpy()
    errors = []
    for epsilon in (0.05, 50.0):
        rows = PreFair(epsilon=epsilon, secure_noise=False).fit(people).sample_table(50_000, seed=0).frame
        made = rows["skill"].value_counts(normalize=True).sort("skill")["proportion"].to_numpy()
        errors.append(np.abs(real - made).sum() if len(made) == len(real) else 1.0)
    assert errors[1] < 0.02 < errors[0]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epsilon", 0),
        ("epsilon", -1.0),
        ("epsilon", 1e-6),
        ("delta", 0),
        ("delta", 1.0),
        ("secure_noise", "yes"),
        ("bins", 0),
        ("max_states", 0),
    ],
)
def test_settings_that_cannot_be_meant(setting: str, value: Any, people: Table) -> None:
    with pytest.raises(SettingsError, match=setting):
        PreFair(**{setting: value}).fit(people)


# -------------------------------------------------------------------------------------------- public states
def test_states_follow_from_the_schema_alone() -> None:
    schema = mixed_table(600).schema
    states = {part.name: part for part in public_states(schema, 64).states}
    skill = states["skill"]
    assert isinstance(skill, NumberStates) and skill.atoms == schema["skill"].bounds
    assert np.diff(skill.edges) == pytest.approx(np.diff(skill.edges)[0])
    hours = {part.name: part for part in public_states(schema, 128).states}["hours"]
    assert isinstance(hours, NumberStates) and hours.atoms == ()
    low, high = schema["hours"].bounds
    assert hours.size == high - low + 1 + 1, "a few whole numbers are each a state, and missing"


def test_a_crowd_of_levels_is_not_ordered_by_frequency() -> None:
    streets = [f"street {i}" for i in range(3000)]
    frame = pl.DataFrame(
        {"street": [*streets, *["street 2999"] * 500], "sex": ["a", "b"] * 1750, "y": [0, 1, 1, 0] * 875}
    )
    table = Table(
        frame, target="y", favorable=1, sensitive="sex", kinds={"street": "categorical", "y": "categorical"}
    )
    states = public_states(table.schema, 16).states[0]
    assert (
        isinstance(states, LevelStates)
        and states.order == tuple(range(3000))
        and len(set(states.weights)) == 1
    )
    rows = PreFair(epsilon=50.0, secure_noise=False, steps=5).fit(table).sample_table(500, seed=0)
    assert rows.frame["street"].n_unique() > 100


def test_states_are_put_together_by_noisy_counts_and_never_across_groups() -> None:
    table = mixed_table(600, sensitive={"age": [40, 60]})
    layout = Layout(public_states(table.schema, 128))
    for name in ("income", "age", "job", "hours"):
        j = layout.encoder.index(name)
        rng = np.random.default_rng(1)
        noisy = rng.integers(-5, 60, layout.encoder.sizes[j])
        coarse = coarse_states(layout, j, noisy, 100.0, 600, 8)
        states = layout.encoder.states[j]
        if states.missing:
            assert (coarse == coarse[-1]).sum() == 1, "missing stays apart"
        if j in layout.bands:
            assert all(len(set(layout.bands[j][coarse == c])) == 1 for c in set(coarse))
        if name == "job":
            assert (noisy[np.bincount(coarse)[coarse] == 1] >= 30).sum() >= (coarse.max())
    target = layout.target
    assert len(set(coarse_states(layout, target, np.array([0, 600]), 1e4, 600, 8))) == 2


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_states_are_drawn_by_their_shares_inside_coarse_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    states = rng.permutation(np.array([0, 0, 0, 1, 2, 2]))
    within = np.zeros(6)
    for c in range(3):
        within[states == c] = rng.dirichlet(np.ones((states == c).sum()))
    wanted = (rng.random(6) < 0.7).astype(float)
    for coarse, share in (
        (Coarse(states, within), within),
        (Coarse(states, within).given(wanted), within * wanted),
    ):
        for c in range(3):
            if share[states == c].sum() == 0:
                continue
            drawn = coarse.draw(np.full(4000, c), np.random.default_rng(0))
            found = np.bincount(drawn, minlength=6) / 4000
            assert found == pytest.approx(
                np.where(states == c, share, 0) / share[states == c].sum(), abs=0.05
            )


# ------------------------------------------------------------------------------ conditions, by exact inference
def test_conditional_rows_are_those_that_filtering_would_leave(mixed: PreFair) -> None:
    every = mixed.sample_table(200_000, seed=1).frame
    where = {"club": "golf", "paid": "no", "town": "east"}
    filtered = every.filter(
        (pl.col("club") == "golf") & (pl.col("paid") == "no") & (pl.col("town") == "east")
    )
    asked = mixed.sample_table(60_000, seed=2, where=where).frame
    for column in ("sex", "race", "job", "member"):
        a = filtered[column].cast(pl.String).value_counts().sort(column)
        b = asked[column].cast(pl.String).value_counts(normalize=True).sort(column)
        both = a.join(b, on=column, how="left").fill_null(0)
        expected = both["proportion"].to_numpy() * both["count"].sum()
        statistic = ((both["count"].to_numpy() - expected) ** 2 / np.maximum(expected, 1e-9))[
            expected > 5
        ].sum()
        assert chi2.sf(statistic, max((expected > 5).sum() - 1, 1)) > 1e-4, column


def test_shares_of_groups_leave_the_label_law_of_each(people: Table) -> None:
    model = PreFair(epsilon=50.0, secure_noise=False).fit(people)
    plain, asked = (
        model.sample_table(80_000, seed=1, sensitive=mix).frame
        for mix in ("empirical", {"man": 0.9, "woman": 0.1})
    )
    assert (asked["sex"] == "man").mean() == pytest.approx(0.9, abs=0.01)
    for group in ("man", "woman"):
        rates = [(f.filter(pl.col("sex") == group)["paid"] == "yes").mean() for f in (plain, asked)]
        assert rates[0] == pytest.approx(rates[1], abs=0.025)


def test_rows_that_the_model_would_have_to_invent_are_refused(mixed: PreFair) -> None:
    nobody = {
        "income": 31.37,
        "skill": 1.5,
        "age": 77,
        "hours": 88,
        "job": "job 7",
        "race": "e",
        "town": None,
    }
    assert mixed.sample(1, where=dict(list(nobody.items())[:3])).height == 1
    with pytest.raises(CapabilityError, match="loosen"):
        mixed.sample(1, where=nobody | {"club": "golf", "member": True, "paid": "yes"})


# ----------------------------------------------------------------------------------------- what is asked for
@pytest.mark.parametrize(
    ("named", "says"), [(["nothing"], "nothing"), (["paid"], "target"), ("sex", "sensitive")]
)
def test_columns_that_cannot_be_admissible(named: Any, says: str, people: Table) -> None:
    with pytest.raises(SchemaError, match=says):
        PreFair(admissible=named).fit(people)


@pytest.mark.filterwarnings("default:prefair")
def test_it_warns_where_it_admits_all_and_where_it_knows_no_criterion(people: Table) -> None:
    with pytest.warns(UserWarning, match="proxies included"):
        model = PreFair(steps=2).fit(people)
    assert model.admissible_ == ("club", "skill", "town")
    with pytest.warns(UserWarning, match="knows no equalized_odds"):
        PreFair(fairness=Fairness("equalized_odds"), admissible=["skill"], steps=2).fit(people)


def test_groups_beyond_the_range_of_the_schema_are_an_error() -> None:
    table = mixed_table(300, sensitive={"age": [40]})
    column = table.schema["age"]
    low = table.schema.revised(
        columns=tuple(
            column.model_copy(update={"maximum": 39}) if c.name == "age" else c for c in table.schema
        )
    )
    with pytest.raises(DataError, match="one group"):
        PreFair().fit(Table._of(table.frame, low))


# ----------------------------------------------------------------------------------------------- hostile files
Change = Callable[[dict, dict, dict], None]


def _hostile() -> dict[str, Change]:
    def tensor(name: str, value: Callable[[np.ndarray], np.ndarray]) -> Change:
        return lambda m, d, t: t.__setitem__(name, value(t[name]))

    def forbidden(m: dict, d: dict, t: dict) -> None:
        d["tree"]["admissible"] = ["town"]

    return {
        "an edge that its own words forbid": forbidden,
        "a tree in a circle": lambda m, d, t: d["tree"].__setitem__("parents", [1, 2, 3, 4, 0]),
        "parents that do not exist": lambda m, d, t: d["tree"]["parents"].__setitem__(0, 99),
        "too few parents": lambda m, d, t: d["tree"]["parents"].pop(),
        "a protected column as admissible": lambda m, d, t: d["tree"].__setitem__("admissible", ["sex"]),
        "more spent than there was": lambda m, d, t: d["privacy"].__setitem__("epsilon", 1e-3),
        "a cost that is not that of its noise": lambda m, d, t: d["privacy"]["entries"][0].__setitem__("rho", 1e-12),
        "no word on privacy": lambda m, d, t: d["privacy"].pop("private"),
        "no ledger": lambda m, d, t: d.pop("privacy"),
        "short tables": tensor("law.tables", lambda a: a[:-1]),
        "negative chances": tensor("law.tables", lambda a: -a),
        "chances that are none": tensor("law.tables", lambda a: a * np.nan),
        "a table of other numbers": tensor("law.tables", lambda a: a.astype(np.int64)),
        "coarse states with gaps": tensor("coarse.states", lambda a: a * 2),
        "coarse states without bound": tensor("coarse.states", lambda a: a + 2**60),
        "shares below zero": tensor("coarse.within", lambda a: a - 1),
        "something that travels along": lambda m, d, t: t.__setitem__("rows", np.zeros(4)),
        "settings out of range": lambda m, d, t: m["settings"].__setitem__("bins", -5),
    }  # fmt: skip


@pytest.fixture(scope="module")
def file(people: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prefair") / "m.fairsynth"
    PreFair(admissible=["skill"], epsilon=5.0, steps=5).fit(people).save(path)
    return path


@pytest.mark.parametrize("name", [*_hostile(), "sound"])
def test_damaged_and_hostile_files_are_refused(name: str, file: Path, tmp_path: Path) -> None:
    content = bundle.read(file)
    manifest, documents = json.loads(json.dumps([content.manifest, content.documents]))
    tensors = {k: v.copy() for k, v in content.tensors.items()}
    if name != "sound":
        _hostile()[name](manifest, documents, tensors)
    path = tmp_path / "changed.fairsynth"
    bundle.write(path, manifest, documents, tensors)
    if name == "sound":
        model = load_generator(path)
        assert isinstance(model, PreFair) and model.private_ and model.sample(5, seed=0).height == 5
        return
    with pytest.raises(BundleError):
        load_generator(path)


def test_allowed_edges_are_named_by_column(people: Table) -> None:
    layout = Layout(public_states(people.schema, 8))
    may = allowed_edges(layout, ["skill"])
    names = layout.encoder.names
    banned = {
        frozenset((names[i], names[j]))
        for i, j in itertools.combinations(range(len(names)), 2)
        if not may(i, j)
    }
    assert banned == {frozenset(("paid", other)) for other in ("sex", "club", "town")}
