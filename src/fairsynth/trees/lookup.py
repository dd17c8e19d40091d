"""Trees and laws as flat tables, for rows drawn by the million.

`trees.layered` and `trees.law` say what is drawn; here the same is written such that a row takes fewer steps.
A layer's nodes are kept multiplied by the number of bins that the next layer asks, so that a lookup is one addition and
one gathering. A state and its alias (Walker, 1977) lie in one whole number, with the share at which the state gives
way, so that a draw gathers once and takes 32 random bits. Ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairsynth.trees.law import alias_table
from fairsynth.trees.layered import LayeredTree

#: Above so many states the place of an alias needs more than 16 bits.
NARROW_STATES = 1 << 16


@dataclass(frozen=True)
class ColumnLookup:
    """From lines of bins to a state.

    Attributes
    ----------
    layers : tuple of (int, np.ndarray)
        Parent asked, and ``node * bins + bin`` to the next such number, less the bin: int32 or int64. After the last
        layer the number is the leaf times the states.
    states : int
        Number of states.
    packed : np.ndarray
        Of every leaf and state: the share with which the state is kept, in units of 1 / 65,536 (or 1 / 2**32), above
        16 (or 32) bits that hold its alias; uint32 (or uint64) ``(leaves * states,)``.
    """

    layers: tuple[tuple[int, np.ndarray], ...]
    states: int
    packed: np.ndarray

    @classmethod
    def of(cls, tree: LayeredTree, shares: np.ndarray) -> ColumnLookup:
        """Write a tree and the law of its leaves ``(leaves, states)`` as tables."""
        return cls(flat_layers(tree, shares.shape[1]), shares.shape[1], pack(shares))

    def draw(self, lines: Sequence[np.ndarray], n: int, rng: np.random.Generator) -> np.ndarray:
        """Return a state for every row, int32 ``(n,)``.

        Parameters
        ----------
        lines : sequence of np.ndarray
            Bins of every row, integers ``(n,)``, by parent.
        n : int
            Rows.
        rng : np.random.Generator
            Where chance comes from: 32 bits a row.
        """
        wide = rng.integers(0, 1 << 32, size=n, dtype=np.uint32).astype(np.uint64)
        wide *= np.uint64(self.states)
        state = (wide >> np.uint64(32)).astype(np.int32)
        place = places(self.layers, lines, state)
        return kept_or_alias(self.packed.take(place, mode="clip"), wide, state)


def flat_layers(tree: LayeredTree, n_states: int) -> tuple[tuple[int, np.ndarray], ...]:
    """Return the layers of a tree as those of `ColumnLookup`."""
    after = [*(layer.table.shape[1] for layer in tree.layers[1:]), n_states][: len(tree.layers)]
    largest = max([tree.n_leaves * n_states, *(layer.table.size for layer in tree.layers)])
    kind = np.int32 if largest < 2**31 else np.int64
    return tuple(
        (layer.parent, (layer.table.ravel() * times).astype(kind))
        for layer, times in zip(tree.layers, after, strict=True)
    )


def places(
    layers: Sequence[tuple[int, np.ndarray]], lines: Sequence[np.ndarray], states: np.ndarray
) -> np.ndarray:
    """Return ``leaf * states + state`` of every row, integers ``(n,)``, given lines by parent and states ``(n,)``."""
    if not layers:
        return states
    parent, table = layers[0]
    node = table.take(lines[parent], mode="clip")
    for parent, table in layers[1:]:
        node += lines[parent]
        # Places are within the table: that was checked when the tree was made.
        node = table.take(node, mode="clip")
    node += states
    return node


def kept_or_alias(packed: np.ndarray, wide: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Return the state, or its alias where the lower half of 64 random bits says so, int32 ``(n,)``."""
    bits = packed.dtype.itemsize * 4
    half = packed.dtype.type((1 << bits) - 1)
    chance = ((wide >> np.uint64(32 - bits)) & np.uint64(half)).astype(packed.dtype)
    refused = chance >= packed >> packed.dtype.type(bits)
    return np.where(refused, (packed & half).astype(np.int32), state)


def pack(shares: np.ndarray) -> np.ndarray:
    """Return Walker's table of shares ``(lines, states)``, one whole number a place; see `ColumnLookup`.

    A share below half a unit of keeping is rounded to none, so a state that never comes stays one that never comes.
    """
    bits = 16 if shares.shape[1] <= NARROW_STATES else 32
    accept, other = alias_table(shares)
    units = np.minimum(np.round(accept.ravel() * 2.0**bits), 2.0**bits - 1).astype(np.uint64)
    packed = (units << np.uint64(bits)) | other.ravel().astype(np.uint64)
    return packed.astype(np.uint32) if bits == 16 else packed
