"""FairVAE, the teacher: a variational autoencoder whose latent is made independent of the group.

The representation is FairDisCo's (Liu et al., KDD 2022): encoder q(z | x, y, s), decoder p(x | z, s), and a
distance covariance between z and s in the loss,

    loss = reconstruction + beta * KL(q || N(0, I)) + label_weight * CE(y | z) + penalty_weight * V(z, s).

Ours: mixed types as states with numbers drawn inside their intervals (`data.encoding`); an autoregressive
decoder (`nn.decoders`); the label decoded from z by a head that is blind to s, and s drawn given the label
from a table that holds the criterion (`group_law`); the distance covariance with Székely's weight, which is
cheaper and keeps its gradient in many dimensions (`nn.dependence`); the law of the latent as a mixture of
Gaussians a label, so that a file holds no row. ``preset="paper"`` is the published network with the published
penalty.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth.data.encoding import NumberStates, TableEncoder
from fairsynth.data.table import Table
from fairsynth.errors import CapabilityError, SettingsError
from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.generators.base import Capabilities, Generator, Request, fingerprint
from fairsynth.generators.group_law import fair_table, joint_counts, matching_shifts
from fairsynth.generators.latent_rows import Groups, LatentRows, Layout, Prepared
from fairsynth.nn.curves import curves
from fairsynth.nn.decoders import AutoregressiveDecoder, Decoder, IndependentDecoder
from fairsynth.nn.dependence import density_distance_covariance, energy_distance_covariance
from fairsynth.nn.latent_law import LatentLaw
from fairsynth.nn.layers import StateEncoder, count_parameters, perceptron, reparameterise
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Checkpoint, Plan, build, load_parameters, steps_for, train
from fairsynth.progress import Progress

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle

#: The published network and its training (FairDisCo, KDD 2022, section 5.1 and its code), for tables.
PAPER: dict[str, Any] = {
    "latent_dim": 8,
    "hidden": (64,),
    "decoder": "independent",
    "decoder_hidden": (64,),
    "penalty": "density",
    "penalty_weight": 1e7,
    "label_weight": 1.0,
    "batch_size": 2048,
    "epochs": 1000,
    "learning_rate": 1e-3,
    "constant_rate": True,
    "weight_decay": 0.0,
}
#: Rows of a batch whose pairs make the penalty: its cost grows with the square.
PENALTY_ROWS = 512
MIN_STEPS = 600
#: With more labels than this (a numeric target) the latent has one law, not one a label.
MAX_LAWS = 16


class FairVAE(Generator):
    """Fair synthetic tables from a variational autoencoder with a distance-covariance penalty.

    Parameters
    ----------
    fairness : Fairness
        Criterion and strength; the strength scales the penalty and moves P(y, s) towards the criterion.
    preset : {"default", "paper"}
        ``"paper"`` overrides the sizes, the penalty and the training below by the published ones.
    latent_dim : int
        Dimensions of the latent.
    hidden : tuple of int
        Hidden layers of the encoder.
    decoder : {"autoregressive", "independent"}
        Whether a column sees the columns before it.
    decoder_hidden : tuple of int
        Hidden layers of the decoder.
    decoder_width : int
        Width of the autoregressive decoder's running sum.
    penalty : {"energy", "density"}
        Distance covariance with Székely's weight, or FairDisCo's.
    penalty_weight : float
        Its weight at full strength. For ``"density"`` 1e7 is published: densities are tiny numbers.
    beta : float
        Weight of the KL divergence.
    label_weight : float
        Weight of the label's cross-entropy.
    epochs : float
        Passes over the rows; small tables get at least 600 steps.
    batch_size : int
        Rows a step; at most an eighth of the table.
    learning_rate, constant_rate
        Of AdamW; see `nn.training.Plan`.
    weight_decay : float
        Of AdamW for a table of 1,000 rows; it falls with the number of rows, as the weight of a Gaussian prior
        beside the mean likelihood does.
    max_intervals : int
        Intervals of a number; see `data.encoding`.
    law_components : int
        Gaussians a label in the law of the latent.
    seed : int
        Decides everything.

    Attributes
    ----------
    group_names_ : tuple of str
        Joint groups that were seen.
    rare_groups_ : tuple of str
        Those of fewer than 30 rows: they are drawn, but what was learned of them rests on few people.
    label_law_ : np.ndarray
        P(y, s) that rows are drawn from ``(labels, groups)``.

    References
    ----------
    Liu et al., "Fair Representation Learning: An Alternative to Mutual Information", KDD 2022.
    """

    fairness: Fairness
    name: ClassVar[str] = "fairvae"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="variational autoencoder with a distance-covariance penalty; the teacher of the students",
        paper="FairDisCo, KDD 2022",
        criteria=CRITERIA,
        targets=("binary", "multiclass", "numeric"),
        teacher=True,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        preset: Literal["default", "paper"] = "default",
        latent_dim: int = 2,
        hidden: tuple[int, ...] = (192, 192),
        decoder: Literal["autoregressive", "independent"] = "autoregressive",
        decoder_hidden: tuple[int, ...] = (128,),
        decoder_width: int = 64,
        penalty: Literal["energy", "density"] = "energy",
        penalty_weight: float = 15.0,
        beta: float = 1.0,
        label_weight: float = 10.0,
        epochs: float = 25,
        batch_size: int = 1024,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.5,
        constant_rate: bool = False,
        max_intervals: int = 64,
        law_components: int = 12,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.preset = preset
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.decoder = decoder
        self.decoder_hidden = decoder_hidden
        self.decoder_width = decoder_width
        self.penalty = penalty
        self.penalty_weight = penalty_weight
        self.beta = beta
        self.label_weight = label_weight
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.constant_rate = constant_rate
        self.max_intervals = max_intervals
        self.law_components = law_components
        self.seed = seed

    def _setting(self, name: str) -> Any:
        return PAPER.get(name, getattr(self, name)) if self.preset == "paper" else getattr(self, name)

    def _check_settings(self) -> None:
        for name, choices in {
            "preset": ("default", "paper"),
            "decoder": ("autoregressive", "independent"),
            "penalty": ("energy", "density"),
        }.items():
            if getattr(self, name) not in choices:
                raise SettingsError(f"{name}={getattr(self, name)!r} is not one of {', '.join(choices)}.")
        for name in ("latent_dim", "decoder_width", "batch_size", "max_intervals", "law_components"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingsError(f"{name}={value!r} must be a whole number from 1 up.")
        for name in ("penalty_weight", "beta", "label_weight", "weight_decay"):
            if not 0 <= getattr(self, name) < np.inf:
                raise SettingsError(f"{name}={getattr(self, name)!r} must be a number from 0 up.")
        for name in ("epochs", "learning_rate"):
            if not 0 < getattr(self, name) < np.inf:
                raise SettingsError(f"{name}={getattr(self, name)!r} must be a number above 0.")
        for name in ("hidden", "decoder_hidden"):
            widths = getattr(self, name)
            if (
                not isinstance(widths, tuple | list)
                or not widths
                or any(int(w) != w or w < 1 for w in widths)
            ):
                raise SettingsError(
                    f"{name}={widths!r} must be one or more whole numbers, such as [192, 192]."
                )

    def _fit(self, table: Table, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        with threads(1):
            self._learn(table, progress, checkpoint)

    def _learn(self, table: Table, progress: Progress | None, checkpoint: Path | None) -> None:
        data = Training(table, TableEncoder.learn(table, max_intervals=self.max_intervals))
        kept = (
            Checkpoint(checkpoint, fingerprint(self, table, data.states)) if checkpoint is not None else None
        )
        net = self._network(data.layout, smooth=True)
        n = len(table)
        batch = min(self._setting("batch_size"), max(64, n // 8))
        plan = Plan(
            steps=steps_for(n, batch, self._setting("epochs"), MIN_STEPS),
            batch_size=batch,
            learning_rate=self._setting("learning_rate"),
            weight_decay=self._setting("weight_decay") * 1000 / n,
            constant=self._setting("constant_rate"),
        )
        train(
            net, self._loss(net, data), n_rows=n, plan=plan, seed=self.seed, stage="fit teacher", progress=progress,
            checkpoint=kept,
        )  # fmt: skip
        net.fold()
        self.net_ = net
        self.law_ = latent_law(net.encoder, data, self.law_components, self.seed)
        self.groups_ = Groups(data.group_levels, self._label_law(table, data))
        self._name_groups(data.layout, data.group_counts)

    def _network(self, layout: Layout, *, smooth: bool = False) -> Network:
        return build(
            self.seed,
            lambda: Network(
                layout,
                latent_dim=self._setting("latent_dim"),
                hidden=self._setting("hidden"),
                decoder=self._setting("decoder"),
                decoder_hidden=self._setting("decoder_hidden"),
                decoder_width=self.decoder_width,
                smooth=smooth,
            ),
        )

    def _loss(self, net: Network, data: Training) -> Any:
        weight = self._setting("penalty_weight") * self.fairness.strength
        label_weight = self._setting("label_weight")
        within = self._classes(data)

        def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            mean, log_var = net.encoder(data.all_states[rows])
            codes = reparameterise(mean, log_var, generator)
            labels = data.labels[rows]
            reconstruction, label = net.rows.losses(codes, data.features[rows], labels, data.levels[rows])
            kl = 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum(1).mean()
            total = reconstruction + self.beta * kl + label_weight * label
            if weight:
                total = total + weight * self._penalty(mean, log_var, codes, data.groups[rows], within[rows])
            return total, {"loss": float(total.detach())}

        return loss

    def _classes(self, data: Training) -> Tensor:
        """Return the class within which z must not depend on s; -1 where it may."""
        if self.fairness.criterion == "demographic_parity":
            return torch.zeros_like(data.labels)
        favorable = torch.from_numpy(data.layout.favorable)[data.labels]
        if self.fairness.criterion == "equalized_odds":
            return favorable.long()
        return torch.where(favorable, 1, -1)

    def _penalty(
        self, mean: Tensor, log_var: Tensor, codes: Tensor, groups: Tensor, classes: Tensor
    ) -> Tensor:
        total = codes.new_zeros(())
        for value in classes.unique().tolist():
            own = classes == value
            if value < 0 or int(own.sum()) < 4:
                continue
            if self._setting("penalty") == "energy":
                term = energy_distance_covariance(codes[own], groups[own], max_rows=PENALTY_ROWS)
            else:
                term = density_distance_covariance(
                    mean[own], log_var[own], groups[own], max_rows=PENALTY_ROWS
                )
            total = total + own.sum() / len(classes) * term
        return total

    def _label_law(self, table: Table, data: Training) -> np.ndarray:
        """Return P(y, s) to draw from."""
        counts = joint_counts(
            data.labels.numpy(), data.groups.numpy(), data.layout.n_labels, len(data.group_levels)
        )
        shifts = None
        if self.fairness.criterion != "demographic_parity" and self.fairness.strength > 0:
            favorable = data.layout.favorable
            if not favorable.any():
                raise CapabilityError(
                    f"{self.fairness.criterion} needs favorable values of a categorical target."
                )
            actual = favorable[data.labels.numpy()]
            shifts = matching_shifts(
                out_of_fold_scores(data, actual, self.seed),
                actual,
                data.groups.numpy(),
                len(data.group_levels),
                opportunity_only=self.fairness.criterion == "equal_opportunity",
            )
        return fair_table(counts, self.fairness, favorable=data.layout.favorable, shifts=shifts)

    def _name_groups(self, layout: Layout, counts: np.ndarray) -> None:
        names = [
            " × ".join(layout.level_names(a)[level] for a, level in enumerate(row))
            for row in self.groups_.levels.tolist()
        ]
        self.group_names_ = tuple(names)
        self.rare_groups_ = tuple(name for name, count in zip(names, counts, strict=True) if count < 30)
        self.label_law_ = self.groups_.table

    def _prepare(self, request: Request) -> Prepared:
        return self.net_.rows.prepare(request, self.groups_)

    def _draw(self, n: int, request: Prepared, seed: np.random.SeedSequence) -> Any:
        return self.net_.rows.draw(n, self._codes, self.groups_, request, seed)

    def _codes(self, n: int, generator: torch.Generator) -> Tensor:
        return self.law_.draw(n, generator, label_shares_for(self.law_, self.groups_))

    def transform(self, table: Table) -> np.ndarray:
        """Return the fair representation of real rows: posterior means, float32 ``(n, latent_dim)``.

        Parameters
        ----------
        table : Table
            Rows of the schema that was learned; see `Table.align`.
        """
        self._fitted()
        states = torch.from_numpy(self.net_.layout.encoder.encode(table).astype(np.int64))
        with torch.inference_mode():
            return torch.cat([self.net_.encoder(part)[0] for part in states.split(8192)]).numpy()

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        net = {f"net.{name}": p.detach().numpy() for name, p in self.net_.named_parameters()}
        documents = {
            "columns": self.net_.layout.encoder.to_json(),
            "groups": {"names": list(self.group_names_), "rare": list(self.rare_groups_)},
        }
        tensors = {**net, **self.law_.to_tensors(), **group_tensors(self.groups_)}
        return documents, tensors, [*ROWS_FROM_DATA, *TEACHER_FROM_DATA]

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        layout = Layout(TableEncoder.from_json(self.schema_, content.document("columns")))
        self.net_ = self._network(layout)
        tensors = dict(content.tensors)
        load_parameters(self.net_, {k[4:]: tensors.pop(k) for k in list(tensors) if k.startswith("net.")})
        self.net_.eval()
        self.groups_ = read_groups(tensors, layout)
        self.law_ = LatentLaw.from_tensors(tensors)
        if self.law_.dim != self._setting("latent_dim"):
            raise ValueError("the law of the latent has another dimension than the network")
        self.group_names_, self.rare_groups_ = read_names(content.document("groups"), self.groups_)
        self.label_law_ = self.groups_.table


class Network(nn.Module):
    """Encoder, label head and decoder.

    Parameters
    ----------
    layout : Layout
        Of the columns.
    latent_dim, hidden, decoder, decoder_hidden, decoder_width
        As of `FairVAE`.
    smooth : bool
        For training: neighbouring states of a number share a curve (`nn.curves`), until `fold`.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        latent_dim: int,
        hidden: tuple[int, ...],
        decoder: str,
        decoder_hidden: tuple[int, ...],
        decoder_width: int,
        smooth: bool,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.encoder = StateEncoder(layout.encoder.sizes, hidden, latent_dim)
        n_condition = latent_dim + sum(layout.levels)
        made: Decoder
        if decoder == "autoregressive":
            shared = curves([layout.encoder.states[j] for j in layout.features]) if smooth else None
            made = AutoregressiveDecoder(layout.sizes, n_condition, decoder_hidden, decoder_width, shared)
        else:
            made = IndependentDecoder(layout.sizes, n_condition, decoder_hidden)
        self.rows = LatentRows(layout, perceptron(latent_dim, (32,), layout.n_labels), made)

    def fold(self) -> None:
        """Leave training: put the shared curves into the decoder's weights."""
        if isinstance(self.rows.decoder, AutoregressiveDecoder):
            self.rows.decoder.fold()


class Training:
    """Rows as the tensors that training reads.

    Parameters
    ----------
    table : Table
        The rows.
    encoder : TableEncoder
        Their states.
    """

    def __init__(self, table: Table, encoder: TableEncoder) -> None:
        self.layout = Layout(encoder)
        self.table = table
        self.states = encoder.encode(table)
        self.all_states = torch.from_numpy(self.states.astype(np.int64))
        self.features = self.all_states[:, self.layout.features].contiguous()
        self.labels = self.all_states[:, self.layout.target].contiguous()
        levels = self.layout.group_levels(self.states)
        self.group_levels, groups, self.group_counts = np.unique(
            levels, axis=0, return_inverse=True, return_counts=True
        )
        self.levels = torch.from_numpy(levels)
        self.groups = torch.from_numpy(groups.reshape(-1).astype(np.int64))


def latent_law(encoder: nn.Module, data: Training, components: int, seed: int) -> LatentLaw:
    """Fit the law of the latent to one draw from the posterior of every row."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        codes = torch.cat(
            [_posterior(encoder, part, generator) for part in data.all_states.split(8192)]
        ).numpy()
    labels, n_labels = data.labels.numpy(), data.layout.n_labels
    if n_labels > MAX_LAWS:
        labels, n_labels = np.zeros_like(labels), 1
    return LatentLaw.fit(codes, labels, n_labels, components=components, seed=seed)


def _posterior(encoder: nn.Module, states: Tensor, generator: torch.Generator) -> Tensor:
    mean, log_var = encoder(states)
    return reparameterise(mean, log_var, generator)


def label_shares_for(law: LatentLaw, groups: Groups) -> np.ndarray | None:
    """Return the label shares that P(y, s) asks for, or None if the law has no labels."""
    shares = groups.table.sum(1)
    return shares if len(law.label_shares) == len(shares) else None


def out_of_fold_scores(data: Training, actual: np.ndarray, seed: int) -> np.ndarray:
    """Return the log odds of a favorable label by a LightGBM that did not see the row, float64 ``(n,)``."""
    import lightgbm
    from sklearn.model_selection import StratifiedKFold

    places = [j for j in range(len(data.layout.encoder.names)) if j != data.layout.target]
    values = np.column_stack([_ordinal(data, j) for j in places])
    categorical = [
        i for i, j in enumerate(places) if not isinstance(data.layout.encoder.states[j], NumberStates)
    ]
    scores = np.zeros(len(values))
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    for fitted, held in folds.split(values, actual):
        model = lightgbm.LGBMClassifier(n_estimators=100, random_state=seed, n_jobs=1, verbose=-1)
        model.fit(values[fitted], actual[fitted], categorical_feature=categorical)
        scores[held] = model.predict(values[held], raw_score=True)
    return scores


def _ordinal(data: Training, place: int) -> np.ndarray:
    states = data.layout.encoder.states[place]
    column = data.states[:, place]
    if isinstance(states, NumberStates):
        return (
            np.where(column == states.size - 1, np.nan, states._low[column])
            if states.missing
            else states._low[column]
        )
    return column.astype(np.float64)


ROWS_FROM_DATA = (
    {
        "what": "columns: values shared by at least 5 rows, quantiles averaged over 5 neighbouring values",
        "where": "documents/columns.json",
    },
    {"what": "names of the joint groups that were seen, and which have fewer than 30 rows",
     "where": "documents/groups.json"},
    {"what": "share of each label in each group, moved towards the criterion", "where": "groups.table"},
    {"what": "weights of the label head and the decoder", "where": "net.rows.*"},
)  # fmt: skip
TEACHER_FROM_DATA = (
    {"what": "weights of the encoder", "where": "net.encoder.*"},
    {"what": "law of the latent: shares, means and covariances of Gaussians a label", "where": "law.*"},
)


def group_tensors(groups: Groups) -> dict[str, np.ndarray]:
    """Return the groups under fixed names."""
    return {"groups.levels": groups.levels, "groups.table": groups.table}


def read_groups(tensors: dict[str, np.ndarray], layout: Layout) -> Groups:
    """Read what `group_tensors` wrote; a ValueError says that it does not belong here."""
    groups = Groups(tensors["groups.levels"], tensors["groups.table"])
    groups.check(layout)
    return groups


def read_names(body: Any, groups: Groups) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read the names of the groups, and of the rare ones."""
    names, rare = tuple(map(str, body["names"])), tuple(map(str, body["rare"]))
    if len(names) != len(groups.levels) or not set(rare) <= set(names):
        raise ValueError("the names of the groups do not fit their number")
    return names, rare


def replaced_parameters(model: FairVAE) -> int:
    """Return the number of parameters of the part that a student replaces: the encoder."""
    return count_parameters(model.net_.encoder)
