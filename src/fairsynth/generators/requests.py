"""Which rows are asked for: conditions, shares of groups and of labels, read with the schema."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Literal

import numpy as np

from fairsynth.data.schema import MISSING_LEVEL, Schema
from fairsynth.data.table import JOINT
from fairsynth.errors import CapabilityError, SettingsError
from fairsynth.generators.conditions import canonical_value

#: Shares of groups: as learned, equal, or by name; a joint group by its levels, or by their names joined by " × ".
Mix = Literal["empirical", "uniform"] | Mapping[str, float] | Mapping[tuple[str, ...], float]


@dataclass(frozen=True)
class Request:
    """Which rows are asked for.

    Attributes
    ----------
    where : dict
        Column → canonical value (None for missing), exact to the row.
    group_shares : dict or None
        Joint group, as level texts by attribute → share; None for those learned.
    """

    where: dict[str, Any]
    group_shares: dict[tuple[str, ...], float] | Literal["uniform"] | None


def read_conditions(where: Mapping[str, Any] | None, schema: Schema) -> dict[str, Any]:
    """Return column → canonical value of what is wanted.

    Raises
    ------
    SettingsError, DataError
        If a column or a value does not exist.
    """
    if not where:
        return {}
    if not isinstance(where, Mapping):
        raise SettingsError(f"where={where!r} must say column by column what is wanted: {{'sex': 'Female'}}.")
    return {name: canonical_value(value, schema, name) for name, value in where.items()}


def read_label_shares(
    target_mix: Mapping[Any, float], conditions: Mapping[str, Any], schema: Schema
) -> dict[Any, float]:
    """Return target level → share; they sum to 1.

    Raises
    ------
    SettingsError, DataError
        If a level does not exist, or shares are none.
    CapabilityError
        If the target has no levels.
    """
    target = str(schema.target)
    if not isinstance(target_mix, Mapping):
        raise SettingsError(
            f"target_mix={target_mix!r} must give levels their shares: {{'yes': 0.5, 'no': 0.5}}."
        )
    if target in conditions:
        raise SettingsError(f"target_mix and where both say what {target!r} is to be; give one of them.")
    if schema[target].kind not in ("categorical", "boolean"):
        raise CapabilityError(f"target_mix: {target!r} is {schema[target].kind}, and has no levels.")
    shares: dict[Any, float] = {}
    for level, share in target_mix.items():
        if _share(share, level, "target_mix") > 0:
            value = canonical_value(level, schema, target, what="target_mix")
            shares[value] = shares.get(value, 0.0) + float(share)
    if not shares:
        raise SettingsError("target_mix: the shares must not all be 0.")
    n_levels = len(schema[target].group_names())
    _whole(sum(shares.values()), len(target_mix) >= n_levels, "target_mix", f"levels of {target!r}")
    return {level: share / sum(shares.values()) for level, share in shares.items()}


def read_group_shares(
    sensitive: Mix, schema: Schema
) -> dict[tuple[str, ...], float] | Literal["uniform"] | None:
    """Return joint group, as level texts by attribute → share; None for those learned.

    Raises
    ------
    SettingsError
        If a group does not exist, or shares are none.
    """
    if isinstance(sensitive, str) and sensitive in ("empirical", "uniform"):
        return None if sensitive == "empirical" else "uniform"
    if not isinstance(sensitive, Mapping):
        raise SettingsError(
            f"sensitive={sensitive!r} is neither 'empirical', 'uniform' nor a mapping of shares."
        )
    shares: dict[tuple[str, ...], float] = {}
    for group, share in sensitive.items():
        levels = _group(group, schema)
        shares[levels] = shares.get(levels, 0.0) + _share(share, group, "sensitive")
    if sum(shares.values()) <= 0:
        raise SettingsError("sensitive: the shares must not all be 0.")
    n_groups = math.prod(len(schema[name].group_names()) for name in schema.sensitive)
    _whole(sum(shares.values()), len(shares) >= n_groups, "sensitive", "groups")
    return shares


def _whole(total: float, all_named: bool, what: str, of: str) -> None:
    """Refuse less than a whole: shares are taken in proportion, and who gives half to one level means no more."""
    if not all_named and total < 1 - 1e-6:
        raise SettingsError(
            f"{what}: the shares sum to {total:g}, and some {of} have none. Say who gets the rest: shares are taken in "
            "proportion, so what is named now would get all rows."
        )


def _share(share: Any, of: Any, what: str) -> float:
    if not isinstance(share, int | float | np.number) or not 0 <= share < np.inf:
        raise SettingsError(f"{what}: the share {share!r} of {of!r} must be a number from 0 up.")
    return float(share)


def _group(group: Any, schema: Schema) -> tuple[str, ...]:
    """Return the levels that a group's name says, or that it is made of."""
    columns = [schema[name] for name in schema.sensitive]
    known = [(*column.group_names(), MISSING_LEVEL) for column in columns]
    levels = tuple(map(str, group)) if isinstance(group, tuple) else _parted(str(group), known)
    if len(levels) != len(columns):
        raise SettingsError(
            f"sensitive: {group!r} names {len(levels)} level(s), and a group is one level of each of "
            f"{', '.join(schema.sensitive)}, joined by {JOINT!r}, or a tuple of them."
        )
    for level, column, names in zip(levels, columns, known, strict=True):
        if level not in names:
            raise SettingsError(
                f"sensitive: {level!r} is not a group of {column.name!r}; "
                f"its groups are {', '.join(column.group_names())}."
            )
    return levels


def _parted(name: str, known: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Part a joint name into levels, which may contain what joins them themselves."""
    if len(known) == 1:
        return (name,)
    parts = name.split(JOINT)
    found = [
        levels
        for cuts in combinations(range(1, len(parts)), len(known) - 1)
        for levels in [tuple(JOINT.join(parts[a:b]) for a, b in pairwise((0, *cuts, len(parts))))]
        if all(level in names for level, names in zip(levels, known, strict=True))
    ]
    if len(found) > 1:
        raise SettingsError(
            f"sensitive: {name!r} names more than one group; give one as a tuple: {found[0]!r}."
        )
    return found[0] if found else tuple(parts)


def label_rows(sizes: list[int], shares: np.ndarray) -> np.ndarray:
    """Return how many rows of each label each block holds, ``(blocks, labels)``: exact over all blocks together."""
    left = whole_rows(sum(sizes), shares)
    rows = np.zeros((len(sizes), len(shares)), dtype=np.int64)
    for block, size in enumerate(sizes):
        rows[block] = whole_rows(size, left / left.sum())
        # A label may have fewer rows left than its rounded-up part.
        over = rows[block] - np.minimum(rows[block], left)
        rows[block] -= over
        for _ in range(int(over.sum())):
            rows[block, np.argmax(left - rows[block])] += 1
        left -= rows[block]
    return rows


def whole_rows(n: int, shares: np.ndarray) -> np.ndarray:
    """Return whole numbers of rows that sum to `n`, by largest remainders; shares sum to 1."""
    exact = n * shares
    rows = np.floor(exact).astype(np.int64)
    rows[np.argsort(rows - exact, kind="stable")[: n - rows.sum()]] += 1
    return rows
