"""What several commands share: the table's roles, pairs of the form NAME=VALUE, and where output goes."""

from __future__ import annotations

import inspect
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from fairsynth.cli.app import state
from fairsynth.errors import SchemaError, SettingsError

if TYPE_CHECKING:
    from fairsynth.data.schema import Schema
    from fairsynth.data.streams import StreamedTable
    from fairsynth.data.table import Table
    from fairsynth.progress import Progress

TargetOption = Annotated[
    str | None, typer.Option("--target", metavar="COL", help="The column a later model predicts.")
]
FavorableOption = Annotated[
    list[str] | None,
    typer.Option("--favorable", metavar="VALUE", help="Value of the target that is good for the person."),
]
SensitiveOption = Annotated[
    list[str] | None,
    typer.Option(
        "--sensitive", metavar="COL", help="Sensitive column; several make groups of their joint levels."
    ),
]
EdgesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--edges", metavar="COL=25,60", help="Where the groups of a numeric sensitive column are cut."
    ),
]
DomainOption = Annotated[
    str | None,
    typer.Option("--domain", metavar="COL", help="The column that says which source a row is from."),
]
IdentifierOption = Annotated[
    list[str] | None,
    typer.Option("--identifier", metavar="COL", help="A column that is never learned: names, numbers."),
]
MissingOption = Annotated[
    list[str] | None,
    typer.Option("--missing", metavar="MARK", help="A text that means “missing”, such as “?”."),
]
KindOption = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="COL=KIND", help="Kind of a column, where the inferred one is wrong."),
]
SchemaOption = Annotated[
    Path | None,
    typer.Option(
        "--schema", metavar="FILE", help="A schema as JSON (of `fairsynth schema -o`, or SDV metadata)."
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Decides every random choice.")]


def pairs(given: Iterable[str] | None, option: str) -> dict[str, str]:
    """Split texts of the form NAME=VALUE at the first equals sign.

    Raises
    ------
    SettingsError
        If there is none, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise SettingsError(f"{option} {text!r} is not of the form NAME=VALUE.")
        if name in found:
            raise SettingsError(f"{option} names {name!r} twice; give it once.")
        found[name] = value
    return found


def typed_settings(given: Iterable[str] | None, method: type) -> dict[str, Any]:
    """Read ``--set key=value`` in the types that the method's ``__init__`` declares.

    Parameters
    ----------
    given : iterable of str or None
        The texts after ``--set``: JSON, or a bare word where text is wanted.
    method : type
        A generator class. Its fairness and seed have options of their own.

    Raises
    ------
    SettingsError
        If a key is not one of the method's, or a value is of another type.
    """
    known = inspect.signature(method).parameters.keys() - {"fairness", "seed"}
    hints = get_type_hints(method.__init__)  # type: ignore[misc]
    settings: dict[str, Any] = {}
    for name, text in pairs(given, "--set").items():
        if name not in known:
            told = ", ".join(sorted(known)) or "none"
            raise SettingsError(f"--set {name}: {method.__name__} has no such setting; it has {told}.")
        settings[name] = _typed(name, text, hints.get(name, Any))
    return settings


def _typed(name: str, text: str, hint: Any) -> Any:
    from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

    try:
        reader = TypeAdapter(hint)
    except PydanticSchemaGenerationError:
        raise SettingsError(f"--set {name}: this setting can only be given in Python.") from None
    reasons = []
    for form in (
        text,
        json.dumps(text),
    ):  # quoting a word for JSON inside of a shell's quotes is nobody's wish
        try:
            return reader.validate_json(form, strict=True)
        except ValidationError as error:
            reasons.append(error.errors()[0])
    # A text that was no JSON says nothing of what is wanted; the same text as a word does.
    reason = reasons[1] if reasons[0]["type"] == "json_invalid" else reasons[0]
    raise SettingsError(f"--set {name}={text}: {reason['msg']}. Values are written as in JSON.")


def read_schema(path: Path) -> Schema:
    """Read a schema or SDV metadata from a JSON file.

    Raises
    ------
    SchemaError
        If there is no such file, or it is no schema; the message names the file.
    """
    from fairsynth.data.schema import Schema

    try:
        return Schema.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, SchemaError) as error:
        told = error.strerror if isinstance(error, OSError) else str(error)
        raise SchemaError(f"{path}: {told or error}") from error


def open_table(
    data: str,
    *,
    schema: Path | None = None,
    target: str | None = None,
    favorable: Sequence[str] | None = None,
    sensitive: Sequence[str] | None = None,
    edges: Sequence[str] | None = None,
    domain: str | None = None,
    identifier: Sequence[str] | None = None,
    missing: Sequence[str] | None = None,
    kind: Sequence[str] | None = None,
) -> Table:
    """Read a table with the roles that the options give it."""
    from fairsynth.data.table import Table

    roles = _roles(target, favorable, sensitive, edges, domain, identifier, missing, kind)
    return Table(data, schema=None if schema is None else read_schema(schema), **roles)


def open_stream(
    data: str,
    sample_rows: int | None,
    *,
    seed: int,
    progress: Progress | None,
    schema: Path | None,
    **given: Any,
) -> StreamedTable | Table | None:
    """Read Parquet in batches, with the roles that the options of `open_table` give it; None for what is no such thing.

    Parts in a folder of no more rows than are read in batches come as one table.
    """
    from fairsynth.data.io import is_address
    from fairsynth.data.streams import SAMPLE_ROWS, STREAM_ABOVE, StreamedTable, count_rows, parquet_files

    files = [] if is_address(data) else parquet_files(data)
    if not files:
        if sample_rows is not None:
            raise SettingsError(
                f"--sample-rows is for Parquet, and {data} is neither a file nor a folder of it."
            )
        return None
    roles = {**_roles(**given), "schema": None if schema is None else read_schema(schema)}
    if count_rows(files) > (STREAM_ABOVE if sample_rows is None else sample_rows):
        rows = SAMPLE_ROWS if sample_rows is None else sample_rows
        return StreamedTable(data, sample_rows=rows, seed=seed, progress=progress, **roles)
    if not Path(data).is_dir():
        return None
    import polars as pl

    from fairsynth.data.table import Table

    return Table(pl.concat([pl.read_parquet(file) for file in files]), **roles)


def _roles(
    target: str | None = None,
    favorable: Sequence[str] | None = None,
    sensitive: Sequence[str] | None = None,
    edges: Sequence[str] | None = None,
    domain: str | None = None,
    identifier: Sequence[str] | None = None,
    missing: Sequence[str] | None = None,
    kind: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return what options say of columns as arguments of `Table`."""
    roles: dict[str, Any] = {}
    if target is not None:
        roles["target"] = target
    if favorable:
        roles["favorable"] = tuple(favorable)
    cuts = {name: _numbers(name, text) for name, text in pairs(edges, "--edges").items()}
    if sensitive:
        if unknown := set(cuts) - set(sensitive):
            raise SettingsError(f"--edges names {min(unknown)!r}, which is not given as --sensitive.")
        roles["sensitive"] = {name: cuts.get(name) for name in sensitive} if cuts else tuple(sensitive)
    elif cuts:
        raise SettingsError("--edges says where groups are cut, but no column is given as --sensitive.")
    if domain is not None:
        roles["domain"] = domain
    if identifier:
        roles["identifiers"] = tuple(identifier)
    if missing:
        roles["missing"] = tuple(missing)
    if kind:
        roles["kinds"] = pairs(kind, "--kind")
    return roles


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise SettingsError(f"--edges {name}={text}: numbers with commas between are needed.") from None


def writable(path: Path, *kept: str | os.PathLike[str] | None) -> None:
    """Find out before the work, not after it, whether its result can be written to `path`.

    Parameters
    ----------
    path : Path
        What will be written.
    *kept : path or None
        What is read, and must not be written over; what is no file, such as an address of a database, is none of these.

    Raises
    ------
    OSError
        If it cannot.
    SettingsError
        If one of `kept` stands there.
    """
    for own in kept:
        if own is not None and _is_same(path, own):
            raise SettingsError(
                f"{path} is read by this command and would be written over; write somewhere else."
            )
    if path.is_dir():
        raise IsADirectoryError(21, "This is a folder, and a file is to be written there", str(path))
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    # Asking for the rights is not enough: a disk can be full or read-only.
    try:
        handle, name = tempfile.mkstemp(prefix=".part-", dir=folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    os.close(handle)
    os.unlink(name)


def _is_same(path: Path, other: str | os.PathLike[str]) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):  # one of them is not there, or is no path at all
        return False


def progress_bar() -> AbstractContextManager[Progress]:
    """Return the bar that long commands show, silent with ``--quiet``."""
    from fairsynth.progress import bar

    return bar(quiet=state.quiet)
