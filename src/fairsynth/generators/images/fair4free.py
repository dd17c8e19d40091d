"""Fair4Free for images: a small student that never sees an image, distilled from the teacher's file alone.

arXiv 2410.01423: the student E'(n) turns noise into latent codes, and the teacher's decoder turns those into images.
As for tables the promise is kept literally (ours): distillation reads one file, and matches distributions:

* sliced Wasserstein distance between E'(n, y) and the law of the latent given the label, label by label;
* agreement of the label head: the code of a label is to be read as that label as often as the law's own codes are.

The student is told the label (ours): an image of a wanted class is then drawn at once, and not searched for. The law in
the file knows no group, so there is no dependence on it to be kept small: the group enters in the decoder.

The law of a label has several hills, and a continuous map from noise has to put something into the valleys between.
So each label has cells of equal probability, among which chance chooses before the noise is looked at (ours); they
start at the hills that the teacher's file tells of, and learning moves them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth import bundle
from fairsynth.checkpoints import Checkpoint
from fairsynth.data.images import ImageSet
from fairsynth.errors import SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators.base import Capabilities
from fairsynth.generators.fair4free import sliced
from fairsynth.generators.images.base import image_generator_from
from fairsynth.generators.images.fairvae import FairVAE
from fairsynth.generators.images.latent_distillation import DistilledImages, refuse_large
from fairsynth.generators.images.latent_images import (
    LatentImageGenerator,
    draw_given,
    net_tensors,
    own_tensors,
    pictures_of,
)
from fairsynth.generators.layout import refuse_besides
from fairsynth.generators.settings import check_seed, check_settings
from fairsynth.nn.latent_law import LatentLaw
from fairsynth.nn.layers import perceptron
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Plan, build, restore, train
from fairsynth.progress import Progress

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle

#: Cells for each Gaussian of a label, and numbers by which the network knows a cell.
CELLS, CODE = 4, 16


class Fair4Free(LatentImageGenerator):
    """A data-free student: noise and a label to latent codes, decoded by the teacher's decoder.

    Call `distill(teacher_file)`; `fit(images)` is a convenience that trains a teacher, writes its file, and distils
    from that file alone.

    Parameters
    ----------
    fairness : Fairness
        Asked of the teacher that `fit` trains; `distill` takes the teacher's.
    noise_dim : int or None
        Dimensions of the noise; None means those of the latent.
    hidden : tuple of int
        Hidden layers of the student, which may have at most a quarter of the parameters of the encoder.
    cells : int or None
        Cells of each label, between which the student may jump; None means four for each Gaussian of the law that has
        the most of them.
    steps, learning_rate
        Of the distillation.
    per_label : int
        Codes of each label a step.
    projections : int
        Directions of the sliced Wasserstein distance a step.
    label_weight : float
        Weight of the head's agreement.
    seed : int
        Decides everything.

    References
    ----------
    "Fair4Free: Generating High-fidelity Fair Synthetic Samples using Data Free Distillation", arXiv 2410.01423.
    """

    name: ClassVar[str] = "fair4free"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="data-free student: noise to the fair latent, distilled from the teacher's file alone",
        paper="arXiv 2410.01423",
        criteria=("demographic_parity",),
        several_sensitive=False,
        data_free=True,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen
        noise_dim: int | None = None,
        hidden: tuple[int, ...] = (64, 64),
        cells: int | None = None,
        steps: int = 1500,
        per_label: int = 256,
        learning_rate: float = 3e-3,
        projections: int = 64,
        label_weight: float = 2.0,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.noise_dim = noise_dim
        self.hidden = hidden
        self.cells = cells
        self.steps = steps
        self.per_label = per_label
        self.learning_rate = learning_rate
        self.projections = projections
        self.label_weight = label_weight
        self.seed = seed

    def _check_settings(self) -> None:
        given = [name for name in ("noise_dim", "cells") if getattr(self, name) is not None]
        check_settings(
            self,
            whole=("steps", "per_label", "projections", *given),
            from_zero=("label_weight",),
            above_zero=("learning_rate",),
            widths=("hidden",),
        )

    def _fit(self, images: ImageSet, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        folder = checkpoint / "teacher" if checkpoint is not None else None
        teacher = FairVAE(fairness=self.fairness, seed=self.seed)
        teacher.fit(images, progress=progress, checkpoint=folder)
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
            A file that `FairVAE.save` wrote.
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
            If the file is no valid file of a model of images.
        SettingsError
            If it holds no teacher, or the student would be too large.
        """
        self._check_settings()
        content = bundle.read(teacher)
        model = image_generator_from(content)
        if not isinstance(model, FairVAE):
            raise SettingsError(
                f"{os.fspath(teacher)} holds a {model.name}, which cannot be distilled; a teacher is a fairvae."
            )
        if seed is not None:
            self.seed = seed
        check_seed(self.seed)
        settings = {
            **model.net_.pictures.settings,
            "noise_dim": self.noise_dim or model.latent_dim_,
            "cells": self.cells or CELLS * int((model.law_.weights > 0).sum(1).max()),
        }
        student = self._student(settings, len(model.classes_))
        student.start_at(model.law_, model.temperature)
        refuse_large(student, model)
        kept = None
        if checkpoint is not None:
            members = "".join(member.sha256 for _, member in sorted(content.members.items()))
            mark = f"{members}{sorted(self.get_params(deep=False).items())}"
            kept = Checkpoint(checkpoint, hashlib.sha256(mark.encode()).hexdigest())
        plan = Plan(self.steps, self.per_label, self.learning_rate, weight_decay=0.0)
        with threads(1):
            train(
                student, self._loss(student, model), n_rows=self.per_label, plan=plan, seed=self.seed,
                stage="distil without data", progress=progress, checkpoint=kept,
            )  # fmt: skip
        self.net_ = DistilledImages(student, model.net_.pictures)
        self.label_law_, self.fairness = model.label_law_, model.fairness
        self.decoder_settings_ = settings
        self.shape_, self.classes_, self.levels_ = model.shape_, model.classes_, model.levels_
        self.label_, self.sensitive_, self.favorable_ = model.label_, model.sensitive_, model.favorable_
        self.n_images_ = model.n_images_
        return self

    def _student(self, settings: Any, classes: int) -> LabelledNoise:
        return build(
            self.seed,
            lambda: LabelledNoise(
                settings["noise_dim"], classes, self.hidden, settings["latent_dim"], settings["cells"]
            ),
        )

    def _loss(self, student: nn.Module, teacher: FairVAE) -> Any:
        head, law = teacher.net_.pictures.head, teacher.law_
        teacher.net_.requires_grad_(False)
        seen = torch.from_numpy(np.flatnonzero(law.label_shares))
        labels = seen.repeat_interleave(self.per_label)
        each = (len(seen), self.per_label)

        def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            real = draw_given(law, labels, generator, teacher.temperature)
            made = student(labels, generator)
            directions = nn.functional.normalize(
                torch.randn(real.shape[1], self.projections, generator=generator), dim=0
            )
            # Sorted within each label: the distance is between laws given the label.
            wanted, got = (codes @ directions for codes in (real, made))
            distance = sliced(*(part.unflatten(0, each).transpose(0, 1).flatten(1) for part in (wanted, got)))
            surely, read = (
                nn.functional.cross_entropy(head(codes), labels, reduction="none").unflatten(0, each).mean(1)
                for codes in (real, made)
            )
            agreement = (surely - read).square().mean()
            total = distance + self.label_weight * agreement
            return total, {"distance": float(distance.detach()), "agreement": float(agreement.detach())}

        return loss

    def _codes(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        return self.net_.encoder(labels, generator)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        told = [
            {"what": "weights of the label head and the decoder", "where": "net.pictures.*"},
            {
                "what": "weights of the student, learned from the teacher's file alone",
                "where": "net.encoder.*",
            },
        ]
        return {"decoder": self.decoder_settings_}, net_tensors(self.net_), told

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        settings: Any = content.document("decoder")
        for name in ("noise_dim", "cells"):
            if type(settings[name]) is not int or not 1 <= settings[name] <= 65_536:
                raise ValueError(f"{name} is no number")
        self.decoder_settings_ = settings
        tensors = dict(content.tensors)
        classes, groups = len(self.classes_), len(self.levels_)
        self.net_ = restore(
            lambda: DistilledImages(
                self._student(settings, classes), pictures_of(settings, self.shape_, classes, groups)
            ),
            own_tensors(tensors),
            content.path,
        )
        refuse_besides(tensors)


class LabelledNoise(nn.Module):
    """Noise and a label to a latent code.

    Parameters
    ----------
    noise_dim : int
        Dimensions of the noise.
    classes : int
        How many labels there are.
    hidden : tuple of int
        Hidden layers.
    latent_dim : int
        Dimensions of the latent.
    cells : int
        Cells of each label; each has a place, a width in every dimension, and a code that the network is told.
    """

    def __init__(
        self, noise_dim: int, classes: int, hidden: tuple[int, ...], latent_dim: int, cells: int
    ) -> None:
        super().__init__()
        self.noise_dim, self.cells = noise_dim, cells
        self.centre = nn.Embedding(classes * cells, latent_dim)
        self.width = nn.Embedding(classes * cells, min(noise_dim, latent_dim))
        self.code = nn.Embedding(classes * cells, CODE)
        self.net = perceptron(noise_dim + CODE, hidden, latent_dim)
        last: Any = self.net[-1]  # nothing said at first: the codes are then those of the cells
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    @torch.no_grad()
    def start_at(self, law: LatentLaw, temperature: float) -> None:
        """Put the cells of each label where its Gaussians are, in proportion to their shares."""
        spread = temperature * np.sqrt(np.square(law.scales).sum(3))  # of each dimension by itself
        share = law.weights / np.maximum(law.weights.sum(1, keepdims=True), 1e-300)
        middle = (np.arange(self.cells) + 0.5) / self.cells
        for label, own in enumerate(share):
            ends = np.cumsum(own)
            place = np.minimum(np.searchsorted(ends, middle * max(ends[-1], 1e-300)), len(own) - 1)
            cells = slice(label * self.cells, (label + 1) * self.cells)
            self.centre.weight[cells] = torch.from_numpy(law.means[label, place]).float()
            narrow = torch.from_numpy(spread[label, place]).float()
            self.width.weight[cells] = narrow[:, : self.width.embedding_dim]

    def forward(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a code of each label int64 ``(n,)``, float32 ``(n, latent_dim)``."""
        noise = torch.randn(len(labels), self.noise_dim, generator=generator)
        cell = labels * self.cells + torch.randint(self.cells, (len(labels),), generator=generator)
        code = self.centre(cell) + self.net(torch.cat([noise, self.code(cell)], dim=1))
        straight = self.width(cell) * noise[:, : self.width.embedding_dim]
        return code + nn.functional.pad(straight, (0, code.shape[1] - straight.shape[1]))
