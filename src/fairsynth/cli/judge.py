"""The command that judges a synthetic table: ``evaluate``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairsynth.cli.app import command, note, show
from fairsynth.cli.documents import (
    AboutOption,
    CroissantOption,
    card_paths,
    read_about,
    released_file,
    write_metadata,
    write_model_card,
)
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
    open_table,
    pairs,
    progress_bar,
    writable,
)
from fairsynth.errors import SettingsError

if TYPE_CHECKING:
    from fairsynth.data.table import Table
    from fairsynth.evaluation.result import Evaluation

# A name, not a path and not the scheme of an address.
_NAMED = re.compile(r"[\w .-]+=.")


@command("evaluate")
def evaluate(
    real: Annotated[
        str, typer.Option("--real", metavar="TRAIN", help="The real rows that were learned from.")
    ],
    test: Annotated[str, typer.Option("--test", metavar="TEST", help="Real rows that nothing has seen.")],
    synthetic: Annotated[
        list[str],
        typer.Option("--synthetic", metavar="SYN", help="The table to judge; several as NAME=FILE each."),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", metavar="MODEL", help="The model file, which knows target, groups and kinds."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="HTML",
            help="Write the report, one HTML file, and the model card beside it.",
        ),
    ] = None,
    card: Annotated[
        bool,
        typer.Option("--card/--no-card", help="The model card: HTML’s name with .card.md and .card.json."),
    ] = True,
    scores: Annotated[
        Path | None, typer.Option("--json", metavar="JSON", help="Write every score as JSON.")
    ] = None,
    metadata: CroissantOption = None,
    about: AboutOption = None,
    target: TargetOption = None,
    favorable: FavorableOption = None,
    sensitive: SensitiveOption = None,
    schema: SchemaOption = None,
    seed: SeedOption = 0,
    depth: Annotated[
        str, typer.Option("--depth", metavar="DEPTH", help="How much is measured: quick, core or full.")
    ] = "core",
    quick: Annotated[bool, typer.Option("--quick", help="The same as --depth quick.")] = False,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Measure so often, with other seeds, and say the spread.")
    ] = 1,
    downstream: Annotated[
        list[str] | None,
        typer.Option(
            "--downstream",
            metavar="NAME",
            help="Model to train on the rows: lightgbm, logistic_regression, random_forest. [default: all]",
        ),
    ] = None,
    admissible: Annotated[
        list[str] | None,
        typer.Option(
            "--admissible", metavar="COL", help="Column whose levels may differ: parity within them is added."
        ),
    ] = None,
    minimum_group: Annotated[
        int,
        typer.Option(
            "--minimum-group", metavar="N", min=1, help="People a joint group needs to decide a headline."
        ),
    ] = 100,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the models.")] = 2,
    edges: EdgesOption = None,
    domain: DomainOption = None,
    identifier: IdentifierOption = None,
    missing: MissingOption = None,
    kind: KindOption = None,
) -> None:
    """Measure how fair, useful, faithful and private a synthetic table is."""
    judged = tables_to_judge(synthetic)
    read = [real, test, model, schema, *([judged] if isinstance(judged, str) else judged.values())]
    for path in (report, scores, metadata, *(card_paths(report) if report and card else ())):
        if path is not None:
            writable(path, *read)
    said = read_about(about)
    if quick and depth not in ("core", "quick"):
        raise SettingsError(f"--quick and --depth {depth} contradict each other; give one.")
    roles: dict[str, Any] = {
        "target": target,
        "favorable": favorable,
        "sensitive": sensitive,
        "edges": edges,
        "domain": domain,
        "identifier": identifier,
        "missing": missing,
        "kind": kind,
        "schema": schema,
    }
    if model is not None:
        if given := [f"--{name}" for name, value in roles.items() if value]:
            raise SettingsError(
                f"--model says what the columns are; leave out {', '.join(given)}, or --model."
            )
        train, meta = _as_learned(real, model)
    else:
        if schema is None and not (target and favorable and sensitive):
            raise SettingsError(
                "what the columns are is not known: give --model, or --target, --favorable and --sensitive "
                "(or a --schema that has them)."
            )
        train, meta = open_table(real, **roles), {}

    file = None if metadata is None else released_file(judged)

    from fairsynth.evaluation.downstream import MODELS
    from fairsynth.evaluation.evaluate import evaluate as run

    with progress_bar() as progress:
        evaluation = run(
            train,
            test,
            judged,
            seed=seed,
            depth="quick" if quick else depth,
            repeats=repeats,
            admissible=tuple(admissible or ()),
            minimum_group=minimum_group,
            threads=threads,
            generator_info=meta,
            progress=progress,
            models=tuple(downstream or MODELS),
        )
    show(evaluation.summary())
    write_results(evaluation, report, scores)
    if report is not None and card:
        write_model_card(evaluation, report, said)
    if metadata is not None and file is not None:
        write_metadata(train.schema, file, metadata, said, evaluation)


def tables_to_judge(given: list[str]) -> str | dict[str, str]:
    """Read one table, or several of the form NAME=FILE.

    Raises
    ------
    SettingsError
        If there are several and one has no name, or a name comes twice.
    """
    if len(given) == 1 and (Path(given[0]).exists() or not _NAMED.match(given[0])):
        return given[0]
    if bare := [text for text in given if not _NAMED.match(text)]:
        raise SettingsError(f"--synthetic {bare[0]}: several tables need names: --synthetic NAME={bare[0]}.")
    return pairs(given, "--synthetic")


def write_results(evaluation: Evaluation, report: Path | None, scores: Path | None) -> None:
    """Write the scores and the report where they are wanted, each whole or not at all."""
    from fairsynth.files import atomic_path, write_text

    if scores is not None:
        write_text(scores, evaluation.to_json() + "\n")
        note(f"Wrote {scores}.")
    if report is not None:
        with atomic_path(report) as part:
            evaluation.to_html(part)
        note(f"Wrote {report}. Open it in a browser; it needs no network.")


def generator_info(generator: Any) -> dict[str, Any]:
    """Say what a generator was and what was asked of it, for the report."""
    info: dict[str, Any] = {"model": type(generator).__name__}
    if generator.fairness is not None:
        info |= generator.fairness.to_dict()
    promise = getattr(generator, "promise_", None)
    if promise is not None:
        info["promise"] = promise
    return info


def _as_learned(real: str, model: Path) -> tuple[Table, dict[str, Any]]:
    """Read the training rows with the schema of the model, and say what the model was asked for."""
    from fairsynth.data.table import Table
    from fairsynth.generators.base import load_generator

    generator = load_generator(model)
    return Table(real, schema=generator.schema_), generator_info(generator)
