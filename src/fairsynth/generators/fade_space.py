"""Where FADE diffuses: in the encoded row itself, or in a teacher's latent."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fairsynth.data.number_states import NumberStates
from fairsynth.data.vectors import VectorEncoder
from fairsynth.generators.fairvae import FairVAE, Network, Training
from fairsynth.generators.layout import Groups, Layout
from fairsynth.nn.layers import reparameterise

#: Numbers of at most so many states are one-hot in the row.
ONE_HOT_UP_TO = 24
#: A number this far out is beyond what any learned row is encoded as (`data.vectors` cuts at 4.01).
FAR = 4.5
#: A one-hot block whose largest share is below this names no level.
UNCLEAR = 0.5


class Space(Protocol):
    """Rows as vectors and back."""

    width: int
    numbers: list[int]
    levels: list[slice]

    def vectors(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return training rows as vectors ``(n, width)``."""
        ...

    def states(
        self, vectors: Tensor, labels: Tensor, groups: Tensor, generator: torch.Generator
    ) -> np.ndarray:
        """Return states ``(all columns, n)`` of vectors; label and group lines are filled by the caller."""
        ...

    def outside(self, vectors: Tensor) -> Tensor:
        """Return which vectors lie outside of where rows are, bool ``(n,)``."""
        ...


class RowSpace:
    """The encoded row: features as real vectors.

    Parameters
    ----------
    layout : Layout
        Of the columns.
    vectors : VectorEncoder
        Of the features.
    group_levels : np.ndarray
        Learned joint groups, int64 ``(groups, attributes)``.
    data : Training, optional
        The rows, while training.
    """

    def __init__(
        self,
        layout: Layout,
        vectors: VectorEncoder,
        group_levels: np.ndarray,
        data: Training | None = None,
    ) -> None:
        self.layout, self.encoder, self.group_levels, self.data = layout, vectors, group_levels, data
        self._ranks = {place: _ranks(layout, place) for place in layout.bands}
        self.width = vectors.width
        self.numbers = [block.number for block in vectors.blocks if block.number is not None]
        self.levels = [block.levels for block in vectors.blocks if block.levels.stop > block.levels.start]

    @classmethod
    def learn(cls, data: Training) -> RowSpace:
        """Learn the vectors from the rows."""
        layout = data.layout
        vectors = VectorEncoder.learn(layout.encoder, data.states, layout.features, ONE_HOT_UP_TO)
        return cls(layout, vectors, data.group_levels, data)

    def vectors(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return training rows as vectors, with fresh places inside the stretches of their states."""
        assert self.data is not None
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        return torch.from_numpy(self.encoder.encode(self.data.states[rows.numpy()], rng))

    def states(
        self, vectors: Tensor, labels: Tensor, groups: Tensor, generator: torch.Generator
    ) -> np.ndarray:
        """Return states of vectors; see `Space`."""
        lines = np.zeros((len(self.layout.encoder.names), len(vectors)), dtype=np.int64)
        lines[self.layout.features] = self.encoder.decode(vectors.numpy())
        if self.layout.bands:
            levels = self.group_levels[groups.numpy()]
            for place, bands in self.layout.bands.items():
                lines[place] = _into_band(
                    lines[place], bands, levels[:, self.layout.sensitive.index(place)], self._ranks[place]
                )
        return lines

    def outside(self, vectors: Tensor) -> Tensor:
        """Return which vectors hold a number beyond all rows, or a block that names no level."""
        out = ~torch.isfinite(vectors).all(1)
        if self.numbers:
            out |= (vectors[:, self.numbers].abs() > FAR).any(1)
        for block in self.levels:
            out |= vectors[:, block].amax(1) < UNCLEAR
        return out

    def tensors(self) -> dict[str, np.ndarray]:
        """Return what a file holds."""
        return {"space.shares": self.encoder.to_tensor()}


class LatentSpace:
    """The latent of a `FairVAE`, standardised; the teacher's decoder makes the columns.

    Parameters
    ----------
    net : Network
        The teacher's networks.
    groups : Groups
        Learned joint groups.
    centre, spread : Tensor
        Mean and deviation of the codes, ``(latent,)``.
    data : Training, optional
        The rows, while training.
    """

    def __init__(
        self, net: Network, groups: Groups, centre: Tensor, spread: Tensor, data: Training | None = None
    ) -> None:
        self.net, self.layout, self.group_levels = net, net.layout, torch.from_numpy(groups.levels)
        self.centre, self.spread, self.data = centre, spread, data
        self.width = len(centre)
        self.numbers = list(range(self.width))
        self.levels: list[slice] = []

    @classmethod
    def learn(cls, teacher: FairVAE, data: Training) -> LatentSpace:
        """Learn where the codes of a fitted teacher lie."""
        with torch.no_grad():
            parts = [teacher.net_.encoder(part) for part in data.all_states.split(8192)]
        means, log_vars = (torch.cat(both) for both in zip(*parts, strict=True))
        # What diffuses is a draw from the posterior: in a dimension that the teacher does not use, all of its spread.
        spread = (means.var(0) + log_vars.exp().mean(0)).sqrt().clamp_min(1e-3)
        return cls(teacher.net_, teacher.groups_, means.mean(0), spread, data)

    def vectors(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return one draw from the posterior of every row."""
        assert self.data is not None
        with torch.no_grad():
            mean, log_var = self.net.encoder(self.data.all_states[rows])
            codes = reparameterise(mean, log_var, generator)
        return (codes - self.centre) / self.spread

    def states(
        self, vectors: Tensor, labels: Tensor, groups: Tensor, generator: torch.Generator
    ) -> np.ndarray:
        """Return states drawn by the teacher's decoder, given code and group."""
        layout = self.layout
        levels = self.group_levels[groups]
        codes = vectors * self.spread + self.centre
        with torch.inference_mode():
            condition = torch.cat([codes, layout.one_hot(levels)], dim=1)
            features = self.net.rows.decoder.draw(condition, generator, layout.allowed(levels))
        lines = np.zeros((len(layout.encoder.names), len(vectors)), dtype=np.int64)
        lines[layout.features] = features.numpy()
        return lines

    def outside(self, vectors: Tensor) -> Tensor:
        """Return which codes lie further out than those of rows do."""
        return ~torch.isfinite(vectors).all(1) | (vectors.abs() > 2 * FAR).any(1)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return what a file holds: the teacher's decoder; the encoder is not needed to draw."""
        held: dict[str, Any] = {"space.centre": self.centre, "space.spread": self.spread}
        held |= {f"teacher.{name}": p.detach() for name, p in self.net.named_parameters()}
        return {name: value.numpy() for name, value in held.items()}


def _ranks(layout: Layout, place: int) -> np.ndarray:
    """Return the rank of every state of a number by its value; a missing one is last."""
    states = layout.encoder.states[place]
    assert isinstance(states, NumberStates)
    ranks = np.empty(states.size, dtype=np.int64)
    ranks[np.argsort(states.places(), kind="stable")] = np.arange(states.size)  # NaN sorts last
    return ranks


def _into_band(states: np.ndarray, bands: np.ndarray, wanted: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return states ``(n,)`` moved to the nearest one of the band that each row's group says it lies in."""
    by_rank = np.argsort(ranks)
    out = states.copy()
    for band in np.unique(wanted[bands[states] != wanted]):
        own = np.sort(ranks[bands == band])
        rows = (wanted == band) & (bands[states] != wanted)
        out[rows] = by_rank[np.clip(ranks[states[rows]], own[0], own[-1])]
    return out
