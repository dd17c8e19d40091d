"""FADE for images: score-based diffusion steered by two classifiers, in the fair latent or on pixels.

The system is FADM / FADE (arXiv 2406.09495; IJCAI 2025), whose code is not public; what of it is the paper's and what
is ours is said in `fairsynth.generators.fade`, whose process, guidance and equation serve here as they are. **Ours**
for images: score model and classifiers learn from images as they come and from images drawn so that label and group
are independent (`balance`); on pixels the score model is a small U-Net; a sample that the target's classifier does not
read as the label it was steered to is drawn again, at most three times. A set of images names no domains, so training
is plain: nothing is meta-learned.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth.checkpoints import Checkpoint
from fairsynth.data.images import ImageSet
from fairsynth.data.images.pixels import Pixels
from fairsynth.errors import CapabilityError, FairsynthWarning, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators.base import Capabilities
from fairsynth.generators.fade import FORMS, OUTSIDE
from fairsynth.generators.fade_guidance import Guidance
from fairsynth.generators.fade_parts import ClassifierLoss, calibration_error
from fairsynth.generators.group_law import fair_table
from fairsynth.generators.images.balance import TrainingImages
from fairsynth.generators.images.base import ImageGenerator, check_device, image_fingerprint
from fairsynth.generators.images.fade_space import CodeSpace, ImageClassifiers, PixelSpace
from fairsynth.generators.images.fairvae import FairVAE
from fairsynth.generators.images.fldgm import ImageCodes, read_scale
from fairsynth.generators.images.latent_distillation import fingerprint_of, teacher_of
from fairsynth.generators.images.latent_images import (
    LatentImageGenerator,
    net_tensors,
    own_tensors,
    pictures_of,
)
from fairsynth.generators.layout import refuse_besides
from fairsynth.generators.settings import check_settings
from fairsynth.nn.diffusion import (
    SHORTEST,
    SOLVERS,
    Averaged,
    Solver,
    alpha_sigma,
    draw_times,
    fit_temperature,
    solve,
)
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Plan, build, restore, train
from fairsynth.progress import Progress

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle

#: Sizes where none are given: width and depth in the latent, channels of each level on pixels.
SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "latent": {"score": (128, 3), "classifier": (64, 2)},
    "pixel": {"score": (32, 48, 64), "classifier": (24, 48)},
}
#: Images a step, and steps of the score model; the classifiers take half.
COURSES = {"latent": (512, 4000), "pixel": (64, 4000)}
#: Images that go through the solver together.
CHUNK = {"latent": 1024, "pixel": 64}
SOLVER_STEPS = {"dpm-solver++": 20, "heun": 12, "euler-maruyama": 1000}
#: How often a sample that is not read as its label is drawn again.
AGAIN = 3
#: Share and number at most of the images on which the classifiers are calibrated, and how often each is looked at.
HELD, HELD_MOST, LOOKS = 0.1, 2000, 4


class FADE(LatentImageGenerator):
    """Fair synthetic images from a score-based diffusion steered by two classifiers.

    Parameters
    ----------
    fairness : Fairness
        Only ``"demographic_parity"``; the strength moves P(y, s) to independence and scales the sensitive weight.
    space : {"latent", "pixel"}
        What diffuses: the code in the latent of a `FairVAE`, whose decoder makes the image for its group; or pixels.
    teacher : FairVAE, path or None
        For the latent: a fitted teacher; None trains one with default settings.
    label_weight : float
        Weight of the gradient towards the label that the image is to have; 1 is Bayes' rule, more gives clearer images.
    group_weight : float or None
        Weight of the gradient towards the group that the image is to have. By default 1 on pixels, and 0 in the
        latent, whose decoder is told the group.
    sensitive_weight : float
        Weight, at full strength, of the gradient away from images by which the group can be told. On pixels it works
        against `group_weight`, and is best left at 0, the default there (None).
    sensitive_form : {"entropy", "kl-uniform", "kl-shares"}
        What that gradient ascends.
    balance : float
        Share of each batch that is drawn so that label and group are independent.
    solver : {"dpm-solver++", "heun", "euler-maruyama"}
        How samples are drawn; see `nn.diffusion.solve`.
    solver_steps : int or None
        Its steps; by default 20, 12 and 1,000.
    sizes, classifier_sizes : tuple of int or None
        Of the score model and of each classifier: width and depth in the latent, channels of each level on pixels.
    steps, batch_size : int or None
        Of the training; the classifiers take half the steps. None chooses by the space.
    learning_rate : float
        Peak of the cycle.
    averaging : float
        Share of the moving average of the weights that stays in a step.
    device : str
        Where the networks learn and draw: ``"cpu"``, ``"cuda"``, ``"cuda:1"``. It may be changed after `fit`, and is
        not kept in the file.
    seed : int
        Decides everything.

    Attributes
    ----------
    calibration_ : list of dict
        For each classifier: images held out, cross-entropy (nats) and expected calibration error, before and after the
        temperature.

    References
    ----------
    "FADE: Towards Fairness-aware Generation for Domain Generalization via Classifier-Guided Score-based Diffusion
    Models", arXiv 2406.09495, IJCAI 2025.
    """

    name: ClassVar[str] = "fade"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="score-based diffusion steered by two classifiers, in FairVAE's latent or on pixels",
        paper="FADE, IJCAI 2025",
        criteria=("demographic_parity",),
        several_sensitive=False,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen
        space: Literal["latent", "pixel"] = "latent",
        teacher: FairVAE | str | os.PathLike[str] | None = None,
        label_weight: float = 2.0,
        group_weight: float | None = None,
        sensitive_weight: float | None = None,
        sensitive_form: Literal["entropy", "kl-uniform", "kl-shares"] = "entropy",
        balance: float = 0.5,
        solver: Solver = "dpm-solver++",
        solver_steps: int | None = None,
        sizes: tuple[int, ...] | None = None,
        classifier_sizes: tuple[int, ...] | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 2e-3,
        averaging: float = 0.999,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.space = space
        self.teacher = teacher
        self.label_weight = label_weight
        self.group_weight = group_weight
        self.sensitive_weight = sensitive_weight
        self.sensitive_form = sensitive_form
        self.balance = balance
        self.solver = solver
        self.solver_steps = solver_steps
        self.sizes = sizes
        self.classifier_sizes = classifier_sizes
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.averaging = averaging
        self.device = device
        self.seed = seed

    def _check_settings(self) -> None:
        given = [n for n in ("solver_steps", "steps", "batch_size") if getattr(self, n) is not None]
        weights = [n for n in ("group_weight", "sensitive_weight") if getattr(self, n) is not None]
        layers = [n for n in ("sizes", "classifier_sizes") if getattr(self, n) is not None]
        check_settings(
            self,
            choices={"space": ("latent", "pixel"), "sensitive_form": FORMS, "solver": SOLVERS},
            whole=given,
            from_zero=("label_weight", "balance", "averaging", *weights),
            above_zero=("learning_rate",),
            widths=layers,
        )
        for name in ("averaging", "balance"):
            if getattr(self, name) >= 1:
                raise SettingsError(f"{name}={getattr(self, name)!r} must be below 1.")
        for name in layers:
            if self.space == "latent" and len(getattr(self, name)) != 2:
                raise SettingsError(f"{name}={getattr(self, name)!r} must be width and depth in the latent.")

    def _weight(self, name: str) -> float:
        given = getattr(self, name)
        ours = {
            "group_weight": {"latent": 0.0, "pixel": 1.0},
            "sensitive_weight": {"latent": 1.0, "pixel": 0.0},
        }
        return ours[name][self.space] if given is None else float(given)

    # ------------------------------------------------------------------------------------------------ learning
    def _fit(self, images: ImageSet, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        check_device(self.device)
        mark = image_fingerprint(self, images) if checkpoint is not None else ""
        pictures = None
        space: PixelSpace | CodeSpace = PixelSpace(images.shape)
        if self.space == "latent":
            teacher = teacher_of(self, images, progress, checkpoint)
            mark += fingerprint_of(teacher) if checkpoint is not None else ""
            codes = ImageCodes(teacher.net_.encoder, images, self.seed, by_label=False)
            pictures = teacher.net_.pictures.requires_grad_(False)
            space = CodeSpace(pictures, codes.mean.numpy(), codes.scale.numpy(), codes)
            self.fairness, self.label_law_ = teacher.fairness, teacher.label_law_
        else:
            self.label_law_ = fair_table(
                images.counts().astype(float), self.fairness, favorable=np.zeros(len(images.classes), bool)
            )
        kept = Checkpoint(checkpoint, mark) if checkpoint is not None else None
        self.group_shares_ = images.counts().sum(0) / len(images)
        data = TrainingImages(images, self.balance if self.fairness.strength else 0.0)
        held = np.random.default_rng([self.seed, 3]).permutation(len(images))
        held = held[: min(int(HELD * len(images)), HELD_MOST)]
        learned = torch.from_numpy(np.setdiff1d(np.arange(len(images)), held))
        sizes = len(images.classes), len(images.levels)
        with threads(1):
            score = self._train(0, self._networks(space, *sizes), space, data, kept, progress, None)
            classifiers = self._train(1, self._networks(space, *sizes), space, data, kept, progress, learned)
            self.calibration_ = _calibrated(classifiers, space, data, torch.from_numpy(held), self.seed)
        self.net_, self.space_ = FadeNetwork(score, classifiers, pictures), space
        self.net_.requires_grad_(False)

    def _networks(
        self, space: PixelSpace | CodeSpace, classes: int, groups: int
    ) -> tuple[nn.Module, nn.Module]:
        """Make a score model and classifiers."""
        sizes = {
            "score": self.sizes or SIZES[self.space]["score"],
            "classifier": self.classifier_sizes or SIZES[self.space]["classifier"],
        }
        made: Any = build(self.seed, lambda: nn.ModuleList(space.networks(classes, groups, sizes)))
        return made[0], made[1]

    def _train(
        self,
        which: int,
        networks: tuple[nn.Module, nn.Module],
        space: PixelSpace | CodeSpace,
        data: TrainingImages,
        kept: Checkpoint | None,
        progress: Progress | None,
        learned: Tensor | None,
    ) -> Any:
        """Train the score model (0) or the classifiers (1), on all images or on those named; return its average."""
        live: Any = networks[which]
        sizes = len(data.images.classes), len(data.images.levels)
        averaged = Averaged(live, self._networks(space, *sizes)[which], self.averaging).to(self.device)
        there = self.device
        n = len(data.labels) if learned is None else len(learned)
        own = data if learned is None else TrainingImages(data.images.subset(learned.numpy()), data.balanced)
        batch, steps = COURSES[self.space]
        batch = min(self.batch_size or batch, max(32, n // 8))
        judged = ClassifierLoss(live) if which else None

        def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            averaged.update()
            chosen, _ = own.chosen(rows, generator)
            if isinstance(space, PixelSpace):
                x0 = space.vectors(own, chosen)
            else:
                x0 = space.draw(chosen if learned is None else learned[chosen], generator)
            t, noise = draw_times(len(x0), generator), torch.randn(x0.shape, generator=generator)
            x0, t, noise = (part.to(there) for part in (x0, t, noise))
            if judged is not None:
                value = judged(
                    x0, t, noise, own.labels[chosen].to(there), own.groups[chosen].to(there)
                ).mean()
            else:
                value = live.losses(x0, t, noise).mean()
            return value, {"loss": float(value.detach())}

        asked = self.steps or steps
        plan = Plan(max(1, asked // 2) if which else asked, batch, self.learning_rate, weight_decay=1e-4)
        train(
            averaged, loss, n_rows=n, plan=plan, seed=self.seed + 2**20 * which,
            stage="fit classifiers" if which else "fit score model", progress=progress, checkpoint=kept,
        )  # fmt: skip
        averaged.update()
        return averaged.average.cpu().eval()

    # ------------------------------------------------------------------------------------------------- drawing
    def _draw(self, labels: np.ndarray, groups: np.ndarray, seed: np.random.SeedSequence) -> Pixels:
        generator = torch.Generator().manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
        y, s = torch.from_numpy(labels), torch.from_numpy(groups)
        parts = []
        for place in torch.arange(len(y)).split(CHUNK[self.space]):
            vectors = self._vectors(y[place], s[place], generator)
            with torch.inference_mode():
                parts.append(self.space_.images(vectors, s[place]))
        return np.concatenate(parts)

    def _codes(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a code of each label; the groups, which guidance may ask for, are drawn by P(s | y)."""
        if not isinstance(self.space_, CodeSpace):
            raise CapabilityError("fade on pixels has no latent; fit it with space='latent'.")
        law = torch.from_numpy(self.label_law_)[labels]
        groups = torch.multinomial(law, 1, generator=generator)[:, 0]
        with torch.inference_mode(False):
            return self.space_.unscaled(self._vectors(labels.clone(), groups.clone(), generator))

    def _vectors(self, labels: Tensor, groups: Tensor, generator: torch.Generator) -> Tensor:
        steps = self.solver_steps or SOLVER_STEPS[self.solver]
        score, classifiers = (net.to(self.device) for net in (self.net_.score, self.net_.classifiers))
        guidance = Guidance(
            label=self.label_weight,
            group=self._weight("group_weight"),
            away=self._weight("sensitive_weight") * self.fairness.strength,
            form=self.sensitive_form,
            shares=torch.from_numpy(self.group_shares_).float(),
        )
        found = torch.empty(len(labels), self.space_.width)
        left = torch.arange(len(labels))
        for _ in range(1 + AGAIN):
            noise = torch.randn(len(left), self.space_.width, generator=generator).to(self.device)
            denoise = guidance.steer(
                score, classifiers, labels[left].to(self.device), groups[left].to(self.device)
            )
            with torch.no_grad():
                drawn = solve(denoise, noise, solver=self.solver, steps=steps, generator=generator)
                found[left] = drawn.cpu()
                if not bool(torch.isfinite(drawn).all()):
                    raise CapabilityError(
                        "the guidance is so strong that samples became infinite; lower the weights, or take more "
                        "solver_steps."
                    )
                if not self.label_weight:
                    break
                shortest = torch.full((len(left),), SHORTEST, device=drawn.device)
                read = classifiers.target.raw(drawn, shortest).argmax(1).cpu()
            left = left[read != labels[left]]
            if not len(left):
                break
        outside = int(self.space_.outside(found).sum())
        if outside > OUTSIDE * len(found) and outside > 5:
            warnings.warn(
                f"{outside:,} of {len(found):,} images drawn lie far outside of where the real ones are: the guidance "
                "is too strong, or the training was too short. Lower the weights, or take more solver_steps or steps.",
                FairsynthWarning,
                stacklevel=2,
            )
        return found

    def decode(self, z: np.ndarray, s: Any) -> Pixels:
        """Return the images of latent codes for the groups that one wants; see `LatentImageGenerator.decode`."""
        self._fitted()
        if not isinstance(self.space_, CodeSpace):
            raise CapabilityError("fade on pixels has no latent; fit it with space='latent'.")
        return super().decode(z, s)

    def pictures(self, seed: int = 0) -> dict[str, Pixels]:
        """Return grids of pictures for a person to look at; see `ImageGenerator.pictures`."""
        self._fitted()
        if isinstance(self.space_, CodeSpace):
            return super().pictures(seed)
        return ImageGenerator.pictures(self, seed)

    # ------------------------------------------------------------------------------------------------ the file
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        told = [
            {"what": "weights of the score model, averaged", "where": "net.score.*"},
            {
                "what": "weights of the two classifiers, averaged, and their temperatures",
                "where": "net.classifiers.*",
            },
            {"what": "share of the images in each group", "where": "group_shares"},
            {
                "what": "how well the classifiers are calibrated on images held out",
                "where": "documents/classifiers.json",
            },
        ]
        documents: dict[str, Any] = {"classifiers": {"calibration": self.calibration_}}
        tensors = {**net_tensors(self.net_), "group_shares": self.group_shares_}
        if isinstance(self.space_, CodeSpace):
            documents["decoder"] = self.space_.pictures.settings
            tensors |= {"latent.mean": self.space_.mean, "latent.scale": self.space_.scale}
            told += [
                {"what": "weights of the label head and the decoder", "where": "net.pictures.*"},
                {"what": "mean and standard deviation of the codes in each dimension", "where": "latent.*"},
            ]
        return documents, tensors, told

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        tensors = dict(content.tensors)
        own = own_tensors(tensors)
        classes, groups = len(self.classes_), len(self.levels_)
        self.group_shares_ = tensors.pop("group_shares")
        if self.group_shares_.shape != (groups,) or not (self.group_shares_ >= 0).all():
            raise ValueError("the shares of the groups do not fit their number")
        self.calibration_ = list(content.document("classifiers")["calibration"])
        settings: Any = content.document("decoder") if self.space == "latent" else None
        scale = read_scale(tensors, (1, settings["latent_dim"])) if settings else None

        def make() -> FadeNetwork:
            pictures = pictures_of(settings, self.shape_, classes, groups) if settings else None
            space = CodeSpace(pictures, *scale) if pictures and scale else PixelSpace(self.shape_)
            score, classifiers = self._networks(space, classes, groups)
            return FadeNetwork(score, classifiers, pictures)

        self.net_ = restore(make, own, content.path).requires_grad_(False)
        refuse_besides(tensors)
        pictures = self.net_.pictures
        self.space_ = CodeSpace(pictures, *scale) if pictures and scale else PixelSpace(self.shape_)


class FadeNetwork(nn.Module):
    """Score model, classifiers, and the autoencoder's head and decoder where a latent diffuses.

    Parameters
    ----------
    score : nn.Module
        Denoiser of vectors.
    classifiers : ImageClassifiers
        The two.
    pictures : LatentPictures or None
        The autoencoder's.
    """

    def __init__(self, score: nn.Module, classifiers: nn.Module, pictures: nn.Module | None) -> None:
        super().__init__()
        self.score, self.classifiers, self.pictures = score, classifiers, pictures


@torch.no_grad()
def _noised(x0: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    t = draw_times(len(x0), generator)
    alpha, sigma = (value[:, None] for value in alpha_sigma(t))
    return alpha * x0 + sigma * torch.randn(x0.shape, generator=generator), t


def _calibrated(
    classifiers: ImageClassifiers,
    space: PixelSpace | CodeSpace,
    data: TrainingImages,
    held: Tensor,
    seed: int,
) -> list[dict[str, Any]]:
    """Fit the classifiers' temperatures on one half of the images held out, and tell how they do on the other."""
    if len(held) < 20:
        return []
    generator = torch.Generator().manual_seed(seed + 11)
    rows = held.repeat(LOOKS)
    first = (torch.arange(len(held)) < len(held) // 2).repeat(LOOKS)
    logits: dict[str, list[Tensor]] = {"target": [], "sensitive": []}
    times = []
    for part in rows.split(512):
        x0 = space.vectors(data, part) if isinstance(space, PixelSpace) else space.draw(part, generator)
        x, t = _noised(x0, generator)
        known = nn.functional.one_hot(data.labels[part], classifiers.n_labels).float()
        with torch.no_grad():
            logits["target"].append(classifiers.target.raw(x, t))
            logits["sensitive"].append(classifiers.sensitive.raw(x, t, known))
        times.append(t)
    told, t = [], torch.cat(times)
    for name, wanted in (("target", data.labels[rows]), ("sensitive", data.groups[rows])):
        raw, network = torch.cat(logits[name]), getattr(classifiers, name)
        fit_temperature(network, raw[first], wanted[first], t[first])
        line: dict[str, Any] = {"classifier": name, "images": int((~first).sum()) // LOOKS}
        with torch.no_grad():
            scaled = raw / network.temperature(t)[:, None]
        for moment, logs in (("before", raw.log_softmax(1)), ("after", scaled.log_softmax(1))):
            loss = nn.functional.nll_loss(logs[~first], wanted[~first])
            line[f"cross_entropy_{moment}"] = round(float(loss), 4)
            line[f"ece_{moment}"] = round(calibration_error(logs[~first].exp(), wanted[~first]), 4)
        told.append(line)
    return told
