"""Meta-learning over domains: weights that, after a step on some domains, do well on another.

The scheme of FADM / FADE (arXiv 2406.09495) as `methods` of this project state it; the equations are ours, after
MLDG (Li et al., AAAI 2018):

    theta' = theta - a * grad sum over meta-train domains of L(theta)
    total  = L_train(theta) + g * L_test(theta')

In the second order the gradient of the total passes through theta'; in the first order theta' counts as
theta plus a constant.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

Order = Literal["second-order", "first-order", "none"]


def meta_loss(
    objective: nn.Module,
    inputs: tuple[Tensor, ...],
    domains: Tensor,
    *,
    order: Order,
    inner_rate: float,
    weight: float,
    generator: torch.Generator,
) -> Tensor:
    """Return the loss whose gradient is the meta step.

    Parameters
    ----------
    objective : nn.Module
        ``(*inputs) -> losses of rows (n,)``; its parameters that require gradients take the inner step.
    inputs : tuple of Tensor
        A batch: the first dimension counts rows.
    domains : Tensor
        Domain of every row, int64 ``(n,)``.
    order : {"second-order", "first-order", "none"}
        Whether the gradient passes through the inner step; ``"none"`` is the plain mean over the batch.
    inner_rate : float
        Step size a.
    weight : float
        Weight g of the held-out domain's loss.
    generator : torch.Generator
        Chooses the domain that is held out, among those in the batch.

    Returns
    -------
    Tensor
        A scalar. A batch of one domain gives the plain mean.
    """
    present = domains.unique()
    if order == "none" or len(present) < 2:
        return objective(*inputs).mean()
    held = present[int(torch.randint(len(present), (1,), generator=generator))]
    test = domains == held
    train_loss = objective(*(part[~test] for part in inputs)).mean()
    weights = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    second = order == "second-order"
    slopes = torch.autograd.grad(
        train_loss, list(weights.values()), create_graph=second, retain_graph=True, allow_unused=True
    )
    ahead = {
        name: value - inner_rate * (torch.zeros_like(value) if slope is None else slope)
        for (name, value), slope in zip(weights.items(), slopes, strict=True)
    }
    test_loss = functional_call(objective, ahead, tuple(part[test] for part in inputs)).mean()
    return train_loss + weight * test_loss
