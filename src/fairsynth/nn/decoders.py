"""From a condition (latent and groups) to a row of states: two decoders with one face.

`IndependentDecoder` is the published one: given the condition, columns are independent.
`AutoregressiveDecoder` is ours and the default: a column also sees the columns before it, through a running sum of
embeddings as in NADE (Larochelle and Murray, AISTATS 2011), so that it costs about as much as one
hidden layer. It keeps pairs of columns together that a small latent cannot (education and its number).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from fairsynth.nn.layers import perceptron

#: Rows drawn at a time: what an operation leaves fits into a core's cache for the next one.
CHUNK = 2048

#: How large the weights that a state on a curve has for itself start out.
OWN_SHARE = 0.1

#: Column → bool ``(n, size)``: the states that a row may take there.
Allowed = Mapping[int, Tensor]


class _Drawing(nn.Module):
    """Draws rows a cacheful at a time, so that memory does not grow with the number of states."""

    sizes: tuple[int, ...]

    def row_losses(self, condition: Tensor, states: Tensor, allowed: Allowed) -> Tensor:
        raise NotImplementedError

    def negative_log_likelihood(self, condition: Tensor, states: Tensor, allowed: Allowed) -> Tensor:
        """Return the mean of `row_losses`."""
        return self.row_losses(condition, states, allowed).mean()

    def draw(self, condition: Tensor, generator: torch.Generator, allowed: Allowed) -> Tensor:
        """Return one row of states for every condition, int64 ``(columns, n)``."""
        n = len(condition)
        uniform = torch.rand(len(self.sizes), n, generator=generator)
        drawn = torch.empty(len(self.sizes), n, dtype=torch.int64)
        for start in range(0, n, CHUNK):
            part = slice(start, start + CHUNK)
            own = {column: mask[part] for column, mask in allowed.items()}
            self._draw_chunk(condition[part], uniform[:, part], own, drawn[:, part])
        return drawn

    def _draw_chunk(self, condition: Tensor, uniform: Tensor, allowed: Allowed, drawn: Tensor) -> None:
        raise NotImplementedError


class IndependentDecoder(_Drawing):
    """Columns independent given the condition.

    Parameters
    ----------
    sizes : sequence of int
        States of each column.
    n_condition : int
        Width of the condition.
    hidden : sequence of int
        Hidden layers.
    """

    def __init__(self, sizes: Sequence[int], n_condition: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.body = perceptron(n_condition, hidden, sum(sizes))

    def row_losses(self, condition: Tensor, states: Tensor, allowed: Allowed) -> Tensor:
        """Return -log p(states | condition) of every row, in nats, ``(n,)``.

        Parameters
        ----------
        condition : Tensor
            ``(n, n_condition)``.
        states : Tensor
            int64 ``(n, columns)``.
        allowed : mapping
            Restrictions on some columns.
        """
        pieces = self.body(condition).split(self.sizes, dim=1)
        return sum_of(
            nn.functional.cross_entropy(_masked(piece, allowed.get(j)), states[:, j], reduction="none")
            for j, piece in enumerate(pieces)
        )

    def _draw_chunk(self, condition: Tensor, uniform: Tensor, allowed: Allowed, drawn: Tensor) -> None:
        """Fill `drawn` ``(columns, n)``."""
        for j, piece in enumerate(self.body(condition).split(self.sizes, dim=1)):
            drawn[j] = draw_states(_masked(piece.contiguous(), allowed.get(j)), uniform[j])


class AutoregressiveDecoder(_Drawing):
    """Every column given the condition and the columns before it.

    Parameters
    ----------
    sizes : sequence of int
        States of each column, in the order in which they are drawn.
    n_condition : int
        Width of the condition.
    hidden : sequence of int
        Hidden layers between condition and running sum.
    width : int
        Width of the running sum.
    curves : Tensor, optional
        What the states of a number have in common with their neighbours, float32 ``(all states, m)``: the weights
        of a state are its own small ones plus a learned curve over these (`nn.curves`). Only for training;
        `fold` puts the curves into the weights, so that drawing and files know nothing of them.
    """

    offsets: Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        n_condition: int,
        hidden: Sequence[int],
        width: int,
        curves: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self._bounds = list(accumulate(sizes, initial=0))
        self.register_buffer("offsets", torch.tensor(self._bounds[:-1]), persistent=False)
        self.body = perceptron(n_condition, hidden, width)
        self.context = nn.Embedding(sum(sizes), width)
        nn.init.normal_(self.context.weight, std=0.3)
        self.scale = nn.Parameter(torch.ones(len(sizes), width))
        self.shift = nn.Parameter(torch.zeros(len(sizes), width))
        self.out = nn.Linear(width, sum(sizes))
        self._curves = curves
        if curves is not None:
            self.context_curve = nn.Parameter(torch.randn(curves.shape[1], width) * 0.3)
            self.out_curve = nn.Parameter(torch.zeros(curves.shape[1], width))
            with torch.no_grad():
                on_curve = curves.abs().sum(1) > 0
                self.context.weight[on_curve] *= OWN_SHARE
                self.out.weight[on_curve] *= OWN_SHARE

    def fold(self) -> None:
        """Put the curves into the weights of the states, once training is over."""
        if self._curves is None:
            return
        context, out = self._weights()
        with torch.no_grad():
            self.context.weight.copy_(context)
            self.out.weight.copy_(out)
        self._curves = None
        del self.context_curve, self.out_curve

    def _weights(self) -> tuple[Tensor, Tensor]:
        """Return the weights of all states as context and as output, each ``(all states, width)``."""
        if self._curves is None:
            return self.context.weight, self.out.weight
        context = self.context.weight + self._curves @ self.context_curve
        return context, self.out.weight + self._curves @ self.out_curve

    def _logits(self, hidden: Tensor, column: int, out: Tensor) -> Tensor:
        start, stop = self._bounds[column], self._bounds[column + 1]
        return nn.functional.linear(hidden, out[start:stop], self.out.bias[start:stop])

    def row_losses(self, condition: Tensor, states: Tensor, allowed: Allowed) -> Tensor:
        """Return -log p(states | condition) of every row, in nats, ``(n,)``.

        Parameters
        ----------
        condition : Tensor
            ``(n, n_condition)``.
        states : Tensor
            int64 ``(n, columns)``.
        allowed : mapping
            Restrictions on some columns.
        """
        context, out = self._weights()
        seen = nn.functional.embedding(states + self.offsets, context)
        running = torch.cat([self.body(condition)[:, None], seen[:, :-1]], dim=1).cumsum(1)
        hidden = nn.functional.relu(running * self.scale + self.shift)
        return sum_of(
            nn.functional.cross_entropy(
                _masked(self._logits(hidden[:, j], j, out), allowed.get(j)), states[:, j], reduction="none"
            )
            for j in range(len(self.sizes))
        )

    def _draw_chunk(self, condition: Tensor, uniform: Tensor, allowed: Allowed, drawn: Tensor) -> None:
        """Fill `drawn` ``(columns, n)`` column by column."""
        running = self.body(condition)
        context, out = self._weights()
        last = len(self.sizes) - 1
        for j in range(len(self.sizes)):
            hidden = torch.addcmul(self.shift[j], running, self.scale[j]).relu_()
            drawn[j] = draw_states(_masked(self._logits(hidden, j, out), allowed.get(j)), uniform[j])
            if j < last:
                running += nn.functional.embedding(drawn[j] + self._bounds[j], context)


Decoder = IndependentDecoder | AutoregressiveDecoder


def draw_states(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw from the softmax of each row by inverting its cumulative sum.

    Parameters
    ----------
    logits : Tensor
        ``(n, size)``; overwritten.
    uniform : Tensor
        ``(n,)`` in [0, 1).

    Returns
    -------
    Tensor
        int64 ``(n,)``.
    """
    weights = logits.sub_(logits.amax(1, keepdim=True)).exp_()
    cumulative = weights.cumsum_(1)
    threshold = uniform[:, None] * cumulative[:, -1:]
    # The largest uniform may round up to the total; the last state with any weight is meant then.
    drawn = torch.searchsorted(cumulative, threshold, right=True)[:, 0]
    return drawn.clamp_(max=logits.shape[1] - 1)


def _masked(logits: Tensor, allowed: Tensor | None) -> Tensor:
    return logits if allowed is None else logits.masked_fill(~allowed, -1e9)


def sum_of(terms: object) -> Tensor:
    """Add up tensors of one shape, keeping the type."""
    return torch.stack(list(terms)).sum(0)  # type: ignore[call-overload]
