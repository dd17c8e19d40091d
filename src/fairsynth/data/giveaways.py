"""Columns that give the target away: a code of the decision, a date of the payment, the label under another name.

Such a column is known after the decision only, and was left in the table. Every model decides by it, so whatever a
generator does to the label, decisions on real people stay as they were. All that can be done here is to say so.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from fairsynth.data.schema import Column, Schema

#: People looked at, evenly spread; fewer than so many tell nothing.
LOOKED_AT = 20_000
FEWEST = 200
#: A number is cut into so many parts.
PARTS = 50
#: People of a level who tell what it says.
TELLING = 10
#: Wrong guesses of the label, as a part of those made without the column, up to which it gives the label away.
GIVEN_AWAY = 0.03
#: Labels, at most, and people who do not have the most frequent one, at least.
MOST_LABELS = 24
OTHERS = 30


def giveaways(frame: pl.DataFrame, schema: Schema) -> tuple[str, ...]:
    """Return a note for each column that tells nearly every label by itself.

    Parameters
    ----------
    frame : pl.DataFrame
        Canonical rows.
    schema : Schema
        Of them.

    Returns
    -------
    tuple of str
        Empty for a target that is a number.
    """
    if not schema.target or schema[schema.target].kind not in ("categorical", "boolean"):
        return ()
    some = frame.gather_every(max(1, -(-len(frame) // LOOKED_AT)))
    labels = some[schema.target].to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    _, labels = np.unique(labels, return_inverse=True)
    counts = np.bincount(labels)
    others = len(labels) - int(counts.max())
    if len(labels) < FEWEST or not 2 <= len(counts) <= MOST_LABELS or others < OTHERS:
        return ()
    notes = []
    for column in schema:
        if column.name in (schema.target, *schema.identifiers):
            continue
        # Parts of numbers are few whatever the table is; of levels each person may have one.
        least = TELLING if column.kind in ("categorical", "boolean") else 1
        wrong = _wrong(_parts(some[column.name], column), labels, len(counts), least)
        if wrong <= GIVEN_AWAY * others:
            notes.append(
                f"Column {column.name!r} gives the target {schema.target!r} away: it alone tells "
                f"{1 - wrong / len(labels):.1%} of the labels. If it is not known when decisions are made, leave it "
                "out; as long as it is there, every model decides by it, and moving labels cannot make that fair."
            )
    return tuple(notes)


def with_notes(schema: Schema, base: Schema | None, frame: pl.DataFrame) -> Schema:
    """Return the schema with the notes of `giveaways`, unless `base`, from which it was made, has seen rows already."""
    found = () if base is not None and base.frame else giveaways(frame, schema)
    return schema.revised(notes=(*schema.notes, *found)) if found else schema


def _parts(values: pl.Series, column: Column) -> np.ndarray:
    """Return a whole number for each row: its level, or the part of the numbers that it is in; -1 for missing."""
    codes = values.to_physical().cast(pl.Float64).fill_null(float("nan")).to_numpy()
    missing = np.isnan(codes)
    if column.kind not in ("categorical", "boolean") and not missing.all():
        cuts, often = np.unique(
            np.quantile(codes[~missing], np.linspace(0, 1, PARTS + 1)), return_counts=True
        )
        # A value that many share, such as 0 days, is a part of its own.
        codes = 2.0 * np.searchsorted(cuts, codes) + np.isin(codes, cuts[often > 1])
    return np.where(missing, -1, codes).astype(np.int64)


def _wrong(parts: np.ndarray, labels: np.ndarray, n_labels: int, least: int) -> int:
    """Count labels that are not the most frequent one of their part, and all of parts of fewer rows than `least`."""
    _, parts = np.unique(parts, return_inverse=True)
    cells = np.bincount(parts * n_labels + labels, minlength=(parts.max() + 1) * n_labels).reshape(
        -1, n_labels
    )
    right = np.where(cells.sum(1) >= least, cells.max(1), 0)
    return len(labels) - int(right.sum())
