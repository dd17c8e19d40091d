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

from fairsynth.checkpoints import Checkpoint
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.table import Table
from fairsynth.errors import CapabilityError, DataError
from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.generators.base import Capabilities, Generator, fingerprint
from fairsynth.generators.calibration import PROBE_ROWS, calibrated_shifts
from fairsynth.generators.group_law import fair_table, joint_counts
from fairsynth.generators.latent_rows import LatentRows, Prepared
from fairsynth.generators.layout import Groups, Layout, group_tensors, read_groups, read_names, refuse_besides
from fairsynth.generators.requests import Request
from fairsynth.generators.settings import check_settings
from fairsynth.nn.curves import curves
from fairsynth.nn.decoders import AutoregressiveDecoder, Decoder, IndependentDecoder
from fairsynth.nn.dependence import density_distance_covariance, energy_distance_covariance
from fairsynth.nn.latent_law import LatentLaw
from fairsynth.nn.layers import StateEncoder, count_parameters, perceptron, reparameterise
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Plan, build, restore, steps_for, train
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
    "calibrate": False,
    "contrast_weight": 0.0,
    "batch_size": 2048,
    "epochs": 1000,
    "learning_rate": 1e-3,
    "constant_rate": True,
    "weight_decay": 0.0,
}
#: Rows of a batch whose pairs make the penalty: its cost grows with the square.
PENALTY_ROWS = 512
MIN_STEPS = 600
#: Up to so many rows the contrast has its full weight; with more, the likelihood finds the labels by itself.
CONTRAST_ROWS = 5000
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
    contrast_weight : float
        Weight of telling labels apart by the other columns; it falls with the number of rows above 5,000.
    calibrate : bool
        Set the shift of each group's labels by what a probe decides on the real rows (`calibration`).
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
    fairness_optional: ClassVar[bool] = False
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
        penalty_weight: float = 5.0,
        beta: float = 1.0,
        label_weight: float = 10.0,
        contrast_weight: float = 5.0,
        calibrate: bool = True,
        epochs: float = 40,
        batch_size: int = 1024,
        learning_rate: float = 3e-3,
        weight_decay: float = 1.0,
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
        self.contrast_weight = contrast_weight
        self.calibrate = calibrate
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
        check_settings(
            self,
            choices={
                "preset": ("default", "paper"),
                "decoder": ("autoregressive", "independent"),
                "penalty": ("energy", "density"),
            },
            whole=("latent_dim", "decoder_width", "batch_size", "max_intervals", "law_components"),
            from_zero=("penalty_weight", "beta", "label_weight", "contrast_weight", "weight_decay"),
            above_zero=("epochs", "learning_rate"),
            widths=("hidden", "decoder_hidden"),
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
        self.groups_ = Groups(data.group_levels, self._label_law(data))
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
        contrast = self._setting("contrast_weight") * min(1.0, CONTRAST_ROWS / len(data.labels))
        within = self._classes(data)

        def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            mean, log_var = net.encoder(data.all_states[rows])
            codes = reparameterise(mean, log_var, generator)
            labels = data.labels[rows]
            each, label = net.rows.losses(codes, data.features[rows], labels, data.levels[rows])
            reconstruction = each.mean()
            kl = 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum(1).mean()
            total = reconstruction + self.beta * kl + label_weight * label
            if contrast:
                total = total + contrast * self._contrast(net, data, rows, codes, each, generator)
            if weight:
                total = total + weight * self._penalty(mean, log_var, codes, data.groups[rows], within[rows])
            return total, {"loss": float(total.detach())}

        return loss

    def _contrast(
        self,
        net: Network,
        data: Training,
        rows: Tensor,
        codes: Tensor,
        each: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the cross-entropy of telling each row's own code from that of a row with another label.

        By Bayes' rule ``p(x | z, s) p(y | s)`` says which label a row has. A likelihood over many columns hardly
        rewards getting that right where rows are few, and it is what a later model lives on; so it is asked
        for directly, as in hybrid generative-discriminative training (Lasserre, Bishop and Minka, CVPR 2006). Ours.
        """
        other = torch.randperm(len(rows), generator=generator)
        differ = (data.labels[rows] != data.labels[rows][other]).nonzero()[:, 0]
        # Where its weight is small, a part of the batch will do: the mean is the same, and it costs less.
        differ = differ[: max(64, int(len(rows) * CONTRAST_ROWS / len(data.labels)))]
        if len(differ) < 2:
            return codes.new_zeros(())
        foreign_labels = data.labels[rows][other][differ]
        rows, other = rows[differ], other[differ]
        levels = data.levels[rows]
        condition = torch.cat([codes[other], data.layout.one_hot(levels)], dim=1)
        foreign = net.rows.decoder.row_losses(condition, data.features[rows], data.layout.allowed(levels))
        log_prior = data.log_label_given_group
        groups = data.groups[rows]
        own = log_prior[data.labels[rows], groups] - each[differ]
        with_other = log_prior[foreign_labels, groups] - foreign
        return nn.functional.softplus(with_other - own).mean()

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

    def _label_law(self, data: Training) -> np.ndarray:
        """Return P(y, s) to draw from, calibrated if that is asked for and can be."""
        favorable = data.layout.favorable
        if self.fairness.criterion != "demographic_parity" and not favorable.any():
            raise CapabilityError(
                f"{self.fairness.criterion} needs favorable values of a categorical target."
            )
        shifts = np.zeros(len(data.group_levels))
        if self.fairness.strength > 0 and favorable.any() and self._calibrated():
            shifts = self._calibrate(data, favorable)
        return fair_table(data.counts, self.fairness, favorable=favorable, shifts=shifts)

    def _calibrated(self) -> bool:
        return bool(self._setting("calibrate")) or self.fairness.criterion != "demographic_parity"

    def _calibrate(self, data: Training, favorable: np.ndarray) -> np.ndarray:
        """Find the shifts at full strength, by drawing from this model."""
        full = Fairness(self.fairness.criterion, 1.0)
        n = min(len(data.table), PROBE_ROWS)

        def draw(shifts: np.ndarray, turn: int) -> Table:
            groups = Groups(
                data.group_levels, fair_table(data.counts, full, favorable=favorable, shifts=shifts)
            )
            rows = self.net_.rows

            def source(count: int, generator: torch.Generator) -> Tensor:
                return self.law_.draw(count, generator, label_shares_for(self.law_, groups))

            prepared = rows.prepare(Request({}, None), groups)
            return data.table.replace(
                rows.draw(n, source, groups, prepared, np.random.SeedSequence([self.seed, 7, turn]))
            )

        return calibrated_shifts(
            draw, data.table, data.groups.numpy(), len(data.group_levels), full, seed=self.seed
        )

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
        tensors = dict(content.tensors)
        own = {k[4:]: tensors.pop(k) for k in list(tensors) if k.startswith("net.")}
        self.net_ = restore(lambda: self._network(layout), own, content.path)
        self.groups_ = read_groups(tensors, layout)
        self.law_ = read_law(tensors)
        refuse_besides(tensors)
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
        if len(self.group_levels) < 2:
            raise DataError(
                f"all rows are of one group of {', '.join(table.schema.sensitive)}, as far as the remembered range of "
                "numbers goes: every measure of fairness would be perfect and mean nothing. Choose other edges."
            )
        self.levels = torch.from_numpy(levels)
        self.groups = torch.from_numpy(groups.reshape(-1).astype(np.int64))
        self.counts = joint_counts(
            self.labels.numpy(), self.groups.numpy(), self.layout.n_labels, len(self.group_levels)
        )
        given_group = (self.counts + 0.5) / (self.counts + 0.5).sum(0)
        self.log_label_given_group = torch.from_numpy(np.log(given_group)).float()


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


ROWS_FROM_DATA = (
    {
        "what": "columns: values shared by at least 5 rows, quantiles averaged over 5 neighbouring values, "
        "where the numbers between them lie on average, how round they are, which columns follow from others, "
        "which moments are told by the time since another one, which numbers are never below others, "
        "and which value of a column, of those of at least 5 rows, decides which of another",
        "where": "documents/columns.json",
    },
    {"what": "names of the joint groups that were seen, and which have fewer than 30 rows",
     "where": "documents/groups.json"},
    {"what": "which joint groups were seen", "where": "groups.levels"},
    {"what": "share of each label in each group, moved towards the criterion", "where": "groups.table"},
    {"what": "weights of the label head and the decoder", "where": "net.rows.*"},
)  # fmt: skip
TEACHER_FROM_DATA = (
    {"what": "weights of the encoder", "where": "net.encoder.*"},
    {"what": "law of the latent: shares, means and covariances of Gaussians a label", "where": "law.*"},
)


def read_law(tensors: dict[str, np.ndarray]) -> LatentLaw:
    """Read the law of the latent; a ValueError or KeyError says that it is none."""
    return LatentLaw.from_tensors(
        {name: tensors.pop(name) for name in list(tensors) if name.startswith("law.")}
    )


def replaced_parameters(model: FairVAE) -> int:
    """Return the number of parameters of the part that a student replaces: the encoder."""
    return count_parameters(model.net_.encoder)
