"""What each method's search may try, where the plan says ``search = true``.

A method of another package declares its own: ``search_space = {"width": {"low": 32, "high": 256, "log": True}, ...}``
as an attribute of its class, in the words of a plan. Ranges here lie around the defaults and hold what trades fairness
against usefulness; they come from no search on any table.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from fairsynth.benchmark.plan import Range, Space
from fairsynth.errors import SettingsError


def _log(low: float, high: float) -> dict[str, Any]:
    return {"low": low, "high": high, "log": True}


def _even(low: float, high: float) -> dict[str, Any]:
    return {"low": low, "high": high, "log": False}


_BASE = {"base": ["lightgbm", "logistic_regression", "random_forest"]}
_GAN = {
    "hidden": [[64, 64], [128, 128], [256, 256]],
    "critic_steps": _even(1, 6),
    "learning_rate": _log(2e-4, 3e-3),
    "tau": _even(0.1, 0.6),
}
SPACES: dict[str, dict[str, Any]] = {
    "fairvae": {
        "latent_dim": _even(2, 8),
        "penalty_weight": _log(0.5, 50.0),
        "label_weight": _log(1.0, 50.0),
        "beta": _log(0.1, 3.0),
        "learning_rate": _log(5e-4, 1e-2),
    },
    "plain-vae": {
        "latent_dim": _even(2, 16),
        "label_weight": _log(1.0, 50.0),
        "beta": _log(0.1, 3.0),
        "learning_rate": _log(5e-4, 1e-2),
    },
    "latent-distillation": {
        "hidden": [[16], [32], [64]],
        "quality_weight": _log(0.1, 10.0),
        "utility_weight": _log(0.1, 10.0),
        "temperature": _even(1.0, 4.0),
    },
    "fair4free": {
        "hidden": [[16, 16], [32, 32], [64, 64]],
        "label_weight": _log(0.5, 50.0),
        "dependence_weight": _log(0.1, 10.0),
        "learning_rate": _log(1e-3, 1e-2),
    },
    "fldgm": {"kind": ["diffusion", "wgan-gp", "lsgan"], "width": [64, 128, 256]},
    "fade": {
        "label_weight": _even(0.5, 3.0),
        "sensitive_weight": _even(0.0, 4.0),
        "sensitive_form": ["entropy", "kl-uniform", "kl-shares"],
        "learning_rate": _log(5e-4, 5e-3),
    },
    "prefair": {"bins": [32, 64, 128], "max_states": _even(8, 32)},
    "fair-trees": {
        "min_leaf": _log(5, 100),
        "reach": _even(2.0, 8.0),
        "evidence": _even(0.5, 4.0),
        "backing": _even(0.1, 0.9),
    },
    "audited-trees": {"reach": _even(4.0, 16.0), "min_leaf": _log(5, 60), "evidence": _even(1.0, 5.0)},
    "decaf": {
        "debias": ["ftu", "dp", "cf"],
        "tau": _even(0.1, 0.9),
        "critic_steps": _even(1, 6),
        "learning_rate": _log(5e-4, 1e-2),
    },
    "fairgan": {**_GAN, "fair_weight": _log(0.1, 10.0), "fair_share": _even(0.1, 0.7)},
    "fair-tabddpm": {
        "label_weight": _even(0.5, 3.0),
        "group_weight": _even(0.5, 3.0),
        "balanced": [False, True],
        "width": [128, 256, 512],
    },
    "tabfairgan": {**_GAN, "gap_weight": _log(0.3, 10.0), "fair_share": _even(0.05, 0.4)},
    "tabularargn": {"model_size": ["small", "medium", "large"]},
    "ctgan": {"embedding_dim": [64, 128, 256], "discriminator_steps": _even(1, 5)},
    "tvae": {"embedding_dim": [64, 128, 256]},
    "none": {**_BASE, "use_sensitive": [True, False]},
    "correlation-remover": _BASE,
    "reweighing": {**_BASE, "use_sensitive": [True, False]},
    "disparate-impact-repair": _BASE,
    "prototype-representation": {
        "n_prototypes": _even(5, 30),
        "reconstruction_weight": _log(1e-3, 1e-1),
        "fairness_weight": _log(1.0, 200.0),
    },
    "fairdisco-representation": {
        "latent_dim": _even(4, 16),
        "penalty_weight": _log(3.0, 300.0),
        "label_weight": _log(2.0, 100.0),
        "beta": _log(0.05, 1.0),
    },
    "exponentiated-gradient": {**_BASE, "slack": _log(1e-3, 1e-1)},
    "grid-search": {**_BASE, "constraint_weight": _even(0.1, 0.9)},
    "adversarial": {"adversary_weight": _log(0.3, 30.0), "learning_rate": _log(5e-4, 1e-2)},
    "threshold-optimizer": {**_BASE, "holdout": [0.0, 0.2]},
    "fair-distillation": {
        "gap_weight": _log(0.03, 1.0),
        "correlation_weight": _log(0.1, 3.0),
        "adversary_weight": _log(0.02, 1.0),
        "tau": _even(1.0, 4.0),
    },
}


def declared_space(name: str, found: type[Any]) -> dict[str, Any]:
    """Return the space that a method declares.

    Raises
    ------
    SettingsError
        If it declares none, or one that is wrong.
    """
    space = getattr(found, "search_space", None) or SPACES.get(name)
    if not space:
        raise SettingsError(
            f"{name} declares no space; name what is to be searched: search = {{ setting = {{ low = 1, high = 9 }} }}"
        )
    try:
        checked: dict[str, Any] = TypeAdapter(Space).validate_python(dict(space))
    except ValidationError as error:
        raise SettingsError(f"the space that {name} declares is wrong: {error.errors()[0]['msg']}") from error
    return {k: v.model_dump() if isinstance(v, Range) else list(v) for k, v in checked.items()}
