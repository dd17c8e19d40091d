"""Sections "table_fairness" and "fidelity": the rows themselves, with no model of the target in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fairsynth.data.table import Groups, Table
from fairsynth.errors import SchemaError
from fairsynth.evaluation.context import Context
from fairsynth.evaluation.features import (
    Points,
    categorical_positions,
    column_values,
    is_categorical,
    level_names,
    native_matrix,
    row_keys,
)
from fairsynth.metrics import detection, fairness, marginals
from fairsynth.metrics.leakage import leakage_auc, proxy_auc
from fairsynth.metrics.manifold import Cloud, alpha_precision_beta_recall, density_coverage, mmd, nearest

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Neighbours = tuple[Floats, NDArray[np.int64]]

MANY_PAIRS = 300


# ---------------------------------------------------------------------- fairness of the table
def score_table_fairness(context: Context) -> None:
    """Score label parity, group shares, conditional parity and leakage of each table."""
    tables = {"real": context.train} | context.synthetic
    for columns in context.attributes:
        population = _population(context, columns)
        for source, table in tables.items():
            context.tick(f"fairness of the table, {source}")
            groups = table.groups(list(columns))
            _shares(context, source, groups, population)
            if context.task.kind == "regression":
                _numeric_labels(context, source, table, groups)
            else:
                _labels(context, source, table, groups, len(columns) > 1)
            _leakage(context, source, table, columns, groups)


def _population(context: Context, columns: tuple[str, ...]) -> dict[str, float]:
    """Return the wanted share of each group: as stated, or as among the real train rows."""
    groups = context.train.groups(list(columns))
    stated = context.population.get(groups.attribute)
    if stated is None:
        return dict(zip(groups.names, groups.counts / len(groups.codes), strict=True))
    unknown = sorted(set(stated) - set(groups.names))
    if unknown:
        raise SchemaError(
            f"population of {groups.attribute!r} names {unknown[0]!r}, which is not one of its groups; "
            f"they are {', '.join(groups.names)}."
        )
    return {name: float(stated.get(name, 0.0)) for name in groups.names}


def _shares(context: Context, source: str, groups: Groups, population: dict[str, float]) -> None:
    shares = dict(zip(groups.names, groups.counts / len(groups.codes), strict=True))
    where: dict[str, Any] = {"source": source, "attribute": groups.attribute}
    for name, share in shares.items():
        if share > 0 or population.get(name, 0) > 0:
            n = int(groups.counts[groups.names.index(name)])
            context.add("table_fairness", "group_share", float(share), group=name, n=n, **where)
    names = sorted(set(shares) | set(population))
    distance = fairness.group_share_gap(
        [shares.get(name, 0.0) for name in names], [population.get(name, 0.0) for name in names]
    )
    stated = groups.attribute in context.population
    note = "against the stated population" if stated else "against the real train rows"
    context.add("table_fairness", "group_share_distance", distance, note=note, n=len(groups.codes), **where)


def _labels(context: Context, source: str, table: Table, groups: Groups, joint: bool) -> None:
    codes = context.task.values(table.frame, context.schema)
    known = ~np.isnan(codes)
    favorable = context.task.is_favorable(codes)[known]
    counts = fairness.confusion_by_group(favorable, favorable, groups.codes[known], len(groups.names))
    drawn = fairness.bootstrap_counts(counts, context.depth.draws, context.rng("labels"))
    n_of = counts.sum(axis=(1, 2))
    large = n_of >= context.minimum_group
    kept = large if joint and large.sum() >= 2 else n_of > 0
    left = [f"{groups.names[g]} ({n_of[g]})" for g in np.flatnonzero((n_of > 0) & ~kept)]
    note = f"groups of fewer than {context.minimum_group} rows left out: {', '.join(left)}" if left else None
    where: dict[str, Any] = {"source": source, "attribute": groups.attribute}
    values, samples = fairness.parity(counts[kept]), fairness.parity(drawn[:, kept])
    for metric, of in (("label_parity_ratio", "dpr"), ("label_parity_difference", "dpd")):
        context.add(
            "table_fairness",
            metric,
            float(values[of]),
            interval=fairness.interval(samples[of]),
            n=int(n_of[kept].sum()),
            note=note if not np.isnan(values[of]) else "fewer than two groups in these rows",
            **where,
        )
    rates = fairness.group_rates(counts).selection_rate
    sampled = fairness.group_rates(drawn).selection_rate
    for g in np.flatnonzero(n_of):
        tiny = f"only {n_of[g]} rows" if n_of[g] < context.minimum_group else None
        interval = fairness.interval(sampled[:, g])
        context.add(
            "table_fairness",
            "label_rate",
            float(rates[g]),
            interval=interval,
            group=groups.names[g],
            n=int(n_of[g]),
            note=tiny,
            **where,
        )
    for name in context.admissible:
        column = context.schema[name]
        values_ = column_values(table.frame, column)[known]
        if not is_categorical(column):
            edges = marginals.quantile_bins(column_values(context.train.frame, column), 5)
            values_ = marginals.bin_codes(values_, edges).astype(np.float64)
        strata = np.where(np.isnan(values_), -1, values_)
        try:
            gap = fairness.conditional_parity_difference(favorable, groups.codes[known], strata, minimum=20)
            said = "cells of fewer than 20 rows left out"
        except fairness.DataError as error:
            gap, said = None, str(error)
        context.add("table_fairness", "conditional_parity_difference", gap, column=name, note=said, **where)


def _numeric_labels(context: Context, source: str, table: Table, groups: Groups) -> None:
    target = context.task.values(table.frame, context.schema)
    known = ~np.isnan(target)
    where: dict[str, Any] = {"source": source, "attribute": groups.attribute}
    present = [g for g in np.flatnonzero(groups.counts) if (known & (groups.codes == g)).any()]
    for g in present:
        mine = known & (groups.codes == g)
        context.add(
            "table_fairness",
            "label_mean",
            float(target[mine].mean()),
            group=groups.names[g],
            n=int(mine.sum()),
            **where,
        )
    for metric, function in (
        ("label_mean_gap", fairness.mean_gap),
        ("label_distribution_gap", fairness.distribution_gap),
    ):
        value = function(target[known], groups.codes[known]) if len(present) >= 2 else None
        context.add("table_fairness", metric, value, n=int(known.sum()), **where)


def _leakage(context: Context, source: str, table: Table, columns: tuple[str, ...], groups: Groups) -> None:
    """Score how well s is read from the other columns, of held-out rows of the table and of real people."""
    others = [name for name in context.columns if name not in columns]
    if not others:
        return
    index = context.sample_index(len(table), context.depth.detection_rows, f"leakage {source}")
    codes = groups.codes[index]
    rows = table.frame[index]
    where: dict[str, Any] = {"source": source, "attribute": groups.attribute}
    auc = leakage_auc(
        native_matrix(rows, context.schema, others),
        codes,
        categorical=categorical_positions(context.schema, others),
        seed=context.seed,
        threads=context.threads,
    )
    note = "LightGBM, held-out rows of the same table, mean over groups of one against the rest"
    said = note if auc is not None else "needs two groups of at least 10 rows"
    context.add("table_fairness", "leakage_auc", auc, note=said, n=len(codes), **where)
    strengths = []
    for name in others:
        values = column_values(rows, context.schema[name])
        if not is_categorical(context.schema[name]):
            known = values[~np.isnan(values)]
            edges = marginals.quantile_bins(known, 20) if len(known) else np.array([0.0])
            values = marginals.bin_codes(values, edges).astype(np.float64)
        strengths.append((proxy_auc(np.where(np.isnan(values), -1, values), codes, seed=context.seed), name))
    ranked = sorted(strengths, key=lambda pair: -(pair[0] or 0.0))
    for rank, (strength, name) in enumerate(ranked, 1):
        context.add("table_fairness", "proxy_auc", strength, column=name, note=f"rank {rank}", **where)


# ---------------------------------------------------------------------- fidelity
def score_columns(context: Context) -> None:
    """Score marginals, missing values, repeated rows and pair associations, beside hold-out rows."""
    rows = context.depth.column_rows
    real = context.sample(context.train.frame, rows, "columns real")
    tables = {"holdout": context.test} | context.synthetic
    frames = {s: context.sample(t.frame, rows, f"columns {s}") for s, t in tables.items()}
    scales: dict[str, tuple[float, Floats]] = {}
    for source, frame in frames.items():
        context.tick(f"columns of {source}")
        _marginals(context, source, real, frame, scales)
    _pairs(context, real, frames)
    n = min([context.train.frame.height, *(t.frame.height for t in tables.values())])
    for source, table in {"real": context.train, **tables}.items():
        keys = row_keys(context.sample(table.frame, n, f"distinct {source}"), context.schema)
        share = len(np.unique(keys)) / len(keys)
        context.add("fidelity", "distinct_share", share, source=source, n=n)


def _marginals(
    context: Context,
    source: str,
    real: pl.DataFrame,
    frame: pl.DataFrame,
    scales: dict[str, tuple[float, Floats]],
) -> None:
    sums: dict[str, list[float]] = {}
    for name in context.columns:
        column = context.schema[name]
        a, b = column_values(real, column), column_values(frame, column)
        found: dict[str, float | None] = {}
        if is_categorical(column):
            missing = len(level_names(column))
            codes = [np.where(np.isnan(v), missing, v).astype(np.int64) for v in (a, b)]
            found["total_variation"] = marginals.total_variation(*codes)
            found["jensen_shannon"] = marginals.jensen_shannon(*codes)
        elif np.isnan(a).all() or np.isnan(b).all():
            for metric in ("ks", "wasserstein", "jensen_shannon"):
                note = "the column has no value on one side"
                context.add("fidelity", metric, None, source=source, column=name, note=note)
        else:
            if name not in scales:
                scales[name] = (float(np.nanstd(a)) or 1.0, marginals.quantile_bins(a))
            scale, edges = scales[name]
            found["ks"] = marginals.kolmogorov_smirnov(a, b)
            found["wasserstein"] = marginals.wasserstein(a, b, scale=scale)
            found["jensen_shannon"] = marginals.jensen_shannon(
                marginals.bin_codes(a, edges), marginals.bin_codes(b, edges)
            )
        for metric, value in found.items():
            context.add("fidelity", metric, value, source=source, column=name, n=len(b))
            if value is not None:
                sums.setdefault(metric, []).append(value)
        if np.isnan(a).any() or np.isnan(b).any():
            share, base = float(np.isnan(b).mean()), float(np.isnan(a).mean())
            note = f"{base:.4f} among the real train rows"
            context.add("fidelity", "missing_rate", share, source=source, column=name, note=note)
    for metric, values in sums.items():
        mean, note = float(np.mean(values)), f"mean over {len(values)} columns"
        context.add("fidelity", metric, mean, source=source, n=frame.height, note=note)


def _pairs(context: Context, real: pl.DataFrame, frames: dict[str, pl.DataFrame]) -> None:
    names = context.columns
    if len(names) < 2:
        return
    numeric = [not is_categorical(context.schema[name]) for name in names]

    def matrix(frame: pl.DataFrame) -> Floats:
        columns: list[NDArray[Any]] = []
        for name, number in zip(names, numeric, strict=True):
            values = column_values(frame, context.schema[name])
            columns.append(values if number else np.where(np.isnan(values), -1, values).astype(np.int64))
        return marginals.association_matrix(columns, numeric)

    context.tick("pairs of columns")
    base = matrix(real)
    upper = list(zip(*np.triu_indices(len(names), 1), strict=True))
    measured = {source: matrix(frame) for source, frame in frames.items()}
    worst = np.max([np.abs(m - base) for m in measured.values()], axis=0)
    shown = sorted(upper, key=lambda ij: -worst[ij])[:MANY_PAIRS]
    if len(upper) > MANY_PAIRS:
        context.note(f"Of {len(upper)} pairs of columns the {MANY_PAIRS} that differ most are listed.")
    for source, of in {"real": base, **measured}.items():
        for i, j in shown:
            pair = f"{names[i]} × {names[j]}"
            context.add("fidelity", "pair_association", float(of[i, j]), source=source, column=pair)
    for source, of in measured.items():
        difference = marginals.correlation_difference(base, of)
        note = "mean over all pairs: Pearson's r, Cramér's V, correlation ratio"
        context.add("fidelity", "correlation_difference", difference, source=source, note=note)


def score_detection(context: Context) -> None:
    """Score the classifier two-sample test and name the rows that give the synthetic away."""
    places = categorical_positions(context.schema, context.columns)
    giveaways: dict[str, list[dict[str, Any]]] = {}
    for source, table in ({"holdout": context.test} | context.synthetic).items():
        context.tick(f"tell {source} from real")
        n = min(len(context.train), len(table), context.depth.detection_rows)
        index = context.sample_index(len(table), n, f"detection {source}")
        real = context.sample(context.train.frame, n, "detection real")
        found = detection.classifier_two_sample_test(
            native_matrix(real, context.schema, context.columns),
            native_matrix(table.frame[index], context.schema, context.columns),
            categorical=places,
            folds=context.depth.folds,
            seed=context.seed,
            threads=context.threads,
        )
        note = f"LightGBM, {context.depth.folds} folds, out-of-sample, {n:,} rows on either side"
        context.add("fidelity", "c2st", found.auc, source=source, n=2 * n, note=note)
        for name, share in zip(context.columns, found.importance, strict=True):
            context.add("fidelity", "c2st_importance", float(share), source=source, column=name)
        if source != "holdout":
            giveaways[source] = [
                {
                    "row": int(index[row]),
                    "probability": round(float(found.probability_synthetic[row]), 4),
                    "columns": {
                        context.columns[c]: round(float(reason[c]), 4) for c in np.argsort(-reason)[:3]
                    },
                }
                for row, reason in zip(found.giveaways, found.reasons, strict=True)
            ]
    context.artifacts["giveaways"] = giveaways


class Neighbourhoods:
    """Equal numbers of train, hold-out and synthetic rows as points, and the distances between them.

    Each pair of point sets is measured once, whichever metrics ask for it.
    """

    def __init__(self, context: Context) -> None:
        tables = {"train": context.train, "holdout": context.test} | context.synthetic
        n = min([context.depth.distance_rows, *(len(t) for t in tables.values())])
        self.n = n
        self.points = Points(context.train.frame, context.schema, context.columns)
        self.index = {s: context.sample_index(len(t), n, f"distances {s}") for s, t in tables.items()}
        self.k = max(1, min(5, n - 1))
        self.clouds = {
            s: Cloud(self.points(t.frame[self.index[s]]), k=self.k, name=s) for s, t in tables.items()
        }
        self._found: dict[tuple[str, str], Neighbours] = {}

    def nearest(self, queries: str, reference: str) -> Neighbours:
        """Return distances and indices of the two nearest `reference` rows of each query, (n, 2) each."""
        key = (queries, reference)
        if key not in self._found:
            self._found[key] = nearest(
                self.clouds[queries].points, self.clouds[reference].points, min(2, self.n)
            )
        return self._found[key]


def score_manifold(context: Context, near: Neighbourhoods) -> None:
    """Score density, coverage, precision, recall, and with depth α-precision, β-recall, authenticity, MMD."""
    real = near.clouds["train"]
    for source in ["holdout", *context.synthetic]:
        context.tick(f"neighbourhoods of {source}")
        cloud = near.clouds[source]
        scores = density_coverage(real, cloud)
        note = f"k = {near.k}, {near.n:,} rows on either side"
        where: dict[str, Any] = {"source": source, "n": near.n}
        for metric, value in (
            ("density", scores.density),
            ("coverage", scores.coverage),
            ("knn_precision", scores.precision),
            ("knn_recall", scores.recall),
        ):
            context.add("fidelity", metric, value, note=note, **where)
        if not context.depth.alpha:
            continue
        distance, index = near.nearest(source, "train")
        alpha = alpha_precision_beta_recall(real, cloud, to_real=(distance[:, 0], index[:, 0]))
        for metric, value in (
            ("alpha_precision", alpha.alpha_precision),
            ("delta_precision", alpha.delta_precision),
            ("beta_recall", alpha.beta_recall),
            ("delta_recall", alpha.delta_recall),
            ("authenticity", alpha.authenticity),
        ):
            context.add("fidelity", metric, value, **where)
        some = min(near.n, 5_000)
        value = mmd(real.points[:some], cloud.points[:some])
        said = "squared, unbiased, Gaussian kernel of the median width; scatters around 0 when alike"
        context.add("fidelity", "mmd", value, source=source, n=some, note=said)
