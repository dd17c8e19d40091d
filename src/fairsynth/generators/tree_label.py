"""The label of a row from trees: its law given all other columns, and how that law is moved for each group.

Few labels have scores (`trees.scores`). Of many labels, whether one is favorable has a score, and a tree says
which one it is. A number, or many labels of which none is favorable, has a tree alone; parity of a number is
a monotone map (`label_laws`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from fairsynth.data.level_states import LevelStates
from fairsynth.data.number_states import NumberStates
from fairsynth.errors import CapabilityError
from fairsynth.fairness import Fairness
from fairsynth.generators.evening import Evening, faded, margins_of
from fairsynth.generators.group_law import MAX_SHIFT
from fairsynth.generators.group_rates import scores_of_groups
from fairsynth.generators.label_laws import LabelLaws
from fairsynth.generators.layout import Layout
from fairsynth.generators.margin_shift import moved
from fairsynth.generators.tree_rows import ColumnTree, Lines, learn_column, read_tree, tree_tensors
from fairsynth.trees.allotment import allotted, allotted_of_several, neighbourhoods
from fairsynth.trees.balanced import balanced, variables_of
from fairsynth.trees.bins import Bins
from fairsynth.trees.linear_scores import learn_mixed
from fairsynth.trees.scores import PairScores, learn_scores

#: More labels than this have no scores of their own.
MAX_LABELS = 24
#: Rounds in which the shares of every label are made alike over groups.
PARITY_ROUNDS = 20
PARITY_ROWS = 30_000
#: Learned from so many rows at most, so many rows have their labels drawn in balance over all columns: of more, chance
#: tells too little.
BALANCED_ROWS = 2_000
#: The line that a tree of many labels asks first: is it favorable?
FAVORABLE = Bins(np.arange(2, dtype=np.int64), 2, ordered=False)

Kind = Literal["scores", "favorable", "moved"]


def kind_of(layout: Layout) -> Kind:
    """Return how the label of these columns is drawn."""
    if not isinstance(layout.encoder.states[layout.target], LevelStates):
        return "moved"
    if layout.n_labels <= MAX_LABELS:
        return "scores"
    return "favorable" if layout.favorable.any() else "moved"


def favored(layout: Layout) -> np.ndarray:
    """Return which labels are to be given alike, bool ``(labels,)``; of two of which none is named, the second."""
    if layout.n_labels == 2 and not layout.favorable.any() and kind_of(layout) == "scores":
        return np.array([False, True])
    return layout.favorable


def _empty() -> np.ndarray:
    return np.zeros((0, 0))


@dataclass(frozen=True)
class TreeLabel:
    """The law of the label.

    Attributes
    ----------
    kind : {"scores", "favorable", "moved"}
        See the module.
    favored : np.ndarray
        bool ``(labels,)``.
    scores : PairScores or None
        Of labels, or of whether the label is favorable.
    tree : ColumnTree or None
        From all columns, and whether the label is favorable, to the label.
    reach : float
        Of `moved`.
    strength : float
        Part of the shifts that is used.
    shifts : np.ndarray
        Log odds of the favorable labels by group, at full strength, float64 ``(groups,)``.
    label_shifts : np.ndarray
        Of each label, for parity of all of more than two, float64 ``(groups, labels)``; empty otherwise.
    laws : LabelLaws or None
        Of a number in each group and in all.
    evening : Evening or None
        What is moved in the place of `shifts`, where several kinds of models are audited.
    bin_shares : tuple of np.ndarray
        Share of each bin of the parents, float64. With them columns can be faded, and labels are allotted, so that
        among rows that are alike as many have each as are expected (`trees.allotment`); those of few rows are
        balanced over all columns. Without them each label is drawn by itself.
    ordered : tuple of bool
        Which parents' bins have an order; empty where labels are never balanced.
    group_scores : np.ndarray
        What is added to the scores of each group at any strength (`group_rates`), float64 ``(groups, scores)``; empty
        where labels are not allotted.
    """

    kind: Kind
    favored: np.ndarray
    scores: PairScores | None
    tree: ColumnTree | None
    reach: float
    strength: float
    shifts: np.ndarray
    label_shifts: np.ndarray
    laws: LabelLaws | None
    evening: Evening | None = None
    bin_shares: tuple[np.ndarray, ...] = ()
    ordered: tuple[bool, ...] = ()
    group_scores: np.ndarray = field(default_factory=_empty)

    def __post_init__(self) -> None:
        """Work out the scores in which columns are faded, and which rows are alike, once."""
        variants: list[PairScores] = []
        which = np.zeros(0, dtype=np.int64)
        near = None
        if self.scores is not None and self.bin_shares:
            if self.evening is not None and self.evening.faded.any():
                lines, which = self.evening.variants()
                variants = [faded(self.scores, line, list(self.bin_shares)) for line in lines]
            near = neighbourhoods(self.scores, self.bin_shares)
        object.__setattr__(self, "_variants", (variants, which))
        object.__setattr__(self, "_near", near)

    def with_evening(self, evening: Evening, strength: float) -> TreeLabel:
        """Return the same law moved as an audit says."""
        return replace(self, evening=evening, strength=strength)

    def with_shifts(self, shifts: np.ndarray, strength: float) -> TreeLabel:
        """Return the same law moved otherwise."""
        return replace(self, shifts=shifts, strength=strength)

    def shares(self, known: list[np.ndarray], groups: np.ndarray, parents: tuple[int, ...]) -> np.ndarray:
        """Return the law of the label of every row, or of its being favorable, float64 ``(n, labels)``."""
        scores = self._scores([known[k] for k in parents], groups)
        if scores.shape[1] == 1:
            sign = 1.0 if self.kind == "favorable" or self.favored[1] else -1.0
            second = 1 / (1 + np.exp(-sign * self._moved(sign * scores[:, 0], groups)))
            return np.stack([1 - second, second], axis=1)
        if self.label_shifts.size:
            scores += self.strength * self.label_shifts[groups]
        if self.favored.any() and not self.favored.all():
            margin = margins_of(scores, self.favored)
            scores[:, self.favored] += (self._moved(margin, groups) - margin)[:, None]
        scores -= scores.max(1, keepdims=True)
        np.exp(scores, out=scores)
        return np.asarray(scores / scores.sum(1, keepdims=True))

    def margins(self, known: list[np.ndarray], groups: np.ndarray, parents: tuple[int, ...]) -> np.ndarray:
        """Return the log odds of a favorable label of every row before anything is moved, float64 ``(n,)``."""
        favored = np.array([False, True]) if self.kind == "favorable" else self.favored
        scores = replace(self, evening=None)._scores([known[k] for k in parents], groups)
        if self.label_shifts.size:
            scores += self.label_shifts[groups]
        return margins_of(scores, favored)

    def _moved(self, margins: np.ndarray, groups: np.ndarray) -> np.ndarray:
        if self.evening is not None:
            return self.evening.moved(margins, groups, self.strength)
        return moved(margins, self.strength * self.shifts[groups], self.reach)

    def _scores(self, lines: list[np.ndarray], groups: np.ndarray) -> np.ndarray:
        """Return scores of rows, with what is faded in their group faded, float64 ``(n, scores)``."""
        assert self.scores is not None
        scores = self.scores.scores(lines, len(groups)).astype(np.float64)
        variants, which = self._variants  # type: ignore[attr-defined]
        assert self.evening is None or not variants or len(which) == len(self.evening.linear)
        for at, law in enumerate(variants):
            rows = np.flatnonzero(which[groups] == at)
            if not len(rows) or not self.evening.faded[which == at].any():  # type: ignore[union-attr]
                continue
            less = law.scores([line[rows] for line in lines], len(rows))
            scores[rows] += self.strength * (less - scores[rows])
        if self.group_scores.size:
            scores += self.group_scores[groups]
        return scores

    def draw(
        self,
        known: list[np.ndarray],
        groups: np.ndarray,
        parents: tuple[int, ...],
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return a label state for every row, int64 ``(n,)``, given its lines and its joint group."""
        first: list[np.ndarray] = []
        if self.scores is not None:
            shares = self.shares(known, groups, parents)
            if self.bin_shares:
                label = self._evenly(shares, [known[k] for k in parents], groups, rng)
            else:
                cumulative = np.cumsum(shares, axis=1)
                label = (rng.random(len(groups))[:, None] >= cumulative[:, :-1]).sum(1)
            if self.tree is None:
                return label
            first = [label]
        assert self.tree is not None
        lines = self.tree.asked([*first, *(known[k] for k in self.tree.parents)])
        states = self.tree.law.draw(self.tree.tree.leaves(lines, len(groups)), rng)
        if self.laws is None:
            return states
        return self.laws.mapped(states, groups, self.strength, rng)

    def _evenly(
        self,
        shares: np.ndarray,
        lines: list[np.ndarray],
        groups: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        few = len(shares) <= BALANCED_ROWS and bool(self.ordered)
        places = None if few else self._near.places(lines, groups)  # type: ignore[attr-defined]

        def allot(share: np.ndarray, rows: np.ndarray) -> np.ndarray:
            if places is not None:
                return allotted(share, places[rows], rng)
            own = [line[rows] for line in lines]
            return balanced(share, variables_of(share, groups[rows], own, self.ordered), rng)

        if shares.shape[1] == 2:
            return allot(shares[:, 1], np.arange(len(shares)))
        return allotted_of_several(shares, self.favored, allot)

    def to_tensors(self, target: int) -> dict[str, np.ndarray]:
        """Return everything that was learned, under fixed names."""
        tensors = {
            "label.shifts": self.shifts,
            "label.label_shifts": self.label_shifts,
            "label.laws": _empty() if self.laws is None else self.laws.to_array(),
            "label.group_scores": self.group_scores,
            "label.ordered": np.array(self.ordered, dtype=np.int64),
            "label.bin_shares": np.concatenate([*self.bin_shares, np.zeros(0)]),
        }
        if self.evening is not None:
            tensors |= {
                "label.linear": self.evening.linear,
                "label.crossing": self.evening.crossing,
                "label.faded": self.evening.faded,
                "label.sharpness": np.array([self.evening.sharpness, self.evening.level]),
                "label.beyond": np.array([self.evening.beyond]),
                "label.steepness": np.array([self.evening.steepness, self.evening.bell]),
            }
        if self.scores is not None:
            tables = [table.ravel() for table in self.scores.tables]
            tensors["label.base"] = self.scores.base
            tensors["label.pairs"] = np.array(self.scores.pairs, dtype=np.int64).reshape(-1, 2)
            tensors["label.tables"] = np.concatenate([*tables, np.zeros(0, dtype=np.float32)])
        if self.tree is not None:
            tensors |= tree_tensors({target: self.tree})
        return tensors


def learn_label(
    lines: Lines,
    of_rows: list[np.ndarray],
    states: np.ndarray,
    n_groups: int,
    fairness: Fairness,
    *,
    min_leaf: int,
    evidence: float,
    backing: float,
    reach: float,
    seed: int,
    even: bool = False,
    directions: int = 0,
    group_evidence: float | None = None,
    rows_each: float = 1.0,
) -> TreeLabel:
    """Learn the law of the label; what each group needs is set by `of_groups`, and the shifts of the criterion later.

    Parameters
    ----------
    lines, of_rows : Lines, list of np.ndarray
        What may be asked, and of each row.
    states : np.ndarray
        Label state of every row, int64 ``(n,)``.
    n_groups : int
        Number of joint groups.
    fairness : Fairness
        What is asked for.
    min_leaf, evidence, backing, reach, seed
        As of `FairTrees`.
    even : bool
        Allot labels, and on small tables mix the boosted law with a linear one (`trees.linear_scores`).
    directions, group_evidence, rows_each
        As of `learn_column`.

    Raises
    ------
    CapabilityError
        If labels such as these cannot be made fair as asked.
    """
    layout, n_labels = lines.layout, lines.layout.n_labels
    kind, fav = kind_of(layout), favored(layout)
    numeric = not isinstance(layout.encoder.states[layout.target], LevelStates)
    if fairness.strength > 0 and kind == "moved":
        if fairness.criterion != "demographic_parity":
            raise CapabilityError(f"{fairness.criterion} needs favorable values of a categorical target.")
        if not numeric:
            raise CapabilityError(
                f"target {layout.encoder.names[layout.target]!r} has {n_labels:,} labels and none is favorable; above "
                f"{MAX_LABELS} name favorable=..., or ask for strength 0."
            )
    parents = lines.before(layout.target)
    asked, bins = [of_rows[k] for k in parents], [lines.bins[k] for k in parents]
    scores, tree = None, None
    learn = learn_mixed if even else learn_scores
    if kind == "scores":
        scores = learn(asked, bins, states, n_labels, seed=seed)
    else:
        first = None
        if kind == "favorable":
            good = fav[states].astype(np.int64)
            scores = learn(asked, bins, good, 2, seed=seed)
            first = (good, FAVORABLE, np.stack([~fav, fav]))
        tree = learn_column(
            lines, of_rows, layout.target, states, min_leaf=min_leaf, evidence=evidence, backing=backing,
            rng=np.random.default_rng([seed, 11]), first=first, directions=directions, group_evidence=group_evidence,
            rows_each=rows_each,
        )  # fmt: skip
    label = TreeLabel(
        kind, fav, scores, tree, reach, fairness.strength, np.zeros(n_groups), _empty(), None
    )  # fmt: skip
    if even and scores is not None:
        shares = tuple(
            np.bincount(line, minlength=own.size) / len(line) for line, own in zip(asked, bins, strict=True)
        )
        few = len(states) <= BALANCED_ROWS
        label = replace(label, bin_shares=shares, ordered=tuple(own.ordered for own in bins) if few else ())
    return label


def of_groups(
    label: TreeLabel,
    lines: Lines,
    of_rows: list[np.ndarray],
    groups: np.ndarray,
    joint: np.ndarray,
    fairness: Fairness,
) -> TreeLabel:
    """Set how often each group has a label, and what parity of a number, or of all of more than two labels, needs.

    Parameters
    ----------
    label : TreeLabel
        As learned, of any groups.
    lines : Lines
        As of `learn_label`.
    of_rows, groups
        Lines of drawn rows and the joint group of each, among whom labels are to be as frequent.
    joint : np.ndarray
        Real rows of each label in each group ``(labels, groups)``.
    fairness : Fairness
        What is asked for.
    """
    n_labels, n_groups = joint.shape
    label = replace(label, shifts=np.zeros(n_groups))
    parents = lines.before(lines.layout.target)
    if label.scores is not None and label.bin_shares:
        scores = label.scores.scores([of_rows[k] for k in parents], len(groups))
        cells = np.stack([joint[~label.favored].sum(0), joint[label.favored].sum(0)])
        cells = cells if label.kind == "favorable" else joint
        label = replace(label, group_scores=scores_of_groups(scores, groups, cells))
    if label.kind == "moved" and isinstance(lines.layout.encoder.states[lines.layout.target], NumberStates):
        assert label.tree is not None
        leaves = label.tree.tree.leaves(
            label.tree.asked([of_rows[k] for k in label.tree.parents]), len(groups)
        )
        n_leaves = label.tree.tree.n_leaves
        cells = np.bincount(groups * n_leaves + leaves, minlength=n_groups * n_leaves)
        cells = cells.reshape(n_groups, n_leaves)
        return replace(
            label, laws=LabelLaws.of(cells @ label.tree.law.shares, cells.sum(1), joint, _order(lines.layout))
        )
    parity = fairness.criterion == "demographic_parity" and fairness.strength > 0
    if parity and label.kind == "scores" and n_labels > 2:
        return replace(label, label_shifts=_parity_of_all(label, of_rows, groups, n_groups, parents))
    return label


def read_label(
    tensors: dict[str, np.ndarray],
    lines: Lines,
    n_groups: int,
    *,
    reach: float,
    fairness: Fairness,
    learned_only: bool = False,
) -> TreeLabel:
    """Take what `TreeLabel.to_tensors` wrote out of `tensors`; a ValueError or KeyError says that it is none.

    With `learned_only`, that of a label as `learn_label` returns it, of which nothing is set for groups.
    """
    layout, kind = lines.layout, kind_of(lines.layout)
    n_labels = layout.n_labels
    parents = lines.before(layout.target)
    scores, tree = None, None
    if kind != "moved":
        sizes = [lines.sizes[k] for k in parents]
        n_scores = 1 if kind == "favorable" or n_labels == 2 else n_labels
        scores = _read_scores(tensors, sizes, n_scores)
    if kind != "scores":
        tree = read_tree(tensors, lines, layout.target, FAVORABLE if kind == "favorable" else None)
    shifts, label_shifts, group_scores = (
        tensors.pop(f"label.{name}") for name in ("shifts", "label_shifts", "group_scores")
    )
    laws = LabelLaws.read(tensors.pop("label.laws"), n_groups, _order(layout))
    parity = fairness.criterion == "demographic_parity" and fairness.strength > 0 and not learned_only
    shapes = (
        (n_groups,),
        (n_groups, n_labels) if parity and kind == "scores" and n_labels > 2 else (0, 0),
        (n_groups, len(scores.base)) if scores is not None and group_scores.size else (0, 0),
    )
    found = (shifts, label_shifts, group_scores)
    ok = all(
        a.shape == shape and a.dtype == np.float64 and np.isfinite(a).all()
        for a, shape in zip(found, shapes, strict=True)
    )
    if not ok or (laws is not None and kind != "moved"):
        raise ValueError("the shifts of the label do not fit the groups")
    bin_shares = _read_shares(tensors, sizes_of(lines, parents), may=scores is not None)
    evening = _read_evening(tensors, n_groups, len(parents), reach)
    if evening is not None and evening.faded.any() and not bin_shares:
        raise ValueError("columns are faded, and the shares of their bins are missing")
    return TreeLabel(
        kind,
        favored(layout),
        scores,
        tree,
        reach,
        fairness.strength,
        shifts,
        label_shifts,
        laws,
        evening,
        bin_shares,
        _read_ordered(tensors, [lines.bins[k].ordered for k in parents]),
        group_scores,
    )


def _read_ordered(tensors: dict[str, np.ndarray], ordered: list[bool]) -> tuple[bool, ...]:
    found = tensors.pop("label.ordered")
    if found.dtype != np.int64 or found.tolist() not in ([], [int(one) for one in ordered]):
        raise ValueError("what the label is balanced over does not fit the columns")
    return tuple(bool(one) for one in found)


def sizes_of(lines: Lines, parents: tuple[int, ...]) -> list[int]:
    """Return the number of bins of each parent."""
    return [lines.sizes[k] for k in parents]


def _read_shares(tensors: dict[str, np.ndarray], sizes: list[int], *, may: bool) -> tuple[np.ndarray, ...]:
    flat = tensors.pop("label.bin_shares")
    if flat.dtype != np.float64 or flat.ndim != 1 or len(flat) not in ((0, sum(sizes)) if may else (0,)):
        raise ValueError("the shares of the bins do not fit the columns")
    if not np.isfinite(flat).all() or (flat < 0).any() or (flat > 1).any():
        raise ValueError("the shares of the bins are no shares")
    return tuple(np.split(flat, np.cumsum(sizes)[:-1])) if len(flat) else ()


def _read_evening(
    tensors: dict[str, np.ndarray], n_groups: int, n_parents: int, reach: float
) -> Evening | None:
    if "label.linear" not in tensors:
        return None
    names = ("linear", "crossing", "faded", "sharpness", "beyond", "steepness")
    linear, crossing, less, sharp, beyond, steep = (tensors.pop(f"label.{name}") for name in names)
    for one, what in ((sharp, "sharpness of the label"), (steep, "steepness of the label's threshold")):
        if one.shape != (2,) or one.dtype != np.float64:
            raise ValueError(f"the {what} is not two numbers")
    if beyond.shape != (1,) or beyond.dtype != np.float64:
        raise ValueError("how far the label is moved is not one number")
    numbers = (*sharp, *beyond, *steep)
    evening = Evening(linear, crossing, less, reach, *map(float, numbers))
    evening.check(n_groups, n_parents)
    return evening


def _read_scores(tensors: dict[str, np.ndarray], sizes: list[int], n_scores: int) -> PairScores:
    base, pairs, flat = (tensors.pop(f"label.{name}") for name in ("base", "pairs", "tables"))
    if pairs.dtype != np.int64 or pairs.ndim != 2 or pairs.shape[1] != 2 or flat.ndim != 1:
        raise ValueError("the scores of the label are not of the right kind")
    chosen, tables, at = [], [], 0
    for a, b in pairs.tolist():
        if not (0 <= a < len(sizes) and 0 <= b < len(sizes)):
            raise ValueError("the scores of the label ask what there is not")
        stop = at + sizes[a] * sizes[b] * n_scores
        tables.append(flat[at:stop].reshape(sizes[a], sizes[b], n_scores))
        chosen.append((a, b))
        at = stop
    if at != len(flat):
        raise ValueError("the scores of the label have more numbers than tables")
    scores = PairScores(base, tuple(chosen), tuple(tables))
    scores.check(sizes, n_scores)
    return scores


def _order(layout: Layout) -> np.ndarray:
    states = layout.encoder.states[layout.target]
    if not isinstance(states, NumberStates):
        return np.arange(layout.n_labels)
    return np.argsort(np.nan_to_num(states.places(), nan=2.0), kind="stable")


def _parity_of_all(
    label: TreeLabel, of_rows: list[np.ndarray], groups: np.ndarray, n_groups: int, parents: tuple[int, ...]
) -> np.ndarray:
    """Return what to add to the scores of every label so that its expected share is alike in all groups."""
    some = np.random.default_rng(0).permutation(len(groups))[:PARITY_ROWS]
    known, own = [line[some] for line in of_rows], groups[some]
    counts = np.maximum(np.bincount(own, minlength=n_groups), 1)
    shifts = np.zeros((n_groups, len(label.favored)))
    overall = None
    for _ in range(PARITY_ROUNDS):
        at = replace(label, label_shifts=shifts, strength=1.0)
        shares = at.shares(known, own, parents)
        overall = shares.mean(0) if overall is None else overall
        given = np.stack([np.bincount(own, weights=line, minlength=n_groups) for line in shares.T], axis=1)
        # A person of average labels in each group keeps a tiny one from being sent far.
        given = (given + overall) / (counts + 1)[:, None]
        missing = np.log(np.maximum(overall, 1e-9)) - np.log(np.maximum(given, 1e-9))
        shifts = np.clip(shifts + missing, -MAX_SHIFT, MAX_SHIFT)
        if np.abs(missing[:, overall > 1e-6]).max(initial=0) < 1e-3:
            break
    return shifts
