"""A label that is a number: its law in each group, and the monotone map from there to the law of all.

Parity of a number is the map that sends each place in the law of a group to the same place in the law of everyone
(Feldman et al., KDD 2015). What a tree draws for a group is not that group's law, though: where many groups share a
leaf, they are drawn together. So the map starts from the law that is drawn, and at strength 0 it leads to the real
law of the group; that part is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from fairsynth.generators.group_rates import BACKING


@dataclass(frozen=True)
class LabelLaws:
    """Laws of a number by group.

    Attributes
    ----------
    drawn : np.ndarray
        Law of the label's states that a tree draws for each group, float64 ``(groups, labels)``.
    real : np.ndarray
        The real one, float64 ``(groups, labels)``.
    overall : np.ndarray
        That of all people, float64 ``(labels,)``.
    order : np.ndarray
        Label states from the lowest value up, a missing one last, int64 ``(labels,)``.
    """

    drawn: np.ndarray
    real: np.ndarray
    overall: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, expected: np.ndarray, rows: np.ndarray, joint: np.ndarray, order: np.ndarray) -> Self:
        """Take laws from what is expected and what was counted.

        Parameters
        ----------
        expected : np.ndarray
            Sums of the laws that the rows of each group are drawn by ``(groups, labels)``.
        rows : np.ndarray
            How many rows those are ``(groups,)``.
        joint : np.ndarray
            Real rows of each label in each group ``(labels, groups)``.
        order : np.ndarray
            As of the class.
        """
        overall = joint.sum(1) / joint.sum()
        # Where nobody was seen, all stand for the group.
        drawn = (expected + 1e-6 * overall) / (rows + 1e-6)[:, None]
        drawn = drawn / drawn.sum(1, keepdims=True)
        real = (joint.T + BACKING * drawn) / (joint.sum(0)[:, None] + BACKING)
        return cls(drawn, real / real.sum(1, keepdims=True), overall, order)

    @classmethod
    def read(cls, found: np.ndarray, n_groups: int, order: np.ndarray) -> Self | None:
        """Take what `to_array` gave; None for nothing; a ValueError says that it is none."""
        if found.shape == (0, 0) and found.dtype == np.float64:
            return None
        if found.shape != (2 * n_groups + 1, len(order)) or found.dtype != np.float64:
            raise ValueError("the laws of the label do not fit the groups")
        if not np.isfinite(found).all() or (found < 0).any() or (np.abs(found.sum(1) - 1) > 1e-6).any():
            raise ValueError("the laws of the label are none")
        return cls(found[:n_groups], found[n_groups:-1], found[-1], order)

    def to_array(self) -> np.ndarray:
        """Return all of it, float64 ``(2 groups + 1, labels)``."""
        return np.vstack([self.drawn, self.real, self.overall])

    def mapped(
        self, states: np.ndarray, groups: np.ndarray, strength: float, rng: np.random.Generator
    ) -> np.ndarray:
        """Send each row's place in what is drawn for its group to the same place in the law it should have.

        Parameters
        ----------
        states : np.ndarray
            Label states as drawn, int64 ``(n,)``.
        groups : np.ndarray
            int64 ``(n,)``.
        strength : float
            Share of rows whose law is that of all; others have that of their group.
        rng : np.random.Generator
            Chooses them, and a place within a state.

        Returns
        -------
        np.ndarray
            int64 ``(n,)``.
        """
        rank, below, share, cumulative, last = self._places
        at = rank[states]
        place = below[groups, at] + rng.random(len(states)) * share[groups, at]
        law = np.where(rng.random(len(states)) < strength, len(self.real), groups)
        # The cumulative of law k runs from k to k + 1, so that one search serves all rows.
        found = np.searchsorted(cumulative, np.minimum(place, 1.0) + law, side="right") - law * len(
            self.order
        )
        return np.asarray(self.order[np.minimum(found, last[law])])

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Place of each state; share below each place and at it by group; cumulative and last place of each law."""
        drawn, laws = self.drawn[:, self.order], np.vstack([self.real, self.overall])[:, self.order]
        sums = np.cumsum(laws, axis=1)
        sums = sums / sums[:, -1:] + np.arange(len(laws))[:, None]
        last = laws.shape[1] - 1 - np.argmax(laws[:, ::-1] > 0, axis=1)
        return np.argsort(self.order), np.cumsum(drawn, axis=1) - drawn, drawn, sums.ravel(), last
