"""The command about named data sets: ``datasets``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairsynth.cli.app import command, note, show
from fairsynth.cli.options import progress_bar
from fairsynth.errors import FairsynthWarning, SettingsError

if TYPE_CHECKING:
    from fairsynth.data.catalog import DatasetInfo
    from fairsynth.data.table import Table

_PLACES = {
    "bundled": "bundled",
    "folder": "here, folder",
    "cache": "here, cache",
    "download": "download",
    "by hand": "by hand",
}


@command("datasets")
def datasets(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Describe this one, or the .toml of one's own.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write its train.csv and test.csv there."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="Where data sets lie; FAIRSYNTH_DATA by default."),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch its files into the cache, unless they are here.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="With --download: fetch them also if they are here.")
    ] = False,
) -> None:
    """List the data sets that there are: bundled, in your folder, and to be had from their publishers."""
    from fairsynth.data.catalog import describe_dataset, download_dataset, list_datasets, load_dataset

    if name is None:
        for wanted, option in ((output is not None, "-o"), (download, "--download"), (again, "--again")):
            if wanted:
                raise SettingsError(f"{option} needs the NAME of a data set.")
        _list([describe_dataset(known, folder) for known in list_datasets(folder, everything=True)])
        return
    if again and not download:
        raise SettingsError("--again goes with --download.")
    info = describe_dataset(name, folder)
    with _remarks():
        if download:
            with progress_bar() as progress:
                files = download_dataset(name, folder, again=again, progress=progress)
            for file in files:
                note(f"{file} is here.")
            info = describe_dataset(name, folder)
        parts = load_dataset(name, folder) if info.is_here or output is not None else None
    _describe(describe_dataset(name, folder))
    if parts is None:
        return
    train, test = parts
    typer.echo(f"\n{len(train):,} + {len(test):,} rows\n\n{train.schema}")
    if output is not None:
        _write(output, train, test)


def _list(infos: list[DatasetInfo]) -> None:
    from rich.table import Table as RichTable

    table = RichTable(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    for heading in ("target", "sensitive", "terms", "where"):
        table.add_column(heading)
    for info in infos:
        rows = "?" if info.rows is None else f"{info.rows:,}"
        favorable = " or ".join(info.favorable)
        table.add_row(
            info.name,
            rows,
            f"{info.target} = {favorable}",
            ", ".join(info.sensitive),
            info.terms or "not stated",
            _PLACES[info.place],
        )
    show(table)
    note("`fairsynth datasets NAME` says more of one, and with --download fetches it.")


def _describe(info: DatasetInfo) -> None:
    rows = None
    if info.rows is not None:
        rows = f"{info.rows:,}" + (
            "" if info.rows_checked or info.place == "folder" else " as its publisher says"
        )
    said = {
        "title": info.title,
        "rows": rows,
        "target": f"{info.target}, favorable: {' or '.join(info.favorable)}",
        "sensitive": ", ".join(info.sensitive),
        "domain": info.domain,
        "split": info.split,
        "source": info.source,
        "page": info.page,
        "terms": info.terms or "not stated",
        "changes": info.changes,
        "where": _PLACES[info.place],
        "how": info.how,
    }
    typer.echo(info.name)
    for key, text in said.items():
        if text:
            typer.echo(f"  {key + ':':<11}{text}")
    for file, text in info.checksums.items():
        typer.echo(f"  {file}: {text}")


def _write(output: Path, train: Table, test: Table) -> None:
    from fairsynth.data.frames import to_arrow
    from fairsynth.data.io import TableWriter

    output.mkdir(parents=True, exist_ok=True)
    for part, table in (("train", train), ("test", test)):
        with TableWriter(output / f"{part}.csv", table.schema) as writer:
            writer.write(to_arrow(table.frame, table.schema))
        note(f"Wrote {output / f'{part}.csv'}.")


@contextmanager
def _remarks() -> Iterator[None]:
    """Tell warnings of fairsynth as remarks of one line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FairsynthWarning)
        try:
            yield
        finally:
            remarks = [str(one.message) for one in caught if issubclass(one.category, FairsynthWarning)]
            for remark in dict.fromkeys(remarks):
                note(remark, always=True)
