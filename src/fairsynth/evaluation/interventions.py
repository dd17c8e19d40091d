"""What a trained model does when one column is changed: flips of the sensitive attribute, importances."""

from __future__ import annotations

import numpy as np
import polars as pl

from fairsynth.evaluation.context import Context
from fairsynth.evaluation.downstream import FittedModel
from fairsynth.metrics import fairness, utility


def score_flips(context: Context) -> None:
    """Flip the sensitive attribute of real test people and see whose decision changes (FTU, flip rate).

    Where the decision is a number, the shifts of the mean and of each person take their places.
    """
    numeric = context.task.kind == "regression"
    frame = context.sample(context.test.frame, context.depth.flip_rows, "flips")
    table = context.test.replace(frame)
    for columns in context.attributes:
        if len(columns) > 1 and not context.depth.flip_joint:
            continue
        groups = table.groups(list(columns))
        worlds = _worlds(context, frame, columns)
        if len(worlds) < 2:
            continue
        for source, models in context.fitted.items():
            if source == "constant":
                continue
            context.tick(f"flip {groups.attribute} for models of {source}")
            found: dict[str, list[float]] = {}
            for model in models.values():
                predicted = [model.predict(world) for world in worlds]
                if numeric:
                    found.setdefault("mean_shift", []).append(fairness.mean_shift(predicted))
                    found.setdefault("counterfactual_shift", []).append(
                        fairness.counterfactual_shift(predicted)
                    )
                    continue
                decisions = [context.task.decision(p) for p in predicted]
                found.setdefault("ftu", []).append(fairness.fairness_through_unawareness(decisions))
                found.setdefault("counterfactual_flip_rate", []).append(
                    fairness.counterfactual_flip_rate(decisions)
                )
            for metric, values in found.items():
                for name, value in [*zip(models, values, strict=True), ("mean", float(np.mean(values)))]:
                    context.add(
                        "fairness",
                        metric,
                        value,
                        source=source,
                        model=name,
                        attribute=groups.attribute,
                        n=frame.height,
                        note=f"between {len(worlds)} levels",
                    )


def _worlds(context: Context, frame: pl.DataFrame, columns: tuple[str, ...]) -> list[pl.DataFrame]:
    """Return the test people with the sensitive columns set to each combination that real rows hold."""
    train = context.train.frame
    groups = context.train.groups(list(columns))
    worlds = []
    for code in np.flatnonzero(groups.counts):
        rows = train.filter(pl.Series(groups.codes == code))
        changes = []
        for name in columns:
            column, values = context.schema[name], rows[name]
            if column.edges is not None:
                middle = values.median()
                if middle is not None and column.kind == "integer":
                    middle = round(float(middle))  # type: ignore[arg-type]
                level = middle
            else:
                level = values[0]
            changes.append(pl.lit(level, dtype=frame[name].dtype).alias(name))
        worlds.append(frame.with_columns(changes))
    return worlds


def score_importances(context: Context) -> None:
    """Compare what drives LightGBM trained on real and on synthetic rows, by permutation on test people.

    Importance is the loss of AUROC (of R², for numbers) when one column is permuted among the test people
    (Breiman 2001); the permutations are the same for all sources.
    """
    if "lightgbm" not in context.models:
        return
    frame = context.sample(context.test.frame, 4_000, "importances")
    target = context.task.values(frame, context.schema)

    def quality(model: FittedModel, rows: pl.DataFrame) -> float:
        prediction = model.predict(rows)
        if context.task.kind == "regression":
            known = ~np.isnan(target)
            return utility.regression_scores(target[known], prediction[known])["r2"] or 0.0
        return utility.auroc(context.task.is_favorable(target), context.task.probability(prediction))

    orders = {c: context.rng(f"permute {c}").permutation(frame.height) for c in context.downstream.columns}
    importance: dict[str, list[float]] = {}
    for source in ["real", *context.synthetic]:
        context.tick(f"importances of {source}")
        model = context.fitted[source]["lightgbm"]
        whole = quality(model, frame)
        importance[source] = []
        for column, order in orders.items():
            drop = whole - quality(model, frame.with_columns(frame[column][order]))
            importance[source].append(drop)
            context.add(
                "utility",
                "permutation_importance",
                drop,
                source=source,
                model="lightgbm",
                column=column,
                n=frame.height,
            )
    for source in context.synthetic:
        agreement = utility.rank_agreement(importance["real"], importance[source])
        context.add(
            "utility",
            "importance_agreement",
            agreement,
            source=source,
            note="Kendall's tau of LightGBM's permutation importances, real against synthetic",
            n=len(orders),
        )
