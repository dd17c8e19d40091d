"""The contract that every generator keeps: fit, sample, save, load, in scikit-learn's manner."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Generator as Iterating
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator

from fairsynth.cores import cores, in_order
from fairsynth.data.frames import to_arrow
from fairsynth.data.schema import Schema
from fairsynth.data.streams import StreamedTable
from fairsynth.data.table import Table, fresh_identifiers
from fairsynth.errors import (
    BundleError,
    CapabilityError,
    DataError,
    FairsynthWarning,
    NotFittedError,
    SettingsError,
)
from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.generators.requests import (
    Mix,
    Request,
    label_rows,
    read_conditions,
    read_group_shares,
    read_label_shares,
)
from fairsynth.generators.settings import check_seed
from fairsynth.progress import Progress, Step

if TYPE_CHECKING:
    import pyarrow as pa

    from fairsynth.bundle import Bundle

#: Rows drawn at a time. Part of what a seed means: another number here gives other rows.
BLOCK_ROWS = 32_768


@dataclass(frozen=True)
class Capabilities:
    """What a method can do; shown by ``fairsynth models``, and asked before it is tried.

    Attributes
    ----------
    title : str
        What it is, in one line.
    paper : str
        Where it was published.
    criteria : tuple of str
        Fairness criteria that it can be asked for; empty if it has no such notion.
    strength : bool
        Whether the strength is a dial, or only on and off.
    targets : tuple of str
        Of ``"binary"``, ``"multiclass"``, ``"numeric"``.
    several_sensitive : bool
        Whether groups may be the joint levels of several columns.
    where : bool
        Whether rows can be asked for by condition.
    teacher : bool
        Whether its file can be distilled without the data.
    data_free : bool
        Whether it can be made from a teacher's file alone.
    private : bool
        Whether it is differentially private.
    saves : bool
        Whether a fitted model can be saved to a file.
    package : str
        Import name of the package of the extra ``peers`` that it wraps; empty for methods of our own.
    """

    title: str
    paper: str
    criteria: tuple[str, ...] = CRITERIA
    strength: bool = True
    targets: tuple[str, ...] = ("binary", "multiclass")
    several_sensitive: bool = True
    where: bool = True
    teacher: bool = False
    data_free: bool = False
    private: bool = False
    saves: bool = True
    package: str = ""

    @property
    def installed(self) -> bool:
        """Whether the package that it wraps is there; nothing is imported but what that package lies in."""
        try:
            return not self.package or find_spec(self.package) is not None
        except ModuleNotFoundError:
            return False

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


class Generator(BaseEstimator, ABC):
    """A model of a table from which fair synthetic rows are drawn.

    Hyper-parameters are keyword arguments of ``__init__`` and stored under their names; nothing is done before
    `fit`. A method is one subclass that says how to fit (`_fit`), how to draw a block of rows (`_draw`) and
    what of it goes into a file (`_state`, `_restore`).

    Attributes
    ----------
    schema_ : Schema
        Of the table that was learned.
    n_rows_ : int
        How many rows were learned from.
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    #: Whether it can be fitted to a `StreamedTable`.
    streams: ClassVar[bool] = False
    #: Whether None may stand for `fairness`.
    fairness_optional: ClassVar[bool] = True

    fairness: Fairness | None
    seed: int

    @abstractmethod
    def _fit(self, table: Table, *, progress: Progress | None, checkpoint: Path | None) -> None:
        """Learn from a checked table, setting attributes that end in an underscore."""

    @abstractmethod
    def _draw(self, n: int, request: Any, seed: np.random.SeedSequence) -> pl.DataFrame:
        """Return `n` canonical rows without identifiers; must be safe to call from several threads."""

    def _draw_batch(self, n: int, request: Any, seed: np.random.SeedSequence) -> pa.RecordBatch | None:
        """Return what `_draw` would, straight as a batch, for methods that can; None where it takes a frame."""
        return None

    def _prepare(self, request: Request) -> Any:
        """Turn a request into what `_draw` needs, once for all blocks."""
        return request

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        """Return documents, tensors, and what in them came from the data."""

    @abstractmethod
    def _restore(self, content: Bundle) -> None:
        """Set the learned attributes from a file that was checked as a file, not yet as this model."""

    def fit(
        self, table: Any, *, progress: Progress | None = None, checkpoint: Path | str | None = None
    ) -> Self:
        """Learn from a table; a `FairsynthWarning` repeats each of ``table.schema.notes``.

        Parameters
        ----------
        table : Table or StreamedTable
            Rows whose schema names a target and sensitive columns. Not every method can learn from rows that are never
            all in memory (`streams`).
        progress : callable, optional
            Told of every `Step`; see `fairsynth.progress.bar`.
        checkpoint : path, optional
            Folder in which the work is kept; the same call goes on from there after a crash. Nothing is kept of a
            `StreamedTable`, which is read twice and no more.

        Returns
        -------
        Self

        Raises
        ------
        SchemaError, DataError
            If the table cannot be learned from.
        CapabilityError
            If this method cannot do what is asked.
        """
        if isinstance(table, StreamedTable):
            return self._fit_stream(table, progress)
        if not isinstance(table, Table):
            raise DataError(
                f"fit needs a Table, not {type(table).__name__}: wrap your frame with "
                "Table(frame, target=..., favorable=..., sensitive=[...])."
            )
        check_seed(self.seed)
        self._check(table)
        _pass_on(table.schema)
        self._fit(table, progress=progress, checkpoint=Path(checkpoint) if checkpoint is not None else None)
        self.schema_, self.n_rows_ = table.schema, len(table)
        return self

    def _fit_stream(self, stream: StreamedTable, progress: Progress | None) -> Self:
        if not self.streams:
            raise CapabilityError(
                f"{self.name} needs all rows in memory, and cannot learn from a StreamedTable; give Table(path), or "
                "take audited-trees or fair-trees."
            )
        check_seed(self.seed)
        self._check(stream.sample)
        _pass_on(stream.schema)
        self._fit_streamed(stream, progress=progress)
        self.schema_, self.n_rows_ = stream.schema, len(stream)
        return self

    def _fit_streamed(self, stream: StreamedTable, *, progress: Progress | None) -> None:
        """Learn as `_fit` does from rows that come in batches, for methods that say they can."""
        raise NotImplementedError

    def _check(self, table: Table) -> None:
        schema, can = table.schema, self.capabilities
        if not schema.target or not schema.sensitive:
            lacking = "target" if not schema.target else "sensitive column"
            raise DataError(
                f"{self.name} needs a {lacking}; name it: Table(..., target=..., sensitive=[...]), or --target and "
                "--sensitive on the command line."
            )
        if len(schema.sensitive) > 1 and not can.several_sensitive:
            raise CapabilityError(
                f"{self.name} takes one sensitive column, and {len(schema.sensitive)} are named; keep one."
            )
        column = schema[schema.target]
        kind = "numeric" if column.kind not in ("categorical", "boolean") else "multiclass"
        if kind == "multiclass" and len(column.group_names()) == 2:
            kind = "binary"
        if kind not in can.targets:
            raise CapabilityError(
                f"{self.name} does not take a {kind} target, and {schema.target!r} is one; choose a method that "
                "does (`fairsynth models`), or declare it categorical."
            )
        self._check_variety(table)
        if self.fairness is None and self.fairness_optional:
            return
        if not isinstance(self.fairness, Fairness):
            raise SettingsError(
                f"fairness={self.fairness!r} must be a Fairness, such as fs.Fairness('demographic_parity'); at "
                "strength 0 it asks for nothing."
            )
        criterion = self.fairness.criterion
        if can.criteria and criterion not in can.criteria:
            raise CapabilityError(
                f"{self.name} cannot be asked for {criterion}; it knows {', '.join(can.criteria)}."
            )
        if criterion != "demographic_parity" and not schema.favorable:
            if schema.target is not None and schema[schema.target].kind not in ("categorical", "boolean"):
                raise CapabilityError(
                    f"{criterion} compares decisions, and target {schema.target!r} is a number: ask for "
                    "demographic_parity, or cut it into levels first and say which are favorable."
                )
            raise CapabilityError(
                f"{criterion} needs to know which target value is favorable: name favorable=...."
            )

    def _check_variety(self, table: Table) -> None:
        schema = table.schema
        groups = [name for name in schema.sensitive if schema[name].edges is None]
        if not set(schema.features) - set(groups):
            raise DataError(
                f"there is no other column than target and sensitive ones ({schema.target}, {', '.join(groups)}): "
                "nothing is left to generate. Add the columns that a later model reads."
            )
        if table.frame[schema.target].n_unique() < 2:
            raise DataError(f"target {schema.target!r} has one value only in these rows: nothing to learn.")
        if len(np.unique(table.groups().codes)) < 2:
            raise DataError(
                f"these rows are all of one group of {', '.join(schema.sensitive)}: every measure of fairness would "
                "be perfect and mean nothing. Choose other rows or another column."
            )

    def sample(
        self,
        n: int,
        *,
        seed: int | None = None,
        where: Mapping[str, Any] | None = None,
        sensitive: Mix = "empirical",
        target_mix: Mapping[Any, float] | None = None,
    ) -> Any:
        """Draw synthetic rows.

        Parameters
        ----------
        n : int
            How many.
        seed : int, optional
            The same seed gives the same rows; by default that of the model.
        where : mapping, optional
            Column → value: only rows with these values, exact to the row. None means missing.
        sensitive : {"empirical", "uniform"} or mapping, default="empirical"
            Shares of the groups: as learned, equal, or given by name: ``{"Female": 0.5, "Male": 0.5}``, joint
            groups as ``"Black × Female"`` or ``("Black", "Female")``. The label law of each group stays.
        target_mix : mapping, optional
            Target level → share of the rows, exact to the row: ``{">50K": 0.5, "<=50K": 0.5}``. The groups of each
            label come as the model has them. These shares and those of groups are taken in proportion; what is not
            named gets no rows, unless they sum to less than 1, which is refused.

        Returns
        -------
        frame
            Of the kind that the model learned from, with the same columns, dtypes, order and levels.

        Raises
        ------
        NotFittedError
            Before `fit`.
        SettingsError, DataError
            If `n`, a column, a value or a group does not exist, or shares leave out who gets the rest.
        CapabilityError
            If rows such as asked for are too rare to be found.
        """
        return self.sample_table(
            n, seed=seed, where=where, sensitive=sensitive, target_mix=target_mix
        ).native()

    def sample_table(
        self,
        n: int,
        *,
        seed: int | None = None,
        where: Mapping[str, Any] | None = None,
        sensitive: Mix = "empirical",
        target_mix: Mapping[Any, float] | None = None,
    ) -> Table:
        """Draw synthetic rows as a `Table`; arguments as of `sample`."""
        with closing(self._blocks(n, seed, where, sensitive, target_mix)) as blocks:
            frame = pl.concat(list(blocks))
        return Table._of(frame.select(self.schema_.names), self.schema_)

    def iter_batches(
        self,
        n: int,
        *,
        seed: int | None = None,
        where: Mapping[str, Any] | None = None,
        sensitive: Mix = "empirical",
        target_mix: Mapping[Any, float] | None = None,
    ) -> Iterating[pa.RecordBatch, None, None]:
        """Draw synthetic rows as Arrow record batches, in memory that does not grow with `n`; see `sample`."""
        yield from self._blocks(n, seed, where, sensitive, target_mix, finish=self._to_arrow)

    def _to_arrow(self, frame: pl.DataFrame) -> pa.RecordBatch:
        return to_arrow(frame, self.schema_)

    def sample_to(
        self,
        path: str | os.PathLike[str],
        n: int,
        *,
        seed: int | None = None,
        where: Mapping[str, Any] | None = None,
        sensitive: Mix = "empirical",
        target_mix: Mapping[Any, float] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Draw synthetic rows straight into a file, which appears only when it is whole.

        Parameters
        ----------
        path : path
            .parquet, .csv, .csv.gz or .xlsx.
        n, seed, where, sensitive, target_mix
            As of `sample`.
        progress : callable, optional
            Told after every block.
        """
        from fairsynth.data.io import TableWriter

        self._fitted()
        batches = self.iter_batches(n, seed=seed, where=where, sensitive=sensitive, target_mix=target_mix)
        writer = TableWriter(path, self.schema_, expected=n if isinstance(n, int) else 0)
        try:
            with writer, closing(batches):
                for batch in batches:
                    writer.write(batch)
                    if progress is not None:
                        progress(Step("sample", writer.rows, n))
        except BaseException:
            writer.discard()
            raise

    def _blocks(
        self,
        n: int,
        seed: int | None,
        where: Mapping[str, Any] | None,
        sensitive: Mix,
        target_mix: Mapping[Any, float] | None = None,
        finish: Any = None,
        only: range | None = None,
        workers: int | None = None,
    ) -> Iterating[Any, None, None]:
        """Draw block after block on all cores, in order; each block has chance of its own.

        `only` names the blocks that are drawn, all by default, and `workers` how many are drawn at a time.
        """
        self._fitted()
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
            raise SettingsError(f"n={n!r}: ask for a whole number of rows, at least 1.")
        if not self.capabilities.where and (where or target_mix is not None):
            asked = (
                "it takes no target_mix; draw more and choose" if not where else "draw more and filter them"
            )
            raise CapabilityError(f"{self.name} cannot draw rows by condition, so {asked}.")
        conditions, shares = read_conditions(where, self.schema_), read_group_shares(sensitive, self.schema_)
        labels = None if target_mix is None else read_label_shares(target_mix, conditions, self.schema_)
        if labels is None:
            prepared = self._prepare(Request(conditions, shares))
        else:
            target = str(self.schema_.target)
            by_label = [self._prepare(Request(conditions | {target: level}, shares)) for level in labels]
        chosen = self.seed if seed is None else seed
        check_seed(chosen)
        sizes = [BLOCK_ROWS] * (int(n) // BLOCK_ROWS) + ([int(n) % BLOCK_ROWS] if n % BLOCK_ROWS else [])

        quotas = None if labels is None else label_rows(sizes, np.array(list(labels.values())))

        def rows(index: int) -> pl.DataFrame:
            if quotas is None:
                return self._draw(sizes[index], prepared, np.random.SeedSequence([chosen, index]))
            parts = [
                self._draw(int(count), own, np.random.SeedSequence([chosen, index, label]))
                for label, (count, own) in enumerate(zip(quotas[index], by_label, strict=True))
                if count
            ]
            order = np.random.default_rng([chosen, index]).permutation(sizes[index])
            return pl.concat(parts)[order]

        # Identifiers are made as frames.
        straight = finish == self._to_arrow and quotas is None and not self.schema_.identifiers

        def block(index: int) -> Any:
            if straight:
                batch = self._draw_batch(sizes[index], prepared, np.random.SeedSequence([chosen, index]))
                if batch is not None:
                    return batch
            frame = rows(index)
            frame = frame.with_columns(
                fresh_identifiers(self.schema_[name], sizes[index], start=index * BLOCK_ROWS)
                for name in self.schema_.identifiers
            ).select(self.schema_.names)
            return frame if finish is None else finish(frame)

        wanted = range(len(sizes)) if only is None else only
        workers = max(1, min(len(wanted), workers or cores()))
        with _one_thread_of_torch():
            yield from in_order(block, wanted, workers)

    def _fitted(self) -> None:
        if not hasattr(self, "schema_"):
            raise NotFittedError(
                f"this {type(self).__name__} has learned nothing yet; call fit(table) first."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file without code in it, whole or not at all.

        Raises
        ------
        NotFittedError
            Before `fit`.
        CapabilityError
            If models of this method cannot be kept in a file that is safe to read.
        BundleError
            If the file cannot be written.
        """
        from fairsynth import bundle

        self._fitted()
        refuse_unsaved(type(self))
        documents, tensors, from_data = self._state()
        manifest = {
            "kind": "generator",
            "generator": self.name,
            "fairness": self.fairness.to_dict() if self.fairness else None,
            "n_rows": self.n_rows_,
            "settings": _plain(self.get_params(deep=False)),
            "parameters": int(sum(a.size for name, a in tensors.items() if name.startswith("net."))),
            "from_data": [
                {
                    "what": "schema: column names, level names, numeric ranges (means of extremes), roles",
                    "where": "documents/schema.json",
                },
                *from_data,
            ],
        }
        documents = {"schema": json.loads(self.schema_.to_json()), **documents}
        bundle.write(path, manifest, documents, tensors)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model of this class from a file.

        Raises
        ------
        BundleError
            If it is no such file, or holds another kind of model.
        """
        model = load_generator(path)
        if not isinstance(model, cls) or model.name != getattr(cls, "name", model.name):
            raise BundleError(f"{path}: holds a {model.name}, not a {cls.name}; use load_generator(path).")
        return model


def _pass_on(schema: Schema) -> None:
    """Say what was found when the columns were read: a column of names, once learned, is given away with every row."""
    for found in schema.notes:
        warnings.warn(found, FairsynthWarning, stacklevel=3)


def _one_thread_of_torch() -> AbstractContextManager[None]:
    """Keep torch to one thread, if a network has brought it along: to import it takes longer than most trees draw."""
    if "torch" not in sys.modules:
        return nullcontext()
    from fairsynth.nn.threads import threads

    return threads(1)


def refuse_unsaved(method: type[Generator]) -> None:
    """Raise CapabilityError if fitted models of a method cannot be saved."""
    if not method.capabilities.saves:
        raise CapabilityError(
            f"a {method.name} cannot be saved: its package keeps models as pickles, which run code when they are read. "
            "Use it in Python, and keep its rows: model.fit(table).sample_to(path, n)."
        )


def load_generator(path: str | os.PathLike[str]) -> Any:
    """Read any generator from its file, of tables or of images.

    Returns
    -------
    Generator or ImageGenerator

    Raises
    ------
    BundleError
        If the file is truncated, altered, foreign, hostile, or made by a newer version.
    """
    from fairsynth import bundle

    content = bundle.read(path)
    if content.manifest.get("kind") == "image-generator":
        from fairsynth.generators.images.base import image_generator_from

        return image_generator_from(content)
    return generator_from(content)


def generator_from(content: Bundle) -> Generator:
    """Build the generator that a checked file describes; see `load_generator`."""
    from fairsynth.generators.registry import get_generator_class

    manifest = content.manifest
    with content.guard():
        if manifest.get("kind") != "generator":
            raise BundleError(f"{content.path}: holds a {manifest.get('kind')}, not a model.")
        settings = manifest["settings"]
        if not isinstance(settings, dict):
            raise ValueError("the settings are no object")
        asked = manifest["fairness"]
        kind = get_generator_class(str(manifest["generator"]))
        known = kind().get_params(deep=False)
        if set(settings) - set(known):
            raise ValueError(f"unknown settings {sorted(set(settings) - set(known))}")
        settings = {
            name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
        }
        if "fairness" in known:
            settings["fairness"] = Fairness(**asked) if isinstance(asked, dict) else None
        model = kind(**settings)
        schema = Schema.from_json(json.dumps(content.document("schema")))
        n_rows = manifest["n_rows"]
        if not isinstance(n_rows, int) or n_rows < 0:
            raise ValueError("n_rows is no count")
        model.schema_, model.n_rows_ = schema, n_rows
        model._restore(content)
    return model


def fingerprint(model: Generator, table: Table, states: np.ndarray) -> str:
    """Return a checksum of data, settings and version: who has another one is another fit."""
    from fairsynth import __version__

    settings = _plain(model.get_params(deep=False))
    text = json.dumps([__version__, model.name, settings, table.schema.to_json()], sort_keys=True)
    return hashlib.sha256(text.encode() + np.ascontiguousarray(states).tobytes()).hexdigest()


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    plain = {}
    for name, value in settings.items():
        if name == "teacher":
            continue  # a teacher that was handed over is no setting of the student's file, nor is its path
        if isinstance(value, Fairness):
            value = value.to_dict()
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, np.generic):
            value = value.item()
        plain[name] = value
    return plain
