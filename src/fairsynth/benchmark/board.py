"""What a leaderboard is: rows, numbers, standings; made by `fairsynth.benchmark.leaderboard`, shown by `render`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from fairsynth.benchmark.compare import Differences

REAL, CONSTANT = "real data", "constant predictor"
#: Metrics of which less is better.
LOWER = frozenset(
    {
        "brier", "c2st", "calibration_gap", "correlation_difference", "counterfactual_flip_rate", "distribution_gap",
        "dpd", "eod", "equal_opportunity_difference", "exact_copies", "ftu", "group_share_distance", "jensen_shannon",
        "ks", "label_parity_difference", "leakage_auc", "mae", "near_copies", "predictive_parity_difference", "rmse",
        "total_variation", "wasserstein",
    }
)  # fmt: skip
#: Metrics whose best value is neither a lowest nor a highest one.
MIDDLE = {"dcr_share": 0.5}
#: What stands in where the target is a number, and there are neither classes nor rates.
FOR_NUMBERS = {"auroc": "r2", "balanced_accuracy": "r2", "dpr": "distribution_gap", "eor": "distribution_gap"}
#: Columns of every leaderboard, beside the three that are chosen.
COLUMNS = ("auroc", "balanced_accuracy", "dpr", "eor", "coverage", "c2st", "dcr_share")
HEADS = {
    "auroc": "AUROC", "r2": "R²", "balanced_accuracy": "Bal. acc.", "accuracy": "Accuracy", "dpr": "DPR", "eor": "EOR",
    "coverage": "Coverage", "c2st": "C2ST", "dcr_share": "DCR share", "distribution_gap": "Gap",
    "fit_seconds": "Fit, s", "memory_mb": "Memory, MB",
}  # fmt: skip
COSTS = ("fit_seconds", "memory_mb")


@dataclass(frozen=True)
class Number:
    """A mean over seeds.

    Attributes
    ----------
    mean : float
        Over the seeds that have a number.
    std : float or None
        Standard deviation over them (n - 1); None for one seed.
    n : int
        How many.
    """

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Link:
    """One cell of a row.

    Attributes
    ----------
    seed : int
        Of the cell.
    key : str
        Of its files.
    status : {"done", "failed", "missing"}
        What became of it.
    reason : str or None
        Why it failed.
    """

    seed: int
    key: str
    status: str
    reason: str | None = None


@dataclass
class Row:
    """One method on one data set.

    Attributes
    ----------
    dataset, label : str
        As the plan calls them.
    kind : {"generator", "mitigator", "real", "constant"}
        The last two are the baselines.
    criterion, strength
        What was asked for, if anything.
    numbers : dict of str to Number
        By metric.
    front : bool
        Whether no other method of the data set beats it on fairness, utility and fidelity at once.
    cells : list of Link
        Of all seeds.
    """

    dataset: str
    label: str
    kind: str
    criterion: str | None
    strength: float | None
    numbers: dict[str, Number] = field(default_factory=dict)
    front: bool = False
    cells: list[Link] = field(default_factory=list)

    @property
    def method(self) -> tuple[str, str | None, float | None]:
        """What makes it the same method on another data set."""
        return self.label, self.criterion, self.strength

    @property
    def baseline(self) -> bool:
        """Whether it is real data or the constant predictor."""
        return self.kind in ("real", "constant")

    @property
    def failures(self) -> list[Link]:
        """Cells that failed."""
        return [link for link in self.cells if link.status == "failed"]


@dataclass(frozen=True)
class Standing:
    """How a method stands over all data sets, in one measure.

    Attributes
    ----------
    method : tuple
        Label, criterion, strength.
    rank : float
        Mean over data sets.
    difference, low, high : float
        To the method with the best mean rank, with the 95 % interval of a paired bootstrap; NaN where no pair is.
    n : int
        Data sets on which it has a number.
    """

    method: tuple[str, str | None, float | None]
    rank: float
    difference: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Measure:
    """One of the three measures, over all data sets.

    Attributes
    ----------
    role : {"fairness", "utility", "fidelity"}
        What it measures.
    metric : str
        Its name.
    standings : list of Standing
        The best mean rank first. Methods that can have no such number (mitigators have no fidelity) are left out.
    differences : Differences or None
        Whether ranks differ by more than chance.
    """

    role: str
    metric: str
    standings: list[Standing]
    differences: Differences | None


@dataclass
class Leaderboard:
    """Everything that the renderings show.

    Attributes
    ----------
    name : str
        Of the plan.
    folder : Path
        Of the benchmark.
    rows : list of Row
        By data set; the baselines of each last.
    columns : list of str
        Metrics in the order in which they are shown, and costs.
    roles : dict
        ``"fairness"``, ``"utility"``, ``"fidelity"`` → metric.
    measures : list of Measure
        Ranks and differences.
    attribute : str or None
        Sensitive column that is measured; None for the worst of them.
    lower : frozenset of str
        Columns of which less is better.
    meta : dict
        Depth, seeds, code, counts of cells.
    remarks : list of str
        What a careful reader has to know.
    """

    name: str
    folder: Path
    rows: list[Row]
    columns: list[str]
    roles: dict[str, str]
    measures: list[Measure]
    attribute: str | None
    lower: frozenset[str]
    meta: dict[str, Any]
    remarks: list[str]

    @property
    def datasets(self) -> list[str]:
        """Data sets in the order of the plan."""
        return list(dict.fromkeys(row.dataset for row in self.rows))

    def of(self, dataset: str) -> list[Row]:
        """Return the rows of a data set."""
        return [row for row in self.rows if row.dataset == dataset]

    def head(self, column: str) -> str:
        """Return the heading of a column, with the direction that is good."""
        text = HEADS.get(column, column.replace("_", " "))
        if column in MIDDLE:
            return f"{text} →{MIDDLE[column]:g}"
        return f"{text} {'↓' if column in self.lower or column in COSTS else '↑'}"

    def metric_on(self, role: str, dataset: str) -> str:
        """Return the metric of a role on a data set: the one chosen, or what stands in where the target is a number."""
        wanted = self.roles[role]
        return wanted if wanted in self._there.get(dataset, ()) else FOR_NUMBERS.get(wanted, wanted)

    def best_of(self, dataset: str, column: str) -> float | None:
        """Return the best mean of a column among the methods of a data set, baselines left out."""
        return self._best.get((dataset, column))

    @cached_property
    def _best(self) -> dict[tuple[str, str], float]:
        lower = self.lower | frozenset(COSTS)
        found: dict[tuple[str, str], float] = {}
        for row in self.rows:
            for column, number in row.numbers.items() if not row.baseline else ():
                place, mean = (row.dataset, column), number.mean
                if place not in found or oriented(column, mean, lower) > oriented(
                    column, found[place], lower
                ):
                    found[place] = mean
        return found

    @cached_property
    def _there(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for row in self.rows:
            found.setdefault(row.dataset, set()).update(row.numbers)
        return found

    def to_frame(self) -> pl.DataFrame:
        """Return one row for each method and data set, with mean and standard deviation of every column."""
        import polars as pl

        rows = []
        for row in self.rows:
            told: dict[str, Any] = {
                "dataset": row.dataset, "method": row.label, "kind": row.kind, "criterion": row.criterion,
                "strength": row.strength, "front": row.front,
                "seeds": sum(link.status == "done" for link in row.cells), "failed": len(row.failures),
            }  # fmt: skip
            for column in self.columns:
                number = row.numbers.get(column)
                told[column] = None if number is None else number.mean
                told[f"{column}_sd"] = None if number is None else number.std
            rows.append(told)
        words = {"dataset", "method", "kind", "criterion"}
        schema: dict[str, Any] = {
            name: pl.String if name in words else pl.Boolean if name == "front" else pl.Int64
            if name in ("seeds", "failed") else pl.Float64
            for name in (rows[0] if rows else {})
        }  # fmt: skip
        return pl.DataFrame(rows, schema=schema)


def oriented(metric: str, value: float, lower: frozenset[str] = LOWER) -> float:
    """Return a number of which more is better."""
    if metric in MIDDLE:
        return -abs(value - MIDDLE[metric])
    return -value if metric in lower else value
