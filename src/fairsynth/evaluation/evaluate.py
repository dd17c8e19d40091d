"""One call: real train rows, real test rows and synthetic rows in, an `Evaluation` out."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from fairsynth.cores import one_blas_thread
from fairsynth.data.table import Table
from fairsynth.errors import DataError, SettingsError
from fairsynth.evaluation import decisions, equal_rates, interventions, people, quality, rows
from fairsynth.evaluation.context import DEPTHS, Context, Depth
from fairsynth.evaluation.downstream import MODELS, RIDGE, Downstream, Task, named_for
from fairsynth.evaluation.features import fingerprint
from fairsynth.evaluation.result import Evaluation, Score
from fairsynth.progress import Progress, Step

if TYPE_CHECKING:
    from fairsynth.mitigators.base import Mitigator

LIBRARIES = ("fairsynth", "numpy", "polars", "scikit-learn", "lightgbm", "scipy", "fairlearn")


def evaluate(
    train: Any,
    test: Any,
    synthetic: Any,
    *,
    models: Sequence[str] = MODELS,
    seed: int = 0,
    depth: str = "core",
    repeats: int = 1,
    minimum_group: int = 100,
    admissible: Sequence[str] = (),
    population: Mapping[str, Mapping[str, float]] | None = None,
    max_rows_distance: int | None = None,
    threads: int = 2,
    generator_info: Mapping[str, Any] | None = None,
    mitigators: Mapping[str, Mitigator] | Sequence[Mitigator] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Measure fairness, utility, fidelity and privacy of a synthetic table.

    Models are trained on the synthetic rows and judged on real test people whom neither they nor the
    generator saw. Beside every number stands what training on the real rows, the constant predictor, or real
    hold-out rows in the place of the synthetic ones score.

    Parameters
    ----------
    train : Table
        The real rows that the generator learned from, with target, favorable value and sensitive columns.
    test : Table, frame, path or URL
        Real rows that the generator never saw; read with the schema of `train`.
    synthetic : Table, frame, path or URL; or dict of name to any of these
        The rows to judge. A dict compares several; a list in the place of a table holds draws of
        one generator with several seeds, and every score is then their mean and standard deviation.
    models : sequence of str, default=("lightgbm", "logistic_regression", "random_forest")
        Downstream models; where the target is a number, the linear one is a ``"ridge_regression"``.
    seed : int, default=0
        Of samples, folds, bootstraps and models.
    depth : {"quick", "core", "full"}, default="core"
        How much is measured, and on how many rows; what was sampled is said in ``meta["notes"]``.
    repeats : int, default=1
        Times that everything is measured, with seeds ``seed, seed + 1, …``.
    minimum_group : int, default=100
        People that a joint group needs to decide a headline; all groups are listed in any case.
    admissible : sequence of str
        Columns within whose levels parity of labels is measured as well.
    population : mapping, optional
        Attribute → group → share that the table should have; by default that of the real train rows.
    max_rows_distance : int, optional
        Most rows on either side of a distance, instead of what `depth` says.
    threads : int, default=2
        Models that are trained side by side.
    generator_info : mapping, optional
        Model, criterion, strength and settings of the generator; kept in ``meta["generator"]``.
    mitigators : mapping of str to Mitigator, or sequence of Mitigator
        Fair predictors to stand beside the synthetic tables as ``"mitigator:NAME"``, fitted on `train` where they
        are not yet; see `fairsynth.evaluation.mitigation`.
    progress : callable, optional
        Told of every step.

    Returns
    -------
    Evaluation
        Scores with their sources, and ``meta`` with all that is needed to repeat it.

    Raises
    ------
    SchemaError
        If columns are missing or extra, naming them.
    DataError
        If the rows cannot be judged, such as a test set of one class or a sensitive column of one level.
    SettingsError
        If an argument is out of range.
    """
    started = time.perf_counter()
    work = _depth(depth, max_rows_distance)
    _check_settings(models, repeats, minimum_group, threads)
    if not isinstance(train, Table):
        raise DataError(
            "train must be a fairsynth Table: it names the target, the favorable value and the sensitive "
            "columns. Use Table(rows, target=..., favorable=..., sensitive=...)."
        )
    test = _aligned(train, test, "test")
    drawn = _synthetic(train, synthetic)
    for source, tables in drawn.items():
        if (few := min(map(len, tables))) < 2 * work.folds:
            raise DataError(
                f"The {source} rows are {few}; at least {2 * work.folds} are needed to judge anything by."
            )
    task = Task.of(train.schema)
    _check_tables(train, test, task, admissible)
    downstream = Downstream(train.schema, train.frame, task)
    runs = max(repeats, max(len(tables) for tables in drawn.values()))
    seconds: dict[str, float] = {}
    contexts = []
    for run in range(runs):
        context = Context(
            train=train,
            test=test,
            synthetic={source: tables[run % len(tables)] for source, tables in drawn.items()},
            task=task,
            downstream=downstream,
            depth=work,
            models=named_for(models, task),
            seed=seed + run,
            threads=threads,
            minimum_group=minimum_group,
            admissible=tuple(admissible),
            population=population or {},
        )
        context.tick = _ticker(context, progress, run, runs)
        # Fits and blocks run side by side; BLAS threads beside those would only wait for each other.
        with one_blas_thread():
            _run(context, seconds)
        contexts.append(context)
    first = contexts[0]
    scores = first.scores if runs == 1 else combine([c.scores for c in contexts])
    seconds["total"] = time.perf_counter() - started
    evaluation = Evaluation(
        scores=scores, meta=_meta(first, drawn, depth, runs, seed, seconds, generator_info)
    )
    evaluation.artifacts.update(
        first.artifacts, train=train, test=test, synthetic={s: tables[0] for s, tables in drawn.items()}
    )
    if mitigators:
        from fairsynth.evaluation.mitigation import evaluate_mitigators, merge

        beside = evaluate_mitigators(
            train, test, mitigators, seed=seed, depth=depth, repeats=runs, minimum_group=minimum_group,
            progress=progress,
        )  # fmt: skip
        evaluation = merge(evaluation, beside)
    if progress is not None:
        progress(Step("evaluate", 1, 1))
    return evaluation


def _run(context: Context, seconds: dict[str, float]) -> None:
    def timed(name: str, function: Any, *arguments: Any) -> Any:
        began = time.perf_counter()
        result = function(context, *arguments)
        seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - began, 3)
        return result

    timed("train models", decisions.train_models)
    timed("decisions", decisions.score_decisions)
    timed("equal rates", equal_rates.score_equal_rates)
    timed("flips", interventions.score_flips)
    timed("importances", interventions.score_importances)
    timed("table", rows.score_table_fairness)
    timed("columns", rows.score_columns)
    timed("detection", rows.score_detection)
    near = timed("points", rows.Neighbourhoods)
    timed("neighbourhoods", rows.score_manifold, near)
    timed("privacy", people.score_privacy, near)
    timed("quality", quality.score_quality)


def _ticker(context: Context, progress: Progress | None, run: int, runs: int) -> Any:
    """Count steps against how many a run of this shape takes, so that the time left is about right."""
    sources, attributes = len(context.synthetic), len(context.attributes)
    expected = (
        (sources + 1) * len(context.models) + 2 * (sources + 2) + 5 * (sources + 1) + 2 * sources + 1
    ) + attributes * 2 * (sources + 1)
    done = [0]

    def tick(what: str) -> None:
        done[0] += 1
        if progress is not None:
            progress(Step("evaluate", run * expected + min(done[0], expected) - 1, runs * expected))

    return tick


def _depth(depth: str, max_rows_distance: int | None) -> Depth:
    if depth not in DEPTHS:
        raise SettingsError(f"depth={depth!r} is not known; choose one of {', '.join(DEPTHS)}.")
    work = DEPTHS[depth]
    if max_rows_distance is None:
        return work
    if max_rows_distance < 20:
        raise SettingsError(f"max_rows_distance={max_rows_distance!r} must be at least 20.")
    return Depth(**{**work.__dict__, "distance_rows": max_rows_distance})


def _check_settings(models: Sequence[str], repeats: int, minimum_group: int, threads: int) -> None:
    unknown = [m for m in models if m not in (*MODELS, RIDGE)]
    if isinstance(models, str) or unknown or not models or len(set(models)) != len(models):
        raise SettingsError(f"models={models!r} must name different ones of {', '.join(MODELS)}.")
    for name, value in (("repeats", repeats), ("minimum_group", minimum_group), ("threads", threads)):
        if value < 1:
            raise SettingsError(f"{name}={value!r} must be at least 1.")


def _aligned(train: Table, data: Any, what: str) -> Table:
    if isinstance(data, Table) and data.schema == train.schema:
        return data
    try:
        return train.align(data)
    except (DataError, ValueError) as error:
        raise type(error)(f"The {what} rows do not fit the train rows: {error}") from error


def _synthetic(train: Table, synthetic: Any) -> dict[str, list[Table]]:
    if not isinstance(synthetic, Mapping):
        named: Mapping[str, Any] = {"synthetic": synthetic}
    else:
        named = {f"synthetic:{name}": data for name, data in synthetic.items()}
    if not named:
        raise DataError("There is no synthetic table to evaluate.")
    drawn = {}
    for source, data in named.items():
        tables = data if isinstance(data, list | tuple) else [data]
        if not tables:
            raise DataError(f"The list of tables of source {source!r} is empty.")
        drawn[source] = [_aligned(train, table, source) for table in tables]
    return drawn


def _check_tables(train: Table, test: Table, task: Task, admissible: Sequence[str]) -> None:
    schema = train.schema
    if not schema.sensitive:
        raise DataError("The table names no sensitive column; say which with sensitive=[...].")
    for name in (*admissible,):
        if name not in schema or name == schema.target or name in schema.sensitive:
            raise SettingsError(f"admissible={name!r} must be a column that is neither target nor sensitive.")
    for what, table in (("train", train), ("test", test)):
        for name in schema.sensitive:
            groups = table.groups([name])
            if (groups.counts > 0).sum() < 2:
                only = groups.names[int(groups.counts.argmax())]
                raise DataError(
                    f"Sensitive column {name!r} has one level ({only!r}) in the {what} rows, so there is "
                    "nothing to compare; choose another column or other rows."
                )
        values = task.values(table.frame, schema)
        if task.kind != "regression":
            favorable = task.is_favorable(values)
            if favorable.all() or not favorable.any():
                which = "only favorable" if favorable.all() else "no favorable"
                raise DataError(f"The {what} rows have {which} labels in {task.target!r}; models need both.")


def combine(runs: Sequence[Sequence[Score]]) -> list[Score]:
    """Merge the scores of several runs: mean of each, and its standard deviation over the runs.

    A score that is undefined in some runs is the mean over the others, and says so.
    """
    merged: dict[tuple[Any, ...], list[Score]] = {}
    keys = ("section", "metric", "source", "model", "attribute", "group", "column", "label")
    for scores in runs:
        for s in scores:
            merged.setdefault(tuple(getattr(s, k) for k in keys), []).append(s)
    out = []
    for same in merged.values():
        values = [s.value for s in same if s.value is not None]
        notes = [same[0].note] if same[0].note else []
        if 0 < len(values) < len(runs):
            notes.append(f"defined in {len(values)} of {len(runs)} runs")
        lows = [s.low for s in same if s.low is not None]
        highs = [s.high for s in same if s.high is not None]
        update = {
            "value": float(np.mean(values)) if values else None,
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "low": float(np.mean(lows)) if lows else None,
            "high": float(np.mean(highs)) if highs else None,
            "note": "; ".join(notes) or None,
        }
        out.append(same[0].model_copy(update=update))
    return out


def _meta(
    context: Context,
    drawn: dict[str, list[Table]],
    depth: str,
    runs: int,
    seed: int,
    seconds: dict[str, float],
    generator_info: Mapping[str, Any] | None,
) -> dict[str, Any]:
    schema = context.schema
    tables = {"train": [context.train], "test": [context.test]} | drawn
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            import fairsynth

            if library == "fairsynth":
                versions[library] = fairsynth.__version__
    longest = max(len(t) for some in tables.values() for t in some)
    for what, limit in (
        ("Distances", context.depth.distance_rows),
        ("The classifier test and leakage", context.depth.detection_rows),
        ("Columns and pairs", context.depth.column_rows),
    ):
        if longest > limit:
            context.note(f"{what} were measured on at most {limit:,} rows of each table, drawn at random.")
    meta: dict[str, Any] = {
        "target": schema.target,
        "favorable": list(schema.favorable),
        "sensitive": list(schema.sensitive),
        "task": context.task.kind,
        "models": list(context.models),
        "depth": depth,
        "seeds": [seed + run for run in range(runs)],
        "minimum_group": context.minimum_group,
        "admissible": list(context.admissible),
        "rows": {s: [len(t) for t in some] if len(some) > 1 else len(some[0]) for s, some in tables.items()},
        "sha256": {
            s: [fingerprint(t.frame) for t in some] if len(some) > 1 else fingerprint(some[0].frame)
            for s, some in tables.items()
        },
        "repairs": {s: [r for t in some for r in t.repairs] for s, some in tables.items() if s != "train"},
        "notes": list(context.notes),
        "giveaways": context.artifacts.get("giveaways", {}),
        "seconds": seconds | {"total": round(seconds["total"], 3)},
        "versions": versions,
    }
    if generator_info:
        meta["generator"] = dict(generator_info)
        for key in ("criterion", "strength", "model"):
            if key in generator_info:
                meta[key] = generator_info[key]
    return meta
