"""What a table is: the kind of every column, the role it plays, and how it is written back.

A schema is data. It is inferred from rows (:mod:`fairsynth.data.infer`), printed, saved as JSON that a
person can edit, and read again; SDV metadata is read as well, as hints to what is then inferred.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fairsynth.data import sdv
from fairsynth.data.zones import knows_zone, zone_of_dtype
from fairsynth.errors import SchemaError

Kind = Literal["continuous", "integer", "categorical", "boolean", "datetime", "identifier", "numeric"]
Role = Literal["feature", "target", "sensitive", "domain", "identifier"]
FrameKind = Literal["", "pandas", "polars", "pyarrow"]
Unit = Literal["day", "hour", "minute", "second", "millisecond", "microsecond"]

KINDS: tuple[str, ...] = get_args(Kind)
NUMERIC_KINDS = frozenset({"continuous", "integer"})
MISSING_LEVEL = "(missing)"
#: Microseconds in one unit of time, coarsest first.
MICROSECONDS: dict[str, int] = {
    "day": 86_400_000_000,
    "hour": 3_600_000_000,
    "minute": 60_000_000,
    "second": 1_000_000,
    "millisecond": 1_000,
    "microsecond": 1,
}
FORMAT_VERSION = 1


class Column(BaseModel):
    """One column: what it holds and how it is written back.

    Attributes
    ----------
    name : str
        The column's name in the table.
    kind : {"continuous", "integer", "categorical", "boolean", "datetime", "identifier", "numeric"}
        What the values mean. ``"identifier"`` is never learned. ``"numeric"`` is a hint only ("a
        number; look at the rows to see whether an integer"); a schema inferred from rows never holds it.
    dtype : str
        The dtype of the frame that came in, as text; ``""`` while no rows were seen.
    levels : tuple of str
        Categorical columns: every level as text, in order. Integral numbers read ``"1"``, not ``"1.0"``.
    ordered : bool
        Whether the order of the levels means something.
    minimum, maximum : int, float, datetime or None
        The range that is remembered. For privacy it is not the seen extreme, unless five rows share it;
        see :func:`fairsynth.data.measure.private_range`.
    decimals : int or None
        Continuous columns: decimal places seen, at most 6; None means as many as a float has.
    has_missing : bool
        Whether a value was missing.
    missing_marker : str or None
        How a missing value is written back (``"?"``, ``"-1"``, ``"NaN"`` in a float column); None is the
        frame's own null.
    marker_level : int or None
        Columns that came as categories and hold the marker among them: its place there.
    edges : tuple of float or None
        Numeric sensitive columns: where groups are cut, ascending; a group holds its lower edge.
    unit : {"day", "hour", "minute", "second", "millisecond", "microsecond"} or None
        Datetime columns: the coarsest unit of which every seen value is a multiple. Columns of durations or times
        of day: the one that their numbers count (of times of day, since midnight).
    tz : str or None
        Datetime columns: time zone of the frame that came in, or by whose clocks texts with offsets are written.
        Canonical values are in UTC, but for columns of midnights (`day_zone`).
    format : str or None
        Columns that came as text but are not: a ``strftime`` format; for numbers ``"plain"``, ``"fixed"`` (always
        `decimals` places), or how people write them, such as ``"$#,##0.00"`` (`number_text`) or ``"HH:MM"`` (`spans`).
    description : str or None
        What the column means, in words.
    empty : bool
        Whether it never held anything, so that nothing can be learned of it; its kind is ``"identifier"``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    kind: Kind
    dtype: str = ""
    levels: tuple[str, ...] = ()
    ordered: bool = False
    minimum: int | float | datetime | None = None
    maximum: int | float | datetime | None = None
    decimals: int | None = Field(default=None, ge=0, le=12)
    has_missing: bool = False
    missing_marker: str | None = None
    marker_level: int | None = Field(default=None, ge=0)
    edges: tuple[float, ...] | None = None
    unit: Unit | None = None
    tz: str | None = None
    format: str | None = None
    description: str | None = None
    empty: bool = False

    @field_validator("minimum", "maximum")
    @classmethod
    def _utc(cls, value: int | float | datetime | None) -> int | float | datetime | None:
        """Keep bounds finite, and moments as UTC without a zone, as in the canonical frame."""
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("must be a finite number")
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.astimezone(UTC).replace(tzinfo=None)
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.levels)) != len(self.levels):
            twice = sorted({level for level in self.levels if self.levels.count(level) > 1})
            raise ValueError(f"column {self.name!r}: levels given twice: {', '.join(twice[:5])}")
        if self.levels and self.kind not in ("categorical", "boolean"):
            raise ValueError(
                f"column {self.name!r}: only categorical columns have levels, and this one is {self.kind}; "
                'set "kind": "categorical" or remove "levels"'
            )
        if self.empty and self.kind != "identifier":
            raise ValueError(
                f"column {self.name!r}: what is never learned may be empty, and this is {self.kind}"
            )
        if self.format is not None and self.tz is not None and not knows_zone(self.tz):
            raise ValueError(f"column {self.name!r}: {self.tz!r} is no time zone")
        moments = [isinstance(value, datetime) for value in (self.minimum, self.maximum) if value is not None]
        if moments and any(moments) != (self.kind == "datetime"):
            raise ValueError(f"column {self.name!r}: minimum and maximum do not fit the kind {self.kind!r}")
        if self.minimum is not None and self.maximum is not None:
            low, high = self.bounds
            if low > high:
                raise ValueError(
                    f"column {self.name!r}: minimum {self.minimum} is above maximum {self.maximum}"
                )
        if self.edges is not None:
            if not self.edges or any(not math.isfinite(edge) for edge in self.edges):
                raise ValueError(f"column {self.name!r}: edges must be one or more finite numbers")
            if any(a >= b for a, b in pairwise(self.edges)):
                raise ValueError(f"column {self.name!r}: edges must ascend, not {list(self.edges)}")
        return self

    @property
    def zone(self) -> str | None:
        """Time zone of its moments; None for UTC, for moments without one, and for zones that Polars does not know."""
        zone = self.tz if self.format is not None else zone_of_dtype(self.dtype)
        return None if zone == "UTC" else zone

    @property
    def day_zone(self) -> str | None:
        """Time zone of a column of midnights, whose canonical values are days of its calendar and no moments in UTC."""
        return self.zone if self.unit == "day" else None

    @property
    def clock(self) -> str | None:
        """Time zone by whose clocks its canonical moments, which are in UTC, are meant; None if it has none."""
        return None if self.unit == "day" else self.zone

    @property
    def bounds(self) -> tuple[float, float]:
        """The remembered range as numbers; microseconds since 1970 (UTC) for datetimes.

        Raises
        ------
        SchemaError
            If the column has no range.
        """
        if self.minimum is None or self.maximum is None:
            raise SchemaError(f"column {self.name!r} ({self.kind}) has no range; give minimum and maximum.")
        return _number(self.minimum), _number(self.maximum)

    @property
    def is_numeric(self) -> bool:
        """Whether the column is continuous or integer."""
        return self.kind in NUMERIC_KINDS

    def group_names(self) -> tuple[str, ...]:
        """Name the groups that this column makes when it is sensitive, missing values apart.

        Returns
        -------
        tuple of str
            The levels; or, for a number with edges 25 and 60, ``("< 25", "[25, 60)", "≥ 60")``.
        """
        if self.kind == "categorical":
            return self.levels
        if self.kind == "boolean":
            return ("False", "True")
        if self.edges is None:
            raise SchemaError(
                f"column {self.name!r} ({self.kind}) makes no groups: state its edges, for example "
                f"sensitive={{{self.name!r}: [25, 60]}}."
            )
        edges = [f"{edge:g}" for edge in self.edges]
        inner = [f"[{a}, {b})" for a, b in pairwise(edges)]
        return (f"< {edges[0]}", *inner, f"≥ {edges[-1]}")

    def summary(self) -> str:
        """Say in a few words what values the column takes."""
        if self.levels:
            shown = ", ".join(self.levels[:4])
            more = f", … ({len(self.levels)} levels)" if len(self.levels) > 4 else ""
            return shown + more
        if self.minimum is not None and self.maximum is not None:
            text = f"{_show(self.minimum, self.unit)} to {_show(self.maximum, self.unit)}"
            if self.is_numeric and self.unit is not None:
                text += f" {self.unit}s"
            if self.edges:
                text += ", cut at " + ", ".join(f"{edge:g}" for edge in self.edges)
            return text
        if self.empty:
            return "none at all"
        return "never learned" if self.kind == "identifier" else ""


class Schema(BaseModel):
    """All columns of a table in their order, and the roles they play.

    Attributes
    ----------
    columns : tuple of Column
        In the order of the table.
    target : str
        Column that a later model predicts; ``""`` while none was named.
    favorable : tuple of str
        Level texts of the target that are good for the person.
    sensitive : tuple of str
        Sensitive columns; groups are their joint levels.
    domain : str or None
        Column that says which source a row comes from.
    identifiers : tuple of str
        Columns that are never learned.
    missing : tuple of str
        Texts that were declared to mean "missing".
    frame : {"", "pandas", "polars", "pyarrow"}
        Kind of frame that came in; ``""`` for a schema that holds hints only and has seen no rows.
    notes : tuple of str
        What a careful reader should know of how the schema was inferred.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str = ""
    favorable: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    domain: str | None = None
    identifiers: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    frame: FrameKind = ""
    notes: tuple[str, ...] = ()
    columns: tuple[Column, ...] = Field(default=())

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = self.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"columns named twice: {', '.join(twice)}")
        for name in self.sensitive:
            if self.sensitive.count(name) > 1:
                raise ValueError(f"sensitive column {name!r} is named twice")
        named = [("target", self.target), ("domain", self.domain or "")]
        named += [("sensitive", name) for name in self.sensitive]
        named += [("identifier", name) for name in self.identifiers]
        for role, name in named:
            # Hints may name a column that only the rows will show.
            if name and name not in names and self.frame:
                raise ValueError(f"{role} column {name!r} does not exist; the columns are {_listed(names)}")
        if self.target and self.target in self.sensitive:
            raise ValueError(f"column {self.target!r} is both target and sensitive; choose one")
        if self.target and self.target == self.domain:
            raise ValueError(f"column {self.target!r} is both target and domain; choose one")
        for name in self.identifiers:
            if name == self.target or name in self.sensitive or name == self.domain:
                raise ValueError(
                    f"column {name!r} is an identifier and has another role too; an identifier is never "
                    "learned, so it can be neither target, nor sensitive, nor domain"
                )
        if self.favorable and not self.target:
            raise ValueError("favorable values are given, but no target")
        for column in self.columns:
            self._check_column(column)
        return self

    def _check_column(self, column: Column) -> None:
        name, identifier = column.name, column.name in self.identifiers
        if not self.frame:
            return
        if (column.kind == "identifier") != identifier:
            raise ValueError(
                f'column {name!r}: list it under "identifiers" and give it the kind "identifier", or neither'
            )
        if name == self.target:
            self._check_target(column)
        if name in self.sensitive and column.kind not in ("categorical", "boolean") and column.edges is None:
            raise ValueError(
                f'sensitive column {name!r} is {column.kind} and has no edges; add "edges": [...] where its '
                'groups are cut, or set "kind": "categorical"'
            )

    def _check_target(self, column: Column) -> None:
        if not self.favorable:
            return
        if column.kind not in ("categorical", "boolean"):
            raise ValueError(
                f"target {self.target!r} is {column.kind}: favorable values need a categorical one"
            )
        levels = column.group_names()
        unknown = [value for value in self.favorable if levels and value not in levels]
        if unknown and len(levels) > 20:
            raise ValueError(
                f"favorable value {unknown[0]!r} is not among the {len(levels):,} values of target {self.target!r}; if "
                "it is a number, cut it into levels first"
            )
        if unknown:
            raise ValueError(
                f"favorable value {unknown[0]!r} is not a level of target {self.target!r}; "
                f"its levels are {_listed(levels)}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns that are neither target nor identifier; sensitive and domain are in."""
        return tuple(name for name in self.names if name != self.target and name not in self.identifiers)

    def __getitem__(self, name: str) -> Column:
        """Return the column of that name."""
        for column in self.columns:
            if column.name == name:
                return column
        raise SchemaError(f"there is no column {name!r}; the columns are {_listed(self.names)}.")

    def __contains__(self, name: object) -> bool:
        """Whether a column of that name exists."""
        return name in self.names

    def __iter__(self) -> Iterator[Column]:  # type: ignore[override]  # pydantic yields (field, value) pairs
        """Go through the columns in order."""
        return iter(self.columns)

    def __len__(self) -> int:
        """Count the columns."""
        return len(self.columns)

    def role(self, name: str) -> Role:
        """Return the role of a column; what is none of the others is a feature."""
        self[name]
        if name == self.target:
            return "target"
        if name in self.sensitive:
            return "sensitive"
        if name in self.identifiers:
            return "identifier"
        return "domain" if name == self.domain else "feature"

    def revised(self, **changes: Any) -> Schema:
        """Return a copy with some fields changed, checked anew.

        Raises
        ------
        SchemaError
            If the changed schema contradicts itself.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return build_schema(**{**fields, **changes})

    def to_json(self, *, indent: int = 2) -> str:
        """Write the schema as JSON that a person can read and edit; defaults are left out."""
        body = self.model_dump(mode="json", exclude_defaults=True, exclude={"columns"})
        columns = [column.model_dump(mode="json", exclude_defaults=True) for column in self.columns]
        order = ("target", "favorable", "sensitive")
        head = {"fairsynth_schema": FORMAT_VERSION, **{key: getattr(self, key) for key in order}}
        return json.dumps({**head, **body, "columns": columns}, indent=indent, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """Read a schema from JSON: one of `to_json`, perhaps edited, or SDV metadata.

        SDV metadata (``METADATA_SPEC_VERSION`` ``SINGLE_TABLE_V1``, or ``V1`` with one table) gives
        hints: ``schema.frame`` is ``""``, and ``Table(data, schema=...)`` completes it from the rows.

        Parameters
        ----------
        text : str
            The JSON text (not a path).

        Raises
        ------
        SchemaError
            Saying where the text is not JSON, or which field is wrong and why.
        """
        try:
            body = json.loads(text)
        except json.JSONDecodeError as error:
            raise SchemaError(
                f"the schema is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
            ) from error
        if not isinstance(body, dict):
            raise SchemaError("the schema is not a JSON object; write one with `fairsynth schema TABLE`.")
        if sdv.is_sdv(body):
            return build_schema(**sdv.hints_from_sdv(body))
        version = body.pop("fairsynth_schema", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            raise SchemaError(
                f"the schema has version {version!r}, and this fairsynth reads {FORMAT_VERSION}; "
                "write it anew with `fairsynth schema TABLE`."
            )
        return build_schema(**body)

    def __str__(self) -> str:
        """Return the schema as a plain text table."""
        header = ("column", "kind", "role", "dtype", "missing", "values")
        rows = [header]
        for column in self.columns:
            missing = "" if not column.has_missing else (column.missing_marker or "yes")
            role = self.role(column.name)
            rows.append((column.name, column.kind, "" if role == "feature" else role, column.dtype, missing,
                         column.summary()))  # fmt: skip
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        if self.favorable:
            lines += ["", f"favorable: {self.target} = {' or '.join(self.favorable)}"]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(line.rstrip() for line in lines)


def build_schema(**fields: Any) -> Schema:
    """Make a schema, with the field and the reason in the error if it contradicts itself.

    Raises
    ------
    SchemaError
        Naming every field that is wrong.
    """
    try:
        return Schema(**fields)
    except ValidationError as error:
        raise SchemaError(_explain(error, fields)) from error


def _explain(error: ValidationError, fields: dict[str, Any]) -> str:
    """Turn pydantic's findings into sentences that name the column and the field."""
    said = []
    for problem in error.errors(include_url=False):
        where = list(problem["loc"])
        place = ""
        if len(where) >= 2 and where[0] == "columns" and isinstance(where[1], int):
            column = fields["columns"][where[1]]
            name = column.get("name") if isinstance(column, dict) else getattr(column, "name", None)
            place = f"column {name!r}" if name else f"columns[{where[1]}]"
            where = where[2:]
        if where:
            place += f"{', ' if place else ''}field {'.'.join(str(part) for part in where)!r}"
        if problem["type"] == "extra_forbidden":
            reason = "no such field; remove it or correct its name"
        else:
            reason = problem["msg"].removeprefix("Value error, ").removeprefix(f"{place}: ")
        said.append(f"{place}: {reason}" if place else reason)
    return "the schema is wrong: " + "; ".join(dict.fromkeys(said)) + "."


def _number(value: int | float | datetime) -> float:
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        return float(moment.days * MICROSECONDS["day"] + moment.seconds * 1_000_000 + moment.microseconds)
    return float(value)


def grid_step(column: Column) -> float:
    """Return the distance of neighbouring values that the column can take; 0 for none."""
    if column.kind == "integer":
        return 1.0
    if column.kind == "datetime":
        return float(MICROSECONDS[column.unit or "microsecond"])
    return 0.0 if column.decimals is None else 10.0**-column.decimals


def _show(value: int | float | datetime, unit: str | None) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d}" if unit == "day" else value.isoformat(sep=" ")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _listed(names: tuple[str, ...], most: int = 20) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f", … ({len(names)} in all)" if len(names) > most else "")
