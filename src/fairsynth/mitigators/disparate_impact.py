"""Disparate-impact repair: every column told in a way that no longer tells the group (Feldman et al. 2015).

The paper's repair (sections 5.1 and 5.2) replaces the value at quantile u of its group by the median, over the
groups, of the values at quantile u: ranks within the group stay, the group's law of the column goes. The repair
level moves a value from its own to the repaired one ("geometric" partial repair, section 5.3).

What becomes of each kind of column:

- numbers and times: repaired as above. The quantile of a value that many share is drawn within its stretch (ours,
  needed where columns have atoms, such as a capital gain of 0: else level 1 would not make the laws equal);
- ordered levels: repaired by their places in the order;
- unordered levels, booleans, and missing values among them, have no quantiles. The paper leaves them open. Here (ours)
  levels are moved between rows as rarely as possible (a maximal coupling) until every group has the mean of the
  groups' shares; ``categorical="keep"`` leaves such columns as they are, and ``"drop"`` hides them from the model;
- a missing number stays missing: how often it is missing may still tell the group;
- sensitive columns are hidden from the model; the target is never touched.

Only single columns are repaired: two columns together can still tell the group.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fairsynth.data.schema import Column
from fairsynth.data.table import Table
from fairsynth.evaluation.features import column_values, level_names
from fairsynth.fairness import Fairness
from fairsynth.generators.settings import check_settings
from fairsynth.mitigators.base import RARE_ROWS, Capabilities, Floats, Ints, Mitigator
from fairsynth.mitigators.grouping import PooledGroups
from fairsynth.mitigators.models import TableModel
from fairsynth.progress import Progress

#: Quantiles at which the laws of the groups are compared.
_GRID = 2001


@dataclass(frozen=True)
class NumberRepair:
    """Laws of one column in every group, and the law that all of them are given.

    Attributes
    ----------
    values : tuple of ndarray of float64
        Sorted values that each group was seen with.
    target : ndarray of float64, shape (grid,)
        Value of the median law at even steps of the quantile.
    """

    values: tuple[Floats, ...]
    target: Floats

    @classmethod
    def learn(cls, column: Floats, groups: Ints, n_groups: int) -> NumberRepair:
        """Learn from numbers ``(n,)``, NaN where missing, and groups ``(n,)``."""
        values = tuple(np.sort(column[(groups == g) & ~np.isnan(column)]) for g in range(n_groups))
        at = np.linspace(0, 1, _GRID)
        laws = [np.quantile(own, at, method="inverted_cdf") for own in values if len(own)]
        target = np.median(laws, axis=0) if laws else np.zeros(_GRID)
        return cls(values, target)

    def repair(self, column: Floats, groups: Ints, level: float, rng: np.random.Generator) -> Floats:
        """Return repaired numbers ``(n,)``; a group without any seen value is left as it is."""
        out = column.copy()
        chance = rng.random(len(column))
        for g, own in enumerate(self.values):
            mine = np.flatnonzero((groups == g) & ~np.isnan(column))
            if not len(mine) or not len(own):
                continue
            low = np.searchsorted(own, column[mine], side="left")
            high = np.searchsorted(own, column[mine], side="right")
            # A value that the group was never seen with has no stretch: it takes the place between its neighbours.
            rank = np.clip((low + chance[mine] * (high - low)) / len(own), 0, 1)
            repaired = np.interp(rank, np.linspace(0, 1, _GRID), self.target)
            out[mine] = (1 - level) * column[mine] + level * repaired
        return out


@dataclass(frozen=True)
class LevelRepair:
    """Shares of the levels in every group, the last one being missing, and the shares that all are given.

    Attributes
    ----------
    shares : ndarray of float64, shape (groups, levels + 1)
        As seen.
    target : ndarray of float64, shape (levels + 1,)
        Mean over the groups.
    """

    shares: Floats
    target: Floats

    @classmethod
    def learn(cls, codes: Ints, groups: Ints, n_groups: int, size: int) -> LevelRepair:
        """Learn from codes ``(n,)`` below `size` and groups ``(n,)``."""
        counts = np.zeros((n_groups, size))
        np.add.at(counts, (groups, codes), 1.0)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return cls(shares, shares.mean(axis=0))

    def repair(self, codes: Ints, groups: Ints, level: float, rng: np.random.Generator) -> Ints:
        """Return codes of which as few as possible were changed so that the group's shares are as wanted."""
        out = codes.copy()
        stay, lot = rng.random(len(codes)), rng.random(len(codes))
        for g, own in enumerate(self.shares):
            wanted = (1 - level) * own + level * self.target
            keep = np.divide(np.minimum(own, wanted), own, out=np.ones_like(own), where=own > 0)
            gain = np.maximum(wanted - own, 0)
            if gain.sum() <= 0:
                continue
            mine = np.flatnonzero(groups == g)
            moved = mine[stay[mine] >= keep[codes[mine]]]
            cumulative = np.cumsum(gain) / gain.sum()
            place = np.searchsorted(cumulative, lot[moved], side="right")
            out[moved] = np.minimum(place, np.flatnonzero(gain).max())
        return out


class DisparateImpactRepair(Mitigator):
    """A downstream model on columns repaired so that no single one tells the group.

    Draws decide where in the stretch of a shared value a person stands, and whose levels are moved: two people who are
    alike can be repaired, and so decided, differently. The same rows and seed give the same.

    Parameters
    ----------
    fairness : Fairness
        Demographic parity; the strength is the paper's repair level.
    categorical : {"redistribute", "keep", "drop"}
        What becomes of unordered levels; see the module.
    base : {"lightgbm", "logistic_regression", "random_forest"}
        Model that is trained on the repaired rows.
    minimum_group : int
        Groups of fewer rows share one law.
    seed : int
        Of the model, and of the draws in the repair.

    References
    ----------
    Feldman et al., "Certifying and removing disparate impact", KDD 2015.
    """

    fairness: Fairness
    name: ClassVar[str] = "disparate-impact-repair"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="columns repaired so that no single one tells the group",
        paper="Feldman et al., KDD 2015",
        stage="pre",
        criteria=("demographic_parity",),
        needs_sensitive=True,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        categorical: Literal["redistribute", "keep", "drop"] = "redistribute",
        base: str = "lightgbm",
        minimum_group: int = RARE_ROWS,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.categorical = categorical
        self.base = base
        self.minimum_group = minimum_group
        self.seed = seed

    def _check_settings(self) -> None:
        super()._check_settings()
        check_settings(
            self, choices={"categorical": ("redistribute", "keep", "drop")}, whole=("minimum_group",)
        )

    def _fit(self, table: Table, progress: Progress | None) -> None:
        schema = table.schema
        self.groups_ = PooledGroups.learn(table, minimum=self.minimum_group)
        groups, n_groups = self.groups_.codes(table), len(self.groups_)
        self.repairs_: dict[str, NumberRepair | LevelRepair] = {}
        hidden = list(schema.sensitive)
        for name in schema.features:
            column = schema[name]
            if name in schema.sensitive or column.kind == "identifier":
                continue
            if _has_order(column):
                self.repairs_[name] = NumberRepair.learn(_numbers(table.frame, column), groups, n_groups)
            elif self.categorical == "redistribute":
                codes, size = _codes(table.frame, column)
                self.repairs_[name] = LevelRepair.learn(codes, groups, n_groups, size)
            elif self.categorical == "drop":
                hidden.append(name)
        frame = self._repaired(table).frame
        self.model_ = TableModel(schema, frame, self.task_, self.base, seed=self.seed, without=hidden).fit(
            frame
        )

    def transform(self, table: Table) -> Table:
        """Return repaired rows: canonical, of the same schema, target and sensitive columns as they were."""
        return self._repaired(self._rows(table))

    def _repaired(self, table: Table) -> Table:
        level = self.fairness.strength
        if level == 0:
            return table
        groups, schema = self.groups_.codes(table), table.schema
        columns = []
        for name, repair in self.repairs_.items():
            rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
            column = schema[name]
            if isinstance(repair, NumberRepair):
                values = repair.repair(_numbers(table.frame, column), groups, level, rng)
                columns.append(_as_series(values, column, table.frame[name].dtype))
            else:
                codes, _ = _codes(table.frame, column)
                columns.append(_as_levels(repair.repair(codes, groups, level, rng), column))
        return table.replace(table.frame.with_columns(columns))

    def _class_probabilities(self, table: Table) -> Floats:
        return self.model_.class_probabilities(self._repaired(table).frame)


def _has_order(column: Column) -> bool:
    return column.kind not in ("categorical", "boolean") or (column.kind == "categorical" and column.ordered)


def _numbers(frame: pl.DataFrame, column: Column) -> Floats:
    """Return numbers, microseconds or places of ordered levels as float64 ``(n,)``, NaN where missing."""
    if column.kind == "datetime":
        micros = frame[column.name].to_physical().cast(pl.Float64)
        return micros.fill_null(float("nan")).to_numpy().astype(np.float64)
    return column_values(frame, column)


def _as_series(values: Floats, column: Column, dtype: Any) -> pl.Series:
    if column.kind == "categorical":
        return _as_levels(np.where(np.isnan(values), len(column.levels), np.rint(values)), column)
    whole = column.kind in ("integer", "datetime")
    series = pl.Series(column.name, np.rint(values) if whole else values).fill_nan(None)
    return series.cast(pl.Int64).cast(dtype) if whole else series.cast(dtype)


def _codes(frame: pl.DataFrame, column: Column) -> tuple[Ints, int]:
    """Return codes of levels, the last one being missing, and how many there are."""
    values, size = column_values(frame, column), len(level_names(column)) + 1
    return np.where(np.isnan(values), size - 1, values).astype(np.int64), size


def _as_levels(codes: NDArray[Any], column: Column) -> pl.Series:
    names = level_names(column)
    whole = codes.astype(np.int64)
    if column.kind == "boolean":
        texts: list[Any] = [False, True, None]
        return pl.Series(column.name, [texts[c] for c in whole], dtype=pl.Boolean)
    positions = pl.Series(np.where(whole < len(names), whole, -1)).cast(pl.Int32)
    levels = pl.Series(list(names), dtype=pl.Enum(list(names)))
    picked = levels.gather(positions.clip(0, len(names) - 1).cast(pl.UInt32))
    return pl.select(pl.when(positions >= 0).then(picked).otherwise(None).alias(column.name)).to_series()
