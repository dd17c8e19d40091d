"""From latent codes to rows: what the teacher, its students and latent generators share.

A latent code z gives the label by a head that is blind to s; the label gives the group through a small table
P(y, s) that holds the fairness asked for (`group_law`); code and group give all other columns. So s
cannot come back into the label through the decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from fairsynth.data.encoding import TableEncoder
from fairsynth.data.level_states import MAX_LEVELS, LevelStates
from fairsynth.data.number_states import NumberStates
from fairsynth.data.schema import MISSING_LEVEL
from fairsynth.errors import CapabilityError, DataError
from fairsynth.generators.conditions import decoded, shares_state, wanted_states
from fairsynth.generators.group_law import with_group_shares
from fairsynth.generators.requests import Request
from fairsynth.nn.decoders import Decoder

#: Codes that are tried for rows of a rare condition before it is given up.
MAX_TRIES = 4_000_000
#: It is also given up if so many times more would be needed.
GIVE_UP = 50

Source = Callable[[int, torch.Generator], Tensor]


def more_to_try(n: int, have: int, tried: int, least: int = 256) -> int:
    """Return how many rows to propose next, if `have` of `n` rows were found among those `tried`.

    The share of those found is taken to be half a row more than it is: that a dozen rows had none says little, and a
    slow method should not be made to draw a hundred thousand for it.
    """
    share = (have + 0.5) / (tried + 1)
    return int(np.clip((n - have) / share * 1.1 + 64, least, 262_144))


class Layout:
    """Which learned column plays which part.

    Attributes
    ----------
    target : int
        Place of the target among the learned columns.
    features : list of int
        Columns that the decoder draws: all but the target and categorical sensitive ones. A numeric sensitive column
        is among them: its group says where its value may lie.
    sensitive : list of int
        Sensitive columns in the order of the schema.
    levels : list of int
        Groups that each of them makes, a missing one included.
    """

    def __init__(self, encoder: TableEncoder) -> None:
        schema = encoder.schema
        self.encoder = encoder
        self.target = encoder.index(schema.target)
        self.n_labels = encoder.sizes[self.target]
        self.sensitive = [encoder.index(name) for name in schema.sensitive]
        for index in (self.target, *self.sensitive):
            crowded = encoder.states[index]
            if isinstance(crowded, LevelStates) and crowded.order:
                raise DataError(
                    f"column {crowded.name!r} has {crowded.n_levels:,} levels; a target or sensitive column may have "
                    f"{MAX_LEVELS:,}. Put rare levels together."
                )
        self.bands: dict[int, np.ndarray] = {}
        self.levels = []
        for index in self.sensitive:
            states = encoder.states[index]
            if isinstance(states, NumberStates):
                column = schema[states.name]
                self.bands[index] = states.band_of_states(column)
                self.levels.append(len(column.group_names()) + states.missing)
            else:
                self.levels.append(states.size)
        own = {self.target, *self.sensitive} - set(self.bands)
        self.features = [j for j in range(len(encoder.names)) if j not in own]
        self.sizes = [encoder.sizes[j] for j in self.features]

    def group_levels(self, states: np.ndarray) -> np.ndarray:
        """Return the level of every row in each sensitive attribute, int64 ``(n, attributes)``."""
        return np.stack(
            [self.bands[j][states[:, j]] if j in self.bands else states[:, j] for j in self.sensitive], axis=1
        ).astype(np.int64)

    def level_names(self, attribute: int) -> tuple[str, ...]:
        """Return the names of an attribute's levels."""
        states = self.encoder.states[self.sensitive[attribute]]
        names = self.encoder.schema[states.name].group_names()
        return (*names, MISSING_LEVEL) if states.missing else names

    @property
    def favorable(self) -> np.ndarray:
        """Which target states are favorable, bool ``(labels,)``."""
        schema = self.encoder.schema
        states = self.encoder.states[self.target]
        if not isinstance(states, LevelStates):
            return np.zeros(self.n_labels, dtype=bool)
        names = schema[schema.target].group_names()
        return np.array([i < len(names) and names[i] in schema.favorable for i in range(self.n_labels)])

    @cached_property
    def band_masks(self) -> dict[int, tuple[int, Tensor]]:
        """Decoder column → (attribute, bool ``(levels, states)``) for numeric sensitive columns."""
        return {
            self.features.index(j): (
                self.sensitive.index(j),
                torch.from_numpy(bands[None] == np.arange(self.levels[self.sensitive.index(j)])[:, None]),
            )
            for j, bands in self.bands.items()
        }

    def allowed(self, levels: Tensor) -> dict[int, Tensor]:
        """Return where numeric sensitive values may lie, given group levels int64 ``(n, attributes)``."""
        return {place: mask[levels[:, attribute]] for place, (attribute, mask) in self.band_masks.items()}

    def one_hot(self, levels: Tensor) -> Tensor:
        """Return group levels ``(n, attributes)`` as one-hot columns, float32 ``(n, sum of levels)``."""
        parts = [nn.functional.one_hot(levels[:, a], size) for a, size in enumerate(self.levels)]
        return torch.cat(parts, dim=1).float()


@dataclass(frozen=True)
class Groups:
    """The joint groups that were seen, and the label law of each.

    Attributes
    ----------
    levels : np.ndarray
        int64 ``(groups, attributes)``.
    table : np.ndarray
        P(y, s), float64 ``(labels, groups)``, as asked for: not the real one unless the strength is 0.
    """

    levels: np.ndarray
    table: np.ndarray

    def check(self, layout: Layout) -> None:
        """Raise ValueError if this does not belong to the layout."""
        ok = (
            self.levels.ndim == 2
            and self.levels.dtype == np.int64
            and self.levels.shape[1] == len(layout.levels)
            and len(self.levels) > 0
            and (self.levels >= 0).all()
            and (self.levels < np.array(layout.levels)).all()
            and self.table.shape == (layout.n_labels, len(self.levels))
            and np.isfinite(self.table).all()
            and (self.table >= 0).all()
            and self.table.sum() > 0
        )
        if not ok:
            raise ValueError("the table of groups and labels does not fit the schema")


@dataclass(frozen=True)
class Prepared:
    """A request, turned into what a block of rows needs.

    Attributes
    ----------
    cumulative : Tensor
        P(s | y) summed up over the allowed groups, with the label's number added, float64 ``(labels * groups,)``.
    accept : Tensor
        Probability that a code with this label is kept, float64 ``(labels,)``.
    states : dict
        Decoder column → bool ``(size,)``: states that a row may take there.
    exact : dict
        Column → number, or level among those that share a state, that every row must have.
    """

    cumulative: Tensor
    accept: Tensor
    states: dict[int, Tensor]
    exact: dict[str, float | str]
    said: str


class LatentRows(nn.Module):
    """Label head, decoder and table of groups: everything after the latent.

    Parameters
    ----------
    layout : Layout
        Of the columns.
    head : nn.Module
        ``(n, latent) -> (n, labels)``.
    decoder : Decoder
        ``(n, latent + one-hot groups) -> states``.
    """

    def __init__(self, layout: Layout, head: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.layout, self.head, self.decoder = layout, head, decoder

    def losses(self, codes: Tensor, states: Tensor, labels: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return -log p(columns | z, s) of every row ``(n,)`` and the mean of -log p(label | z), in nats."""
        condition = torch.cat([codes, self.layout.one_hot(levels)], dim=1)
        rows = self.decoder.row_losses(condition, states, self.layout.allowed(levels))
        return rows, nn.functional.cross_entropy(self.head(codes), labels)

    def prepare(self, request: Request, groups: Groups) -> Prepared:
        """Turn a request into tables; see `Prepared`.

        Raises
        ------
        CapabilityError
            If no learned group has what is asked for.
        """
        layout, encoder = self.layout, self.layout.encoder
        table = groups.table
        if request.group_shares is not None:
            table = with_group_shares(table, asked_shares(layout, request.group_shares, groups))
        label_ok = np.ones(layout.n_labels, dtype=bool)
        group_ok = np.ones(len(groups.levels), dtype=bool)
        states: dict[int, Tensor] = {}
        exact: dict[str, float | str] = {}
        for name, value in request.where.items():
            place = encoder.index(name)
            wanted = wanted_states(encoder.states[place], value, encoder.schema[name])
            if place == layout.target:
                label_ok &= wanted
            elif place in layout.sensitive and place not in layout.bands:
                group_ok &= wanted[groups.levels[:, layout.sensitive.index(place)]]
            else:
                states[layout.features.index(place)] = torch.from_numpy(wanted)
                if place in layout.bands:
                    bands = np.unique(layout.bands[place][wanted])
                    group_ok &= np.isin(groups.levels[:, layout.sensitive.index(place)], bands)
            if isinstance(value, float) or shares_state(encoder.states[place], value, encoder.schema[name]):
                exact[name] = value
        label_share = table.sum(1)
        given_label = table / np.where(label_share > 0, label_share, 1)[:, None] * group_ok
        keep = given_label.sum(1) * label_ok
        # Codes come with the labels of the learned groups; other shares of groups mean other labels.
        learned = groups.table.sum(1)
        keep *= label_share / np.where(learned > 0, learned, 1)
        said = ", ".join(f"{name}={value}" for name, value in request.where.items())
        if keep.max() <= 0:
            raise CapabilityError(f"where {said}: no group that was learned has such rows.")
        total = given_label.sum(1)
        rows = given_label / np.where(total > 0, total, 1)[:, None]
        rows[total <= 0, 0] = 1.0  # such labels are never accepted; any row keeps the sums ascending
        cumulative = np.minimum(np.cumsum(rows, axis=1), 1.0)
        cumulative[:, -1] = 1.0
        flat = (cumulative + np.arange(layout.n_labels)[:, None]).ravel()
        return Prepared(torch.from_numpy(flat), torch.from_numpy(keep / keep.max()), states, exact, said)

    @torch.inference_mode()
    def draw(
        self, n: int, source: Source, groups: Groups, prepared: Prepared, seed: np.random.SeedSequence
    ) -> pl.DataFrame:
        """Draw canonical rows.

        Parameters
        ----------
        n : int
            How many.
        source : callable
            Draws latent codes.
        groups : Groups
            Whose levels the table of `prepared` counts.
        prepared : Prepared
            The request.
        seed : SeedSequence
            Where chance comes from.

        Raises
        ------
        CapabilityError
            If the condition is too rare.
        """
        network, numbers = seed.spawn(2)
        generator = torch.Generator().manual_seed(int(network.generate_state(1, np.uint64)[0] >> 1))
        found: list[Tensor] = []
        have = tried = 0
        want = n
        while have < n:
            states = self._try(want, source, groups, prepared, generator)
            found.append(states)
            have, tried = have + states.shape[1], tried + want
            if have < n and tried > MAX_TRIES and have * GIVE_UP * MAX_TRIES < n * tried:
                raise CapabilityError(
                    f"where {prepared.said}: {have} such rows among {tried:,} drawn, and {n:,} are wanted; "
                    "ask for fewer, or loosen the condition."
                )
            want = more_to_try(n, have, tried)
        lines = found[0] if len(found) == 1 else torch.cat(found, dim=1)
        asked = [self.layout.features[place] for place in prepared.states]
        rng = np.random.default_rng(numbers)
        return decoded(self.layout.encoder, lines[:, :n].numpy(), rng, asked, prepared.exact)

    def _try(
        self, n: int, source: Source, groups: Groups, prepared: Prepared, generator: torch.Generator
    ) -> Tensor:
        """Draw `n` codes and return the states of those rows that meet the request, ``(columns, m)``."""
        layout = self.layout
        codes = source(n, generator)
        labels = _draw_labels(self.head(codes), torch.rand(n, generator=generator))
        if bool((prepared.accept < 1).any()):
            keep = torch.rand(n, generator=generator, dtype=torch.float64) < prepared.accept[labels]
            codes, labels = codes[keep], labels[keep]
        n_groups = len(groups.levels)
        uniform = torch.rand(len(labels), generator=generator, dtype=torch.float64)
        group = torch.searchsorted(prepared.cumulative, uniform + labels, right=True) - labels * n_groups
        group.clamp_(0, n_groups - 1)
        levels = torch.from_numpy(groups.levels)[group]
        condition = torch.cat([codes, layout.one_hot(levels)], dim=1)
        features = self.decoder.draw(condition, generator, layout.allowed(levels))
        lines = torch.empty(len(layout.encoder.names), len(labels), dtype=torch.int64)
        lines[layout.features] = features
        lines[layout.target] = labels
        for a, place in enumerate(layout.sensitive):
            if place not in layout.bands:
                lines[place] = levels[:, a]
        if prepared.states:
            meets = torch.ones(len(labels), dtype=torch.bool)
            for column, wanted in prepared.states.items():
                meets &= wanted[features[column]]
            lines = lines[:, meets]
        return lines


def asked_shares(
    layout: Layout, wanted: dict[tuple[str, ...], float] | Literal["uniform"], groups: Groups
) -> np.ndarray:
    """Return the share asked for of every learned group, float64 ``(groups,)``.

    Raises
    ------
    CapabilityError
        If a group is asked for that no learned row belongs to.
    """
    if wanted == "uniform":
        return np.full(len(groups.levels), 1 / len(groups.levels))
    names = [
        tuple(layout.level_names(a)[level] for a, level in enumerate(row)) for row in groups.levels.tolist()
    ]
    unknown = [group for group, share in wanted.items() if share > 0 and group not in names]
    if unknown:
        raise CapabilityError(
            f"sensitive: no row of the group {' × '.join(unknown[0])!r} was learned from; "
            f"the groups are {', '.join(' × '.join(name) for name in names[:20])}."
        )
    shares = np.array([wanted.get(name, 0.0) for name in names])
    return shares / shares.sum()


def _draw_labels(logits: Tensor, uniform: Tensor) -> Tensor:
    from fairsynth.nn.decoders import draw_states

    return draw_states(logits.double(), uniform.double())
