"""What drives decisions: SHAP values of models trained on real and on synthetic rows, side by side.

The question is whether the sensitive attribute, or another column that stands in for it (a proxy),
still drives the decisions of a model that was trained on the synthetic rows. SHAP values are exact for
trees (Lundberg et al. 2020, "From local explanations to global understanding with explainable AI for
trees", algorithm 2) and LightGBM computes them itself, so the ``shap`` package is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fairsynth.errors import DataError, SettingsError

if TYPE_CHECKING:
    from fairsynth.data.table import Table
    from fairsynth.evaluation.downstream import FittedModel, Task
    from fairsynth.evaluation.result import Score

Floats = NDArray[np.float64]
MODEL = "lightgbm"
#: Groups of fewer people say nothing about a mean.
SMALLEST_GROUP = 20


@dataclass(frozen=True)
class Explanation:
    """SHAP values for the same people, of a model trained on each source.

    Attributes
    ----------
    columns : tuple of str, length p
        Columns that the models use.
    sensitive : tuple of str
        Which of them are sensitive.
    people : polars.DataFrame, n rows
        The real test people explained, canonical.
    contributions : dict of str to ndarray of float64, shape (n, p)
        By source (``"real"``, ``"synthetic"``, ``"synthetic:NAME"``): how far each column moves each
        person's score towards the favorable outcome. Two classes: log-odds. More classes: mean raw score
        of the favorable classes minus that of the others. Numbers: units of the target.
    base : dict of str to float
        By source: the score before any column is looked at; base plus the row's sum is the model's score.
    groups : dict of str to tuple of (ndarray of int64 of shape (n,), tuple of str)
        By attribute: the people's group codes, and the groups' names.
    notes : dict of str to str
        By source: what a careful reader has to know.
    """

    columns: tuple[str, ...]
    sensitive: tuple[str, ...]
    people: pl.DataFrame
    contributions: dict[str, Floats]
    base: dict[str, float]
    groups: dict[str, tuple[NDArray[np.int64], tuple[str, ...]]]
    notes: dict[str, str] = field(default_factory=dict)

    def importance(self, source: str) -> Floats:
        """Return the mean absolute contribution of each column; float64, shape (p,)."""
        return np.abs(self.contributions[source]).mean(axis=0)

    def share(self, source: str) -> Floats:
        """Return each column's part of all that drives decisions, summing to 1; float64, shape (p,).

        All zeros when nothing drives them: a constant model.
        """
        weight = self.importance(source)
        total = weight.sum()
        return weight / total if total > 0 else weight

    def group_gap(self, source: str, attribute: str) -> Floats:
        """Return how much further each column pushes one group than another; float64, shape (p,).

        ``max_g E[phi_j | g] - min_g E[phi_j | g]`` over groups of at least `SMALLEST_GROUP` people
        (ours). Summed over all columns, contributions differ between groups by exactly the gap of their
        mean scores, so a large gap in a column that is not sensitive shows a proxy at work. NaN when fewer
        than two groups are large enough.
        """
        codes, names = self.groups[attribute]
        phi = self.contributions[source]
        means = [
            phi[codes == g].mean(axis=0)
            for g in range(len(names))
            if int((codes == g).sum()) >= SMALLEST_GROUP
        ]
        if len(means) < 2:
            return np.full(len(self.columns), np.nan)
        return np.ptp(np.stack(means), axis=0)

    def person(self, row: int, source: str) -> list[tuple[str, Any, float]]:
        """Return (column, value, contribution) for one person, the strongest first.

        Raises
        ------
        SettingsError
            If there is no such row or source.
        """
        if source not in self.contributions:
            raise SettingsError(f"source={source!r} was not explained; choose one of {', '.join(self.base)}.")
        if not 0 <= row < len(self.people):
            raise SettingsError(f"row={row} is not among the {len(self.people)} people explained.")
        phi = self.contributions[source][row]
        order = np.argsort(-np.abs(phi), kind="stable")
        values = self.people.row(row, named=True)
        return [(self.columns[j], values[self.columns[j]], float(phi[j])) for j in order]

    def rank_agreement(self, source: str) -> float | None:
        """Return Spearman's correlation of the columns' importance with those of the real model.

        None when one of the two does not vary.
        """
        from scipy.stats import spearmanr

        a, b = self.importance("real"), self.importance(source)
        if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
            return None
        return float(spearmanr(a, b).statistic)

    def to_scores(self) -> list[Score]:
        """Return the findings as scores of section ``explanation``.

        ``shap_importance`` and ``shap_share`` by column, ``shap_group_gap`` by column and attribute, and
        ``shap_rank_agreement`` of each synthetic source with the real one.
        """
        from fairsynth.evaluation.result import Score

        n, scores = len(self.people), []
        for source in self.contributions:
            common: dict[str, Any] = {
                "section": "explanation",
                "source": source,
                "model": MODEL,
                "n": n,
                "note": self.notes.get(source),
            }
            weights, shares = self.importance(source), self.share(source)
            for column, weight, share in zip(self.columns, weights, shares, strict=True):
                scores.append(Score(metric="shap_importance", column=column, value=float(weight), **common))
                scores.append(Score(metric="shap_share", column=column, value=float(share), **common))
            for attribute in self.groups:
                gaps = self.group_gap(source, attribute)
                if np.isnan(gaps).any():
                    continue
                for column, gap in zip(self.columns, gaps, strict=True):
                    scores.append(
                        Score(
                            metric="shap_group_gap",
                            column=column,
                            attribute=attribute,
                            value=float(gap),
                            **common,
                        )
                    )
            if source != "real":
                agreement = self.rank_agreement(source)
                scores.append(Score(metric="shap_rank_agreement", value=agreement, **common))
        return scores


def shap_importance(
    train: Table,
    test: Table,
    synthetic: Table | Mapping[str, Table],
    *,
    models: Mapping[str, FittedModel] | None = None,
    seed: int = 0,
    max_people: int = 2000,
    max_train: int = 50_000,
) -> Explanation:
    """Explain the decisions of LightGBM trained on real and on synthetic rows, for real test people.

    Parameters
    ----------
    train, test : Table
        Real rows; `test` is explained.
    synthetic : Table or mapping of str to Table
        One synthetic table (source ``"synthetic"``), or several by source.
    models : mapping of str to FittedModel, optional
        LightGBM models that were trained already, by source; the others are trained here.
    seed : int, default=0
        Of the sampling of rows and of the models.
    max_people : int, default=2000
        Test people explained; more are sampled.
    max_train : int, default=50000
        Rows trained on; more are sampled.

    Returns
    -------
    Explanation
        Contributions of every column to every person's score, by source.

    Raises
    ------
    DataError
        If the test table has no rows, or the table names no target or no favorable value.
    """
    from fairsynth.evaluation.downstream import Downstream, Task

    if len(test) == 0:
        raise DataError("The test table has no rows to explain.")
    named = dict(synthetic) if isinstance(synthetic, Mapping) else {"synthetic": synthetic}
    task = Task.of(train.schema)
    rng = np.random.default_rng(seed)
    picked = _pick(len(test), max_people, rng)
    people = test.frame[picked.tolist()]
    downstream = Downstream(train.schema, train.frame, task)
    given = models or {}
    contributions: dict[str, Floats] = {}
    base: dict[str, float] = {}
    notes: dict[str, str] = {}
    for source, table in {"real": train, **named}.items():
        rows = _pick(len(table), max_train, rng)
        frame = table.frame if len(rows) == len(table) else table.frame[rows.tolist()]
        if len(rows) < len(table) and source not in given:
            notes[source] = f"trained on {len(rows):,} of {len(table):,} rows, drawn at random"
        fitted = given[source] if source in given else downstream.fit(MODEL, frame, seed=seed)
        if fitted.note:
            notes[source] = fitted.note
        phi, offset = _tree_shap(fitted, downstream.native(people), task, table.frame, train)
        contributions[source], base[source] = phi, offset
    attributes = list(train.schema.sensitive)
    groups = {}
    for attribute in attributes:
        of = test.groups([attribute])
        groups[attribute] = (of.codes[picked], of.names)
    sensitive = tuple(a for a in attributes if a in downstream.columns)
    return Explanation(downstream.columns, sensitive, people, contributions, base, groups, notes)


def _pick(n: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if n <= most:
        return np.arange(n)
    return np.sort(rng.choice(n, most, replace=False))


def _tree_shap(
    fitted: FittedModel, x: Floats, task: Task, frame: pl.DataFrame, train: Table
) -> tuple[Floats, float]:
    """Return contributions towards the favorable outcome, shape (n, p), and the score before any column."""
    n, p = x.shape
    if fitted.estimator is None:  # one class only: the model is a constant, and nothing drives it
        return np.zeros((n, p)), 0.0
    raw = np.asarray(fitted.estimator.predict(x, pred_contrib=True), dtype=np.float64)
    if task.kind == "regression":
        return raw[:, :-1], float(raw[0, -1])
    codes = task.values(frame, train.schema)
    present = np.unique(codes[~np.isnan(codes)])
    liked = task.is_favorable(present)
    if len(present) == 2:
        # The booster's score is for the higher of the two codes.
        sign = 1.0 if liked[1] and not liked[0] else -1.0 if liked[0] and not liked[1] else 0.0
        return sign * raw[:, :-1], sign * float(raw[0, -1])
    by_class = raw.reshape(n, len(present), p + 1)
    if liked.all() or not liked.any():
        return np.zeros((n, p)), 0.0
    margin = by_class[:, liked].mean(axis=1) - by_class[:, ~liked].mean(axis=1)
    return margin[:, :-1], float(margin[0, -1])
