"""
Benchmark your own CSV
======================

A file of your own, two methods and a mitigator, one plan: which of them is fair, and what does it cost?
"""

# %%
# A file
# ------
# Any .csv will do; here the mortgage applications are written into one.

from pathlib import Path
from tempfile import mkdtemp

import fairsynth as fs

folder = Path(mkdtemp())
train, test = fs.load_dataset("loanapp")
train.native().to_csv(folder / "applications.csv", index=False)
test.native().to_csv(folder / "later.csv", index=False)

# %%
# A plan
# ------
# It says what the columns mean, what is to be compared, and how often. Every mistake in it would be named with its
# line.

plan = folder / "plan.toml"
plan.write_text("""
name = "Who gets a mortgage?"
seeds = 2
downstream = ["lightgbm", "logistic_regression"]

[limits]
seconds = 600

[[datasets]]
name = "applications"
path = "applications.csv"
test = "later.csv"
target = "approve"
favorable = 1
sensitive = "race"

[[models]]
name = "fair-trees"

[[models]]
name = "fair-trees"
label = "trees, no fairness"
strengths = [0.0]

[[models]]
name = "reweighing"
""")

# %%
# The run
# -------
# On the command line: ``fairsynth benchmark plan.toml -o results``. Each cell has a process of its own; one that fails
# is recorded with its reason, and the same command goes on where a killed run was.

from fairsynth.benchmark import read_leaderboard, run_plan

done = run_plan(plan, folder / "results", jobs=2)
print(f"{done.ran} cells were run, {done.failed} failed")
again = run_plan(plan, folder / "results")
print(f"and once more: {again.ran} were run, {again.reused} were there")

# %%
# The leaderboard
# ---------------
# ``fairsynth leaderboard results -o board.html`` gives it as a page that can be sorted and filtered. The real rows and
# the constant predictor are always in it: the latter is perfectly fair, and of no use.

from rich.console import Console

from fairsynth.benchmark.render import terminal

board = read_leaderboard(folder / "results")
console = Console(width=150, color_system=None)
for table in terminal(board):
    console.print(table)
