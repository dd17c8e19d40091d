"""Commands that learn: ``fit`` and ``distill``."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any

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
    SeedOption,
    SensitiveOption,
    TargetOption,
    open_stream,
    open_table,
    progress_bar,
    typed_settings,
    writable,
)
from fairsynth.errors import FairsynthWarning, SettingsError
from fairsynth.fairness import Criterion

CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="DIR",
        help="Where the work is kept, to go on from if it is killed. [default: MODEL.checkpoint, "
        "removed at the end]",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method; see `fairsynth models NAME`."),
]
ModelOutput = Annotated[
    Path, typer.Option("-o", "--output", metavar="MODEL", help="The model file to write.")
]


@command("fit")
def fit(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="A file, a folder of Parquet, or duckdb:///file.db?query=…")
    ],
    output: ModelOutput,
    target: TargetOption = None,
    favorable: FavorableOption = None,
    sensitive: SensitiveOption = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="The method; see `fairsynth models`.")
    ] = None,
    criterion: Annotated[
        Criterion | None,
        typer.Option("--criterion", help="The fairness that is wanted. [default: demographic_parity]"),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            metavar="0..1",
            help="How much of it: 0 is faithful, bias and all, 1 the fairest. [default: 1]",
        ),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            metavar="BOUND",
            help="What models trained on the rows have to keep to, such as 'dpr>=0.95' or 'eor[sex]>=0.8'; may be "
            "given again. Tried on people held out, and met at the least cost; the exit status is 3 if it cannot be.",
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            "--confidence",
            metavar="0..1",
            help="How surely --require has to hold on new people, by resampling those held out. [default: 0.8]",
        ),
    ] = None,
    schema: SchemaOption = None,
    seed: SeedOption = 0,
    settings: SetOption = None,
    edges: EdgesOption = None,
    domain: DomainOption = None,
    identifier: IdentifierOption = None,
    missing: MissingOption = None,
    kind: KindOption = None,
    checkpoint: CheckpointOption = None,
    sample_rows: Annotated[
        int | None,
        typer.Option(
            "--sample-rows",
            metavar="N",
            min=1_000,
            help="Read Parquet of more rows than this in batches: what is asked of a row is learned from N rows drawn "
            "evenly, and how often what comes from all. [default: 300,000, of files of more than 1,000,000]",
        ),
    ] = None,
) -> None:
    """Learn a fair generator from a table.

    Killed in the middle, the same command goes on from where it was. Started by torchrun, several processes train one
    network together.
    """
    writable(output, table, schema)
    if confidence is not None and not require:
        raise SettingsError("--confidence is that of a bound: ask for one with --require.")
    method, chosen = _method(model, settings, criterion, strength, seed)
    roles: dict[str, Any] = {
        "schema": schema,
        "target": target,
        "favorable": favorable,
        "sensitive": sensitive,
        "edges": edges,
        "domain": domain,
        "identifier": identifier,
        "missing": missing,
        "kind": kind,
    }
    began = time.monotonic()
    opened: Any = None
    if method.streams:
        with progress_bar() as progress:
            opened = open_stream(table, sample_rows, seed=seed, progress=progress, **roles)
    elif sample_rows is not None:
        raise SettingsError(
            f"--sample-rows: {method.name} needs all rows in memory; leave it out, or take audited-trees."
        )
    if opened is None:
        opened = open_table(table, **roles)
        began = time.monotonic()
    if require:
        sure = {} if confidence is None else {"confidence": confidence}
        _meet(method, opened, require, {**chosen, **sure}, output, criterion, strength)
        return
    generator = method(**chosen)
    if launched():
        _fit_together(generator, opened, output, checkpoint)
        return
    with _checkpoint(output, checkpoint) as folder:
        with progress_bar() as progress:
            generator.fit(opened, progress=progress, checkpoint=folder)
        generator.save(output)
    took = time.monotonic() - began
    note(f"Wrote {output}: {method.__name__} learned from {len(opened):,} rows in {took:.0f} s.")
    _tell_audit(generator)


def _tell_audit(generator: Any) -> None:
    """Say what was found of later models while the generator was made, if it audits any, and when that is dear."""
    from fairsynth.generators.audit_findings import AuditFindings

    found = getattr(generator, "audit_", None)
    if not isinstance(found, AuditFindings):
        return
    note(f"Models trained on its rows, deciding on the people it learned from: {found}.")
    if found.dear:
        from fairsynth.evaluation.requirements import METRICS

        lost = found.plain_accuracy - found.accuracy
        metric = next(name for name, criterion in METRICS.items() if criterion == found.criterion)
        note(
            f"Note: {lost:.3f} of accuracy is much to lose. A lower --strength loses less, and --require "
            f"'{metric}>=…' finds the least that meets a bound."
        )


def launched() -> bool:
    """Whether torchrun started this process as one of several; known without PyTorch."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1" and "MASTER_ADDR" in os.environ


def _fit_together(generator: Any, opened: Any, output: Path, checkpoint: Path | None) -> None:
    """Train with the other processes; the first of them writes, and says what is to be said."""
    from fairsynth.nn.parallel import joined

    began = time.monotonic()
    first = os.environ["RANK"] == "0"
    kept = _checkpoint(output, checkpoint) if first else nullcontext(_checkpoint_of(output, checkpoint))
    shown: Any = progress_bar() if first else nullcontext()
    # In this order: the folder of the checkpoint goes when all have left.
    with kept as folder, joined() as team, shown as progress:
        generator.fit(opened, progress=progress, checkpoint=folder)
        if first:
            generator.save(output)
    if not first:
        return
    took = time.monotonic() - began
    note(
        f"Wrote {output}: {type(generator).__name__} learned from {len(opened):,} rows in {took:.0f} s, "
        f"{team.size} processes together."
    )
    if not team.steps:
        note(f"{generator.name} trains no network: every process did the whole work, and one is as fast.")


def _meet(
    method: Any,
    table: Any,
    require: list[str],
    chosen: dict[str, Any],
    output: Path,
    criterion: Criterion | None,
    strength: float | None,
) -> None:
    """Fit such that bounds are met, and say with what confidence."""
    from fairsynth.evaluation.requirements import meet
    from fairsynth.generators.audited_trees import AuditedTrees

    if method is not AuditedTrees:
        raise SettingsError(
            f"--require is for audited-trees, not for {method.name}; leave out --model, or use --strength."
        )
    if criterion is not None or strength is not None:
        raise SettingsError(
            "--require finds criterion and strength itself; leave out --criterion and --strength."
        )
    began = time.monotonic()
    with progress_bar() as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", FairsynthWarning)  # what it says is said below
        generator, promise = meet(table, require, progress=progress, **chosen)
    generator.save(output)
    took = time.monotonic() - began
    note(f"Wrote {output}: {method.__name__} learned from {len(table):,} rows in {took:.0f} s.")
    for remark in table.schema.notes:
        note(f"Note: {remark}")
    note(f"The requirement is {promise}", always=not promise.met)
    if not promise.met:
        note("No setting meets it: this one comes nearest.", always=True)
        raise typer.Exit(3)


def _method(
    name: str | None,
    settings: list[str] | None,
    criterion: Criterion | None,
    strength: float | None,
    seed: int,
) -> tuple[Any, dict[str, Any]]:
    """Find the method's class, and the arguments that the options make for it."""
    from fairsynth.fairness import Fairness
    from fairsynth.generators.base import refuse_unsaved
    from fairsynth.generators.registry import DEFAULT_GENERATOR, get_generator_class

    name = name or DEFAULT_GENERATOR
    method = get_generator_class(name)
    refuse_unsaved(method)
    chosen = typed_settings(settings, method)
    chosen["seed"] = seed
    if criterion is not None or strength is not None:
        if not method.capabilities.criteria:
            raise SettingsError(
                f"{name} knows no fairness to ask for; leave out --criterion and --strength, or choose a "
                "method of `fairsynth models` that has criteria."
            )
        base = method().fairness or Fairness()
        chosen["fairness"] = Fairness(
            criterion=base.criterion if criterion is None else criterion,
            strength=base.strength if strength is None else strength,
        )
    return method, chosen


@command("distill")
def distill(
    teacher: Annotated[Path, typer.Argument(metavar="TEACHER", help="A model file that `fit` wrote.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="STUDENT", help="The model file to write.")
    ],
    seed: SeedOption = 0,
    settings: SetOption = None,
    checkpoint: CheckpointOption = None,
) -> None:
    """Make a small student from a teacher's file alone, without any data."""
    from fairsynth.generators.registry import student_class

    writable(output, teacher)
    method: Any = student_class(teacher)
    chosen = typed_settings(settings, method)
    began = time.monotonic()
    with _checkpoint(output, checkpoint) as folder:
        with progress_bar() as progress:
            student = method(**chosen).distill(teacher, seed=seed, progress=progress, checkpoint=folder)
        student.save(output)
    note(f"Wrote {output}: distilled from {teacher} alone in {time.monotonic() - began:.0f} s.")


def _checkpoint_of(output: Path, given: Path | None) -> Path:
    return given if given is not None else output.with_name(output.name + ".checkpoint")


@contextmanager
def _checkpoint(output: Path, given: Path | None) -> Iterator[Path]:
    """Lend the folder that a fit resumes from; the one beside the model goes when the model stands."""
    folder = _checkpoint_of(output, given)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        note(f"A checkpoint lies in {folder}: if it is of this same work, the work goes on from there.")
    try:
        yield folder
    except BaseException:
        with suppress(OSError):
            folder.rmdir()  # only if nothing was kept in it yet
        if folder.exists():
            note(f"The same command goes on from {folder}.")
        raise
    if given is None:
        shutil.rmtree(folder, ignore_errors=True)
