"""What FADE must show: an unseen domain, an audit of the sensitive attribute, and the frontier of its two weights."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from benchmarks.common import keep, load

#: The model that stands for all settings of FADE in a list of models.
FADES = "fade"


def shift(name: str, *, seed: int, steps: int | None, models: tuple[str, ...], space: str) -> None:
    """Leave each domain out in turn: train on the others, generate, train plain models, test on the unseen one."""
    train, test = load(name)
    lines: list[dict[str, Any]] = []
    for domain in train.schema[train.schema.domain].group_names():
        for line in one_domain(train, test, domain, seed, steps, models, space):
            lines.append({"unseen": domain, **line})
            print(lines[-1], flush=True)
        # Kept after every domain: the whole takes an hour.
        body = {"dataset": name, "seed": seed, "steps": steps, "space": space}
        keep(
            f"fade-shift-{name}-{space if FADES in models else '-'.join(models)}-{seed}",
            {**body, "mean": means(lines), "lines": lines},
        )


def one_domain(
    train: Any, test: Any, domain: str, seed: int, steps: int | None, models: tuple[str, ...], space: str
) -> list[dict[str, Any]]:
    """Return the scores of every generator on people of one domain that none has seen."""
    import polars as pl

    import fairsynth as fs
    from fairsynth.generators.fade import FADE
    from fairsynth.generators.registry import get_generator_class

    column = train.schema.domain
    unseen, source = test.frame.filter(pl.col(column) == domain), train.frame.filter(pl.col(column) != domain)
    schema = train.schema.revised(sensitive=(train.schema.sensitive[0],))
    table = fs.Table(train.replace(source).native(), schema=schema)
    drawn: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    teacher = None
    for model in models:
        if model == FADES:
            continue
        began = time.perf_counter()
        fitted = get_generator_class(model)(seed=seed).fit(table)
        seconds[model] = round(time.perf_counter() - began, 1)
        drawn[model] = fitted.sample_table(len(table), seed=seed).frame
        if model == "fairvae":
            teacher = fitted
            began = time.perf_counter()
            student = fs.Fair4Free(seed=seed).distill(_saved(fitted))
            seconds["fair4free"] = round(time.perf_counter() - began, 1)
            drawn["fair4free"] = student.sample_table(len(table), seed=seed).frame
    for meta in ("first-order", "none") if FADES in models else ():
        began = time.perf_counter()
        fade = FADE(
            space=space, teacher=teacher if space == "latent" else None, meta=meta, steps=steps, seed=seed,
            label_weight=2.0, sensitive_weight=2.0,
        ).fit(table)  # fmt: skip
        fitting = round(time.perf_counter() - began, 1)
        said = "fade, with meta-learning" if meta != "none" else "fade, without meta-learning"
        for label, away in ((2.0, 2.0), (1.0, 1.0)):
            fade.set_params(label_weight=label, sensitive_weight=away)
            fade.recalibrate(table)
            line = f"{said}, label weight {label:g}, away weight {away:g}"
            drawn[line], seconds[line] = fade.sample_table(len(table), seed=seed).frame, fitting
        fade.set_params(label_weight=1.0)
        unguided(fade, table)
        line = f"{said}, no fairness guidance"
        drawn[line], seconds[line] = fade.sample_table(len(table), seed=seed).frame, fitting

    kept = [c for c in train.schema.names if c != column]
    roles = {
        "target": train.schema.target, "favorable": list(train.schema.favorable), "sensitive": list(schema.sensitive)
    }  # fmt: skip
    base = fs.Table(source.select(kept), **roles)
    tables = {line: fs.Table(rows.select(kept), schema=base.schema) for line, rows in drawn.items()}
    evaluation = fs.evaluate(base, base.align(unseen.select(kept)), tables, seed=seed, depth="quick")
    lines = [{"generator": "real rows of the other domains", **told(evaluation, "real")}]
    for line in tables:
        lines.append(
            {"generator": line, "fit_seconds": seconds[line], **told(evaluation, f"synthetic:{line}")}
        )
    return lines


def told(evaluation: Any, source: str) -> dict[str, float]:
    """Return what models trained on one source do for people of the unseen domain."""
    found = {
        m: evaluation.value(m, source=source, model="mean")
        for m in ("accuracy", "auroc", "balanced_accuracy")
    }
    for score in evaluation.scores_for(source=source, model="mean"):
        if score.metric in ("dpr", "eor", "dpr_large_groups", "eor_large_groups"):
            found[score.metric] = score.value
    return {metric: round(value, 4) for metric, value in found.items() if value is not None}


def unguided(fade: Any, table: Any) -> None:
    """Let a fitted FADE draw labels and groups as they are in the real rows."""
    from fairsynth.fairness import Fairness
    from fairsynth.generators.fairvae import Training
    from fairsynth.generators.layout import Groups

    counts = Training(table, fade.space_.layout.encoder).counts
    fade.set_params(sensitive_weight=0.0, fairness=Fairness(strength=0.0))
    fade.groups_ = Groups(fade.groups_.levels, counts / counts.sum())


def _saved(model: Any) -> Any:
    import tempfile
    from pathlib import Path

    path = Path(tempfile.mkdtemp()) / "teacher.fairsynth"
    model.save(path)
    return path


def means(lines: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean over the domains, by generator."""
    told: dict[str, dict[str, float]] = {}
    for generator in dict.fromkeys(line["generator"] for line in lines):
        own = [line for line in lines if line["generator"] == generator]
        numbers = [key for key in own[0] if key not in ("generator", "unseen")]
        told[generator] = {
            key: round(float(np.mean([line[key] for line in own if key in line])), 4) for key in numbers
        }
    return told


#: Label weight, group weight, away weights, and whether the table P(y, s) is set anew for each.
FRONTIER = (
    (1.0, 1.0, (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0), True),
    (2.0, 1.0, (0.0, 2.0, 8.0), True),
    (1.0, 1.0, (4.0, 8.0, 16.0), False),
    (1.0, 0.0, (0.0, 4.0, 16.0), False),
)


def frontier(name: str, sensitive: list[str], *, seed: int, steps: int | None, rows: int, space: str) -> None:
    """Vary the two weights of one fitted FADE: fairness, utility, fidelity, and three audits of s."""
    from fairsynth.generators.fade import FADE

    train, test = load(name, sensitive)
    began = time.perf_counter()
    fade = FADE(space=space, seed=seed, steps=steps).fit(train)  # type: ignore[arg-type]
    fitted = round(time.perf_counter() - began, 1)
    audit = Audit(train, seed)
    lines = [{"rows": "real", **audit(train, None)}]
    print(lines[-1], flush=True)
    table = fade.groups_
    for label_weight, group_weight, weights, anew in FRONTIER:
        for weight in weights:
            fade.set_params(label_weight=label_weight, group_weight=group_weight, sensitive_weight=weight)
            fade.groups_ = table
            if anew:
                fade.recalibrate(train)
            began = time.perf_counter()
            drawn = fade.sample_table(rows, seed=seed)
            seconds = round(time.perf_counter() - began, 1)
            line = {
                "label_weight": label_weight, "group_weight": group_weight, "sensitive_weight": weight,
                "recalibrated": anew, "seconds": seconds, **scores(train, test, drawn, seed), **audit(drawn, fade),
            }  # fmt: skip
            lines.append(line)
            print(line, flush=True)
    body = {
        "dataset": name,
        "sensitive": sensitive,
        "space": space,
        "seed": seed,
        "steps": steps,
        "rows": rows,
        "fit_seconds": fitted,
        "lines": lines,
    }
    keep(f"fade-frontier-{name}-{'-'.join(sensitive)}-{space}", body)


def scores(train: Any, test: Any, drawn: Any, seed: int) -> dict[str, float]:
    """Return the main numbers of drawn rows on the published test people."""
    import fairsynth as fs

    evaluation = fs.evaluate(train, test, drawn, seed=seed, depth="quick")
    attribute = " × ".join(train.schema.sensitive)
    found = {m: evaluation.value(m, model="mean") for m in ("auroc", "accuracy", "balanced_accuracy")}
    found |= {m: evaluation.value(m, model="mean", attribute=attribute) for m in ("dpr", "eor")}
    found |= {m: evaluation.value(m, model=None) for m in ("coverage", "c2st")}
    return {metric: round(value, 4) for metric, value in found.items() if value is not None}


class Audit:
    """How well s can be read from the other columns: by models that guided nothing, and by the guide itself.

    Parameters
    ----------
    train : Table
        Real rows.
    seed : int
        Of the folds.
    """

    def __init__(self, train: Any, seed: int) -> None:
        from fairsynth.generators.probes import as_numbers

        self.matrix, self.seed = as_numbers, seed
        schema = train.schema
        self.names = [c for c in schema.features if c not in schema.sensitive]
        self.real = self._model().fit(self._features(train), train.groups().codes)

    def _model(self) -> Any:
        from fairsynth._lightgbm import load

        return load().LGBMClassifier(n_estimators=100, n_jobs=1, verbose=-1, random_state=self.seed)

    def _features(self, table: Any) -> Any:
        return self.matrix(table.frame, self.names)

    def __call__(self, drawn: Any, fade: Any) -> dict[str, float]:
        """Return AUCs of s: trained on the drawn rows (in folds), on real rows, and the guide's own."""
        from sklearn.metrics import roc_auc_score
        from sklearn.model_selection import cross_val_predict

        features, groups = self._features(drawn), drawn.groups().codes
        own = cross_val_predict(self._model(), features, groups, cv=5, method="predict_proba")[:, 1]
        found = {"audit_auc": float(roc_auc_score(groups, own))}
        if fade is not None:
            said = self.real.predict_proba(features)[:, 1]
            found["audit_auc_of_a_model_of_real_rows"] = float(roc_auc_score(groups, said))
            if fade.space == "row":
                found["guide_auc"] = float(roc_auc_score(groups, _guide(fade, drawn)))
        return {name: round(value, 4) for name, value in found.items()}


def _guide(fade: Any, drawn: Any) -> np.ndarray:
    """Return the guide's own p(s = 1 | x, y) of drawn rows, at the least noise."""
    import torch

    from fairsynth.nn.diffusion import SHORTEST

    space = fade.space_
    states = space.layout.encoder.encode(drawn)
    x = torch.from_numpy(space.encoder.encode(states, np.random.default_rng(0)))
    guide = fade.classifiers_.average
    labels = torch.from_numpy(states[:, space.layout.target].astype(np.int64))
    known = torch.nn.functional.one_hot(labels, guide.n_labels).float()
    with torch.no_grad():
        logs = torch.cat(
            [
                guide.sensitive(x[part], torch.full((len(part),), SHORTEST), known[part])
                for part in torch.arange(len(x)).split(4096)
            ]
        )
    return logs[:, 1].exp().numpy()


def solvers(
    name: str, sensitive: list[str], *, seed: int, steps: int | None, rows: int, space: str, draws: int = 3
) -> None:
    """Compare the fast solvers with 1,000 steps of Euler-Maruyama on the same fitted model, over several draws."""
    from fairsynth.generators.fade import FADE

    train, test = load(name, sensitive)
    began = time.perf_counter()
    fade = FADE(space=space, seed=seed, steps=steps).fit(train)  # type: ignore[arg-type]
    fitted = round(time.perf_counter() - began, 1)
    began = time.perf_counter()
    fade.sample_table(30_000, seed=seed)
    told = {
        "fit_seconds": fitted,
        "seconds_for_30000_rows": round(time.perf_counter() - began, 1),
        "load_average": round(os.getloadavg()[0], 1),
    }
    print(told, flush=True)
    lines: list[dict[str, Any]] = []
    for solver, solver_steps, calls in (
        ("dpm-solver++", 20, 20), ("dpm-solver++", 40, 40), ("heun", 12, 24), ("euler-maruyama", 1000, 1000),
    ):  # fmt: skip
        fade.set_params(solver=solver, solver_steps=solver_steps)
        seconds, found = [], []
        for draw in range(draws):
            began = time.perf_counter()
            drawn = fade.sample_table(rows, seed=seed + draw)
            seconds.append(time.perf_counter() - began)
            found.append(scores(train, test, drawn, seed))
        line = {
            "solver": solver, "steps": solver_steps, "calls": calls, "seconds": round(float(np.mean(seconds)), 1)
        }  # fmt: skip
        for metric in found[0]:
            values = [score[metric] for score in found]
            line[metric] = round(float(np.mean(values)), 4)
            line[f"{metric}_sd"] = round(float(np.std(values, ddof=1)), 4)
        lines.append(line)
        print(line, flush=True)
    keep(
        f"fade-solvers-{name}-{'-'.join(sensitive)}-{space}",
        {
            "dataset": name,
            "space": space,
            "seed": seed,
            "rows": rows,
            "draws": draws,
            **told,
            "lines": lines,
        },
    )
