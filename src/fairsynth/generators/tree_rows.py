"""Rows from trees: the group first, then column after column, each drawn in the leaf that the others lead to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fairsynth.data.number_states import NumberStates
from fairsynth.generators.layout import Layout
from fairsynth.trees.bins import Bins, learn_bins
from fairsynth.trees.directions import Directions, learn_directions
from fairsynth.trees.law import LeafLaw, shares_of_counts, smoothed_shares
from fairsynth.trees.layered import MAX_LEAVES, Layer, LayeredTree, grow, response_of
from fairsynth.trees.lookup import ColumnLookup

#: Rows on which the shape of a tree is decided; the laws of its leaves rest on all of them.
GROW_ROWS = 200_000
#: Shares that the laws of one column may hold.
MAX_SHARES = 4_000_000
#: Rows from which the order of the columns is found.
ORDER_ROWS = 20_000
#: Rows drawn at a time: few enough to stay in the processor's cache, so many that calls of NumPy count little.
CACHE_ROWS = 32_768
#: How often what a column follows from is drawn again, where it would leave its range.
TRIES = 8


@dataclass(frozen=True)
class ColumnTree:
    """How one column is drawn.

    Attributes
    ----------
    parents : tuple of int
        Lines that the tree may ask, by which its layers count.
    tree : LayeredTree
        From their bins to a leaf.
    law : LeafLaw
        From a leaf to a state.
    directions : Directions or None
        What the tree asks besides; its layers count them after the other lines.
    """

    parents: tuple[int, ...]
    tree: LayeredTree
    law: LeafLaw
    directions: Directions | None = None

    def asked(self, lines: list[np.ndarray]) -> list[np.ndarray]:
        """Return the lines that the layers ask, given those of the parents, after what is asked first, if anything."""
        return lines if self.directions is None else [*lines, *self.directions.lines(lines)]

    @cached_property
    def lookup(self) -> ColumnLookup:
        """The same as tables that many rows are drawn from."""
        return ColumnLookup.of(self.tree, self.law.shares)


class Lines:
    """What trees ask: a line of bins for every column, and one for every numeric sensitive column's group.

    Parameters
    ----------
    layout : Layout
        Of the columns.
    bins : list of Bins
        Of every column.
    telling : list of int, optional
        All features, those that tell most of the others first; by default those of few bins come first.
    """

    def __init__(self, layout: Layout, bins: list[Bins], telling: list[int] | None = None) -> None:
        if [len(own.of_state) for own in bins] != list(layout.encoder.sizes):
            raise ValueError("the bins do not fit the columns")
        self.layout = layout
        self.banded = [a for a, place in enumerate(layout.sensitive) if place in layout.bands]
        groups = [
            Bins(np.arange(layout.levels[a], dtype=np.int64), layout.levels[a], ordered=True)
            for a in self.banded
        ]
        self.bins = [*bins, *groups]
        self.sizes = [own.size for own in self.bins]
        n = len(bins)
        self.band_line = {layout.sensitive[a]: n + i for i, a in enumerate(self.banded)}
        #: Lines that are known once the group is.
        self.given = [j for j in layout.sensitive if j not in layout.bands] + list(self.band_line.values())
        own = [j for j in layout.features if j in layout.bands]
        if telling is None:
            telling = sorted(layout.features, key=lambda j: (bins[j].size, j))
        if sorted(telling) != sorted(layout.features):
            raise ValueError("the order of the columns is not one of these columns")
        self.telling = list(telling)
        #: Columns in the order in which they are drawn.
        self.order = own + _after_sources([j for j in telling if j not in layout.bands], layout)
        #: Those of them that a tree draws; the others follow from them.
        self.grown: list[int] = []
        #: Column → those that follow from it and from others drawn before it: in the order they stand right after it.
        self.followers: dict[int, list[int]] = {}
        for column in self.order:
            if column in layout.encoder.derived:
                self.followers.setdefault(self.grown[-1], []).append(column)
            else:
                self.grown.append(column)

    @cached_property
    def decided(self) -> dict[int, int]:
        """Column → the one drawn before it that decides it."""
        return {column: by for column, by in self._told_by if self.order.index(by) < self.order.index(column)}

    @cached_property
    def decides(self) -> dict[int, list[int]]:
        """Column → those drawn before it that it decides."""
        found: dict[int, list[int]] = {}
        for column, by in self._told_by:
            if column not in self.decided:
                found.setdefault(by, []).append(column)
        return found

    @property
    def _told_by(self) -> list[tuple[int, int]]:
        encoder = self.layout.encoder
        return [(encoder.index(name), encoder.index(own.by)) for name, own in encoder.told_by.items()]

    @cached_property
    def ordered(self) -> dict[int, list[tuple[int, int]]]:
        """Column → pairs of it and one drawn before it, of which the first is never above the second."""
        encoder = self.layout.encoder
        rank = {column: place for place, column in enumerate(self.order)}
        found: dict[int, list[tuple[int, int]]] = {}
        for pair in encoder.ordered:
            low, high = (encoder.index(name) for name in pair)
            later = max(low, high, key=lambda column: rank[column])
            found.setdefault(later, []).append((low, high))
        return found

    @cached_property
    def ends(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Lowest and highest number of each state, by column, of those in `ordered`."""
        states = self.layout.encoder.states
        held = {column for pairs in self.ordered.values() for pair in pairs for column in pair}
        return {column: states[column].ends() for column in held}  # type: ignore[union-attr]

    def before(self, column: int) -> tuple[int, ...]:
        """Return the lines that the tree of a column may ask: all of them for the target."""
        at = self.order.index(column) if column in self.order else len(self.order)
        return (*self.given, *self.order[:at])

    def of_states(self, states: np.ndarray) -> list[np.ndarray]:
        """Return all lines, int64 ``(n,)``, of states ``(n, columns)``."""
        lines = [own.of_state[states[:, j]] for j, own in enumerate(self.bins[: states.shape[1]])]
        levels = self.layout.group_levels(states)
        return [*lines, *(np.ascontiguousarray(levels[:, a]) for a in self.banded)]

    def allowed(self, column: int) -> np.ndarray | None:
        """Return which states a numeric sensitive column may take in each group, bool ``(levels, states)``."""
        if column not in self.layout.bands:
            return None
        bands = self.layout.bands[column]
        return np.asarray(bands[None] == np.arange(self.sizes[self.band_line[column]])[:, None])


def _after_sources(order: list[int], layout: Layout) -> list[int]:
    """Put each column that follows from others right after the last of them."""
    encoder = layout.encoder
    found = [j for j in order if j not in encoder.derived]
    for j in (j for j in order if j in encoder.derived):
        last = max(found.index(encoder.index(name)) for name in encoder.derived[j].of)
        found.insert(last + 1, j)
    return found


def learn_lines(layout: Layout, states: np.ndarray) -> Lines:
    """Put the states of all columns ``(n, columns)`` into bins."""
    labels = np.minimum(states[:, layout.target], 63)  # a numeric target has too many to be told apart here
    levels = layout.group_levels(states)
    groups = np.unique(levels, axis=0, return_inverse=True)[1].reshape(-1)
    cells = labels * (int(groups.max()) + 1) + groups
    parts = layout.encoder.states
    bins = [learn_bins(part, states[:, j], cells) for j, part in enumerate(parts)]
    return Lines(layout, bins, telling_order(layout, bins, states))


def telling_order(layout: Layout, bins: list[Bins], states: np.ndarray) -> list[int]:
    """Return the features in the order of what they tell of all other columns, most first.

    What is drawn first is drawn best: every tree has to tell its column from those before it, and errors add up. So
    columns that the others hang on come early. What two columns tell of each other is the mutual information of
    their bins, less what chance alone gives (Miller, 1955).

    Parameters
    ----------
    layout : Layout
        Of the columns.
    bins : list of Bins
        Of every column.
    states : np.ndarray
        Integers ``(n, columns)``; an even spread of at most `ORDER_ROWS` of them is looked at.

    Returns
    -------
    list of int
    """
    some = states[:: max(1, -(-len(states) // ORDER_ROWS))]
    lines = [own.of_state[some[:, j]] for j, own in enumerate(bins)]
    told = np.zeros(len(bins))
    for a in range(len(bins)):
        for b in range(a):
            found = _mutual_information(lines[a], lines[b], bins[a].size, bins[b].size)
            told[a] += found
            told[b] += found
    return sorted(layout.features, key=lambda j: (-told[j], j))


def _mutual_information(one: np.ndarray, other: np.ndarray, n_one: int, n_other: int) -> float:
    joint = np.bincount(one * n_other + other, minlength=n_one * n_other).reshape(n_one, n_other) / len(one)
    left, right = joint.sum(1), joint.sum(0)
    seen = joint > 0
    share = joint[seen]
    found = float((share * np.log(share / np.outer(left, right)[seen])).sum())
    by_chance = ((left > 0).sum() - 1) * ((right > 0).sum() - 1) / (2 * len(one))
    return max(found - float(by_chance), 0.0)


def learn_column(
    lines: Lines,
    of_rows: list[np.ndarray],
    column: int,
    states: np.ndarray,
    *,
    min_leaf: int,
    evidence: float,
    backing: float,
    rng: np.random.Generator,
    first: tuple[np.ndarray, Bins, np.ndarray] | None = None,
    max_leaves: int = MAX_LEAVES,
    directions: int = 0,
    group_evidence: float | None = None,
    rows_each: float = 1.0,
) -> ColumnTree:
    """Learn how a column is drawn.

    Parameters
    ----------
    lines : Lines
        What may be asked.
    of_rows : list of np.ndarray
        Lines of the rows learned from.
    column : int
        The column.
    states : np.ndarray
        Its state in every row, int64 ``(n,)``.
    min_leaf, evidence, backing
        As of `FairTrees`.
    rng : np.random.Generator
        Chooses rows where there are very many.
    first : tuple, optional
        A line that is asked first, its bins, and the states allowed in each of them; it comes before the other parents.
    max_leaves : int
        Leaves, at most.
    directions : int
        Sums over the other columns that the tree may ask, at most; see `trees.directions`.
    group_evidence : float, optional
        With so much evidence a leaf is parted by group in the end.
    rows_each : float
        Rows of one person, see `trees.layered.grow`.
    """
    parents = lines.before(column)
    given = tuple(range(len(lines.given))) if group_evidence is not None else ()
    asked, bins, allowed = [of_rows[k] for k in parents], [lines.bins[k] for k in parents], None
    at_first = None
    if first is not None:
        asked, bins, allowed, at_first = [first[0], *asked], [first[1], *bins], first[2], 0
        given = tuple(own + 1 for own in given)
    elif column in lines.band_line:
        at_first, allowed = parents.index(lines.band_line[column]), lines.allowed(column)
    own = lines.bins[column]
    n_states = len(own.of_state)
    rows = slice(None) if len(states) <= GROW_ROWS else np.sort(rng.permutation(len(states))[:GROW_ROWS])
    known, classes = [line[rows] for line in asked], own.of_state[states[rows]]
    n_lines, sums = len(asked), None
    if directions:
        response, _ = response_of(np.bincount(classes, minlength=own.size), own.ordered)
        sums = learn_directions(known, bins, response[classes], most=directions)
    if sums is not None:
        known, bins = [*known, *sums.lines(known)], [*bins, *sums.bins]
    tree = grow(
        known, bins, classes, own, min_leaf=min_leaf, evidence=evidence, first=at_first,
        last=given, last_evidence=group_evidence or 0.0, rows_each=rows_each,
        max_leaves=min(max_leaves, int(np.clip(MAX_SHARES // n_states, 16, MAX_LEAVES))),
    )  # fmt: skip
    if sums is not None and all(layer.parent < n_lines for layer in tree.layers):
        sums = None  # it was offered, and never asked
    if sums is not None:
        asked = [*asked, *sums.lines(asked)]
    shares = smoothed_shares(
        tree, asked, states, n_states, weight=backing, allowed=allowed, coarse=own if own.ordered else None
    )
    return ColumnTree(parents, tree, LeafLaw(shares), sums)


def recounted(
    lines: Lines,
    own: ColumnTree,
    column: int,
    counts: np.ndarray,
    *,
    backing: float,
    allowed: np.ndarray | None = None,
) -> ColumnTree:
    """Return the tree of a column with the law that rows counted in its leaves give it.

    Parameters
    ----------
    lines : Lines
        What may be asked.
    own : ColumnTree
        As `learn_column` made it.
    column : int
        The column.
    counts : np.ndarray
        Rows, int64 ``(leaves, states)``.
    backing : float
        As of `FairTrees`.
    allowed : np.ndarray, optional
        States allowed in each bin of a line that is asked first; by default those of the bands of the column.
    """
    if allowed is None and column in lines.band_line:
        allowed = lines.allowed(column)
    bins = lines.bins[column]
    shares = shares_of_counts(
        own.tree, counts, weight=backing, allowed=allowed, coarse=bins if bins.ordered else None
    )
    return ColumnTree(own.parents, own.tree, LeafLaw(shares), own.directions)


def draw_rows(
    lines: Lines,
    trees: Mapping[int, ColumnTree],
    levels: np.ndarray,
    rng: np.random.Generator,
    label: Callable[[list[np.ndarray], slice, np.random.Generator], np.ndarray],
) -> np.ndarray:
    """Draw states of all columns.

    Parameters
    ----------
    lines : Lines
        What trees ask.
    trees : mapping
        Column → how it is drawn.
    levels : np.ndarray
        Group level of every row in each sensitive attribute, int64 ``(n, attributes)``.
    rng : np.random.Generator
        Where chance comes from.
    label : callable
        Lines, rows and chance to states of the target.

    Returns
    -------
    np.ndarray
        int32 ``(columns, n)``.
    """
    layout = lines.layout
    # Half as wide as they come: twice as many rows stay in the processor's cache.
    of_state = [own.of_state.astype(np.int32) for own in lines.bins]
    drawn = np.empty((len(layout.encoder.names), len(levels)), dtype=np.int32)
    for start in range(0, len(levels), CACHE_ROWS):
        part = slice(start, min(start + CACHE_ROWS, len(levels)))
        n = part.stop - part.start
        known: list[np.ndarray] = [np.zeros(0, dtype=np.int32)] * len(lines.bins)
        for a, place in enumerate(layout.sensitive):
            if place in lines.band_line:
                known[lines.band_line[place]] = levels[part, a].astype(np.int32)
            else:
                drawn[place, part] = levels[part, a]
                known[place] = of_state[place].take(levels[part, a])
        for column in lines.grown:
            own = trees[column]
            states = own.lookup.draw(own.asked([known[k] for k in own.parents]), n, rng)
            drawn[column, part] = states
            if column in lines.decided:
                by = drawn[lines.decided[column], part]
                drawn[column, part] = layout.encoder.decided(column, by, states)
            if column in lines.ordered or column in lines.decides:
                _redraw(lines, own, column, drawn[:, part], known, rng)
                for other in lines.decides.get(column, ()):
                    by, before = drawn[column, part], drawn[other, part]
                    drawn[other, part] = layout.encoder.decided(other, by, before)
                    known[other] = of_state[other].take(drawn[other, part])
            known[column] = of_state[column].take(drawn[column, part])
            if column in lines.followers:
                _follow(lines, trees, column, drawn[:, part], known, of_state, rng)
        drawn[layout.target, part] = label(known, part, rng)
    return drawn


def _redraw(
    lines: Lines,
    own: ColumnTree,
    column: int,
    drawn: np.ndarray,
    known: list[np.ndarray],
    rng: np.random.Generator,
) -> None:
    """Draw states of a column again, in `drawn` ``(columns, n)``, that cannot stand beside those drawn before it.

    That is, those that must cross the numbers of another column, or that decide another one otherwise than it is.
    """
    encoder = lines.layout.encoder
    rows = np.arange(drawn.shape[1])
    for trial in range(1 + TRIES):
        if trial:
            lines_of_rows = [known[k].take(rows) for k in own.parents]
            drawn[column, rows] = own.lookup.draw(own.asked(lines_of_rows), len(rows), rng)
        odd = np.zeros(len(rows), dtype=bool)
        for low, high in lines.ordered.get(column, ()):
            lowest, highest = lines.ends[low][0], lines.ends[high][1]
            odd |= lowest.take(drawn[low].take(rows)) > highest.take(drawn[high].take(rows))
        for other in lines.decides.get(column, ()):
            before = drawn[other].take(rows)
            odd |= encoder.decided(other, drawn[column].take(rows), before) != before
        rows = rows[odd]
        if not len(rows):
            return


def _follow(
    lines: Lines,
    trees: Mapping[int, ColumnTree],
    last: int,
    drawn: np.ndarray,
    known: list[np.ndarray],
    of_state: list[np.ndarray],
    rng: np.random.Generator,
) -> None:
    """Fill in the columns whose last source has just been drawn, in `drawn` ``(columns, n)`` and `known`.

    Where one of them would leave its range, that source is drawn again, and all of them follow anew: a total that its
    parts exceed has none of such parts.
    """
    encoder, own = lines.layout.encoder, trees[last]
    rows = np.arange(drawn.shape[1])
    for trial in range(1 + TRIES):
        if trial:
            again = own.lookup.draw(own.asked([known[k].take(rows) for k in own.parents]), len(rows), rng)
            drawn[last, rows], known[last][rows] = again, of_state[last].take(again)
        inside = np.ones(len(rows), dtype=bool)
        for column in lines.followers[last]:
            sources = [encoder.index(name) for name in encoder.derived[column].of]
            states, fits = encoder.derived_states(column, {j: drawn[j].take(rows) for j in sources})
            drawn[column, rows] = states
            inside &= fits
        rows = rows[~inside]
        if not len(rows):
            break
    for column in lines.followers[last]:
        known[column] = of_state[column].take(drawn[column])


def tree_tensors(trees: Mapping[int, ColumnTree]) -> dict[str, np.ndarray]:
    """Return trees as arrays under fixed names."""
    tensors: dict[str, np.ndarray] = {}
    for column, own in trees.items():
        tables = [layer.table.ravel() for layer in own.tree.layers]
        flat = np.concatenate(tables) if tables else np.zeros(0, dtype=np.int64)
        tensors[f"tree.{column}.parents"] = np.array(
            [layer.parent for layer in own.tree.layers], dtype=np.int64
        )
        tensors[f"tree.{column}.tables"] = flat.astype(np.int16)
        tensors[f"tree.{column}.law"] = own.law.shares
        if own.directions is not None:
            found = own.directions
            tensors[f"tree.{column}.sums"] = np.array(found.asked, dtype=np.int64)
            tensors[f"tree.{column}.sum_tables"] = np.concatenate(found.tables, axis=1)
            tensors[f"tree.{column}.sum_sizes"] = np.array([len(edges) for edges in found.edges])
            tensors[f"tree.{column}.sum_edges"] = np.concatenate(found.edges)
    return tensors


def read_tree(
    tensors: dict[str, np.ndarray], lines: Lines, column: int, first: Bins | None = None
) -> ColumnTree:
    """Take what `tree_tensors` wrote of a column out of `tensors`; a ValueError or KeyError says that it is none."""
    asked, flat, shares = (tensors.pop(f"tree.{column}.{part}") for part in ("parents", "tables", "law"))
    if asked.dtype != np.int64 or asked.ndim != 1 or flat.dtype != np.int16 or flat.ndim != 1:
        raise ValueError("the layers of a tree are not of the right kind")
    parents = lines.before(column)
    sizes = [lines.sizes[k] for k in parents]
    if first is not None:
        sizes = [first.size, *sizes]
    directions = _read_directions(tensors, f"tree.{column}", sizes)
    if directions is not None:
        sizes = [*sizes, *(own.size for own in directions.bins)]
    layers, nodes, at = [], 1, 0
    for parent in asked.tolist():
        if not 0 <= parent < len(sizes) or at + nodes * sizes[parent] > len(flat):
            raise ValueError("a layer of a tree asks what there is not")
        stop = at + nodes * sizes[parent]
        table = flat[at:stop].astype(np.int64).reshape(nodes, sizes[parent])
        layers.append(Layer(parent, table))
        nodes, at = int(table.max()) + 1, stop
        if not 0 < nodes <= MAX_LEAVES:
            raise ValueError("a layer of a tree leads nowhere")
    if at != len(flat):
        raise ValueError("a tree has more numbers than layers")
    tree = LayeredTree(tuple(layers), nodes)
    tree.check(sizes)
    law = LeafLaw(shares)
    law.check(nodes, lines.layout.encoder.sizes[column])
    return ColumnTree(parents, tree, law, directions)


def _read_directions(tensors: dict[str, np.ndarray], name: str, sizes: list[int]) -> Directions | None:
    if f"{name}.sums" not in tensors:
        return None
    asked, tables, counts, edges = (
        tensors.pop(f"{name}.{part}") for part in ("sums", "sum_tables", "sum_sizes", "sum_edges")
    )
    if asked.dtype != np.int64 or asked.ndim != 1 or tables.ndim != 2 or edges.ndim != 1:
        raise ValueError("the directions of a tree are not of the right kind")
    if counts.dtype != np.int64 or counts.shape != (len(tables),) or (counts < 0).any():
        raise ValueError("the directions of a tree are not of the right kind")
    if not all(0 <= line < len(sizes) for line in asked.tolist()) or counts.sum() != len(edges):
        raise ValueError("the directions of a tree ask what there is not")
    ends = np.cumsum([sizes[line] for line in asked.tolist()])
    if not len(ends) or ends[-1] != tables.shape[1]:
        raise ValueError("the tables of a tree's directions do not fit its lines")
    found = Directions(
        tuple(asked.tolist()),
        tuple(np.ascontiguousarray(part) for part in np.split(tables, ends[:-1], axis=1)),
        tuple(np.split(edges, np.cumsum(counts)[:-1])),
    )
    found.check(sizes)
    return found


def bin_tensors(lines: Lines) -> dict[str, np.ndarray]:
    """Return the bins of all columns as arrays under fixed names."""
    n_columns = len(lines.layout.encoder.names)
    tensors = {f"bins.{j}": own.of_state for j, own in enumerate(lines.bins[:n_columns])}
    return tensors | {"bins.order": np.array(lines.telling, dtype=np.int64)}


def read_lines(tensors: dict[str, np.ndarray], layout: Layout) -> Lines:
    """Take what `bin_tensors` wrote out of `tensors`; a ValueError or KeyError says that it does not belong here."""
    bins = []
    for j, part in enumerate(layout.encoder.states):
        of_state = tensors.pop(f"bins.{j}")
        if of_state.dtype != np.int64 or of_state.shape != (part.size,):
            raise ValueError("the bins of a column do not fit its states")
        bins.append(Bins(of_state, int(of_state.max()) + 1, ordered=isinstance(part, NumberStates)))
    telling = tensors.pop("bins.order")
    if telling.dtype != np.int64 or telling.ndim != 1:
        raise ValueError("the order of the columns is not of the right kind")
    return Lines(layout, bins, telling.tolist())
