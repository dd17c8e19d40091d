"""The methods there are: one line each."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from fairsynth.errors import SettingsError

if TYPE_CHECKING:
    from fairsynth.generators.base import Generator

_BUILT_IN: dict[str, str] = {
    "fairvae": "fairsynth.generators.fairvae:FairVAE",
    "latent-distillation": "fairsynth.generators.latent_distillation:LatentDistillation",
    "fair4free": "fairsynth.generators.fair4free:Fair4Free",
    "fldgm": "fairsynth.generators.fldgm:FLDGM",
    "plain-vae": "fairsynth.generators.plain_vae:PlainVAE",
    "fade": "fairsynth.generators.fade:FADE",
    "prefair": "fairsynth.generators.prefair:PreFair",
    "audited-trees": "fairsynth.generators.audited_trees:AuditedTrees",
    "fair-trees": "fairsynth.generators.fair_trees:FairTrees",
    "decaf": "fairsynth.generators.decaf:DECAF",
    "fairgan": "fairsynth.generators.fairgan:FairGAN",
    "fair-tabddpm": "fairsynth.generators.fair_tabddpm:FairTabDDPM",
    "tabfairgan": "fairsynth.generators.tabfairgan:TabFairGAN",
    "tabularargn": "fairsynth.generators.peers:TabularARGN",
    "ctgan": "fairsynth.generators.peers:CTGAN",
    "tvae": "fairsynth.generators.peers:TVAE",
}
DEFAULT_GENERATOR = "audited-trees"
#: Other packages add their own generators under this entry point group.
ENTRY_POINTS = "fairsynth.generators"


def list_generators() -> tuple[str, ...]:
    """Return the names of all methods, those of other installed packages included."""
    return (*_BUILT_IN, *sorted(point.name for point in _foreign() if point.name not in _BUILT_IN))


def get_generator_class(name: str) -> type[Generator]:
    """Return the class of a method.

    Raises
    ------
    SettingsError
        If there is no method of that name (the message lists those there are), or another package names one that
        cannot be imported.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)
    for point in _foreign():
        if point.name == name:
            try:
                return point.load()
            except Exception as error:  # another package's code may do anything
                package = point.dist.name if point.dist is not None else point.value
                raise SettingsError(
                    f"method {name!r} of the package {package} cannot be imported: {type(error).__name__}: {error}. "
                    "Mend that package, or remove it."
                ) from error
    raise SettingsError(f"there is no method {name!r}; there are {', '.join(list_generators())}.")


def student_class(teacher: str | os.PathLike[str]) -> type[Generator]:
    """Return the class whose ``distill`` makes a student of a teacher's file.

    Parameters
    ----------
    teacher : path
        A model file.

    Returns
    -------
    type
        `AuditedTrees` for a file of its own, else `Fair4Free`, which says what it cannot distill.

    Raises
    ------
    BundleError
        If the file is no valid model file.
    """
    from fairsynth import bundle

    found = bundle.read(teacher).manifest.get("generator")
    return get_generator_class("audited-trees" if found == "audited-trees" else "fair4free")


def _foreign() -> list[EntryPoint]:
    return list(entry_points(group=ENTRY_POINTS))
