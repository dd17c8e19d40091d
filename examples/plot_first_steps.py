"""
From a biased table to a fair one
=================================

1,989 people asked for a mortgage in Boston in 1990. White applicants were approved far more often than Black
ones. We learn a generator that keeps what the table says about loans and drops what it says about race.
"""

# %%
# The table
# ---------
# The schema says what each column is taken to be. It is worth reading.

import fairsynth as fs

train, test = fs.load_dataset("loanapp")
print(train.schema)

# %%
# Approved, by race, among the real applicants:

groups = train.groups()
for code, name in enumerate(groups.names):
    rows = groups.codes == code
    print(f"{name:<10} {rows.sum():>5} people  {train.favorable()[rows].mean():.3f} approved")

# %%
# A teacher, and a student that never saw the data
# ------------------------------------------------
# The student is made from the teacher's file alone.

from pathlib import Path
from tempfile import TemporaryDirectory

teacher = fs.FairVAE(fairness=fs.Fairness("demographic_parity", strength=1.0), seed=0).fit(train)
with TemporaryDirectory() as folder:
    path = Path(folder) / "teacher.fairsynth"
    teacher.save(path)
    student = fs.Fair4Free().distill(path, seed=0)

# %%
# Rows
# ----
# They come in the kind of frame that went in.

synthetic = student.sample(len(train), seed=0)
print(synthetic.head())

# %%
# The evidence
# ------------
# Models are trained on the synthetic rows and tested on real applicants that nothing has seen.
# ``constant`` is the predictor that approves everybody: perfectly fair, and of no use.

from rich.console import Console

evaluation = fs.evaluate(train, test, synthetic, seed=0, depth="quick")
Console(width=100, color_system=None).print(evaluation.summary())
