"""The methods for images there are: one line each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fairsynth.errors import SettingsError

if TYPE_CHECKING:
    from fairsynth.generators.images.base import ImageGenerator

_BUILT_IN: dict[str, str] = {
    "fairvae": "fairsynth.generators.images.fairvae:FairVAE",
    "latent-distillation": "fairsynth.generators.images.latent_distillation:LatentDistillation",
    "fair4free": "fairsynth.generators.images.fair4free:Fair4Free",
    "fldgm": "fairsynth.generators.images.fldgm:FLDGM",
    "fade": "fairsynth.generators.images.fade:FADE",
}
DEFAULT_GENERATOR = "fairvae"


def list_generators() -> tuple[str, ...]:
    """Return the names of all methods for images."""
    return tuple(_BUILT_IN)


def get_generator_class(name: str) -> type[ImageGenerator]:
    """Return the class of a method for images.

    Raises
    ------
    SettingsError
        If there is none of that name; the message lists those there are.
    """
    if name not in _BUILT_IN:
        raise SettingsError(f"there is no method for images {name!r}; there are {', '.join(_BUILT_IN)}.")
    module, _, attribute = _BUILT_IN[name].partition(":")
    return getattr(import_module(module), attribute)
