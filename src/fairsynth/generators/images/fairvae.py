"""FairVAE for images, the teacher: a convolutional autoencoder whose latent is made independent of the group.

FairDisCo (Liu et al., KDD 2022): encoder q(z | x, s), decoder p(x | z, s), and a distance covariance in the loss,

    loss = reconstruction + beta * KL(q || N(0, I)) + label_weight * CE(y | z) + penalty_weight * V(z, s).

Ours: V and the cross-entropy are taken under a law at which label and group are independent (`balance`), because
where the colour of a digit tells the digit, a penalty on images as they come would forbid the latent to hold the
digit; a label head that is blind to the group; the group enters the decoder as a modulation of channels, which takes
a tint off the latent's hands (`nn.convolutions`); a reconstruction whose noise is the best for the batch (Rybkin,
Daniilidis and Levine, "Simple and Effective VAE Training with Calibrated Decoders", ICML 2021, section 4.2), so that no
weight has to be found between pixels and KL; images are drawn from a mixture of Gaussians a label in the latent, for
the label and group that the table P(y, s) says. `Fairness.strength` moves that table from the real to the independent
one, and scales V.
``preset="paper"`` is the published network with the published penalty.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth.checkpoints import Checkpoint
from fairsynth.data.images import ImageSet
from fairsynth.data.images.pixels import Shape
from fairsynth.errors import DataError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators.base import Capabilities
from fairsynth.generators.group_law import fair_table
from fairsynth.generators.images.balance import TrainingImages
from fairsynth.generators.images.base import check_device, image_fingerprint
from fairsynth.generators.images.latent_images import (
    LatentImageGenerator,
    LatentPictures,
    draw_given,
    net_tensors,
    own_tensors,
    read_law,
)
from fairsynth.generators.layout import refuse_besides
from fairsynth.generators.settings import check_settings
from fairsynth.nn.convolutions import ConvolutionalEncoder, halved, to_float
from fairsynth.nn.dependence import density_distance_covariance, energy_distance_covariance
from fairsynth.nn.latent_law import LatentLaw
from fairsynth.nn.layers import reparameterise
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Plan, build, restore, steps_for, train
from fairsynth.progress import Progress

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle

#: The published network and its training (FairDisCo, KDD 2022, section 5.1 and its code), for images of 64×64. How the
#: pixels are weighed and how long it was trained is not published; both are ours.
PAPER: dict[str, Any] = {
    "latent_dim": 10,
    "channels": (32, 32, 64, 64, 256),
    "decoder_channels": (256, 64, 64, 32, 32),
    "hidden": 0,
    "decoder_hidden": 0,
    "penalty": "density",
    "penalty_weight": 1e7,
    "reconstruction": "bernoulli",
    "label_weight": 1.0,
    "balance": 0.0,
    "see_label": False,
    "batch_size": 2048,
    "learning_rate": 1e-3,
    "constant_rate": True,
}
#: Channels of the layers where none are given: the image is halved until its smaller side is below 8.
WIDTHS = (32, 64, 96, 128, 128, 128)
DECODER_WIDTHS = (32, 64, 96, 128, 128, 128)
SMALLEST = 8
SMALLEST_PAPER = 32
MIN_STEPS = 400
#: Images whose pairs make the penalty: its cost grows with the square.
PENALTY_ROWS = 512
#: The squared error of a pixel that counts as none: half a step of 8 bits.
LEAST_ERROR = (0.5 / 255) ** 2


class FairVAE(LatentImageGenerator):
    """Fair synthetic images from a convolutional autoencoder with a distance-covariance penalty.

    Parameters
    ----------
    fairness : Fairness
        Only ``"demographic_parity"``; the strength moves P(y, s) to independence, and scales the penalty.
    preset : {"default", "paper"}
        ``"paper"`` overrides what follows by what is published (images of 64×64; others work if they can be halved five
        times).
    latent_dim : int
        Dimensions of the latent.
    channels, decoder_channels : tuple of int or None
        Of each layer of the encoder and of the decoder, each of which halves or doubles height and width; None
        chooses as many as the size of the images has room for.
    hidden, decoder_hidden : int
        Width of the layer between convolutions and latent; 0 for none.
    reconstruction : {"gaussian", "bernoulli"}
        Likelihood of the pixels: a Gaussian whose width is the best for each batch, or cross-entropy.
    penalty : {"energy", "density"}
        Distance covariance with Székely's weight, or FairDisCo's.
    penalty_weight : float
        Its weight at full strength.
    see_label : bool
        Whether the encoder is told the label, as that of tables is: then the latent need not find it by the shape, and
        the decoder can rely on it.
    beta : float
        Weight of the KL divergence.
    label_weight : float
        Weight of the label's cross-entropy.
    balance : float
        Share of each batch that is drawn so that label and group are independent; the penalty and the label head learn
        from it. 0: everything learns from the images as they come.
    epochs : float
        Passes over the images; small sets get at least 400 steps.
    batch_size : int
        Images a step; at most an eighth of the set.
    learning_rate, constant_rate, weight_decay
        Of AdamW; see `nn.training.Plan`.
    law_components : int
        Gaussians a label in the law of the latent.
    temperature : float
        By which the noise within a Gaussian of that law is scaled when images are drawn: below 1 they are cleaner and
        less varied. It may be changed after `fit`.
    device : str
        Where the networks learn: ``"cpu"``, ``"cuda"``, ``"cuda:1"``. Images are drawn on the CPU. It is not kept in
        the file.
    threads : int
        Threads inside of one operation while training. More than one pays only on cores that nothing else uses.
    seed : int
        Decides everything.

    References
    ----------
    Liu et al., "Fair Representation Learning: An Alternative to Mutual Information", KDD 2022.
    """

    name: ClassVar[str] = "fairvae"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="convolutional autoencoder with a distance-covariance penalty; the teacher of the students",
        paper="FairDisCo, KDD 2022",
        criteria=("demographic_parity",),
        several_sensitive=False,
        teacher=True,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        preset: Literal["default", "paper"] = "default",
        latent_dim: int = 16,
        channels: tuple[int, ...] | None = None,
        decoder_channels: tuple[int, ...] | None = None,
        hidden: int = 128,
        decoder_hidden: int = 0,
        reconstruction: Literal["gaussian", "bernoulli"] = "gaussian",
        penalty: Literal["energy", "density"] = "energy",
        penalty_weight: float = 50.0,
        see_label: bool = True,
        beta: float = 1.0,
        label_weight: float = 50.0,
        balance: float = 0.5,
        epochs: float = 16,
        batch_size: int = 128,
        learning_rate: float = 4e-3,
        constant_rate: bool = False,
        weight_decay: float = 0.0,
        law_components: int = 12,
        temperature: float = 0.8,
        device: str = "cpu",
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.preset = preset
        self.latent_dim = latent_dim
        self.channels = channels
        self.decoder_channels = decoder_channels
        self.hidden = hidden
        self.decoder_hidden = decoder_hidden
        self.reconstruction = reconstruction
        self.penalty = penalty
        self.penalty_weight = penalty_weight
        self.see_label = see_label
        self.beta = beta
        self.label_weight = label_weight
        self.balance = balance
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.constant_rate = constant_rate
        self.weight_decay = weight_decay
        self.law_components = law_components
        self.temperature = temperature
        self.device = device
        self.threads = threads
        self.seed = seed

    def _setting(self, name: str) -> Any:
        return PAPER.get(name, getattr(self, name)) if self.preset == "paper" else getattr(self, name)

    def _check_settings(self) -> None:
        check_settings(
            self,
            choices={
                "preset": ("default", "paper"),
                "reconstruction": ("gaussian", "bernoulli"),
                "penalty": ("energy", "density"),
            },
            whole=("latent_dim", "batch_size", "law_components", "threads"),
            from_zero=(
                "penalty_weight", "beta", "label_weight", "balance", "weight_decay", "hidden", "decoder_hidden"
            ),
            above_zero=("epochs", "learning_rate", "temperature"),
            widths=[name for name in ("channels", "decoder_channels") if getattr(self, name) is not None],
        )  # fmt: skip
        for name in ("hidden", "decoder_hidden"):
            if not isinstance(getattr(self, name), int):
                raise SettingsError(f"{name}={getattr(self, name)!r} must be a whole number from 0 up.")
        if self.balance >= 1:
            raise SettingsError(
                f"balance={self.balance!r} must be below 1: some images must come as they are."
            )

    def _fit(self, images: ImageSet, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        check_device(self.device)
        if self.preset == "paper" and min(images.shape[:2]) < SMALLEST_PAPER:
            raise DataError(
                f"images of {images.shape[0]}×{images.shape[1]} pixels are too small for preset='paper', which halves "
                f"them five times: {SMALLEST_PAPER} pixels a side are the least; preset='default' takes any."
            )
        with threads(self.threads):
            self._learn(images, progress, checkpoint)

    def _learn(self, images: ImageSet, progress: Progress | None, checkpoint: Path | None) -> None:
        kept = Checkpoint(checkpoint, image_fingerprint(self, images)) if checkpoint is not None else None
        net = self._network(images.shape, len(images.classes), len(images.levels)).to(self.device)
        strength = self.fairness.strength
        data = TrainingImages(images, self._setting("balance") if strength else 0.0)
        n = len(images)
        batch = min(self._setting("batch_size"), max(32, n // 8))
        plan = Plan(
            steps=steps_for(n, batch, self.epochs, MIN_STEPS),
            batch_size=batch,
            learning_rate=self._setting("learning_rate"),
            weight_decay=self.weight_decay,
            constant=self._setting("constant_rate"),
        )
        train(
            net, self._loss(net, data), n_rows=n, plan=plan, seed=self.seed, stage="fit teacher", progress=progress,
            checkpoint=kept,
        )  # fmt: skip
        self.net_ = net.cpu()
        self.law_ = image_law(net.encoder, images, self.law_components, self.seed)
        self.label_law_ = fair_table(
            images.counts().astype(float), self.fairness, favorable=np.zeros(len(images.classes), dtype=bool)
        )

    def _network(self, shape: Shape, classes: int, groups: int) -> ImageNetwork:
        return build(
            self.seed,
            lambda: ImageNetwork(
                shape,
                classes,
                groups,
                latent_dim=self._setting("latent_dim"),
                channels=self._setting("channels") or widths(shape, WIDTHS),
                decoder_channels=self._setting("decoder_channels") or widths(shape, DECODER_WIDTHS)[::-1],
                hidden=self._setting("hidden"),
                see_label=self._setting("see_label"),
                decoder_hidden=self._setting("decoder_hidden"),
            ),
        )

    def _loss(self, net: ImageNetwork, data: TrainingImages) -> Any:
        weight = self._setting("penalty_weight") * self.fairness.strength
        label_weight, kind = self._setting("label_weight"), self._setting("penalty")
        bernoulli = self._setting("reconstruction") == "bernoulli"

        def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            chosen, part = data.chosen(rows, generator)
            if part.start == part.stop:  # everything learns from the images as they come
                part = slice(0, len(rows))
            there = self.device
            x, groups, labels = (
                data.pixels(chosen).to(there),
                data.groups[chosen].to(there),
                data.labels[chosen].to(there),
            )
            mean, log_var = net.encoder(x, groups, labels)
            # Chance comes from the CPU, so that a seed means the same on every device.
            noise = torch.randn(mean.shape, generator=generator).to(there)
            codes = mean + noise * (0.5 * log_var).exp()
            logits = net.pictures.decoder(codes, groups)
            pixels = x[0].numel()
            if bernoulli:
                fit = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
            else:
                error = (logits.sigmoid() - x).square().mean()
                # Minus the log-likelihood under the Gaussian of the best width, up to a constant.
                fit = 0.5 * pixels * (error + LEAST_ERROR).log()
            kl = 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum(1).mean()
            label = nn.functional.cross_entropy(net.pictures.head(codes[part]), labels[part])
            total = fit + self.beta * kl + label_weight * label
            shown = {"loss": float(total.detach()), "kl": float(kl.detach()), "label": float(label.detach())}
            if weight:
                own = groups[part]
                if kind == "energy":
                    term = energy_distance_covariance(codes[part], own, max_rows=PENALTY_ROWS)
                else:
                    term = density_distance_covariance(mean[part], log_var[part], own, max_rows=PENALTY_ROWS)
                total = total + weight * term
                shown["dependence"] = float(term.detach())
            return total, shown

        return loss

    def _codes(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        return draw_given(self.law_, labels, generator, self.temperature)

    def latent(self, images: ImageSet) -> np.ndarray:
        """Return the fair representation of real images: posterior means, float32 ``(n, latent_dim)``.

        Parameters
        ----------
        images : ImageSet
            Of the shape and the groups that were learned.
        """
        self._fitted()
        return latent_means(self.net_.encoder, images, self.shape_, self.levels_)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        told = [
            {"what": "weights of the label head and the decoder", "where": "net.pictures.*"},
            {"what": "weights of the encoder", "where": "net.encoder.*"},
            {
                "what": "law of the latent: shares, means and covariances of Gaussians a label",
                "where": "law.*",
            },
        ]
        return {}, {**net_tensors(self.net_), **self.law_.to_tensors()}, told

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        tensors = dict(content.tensors)
        own = own_tensors(tensors)
        self.net_ = restore(
            lambda: self._network(self.shape_, len(self.classes_), len(self.levels_)), own, content.path
        )
        self.law_ = read_law(tensors, len(self.classes_), self._setting("latent_dim"))
        refuse_besides(tensors)


class ImageNetwork(nn.Module):
    """Encoder, label head and decoder.

    Parameters
    ----------
    shape : tuple of int
        Height, width and channels of an image.
    classes, groups : int
        How many there are.
    latent_dim, channels, decoder_channels, hidden, decoder_hidden, see_label
        As of `FairVAE`.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        groups: int,
        *,
        latent_dim: int,
        channels: tuple[int, ...],
        decoder_channels: tuple[int, ...],
        hidden: int,
        decoder_hidden: int,
        see_label: bool,
    ) -> None:
        super().__init__()
        self.encoder = ConvolutionalEncoder(
            shape, groups, channels, hidden, latent_dim, classes if see_label else 0
        )
        self.pictures = LatentPictures(
            shape, classes, groups, latent_dim=latent_dim, channels=decoder_channels, hidden=decoder_hidden
        )


def widths(shape: Shape, table: tuple[int, ...]) -> tuple[int, ...]:
    """Return channels of as many layers as the smaller side of an image can be halved and stay at 4 or more."""
    layers = max(1, math.floor(math.log2(max(2, min(shape[:2])) / SMALLEST * 2 + 1e-9)))
    layers = min(layers, len(table))
    while layers > 1 and min(halved(shape[:2], layers)[-1]) < SMALLEST // 2:
        layers -= 1
    return table[:layers]


def image_law(encoder: nn.Module, images: ImageSet, components: int, seed: int) -> LatentLaw:
    """Fit the law of the latent, a mixture a label, to one draw from the posterior of every image."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    with torch.no_grad():
        for rows, pixels in images.batches(512):
            mean, log_var = encoder(*encoded(images, rows, pixels))
            parts.append(reparameterise(mean, log_var, generator).numpy())
    codes = np.concatenate(parts)
    return LatentLaw.fit(codes, images.labels, len(images.classes), components=components, seed=seed)


def latent_means(encoder: nn.Module, images: ImageSet, shape: Shape, levels: tuple[str, ...]) -> np.ndarray:
    """Return the posterior means of images, float32 ``(n, latent_dim)``.

    Raises
    ------
    DataError
        If the images are of another shape, or have groups that were not learned.
    """
    if images.shape != shape or images.levels != levels:
        raise DataError(
            f"the images are {images.shape} with the groups {', '.join(images.levels)}; learned were {shape} with "
            f"{', '.join(levels)}."
        )
    with torch.inference_mode(), threads(1):
        parts = [encoder(*encoded(images, rows, pixels))[0] for rows, pixels in images.batches(512)]
    return torch.cat(parts).numpy()


def encoded(images: ImageSet, rows: np.ndarray, pixels: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Return what an encoder takes of a batch: images, groups and labels."""
    groups, labels = torch.from_numpy(images.groups[rows]), torch.from_numpy(images.labels[rows])
    return to_float(torch.from_numpy(pixels)), groups, labels
