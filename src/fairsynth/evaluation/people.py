"""Section "privacy": whether the rows give away the people they were learned from."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import polars as pl

from fairsynth.data.persons import many_of_several
from fairsynth.errors import DataError, FairsynthWarning
from fairsynth.evaluation.context import Context
from fairsynth.evaluation.features import (
    Points,
    categorical_positions,
    column_values,
    is_categorical,
    native_matrix,
    row_keys,
)
from fairsynth.evaluation.rows import Neighbourhoods
from fairsynth.metrics import attacks, privacy

#: Share of hold-out rows that may be train rows beyond what copies among these explain.
OVERLAP = 0.25


def score_privacy(context: Context, near: Neighbourhoods) -> None:
    """Score closest records, copies and membership inference, beside what hold-out rows score."""
    _same_people(context)
    _copies(context)
    _closest_records(context, near)
    if context.depth.alpha:
        _membership(context, near.points)
    if context.depth.attacks:
        _attacks(context, near.points)


def _same_people(context: Context) -> None:
    """Warn where people have rows among those learned from and among those tested on."""
    for name in context.schema.identifiers:
        sides = [table.frame for table in (context.train, context.test) if name in table.frame.columns]
        if len(sides) < 2 or sides[0][name].dtype != sides[1][name].dtype:
            continue
        train, test = (side[name].drop_nulls() for side in sides)
        # Numbers of rows begin anew in each file, and name nobody.
        if not (many_of_several(train) or many_of_several(test)):
            continue
        people = test.unique()
        if known := int(people.is_in(train.unique().implode()).sum()):
            told = (
                f"{known:,} of {len(people):,} people of the test rows, by column {name!r}, have rows among those that "
                "were learned from: what models decide on these is not of new people. Keep all rows of a person on one "
                "side, as Table.split does."
            )
            context.notes.append(told)
            warnings.warn(told, FairsynthWarning, stacklevel=4)


def _copies(context: Context) -> None:
    train = row_keys(context.train.frame, context.schema)
    for source, table in ({"holdout": context.test} | context.synthetic).items():
        context.tick(f"copies in {source}")
        share = privacy.copies(row_keys(table.frame, context.schema), train)
        note = "rows equal to a train row in every column but identifiers"
        context.add("privacy", "exact_copies", share, source=source, n=len(table), note=note)
        if source == "holdout":
            _doubt(context, share, train)


def _doubt(context: Context, share: float, train: np.ndarray) -> None:
    """Warn where hold-out rows are train rows far more often than train rows are each other's copies."""
    _, counts = np.unique(train, return_counts=True)
    usual = float(counts[counts > 1].sum() / len(train))
    if share <= usual + OVERLAP:
        return
    told = (
        f"{share:.0%} of the real rows that this is tested on are among those it was learned from ({usual:.0%} of "
        "those have a copy among themselves): what models decide on them, and what is said of copies, is not of new "
        "people. Test on rows that were held out."
    )
    context.notes.append(told)
    warnings.warn(told, FairsynthWarning, stacklevel=4)


def _closest_records(context: Context, near: Neighbourhoods) -> None:
    among = f"{near.n:,} train and as many hold-out rows to be near to"
    people = near.nearest("holdout", "train")[0]
    for source in context.synthetic:
        context.tick(f"closest records of {source}")
        distances, index = near.nearest(source, "train")
        to_holdout, other = (v[:, 0] for v in near.nearest(source, "holdout"))
        records = privacy.nearest_records(distances[:, 0], index[:, 0], to_holdout, other)
        share = privacy.closer_to_train(distances[:, 0], to_holdout, records=records, seed=context.seed)
        _closest(context, source, share, distances, people, near.n, among)
    # Half of the hold-out rows in the place of the synthetic ones, measured against the other half.
    half = near.n // 2
    if half < 2:
        return
    order = context.rng("halves").permutation(near.n)
    points = near.clouds["holdout"].points
    stand_in, others = points[order[:half]], points[order[half : 2 * half]]
    train = near.clouds["train"].points[context.sample_index(near.n, half, "half of train")]
    share = privacy.distance_to_closest_record(train, others, stand_in, seed=context.seed)
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


def _parts(frame: pl.DataFrame, parts: int, rows: int, context: Context) -> list[pl.DataFrame]:
    """Cut rows at random into disjoint parts of equal size, each of at most `rows` rows."""
    size = min(frame.height // parts, rows)
    order = context.rng(f"{parts} parts").permutation(frame.height)
    return [frame[order[i * size : (i + 1) * size]] for i in range(parts)]


def _membership(context: Context, points: Points) -> None:
    """Attack membership; hold-out rows give the non-members, the reference, and a stand-in release."""
    rows = context.depth.distance_rows
    if len(context.test) < 60:
        context.note("Membership inference was left out: it needs 60 hold-out rows.")
        return
    strangers, reference, stand_in = (points(f) for f in _parts(context.test.frame, 3, rows, context))
    members = points(context.sample(context.train.frame, len(strangers), "members"))
    released = {
        s: points(context.sample(t.frame, 2 * rows, f"membership {s}")) for s, t in context.synthetic.items()
    }
    for source, release in {"holdout": stand_in, **released}.items():
        context.tick(f"membership attack on {source}")
        attack = privacy.membership_inference(members, strangers, release, reference, seed=context.seed)
        n = len(members) + len(strangers)
        note = f"density ratio of nearest neighbours; {len(members):,} members, {len(strangers):,} others"
        context.add(
            "privacy",
            "membership_inference_auc",
            attack.auc,
            interval=(attack.low, attack.high),
            source=source,
            n=n,
            note=note,
        )
        tpr = attack.tpr_at_1_percent
        said = "share of members recognised when 1 % of the others are accused wrongly"
        context.add("privacy", "membership_inference_tpr", tpr, source=source, n=n, note=said)


def _attacks(context: Context, points: Points) -> None:
    """Make the three attacks on each table, and on one half of the hold-out with the other as control."""
    rows = context.depth.distance_rows
    train = context.sample(context.train.frame, rows, "attacked train")
    control = context.sample(context.test.frame, rows, "attacked holdout")
    stand_in, others = _parts(context.test.frame, 2, rows, context)
    tables = {s: context.sample(t.frame, rows, f"attack {s}") for s, t in context.synthetic.items()}
    cases = {"holdout": (stand_in, others)} | {s: (release, control) for s, release in tables.items()}
    for source, (release, strangers) in cases.items():
        context.tick(f"attacks on {source}")
        _single_out(context, source, train, strangers, release)
        _link(context, source, train, strangers, release, points)
        _infer(context, source, train, strangers, release, points)


def _add_risk(context: Context, metric: str, found: attacks.Risk, **where: Any) -> None:
    note = f"success {found.success:.3f}, on hold-out people {found.control:.3f}, blind {found.naive:.3f}"
    if found.naive > found.success:
        note += "; weaker than blind guesses, so it says nothing of the risk"
    context.add(
        "privacy",
        metric,
        found.value,
        interval=(found.low, found.high),
        n=found.attacks,
        note=note,
        **where,
    )


def _single_out(
    context: Context, source: str, train: pl.DataFrame, strangers: pl.DataFrame, release: pl.DataFrame
) -> None:
    tables = [native_matrix(f, context.schema, context.columns) for f in (train, strangers, release)]
    try:
        found = attacks.singling_out(
            *tables,
            categorical=categorical_positions(context.schema, context.columns),
            attacks=context.depth.attacks,
            seed=context.seed,
        )
    except DataError as error:
        context.add("privacy", "singling_out", None, source=source, note=str(error))
        return
    _add_risk(context, "singling_out", found, source=source)


def _link(
    context: Context,
    source: str,
    train: pl.DataFrame,
    strangers: pl.DataFrame,
    release: pl.DataFrame,
    points: Points,
) -> None:
    if len(context.columns) < 2:
        return
    order = context.rng("halves of columns").permutation(len(context.columns))
    places = points.blocks()
    halves = {
        name: np.concatenate([np.arange(places[c].start, places[c].stop) for c in chosen])
        for name, chosen in (
            ("one", [context.columns[i] for i in order[::2]]),
            ("two", [context.columns[i] for i in order[1::2]]),
        )
    }
    encoded = [points(f) for f in (train, strangers, release)]
    cut = [{name: e[:, at] for name, at in halves.items()} for e in encoded]
    found = attacks.linkability(*cut, attacks=context.depth.attacks, seed=context.seed)
    _add_risk(context, "linkability", found, source=source)


def _infer(
    context: Context,
    source: str,
    train: pl.DataFrame,
    strangers: pl.DataFrame,
    release: pl.DataFrame,
    points: Points,
) -> None:
    """Guess every column from all others; the headline pools the guesses of all columns."""
    frames = (train, strangers, release)
    encoded = [points(f) for f in frames]
    places = points.blocks()
    pooled = []
    for name in context.columns:
        column = context.schema[name]
        others = np.ones(encoded[0].shape[1], dtype=bool)
        others[places[name]] = False
        if not others.any():
            return
        secrets = [column_values(f, column) for f in frames]
        tolerance = 0.0
        if not is_categorical(column):
            known = column_values(context.train.frame, column)
            low, high = np.nanquantile(known, [0.05, 0.95])
            tolerance = 0.05 * float(high - low)
        guesses = attacks.infer(
            *(e[:, others] for e in encoded),
            secret_train=secrets[0],
            secret_holdout=secrets[1],
            secret_synthetic=secrets[2],
            tolerance=tolerance,
            attacks=context.depth.attacks,
            seed=context.seed,
        )
        found = attacks.risk(guesses.success, guesses.control, guesses.naive)
        _add_risk(context, "inference_of_column", found, source=source, column=name)
        pooled.append(guesses)
    parts = [np.concatenate([getattr(g, k) for g in pooled]) for k in ("success", "control", "naive")]
    _add_risk(context, "inference", attacks.risk(*parts), source=source)
