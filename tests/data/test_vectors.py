"""Vectors stand for states, one to one, and numbers are standard normal over the learned rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from toys import mixed_table

from fairsynth.data.encoding import TableEncoder
from fairsynth.data.vectors import VectorEncoder


def learned(n: int = 3000) -> tuple[VectorEncoder, np.ndarray]:
    table = mixed_table(n)
    encoder = TableEncoder.learn(table)
    states = encoder.encode(table)
    return VectorEncoder.learn(encoder, states, list(range(len(encoder.names)))), states


def test_states_come_back_from_their_vectors() -> None:
    vectors, states = learned()
    coded = vectors.encode(states, np.random.default_rng(0))
    assert coded.shape == (3000, vectors.width) and coded.dtype == np.float32
    back = vectors.decode(coded)
    # Where the last of the normal's tail is cut off a state of less than the cut may go to its neighbour.
    assert (states == back.T).mean(0).min() > 0.999


def test_numbers_are_standard_normal_and_missing_ones_too() -> None:
    vectors, states = learned()
    coded = vectors.encode(states, np.random.default_rng(1))
    for block in vectors.blocks:
        if block.number is not None:
            assert stats.kstest(coded[:, block.number], "norm").statistic < 0.04
            size = vectors.encoder.sizes[block.column]
            if vectors.encoder.states[block.column].missing:
                gone = states[:, block.column] == size - 1
                assert gone.any() and stats.kstest(coded[gone, block.number], "norm").pvalue > 1e-3
                assert (coded[gone, block.levels.start + 1] == 1).all()


def test_standard_normal_noise_gives_the_learned_shares() -> None:
    """An atom that half of the rows share comes from half of all noise."""
    vectors, states = learned()
    noise = np.random.default_rng(2).normal(size=(20_000, vectors.width)).astype(np.float32)
    drawn = vectors.decode(noise)
    for line, block in enumerate(vectors.blocks):
        if block.number is None or vectors.encoder.states[block.column].missing:
            continue
        size = vectors.encoder.sizes[block.column]
        real = np.bincount(states[:, block.column], minlength=size) / len(states)
        made = np.bincount(drawn[line], minlength=size) / drawn.shape[1]
        assert np.abs(real - made).max() < 0.02


def test_order_of_values_is_order_of_vectors() -> None:
    vectors, states = learned()
    coded = vectors.encode(states, np.random.default_rng(0))
    frame = mixed_table(3000).frame
    for block in vectors.blocks:
        name = vectors.encoder.names[block.column]
        if block.number is not None and name in ("income", "age"):
            seen = frame[name].is_not_null().to_numpy()
            rank = stats.spearmanr(frame[name].cast(float).to_numpy()[seen], coded[seen, block.number])
            assert rank.statistic > 0.98


def test_numbers_of_few_states_can_be_blocks() -> None:
    vectors, states = learned()
    few = VectorEncoder.learn(vectors.encoder, states, vectors.columns, one_hot_up_to=10_000)
    assert all(block.number is None for block in few.blocks)
    assert few.width == sum(vectors.encoder.sizes)
    assert (states == few.decode(few.encode(states, np.random.default_rng(0))).T).all()


def test_shares_of_another_table_are_refused() -> None:
    vectors, _ = learned(500)
    flat = vectors.to_tensor()
    again = VectorEncoder.from_tensor(vectors.encoder, vectors.columns, flat)
    assert all((a == b).all() for a, b in zip(again.shares, vectors.shares, strict=True))
    for bad in (flat[:-1], flat * np.nan, -flat, flat[None]):
        with pytest.raises(ValueError, match="shares"):
            VectorEncoder.from_tensor(vectors.encoder, vectors.columns, bad)
