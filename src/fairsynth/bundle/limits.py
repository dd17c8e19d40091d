"""What a model file is called, how large it may be, and how one is refused."""

from __future__ import annotations

from collections.abc import Iterable

from fairsynth.errors import BundleError

FORMAT = "fairsynth-model"
VERSION = 1

MAX_FILE_BYTES = 1 << 30
MAX_JSON_BYTES = 32 << 20
MAX_JSON_DEPTH = 64
MAX_MEMBERS = 64
MAX_TENSORS = 10_000
MAX_TENSOR_DIMENSIONS = 8

MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"

_REMEDY = "Get the file again from where it was made, or make it anew with `fairsynth fit` or `distill`."


def refuse(path: str, what: str) -> BundleError:
    """Make the error that says which file is refused, why, and what to do."""
    return BundleError(f"{path}: this file cannot be used: {what}. {_REMEDY}")


def listed(names: Iterable[object]) -> str:
    """Name at most eight things, in order."""
    shown = sorted(map(str, names))
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")
