"""Fair trees: every column drawn from a tree over those before it, the label moved until later models decide fairly.

The idea is that of TABFAIRGDT (ICDM 2025), which joins the sequential trees of synthpop (Nowok, Raab and Dibben,
2016) with fair relabelling (Kamiran, Calders and Pechenizkiy, 2010): trees column by column, the target last, its
leaves relabelled where that removes most discrimination for the least accuracy. It is for one attribute of two
groups, a binary target, and parity. Implemented from the description. Ours:

* trees that are looked up layer by layer (`trees.layered`), with leaves smoothed towards the nodes above them, so that
  a leaf is no list of people (`trees.law`);
* the group drawn first, from the shares learned or asked for, and known to all trees; several attributes, any
  number of groups, numeric ones by their stated bands;
* the law of the label as boosted trees of depth two, summed up in tables (`trees.scores`);
* in the place of whole leaves, scores are moved near the threshold, as far as models trained on drawn rows need to
  meet the criterion on real ones (`margin_shift`): parity, equalized odds or equal opportunity. Parity inside the
  synthetic table, which relabelling aims at, does not make them fair.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from fairsynth import checkpoints
from fairsynth.checkpoints import Checkpoint
from fairsynth.cores import cores, in_order, one_blas_thread
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.persons import rows_of_one
from fairsynth.data.table import Table
from fairsynth.errors import DataError
from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.generators import margin_shift, rejection
from fairsynth.generators.base import Capabilities, Generator, fingerprint
from fairsynth.generators.calibration import PROBE_ROWS
from fairsynth.generators.group_law import joint_counts
from fairsynth.generators.layout import Groups, Layout, group_tensors, read_groups, read_names, refuse_besides
from fairsynth.generators.requests import Request
from fairsynth.generators.settings import check_settings
from fairsynth.generators.tree_label import TreeLabel, learn_label, of_groups, read_label
from fairsynth.generators.tree_rows import (
    ColumnTree,
    Lines,
    bin_tensors,
    draw_rows,
    learn_column,
    learn_lines,
    read_lines,
    read_tree,
    tree_tensors,
)
from fairsynth.progress import Progress, Step

if TYPE_CHECKING:
    import pyarrow as pa

    from fairsynth.bundle import Bundle
    from fairsynth.data.streams import StreamedTable

STAGE = "fit trees"
#: Rows drawn to tell how often labels come, at least.
LEAST_DRAWN = 20_000
#: Up to so many rows columns are learned one by one.
FEW_ROWS = 5_000


@dataclass(frozen=True)
class Learned:
    """What there is once all trees are learned, before the label is moved.

    Attributes
    ----------
    table : Table
        Rows that were learned from.
    lines, trees, label
        As of `FairTrees`.
    of_rows : list of np.ndarray
        Lines of the rows, int64 ``(n,)`` each.
    columns : np.ndarray
        States ``(columns, n)``.
    groups : np.ndarray
        Joint group of every row, int64 ``(n,)``.
    levels : np.ndarray
        Group levels of the joint groups, ``(groups, attributes)``.
    counts : np.ndarray
        Rows of each group ``(groups,)``.
    """

    table: Table
    lines: Lines
    trees: dict[int, ColumnTree]
    label: TreeLabel
    of_rows: list[np.ndarray]
    columns: np.ndarray
    groups: np.ndarray
    levels: np.ndarray
    counts: np.ndarray

    def favorable(self, rows: Table) -> np.ndarray:
        """Return which rows have a favorable label, bool ``(n,)``."""
        return np.asarray(self.label.favored[self.label_of(rows)])

    def label_of(self, rows: Table) -> np.ndarray:
        """Return which label every row has, int64 ``(n,)``."""
        part = self.lines.layout.encoder.states[self.lines.layout.target]
        return np.asarray(part.encode(rows.frame[part.name]), dtype=np.int64)


class FairTrees(Generator):
    """Fair synthetic tables from a tree for every column and a label that is moved near its threshold.

    Parameters
    ----------
    fairness : Fairness
        Criterion and strength; at strength 0 nothing is moved, which is the honest baseline.
    calibrate : bool
        Find by trying how far each group is moved; without it only parity of all of more than two labels, or of a
        numeric target, is set, inside the table.
    reach : float
        How far beyond the threshold scores are moved, in units of the shift; 1,000 and more moves all of a group alike.
    min_leaf : int
        Rows in a leaf, at least.
    evidence : float
        By how many standard deviations a cut must explain more than chance.
    backing : float
        Rows that the node above a leaf counts as, for each state that occurs in the leaf.
    max_intervals : int
        Intervals of a number; see `data.encoding`.
    seed : int
        Decides everything.

    Attributes
    ----------
    group_names_ : tuple of str
        Joint groups that were seen.
    rare_groups_ : tuple of str
        Those of fewer than 30 rows.
    shifts_ : np.ndarray
        Log odds by which the threshold of each group is moved at full strength ``(groups,)``.
    label_law_ : np.ndarray
        P(y, s) that is expected of drawn rows ``(labels, groups)``.

    References
    ----------
    Panagiotou, Roy and Ntoutsi, "TABFAIRGDT: A Fast Fair Tabular Data Generator using Autoregressive Decision
    Trees", ICDM 2025.
    """

    fairness: Fairness
    min_leaf: int | None
    evidence: float | None
    #: Whether labels are allotted to rows, and the law of the label of a small table is partly linear.
    even_label: ClassVar[bool] = False
    #: Rounds of what finds how far a label is moved, at most.
    rounds: ClassVar[int] = margin_shift.ROUNDS
    #: Sums that the tree of a column may ask (`trees.directions`): none, as published.
    directions: int = 0
    name: ClassVar[str] = "fair-trees"
    fairness_optional: ClassVar[bool] = False
    streams: ClassVar[bool] = True
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="a tree for every column, the label moved near its threshold; seconds on a laptop",
        paper="TABFAIRGDT, ICDM 2025",
        criteria=CRITERIA,
        targets=("binary", "multiclass", "numeric"),
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        calibrate: bool = True,
        reach: float = 4.0,
        min_leaf: int = 20,
        evidence: float = 2.0,
        backing: float = 0.1,
        max_intervals: int = 256,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.calibrate = calibrate
        self.reach = reach
        self.min_leaf = min_leaf
        self.evidence = evidence
        self.backing = backing
        self.max_intervals = max_intervals
        self.seed = seed

    def _check_settings(self) -> None:
        check_settings(
            self,
            whole=("min_leaf", "max_intervals"),
            from_zero=("evidence", "backing"),
            above_zero=("reach",),
        )

    def _fit(self, table: Table, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        encoder = TableEncoder.learn(table, max_intervals=self.max_intervals, sensitive_dated=True)
        layout = Layout(encoder)
        states = encoder.encode(table)
        kept = Checkpoint(checkpoint, fingerprint(self, table, states)) if checkpoint is not None else None
        levels, groups, counts = np.unique(
            layout.group_levels(states), axis=0, return_inverse=True, return_counts=True
        )
        groups = groups.reshape(-1).astype(np.int64)
        if len(levels) < 2:
            raise DataError(
                f"all rows are of one group of {', '.join(table.schema.sensitive)}, as far as the remembered range of "
                "numbers goes: every measure of fairness would be perfect and mean nothing. Choose other edges."
            )
        columns = np.ascontiguousarray(states.T).astype(np.int64)
        lines = learn_lines(layout, columns.T)
        of_rows = lines.of_states(columns.T)
        labels = columns[layout.target]
        with one_blas_thread():
            rows_each = rows_of_one(table.persons())
            trees, label = self._learn(lines, of_rows, columns, len(levels), kept, progress, rows_each)
            joint = joint_counts(labels, groups, layout.n_labels, len(levels))
            learned = Learned(table, lines, trees, label, of_rows, columns, groups, levels, counts)
            self._settle(learned, joint, progress)

    def _fit_streamed(self, stream: StreamedTable, *, progress: Progress | None) -> None:
        from fairsynth.generators.tree_streaming import learn_streamed

        self._check_settings()
        with one_blas_thread():
            self._settle(*learn_streamed(self, stream, progress), progress)

    def _settle(self, work: Learned, joint: np.ndarray, progress: Progress | None) -> None:
        """Move the label, and keep what was learned; `joint` counts real rows by label and group."""
        lines, layout = work.lines, work.lines.layout
        known, groups = self._drawn_columns(work)
        label = of_groups(work.label, lines, known, groups, joint, self.fairness)
        work = replace(work, label=label)
        if self._calibrated(label):
            label = self._made_fair(work, progress)
        if progress is not None:
            total = self._steps(lines)
            progress(Step(STAGE, total, total))
        law = joint / joint.sum()
        if label.scores is not None and label.tree is None:
            law = _expected(label, lines, known, groups, work.counts)
        self.lines_, self.trees_, self.label_ = lines, work.trees, label
        self.groups_ = Groups(work.levels.astype(np.int64), law)
        names = tuple(
            " × ".join(layout.level_names(a)[level] for a, level in enumerate(row))
            for row in work.levels.tolist()
        )
        self.group_names_ = names
        self.rare_groups_ = tuple(name for name, count in zip(names, work.counts, strict=True) if count < 30)
        self._name()

    def _drawn_columns(self, work: Learned) -> tuple[list[np.ndarray], np.ndarray]:
        """Return lines of rows without labels, as the trees draw them, and the joint group of each.

        What trees draw of a small group is nearer to others than its people are. So how often labels come is told by
        drawn rows.
        """
        rng, shares = np.random.default_rng([self.seed, 23]), work.counts / work.counts.sum()
        n = int(np.clip(len(work.groups), LEAST_DRAWN, PROBE_ROWS))
        # As frequent as they are, and the rarest once.
        often = np.searchsorted(np.cumsum(shares), (np.arange(n) + 0.5) / n)
        groups = np.concatenate([np.arange(len(shares)), np.minimum(often, len(shares) - 1)])
        drawn = draw_rows(
            work.lines,
            work.trees,
            work.levels[groups],
            rng,
            lambda _, part, __: np.zeros(part.stop - part.start, dtype=np.int64),
        )
        return work.lines.of_states(drawn.T), groups

    def _name(self) -> None:
        self.shifts_, self.label_law_ = self.label_.shifts, self.groups_.table

    def _learn(
        self,
        lines: Lines,
        of_rows: list[np.ndarray],
        columns: np.ndarray,
        n_groups: int,
        kept: Checkpoint | None,
        progress: Progress | None,
        rows_each: float = 1.0,
    ) -> tuple[dict[int, ColumnTree], TreeLabel]:
        """Learn all trees, or go on where a checkpoint ends."""
        total = self._steps(lines)
        found = kept.load(STAGE.replace(" ", "_")) if kept is not None else None
        done, tensors = found or (0, {})
        trees = {column: read_tree(tensors, lines, column) for column in lines.grown[:done]}
        saved = time.monotonic()
        settings = {**self._growth(int(columns.shape[1] / rows_each)), "rows_each": rows_each}
        target, at = lines.layout.target, len(lines.grown) + 1
        fairness, reach = self.fairness, self.reach

        def grown(column: int) -> ColumnTree:
            rng = np.random.default_rng([self.seed, column])
            return learn_column(lines, of_rows, column, columns[column], rng=rng, **settings)

        def labelled() -> TreeLabel:
            if done == at:
                return read_label(tensors, lines, n_groups, reach=reach, fairness=fairness, learned_only=True)
            return learn_label(
                lines, of_rows, columns[target], n_groups, fairness, reach=reach, seed=self.seed,
                even=self.even_label, **settings,
            )  # fmt: skip

        # No tree and no label needs another one; the label takes longest, and is begun first. Of few rows threads wait
        # for each other: most of the work is Python's.
        workers = min(2, cores()) if columns.shape[1] > FEW_ROWS else 1
        with ThreadPoolExecutor(1) as beside:
            waiting = beside.submit(labelled) if workers > 1 else None
            missing = lines.grown[done:]
            found_trees = in_order(grown, missing, workers) if workers > 1 else map(grown, missing)
            for column, tree in zip(missing, found_trees, strict=True):
                trees[column] = tree
                if kept is not None and time.monotonic() - saved > checkpoints.SAVE_EVERY:
                    kept.save(STAGE.replace(" ", "_"), len(trees), tree_tensors(trees))
                    saved = time.monotonic()
                if progress is not None:
                    progress(Step(STAGE, len(trees), total, {"leaves": tree.tree.n_leaves}))
            label = labelled() if waiting is None else waiting.result()
        if kept is not None and done < at:
            kept.save(STAGE.replace(" ", "_"), at, {**tree_tensors(trees), **label.to_tensors(target)})
        if progress is not None:
            progress(Step(STAGE, at, total))
        return trees, label

    def _growth(self, n_rows: int) -> dict[str, Any]:
        """Return how trees are grown on so many rows."""
        return {
            "min_leaf": self.min_leaf, "evidence": self.evidence, "backing": self.backing,
            "directions": self.directions,
        }  # fmt: skip

    def _steps(self, lines: Lines) -> int:
        return len(lines.grown) + 1 + (self.rounds if self._may_calibrate() else 0)

    def _may_calibrate(self) -> bool:
        asked = self.calibrate or self.fairness.criterion != "demographic_parity"
        return self.fairness.strength > 0 and asked

    def _calibrated(self, label: TreeLabel) -> bool:
        return self._may_calibrate() and bool(label.favored.any()) and not label.favored.all()

    def _made_fair(self, learned: Learned, progress: Progress | None) -> TreeLabel:
        """Return the label moved as far as the criterion needs, found by drawing from this model."""
        shifts = margin_shift.calibrate(
            lambda shifts, turn: self._tried(learned, learned.label.with_shifts(shifts, 1.0), turn, progress),
            learned.table,
            learned.groups,
            len(learned.levels),
            self.fairness.criterion,
            favorable=learned.favorable,
            seed=self.seed,
        )
        return learned.label.with_shifts(shifts, self.fairness.strength)

    def _tried(
        self, learned: Learned, label: TreeLabel, turn: int, progress: Progress | None, n: int | None = None
    ) -> Table:
        """Draw rows with another label, for one round of a calibration; as many as there are, if `n` says nothing."""
        rng = np.random.default_rng([self.seed, 7, turn])
        n = min(len(learned.table), PROBE_ROWS) if n is None else n
        chosen = rng.choice(len(learned.levels), size=n, p=learned.counts / learned.counts.sum())
        drawn = rows_of_groups(learned.lines, learned.trees, label, learned.levels, chosen, rng)
        if progress is not None:
            done = len(learned.lines.grown) + 2 + turn
            progress(Step(STAGE, done, self._steps(learned.lines)))
        return learned.table.replace(learned.lines.layout.encoder.decode(drawn, rng))

    def _prepare(self, request: Request) -> rejection.Wanted:
        return rejection.prepare(request, self.lines_.layout, self.groups_, "group")

    def _draw(self, n: int, request: rejection.Wanted, seed: np.random.SeedSequence) -> pl.DataFrame:
        layout = self.lines_.layout
        if not request.states:
            return layout.encoder.decode(*self._unconditional(n, request, seed))
        return rejection.draw(n, self._propose, request, layout, self.groups_, "group", seed)

    def _draw_batch(
        self, n: int, request: rejection.Wanted, seed: np.random.SeedSequence
    ) -> pa.RecordBatch | None:
        if request.states:
            return None
        return self.lines_.layout.encoder.decode_batch(*self._unconditional(n, request, seed))

    def _unconditional(
        self, n: int, request: rejection.Wanted, seed: np.random.SeedSequence
    ) -> tuple[np.ndarray, np.random.Generator]:
        """Draw states of rows of which nothing can be turned away; return what their numbers are drawn with, too."""
        rng, numbers = (np.random.default_rng(child) for child in seed.spawn(2))
        shares = request.table.sum(0)
        chosen = rng.choice(len(shares), size=n, p=shares / shares.sum())
        return self._propose(rejection.Cells(n, None, chosen), rng), numbers

    def _propose(self, cells: rejection.Cells, rng: np.random.Generator) -> np.ndarray:
        assert cells.groups is not None
        return rows_of_groups(self.lines_, self.trees_, self.label_, self.groups_.levels, cells.groups, rng)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        layout = self.lines_.layout
        documents = {
            "columns": layout.encoder.to_json(),
            "groups": {"names": list(self.group_names_), "rare": list(self.rare_groups_)},
        }
        tensors = {
            **group_tensors(self.groups_),
            **bin_tensors(self.lines_),
            **tree_tensors(self.trees_),
            **self.label_.to_tensors(layout.target),
        }
        return documents, tensors, list(FROM_DATA)

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        layout = Layout(TableEncoder.from_json(self.schema_, content.document("columns")))
        tensors = dict(content.tensors)
        self.groups_ = read_groups(tensors, layout)
        self.lines_ = read_lines(tensors, layout)
        self.trees_ = {column: read_tree(tensors, self.lines_, column) for column in self.lines_.grown}
        self.label_ = read_label(
            tensors, self.lines_, len(self.groups_.levels), reach=self.reach, fairness=self.fairness
        )
        refuse_besides(tensors)
        self.group_names_, self.rare_groups_ = read_names(content.document("groups"), self.groups_)
        self._name()


FROM_DATA = (
    {
        "what": "columns: values shared by at least 5 rows, quantiles averaged over 5 neighbouring values, "
        "where the numbers between them lie on average, how round they are, which columns follow from others, "
        "which moments are told by the time since another one, which numbers are never below others, "
        "and which value of a column, of those of at least 5 rows, decides which of another",
        "where": "documents/columns.json",
    },
    {"what": "names of the joint groups that were seen, and which have fewer than 30 rows",
     "where": "documents/groups.json"},
    {"what": "which joint groups were seen", "where": "groups.levels"},
    {"what": "share of each label in each group, as drawn", "where": "groups.table"},
    {"what": "which states of a column are treated alike, and which columns tell most of the others",
     "where": "bins.*"},
    {"what": "trees: which column or sum of columns each layer asks, which states go where, the weights of the sums",
     "where": "tree.*"},
    {"what": "law of each leaf: shares of states among at least `min_leaf` rows, smoothed towards the node above",
     "where": "tree.*"},
    {"what": "law of the label: sums of boosted trees, how far each group is moved, by how much all are sharpened "
     "and how steep the threshold is, how often each group has a label, shares of the columns' bins",
     "where": "label.*"},
)  # fmt: skip


def rows_of_groups(
    lines: Lines,
    trees: dict[int, ColumnTree],
    label: TreeLabel,
    levels: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw states ``(columns, n)`` of people of the joint groups ``(n,)``."""
    parents = lines.before(lines.layout.target)

    def labelled(known: list[np.ndarray], part: slice, rng: np.random.Generator) -> np.ndarray:
        return label.draw(known, groups[part], parents, rng)

    return draw_rows(lines, trees, levels[groups], rng, labelled)


def _expected(
    label: TreeLabel, lines: Lines, of_rows: list[np.ndarray], groups: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Return P(y, s) of drawn rows ``(labels, groups)``."""
    shares = label.shares(of_rows, groups, lines.before(lines.layout.target))
    given = np.stack([np.bincount(groups, weights=line, minlength=len(counts)) for line in shares.T])
    given = (given + shares.mean(0)[:, None]) / (np.bincount(groups, minlength=len(counts)) + 1.0)
    return np.asarray(given * (counts / counts.sum()))
