"""Two results of the mitigators that look like mistakes, looked into: correlation remover and grid search."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.common import keep, load

GRIDS = ((20, 2.0), (60, 0.5))


def run(name: str, sensitive: list[str] | None, *, seed: int = 0) -> None:
    """Measure what is left after the remover, and what the grid had to choose from; keep all."""
    train, test = load(name, sensitive)
    body = {
        "dataset": name,
        "sensitive": list(train.schema.sensitive),
        "correlation-remover": remover(train, test, seed),
        "grid-search": [grid(train, test, size, limit, seed) for size, limit in GRIDS],
    }
    keep(f"checks-{name}-{'-'.join(train.schema.sensitive)}", body)


def remover(train: Any, test: Any, seed: int) -> dict[str, Any]:
    """Return how well the group can be told from what is left, and what fairlearn's class gives by itself."""
    from fairlearn.metrics import demographic_parity_ratio
    from fairlearn.preprocessing import CorrelationRemover
    from lightgbm import LGBMClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    from fairsynth.mitigators.registry import get_mitigator_class

    kind: Any = get_mitigator_class("correlation-remover")
    left = kind(seed=seed).fit(train).transform(train)
    group = train.groups().codes == train.groups().codes.max()
    varied = left[:, left.std(0) > 1e-9]
    told: dict[str, Any] = {
        "largest correlation": max(abs(float(np.corrcoef(column, group)[0, 1])) for column in varied.T),
        "share of the larger group": round(float(max(group.mean(), 1 - group.mean())), 4),
    }
    for reader, model in (
        ("boosted trees", HistGradientBoostingClassifier(random_state=seed)),
        ("logistic regression", LogisticRegression(max_iter=1000)),
    ):
        chance = cross_val_predict(model, left, group, cv=3, method="predict_proba")[:, 1]
        told[f"AUC of the group, {reader}"] = round(float(roc_auc_score(group, chance)), 4)

    target, (attribute,) = train.schema.target, train.schema.sensitive
    both = train.frame.vstack(test.frame).drop(target)
    levels = [name for name, dtype in both.schema.items() if not dtype.is_numeric()]
    columns = both.to_dummies(levels)
    matrix = np.nan_to_num(columns.to_numpy().astype(np.float64))
    own = [i for i, column in enumerate(columns.columns) if column.startswith(f"{attribute}_")]
    fair = CorrelationRemover(sensitive_feature_ids=own, alpha=1.0)
    n = len(train)
    learned = fair.fit(matrix[:n]).transform(matrix[:n])
    model = LGBMClassifier(verbose=-1, random_state=seed, n_jobs=1).fit(learned, train.favorable())
    decided = model.predict(fair.transform(matrix[n:]))
    groups = test.groups().codes
    told["DPR of fairlearn's own with LightGBM"] = round(
        float(demographic_parity_ratio(test.favorable(), decided, sensitive_features=groups)), 4
    )
    return told


def grid(train: Any, test: Any, size: int, limit: float, seed: int) -> dict[str, Any]:
    """Return what fairlearn's grid for equalized odds had to choose from, and by what it chose."""
    from fairlearn.metrics import demographic_parity_ratio, equalized_odds_ratio

    from fairsynth import Fairness
    from fairsynth.mitigators import reductions

    kept: dict[str, Any] = {}

    class Watched(reductions.GridSearch):
        def fit(self, *args: Any, **kwargs: Any) -> Any:
            kept["search"] = super().fit(*args, **kwargs)
            return kept["search"]

    original = reductions.GridSearch
    reductions.GridSearch = Watched
    try:
        fitted: Any = reductions.GridSearchReduction(
            fairness=Fairness("equalized_odds", 1.0), grid_size=size, grid_limit=limit, seed=seed
        )
        fitted.fit(train)
    finally:
        reductions.GridSearch = original
    search, people, groups = kept["search"], test.favorable(), test.groups().codes
    points = []
    for i, model in enumerate(search.predictors_):
        decided = np.asarray(model.predict(fitted.features_(test.frame))).astype(int)
        points.append(
            {
                "multipliers": round(float(np.abs(search.lambda_vecs_[i]).sum()), 3),
                "error on train": round(float(search.objectives_[i]), 4),
                "gap on train": round(float(search.gammas_[i].max()), 4),
                "accuracy": round(float((decided == people).mean()), 4),
                "dpr": round(float(demographic_parity_ratio(people, decided, sensitive_features=groups)), 4),
                "eor": round(float(equalized_odds_ratio(people, decided, sensitive_features=groups)), 4),
            }
        )
    return {"grid_size": size, "grid_limit": limit, "chosen": int(search.best_idx_), "points": points}
