"""FLDGM: a generative model inside of the fair latent space, and the decoder that was there before.

Ramachandranpillai, Sikder and Heintz, "Fair Latent Deep Generative Models", ECAI 2023: the autoencoder whose latent
is independent of the group (here `FairVAE`) is frozen; an LSGAN, a WGAN-GP or a diffusion model learns the law of its
codes; what it draws is decoded with the group that one wants. Published sizes: see `PAPER` and the settings.

Ours: the label comes from a head that is blind to the group, and the group from the table P(y, s) that holds the
criterion (`latent_rows`); the network sees codes drawn anew from the posterior in each step, not one code a row, and
scaled to unit variance; codes are kept with odds at which the labels come in the shares of that table, which a
generator of codes alone misses by what it has not learned; ten steps of the second order in the place of 1,000
(`nn.ddpm`); a narrower network, since the default latent has two dimensions.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth.checkpoints import Checkpoint
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.table import Table
from fairsynth.errors import SettingsError
from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.generators.base import Capabilities, Generator, fingerprint
from fairsynth.generators.fairvae import ROWS_FROM_DATA, FairVAE, Training
from fairsynth.generators.latent_distillation import (
    LatentDistillation,
    _fingerprint_of,
    decoder_settings,
    rebuild_rows,
)
from fairsynth.generators.latent_rows import LatentRows, Prepared
from fairsynth.generators.layout import Layout, group_tensors, read_groups, read_names, refuse_besides
from fairsynth.generators.requests import Request
from fairsynth.generators.settings import check_settings
from fairsynth.nn.ddpm import Averaged, Diffusion, VelocityNetwork
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

#: What was published (FLDGM, section 5 and its code): the network of the velocity, ancestral sampling, Adam.
PAPER: dict[str, Any] = {
    "width": 256,
    "sampling_steps": 1000,
    "sampling_noise": 1.0,
    "batch_size": 2048,
    "learning_rate": 2e-4,
    "constant_rate": True,
    "penalty_weight": 10.0,
}
#: Hidden layers of the published generator and critic; between 64 numbers of noise, the code, and one number.
GENERATOR_HIDDEN = (64, 128, 256, 128, 64)
CRITIC_HIDDEN = (128, 64, 32)
#: Steps of the critic before one of the generator.
CRITIC_STEPS = {"wgan-gp": 5, "lsgan": 1}
#: Learning rates where none is given, and the critic's as a multiple of it.
RATES = {"diffusion": 3e-3, "wgan-gp": 5e-4, "lsgan": 1e-3}
CRITIC_RATES = {"wgan-gp": 4.0, "lsgan": 1.0}
#: Noise levels that a file may ask for.
MAX_LEVELS = 100_000
#: Codes by which it is found out how often each label comes.
COUNTED = 20_000
#: The odds of keeping codes of different labels differ by no more than this in each direction.
MAX_ODDS = 8.0


def setting_of(model: Any, name: str) -> Any:
    """Return a setting of an FLDGM of rows or of images, as its preset has it."""
    return PAPER.get(name, getattr(model, name)) if model.preset == "paper" else getattr(model, name)


def check_latent_settings(model: Any) -> None:
    """Refuse settings that no FLDGM, of rows or of images, can be learned with.

    Raises
    ------
    SettingsError
        If one is not of its kind or out of its range.
    """
    check_settings(
        model,
        choices={"kind": ("diffusion", "wgan-gp", "lsgan"), "preset": ("default", "paper")},
        whole=("levels", "width", "sampling_steps", "noise_dim", "steps", "batch_size"),
        from_zero=("sampling_noise", "penalty_weight"),
        above_zero=() if model.learning_rate is None else ("learning_rate",),
        widths=("hidden", "critic_hidden"),
    )
    if model.levels > MAX_LEVELS:
        raise SettingsError(f"levels={model.levels!r} must be at most {MAX_LEVELS:,}.")
    if model.sampling_noise > 1:  # more than there is room for at a level
        raise SettingsError(f"sampling_noise={model.sampling_noise!r} must lie between 0 and 1.")


class FLDGM(Generator):
    """A diffusion model, a WGAN-GP or an LSGAN in the frozen latent space of a fair autoencoder.

    Parameters
    ----------
    fairness : Fairness
        Asked of the autoencoder if one has to be trained; a given one's own takes its place otherwise.
    teacher : FairVAE, path or None
        The fitted autoencoder; None trains one with default settings.
    kind : {"diffusion", "wgan-gp", "lsgan"}
        What learns the law of the codes.
    preset : {"default", "paper"}
        ``"paper"`` overrides width, sampling, batch and learning rate by the published ones, and trains the published
        autoencoder if none is given. How long was not published.
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
        Weight of the gradient penalty of ``"wgan-gp"``. The published 10 holds the critic's slope at 1 even where
        there is nothing left to tell apart, and in few dimensions the two networks then circle without end.
    steps : int
        Steps of the generator of codes.
    batch_size : int
        Rows a step; at most as many as there are.
    learning_rate : float or None
        Peak of the cycle; None means 3e-3 for the diffusion, 1e-3 for LSGAN and 5e-4 for WGAN-GP, whose critic
        learns 4 times as fast.
    constant_rate : bool
        Keep the learning rate at its peak.
    seed : int
        Decides everything.

    References
    ----------
    Ramachandranpillai, Sikder and Heintz, "Fair Latent Deep Generative Models (FLDGMs) for Syntax-Agnostic and Fair
    Synthetic Data Generation", ECAI 2023.
    """

    fairness: Fairness
    name: ClassVar[str] = "fldgm"
    fairness_optional: ClassVar[bool] = False
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="diffusion, WGAN-GP or LSGAN in the frozen fair latent space of FairVAE",
        paper="FLDGM, ECAI 2023",
        criteria=CRITERIA,
        targets=("binary", "multiclass", "numeric"),
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
        hidden: tuple[int, ...] = GENERATOR_HIDDEN,
        critic_hidden: tuple[int, ...] = CRITIC_HIDDEN,
        penalty_weight: float = 0.1,
        steps: int = 3000,
        batch_size: int = 512,
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

    def _fit(self, table: Table, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        teacher = self._frozen(table, progress, checkpoint)
        data = Training(table, teacher.net_.layout.encoder)
        kept = None
        if checkpoint is not None:
            kept = Checkpoint(checkpoint, fingerprint(self, table, data.states) + _fingerprint_of(teacher))
        with threads(1):
            codes = Codes(teacher.net_.encoder, data, self.seed)
            maker = self._learn(codes, len(table), progress, kept)
            self.net_ = LatentNetwork(maker, teacher.net_.rows)
            self.latent_mean_, self.latent_scale_ = codes.mean.numpy(), codes.scale.numpy()
            self.label_shares_ = self._count_labels()
        self.groups_ = teacher.groups_
        self.group_names_, self.rare_groups_ = teacher.group_names_, teacher.rare_groups_
        self.label_law_ = self.groups_.table
        self.fairness = teacher.fairness
        self.decoder_settings_ = decoder_settings(teacher)

    def _frozen(self, table: Table, progress: Progress | None, checkpoint: Path | None) -> FairVAE:
        """Return the autoencoder, given or trained, with weights that no gradient reaches."""
        if self.teacher is None:
            folder = checkpoint / "teacher" if checkpoint is not None else None
            teacher = FairVAE(fairness=self.fairness, preset=self.preset, seed=self.seed)
            teacher.fit(table, progress=progress, checkpoint=folder)
        else:
            teacher = LatentDistillation(teacher=self.teacher)._teacher(table, progress, checkpoint)
        teacher.net_.requires_grad_(False)
        return teacher

    def _learn(
        self, codes: Codes, n: int, progress: Progress | None, checkpoint: Checkpoint | None
    ) -> nn.Module:
        rate = self._setting("learning_rate") or RATES[self.kind]
        plan = Plan(
            self.steps, min(self._setting("batch_size"), n), rate, weight_decay=0.0,
            constant=self._setting("constant_rate"),
        )  # fmt: skip
        told: dict[str, Any] = {
            "n_rows": n, "plan": plan, "seed": self.seed, "stage": f"fit {self.kind} of codes",
            "progress": progress, "checkpoint": checkpoint,
        }  # fmt: skip
        dim = len(codes.scale)
        if self.kind == "diffusion":
            diffusion = Diffusion(self.levels)
            averaged: Averaged = build(self.seed, lambda: Averaged(self._maker(dim)))

            def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
                averaged.update()
                value = diffusion.loss(averaged.net, codes.draw(rows, generator), generator)
                return value, {"loss": float(value.detach())}

            train(averaged, loss, **told)
            averaged.update()
            return averaged.mean
        maker = build(self.seed, lambda: self._maker(dim))
        critic = build(self.seed + 1, lambda: leaky_perceptron(dim, self.critic_hidden, 1))
        judging, making = self._duel(maker, critic, codes)
        train_gan(
            maker, critic, critic_loss=judging, generator_loss=making, critic_steps=CRITIC_STEPS[self.kind],
            critic_rate=1.0 if self.preset == "paper" else CRITIC_RATES[self.kind], average=0.999, **told,
        )  # fmt: skip
        return maker

    def _duel(self, maker: nn.Module, critic: nn.Module, codes: Codes) -> tuple[Loss, Loss]:
        """Return the losses of the critic and of the adversarial generator."""
        wasserstein = self.kind == "wgan-gp"
        weight = self._setting("penalty_weight")

        def made(n: int, generator: torch.Generator) -> Tensor:
            return maker(torch.randn(n, self.noise_dim, generator=generator))

        def judging(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            with torch.no_grad():
                fake = made(len(rows), generator)
            real = codes.draw(rows, generator)
            if wasserstein:
                value = wasserstein_critic_loss(critic, real, fake, generator, weight)
            else:
                value = least_squares_critic_loss(critic, real, fake)
            return value, {"critic": float(value.detach())}

        def making(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            fake = made(len(rows), generator)
            loss = wasserstein_generator_loss if wasserstein else least_squares_generator_loss
            value = loss(critic, fake)
            return value, {"generator": float(value.detach())}

        return judging, making

    def _maker(self, dim: int) -> nn.Module:
        if self.kind == "diffusion":
            return VelocityNetwork(dim, self._setting("width"))
        return leaky_perceptron(self.noise_dim, self.hidden, dim)

    def _codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw codes of the latent, float32 ``(n, latent)``."""
        dim = len(self.latent_scale_)
        if self.kind == "diffusion":
            codes = Diffusion(self.levels).sample(
                self.net_.maker, n, dim, generator,
                steps=self._setting("sampling_steps"), eta=self._setting("sampling_noise"),
            )  # fmt: skip
        else:
            codes = self.net_.maker(torch.randn(n, self.noise_dim, generator=generator))
        return codes * torch.from_numpy(self.latent_scale_) + torch.from_numpy(self.latent_mean_)

    @torch.no_grad()
    def _count_labels(self) -> np.ndarray:
        """Return how often the codes as drawn make each label, float64 ``(labels,)``."""
        generator = torch.Generator().manual_seed(self.seed)
        codes = self._codes(COUNTED, generator)
        return self.net_.rows.head(codes).double().softmax(1).mean(0).numpy()

    def _prepare(self, request: Request) -> Prepared:
        prepared = self.net_.rows.prepare(request, self.groups_)
        wanted = self.groups_.table.sum(1)
        odds = wanted / wanted.sum() / np.maximum(self.label_shares_, 1e-12)
        accept = prepared.accept * torch.from_numpy(np.clip(odds, 1 / MAX_ODDS, MAX_ODDS))
        return replace(prepared, accept=accept / accept.max())

    def _draw(self, n: int, request: Prepared, seed: np.random.SeedSequence) -> Any:
        return self.net_.rows.draw(n, self._codes, self.groups_, request, seed)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        net = {f"net.{name}": p.detach().numpy() for name, p in self.net_.named_parameters()}
        documents = {
            "columns": self.net_.rows.layout.encoder.to_json(),
            "groups": {"names": list(self.group_names_), "rare": list(self.rare_groups_)},
            "decoder": self.decoder_settings_,
        }
        told = [
            {"what": "weights of the generator of codes", "where": "net.maker.*"},
            {"what": "mean and standard deviation of the codes in each dimension", "where": "latent.*"},
            {"what": "share of each label among the codes it draws", "where": "label_shares"},
        ]
        latent = {"latent.mean": self.latent_mean_, "latent.scale": self.latent_scale_}
        tensors = {**net, **latent, "label_shares": self.label_shares_, **group_tensors(self.groups_)}
        return documents, tensors, [*ROWS_FROM_DATA, *told]

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        layout = Layout(TableEncoder.from_json(self.schema_, content.document("columns")))
        settings: Any = content.document("decoder")
        self.decoder_settings_ = settings
        tensors = dict(content.tensors)
        self.net_ = restore(
            lambda: LatentNetwork(self._maker(settings["latent_dim"]), rebuild_rows(settings, layout)),
            {k[4:]: tensors.pop(k) for k in list(tensors) if k.startswith("net.")},
            content.path,
        )
        self.latent_mean_, self.latent_scale_ = tensors.pop("latent.mean"), tensors.pop("latent.scale")
        self.label_shares_ = tensors.pop("label_shares")
        self.groups_ = read_groups(tensors, layout)
        refuse_besides(tensors)
        for array in (self.latent_mean_, self.latent_scale_):
            if array.shape != (settings["latent_dim"],) or array.dtype != np.float32:
                raise ValueError("mean and scale of the codes are not of the latent's dimensions")
        if self.label_shares_.shape != (layout.n_labels,) or self.label_shares_.dtype != np.float64:
            raise ValueError("the shares of the labels are not those of the target")
        if not all(np.isfinite(a).all() for a in (self.latent_mean_, self.latent_scale_, self.label_shares_)):
            raise ValueError("the law of the codes holds what is no finite number")
        if (self.latent_scale_ <= 0).any() or (self.label_shares_ < 0).any():
            raise ValueError("the scale of the codes or a share of a label is below 0")
        self.group_names_, self.rare_groups_ = read_names(content.document("groups"), self.groups_)
        self.label_law_ = self.groups_.table


class Codes:
    """The codes that a generator learns: one posterior a row, drawn from anew each time, in unit variance.

    Parameters
    ----------
    encoder : nn.Module
        States to mean and log variance.
    data : Training
        The rows.
    seed : int
        Of the draw by which mean and scale are measured.

    Attributes
    ----------
    mean, scale : Tensor
        Of the codes in each dimension, float32 ``(latent,)``.
    """

    @torch.no_grad()
    def __init__(self, encoder: nn.Module, data: Training, seed: int) -> None:
        parts = [encoder(part) for part in data.all_states.split(8192)]
        self._means, self._log_vars = (torch.cat(list(side)) for side in zip(*parts, strict=True))
        codes = reparameterise(self._means, self._log_vars, torch.Generator().manual_seed(seed))
        self.mean, self.scale = codes.mean(0), codes.std(0).clamp_min(1e-6)

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return a code of each row, scaled, float32 ``(n, latent)``."""
        codes = reparameterise(self._means[rows], self._log_vars[rows], generator)
        return (codes - self.mean) / self.scale


class LatentNetwork(nn.Module):
    """The generator of codes, and the autoencoder's head and decoder.

    Parameters
    ----------
    maker : nn.Module
        Of the velocity of a code, or of codes from noise.
    rows : LatentRows
        The autoencoder's.
    """

    def __init__(self, maker: nn.Module, rows: LatentRows) -> None:
        super().__init__()
        self.maker, self.rows = maker, rows
