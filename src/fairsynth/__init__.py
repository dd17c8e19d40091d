"""Fair synthetic tables from biased, private ones, with the evidence.

The public names below are resolved when first used, so that ``import fairsynth`` (and with it
``fairsynth --help``) does not wait for PyTorch, pandas or Polars.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairsynth.data.biased import BiasedWorld, make_biased
    from fairsynth.data.catalog import load_dataset
    from fairsynth.data.images import ImageSet, load_images
    from fairsynth.data.schema import Schema
    from fairsynth.data.streams import StreamedTable
    from fairsynth.data.table import Table
    from fairsynth.evaluation.evaluate import evaluate
    from fairsynth.evaluation.requirements import meet
    from fairsynth.evaluation.result import Evaluation
    from fairsynth.fairness import Fairness
    from fairsynth.generators.audited_trees import AuditedTrees
    from fairsynth.generators.base import load_generator
    from fairsynth.generators.decaf import DECAF
    from fairsynth.generators.fade import FADE
    from fairsynth.generators.fair4free import Fair4Free
    from fairsynth.generators.fair_tabddpm import FairTabDDPM
    from fairsynth.generators.fair_trees import FairTrees
    from fairsynth.generators.fairgan import FairGAN
    from fairsynth.generators.fairvae import FairVAE
    from fairsynth.generators.fldgm import FLDGM
    from fairsynth.generators.latent_distillation import LatentDistillation
    from fairsynth.generators.plain_vae import PlainVAE
    from fairsynth.generators.prefair import PreFair
    from fairsynth.generators.tabfairgan import TabFairGAN

__version__ = "0.1.0"

__all__ = [
    "DECAF",
    "FADE",
    "FLDGM",
    "AuditedTrees",
    "BiasedWorld",
    "Evaluation",
    "Fair4Free",
    "FairGAN",
    "FairTabDDPM",
    "FairTrees",
    "FairVAE",
    "Fairness",
    "ImageSet",
    "LatentDistillation",
    "PlainVAE",
    "PreFair",
    "Schema",
    "StreamedTable",
    "TabFairGAN",
    "Table",
    "__version__",
    "evaluate",
    "images",
    "load_dataset",
    "load_generator",
    "load_images",
    "make_biased",
    "meet",
]

_HOME = {
    "BiasedWorld": "fairsynth.data.biased",
    "DECAF": "fairsynth.generators.decaf",
    "Evaluation": "fairsynth.evaluation.result",
    "FADE": "fairsynth.generators.fade",
    "FLDGM": "fairsynth.generators.fldgm",
    "Fair4Free": "fairsynth.generators.fair4free",
    "FairGAN": "fairsynth.generators.fairgan",
    "FairTabDDPM": "fairsynth.generators.fair_tabddpm",
    "AuditedTrees": "fairsynth.generators.audited_trees",
    "FairTrees": "fairsynth.generators.fair_trees",
    "FairVAE": "fairsynth.generators.fairvae",
    "Fairness": "fairsynth.fairness",
    "ImageSet": "fairsynth.data.images",
    "LatentDistillation": "fairsynth.generators.latent_distillation",
    "PlainVAE": "fairsynth.generators.plain_vae",
    "PreFair": "fairsynth.generators.prefair",
    "Schema": "fairsynth.data.schema",
    "StreamedTable": "fairsynth.data.streams",
    "TabFairGAN": "fairsynth.generators.tabfairgan",
    "Table": "fairsynth.data.table",
    "evaluate": "fairsynth.evaluation.evaluate",
    "load_dataset": "fairsynth.data.catalog",
    "load_generator": "fairsynth.generators.base",
    "load_images": "fairsynth.data.images",
    "make_biased": "fairsynth.data.biased",
    "meet": "fairsynth.evaluation.requirements",
}


def __getattr__(name: str) -> Any:
    """Import the module a public name lives in, the first time that the name is asked for."""
    if name == "images":  # a module of its own: the names of the methods are those of the methods for tables
        return import_module("fairsynth.images")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, resolved or not."""
    return sorted({*globals(), *__all__})
