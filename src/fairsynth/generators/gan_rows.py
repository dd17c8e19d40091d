"""What adversarial methods share between a network and a table: rows given their group, and where to begin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor, nn

from fairsynth.data.number_states import NumberStates
from fairsynth.data.table import JOINT
from fairsynth.data.vectors import Block, VectorEncoder
from fairsynth.generators import rejection
from fairsynth.generators.fairvae import ROWS_FROM_DATA
from fairsynth.generators.layout import Layout

#: Of the weights that levels begin with: strong ones would move the shares.
FAINT = 0.1
#: Groups of fewer rows are named as rare.
RARE = 30
#: Rows drawn at a time: their vectors fit the cache.
PIECE = 4096
#: Steps of a phase, at least.
MIN_STEPS = 4
#: What in a file came from the data.
FROM_DATA = [
    *ROWS_FROM_DATA[:3],
    {"what": "share of each label in each group, as in the data", "where": "groups.table"},
    {"what": "share of the rows in each state of each column", "where": "vectors.shares"},
    {"what": "weights of the generator", "where": "net.*"},
]


class GivenGroup:
    """Everything in a row that the group does not say, as vectors and back.

    A categorical sensitive column is the group and has no dimension. A numeric one has a dimension for where its value
    lies among those of its band: standard normal in every band, so that it tells nothing of the group, and
    comes back inside the band whatever a network makes of it.

    Parameters
    ----------
    layout : Layout
        Of the columns.
    shares : np.ndarray
        Share of the rows in each state of `columns`, in one line, float64.
    one_hot_up_to : int
        As of `VectorEncoder`.

    Attributes
    ----------
    columns : list of int
        Columns that have dimensions: those of `vectors`, then the numeric sensitive ones.
    blocks : tuple of Block
        Their dimensions.
    width : int
        Dimensions in all.
    """

    def __init__(self, layout: Layout, shares: np.ndarray, one_hot_up_to: int) -> None:
        encoder, self.layout = layout.encoder, layout
        plain, banded = self._columns(layout)
        self.columns = [*plain, *banded]
        sizes = [encoder.sizes[column] for column in self.columns]
        if shares.ndim != 1 or len(shares) != sum(sizes):
            raise ValueError("the shares of the states do not fit the columns")
        self.shares = np.split(shares, np.cumsum(sizes)[:-1])
        if not all(np.isfinite(share).all() and (share > 0).all() for share in self.shares):
            raise ValueError("the shares of the states must be numbers above 0")
        self.vectors = VectorEncoder(encoder, plain, self.shares[: len(plain)], one_hot_up_to)
        self.places = {column: self.vectors.width + i for i, column in enumerate(banded)}
        self.blocks: tuple[Block, ...] = (
            *self.vectors.blocks,
            *(Block(column, at, slice(at + 1, at + 1)) for column, at in self.places.items()),
        )
        self.width = self.vectors.width + len(banded)
        #: Sensitive column → for each level its states by value, and their shares summed up from 0 to 1.
        self.inside: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        for column, share in zip(banded, self.shares[len(plain) :], strict=True):
            states = encoder.states[column]
            assert isinstance(states, NumberStates)
            order = np.argsort(states.places(), kind="stable")  # a missing one comes last
            band = layout.bands[column][order]
            own = [order[band == level] for level in range(layout.levels[layout.sensitive.index(column)])]
            self.inside[column] = [
                (part, np.concatenate([[0.0], np.cumsum(share[part]) / share[part].sum()])) for part in own
            ]

    @staticmethod
    def _columns(layout: Layout) -> tuple[list[int], list[int]]:
        sensitive = set(layout.sensitive)
        plain = [j for j in range(len(layout.encoder.names)) if j not in sensitive]
        return plain, [j for j in layout.sensitive if j in layout.bands]

    @classmethod
    def learn(cls, layout: Layout, states: np.ndarray, one_hot_up_to: int) -> GivenGroup:
        """Learn the shares from states int ``(n, all columns)``; half a row is added to every state."""
        shares = []
        plain, banded = cls._columns(layout)
        for column in (*plain, *banded):
            counts = np.bincount(states[:, column], minlength=layout.encoder.sizes[column]) + 0.5
            shares.append(counts / counts.sum())
        return cls(layout, np.concatenate(shares), one_hot_up_to)

    def to_tensor(self) -> np.ndarray:
        """Return all shares in one line, float64, for a file."""
        return np.concatenate(self.shares)

    @classmethod
    def from_tensor(cls, layout: Layout, flat: np.ndarray, one_hot_up_to: int) -> GivenGroup:
        """Read what `to_tensor` wrote; a ValueError says that it does not belong here."""
        return cls(layout, flat, one_hot_up_to)

    def check(self, group_levels: np.ndarray) -> None:
        """Raise ValueError if a group ``(groups, attributes)`` lies in a band without values."""
        for column, own in self.inside.items():
            for level in np.unique(group_levels[:, self.layout.sensitive.index(column)]):
                if not len(own[level][0]):
                    raise ValueError("a group lies in a band in which no value can be drawn")

    def encode(self, states: np.ndarray, levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return vectors float32 ``(n, width)`` of states ``(n, all columns)`` and levels ``(n, attributes)``."""
        vectors = np.empty((len(states), self.width), dtype=np.float32)
        vectors[:, : self.vectors.width] = self.vectors.encode(states, rng)
        for column, at in self.places.items():
            own, uniform = levels[:, self.layout.sensitive.index(column)], rng.random(len(states))
            for level in np.unique(own):
                members, (order, total) = own == level, self.inside[column][level]
                rank = np.empty(self.layout.encoder.sizes[column], dtype=np.int64)
                rank[order] = np.arange(len(order))
                low = rank[states[members, column]]
                place = total[low] + uniform[members] * (total[low + 1] - total[low])
                vectors[members, at] = ndtri(np.clip(place, 3e-5, 1 - 3e-5))
        return vectors

    def decode(self, vectors: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Return states ``(all columns, n)`` of vectors ``(n, width)``; columns that are the group are left at 0."""
        lines = np.zeros((len(self.layout.encoder.names), len(vectors)), dtype=np.int64)
        lines[list(self.vectors.columns)] = self.vectors.decode(vectors[:, : self.vectors.width])
        for column, at in self.places.items():
            own, place = (
                levels[:, self.layout.sensitive.index(column)],
                ndtr(vectors[:, at].astype(np.float64)),
            )
            for level in np.unique(own):
                members, (order, total) = own == level, self.inside[column][level]
                found = np.searchsorted(total, place[members], side="right") - 1
                lines[column, members] = order[np.clip(found, 0, len(order) - 1)]
        return lines


def start_at_marginals(
    last: nn.Linear, blocks: Sequence[Block], shares: Sequence[np.ndarray], raw: Tensor
) -> None:
    """Set a last layer so that levels begin at their shares, and numbers at mean 0 and deviation 1.

    Parameters
    ----------
    last : nn.Linear
        Gives numbers and logits ``(n, width)``.
    blocks : sequence of Block
        Dimensions of each column.
    shares : sequence of np.ndarray
        Share of the rows in each state of these columns; a missing number is the last state.
    raw : Tensor
        What the layer gives now, of which mean and deviation are taken ``(n, width)``.
    """
    mean, deviation = raw.mean(0), raw.std(0).clamp(min=1e-3)
    for block, share in zip(blocks, shares, strict=True):
        span = block.levels
        if block.number is None:
            last.bias[span] = torch.from_numpy(np.log(share)).float()
            last.weight[span] *= FAINT
            continue
        last.bias[block.number] = (last.bias[block.number] - mean[block.number]) / deviation[block.number]
        last.weight[block.number] /= deviation[block.number]
        if span.stop > span.start:
            last.bias[span] = torch.from_numpy(np.log([share[:-1].sum(), share[-1]])).float()
            last.weight[span] *= FAINT


def max_tries() -> int:
    """Return how many rows are drawn for a rare condition before it is given up; a network's rows cost more."""
    return min(rejection.MAX_TRIES, 1_000_000)


def named_groups(
    layout: Layout, levels: np.ndarray, counts: np.ndarray
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of joint groups int64 ``(groups, attributes)``, and of those with few rows."""
    names = tuple(
        JOINT.join(layout.level_names(a)[level] for a, level in enumerate(row)) for row in levels.tolist()
    )
    return names, tuple(name for name, count in zip(names, counts, strict=True) if count < RARE)


def pieces(n: int) -> list[slice]:
    """Return the slices in which `n` rows are drawn."""
    return [slice(at, min(at + PIECE, n)) for at in range(0, n, PIECE)]
