"""FairTabDDPM: mixed-type diffusion of rows, guided by label and group, with groups drawn evenly.

**The paper's** (Fair-TabDDPM, TMLR 2025, on TabDDPM, ICML 2023): Gaussian diffusion of numbers and multinomial
diffusion of levels in one network (`tabddpm_process`); classifier-free guidance, for which the label and each sensitive
attribute are conditions that are left out at random in training,

    e = e() + label_weight (e(y) - e()) + sum over attributes of group_weight (e(s) - e());

the sensitive attributes drawn evenly and independently of the label, which is demographic parity; samples drawn with
the moving average of the weights. Its code was not read.

**Ours**: a table P(y, s) that holds the criterion at any strength and is calibrated on the real training rows
(`calibration`), of which independence is the start; the real shares of the groups unless even ones are asked for
(``balanced``, or ``sample(sensitive="uniform")``); fewer steps; conditions that build on each other, as an option
(``guidance="joint"``); label and group of *every* row given and never diffused. So there is one copy of s: nothing in
the diffused vector is the group, and of a numeric sensitive column only the place within its band is diffused.

At ``fairness=Fairness(strength=0)`` label and group come from the real table, the network is given both together, and
this is a plain tabular diffusion: the honest baseline beside `PlainVAE`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fairsynth.checkpoints import Checkpoint
from fairsynth.cores import cores
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.table import Table
from fairsynth.errors import CapabilityError, DataError, SettingsError
from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.generators.base import Capabilities, Generator, fingerprint
from fairsynth.generators.calibration import calibrated_shifts
from fairsynth.generators.fairvae import ROWS_FROM_DATA, Training
from fairsynth.generators.gan_rows import max_tries, named_groups
from fairsynth.generators.group_law import fair_table, with_group_shares
from fairsynth.generators.layout import Groups, Layout, group_tensors, read_groups, read_names, refuse_besides
from fairsynth.generators.rejection import Cells, Wanted, allotted, draw, prepare
from fairsynth.generators.requests import Request
from fairsynth.generators.settings import check_settings
from fairsynth.generators.tabddpm_process import (
    LEVEL_LOSSES,
    LevelLoss,
    MixedDenoiser,
    MixedProcess,
    guidance_terms,
)
from fairsynth.generators.tabddpm_rows import CellRows
from fairsynth.nn.diffusion import Averaged
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Plan, build, restore, steps_for, train
from fairsynth.progress import Progress, Step

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle

#: Numbers of at most so many states are one-hot in the row, and so diffuse as levels do.
ONE_HOT_UP_TO = 24
#: Rows that are drawn together: as large as fits the processor's cache.
CHUNK = 2048
#: Rows drawn once, of every label and group, from which the calibration takes its tables.
POOL_ROWS = 12_000
#: Least steps of training, for small tables.
MIN_STEPS = 600


class FairTabDDPM(Generator):
    """Fair synthetic tables from mixed-type diffusion with guidance by label and group.

    Parameters
    ----------
    fairness : Fairness
        Criterion and strength, which move P(y, s); at strength 0 this is a plain tabular diffusion.
    guidance : {"separate", "joint"}
        How several conditions are put together: each by itself, as published, or each beside those before it, the
        sensitive attributes first and the label last; see `tabddpm_process.guidance_terms`. With weights of 1 the
        second asks the network once a step and not once for every condition and once without, so it draws faster; it is
        also what strength 0 takes.
    label_weight : float
        Weight of the guidance towards the label; 1 is plain conditioning.
    group_weight : float or mapping
        Weight of the guidance towards the group, for every sensitive attribute, or by its name; attributes that are
        not named have 1.
    condition_dropout : float
        Share of the training rows in which a condition is not shown, for each condition by itself; 0 only if all
        weights are 1 and the guidance is joint, for then the network is never asked without conditions.
    balanced : bool
        Draw the groups evenly, as published, and not in their real shares; the strength moves from one to the other.
    calibrate : bool
        Set the shift of each group's labels by what a probe decides on the real rows (`calibration`). Otherwise
        parity is independence of label and group in the drawn table, as published. The criteria on errors are always
        calibrated.
    noise_levels : int
        T, of training.
    schedule : {"cosine", "linear"}
        How the noise grows; see `nn.ddpm.Diffusion`.
    solver_steps : int
        Steps of sampling, at most T; T is the published sampler.
    eta : float
        Noise added to numbers in a step of sampling: 1 is ancestral sampling, as published, which with few steps draws
        numbers that lie too close together; 0 follows the flow. Levels are always drawn.
    level_loss : {"cross-entropy", "variational"}
        Loss of the levels; the second is published. Both have the same minimum; see `tabddpm_process`.
    width, depth : int
        Of the network.
    epochs : float
        Passes over the rows, of at most `steps` steps; small tables get at least 600.
    steps : int
        Most optimiser steps.
    batch_size : int
        Rows a step; at most an eighth of the table.
    learning_rate, weight_decay : float
        Of AdamW; the decay is that of 1,000 rows and falls with their number.
    averaging : float
        Share of the moving average of the weights that stays in a step; samples are drawn with the average alone.
    max_intervals : int
        Intervals of a number; see `data.encoding`.
    device : str
        ``"cpu"``, ``"cuda"``: where the network is trained and samples are drawn.
    seed : int
        Decides everything.

    Attributes
    ----------
    group_names_ : tuple of str
        Joint groups that were seen.
    rare_groups_ : tuple of str
        Those of fewer than 30 rows.
    label_law_ : np.ndarray
        P(y, s) that rows are drawn from ``(labels, groups)``.

    References
    ----------
    "Fair-TabDDPM", TMLR 2025. Kotelnikov et al., "TabDDPM: Modelling Tabular Data with Diffusion Models", ICML 2023.
    Hoogeboom et al., "Argmax Flows and Multinomial Diffusion", NeurIPS 2021.
    Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022.
    """

    fairness: Fairness
    name: ClassVar[str] = "fair-tabddpm"
    fairness_optional: ClassVar[bool] = False
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="mixed-type diffusion guided by label and group; at strength 0 a plain tabular diffusion",
        paper="Fair-TabDDPM, TMLR 2025",
        criteria=CRITERIA,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        guidance: Literal["separate", "joint"] = "separate",
        label_weight: float = 1.0,
        group_weight: float | Mapping[str, float] = 1.0,
        condition_dropout: float = 0.5,
        balanced: bool = False,
        calibrate: bool = True,
        noise_levels: int = 1000,
        schedule: Literal["cosine", "linear"] = "cosine",
        solver_steps: int = 25,
        eta: float = 0.0,
        level_loss: LevelLoss = "cross-entropy",
        width: int = 256,
        depth: int = 2,
        epochs: float = 150,
        steps: int = 6000,
        batch_size: int = 512,
        learning_rate: float = 2e-3,
        weight_decay: float = 1.0,
        averaging: float = 0.999,
        max_intervals: int = 64,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.guidance = guidance
        self.label_weight = label_weight
        self.group_weight = group_weight
        self.condition_dropout = condition_dropout
        self.balanced = balanced
        self.calibrate = calibrate
        self.noise_levels = noise_levels
        self.schedule = schedule
        self.solver_steps = solver_steps
        self.eta = eta
        self.level_loss = level_loss
        self.width = width
        self.depth = depth
        self.epochs = epochs
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.averaging = averaging
        self.max_intervals = max_intervals
        self.device = device
        self.seed = seed

    def _check_settings(self) -> None:
        check_settings(
            self,
            choices={
                "guidance": ("separate", "joint"),
                "schedule": ("cosine", "linear"),
                "level_loss": LEVEL_LOSSES,
            },
            whole=("noise_levels", "solver_steps", "width", "depth", "steps", "batch_size", "max_intervals"),
            from_zero=("label_weight", "condition_dropout", "eta", "weight_decay", "averaging"),
            above_zero=("epochs", "learning_rate"),
        )
        if not isinstance(self.group_weight, Mapping):
            check_settings(self, from_zero=("group_weight",))
        for name, most in (("condition_dropout", 1.0), ("averaging", 1.0)):
            if getattr(self, name) >= most:
                raise SettingsError(f"{name}={getattr(self, name)!r} must be below 1.")
        if self.eta > 1:
            raise SettingsError(f"eta={self.eta!r} must lie between 0 and 1.")
        if self.noise_levels < 10:
            raise SettingsError(f"noise_levels={self.noise_levels!r} must be 10 or more.")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise SettingsError(
                f"device={self.device!r} cannot be used here ({error}); device='cpu' always can."
            ) from error

    def _weights(self, sensitive: tuple[str, ...]) -> list[float]:
        """Return the weight of every condition: each sensitive attribute, then the label."""
        given = self.group_weight
        if not isinstance(given, Mapping):
            return [*(float(given) for _ in sensitive), float(self.label_weight)]
        for name, weight in given.items():
            if name not in sensitive:
                raise SettingsError(
                    f"group_weight: {name!r} is no sensitive column; those are {', '.join(sensitive)}."
                )
            if not isinstance(weight, int | float) or not 0 <= weight < np.inf:
                raise SettingsError(f"group_weight: {name!r} has {weight!r}; it must be a number from 0 up.")
        return [*(float(given.get(name, 1.0)) for name in sensitive), float(self.label_weight)]

    def _terms(self, sensitive: tuple[str, ...]) -> list[tuple[float, tuple[bool, ...]]]:
        """Return what the network is asked at each step; see `guidance_terms`."""
        # Without fairness there is nothing to steer: rows of a label and a group are to be as the real ones are.
        joint = self.guidance == "joint" or self.fairness.strength == 0
        return guidance_terms(self._weights(sensitive), joint=joint)

    # ------------------------------------------------------------------------------------------------ learning
    def _fit(self, table: Table, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        terms = self._terms(table.schema.sensitive)
        if self.condition_dropout == 0 and not all(all(shown) for _, shown in terms):
            raise SettingsError(
                "condition_dropout=0: with these weights the network is asked without conditions, which it would never "
                "have seen; give a number above 0, such as 0.1."
            )
        with threads(1):
            self._learn(table, progress, checkpoint)

    def _learn(self, table: Table, progress: Progress | None, checkpoint: Path | None) -> None:
        data = Training(table, TableEncoder.learn(table, max_intervals=self.max_intervals))
        kept = (
            Checkpoint(checkpoint, fingerprint(self, table, data.states)) if checkpoint is not None else None
        )
        rows = CellRows.learn(data.layout, data.states, ONE_HOT_UP_TO)
        self.rows_, self.net_ = rows, self._train(data, rows, kept, progress)
        self.group_names_, self.rare_groups_ = named_groups(data.layout, data.group_levels, data.group_counts)
        # The calibration draws rows of given cells, whose groups it has to know.
        self.groups_ = Groups(data.group_levels, data.counts / data.counts.sum())
        self.groups_ = Groups(data.group_levels, self._label_law(data, progress))
        self.label_law_ = self.groups_.table

    def _process(self, rows: CellRows) -> MixedProcess:
        return MixedProcess(
            [block.number for block in rows.blocks if block.number is not None],
            [block.levels for block in rows.blocks if block.levels.stop > block.levels.start],
            self.noise_levels,
            self.schedule,
        )

    def _network(self, process: MixedProcess, layout: Layout) -> MixedDenoiser:
        return MixedDenoiser(process, (*layout.levels, layout.n_labels), width=self.width, depth=self.depth)

    def _train(
        self, data: Training, rows: CellRows, kept: Checkpoint | None, progress: Progress | None
    ) -> MixedDenoiser:
        process = self._process(rows)

        def fresh() -> Averaged:
            live = self._network(process, data.layout)
            live.start_at(rows.level_shares())
            return Averaged(live, self._network(process, data.layout), self.averaging)

        averaged: Averaged = build(self.seed, fresh).to(self.device)
        live = averaged.live
        assert isinstance(live, MixedDenoiser)
        n, levels = len(data.labels), data.levels.numpy()
        conditions = torch.cat([data.levels, data.labels[:, None]], dim=1)

        def loss(places: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            averaged.update()
            rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
            own = places.numpy()
            x0 = torch.from_numpy(rows.encode(data.states[own], levels[own], rng))
            shown = torch.rand(len(own), conditions.shape[1], generator=generator) >= self.condition_dropout
            condition = live.shown(conditions[places], shown).to(self.device)
            value = live.losses(x0, condition, generator, level_loss=self.level_loss).mean()
            return value, {"loss": float(value.detach())}

        batch = min(self.batch_size, max(64, n // 8))
        plan = Plan(
            steps=min(steps_for(n, batch, self.epochs, MIN_STEPS), self.steps),
            batch_size=batch,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay * 1000 / n,
        )
        train(
            averaged, loss, n_rows=n, plan=plan, seed=self.seed, stage="fit denoiser", progress=progress,
            checkpoint=kept,
        )  # fmt: skip
        averaged.update()
        net = averaged.average
        assert isinstance(net, MixedDenoiser)
        return net.eval()

    def recalibrate(self, table: Table, *, progress: Progress | None = None) -> FairTabDDPM:
        """Set the table P(y, s) anew for the weights and steps as they are now; the network stays as it is.

        Weights of the guidance may be changed after training (``set_params``), but how much a group's labels have to be
        shifted depends on them.

        Parameters
        ----------
        table : Table
            Real rows, of the schema that was learned.
        progress : callable, optional
            See `fit`.

        Returns
        -------
        FairTabDDPM
            Itself.

        Raises
        ------
        DataError
            If the rows are of another schema, or hold other groups.
        """
        self._fitted()
        self._check_settings()
        if table.schema != self.schema_:
            raise DataError("recalibrate: the rows are of another schema than those that were learned.")
        data = Training(table, self.rows_.layout.encoder)
        if not np.array_equal(data.group_levels, self.groups_.levels):
            raise DataError(
                "recalibrate: the rows hold other groups than those that were learned; fit again on these rows."
            )
        with threads(1):
            self.groups_ = Groups(data.group_levels, self._label_law(data, progress))
        self.label_law_ = self.groups_.table
        return self

    def _label_law(self, data: Training, progress: Progress | None) -> np.ndarray:
        """Return P(y, s) to draw from, calibrated if that is asked for and can be."""
        favorable, fairness = data.layout.favorable, self.fairness
        on_errors = fairness.criterion != "demographic_parity"
        if on_errors and not favorable.any():
            raise CapabilityError(f"{fairness.criterion} needs favorable values of a categorical target.")
        shifts = np.zeros(len(data.group_levels))
        if fairness.strength > 0 and favorable.any() and (self.calibrate or on_errors):
            shifts = self._shifts(data, favorable, progress)
        return self._table(data, fairness, favorable, shifts)

    def _table(
        self, data: Training, fairness: Fairness, favorable: np.ndarray, shifts: np.ndarray
    ) -> np.ndarray:
        table = fair_table(data.counts, fairness, favorable=favorable, shifts=shifts)
        if not self.balanced:
            return table
        shares = data.group_counts / data.group_counts.sum()
        return with_group_shares(
            table, (1 - fairness.strength) * shares + fairness.strength / len(data.group_levels)
        )

    def _shifts(self, data: Training, favorable: np.ndarray, progress: Progress | None) -> np.ndarray:
        """Return the shifts at full strength, found on one pool of rows of every cell.

        Rows of a cell do not depend on how often the cell is drawn, so that every round of the calibration can take
        its table from the same pool.
        """
        full = Fairness(self.fairness.criterion, 1.0)
        n = min(len(data.table), POOL_ROWS)
        real = data.counts / data.counts.sum()
        first = self._table(data, full, favorable, np.zeros(real.shape[1]))
        # Enough of every cell, whatever table the calibration comes to: real and fair shares, and some of each.
        cells = np.ceil(n * np.maximum(real, first)).astype(np.int64) + 20 * (data.counts.sum(1) > 0)[:, None]
        labels, groups = (
            np.repeat(index.ravel(), cells.ravel()) for index in np.indices(cells.shape, dtype=np.int64)
        )
        lines = self._propose(
            Cells(len(labels), labels, groups), np.random.default_rng([self.seed, 5]), progress
        )
        lines[data.layout.target] = labels
        for a, place in enumerate(data.layout.sensitive):
            if place not in data.layout.bands:
                lines[place] = data.group_levels[groups, a]
        starts = np.concatenate([[0], np.cumsum(cells.ravel())])

        def draw_pool(shifts: np.ndarray, turn: int) -> Table:
            rng = np.random.default_rng([self.seed, 7, turn])
            chosen = allotted(n, self._table(data, full, favorable, shifts).ravel(), rng)
            place = starts[chosen] + (rng.random(n) * np.diff(starts)[chosen]).astype(np.int64)
            drawn = data.layout.encoder.decode(np.ascontiguousarray(lines[:, place]), rng)
            return data.table.replace(drawn)

        return calibrated_shifts(
            draw_pool, data.table, data.groups.numpy(), len(data.group_levels), full, seed=self.seed
        )

    # ------------------------------------------------------------------------------------------------ drawing
    def _prepare(self, request: Request) -> Wanted:
        return prepare(request, self.rows_.layout, self.groups_, "label and group")

    def _draw(self, n: int, request: Wanted, seed: np.random.SeedSequence) -> Any:
        return draw(
            n, self._propose, request, self.rows_.layout, self.groups_, "label and group", seed, max_tries=max_tries()
        )  # fmt: skip

    def _propose(
        self, cells: Cells, rng: np.random.Generator, progress: Progress | None = None
    ) -> np.ndarray:
        """Draw states of rows with given labels and groups, chunk by chunk on all cores."""
        assert cells.labels is not None and cells.groups is not None
        levels = self.groups_.levels[cells.groups]
        conditions = torch.from_numpy(np.column_stack([levels, cells.labels]))
        chunks = [slice(at, at + CHUNK) for at in range(0, cells.n, CHUNK)]
        seeds = rng.integers(2**62, size=len(chunks))

        def one(index: int) -> np.ndarray:
            own = conditions[chunks[index]]
            generator = torch.Generator().manual_seed(int(seeds[index]))
            vectors = self.net_.process.sample(
                self._guided(own),
                len(own),
                generator,
                steps=self.solver_steps,
                eta=self.eta,
                device=self.device,
            )
            if not torch.isfinite(vectors).all():
                raise CapabilityError(
                    f"the guidance is so strong that samples became infinite; lower label_weight ({self.label_weight}) "
                    f"or group_weight ({self.group_weight})."
                )
            return self.rows_.decode(vectors.numpy(), levels[chunks[index]])

        parts = []
        with ThreadPoolExecutor(min(cores(), len(chunks))) as pool:
            for done, states in enumerate(pool.map(one, range(len(chunks))), start=1):
                parts.append(states)
                if progress is not None and len(chunks) > 1:
                    progress(Step("calibrate", done, len(chunks), {}))
        return np.concatenate(parts, axis=1)

    def _guided(self, conditions: Tensor) -> Callable[[Tensor, int], Tensor]:
        """Return the network with guidance towards conditions int64 ``(n, attributes + 1)``, the label last."""
        net = self.net_
        asked = [
            (factor, net.shown(conditions, torch.tensor(shown)).to(self.device))
            for factor, shown in self._terms(self.rows_.layout.encoder.schema.sensitive)
        ]

        def predict(x: Tensor, t: int) -> Tensor:
            at = torch.full((1,), t, device=x.device)
            total = torch.zeros_like(x)
            for factor, condition in asked:
                total = total.add_(net(x, at, condition), alpha=factor)
            return total

        return predict

    # ------------------------------------------------------------------------------------------------ the file
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        tensors = {f"net.{name}": p.detach().cpu().numpy() for name, p in self.net_.named_parameters()}
        documents = {
            "columns": self.rows_.layout.encoder.to_json(),
            "groups": {"names": list(self.group_names_), "rare": list(self.rare_groups_)},
        }
        own = {"rows.shares": self.rows_.to_tensor()}
        return documents, {**tensors, **own, **group_tensors(self.groups_)}, FROM_DATA

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        layout = Layout(TableEncoder.from_json(self.schema_, content.document("columns")))
        self._weights(self.schema_.sensitive)
        tensors = dict(content.tensors)
        self.groups_ = read_groups(tensors, layout)
        self.label_law_ = self.groups_.table
        rows = CellRows.from_tensor(layout, tensors.pop("rows.shares"), ONE_HOT_UP_TO)
        rows.check(self.groups_.levels)
        own = {name[4:]: tensors.pop(name) for name in list(tensors) if name.startswith("net.")}
        refuse_besides(tensors)
        process = self._process(rows)
        self.net_ = restore(lambda: self._network(process, layout), own, content.path).to(self.device)
        self.rows_ = rows
        self.group_names_, self.rare_groups_ = read_names(content.document("groups"), self.groups_)


FROM_DATA = [
    *ROWS_FROM_DATA[:4],
    {"what": "share of the rows in each state of each column, half a row added", "where": "rows.shares"},
    {"what": "weights of the denoiser, averaged over training", "where": "net.*"},
]
