"""FLDGM for images: a generative model inside of the fair latent space, and the decoder that was there before.

Ramachandranpillai, Sikder and Heintz, "Fair Latent Deep Generative Models", ECAI 2023: the autoencoder whose latent
is independent of the group (here `FairVAE`) is frozen; an LSGAN, a WGAN-GP or a diffusion model learns the law of its
codes; what it draws is decoded with the group that one wants.

Ours: the generator of codes is told the label, so that label and group of an image can come from the table P(y, s); it
sees codes drawn anew from the posterior in each step, scaled to unit variance around the mean of their label; ten steps
of the second order in the place of 1,000 (`nn.ddpm`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth.checkpoints import Checkpoint
from fairsynth.data.images import ImageSet
from fairsynth.fairness import Fairness
from fairsynth.generators.base import Capabilities
from fairsynth.generators.fldgm import CRITIC_RATES, CRITIC_STEPS, RATES, check_latent_settings, setting_of
from fairsynth.generators.images.base import image_fingerprint
from fairsynth.generators.images.fairvae import FairVAE, encoded
from fairsynth.generators.images.latent_distillation import fingerprint_of, teacher_of
from fairsynth.generators.images.latent_images import (
    LatentImageGenerator,
    LatentPictures,
    net_tensors,
    own_tensors,
    pictures_of,
)
from fairsynth.generators.layout import refuse_besides
from fairsynth.nn.ddpm import CHUNK, Averaged, Diffusion, VelocityNetwork
from fairsynth.nn.gan import (
    leaky_perceptron,
    least_squares_critic_loss,
    least_squares_generator_loss,
    train_gan,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from fairsynth.nn.layers import reparameterise
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Loss, Plan, build, restore, train
from fairsynth.progress import Progress

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle


class FLDGM(LatentImageGenerator):
    """A diffusion model, a WGAN-GP or an LSGAN in the frozen latent space of a fair autoencoder of images.

    Parameters
    ----------
    fairness : Fairness
        Asked of the autoencoder if one has to be trained; a given one's own takes its place otherwise.
    teacher : FairVAE, path or None
        The fitted autoencoder; None trains one with default settings.
    kind : {"diffusion", "wgan-gp", "lsgan"}
        What learns the law of the codes.
    preset : {"default", "paper"}
        ``"paper"`` overrides width, sampling, batch and learning rate by the published ones. How long was not
        published.
    levels : int
        Noise levels T of the diffusion.
    width : int
        Of the diffusion's network.
    sampling_steps : int
        Calls of that network for a code.
    sampling_noise : float
        0 draws codes by a map from noise; 1 adds the noise of ancestral sampling, which wants `levels` steps.
    noise_dim : int
        Dimensions of an adversarial generator's noise.
    hidden, critic_hidden : tuple of int
        Hidden layers of an adversarial generator and its critic.
    penalty_weight : float
        Weight of the gradient penalty of ``"wgan-gp"``.
    steps : int
        Steps of the generator of codes.
    batch_size : int
        Codes a step; at most as many as there are images.
    learning_rate : float or None
        Peak of the cycle; None means what was found for tables: 3e-3 for the diffusion, 1e-3 for LSGAN, 5e-4 for
        WGAN-GP, whose critic learns 4 times as fast.
    constant_rate : bool
        Keep the learning rate at its peak.
    seed : int
        Decides everything.

    References
    ----------
    Ramachandranpillai, Sikder and Heintz, "Fair Latent Deep Generative Models (FLDGMs) for Syntax-Agnostic and Fair
    Synthetic Data Generation", ECAI 2023.
    """

    name: ClassVar[str] = "fldgm"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="diffusion, WGAN-GP or LSGAN in the frozen fair latent space of FairVAE",
        paper="FLDGM, ECAI 2023",
        criteria=("demographic_parity",),
        several_sensitive=False,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen
        teacher: FairVAE | str | os.PathLike[str] | None = None,
        kind: Literal["diffusion", "wgan-gp", "lsgan"] = "diffusion",
        preset: Literal["default", "paper"] = "default",
        levels: int = 1000,
        width: int = 128,
        sampling_steps: int = 10,
        sampling_noise: float = 0.0,
        noise_dim: int = 64,
        hidden: tuple[int, ...] = (64, 128, 256, 128, 64),
        critic_hidden: tuple[int, ...] = (128, 64, 32),
        penalty_weight: float = 1.0,
        steps: int = 2500,
        batch_size: int = 1024,
        learning_rate: float | None = None,
        constant_rate: bool = False,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.teacher = teacher
        self.kind = kind
        self.preset = preset
        self.levels = levels
        self.width = width
        self.sampling_steps = sampling_steps
        self.sampling_noise = sampling_noise
        self.noise_dim = noise_dim
        self.hidden = hidden
        self.critic_hidden = critic_hidden
        self.penalty_weight = penalty_weight
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.constant_rate = constant_rate
        self.seed = seed

    def _setting(self, name: str) -> Any:
        return setting_of(self, name)

    def _check_settings(self) -> None:
        check_latent_settings(self)

    def _fit(self, images: ImageSet, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        teacher = teacher_of(self, images, progress, checkpoint)
        teacher.net_.requires_grad_(False)
        kept = None
        if checkpoint is not None:
            kept = Checkpoint(checkpoint, image_fingerprint(self, images) + fingerprint_of(teacher))
        with threads(1):
            codes = ImageCodes(teacher.net_.encoder, images, self.seed, by_label=True)
            maker = self._learn(codes, progress, kept)
        self.net_ = LatentImages(maker, teacher.net_.pictures)
        self.latent_mean_, self.latent_scale_ = codes.mean.numpy(), codes.scale.numpy()
        self.label_law_, self.fairness = teacher.label_law_, teacher.fairness

    def _learn(
        self, codes: ImageCodes, progress: Progress | None, checkpoint: Checkpoint | None
    ) -> nn.Module:
        n, dim, classes = len(codes.labels), codes.scale.shape[1], codes.n_classes
        rate = self._setting("learning_rate") or RATES[self.kind]
        plan = Plan(
            self.steps, min(self._setting("batch_size"), n), rate, weight_decay=0.0,
            constant=self._setting("constant_rate"),
        )  # fmt: skip
        told: dict[str, Any] = {
            "n_rows": n, "plan": plan, "seed": self.seed, "stage": f"fit {self.kind} of codes",
            "progress": progress, "checkpoint": checkpoint,
        }  # fmt: skip
        if self.kind == "diffusion":
            diffusion = Diffusion(self.levels)
            averaged: Averaged = build(self.seed, lambda: Averaged(self._maker(dim, classes)))

            def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
                averaged.update()
                velocity = averaged.net.of(codes.labels[rows])  # type: ignore[operator]
                value = diffusion.loss(velocity, codes.draw(rows, generator), generator)
                return value, {"loss": float(value.detach())}

            train(averaged, loss, **told)
            averaged.update()
            return averaged.mean
        maker = build(self.seed, lambda: self._maker(dim, classes))
        critic = build(self.seed + 1, lambda: leaky_perceptron(dim + classes, self.critic_hidden, 1))
        judging, making = self._duel(maker, critic, codes)
        train_gan(
            maker, critic, critic_loss=judging, generator_loss=making, critic_steps=CRITIC_STEPS[self.kind],
            critic_rate=1.0 if self.preset == "paper" else CRITIC_RATES[self.kind], average=0.999, **told,
        )  # fmt: skip
        return maker

    def _duel(self, maker: nn.Module, critic: nn.Module, codes: ImageCodes) -> tuple[Loss, Loss]:
        """Return the losses of the critic and of the adversarial generator; both see the label beside the code."""
        wasserstein = self.kind == "wgan-gp"
        weight = self._setting("penalty_weight")

        def made(labels: Tensor, generator: torch.Generator) -> Tensor:
            code = maker(labels, torch.randn(len(labels), self.noise_dim, generator=generator))
            return torch.cat([code, one_hot(labels, codes.n_classes)], dim=1)

        def judging(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            labels = codes.labels[rows]
            with torch.no_grad():
                fake = made(labels, generator)
            real = torch.cat([codes.draw(rows, generator), one_hot(labels, codes.n_classes)], dim=1)
            if wasserstein:
                value = wasserstein_critic_loss(critic, real, fake, generator, weight)
            else:
                value = least_squares_critic_loss(critic, real, fake)
            return value, {"critic": float(value.detach())}

        def making(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            fake = made(codes.labels[rows], generator)
            loss = wasserstein_generator_loss if wasserstein else least_squares_generator_loss
            value = loss(critic, fake)
            return value, {"generator": float(value.detach())}

        return judging, making

    def _maker(self, dim: int, classes: int) -> nn.Module:
        if self.kind == "diffusion":
            return LabelledVelocity(dim, classes, self._setting("width"))
        return LabelledMaker(self.noise_dim, classes, self.hidden, dim)

    def _codes(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        maker, dim = self.net_.maker, self.latent_dim_
        if self.kind == "diffusion":
            diffusion = Diffusion(self.levels)
            parts = [
                diffusion.sample(
                    maker.of(part), len(part), dim, generator,
                    steps=self._setting("sampling_steps"), eta=self._setting("sampling_noise"),
                )
                for part in labels.split(CHUNK)
            ]  # fmt: skip
            codes = torch.cat(parts)
        else:
            codes = maker(labels, torch.randn(len(labels), self.noise_dim, generator=generator))
        scale, mean = torch.from_numpy(self.latent_scale_), torch.from_numpy(self.latent_mean_)
        return codes * scale[labels] + mean[labels]

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        told = [
            {"what": "weights of the label head and the decoder", "where": "net.pictures.*"},
            {"what": "weights of the generator of codes", "where": "net.maker.*"},
            {"what": "mean and standard deviation of the codes of each label", "where": "latent.*"},
        ]
        latent = {"latent.mean": self.latent_mean_, "latent.scale": self.latent_scale_}
        return {"decoder": self.net_.pictures.settings}, {**net_tensors(self.net_), **latent}, told

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        settings: Any = content.document("decoder")
        tensors = dict(content.tensors)
        classes, groups = len(self.classes_), len(self.levels_)

        def make() -> LatentImages:
            pictures = pictures_of(settings, self.shape_, classes, groups)
            return LatentImages(self._maker(settings["latent_dim"], classes), pictures)

        self.net_ = restore(make, own_tensors(tensors), content.path)
        self.latent_mean_, self.latent_scale_ = read_scale(tensors, (classes, settings["latent_dim"]))
        refuse_besides(tensors)


class ImageCodes:
    """The codes that a generator learns: one posterior an image, drawn from anew each time, in unit variance.

    Parameters
    ----------
    encoder : nn.Module
        Images, groups and labels to mean and log variance.
    images : ImageSet
        The images.
    seed : int
        Of the draw by which mean and scale are measured.
    by_label : bool
        Whether they are those of each label, or of all codes together.

    Attributes
    ----------
    labels, groups : Tensor
        int64 ``(n,)``.
    n_classes : int
        How many labels there are.
    mean, scale : Tensor
        Of the codes in each dimension, float32 ``(labels, latent)`` or ``(1, latent)``.
    """

    @torch.no_grad()
    def __init__(self, encoder: nn.Module, images: ImageSet, seed: int, *, by_label: bool) -> None:
        self.labels, self.groups = torch.from_numpy(images.labels), torch.from_numpy(images.groups)
        self.n_classes = len(images.classes)
        parts = [encoder(*encoded(images, rows, pixels)) for rows, pixels in images.batches(512)]
        self._means, self._log_vars = (torch.cat(list(side)) for side in zip(*parts, strict=True))
        codes = reparameterise(self._means, self._log_vars, torch.Generator().manual_seed(seed))
        self._place = self.labels if by_label else torch.zeros_like(self.labels)
        count = self.n_classes if by_label else 1
        mean, scale = codes.mean(0).repeat(count, 1), codes.std(0).repeat(count, 1)
        for place in self._place.unique().tolist():
            own = codes[self._place == place]
            if len(own) > 1:
                mean[place], scale[place] = own.mean(0), own.std(0)
        self.mean, self.scale = mean, scale.clamp_min(1e-6)

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return a code of each image, scaled, float32 ``(n, latent)``."""
        codes = reparameterise(self._means[rows], self._log_vars[rows], generator)
        place = self._place[rows]
        return (codes - self.mean[place]) / self.scale[place]


class LatentImages(nn.Module):
    """The generator of codes, and the autoencoder's head and decoder.

    Parameters
    ----------
    maker : nn.Module
        Of the velocity of a code, or of codes from noise.
    pictures : LatentPictures
        The autoencoder's.
    """

    def __init__(self, maker: nn.Module, pictures: LatentPictures) -> None:
        super().__init__()
        self.maker, self.pictures = maker, pictures


class LabelledVelocity(nn.Module):
    """The velocity of a noised code whose label is known.

    Parameters
    ----------
    dim, classes : int
        Dimensions of the codes, and labels.
    width : int
        Of every layer.
    """

    def __init__(self, dim: int, classes: int, width: int) -> None:
        super().__init__()
        self.dim, self.classes = dim, classes
        self.net = VelocityNetwork(dim + classes, width)

    def of(self, labels: Tensor) -> Any:
        """Return the velocity of codes of these labels int64 ``(n,)``, as ``(x_t, t) -> v``."""
        known = one_hot(labels, self.classes)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return self.net(torch.cat([x, known], dim=1), t)[:, : self.dim]

        return velocity


class LabelledMaker(nn.Module):
    """Noise and a label to a code.

    Parameters
    ----------
    noise_dim, classes : int
        Dimensions of the noise, and labels.
    hidden : tuple of int
        Hidden layers.
    dim : int
        Dimensions of the codes.
    """

    def __init__(self, noise_dim: int, classes: int, hidden: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.classes = classes
        self.net = leaky_perceptron(noise_dim + classes, hidden, dim)

    def forward(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Return codes ``(n, dim)`` of labels int64 ``(n,)`` and noise ``(n, noise_dim)``."""
        return self.net(torch.cat([noise, one_hot(labels, self.classes)], dim=1))


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return labels int64 ``(n,)`` as float32 ``(n, classes)``."""
    return nn.functional.one_hot(labels, classes).float()


def read_scale(tensors: dict[str, np.ndarray], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Take mean and scale of the codes out of a file's tensors; a ValueError or KeyError says that they are none."""
    mean, scale = tensors.pop("latent.mean"), tensors.pop("latent.scale")
    for array in (mean, scale):
        if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValueError("mean and scale of the codes are not of the latent's dimensions")
    if (scale <= 0).any():
        raise ValueError("the scale of the codes is not above 0")
    return mean, scale
