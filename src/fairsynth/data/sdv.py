"""SDV metadata, read as hints to what the columns of a table are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairsynth.errors import SchemaError


def is_sdv(body: dict[str, Any]) -> bool:
    """Whether a JSON object is SDV metadata."""
    if "METADATA_SPEC_VERSION" in body or "tables" in body:
        return True
    columns = body.get("columns")
    return isinstance(columns, dict) and any(
        "sdtype" in spec for spec in columns.values() if isinstance(spec, dict)
    )


def hints_from_sdv(body: dict[str, Any]) -> dict[str, Any]:
    """Read SDV metadata as hints.

    ``numerical`` becomes a number, ``categorical``, ``boolean`` and ``datetime`` stay themselves;
    ``id``, whatever SDV holds to be personal (``pii``) and primary keys become identifiers;
    ``unknown`` is left to the rows.

    Parameters
    ----------
    body : dict
        The metadata: ``SINGLE_TABLE_V1``, or ``V1`` with one table.

    Returns
    -------
    dict
        Fields of a :class:`~fairsynth.data.schema.Schema` that has seen no rows.

    Raises
    ------
    SchemaError
        If there is not exactly one table, or the metadata is of a version that is not known.
    """
    version = body.get("METADATA_SPEC_VERSION")
    if version not in (None, "SINGLE_TABLE_V1", "V1"):
        raise SchemaError(
            f"SDV metadata of version {version!r} is not known; SINGLE_TABLE_V1 and V1 are read."
        )
    if "tables" in body:
        tables = body["tables"]
        if not isinstance(tables, dict) or len(tables) != 1:
            held = ", ".join(tables) if isinstance(tables, dict) else "no"
            raise SchemaError(f"SDV metadata must describe one table, and this one describes {held}.")
        body = next(iter(tables.values()))
    specs = body.get("columns")
    if not isinstance(specs, dict) or not specs:
        raise SchemaError("SDV metadata without columns.")
    keys = {body.get("primary_key"), *_flat(body.get("alternate_keys", ()))}
    columns, identifiers = [], []
    for name, spec in specs.items():
        sdtype = spec.get("sdtype") if isinstance(spec, dict) else None
        if sdtype is None:
            raise SchemaError(f"SDV metadata: column {name!r} has no sdtype.")
        kind: str | None = {"numerical": "numeric", "unknown": None}.get(sdtype, sdtype)
        if sdtype not in ("numerical", "categorical", "boolean", "datetime", "unknown"):
            # Every other sdtype is "id" or a personal one (name, email, ssn, ...), private unless said
            # otherwise.
            kind = "identifier" if spec.get("pii", True) else "categorical"
        if name in keys or kind == "identifier":
            identifiers.append(name)
            kind = "identifier"
        if kind is not None:
            order = spec.get("order") if isinstance(spec.get("order"), list) else None
            columns.append({"name": name, "kind": kind, "ordered": bool(order) and kind == "categorical"})
    return {"columns": columns, "identifiers": identifiers, "notes": ["Kinds were hinted by SDV metadata."]}


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from value
        else:
            yield value
