"""Fair synthetic tables from biased, private ones, with the evidence.

The public names below are resolved when first used, so that ``import fairsynth`` (and with it
``fairsynth --help``) does not wait for PyTorch, pandas or Polars.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairsynth.data.catalog import load_dataset
    from fairsynth.data.schema import Schema
    from fairsynth.data.table import Table
    from fairsynth.evaluation.evaluate import evaluate
    from fairsynth.evaluation.result import Evaluation
    from fairsynth.fairness import Fairness
    from fairsynth.generators.base import load_generator
    from fairsynth.generators.fair4free import Fair4Free
    from fairsynth.generators.fairvae import FairVAE
    from fairsynth.generators.latent_distillation import LatentDistillation

__version__ = "0.1.0"

__all__ = [
    "Evaluation",
    "Fair4Free",
    "FairVAE",
    "Fairness",
    "LatentDistillation",
    "Schema",
    "Table",
    "__version__",
    "evaluate",
    "load_dataset",
    "load_generator",
]

_HOME = {
    "Evaluation": "fairsynth.evaluation.result",
    "Fair4Free": "fairsynth.generators.fair4free",
    "FairVAE": "fairsynth.generators.fairvae",
    "Fairness": "fairsynth.fairness",
    "LatentDistillation": "fairsynth.generators.latent_distillation",
    "Schema": "fairsynth.data.schema",
    "Table": "fairsynth.data.table",
    "evaluate": "fairsynth.evaluation.evaluate",
    "load_dataset": "fairsynth.data.catalog",
    "load_generator": "fairsynth.generators.base",
}


def __getattr__(name: str) -> Any:
    """Import the module a public name lives in, the first time that the name is asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, resolved or not."""
    return sorted({*globals(), *__all__})
