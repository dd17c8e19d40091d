"""LatentDistillation: a smaller encoder distilled from the teacher's, with the data at hand.

arXiv 2408.10755 ("syntax-agnostic" latent distillation): the teacher is frozen; a smaller encoder E'(x, s) learns in
latent space from a *quality loss* between z and z' and a KL *utility loss*; the teacher's decoder is shared
(abstract). The forms of the losses are ours: squared error between the posterior means, KL between the two
posteriors, and tau^2 KL between the label heads' outputs. Rows are decoded from the law of the distilled latent.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth.checkpoints import Checkpoint
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.schema import Schema
from fairsynth.data.table import Table
from fairsynth.errors import DataError, SettingsError
from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.generators.base import Capabilities, Generator, fingerprint, load_generator
from fairsynth.generators.fairvae import (
    ROWS_FROM_DATA,
    FairVAE,
    Training,
    label_shares_for,
    latent_law,
    read_law,
)
from fairsynth.generators.latent_rows import LatentRows, Prepared
from fairsynth.generators.layout import Layout, group_tensors, read_groups, read_names, refuse_besides
from fairsynth.generators.requests import Request
from fairsynth.generators.settings import check_settings
from fairsynth.nn.layers import StateEncoder, count_parameters
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Plan, build, restore, steps_for, train
from fairsynth.progress import Progress

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle

#: A student may have at most this share of the parameters that it replaces.
MAX_SHARE = 0.25
#: Steps of a distillation, at least.
MIN_STEPS = 300


class LatentDistillation(Generator):
    """A smaller encoder in the place of the teacher's, distilled with the data.

    Parameters
    ----------
    fairness : Fairness
        Asked of the teacher if one has to be trained; a given teacher's own takes its place otherwise.
    teacher : FairVAE, path or None
        The teacher; None trains one with default settings.
    hidden : tuple of int
        Hidden layers of the small encoder; it may have at most a quarter of the teacher's parameters.
    quality_weight : float
        Weight of the squared error between posterior means.
    utility_weight : float
        Weight of the KL between posteriors, and of tau^2 KL between label heads.
    temperature : float
        tau, which softens the label heads' outputs.
    epochs, batch_size, learning_rate
        Of the training.
    seed : int
        Decides everything.

    References
    ----------
    "Distilling fair representations from fair teachers", arXiv 2408.10755.
    """

    fairness: Fairness
    name: ClassVar[str] = "latent-distillation"
    fairness_optional: ClassVar[bool] = False
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="small encoder distilled from FairVAE's with the data",
        paper="arXiv 2408.10755",
        criteria=CRITERIA,
        targets=("binary", "multiclass", "numeric"),
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen
        teacher: FairVAE | str | os.PathLike[str] | None = None,
        hidden: tuple[int, ...] = (32,),
        quality_weight: float = 1.0,
        utility_weight: float = 1.0,
        temperature: float = 2.0,
        epochs: float = 10,
        batch_size: int = 1024,
        learning_rate: float = 5e-3,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.teacher = teacher
        self.hidden = hidden
        self.quality_weight = quality_weight
        self.utility_weight = utility_weight
        self.temperature = temperature
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed

    def _check_settings(self) -> None:
        check_settings(
            self,
            whole=("batch_size",),
            from_zero=("quality_weight", "utility_weight"),
            above_zero=("temperature", "epochs", "learning_rate"),
            widths=("hidden",),
        )

    def _fit(self, table: Table, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        teacher = self._teacher(table, progress, checkpoint)
        layout = teacher.net_.layout
        data = Training(table, layout.encoder)
        kept = None
        if checkpoint is not None:
            kept = Checkpoint(checkpoint, fingerprint(self, table, data.states) + _fingerprint_of(teacher))
        student: StateEncoder = build(
            self.seed, lambda: StateEncoder(layout.encoder.sizes, self.hidden, teacher.law_.dim)
        )
        refuse_large(student, teacher)
        batch = min(self.batch_size, max(64, len(table) // 8))
        plan = Plan(steps_for(len(table), batch, self.epochs, MIN_STEPS), batch, self.learning_rate)
        with threads(1):
            train(
                student, self._loss(student, teacher, data), n_rows=len(table), plan=plan, seed=self.seed,
                stage="distil with data", progress=progress, checkpoint=kept,
            )  # fmt: skip
            self.law_ = latent_law(student, data, teacher.law_components, self.seed)
        self.net_ = DistilledNetwork(student, teacher.net_.rows)
        self.groups_ = teacher.groups_
        self.group_names_, self.rare_groups_ = teacher.group_names_, teacher.rare_groups_
        self.fairness = teacher.fairness
        self.decoder_settings_ = decoder_settings(teacher)

    def _teacher(self, table: Table, progress: Progress | None, checkpoint: Path | None) -> FairVAE:
        if self.teacher is None:
            folder = checkpoint / "teacher" if checkpoint is not None else None
            return FairVAE(fairness=self.fairness, seed=self.seed).fit(
                table, progress=progress, checkpoint=folder
            )
        teacher = self.teacher if isinstance(self.teacher, Generator) else load_generator(self.teacher)
        if not isinstance(teacher, FairVAE):
            raise SettingsError(f"the teacher is a {teacher.name}; give a fitted FairVAE or its file.")
        teacher._fitted()
        if _meaning(teacher.schema_) != _meaning(table.schema):
            raise DataError(
                "the table has other columns, levels or roles than the teacher learned; read it with the teacher's "
                "schema: Table(frame, schema=teacher.schema_)."
            )
        return teacher

    def _loss(self, student: StateEncoder, teacher: FairVAE, data: Training) -> Any:
        encoder, head = teacher.net_.encoder, teacher.net_.rows.head
        for parameter in teacher.net_.parameters():
            parameter.requires_grad_(False)
        tau = self.temperature

        def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            states = data.all_states[rows]
            mean, log_var = encoder(states)
            own_mean, own_log_var = student(states)
            quality = (mean - own_mean).square().sum(1).mean()
            ratio = (own_log_var - log_var).exp()
            squared = (mean - own_mean).square() / log_var.exp()
            posterior = 0.5 * (ratio + squared - 1 - own_log_var + log_var).sum(1).mean()
            wanted = (head(mean) / tau).log_softmax(1)
            got = (head(own_mean) / tau).log_softmax(1)
            label = tau**2 * (wanted.exp() * (wanted - got)).sum(1).mean()
            total = self.quality_weight * quality + self.utility_weight * (posterior + label)
            return total, {"loss": float(total.detach())}

        return loss

    def _prepare(self, request: Request) -> Prepared:
        return self.net_.rows.prepare(request, self.groups_)

    def _draw(self, n: int, request: Prepared, seed: np.random.SeedSequence) -> Any:
        def source(count: int, generator: torch.Generator) -> Tensor:
            return self.law_.draw(count, generator, label_shares_for(self.law_, self.groups_))

        return self.net_.rows.draw(n, source, self.groups_, request, seed)

    def transform(self, table: Table) -> np.ndarray:
        """Return the distilled representation of real rows: posterior means, float32 ``(n, latent_dim)``."""
        self._fitted()
        states = torch.from_numpy(self.net_.rows.layout.encoder.encode(table).astype(np.int64))
        with torch.inference_mode():
            return torch.cat([self.net_.encoder(part)[0] for part in states.split(8192)]).numpy()

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        net = {f"net.{name}": p.detach().numpy() for name, p in self.net_.named_parameters()}
        documents = {
            "columns": self.net_.rows.layout.encoder.to_json(),
            "groups": {"names": list(self.group_names_), "rare": list(self.rare_groups_)},
            "decoder": self.decoder_settings_,
        }
        told = [
            {"what": "weights of the small encoder", "where": "net.encoder.*"},
            {
                "what": "law of the latent: shares, means and covariances of Gaussians a label",
                "where": "law.*",
            },
        ]
        tensors = {**net, **self.law_.to_tensors(), **group_tensors(self.groups_)}
        return documents, tensors, [*ROWS_FROM_DATA, *told]

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        layout = Layout(TableEncoder.from_json(self.schema_, content.document("columns")))
        settings: Any = content.document("decoder")
        self.decoder_settings_ = settings

        def make() -> DistilledNetwork:
            encoder = StateEncoder(layout.encoder.sizes, self.hidden, settings["latent_dim"])
            return DistilledNetwork(encoder, rebuild_rows(settings, layout))

        tensors = dict(content.tensors)
        self.net_ = restore(
            make, {k[4:]: tensors.pop(k) for k in list(tensors) if k.startswith("net.")}, content.path
        )
        self.groups_, self.law_ = read_groups(tensors, layout), read_law(tensors)
        refuse_besides(tensors)
        self.group_names_, self.rare_groups_ = read_names(content.document("groups"), self.groups_)
        if self.law_.dim != settings["latent_dim"]:
            raise ValueError("the law of the latent has another dimension than the network")


class DistilledNetwork(nn.Module):
    """The student in the teacher's place, and the teacher's head and decoder.

    Parameters
    ----------
    encoder : nn.Module
        The student.
    rows : LatentRows
        The teacher's.
    """

    def __init__(self, encoder: nn.Module, rows: LatentRows) -> None:
        super().__init__()
        self.encoder, self.rows = encoder, rows


def _fingerprint_of(teacher: FairVAE) -> str:
    """Return a checksum of everything that a student takes from its teacher."""
    documents, tensors, _ = teacher._state()
    total = hashlib.sha256(json.dumps(documents, sort_keys=True).encode())
    for name, array in sorted(tensors.items()):
        total.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _meaning(schema: Schema) -> list[Any]:
    """Return what of a schema decides how rows become states."""
    roles = [schema.target, schema.favorable, schema.sensitive, schema.identifiers]
    held = [(c.name, c.kind, c.levels, c.minimum, c.maximum, c.decimals, c.unit, c.edges) for c in schema]
    return [*roles, *held]


def refuse_large(student: nn.Module, teacher: FairVAE) -> None:
    """Raise SettingsError if the student is more than a quarter of the encoder that it replaces."""
    own, replaced = count_parameters(student), count_parameters(teacher.net_.encoder)
    if own > MAX_SHARE * replaced:
        raise SettingsError(
            f"the student would have {own:,} parameters, and the encoder that it replaces has {replaced:,}: more "
            f"than a quarter. Choose smaller hidden layers."
        )


def decoder_settings(teacher: FairVAE) -> dict[str, Any]:
    """Return what the decoder and head are rebuilt from, as plain JSON values."""
    return {
        "latent_dim": teacher.law_.dim,
        "decoder": teacher._setting("decoder"),
        "decoder_hidden": list(teacher._setting("decoder_hidden")),
        "decoder_width": teacher.decoder_width,
    }


def rebuild_rows(settings: Any, layout: Layout) -> LatentRows:
    """Make head and decoder of the sizes in `settings`; the weights come from the file."""
    shell = FairVAE(
        latent_dim=settings["latent_dim"],
        decoder=settings["decoder"],
        decoder_hidden=tuple(settings["decoder_hidden"]),
        decoder_width=settings["decoder_width"],
        hidden=(1,),
    )
    shell._check_settings()
    return shell._network(layout).rows
