"""The mitigators there are: one line each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fairsynth.errors import SettingsError

if TYPE_CHECKING:
    from fairsynth.mitigators.base import Mitigator

_BUILT_IN: dict[str, str] = {
    "none": "fairsynth.mitigators.plain:Unmitigated",
    "constant": "fairsynth.mitigators.plain:ConstantPredictor",
    "correlation-remover": "fairsynth.mitigators.correlation_remover:CorrelationRemoval",
    "reweighing": "fairsynth.mitigators.reweighing:Reweighing",
    "disparate-impact-repair": "fairsynth.mitigators.disparate_impact:DisparateImpactRepair",
    "prototype-representation": "fairsynth.mitigators.prototypes:PrototypeRepresentation",
    "fairdisco-representation": "fairsynth.mitigators.fairdisco:FairDisCoRepresentation",
    "exponentiated-gradient": "fairsynth.mitigators.reductions:ExponentiatedGradientReduction",
    "grid-search": "fairsynth.mitigators.reductions:GridSearchReduction",
    "adversarial": "fairsynth.mitigators.adversarial:AdversarialDebiasing",
    "threshold-optimizer": "fairsynth.mitigators.thresholds:GroupThresholds",
    "fair-distillation": "fairsynth.mitigators.distillation:FairDistillation",
}


def list_mitigators() -> tuple[str, ...]:
    """Return the names of all mitigators, the two baselines first."""
    return tuple(_BUILT_IN)


def get_mitigator_class(name: str) -> type[Mitigator]:
    """Return the class of a mitigator.

    Raises
    ------
    SettingsError
        If there is none of that name; the message lists those there are.
    """
    if name not in _BUILT_IN:
        raise SettingsError(f"there is no mitigator {name!r}; there are {', '.join(_BUILT_IN)}.")
    module, _, attribute = _BUILT_IN[name].partition(":")
    return getattr(import_module(module), attribute)
