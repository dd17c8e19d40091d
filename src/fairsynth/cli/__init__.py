"""The command line: ``fairsynth fit``, ``distill``, ``sample``, ``evaluate`` and their company.

Each command lives in the module of its subject and imports what is heavy when it runs, so that
``fairsynth --help`` answers at once.
"""

from __future__ import annotations

from fairsynth.cli.app import app, main

# The modules register their commands on `app`, in the order in which the help lists them.
from fairsynth.cli import tables, datasets, learn, release, judge, images, benchmark, demo  # isort: skip

__all__ = ["app", "benchmark", "datasets", "demo", "images", "judge", "learn", "main", "release", "tables"]
