"""A schema from rows: what kind each column is, what it may hold, and how it is written back.

What the user says always wins over what the rows suggest. Every rule that a person might not expect leaves a
note in ``schema.notes``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from fairsynth.data.canonical import (
    EXACT_INTEGERS,
    NA_TOKENS,
    check_finite,
    first_row,
    level_text,
    level_texts,
    mask_missing,
    to_canonical,
)
from fairsynth.data.declared import Declared, favorable_levels, gather
from fairsynth.data.frames import ROW_LABELS, RawFrame
from fairsynth.data.measure import (
    MAX_DECIMALS,
    decimals_of,
    parse_datetimes,
    parse_numbers,
    private_range,
    unit_of,
)
from fairsynth.data.moments import DATETIME
from fairsynth.data.number_text import NumberText, written_numbers
from fairsynth.data.persons import names_people, persons_of
from fairsynth.data.schema import MICROSECONDS, NUMERIC_KINDS, Column, Schema, build_schema
from fairsynth.data.spans import SpanText, counted, is_span, written_spans
from fairsynth.data.zones import OFFSET_FORMATS, days_in_zone, zone_of_dtype, zone_of_offsets
from fairsynth.errors import DataError, SchemaError

#: A numeric target or sensitive column with more distinct values than this is a number, with fewer a
#: category.
MAX_NUMERIC_LEVELS = 20
#: Pairs of rows that would share an integer by chance, if none does and it is to be an identifier.
NEVER_MEET = 20
#: From this many rows on, a column of nothing but distinct texts is taken for an identifier.
MIN_IDENTIFIER_ROWS = 50


def infer_schema(
    raw: RawFrame,
    *,
    base: Schema | None = None,
    target: str | None = None,
    favorable: Any = None,
    sensitive: str | Sequence[str] | Mapping[str, Sequence[float] | None] = (),
    domain: str | None = None,
    identifiers: str | Sequence[str] = (),
    missing: str | Sequence[str] = (),
    kinds: Mapping[str, str | Mapping[str, Any]] | None = None,
) -> Schema:
    """Infer a schema from rows and from what is known; the arguments are those of :class:`Table`.

    Rules, where nothing was said:

    - integers, and floats that are all whole, are ``integer``; with exactly two values ``categorical``;
    - a target or domain is ``categorical``, but a target of numbers with more than 20 values and no
      favorable one stays a number (regression);
    - a sensitive column is ``categorical``; a number with more than 20 values needs edges;
    - text that is ISO 8601 throughout is ``datetime`` and written back in the same format;
    - text is ``categorical``, unless it is all numbers but for a declared marker of missing;
    - 50 or more texts that are all distinct, or integers so dense that twenty pairs of rows would share one by
      chance, and none does, are an ``identifier``; so are the row labels that pandas writes into files, if all are
      distinct;
    - texts such as ``$1,234.50`` or ``12,5 %``, more than 20 different ones and all written alike, are numbers.

    Parameters
    ----------
    raw : RawFrame
        The rows.
    base : Schema, optional
        What is known already. A schema that has seen rows must name exactly the columns of these.
    target, favorable, sensitive, domain, identifiers, missing, kinds
        As for :class:`Table`; they win over `base`.

    Returns
    -------
    Schema
        Complete: every field that the kind has is filled.

    Raises
    ------
    DataError
        If the rows cannot be used.
    SchemaError
        If what was said does not fit them.
    """
    said = gather(raw, base, target, favorable, sensitive, domain, identifiers, missing, kinds)
    columns, notes = [], list(base.notes) if base is not None else []
    markers = (*said.missing, "") if raw.untyped else said.missing
    found = list(said.identifiers)
    for name in raw.frame.columns:
        inferring = _Inference(raw, name, said, markers)
        column = inferring.run()
        if column.kind == "identifier" and name not in found:
            found.append(name)
        columns.append(column)
        notes += inferring.notes
    persons = persons_of([raw.frame[name] for name in found])
    if persons is not None:  # several rows are one person's own range
        columns = [
            _Inference(raw, one.name, said, markers, persons).run()
            if one.kind in (*NUMERIC_KINDS, "datetime")
            else one
            for one in columns
        ]
    schema = build_schema(
        columns=tuple(columns),
        target=said.target,
        sensitive=said.sensitive,
        domain=said.domain,
        identifiers=tuple(name for name in raw.frame.columns if name in found),
        missing=said.missing,
        frame=raw.kind,
        notes=tuple(dict.fromkeys(notes)),
    )
    return schema.revised(favorable=favorable_levels(schema, said.favorable))


class _Inference:
    """The inference of one column."""

    def __init__(
        self,
        raw: RawFrame,
        name: str,
        said: Declared,
        markers: Sequence[str],
        persons: np.ndarray | None = None,
    ) -> None:
        self.raw, self.name, self.said, self.markers = raw, name, said, markers
        self.persons = persons
        self.hint = dict(said.hints.get(name, {}))
        self.is_target = name == said.target
        self.is_sensitive = name in said.sensitive
        self.has_role = self.is_target or self.is_sensitive or name == said.domain
        self.dtype = "" if raw.untyped else raw.dtypes[name]
        self.notes: list[str] = []
        self.format: str | None = None
        self.zone: str | None = None
        self.unit: str | None = None

    def run(self) -> Column:
        original = self.raw.frame[self.name]
        if self.name in self.said.identifiers or self.hint.get("kind") == "identifier":
            self._refuse_role_of_identifier("is declared an identifier")
            if original.dtype == pl.Boolean:
                raise SchemaError(
                    f"column {self.name!r} is boolean, which identifies nobody; drop it instead."
                )
            return self._column(original, kind="identifier", missing_marker=None)
        values, marker = mask_missing(original, self.markers)
        if values.null_count() == len(values):
            if self.has_role:
                raise DataError(
                    f"column {self.name!r} holds no value at all, only missing; choose another one."
                )
            self.notes.append(
                f"Column {self.name!r} holds no value at all, only missing: it is never learned, and drawn rows have "
                "none in it."
            )
            return self._column(original, kind="identifier", missing_marker=marker, empty=True)
        check_finite(values)
        if is_span(values.dtype):
            values = self._counted(values)
        values, marker = self._typed(values, marker)
        if self._holds_row_labels(values):
            self.notes.append(
                f"Column {self.name!r} holds the row labels of a frame that was written to a file, and is never "
                "learned. If it means something, give it another name."
            )
            return self._column(original, kind="identifier", missing_marker=None)
        if self._looks_like_identifier(values):
            self._refuse_role_of_identifier("looks like one: no two rows share a value")
            self.notes.append(
                f"Column {self.name!r} is taken for an identifier, since every row has its own value: it "
                f"is never "
                f"learned. If it means something, say kinds={{{self.name!r}: 'categorical'}} (or another "
                f"kind)."
            )
            return self._column(original, kind="identifier", missing_marker=None)
        if self._names_people(values):
            self.notes.append(
                f"Column {self.name!r} is taken for an identifier, since it seems to name people: its "
                f"{values.drop_nulls().n_unique():,} values have several rows each, all of one group. It is never "
                "learned; rows of one person are drawn as those of many, and `Table.split` keeps them on one side. "
                f"If it names something else, say kinds={{{self.name!r}: 'categorical'}} (or another kind)."
            )
            return self._column(original, kind="identifier", missing_marker=None)
        kind = self._kind(values)
        fields = self._fields(values, kind)
        column = self._column(values, kind=kind, missing_marker=marker, **fields)
        if isinstance(original.dtype, pl.Enum) and marker is not None and kind == "categorical":
            place = original.dtype.categories.to_list().index(marker)
            column = column.model_copy(update={"marker_level": place})
        self._check_variety(values, column)
        return column

    def _column(self, values: pl.Series, **fields: Any) -> Column:
        told = {key: value for key, value in self.hint.items() if key != "kind"}
        merged = {"description": self.raw.descriptions.get(self.name), **fields, **told}
        merged["format"] = self.format if self.format is not None else merged.get("format")
        if self.unit is not None:
            merged["unit"] = self.unit
        if merged["kind"] == "identifier":
            kept = ("kind", "missing_marker", "description", "empty")
            merged = {key: merged[key] for key in kept if key in merged}
        built = build_schema(
            columns=(
                {
                    **merged,
                    "name": self.name,
                    "dtype": self.dtype or "String",
                    "has_missing": bool(values.null_count()),
                },
            )
        )
        return built.columns[0]

    def _counted(self, values: pl.Series) -> pl.Series:
        """Read durations or times of day as whole numbers of a unit of time."""
        self.unit = self.hint.get("unit") or unit_of(values)
        numbers, cut = counted(values, Column(name=self.name, kind="integer", unit=self.unit))  # type: ignore[arg-type]
        if cut:
            raise SchemaError(
                f"column {self.name!r} is to be counted in whole {self.unit}s, and {cut} of its values are none; say a "
                "finer unit, or none."
            )
        return numbers

    # What the texts of a text file are

    def _typed(self, values: pl.Series, marker: str | None) -> tuple[pl.Series, str | None]:
        """Read text as numbers or moments where it is."""
        wanted = self.hint.get("kind")
        if isinstance(values.dtype, pl.Enum) and (wanted in NUMERIC_KINDS or wanted == "numeric"):
            values = values.cast(pl.String)
        if values.dtype != pl.String:
            return values, marker
        self.dtype = self.dtype or "String"
        if wanted == "categorical" and not self.raw.untyped:
            return values, marker
        is_marked = marker is not None and marker.strip() != ""
        if self.raw.untyped or is_marked or wanted in NUMERIC_KINDS or wanted == "numeric":
            numbers, token = parse_numbers(values, tokens=NA_TOKENS if self.raw.untyped else ())
            if numbers is not None and not (wanted == "categorical" and token):
                return self._numbers_of_text(values, numbers, marker, token)
        if self._may_be_written(values):
            texts, token = mask_missing(values.str.strip_chars(), NA_TOKENS if self.raw.untyped else ())
            written = written_numbers(texts)
            if written is not None:
                return self._numbers_as_written(*written, marker, token)
            spans = written_spans(texts)
            if spans is not None:
                self.unit = spans[1].unit
                return self._numbers_as_written(*spans, marker, token)
        if self.has_role or wanted not in (None, "datetime"):
            return values, marker
        moments, form = parse_datetimes(values)
        if moments is None:
            if wanted == "datetime":
                row = first_row(values.is_not_null())
                raise SchemaError(
                    f"column {self.name!r} is no datetime in ISO 8601: row {row} holds {values[row]!r}."
                )
            return values, marker
        self.format = form
        if form is not None and form.endswith(tuple(OFFSET_FORMATS)):
            self.zone = zone_of_offsets(values, moments)
            self.notes.append(
                f"Column {self.name!r} holds moments with offsets from UTC, "
                + (
                    f"as clocks of {self.zone} have them: so have drawn rows."
                    if self.zone
                    else "which are as in no time zone: drawn rows have those of UTC."
                )
            )
        return moments, marker

    def _unit_of(self, moments: pl.Series) -> tuple[str, pl.Series]:
        """Return the unit of moments in UTC, and they themselves: midnights of a time zone as days."""
        zone = self.zone or zone_of_dtype(self.dtype)
        if zone is None:
            return unit_of(moments), moments
        days = days_in_zone(moments, zone)
        if unit_of(days) == "day":
            return "day", days
        # Midnights of UTC are hours there.
        return "hour" if unit_of(moments) == "day" else unit_of(moments), moments

    def _may_be_written(self, values: pl.Series) -> bool:
        """Whether texts are to be read as numbers if they look like them: ``5%`` and ``10%`` alone are levels."""
        wanted = self.hint.get("kind")
        if wanted is not None or "edges" in self.hint:
            return wanted in (None, "numeric", *NUMERIC_KINDS)
        if self.is_target and self.said.favorable:
            return False
        return not _few(values, MAX_NUMERIC_LEVELS)

    def _numbers_as_written(
        self, numbers: pl.Series, way: NumberText | SpanText, marker: str | None, token: str | None
    ) -> tuple[pl.Series, str | None]:
        # The pattern and no example: notes leave with the model.
        held, read = ("numbers", "numbers")
        if isinstance(way, SpanText):
            held, read = "times", f"numbers of {way.unit}s"
        self.notes.append(
            f"Column {self.name!r} holds {held} written as {way.pattern!r}: they are read as {read} and written back "
            f"so. If they are none, say kinds={{{self.name!r}: 'categorical'}}."
        )
        if token is not None:
            self.notes.append(f"Column {self.name!r} is numeric, and {token!r} in it is read as missing.")
        self.format = way.pattern
        blank = marker is not None and marker.strip() == ""
        return numbers, token if marker is None or blank else marker

    def _numbers_of_text(
        self, values: pl.Series, numbers: pl.Series, marker: str | None, token: str | None
    ) -> tuple[pl.Series, str | None]:
        check_finite(numbers)
        blank = marker is not None and marker.strip() == ""
        if token is not None:
            self.notes.append(f"Column {self.name!r} is numeric, and {token!r} in it is read as missing.")
        marker = token if marker is None or blank else marker
        if self.raw.untyped and marker is None:
            # Nothing but numbers in a text file: a column of numbers.
            self.dtype = str(numbers.dtype)
            return numbers, None
        self.format = "plain"
        if numbers.dtype == pl.Float64:
            places = values.filter(numbers.is_not_null()).str.strip_chars().str.extract(r"\.(\d*)$")
            lengths = places.str.len_chars()
            if not lengths.null_count() and lengths.n_unique() == 1 and 0 < lengths[0] <= MAX_DECIMALS:
                self.format = "fixed"
        return numbers, marker

    # Which kind

    def _holds_row_labels(self, values: pl.Series) -> bool:
        if self.name not in ROW_LABELS or "kind" in self.hint or self.has_role:
            return False
        return not values.null_count() and values.n_unique() == len(values)

    def _looks_like_identifier(self, values: pl.Series) -> bool:
        if "kind" in self.hint or len(values) < MIN_IDENTIFIER_ROWS or values.null_count():
            return False
        if values.dtype == pl.String or isinstance(values.dtype, pl.Enum):
            distinct = values.n_unique()
            if distinct < len(values) and distinct > len(values) / 2 and not self.has_role:
                self.notes.append(
                    f"Column {self.name!r} holds {distinct} different texts in {len(values)} rows, and all "
                    f"of them go "
                    "into the schema. If they name people, declare it as an identifier."
                )
            return distinct == len(values)
        if not values.dtype.is_integer():
            return False
        if values.n_unique() < len(values):
            return False
        room, n = int(values.max()) - int(values.min()) + 1, len(values)  # type: ignore[arg-type]
        # Numbers of people, of whom some are in another file: nowhere would so many amounts of so little room all
        # differ. Spread evenly they meet least.
        return room == n or n * (n - 1) / 2 / room >= NEVER_MEET

    def _names_people(self, values: pl.Series) -> bool:
        if "kind" in self.hint or "edges" in self.hint or self.has_role:
            return False
        named = values.dtype == pl.String or isinstance(values.dtype, pl.Enum) or values.dtype.is_integer()
        groups = [name for name in self.said.sensitive if name != self.name]
        return named and names_people(values, [self.raw.frame[name] for name in groups])

    def _refuse_role_of_identifier(self, why: str) -> None:
        if self.has_role:
            role = "target" if self.is_target else "sensitive" if self.is_sensitive else "domain"
            raise DataError(
                f"{role} column {self.name!r} {why}, and an identifier cannot be learned; choose another "
                f"column."
            )

    def _kind(self, values: pl.Series) -> str:
        dtype, told = values.dtype, self.hint.get("kind")
        if told == "numeric":
            told = "integer" if dtype.is_numeric() and _is_whole(values) else "continuous"
        if told == "boolean" and dtype != pl.Boolean and not _is_binary(values):
            raise SchemaError(
                f"column {self.name!r} cannot be boolean: it holds {dtype}, and not only True and False, or "
                "0 and 1; say 'categorical'."
            )
        if told is not None and not (told == "boolean" and self.has_role):
            return str(told)
        if "edges" in self.hint and not (dtype.is_numeric() or dtype.is_temporal()):
            raise SchemaError(
                f"column {self.name!r} is {'boolean' if dtype == pl.Boolean else 'text'}: only numbers are cut at "
                "edges; its levels are groups as they are, so leave the edges out."
            )
        if "edges" in self.hint and dtype.is_numeric():
            return "integer" if _is_whole(values) else "continuous"
        if self.has_role:
            return self._kind_of_role(values)
        if dtype == pl.Boolean:
            return "boolean"
        if isinstance(dtype, pl.Datetime) or dtype == pl.Date:
            return "datetime"
        if not dtype.is_numeric():
            return "categorical"
        if not _is_whole(values):
            return "continuous"
        if dtype.is_integer() and max(abs(int(values.min())), abs(int(values.max()))) > EXACT_INTEGERS:  # type: ignore[arg-type]
            if _few(values, MAX_NUMERIC_LEVELS):
                return "categorical"
            self.notes.append(
                f"Column {self.name!r} holds integers beyond 2**53, of which numbers are drawn nearly, not to the last "
                f"digit. If they name something, say kinds={{{self.name!r}: 'categorical'}} or 'identifier'."
            )
        return "categorical" if _few(values, 2) and values.drop_nulls().n_unique() == 2 else "integer"

    def _kind_of_role(self, values: pl.Series) -> str:
        if not values.dtype.is_numeric() or _few(values, MAX_NUMERIC_LEVELS):
            return "categorical"
        number = "integer" if _is_whole(values) else "continuous"
        if self.is_target and len(self.said.favorable) == 1:
            raise SchemaError(
                f"target {self.name!r} is a number with more than {MAX_NUMERIC_LEVELS} values, and only "
                f"{self.said.favorable[0]} of them is said to be favorable. Make a column of two labels of it first "
                "(is it at least that?), say nothing of what is favorable to learn the number, or say "
                f"kinds={{{self.name!r}: 'categorical'}}."
            )
        if self.is_target and not self.said.favorable:
            return number
        if self.is_sensitive:
            low, high = values.quantile(1 / 3), values.quantile(2 / 3)
            raise SchemaError(
                f"sensitive column {self.name!r} is a number with more than {MAX_NUMERIC_LEVELS} values; "
                f"say where its groups are cut, for example sensitive={{{self.name!r}: [{low:g}, {high:g}]}}, or on "
                f"the command line --edges {self.name}={low:g},{high:g}."
            )
        return "categorical"

    # What the column may hold

    def _fields(self, values: pl.Series, kind: str) -> dict[str, Any]:
        if kind == "categorical":
            levels = self.hint.get("levels") or _levels(values)
            if "levels" in self.hint:
                column = Column(name=self.name, kind="categorical", levels=tuple(levels))
                to_canonical(values, column, strict=True)
            return {"levels": tuple(levels), "ordered": self.name in self.raw.ordered}
        column = Column(name=self.name, kind=kind, tz=_zone(values), format=self.format)  # type: ignore[arg-type]
        canonical, _ = to_canonical(values, column, strict=True)
        if kind == "boolean":
            if values.dtype == pl.String:
                self.format = "/".join(_spellings(values, self.name))
            return {}
        if kind == "datetime":
            unit, canonical = self._unit_of(canonical)
            low, high = private_range(canonical.cast(pl.Int64), step=MICROSECONDS[unit], persons=self.persons)
            bounds = pl.Series([int(low), int(high)]).cast(DATETIME)
            return {"minimum": bounds[0], "maximum": bounds[1], "unit": unit, "tz": self.zone or column.tz}
        if kind == "integer":
            low, high = private_range(canonical, persons=self.persons)
            return {"minimum": int(low), "maximum": int(high)}
        decimals = decimals_of(canonical)
        low, high = private_range(
            canonical, step=None if decimals is None else 10.0**-decimals, persons=self.persons
        )
        return {"minimum": low, "maximum": high, "decimals": decimals}

    def _check_variety(self, values: pl.Series, column: Column) -> None:
        present = values.drop_nulls()
        constant = bool((present == present[0]).all())
        if self.is_target and values.null_count():
            row = first_row(values.is_null())
            raise DataError(
                f"target {self.name!r} is missing in {values.null_count()} row(s), the first is row {row} "
                f"(rows count "
                "from 0); remove them."
            )
        if column.edges is not None and self.is_sensitive:
            groups = np.searchsorted(column.edges, present.cast(pl.Float64).to_numpy(), side="right")
            constant = bool((groups == groups[0]).all())
        if not constant:
            return
        only = repr(level_text(present[0]))
        if column.edges is not None and self.is_sensitive:
            own = int(groups[0])
            after = [f"from {column.edges[own - 1]:g}"] if own else []
            before = [f"below {column.edges[own]:g}"] if own < len(column.edges) else []
            only = "values " + " and ".join([*after, *before])
        if self.is_target:
            raise DataError(f"target {self.name!r} has one value only, {only}: there is nothing to learn.")
        if self.is_sensitive and not values.null_count():
            raise DataError(
                f"sensitive column {self.name!r} has one group only, that of {only}: every measure of "
                f"fairness would "
                "be perfect and mean nothing. Choose another column"
                + (", or other edges." if column.edges is not None else ".")
            )
        if not values.null_count():
            self.notes.append(
                f"Column {self.name!r} is constant, {only} in every row, and will be generated so."
            )


def _few(values: pl.Series, most: int) -> bool:
    """Whether there are at most so many distinct values; a look at the first rows mostly settles it."""
    head = values.head(10_000).drop_nulls()
    return head.n_unique() <= most and values.drop_nulls().n_unique() <= most


def _is_binary(values: pl.Series) -> bool:
    return set(level_texts(values.drop_nulls().unique()).str.to_lowercase()) <= {"0", "1", "true", "false"}


def _spellings(values: pl.Series, name: str) -> list[str]:
    """Return how False and True are written in a column of text."""
    seen = values.drop_nulls().unique().sort().to_list()
    spelled: list[str] = []
    for meaning, default in ((("false", "0"), "False"), (("true", "1"), "True")):
        ways = [text for text in seen if text.strip().lower() in meaning]
        if len(ways) > 1:
            raise SchemaError(
                f"column {name!r} writes one truth value in several ways: {', '.join(map(repr, ways))}; "
                "say 'categorical', or make them one."
            )
        spelled.append(ways[0] if ways else default)
    return spelled


def _is_whole(values: pl.Series) -> bool:
    if values.dtype.is_integer() or values.dtype == pl.Boolean:
        return True
    if isinstance(values.dtype, pl.Decimal):
        values = values.cast(pl.Float64)
    # A look at the first rows mostly settles it.
    parts = (values.head(1000), values)
    return all(((part == part.round(0)) & (part.abs() < EXACT_INTEGERS)).all() for part in parts)


def _levels(values: pl.Series) -> list[str]:
    if isinstance(values.dtype, pl.Enum):
        return values.dtype.categories.to_list()
    if values.dtype == pl.Boolean:
        return ["False", "True"]
    # Sorted as values, so that "10" stands behind "9".
    return level_texts(values.drop_nulls().unique().sort()).unique(maintain_order=True).to_list()


def _zone(values: pl.Series) -> str | None:
    return values.dtype.time_zone if isinstance(values.dtype, pl.Datetime) else None
