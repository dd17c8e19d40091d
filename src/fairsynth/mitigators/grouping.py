"""Groups as a method can learn them: rare ones together, and a place for those that it never saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairsynth.data.table import Table
from fairsynth.errors import DataError

RARE = "(rare groups)"


@dataclass(frozen=True)
class PooledGroups:
    """Joint groups, the rare ones of which share a place.

    A threshold, a rate or a quantile of eleven people is noise, and a group whose labels are all alike has no
    rates at all. Groups below `minimum` are therefore taken together; where even together they are too few, they
    are counted with the largest group.

    Attributes
    ----------
    names : tuple of str
        Of the places that were made.
    rare : tuple of str
        Groups that were pooled.
    minimum : int
        Rows below which a group is rare.
    places : dict of str to int
        Group → place.
    fallback : int
        Place of groups that were never seen: the pool if there is one, else the largest group.
    """

    names: tuple[str, ...]
    rare: tuple[str, ...]
    minimum: int
    places: dict[str, int]
    fallback: int

    @classmethod
    def learn(
        cls, table: Table, *, minimum: int = 1, favorable: NDArray[np.bool_] | None = None
    ) -> PooledGroups:
        """Learn which groups there are.

        Parameters
        ----------
        table : Table
            Rows with sensitive columns; groups are their joint levels, a missing value being a level.
        minimum : int, default=1
            Rows that a group needs to stand alone.
        favorable : ndarray of bool, shape (n,), optional
            Labels; if given, a group needs both kinds to stand alone.

        Raises
        ------
        DataError
            If fewer than two groups are left.
        """
        groups = table.groups()
        counts = groups.counts
        large = counts >= minimum
        good = np.bincount(groups.codes, favorable, minlength=len(counts)) if favorable is not None else None
        if good is not None:
            large &= (good > 0) & (good < counts)
        alone = np.flatnonzero(large & (counts > 0))
        rare = np.flatnonzero(~large & (counts > 0))
        places = {groups.names[g]: place for place, g in enumerate(alone)}
        names = [groups.names[g] for g in alone]
        biggest = int(np.argmax(counts[alone])) if len(alone) else 0
        fallback = biggest
        if len(rare):
            pooled, both = int(counts[rare].sum()), True
            if good is not None:
                both = bool(0 < good[rare].sum() < pooled)
            if pooled >= minimum and both:
                fallback = len(names)
                names.append(RARE if len(rare) > 1 else groups.names[rare[0]])
            places |= {groups.names[g]: fallback for g in rare}
        if len(names) < 2:
            raise DataError(
                f"of the groups of {groups.attribute} fewer than two have {minimum} rows"
                f"{' and both kinds of labels' if good is not None else ''}: there is nothing to compare. Give more "
                "rows, name another sensitive column, or lower minimum_group."
            )
        return cls(tuple(names), tuple(groups.names[g] for g in rare), minimum, places, fallback)

    def codes(self, table: Table) -> NDArray[np.int64]:
        """Return the place of every row, int64 ``(n,)``."""
        groups = table.groups()
        place = np.array([self.places.get(name, self.fallback) for name in groups.names], dtype=np.int64)
        return place[groups.codes]

    def __len__(self) -> int:
        """Count the places."""
        return len(self.names)
