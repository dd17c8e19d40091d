"""What one step of each dependence penalty costs, forward and backward, on one thread."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.common import alone, keep


def run() -> None:
    """Measure batches of 256 to 2,048 rows in 2 and 16 dimensions."""
    body = {
        f"{rows} rows × {dim} dimensions": alone(_step, rows, dim)
        for rows in (256, 1024, 2048)
        for dim in (2, 16)
    }
    for what, told in body.items():
        print(what, told, flush=True)
    keep("penalty", {"milliseconds a step": body})


def _step(rows: int, dim: int) -> dict[str, Any]:
    import torch

    from fairsynth.generators.fairvae import PENALTY_ROWS
    from fairsynth.nn.dependence import density_distance_covariance, energy_distance_covariance

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(rows, dim, generator=generator, requires_grad=True)
    log_var = torch.zeros(rows, dim, requires_grad=True)
    groups = torch.randint(2, (rows,), generator=generator)
    told = {}
    for name, penalty in {
        "published, all pairs": lambda: density_distance_covariance(mean, log_var, groups),
        "published form, subsampled": lambda: density_distance_covariance(
            mean, log_var, groups, max_rows=PENALTY_ROWS
        ),
        "energy, all pairs": lambda: energy_distance_covariance(mean, groups),
        "energy, subsampled (default)": lambda: energy_distance_covariance(
            mean, groups, max_rows=PENALTY_ROWS
        ),
    }.items():
        penalty().backward()
        times = []
        for _ in range(5):
            began = time.perf_counter()
            penalty().backward()
            times.append(time.perf_counter() - began)
        told[name] = round(1000 * sorted(times)[2], 2)
    return told
