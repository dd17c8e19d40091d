"""Calibrating P(y, s) for methods that draw rows of a given label and group, and draw slowly.

`calibration` wants rows anew for every table that it tries. Rows of a given label and group do not change with
the table, only their shares do. So enough rows of every cell are drawn once, and each table takes its rows from there.
"""

from __future__ import annotations

import numpy as np

from fairsynth.data.table import Table
from fairsynth.errors import CapabilityError
from fairsynth.fairness import Fairness
from fairsynth.generators.calibration import calibrated_shifts
from fairsynth.generators.fairvae import Training
from fairsynth.generators.group_law import fair_table
from fairsynth.generators.rejection import Cells, Propose, allotted

#: Rows of each table that is tried, at most.
POOL_ROWS = 12_000


def label_law(
    propose: Propose, data: Training, fairness: Fairness, *, calibrate: bool, seed: int
) -> np.ndarray:
    """Return the table P(y, s) that rows are drawn from under a criterion.

    Parameters
    ----------
    propose : callable
        Draws rows of given labels and groups; see `rejection.Propose`.
    data : Training
        Real rows.
    fairness : Fairness
        Criterion and strength.
    calibrate : bool
        For demographic parity, whether each group's labels are shifted by what a probe decides on the real rows
        (`calibration`); the other criteria cannot do without.
    seed : int
        Of the pool, the tables' rows and the probe.

    Returns
    -------
    np.ndarray
        float64 ``(labels, groups)``, sums to 1.

    Raises
    ------
    CapabilityError
        If the criterion needs favorable labels and none is named.
    """
    favorable = data.layout.favorable
    if fairness.criterion != "demographic_parity" and not favorable.any():
        raise CapabilityError(f"{fairness.criterion} needs favorable values of a categorical target.")
    wanted = calibrate or fairness.criterion != "demographic_parity"
    shifts = np.zeros(len(data.group_levels))
    if fairness.strength > 0 and favorable.any() and wanted:
        shifts = _shifts(propose, data, fairness, seed)
    return fair_table(data.counts, fairness, favorable=favorable, shifts=shifts)


def _shifts(propose: Propose, data: Training, fairness: Fairness, seed: int) -> np.ndarray:
    favorable = data.layout.favorable
    full = Fairness(fairness.criterion, 1.0)
    n = min(len(data.table), POOL_ROWS)
    real = data.counts / data.counts.sum()
    fair = fair_table(data.counts, full, favorable=favorable, shifts=np.zeros(real.shape[1]))
    # Enough of every cell, whatever table the calibration comes to: real and fair shares, and some of each.
    cells = np.ceil(n * np.maximum(real, fair)).astype(np.int64) + 20 * (data.counts.sum(1) > 0)[:, None]
    labels, groups = (
        np.repeat(index.ravel(), cells.ravel()) for index in np.indices(cells.shape, dtype=np.int64)
    )
    lines = propose(Cells(len(labels), labels, groups), np.random.default_rng([seed, 5]))
    lines[data.layout.target] = labels
    for a, place in enumerate(data.layout.sensitive):
        if place not in data.layout.bands:
            lines[place] = data.group_levels[groups, a]
    starts = np.concatenate([[0], np.cumsum(cells.ravel())])

    def draw(shifts: np.ndarray, turn: int) -> Table:
        chance = np.random.default_rng([seed, 7, turn])
        law = fair_table(data.counts, full, favorable=favorable, shifts=shifts).ravel()
        chosen = allotted(n, law, chance)
        rows = starts[chosen] + (chance.random(n) * (starts[chosen + 1] - starts[chosen])).astype(np.int64)
        return data.table.replace(data.layout.encoder.decode(np.ascontiguousarray(lines[:, rows]), chance))

    return calibrated_shifts(draw, data.table, data.groups.numpy(), len(data.group_levels), full, seed=seed)
