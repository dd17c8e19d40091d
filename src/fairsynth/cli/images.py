"""Commands for images: ``fairsynth images fit``, ``distill``, ``sample``, ``evaluate``, ``models``, and the demo."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairsynth.cli.app import app, command, note, show
from fairsynth.cli.image_sources import (
    FavorableOption,
    FileOption,
    FolderOption,
    GroupOption,
    IdxGroupsOption,
    IdxLabelsOption,
    ImagesArgument,
    LabelOption,
    ModeOption,
    SizeOption,
    SkipOption,
    open_images,
)
from fairsynth.cli.judge import generator_info, tables_to_judge, write_results
from fairsynth.cli.learn import CheckpointOption, ModelOutput, SetOption, _checkpoint
from fairsynth.cli.options import SeedOption, pairs, progress_bar, typed_settings, writable
from fairsynth.cli.release import _SHARE, ModelArgument, _mix, _number
from fairsynth.errors import DataError, SettingsError
from fairsynth.fairness import Criterion

if TYPE_CHECKING:
    from fairsynth.data.images import ImageSet
    from fairsynth.evaluation.images import ImageEvaluation

DEMO = "colored-digits"
#: Images that the demo draws; a generator's images cost nothing, so there may be more than real ones.
DEMO_IMAGES = 5000
#: Hidden layers of the demo's student: the images are small, and so is the encoder of which it may be a quarter.
DEMO_HIDDEN = (80, 80)
#: Seeds whose switched latents are counted.
SWITCHED = 10

images_app = typer.Typer(
    name="images",
    help=(
        "The same for images: fit, distill, sample, evaluate.\n\n"
        "IMAGES is a .npz file, a .csv table of picture files (beside it, or in --folder), a folder with "
        "images.csv, an idx "
        "file (with --idx-labels and --idx-groups), or a named set such as colored-digits:test."
    ),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(images_app)


@command("fit", to=images_app)
def fit(
    images: ImagesArgument,
    output: ModelOutput,
    label: LabelOption = None,
    sensitive: GroupOption = None,
    favorable: FavorableOption = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="The method; see `fairsynth images models`."),
    ] = None,
    criterion: Annotated[
        Criterion | None,
        typer.Option("--criterion", help="The fairness that is wanted. [default: the method's]"),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength", metavar="0..1", help="How much of it: 0 is faithful, bias and all. [default: 1]"
        ),
    ] = None,
    seed: SeedOption = 0,
    settings: SetOption = None,
    folder: FolderOption = None,
    file: FileOption = "file",
    size: SizeOption = None,
    mode: ModeOption = None,
    skip_bad: SkipOption = False,
    idx_labels: IdxLabelsOption = None,
    idx_groups: IdxGroupsOption = None,
    checkpoint: CheckpointOption = None,
) -> None:
    """Learn a fair generator from a set of images.

    Killed in the middle, the same command goes on from where it was.
    """
    from fairsynth.fairness import Fairness
    from fairsynth.generators.images.registry import DEFAULT_GENERATOR, get_generator_class

    writable(output, images, idx_labels, idx_groups)
    method = get_generator_class(model or DEFAULT_GENERATOR)
    chosen: dict[str, Any] = {**typed_settings(settings, method), "seed": seed}
    if criterion is not None or strength is not None:
        base = method().fairness or Fairness()
        chosen["fairness"] = Fairness(
            criterion=base.criterion if criterion is None else criterion,
            strength=base.strength if strength is None else strength,
        )
    with progress_bar() as progress:
        opened = open_images(
            images, label=label, sensitive=sensitive, favorable=favorable, folder=folder, file=file, size=size,
            mode=mode, skip_bad=skip_bad, idx_labels=idx_labels, idx_groups=idx_groups, progress=progress,
        )  # fmt: skip
        began = time.monotonic()
        generator = method(**chosen)
        with _checkpoint(output, checkpoint) as kept:
            generator.fit(opened, progress=progress, checkpoint=kept)
            generator.save(output)
    took = time.monotonic() - began
    note(f"Wrote {output}: {method.__name__} learned from {len(opened):,} images in {took:.0f} s.")


@command("distill", to=images_app)
def distill(
    teacher: Annotated[Path, typer.Argument(metavar="TEACHER", help="A model file that `images fit` wrote.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="STUDENT", help="The model file to write.")
    ],
    seed: SeedOption = 0,
    settings: SetOption = None,
    checkpoint: CheckpointOption = None,
) -> None:
    """Make a small student from a teacher's file alone, without any image (Fair4Free)."""
    from fairsynth.generators.images.fair4free import Fair4Free

    writable(output, teacher)
    chosen = typed_settings(settings, Fair4Free)
    began = time.monotonic()
    with _checkpoint(output, checkpoint) as folder:
        with progress_bar() as progress:
            student = Fair4Free(**chosen).distill(teacher, seed=seed, progress=progress, checkpoint=folder)
        student.save(output)
    note(f"Wrote {output}: distilled from {teacher} alone in {time.monotonic() - began:.0f} s.")


@command("sample", to=images_app)
def sample(
    model: ModelArgument,
    n: Annotated[int, typer.Option("-n", "--images", metavar="N", min=1, help="How many images.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="A .npz file, or a new folder of PNG files.")
    ],
    seed: SeedOption = 0,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="NAME=VALUE", help="Only images of this label or group."),
    ] = None,
    mix: Annotated[
        str,
        typer.Option(
            "--sensitive-mix",
            metavar="MIX",
            help="Groups as they were seen (“empirical”), in equal numbers (“uniform”), or with given shares: "
            '\'{"red": 0.5, "blue": 0.5}\'.',
        ),
    ] = "empirical",
    target_mix: Annotated[
        list[str] | None,
        typer.Option(
            "--target-mix",
            metavar="CLASS=SHARE",
            help="Shares of the classes, exact to the image: 3=0.5,8=0.5.",
        ),
    ] = None,
) -> None:
    """Write synthetic images, as many as wanted: memory does not grow with their number."""
    if output.suffix.lower() == ".npz":
        writable(output, model)
    elif output.suffix:
        raise SettingsError(f"-o {output}: give a .npz file, or a new folder without a suffix.")
    generator = load_image_generator(model)
    began = time.monotonic()
    with progress_bar() as progress:
        generator.sample_to(
            output,
            n,
            seed=seed,
            where=pairs(where, "--where") or None,
            sensitive=_mix(mix),
            target_mix=class_mix(target_mix),
            progress=progress,
        )
    note(f"Wrote {output}: {n:,} images in {time.monotonic() - began:.1f} s.")


def class_mix(given: list[str] | None) -> dict[str, float] | None:
    """Read ``--target-mix CLASS=SHARE``, several with commas between or one at a time.

    Raises
    ------
    SettingsError
        If a text is of another form, a share is no number from 0 up, or a class comes twice.
    """
    found: dict[str, float] = {}
    for text in given or ():
        place = 0
        for part in _SHARE.finditer(text):
            if part.start() != place:
                break
            place = part.end()
            share = _number(part.group(2))
            if share is None or not 0 <= share < float("inf"):
                raise SettingsError(
                    f"--target-mix {part.group(0)}: the share must be a number from 0 up, such as 0.5."
                )
            if part.group(1) in found:
                raise SettingsError(f"--target-mix names {part.group(1)!r} twice; give it once.")
            found[part.group(1)] = share
        if place != len(text):
            raise SettingsError(f"--target-mix {text!r} is not of the form CLASS=SHARE, such as 3=0.5,8=0.5.")
    return found or None


def load_image_generator(path: Path) -> Any:
    """Read the file of a generator of images.

    Raises
    ------
    SettingsError
        If it is one of tables.
    """
    from fairsynth.generators.base import load_generator

    generator: Any = load_generator(path)
    if not hasattr(generator, "shape_"):
        raise SettingsError(
            f"{path} makes tables and not images; use `fairsynth sample` and `fairsynth evaluate`."
        )
    return generator


@command("evaluate", to=images_app)
def evaluate(
    real: Annotated[
        str, typer.Option("--real", metavar="TRAIN", help="The real images that were learned from.")
    ],
    test: Annotated[str, typer.Option("--test", metavar="TEST", help="Real images that nothing has seen.")],
    synthetic: Annotated[
        list[str],
        typer.Option("--synthetic", metavar="SYN", help="The images to judge; several as NAME=IMAGES each."),
    ],
    other: Annotated[
        list[str] | None,
        typer.Option(
            "--other",
            metavar="NAME=IMAGES",
            help="A further real test set, such as one whose groups go with other labels.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="The model file, for pictures of its latent; NAME=MODEL for one of several.",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="HTML", help="Write the report, one HTML file.")
    ] = None,
    real_images: Annotated[
        bool,
        typer.Option("--real-images/--no-real-images", help="Whether the report may show real images."),
    ] = True,
    scores: Annotated[
        Path | None, typer.Option("--json", metavar="JSON", help="Write every score as JSON.")
    ] = None,
    label: LabelOption = None,
    sensitive: GroupOption = None,
    favorable: FavorableOption = None,
    features: Annotated[
        str,
        typer.Option(
            "--features", metavar="NET", help="Where distances are measured: trained, or inception."
        ),
    ] = "trained",
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="FILE", help="Weights of Inception, where there is no network."),
    ] = None,
    seed: SeedOption = 0,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Measure so often, with other seeds, and say the spread.")
    ] = 1,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Steps of each network. [default: by the number of images]"),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Networks trained side by side.")] = 2,
    folder: FolderOption = None,
    file: FileOption = "file",
    size: SizeOption = None,
    mode: ModeOption = None,
    skip_bad: SkipOption = False,
) -> None:
    """Measure how fair, useful, faithful and private synthetic images are."""
    from fairsynth.evaluation.images import evaluate_images

    judged = tables_to_judge(synthetic)
    read = [real, test, *([judged] if isinstance(judged, str) else judged.values())]
    for path in (report, scores):
        if path is not None:
            writable(path, *read)
    if weights is not None and features != "inception":
        raise SettingsError("--weights are those of Inception; add --features inception, or leave it out.")
    reading: dict[str, Any] = {
        "label": label, "sensitive": sensitive, "favorable": favorable, "folder": folder, "file": file, "size": size,
        "mode": mode, "skip_bad": skip_bad,
    }  # fmt: skip
    net: Any = features
    if weights is not None:
        from fairsynth.metrics.image_features import InceptionFeatures

        net = InceptionFeatures(weights)
    with progress_bar() as progress:

        def opened(source: str) -> ImageSet:
            return open_images(source, progress=progress, **reading)

        drawn = opened(judged) if isinstance(judged, str) else {k: opened(v) for k, v in judged.items()}
        pictures, info = _models(model, drawn, seed)
        evaluation = evaluate_images(
            opened(real),
            opened(test),
            drawn,
            others={name: opened(source) for name, source in pairs(other, "--other").items()},
            features=net,
            seed=seed,
            repeats=repeats,
            steps=steps,
            pictures=pictures,
            threads=threads,
            generator_info=info,
            progress=progress,
        )
    write_image_results(evaluation, report, scores, real_images=real_images)


def _models(given: list[str] | None, drawn: Any, seed: int) -> tuple[Any, dict[str, Any] | None]:
    """Return what the generators draw of their latents, and what is known of the first of them."""
    if not given:
        return None, None
    if isinstance(drawn, Mapping):
        files = pairs(given, "--model")
        if unknown := sorted(set(files) - set(drawn)):
            raise SettingsError(f"--model names {unknown[0]!r}, which is none of --synthetic.")
        loaded = {name: load_image_generator(Path(path)) for name, path in files.items()}
        found: Any = {name: latent_pictures(g, seed) for name, g in loaded.items()}
        return found, generator_info(next(iter(loaded.values())))
    if len(given) > 1:
        raise SettingsError("--model was given several times for one --synthetic.")
    generator = load_image_generator(Path(given[0]))
    return latent_pictures(generator, seed), generator_info(generator)


def latent_pictures(generator: Any, seed: int) -> dict[str, Any]:
    """Return a generator's pictures, with the switched latents of several seeds side by side."""
    import numpy as np

    found = dict(generator.pictures(seed))
    if "switched" in found:
        more = [generator.pictures(seed + 1 + i)["switched"] for i in range(SWITCHED - 1)]
        found["switched"] = np.concatenate([found["switched"], *more], axis=1)
    return found


def write_image_results(
    evaluation: ImageEvaluation, report: Path | None, scores: Path | None, *, real_images: bool = True
) -> None:
    """Show the headline numbers, and write scores and report where they are wanted."""
    show(evaluation.summary())
    write_results(evaluation, None, scores)
    if report is not None:
        evaluation.to_html(report, real_images=real_images)
        note(f"Wrote {report}. Open it in a browser; it needs no network.")


@command("models", to=images_app)
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show its settings.", show_default=False)
    ] = None,
) -> None:
    """List the methods there are for images, and (with NAME) the settings of one."""
    from rich.table import Table as RichTable

    from fairsynth.generators.images.registry import get_generator_class, list_generators

    if name is not None:
        method = get_generator_class(name)
        typer.echo(f"{name}: {method.capabilities.title}\n{method.capabilities.paper}\n")
        typer.echo("settings, for --set, with their defaults")
        for key, value in sorted(method().get_params(deep=False).items()):
            if key not in ("fairness", "seed"):
                typer.echo(f"  {key} = {json.dumps(value, default=str)}")
        return
    table = RichTable()
    for heading in ("name", "what it is", "fairness", "made from"):
        table.add_column(heading, overflow="fold")
    for known in list_generators():
        can = get_generator_class(known).capabilities
        made_from = "a teacher's file" if can.data_free else "images"
        table.add_row(known, f"{can.title}\n[dim]{can.paper}[/dim]", "\n".join(can.criteria), made_from)
    show(table)


# ---------------------------------------------------------------------- demo
def demo_images(output: Path, dataset: str, seed: int) -> None:
    """Do the whole job on images: fit, export, distil without data, sample, judge, report."""
    from fairsynth.evaluation.images import evaluate_images
    from fairsynth.generators.images.fair4free import Fair4Free
    from fairsynth.generators.images.registry import DEFAULT_GENERATOR, get_generator_class

    began = time.monotonic()
    files = {
        "report": output / "report.html",
        "scores": output / "scores.json",
        "teacher": output / "teacher.fairsynth",
        "student": output / "student.fairsynth",
        "images": output / "synthetic.npz",
    }
    for path in files.values():
        writable(path)
    train, test = open_images(dataset), open_images(f"{dataset}:test")
    others = {}
    for name in ("decorrelated", "reversed"):
        try:
            others[name] = open_images(f"{dataset}:{name}")
        except (DataError, SettingsError):
            continue  # a set of faces has no such split
    note(
        f"{dataset}: {len(train):,} images to learn from and {len(test):,} to judge with; "
        f"label {train.label}, sensitive: {train.sensitive}."
    )
    output.mkdir(parents=True, exist_ok=True)
    with progress_bar() as progress:
        teacher = get_generator_class(DEFAULT_GENERATOR)(seed=seed).fit(train, progress=progress)
        teacher.save(files["teacher"])
        # The student sees this file and nothing else.
        student = Fair4Free(hidden=DEMO_HIDDEN).distill(files["teacher"], seed=seed, progress=progress)
        student.save(files["student"])
        student.sample_to(files["images"], DEMO_IMAGES, seed=seed, progress=progress)
        drawn = {
            "student": open_images(str(files["images"])),
            "teacher": teacher.sample(DEMO_IMAGES, seed=seed),
        }
        evaluation = evaluate_images(
            train,
            test,
            drawn,
            others=others,
            seed=seed,
            pictures={"student": latent_pictures(student, seed), "teacher": latent_pictures(teacher, seed)},
            generator_info=generator_info(student),
            progress=progress,
        )
    write_image_results(evaluation, files["report"], files["scores"])
    note(f"Wrote {files['teacher']}, {files['student']} and {files['images']} (the student's images).")
    note(f"The whole job took {time.monotonic() - began:.0f} s.")
    typer.echo(f"Open {files['report']} in a browser.")
