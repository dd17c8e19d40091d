"""Group fairness when every model favors as many people as truly are favorable.

A threshold of .5 on P(favorable) can favor nearly everybody, or nobody, where outcomes are lopsided. Parity is
then close to certain and says little. Ours: the same models decide once more, with the threshold at which the
share of favored people is that of favorable labels among the real train rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fairsynth.evaluation.context import Context
from fairsynth.evaluation.decisions import joint_counts, of_model
from fairsynth.metrics import fairness

METRICS = {"dpr": "dpr_at_real_rate", "eor": "eor_at_real_rate"}
#: Ties can make a threshold favor more people than wanted; from this share on it is said.
TIES = 0.02


def favored(probability: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Favor the given share of people, those with the highest probability; ties are favored together.

    Parameters
    ----------
    probability : ndarray of float64, shape (n,)
        P(favorable).
    share : float
        In (0, 1).

    Returns
    -------
    ndarray of bool, shape (n,)
        At least one person is favored.
    """
    wanted = min(max(round(share * len(probability)), 1), len(probability))
    threshold = np.partition(probability, len(probability) - wanted)[len(probability) - wanted]
    return probability >= threshold


def score_equal_rates(context: Context) -> None:
    """Score DPR and EOR of all trained models at the favorable share of the real train rows."""
    task, schema = context.task, context.schema
    if task.kind != "binary":
        return
    target = task.values(context.train.frame, schema)
    share = float(task.is_favorable(target[~np.isnan(target)]).mean())
    truth = task.is_favorable(task.values(context.test.frame, schema))
    for source, by_model in context.artifacts["predictions"].items():
        decision = {m: favored(task.probability(p), share) for m, p in by_model.items()}
        names = list(decision)
        ties = [f"{m} favors {d.mean():.0%} by ties" for m, d in decision.items() if d.mean() > share + TIES]
        note = "; ".join([f"the {share:.1%} with the highest probability are favored", *ties])
        for columns in context.attributes:
            groups = context.test.groups(list(columns))
            counts = joint_counts(truth, decision, groups.codes, len(groups.names))
            n_of = counts.sum(axis=(1, 2))
            large = n_of >= context.minimum_group
            kept = large if len(columns) > 1 and large.sum() >= 2 else n_of > 0
            drawn = fairness.bootstrap_counts(counts, context.depth.draws, context.rng("equal rates"))
            confusion = [of_model(counts, i, len(names))[kept] for i in range(len(names))]
            samples = [fairness.parity(of_model(drawn, i, len(names))[:, kept]) for i in range(len(names))]
            values = [fairness.parity(c) for c in confusion]
            for metric, name in METRICS.items():
                for m in ["mean"] if names == ["constant"] else [*names, "mean"]:
                    of = range(len(names)) if m == "mean" else [names.index(m)]
                    context.add(
                        "fairness",
                        name,
                        float(np.mean([values[i][metric] for i in of])),
                        interval=fairness.interval(np.mean([samples[i][metric] for i in of], axis=0)),
                        source=source,
                        model=m,
                        attribute=groups.attribute,
                        n=int(n_of[kept].sum()),
                        note=note,
                    )
