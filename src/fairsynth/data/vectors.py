"""States as real vectors and back, for networks that work on real numbers: diffusion models and critics.

A categorical column becomes a one-hot block. A number becomes one dimension that is standard normal over the
learned rows: its state covers a stretch of (0, 1) as long as its share of the rows, the value falls
uniformly into that stretch, and the normal quantile function does the rest (a dequantised quantile
transform). So atoms such as 0 or 40 come back exactly as often as they should, and nothing has to be rounded.
Where values can be missing a block of two says whether one is; the number itself is then noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from fairsynth.data.encoding import TableEncoder
from fairsynth.data.number_states import NumberStates

#: Quantiles are kept this far from 0 and 1: beyond four deviations there is nothing to learn.
_EDGE = 3e-5


@dataclass(frozen=True)
class Block:
    """The dimensions of one column.

    Attributes
    ----------
    column : int
        Place of the column among the learned ones.
    number : int or None
        Dimension that holds the number; None for a categorical column.
    levels : slice
        One-hot dimensions: the levels, or (present, missing) of a number; empty where none can be missing.
    """

    column: int
    number: int | None
    levels: slice


class VectorEncoder:
    """Columns of states as real vectors.

    Parameters
    ----------
    encoder : TableEncoder
        Of the table.
    columns : sequence of int
        Which of the learned columns, in this order.
    shares : sequence of np.ndarray
        Share of the rows in each state of these columns, float64 ``(size,)``, all above 0.
    one_hot_up_to : int, default=0
        Numbers of at most so many states are one-hot blocks as well: a dimension is a poor place for a few
        atoms that another column determines (years of schooling beside the degree).

    Attributes
    ----------
    blocks : tuple of Block
        One for each column.
    width : int
        Dimensions in all.
    """

    def __init__(
        self,
        encoder: TableEncoder,
        columns: Sequence[int],
        shares: Sequence[np.ndarray],
        one_hot_up_to: int = 0,
    ) -> None:
        self.encoder, self.columns = encoder, tuple(columns)
        self.shares = tuple(np.asarray(share, dtype=np.float64) for share in shares)
        sizes = [encoder.sizes[column] for column in self.columns]
        if [share.shape for share in self.shares] != [(size,) for size in sizes]:
            raise ValueError("the shares of the states do not fit the columns")
        if not all(np.isfinite(share).all() and (share > 0).all() for share in self.shares):
            raise ValueError("the shares of the states must be numbers above 0")
        blocks, at = [], 0
        self._order: dict[int, np.ndarray] = {}
        self._cumulative: dict[int, np.ndarray] = {}
        for column, share in zip(self.columns, self.shares, strict=True):
            states = encoder.states[column]
            if not isinstance(states, NumberStates) or states.size <= one_hot_up_to:
                blocks.append(Block(column, None, slice(at, at + states.size)))
                at += states.size
                continue
            # The states of present values in the order of values; a missing one is the last and has no place.
            order = np.argsort(states.places()[: states.size - states.missing], kind="stable")
            total = np.cumsum(share[order])
            self._order[column] = order
            self._cumulative[column] = np.concatenate([[0.0], total / total[-1]])
            extra = 2 if states.missing else 0
            blocks.append(Block(column, at, slice(at + 1, at + 1 + extra)))
            at += 1 + extra
        self.blocks, self.width = tuple(blocks), at

    @classmethod
    def learn(
        cls, encoder: TableEncoder, states: np.ndarray, columns: Sequence[int], one_hot_up_to: int = 0
    ) -> VectorEncoder:
        """Learn the shares from states int ``(n, all columns)``; half a row is added to every state."""
        shares = []
        for column in columns:
            counts = np.bincount(states[:, column], minlength=encoder.sizes[column]) + 0.5
            shares.append(counts / counts.sum())
        return cls(encoder, columns, shares, one_hot_up_to)

    def to_tensor(self) -> np.ndarray:
        """Return all shares in one line, float64, for a file."""
        return np.concatenate(self.shares)

    @classmethod
    def from_tensor(
        cls, encoder: TableEncoder, columns: Sequence[int], flat: np.ndarray, one_hot_up_to: int = 0
    ) -> VectorEncoder:
        """Read what `to_tensor` wrote; a ValueError says that it does not belong here."""
        ends = np.cumsum([encoder.sizes[column] for column in columns])
        if flat.ndim != 1 or len(flat) != (ends[-1] if len(ends) else 0):
            raise ValueError("the shares of the states do not fit the columns")
        return cls(encoder, columns, np.split(flat, ends[:-1]), one_hot_up_to)

    def encode(self, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return vectors.

        Parameters
        ----------
        states : np.ndarray
            Integers ``(n, all columns)``, as `TableEncoder.encode` gives them.
        rng : np.random.Generator
            Draws where inside its stretch a number falls.

        Returns
        -------
        np.ndarray
            float32 ``(n, width)``; one-hot blocks hold 0 and 1.
        """
        n = len(states)
        vectors = np.zeros((n, self.width), dtype=np.float32)
        rows = np.arange(n)
        for block in self.blocks:
            own = states[:, block.column].astype(np.int64)
            if block.number is None:
                vectors[rows, block.levels.start + own] = 1.0
                continue
            order, cumulative = self._order[block.column], self._cumulative[block.column]
            rank = np.empty(len(order) + 1, dtype=np.int64)
            rank[order], rank[-1] = np.arange(len(order)), 0
            gone = own >= len(order)
            at = rank[np.minimum(own, len(order))]
            uniform = rng.random(n)
            place = cumulative[at] + uniform * (cumulative[at + 1] - cumulative[at])
            place = np.where(gone, uniform, place)
            vectors[:, block.number] = ndtri(np.clip(place, _EDGE, 1 - _EDGE))
            if block.levels.stop > block.levels.start:
                vectors[rows, block.levels.start + gone] = 1.0
        return vectors

    def decode(self, vectors: np.ndarray) -> np.ndarray:
        """Return the states that vectors ``(n, width)`` stand for; of a one-hot block the largest wins.

        Returns
        -------
        np.ndarray
            int32 ``(columns, n)``, in the order of `columns`.
        """
        lines = np.empty((len(self.blocks), len(vectors)), dtype=np.int32)
        for line, block in zip(lines, self.blocks, strict=True):
            if block.number is None:
                line[:] = vectors[:, block.levels].argmax(1)
                continue
            order, cumulative = self._order[block.column], self._cumulative[block.column]
            place = ndtr(vectors[:, block.number].astype(np.float64))
            at = np.clip(np.searchsorted(cumulative, place, side="right") - 1, 0, len(order) - 1)
            line[:] = order[at]
            if block.levels.stop > block.levels.start:
                first = block.levels.start
                gone = vectors[:, first + 1] > vectors[:, first]
                line[gone] = self.encoder.sizes[block.column] - 1
        return lines
