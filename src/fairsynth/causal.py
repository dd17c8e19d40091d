"""Causal graphs over the columns of a table: given, or discovered and then reviewed; and which edges carry unfairness.

A graph says which column is a cause of which. Nothing in rows can prove one: a person who knows the field gives it, or
looks at what a discovery method proposes (`discover`) and gives that. Whether two columns are d-separated is
asked of NetworkX.

The edges to remove for a kind of fairness are those of van Breugel et al. (DECAF, NeurIPS 2021, section 5).
"""

from __future__ import annotations

import heapq
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fairsynth.errors import MissingDependencyError, SchemaError, SettingsError

if TYPE_CHECKING:
    import networkx as nx

    from fairsynth.data.table import Table

Edge = tuple[str, str]
Debias = Literal["ftu", "dp", "cf"]
Method = Literal["pc", "ges"]

#: Levels that discovery tells apart in a column: its tests count joint levels, which thin out fast.
DISCOVERY_LEVELS = 5


@dataclass(frozen=True)
class CausalGraph:
    """A directed graph without cycles whose nodes are columns.

    Attributes
    ----------
    names : tuple of str
        All columns.
    edges : tuple of (str, str)
        Cause and effect, in the order of `names`.
    open_edges : tuple of (str, str)
        Those of `edges` whose direction no data told and a rule chose; see `discover`.
    source : str
        Where it comes from, in words.

    Raises
    ------
    SchemaError
        If an edge names a column that does not exist.
    SettingsError
        If there is a cycle.
    """

    names: tuple[str, ...]
    edges: tuple[Edge, ...]
    open_edges: tuple[Edge, ...] = ()
    source: str = "given"

    def __post_init__(self) -> None:
        """Check the names, put the edges in order, and look for cycles."""
        for edge in (*self.edges, *self.open_edges):
            for name in edge:
                if name not in self.names:
                    raise SchemaError(
                        f"the causal graph has an edge {edge[0]!r} → {edge[1]!r}, and there is no column {name!r}; "
                        f"the columns are {', '.join(self.names)}."
                    )
        place = {name: i for i, name in enumerate(self.names)}
        ordered = sorted(set(self.edges), key=lambda edge: (place[edge[0]], place[edge[1]]))
        object.__setattr__(self, "edges", tuple(ordered))
        self._order()

    @classmethod
    def of(cls, graph: Any, names: Sequence[str]) -> CausalGraph:
        """Read a graph as a person gives it.

        Parameters
        ----------
        graph : CausalGraph, networkx.DiGraph, or iterable of (str, str)
            Cause and effect. Columns that it does not name have no edge.
        names : sequence of str
            The columns there are.

        Raises
        ------
        SchemaError, SettingsError
            If it is no directed graph without cycles over these columns.
        """
        if isinstance(graph, CausalGraph):
            return cls(tuple(names), graph.edges, graph.open_edges, graph.source)
        edges = graph
        if hasattr(graph, "edges"):
            if not (hasattr(graph, "is_directed") and graph.is_directed()):
                raise SettingsError(
                    "graph: a causal graph is directed; give a networkx.DiGraph, not a Graph."
                )
            unknown = [node for node in graph.nodes if node not in names]
            if unknown:
                raise SchemaError(
                    f"graph: there is no column {unknown[0]!r}; the columns are {', '.join(names)}."
                )
            edges = graph.edges
        if isinstance(edges, str) or not isinstance(edges, Iterable):
            raise SettingsError(
                f"graph={graph!r} is no graph: give edges as pairs of column names, [('age', 'income'), ...]."
            )
        pairs = [
            tuple(edge) if isinstance(edge, Iterable) and not isinstance(edge, str) else (edge,)
            for edge in edges
        ]
        for pair in pairs:
            if len(pair) != 2 or not all(isinstance(name, str) for name in pair):
                raise SettingsError(
                    f"graph: {pair!r} is no edge; an edge is a pair of column names, ('age', 'income')."
                )
        return cls(tuple(names), tuple((pair[0], pair[1]) for pair in pairs))

    @classmethod
    def complete(cls, order: Sequence[str]) -> CausalGraph:
        """Return the graph in which every column is a cause of all after it.

        As a statistical model it is always true (it is the chain rule), and it claims nothing of causes.
        """
        edges = tuple((order[i], order[j]) for i in range(len(order)) for j in range(i + 1, len(order)))
        return cls(
            tuple(order), edges, source="every column on all before it: the chain rule, no causal claim"
        )

    def parents(self, name: str) -> tuple[str, ...]:
        """Return the direct causes of a column, in the order of `names`."""
        return tuple(cause for cause, effect in self.edges if effect == name)

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """Return these columns and all their causes, direct and indirect."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.parents(name)
        return found

    def order(self) -> tuple[str, ...]:
        """Return the columns so that causes come before effects; among equals, in the order of `names`."""
        return self._order()

    def without(self, edges: Iterable[Edge]) -> CausalGraph:
        """Return the graph without some edges."""
        gone = set(edges)
        return CausalGraph(
            self.names, tuple(e for e in self.edges if e not in gone),
            tuple(e for e in self.open_edges if e not in gone), self.source,
        )  # fmt: skip

    def separated(self, first: str, second: str, given: Iterable[str] = ()) -> bool:
        """Return whether two columns are d-separated given others: whether the graph says that they are independent.

        A column is separated from any other by a set that holds it; no column is separated from itself otherwise.
        """
        known = set(given)
        if first in known or second in known:
            return True
        if first == second:
            return False
        import networkx as nx

        return bool(nx.is_d_separator(self.to_networkx(), {first}, {second}, known))

    def to_networkx(self) -> nx.DiGraph:
        """Return it as a NetworkX graph."""
        import networkx as nx

        graph = nx.DiGraph(self.edges)
        graph.add_nodes_from(self.names)
        return graph

    def __str__(self) -> str:
        """Write one line for each column that has a cause, and one for each direction that a rule chose."""
        lines = [f"causal graph of {len(self.names)} columns and {len(self.edges)} edges ({self.source})"]
        for name in self.order():
            causes = self.parents(name)
            if causes:
                lines.append(f"  {', '.join(causes)} → {name}")
        for cause, effect in self.open_edges:
            lines.append(f"  direction not told by the data, chosen by rule: {cause} → {effect}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "names": list(self.names),
            "edges": [list(edge) for edge in self.edges],
            "open_edges": [list(edge) for edge in self.open_edges],
            "source": self.source,
        }

    @classmethod
    def from_json(cls, body: Any) -> CausalGraph:
        """Read what `to_json` wrote; an error of any kind says that it is something else."""
        edges, open_edges = (
            tuple((str(cause), str(effect)) for cause, effect in body[key]) for key in ("edges", "open_edges")
        )
        return cls(tuple(map(str, body["names"])), edges, open_edges, str(body["source"]))

    def _order(self) -> tuple[str, ...]:
        place = {name: i for i, name in enumerate(self.names)}
        effects: dict[str, list[str]] = {name: [] for name in self.names}
        waits = dict.fromkeys(self.names, 0)
        for cause, effect in self.edges:
            effects[cause].append(effect)
            waits[effect] += 1
        ready = [place[name] for name in self.names if not waits[name]]
        heapq.heapify(ready)
        done: list[str] = []
        while ready:
            name = self.names[heapq.heappop(ready)]
            done.append(name)
            for effect in effects[name]:
                waits[effect] -= 1
                if not waits[effect]:
                    heapq.heappush(ready, place[effect])
        if len(done) < len(self.names):
            raise SettingsError(
                f"the causal graph has a cycle, {self._cycle(set(self.names) - set(done))}: nothing can be its own "
                "cause. Remove one of these edges."
            )
        return tuple(done)

    def _cycle(self, among: set[str]) -> str:
        """Return one cycle in words; all of `among` have a cause among them."""
        name = min(among)
        seen: list[str] = []
        while name not in seen:
            seen.append(name)
            name = next(cause for cause in self.parents(name) if cause in among)
        return " → ".join([name, *reversed(seen[seen.index(name) :])])


def edges_to_remove(
    graph: CausalGraph, kind: Debias, protected: Sequence[str], outcome: str, allowed: Sequence[str] = ()
) -> tuple[Edge, ...]:
    """Return the edges into the outcome that have to go for a kind of fairness.

    Parameters
    ----------
    graph : CausalGraph
        Of the real rows.
    kind : {"ftu", "dp", "cf"}
        ``"ftu"``, fairness through unawareness: the direct edges from protected columns. ``"dp"``, demographic
        parity: every edge from a column that is not d-separated from all protected ones. ``"cf"``, conditional
        fairness: the same given the allowed columns.
    protected : sequence of str
        Protected columns.
    outcome : str
        The outcome.
    allowed : sequence of str
        Columns R that may explain a difference; for ``"cf"``.

    Returns
    -------
    tuple of (str, str)
        Of `graph.edges`. Without them the outcome is d-separated from the protected columns (``"dp"``), or is
        given the allowed ones (``"cf"``).

    Raises
    ------
    SettingsError
        If `kind` is none of the three, or an allowed column is protected, the outcome, or an effect of the outcome:
        given such a one the outcome depends on its other causes whatever edge is removed.
    """
    if kind not in ("ftu", "dp", "cf"):
        raise SettingsError(f"debias={kind!r} is not one of ftu, dp, cf, or None.")
    causes = graph.parents(outcome)
    if kind == "ftu":
        return tuple((cause, outcome) for cause in causes if cause in protected)
    given: tuple[str, ...] = ()
    if kind == "cf":
        given = tuple(allowed)
        for name in given:
            if name not in graph.names:
                raise SchemaError(
                    f"allowed: there is no column {name!r}; the columns are {', '.join(graph.names)}."
                )
            if name in protected or outcome in graph.ancestors([name]):
                what = "protected" if name in protected else "the outcome or an effect of it"
                raise SettingsError(
                    f"allowed: {name!r} is {what}, and cannot explain a difference in the outcome."
                )
    return tuple(
        (cause, outcome)
        for cause in causes
        if not all(graph.separated(cause, name, given) for name in protected)
    )


def discover(
    table: Table, method: Method = "pc", *, alpha: float = 0.01, max_rows: int = 10_000, seed: int = 0
) -> CausalGraph:
    """Propose a causal graph from rows, for review by a person who knows the field.

    Numbers are cut into five parts of equal size and rare levels put together, so that one kind of test serves every
    column. PC tests conditional independence (chi-square); GES searches for the graph of best score (BDeu). Both
    leave open the direction of edges that no independence tells. Such an edge, and one that would close a cycle,
    runs from the column that comes first in the order: sensitive columns, the others as in the table, the
    target; or the other way if that closes a cycle. That rule is ours, and `CausalGraph.open_edges` lists the edges.

    Parameters
    ----------
    table : Table
        The rows.
    method : {"pc", "ges"}
        Spirtes and Glymour's PC, or Chickering's greedy equivalence search.
    alpha : float
        Level of the tests of PC.
    max_rows : int
        More rows than this are sampled.
    seed : int
        Of the sample.

    Returns
    -------
    CausalGraph
        Print it, and give it to a generator once it is right.

    Raises
    ------
    MissingDependencyError
        If causal-learn is not installed.
    SettingsError
        If the method is none of the two.
    """
    if method not in ("pc", "ges"):
        raise SettingsError(f"discover={method!r} is neither 'pc' nor 'ges'.")
    schema = table.schema
    names = [name for name in schema.names if name not in schema.identifiers]
    rows = np.random.default_rng(seed).permutation(len(table))[:max_rows]
    codes = np.stack([_few_levels(table.frame[name][rows]) for name in names], axis=1)
    directed, undirected = _search(codes, method, alpha)
    tiers = [*schema.sensitive, *(n for n in names if n not in schema.sensitive and n != schema.target)]
    rank = {name: i for i, name in enumerate([*tiers, schema.target])}
    return _completed(
        names, [(names[i], names[j]) for i, j in directed], [(names[i], names[j]) for i, j in undirected], rank,
        f"proposed by {method.upper()} from {len(rows):,} rows; review it",
    )  # fmt: skip


def _completed(
    names: Sequence[str],
    directed: Sequence[Edge],
    undirected: Sequence[Edge],
    rank: dict[str, int],
    source: str,
) -> CausalGraph:
    """Return the graph with every edge directed; see `discover` for the rule."""
    edges: list[Edge] = []
    left = [tuple(sorted(edge, key=rank.__getitem__)) for edge in undirected]
    for edge in directed:
        if _closes_a_cycle(names, edges, edge):
            left.append(tuple(sorted(edge, key=rank.__getitem__)))
        else:
            edges.append(edge)
    opened: list[Edge] = []
    for first, second in sorted(left, key=lambda edge: (rank[edge[0]], rank[edge[1]])):
        edge = (second, first) if _closes_a_cycle(names, edges, (first, second)) else (first, second)
        edges.append(edge)
        opened.append(edge)
    return CausalGraph(tuple(names), tuple(edges), tuple(opened), source)


def _closes_a_cycle(names: Sequence[str], edges: Sequence[Edge], edge: Edge) -> bool:
    return edge[1] in CausalGraph(tuple(names), tuple(edges)).ancestors([edge[0]])


def _few_levels(values: Any) -> np.ndarray:
    """Return a column as at most five levels (and one for missing), int64 ``(n,)``."""
    codes = values.to_physical().cast(float).fill_null(np.nan).to_numpy()
    gone = np.isnan(codes)
    found = np.full(len(codes), DISCOVERY_LEVELS, dtype=np.int64)
    if values.dtype.is_numeric() or values.dtype.is_temporal():
        cuts = np.unique(np.quantile(codes[~gone], np.linspace(0, 1, DISCOVERY_LEVELS + 1)[1:-1]))
        found[~gone] = np.searchsorted(cuts, codes[~gone], side="left")
    else:
        levels, counts = np.unique(codes[~gone], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        place = np.empty(len(levels), dtype=np.int64)
        place[order] = np.minimum(np.arange(len(levels)), DISCOVERY_LEVELS - 1)
        found[~gone] = place[np.searchsorted(levels, codes[~gone])]
    return np.unique(found, return_inverse=True)[1].reshape(-1)


def _search(
    codes: np.ndarray, method: Method, alpha: float
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return directed and undirected edges between columns ``(n, columns)``."""
    try:
        from causallearn.search.ConstraintBased.PC import pc
        from causallearn.search.ScoreBased.GES import ges
    except ImportError as error:
        raise MissingDependencyError(
            'discover needs causal-learn: pip install "fairsynth[causal]"; or give the edges yourself.'
        ) from error
    varies = np.flatnonzero((codes != codes[0]).any(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own use of pandas, not ours to mend
        if method == "pc":
            marks = pc(codes[:, varies], alpha, "chisq", show_progress=False).G.graph
        else:
            marks = ges(codes[:, varies].astype(float), "local_score_BDeu")["G"].graph
    directed, undirected = [], []
    for a in range(len(varies)):
        for b in range(a + 1, len(varies)):
            # causal-learn: marks[j, i] = 1 and marks[i, j] = -1 means i → j.
            pair, ends = (int(varies[a]), int(varies[b])), (marks[a, b], marks[b, a])
            if ends == (-1, 1):
                directed.append(pair)
            elif ends == (1, -1):
                directed.append(pair[::-1])
            elif ends != (0, 0):
                undirected.append(pair)
    return directed, undirected
