"""The command about tables: ``schema``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairsynth.cli.app import command, note
from fairsynth.cli.options import (
    DomainOption,
    EdgesOption,
    FavorableOption,
    IdentifierOption,
    KindOption,
    MissingOption,
    SchemaOption,
    SensitiveOption,
    TargetOption,
    open_table,
    writable,
)


@command("schema")
def schema(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A file, or duckdb:///file.db?query=…")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write it as JSON, to be edited.")
    ] = None,
    target: TargetOption = None,
    favorable: FavorableOption = None,
    sensitive: SensitiveOption = None,
    edges: EdgesOption = None,
    domain: DomainOption = None,
    identifier: IdentifierOption = None,
    missing: MissingOption = None,
    kind: KindOption = None,
    given: SchemaOption = None,
) -> None:
    """Print what each column of a table is taken to be."""
    if output is not None:
        writable(output, table)
    opened = open_table(
        table,
        schema=given,
        target=target,
        favorable=favorable,
        sensitive=sensitive,
        edges=edges,
        domain=domain,
        identifier=identifier,
        missing=missing,
        kind=kind,
    )
    typer.echo(str(opened.schema))
    if output is not None:
        from fairsynth.files import write_text

        write_text(output, opened.schema.to_json() + "\n")
        note(f"Wrote {output}. Edit it, then: fairsynth fit {table} --schema {output} …")
