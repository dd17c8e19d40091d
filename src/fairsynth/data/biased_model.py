"""What a biased world is made of, and its exact rates; :mod:`fairsynth.data.biased` says the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import logit

from fairsynth.data.biased_checks import check
from fairsynth.data.biased_columns import KINDS, FeatureColumn, Kind, Role
from fairsynth.data.biased_law import ScoreLaw, sigmoid
from fairsynth.data.table import JOINT
from fairsynth.errors import SettingsError

BIAS_DIALS = ("direct", "proxy", "label")
#: Share of the variance of the score that the proxies make, where there are any.
PROXY_SHARE = 0.25

Shares = Mapping[str, float]


@dataclass(frozen=True)
class Rates:
    """Exact rates of a biased world, one of each group.

    Attributes
    ----------
    groups : tuple of str
        Names such as ``"b × old"``.
    shares : np.ndarray
        Of the groups among all rows, float64 ``(groups,)``.
    label, fair : np.ndarray
        Share of favorable labels, as recorded and as they would be without bias.
    bayes, bayes_tpr, bayes_fpr : np.ndarray
        Of the most accurate classifier of the recorded label, which sees all columns (sensitive ones too): share of
        favorable answers, among all, among favorable and among unfavorable labels.
    bayes_accuracy : float
        Of that classifier, over all groups: no classifier has a higher one in the long run.
    fair_bayes : np.ndarray
        Share of favorable answers of the most accurate classifier of the *fair* label.
    """

    groups: tuple[str, ...]
    shares: np.ndarray
    label: np.ndarray
    fair: np.ndarray
    bayes: np.ndarray
    bayes_tpr: np.ndarray
    bayes_fpr: np.ndarray
    bayes_accuracy: float
    fair_bayes: np.ndarray

    def gap(self, what: str = "label") -> float:
        """Return the largest difference of a rate between two groups: the demographic-parity difference."""
        rates = self._of(what)
        return float(rates.max() - rates.min())

    def ratio(self, what: str = "label") -> float:
        """Return the smallest rate over the largest: the demographic-parity ratio; NaN if all are zero."""
        rates = self._of(what)
        return float(rates.min() / rates.max()) if rates.max() > 0 else float("nan")

    def _of(self, what: str) -> np.ndarray:
        known = [item.name for item in fields(self) if isinstance(getattr(self, item.name), np.ndarray)]
        if what not in known or what == "shares":
            raise SettingsError(f"there is no rate {what!r}; choose one of {', '.join(known[1:])}.")
        return getattr(self, what)


@dataclass(frozen=True, kw_only=True)
class BiasedModel:
    """The population behind a biased table, without its rows. The parameters are those of `make_biased`."""

    direct: float = 0.0
    proxy: float = 0.0
    label: float = 0.0
    merit_gap: float = 0.0
    sensitive: Mapping[str, Shares] = field(default_factory=lambda: {"group": {"a": 0.5, "b": 0.5}})
    joint: Any = None
    advantage: Mapping[str, Sequence[float]] | None = None
    rate: float = 0.5
    separation: float = 2.0
    domains: int | Shares = 1
    covariate_shift: float = 0.0
    label_shift: float = 0.0
    n_merit: int = 4
    n_proxy: int = 2
    n_noise: int = 2
    mixed: bool = True
    missing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        check(self)

    # ---- what the world is made of ----------------------------------------------------------------

    @cached_property
    def columns(self) -> tuple[FeatureColumn, ...]:
        """The features, in the order of the table."""
        made = []
        parts: list[tuple[Role, int, float]] = [
            ("merit", self.n_merit, 1.0 - (PROXY_SHARE if self.n_proxy else 0.0)),
            ("proxy", self.n_proxy, PROXY_SHARE),
            ("noise", self.n_noise, 0.0),
        ]
        for role, count, share in parts:
            weight = self.separation * float(np.sqrt(share / count)) if count else 0.0
            gap = {"merit": self.merit_gap, "proxy": self.proxy, "noise": 0.0}[role]
            shift = self.covariate_shift if role == "merit" else 0.0
            for at in range(count):
                kind: Kind = KINDS[role][at % len(KINDS[role])] if self.mixed else "continuous"
                made.append(FeatureColumn(f"{role}_{at + 1}", role, kind, weight, gap, shift))
        return tuple(made)

    @cached_property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """Positions of every group's levels in the sensitive columns."""
        return tuple(product(*(range(len(levels)) for levels in self.sensitive.values())))

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, the joint levels of the sensitive columns, in the order of `levels`."""
        names = [list(levels) for levels in self.sensitive.values()]
        return tuple(
            JOINT.join(own[level] for own, level in zip(names, row, strict=True)) for row in self.levels
        )

    @cached_property
    def group_shares(self) -> np.ndarray:
        """Shares of the groups, float64 ``(groups,)``."""
        if self.joint is not None:
            return np.asarray(self.joint, dtype=np.float64).ravel()
        shares = [list(levels.values()) for levels in self.sensitive.values()]
        return np.array(
            [np.prod([own[level] for own, level in zip(shares, row, strict=True)]) for row in self.levels]
        )

    @cached_property
    def advantages(self) -> np.ndarray:
        """Advantage of every group, float64 ``(groups,)`` in [-1, 1]: the mean of those of its levels.

        Unless given, those of a column's levels fall evenly from 1 for the first to -1 for the last.
        """
        given = self.advantage or {}
        own = [
            np.asarray(given.get(name, np.linspace(1.0, -1.0, len(levels))), dtype=np.float64)
            for name, levels in self.sensitive.items()
        ]
        return np.array(
            [np.mean([each[level] for each, level in zip(own, row, strict=True)]) for row in self.levels]
        )

    @cached_property
    def flips(self) -> np.ndarray:
        """Share of each group's favorable decisions that are recorded as unfavorable, float64 ``(groups,)``."""
        return self.label * (1 - self.advantages) / 2

    @cached_property
    def domain_names(self) -> tuple[str, ...]:
        """Names of the domains; one of them means that the table has no such column."""
        if isinstance(self.domains, int):
            return tuple(f"d{at + 1}" for at in range(self.domains))
        return tuple(self.domains)

    @cached_property
    def domain_shares(self) -> np.ndarray:
        """Shares of the domains, float64 ``(domains,)``."""
        if isinstance(self.domains, int):
            return np.full(self.domains, 1 / self.domains)
        return np.array(list(self.domains.values()), dtype=np.float64)

    @cached_property
    def positions(self) -> np.ndarray:
        """Position of every domain, float64 ``(domains,)``: evenly spaced, of mean 0, the farthest at ±1."""
        if len(self.domain_names) == 1:
            return np.zeros(1)
        centred = np.linspace(-1.0, 1.0, len(self.domain_names))
        centred = centred - self.domain_shares @ centred
        return centred / np.abs(centred).max()

    @cached_property
    def intercept(self) -> float:
        """What makes `rate` of the fair labels favorable."""
        parts = []
        for advantage, of_group in self._fair_cases():
            for share, position in self._covariate_domains():
                x, weights = self._law(advantage, position, 0.0, fair=True).nodes()
                parts.append((x, of_group * share * weights))

        def excess(intercept: float) -> float:
            return sum(float(weights @ sigmoid(x + intercept)) for x, weights in parts) - self.rate

        return float(brentq(excess, -60.0, 60.0, xtol=1e-12))

    @cached_property
    def label_given_domain(self) -> np.ndarray:
        """Share of each domain among unfavorable and favorable labels, float64 ``(2, domains)``.

        The shares of the domains among all rows are as asked for, whatever the shift.
        """
        overall = float(self.group_shares @ self._label_rates) if self.label_shift else 0.0
        tilt = self.label_shift * self.positions
        return self.domain_shares * np.stack([1 - tilt * overall, 1 + tilt * (1 - overall)])

    # ---- exact rates --------------------------------------------------------------------------------

    def _law(self, advantage: float, position: float, offset: float, *, fair: bool) -> ScoreLaw:
        used = [column for column in self.columns if column.weight]
        means = [
            (0.0 if fair and column.role == "proxy" else column.gap * advantage) + column.shift * position
            for column in used
        ]
        return ScoreLaw(used, means, offset + (0.0 if fair else self.direct * advantage))

    def _covariate_domains(self) -> list[tuple[float, float]]:
        """Return share and position of the domains, as far as they shift the features."""
        if not self.covariate_shift:
            return [(1.0, 0.0)]
        return list(zip(self.domain_shares.tolist(), self.positions.tolist(), strict=True))

    def _fair_cases(self) -> list[tuple[float, float]]:
        """Return the advantages that the fair label depends on, each with the share of all rows that has it."""
        if not self.merit_gap:
            return [(0.0, 1.0)]
        return list(zip(self.advantages.tolist(), self.group_shares.tolist(), strict=True))

    def _fair_rates(self) -> np.ndarray:
        rates = [
            sum(
                share * self._law(advantage, position, self.intercept, fair=True).expectation(sigmoid)
                for share, position in self._covariate_domains()
            )
            for advantage, _ in self._fair_cases()
        ]
        return np.broadcast_to(np.array(rates), len(self.groups)).copy()

    @cached_property
    def _label_rates(self) -> np.ndarray:
        rates = np.zeros(len(self.groups))
        for share, position in self._covariate_domains():
            for at, advantage in enumerate(self.advantages):
                law = self._law(float(advantage), position, self.intercept, fair=False)
                rates[at] += share * (1 - self.flips[at]) * law.expectation(sigmoid)
        return rates

    @cached_property
    def rates(self) -> Rates:
        """Exact rates in every group."""
        n = len(self.groups)
        chosen, hits, fair_chosen = np.zeros(n), np.zeros(n), np.zeros(n)
        given_label = self.label_given_domain
        for share, position in self._covariate_domains():
            for at, advantage in enumerate(self.advantages):
                law = self._law(float(advantage), position, self.intercept, fair=False)
                kept = 1 - self.flips[at]
                # Only where a label shift makes the domain speak for the label is each domain a case of its own.
                cases = given_label.T if self.label_shift else np.ones((1, 2))
                for unfavorable, favorable in cases:
                    threshold = self._threshold(unfavorable, favorable, kept)
                    hit = float(kept) * law.expectation(sigmoid, above=threshold)
                    every = law.expectation(np.ones_like, above=threshold)
                    chosen[at] += share * (favorable * hit + unfavorable * (every - hit))
                    hits[at] += share * favorable * hit
                fair_law = self._law(float(advantage), position, self.intercept, fair=True)
                fair_chosen[at] += share * fair_law.expectation(np.ones_like, above=0.0)
        label = self._label_rates
        right = hits + (1 - label) - (chosen - hits)
        return Rates(
            groups=self.groups,
            shares=self.group_shares,
            label=label,
            fair=self._fair_rates(),
            bayes=chosen,
            bayes_tpr=hits / label,
            bayes_fpr=(chosen - hits) / (1 - label),
            bayes_accuracy=float(self.group_shares @ right),
            fair_bayes=fair_chosen,
        )

    @staticmethod
    def _threshold(unfavorable: float, favorable: float, kept: float) -> float:
        """Return the score above which a favorable record is more probable than not."""
        wanted = unfavorable / (favorable + unfavorable) / kept if kept > 0 else np.inf
        return float(logit(wanted)) if wanted < 1 else np.inf

    def gap_by_dial(self) -> dict[str, float]:
        """Return the demographic-parity gap of the labels that each dial makes where it is the only one turned.

        Returns
        -------
        dict of str to float
            ``direct``, ``proxy``, ``label`` and ``merit_gap``. They do not add up: the logistic function is not
            linear, and what one dial has taken away another cannot.
        """
        dials = (*BIAS_DIALS, "merit_gap")
        gaps = {}
        for name in dials:
            others: dict[str, Any] = {other: 0.0 for other in dials if other != name}
            gaps[name] = replace(self, **others)._label_gap()
        return gaps

    def _label_gap(self) -> float:
        return float(self._label_rates.max() - self._label_rates.min())
