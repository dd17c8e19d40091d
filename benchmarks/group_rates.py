"""Do drawn rows keep how often each joint group has its label? ``python -m benchmarks.group_rates [--model NAME]``.

A generator at strength 0 learns training rows; of each joint group of 30 people and more, the share of favorable labels
(or the mean of a number, in its standard deviations) among 100,000 drawn rows is compared with that among the people.
Two attributes of the made tables matter together. The published test split is not read.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import polars as pl

from benchmarks.common import load

DRAWN = 100_000
FEWEST = 30
#: Real tables, and the sensitive columns of each line.
REAL: dict[str, list[list[str] | None]] = {
    "adult": [["race", "sex"]],
    "compas": [["race"], ["race", "sex"]],
    "german": [["sex"]],
    "bank": [["age_group"]],
    "loanapp": [None],
}
#: Made tables: levels of either attribute, and rows.
MADE = (("two by two", 2, 2, 1_000), ("two by two", 2, 2, 4_000), ("three by four", 3, 4, 1_500),
        ("three by four", 3, 4, 5_000))  # fmt: skip


def main() -> None:
    """Measure, and print a line for each table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.group_rates", description=__doc__)
    parser.add_argument("--model", default="audited-trees", help="a generator")
    parser.add_argument("--seeds", type=int, default=3, help="made tables and models of each line")
    chosen = parser.parse_args()
    for name, one, other, n in MADE:
        for number in (False, True):
            found = [
                measured(made(n, one, other, seed, number=number), chosen.model, seed)
                for seed in range(chosen.seeds)
            ]
            show(f"{name}, {n:,} rows, {'a number' if number else 'two labels'}", found)
    for name, choices in REAL.items():
        for sensitive in choices:
            train, _ = load(name, sensitive)
            found = [measured(train, chosen.model, seed) for seed in range(chosen.seeds)]
            show(f"{name}, {' × '.join(train.schema.sensitive)}", found)


def made(n: int, one: int, other: int, seed: int, *, number: bool) -> Any:
    """Return people whose label depends on two attributes together."""
    from fairsynth import Table

    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, one, n), rng.integers(0, other, n)
    x, z = rng.normal(size=n) + 0.2 * b, rng.normal(size=n)
    effect = 1.2 * np.random.default_rng(5).normal(size=(one, other))[a, b] + 0.7 * x
    label = (
        effect + rng.normal(size=n) if number else np.where(effect + rng.logistic(size=n) > 0, "yes", "no")
    )
    frame = pl.DataFrame(
        {"a": [f"a{k}" for k in a], "b": [f"b{k}" for k in b], "x": x, "z": z, "label": label}
    )
    return Table(frame, target="label", favorable=None if number else "yes", sensitive=["a", "b"])


def measured(train: Any, model: str, seed: int) -> tuple[float, float, float]:
    """Return the mean difference over people, the largest one, and the slope of drawn on real."""
    from fairsynth import Fairness
    from fairsynth.generators.registry import get_generator_class

    generator = get_generator_class(model)(seed=seed, fairness=Fairness(strength=0.0)).fit(train)
    rows = generator.sample_table(DRAWN, seed=seed)
    column = train.schema[train.schema.target]
    values = []
    for table in (train, rows):
        labelled = column.kind in ("categorical", "boolean")
        values.append(table.favorable() if labelled else table.frame[column.name].to_numpy())
    scale = 1.0 if values[0].dtype == bool else float(values[0].std())
    groups, drawn = train.groups(), rows.groups()
    places = {str(name): k for k, name in enumerate(drawn.names)}
    real, found, people = [], [], []
    for k, name in enumerate(groups.names):
        own = groups.codes == k
        if own.sum() >= FEWEST:
            real.append(values[0][own].mean() / scale)
            found.append(values[1][drawn.codes == places[str(name)]].mean() / scale)
            people.append(int(own.sum()))
    off = np.abs(np.array(real) - np.array(found))
    return float(np.average(off, weights=people)), float(off.max()), float(np.polyfit(real, found, 1)[0])


def show(what: str, found: list[tuple[float, float, float]]) -> None:
    """Print the means."""
    mean, most, slope = np.mean(found, axis=0)
    print(f"{what}: off by {mean:.3f} on average, {most:.3f} at most, slope {slope:.2f}", flush=True)


if __name__ == "__main__":
    main()
