"""
Add your own metric
===================

A metric is a function; its package names it, and every cell of a plan that asks for it is measured by it.
"""

# %%
# The function
# ------------
# It is given the real rows, the synthetic ones, and everything that the evaluation found. This one asks how many of the
# groups of the train rows are left among the synthetic rows. It returns one number, or one for each sensitive column.

from pathlib import Path
from tempfile import mkdtemp

site = Path(mkdtemp())
(site / "groups_left.py").write_text('''
"""Groups that a synthetic table keeps."""


def groups_left(judged):
    """Share of the groups of the train rows that some synthetic row belongs to."""
    if judged.synthetic is None:  # a mitigator makes no rows
        return None
    kept = {}
    for column in judged.train.schema.sensitive:
        before, after = judged.train.groups(column).counts, judged.synthetic.groups(column).counts
        kept[column] = float((after[: len(before)][before > 0] > 0).mean())
    return kept


groups_left.higher_is_better = True
groups_left.section = "fidelity"
''')

# %%
# Its package
# -----------
# In your ``pyproject.toml``::
#
#     [project.entry-points."fairsynth.metrics"]
#     groups-left = "groups_left:groups_left"
#
# What ``pip install`` makes of it is written by hand here, so that this page needs no installation.

info = site / "groups_left-1.0.dist-info"
info.mkdir()
(info / "METADATA").write_text("Metadata-Version: 2.1\nName: groups-left\nVersion: 1.0\n")
(info / "entry_points.txt").write_text("[fairsynth.metrics]\ngroups-left = groups_left:groups_left\n")

# %%
# In a plan
# ---------

import sys

from fairsynth.benchmark import read_leaderboard, run_plan

sys.path.insert(0, str(site))  # where pip would have put it

plan = site / "plan.toml"
plan.write_text("""
seeds = 2
datasets = ["loanapp"]
models = ["fair-trees"]
downstream = ["logistic_regression"]
metrics = ["groups-left"]
reports = false
""")
done = run_plan(plan, site / "results", jobs=2)
print(f"{done.ran} cells were run, {done.failed} failed")

board = read_leaderboard(site / "results")
print(board.to_frame().select("method", "dpr", "auroc", "groups-left"))
