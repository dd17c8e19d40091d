"""Section "privacy": whether the rows give away the people they were learned from."""

from __future__ import annotations

from typing import Any

import numpy as np

from fairsynth.evaluation.context import Context
from fairsynth.evaluation.features import row_keys
from fairsynth.evaluation.rows import Neighbourhoods
from fairsynth.metrics import privacy
from fairsynth.metrics.manifold import nearest


def score_privacy(context: Context, near: Neighbourhoods) -> None:
    """Score closest records, copies and membership inference, beside what hold-out rows score."""
    _copies(context)
    _closest_records(context, near)


def _copies(context: Context) -> None:
    train = row_keys(context.train.frame, context.schema)
    for source, table in ({"holdout": context.test} | context.synthetic).items():
        context.tick(f"copies in {source}")
        share = privacy.copies(row_keys(table.frame, context.schema), train)
        note = "rows equal to a train row in every column but identifiers"
        context.add("privacy", "exact_copies", share, source=source, n=len(table), note=note)


def _closest_records(context: Context, near: Neighbourhoods) -> None:
    among = f"{near.n:,} train and as many hold-out rows to be near to"
    people = near.nearest("holdout", "train")[0]
    for source in context.synthetic:
        context.tick(f"closest records of {source}")
        distances = near.nearest(source, "train")[0]
        to_holdout = near.nearest(source, "holdout")[0][:, 0]
        share = privacy.closer_to_train(distances[:, 0], to_holdout, seed=context.seed)
        _closest(context, source, share, distances, people, near.n, among)
    # Half of the hold-out rows in the place of the synthetic ones, measured against the other half.
    half = near.n // 2
    if half < 2:
        return
    order = context.rng("halves").permutation(near.n)
    points = near.clouds["holdout"].points
    stand_in, others = points[order[:half]], points[order[half : 2 * half]]
    train = near.clouds["train"].points[context.sample_index(near.n, half, "half of train")]
    to_train, to_others = nearest(stand_in, train)[0][:, 0], nearest(stand_in, others)[0][:, 0]
    share = privacy.closer_to_train(to_train, to_others, seed=context.seed)
    note = f"{half:,} train and as many other hold-out rows to be near to"
    _closest(context, "holdout", share, people, people, half, note)


def _closest(
    context: Context,
    source: str,
    share: privacy.Share,
    distances: privacy.Floats,
    people: privacy.Floats,
    n: int,
    note: str,
) -> None:
    context.add(
        "privacy", "dcr_share", share.value, interval=(share.low, share.high), source=source, n=n, note=note
    )
    where: dict[str, Any] = {"source": source, "n": len(distances)}
    context.add("privacy", "dcr", float(np.median(distances[:, 0])), note="median distance to train", **where)
    low = float(np.quantile(distances[:, 0], 0.05))
    context.add("privacy", "dcr_5_percent", low, note="5 % quantile of the distance to train", **where)
    if distances.shape[1] > 1:
        ratio = float(np.median(privacy.nearest_neighbour_ratio(distances)))
        context.add("privacy", "nndr", ratio, note="median, nearest over second nearest train row", **where)
    near = privacy.near_copies(distances[:, 0], people[:, 0])
    said = "nearer to a train row than 99 % of hold-out people are"
    context.add("privacy", "near_copies", near, note=said, **where)
