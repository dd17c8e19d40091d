"""The two gradients of FADE, added to what the score model says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fairsynth.generators.fade_parts import Classifiers
from fairsynth.nn.diffusion import alpha_sigma


@dataclass(frozen=True)
class Guidance:
    """How strongly a sample is steered, and where to; the equation is in the head of `fade`.

    Attributes
    ----------
    label : float
        Weight of the gradient towards the label that a row is to have; 1 is Bayes' rule.
    group : float
        Weight of the gradient towards the group that a row is to have.
    away : float
        Weight of the gradient away from rows by which the group can be told.
    form : {"entropy", "kl-uniform", "kl-shares"}
        What that gradient ascends.
    shares : Tensor
        Real shares of the groups, float32 ``(groups,)``; for the last form.
    """

    label: float
    group: float
    away: float
    form: str
    shares: Tensor

    def steer(
        self, denoiser: nn.Module, classifiers: Classifiers, labels: Tensor, groups: Tensor
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the denoiser of rows with these labels and groups, int64 ``(n,)``, as ``(x_t, t) -> mean``."""
        shares = self.shares.to(labels.device)
        known = nn.functional.one_hot(labels, classifiers.n_labels).float()

        def ascended(x: Tensor, t: Tensor) -> Tensor:
            total = x.new_zeros(())
            if self.label:
                chosen = classifiers.target(x, t).gather(1, labels[:, None])
                total = total + self.label * chosen.sum()
            if self.group or self.away:
                logs = classifiers.sensitive(x, t, known)
                total = total + self.group * logs.gather(1, groups[:, None]).sum()
                if self.form == "entropy":
                    total = total - self.away * (logs.exp() * logs).sum()
                elif self.form == "kl-uniform":
                    total = total + self.away * logs.mean(1).sum()
                else:
                    total = total + self.away * (logs * shares).sum()
            return total

        def steered(x: Tensor, t: Tensor) -> Tensor:
            with torch.no_grad():
                mean: Tensor = denoiser(x, t)
            if not (self.label or self.group or self.away):
                return mean
            with torch.enable_grad():
                at = x.detach().requires_grad_(True)
                (slope,) = torch.autograd.grad(ascended(at, t), at)
            alpha, sigma = alpha_sigma(t)
            return mean + (sigma**2 / alpha)[:, None] * slope

        return steered
