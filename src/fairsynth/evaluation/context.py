"""What all sections of an evaluation share: the tables, the settings, and the list of scores."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fairsynth.data.schema import Schema
from fairsynth.data.table import Groups, Table
from fairsynth.evaluation.downstream import Downstream, FittedModel, Task
from fairsynth.evaluation.result import Score, Section

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Depth:
    """How much work an evaluation does.

    Attributes
    ----------
    training_rows : int
        Most rows that a downstream model learns from.
    distance_rows : int
        Most rows on either side of a distance (density, coverage, closest records).
    detection_rows, folds : int
        Most rows on either side of the classifier test, and its folds.
    column_rows : int
        Most rows for distributions of columns and pairs.
    draws : int
        Bootstrap samples of test people.
    ranking_draws : int
        Bootstrap samples for the AUROC, which costs more.
    flip_rows : int
        Most test people whose sensitive attribute is flipped.
    flip_joint : bool
        Whether joint levels are flipped too.
    alpha : bool
        Whether α-precision, β-recall, authenticity and MMD are measured.
    attacks : int
        Attacks of each kind on privacy; 0 leaves them out.
    quality : bool
        Whether SDMetrics' quality score is computed, if it is installed.
    """

    training_rows: int
    distance_rows: int
    detection_rows: int
    folds: int
    column_rows: int
    draws: int
    ranking_draws: int
    flip_rows: int
    flip_joint: bool
    alpha: bool
    attacks: int
    quality: bool


DEPTHS: dict[str, Depth] = {
    "quick": Depth(10_000, 4_000, 8_000, 3, 20_000, 300, 50, 2_000, False, False, 0, False),
    "core": Depth(100_000, 20_000, 32_768, 3, 50_000, 1_000, 200, 5_000, False, True, 0, False),
    "full": Depth(100_000, 20_000, 32_768, 5, 100_000, 1_000, 200, 10_000, True, True, 1_000, True),
}


@dataclass
class Context:
    """The state of one run of an evaluation.

    Attributes
    ----------
    train, test : Table
        Real rows that the generator saw, and rows that it did not.
    synthetic : dict of str to Table
        Source → synthetic rows.
    task : Task
        What is predicted.
    downstream : Downstream
        Trains the models.
    depth : Depth
        How much work to do.
    models : tuple of str
        Downstream models.
    seed, threads, minimum_group : int
        Of all chance; fits that run side by side; people that a joint group needs to decide a headline.
    admissible : tuple of str
        Columns in which a difference between groups is accepted (conditional parity).
    population : mapping
        Attribute → level → share that is wanted; default is the shares among the real train rows.
    """

    train: Table
    test: Table
    synthetic: dict[str, Table]
    task: Task
    downstream: Downstream
    depth: Depth
    models: tuple[str, ...]
    seed: int = 0
    threads: int = 2
    minimum_group: int = 100
    admissible: tuple[str, ...] = ()
    population: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    artifacts: dict[str, Any] = field(default_factory=dict)
    fitted: dict[str, dict[str, FittedModel]] = field(default_factory=dict)
    tick: Callable[[str], None] = lambda what: None

    @property
    def schema(self) -> Schema:
        """Schema of all tables."""
        return self.train.schema

    @property
    def attributes(self) -> list[tuple[str, ...]]:
        """Each sensitive column alone, and all of them together if there are several."""
        single: list[tuple[str, ...]] = [(name,) for name in self.schema.sensitive]
        return [*single, tuple(self.schema.sensitive)] if len(single) > 1 else single

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that rows are compared by: all but identifiers."""
        return tuple(c.name for c in self.schema.columns if c.kind != "identifier")

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the random numbers of one purpose; they do not depend on what else was measured."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])

    def sample(self, frame: pl.DataFrame, rows: int, purpose: str) -> pl.DataFrame:
        """Return at most `rows` rows, drawn without replacement, in their old order."""
        return frame[self.sample_index(frame.height, rows, purpose)] if frame.height > rows else frame

    def sample_index(self, n: int, rows: int, purpose: str) -> Ints:
        """Return at most `rows` of the indices 0 … n-1, ascending."""
        if n <= rows:
            return np.arange(n)
        return np.sort(self.rng(purpose).choice(n, size=rows, replace=False))

    def note(self, text: str) -> None:
        """Add a note to the evaluation, once."""
        if text not in self.notes:
            self.notes.append(text)

    def add(
        self,
        section: Section,
        metric: str,
        value: float | None,
        *,
        interval: tuple[float, float] | None = None,
        note: str | None = None,
        **where: Any,
    ) -> None:
        """Add one score; what is not finite becomes None, and says so."""
        number = None if value is None else float(value)
        if number is not None and not math.isfinite(number):
            number = None
        if number is None:
            interval = None
            note = note or "not defined for these rows"
        low, high = interval or (None, None)
        self.scores.append(
            Score(section=section, metric=metric, value=number, low=low, high=high, note=note, **where)
        )


def known_groups(table: Table, columns: Sequence[str], keep: NDArray[np.bool_] | None = None) -> Groups:
    """Return the groups of a table, for some of its rows."""
    groups = table.groups(list(columns))
    return groups if keep is None else Groups(groups.codes[keep], groups.names, groups.attribute)
