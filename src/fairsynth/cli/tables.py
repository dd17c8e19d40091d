"""Commands about tables: ``schema`` and ``datasets``."""

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
from fairsynth.errors import SettingsError


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
        writable(output)
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


@command("datasets")
def datasets(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Describe this one.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write its train.csv and test.csv there."),
    ] = None,
) -> None:
    """List the data sets that come along, and those in the folder FAIRSYNTH_DATA."""
    from fairsynth.data.catalog import list_datasets, load_dataset

    if name is None:
        if output is not None:
            raise SettingsError("-o needs the NAME of the data set to write.")
        for known in list_datasets():
            typer.echo(known)
        return
    train, test = load_dataset(name)
    typer.echo(f"{name}: {len(train):,} + {len(test):,} rows\n\n{train.schema}")
    if output is None:
        return
    from fairsynth.data.frames import to_arrow
    from fairsynth.data.io import TableWriter

    output.mkdir(parents=True, exist_ok=True)
    for part, table in (("train", train), ("test", test)):
        with TableWriter(output / f"{part}.csv", table.schema) as writer:
            writer.write(to_arrow(table.frame, table.schema))
        note(f"Wrote {output / f'{part}.csv'}.")
