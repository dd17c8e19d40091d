"""What Fair-TabDDPM diffuses: everything in a row that its label and its group do not say."""

from __future__ import annotations

import numpy as np

from fairsynth.generators.gan_rows import GivenGroup
from fairsynth.generators.layout import Layout


class CellRows(GivenGroup):
    """What label and group do not say of a row, as vectors and back: what is diffused."""

    @staticmethod
    def _columns(layout: Layout) -> tuple[list[int], list[int]]:
        plain = [j for j in layout.features if j not in layout.bands]
        return plain, [j for j in layout.sensitive if j in layout.bands]

    @classmethod
    def learn(cls, layout: Layout, states: np.ndarray, one_hot_up_to: int) -> CellRows:
        """Learn the shares from states int ``(n, all columns)``; see `GivenGroup`."""
        learned = super().learn(layout, states, one_hot_up_to)
        assert isinstance(learned, CellRows)
        return learned

    @classmethod
    def from_tensor(cls, layout: Layout, flat: np.ndarray, one_hot_up_to: int) -> CellRows:
        """Read what `to_tensor` wrote; a ValueError says that it does not belong here."""
        return cls(layout, flat, one_hot_up_to)

    def level_shares(self) -> list[np.ndarray]:
        """Return the shares of the levels of every one-hot block."""
        found = []
        for block, share in zip(self.blocks, self.shares, strict=True):
            if block.levels.stop > block.levels.start:
                gone = np.array([share[:-1].sum(), share[-1]])
                found.append(share if block.number is None else gone)
        return found
