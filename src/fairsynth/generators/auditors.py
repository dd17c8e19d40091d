"""Three kinds of models that audit drawn rows: boosted trees, a forest and a linear model.

They answer to different things (`evening`), so each is asked. What models of real rows do is measured in the same
way, on people whom they were not trained on: how many they favor and how sure they are (`Custom`). Models of drawn
rows are less sure, all three kinds alike, by a twentieth on Adult and by a fifth to a half on hundreds of rows: what
was learned twice is drawn to the middle twice. Of more than two labels later models choose the likeliest, which may be
a favorable one though these have less than half of the probability; so do these models. Ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.tree import DecisionTreeRegressor

from fairsynth.cores import side_by_side
from fairsynth.data.table import Table
from fairsynth.generators.calibration import PROBE_ROWS
from fairsynth.generators.probes import Known, boosted_decisions, linear_decisions

#: In the order of all lists here.
KINDS = ("boosted", "forest", "linear")
#: The forest of the audit. On some of the rows, or of fewer trees, a forest is no small one of the same kind: where few
#: are favored, what it says of a small group is off by half. Rounds that only lead there are rough.
TREES = 50
ROUGH_TREES = 20
#: Trees that are grown in one go, side by side with other models.
AT_A_TIME = 10
ROUGH_ROWS = 12_000
#: Parts that people are dealt into, to be decided on by models of the others.
FOLDS = 3
#: So many are enough to tell how many are favored, and then no further part is decided on.
ENOUGH = 7_500
#: With more labels models take too long to tell them all apart.
MANY_LABELS = 12
#: Log odds beyond which a model is sure.
SURE = 5.0


@dataclass(frozen=True)
class Custom:
    """What models of real rows do, by kind.

    Attributes
    ----------
    rates : tuple of float
        Share of people whom they favor.
    spreads : tuple of float
        Standard deviation of their log odds for drawn rows; those beyond `SURE` count as that.
    balanced : tuple of float
        Balanced accuracy of their decisions.
    """

    rates: tuple[float, ...]
    spreads: tuple[float, ...]
    balanced: tuple[float, ...]


@dataclass(frozen=True)
class Auditors:
    """Models in the making, and the real people they will decide on.

    Attributes
    ----------
    known : Known
        The people, and what is known of them.
    groups : np.ndarray
        Joint group of each, int64 ``(n,)``.
    labels : np.ndarray
        Which label each has, int64 ``(n,)``.
    label_of : callable
        Which label each row of a table has, int64.
    favored : np.ndarray
        Which labels are favorable, bool ``(labels,)``.
    seed : int
        Of the models.
    """

    known: Known
    groups: np.ndarray
    labels: np.ndarray
    label_of: Callable[[Table], np.ndarray]
    favored: np.ndarray
    seed: int

    @property
    def actual(self) -> np.ndarray:
        """Whether the label of each is favorable, bool ``(n,)``."""
        return np.asarray(self.favored[self.labels])

    @classmethod
    def of(
        cls,
        real: Table,
        groups: np.ndarray,
        label_of: Callable[[Table], np.ndarray],
        favored: np.ndarray,
        seed: int,
    ) -> Auditors:
        """Choose people, 30,000 at most.

        Parameters
        ----------
        real : Table
            People.
        groups : np.ndarray
            Joint group of each, int64 ``(n,)``.
        label_of : callable
            Which label each row of a table has, int64.
        favored : np.ndarray
            Which labels are favorable, bool ``(labels,)``. Of more than `MANY_LABELS` models tell only whether a label
            is favorable.
        seed : int
            Of the choice and the models.
        """
        rows = np.random.default_rng(seed).permutation(len(real))[:PROBE_ROWS]
        known = Known.of(real, real.frame[rows])
        return cls(known, groups[rows], label_of(real)[rows], label_of, favored, seed)

    def decisions(self, synthetic: Table, *, rough: bool = False) -> list[np.ndarray] | None:
        """Train the three on drawn rows; return how much favorable labels score above others for the people.

        Of two labels these are log odds; of more, the score of the favorable label that is likeliest less that of the
        likeliest other one. Who is above 0 is favored.

        Parameters
        ----------
        synthetic : Table
            Rows.
        rough : bool
            Train them on some of the rows, and fewer trees.

        Returns
        -------
        list of np.ndarray or None
            By kind, float64 ``(n,)`` each; None if all rows have one label.
        """
        labels = self.label_of(synthetic)
        rows = self.known.numbers(synthetic.frame)
        return self._trained(rows, labels, self.known.people, KINDS, rough=rough)

    def custom(self, drawn: Table) -> Custom | None:
        """Train the three on real rows, and return what they do with others; None if some have one label only.

        Parameters
        ----------
        drawn : Table
            Rows that neither kind of model has learned from: how sure models are is told by these.
        """
        people, strangers = self.known.people, self.known.numbers(drawn.frame)
        part = np.arange(len(people)) % FOLDS
        favored, spreads, decided = np.zeros(len(KINDS)), [], 0
        right, people_of = np.zeros((2, len(KINDS))), np.zeros(2)
        for fold in range(FOLDS):
            own = part == fold
            both = np.concatenate([people[own], strangers])
            found = self._trained(people[~own], self.labels[~own], both, KINDS)
            if found is None:
                return None
            decided += int(own.sum())
            favored += [(line[: own.sum()] > 0).sum() for line in found]
            for kind, label in enumerate((self.actual[own], ~self.actual[own])):
                right[kind] += [((line[: own.sum()] > 0) == (kind == 0))[label].sum() for line in found]
            people_of += [self.actual[own].sum(), (~self.actual[own]).sum()]
            spreads.append([_spread(line[own.sum() :]) for line in found])
            if decided >= ENOUGH:
                break
        balanced = (right / np.maximum(people_of, 1)[:, None]).mean(0)
        return Custom(
            tuple((favored / decided).tolist()),
            tuple(np.mean(spreads, axis=0).tolist()),
            tuple(balanced.tolist()),
        )

    def spreads(self, synthetic: Table, drawn: Table) -> tuple[float, float] | None:
        """Return how sure boosted trees and a linear model of drawn rows are, as `Custom` does; None as `decisions`.

        Parameters
        ----------
        synthetic : Table
            As many rows as the models of real rows are trained on.
        drawn : Table
            Those of `custom`.
        """
        rows, labels = self.known.numbers(synthetic.frame), self.label_of(synthetic)
        found = self._trained(rows, labels, self.known.numbers(drawn.frame), ("boosted", "linear"))
        return None if found is None else (_spread(found[0]), _spread(found[1]))

    def _trained(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        people: np.ndarray,
        kinds: tuple[str, ...],
        *,
        rough: bool = False,
    ) -> list[np.ndarray] | None:
        good = self.favored[labels]
        if good.all() or not good.any():
            return None
        few = good[:ROUGH_ROWS]
        if rough and few.any() and not few.all():
            rows, labels, good = rows[:ROUGH_ROWS], labels[:ROUGH_ROWS], few
        trees = ROUGH_TREES if rough else TREES
        classes, codes = np.unique(labels, return_inverse=True)
        if len(self.favored) > MANY_LABELS or len(classes) == 2:
            classes, codes = np.arange(2), good.astype(np.int64)
        favored = self.favored[classes] if len(classes) > 2 else np.array([False, True])
        learned, asked = (np.nan_to_num(one, nan=-1.0).astype(np.float32) for one in (rows, people))
        marked = (codes[:, None] == np.arange(len(classes))).astype(np.float64)
        known = self.known

        def answer(task: tuple[str, range]) -> np.ndarray:
            kind, some = task
            if kind == "boosted":
                found = boosted_decisions(rows, codes, people, known.categorical, self.seed)
                return _margins(found, favored)
            if kind == "forest":
                return _shares(learned, marked if len(classes) > 2 else marked[:, 1], asked, some, self.seed)
            seen = known.seen if people is known.people else known.view(people)
            return _margins(linear_decisions(known.view(rows), codes, seen), favored)

        # What takes longest and cannot be parted comes first, and parts of the forest are small: no thread waits long.
        tasks = [("boosted", range(0)), *(("forest", some) for some in _parts(trees)), ("linear", range(0))]
        tasks = [task for task in tasks if task[0] in kinds]
        found = list(zip(tasks, side_by_side(answer, tasks, 2), strict=True))
        answers = {kind: line for (kind, _), line in found if kind != "forest"}
        if "forest" in kinds:
            grown = np.concatenate([lines for (kind, _), lines in found if kind == "forest"])
            answers["forest"] = _log_odds(grown.mean(0), favored)
        return [answers[kind] for kind in kinds]


def _parts(trees: int) -> list[range]:
    return [range(start, min(start + AT_A_TIME, trees)) for start in range(0, trees, AT_A_TIME)]


def _spread(scores: np.ndarray) -> float:
    return float(np.clip(scores, -SURE, SURE).std())


def _margins(scores: np.ndarray, favored: np.ndarray) -> np.ndarray:
    """Return how much the likeliest favored label scores above the likeliest other, float64 ``(n,)``.

    Scores of two labels are log odds already, ``(n,)``, those of more ``(n, labels)``.
    """
    if scores.ndim == 1:
        return scores
    return np.asarray(scores[:, favored].max(1) - scores[:, ~favored].max(1))


def _shares(known: np.ndarray, labels: np.ndarray, asked: np.ndarray, trees: range, seed: int) -> np.ndarray:
    """Return the share of favorable labels that each of some trees of a forest foretells, float64 ``(trees, n)``.

    Labels are 0 or 1 ``(m,)``; or one of several, marked by 1 ``(m, labels)``, for shares ``(trees, n, labels)``.

    Tree by tree: scikit-learn's forest, as its other models of many parts, sets the filters of warnings of the whole
    process meanwhile, which no two threads may do at once. The squares that a regression of 0 and 1 takes away are
    Gini's impurity, half of it, so it is the same tree, and asks less of its labels. Both arrays are float32
    without missing values, so that no tree has to look.
    """
    shares = np.empty((len(trees), len(asked), *labels.shape[1:]))
    for at, number in enumerate(trees):
        rng = np.random.default_rng([seed, number])
        tree = DecisionTreeRegressor(
            max_features="sqrt", min_samples_leaf=5, random_state=int(rng.integers(2**31))
        )
        often = np.bincount(rng.integers(0, len(known), len(known)), minlength=len(known)).astype(np.float64)
        tree.fit(known, labels, sample_weight=often, check_input=False)
        shares[at] = tree.predict(asked, check_input=False)
    return shares


def _log_odds(shares: np.ndarray, favored: np.ndarray) -> np.ndarray:
    """Return `_margins` of shares ``(n,)`` of the second of two labels, or ``(n, labels)`` of more."""
    shares = np.clip(shares, 0.005, 0.995)
    return _margins(np.log(shares) if shares.ndim > 1 else np.log(shares / (1 - shares)), favored)
