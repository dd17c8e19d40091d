"""DECAF: one network a column along a causal graph, debiased when rows are drawn.

van Breugel et al. (NeurIPS 2021, sections 4 and 5): x_i = G_i(parents of x_i, noise_i) in the order of the graph, all
networks trained together against one critic (WGAN with gradient penalty). Fairness costs no training: to remove
the edge i → j when rows are drawn, G_j is given an independent draw of x_i. Which edges carry unfairness follows
from the graph by d-separation (`causal.edges_to_remove`).

Ours: every column, of whatever kind and number of levels, is *one* variable with one block of states, never one
variable a bit; noise_i is the Gumbel noise of that block, so that G_i is the structural equation
``x_i = argmax(logits_i(parents) + noise_i)``; the networks learn each column given its parents by likelihood, which
such an equation has in closed form, and the play against a critic is left to ``preset="paper"`` or `play_epochs`,
because likelihood alone does better (docs/research/decaf.md has the numbers); the independent draws that replace
several causes of one column come from one other row, so that they agree with each other; and the graph may be
complete, which is no causal claim, if none is given.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from fairsynth.causal import CausalGraph, Debias, discover, edges_to_remove
from fairsynth.checkpoints import Checkpoint
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.table import JOINT, Table
from fairsynth.data.vectors import VectorEncoder
from fairsynth.errors import SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators import rejection
from fairsynth.generators.base import Capabilities, Generator, fingerprint
from fairsynth.generators.fairvae import ROWS_FROM_DATA, Training
from fairsynth.generators.layout import Groups, Layout, group_tensors, read_groups, read_names, refuse_besides
from fairsynth.generators.requests import Request
from fairsynth.generators.settings import check_settings
from fairsynth.nn.decoders import draw_states
from fairsynth.nn.gan import (
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

#: The published sizes and training (section 6 and its code).
PAPER: dict[str, Any] = {
    "hidden": (200, 200),
    "critic_hidden": (200, 200),
    "epochs": 0,
    "play_epochs": 50,
    "critic_steps": 10,
    "learning_rate": 1e-3,
    "betas": (0.5, 0.999),
}
#: A table of fewer rows is passed over as often as if it had so many.
SMALL_TABLE = 1500
#: Rows that go through the networks at once.
PIECE = 8192
MAX_TRIES = 1_000_000
RARE = 30


class DECAF(Generator):
    """Rows drawn along a causal graph, with the edges that carry unfairness cut.

    Parameters
    ----------
    fairness : Fairness
        Demographic parity, on (strength above 0) or off (0): nothing is cut then.
    graph : sequence of (str, str), networkx.DiGraph, or CausalGraph, optional
        Cause and effect, by column names. None takes every column as a cause of all after it (sensitive ones
        first, the target last): the chain rule, which is always true of the rows but claims nothing of causes, and by
        which ``"dp"`` cuts *every* edge into the target. A warning says so.
    discover : {"pc", "ges"}, optional
        Propose a graph from the rows if none is given. A warning shows it, and which directions a rule chose: look
        at it, and give it as `graph` once it is right. Needs the extra ``causal``.
    debias : {"dp", "ftu", "cf"} or None
        Which edges into the target are cut when rows are drawn: see `causal.edges_to_remove`. May be changed
        (``set_params``) after `fit`, without a new fit.
    allowed : sequence of str
        Columns that may explain a difference, for ``"cf"``.
    preset : {"default", "paper"}
        ``"paper"`` overrides sizes and training by the published ones, without likelihood.
    hidden, critic_hidden : tuple of int
        Hidden layers of every column's network, and of the critic.
    tau : float
        Temperature of the Gumbel-softmax.
    epochs : float
        Passes over the rows by likelihood; a table of fewer than 1,500 rows counts as so many.
    play_epochs : float
        Passes of a critic over the rows after that; 0 for none.
    critic_steps : int
        Steps of the critic for one of the networks.
    batch_size : int
        Rows a step; at most an eighth of the table.
    learning_rate : float
        Of AdamW, at its peak; the play takes a thirtieth.
    weight_decay : float
        Of likelihood, for a table of 1,000 rows; it falls with the number of rows.
    max_intervals : int
        Intervals of a number; see `data.encoding`.
    seed : int
        Decides everything.

    Attributes
    ----------
    graph_ : CausalGraph
        What was learned along.
    removed_ : tuple of (str, str)
        The edges that are cut when rows are drawn, as the settings are now.
    group_names_, rare_groups_ : tuple of str
        Joint groups that were seen, and those of fewer than 30 rows.

    References
    ----------
    van Breugel, Kyono, Berrevoets and van der Schaar, "DECAF: Generating Fair Synthetic Data Using Causally-Aware
    Generative Networks", NeurIPS 2021.
    """

    fairness: Fairness
    name: ClassVar[str] = "decaf"
    fairness_optional: ClassVar[bool] = False
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="one network a column along a causal graph, with the edges that carry unfairness cut",
        paper="DECAF, NeurIPS 2021",
        criteria=("demographic_parity",),
        strength=False,
        targets=("binary", "multiclass", "numeric"),
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        graph: Any = None,
        discover: Literal["pc", "ges"] | None = None,
        debias: Debias | None = "dp",
        allowed: Sequence[str] = (),
        preset: Literal["default", "paper"] = "default",
        hidden: tuple[int, ...] = (64, 64),
        critic_hidden: tuple[int, ...] = (128, 128),
        tau: float = 0.5,
        epochs: float = 20,
        play_epochs: float = 0,
        critic_steps: int = 5,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        weight_decay: float = 3.0,
        max_intervals: int = 64,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.graph = graph
        self.discover = discover
        self.debias = debias
        self.allowed = allowed
        self.preset = preset
        self.hidden = hidden
        self.critic_hidden = critic_hidden
        self.tau = tau
        self.epochs = epochs
        self.play_epochs = play_epochs
        self.critic_steps = critic_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_intervals = max_intervals
        self.seed = seed

    def _setting(self, name: str) -> Any:
        return PAPER.get(name, getattr(self, name)) if self.preset == "paper" else getattr(self, name)

    def _check_settings(self) -> None:
        check_settings(
            self,
            choices={"preset": ("default", "paper")},
            whole=("critic_steps", "batch_size", "max_intervals"),
            from_zero=("play_epochs", "weight_decay"),
            above_zero=("tau", "epochs", "learning_rate"),
            widths=("hidden", "critic_hidden"),
        )
        if self.discover not in (None, "pc", "ges"):
            raise SettingsError(f"discover={self.discover!r} is neither 'pc' nor 'ges'.")

    def _fit(self, table: Table, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        graph = self._graph(table)
        self._removed(graph, table.schema)  # an impossible wish is refused before the work, not after
        with threads(1):
            self._learn(table, graph, progress, checkpoint)

    def _graph(self, table: Table) -> CausalGraph:
        schema = table.schema
        names = [name for name in schema.names if name not in schema.identifiers]
        if self.graph is not None:
            if self.discover is not None:
                raise SettingsError("graph and discover are both given; keep one.")
            return CausalGraph.of(self.graph, names)
        if self.discover is not None:
            found = discover(table, self.discover, seed=self.seed)
            warnings.warn(
                f"decaf: nobody has reviewed this graph, and fairness rests on it.\n{found}",
                stacklevel=4,
            )
            return found
        others = [name for name in names if name not in schema.sensitive and name != schema.target]
        graph = CausalGraph.complete([*schema.sensitive, *others, schema.target])
        warnings.warn(
            "decaf: no causal graph was given, so every column is taken as a cause of all after it. That claims "
            "nothing of causes, and debias='dp' then cuts every edge into the target, whose values become noise. Give "
            "graph=[(cause, effect), ...], or look at what discover='pc' proposes.",
            stacklevel=4,
        )
        return graph

    def _removed(self, graph: CausalGraph, schema: Any) -> tuple[tuple[str, str], ...]:
        if self.debias is None or self.fairness is None or self.fairness.strength == 0:
            return ()
        allowed = (self.allowed,) if isinstance(self.allowed, str) else tuple(self.allowed)
        return edges_to_remove(graph, self.debias, schema.sensitive, schema.target, allowed)

    @property
    def removed_(self) -> tuple[tuple[str, str], ...]:
        """The edges that are cut when rows are drawn, as the settings are now."""
        self._fitted()
        return self._removed(self.graph_, self.schema_)

    def _learn(
        self, table: Table, graph: CausalGraph, progress: Progress | None, checkpoint: Path | None
    ) -> None:
        data = Training(table, TableEncoder.learn(table, max_intervals=self.max_intervals))
        encoder, states, n = data.layout.encoder, data.all_states, len(table)
        mark = fingerprint(self._plain_graph(graph), table, data.states) if checkpoint is not None else ""
        kept = Checkpoint(checkpoint, mark) if checkpoint is not None else None
        net = self._network(encoder, graph)
        net.start(data.states)
        batch = min(self.batch_size, max(64, n // 8))
        if self._setting("epochs"):

            def likelihood(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
                value = net.losses(states[rows]).mean()
                return value, {"loss": float(value.detach())}

            steps = gan_steps(n, batch, self._setting("epochs"), 1, small_table=SMALL_TABLE)
            plan = Plan(steps, batch, self.learning_rate, weight_decay=self.weight_decay * 1000 / n)
            train(
                net, likelihood, n_rows=n, plan=plan, seed=self.seed, stage="learn each column", progress=progress,
                checkpoint=kept,
            )  # fmt: skip
        if self._setting("play_epochs"):
            self._play(net, states, batch, progress, kept)
        self.net_, self.graph_ = net, graph
        groups = Groups(data.group_levels, data.counts / data.counts.sum())
        names = joint_names(data.layout, groups.levels)
        rare = tuple(name for name, count in zip(names, data.group_counts, strict=True) if count < RARE)
        self._set_groups(data.layout, groups, names, rare)

    def _play(
        self,
        net: Columns,
        states: Tensor,
        batch: int,
        progress: Progress | None,
        kept: Checkpoint | None,
    ) -> None:
        critic = build(self.seed + 1, lambda: leaky_perceptron(net.width, self._setting("critic_hidden"), 1))

        def critic_loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            with torch.no_grad():
                fake = net(len(rows), self.tau, generator)
            value = wasserstein_critic_loss(critic, net.vectors(states[rows]), fake, generator)
            return value, {"critic": float(value.detach())}

        def generator_loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            value = wasserstein_generator_loss(critic, net(len(rows), self.tau, generator))
            return value, {"generator": float(value.detach())}

        paper = self.preset == "paper"
        turns = self._setting("critic_steps")
        plan = Plan(
            gan_steps(len(states), batch, self._setting("play_epochs"), turns), batch,
            PAPER["learning_rate"] if paper else self.learning_rate / 30, weight_decay=0.0, constant=paper,
        )  # fmt: skip
        train_gan(
            net, critic, critic_loss=critic_loss, generator_loss=generator_loss, n_rows=len(states), plan=plan,
            critic_steps=turns, seed=self.seed, stage="play against the critic",
            betas=PAPER["betas"] if paper else (0.0, 0.9), average=0.0 if paper else 0.99, progress=progress,
            checkpoint=kept,
        )  # fmt: skip

    def _network(self, encoder: TableEncoder, graph: CausalGraph) -> Columns:
        return build(self.seed, lambda: Columns(encoder, graph, self._setting("hidden")))

    def _set_groups(
        self, layout: Layout, groups: Groups, names: tuple[str, ...], rare: tuple[str, ...]
    ) -> None:
        self.layout_, self.groups_, self.group_names_, self.rare_groups_ = layout, groups, names, rare

    def _prepare(self, request: Request) -> tuple[rejection.Wanted, Cut]:
        wanted = rejection.prepare(request, self.layout_, self.groups_, "nothing")
        return wanted, Cut(self.graph_, self.removed_, self.net_.names)

    def _draw(
        self, n: int, request: tuple[rejection.Wanted, Cut], seed: np.random.SeedSequence
    ) -> pl.DataFrame:
        wanted, cut = request

        def propose(cells: rejection.Cells, rng: np.random.Generator) -> np.ndarray:
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
            sizes = [min(PIECE, cells.n - at) for at in range(0, cells.n, PIECE)]
            return np.concatenate([self.net_.draw(size, cut, generator) for size in sizes], axis=1)

        return rejection.draw(
            n, propose, wanted, self.layout_, self.groups_, "nothing", seed,
            max_tries=min(rejection.MAX_TRIES, MAX_TRIES),
        )  # fmt: skip

    def _plain_graph(self, graph: CausalGraph) -> DECAF:
        """Return this model with its graph as plain pairs, which can be written; nothing else is another."""
        plain = copy.copy(self)
        if self.graph is not None:
            plain.graph = graph.edges
        return plain

    def save(self, path: Any) -> None:
        """Write the model to one file; see `Generator.save`."""
        self._fitted()
        Generator.save(self._plain_graph(self.graph_), path)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        net = {f"net.{name}": p.detach().numpy() for name, p in self.net_.named_parameters()}
        documents = {
            "columns": self.layout_.encoder.to_json(),
            "graph": self.graph_.to_json(),
            "groups": {"names": list(self.group_names_), "rare": list(self.rare_groups_)},
        }
        whence = "proposed from the rows" if self.discover and self.graph is None else "not from the rows"
        return documents, {**net, **group_tensors(self.groups_)}, [
            *(item for item in ROWS_FROM_DATA if not item["where"].startswith(("net.", "groups.table"))),
            {"what": f"the causal graph, {whence}", "where": "documents/graph.json"},
            {"what": "share of each label in each group", "where": "groups.table"},
            {"what": "weights of the columns' networks; of columns without causes, their shares", "where": "net.*"},
        ]  # fmt: skip

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        layout = Layout(TableEncoder.from_json(self.schema_, content.document("columns")))
        graph = CausalGraph.from_json(content.document("graph"))
        if graph.names != tuple(layout.encoder.names) and set(graph.names) != set(layout.encoder.names):
            raise ValueError("the causal graph is not over the columns of the schema")
        tensors = dict(content.tensors)
        own = {k[4:]: tensors.pop(k) for k in list(tensors) if k.startswith("net.")}
        self.net_ = restore(lambda: self._network(layout.encoder, graph), own, content.path)
        groups = read_groups(tensors, layout)
        refuse_besides(tensors)
        self.graph_ = graph
        self._set_groups(layout, groups, *read_names(content.document("groups"), groups))
        self._removed(graph, self.schema_)


class Cut:
    """Edges that are cut, by the places of columns.

    Parameters
    ----------
    graph : CausalGraph
        The whole one.
    removed : sequence of (str, str)
        The edges.
    names : sequence of str
        Columns in their places.

    Attributes
    ----------
    edges : frozenset of (int, int)
        The same by place.
    again : frozenset of int
        Columns of which an independent row is drawn: the causes that are cut off, and what they need.
    """

    def __init__(self, graph: CausalGraph, removed: Sequence[tuple[str, str]], names: Sequence[str]) -> None:
        place = {name: j for j, name in enumerate(names)}
        self.edges = frozenset((place[cause], place[effect]) for cause, effect in removed)
        self.again = frozenset(place[name] for name in graph.ancestors(cause for cause, _ in removed))


class Columns(nn.Module):
    """The structural equations of all columns.

    Parameters
    ----------
    encoder : TableEncoder
        Of the table.
    graph : CausalGraph
        Over its columns.
    hidden : sequence of int
        Hidden layers of each.
    """

    def __init__(self, encoder: TableEncoder, graph: CausalGraph, hidden: Sequence[int]) -> None:
        super().__init__()
        self.names, self.sizes = encoder.names, encoder.sizes
        self.order = [encoder.index(name) for name in graph.order()]
        self.parents = [sorted(encoder.index(cause) for cause in graph.parents(name)) for name in self.names]
        # Every column is a block of its states, numbers too.
        every = VectorEncoder(
            encoder, range(len(self.names)), [np.full(size, 1 / size) for size in self.sizes], max(self.sizes)
        )
        self.blocks, self.width = every.blocks, every.width
        self.columns = nn.ModuleList(
            Equation([self.sizes[p] for p in parents], hidden, size)
            for parents, size in zip(self.parents, self.sizes, strict=True)
        )

    def start(self, states: np.ndarray) -> None:
        """Let every column begin with the shares of its states in the rows ``(n, columns)``."""
        for j, equation in enumerate(self.columns):
            counts = np.bincount(states[:, j], minlength=self.sizes[j]) + 0.5
            assert isinstance(equation, Equation)
            equation.start(torch.from_numpy(np.log(counts / counts.sum())).float())

    def losses(self, states: Tensor) -> Tensor:
        """Return -log p of rows of states int64 ``(n, columns)``, in nats ``(n,)``."""
        total = torch.zeros(len(states))
        for j, equation in enumerate(self.columns):
            logits = equation(states[:, self.parents[j]])
            total = total + nn.functional.cross_entropy(logits, states[:, j], reduction="none")
        return total

    def vectors(self, states: Tensor) -> Tensor:
        """Return rows of states as one-hot blocks, float32 ``(n, width)``."""
        starts = torch.tensor([block.levels.start for block in self.blocks])
        return torch.zeros(len(states), self.width).scatter_(1, states + starts, 1.0)

    def forward(self, n: int, tau: float, generator: torch.Generator) -> Tensor:
        """Draw rows of one-hot blocks ``(n, width)`` that gradients go through.

        Each block is exactly one-hot, so that columns after it see what they will see later; gradients are those of
        the Gumbel-softmax (the straight-through estimator).
        """
        drawn: dict[int, Tensor] = {}
        for j in self.order:
            equation = self.columns[j]
            assert isinstance(equation, Equation)
            logits = equation.soft([drawn[p] for p in self.parents[j]], n)
            soft = mixed_activation(logits, [_OneBlock(logits.shape[1])], tau, generator)
            hard = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
            drawn[j] = hard + soft - soft.detach()
        return torch.cat([drawn[j] for j in range(len(self.names))], dim=1)

    @torch.inference_mode()
    def draw(self, n: int, cut: Cut, generator: torch.Generator) -> np.ndarray:
        """Draw rows of states with some edges cut, int64 ``(columns, n)``."""
        lines = torch.empty(len(self.names), n, dtype=torch.int64)
        others = torch.empty_like(lines)
        for j in self.order:
            if j in cut.again:
                others[j] = self._column(j, [others[p] for p in self.parents[j]], n, generator)
            seen = [others[p] if (p, j) in cut.edges else lines[p] for p in self.parents[j]]
            lines[j] = self._column(j, seen, n, generator)
        return lines.numpy()

    def _column(self, j: int, parents: list[Tensor], n: int, generator: torch.Generator) -> Tensor:
        states = torch.stack(parents, dim=1) if parents else torch.empty(n, 0, dtype=torch.int64)
        # Adding Gumbel noise and taking the largest is a draw from the softmax; this draws it with less chance.
        return draw_states(self.columns[j](states).double(), torch.rand(n, generator=generator).double())


class _OneBlock:
    """A block that is all of its vector; see `mixed_activation`."""

    number: int | None = None

    def __init__(self, size: int) -> None:
        self.levels = slice(0, size)


class Equation(nn.Module):
    """A column given its causes: states of these to logits of its own states.

    Parameters
    ----------
    parents : sequence of int
        States of each cause.
    hidden : sequence of int
        Hidden layers; without a cause there are none.
    size : int
        States of the column.
    """

    offsets: Tensor

    def __init__(self, parents: Sequence[int], hidden: Sequence[int], size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size))
        self.first: nn.Parameter | None = None
        if parents:
            self.register_buffer("offsets", torch.tensor([0, *parents[:-1]]).cumsum(0), persistent=False)
            self.first = nn.Parameter(torch.randn(sum(parents), hidden[0]) * (len(parents) + 1) ** -0.5)
            self.rest = nn.Sequential(nn.LeakyReLU(0.2), leaky_perceptron(hidden[0], hidden[1:], size))

    def start(self, logits: Tensor) -> None:
        """Begin with these logits ``(size,)``, whatever the causes."""
        with torch.no_grad():
            self.bias.copy_(logits)
            if self.first is not None:
                last = self.rest[1][-1]  # type: ignore[index]
                last.weight.mul_(0.1)
                last.bias.zero_()

    def forward(self, states: Tensor) -> Tensor:
        """Return logits ``(n, size)`` given states of the causes int64 ``(n, causes)``."""
        if self.first is None:
            return self.bias.expand(len(states), -1).clone()
        return self.bias + self.rest(
            nn.functional.embedding_bag(states + self.offsets, self.first, mode="sum")
        )

    def soft(self, blocks: Sequence[Tensor], n: int) -> Tensor:
        """Return logits ``(n, size)`` given the causes as blocks that sum to 1 ``(n, states)``."""
        if self.first is None:
            return self.bias.expand(n, -1)
        return self.bias + self.rest(torch.cat(list(blocks), dim=1) @ self.first)


def joint_names(layout: Layout, levels: np.ndarray) -> tuple[str, ...]:
    """Return the names of joint groups int64 ``(groups, attributes)``."""
    return tuple(
        JOINT.join(layout.level_names(a)[level] for a, level in enumerate(row)) for row in levels.tolist()
    )
