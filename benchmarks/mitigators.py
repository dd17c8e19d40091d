"""Every mitigator once, on the published split, by the project's own evaluation."""

from __future__ import annotations

from typing import Any

from benchmarks.common import keep, load

METRICS = ("accuracy", "auroc", "balanced_accuracy", "selection_rate", "dpr", "eor")
CRITERIA = ("demographic_parity", "equalized_odds")


def run(name: str, sensitive: list[str] | None, *, seed: int = 0, only: list[str] | None = None) -> None:
    """Fit and score each method with each criterion that it knows; print every run and keep all."""
    from fairsynth.mitigators.registry import list_mitigators

    train, test = load(name, sensitive)
    attribute = " × ".join(train.schema.sensitive)
    runs = []
    for method in only or list_mitigators():
        for criterion in criteria_of(method):
            runs.append(one(train, test, method, criterion, attribute, seed))
            print(method, criterion or "", runs[-1]["scores"], runs[-1]["seconds"], flush=True)
    body = {"dataset": name, "sensitive": list(train.schema.sensitive), "seed": seed, "runs": runs}
    keep(f"mitigators-{name}-{'-'.join(train.schema.sensitive)}", body)


def criteria_of(method: str) -> tuple[str | None, ...]:
    """Return the criteria that a method is run with; none for a method without the notion."""
    from fairsynth.mitigators.registry import get_mitigator_class

    known = get_mitigator_class(method).capabilities.criteria
    return tuple(criterion for criterion in CRITERIA if criterion in known) or (None,)


def one(
    train: Any, test: Any, method: str, criterion: str | None, attribute: str, seed: int
) -> dict[str, Any]:
    """Return the main numbers of one fit on the test people, with 95 % intervals over them."""
    from fairsynth import Fairness
    from fairsynth.evaluation.mitigation import PREFIX, evaluate_mitigator, told_of
    from fairsynth.mitigators.registry import get_mitigator_class

    settings = {"fairness": Fairness(criterion, 1.0)} if criterion else {}  # type: ignore[arg-type]
    mitigator = get_mitigator_class(method)(seed=seed, **settings)
    evaluation = evaluate_mitigator(train, test, mitigator, name=method, seed=seed)
    scores, intervals = {}, {}
    for metric in METRICS:
        by_group = metric in ("dpr", "eor")
        score = evaluation.score(metric, PREFIX + method, attribute=attribute if by_group else None)
        scores[metric] = round(score.value, 4) if score.value is not None else None
        if score.low is not None and score.high is not None:
            intervals[metric] = [round(score.low, 4), round(score.high, 4)]
    return {
        "method": method,
        "criterion": criterion,
        "scores": scores,
        "intervals": intervals,
        "seconds": evaluation.meta["mitigators"][method]["seconds"],
        "told": told_of(mitigator),
    }
