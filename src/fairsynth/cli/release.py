"""Commands about a model file: ``sample`` from it, ``inspect`` it; and ``models``, the methods there are."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairsynth.cli.app import command, note, show
from fairsynth.cli.documents import AboutOption, CroissantOption, read_about, write_metadata
from fairsynth.cli.options import SeedOption, pairs, progress_bar, writable
from fairsynth.errors import DataError, SettingsError

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle
    from fairsynth.data.schema import Schema
    from fairsynth.generators.base import Mix

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")]
SUFFIXES = (".parquet", ".csv", ".csv.gz", ".xlsx")


@command("sample")
def sample(
    model: ModelArgument,
    n: Annotated[int, typer.Option("-n", "--rows", metavar="N", min=1, help="How many rows.")],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="A .parquet, .csv, .csv.gz or .xlsx file; or DIR/ for Parquet files in it.",
        ),
    ],
    seed: SeedOption = 0,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="COL=VALUE", help="Only rows with this value (several: all hold)."),
    ] = None,
    mix: Annotated[
        str,
        typer.Option(
            "--sensitive-mix",
            metavar="MIX",
            help="Groups as they were seen (“empirical”), in equal numbers (“uniform”), or with given shares: "
            "Female=0.5,Male=0.5, or the same as JSON.",
        ),
    ] = "empirical",
    target_mix: Annotated[
        list[str] | None,
        typer.Option(
            "--target-mix",
            metavar="LEVEL=SHARE",
            help="Shares of the target's levels, exact to the row: yes=0.5,no=0.5, or the option once for each.",
        ),
    ] = None,
    metadata: CroissantOption = None,
    about: AboutOption = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="ENGINE", help="For DIR/: local (processes) or ray (a cluster)."),
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="For DIR/: of the Ray cluster.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", min=1, help="For DIR/: processes. [default: one for each core]"),
    ] = None,
    partition_rows: Annotated[
        int | None,
        typer.Option(
            "--partition-rows", metavar="N", min=1, help="For DIR/: rows of a file. [default: a million]"
        ),
    ] = None,
) -> None:
    """Write synthetic rows to a file, as many as wanted: memory does not grow with their number.

    With a folder as OUT (DIR/) rows are drawn by several processes, or a Ray cluster, into one Parquet file for each
    million; killed in the middle, the same command goes on, and finished files are not drawn again.
    """
    options = {"engine": engine, "address": address, "jobs": jobs, "partition_rows": partition_rows}
    given = {name: value for name, value in options.items() if value is not None}
    if output.endswith(("/", os.sep)) or (given and not output.endswith(SUFFIXES)):
        if metadata is not None:
            raise SettingsError("--croissant describes one file; write one, or leave it out.")
        _sample_folder(model, Path(output), n, seed, where, _mix(mix), target_mix, given)
        return
    if given:
        name = min(given).replace("_", "-")
        raise SettingsError(f"--{name} is for a folder of files; write -o {Path(output).stem}/ for one.")
    _sample_file(model, Path(output), n, seed, where, _mix(mix), target_mix, metadata, about)


def _sample_file(
    model: Path,
    output: Path,
    n: int,
    seed: int,
    where: list[str] | None,
    mix: Mix,
    target_mix: list[str] | None,
    metadata: Path | None,
    about: list[str] | None,
) -> None:
    if not output.name.endswith(SUFFIXES):
        raise SettingsError(
            f"-o {output}: the name must end in {', '.join(SUFFIXES)}, which says the format; or in / for a folder."
        )
    writable(output, model)
    if metadata is not None:
        writable(metadata, model, output)
    said = read_about(about)
    from fairsynth.generators.base import load_generator

    generator = load_generator(model)
    began = time.monotonic()
    with progress_bar() as progress:
        output.parent.mkdir(parents=True, exist_ok=True)
        generator.sample_to(
            output,
            n,
            seed=seed,
            where=condition(where, generator.schema_) or None,
            sensitive=mix,
            target_mix=label_mix(target_mix, generator.schema_),
            progress=progress,
        )
    took = time.monotonic() - began
    note(f"Wrote {output}: {n:,} rows in {took:.1f} s.")
    if metadata is not None:
        write_metadata(generator.schema_, output, metadata, said)


def _sample_folder(
    model: Path,
    output: Path,
    n: int,
    seed: int,
    where: list[str] | None,
    mix: Mix,
    target_mix: list[str] | None,
    options: dict[str, Any],
) -> None:
    from fairsynth.generators.base import load_generator
    from fairsynth.partitions import sample_partitions

    schema = load_generator(model).schema_
    began = time.monotonic()
    with progress_bar() as progress:
        done = sample_partitions(
            model,
            output,
            n,
            seed=seed,
            where=condition(where, schema) or None,
            sensitive=mix,
            target_mix=label_mix(target_mix, schema),
            progress=progress,
            **options,
        )
    there = f"; {done.kept} of them were there" if done.kept else ""
    took = time.monotonic() - began
    note(f"Wrote {output}/: {n:,} rows in {len(done.files)} files{there}, in {took:.1f} s.")


def condition(given: list[str] | None, schema: Schema) -> dict[str, Any]:
    """Read ``--where COL=VALUE``: text, except for what only looks like it.

    The generator reads numbers and levels from text; an empty value means missing (unless it is a
    level), and moments are ISO 8601.

    Raises
    ------
    SchemaError, DataError
        If a column does not exist, or a moment is none.
    """
    found: dict[str, Any] = {}
    for name, text in pairs(given, "--where").items():
        column = schema[name]
        found[name] = text
        if not text and "" not in column.levels:
            found[name] = None
        elif column.kind == "datetime" and text != column.missing_marker:
            try:
                found[name] = datetime.fromisoformat(text)
            except ValueError:
                raise DataError(
                    f"--where {name}={text}: {name!r} holds moments; write one as 2026-01-31 or "
                    "2026-01-31T12:00:00."
                ) from None
    return found


#: One ``LEVEL=SHARE`` of several. A level may hold commas and equals signs, such as ``<=50K``; a share holds neither.
_SHARE = re.compile(r"(.+?)=([^,=]*)(?:,|$)", re.DOTALL)


def _shares(text: str) -> list[re.Match[str]]:
    """Return each ``LEVEL=SHARE`` of a text; none, if it is anything else."""
    parts = list(_SHARE.finditer(text))
    return parts if parts and parts[-1].end() == len(text) and not text.endswith(",") else []


def label_mix(given: list[str] | None, schema: Schema) -> dict[str, float] | None:
    """Read ``--target-mix LEVEL=SHARE``, several with commas between or one at a time.

    Returns
    -------
    dict of str to float, or None
        Level of the target → share, from 0 up; they need not sum to 1, and levels that are not named get none.

    Raises
    ------
    SettingsError
        If a text is of another form, a share is no number from 0 up, or a level comes twice or does not exist.
    """
    from fairsynth.generators.conditions import canonical_value

    found: dict[str, float] = {}
    target = str(schema.target)
    for text in given or ():
        parts = _shares(text)
        if not parts:
            raise SettingsError(
                f"--target-mix {text!r} is not of the form LEVEL=SHARE,LEVEL=SHARE, such as yes=0.5,no=0.5."
            )
        for part in parts:
            level, share = part.group(1), _number(part.group(2))
            if share is None or not 0 <= share < math.inf:
                raise SettingsError(
                    f"--target-mix {level}={part.group(2)}: the share of {level!r} must be a number from 0 up, "
                    "such as 0.5."
                )
            if level in found:
                raise SettingsError(f"--target-mix names {level!r} twice; give it once.")
            if schema[target].kind in ("categorical", "boolean"):
                try:
                    canonical_value(level, schema, target, what="--target-mix")
                except DataError as error:
                    raise SettingsError(str(error)) from None
            found[level] = share
    return found or None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _mix(text: str) -> Mix:
    if text == "empirical":
        return "empirical"
    if text == "uniform":
        return "uniform"
    try:
        shares = json.loads(text)
    except json.JSONDecodeError:
        parts = _shares(text)
        shares = {part.group(1): _number(part.group(2)) for part in parts} if parts else None
        if shares is not None and len(shares) < len(parts):
            raise SettingsError(f"--sensitive-mix {text!r} names a group twice; give it once.") from None
    if not isinstance(shares, dict) or not all(
        isinstance(share, int | float) and not isinstance(share, bool) for share in shares.values()
    ):
        raise SettingsError(
            f"--sensitive-mix {text!r} is neither empirical, uniform, nor shares by group, such as "
            'Female=0.5,Male=0.5 or \'{"Female": 0.5, "Male": 0.5}\'.'
        )
    return {group: float(share) for group, share in shares.items()}


@command("inspect")
def inspect(
    model: ModelArgument,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything but the weights as JSON.")
    ] = False,
) -> None:
    """Say what a model file is, and list everything in it that came from the data.

    The file is checked as a whole; nothing in it is run or built.
    """
    from fairsynth import bundle

    content = bundle.read(model)
    if as_json:
        members = {name: asdict(member) for name, member in content.members.items()}
        head = {"format": bundle.FORMAT, "version": content.version, "made_by": content.made_by}
        body = {"manifest": content.manifest, "documents": content.documents, "members": members}
        typer.echo(json.dumps(head | body, indent=2, ensure_ascii=False))
        return
    with content.guard():
        for line in _description(content):
            typer.echo(line)


def _description(content: Bundle) -> Iterator[str]:
    from fairsynth.data.dated import Dated
    from fairsynth.data.derived import Derived
    from fairsynth.data.schema import Schema
    from fairsynth.generators.audit_findings import AuditFindings

    said = content.manifest
    kind = said.get("generator", said.get("kind", "unknown"))
    yield f"{content.path}: {kind}, made by fairsynth {content.made_by} (format {content.version})"
    if fairness := said.get("fairness"):
        yield f"fairness asked for: {fairness['criterion']}, strength {fairness['strength']:g}"
    if "n_rows" in said:
        yield f"learned from {said['n_rows']:,} rows"
    if "audit" in content.documents:
        found = AuditFindings.from_dict(content.document("audit"))
        yield f"models trained on its rows, deciding on {found.people:,} of the people it learned from: {found}"
    if "parameters" in said:
        yield f"parameters: {said['parameters']:,}"
    if settings := said.get("settings"):
        yield "\nsettings"
        for name, value in sorted(settings.items()):
            if name == "fairness":
                continue  # said above
            yield f"  {name} = {json.dumps(value, ensure_ascii=False)}"
    if from_data := said.get("from_data"):
        yield "\nwhat in this file came from the data"
        for item in from_data:
            yield f"  - {item['what']} ({item['where']})"
    columns = content.documents.get("columns")
    own = [part for part in columns if isinstance(part, dict)] if isinstance(columns, list) else []
    if follows := [Derived.model_validate(part["follows"]) for part in own if part.get("follows")]:
        yield "\ncolumns that are computed from others, once those are drawn"
        for derived in follows:
            yield f"  {derived.name} = {derived}"
    if since := [part for part in own if part.get("since")]:
        yield "\nmoments that are told by the time since another one"
        for part in since:
            yield f"  {part['name']} since {part['since']}"
    if decided := [part for part in own if part.get("told_by")]:
        yield "\ncolumns that another one decides, where five rows and more have its value"
        for part in decided:
            yield f"  {part['name']} by {part['told_by']}"
    if ordered := [part for part in own if part.get("never_below")]:
        yield "\nnumbers that are never below others"
        for part in ordered:
            yield f"  {part['name']} ≥ {', '.join(part['never_below'])}"
    if dated := [(part["name"], Dated.model_validate(part["dated"])) for part in own if part.get("dated")]:
        yield "\ncolumns that moments tell, computed from them or, marked by *, the moment moved to fit"
        for name, told in dated:
            yield f"  {name} = {told}{' *' if told.moves else ''}"
    yield "\nfiles in it (bytes, SHA-256)"
    for name, member in content.members.items():
        yield f"  {name:<24} {member.bytes:>12,}  {member.sha256}"
    if "schema" in content.documents:
        yield f"\nschema\n\n{Schema.from_json(json.dumps(content.documents['schema']))}"


_NOT_INSTALLED = '\nnot installed: pip install "fairsynth[peers]"'


@command("models")
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show its settings.", show_default=False)
    ] = None,
) -> None:
    """List the methods there are, what each can do, and (with NAME) its settings."""
    from fairsynth.generators.registry import get_generator_class, list_generators

    if name is not None:
        method = get_generator_class(name)
        can = method.capabilities
        typer.echo(f"{name}: {can.title}\n{can.paper}{'' if can.installed else _NOT_INSTALLED}\n")
        typer.echo("capabilities")
        for key, value in can.to_dict().items():
            if key not in ("title", "paper"):
                typer.echo(f"  {key} = {_words(value)}")
        typer.echo("\nsettings, for --set, with their defaults")
        for key, value in sorted(method().get_params(deep=False).items()):
            if key not in ("fairness", "seed"):
                typer.echo(f"  {key} = {json.dumps(value, default=str)}")
        return
    from rich.markup import escape
    from rich.table import Table as RichTable

    table = RichTable()
    columns = (
        "name",
        "what it is",
        "fairness",
        "targets",
        "several sensitive",
        "made from",
        "differentially private",
    )
    for heading in columns:
        table.add_column(heading, overflow="fold")
    for known in list_generators():
        try:
            can = get_generator_class(known).capabilities
        except SettingsError as error:  # one package that is broken must not hide the others
            table.add_row(known, escape(str(error)))
            continue
        table.add_row(
            known,
            f"{can.title}\n[dim]{can.paper}{'' if can.installed else escape(_NOT_INSTALLED)}[/dim]",
            "\n".join(can.criteria) + ("" if can.strength or not can.criteria else "\n(on or off)"),
            ", ".join(can.targets),
            _words(can.several_sensitive),
            "a teacher's file" if can.data_free else "rows",
            _words(can.private),
        )
    show(table)


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
