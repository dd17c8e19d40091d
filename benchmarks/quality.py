"""Fairness, utility and fidelity over seeds, on the published split, by the project's own evaluation."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.common import keep, load

UTILITY = ("auroc", "accuracy", "balanced_accuracy")
RATIOS = ("dpr", "eor")
ROWS = ("coverage", "density", "c2st", "dcr_share", "exact_copies")


def run(
    name: str,
    sensitive: list[str] | None,
    *,
    seeds: int,
    criterion: str,
    strength: float,
    depth: str,
    model: str = "fairvae",
    times: int = 1,
) -> None:
    """Fit, distil and evaluate with seeds 0, 1, …; print every run and keep all.

    Drawn are `times` as many rows as there are training rows.
    """
    train, test = load(name, sensitive)
    runs = []
    for seed in range(seeds):
        runs += one_seed(train, test, seed, criterion, strength, depth, model, times)
        print(
            seed,
            {r["source"]: {k: round(v, 3) for k, v in r["scores"].items()} for r in runs[-3:]},
            flush=True,
        )
    attributes = "-".join(train.schema.sensitive)
    suffix = (
        ""
        if (criterion, strength, model) == ("demographic_parity", 1.0, "fairvae")
        else f"-{criterion}-{strength}"
    )
    suffix += "" if model == "fairvae" else f"-{model}"
    suffix += "" if times == 1 else f"-x{times}"
    body = {
        "dataset": name,
        "sensitive": list(train.schema.sensitive),
        "criterion": criterion,
        "strength": strength,
        "times": times,
        "summary": summary(runs),
        "runs": runs,
    }
    keep(f"quality-{name}-{attributes}{suffix}", body)


def one_seed(
    train: Any,
    test: Any,
    seed: int,
    criterion: str,
    strength: float,
    depth: str,
    model: str,
    times: int = 1,
) -> list[dict[str, Any]]:
    """Return the scores of teacher, student and real rows for one seed."""
    import tempfile
    from pathlib import Path

    import fairsynth as fs
    from fairsynth.generators.registry import get_generator_class, student_class

    began = time.perf_counter()
    fairness = fs.Fairness(criterion, strength)  # type: ignore[arg-type]
    teacher = get_generator_class(model)(fairness=fairness, seed=seed).fit(train)
    fitted = time.perf_counter() - began
    tables = {"teacher": teacher.sample_table(times * len(train), seed=seed)}
    distilled = 0.0
    if teacher.capabilities.teacher:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "teacher.fairsynth"
            teacher.save(path)
            began = time.perf_counter()
            student: Any = student_class(path)()
            student.distill(path, seed=seed)
            distilled = time.perf_counter() - began
        tables["student"] = student.sample_table(times * len(train), seed=seed)
    evaluation = fs.evaluate(train, test, tables, seed=seed, depth=depth)
    seconds = {"fit": round(fitted, 1), "distil": round(distilled, 1)}
    found = [
        {
            "source": source,
            "seed": seed,
            "seconds": seconds,
            "scores": scores(evaluation, train, f"synthetic:{source}"),
        }
        for source in tables
    ]
    found.append({"source": "real", "seed": seed, "scores": scores(evaluation, train, "real")})
    return found


def scores(evaluation: Any, train: Any, source: str) -> dict[str, float]:
    """Return the main numbers of one source."""
    attribute = " × ".join(train.schema.sensitive)
    found: dict[str, float | None] = {m: evaluation.value(m, source=source, model="mean") for m in UTILITY}
    for metric in RATIOS:
        found[metric] = evaluation.value(metric, source=source, model="mean", attribute=attribute)
        for score in evaluation.scores_for(metric=f"{metric}_large_groups", source=source, model="mean"):
            if score.attribute == attribute:
                found[score.metric] = score.value
    rows = "holdout" if source == "real" else source
    for metric in ROWS:
        found[metric] = evaluation.value(metric, source=rows, model=None)
    return {metric: value for metric, value in found.items() if value is not None}


def summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return mean and standard deviation over seeds, by source and metric."""
    told: dict[str, dict[str, list[float]]] = {}
    for source in dict.fromkeys(run["source"] for run in runs):
        own = [run["scores"] for run in runs if run["source"] == source]
        told[source] = {
            metric: [
                round(float(np.mean(values)), 4),
                round(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, 4),
            ]
            for metric in own[0]
            if (values := [scores[metric] for scores in own if metric in scores])
        }
    return told
