"""Mitigators in the same evaluation: their decisions about the real test people, scored as those of all other models.

A synthetic table is judged by models trained on it; a mitigator *is* such a model, trained on the real rows. So
utility and fairness of the two can stand in one table: the metrics, the test people and the bootstrap are the same, and
the plain model (``none``) scores exactly what the source ``"real"`` does. Fidelity and privacy are about rows, and a
mitigator releases none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from fairsynth.cores import one_blas_thread
from fairsynth.data.table import Table
from fairsynth.errors import DataError, SettingsError
from fairsynth.evaluation import decisions, equal_rates
from fairsynth.evaluation.context import Context
from fairsynth.evaluation.downstream import Downstream, Task, constant_model
from fairsynth.evaluation.evaluate import _aligned, _check_settings, _check_tables, _depth, _meta, combine
from fairsynth.evaluation.interventions import _worlds
from fairsynth.evaluation.result import Evaluation, Score
from fairsynth.metrics import fairness
from fairsynth.progress import Progress, Step, sub

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fairsynth.mitigators.base import Mitigator

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

PREFIX = "mitigator:"


def evaluate_mitigator(
    train: Table, test: Any, mitigator: Mitigator, *, name: str | None = None, **settings: Any
) -> Evaluation:
    """Score one mitigator; see `evaluate_mitigators`.

    Parameters
    ----------
    name : str, optional
        Under which it is scored: ``"mitigator:NAME"``; by default its own.
    **settings
        Of `evaluate_mitigators`.
    """
    return evaluate_mitigators(train, test, {name or mitigator.name: mitigator}, **settings)


def evaluate_mitigators(
    train: Table,
    test: Any,
    mitigators: Mapping[str, Mitigator] | Sequence[Mitigator],
    *,
    seed: int = 0,
    depth: str = "core",
    repeats: int = 1,
    minimum_group: int = 100,
    progress: Progress | None = None,
) -> Evaluation:
    """Score fair predictors on real test people, with the metrics by which models of synthetic rows are scored.

    Parameters
    ----------
    train : Table
        Real rows. What is not fitted yet is fitted on them (on as many as `depth` lets every model learn from).
    test : Table, frame, path or URL
        Real rows that no one saw; read with the schema of `train`.
    mitigators : mapping of str to Mitigator, or sequence of Mitigator
        Names of their own, or the methods'.
    seed : int, default=0
        Of samples and bootstraps; a mitigator has its own.
    depth : {"quick", "core", "full"}, default="core"
        As of `evaluate`.
    repeats : int, default=1
        Times that all is fitted and measured, with the seeds of the mitigators and of the evaluation one higher each
        time. Fitted ones cannot be fitted again.
    minimum_group : int, default=100
        As of `evaluate`.
    progress : callable, optional
        Told of every step.

    Returns
    -------
    Evaluation
        Scores of the sources ``"mitigator:NAME"`` and ``"constant"``, which is always there: the constant predictor
        is perfectly fair, and no fair predictor should be looked at without it. ``meta["mitigators"]`` holds the
        settings.

    Raises
    ------
    DataError, SettingsError, CapabilityError
        If rows or settings cannot be used, or a mitigator cannot do what is asked of it.
    """
    started = time.perf_counter()
    work = _depth(depth, None)
    _check_settings(("lightgbm",), repeats, minimum_group, 1)
    if not isinstance(train, Table):
        raise DataError("train must be a fairsynth Table: it names the target and the sensitive columns.")
    named = _named(mitigators)
    test = _aligned(train, test, "test")
    task = Task.of(train.schema)
    if task.kind == "regression":
        raise DataError(f"Target {task.target!r} is a number; mitigators decide between levels.")
    _check_tables(train, test, task, ())
    downstream = Downstream(train.schema, train.frame, task)
    contexts: list[Context] = []
    seconds: dict[str, float] = {}
    steps = repeats * len(named)
    for run in range(repeats):
        context = Context(
            train=train, test=test, synthetic={}, task=task, downstream=downstream, depth=work, models=(),
            seed=seed + run, threads=1, minimum_group=minimum_group,
        )  # fmt: skip
        with one_blas_thread():
            weights = context.rng("people").poisson(1.0, size=(work.ranking_draws, test.frame.height))
            people = weights.astype(np.float64)
            _score_constant(context, people)
            for i, (name, mitigator) in enumerate(named.items()):
                began = time.perf_counter()
                told = sub(progress, "evaluate mitigators", run * len(named) + i, steps)
                fitted = _fitted(context, mitigator, repeats, run, told)
                seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - began, 3)
                _score(context, PREFIX + name, fitted, people)
            equal_rates.score_equal_rates(context)
            _add_notes(context)
        contexts.append(context)
    first = contexts[0]
    seconds["total"] = time.perf_counter() - started
    scores = first.scores if repeats == 1 else combine([c.scores for c in contexts])
    meta = _meta(first, {}, depth, repeats, seed, seconds, None)
    meta["mitigators"] = {name: told_of(m) | {"seconds": seconds[name]} for name, m in named.items()}
    evaluation = Evaluation(scores=scores, meta=meta)
    evaluation.artifacts.update(first.artifacts, train=train, test=test, synthetic={})
    if progress is not None:
        progress(Step("evaluate mitigators", 1, 1))
    return evaluation


def merge(evaluation: Evaluation, *others: Evaluation) -> Evaluation:
    """Put the scores of several evaluations on the same test people into one.

    Parameters
    ----------
    evaluation : Evaluation
        Whose scores stay as they are; of the others those are added whose source it lacks.
    *others : Evaluation
        Of the same train and test rows.

    Returns
    -------
    Evaluation
        A new one; `evaluation` is not changed.

    Raises
    ------
    SettingsError
        If they are of other rows or other people, or were measured at another depth.
    """
    scores, meta = list(evaluation.scores), dict(evaluation.meta)
    for other in others:
        for key in ("target", "favorable", "sensitive", "depth", "seeds", "minimum_group"):
            if evaluation.meta.get(key) != other.meta.get(key):
                raise SettingsError(
                    f"these evaluations cannot stand together: {key} is {evaluation.meta.get(key)!r} in one and "
                    f"{other.meta.get(key)!r} in the other."
                )
        for rows in ("train", "test"):
            if evaluation.meta["sha256"][rows] != other.meta["sha256"][rows]:
                raise SettingsError(f"these evaluations cannot stand together: their {rows} rows differ.")
        held = {s.source for s in scores}
        scores += [s for s in other.scores if s.source not in held]
        meta["notes"] = list(dict.fromkeys([*meta.get("notes", []), *other.meta.get("notes", [])]))
        if "mitigators" in other.meta:
            meta["mitigators"] = {**meta.get("mitigators", {}), **other.meta["mitigators"]}
    merged = Evaluation(scores=scores, meta=meta)
    merged.artifacts.update(evaluation.artifacts)
    return merged


def told_of(mitigator: Mitigator) -> dict[str, Any]:
    """Return what a reader has to know of a mitigator, as plain values: method, criterion, strength, settings."""
    plain: dict[str, Any] = {"method": mitigator.name, "stage": mitigator.capabilities.stage}
    if mitigator.fairness is not None:
        plain |= mitigator.fairness.to_dict()
    settings = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in mitigator.get_params(deep=False).items()
        if key != "fairness"
    }
    return {**plain, "needs_sensitive": mitigator.reads_sensitive, "settings": settings}


def _named(mitigators: Mapping[str, Mitigator] | Sequence[Mitigator]) -> dict[str, Mitigator]:
    if isinstance(mitigators, Mapping):
        named = dict(mitigators)
    else:
        named = {m.name: m for m in mitigators}
        if len(named) < len(mitigators):
            raise SettingsError("two mitigators have the same name; give them as a mapping of names.")
    if not named:
        raise SettingsError("there is no mitigator to evaluate.")
    return named


def _fitted(
    context: Context, mitigator: Mitigator, repeats: int, run: int, progress: Progress | None
) -> Mitigator:
    if hasattr(mitigator, "schema_"):
        if mitigator.schema_ != context.schema:
            raise DataError(
                f"the mitigator {mitigator.name!r} was fitted on a table of another schema than train; fit it anew."
            )
        if repeats > 1:
            raise SettingsError(
                f"the mitigator {mitigator.name!r} is fitted already, and repeats={repeats} asks for fits with "
                "several seeds; give one that is not fitted."
            )
        return mitigator
    fresh = clone(mitigator).set_params(seed=mitigator.seed + run)
    # The very rows that the models of source "real" learn from.
    rows = context.sample(context.train.frame, context.depth.training_rows, "training real")
    return fresh.fit(context.train.replace(rows), progress=progress)


def _score_constant(context: Context, people: Floats) -> None:
    target = context.task.values(context.train.frame, context.schema)
    model = constant_model(context.task, target)
    probability = model.predict(context.test.frame)
    _decided(context, "constant", "constant", probability, context.task.decision(probability), people)


def _score(context: Context, source: str, mitigator: Mitigator, people: Floats) -> None:
    probability = mitigator.predict_class_proba(context.test)
    decision, model = mitigator.decide(probability), mitigator.model_name
    _decided(context, source, model, probability, decision, people)
    if model != "constant":
        _flips(context, source, mitigator)
    notes = []
    if mitigator.reads_sensitive:
        inherent = mitigator.capabilities.needs_sensitive
        notes.append(
            "cannot decide without the person's sensitive columns"
            if inherent
            else "reads the person's sensitive columns when it decides"
        )
    if mitigator.capabilities.randomized:
        notes.append(
            f"decisions are drawn by chance (seed {mitigator.seed}); ranking metrics are of the chance to be favored"
        )
    context.artifacts.setdefault("notes_of_sources", {})[source] = "; ".join(notes)


def _decided(
    context: Context, source: str, model: str, probability: Floats, decision: Bools, people: Floats
) -> None:
    """Score decisions that need not follow from the probabilities, by the functions that score all other models."""
    task = context.task
    codes = task.values(context.test.frame, context.schema).astype(np.int64)
    favorable = task.is_favorable(codes)
    decided, by_model = {model: decision}, {model: probability}
    context.artifacts.setdefault("predictions", {})[source] = by_model
    decisions._utility(context, source, favorable, {model: task.probability(probability)}, decided, people)
    if task.kind == "multiclass":
        decisions._multiclass_utility(context, source, codes, by_model, people)
    notes = {model: decisions.USELESS if decision.all() or not decision.any() else None}
    for columns in context.attributes:
        groups, joint = context.test.groups(list(columns)), len(columns) > 1
        decisions._group_fairness(context, source, favorable, decided, groups, joint, notes)
        decisions._calibration(
            context, source, favorable, {model: task.probability(probability)}, groups, people
        )
        if task.kind == "multiclass" and len(task.favorable) > 1:
            for code in task.favorable:
                chosen = {model: probability.argmax(axis=1) == code}
                level = task.levels[code]
                decisions._group_fairness(context, source, codes == code, chosen, groups, joint, notes, level)


def _flips(context: Context, source: str, mitigator: Mitigator) -> None:
    """Flip the sensitive attribute of test people, chance being the same in all worlds."""
    frame = context.sample(context.test.frame, context.depth.flip_rows, "flips")
    for columns in context.attributes:
        if len(columns) > 1 and not context.depth.flip_joint:
            continue
        worlds = _worlds(context, frame, columns)
        if len(worlds) < 2:
            continue
        decided = [mitigator.predict(context.test.replace(world)) for world in worlds]
        found = {
            "ftu": fairness.fairness_through_unawareness(decided),
            "counterfactual_flip_rate": fairness.counterfactual_flip_rate(decided),
        }
        attribute = context.test.groups(list(columns)).attribute
        for metric, value in found.items():
            for model in (mitigator.model_name, "mean"):
                context.add(
                    "fairness",
                    metric,
                    value,
                    source=source,
                    model=model,
                    attribute=attribute,
                    n=frame.height,
                    note=f"between {len(worlds)} levels",
                )


def _add_notes(context: Context) -> None:
    """Say with every number that is not of one group what its reader has to know of the method."""
    of = context.artifacts.pop("notes_of_sources", {})

    def noted(score: Score) -> Score:
        own = of.get(score.source)
        if not own or score.group is not None:
            return score
        return score.model_copy(update={"note": "; ".join(filter(None, (score.note, own)))})

    context.scores[:] = [noted(score) for score in context.scores]


__all__ = ["PREFIX", "evaluate_mitigator", "evaluate_mitigators", "merge", "told_of"]
