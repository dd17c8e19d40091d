"""LatentDistillation for images: a smaller encoder distilled from the teacher's, with the images at hand.

arXiv 2408.10755: the teacher is frozen; a smaller encoder E'(x, s), which is here told y as the teacher's is, learns in
latent space from a *quality loss* between z and z' and a KL *utility loss*; the teacher's decoder is shared (abstract).
The forms of the losses are ours, as for tables: squared error between posterior means, KL between the posteriors,
tau^2 KL between the label heads' outputs, on the law at which the teacher learned. Images are decoded from the law of
the distilled latent.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth.checkpoints import Checkpoint
from fairsynth.data.images import ImageSet
from fairsynth.errors import DataError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators.base import Capabilities, load_generator
from fairsynth.generators.images.balance import TrainingImages
from fairsynth.generators.images.base import image_fingerprint
from fairsynth.generators.images.fairvae import FairVAE, image_law, latent_means, widths
from fairsynth.generators.images.latent_images import (
    LatentImageGenerator,
    LatentPictures,
    draw_given,
    net_tensors,
    own_tensors,
    pictures_of,
    read_law,
)
from fairsynth.generators.layout import refuse_besides
from fairsynth.generators.settings import check_settings
from fairsynth.nn.convolutions import ConvolutionalEncoder
from fairsynth.nn.layers import count_parameters
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Plan, build, restore, steps_for, train
from fairsynth.progress import Progress

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle

#: A student may have at most this share of the parameters that it replaces.
MAX_SHARE = 0.25
#: Channels of the small encoder where none are given.
WIDTHS = (12, 24, 32, 32, 32, 32)
MIN_STEPS = 300


class LatentDistillation(LatentImageGenerator):
    """A smaller encoder in the place of the teacher's, distilled with the images.

    Parameters
    ----------
    fairness : Fairness
        Asked of the teacher if one has to be trained; a given teacher's own takes its place otherwise.
    teacher : FairVAE, path or None
        The teacher; None trains one with default settings.
    channels : tuple of int or None
        Of the small encoder's layers; it may have at most a quarter of the teacher's parameters. None chooses as many
        as the size of the images has room for.
    hidden : int
        Width of the layer after the convolutions; 0 for none.
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

    name: ClassVar[str] = "latent-distillation"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="small convolutional encoder distilled from FairVAE's with the images",
        paper="arXiv 2408.10755",
        criteria=("demographic_parity",),
        several_sensitive=False,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen
        teacher: FairVAE | str | os.PathLike[str] | None = None,
        channels: tuple[int, ...] | None = None,
        hidden: int = 32,
        quality_weight: float = 1.0,
        utility_weight: float = 1.0,
        temperature: float = 2.0,
        epochs: float = 4,
        batch_size: int = 256,
        learning_rate: float = 3e-3,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.teacher = teacher
        self.channels = channels
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
            whole=("batch_size", *(() if self.hidden == 0 else ("hidden",))),
            from_zero=("quality_weight", "utility_weight"),
            above_zero=("temperature", "epochs", "learning_rate"),
            widths=() if self.channels is None else ("channels",),
        )

    def _fit(self, images: ImageSet, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        teacher = teacher_of(self, images, progress, checkpoint)
        kept = None
        if checkpoint is not None:
            kept = Checkpoint(checkpoint, image_fingerprint(self, images) + fingerprint_of(teacher))
        student = self._student(images.shape, len(images.levels), len(images.classes), teacher.latent_dim_)
        refuse_large(student, teacher)
        n = len(images)
        batch = min(self.batch_size, max(32, n // 8))
        plan = Plan(steps_for(n, batch, self.epochs, MIN_STEPS), batch, self.learning_rate, weight_decay=0.0)
        data = TrainingImages(images, teacher._setting("balance"))
        with threads(1):
            train(
                student, self._loss(student, teacher, data), n_rows=n, plan=plan, seed=self.seed,
                stage="distil with data", progress=progress, checkpoint=kept,
            )  # fmt: skip
            self.law_ = image_law(student, images, teacher.law_components, self.seed)
        self.net_ = DistilledImages(student, teacher.net_.pictures)
        self.label_law_, self.fairness = teacher.label_law_, teacher.fairness
        self.temperature_ = float(teacher.temperature)

    def _student(
        self, shape: tuple[int, int, int], groups: int, classes: int, latent_dim: int
    ) -> ConvolutionalEncoder:
        channels = self.channels or widths(shape, WIDTHS)
        return build(
            self.seed, lambda: ConvolutionalEncoder(shape, groups, channels, self.hidden, latent_dim, classes)
        )

    def _loss(self, student: nn.Module, teacher: FairVAE, data: TrainingImages) -> Any:
        encoder, head = teacher.net_.encoder, teacher.net_.pictures.head
        teacher.net_.requires_grad_(False)
        tau = self.temperature

        def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            chosen, _ = data.chosen(rows, generator)
            x, groups, labels = data.pixels(chosen), data.groups[chosen], data.labels[chosen]
            with torch.no_grad():
                mean, log_var = encoder(x, groups, labels)
                wanted = (head(mean) / tau).log_softmax(1)
            own_mean, own_log_var = student(x, groups, labels)
            squared = (mean - own_mean).square()
            posterior = 0.5 * (
                (own_log_var - log_var).exp() + squared / log_var.exp() - 1 - own_log_var + log_var
            ).sum(1)
            # A teacher that is sure asks for more than a small encoder can give, and nothing else would be heard.
            posterior = (posterior + 1).log().mean()
            got = (head(own_mean) / tau).log_softmax(1)
            label = tau**2 * (wanted.exp() * (wanted - got)).sum(1).mean()
            quality = squared.sum(1).mean()
            total = self.quality_weight * quality + self.utility_weight * (posterior + label)
            return total, {"loss": float(total.detach()), "quality": float(quality.detach())}

        return loss

    def _codes(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        return draw_given(self.law_, labels, generator, self.temperature_)

    def latent(self, images: ImageSet) -> np.ndarray:
        """Return the distilled representation of real images: posterior means, float32 ``(n, latent_dim)``."""
        self._fitted()
        return latent_means(self.net_.encoder, images, self.shape_, self.levels_)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        told = [
            {"what": "weights of the label head and the decoder", "where": "net.pictures.*"},
            {"what": "weights of the small encoder", "where": "net.encoder.*"},
            {
                "what": "law of the latent: shares, means and covariances of Gaussians a label",
                "where": "law.*",
            },
        ]
        tensors = {**net_tensors(self.net_), **self.law_.to_tensors()}
        return {"decoder": {**self.net_.pictures.settings, "temperature": self.temperature_}}, tensors, told

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        settings: Any = content.document("decoder")
        self.temperature_ = float(settings["temperature"])
        if not 0 < self.temperature_ < 100:
            raise ValueError("the temperature is none")
        tensors = dict(content.tensors)
        classes, groups = len(self.classes_), len(self.levels_)

        def make() -> DistilledImages:
            pictures = pictures_of(settings, self.shape_, classes, groups)
            return DistilledImages(
                self._student(self.shape_, groups, classes, settings["latent_dim"]), pictures
            )

        self.net_ = restore(make, own_tensors(tensors), content.path)
        self.law_ = read_law(tensors, classes, settings["latent_dim"])
        refuse_besides(tensors)


class DistilledImages(nn.Module):
    """The student in the teacher's place, and the teacher's head and decoder.

    Parameters
    ----------
    encoder : nn.Module
        The student.
    pictures : LatentPictures
        The teacher's.
    """

    def __init__(self, encoder: nn.Module, pictures: LatentPictures) -> None:
        super().__init__()
        self.encoder, self.pictures = encoder, pictures


def teacher_of(model: Any, images: ImageSet, progress: Progress | None, checkpoint: Path | None) -> FairVAE:
    """Return the teacher that `model` was given, or train one.

    Raises
    ------
    SettingsError
        If what was given is no fitted teacher of images.
    DataError
        If it learned other images than these could be.
    """
    if model.teacher is None:
        folder = checkpoint / "teacher" if checkpoint is not None else None
        return FairVAE(fairness=model.fairness, seed=model.seed).fit(
            images, progress=progress, checkpoint=folder
        )
    given = model.teacher
    teacher: Any = load_generator(given) if isinstance(given, str | os.PathLike) else given
    if not isinstance(teacher, FairVAE):
        said = getattr(teacher, "name", type(teacher).__name__)
        raise SettingsError(f"the teacher is a {said}; give a fitted fairsynth.images.FairVAE or its file.")
    teacher._fitted()
    theirs = (teacher.shape_, teacher.classes_, teacher.levels_, teacher.label_, teacher.sensitive_)
    if theirs != (images.shape, images.classes, images.levels, images.label, images.sensitive):
        raise DataError(
            f"the images are not such as the teacher learned: {images.shape} of {images.label!r} "
            f"({', '.join(images.classes)}) and {images.sensitive!r} ({', '.join(images.levels)}), and the teacher's "
            f"are {theirs[0]} of {theirs[3]!r} ({', '.join(theirs[1])}) and {theirs[4]!r} ({', '.join(theirs[2])})."
        )
    return teacher


def fingerprint_of(teacher: FairVAE) -> str:
    """Return a checksum of everything that a student takes from its teacher."""
    total = hashlib.sha256()
    for name, array in sorted({**teacher._state()[1], "table": teacher.label_law_}.items()):
        total.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def refuse_large(student: nn.Module, teacher: FairVAE) -> None:
    """Raise SettingsError if the student is more than a quarter of the encoder that it replaces."""
    own, replaced = count_parameters(student), count_parameters(teacher.net_.encoder)
    if own > MAX_SHARE * replaced:
        raise SettingsError(
            f"the student would have {own:,} parameters, and the encoder that it replaces has {replaced:,}: more "
            f"than a quarter. Choose fewer channels or smaller hidden layers."
        )
