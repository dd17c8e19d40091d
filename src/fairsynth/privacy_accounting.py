"""Differential privacy, counted: what every mechanism costs, and noise that costs no more than it says.

Costs are in zero-concentrated differential privacy (zCDP), which adds up: a mechanism that is rho_1-zCDP after one
that is rho_2-zCDP is together (rho_1 + rho_2)-zCDP, also where the second looks at what the first gave (Bun and
Steinke, TCC 2016, lemma 2.3). A person states (epsilon, delta); `rho_for` turns that into the largest rho which
implies it, by the tight conversion of Canonne, Kamath and Steinke (NeurIPS 2020, proposition 12 and corollary 13).

* Gaussian noise of variance v on an answer of L2 sensitivity d costs d² / (2 v). Noise here is drawn from the
  *discrete* Gaussian, which costs the same (Canonne, Kamath and Steinke, theorem 14) and whose lowest bits tell
  nothing, as those of a rounded real number can (Mironov, CCS 2012).
* The exponential mechanism with weights exp(epsilon q / (2 d)) on a score of sensitivity d is epsilon-bounded-range,
  which costs epsilon² / 8 (Cesar and Rogers, ALT 2021, lemma 3.2).

Noise has to be unknown to whoever reads the result. `chance` without a seed asks the operating system for every bit;
with a seed it is repeatable, for tests, and no guarantee holds: who knows the seed can take the noise off again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fairsynth.errors import SettingsError

#: ``count -> uint64 (count,)``, each of 64 independent fair bits.
Bits = Callable[[int], np.ndarray]

#: Beyond this the exact arithmetic of the sampler would leave 64 bits; noise of 3,000 rows a cell drowns any table.
MAX_VARIANCE = 1e7
#: A variance below this one is a fraction with this denominator, one above it a whole number.
_FINE, _DENOMINATOR = 1000.0, 1024
#: Mechanisms round their costs; a budget is not overdrawn by this share of it.
_ROUNDING = 1e-9


def delta_of(rho: float, epsilon: float) -> float:
    """Return the least delta that the tight conversion gives for rho-zCDP at this epsilon.

    Parameters
    ----------
    rho : float
        From 0 up.
    epsilon : float
        From 0 up.

    Returns
    -------
    float
        inf over a > 1 of exp((a - 1)(a rho - epsilon)) / (a - 1) * (1 - 1/a)^a; between 0 and 1.
    """
    if rho <= 0:
        return 0.0
    # The logarithm is convex in a; its derivative is (2a - 1) rho - epsilon + log(1 - 1/a). x is a - 1.
    low, high = 0.0, max(1.0, (epsilon + 1) / rho + 2)
    while (2 * high + 1) * rho - epsilon + math.log(high / (1 + high)) < 0:
        high *= 2
    for _ in range(200):
        x = (low + high) / 2
        if x in (low, high):
            break
        if (2 * x + 1) * rho - epsilon + math.log(x / (1 + x)) < 0:
            low = x
        else:
            high = x
    x = high
    log_delta = x * ((x + 1) * rho - epsilon) + x * math.log(x) - (x + 1) * math.log1p(x)
    return min(1.0, math.exp(min(log_delta, 0.0)))


def rho_for(epsilon: float, delta: float) -> float:
    """Return the largest rho such that rho-zCDP implies (epsilon, delta)-differential privacy.

    Parameters
    ----------
    epsilon : float
        Above 0.
    delta : float
        Between 0 and 1, both excluded.

    Raises
    ------
    SettingsError
        If either is out of its range.
    """
    _check("epsilon", epsilon, 0.0, math.inf)
    _check("delta", delta, 0.0, 1.0)
    low, high = 0.0, epsilon + 1
    while delta_of(high, epsilon) <= delta and high < 1e12:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if delta_of(middle, epsilon) <= delta:
            low = middle
        else:
            high = middle
    return low


def epsilon_of(rho: float, delta: float) -> float:
    """Return the least epsilon such that rho-zCDP implies (epsilon, delta)-differential privacy; see `delta_of`."""
    _check("delta", delta, 0.0, 1.0)
    if rho <= 0:
        return 0.0
    low, high = 0.0, rho + 2 * math.sqrt(rho * math.log(1 / delta))  # the simple conversion is an upper bound
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if delta_of(rho, middle) <= delta:
            high = middle
        else:
            low = middle
    return high


def gaussian_variance(rho: float, sensitivity: float) -> float:
    """Return a variance of noise that costs at most `rho`; `discrete_gaussian` can draw exactly this one.

    Parameters
    ----------
    rho : float
        What may be spent.
    sensitivity : float
        How far two neighbouring tables' answers lie apart at most, in L2.

    Raises
    ------
    SettingsError
        If it would be more than 10 million: noise of thousands of rows a cell.
    """
    wanted = sensitivity**2 / (2 * rho) if rho > 0 else math.inf
    if not wanted <= MAX_VARIANCE:
        raise SettingsError(
            f"the privacy budget leaves rho={rho:.3g} for one measurement, which needs noise of standard deviation "
            f"{math.sqrt(wanted):.3g} on every count: raise epsilon, or take fewer columns."
        )
    numerator, denominator = _fraction(wanted)
    return numerator / denominator


def gaussian_rho(variance: float, sensitivity: float) -> float:
    """Return what (discrete) Gaussian noise of this variance costs."""
    return sensitivity**2 / (2 * variance)


def exponential_epsilon(rho: float) -> float:
    """Return the epsilon at which the exponential mechanism costs `rho`."""
    return math.sqrt(8 * rho)


def exponential_rho(epsilon: float) -> float:
    """Return what the exponential mechanism costs at this epsilon."""
    return epsilon**2 / 8


@dataclass(frozen=True)
class Spending:
    """What one mechanism cost.

    Attributes
    ----------
    what : str
        What was measured, in words.
    mechanism : str
        ``"discrete Gaussian"`` or ``"exponential"``.
    sensitivity : float
        Of the answer (L2) or the score, between tables in which one person's row differs.
    scale : float
        Variance of the noise, or epsilon of the exponential mechanism.
    rho : float
        Its cost.
    """

    what: str
    mechanism: str
    sensitivity: float
    scale: float
    rho: float


@dataclass
class Ledger:
    """A privacy budget and everything that was paid from it.

    Parameters
    ----------
    epsilon, delta : float
        The guarantee that was asked for.

    Attributes
    ----------
    rho : float
        The same as zCDP.
    entries : list of Spending
        In the order of payment.
    """

    epsilon: float
    delta: float
    entries: list[Spending] = field(default_factory=list)
    rho: float = field(init=False)

    def __post_init__(self) -> None:
        """Work out the budget."""
        self.rho = rho_for(self.epsilon, self.delta)

    @property
    def spent(self) -> float:
        """Sum of all costs."""
        return math.fsum(entry.rho for entry in self.entries)

    def gaussian(
        self, what: str, counts: np.ndarray, *, rho: float, sensitivity: float, bits: Bits
    ) -> tuple[np.ndarray, float]:
        """Return counts with noise, int64 of the same shape, and the variance of the noise.

        Parameters
        ----------
        what : str
            For the record.
        counts : np.ndarray
            Whole numbers.
        rho : float
            What may be spent; what is spent is never more.
        sensitivity : float
            Of all the counts together, in L2.
        bits : callable
            See `chance`.

        Raises
        ------
        SettingsError
            If the budget does not reach.
        """
        variance = gaussian_variance(rho, sensitivity)
        cost = gaussian_rho(variance, sensitivity)
        self._pay(Spending(what, "discrete Gaussian", sensitivity, variance, cost))
        noise = discrete_gaussian(variance, counts.size, bits).reshape(counts.shape)
        return counts.astype(np.int64) + noise, variance

    def choose(self, what: str, scores: np.ndarray, *, rho: float, sensitivity: float, bits: Bits) -> int:
        """Return the place of one of the scores ``(n,)``, chosen by the exponential mechanism.

        Parameters
        ----------
        what : str
            For the record.
        scores : np.ndarray
            Larger is better.
        rho : float
            What is spent.
        sensitivity : float
            How far any one score moves at most between neighbouring tables.
        bits : callable
            See `chance`.

        Raises
        ------
        SettingsError
            If the budget does not reach.
        """
        epsilon = exponential_epsilon(rho)
        self._pay(Spending(what, "exponential", sensitivity, epsilon, exponential_rho(epsilon)))
        weights = np.exp((scores - scores.max()) * epsilon / (2 * sensitivity))
        cumulative = np.cumsum(weights)
        place = np.searchsorted(cumulative, uniform(1, bits)[0] * cumulative[-1], side="right")
        return min(int(place), len(scores) - 1)

    def _pay(self, entry: Spending) -> None:
        if self.spent + entry.rho > self.rho * (1 + _ROUNDING):
            raise SettingsError(
                f"the privacy budget is spent: rho={self.rho:.6g}, paid {self.spent:.6g}, and {entry.what} would cost "
                f"{entry.rho:.6g} more."
            )
        self.entries.append(entry)

    def to_json(self) -> dict[str, Any]:
        """Return the budget and all entries as plain values."""
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "rho": self.rho,
            "spent": self.spent,
            "entries": [vars(entry) for entry in self.entries],
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Ledger:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError, TypeError, KeyError
            If it is something else, or its sums do not add up.
        """
        ledger = cls(float(body["epsilon"]), float(body["delta"]))
        for entry in body["entries"]:
            known = Spending(**entry)
            numbers = (known.sensitivity, known.scale, known.rho)
            if not all(isinstance(number, int | float) and 0 < number < math.inf for number in numbers):
                raise ValueError("a privacy cost is no positive number")
            gaussian = known.mechanism == "discrete Gaussian"
            cost = gaussian_rho(known.scale, known.sensitivity) if gaussian else exponential_rho(known.scale)
            if known.mechanism not in ("discrete Gaussian", "exponential") or not math.isclose(
                cost, known.rho, rel_tol=1e-9
            ):
                raise ValueError("a privacy cost is not that of its mechanism")
            ledger._pay(known)
        return ledger


def chance(seed: Sequence[int] | None) -> Bits:
    """Return a source of bits for noise.

    Parameters
    ----------
    seed : sequence of int, optional
        Repeatable, **without any privacy** against whoever knows or guesses the seed. None: every bit is
        the operating system's (`os.urandom`), and nothing is kept by which it could be had again.
    """
    if seed is None:
        return lambda count: np.frombuffer(os.urandom(8 * count), dtype=np.uint64)
    rng = np.random.default_rng(list(seed))
    return lambda count: rng.integers(0, 2**64, size=count, dtype=np.uint64)


def uniform(count: int, bits: Bits) -> np.ndarray:
    """Return numbers in [0, 1) of 53 bits, float64 ``(count,)``."""
    return (bits(count) >> np.uint64(11)) * 2.0**-53


def discrete_gaussian(variance: float, count: int, bits: Bits) -> np.ndarray:
    """Draw from the discrete Gaussian: P(k) proportional to exp(-k² / (2 variance)) over the whole numbers.

    Exact: every decision compares whole numbers of 64 bits (Canonne, Kamath and Steinke, NeurIPS 2020, algorithms
    1 to 3, here for many draws at once).

    Parameters
    ----------
    variance : float
        Above 0, at most 10 million; rounded up to a fraction of 1024, above 1000 to a whole number.
    count : int
        Draws.
    bits : callable
        See `chance`.

    Returns
    -------
    np.ndarray
        int64 ``(count,)``.
    """
    numerator, denominator = _fraction(variance)
    scale = math.isqrt(numerator // denominator) + 1
    found = np.empty(0, dtype=np.int64)
    parts = [found]
    have = 0
    while have < count:
        draws = _discrete_laplace(scale, max(64, int((count - have) * 1.6)), bits)
        # Accept with exp(-(|k| - v / scale)² / (2 v)), written as a quotient of whole numbers.
        excess = np.abs(draws) * (scale * denominator) - numerator
        kept = draws[_bernoulli_exp(excess**2, 2 * numerator * denominator * scale**2, bits)]
        parts.append(kept)
        have += len(kept)
    return np.concatenate(parts)[:count]


def _fraction(variance: float) -> tuple[int, int]:
    """Return the variance as a fraction, rounded up."""
    denominator = _DENOMINATOR if variance < _FINE else 1
    return max(1, math.ceil(variance * denominator)), denominator


def _discrete_laplace(scale: int, count: int, bits: Bits) -> np.ndarray:
    """Draw whole numbers with P(k) proportional to exp(-|k| / scale), at most `count` of them."""
    low = _below(np.full(count, scale, dtype=np.int64), bits)
    low = low[_bernoulli_exp(low, scale, bits)]
    high = np.zeros(len(low), dtype=np.int64)
    going = np.arange(len(low))
    while len(going):
        going = going[_bernoulli_exp(np.ones(len(going), dtype=np.int64), 1, bits)]
        high[going] += 1
    sizes = low + scale * high
    negative = (bits(len(sizes)) >> np.uint64(63)).astype(bool)
    once = ~(negative & (sizes == 0))  # zero would otherwise come twice as often
    return np.where(negative, -sizes, sizes)[once]


def _bernoulli_exp(numerator: np.ndarray, denominator: int, bits: Bits) -> np.ndarray:
    """Return True with probability exp(-numerator / denominator), bool ``(n,)``."""
    whole, rest = np.divmod(numerator, denominator)
    true = _bernoulli_exp_below_one(rest, denominator, bits)
    going = np.flatnonzero(true & (whole > 0))
    left = whole[going]
    while len(going):
        lives = _bernoulli_exp_below_one(np.ones(len(going), dtype=np.int64), 1, bits)
        true[going[~lives]] = False
        left = left[lives] - 1
        going, left = going[lives][left > 0], left[left > 0]
    return true


def _bernoulli_exp_below_one(numerator: np.ndarray, denominator: int, bits: Bits) -> np.ndarray:
    """Return the same for quotients from 0 to 1: the series of exp(-x), one term after the other."""
    turns = np.ones(len(numerator), dtype=np.int64)
    going = np.arange(len(numerator))
    while len(going):
        on = _below(denominator * turns[going], bits) < numerator[going]
        going = going[on]
        turns[going] += 1
    return turns % 2 == 1


def _below(limits: np.ndarray, bits: Bits) -> np.ndarray:
    """Draw a whole number from 0 to below each limit, without the bias of a remainder, int64 ``(n,)``."""
    limits = limits.astype(np.int64)
    fair = (2**63 - 1) // limits * limits
    drawn = (bits(len(limits)) >> np.uint64(1)).astype(np.int64)
    again = np.flatnonzero(drawn >= fair)
    while len(again):
        drawn[again] = (bits(len(again)) >> np.uint64(1)).astype(np.int64)
        again = again[drawn[again] >= fair[again]]
    return drawn % limits


def _check(name: str, value: object, low: float, high: float) -> None:
    if not isinstance(value, int | float | np.number) or isinstance(value, bool) or not low < value < high:
        allowed = f"above {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise SettingsError(f"{name}={value!r} must be a number {allowed}.")
