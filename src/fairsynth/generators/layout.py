"""Which column of a table plays which part, and the joint groups that were seen.

What every generator of rows knows, whatever it learns with; torch is asked for by networks only, and imported then.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fairsynth.data.encoding import TableEncoder
from fairsynth.data.level_states import MAX_LEVELS, LevelStates
from fairsynth.data.number_states import NumberStates
from fairsynth.data.schema import MISSING_LEVEL
from fairsynth.errors import CapabilityError, DataError

if TYPE_CHECKING:
    from torch import Tensor


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
        import torch

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
        import torch

        parts = [torch.nn.functional.one_hot(levels[:, a], size) for a, size in enumerate(self.levels)]
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


def group_tensors(groups: Groups) -> dict[str, np.ndarray]:
    """Return the groups under fixed names."""
    return {"groups.levels": groups.levels, "groups.table": groups.table}


def read_groups(tensors: dict[str, np.ndarray], layout: Layout) -> Groups:
    """Read what `group_tensors` wrote; a ValueError says that it does not belong here."""
    groups = Groups(tensors.pop("groups.levels"), tensors.pop("groups.table"))
    groups.check(layout)
    return groups


def read_names(body: Any, groups: Groups) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read the names of the groups, and of the rare ones."""
    names, rare = tuple(map(str, body["names"])), tuple(map(str, body["rare"]))
    if len(names) != len(groups.levels) or not set(rare) <= set(names):
        raise ValueError("the names of the groups do not fit their number")
    return names, rare


def refuse_besides(tensors: dict[str, np.ndarray]) -> None:
    """Raise ValueError if a file holds more than the model: nothing may travel along unnamed."""
    if tensors:
        raise ValueError(f"it holds tensors that belong to no part of the model: {', '.join(tensors)}")
