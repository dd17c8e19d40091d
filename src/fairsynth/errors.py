"""The errors fairsynth raises, one class per family.

Every message says what was wrong, where (column, row or file), and what to do about it.
"""

from __future__ import annotations


class FairsynthError(Exception):
    """Base of every error that fairsynth raises on purpose."""


class DataError(FairsynthError, ValueError):
    """The rows themselves cannot be used: a missing column, one class only, infinite numbers."""


class SchemaError(FairsynthError, ValueError):
    """What was said about the columns is wrong or does not fit the rows."""


class SettingsError(FairsynthError, ValueError):
    """A hyper-parameter or an option is out of its range."""


class CapabilityError(FairsynthError, ValueError):
    """The chosen method cannot do what was asked of it."""


class NotFittedError(FairsynthError, AttributeError, ValueError):
    """`sample` or `save` was called before `fit`."""


class BundleError(FairsynthError, ValueError):
    """A model file is truncated, altered, foreign or hostile."""


class MissingDependencyError(FairsynthError, ImportError):
    """A feature needs a library of an extra that is not installed."""


class FairsynthWarning(UserWarning):
    """What was asked for is done, and is not what it seems: the message says in what way."""
