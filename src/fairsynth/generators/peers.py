"""Other people's generators as they are, so that one benchmark can run them: TabularARGN, CTGAN and TVAE.

Each is a thin adapter over a package of the extra ``peers``, with the defaults of that package:

* TabularARGN with its fairness option: ``mostlyai-engine`` of MOSTLY AI (Apache-2.0). The probability of each label is
  mapped, group by group, through its quantiles to the law that it has in all groups while rows are drawn;
* CTGAN and TVAE (Xu et al., NeurIPS 2019): ``ctgan`` of the SDV project (DataCebo), under the Business Source License,
  which does not allow to offer it to others as a service that makes synthetic data. So it is in this extra alone,
  never a dependency of fairsynth; read its licence before you install it.

Rows go in as codes of levels and as numbers, and what comes out is put into the remembered range and grid of each
column. Groups are met by drawing more rows. These packages draw from the process's global random state: it is
seeded, lent for the length of a call to one thread at a time, and put back. They keep models as pickles, which run
code when they are read, so a fitted one cannot be saved.
"""

from __future__ import annotations

import math
import os
import random
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

import numpy as np
import polars as pl

from fairsynth.data.canonical import canonical_dtype
from fairsynth.data.schema import Column, Schema, grid_step
from fairsynth.data.table import JOINT, Table
from fairsynth.errors import BundleError, CapabilityError, DataError, MissingDependencyError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators.base import Capabilities, Generator
from fairsynth.generators.plain_vae import refuse_fairness
from fairsynth.generators.requests import Request, whole_rows
from fairsynth.generators.settings import check_settings
from fairsynth.progress import Progress, Step

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle

#: Rows that are drawn for each row of a rare group before it is given up.
MAX_DRAWN = 2000
_SEED_VARIABLE = "MOSTLYAI_ENGINE_SEED"
_lock = RLock()


@contextmanager
def borrowed_chance(seed: int) -> Iterator[None]:
    """Seed all global random states for the length of a block, one thread at a time, and put them back."""
    import torch

    with _lock:
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        variable, count = os.environ.get(_SEED_VARIABLE), torch.get_num_threads()
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        os.environ[_SEED_VARIABLE] = str(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])
            torch.set_num_threads(count)
            os.environ.pop(_SEED_VARIABLE, None)
            if variable is not None:
                os.environ[_SEED_VARIABLE] = variable


def to_plain(table: Table, *, indicators: bool) -> pl.DataFrame:
    """Return the learned columns as ``c0``, ``c1``, …: levels as the text of their number, moments as they are.

    Parameters
    ----------
    table : Table
        The rows.
    indicators : bool
        For packages that take no missing number: a column ``m…`` says which are, and they hold the mean; moments
        become numbers.
    """
    columns = []
    for i, column in enumerate(_learned(table.schema)):
        values = table.frame[column.name].alias(f"c{i}")
        if _is_level(column):
            codes = values.to_physical() if column.kind == "categorical" else values.cast(pl.Int8)
            n = len(column.group_names())
            columns.append(codes.cast(pl.Int64).fill_null(n).cast(pl.String))
            continue
        if indicators:
            values = values.to_physical().cast(pl.Float64)
            if values.null_count():
                columns.append(values.is_null().cast(pl.Int8).cast(pl.String).alias(f"m{i}"))
                values = values.fill_null(
                    float(np.mean(column.bounds)) if values.mean() is None else values.mean()
                )
        columns.append(values)
    return pl.DataFrame(columns)


def from_plain(frame: pl.DataFrame, schema: Schema, rng: np.random.Generator) -> pl.DataFrame:
    """Return canonical rows of what `to_plain` describes; numbers are put into range and grid of their column.

    Parameters
    ----------
    frame : pl.DataFrame
        Columns ``c…`` and perhaps ``m…``.
    schema : Schema
        Of the table.
    rng : np.random.Generator
        Draws a value where there is none, and none can be missing, from the others of the column.
    """
    columns = []
    for i, column in enumerate(_learned(schema)):
        if _is_level(column):
            columns.append(_levels(frame[f"c{i}"], column, rng))
            continue
        given = frame[f"c{i}"]
        if given.dtype.is_temporal():
            given = given.cast(pl.Datetime("us")).to_physical()
        numbers = given.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy().copy()
        if f"m{i}" in frame.columns:
            numbers[(frame[f"m{i}"].cast(pl.String) == "1").to_numpy()] = np.nan
        columns.append(_numbers(numbers, column, rng))
    return pl.DataFrame(columns)


def _learned(schema: Schema) -> list[Column]:
    return [column for column in schema if column.kind != "identifier"]


def _is_level(column: Column) -> bool:
    return column.kind in ("categorical", "boolean")


def _levels(texts: pl.Series, column: Column, rng: np.random.Generator) -> pl.Series:
    names = column.group_names()
    codes = texts.cast(pl.String).cast(pl.Int64, strict=False).fill_null(-1).to_numpy().copy()
    known = len(names) + column.has_missing
    _replace(codes, (codes < 0) | (codes >= known), rng, known)
    gone = codes == len(names)
    codes[gone] = 0
    dtype = canonical_dtype(column)
    if isinstance(dtype, pl.Enum):
        series = pl.Series(column.name, names, dtype=dtype).gather(codes.astype(np.uint32))
    else:
        series = pl.Series(column.name, codes == 1)
    return _without(series, gone)


def _numbers(values: np.ndarray, column: Column, rng: np.random.Generator) -> pl.Series:
    low, high = column.bounds
    gone = ~np.isfinite(values)
    if not column.has_missing:
        _replace(values, gone, rng, None, middle=(low + high) / 2)
        gone[:] = False
    values[gone] = low
    step = grid_step(column)
    if column.kind == "continuous" and step:
        # Dividing by a power of ten gives the double nearest to the decimal; multiplying does not.
        per_unit = round(1 / step)
        values = np.clip(
            np.round(values * per_unit), math.ceil(low * per_unit - 1e-6), high * per_unit + 1e-6
        )
        series = pl.Series(column.name, np.floor(values + 1e-6) / per_unit)
    elif column.kind == "continuous":
        series = pl.Series(column.name, np.clip(values, low, high))
    else:
        first, last = -(-int(low) // int(step)), int(high) // int(step)
        steps = np.clip(np.round(values / step), max(first, -(2**62)), min(last, 2**62)).astype(np.int64)
        series = pl.Series(column.name, np.clip(steps, first, last) * np.int64(step))
        if column.kind == "datetime":
            series = series.cast(pl.Datetime("us"))
    return _without(series, gone)


def _replace(
    values: np.ndarray, wrong: np.ndarray, rng: np.random.Generator, known: int | None, middle: float = 0.0
) -> None:
    """Put values of other rows, or any known one where there is none, into the places that are wrong."""
    n = int(wrong.sum())
    if not n:
        return
    right = values[~wrong]
    if len(right):
        values[wrong] = rng.choice(right, n)
    else:
        values[wrong] = rng.integers(0, known, n) if known else middle


def _without(series: pl.Series, gone: np.ndarray) -> pl.Series:
    if not gone.any():
        return series
    frame = pl.DataFrame([series, pl.Series("gone", gone)])
    return frame.select(pl.when(~pl.col("gone")).then(pl.col(series.name)))[series.name]


class Peer(Generator):
    """What the adapters share.

    Attributes
    ----------
    group_names_ : tuple of str
        Joint groups that were seen.
    """

    def _package(self) -> Any:
        """Import the package.

        Raises
        ------
        MissingDependencyError
            If it is not installed, or what is installed does not fit together.
        """
        package = self.capabilities.package
        try:
            return import_module(package)
        except (ImportError, RuntimeError) as error:  # the latter where parts are for another PyTorch
            raise MissingDependencyError(
                f"{self.name} needs the package {package.replace('.', '-')} ({error}): pip install "
                f'"fairsynth[peers]".{self._caution}'
            ) from error

    _caution: ClassVar[str] = ""

    @abstractmethod
    def _learn(self, table: Table) -> None:
        """Fit the package's model to the rows, with chance seeded."""

    @abstractmethod
    def _rows(self, n: int) -> Any:
        """Return a pandas frame of `n` rows as `to_plain` names them, with chance seeded."""

    def _check_settings(self) -> None:
        """Refuse settings that are out of range."""

    def _fit(self, table: Table, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        codes = table.groups().codes
        # Numbers are kept in the remembered range, in which a band that few people are of may not lie.
        plain = from_plain(to_plain(table, indicators=False), table.schema, np.random.default_rng(0))
        if len(np.unique(Table._of(plain, table.schema).groups().codes)) < 2:
            raise DataError(
                f"all rows are of one group of {', '.join(table.schema.sensitive)}, as far as the remembered range of "
                "numbers goes: every measure of fairness would be perfect and mean nothing. Choose other edges."
            )
        self._package()
        stage = f"fit {self.name}"
        if progress is not None:
            progress(Step(stage, 0, 1))
        with borrowed_chance(self.seed % 2**32):
            self._learn(table)
        self.group_names_ = tuple(table.groups().names[code] for code in np.unique(codes))
        if progress is not None:
            progress(Step(stage, 1, 1))

    def _prepare(self, request: Request) -> dict[str, float] | None:
        """Return the share of each group that is asked for, or None for those the model draws."""
        if request.group_shares is None:
            return None
        if request.group_shares == "uniform":
            return dict.fromkeys(self.group_names_, 1 / len(self.group_names_))
        shares = {JOINT.join(levels): share for levels, share in request.group_shares.items() if share > 0}
        for name in shares:
            if name not in self.group_names_:
                raise CapabilityError(
                    f"sensitive: no row of the group {name!r} was learned from; "
                    f"the groups are {', '.join(self.group_names_[:20])}."
                )
        return {name: share / sum(shares.values()) for name, share in shares.items()}

    def _draw(self, n: int, request: dict[str, float] | None, seed: np.random.SeedSequence) -> pl.DataFrame:
        rng = np.random.default_rng(seed)
        if request is None:
            return self._canonical(n, rng)
        names = list(request)
        room = dict(
            zip(names, whole_rows(n, np.array([request[name] for name in names])).tolist(), strict=True)
        )
        found, have, drawn = [], 0, 0
        while have < n:
            rate = max(have / drawn, 1e-4) if drawn else 0.5
            frame = self._canonical(int(np.clip((n - have) / rate, 256, 32_768)), rng)
            drawn += len(frame)
            labels = np.asarray(Table._of(frame, self.schema_).groups().labels)
            places = np.concatenate([np.flatnonzero(labels == name)[: room[name]] for name in names])
            for name, count in zip(*np.unique(labels[places], return_counts=True), strict=True):
                room[str(name)] -= int(count)
            found.append(frame[np.sort(places)])
            have += len(places)
            if drawn > MAX_DRAWN * (n - have) + 200_000 and have < n:
                rare = max(room, key=lambda name: room[name])
                raise CapabilityError(
                    f"sensitive: among {drawn:,} rows drawn too few are of the group {rare!r}; {self.name} hardly ever "
                    "draws it. Ask for fewer rows or other shares."
                )
        return pl.concat(found)[rng.permutation(n)]

    def _canonical(self, n: int, rng: np.random.Generator) -> pl.DataFrame:
        with borrowed_chance(int(rng.integers(2**32))):
            rows = self._rows(n)
        return from_plain(pl.from_pandas(rows), self.schema_, rng)

    def _state(self) -> NoReturn:
        raise CapabilityError(f"{self.name} cannot be saved.")

    def _restore(self, content: Bundle) -> NoReturn:
        raise BundleError(
            f"{content.path}: says that it holds a {self.name}, and such a model is never in a file."
        )


class TabularARGN(Peer):
    """MOSTLY AI's autoregressive network, with its statistical parity while rows are drawn.

    Parameters
    ----------
    fairness : Fairness or None
        Demographic parity at strength 1 or 0; None is strength 0.
    model_size : {"small", "medium", "large"}
        Of the network.
    epochs : float
        Passes over the rows, at most; it stops by itself when validation says so.
    batch_size : int or None
        None lets the package choose.
    value_protection : bool
        Whether rare levels and extreme numbers are never drawn, as is the package's default.
    seed : int
        Decides everything.

    References
    ----------
    Tiwald et al., "TabularARGN: A Flexible and Efficient Auto-Regressive Framework for Generating High-Fidelity
    Synthetic Data", 2025; package ``mostlyai-engine``, Apache-2.0.
    """

    fairness: Fairness | None
    name: ClassVar[str] = "tabularargn"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="MOSTLY AI's autoregressive network, as it is (extra: peers)",
        paper="TabularARGN, 2025; package mostlyai-engine",
        criteria=("demographic_parity",),
        strength=False,
        targets=("binary", "multiclass", "numeric"),
        where=False,
        saves=False,
        package="mostlyai.engine",
    )
    _caution: ClassVar[str] = (
        " Beside a PyTorch built for the CPU, remove the torchvision and torchaudio that come with it, which are built "
        "for CUDA and are not needed: pip uninstall torchvision torchaudio."
    )

    def __init__(
        self,
        *,
        fairness: Fairness | None = Fairness(),  # noqa: B008  # frozen
        model_size: Literal["small", "medium", "large"] = "medium",
        epochs: float = 100,
        batch_size: int | None = None,
        value_protection: bool = True,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.model_size = model_size
        self.epochs = epochs
        self.batch_size = batch_size
        self.value_protection = value_protection
        self.seed = seed

    def _check_settings(self) -> None:
        check_settings(
            self,
            choices={"model_size": ("small", "medium", "large")},
            whole=() if self.batch_size is None else ("batch_size",),
            above_zero=("epochs",),
        )
        if self.fairness is not None and 0 < self.fairness.strength < 1:
            raise CapabilityError(
                f"{self.name} has its fairness on or off, and strength={self.fairness.strength:g} was asked for; "
                "choose 0 or 1."
            )

    def _learn(self, table: Table) -> None:
        schema = table.schema
        columns = _learned(schema)
        place = {column.name: f"c{i}" for i, column in enumerate(columns)}
        self.options_ = None
        if self.fairness is not None and self.fairness.strength > 0:
            for name in (schema.target, *schema.sensitive):
                if not _is_level(schema[name]):
                    raise CapabilityError(
                        f"{self.name} makes labels fair between levels of columns, and {name!r} is "
                        f"{schema[name].kind}; declare it categorical, or ask for Fairness(strength=0)."
                    )
            self.options_ = {
                "target_column": place[schema.target],
                "sensitive_columns": [place[name] for name in schema.sensitive],
            }
        self.model_ = self._package().TabularARGN(
            model=f"MOSTLY_AI/{self.model_size.capitalize()}",
            max_epochs=self.epochs,
            batch_size=self.batch_size,
            value_protection=self.value_protection,
            tgt_encoding_types={
                place[column.name]: "TABULAR_CATEGORICAL" for column in columns if _is_level(column)
            },
            device="cpu",
            random_state=self.seed % 2**32,
        )
        self.model_.fit(to_plain(table, indicators=False).to_pandas())

    def _rows(self, n: int) -> Any:
        return self.model_.sample(
            n, fairness=self.options_, rare_category_replacement_method="SAMPLE", device="cpu"
        )


class _FromCTGAN(Peer):
    """The two models of the package ``ctgan``."""

    fairness: None
    _model: ClassVar[str]
    _caution: ClassVar[str] = (
        " Its licence (Business Source License) does not allow to offer it to others as a service that makes "
        "synthetic data: read it first."
    )

    def _options(self) -> dict[str, Any]:
        return {name: value for name, value in self.get_params(deep=False).items() if name not in _OWN}

    def _learn(self, table: Table) -> None:
        plain = to_plain(table, indicators=True)
        levels = [name for name, dtype in plain.schema.items() if dtype == pl.String]
        made = getattr(self._package(), self._model)
        self.model_ = made(epochs=math.ceil(self.epochs), enable_gpu=False, **self._options())
        self.model_.fit(plain.to_pandas(), levels)

    def _rows(self, n: int) -> Any:
        return self.model_.sample(n)


#: Settings that do not go to the package under their own name.
_OWN = ("fairness", "seed", "epochs")


class CTGAN(_FromCTGAN):
    """The conditional generative adversarial network of the SDV project, without fairness.

    Parameters
    ----------
    fairness : None
        It cannot be asked for any; anything else is refused.
    epochs : float
        Passes over the rows, rounded up.
    batch_size : int
        Rows a step; a multiple of `pac` and even.
    pac : int
        Rows that the critic judges together.
    embedding_dim : int
        Dimensions of the noise.
    discriminator_steps : int
        Steps of the critic before one of the generator.
    seed : int
        Decides everything.

    References
    ----------
    Xu et al., "Modeling Tabular Data using Conditional GAN", NeurIPS 2019; package ``ctgan``, Business Source License.
    """

    name: ClassVar[str] = "ctgan"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="conditional GAN of the SDV project, as it is, no fairness (extra: peers)",
        paper="CTGAN, NeurIPS 2019; package ctgan, Business Source License",
        criteria=(),
        strength=False,
        targets=("binary", "multiclass", "numeric"),
        where=False,
        saves=False,
        package="ctgan",
    )
    _model: ClassVar[str] = "CTGAN"

    def __init__(
        self,
        *,
        fairness: None = None,
        epochs: float = 300,
        batch_size: int = 500,
        pac: int = 10,
        embedding_dim: int = 128,
        discriminator_steps: int = 1,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.epochs = epochs
        self.batch_size = batch_size
        self.pac = pac
        self.embedding_dim = embedding_dim
        self.discriminator_steps = discriminator_steps
        self.seed = seed

    def _check_settings(self) -> None:
        refuse_fairness(self)
        check_settings(
            self, whole=("batch_size", "pac", "embedding_dim", "discriminator_steps"), above_zero=("epochs",)
        )
        if self.batch_size % 2 or self.batch_size % self.pac:
            raise SettingsError(
                f"batch_size={self.batch_size} must be even and a multiple of pac={self.pac}: the critic judges "
                f"{self.pac} rows together."
            )


class TVAE(_FromCTGAN):
    """The variational autoencoder of the SDV project, without fairness.

    Parameters
    ----------
    fairness : None
        It cannot be asked for any; anything else is refused.
    epochs : float
        Passes over the rows, rounded up.
    batch_size : int
        Rows a step.
    embedding_dim : int
        Dimensions of the latent.
    seed : int
        Decides everything.

    References
    ----------
    Xu et al., "Modeling Tabular Data using Conditional GAN", NeurIPS 2019; package ``ctgan``, Business Source License.
    """

    name: ClassVar[str] = "tvae"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="variational autoencoder of the SDV project, as it is, no fairness (extra: peers)",
        paper="TVAE, NeurIPS 2019; package ctgan, Business Source License",
        criteria=(),
        strength=False,
        targets=("binary", "multiclass", "numeric"),
        where=False,
        saves=False,
        package="ctgan",
    )
    _model: ClassVar[str] = "TVAE"

    def __init__(
        self,
        *,
        fairness: None = None,
        epochs: float = 300,
        batch_size: int = 500,
        embedding_dim: int = 128,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.epochs = epochs
        self.batch_size = batch_size
        self.embedding_dim = embedding_dim
        self.seed = seed

    def _check_settings(self) -> None:
        refuse_fairness(self)
        check_settings(self, whole=("batch_size", "embedding_dim"), above_zero=("epochs",))
