"""States of a number share a curve while they are trained, and files and draws know nothing of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fairsynth.data.level_states import LevelStates
from fairsynth.data.number_states import NumberStates
from fairsynth.nn.curves import COSINES, curves
from fairsynth.nn.decoders import AutoregressiveDecoder
from fairsynth.nn.training import build

NUMBER = NumberStates(name="x", step=1.0, atoms=(0.0, 15.0), edges=(0.5, 5.5, 10.5, 20.5), missing=True)
LEVELS = LevelStates(name="c", n_levels=3, missing=False)


def smooth_decoder(columns: list[Any]) -> AutoregressiveDecoder:
    sizes = tuple(c.size for c in columns)
    return build(0, lambda: AutoregressiveDecoder(sizes, 2, (5,), 4, curves(columns)))


def test_states_stand_in_the_order_of_their_values() -> None:
    places = NUMBER.places()
    # 0, then 1 to 5, 6 to 10, 15 and 11 to 20 (whose middle is the same), then missing.
    assert np.argsort(places[:-1]).tolist()[:3] == [0, 2, 3] and np.isnan(places[-1])
    assert sorted(places[:-1]) == pytest.approx((np.arange(5) + 0.5) / 5)


def test_each_number_has_its_own_block_and_levels_have_none() -> None:
    basis = curves([LEVELS, NUMBER, NUMBER.model_copy(update={"name": "y"})])
    assert basis is not None and basis.shape == (3 + 6 + 6, 2 * COSINES)
    assert not basis[:3].any() and not basis[3:9, COSINES:].any() and not basis[9:, :COSINES].any()
    assert basis[3:8, :COSINES].abs().sum(1).min() > 0 and not basis[8].any(), "missing has no neighbour"
    assert torch.equal(basis[3:9, :COSINES], basis[9:, COSINES:])
    assert curves([LEVELS]) is None


def test_neighbours_are_alike_and_far_ones_are_not() -> None:
    part = NumberStates(name="x", step=0, edges=tuple(np.linspace(0, 1, 65)), missing=False)
    basis = curves([part])
    assert basis is not None
    distance = torch.cdist(basis, basis)
    assert distance.diagonal(1).max() < 0.3 * distance[0, -1]


def test_folding_changes_no_probability_and_leaves_the_plain_decoder() -> None:
    columns = [LEVELS, NUMBER, LEVELS]
    decoder = smooth_decoder(columns)
    with torch.no_grad():
        decoder.out_curve.normal_(generator=torch.Generator().manual_seed(0))
    condition = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))
    states = torch.stack([torch.arange(40) % c.size for c in columns], dim=1)
    before = decoder.negative_log_likelihood(condition, states, {})
    with torch.inference_mode():
        drawn = decoder.draw(condition, torch.Generator().manual_seed(2), {})
    decoder.fold()
    assert torch.allclose(decoder.negative_log_likelihood(condition, states, {}), before, atol=1e-5)
    with torch.inference_mode():
        assert torch.equal(decoder.draw(condition, torch.Generator().manual_seed(2), {}), drawn)
    plain = AutoregressiveDecoder(tuple(c.size for c in columns), 2, (5,), 4)
    shapes = {name: p.shape for name, p in decoder.named_parameters()}
    assert shapes == {name: p.shape for name, p in plain.named_parameters()}
    decoder.fold()  # once is enough, twice is no trouble


def test_curves_learn_what_the_states_beside_have_shown() -> None:
    """States that no row was in get what their neighbours have: that is what the curve is for."""
    part = NumberStates(name="x", step=0, edges=tuple(np.linspace(0, 1, 41)), missing=False)
    rng = np.random.default_rng(0)
    seen = np.setdiff1d(np.arange(40), [9, 10, 29])
    # Where the condition is high the value is high.
    which = rng.random(600) < 0.5
    states = torch.from_numpy(
        np.where(which, rng.choice(seen[seen >= 20], 600), rng.choice(seen[seen < 20], 600))
    )
    condition = torch.from_numpy(which.astype(np.float32))[:, None].repeat(1, 2)

    def share_of_unseen(columns_curves: torch.Tensor | None) -> float:
        decoder = build(0, lambda: AutoregressiveDecoder((40,), 2, (8,), 8, columns_curves))
        optimiser = torch.optim.AdamW(decoder.parameters(), lr=0.03, weight_decay=0.1)
        for _ in range(150):
            optimiser.zero_grad()
            decoder.negative_log_likelihood(condition, states[:, None], {}).backward()
            optimiser.step()
        nll = [
            float(decoder.negative_log_likelihood(torch.zeros(1, 2), torch.tensor([[k]]), {}).detach())
            for k in (9, 10)
        ]
        return float(np.exp(-np.array(nll)).sum())

    with_curves, without = share_of_unseen(curves([part])), share_of_unseen(None)
    assert with_curves > 1.5 * without
