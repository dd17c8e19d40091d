"""Checks of hyper-parameters: each error names the setting, the value that was given, and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fairsynth.errors import SettingsError

#: More layers than anyone means; a file that asks for them is hostile.
MAX_LAYERS = 32


def check_settings(
    model: Any,
    *,
    choices: Mapping[str, Sequence[str]] | None = None,
    whole: Iterable[str] = (),
    from_zero: Iterable[str] = (),
    above_zero: Iterable[str] = (),
    widths: Iterable[str] = (),
) -> None:
    """Refuse settings that are out of their range.

    Parameters
    ----------
    model : object
        Holds the settings as attributes.
    choices : mapping, optional
        Setting → the words that it may be.
    whole : iterable of str
        Settings that are whole numbers from 1 up.
    from_zero, above_zero : iterable of str
        Settings that are finite numbers from 0 up, or above 0.
    widths : iterable of str
        Settings that are one or more widths of layers.

    Raises
    ------
    SettingsError
        Naming the first that is wrong.
    """
    for name, words in (choices or {}).items():
        if getattr(model, name) not in words:
            raise SettingsError(f"{name}={getattr(model, name)!r} is not one of {', '.join(words)}.")
    for name in whole:
        if not _is_whole(getattr(model, name), 1):
            raise SettingsError(f"{name}={getattr(model, name)!r} must be a whole number from 1 up.")
    for name in from_zero:
        if not _is_number(getattr(model, name)) or not 0 <= getattr(model, name) < np.inf:
            raise SettingsError(f"{name}={getattr(model, name)!r} must be a number from 0 up.")
    for name in above_zero:
        if not _is_number(getattr(model, name)) or not 0 < getattr(model, name) < np.inf:
            raise SettingsError(f"{name}={getattr(model, name)!r} must be a number above 0.")
    for name in widths:
        given = getattr(model, name)
        if (
            not isinstance(given, tuple | list)
            or not 1 <= len(given) <= MAX_LAYERS
            or not all(_is_whole(width, 1) for width in given)
        ):
            raise SettingsError(
                f"{name}={given!r} must be one to {MAX_LAYERS} whole numbers, such as [192, 192]."
            )


def check_seed(seed: object) -> None:
    """Refuse what is no seed.

    Raises
    ------
    SettingsError
        If it is no whole number from 0 up.
    """
    if not _is_whole(seed, 0):
        raise SettingsError(f"seed={seed!r} must be a whole number from 0 up.")


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
