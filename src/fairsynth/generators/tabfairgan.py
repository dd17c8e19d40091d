"""TabFairGAN: a Wasserstein GAN of whole rows, then the same with the gap between groups in its loss.

Rajabi and Garibay (MAKE 4(2), 2022, sections 3.2 to 3.4): numbers through a quantile transform, categories through
Gumbel-softmax, WGAN with gradient penalty; target and sensitive columns are columns like others. Phase one
learns the table. Phase two goes on with

    -E critic(G(z)) + gap_weight * strength * gap(G(z)).

The published gap is signed, ``P(y | s = 0) - P(y | s = 1)``: its minimum lies beyond parity, where the other group is
worse off. And its code divides it by the rows of a batch, so that another batch size is another loss. Here
it is absolute, a difference of rates whatever the number of rows, and defined for any number of groups and classes
(`parity_gap`). Ours besides: the gap for several and numeric sensitive columns, output biases that begin at the
shares of the levels, an average of the generator's weights, a falling learning rate, and `where` by rejection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
import torch
from scipy.special import ndtri
from torch import Tensor, nn

from fairsynth.checkpoints import Checkpoint
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.table import Table
from fairsynth.data.vectors import Block, VectorEncoder
from fairsynth.errors import CapabilityError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators import rejection
from fairsynth.generators.base import Capabilities, Generator, fingerprint
from fairsynth.generators.fairvae import Training
from fairsynth.generators.gan_rows import (
    FROM_DATA,
    MIN_STEPS,
    max_tries,
    named_groups,
    pieces,
    start_at_marginals,
)
from fairsynth.generators.layout import Groups, Layout, group_tensors, read_groups, read_names, refuse_besides
from fairsynth.generators.requests import Request
from fairsynth.generators.settings import check_settings
from fairsynth.nn.gan import (
    gan_steps,
    leaky_perceptron,
    mixed_activation,
    train_gan,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Plan, build, restore
from fairsynth.progress import Progress

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle

#: Rows from which it is learned how often the network draws each group.
KEEP_FROM = 20_000
#: By how much a group is thinned or favoured at most; a wider range would turn more rows away.
KEEP_BOUNDS = (0.2, 2.0)


class TabFairGAN(Generator):
    """Fair synthetic tables from a Wasserstein GAN that is taught parity in a second phase.

    Parameters
    ----------
    fairness : Fairness
        Demographic parity of the labels; the strength scales the weight of the gap, and 0 leaves phase two out.
    gap_weight : float
        Weight of the gap in phase two at full strength.
    fair_share : float
        Part of the epochs that is phase two, above 0 and below 1; published are 30 of 200.
    hidden : tuple of int
        Hidden layers of the generator.
    critic_hidden : tuple of int
        Hidden layers of the critic.
    noise_dim : int
        Dimensions of the noise.
    tau : float
        Temperature of the Gumbel-softmax; 0.2 is published.
    critic_steps : int
        Steps of the critic for one of the generator; 4 is published.
    gradient_penalty : float
        Weight of the critic's gradient penalty.
    epochs : float
        Passes of the critic over the rows, both phases together; a table of fewer than 4,096 rows counts as so many.
    batch_size : int
        Rows a step; at most an eighth of the table.
    learning_rate : float
        Of Adam, for both networks, at its peak in each phase.
    average : float
        Decay of the average of the generator's weights; 0 keeps the last ones.
    one_hot_up_to : int
        Numbers of at most so many states are drawn as levels; see `VectorEncoder`.
    max_intervals : int
        Intervals of a number; see `data.encoding`.
    seed : int
        Decides everything.

    Attributes
    ----------
    group_names_ : tuple of str
        Joint groups that were seen.
    rare_groups_ : tuple of str
        Those of fewer than 30 rows.

    Notes
    -----
    The generator draws the group itself. So that groups come in their learned shares, rows of groups that it draws too
    often are thinned; other shares asked for are met by counted rejection. Both leave the law within a group as it is.

    References
    ----------
    Rajabi and Garibay, "TabFairGAN: Fair Tabular Data Generation with Generative Adversarial Networks", Machine
    Learning and Knowledge Extraction 4(2), 2022.
    """

    fairness: Fairness
    name: ClassVar[str] = "tabfairgan"
    fairness_optional: ClassVar[bool] = False
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="Wasserstein GAN of whole rows with the gap between groups in its second phase",
        paper="TabFairGAN, MAKE 2022",
        criteria=("demographic_parity",),
        targets=("binary", "multiclass"),
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        gap_weight: float = 3.0,
        fair_share: float = 0.15,
        hidden: tuple[int, ...] = (128, 128),
        critic_hidden: tuple[int, ...] = (128, 128),
        noise_dim: int = 64,
        tau: float = 0.2,
        critic_steps: int = 4,
        gradient_penalty: float = 10.0,
        epochs: float = 200,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        average: float = 0.99,
        one_hot_up_to: int = 0,
        max_intervals: int = 64,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.gap_weight = gap_weight
        self.fair_share = fair_share
        self.hidden = hidden
        self.critic_hidden = critic_hidden
        self.noise_dim = noise_dim
        self.tau = tau
        self.critic_steps = critic_steps
        self.gradient_penalty = gradient_penalty
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.average = average
        self.one_hot_up_to = one_hot_up_to
        self.max_intervals = max_intervals
        self.seed = seed

    def _check_settings(self) -> None:
        check_settings(
            self,
            whole=("noise_dim", "critic_steps", "batch_size", "max_intervals"),
            from_zero=("gap_weight", "gradient_penalty", "average", "one_hot_up_to"),
            above_zero=("fair_share", "tau", "epochs", "learning_rate"),
            widths=("hidden", "critic_hidden"),
        )
        for name in ("fair_share", "average"):
            if getattr(self, name) >= 1:
                raise SettingsError(f"{name}={getattr(self, name)!r} must be a number below 1.")

    def _fit(self, table: Table, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        with threads(1):
            self._learn(table, progress, checkpoint)

    def _learn(self, table: Table, progress: Progress | None, checkpoint: Path | None) -> None:
        data = Training(table, TableEncoder.learn(table, max_intervals=self.max_intervals))
        encoder = data.layout.encoder
        kept = (
            Checkpoint(checkpoint, fingerprint(self, table, data.states)) if checkpoint is not None else None
        )
        vectors = VectorEncoder.learn(
            encoder, data.states, range(len(encoder.names)), int(self.one_hot_up_to)
        )
        net = self._network(vectors)
        net.start(vectors, torch.Generator().manual_seed(self.seed))
        critic = build(self.seed + 1, lambda: leaky_perceptron(vectors.width, self.critic_hidden, 1))
        real = torch.from_numpy(vectors.encode(data.states, np.random.default_rng(self.seed)))
        gap = Gap(data.layout, vectors, data.group_levels)

        def critic_loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            with torch.no_grad():
                fake = net(len(rows), generator)
            value = wasserstein_critic_loss(critic, real[rows], fake, generator, self.gradient_penalty)
            return value, {"critic": float(value.detach())}

        def generator_loss(weight: float) -> Any:
            def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
                fake = net(len(rows), generator)
                value = wasserstein_generator_loss(critic, fake)
                if not weight:
                    return value, {}
                apart = gap(fake)
                return value + weight * apart, {"gap": float(apart.detach())}

            return loss

        weight = self.gap_weight * self.fairness.strength
        for stage, steps, own in self._phases(len(table), weight):
            plan = Plan(steps, self._batch(len(table)), self.learning_rate, weight_decay=0.0)
            train_gan(
                net, critic, critic_loss=critic_loss, generator_loss=generator_loss(own), n_rows=len(table), plan=plan,
                critic_steps=self.critic_steps, seed=self.seed, stage=stage, average=self.average, progress=progress,
                checkpoint=kept,
            )  # fmt: skip
        self.net_, self.vectors_, self.layout_ = net, vectors, data.layout
        self.groups_ = Groups(data.group_levels, data.counts / data.counts.sum())
        self.group_names_, self.rare_groups_ = named_groups(data.layout, data.group_levels, data.group_counts)
        self.keep_ = self._kept_parts()

    def _kept_parts(self) -> np.ndarray:
        """Return how much of each group's rows is kept, so that groups come in their shares, float64 ``(groups,)``."""
        lines = self._rows(KEEP_FROM, torch.Generator().manual_seed(self.seed))
        own = rejection.group_of(self.layout_, self.groups_, lines)
        drawn = np.bincount(own[own >= 0], minlength=len(self.groups_.levels)) + 1.0
        wanted = self.groups_.table.sum(0) / (drawn / drawn.sum())
        wanted = np.clip(wanted, *KEEP_BOUNDS)
        return wanted / wanted.max()

    def _phases(self, n_rows: int, weight: float) -> list[tuple[str, int, float]]:
        """Return name, steps of the generator and weight of the gap of each phase."""
        steps = gan_steps(n_rows, self._batch(n_rows), self.epochs, self.critic_steps)
        fair = math.ceil(steps * self.fair_share) if weight else 0
        phases = [("learn the table", steps - fair, 0.0), ("close the gap", fair, weight)]
        return [(name, max(MIN_STEPS, own), gap) for name, own, gap in phases[: 2 if weight else 1]]

    def _batch(self, n_rows: int) -> int:
        return min(self.batch_size, max(64, n_rows // 8))

    def _network(self, vectors: VectorEncoder) -> RowGenerator:
        return build(self.seed, lambda: RowGenerator(vectors, self.noise_dim, self.hidden, self.tau))

    def _prepare(self, request: Request) -> rejection.Wanted:
        return rejection.prepare(request, self.layout_, self.groups_, "nothing")

    def _draw(self, n: int, request: rejection.Wanted, seed: np.random.SeedSequence) -> pl.DataFrame:
        return rejection.draw(
            n, self._propose, request, self.layout_, self.groups_, "nothing", seed, max_tries=max_tries()
        )

    def _propose(self, cells: rejection.Cells, rng: np.random.Generator) -> np.ndarray:
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        found, have, tried = [], 0, 0
        while have < cells.n:
            lines = self._rows(max(256, int(1.1 * (cells.n - have) / self.keep_.mean())), generator)
            own = rejection.group_of(self.layout_, self.groups_, lines)
            kept = lines[:, (own >= 0) & (rng.random(len(own)) < self.keep_[own])]
            found.append(kept)
            have, tried = have + kept.shape[1], tried + lines.shape[1]
            if tried > max_tries() and have * 1000 < tried:
                raise CapabilityError(
                    f"of {tried:,} rows drawn {have:,} were of a group that was learned: this model learned too "
                    "little; fit it with more epochs."
                )
        return np.concatenate(found, axis=1)[:, : cells.n]

    def _rows(self, n: int, generator: torch.Generator) -> np.ndarray:
        """Draw rows of states as the network has them, ``(all columns, n)``."""
        with torch.inference_mode():
            parts = [
                self.vectors_.decode(self.net_(part.stop - part.start, generator).numpy())
                for part in pieces(n)
            ]
        return np.concatenate(parts, axis=1)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        net = {f"net.{name}": p.detach().numpy() for name, p in self.net_.named_parameters()}
        documents = {
            "columns": self.layout_.encoder.to_json(),
            "groups": {"names": list(self.group_names_), "rare": list(self.rare_groups_)},
        }
        tensors = {
            **net,
            "vectors.shares": self.vectors_.to_tensor(),
            "keep.parts": self.keep_,
            **group_tensors(self.groups_),
        }
        kept = {"what": "how much of each group's rows is kept to meet its share", "where": "keep.parts"}
        return documents, tensors, [*FROM_DATA, kept]

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        layout = Layout(TableEncoder.from_json(self.schema_, content.document("columns")))
        tensors = dict(content.tensors)
        own = {k[4:]: tensors.pop(k) for k in list(tensors) if k.startswith("net.")}
        vectors = VectorEncoder.from_tensor(
            layout.encoder,
            range(len(layout.encoder.names)),
            tensors.pop("vectors.shares"),
            int(self.one_hot_up_to),
        )
        self.net_ = restore(lambda: self._network(vectors), own, content.path)
        self.vectors_, self.layout_, self.groups_ = vectors, layout, read_groups(tensors, layout)
        self.keep_ = tensors.pop("keep.parts")
        low, high = KEEP_BOUNDS
        if self.keep_.shape != (len(self.groups_.levels),) or not (self.keep_ >= 0.999 * low / high).all():
            raise ValueError("the parts of groups that are kept do not fit the groups")
        refuse_besides(tensors)
        self.group_names_, self.rare_groups_ = read_names(content.document("groups"), self.groups_)


class RowGenerator(nn.Module):
    """Noise to rows of mixed types.

    Parameters
    ----------
    vectors : VectorEncoder
        What a row looks like.
    noise_dim : int
        Dimensions of the noise.
    hidden : sequence of int
        Hidden layers.
    tau : float
        Temperature of the Gumbel-softmax.
    """

    def __init__(self, vectors: VectorEncoder, noise_dim: int, hidden: Sequence[int], tau: float) -> None:
        super().__init__()
        self.noise_dim, self.tau, self.blocks = noise_dim, tau, vectors.blocks
        self.body = leaky_perceptron(noise_dim, hidden, vectors.width, slope=0.0)

    def start(self, vectors: VectorEncoder, generator: torch.Generator) -> None:
        """Begin with every column drawn from about its own law, apart from the others: what is left is to learn."""
        last = self.body[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            start_at_marginals(last, vectors.blocks, vectors.shares, self.body(self._noise(2048, generator)))

    def _noise(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.noise_dim, generator=generator)

    def forward(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw rows, float32 ``(n, width)``."""
        raw = self.body(self._noise(n, generator))
        return mixed_activation(raw, self.blocks, self.tau, generator)


class Gap:
    """How far rows of vectors are from parity: `parity_gap` of the groups and labels that they hold.

    Parameters
    ----------
    layout : Layout
        Of the columns.
    vectors : VectorEncoder
        Of all of them, in their order.
    group_levels : np.ndarray
        The joint groups that count, int64 ``(groups, attributes)``.
    """

    def __init__(self, layout: Layout, vectors: VectorEncoder, group_levels: np.ndarray) -> None:
        self.label = vectors.blocks[layout.target].levels
        favorable = torch.from_numpy(layout.favorable).float()
        # Without favorable labels every label has a gap of its own.
        self.outcomes = favorable[:, None] if favorable.any() else torch.eye(layout.n_labels)
        self.levels = torch.from_numpy(group_levels)
        self.attributes = [
            _Attribute(vectors, vectors.blocks[place], layout.bands.get(place), layout.levels[a])
            for a, place in enumerate(layout.sensitive)
        ]

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the gap of vectors ``(n, width)``, a scalar that gradients go through."""
        members = rows.new_ones(len(rows), len(self.levels))
        for a, attribute in enumerate(self.attributes):
            members = members * attribute(rows)[:, self.levels[:, a]]
        return parity_gap(members, rows[:, self.label] @ self.outcomes)


class _Attribute:
    """How much each row belongs to each level of one sensitive column, ``(n, levels)``."""

    def __init__(self, vectors: VectorEncoder, block: Block, bands: np.ndarray | None, n_levels: int) -> None:
        self.block, self.n_levels = block, n_levels
        size = vectors.encoder.sizes[block.column]
        share = vectors.shares[vectors.columns.index(block.column)]
        own = np.arange(size) if bands is None else bands
        self.level_of_state = nn.functional.one_hot(torch.from_numpy(own.astype(np.int64)), n_levels).float()
        if block.number is not None:
            missing = block.levels.stop > block.levels.start
            held = np.bincount(own[: size - missing], weights=share[: size - missing], minlength=n_levels)
            ends = np.cumsum(held)[:-1] / held.sum()
            self.ends = torch.from_numpy(ndtri(np.clip(ends, 0, 1))).float()

    def __call__(self, rows: Tensor) -> Tensor:
        levels = rows[:, self.block.levels]
        if self.block.number is None:
            return levels @ self.level_of_state
        band = torch.bucketize(rows[:, self.block.number].detach().contiguous(), self.ends, right=True)
        members = nn.functional.one_hot(band, self.n_levels).to(rows.dtype)
        if levels.shape[1]:
            gone = nn.functional.one_hot(torch.tensor(self.n_levels - 1), self.n_levels)
            members = members * levels[:, :1] + gone * levels[:, 1:]
        return members


def parity_gap(members: Tensor, outcomes: Tensor) -> Tensor:
    """Return how far apart the rates of groups are: 0 at parity, never below it.

    The mean over rows of the distance between the rate in a row's group and the rate in all other groups,

        sum_g P(g) |P(y | g) - P(y | not g)|,

    which for two groups is ``|P(y | 0) - P(y | 1)|``. With several outcomes, half the sum over them: the total
    variation distance. A group counts by its share, so that a few rows of chance in a batch do not. The published
    gap is that of two groups and two classes, signed; its extension is ours.

    Parameters
    ----------
    members : Tensor
        How much each row belongs to each group, from 0 to 1, float ``(n, groups)``.
    outcomes : Tensor
        How much each row has each outcome, float ``(n, outcomes)``; one column for favorable or not.

    Returns
    -------
    Tensor
        A scalar in [0, 1]; the same whatever the number of rows.
    """
    mass, hits = members.sum(0)[:, None], members.T @ outcomes
    rate = hits / mass.clamp(min=1e-6)
    rest = (hits.sum(0) - hits) / (mass.sum() - mass).clamp(min=1e-6)
    apart = (rate - rest).abs().sum(1) / (1 if outcomes.shape[1] == 1 else 2)
    return (mass[:, 0] / mass.sum() * apart).sum()
