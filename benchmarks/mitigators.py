"""Every mitigator once, on the published split, by the project's own evaluation."""

from __future__ import annotations

import json
import time
from typing import Any

from benchmarks.common import RESULTS, keep, load

METRICS = ("accuracy", "auroc", "balanced_accuracy", "selection_rate", "dpr", "eor")
BY_GROUP = ("dpr", "eor", "dpr_large_groups", "eor_large_groups")
CRITERIA = ("demographic_parity", "equalized_odds")
#: Generators that stand beside: LightGBM learns from as many of their rows as there are real ones.
GENERATORS = ("fair-trees", "fairvae")
#: Run a second time with another model behind, and beside it the same model unmitigated: what is removed is linear.
BASES: dict[str, tuple[str, ...]] = {
    "none": ("lightgbm", "logistic_regression"),
    "correlation-remover": ("lightgbm", "logistic_regression"),
}


def run(name: str, sensitive: list[str] | None, *, seed: int = 0, only: list[str] | None = None) -> None:
    """Fit and score each method with each criterion that it knows; print every run and keep all.

    What a method refuses is kept as its answer: that it cannot be had is a result, too. With `only`, the runs of other
    methods stay in the file as they are.
    """
    from fairsynth.errors import FairsynthError
    from fairsynth.mitigators.registry import list_mitigators

    train, test = load(name, sensitive)
    attribute = " × ".join(train.schema.sensitive)
    stem = f"mitigators-{name}-{'-'.join(train.schema.sensitive)}"
    known = (*list_mitigators(), *GENERATORS)
    wanted = only or known
    found: dict[str, list[dict[str, Any]]] = {}
    for method in wanted:
        for base in BASES.get(method, (None,)):
            for criterion in criteria_of(method):
                try:
                    told = one(train, test, method, criterion, base, attribute, seed)
                except FairsynthError as error:
                    told = {"method": method, "criterion": criterion, "base": base, "refused": str(error)}
                print(
                    method, base or "", criterion or "", told.get("scores", told.get("refused")), flush=True
                )
                found.setdefault(method, []).append(told)
    kept = RESULTS / f"{stem}.json"
    for told in json.loads(kept.read_text())["runs"] if only and kept.exists() else ():
        if told["method"] not in wanted:
            found.setdefault(told["method"], []).append(told)
    runs = [told for method in known for told in found.get(method, ())]
    keep(stem, {"dataset": name, "sensitive": list(train.schema.sensitive), "seed": seed, "runs": runs})


def criteria_of(method: str) -> tuple[str | None, ...]:
    """Return the criteria that a method is run with; none for a method without the notion."""
    from fairsynth.generators.registry import get_generator_class
    from fairsynth.mitigators.registry import get_mitigator_class

    kind: Any = get_generator_class(method) if method in GENERATORS else get_mitigator_class(method)
    known = kind.capabilities.criteria
    return tuple(criterion for criterion in CRITERIA if criterion in known) or (None,)


def one(
    train: Any, test: Any, method: str, criterion: str | None, base: str | None, attribute: str, seed: int
) -> dict[str, Any]:
    """Return the main numbers of one fit on the test people, with 95 % intervals over them."""
    from fairsynth import Fairness
    from fairsynth.evaluation.mitigation import PREFIX, evaluate_mitigator, told_of
    from fairsynth.mitigators.registry import get_mitigator_class

    settings: dict[str, Any] = {"base": base} if base else {}
    if criterion:
        settings["fairness"] = Fairness(criterion, 1.0)  # type: ignore[arg-type]
    if method in GENERATORS:
        evaluation, seconds = of_rows(train, test, method, settings, seed)
        source, model, told = "synthetic", "lightgbm", {"generator": method}
    else:
        mitigator = get_mitigator_class(method)(seed=seed, **settings)
        evaluation = evaluate_mitigator(train, test, mitigator, name=method, seed=seed)
        seconds = evaluation.meta["mitigators"][method]["seconds"]
        source, model, told = PREFIX + method, "mean", told_of(mitigator)
    scores, intervals = {}, {}
    large = {score.metric for score in evaluation.scores if score.metric in BY_GROUP}
    for metric in dict.fromkeys((*METRICS, *(metric for metric in BY_GROUP if metric in large))):
        by_group = attribute if metric in BY_GROUP else None
        score = evaluation.score(metric, source, model, by_group)
        scores[metric] = round(score.value, 4) if score.value is not None else None
        if score.low is not None and score.high is not None:
            intervals[metric] = [round(score.low, 4), round(score.high, 4)]
    return {
        "method": method,
        "criterion": criterion,
        "base": base,
        "scores": scores,
        "intervals": intervals,
        "seconds": seconds,
        "told": told,
    }


def of_rows(train: Any, test: Any, method: str, settings: dict[str, Any], seed: int) -> tuple[Any, float]:
    """Return how LightGBM does that learned from the rows of a generator, and the seconds of its fit."""
    from fairsynth import evaluate
    from fairsynth.generators.registry import get_generator_class

    kind: Any = get_generator_class(method)
    began = time.perf_counter()
    fitted = kind(seed=seed, **settings).fit(train)
    seconds = round(time.perf_counter() - began, 3)
    rows = fitted.sample_table(len(train), seed=seed)
    return evaluate(train, test, rows, models=("lightgbm",), seed=seed), seconds
