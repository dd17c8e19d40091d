"""
The dial between faithful and fair
==================================

``Fairness(criterion, strength)`` says how much of the bias is to go. Strength 0 repeats the table, strength 1
is as fair as the method gets; what it costs is seen beside it.
"""

import matplotlib.pyplot as plt

import fairsynth as fs

train, test = fs.load_dataset("loanapp")
strengths = [0.0, 0.5, 1.0]
found = []
for strength in strengths:
    wanted = fs.Fairness("demographic_parity", strength=strength)
    teacher = fs.FairVAE(fairness=wanted, seed=0).fit(train)
    rows = teacher.sample(len(train), seed=0)
    found.append(fs.evaluate(train, test, rows, models=["logistic_regression"], depth="quick", seed=0))

# %%
# The demographic parity ratio of a model trained on the rows (1 is parity), and how well it tells who was
# approved, both on real people. One seed and a small test set: the curve wobbles.

fig, axes = plt.subplots()
for metric, label in (("dpr", "demographic parity ratio"), ("auroc", "AUROC")):
    axes.plot(strengths, [evaluation.value(metric) for evaluation in found], marker="o", label=label)
    axes.axhline(found[0].value(metric, source="real"), linestyle=":", color=axes.lines[-1].get_color())
axes.set_xlabel("strength")
axes.set_title("dotted: the same model trained on the real rows")
axes.legend()
fig.tight_layout()
