"""Tables of which the bias is known: a structural causal model with dials.

In a real table nobody knows what the fair label would have been. Here everybody's is known, so that the question
"does the method take away exactly the bias that was put in?" has an answer.

The model
---------
A person has a group `s` (the joint levels of the sensitive columns) with an *advantage* ``a(s)`` between -1 and 1, and
a domain `d` with a position ``c(d)``. Each feature has a latent ``z = gap · a(s) + shift · c(d) + u`` with `u` standard
normal; what is seen of it is `z` itself, or a whole number, a level, a truth value or a day made from it
(:mod:`fairsynth.data.biased_columns`). With ``v`` the values that are seen,

- the score is ``b + Σ weight · v + direct · a(s)``,
- the decision is favorable if the score plus a logistic noise is above 0,
- the record says unfavorable of a favorable decision with probability ``label · (1 - a(s)) / 2``.

======================  ===========================================================================================
dial                    the arrow that it makes
======================  ===========================================================================================
``direct``              s → decision: two people of the same features are judged differently
``proxy``               s → proxies → decision: a column that counts for the decision stands for the group
``label``               s → record: the decision was fair, what was written down is not
``merit_gap``           s → merit: a true difference of the groups. Not a bias, and the fair label keeps it
``covariate_shift``     d → merit: domains hold other people, judged by the same rule
``label_shift``         label → d: domains hold other shares of labels, of the same people behind each label
======================  ===========================================================================================

With the first three at zero the label depends on nothing but merit and innocent columns, and is independent of the
group (given merit, if `merit_gap` is not zero).

What is known
-------------
*The fair label* of a person is the one that the same person, the same `u` and the same noise, has where `direct`,
`proxy` and `label` are zero: a counterfactual in the sense of Pearl (Causality, 2nd ed. 2009, section 7.1). The *fair
probability* is its probability given everything about the person but the noise of the label. A predictor that gives it
is counterfactually fair (Kusner et al., NeurIPS 2017, definition 5) if `merit_gap` is zero, and path-specifically so
(Chiappa, AAAI 2019), with the path through merit allowed, if it is not.

*Rates* of labels, fair labels and of the Bayes classifier in every group are integrals, not estimates; see
:mod:`fairsynth.data.biased_law`. The model with its dials is ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from scipy.special import logit

from fairsynth.data.biased_checks import DOMAIN, TARGET, whole
from fairsynth.data.biased_law import sigmoid
from fairsynth.data.biased_model import BIAS_DIALS, BiasedModel, Rates, Shares
from fairsynth.data.table import MIN_ROWS, Table
from fairsynth.errors import DataError
from fairsynth.files import atomic_path
from fairsynth.progress import Progress, Step

__all__ = ["BIAS_DIALS", "CHUNK", "BiasedWorld", "Rates", "Truth", "make_biased"]

#: Rows that are drawn from one stream of random numbers. A row depends on the seed and on its number alone.
CHUNK = 16_384
FAVORABLE, UNFAVORABLE = "yes", "no"
TRUTH_SCHEMA = pa.schema(
    [
        pa.field("fair_label", pa.bool_()),
        pa.field("fair_probability", pa.float64()),
        pa.field("decision", pa.bool_()),
        pa.field("probability", pa.float64()),
        pa.field("changes", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Truth:
    """What is known of the rows of a biased table.

    Attributes
    ----------
    world : BiasedWorld
        The model that drew them, for rates of the population and Bayes probabilities.
    rows : pl.DataFrame
        One row for each row of the table, in its order: ``fair_label`` (bool), ``fair_probability`` (float64),
        ``decision`` (bool: favorable before it was recorded), ``probability`` (float64: of a favorable recorded
        label given all columns), ``changes`` (bool: whether the recorded label would be another one, had the same
        person been of some other group).
    """

    world: BiasedWorld
    rows: pl.DataFrame

    @property
    def rates(self) -> Rates:
        """Exact rates of the population that the rows were drawn from."""
        return self.world.rates

    @property
    def fair_label(self) -> np.ndarray:
        """The fair label of every row, bool ``(n,)``."""
        return self.rows["fair_label"].to_numpy()


@dataclass(frozen=True, kw_only=True)
class BiasedWorld(BiasedModel):
    """A population of which the bias is known; draws any number of rows in constant memory.

    The parameters are those of `make_biased`, without `n`. See the text of the module for the model.

    Examples
    --------
    >>> world = BiasedWorld(direct=1.0, seed=3)
    >>> round(world.rates.gap(), 3)
    0.303
    >>> sum(batch.num_rows for batch in world.iter_batches(100_000))
    100000
    """

    # ---- rows ---------------------------------------------------------------------------------------

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """Types of the batches: text as dictionaries, numbers, truth values, dates."""
        text = pa.dictionary(pa.int8(), pa.string())
        wide = pa.dictionary(pa.int32(), pa.string())
        items = [
            pa.field(name, text if len(levels) < 128 else wide) for name, levels in self.sensitive.items()
        ]
        if len(self.domain_names) > 1:
            items.append(pa.field(DOMAIN, text if len(self.domain_names) < 128 else wide))
        items += [pa.field(column.name, column.arrow_type) for column in self.columns]
        return pa.schema([*items, pa.field(TARGET, text)])

    def chunk(self, index: int, *, truth: bool = False) -> tuple[pa.RecordBatch, pl.DataFrame | None]:
        """Draw the rows ``CHUNK · index`` to ``CHUNK · (index + 1) - 1`` of the endless table of this seed.

        Parameters
        ----------
        index : int
            From 0. Chunks can be drawn in any order, on any machine.
        truth : bool, default=False
            Whether to tell what is known of the rows as well.

        Returns
        -------
        batch : pa.RecordBatch
            Of `arrow_schema`.
        truth : pl.DataFrame or None
            As `Truth.rows`.
        """
        rng = np.random.default_rng([self.seed, index])
        # All that is random about these people is drawn first and in one order whatever the dials say: turning a dial
        # changes the world and not the people in it.
        who, where, noise, flip = rng.random((4, CHUNK))
        latents = rng.standard_normal((len(self.columns), CHUNK))
        luck = logit(np.maximum(noise, np.finfo(np.float64).tiny))
        group = _choose(self.group_shares, who)
        advantage = self.advantages[group]
        domain = _choose(self.domain_shares, where) if len(self.domain_names) > 1 else None
        position = self.positions[domain] if domain is not None and self.covariate_shift else None
        score = self.intercept + self.direct * advantage
        seen = []
        for column, u in zip(self.columns, latents, strict=True):
            if position is not None and column.shift:
                u += column.shift * position
            values = column.see(u + column.gap * advantage if column.gap else u)
            seen.append(values)
            if column.weight:
                score = score + column.weight * column.value(values)
        decision = score + luck > 0
        favorable = decision & (flip >= self.flips[group]) if self.label else decision
        if domain is not None and self.label_shift:
            unfavorable_shares, favorable_shares = self.label_given_domain
            domain = np.where(favorable, _choose(favorable_shares, where), _choose(unfavorable_shares, where))
        batch = self._batch(rng, group, domain, seen, favorable)
        if not truth:
            return batch, None
        people = _People(latents, luck, flip, group, domain)
        return batch, self._truth(people, score, decision, favorable)

    def _batch(
        self,
        rng: np.random.Generator,
        group: np.ndarray,
        domain: np.ndarray | None,
        seen: list[np.ndarray],
        favorable: np.ndarray,
    ) -> pa.RecordBatch:
        schema = self.arrow_schema
        levels = np.array(self.levels)
        arrays = []
        for at, own in enumerate(self.sensitive.values()):
            arrays.append(_text(schema.field(at).type, levels[:, at][group], list(own)))
        if domain is not None:
            arrays.append(_text(schema.field(DOMAIN).type, domain, list(self.domain_names)))
        for column, values in zip(self.columns, seen, strict=True):
            gone = rng.random(CHUNK) < self.missing if self.missing else None
            arrays.append(column.to_arrow(values, gone))
        arrays.append(_text(schema.field(TARGET).type, favorable, [UNFAVORABLE, FAVORABLE]))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _truth(
        self, people: _People, score: np.ndarray, decision: np.ndarray, favorable: np.ndarray
    ) -> pl.DataFrame:
        own = self.advantages[people.group]
        fair_score = self._score(people, own, 0.0, fair=True)
        changes = np.zeros(CHUNK, dtype=bool)
        for advantage, flips in {
            (float(a), float(f)) for a, f in zip(self.advantages, self.flips, strict=True)
        }:
            other = self._score(people, own, advantage, fair=False) + people.luck > 0
            changes |= (other & (people.flip >= flips)) != favorable
        recorded = (1 - self.flips[people.group]) * sigmoid(score)
        return pl.DataFrame(
            {
                "fair_label": fair_score + people.luck > 0,
                "fair_probability": sigmoid(fair_score),
                "decision": decision,
                "probability": self._after_domain(recorded, people.domain),
                "changes": changes,
            }
        )

    def _score(self, people: _People, own: np.ndarray, other: float, *, fair: bool) -> np.ndarray:
        """Return the score had the group's advantage been `other` on the biased paths; without them if `fair`."""
        score = np.full(CHUNK, self.intercept + (0.0 if fair else self.direct * other))
        for column, u in zip(self.columns, people.latents, strict=True):
            if not column.weight:
                continue
            if column.role == "proxy":
                z = u if fair else u + column.gap * other
            else:
                z = u + column.gap * own
            score += column.weight * column.value(column.see(z))
        return score

    def _after_domain(self, probability: np.ndarray, domain: np.ndarray | None) -> np.ndarray:
        if domain is None or not self.label_shift:
            return probability
        unfavorable, favorable = self.label_given_domain[:, domain]
        joint = probability * favorable
        return joint / (joint + (1 - probability) * unfavorable)

    def iter_batches(
        self, n: int, *, batch_rows: int = CHUNK, start: int = 0, truth: bool = False
    ) -> Iterator[Any]:
        """Draw rows batch by batch, in constant memory.

        Row `i` is the same whatever `n`, `start` and `batch_rows` are, so that several machines can draw a part each.

        Parameters
        ----------
        n : int
            Rows in all.
        batch_rows : int, default=16384
            Rows of each batch but the last.
        start : int, default=0
            Number of the first row.
        truth : bool, default=False
            Whether to give pairs of a batch and what is known of its rows, as `Truth.rows`.

        Yields
        ------
        pa.RecordBatch, or tuple of pa.RecordBatch and pl.DataFrame
        """
        whole("n", n, 0)
        whole("batch_rows", batch_rows, 1)
        whole("start", start, 0)
        waiting: list[pa.RecordBatch] = []
        known: list[pl.DataFrame] = []
        held = 0
        for index in range(start // CHUNK, -(-(start + n) // CHUNK)):
            low, high = max(start - index * CHUNK, 0), min(start + n - index * CHUNK, CHUNK)
            batch, rows = self.chunk(index, truth=truth)
            while low < high:
                taken = min(high - low, batch_rows - held)
                waiting.append(batch.slice(low, taken))
                if rows is not None:
                    known.append(rows.slice(low, taken))
                low, held = low + taken, held + taken
                if held == batch_rows or (low == high and index == (start + n - 1) // CHUNK):
                    joined = waiting[0] if len(waiting) == 1 else _joined(waiting, self.arrow_schema)
                    yield (joined, pl.concat(known)) if truth else joined
                    waiting, known, held = [], [], 0

    def to_parquet(
        self,
        path: str | os.PathLike[str],
        n: int,
        *,
        truth: str | os.PathLike[str] | None = None,
        start: int = 0,
        batch_rows: int = 8 * CHUNK,
        progress: Progress | None = None,
    ) -> None:
        """Write rows to a Parquet file as they are drawn; it appears whole or not at all.

        Parameters
        ----------
        path : path
            Of the table.
        n : int
            Rows, at least 1.
        truth : path, optional
            Also write what is known of the rows, as `Truth.rows`, to this Parquet file.
        start : int, default=0
            Number of the first row.
        batch_rows : int, default=131072
            Rows of a row group. Memory grows with this, not with `n`.
        progress : callable, optional
            Hears of every batch.

        Raises
        ------
        OSError
            If a file cannot be written.
        """
        # Imported here: rows in memory need none of it.
        import pyarrow.parquet as pq

        whole("n", n, 1)
        # Dictionaries of continuous numbers cost time and save nothing.
        few = [item.name for item in self.arrow_schema if not pa.types.is_floating(item.type)]
        with ExitStack() as stack:

            def opened(file: str | os.PathLike[str], schema: pa.Schema, names: list[str]) -> Any:
                part = stack.enter_context(atomic_path(file))
                return stack.enter_context(pq.ParquetWriter(part, schema, use_dictionary=names))

            writer = opened(path, self.arrow_schema, few)
            rows_writer = None if truth is None else opened(truth, TRUTH_SCHEMA, [])
            done = 0
            for item in self.iter_batches(n, batch_rows=batch_rows, start=start, truth=truth is not None):
                batch, rows = item if rows_writer is not None else (item, pl.DataFrame())
                writer.write_batch(batch, row_group_size=batch_rows)
                if rows_writer is not None:
                    rows_writer.write_table(rows.to_arrow().cast(TRUTH_SCHEMA), row_group_size=batch_rows)
                done += batch.num_rows
                if progress is not None:
                    progress(Step("draw rows", done, n))

    def draw(self, n: int, *, start: int = 0) -> tuple[Table, Truth]:
        """Draw a table and what is known of it; see `make_biased`."""
        whole("n", n, MIN_ROWS)
        pairs = list(self.iter_batches(n, start=start, truth=True))
        frame = pl.from_arrow(pa.Table.from_batches([batch for batch, _ in pairs], schema=self.arrow_schema))
        table = Table(
            frame,
            target=TARGET,
            favorable=FAVORABLE,
            sensitive=list(self.sensitive),
            domain=DOMAIN if len(self.domain_names) > 1 else None,
        )
        return table, Truth(self, pl.concat([rows for _, rows in pairs]))

    # ---- the best classifiers -----------------------------------------------------------------------

    def probability(self, rows: Table | pl.DataFrame, *, sensitive: bool = True) -> np.ndarray:
        """Return the exact probability of a favorable recorded label given what a row shows.

        Above 1/2 it is the answer of the Bayes classifier: no other classifier of these columns is more accurate.

        Parameters
        ----------
        rows : Table or pl.DataFrame
            Of this world, without missing values in the columns that count.
        sensitive : bool, default=True
            Whether the sensitive columns may be looked at. Without them the group is guessed from the other columns,
            as any model that is "blind" but accurate does.

        Returns
        -------
        np.ndarray
            float64 ``(n,)``.

        Raises
        ------
        DataError
            If a column that counts has missing values, or a level that this world does not have.
        """
        frame = rows.frame if isinstance(rows, Table) else rows
        features = {
            column.name: column.read(frame[column.name])
            for column in self.columns
            if column.weight or column.gap
        }
        used = [column for column in self.columns if column.name in features]
        score = np.full(len(frame), self.intercept)
        for column in used:
            score += column.weight * column.value(features[column.name])
        domain = _codes(frame[DOMAIN], self.domain_names) if len(self.domain_names) > 1 else None
        if sensitive:
            group = np.zeros(len(frame), dtype=np.int64)
            for name, levels in self.sensitive.items():
                group = group * len(levels) + _codes(frame[name], tuple(levels))
            own = (1 - self.flips[group]) * sigmoid(score + self.direct * self.advantages[group])
            return self._after_domain(own, domain)
        position = (
            self.positions[domain] if domain is not None and self.covariate_shift else np.zeros(len(frame))
        )
        log = np.empty((len(self.groups), len(frame)))
        for at, (advantage, share) in enumerate(zip(self.advantages, self.group_shares, strict=True)):
            log[at] = np.log(share) if share > 0 else -np.inf
            for column in used:
                if not column.gap:
                    continue
                # One mean for all rows of a domain, so the law of a column is worked out once for each.
                for place in np.unique(position):
                    here = position == place
                    mean = column.gap * float(advantage) + column.shift * float(place)
                    log[at, here] += column.log_density(features[column.name][here], mean)
        weight = np.exp(log - log.max(axis=0))
        of_group = (1 - self.flips)[:, None] * sigmoid(score + self.direct * self.advantages[:, None])
        return self._after_domain((weight * of_group).sum(axis=0) / weight.sum(axis=0), domain)


@dataclass(frozen=True)
class _People:
    """All that is random about the people of a chunk."""

    latents: np.ndarray
    luck: np.ndarray
    flip: np.ndarray
    group: np.ndarray
    domain: np.ndarray | None


def make_biased(
    n: int = 1000,
    *,
    direct: float = 0.0,
    proxy: float = 0.0,
    label: float = 0.0,
    merit_gap: float = 0.0,
    sensitive: Mapping[str, Shares] | None = None,
    joint: Any = None,
    advantage: Mapping[str, Sequence[float]] | None = None,
    rate: float = 0.5,
    separation: float = 2.0,
    domains: int | Shares = 1,
    covariate_shift: float = 0.0,
    label_shift: float = 0.0,
    n_merit: int = 4,
    n_proxy: int = 2,
    n_noise: int = 2,
    mixed: bool = True,
    missing: float = 0.0,
    seed: int = 0,
) -> tuple[Table, Truth]:
    """Make a table with exactly the bias that is asked for, and tell what would have been fair.

    With the defaults the table is fair. The same seed gives the same people whatever the dials say, so that two tables
    that differ in one dial differ in what that dial does. More rows of the same seed begin with the fewer.

    Parameters
    ----------
    n : int, default=1000
        Rows, at least 20. For more than fit in memory use `BiasedWorld.to_parquet` or `BiasedWorld.iter_batches`.
    direct : float, default=0
        Log odds that an advantage of 1 adds to the decision, and one of -1 takes.
    proxy : float, default=0
        Standard deviations by which an advantage of 1 moves each proxy column.
    label : float, default=0
        Share, 0 to 1, of the favorable decisions that are recorded as unfavorable in a group of advantage -1; none
        in a group of advantage 1, and in proportion between.
    merit_gap : float, default=0
        Standard deviations by which an advantage of 1 moves each merit column: a true difference.
    sensitive : mapping, optional
        Sensitive columns, their levels and the shares of these, independent of each other:
        ``{"sex": {"man": .6, "woman": .4}, "race": {...}}``. By default ``{"group": {"a": .5, "b": .5}}``.
    joint : array-like, optional
        Shares of the joint levels instead, one axis for each sensitive column.
    advantage : mapping, optional
        Sensitive column → advantage of each of its levels, from -1 to 1. By default they fall evenly from 1 for the
        first level to -1 for the last. A group's advantage is the mean of those of its levels.
    rate : float, default=.5
        Share of favorable labels without bias.
    separation : float, default=2
        Standard deviation of the fair score in log odds, before values are made coarse: how much the features say
        of the label. Where there are proxies they make a quarter of its variance.
    domains : int or mapping, default=1
        How many domains, of equal size, or their names and shares. With more than one the table has a column
        ``domain``.
    covariate_shift : float, default=0
        Standard deviations by which the farthest domain moves each merit column.
    label_shift : float, default=0
        From 0 to below 1: how much the shares of labels differ between domains. The farthest domain has a favorable
        rate of ``r + label_shift · r · (1 - r)`` (or with a minus), `r` being the rate of all.
    n_merit, n_proxy, n_noise : int
        How many columns there are of each role; at least one of merit.
    mixed : bool, default=True
        Whether the columns of a role are numbers, whole numbers, categories, truth values and dates in turn, or all
        continuous.
    missing : float, default=0
        Share of missing values in each feature, completely at random.
    seed : int, default=0
        Decides the people.

    Returns
    -------
    table : Table
        With target ``label`` (favorable ``"yes"``), its sensitive columns and its domain.
    truth : Truth
        The fair label and more of every row, and the exact rates of the population.

    Raises
    ------
    SettingsError
        Naming the parameter that cannot be.

    Examples
    --------
    >>> table, truth = make_biased(2_000, direct=1.0)
    >>> bool((truth.fair_label != table.favorable()).any())
    True
    >>> round(truth.rates.gap("fair"), 6)
    0.0
    """
    world = BiasedWorld(
        direct=direct,
        proxy=proxy,
        label=label,
        merit_gap=merit_gap,
        sensitive={"group": {"a": 0.5, "b": 0.5}} if sensitive is None else sensitive,
        joint=joint,
        advantage=advantage,
        rate=rate,
        separation=separation,
        domains=domains,
        covariate_shift=covariate_shift,
        label_shift=label_shift,
        n_merit=n_merit,
        n_proxy=n_proxy,
        n_noise=n_noise,
        mixed=mixed,
        missing=missing,
        seed=seed,
    )
    return world.draw(n)


def _choose(shares: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return positions drawn with these shares by uniform numbers."""
    edges = np.cumsum(shares)[:-1]
    if len(edges) < 8:
        codes = np.zeros(uniform.shape, dtype=np.int64)
        for edge in edges:
            codes += uniform >= edge
        return codes
    return np.searchsorted(edges, uniform, side="right")


def _text(kind: pa.DataType, codes: np.ndarray, levels: list[str]) -> pa.Array:
    index = codes.astype(np.int8 if kind.index_type == pa.int8() else np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(index), pa.array(levels, pa.string()))


def _joined(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    return pa.Table.from_batches(batches, schema=schema).combine_chunks().to_batches()[0]


def _codes(values: pl.Series, levels: tuple[str, ...]) -> np.ndarray:
    text = values.cast(pl.String)
    codes = text.replace_strict(list(levels), list(range(len(levels))), default=None, return_dtype=pl.Int64)
    if codes.null_count():
        wrong = text.filter(codes.is_null())[0]
        raise DataError(
            f"column {values.name!r} holds {wrong!r}; the levels of this world are {', '.join(levels)}."
        )
    return codes.to_numpy()
