"""FADE: fair score-based diffusion, steered by two classifiers, meta-trained over domains.

The system is FADM / FADE (arXiv 2406.09495; IJCAI 2025), whose code is not public. **The paper's**: a score model
and two classifiers, of the target and of the sensitive attribute, trained on noised rows and meta-trained over
source domains; two gradients added to the score while sampling, towards the wanted target category and away
from being classifiable by s. **Ours**, since the paper's equations were not at hand:

    score(x_t) = grad log p(x_t)
               + label_weight * grad log p(y* | x_t)
               + group_weight * grad log p(s* | x_t, y*)
               + strength * sensitive_weight * grad R(p(s | x_t, y*))

on the VP-SDE of `nn.diffusion`, where R is the entropy, or minus the KL divergence from the uniform law or from
the shares of the groups. The sensitive classifier knows the label, so that the second and third line together are
exact conditioning on (y*, s*) when both weights are 1. In a teacher's latent the third line is left out: the code is
to say nothing of s, which the decoder is told. The row's own s* is drawn from the table P(y, s), which holds
the criterion and is calibrated on the real training rows as the teacher's is (`calibration`).

Why a table, and not the last line alone: tilting p(x) by a function of x, and of x only, moves people about but
leaves p(y | x) as it is, so a later model with enough rows decides as before. `docs/research/fade.md` measures it.
"""

from __future__ import annotations

import os
import warnings
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
from fairsynth.data.vectors import VectorEncoder
from fairsynth.errors import CapabilityError, DataError, FairsynthWarning, SettingsError
from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.generators.base import (
    Capabilities,
    Generator,
    Request,
    _plain,
    fingerprint,
    load_generator,
)
from fairsynth.generators.fade_guidance import Guidance
from fairsynth.generators.fade_parts import (
    ClassifierLoss,
    Classifiers,
    ScoreLoss,
    Together,
    calibrate,
    domains_of,
)
from fairsynth.generators.fade_space import ONE_HOT_UP_TO, LatentSpace, RowSpace
from fairsynth.generators.fairvae import ROWS_FROM_DATA, FairVAE, Training
from fairsynth.generators.layout import Groups, Layout, group_tensors, read_groups, read_names, refuse_besides
from fairsynth.generators.pool_calibration import label_law
from fairsynth.generators.rejection import Cells, Wanted, draw, prepare
from fairsynth.generators.settings import check_settings
from fairsynth.nn.diffusion import SOLVERS, Averaged, Denoiser, Solver, draw_times, solve
from fairsynth.nn.meta import Order, meta_loss
from fairsynth.nn.threads import threads
from fairsynth.nn.training import Plan, build, restore, steps_for, train
from fairsynth.progress import Progress, Step

if TYPE_CHECKING:
    from fairsynth.bundle import Bundle

FORMS = ("entropy", "kl-uniform", "kl-shares")
#: What the sizes are where none is given: a latent of two dimensions needs less than a row of a hundred.
SIZES: dict[str, dict[str, int]] = {
    "row": {"width": 256, "depth": 3, "classifier_width": 128, "classifier_depth": 2, "batch_size": 512, "steps": 6000},
    "latent": {
        "width": 128, "depth": 2, "classifier_width": 64, "classifier_depth": 2, "batch_size": 1024, "steps": 2500
    },
}  # fmt: skip
#: Settings of a teacher that its networks depend on.
TEACHER = ("preset", "latent_dim", "hidden", "decoder", "decoder_hidden", "decoder_width")
#: Rows that go through the solver together: as large as fits the processor's cache.
CHUNK = 2048
#: Least steps of training, for small tables.
MIN_STEPS = 600
#: Rows drawn in search of a condition before it is given up, if far more would be needed.
MAX_TRIES = 200_000
#: From this share of drawn rows outside of the learned range on, the user is told.
OUTSIDE = 0.01


class FADE(Generator):
    """Fair synthetic tables from a score-based diffusion steered by two classifiers.

    Parameters
    ----------
    fairness : Fairness
        Criterion and strength; the strength scales the sensitive weight and moves P(y, s).
    space : {"latent", "row"}
        Whether the latent of a `FairVAE` trained on the way diffuses, whose decoder makes the rows, or the encoded row
        itself. The first is the more faithful and the faster; only in the second can the away gradient hide the group
        from the columns, since the teacher's decoder knows it.
    teacher : FairVAE, path or None
        A fitted teacher whose latent diffuses; by default one is trained on the same rows.
    label_weight : float
        Weight of the gradient towards the label that the row is to have; 1 is Bayes' rule.
    group_weight : float or None
        Weight of the gradient towards the group that the row is to have; 1 is Bayes' rule. By default 1 in the row, and
        0 in the latent, which the teacher has made independent of the group: there its decoder is told the group.
    sensitive_weight : float
        Weight, at full strength, of the gradient away from rows by which the group can be told.
    sensitive_form : {"entropy", "kl-uniform", "kl-shares"}
        What that gradient ascends: the entropy of p(s | x_t, y*), or minus its divergence from equal shares, or from
        the real ones.
    meta : {"first-order", "second-order", "none"}
        Meta-learning over the domain column, if the schema names one; without one training is plain. Not the default:
        over five unseen boroughs it was not measured to make later models fairer (`docs/research/fade.md`).
    meta_rate, meta_weight : float
        Inner step size, and weight of the held-out domain's loss.
    solver : {"dpm-solver++", "heun", "euler-maruyama"}
        How samples are drawn; see `nn.diffusion.solve`.
    solver_steps : int or None
        Its steps; by default 20, 12 and 1,000.
    calibrate : bool
        Set the shift of each group's labels by what a probe decides on the real rows (`calibration`).
    width, depth : int or None
        Of the score model; by default what `SIZES` says for the space, as for all of the following.
    classifier_width, classifier_depth : int or None
        Of each classifier.
    epochs : float
        Passes over the rows, of at most `steps` steps; small tables get at least 600.
    steps : int or None
        Most optimiser steps of the score model; the classifiers take half.
    batch_size : int or None
        Rows a step; at most an eighth of the table.
    learning_rate, weight_decay : float
        Of AdamW; the decay is that of 1,000 rows and falls with their number.
    averaging : float
        Share of the moving average of the weights that stays in a step.
    device : str
        ``"cpu"``, ``"cuda"``: where networks are trained and samples are drawn.
    seed : int
        Decides everything.

    Attributes
    ----------
    group_names_, rare_groups_, label_law_
        As of `FairVAE`.
    meta_ : str
        What was done about domains, in words.
    calibration_ : list of dict
        For each classifier and stretch of time: rows held out, cross-entropy (nats) and expected calibration error,
        before and after the temperature.

    References
    ----------
    "FADE: Towards Fairness-aware Generation for Domain Generalization via Classifier-Guided Score-based Diffusion
    Models", arXiv 2406.09495, IJCAI 2025.
    """

    fairness: Fairness
    name: ClassVar[str] = "fade"
    fairness_optional: ClassVar[bool] = False
    capabilities: ClassVar[Capabilities] = Capabilities(
        title="score-based diffusion steered by two classifiers; meta-training over domains if asked for",
        paper="FADE, IJCAI 2025",
        criteria=CRITERIA,
    )

    def __init__(
        self,
        *,
        fairness: Fairness = Fairness(),  # noqa: B008  # frozen, so one object may serve all
        space: Literal["row", "latent"] = "latent",
        teacher: FairVAE | str | os.PathLike[str] | None = None,
        label_weight: float = 1.0,
        group_weight: float | None = None,
        sensitive_weight: float = 1.0,
        sensitive_form: Literal["entropy", "kl-uniform", "kl-shares"] = "entropy",
        meta: Order = "none",
        meta_rate: float = 1e-3,
        meta_weight: float = 1.0,
        solver: Solver = "dpm-solver++",
        solver_steps: int | None = None,
        calibrate: bool = True,
        width: int | None = None,
        depth: int | None = None,
        classifier_width: int | None = None,
        classifier_depth: int | None = None,
        epochs: float = 100,
        steps: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 2e-3,
        weight_decay: float = 1.0,
        averaging: float = 0.999,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.fairness = fairness
        self.space = space
        self.teacher = teacher
        self.label_weight = label_weight
        self.group_weight = group_weight
        self.sensitive_weight = sensitive_weight
        self.sensitive_form = sensitive_form
        self.meta = meta
        self.meta_rate = meta_rate
        self.meta_weight = meta_weight
        self.solver = solver
        self.solver_steps = solver_steps
        self.calibrate = calibrate
        self.width = width
        self.depth = depth
        self.classifier_width = classifier_width
        self.classifier_depth = classifier_depth
        self.epochs = epochs
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.averaging = averaging
        self.device = device
        self.seed = seed

    def _check_settings(self) -> None:
        check_settings(
            self,
            choices={
                "space": ("row", "latent"),
                "sensitive_form": FORMS,
                "meta": ("first-order", "second-order", "none"),
                "solver": SOLVERS,
            },
            whole=[name for name in SIZES["row"] if getattr(self, name) is not None],
            from_zero=("label_weight", "sensitive_weight", "meta_weight", "weight_decay", "averaging"),
            above_zero=("epochs", "learning_rate", "meta_rate"),
        )  # fmt: skip
        if self.solver_steps is not None:
            check_settings(self, whole=("solver_steps",))
        if self.group_weight is not None:
            check_settings(self, from_zero=("group_weight",))
        if self.averaging >= 1:
            raise SettingsError(f"averaging={self.averaging!r} must be below 1, or the average never moves.")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise SettingsError(
                f"device={self.device!r} cannot be used here ({error}); device='cpu' always can."
            ) from error

    def _group_weight(self) -> float:
        if self.group_weight is None:
            return 1.0 if self.space == "row" else 0.0
        return float(self.group_weight)

    def _size(self, name: str) -> int:
        given = getattr(self, name)
        return SIZES[self.space][name] if given is None else int(given)

    # ------------------------------------------------------------------------------------------------ learning
    def _fit(self, table: Table, *, progress: Progress | None, checkpoint: Path | None) -> None:
        self._check_settings()
        with threads(1):
            self._learn(table, progress, checkpoint)

    def _learn(self, table: Table, progress: Progress | None, checkpoint: Path | None) -> None:
        data = Training(table, TableEncoder.learn(table))
        kept = (
            Checkpoint(checkpoint, fingerprint(self, table, data.states)) if checkpoint is not None else None
        )
        space: RowSpace | LatentSpace = RowSpace.learn(data)
        if self.space == "latent":
            teacher = self._teacher(table, progress, checkpoint)
            data = Training(table, teacher.net_.layout.encoder)
            space = LatentSpace.learn(teacher, data)
            self.teacher_settings_ = {name: getattr(teacher, name) for name in TEACHER}
        n = len(table)
        domains, self.meta_ = domains_of(table, self.meta)
        order: Order = self.meta if domains is not None else "none"
        codes = torch.zeros(n, dtype=torch.int64) if domains is None else domains
        held = np.random.default_rng([self.seed, 3]).permutation(n)[: min(n // 10, 5000) if n >= 500 else 0]
        learned = torch.from_numpy(np.setdiff1d(np.arange(n), held))
        score = self._score(space, True)
        classifiers = self._classifiers(space, data.layout, len(data.group_levels), True)
        courses = {
            "fit score model": self._course(n, True)[0],
            "fit classifiers": self._course(len(learned), False)[0],
        }
        told = Together(progress, courses)
        # Neither reads what the other learns, and each is one thread's work.
        with ThreadPoolExecutor(2) as pool:
            parts = [
                pool.submit(self._train, score, ScoreLoss, space, data, codes, order, kept, told),
                pool.submit(
                    self._train, classifiers, ClassifierLoss, space, data, codes, order, kept, told, learned
                ),
            ]
            told.wait(parts)
        self.space_ = space
        self.calibration_ = calibrate(
            self.classifiers_.average, space, data, torch.from_numpy(held), self.seed, self.device
        )
        self._name_groups(data)
        self.group_shares_ = data.group_counts / n
        self.groups_ = Groups(data.group_levels, self._label_law(data, progress))
        self.label_law_ = self.groups_.table

    def recalibrate(self, table: Table, *, progress: Progress | None = None) -> FADE:
        """Set the table P(y, s) anew for the weights as they are now; no network changes.

        Weights may be changed after training (``set_params``), but how much a group's labels have to be shifted
        depends on them.

        Parameters
        ----------
        table : Table
            Real rows, of the schema that was learned.
        progress : callable, optional
            See `fit`.

        Returns
        -------
        FADE
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
        data = Training(table, self.space_.layout.encoder)
        if not np.array_equal(data.group_levels, self.groups_.levels):
            raise DataError(
                "recalibrate: the rows hold other groups than those that were learned; fit again on these rows."
            )
        with threads(1):
            self.groups_ = Groups(data.group_levels, self._label_law(data, progress))
        self.label_law_ = self.groups_.table
        return self

    def _teacher(self, table: Table, progress: Progress | None, checkpoint: Path | None) -> FairVAE:
        if self.teacher is None:
            folder = checkpoint / "teacher" if checkpoint is not None else None
            teacher = FairVAE(fairness=self.fairness, seed=self.seed)
            return teacher.fit(table, progress=progress, checkpoint=folder)
        given = self.teacher if isinstance(self.teacher, FairVAE) else load_generator(self.teacher)
        if not isinstance(given, FairVAE):
            raise SettingsError(
                f"teacher: {self.teacher} holds a {given.name}; FADE needs the latent of a fairvae."
            )
        given._fitted()
        if given.schema_ != table.schema:
            raise DataError(
                "teacher: it was fitted to a table of another schema; fit it to these rows, or give none and one is "
                "trained on the way."
            )
        return given

    def _train(
        self,
        averaged: Averaged,
        objective_of: Any,
        space: RowSpace | LatentSpace,
        data: Training,
        domains: Tensor,
        order: Order,
        kept: Checkpoint | None,
        progress: Together,
        rows: Tensor | None = None,
    ) -> None:
        score = objective_of is ScoreLoss
        objective = objective_of(averaged.live).to(self.device)
        averaged.to(self.device)
        n = len(data.labels) if rows is None else len(rows)
        steps, batch = self._course(n, score)

        def loss(places: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            own = places if rows is None else rows[places]
            averaged.update()
            x0 = space.vectors(own, generator)
            t, noise = draw_times(len(own), generator), torch.randn(x0.shape, generator=generator)
            inputs = (x0, t, noise) if score else (x0, t, noise, data.labels[own], data.groups[own])
            value = meta_loss(
                objective,
                tuple(part.to(self.device) for part in inputs),
                domains[own],
                order=order,
                inner_rate=self.meta_rate,
                weight=self.meta_weight,
                generator=generator,
            )
            return value, {"loss": float(value.detach())}

        train(
            averaged,
            loss,
            n_rows=n,
            plan=Plan(
                steps=steps,
                batch_size=batch,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay * 1000 / n,
            ),
            seed=self.seed if score else self.seed + 2**20,
            stage="fit score model" if score else "fit classifiers",
            progress=progress,
            checkpoint=kept,
        )
        progress.finish("fit score model" if score else "fit classifiers")
        averaged.update()
        averaged.eval()
        if score:
            self.score_ = averaged
        else:
            self.classifiers_ = averaged

    def _course(self, n: int, score: bool) -> tuple[int, int]:
        """Return steps and rows a step of the score model or the classifiers, learned from `n` rows."""
        batch = min(self._size("batch_size"), max(64, n // 8))
        steps = min(steps_for(n, batch, self.epochs, MIN_STEPS), self._size("steps"))
        return (steps if score else max(1, steps // 2)), batch

    def _score(self, space: RowSpace | LatentSpace, fresh: bool) -> Averaged:
        def one() -> Denoiser:
            return Denoiser(space.numbers, space.levels, width=self._size("width"), depth=self._size("depth"))

        def both() -> Averaged:
            return Averaged(one(), one(), self.averaging)

        return build(self.seed, both) if fresh else both()

    def _classifiers(
        self, space: RowSpace | LatentSpace, layout: Layout, n_groups: int, fresh: bool
    ) -> Averaged:
        def one() -> Classifiers:
            return Classifiers(
                space.width,
                layout.n_labels,
                n_groups,
                width=self._size("classifier_width"),
                depth=self._size("classifier_depth"),
            )

        def both() -> Averaged:
            return Averaged(one(), one(), self.averaging)

        return build(self.seed + 1, both) if fresh else both()

    def _name_groups(self, data: Training) -> None:
        layout = data.layout
        self.group_names_ = tuple(
            " × ".join(layout.level_names(a)[level] for a, level in enumerate(row))
            for row in data.group_levels.tolist()
        )
        self.rare_groups_ = tuple(
            name for name, count in zip(self.group_names_, data.group_counts, strict=True) if count < 30
        )

    def _label_law(self, data: Training, progress: Progress | None) -> np.ndarray:
        def propose(cells: Cells, rng: np.random.Generator) -> np.ndarray:
            return self._propose(cells, rng, progress=progress)

        return label_law(propose, data, self.fairness, calibrate=self.calibrate, seed=self.seed)

    # ------------------------------------------------------------------------------------------------ drawing
    def _prepare(self, request: Request) -> Wanted:
        return prepare(request, self.space_.layout, self.groups_, "label and group")

    def _draw(self, n: int, request: Wanted, seed: np.random.SeedSequence) -> Any:
        return draw(
            n, self._propose, request, self.space_.layout, self.groups_, "label and group", seed, max_tries=MAX_TRIES
        )  # fmt: skip

    def _propose(
        self, cells: Cells, rng: np.random.Generator, progress: Progress | None = None
    ) -> np.ndarray:
        """Draw states of rows with given labels and groups, chunk by chunk on all cores."""
        assert cells.labels is not None and cells.groups is not None
        labels, groups = torch.from_numpy(cells.labels), torch.from_numpy(cells.groups)
        places = torch.arange(cells.n).split(CHUNK)
        seeds = rng.integers(2**62, size=len(places))

        def one(index: int) -> tuple[np.ndarray, int]:
            generator = torch.Generator().manual_seed(int(seeds[index]))
            own = places[index]
            vectors = self._vectors(labels[own], groups[own], generator)
            outside = self.space_.outside(vectors)
            if not torch.isfinite(vectors).all():
                raise CapabilityError(
                    "the guidance is so strong that samples became infinite; lower sensitive_weight "
                    f"({self.sensitive_weight}), label_weight ({self.label_weight}) or group_weight "
                    f"({self._group_weight()}), or take more solver_steps."
                )
            states = self.space_.states(vectors, labels[own], groups[own], generator)
            return states, int(outside.sum())

        parts, outside = [], 0
        with ThreadPoolExecutor(min(cores(), len(places))) as pool:
            for done, (states, out) in enumerate(pool.map(one, range(len(places))), start=1):
                parts.append(states)
                outside += out
                if progress is not None and len(places) > 1:
                    progress(Step("calibrate", done, len(places), {}))
        if outside > OUTSIDE * cells.n and outside > 5:
            warnings.warn(
                f"{outside:,} of {cells.n:,} rows drawn lie outside of where the learned rows are and were put at the "
                "nearest value: the guidance is too strong for these rows, or the training was too short. Lower "
                f"sensitive_weight ({self.sensitive_weight}) or the strength, or take more solver_steps or steps.",
                FairsynthWarning,
                stacklevel=2,
            )
        return np.concatenate(parts, axis=1)

    def _vectors(self, labels: Tensor, groups: Tensor, generator: torch.Generator) -> Tensor:
        steps = self.solver_steps or {"dpm-solver++": 20, "heun": 12, "euler-maruyama": 1000}[self.solver]
        noise = torch.randn(len(labels), self.space_.width, generator=generator).to(self.device)
        classifiers = self.classifiers_.average
        assert isinstance(classifiers, Classifiers)
        guidance = Guidance(
            label=self.label_weight,
            group=self._group_weight(),
            away=self.sensitive_weight * self.fairness.strength,
            form=self.sensitive_form,
            shares=torch.from_numpy(self.group_shares_).float(),
        )
        denoise = guidance.steer(
            self.score_.average, classifiers, labels.to(self.device), groups.to(self.device)
        )
        with torch.no_grad():
            return solve(denoise, noise, solver=self.solver, steps=steps, generator=generator).cpu()

    # ------------------------------------------------------------------------------------------------ the file
    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, str]]]:
        tensors = {
            f"net.{part}.{name}": p.detach().cpu().numpy()
            for part, module in (("score", self.score_), ("classifiers", self.classifiers_))
            for name, p in module.named_parameters()
        }
        documents = {
            "columns": self.space_.layout.encoder.to_json(),
            "groups": {"names": list(self.group_names_), "rare": list(self.rare_groups_)},
            "classifiers": {"meta": self.meta_, "calibration": self.calibration_},
        }
        if self.space == "latent":
            documents["teacher"] = _plain(self.teacher_settings_)
        held = {"groups.shares": self.group_shares_}
        return (
            documents,
            {**tensors, **self.space_.tensors(), **group_tensors(self.groups_), **held},
            FROM_DATA,
        )

    def _restore(self, content: Bundle) -> None:
        self._check_settings()
        layout = Layout(TableEncoder.from_json(self.schema_, content.document("columns")))
        tensors = dict(content.tensors)
        self.groups_ = read_groups(tensors, layout)
        self.label_law_ = self.groups_.table
        shares = tensors.pop("groups.shares")
        if (
            shares.shape != (len(self.groups_.levels),)
            or not (shares >= 0).all()
            or not np.isfinite(shares).all()
        ):
            raise ValueError("the shares of the groups do not fit their number")
        self.group_shares_ = shares
        self.space_ = self._read_space(layout, tensors, content)
        parts = {}
        for part in ("score", "classifiers"):
            start = f"net.{part}."
            parts[part] = {
                k.removeprefix(start): tensors.pop(k) for k in list(tensors) if k.startswith(start)
            }
        space, n_groups = self.space_, len(self.groups_.levels)
        self.score_ = restore(lambda: self._score(space, False), parts["score"], content.path)
        self.classifiers_ = restore(
            lambda: self._classifiers(space, layout, n_groups, False), parts["classifiers"], content.path
        )
        for module in (self.score_, self.classifiers_):
            module.to(self.device)
        refuse_besides(tensors)
        self.group_names_, self.rare_groups_ = read_names(content.document("groups"), self.groups_)
        told = content.document("classifiers")
        self.meta_, self.calibration_ = str(told["meta"]), list(told["calibration"])

    def _read_space(
        self, layout: Layout, tensors: dict[str, np.ndarray], content: Bundle
    ) -> RowSpace | LatentSpace:
        if self.space == "row":
            vectors = VectorEncoder.from_tensor(
                layout.encoder, layout.features, tensors.pop("space.shares"), ONE_HOT_UP_TO
            )
            return RowSpace(layout, vectors, self.groups_.levels)
        own = {k.removeprefix("teacher."): tensors.pop(k) for k in list(tensors) if k.startswith("teacher.")}
        told = content.document("teacher")
        if set(told) != set(TEACHER):
            raise ValueError("the settings of the teacher are not those of its networks")
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
        }
        teacher = FairVAE(**settings)
        teacher._check_settings()
        self.teacher_settings_ = settings
        net = restore(lambda: teacher._network(layout), own, content.path)
        centre, spread = (
            torch.from_numpy(tensors.pop(f"space.{name}").copy()) for name in ("centre", "spread")
        )
        latent = teacher._setting("latent_dim")
        if centre.shape != (latent,) or spread.shape != (latent,) or not bool((spread > 0).all()):
            raise ValueError("the place of the codes does not fit the teacher's latent")
        return LatentSpace(net, self.groups_, centre, spread)


FROM_DATA = [
    *ROWS_FROM_DATA[:4],
    {"what": "share of the rows in each joint group", "where": "groups.shares"},
    {"what": "share of the rows in each state of each column, half a row added; or where a teacher's codes lie",
     "where": "space.*"},
    {"what": "weights of the score model, as trained and averaged", "where": "net.score.*"},
    {"what": "weights of the two classifiers, as trained and averaged, and their temperatures",
     "where": "net.classifiers.*"},
    {"what": "weights of the teacher, where its latent diffuses", "where": "teacher.*"},
    {"what": "sizes of its networks (settings, nothing of the data)", "where": "documents/teacher.json"},
    {"what": "how well the classifiers are calibrated on rows held out; which domains lack a label or group",
     "where": "documents/classifiers.json"},
]  # fmt: skip
