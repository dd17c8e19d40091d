"""A table: canonical rows with their schema, its splits, groups and favorable labels."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import polars as pl

from fairsynth.data.canonical import canonical_dtype, level_text, mask_missing, to_canonical
from fairsynth.data.declared import as_texts
from fairsynth.data.frames import RawFrame, from_native, to_native
from fairsynth.data.giveaways import with_notes
from fairsynth.data.infer import infer_schema
from fairsynth.data.io import read_any
from fairsynth.data.moments import DATETIME
from fairsynth.data.persons import persons_of
from fairsynth.data.schema import MICROSECONDS, MISSING_LEVEL, Column, Schema
from fairsynth.errors import DataError, FairsynthWarning, SchemaError, SettingsError

MIN_ROWS = 20
JOINT = " × "


@dataclass(frozen=True)
class Groups:
    """Which group every row belongs to.

    Attributes
    ----------
    codes : np.ndarray
        int64 ``(n,)``, positions in `names`.
    names : tuple of str
        All joint levels that the schema allows, also those without a row, in an order that is the same for
        every table of the schema: ``"Black × Female"``.
    attribute : str
        The columns: ``"race × sex"``.
    """

    codes: np.ndarray
    names: tuple[str, ...]
    attribute: str

    @property
    def counts(self) -> np.ndarray:
        """Rows in each group, int64 ``(len(names),)``."""
        return np.bincount(self.codes, minlength=len(self.names))

    @property
    def labels(self) -> np.ndarray:
        """Name of every row's group, object ``(n,)``."""
        return np.array(self.names, dtype=object)[self.codes]


class Table:
    """Canonical rows and what they mean; made from a frame, a file or a query, which is never changed.

    Parameters
    ----------
    data : frame, path or str
        pandas, Polars or PyArrow frame; path of a file: text (.csv, .csv.gz, .tsv), .parquet, .arrow, .feather, a
        workbook (.xlsx, .xls, .ods; one of its sheets as ``people.xlsx?sheet=2024``), of SPSS, Stata or SAS (.sav,
        .dta, .sas7bdat, .xpt), or JSON (.json, .jsonl); or ``duckdb:///file.db?query=SELECT ...``. What is read
        how: `read_any`.
    schema : Schema, optional
        What is known already; it wins over what the rows suggest, and the rows complete it. Roles
        given beside it win over its own.
    target : str, optional
        Column that a later model predicts. Rows in which it is missing are left out, with a warning.
    favorable : value or sequence of values, optional
        Values of the target that are good for the person; ``1``, ``"1"`` and ``1.0`` are the same.
    sensitive : str, sequence of str, or mapping
        Sensitive columns. A mapping gives the edges of numeric ones: ``{"sex": None, "age": [25, 60]}``.
    domain : str, optional
        Column that says which source a row comes from.
    identifiers : sequence of str
        Columns that are never learned.
    missing : str, sequence of str
        Texts that mean missing, beside the frame's own null and NaN: ``"?"``; ``"-1"`` also means the number.
    kinds : mapping, optional
        Column to kind, or to several fields of :class:`Column`:
        ``{"zip": "categorical", "age": {"edges": [25, 60]}}``.

    Attributes
    ----------
    schema : Schema
        What the columns are.
    frame : pl.DataFrame
        Canonical rows: ``Float64``, ``Int64``, ``Boolean``, ``Datetime("us")``, ``Enum`` of level texts;
        identifiers as they came; missing is null.
    repairs : list of str
        What `align` had to change, with counts; empty otherwise.

    Raises
    ------
    DataError
        If the rows cannot be used: no or fewer than 20 rows, infinite numbers, a target or sensitive column of one
        level, or without any value.
    SchemaError
        If what is said of the columns does not fit the rows.
    """

    schema: Schema
    frame: pl.DataFrame
    repairs: list[str]

    def __init__(
        self,
        data: Any,
        *,
        schema: Schema | None = None,
        target: str | None = None,
        favorable: Any = None,
        sensitive: str | Sequence[str] | Mapping[str, Sequence[float] | None] = (),
        domain: str | None = None,
        identifiers: str | Sequence[str] = (),
        missing: str | Sequence[str] = (),
        kinds: Mapping[str, str | Mapping[str, Any]] | None = None,
    ) -> None:
        known = (None, ()) if schema is None else (schema.target, schema.missing)
        raw = _of_known_outcome(_read(data), target or known[0], as_texts(missing) or known[1])
        if len(raw.frame) < MIN_ROWS:
            held = f"{len(raw.frame)} rows" if len(raw.frame) else "no rows"
            raise DataError(f"the table has {held}; at least {MIN_ROWS} are needed to learn from.")
        self.schema = infer_schema(
            raw,
            base=schema,
            target=target,
            favorable=favorable,
            sensitive=sensitive,
            domain=domain,
            identifiers=identifiers,
            missing=missing,
            kinds=kinds,
        )
        self.frame, self.repairs = _canonical(raw, self.schema, strict=True)
        self.schema = with_notes(self.schema, schema, self.frame)

    @classmethod
    def _of(cls, frame: pl.DataFrame, schema: Schema, repairs: list[str] | None = None) -> Table:
        table = cls.__new__(cls)
        table.frame, table.schema, table.repairs = frame, schema, repairs or []
        return table

    def __len__(self) -> int:
        """Count the rows."""
        return self.frame.height

    def __repr__(self) -> str:
        """Say how large the table is and what roles its columns play."""
        schema = self.schema
        roles = [f"target={schema.target!r}"] if schema.target else []
        roles += [f"sensitive={list(schema.sensitive)}"] if schema.sensitive else []
        return f"Table({', '.join([f'{len(self)} rows', f'{len(schema)} columns', *roles])})"

    def native(self) -> Any:
        """Return the rows as the kind of frame that came in, with its dtypes, order and category levels."""
        return to_native(self.frame, self.schema)

    def replace(self, frame: pl.DataFrame) -> Table:
        """Return a table of the same schema with other canonical rows.

        Parameters
        ----------
        frame : pl.DataFrame
            Canonical; columns in any order. Identifiers that it lacks are drawn fresh.

        Raises
        ------
        SchemaError
            If a column is missing, unknown, or of another dtype.
        """
        _refuse_other_columns(frame.columns, self.schema, "the rows")
        frame = frame.with_columns(
            fresh_identifiers(self.schema[name], len(frame))
            for name in self.schema.identifiers
            if name not in frame.columns
        ).select(self.schema.names)
        for column in self.schema:
            wanted = canonical_dtype(column)
            if wanted is not None and frame[column.name].dtype != wanted:
                raise SchemaError(
                    f"column {column.name!r} is {frame[column.name].dtype}; canonical {column.kind} values "
                    f"are {wanted}. "
                    "For other frames use align()."
                )
        return Table._of(frame, self.schema)

    def align(self, data: Any, *, count_out_of_range: bool = False) -> Table:
        """Read another file or frame with this schema: test rows, or synthetic ones of any origin.

        Rows in which the target is missing are left out, with a warning. Levels that the schema does not know become
        missing, and fractions in an integer column are rounded;
        both are counted in `repairs`. Numbers outside the remembered range are kept.

        Parameters
        ----------
        data : frame, path, str or Table
            As for `Table`.
        count_out_of_range : bool, default=False
            Also count numbers outside the remembered range in `repairs`.

        Returns
        -------
        Table
            With the schema of this table.

        Raises
        ------
        SchemaError
            Naming missing and extra columns. Missing identifiers are not needed, they are drawn fresh.
        DataError
            If a column holds what cannot be read as its kind, the target is missing in all rows, or it is one that the
            schema does not know.
        """
        schema = self.schema
        if isinstance(data, Table) and data.schema == schema:
            return Table._of(data.frame, schema, list(data.repairs))
        raw = _of_known_outcome(_read(data), schema.target, schema.missing)
        _refuse_other_columns(raw.frame.columns, schema, "the table to align")
        if not len(raw.frame):
            raise DataError("the table to align has no rows.")
        frame, repairs = _canonical(raw, schema, strict=False)
        for column in schema:
            values = frame[column.name]
            if column.kind == "identifier":
                continue
            if column.name == schema.target:
                _check_target(raw.frame[column.name], values, column)
            repaired = any(said.startswith(f"column {column.name!r}:") for said in repairs)
            if values.null_count() and not column.has_missing and not repaired:
                repairs.append(
                    f"column {column.name!r}: {values.null_count()} missing, though the schema has seen none"
                )
            if count_out_of_range and column.minimum is not None:
                count = int((~values.is_between(column.minimum, column.maximum)).sum())
                if count:
                    repairs.append(
                        f"column {column.name!r}: {count} outside {column.minimum} to {column.maximum}, kept"
                    )
        return Table._of(frame, schema, repairs)

    def split(self, test_size: float = 0.3, *, seed: int = 0) -> tuple[Table, Table]:
        """Split the rows at random, stratified on target × groups where possible.

        Every stratum gives its share, rounded down; what is lacking comes from the strata with the largest
        remainders, so that the test set has ``round(test_size · n)`` rows. A numeric target is cut at its
        quartiles. Where an identifier names a hundred people and more who have several rows each (1.2 to 20
        on average), all rows of one stay on one side: that share of the people is the test set, by their first rows.

        Parameters
        ----------
        test_size : float, default=0.3
            Share of the rows in the test set, between 0 and 1.
        seed : int, default=0
            Decides the split.

        Returns
        -------
        train, test : Table
            Rows in their old order, with this table's schema.
        """
        n = len(self)
        persons = self.persons()
        first = np.arange(n) if persons is None else np.unique(persons, return_index=True)[1]
        n_test = round(test_size * len(first))
        if not 0 < test_size < 1 or not 0 < n_test < len(first):
            raise SettingsError(
                f"test_size={test_size!r} must lie between 0 and 1 and leave rows on both sides of {n}."
            )
        is_test = _stratified(self._strata()[first], n_test, np.random.default_rng(seed))
        if persons is not None:
            is_test = is_test[persons]
        train, test = self.frame.filter(pl.Series(~is_test)), self.frame.filter(pl.Series(is_test))
        return Table._of(train, self.schema), Table._of(test, self.schema)

    def persons(self) -> np.ndarray | None:
        """Return which person each row is of, int64 ``(n,)`` from 0.

        None where no identifier names people of whom there are several rows.
        """
        return persons_of([self.frame[name] for name in self.schema.identifiers])

    def _strata(self) -> np.ndarray:
        strata = np.zeros(len(self), dtype=np.int64)
        if self.schema.sensitive:
            strata = self.groups().codes
        if not self.schema.target:
            return strata
        column = self.schema[self.schema.target]
        if column.kind in ("categorical", "boolean"):
            codes = self.target_codes()
        else:
            values = self.frame[column.name].cast(pl.Float64).to_numpy()
            codes = np.searchsorted(np.quantile(values, [0.25, 0.5, 0.75]), values)
        return strata * (int(codes.max()) + 1) + codes

    def groups(self, attributes: str | Sequence[str] | None = None) -> Groups:
        """Return the group of every row: the joint levels of sensitive columns.

        A missing value is a level ``"(missing)"``, numbers are cut at their edges. Codes mean the same
        in every table of one schema; a column that lacks a value here and never did in the schema's rows adds
        its ``"(missing)"`` groups at the end.

        Parameters
        ----------
        attributes : str or sequence of str, optional
            Columns; all sensitive ones by default.

        Raises
        ------
        SchemaError
            If there is no sensitive column, or a named one makes no groups.
        """
        names = (attributes,) if isinstance(attributes, str) else tuple(attributes or self.schema.sensitive)
        if not names:
            raise SchemaError("no sensitive column is known; name one with sensitive=[...].")
        columns = [self.schema[name] for name in names]
        parts = [_group_codes(self.frame[column.name], column) for column in columns]
        known = [
            (*column.group_names(), *([MISSING_LEVEL] if column.has_missing else [])) for column in columns
        ]
        codes, joint = np.zeros(len(self), dtype=np.int64), [""]
        for part, levels in zip(parts, known, strict=True):
            codes = codes * len(levels) + np.minimum(part, len(levels) - 1)
            joint = [f"{name}{JOINT}{level}" if name else level for name in joint for level in levels]
        surprising = np.any([part >= len(levels) for part, levels in zip(parts, known, strict=True)], axis=0)
        if surprising.any():
            rows = np.stack([part[surprising] for part in parts], axis=1)
            combinations, inverse = np.unique(rows, axis=0, return_inverse=True)
            codes[surprising] = len(joint) + inverse.reshape(-1)
            for combination in combinations:
                named = [
                    (*levels, MISSING_LEVEL)[code] for levels, code in zip(known, combination, strict=True)
                ]
                joint.append(JOINT.join(named))
        return Groups(codes, tuple(joint), JOINT.join(names))

    def favorable(self) -> np.ndarray:
        """Return whether the label of every row is favorable, bool ``(n,)``.

        Raises
        ------
        SchemaError
            If there is no target, or no favorable value was named.
        """
        column = self._target()
        if not self.schema.favorable and column.kind not in ("categorical", "boolean"):
            raise SchemaError(
                f"target {column.name!r} is {column.kind}, and only levels can be favorable: cut it into levels first."
            )
        if not self.schema.favorable:
            raise SchemaError(f"no favorable value of {column.name!r} is known; name it with favorable=...")
        wanted = np.array([name in self.schema.favorable for name in column.group_names()])
        return wanted[self.target_codes()]

    def target_codes(self) -> np.ndarray:
        """Return the label of every row as int64 ``(n,)``, in the order of the target's levels.

        Raises
        ------
        SchemaError
            If there is no target, or it is a number.
        """
        column = self._target()
        if column.kind not in ("categorical", "boolean"):
            raise SchemaError(f"target {column.name!r} is {column.kind}: it has no levels.")
        return self.frame[column.name].to_physical().cast(pl.Int64).to_numpy()

    def _target(self) -> Column:
        if not self.schema.target:
            raise SchemaError("no target is known; name it with target=...")
        return self.schema[self.schema.target]


def fresh_identifiers(column: Column, n: int, *, start: int = 0) -> pl.Series:
    """Draw new values for an identifier: they count from 1 and say nothing of the real ones.

    Parameters
    ----------
    column : Column
        Of the kind ``"identifier"``.
    n : int
        How many.
    start : int, default=0
        How many were drawn before, so that batches go on where the last one ended.

    Returns
    -------
    pl.Series
        Nothing, or what stands for it, where the column never held anything. Else Int64 where the identifier is a
        number, days from 1970-01-02 where it is a date, else text such as ``"id-1"``.
    """
    if column.empty:
        return pl.Series(column.name, [column.missing_marker] * n, dtype=pl.String)
    numbers = pl.Series(column.name, np.arange(start + 1, start + n + 1))
    dtype = re.sub(r"indices=\w+", "", column.dtype.lower())
    if re.search(r"\b(u?int\d*|float\d*|double|halffloat|decimal\d*)\b", dtype):
        return numbers
    if re.search(r"\b(date|datetime|timestamp)", dtype):
        return (numbers * MICROSECONDS["day"]).cast(DATETIME)
    return ("id-" + numbers.cast(pl.String)).alias(column.name)


def _read(data: Any) -> RawFrame:
    if isinstance(data, RawFrame):
        return data
    if isinstance(data, str | PathLike):
        return read_any(data)
    return from_native(data.native() if isinstance(data, Table) else data)


def _of_known_outcome(raw: RawFrame, target: str | None, marks: Sequence[str]) -> RawFrame:
    """Leave out rows without a label: nothing can be learned from them of what is fair, nor judged on them."""
    if target is None or target not in raw.frame.columns:
        return raw
    marks = (*marks, "") if raw.untyped else marks
    gone = mask_missing(raw.frame[target], marks)[0].is_null()
    if not gone.any() or gone.all():
        return raw
    warnings.warn(
        f"Target {target!r} is missing in {int(gone.sum()):,} of {len(gone):,} rows, the first is row "
        f"{int(gone.arg_true()[0])} (rows count from 0): they are left out.",
        FairsynthWarning,
        stacklevel=3,
    )
    return replace(raw, frame=raw.frame.filter(~gone))


def _canonical(raw: RawFrame, schema: Schema, *, strict: bool) -> tuple[pl.DataFrame, list[str]]:
    columns, repairs = [], []
    for column in schema:
        if column.kind == "identifier" and column.name not in raw.frame.columns:
            columns.append(fresh_identifiers(column, len(raw.frame)))
            continue
        markers = (*schema.missing, "") if raw.untyped else schema.missing
        values, said = to_canonical(raw.frame[column.name], column, markers, strict=strict)
        columns.append(values)
        repairs += said
    return pl.DataFrame(columns), repairs


def _refuse_other_columns(names: Iterable[str], schema: Schema, what: str) -> None:
    held = list(names)
    lacking = [name for name in schema.names if name not in held and name not in schema.identifiers]
    extra = [name for name in held if name not in schema]
    if lacking or extra:
        said = [f"lacks {', '.join(map(repr, lacking))}"] if lacking else []
        said += [f"has {', '.join(map(repr, extra))}, which the schema does not know"] if extra else []
        raise SchemaError(f"{what} {' and '.join(said)}; give exactly the columns {', '.join(schema.names)}.")


def _check_target(raw: pl.Series, values: pl.Series, column: Column) -> None:
    missing = values.is_null()
    if not missing.any():
        return
    row = int(missing.arg_true()[0])
    if raw[row] is None or level_text(raw[row]) in ("", column.missing_marker, "nan"):
        raise DataError(
            f"target {column.name!r} is missing in {int(missing.sum())} row(s), the first is row {row}; "
            f"remove them."
        )
    raise DataError(
        f"target {column.name!r} holds {raw[row]!r} in row {row}, and its levels are "
        f"{', '.join(column.levels)}; "
        "correct or remove such rows."
    )


def _group_codes(values: pl.Series, column: Column) -> np.ndarray:
    """Return positions in the column's group names, one past the last for missing, int64 ``(n,)``."""
    names = column.group_names()
    if column.edges is None:
        codes = values.to_physical().cast(pl.Int64)
        return codes.fill_null(len(names)).to_numpy()
    numbers = values.cast(pl.Float64).to_numpy()
    return np.where(
        values.is_null().to_numpy(), len(names), np.searchsorted(column.edges, numbers, side="right")
    )


def _stratified(strata: np.ndarray, n_test: int, rng: np.random.Generator) -> np.ndarray:
    """Choose so many at random, of each stratum its share, bool ``(n,)``."""
    n = len(strata)
    shuffled = rng.permutation(n)
    strata = np.unique(strata, return_inverse=True)[1][shuffled]
    order = shuffled[np.argsort(strata, kind="stable")]
    sizes = np.bincount(strata)
    share = sizes * (n_test / n)
    quota = np.floor(share).astype(np.int64)
    short = n_test - int(quota.sum())
    # Ties between equal remainders are settled by chance, not by the order of the levels.
    lottery = rng.random(len(sizes))
    quota[np.lexsort((lottery, quota - share))[:short]] += 1
    rank = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.zeros(n, dtype=bool)
    chosen[order] = rank < np.repeat(quota, sizes)
    return chosen
