"""PreFair: differentially private rows whose outcome depends on protected attributes through admissible ones only.

The method of Pujol, Gilad and Machanavajjhala (PVLDB 16, 2023) in the form that builds on MST (McKenna, Miklau and
Sheldon, Journal of Privacy and Confidentiality, 2021):

1. noisy counts of every column;
2. a spanning tree of the columns, edge after edge by the exponential mechanism, that has no edge between the
   outcome and a column that is not admissible;
3. noisy counts of the pairs on the tree;
4. the law on the tree that is nearest to all of them (`tree_model`), from which rows are drawn.

On such a tree every way from a protected column to the outcome goes through an admissible one, so the law says
*outcome independent of everything not admissible, given the admissible columns*, and rows are drawn from that law:
the guarantee holds exactly, at any noise.

Ours: what counts as public is the schema and nothing else, so numbers are cut at places that it alone decides
(`public_states`); intervals and rare levels are put together by the noisy counts of step 1, which costs
nothing, and told apart again by them; a score that subtracts what noise and chance alone would give; conditions
and shares of groups by exact inference instead of rejection; noise of the discrete Gaussian from the operating system.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from fairsynth.data.encoding import TableEncoder
from fairsynth.data.schema import Schema
from fairsynth.data.table import Table
from fairsynth.errors import CapabilityError, DataError, SchemaError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators import rejection
from fairsynth.generators.base import Capabilities, Generator
from fairsynth.generators.conditions import shares_state, wanted_states
from fairsynth.generators.layout import Groups, Layout, asked_shares
from fairsynth.generators.private_tree import Measurements
from fairsynth.generators.public_states import Coarse, public_states
from fairsynth.generators.requests import Request
from fairsynth.generators.settings import check_settings
from fairsynth.generators.tree_model import TreeModel
from fairsynth.privacy_accounting import Ledger, chance
from fairsynth.progress import Progress, Step

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle


class PreFair(Generator):
    """Differentially private rows, justifiably fair.

    What is promised: `epsilon`, `delta` hold for two tables of the same schema and the same number of rows that
    differ in one row. The schema (names, levels, ranges, decimals, whether values can be missing) and the number of
    rows count as **public**: a schema that was inferred from private rows tells something of them, so state it
    from outside (``Table(frame, schema=...)``) where that matters. Every `fit` spends the budget anew.

    Parameters
    ----------
    fairness : Fairness, optional
        None, or an object whose strength is above 0: outcome independent of protected given admissible columns.
        Strength 0 lifts the ban on edges (private only). The criteria are not known to this method; a warning says so.
    epsilon, delta : float
        The privacy guarantee.
    admissible : sequence of str, optional
        Columns that may explain the outcome. None admits every column but the sensitive ones, which cuts
        the direct way only and lets proxies through; a warning says so. ``()`` makes the outcome independent of all.
    secure_noise : bool
        Draw the noise from the operating system, so that it can never be had again. False draws it from `seed`, for
        tests: **then nothing is private**, since whoever knows or guesses the seed can take the noise off.
    bins : int
        Intervals of equal width between the bounds of a number in the schema; a number with no more grid points
        than this keeps each.
    max_states : int
        About how many states of a number are told apart in pairs.
    steps : int
        Steps of the fit of the law.
    seed : int
        Decides the rows drawn. It decides the fit only without `secure_noise`.

    Attributes
    ----------
    admissible_ : tuple of str
        The admissible columns.
    tree_ : tuple of (str, str)
        Pairs that were measured.
    privacy_ : Ledger
        The budget, and what every mechanism cost.
    private_ : bool
        Whether the noise came from the operating system; without that nothing is private.
    guarantee_ : str
        What holds, in words.

    References
    ----------
    Pujol, Gilad and Machanavajjhala, "PreFair: Privately Generating Justifiably Fair Synthetic Data",
    PVLDB 16(6), 2023.
    """

    name: ClassVar[str] = "prefair"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="differentially private tree; the outcome depends on protected columns through admissible ones only",
        paper="PreFair, PVLDB 2023",
        criteria=(),
        strength=False,
        targets=("binary", "multiclass", "numeric"),
        private=True,
    )

    def __init__(
        self,
        *,
        fairness: Fairness | None = None,
        epsilon: float = 1.0,
        delta: float = 1e-9,
        admissible: Sequence[str] | None = None,
        secure_noise: bool = True,
        bins: int = 128,
        max_states: int = 16,
        steps: int = 400,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.epsilon = epsilon
        self.delta = delta
        self.admissible = admissible
        self.secure_noise = secure_noise
        self.bins = bins
        self.max_states = max_states
        self.steps = steps
        self.seed = seed

    def _check_settings(self) -> None:
        check_settings(self, whole=("bins", "max_states", "steps"))
        if not isinstance(self.secure_noise, bool):
            raise SettingsError(f"secure_noise={self.secure_noise!r} must be True or False.")

    @property
    def _fair(self) -> bool:
        return self.fairness is None or self.fairness.strength > 0

    def _fit(self, table: Table, *, progress: Progress | None, checkpoint: Path | None) -> None:
        # No checkpoint is kept: a fit takes seconds, and what an interrupted one measured stays unpublished.
        self._check_settings()
        ledger = Ledger(self.epsilon, self.delta)
        admissible = admissible_columns(table.schema, self.admissible)
        self._warn()
        layout = Layout(public_states(table.schema, self.bins))
        refuse_one_group(layout)
        bits = chance(None if self.secure_noise else [self.seed, 1])

        def hear(stage: str, done: int, total: int, **info: float) -> None:
            if progress is not None:
                progress(Step(stage, done, total, info))

        work = Measurements(layout, layout.encoder.encode(table), ledger, bits, hear)
        coarse, singles = work.columns(self.max_states)
        may = allowed_edges(layout, admissible) if self._fair else lambda i, j: True
        parents, pairs = work.tree(coarse, singles, may)
        law = TreeModel.fit(
            parents, singles, pairs, len(table), steps=self.steps,
            hear=lambda done, loss: hear("fit law", done, self.steps, loss=loss),
        )  # fmt: skip
        self._adopt(layout, coarse, law, admissible, ledger, self.secure_noise)

    def _warn(self) -> None:
        if self.admissible is None and self._fair:
            warnings.warn(
                "prefair: no admissible columns were named, so every column but the sensitive ones may explain the "
                "outcome, proxies included. Name those that may: admissible=[...].",
                stacklevel=4,
            )
        if self.fairness is not None and self._fair:
            warnings.warn(
                f"prefair knows no {self.fairness.criterion}: it makes the outcome independent of the sensitive "
                "columns given the admissible ones, fully or (strength 0) not at all.",
                stacklevel=4,
            )

    def _adopt(
        self,
        layout: Layout,
        coarse: list[Coarse],
        law: TreeModel,
        admissible: tuple[str, ...],
        ledger: Ledger,
        private: bool,
    ) -> None:
        names = layout.encoder.names
        edges = [(p, j) for j, p in enumerate(law.parents) if p >= 0]
        if self._fair and not all(itertools.starmap(allowed_edges(layout, admissible), edges)):
            raise ValueError("the tree has an edge between the outcome and a column that is not admissible")
        self.layout_, self.coarse_, self.law_ = layout, coarse, law
        self.admissible_, self.privacy_, self.private_ = admissible, ledger, private
        self.tree_ = tuple((names[i], names[j]) for i, j in edges)

    @property
    def guarantee_(self) -> str:
        """What holds of this model, in words."""
        if not self.private_:
            return "no privacy: the noise was drawn from a seed that stands in the settings"
        return (
            f"({self.privacy_.epsilon:g}, {self.privacy_.delta:g})-differential privacy between tables of the same "
            f"schema and size that differ in one row (rho-zCDP, rho={self.privacy_.spent:.6g})"
        )

    def _prepare(self, request: Request) -> Prepared:
        layout = self.layout_
        weights = [np.ones(size) for size in layout.encoder.sizes]
        exact: dict[str, float | str] = {}
        for name, value in request.where.items():
            place, column = layout.encoder.index(name), layout.encoder.schema[name]
            states = layout.encoder.states[place]
            weights[place] = wanted_states(states, value, column).astype(float)
            if isinstance(value, float) or shares_state(states, value, column):
                exact[name] = value
        said = ", ".join(f"{name}={value}" for name, value in request.where.items())
        if request.group_shares is None:
            part = self._part(weights, 1.0)
            parts = [] if part is None else [part]
        else:
            parts = self._parts_of_groups(request.group_shares, weights)
        if not parts:
            raise CapabilityError(
                f"where {said}: the model gives such rows a chance below one in "
                f"{rejection.GIVE_UP * rejection.MAX_TRIES:,}, so they would be its "
                "invention; loosen the condition."
            )
        return Prepared(tuple(parts), exact)

    def _parts_of_groups(self, wanted: Any, weights: list[np.ndarray]) -> list[Part]:
        """Return one part for each group asked for that has rows under the condition."""
        layout = self.layout_
        levels = np.array(list(itertools.product(*map(range, layout.levels))), dtype=np.int64)
        free = [np.ones(size) for size in layout.encoder.sizes]
        # A group counts as learned if the law expects a row of it among as many as were learned from.
        seen = np.array([self._chance(self._with_group(free, group)) * self.n_rows_ >= 1 for group in levels])
        levels = levels[seen]
        shares = asked_shares(layout, wanted, Groups(levels, np.ones((layout.n_labels, len(levels)))))
        parts = [
            self._part(self._with_group(weights, group), share)
            for group, share in zip(levels, shares, strict=True)
            if share > 0
        ]
        return [part for part in parts if part is not None]

    def _with_group(self, weights: list[np.ndarray], group: np.ndarray) -> list[np.ndarray]:
        layout, weights = self.layout_, list(weights)
        for place, level in zip(layout.sensitive, group, strict=True):
            states = layout.bands.get(place, np.arange(layout.encoder.sizes[place]))
            weights[place] = weights[place] * (states == level)
        return weights

    def _chance(self, weights: list[np.ndarray]) -> float:
        try:
            return self.law_.given([c.lift(w) for c, w in zip(self.coarse_, weights, strict=True)])[1]
        except ValueError:
            return 0.0

    def _part(self, weights: list[np.ndarray], share: float) -> Part | None:
        """Return the law given the weights of all states; None if it is next to impossible."""
        if all((w == 1).all() for w in weights):
            return Part(share, self.law_, tuple(self.coarse_))
        try:
            law, chance_of = self.law_.given([c.lift(w) for c, w in zip(self.coarse_, weights, strict=True)])
        except ValueError:
            return None
        # The same line that rejection draws: read at the call, so that both move together.
        if chance_of * rejection.GIVE_UP * rejection.MAX_TRIES < 1:
            return None
        return Part(share, law, tuple(c.given(w) for c, w in zip(self.coarse_, weights, strict=True)))

    def _draw(self, n: int, request: Prepared, seed: np.random.SeedSequence) -> pl.DataFrame:
        rng, numbers = (np.random.default_rng(child) for child in seed.spawn(2))
        shares = np.array([part.share for part in request.parts])
        counts = rng.multinomial(n, shares / shares.sum()) if len(shares) > 1 else [n]
        drawn = []
        for part, count in zip(request.parts, counts, strict=True):
            lines = part.law.draw(int(count), rng)
            for line, coarse in zip(lines, part.coarse, strict=True):
                line[:] = coarse.draw(line, rng)
            drawn.append(lines)
        lines = drawn[0] if len(drawn) == 1 else np.concatenate(drawn, axis=1)[:, rng.permutation(n)]
        return self.layout_.encoder.decode(lines, numbers, exact=request.exact)

    def save(self, path: Any) -> None:
        """Write the model to one file; see `Generator.save`. Warns if its noise came from the seed."""
        if hasattr(self, "schema_") and not self.private_:
            warnings.warn(
                "prefair: the noise of this model was drawn from its seed, which stands in the file: it gives NO "
                "privacy. Fit with secure_noise=True before it is handed on.",
                stacklevel=2,
            )
        super().save(path)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        documents = {
            "columns": self.layout_.encoder.to_json(),
            "tree": {"parents": list(self.law_.parents), "admissible": list(self.admissible_)},
            "privacy": {
                **self.privacy_.to_json(),
                "private": self.private_,
                "guarantee": self.guarantee_,
            },
        }
        tensors = {
            "coarse.states": np.concatenate([coarse.states for coarse in self.coarse_]),
            "coarse.within": np.concatenate([coarse.within for coarse in self.coarse_]),
            "law.tables": np.concatenate([table.ravel() for table in self.law_.tables]),
        }
        how = "by the exponential mechanism" if self.private_ else "WITHOUT privacy: seeded noise"
        noise = "from noisy counts" if self.private_ else "from counts WITHOUT privacy: seeded noise"
        return documents, tensors, [
            {"what": "states of the columns, from the schema alone", "where": "documents/columns.json"},
            {"what": f"which pairs were measured, chosen {how}", "where": "documents/tree.json"},
            {"what": "the privacy budget and its spending; no data", "where": "documents/privacy.json"},
            {"what": f"which states are told apart, and their shares, {noise}", "where": "coarse.*"},
            {"what": f"the law of the pairs on the tree, {noise}", "where": "law.tables"},
        ]  # fmt: skip

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        layout = Layout(TableEncoder.from_json(self.schema_, content.document("columns")))
        body: Any = content.document("tree")
        privacy: Any = content.document("privacy")
        admissible = admissible_columns(self.schema_, tuple(map(str, body["admissible"])))
        sizes = layout.encoder.sizes
        tensors = content.expect(
            {"coarse.states": (sum(sizes),), "coarse.within": (sum(sizes),), "law.tables": (None,)}
        )
        ends = np.cumsum(sizes)[:-1]
        coarse = [
            Coarse(states, within)
            for states, within in zip(
                np.split(tensors["coarse.states"], ends),
                np.split(tensors["coarse.within"], ends),
                strict=True,
            )
        ]
        parents = [int(parent) for parent in body["parents"]]
        if len(parents) != len(sizes) or any(not -1 <= parent < len(sizes) for parent in parents):
            raise ValueError("the tree does not fit the columns")
        shapes = [
            (c.size,) if p < 0 else (coarse[p].size, c.size) for p, c in zip(parents, coarse, strict=True)
        ]
        cells = np.cumsum([int(np.prod(shape)) for shape in shapes])
        flat = tensors["law.tables"]
        if flat.dtype != np.float64 or len(flat) != cells[-1]:
            raise ValueError("the tables do not fit the tree")
        tables = [
            table.reshape(shape) for table, shape in zip(np.split(flat, cells[:-1]), shapes, strict=True)
        ]
        private = privacy["private"]
        if not isinstance(private, bool):
            raise ValueError("it does not say whether its noise is private")
        self._adopt(
            layout, coarse, TreeModel(parents, tables), admissible, Ledger.from_json(privacy), private
        )


@dataclass(frozen=True)
class Part:
    """A share of the rows and the law that they are drawn from."""

    share: float
    law: TreeModel
    coarse: tuple[Coarse, ...]


@dataclass(frozen=True)
class Prepared:
    """A request: the laws to draw from, and columns to set to one value."""

    parts: tuple[Part, ...]
    exact: dict[str, float | str]


def refuse_one_group(layout: Layout) -> None:
    """Raise DataError if the states allow no second group, as where a cut lies outside a number's bounds."""
    reachable = [
        len(np.unique(layout.bands[place])) if place in layout.bands else layout.encoder.sizes[place]
        for place in layout.sensitive
    ]
    if max(reachable) < 2:
        raise DataError(
            f"all rows are of one group of {', '.join(layout.encoder.schema.sensitive)}, as far as the range of "
            "numbers in the schema goes: every measure of fairness would be perfect and mean nothing. "
            "Choose other edges, or state other bounds."
        )


def admissible_columns(schema: Schema, named: Sequence[str] | None) -> tuple[str, ...]:
    """Return the admissible columns, in the order of the schema.

    Raises
    ------
    SchemaError
        If one does not exist, or is the target, sensitive, or an identifier.
    """
    if named is None:
        return tuple(name for name in schema.features if name not in schema.sensitive)
    wanted = (named,) if isinstance(named, str) else tuple(named)
    for name in wanted:
        role = schema.role(str(name))
        if role in ("target", "sensitive", "identifier"):
            raise SchemaError(
                f"admissible: {name!r} is the {role} column; name columns that may explain the outcome."
            )
    return tuple(name for name in schema.features if name in wanted)


def allowed_edges(layout: Layout, admissible: Sequence[str]) -> Callable[[int, int], bool]:
    """Return which pairs of columns may be joined: those of the outcome with admissible columns, and all others."""
    names, target = layout.encoder.names, layout.target

    def may(i: int, j: int) -> bool:
        return target not in (i, j) or names[i if j == target else j] in admissible

    return may
