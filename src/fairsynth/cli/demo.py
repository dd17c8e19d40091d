"""The main job from start to finish on a real table: ``demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fairsynth.cli.app import command, note, show
from fairsynth.cli.documents import card_paths, write_metadata, write_model_card
from fairsynth.cli.judge import generator_info, write_results
from fairsynth.cli.options import SeedOption, progress_bar, writable
from fairsynth.errors import MissingDependencyError

DATASET = "loanapp"


@command("demo")
def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="The folder to write into.")
    ] = Path("demo"),
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="NAME", help="A data set of `fairsynth datasets`.")
    ] = DATASET,
    images: Annotated[
        bool,
        typer.Option("--images", help="Do it on images: handwritten digits in colors that give them away."),
    ] = False,
    seed: SeedOption = 0,
) -> None:
    """Do the whole job on a real table: fit, export, distil without data, sample, judge, report."""
    if images:
        from fairsynth.cli.images import DEMO, demo_images

        demo_images(output, DEMO if dataset == DATASET else dataset, seed)
        return
    from fairsynth.data.catalog import load_dataset
    from fairsynth.generators.registry import DEFAULT_GENERATOR, get_generator_class, student_class

    began = time.monotonic()
    files = {
        "report": output / "report.html",
        "scores": output / "scores.json",
        "teacher": output / "teacher.fairsynth",
        "student": output / "student.fairsynth",
        "rows": output / "synthetic.parquet",
        "metadata": output / "synthetic.croissant.json",
    }
    for path in (*files.values(), *card_paths(files["report"])):
        writable(path)
    try:
        train, test = load_dataset(dataset)
    except MissingDependencyError as error:
        raise MissingDependencyError(f"{error} Or run `make demo`, which installs it.") from error
    schema = train.schema
    note(
        f"{dataset}: {len(train):,} rows to learn from and {len(test):,} to judge with; "
        f"target {schema.target} (favorable: {', '.join(schema.favorable)}), "
        f"sensitive: {', '.join(schema.sensitive)}."
    )
    output.mkdir(parents=True, exist_ok=True)

    with progress_bar() as progress:
        teacher = get_generator_class(DEFAULT_GENERATOR)(seed=seed).fit(train, progress=progress)
        teacher.save(files["teacher"])
        # The student sees this file and nothing else.
        student: Any = student_class(files["teacher"])()
        student.distill(files["teacher"], seed=seed, progress=progress)
        student.save(files["student"])
        student.sample_to(files["rows"], len(train), seed=seed, progress=progress)

        from fairsynth.evaluation.evaluate import evaluate

        evaluation = evaluate(
            train,
            test,
            {"student": files["rows"], "teacher": teacher.sample(len(train), seed=seed)},
            seed=seed,
            generator_info=generator_info(student),
            progress=progress,
        )
    show(evaluation.summary())
    write_results(evaluation, files["report"], files["scores"])
    about = {
        "name": f"{dataset}-synthetic",
        "description": f"Synthetic rows drawn from a {type(student).__name__} student of {dataset!r}.",
        "training_data": f"The data set {dataset!r} of fairsynth, {len(train):,} rows.",
    }
    write_model_card(evaluation, files["report"], about)
    write_metadata(schema, files["rows"], files["metadata"], about, evaluation)
    note(f"Wrote {files['teacher']}, {files['student']} and {files['rows']} (the student's rows).")
    note(f"The whole job took {time.monotonic() - began:.0f} s.")
    typer.echo(f"Open {files['report']} in a browser.")
