"""Whether a biased world can be: every parameter that cannot is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fairsynth.errors import SettingsError

if TYPE_CHECKING:
    from fairsynth.data.biased_model import BiasedModel

TARGET, DOMAIN = "label", "domain"


def whole(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise SettingsError(f"{name}={value!r} must be a whole number of at least {least}.")


def _number(name: str, value: Any, low: float, high: float, *, open_high: bool = False) -> None:
    good = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not (good and np.isfinite(value) and low <= value <= high and not (open_high and value == high)):
        bound = f"below {high:g}" if open_high else f"at most {high:g}"
        raise SettingsError(f"{name}={value!r} must be a number of at least {low:g} and {bound}.")


def _shares(name: str, shares: Any, least: int) -> None:
    if not isinstance(shares, Mapping) or len(shares) < least or not all(isinstance(k, str) for k in shares):
        raise SettingsError(f"{name}={shares!r} must map at least {least} names to their shares.")
    values = np.array(list(shares.values()), dtype=np.float64)
    if not (np.isfinite(values).all() and (values > 0).all() and abs(values.sum() - 1) < 1e-9):
        raise SettingsError(
            f"{name}: the shares {dict(shares)!r} must be positive and add up to 1; they add up to {values.sum():g}."
        )


def check(world: BiasedModel) -> None:
    """Refuse parameters that make no world, naming the first of them."""
    for name in ("direct", "proxy", "merit_gap", "covariate_shift"):
        _number(name, getattr(world, name), 0, 10)
    _number("label", world.label, 0, 1)
    _number("rate", world.rate, 0.001, 0.999)
    _number("separation", world.separation, 0.01, 20)
    _number("label_shift", world.label_shift, 0, 1, open_high=True)
    _number("missing", world.missing, 0, 1, open_high=True)
    whole("n_merit", world.n_merit, 1)
    whole("n_proxy", world.n_proxy, 0)
    whole("n_noise", world.n_noise, 0)
    whole("seed", world.seed, 0)
    if world.proxy and not world.n_proxy:
        raise SettingsError(
            f"proxy={world.proxy} needs a proxy column, and n_proxy is 0; raise n_proxy or leave proxy."
        )
    if isinstance(world.domains, int) and not isinstance(world.domains, bool):
        whole("domains", world.domains, 1)
    else:
        _shares("domains", world.domains, 1)
    if (world.covariate_shift or world.label_shift) and len(world.domain_names) == 1:
        raise SettingsError("a shift needs at least two domains; give domains=2 or more.")
    if world.covariate_shift and world.label_shift:
        raise SettingsError(
            "covariate_shift and label_shift exclude each other: in the first the domain decides who is there, in the "
            "second the label decides the domain; give one of them."
        )
    if not isinstance(world.sensitive, Mapping) or not world.sensitive:
        raise SettingsError(
            f"sensitive={world.sensitive!r} must map the names of sensitive columns to their levels."
        )
    for name, levels in world.sensitive.items():
        _shares(f"sensitive[{name!r}]", levels, 2)
    taken = {DOMAIN, TARGET, *(column.name for column in world.columns)} & set(world.sensitive)
    if taken:
        raise SettingsError(
            f"sensitive: {', '.join(sorted(taken))} is the name of another column; choose another."
        )
    shape = tuple(len(levels) for levels in world.sensitive.values())
    if world.joint is not None:
        joint = np.asarray(world.joint, dtype=np.float64)
        if joint.shape != shape or not (joint >= 0).all() or abs(joint.sum() - 1) > 1e-9:
            raise SettingsError(f"joint must hold shares of the shape {shape} that add up to 1.")
    for name, given in (world.advantage or {}).items():
        if name not in world.sensitive:
            raise SettingsError(f"advantage names {name!r}, which is no sensitive column.")
        values = np.asarray(given, dtype=np.float64)
        if values.shape != (len(world.sensitive[name]),) or not (np.abs(values) <= 1).all():
            raise SettingsError(
                f"advantage[{name!r}] must hold {len(world.sensitive[name])} numbers from -1 to 1, one a level."
            )
