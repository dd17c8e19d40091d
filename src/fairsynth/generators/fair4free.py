"""Fair4Free: a small student that never sees a row, distilled from the teacher's file alone.

arXiv 2410.01423: the student E'(n) turns noise into latent codes, and the teacher's decoder turns those into rows.
In the paper's loop the teacher still reads the data to make the codes that the student imitates. Here the promise
is kept literally (ours): distillation reads one file, and matches distributions, because a loss from
sample to sample would teach a student that is fed noise the constant E[z]:

* sliced Wasserstein distance between E'(n) and the law of the latent in the file;
* agreement of the label head: the distribution of its outputs, and the shares of the labels;
* the dependence between z' and the group kept at the level that the teacher's own law has.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from fairsynth import bundle
from fairsynth.checkpoints import Checkpoint
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.table import Table
from fairsynth.errors import SettingsError
from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.generators.base import Capabilities, Generator, generator_from
from fairsynth.generators.fairvae import ROWS_FROM_DATA, FairVAE, label_shares_for
from fairsynth.generators.latent_distillation import (
    DistilledNetwork,
    decoder_settings,
    rebuild_rows,
    refuse_large,
)
from fairsynth.generators.latent_rows import Prepared
from fairsynth.generators.layout import Layout, group_tensors, read_groups, read_names, refuse_besides
from fairsynth.generators.requests import Request
from fairsynth.generators.settings import check_seed, check_settings
from fairsynth.nn.dependence import energy_distance_covariance
from fairsynth.nn.layers import NoiseEncoder
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Plan, build, restore, train
from fairsynth.progress import Progress

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle


class Fair4Free(Generator):
    """A data-free student: noise to latent codes, decoded by the teacher's decoder.

    Call `distill(teacher_file)`; `fit(table)` is a convenience that trains a teacher, writes its file, and distils
    from that file alone.

    Parameters
    ----------
    fairness : Fairness
        Asked of the teacher that `fit` trains; `distill` takes the teacher's.
    noise_dim : int or None
        Dimensions of the noise; None means those of the latent.
    hidden : tuple of int
        Hidden layers of the student, which may have at most a quarter of the parameters of the encoder.
    cells : int
        Cells of the first noise coordinate, between which the student may jump (`nn.layers.NoiseEncoder`).
    steps, batch_size, learning_rate
        Of the distillation.
    projections : int
        Directions of the sliced Wasserstein distance a step.
    label_weight, dependence_weight : float
        Weights of the head's agreement and of the dependence above the teacher's level.
    seed : int
        Decides everything.

    References
    ----------
    "Fair4Free: Generating High-fidelity Fair Synthetic Samples using Data Free Distillation", arXiv 2410.01423.
    """

    fairness: Fairness
    name: ClassVar[str] = "fair4free"
    fairness_optional: ClassVar[bool] = False
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="data-free student: noise to the fair latent, distilled from the teacher's file alone",
        paper="arXiv 2410.01423",
        criteria=CRITERIA,
        targets=("binary", "multiclass", "numeric"),
        data_free=True,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen
        noise_dim: int | None = None,
        hidden: tuple[int, ...] = (32, 32),
        cells: int = 64,
        steps: int = 1000,
        batch_size: int = 2048,
        learning_rate: float = 5e-3,
        projections: int = 16,
        label_weight: float = 5.0,
        dependence_weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.noise_dim = noise_dim
        self.hidden = hidden
        self.cells = cells
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.projections = projections
        self.label_weight = label_weight
        self.dependence_weight = dependence_weight
        self.seed = seed

    def _check_settings(self) -> None:
        check_settings(
            self,
            whole=(
                "steps",
                "batch_size",
                "projections",
                "cells",
                *(() if self.noise_dim is None else ("noise_dim",)),
            ),
            from_zero=("label_weight", "dependence_weight"),
            above_zero=("learning_rate",),
            widths=("hidden",),
        )

    def _fit(self, table: Table, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        folder = checkpoint / "teacher" if checkpoint is not None else None
        teacher = FairVAE(fairness=self.fairness, seed=self.seed)
        teacher.fit(table, progress=progress, checkpoint=folder)
        with tempfile.TemporaryDirectory(prefix="fairsynth-") as place:
            path = Path(place) / "teacher.fairsynth"
            teacher.save(path)
            own = checkpoint / "student" if checkpoint is not None else None
            self.distill(path, seed=self.seed, progress=progress, checkpoint=own)

    def distill(
        self,
        teacher: str | os.PathLike[str],
        *,
        seed: int | None = None,
        progress: Progress | None = None,
        checkpoint: Path | str | None = None,
    ) -> Self:
        """Learn from a teacher's file, and from nothing else.

        Parameters
        ----------
        teacher : path
            A file that `FairVAE.save` or ``fairsynth fit`` wrote.
        seed : int, optional
            Taken as the student's seed.
        progress, checkpoint
            As of `fit`.

        Returns
        -------
        Self

        Raises
        ------
        BundleError
            If the file is no valid model file.
        SettingsError
            If it holds no teacher, or the student would be too large.
        """
        self._check_settings()
        content = bundle.read(teacher)
        model = generator_from(content)
        if not isinstance(model, FairVAE):
            raise SettingsError(
                f"{os.fspath(teacher)} holds a {model.name}, which cannot be distilled; a teacher is a fairvae."
            )
        if seed is not None:
            self.seed = seed
        check_seed(self.seed)
        dim = self.noise_dim or model.law_.dim
        student = build(self.seed, lambda: NoiseEncoder(dim, self.hidden, model.law_.dim, self.cells))
        refuse_large(student, model)
        kept = None
        if checkpoint is not None:
            members = "".join(member.sha256 for _, member in sorted(content.members.items()))
            mark = hashlib.sha256(
                f"{members}{sorted(self.get_params(deep=False).items())}".encode()
            ).hexdigest()
            kept = Checkpoint(checkpoint, mark)
        plan = Plan(self.steps, self.batch_size, self.learning_rate, weight_decay=0.0)
        with threads(1):
            train(
                student, self._loss(student, model, dim), n_rows=self.batch_size, plan=plan, seed=self.seed,
                stage="distil without data", progress=progress, checkpoint=kept,
            )  # fmt: skip
        self.net_ = DistilledNetwork(student, model.net_.rows)
        self.groups_ = model.groups_
        self.group_names_, self.rare_groups_ = model.group_names_, model.rare_groups_
        self.fairness = model.fairness
        self.decoder_settings_ = {**decoder_settings(model), "noise_dim": dim}
        self.schema_, self.n_rows_ = model.schema_, model.n_rows_
        return self

    def _loss(self, student: torch.nn.Module, teacher: FairVAE, noise_dim: int) -> Any:
        head = teacher.net_.rows.head
        for parameter in teacher.net_.parameters():
            parameter.requires_grad_(False)
        shares = label_shares_for(teacher.law_, teacher.groups_)
        table = teacher.groups_.table
        label_share = table.sum(1, keepdims=True)
        group_given_label = torch.from_numpy(table / np.where(label_share > 0, label_share, 1)).float()
        level = self._dependence_level(teacher, group_given_label)

        def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            n = self.batch_size
            real = teacher.law_.draw(n, generator, shares)
            made = student(torch.randn(n, noise_dim, generator=generator))
            directions = torch.nn.functional.normalize(
                torch.randn(real.shape[1], self.projections, generator=generator), dim=0
            )
            distance = sliced(real @ directions, made @ directions)
            wanted, got = head(real).softmax(1), head(made).softmax(1)
            label = sliced(wanted, got) + (wanted.mean(0) - got.mean(0)).square().sum()
            total = distance + self.label_weight * label
            if self.dependence_weight:
                dependence = energy_distance_covariance(made, got @ group_given_label, max_rows=512)
                total = total + self.dependence_weight * torch.relu(dependence - level)
            return total, {"distance": float(distance.detach())}

        return loss

    def _dependence_level(self, teacher: FairVAE, group_given_label: Tensor) -> float:
        """Return how far the teacher's own law depends on the group, which the student must not exceed."""
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            codes = teacher.law_.draw(4096, generator, label_shares_for(teacher.law_, teacher.groups_))
            membership = teacher.net_.rows.head(codes).softmax(1) @ group_given_label
            return max(0.0, float(energy_distance_covariance(codes, membership)))

    def _prepare(self, request: Request) -> Prepared:
        return self.net_.rows.prepare(request, self.groups_)

    def _draw(self, n: int, request: Prepared, seed: np.random.SeedSequence) -> Any:
        def source(count: int, generator: torch.Generator) -> Tensor:
            noise = torch.randn(count, int(self.decoder_settings_["noise_dim"]), generator=generator)
            return self.net_.encoder(noise)

        return self.net_.rows.draw(n, source, self.groups_, request, seed)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        net = {f"net.{name}": p.detach().numpy() for name, p in self.net_.named_parameters()}
        documents = {
            "columns": self.net_.rows.layout.encoder.to_json(),
            "groups": {"names": list(self.group_names_), "rare": list(self.rare_groups_)},
            "decoder": self.decoder_settings_,
        }
        told = [
            {
                "what": "weights of the student, learned from the teacher's file alone",
                "where": "net.encoder.*",
            }
        ]
        return documents, {**net, **group_tensors(self.groups_)}, [*ROWS_FROM_DATA, *told]

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        layout = Layout(TableEncoder.from_json(self.schema_, content.document("columns")))
        settings: Any = content.document("decoder")
        self.decoder_settings_ = settings

        def make() -> DistilledNetwork:
            student = NoiseEncoder(settings["noise_dim"], self.hidden, settings["latent_dim"], self.cells)
            return DistilledNetwork(student, rebuild_rows(settings, layout))

        tensors = dict(content.tensors)
        self.net_ = restore(
            make, {k[4:]: tensors.pop(k) for k in list(tensors) if k.startswith("net.")}, content.path
        )
        self.groups_ = read_groups(tensors, layout)
        refuse_besides(tensors)
        self.group_names_, self.rare_groups_ = read_names(content.document("groups"), self.groups_)


def sliced(real: Tensor, made: Tensor) -> Tensor:
    """Return the mean squared distance between the sorted columns of two samples of equal size.

    For columns that are projections this is the sliced Wasserstein distance of order 2, squared (Bonneel
    et al., 2015).
    """
    return (real.sort(0).values - made.sort(0).values).square().mean()
