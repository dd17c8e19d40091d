"""From latent codes to rows: what the teacher, its students and latent generators share.

A latent code z gives the label by a head that is blind to s; the label gives the group through a small table
P(y, s) that holds the fairness asked for (`group_law`); code and group give all other columns. So s
cannot come back into the label through the decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from fairsynth.errors import CapabilityError
from fairsynth.generators import rejection
from fairsynth.generators.conditions import decoded, shares_state, wanted_states
from fairsynth.generators.group_law import with_group_shares
from fairsynth.generators.layout import Groups, Layout, asked_shares
from fairsynth.generators.requests import Request
from fairsynth.nn.decoders import Decoder

Source = Callable[[int, torch.Generator], Tensor]


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
            if (
                have < n
                and tried > rejection.MAX_TRIES
                and have * rejection.GIVE_UP * rejection.MAX_TRIES < n * tried
            ):
                raise CapabilityError(
                    f"where {prepared.said}: {have} such rows among {tried:,} drawn, and {n:,} are wanted; "
                    "ask for fewer, or loosen the condition."
                )
            want = rejection.more_to_try(n, have, tried)
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


def _draw_labels(logits: Tensor, uniform: Tensor) -> Tensor:
    from fairsynth.nn.decoders import draw_states

    return draw_states(logits.double(), uniform.double())
