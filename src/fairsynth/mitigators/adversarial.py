"""Adversarial debiasing: a network that an adversary cannot read the group from (Zhang, Lemoine and Mitchell 2018).

A predictor gives logits of the classes; an adversary reads the group from them, and from the label as well under
equalized odds, or only among those with a favorable label under equal opportunity (the paper's section 3). The
predictor steps along (equation 1, the gradient being that of all its weights together)

    g_P - proj_{g_A} g_P - alpha * g_A,

g_P the gradient of its own loss and g_A that of the adversary's. Ours: several groups and classes, the adversary's loss
balanced between the groups so that rare ones count, and a learning rate that falls to 0.

fairlearn's own version is not used: in 0.15.0 its PyTorch backend turns the seed into 0 whatever was asked for
(`torch.manual_seed` of a number below 1), and its projection is not the inner product of two matrices of weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fairsynth.data.table import Table
from fairsynth.fairness import Fairness
from fairsynth.generators.settings import check_settings
from fairsynth.mitigators.base import (
    RARE_ROWS,
    Capabilities,
    Floats,
    Mitigator,
    class_of_criterion,
)
from fairsynth.mitigators.grouping import PooledGroups
from fairsynth.mitigators.models import NetworkFeatures
from fairsynth.progress import Progress, Step

if TYPE_CHECKING:
    from torch import Tensor

MIN_STEPS = 600
#: Steps that adversary and predictor take before they meet, as a share of all.
_APART = 0.1
#: How much faster the adversary learns: what it has not yet noticed cannot be taken from it.
_AHEAD = 10.0


class AdversarialDebiasing(Mitigator):
    """A network trained against an adversary that reads the group from its output.

    Parameters
    ----------
    fairness : Fairness
        Criterion; the strength scales `adversary_weight`.
    adversary_weight : float
        alpha in the step above, at full strength.
    hidden, adversary_hidden : tuple of int
        Hidden layers of predictor and adversary.
    epochs : float
        Passes over the rows; small tables get at least 600 steps.
    batch_size : int
        Rows a step.
    learning_rate : float
        Of Adam, for both; it falls to 0.
    use_sensitive : bool
        Whether the predictor reads the sensitive columns.
    minimum_group : int
        Groups of fewer rows are taken together.
    seed : int
        Decides everything.

    References
    ----------
    Zhang, Lemoine and Mitchell, "Mitigating unwanted biases with adversarial learning", AIES 2018.
    """

    fairness: Fairness
    name: ClassVar[str] = "adversarial"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="a network that an adversary cannot read the group from",
        paper="Zhang et al., AIES 2018",
        stage="in",
        families=(),
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        adversary_weight: float = 3.0,
        hidden: tuple[int, ...] = (64, 64),
        adversary_hidden: tuple[int, ...] = (32,),
        epochs: float = 20,
        batch_size: int = 512,
        learning_rate: float = 2e-3,
        use_sensitive: bool = True,
        minimum_group: int = RARE_ROWS,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.adversary_weight = adversary_weight
        self.hidden = hidden
        self.adversary_hidden = adversary_hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.use_sensitive = use_sensitive
        self.minimum_group = minimum_group
        self.seed = seed

    def _check_settings(self) -> None:
        super()._check_settings()
        check_settings(
            self,
            whole=("batch_size", "minimum_group"),
            from_zero=("adversary_weight",),
            above_zero=("epochs", "learning_rate"),
            widths=("hidden", "adversary_hidden"),
        )

    def _fit(self, table: Table, progress: Progress | None) -> None:
        from fairsynth.nn.threads import threads

        with threads(1):
            self._learn(table, progress)

    def _learn(self, table: Table, progress: Progress | None) -> None:
        import torch

        from fairsynth.nn.layers import perceptron
        from fairsynth.nn.training import Plan, build, steps_for

        self.features_ = NetworkFeatures(table.schema, table.frame, self.task_, self._without(table))
        pooled = PooledGroups.learn(table, minimum=self.minimum_group)
        codes = self._codes(table)
        favorable = self.task_.is_favorable(codes)
        x = torch.from_numpy(self.features_(table.frame)).float()
        y, s = torch.from_numpy(codes), torch.from_numpy(pooled.codes(table))
        judged = torch.from_numpy(class_of_criterion(self.fairness.criterion, favorable) >= 0)
        sees_label = self.fairness.criterion == "equalized_odds"
        outcome = torch.from_numpy(favorable.astype(np.float32))
        n, classes = len(x), len(self.task_.levels)
        net = build(self.seed, lambda: perceptron(x.shape[1], self.hidden, classes))
        width = 2 * classes + 1 if sees_label else classes
        adversary = build(self.seed + 1, lambda: perceptron(width, self.adversary_hidden, len(pooled)))
        counts = torch.bincount(s[judged], minlength=len(pooled)).clamp_min(1).float()
        balance = counts.sum() / (len(pooled) * counts)
        batch = min(self.batch_size, n)
        plan = Plan(steps_for(n, batch, self.epochs, MIN_STEPS), batch, self.learning_rate)
        optimisers = [torch.optim.Adam(m.parameters(), lr=plan.learning_rate) for m in (net, adversary)]
        alpha = self.adversary_weight * self.fairness.strength
        weights = list(net.parameters())
        for step, rows in enumerate(_batches(n, batch, plan.steps, self.seed)):
            for optimiser in optimisers:
                optimiser.param_groups[0]["lr"] = plan.rate(step) * (
                    _AHEAD if optimiser is optimisers[1] else 1
                )
            logits = net(x[rows])
            own = torch.nn.functional.cross_entropy(logits, y[rows])
            read = adversary(_shown(logits, outcome[rows] if sees_label else None))
            # Fewer than two judged people: nothing to read a group from in this batch.
            use = judged[rows]
            theirs = (
                torch.nn.functional.cross_entropy(read[use], s[rows][use], weight=balance)
                if use.any()
                else None
            )
            gradient = torch.autograd.grad(own, weights, retain_graph=theirs is not None)
            if theirs is not None:
                against = torch.autograd.grad(theirs, weights, retain_graph=True)
                for parameter, value in zip(
                    adversary.parameters(),
                    torch.autograd.grad(theirs, list(adversary.parameters())),
                    strict=True,
                ):
                    parameter.grad = value
                optimisers[1].step()
                if alpha and step >= _APART * plan.steps:
                    gradient = combined(gradient, against, alpha)
            for parameter, value in zip(weights, gradient, strict=True):
                parameter.grad = value
            torch.nn.utils.clip_grad_norm_(weights, 10.0)
            optimisers[0].step()
            if progress is not None:
                told = {"loss": float(own.detach())}
                progress(Step("fit adversarially", step + 1, plan.steps, told))
        self.net_ = net.eval()

    def _class_probabilities(self, table: Table) -> Floats:
        import torch

        with torch.inference_mode():
            logits = self.net_(torch.from_numpy(self.features_(table.frame)).float())
            return np.asarray(logits.double().softmax(dim=1).numpy())


def _shown(logits: Tensor, outcome: Tensor | None) -> Tensor:
    """Return what the adversary sees ``(batch, k)``: log odds, and the same among either label if it may know it.

    The paper's input is a steeper sigmoid of the log odds (section 3); a network on the centred logits can make that
    and any other function of them.
    """
    import torch

    centred = logits - logits.mean(dim=1, keepdim=True)
    if outcome is None:
        return centred
    known = outcome[:, None]
    return torch.cat([centred * known, centred * (1 - known), known], dim=1)


def combined(own: tuple[Tensor, ...], against: tuple[Tensor, ...], alpha: float) -> tuple[Tensor, ...]:
    """Return ``own - proj_against(own) - alpha * against``, all tensors being one vector."""
    inner = sum(((a * b).sum() for a, b in zip(own, against, strict=True)), start=own[0].new_zeros(()))
    square = sum(((b * b).sum() for b in against), start=own[0].new_zeros(()))
    share = inner / square.clamp_min(1e-20)
    return tuple(a - (share + alpha) * b for a, b in zip(own, against, strict=True))


def _batches(n: int, batch: int, steps: int, seed: int) -> Any:
    """Yield rows of each step; their order is a function of seed and epoch alone."""
    import torch

    a_pass, order = max(1, n // batch), torch.zeros(0, dtype=torch.int64)
    for step in range(steps):
        epoch, place = divmod(step, a_pass)
        if place == 0:
            order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(n))
        yield order[place * batch : (place + 1) * batch]
