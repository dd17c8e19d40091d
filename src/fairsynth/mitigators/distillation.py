"""Fair knowledge distillation for intersections: an accurate teacher, a fair student (ECAI 2025).

A LightGBM model learns the rows as they are. A small network, the student, learns three things from it, and to be
fair to every joint group of all sensitive columns at once:

- the labels (cross-entropy), and the teacher's softened probabilities, ``tau^2 KL(teacher / tau || student / tau)``;
- the teacher's representation: a linear map of the student's last hidden layer follows the teacher's partial sums,
  the scores after each tenth of its trees (ours: trees have no hidden layer, this is the nearest thing);
- fairness terms on rates r_g of favorable decisions by group: their variance, their largest gap, the square of their
  distance from the rate of everybody weighted by the group's share, the squared correlation of the decision with each
  group within classes; and an adversary, behind a gradient reversal, that reads the group from the hidden layer.

The paper's abstract and a summary name these terms; their exact forms and weights here are ours, as are these:

- a rate is that of a *softened decision*, a sigmoid steeper than the probability's, since it is decisions at .5 that
  are judged (equal mean probabilities do not make equal decisions);
- the first three terms are of rates divided by everybody's: else favoring nobody would be the cheapest way to make
  all rates alike, and a strong weight ends in the constant predictor;
- each step draws as many rows of every group (within each class, where the criterion asks for classes) for the
  fairness terms, however rare it is: a rate of two people in a batch is noise, which the terms would count as
  unfairness. Groups below `minimum_group` rows are taken together;
- the criterion says within which classes groups are compared: all people under demographic parity, each label under
  equalized odds, the favorable label under equal opportunity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fairsynth.data.table import Table
from fairsynth.errors import SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators.settings import check_settings
from fairsynth.mitigators.base import (
    RARE_ROWS,
    Capabilities,
    Floats,
    Ints,
    Mitigator,
    class_of_criterion,
)
from fairsynth.mitigators.grouping import PooledGroups
from fairsynth.mitigators.models import ROUNDS, NetworkFeatures, TableModel
from fairsynth.progress import Progress

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

MIN_STEPS = 800
#: Parts of the teacher's trees whose sums make its representation.
PARTS = 10


class FairDistillation(Mitigator):
    """A student network that keeps what an accurate teacher knows and is fair to joint groups.

    Parameters
    ----------
    fairness : Fairness
        Criterion; the strength scales the five fairness terms together.
    variance_weight, gap_weight, square_weight, correlation_weight, adversary_weight : float
        Of the fairness terms at full strength.
    prediction_weight, representation_weight : float
        Of the two distillation terms; the labels weigh 1.
    tau : float
        Temperature, above 1: how much of the teacher's doubt is told.
    sharpness : float
        Steepness of the softened decision in log odds; 1 is the probability itself.
    hidden : tuple of int
        Hidden layers of the student.
    cell_rows : int
        Rows of each group, and class, in the fairness terms of a step.
    epochs : float
        Passes over the rows; small tables get at least 800 steps.
    batch_size : int
        Rows a step.
    learning_rate : float
        Of AdamW, at its peak.
    use_sensitive : bool
        Whether student and teacher read the sensitive columns.
    minimum_group : int
        Groups of fewer rows are taken together.
    base : {"lightgbm"}
        The teacher.
    seed : int
        Decides everything.

    Attributes
    ----------
    group_names_ : tuple of str
        Groups that were compared.
    rare_groups_ : tuple of str
        Groups that were taken together.
    teacher_ : TableModel
        As fitted.

    References
    ----------
    Fair knowledge distillation for intersectional groups, ECAI 2025 (the group of FairX). Hinton, Vinyals and Dean,
    "Distilling the knowledge in a neural network", 2015. Romero et al., "FitNets", ICLR 2015.
    """

    fairness: Fairness
    name: ClassVar[str] = "fair-distillation"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="a student of an accurate teacher that is fair to joint groups",
        paper="Fair knowledge distillation, ECAI 2025",
        stage="in",
        families=("lightgbm",),
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        variance_weight: float = 0.3,
        gap_weight: float = 0.15,
        square_weight: float = 0.3,
        correlation_weight: float = 0.6,
        adversary_weight: float = 0.1,
        prediction_weight: float = 1.0,
        representation_weight: float = 0.1,
        tau: float = 2.0,
        sharpness: float = 4.0,
        hidden: tuple[int, ...] = (64, 64),
        cell_rows: int = 256,
        epochs: float = 20,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        use_sensitive: bool = True,
        minimum_group: int = RARE_ROWS,
        base: str = "lightgbm",
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.variance_weight = variance_weight
        self.gap_weight = gap_weight
        self.square_weight = square_weight
        self.correlation_weight = correlation_weight
        self.adversary_weight = adversary_weight
        self.prediction_weight = prediction_weight
        self.representation_weight = representation_weight
        self.tau = tau
        self.sharpness = sharpness
        self.hidden = hidden
        self.cell_rows = cell_rows
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.use_sensitive = use_sensitive
        self.minimum_group = minimum_group
        self.base = base
        self.seed = seed

    @property
    def model_name(self) -> str:
        """Name of the model that decides."""
        return "network"

    def _check_settings(self) -> None:
        super()._check_settings()
        terms = ("variance", "gap", "square", "correlation", "adversary", "prediction", "representation")
        check_settings(
            self,
            whole=("cell_rows", "batch_size", "minimum_group"),
            from_zero=tuple(f"{term}_weight" for term in terms),
            above_zero=("tau", "sharpness", "epochs", "learning_rate"),
            widths=("hidden",),
        )
        if self.tau <= 1:
            raise SettingsError(f"tau={self.tau!r} must be above 1: it softens what the teacher says.")

    def _fit(self, table: Table, progress: Progress | None) -> None:
        from fairsynth.nn.threads import threads

        self.teacher_ = TableModel(
            table.schema, table.frame, self.task_, self.base, seed=self.seed, without=self._without(table)
        ).fit(table.frame)
        self.features_ = NetworkFeatures(table.schema, table.frame, self.task_, self._without(table))
        pooled = PooledGroups.learn(table, minimum=self.minimum_group)
        self.group_names_, self.rare_groups_ = pooled.names, pooled.rare
        with threads(1):
            self._learn(table, pooled.codes(table), progress)

    def _learn(self, table: Table, groups: Ints, progress: Progress | None) -> None:
        import torch
        from torch.nn import functional

        from fairsynth.nn.training import Plan, build, steps_for, train

        codes = self._codes(table)
        x = torch.from_numpy(self.features_(table.frame)).float()
        y = torch.from_numpy(codes)
        taught = torch.from_numpy(self.teacher_.class_probabilities(table.frame)).float().clamp(1e-6, 1)
        taught = (taught.log() / self.tau).softmax(dim=1)
        hints = torch.from_numpy(partial_sums(self.teacher_, table)).float()
        cells = Cells(
            groups,
            class_of_criterion(self.fairness.criterion, self.task_.is_favorable(codes)),
            self.cell_rows,
        )
        n, classes = len(x), len(self.task_.levels)
        student: Any = build(
            self.seed,
            lambda: _student(
                x.shape[1], self.hidden, classes, hints.shape[1], cells.n_groups, len(cells.classes)
            ),
        )
        strength = self.fairness.strength
        favorable = torch.zeros(classes, dtype=torch.bool)
        favorable[list(self.task_.favorable)] = True

        def loss(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            hidden = student["body"](x[rows])
            logits = student["head"](hidden)
            softened = (logits / self.tau).log_softmax(dim=1)
            told = functional.kl_div(softened, taught[rows], reduction="batchmean") * self.tau**2
            followed = functional.mse_loss(student["hint"](hidden), hints[rows])
            total = functional.cross_entropy(logits, y[rows])
            total = total + self.prediction_weight * told + self.representation_weight * followed
            gap = 0.0
            if strength:
                drawn = cells.draw(generator)
                inner = student["body"](x[drawn.reshape(-1)])
                odds = log_odds(student["head"](inner), favorable).reshape(drawn.shape)
                terms = cells.terms((self.sharpness * odds).sigmoid())
                adversary = cells.adversary(student, inner.reshape(*drawn.shape, -1))
                fair = (
                    self.variance_weight * terms["variance"]
                    + self.gap_weight * terms["gap"]
                    + self.square_weight * terms["square"]
                    + self.correlation_weight * terms["correlation"]
                    + self.adversary_weight * adversary
                )
                total = total + strength * fair
                gap = float(terms["gap"].detach())
            return total, {"loss": float(total.detach()), "gap": gap}

        batch = min(self.batch_size, n)
        plan = Plan(steps_for(n, batch, self.epochs, MIN_STEPS), batch, self.learning_rate)
        train(student, loss, n_rows=n, plan=plan, seed=self.seed, stage="distil student", progress=progress)
        self.student_ = student

    def _class_probabilities(self, table: Table) -> Floats:
        import torch

        with torch.inference_mode():
            x = torch.from_numpy(self.features_(table.frame)).float()
            logits = self.student_["head"](self.student_["body"](x))
            return np.asarray(logits.double().softmax(dim=1).numpy())


class Cells:
    """Rows by class and group, drawn alike from each, and the fairness terms on them.

    Parameters
    ----------
    groups : ndarray of int64, shape (n,)
        Group of every row.
    within : ndarray of int64, shape (n,)
        Class within which it is compared; -1: in none.
    rows : int
        Rows drawn of each cell.
    """

    def __init__(self, groups: Ints, within: Ints, rows: int) -> None:
        import torch

        self.n_groups, self.rows = int(groups.max()) + 1, rows
        self.classes: list[int] = []
        self._cells: list[Tensor] = []
        #: By class: the places of its cells, the groups that they are of, their shares of its people.
        self.blocks: list[tuple[slice, Tensor, Tensor]] = []
        for value in np.unique(within[within >= 0]):
            own = within == value
            present = [g for g in range(self.n_groups) if np.any(own & (groups == g))]
            if len(present) < 2:
                continue
            start = len(self._cells)
            counts = []
            for g in present:
                members = np.flatnonzero(own & (groups == g))
                self._cells.append(torch.from_numpy(members))
                counts.append(len(members))
            shares = torch.tensor(counts, dtype=torch.float32)
            self.classes.append(int(value))
            self.blocks.append((slice(start, len(self._cells)), torch.tensor(present), shares / shares.sum()))

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return rows, int64 ``(cells, rows)``, drawn with replacement."""
        import torch

        place = torch.rand((len(self._cells), self.rows), generator=generator)
        return torch.stack([cell[(p * len(cell)).long()] for cell, p in zip(self._cells, place, strict=True)])

    def terms(self, decision: Tensor) -> dict[str, Tensor]:
        """Return the four terms on rates, means over the classes.

        Parameters
        ----------
        decision : Tensor, shape (cells, rows)
            Softened decisions in [0, 1].
        """
        total = {name: decision.new_zeros(()) for name in ("variance", "gap", "square", "correlation")}
        for block, _, shares in self.blocks:
            own = decision[block]
            rates = own.mean(dim=1)
            overall = (shares * rates).sum()
            # Variance of a decision in the population: within groups, and between them.
            between = (shares * (rates - overall) ** 2).sum()
            whole = (shares * own.var(dim=1, unbiased=False)).sum() + between
            # Correlation with the indicator of group g: cov = share (rate - overall), its variance share (1 - share).
            square = shares * (rates - overall) ** 2 / ((1 - shares).clamp_min(1e-6) * whole.clamp_min(1e-6))
            relative = rates / overall.clamp_min(0.01)
            total["variance"] = total["variance"] + relative.var(unbiased=False)
            total["gap"] = total["gap"] + relative.max() - relative.min()
            total["square"] = total["square"] + (shares * (relative - 1) ** 2).sum()
            total["correlation"] = total["correlation"] + square.mean()
        return {name: value / max(1, len(self.blocks)) for name, value in total.items()}

    def adversary(self, student: Any, hidden: Tensor) -> Tensor:
        """Return the adversary's loss, which the student is trained to raise: ``(cells, rows, width)`` → scalar."""
        from torch.nn import functional

        total = hidden.new_zeros(())
        for number, (block, present, _) in enumerate(self.blocks):
            own = hidden[block]
            logits = student["adversaries"][number](reversed_gradient(own.reshape(-1, own.shape[-1])))
            total = total + functional.cross_entropy(logits, present.repeat_interleave(self.rows))
        return total / max(1, len(self.blocks))


def log_odds(logits: Tensor, favorable: Tensor) -> Tensor:
    """Return the log odds of a favorable class, ``(batch, classes)`` → ``(batch,)``."""
    return logits[:, favorable].logsumexp(dim=1) - logits[:, ~favorable].logsumexp(dim=1)


def reversed_gradient(values: Tensor) -> Tensor:
    """Return the values, whose gradient comes back with its sign turned."""
    return 2 * values.detach() - values


def partial_sums(teacher: TableModel, table: Table) -> Floats:
    """Return the teacher's representation: its standardised scores after each tenth of the trees.

    Returns
    -------
    ndarray of float64, shape (n, PARTS · scores a tree)
    """
    x, booster = teacher.features(table.frame), teacher.model.model_
    step = max(1, ROUNDS // PARTS)
    parts = [
        np.asarray(
            booster.predict(x, raw_score=True, start_iteration=i * step, num_iteration=step, num_threads=1)
        ).reshape(len(x), -1)
        for i in range(PARTS)
    ]
    sums = np.concatenate(list(np.cumsum(parts, axis=0)), axis=1)
    return (sums - sums.mean(axis=0)) / np.maximum(sums.std(axis=0), 1e-9)


def _student(
    columns: int, hidden: tuple[int, ...], classes: int, hints: int, groups: int, n_classes: int
) -> nn.Module:
    from torch import nn

    from fairsynth.nn.layers import perceptron

    body = nn.Sequential(perceptron(columns, hidden[:-1], hidden[-1]), nn.SiLU())
    return nn.ModuleDict(
        {
            "body": body,
            "head": nn.Linear(hidden[-1], classes),
            "hint": nn.Linear(hidden[-1], hints),
            "adversaries": nn.ModuleList(perceptron(hidden[-1], (32,), groups) for _ in range(n_classes)),
        }
    )
