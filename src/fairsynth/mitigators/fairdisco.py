"""FairDisCo representation: a downstream model on the fair latent of the project's teacher (Liu et al. 2022).

`generators.fairvae.FairVAE` penalises the distance covariance between latent and group; its posterior means are the
representation here. A generator's encoder also sees the label, which nobody has at decision time. So the autoencoder is
trained here on rows whose label is a fair coin, and no term of its loss asks for it (label and contrast weights 0):
what it encodes are the other columns, as published, and no label can travel into the representation. The label enters
with the model that is trained on top.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from fairsynth.data.table import Table
from fairsynth.evaluation.features import level_names
from fairsynth.fairness import Fairness
from fairsynth.generators.settings import check_settings
from fairsynth.mitigators.base import Capabilities, Floats, Mitigator
from fairsynth.mitigators.models import MatrixModel
from fairsynth.progress import Progress

#: The network, the penalty and the training of FairDisCo's tables (see `generators.fairvae.PAPER`).
_PAPER: dict[str, Any] = {
    "hidden": (64,),
    "decoder_hidden": (64,),
    "penalty": "density",
    "penalty_weight": 1e7,
    "batch_size": 2048,
    "epochs": 1000,
    "learning_rate": 1e-3,
    "constant_rate": True,
    "weight_decay": 0.0,
}


class FairDisCoRepresentation(Mitigator):
    """A downstream model on a latent that is nearly independent of the group.

    Parameters
    ----------
    fairness : Fairness
        Demographic parity; the strength scales the penalty.
    preset : {"default", "paper"}
        ``"paper"`` takes FairDisCo's sizes, penalty and 1,000 epochs instead of those below.
    latent_dim : int
        Dimensions of the representation; 8 is published.
    penalty_weight : float
        Of the distance covariance at full strength.
    beta : float
        Weight of the KL divergence.
    epochs : float
        Passes over the rows.
    base : {"lightgbm", "logistic_regression", "random_forest"}
        Model that is trained on the representation.
    seed : int
        Of autoencoder and model.

    Attributes
    ----------
    autoencoder_ : FairVAE
        As fitted.

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
        criteria=("demographic_parity",),
        needs_sensitive=True,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        preset: Literal["default", "paper"] = "default",
        latent_dim: int = 8,
        penalty_weight: float = 20.0,
        beta: float = 0.2,
        epochs: float = 40,
        base: str = "lightgbm",
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.preset = preset
        self.latent_dim = latent_dim
        self.penalty_weight = penalty_weight
        self.beta = beta
        self.epochs = epochs
        self.base = base
        self.seed = seed

    def _check_settings(self) -> None:
        super()._check_settings()
        check_settings(
            self,
            choices={"preset": ("default", "paper")},
            whole=("latent_dim",),
            from_zero=("penalty_weight", "beta"),
            above_zero=("epochs",),
        )

    def _fit(self, table: Table, progress: Progress | None) -> None:
        from fairsynth.generators.fairvae import FairVAE

        settings: dict[str, Any] = {
            "penalty_weight": self.penalty_weight,
            "epochs": self.epochs,
            **(_PAPER if self.preset == "paper" else {}),
        }
        self.autoencoder_ = FairVAE(
            fairness=self.fairness,
            latent_dim=self.latent_dim,
            decoder="independent",
            beta=1.0 if self.preset == "paper" else self.beta,
            label_weight=0.0,
            contrast_weight=0.0,
            calibrate=False,
            seed=self.seed,
            **settings,
        )
        coin = np.random.default_rng(self.seed).integers(0, len(self.task_.levels), len(table))
        self.autoencoder_.fit(_labelled(table, coin), progress=progress)
        self.model_ = MatrixModel(self.task_, self.base, seed=self.seed)
        self.model_.fit(self._latent(table), self._codes(table))

    def transform(self, table: Table) -> Floats:
        """Return the representation, float64 ``(n, latent_dim)``; the label is not read."""
        return self._latent(self._rows(table))

    def _latent(self, table: Table) -> Floats:
        same = _labelled(table, np.zeros(len(table), dtype=np.int64))
        return self.autoencoder_.transform(same).astype(np.float64)

    def _class_probabilities(self, table: Table) -> Floats:
        return self.model_.class_probabilities(self._latent(table))


def _labelled(table: Table, codes: np.ndarray) -> Table:
    """Return the rows with other labels."""
    column = table.schema[table.schema.target]
    levels = level_names(column)
    values: list[Any] = [c == 1 for c in codes] if column.kind == "boolean" else [levels[c] for c in codes]
    dtype = table.frame[column.name].dtype
    return table.replace(table.frame.with_columns(pl.Series(column.name, values, dtype=dtype)))
