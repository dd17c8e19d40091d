"""Audited trees: faithful rows from trees, and a label moved until models of three kinds pass an audit on real people.

The rows are those of `FairTrees`. What is its own, all of it ours:

* the law of the label is moved for each group by two numbers instead of one, since boosted trees and linear models
  answer to different ones (`evening`), found by auditing a boosted model, a forest and a linear one (`audit`);
* labels are sharpened until models of drawn rows are as sure as models of real ones, and parity is that of the rate at
  which models of real rows favor people (`audit`);
* the law of the label is steeper at the threshold, where coins would decide what models learn, on small tables most;
* for criteria on errors, columns that tell one group's labels better than those of others count less there: no pair of
  thresholds gives equal errors otherwise (`evening.plan`). What counts less, and where thresholds lie, is
  planned on people whom the law of the label was not learned from;
* labels are allotted among rows that are alike, so that chance moves neither a group's rate nor that of other people
  who have something in common;
* on small tables the law of the label is a mixture of boosted trees and a logistic regression, by held-back people;
* pairs of columns that tell the label together and nothing alone, and that boosting missed, are learned as tables
  (`trees.pairs`);
* groups too small for an audit are moved by how often their labels are favorable, and so are all where models give next
  to nobody one of the two decisions (`audit.by_labels`);
* every joint group has scores of its own, so that its labels are as frequent in drawn rows as they are (`group_rates`).

The aim is that someone who knows nothing of fairness trains a plain model on the rows and decides as fairly as a
threshold for each group would (Hardt, Price and Srebro, 2016), which needs the group at decision time and real rows.
"""

from __future__ import annotations

import os
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from fairsynth.cores import side_by_side
from fairsynth.errors import SettingsError
from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.generators.audit import ROUNDS, audited
from fairsynth.generators.audit_findings import AuditFindings, findings
from fairsynth.generators.auditors import Auditors
from fairsynth.generators.base import Capabilities, load_generator
from fairsynth.generators.calibration import PROBE_ROWS
from fairsynth.generators.evening import BELL, BEYOND, STEEP, STEEPEST, WIDE_BELL, Evening, Fold, plan
from fairsynth.generators.fair_trees import FairTrees, Learned, rows_of_groups
from fairsynth.generators.group_law import joint_counts
from fairsynth.generators.group_rates import scores_of_groups
from fairsynth.generators.settings import check_seed, check_settings
from fairsynth.generators.tree_label import TreeLabel
from fairsynth.generators.tree_rows import learn_column
from fairsynth.progress import Progress, Step
from fairsynth.trees.directions import MOST
from fairsynth.trees.linear_scores import SMALL_TABLE, learn_mixed

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle

#: People on whom thresholds are planned, and parts they are dealt into.
PLAN_ROWS = 30_000
FOLDS = 3
#: Rows in a leaf and evidence for a cut, on tables of up to `SMALL_TABLE` rows and on others.
SMALL_GROWTH = (20, 4.0)
GROWTH = (15, 3.0)
#: Evidence by which a leaf is parted by group in the end, so that on small tables as well every column keeps how it
#: differs between groups.
GROUP_EVIDENCE = 1.5
#: A student's tree may have as many leaves as its teacher's, and so many in any case.
SMALL_TREE = 128


class AuditedTrees(FairTrees):
    """Fair synthetic tables whose models pass an audit: trees for the columns, a label moved for each group.

    Parameters
    ----------
    fairness : Fairness
        Criterion and strength; at strength 0 nothing is moved, which is the honest baseline.
    reach : float
        How far beyond the threshold scores of a group are moved, in units of the move, and for parity those that are on
        the right side of it already up to 2 of them; 1,000 and more moves all alike.
    min_leaf : int, optional
        Rows in a leaf, at least: 15, and 20 on tables of up to 5,000 rows.
    evidence : float, optional
        By how many standard deviations a cut must explain more than chance: 3, and 4 on tables of up to 5,000 rows,
        where the best of many cuts is more often chance.
    backing : float
        Rows that the node above a leaf counts as, for each state that occurs in the leaf.
    max_intervals : int
        Intervals of a number; see `data.encoding`.
    directions : int
        Sums over the other columns that the tree of a column may ask, at most: 0, 1 or 2; see `trees.directions`.
    seed : int
        Decides everything.

    Attributes
    ----------
    group_names_ : tuple of str
        Joint groups that were seen.
    rare_groups_ : tuple of str
        Those of fewer than 30 rows.
    evening_ : Evening or None
        What is moved at full strength; None where nothing is.
    label_law_ : np.ndarray
        P(y, s) that is expected of drawn rows ``(labels, groups)``.
    audit_ : AuditFindings or None
        What models of drawn rows decided on people it learned from, and what those of real rows did; kept in the file.
        None at strength 0, of students, and where too few labels are of one kind to tell.
    promise_ : dict
        What was found on people held out, if the trees come from `fairsynth.meet`; kept in the file.

    Examples
    --------
    >>> import fairsynth as fs
    >>> train, test = fs.load_dataset("loanapp")
    >>> rows = fs.AuditedTrees(seed=0).fit(train).sample(1_000, seed=0)
    """

    fairness: Fairness
    audit_: AuditFindings | None
    even_label: ClassVar[bool] = True
    rounds: ClassVar[int] = ROUNDS
    name: ClassVar[str] = "audited-trees"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="faithful rows from trees; the label moved until plain models pass an audit; seconds on a laptop",
        paper="ours",
        criteria=CRITERIA,
        targets=("binary", "multiclass", "numeric"),
        teacher=True,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        reach: float = 5.0,
        min_leaf: int | None = None,
        evidence: float | None = None,
        backing: float = 0.5,
        max_intervals: int = 256,
        directions: int = 2,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.reach = reach
        self.min_leaf = min_leaf
        self.evidence = evidence
        self.backing = backing
        self.max_intervals = max_intervals
        self.directions = directions
        self.seed = seed

    def _check_settings(self) -> None:
        check_settings(
            self,
            whole=("max_intervals",) if self.min_leaf is None else ("min_leaf", "max_intervals"),
            from_zero=("backing",) if self.evidence is None else ("evidence", "backing"),
            above_zero=("reach",),
        )
        if type(self.directions) is not int or not 0 <= self.directions <= MOST:
            raise SettingsError(f"directions={self.directions!r} must be 0, 1 or 2.")

    def _growth(self, n_rows: int) -> dict[str, Any]:
        min_leaf, evidence = SMALL_GROWTH if n_rows <= SMALL_TABLE else GROWTH
        return {
            **super()._growth(n_rows),
            "min_leaf": min_leaf if self.min_leaf is None else self.min_leaf,
            "evidence": evidence if self.evidence is None else self.evidence,
            "group_evidence": GROUP_EVIDENCE,
        }

    def weakened(self, strength: float) -> Self:
        """Return the same trees with the label moved by another part of what the audit found.

        Parameters
        ----------
        strength : float
            From 0 to 1. A model fitted at strength 0 knows of nothing to move.

        Returns
        -------
        AuditedTrees
            Shares its trees with this one.
        """
        made = copy(self)
        made.audit_ = self.audit_ if strength == self.fairness.strength else None
        made.fairness = Fairness(self.fairness.criterion, strength)
        made.label_ = replace(self.label_, strength=strength)
        made._name()
        return made

    def distill(
        self,
        teacher: str | os.PathLike[str],
        *,
        seed: int | None = None,
        rows: int = 200_000,
        progress: Progress | None = None,
        checkpoint: Path | str | None = None,
    ) -> Self:
        """Learn a student from a teacher's file, and from nothing else.

        The student's trees are grown on rows drawn from the teacher, so that its shares are of drawn rows, not of
        people; they have no more leaves than the teacher's, or 128. The law of the label, with what was moved in it,
        is the teacher's, as the decoder is in Fair4Free.

        Parameters
        ----------
        teacher : path
            A file that `AuditedTrees.save` or ``fairsynth fit`` wrote.
        seed : int, optional
            Taken as the student's seed.
        rows : int
            Rows that are drawn to learn from.
        progress : callable, optional
            Told of every `Step`.
        checkpoint : path, optional
            Taken for the sake of one contract: this takes seconds, and nothing is kept.

        Returns
        -------
        Self

        Raises
        ------
        BundleError
            If the file is no valid model file.
        SettingsError
            If it holds another kind of model, or `rows` is no positive number.
        """
        self._check_settings()
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise SettingsError(f"rows={rows!r} must be a whole number from 1.")
        model = load_generator(teacher)
        if not isinstance(model, AuditedTrees):
            raise SettingsError(
                f"{os.fspath(teacher)} holds a {model.name}; AuditedTrees.distill takes a file of audited trees "
                "(`fairsynth distill` finds the student for every kind of teacher)."
            )
        if seed is not None:
            self.seed = seed
        check_seed(self.seed)
        lines = model.lines_
        drawn = _drawn(model, rows, np.random.default_rng([self.seed, 41]))
        of_rows = lines.of_states(drawn.T)
        trees = {}
        for at, column in enumerate(lines.grown):
            trees[column] = learn_column(
                lines, of_rows, column, drawn[column], rng=np.random.default_rng([self.seed, column]),
                max_leaves=max(SMALL_TREE, model.trees_[column].tree.n_leaves), **self._growth(rows),
            )  # fmt: skip
            if progress is not None:
                progress(Step("distil without data", at + 1, len(lines.grown)))
        self.lines_, self.trees_, self.label_, self.groups_ = lines, trees, model.label_, model.groups_
        self.group_names_, self.rare_groups_ = model.group_names_, model.rare_groups_
        self.fairness, self.reach, self.audit_ = model.fairness, model.reach, None
        self.schema_, self.n_rows_ = model.schema_, model.n_rows_
        self._name()
        return self

    def _may_calibrate(self) -> bool:
        return self.fairness.strength > 0

    def _name(self) -> None:
        self.evening_, self.label_law_ = self.label_.evening, self.groups_.table

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        documents, tensors, from_data = super()._state()
        for name, held, whom in (
            ("audit", None if self.audit_ is None else self.audit_.to_dict(), "people it learned from"),
            ("promise", getattr(self, "promise_", None), "people held out"),
        ):
            if held is not None:
                documents = {**documents, name: held}
                told = f"what models decided on {whom}: means over models, and how many people"
                from_data = [*from_data, {"what": told, "where": f"documents/{name}.json"}]
        return documents, tensors, from_data

    def _restore(self, content: Bundle) -> None:
        super()._restore(content)
        found = content.document("audit") if "audit" in content.documents else None
        self.audit_ = None if found is None else AuditFindings.from_dict(found)
        if "promise" in content.documents:
            self.promise_ = _checked(content.document("promise"))

    def _settle(self, work: Learned, joint: np.ndarray, progress: Progress | None) -> None:
        self.audit_ = None
        super()._settle(work, joint, progress)

    def _made_fair(self, learned: Learned, progress: Progress | None) -> TreeLabel:
        """Return the label moved as the audit says; at other strengths than 1 a part of that."""
        lines, label = learned.lines, learned.label
        some = np.random.default_rng([self.seed, 19]).permutation(len(learned.groups))[:PROBE_ROWS]
        known = [line[some] for line in learned.of_rows]
        auditors = Auditors.of(learned.table, learned.groups, learned.label_of, label.favored, self.seed)
        audit = audited(
            lambda evening, turn, n: self._tried(
                learned, label.with_evening(evening, 1.0), turn, progress if turn < ROUNDS else None, n
            ),
            self._start(learned),
            label.margins(known, learned.groups[some], lines.before(lines.layout.target)),
            learned.groups[some],
            auditors,
            self.fairness.criterion,
            n_rows=min(len(learned.table), PROBE_ROWS),
        )
        criterion, strength = self.fairness.criterion, self.fairness.strength
        label = learned.label.with_evening(audit.evening, strength)
        if audit.decided:

            def decided(some: TreeLabel) -> list[np.ndarray]:
                found = auditors.decisions(self._tried(learned, some, ROUNDS, None))
                return [] if found is None else [np.stack(found) > 0]

            plain = decided(label.with_evening(audit.evening, 0.0))
            made = audit.decided if strength == 1 else decided(label)
            self.audit_ = findings(plain, made, auditors, criterion, strength)
        return label

    def _start(self, learned: Learned) -> Evening:
        start = self._planned(learned)
        # Labels that are balanced over all columns are few enough for the threshold to be a matter of chance.
        if learned.label.ordered:
            return replace(start, steepness=STEEPEST)
        parity = self.fairness.criterion == "demographic_parity"
        return replace(start, steepness=STEEP, bell=BELL if parity else WIDE_BELL)

    def _planned(self, learned: Learned) -> Evening:
        lines, label, criterion = learned.lines, learned.label, self.fairness.criterion
        parents = lines.before(lines.layout.target)
        n_groups = len(learned.levels)
        if criterion == "demographic_parity" or label.scores is None:
            return Evening.none(n_groups, len(parents), self.reach, BEYOND)
        rows = np.random.default_rng([self.seed, 17]).permutation(len(learned.groups))[:PLAN_ROWS]
        known = [learned.of_rows[k][rows] for k in parents]
        labels = learned.columns[lines.layout.target][rows]
        actual, n_labels = label.favored[labels], len(label.favored)
        favored = label.favored
        if label.kind == "favorable":
            labels, n_labels, favored = actual.astype(np.int64), 2, np.array([False, True])
        bins, groups = [lines.bins[k] for k in parents], learned.groups[rows]

        # Drawn people are not quite the real ones: that part of what a group's scores lack moves its threshold with it.
        cells = joint_counts(labels, groups, n_labels, n_groups)
        beyond = label.group_scores - scores_of_groups(label.scores.scores(known, len(rows)), groups, cells)

        def learned_without(part: int) -> Fold:
            other = np.arange(len(rows)) % FOLDS == part
            asked, own = [line[~other] for line in known], groups[~other]
            law = learn_mixed(asked, bins, labels[~other], n_labels, seed=self.seed)
            cells = joint_counts(labels[~other], own, n_labels, n_groups)
            added = scores_of_groups(law.scores(asked, len(own)), own, cells)
            return Fold(law, np.flatnonzero(other), added + beyond)

        return plan(
            side_by_side(learned_without, range(FOLDS), 2),
            known,
            list(label.bin_shares),
            actual,
            favored,
            groups,
            n_groups,
            opportunity_only=criterion == "equal_opportunity",
            reach=self.reach,
        )


def _checked(promise: Any) -> dict[str, Any]:
    """Return a promise that was read, if it can be shown; a report of a foreign file must not fail at it."""
    numbers = (int, float)
    ok = (
        isinstance(promise, dict)
        and isinstance(promise.get("met"), bool)
        and type(promise.get("people")) is int
        and all(isinstance(promise.get(name), numbers) for name in ("confidence", "asked_confidence"))
        and all(
            isinstance(promise.get(name), dict)
            and all(isinstance(one, numbers) for one in promise[name].values())
            for name in ("values", "real")
        )
        and promise["values"].keys() == promise["real"].keys()
    )
    if not ok:
        raise ValueError("the promise is not one that fairsynth.meet made")
    return dict(promise)


def _drawn(model: AuditedTrees, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw states ``(columns, n)`` from a model."""
    shares = model.groups_.table.sum(0)
    groups = rng.choice(len(shares), size=n, p=shares / shares.sum())
    return rows_of_groups(model.lines_, model.trees_, model.label_, model.groups_.levels, groups, rng)
