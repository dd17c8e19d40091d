"""FairDisCo representation: a downstream model on the fair latent of the project's teacher (Liu et al. 2022).

`generators.fairvae.FairVAE` penalises the distance covariance between latent and group, and a head reads the label from
the latent. Two things have to be otherwise than in a generator (ours):

- A generator's encoder sees the label, which nobody has at decision time. Here it is blind to it: the label shapes the
  representation through the head's loss alone, and cannot travel into it.
- What the penalty hides are *draws* of the latent. Their means tell, at a hundredth of the scale, what the draws drown
  in noise, and a tree or a standardised model reads it from there: on Adult the sex is read from the means with
  AUC .86 where it is read from draws with .58. So the model is trained on draws, and decides by its mean over several
  draws for each person, whose expectation is as equal between the groups as that of one.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from fairsynth.data.table import Table
from fairsynth.errors import FairsynthWarning
from fairsynth.fairness import Fairness
from fairsynth.generators.settings import check_settings
from fairsynth.metrics.utility import auroc
from fairsynth.mitigators.base import Capabilities, Floats, Mitigator
from fairsynth.mitigators.models import MatrixModel
from fairsynth.progress import Progress

if TYPE_CHECKING:
    from fairsynth.generators.fairvae import FairVAE

#: The network, the penalty and the training of FairDisCo's tables (see `generators.fairvae.PAPER`).
_PAPER: dict[str, Any] = {
    "hidden": (64,),
    "decoder_hidden": (64,),
    "penalty": "density",
    "penalty_weight": 1e7,
    "label_weight": 1.0,
    "beta": 1.0,
    "batch_size": 2048,
    "epochs": 1000,
    "learning_rate": 1e-3,
    "constant_rate": True,
    "weight_decay": 0.0,
}
#: Draws of every row that the model is trained on.
_LEARNED_DRAWS = 4
#: AUROC on the learned rows below which nothing is left of the label.
_COLLAPSED = 0.6


class FairDisCoRepresentation(Mitigator):
    """A downstream model on a latent that is nearly independent of the group.

    Parameters
    ----------
    fairness : Fairness
        Criterion; the strength scales the penalty.
    preset : {"default", "paper"}
        ``"paper"`` takes FairDisCo's sizes, penalty and 1,000 epochs instead of those below.
    latent_dim : int
        Dimensions of the representation; 8 is published.
    penalty_weight : float
        Of the distance covariance at full strength. The larger the table, the more it bears: on Adult 60 is
        fairer than 30, on a few thousand rows it leaves nothing of the label.
    label_weight : float
        Of the label's cross-entropy, read from the latent.
    beta : float
        Weight of the KL divergence.
    draws : int
        Draws of the latent over which a decision about a person is averaged.
    epochs : float
        Passes over the rows.
    base : {"lightgbm", "logistic_regression", "random_forest"}
        Model that is trained on the representation.
    seed : int
        Of autoencoder, model and draws.

    Attributes
    ----------
    autoencoder_ : FairVAE
        As fitted; not to be saved, for its encoder is no longer that of a generator.

    Warns
    -----
    FairsynthWarning
        If so little of the label is left that the predictor is no better than a constant one.

    References
    ----------
    Liu et al., "Fair Representation Learning: An Alternative to Mutual Information", KDD 2022.
    """

    fairness: Fairness
    name: ClassVar[str] = "fairdisco-representation"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="latent of an autoencoder whose distance covariance with the group is penalised",
        paper="FairDisCo, KDD 2022",
        stage="pre",
        needs_sensitive=True,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        preset: Literal["default", "paper"] = "default",
        latent_dim: int = 8,
        penalty_weight: float = 30.0,
        label_weight: float = 20.0,
        beta: float = 0.3,
        draws: int = 16,
        epochs: float = 20,
        base: str = "lightgbm",
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.preset = preset
        self.latent_dim = latent_dim
        self.penalty_weight = penalty_weight
        self.label_weight = label_weight
        self.beta = beta
        self.draws = draws
        self.epochs = epochs
        self.base = base
        self.seed = seed

    def _check_settings(self) -> None:
        super()._check_settings()
        check_settings(
            self,
            choices={"preset": ("default", "paper")},
            whole=("latent_dim", "draws"),
            from_zero=("penalty_weight", "label_weight", "beta"),
            above_zero=("epochs",),
        )

    def _fit(self, table: Table, progress: Progress | None) -> None:
        settings = {
            "penalty_weight": self.penalty_weight,
            "label_weight": self.label_weight,
            "beta": self.beta,
            "epochs": self.epochs,
            **(_PAPER if self.preset == "paper" else {}),
        }
        self.autoencoder_ = label_blind(
            fairness=self.fairness,
            latent_dim=self.latent_dim,
            decoder="independent",
            contrast_weight=0.0,
            calibrate=False,
            seed=self.seed,
            **settings,
        )
        self.autoencoder_.fit(table, progress=progress)
        learned = self._drawn(table, _LEARNED_DRAWS, 0)
        self.model_ = MatrixModel(self.task_, self.base, seed=self.seed)
        codes = self._codes(table)
        self.model_.fit(learned.reshape(-1, self.latent_dim), np.tile(codes, _LEARNED_DRAWS))
        if self.task_.kind == "binary":
            found = auroc(self._favorable(table), self.task_.probability(self._class_probabilities(table)))
            if found < _COLLAPSED:
                warnings.warn(
                    f"{self.name}: the representation tells nothing of {table.schema.target!r} (AUROC {found:.2f} on "
                    "the rows that it learned from); lower the strength or penalty_weight, or raise label_weight.",
                    FairsynthWarning,
                    stacklevel=4,
                )

    def transform(self, table: Table) -> Floats:
        """Return a draw of the representation, float64 ``(n, latent_dim)``; the label is not read."""
        return self._drawn(self._rows(table), 1, 1)[0]

    def _drawn(self, table: Table, draws: int, purpose: int) -> Floats:
        """Return draws ``(draws, n, latent_dim)`` from the posteriors, of a stream of their own."""
        import torch

        from fairsynth.nn.threads import threads

        net = self.autoencoder_.net_
        states = torch.from_numpy(net.layout.encoder.encode(table).astype(np.int64))
        with threads(1), torch.inference_mode():
            parts = [net.encoder(part) for part in states.split(8192)]
        mean = torch.cat([part[0] for part in parts]).numpy().astype(np.float64)
        deviation = torch.cat([part[1] for part in parts]).mul(0.5).exp().numpy().astype(np.float64)
        rng = np.random.default_rng([self.seed, purpose])
        return mean + deviation * rng.standard_normal((draws, *mean.shape))

    def _class_probabilities(self, table: Table) -> Floats:
        drawn = self._drawn(table, self.draws, 1)
        return np.mean([self.model_.class_probabilities(one) for one in drawn], axis=0)


def label_blind(**settings: Any) -> FairVAE:
    """Return a FairVAE, not fitted, whose encoder does not see the label."""
    from torch import Tensor, nn

    from fairsynth.generators.fairvae import FairVAE, Layout, Network

    class Blind(nn.Module):
        """An encoder to which every row has the first label."""

        def __init__(self, encoder: nn.Module, target: int) -> None:
            super().__init__()
            self.encoder, self.target = encoder, target

        def forward(self, states: Tensor) -> Any:
            states = states.clone()
            states[:, self.target] = 0
            return self.encoder(states)

    class LabelBlindFairVAE(FairVAE):
        """Draws no rows: it is fitted for its encoder."""

        def _network(self, layout: Layout, *, smooth: bool = False) -> Network:
            net = super()._network(layout, smooth=smooth)
            blind: Any = Blind(net.encoder, layout.target)
            net.encoder = blind
            return net

    return LabelBlindFairVAE(**settings)
