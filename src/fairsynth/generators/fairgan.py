"""FairGAN: a generator that is given the group, one critic for realism, and one that tries to read the group.

Xu, Yuan, Zhang and Wu (IEEE Big Data 2018, section 4): noise and group give a code, the decoder of an autoencoder
turns it into (x, y); critic 1 tells real (x, y, s) from made ones; critic 2 is shown made (x, y) alone and tries to say
which group they were made for. The generator deceives both, the second with the weight lambda = 1:

    loss = realism + fair_weight * strength * confusion.

Ours: realism is a Wasserstein distance with gradient penalty, which needs neither batch averages nor batch norm to
keep from collapsing; mixed types through Gumbel-softmax, where the paper has binary features only; several attributes
and any number of groups, critic 2 naming the joint group; *confusion*, the cross-entropy between the shares
of the groups and what critic 2 says, which is least when it can say no more than the shares, where fooling it
outright pays for being taken for the other group (as Tzeng et al., ICCV 2015, eq. 6, with shares in place of equal
parts); a first phase without critic 2; the value of a numeric sensitive column as its place inside its group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from fairsynth.checkpoints import Checkpoint
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.table import Table
from fairsynth.errors import SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators import rejection
from fairsynth.generators.base import Capabilities, Generator, fingerprint
from fairsynth.generators.fairvae import Training
from fairsynth.generators.gan_rows import (
    FROM_DATA,
    MIN_STEPS,
    GivenGroup,
    max_tries,
    named_groups,
    pieces,
    start_at_marginals,
)
from fairsynth.generators.layout import Groups, Layout, group_tensors, read_groups, read_names, refuse_besides
from fairsynth.generators.requests import Request
from fairsynth.generators.settings import check_settings
from fairsynth.nn.gan import (
    block_losses,
    gan_steps,
    leaky_perceptron,
    mixed_activation,
    train_gan,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Plan, build, restore, train
from fairsynth.progress import Progress

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle


class FairGAN(Generator):
    """Fair synthetic tables from a GAN with a second critic that must not be able to read the group.

    Parameters
    ----------
    fairness : Fairness
        Demographic parity; the strength scales the weight of the second critic, and 0 leaves it out.
    fair_weight : float
        Weight of the second critic at full strength; 1 is published.
    fair_share : float
        Part of the GAN's epochs that has the second critic, above 0 and below 1.
    decoder_share : float
        Epochs of the autoencoder, as a part of those of the GAN.
    code_dim : int
        Dimensions of the autoencoder's code.
    hidden : tuple of int
        Hidden layers of the generator of codes.
    decoder_hidden : tuple of int
        Hidden layers of encoder and decoder.
    critic_hidden : tuple of int
        Hidden layers of both critics.
    noise_dim : int
        Dimensions of the noise.
    tau : float
        Temperature of the Gumbel-softmax.
    critic_steps : int
        Steps of the critics for one of the generator.
    gradient_penalty : float
        Weight of the first critic's gradient penalty.
    epochs : float
        Passes of the critics over the rows; a table of fewer than 4,096 rows counts as so many.
    batch_size : int
        Rows a step; at most an eighth of the table.
    learning_rate : float
        Of Adam, for all networks, at its peak in each stage.
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

    References
    ----------
    Xu, Yuan, Zhang and Wu, "FairGAN: Fairness-aware Generative Adversarial Networks", IEEE Big Data 2018.
    """

    fairness: Fairness
    name: ClassVar[str] = "fairgan"
    fairness_optional: ClassVar[bool] = False
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="GAN given the group, with a second critic that must not read it from the row",
        paper="FairGAN, IEEE Big Data 2018",
        criteria=("demographic_parity",),
        targets=("binary", "multiclass", "numeric"),
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        fair_weight: float = 1.0,
        fair_share: float = 0.5,
        decoder_share: float = 0.3,
        code_dim: int = 64,
        hidden: tuple[int, ...] = (128, 128),
        decoder_hidden: tuple[int, ...] = (128,),
        critic_hidden: tuple[int, ...] = (128, 128),
        noise_dim: int = 64,
        tau: float = 0.2,
        critic_steps: int = 4,
        gradient_penalty: float = 10.0,
        epochs: float = 100,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        average: float = 0.99,
        one_hot_up_to: int = 0,
        max_intervals: int = 64,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.fair_weight = fair_weight
        self.fair_share = fair_share
        self.decoder_share = decoder_share
        self.code_dim = code_dim
        self.hidden = hidden
        self.decoder_hidden = decoder_hidden
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
            whole=("code_dim", "noise_dim", "critic_steps", "batch_size", "max_intervals"),
            from_zero=("fair_weight", "gradient_penalty", "average", "one_hot_up_to"),
            above_zero=("fair_share", "decoder_share", "tau", "epochs", "learning_rate"),
            widths=("hidden", "decoder_hidden", "critic_hidden"),
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
        n = len(table)
        rows = GivenGroup.learn(data.layout, data.states, int(self.one_hot_up_to))
        real = torch.from_numpy(
            rows.encode(data.states, data.levels.numpy(), np.random.default_rng(self.seed))
        )
        kept = (
            Checkpoint(checkpoint, fingerprint(self, table, data.states)) if checkpoint is not None else None
        )
        net = self._network(data.layout, rows)
        net.start(rows, data.levels, torch.Generator().manual_seed(self.seed))
        batch = self._batch(n)

        coder = Autoencoder(
            build(self.seed + 1, lambda: leaky_perceptron(rows.width, self.decoder_hidden, self.code_dim)),
            net.decoder,
        )

        def reconstruction(places: Tensor, _: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            value = block_losses(coder(real[places]), real[places], rows.blocks).mean()
            return value, {"loss": float(value.detach())}

        steps = max(MIN_STEPS, gan_steps(n, batch, self.epochs * self.decoder_share, 1))
        train(
            coder, reconstruction, n_rows=n, plan=self._plan(steps, batch), seed=self.seed, stage="learn to decode",
            progress=progress, checkpoint=kept,
        )  # fmt: skip
        game = Game(net, rows, data, real, self.critic_hidden, self.gradient_penalty, self.seed)
        weight = self.fair_weight * self.fairness.strength
        for stage, steps, own in self._phases(n, weight):
            game.weight = own
            train_gan(
                net, game.critics, critic_loss=game.critic_loss, generator_loss=game.generator_loss, n_rows=n,
                plan=self._plan(steps, batch), critic_steps=self.critic_steps, seed=self.seed, stage=stage,
                average=self.average, progress=progress, checkpoint=kept,
            )  # fmt: skip
        self.net_, self.rows_, self.layout_ = net, rows, data.layout
        self.groups_ = Groups(data.group_levels, data.counts / data.counts.sum())
        self.group_names_, self.rare_groups_ = named_groups(data.layout, data.group_levels, data.group_counts)

    def _phases(self, n_rows: int, weight: float) -> list[tuple[str, int, float]]:
        """Return name, steps of the generator and weight of the second critic of each phase."""
        steps = gan_steps(n_rows, self._batch(n_rows), self.epochs, self.critic_steps)
        fair = math.ceil(steps * self.fair_share) if weight else 0
        phases = [("learn the table", steps - fair, 0.0), ("hide the group", fair, weight)]
        return [(name, max(MIN_STEPS, own), fair) for name, own, fair in phases[: 2 if weight else 1]]

    def _plan(self, steps: int, batch: int) -> Plan:
        return Plan(steps, batch, self.learning_rate, weight_decay=0.0)

    def _batch(self, n_rows: int) -> int:
        return min(self.batch_size, max(64, n_rows // 8))

    def _network(self, layout: Layout, rows: GivenGroup) -> RowsOfGroup:
        return build(
            self.seed,
            lambda: RowsOfGroup(
                layout, rows, self.noise_dim, self.hidden, self.code_dim, self.decoder_hidden, self.tau
            ),
        )

    def _prepare(self, request: Request) -> rejection.Wanted:
        return rejection.prepare(request, self.layout_, self.groups_, "group")

    def _draw(self, n: int, request: rejection.Wanted, seed: np.random.SeedSequence) -> pl.DataFrame:
        return rejection.draw(
            n, self._propose, request, self.layout_, self.groups_, "group", seed, max_tries=max_tries()
        )

    def _propose(self, cells: rejection.Cells, rng: np.random.Generator) -> np.ndarray:
        assert cells.groups is not None
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        levels = self.groups_.levels[cells.groups]
        with torch.inference_mode():
            parts = [
                self.rows_.decode(self.net_(torch.from_numpy(levels[part]), generator).numpy(), levels[part])
                for part in pieces(cells.n)
            ]
        return np.concatenate(parts, axis=1)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        net = {f"net.{name}": p.detach().numpy() for name, p in self.net_.named_parameters()}
        documents = {
            "columns": self.layout_.encoder.to_json(),
            "groups": {"names": list(self.group_names_), "rare": list(self.rare_groups_)},
        }
        tensors = {**net, "vectors.shares": self.rows_.to_tensor(), **group_tensors(self.groups_)}
        return documents, tensors, FROM_DATA

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        layout = Layout(TableEncoder.from_json(self.schema_, content.document("columns")))
        tensors = dict(content.tensors)
        own = {k[4:]: tensors.pop(k) for k in list(tensors) if k.startswith("net.")}
        rows = GivenGroup.from_tensor(layout, tensors.pop("vectors.shares"), int(self.one_hot_up_to))
        self.net_ = restore(lambda: self._network(layout, rows), own, content.path)
        self.rows_, self.layout_, self.groups_ = rows, layout, read_groups(tensors, layout)
        refuse_besides(tensors)
        rows.check(self.groups_.levels)
        self.group_names_, self.rare_groups_ = read_names(content.document("groups"), self.groups_)


class RowsOfGroup(nn.Module):
    """Noise and group to a code, and the code to a row of mixed types.

    Parameters
    ----------
    layout : Layout
        Of the columns.
    rows : GivenGroup
        What a row looks like.
    noise_dim : int
        Dimensions of the noise.
    hidden : sequence of int
        Hidden layers before the code.
    code_dim : int
        Dimensions of the code, each between -1 and 1.
    decoder_hidden : sequence of int
        Hidden layers after the code.
    tau : float
        Temperature of the Gumbel-softmax.
    """

    def __init__(
        self,
        layout: Layout,
        rows: GivenGroup,
        noise_dim: int,
        hidden: Sequence[int],
        code_dim: int,
        decoder_hidden: Sequence[int],
        tau: float,
    ) -> None:
        super().__init__()
        self.layout, self.blocks, self.noise_dim, self.tau = layout, rows.blocks, noise_dim, tau
        self.body = leaky_perceptron(noise_dim + sum(layout.levels), hidden, code_dim)
        self.decoder = leaky_perceptron(code_dim, decoder_hidden, rows.width)

    def start(self, rows: GivenGroup, levels: Tensor, generator: torch.Generator) -> None:
        """Begin with every column drawn from about its own law; `levels` are those of real rows."""
        chosen = levels[torch.randint(len(levels), (2048,), generator=generator)]
        last = self.decoder[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            start_at_marginals(last, rows.blocks, rows.shares, self._raw(chosen, generator))

    def _raw(self, levels: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(levels), self.noise_dim, generator=generator)
        return self.decoder(self.body(torch.cat([noise, self.layout.one_hot(levels)], dim=1)).tanh())

    def forward(self, levels: Tensor, generator: torch.Generator) -> Tensor:
        """Draw rows for groups int64 ``(n, attributes)``: float32 ``(n, width)``."""
        return mixed_activation(self._raw(levels, generator), self.blocks, self.tau, generator)


class Autoencoder(nn.Module):
    """Rows to codes and back to numbers and logits; only its decoder is kept."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, rows: Tensor) -> Tensor:
        """Return raw outputs ``(n, width)`` for rows ``(n, width)``."""
        return self.decoder(self.encoder(rows).tanh())


class Game:
    """The two critics, and what critics and generator want.

    Parameters
    ----------
    net : RowsOfGroup
        The generator.
    rows : GivenGroup
        What a row looks like.
    data : Training
        Real rows.
    real : Tensor
        Them as vectors ``(n, width)``.
    hidden : sequence of int
        Hidden layers of both critics.
    penalty : float
        Weight of the gradient penalty of the first.
    seed : int
        Of their initial weights.

    Attributes
    ----------
    critics : nn.ModuleDict
        ``"realism"``: (x, y, s) to a number; ``"group"``: (x, y) to logits of the joint groups.
    weight : float
        Of the second critic in the generator's loss; at 0 it is not trained either.
    """

    def __init__(
        self,
        net: RowsOfGroup,
        rows: GivenGroup,
        data: Training,
        real: Tensor,
        hidden: Sequence[int],
        penalty: float,
        seed: int,
    ) -> None:
        self.net, self.data, self.real, self.penalty, self.weight = net, data, real, penalty, 0.0
        n_groups = len(data.group_levels)
        self.critics = build(
            seed + 2,
            lambda: nn.ModuleDict(
                {
                    "realism": leaky_perceptron(rows.width + sum(data.layout.levels), hidden, 1),
                    "group": leaky_perceptron(rows.width, hidden, n_groups),
                }
            ),
        )
        self.shares = torch.from_numpy(data.group_counts / data.group_counts.sum()).float()

    def critic_loss(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return what both critics minimise; see `nn.gan.train_gan`."""
        levels = self.data.levels[rows]
        with torch.no_grad():
            fake = self.net(levels, generator)
        group = self.data.layout.one_hot(levels)
        value = wasserstein_critic_loss(
            self.critics["realism"],
            torch.cat([self.real[rows], group], dim=1),
            torch.cat([fake, group], dim=1),
            generator,
            self.penalty,
        )
        shown = {"critic": float(value.detach())}
        if self.weight:
            read = nn.functional.cross_entropy(self.critics["group"](fake), self.data.groups[rows])
            value, shown["reading"] = value + read, float(read.detach())
        return value, shown

    def generator_loss(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return what the generator minimises; see `nn.gan.train_gan`."""
        levels = self.data.levels[rows]
        fake = self.net(levels, generator)
        together = torch.cat([fake, self.data.layout.one_hot(levels)], dim=1)
        value = wasserstein_generator_loss(self.critics["realism"], together)
        if not self.weight:
            return value, {}
        hidden = confusion(self.critics["group"](fake), self.shares)
        return value + self.weight * hidden, {"confusion": float(hidden.detach())}


def confusion(logits: Tensor, shares: Tensor) -> Tensor:
    """Return how far a reader of groups is from knowing no more than their shares, in nats: 0 if it does not.

    The mean divergence ``KL(shares || p(group | row))``.

    Parameters
    ----------
    logits : Tensor
        Of the reader, ``(n, groups)``.
    shares : Tensor
        Of the groups, ``(groups,)``.
    """
    told = logits.log_softmax(1)
    return (shares * (shares.clamp(min=1e-12).log() - told)).sum(1).mean()
