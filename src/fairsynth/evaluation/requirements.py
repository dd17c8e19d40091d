"""Asking for a bound instead of a dial: "dpr >= 0.95", met at the least cost, and with what confidence on new people.

A part of the people is held out. On the others audited trees are fitted, rows are drawn at several strengths, and the
three models of the evaluation are trained on them and decide on the people held out; so the bound is one on what a
later model does, not on the synthetic table. How surely a bound holds on new people is told by resampling those held
out. The cheapest strength that is sure enough is taken, and the trees are fitted again on everyone. Ours.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fairsynth.cores import cores, side_by_side
from fairsynth.data.streams import StreamedTable
from fairsynth.data.table import JOINT, Table
from fairsynth.errors import FairsynthWarning, SettingsError
from fairsynth.evaluation.downstream import MODELS, Downstream, Task
from fairsynth.fairness import Criterion, Fairness
from fairsynth.generators.audited_trees import AuditedTrees
from fairsynth.metrics.utility import auroc
from fairsynth.progress import Progress, Step

#: Metric → the criterion that moves it.
METRICS: dict[str, Criterion] = {
    "dpr": "demographic_parity",
    "eor": "equalized_odds",
    "tpr_ratio": "equal_opportunity",
}
HELD_OUT = 0.25
#: Halvings between a strength that meets the bounds and one that does not.
HALVINGS = 4
#: Draws of the people held out.
RESAMPLED = 1000
#: Tables drawn at each strength: what one of them does is chance in part.
DRAWS = 2
#: Part of the resamplings in which the bounds have to hold, if nothing else is asked. The cheapest strength that meets
#: a bound meets it narrowly, and would hold on new people about every other time.
CONFIDENCE = 0.8
#: A group of fewer people held out (of either label, for errors) says too little of its rates.
SMALL_GROUP = 30
#: Part of the real models' balanced accuracy above one half that must be left: a constant label is no way to be fair.
LEFT = 0.5

_WRITTEN = re.compile(r"\s*(\w+)\s*(?:\[(.+?)\])?\s*>=\s*([0-9.]+(?:e-?\d+)?)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Requirement:
    """A bound on what later models do.

    Attributes
    ----------
    metric : str
        ``"dpr"`` (lowest over highest rate of favorable decisions), ``"eor"`` (the lower of the ratios of true and of
        false positive rates) or ``"tpr_ratio"``.
    attributes : tuple of str
        Sensitive columns whose joint groups are compared; empty for all of them jointly.
    bound : float
        Above 0, at most 1.
    """

    metric: str
    attributes: tuple[str, ...]
    bound: float

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Read ``"dpr>=0.9"``, or ``"eor[sex]>=0.8"`` for one of several sensitive columns.

        Raises
        ------
        SettingsError
            If it is not of that form.
        """
        found = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
        if found is None or found[1].lower() not in METRICS:
            raise SettingsError(
                f"{text!r} is no requirement; write METRIC>=BOUND or METRIC[COLUMN]>=BOUND, such as 'dpr>=0.95' or "
                f"'eor[sex]>=0.8'. Metrics are {', '.join(METRICS)}."
            )
        bound = float(found[3])
        if not 0 < bound <= 1:
            raise SettingsError(f"{text!r}: a ratio lies above 0 and is at most 1.")
        names = tuple(name.strip() for name in re.split(f"{JOINT.strip()}|,", found[2])) if found[2] else ()
        return cls(found[1].lower(), names, bound)

    def __str__(self) -> str:
        """Return it as it is written."""
        of = f"[{JOINT.join(self.attributes)}]" if self.attributes else ""
        return f"{self.metric}{of}>={self.bound:g}"


@dataclass(frozen=True)
class Promise:
    """What was found on people held out.

    Attributes
    ----------
    requirements : tuple of str
        What was asked for.
    met : bool
        Whether all bounds hold on the people held out.
    confidence : float
        Share of resamplings of them in which all bounds hold.
    asked_confidence : float
        What it was to be at least.
    values : dict
        Requirement → mean over models of its ratio.
    real : dict
        The same for models trained on real rows.
    criterion, strength
        The setting that was taken.
    auroc, balanced_accuracy, accuracy : float
        Means over models trained on drawn rows.
    real_auroc, real_balanced_accuracy, real_accuracy : float
        Of models trained on real rows.
    people : int
        How many were held out.
    left_out : tuple of str
        Groups too small to be judged.
    tried : int
        Settings that were tried.
    useless : int
        Of these, how many leave models whose balanced accuracy is below `least_balanced`: half of what real rows tell.
    least_balanced : float
        Between one half, which is one answer for everybody, and that of models trained on real rows.
    """

    requirements: tuple[str, ...]
    met: bool
    confidence: float
    asked_confidence: float
    values: dict[str, float]
    real: dict[str, float]
    criterion: str
    strength: float
    auroc: float
    balanced_accuracy: float
    accuracy: float
    real_auroc: float
    real_balanced_accuracy: float
    real_accuracy: float
    people: int
    left_out: tuple[str, ...]
    tried: int
    useless: int
    least_balanced: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """Say it in words."""
        told = "; ".join(
            f"{name}: {value:.3f} (real rows {self.real[name]:.3f})" for name, value in self.values.items()
        )
        verdict = "met on" if self.met else "NOT met on"
        sure = "" if self.confidence >= self.asked_confidence or not self.met else (
            f", not in the {self.asked_confidence:.0%} that were asked for"
        )  # fmt: skip
        bounds = all(self.values[text] >= Requirement.parse(text).bound for text in self.requirements)
        useless = ""
        if bounds and not self.met:
            useless = (
                " The bounds hold, but models tell less than half of what those of real rows do: next to one answer "
                "for everybody."
            )
        if self.useless and not self.met:
            useless += (
                f" {self.useless} of the {self.tried} settings that were tried leave models with a balanced accuracy "
                f"below {self.least_balanced:.3f}, half of what real rows tell: next to one answer for everybody."
            )
        small = f" Too small to be judged: {', '.join(self.left_out)}." if self.left_out else ""
        return (
            f"{verdict} {self.people:,} people held out, {told}; it holds in {self.confidence:.0%} of resamplings of "
            f"them{sure}. {self.criterion.replace('_', ' ')} at strength {self.strength:g}: AUROC {self.auroc:.3f} "
            f"(real rows {self.real_auroc:.3f}), balanced accuracy {self.balanced_accuracy:.3f} "
            f"({self.real_balanced_accuracy:.3f}).{useless}{small}"
        )


@dataclass(frozen=True)
class _Tried:
    criterion: Criterion
    strength: float
    values: dict[str, float]
    confidence: float
    auroc: float
    balanced: float
    accuracy: float

    def shortfall(self, asked: Sequence[Requirement]) -> float:
        return max(max(0.0, one.bound - self.values[str(one)]) for one in asked)


def meet(
    table: Table | StreamedTable,
    require: str | Sequence[str],
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    progress: Progress | None = None,
    **settings: Any,
) -> tuple[AuditedTrees, Promise]:
    """Fit audited trees such that models trained on their rows keep to bounds on new people, at the least cost.

    Parameters
    ----------
    table : Table or StreamedTable
        Rows to learn from, with a favorable value of a categorical target. Of a stream, settings are tried on its
        sample, a part of which is held out, and the trees are fitted to all rows at the end.
    require : str or sequence of str
        Bounds as of `Requirement.parse`; all of them have to hold.
    confidence : float
        In what part of the resamplings of the people held out they have to hold, from 0 to 1; 0 asks for the bounds on
        those people themselves and nothing more. Where no setting is that sure, the surest that meets the bounds is
        taken, and the promise says how sure it is.
    seed : int
        Of the people held out, the trees and the models.
    progress : callable, optional
        Told of every `Step`.
    **settings
        Of `AuditedTrees`, other than ``fairness`` and ``seed``.

    Returns
    -------
    AuditedTrees
        Fitted on all rows, with the promise as ``promise_``.
    Promise
        What was found. If no setting meets the bounds, the nearest is taken, ``met`` is False, and a
        `FairsynthWarning` says so.

    Raises
    ------
    SettingsError
        If a requirement cannot be read, or names no sensitive column, or `confidence` is no share.
    DataError
        If the table cannot be learned from, or has no favorable value.
    """
    texts = tuple(require) if isinstance(require, Sequence) and not isinstance(require, str) else (require,)
    if not texts:
        raise SettingsError("require is empty; ask for a bound, such as 'dpr>=0.95'.")
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        raise SettingsError(f"confidence={confidence!r} must be a share from 0 to 1, such as 0.9.")
    asked = [Requirement.parse(text) for text in texts]
    for one in asked:
        for name in one.attributes:
            if name not in table.schema.sensitive:
                raise SettingsError(
                    f"{one}: {name!r} is no sensitive column; they are {', '.join(table.schema.sensitive)}."
                )
    court = _Court(table.sample if isinstance(table, StreamedTable) else table, asked, seed)
    criteria = list(dict.fromkeys(METRICS[one.metric] for one in asked))
    real = court.judge([court.fit], "demographic_parity", 0.0)
    floor = 0.5 + LEFT * (real.balanced - 0.5)
    tried: list[_Tried] = []
    total = len(criteria) * (2 + HALVINGS) + 1
    for criterion in criteria:
        full = AuditedTrees(fairness=Fairness(criterion), seed=seed, **settings).fit(court.fit)

        def at(strength: float, model: AuditedTrees = full, criterion: Criterion = criterion) -> _Tried:
            weaker = model.weakened(strength)
            rows = [weaker.sample_table(len(court.fit), seed=seed + draw) for draw in range(DRAWS)]
            tried.append(court.judge(rows, criterion, strength))
            if progress is not None:
                progress(Step("meet the requirement", len(tried), total))
            return tried[-1]

        def enough(one: _Tried) -> bool:
            return one.shortfall(asked) == 0 and one.confidence >= confidence

        def less_will_do(one: _Tried) -> bool:
            """Whether weaker settings are of interest: this one is enough, or leaves too little to be of use."""
            return enough(one) or one.balanced < floor

        low, high = 0.0, 1.0
        most, least = at(1.0), at(0.0)  # even if full strength is not enough: the table may be fair as it is
        if less_will_do(most) and not enough(least):
            for _ in range(HALVINGS):
                middle = (low + high) / 2
                low, high = (low, middle) if less_will_do(at(middle)) else (middle, high)
    honest = [one for one in tried if one.balanced >= floor] or tried
    good = [one for one in honest if one.shortfall(asked) == 0]
    sure = [one for one in good if one.confidence >= confidence]
    if sure:
        best = max(sure, key=lambda one: one.auroc + one.balanced)
    elif good:
        best = max(good, key=lambda one: one.confidence)
    else:
        best = min(honest, key=lambda one: one.shortfall(asked))
    met = bool(good) and best.balanced >= floor
    made = AuditedTrees(fairness=Fairness(best.criterion, best.strength), seed=seed, **settings)
    made.fit(table, progress=progress)
    promise = Promise(
        tuple(str(one) for one in asked), met, best.confidence, float(confidence), best.values, real.values,
        best.criterion, best.strength, best.auroc, best.balanced, best.accuracy, real.auroc, real.balanced,
        real.accuracy, len(court.people), court.left_out, len(tried), sum(one.balanced < floor for one in tried),
        float(floor),
    )  # fmt: skip
    made.promise_ = promise.to_dict()
    if not met:
        warnings.warn(
            f"the requirement cannot be met: what comes nearest is taken. {promise}",
            FairsynthWarning,
            stacklevel=2,
        )
    return made, promise


class _Court:
    """People held out, and what models of the evaluation decide on them."""

    def __init__(self, table: Table, asked: list[Requirement], seed: int) -> None:
        self.asked, self.seed = asked, seed
        self.task = Task.of(table.schema)
        self.fit, self.people = table.split(HELD_OUT, seed=seed)
        self.down = Downstream(table.schema, self.fit.frame, self.task)
        self.actual = self.people.favorable()
        self.groups = {str(one): self.people.groups(one.attributes or None) for one in asked}
        self.judged: dict[str, list[int]] = {}
        out: list[str] = []
        for one in asked:
            own = self.groups[str(one)]
            enough = []
            for code, name in enumerate(own.names):
                rows = own.codes == code
                few = int(rows.sum())
                if one.metric != "dpr":
                    few = int((rows & self.actual).sum())
                if one.metric == "eor":
                    few = min(few, int((rows & ~self.actual).sum()))
                if few >= SMALL_GROUP:
                    enough.append(code)
                elif rows.any():
                    out.append(name)
            if len(enough) < 2:
                kind = {"dpr": "people", "eor": "people with the favorable label and as many without"}
                whom = kind.get(one.metric, "people with the favorable label")
                raise SettingsError(
                    f"{one}: of {len(self.people):,} people held out, fewer than two groups of {own.attribute} have "
                    f"the {SMALL_GROUP} {whom} that it takes to judge them; ask for another column, or bring more rows."
                )
            self.judged[str(one)] = enough
        self.left_out = tuple(dict.fromkeys(out))

    def judge(self, tables: Sequence[Table], criterion: Criterion, strength: float) -> _Tried:
        """Train the models on each table, and let them decide."""

        def decide(work: tuple[Table, str]) -> tuple[np.ndarray, float]:
            rows, name = work
            found = self.down.fit(name, rows.frame, seed=self.seed).predict(self.people.frame)
            return self.task.decision(found), auroc(
                self.actual.astype(np.int64), self.task.probability(found)
            )

        chosen, scores = zip(
            *side_by_side(decide, [(rows, name) for rows in tables for name in MODELS], cores()), strict=True
        )
        decided = np.stack(chosen)
        right = decided == self.actual
        balanced = np.mean([(one[self.actual].mean() + one[~self.actual].mean()) / 2 for one in right])
        # People who are alike in all that counts are one cell, so that a resampling is a few numbers.
        told = np.stack([self.actual, *decided, *(own.codes for own in self.groups.values())]).astype(
            np.int64
        )
        cells, counts = np.unique(told, axis=1, return_counts=True)
        judges = len(decided)
        values = {str(one): float(self._ratios(one, judges, cells, counts[None])[0]) for one in self.asked}
        draws = np.random.default_rng([self.seed, 53]).multinomial(
            counts.sum(), counts / counts.sum(), size=RESAMPLED
        )
        holds = np.ones(RESAMPLED, dtype=bool)
        for one in self.asked:
            holds &= self._ratios(one, judges, cells, draws) >= one.bound
        return _Tried(
            criterion, strength, values, float(holds.mean()), float(np.mean(scores)), float(balanced),
            float(right.mean()),
        )  # fmt: skip

    def _ratios(self, one: Requirement, judges: int, cells: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return the mean over models of the ratio, for each line of counts of people by cell ``(lines,)``."""
        actual, decided = cells[0] > 0, cells[1 : 1 + judges] > 0
        codes = cells[1 + judges + list(self.groups).index(str(one))]
        everyone = np.ones(len(actual), dtype=bool)
        parts = {"dpr": [everyone], "tpr_ratio": [actual], "eor": [actual, ~actual]}[one.metric]
        told = []
        for chosen in decided:
            worst = np.ones(len(counts))
            for part in parts:
                rates = []
                for code in self.judged[str(one)]:
                    own = part & (codes == code)
                    rates.append(counts[:, own & chosen].sum(1) / np.maximum(counts[:, own].sum(1), 1))
                highest = np.max(rates, axis=0)
                ratio = np.where(highest > 0, np.min(rates, axis=0) / np.maximum(highest, 1e-12), 1.0)
                worst = np.minimum(worst, ratio)
            told.append(worst)
        return np.asarray(np.mean(told, axis=0))
