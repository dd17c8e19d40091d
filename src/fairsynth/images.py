"""Everything for images in one place: ``import fairsynth as fs``, then ``fs.images.FairVAE``.

The names are those of the systems for tables; what they take is an :class:`fairsynth.ImageSet`. They are resolved when
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairsynth.data.images import ImageSet, load_images
    from fairsynth.evaluation.images import ImageEvaluation, evaluate_images
    from fairsynth.generators.images.fade import FADE
    from fairsynth.generators.images.fair4free import Fair4Free
    from fairsynth.generators.images.fairvae import FairVAE
    from fairsynth.generators.images.fldgm import FLDGM
    from fairsynth.generators.images.latent_distillation import LatentDistillation
    from fairsynth.generators.images.registry import get_generator_class, list_generators

__all__ = [
    "FADE",
    "FLDGM",
    "Fair4Free",
    "FairVAE",
    "ImageEvaluation",
    "ImageSet",
    "LatentDistillation",
    "evaluate_images",
    "get_generator_class",
    "list_generators",
    "load_images",
]

_HOME = {
    "FADE": "fairsynth.generators.images.fade",
    "FLDGM": "fairsynth.generators.images.fldgm",
    "Fair4Free": "fairsynth.generators.images.fair4free",
    "FairVAE": "fairsynth.generators.images.fairvae",
    "ImageEvaluation": "fairsynth.evaluation.images",
    "ImageSet": "fairsynth.data.images",
    "LatentDistillation": "fairsynth.generators.images.latent_distillation",
    "evaluate_images": "fairsynth.evaluation.images",
    "get_generator_class": "fairsynth.generators.images.registry",
    "list_generators": "fairsynth.generators.images.registry",
    "load_images": "fairsynth.data.images",
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
