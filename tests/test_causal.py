"""Graphs are read strictly, and the edges to remove are held against an own test of separation."""

from __future__ import annotations

import sys

import networkx as nx
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.causal import CausalGraph, _completed, discover, edges_to_remove
from fairsynth.data.table import Table
from fairsynth.errors import MissingDependencyError, SchemaError, SettingsError

NAMES = ("sex", "club", "skill", "town", "paid")
BIASED = [("sex", "club"), ("sex", "paid"), ("club", "paid"), ("skill", "paid"), ("town", "skill")]


@st.composite
def graphs(draw: st.DrawFn) -> CausalGraph:
    n = draw(st.integers(3, 7))
    names = tuple(f"v{i}" for i in range(n))
    order = draw(st.permutations(names))
    pairs = [(order[i], order[j]) for i in range(n) for j in range(i + 1, n)]
    return CausalGraph(names, tuple(draw(st.lists(st.sampled_from(pairs), unique=True))))


def separated(graph: CausalGraph, first: str, second: str, known: set[str]) -> bool:
    """Lauritzen's criterion: no path in the moral graph of the ancestors once what is known is taken out."""
    own = graph.ancestors([first, second, *known])
    moral = nx.Graph()
    moral.add_nodes_from(own)
    for name in own:
        causes = [cause for cause in graph.parents(name) if cause in own]
        moral.add_edges_from((cause, name) for cause in causes)
        moral.add_edges_from((a, b) for a in causes for b in causes if a < b)
    moral.remove_nodes_from(known)
    return not nx.has_path(moral, first, second)


# ------------------------------------------------------------------------------------------------- graphs
def test_edges_and_networkx_graphs_are_the_same_thing() -> None:
    graph = CausalGraph.of(BIASED, NAMES)
    assert CausalGraph.of(nx.DiGraph(BIASED), NAMES) == graph == CausalGraph.of(graph, NAMES)
    assert CausalGraph.of([list(edge) for edge in BIASED], NAMES) == graph
    assert CausalGraph.from_json(graph.to_json()) == graph
    assert set(graph.to_networkx().edges) == set(BIASED) and set(graph.to_networkx().nodes) == set(NAMES)
    assert graph.parents("paid") == ("sex", "club", "skill") and graph.parents("sex") == ()
    assert "sex, club, skill → paid" in str(graph)


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_causes_come_before_effects(graph: CausalGraph) -> None:
    order = graph.order()
    assert sorted(order) == sorted(graph.names)
    assert all(order.index(cause) < order.index(effect) for cause, effect in graph.edges)
    assert graph.ancestors(["v0"]) - {"v0"} == nx.ancestors(graph.to_networkx(), "v0")


@pytest.mark.parametrize(
    ("graph", "error", "says"),
    [
        ([("sex", "pay")], SchemaError, "no column 'pay'"),
        (nx.DiGraph([("sex", "pay")]), SchemaError, "no column 'pay'"),
        ([("sex", "club"), ("club", "skill"), ("skill", "sex")], SettingsError, "cycle, .*club → skill"),
        ([("sex", "sex")], SettingsError, "sex → sex"),
        (nx.Graph([("sex", "club")]), SettingsError, "directed"),
        (["ab"], SettingsError, "no edge"),
        ([("sex", "club", "town")], SettingsError, "no edge"),
        ([(0, 1)], SettingsError, "no edge"),
        ("sex", SettingsError, "no graph"),
        (7, SettingsError, "no graph"),
    ],
    ids=str,
)
def test_graphs_that_are_none(graph: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        CausalGraph.of(graph, NAMES)


@given(graphs(), st.data())
@settings(max_examples=150, deadline=None)
def test_separation_agrees_with_the_moral_graph(graph: CausalGraph, data: st.DataObject) -> None:
    first, second = data.draw(st.lists(st.sampled_from(graph.names), min_size=2, max_size=2, unique=True))
    known = data.draw(st.sets(st.sampled_from(graph.names))) - {first, second}
    assert graph.separated(first, second, known) == separated(graph, first, second, known)


# --------------------------------------------------------------------------------------- what is to be cut
def test_the_edges_of_each_kind_of_fairness() -> None:
    graph = CausalGraph.of(BIASED, NAMES)
    assert edges_to_remove(graph, "ftu", ["sex"], "paid") == (("sex", "paid"),)
    assert edges_to_remove(graph, "dp", ["sex"], "paid") == (("sex", "paid"), ("club", "paid"))
    assert edges_to_remove(graph, "cf", ["sex"], "paid", ["club"]) == (("sex", "paid"),)
    assert edges_to_remove(graph, "cf", ["sex"], "paid", []) == edges_to_remove(graph, "dp", ["sex"], "paid")
    assert edges_to_remove(graph, "dp", ["town"], "paid") == (("skill", "paid"),), "through a chain"
    confounded = CausalGraph.of([("town", "sex"), ("town", "skill"), ("skill", "paid")], NAMES)
    assert edges_to_remove(confounded, "dp", ["sex"], "paid") == (("skill", "paid"),), (
        "through a common cause"
    )
    collider = CausalGraph.of([("sex", "club"), ("skill", "club"), ("skill", "paid")], NAMES)
    assert edges_to_remove(collider, "dp", ["sex"], "paid") == (), "a common effect connects nothing"
    assert edges_to_remove(collider, "cf", ["sex"], "paid", ["club"]) == (("skill", "paid"),), (
        "unless it is known"
    )


@given(graphs(), st.data())
@settings(max_examples=150, deadline=None)
def test_without_those_edges_the_outcome_is_fair_and_none_is_cut_for_nothing(
    graph: CausalGraph, data: st.DataObject
) -> None:
    outcome, *protected = data.draw(
        st.lists(st.sampled_from(graph.names), min_size=2, max_size=3, unique=True)
    )
    direct = graph.without(edges_to_remove(graph, "ftu", protected, outcome))
    assert not set(direct.parents(outcome)) & set(protected)
    allowed = [n for n in graph.names if n not in protected and outcome not in graph.ancestors([n])]
    allowed = allowed[: data.draw(st.integers(0, len(allowed)))]
    for kind, known in (("dp", set()), ("cf", set(allowed))):
        removed = edges_to_remove(graph, kind, protected, outcome, allowed)  # type: ignore[arg-type]
        left = graph.without(removed)
        # An effect of the outcome may still be a cause of a protected column; that way no edge into it is to blame.
        if not any(outcome in graph.ancestors([name]) for name in protected):
            assert all(separated(left, outcome, name, known) for name in protected)
        for cause, _ in removed:
            assert cause in protected or any(not separated(graph, cause, p, known) for p in protected)


@pytest.mark.parametrize(
    ("allowed", "error", "says"),
    [
        (["sex"], SettingsError, "protected"),
        (["paid"], SettingsError, "outcome"),
        (["car"], SettingsError, "effect of it"),
        (["nothing"], SchemaError, "no column 'nothing'"),
    ],
)
def test_columns_that_cannot_explain_a_difference(
    allowed: list[str], error: type[Exception], says: str
) -> None:
    graph = CausalGraph.of([*BIASED, ("paid", "car")], [*NAMES, "car"])
    with pytest.raises(error, match=says):
        edges_to_remove(graph, "cf", ["sex"], "paid", allowed)


def test_kinds_of_fairness_that_are_none() -> None:
    with pytest.raises(SettingsError, match="not one of"):
        edges_to_remove(CausalGraph.of(BIASED, NAMES), "eo", ["sex"], "paid")  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------- discovery
def world(n: int = 4000) -> Table:
    """Draw club → paid ← skill, with town alone, and sex → club."""
    rng = np.random.default_rng(0)
    sex = rng.random(n) < 0.5
    club = np.where(rng.random(n) < 0.85, sex, ~sex)
    skill = rng.normal(size=n)
    paid = rng.random(n) < 1 / (1 + np.exp(-2 * skill - 2.5 * club + 1.2))
    frame = pl.DataFrame(
        {"sex": sex, "club": np.where(club, "golf", "chess"), "skill": skill,
         "town": rng.choice(["a", "b", "c"], n), "paid": paid}
    )  # fmt: skip
    return Table(frame, target="paid", favorable=True, sensitive="sex")


@pytest.mark.parametrize("method", ["pc", "ges"])
def test_discovery_finds_what_the_data_tell_and_says_what_a_rule_chose(method: str) -> None:
    pytest.importorskip("causallearn")
    found = discover(world(), method)  # type: ignore[arg-type]
    assert {("club", "paid"), ("skill", "paid")} <= set(found.edges) - set(found.open_edges)
    assert ("sex", "club") in found.open_edges, (
        "its direction is not in the rows; the sensitive column comes first"
    )
    assert not any("town" in edge for edge in found.edges)
    assert "chosen by rule: sex → club" in str(found) and "review" in str(found)


def test_discovery_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "causallearn.search.ConstraintBased.PC", None)
    with pytest.raises(MissingDependencyError, match=r"fairsynth\[causal\]"):
        discover(world(200))
    with pytest.raises(SettingsError, match="'pc' nor 'ges'"):
        discover(world(200), "luck")  # type: ignore[arg-type]


@given(st.integers(2, 7), st.data())
@settings(max_examples=100, deadline=None)
def test_open_edges_never_close_a_cycle(n: int, data: st.DataObject) -> None:
    names = [f"v{i}" for i in range(n)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    kinds = data.draw(
        st.lists(st.sampled_from(["", "→", "←", "—"]), min_size=len(pairs), max_size=len(pairs))
    )
    directed = [p if k == "→" else p[::-1] for p, k in zip(pairs, kinds, strict=True) if k in "→←" and k]
    undirected = [p for p, k in zip(pairs, kinds, strict=True) if k == "—"]
    rank = {name: i for i, name in enumerate(data.draw(st.permutations(names)))}
    graph = _completed(names, directed, undirected, rank, "test")
    assert {frozenset(edge) for edge in graph.edges} == {frozenset(edge) for edge in (*directed, *undirected)}
    assert set(graph.edges) - set(graph.open_edges) <= set(directed)
    if not directed:
        assert all(rank[cause] < rank[effect] for cause, effect in graph.edges)


def test_the_complete_graph_is_the_chain_rule() -> None:
    graph = CausalGraph.complete(["b", "a", "c"])
    assert graph.order() == ("b", "a", "c") and graph.parents("c") == ("b", "a")
    assert "no causal claim" in str(graph)
