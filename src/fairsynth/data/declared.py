"""What a user says of a table, from a schema and from arguments, in one form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairsynth.data.canonical import level_text
from fairsynth.data.frames import RawFrame
from fairsynth.data.schema import KINDS, Column, Schema
from fairsynth.errors import SchemaError

#: What may be said of a column; the rest is read off the rows.
_FIELDS = frozenset(Column.model_fields) - {
    "name",
    "dtype",
    "has_missing",
    "missing_marker",
    "marker_level",
    "tz",
}


@dataclass(frozen=True)
class Declared:
    """What the user said.

    Attributes
    ----------
    target, favorable, sensitive, domain, identifiers, missing
        As of `Schema`; empty, or None for `domain`, where nothing was said.
    hints : dict
        By column, what was said of it: fields of `Column`, and ``numeric`` as a kind that is settled by the rows.
    """

    target: str
    favorable: tuple[str, ...]
    sensitive: tuple[str, ...]
    domain: str | None
    identifiers: tuple[str, ...]
    missing: tuple[str, ...]
    hints: dict[str, dict[str, Any]] = field(default_factory=dict)


def gather(
    raw: RawFrame,
    base: Schema | None,
    target: str | None,
    favorable: Any,
    sensitive: str | Sequence[str] | Mapping[str, Sequence[float] | None],
    domain: str | None,
    identifiers: str | Sequence[str],
    missing: str | Sequence[str],
    kinds: Mapping[str, str | Mapping[str, Any]] | None,
) -> Declared:
    """Bring what was said into one form; the arguments are those of `infer_schema`, and win over `base`.

    Raises
    ------
    SchemaError
        If a column is named that there is not, or something is said of one that cannot be.
    """
    names = raw.frame.columns
    hints: dict[str, dict[str, Any]] = {}
    if base is not None:
        hints = _hints_of(base, names)
    if not isinstance(sensitive, Mapping):
        sensitive = as_texts(sensitive)
    edges = sensitive if isinstance(sensitive, Mapping) else {}
    base = base or Schema()
    said = Declared(
        target=target if target is not None else base.target,
        favorable=_favorable_texts(favorable) if favorable is not None else base.favorable,
        sensitive=tuple(sensitive) or base.sensitive,
        domain=domain if domain is not None else base.domain,
        identifiers=as_texts(identifiers) or base.identifiers,
        missing=as_texts(missing) or base.missing,
        hints=hints,
    )
    roles = [("target", said.target), ("domain", said.domain or "")]
    roles += [("sensitive", name) for name in said.sensitive] + [
        ("identifier", name) for name in said.identifiers
    ]
    for role, name in roles:
        if name and name not in names:
            raise SchemaError(
                f"{role} column {name!r} is not in the table; its columns are {', '.join(names)}."
            )
    if said.target and (said.target in said.identifiers):
        raise SchemaError(
            f"target {said.target!r} is named as an identifier too; an identifier is never learned."
        )
    for name, given in (kinds or {}).items():
        if name not in names:
            raise SchemaError(f"kinds names column {name!r}, which is not in the table: {', '.join(names)}.")
        changes = dict(given) if isinstance(given, Mapping) else {"kind": given}
        unknown = sorted(set(changes) - _FIELDS)
        if unknown:
            raise SchemaError(
                f"kinds[{name!r}]: {unknown[0]!r} cannot be given; choose from {sorted(_FIELDS)}."
            )
        if changes.get("kind", "numeric") not in KINDS:
            raise SchemaError(
                f"kinds[{name!r}]={changes['kind']!r} is not known; choose from {', '.join(KINDS)}."
            )
        if "kind" in changes:
            # Levels, range and decimals of another kind would contradict the new one.
            hints[name] = {}
        hints.setdefault(name, {}).update(changes)
    for name, cuts in edges.items():
        if cuts is not None:
            try:
                hints.setdefault(name, {})["edges"] = tuple(float(cut) for cut in cuts)
            except (TypeError, ValueError):
                raise SchemaError(
                    f"sensitive={{{name!r}: {cuts!r}}}: edges are numbers at which groups are cut, such as [30, 60]."
                ) from None
    return said


def _hints_of(base: Schema, names: list[str]) -> dict[str, dict[str, Any]]:
    held, known = set(names), set(base.names)
    lacking = [name for name in base.names if name not in held]
    extra = [name for name in names if name not in known]
    # Hints from SDV or by hand may be silent on columns; a schema that has seen rows may not.
    if lacking or (extra and base.frame):
        parts = [f"names {', '.join(map(repr, lacking))}, not in the table"] if lacking else []
        parts += [f"does not name {', '.join(map(repr, extra))} of the table"] if extra and base.frame else []
        raise SchemaError(
            f"the schema {' and '.join(parts)}; correct the schema, or the columns of the table."
        )
    return {column.name: column.model_dump(exclude_defaults=True, include=set(_FIELDS)) for column in base}


def as_texts(value: Any) -> tuple[str, ...]:
    """Return what was said as texts, one thing as one of them: ``missing=-9`` is what everybody tries."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return (str(value),)
    return tuple(str(one) for one in value)


def _favorable_texts(value: Any) -> tuple[str, ...]:
    values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    return tuple(dict.fromkeys(level_text(one) for one in values))


def favorable_levels(schema: Schema, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the favorable levels as the target spells them.

    Raises
    ------
    SchemaError
        If all levels of the target are among them.
    """
    if not wanted or not schema.target:
        return wanted
    column = schema[schema.target]
    levels = column.group_names() if column.kind in ("categorical", "boolean") else ()
    # A command line gives "true" for True and "1.0" for 1.
    spelled = {level.lower(): level for level in levels} if set(levels) <= {"True", "False"} else {}
    found = tuple(spelled.get(value.lower(), value) for value in wanted)
    if levels and set(found) >= set(levels):
        raise SchemaError(
            f"every level of target {column.name!r} is said to be favorable; name only the good ones."
        )
    return found
