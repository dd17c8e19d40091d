"""Seconds and memory of the evaluation, at every depth and for a million rows."""

from __future__ import annotations

from typing import Any

from benchmarks.common import alone, keep, load


def run() -> None:
    """Judge a resample of Adult's training rows, then a million of them, each in a process of its own."""
    body = {depth: alone(_evaluate, depth, 1) for depth in ("quick", "core", "full")}
    body["core, a million rows"] = alone(_evaluate, "core", 31)
    for what, told in body.items():
        print(what, told, flush=True)
    keep("evaluation", body)


def _evaluate(depth: str, times: int) -> dict[str, Any]:
    import numpy as np

    from fairsynth import evaluate

    train, test = load("adult", ["sex", "race"])
    n = len(train) * times
    rng = np.random.default_rng(0)
    synthetic = train.replace(train.frame[rng.integers(0, len(train), n)])
    if times > 1:
        train = train.replace(train.frame[rng.integers(0, len(train), n)])
    evaluate(train, test, synthetic, depth=depth)
    return {"real rows": n + len(test), "synthetic rows": n}
