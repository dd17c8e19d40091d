"""Exact `where` and asked-for group shares for any method that can draw rows of states.

A method says what it can be conditioned on: nothing, the group, or the label and the group. What it can be
conditioned on is drawn first, from a table P(y, s) cut down to the request; everything else is met by drawing more
rows and counting those that are turned away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from fairsynth.errors import CapabilityError
from fairsynth.generators.conditions import decoded, shares_state, wanted_states
from fairsynth.generators.group_law import with_group_shares
from fairsynth.generators.layout import Groups, Layout, asked_shares
from fairsynth.generators.requests import Request, whole_rows

Conditions = Literal["nothing", "group", "label and group"]


#: Rows that are proposed for a rare condition before it is given up.
MAX_TRIES = 4_000_000
#: It is also given up if so many times more would be needed.
GIVE_UP = 50


def more_to_try(n: int, have: int, tried: int, least: int = 256) -> int:
    """Return how many rows to propose next, if `have` of `n` rows were found among those `tried`.

    The share of those found is taken to be half a row more than it is: that a dozen rows had none says little, and a
    slow method should not be made to draw a hundred thousand for it.
    """
    share = (have + 0.5) / (tried + 1)
    return int(np.clip((n - have) / share * 1.1 + 64, least, 262_144))


@dataclass(frozen=True)
class Cells:
    """What a method is asked to draw.

    Attributes
    ----------
    n : int
        Rows.
    labels : np.ndarray or None
        Target state of every row, int64 ``(n,)``; None if the method draws it.
    groups : np.ndarray or None
        Place in `Groups.levels` of every row, int64 ``(n,)``; None if the method draws it.
    """

    n: int
    labels: np.ndarray | None = None
    groups: np.ndarray | None = None


#: ``(cells, rng) -> states``, integers ``(all columns, n)``; lines of columns that were given are overwritten.
Propose = Callable[[Cells, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Wanted:
    """A request, turned into tables.

    Attributes
    ----------
    table : np.ndarray
        P(y, s) over the cells that may come, float64 ``(labels, groups)``.
    quotas : np.ndarray or None
        Share of each group in the rows returned ``(groups,)``, for a method that draws the group itself.
    states : dict
        Column → bool ``(size,)``: states that a row may take there.
    exact : dict
        Column → value that every row must have, where its state holds several.
    said : str
        The request in words.
    """

    table: np.ndarray
    quotas: np.ndarray | None
    states: dict[int, np.ndarray]
    exact: dict[str, float | str]
    said: str


def prepare(request: Request, layout: Layout, groups: Groups, conditions: Conditions) -> Wanted:
    """Turn a request into tables.

    Parameters
    ----------
    request : Request
        What the caller of `sample` asked for.
    layout : Layout
        Of the columns.
    groups : Groups
        The joint groups that were learned, with P(y, s); a method without such a table gives the real one.
    conditions : {"nothing", "group", "label and group"}
        What the method can be conditioned on.

    Raises
    ------
    CapabilityError
        If no learned group has what is asked for.
    """
    table = groups.table.astype(np.float64)
    quotas = None
    if request.group_shares is not None:
        shares = asked_shares(layout, request.group_shares, groups)
        table = with_group_shares(table, shares)
        quotas = shares if conditions == "nothing" else None
    label_ok = np.ones(layout.n_labels, dtype=bool)
    group_ok = np.ones(len(groups.levels), dtype=bool)
    states: dict[int, np.ndarray] = {}
    exact: dict[str, float | str] = {}
    for name, value in request.where.items():
        place = layout.encoder.index(name)
        column = layout.encoder.schema[name]
        wanted = wanted_states(layout.encoder.states[place], value, column)
        states[place] = wanted
        if place == layout.target:
            label_ok &= wanted
        elif place in layout.bands:
            bands = np.unique(layout.bands[place][wanted])
            group_ok &= np.isin(groups.levels[:, layout.sensitive.index(place)], bands)
        elif place in layout.sensitive:
            group_ok &= wanted[groups.levels[:, layout.sensitive.index(place)]]
        if isinstance(value, float) or shares_state(layout.encoder.states[place], value, column):
            exact[name] = value
    table = table * group_ok
    if conditions == "label and group":
        table = table * label_ok[:, None]
    said = ", ".join(f"{name}={value}" for name, value in request.where.items())
    if table.sum() <= 0 or (quotas is not None and (quotas * group_ok).sum() <= 0):
        raise CapabilityError(f"where {said}: no group that was learned has such rows.")
    if quotas is not None:
        quotas = quotas * group_ok / (quotas * group_ok).sum()
    return Wanted(table / table.sum(), quotas, states, exact, said or "the shares of groups asked for")


def draw(
    n: int,
    propose: Propose,
    wanted: Wanted,
    layout: Layout,
    groups: Groups,
    conditions: Conditions,
    seed: np.random.SeedSequence,
    *,
    least: int = 256,
    max_tries: int | None = None,
) -> pl.DataFrame:
    """Draw canonical rows that meet a request.

    Parameters
    ----------
    n : int
        How many.
    propose : callable
        Draws rows of states; see `Propose`.
    wanted, layout, groups, conditions
        See `prepare`.
    seed : SeedSequence
        Where chance comes from.
    least : int
        Rows proposed at a time, at least.
    max_tries : int, optional
        Rows proposed before it is given up, if `GIVE_UP` times as many would be needed; fewer for slow methods. By
        default `MAX_TRIES`.

    Raises
    ------
    CapabilityError
        If such rows are too rare.
    """
    max_tries = MAX_TRIES if max_tries is None else max_tries
    rng, numbers = (np.random.default_rng(child) for child in seed.spawn(2))
    room = None if wanted.quotas is None else whole_rows(n, wanted.quotas)
    found: list[np.ndarray] = []
    have = tried = 0
    want = n
    while have < n:
        lines = _propose(want, propose, wanted, layout, groups, conditions, rng)
        meets = np.ones(lines.shape[1], dtype=bool)
        for column, allowed in wanted.states.items():
            meets &= allowed[lines[column]]
        lines = lines[:, meets]
        if room is not None:
            lines = lines[:, _within(room, layout, groups, lines)]
        found.append(lines)
        have, tried = have + lines.shape[1], tried + want
        if have < n and tried >= max_tries and have * GIVE_UP * max_tries < n * tried:
            raise CapabilityError(
                f"where {wanted.said}: {have} such rows among {tried:,} drawn, and {n:,} are wanted; "
                "ask for fewer, or loosen the condition."
            )
        if have < n and tried > GIVE_UP * max_tries:
            raise CapabilityError(
                f"where {wanted.said}: {have:,} of {n:,} rows among {tried:,} drawn: some of the groups asked for "
                "hardly ever come from this model; ask for fewer rows or other shares."
            )
        want = more_to_try(n, have, tried, least)
    lines = np.concatenate(found, axis=1)[:, :n]
    if room is not None:  # rows of rare groups came last
        lines = lines[:, rng.permutation(n)]
    return decoded(layout.encoder, np.ascontiguousarray(lines), numbers, wanted.states, wanted.exact)


def allotted(n: int, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw places so that each comes as often as its share says, up to one row, in random order.

    Systematic sampling (Madow, Annals of Mathematical Statistics, 1949): a later model learns the label odds of a
    small group from its few rows, and independent draws would move them by chance.

    Parameters
    ----------
    n : int
        How many.
    shares : np.ndarray
        Not negative, with a sum above 0, float64 ``(places,)``.
    rng : numpy.random.Generator
        Of the offset and the order.

    Returns
    -------
    np.ndarray
        int64 ``(n,)``; the expected count of each place is ``n`` times its share.
    """
    ends = np.cumsum(shares / shares.sum())
    ends[np.flatnonzero(shares)[-1] :] = np.inf
    return rng.permutation(np.searchsorted(ends, (np.arange(n) + rng.random()) / n, side="right"))


def group_of(layout: Layout, groups: Groups, lines: np.ndarray) -> np.ndarray:
    """Return the place in `Groups.levels` of every row of states ``(columns, n)``, -1 for a group not learned."""
    levels = layout.group_levels(lines.T)
    weights = np.cumprod([1, *layout.levels[:-1]])
    lookup = np.full(int(np.prod(layout.levels)), -1, dtype=np.int64)
    lookup[groups.levels @ weights] = np.arange(len(groups.levels))
    return lookup[levels @ weights]


def _propose(
    n: int,
    propose: Propose,
    wanted: Wanted,
    layout: Layout,
    groups: Groups,
    conditions: Conditions,
    rng: np.random.Generator,
) -> np.ndarray:
    if conditions == "nothing":
        return propose(Cells(n), rng)
    labels = None
    if conditions == "group":
        chosen = allotted(n, wanted.table.sum(0), rng)
    else:
        labels, chosen = np.divmod(allotted(n, wanted.table.ravel(), rng), wanted.table.shape[1])
    lines = propose(Cells(n, labels, chosen), rng)
    if labels is not None:
        lines[layout.target] = labels
    for a, place in enumerate(layout.sensitive):
        if place not in layout.bands:
            lines[place] = groups.levels[chosen, a]
    return lines


def _within(room: np.ndarray, layout: Layout, groups: Groups, lines: np.ndarray) -> np.ndarray:
    """Return the places of rows whose group still has room, and take that room."""
    own = group_of(layout, groups, lines)
    kept = []
    for group in np.flatnonzero(room > 0):
        places = np.flatnonzero(own == group)[: room[group]]
        room[group] -= len(places)
        kept.append(places)
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, dtype=np.int64)
