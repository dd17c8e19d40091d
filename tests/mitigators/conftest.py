"""Tables that mitigators are tried on, and settings that make them quick."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from toys import mixed_frame, proxy_frame, small_table

from fairsynth.data.table import Table
from fairsynth.generators import fairvae
from fairsynth.mitigators import adversarial, distillation
from fairsynth.mitigators.base import Mitigator
from fairsynth.mitigators.registry import get_mitigator_class

#: Settings by which a mitigator is made quick, where it has them.
QUICK = {"epochs": 0.5, "max_iter": 4, "n_prototypes": 3, "grid_size": 4, "hidden": (16,), "cell_rows": 16}
ROLES: dict[str, Any] = {"target": "paid", "favorable": "yes", "sensitive": ["sex"]}


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks be trained in a blink, where it does not matter how well."""
    for module in (fairvae, adversarial, distillation):
        monkeypatch.setattr(module, "MIN_STEPS", 20)


@pytest.fixture(scope="session")
def quick() -> Callable[..., Mitigator]:
    """Return the function that makes a mitigator of a name, with quick settings."""

    def make(name: str, **settings: Any) -> Mitigator:
        mitigator = get_mitigator_class(name)()
        own = mitigator.get_params(deep=False)
        chosen = {key: value for key, value in QUICK.items() if key in own} | settings
        if "base" in own and name != "fair-distillation":
            chosen.setdefault("base", "logistic_regression")
        return mitigator.set_params(**chosen)

    return make


@pytest.fixture(scope="session")
def biased() -> tuple[Table, Table]:
    """Return 1,500 train and 1,500 test people whose labels are biased through a proxy of sex."""
    train = Table(proxy_frame(1500, 0), **ROLES)
    return train, train.align(proxy_frame(1500, 1))


def levels_only() -> Table:
    """Return a table without numbers."""
    frame = mixed_frame(300).select("club", "job", "town", "race", "sex", "paid")
    return Table(frame, **ROLES)


def numbers_only() -> Table:
    """Return a table without levels, the sensitive column cut at edges, the target 0 or 1."""
    frame = mixed_frame(300).select(
        "skill", "income", "hours", "age", (pl.col("paid") == "yes").cast(pl.Int64).alias("paid")
    )
    return Table(frame, target="paid", favorable=1, sensitive={"age": [40, 60]})


def three_classes() -> Table:
    """Return a table whose target has three levels, two of them favorable."""
    frame = mixed_frame(400).drop("person")
    rank = frame["skill"] + 0.8 * (frame["club"] == "golf").cast(pl.Float64)
    label = np.array(["low", "middle", "high"])[np.digitize(rank.to_numpy(), [-0.3, 0.8])]
    return Table(
        frame.with_columns(pl.Series("paid", label)),
        target="paid", favorable=["middle", "high"], sensitive=["sex"],
    )  # fmt: skip


def joint_groups() -> Table:
    """Return a table of ten joint groups, some of them rare, with missing values and every kind of column."""
    return Table(
        mixed_frame(400), target="paid", favorable="yes", sensitive=["sex", "race"], identifiers=["person"]
    )


def first_level_favorable() -> Table:
    """Return a table whose favorable level has code 0."""
    table = small_table(favorable="no")
    assert table.target_codes()[table.favorable()].max() == 0
    return table


TABLES: dict[str, Callable[[], Table]] = {
    "levels only": levels_only,
    "numbers only": numbers_only,
    "joint groups": joint_groups,
    "first level favorable": first_level_favorable,
}


@pytest.fixture(params=TABLES)
def shaped(request: pytest.FixtureRequest) -> Table:
    """Return tables of many shapes, one after the other."""
    return TABLES[request.param]()


@pytest.fixture
def classes() -> Table:
    """Return a table whose target has three levels."""
    return three_classes()


@pytest.fixture
def small() -> Table:
    """Return 400 people of few columns, missing values among them."""
    return small_table()


@pytest.fixture
def joint() -> Table:
    """Return a table of ten joint groups."""
    return joint_groups()
