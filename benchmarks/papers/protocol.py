"""The papers' own ways of measuring, beside ours: ``python -m benchmarks.papers.protocol PAPER [--seeds N]``.

A table of drawn rows is judged by one plain classifier in three ways:

``people``  trained on the drawn rows, judged on the published test people; the favorable label is the positive one;
            AUROC of probabilities. Ours, with one model in the place of three.
``other``   the same decisions, with the *unfavorable* label as the positive one, and AUROC of decisions (0 or 1) in
            the place of probabilities, as FairX has it.
``drawn``   trained on 70 % of the drawn rows and judged on the other 30 % of them, no real person being asked; labels
            and AUROC as in ``other``. Parity and skill inside of a synthetic table.

Beside the methods stand the real rows, the real rows with the sensitive column shuffled (fair inside, unfair to
people), and the constant predictor.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, load, machine

#: Paper → its tables with the sensitive column, the classifier, and methods with what differs from their defaults.
PAPERS: dict[str, dict[str, Any]] = {
    "fldgm": {
        "tables": [("adult", "sex")],
        "classifier": "random_forest",
        "methods": {
            "fldgm, diffusion": ("fldgm", {}),
            "fairvae": ("fairvae", {}),
            "plain-vae": ("plain-vae", {}),
        },
    },
    "fair4free": {
        "tables": [("compas", "race"), ("adult", "sex")],
        "classifier": "random_forest",
        "methods": {"fair4free": ("fair4free", {}), "latent-distillation": ("latent-distillation", {})},
    },
    "fair_tabddpm": {
        "tables": [("compas", "race")],
        "classifier": "lightgbm",
        "methods": {
            "fair-tabddpm, as published": ("fair-tabddpm", {"balanced": True, "calibrate": False}),
            "fair-tabddpm": ("fair-tabddpm", {}),
            "tabfairgan": ("tabfairgan", {}),
        },
    },
    "tabfairgan": {
        "tables": [("adult", "sex")],
        "classifier": "decision_tree",
        "methods": {"tabfairgan": ("tabfairgan", {}), "fairgan": ("fairgan", {})},
    },
    "decaf": {
        "tables": [("adult", "sex")],
        "classifier": "random_forest",
        "methods": {
            "decaf, nothing cut": ("decaf", {"debias": None}),
            "decaf, FTU": ("decaf", {"debias": "ftu"}),
            "decaf, DP": ("decaf", {"debias": "dp"}),
        },
    },
}
#: Methods that learn from a teacher's latent: it is fitted once for a table and seed.
OF_TEACHER = ("fldgm", "latent-distillation")
#: Share of the drawn rows that ``drawn`` judges on.
HELD_BACK = 0.3


def classifier(name: str, seed: int) -> Any:
    """Return an unfitted classifier with its library's settings."""
    from lightgbm import LGBMClassifier
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    made: dict[str, Callable[[], Any]] = {
        "random_forest": lambda: RandomForestClassifier(random_state=seed, n_jobs=1),
        "decision_tree": lambda: DecisionTreeClassifier(random_state=seed),
        "lightgbm": lambda: LGBMClassifier(random_state=seed, n_jobs=1, verbose=-1),
    }
    return made[name]()


class Matrices:
    """Rows as numbers: levels one-hot, a level of its own for missing; numbers as they are, the median for missing."""

    def __init__(self, train: Any) -> None:
        from sklearn.preprocessing import OneHotEncoder

        schema = train.schema
        self.words = [n for n in schema.features if schema[n].kind in ("categorical", "boolean")]
        self.numbers = [n for n in schema.features if n not in self.words]
        self.medians = {n: train.frame[n].cast(float).median() for n in self.numbers}
        self.hot = OneHotEncoder(handle_unknown="ignore").fit(self._words(train.frame))

    def _words(self, frame: Any) -> Any:
        import polars as pl

        return frame.select(pl.col(n).cast(pl.String).fill_null("(missing)") for n in self.words).to_numpy()

    def __call__(self, frame: Any) -> Any:
        from scipy.sparse import csr_matrix, hstack

        columns = [frame[n].cast(float).fill_null(self.medians[n]).to_numpy() for n in self.numbers]
        numbers = np.stack(columns, axis=1) if columns else np.zeros((len(frame), 0))
        return hstack([self.hot.transform(self._words(frame)), csr_matrix(numbers)]).tocsr()


def scores(
    favorable: np.ndarray, score: np.ndarray, decided: np.ndarray, groups: np.ndarray, *, other: bool
) -> dict[str, float | None]:
    """Return what papers report of decisions about people.

    Parameters
    ----------
    favorable, decided : ndarray of bool, shape (n,)
        What they have, and what was decided.
    score : ndarray of float, shape (n,)
        Probability of the favorable label.
    groups : ndarray of int, shape (n,)
        Their group. All groups count, as in the papers, however small they are.
    other : bool
        Whether the unfavorable label is the positive one, and AUROC that of decisions.
    """
    from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

    from fairsynth.metrics.fairness import demographic_parity_ratio, equalized_odds_ratio

    actual, said = (~favorable, ~decided) if other else (favorable, decided)
    area = roc_auc_score(actual, said.astype(float) if other else score)
    rates = [float(said[groups == g].mean()) for g in np.unique(groups)]
    options: dict[str, Any] = {"zero_division": 0}
    found = {
        "accuracy": (actual == said).mean(),
        "precision": precision_score(actual, said, **options),
        "recall": recall_score(actual, said, **options),
        "f1": f1_score(actual, said, **options),
        "auroc": area,
        "decision_gap": max(rates) - min(rates),
        "dpr": demographic_parity_ratio(said, groups),
        "eor": equalized_odds_ratio(actual, said, groups),
    }
    return {name: None if np.isnan(value) else round(float(value), 4) for name, value in found.items()}


def label_gap(favorable: np.ndarray, groups: np.ndarray) -> float:
    """Return the largest difference of the groups' shares of favorable labels in a table."""
    rates = [favorable[groups == g].mean() for g in np.unique(groups)]
    return round(float(max(rates) - min(rates)), 4)


def judged(rows: Any, test: Any, which: str, seed: int, attribute: str) -> dict[str, Any]:
    """Judge a table of rows in the three ways."""
    matrix = Matrices(rows)
    x, y, groups = matrix(rows.frame), rows.favorable(), rows.groups([attribute]).codes
    found: dict[str, Any] = {"label_gap": label_gap(y, groups)}

    def decide(fit_on: Any, labels: np.ndarray, asked: Any) -> tuple[np.ndarray, np.ndarray]:
        if labels.all() or not labels.any():
            score = np.full(asked.shape[0], float(labels[0]))
        else:
            score = classifier(which, seed).fit(fit_on, labels).predict_proba(asked)[:, 1]
        return score, score > 0.5

    people = matrix(test.frame)
    score, decided = decide(x, y, people)
    told = (test.favorable(), score, decided, test.groups([attribute]).codes)
    found["people"], found["other"] = scores(*told, other=False), scores(*told, other=True)
    found["ftu_gap"] = unawareness_gap(matrix, lambda asked: decide(x, y, asked)[1], test, attribute)
    order = np.random.default_rng(seed).permutation(len(y))
    held, kept = np.split(order, [int(len(y) * HELD_BACK)])
    score, decided = decide(x[kept], y[kept], x[held])
    found["drawn"] = scores(y[held], score, decided, groups[held], other=True)
    return found


def unawareness_gap(
    matrix: Matrices, decide: Callable[[Any], np.ndarray], test: Any, attribute: str
) -> float:
    """Return how far decisions about the same people differ when the sensitive level alone is set (FTU), at most."""
    import polars as pl

    levels = [v for v in test.frame[attribute].unique() if v is not None]
    # One model for all levels: stacked, so that it is fitted once.
    from scipy.sparse import vstack

    column = test.frame[attribute]
    asked = [matrix(test.frame.with_columns(pl.lit(v).cast(column.dtype).alias(attribute))) for v in levels]
    said = decide(vstack(asked).tocsr()).reshape(len(levels), -1).mean(axis=1)
    return round(float(said.max() - said.min()), 4)


def constant(train: Any, test: Any, attribute: str) -> dict[str, Any]:
    """Return what always deciding for the more frequent label gives."""
    often = bool(train.favorable().mean() > 0.5)
    n = len(test)
    told = (test.favorable(), np.full(n, 0.5), np.full(n, often), test.groups([attribute]).codes)
    return {"people": scores(*told, other=False), "other": scores(*told, other=True)}


def shuffled(train: Any, attribute: str, seed: int) -> Any:
    """Return the real rows with the sensitive column in another order: fair inside, and as unfair to people."""
    order = np.random.default_rng([seed, 1]).permutation(len(train))
    return train.replace(train.frame.with_columns(train.frame[attribute][order]))


def graph() -> list[tuple[str, str]]:
    """Return the causal graph of Adult that stands in ``decaf.toml``."""
    import tomllib

    plan = tomllib.loads((Path(__file__).parent / "decaf.toml").read_text())
    return [tuple(edge) for edge in plan["models"][0]["settings"]["graph"]]


def draw(name: str, settings: dict[str, Any], train: Any, seed: int, fitted: dict[str, Any]) -> Any:
    """Fit a method, and draw as many rows as it learned from."""
    from fairsynth.generators.registry import get_generator_class

    if name == "decaf":
        if "decaf" not in fitted:
            fitted["decaf"] = get_generator_class("decaf")(seed=seed, graph=graph()).fit(train)
        model = fitted["decaf"].set_params(**settings)  # cuts need no new fit
    elif name == "fair4free":
        teacher_of(fitted, train, seed)
        with tempfile.TemporaryDirectory() as folder:
            fitted["fairvae"].save(Path(folder) / "teacher.fairsynth")
            model = get_generator_class(name)(**settings).distill(
                Path(folder) / "teacher.fairsynth", seed=seed
            )
    else:
        chosen = dict(settings)
        if name in OF_TEACHER:
            teacher_of(fitted, train, seed)
            chosen["teacher"] = fitted["fairvae"]
        model = get_generator_class(name)(seed=seed, **chosen).fit(train)
    return model.sample_table(len(train), seed=seed)


def teacher_of(fitted: dict[str, Any], train: Any, seed: int) -> None:
    """Fit the autoencoder that several methods learn from, once."""
    from fairsynth.generators.registry import get_generator_class

    if "fairvae" not in fitted:
        fitted["fairvae"] = get_generator_class("fairvae")(seed=seed).fit(train)


def elsewhere(dataset: str, method: str, seed: int, which: str) -> dict[str, Any] | None:
    """Return a line about real rows that was measured for another paper with the same classifier, or None."""
    for path in sorted((RESULTS / "papers").glob("*.json")):
        kept = json.loads(path.read_text())
        for line in kept["lines"] if kept.get("classifier") == which else ():
            if (line["dataset"], line["method"], line["seed"]) == (dataset, method, seed):
                return dict(line)
    return None


def run(paper: str, seeds: int, tables: list[str] | None, methods: list[str] | None) -> None:
    """Measure, and keep every line as soon as it is there."""
    chosen = PAPERS[paper]
    path = RESULTS / "papers" / f"{paper}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"lines": []}

    def keep(**line: Any) -> None:
        place = ("dataset", "method", "seed")
        kept["lines"] = [old for old in kept["lines"] if any(old[k] != line[k] for k in place)] + [line]
        kept["command"] = f"python -m benchmarks.papers.protocol {paper}"
        kept["classifier"], kept["machine"] = chosen["classifier"], machine()
        path.write_text(json.dumps(kept, indent=1) + "\n")
        print(line["dataset"], line["method"], line["seed"], line["people"], flush=True)

    for dataset, attribute in chosen["tables"]:
        if tables and dataset not in tables:
            continue
        train, test = load(dataset, [attribute])
        for seed in range(seeds):
            done = {(o["dataset"], o["method"], o["seed"]) for o in kept["lines"]}
            about = {
                "dataset": dataset,
                "sensitive": attribute,
                "seed": seed,
                "day": time.strftime("%Y-%m-%d"),
            }
            if (dataset, "constant predictor", seed) not in done:
                keep(**about, method="constant predictor", **constant(train, test, attribute))
            for label in ("real rows", "real rows, group shuffled"):
                if (dataset, label, seed) not in done:
                    found = elsewhere(dataset, label, seed, chosen["classifier"])
                    if found is None:
                        rows = train if label == "real rows" else shuffled(train, attribute, seed)
                        found = judged(rows, test, chosen["classifier"], seed, attribute)
                    keep(**{**about, "method": label, **found})
            fitted: dict[str, Any] = {}
            for label, (name, settings) in chosen["methods"].items():
                if (dataset, label, seed) in done or (methods and label not in methods):
                    continue
                began = time.process_time()
                drawn = draw(name, settings, train, seed, fitted)
                took = round(time.process_time() - began, 1)
                found = judged(drawn, test, chosen["classifier"], seed, attribute)
                keep(**about, method=label, cpu_seconds=took, **found)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.papers.protocol", description=__doc__)
    parser.add_argument("paper", choices=sorted(PAPERS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--dataset", action="append")
    parser.add_argument("--method", action="append")
    chosen = parser.parse_args()
    run(chosen.paper, chosen.seeds, chosen.dataset, chosen.method)


if __name__ == "__main__":
    main()
