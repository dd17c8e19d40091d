"""Trees of tables larger than memory: shapes from a sample, laws from all rows.

A tree's shape, the states of a column, the scores of the label and what is moved for each group are questions of which
some hundred thousand rows know the answer as well as fifty million do. How often what comes in a leaf is a matter of
counting, and there more rows tell more: rare states, rare groups. So the shapes are learned from the even sample of a
`StreamedTable`, in the way of `FairTrees`; then all rows are read once more, put into the leaves, and counted. Ours.
"""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from fairsynth.cores import cores, in_order
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.level_states import LevelStates, levels_by_frequency
from fairsynth.data.streams import Batch, StreamedTable
from fairsynth.errors import DataError
from fairsynth.generators.layout import Layout
from fairsynth.generators.tree_label import TreeLabel
from fairsynth.generators.tree_rows import ColumnTree, Lines, learn_lines, recounted
from fairsynth.progress import Progress, Step
from fairsynth.trees.lookup import flat_layers, places

if TYPE_CHECKING:
    from fairsynth.generators.fair_trees import FairTrees, Learned

#: Cells of labels and possible groups that are counted in one array; with more, only those that occur are kept.
MOST_CELLS = 4_000_000


def learn_streamed(
    model: FairTrees, stream: StreamedTable, progress: Progress | None
) -> tuple[Learned, np.ndarray]:
    """Learn trees and label, the label not yet moved.

    Parameters
    ----------
    model : FairTrees
        Whose settings are taken.
    stream : StreamedTable
        Rows.
    progress : callable, optional
        Told of the trees, and of every batch.

    Returns
    -------
    work : Learned
        Table, lines and groups are those of the sample; trees' laws, joint groups and their counts those of all rows.
        A group that the sample lacks is met all the same: its columns come from the leaves that its rows were counted
        into, and its label by the law of all, since it has too few people for an audit.
    joint : np.ndarray
        All rows by label and group ``(labels, groups)``.
    """
    from fairsynth.generators.fair_trees import Learned

    table = stream.sample
    encoder = _with_all_levels(
        TableEncoder.learn(table, max_intervals=model.max_intervals, sensitive_dated=True), stream
    )
    layout = Layout(encoder)
    columns = np.ascontiguousarray(encoder.encode(table).T).astype(np.int64)
    own_levels = layout.group_levels(columns.T)
    levels = np.unique(own_levels, axis=0)
    if len(levels) < 2:
        raise DataError(
            f"all rows of the sample are of one group of {', '.join(table.schema.sensitive)}; take a larger sample, or "
            "choose other edges."
        )
    lines = learn_lines(layout, columns.T)
    of_rows = lines.of_states(columns.T)
    trees, label = model._learn(lines, of_rows, columns, len(levels), None, progress)
    found = _Counted(lines, trees, label)
    found.read(stream, encoder, progress)
    levels, joint = found.groups()
    groups = np.searchsorted(found.codes_of(levels), found.codes_of(own_levels))
    trees = {
        column: recounted(lines, own, column, found.counts[column], backing=model.backing)
        for column, own in trees.items()
    }
    if label.tree is not None:
        good = label.favored
        law = recounted(
            lines, label.tree, layout.target, found.counts[layout.target], backing=model.backing,
            allowed=np.stack([~good, good]) if label.kind == "favorable" else None,
        )  # fmt: skip
        label = replace(label, tree=law)
    work = Learned(table, lines, trees, label, of_rows, columns, groups, levels, joint.sum(0))
    return work, joint


def _with_all_levels(encoder: TableEncoder, stream: StreamedTable) -> TableEncoder:
    """Let levels that share a state, and which they are, follow from their rows in the whole file."""
    parts = [
        levels_by_frequency(part.name, stream.level_counts[part.name], part.missing)
        if isinstance(part, LevelStates) and part.order and part.name in stream.level_counts
        else part
        for part in encoder.states
    ]
    return TableEncoder(encoder.schema, parts)


class _Counted:
    """What was counted so far: states in leaves, and labels in groups."""

    def __init__(self, lines: Lines, trees: dict[int, ColumnTree], label: TreeLabel) -> None:
        layout = lines.layout
        self.lines, self.label, self.layout = lines, label, layout
        every = dict(trees) if label.tree is None else {**trees, layout.target: label.tree}
        sizes = layout.encoder.sizes
        self.plans = {column: (own, flat_layers(own.tree, sizes[column])) for column, own in every.items()}
        self.counts = {
            column: np.zeros((own.tree.n_leaves, sizes[column]), dtype=np.int64)
            for column, own in every.items()
        }
        self.of_state = [own.of_state.astype(np.int32) for own in lines.bins]
        self.strides = np.cumprod([1, *layout.levels[:0:-1]])[::-1].astype(np.int64)
        self.n_groups = int(np.prod([float(size) for size in layout.levels]))
        dense = self.n_groups * layout.n_labels <= MOST_CELLS
        self.cells: np.ndarray | None = (
            np.zeros(self.n_groups * layout.n_labels, dtype=np.int64) if dense else None
        )
        self.sparse: dict[int, int] = {}
        self.lock = Lock()

    def read(self, stream: StreamedTable, encoder: TableEncoder, progress: Progress | None) -> None:
        """Count all rows, on all cores; sums of whole numbers do not depend on who counts first."""
        done = 0
        batches = stream.batches(encoder.names)
        for counted in in_order(lambda batch: self.add(batch, encoder), batches, cores()):
            done += counted
            if progress is not None:
                progress(Step("count", done, len(stream)))
        if done != len(stream):
            raise DataError(
                f"{done:,} rows were read and {len(stream):,} are in the files: they changed while they were read."
            )

    def add(self, batch: Batch, encoder: TableEncoder) -> int:
        """Count the rows of a batch, and return how many they are."""
        states = batch.states(encoder)
        layout, lines = self.layout, self.lines
        levels = layout.group_levels(states.T)
        known: list[np.ndarray] = [own.take(line) for own, line in zip(self.of_state, states, strict=False)]
        known += [levels[:, a].astype(np.int32) for a in lines.banded]
        for column, (own, layers) in self.plans.items():
            asked = [known[k] for k in own.parents]
            if column == layout.target and self.label.kind == "favorable":
                asked = [self.label.favored[states[column]].astype(np.int32), *asked]
            self._count(column, places(layers, own.asked(asked), states[column]))
        self._count_cells((levels @ self.strides) * layout.n_labels + states[layout.target])
        return states.shape[1]

    def _count(self, column: int, place: np.ndarray) -> None:
        total = self.counts[column].reshape(-1)
        own = np.bincount(place, minlength=len(total))
        with self.lock:
            total += own

    def _count_cells(self, cells: np.ndarray) -> None:
        if self.cells is not None:
            own = np.bincount(cells, minlength=len(self.cells))
            with self.lock:
                self.cells += own
            return
        found, counts = np.unique(cells, return_counts=True)
        with self.lock:
            for cell, count in zip(found.tolist(), counts.tolist(), strict=True):
                self.sparse[cell] = self.sparse.get(cell, 0) + count

    def codes_of(self, levels: np.ndarray) -> np.ndarray:
        """Return one number for the group levels ``(n, attributes)``, ascending as they do."""
        return np.asarray(levels @ self.strides)

    def groups(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the levels of the groups that occur ``(groups, attributes)``, and rows of ``(labels, groups)``."""
        n_labels = self.layout.n_labels
        if self.cells is not None:
            table = self.cells.reshape(-1, n_labels)
            codes = np.flatnonzero(table.sum(1))
            joint = table[codes].T
        else:
            cells = np.array(sorted(self.sparse), dtype=np.int64)
            codes, at = np.unique(cells // n_labels, return_inverse=True)
            joint = np.zeros((n_labels, len(codes)), dtype=np.int64)
            joint[cells % n_labels, at.reshape(-1)] = [self.sparse[cell] for cell in cells.tolist()]
        sizes: Any = np.array(self.layout.levels)
        return (codes[:, None] // self.strides) % sizes, np.ascontiguousarray(joint)
