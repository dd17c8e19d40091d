"""
Does the method remove the bias that was put in?
================================================

In a real table nobody knows what the fair label would have been. ``make_biased`` draws tables of which everything is
known: a structural model with a dial for every kind of bias.
"""

# %%
# Four worlds
# -----------
# Each has another bias. *Direct*: two people of the same features are judged differently. *Proxy*: columns that count
# stand for the group. *Label*: fair decisions, recorded wrongly. The last is no bias: the groups truly differ.

import fairsynth as fs

worlds = {
    "direct": {"direct": 1.5},
    "proxy": {"proxy": 1.0},
    "label": {"label": 0.5},
    "true difference": {"merit_gap": 0.5},
}
for name, dial in worlds.items():
    rates = fs.BiasedWorld(**dial).rates
    print(f"{name:<16} gap of the labels {rates.gap():.3f}, of the fair labels {rates.gap('fair'):.3f}")

# %%
# These gaps are integrals over the whole population, not estimates from rows.
#
# What a fair generator does to them
# ----------------------------------
# A model is trained on the biased rows, and on rows of fair trees learned from them. Both are asked about new people:
# how far apart are the groups, and how often does the model say what would have been fair?

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier


def features(table):
    """Return codes and numbers of all columns but the label."""
    names = [column.name for column in table.schema if column.name != table.schema.target]
    codes = table.frame.select(
        pl.col(name).to_physical() if table.schema[name].kind == "categorical" else pl.col(name)
        for name in names
    )
    return codes.cast(pl.Float64).to_numpy()


def judge(train, test, truth):
    """Return the gap of a model's answers between the groups, and how often they are the fair ones."""
    model = HistGradientBoostingClassifier(max_iter=80, random_state=0).fit(
        features(train), train.favorable()
    )
    answers = model.predict(features(test))
    groups = test.groups().codes
    by_group = [answers[groups == code].mean() for code in np.unique(groups)]
    return max(by_group) - min(by_group), (answers == truth.fair_label).mean()


found = {}
for name, dial in worlds.items():
    train, _ = fs.make_biased(6_000, **dial, seed=1)
    test, truth = fs.make_biased(20_000, **dial, seed=2)
    trees = fs.FairTrees(fairness=fs.Fairness("demographic_parity", strength=1.0), seed=0).fit(train)
    fair = train.align(trees.sample(len(train), seed=0))
    found[name] = [judge(rows, test, truth) for rows in (train, fair)]

# %%
# Every bias goes, and the answers come closer to the fair ones. Where the groups truly differ, demographic parity
# takes the difference away as well, and the answers move away from what is fair by merit: which criterion is right is
# a question about the world, and no generator can answer it.

fig, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharex=True)
for at, (axis, title) in enumerate(
    zip(axes, ("gap between the groups", "share of fair answers"), strict=True)
):
    for shift, label in enumerate(("biased rows", "rows of fair trees")):
        heights = [found[name][shift][at] for name in worlds]
        axis.bar(np.arange(len(worlds)) + 0.38 * shift, heights, width=0.36, label=label)
    axis.set_title(title)
    axis.set_xticks(np.arange(len(worlds)) + 0.19, worlds, rotation=20)
axes[1].set_ylim(0.5, 1)
axes[0].legend()
fig.tight_layout()
