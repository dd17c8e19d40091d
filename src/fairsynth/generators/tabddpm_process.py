"""The mixed process of TabDDPM: Gaussian noise on numbers, uniform noise on levels, and one network for both.

Sources. Numbers and levels that are noised side by side and denoised by one network: TabDDPM (Kotelnikov et al., ICML
2023, section 3). Levels: multinomial diffusion (Hoogeboom et al., NeurIPS 2021, eq. 11 to 14), in which a level stays
with probability ``k_t = a_t²`` and is otherwise drawn anew from all K levels evenly:

    q(x_t | x_0) = k_t [x_t = x_0] + (1 - k_t) / K
    q(x_to | x_t, x_0) ∝ (j [x_to = x_t] + (1 - j) / K) (k_to [x_to = x_0] + (1 - k_to) / K),   j = k_t / k_to

Ours. The network is not asked for p(x_0 | x_t) but for what the *other* columns say of a level, ``r``; what its own
noised value says is known, ``q(x_t | x_0)``, and is multiplied in. That is no other model: the published reverse step
puts the network's answer in the place of x_0 in the second factor above, and

    sum over x_0 of p(x_0 | x_t) q(x_to | x_t, x_0)  ∝  (j [x_to = x_t] + (1 - j) / K) (k_to r(x_to) + (1 - k_to) / K)

for p(x_0 | x_t) ∝ r(x_0) q(x_t | x_0), to the last digit and for steps of any length. So both losses offered here have
the same minimum, steps may be skipped, and a reverse step is drawn in a time that does not grow with K: x_0 first, then
one of four outcomes. Also ours: numbers by the velocity (`nn.ddpm`) in the place of the noise, of which every linear
guidance says the same, and noise levels spread evenly over a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from fairsynth.nn.ddpm import Diffusion
from fairsynth.nn.diffusion import TimeNetwork

LevelLoss = Literal["cross-entropy", "variational"]
LEVEL_LOSSES: tuple[str, ...] = get_args(LevelLoss)
#: ``(x_t (n, width), t) -> (n, width)``: the velocity of the numbers, and logits of what others say of the levels.
Predict = Callable[[Tensor, int], Tensor]


class MixedProcess:
    """Noise on vectors of numbers and one-hot blocks, and the way back.

    Parameters
    ----------
    numbers : sequence of int
        Dimensions that hold numbers.
    levels : sequence of slice
        One-hot blocks.
    noise_levels : int, default=1000
        T.
    schedule : {"cosine", "linear"}
        See `nn.ddpm.Diffusion`; the same for numbers and levels.

    Attributes
    ----------
    width : int
        Dimensions in all.
    kept : Tensor
        k_t, the chance that a level was never drawn anew, for t = 0 … T, float64 ``(T + 1,)``.
    """

    def __init__(
        self,
        numbers: Sequence[int],
        levels: Sequence[slice],
        noise_levels: int = 1000,
        schedule: Literal["cosine", "linear"] = "cosine",
    ) -> None:
        self.numbers, self.levels = list(numbers), list(levels)
        self.sizes = torch.tensor([block.stop - block.start for block in self.levels], dtype=torch.int64)
        self.starts = torch.tensor([block.start for block in self.levels], dtype=torch.int64)
        self.width = len(self.numbers) + int(self.sizes.sum())
        self.diffusion = Diffusion(noise_levels, schedule)
        self.kept = self.diffusion.signal**2

    def codes(self, x: Tensor) -> Tensor:
        """Return the level of every block, int64 ``(n, blocks)``, of vectors ``(n, width)``."""
        if not self.levels:
            return torch.zeros(len(x), 0, dtype=torch.int64, device=x.device)
        return torch.stack([x[:, block].argmax(1) for block in self.levels], dim=1)

    def vectors(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Return vectors float32 ``(n, width)`` of numbers ``(n, numbers)`` and codes int64 ``(n, blocks)``."""
        x = torch.zeros(len(codes), self.width, device=codes.device)
        x[:, self.numbers] = numbers
        return x.scatter_(1, codes + self.starts.to(codes.device), 1.0)

    def times(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw noise levels 1 … T, int64 ``(n,)``, as evenly as can be over the batch and each alike likely."""
        shifted = (torch.arange(n) + torch.rand(1, generator=generator)) / n
        levels = (shifted * self.diffusion.levels).long().clamp_max(self.diffusion.levels - 1) + 1
        return levels[torch.randperm(n, generator=generator)]

    def noised_codes(self, codes: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        """Return x_t of levels ``(n, blocks)`` at noise levels int64 ``(n,)``."""
        stays = torch.rand(codes.shape, generator=generator) < self.kept[t][:, None]
        return torch.where(stays, codes, self._any_level(len(codes), generator))

    def _any_level(self, n: int, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(n, len(self.sizes), generator=generator, dtype=torch.float64)
        return (uniform * self.sizes).long()

    def evidence(self, codes: Tensor, t: Tensor) -> Tensor:
        """Return ``log q(x_t | x_0 = x_t) - log q(x_t | another x_0)``, float32 ``(n, blocks)``; t ``(n,)`` or one."""
        kept = self.kept[t][:, None]
        return torch.log1p(self.sizes * kept / (1 - kept)).float().expand(len(codes), -1)

    def with_evidence(self, logits: Tensor, codes: Tensor, t: Tensor) -> Tensor:
        """Return unnormalised log p(x_0 | x_t) of what others say ``(n, width)`` and of the own noised level."""
        own = (codes + self.starts.to(codes.device), self.evidence(codes, t).to(logits.device))
        return logits.scatter_add(1, *own)

    def earlier_codes(
        self, now: Tensor, first: Tensor, t: int, to: int, generator: torch.Generator
    ) -> Tensor:
        """Draw from q(x_to | x_t, x_0), ``(n, blocks)``; `now` is x_t and `first` x_0.

        The product of the two factors is a sum of four terms: both levels at once (only where they agree), x_t, x_0, or
        any level; one of them is drawn by its weight.
        """
        size = self.sizes.double()
        stay, keep = float(self.kept[t] / self.kept[to]), float(self.kept[to])
        both = torch.where(now == first, stay * keep, 0.0).double()
        as_now, as_first = stay * (1 - keep) / size, (1 - stay) * keep / size
        anything = (1 - stay) * (1 - keep) / size
        total = both + as_now + as_first + anything
        place = torch.rand(now.shape, generator=generator, dtype=torch.float64) * total
        drawn = torch.where(place < both + as_now, now, first)
        return torch.where(place < both + as_now + as_first, drawn, self._any_level(len(now), generator))

    def variational(self, logits: Tensor, now: Tensor, first: Tensor, t: Tensor) -> Tensor:
        """Return ``T KL(q(x_t-1 | x_t, x_0) || p(x_t-1 | x_t))`` summed over the blocks, ``(n,)``, in nats.

        Its mean over t is the variational bound of the levels, up to a constant (Hoogeboom et al., eq. 14).
        """
        kept, before = self.kept[t].float()[:, None], self.kept[t - 1].float()[:, None]
        stay = kept / before
        total = logits.new_zeros(len(logits))
        for place, block in enumerate(self.levels):
            size = block.stop - block.start
            at_now = nn.functional.one_hot(now[:, place], size).float()
            at_first = nn.functional.one_hot(first[:, place], size).float()
            backwards = torch.log(stay * at_now + (1 - stay) / size)
            real = (backwards + torch.log(before * at_first + (1 - before) / size)).log_softmax(1)
            # log(before r + (1 - before) / size), where at t = 1 the second term is log 0.
            floor = torch.log(((1 - before) / size).clamp_min(1e-30)).expand(-1, size)
            guess = torch.logaddexp(logits[:, block].log_softmax(1) + before.log(), floor)
            model = (backwards + guess).log_softmax(1)
            total = total + (real.exp() * (real.clamp_min(-80.0) - model)).sum(1)
        return self.diffusion.levels * total

    @torch.no_grad()
    def sample(
        self,
        predict: Predict,
        n: int,
        generator: torch.Generator,
        *,
        steps: int,
        eta: float,
        device: str = "cpu",
    ) -> Tensor:
        """Draw vectors, float32 ``(n, width)``, on the CPU.

        Parameters
        ----------
        predict : callable
            See `Predict`; guided or not.
        n : int
            How many.
        generator : torch.Generator
            Where chance comes from; of the CPU, so that a seed means the same on every device.
        steps : int
            Steps, at even distances of t; T of them are the published sampler.
        eta : float
            Noise added to numbers at each step, as a share of ancestral sampling's (Song et al., DDIM, ICLR 2021,
            eq. 16). Levels are always drawn.
        device : str
            Where `predict` wants its input.
        """
        signal, noise = self.diffusion.signal.tolist(), self.diffusion.noise.tolist()
        numbers = torch.randn(n, len(self.numbers), generator=generator)
        codes = self._any_level(n, generator)
        for t, to in pairwise(self.diffusion.stops(steps, even=True)):
            out = predict(self.vectors(numbers, codes).to(device), t).cpu()
            value, rest = self.diffusion.parted(numbers, out[:, self.numbers], t)
            # The Gumbel trick: the largest of logits with such noise is a draw from their softmax.
            gumbel = -torch.empty(out.shape).exponential_(generator=generator).log_()
            first = self.codes(self.with_evidence(out, codes, torch.tensor([t])) + gumbel)
            codes = self.earlier_codes(codes, first, t, to, generator)
            added = eta * noise[to] / noise[t] * math.sqrt(1 - (signal[t] / signal[to]) ** 2)
            numbers = signal[to] * value + math.sqrt(noise[to] ** 2 - added**2) * rest
            if added:
                numbers = numbers + added * torch.randn(numbers.shape, generator=generator)
        return self.vectors(numbers, codes)


class MixedDenoiser(nn.Module):
    """One network of everything that is to be known of a noised row, given conditions of which some are not shown.

    Parameters
    ----------
    process : MixedProcess
        Of the rows.
    conditions : sequence of int
        Levels of each condition: every sensitive attribute, and the label.
    width, depth : int
        Of the network.
    """

    def __init__(self, process: MixedProcess, conditions: Sequence[int], *, width: int, depth: int) -> None:
        super().__init__()
        self.process, self.conditions = process, tuple(conditions)
        self.net = TimeNetwork(
            process.width, process.width, width=width, depth=depth, n_condition=sum(self.conditions)
        )

    @torch.no_grad()
    def start_at(self, shares: Sequence[np.ndarray]) -> None:
        """Let the levels of every block begin at their shares, rather than at chance."""
        last = self.net.last[-1]
        assert isinstance(last, nn.Linear)
        for block, share in zip(self.process.levels, shares, strict=True):
            last.bias[block] = torch.from_numpy(np.log(share)).to(last.bias)

    def shown(self, values: Tensor, shown: Tensor) -> Tensor:
        """Return the network's view of conditions, float32 ``(n, sum of levels)``: zeros where one is not shown.

        Parameters
        ----------
        values : Tensor
            Level of each condition, int64 ``(n, conditions)``.
        shown : Tensor
            bool ``(n, conditions)`` or ``(conditions,)``.
        """
        shown = shown.expand(len(values), -1)
        parts = [
            nn.functional.one_hot(values[:, i], size) * shown[:, i : i + 1]
            for i, size in enumerate(self.conditions)
        ]
        return torch.cat(parts, dim=1).float()

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return velocity and logits ``(n, width)`` of x_t ``(n, width)`` at noise levels ``(n,)``; see `Predict`."""
        return self.net(x, t.to(x.dtype) / self.process.diffusion.levels, condition)

    def losses(
        self,
        x0: Tensor,
        condition: Tensor,
        generator: torch.Generator,
        *,
        level_loss: LevelLoss = "cross-entropy",
    ) -> Tensor:
        """Return the loss of every row ``(n,)``: squared error of the velocity, and nats of every level.

        Parameters
        ----------
        x0 : Tensor
            Rows ``(n, width)``, on the CPU.
        condition : Tensor
            As `shown` gives it, ``(n, sum of levels)``.
        generator : torch.Generator
            Noise and noise levels.
        level_loss : {"cross-entropy", "variational"}
            Of x_0 given x_t, or the published bound; see the module's head.
        """
        process, device = self.process, condition.device
        t = process.times(len(x0), generator)
        number, first = x0[:, process.numbers], process.codes(x0)
        noised, velocity = process.diffusion.noised(number, t, torch.randn(number.shape, generator=generator))
        now = process.noised_codes(first, t, generator)
        out = self(process.vectors(noised, now).to(device), t.to(device), condition)
        total = ((out[:, process.numbers] - velocity.to(device)) ** 2).sum(1)
        if level_loss == "variational":
            return total + process.variational(out.cpu(), now, first, t).to(device)
        logits, first = process.with_evidence(out, now.to(device), t), first.to(device)
        for place, block in enumerate(process.levels):
            total = total + nn.functional.cross_entropy(logits[:, block], first[:, place], reduction="none")
        return total


def guidance_terms(weights: Sequence[float], *, joint: bool) -> list[tuple[float, tuple[bool, ...]]]:
    """Return what is to be asked of a network, and with which factor each answer counts.

    Parameters
    ----------
    weights : sequence of float
        Of each condition.
    joint : bool
        Ours: each condition is added to those before it, ``e() + w_1 (e(1) - e()) + w_2 (e(1, 2) - e(1)) + …``, which
        for weights of 1 is the network given all of them; a last weight alone of w is the tilt
        ``p(x | others) p(last | x, others)^w``. Otherwise the published form,
        ``e() + w_1 (e(1) - e()) + w_2 (e(2) - e()) + …``, which takes the conditions to be independent given the row.

    Returns
    -------
    list of (float, tuple of bool)
        Factors, which sum to 1, and which conditions are shown; none with a factor of 0.
    """
    n = len(weights)
    nothing = (False,) * n
    factors: dict[tuple[bool, ...], float] = {nothing: 1.0}
    for i, weight in enumerate(weights):
        after = tuple(k <= i if joint else k == i for k in range(n))
        before = tuple(k < i for k in range(n)) if joint else nothing
        factors[after] = factors.get(after, 0.0) + weight
        factors[before] = factors.get(before, 0.0) - weight
    return [(factor, shown) for shown, factor in factors.items() if factor]
