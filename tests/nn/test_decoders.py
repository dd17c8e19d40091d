"""Decoders are probability laws: they sum to one, and draws follow them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from fairsynth.nn.decoders import (
    CHUNK,
    AutoregressiveDecoder,
    Decoder,
    IndependentDecoder,
    draw_states,
)
from fairsynth.nn.training import build

SIZES = (2, 3, 1, 4)
pytestmark = pytest.mark.filterwarnings("error:.*non-contiguous")
EVERY = torch.tensor(list(product(*(range(size) for size in SIZES))))


def made(kind: str, sizes: tuple[int, ...] = SIZES, *, n_condition: int = 3) -> Decoder:
    """Return a decoder whose laws are far from even, so that a mistake shows."""

    def make() -> Decoder:
        if kind == "independent":
            return IndependentDecoder(sizes, n_condition, (8,))
        return AutoregressiveDecoder(sizes, n_condition, (8,), 6)

    decoder = build(3, make)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(2.5)
    return decoder.double()


def probabilities(decoder: Decoder, condition: Tensor, allowed: dict[int, Tensor]) -> np.ndarray:
    """Return the probability of every possible row, given one condition."""
    with torch.inference_mode():
        return np.array(
            [
                float(torch.exp(-decoder.negative_log_likelihood(condition[None], row[None], allowed)))
                for row in EVERY
            ]
        )


@pytest.fixture(params=["independent", "autoregressive"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return made(request.param)


def test_likelihoods_of_all_rows_sum_to_one(decoder: Decoder) -> None:
    for condition in (torch.zeros(3).double(), torch.tensor([1.0, -2.0, 0.5]).double()):
        law = probabilities(decoder, condition, {})
        assert law.sum() == pytest.approx(1, abs=1e-9) and law.max() < 0.99 and law.min() < 0.01


def test_likelihoods_of_allowed_rows_sum_to_one(decoder: Decoder) -> None:
    mask = torch.tensor([[True, False, True]])
    law = probabilities(decoder, torch.ones(3).double(), {1: mask})
    is_allowed = (EVERY[:, 1] != 1).numpy()
    assert law[is_allowed].sum() == pytest.approx(1, abs=1e-9)
    assert law[~is_allowed].max() == 0


def test_the_mean_over_a_batch_is_the_mean_of_its_rows(decoder: Decoder) -> None:
    condition = torch.randn(len(EVERY), 3, generator=torch.Generator().manual_seed(0)).double()
    with torch.inference_mode():
        together = float(decoder.negative_log_likelihood(condition, EVERY, {}))
        alone = [
            float(decoder.negative_log_likelihood(condition[i : i + 1], EVERY[i : i + 1], {}))
            for i in range(len(EVERY))
        ]
    assert together == pytest.approx(np.mean(alone), rel=1e-9)


@pytest.mark.parametrize("masked", [False, True])
def test_draws_follow_the_likelihood(decoder: Decoder, masked: bool) -> None:
    """Three conditions take turns, so that a row drawn with another row's condition would show."""
    n = 3 * CHUNK + 517
    conditions = torch.tensor([[0.3, -1.0, 0.5], [-1.0, 2.0, 0.0], [0.5, 0.2, -0.7]]).double()
    which = torch.arange(n) % 3
    masks = torch.ones(3, 3, dtype=torch.bool)
    if masked:
        masks = torch.tensor([[True, True, False], [False, True, True], [True, False, True]])
    draws = []
    with torch.inference_mode():
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            draws.append(decoder.draw(conditions[which], generator, {1: masks[which]} if masked else {}))
    drawn = torch.cat(draws, dim=1)
    which = which.repeat(3)
    assert drawn.dtype == torch.int64 and drawn.shape == (4, 3 * n)
    code = torch.zeros(3 * n, dtype=torch.int64)
    for line, size in zip(drawn, SIZES, strict=True):
        code = code * size + line
    for case in range(3):
        law = probabilities(decoder, conditions[case], {1: masks[case][None]})
        counts = np.bincount(code[which == case].numpy(), minlength=len(EVERY))
        assert counts[law < 1e-12].sum() == 0, "what is not allowed is never drawn"
        likely = law * counts.sum() > 5
        rest = [counts[~likely].sum()] if (law[~likely].sum() * counts.sum()) > 5 else []
        seen = np.array([*counts[likely], *rest])
        wanted = np.array([*law[likely], *([law[~likely].sum()] if rest else [])])
        assert stats.chisquare(seen, wanted / wanted.sum() * seen.sum()).pvalue > 1e-3


def test_later_columns_follow_earlier_ones_only_where_they_should() -> None:
    """Given the condition, columns of the published decoder are independent; those of ours are not."""
    condition = torch.zeros(3).double()
    for kind, dependent in (("independent", False), ("autoregressive", True)):
        law = probabilities(made(kind), condition, {}).reshape(SIZES)
        pair = law.sum(axis=(1, 2))
        gap = np.abs(pair - pair.sum(1, keepdims=True) * pair.sum(0)).max()
        assert (gap > 0.005) == dependent, (kind, gap)


def test_every_column_reaches_every_later_one() -> None:
    decoder = made("autoregressive")
    condition = torch.zeros(1, 3).double()
    with torch.inference_mode():
        for earlier in range(3):
            if SIZES[earlier] == 1:
                continue
            hidden = []
            for level in (0, 1):
                row = torch.zeros(1, 4, dtype=torch.int64)
                row[0, earlier] = level
                others = [
                    float(decoder.negative_log_likelihood(condition, row, {3: _only(k, 4)})) for k in range(4)
                ]
                hidden.append(others[0])
            assert hidden[0] != hidden[1]


def _only(state: int, size: int) -> Tensor:
    mask = torch.zeros(1, size, dtype=torch.bool)
    mask[0, state] = True
    return mask


def test_masked_bands_are_respected_row_by_row() -> None:
    for kind in ("independent", "autoregressive"):
        decoder = made(kind, (5, 6)).float()
        n = 2 * CHUNK + 100
        rng = np.random.default_rng(0)
        masks = torch.from_numpy(rng.random((n, 6)) < 0.4)
        masks[torch.arange(n), torch.from_numpy(rng.integers(0, 6, n))] = True
        with torch.inference_mode():
            drawn = decoder.draw(torch.randn(n, 3), torch.Generator().manual_seed(0), {1: masks})
        assert masks[torch.arange(n), drawn[1]].all()
        assert len(drawn[1].unique()) == 6


def test_states_without_weight_are_never_drawn_at_either_end() -> None:
    edge = torch.tensor([0.0, 1 - 2**-24, 0.5, torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)).item()])
    logits = torch.tensor([[-1e9, -1e9, 0.3, -1e9, 1.2, -1e9, -1e9]]).repeat(4, 1)
    assert set(draw_states(logits.clone(), edge).tolist()) <= {2, 4}
    for dtype in (torch.float32, torch.float64):
        drawn = draw_states(logits.to(dtype, copy=True), edge.to(dtype))
        assert drawn[0] == 2 and drawn[1] == 4


def test_the_top_of_the_uniform_law_never_passes_the_last_state_with_weight() -> None:
    """Rounding must not turn a number just below one into the total for any sum of weights."""
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(20_000, 9)) * 4).float()
    logits[:, 6:] = -1e9
    drawn = draw_states(logits, torch.full((20_000,), 1 - 2**-24))
    assert int(drawn.max()) < 6


def test_drawn_shares_are_the_softmax() -> None:
    logits = torch.tensor([[0.0, 1.0, -2.0, 3.0]])
    n = 40_000
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(0))
    drawn = draw_states(logits.repeat(n, 1), uniform)
    wanted = logits[0].double().softmax(0).numpy() * n
    assert stats.chisquare(drawn.bincount(), wanted).pvalue > 1e-3
