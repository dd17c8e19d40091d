"""Parts of FADE: its losses, its two classifiers with their calibration, and its reading of domains."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from threading import Event, Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth.data.table import Table
from fairsynth.errors import FairsynthWarning
from fairsynth.generators.fade_space import LatentSpace, RowSpace
from fairsynth.generators.fairvae import Training
from fairsynth.nn.diffusion import Denoiser, NoisyClassifier, alpha_sigma, draw_times, fit_temperature
from fairsynth.nn.meta import Order
from fairsynth.progress import Progress, Step

#: Stretches of time in which calibration is told.
STRETCHES = ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1.0))
#: Times at which each held-out row is looked at.
LOOKS = 8


class Classifiers(nn.Module):
    """The target's classifier and the sensitive attribute's, which knows the target.

    Parameters
    ----------
    n_in : int
        Width of the vectors.
    n_labels, n_groups : int
        Classes of each.
    width, depth : int
        Of each network.
    """

    def __init__(self, n_in: int, n_labels: int, n_groups: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.n_labels, self.n_groups = n_labels, n_groups
        self.target = NoisyClassifier(n_in, n_labels, width=width, depth=depth)
        self.sensitive = NoisyClassifier(n_in, n_groups, width=width, depth=depth, n_condition=n_labels)


class ScoreLoss(nn.Module):
    """Denoising loss of rows; a module, so that meta-learning can call it with other weights."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return the loss of every row ``(n,)``; see `Denoiser.losses`."""
        return self.denoiser.losses(x0, t, noise)


class ClassifierLoss(nn.Module):
    """Cross-entropy of both classifiers on noised rows."""

    def __init__(self, classifiers: Classifiers) -> None:
        super().__init__()
        self.classifiers = classifiers

    def forward(self, x0: Tensor, t: Tensor, noise: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
        """Return -log p(y | x_t) - log p(s | x_t, y) of every row ``(n,)``, in nats."""
        alpha, sigma = (value[:, None] for value in alpha_sigma(t))
        x, both = alpha * x0 + sigma * noise, self.classifiers
        known = nn.functional.one_hot(labels, both.n_labels).float()
        target = nn.functional.cross_entropy(both.target.raw(x, t), labels, reduction="none")
        sensitive = nn.functional.cross_entropy(both.sensitive.raw(x, t, known), groups, reduction="none")
        return target + sensitive


class Together:
    """One voice for two stages that run side by side, and an end for both when one ends badly.

    Parameters
    ----------
    progress : callable or None
        Who hears of every step; never called by two threads at once.
    totals : dict
        Stage → its steps.
    """

    def __init__(self, progress: Progress | None, totals: dict[str, int]) -> None:
        self.progress, self.totals = progress, totals
        self._done = dict.fromkeys(totals, 0)
        self._lock, self._stop = Lock(), Event()

    def __call__(self, step: Step) -> None:
        """Pass a step on as one of both stages together, or end the stage that made it."""
        if self._stop.is_set():
            raise _StoppedError
        self._tell(step.stage, step.done, step.info)

    def finish(self, stage: str) -> None:
        """Count a stage as done, one that a checkpoint held included."""
        self._tell(stage, self.totals[stage], {})

    def _tell(self, stage: str, done: int, info: Mapping[str, float]) -> None:
        with self._lock:
            before, self._done[stage] = self._done[stage], done
            if self.progress is not None and done > before:
                total = sum(self.totals.values())
                self.progress(Step("fit score model and classifiers", sum(self._done.values()), total, info))

    def wait(self, parts: Sequence[Future[None]]) -> None:
        """Wait for the stages; what one raises, Ctrl-C included, ends the other and is raised here."""
        try:
            wait(parts, return_when=FIRST_EXCEPTION)
        finally:
            if not all(part.done() and part.exception() is None for part in parts):
                self._stop.set()
        wait(parts)
        raised = [error for part in parts if (error := part.exception()) is not None]
        for error in sorted(raised, key=lambda error: isinstance(error, _StoppedError)):
            raise error


class _StoppedError(Exception):
    """The other stage ended badly."""


def calibrate(
    classifiers: nn.Module,
    space: RowSpace | LatentSpace,
    data: Training,
    held: Tensor,
    seed: int,
    device: str,
) -> list[dict[str, Any]]:
    """Fit the classifiers' temperatures on one half of the rows held out, and tell how they do on the other.

    Parameters
    ----------
    classifiers : Classifiers
        Whose temperatures are set.
    space, data
        Where rows come from.
    held : Tensor
        Rows that the classifiers were not trained on; none in tables of fewer than 500 rows, which get no
        temperature.
    seed : int
        Of noise and times.
    device : str
        Where the networks are.

    Returns
    -------
    list of dict
        ``classifier``, ``from``, ``to`` (times), ``rows``, and ``cross_entropy`` and ``ece``, each before and after.
    """
    assert isinstance(classifiers, Classifiers)
    if not len(held):
        return []
    generator = torch.Generator().manual_seed(seed + 11)
    rows = held.repeat(LOOKS)
    x0 = space.vectors(rows, generator)
    t = draw_times(len(rows), generator)
    alpha, sigma = (value[:, None] for value in alpha_sigma(t))
    x = alpha * x0 + sigma * torch.randn(x0.shape, generator=generator)
    known = nn.functional.one_hot(data.labels[rows], classifiers.n_labels).float()
    first = (torch.arange(len(held)) < len(held) // 2).repeat(LOOKS)
    told = []
    for name, network, classes in (
        ("target", classifiers.target, data.labels[rows]),
        ("sensitive", classifiers.sensitive, data.groups[rows]),
    ):
        with torch.no_grad():
            conditions = known if name == "sensitive" else None
            logits = torch.cat(
                [
                    network.raw(
                        x[part].to(device),
                        t[part].to(device),
                        None if conditions is None else conditions[part].to(device),
                    ).cpu()
                    for part in torch.arange(len(rows)).split(4096)
                ]
            )
        network.cpu()
        fit_temperature(network, logits[first], classes[first], t[first])
        with torch.no_grad():
            after = (logits / network.temperature(t)[:, None]).log_softmax(1)
        network.to(device)
        for low, high in STRETCHES:
            own = ~first & (t >= low) & (t < high)
            if not bool(own.any()):
                continue
            line: dict[str, Any] = {"classifier": name, "from": low, "to": high, "rows": int(own.sum())}
            for moment, logs in (("before", logits.log_softmax(1)), ("after", after)):
                loss = nn.functional.nll_loss(logs[own], classes[own])
                line[f"cross_entropy_{moment}"] = round(float(loss), 4)
                line[f"ece_{moment}"] = round(calibration_error(logs[own].exp(), classes[own]), 4)
            told.append(line)
    return told


def calibration_error(probabilities: Tensor, classes: Tensor, bins: int = 15) -> float:
    """Return the expected calibration error of the most likely class (Guo et al., ICML 2017, eq. 3)."""
    confidence, chosen = probabilities.max(1)
    right = (chosen == classes).double().numpy()
    sure = confidence.double().numpy()
    place = np.minimum((sure * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    gap = np.abs(np.bincount(place, right, bins) - np.bincount(place, sure, bins))
    return float(gap.sum() / count.sum())


def domains_of(table: Table, order: Order) -> tuple[Tensor | None, str]:
    """Return the domain of every row, or None if there is nothing to learn over, and what is done in words.

    Warns of domains that lack a label or a group: the classifiers learn those from the other domains alone.
    """
    column = table.schema.domain
    if order == "none":
        return None, "plain training: meta-learning was not asked for"
    if not column:
        return None, "plain training: the schema names no domain column"
    values = table.frame[column]
    names = values.cast(str).fill_null("(missing)")
    levels = names.unique().sort().to_list()
    if len(levels) < 2:
        said = f"plain training: the domain column {column!r} holds one domain only ({levels[0]!r})"
        warnings.warn(f"{said}; meta-learning needs two or more.", FairsynthWarning, stacklevel=4)
        return None, said
    codes = names.replace_strict(levels, list(range(len(levels)))).cast(int).to_numpy()
    lacking = []
    labels, groups = table.target_codes(), table.groups()
    for index, level in enumerate(levels):
        own = codes == index
        absent = [
            f"no row of target {table.schema[table.schema.target].group_names()[code]!r}"
            for code in np.setdiff1d(np.unique(labels[labels >= 0]), labels[own])
        ]
        absent += [
            f"no row of group {groups.names[code]!r}"
            for code in np.setdiff1d(np.unique(groups.codes), groups.codes[own])
        ]
        if absent:
            lacking.append(f"{level!r} has {', '.join(absent)}")
    said = f"{order} meta-learning over {len(levels)} domains of {column!r}"
    if lacking:
        said += f"; {'; '.join(lacking)}"
        warnings.warn(
            f"{said}. What these domains lack is learned from the others alone.",
            FairsynthWarning,
            stacklevel=4,
        )
    return torch.from_numpy(codes.astype(np.int64)), said
