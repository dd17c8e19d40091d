"""A small world with a biased decision, and what people do to tables of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from fairsynth.data.table import Table
from fairsynth.evaluation.evaluate import evaluate
from fairsynth.evaluation.result import Evaluation, Score

MODELS = ("lightgbm", "logistic_regression")
SECRET_INCOME = 98765.4321
RARE_LEVEL = "lighthouse keeper"


def people(n: int, seed: int, *, secret: bool = False) -> pl.DataFrame:
    """Draw applicants; ``hobby`` gives ``sex`` away in 95 % of them, and women are approved less."""
    rng = np.random.default_rng(seed)
    sex = rng.random(n) < 0.5
    hobby = np.where(rng.random(n) < 0.95, sex, ~sex)
    income = rng.lognormal(3, 0.5, n).round(2)
    age = rng.integers(18, 80, n)
    job = rng.choice(["clerk", "cook", "driver", "nurse"], n, p=[0.4, 0.3, 0.2, 0.1]).astype(object)
    score = 0.09 * (income - 21) + 0.03 * (age - 48) - 2.6 * hobby + 1.3 + (job == "nurse")
    approve = rng.random(n) < 1 / (1 + np.exp(-score))
    gone = rng.random(n) < 0.05
    if secret:
        income[0], gone[0] = SECRET_INCOME, False
        job[:3] = RARE_LEVEL
    return pl.DataFrame(
        {
            "age": age,
            "income": pl.Series(income).zip_with(pl.Series(~gone), pl.Series([None] * n, dtype=pl.Float64)),
            "job": job.astype(str),
            "hobby": np.where(hobby, "knitting", "darts"),
            "sex": np.where(sex, "woman", "man"),
            "approve": np.where(approve, "yes", "no"),
        }
    )


def as_table(frame: pl.DataFrame) -> Table:
    return Table(frame, target="approve", favorable=["yes"], sensitive=["sex"])


@pytest.fixture(scope="session")
def real() -> tuple[Table, Table]:
    """Train and test people; the train rows hold a secret income and a rare job."""
    train = as_table(people(2000, 0, secret=True))
    return train, train.align(people(1500, 1))


@pytest.fixture(scope="session")
def altered(real: tuple[Table, Table]) -> dict[str, Table]:
    """What goes wrong with synthetic tables, one table for each way."""
    train, _ = real
    fresh = train.align(people(2000, 2))
    own = train.frame
    one_row = own[np.full(len(own), 7).tolist()]
    swapped = fresh.frame.with_columns(
        pl.when(pl.col("sex") == "man")
        .then(pl.lit("woman"))
        .otherwise(pl.lit("man"))
        .cast(own["sex"].dtype)
        .alias("sex")
    )
    cents = fresh.frame.with_columns(pl.col("income") * 100)
    constant = fresh.frame.with_columns(pl.lit("no").cast(own["approve"].dtype).alias("approve"))
    shuffled = fresh.frame.with_columns(pl.col("sex").shuffle(seed=3))
    no_women = fresh.frame.filter(pl.col("sex") == "man")
    frames = {
        "no women": no_women,
        "fresh": fresh.frame,
        "copy": own,
        "constant": constant,
        "shuffled": shuffled,
        "repeated": one_row,
        "swapped": swapped,
        "cents": cents,
    }
    return {name: train.replace(frame) for name, frame in frames.items()}


@pytest.fixture(scope="session")
def compared(real: tuple[Table, Table], altered: dict[str, Table]) -> Evaluation:
    """All altered tables in one evaluation."""
    return evaluate(*real, altered, models=MODELS, depth="quick", generator_info={"model": "toy"})


@pytest.fixture(scope="session")
def single(real: tuple[Table, Table], altered: dict[str, Table]) -> Evaluation:
    """One good table, with everything that an evaluation holds."""
    info = {"model": "toy", "criterion": "demographic_parity", "strength": 0.5}
    return evaluate(*real, altered["fresh"], models=MODELS, depth="core", generator_info=info)


@pytest.fixture
def scored() -> Callable[..., Evaluation]:
    """Make an evaluation from ``(metric, source, value)`` and keywords."""
    sections = {
        "dpr": "fairness",
        "eor": "fairness",
        "dpr_at_real_rate": "fairness",
        "selection_rate": "fairness",
        "ftu": "fairness",
        "label_rate": "table_fairness",
        "label_parity_ratio": "table_fairness",
        "leakage_auc": "table_fairness",
        "auroc": "utility",
        "accuracy": "utility",
        "balanced_accuracy": "utility",
    }
    private = {
        "dcr_share",
        "exact_copies",
        "near_copies",
        "membership_inference_auc",
        "singling_out",
        "authenticity",
    }

    def make(*entries: tuple[object, ...], meta: dict[str, object] | None = None) -> Evaluation:
        scores = []
        for metric, source, value, *rest in entries:
            more: dict[str, object] = dict(rest[0]) if rest else {}  # type: ignore[call-overload]
            section = sections.get(str(metric), "privacy" if metric in private else "fidelity")
            if section == "fairness" and "attribute" not in more:
                more["attribute"] = "sex"
            scores.append(Score(section=section, metric=metric, source=source, value=value, **more))
        return Evaluation(scores=scores, meta={"sensitive": ["sex"], **(meta or {})})

    return make
