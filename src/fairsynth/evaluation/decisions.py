"""Sections "utility" and "fairness": models trained on each table, judged on the same real test people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairsynth.cores import side_by_side
from fairsynth.data.table import Groups
from fairsynth.evaluation.context import Context
from fairsynth.evaluation.downstream import FittedModel, constant_model
from fairsynth.evaluation.result import Section
from fairsynth.metrics import fairness, resampling, utility

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Predictions = dict[str, dict[str, Floats]]

RATES = ("selection_rate", "base_rate", "tpr", "fpr", "ppv", "accuracy")
USELESS = "decides the same for everybody: equal, and useless"


def train_models(context: Context) -> None:
    """Train every model on every table, and the constant predictor on the real one."""
    tables = {"real": context.train.frame} | {s: t.frame for s, t in context.synthetic.items()}
    rows = context.depth.training_rows
    for source, frame in tables.items():
        if frame.height > rows:
            said = f"learned from {rows:,} of {frame.height:,} rows, at random."
            context.note(f"Models of source {source!r} {said}")
    some = {s: context.sample(frame, rows, f"training {s}") for s, frame in tables.items()}

    def fit(job: tuple[str, str]) -> FittedModel:
        source, name = job
        model = context.downstream.fit(name, some[source], seed=context.seed)
        context.tick(f"trained {name} on {source}")
        return model

    # The slowest family first, so that no thread waits for it at the end.
    families = sorted(context.models, key=lambda m: m != "random_forest")
    jobs = [(source, name) for name in families for source in tables]
    fitted = dict(zip(jobs, side_by_side(fit, jobs, context.threads), strict=True))
    for source in tables:
        context.fitted[source] = {name: fitted[source, name] for name in context.models}
    target = context.task.values(context.train.frame, context.schema)
    context.fitted["constant"] = {"constant": constant_model(context.task, target)}


def score_decisions(context: Context) -> None:
    """Score utility and group fairness of all trained models on the real test people."""
    frame = context.test.frame
    predictions: Predictions = {}
    for source, models in context.fitted.items():
        context.tick(f"decide with models of {source}")
        predictions[source] = {name: model.predict(frame) for name, model in models.items()}
    context.artifacts.setdefault("predictions", predictions)
    context.artifacts.setdefault("models", context.fitted)
    weights = context.rng("people").poisson(1.0, size=(context.depth.ranking_draws, frame.height))
    people = weights.astype(np.float64)
    for source, by_model in predictions.items():
        context.tick(f"score decisions of {source}")
        if context.task.kind == "regression":
            _regression(context, source, by_model, people)
        else:
            _classification(context, source, by_model, people)
    _relative(context)


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _models(by_model: Iterable[str]) -> list[str]:
    """Models of a source, with the mean over them last; the constant predictor stands alone as mean."""
    names = list(by_model)
    return ["mean"] if names == ["constant"] else [*names, "mean"]


# ---------------------------------------------------------------------- classification
def _classification(context: Context, source: str, by_model: dict[str, Floats], people: Floats) -> None:
    task = context.task
    codes = task.values(context.test.frame, context.schema).astype(np.int64)
    favorable = task.is_favorable(codes)
    probability = {m: task.probability(p) for m, p in by_model.items()}
    decision = {m: task.decision(p) for m, p in by_model.items()}
    _utility(context, source, favorable, probability, decision, people)
    if task.kind == "multiclass":
        _multiclass_utility(context, source, codes, by_model, people)
    notes = {m: context.fitted[source][m].note for m in by_model}
    for m, d in decision.items():
        if d.all() or not d.any():
            notes[m] = "; ".join(filter(None, (notes[m], USELESS)))
    for columns in context.attributes:
        groups = context.test.groups(list(columns))
        _group_fairness(context, source, favorable, decision, groups, len(columns) > 1, notes)
        _calibration(context, source, favorable, probability, groups, people)
        if task.kind == "multiclass" and len(task.favorable) > 1:
            for code in task.favorable:
                chosen = {m: p.argmax(axis=1) == code for m, p in by_model.items()}
                _group_fairness(
                    context, source, codes == code, chosen, groups, len(columns) > 1, notes, task.levels[code]
                )


def joint_counts(favorable: Bools, decision: dict[str, Bools], groups: Ints, size: int) -> Ints:
    """Count people by group, outcome and the decisions of all models at once.

    Returns
    -------
    ndarray of int64, shape (size, 2, 2 ** n_models)
        Bootstrapping these cells keeps each person's decisions by the several models together.
    """
    bits = np.zeros(len(favorable), dtype=np.int64)
    for d in decision.values():
        bits = bits * 2 + d
    width = 2 ** len(decision)
    cell = (groups * 2 + favorable) * width + bits
    return np.bincount(cell, minlength=size * 2 * width).reshape(size, 2, width).astype(np.int64)


def of_model(counts: Ints, index: int, models: int) -> Ints:
    """Reduce joint counts (..., 2, 2 ** models) to the confusion (..., 2, 2) of one model."""
    split = counts.reshape(*counts.shape[:-1], 2**index, 2, 2 ** (models - index - 1))
    return split.sum(axis=(-3, -1))


def _utility(
    context: Context,
    source: str,
    favorable: Bools,
    probability: dict[str, Floats],
    decision: dict[str, Bools],
    people: Floats,
) -> None:
    names, n = list(probability), len(favorable)
    values = {m: utility.binary_scores(favorable, probability[m], predicted=decision[m]) for m in names}
    counts = joint_counts(favorable, decision, np.zeros(n, dtype=np.int64), 1)[0]
    drawn = fairness.bootstrap_counts(counts, context.depth.draws, context.rng("utility"))
    samples: dict[str, dict[str, Floats]] = {}
    for i, m in enumerate(names):
        confusion = of_model(drawn, i, len(names))
        samples[m] = utility.confusion_scores(confusion)
        samples[m]["selection_rate"] = confusion[..., 1].sum(axis=-1) / confusion.sum(axis=(-2, -1))
        samples[m]["auroc"] = utility.bootstrap_auroc(favorable, probability[m], people)
        samples[m]["average_precision"] = resampling.average_precision(favorable, probability[m], people)
        samples[m]["brier"] = (people @ (probability[m] - favorable) ** 2) / people.sum(axis=1)
        values[m]["selection_rate"] = float(decision[m].mean())
    multiclass = context.task.kind == "multiclass"
    for metric in (*utility.BINARY_METRICS, "selection_rate"):
        if multiclass and metric in ("accuracy", "balanced_accuracy", "brier"):
            continue  # these are about all classes, see _multiclass_utility
        section: Section = "fairness" if metric == "selection_rate" else "utility"
        for m in _models(probability):
            of = names if m == "mean" else [m]
            draws = np.mean([samples[k][metric] for k in of], axis=0)
            value = _mean([values[k][metric] for k in of])
            context.add(
                section,
                metric,
                value,
                source=source,
                model=m,
                n=n,
                interval=fairness.interval(draws),
                note=None if value is not None else "the test people have one class only",
            )


def _multiclass_utility(
    context: Context, source: str, codes: Ints, by_model: dict[str, Floats], people: Floats
) -> None:
    samples = {m: resampling.multiclass(codes, p, people) for m, p in by_model.items()}
    values = {m: utility.multiclass_scores(codes, p) for m, p in by_model.items()}
    for metric in next(iter(values.values())):
        for m in _models(by_model):
            of = list(by_model) if m == "mean" else [m]
            context.add(
                "utility",
                metric,
                _mean([values[k][metric] for k in of]),
                source=source,
                model=m,
                n=len(codes),
                interval=_mean_interval([samples[k].get(metric) for k in of]),
            )


def _group_fairness(
    context: Context,
    source: str,
    favorable: Bools,
    decision: dict[str, Bools],
    groups: Groups,
    joint: bool,
    notes: dict[str, str | None],
    label: str | None = None,
) -> None:
    names, size = list(decision), len(groups.names)
    counts = joint_counts(favorable, decision, groups.codes, size)
    drawn = fairness.bootstrap_counts(counts, context.depth.draws, context.rng("fairness"))
    n_of = counts.sum(axis=(1, 2))
    large = n_of >= context.minimum_group
    # One tiny joint group must not decide the headline; of single attributes every group counts.
    kept = large if joint and large.sum() >= 2 else n_of > 0
    said = _group_note(context, groups, n_of, kept)
    confusion = [of_model(counts, i, len(names)) for i in range(len(names))]
    samples = [of_model(drawn, i, len(names)) for i in range(len(names))]
    where: dict[str, Any] = {"source": source, "attribute": groups.attribute, "label": label}
    # fairlearn has the last word on the headlines; draws of the bootstrap, and what stands beside, need speed.
    shown = np.stack(confusion)[:, kept]
    parities = fairness.parity(shown) | fairness.parity_by_fairlearn(shown)
    sampled = [fairness.parity(s[:, kept]) for s in samples]
    for metric in fairness.PARITY_METRICS:
        for m in _models(decision):
            of = range(len(names)) if m == "mean" else [names.index(m)]
            value = float(np.mean([parities[metric][i] for i in of]))
            why = [notes[names[i]] for i in of]
            context.add(
                "fairness",
                metric,
                value,
                interval=fairness.interval(np.mean([sampled[i][metric] for i in of], axis=0)),
                model=m,
                n=int(n_of[kept].sum()),
                note="; ".join(dict.fromkeys(filter(None, (*why, said, _undefined(value))))) or None,
                **where,
            )
    _worst_groups(context, confusion, kept, names, where, said, _models(decision))
    other = large if not np.array_equal(kept, large) and large.sum() >= 2 else n_of > 0
    if not np.array_equal(other, kept):
        suffix = "large_groups" if np.array_equal(other, large) else "all_groups"
        others = [fairness.parity(c[other]) for c in confusion]
        for metric in ("dpr", "eor"):
            for m in _models(decision):
                of = range(len(names)) if m == "mean" else [names.index(m)]
                value = float(np.mean([others[i][metric] for i in of]))
                note = _group_note(context, groups, n_of, other)
                context.add("fairness", f"{metric}_{suffix}", value, model=m, note=note, **where)
    rates = [fairness.group_rates(c) for c in confusion]
    rate_samples = [fairness.group_rates(s) for s in samples]
    for metric in RATES:
        for m in _models(decision):
            of = range(len(names)) if m == "mean" else [names.index(m)]
            value_of = np.mean([getattr(rates[i], metric) for i in of], axis=0)
            draws = np.mean([getattr(rate_samples[i], metric) for i in of], axis=0)
            for g in np.flatnonzero(n_of):
                context.add(
                    "fairness",
                    metric,
                    float(value_of[g]),
                    interval=fairness.interval(draws[:, g]),
                    group=groups.names[g],
                    model=m,
                    n=int(n_of[g]),
                    note=_rate_note(context, float(value_of[g]), int(n_of[g])),
                    **where,
                )


def _undefined(value: float) -> str | None:
    return "fewer than two groups have this rate" if np.isnan(value) else None


def _rate_note(context: Context, value: float, n: int) -> str | None:
    if np.isnan(value):
        return "0/0: nobody in the group to count"
    return f"only {n} people" if n < context.minimum_group else None


def _group_note(context: Context, groups: Groups, n_of: Ints, kept: Bools) -> str | None:
    """Say which groups were left out, which are tiny, and which have nobody among the test people."""
    left = [f"{groups.names[g]} ({n_of[g]})" for g in np.flatnonzero((n_of > 0) & ~kept)]
    tiny = [f"{groups.names[g]} ({n_of[g]})" for g in np.flatnonzero(kept & (n_of < context.minimum_group))]
    parts = []
    if left:
        parts.append(f"groups of fewer than {context.minimum_group} people left out: {', '.join(left)}")
    if tiny:
        parts.append(f"rests on groups of fewer than {context.minimum_group} people: {', '.join(tiny)}")
    return "; ".join(parts) or None


def _worst_groups(
    context: Context,
    confusion: list[Ints],
    kept: Bools,
    names: list[str],
    where: dict[str, Any],
    said: str | None,
    models: list[str],
) -> None:
    """Score the worst-off group against everybody (ours, after Kearns et al. 2018)."""
    ratio, accuracy = [], []
    for c in confusion:
        rates = fairness.group_rates(c[kept])
        overall = c[..., 1].sum() / max(c.sum(), 1)
        ratio.append(float(np.nanmin(rates.selection_rate)) / overall if overall > 0 else 1.0)
        accuracy.append(float(np.nanmin(rates.accuracy)))
    for metric, values in (("worst_group_rate_ratio", ratio), ("worst_group_accuracy", accuracy)):
        for m in models:
            value = float(np.mean(values)) if m == "mean" else values[names.index(m)]
            context.add("fairness", metric, value, model=m, note=said, **where)


def _mean_interval(draws: list[Floats | None]) -> tuple[float, float] | None:
    """Return the interval of the mean over models, each person drawn alike for all of them."""
    known = [d for d in draws if d is not None]
    return fairness.interval(np.mean(known, axis=0)) if known and len(known) == len(draws) else None


def _calibration(
    context: Context,
    source: str,
    favorable: Bools,
    probability: dict[str, Floats],
    groups: Groups,
    people: Floats,
) -> None:
    """Score calibration within groups; the gap is between mean over-estimates of groups large enough."""
    present = np.flatnonzero(groups.counts)
    large = [g for g in present if groups.counts[g] >= context.minimum_group]
    chosen = large if len(large) >= 2 else list(present)
    # By model and group: error and over-estimate of the people as they are, and of each draw.
    errors: dict[str, dict[int, float]] = {m: {} for m in probability}
    bias: dict[str, dict[int, float]] = {m: {} for m in probability}
    error_draws: dict[str, dict[int, Floats]] = {m: {} for m in probability}
    bias_draws: dict[str, dict[int, Floats]] = {m: {} for m in probability}
    for g in map(int, present):
        mine = groups.codes == g
        own = people[:, mine]
        for m, p in probability.items():
            errors[m][g] = fairness.calibration_error(favorable[mine], p[mine])
            bias[m][g] = float((p[mine] - favorable[mine]).mean())
            error_draws[m][g], bias_draws[m][g] = resampling.calibration(favorable[mine], p[mine], own)
    several = len(chosen) >= 2
    gaps = {m: np.ptp([bias[m][int(g)] for g in chosen]) if several else np.nan for m in probability}
    gap_draws = {m: np.ptp([bias_draws[m][int(g)] for g in chosen], axis=0) for m in probability}
    for m in _models(probability):
        of = list(probability) if m == "mean" else [m]
        where: dict[str, Any] = {"source": source, "model": m, "attribute": groups.attribute}
        context.add(
            "fairness",
            "calibration_gap",
            float(np.mean([gaps[k] for k in of])),
            note="difference between groups of mean P(favorable) minus observed share",
            interval=_mean_interval([gap_draws[k] for k in of]) if several else None,
            **where,
        )
        for g in map(int, present):
            n = int(groups.counts[g])
            context.add(
                "fairness",
                "calibration_error",
                float(np.mean([errors[k][g] for k in of])),
                group=groups.names[g],
                n=n,
                note=_rate_note(context, 0.0, n),
                interval=_mean_interval([error_draws[k][g] for k in of]),
                **where,
            )


# ---------------------------------------------------------------------- regression
def _regression(context: Context, source: str, by_model: dict[str, Floats], people: Floats) -> None:
    target = context.task.values(context.test.frame, context.schema)
    known = ~np.isnan(target)
    values = {m: utility.regression_scores(target[known], p[known]) for m, p in by_model.items()}
    draws = {m: resampling.regression(target[known], p[known], people[:, known]) for m, p in by_model.items()}
    for metric in ("r2", "mae", "rmse"):
        for m in _models(by_model):
            of = list(by_model) if m == "mean" else [m]
            context.add(
                "utility",
                metric,
                _mean([values[k][metric] for k in of]),
                source=source,
                model=m,
                n=int(known.sum()),
                interval=_mean_interval([draws[k][metric] for k in of]),
            )
    for columns in context.attributes:
        groups = context.test.groups(list(columns))
        _numeric_fairness(context, source, by_model, groups, target, known, people)


def _numeric_fairness(
    context: Context,
    source: str,
    by_model: dict[str, Floats],
    groups: Groups,
    target: Floats,
    known: Bools,
    people: Floats,
) -> None:
    present = np.flatnonzero(groups.counts)
    large = [g for g in present if groups.counts[g] >= context.minimum_group]
    compared = large if " × " in groups.attribute and len(large) >= 2 else list(present)
    mask = np.isin(groups.codes, compared)
    left = [f"{groups.names[g]} ({groups.counts[g]})" for g in present if g not in compared]
    said = f"small groups left out: {', '.join(left)}" if left else None
    where: dict[str, Any] = {"source": source, "attribute": groups.attribute}
    several, size = len(compared) >= 2, len(groups.names)
    values: dict[str, dict[str, float | None]] = {"mean_gap": {}, "distribution_gap": {}}
    draws: dict[str, dict[str, Floats]] = {"mean_gap": {}, "distribution_gap": {}}
    means, errors = {}, {}
    for m, p in by_model.items():
        means[m] = resampling.group_means(p, groups.codes, size, people)
        own, codes = people[:, known], groups.codes[known]
        errors[m] = resampling.group_means(np.abs(p - target)[known], codes, size, own)
        if several:
            values["mean_gap"][m] = fairness.mean_gap(p[mask], groups.codes[mask])
            values["distribution_gap"][m] = fairness.distribution_gap(p[mask], groups.codes[mask])
            draws["mean_gap"][m] = np.ptp(means[m][:, compared], axis=1)
            draws["distribution_gap"][m] = resampling.distribution_gap(
                p[mask], groups.codes[mask], people[:, mask]
            )
    for m in _models(by_model):
        names = list(by_model) if m == "mean" else [m]
        of = [by_model[k] for k in names]
        for metric in values:
            context.add(
                "fairness",
                metric,
                _mean([values[metric][k] for k in names]) if several else None,
                model=m,
                note=said if several else "fewer than two groups among the test people",
                n=int(mask.sum()),
                interval=_mean_interval([draws[metric][k] for k in names]) if several else None,
                **where,
            )
        for g in present:
            mine = groups.codes == g
            some, n = mine & known, int(mine.sum())
            same: dict[str, Any] = {
                "model": m,
                "group": groups.names[g],
                "n": n,
                "note": _rate_note(context, 0.0, n),
                **where,
            }
            mean = float(np.mean([p[mine].mean() for p in of]))
            interval = _mean_interval([means[k][:, g] for k in names])
            context.add("fairness", "mean_prediction", mean, interval=interval, **same)
            mae = float(np.mean([np.abs(p - target)[some].mean() for p in of])) if some.any() else None
            interval = _mean_interval([errors[k][:, g] for k in names])
            context.add("fairness", "mae", mae, interval=interval, **same)


# ---------------------------------------------------------------------- relative to real
RELATIVE = ("accuracy", "balanced_accuracy", "f1", "auroc", "average_precision", "r2")


def _relative(context: Context) -> None:
    """Divide each synthetic utility number by the one trained on real rows; compare the models' ranking."""
    of: dict[tuple[str, str | None], dict[str | None, float | None]] = {}
    for s in context.scores:
        if s.section == "utility" and s.column is None:
            of.setdefault((s.metric, s.source), {})[s.model] = s.value
    ranked = "r2" if context.task.kind == "regression" else "auroc"
    for source in context.synthetic:
        for metric in RELATIVE:
            real, own = of.get((metric, "real"), {}), of.get((metric, source), {})
            for model, value in own.items():
                base = real.get(model)
                if value is None or base is None or base <= 0:
                    if (metric, source) in of:
                        why = "not defined: the score on real rows is missing, zero or negative"
                        context.add(
                            "utility", f"relative_{metric}", None, source=source, model=model, note=why
                        )
                    continue
                context.add("utility", f"relative_{metric}", value / base, source=source, model=model)
        real, own = of.get((ranked, "real"), {}), of.get((ranked, source), {})
        pairs = [
            (real[m], own[m]) for m in context.models if real.get(m) is not None and own.get(m) is not None
        ]
        agreement = utility.rank_agreement(*zip(*pairs, strict=True)) if len(pairs) >= 2 else None
        note = f"Kendall's tau over {len(pairs)} model families, by {ranked}"
        context.add("utility", "ranking_agreement", agreement, source=source, note=note, n=len(pairs))
