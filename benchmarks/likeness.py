"""Likeness against distance from people, on splits of training rows alone: ``python -m benchmarks.likeness DATASET``.

Audited trees at strength 0 learn from a part of the training rows; how well a classifier tells their rows from the rest
of them, and what share lies nearer to the rows learned from than to the rest. The published test split is not read;
the tables of `lumps` are made anew for each split.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from benchmarks.common import load
from benchmarks.field import TABLES
from benchmarks.lumps import MADE
from benchmarks.others import RECIPES, table_of_people

SHARE = 0.45
DRAWS = 4


def main() -> None:
    """Measure one setting, and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.likeness", description=__doc__)
    parser.add_argument("dataset", choices=(*TABLES, "loanapp", *RECIPES, *MADE))
    parser.add_argument("--settings", default="{}", help="of AuditedTrees, as JSON: '{\"directions\": 0}'")
    parser.add_argument("--splits", type=int, nargs="*", default=[11, 12, 13], help="seeds of the splits")
    parser.add_argument("--rows", type=int, default=3000, help="of a made table")
    chosen = parser.parse_args()
    found = np.array(
        [
            pair
            for split in chosen.splits
            for pair in measured(chosen.dataset, split, json.loads(chosen.settings), chosen.rows)
        ]
    )
    error = found.std(0, ddof=1) / np.sqrt(len(found))
    print(
        f"{chosen.dataset} {chosen.settings}: C2ST {found[:, 0].mean():.4f} ± {error[0]:.4f}, "
        f"nearer to train {found[:, 1].mean():.4f} ± {error[1]:.4f} ({len(found)} draws)"
    )


def measured(dataset: str, split: int, settings: dict[str, object], rows: int) -> list[tuple[float, float]]:
    """Return C2ST and share of near rows for each draw."""
    from fairsynth import AuditedTrees, Fairness
    from fairsynth.evaluation.features import Points
    from fairsynth.generators.probes import as_numbers
    from fairsynth.metrics.detection import classifier_two_sample_test
    from fairsynth.metrics.privacy import distance_to_closest_record

    if dataset in MADE:
        table = MADE[dataset](rows, split)
    elif dataset in RECIPES:
        table = table_of_people(dataset)
    else:
        table = load(dataset, [TABLES[dataset]] if dataset in TABLES else None)[0]
    own, rest = table.split(SHARE, seed=split)
    names = [c.name for c in own.schema.columns if c.name not in own.schema.identifiers]
    levels = [i for i, name in enumerate(names) if own.schema[name].kind in ("categorical", "boolean")]
    points = Points(own.frame, own.schema, names)
    n = min(len(own), len(rest))
    order = np.random.default_rng(split).permutation(len(own))[:n]
    learned, others = points(own.frame[order]), points(rest.frame[:n])
    model = AuditedTrees(seed=0, fairness=Fairness(strength=0.0), **settings).fit(own)  # type: ignore[arg-type]
    found = []
    for draw in range(DRAWS):
        rows = model.sample_table(n, seed=draw)
        told = classifier_two_sample_test(
            as_numbers(rest.frame[:n], names),
            as_numbers(rows.frame, names),
            categorical=levels,
            seed=draw,
            threads=1,
        )
        near = distance_to_closest_record(learned, others, points(rows.frame), draws=2)
        found.append((told.auc, near.value))
    return found


if __name__ == "__main__":
    main()
