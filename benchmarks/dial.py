"""The dial: strength against fairness and utility of models on held-out real people."""

from __future__ import annotations

from benchmarks import quality
from benchmarks.common import keep, load

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def run(name: str, sensitive: list[str] | None, *, seeds: int, criterion: str) -> None:
    """Fit at five strengths with several seeds, and keep the frontier."""
    train, test = load(name, sensitive)
    frontier = {}
    for strength in STRENGTHS:
        runs = []
        for seed in range(seeds):
            runs += quality.one_seed(train, test, seed, criterion, strength, "core", "fairvae")
        frontier[str(strength)] = quality.summary(runs)
        told = {metric: value[0] for metric, value in frontier[str(strength)]["teacher"].items()}
        print(strength, told, flush=True)
    attributes = "-".join(train.schema.sensitive)
    keep(
        f"dial-{name}-{attributes}-{criterion}",
        {"dataset": name, "criterion": criterion, "frontier": frontier},
    )
