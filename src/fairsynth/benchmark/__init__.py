"""Many models, many tables, one honest leaderboard: plan, run, resume, search, compare.

Names are resolved when first used: the process that cells are forked from lives in this package and must not import
what they need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairsynth.benchmark.leaderboard import Leaderboard, read_leaderboard
    from fairsynth.benchmark.plan import Plan, read_plan
    from fairsynth.benchmark.runner import Summary, run_plan

__all__ = ["Leaderboard", "Plan", "Summary", "read_leaderboard", "read_plan", "run_plan"]

_HOME = {
    "Leaderboard": "fairsynth.benchmark.leaderboard",
    "Plan": "fairsynth.benchmark.plan",
    "Summary": "fairsynth.benchmark.runner",
    "read_leaderboard": "fairsynth.benchmark.leaderboard",
    "read_plan": "fairsynth.benchmark.plan",
    "run_plan": "fairsynth.benchmark.runner",
}


def __getattr__(name: str) -> Any:
    """Import the module a public name lives in, the first time that the name is asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
