"""
Add your own method
===================

A method from outside of fairsynth, found by its entry point, stands in a plan like those that are built in.
"""

# %%
# The method
# ----------
# A generator says how it is fitted and how it draws; the rest of the contract (conditions, batches, seeds) comes with
# the class it is derived from. This one draws every column by itself, which is perfectly fair and of no use.

from pathlib import Path
from tempfile import mkdtemp

site = Path(mkdtemp())
(site / "alone.py").write_text('''
"""Every column drawn by itself."""

import numpy as np
import polars as pl

from fairsynth.generators.base import Capabilities, Generator


class Alone(Generator):
    """Draws each column from its own values."""

    name = "alone"
    capabilities = Capabilities(
        title="every column by itself", paper="", criteria=(), strength=False, where=False, saves=False
    )

    def __init__(self, *, smoothing: float = 0.0, seed: int = 0):
        self.smoothing = smoothing
        self.seed = seed

    fairness = None

    def _fit(self, table, *, progress, checkpoint):
        self.frame_ = table.frame

    def _draw(self, n, request, seed):
        rng = np.random.default_rng(seed)
        rows = self.frame_.height
        return pl.DataFrame([column[rng.integers(0, rows, n)] for column in self.frame_])

    def _state(self):
        raise NotImplementedError("this method keeps rows, which no file may hold")

    def _restore(self, content):
        raise NotImplementedError
''')

# %%
# Its package
# -----------
# In your ``pyproject.toml``::
#
#     [project.entry-points."fairsynth.generators"]
#     alone = "alone:Alone"
#
# What ``pip install`` makes of it is written by hand here, so that this page needs no installation.

info = site / "alone-1.0.dist-info"
info.mkdir()
(info / "METADATA").write_text("Metadata-Version: 2.1\nName: alone\nVersion: 1.0\n")
(info / "entry_points.txt").write_text("[fairsynth.generators]\nalone = alone:Alone\n")

# %%
# In a plan
# ---------
# Its settings are checked against its ``__init__``; a change of its code is a new version, so that its cells are run
# anew.

import sys

from fairsynth.benchmark import read_leaderboard, run_plan
from fairsynth.generators.registry import list_generators

sys.path.insert(0, str(site))  # where pip would have put it
print(list_generators())

plan = site / "plan.toml"
plan.write_text("""
seeds = 2
datasets = ["loanapp"]
downstream = ["logistic_regression"]
reports = false
models = ["alone", "fair-trees"]
""")
done = run_plan(plan, site / "results", jobs=2)
print(f"{done.ran} cells were run, {done.failed} failed")

board = read_leaderboard(site / "results")
print(board.to_frame().select("method", "dpr", "auroc", "coverage"))
