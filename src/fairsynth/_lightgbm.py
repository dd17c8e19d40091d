"""The one place where LightGBM is imported.

LightGBM's wheel leaves the OpenMP runtime (libgomp.so.1) to the system, and a bare machine has none. torch
brings the same library along, under the same name, so it is loaded from there when, and only when, the
import fails without it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import random
from pathlib import Path
from types import ModuleType

from fairsynth.errors import MissingDependencyError


def load() -> ModuleType:
    """Return the module `lightgbm`.

    Returns
    -------
    module
        As ``import lightgbm`` gives it.

    Raises
    ------
    MissingDependencyError
        If neither the system nor torch has an OpenMP runtime that LightGBM can use.
    """
    try:
        return _imported()
    except OSError as error:
        first = error
    for library in _of_torch():
        try:
            # Global, so that the loader finds it by its name when LightGBM's library asks for it.
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
            return _imported()
        except OSError:
            continue
    raise MissingDependencyError(
        f"LightGBM cannot be loaded: {first}. It needs the OpenMP runtime of the system: "
        "apt install libgomp1 (Debian, Ubuntu), dnf install libgomp (Fedora), brew install libomp (macOS)."
    ) from first


def _imported() -> ModuleType:
    # What it imports on its way draws from Python's global chance, which is the caller's.
    state = random.getstate()
    try:
        import lightgbm
    finally:
        random.setstate(state)
    return lightgbm


def _of_torch() -> list[Path]:
    """Return the OpenMP runtimes inside torch's package, without importing torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent / "lib"
    return [path for name in ("libgomp*.so*", "libomp.dylib") for path in sorted(folder.glob(name))]
