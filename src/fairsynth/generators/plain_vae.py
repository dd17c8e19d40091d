"""PlainVAE: the autoencoder without any fairness, as an honest baseline.

A variational autoencoder of a table in the manner of TVAE (Xu et al., NeurIPS 2019), in our own network: that of
`FairVAE` at strength 0 and without a penalty, with a latent of the size that served a copy best on held-out rows. Its
rows follow the real table P(y, s), bias and all, so that it says what a table costs that is synthetic and not made
fairer. What departs from TVAE: states in the place of mode-specific numbers, an autoregressive decoder, the label
from a head of its own, and a law of the latent that was measured in the place of a standard Gaussian.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from fairsynth.data.table import Table
from fairsynth.errors import CapabilityError
from fairsynth.fairness import Fairness
from fairsynth.generators.base import Capabilities, Generator
from fairsynth.generators.fairvae import FairVAE
from fairsynth.generators.requests import Request
from fairsynth.progress import Progress

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle


class PlainVAE(Generator):
    """Synthetic tables from a variational autoencoder, as biased as the rows it learned from.

    Parameters
    ----------
    fairness : None
        It cannot be asked for any; anything else is refused.
    latent_dim : int
        Dimensions of the latent.
    hidden, decoder, decoder_hidden, decoder_width, beta, label_weight, contrast_weight
        Of the network and its loss; see `FairVAE`.
    epochs, batch_size, learning_rate, weight_decay
        Of the training; see `FairVAE`.
    max_intervals, law_components
        See `FairVAE`.
    seed : int
        Decides everything.

    Attributes
    ----------
    label_law_ : np.ndarray
        P(y, s) that rows are drawn from ``(labels, groups)``: the real one.
    """

    fairness: None
    name: ClassVar[str] = "plain-vae"
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="variational autoencoder without fairness: an honest baseline",
        paper="in the manner of TVAE, NeurIPS 2019",
        criteria=(),
        strength=False,
        targets=("binary", "multiclass", "numeric"),
    )

    def __init__(
        self,
        *,
        fairness: None = None,
        latent_dim: int = 4,
        hidden: tuple[int, ...] = (192, 192),
        decoder: Literal["autoregressive", "independent"] = "autoregressive",
        decoder_hidden: tuple[int, ...] = (128,),
        decoder_width: int = 64,
        beta: float = 1.0,
        label_weight: float = 10.0,
        contrast_weight: float = 5.0,
        epochs: float = 40,
        batch_size: int = 1024,
        learning_rate: float = 3e-3,
        weight_decay: float = 1.0,
        max_intervals: int = 64,
        law_components: int = 12,
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.decoder = decoder
        self.decoder_hidden = decoder_hidden
        self.decoder_width = decoder_width
        self.beta = beta
        self.label_weight = label_weight
        self.contrast_weight = contrast_weight
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_intervals = max_intervals
        self.law_components = law_components
        self.seed = seed

    def _network(self) -> FairVAE:
        """Return the autoencoder with these settings, unfitted."""
        settings = {name: value for name, value in self.get_params(deep=False).items() if name != "fairness"}
        return FairVAE(fairness=Fairness(strength=0.0), penalty_weight=0.0, calibrate=False, **settings)

    def _fit(self, table: Table, *, progress: Progress | None, checkpoint: Path | None) -> None:
        refuse_fairness(self)
        self.vae_ = self._network().fit(table, progress=progress, checkpoint=checkpoint)
        self.label_law_ = self.vae_.label_law_

    def _prepare(self, request: Request) -> Any:
        return self.vae_._prepare(request)

    def _draw(self, n: int, request: Any, seed: np.random.SeedSequence) -> Any:
        return self.vae_._draw(n, request, seed)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        return self.vae_._state()

    def _restore(self, content: Bundle) -> None:
        refuse_fairness(self)
        self.vae_ = self._network()
        self.vae_.schema_, self.vae_.n_rows_ = self.schema_, self.n_rows_
        self.vae_._restore(content)
        self.label_law_ = self.vae_.label_law_


def refuse_fairness(model: Generator) -> None:
    """Raise CapabilityError if a method without any notion of fairness is asked for some."""
    if model.fairness is not None:
        raise CapabilityError(
            f"{model.name} knows no fairness to ask for, and {model.fairness!r} was; leave it out, or choose a "
            "method that has criteria (`fairsynth models`)."
        )
